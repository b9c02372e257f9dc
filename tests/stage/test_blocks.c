/* The coder of GGUF's blocks: what goes in comes back bit for bit and in the same bytes on every instruction set, scales of
 * bf16 values and numbers near zero cost less, and damage is seen or does no harm. */
#include <math.h>

#include "coders.h"
#include "files.h"
#include "format/model_file.h"
#include "stage/code/blocks.h"
#include "stage/code/floats.h"
#include "stage/quantize/grid.h"

/* Of a run: ends, exceptions, bytes of the minima, of the scales, models, bytes of the stream. */
enum { ENDS_AT, EXCEPTIONS_AT = 1, LOW_AT = 5, HIGH_AT = 9, MODELS_AT = 13, STREAM_AT = 17, HEAD = 21 };

static const pith_dtype types[] = {PITH_Q4_0, PITH_Q4_1, PITH_Q5_0, PITH_Q5_1, PITH_Q8_0};

static const char *type_name(pith_dtype dtype) { return pith_dtype_get((uint32_t)dtype)->name; }
static size_t width(pith_dtype dtype) { return pith_dtype_get((uint32_t)dtype)->block_bytes; }
static bool has_min(pith_dtype dtype) { return dtype == PITH_Q4_1 || dtype == PITH_Q5_1; }

/* ---- blocks ----------------------------------------------------------------------------------- */

typedef enum kind {
    EVEN,                           /* normal values with mean 0, all of one size */
    NORMAL,                         /* whose sizes differ, and whose means are not all 0 */
    OF_BF16,                        /* likewise, rounded to bf16 */
    SELDOM_ANY,                     /* of bf16 values, but one in SELDOM of any bytes: an exception */
    ANY_BYTES, SPECIAL, CONSTANT, ZEROS, N_KINDS
} kind;
static const char *const kind_names[] = {"even", "normal", "of bf16", "seldom any", "any bytes", "special", "constant", "zeros"};
_Static_assert(PITH_COUNT(kind_names) == N_KINDS, "a name for each");
#define SELDOM 20

typedef struct sample {
    pith_dtype dtype;
    size_t n, n_bytes;
    uint8_t *blocks;                /* to the end of their memory */
    char name[64];
} sample;

static void quantise(pith_dtype dtype, kind k, pith_rng *rng, size_t i, uint8_t *block)
{
    float x[32];
    const float sigma = k == EVEN ? 0.02f : exp2f(-(float)(i / 8 % 32) / 8), mean = k != EVEN && i % 4 == 1 ? sigma : 0;
    for (size_t j = 0; j < 32; j++) {
        x[j] = mean + sigma * pith_rng_normal(rng);
        if (k == OF_BF16 || k == SELDOM_ANY) x[j] = pith_bf16_to_f32(pith_f32_to_bf16(x[j]));
    }
    assert_int_equal(pith_blocks_from_f32(dtype, x, 32, NULL, block), PITH_OK);
}

static void put_any(pith_rng *rng, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)pith_rng_u32(rng);
}

static void make_block(pith_rng *rng, pith_dtype dtype, kind k, size_t i, uint8_t *block)
{
    static const uint16_t scales[] = {0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xfe00, 0xffff};
    if (k == ZEROS) memset(block, 0, width(dtype));
    else if (k == ANY_BYTES || (k == SELDOM_ANY && i % SELDOM == 7)) put_any(rng, block, width(dtype));
    else quantise(dtype, k, rng, i, block);
    if (k == SELDOM_ANY && i == 7) pith_put16(block, 0x7c01); /* a signalling NaN, which no arithmetic makes: an exception for sure */
    if (k != SPECIAL) return;
    pith_put16(block, scales[i % PITH_COUNT(scales)]);
    if (has_min(dtype)) pith_put16(block + 2, scales[i / PITH_COUNT(scales) % PITH_COUNT(scales)]);
}

static sample sample_new(pith_dtype dtype, size_t n, const char *name)
{
    sample s = {.dtype = dtype, .n = n, .n_bytes = n * width(dtype)};
    s.blocks = malloc(PITH_MAX(s.n_bytes, 1));
    assert_non_null(s.blocks);
    snprintf(s.name, sizeof s.name, "%zu blocks of %s, %s", n, type_name(dtype), name);
    return s;
}

