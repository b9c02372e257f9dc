/* A convolutional autoencoder without a prior: what vector quantizers are put into and measured with. */
#include "model/net_kind.h"

#define MAX_HALVINGS 5

typedef struct ae {
    pith_conv_layer down[MAX_HALVINGS], body_in, to_latent;
    pith_conv_layer from_latent, body_out, up[MAX_HALVINGS];
    size_t n_halvings, channels, latent;
} ae;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of an image"},
    {"widths", PITH_NET_LIST, "[32, 64]", 1, 4096, NULL, "channels after each halving of height and width, one to five"},
    {"body", PITH_NET_COUNT, "128", 1, 4096, NULL, "channels at the smallest size"},
    {"latent", PITH_NET_COUNT, "32", 1, 4096, NULL, "values of a place of the latent"},
    {0}};

static void build(pith_net *net, void *self)
{
    ae *m = self;
    const size_t *widths;
    m->n_halvings = pith_net_list(net, "widths", &widths);
    m->channels = pith_net_count(net, "channels");
    m->latent = pith_net_count(net, "latent");
    size_t body = pith_net_count(net, "body"), n = m->n_halvings;
    if (n < 1 || n > MAX_HALVINGS) {
        pith_net_fail(net, PITH_E_ARGUMENT, "an autoencoder has 1 to %d widths, not %zu", MAX_HALVINGS, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        pith_conv_build(net, &m->down[i], pith_net_name(net, "encoder.down%zu", i),
                        &(pith_conv_shape){.n_in = i ? widths[i - 1] : m->channels, .n_out = widths[i], .kernel = 3, .stride = 2, .padding = 1, .bias = true}, PITH_LAYER_HE);
    pith_conv_build(net, &m->body_in, "encoder.body", &(pith_conv_shape){.n_in = widths[n - 1], .n_out = body, .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_HE);
    pith_conv_build(net, &m->to_latent, "encoder.latent", &(pith_conv_shape){.n_in = body, .n_out = m->latent, .kernel = 1, .bias = true}, PITH_LAYER_TORCH);
    pith_conv_build(net, &m->from_latent, "decoder.latent", &(pith_conv_shape){.n_in = m->latent, .n_out = body, .kernel = 1, .bias = true}, PITH_LAYER_HE);
    pith_conv_build(net, &m->body_out, "decoder.body", &(pith_conv_shape){.n_in = body, .n_out = widths[n - 1], .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_HE);
    for (size_t i = n; i-- > 0;)
        pith_conv_build(net, &m->up[i], pith_net_name(net, "decoder.up%zu", i),
                        &(pith_conv_shape){.n_in = widths[i], .n_out = i ? widths[i - 1] : m->channels, .kernel = 4, .stride = 2, .padding = 1, .bias = true, .transposed = true},
                        PITH_LAYER_TORCH);
}

static pith_var *encode(pith_net *net, const ae *m, pith_var *x)
{
    size_t unit = (size_t)1 << m->n_halvings;
    if (!x || x->n_dims != 4 || x->dims[1] != m->channels || x->dims[2] % unit || x->dims[3] % unit)
        return pith_net_refuse(net, "images [n, channels, height, width] with height and width a multiple of 2 for each halving");
    for (size_t i = 0; i < m->n_halvings; i++) x = pith_var_relu(pith_conv_run(&m->down[i], x));
    return pith_conv_run(&m->to_latent, pith_var_relu(pith_conv_run(&m->body_in, x)));
}

static pith_var *decode(pith_net *net, const ae *m, pith_var *z)
{
    if (!z || z->n_dims != 4 || z->dims[1] != m->latent) return pith_net_refuse(net, "latents [n, latent, height, width]");
    pith_var *x = pith_var_relu(pith_conv_run(&m->from_latent, z));
    x = pith_var_relu(pith_conv_run(&m->body_out, x));
    for (size_t i = m->n_halvings; i-- > 0;) {
        x = pith_conv_run(&m->up[i], x);
        if (i) x = pith_var_relu(x);
    }
    return x;
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const ae *m = self;
    if (in->part == PITH_NET_ENCODE) return encode(net, m, in->x);
    return decode(net, m, in->part == PITH_NET_DECODE ? in->x : encode(net, m, in->x));
}

static const pith_net_preset presets[] = {{0}};

const pith_net_kind pith_net_kind_ae = {
    .info = {"ae", "convolutional autoencoder; encode: x [n, channels, h, w] -> [n, latent, h / 2^k, w / 2^k], decode: back",
             "layers of our own choice; begins as arXiv:1502.01852 and PyTorch's layers", settings, presets},
    .size = sizeof(ae), .build = build, .forward = forward};
