/* Quantization in buckets (Polino, Pascanu, Alistarh, arXiv:1802.05668): each run of `bucket` values of a tensor is brought
 * to 0..1 by its least value and its range, and there each takes the nearest of a few points: evenly spaced ones, or
 * points that are learned. */
#ifndef PITH_BUCKET_H
#define PITH_BUCKET_H

#include "grad/grad.h"

#define PITH_BUCKET 256            /* values of a bucket in the paper */
#define PITH_BUCKET_POINTS 256     /* at most */

/** w on the nearest of 2^bits evenly spaced points (bits 1..8), with the gradient passed straight through to w. */
pith_var *pith_bucket_round(pith_var *w, size_t bucket, int bits);
/** The values of w, of which no gradient is taken, on the nearest of points [n], n up to PITH_BUCKET_POINTS: dL/dpoint is
 *  the sum of range times dL/dvalue over the values that took it. */
pith_var *pith_bucket_learned(pith_var *w, pith_var *points, size_t bucket);

/** Points to begin to learn from: n quantiles of the values w [n_values] in their buckets, ascending.
 *  @return PITH_E_MEMORY */
pith_status pith_bucket_quantiles(pith_ctx *ctx, const float *w, size_t n_values, size_t bucket, float *points, size_t n);
/** How many points each of n tensors gets, `average` (2 or more) over all: half of them alike, half in parts of `norm`
 *  [n], 0 or more; none gets more than PITH_BUCKET_POINTS, so that there may be fewer in all. */
void pith_bucket_share(const double *norm, size_t n, size_t average, size_t *n_points);
/** Bytes that w [n_values] takes: indices by an optimal prefix code with a byte for each code's length, two f32 a bucket, and
 *  the points where they are learned (points NULL: 2^bits even ones).  @return PITH_E_MEMORY */
pith_status pith_bucket_bytes(pith_ctx *ctx, const float *w, size_t n_values, size_t bucket, const float *points, size_t n_points, int bits, size_t *n_bytes);

#endif
