/* Ridge regression. */
#include "eval/ridge.h"

#include <math.h>

#include "test.h"

/* y = 1 + 2 a - b at points that fix it; by hand, one point of x = 1, y = 1: least (w + b - 1)^2 + r (w^2 + b^2) has w = b = 1 / (2 + r) */
static void test_ridge(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    const float x[] = {0, 0, 1, 0, 0, 1, 1, 1}, y[] = {1, 3, 0, 2}, one = 1;
    pith_ridge r;
    assert_ok(ctx, pith_ridge_new(ctx, 2, 1, &r));
    pith_ridge_add(&r, x, y, 4);
    assert_ok(ctx, pith_ridge_solve(&r, 1e-12));
    assert_true(fabs(r.xy[0] - 2) < 1e-9 && fabs(r.xy[1] + 1) < 1e-9 && fabs(r.xy[2] - 1) < 1e-9);
    pith_ridge_free(&r);
    assert_ok(ctx, pith_ridge_new(ctx, 1, 1, &r));
    pith_ridge_add(&r, &one, &one, 1);
    assert_ok(ctx, pith_ridge_solve(&r, 0.5));
    assert_true(fabs(r.xy[0] - 1 / 2.5) < 1e-12 && fabs(r.xy[1] - 1 / 2.5) < 1e-12);
    pith_ridge_free(&r);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ridge)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
