/* The products for one instruction set, chosen by the flags this file is built with.
 *
 * A tile of c stays in registers while k runs: a step takes its vectors of b and a value of a for each of its rows.  A
 * narrow tile is higher, so that there are sums enough to hide what an addition takes.  k runs in blocks of DEPTH, so
 * that a panel of b stays in the cache while all rows of a pass over it. */
#include "tensor/gemm.h"

#include <math.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define NAME(product) pith_##product##_avx512
#define VECS 4
#define SUMS 24 /* of a tile, at most: registers but for those of b and a */
#define WIDTH 16
typedef __m512 vec;
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define ZERO() _mm512_setzero_ps()
#define SPREAD(x) _mm512_set1_ps(x)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined(__AVX2__)
#include <immintrin.h>
#define NAME(product) pith_##product##_avx2
#define VECS 2
#define SUMS 12
#define WIDTH 8
typedef __m256 vec;
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define ZERO() _mm256_setzero_ps()
#define SPREAD(x) _mm256_set1_ps(x)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#elif defined(__aarch64__)
#include <arm_neon.h>
#define NAME(product) pith_##product##_neon
#define VECS 4
#define SUMS 24
#define WIDTH 4
typedef float32x4_t vec;
#define LOAD(p) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, v)
#define ZERO() vdupq_n_f32(0)
#define SPREAD(x) vdupq_n_f32(x)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#endif

#define HIGHEST 12 /* rows of a tile */
#define DEPTH 160  /* 64 columns of f32: 40 KiB, what a first cache of 48 KiB holds; others take it from the second */

typedef enum layout { PLAIN, TURNED /* a is [k, m] */, APART /* rows of a, anywhere */, ROWS /* of b */, PIECES /* of 16 columns of b */ } layout;

typedef struct tile {
    size_t k, lda, ldb, ldc;
    const float *a, *b;
    const size_t *at; /* APART, ROWS, PIECES: where these are, from a or b */
    float *c;
    bool add;
} tile;

/* All but t are constants where this is called, so that the sums are registers. */
static inline __attribute__((always_inline)) void run_tile(const tile *t, layout how, int n_rows, int n_vecs)
{
    vec sum[HIGHEST][VECS];
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) sum[i][j] = t->add ? LOAD(t->c + (size_t)i * t->ldc + j * WIDTH) : ZERO();
    const float *a = t->a, *b = t->b, *piece[VECS], *apart[HIGHEST];
    for (int i = 0; how == APART && i < n_rows; i++) apart[i] = a + t->at[i];
    for (int j = 0; j < n_vecs; j++) piece[j] = how == PIECES ? b + t->at[j * WIDTH / PITH_GEMM_PIECE] + j * WIDTH % PITH_GEMM_PIECE : b + j * WIDTH;
    for (size_t p = 0; p < t->k; p++, a += how == TURNED ? t->lda : 1, b += t->ldb) {
        if (how == TURNED) __builtin_prefetch(a + t->k * t->lda, 0, 2); /* for who goes on with the rows that follow: they lie apart */
        vec row[VECS];
        for (int j = 0; j < n_vecs; j++) row[j] = LOAD(how == ROWS ? t->b + t->at[p] + j * WIDTH : how == PIECES ? piece[j] + p * t->ldb : b + j * WIDTH);
        for (int i = 0; i < n_rows; i++) {
            vec x = SPREAD(how == APART ? apart[i][p] : a[how == TURNED ? (size_t)i : (size_t)i * t->lda]);
            for (int j = 0; j < n_vecs; j++) sum[i][j] = FMA(x, row[j], sum[i][j]);
        }
    }
    for (int i = 0; i < n_rows; i++)
        for (int j = 0; j < n_vecs; j++) STORE(t->c + (size_t)i * t->ldc + j * WIDTH, sum[i][j]);
}

/* The heights of tiles that are built. */
static inline __attribute__((always_inline)) void run_rows(const tile *t, layout how, size_t n_rows, int n_vecs)
{
    switch (n_rows) {
    case 1: run_tile(t, how, 1, n_vecs); break;
    case 2: run_tile(t, how, 2, n_vecs); break;
    case 3: run_tile(t, how, 3, n_vecs); break;
    case 4: run_tile(t, how, 4, n_vecs); break;
    case 5: run_tile(t, how, 5, n_vecs); break;
    case 6: run_tile(t, how, 6, n_vecs); break;
    case 8: if (8 * n_vecs <= SUMS) run_tile(t, how, 8, n_vecs); break;
    case 12: if (12 * n_vecs <= SUMS) run_tile(t, how, 12, n_vecs); break;
    default: break;
    }
}

