/* Encoding to block types and back: errors within bounds, weights that matter, values that cannot be. */
#include "maker.h"

#include <float.h>
#include <math.h>

#include "format/model_file.h"

enum { N = 256 * 64 };

/* relative squared error that an encoder must stay below on normal values: measured, plus a twentieth */
static const struct { pith_dtype dtype; double bound; } encoders[] = {
    {PITH_F16, 4.59e-08}, {PITH_BF16, 2.93e-06}, {PITH_Q8_0, 2.97e-05}, {PITH_Q6_K, 0.000309}, {PITH_Q5_1, 0.0015},
    {PITH_Q5_0, 0.00192}, {PITH_Q5_K, 0.00125}, {PITH_IQ4_NL, 0.00563}, {PITH_Q4_1, 0.00641}, {PITH_Q4_0, 0.00756},
    {PITH_Q4_K, 0.00516}, {PITH_Q3_K, 0.0216}, {PITH_Q2_K, 0.0726}};

static void normal_values(float *x, size_t n, uint64_t seed)
{
    pith_rng rng = {.seed = seed};
    for (size_t i = 0; i < n; i++) x[i] = 0.02f * pith_rng_normal(&rng);
}

static double relative_error(const float *x, const float *y, const float *w, size_t n)
{
    double e = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double wi = w ? (double)w[i] : 1, d = (double)x[i] - (double)y[i];
        e += wi * d * d;
        all += wi * (double)x[i] * (double)x[i];
    }
    return e / all;
}

static void round_trip(pith_dtype dtype, const float *x, size_t n, const float *w, float *y)
{
    size_t bytes;
    assert_true(pith_dtype_bytes(dtype, n, &bytes));
    uint8_t *blocks = malloc(bytes + 8);
    assert_non_null(blocks);
    memset(blocks + bytes, 0xa5, 8);
    assert_int_equal(pith_blocks_from_f32(dtype, x, n, w, blocks), PITH_OK);
    for (int i = 0; i < 8; i++) assert_int_equal(blocks[bytes + (size_t)i], 0xa5);
    assert_int_equal(pith_blocks_to_f32(dtype, blocks, n, y), PITH_OK);
    free(blocks);
}

static void errors_stay_within_bounds(void **state)
{
    (void)state;
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    assert_true(x && y);
    normal_values(x, N, 1);
    for (size_t i = 0; i < PITH_COUNT(encoders); i++) {
        round_trip(encoders[i].dtype, x, N, NULL, y);
        double e = relative_error(x, y, NULL, N);
if (!(e <= encoders[i].bound) || !(e >= encoders[i].bound / 4)) fail_msg("%s: relative squared error %g, bound %g", pith_dtype_get(encoders[i].dtype)->name, e, encoders[i].bound);
    }
    free(x);
    free(y);
}

/* With weights the weighted error must be smaller than without, for every type whose encoder uses them. */
static void importance_counts(void **state)
{
    (void)state;
    static const pith_dtype types[] = {PITH_Q4_0, PITH_Q4_1, PITH_Q5_0, PITH_Q5_1, PITH_IQ4_NL, PITH_Q2_K, PITH_Q3_K, PITH_Q4_K, PITH_Q5_K, PITH_Q6_K};
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y), *z = malloc(N * sizeof *z), *w = malloc(N * sizeof *w);
    assert_true(x && y && z && w);
    normal_values(x, N, 2);
    pith_rng rng = {.seed = 3};
    for (size_t i = 0; i < N; i++) w[i] = expf(2 * pith_rng_normal(&rng));
    for (size_t i = 0; i < PITH_COUNT(types); i++) {
        round_trip(types[i], x, N, NULL, y);
        round_trip(types[i], x, N, w, z);
        double plain = relative_error(x, y, w, N), weighted = relative_error(x, z, w, N);
        if (!(weighted < 0.93 * plain)) fail_msg("%s: weighted error %g, %g without weights", pith_dtype_get(types[i])->name, weighted, plain);
    }
    free(x);
    free(y);
    free(z);
    free(w);
}

