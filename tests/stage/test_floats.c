/* The coder of floating-point values: what goes in comes back bit for bit and in the same bytes on every instruction set, sizes
 * stay near the entropy, and damage is seen or does no harm. */
#include <math.h>

#include "coders.h"
#include "files.h"
#include "stage/code/floats.h"

#define HEAD 8                      /* of a run: flags, models, level, length of the stream */

static const pith_dtype types[] = {PITH_F32, PITH_F16, PITH_BF16};

static uint32_t low_bits(pith_dtype dtype) { return dtype == PITH_F32 ? 20 : dtype == PITH_F16 ? 7 : 4; } /* beside sign and key */
static size_t width(pith_dtype dtype) { return pith_dtype_get((uint32_t)dtype)->block_bytes; }


/* A copy at an odd address that ends where its memory ends. */
static uint8_t *odd_copy(const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    assert_non_null(copy);
    if (len) memcpy(copy + 1, bytes, len);
    return copy + 1;
}
static void drop_odd(uint8_t *p) { free(p - 1); }

static void put_any(pith_rng *rng, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)pith_rng_u32(rng);
}

/* ---- values ----------------------------------------------------------------------------------- */

typedef enum kind {
    NORMAL, ANY_BITS, ZEROS, MINUS_ZEROS, HALF_ZEROS, ZERO_ROWS, SOME_ZEROS, FEW_ZEROS, POSITIVE, NEGATIVE, CONSTANT, OF_F16, OF_BF16,
    WIDE,                           /* more octaves in a row than symbols reach */
    JUMPS,                          /* more octaves between rows than a step says */
    SPECIAL, N_KINDS
} kind;
static const char *const kind_names[] = {"normal", "any bits", "zeros", "minus zeros", "half zeros", "zero rows", "some zeros", "few zeros", "positive", "negative",
                                         "constant", "of f16", "of bf16", "wide", "jumps", "special"};
_Static_assert(PITH_COUNT(kind_names) == N_KINDS, "a name for each");

static uint32_t bits_of(pith_dtype dtype, float x) { return dtype == PITH_F32 ? pith_bits_of(x) : dtype == PITH_F16 ? pith_f32_to_f16(x) : pith_f32_to_bf16(x); }

static void put_value(pith_dtype dtype, uint8_t *values, size_t i, uint32_t bits)
{
    if (dtype == PITH_F32) pith_put32(values + 4 * i, bits);
    else pith_put16(values + 2 * i, (uint16_t)bits);
}

static uint32_t special(pith_dtype dtype, uint32_t which)
{
    const uint32_t sign = dtype == PITH_F32 ? 0x80000000 : 0x8000, infinity = bits_of(dtype, INFINITY), normal = infinity & (0 - infinity);
    const uint32_t magnitudes[] = {0, 1, normal - 1, normal, infinity - 1, infinity, infinity | 1, sign - 1, bits_of(dtype, 1)};
    const uint32_t m = magnitudes[which / 2 % PITH_COUNT(magnitudes)];
    return which % 2 ? sign | m : m;
}

static uint32_t make_value(pith_rng *rng, pith_dtype dtype, kind k, size_t row)
{
    const float x = ldexpf(pith_rng_normal(rng), -(int)(row * 5 % 11));
    const uint32_t sign = dtype == PITH_F32 ? 0x80000000 : 0x8000, bits = bits_of(dtype, x);
    switch (k) {
    case ANY_BITS: return pith_rng_u32(rng) & (2 * sign - 1);
    case ZEROS: return 0;
    case MINUS_ZEROS: return sign;
    case HALF_ZEROS: return pith_rng_below(rng, 4) < row % 5 ? 0 : bits;
    case ZERO_ROWS: return row % 2 ? 0 : bits;
    case SOME_ZEROS: return pith_rng_below(rng, 50) ? bits : 0;
    case FEW_ZEROS: return pith_rng_below(rng, 100) ? bits : 0;
    case POSITIVE: return bits & ~sign;
    case NEGATIVE: return bits | sign;
    case CONSTANT: return bits_of(dtype, 0.1f * (float)(1 + row % 3));
    case OF_F16: return bits_of(dtype, pith_f16_to_f32(pith_f32_to_f16(x)));
    case OF_BF16: return bits_of(dtype, pith_bf16_to_f32(pith_f32_to_bf16(x)));
    case WIDE: return bits_of(dtype, ldexpf(x, (int)pith_rng_below(rng, 200) - 100));
    case JUMPS: return bits_of(dtype, ldexpf(x, row % 2 ? 60 : -60));
    case SPECIAL: return special(dtype, pith_rng_u32(rng));
    default: return bits;
    }
}

