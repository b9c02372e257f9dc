/* Spectral radii. */
#include "eval/radius.h"

#include <math.h>

#include "tensor/lapack.h"

pith_status pith_radius_set(pith_ctx *ctx, float *w, size_t n, double radius)
{
    size_t square, room;
    if (!n || n > INT32_MAX || !pith_mul(n, n, &square) || !pith_add(square, 2 * n, &room)) return pith_fail(ctx, PITH_E_ARGUMENT, "a recurrent matrix of %zu rows has no radius that could be computed", n);
    double *a = pith_array(ctx, room, sizeof *a), largest = 0;
    if (!a) return PITH_E_MEMORY;
    double *re = a + square, *im = re + n;
    for (size_t i = 0; i < square; i++) a[i] = (double)w[i];
    pith_status status = pith_eigenvalues(ctx, n, a, re, im);
    for (size_t i = 0; i < n && status == PITH_OK; i++) largest = fmax(largest, hypot(re[i], im[i]));
    pith_free(ctx, a);
    PITH_TRY(status);
    if (largest == 0) return pith_fail(ctx, PITH_E_ARGUMENT, "a recurrent matrix without eigenvalues but 0 cannot be given another radius");
    for (size_t i = 0; i < square; i++) w[i] = (float)((double)w[i] * radius / largest);
    return PITH_OK;
}
