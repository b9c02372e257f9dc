/* Frechet distance between two sets of vectors, each taken as normal with its mean and covariance (Heusel et al.,
 * arXiv:1706.08500, for features of images): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2).
 *
 *     pith_moments *real, *made;                                     // [dim] each
 *     PITH_TRY(pith_moments_new(ctx, dim, &real));
 *     PITH_TRY(pith_moments_add(real, features, n));                 // as often as there are batches
 *     PITH_TRY(pith_frechet(real, made, &distance)); */
#ifndef PITH_FRECHET_H
#define PITH_FRECHET_H

#include "base/base.h"

typedef struct pith_moments pith_moments;

/** For vectors of dim values.  @return PITH_E_MEMORY, PITH_E_LIMIT (dim 0 or above 16,384) */
pith_status pith_moments_new(pith_ctx *ctx, size_t dim, pith_moments **moments);
void pith_moments_free(pith_moments *moments); /* NULL is allowed */
/** x [n, dim].  The sums are of doubles, in the order given.  @return PITH_E_NONFINITE, nothing is added then */
pith_status pith_moments_add(pith_moments *moments, const float *x, size_t n);
size_t pith_moments_count(const pith_moments *moments); /* vectors so far */
size_t pith_moments_size(const pith_moments *moments);  /* dim */
/** mean [dim], covariance [dim, dim] over n - 1; either may be NULL.  @return PITH_E_ARGUMENT: fewer than two vectors */
pith_status pith_moments_get(const pith_moments *moments, double *mean, double *covariance);

/** 0 or more.  With fewer vectors than values, or little more, it is too large: compare equal numbers of them.
 *  @return PITH_E_SHAPE (two sizes), PITH_E_ARGUMENT (fewer than two vectors), PITH_E_INTERNAL (LAPACK), PITH_E_MEMORY */
pith_status pith_frechet(const pith_moments *a, const pith_moments *b, double *distance);

#endif