static sample sample_of(pith_dtype dtype, kind k, size_t n)
{
    sample s = sample_new(dtype, n, kind_names[k]);
    pith_rng rng = {.seed = 3};
    for (size_t i = 0; i < n; i++) {
        uint8_t *block = s.blocks + i * width(dtype);
        if (k == CONSTANT && i) memcpy(block, s.blocks, width(dtype));
        else make_block(&rng, dtype, k, i, block);
    }
    return s;
}

static void sample_free(sample *s) { free(s->blocks); }

static pith_status encode(pith_ctx *ctx, const sample *s, uint8_t *dst, size_t cap, size_t *len) { return pith_blocks_encode(ctx, s->dtype, s->blocks, s->n, dst, cap, len); }

/* The coded run, as long as its memory. */
static uint8_t *coded(const sample *s, size_t *len)
{
    size_t cap = pith_blocks_bound(s->n);
    uint8_t *dst = malloc(cap);
    assert_non_null(dst);
    assert_int_equal(encode(ctxs[0], s, dst, cap, len), PITH_OK);
    uint8_t *exact = test_exact_copy(dst, *len);
    free(dst);
    return exact;
}

static size_t coded_len(pith_dtype dtype, kind k, size_t n)
{
    sample s = sample_of(dtype, k, n);
    size_t len;
    free(coded(&s, &len));
    sample_free(&s);
    return len;
}

/* Read a run that may be anything, that much of it; what it says to be in. */
static pith_status decode(pith_ctx *ctx, const sample *s, const uint8_t *run, size_t len, bool *same)
{
    uint8_t *src = test_exact_copy(run, len), *back = fenced(s->n_bytes);
    pith_status status = pith_blocks_decode(ctx, s->dtype, src, len, back, s->n);
    if (!fence_holds(back, s->n_bytes)) fail_msg("%s: written outside", s->name);
    *same = memcmp(back, s->blocks, s->n_bytes) == 0;
    drop_fenced(back);
    free(src);
    return status;
}

/* ---- numbers ---------------------------------------------------------------------------------- */

static void numbers_are_put_back(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 1};
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        const size_t n = width(types[t]), head = has_min(types[t]) ? 4 : 2; /* d, and maybe m, come before numbers */
        pith_block_format f;
        assert_true(pith_block_format_of(types[t], &f));
        for (int round = 0; round < 500; round++) {
            uint8_t block[34], u[32], *back = fenced(n);
            put_any(&rng, block, n);
            pith_block_numbers(&f, block, u);
            pith_block_put_numbers(&f, u, back);
            assert_true(painted(back, head) && fence_holds(back, n));
            assert_memory_equal(back + head, block + head, n - head);
            drop_fenced(back);
        }
    }
}

/* ---- round trips ------------------------------------------------------------------------------ */

static void round_trip(sample s)
{
    const size_t cap = pith_blocks_bound(s.n);
    size_t first_len;
    uint8_t *first = coded(&s, &first_len);
    for (size_t i = 0; i < n_ctxs; i++) {
        const char *isa = pith_isa_name(pith_ctx_cpu(ctxs[i])->isa);
        uint8_t *dst = fenced(cap);
        size_t len;
        bool same;
        if (encode(ctxs[i], &s, dst, cap, &len) != PITH_OK || len > cap) fail_msg("%s, %s: not encoded within the bound", s.name, isa);
        if (!fence_holds(dst, cap)) fail_msg("%s, %s: written outside", s.name, isa);
        if (len != first_len || memcmp(dst, first, len) != 0) fail_msg("%s, %s: other bytes", s.name, isa);
        if (decode(ctxs[i], &s, first, len, &same) != PITH_OK || !same) fail_msg("%s, %s: did not come back", s.name, isa);
        drop_fenced(dst);
    }
    free(first);
    sample_free(&s);
}

static void blocks_come_back(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 2, 15, 16, 17, 511, 512, 513, 1000};
    for (size_t t = 0; t < PITH_COUNT(types); t++)
        for (kind k = 0; k < N_KINDS; k++)
            for (size_t i = 0; i < PITH_COUNT(counts); i++) round_trip(sample_of(types[t], k, counts[i]));
}

