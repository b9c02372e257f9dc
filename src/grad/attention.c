/* Attention: of one head at a time, a block of queries at a time, so that the scores stay in the cache.  Kept for
 * the backward pass is one number a query (as in FlashAttention: Dao et al., arXiv:2205.14135); the scores are
 * computed again there. */
#include <math.h>

#include "grad/tape.h"

#define QUERIES ((size_t)48) /* in a block */

/* How heads lie: [n, heads, len, d]; or side by side, [n, len, heads d]; or so beside those of the other two, [n, len, 3 heads d]. */
typedef enum heads_lie { APART, SIDE_BY_SIDE, PACKED } heads_lie;

typedef struct layout {
    size_t heads, item, head, row; /* heads; values from one item, head or row to the next */
} layout;

typedef struct attention_attr {
    pith_attention o;
    size_t n, heads, kv_heads, n_q, n_k, d;
    heads_lie lie;
    layout q, kv, y;
    float scale, *lse; /* [n, heads, n_q] */
} attention_attr;

static layout lay_heads(heads_lie lie, size_t heads, size_t len, size_t d)
{
    if (lie == APART) return (layout){heads, heads * len * d, len * d, d};
    size_t row = heads * d * (lie == PACKED ? 3 : 1);
    return (layout){heads, len * row, d, row};
}

/* Where row i of a head (of n * heads) is. */
static size_t at_row(const layout *l, size_t head, size_t i) { return head / l->heads * l->item + head % l->heads * l->head + i * l->row; }

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

/* A head of k or v [n_k, d] to [d, keys], with zeros at the end. */
static void turn(const attention_work *w, const float *matrix, float *turned)
{
    size_t d = w->a->d, n = w->a->n_k;
    pith_transpose(matrix, n, d, w->a->kv.row, turned, w->keys);
    for (size_t r = 0; r < d && n < w->keys; r++) memset(turned + r * w->keys + n, 0, (w->keys - n) * sizeof(float));
}

/* s[rows, keys from..to) = left turned, left [rows, d] with `row` between them; columns up to the next multiple of 16 are written as well */
static void scores(const attention_work *w, const float *left, size_t row, const float *turned, size_t rows, size_t from, size_t to, float *s)
{
    w->tape->kernels->gemm(rows, PITH_ROUND_UP(to, (size_t)16) - from, w->a->d, left, row, turned + from, w->keys, s + from, w->keys, false);
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
        const float *v = w->v + at_row(&a->kv, kv, 0);
        turn(w, w->k + at_row(&a->kv, kv, 0), turned);
        for (size_t i = 0; i < a->n_q; i += QUERIES) {
            size_t rows = PITH_MIN(QUERIES, a->n_q - i), at = at_row(&a->q, head, i), from, to;
            block_keys(a, head, i, rows, &from, &to);
            scores(w, w->q + at, a->q.row, turned, rows, from, to, s);
            probabilities(w, a->lse + head * a->n_q + i, false, head, i, rows, from, to, s);
            w->tape->kernels->gemm(rows, a->d, to - from, s + from, w->keys, v + from * a->kv.row, a->kv.row, w->y + at_row(&a->y, head, i), a->y.row, false);
        }
    }
}

static void backward_block(const attention_work *w, size_t kv, size_t head, size_t i, float *k_turned)
{
    const attention_attr *a = w->a;
    const pith_loops *l = w->tape->loops;
    pith_gemm_fn *gemm = w->tape->kernels->gemm;
    size_t d = a->d, rows = PITH_MIN(QUERIES, a->n_q - i), at = at_row(&a->q, head, i), q_row = a->q.row, kv_row = a->kv.row, from, to;
    float *v_turned = k_turned + d * w->keys, *p = v_turned + d * w->keys, *gp = p + QUERIES * w->keys, *across = gp + QUERIES * w->keys;
    const float *q = w->q + at, *g = w->g + at_row(&a->y, head, i);
    block_keys(a, head, i, rows, &from, &to);
    const size_t keys_at = at_row(&a->kv, kv, from);
    scores(w, q, q_row, k_turned, rows, from, to, p);
    probabilities(w, a->lse + head * a->n_q + i, true, head, i, rows, from, to, p);
    pith_transpose(p + from, rows, to - from, w->keys, across, rows);
    gemm(to - from, d, rows, across, rows, g, a->y.row, w->gv + keys_at, kv_row, true);
    scores(w, g, a->y.row, v_turned, rows, from, to, gp);
    for (size_t r = 0; r < rows; r++) {
        float *pr = p + r * w->keys + from, *gr = gp + r * w->keys + from;
        l->softmax_back(pr, gr, l->dot(pr, gr, to - from), gr, to - from);
        l->unary(PITH_UNARY_AFFINE, 0, a->scale, 0, gr, NULL, gr, to - from);
    }
    gemm(rows, d, to - from, gp + from, w->keys, w->k + keys_at, kv_row, w->gq + at, q_row, false);
    pith_transpose(gp + from, rows, to - from, w->keys, across, rows);
    gemm(to - from, d, rows, across, rows, q, q_row, w->gk + keys_at, kv_row, true);
}

