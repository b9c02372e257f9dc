/* Dense products: every instruction set gives the scalar's bits, and the scalar gives the product. */
#include <math.h>

#include "test.h"
#include "tensor/gemm.h"
#include "tensor/gemm_whole.h"

#define GUARD 1e30f

typedef struct shape {
    size_t m, n, k;
} shape;

static const shape shapes[] = {{1, 1, 1}, {6, 64, 160}, {7, 65, 161}, {5, 15, 3}, {13, 33, 150}, {2, 48, 199}, {12, 31, 0}, {1, 128, 64}, {6, 17, 170}, {11, 100, 7}, {23, 80, 161}, {31, 48, 20}};

static float *values(size_t n, uint64_t stream)
{
    float *x = malloc(n * sizeof *x);
    pith_rng rng = {.seed = 3, .stream = stream};
    for (size_t i = 0; i < n; i++) x[i] = pith_rng_normal(&rng);
    return x;
}

typedef struct products {
    pith_gemm_fn *gemm;
    pith_gemm_turned_fn *turned;
    pith_gemm_apart_fn *apart;
    pith_gemm_rows_fn *rows;
    pith_gemm_pieces_fn *pieces;
} products;

#define PRODUCTS(isa) (&(products){pith_gemm_##isa, pith_gemm_turned_##isa, pith_gemm_apart_##isa, pith_gemm_rows_##isa, pith_gemm_pieces_##isa})

static void check(const products *of)
{
    for (size_t s = 0; s < PITH_COUNT(shapes); s++) {
        size_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k, lda = k + 3, ldb = n + 5, ldc = n + 2;
        float *a = values(m * lda + 1, 1), *b = values(k * ldb + 1, 2), *start = values(m * ldc + 1, 3);
        for (int add = 0; add < 2; add++) {
            size_t bytes = (m * ldc + 1) * sizeof(float);
            float *expected = malloc(bytes), *c = malloc(bytes);
            memcpy(expected, start, bytes);
            memcpy(c, start, bytes);
            /* one value off the start: no alignment is asked for */
            pith_gemm_ref(m, n, k, a + 1, lda, b + 1, ldb, expected + 1, ldc, add);
            of->gemm(m, n, k, a + 1, lda, b + 1, ldb, c + 1, ldc, add);
            if (memcmp(expected, c, bytes)) fail_msg("%zu x %zu x %zu, add %d: not the scalar's bytes", m, n, k, add);
            for (size_t i = 0; i < m; i++) {
                for (size_t j = 0; j < n; j++) {
                    double sum = add ? (double)start[1 + i * ldc + j] : 0, size = fabs(sum);
                    for (size_t p = 0; p < k; p++) {
                        double product = (double)a[1 + i * lda + p] * (double)b[1 + p * ldb + j];
                        sum += product;
                        size += fabs(product);
                    }
                    assert_true(fabs((double)c[1 + i * ldc + j] - sum) <= size * (double)(k + 1) * 0x1p-24);
                }
            }
            /* a by columns */
            float *across = malloc((m * k + 1) * sizeof *across);
            pith_transpose(a + 1, m, k, lda, across + 1, m);
            memcpy(c, start, bytes);
            of->turned(m, n, k, across + 1, m, b + 1, ldb, c + 1, ldc, add);
            if (memcmp(expected, c, bytes)) fail_msg("%zu x %zu x %zu, add %d: turned, not the scalar's bytes", m, n, k, add);
            free(across);
            /* rows of a that overlap, the last first */
            size_t *a_row = malloc((m + 1) * sizeof *a_row);
            for (size_t i = 0; i < m; i++) a_row[i] = (m - 1 - i) * lda / 2;
            memcpy(expected, start, bytes);
            memcpy(c, start, bytes);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++) {
                    float sum = add ? start[1 + i * ldc + j] : 0;
                    for (size_t p = 0; p < k; p++) sum = fmaf(a[1 + a_row[i] + p], b[1 + p * ldb + j], sum);
                    expected[1 + i * ldc + j] = sum;
                }
            of->apart(m, n, k, a + 1, a_row, b + 1, ldb, c + 1, ldc, add);
            if (memcmp(expected, c, bytes)) fail_msg("%zu x %zu x %zu, add %d: rows apart, not the scalar's bytes", m, n, k, add);
            free(a_row);
            /* rows of b the other way round */
            size_t *b_row = malloc((k + 1) * sizeof *b_row);
            for (size_t p = 0; p < k; p++) b_row[p] = (k - 1 - p) * ldb;
            memcpy(expected, start, bytes);
            memcpy(c, start, bytes);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++) {
                    float sum = add ? start[1 + i * ldc + j] : 0;
                    for (size_t p = 0; p < k; p++) sum = fmaf(a[1 + i * lda + p], b[1 + b_row[p] + j], sum);
                    expected[1 + i * ldc + j] = sum;
                }
            of->rows(m, n, k, a + 1, lda, b + 1, b_row, c + 1, ldc, add);
            if (memcmp(expected, c, bytes)) fail_msg("%zu x %zu x %zu, add %d: rows elsewhere, not the scalar's bytes", m, n, k, add);
            /* columns of b in pieces that overlap, the last first */
            size_t n_pieces = n / PITH_GEMM_PIECE, *b_piece = malloc((n_pieces + 1) * sizeof *b_piece);
            for (size_t p = 0; p < n_pieces; p++) b_piece[p] = (n_pieces - 1 - p) * 7;
            memcpy(expected, start, bytes);
            memcpy(c, start, bytes);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n_pieces * PITH_GEMM_PIECE; j++) {
                    float sum = add ? start[1 + i * ldc + j] : 0;
                    for (size_t p = 0; p < k; p++) sum = fmaf(a[1 + i * lda + p], b[1 + b_piece[j / PITH_GEMM_PIECE] + p * ldb + j % PITH_GEMM_PIECE], sum);
                    expected[1 + i * ldc + j] = sum;
                }
            of->pieces(m, n_pieces, k, a + 1, lda, b + 1, b_piece, ldb, c + 1, ldc, add);
            if (memcmp(expected, c, bytes)) fail_msg("%zu x %zu x %zu, add %d: pieces, not the scalar's bytes", m, n, k, add);
            free(b_row), free(b_piece);
            free(expected), free(c);
        }
        free(a), free(b), free(start);
    }
}