/* Zeros, one value alone, equal values, a grid that can be met exactly, tiny and large ones. */
static void corners(void **state)
{
    (void)state;
    float x[256], y[256], w[256];
    for (size_t t = 0; t < PITH_COUNT(encoders); t++) {
        pith_dtype dtype = encoders[t].dtype;
        for (int with_w = 0; with_w < 2; with_w++) {
            for (int i = 0; i < 256; i++) w[i] = i % 5 ? 1 : 0; /* some values do not matter at all */
            memset(x, 0, sizeof x);
            round_trip(dtype, x, 256, with_w ? w : NULL, y);
            for (int i = 0; i < 256; i++) assert_true(y[i] == 0);
            x[131] = -0.5f;
            round_trip(dtype, x, 256, with_w ? w : NULL, y);
            for (int i = 0; i < 256; i++) assert_true(fabsf(y[i] - x[i]) <= 0.02f);
            for (int i = 0; i < 256; i++) x[i] = 0.75f;
            round_trip(dtype, x, 256, with_w ? w : NULL, y);
            for (int i = 0; i < 256; i++) if (!(fabsf(y[i] - 0.75f) <= 0.03f)) fail_msg("%s %d: %d %g", pith_dtype_get(dtype)->name, with_w, i, (double)y[i]);
            for (int i = 0; i < 256; i++) x[i] = i % 2 ? 1e-30f : -1e-30f; /* below any f16 scale: to nothing, not to nonsense */
            round_trip(dtype, x, 256, with_w ? w : NULL, y);
            for (int i = 0; i < 256; i++) assert_true(fabsf(y[i]) < 1e-5f);
            for (int i = 0; i < 256; i++) x[i] = 1e-5f * (float)(i % 16 - 8); /* scales among f16's subnormals */
            round_trip(dtype, x, 256, with_w ? w : NULL, y);
            for (int i = 0; i < 256; i++) assert_true(fabsf(y[i] - x[i]) < 5e-5f);
            for (int i = 0; i < 256; i++) x[i] = 60000 * sinf((float)i);
            round_trip(dtype, x, 256, with_w ? w : NULL, y);
            for (int i = 0; i < 256; i++) assert_true(isfinite(y[i]));
        }
    }
    for (int i = 0; i < 256; i++) x[i] = (float)(i % 16 - 8) * 0.25f; /* Q4_0's own grid */
    round_trip(PITH_Q4_0, x, 256, NULL, y);
    assert_memory_equal(x, y, sizeof x);
}

static void refuses_what_cannot_be(void **state)
{
    (void)state;
    float x[256] = {0}, w[256];
    uint8_t blocks[2048];
    for (int i = 0; i < 256; i++) w[i] = 1;
    for (size_t t = 0; t < PITH_COUNT(encoders); t++) {
        pith_dtype dtype = encoders[t].dtype;
        if (pith_dtype_get(dtype)->block_len == 1) continue;
        static const float bad[] = {NAN, INFINITY, -INFINITY, FLT_MAX};
        for (size_t k = 0; k < PITH_COUNT(bad); k++) {
            x[200] = bad[k];
            assert_int_equal(pith_blocks_from_f32(dtype, x, 256, NULL, blocks), PITH_E_NONFINITE);
            x[200] = 0;
        }
        w[3] = NAN;
        assert_int_equal(pith_blocks_from_f32(dtype, x, 256, w, blocks), PITH_E_NONFINITE);
        w[3] = 1;
        assert_int_equal(pith_blocks_from_f32(dtype, x, 255, NULL, blocks), PITH_E_SHAPE);
        assert_int_equal(pith_blocks_to_f32(dtype, blocks, 255, x), PITH_E_SHAPE);
        assert_int_equal(pith_blocks_from_f32(dtype, x, 0, NULL, blocks), PITH_OK);
        memset(x, 0, sizeof x);
    }
    assert_int_equal(pith_blocks_from_f32(PITH_IQ2_XXS, x, 256, NULL, blocks), PITH_E_UNSUPPORTED);
    assert_int_equal(pith_blocks_from_f32((pith_dtype)5, x, 256, NULL, blocks), PITH_E_UNSUPPORTED);
    assert_int_equal(pith_blocks_to_f32((pith_dtype)5, blocks, 256, x), PITH_E_UNSUPPORTED);
}

