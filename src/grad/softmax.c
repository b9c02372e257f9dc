/* Softmax and what is made of it. */
#include <math.h>

#include "grad/tape.h"

typedef enum row_kind { SOFTMAX, SOFTMAX_BACK, LOG_SOFTMAX, LOG_SOFTMAX_BACK, LOGSUMEXP, CROSS_ENTROPY, CROSS_ENTROPY_BACK } row_kind;

typedef struct row_work {
    const pith_loops *loops;
    row_kind kind;
    const float *x, *g;     /* x: the result for SOFTMAX_BACK and LOG_SOFTMAX_BACK */
    float *y;
    size_t n;
    float *scratch;         /* [worker, n] */
    const int32_t *label;
    float *lse, factor;
} row_work;

/* max + log of the sum of exp(x - max); what was exp goes to e */
static float logsumexp(const pith_loops *loops, const float *x, float *e, size_t n)
{
    float max = loops->max(x, n);
    if (!isfinite(max)) return max;
    return max + logf(loops->exp_sum(x, 1, max, e, n));
}

static void run_row(const row_work *w, size_t r, float *scratch)
{
    const pith_loops *l = w->loops;
    size_t n = w->n;
    const float *x = w->x + r * n, *g = w->g ? w->g + r * n : NULL;
    float *y = w->y + r * n;
    switch (w->kind) {
    case SOFTMAX: l->unary(PITH_UNARY_AFFINE, 0, 1 / l->exp_sum(x, 1, l->max(x, n), y, n), 0, y, NULL, y, n); break;
    case SOFTMAX_BACK: l->softmax_back(x, g, l->dot(x, g, n), y, n); break;
    case LOG_SOFTMAX: l->unary(PITH_UNARY_AFFINE, 0, 1, -logsumexp(l, x, y, n), x, NULL, y, n); break;
    case LOG_SOFTMAX_BACK: /* g - exp(y) sum g */
        l->unary(PITH_UNARY_EXP, 0, 0, 0, x, NULL, scratch, n);
        l->unary(PITH_UNARY_AFFINE, 0, -l->sum(g, n), 0, scratch, NULL, scratch, n);
        l->binary(PITH_BINARY_ADD, g, 1, scratch, 1, y, n);
        break;
    case LOGSUMEXP: w->y[r] = logsumexp(l, x, scratch, n); break;
    case CROSS_ENTROPY:
        w->lse[r] = logsumexp(l, x, scratch, n);
        w->y[r] = w->label[r] == PITH_NO_LABEL ? 0 : w->lse[r] - x[w->label[r]];
        break;
    case CROSS_ENTROPY_BACK:
        if (w->label[r] == PITH_NO_LABEL) {
            memset(y, 0, n * sizeof *y);
            break;
        }
        l->exp_sum(x, 1, w->lse[r], y, n);
        y[w->label[r]] -= 1;
        l->unary(PITH_UNARY_AFFINE, 0, w->factor, 0, y, NULL, y, n);
        break;
    }
}

static void run_rows(void *arg, size_t from, size_t to, int worker)
{
    const row_work *w = arg;
    for (size_t r = from; r < to; r++) run_row(w, r, w->scratch ? w->scratch + (size_t)worker * w->n : NULL);
}

static bool run(pith_tape *tape, row_work *w, size_t rows)
{
    w->loops = tape->loops;
    if (!rows || !w->n) return true;
    pith_block *scratch = pith_op_take(tape, (size_t)pith_n_threads(tape->ctx) * w->n);
    if (!scratch) return false;
    w->scratch = pith_op_floats(scratch);
    pith_op_ranges(tape, rows, PITH_CEIL_DIV(ELEMENT_GRAIN / 4, w->n), run_rows, w);
    pith_op_drop(tape, scratch);
    return true;
}

static size_t rows_of(const pith_var *x)
{
    size_t n = x->dims[x->n_dims - 1];
    return n ? x->count / n : 0;
}

/* An operation on rows that keeps the shape. */
static pith_var *by_rows(const pith_op *op, row_kind kind, pith_var *x, pith_var *g)
{
    size_t axis;
    if (!x || !pith_axis(x, op->name, -1, &axis)) return NULL;
    pith_var *in[] = {x, g}, *y = pith_op_value(x->tape, op, in, g ? 2 : 1, x->n_dims, x->dims, 0);
    if (!y) return NULL;
    row_work w = {.kind = kind, .x = x->data, .g = g ? g->data : NULL, .y = y->data, .n = x->dims[axis]};
    return run(x->tape, &w, rows_of(x)) ? y : NULL;
}

/* the sum along the last axis, which stays */
static pith_var *sum_last(pith_var *x) { return x ? pith_var_sum(x, PITH_AXIS(x->n_dims - 1)) : NULL; }

static void softmax_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"softmax_back", NULL};
    if (pith_recording(y->tape)) gx[0] = pith_var_mul(y, pith_var_sub(gy, sum_last(pith_var_mul(y, gy))));
    else gx[0] = by_rows(&back, SOFTMAX_BACK, y, gy);
}

pith_var *pith_var_softmax(pith_var *x)
{
    static const pith_op op = {"softmax", softmax_backward};
    return by_rows(&op, SOFTMAX, x, NULL);
}