/* Each of f16's patterns as a scale and, in another order, as a minimum. */
static void every_scale_comes_back(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 5};
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_new(types[t], 65536, "each scale");
        uint8_t numbers[34];
        put_any(&rng, numbers, sizeof numbers);
        for (uint32_t i = 0; i < 65536; i++) {
            uint8_t *block = s.blocks + i * width(types[t]);
            memcpy(block, numbers, width(types[t]));
            pith_put16(block, (uint16_t)i);
            if (has_min(types[t])) pith_put16(block + 2, (uint16_t)(i * 40503));
        }
        size_t len;
        bool same;
        uint8_t *run = coded(&s, &len);
        assert_true(len <= pith_blocks_bound(s.n));
        for (size_t i = 0; i < n_ctxs; i++) assert_true(decode(ctxs[i], &s, run, len, &same) == PITH_OK && same);
        free(run);
        sample_free(&s);
    }
}

static void types_are_told(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 256; i++) {
        bool is = false;
        for (size_t t = 0; t < PITH_COUNT(types); t++) is |= i == (uint32_t)types[t];
        assert_int_equal(pith_blocks_has((pith_dtype)i), is);
    }
}

/* ---- sizes ------------------------------------------------------------------------------------ */

/* Three of f16's ten bits are not bf16's: of each scale and minimum. */
static void blocks_of_bf16_cost_less(void **state)
{
    (void)state;
    const size_t n = 4000;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        const size_t plain = coded_len(types[t], NORMAL, n), bf16 = coded_len(types[t], OF_BF16, n), seldom = coded_len(types[t], SELDOM_ANY, n);
        const double saved = 8 * ((double)plain - (double)bf16) / (double)(n * (1 + has_min(types[t])));
        if (!(saved > 2.5)) fail_msg("%s: %.2f bits less a scale", type_name(types[t]), saved);
        assert_true(seldom < bf16 + n / SELDOM * (width(types[t]) + 8));
    }
}

/* Bytes of all numbers by how often each comes in all blocks. */
static double pooled_bytes(const sample *s)
{
    size_t count[256] = {0};
    pith_block_format f;
    double bits = 0;
    assert_true(pith_block_format_of(s->dtype, &f));
    for (size_t b = 0; b < s->n; b++) {
        uint8_t u[32];
        pith_block_numbers(&f, s->blocks + b * width(s->dtype), u);
        for (int i = 0; i < 32; i++) count[u[i]]++;
    }
    for (int i = 0; i < 256; i++)
        if (count[i]) bits -= (double)count[i] * log2((double)count[i] / (double)(s->n * 32));
    return bits / 8;
}

/* Bytes of the scales, or, `at` 2, of the minima as f16 values. */
static size_t scale_bytes(const sample *s, size_t at)
{
    const size_t cap = pith_floats_bound(PITH_F16, s->n);
    uint8_t *scales = malloc(s->n * 2), *dst = malloc(cap);
    size_t len;
    for (size_t i = 0; i < s->n; i++) memcpy(scales + 2 * i, s->blocks + i * width(s->dtype) + at, 2);
    assert_int_equal(pith_floats_encode(ctxs[0], PITH_F16, scales, s->n, 512, dst, cap, &len), PITH_OK);
    free(scales);
    free(dst);
    return len;
}

/* Numbers cost what one distribution for all would need, and less where that depends on the place of zero: `gain` bits each, models
 * paid for. */
static void sizes_are_near_the_entropy(void **state)
{
    (void)state;
    static const struct { pith_dtype dtype; kind kind; double gain, of_raw; } cases[] = {
        {PITH_Q4_0, EVEN, -0.006, 0.925},  {PITH_Q4_1, EVEN, 0.03, 0.9},    {PITH_Q5_0, EVEN, -0.006, 0.94},   {PITH_Q5_1, EVEN, 0.02, 0.92},
        {PITH_Q8_0, EVEN, -0.015, 0.95},   {PITH_Q4_0, NORMAL, -0.006, 0.94}, {PITH_Q4_1, NORMAL, 0.005, 0.94}, {PITH_Q5_0, NORMAL, -0.006, 0.95},
        {PITH_Q5_1, NORMAL, -0.015, 0.95},   {PITH_Q8_0, NORMAL, -0.015, 0.96}};
    const size_t n = 8000;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        sample s = sample_of(cases[i].dtype, cases[i].kind, n);
        const double len = (double)coded_len(s.dtype, cases[i].kind, n), numbers = len - HEAD - (double)scale_bytes(&s, 0) - (has_min(s.dtype) ? (double)scale_bytes(&s, 2) : 0);
        const double most = pooled_bytes(&s) - cases[i].gain / 8 * 32 * (double)n;
        if (!(numbers < most)) fail_msg("%s: numbers take %.0f bytes, %.0f expected", s.name, numbers, most);
        if (!(len < cases[i].of_raw * (double)s.n_bytes)) fail_msg("%s: %.0f of %zu bytes", s.name, len, s.n_bytes);
        sample_free(&s);
    }
}

