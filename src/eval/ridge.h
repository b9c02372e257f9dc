/* Echo state networks (Jaeger, "The echo state approach", GMD report 148, 2001): a recurrent layer that stays as it was drawn, and
 * a linear read-out by ridge regression, the one thing that is learned. */
#ifndef PITH_ECHO_H
#define PITH_ECHO_H

#include "base/base.h"

/** Scale w [n, n] so that its largest eigenvalue has modulus `radius`.
 *  @return PITH_E_ARGUMENT (all its eigenvalues are 0), PITH_E_MEMORY, PITH_E_INTERNAL */
pith_status pith_radius_set(pith_ctx *ctx, float *w, size_t n, double radius);

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
/** y [n_out] of x [n_in]. */
void pith_ridge_apply(const pith_ridge *r, const float *x, double *y);

#endif
