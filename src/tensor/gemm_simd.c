/* The product for one instruction set, chosen by the flags this file is built with.
 *
 * A tile of c, ROWS x VECS vectors, stays in registers while k runs: a step takes VECS vectors of b and
 * ROWS values of a for ROWS * VECS multiply-adds.  k runs in blocks of DEPTH, so that a panel of b stays
 * in the cache while all rows of a pass over it. */
#include "tensor/gemm.h"
#include "tensor/gemm_tiles.h"

#include <math.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define NAME pith_gemm_avx512
#define ROWS_NAME pith_gemm_rows_avx512
#define VECS 4
#define WIDTH 16
typedef __m512 vec;
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define ZERO() _mm512_setzero_ps()
#define SPREAD(x) _mm512_set1_ps(x)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined(__AVX2__)
#include <immintrin.h>
#define NAME pith_gemm_avx2
#define ROWS_NAME pith_gemm_rows_avx2
#define VECS 2
#define WIDTH 8
typedef __m256 vec;
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define ZERO() _mm256_setzero_ps()
#define SPREAD(x) _mm256_set1_ps(x)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#elif defined(__aarch64__)
#include <arm_neon.h>
#define NAME pith_gemm_neon
#define ROWS_NAME pith_gemm_rows_neon
#define VECS 4
#define WIDTH 4
typedef float32x4_t vec;
#define LOAD(p) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define ZERO() vdupq_n_f32(0)
#define SPREAD(x) vdupq_n_f32(x)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#endif

#define ROWS PITH_GEMM_ROWS
#define DEPTH 160 /* 64 columns of f32: 40 KiB, what a first cache of 48 KiB holds; others take it from the second */

typedef struct tile {
    size_t k, lda, ldb, ldc;
    const float *a, *b;
    const size_t *a_row, *b_row; /* where rows are, from a and b; NULL: lda, ldb apart */
    float *c;
    bool add;
} tile;

/* n_rows, n_vecs and scattered are constants where this is called, so that the sums are registers. */
static inline __attribute__((always_inline)) void run_tile(const tile *t, int n_rows, int n_vecs, bool scattered)
{
    vec sum[ROWS][VECS];
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) sum[i][j] = t->add ? LOAD(t->c + (size_t)i * t->ldc + j * WIDTH) : ZERO();
    const float *a = t->a, *b = t->b, *rows[ROWS];
    for (int i = 0; scattered && i < n_rows; i++) rows[i] = a + t->a_row[i];
    for (size_t p = 0; p < t->k; p++, a++, b += t->ldb) {
        const float *from = scattered ? t->b + t->b_row[p] : b;
        vec row[VECS];
        for (int j = 0; j < n_vecs; j++) row[j] = LOAD(from + j * WIDTH);
        for (int i = 0; i < n_rows; i++) {
            vec x = SPREAD(scattered ? rows[i][p] : a[(size_t)i * t->lda]);
            for (int j = 0; j < n_vecs; j++) sum[i][j] = FMA(x, row[j], sum[i][j]);
        }
    }
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) STORE(t->c + (size_t)i * t->ldc + j * WIDTH, sum[i][j]);
}

static inline __attribute__((always_inline)) void run_plain(const tile *t, int n_rows, int n_vecs) { run_tile(t, n_rows, n_vecs, false); }
static inline __attribute__((always_inline)) void run_rows_apart(const tile *t, int n_rows, int n_vecs) { run_tile(t, n_rows, n_vecs, true); }
PITH_GEMM_TILES(run, tile, run_plain)
PITH_GEMM_TILES(run_scattered, tile, run_rows_apart)

void NAME(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    size_t whole = n - n % WIDTH, k0 = 0;
    do { /* also once when k is 0: c is then zero */
        size_t depth = PITH_MIN(k - k0, (size_t)DEPTH);
        bool more = add || k0 > 0;
        for (size_t j = 0; j < whole; j += VECS * WIDTH) {
            size_t n_vecs = PITH_MIN((whole - j) / WIDTH, (size_t)VECS);
            for (size_t i = 0; i < m; i += ROWS) {
                tile t = {depth, lda, ldb, ldc, a + i * lda + k0, b + k0 * ldb + j, NULL, NULL, c + i * ldc + j, more};
                run(&t, PITH_MIN(m - i, (size_t)ROWS), n_vecs);
            }
        }
        k0 += depth;
    } while (k0 < k);
    if (whole < n) pith_gemm_ref(m, n - whole, k, a, lda, b + whole, ldb, c + whole, ldc, add);
}

void ROWS_NAME(size_t m, size_t n, size_t k, const float *a, const size_t *a_row, const float *b, const size_t *b_row, float *c, size_t ldc, bool add)
{
    size_t whole = n - n % WIDTH, k0 = 0;
    do {
        size_t depth = PITH_MIN(k - k0, (size_t)DEPTH);
        bool more = add || k0 > 0;
        for (size_t j = 0; j < whole; j += VECS * WIDTH) {
            size_t n_vecs = PITH_MIN((whole - j) / WIDTH, (size_t)VECS);
            for (size_t i = 0; i < m; i += ROWS) {
                tile t = {depth, 0, 0, ldc, a + k0, b + j, a_row + i, b_row + k0, c + i * ldc + j, more};
                run_scattered(&t, PITH_MIN(m - i, (size_t)ROWS), n_vecs);
            }
        }
        k0 += depth;
    } while (k0 < k);
    if (whole < n) pith_gemm_rows_ref(m, n - whole, k, a, a_row, b + whole, b_row, c + whole, ldc, add);
}
