/* The embedded quantiser: what is read is what was written, each level is the uniform quantiser of its
 * step, and damage is refused. */
#include <math.h>

#include "stage/quantize/embedded.h"
#include "test.h"

#define TILES 5
#define BLOCKS 3
#define LEVELS 6
#define N (TILES * 16 * BLOCKS * 32)

static float z[N];
static float step[TILES];
static pith_unit written[LEVELS + 1], unit;
static uint8_t *packet[LEVELS];
static size_t packet_len[LEVELS];
static pith_models models;

static void fill(uint64_t seed)
{
    pith_rng rng = {.seed = seed};
    /* columns and tiles of very different size, some rows zero, a few outliers */
    for (size_t i = 0; i < N; i++) {
        size_t row = i / (BLOCKS * 32), block = i % (BLOCKS * 32) / 32, tile = row / 16;
        z[i] = pith_rng_normal(&rng) * (block == 0 ? 100.0f : block == 1 ? 1.0f : 0.1f) * (1 + (float)tile);
        if (row % 23 == 5) z[i] = 0;
        if (i % 997 == 3) z[i] *= 8;
    }
}

static void *memory(size_t bytes) { return aligned_alloc(64, PITH_ROUND_UP(bytes, 64)); }

static pith_status encode(pith_isa isa, pith_unit *u, const pith_models *m, pith_model_counts *counts, bool keep)
{
    size_t cap = pith_unit_bound(TILES, BLOCKS);
    uint8_t *dst = memory(cap), *scratch = memory(pith_unit_scratch(TILES, BLOCKS));
    for (int t = 0; t < TILES; t++) {
        u->step_code[t] = (uint8_t)(100 + t);
        step[t] = 0.001f * pith_step_of_code(u->step_code[t]) / pith_step_of_code(100) * 800;
    }
    pith_unit_classify(u, z, step);
    for (int k = 0; k < LEVELS; k++) {
        pith_level_out out = {.models = m, .counts = counts, .dst = dst, .cap = cap};
        assert_int_equal(pith_unit_encode(u, z, step, isa, &out, scratch), PITH_OK);
        if (!keep) continue;
        packet_len[k] = out.len;
        packet[k] = malloc(out.len);
        memcpy(packet[k], dst, out.len);
        pith_unit_init(&written[k], TILES, BLOCKS, memory(pith_unit_bytes(TILES, BLOCKS)));
        memcpy(written[k].m, u->m, N * sizeof *u->m);
        memcpy(written[k].group_class, u->group_class, TILES * BLOCKS);
        written[k].level = k;
    }
    free(dst);
    free(scratch);
    return PITH_OK;
}

static int setup(void **state)
{
    (void)state;
    fill(7);
    static pith_model_counts counts;
    pith_model_counts_init(&counts);
    pith_unit_init(&unit, TILES, BLOCKS, memory(pith_unit_bytes(TILES, BLOCKS)));
    encode(PITH_ISA_SCALAR, &unit, NULL, &counts, false);
    assert_int_equal(pith_models_fit(&counts, &models), PITH_OK);
    pith_unit_init(&unit, TILES, BLOCKS, unit.step_code);
    encode(PITH_ISA_SCALAR, &unit, &models, NULL, true);
    return 0;
}

static void reads_what_was_written(void **state)
{
    (void)state;
    uint8_t *scratch = memory(pith_unit_scratch(TILES, BLOCKS));
    pith_unit r;
    pith_unit_init(&r, TILES, BLOCKS, memory(pith_unit_bytes(TILES, BLOCKS)));
    for (int k = 0; k < LEVELS; k++) {
        assert_int_equal(pith_unit_decode(&r, &models, PITH_ISA_SCALAR, packet[k], packet_len[k], scratch), PITH_OK);
        assert_memory_equal(r.group_class, written[k].group_class, TILES * BLOCKS);
        for (size_t g = 0; g < TILES * BLOCKS; g++)
            if (k >= pith_class_start(r.group_class[g])) assert_memory_equal(r.m + g * 512, written[k].m + g * 512, 512 * sizeof *r.m);
        assert_memory_equal(r.step_code, unit.step_code, TILES);
    }
    free(r.step_code);
    free(scratch);
}

static void levels_are_uniform_quantisers(void **state)
{
    (void)state;
    const double one[TILES] = {1, 1, 1, 1, 1};
    double before = INFINITY;
    for (int k = 0; k < LEVELS; k++) {
        pith_unit *u = &written[k];
        for (size_t g = 0; g < TILES * BLOCKS; g++) {
            int start = pith_class_start(u->group_class[g]);
            float s = ldexpf(step[g / BLOCKS], -k);
            for (size_t i = 0; i < 512 && k >= start; i++) {
                float x = z[(g / BLOCKS * 16 + i / 32) * BLOCKS * 32 + g % BLOCKS * 32 + i % 32];
                assert_true(fabsf(((float)u->m[g * 512 + i] + (k > start ? 0.5f : 0)) * s - x) <= 0.51f * s);
            }
        }
        double error = pith_unit_error(u, z, step, one);
        assert_true(error < before);
        before = error;
    }
}

static void damage_is_refused(void **state)
{
    (void)state;
    uint8_t *scratch = memory(pith_unit_scratch(TILES, BLOCKS)), *bad = malloc(1 << 20);
    pith_rng rng = {.seed = 3};
    int refused = 0;
    for (int round = 0; round < 2000; round++) {
        pith_unit r;
        void *m = memory(pith_unit_bytes(TILES, BLOCKS));
        pith_unit_init(&r, TILES, BLOCKS, m);
        int k = (int)pith_rng_below(&rng, 3);
        for (int i = 0; i < k; i++) assert_int_equal(pith_unit_decode(&r, &models, PITH_ISA_SCALAR, packet[i], packet_len[i], scratch), PITH_OK);
        memcpy(bad, packet[k], packet_len[k]);
        size_t len = packet_len[k];
        if (round % 3 == 0) len = pith_rng_below(&rng, (uint32_t)len);
        else bad[pith_rng_below(&rng, round % 3 == 1 ? 160 : (uint32_t)len)] ^= (uint8_t)(1 + pith_rng_below(&rng, 255));
        refused += pith_unit_decode(&r, &models, PITH_ISA_SCALAR, bad, len, scratch) != PITH_OK;
        free(m);
    }
    assert_true(refused > 1500); /* raw bits carry no check of their own: the packet's checksum is theirs */
    free(bad);
    free(scratch);
}

static void models_survive_a_file(void **state)
{
    (void)state;
    uint8_t bytes[PITH_N_MODELS * PITH_RANS_MODEL_BYTES];
    size_t len;
    static pith_models again;
    assert_int_equal(pith_models_write(&models, bytes, sizeof bytes, &len), PITH_OK);
    assert_int_equal(pith_models_read(bytes, len, &again), PITH_OK);
    assert_memory_equal(again.model, models.model, sizeof models.model);
    for (size_t cut = 0; cut < len; cut++) assert_int_not_equal(pith_models_read(bytes, cut, &again), PITH_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_what_was_written), cmocka_unit_test(levels_are_uniform_quantisers),
                                       cmocka_unit_test(damage_is_refused), cmocka_unit_test(models_survive_a_file)};
    return cmocka_run_group_tests_name("embedded", tests, setup, NULL);
}
