/* Compressed gradients: messages, groups, feedback, links. */
#include <math.h>

#include "stage/code/rice.h"
#include "stream/grads/channel.h"
#include "test.h"

static const pith_compressor compressors[] = {
    {PITH_COMPRESS_DENSE, 0}, {PITH_COMPRESS_TOP_K, 0.1}, {PITH_COMPRESS_RANDOM_K, 0.1}, {PITH_COMPRESS_QSGD, 4}, {PITH_COMPRESS_SIGN, 0}, {PITH_COMPRESS_POWER, 2},
};

static void fill(float *x, size_t n, uint64_t stream)
{
    pith_rng rng = {11, stream, 0};
    for (size_t i = 0; i < n; i++) x[i] = pith_rng_normal(&rng);
}

static double square(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)x[i] - (double)(y ? y[i] : 0)) * ((double)x[i] - (double)(y ? y[i] : 0));
    return sum;
}

static void test_rice(void **state)
{
    (void)state;
    enum { N = 300 };
    uint32_t x[N], y[N];
    for (int kind = 0; kind < 4; kind++) {
        pith_rng rng = {3, (uint64_t)kind, 0};
        for (size_t i = 0; i < N; i++) x[i] = kind == 0 ? 0 : kind == 1 ? pith_rng_below(&rng, 40) : kind == 2 ? pith_rng_u32(&rng) : i % 50 ? 1 : UINT32_MAX;
        for (size_t n = 0; n <= N; n += 75) {
            uint8_t *bytes = malloc(pith_rice_bound(n));
            size_t len = pith_rice_encode(x, n, bytes), used;
            assert_true(len <= pith_rice_bound(n));
            assert_true(pith_rice_decode(bytes, len, y, n, &used) && used == len);
            assert_memory_equal(x, y, n * sizeof *x);
            for (size_t cut = 0; cut < len && n; cut += 1 + len / 40) assert_false(pith_rice_decode(bytes, cut, y, n, &used));
            free(bytes);
        }
    }
}

/* Each message: within its bound, decoded to what the compressor promises, refused where it is damaged. */
static void test_messages(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const size_t sizes[] = {0, 1, 2, 9, 1000, 1024, 2500};
    for (size_t c = 0; c < PITH_COUNT(compressors) - 1; c++)
        for (size_t s = 0; s < PITH_COUNT(sizes); s++) {
            size_t n = sizes[s], len, bound = pith_compressor_bound(&compressors[c], n);
            float *x = malloc((n + 1) * sizeof *x), *y = malloc((n + 1) * sizeof *y);
            uint32_t *scratch = malloc((n + 1) * sizeof *scratch);
            uint8_t *bytes = malloc(bound + 1);
            fill(x, n, s);
            if (n > 8) x[3] = x[5] = x[7]; /* equals */
            pith_draws draws = {5, s};
            assert_ok(ctx, pith_compressor_encode(ctx, &compressors[c], draws, x, n, scratch, bytes, &len));
            assert_true(len <= bound);
            assert_ok(ctx, pith_compressor_decode(ctx, &compressors[c], draws, bytes, len, n, scratch, y));
            double lost = square(x, y, n), whole = square(x, NULL, n), delta = n ? (double)pith_compressor_kept(&compressors[c], n) / (double)n : 1;
            if (compressors[c].kind == PITH_COMPRESS_DENSE) assert_true(lost <= 0);
            if (compressors[c].kind == PITH_COMPRESS_TOP_K) assert_true(lost <= (1 - delta) * whole + 1e-9);
            if (compressors[c].kind == PITH_COMPRESS_SIGN) assert_true(lost <= whole);
            if (compressors[c].kind == PITH_COMPRESS_RANDOM_K) {
                size_t kept = 0;
                for (size_t i = 0; i < n; i++) {
                    assert_true(y[i] == x[i] || y[i] == 0);
                    kept += y[i] != 0;
                }
                assert_int_equal(kept, n ? pith_compressor_kept(&compressors[c], n) : 0);
            }
            if (compressors[c].kind == PITH_COMPRESS_QSGD)
                for (size_t b = 0; b < n; b += 1024) {
                    float scale = 0;
                    for (size_t i = b; i < PITH_MIN(b + 1024, n); i++) scale = PITH_MAX(scale, fabsf(x[i]));
                    for (size_t i = b; i < PITH_MIN(b + 1024, n); i++) assert_true(fabsf(x[i] - y[i]) <= scale / 7 * 1.00001f);
                }
            for (size_t cut = 0; cut < len; cut += 1 + len / 20) assert_int_equal(pith_compressor_decode(ctx, &compressors[c], draws, bytes, cut, n, scratch, y), PITH_E_CORRUPT);
            if (n) {
                x[n / 2] = NAN;
                assert_int_equal(pith_compressor_encode(ctx, &compressors[c], draws, x, n, scratch, bytes, &len), PITH_E_NONFINITE);
            }
            free(x);
            free(y);
            free(scratch);
            free(bytes);
        }
    pith_ctx_free(ctx);
}