typedef struct sample {
    pith_dtype dtype;
    size_t n, row, n_bytes;
    uint8_t *values;                /* at an odd address, to the end of their memory */
    char name[96];
} sample;

static sample sample_new(pith_dtype dtype, size_t n, size_t row, const char *name)
{
    sample s = {.dtype = dtype, .n = n, .row = row, .n_bytes = n * width(dtype)};
    uint8_t *all = malloc(s.n_bytes + 1);
    assert_non_null(all);
    s.values = all + 1;
    snprintf(s.name, sizeof s.name, "%zu values of %s in rows of %zu, %s", n, pith_dtype_get((uint32_t)dtype)->name, row, name);
    return s;
}

static sample sample_of(pith_dtype dtype, kind k, size_t n, size_t row)
{
    sample s = sample_new(dtype, n, row, kind_names[k]);
    pith_rng rng = {.seed = 7};
    for (size_t i = 0; i < n; i++) put_value(dtype, s.values, i, make_value(&rng, dtype, k, i / row));
    return s;
}

static void sample_free(sample *s) { drop_odd(s->values); }

static pith_status encode(pith_ctx *ctx, const sample *s, uint8_t *dst, size_t cap, size_t *len) { return pith_floats_encode(ctx, s->dtype, s->values, s->n, s->row, dst, cap, len); }

/* The coded run, as odd_copy makes it. */
static uint8_t *coded(const sample *s, size_t *len)
{
    size_t cap = pith_floats_bound(s->dtype, s->n);
    uint8_t *dst = fenced(cap);
    assert_int_equal(encode(ctxs[0], s, dst, cap, len), PITH_OK);
    uint8_t *exact = odd_copy(dst, *len);
    drop_fenced(dst);
    return exact;
}

static size_t coded_len(sample s)
{
    size_t len;
    drop_odd(coded(&s, &len));
    sample_free(&s);
    return len;
}

/* Read a run that may be anything, that much of it; what it says to be in. */
static pith_status decode(pith_ctx *ctx, const sample *s, const uint8_t *run, size_t len, bool *same)
{
    uint8_t *src = odd_copy(run, len), *back = fenced(s->n_bytes);
    pith_status status = pith_floats_decode(ctx, s->dtype, src, len, back, s->n, s->row);
    if (!fence_holds(back, s->n_bytes)) fail_msg("%s: written outside", s->name);
    *same = memcmp(back, s->values, s->n_bytes) == 0;
    drop_fenced(back);
    drop_odd(src);
    return status;
}

/* ---- round trips ------------------------------------------------------------------------------ */

static void round_trip(sample s)
{
    const size_t cap = pith_floats_bound(s.dtype, s.n);
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
    drop_odd(first);
    sample_free(&s);
}

static void values_come_back(void **state)
{
    (void)state;
    static const size_t rows[] = {1, 64, 384, 1000, PITH_FLOATS_MAX_ROW};
    for (size_t t = 0; t < PITH_COUNT(types); t++)
        for (kind k = 0; k < N_KINDS; k++)
            for (size_t r = 0; r < PITH_COUNT(rows); r++) {
                const size_t row = rows[r], counts[] = {0, 1, 2, row - 1, row, row + 1, 2 * row + 77, 3 * row + row / 2, 5000};
                sample most = sample_of(types[t], k, PITH_MAX(5000, 4 * row), row);
                for (size_t i = 0; i < PITH_COUNT(counts); i++) {
                    sample s = sample_new(types[t], counts[i], row, kind_names[k]);
                    memcpy(s.values, most.values, s.n_bytes);
                    round_trip(s);
                }
                sample_free(&most);
            }
}

