/* LeNet-5 (LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86, 1998) as it is built today: every map of the second
 * convolution sees every map of the first, and the last layer is linear. */
#include "model/net_kind.h"

typedef struct lenet {
    pith_conv_layer conv1, conv2;
    pith_linear_layer fc1, fc2, fc3;
    size_t depths[4];
    pith_activation activation;
    bool max_pool;
} lenet;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "1", 1, 4096, NULL, "of an image"},
    {"size", PITH_NET_COUNT, "28", 8, 4096, NULL, "height and width of an image, even"},
    {"padding", PITH_NET_COUNT, "2", 0, 2, NULL, "around the image"},
    {"classes", PITH_NET_COUNT, "10", 1, 1 << 20, NULL, "values of an output"},
    {"activation", PITH_NET_CHOICE, "\"relu\"", 0, 0, PITH_ACTIVATIONS, "after each layer but the last"},
    {"pool", PITH_NET_CHOICE, "\"max\"", 0, 0, "max|mean", "of 2 by 2 values"},
    {0}};

static void build(pith_net *net, void *self)
{
    lenet *m = self;
    size_t padding = pith_net_count(net, "padding"), size = pith_net_count(net, "size") + 2 * padding, channels = pith_net_count(net, "channels");
    if (size < 16) {
        pith_net_fail(net, PITH_E_ARGUMENT, "images of %zu with their padding are too small; 16 are needed", size);
        return;
    }
    size_t last = ((size - 4) / 2 - 4) / 2;
    m->activation = pith_net_activation(net, "activation");
    m->max_pool = pith_net_is(net, "pool", "max");
    pith_conv_build(net, &m->conv1, "conv1", &(pith_conv_shape){.n_in = channels, .n_out = 6, .kernel = 5, .padding = padding, .bias = true}, PITH_LAYER_TORCH);
    pith_conv_build(net, &m->conv2, "conv2", &(pith_conv_shape){.n_in = 6, .n_out = 16, .kernel = 5, .bias = true}, PITH_LAYER_TORCH);
    pith_linear_build(net, &m->fc1, "fc1", 16 * last * last, 120, true, PITH_LAYER_TORCH);
    pith_linear_build(net, &m->fc2, "fc2", 120, 84, true, PITH_LAYER_TORCH);
    pith_linear_build(net, &m->fc3, "fc3", 84, pith_net_count(net, "classes"), true, PITH_LAYER_TORCH);
    for (int i = 0; i < 4; i++) m->depths[i] = pith_net_add_depth(net, pith_net_name(net, "hidden%d", i));
}

static pith_var *pooled(const lenet *m, pith_var *x)
{
    static const pith_pool_window half = {.size = {2, 2}};
    x = pith_activate(m->activation, x);
    return m->max_pool ? pith_var_max_pool(x, &half) : pith_var_avg_pool(x, &half);
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const lenet *m = self;
    pith_var *x = pith_net_depth(net, m->depths[0], pooled(m, pith_conv_run(&m->conv1, in->x)));
    x = pith_net_depth(net, m->depths[1], pooled(m, pith_conv_run(&m->conv2, x)));
    x = pith_net_depth(net, m->depths[2], pith_activate(m->activation, pith_linear_run(&m->fc1, pith_flatten(x))));
    x = pith_net_depth(net, m->depths[3], pith_activate(m->activation, pith_linear_run(&m->fc2, x)));
    return pith_linear_run(&m->fc3, x);
}

static const pith_net_preset presets[] = {
    {"lenet5", "{}", "28x28 grey images, 10 classes"},
    {"lenet5-1998", "{\"activation\": \"tanh\", \"pool\": \"mean\"}", "with the activation and pooling of its time"},
    {0}};

const pith_net_kind pith_net_kind_lenet = {
    .info = {"lenet", "LeNet-5; x [n, channels, size, size] -> [n, classes]", "LeCun et al., 1998; begins as PyTorch's layers", settings, presets},
    .size = sizeof(lenet), .build = build, .forward = forward};
