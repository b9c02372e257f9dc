/* The gated linear recurrence of state-space and linear-attention models: a state of each head, S [dk, dv], decays, takes
 * k^T v, and is read by q.
 *
 * Step by step, in time as in space linear: the state stays in the cache, heads are shared out to threads.  For the
 * backward pass the state at the start of each CHUNK steps is kept, and those between are computed again. */
#include <math.h>

#include "grad/tape.h"

#define CHUNK ((size_t)32)

typedef struct scan_attr {
    size_t n, heads, groups, len, dk, dv, n_decay; /* n_decay: 1, or dk */
    bool before;
    float *starts;                /* [n, heads, chunks, dk, dv]; NULL: no backward pass follows */
} scan_attr;

typedef struct scan_work {
    const pith_tape *tape;
    const scan_attr *a;
    const float *q, *k, *v, *decay, *s0, *gy;
    float *y, *last;              /* last [n, heads, dk, dv] or NULL */
    float *gq, *gk, *gv, *gd, *gs;
    float *scratch;
    size_t scratch_len;
} scan_work;

static size_t n_chunks(const scan_attr *a) { return PITH_CEIL_DIV(a->len, CHUNK); }

/* The group of queries and keys that a head (of n * heads) uses. */
static size_t group_of(const scan_attr *a, size_t head) { return head / a->heads * a->groups + head % a->heads / (a->heads / a->groups); }

/* s = exp(decay) s + k^T v; `e` [n_decay] is exp(decay) */
static void write_step(const scan_work *w, const float *e, const float *k, const float *v, float *s)
{
    const scan_attr *a = w->a;
    const pith_loops *l = w->tape->loops;
    if (a->n_decay == 1) l->unary(PITH_UNARY_AFFINE, 0, e[0], 0, s, NULL, s, a->dk * a->dv);
    for (size_t i = 0; a->n_decay > 1 && i < a->dk; i++) l->unary(PITH_UNARY_AFFINE, 0, e[i], 0, s + i * a->dv, NULL, s + i * a->dv, a->dv);
    w->tape->kernels->gemm(a->dk, a->dv, 1, k, 1, v, a->dv, s, a->dv, true);
}

static void read_step(const scan_work *w, const float *q, const float *s, float *y)
{
    const scan_attr *a = w->a;
    w->tape->kernels->gemm(1, a->dv, a->dk, q, a->dk, s, a->dv, y, a->dv, false);
}

static void decays(const scan_work *w, const float *decay, float *e)
{
    for (size_t i = 0; i < w->a->n_decay; i++) e[i] = expf(decay[i]);
}

static void forward_heads(void *arg, size_t from, size_t to, int worker)
{
    const scan_work *w = arg;
    const scan_attr *a = w->a;
    size_t size = a->dk * a->dv;
    float *s = w->scratch + (size_t)worker * w->scratch_len, *e = s + size;
    for (size_t head = from; head < to; head++) {
        const float *q = w->q + group_of(a, head) * a->len * a->dk, *k = w->k + group_of(a, head) * a->len * a->dk, *v = w->v + head * a->len * a->dv;
        const float *decay = w->decay + head * a->len * a->n_decay;
        float *y = w->y + head * a->len * a->dv;
        memcpy(s, w->s0 + head * size, size * sizeof *s);
        for (size_t t = 0; t < a->len; t++) {
            if (a->starts && t % CHUNK == 0) memcpy(a->starts + (head * n_chunks(a) + t / CHUNK) * size, s, size * sizeof *s);
            decays(w, decay + t * a->n_decay, e);
            if (a->before) read_step(w, q + t * a->dk, s, y + t * a->dv);
            write_step(w, e, k + t * a->dk, v + t * a->dv, s);
            if (!a->before) read_step(w, q + t * a->dk, s, y + t * a->dv);
        }
        if (w->last) memcpy(w->last + head * size, s, size * sizeof *s);
    }
}

