/* The entropy coder: every instruction set against the plain loops, streams against a second writer
 * (rans_oracle.py), sizes against the entropy, damage against the bounds of memory.  It allocates nothing,
 * so there is no allocation to fail. */
#include <math.h>

#include "stage/code/rans.h"
#include "tests/test.h"
#include "tests/stage/rans_golden.h"

static pith_isa isas[4];
static size_t n_isas;

static int find_isas(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_cpu cpu;
    assert_ok(ctx, pith_cpu_detect(ctx, NULL, &cpu));
    isas[n_isas++] = PITH_ISA_SCALAR;
    if (cpu.avx2) isas[n_isas++] = PITH_ISA_AVX2;
    if (cpu.avx512) isas[n_isas++] = PITH_ISA_AVX512;
    if (cpu.neon) isas[n_isas++] = PITH_ISA_NEON;
    pith_ctx_free(ctx);
    return 0;
}

/* ---- data ------------------------------------------------------------------------------------- */

/* A model with its tables, and elements drawn from it. */
typedef struct source {
    pith_rans_model model;
    pith_rans_encoder encoder;
    pith_rans_decoder decoder;
} source;

static source *source_new(const pith_rans_model *model)
{
    source *s = malloc(sizeof *s);
    assert_non_null(s);
    s->model = *model;
    pith_rans_encoder_init(&s->encoder, model);
    pith_rans_decoder_init(&s->decoder, model);
    return s;
}

static source *source_from_freqs(const uint16_t freq[256])
{
    pith_rans_model model;
    assert_int_equal(pith_rans_model_from_freqs(freq, &model), PITH_OK);
    return source_new(&model);
}

/* n symbols spread over the first `spread` ones with random frequencies */
static source *source_random(pith_rng *rng, int n_symbols, int spread)
{
    uint64_t counts[256] = {0};
    for (int i = 0; i < n_symbols; i++) {
        uint32_t s = pith_rng_below(rng, (uint32_t)spread);
        while (counts[s]) s = (s + 1) % (uint32_t)spread;
        counts[s] = UINT64_C(1) << pith_rng_below(rng, 20);
    }
    pith_rans_model model;
    assert_int_equal(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, counts, &model), PITH_OK);
    return source_new(&model);
}

static source *source_contexts(pith_rng *rng, pith_rans_kind kind, int n_contexts)
{
    uint64_t counts[256] = {0};
    for (int c = 0; c < n_contexts; c++)
        for (int s = 0; s < (kind == PITH_RANS_BINARY ? 2 : 3); s++)
            if (pith_rng_below(rng, 8)) counts[PITH_RANS_INDEX(c, s)] = UINT64_C(1) << pith_rng_below(rng, 24);
    pith_rans_model model;
    assert_int_equal(pith_rans_model_fit(kind, n_contexts, counts, &model), PITH_OK);
    return source_new(&model);
}

static void draw(const source *s, pith_rng *rng, uint8_t *symbols, uint8_t *contexts, size_t n)
{
    uint32_t sum = s->model.kind == PITH_RANS_SYMBOLS ? 4096 : 32768;
    for (size_t i = 0; i < n; i++) {
        contexts[i] = (uint8_t)pith_rng_below(rng, 64);
        uint32_t u = pith_rng_below(rng, sum), t = 0;
        const uint16_t *freq = &s->model.freq[s->model.kind == PITH_RANS_SYMBOLS ? 0 : PITH_RANS_INDEX(contexts[i], 0)];
        /* one in eight is any symbol of the model, so that rare ones come too */
        bool any = pith_rng_below(rng, 8) == 0;
        uint32_t limit = s->model.kind == PITH_RANS_SYMBOLS ? 256 : s->model.kind == PITH_RANS_BINARY ? 2 : 3, v = pith_rng_below(rng, limit);
        if (any) while (freq[v] == 0) v = (v + 1) % limit;
        else for (v = 0; u >= t + freq[v]; v++) t += freq[v];
        symbols[i] = (uint8_t)v;
    }
}

