/* Beam search: against going word by word, and against all sentences there are. */
#include <math.h>

#include "model/beam.h"
#include "test.h"

enum { WORDS = 4, MOST = 5 };

/* Chances that depend on all words before; asked how often, and with how many sentences at once. */
typedef struct talker {
    uint64_t seed;
    size_t calls, most;
    size_t fail_at;
} talker;

static void chances(const talker *t, const int32_t *begun, size_t len, float *log_chance)
{
    uint64_t key = 1;
    double sum = 0, p[WORDS];
    for (size_t i = 0; i < len; i++) key = key * WORDS + (uint64_t)begun[i];
    pith_rng rng = {t->seed, 1, key << 8};
    for (size_t w = 0; w < WORDS; w++) sum += p[w] = exp(2 * (double)pith_rng_normal(&rng));
    for (size_t w = 0; w < WORDS; w++) log_chance[w] = (float)log(p[w] / sum);
}

static pith_status next(void *user, const int32_t *begun, size_t n, size_t len, float *log_chance)
{
    talker *t = user;
    if (++t->calls == t->fail_at) return PITH_E_CANCELLED;
    t->most = PITH_MAX(t->most, n);
    for (size_t i = 0; i < n; i++) chances(t, begun + i * len, len, log_chance + i * WORDS);
    return PITH_OK;
}

/* The likeliest sentence that begins so. */
static double likeliest(const talker *t, int32_t *begun, size_t len)
{
    float log_chance[WORDS];
    chances(t, begun, len, log_chance);
    double best = (double)log_chance[0];
    for (int32_t w = 1; w < WORDS; w++) {
        begun[len] = w;
        best = fmax(best, (double)log_chance[w] + (len + 1 == MOST ? 0 : likeliest(t, begun, len + 1)));
    }
    return best;
}

static void test_search(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t n_better = 0, most = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        talker t = {.seed = seed};
        pith_sentence greedy, beam, all;
        int32_t begun[MOST];
        float log_chance[WORDS];
        double chance = 0;
        assert_ok(ctx, pith_beam_search(ctx, next, &t, WORDS, MOST, 1, &greedy));
        assert_int_equal(t.most, 1);
        for (size_t i = 0; i <= greedy.n && i < MOST; i++) { /* each word is the likeliest */
            int32_t word = i < greedy.n ? greedy.words[i] : 0;
            chances(&t, greedy.words, i, log_chance);
            for (size_t w = 0; w < WORDS; w++) assert_true(log_chance[w] <= log_chance[word]);
            chance += (double)log_chance[word];
        }
        assert_true(fabs(chance - greedy.log_chance) < 1e-6);
        assert_ok(ctx, pith_beam_search(ctx, next, &t, WORDS, MOST, 3, &beam));
        assert_true(t.most <= 3);
        most = PITH_MAX(most, t.most);
        assert_ok(ctx, pith_beam_search(ctx, next, &t, WORDS, MOST, 1024, &all)); /* more than there are sentences */
        assert_true(fabs(all.log_chance - likeliest(&t, begun, 0)) < 1e-6);
        assert_true(beam.over && all.over && beam.log_chance <= all.log_chance + 1e-6 && greedy.log_chance <= all.log_chance + 1e-6);
        n_better += beam.log_chance > greedy.log_chance + 1e-6;
    }
    assert_true(n_better > 5 && most == 3);
    pith_ctx_free(ctx);
}

static pith_status search(pith_ctx *ctx, const void *user)
{
    (void)user;
    talker t = {.seed = 1};
    pith_sentence s;
    return pith_beam_search(ctx, next, &t, WORDS, MOST, 3, &s);
}

static void test_failures(void **state)
{
    (void)state;
    test_every_fault(search, NULL);
    pith_sentence s;
    pith_ctx *ctx = test_ctx(1);
    talker t = {.seed = 1, .fail_at = 2};
    assert_int_equal(pith_beam_search(ctx, next, &t, WORDS, MOST, 3, &s), PITH_E_CANCELLED);
    assert_int_equal(pith_beam_search(ctx, next, &t, WORDS, MOST, 0, &s), PITH_E_ARGUMENT);
    assert_int_equal(pith_beam_search(ctx, next, &t, WORDS, PITH_BEAM_WORDS + 1, 3, &s), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_search), cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
