/* Values chosen and placed by index. */
#include "grad/tape.h"

typedef struct index_attr {
    const int32_t *index;
    size_t m; /* indices, all or a row's */
} index_attr;

/* The indices, checked and copied into the step's memory. */
static const int32_t *copy_index(pith_tape *tape, const char *op, const int32_t *index, size_t count, size_t limit)
{
    int32_t *copy = pith_op_attr(tape, count, sizeof *copy);
    if (!copy) return NULL;
    for (size_t i = 0; i < count; i++) {
        if (index[i] < 0 || (size_t)index[i] >= limit) {
            pith_op_fail(tape, PITH_E_ARGUMENT, "%s: index %d at %zu is not in 0..%zu", op, (int)index[i], i, limit ? limit - 1 : 0);
            return NULL;
        }
        copy[i] = index[i];
    }
    return copy;
}

/* ---- rows ------------------------------------------------------------------------------------- */

typedef struct rows_work {
    const pith_loops *loops;
    const float *x;
    float *y;
    const int32_t *index;
    size_t n, d, rows;
} rows_work;

static void take_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const rows_work *w = arg;
    for (size_t i = from; i < to; i++) memcpy(w->y + i * w->d, w->x + (size_t)w->index[i] * w->d, w->d * sizeof(float));
}

/* Each task has the rows from..to-1 of y for itself, and looks for what belongs there. */
static void add_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const rows_work *w = arg;
    memset(w->y + from * w->d, 0, (to - from) * w->d * sizeof(float));
    for (size_t i = 0; i < w->n; i++) {
        size_t row = (size_t)w->index[i];
        if (row < from || row >= to) continue;
        float *y = w->y + row * w->d;
        w->loops->binary(PITH_BINARY_ADD, y, 1, w->x + i * w->d, 1, y, w->d);
    }
}

static pith_var *index_add(pith_var *x, const int32_t *index, size_t n, size_t rows, size_t d);

static void rows_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const index_attr *a = y->attr;
    const pith_var *w = y->in[0];
    gx[0] = index_add(pith_var_reshape(gy, PITH_DIMS(a->m, w->dims[1])), a->index, a->m, w->dims[0], w->dims[1]);
}

static pith_var *rows(pith_var *w, const int32_t *index, size_t n, int n_dims, const size_t *dims)
{
    static const pith_op op = {"rows", rows_backward};
    pith_var *y = pith_op_value(w->tape, &op, &w, 1, n_dims, dims, sizeof(index_attr));
    if (!y) return NULL;
    *(index_attr *)y->attr = (index_attr){index, n};
    rows_work work = {y->tape->loops, w->data, y->data, index, n, w->dims[1], w->dims[0]};
    if (y->count) pith_op_ranges(y->tape, n, PITH_CEIL_DIV(ELEMENT_GRAIN, work.d), take_rows, &work);
    return y;
}

pith_var *pith_var_rows(pith_var *w, const int32_t *index, int n_dims, const size_t *dims)
{
    if (!w) return NULL;
    if (w->n_dims != 2 || n_dims < 0 || n_dims >= PITH_MAX_DIMS) return pith_op_fail(w->tape, PITH_E_SHAPE, "rows: of %s, with indices of %d dimensions", PITH_SHAPE(w), n_dims);
    size_t n = 1, all[PITH_MAX_DIMS];
    for (int i = 0; i < n_dims; i++) {
        all[i] = dims[i];
        if (!pith_mul(n, dims[i], &n) || n > MAX_COUNT) return pith_op_fail(w->tape, PITH_E_LIMIT, "rows: too many indices");
    }
    all[n_dims] = w->dims[1];
    const int32_t *copy = copy_index(w->tape, "rows", index, n, w->dims[0]);
    return copy ? rows(w, copy, n, n_dims + 1, all) : NULL;
}

static void index_add_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const index_attr *a = y->attr;
    gx[0] = rows(gy, a->index, a->m, 2, y->in[0]->dims);
}

static pith_var *index_add(pith_var *x, const int32_t *index, size_t n, size_t n_rows, size_t d)
{
    static const pith_op op = {"index_add", index_add_backward};
    if (!x) return NULL;
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, PITH_DIMS(n_rows, d), sizeof(index_attr));
    if (!y) return NULL;
    *(index_attr *)y->attr = (index_attr){index, n};
    rows_work work = {y->tape->loops, x->data, y->data, index, n, d, n_rows};
    size_t few = PITH_CEIL_DIV(n_rows, (size_t)16), much = PITH_CEIL_DIV(ELEMENT_GRAIN, d + 1);
    if (y->count) pith_op_ranges(y->tape, n_rows, PITH_MAX(few, much), add_rows, &work);
    return y;
}

pith_var *pith_var_index_add(pith_var *x, const int32_t *index, size_t n_rows)
{
    if (!x) return NULL;
    if (x->n_dims != 2) return pith_op_fail(x->tape, PITH_E_SHAPE, "index_add: %s does not have two dimensions", PITH_SHAPE(x));
    const int32_t *copy = copy_index(x->tape, "index_add", index, x->dims[0], n_rows);
    return copy ? index_add(x, copy, x->dims[0], n_rows, x->dims[1]) : NULL;
}

/* ---- along the last axis ---------------------------------------------------------------------- */

typedef struct last_work {
    const float *x;
    float *y;
    const int32_t *index;
    size_t n, m; /* x [.., n] gathers to y [.., m]; x [.., m] scatters to y [.., n] */
} last_work;

static void gather_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const last_work *w = arg;
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < w->m; i++) w->y[r * w->m + i] = w->x[r * w->n + (size_t)w->index[r * w->m + i]];
}