static pith_status decode(pith_isa isa, const uint8_t *stream, size_t len, const pith_rans_segment *segments, const source *const *sources,
                          size_t n, uint8_t *const *back)
{
    pith_rans_reader reader;
    PITH_TRY(pith_rans_read_begin(&reader, isa, stream, len));
    for (size_t i = 0; i < n; i++) PITH_TRY(pith_rans_read(&reader, &sources[i]->decoder, segments[i].contexts, back[i], segments[i].n));
    return pith_rans_read_end(&reader);
}

/* Write with every instruction set: the same bytes; read with every one: the same elements, nothing around
 * them touched.  Blocks have their exact size, so that a sanitizer sees a step outside. */
static void round_trip(const pith_rans_segment *segments, const source *const *sources, size_t n)
{
    size_t total = 0, first_len = 0;
    for (size_t i = 0; i < n; i++) total += segments[i].n;
    size_t cap = pith_rans_bound(total);
    uint8_t *first = malloc(cap), *back[8];
    for (size_t k = 0; k < n_isas; k++) {
        uint8_t *stream = malloc(cap);
        size_t len = 0;
        assert_int_equal(pith_rans_encode(isas[k], segments, n, stream, cap, &len), PITH_OK);
        if (k == 0) {
            memcpy(first, stream, len);
            first_len = len;
        }
        assert_int_equal(len, first_len);
        assert_memory_equal(stream, first, len);
        uint8_t *exact = malloc(len ? len : 1);
        memcpy(exact, stream, len);
        free(stream);
        for (size_t i = 0; i < n; i++) {
            back[i] = malloc(segments[i].n + 64);
            memset(back[i], 0xa5, segments[i].n + 64);
        }
        assert_int_equal(decode(isas[k], exact, len, segments, sources, n, back), PITH_OK);
        for (size_t i = 0; i < n; i++) {
            assert_memory_equal(back[i], segments[i].symbols, segments[i].n);
            for (size_t j = 0; j < 64; j++) assert_int_equal(back[i][segments[i].n + j], 0xa5);
            free(back[i]);
        }
        free(exact);
    }
    free(first);
}

/* ---- round trips ------------------------------------------------------------------------------ */

static void check_source(source *s, pith_rng *rng)
{
    static const size_t lengths[] = {255, 256, 1023, 4096, 10007};
    for (size_t i = 0; i <= 200 + PITH_COUNT(lengths); i++) {
        size_t n = i <= 200 ? i : lengths[i - 201];
        uint8_t *symbols = malloc(n + 1), *contexts = malloc(n + 1);
        draw(s, rng, symbols, contexts, n);
        pith_rans_segment segment = {&s->encoder, symbols, contexts, n};
        round_trip(&segment, &(const source *){s}, 1);
        free(symbols);
        free(contexts);
    }
    free(s);
}

static void test_degenerate_tables(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 1};
    static const struct { uint16_t at[2], freq[2]; } tables[] = {
        {{0, 1}, {4096, 0}}, {{255, 1}, {4096, 0}}, {{0, 1}, {4095, 1}}, {{0, 1}, {1, 4095}}, {{0, 255}, {4095, 1}},
        {{0, 255}, {1, 4095}}, {{14, 15}, {2048, 2048}}, {{15, 16}, {2049, 2047}}, {{0, 15}, {257, 3839}}};
    for (size_t i = 0; i < PITH_COUNT(tables); i++) {
        uint16_t freq[256] = {0};
        for (int k = 0; k < 2; k++) freq[tables[i].at[k]] = tables[i].freq[k];
        check_source(source_from_freqs(freq), &rng);
    }
    uint16_t freq[256];
    for (int s = 0; s < 256; s++) freq[s] = 16;
    check_source(source_from_freqs(freq), &rng);
    for (int s = 0; s < 256; s++) freq[s] = 1;
    freq[77] = 4096 - 255;
    check_source(source_from_freqs(freq), &rng);
}

static void test_random_tables(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 2};
    static const int sizes[][2] = {{2, 2}, {2, 256}, {3, 3}, {5, 16}, {15, 15}, {16, 16}, {16, 17}, {17, 17}, {40, 64}, {200, 256}, {256, 256}};
    for (size_t i = 0; i < PITH_COUNT(sizes); i++) check_source(source_random(&rng, sizes[i][0], sizes[i][1]), &rng);
}

