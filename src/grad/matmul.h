/* The product under matmul, linear, convolution and attention. */
#ifndef PITH_GRAD_MATMUL_H
#define PITH_GRAD_MATMUL_H

#include "grad/grad.h"

typedef struct pith_matrix {
    const float *data;
    size_t stride;      /* values from row to row, as it lies in memory */
    bool transposed;    /* rows in memory are columns of the matrix */
} pith_matrix;

/** c[i] = a[i] b[i] for n_matrices of them, [m, n] = [m, k] [k, n], plus `bias` [n] (or NULL) in every row; step_a and
 *  step_b values lie between matrices, 0: the same one.  c is without gaps.  Each value is one chain of
 *  multiply-adds from its bias, in the order of k: the same bits on any number of threads, and however the sides lie.
 *  @return false: no memory, the tape's failure is set */
bool pith_product(pith_tape *tape, size_t n_matrices, size_t m, size_t n, size_t k, pith_matrix a, pith_matrix b, size_t step_a, size_t step_b, const float *bias, float *c);

#endif
