/* The products of whole numbers for one instruction set, chosen by the flags this file is built with; PITH_GEMM8:
 * of 8 bits, else of 16.  What differs between them is what an instruction does with two groups.  A tile of c
 * stays in registers while k runs, as in gemm_simd.c. */
#include "tensor/gemm_tiles.h"
#include "tensor/gemm_whole.h"

#ifdef PITH_GEMM8
#define NAME(isa) pith_gemm8_##isa
#define REF pith_gemm8_ref
#define DOT "vpdpbusd"
typedef uint8_t number_a;
typedef int8_t number_b;
#else
#define NAME(isa) pith_gemm16_##isa
#define REF pith_gemm16_ref
#define DOT "vpdpwssd"
typedef int16_t number_a, number_b;
#endif
#define GROUP (4 / sizeof(number_a)) /* numbers of one */

#if defined(__AVX512F__)
#include <immintrin.h>
#ifdef __AVX512VNNI__
#define VNNI
#define PRODUCT NAME(avx512_vnni)
#else
#define PRODUCT NAME(avx512)
#endif
#define VECS 4
#define WIDTH 16
typedef __m512i vec;
typedef __m512i spread; /* a group of a, in each lane */
typedef __m512i groups; /* those of b's columns */
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_loadu_si512(p)
#define LOAD_SUM(p) LOAD(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define SPREAD(x) _mm512_set1_epi32(x)
#elif defined(__AVX2__)
#include <immintrin.h>
#ifdef __AVXVNNI__
#define VNNI
#define PRODUCT NAME(avx2_vnni)
#else
#define PRODUCT NAME(avx2)
#endif
#define VECS 2
#define WIDTH 8
typedef __m256i vec;
typedef __m256i spread;
typedef __m256i groups;
#define ZERO() _mm256_setzero_si256()
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define LOAD_SUM(p) LOAD(p)
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define SPREAD(x) _mm256_set1_epi32(x)
#elif defined(__aarch64__)
#include <arm_neon.h>
#define PRODUCT NAME(neon)
#define VECS 4
#define WIDTH 4
typedef int32x4_t vec;
typedef int32_t spread;
#define ZERO() vdupq_n_s32(0)
#define LOAD_SUM(p) vld1q_s32(p)
#define STORE(p, v) vst1q_s32(p, v)
#define SPREAD(x) x
#ifdef PITH_GEMM8
typedef int8x16_t groups;
#define LOAD(p) vld1q_s8(p)
#else
typedef int16x4x2_t groups; /* apart */
#define LOAD(p) vld2_s16(p)
#endif
#endif

/* sum + the products of two groups' numbers. */
static inline __attribute__((always_inline)) vec madd(vec sum, spread x, groups y)
{
#if defined(VNNI) && defined(__AVX512F__) /* the intrinsic, but that gcc 12 would copy every sum before and after it */
    __asm__(DOT " %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
#elif defined(VNNI)
    __asm__("%{vex%} " DOT " %2, %1, %0" : "+x"(sum) : "x"(x), "x"(y));
    return sum;
#elif defined(__AVX512F__) && defined(PITH_GEMM8)
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(x, y), _mm512_set1_epi16(1)));
#elif defined(__AVX512F__)
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, y));
#elif defined(__AVX2__) && defined(PITH_GEMM8)
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), _mm256_set1_epi16(1)));
#elif defined(__AVX2__)
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
#elif defined(PITH_GEMM8)
    int8x8_t four = vreinterpret_s8_s32(vdup_n_s32(x)); /* 0..127: signed as well */
    int16x8_t low = vmull_s8(vget_low_s8(y), four), high = vmull_s8(vget_high_s8(y), four);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#else
    return vmlal_n_s16(vmlal_n_s16(sum, y.val[0], (int16_t)x), y.val[1], (int16_t)((uint32_t)x >> 16));
#endif
}

#define DEPTH 160 /* groups: 64 columns of them are 40 KiB, what a first cache of 48 KiB holds */

typedef struct tile {
    size_t k_groups, lda, ldb, ldc;
    const number_a *a;
    const number_b *b;
    int32_t *c;
    bool add;
} tile;

/* n_rows and n_vecs are constants where this is called, so that the sums are registers. */
static inline __attribute__((always_inline)) void run_tile(const tile *t, int n_rows, int n_vecs)
{
    vec sum[PITH_GEMM_ROWS][VECS];
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) sum[i][j] = t->add ? LOAD_SUM(t->c + (size_t)i * t->ldc + j * WIDTH) : ZERO();
    const number_a *a = t->a;
    const number_b *b = t->b;
    for (size_t g = 0; g < t->k_groups; g++, a += GROUP, b += GROUP * t->ldb) {
        groups row[VECS];
        for (int j = 0; j < n_vecs; j++) row[j] = LOAD(b + (size_t)j * GROUP * WIDTH);
        for (int i = 0; i < n_rows; i++) {
            int32_t group;
            memcpy(&group, a + (size_t)i * t->lda, sizeof group);
            for (int j = 0; j < n_vecs; j++) sum[i][j] = madd(sum[i][j], SPREAD(group), row[j]);
        }
    }
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) STORE(t->c + (size_t)i * t->ldc + j * WIDTH, sum[i][j]);
}

PITH_GEMM_TILES(run, tile, run_tile)

void PRODUCT(size_t m, size_t n, size_t k_groups, const number_a *a, size_t lda, const number_b *b, size_t ldb, int32_t *c, size_t ldc)
{
    size_t whole = n - n % WIDTH, g = 0;
    do { /* also once when k_groups is 0: c is then zero */
        size_t depth = PITH_MIN(k_groups - g, (size_t)DEPTH);
        for (size_t j = 0; j < whole; j += VECS * WIDTH)
            for (size_t i = 0; i < m; i += PITH_GEMM_ROWS) {
                tile t = {depth, lda, ldb, ldc, a + i * lda + GROUP * g, b + g * GROUP * ldb + GROUP * j, c + i * ldc + j, g > 0};
                run(&t, PITH_MIN(m - i, (size_t)PITH_GEMM_ROWS), PITH_MIN((whole - j) / WIDTH, (size_t)VECS));
            }
        g += depth;
    } while (g < k_groups);
    if (whole < n) REF(m, n - whole, k_groups, a, lda, b + GROUP * whole, ldb, c + whole, ldc);
}
