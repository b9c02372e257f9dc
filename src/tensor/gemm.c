/* The scalar product, which defines the bits, and transposition. */
#include "tensor/gemm.h"

#include <math.h>

void pith_gemm_ref(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            float sum = add ? c[i * ldc + j] : 0;
            for (size_t p = 0; p < k; p++) sum = fmaf(a[i * lda + p], b[p * ldb + j], sum);
            c[i * ldc + j] = sum;
        }
    }
}

void pith_gemm_turned_ref(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            float sum = add ? c[i * ldc + j] : 0;
            for (size_t p = 0; p < k; p++) sum = fmaf(a[p * lda + i], b[p * ldb + j], sum);
            c[i * ldc + j] = sum;
        }
    }
}

void pith_gemm_apart_ref(size_t m, size_t n, size_t k, const float *a, const size_t *a_row, const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    for (size_t i = 0; i < m; i++) pith_gemm_ref(1, n, k, a + a_row[i], k, b, ldb, c + i * ldc, ldc, add);
}

void pith_gemm_rows_ref(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, const size_t *b_row, float *c, size_t ldc, bool add)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            float sum = add ? c[i * ldc + j] : 0;
            for (size_t p = 0; p < k; p++) sum = fmaf(a[i * lda + p], b[b_row[p] + j], sum);
            c[i * ldc + j] = sum;
        }
    }
}

void pith_gemm_pieces_ref(size_t m, size_t n_pieces, size_t k, const float *a, size_t lda, const float *b, const size_t *b_piece, size_t ldb, float *c, size_t ldc, bool add)
{
    for (size_t j = 0; j < n_pieces; j++) pith_gemm_ref(m, PITH_GEMM_PIECE, k, a, lda, b + b_piece[j], ldb, c + j * PITH_GEMM_PIECE, ldc, add);
}

/* Four vectors of four: every processor we know has them, and both compilers know this way to write it. */
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

static inline void transpose4(const float *src, size_t lds, float *dst, size_t ldd)
{
    four a = *(const four *)src, b = *(const four *)(src + lds), c = *(const four *)(src + 2 * lds), d = *(const four *)(src + 3 * lds);
    four ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    four cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four *)dst = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
    *(four *)(dst + ldd) = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
    *(four *)(dst + 2 * ldd) = __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5);
    *(four *)(dst + 3 * ldd) = __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7);
}

void pith_transpose(const float *src, size_t n_rows, size_t n_cols, size_t lds, float *dst, size_t ldd)
{
    size_t rows = n_rows & ~(size_t)15, cols = n_cols & ~(size_t)3;
    /* 16 rows at a time: a column of them is what a cache line of dst holds */
    for (size_t r0 = 0; r0 < rows; r0 += 16)
        for (size_t c = 0; c < cols; c += 4)
            for (size_t r = r0; r < r0 + 16; r += 4) transpose4(src + r * lds + c, lds, dst + c * ldd + r, ldd);
    for (size_t c = 0; c < n_cols; c++)
        for (size_t r = c < cols ? rows : 0; r < n_rows; r++) dst[c * ldd + r] = src[r * lds + c];
}
