/* Layer, RMS, group and batch normalisation: all are rows (or, for a batch, channels) brought to mean 0 and mean
 * square 1, then a gain and a bias.  Where both follow they are one operation with it: less is kept, and both gradients
 * come of the sums that the one by x takes.  Passes that are recorded make the two again. */
#include <math.h>

#include "grad/tape.h"

typedef struct norm_attr {
    float eps;
    bool center;
    float *mean, *r; /* [rows]: (x - mean) r is normal */
    size_t rows;
} norm_attr;

/* For y, which may be NULL.  NULL: no memory. */
static norm_attr *new_attr(pith_var *y, float eps, bool center, size_t rows)
{
    if (!y) return NULL;
    norm_attr *a = y->attr;
    *a = (norm_attr){eps, center, pith_op_attr(y->tape, rows, sizeof(float)), pith_op_attr(y->tape, rows, sizeof(float)), rows};
    return a->mean && a->r ? a : NULL;
}

/* Room for the gradients that are wanted.  false: no memory */
static bool make_gradients(pith_var *y, const pith_op *back, pith_var **gx)
{
    for (int i = 0; i < y->n_in; i++) {
        const pith_var *in = y->in[i];
        if (pith_wanted(in) && !(gx[i] = pith_op_value(y->tape, back, NULL, 0, in->n_dims, in->dims, 0))) return false;
    }
    return true;
}

typedef struct norm_work {
    const pith_loops *loops;
    norm_attr *a;
    const float *x, *g, *gain, *bias;    /* gain, bias: of values of a row; NULL: none */
    float *y;                            /* backward: the gradient by x, NULL: not wanted */
    size_t n;
    float *parts;                        /* backward: by gain and bias, [rows / BLOCK, 2, n]; NULL: not wanted */
} norm_work;

#define BLOCK ((size_t)64) /* rows whose gradients by gain and bias are added up one after the other */

static void normalize_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const norm_work *w = arg;
    for (size_t i = from; i < to; i++) {
        const float *x = w->x + i * w->n;
        float mean = w->a->center ? w->loops->sum(x, w->n) / (float)w->n : 0;
        w->a->mean[i] = mean;
        w->a->r[i] = 1 / sqrtf(w->loops->spread(x, w->n, mean) / (float)w->n + w->a->eps);
        w->loops->normalize(x, mean, w->a->r[i], w->gain, w->bias, w->y + i * w->n, w->n);
    }
}

/* gx = r (g - mean(g) - xhat mean(g xhat)); without centring the first mean is left out */
static void normalize_row_back(const norm_work *w, size_t i, const float *g)
{
    const float *x = w->x + i * w->n;
    float mean = w->a->mean[i], r = w->a->r[i], sum = w->loops->sum(g, w->n), n = (float)w->n;
    float along = (w->loops->dot(x, g, w->n) - mean * sum) * r / n;
    w->loops->center_back(x, mean, g, r, w->a->center ? r * (sum / n) : 0, r * r * along, w->y + i * w->n, w->n);
}

static void normalize_rows_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const norm_work *w = arg;
    for (size_t i = from; i < to; i++) normalize_row_back(w, i, w->g + i * w->n);
}

/* The same, of operations: r from x again, xhat is y.  axes: over which y is normal. */
static pith_var *back_recorded(pith_var *y, pith_var *gy, unsigned axes)
{
    const norm_attr *a = y->attr;
    pith_var *x = y->in[0], *d = a->center ? pith_var_sub(x, pith_var_mean(x, axes)) : x;
    pith_var *r = pith_var_rsqrt(pith_var_affine(pith_var_mean(pith_var_square(d), axes), 1, a->eps));
    pith_var *g = a->center ? pith_var_sub(gy, pith_var_mean(gy, axes)) : gy;
    return pith_var_mul(r, pith_var_sub(g, pith_var_mul(y, pith_var_mean(pith_var_mul(gy, y), axes))));
}

