/* Principal components: the directions in which rows vary most. */
#ifndef PITH_PCA_H
#define PITH_PCA_H

#include "base/base.h"

/** x [n, d], n >= 1, d >= 1, finite.  mean [d]; axes [d, d], row i the direction of the i-th largest variance, of length 1
 *  and with its largest value positive.  @return PITH_E_ARGUMENT, PITH_E_NONFINITE, PITH_E_MEMORY, PITH_E_INTERNAL */
pith_status pith_pca(pith_ctx *ctx, const float *x, size_t n, size_t d, float *mean, float *axes);
/** dst [n, k] = (x [n, d] less mean) by the first k axes; k <= d. */
void pith_pca_project(const float *x, size_t n, size_t d, const float *mean, const float *axes, size_t k, float *dst);

#endif
