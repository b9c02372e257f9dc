/* The scalar product of 16-bit numbers. */
#include "tensor/gemm16.h"

void pith_gemm16_ref(size_t m, size_t n, size_t k_pairs, const int16_t *a, size_t lda, const int16_t *b, size_t ldb, int32_t *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            uint32_t sum = 0;
            for (size_t p = 0; p < k_pairs; p++) {
                const int16_t *x = a + i * lda + 2 * p, *y = b + p * 2 * ldb + 2 * j;
                sum += (uint32_t)(x[0] * y[0]) + (uint32_t)(x[1] * y[1]);
            }
            c[i * ldc + j] = (int32_t)sum;
        }
}