static void normalize_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"normalize_back", NULL};
    pith_var *x = y->in[0];
    norm_attr *a = y->attr;
    if (pith_recording(y->tape)) {
        gx[0] = back_recorded(y, gy, PITH_AXIS(x->n_dims - 1));
        return;
    }
    pith_var *g = pith_op_value(y->tape, &back, NULL, 0, x->n_dims, x->dims, 0);
    if (!g) return;
    norm_work w = {.loops = y->tape->loops, .a = a, .x = x->data, .g = gy->data, .y = g->data, .n = x->dims[x->n_dims - 1]};
    if (g->count) pith_op_ranges(y->tape, g->count / w.n, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n), normalize_rows_back, &w);
    gx[0] = g;
}

pith_var *pith_var_normalize(pith_var *x, float eps, bool center)
{
    static const pith_op op = {"normalize", normalize_backward};
    size_t axis;
    if (!x || !pith_axis(x, "normalize", -1, &axis)) return NULL;
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, x->n_dims, x->dims, sizeof(norm_attr));
    size_t n = x->dims[axis], rows = n ? x->count / n : 0;
    norm_attr *a = new_attr(y, eps, center, rows);
    if (!a) return NULL;
    norm_work w = {.loops = x->tape->loops, .a = a, .x = x->data, .y = y->data, .n = n};
    if (y->count) pith_op_ranges(x->tape, rows, PITH_CEIL_DIV(ELEMENT_GRAIN, n), normalize_rows, &w);
    return y;
}

/* times gain plus bias, of which either may be missing; shaped as they are to be repeated */
static pith_var *scaled(const char *op, pith_var *y, pith_var *gain, pith_var *bias, size_t n, int n_dims, const size_t *dims)
{
    pith_var *of[] = {gain, bias};
    for (int i = 0; y && i < 2; i++) {
        if (!of[i]) continue;
        if (of[i]->count != n) return pith_op_fail(y->tape, PITH_E_SHAPE, "%s: %s %s, for %zu values", op, i ? "bias" : "gain", PITH_SHAPE(of[i]), n);
        pith_var *p = pith_var_reshape(of[i], n_dims, dims);
        y = i ? pith_var_add(y, p) : pith_var_mul(y, p);
    }
    return y;
}

/* ---- rows with gain and bias ------------------------------------------------------------------ */

/* Blocks from..to-1 of rows.  The gradient times the gain takes its place in gx, from which gx is made. */
static void scaled_rows_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const norm_work *w = arg;
    size_t rows = w->a->rows;
    for (size_t block = from; block < to; block++) {
        float *by_gain = w->parts ? w->parts + block * 2 * w->n : NULL, *by_bias = w->parts && w->bias ? by_gain + w->n : NULL;
        if (by_gain) memset(by_gain, 0, 2 * w->n * sizeof *by_gain);
        for (size_t i = block * BLOCK; i < PITH_MIN((block + 1) * BLOCK, rows); i++) {
            const float *g = w->g + i * w->n;
            if (by_gain) w->loops->gain_back(w->x + i * w->n, w->a->mean[i], w->a->r[i], g, by_gain, by_bias, w->n);
            if (!w->y) continue;
            w->loops->binary(PITH_BINARY_MUL, g, 1, w->gain, 1, w->y + i * w->n, w->n);
            normalize_row_back(w, i, w->y + i * w->n);
        }
    }
}

static pith_var *remake_rows(pith_var *y)
{
    const norm_attr *a = y->attr;
    pith_var *x = y->in[0];
    return scaled(y->op->name, pith_var_normalize(x, a->eps, a->center), y->in[1], y->n_in > 2 ? y->in[2] : NULL, x->dims[x->n_dims - 1], PITH_DIMS(x->dims[x->n_dims - 1]));
}