/* Whatever bytes come, decoding stays within its arrays. */
static void test_noise(void **state)
{
    (void)state;
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_ERROR};
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    enum { N = 100 };
    uint32_t scratch[N];
    float x[N];
    pith_rng rng = {21, 0, 0};
    for (int round = 0; round < 3000; round++) {
        const pith_compressor *c = &compressors[pith_rng_below(&rng, PITH_COUNT(compressors) - 1)];
        size_t len = pith_rng_below(&rng, (uint32_t)pith_compressor_bound(c, N) + 1);
        uint8_t *bytes = malloc(len + 1);
        for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)pith_rng_below(&rng, round % 2 ? 256 : 4);
        pith_compressor_decode(ctx, c, (pith_draws){1, 1}, bytes, len, N, scratch, x);
        free(bytes);
    }
    pith_ctx_free(ctx);
}

/* The mean of random messages is what was sent. */
static void test_unbiased(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { N = 50, ROUNDS = 4000 };
    float x[N], y[N];
    double mean[N] = {0};
    uint32_t scratch[N];
    uint8_t bytes[4 + 4 * N];
    pith_compressor c = {PITH_COMPRESS_QSGD, 3};
    fill(x, N, 1);
    for (uint64_t r = 0; r < ROUNDS; r++) {
        size_t len;
        assert_ok(ctx, pith_compressor_encode(ctx, &c, (pith_draws){1, r}, x, N, scratch, bytes, &len));
        assert_ok(ctx, pith_compressor_decode(ctx, &c, (pith_draws){1, r}, bytes, len, N, scratch, y));
        for (size_t i = 0; i < N; i++) mean[i] += (double)y[i] / ROUNDS;
    }
    float scale = 0;
    for (size_t i = 0; i < N; i++) scale = PITH_MAX(scale, fabsf(x[i]));
    for (size_t i = 0; i < N; i++) assert_true(fabs(mean[i] - (double)x[i]) < 5 * 0.5 * (double)scale / 3 / sqrt(ROUNDS)); /* five deviations */
    pith_ctx_free(ctx);
}

/* ---- channels --------------------------------------------------------------------------------- */

enum { ROWS = 24, COLS = 40, WORKERS = 3, STEPS = 12 };

static pith_status run(pith_ctx *ctx, const pith_channel_options *o, float *means /* [STEPS][ROWS * COLS] */, pith_traffic *traffic)
{
    pith_group *group = NULL;
    pith_channel *ch = NULL;
    static float g[WORKERS][ROWS * COLS];
    pith_status status = pith_group_new(ctx, WORKERS, &group);
    if (status == PITH_OK) status = pith_channel_new(group, ROWS, COLS, o, &ch);
    for (uint64_t step = 0; step < STEPS && status == PITH_OK; step++) {
        const float *list[WORKERS];
        for (size_t w = 0; w < WORKERS; w++) {
            fill(g[w], ROWS * COLS, 100 * w + step);
            list[w] = g[w];
        }
        status = pith_channel_step(ch, step, list, means + step * ROWS * COLS);
    }
    if (status == PITH_OK && traffic) *traffic = *pith_group_traffic(group);
    pith_channel_free(ch);
    pith_group_free(group);
    return status;
}

static float a[STEPS * ROWS * COLS], b[STEPS * ROWS * COLS];

static void test_feedback(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (size_t c = 0; c < PITH_COUNT(compressors); c++) {
        pith_channel_options o = {.compressor = compressors[c], .seed = 3, .tensor = 2, .feedback = PITH_FEEDBACK_EF21}, none = o, ec = o;
        assert_ok(ctx, run(ctx, &o, a, NULL));
        o.feedback = PITH_FEEDBACK_ECONTROL;
        assert_ok(ctx, run(ctx, &o, b, NULL));
        assert_memory_equal(a, b, sizeof a); /* eta = 0 is ef21 */
        o.eta = 0.3f;
        assert_ok(ctx, run(ctx, &o, b, NULL));
        assert_true(compressors[c].kind == PITH_COMPRESS_DENSE || memcmp(a, b, sizeof a) != 0);
        /* nothing is lost: what was sent is what there was, less what each still keeps; feedback sends more of it than none */
        none.feedback = PITH_FEEDBACK_NONE;
        ec.feedback = PITH_FEEDBACK_EF;
        assert_ok(ctx, run(ctx, &none, a, NULL));
        assert_ok(ctx, run(ctx, &ec, b, NULL));
        static float total[ROWS * COLS], with[ROWS * COLS], without[ROWS * COLS], g[ROWS * COLS];
        memset(total, 0, sizeof total);
        memset(with, 0, sizeof with);
        memset(without, 0, sizeof without);
        for (size_t step = 0; step < STEPS; step++)
            for (size_t w = 0; w < WORKERS; w++) {
                fill(g, ROWS * COLS, 100 * w + step);
                for (size_t i = 0; i < ROWS * COLS; i++) {
                    total[i] += g[i] / WORKERS;
                    with[i] += b[step * ROWS * COLS + i] / WORKERS;
                    without[i] += a[step * ROWS * COLS + i] / WORKERS;
                }
            }
        double lost_with = square(total, with, ROWS * COLS), lost_without = square(total, without, ROWS * COLS);
        bool whole = compressors[c].kind == PITH_COMPRESS_DENSE;
        assert_true(whole ? lost_with < 1e-6 : compressors[c].kind == PITH_COMPRESS_RANDOM_K || lost_with < lost_without);
    }
    pith_ctx_free(ctx);
}

