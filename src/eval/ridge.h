/* Linear regression with a ridge: the read-out of an echo state network, which is all that it learns. */
#ifndef PITH_RIDGE_H
#define PITH_RIDGE_H

#include "base/base.h"

/* y = w [x, 1], the w of least |y - target|^2 + ridge |w|^2 over all rows that were added. */
typedef struct pith_ridge {
    pith_ctx *ctx;
    size_t n_in, n_out;
    double *xx, *xy;               /* [n_in + 1, n_in + 1], [n_in + 1, n_out]: sums; xy is w once it is solved */
} pith_ridge;
pith_status pith_ridge_new(pith_ctx *ctx, size_t n_in, size_t n_out, pith_ridge *r);
void pith_ridge_free(pith_ridge *r);
/** x [n, n_in], target [n, n_out] */
void pith_ridge_add(pith_ridge *r, const float *x, const float *target, size_t n);
/** Once, with ridge > 0.  @return PITH_E_NONFINITE: it has no solution in doubles */
pith_status pith_ridge_solve(pith_ridge *r, double ridge);

#endif
