/* The same values in another order or shape. */
#include "grad/tape.h"

bool pith_axis(const pith_var *x, const char *op, int axis, size_t *at)
{
    int from_front = axis < 0 ? axis + x->n_dims : axis;
    *at = (size_t)from_front;
    if (from_front >= 0 && from_front < x->n_dims) return true;
    pith_op_fail(x->tape, PITH_E_SHAPE, "%s: %s has no axis %d", op, PITH_SHAPE(x), axis);
    return false;
}

/* ---- reshape ---------------------------------------------------------------------------------- */

static void reshape_backward(pith_var *y, pith_var *gy, pith_var **gx) { gx[0] = pith_var_reshape(gy, y->in[0]->n_dims, y->in[0]->dims); }

pith_var *pith_var_reshape(pith_var *x, int n_dims, const size_t *dims)
{
    static const pith_op op = {"reshape", reshape_backward};
    pith_var *y = pith_op_view(&op, x, 0, n_dims, dims);
    if (y && y->count != x->count) return pith_op_fail(x->tape, PITH_E_SHAPE, "reshape: %s does not have as many values as %s", PITH_SHAPE(x), PITH_SHAPE(y));
    return y;
}

/* ---- permute ---------------------------------------------------------------------------------- */

typedef struct permute_attr {
    int axes[PITH_MAX_DIMS];
} permute_attr;

/* Dimensions of the result with the steps in x that they take; neighbours that stay neighbours taken together. */
typedef struct permute_work {
    int n_dims;
    size_t dims[PITH_MAX_DIMS], step[PITH_MAX_DIMS];
    const float *x;
    float *y;
} permute_work;

static size_t start_of(const permute_work *w, int n_dims, size_t index)
{
    size_t at = 0;
    for (int d = n_dims - 1; d >= 0; d--) {
        at += index % w->dims[d] * w->step[d];
        index /= w->dims[d];
    }
    return at;
}

static void permute_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const permute_work *w = arg;
    int last = w->n_dims - 1;
    size_t n = w->dims[last], step = w->step[last];
    for (size_t row = from; row < to; row++) {
        const float *x = w->x + start_of(w, last, row);
        float *y = w->y + row * n;
        if (step == 1) memcpy(y, x, n * sizeof(float));
        else
            for (size_t i = 0; i < n; i++) y[i] = x[i * step];
    }
}

/* Matrices of which one is the other's transposed. */
static void permute_planes(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const permute_work *w = arg;
    size_t rows = w->dims[w->n_dims - 2], cols = w->dims[w->n_dims - 1];
    for (size_t i = from; i < to; i++) pith_transpose(w->x + start_of(w, w->n_dims - 2, i), cols, rows, w->step[w->n_dims - 1], w->y + i * rows * cols, cols);
}

static void permute_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const permute_attr *a = y->attr;
    int back[PITH_MAX_DIMS];
    for (int d = 0; d < y->n_dims; d++) back[a->axes[d]] = d;
    gx[0] = pith_var_permute(gy, back);
}

