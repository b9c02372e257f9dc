/* Attention: of one head at a time, a block of queries at a time, so that the scores stay in the cache.  Kept for
 * the backward pass is one number a query (as in FlashAttention: Dao et al., arXiv:2205.14135); the scores are
 * computed again there. */
#include <math.h>

#include "grad/tape.h"

#define QUERIES ((size_t)48) /* in a block */

typedef struct attention_attr {
    pith_attention o;
    size_t n, heads, kv_heads, n_q, n_k, d;
    float scale, *lse; /* [n, heads, n_q] */
} attention_attr;

typedef struct attention_work {
    const pith_tape *tape;
    const attention_attr *a;
    const float *q, *k, *v, *g;
    float *y, *gq, *gk, *gv, *scratch;
    size_t scratch_len, keys; /* keys: n_k padded to 16 */
} attention_work;

/* The keys that query i of `head` (of n * heads) sees: from..to-1. */
static void seen(const attention_attr *a, size_t head, size_t i, size_t *from, size_t *to)
{
    size_t at = i + a->n_k - a->n_q; /* the last query stands at the last key */
    *to = a->o.causal ? at + 1 : a->o.n_keys ? (size_t)a->o.n_keys[head / a->heads] : a->n_k;
    *from = a->o.causal && a->o.window && at + 1 > a->o.window ? at + 1 - a->o.window : 0;
}

/* Keys that a block sees, the first at a multiple of 16. */
static void block_keys(const attention_attr *a, size_t head, size_t i, size_t rows, size_t *from, size_t *to)
{
    size_t end;
    seen(a, head, i, from, &end);
    *from -= *from % 16;
    seen(a, head, i + rows - 1, &end, to);
}

/* matrix [n_k, d] to [d, keys], with zeros at the end */
static void turn(const attention_work *w, const float *matrix, float *turned)
{
    size_t d = w->a->d, n = w->a->n_k;
    pith_transpose(matrix, n, d, d, turned, w->keys);
    for (size_t r = 0; r < d && n < w->keys; r++) memset(turned + r * w->keys + n, 0, (w->keys - n) * sizeof(float));
}

/* s[rows, keys from..to) = left turned; columns up to the next multiple of 16 are written as well */
static void scores(const attention_work *w, const float *left, const float *turned, size_t rows, size_t from, size_t to, float *s)
{
    w->tape->kernels->gemm(rows, PITH_ROUND_UP(to, (size_t)16) - from, w->a->d, left, w->a->d, turned + from, w->keys, s + from, w->keys, false);
}

/* softmax of the scores where the query sees the key, 0 elsewhere in from..to */
static void probabilities(const attention_work *w, float *lse, bool known, size_t head, size_t i, size_t rows, size_t from, size_t to, float *s)
{
    const pith_loops *l = w->tape->loops;
    for (size_t r = 0; r < rows; r++, s += w->keys) {
        size_t a, b;
        seen(w->a, head, i + r, &a, &b);
        memset(s + from, 0, (a - from) * sizeof *s);
        memset(s + b, 0, (to - b) * sizeof *s);
        if (known) {
            l->exp_sum(s + a, w->a->scale, lse[r], s + a, b - a);
            continue;
        }
        float max = l->max(s + a, b - a) * w->a->scale, sum = l->exp_sum(s + a, w->a->scale, max, s + a, b - a);
        lse[r] = max + logf(sum);
        l->unary(PITH_UNARY_AFFINE, 0, 1 / sum, 0, s + a, NULL, s + a, b - a);
    }
}

static void forward_heads(void *arg, size_t first, size_t last, int worker)
{
    const attention_work *w = arg;
    const attention_attr *a = w->a;
    float *turned = w->scratch + (size_t)worker * w->scratch_len, *s = turned + a->d * w->keys;
    for (size_t head = first; head < last; head++) {
        size_t kv = head / a->heads * a->kv_heads + head % a->heads / (a->heads / a->kv_heads);
        const float *v = w->v + kv * a->n_k * a->d;
        turn(w, w->k + kv * a->n_k * a->d, turned);
        for (size_t i = 0; i < a->n_q; i += QUERIES) {
            size_t rows = PITH_MIN(QUERIES, a->n_q - i), at = head * a->n_q + i, from, to;
            block_keys(a, head, i, rows, &from, &to);
            scores(w, w->q + at * a->d, turned, rows, from, to, s);
            probabilities(w, a->lse + at, false, head, i, rows, from, to, s);
            w->tape->kernels->gemm(rows, a->d, to - from, s + from, w->keys, v + from * a->d, a->d, w->y + at * a->d, a->d, false);
        }
    }
}