/* Every pattern of 16 bits; of 32, every upper half. */
static void every_pattern_comes_back(void **state)
{
    (void)state;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_new(types[t], 65536, 500, "each once");
        for (uint32_t i = 0; i < 65536; i++) put_value(types[t], s.values, i, types[t] == PITH_F32 ? i << 16 | (i * 40503 & 0xffff) : i);
        round_trip(s);
    }
}

/* Fields of every width, and rows of every shape, two of each. */
static void dropped_bits_come_back(void **state)
{
    (void)state;
    for (size_t t = 0; t < PITH_COUNT(types); t++)
        for (size_t row = 1; row < 40; row += 1 + row / 4) {
            pith_rng rng = {.seed = 11};
            sample s = sample_new(types[t], 140 * row, row, "with bits dropped");
            const uint32_t sign = types[t] == PITH_F32 ? 0x80000000 : 0x8000;
            for (size_t i = 0; i < s.n; i++) {
                uint32_t shape = (uint32_t)(i / row / 2), v = make_value(&rng, types[t], NORMAL, 0) >> shape / 3 << shape / 3;
                put_value(types[t], s.values, i, shape % 3 == 0 ? v : shape % 3 == 1 ? v | sign : v & ~sign);
            }
            round_trip(s);
        }
}

typedef struct shared_job {
    sample s;
    size_t len[8];
    uint8_t *run[8];
    bool same[8];
    pith_ctx *ctx;
} shared_job;

static void code_one(void *arg, size_t i, PITH_UNUSED int worker)
{
    shared_job *j = arg;
    size_t cap = pith_floats_bound(j->s.dtype, j->s.n);
    uint8_t *back = malloc(j->s.n_bytes);
    j->run[i] = malloc(cap);
    j->same[i] = encode(j->ctx, &j->s, j->run[i], cap, &j->len[i]) == PITH_OK &&
                 pith_floats_decode(j->ctx, j->s.dtype, j->run[i], j->len[i], back, j->s.n, j->s.row) == PITH_OK && memcmp(back, j->s.values, j->s.n_bytes) == 0;
    free(back);
}

static void threads_may_share_a_context(void **state)
{
    (void)state;
    shared_job j = {.s = sample_of(PITH_F32, HALF_ZEROS, 5000, 100), .ctx = test_ctx(4)};
    pith_parallel(j.ctx, PITH_COUNT(j.run), code_one, &j);
    for (size_t i = 0; i < PITH_COUNT(j.run); i++) {
        assert_true(j.same[i]);
        assert_int_equal(j.len[i], j.len[0]);
        assert_memory_equal(j.run[i], j.run[0], j.len[0]);
    }
    for (size_t i = 0; i < PITH_COUNT(j.run); i++) free(j.run[i]);
    pith_ctx_free(j.ctx);
    sample_free(&j.s);
}

static void types_are_told(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 256; i++) assert_int_equal(pith_floats_has((pith_dtype)i), i == PITH_F32 || i == PITH_F16 || i == PITH_BF16);
}

/* ---- sizes ------------------------------------------------------------------------------------ */

/* Of magnitudes below bits (not a number's: infinity), rounding to the nearest value included. */
static double upper_edge(pith_dtype dtype, uint32_t bits)
{
    if (bits >= bits_of(dtype, INFINITY)) return INFINITY;
    const float below = dtype == PITH_F32 ? pith_float_of(bits - 1) : dtype == PITH_F16 ? pith_f16_to_f32((uint16_t)(bits - 1)) : pith_bf16_to_f32((uint16_t)(bits - 1));
    const float at = dtype == PITH_F32 ? pith_float_of(bits) : dtype == PITH_F16 ? pith_f16_to_f32((uint16_t)bits) : pith_bf16_to_f32((uint16_t)bits);
    return ((double)below + (double)at) / 2;
}

