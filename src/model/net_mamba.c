/* Mamba-2 (Dao, Gu, arXiv:2405.21060): blocks whose state decays by how much each token asks for, with nothing else that
 * looks back but a short convolution.  Names are those of the authors' PyTorch form.
 *
 * ids [n, len] -> logits [n, len, vocab]; vocab 0: x [n, len, width] -> the same shape. */
#include <math.h>

#include "model/net_kind.h"

typedef struct block {
    pith_norm_layer norm, gated;
    pith_linear_layer in, out;
    pith_causal_conv conv;
    pith_slot *dt_bias, *a_log, *d; /* [heads] */
    size_t depth;
} block;

typedef struct mamba {
    size_t n_vocab, width, inner, state, head_dim, n_heads, n_blocks;
    pith_embedding_layer embedding;
    pith_norm_layer norm;
    pith_linear_layer head;
    bool tied;
    block *blocks;
} mamba;

static const pith_net_setting settings[] = {
    {"vocab", PITH_NET_COUNT, "256", 0, 1 << 24, NULL, "tokens there are; 0: vectors in and out"},
    {"width", PITH_NET_COUNT, "128", 1, 1 << 14, NULL, "values of a token"},
    {"depth", PITH_NET_COUNT, "4", 1, 1000, NULL, "blocks"},
    {"state", PITH_NET_COUNT, "64", 1, 4096, NULL, "values that a channel remembers"},
    {"expand", PITH_NET_COUNT, "2", 1, 16, NULL, "times width: channels within a block"},
    {"head_dim", PITH_NET_COUNT, "32", 1, 4096, NULL, "channels of a head, which share a decay"},
    {"kernel", PITH_NET_COUNT, "4", 1, 64, NULL, "tokens that the convolution sees"},
    {"head", PITH_NET_CHOICE, "\"tied\"", 0, 0, "tied|own", "whether the output's weights are the embedding"},
    {0}};

/* Parameters [heads] drawn uniformly from -1..1, mapped: decays of 1 to 16 (as logarithms), and steps of 0.001 to 0.1,
 * log-uniform, through softplus's inverse. */
static float decay_of(float u) { return logf(1 + 15 * (u + 1) / 2); }
static float step_of(float u)
{
    float dt = expf(logf(0.001f) + (u + 1) / 2 * logf(100));
    return dt + logf(-expm1f(-dt));
}

static pith_slot *add_heads(pith_net *net, const char *name, size_t n, float (*map)(float))
{
    pith_slot *slot = pith_net_add(net, name, (pith_init){PITH_INIT_UNIFORM, 1}, PITH_DIMS(n));
    for (size_t i = 0; slot->param && net->seed != PITH_NET_BLANK && i < n; i++) slot->param->data[i] = map(slot->param->data[i]);
    return slot;
}

static void build_block(pith_net *net, const mamba *m, block *b, size_t i, size_t kernel)
{
    const char *name = pith_net_name(net, "backbone.layers.%zu", i);
    size_t mixed = m->inner + 2 * m->state;
    pith_norm_build(net, &b->norm, pith_net_name(net, "%s.norm", name), PITH_NORM_RMS, m->width, 1e-5f);
    pith_linear_build(net, &b->in, pith_net_name(net, "%s.mixer.in_proj", name), m->width, m->inner + mixed + m->n_heads, false, PITH_LAYER_TORCH);
    pith_causal_conv_build(net, &b->conv, pith_net_name(net, "%s.mixer.conv1d", name), mixed, kernel);
    b->dt_bias = add_heads(net, pith_net_name(net, "%s.mixer.dt_bias", name), m->n_heads, step_of);
    b->a_log = add_heads(net, pith_net_name(net, "%s.mixer.A_log", name), m->n_heads, decay_of);
    b->d = pith_net_add(net, pith_net_name(net, "%s.mixer.D", name), (pith_init){PITH_INIT_CONSTANT, 1}, PITH_DIMS(m->n_heads));
    pith_norm_build(net, &b->gated, pith_net_name(net, "%s.mixer.norm", name), PITH_NORM_RMS, m->inner, 1e-5f);
    pith_linear_build(net, &b->out, pith_net_name(net, "%s.mixer.out_proj", name), m->inner, m->width, false, PITH_LAYER_TORCH);
    b->depth = pith_net_add_depth(net, name);
}

