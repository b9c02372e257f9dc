/* Every table of kernels this processor can run, held to the scalar one: same bits, nothing written
 * outside, at odd sizes and strides.  And the scalar one held to double precision. */
#include "test.h"

#include <math.h>

#include "tensor/kernels.h"

static pith_rng rng = {.seed = 5};
static const pith_kernels *ref;
static const pith_kernels *tables[8];
static size_t n_tables;

/* One instruction set at a time, and each without its dot products of bytes. */
static void find_tables(pith_ctx *ctx)
{
    static const char *const names[] = {"avx2", "avx512", "neon"};
    pith_cpu cpu;
    assert_ok(ctx, pith_cpu_detect(ctx, "scalar", &cpu));
    ref = pith_kernels_for(&cpu);
    for (size_t i = 0; i < PITH_COUNT(names); i++) {
        if (pith_cpu_detect(ctx, names[i], &cpu) != PITH_OK) continue;
        for (int plain = 0; plain < 2; plain++) {
            const pith_kernels *k = pith_kernels_for(&cpu);
            if (n_tables == 0 || tables[n_tables - 1] != k) tables[n_tables++] = k;
            cpu.avx512_vnni = cpu.avx_vnni = cpu.neon_dot = false;
        }
    }
}

#define GUARD 25 /* odd, so that results are not aligned for vectors */
#define MARK 0x5a

/* A buffer of n floats, marked, with guards on both sides; the same place in both. */
typedef struct pair {
    float *expected, *got;
    size_t n;
} pair;

static pair pair_new(size_t n)
{
    pair p = {malloc((n + 2 * GUARD) * 4), malloc((n + 2 * GUARD) * 4), n};
    memset(p.expected, MARK, (n + 2 * GUARD) * 4);
    memset(p.got, MARK, (n + 2 * GUARD) * 4);
    return p;
}

static void pair_check(pair p, const pith_kernels *k, const char *what, size_t a, size_t b)
{
    for (size_t i = 0; i < p.n + 2 * GUARD; i++) {
        if (memcmp(&p.expected[i], &p.got[i], 4) == 0 || (isnan(p.expected[i]) && isnan(p.got[i]))) continue;
        fail_msg("%s: %s(%zu, %zu): value %ld is %a, not %a", k->name, what, a, b, (long)i - GUARD, (double)p.got[i], (double)p.expected[i]);
    }
    free(p.expected);
    free(p.got);
}

static void fill(float *x, size_t n, float size)
{
    for (size_t i = 0; i < n; i++) x[i] = size * pith_rng_normal(&rng);
}

/* ---- low-bit products ------------------------------------------------------------------------- */

/* Widths: 0..8 for every block, 9 at random, 10 in runs of equal ones. */
static void random_qmat(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_qscale mode, unsigned width, bool extreme, pith_qmat *w)
{
    size_t n_tiles = PITH_CEIL_DIV(n_rows, 16), n_blocks = PITH_CEIL_DIV(n_cols, 32);
    uint8_t *bits = malloc(n_tiles * n_blocks);
    for (size_t i = 0; i < n_tiles * n_blocks; i++)
        bits[i] = (uint8_t)(width < 9 ? width : width == 9 ? pith_rng_below(&rng, 9) : (i / 5) % 9);
    for (size_t i = 0; i < n_tiles * n_blocks && mode == PITH_QSCALE_ROW && width >= 9; i++)
        if (i % 3 == 0) bits[i] |= (uint8_t)((pith_rng_u32(&rng) & PITH_BLOCK_CENTRED) | PITH_BLOCK_SHIFT(pith_rng_below(&rng, 8)));
    assert_ok(ctx, pith_qmat_new(ctx, n_rows, n_cols, mode, bits, w));
    for (size_t t = 0; t < n_tiles; t++)
        for (size_t b = 0; b < n_blocks; b++) {
            uint8_t u[16][32];
            uint16_t scale[16], min[16];
            unsigned mask = (1u << PITH_BLOCK_WIDTH(bits[t * n_blocks + b])) - 1;
            for (int r = 0; r < 16; r++) {
                for (int c = 0; c < 32; c++) u[r][c] = (uint8_t)((extreme ? 255 : pith_rng_u32(&rng)) & mask);
                scale[r] = pith_f32_to_f16(pith_rng_normal(&rng));
                min[r] = pith_f32_to_f16(pith_rng_normal(&rng));
            }
            pith_qmat_put_block(w, t, b, (const uint8_t(*)[32])u, scale, min);
        }
    if (mode == PITH_QSCALE_ROW) fill(w->row_scale, n_tiles * 16, 1);
    free(bits);
}