static void scaled_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"scaled_rows_back", NULL};
    if (pith_op_remake(y, gy, remake_rows)) return;
    pith_var *x = y->in[0], *gain = y->in[1], *bias = y->n_in > 2 ? y->in[2] : NULL;
    norm_attr *a = y->attr;
    size_t n = gain->count, blocks = PITH_CEIL_DIV(a->rows, BLOCK);
    if (!make_gradients(y, &back, gx)) return;
    bool params = gx[1] || (bias && gx[2]);
    pith_block *parts = params ? pith_op_take(y->tape, blocks * 2 * n) : NULL;
    if (params && !parts) return;
    norm_work w = {.loops = y->tape->loops, .a = a, .x = x->data, .g = gy->data, .gain = gain->data, .bias = bias ? bias->data : NULL, .y = gx[0] ? gx[0]->data : NULL, .n = n, .parts = parts ? pith_op_floats(parts) : NULL};
    pith_op_ranges(y->tape, blocks, PITH_CEIL_DIV(ELEMENT_GRAIN, BLOCK * n), scaled_rows_back, &w);
    for (int i = 1; i < y->n_in; i++) {
        if (!gx[i]) continue;
        memset(gx[i]->data, 0, n * sizeof(float));
        for (size_t block = 0; block < blocks; block++) y->tape->loops->axpy(gx[i]->data, w.parts + (block * 2 + (size_t)i - 1) * n, 1, n);
    }
    pith_op_drop(y->tape, parts);
}

/* bias NULL: none */
static pith_var *scaled_rows(const pith_op *op, pith_var *x, pith_var *gain, pith_var *bias, float eps, bool center)
{
    size_t axis;
    if (!x || !pith_axis(x, op->name, -1, &axis)) return NULL;
    size_t n = x->dims[axis];
    if (!x->count || !gain || gain->count != n || (bias && bias->count != n)) return scaled(op->name, pith_var_normalize(x, eps, center), gain, bias, n, PITH_DIMS(n));
    pith_var *in[] = {x, gain, bias}, *y = pith_op_value(x->tape, op, in, bias ? 3 : 2, x->n_dims, x->dims, sizeof(norm_attr));
    size_t rows = x->count / n;
    norm_attr *a = new_attr(y, eps, center, rows);
    if (!a) return NULL;
    norm_work w = {.loops = x->tape->loops, .a = a, .x = x->data, .gain = gain->data, .bias = bias ? bias->data : NULL, .y = y->data, .n = n};
    pith_op_ranges(x->tape, rows, PITH_CEIL_DIV(ELEMENT_GRAIN, n), normalize_rows, &w);
    return y;
}

pith_var *pith_var_layer_norm(pith_var *x, pith_var *gain, pith_var *bias, float eps)
{
    static const pith_op op = {"layer_norm", scaled_backward};
    return scaled_rows(&op, x, gain, bias, eps, true);
}

pith_var *pith_var_rms_norm(pith_var *x, pith_var *gain, float eps)
{
    static const pith_op op = {"rms_norm", scaled_backward};
    return scaled_rows(&op, x, gain, NULL, eps, false);
}

/* ---- gain and bias of channels ---------------------------------------------------------------- */

#define PLANE 16 /* values of a channel side by side, from which on it is worked on in planes */

static size_t plane_of(const pith_var *x) { return x->count ? x->count / (x->dims[0] * x->dims[1]) : 0; }

/* y = gain x + bias, or gx = gain g with the sums that are the gradients by gain and bias. */
typedef struct scale_work {
    const pith_loops *loops;
    const float *x, *gain, *bias, *g;
    float *y, *g_gain, *g_bias;          /* each may be NULL */
    size_t n, channels, plane;
} scale_work;

static void scale_planes(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const scale_work *w = arg;
    for (size_t i = from; i < to; i++) {
        size_t c = i % w->channels, at = i * w->plane;
        w->loops->unary(PITH_UNARY_AFFINE, 0, w->gain[c], w->bias[c], w->x + at, NULL, w->y + at, w->plane);
    }
}

static void scale_channels_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const scale_work *w = arg;
    for (size_t c = from; c < to; c++) {
        double along = 0, sum = 0;
        for (size_t i = 0; i < w->n; i++) {
            size_t at = (i * w->channels + c) * w->plane;
            if (w->g_gain) along += (double)w->loops->dot(w->x + at, w->g + at, w->plane);
            if (w->g_bias) sum += (double)w->loops->sum(w->g + at, w->plane);
            if (w->y) w->loops->unary(PITH_UNARY_AFFINE, 0, w->gain[c], 0, w->g + at, NULL, w->y + at, w->plane);
        }
        if (w->g_gain) w->g_gain[c] = (float)along;
        if (w->g_bias) w->g_bias[c] = (float)sum;
    }
}