static void zeros_cost_nothing(void **state)
{
    (void)state;
    for (size_t t = 0; t < PITH_COUNT(types); t++) assert_true(coded_len(types[t], ZEROS, 10000) < 500);
}

/* ---- space ------------------------------------------------------------------------------------ */

static void too_little_space_is_told(void **state)
{
    (void)state;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_of(types[t], SELDOM_ANY, 40);
        const size_t bound = pith_blocks_bound(s.n);
        size_t len, other;
        uint8_t *run = coded(&s, &len);
        const size_t caps[] = {0, 1, HEAD - 1, HEAD, HEAD + 1, len / 4, len / 2, len - 1};
        for (size_t i = 0; i < PITH_COUNT(caps); i++) {
            uint8_t *dst = fenced(caps[i]);
            assert_int_equal(encode(ctxs[i % n_ctxs], &s, dst, caps[i], &other), PITH_E_SPACE);
            assert_true(fence_holds(dst, caps[i]));
            drop_fenced(dst);
        }
        for (size_t cap = len; cap < bound; cap += (bound - len) / 10) { /* may do */
            uint8_t *dst = fenced(cap);
            pith_status status = encode(ctxs[0], &s, dst, cap, &other);
            assert_true(status == PITH_E_SPACE || (status == PITH_OK && other == len && memcmp(dst, run, len) == 0));
            assert_true(fence_holds(dst, cap));
            drop_fenced(dst);
        }
        free(run);
        sample_free(&s);
    }
}

/* ---- damage ----------------------------------------------------------------------------------- */

static size_t n_refused;            /* by is_harmless */

/* Whatever comes of it, nothing outside is touched. */
static void is_harmless(pith_ctx *ctx, const sample *s, const uint8_t *run, size_t len)
{
    bool same;
    pith_status status = decode(ctx, s, run, len, &same);
    if (status != PITH_OK && status != PITH_E_CORRUPT) fail_msg("%s, damaged: %s", s->name, pith_status_text(status));
    n_refused += status == PITH_E_CORRUPT;
}

static void is_refused(const sample *s, const uint8_t *run, size_t len)
{
    bool same;
    pith_status status = decode(ctxs[len % n_ctxs], s, run, len, &same);
    if (status != PITH_E_CORRUPT) fail_msg("%s, damaged: %s, not refused", s->name, pith_status_text(status));
}

static void change_bytes(const sample *s, uint8_t *run, size_t len, pith_rng *rng)
{
    for (size_t i = 0; i < len; i++) {
        const uint8_t was = run[i], now[] = {(uint8_t)(was ^ 1), (uint8_t)~was, (uint8_t)(was + 1 + pith_rng_below(rng, 255))};
        for (size_t k = 0; k < PITH_COUNT(now); k++) {
            run[i] = now[k];
            is_harmless(ctxs[(i + k) % n_ctxs], s, run, len);
        }
        run[i] = was;
    }
    uint8_t *other = test_exact_copy(run, len);
    for (int round = 0; round < 100; round++) {
        memcpy(other, run, len);
        for (uint32_t k = 2 + pith_rng_below(rng, 6); k; k--) other[pith_rng_below(rng, (uint32_t)len)] = (uint8_t)pith_rng_u32(rng);
        is_harmless(ctxs[(size_t)round % n_ctxs], s, other, len);
    }
    free(other);
}

/* Lengths and counts that cannot be. */
static void change_head(const sample *s, uint8_t *run, size_t len)
{
    static const int fields[] = {EXCEPTIONS_AT, LOW_AT, HIGH_AT, MODELS_AT, STREAM_AT};
    uint8_t head[HEAD];
    memcpy(head, run, HEAD);
    for (unsigned ends = 2; ends < 256; ends = 2 * ends + 1) {
        run[ENDS_AT] = (uint8_t)ends;
        is_refused(s, run, len);
    }
    memcpy(run, head, HEAD);
    for (size_t i = 0; i < PITH_COUNT(fields); i++) {
        const uint32_t was = pith_le32(run + fields[i]);
        const uint32_t now[] = {was + 1, was - 1, was ^ 0x10000, 0x1fffffff, 0x20000000, 0x7fffffff, 0x80000000, 0xffffffff - (uint32_t)len, 0xfffffffe, 0xffffffff};
        for (size_t k = 0; k < PITH_COUNT(now); k++) {
            if (now[k] == was) continue;
            pith_put32(run + fields[i], now[k]);
            is_refused(s, run, len);
        }
        memcpy(run, head, HEAD);
    }
}