static void test_traffic(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (size_t c = 0; c < PITH_COUNT(compressors); c++) {
        pith_channel_options o = {.compressor = compressors[c], .seed = 3};
        pith_traffic t = {0};
        assert_ok(ctx, run(ctx, &o, a, &t));
        double told = pith_compressor_bytes(&compressors[c], ROWS, COLS), sent = (double)t.sum_bytes / STEPS + (double)t.gather_bytes_all / STEPS / WORKERS;
        assert_true(fabs(sent / told - 1) < (compressors[c].kind == PITH_COMPRESS_TOP_K ? 0.03 : 1e-9));
    }
    pith_link link = {1e-3, 1e6};
    /* a ring of 4: 6 messages of a quarter of 1 MB each; a gather: 3 of 1 MB */
    assert_true(fabs(pith_link_seconds(&link, 4, &(pith_traffic){.n_sums = 1, .sum_bytes = 1000000}) - (6e-3 + 1.5)) < 1e-9);
    assert_true(fabs(pith_link_seconds(&link, 4, &(pith_traffic){.n_gathers = 1, .gather_bytes = 1000000}) - (3e-3 + 3)) < 1e-9);
    assert_true(pith_link_seconds(&link, 1, &(pith_traffic){.n_sums = 9, .sum_bytes = 9}) <= 0);
    pith_ctx_free(ctx);
}

/* A matrix of rank 2 passes through factors of rank 2; the error that is told is the error. */
static void test_factors(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static float p[ROWS * 2], q[COLS * 2], m[ROWS * COLS], mean[ROWS * COLS];
    fill(p, ROWS * 2, 1);
    fill(q, COLS * 2, 2);
    pith_power_product(p, q, ROWS, COLS, 2, m);
    pith_group *group;
    pith_channel *ch;
    assert_ok(ctx, pith_group_new(ctx, 1, &group));
    pith_channel_options o = {.compressor = {PITH_COMPRESS_POWER, 2}, .seed = 1};
    assert_ok(ctx, pith_channel_new(group, ROWS, COLS, &o, &ch));
    const float *g[] = {m};
    assert_ok(ctx, pith_channel_step(ch, 0, g, mean));
    assert_true(square(m, mean, ROWS * COLS) < 1e-9 * square(m, NULL, ROWS * COLS));
    double error, error1, error3;
    assert_ok(ctx, pith_channel_error(ch, 2, m, &error));
    assert_true(error < 1e-9 * square(m, NULL, ROWS * COLS));
    fill(m, ROWS * COLS, 3);
    assert_ok(ctx, pith_channel_error(ch, 1, m, &error1));
    assert_ok(ctx, pith_channel_error(ch, 3, m, &error3));
    assert_true(error3 < error1 && error1 < square(m, NULL, ROWS * COLS));
    assert_ok(ctx, pith_channel_tune(ch, 3));
    for (uint64_t step = 1; step < 6; step++) assert_ok(ctx, pith_channel_step(ch, step, g, mean));
    assert_true(fabs(square(m, mean, ROWS * COLS) / error3 - 1) < 0.05);
    assert_int_equal(pith_channel_tune(ch, 0), PITH_E_ARGUMENT);
    pith_channel_free(ch);
    pith_group_free(group);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *channel) { return run(ctx, channel, a, NULL); }

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t c = 0; c < PITH_COUNT(compressors); c++) {
        pith_channel_options o = {.compressor = compressors[c], .feedback = PITH_FEEDBACK_ECONTROL, .eta = 0.1f, .dense_first = true};
        test_every_fault(life, &o);
    }
}