pith_var *pith_var_permute(pith_var *x, const int *axes)
{
    static const pith_op op = {"permute", permute_backward};
    if (!x) return NULL;
    permute_attr attr = {{0}};
    permute_work w = {.x = x->data};
    size_t dims[PITH_MAX_DIMS], step[PITH_MAX_DIMS], at = 1;
    unsigned seen = 0;
    for (int d = x->n_dims - 1; d >= 0; d--) {
        step[d] = at;
        at *= x->dims[d];
    }
    for (int d = 0; d < x->n_dims; d++) {
        size_t axis;
        if (!pith_axis(x, "permute", axes[d], &axis)) return NULL;
        seen |= 1u << axis;
        attr.axes[d] = (int)axis;
        dims[d] = x->dims[axis];
        if (dims[d] == 1) continue;
        int last = w.n_dims - 1;
        if (last >= 0 && w.step[last] == step[axis] * dims[d]) {
            w.dims[last] *= dims[d];
            w.step[last] = step[axis];
        } else {
            w.dims[w.n_dims] = dims[d];
            w.step[w.n_dims++] = step[axis];
        }
    }
    if (seen != (1u << x->n_dims) - 1) return pith_op_fail(x->tape, PITH_E_ARGUMENT, "permute: an axis of %s is named twice", PITH_SHAPE(x));
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, x->n_dims, dims, sizeof attr);
    if (!y) return NULL;
    memcpy(y->attr, &attr, sizeof attr);
    if (!y->count) return y;
    w.y = y->data;
    if (w.n_dims == 0) w.dims[w.n_dims] = 1, w.step[w.n_dims++] = 1;
    size_t n = w.dims[w.n_dims - 1];
    if (w.n_dims >= 2 && w.step[w.n_dims - 2] == 1) {
        size_t plane = n * w.dims[w.n_dims - 2];
        pith_op_ranges(y->tape, y->count / plane, PITH_CEIL_DIV(ELEMENT_GRAIN, plane), permute_planes, &w);
    } else {
        pith_op_ranges(y->tape, y->count / n, PITH_CEIL_DIV(ELEMENT_GRAIN, n), permute_rows, &w);
    }
    return y;
}

pith_var *pith_var_transpose(pith_var *x, int axis_a, int axis_b)
{
    size_t a, b;
    if (!x || !pith_axis(x, "transpose", axis_a, &a) || !pith_axis(x, "transpose", axis_b, &b)) return NULL;
    int axes[PITH_MAX_DIMS];
    for (int d = 0; d < x->n_dims; d++) axes[d] = d;
    axes[a] = (int)b;
    axes[b] = (int)a;
    return pith_var_permute(x, axes);
}

/* ---- slice, pad, concat ----------------------------------------------------------------------- */

/* An array as [outer, n, inner] around an axis. */
static void around(const pith_var *x, size_t axis, size_t *outer, size_t *inner)
{
    *outer = *inner = 1;
    for (size_t d = 0; d < axis; d++) *outer *= x->dims[d];
    for (size_t d = axis + 1; d < (size_t)x->n_dims; d++) *inner *= x->dims[d];
}

typedef struct copy_work {
    const float *x;
    float *y;
    size_t n, step_x, step_y; /* values a row, and from row to row */
} copy_work;

static void copy_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const copy_work *w = arg;
    for (size_t i = from; i < to; i++) memcpy(w->y + i * w->step_y, w->x + i * w->step_x, w->n * sizeof(float));
}

static void copy(pith_tape *tape, size_t rows, copy_work w)
{
    if (w.n) pith_op_ranges(tape, rows, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n), copy_rows, &w);
}

typedef struct slice_attr {
    size_t axis, from;
} slice_attr;

static void slice_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const slice_attr *a = y->attr;
    pith_var *x = y->in[0];
    size_t outer, inner;
    if (!pith_recording(y->tape)) { /* often others take the rest of x: no array of zeros for each */
        around(x, a->axis, &outer, &inner);
        if (pith_wanted(x)) pith_op_add_piece(x, gy->data, outer, y->dims[a->axis] * inner, x->dims[a->axis] * inner, a->from * inner);
        return;
    }
    gx[0] = pith_var_pad(gy, (int)a->axis, a->from, x->dims[a->axis] - a->from - y->dims[a->axis]);
}