static void check_products(pith_ctx *ctx, const pith_kernels *k, size_t n_rows, size_t n_cols, pith_qscale mode, unsigned width, bool extreme)
{
    enum { N = 14 };
    pith_qmat w;
    random_qmat(ctx, n_rows, n_cols, mode, width, extreme, &w);
    pith_q8 a;
    void *memory = pith_alloc(ctx, pith_q8_bytes(N, n_cols));
    pith_q8_init(&a, N, n_cols, memory);
    float *x = malloc(N * n_cols * 4);
    fill(x, N * n_cols, 1);
    if (extreme) /* the largest sums, of either sign: what a 16-bit step would cut off */
        for (size_t i = 0; i < N * n_cols; i++) x[i] = i / n_cols % 2 ? -1 : 1;
    ref->q8_rows(&a, 0, N, x, n_cols, n_cols);
    static const size_t tokens[] = {0, 1, 2, 3, 5, 6, N};
    for (size_t tile0 = 0; tile0 < w.n_tiles; tile0 += 1 + w.n_tiles / 3)
        for (size_t tile1 = tile0 + 1; tile1 <= w.n_tiles; tile1 += PITH_MAX(w.n_tiles - tile0 - 1, (size_t)1)) {
            size_t rows = PITH_MIN(tile1 * 16, n_rows) - tile0 * 16, ldy = rows + 3;
            for (size_t t = 0; t < PITH_COUNT(tokens); t++) {
                size_t i0 = tokens[t] < N ? 1 : 0, i1 = tokens[t] < N ? 1 + tokens[t] : N;
                pair p = pair_new(N * ldy);
                ref->qmat_mat(&w, tile0, tile1, &a, i0, i1, p.expected + GUARD, ldy);
                k->qmat_mat(&w, tile0, tile1, &a, i0, i1, p.got + GUARD, ldy);
                pair_check(p, k, "qmat_mat", tokens[t], width);
            }
            pair p = pair_new(rows);
            ref->qmat_vec(&w, tile0, tile1, &a, N - 1, p.expected + GUARD);
            k->qmat_vec(&w, tile0, tile1, &a, N - 1, p.got + GUARD);
            pair_check(p, k, "qmat_vec", rows, width);
        }
    free(x);
    pith_free(ctx, memory);
    pith_qmat_free(ctx, &w);
}

static void products(void **state)
{
    pith_ctx *ctx = *state;
    static const struct { size_t rows, cols; } shapes[] = {{1, 1}, {16, 32}, {17, 33}, {31, 95}, {50, 544}};
    for (size_t i = 0; i < n_tables; i++)
        for (int mode = 0; mode < 3; mode++) {
            for (unsigned width = 0; width <= 8; width++) {
                check_products(ctx, tables[i], 33, 100, (pith_qscale)mode, width, false);
                check_products(ctx, tables[i], 16, 64, (pith_qscale)mode, width, true);
            }
            for (size_t s = 0; s < PITH_COUNT(shapes); s++)
                for (unsigned width = 9; width <= 10; width++)
                    check_products(ctx, tables[i], shapes[s].rows, shapes[s].cols, (pith_qscale)mode, width, false);
        }
}

