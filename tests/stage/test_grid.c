/* The exact layer's coder: what is coded comes back whatever the prediction, costs little when that is good,
 * and damage is seen or does no harm. */
#include "test.h"

#include <math.h>

#include "format/blocks.h"
#include "stage/quantize/grid.h"

enum { ROWS = 40, BLOCKS = 5, N = ROWS * BLOCKS * 32 };
static pith_rng rng = {.seed = 5};

typedef struct sample {
    pith_grid g;
    pith_grid_rows rows;
    float value[N], variance[N];
    uint8_t u[N];
    uint16_t d[ROWS * BLOCKS], m[ROWS * BLOCKS];
    uint8_t scratch[1 << 18] __attribute__((aligned(64)));
    uint8_t coded[1 << 18];
    size_t len;
} sample;

typedef enum made { PLAIN, WILD, OF_BF16 } made;
#define SELDOM 20 /* of so many blocks one is not as the others */

/* Random blocks, and predictions that are off by `error` times d. */
static void make(sample *s, pith_dtype dtype, float error, made how)
{
    const bool wild = how == WILD;
    assert_true(pith_grid_of(dtype, &s->g));
    assert_true(pith_grid_scratch(ROWS, BLOCKS) <= sizeof s->scratch && pith_grid_bound(ROWS, BLOCKS) <= sizeof s->coded);
    s->rows = (pith_grid_rows){.n_rows = ROWS, .n_blocks = BLOCKS, .value = s->value, .variance = s->variance, .u = s->u, .d = s->d, .m = s->m};
    for (size_t b = 0; b < ROWS * BLOCKS; b++) {
        float d = wild && b % 7 == 0 ? 0 : 0.01f * expf(0.3f * pith_rng_normal(&rng)) * (s->g.has_min || s->g.n_levels == 256 || b % 2 ? 1 : -1);
        s->d[b] = pith_f32_to_f16(d);
        s->m[b] = pith_f32_to_f16(-d * (float)s->g.n_levels / 2 + 0.002f * pith_rng_normal(&rng));
        if (how == OF_BF16) { /* as a quantiser makes them of a model in bf16 */
            float low = s->g.has_min ? pith_bf16_to_f32(pith_f32_to_bf16(pith_f16_to_f32(s->m[b]))) : 0;
            float high = pith_bf16_to_f32(pith_f32_to_bf16(low + d * s->g.span));
            s->m[b] = pith_f32_to_f16(low);
            s->d[b] = pith_f32_to_f16((high - low) / s->g.span);
        }
        if (how == OF_BF16 && b % SELDOM == 1) s->d[b] = pith_f32_to_f16(d * 1.0007f); /* of no bf16 value: an escape */
        if (wild) s->d[b] ^= (uint16_t)(b % 11 == 0 ? pith_rng_u32(&rng) : 0); /* any bits: infinite, NaN, denormal */
        for (size_t i = b * 32; i < b * 32 + 32; i++) {
            int q = (int)lrintf((float)s->g.n_levels * (0.5f + 0.2f * pith_rng_normal(&rng)));
            if (i % 32 == 3) q = s->g.n_levels == 256; /* every block reaches the end of its range, as those of real files do */
            if (i % 32 == 5 && s->g.has_min) q = s->g.n_levels;
            s->u[i] = (uint8_t)PITH_MIN(PITH_MAX(q, s->g.n_levels == 256), s->g.n_levels - 1);
            float scale = pith_f16_to_f32(s->d[b]), min = s->g.has_min ? pith_f16_to_f32(s->m[b]) : 0;
            s->value[i] = scale * ((float)(s->u[i] + s->g.low) + error * pith_rng_normal(&rng)) + min;
            s->variance[i] = error * scale * (error * scale);
            if (wild && i % 101 == 0) s->value[i] = i % 2 ? NAN : INFINITY;
        }
    }
}