static void test_contexts(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 3};
    static const int sizes[] = {1, 2, 33, 64};
    for (size_t i = 0; i < PITH_COUNT(sizes); i++) {
        check_source(source_contexts(&rng, PITH_RANS_BINARY, sizes[i]), &rng);
        check_source(source_contexts(&rng, PITH_RANS_TERNARY, sizes[i]), &rng);
    }
}

/* segments of all kinds in one stream, ragged ones among them */
static void test_mixed_segments(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 4};
    for (int round = 0; round < 40; round++) {
        source *s[8];
        pith_rans_segment segments[8];
        size_t n = 1 + pith_rng_below(&rng, 8);
        for (size_t i = 0; i < n; i++) {
            switch (pith_rng_below(&rng, 4)) {
            case 0: s[i] = source_random(&rng, 1 + (int)pith_rng_below(&rng, 16), 16); break;
            case 1: s[i] = source_random(&rng, 1 + (int)pith_rng_below(&rng, 256), 256); break;
            case 2: s[i] = source_contexts(&rng, PITH_RANS_BINARY, 64); break;
            default: s[i] = source_contexts(&rng, PITH_RANS_TERNARY, 64); break;
            }
            size_t len = pith_rng_below(&rng, 2) ? 32 * pith_rng_below(&rng, 20) : pith_rng_below(&rng, 700);
            uint8_t *symbols = malloc(len + 1), *contexts = malloc(len + 1);
            draw(s[i], &rng, symbols, contexts, len);
            segments[i] = (pith_rans_segment){&s[i]->encoder, symbols, contexts, len};
        }
        round_trip(segments, (const source *const *)s, n);
        for (size_t i = 0; i < n; i++) {
            free((void *)(uintptr_t)segments[i].symbols);
            free((void *)(uintptr_t)segments[i].contexts);
            free(s[i]);
        }
    }
}

/* x / freq by products is exact for every freq, at both sides of many multiples */
static void test_division(void **state)
{
    (void)state;
    static pith_rans_encoder e;
    pith_rng rng = {.seed = 5};
    for (uint32_t f = 1; f < 4096 + 255; f++) {
        uint32_t freq = f, bits = 12, index = 0;
        pith_rans_model model = {.kind = PITH_RANS_SYMBOLS, .n_contexts = 1, .freq = {(uint16_t)f, (uint16_t)(4096 - f)}};
        if (f >= 4096) {
            uint8_t bytes[] = {PITH_RANS_BINARY, 0, (uint8_t)(f - 4095)};
            size_t used;
            assert_int_equal(pith_rans_model_read(bytes, sizeof bytes, &model, &used), PITH_OK);
            freq = model.freq[0], bits = 15;
        }
        pith_rans_encoder_init(&e, &model);
        uint32_t top = freq << (32 - bits); /* states that are divided are below */
        for (int i = 0; i < 200; i++) {
            uint32_t multiple = i < 4 ? top - (uint32_t)i * freq : (1 + pith_rng_below(&rng, top / freq)) * freq;
            for (uint32_t d = 0; d < 2; d++) {
                uint32_t x = multiple - 1 + d;
                if (x >= top) continue;
                assert_int_equal((uint64_t)(x + (e.shift[index] >> 6)) * e.reciprocal[index] >> (e.shift[index] & 63), x / freq);
            }
        }
    }
}

/* ---- the second writer ------------------------------------------------------------------------- */

static source *source_golden(const uint8_t *bytes, size_t len)
{
    pith_rans_model model;
    size_t used = 0, written = 0;
    uint8_t again[PITH_RANS_MODEL_BYTES];
    assert_int_equal(pith_rans_model_read(bytes, len, &model, &used), PITH_OK);
    assert_int_equal(used, len);
    assert_int_equal(pith_rans_model_write(&model, again, sizeof again, &written), PITH_OK);
    assert_int_equal(written, len);
    assert_memory_equal(again, bytes, len);
    return source_new(&model);
}

static void golden_numbers(uint32_t seed, size_t n, uint32_t *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = seed >> 8;
    }
}