/* Heads of keys and values: all queries of one add to the same gradients. */
static void backward_heads(void *arg, size_t first, size_t last, int worker)
{
    const attention_work *w = arg;
    const attention_attr *a = w->a;
    size_t group = a->heads / a->kv_heads;
    float *k_turned = w->scratch + (size_t)worker * w->scratch_len;
    for (size_t kv = first; kv < last; kv++) {
        turn(w, w->k + at_row(&a->kv, kv, 0), k_turned);
        turn(w, w->v + at_row(&a->kv, kv, 0), k_turned + a->d * w->keys);
        for (size_t i = 0; i < a->n_k; i++) {
            memset(w->gk + at_row(&a->kv, kv, i), 0, a->d * sizeof(float));
            memset(w->gv + at_row(&a->kv, kv, i), 0, a->d * sizeof(float));
        }
        size_t head = kv / a->kv_heads * a->heads + kv % a->kv_heads * group;
        for (size_t h = head; h < head + group; h++)
            for (size_t i = 0; i < a->n_q; i += QUERIES) backward_block(w, kv, h, i, k_turned);
    }
}

/* in: q, k and v, or all in one; scratch for each key: so many values a worker. */
static attention_work work_of(const attention_attr *a, pith_var *const *in, size_t scratch)
{
    const size_t keys = PITH_ROUND_UP(a->n_k, (size_t)16), width = a->heads * a->d;
    const float *q = in[0]->data;
    return (attention_work){.tape = in[0]->tape, .a = a, .q = q, .k = a->lie == PACKED ? q + width : in[1]->data, .v = a->lie == PACKED ? q + 2 * width : in[2]->data, .keys = keys, .scratch_len = scratch * keys};
}

static bool run_heads(pith_tape *tape, attention_work *w, size_t n_heads, pith_range_fn *fn)
{
    pith_block *scratch = pith_op_take(tape, (size_t)pith_n_threads(tape->ctx) * w->scratch_len);
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

/* Where heads are side by side, [n, heads, len, d] from [n, len, heads d]. */
static pith_var *apart(const attention_attr *a, pith_var *x, size_t heads, size_t len)
{
    return a->lie == APART ? x : pith_var_transpose(pith_var_reshape(x, PITH_DIMS(a->n, len, heads, a->d)), 1, 2);
}

/* The way back. */
static pith_var *joined(const attention_attr *a, pith_var *x, size_t heads, size_t len)
{
    return a->lie == APART ? x : pith_var_reshape(pith_var_transpose(x, 1, 2), PITH_DIMS(a->n, len, heads * a->d));
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
    const size_t width = a->heads * a->d;
    pith_var *in[3];
    for (size_t i = 0; i < 3; i++) in[i] = a->lie == PACKED ? pith_var_slice(y->in[0], 2, i * width, width) : y->in[i];
    pith_var *q = apart(a, in[0], a->heads, a->n_q), *k = for_heads(a, apart(a, in[1], a->kv_heads, a->n_k)), *v = for_heads(a, apart(a, in[2], a->kv_heads, a->n_k));
    gy = apart(a, gy, a->heads, a->n_q);
    pith_var *p = pith_var_softmax(pith_var_add(pith_var_scale(pith_var_matmul(q, k, false, true), a->scale), hidden_keys(y->tape, a)));
    pith_var *gp = pith_var_matmul(gy, v, false, true);
    pith_var *gs = pith_var_scale(pith_var_mul(p, pith_var_sub(gp, pith_var_sum(pith_var_mul(p, gp), PITH_AXIS(3)))), a->scale);
    pith_var *g[] = {joined(a, pith_var_matmul(gs, k, false, false), a->heads, a->n_q), joined(a, from_heads(a, pith_var_matmul(gs, q, true, false)), a->kv_heads, a->n_k),
                     joined(a, from_heads(a, pith_var_matmul(p, gy, true, false)), a->kv_heads, a->n_k)};
    if (a->lie == PACKED) gx[0] = pith_var_concat(g, 3, 2);
    else memcpy(gx, g, sizeof g);
}

static void attention_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"attention_back", NULL};
    if (pith_recording(y->tape)) {
        plain_backward(y, gy, gx);
        return;
    }
    const attention_attr *a = y->attr;
    const size_t n_in = a->lie == PACKED ? 1 : 3, width = a->heads * a->d;
    pith_var *g[3];
    for (size_t i = 0; i < n_in; i++)
        if (!(g[i] = pith_op_value(y->tape, &back, NULL, 0, y->in[i]->n_dims, y->in[i]->dims, 0))) return;
    attention_work w = work_of(a, y->in, 2 * a->d + 3 * QUERIES);
    w.g = gy->data;
    w.gq = g[0]->data;
    w.gk = n_in == 1 ? w.gq + width : g[1]->data;
    w.gv = n_in == 1 ? w.gk + width : g[2]->data;
    if (run_heads(y->tape, &w, a->n * a->kv_heads, backward_heads)) memcpy(gx, g, n_in * sizeof *g);
}