/* Each row and column reaches its own result and no other: a weight of 1 at a time. */
static void every_lane(void **state)
{
    pith_ctx *ctx = *state;
    static const uint8_t widths[] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t memory[8192] __attribute__((aligned(64)));
    float x[32 * 8];
    pith_q8 a;
    assert_true(pith_q8_bytes(1, 256) <= sizeof memory);
    pith_q8_init(&a, 1, 256, memory);
    for (int i = 0; i < 256; i++) x[i] = (float)(i % 32 * 3 + 4 + (i % 32 == 31) * 30); /* 4 .. 127, all different */
    ref->q8_rows(&a, 0, 1, x, 256, 256);
    for (size_t t = 0; t <= n_tables; t++) {
        const pith_kernels *k = t < n_tables ? tables[t] : ref;
        for (size_t b = 0; b < 8; b++)
            for (int row = 0; row < 16; row++)
                for (int col = 0; col < 32; col++) {
                    pith_qmat w;
                    uint8_t u[16][32] = {{0}};
                    assert_ok(ctx, pith_qmat_new(ctx, 16, 256, PITH_QSCALE_BLOCK_MIN, widths, &w));
                    uint16_t one[16], zero[16] = {0};
                    for (int r = 0; r < 16; r++) one[r] = pith_f32_to_f16(1);
                    u[row][col] = (uint8_t)(1 << (widths[b] - 1));
                    pith_qmat_put_block(&w, 0, b, (const uint8_t(*)[32])u, one, zero);
                    float y[16], z[16];
                    k->qmat_vec(&w, 0, 1, &a, 0, y);
                    k->qmat_mat(&w, 0, 1, &a, 0, 1, z, 16);
                    for (int r = 0; r < 16; r++) {
                        float expected = r == row ? (float)u[row][col] * x[b * 32 + (size_t)col] : 0;
                        if (y[r] != expected || z[r] != expected)
                            fail_msg("%s: width %d row %d column %d: result %d is %g (vec), %g (mat), not %g", k->name, widths[b], row, col, r, (double)y[r], (double)z[r], (double)expected);
                    }
                    pith_qmat_free(ctx, &w);
                }
    }
}

/* The scalar product against the dequantised matrix in double precision. */
static void products_mean_what_they_say(void **state)
{
    pith_ctx *ctx = *state;
    enum { ROWS = 40, COLS = 300 };
    for (int mode = 0; mode < 3; mode++) {
        pith_qmat w;
        random_qmat(ctx, ROWS, COLS, (pith_qscale)mode, 9, false, &w);
        float x[COLS], row[COLS], y[ROWS];
        fill(x, COLS, 1);
        pith_q8 a;
        void *memory = pith_alloc(ctx, pith_q8_bytes(1, COLS));
        pith_q8_init(&a, 1, COLS, memory);
        ref->q8_rows(&a, 0, 1, x, COLS, COLS);
        ref->qmat_vec(&w, 0, w.n_tiles, &a, 0, y);
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0, size = 0;
            pith_qmat_row(&w, r, row);
            for (size_t c = 0; c < COLS; c++) {
                double term = (double)row[c] * a.scale[c / 32] * a.q[c];
                sum += term;
                size += fabs(term);
            }
            /* at most 3 roundings a block and one for each of 10 blocks; min mode cancels against its minimum */
            if (fabs(y[r] - sum) > 64 * size * 0x1p-24) fail_msg("mode %d row %zu: %g, not %g", mode, r, (double)y[r], sum);
        }
        pith_free(ctx, memory);
        pith_qmat_free(ctx, &w);
    }
}