/* Bits of a normal value with known sigma: its key's entropy (exponent and three bits of the mantissa), its sign and its other bits. */
static double bits_of_normal(pith_dtype dtype, double sigma)
{
    const uint32_t low = low_bits(dtype);
    double entropy = 0, below = 0;
    for (uint32_t key = 1; below < 1; key++) {
        const double p_below = erf(upper_edge(dtype, key << low) / (sigma * sqrt(2))), p = p_below - below;
        if (p > 0) entropy -= p * log2(p);
        below = p_below;
    }
    return entropy + low + 1;
}

static void sizes_are_near_the_entropy(void **state)
{
    (void)state;
    enum { SIGMAS = 48, ROWS = 1536, ROW = 384 };
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        pith_rng rng = {.seed = 21};
        sample s = sample_new(types[t], ROWS * ROW, ROW, "normal with known sigma");
        double expected = 0;
        for (size_t r = 0; r < ROWS; r++) {
            const double sigma = exp2(-1.0 - (double)(r * 31 % SIGMAS) / 8);
            for (size_t i = r * ROW; i < r * ROW + ROW; i++) put_value(types[t], s.values, i, bits_of(types[t], (float)sigma * pith_rng_normal(&rng)));
        }
        for (size_t i = 0; i < SIGMAS; i++) expected += bits_of_normal(types[t], exp2(-1.0 - (double)i / 8)) / SIGMAS;
        const double bits = 8.0 * (double)coded_len(s) / (ROWS * ROW);
        if (!(bits > expected - 0.01 && bits < expected + 0.06)) fail_msg("%s: %.4f bits a value, its entropy is %.4f", pith_dtype_get((uint32_t)types[t])->name, bits, expected);
    }
}

/* Whatever was widened costs as many bits less as the narrow type has. */
static void widened_values_cost_less(void **state)
{
    (void)state;
    const size_t n = 64 * 384;
    const size_t as_is = coded_len(sample_of(PITH_F32, NORMAL, n, 384)), of_f16 = coded_len(sample_of(PITH_F32, OF_F16, n, 384)),
                 of_bf16 = coded_len(sample_of(PITH_F32, OF_BF16, n, 384));
    assert_true(of_f16 + n * 13 / 8 < as_is + n / 100);
    assert_true(of_bf16 + n * 16 / 8 < as_is + n / 100);
    assert_true(coded_len(sample_of(PITH_F16, NORMAL, n, 384)) < of_f16 + n / 100);
    assert_true(coded_len(sample_of(PITH_BF16, NORMAL, n, 384)) < of_bf16 + n / 100);
    const size_t bf16_in_f16 = coded_len(sample_of(PITH_F16, OF_BF16, n, 384)), f16 = coded_len(sample_of(PITH_F16, NORMAL, n, 384));
    assert_true(bf16_in_f16 < f16); /* all but rows near f16's least values */
}

static void signs_that_are_alike_cost_nothing(void **state)
{
    (void)state;
    const size_t n = 64 * 384;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        const size_t both = coded_len(sample_of(types[t], NORMAL, n, 384));
        assert_true(coded_len(sample_of(types[t], POSITIVE, n, 384)) + n / 8 < both + n / 1000);
        assert_true(coded_len(sample_of(types[t], NEGATIVE, n, 384)) + n / 8 < both + n / 1000);
    }
}

static void constants_cost_nothing(void **state)
{
    (void)state;
    const size_t n = 100000;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_new(types[t], n, 1000, "one half");
        for (size_t i = 0; i < n; i++) put_value(types[t], s.values, i, bits_of(types[t], -0.5f));
        assert_true(coded_len(s) < 50);
        assert_true(coded_len(sample_of(types[t], MINUS_ZEROS, n, 1000)) < 50);
        assert_true(coded_len(sample_of(types[t], ZEROS, n, 1000)) < 250); /* states, and a context for each density */
    }
}