/* the elements that rans_oracle.py makes */
static void test_golden(void **state)
{
    (void)state;
    source *small = source_golden(golden_small, sizeof golden_small), *large = source_golden(golden_large, sizeof golden_large);
    source *one = source_golden(golden_one, sizeof golden_one), *binary = source_golden(golden_binary, sizeof golden_binary);
    source *ternary = source_golden(golden_ternary, sizeof golden_ternary), *ties = source_golden(golden_ties, sizeof golden_ties);
    enum { N = 7 };
    const source *sources[N] = {small, binary, large, one, ternary, small, ties};
    static const size_t lengths[N] = {97, 64, 70, 5, 131, 33, 120};
    static const uint32_t n_contexts[N] = {0, 5, 0, 0, 4, 0, 0};
    static uint8_t symbols[N][131], contexts[N][131], back[N][131];
    pith_rans_segment segments[N];
    uint8_t *to[N];
    for (uint32_t k = 0; k < N; k++) {
        uint32_t u[131], v[131];
        golden_numbers(k + 1, lengths[k], u);
        golden_numbers(k + 101, lengths[k], v);
        for (size_t i = 0; i < lengths[k]; i++) {
            if (n_contexts[k]) {
                contexts[k][i] = (uint8_t)(v[i] % n_contexts[k]);
                symbols[k][i] = (uint8_t)(u[i] % (sources[k] == binary ? 2 : 3));
            } else {
                uint32_t left = u[i] % 4096, s = 0;
                for (; left >= sources[k]->model.freq[s]; s++) left -= sources[k]->model.freq[s];
                symbols[k][i] = (uint8_t)s;
            }
        }
        segments[k] = (pith_rans_segment){&sources[k]->encoder, symbols[k], contexts[k], lengths[k]};
        to[k] = back[k];
    }
    for (size_t k = 0; k < n_isas; k++) {
        uint8_t stream[2048];
        size_t len = 0;
        assert_int_equal(pith_rans_encode(isas[k], segments, N, stream, sizeof stream, &len), PITH_OK);
        assert_int_equal(len, sizeof golden_stream);
        assert_memory_equal(stream, golden_stream, len);
        memset(back, 255, sizeof back);
        assert_int_equal(decode(isas[k], golden_stream, sizeof golden_stream, segments, sources, N, to), PITH_OK);
        for (size_t i = 0; i < N; i++) assert_memory_equal(back[i], symbols[i], lengths[i]);
    }
    source *all[] = {small, large, one, binary, ternary, ties};
    for (size_t i = 0; i < PITH_COUNT(all); i++) free(all[i]);
}

/* ---- models ------------------------------------------------------------------------------------ */

static void test_fit_is_best(void **state)
{
    (void)state;
    /* three symbols: every choice of frequencies */
    static const uint64_t cases[][3] = {{1, 1, 1}, {1000000, 3, 1}, {7, 11, 13}, {1, 1000, 5000}, {1450, 500700, 3593850}, {UINT64_C(1) << 54, 1, 1}};
    static double log2_of[4097];
    for (int f = 1; f <= 4096; f++) log2_of[f] = log2(f);
    for (size_t k = 0; k < PITH_COUNT(cases); k++) {
        uint64_t counts[256] = {0};
        double best = INFINITY;
        for (int s = 0; s < 3; s++) counts[s] = cases[k][s];
        for (int a = 1; a < 4095; a++)
            for (int b = 1; a + b < 4096; b++)
                best = fmin(best, -(double)counts[0] * (log2_of[a] - 12) - (double)counts[1] * (log2_of[b] - 12) -
                                      (double)counts[2] * (log2_of[4096 - a - b] - 12));
        pith_rans_model model;
        assert_int_equal(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, counts, &model), PITH_OK);
        double bits = pith_rans_model_bits(&model, counts);
        /* logarithms have 26 fractional bits */
        double n = (double)counts[0] + (double)counts[1] + (double)counts[2];
        assert_true(fabs(bits - best) <= 1e-7 * best + n * 3e-8);
    }
    /* many symbols: no unit moved from one to another gains */
    pith_rng rng = {.seed = 6};
    for (int round = 0; round < 20; round++) {
        uint64_t counts[256] = {0};
        for (int s = 0; s < 256; s++) counts[s] = (uint64_t)1 << pith_rng_below(&rng, 24) >> 6;
        counts[0]++;
        pith_rans_model model;
        assert_int_equal(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, counts, &model), PITH_OK);
        uint32_t sum = 0;
        double best_gain = 0, least_loss = INFINITY;
        for (int s = 0; s < 256; s++) {
            uint32_t f = model.freq[s];
            sum += f;
            assert_int_equal(f > 0, counts[s] > 0);
            if (f) best_gain = fmax(best_gain, (double)counts[s] * log2((f + 1.0) / f));
            if (f > 1) least_loss = fmin(least_loss, (double)counts[s] * log2(f / (f - 1.0)));
        }
        assert_int_equal(sum, 4096);
        assert_true(best_gain <= least_loss * (1 + 1e-5));
    }
    /* contexts: every code */
    for (int round = 0; round < 50; round++) {
        uint64_t counts[256] = {0};
        for (int s = 0; s < 2; s++) counts[s] = (uint64_t)1 << pith_rng_below(&rng, 22);
        counts[round % 2] += pith_rng_below(&rng, 1000);
        pith_rans_model model;
        assert_int_equal(pith_rans_model_fit(PITH_RANS_BINARY, 1, counts, &model), PITH_OK);
        double best = INFINITY;
        for (uint8_t c = 1; c != 0; c++) {
            uint8_t bytes[] = {PITH_RANS_BINARY, 0, c};
            pith_rans_model other;
            size_t used;
            assert_int_equal(pith_rans_model_read(bytes, sizeof bytes, &other, &used), PITH_OK);
            best = fmin(best, pith_rans_model_bits(&other, counts));
        }
        assert_true(pith_rans_model_bits(&model, counts) <= best * (1 + 1e-6));
    }
}

