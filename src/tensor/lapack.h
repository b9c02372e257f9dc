/* Dense factorisations, by LAPACK.  Matrices are row-major; n at most PITH_LAPACK_MOST: the room it works in is counted in 32 bits. */
#ifndef PITH_LAPACK_H
#define PITH_LAPACK_H

#include "base/base.h"

#define PITH_LAPACK_MOST 32766

/** Eigenvalues of a symmetric matrix, rising, into w [n]; a [n, n], of which the upper half is read, gets the
 *  eigenvectors as its columns, or, without `vectors`, is used up.
 *  @return PITH_E_MEMORY; PITH_E_INTERNAL: they do not converge; PITH_E_UNSUPPORTED: LAPACK is not installed */
pith_status pith_eigen(pith_ctx *ctx, size_t n, double *a, bool vectors, double *w);

/** Eigenvalues of any matrix a [n, n] (used up), real and imaginary parts into re, im [n].  @return as pith_eigen */
pith_status pith_eigenvalues(pith_ctx *ctx, size_t n, double *a, double *re, double *im);

/** Solve a x = b with a [n, n] symmetric, positive definite (its upper half is read; used up), b [n, n_right]; x takes b's place.
 *  @return as pith_eigen; PITH_E_INTERNAL: a is not positive definite */
pith_status pith_solve_definite(pith_ctx *ctx, size_t n, size_t n_right, double *a, double *b);

/** a [n, n] = Q R: Q takes a's place, diagonal [n] gets that of R.  @return as pith_eigen */
pith_status pith_qr(pith_ctx *ctx, size_t n, float *a, float *diagonal);

/** What OpenBLAS says of itself, or that it is not installed, into text [cap]. */
void pith_lapack_version(pith_ctx *ctx, char *text, size_t cap);

#endif