/* Zeros between values cost what it takes to say where they are: h bits of each place. */
static void check_zeros(pith_dtype dtype, kind k, double h)
{
    const size_t n = 200 * 384;
    sample s = sample_of(dtype, k, n, 384), kept = sample_new(dtype, n, 384, "kept");
    size_t n_kept = 0;
    for (size_t i = 0, w = width(dtype); i < n; i++) {
        static const uint8_t zero[4];
        if (memcmp(s.values + i * w, zero, w) != 0) memcpy(kept.values + w * n_kept++, s.values + i * w, w);
    }
    const double full = (double)coded_len(sample_of(dtype, NORMAL, n, 384)) * (double)n_kept / (double)n, len = (double)coded_len(s);
    const double places = (double)n * h / 8;
    if (!(len < full * 1.01 + places * 1.03 + 500)) fail_msg("%s: %.0f bytes, %.0f expected", s.name, len, full + places);
    sample_free(&kept);
}

static double entropy_of_bit(double p) { return p <= 0 || p >= 1 ? 0 : -p * log2(p) - (1 - p) * log2(1 - p); }

static void zeros_cost_their_places(void **state)
{
    (void)state;
    double h = 0; /* of HALF_ZEROS: rows of 0, 1, 2, 3 and 4 fourths */
    for (int i = 0; i < 5; i++) h += entropy_of_bit(i / 4.0) / 5;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        check_zeros(types[t], HALF_ZEROS, h);
        check_zeros(types[t], SOME_ZEROS, entropy_of_bit(1.0 / 50));
        check_zeros(types[t], ZERO_ROWS, 0);
    }
}

/* ---- space ------------------------------------------------------------------------------------ */