/* An exception of a block that there is not. */
static void change_exceptions(const sample *s, uint8_t *run, size_t len)
{
    assert_true(run[ENDS_AT] == 1 && pith_le32(run + EXCEPTIONS_AT) > 0);
    const uint32_t was = pith_le32(run + HEAD), now[] = {(uint32_t)s->n, 0x10000000, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < PITH_COUNT(now); i++) {
        pith_put32(run + HEAD, now[i]);
        is_refused(s, run, len);
    }
    pith_put32(run + HEAD, was);
}

static void damage_does_no_harm(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 31};
    n_refused = 0;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_of(types[t], SELDOM_ANY, 18), of_f16 = sample_of(types[t], NORMAL, 18);
        size_t len;
        uint8_t *run = coded(&of_f16, &len), *longer;
        change_head(&of_f16, run, len);
        free(run);
        sample_free(&of_f16);
        run = coded(&s, &len);
        longer = fenced(len + 1);
        for (size_t cut = 0; cut < len; cut++) is_refused(&s, run, cut);
        memcpy(longer, run, len);
        is_refused(&s, longer, len + 1);
        drop_fenced(longer);
        change_head(&s, run, len);
        change_exceptions(&s, run, len);
        change_bytes(&s, run, len, &rng);
        free(run);
        sample_free(&s);
    }
    assert_true(n_refused > 1000);
}

/* A run that is whole, but of other blocks than it is read as. */
static void runs_of_others_do_no_harm(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 59, 60, 61, 1000};
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_of(types[t], NORMAL, 60);
        size_t len;
        uint8_t *run = coded(&s, &len);
        for (size_t i = 0; i < PITH_COUNT(counts) * PITH_COUNT(types); i++) {
            sample other = sample_new(types[i % PITH_COUNT(types)], counts[i / PITH_COUNT(types)], "read");
            if (types[t] > other.dtype && has_min(types[t]) == has_min(other.dtype)) is_refused(&other, run, len); /* numbers that it does not have */
            else is_harmless(ctxs[i % n_ctxs], &other, run, len);
            sample_free(&other);
        }
        sample nothing = sample_new(types[t], 0, "none");
        is_refused(&nothing, run, len);
        is_refused(&nothing, run, 1);
        sample_free(&nothing);
        free(run);
        sample_free(&s);
    }
}

static void random_bytes_do_no_harm(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 41};
    uint8_t bytes[1000];
    for (int round = 0; round < 1000; round++) {
        sample s = sample_new(types[(size_t)round % PITH_COUNT(types)], 1 + pith_rng_below(&rng, 20), "random");
        const size_t len = pith_rng_below(&rng, sizeof bytes);
        put_any(&rng, bytes, len);
        if (round % 2 && len > HEAD) { /* a head that is let through */
            bytes[ENDS_AT] &= 1;
            pith_put32(bytes + EXCEPTIONS_AT, pith_rng_below(&rng, 2));
            pith_put32(bytes + LOW_AT, has_min(s.dtype) ? pith_rng_below(&rng, (uint32_t)len / 3) : 0);
            pith_put32(bytes + HIGH_AT, pith_rng_below(&rng, (uint32_t)len / 3));
        }
        is_harmless(ctxs[(size_t)round % n_ctxs], &s, bytes, len);
        sample_free(&s);
    }
}

/* ---- runs written by hand --------------------------------------------------------------------- */

/* A run with bytes put in place of others, as test_exact_copy makes it. */
static uint8_t *edited(const uint8_t *run, size_t *len, size_t at, size_t n_less, const void *more, size_t n_more)
{
    uint8_t *all = malloc(*len + n_more);
    assert_non_null(all);
    memcpy(all, run, at);
    memcpy(all + at, more, n_more);
    memcpy(all + at + n_more, run + at + n_less, *len - at - n_less);
    *len += n_more - n_less;
    uint8_t *exact = test_exact_copy(all, *len);
    free(all);
    return exact;
}