static void code(pith_ctx *ctx, sample *s, pith_grid_decoders **d)
{
    pith_grid_counts *counts = pith_calloc(ctx, 1, sizeof *counts);
    pith_grid_models *models = pith_alloc(ctx, sizeof *models), *read = pith_alloc(ctx, sizeof *read);
    uint8_t *bytes = pith_alloc(ctx, PITH_GRID_MODEL_BYTES);
    size_t len;
    pith_grid_count(&s->g, &s->rows, pith_ctx_cpu(ctx)->isa, counts, s->scratch, s->coded);
    assert_int_equal(pith_grid_fit(counts, models), PITH_OK);
    assert_int_equal(pith_grid_models_write(models, bytes, PITH_GRID_MODEL_BYTES, &len), PITH_OK);
    for (size_t cut = 0; cut < len; cut += 1 + cut / 8) assert_int_equal(pith_grid_models_read(bytes, cut, read), PITH_E_CORRUPT);
    assert_int_equal(pith_grid_models_read(bytes, len, read), PITH_OK);
    for (size_t i = 2 * PITH_GRID_SCALE_CLASSES; i < PITH_GRID_MODELS; i++) { /* one that has a symbol that it cannot have */
        pith_grid_models *wrong = read;
        if (!models->used[i] || i >= 2 * PITH_GRID_SCALE_CLASSES + 32 * 11) continue;
        size_t wrong_len;
        *wrong = *models;
        memset(wrong->model[i].freq, 0, sizeof wrong->model[i].freq);
        wrong->model[i].freq[15] = wrong->model[i].freq[16] = 2048;
        assert_int_equal(pith_grid_models_write(wrong, bytes, PITH_GRID_MODEL_BYTES, &wrong_len), PITH_OK);
        assert_int_equal(pith_grid_models_read(bytes, wrong_len, read), PITH_E_CORRUPT);
        break;
    }
    assert_int_equal(pith_grid_models_write(models, bytes, PITH_GRID_MODEL_BYTES, &len), PITH_OK);
    assert_int_equal(pith_grid_models_read(bytes, len, read), PITH_OK);
    pith_grid_encoders *e = pith_grid_encoders_new(ctx, models);
    *d = pith_grid_decoders_new(ctx, read);
    assert_non_null(e);
    assert_non_null(*d);
    assert_int_equal(pith_grid_encode(&s->g, &s->rows, e, PITH_ISA_SCALAR, s->coded, sizeof s->coded, &s->len, s->scratch), PITH_OK);
    pith_free(ctx, e);
    pith_free(ctx, counts);
    pith_free(ctx, models);
    pith_free(ctx, read);
    pith_free(ctx, bytes);
}

static void numbers_come_back(void **state)
{
    (void)state;
    static const pith_dtype types[] = {PITH_Q4_0, PITH_Q4_1, PITH_Q5_0, PITH_Q5_1, PITH_Q8_0};
    static const float errors[] = {0.01f, 0.4f, 3, 1e6f};
    static sample s, before;
    pith_ctx *ctx = test_ctx(1);
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        double bits[PITH_COUNT(errors)];
        for (size_t i = 0; i < 3 * PITH_COUNT(errors); i++) {
            pith_grid_decoders *d;
            make(&s, types[t], errors[i / 3], (made)(i % 3));
            code(ctx, &s, &d);
            before = s;
            memset(s.u, 0xaa, sizeof s.u);
            memset(s.d, 0xaa, sizeof s.d);
            if (s.g.has_min) memset(s.m, 0xaa, sizeof s.m);
            for (pith_isa isa = PITH_ISA_SCALAR; isa <= pith_ctx_cpu(ctx)->isa; isa++) {
                if (isa != PITH_ISA_SCALAR && (isa == PITH_ISA_NEON) != (pith_ctx_cpu(ctx)->isa == PITH_ISA_NEON)) continue;
                assert_int_equal(pith_grid_decode(&s.g, &s.rows, d, isa, s.coded, s.len, s.scratch), PITH_OK);
                assert_memory_equal(s.u, before.u, sizeof s.u);
                assert_memory_equal(s.d, before.d, sizeof s.d);
                assert_memory_equal(s.m, before.m, sizeof s.m);
            }
            if (i % 3 == PLAIN) bits[i / 3] = 8.0 * (double)s.len / N;
            for (size_t cut = 0; cut < s.len; cut += 1 + cut / 4) assert_int_equal(pith_grid_decode(&s.g, &s.rows, d, PITH_ISA_SCALAR, s.coded, cut, s.scratch), PITH_E_CORRUPT);
            for (int k = 0; k < 50; k++) { /* whatever comes of it, nothing outside is touched (sanitizers see) */
                size_t at = pith_rng_below(&rng, (uint32_t)s.len);
                s.coded[at] ^= (uint8_t)(1 + pith_rng_below(&rng, 255));
                pith_status status = pith_grid_decode(&s.g, &s.rows, d, PITH_ISA_SCALAR, s.coded, s.len, s.scratch);
                for (size_t j = 0; j < N && status == PITH_OK; j++) assert_true(s.u[j] < s.g.n_levels || s.g.n_levels == 256);
                memcpy(s.coded, before.coded, s.len);
            }
            pith_free(ctx, d);
        }
        /* with scales of about 8 bits each, and 150 bytes a stream: near what the error leaves open */
        double scales = 8.5 * (1 + s.g.has_min) / 32, stream = 8 * 150.0 / N;
        assert_true(bits[0] < 0.05 + scales + stream);
        assert_true(bits[1] < pith_grid_bits(0.4) * 1.1 + scales + stream);
        assert_true(bits[2] < pith_grid_bits(3) * 1.1 + scales + stream);
    }
    pith_ctx_free(ctx);
}