static void too_little_space_is_told(void **state)
{
    (void)state;
    static const kind kinds[] = {NORMAL, HALF_ZEROS, WIDE, CONSTANT};
    for (size_t t = 0; t < PITH_COUNT(types); t++)
        for (size_t k = 0; k < PITH_COUNT(kinds); k++) {
            sample s = sample_of(types[t], kinds[k], 150, 32);
            const size_t bound = pith_floats_bound(types[t], s.n);
            size_t len, other;
            uint8_t *run = coded(&s, &len);
            for (size_t cap = 0; cap < len; cap++) {
                uint8_t *dst = fenced(cap);
                pith_status status = encode(ctxs[cap % n_ctxs], &s, dst, cap, &other);
                if (status != PITH_E_SPACE) fail_msg("%s, %zu of %zu bytes: %s", s.name, cap, len, pith_status_text(status));
                if (!fence_holds(dst, cap)) fail_msg("%s, %zu of %zu bytes: written outside", s.name, cap, len);
                drop_fenced(dst);
            }
            uint8_t *dst = fenced(bound);
            assert_int_equal(encode(ctxs[0], &s, dst, bound, &other), PITH_OK);
            assert_int_equal(other, len);
            assert_memory_equal(dst, run, len);
            drop_fenced(dst);
            drop_odd(run);
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
    for (size_t i = 0; i < n_ctxs; i++) {
        bool same;
        pith_status status = decode(ctxs[i], s, run, len, &same);
        if (status != PITH_E_CORRUPT) fail_msg("%s, damaged: %s, not refused", s->name, pith_status_text(status));
    }
}

static void change_bytes(const sample *s, uint8_t *run, size_t len, pith_rng *rng)
{
    for (size_t i = 0; i < len; i++) {
        const uint8_t was = run[i], now[] = {(uint8_t)(was ^ 1), (uint8_t)(was ^ 0x80), (uint8_t)~was, (uint8_t)(was + 1 + pith_rng_below(rng, 255))};
        for (size_t k = 0; k < PITH_COUNT(now); k++) {
            run[i] = now[k];
            is_harmless(ctxs[(i + k) % n_ctxs], s, run, len);
        }
        run[i] = was;
    }
    uint8_t *other = odd_copy(run, len);
    for (int round = 0; round < 200; round++) {
        memcpy(other, run, len);
        for (uint32_t k = 2 + pith_rng_below(rng, 6); k; k--) other[pith_rng_below(rng, (uint32_t)len)] = (uint8_t)pith_rng_u32(rng);
        is_harmless(ctxs[(size_t)round % n_ctxs], s, other, len);
    }
    drop_odd(other);
}

static void change_head(const sample *s, uint8_t *run, size_t len)
{
    uint8_t head[HEAD];
    memcpy(head, run, HEAD);
    for (unsigned flags = 2; flags < 256; flags *= 2) {
        run[0] = (uint8_t)(head[0] | flags);
        is_refused(s, run, len);
    }
    run[0] = head[0];
    run[1] = 0;
    is_refused(s, run, len);
    run[1] = head[1];
    static const uint16_t levels[] = {0, 1, 0x7fff, 0x8000, 0xffff};
    for (size_t i = 0; i < PITH_COUNT(levels); i++) {
        pith_put16(run + 2, levels[i]);
        if (levels[i] > 0x7fff) is_refused(s, run, len); /* more than a key can be */
        else is_harmless(ctxs[0], s, run, len);
    }
    memcpy(run, head, HEAD);
    const uint32_t stream = pith_le32(run + 4), streams[] = {0, 1, stream - 2, stream + 2, (uint32_t)len, (uint32_t)len - HEAD, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    for (size_t i = 0; i < PITH_COUNT(streams); i++) {
        pith_put32(run + 4, streams[i]);
        is_refused(s, run, len);
    }
    memcpy(run, head, HEAD);
}

static void damage_does_no_harm(void **state)
{
    (void)state;
    static const kind kinds[] = {NORMAL, HALF_ZEROS, WIDE};
    pith_rng rng = {.seed = 31};
    n_refused = 0;
    for (size_t t = 0; t < PITH_COUNT(types); t++)
        for (size_t k = 0; k < PITH_COUNT(kinds); k++) {
            sample s = sample_of(types[t], kinds[k], 100, 30);
            size_t len;
            uint8_t *run = coded(&s, &len), *longer = fenced(len + 1);
            for (size_t cut = 0; cut < len; cut++) is_refused(&s, run, cut);
            memcpy(longer, run, len);
            is_refused(&s, longer, len + 1);
            drop_fenced(longer);
            change_head(&s, run, len);
            change_bytes(&s, run, len, &rng);
            drop_odd(run);
            sample_free(&s);
        }
    assert_true(n_refused > 1000);
}

/* A run that is whole, but of other values than it is read as. */
static void runs_of_others_do_no_harm(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 99, 101, 150, 1000}, rows[] = {1, 7, 30, 100, 4096};
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_of(types[t], t ? HALF_ZEROS : NORMAL, 100, 30);
        size_t len;
        uint8_t *run = coded(&s, &len);
        for (size_t i = 0; i < PITH_COUNT(counts) * PITH_COUNT(rows) * PITH_COUNT(types); i++) {
            sample other = sample_new(types[i % PITH_COUNT(types)], counts[i / PITH_COUNT(types) % PITH_COUNT(counts)], rows[i / PITH_COUNT(types) / PITH_COUNT(counts)], "read");
            is_harmless(ctxs[i % n_ctxs], &other, run, len);
            sample_free(&other);
        }
        sample nothing = sample_new(types[t], 0, 30, "none");
        is_refused(&nothing, run, len);
        is_refused(&nothing, run, 1);
        sample_free(&nothing);
        drop_odd(run);
        sample_free(&s);
    }
}