/* a: the shapes, checked; in: q, k and v, or all in one. */
static pith_var *attend(pith_var *const *in, const pith_attention *o, attention_attr a)
{
    static const pith_op op = {"attention", attention_backward};
    pith_tape *tape = in[0]->tape;
    if ((o->causal && a.n_q > a.n_k) || (o->window && !o->causal) || o->scale < 0)
        return pith_op_fail(tape, PITH_E_SHAPE, "attention: queries %s to %zu keys%s", PITH_SHAPE(in[0]), a.n_k, o->causal ? ", causal" : o->window ? ", a window that is not causal" : "");
    for (size_t i = 0; o->n_keys && i < a.n; i++)
        if (o->causal || o->n_keys[i] < 1 || (size_t)o->n_keys[i] > a.n_k)
            return pith_op_fail(tape, PITH_E_ARGUMENT, "attention: %d keys of %zu in row %zu%s", (int)o->n_keys[i], a.n_k, i, o->causal ? ", causal" : "");
    a.o = *o;
    a.q = lay_heads(a.lie, a.heads, a.n_q, a.d);
    a.kv = lay_heads(a.lie, a.kv_heads, a.n_k, a.d);
    a.y = lay_heads(a.lie == APART ? APART : SIDE_BY_SIDE, a.heads, a.n_q, a.d);
    a.scale = o->scale > 0 ? o->scale : 1 / sqrtf((float)a.d);
    pith_var *y = a.lie == PACKED ? pith_op_value(tape, &op, in, 1, PITH_DIMS(a.n, a.n_q, a.heads * a.d), sizeof a) : pith_op_value(tape, &op, in, 3, in[0]->n_dims, in[0]->dims, sizeof a);
    a.lse = y ? pith_op_attr(tape, a.n * a.heads * a.n_q, sizeof *a.lse) : NULL;
    if (!a.lse) return NULL;
    if (o->n_keys) {
        int32_t *n_keys = pith_op_attr(tape, a.n, sizeof *n_keys);
        if (!n_keys) return NULL;
        memcpy(n_keys, o->n_keys, a.n * sizeof *n_keys);
        a.o.n_keys = n_keys;
    }
    memcpy(y->attr, &a, sizeof a);
    attention_work w = work_of(y->attr, in, a.d + QUERIES);
    w.y = y->data;
    return run_heads(tape, &w, a.n * a.heads, forward_heads) ? y : NULL;
}

pith_var *pith_var_attention(pith_var *q, pith_var *k, pith_var *v, const pith_attention *o)
{
    if (!q || !k || !v) return NULL;
    bool fits = q->n_dims == 4 && k->n_dims == 4 && pith_same_shape(k, v) && q->dims[0] == k->dims[0] && q->dims[3] == k->dims[3] && k->dims[1] && q->dims[1] % k->dims[1] == 0 && k->dims[2] && k->dims[3];
    if (!fits) return pith_op_fail(q->tape, PITH_E_SHAPE, "attention: queries %s, keys %s, values %s", PITH_SHAPE(q), PITH_SHAPE(k), PITH_SHAPE(v));
    return attend((pith_var *const[]){q, k, v}, o, (attention_attr){.n = q->dims[0], .heads = q->dims[1], .kv_heads = k->dims[1], .n_q = q->dims[2], .n_k = k->dims[2], .d = q->dims[3]});
}

pith_var *pith_var_attention_heads(pith_var *q, pith_var *k, pith_var *v, size_t heads, size_t kv_heads, const pith_attention *o)
{
    if (!q || !k || !v) return NULL;
    bool fits = q->n_dims == 3 && k->n_dims == 3 && pith_same_shape(k, v) && q->dims[0] == k->dims[0] && heads && kv_heads && heads % kv_heads == 0 && k->dims[1] && k->dims[2] &&
                q->dims[2] % heads == 0 && k->dims[2] % kv_heads == 0 && q->dims[2] / heads == k->dims[2] / kv_heads;
    if (!fits) return pith_op_fail(q->tape, PITH_E_SHAPE, "attention of %zu and %zu heads: queries %s, keys %s, values %s", heads, kv_heads, PITH_SHAPE(q), PITH_SHAPE(k), PITH_SHAPE(v));
    return attend((pith_var *const[]){q, k, v}, o, (attention_attr){.lie = SIDE_BY_SIDE, .n = q->dims[0], .heads = heads, .kv_heads = kv_heads, .n_q = q->dims[1], .n_k = k->dims[1], .d = q->dims[2] / heads});
}

pith_var *pith_var_attention_packed(pith_var *qkv, size_t heads, const pith_attention *o)
{
    if (!qkv) return NULL;
    if (qkv->n_dims != 3 || !heads || !qkv->dims[1] || !qkv->dims[2] || qkv->dims[2] % (3 * heads)) return pith_op_fail(qkv->tape, PITH_E_SHAPE, "attention of %zu heads: %s", heads, PITH_SHAPE(qkv));
    const size_t len = qkv->dims[1];
    return attend(&qkv, o, (attention_attr){.lie = PACKED, .n = qkv->dims[0], .heads = heads, .kv_heads = heads, .n_q = len, .n_k = len, .d = qkv->dims[2] / (3 * heads)});
}