static void quantised_activations(void **state)
{
    pith_ctx *ctx = *state;
    static const size_t cols[] = {1, 15, 16, 17, 31, 32, 33, 63, 576, 1000};
    for (size_t t = 0; t <= n_tables; t++)
        for (size_t s = 0; s < PITH_COUNT(cols); s++) {
            enum { N = 6 };
            const pith_kernels *k = t < n_tables ? tables[t] : ref;
            size_t n = cols[s], ldx = n + 5, bytes = pith_q8_bytes(N, n);
            float *x = malloc(N * ldx * 4 + 4);
            fill(x, N * ldx, 3);
            for (size_t c = 0; c < n; c++) {
                x[2 * ldx + c] = 0;
                x[3 * ldx + c] *= 1e-32f;
                x[5 * ldx + c] *= 1e37f;
            }
            x[4 * ldx + n - 1] = s % 2 ? -INFINITY : NAN;
            uint8_t *memory[2];
            pith_q8 a[2];
            for (int i = 0; i < 2; i++) {
                memory[i] = pith_alloc(ctx, bytes + 64);
                memset(memory[i], MARK, bytes + 64);
                pith_q8_init(&a[i], N, n, memory[i]);
                (i ? k : ref)->q8_rows(&a[i], 1, N, x, ldx, n);
            }
            for (size_t i = 1; i < N; i++)
                for (size_t b = 0; b < a[0].n_blocks; b++) {
                    size_t at = i * a[0].n_blocks + b;
                    float max = 0;
                    int sum = 0;
                    if (i == 4 && b + 1 == a[0].n_blocks) {
                        assert_true(isnan(a[1].scale[at]) && isnan(a[1].sum[at]) && isnan(a[1].total[i]));
                        a[0].scale[at] = a[0].sum[at] = a[0].total[i] = 0; /* one NaN is as good as another */
                        a[1].scale[at] = a[1].sum[at] = a[1].total[i] = 0;
                        continue;
                    }
                    for (size_t c = b * 32; c < PITH_MIN(n, b * 32 + 32); c++) max = fmaxf(max, fabsf(x[i * ldx + c]));
                    if (max < 1e-30f) max = 0;
                    assert_true(a[1].scale[at] == max / 127);
                    for (size_t c = b * 32; c < b * 32 + 32; c++) {
                        int q = a[1].q[i * a[1].n_blocks * 32 + c];
                        sum += q;
                        double exact = c < n && max > 0 ? (double)x[i * ldx + c] / max * 127 : 0;
                        if (fabs(exact - q) > 0.5001) fail_msg("%s: q8 of %g is %d", k->name, exact, q);
                    }
                    assert_int_equal(a[1].isum[at], sum);
                }
            assert_memory_equal(memory[0], memory[1], bytes + 64);
            for (int i = 0; i < 2; i++) pith_free(ctx, memory[i]);
            free(x);
        }
}

/* ---- plain matrices, conversions and elementwise ---------------------------------------------- */

static const size_t lengths[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 300, 576};

