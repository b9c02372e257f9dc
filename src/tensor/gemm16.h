/* Product of 16-bit whole numbers with 32-bit sums: exact, so that any order gives the same, and twice as
 * many multiply-adds an instruction as in f32. */
#ifndef PITH_GEMM16_H
#define PITH_GEMM16_H

#include "base/base.h"

/** c[m, n] = a[m, 2 k_pairs] b[2 k_pairs, n], sums modulo 2^32.
 *  a  row-major, row stride lda (in values)
 *  b  rows in pairs, the two values of a column side by side: b[p * 2 * ldb + 2 * j + (0 or 1)] is row 2p or
 *     2p + 1 of column j
 *  c  row-major, row stride ldc
 *  Fast when n is a multiple of 16. */
typedef void pith_gemm16_fn(size_t m, size_t n, size_t k_pairs, const int16_t *a, size_t lda, const int16_t *b, size_t ldb, int32_t *c, size_t ldc);

/* One function an instruction set, for the tables of kernels. */
pith_gemm16_fn pith_gemm16_ref, pith_gemm16_avx2, pith_gemm16_avx2_vnni, pith_gemm16_avx512, pith_gemm16_avx512_vnni, pith_gemm16_neon;

#endif