static void build(pith_net *net, void *self)
{
    mamba *m = self;
    m->n_vocab = pith_net_count(net, "vocab");
    m->width = pith_net_count(net, "width");
    m->n_blocks = pith_net_count(net, "depth");
    m->state = pith_net_count(net, "state");
    m->inner = m->width * pith_net_count(net, "expand");
    m->head_dim = pith_net_count(net, "head_dim");
    m->n_heads = m->inner / m->head_dim;
    m->tied = pith_net_is(net, "head", "tied");
    m->blocks = pith_net_take(net, m->n_blocks, sizeof *m->blocks);
    if (m->inner % m->head_dim) pith_net_fail(net, PITH_E_ARGUMENT, "%zu channels are no multiple of a head's %zu", m->inner, m->head_dim);
    if (!m->blocks) return;
    if (m->n_vocab) pith_embedding_build(net, &m->embedding, "backbone.embedding", m->n_vocab, m->width, (pith_init){PITH_INIT_NORMAL, 0.02f});
    for (size_t i = 0; i < m->n_blocks; i++) build_block(net, m, &m->blocks[i], i, pith_net_count(net, "kernel"));
    pith_norm_build(net, &m->norm, "backbone.norm_f", PITH_NORM_RMS, m->width, 1e-5f);
    if (m->n_vocab && !m->tied) pith_linear_build(net, &m->head, "lm_head", m->width, m->n_vocab, false, PITH_LAYER_TORCH);
}

/* [heads] as it stands before [n, heads, len, ..] */
static pith_var *of_heads(pith_var *x) { return x ? pith_var_reshape(x, PITH_DIMS(x->count, 1, 1)) : NULL; }

static pith_var *mixed(const mamba *m, const block *b, pith_var *x)
{
    if (!x) return NULL;
    size_t n = x->dims[0], len = x->dims[1], N = m->state;
    pith_var *all = pith_linear_run(&b->in, x), *z = pith_var_slice(all, -1, 0, m->inner);
    pith_var *xbc = pith_var_silu(pith_causal_conv_run(&b->conv, pith_var_slice(all, -1, m->inner, m->inner + 2 * N)));
    pith_var *dt = pith_var_softplus(pith_var_add(pith_var_slice(all, -1, 2 * m->inner + 2 * N, m->n_heads), b->dt_bias->value));
    dt = pith_var_reshape(pith_var_transpose(dt, 1, 2), PITH_DIMS(n, m->n_heads, len, 1));
    pith_var *u = pith_var_transpose(pith_var_reshape(pith_var_slice(xbc, -1, 0, m->inner), PITH_DIMS(n, len, m->n_heads, m->head_dim)), 1, 2);
    pith_var *k = pith_var_reshape(pith_var_slice(xbc, -1, m->inner, N), PITH_DIMS(n, 1, len, N)), *q = pith_var_reshape(pith_var_slice(xbc, -1, m->inner + N, N), PITH_DIMS(n, 1, len, N));
    pith_var *decay = pith_var_mul(pith_var_neg(pith_var_exp(of_heads(b->a_log->value))), dt);
    pith_var *y = pith_var_linear_scan(q, k, pith_var_mul(u, dt), decay, NULL, false, NULL);
    y = pith_var_add(y, pith_var_mul(u, of_heads(b->d->value)));
    y = pith_var_reshape(pith_var_transpose(y, 1, 2), PITH_DIMS(n, len, m->inner));
    return pith_linear_run(&b->out, pith_norm_run(&b->gated, pith_var_mul(y, pith_var_silu(z))));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const mamba *m = self;
    if (m->n_vocab ? !in->ids : !in->x) return pith_net_refuse(net, m->n_vocab ? "ids are needed" : "x is needed");
    pith_var *x = m->n_vocab ? pith_embedding_run(&m->embedding, in->ids, in->n, in->len) : in->x;
    if (x && x->n_dims != 3) return pith_op_fail(net->tape, PITH_E_SHAPE, "%s: x %s is not [n, len, width]", net->name, PITH_SHAPE(x));
    for (size_t i = 0; i < m->n_blocks; i++)
        x = pith_net_depth(net, m->blocks[i].depth, pith_var_add(x, mixed(m, &m->blocks[i], pith_norm_run(&m->blocks[i].norm, x))));
    x = pith_norm_run(&m->norm, x);
    if (!m->n_vocab) return x;
    return m->tied ? pith_var_linear(x, m->embedding.w->value, NULL) : pith_linear_run(&m->head, x);
}

static const pith_net_preset presets[] = {
    {"mamba2", "{}", "4 blocks, width 128, over bytes"},
    {0}};

const pith_net_kind pith_net_kind_mamba = {
    .info = {"mamba", "Mamba-2; ids [n, len] -> [n, len, vocab]", "Dao, Gu, arXiv:2405.21060; decays and steps begin as there, matrices as PyTorch's Linear", settings, presets},
    .size = sizeof(mamba), .build = build, .forward = forward};