static void plain_matrices(void **state)
{
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (size_t s = 0; s < PITH_COUNT(lengths); s++) {
            const pith_kernels *k = tables[t];
            enum { ROWS = 11 };
            size_t n = lengths[s];
            float *x = malloc(n * 4 + 4), *w = malloc(ROWS * n * 4 + 4);
            uint16_t *h = malloc(ROWS * n * 2 + 2);
            fill(x, n, 1);
            fill(w, ROWS * n, 1);
            for (size_t i = 0; i < ROWS * n; i++) h[i] = pith_f32_to_f16(w[i]);
            for (size_t r0 = 0; r0 < 3; r0++) {
                pair p = pair_new(ROWS), q = pair_new(ROWS), b = pair_new(ROWS);
                ref->f32_vec(w, r0, ROWS - r0, n, x, p.expected + GUARD);
                k->f32_vec(w, r0, ROWS - r0, n, x, p.got + GUARD);
                ref->f16_vec(h, r0, ROWS - r0, n, x, q.expected + GUARD);
                k->f16_vec(h, r0, ROWS - r0, n, x, q.got + GUARD);
                for (size_t i = 0; i < ROWS * n && r0 == 0; i++) w[i] = (float)(int)(w[i] * 8); /* bf16 of the same bits */
                for (size_t i = 0; i < ROWS * n; i++) h[i] = pith_f32_to_bf16(w[i]);
                ref->bf16_vec(h, r0, ROWS - r0, n, x, b.expected + GUARD);
                k->bf16_vec(h, r0, ROWS - r0, n, x, b.got + GUARD);
                for (size_t i = 0; i < ROWS * n; i++) h[i] = pith_f32_to_f16(w[i]);
                pair_check(p, k, "f32_vec", n, r0);
                pair_check(q, k, "f16_vec", n, r0);
                pair_check(b, k, "bf16_vec", n, r0);
            }
            pair d = pair_new(1), y = pair_new(n), c = pair_new(n);
            d.expected[GUARD] = ref->dot(w, x, n);
            d.got[GUARD] = k->dot(w, x, n);
            pair_check(d, k, "dot", n, 0);
            double sum = 0, size = 0;
            for (size_t i = 0; i < n; i++) sum += (double)w[i] * x[i], size += fabs((double)w[i] * x[i]);
            if (fabs(ref->dot(w, x, n) - sum) > (double)(n / 16 + 5) * size * 0x1p-24) fail_msg("dot of %zu is off", n);
            for (size_t i = 0; i < n; i++) y.expected[GUARD + i] = y.got[GUARD + i] = w[i];
            ref->axpy(y.expected + GUARD, x, 0.7f, n);
            k->axpy(y.got + GUARD, x, 0.7f, n);
            pair_check(y, k, "axpy", n, 0);
            ref->bf16_to_f32(h, c.expected + GUARD, n);
            k->bf16_to_f32(h, c.got + GUARD, n);
            pair_check(c, k, "bf16_to_f32", n, 0);
            free(x), free(w), free(h);
        }
}

static void conversions_of_everything(void **state)
{
    (void)state;
    static uint16_t halves[0x10000 + 8], back[2][0x10000 + 8];
    static float wide[2][0x10000 + 8], values[0x10000 + 8];
    for (unsigned i = 0; i < 0x10000; i++) halves[i] = (uint16_t)i;
    for (size_t t = 0; t < n_tables; t++) {
        ref->f16_to_f32(halves, wide[0], 0x10000);
        tables[t]->f16_to_f32(halves, wide[1], 0x10000);
        assert_memory_equal(wide[0], wide[1], 0x10000 * 4);
        for (unsigned round = 0; round < 16; round++) {
            for (unsigned i = 0; i < 0x10000; i++) {
                uint32_t u = i << 16 | (round < 2 ? (round ? 0x1000u : 0xffffu) : pith_rng_u32(&rng) & 0xffff);
                memcpy(&values[i], &u, 4);
            }
            ref->f32_to_f16(values, back[0], 0x10000 - round);
            tables[t]->f32_to_f16(values, back[1], 0x10000 - round);
            assert_memory_equal(back[0], back[1], (0x10000 - round) * 2);
        }
        for (size_t s = 0; s < PITH_COUNT(lengths); s++) {
            memset(back, MARK, sizeof back);
            memset(wide, MARK, sizeof wide);
            ref->f32_to_f16(values + 0x3f80, back[0] + 3, lengths[s]);
            tables[t]->f32_to_f16(values + 0x3f80, back[1] + 3, lengths[s]);
            ref->f16_to_f32(halves + 0x3c00, wide[0] + 3, lengths[s]);
            tables[t]->f16_to_f32(halves + 0x3c00, wide[1] + 3, lengths[s]);
            assert_memory_equal(back[0], back[1], sizeof back[0]);
            assert_memory_equal(wide[0], wide[1], sizeof wide[0]);
        }
    }
}

static double ulp_of(double x) { return x == 0 ? 0x1p-149 : fmax(ldexp(1, ilogb(x) - 23), 0x1p-149); }