static void backward_block(const attention_work *w, size_t kv, size_t head, size_t i, float *k_turned)
{
    const attention_attr *a = w->a;
    const pith_loops *l = w->tape->loops;
    pith_gemm_fn *gemm = w->tape->kernels->gemm;
    size_t d = a->d, rows = PITH_MIN(QUERIES, a->n_q - i), at = head * a->n_q + i, from, to;
    float *v_turned = k_turned + d * w->keys, *p = v_turned + d * w->keys, *gp = p + QUERIES * w->keys, *across = gp + QUERIES * w->keys;
    const float *q = w->q + at * d, *g = w->g + at * d;
    block_keys(a, head, i, rows, &from, &to);
    scores(w, q, k_turned, rows, from, to, p);
    probabilities(w, a->lse + at, true, head, i, rows, from, to, p);
    pith_transpose(p + from, rows, to - from, w->keys, across, rows);
    gemm(to - from, d, rows, across, rows, g, d, w->gv + (kv * a->n_k + from) * d, d, true);
    scores(w, g, v_turned, rows, from, to, gp);
    for (size_t r = 0; r < rows; r++) {
        float *pr = p + r * w->keys + from, *gr = gp + r * w->keys + from;
        l->softmax_back(pr, gr, l->dot(pr, gr, to - from), gr, to - from);
        l->unary(PITH_UNARY_AFFINE, 0, a->scale, 0, gr, NULL, gr, to - from);
    }
    gemm(rows, d, to - from, gp + from, w->keys, w->k + (kv * a->n_k + from) * d, d, w->gq + at * d, d, false);
    pith_transpose(gp + from, rows, to - from, w->keys, across, rows);
    gemm(to - from, d, rows, across, rows, q, d, w->gk + (kv * a->n_k + from) * d, d, true);
}

/* Heads of keys and values: all queries of one add to the same gradients. */
static void backward_heads(void *arg, size_t first, size_t last, int worker)
{
    const attention_work *w = arg;
    const attention_attr *a = w->a;
    size_t group = a->heads / a->kv_heads, size = a->n_k * a->d;
    float *k_turned = w->scratch + (size_t)worker * w->scratch_len;
    for (size_t kv = first; kv < last; kv++) {
        turn(w, w->k + kv * size, k_turned);
        turn(w, w->v + kv * size, k_turned + a->d * w->keys);
        memset(w->gk + kv * size, 0, size * sizeof(float));
        memset(w->gv + kv * size, 0, size * sizeof(float));
        size_t head = kv / a->kv_heads * a->heads + kv % a->kv_heads * group;
        for (size_t h = head; h < head + group; h++)
            for (size_t i = 0; i < a->n_q; i += QUERIES) backward_block(w, kv, h, i, k_turned);
    }
}

static bool run_heads(pith_tape *tape, attention_work *w, size_t n_heads, size_t scratch_len, pith_range_fn *fn)
{
    w->scratch_len = scratch_len;
    pith_block *scratch = pith_op_take(tape, (size_t)pith_n_threads(tape->ctx) * scratch_len);
    if (!scratch) return false;
    w->scratch = pith_op_floats(scratch);
    pith_op_ranges(tape, n_heads, 1, fn, w);
    pith_op_drop(tape, scratch);
    return true;
}

/* ---- of operations, for passes that are recorded ---------------------------------------------- */

/* k or v [n, kv_heads, n_k, d], each head repeated for the queries' heads that use it */
static pith_var *for_heads(const attention_attr *a, pith_var *x)
{
    size_t group = a->heads / a->kv_heads;
    x = pith_var_reshape(x, PITH_DIMS(a->n, a->kv_heads, 1, a->n_k, a->d));
    return pith_var_reshape(pith_var_broadcast(x, PITH_DIMS(a->n, a->kv_heads, group, a->n_k, a->d)), PITH_DIMS(a->n, a->heads, a->n_k, a->d));
}

static pith_var *from_heads(const attention_attr *a, pith_var *g)
{
    g = pith_var_reshape(g, PITH_DIMS(a->n, a->kv_heads, a->heads / a->kv_heads, a->n_k, a->d));
    return pith_var_reshape(pith_var_sum(g, PITH_AXIS(2)), PITH_DIMS(a->n, a->kv_heads, a->n_k, a->d));
}

static pith_var *hidden_keys(pith_tape *tape, const attention_attr *a)
{
    size_t n = a->o.n_keys ? a->n : 1; /* else all see the same */
    pith_var *m = pith_tape_fill(tape, -1e30f, PITH_DIMS(n, 1, a->n_q, a->n_k));
    for (size_t row = 0; m && row < n * a->n_q; row++) {
        size_t from, to;
        seen(a, row / a->n_q * a->heads, row % a->n_q, &from, &to);
        for (size_t k = from; k < to; k++) m->data[row * a->n_k + k] = 0;
    }
    return m;
}