static void test_model_arguments(void **state)
{
    (void)state;
    pith_rans_model model;
    uint64_t counts[256] = {0};
    uint16_t freq[256] = {4095};
    assert_int_equal(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, counts, &model), PITH_E_ARGUMENT);
    assert_int_equal(pith_rans_model_fit(PITH_RANS_BINARY, 0, counts, &model), PITH_E_ARGUMENT);
    assert_int_equal(pith_rans_model_fit(PITH_RANS_BINARY, 65, counts, &model), PITH_E_ARGUMENT);
    assert_int_equal(pith_rans_model_fit(PITH_RANS_BINARY, 64, counts, &model), PITH_OK);
    assert_int_equal(pith_rans_model_from_freqs(freq, &model), PITH_E_ARGUMENT);
    counts[2] = 1; /* symbol 2 of context 0 */
    assert_int_equal(pith_rans_model_fit(PITH_RANS_BINARY, 64, counts, &model), PITH_E_ARGUMENT);
    assert_int_equal(pith_rans_model_fit(PITH_RANS_TERNARY, 64, counts, &model), PITH_OK);
    counts[PITH_RANS_INDEX(7, 0)] = 1;
    assert_int_equal(pith_rans_model_fit(PITH_RANS_TERNARY, 7, counts, &model), PITH_E_ARGUMENT);
    counts[2] = UINT64_C(1) << 55;
    assert_int_equal(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, counts, &model), PITH_E_ARGUMENT);
    counts[2] = 5;
    counts[200] = 0;
    assert_int_equal(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, counts, &model), PITH_OK);
    counts[200] = 1;
    assert_true(isinf(pith_rans_model_bits(&model, counts)));
    assert_int_equal(pith_rans_bound(SIZE_MAX / 2), SIZE_MAX);
}