/* One step back.  g [dk, dv]: the gradient by the state after it, then by the state before it. */
static void back_step(const scan_work *w, size_t head, size_t t, const float *before, const float *after, const float *e, float *g)
{
    const scan_attr *a = w->a;
    const pith_loops *l = w->tape->loops;
    size_t at = group_of(a, head) * a->len + t, dv = a->dv;
    const float *q = w->q + at * a->dk, *k = w->k + at * a->dk, *v = w->v + (head * a->len + t) * dv, *gy = w->gy + (head * a->len + t) * dv;
    float *gq = w->gq + at * a->dk, *gk = w->gk + at * a->dk, *gv = w->gv + (head * a->len + t) * dv, *gd = w->gd + (head * a->len + t) * a->n_decay;
    const float *read = a->before ? before : after;
    pith_gemm_fn *gemm = w->tape->kernels->gemm;
    if (!a->before) gemm(a->dk, dv, 1, q, 1, gy, dv, g, dv, true);
    gemm(1, dv, a->dk, k, a->dk, g, dv, gv, dv, false);
    for (size_t i = 0; i < a->dk; i++) {
        float *row = g + i * dv, r = e[a->n_decay > 1 ? i : 0];
        gq[i] += l->dot(read + i * dv, gy, dv);
        gk[i] += l->dot(row, v, dv);
        gd[a->n_decay > 1 ? i : 0] += r * l->dot(row, before + i * dv, dv);
        if (a->n_decay > 1) l->unary(PITH_UNARY_AFFINE, 0, r, 0, row, NULL, row, dv);
    }
    if (a->n_decay == 1) l->unary(PITH_UNARY_AFFINE, 0, e[0], 0, g, NULL, g, a->dk * dv);
    if (a->before) gemm(a->dk, dv, 1, q, 1, gy, dv, g, dv, true);
}

/* Groups: all heads of one add to the same gradients. */
static void backward_groups(void *arg, size_t from, size_t to, int worker)
{
    const scan_work *w = arg;
    const scan_attr *a = w->a;
    size_t size = a->dk * a->dv, shared = a->heads / a->groups;
    float *states = w->scratch + (size_t)worker * w->scratch_len, *e = states + (CHUNK + 1) * size; /* states before each step of a chunk, and after the last */
    for (size_t i = from * shared; i < to * shared; i++) {
        size_t head = i;
        const float *k = w->k + group_of(a, head) * a->len * a->dk, *v = w->v + head * a->len * a->dv, *decay = w->decay + head * a->len * a->n_decay;
        float *g = w->gs + head * size;
        for (size_t chunk = n_chunks(a); chunk-- > 0;) {
            size_t first = chunk * CHUNK, steps = PITH_MIN(CHUNK, a->len - first);
            memcpy(states, a->starts + (head * n_chunks(a) + chunk) * size, size * sizeof *states);
            for (size_t t = 0; t < steps; t++) {
                memcpy(states + (t + 1) * size, states + t * size, size * sizeof *states);
                decays(w, decay + (first + t) * a->n_decay, e + t * a->n_decay);
                write_step(w, e + t * a->n_decay, k + (first + t) * a->dk, v + (first + t) * a->dv, states + (t + 1) * size);
            }
            for (size_t t = steps; t-- > 0;) back_step(w, head, first + t, states + t * size, states + (t + 1) * size, e + t * a->n_decay, g);
        }
    }
}

static bool run_parts(pith_tape *tape, scan_work *w, size_t n, size_t scratch_len, pith_range_fn *fn)
{
    w->scratch_len = PITH_ROUND_UP(scratch_len, (size_t)16);
    pith_block *scratch = pith_op_take(tape, (size_t)pith_n_threads(tape->ctx) * w->scratch_len);
    if (!scratch) return false;
    w->scratch = pith_op_floats(scratch);
    pith_op_ranges(tape, n, 1, fn, w);
    pith_op_drop(tape, scratch);
    return true;
}

/* Queries or keys of each head: [n, groups, len, dk] -> [n, heads, len, dk] */
static pith_var *of_heads(pith_var *x, const scan_attr *a)
{
    if (a->groups == a->heads) return x;
    x = pith_var_broadcast(pith_var_reshape(x, PITH_DIMS(a->n, a->groups, 1, a->len, a->dk)), PITH_DIMS(a->n, a->groups, a->heads / a->groups, a->len, a->dk));
    return pith_var_reshape(x, PITH_DIMS(a->n, a->heads, a->len, a->dk));
}