static void scale_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"scale_channels_back", NULL};
    pith_var *x = y->in[0], *gain = y->in[1], *bias = y->in[2];
    size_t dims[PITH_MAX_DIMS] = {x->dims[1], 1, 1, 1, 1, 1, 1, 1};
    if (pith_recording(y->tape)) {
        gx[0] = pith_var_mul(gy, pith_var_reshape(gain, x->n_dims - 1, dims));
        gx[1] = pith_var_reshape(pith_var_sum_to(pith_var_mul(gy, x), x->n_dims - 1, dims), gain->n_dims, gain->dims);
        gx[2] = pith_var_reshape(pith_var_sum_to(gy, x->n_dims - 1, dims), bias->n_dims, bias->dims);
        return;
    }
    if (!make_gradients(y, &back, gx)) return;
    scale_work w = {y->tape->loops, x->data, gain->data, NULL, gy->data, gx[0] ? gx[0]->data : NULL, gx[1] ? gx[1]->data : NULL, gx[2] ? gx[2]->data : NULL, x->dims[0], x->dims[1], plane_of(x)};
    pith_op_ranges(y->tape, w.channels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n * w.plane), scale_channels_back, &w);
}

/* gain and bias (or NULL) of channels, [n, channels, ..] */
static pith_var *scale_channels(const char *name, pith_var *x, pith_var *gain, pith_var *bias)
{
    static const pith_op op = {"scale_channels", scale_backward};
    if (!x) return NULL;
    bool both = gain && bias && gain->count == x->dims[1] && bias->count == x->dims[1];
    if (!both || plane_of(x) < PLANE) {
        size_t dims[PITH_MAX_DIMS] = {x->dims[1], 1, 1, 1, 1, 1, 1, 1};
        return scaled(name, x, gain, bias, x->dims[1], x->n_dims - 1, dims);
    }
    pith_var *in[] = {x, gain, bias}, *y = pith_op_value(x->tape, &op, in, 3, x->n_dims, x->dims, 0);
    if (!y) return NULL;
    scale_work w = {x->tape->loops, x->data, gain->data, bias->data, NULL, y->data, NULL, NULL, x->dims[0], x->dims[1], plane_of(x)};
    pith_op_ranges(x->tape, w.n * w.channels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.plane), scale_planes, &w);
    return y;
}

/* ---- groups ----------------------------------------------------------------------------------- */

/* Rows are groups of images, [n, groups, channels of a group, plane]. */
typedef struct groups_work {
    const pith_loops *loops;
    norm_attr *a;
    const float *x, *g, *gain, *bias;
    float *y;                            /* backward: the gradient by x, NULL: not wanted */
    float *sums;                         /* backward: of g and of xhat g, [n, groups, channels of a group, 2] */
    size_t groups, channels, plane;      /* channels: of a group */
} groups_work;

static void normalize_groups(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const groups_work *w = arg;
    size_t n = w->channels * w->plane;
    for (size_t i = from; i < to; i++) {
        const float *x = w->x + i * n, *gain = w->gain + i % w->groups * w->channels, *bias = w->bias + i % w->groups * w->channels;
        float mean = w->loops->sum(x, n) / (float)n, r = 1 / sqrtf(w->loops->spread(x, n, mean) / (float)n + w->a->eps);
        w->a->mean[i] = mean;
        w->a->r[i] = r;
        for (size_t c = 0; c < w->channels; c++) w->loops->center(x + c * w->plane, mean, r * gain[c], bias[c], w->y + i * n + c * w->plane, w->plane);
    }
}

