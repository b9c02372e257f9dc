/* Low-bit matrices: what is put comes back, what GGUF blocks mean is kept, nothing leaks. */
#include "test.h"

#include <math.h>

#include "tensor/qmat.h"

static pith_rng rng = {.seed = 11};

static void random_block(uint8_t u[16][32], unsigned bits, uint16_t scale[16], uint16_t min[16])
{
    for (int r = 0; r < 16; r++) {
        for (int c = 0; c < 32; c++) u[r][c] = bits ? (uint8_t)(pith_rng_u32(&rng) & ((1u << bits) - 1)) : 0;
        scale[r] = pith_f32_to_f16(pith_rng_normal(&rng));
        min[r] = pith_f32_to_f16(pith_rng_normal(&rng));
    }
}

static void blocks_come_back(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (int mode = 0; mode < 3; mode++) {
        enum { TILES = 3, BLOCKS = 13 };
        uint8_t bits[TILES * BLOCKS], u[TILES * BLOCKS][16][32], got[16][32];
        uint16_t scale[TILES * BLOCKS][16], min[TILES * BLOCKS][16], s[16], m[16];
        for (int i = 0; i < TILES * BLOCKS; i++) bits[i] = (uint8_t)(i % 9 | (mode == 0 && i % 2 ? (i % 16 | 1) << 4 : 0));
        pith_qmat w;
        assert_ok(ctx, pith_qmat_new(ctx, TILES * 16 - 3, BLOCKS * 32 - 7, (pith_qscale)mode, bits, &w));
        for (int i = 0; i < TILES * BLOCKS; i++) {
            assert_int_equal(((uintptr_t)w.data + w.tile_offset[i / BLOCKS]) % 64, 0);
            random_block(u[i], bits[i] & 15, scale[i], min[i]);
        }
        for (int k = 0; k < TILES * BLOCKS; k++) { /* in another order, so that a block that spills is seen */
            int i = k * 7 % (TILES * BLOCKS);
            pith_qmat_put_block(&w, (size_t)i / BLOCKS, (size_t)i % BLOCKS, (const uint8_t(*)[32])u[i], mode ? scale[i] : NULL, mode == 2 ? min[i] : NULL);
        }
        for (int i = 0; i < TILES * BLOCKS; i++) {
            pith_qmat_get_block(&w, (size_t)i / BLOCKS, (size_t)i % BLOCKS, got, s, m);
            assert_memory_equal(got, u[i], sizeof got);
            if (mode >= 1) assert_memory_equal(s, scale[i], sizeof s);
            if (mode == 2) assert_memory_equal(m, min[i], sizeof m);
        }
        for (size_t r = 0; r < w.n_tiles * 16 && mode == 0; r++) w.row_scale[r] = pith_rng_normal(&rng);
        float row[BLOCKS * 32];
        for (size_t r = 0; r < w.n_rows; r++) {
            pith_qmat_row(&w, r, row);
            for (size_t c = 0; c < w.n_cols; c++) {
                size_t i = r / 16 * BLOCKS + c / 32;
                int value = u[i][r % 16][c % 32], width = bits[i] & 15, zero = width ? 1 << (width - 1) : 0, shift = bits[i] >> 5;
                /* a centred cell of 2^s whole numbers begins at its lowest one; others begin at a border */
                float middle = bits[i] & PITH_BLOCK_CENTRED ? (ldexpf(1, shift) - 1) / 2 : ldexpf(1, shift) / 2;
                float expected = mode == 0   ? w.row_scale[r] * (ldexpf((float)(value - zero), shift) + middle)
                                 : mode == 1 ? pith_f16_to_f32(scale[i][r % 16]) * (float)(value - zero)
                                             : pith_f16_to_f32(scale[i][r % 16]) * (float)value + pith_f16_to_f32(min[i][r % 16]);
                if (row[c] != expected) fail_msg("mode %d row %zu column %zu: %a, not %a", mode, r, c, (double)row[c], (double)expected);
            }
        }
        pith_qmat_free(ctx, &w);
        pith_qmat_free(ctx, &w);
    }
    pith_ctx_free(ctx);
}

