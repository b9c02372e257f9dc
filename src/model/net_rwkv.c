/* RWKV, version 5.2 (Eagle: Peng et al., arXiv:2404.05892): each token mixed with the one before, a state of each head
 * that decays by a learned rate of each row, and a gated perceptron with squared relu.  Names are those of the author's
 * PyTorch form.
 *
 * ids [n, len] -> logits [n, len, vocab]. */
#include <math.h>

#include "model/net_kind.h"

typedef struct block {
    pith_norm_layer ln1, ln2, ln_x;
    pith_slot *mix_k, *mix_v, *mix_r, *mix_g, *ffn_mix_k, *ffn_mix_r; /* [1, 1, width]: share of the token itself */
    pith_slot *decay, *bonus;     /* [heads, head_dim] */
    pith_linear_layer receptance, key, value, gate, output, ffn_key, ffn_receptance, ffn_value;
    size_t depth;
} block;

typedef struct rwkv {
    size_t width, n_heads, head_dim, n_blocks;
    pith_embedding_layer embedding;
    pith_norm_layer ln0, ln_out;
    pith_linear_layer head;
    block *blocks;
} rwkv;

static const pith_net_setting settings[] = {
    {"vocab", PITH_NET_COUNT, "256", 1, 1 << 24, NULL, "tokens there are"},
    {"width", PITH_NET_COUNT, "128", 2, 1 << 14, NULL, "values of a token, a multiple of head_dim"},
    {"depth", PITH_NET_COUNT, "4", 1, 1000, NULL, "blocks"},
    {"head_dim", PITH_NET_COUNT, "32", 1, 4096, NULL, "values of a head"},
    {"hidden", PITH_NET_COUNT, "448", 1, 1 << 16, NULL, "values within a perceptron; 3.5 widths"},
    {"head_eps", PITH_NET_REAL, "0.00064", 0, 1, NULL, "of the norm of each head; models whose heads are divided by 8 before it: 0.00064, else 0.00001"},
    {0}};

/* What the parameters of time begin as, by channel and block. */
typedef enum kind { MIX_K, MIX_V, MIX_R, DECAY, BONUS } kind;
typedef struct place {
    size_t block, n_blocks, width;
} place;

static float first_value(kind what, const place *at, size_t channel)
{
    float up = at->n_blocks > 1 ? (float)at->block / (float)(at->n_blocks - 1) : 0, down = 1 - (float)at->block / (float)at->n_blocks;
    float share = (float)channel / (float)at->width, along = (float)channel / (float)(at->width - 1);
    switch (what) {
    case MIX_K: return powf(share, down);
    case MIX_V: return powf(share, down) + 0.3f * up;
    case MIX_R: return powf(share, 0.5f * down);
    case DECAY: return -6 + 5 * powf(along, 0.7f + 1.3f * up);
    case BONUS: break;
    }
    return up * (1 - along) + 0.1f * (float)((int)((channel + 1) % 3) - 1);
}

static pith_slot *add_time(pith_net *net, const char *name, kind what, const place *at, int n_dims, const size_t *dims)
{
    pith_slot *slot = pith_net_add(net, name, (pith_init){PITH_INIT_CONSTANT, 0}, n_dims, dims);
    for (size_t i = 0; slot->param && net->seed != PITH_NET_BLANK && i < slot->param->count; i++) slot->param->data[i] = first_value(what, at, i);
    return slot;
}

static void build_linear(pith_net *net, pith_linear_layer *l, const char *block_name, const char *name, size_t n_in, size_t n_out, bool zero)
{
    pith_linear_build(net, l, pith_net_name(net, "%s.%s", block_name, name), n_in, n_out, false, zero ? PITH_LAYER_ZERO : PITH_LAYER_TORCH);
}

