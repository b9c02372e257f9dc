/* Quantization in buckets. */
#include "stage/quantize/bucket.h"

#include <math.h>
#include <stdlib.h>

#include "stage/code/huffman.h"

typedef struct scale {
    float low, range;
} scale;

static scale scale_of(const float *w, size_t n)
{
    float low = w[0], high = w[0];
    for (size_t i = 1; i < n; i++) {
        low = PITH_MIN(low, w[i]);
        high = PITH_MAX(high, w[i]);
    }
    return (scale){low, high - low};
}

static float scaled(scale s, float v) { return s.range > 0 ? (v - s.low) / s.range : 0; }

static size_t nearest_even(float x, size_t n_points)
{
    float at = floorf(x * (float)(n_points - 1) + 0.5f);
    return at > 0 ? PITH_MIN((size_t)at, n_points - 1) : 0; /* also what is not a number */
}

/* The first of equals. */
static size_t nearest(float x, const float *points, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) best = fabsf(points[i] - x) < fabsf(points[best] - x) ? i : best;
    return best;
}

pith_var *pith_bucket_round(pith_var *w, size_t bucket, int bits)
{
    if (!w) return NULL;
    if (!bucket || bits < 1 || bits > 8) return pith_op_fail(w->tape, PITH_E_ARGUMENT, "buckets of %zu values with %d bits: 1 or more with 1 to 8 bits are possible", bucket, bits);
    pith_var *q = pith_tape_fill(w->tape, 0, w->n_dims, w->dims);
    size_t n_points = (size_t)1 << bits;
    for (size_t at = 0; q && at < w->count; at += bucket) {
        size_t n = PITH_MIN(bucket, w->count - at);
        scale s = scale_of(w->data + at, n);
        for (size_t i = at; i < at + n; i++) q->data[i] = s.low + s.range * ((float)nearest_even(scaled(s, w->data[i]), n_points) / (float)(n_points - 1));
    }
    return pith_var_straight_through(q, w);
}

pith_var *pith_bucket_learned(pith_var *w, pith_var *points, size_t bucket)
{
    if (!w || !points) return NULL;
    pith_tape *tape = w->tape;
    size_t n_points = points->count;
    if (!bucket || !n_points || n_points > PITH_BUCKET_POINTS || points->n_dims != 1)
        return pith_op_fail(tape, PITH_E_ARGUMENT, "buckets of %zu values with points %s: a list of 1 to %d is needed", bucket, PITH_SHAPE(points), PITH_BUCKET_POINTS);
    pith_var *low = pith_tape_fill(tape, 0, w->n_dims, w->dims), *range = pith_tape_fill(tape, 0, w->n_dims, w->dims);
    int32_t *index = pith_op_attr(tape, PITH_MAX(w->count, 1), sizeof *index);
    if (!low || !range || !index) return NULL;
    for (size_t at = 0; at < w->count; at += bucket) {
        size_t n = PITH_MIN(bucket, w->count - at);
        scale s = scale_of(w->data + at, n);
        for (size_t i = at; i < at + n; i++) {
            low->data[i] = s.low;
            range->data[i] = s.range;
            index[i] = (int32_t)nearest(scaled(s, w->data[i]), points->data, n_points);
        }
    }
    pith_var *chosen = pith_var_rows(pith_var_reshape(points, PITH_DIMS(n_points, 1)), index, PITH_DIMS(w->count));
    return pith_var_add(low, pith_var_mul(range, pith_var_reshape(chosen, w->n_dims, w->dims)));
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

pith_status pith_bucket_quantiles(pith_ctx *ctx, const float *w, size_t n_values, size_t bucket, float *points, size_t n)
{
    float *x = pith_array(ctx, PITH_MAX(n_values, 1), sizeof *x);
    if (!x) return PITH_E_MEMORY;
    for (size_t at = 0; at < n_values; at += bucket) {
        size_t len = PITH_MIN(bucket, n_values - at);
        scale s = scale_of(w + at, len);
        for (size_t i = at; i < at + len; i++) x[i] = scaled(s, w[i]);
    }
    qsort(x, n_values, sizeof *x, ascending);
    for (size_t i = 0; i < n; i++) points[i] = n_values ? x[PITH_MIN((size_t)(((double)i + 0.5) / (double)n * (double)n_values), n_values - 1)] : 0;
    pith_free(ctx, x);
    return PITH_OK;
}

void pith_bucket_share(const double *norm, size_t n, size_t average, size_t *n_points)
{
    size_t alike = average / 2, left = n * (average - alike);
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) total += norm[i];
    for (size_t i = 0, given = 0; i < n; i++) { /* by cumulated parts, so that all are given */
        sum += total > 0 ? norm[i] / total : 1 / (double)n;
        size_t upto = i + 1 == n ? left : PITH_MIN((size_t)(sum * (double)left + 0.5), left);
        upto = PITH_MAX(upto, given);
        n_points[i] = PITH_MIN(alike + upto - given, (size_t)PITH_BUCKET_POINTS);
        given = upto;
    }
}

pith_status pith_bucket_bytes(pith_ctx *ctx, const float *w, size_t n_values, size_t bucket, const float *points, size_t n_points, int bits, size_t *n_bytes)
{
    uint64_t count[PITH_BUCKET_POINTS] = {0}, n_bits;
    if (!points) n_points = (size_t)1 << bits;
    for (size_t at = 0; at < n_values; at += bucket) {
        size_t n = PITH_MIN(bucket, n_values - at);
        scale s = scale_of(w + at, n);
        for (size_t i = at; i < at + n; i++) count[points ? nearest(scaled(s, w[i]), points, n_points) : nearest_even(scaled(s, w[i]), n_points)]++;
    }
    PITH_TRY(pith_huffman_bits(ctx, count, n_points, &n_bits));
    *n_bytes = PITH_CEIL_DIV(n_bits, 8) + n_points + 8 * PITH_CEIL_DIV(n_values, bucket) + (points ? 4 * n_points : 0);
    return PITH_OK;
}