/* Models survive writing; every prefix is refused; whatever else is accepted writes back the same. */
static void test_model_bytes(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 7};
    for (int round = 0; round < 60; round++) {
        source *s;
        if (round % 3 == 0) s = source_random(&rng, 1 + (int)pith_rng_below(&rng, 16), 16);
        else if (round % 3 == 1) s = source_random(&rng, 1 + (int)pith_rng_below(&rng, round < 30 ? 256 : 10), 256);
        else s = source_contexts(&rng, round % 2 ? PITH_RANS_BINARY : PITH_RANS_TERNARY, 1 + (int)pith_rng_below(&rng, 64));
        uint8_t bytes[PITH_RANS_MODEL_BYTES];
        size_t len = 0, used = 0;
        pith_rans_model back;
        assert_int_equal(pith_rans_model_write(&s->model, bytes, sizeof bytes, &len), PITH_OK);
        assert_int_equal(pith_rans_model_read(bytes, sizeof bytes, &back, &used), PITH_OK);
        assert_int_equal(used, len);
        assert_memory_equal(back.freq, s->model.freq, sizeof back.freq);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *exact = malloc(cut + 1);
            size_t ignored;
            memcpy(exact, bytes, cut);
            assert_int_equal(pith_rans_model_read(exact, cut, &back, &used), PITH_E_CORRUPT);
            assert_int_equal(pith_rans_model_write(&s->model, exact, cut, &ignored), PITH_E_SPACE);
            free(exact);
        }
        for (size_t at = 0; at < len; at++) {
            uint8_t damaged[PITH_RANS_MODEL_BYTES], again[PITH_RANS_MODEL_BYTES];
            memcpy(damaged, bytes, sizeof damaged);
            damaged[at] ^= (uint8_t)(1 + pith_rng_below(&rng, 255));
            if (pith_rans_model_read(damaged, len, &back, &used) != PITH_OK) continue;
            size_t again_len = 0;
            uint32_t sum = 0, want = back.kind == PITH_RANS_SYMBOLS ? 4096 : 32768 * 64;
            for (int i = 0; i < 256; i++) sum += back.freq[i];
            assert_int_equal(sum, want);
            assert_int_equal(pith_rans_model_write(&back, again, sizeof again, &again_len), PITH_OK);
            assert_int_equal(again_len, used);
            assert_memory_equal(again, damaged, used);
        }
        free(s);
    }
}

/* ---- size -------------------------------------------------------------------------------------- */

static double entropy_bits(const uint64_t counts[256], int group)
{
    double bits = 0;
    for (int c = 0; c < 256; c += group) {
        double sum = 0;
        for (int s = c; s < c + group; s++) sum += (double)counts[s];
        for (int s = c; s < c + group; s++)
            if (counts[s]) bits += (double)counts[s] * log2(sum / (double)counts[s]);
    }
    return bits;
}

/* The stream with its model is within 0.5 % of the entropy of the counts, and within what model_bits says. */
static void test_distance_from_entropy(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 8};
    size_t n = 500000, cap = pith_rans_bound(n);
    uint8_t *symbols = malloc(n), *contexts = malloc(n), *stream = malloc(cap);
    for (int round = 0; round < 6; round++) {
        pith_rans_kind kind = round < 4 ? PITH_RANS_SYMBOLS : round == 4 ? PITH_RANS_BINARY : PITH_RANS_TERNARY;
        static const float deviations[] = {0.8f, 2.5f, 6, 20};
        for (size_t i = 0; i < n; i++) {
            float v = kind == PITH_RANS_SYMBOLS ? roundf(128 + deviations[round] * pith_rng_normal(&rng)) : 0;
            contexts[i] = (uint8_t)pith_rng_below(&rng, 64);
            uint32_t u = pith_rng_below(&rng, 100);
            if (kind == PITH_RANS_BINARY) v = u < 50u + contexts[i] * 3u / 4;
            if (kind == PITH_RANS_TERNARY) v = u < 30u + contexts[i] ? 0 : u % 3 ? 1 : 2;
            symbols[i] = (uint8_t)fminf(fmaxf(v, 0), 255);
        }
        uint64_t counts[256] = {0};
        pith_rans_count(symbols, kind == PITH_RANS_SYMBOLS ? NULL : contexts, n, counts);
        pith_rans_model model;
        assert_int_equal(pith_rans_model_fit(kind, 64, counts, &model), PITH_OK);
        source *s = source_new(&model);
        pith_rans_segment segment = {&s->encoder, symbols, contexts, n};
        uint8_t bytes[PITH_RANS_MODEL_BYTES];
        size_t len = 0, model_len = 0;
        assert_int_equal(pith_rans_encode(PITH_ISA_SCALAR, &segment, 1, stream, cap, &len), PITH_OK);
        assert_int_equal(pith_rans_model_write(&model, bytes, sizeof bytes, &model_len), PITH_OK);
        double bits = pith_rans_model_bits(&model, counts), ideal = entropy_bits(counts, kind == PITH_RANS_SYMBOLS ? 256 : 4);
        assert_true(bits <= ideal * 1.003);
        /* the states cost 32 bits a lane and carry at least none of it, at most 16 */
        assert_true(8.0 * (double)len >= bits + 15.9 * 32 - 1 && 8.0 * (double)len <= bits * 1.0005 + 32 * 32);
        assert_true(8.0 * (double)(len + model_len) <= ideal * 1.005);
        free(s);
    }
    free(symbols);
    free(contexts);
    free(stream);
}

