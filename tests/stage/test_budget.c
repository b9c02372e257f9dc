/* Spending a budget of errors: against trying everything. */
#include <math.h>

#include "stage/allocate/budget.h"
#include "test.h"

enum { ITEMS = 5, CHOICES = 4 };

/* The least size of all 4^5 choices whose errors are within the budget; INFINITY: none is. */
static double by_force(const pith_choice *c, double budget)
{
    double best = (double)INFINITY;
    for (size_t code = 0; code < 1024; code++) {
        double size = 0, error = 0;
        for (size_t i = 0, rest = code; i < ITEMS; i++, rest /= CHOICES) {
            size += c[i * CHOICES + rest % CHOICES].size;
            error += c[i * CHOICES + rest % CHOICES].error;
        }
        if (error <= budget && size < best) best = size;
    }
    return best;
}

static const size_t first[ITEMS + 1] = {0, 4, 8, 12, 16, 20};

/* Errors of whole buckets: exactly the best.  Any errors: within the budget, and no worse than the best of a budget
 * that is smaller by what rounding may cost. */
static void test_best(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t n_impossible = 0;
    for (uint64_t round = 0; round < 60; round++) {
        bool whole = round % 2;
        pith_rng rng = {4, round, 0};
        pith_choice c[ITEMS * CHOICES];
        for (size_t i = 0; i < ITEMS * CHOICES; i++) c[i] = (pith_choice){pith_rng_below(&rng, 1000), whole ? pith_rng_below(&rng, 40) : 40 * (double)pith_rng_uniform(&rng)};
        double budget = 5 + pith_rng_below(&rng, 100), size = 0, error = 0;
        size_t n_buckets = whole ? (size_t)budget : 1000, chosen[ITEMS];
        double best = by_force(c, budget);
        pith_status status = pith_budget_spend(ctx, c, first, ITEMS, budget, n_buckets, chosen);
        if (status != PITH_OK) {
            assert_int_equal(status, PITH_E_SPACE);
            assert_true(!isfinite(by_force(c, whole ? budget : budget * (1 - (double)ITEMS / 1000))));
            n_impossible++;
            continue;
        }
        for (size_t i = 0; i < ITEMS; i++) {
            assert_true(chosen[i] >= first[i] && chosen[i] < first[i + 1]);
            size += c[chosen[i]].size;
            error += c[chosen[i]].error;
        }
        assert_true(error <= budget * (1 + 1e-9));
        assert_true(size >= best - 1e-9);
        assert_true(size <= by_force(c, whole ? budget : budget * (1 - (double)ITEMS / 1000)) + 1e-9);
    }
    assert_true(n_impossible > 0 && n_impossible < 50);
    pith_ctx_free(ctx);
}

static double total(const pith_choice *c, const size_t *chosen, bool error)
{
    double sum = 0;
    for (size_t i = 0; i < ITEMS; i++) sum += error ? c[chosen[i]].error : c[chosen[i]].size;
    return sum;
}

/* The rivals keep the budget and are never better than the best; greed is nearer to it than chance, and misses it at times. */
static void test_rivals(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    double greedy = 0, random = 0, least = 0;
    size_t n_missed = 0;
    for (uint64_t round = 0; round < 60; round++) {
        pith_rng rng = {5, round, 0};
        pith_choice c[ITEMS * CHOICES];
        size_t chosen[ITEMS];
        for (size_t i = 0; i < ITEMS * CHOICES; i++) c[i] = (pith_choice){pith_rng_below(&rng, 1000), pith_rng_below(&rng, 40)};
        double budget = 30 + pith_rng_below(&rng, 60), best = by_force(c, budget);
        if (!isfinite(best)) {
            assert_int_equal(pith_budget_spend_greedily(ctx, c, first, ITEMS, budget, chosen), PITH_E_SPACE);
            assert_int_equal(pith_budget_spend_randomly(ctx, c, first, ITEMS, budget, &rng, chosen), PITH_E_SPACE);
            continue;
        }
        assert_ok(ctx, pith_budget_spend_greedily(ctx, c, first, ITEMS, budget, chosen));
        assert_true(total(c, chosen, true) <= budget && total(c, chosen, false) >= best);
        n_missed += total(c, chosen, false) > best;
        greedy += total(c, chosen, false);
        assert_ok(ctx, pith_budget_spend_randomly(ctx, c, first, ITEMS, budget, &rng, chosen));
        assert_true(total(c, chosen, true) <= budget && total(c, chosen, false) >= best);
        for (size_t i = 0; i < ITEMS; i++) assert_true(chosen[i] >= first[i] && chosen[i] < first[i + 1]);
        random += total(c, chosen, false);
        least += best;
    }
    assert_true(least < greedy && greedy < 1.2 * least && random > 1.3 * least && n_missed > 0);
    pith_ctx_free(ctx);
}

static void test_edges(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t chosen[2];
    pith_choice c[4] = {{9, 0}, {1, 5}, {8, 0}, {2, 1}};
    static const size_t two[3] = {0, 2, 4}, none[3] = {0, 0, 4};
    assert_ok(ctx, pith_budget_spend(ctx, c, two, 2, 0, 10, chosen)); /* nothing to spend: what has no error */
    assert_true(chosen[0] == 0 && chosen[1] == 2);
    assert_ok(ctx, pith_budget_spend(ctx, c, two, 2, 6, 6, chosen));
    assert_true(chosen[0] == 1 && chosen[1] == 3);
    assert_ok(ctx, pith_budget_spend(ctx, c, two, 0, 1, 10, chosen));
    assert_int_equal(pith_budget_spend(ctx, c, none, 2, 6, 6, chosen), PITH_E_ARGUMENT);
    assert_int_equal(pith_budget_spend(ctx, c, two, 2, -1, 6, chosen), PITH_E_ARGUMENT);
    assert_int_equal(pith_budget_spend(ctx, c, two, 2, 6, 0, chosen), PITH_E_ARGUMENT);
    c[1].error = (double)NAN;
    assert_int_equal(pith_budget_spend(ctx, c, two, 2, 6, 6, chosen), PITH_E_NONFINITE);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_best), cmocka_unit_test(test_rivals), cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
