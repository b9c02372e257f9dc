/* Dense f32 products for the inside of a worker: attention over a block of queries, dense weights over a
 * batch of tokens.
 *
 * Why not OpenBLAS: its sums depend on where an element lies in the matrix, ours only on k, so that work
 * can be parted in any way; it packs both sides anew at each call, and these shapes are small; and
 * releases that do not know a processor fall back to SSE3 (0.3.21 on Emerald Rapids: a fifth of the
 * speed that its own AVX-512 code has there). */
#ifndef PITH_GEMM_H
#define PITH_GEMM_H

#include "base/base.h"

#define PITH_GEMM_PANEL 64   /* columns of b at a time; a multiple of every vector's width */

/** c[m, n] = a[m, k] b[k, n], plus c before if `add`; row-major, lda.. in values; c overlaps neither a nor b.
 *  Each element is one chain of fused multiply-adds in the order of k, the same bits on every
 *  instruction set.  Fast when n is a multiple of 16; columns beyond go one by one. */
typedef void pith_gemm_fn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc, bool add);

/** The same of a' : a is [k, m], lda from row to row. */
typedef pith_gemm_fn pith_gemm_turned_fn;

/** The same of rows of a that lie anywhere: row i is a + a_row[i], [k]. */
typedef void pith_gemm_apart_fn(size_t m, size_t n, size_t k, const float *a, const size_t *a_row, const float *b, size_t ldb, float *c, size_t ldc, bool add);

/** The same of rows of b that lie anywhere: row p is b + b_row[p], [n]. */
typedef void pith_gemm_rows_fn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, const size_t *b_row, float *c, size_t ldc, bool add);

#define PITH_GEMM_PIECE 16   /* columns */
/** The same of columns of b that lie anywhere, n_pieces times PITH_GEMM_PIECE of them: row p of piece j is
 *  b + b_piece[j] + p ldb.  Pieces may overlap. */
typedef void pith_gemm_pieces_fn(size_t m, size_t n_pieces, size_t k, const float *a, size_t lda, const float *b, const size_t *b_piece, size_t ldb, float *c, size_t ldc, bool add);

/** dst[c * ldd + r] = src[r * lds + c] */
void pith_transpose(const float *src, size_t n_rows, size_t n_cols, size_t lds, float *dst, size_t ldd);

/* One function an instruction set, for the tables of kernels. */
pith_gemm_fn pith_gemm_ref, pith_gemm_avx2, pith_gemm_avx512, pith_gemm_neon;
pith_gemm_turned_fn pith_gemm_turned_ref, pith_gemm_turned_avx2, pith_gemm_turned_avx512, pith_gemm_turned_neon;
pith_gemm_apart_fn pith_gemm_apart_ref, pith_gemm_apart_avx2, pith_gemm_apart_avx512, pith_gemm_apart_neon;
pith_gemm_rows_fn pith_gemm_rows_ref, pith_gemm_rows_avx2, pith_gemm_rows_avx512, pith_gemm_rows_neon;
pith_gemm_pieces_fn pith_gemm_pieces_ref, pith_gemm_pieces_avx2, pith_gemm_pieces_avx512, pith_gemm_pieces_neon;

#endif