pith_var *pith_var_slice(pith_var *x, int axis, size_t from, size_t n)
{
    static const pith_op op = {"slice", slice_backward};
    slice_attr attr = {0, from};
    if (!x || !pith_axis(x, "slice", axis, &attr.axis)) return NULL;
    if (from > x->dims[attr.axis] || n > x->dims[attr.axis] - from)
        return pith_op_fail(x->tape, PITH_E_SHAPE, "slice: %zu values from %zu on are not all in axis %d of %s", n, from, axis, PITH_SHAPE(x));
    size_t dims[PITH_MAX_DIMS], outer, inner;
    memcpy(dims, x->dims, sizeof dims);
    dims[attr.axis] = n;
    around(x, attr.axis, &outer, &inner);
    if (outer == 1) {
        pith_var *y = pith_op_view(&op, x, x->count ? from * inner : 0, x->n_dims, dims);
        if (!y || !(y->attr = pith_op_attr(x->tape, 1, sizeof attr))) return NULL;
        memcpy(y->attr, &attr, sizeof attr);
        return y;
    }
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, x->n_dims, dims, sizeof attr);
    if (!y) return NULL;
    memcpy(y->attr, &attr, sizeof attr);
    if (y->count) copy(x->tape, outer, (copy_work){x->data + from * inner, y->data, n * inner, x->dims[attr.axis] * inner, n * inner});
    return y;
}

static void pad_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const slice_attr *a = y->attr;
    gx[0] = pith_var_slice(gy, (int)a->axis, a->from, y->in[0]->dims[a->axis]);
}

pith_var *pith_var_pad(pith_var *x, int axis, size_t before, size_t after)
{
    static const pith_op op = {"pad", pad_backward};
    slice_attr attr = {0, before};
    if (!x || !pith_axis(x, "pad", axis, &attr.axis)) return NULL;
    size_t dims[PITH_MAX_DIMS], outer, inner, n = x->dims[attr.axis];
    memcpy(dims, x->dims, sizeof dims);
    if (!pith_add(before, after, &dims[attr.axis]) || !pith_add(dims[attr.axis], n, &dims[attr.axis])) dims[attr.axis] = SIZE_MAX;
    around(x, attr.axis, &outer, &inner);
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, x->n_dims, dims, sizeof attr);
    if (!y) return NULL;
    memcpy(y->attr, &attr, sizeof attr);
    if (y->count && (before || after)) memset(y->data, 0, y->count * sizeof(float));
    if (x->count) copy(x->tape, outer, (copy_work){x->data, y->data + before * inner, n * inner, n * inner, dims[attr.axis] * inner});
    return y;
}

static void concat_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const slice_attr *a = y->attr;
    size_t at = 0;
    for (int i = 0; i < y->n_in; i++) {
        size_t n = y->in[i]->dims[a->axis];
        if (pith_wanted(y->in[i])) gx[i] = pith_var_slice(gy, (int)a->axis, at, n);
        at += n;
    }
}

pith_var *pith_var_concat(pith_var *const *x, size_t n, int axis)
{
    static const pith_op op = {"concat", concat_backward};
    slice_attr attr = {0, 0};
    for (size_t i = 0; i < n; i++)
        if (!x[i]) return NULL;
    if (n == 0 || n > INT32_MAX || !pith_axis(x[0], "concat", axis, &attr.axis)) return NULL;
    size_t dims[PITH_MAX_DIMS], outer, inner, total = 0;
    memcpy(dims, x[0]->dims, sizeof dims);
    for (size_t i = 0; i < n; i++) {
        bool fits = x[i]->n_dims == x[0]->n_dims;
        for (int d = 0; fits && d < x[0]->n_dims; d++) fits = (size_t)d == attr.axis || x[i]->dims[d] == dims[d];
        if (!fits) return pith_op_fail(x[0]->tape, PITH_E_SHAPE, "concat: %s and %s differ beside axis %d", PITH_SHAPE(x[0]), PITH_SHAPE(x[i]), axis);
        total += x[i]->dims[attr.axis];
    }
    dims[attr.axis] = total;
    around(x[0], attr.axis, &outer, &inner);
    pith_var *y = pith_op_value(x[0]->tape, &op, x, (int)n, x[0]->n_dims, dims, sizeof attr);
    if (!y) return NULL;
    memcpy(y->attr, &attr, sizeof attr);
    for (size_t i = 0, at = 0; i < n; i++) {
        size_t row = x[i]->dims[attr.axis] * inner;
        if (x[i]->count) copy(y->tape, outer, (copy_work){x[i]->data, y->data + at, row, row, total * inner});
        at += row;
    }
    return y;
}