static void random_bytes_do_no_harm(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 41};
    uint8_t bytes[600];
    for (int round = 0; round < 2000; round++) {
        sample s = sample_new(types[round % 3], 1 + pith_rng_below(&rng, 200), 1 + pith_rng_below(&rng, 64), "random");
        const size_t len = pith_rng_below(&rng, sizeof bytes);
        put_any(&rng, bytes, len);
        if (round % 2 && len > HEAD) { /* a head that is let through */
            bytes[0] &= 1;
            pith_put32(bytes + 4, pith_rng_below(&rng, (uint32_t)len) & ~1u);
            bytes[HEAD] = 0;
        }
        is_harmless(ctxs[(size_t)round % n_ctxs], &s, bytes, len);
        sample_free(&s);
    }
}

/* ---- runs written by hand --------------------------------------------------------------------- */

/* Two rows, of 3 and 2 values, whose models have one symbol each. */
enum { STEP, SHAPE, KEYS, N_SYMBOLS = KEYS + 4, N_VALUES = 5, ROW = 3 };
typedef struct plain_run {
    pith_dtype dtype;
    uint16_t level;
    uint8_t symbols[N_SYMBOLS];     /* of levels, of shapes, and of keys in each class of levels */
    uint16_t escapes[N_VALUES];
    bool has_states;                /* a stream that is not at its end */
    int without;                    /* a model that is not there; -1: all are */
} plain_run;

static int level_of(const plain_run *p, int value) { return value < ROW ? p->level : p->level + (int8_t)p->symbols[STEP]; }
static int symbol_of(const plain_run *p, int value) { return p->symbols[KEYS + level_of(p, value) % 4]; }
static uint32_t n_keys(pith_dtype dtype) { return dtype == PITH_F16 ? 256 : 2048; }

/* Up to where its fields begin. */
static uint8_t *write_plain(const plain_run *p, uint8_t *dst)
{
    static const uint8_t model_of[N_SYMBOLS] = {0, 1, 4, 5, 6, 7};
    uint8_t *at = dst + HEAD;
    int n_escapes = 0;
    memset(dst, 0, HEAD);
    pith_put16(dst + 2, p->level);
    for (int k = 0; k < N_SYMBOLS; k++) {
        if (k == p->without) continue;
        dst[1] |= (uint8_t)(1 << model_of[k]);
        *at++ = 0;
        *at++ = p->symbols[k];
        *at++ = p->symbols[k];
    }
    for (uint32_t i = 0; i < 32 && p->has_states; i++, at += 4) pith_put32(at, 0x10000 + i * 77);
    if (p->has_states) pith_put32(dst + 4, 128);
    for (int i = 0; i < N_VALUES; i++)
        if (level_of(p, i) >= 0 && symbol_of(p, i) == 0) pith_put16(at + 2 * n_escapes, p->escapes[n_escapes]), n_escapes++;
    return at + 2 * n_escapes;
}

/* Whether there are such values. */
static bool is_sound(const plain_run *p)
{
    const uint32_t shape = p->symbols[SHAPE];
    if (p->has_states || p->level > 32767 || level_of(p, N_VALUES - 1) < 0 || level_of(p, N_VALUES - 1) > 32767) return false;
    if (shape >= 96 || shape % 32 > low_bits(p->dtype)) return false;
    if (p->without == STEP || p->without == SHAPE) return false;
    for (int i = 0, e = 0; i < N_VALUES; i++) {
        if (p->without == KEYS + level_of(p, i) % 4) return false;
        if (symbol_of(p, i) == 0 && p->escapes[e++] >= n_keys(p->dtype)) return false;
    }
    return true;
}

/* Keys are what symbols or escapes say, signs and dropped bits what the shape says. */
static void check_plain(const plain_run *p, const uint8_t *values)
{
    const uint32_t low = low_bits(p->dtype), shape = p->symbols[SHAPE], top = p->dtype == PITH_F32 ? 31 : 15;
    for (int i = 0, e = 0; i < N_VALUES; i++) {
        const uint32_t v = p->dtype == PITH_F32 ? pith_le32(values + 4 * i) : pith_le16(values + 2 * i);
        const int key = symbol_of(p, i) ? 2 * level_of(p, i) + symbol_of(p, i) - 200 : p->escapes[e++];
        if (key >= 0 && key < (int)n_keys(p->dtype)) assert_int_equal(v >> low & (n_keys(p->dtype) - 1), key);
        if (shape >= 32) assert_int_equal(v >> top, shape >= 64);
        assert_int_equal(v & ((1u << shape % 32) - 1), 0);
    }
}

