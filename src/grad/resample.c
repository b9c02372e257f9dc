/* Pooling and interpolation of space [n, channels, space..]: each value is a weighted sum of a few of the space before, by
 * one table for all channels.  The gradient is the same table the other way. */
#include <math.h>

#include "grad/tape.h"

typedef struct table {
    size_t n_in, n_out, taps;
    int32_t *index;  /* [n_out, taps]; -1: none */
    float *weight;
    int n_space;
    size_t in[3], out[3];
    bool back;       /* from out to in */
} table;

typedef struct table_work {
    const table *t;
    const float *x;
    float *y;
} table_work;

static void planes(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const table_work *w = arg;
    const table *t = w->t;
    for (size_t plane = from; plane < to; plane++) {
        const float *x = w->x + plane * (t->back ? t->n_out : t->n_in);
        float *y = w->y + plane * (t->back ? t->n_in : t->n_out);
        if (t->back) memset(y, 0, t->n_in * sizeof *y);
        for (size_t o = 0; o < t->n_out; o++) {
            const int32_t *index = t->index + o * t->taps;
            const float *weight = t->weight + o * t->taps;
            float sum = 0;
            for (size_t k = 0; k < t->taps; k++) {
                if (index[k] < 0) continue;
                if (t->back) y[index[k]] += weight[k] * x[o];
                else sum += weight[k] * x[index[k]];
            }
            if (!t->back) y[o] = sum;
        }
    }
}

/* Dimensions of a value of this space. */
static int dims_of(const pith_var *x, const table *t, const size_t *space, size_t dims[5])
{
    dims[0] = x->dims[0];
    dims[1] = x->dims[1];
    memcpy(dims + 2, space, (size_t)t->n_space * sizeof *space);
    return t->n_space + 2;
}

static pith_var *resample(pith_var *x, const table *t);

static void resample_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    table t = *(const table *)y->attr;
    t.back = !t.back;
    gx[0] = resample(gy, &t);
}

static pith_var *resample(pith_var *x, const table *t)
{
    static const pith_op op = {"resample", resample_backward};
    if (!x) return NULL;
    size_t dims[5];
    int n_dims = dims_of(x, t, t->back ? t->in : t->out, dims);
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, n_dims, dims, sizeof *t);
    if (!y) return NULL;
    memcpy(y->attr, t, sizeof *t);
    table_work w = {y->attr, x->data, y->data};
    pith_op_ranges(y->tape, x->dims[0] * x->dims[1], PITH_CEIL_DIV(ELEMENT_GRAIN, t->n_out * t->taps + 1), planes, &w);
    return y;
}

/* A table of the space of x, of t->n_space dimensions, to t->out; entries -1. */
static bool new_table(const char *name, pith_var *x, table *t)
{
    t->n_in = t->n_out = 1;
    bool fits = x->n_dims == t->n_space + 2, small = true;
    for (int d = 0; fits && d < t->n_space; d++) {
        t->in[d] = x->dims[2 + d];
        fits = t->in[d] > 0 && t->in[d] <= INT32_MAX / t->n_in;
        if (fits) t->n_in *= t->in[d];
    }
    if (!fits) {
        pith_op_fail(x->tape, PITH_E_SHAPE, "%s: %s is not [n, channels] and %d dimensions of space", name, PITH_SHAPE(x), t->n_space);
        return false;
    }
    size_t n = t->taps;
    for (int d = 0; small && d < t->n_space; d++) small = pith_mul(t->n_out, t->out[d], &t->n_out);
    if (!small || !pith_mul(n, t->n_out, &n) || n > MAX_COUNT) {
        pith_op_fail(x->tape, PITH_E_LIMIT, "%s: a result of %zu by %zu is too large", name, t->out[0], t->out[1]);
        return false;
    }
    t->index = pith_op_attr(x->tape, n, sizeof *t->index);
    t->weight = pith_op_attr(x->tape, n, sizeof *t->weight);
    if (!t->index || !t->weight) return false;
    for (size_t i = 0; i < n; i++) t->index[i] = -1, t->weight[i] = 0;
    return true;
}

/* ---- pooling ---------------------------------------------------------------------------------- */