/* The layout itself, byte by byte: it is an interface of the vector kernels. */
static void layout_is_as_written(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_qmat w;
    const uint8_t widths[2] = {7, 8};
    uint8_t u[16][32] = {{0}};
    assert_ok(ctx, pith_qmat_new(ctx, 16, 64, PITH_QSCALE_ROW, widths, &w));
    assert_int_equal(w.tile_offset[1], 64 * 15);
    u[5][22] = 0x75; /* group 5, byte 2 of lane 5: low nibble 5, then 3, then 1 */
    pith_qmat_put_block(&w, 0, 0, (const uint8_t(*)[32])u, NULL, NULL);
    u[5][22] = 0xa5;
    pith_qmat_put_block(&w, 0, 1, (const uint8_t(*)[32])u, NULL, NULL);
    for (size_t i = 0; i < w.tile_offset[1]; i++) {
        unsigned expected = i == 64 + 22          ? 5 << 4  /* plane of 4: group 5 is the upper half of 64 bytes number 1 */
                            : i == 256 + 64 + 22  ? 3 << 4  /* plane of 2: group 5 is bits 4-5 of number 1 */
                            : i == 384 + 22       ? 1 << 5
                            : i == 448 + 320 + 22 ? 0xa5
                                                  : 0;
        if (w.data[i] != expected) fail_msg("byte %zu is %02x, not %02x", i, w.data[i], expected);
    }
    pith_qmat_free(ctx, &w);
    pith_ctx_free(ctx);
}

static void bad_shapes_are_refused(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_qmat w;
    uint8_t bits[4] = {4, 9, 4, 4}, flagged[4] = {4, 4 | PITH_BLOCK_CENTRED, 4, 4};
    assert_int_equal(pith_qmat_new(ctx, 0, 32, PITH_QSCALE_ROW, bits, &w), PITH_E_SHAPE);
    assert_int_equal(pith_qmat_new(ctx, 16, 0, PITH_QSCALE_ROW, bits, &w), PITH_E_SHAPE);
    assert_int_equal(pith_qmat_new(ctx, 16, 64, PITH_QSCALE_ROW, bits, &w), PITH_E_ARGUMENT);
    assert_int_equal(pith_qmat_new(ctx, 16, 64, PITH_QSCALE_BLOCK, flagged, &w), PITH_E_ARGUMENT);
    assert_int_equal(pith_qmat_new(ctx, SIZE_MAX, SIZE_MAX, PITH_QSCALE_ROW, bits, &w), PITH_E_LIMIT);
    uint8_t block[34] = {0};
    pith_tensor t = {.data = block, .dtype = PITH_Q8_0, .n_dims = 1, .dims = {31}};
    assert_int_equal(pith_qmat_from_blocks(ctx, &t, &w), PITH_E_SHAPE);
    t.dims[0] = 0;
    assert_int_equal(pith_qmat_from_blocks(ctx, &t, &w), PITH_E_SHAPE);
    t.dims[0] = 256, t.dtype = PITH_Q4_K;
    assert_int_equal(pith_qmat_from_blocks(ctx, &t, &w), PITH_E_UNSUPPORTED);
    t.dtype = (pith_dtype)77;
    assert_int_equal(pith_qmat_from_blocks(ctx, &t, &w), PITH_E_UNSUPPORTED);
    assert_int_equal(pith_q8_bytes(SIZE_MAX / 2, 64), 0);
    pith_ctx_free(ctx);
}

/* One value of a GGUF block, straight from the format's description. */
static float gguf_value(pith_dtype dtype, const uint8_t *b, int i)
{
    float d = pith_f16_to_f32(pith_le16(b)), m = pith_f16_to_f32(pith_le16(b + 2));
    int half = i / 16 * 4;
    switch (dtype) {
    case PITH_Q4_0: return d * (float)((b[2 + i % 16] >> half & 15) - 8);
    case PITH_Q4_1: return d * (float)(b[4 + i % 16] >> half & 15) + m;
    case PITH_Q5_0: return d * (float)(((b[6 + i % 16] >> half & 15) | (pith_le32(b + 2) >> i & 1) << 4) - 16.0f);
    case PITH_Q5_1: return d * (float)((b[8 + i % 16] >> half & 15) | (pith_le32(b + 4) >> i & 1) << 4) + m;
    default: return d * (float)(int8_t)b[2 + i];
    }
}