static void scatter_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const last_work *w = arg;
    memset(w->y + from * w->n, 0, (to - from) * w->n * sizeof(float));
    for (size_t r = from; r < to; r++)
        for (size_t i = 0; i < w->m; i++) w->y[r * w->n + (size_t)w->index[r * w->m + i]] += w->x[r * w->m + i];
}

static void gather_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const index_attr *a = y->attr;
    gx[0] = pith_scatter_add(gy, a->index, y->in[0]->dims[y->n_dims - 1]);
}

static void scatter_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const index_attr *a = y->attr;
    gx[0] = pith_gather(gy, a->index, a->m);
}

/* Along the last axis of x, which becomes `to` long; index stays until the step ends. */
static pith_var *along(const pith_op *op, pith_var *x, const int32_t *index, size_t to, bool scatter)
{
    if (!x) return NULL;
    size_t dims[PITH_MAX_DIMS], from = x->dims[x->n_dims - 1];
    memcpy(dims, x->dims, sizeof dims);
    dims[x->n_dims - 1] = to;
    pith_var *y = pith_op_value(x->tape, op, &x, 1, x->n_dims, dims, sizeof(index_attr));
    if (!y) return NULL;
    *(index_attr *)y->attr = (index_attr){index, scatter ? from : to};
    last_work w = {x->data, y->data, index, scatter ? to : from, scatter ? from : to};
    if (y->count) pith_op_ranges(y->tape, y->count / to, PITH_CEIL_DIV(ELEMENT_GRAIN, PITH_MAX(from, to)), scatter ? scatter_rows : gather_rows, &w);
    return y;
}

static const pith_op gather_op = {"gather", gather_backward}, scatter_op = {"scatter_add", scatter_backward};

pith_var *pith_gather(pith_var *x, const int32_t *index, size_t m) { return along(&gather_op, x, index, m, false); }
pith_var *pith_scatter_add(pith_var *x, const int32_t *index, size_t n) { return along(&scatter_op, x, index, n, true); }

static size_t rows_of(const pith_var *x)
{
    size_t n = 1;
    for (int d = 0; d < x->n_dims - 1; d++) n *= x->dims[d];
    return n;
}

pith_var *pith_var_gather(pith_var *x, const int32_t *index, size_t m)
{
    size_t axis;
    if (!x || !pith_axis(x, "gather", -1, &axis)) return NULL;
    if (m > MAX_COUNT) return pith_op_fail(x->tape, PITH_E_LIMIT, "gather: too many indices");
    const int32_t *copy = copy_index(x->tape, "gather", index, rows_of(x) * m, x->dims[axis]);
    return copy ? pith_gather(x, copy, m) : NULL;
}

pith_var *pith_var_scatter_add(pith_var *x, const int32_t *index, size_t n)
{
    size_t axis;
    if (!x || !pith_axis(x, "scatter_add", -1, &axis)) return NULL;
    const int32_t *copy = copy_index(x->tape, "scatter_add", index, x->count, n);
    return copy ? pith_scatter_add(x, copy, n) : NULL;
}

/* ---- sorting ---------------------------------------------------------------------------------- */

typedef struct sort_work {
    const float *x;
    int32_t *index, *spare; /* [rows, k]; [worker, 2 n] */
    size_t n, k;
} sort_work;

/* Bottom-up merge sort of 0..n-1 by x, the largest first, the first of equals first.  The result is a or b. */
static int32_t *sort_row(const float *x, size_t n, int32_t *a, int32_t *b)
{
    for (size_t i = 0; i < n; i++) a[i] = (int32_t)i;
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t start = 0; start < n; start += 2 * run) {
            size_t i = start, mid = PITH_MIN(start + run, n), j = mid, end = PITH_MIN(start + 2 * run, n);
            for (size_t to = start; to < end; to++) b[to] = j >= end || (i < mid && !(x[a[j]] > x[a[i]])) ? a[i++] : a[j++];
        }
        int32_t *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

static void sort_rows(void *arg, size_t from, size_t to, int worker)
{
    const sort_work *w = arg;
    int32_t *a = w->spare + (size_t)worker * 2 * w->n;
    for (size_t r = from; r < to; r++) {
        const float *x = w->x + r * w->n;
        if (w->k == 1) w->index[r] = (int32_t)pith_argmax(x, w->n);
        else memcpy(w->index + r * w->k, sort_row(x, w->n, a, a + w->n), w->k * sizeof *a);
    }
}

pith_var *pith_var_top_k(pith_var *x, size_t k, const int32_t **index)
{
    size_t axis;
    if (!x || !pith_axis(x, "top_k", -1, &axis)) return NULL;
    size_t n = x->dims[axis], rows_x = rows_of(x);
    if (k > n || n > INT32_MAX) return pith_op_fail(x->tape, PITH_E_SHAPE, "top_k: %zu of the last axis of %s", k, PITH_SHAPE(x));
    int32_t *found = pith_op_attr(x->tape, rows_x * k, sizeof *found);
    pith_block *spare = found ? pith_op_take(x->tape, (size_t)pith_n_threads(x->tape->ctx) * 2 * n) : NULL;
    if (!spare) return NULL;
    sort_work w = {x->data, found, (int32_t *)(void *)pith_op_floats(spare), n, k};
    if (k) pith_op_ranges(x->tape, rows_x, PITH_CEIL_DIV(ELEMENT_GRAIN / 8, n), sort_rows, &w);
    pith_op_drop(x->tape, spare);
    if (index) *index = found;
    return pith_gather(x, found, k);
}

pith_var *pith_var_max_last(pith_var *x) { return pith_var_top_k(x, 1, NULL); }
