/* Discriminator of patches (Isola, Zhu, Zhou, Efros, arXiv:1611.07004): 4x4 convolutions, of stride 2 but for the last
 * two, with leaky relu; each value of the result judges the patch that it sees. */
#include "model/net_kind.h"

typedef struct patchgan {
    size_t n;                     /* convolutions before the last */
    pith_conv_layer *conv, last;
    pith_norm_layer *norm;        /* none for the first */
    bool batch;
} patchgan;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of an image"},
    {"widths", PITH_NET_LIST, "[64, 128, 256]", 1, 1 << 14, NULL, "channels of each convolution but the last, which gives one"},
    {"norm", PITH_NET_CHOICE, "\"batch\"", 0, 0, "batch|group", "after each convolution but the first and the last"},
    {0}};

static void build(pith_net *net, void *self)
{
    patchgan *m = self;
    const size_t *widths;
    size_t n_in = pith_net_count(net, "channels");
    m->n = pith_net_list(net, "widths", &widths);
    m->batch = pith_net_is(net, "norm", "batch");
    m->conv = pith_net_take(net, m->n, sizeof *m->conv);
    m->norm = pith_net_take(net, m->n, sizeof *m->norm);
    if (!m->conv || !m->norm) return;
    for (size_t i = 0; i < m->n; i++) {
        size_t stride = i + 1 < m->n ? 2 : 1;
        pith_conv_build(net, &m->conv[i], pith_net_name(net, "conv.%zu", i), &(pith_conv_shape){.n_in = n_in, .n_out = widths[i], .kernel = 4, .padding = 1, .stride = stride, .bias = i == 0}, PITH_LAYER_SMALL);
        const char *name = pith_net_name(net, "norm.%zu", i);
        if (i && m->batch) pith_norm_build(net, &m->norm[i], name, PITH_NORM_BATCH, widths[i], 1e-5f);
        if (i && !m->batch) pith_group_norm_build(net, &m->norm[i], name, pith_group_count(widths[i]), widths[i], 1e-5f);
        n_in = widths[i];
    }
    pith_conv_build(net, &m->last, "last", &(pith_conv_shape){.n_in = n_in, .n_out = 1, .kernel = 4, .padding = 1, .bias = true}, PITH_LAYER_SMALL);
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    (void)net;
    const patchgan *m = self;
    pith_var *x = in->x;
    for (size_t i = 0; i < m->n; i++) {
        x = pith_conv_run(&m->conv[i], x);
        x = pith_var_leaky_relu(i ? pith_norm_run(&m->norm[i], x) : x, 0.2f);
    }
    return pith_conv_run(&m->last, x);
}

static const pith_net_preset presets[] = {
    {"patchgan32", "{\"widths\": [32, 64, 128], \"norm\": \"group\"}", "for 32x32 images: 6x6 patches"},
    {0}};

const pith_net_kind pith_net_kind_patchgan = {
    .info = {"patchgan", "judges patches of images; x [n, channels, height, width] -> [n, 1, rows, columns]",
             "Isola et al., arXiv:1611.07004; convolutions begin as there (normal of 0.02)", settings, presets},
    .size = sizeof(patchgan), .build = build, .forward = forward};
