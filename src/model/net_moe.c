/* Causal transformer whose perceptrons are experts, of which a router chooses a few for each token (Shazeer et al.,
 * arXiv:1701.06538; gated experts and weights over the chosen as in Mixtral, arXiv:2401.04088).  The depth "balance" is
 * the loss that keeps the load even (arXiv:2101.03961, section 2.2), the mean over layers, 1 when it is: add about 0.01 of it.
 *
 * ids [n, len] -> logits [n, len, vocab].  Taps hear each layer's router ("layers.0.moe.gate") and each expert that has
 * tokens ("layers.0.moe.experts.3": its rows, in the order of tokens, before their weights). */
#include "model/net_kind.h"

typedef struct expert {
    const char *name;
    pith_linear_layer w1, w2, w3; /* w2(silu(w1 x) * w3 x) */
} expert;

typedef struct block {
    pith_norm_layer norm1, norm2;
    pith_attention_layer attention;
    pith_linear_layer gate;
    expert *experts;
    size_t depth;
} block;

typedef struct moe {
    size_t n_vocab, n_ctx, width, n_blocks, n_experts, n_chosen;
    pith_embedding_layer words, positions;
    pith_norm_layer norm;
    block *blocks;
    size_t balance;               /* depth */
} moe;

static const pith_net_setting settings[] = {
    {"vocab", PITH_NET_COUNT, "2048", 1, 1 << 24, NULL, "tokens there are"},
    {"context", PITH_NET_COUNT, "256", 1, 1 << 20, NULL, "tokens of a text at most"},
    {"width", PITH_NET_COUNT, "128", 1, 1 << 14, NULL, "values of a token, a multiple of heads"},
    {"depth", PITH_NET_COUNT, "4", 1, 1000, NULL, "blocks"},
    {"heads", PITH_NET_COUNT, "4", 1, 1024, NULL, "of attention"},
    {"experts", PITH_NET_COUNT, "16", 1, 4096, NULL, "of each block"},
    {"chosen", PITH_NET_COUNT, "4", 1, 4096, NULL, "experts of a token"},
    {"hidden", PITH_NET_COUNT, "128", 1, 1 << 16, NULL, "values within an expert"},
    {0}};

static void build_block(pith_net *net, const moe *m, block *b, size_t i)
{
    const char *name = pith_net_name(net, "layers.%zu", i);
    size_t hidden = pith_net_count(net, "hidden");
    pith_norm_build(net, &b->norm1, pith_net_name(net, "%s.norm1", name), PITH_NORM_RMS, m->width, 1e-5f);
    pith_attention_build(net, &b->attention, pith_net_name(net, "%s.attn", name), m->width, m->width, pith_net_count(net, "heads"), PITH_LAYER_SMALL);
    pith_norm_build(net, &b->norm2, pith_net_name(net, "%s.norm2", name), PITH_NORM_RMS, m->width, 1e-5f);
    pith_linear_build(net, &b->gate, pith_net_name(net, "%s.moe.gate", name), m->width, m->n_experts, false, PITH_LAYER_SMALL);
    if (!(b->experts = pith_net_take(net, m->n_experts, sizeof *b->experts))) return;
    for (size_t e = 0; e < m->n_experts; e++) {
        expert *x = &b->experts[e];
        x->name = pith_net_name(net, "%s.moe.experts.%zu", name, e);
        pith_linear_build(net, &x->w1, pith_net_name(net, "%s.w1", x->name), m->width, hidden, false, PITH_LAYER_TORCH);
        pith_linear_build(net, &x->w2, pith_net_name(net, "%s.w2", x->name), hidden, m->width, false, PITH_LAYER_TORCH);
        pith_linear_build(net, &x->w3, pith_net_name(net, "%s.w3", x->name), m->width, hidden, false, PITH_LAYER_TORCH);
    }
    b->depth = pith_net_add_depth(net, name);
}

static void build(pith_net *net, void *self)
{
    moe *m = self;
    const pith_init small = {PITH_INIT_TRUNCATED, 0.02f};
    m->n_vocab = pith_net_count(net, "vocab");
    m->n_ctx = pith_net_count(net, "context");
    m->width = pith_net_count(net, "width");
    m->n_blocks = pith_net_count(net, "depth");
    m->n_experts = pith_net_count(net, "experts");
    m->n_chosen = pith_net_count(net, "chosen");
    m->blocks = pith_net_take(net, m->n_blocks, sizeof *m->blocks);
    if (m->n_chosen > m->n_experts) pith_net_fail(net, PITH_E_ARGUMENT, "%zu experts of %zu cannot be chosen", m->n_chosen, m->n_experts);
    if (net->status != PITH_OK) return;
    pith_embedding_build(net, &m->words, "embed_tokens", m->n_vocab, m->width, small);
    pith_embedding_build(net, &m->positions, "embed_positions", m->n_ctx, m->width, small);
    for (size_t i = 0; i < m->n_blocks && net->status == PITH_OK; i++) build_block(net, m, &m->blocks[i], i);
    pith_norm_build(net, &m->norm, "norm", PITH_NORM_RMS, m->width, 1e-5f);
    m->balance = pith_net_add_depth(net, "balance");
}

/* ---- running ---------------------------------------------------------------------------------- */