/* The same, of operations. */
static pith_var *remake(pith_var *y)
{
    const scan_attr *a = y->attr;
    pith_var *q = of_heads(y->in[0], a), *k = of_heads(y->in[1], a), *s = y->in[4];
    pith_var **rows = pith_op_attr(y->tape, a->len, sizeof *rows);
    for (size_t t = 0; rows && t < a->len; t++) {
        pith_var *e = pith_var_reshape(pith_var_exp(pith_var_slice(y->in[3], 2, t, 1)), PITH_DIMS(a->n, a->heads, a->n_decay, 1)), *was = s;
        s = pith_var_add(pith_var_mul(s, e), pith_var_matmul(pith_var_slice(k, 2, t, 1), pith_var_slice(y->in[2], 2, t, 1), true, false));
        rows[t] = pith_var_matmul(pith_var_slice(q, 2, t, 1), a->before ? was : s, false, false);
    }
    return rows ? pith_var_concat(rows, a->len, 2) : NULL;
}

static void scan_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    if (pith_op_remake(y, gy, remake)) return;
    const scan_attr *a = y->attr;
    pith_var *g[5];
    for (int i = 0; i < 5; i++)
        if (!(g[i] = pith_tape_fill(y->tape, 0, y->in[i]->n_dims, y->in[i]->dims))) return;
    scan_work w = {.tape = y->tape, .a = a, .q = y->in[0]->data, .k = y->in[1]->data, .v = y->in[2]->data, .decay = y->in[3]->data, .gy = gy->data,
                   .gq = g[0]->data, .gk = g[1]->data, .gv = g[2]->data, .gd = g[3]->data, .gs = g[4]->data};
    if (run_parts(y->tape, &w, a->n * a->groups, (CHUNK + 1) * a->dk * a->dv + CHUNK * a->n_decay, backward_groups)) memcpy(gx, g, sizeof g);
}

/* 4 dimensions: [n, its own, len, its own] */
static bool is_of(const pith_var *x, size_t n, size_t len) { return x->n_dims == 4 && x->dims[0] == n && x->dims[2] == len; }

pith_var *pith_var_linear_scan(pith_var *q, pith_var *k, pith_var *v, pith_var *decay, pith_var *s0, bool before, pith_var **last)
{
    static const pith_op op = {"linear_scan", scan_backward}, states = {"linear_scan_state", NULL};
    if (!q || !k || !v || !decay) return NULL;
    pith_tape *tape = q->tape;
    bool fits = q->n_dims == 4 && pith_same_shape(q, k) && is_of(v, q->dims[0], q->dims[2]) && is_of(decay, q->dims[0], q->dims[2]) && q->dims[1] && v->dims[1] % q->dims[1] == 0 && decay->dims[1] == v->dims[1] &&
                q->dims[3] && v->dims[3] && (decay->dims[3] == 1 || decay->dims[3] == q->dims[3]);
    fits = fits && (!s0 || (s0->n_dims == 4 && s0->dims[0] == q->dims[0] && s0->dims[1] == v->dims[1] && s0->dims[2] == q->dims[3] && s0->dims[3] == v->dims[3]));
    if (!fits) return pith_op_fail(tape, PITH_E_SHAPE, "linear_scan: queries %s, keys %s, values %s, decay %s%s%s", PITH_SHAPE(q), PITH_SHAPE(k), PITH_SHAPE(v), PITH_SHAPE(decay), s0 ? ", state " : "", s0 ? PITH_SHAPE(s0) : "");
    scan_attr a = {.n = q->dims[0], .heads = v->dims[1], .groups = q->dims[1], .len = q->dims[2], .dk = q->dims[3], .dv = v->dims[3], .n_decay = decay->dims[3], .before = before};
    if (!s0) s0 = pith_tape_fill(tape, 0, PITH_DIMS(a.n, a.heads, a.dk, a.dv));
    pith_var *in[] = {q, k, v, decay, s0}, *y = pith_op_value(tape, &op, in, 5, 4, v->dims, sizeof a), *end = NULL;
    if (!y) return NULL;
    if (pith_recording(tape) && !(a.starts = pith_op_attr(tape, n_chunks(&a) * s0->count, sizeof *a.starts))) return NULL;
    memcpy(y->attr, &a, sizeof a);
    if (last && !(end = pith_op_value(tape, &states, NULL, 0, 4, s0->dims, 0))) return NULL;
    scan_work w = {.tape = tape, .a = y->attr, .q = q->data, .k = k->data, .v = v->data, .decay = decay->data, .s0 = s0->data, .y = y->data, .last = end ? end->data : NULL};
    if (!run_parts(tape, &w, a.n * a.heads, a.dk * a.dv + a.n_decay, forward_heads)) return NULL;
    if (last) *last = end;
    return y;
}