static void normalize_groups_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const groups_work *w = arg;
    size_t n = w->channels * w->plane;
    for (size_t i = from; i < to; i++) {
        const float *x = w->x + i * n, *g = w->g + i * n, *gain = w->gain + i % w->groups * w->channels;
        float mean = w->a->mean[i], r = w->a->r[i], sum = 0, along = 0, *sums = w->sums + i * w->channels * 2;
        for (size_t c = 0; c < w->channels; c++) {
            sums[2 * c] = w->loops->sum(g + c * w->plane, w->plane);
            sums[2 * c + 1] = (w->loops->dot(x + c * w->plane, g + c * w->plane, w->plane) - mean * sums[2 * c]) * r;
            sum += gain[c] * sums[2 * c];
            along += gain[c] * sums[2 * c + 1];
        }
        for (size_t c = 0; c < w->channels && w->y; c++)
            w->loops->center_back(x + c * w->plane, mean, g + c * w->plane, r * gain[c], r * (sum / (float)n), r * r * (along / (float)n), w->y + i * n + c * w->plane, w->plane);
    }
}

static groups_work groups_of(const pith_var *x, norm_attr *a)
{
    size_t groups = a->rows / x->dims[0];
    return (groups_work){.loops = x->tape->loops, .a = a, .x = x->data, .groups = groups, .channels = x->dims[1] / groups, .plane = plane_of(x)};
}

/* Of two operations; gain and bias may be NULL. */
static pith_var *groups_then_scaled(const char *name, pith_var *x, size_t rows, pith_var *gain, pith_var *bias, float eps)
{
    pith_var *y = pith_var_normalize(pith_var_reshape(x, PITH_DIMS(rows, rows ? x->count / rows : 0)), eps, true);
    return scale_channels(name, pith_var_reshape(y, x->n_dims, x->dims), gain, bias);
}

static pith_var *remake_groups(pith_var *y)
{
    const norm_attr *a = y->attr;
    return groups_then_scaled(y->op->name, y->in[0], a->rows, y->in[1], y->in[2], a->eps);
}

static void groups_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"group_norm_back", NULL};
    if (pith_op_remake(y, gy, remake_groups)) return;
    if (!make_gradients(y, &back, gx)) return;
    pith_var *x = y->in[0];
    groups_work w = groups_of(x, y->attr);
    size_t images = x->dims[0], channels = x->dims[1];
    if (!(w.sums = pith_op_attr(y->tape, images * channels * 2, sizeof *w.sums))) return;
    w.g = gy->data;
    w.gain = y->in[1]->data;
    w.y = gx[0] ? gx[0]->data : NULL;
    pith_op_ranges(y->tape, w.a->rows, PITH_CEIL_DIV(ELEMENT_GRAIN, w.channels * w.plane), normalize_groups_back, &w);
    for (int i = 1; i < 3; i++)
        for (size_t c = 0; gx[i] && c < channels; c++) {
            double sum = 0;
            for (size_t n = 0; n < images; n++) sum += (double)w.sums[(n * channels + c) * 2 + (i == 1)];
            gx[i]->data[c] = (float)sum;
        }
}

pith_var *pith_var_group_norm(pith_var *x, size_t n_groups, pith_var *gain, pith_var *bias, float eps)
{
    static const pith_op op = {"group_norm", groups_backward};
    if (!x) return NULL;
    if (x->n_dims < 2 || n_groups == 0 || x->dims[1] % n_groups) return pith_op_fail(x->tape, PITH_E_SHAPE, "group_norm: the channels of %s in %zu groups", PITH_SHAPE(x), n_groups);
    size_t rows = x->dims[0] * n_groups;
    if (!gain || !bias || gain->count != x->dims[1] || bias->count != x->dims[1] || plane_of(x) < PLANE) return groups_then_scaled("group_norm", x, rows, gain, bias, eps);
    pith_var *in[] = {x, gain, bias}, *y = pith_op_value(x->tape, &op, in, 3, x->n_dims, x->dims, sizeof(norm_attr));
    norm_attr *a = new_attr(y, eps, true, rows);
    if (!a) return NULL;
    groups_work w = groups_of(x, a);
    w.gain = gain->data;
    w.bias = bias->data;
    w.y = y->data;
    pith_op_ranges(x->tape, rows, PITH_CEIL_DIV(ELEMENT_GRAIN, w.channels * w.plane), normalize_groups, &w);
    return y;
}

/* ---- batch ------------------------------------------------------------------------------------ */