/* With a field of the head set, and bytes put in place of others: whether it is read. */
static bool is_read(const sample *s, const uint8_t *run, size_t len, int field, uint32_t now, size_t at, size_t n_less, const void *more, size_t n_more)
{
    uint8_t *other = edited(run, &len, at, n_less, more, n_more);
    bool same;
    pith_put32(other + field, now);
    pith_status status = decode(ctxs[0], s, other, len, &same);
    free(other);
    return status == PITH_OK;
}

/* Of blocks of zeros, the last three bytes of which are a model of one symbol: it has no stream. */
static void runs_by_hand_are_read(void **state)
{
    (void)state;
    enum { N = 20, MODEL = 3 };
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_of(types[t], ZEROS, N);
        pith_grid g;
        size_t len;
        uint8_t *run = coded(&s, &len), states[128], exceptions[(N + 1) * 8] = {0};
        assert_true(pith_grid_of(types[t], &g));
        for (uint32_t i = 0; i < 32; i++) pith_put32(states + 4 * i, 0x10000 + 77 * i);
        assert_true(len > HEAD && pith_le32(run + STREAM_AT) == 0 && pith_le32(run + MODELS_AT) == 1 && pith_le32(run + EXCEPTIONS_AT) == 0);
        const uint8_t one = (uint8_t)(g.n_levels - 1), above = (uint8_t)g.n_levels;
        const uint8_t highest[] = {0, one, one}, beyond[] = {0, above, above}, binary[] = {1, 0, 128}, ternary[] = {2, 0, 128, 128};
        const size_t model = len - MODEL;
        assert_true(is_read(&s, run, len, MODELS_AT, 1, model, MODEL, highest, 3));
        if (g.n_levels < 256) assert_false(is_read(&s, run, len, MODELS_AT, 1, model, MODEL, beyond, 3));
        assert_false(is_read(&s, run, len, MODELS_AT, 1, model, MODEL, binary, 3));
        assert_false(is_read(&s, run, len, MODELS_AT, 1, model, MODEL, ternary, 4));
        assert_false(is_read(&s, run, len, MODELS_AT, 0, model, MODEL, highest, 0));
        assert_false(is_read(&s, run, len, MODELS_AT, 3, len, 0, highest, 3)); /* of a class that no block is of */
        assert_false(is_read(&s, run, len, STREAM_AT, 128, len, 0, states, sizeof states));
        assert_true(is_read(&s, run, len, EXCEPTIONS_AT, N, HEAD, 0, exceptions, N * 8));
        assert_false(is_read(&s, run, len, EXCEPTIONS_AT, N + 1, HEAD, 0, exceptions, (N + 1) * 8));
        if (!g.has_min) assert_false(is_read(&s, run, len, LOW_AT, 4, HEAD, 0, exceptions, 4));
        free(run);
        sample_free(&s);
    }
}

/* ---- memory that is not there ----------------------------------------------------------------- */

static pith_status one_life(pith_ctx *ctx, const void *user)
{
    const sample *s = user;
    const size_t cap = pith_blocks_bound(s->n);
    uint8_t *dst = malloc(cap), *back = malloc(s->n_bytes);
    size_t len;
    pith_status status = encode(ctx, s, dst, cap, &len);
    if (status == PITH_OK) status = pith_blocks_decode(ctx, s->dtype, dst, len, back, s->n);
    if (status == PITH_OK) assert_memory_equal(back, s->blocks, s->n_bytes);
    free(dst);
    free(back);
    return status;
}

static void failed_allocations_leave_nothing(void **state)
{
    (void)state;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_of(types[t], NORMAL, 50);
        assert_true(test_every_fault(one_life, &s) >= 2);
        sample_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_put_back), cmocka_unit_test(blocks_come_back), cmocka_unit_test(every_scale_comes_back),
        cmocka_unit_test(types_are_told), cmocka_unit_test(blocks_of_bf16_cost_less), cmocka_unit_test(sizes_are_near_the_entropy),
        cmocka_unit_test(zeros_cost_nothing), cmocka_unit_test(too_little_space_is_told), cmocka_unit_test(damage_does_no_harm),
        cmocka_unit_test(runs_of_others_do_no_harm), cmocka_unit_test(random_bytes_do_no_harm), cmocka_unit_test(runs_by_hand_are_read),
        cmocka_unit_test(failed_allocations_leave_nothing)};
    return cmocka_run_group_tests_name("blocks", tests, make_contexts, drop_contexts);
}