static inline __attribute__((always_inline)) void run(const tile *t, layout how, size_t n_rows, size_t n_vecs)
{
    switch (n_vecs) {
    case 1: run_rows(t, how, n_rows, 1); break;
    case 2: run_rows(t, how, n_rows, 2); break;
    case 3: if (VECS > 2) run_rows(t, how, n_rows, PITH_MIN(3, VECS)); break;
    case 4: if (VECS > 2) run_rows(t, how, n_rows, PITH_MIN(4, VECS)); break;
    default: break;
    }
}

/* Of `left` rows, how many the next tile takes. */
static size_t next_rows(size_t left, size_t n_vecs)
{
    if (left >= 12 && 12 * n_vecs <= SUMS) return 12;
    if (left >= 8 && 8 * n_vecs <= SUMS) return 8;
    return left <= 6 ? left : left < 12 ? PITH_CEIL_DIV(left, (size_t)2) : 6;
}

/* Columns of whole vectors, in panels as even as can be. */
static inline __attribute__((always_inline)) void run_all(layout how, size_t m, size_t n_vecs, size_t k, const float *a, size_t lda, const float *b, const size_t *at, size_t ldb, float *c, size_t ldc, bool add)
{
    size_t n_panels = PITH_CEIL_DIV(n_vecs, (size_t)VECS), k0 = 0;
    do { /* also once when k is 0: c is then zero */
        tile t = {.k = PITH_MIN(k - k0, (size_t)DEPTH), .lda = lda, .ldb = ldb, .ldc = ldc, .add = add || k0 > 0};
        const float *a0 = how == TURNED ? a + k0 * lda : a + k0;
        for (size_t p = 0, j = 0; p < n_panels; p++) {
            size_t vecs = n_vecs / n_panels + (p < n_vecs % n_panels);
            t.b = how == ROWS ? b + j : how == PIECES ? b + k0 * ldb : b + k0 * ldb + j;
            t.at = how == ROWS ? at + k0 : how == PIECES ? at + j / PITH_GEMM_PIECE : NULL;
            for (size_t i = 0, rows; i < m; i += rows) {
                rows = next_rows(m - i, vecs);
                t.a = how == APART ? a0 : a0 + (how == TURNED ? i : i * lda);
                if (how == APART) t.at = at + i;
                t.c = c + i * ldc + j;
                run(&t, how, rows, vecs);
            }
            j += vecs * WIDTH;
        }
        k0 += t.k;
    } while (k0 < k);
}

void NAME(gemm)(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    size_t whole = n - n % WIDTH;
    run_all(PLAIN, m, whole / WIDTH, k, a, lda, b, NULL, ldb, c, ldc, add);
    if (whole < n) pith_gemm_ref(m, n - whole, k, a, lda, b + whole, ldb, c + whole, ldc, add);
}

void NAME(gemm_turned)(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    size_t whole = n - n % WIDTH;
    run_all(TURNED, m, whole / WIDTH, k, a, lda, b, NULL, ldb, c, ldc, add);
    if (whole < n) pith_gemm_turned_ref(m, n - whole, k, a, lda, b + whole, ldb, c + whole, ldc, add);
}

void NAME(gemm_apart)(size_t m, size_t n, size_t k, const float *a, const size_t *a_row, const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    size_t whole = n - n % WIDTH;
    run_all(APART, m, whole / WIDTH, k, a, 0, b, a_row, ldb, c, ldc, add);
    if (whole < n) pith_gemm_apart_ref(m, n - whole, k, a, a_row, b + whole, ldb, c + whole, ldc, add);
}

void NAME(gemm_rows)(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, const size_t *b_row, float *c, size_t ldc, bool add)
{
    size_t whole = n - n % WIDTH;
    run_all(ROWS, m, whole / WIDTH, k, a, lda, b, b_row, 0, c, ldc, add);
    if (whole < n) pith_gemm_rows_ref(m, n - whole, k, a, lda, b + whole, b_row, c + whole, ldc, add);
}

_Static_assert(VECS * WIDTH % PITH_GEMM_PIECE == 0, "a panel begins where a piece does");
void NAME(gemm_pieces)(size_t m, size_t n_pieces, size_t k, const float *a, size_t lda, const float *b, const size_t *b_piece, size_t ldb, float *c, size_t ldc, bool add)
{
    run_all(PIECES, m, n_pieces * PITH_GEMM_PIECE / WIDTH, k, a, lda, b, b_piece, ldb, c, ldc, add);
}
