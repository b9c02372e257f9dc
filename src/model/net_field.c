/* Fields: what is at a place, learned for one signal (a picture, a shape, a scene).  Siren: sines of linear layers
 * (Sitzmann et al., arXiv:2006.09661).  Hash: a learned hash grid, then a small perceptron (arXiv:2201.05989).
 *
 * x [n, in] -> [n, out]; siren's places are in -1..1, hash's in 0..1. */
#include <math.h>

#include "model/net_kind.h"

typedef struct field {
    bool hash;
    size_t n_in, n_layers;
    float omega;
    pith_linear_layer *layers;
    size_t *depths;
    pith_hash_grid grid;
    pith_slot *table;
} field;

static const pith_net_setting settings[] = {
    {"in", PITH_NET_COUNT, "2", 1, 4096, NULL, "values of a place (hash: at most 4)"},
    {"hidden", PITH_NET_LIST, "[256, 256, 256]", 1, 1 << 16, NULL, "values of each hidden layer"},
    {"out", PITH_NET_COUNT, "3", 1, 1 << 16, NULL, "values there"},
    {"encoding", PITH_NET_CHOICE, "\"sine\"", 0, 0, "sine|hash", "siren, or a hash grid and relu"},
    {"omega", PITH_NET_REAL, "30", 0.001, 10000, NULL, "sine: factor within the sines"},
    {"levels", PITH_NET_COUNT, "16", 1, 64, NULL, "hash: grids"},
    {"features", PITH_NET_COUNT, "2", 1, 64, NULL, "hash: values of an entry"},
    {"entries", PITH_NET_COUNT, "16384", 1, 1 << 24, NULL, "hash: entries of a level at most"},
    {"coarsest", PITH_NET_COUNT, "16", 1, 1 << 16, NULL, "hash: cells of the first level along an axis"},
    {"finest", PITH_NET_COUNT, "512", 1, 1 << 23, NULL, "hash: of the last"},
    {0}};

static void build_grid(pith_net *net, field *m)
{
    size_t coarsest = pith_net_count(net, "coarsest"), finest = pith_net_count(net, "finest"), levels = pith_net_count(net, "levels");
    if (m->n_in > 4 || finest < coarsest) {
        pith_net_fail(net, PITH_E_ARGUMENT, "a hash grid takes places of up to 4 values, not %zu, and %zu cells or more in its last level", m->n_in, coarsest);
        return;
    }
    float growth = levels > 1 ? (float)exp(log((double)finest / (double)coarsest) / (double)(levels - 1)) : 1;
    m->grid = (pith_hash_grid){.n_levels = levels, .n_features = pith_net_count(net, "features"), .n_entries = pith_net_count(net, "entries"), .coarsest = coarsest, .growth = PITH_MAX(growth, 1.0f)};
    m->table = pith_net_add(net, "grid.table", (pith_init){PITH_INIT_UNIFORM, 1e-4f}, PITH_DIMS(pith_hash_grid_rows(&m->grid, m->n_in), m->grid.n_features));
}

/* Of siren the first layer's weights are +-1/in, the others' +-sqrt(6/in)/omega: sines of a standard normal. */
static void build_sine(pith_net *net, const field *m, pith_linear_layer *l, size_t i, size_t n_in, size_t n_out)
{
    const char *name = pith_net_name(net, "layers.%zu", i);
    *l = (pith_linear_layer){.net = net, .name = name};
    l->w = pith_net_add(net, pith_net_name(net, "%s.weight", name), (pith_init){PITH_INIT_UNIFORM, i ? sqrtf(6 / (float)n_in) / m->omega : 1 / (float)n_in}, PITH_DIMS(n_out, n_in));
    l->b = pith_net_add(net, pith_net_name(net, "%s.bias", name), (pith_init){PITH_INIT_UNIFORM, 1 / sqrtf((float)n_in)}, PITH_DIMS(n_out));
}

static void build(pith_net *net, void *self)
{
    field *m = self;
    const size_t *hidden;
    m->hash = pith_net_is(net, "encoding", "hash");
    m->omega = pith_net_real(net, "omega");
    m->n_in = pith_net_count(net, "in");
    m->n_layers = pith_net_list(net, "hidden", &hidden) + 1;
    m->layers = pith_net_take(net, m->n_layers, sizeof *m->layers);
    m->depths = pith_net_take(net, m->n_layers, sizeof *m->depths);
    if (m->hash) build_grid(net, m);
    if (net->status != PITH_OK) return;
    size_t n_in = m->hash ? m->grid.n_levels * m->grid.n_features : m->n_in;
    for (size_t i = 0; i < m->n_layers; i++) {
        size_t n_out = i + 1 < m->n_layers ? hidden[i] : pith_net_count(net, "out");
        if (m->hash) pith_linear_build(net, &m->layers[i], pith_net_name(net, "layers.%zu", i), n_in, n_out, true, PITH_LAYER_XAVIER);
        else build_sine(net, m, &m->layers[i], i, n_in, n_out);
        if (i + 1 < m->n_layers) m->depths[i] = pith_net_add_depth(net, pith_net_name(net, "hidden%zu", i));
        n_in = n_out;
    }
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const field *m = self;
    pith_var *x = m->hash ? pith_net_after(net, "grid", pith_var_hash_grid(in->x, m->table->value, &m->grid)) : in->x;
    for (size_t i = 0; i < m->n_layers; i++) {
        x = pith_linear_run(&m->layers[i], x);
        if (i + 1 < m->n_layers) x = pith_net_depth(net, m->depths[i], m->hash ? pith_var_relu(x) : pith_var_sin(pith_var_scale(x, m->omega)));
    }
    return x;
}

static const pith_net_preset presets[] = {
    {"siren", "{}", "three hidden layers of 256 sines"},
    {"hashgrid", "{\"encoding\": \"hash\", \"hidden\": [64, 64]}", "16 levels of 2 features, then two layers of 64"},
    {0}};

const pith_net_kind pith_net_kind_field = {
    .info = {"field", "a signal as a function of place; x [n, in] -> [n, out]", "Sitzmann et al., arXiv:2006.09661; Mueller et al., arXiv:2201.05989; both begin as there", settings, presets},
    .size = sizeof(field), .build = build, .forward = forward};