/* Planes of channels, [n, channels, plane]: each channel is one row, in pieces. */
typedef struct channels_work {
    const pith_loops *loops;
    norm_attr *a;
    const float *x, *g, *gain, *bias;    /* NULL: 1 and 0 */
    float *y, *g_gain, *g_bias;          /* backward: gradients; each may be NULL */
    size_t n, channels, plane;
} channels_work;

static void normalize_channels(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const channels_work *w = arg;
    size_t step = w->channels * w->plane;
    double count = (double)(w->n * w->plane);
    for (size_t c = from; c < to; c++) {
        const float *x = w->x + c * w->plane;
        double sum = 0, spread = 0;
        for (size_t i = 0; i < w->n; i++) sum += (double)w->loops->sum(x + i * step, w->plane);
        float mean = (float)(sum / count);
        for (size_t i = 0; i < w->n; i++) spread += (double)w->loops->spread(x + i * step, w->plane, mean);
        w->a->mean[c] = mean;
        w->a->r[c] = (float)(1 / sqrt(spread / count + (double)w->a->eps));
        float factor = w->gain ? w->a->r[c] * w->gain[c] : w->a->r[c];
        for (size_t i = 0; i < w->n; i++) w->loops->center(x + i * step, mean, factor, w->bias ? w->bias[c] : 0, w->y + c * w->plane + i * step, w->plane);
    }
}

static void normalize_channels_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const channels_work *w = arg;
    size_t step = w->channels * w->plane;
    double count = (double)(w->n * w->plane);
    for (size_t c = from; c < to; c++) {
        const float *x = w->x + c * w->plane, *g = w->g + c * w->plane;
        float mean = w->a->mean[c], r = w->a->r[c];
        double sum = 0, along = 0;
        for (size_t i = 0; i < w->n; i++) {
            sum += (double)w->loops->sum(g + i * step, w->plane);
            along += (double)w->loops->dot(x + i * step, g + i * step, w->plane);
        }
        along = (along - (double)mean * sum) * (double)r;
        if (w->g_gain) w->g_gain[c] = (float)along;
        if (w->g_bias) w->g_bias[c] = (float)sum;
        float p = w->gain ? r * w->gain[c] : r, q = (float)((double)p * sum / count), s = (float)((double)p * (double)r * along / count);
        for (size_t i = 0; i < w->n && w->y; i++) w->loops->center_back(x + i * step, mean, g + i * step, p, q, s, w->y + c * w->plane + i * step, w->plane);
    }
}

static channels_work channels_of(const pith_var *x, norm_attr *a, const float *g, float *y)
{
    size_t n = x->dims[0], channels = x->dims[1];
    return (channels_work){.loops = x->tape->loops, .a = a, .x = x->data, .g = g, .y = y, .n = n, .channels = channels, .plane = x->count / (n * channels)};
}

static void channels_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"normalize_channels_back", NULL};
    pith_var *x = y->in[0];
    if (pith_recording(y->tape)) {
        gx[0] = back_recorded(y, gy, PITH_ALL_AXES & ~PITH_AXIS(1) & ((1u << x->n_dims) - 1));
        return;
    }
    pith_var *g = pith_op_value(y->tape, &back, NULL, 0, x->n_dims, x->dims, 0);
    if (!g) return;
    channels_work w = channels_of(x, y->attr, gy->data, g->data);
    pith_op_ranges(y->tape, w.channels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n * w.plane), normalize_channels_back, &w);
    gx[0] = g;
}

/* x [n, channels, ..], not empty, every channel brought to mean 0 and mean square 1 over all else. */
static pith_var *channels_normalized(pith_var *x, float eps)
{
    static const pith_op op = {"normalize_channels", channels_backward};
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, x->n_dims, x->dims, sizeof(norm_attr));
    norm_attr *a = new_attr(y, eps, true, x->dims[1]);
    if (!a) return NULL;
    channels_work w = channels_of(x, a, NULL, y->data);
    pith_op_ranges(x->tape, w.channels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n * w.plane), normalize_channels, &w);
    return y;
}

