/* The product of 16-bit numbers for one instruction set, chosen by the flags this file is built with.  A tile
 * of c stays in registers while k runs, as in gemm_simd.c. */
#include "tensor/gemm16.h"
#include "tensor/gemm_tiles.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#ifdef __AVX512VNNI__
#define NAME pith_gemm16_avx512_vnni
#define MADD(sum, x, y) madd(sum, x, y)
#else
#define NAME pith_gemm16_avx512
#define MADD(sum, x, y) _mm512_add_epi32(sum, _mm512_madd_epi16(x, y))
#endif
#define VECS 4
#define WIDTH 16
typedef __m512i vec;
typedef __m512i pairs;
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_loadu_si512(p)
#define LOAD_SUM(p) LOAD(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define SPREAD(x) _mm512_set1_epi32(x)
#elif defined(__AVX2__)
#include <immintrin.h>
#ifdef __AVXVNNI__
#define NAME pith_gemm16_avx2_vnni
#define MADD(sum, x, y) madd(sum, x, y)
#else
#define NAME pith_gemm16_avx2
#define MADD(sum, x, y) _mm256_add_epi32(sum, _mm256_madd_epi16(x, y))
#endif
#define VECS 2
#define WIDTH 8
typedef __m256i vec;
typedef __m256i pairs;
#define ZERO() _mm256_setzero_si256()
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define LOAD_SUM(p) LOAD(p)
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define SPREAD(x) _mm256_set1_epi32(x)
#elif defined(__aarch64__)
#include <arm_neon.h>
#define NAME pith_gemm16_neon
#define VECS 4
#define WIDTH 4
typedef int32x4_t vec;
typedef int16x4x2_t pairs; /* what a pair of rows has for four columns, apart */
#define ZERO() vdupq_n_s32(0)
#define LOAD(p) vld2_s16(p)
#define LOAD_SUM(p) vld1q_s32(p)
#define STORE(p, v) vst1q_s32(p, v)
#define SPREAD(x) x
#define MADD(sum, x, y) vmlal_n_s16(vmlal_n_s16(sum, (y).val[0], (int16_t)(x)), (y).val[1], (int16_t)((uint32_t)(x) >> 16))
#endif

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
/* The intrinsic, but that gcc 12 would copy every sum before and after it. */
static inline __attribute__((always_inline)) vec madd(vec sum, vec x, vec y)
{
#ifdef __AVX512VNNI__
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
#else
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(y));
#endif
    return sum;
}
#endif

#define DEPTH 160 /* pairs of rows: 64 columns of them are 40 KiB, what a first cache of 48 KiB holds */

typedef struct tile {
    size_t k_pairs, lda, ldb, ldc;
    const int16_t *a, *b;
    int32_t *c;
    bool add;
} tile;

/* n_rows and n_vecs are constants where this is called, so that the sums are registers. */
static inline __attribute__((always_inline)) void run_tile(const tile *t, int n_rows, int n_vecs)
{
    vec sum[PITH_GEMM_ROWS][VECS];
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) sum[i][j] = t->add ? LOAD_SUM(t->c + (size_t)i * t->ldc + j * WIDTH) : ZERO();
    const int16_t *a = t->a, *b = t->b;
    for (size_t p = 0; p < t->k_pairs; p++, a += 2, b += 2 * t->ldb) {
        pairs row[VECS];
        for (int j = 0; j < n_vecs; j++) row[j] = LOAD(b + j * 2 * WIDTH);
        for (int i = 0; i < n_rows; i++) {
            int32_t two;
            memcpy(&two, a + (size_t)i * t->lda, sizeof two);
            for (int j = 0; j < n_vecs; j++) sum[i][j] = MADD(sum[i][j], SPREAD(two), row[j]);
        }
    }
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) STORE(t->c + (size_t)i * t->ldc + j * WIDTH, sum[i][j]);
}

PITH_GEMM_TILES(run, tile, run_tile)

void NAME(size_t m, size_t n, size_t k_pairs, const int16_t *a, size_t lda, const int16_t *b, size_t ldb, int32_t *c, size_t ldc)
{
    size_t whole = n - n % WIDTH, p = 0;
    do { /* also once when k_pairs is 0: c is then zero */
        size_t depth = PITH_MIN(k_pairs - p, (size_t)DEPTH);
        for (size_t j = 0; j < whole; j += VECS * WIDTH)
            for (size_t i = 0; i < m; i += PITH_GEMM_ROWS) {
                tile t = {depth, lda, ldb, ldc, a + i * lda + 2 * p, b + p * 2 * ldb + 2 * j, c + i * ldc + j, p > 0};
                run(&t, PITH_MIN(m - i, (size_t)PITH_GEMM_ROWS), PITH_MIN((whole - j) / WIDTH, (size_t)VECS));
            }
        p += depth;
    } while (p < k_pairs);
    if (whole < n) pith_gemm16_ref(m, n - whole, k_pairs, a, lda, b + 2 * whole, ldb, c + whole, ldc);
}