/* Who goes where: pairs of a token and one of its choices, sorted by expert, then by token. */
typedef struct route {
    size_t *count;                /* [experts] pairs */
    int32_t *token, *pair;        /* [tokens chosen]; pair is token * chosen + choice */
} route;

static bool find_route(pith_tape *tape, const moe *m, const int32_t *chosen, size_t n_tokens, route *r)
{
    size_t n = n_tokens * m->n_chosen, at = 0;
    r->count = pith_op_attr(tape, m->n_experts, sizeof *r->count);
    r->token = r->count ? pith_op_attr(tape, n, sizeof *r->token) : NULL;
    r->pair = r->token ? pith_op_attr(tape, n, sizeof *r->pair) : NULL;
    if (!r->pair) return false;
    for (size_t e = 0; e < m->n_experts; e++) {
        size_t first = at;
        for (size_t i = 0; i < n; i++) {
            if ((size_t)chosen[i] != e) continue;
            r->token[at] = (int32_t)(i / m->n_chosen);
            r->pair[at++] = (int32_t)i;
        }
        r->count[e] = at - first;
    }
    return true;
}

/* experts * sum over experts of (share of pairs) (mean probability) */
static pith_var *load(const moe *m, const route *r, pith_var *p)
{
    size_t n = p->dims[0];
    pith_var *share = pith_tape_fill(p->tape, 0, PITH_DIMS(1, m->n_experts));
    for (size_t e = 0; share && e < m->n_experts; e++) share->data[e] = (float)r->count[e] / (float)PITH_MAX(n * m->n_chosen, (size_t)1);
    return pith_var_scale(pith_var_sum(pith_var_mul(pith_var_mean(p, PITH_AXIS(0)), share), PITH_ALL_AXES), (float)m->n_experts);
}

/* x [tokens, width] -> the same; *balance is what the load adds to it. */
static pith_var *run_experts(pith_net *net, const moe *m, const block *b, pith_var *x, pith_var **balance)
{
    const int32_t *chosen;
    route r;
    pith_var *p = pith_var_softmax(pith_linear_run(&b->gate, x)), *weight = pith_var_top_k(p, m->n_chosen, &chosen), *y = NULL;
    pith_var **parts = pith_op_attr(net->tape, m->n_experts, sizeof(pith_var *));
    if (!weight || !parts || !find_route(net->tape, m, chosen, x->dims[0], &r)) return NULL;
    *balance = load(m, &r, p);
    size_t n_parts = 0, at = 0, n_pairs = x->dims[0] * m->n_chosen;
    for (size_t e = 0; e < m->n_experts; at += r.count[e++]) {
        const expert *one = &b->experts[e];
        if (!r.count[e]) continue;
        pith_var *mine = pith_var_rows(x, r.token + at, PITH_DIMS(r.count[e]));
        y = pith_var_mul(pith_var_silu(pith_linear_run(&one->w1, mine)), pith_linear_run(&one->w3, mine));
        parts[n_parts++] = pith_net_after(net, one->name, pith_linear_run(&one->w2, y));
    }
    if (!n_parts) return x; /* no tokens */
    weight = pith_var_reshape(pith_var_div(weight, pith_var_sum(weight, PITH_AXIS(1))), PITH_DIMS(n_pairs, 1));
    y = pith_var_mul(pith_var_concat(parts, n_parts, 0), pith_var_rows(weight, r.pair, PITH_DIMS(n_pairs)));
    return pith_var_index_add(y, r.token, x->dims[0]);
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    static const pith_attention causal = {.causal = true};
    const moe *m = self;
    if (!in->ids || in->len > m->n_ctx) return pith_op_fail(net->tape, PITH_E_ARGUMENT, "%s: ids of texts of at most %zu tokens are needed, not of %zu", net->name, m->n_ctx, in->len);
    pith_var *balance = pith_tape_fill(net->tape, 0, 0, NULL), *more = NULL;
    pith_var *x = pith_var_add(pith_embedding_run(&m->words, in->ids, in->n, in->len), pith_var_slice(m->positions.w->value, 0, 0, in->len));
    for (size_t i = 0; i < m->n_blocks; i++) {
        const block *b = &m->blocks[i];
        pith_var *y = pith_norm_run(&b->norm1, x);
        x = pith_var_add(x, pith_attention_run(&b->attention, y, y, &causal));
        y = run_experts(net, m, b, pith_var_reshape(pith_norm_run(&b->norm2, x), PITH_DIMS(in->n * in->len, m->width)), &more);
        if (!y) return NULL;
        balance = pith_var_add(balance, pith_var_scale(more, 1 / (float)m->n_blocks));
        x = pith_net_depth(net, b->depth, pith_var_add(x, pith_var_reshape(y, x->n_dims, x->dims)));
    }
    if (!pith_net_depth(net, m->balance, balance)) return NULL;
    return pith_var_linear(pith_norm_run(&m->norm, x), m->words.w->value, NULL);
}

static const pith_net_preset presets[] = {
    {"moe-lm", "{}", "4 blocks, width 128, 4 of 16 experts"},
    {0}};

const pith_net_kind pith_net_kind_moe = {
    .info = {"moe", "causal transformer with experts; ids [n, len] -> [n, len, vocab]", "arXiv:1701.06538, arXiv:2401.04088; begins with a normal of 0.02, experts as PyTorch's Linear", settings, presets},
    .size = sizeof(moe), .build = build, .forward = forward};
