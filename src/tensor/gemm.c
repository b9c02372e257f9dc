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

#define BLOCK 16 /* two blocks of 16 x 16 values stay in the first cache whatever the strides */

void pith_transpose(const float *src, size_t n_rows, size_t n_cols, size_t lds, float *dst, size_t ldd)
{
    for (size_t r0 = 0; r0 < n_rows; r0 += BLOCK) {
        for (size_t c0 = 0; c0 < n_cols; c0 += BLOCK) {
            size_t r1 = PITH_MIN(r0 + BLOCK, n_rows), c1 = PITH_MIN(c0 + BLOCK, n_cols);
            for (size_t c = c0; c < c1; c++)
                for (size_t r = r0; r < r1; r++) dst[c * ldd + r] = src[r * lds + c];
        }
    }
}
