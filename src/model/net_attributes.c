/* A small convolutional network that says several things of an image at once, smooth so that distances of its features
 * serve as a loss: stages of two 3x3 convolutions with group norm and silu, each halved, then a linear layer whose
 * values are the features, and one more to all logits. */
#include "model/net_kind.h"

typedef struct stage {
    pith_conv_layer conv[2];
    pith_norm_layer norm[2];
    size_t depth;
} stage;

typedef struct attributes {
    size_t n_stages, features;
    stage *stages;
    pith_linear_layer fc, head;
} attributes;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of an image"},
    {"size", PITH_NET_COUNT, "32", 1, 4096, NULL, "height and width of an image"},
    {"widths", PITH_NET_LIST, "[32, 64, 128]", 1, 1 << 14, NULL, "channels of each stage"},
    {"features", PITH_NET_COUNT, "128", 1, 1 << 16, NULL, "values before the logits"},
    {"classes", PITH_NET_LIST, "[6, 8, 3, 9, 6, 8, 3, 9, 6]", 1, 1 << 20, NULL, "of each attribute; their logits follow each other"},
    {0}};

static void build(pith_net *net, void *self)
{
    attributes *m = self;
    const size_t *widths, *classes;
    size_t n_in = pith_net_count(net, "channels"), size = pith_net_count(net, "size"), n_features = pith_net_count(net, "features"), n_out = 0;
    size_t n_attributes = pith_net_list(net, "classes", &classes);
    m->n_stages = pith_net_list(net, "widths", &widths);
    m->stages = pith_net_take(net, m->n_stages, sizeof *m->stages);
    if (!m->stages) return;
    for (size_t i = 0; i < m->n_stages; i++) {
        for (size_t k = 0; k < 2; k++) {
            pith_conv_build(net, &m->stages[i].conv[k], pith_net_name(net, "stages.%zu.conv%zu", i, k + 1), &(pith_conv_shape){.n_in = n_in, .n_out = widths[i], .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_HE);
            pith_group_norm_build(net, &m->stages[i].norm[k], pith_net_name(net, "stages.%zu.norm%zu", i, k + 1), pith_group_count(widths[i]), widths[i], 1e-5f);
            n_in = widths[i];
        }
        m->stages[i].depth = pith_net_add_depth(net, pith_net_name(net, "stages.%zu", i));
        size /= 2;
    }
    for (size_t i = 0; i < n_attributes; i++) n_out += classes[i];
    if (!size) pith_net_fail(net, PITH_E_ARGUMENT, "an image cannot be halved %zu times", m->n_stages);
    pith_linear_build(net, &m->fc, "fc", n_in * size * size, n_features, true, PITH_LAYER_TORCH);
    m->features = pith_net_add_depth(net, "features");
    pith_linear_build(net, &m->head, "head", n_features, n_out, true, PITH_LAYER_TORCH);
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    static const pith_pool_window half = {.size = {2, 2}};
    const attributes *m = self;
    pith_var *x = in->x;
    for (size_t i = 0; i < m->n_stages; i++) {
        for (size_t k = 0; k < 2; k++) x = pith_var_silu(pith_norm_run(&m->stages[i].norm[k], pith_conv_run(&m->stages[i].conv[k], x)));
        x = pith_var_avg_pool(pith_net_depth(net, m->stages[i].depth, x), &half);
    }
    x = pith_net_depth(net, m->features, pith_var_silu(pith_linear_run(&m->fc, pith_flatten(x))));
    return pith_linear_run(&m->head, x);
}

static const pith_net_preset presets[] = {
    {"clf32", "{}", "shape, colour, size, cell of two objects and the background of 32x32 scenes"},
    {0}};

const pith_net_kind pith_net_kind_attributes = {
    .info = {"attributes", "several classes of an image; x [n, channels, size, size] -> [n, all classes together]",
             "our own; convolutions begin as in arXiv:1502.01852, linear layers as PyTorch's", settings, presets},
    .size = sizeof(attributes), .build = build, .forward = forward};
