/* Types, counts, half-precision conversions, and the place of the largest. */
#include "test.h"

#include <math.h>

#include "tensor/tensor.h"

static void types_are_what_gguf_says(void **state)
{
    (void)state;
    const pith_dtype_info *q4 = pith_dtype_get(2);
    assert_string_equal(q4->name, "Q4_0");
    assert_int_equal(q4->block_len, 32);
    assert_int_equal(q4->block_bytes, 18);
    assert_null(pith_dtype_get(4)); /* numbers GGUF once used and dropped */
    assert_null(pith_dtype_get(UINT32_MAX));
    pith_dtype dtype;
    assert_true(pith_dtype_by_name("q6_k", &dtype));
    assert_int_equal(dtype, PITH_Q6_K);
    assert_false(pith_dtype_by_name("Q6", &dtype));
    size_t bytes;
    assert_true(pith_dtype_bytes(PITH_Q4_K, 512, &bytes));
    assert_int_equal(bytes, 288);
    assert_false(pith_dtype_bytes(PITH_Q4_K, 511, &bytes));
    assert_false(pith_dtype_bytes(PITH_F64, SIZE_MAX / 4, &bytes));
    assert_false(pith_dtype_bytes((pith_dtype)4, 32, &bytes));
    pith_tensor t = {.n_dims = 3, .dims = {2, 3, 5}};
    assert_int_equal(pith_tensor_count(&t), 30);
    assert_int_equal(pith_tensor_cols(&t), 5);
    pith_tensor scalar = {.n_dims = 0};
    assert_int_equal(pith_tensor_count(&scalar), 1);
    assert_int_equal(pith_tensor_cols(&scalar), 1);
}

/* The value of a half-precision number by its definition. */
static double half_value(unsigned h)
{
    unsigned exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent ? ldexp(1024 + fraction, (int)exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -v : v;
}

static void f16_every_value(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float f = pith_f16_to_f32((uint16_t)h);
        if ((h & 0x7c00) == 0x7c00) {
            if (h & 0x3ff) assert_true(isnan(f) && (pith_f32_to_f16(f) & 0x7fff) > 0x7c00);
            else assert_true(isinf(f) && !!signbit(f) == !!(h >> 15) && pith_f32_to_f16(f) == h);
            continue;
        }
        if ((double)f != half_value(h) || !!signbit(f) != !!(h >> 15)) fail_msg("f16 %04x reads as %a", h, (double)f);
        if (pith_f32_to_f16(f) != h) fail_msg("f16 %04x comes back as %04x", h, pith_f32_to_f16(f));
        if ((h & 0x7fff) >= 0x7bff) continue;
        /* half-way to the next: the even neighbour; a hair to either side: the nearer */
        double middle = (half_value(h) + half_value(h + 1)) / 2;
        unsigned even = h & 1 ? h + 1 : h;
        bool positive = !(h & 0x8000);
        assert_int_equal(pith_f32_to_f16((float)middle), even);
        assert_int_equal(pith_f32_to_f16(nextafterf((float)middle, INFINITY)), positive ? h + 1 : h);
        assert_int_equal(pith_f32_to_f16(nextafterf((float)middle, -INFINITY)), positive ? h : h + 1);
    }
    assert_int_equal(pith_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(pith_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(pith_f32_to_f16(-1e30f), 0xfc00);
}

static void bf16_rounds_to_even(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 0x10000; b++) {
        float f = pith_bf16_to_f32((uint16_t)b);
        if (isnan(f)) {
            assert_true(isnan(pith_bf16_to_f32(pith_f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(pith_f32_to_bf16(f), b);
    }
    assert_int_equal(pith_f32_to_bf16(0x1.01p0f), 0x3f80);  /* half-way, down to even */
    assert_int_equal(pith_f32_to_bf16(0x1.03p0f), 0x3f82);  /* half-way, up to even */
    assert_int_equal(pith_f32_to_bf16(0x1.010002p0f), 0x3f81);
    assert_int_equal(pith_f32_to_bf16(3.4e38f), 0x7f80);
    uint32_t low_nan = 0x7f800001; /* its upper half alone would be infinity */
    float f;
    memcpy(&f, &low_nan, 4);
    assert_int_equal(pith_f32_to_bf16(f), 0x7fc0);
}

/* One after the other, as the contract reads. */
static size_t plain_argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
    return best;
}

static void argmax_is_the_first_of_equals(void **state)
{
    (void)state;
    assert_int_equal(pith_argmax(NULL, 0), 0);
    assert_int_equal(pith_argmax((const float[]){3, 5, 5, 4}, 4), 1);
    assert_int_equal(pith_argmax((const float[]){-INFINITY, -INFINITY}, 2), 0);
    assert_int_equal(pith_argmax((const float[]){-0.0f, 0}, 2), 0); /* they are equal */
    assert_int_equal(pith_argmax((const float[]){1, NAN, 2}, 3), 2);
    assert_int_equal(pith_argmax((const float[]){NAN, 1, INFINITY}, 3), 0);
    float x[67];
    pith_rng rng = {7, 0, 0};
    for (size_t n = 1; n <= PITH_COUNT(x); n++)
        for (size_t at = 0; at < n; at++) { /* the largest at each place, of each length; then twice, and a NaN anywhere */
            for (size_t i = 0; i < n; i++) x[i] = (float)pith_rng_below(&rng, 9) - 8;
            x[at] = 1;
            assert_int_equal(pith_argmax(x, n), at);
            x[pith_rng_below(&rng, (uint32_t)n)] = 1;
            assert_int_equal(pith_argmax(x, n), plain_argmax(x, n));
            x[pith_rng_below(&rng, (uint32_t)n)] = NAN;
            assert_int_equal(pith_argmax(x, n), plain_argmax(x, n));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_what_gguf_says), cmocka_unit_test(f16_every_value), cmocka_unit_test(bf16_rounds_to_even),
        cmocka_unit_test(argmax_is_the_first_of_equals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