/* ---- what must be refused ---------------------------------------------------------------------- */

static void test_space(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 9};
    source *s = source_random(&rng, 20, 64);
    uint8_t symbols[300], contexts[300];
    draw(s, &rng, symbols, contexts, 300);
    pith_rans_segment segments[2] = {{&s->encoder, symbols, NULL, 141}, {&s->encoder, symbols + 141, NULL, 159}};
    uint8_t want[1024];
    size_t want_len = 0;
    assert_int_equal(pith_rans_encode(PITH_ISA_SCALAR, segments, 2, want, sizeof want, &want_len), PITH_OK);
    for (size_t k = 0; k < n_isas; k++) {
        for (size_t cap = 0; cap <= want_len; cap++) {
            uint8_t *dst = malloc(cap ? cap : 1);
            size_t len = 12345;
            pith_status status = pith_rans_encode(isas[k], segments, 2, dst, cap, &len);
            assert_int_equal(status, cap < want_len ? PITH_E_SPACE : PITH_OK);
            assert_int_equal(len, cap < want_len ? 12345 : want_len);
            if (cap == want_len) assert_memory_equal(dst, want, want_len);
            free(dst);
        }
    }
    free(s);
}

static void test_elements_without_freq(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 10};
    source *s[4] = {source_random(&rng, 10, 16), source_random(&rng, 10, 64), source_contexts(&rng, PITH_RANS_BINARY, 64),
                    source_contexts(&rng, PITH_RANS_TERNARY, 64)};
    uint8_t symbols[100], contexts[100], dst[400];
    size_t len;
    for (size_t k = 0; k < n_isas; k++) {
        for (int i = 0; i < 4; i++) {
            for (size_t at = 0; at < 100; at += 3) {
                draw(s[i], &rng, symbols, contexts, 100);
                pith_rans_segment segment = {&s[i]->encoder, symbols, contexts, 100};
                assert_int_equal(pith_rans_encode(isas[k], &segment, 1, dst, sizeof dst, &len), PITH_OK);
                symbols[at] = (uint8_t)(i == 2 ? 2 + at % 254 : i == 3 ? 3 + at % 253 : 255 - at % 100);
                assert_int_equal(pith_rans_encode(isas[k], &segment, 1, dst, sizeof dst, &len), PITH_E_ARGUMENT);
                if (i < 2) continue;
                symbols[at] = 0;
                contexts[at] = (uint8_t)(64 + at);
                assert_int_equal(pith_rans_encode(isas[k], &segment, 1, dst, sizeof dst, &len), PITH_E_ARGUMENT);
            }
        }
        uint16_t freq[256] = {[7] = 4096};
        source *one = source_from_freqs(freq);
        memset(symbols, 7, sizeof symbols);
        pith_rans_segment segment = {&one->encoder, symbols, NULL, 100};
        assert_int_equal(pith_rans_encode(isas[k], &segment, 1, dst, sizeof dst, &len), PITH_OK);
        assert_int_equal(len, 0);
        symbols[50] = 8;
        assert_int_equal(pith_rans_encode(isas[k], &segment, 1, dst, sizeof dst, &len), PITH_E_ARGUMENT);
        free(one);
    }
    for (int i = 0; i < 4; i++) free(s[i]);
}

/* Cut and damaged streams: every cut is an error, and so are most flips (one near the end can turn into another
 * element and the same state); the same with every instruction set, and nothing outside is touched. */