static void build_block(pith_net *net, const rwkv *m, block *b, size_t i, size_t hidden)
{
    const char *name = pith_net_name(net, "blocks.%zu", i);
    const place at = {i, m->n_blocks, m->width};
    size_t w = m->width;
    pith_norm_build(net, &b->ln1, pith_net_name(net, "%s.ln1", name), PITH_NORM_LAYER, w, 1e-5f);
    pith_norm_build(net, &b->ln2, pith_net_name(net, "%s.ln2", name), PITH_NORM_LAYER, w, 1e-5f);
    b->mix_k = add_time(net, pith_net_name(net, "%s.att.time_mix_k", name), MIX_K, &at, PITH_DIMS(1, 1, w));
    b->mix_v = add_time(net, pith_net_name(net, "%s.att.time_mix_v", name), MIX_V, &at, PITH_DIMS(1, 1, w));
    b->mix_r = add_time(net, pith_net_name(net, "%s.att.time_mix_r", name), MIX_R, &at, PITH_DIMS(1, 1, w));
    b->mix_g = add_time(net, pith_net_name(net, "%s.att.time_mix_g", name), MIX_R, &at, PITH_DIMS(1, 1, w));
    b->decay = add_time(net, pith_net_name(net, "%s.att.time_decay", name), DECAY, &at, PITH_DIMS(m->n_heads, m->head_dim));
    b->bonus = add_time(net, pith_net_name(net, "%s.att.time_faaaa", name), BONUS, &at, PITH_DIMS(m->n_heads, m->head_dim));
    build_linear(net, &b->receptance, name, "att.receptance", w, w, false);
    build_linear(net, &b->key, name, "att.key", w, w, false);
    build_linear(net, &b->value, name, "att.value", w, w, false);
    build_linear(net, &b->gate, name, "att.gate", w, w, false);
    build_linear(net, &b->output, name, "att.output", w, w, true);
    pith_group_norm_build(net, &b->ln_x, pith_net_name(net, "%s.att.ln_x", name), m->n_heads, w, pith_net_real(net, "head_eps"));
    b->ffn_mix_k = add_time(net, pith_net_name(net, "%s.ffn.time_mix_k", name), MIX_K, &at, PITH_DIMS(1, 1, w));
    b->ffn_mix_r = add_time(net, pith_net_name(net, "%s.ffn.time_mix_r", name), MIX_K, &at, PITH_DIMS(1, 1, w));
    build_linear(net, &b->ffn_key, name, "ffn.key", w, hidden, false);
    build_linear(net, &b->ffn_receptance, name, "ffn.receptance", w, w, true);
    build_linear(net, &b->ffn_value, name, "ffn.value", hidden, w, true);
    b->depth = pith_net_add_depth(net, name);
}

static void build(pith_net *net, void *self)
{
    rwkv *m = self;
    size_t n_vocab = pith_net_count(net, "vocab");
    m->width = pith_net_count(net, "width");
    m->head_dim = pith_net_count(net, "head_dim");
    m->n_heads = m->width / m->head_dim;
    m->n_blocks = pith_net_count(net, "depth");
    m->blocks = pith_net_take(net, m->n_blocks, sizeof *m->blocks);
    if (m->width % m->head_dim) pith_net_fail(net, PITH_E_ARGUMENT, "a width of %zu is no multiple of a head's %zu", m->width, m->head_dim);
    if (net->status != PITH_OK) return;
    pith_embedding_build(net, &m->embedding, "emb", n_vocab, m->width, (pith_init){PITH_INIT_UNIFORM, 1e-4f});
    pith_norm_build(net, &m->ln0, "blocks.0.ln0", PITH_NORM_LAYER, m->width, 1e-5f);
    for (size_t i = 0; i < m->n_blocks; i++) build_block(net, m, &m->blocks[i], i, pith_net_count(net, "hidden"));
    pith_norm_build(net, &m->ln_out, "ln_out", PITH_NORM_LAYER, m->width, 1e-5f);
    pith_linear_build(net, &m->head, "head", m->width, n_vocab, false, PITH_LAYER_TORCH);
}

