/* Sampling against a version that sorts everything, and its frequencies against the probabilities. */
#include <math.h>

#include "model/generate.h"
#include "test.h"

#define N 300

typedef struct ranked {
    double p;
    float logit;
    int32_t id;
} ranked;

static int by_rank(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Probability of each token, by sorting. */
static void plain_probabilities(const pith_sampling *s, const float *logits, double *p)
{
    ranked r[N];
    size_t n = N, kept = 0;
    double sum = 0, total = 0;
    for (size_t i = 0; i < N; i++) r[i] = (ranked){.logit = logits[i], .id = (int32_t)i};
    qsort(r, N, sizeof *r, by_rank);
    if (s->top_k) n = PITH_MIN(n, (size_t)s->top_k);
    for (size_t i = 0; i < n; i++) sum += r[i].p = exp((double)r[i].logit);
    if (s->top_p < 1) {
        double mass = 0;
        while (kept < n && (kept == 0 || mass < (double)s->top_p * sum)) mass += r[kept++].p;
        n = kept;
    }
    kept = 0;
    while (kept < n && (kept == 0 || r[kept].p >= (double)s->min_p * r[0].p)) kept++;
    n = kept;
    for (size_t i = 0; i < N; i++) p[i] = 0;
    for (size_t i = 0; i < n; i++) total += p[r[i].id] = exp(((double)r[i].logit - (double)r[0].logit) / (double)s->temperature);
    for (size_t i = 0; i < N; i++) p[i] /= total;
}

static void random_logits(float *logits, uint64_t stream, float deviation)
{
    pith_rng rng = {.stream = stream};
    for (size_t i = 0; i < N; i++) logits[i] = deviation * pith_rng_normal(&rng);
}

static void test_distribution(void **state)
{
    (void)state;
    static const pith_sampling settings[] = {
        {1, 0, 1, 0, 1, 0, 1}, {0.7f, 0, 1, 0, 1, 0, 2}, {1.5f, 10, 1, 0, 1, 0, 3}, {1, 0, 0.8f, 0, 1, 0, 4}, {1, 0, 0.05f, 0, 1, 0, 5},
        {1, 0, 1, 0.1f, 1, 0, 6}, {0.8f, 40, 0.9f, 0.02f, 1, 0, 7}, {2, 1, 1, 0, 1, 0, 8}, {1, 299, 0.999f, 0, 1, 0, 9}, {1, 5000, 1, 1, 1, 0, 10}, {1, 3, 0, 0, 1, 0, 11},
    };
    pith_ctx *ctx = test_ctx(1);
    for (size_t k = 0; k < PITH_COUNT(settings); k++) {
        float logits[N], copy[N];
        double p[N], chi = 0;
        size_t counts[N] = {0}, n_draws = 20000, n_possible = 0;
        random_logits(logits, k, 1.5f);
        logits[7] = logits[8]; /* a tie */
        plain_probabilities(&settings[k], logits, p);
        for (size_t step = 0; step < n_draws; step++) {
            memcpy(copy, logits, sizeof copy);
            int32_t id = pith_sample(ctx, &settings[k], copy, N, NULL, 0, step);
            assert_true(id >= 0 && id < N);
            counts[id]++;
        }
        for (size_t i = 0; i < N; i++) {
            if (p[i] == 0) assert_int_equal(counts[i], 0);
            double expected = p[i] * (double)n_draws;
            if (expected < 5) continue;
            chi += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
            n_possible++;
        }
        /* mean n - 1, deviation sqrt(2(n - 1)) */
        double freedom = (double)n_possible;
        if (!(chi < freedom + 5 * sqrt(2 * freedom))) fail_msg("setting %zu: chi-square %g of %g", k, chi, freedom);
    }
    pith_ctx_free(ctx);
}

static void test_greedy(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_sampling s = {.temperature = 0, .top_p = 1, .repeat_penalty = 1};
    float logits[N];
    random_logits(logits, 1, 1);
    logits[20] = logits[200] = 9;
    assert_int_equal(pith_sample(ctx, &s, logits, N, NULL, 0, 0), 20);
    /* the penalty counts a token once, divides what is above 0 and multiplies what is below */
    int32_t recent[] = {20, 20, 200, 5, -1, 100000};
    s.repeat_penalty = 2;
    s.repeat_last = 64;
    logits[5] = -1;
    logits[30] = 4.4f;
    assert_int_equal(pith_sample(ctx, &s, logits, N, recent, 6, 0), 20);
    assert_true(logits[20] == 4.5f && logits[200] == 4.5f && logits[5] == -2.0f);
    /* only the last repeat_last */
    random_logits(logits, 1, 1);
    logits[20] = logits[200] = 9;
    s.repeat_last = 0;
    assert_int_equal(pith_sample(ctx, &s, logits, N, recent, 6, 0), 20);
    assert_true(logits[20] == 9);
    pith_ctx_free(ctx);
}

/* Among equals the smaller ids stay, whichever filter cuts. */
static void test_ties(void **state)
{
    (void)state;
    static const pith_sampling settings[] = {{1, 3, 1, 0, 1, 0, 1}, {1, 0, 0.0095f, 0, 1, 0, 1}};
    pith_ctx *ctx = test_ctx(1);
    for (size_t k = 0; k < PITH_COUNT(settings); k++) {
        size_t counts[N] = {0};
        for (uint64_t step = 0; step < 300; step++) {
            float logits[N];
            for (size_t i = 0; i < N; i++) logits[i] = 1;
            int32_t id = pith_sample(ctx, &settings[k], logits, N, NULL, 0, step);
            assert_true(id >= 0 && id < 3); /* 0.0095 of 300 equals: three */
            counts[id]++;
        }
        for (size_t i = 0; i < 3; i++) assert_true(counts[i] > 50);
    }
    pith_ctx_free(ctx);
}

static void test_seed(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_sampling s = pith_sampling_default;
    s.temperature = 2;
    float logits[N], copy[N];
    random_logits(logits, 4, 1);
    size_t same_seed = 0, other_seed = 0;
    for (uint64_t step = 0; step < 100; step++) {
        int32_t id[3];
        for (int k = 0; k < 3; k++) {
            memcpy(copy, logits, sizeof copy);
            s.seed = k == 2 ? 99 : 42;
            id[k] = pith_sample(ctx, &s, copy, N, NULL, 0, step);
        }
        same_seed += id[0] == id[1];
        other_seed += id[0] == id[2];
    }
    assert_int_equal(same_seed, 100);
    assert_true(other_seed < 50);
    pith_ctx_free(ctx);
}

static void test_refused(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    float logits[N];
    pith_sampling s = pith_sampling_default;
    for (int temperature = 0; temperature < 2; temperature++) {
        s.temperature = (float)temperature;
        random_logits(logits, 1, 1);
        logits[3] = NAN;
        assert_int_equal(pith_sample(ctx, &s, logits, N, NULL, 0, 0), -1);
        assert_non_null(strstr(pith_error(ctx), "finite"));
        logits[3] = INFINITY;
        assert_int_equal(pith_sample(ctx, &s, logits, N, NULL, 0, 0), -1);
        for (size_t i = 0; i < N; i++) logits[i] = -INFINITY;
        assert_int_equal(pith_sample(ctx, &s, logits, N, NULL, 0, 0), -1);
        logits[77] = -5;
        assert_int_equal(pith_sample(ctx, &s, logits, N, NULL, 0, 0), 77);
        assert_int_equal(pith_sample(ctx, &s, logits, 0, NULL, 0, 0), -1);
    }
    random_logits(logits, 1, 1);
    const pith_sampling bad[] = {{-1, 0, 1, 0, 1, 0, 0}, {NAN, 0, 1, 0, 1, 0, 0}, {1, -1, 1, 0, 1, 0, 0}, {1, 0, NAN, 0, 1, 0, 0}, {1, 0, 1, 2, 1, 0, 0},
                                 {1, 0, 1, 0, 0, 0, 0}, {1, 0, 1, 0, 1, -1, 0}};
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        assert_int_equal(pith_sample(ctx, &bad[i], logits, N, NULL, 0, 0), -1);
        assert_non_null(strstr(pith_error(ctx), "sampling"));
    }
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_distribution), cmocka_unit_test(test_greedy), cmocka_unit_test(test_ties), cmocka_unit_test(test_seed), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