static void test_damage(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 11};
    source *s[3] = {source_random(&rng, 16, 16), source_random(&rng, 100, 256), source_contexts(&rng, PITH_RANS_BINARY, 64)};
    uint8_t symbols[3][200], contexts[3][200];
    pith_rans_segment segments[3];
    static const size_t lengths[3] = {200, 150, 192};
    for (int i = 0; i < 3; i++) {
        draw(s[i], &rng, symbols[i], contexts[i], lengths[i]);
        segments[i] = (pith_rans_segment){&s[i]->encoder, symbols[i], contexts[i], lengths[i]};
    }
    uint8_t stream[2048];
    size_t len = 0;
    assert_int_equal(pith_rans_encode(PITH_ISA_SCALAR, segments, 3, stream, sizeof stream, &len), PITH_OK);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1), back[3][200];
        memcpy(exact, stream, cut);
        for (size_t k = 0; k < n_isas; k++)
            assert_int_equal(decode(isas[k], exact, cut, segments, (const source *const *)s, 3, (uint8_t *[]){back[0], back[1], back[2]}), PITH_E_CORRUPT);
        free(exact);
    }
    /* words too many, half a word, a state that no writer makes */
    for (size_t k = 0; k < n_isas; k++) {
        uint8_t longer[2050] = {0}, back[3][200], *to[3] = {back[0], back[1], back[2]};
        memcpy(longer, stream, len);
        for (size_t more = 1; more <= 2; more++)
            assert_int_equal(decode(isas[k], longer, len + more, segments, (const source *const *)s, 3, to), PITH_E_CORRUPT);
        pith_rans_reader reader;
        for (size_t lane = 0; lane < PITH_RANS_LANES; lane++) {
            memcpy(longer, stream, len);
            pith_put32(longer + 4 * lane, 0xffff);
            assert_int_equal(pith_rans_read_begin(&reader, isas[k], longer, len), PITH_E_CORRUPT);
        }
    }
    size_t n_missed = 0;
    for (size_t bit = 0; bit < 8 * len; bit++) {
        uint8_t *exact = malloc(len), want[3][200];
        memcpy(exact, stream, len);
        exact[bit / 8] ^= (uint8_t)(1 << bit % 8);
        pith_status first = PITH_OK;
        for (size_t k = 0; k < n_isas; k++) {
            uint8_t *back[3] = {malloc(200), malloc(150), malloc(192)};
            pith_status status = decode(isas[k], exact, len, segments, (const source *const *)s, 3, back);
            if (k == 0) first = status;
            assert_int_equal(status, first);
            for (int j = 0; j < 3; j++) {
                if (k == 0) memcpy(want[j], back[j], lengths[j]);
                if (first == PITH_OK) assert_memory_equal(back[j], want[j], lengths[j]);
                free(back[j]);
            }
        }
        if (first == PITH_OK) {
            n_missed++;
            bool equal = true; /* what passes is another message, not the same one */
            for (int j = 0; j < 3; j++) equal &= memcmp(want[j], symbols[j], lengths[j]) == 0;
            assert_false(equal);
        } else {
            assert_int_equal(first, PITH_E_CORRUPT);
        }
        free(exact);
    }
    assert_in_range(n_missed, 0, 8 * len / 50);
    for (size_t k = 0; k < n_isas; k++) {
        /* fewer or more elements than were written */
        uint8_t *back[3] = {malloc(400), malloc(400), malloc(400)};
        pith_rans_segment other[3] = {segments[0], segments[1], segments[2]};
        other[2].n = 150;
        assert_int_equal(decode(isas[k], stream, len, other, (const source *const *)s, 3, back), PITH_E_CORRUPT);
        assert_int_equal(decode(isas[k], stream, len, segments, (const source *const *)s, 2, back), PITH_E_CORRUPT);
        for (int j = 0; j < 3; j++) free(back[j]);
    }
    for (int i = 0; i < 3; i++) free(s[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_degenerate_tables), cmocka_unit_test(test_random_tables), cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_mixed_segments), cmocka_unit_test(test_division), cmocka_unit_test(test_golden),
        cmocka_unit_test(test_fit_is_best), cmocka_unit_test(test_model_arguments), cmocka_unit_test(test_model_bytes),
        cmocka_unit_test(test_distance_from_entropy), cmocka_unit_test(test_space), cmocka_unit_test(test_elements_without_freq),
        cmocka_unit_test(test_damage)};
    return cmocka_run_group_tests(tests, find_isas, NULL);
}
