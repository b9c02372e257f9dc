/* Products of whole numbers with 32-bit sums: exact, so that any order gives the same, and twice (16 bits) or
 * four times (8 bits) as many multiply-adds an instruction as in f32.  Four bytes of a row of a, and of a column
 * of b, are a group: two numbers of 16 bits, or four of 8. */
#ifndef PITH_GEMM_WHOLE_H
#define PITH_GEMM_WHOLE_H

#include "base/base.h"

/** c[m, n] = a[m, 2 k_groups] b[2 k_groups, n], sums modulo 2^32.
 *  a  row-major, row stride lda (in values)
 *  b  rows in groups, a column's values of one side by side: b[g * 2 * ldb + 2 * j + (0 or 1)] is row 2g or
 *     2g + 1 of column j
 *  c  row-major, row stride ldc
 *  Fast when n is a multiple of 16. */
typedef void pith_gemm16_fn(size_t m, size_t n, size_t k_groups, const int16_t *a, size_t lda, const int16_t *b, size_t ldb, int32_t *c, size_t ldc);

/** The same of groups of four: c[m, n] = a[m, 4 k_groups] b[4 k_groups, n].
 *  a  numbers of 0..127: with more, two products would not fit 16 bits, which is where most processors add them
 *  b  -127..127 */
typedef void pith_gemm8_fn(size_t m, size_t n, size_t k_groups, const uint8_t *a, size_t lda, const int8_t *b, size_t ldb, int32_t *c, size_t ldc);

/* One function an instruction set, for the tables of kernels. */
pith_gemm16_fn pith_gemm16_ref, pith_gemm16_avx2, pith_gemm16_avx2_vnni, pith_gemm16_avx512, pith_gemm16_avx512_vnni, pith_gemm16_neon;
pith_gemm8_fn pith_gemm8_ref, pith_gemm8_avx2, pith_gemm8_avx2_vnni, pith_gemm8_avx512, pith_gemm8_avx512_vnni, pith_gemm8_neon;

#endif