/* A table of each window's places, weight 1 over their number; without padding's */
static bool windows(const char *name, pith_var *x, const pith_pool_window *w, table *t)
{
    *t = (table){.n_space = x->n_dims - 2, .taps = 1};
    size_t stride[3] = {0};
    bool fits = t->n_space >= 1 && t->n_space <= 3;
    for (int d = 0; fits && d < t->n_space; d++) {
        size_t n = x->dims[2 + d], k = w->size[d], p = w->padding[d];
        stride[d] = w->stride[d] ? w->stride[d] : k;
        fits = k > 0 && p < k && p <= INT32_MAX && n + 2 * p >= k && pith_mul(t->taps, k, &t->taps);
        if (fits) t->out[d] = (n + 2 * p - k) / stride[d] + 1;
    }
    if (!fits) {
        pith_op_fail(x->tape, PITH_E_SHAPE, "%s: windows of [%zu, %zu, %zu], padding [%zu, %zu, %zu], over %s", name, w->size[0], w->size[1], w->size[2], w->padding[0], w->padding[1], w->padding[2], PITH_SHAPE(x));
        return false;
    }
    if (!new_table(name, x, t)) return false;
    for (size_t o = 0; o < t->n_out; o++) {
        size_t n = 0;
        for (size_t k = 0; k < t->taps; k++) {
            size_t index = 0, step = 1, rest_o = o, rest_k = k;
            bool inside = true;
            for (int d = t->n_space - 1; d >= 0; d--) {
                size_t at = rest_o % t->out[d] * stride[d] + rest_k % w->size[d] - w->padding[d]; /* before the first: huge */
                inside &= at < t->in[d];
                index += at * step;
                step *= t->in[d];
                rest_o /= t->out[d];
                rest_k /= w->size[d];
            }
            if (inside) t->index[o * t->taps + n++] = (int32_t)index;
        }
        for (size_t k = 0; k < n; k++) t->weight[o * t->taps + k] = 1 / (float)n;
    }
    return true;
}

pith_var *pith_var_avg_pool(pith_var *x, const pith_pool_window *w)
{
    table t;
    return x && windows("avg_pool", x, w, &t) ? resample(x, &t) : NULL;
}

typedef struct max_work {
    const table *t;
    const float *x;
    int32_t *index;
} max_work;

static void find_largest(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const max_work *w = arg;
    const table *t = w->t;
    for (size_t plane = from; plane < to; plane++) {
        const float *x = w->x + plane * t->n_in;
        for (size_t o = 0; o < t->n_out; o++) {
            const int32_t *index = t->index + o * t->taps;
            int32_t best = index[0];
            for (size_t k = 1; k < t->taps && index[k] >= 0; k++) best = x[index[k]] > x[best] ? index[k] : best;
            w->index[plane * t->n_out + o] = best;
        }
    }
}

pith_var *pith_var_max_pool(pith_var *x, const pith_pool_window *w)
{
    table t;
    if (!x || !windows("max_pool", x, w, &t)) return NULL;
    size_t n_planes = x->dims[0] * x->dims[1];
    int32_t *index = pith_op_attr(x->tape, n_planes * t.n_out, sizeof *index);
    if (!index) return NULL;
    max_work work = {&t, x->data, index};
    pith_op_ranges(x->tape, n_planes, PITH_CEIL_DIV(ELEMENT_GRAIN, t.n_out * t.taps + 1), find_largest, &work);
    pith_var *flat = pith_var_reshape(x, PITH_DIMS(x->dims[0], x->dims[1], t.n_in));
    size_t dims[5];
    int n_dims = dims_of(x, &t, t.out, dims);
    return pith_var_reshape(flat ? pith_gather(flat, index, t.n_out) : NULL, n_dims, dims);
}

/* ---- interpolation ---------------------------------------------------------------------------- */

/* Where value o of n_out lies among n_in when both span the same length: two neighbours and the second's share. */
static void between(size_t o, size_t n_out, size_t n_in, size_t at[2], float *share)
{
    double x = ((double)o + 0.5) * (double)n_in / (double)n_out - 0.5;
    if (x < 0) x = 0;
    at[0] = PITH_MIN((size_t)x, n_in - 1);
    at[1] = PITH_MIN(at[0] + 1, n_in - 1);
    *share = (float)(x - (double)at[0]);
}

pith_var *pith_var_interpolate(pith_var *x, size_t height, size_t width, bool linear)
{
    table t = {.n_space = 2, .taps = linear ? 4 : 1, .out = {height, width}};
    if (!x || !new_table("interpolate", x, &t)) return NULL;
    for (size_t o = 0; o < t.n_out; o++) {
        size_t i[2], j[2], o0 = o / width, o1 = o % width;
        if (!linear) {
            t.index[o] = (int32_t)(o0 * t.in[0] / height * t.in[1] + o1 * t.in[1] / width);
            t.weight[o] = 1;
            continue;
        }
        float share0, share1;
        between(o0, height, t.in[0], i, &share0);
        between(o1, width, t.in[1], j, &share1);
        for (int k = 0; k < 4; k++) {
            t.index[o * 4 + (size_t)k] = (int32_t)(i[k / 2] * t.in[1] + j[k % 2]);
            t.weight[o * 4 + (size_t)k] = (k / 2 ? share0 : 1 - share0) * (k % 2 ? share1 : 1 - share1);
        }
    }
    return resample(x, &t);
}