static void elementwise(void **state)
{
    (void)state;
    for (size_t t = 0; t < n_tables; t++)
        for (size_t s = 0; s < PITH_COUNT(lengths); s++)
            for (int size = 0; size < 3; size++) {
                const pith_kernels *k = tables[t];
                size_t n = lengths[s];
                float *x = malloc(n * 4 + 4), *g = malloc(n * 4 + 4);
                fill(x, n, size == 0 ? 1 : size == 1 ? 60 : 1e-3f);
                fill(g, n, 1);
                if (n > 8 && size == 1) x[3] = INFINITY, x[5] = -INFINITY, x[n - 1] = NAN, x[n - 2] = -200;
                pair norm = pair_new(n), soft = pair_new(n), silu = pair_new(n), in_place = pair_new(n);
                ref->rmsnorm(norm.expected + GUARD, x, g, n, 1e-5f);
                k->rmsnorm(norm.got + GUARD, x, g, n, 1e-5f);
                memcpy(in_place.expected + GUARD, x, n * 4);
                memcpy(in_place.got + GUARD, x, n * 4);
                ref->rmsnorm(in_place.expected + GUARD, in_place.expected + GUARD, g, n, 1e-5f);
                k->rmsnorm(in_place.got + GUARD, in_place.got + GUARD, g, n, 1e-5f);
                memcpy(soft.expected + GUARD, x, n * 4);
                memcpy(soft.got + GUARD, x, n * 4);
                ref->softmax(soft.expected + GUARD, n, 0.125f);
                k->softmax(soft.got + GUARD, n, 0.125f);
                ref->silu_mul(silu.expected + GUARD, x, g, n);
                k->silu_mul(silu.got + GUARD, x, g, n);
                pair_check(norm, k, "rmsnorm", n, 0);
                pair_check(in_place, k, "rmsnorm in place", n, 0);
                pair_check(soft, k, "softmax", n, 0);
                pair_check(silu, k, "silu_mul", n, 0);
                for (int interleaved = 0; interleaved < 2; interleaved++) {
                    size_t d = n & ~(size_t)1;
                    pair rope = pair_new(d);
                    memcpy(rope.expected + GUARD, x, d * 4);
                    memcpy(rope.got + GUARD, x, d * 4);
                    ref->rope(rope.expected + GUARD, g, g + n - d / 2, d, interleaved);
                    k->rope(rope.got + GUARD, g, g + n - d / 2, d, interleaved);
                    pair_check(rope, k, "rope", d, (size_t)interleaved);
                }
                free(x), free(g);
            }
}

/* The formulas in double precision; the vector tables equal the scalar one. */
static void elementwise_is_right(void **state)
{
    (void)state;
    double worst = 0;
    for (float x = -87.33f; x < -17.4f; x += 0.00071f) { /* 1 + exp(x) is 1: this is exp itself */
        float pair_of[2] = {0, x};
        ref->softmax(pair_of, 2, 1);
        worst = fmax(worst, fabs(pair_of[1] - exp((double)x)) / ulp_of(exp((double)x)));
    }
    print_message("exp: at most %.3f ulp\n", worst);
    assert_true(worst <= 1);
    worst = 0;
    for (float x = -80; x < 80; x += 0.0037f) {
        float y, one = 1;
        ref->silu_mul(&y, &x, &one, 1);
        double exact = x / (1 + exp(-(double)x));
        worst = fmax(worst, fabs(y - exact) / ulp_of(exact));
    }
    print_message("silu: at most %.3f ulp\n", worst);
    assert_true(worst <= 2.5);
    float x[300], y[300], gain[300];
    fill(x, 300, 4);
    fill(gain, 300, 1);
    double squares = 0, max = -1e9, sum = 0;
    for (int i = 0; i < 300; i++) {
        squares += (double)x[i] * x[i];
        max = fmax(max, x[i] * 0.3);
    }
    ref->rmsnorm(y, x, gain, 300, 1e-3f);
    for (int i = 0; i < 300; i++) {
        double exact = x[i] / sqrt(squares / 300 + 1e-3) * gain[i];
        assert_true(fabs(y[i] - exact) <= 16 * ulp_of(exact));
        sum += exp(x[i] * 0.3 - max);
    }
    memcpy(y, x, sizeof x);
    ref->softmax(y, 300, 0.3f);
    for (int i = 0; i < 300; i++) {
        double exact = exp(x[i] * 0.3 - max) / sum;
        assert_true(fabs(y[i] - exact) <= exact * 1e-5);
    }
    float pair_of[6] = {1, 2, 3, 4, 5, 6}, c[3] = {0.5f, 0.25f, 1}, s[3] = {2, 1, 0.5f};
    ref->rope(pair_of, c, s, 6, true);
    const float interleaved[6] = {1 * .5f - 2 * 2, 1 * 2 + 2 * .5f, 3 * .25f - 4, 3 + 4 * .25f, 5 - 6 * .5f, 5 * .5f + 6};
    assert_memory_equal(pair_of, interleaved, sizeof interleaved);
    float halves[6] = {1, 3, 5, 2, 4, 6};
    ref->rope(halves, c, s, 6, false);
    const float apart[6] = {interleaved[0], interleaved[2], interleaved[4], interleaved[1], interleaved[3], interleaved[5]};
    assert_memory_equal(halves, apart, sizeof apart);
}

