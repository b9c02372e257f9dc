/* Sums over dimensions, running sums. */
#include <math.h>

#include "grad/tape.h"

/* ---- sum -------------------------------------------------------------------------------------- */

#define ROWS_A_PART ((size_t)512) /* rows that are added in one chain; the parts' sums are added after */

typedef struct sum_work {
    const pith_loops *loops;
    const float *x;
    float *y;
    size_t n, inner, n_parts; /* x [outer, n, inner] -> y [outer, n_parts, inner] */
} sum_work;

static void sum_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const sum_work *w = arg;
    for (size_t i = from; i < to; i++) w->y[i] = w->loops->sum(w->x + i * w->n, w->n);
}

static void sum_columns(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const sum_work *w = arg;
    for (size_t i = from; i < to; i++) {
        size_t outer = i / w->n_parts, r0 = i % w->n_parts * ROWS_A_PART, r1 = PITH_MIN(r0 + ROWS_A_PART, w->n);
        const float *x = w->x + outer * w->n * w->inner;
        float *y = w->y + i * w->inner;
        memcpy(y, x + r0 * w->inner, w->inner * sizeof(float));
        for (size_t r = r0 + 1; r < r1; r++) w->loops->binary(PITH_BINARY_ADD, y, 1, x + r * w->inner, 1, y, w->inner);
    }
}

/* y[outer, inner] = sum over n of x[outer, n, inner], n >= 1; x may be a scratch block's, which is not changed */
static bool sum_middle(pith_tape *tape, const float *x, float *y, size_t outer, size_t n, size_t inner)
{
    sum_work w = {tape->loops, x, y, n, inner, 1};
    if (inner == 1) {
        pith_op_ranges(tape, outer, PITH_CEIL_DIV(ELEMENT_GRAIN, n), sum_rows, &w);
        return true;
    }
    w.n_parts = PITH_CEIL_DIV(n, ROWS_A_PART);
    if (w.n_parts == 1) {
        pith_op_ranges(tape, outer, PITH_CEIL_DIV(ELEMENT_GRAIN, n * inner), sum_columns, &w);
        return true;
    }
    pith_block *parts = pith_op_take(tape, outer * w.n_parts * inner);
    if (!parts) return false;
    w.y = pith_op_floats(parts);
    pith_op_ranges(tape, outer * w.n_parts, PITH_CEIL_DIV(ELEMENT_GRAIN, ROWS_A_PART * inner), sum_columns, &w);
    bool done = sum_middle(tape, w.y, y, outer, w.n_parts, inner);
    pith_op_drop(tape, parts);
    return done;
}

static void sum_backward(pith_var *y, pith_var *gy, pith_var **gx) { gx[0] = pith_var_broadcast(pith_var_reshape(gy, y->n_dims, y->dims), y->in[0]->n_dims, y->in[0]->dims); }

/* Sum the dimensions of `x` (as dims says, neighbours of one kind taken together) into y, the last first. */
static pith_var *sum_dims(pith_var *x, const bool *summed, int n_dims, const size_t *dims)
{
    static const pith_op op = {"sum", sum_backward};
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, n_dims, dims, 0);
    if (!y || !y->count) return y;
    if (!x->count) {
        memset(y->data, 0, y->count * sizeof(float));
        return y;
    }
    pith_tape *tape = x->tape;
    pith_block *held = NULL;
    const float *from = x->data;
    size_t left = x->count, inner = 1;
    for (int d = x->n_dims - 1; d >= 0;) {
        size_t n = 1;
        bool is_summed = summed[d];
        for (; d >= 0 && (summed[d] == is_summed || x->dims[d] == 1); d--) n *= x->dims[d];
        if (!is_summed) {
            inner *= n;
            continue;
        }
        if (n == 1) continue;
        left /= n;
        pith_block *into = left == y->count ? NULL : pith_op_take(tape, left);
        bool done = (left == y->count || into) && sum_middle(tape, from, into ? pith_op_floats(into) : y->data, left / inner, n, inner);
        pith_op_drop(tape, held);
        held = into;
        if (!done) {
            pith_op_drop(tape, held);
            return NULL;
        }
        from = into ? pith_op_floats(into) : y->data;
    }
    pith_op_drop(tape, held);
    if (from == x->data) memcpy(y->data, x->data, y->count * sizeof(float));
    return y;
}

pith_var *pith_var_sum(pith_var *x, unsigned axes)
{
    if (!x) return NULL;
    bool summed[PITH_MAX_DIMS];
    size_t dims[PITH_MAX_DIMS];
    for (int d = 0; d < x->n_dims; d++) {
        summed[d] = axes & PITH_AXIS(d);
        dims[d] = summed[d] ? 1 : x->dims[d];
    }
    if (axes != PITH_ALL_AXES && axes >> x->n_dims) return pith_op_fail(x->tape, PITH_E_SHAPE, "sum: %s has not all of the axes 0x%x", PITH_SHAPE(x), axes);
    return sum_dims(x, summed, axes == PITH_ALL_AXES ? 0 : x->n_dims, dims);
}

pith_var *pith_var_mean(pith_var *x, unsigned axes)
{
    pith_var *sum = pith_var_sum(x, axes);
    return sum ? pith_var_scale(sum, sum->count ? (float)((double)sum->count / (double)x->count) : 0) : NULL;
}

pith_var *pith_var_sum_to(pith_var *x, int n_dims, const size_t *dims)
{
    if (!x) return NULL;
    bool summed[PITH_MAX_DIMS], fits = n_dims <= x->n_dims;
    for (int d = 0; fits && d < x->n_dims; d++) {
        int to = d - (x->n_dims - n_dims);
        summed[d] = to < 0 || (dims[to] == 1 && x->dims[d] != 1);
        fits = summed[d] || dims[to] == x->dims[d];
    }
    if (!fits) return pith_op_fail(x->tape, PITH_E_SHAPE, "sum_to: %s is not repeated from a shape of %d dimensions given", PITH_SHAPE(x), n_dims);
    return sum_dims(x, summed, n_dims, dims);
}

/* ---- running sums ----------------------------------------------------------------------------- */

typedef struct cumsum_work {
    const float *x;
    float *y;
    size_t n;
    bool reverse;
} cumsum_work;

static void cumsum_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const cumsum_work *w = arg;
    for (size_t row = from; row < to; row++) {
        const float *x = w->x + row * w->n;
        float *y = w->y + row * w->n, sum = 0;
        for (size_t i = 0; i < w->n; i++) {
            size_t at = w->reverse ? w->n - 1 - i : i;
            y[at] = sum += x[at];
        }
    }
}

static void cumsum_backward(pith_var *y, pith_var *gy, pith_var **gx) { gx[0] = pith_var_cumsum(gy, !*(const bool *)y->attr); }

pith_var *pith_var_cumsum(pith_var *x, bool reverse)
{
    static const pith_op op = {"cumsum", cumsum_backward};
    size_t axis;
    if (!x || !pith_axis(x, "cumsum", -1, &axis)) return NULL;
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, x->n_dims, x->dims, sizeof reverse);
    if (!y) return NULL;
    *(bool *)y->attr = reverse;
    cumsum_work w = {x->data, y->data, x->dims[axis], reverse};
    if (y->count) pith_op_ranges(y->tape, y->count / w.n, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n), cumsum_rows, &w);
    return y;
}
