/* BLEU against examples worked out by hand; n-grams and hidden Markov models against sums over all there is. */
#include <math.h>

#include "eval/bleu.h"
#include "eval/ngram.h"
#include "test.h"

#define near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))
#define TEXT(...) ((pith_bleu_text){(const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)})

/* ---- BLEU ------------------------------------------------------------------------------------- */

enum { THE, CAT, IS, ON, MAT, THERE, A };

static void test_bleu(void **state)
{
    (void)state;
    /* the paper's: "the" seven times, of which two count */
    const pith_bleu_text references[] = {TEXT(THE, CAT, IS, ON, THE, MAT), TEXT(THERE, IS, A, CAT, ON, THE, MAT)};
    pith_bleu b = {0};
    pith_bleu_add(&b, TEXT(THE, THE, THE, THE, THE, THE, THE), references, 2);
    assert_int_equal(b.matched[0], 2);
    assert_int_equal(b.total[0], 7);
    assert_int_equal(b.matched[1], 0);
    assert_int_equal(b.reference_len, 7);
    near(pith_bleu_score(&b, 1), 2.0 / 7, 1e-12);
    assert_true(pith_bleu_score(&b, 2) == 0);

    /* 4/5, 3/4, 2/3, 1/2, their product 1/5; five words where six are wanted */
    pith_bleu c = {0};
    pith_bleu_add(&c, TEXT(1, 2, 3, 4, 5), &TEXT(1, 2, 3, 4, 6, 7), 1);
    near(pith_bleu_score(&c, 4), pow(0.2, 0.25) * exp(-0.2), 1e-12);
    near(pith_bleu_score(&c, 2), sqrt(0.6) * exp(-0.2), 1e-12);
    /* over a corpus sums are divided, not means taken: 6/7, 4/5, 2/3 and 1/2; seven words where eight are wanted */
    pith_bleu_add(&c, TEXT(8, 9), &TEXT(8, 9), 1);
    near(pith_bleu_score(&c, 4), pow(6.0 / 7 * 4 / 5 * 2 / 3 / 2, 0.25) * exp(1 - 8.0 / 7), 1e-12);

    /* of references as near as each other the shorter: no penalty; and what is the same is 1 */
    const pith_bleu_text two[] = {TEXT(1, 2, 3, 4, 5, 6), TEXT(1, 2, 3, 4)};
    pith_bleu d = {0};
    pith_bleu_add(&d, TEXT(1, 2, 3, 4, 5), two, 2);
    assert_int_equal(d.reference_len, 4);
    assert_true(pith_bleu_score(&d, 4) == 1);
    pith_bleu none = {0};
    pith_bleu_add(&none, (pith_bleu_text){NULL, 0}, two, 2);
    assert_true(pith_bleu_score(&none, 4) == 0);
}

/* ---- n-grams ---------------------------------------------------------------------------------- */

static void test_ngram(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_ngram *m;
    static const uint8_t text[] = {0, 1, 0};
    assert_ok(ctx, pith_ngram_new(ctx, text, 3, 2, 2, &m));
    near(pith_ngram_chance(m, NULL, 0, 0, 2), (2 + 2 * 0.5) / (3 + 2), 1e-12);
    near(pith_ngram_chance(m, text, 1, 1, 2), (1 + 1 * 0.4) / (1 + 1), 1e-12);   /* 0.4 of 1 alone */
    near(pith_ngram_chance(m, text, 1, 1, 1), 0.4, 1e-12);
    near(pith_ngram_bits(m, text, 3, 2), -(log2(0.6) + log2(0.7) + log2((1 + 1 * 0.6) / 2)) / 3, 1e-12);
    pith_ngram_free(m);

    /* chances after anything, seen or not, sum to 1, and none is 0 */
    enum { N = 500, SYMBOLS = 7, ORDER = 5 };
    uint8_t drawn[N], before[ORDER - 1];
    pith_rng rng = {3, 1, 0};
    for (size_t i = 0; i < N; i++) drawn[i] = (uint8_t)(i < 3 ? i : (size_t)(drawn[i - 2] + pith_rng_below(&rng, 3)) % SYMBOLS);
    assert_ok(ctx, pith_ngram_new(ctx, drawn, N, SYMBOLS, ORDER, &m));
    for (int k = 0; k < 100; k++) {
        double sum = 0;
        for (size_t i = 0; i < ORDER - 1; i++) before[i] = (uint8_t)pith_rng_below(&rng, SYMBOLS);
        for (uint8_t s = 0; s < SYMBOLS; s++) {
            double p = pith_ngram_chance(m, before, ORDER - 1, s, ORDER);
            assert_true(p > 0);
            sum += p;
        }
        near(sum, 1, 1e-12);
    }
    assert_true(pith_ngram_bits(m, drawn, N, 4) < pith_ngram_bits(m, drawn, N, 1) - 0.5); /* two before tell much */
    pith_ngram_free(m);
    assert_int_equal(pith_ngram_new(ctx, text, 3, 2, PITH_NGRAM_MAX + 1, &m), PITH_E_ARGUMENT);
    assert_int_equal(pith_ngram_new(ctx, text, 3, 300, 2, &m), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

/* ---- hidden Markov models --------------------------------------------------------------------- */

static double share(const double *p, size_t n, int32_t i)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++) sum += p[k];
    return p[i] / sum;
}