/* ---- attention -------------------------------------------------------------------------------- */

typedef struct attention { /* keys and values in three types, and the double-precision answer */
    size_t n, d, stride;
    float *q, *k, *v, *k_scale, *v_scale, *scratch;
    uint16_t *k16, *v16;
    int8_t *k8, *v8;
} attention;

static attention attention_new(size_t n, size_t d, size_t stride, size_t n_queries)
{
    size_t count = n * stride + 1;
    attention a = {n, d, stride, malloc(n_queries * d * 4 + 4), malloc(count * 4), malloc(count * 4), malloc(n * 4 + 4), malloc(n * 4 + 4),
                   malloc(n_queries * n * 4 + 4), malloc(count * 2), malloc(count * 2), malloc(count), malloc(count)};
    fill(a.q, n_queries * d, 1);
    fill(a.k_scale, n, 0.02f);
    fill(a.v_scale, n, 0.02f);
    for (size_t i = 0; i < count; i++) { /* values that all three types hold */
        a.k8[i] = (int8_t)pith_rng_u32(&rng);
        a.v8[i] = (int8_t)pith_rng_u32(&rng);
        a.k[i] = (float)a.k8[i] / 64;
        a.v[i] = (float)a.v8[i] / 64;
        a.k16[i] = pith_f32_to_f16(a.k[i]);
        a.v16[i] = pith_f32_to_f16(a.v[i]);
    }
    return a;
}

static void attention_free(attention *a)
{
    free(a->q), free(a->k), free(a->v), free(a->k_scale), free(a->v_scale), free(a->scratch);
    free(a->k16), free(a->v16), free(a->k8), free(a->v8);
}

static void attend(const pith_kernels *k, const attention *a, size_t n_q, int type, float *out)
{
    float scale = 1 / sqrtf((float)a->d);
    if (type == 0) k->attend_heads_f32(a->q, n_q, a->k, a->v, a->stride, a->n, a->d, scale, a->scratch, out);
    else if (type == 1) k->attend_heads_f16(a->q, n_q, a->k16, a->v16, a->stride, a->n, a->d, scale, a->scratch, out);
    else k->attend_heads_q8(a->q, n_q, a->k8, a->k_scale, a->v8, a->v_scale, a->stride, a->n, a->d, scale, a->scratch, out);
}

