/* Ridge regression by normal equations. */
#include "eval/ridge.h"

#include "tensor/lapack.h"

pith_status pith_ridge_new(pith_ctx *ctx, size_t n_in, size_t n_out, pith_ridge *r)
{
    size_t d = n_in + 1, both;
    *r = (pith_ridge){.ctx = ctx, .n_in = n_in, .n_out = n_out};
    if (d > INT32_MAX || n_out > INT32_MAX || !pith_mul(d, d + n_out, &both)) return pith_fail(ctx, PITH_E_LIMIT, "a regression from %zu to %zu values is too large", n_in, n_out);
    if (!(r->xx = pith_calloc(ctx, both, sizeof *r->xx))) return PITH_E_MEMORY;
    r->xy = r->xx + d * d;
    return PITH_OK;
}

void pith_ridge_free(pith_ridge *r)
{
    if (r->ctx) pith_free(r->ctx, r->xx);
}

void pith_ridge_add(pith_ridge *r, const float *x, const float *target, size_t n)
{
    size_t d = r->n_in + 1;
    for (size_t row = 0; row < n; row++, x += r->n_in, target += r->n_out)
        for (size_t i = 0; i < d; i++) {
            double xi = i < r->n_in ? (double)x[i] : 1, *xx = r->xx + i * d, *xy = r->xy + i * r->n_out;
            for (size_t k = i; k < r->n_in; k++) xx[k] += xi * (double)x[k];
            xx[r->n_in] += xi;
            for (size_t k = 0; k < r->n_out; k++) xy[k] += xi * (double)target[k];
        }
}

pith_status pith_ridge_solve(pith_ridge *r, double ridge)
{
    for (size_t i = 0; i <= r->n_in; i++) r->xx[i * (r->n_in + 2)] += ridge;
    pith_status status = pith_solve_definite(r->ctx, r->n_in + 1, r->n_out, r->xx, r->xy);
    if (status != PITH_E_INTERNAL) return status;
    return pith_fail(r->ctx, PITH_E_NONFINITE, "a ridge regression over %zu values has no solution; a larger ridge than %g gives it one", r->n_in, ridge);
}
