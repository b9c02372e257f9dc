/* Fourier transforms beside their definition in double precision, there and back, the same bits on any number of threads. */
#include "differences.h"

static const size_t lengths[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17, 22, 26, 27, 31, 34, 35, 49, 58, 64, 97, 100, 121, 143, 202, 256, 1000, 1024, 1009};

static void assert_near_of(double found, double expected, double error, size_t n)
{
    if (!(fabs(found - expected) <= error)) fail_msg("of %zu values: %.9g, not %.9g", n, found, expected);
}

/* 21 rows: more than are taken together, and no multiple. */
static void test_rows(void **state)
{
    (void)state;
    enum { ROWS = 21 };
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    for (size_t k = 0; k < PITH_COUNT(lengths); k++) {
        size_t n = lengths[k], bins = n / 2 + 1;
        pith_tape_step(tape, 1);
        pith_var *x = drawn(tape, k, PITH_DIMS(3, 7, n)), *s = pith_var_rfft(x), *again = pith_var_irfft(s, n);
        pith_var *z = drawn(tape, 90 + k, PITH_DIMS(ROWS, n, 2)), *f = pith_var_fft(z, 1, false), *back = pith_var_fft(f, -2, true);
        assert_ok(ctx, pith_tape_status(tape));
        assert_true(s->n_dims == 4 && s->dims[2] == bins && s->dims[3] == 2 && again->n_dims == 3 && again->dims[2] == n);
        double error = 4e-6 * sqrt((double)n);
        for (size_t r = 0; r < ROWS; r += n > 300 ? 20 : 1)
            for (size_t b = 0; b < n; b += n > 300 ? 7 : 1) {
                double re = 0, im = 0, zr = 0, zi = 0;
                for (size_t t = 0; t < n; t++) {
                    double angle = -2 * M_PI * (double)(b * t % n) / (double)n, c = cos(angle), i = sin(angle);
                    double v = (double)x->data[r * n + t], vr = (double)z->data[(r * n + t) * 2], vi = (double)z->data[(r * n + t) * 2 + 1];
                    re += v * c, im += v * i;
                    zr += vr * c - vi * i, zi += vr * i + vi * c;
                }
                assert_near_of((double)f->data[(r * n + b) * 2], zr, error, n);
                assert_near_of((double)f->data[(r * n + b) * 2 + 1], zi, error, n);
                if (b >= bins) continue;
                assert_near_of((double)s->data[(r * bins + b) * 2], re, error, n);
                assert_near_of((double)s->data[(r * bins + b) * 2 + 1], im, error, n);
            }
        for (size_t i = 0; i < x->count; i++) assert_near_of((double)again->data[i], (double)x->data[i], 4e-6, n);
        for (size_t i = 0; i < z->count; i++) assert_near_of((double)back->data[i], (double)z->data[i], 4e-6, n);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_planes(void **state)
{
    (void)state;
    enum { ROWS = 6, COLS = 5, BINS = COLS / 2 + 1 };
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *x = drawn(tape, 1, PITH_DIMS(2, 3, ROWS, COLS)), *s = pith_var_rfft2(x), *again = pith_var_irfft2(s, COLS);
    assert_ok(ctx, pith_tape_status(tape));
    for (size_t i = 0; i < s->count / 2; i++) {
        size_t plane = i / (ROWS * BINS), ky = i / BINS % ROWS, kx = i % BINS;
        double re = 0, im = 0;
        for (size_t p = 0; p < ROWS * COLS; p++) {
            double angle = -2 * M_PI * ((double)(ky * (p / COLS)) / ROWS + (double)(kx * (p % COLS)) / COLS);
            re += (double)x->data[plane * ROWS * COLS + p] * cos(angle), im += (double)x->data[plane * ROWS * COLS + p] * sin(angle);
        }
        assert_near_of((double)s->data[2 * i], re, 1e-5, ROWS * COLS);
        assert_near_of((double)s->data[2 * i + 1], im, 1e-5, ROWS * COLS);
    }
    for (size_t i = 0; i < x->count; i++) assert_near_of((double)again->data[i], (double)x->data[i], 2e-6, ROWS * COLS);
    /* no rows */
    pith_var *none = pith_var_rfft2(pith_tape_fill(tape, 0, PITH_DIMS(0, 4, 4)));
    assert_true(none && none->count == 0 && none->dims[2] == 3);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_refuses(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    for (int k = 0; k < 8; k++) {
        pith_tape_step(tape, 1);
        pith_var *nothing = pith_tape_fill(tape, 0, PITH_DIMS(3, 0)), *row = pith_tape_fill(tape, 0, PITH_DIMS(3, 4)), *y = row;
        if (k == 0) y = pith_var_rfft(nothing);
        if (k == 1) y = pith_var_irfft(row, 4);
        if (k == 2) y = pith_var_irfft(pith_var_rfft(row), 6);
        if (k == 3) y = pith_var_fft(row, 0, false);
        if (k == 4) y = pith_var_fft(pith_var_rfft(row), -1, false);
        if (k == 5) y = pith_var_rfft2(pith_tape_fill(tape, 0, PITH_DIMS(4)));
        if (k == 6) y = pith_var_irfft2(row, 4);
        if (k == 7) y = pith_var_rfft(pith_tape_fill(tape, 0, 0, NULL));
        assert_null(y);
        assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* 50 rows of 154 and, by a convolution, 134 values; the gradient too. */
static pith_status compute(pith_tape *tape, uint64_t *bits)
{
    *bits = 0;
    for (size_t k = 0; k < 2; k++) {
        size_t n = k ? 134 : 154;
        pith_tape_step(tape, k);
        pith_var *x = pith_tape_fill(tape, 0, PITH_DIMS(50, n)), *gx;
        if (!x) return pith_tape_status(tape);
        fill_random(x->data, x->count, k, 0, 0);
        x->needs_grad = true;
        pith_var *y = pith_var_rfft(x);
        PITH_TRY(pith_gradients(tape, y ? pith_var_sum(pith_var_square(y), PITH_ALL_AXES) : NULL, NULL, &x, 1, 0, &gx));
        *bits = *bits * 31 + pith_hash(gx->data, gx->count * sizeof(float));
    }
    return PITH_OK;
}

static uint64_t bits_of(int n_threads)
{
    pith_ctx *ctx = test_ctx(n_threads);
    pith_tape *tape;
    uint64_t bits;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    assert_ok(ctx, compute(tape, &bits));
    pith_tape_free(tape);
    pith_ctx_free(ctx);
    return bits;
}

static void test_same_bits(void **state)
{
    (void)state;
    uint64_t one = bits_of(1);
    assert_true(one == bits_of(3));
    const char *set = getenv("PITH_CPU");
    char *was = set ? strdup(set) : NULL;
    setenv("PITH_CPU", "scalar", 1);
    assert_true(one == bits_of(2));
    if (was) setenv("PITH_CPU", was, 1);
    else unsetenv("PITH_CPU");
    free(was);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_tape *tape;
    uint64_t bits;
    PITH_TRY(pith_tape_new(ctx, 1, &tape));
    pith_status status = compute(tape, &bits);
    pith_tape_free(tape);
    return status;
}

static void test_failing_memory(void **state)
{
    (void)state;
    assert_in_range(test_every_fault(life, NULL), 1, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_planes), cmocka_unit_test(test_refuses), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_failing_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