static void test_arguments(void **state)
{
    (void)state;
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_ERROR};
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    pith_group *group;
    assert_int_equal(pith_group_new(ctx, 0, &group), PITH_E_ARGUMENT);
    static const pith_compressor bad[] = {{PITH_COMPRESS_TOP_K, 0}, {PITH_COMPRESS_TOP_K, 1.5}, {PITH_COMPRESS_RANDOM_K, NAN}, {PITH_COMPRESS_QSGD, 1}, {PITH_COMPRESS_QSGD, 4.5}, {PITH_COMPRESS_POWER, 0.5}};
    for (size_t i = 0; i < PITH_COUNT(bad); i++) assert_int_equal(pith_compressor_check(ctx, &bad[i]), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

/* What people write, and what is told them when it is nothing. */
static void test_words(void **state)
{
    (void)state;
    pith_options quiet = {.n_threads = 1, .log_level = PITH_LOG_ERROR};
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&quiet, &ctx), PITH_OK);
    static const struct {
        const char *compress, *feedback, *told;
        pith_compressor compressor;
        pith_feedback how;
        float eta;
        bool dense_first;
    } good[] = {
        {NULL, NULL, "none", {PITH_COMPRESS_DENSE, 0}, PITH_FEEDBACK_NONE, 0, false},
        {"none", "none", "none", {PITH_COMPRESS_DENSE, 0}, PITH_FEEDBACK_NONE, 0, false},
        {"topk:0.01", NULL, "topk:0.01 with ef", {PITH_COMPRESS_TOP_K, 0.01}, PITH_FEEDBACK_EF, 0, false},
        {"randk:1e-3", "ef21", "randk:0.001 with ef21", {PITH_COMPRESS_RANDOM_K, 1e-3}, PITH_FEEDBACK_EF21, 0, true},
        {"qsgd:4", NULL, "qsgd:4 without feedback", {PITH_COMPRESS_QSGD, 4}, PITH_FEEDBACK_NONE, 0, false},
        {"sign", "econtrol", "sign with econtrol:0.1", {PITH_COMPRESS_SIGN, 0}, PITH_FEEDBACK_ECONTROL, 0.1f, true},
        {"powersgd:4", "econtrol:0.5", "powersgd:4 with econtrol:0.5", {PITH_COMPRESS_POWER, 4}, PITH_FEEDBACK_ECONTROL, 0.5f, true},
    };
    for (size_t i = 0; i < PITH_COUNT(good); i++) {
        pith_channel_options o = {.seed = 7, .tensor = 8};
        char text[PITH_CHANNEL_TEXT];
        assert_ok(ctx, pith_channel_read(ctx, good[i].compress, good[i].feedback, &o));
        assert_true(o.compressor.kind == good[i].compressor.kind && o.compressor.param == good[i].compressor.param && o.feedback == good[i].how);
        assert_true(o.eta == good[i].eta && o.dense_first == good[i].dense_first && o.seed == 7 && o.tensor == 8);
        pith_channel_tell(&o, text);
        assert_string_equal(text, good[i].told);
    }
    static const char *const bad[][3] = {
        {"top", NULL, "none, topk:SHARE, randk:SHARE, qsgd:BITS, sign or powersgd:RANK"}, {"", NULL, "none, topk:SHARE"}, {"topk", NULL, "topk:SHARE"},
        {"topk:", NULL, "topk:SHARE"}, {"topk:0.1%", NULL, "topk:SHARE"}, {"topk:nan", NULL, "topk:SHARE"}, {"topk:0", NULL, "above 0 and at most 1"},
        {"topk:1.5", NULL, "above 0 and at most 1"}, {"qsgd:1", NULL, "2 to 16 bits"}, {"powersgd:0.5", NULL, "rank 1 to"}, {"sign:1", NULL, "without a number"},
        {"none:1", NULL, "without a number"}, {"sign", "ec", "none, ef, ef21 or econtrol[:ETA]"}, {"sign", "ef:1", "without a number"}, {"sign", "econtrol:-1", "0 to 1"}, {"sign", "econtrol:1.5", "0 to 1"},
        {"sign", "econtrol:", "econtrol[:ETA]"}, {NULL, "ef", "nothing to feed back"},
    };
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        pith_channel_options o = {0};
        assert_int_equal(pith_channel_read(ctx, bad[i][0], bad[i][1], &o), PITH_E_ARGUMENT);
        if (!strstr(pith_error(ctx), bad[i][2])) fail_msg("%s", pith_error(ctx));
    }
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rice), cmocka_unit_test(test_messages), cmocka_unit_test(test_noise), cmocka_unit_test(test_unbiased), cmocka_unit_test(test_feedback),
        cmocka_unit_test(test_traffic), cmocka_unit_test(test_factors), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_arguments), cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