/* Types that the package gguf does not decode, by hand from ggml's layout. */
static void decodes_the_rest(void **state)
{
    (void)state;
    float y[256];
    uint8_t b[292] = {0};
    pith_put16(b, 0x4000); /* 2 */
    b[2] = 0x05;           /* Q1_0: values 0 and 2 are + */
    assert_int_equal(pith_blocks_to_f32(PITH_Q1_0, b, 128, y), PITH_OK);
    assert_true(y[0] == 2 && y[1] == -2 && y[2] == 2 && y[127] == -2);
    b[2] = 0xe4; /* Q2_0: codes 0 1 2 3 */
    assert_int_equal(pith_blocks_to_f32(PITH_Q2_0, b, 64, y), PITH_OK);
    assert_true(y[0] == -2 && y[1] == 0 && y[2] == 2 && y[3] == 4 && y[4] == -2);
    memset(b, 0, sizeof b);
    pith_put16(b, 0x3800); /* 0.5 */
    b[4] = 0x80;
    b[35] = 3;
    assert_int_equal(pith_blocks_to_f32(PITH_Q8_1, b, 32, y), PITH_OK);
    assert_true(y[0] == -64 && y[31] == 1.5f);
    memset(b, 0, sizeof b);
    pith_put32(b, 0x3e800000); /* 0.25 */
    b[4] = 4;
    b[259] = 0xff;
    assert_int_equal(pith_blocks_to_f32(PITH_Q8_K, b, 256, y), PITH_OK);
    assert_true(y[0] == 1 && y[255] == -0.25f);
}

static void decodes_scalars(void **state)
{
    (void)state;
    float y[4];
    const int64_t i64[] = {-5, (int64_t)1 << 40};
    const double f64[] = {0.1, -1e300};
    const uint8_t e5m2[] = {0x3c, 0xc0, 0x7b, 0x01}, e4m3[] = {0x7f, 0x80, 0x08, 0x07};
    assert_int_equal(pith_blocks_to_f32(PITH_I64, i64, 2, y), PITH_OK);
    assert_true(y[0] == -5 && y[1] == 0x1p40f);
    assert_int_equal(pith_blocks_to_f32(PITH_F64, f64, 2, y), PITH_OK);
    assert_true(y[0] == 0.1f && isinf(y[1]));
    assert_int_equal(pith_blocks_to_f32(PITH_F8_E5M2, e5m2, 4, y), PITH_OK);
    assert_true(y[0] == 1 && y[1] == -2 && y[2] == 57344 && y[3] == 0x1p-16f);
    assert_int_equal(pith_blocks_to_f32(PITH_F8_E4M3, e4m3, 4, y), PITH_OK);
    assert_true(isnan(y[0]) && y[1] == 0 && signbit(y[1]) && y[2] == 0x1p-6f && y[3] == 7 * 0x1p-9f);
    const uint8_t bytes[] = {0xff, 0x7f, 0x01, 0x80, 0, 0, 0, 0x80};
    static const struct { pith_dtype dtype; float first; } ints[] = {{PITH_I8, -1}, {PITH_U8, 255}, {PITH_I16, 32767}, {PITH_U16, 32767},
        {PITH_I32, (float)(int32_t)0x80017fff}, {PITH_U32, (float)0x80017fffu}, {PITH_U64, 0x1p63f}, {PITH_BOOL, 255}};
    for (size_t i = 0; i < PITH_COUNT(ints); i++) {
        assert_int_equal(pith_blocks_to_f32(ints[i].dtype, bytes, 1, y), PITH_OK);
        if (ints[i].dtype == PITH_U64) assert_true(y[0] == (float)pith_le64(bytes));
        else assert_true(y[0] == ints[i].first);
    }
}

