/* Multi-layer perceptron: linear layers with an activation between. */
#include "model/net_kind.h"

typedef struct mlp {
    size_t n_layers;
    pith_linear_layer *layers;
    size_t *depths;               /* [n_layers - 1] */
    pith_activation activation;
    float dropout;
} mlp;

static const pith_net_setting settings[] = {
    {"in", PITH_NET_COUNT, "784", 1, 1 << 24, NULL, "values of an input"},
    {"hidden", PITH_NET_LIST, "[256, 256]", 1, 1 << 24, NULL, "values of each hidden layer"},
    {"out", PITH_NET_COUNT, "10", 1, 1 << 24, NULL, "values of an output"},
    {"activation", PITH_NET_CHOICE, "\"relu\"", 0, 0, PITH_ACTIVATIONS, "between layers"},
    {"dropout", PITH_NET_REAL, "0", 0, 0.99, NULL, "share of hidden values that is dropped in training"},
    {0}};

static void build(pith_net *net, void *self)
{
    mlp *m = self;
    const size_t *hidden;
    size_t n = pith_net_list(net, "hidden", &hidden), n_in = pith_net_count(net, "in");
    m->n_layers = n + 1;
    m->layers = pith_net_take(net, n + 1, sizeof *m->layers);
    m->depths = pith_net_take(net, n + 1, sizeof *m->depths);
    m->activation = pith_net_activation(net, "activation");
    m->dropout = pith_net_real(net, "dropout");
    if (!m->layers || !m->depths) return;
    for (size_t i = 0; i <= n; i++) {
        size_t n_out = i < n ? hidden[i] : pith_net_count(net, "out");
        pith_linear_build(net, &m->layers[i], pith_net_name(net, "layers.%zu", i), n_in, n_out, true, PITH_LAYER_TORCH);
        if (i < n) m->depths[i] = pith_net_add_depth(net, pith_net_name(net, "hidden%zu", i));
        n_in = n_out;
    }
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const mlp *m = self;
    pith_var *x = pith_flatten(in->x);
    for (size_t i = 0; i < m->n_layers; i++) {
        x = pith_linear_run(&m->layers[i], x);
        if (i + 1 < m->n_layers) x = pith_net_dropout(net, pith_net_depth(net, m->depths[i], pith_activate(m->activation, x)), m->dropout);
    }
    return x;
}

const pith_net_kind pith_net_kind_mlp = {
    .info = {"mlp", "linear layers with an activation between; x [n, ..] -> [n, out]", "weights and biases begin as PyTorch's Linear", settings, NULL},
    .size = sizeof(mlp), .build = build, .forward = forward};
