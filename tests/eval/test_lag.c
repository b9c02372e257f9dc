/* Spectral radii, and how much of a gradient is left so many steps before. */
#include "eval/lag.h"

#include <math.h>

#include "eval/radius.h"
#include "test.h"

static void test_radius(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    float turn[] = {0, -3, 3, 0}, zero[4] = {0}, triangle[] = {2, 100, 0, -4}; /* eigenvalues 3i, -3i; 2, -4 */
    assert_ok(ctx, pith_radius_set(ctx, turn, 2, 0.9));
    assert_true(fabsf(turn[1] + 0.9f) < 1e-6f && fabsf(turn[2] - 0.9f) < 1e-6f);
    assert_ok(ctx, pith_radius_set(ctx, triangle, 2, 1));
    assert_true(fabsf(triangle[0] - 0.5f) < 1e-6f && fabsf(triangle[3] + 1) < 1e-6f);
    assert_int_equal(pith_radius_set(ctx, zero, 2, 1), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

/* Tanh cells with inputs that leave them linear: what is left shrinks by the radius at each step; a cell that forgets nothing
 * keeps it, one whose forget gate is open by the sigmoid of its bias keeps about that share of it a step. */
static void test_lags(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    static const size_t lags[] = {1, 20, 40};
    double half[3], kept[3], gated[3];
    pith_lag_options o = {.cell = PITH_CELL_TANH, .width = 24, .radius = 0.5, .n_draws = 4, .seed = 3};
    assert_ok(ctx, pith_lag_gradients(ctx, &o, lags, 3, half));
    assert_true(fabs(log(half[2] / half[1]) / 20 - log(0.5)) < 0.05);
    o.cell = PITH_CELL_LSTM_1997;
    assert_ok(ctx, pith_lag_gradients(ctx, &o, lags, 3, kept));
    assert_true(kept[1] > 0.1 && kept[2] > 0.1);
    o.cell = PITH_CELL_LSTM;
    o.forget_bias = 1;
    assert_ok(ctx, pith_lag_gradients(ctx, &o, lags, 3, gated));
    double share = log(gated[2] / gated[1]) / 20, open = log(1 / (1 + exp(-1)));
    assert_true(share > open - 0.1 && share < 0);
    o.cell = PITH_CELL_GRU;
    assert_int_equal(pith_lag_gradients(ctx, &o, lags, 3, half), PITH_E_ARGUMENT);
    o.cell = PITH_CELL_TANH;
    assert_int_equal(pith_lag_gradients(ctx, &o, (const size_t[]){PITH_LAG_MAX + 1}, 1, half), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_radius), cmocka_unit_test(test_lags)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