/* Against every way to tag six symbols. */
static void test_hmm(void **state)
{
    (void)state;
    enum { TAGS = 3, SYMBOLS = 4, LEN = 6, WAYS = 729 };
    pith_ctx *ctx = test_ctx(1);
    pith_hmm m;
    pith_rng rng = {5, 1, 0};
    assert_ok(ctx, pith_hmm_new(ctx, TAGS, SYMBOLS, &m));
    for (int k = 0; k < 20; k++) {
        int32_t tags[LEN], symbols[LEN];
        for (size_t t = 0; t < LEN; t++) {
            tags[t] = t && pith_rng_below(&rng, 4) ? (tags[t - 1] + 1) % TAGS : (int32_t)pith_rng_below(&rng, TAGS);
            symbols[t] = pith_rng_below(&rng, 3) ? tags[t] : (int32_t)pith_rng_below(&rng, SYMBOLS);
        }
        pith_hmm_count(&m, symbols, tags, LEN);
    }
    for (int k = 0; k < 30; k++) {
        int32_t symbols[LEN], found[LEN];
        double best = 0, ours = 1;
        for (size_t t = 0; t < LEN; t++) symbols[t] = (int32_t)pith_rng_below(&rng, SYMBOLS);
        assert_ok(ctx, pith_hmm_tag(&m, symbols, LEN, found));
        for (int way = -1; way < WAYS; way++) { /* -1: the one that was found */
            double p = 1;
            int32_t tag, last = 0;
            int rest = way;
            for (size_t t = 0; t < LEN; t++, rest /= TAGS, last = tag) {
                tag = way < 0 ? found[t] : rest % TAGS;
                p *= (t ? share(m.next + last * TAGS, TAGS, tag) : share(m.first, TAGS, tag)) * share(m.shows + tag * SYMBOLS, SYMBOLS, symbols[t]);
            }
            if (way < 0) ours = p;
            else best = fmax(best, p);
        }
        near(ours, best, 1e-12 * best);
    }
    pith_hmm_free(&m);
    assert_int_equal(pith_hmm_new(ctx, 0, 2, &m), PITH_E_ARGUMENT);
    pith_hmm_free(&m);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    static const uint8_t text[] = {0, 1, 0, 1, 1};
    static const int32_t symbols[] = {0, 1, 0};
    int32_t tags[3];
    pith_ngram *m;
    pith_hmm hmm = {0};
    PITH_TRY(pith_ngram_new(ctx, text, 5, 2, 3, &m));
    pith_ngram_free(m);
    pith_status status = pith_hmm_new(ctx, 2, 2, &hmm);
    if (status == PITH_OK) status = pith_hmm_tag(&hmm, symbols, 3, tags);
    pith_hmm_free(&hmm);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    test_every_fault(life, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bleu), cmocka_unit_test(test_ngram), cmocka_unit_test(test_hmm), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