static void log_softmax_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"log_softmax_back", NULL};
    if (pith_recording(y->tape)) gx[0] = pith_var_sub(gy, pith_var_mul(pith_var_exp(y), sum_last(gy)));
    else gx[0] = by_rows(&back, LOG_SOFTMAX_BACK, y, gy);
}

pith_var *pith_var_log_softmax(pith_var *x)
{
    static const pith_op op = {"log_softmax", log_softmax_backward};
    return by_rows(&op, LOG_SOFTMAX, x, NULL);
}

static void logsumexp_backward(pith_var *y, pith_var *gy, pith_var **gx) { gx[0] = pith_var_mul(pith_var_exp(pith_var_sub(y->in[0], y)), gy); }

pith_var *pith_var_logsumexp(pith_var *x)
{
    static const pith_op op = {"logsumexp", logsumexp_backward};
    size_t axis, dims[PITH_MAX_DIMS];
    if (!x || !pith_axis(x, op.name, -1, &axis)) return NULL;
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = 1;
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, x->n_dims, dims, 0);
    if (!y) return NULL;
    for (size_t i = 0; !x->dims[axis] && i < y->count; i++) y->data[i] = -INFINITY;
    row_work w = {.kind = LOGSUMEXP, .x = x->data, .y = y->data, .n = x->dims[axis]};
    return run(x->tape, &w, rows_of(x)) ? y : NULL;
}

/* ---- cross entropy ---------------------------------------------------------------------------- */

typedef struct label_attr {
    int32_t *label;
    float *lse;
    size_t n_counted;
} label_attr;

static pith_var *row_factors(pith_var *x, const label_attr *a)
{
    size_t n = x->dims[x->n_dims - 1], rows = rows_of(x);
    pith_var *f = pith_tape_fill(x->tape, 0, PITH_DIMS(rows, n));
    for (size_t r = 0; f && r < rows; r++)
        for (size_t i = 0; a->label[r] != PITH_NO_LABEL && i < n; i++) f->data[r * n + i] = 1 / (float)a->n_counted;
    return pith_var_reshape(f, x->n_dims, x->dims);
}

static pith_var *one_hot(pith_var *x, const label_attr *a)
{
    size_t n = x->dims[x->n_dims - 1], rows = rows_of(x);
    pith_var *y = pith_tape_fill(x->tape, 0, PITH_DIMS(rows, n));
    for (size_t r = 0; y && r < rows; r++)
        if (a->label[r] != PITH_NO_LABEL) y->data[r * n + (size_t)a->label[r]] = 1;
    return pith_var_reshape(y, x->n_dims, x->dims);
}

static void cross_entropy_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"cross_entropy_back", NULL};
    pith_var *x = y->in[0];
    const label_attr *a = y->attr;
    if (pith_recording(y->tape)) {
        gx[0] = pith_var_mul(pith_var_mul(pith_var_sub(pith_var_softmax(x), one_hot(x, a)), row_factors(x, a)), gy);
        return;
    }
    pith_var *g = pith_op_value(y->tape, &back, NULL, 0, x->n_dims, x->dims, 0);
    if (!g) return;
    row_work w = {.kind = CROSS_ENTROPY_BACK, .x = x->data, .y = g->data, .n = x->dims[x->n_dims - 1], .label = a->label, .lse = a->lse};
    w.factor = a->n_counted ? gy->data[0] / (float)a->n_counted : 0;
    if (run(y->tape, &w, rows_of(x))) gx[0] = g;
}

pith_var *pith_var_cross_entropy(pith_var *x, const int32_t *label)
{
    static const pith_op op = {"cross_entropy", cross_entropy_backward};
    size_t axis;
    if (!x || !pith_axis(x, op.name, -1, &axis)) return NULL;
    pith_tape *tape = x->tape;
    size_t rows = rows_of(x), n = x->dims[axis];
    pith_var *y = pith_op_value(tape, &op, &x, 1, 0, NULL, sizeof(label_attr));
    label_attr a = {y ? pith_op_attr(tape, rows, sizeof *a.label) : NULL, y ? pith_op_attr(tape, rows, sizeof *a.lse) : NULL, 0};
    pith_block *losses = a.label && a.lse ? pith_op_take(tape, rows) : NULL;
    if (!losses) return NULL;
    for (size_t r = 0; r < rows && !tape->status; r++) {
        a.label[r] = label[r];
        if (label[r] == PITH_NO_LABEL) continue;
        a.n_counted++;
        if (label[r] < 0 || (size_t)label[r] >= n) pith_op_fail(tape, PITH_E_ARGUMENT, "cross_entropy: label %d at %zu is not in 0..%zu", (int)label[r], r, n - 1);
    }
    memcpy(y->attr, &a, sizeof a);
    row_work w = {.kind = CROSS_ENTROPY, .x = x->data, .y = pith_op_floats(losses), .n = n, .label = a.label, .lse = a.lse};
    bool done = !tape->status && run(tape, &w, rows);
    if (done) y->data[0] = a.n_counted ? tape->loops->sum(w.y, rows) / (float)a.n_counted : 0;
    pith_op_drop(tape, losses);
    return done ? y : NULL;
}
