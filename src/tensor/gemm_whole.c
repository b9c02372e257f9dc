/* The scalar products of whole numbers. */
#include "tensor/gemm_whole.h"

void pith_gemm16_ref(size_t m, size_t n, size_t k_groups, const int16_t *a, size_t lda, const int16_t *b, size_t ldb, int32_t *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            uint32_t sum = 0;
            for (size_t g = 0; g < k_groups; g++) {
                const int16_t *x = a + i * lda + 2 * g, *y = b + g * 2 * ldb + 2 * j;
                sum += (uint32_t)(x[0] * y[0]) + (uint32_t)(x[1] * y[1]);
            }
            c[i * ldc + j] = (int32_t)sum;
        }
}

void pith_gemm8_ref(size_t m, size_t n, size_t k_groups, const uint8_t *a, size_t lda, const int8_t *b, size_t ldb, int32_t *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            uint32_t sum = 0;
            for (size_t g = 0; g < k_groups; g++) {
                const uint8_t *x = a + i * lda + 4 * g;
                const int8_t *y = b + g * 4 * ldb + 4 * j;
                sum += (uint32_t)(x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3]);
            }
            c[i * ldc + j] = (int32_t)sum;
        }
}