/* Of any level, step, shape, symbol and escape: read in one length, and only if they are sound. */
static void runs_by_hand_are_read(void **state)
{
    (void)state;
    pith_rng rng = {.seed = 51};
    int n_sound = 0;
    for (int round = 0; round < 1000; round++) {
        plain_run p = {.dtype = types[round % 3], .level = (uint16_t)pith_rng_below(&rng, round % 2 ? 300 : 33500), .has_states = round % 16 == 5, .without = -1};
        if (round % 8 == 3) p.without = (int)pith_rng_below(&rng, N_SYMBOLS);
        for (int k = 0; k < N_SYMBOLS; k++) p.symbols[k] = (uint8_t)(k >= KEYS && round % 4 == 0 ? 0 : pith_rng_below(&rng, k == SHAPE ? 110 : 256));
        for (int i = 0; i < N_VALUES; i++) p.escapes[i] = (uint16_t)pith_rng_below(&rng, n_keys(p.dtype) + (round % 8 == 0));
        uint8_t run[HEAD + 3 * N_SYMBOLS + 128 + 7 * N_VALUES], back[4 * N_VALUES];
        put_any(&rng, run, sizeof run);
        int n = 0;
        for (const uint8_t *end = write_plain(&p, run); end < run + sizeof run; end++) {
            uint8_t *src = odd_copy(run, (size_t)(end - run));
            pith_status status = pith_floats_decode(ctxs[(size_t)round % n_ctxs], p.dtype, src, (size_t)(end - run), back, N_VALUES, ROW);
            assert_true(status == PITH_OK || status == PITH_E_CORRUPT);
            if (status == PITH_OK && is_sound(&p)) check_plain(&p, back);
            n += status == PITH_OK;
            drop_odd(src);
        }
        assert_int_equal(n, is_sound(&p));
        n_sound += n;
    }
    assert_true(n_sound > 250 && n_sound < 750);
}

/* ---- memory that is not there ----------------------------------------------------------------- */

static pith_status one_life(pith_ctx *ctx, const void *user)
{
    const sample *s = user;
    const size_t cap = pith_floats_bound(s->dtype, s->n);
    uint8_t *dst = malloc(cap), *back = malloc(s->n_bytes);
    size_t len;
    pith_status status = encode(ctx, s, dst, cap, &len);
    if (status == PITH_OK) status = pith_floats_decode(ctx, s->dtype, dst, len, back, s->n, s->row);
    if (status == PITH_OK) assert_memory_equal(back, s->values, s->n_bytes);
    free(dst);
    free(back);
    return status;
}

static void failed_allocations_leave_nothing(void **state)
{
    (void)state;
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        sample s = sample_of(types[t], HALF_ZEROS, 500, 64);
        assert_true(test_every_fault(one_life, &s) >= 2);
        sample_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back), cmocka_unit_test(every_pattern_comes_back), cmocka_unit_test(dropped_bits_come_back),
        cmocka_unit_test(threads_may_share_a_context), cmocka_unit_test(types_are_told), cmocka_unit_test(sizes_are_near_the_entropy),
        cmocka_unit_test(widened_values_cost_less), cmocka_unit_test(signs_that_are_alike_cost_nothing), cmocka_unit_test(constants_cost_nothing),
        cmocka_unit_test(zeros_cost_their_places), cmocka_unit_test(too_little_space_is_told), cmocka_unit_test(damage_does_no_harm),
        cmocka_unit_test(runs_of_others_do_no_harm), cmocka_unit_test(random_bytes_do_no_harm), cmocka_unit_test(runs_by_hand_are_read),
        cmocka_unit_test(failed_allocations_leave_nothing)};
    return cmocka_run_group_tests_name("floats", tests, make_contexts, drop_contexts);
}