static void attention_tables(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 3, 5, 17, 64, 100}, dims[] = {1, 8, 20, 64, 65, 80, 128};
    for (size_t t = 0; t < n_tables; t++)
        for (size_t i = 0; i < PITH_COUNT(counts); i++)
            for (size_t j = 0; j < PITH_COUNT(dims); j++) {
                attention a = attention_new(counts[i], dims[j], dims[j] + (i % 2) * 7, 1);
                for (int type = 0; type < 3; type++) {
                    pair p = pair_new(a.d);
                    attend(ref, &a, 1, type, p.expected + GUARD);
                    attend(tables[t], &a, 1, type, p.got + GUARD);
                    pair_check(p, tables[t], type == 0 ? "attend_heads_f32" : type == 1 ? "attend_heads_f16" : "attend_heads_q8", a.n, a.d);
                }
                attention_free(&a);
            }
}

/* Heads together: as each alone. */
static void attention_of_heads(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 15, 16, 33}, dims[] = {20, 64, 128, 272}, queries[] = {1, 2, 3, 5, 8};
    for (size_t t = 0; t <= n_tables; t++)
        for (size_t i = 0; i < PITH_COUNT(counts); i++)
            for (size_t j = 0; j < PITH_COUNT(dims); j++)
                for (size_t m = 0; m < PITH_COUNT(queries); m++) {
                    const pith_kernels *k = t < n_tables ? tables[t] : ref;
                    size_t n_q = queries[m], d = dims[j];
                    attention a = attention_new(counts[i], d, d + 3, n_q);
                    for (int type = 0; type < 3; type++) {
                        pair p = pair_new(n_q * d);
                        attention one = a;
                        for (size_t h = 0; h < n_q; h++, one.q += d) attend(ref, &one, 1, type, p.expected + GUARD + h * d);
                        attend(k, &a, n_q, type, p.got + GUARD);
                        pair_check(p, k, type == 0 ? "attend_heads_f32" : type == 1 ? "attend_heads_f16" : "attend_heads_q8", n_q, d);
                    }
                    attention_free(&a);
                }
}

static void attention_is_right(void **state)
{
    (void)state;
    attention a = attention_new(50, 40, 45, 1);
    for (int type = 0; type < 3; type++) {
        double p[50], sum = 0, max = -1e9;
        float out[40];
        attend(ref, &a, 1, type, out);
        for (size_t j = 0; j < a.n; j++) {
            double s = 0;
            for (size_t c = 0; c < a.d; c++) s += (double)a.q[c] * (type == 2 ? a.k8[j * a.stride + c] * (double)a.k_scale[j] : a.k[j * a.stride + c]);
            p[j] = s / sqrt(40);
            max = fmax(max, p[j]);
        }
        for (size_t j = 0; j < a.n; j++) sum += p[j] = exp(p[j] - max);
        for (size_t c = 0; c < a.d; c++) {
            double o = 0;
            for (size_t j = 0; j < a.n; j++) o += p[j] / sum * (type == 2 ? a.v8[j * a.stride + c] * (double)a.v_scale[j] : a.v[j * a.stride + c]);
            if (fabs(out[c] - o) > 1e-5) fail_msg("type %d column %zu: %g, not %g", type, c, (double)out[c], o);
        }
    }
    attention_free(&a);
}

static int setup(void **state)
{
    pith_ctx *ctx = test_ctx(1);
    find_tables(ctx);
    for (size_t i = 0; i < n_tables; i++) print_message("table %s\n", tables[i]->name);
    *state = ctx;
    return 0;
}

static int teardown(void **state)
{
    pith_ctx_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products), cmocka_unit_test(every_lane), cmocka_unit_test(products_mean_what_they_say),
        cmocka_unit_test(quantised_activations), cmocka_unit_test(plain_matrices), cmocka_unit_test(conversions_of_everything),
        cmocka_unit_test(elementwise), cmocka_unit_test(elementwise_is_right), cmocka_unit_test(attention_tables),
        cmocka_unit_test(attention_of_heads),
        cmocka_unit_test(attention_is_right)};
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    return failed ? failed : n_tables ? 0 : 77; /* nothing beside the scalar table: skipped, not passed */
}
