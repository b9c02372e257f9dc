/* VGG-like (Simonyan, Zisserman, arXiv:1409.1556): 3x3 convolutions, each with batch norm and relu, halved in height
 * and width after every few, and a linear layer over the mean of what is left. */
#include <math.h>

#include "model/net_kind.h"

typedef struct vgg {
    size_t n, every;
    pith_conv_layer *conv;
    pith_norm_layer *norm;
    size_t *depths;
    pith_linear_layer classifier;
} vgg;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of an image"},
    {"widths", PITH_NET_LIST, "[64, 64, 128, 128, 256, 256]", 1, 1 << 16, NULL, "channels of each convolution"},
    {"factor", PITH_NET_REAL, "1", 1.0 / 1024, 1024, NULL, "on the widths"},
    {"every", PITH_NET_COUNT, "2", 1, 16, NULL, "convolutions between two halvings"},
    {"classes", PITH_NET_COUNT, "10", 1, 1 << 20, NULL, "values of an output"},
    {0}};

static void build(pith_net *net, void *self)
{
    vgg *m = self;
    const size_t *widths;
    size_t n_in = pith_net_count(net, "channels");
    m->n = pith_net_list(net, "widths", &widths);
    m->every = pith_net_count(net, "every");
    m->conv = pith_net_take(net, m->n, sizeof *m->conv);
    m->norm = pith_net_take(net, m->n, sizeof *m->norm);
    m->depths = pith_net_take(net, m->n, sizeof *m->depths);
    if (!m->conv || !m->norm || !m->depths) return;
    for (size_t i = 0; i < m->n; i++) {
        /* numbered as in a list of convolution, norm, relu, with the halvings between */
        size_t place = 3 * i + i / m->every, n_out = PITH_MAX((size_t)lroundf((float)widths[i] * pith_net_real(net, "factor")), (size_t)1);
        pith_conv_build(net, &m->conv[i], pith_net_name(net, "features.%zu", place), &(pith_conv_shape){.n_in = n_in, .n_out = n_out, .kernel = 3, .padding = 1}, PITH_LAYER_HE);
        pith_norm_build(net, &m->norm[i], pith_net_name(net, "features.%zu", place + 1), PITH_NORM_BATCH, n_out, 1e-5f);
        m->depths[i] = pith_net_add_depth(net, pith_net_name(net, "hidden%zu", i));
        n_in = n_out;
    }
    pith_linear_build(net, &m->classifier, "classifier", n_in, pith_net_count(net, "classes"), true, PITH_LAYER_TORCH);
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    static const pith_pool_window half = {.size = {2, 2}};
    const vgg *m = self;
    pith_var *x = in->x;
    for (size_t i = 0; i < m->n; i++) {
        x = pith_var_relu(pith_norm_run(&m->norm[i], pith_conv_run(&m->conv[i], x)));
        x = pith_net_depth(net, m->depths[i], x);
        if ((i + 1) % m->every == 0 && i + 1 < m->n) x = pith_var_max_pool(x, &half);
    }
    return pith_linear_run(&m->classifier, pith_pool_space(x));
}

static const pith_net_preset presets[] = {
    {"vgg6", "{\"widths\": [16, 16, 32, 32, 64, 64]}", "16-16-32-32-64-64, for images of 28 or 32"},
    {0}};

const pith_net_kind pith_net_kind_vgg = {
    .info = {"vgg", "3x3 convolutions with batch norm; x [n, channels, height, width] -> [n, classes]",
             "Simonyan, Zisserman, arXiv:1409.1556, narrower and with batch norm; convolutions begin as in arXiv:1502.01852", settings, presets},
    .size = sizeof(vgg), .build = build, .forward = forward};