static void plain_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const attention_attr *a = y->attr;
    pith_var *q = y->in[0], *k = for_heads(a, y->in[1]), *v = for_heads(a, y->in[2]);
    pith_var *p = pith_var_softmax(pith_var_add(pith_var_scale(pith_var_matmul(q, k, false, true), a->scale), hidden_keys(y->tape, a)));
    pith_var *gp = pith_var_matmul(gy, v, false, true);
    pith_var *gs = pith_var_scale(pith_var_mul(p, pith_var_sub(gp, pith_var_sum(pith_var_mul(p, gp), PITH_AXIS(3)))), a->scale);
    gx[0] = pith_var_matmul(gs, k, false, false);
    gx[1] = from_heads(a, pith_var_matmul(gs, q, true, false));
    gx[2] = from_heads(a, pith_var_matmul(p, gy, true, false));
}

static void attention_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"attention_back", NULL};
    if (pith_recording(y->tape)) {
        plain_backward(y, gy, gx);
        return;
    }
    const attention_attr *a = y->attr;
    pith_var *g[3];
    for (int i = 0; i < 3; i++) g[i] = pith_op_value(y->tape, &back, NULL, 0, 4, y->in[i]->dims, 0);
    if (!g[0] || !g[1] || !g[2]) return;
    attention_work w = {.tape = y->tape, .a = a, .q = y->in[0]->data, .k = y->in[1]->data, .v = y->in[2]->data, .g = gy->data,
                        .gq = g[0]->data, .gk = g[1]->data, .gv = g[2]->data, .keys = PITH_ROUND_UP(a->n_k, (size_t)16)};
    if (run_heads(y->tape, &w, a->n * a->kv_heads, (2 * a->d + 3 * QUERIES) * w.keys, backward_heads)) memcpy(gx, g, sizeof g);
}

pith_var *pith_var_attention(pith_var *q, pith_var *k, pith_var *v, const pith_attention *o)
{
    static const pith_op op = {"attention", attention_backward};
    if (!q || !k || !v) return NULL;
    bool fits = q->n_dims == 4 && k->n_dims == 4 && pith_same_shape(k, v) && q->dims[0] == k->dims[0] && q->dims[3] == k->dims[3] && k->dims[1] && q->dims[1] % k->dims[1] == 0 && k->dims[2] && k->dims[3];
    if (!fits || (o->causal && q->dims[2] > k->dims[2]) || (o->window && !o->causal) || o->scale < 0)
        return pith_op_fail(q->tape, PITH_E_SHAPE, "attention: queries %s, keys %s, values %s%s", PITH_SHAPE(q), PITH_SHAPE(k), PITH_SHAPE(v), o->causal ? ", causal" : o->window ? ", a window that is not causal" : "");
    for (size_t i = 0; o->n_keys && i < k->dims[0]; i++)
        if (o->causal || o->n_keys[i] < 1 || (size_t)o->n_keys[i] > k->dims[2])
            return pith_op_fail(q->tape, PITH_E_ARGUMENT, "attention: %d keys of %zu in row %zu%s", (int)o->n_keys[i], k->dims[2], i, o->causal ? ", causal" : "");
    pith_var *in[] = {q, k, v}, *y = pith_op_value(q->tape, &op, in, 3, 4, q->dims, sizeof(attention_attr));
    attention_attr a = {*o, q->dims[0], q->dims[1], k->dims[1], q->dims[2], k->dims[2], q->dims[3], o->scale > 0 ? o->scale : 1 / sqrtf((float)q->dims[3]), NULL};
    a.lse = y ? pith_op_attr(y->tape, a.n * a.heads * a.n_q, sizeof *a.lse) : NULL;
    if (!a.lse) return NULL;
    if (o->n_keys) {
        int32_t *n_keys = pith_op_attr(y->tape, a.n, sizeof *n_keys);
        if (!n_keys) return NULL;
        memcpy(n_keys, o->n_keys, a.n * sizeof *n_keys);
        a.o.n_keys = n_keys;
    }
    memcpy(y->attr, &a, sizeof a);
    attention_work w = {.tape = y->tape, .a = y->attr, .q = q->data, .k = k->data, .v = v->data, .y = y->data, .keys = PITH_ROUND_UP(a.n_k, (size_t)16)};
    return run_heads(y->tape, &w, a.n * a.heads, (a.d + QUERIES) * w.keys, forward_heads) ? y : NULL;
}