/* Scales that are made of bf16 values take some three bits less (less the few that are not, at two bytes each), and come back as well. */
static void scales_of_bf16_cost_less(void **state)
{
    (void)state;
    static const pith_dtype types[] = {PITH_Q4_0, PITH_Q4_1, PITH_Q5_0, PITH_Q5_1, PITH_Q8_0};
    static sample s, before;
    pith_ctx *ctx = test_ctx(1);
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        size_t len[3];
        for (made how = PLAIN; how <= OF_BF16; how++) {
            pith_grid_decoders *d;
            rng = (pith_rng){.seed = 9};
            make(&s, types[t], 0.4f, how);
            code(ctx, &s, &d);
            len[how] = s.len;
            before = s;
            memset(s.d, 0xaa, sizeof s.d);
            memset(s.u, 0xaa, sizeof s.u);
            if (s.g.has_min) memset(s.m, 0xaa, sizeof s.m);
            assert_int_equal(pith_grid_decode(&s.g, &s.rows, d, pith_ctx_cpu(ctx)->isa, s.coded, s.len, s.scratch), PITH_OK);
            assert_memory_equal(s.u, before.u, sizeof s.u);
            assert_memory_equal(s.d, before.d, sizeof s.d);
            assert_memory_equal(s.m, before.m, sizeof s.m);
            s.coded[0] = 2;
            assert_int_equal(pith_grid_decode(&s.g, &s.rows, d, PITH_ISA_SCALAR, s.coded, s.len, s.scratch), PITH_E_CORRUPT);
            pith_free(ctx, d);
        }
        assert_true(len[PLAIN] - len[OF_BF16] >= (size_t)(1.2 * (1 + s.g.has_min) * ROWS * BLOCKS / 8));
    }
    pith_ctx_free(ctx);
}

static void blocks_are_taken_apart(void **state)
{
    (void)state;
    static const pith_dtype types[] = {PITH_Q4_0, PITH_Q4_1, PITH_Q5_0, PITH_Q5_1, PITH_Q8_0};
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        const pith_dtype_info *info = pith_dtype_get((uint32_t)types[t]);
        uint8_t blocks[3 * 34], u[96];
        uint16_t d[3], m[3];
        float row[96];
        pith_grid g;
        for (size_t i = 0; i < sizeof blocks; i++) blocks[i] = (uint8_t)pith_rng_u32(&rng);
        for (size_t b = 0; b < 3; b++) blocks[b * info->block_bytes + 1] &= 0x3f, blocks[b * info->block_bytes + 3] &= types[t] == PITH_Q4_1 || types[t] == PITH_Q5_1 ? 0x3f : 0xff;
        pith_tensor tensor = {.data = blocks, .dtype = types[t], .n_dims = 2, .dims = {1, 96}};
        pith_grid_rows rows = {.n_rows = 1, .n_blocks = 3, .u = u, .d = d, .m = m};
        assert_int_equal(pith_tensor_rows_f32(&tensor, 0, 1, row), PITH_OK);
        pith_grid_of(types[t], &g);
        pith_grid_split(types[t], blocks, &rows);
        for (int i = 0; i < 96; i++) {
            float value = pith_f16_to_f32(d[i / 32]) * (float)(u[i] + g.low) + (g.has_min ? pith_f16_to_f32(m[i / 32]) : 0);
            assert_true(value == row[i]);
        }
    }
    pith_grid g;
    assert_false(pith_grid_of(PITH_F16, &g));
    assert_false(pith_grid_of(PITH_Q4_K, &g));
}

static void bits_grow_with_the_error(void **state)
{
    (void)state;
    double before = 0;
    for (double ratio = 1e-4; ratio < 1e4; ratio *= 1.1) {
        double bits = pith_grid_bits(ratio);
        assert_true(bits > before && bits < log2(ratio + 1) + 2.1);
        before = bits;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_come_back), cmocka_unit_test(scales_of_bf16_cost_less), cmocka_unit_test(blocks_are_taken_apart), cmocka_unit_test(bits_grow_with_the_error)};
    return cmocka_run_group_tests_name("grid", tests, NULL, NULL);
}