/* ---- running ---------------------------------------------------------------------------------- */

/* x share + later (1 - share) */
static pith_var *mix(pith_var *x, pith_var *later, const pith_slot *share) { return pith_var_add(later, pith_var_mul(pith_var_sub(x, later), share->value)); }

/* [n, len, width] -> [n, heads, len, head_dim] */
static pith_var *split(const rwkv *m, pith_var *x)
{
    return x ? pith_var_transpose(pith_var_reshape(x, PITH_DIMS(x->dims[0], x->dims[1], m->n_heads, m->head_dim)), 1, 2) : NULL;
}

static pith_var *remember(const rwkv *m, const block *b, pith_var *x)
{
    if (!x) return NULL;
    size_t n = x->dims[0], len = x->dims[1];
    pith_var *later = pith_one_later(x), *gate = pith_var_silu(pith_linear_run(&b->gate, mix(x, later, b->mix_g)));
    pith_var *r = split(m, pith_linear_run(&b->receptance, mix(x, later, b->mix_r))), *k = split(m, pith_linear_run(&b->key, mix(x, later, b->mix_k)));
    pith_var *v = split(m, pith_linear_run(&b->value, mix(x, later, b->mix_v)));
    pith_var *decay = pith_var_reshape(pith_var_neg(pith_var_exp(b->decay->value)), PITH_DIMS(1, m->n_heads, 1, m->head_dim));
    pith_var *bonus = pith_var_reshape(b->bonus->value, PITH_DIMS(m->n_heads, 1, m->head_dim));
    pith_var *y = pith_var_linear_scan(r, k, v, pith_var_broadcast(decay, PITH_DIMS(n, m->n_heads, len, m->head_dim)), NULL, true, NULL);
    y = pith_var_add(y, pith_var_mul(pith_var_sum(pith_var_mul(pith_var_mul(r, bonus), k), PITH_AXIS(3)), v));
    y = pith_norm_run(&b->ln_x, pith_var_reshape(pith_var_transpose(y, 1, 2), PITH_DIMS(n * len, m->width)));
    return pith_linear_run(&b->output, pith_var_mul(pith_var_reshape(y, PITH_DIMS(n, len, m->width)), gate));
}

static pith_var *perceive(const block *b, pith_var *x)
{
    pith_var *later = pith_one_later(x), *k = pith_linear_run(&b->ffn_key, mix(x, later, b->ffn_mix_k));
    pith_var *r = pith_var_sigmoid(pith_linear_run(&b->ffn_receptance, mix(x, later, b->ffn_mix_r)));
    return pith_var_mul(r, pith_linear_run(&b->ffn_value, pith_var_square(pith_var_relu(k))));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const rwkv *m = self;
    if (!in->ids) return pith_net_refuse(net, "ids are needed");
    pith_var *x = pith_norm_run(&m->ln0, pith_embedding_run(&m->embedding, in->ids, in->n, in->len));
    for (size_t i = 0; i < m->n_blocks; i++) {
        const block *b = &m->blocks[i];
        x = pith_var_add(x, remember(m, b, pith_norm_run(&b->ln1, x)));
        x = pith_net_depth(net, b->depth, pith_var_add(x, perceive(b, pith_norm_run(&b->ln2, x))));
    }
    return pith_linear_run(&m->head, pith_norm_run(&m->ln_out, x));
}

static const pith_net_preset presets[] = {
    {"rwkv5", "{}", "version 5.2: 4 blocks, width 128, over bytes"},
    {0}};

const pith_net_kind pith_net_kind_rwkv = {
    .info = {"rwkv", "RWKV 5.2; ids [n, len] -> [n, len, vocab]", "Peng et al., arXiv:2404.05892; parameters of time begin as there, matrices as PyTorch's Linear or zero", settings, presets},
    .size = sizeof(rwkv), .build = build, .forward = forward};