static void gguf_blocks_keep_their_values(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    static const pith_dtype types[] = {PITH_Q4_0, PITH_Q4_1, PITH_Q5_0, PITH_Q5_1, PITH_Q8_0};
    enum { ROWS = 2 * 19, BLOCKS = 5 };
    for (size_t k = 0; k < PITH_COUNT(types); k++) {
        size_t each = pith_dtype_get(types[k])->block_bytes;
        uint8_t data[ROWS * BLOCKS * 36];
        for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)pith_rng_u32(&rng);
        for (size_t i = 0; i < ROWS * BLOCKS; i++) /* scales and minima that are finite */
            for (size_t j = 0; j < 4; j += 2)
                if (j == 0 || types[k] == PITH_Q4_1 || types[k] == PITH_Q5_1) pith_put16(data + i * each + j, pith_f32_to_f16(pith_rng_normal(&rng)));
        pith_tensor t = {.data = data, .dtype = types[k], .n_dims = 3, .dims = {2, 19, BLOCKS * 32}};
        pith_qmat w;
        assert_ok(ctx, pith_qmat_from_blocks(ctx, &t, &w));
        assert_int_equal(w.n_rows, ROWS);
        float row[BLOCKS * 32];
        for (size_t r = 0; r < ROWS; r++) {
            pith_qmat_row(&w, r, row);
            for (size_t c = 0; c < BLOCKS * 32; c++) {
                float expected = gguf_value(types[k], data + (r * BLOCKS + c / 32) * each, (int)(c % 32));
                if (row[c] != expected) fail_msg("%s row %zu column %zu: %a, not %a", pith_dtype_get(types[k])->name, r, c, (double)row[c], (double)expected);
            }
        }
        pith_qmat_free(ctx, &w);
    }
    pith_ctx_free(ctx);
}

typedef struct source {
    float values[37][70];
} source;

static void source_row(void *arg, size_t row, float *dst) { memcpy(dst, ((source *)arg)->values[row], sizeof ((source *)arg)->values[row]); }

static void rows_to_8_bits(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    static source s;
    for (int r = 0; r < 37; r++)
        for (int c = 0; c < 70; c++) s.values[r][c] = ldexpf(pith_rng_normal(&rng), r - 20);
    memset(s.values[3], 0, sizeof s.values[3]);
    pith_qmat w;
    assert_ok(ctx, pith_qmat_from_rows_q8(ctx, 37, 70, source_row, &s, &w));
    for (size_t r = 0; r < 37; r++) {
        float row[70];
        pith_qmat_row(&w, r, row);
        for (int c = 0; c < 70; c++) {
            float max = 0;
            for (int j = c / 32 * 32; j < PITH_MIN(c / 32 * 32 + 32, 70); j++) max = fmaxf(max, fabsf(s.values[r][j]));
            /* half a step, and the largest value may be cut by the rounding of the scale (2^-11, or 2^-25 when tiny) */
            float bound = max / 127 * 0.5f * (1 + 0x1p-10f) + max * 0x1p-11f + 127 * 0x1p-24f;
            if (fabsf(row[c] - s.values[r][c]) > bound) fail_msg("row %zu column %d: %g for %g", r, c, (double)row[c], (double)s.values[r][c]);
        }
    }
    pith_qmat_free(ctx, &w);
    s.values[21][69] = NAN;
    s.values[30][2] = INFINITY;
    assert_int_equal(pith_qmat_from_rows_q8(ctx, 37, 70, source_row, &s, &w), PITH_E_NONFINITE);
    assert_non_null(strstr(pith_error(ctx), "row 21 "));
    s.values[21][69] = 1e20f;
    assert_int_equal(pith_qmat_from_rows_q8(ctx, 37, 70, source_row, &s, &w), PITH_E_NONFINITE);
    pith_ctx_free(ctx);
}

static pith_status make_any(pith_ctx *ctx, const void *what)
{
    static source s;
    uint8_t data[20 * 2 * 18] = {0}, bits[3] = {3, 0, 8};
    pith_tensor t = {.data = data, .dtype = PITH_Q4_0, .n_dims = 2, .dims = {20, 64}};
    pith_qmat w;
    switch (*(const int *)what) {
    case 0: PITH_TRY(pith_qmat_new(ctx, 40, 30, PITH_QSCALE_ROW, bits, &w)); break;
    case 1: PITH_TRY(pith_qmat_from_blocks(ctx, &t, &w)); break;
    default: PITH_TRY(pith_qmat_from_rows_q8(ctx, 37, 70, source_row, &s, &w)); break;
    }
    pith_qmat_free(ctx, &w);
    return PITH_OK;
}

static void no_memory_no_leak(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) assert_true(test_every_fault_with(make_any, &what, &(test_fault_options){.n_threads = 2}) >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_back), cmocka_unit_test(layout_is_as_written), cmocka_unit_test(bad_shapes_are_refused),
        cmocka_unit_test(gguf_blocks_keep_their_values), cmocka_unit_test(rows_to_8_bits), cmocka_unit_test(no_memory_no_leak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