static pith_var *remake_channels(pith_var *y)
{
    return scale_channels(y->op->name, channels_normalized(y->in[0], ((const norm_attr *)y->attr)->eps), y->in[1], y->in[2]);
}

static void scaled_channels_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"batch_norm_back", NULL};
    if (pith_op_remake(y, gy, remake_channels)) return;
    if (!make_gradients(y, &back, gx)) return;
    channels_work w = channels_of(y->in[0], y->attr, gy->data, gx[0] ? gx[0]->data : NULL);
    w.gain = y->in[1]->data;
    w.g_gain = gx[1] ? gx[1]->data : NULL;
    w.g_bias = gx[2] ? gx[2]->data : NULL;
    pith_op_ranges(y->tape, w.channels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n * w.plane), normalize_channels_back, &w);
}

/* The same, times gain plus bias. */
static pith_var *channels_scaled(pith_var *x, pith_var *gain, pith_var *bias, float eps)
{
    static const pith_op op = {"batch_norm", scaled_channels_backward};
    pith_var *in[] = {x, gain, bias}, *y = pith_op_value(x->tape, &op, in, 3, x->n_dims, x->dims, sizeof(norm_attr));
    norm_attr *a = new_attr(y, eps, true, x->dims[1]);
    if (!a) return NULL;
    channels_work w = channels_of(x, a, NULL, y->data);
    w.gain = gain->data;
    w.bias = bias->data;
    pith_op_ranges(x->tape, w.channels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.n * w.plane), normalize_channels, &w);
    return y;
}

pith_var *pith_var_batch_norm_fixed(pith_var *x, pith_var *gain, pith_var *bias, float eps, const float *mean, const float *variance)
{
    if (!x) return NULL;
    if (x->n_dims < 2) return pith_op_fail(x->tape, PITH_E_SHAPE, "batch_norm: %s has no channels", PITH_SHAPE(x));
    size_t channels = x->dims[1], dims[PITH_MAX_DIMS] = {channels, 1, 1, 1, 1, 1, 1, 1};
    pith_var *m = pith_tape_fill(x->tape, 0, x->n_dims - 1, dims), *r = pith_tape_fill(x->tape, 0, x->n_dims - 1, dims);
    for (size_t c = 0; m && r && c < channels; c++) {
        m->data[c] = mean[c];
        r->data[c] = 1 / sqrtf(variance[c] + eps);
    }
    return scale_channels("batch_norm", pith_var_mul(pith_var_sub(x, m), r), gain, bias);
}

pith_var *pith_var_batch_norm(pith_var *x, pith_var *gain, pith_var *bias, float eps, float *mean, float *variance, float momentum)
{
    if (!x) return NULL;
    if (x->n_dims < 2 || !x->tape->training) return pith_var_batch_norm_fixed(x, gain, bias, eps, mean, variance);
    size_t channels = x->dims[1], n = channels ? x->count / channels : 0;
    bool in_place = plane_of(x) >= PLANE;
    /* else channels as rows, and back */
    pith_var *turned = in_place ? NULL : pith_var_transpose(x, 0, 1), *rows = turned ? pith_var_reshape(turned, PITH_DIMS(channels, n)) : NULL;
    bool with_scale = in_place && gain && bias && gain->count == channels && bias->count == channels;
    pith_var *y = with_scale ? channels_scaled(x, gain, bias, eps) : in_place ? channels_normalized(x, eps) : pith_var_normalize(rows, eps, true);
    if (!y) return NULL;
    const norm_attr *a = y->attr;
    if (x->tape->recording) { /* once, not in a checkpoint's first time as well */
        for (size_t c = 0; n && c < channels; c++) {
            float v = (1 / (a->r[c] * a->r[c]) - eps) * (n > 1 ? (float)n / (float)(n - 1) : 1);
            mean[c] += momentum * (a->mean[c] - mean[c]);
            variance[c] += momentum * (v - variance[c]);
        }
    }
    if (!in_place) y = pith_var_transpose(pith_var_reshape(y, turned->n_dims, turned->dims), 0, 1);
    return with_scale ? y : scale_channels("batch_norm", y, gain, bias);
}