static void test_products(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    const pith_cpu *cpu = pith_ctx_cpu(ctx);
    check(PRODUCTS(ref));
#if defined(__x86_64__)
    if (cpu->avx2) check(PRODUCTS(avx2));
    if (cpu->avx512) check(PRODUCTS(avx512));
#elif defined(__aarch64__)
    if (cpu->neon) check(PRODUCTS(neon));
#endif
    (void)cpu;
    pith_ctx_free(ctx);
}

static int16_t *numbers(size_t n, uint64_t stream)
{
    int16_t *x = malloc(n * sizeof *x);
    pith_rng rng = {.seed = 3, .stream = stream};
    for (size_t i = 0; i < n; i++) x[i] = (int16_t)pith_rng_below(&rng, 65536);
    x[0] = x[n - 1] = INT16_MIN; /* the sums go round */
    return x;
}

static void check16(pith_gemm16_fn *gemm)
{
    for (size_t s = 0; s < PITH_COUNT(shapes); s++) {
        size_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k, lda = 2 * k + 3, ldb = n + 5, ldc = n + 2, bytes = (m * ldc + 1) * sizeof(int32_t);
        int16_t *a = numbers(m * lda + 1, 1), *b = numbers(k * 2 * ldb + 1, 2);
        int32_t *expected = malloc(bytes), *c = malloc(bytes);
        memset(expected, 1, bytes);
        memset(c, 1, bytes);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                int64_t sum = 0;
                for (size_t p = 0; p < 2 * k; p++) sum += (int64_t)a[1 + i * lda + p] * b[1 + p / 2 * 2 * ldb + 2 * j + p % 2];
                expected[1 + i * ldc + j] = (int32_t)(uint32_t)(uint64_t)sum;
            }
        gemm(m, n, k, a + 1, lda, b + 1, ldb, c + 1, ldc);
        if (memcmp(expected, c, bytes)) fail_msg("%zu x %zu x %zu pairs: not the product", m, n, k);
        free(expected), free(c), free(a), free(b);
    }
}