/* All f16 there are, against the scalar conversion. */
static void decodes_every_f16(void **state)
{
    (void)state;
    uint8_t *h = malloc(65536 * 2);
    float *y = malloc(65536 * sizeof *y);
    assert_true(h && y);
    for (unsigned i = 0; i < 65536; i++) pith_put16(h + 2 * i, (uint16_t)i);
    assert_int_equal(pith_blocks_to_f32(PITH_F16, h, 65536, y), PITH_OK);
    for (unsigned i = 0; i < 65536; i++) {
        float expected = pith_f16_to_f32((uint16_t)i);
        if (memcmp(&expected, &y[i], 4) != 0) fail_msg("0x%04x is %a, not %a", i, (double)y[i], (double)expected);
    }
    free(h);
    free(y);
}

/* What the K types' encoders make of given values, to the bit and on every machine: making them faster must not change
 * it, and who finds better scales changes these numbers with the bounds above. */
static void k_types_keep_their_bits(void **state)
{
    (void)state;
    static const struct { pith_dtype dtype; uint64_t plain, weighted; } expected[] = {
        {PITH_Q2_K, 0x03da3634f5dc0760, 0x312e90cc0719d6d9}, {PITH_Q3_K, 0x6174f62318b59c44, 0xcbd9ca6b6a55c5f4},
        {PITH_Q4_K, 0x186d16faec307e8e, 0xcc8fdf8eb6b2b91c}, {PITH_Q5_K, 0xd150902a9eb0dd21, 0xfdd3acf2e3151329},
        {PITH_Q6_K, 0xc59590815eaa423d, 0xcd3af7e334b71409}};
    float *x = malloc(N * sizeof *x), *w = malloc(N * sizeof *w);
    uint8_t *blocks = malloc(N);
    assert_true(x && w && blocks);
    pith_rng rng = {.seed = 9};
    for (size_t i = 0; i < N; i++) { /* near to normal; blocks of small and large numbers, of one sign, half empty, of one value */
        float scale = (float)(1 << i / 256 % 16) * 1e-3f, sum = -2.0f;
        for (int k = 0; k < 4; k++) sum += pith_rng_uniform(&rng);
        x[i] = i / 256 % 8 == 1 ? fabsf(sum) * scale : i / 256 % 8 == 3 && i / 16 % 2 ? 0 : i / 256 % 8 == 5 ? scale : sum * scale;
        w[i] = i / 256 % 8 == 7 && i % 3 ? 0 : pith_rng_uniform(&rng);
    }
    for (size_t i = 0; i < PITH_COUNT(expected); i++) {
        size_t bytes;
        assert_true(pith_dtype_bytes(expected[i].dtype, N, &bytes) && bytes <= N);
        assert_int_equal(pith_blocks_from_f32(expected[i].dtype, x, N, NULL, blocks), PITH_OK);
        uint64_t plain = pith_hash(blocks, bytes);
        assert_int_equal(pith_blocks_from_f32(expected[i].dtype, x, N, w, blocks), PITH_OK);
        uint64_t weighted = pith_hash(blocks, bytes);
        if (plain != expected[i].plain || weighted != expected[i].weighted)
            fail_msg("%s: 0x%016llx, 0x%016llx", pith_dtype_get(expected[i].dtype)->name, (unsigned long long)plain, (unsigned long long)weighted);
    }
    free(x);
    free(w);
    free(blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_stay_within_bounds), cmocka_unit_test(importance_counts), cmocka_unit_test(corners),
        cmocka_unit_test(refuses_what_cannot_be), cmocka_unit_test(decodes_the_rest), cmocka_unit_test(decodes_scalars), cmocka_unit_test(decodes_every_f16),
        cmocka_unit_test(k_types_keep_their_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