/* Numbers of low..low + range - 1, the ends among them. */
static uint8_t *bytes_of(size_t n, int low, unsigned range, uint64_t stream)
{
    uint8_t *x = malloc(n);
    pith_rng rng = {.seed = 5, .stream = stream};
    for (size_t i = 0; i < n; i++) {
        unsigned kind = pith_rng_below(&rng, 4);
        x[i] = (uint8_t)(low + (int)(kind == 0 ? 0 : kind == 1 ? range - 1 : pith_rng_below(&rng, range)));
    }
    return x;
}

static void check8(pith_gemm8_fn *gemm)
{
    for (size_t s = 0; s < PITH_COUNT(shapes); s++) {
        size_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k, lda = 4 * k + 3, ldb = n + 5, ldc = n + 2, bytes = (m * ldc + 1) * sizeof(int32_t);
        uint8_t *a = bytes_of(m * lda + 1, 0, 128, 1);
        int8_t *b = (int8_t *)bytes_of(k * 4 * ldb + 1, -127, 255, 2);
        int32_t *expected = malloc(bytes), *c = malloc(bytes);
        memset(expected, 1, bytes);
        memset(c, 1, bytes);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                int32_t sum = 0;
                for (size_t p = 0; p < 4 * k; p++) sum += a[1 + i * lda + p] * b[1 + p / 4 * 4 * ldb + 4 * j + p % 4];
                expected[1 + i * ldc + j] = sum;
            }
        gemm(m, n, k, a + 1, lda, b + 1, ldb, c + 1, ldc);
        if (memcmp(expected, c, bytes)) fail_msg("%zu x %zu x %zu groups of four: not the product", m, n, k);
        free(expected), free(c), free(a), free(b);
    }
}

static void test_products8(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    const pith_cpu *cpu = pith_ctx_cpu(ctx);
    check8(pith_gemm8_ref);
#if defined(__x86_64__)
    if (cpu->avx2) check8(pith_gemm8_avx2);
    if (cpu->avx_vnni) check8(pith_gemm8_avx2_vnni);
    if (cpu->avx512) check8(pith_gemm8_avx512);
    if (cpu->avx512 && cpu->avx512_vnni) check8(pith_gemm8_avx512_vnni);
#elif defined(__aarch64__)
    if (cpu->neon) check8(pith_gemm8_neon);
#endif
    (void)cpu;
    pith_ctx_free(ctx);
}

static void test_products16(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    const pith_cpu *cpu = pith_ctx_cpu(ctx);
    check16(pith_gemm16_ref);
#if defined(__x86_64__)
    if (cpu->avx2) check16(pith_gemm16_avx2);
    if (cpu->avx_vnni) check16(pith_gemm16_avx2_vnni);
    if (cpu->avx512) check16(pith_gemm16_avx512);
    if (cpu->avx512 && cpu->avx512_vnni) check16(pith_gemm16_avx512_vnni);
#elif defined(__aarch64__)
    if (cpu->neon) check16(pith_gemm16_neon);
#endif
    (void)cpu;
    pith_ctx_free(ctx);
}

static void test_transpose(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {{1, 1}, {16, 16}, {17, 33}, {5, 64}, {64, 5}, {1, 40}};
    for (size_t s = 0; s < PITH_COUNT(sizes); s++) {
        size_t rows = sizes[s][0], cols = sizes[s][1], lds = cols + 3, ldd = rows + 2;
        float *src = values(rows * lds, 4), *dst = malloc(cols * ldd * sizeof *dst);
        for (size_t i = 0; i < cols * ldd; i++) dst[i] = GUARD;
        pith_transpose(src, rows, cols, lds, dst, ldd);
        for (size_t c = 0; c < cols; c++)
            for (size_t r = 0; r < ldd; r++) assert_true(dst[c * ldd + r] == (r < rows ? src[r * lds + c] : GUARD));
        free(src), free(dst);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_products16), cmocka_unit_test(test_products8), cmocka_unit_test(test_transpose)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
