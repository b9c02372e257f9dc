/* Factorisations multiply back to what they are of. */
#include "test.h"

#include <math.h>

#include "tensor/lapack.h"

enum { N = 37, RIGHT = 3 };

/* Symmetric and positive definite, as doubles. */
static void definite(double *a, uint64_t seed)
{
    double x[N * N];
    pith_rng rng = {.seed = seed};
    for (size_t i = 0; i < N * N; i++) x[i] = (double)pith_rng_normal(&rng);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < N; k++) {
            a[i * N + k] = i == k;
            for (size_t j = 0; j < N; j++) a[i * N + k] += x[i * N + j] * x[k * N + j];
        }
}

static void test_eigen(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    double a[N * N], v[N * N], w[N], again[N];
    definite(a, 1);
    memcpy(v, a, sizeof v);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < i; k++) v[i * N + k] = NAN; /* the lower half is not read */
    assert_ok(ctx, pith_eigen(ctx, N, v, true, w));
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < N; c++) { /* column c is an eigenvector */
            double sum = 0;
            for (size_t k = 0; k < N; k++) sum += a[i * N + k] * v[k * N + c];
            assert_true(fabs(sum - w[c] * v[i * N + c]) < 1e-10 * w[N - 1]);
        }
    for (size_t i = 1; i < N; i++) assert_true(w[i] >= w[i - 1]);
    memcpy(v, a, sizeof v);
    assert_ok(ctx, pith_eigen(ctx, N, v, false, again));
    for (size_t i = 0; i < N; i++) assert_true(fabs(again[i] - w[i]) < 1e-10 * w[N - 1]);
    assert_int_equal(pith_eigen(ctx, 0, v, true, w), PITH_E_SHAPE);
    pith_ctx_free(ctx);
}

/* A turn by an angle, and two real ones, in no order. */
static void test_eigenvalues(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    double a[16] = {cos(1), -sin(1), 0, 0, sin(1), cos(1), 0, 0, 0, 0, 3, 1, 0, 0, 0, -2}, re[4], im[4], found[4] = {0};
    assert_ok(ctx, pith_eigenvalues(ctx, 4, a, re, im));
    for (int i = 0; i < 4; i++) {
        found[0] += fabs(re[i] - cos(1)) + fabs(im[i] - sin(1)) < 1e-12;
        found[1] += fabs(re[i] - cos(1)) + fabs(im[i] + sin(1)) < 1e-12;
        found[2] += fabs(re[i] - 3) + fabs(im[i]) < 1e-12;
        found[3] += fabs(re[i] + 2) + fabs(im[i]) < 1e-12;
    }
    for (int i = 0; i < 4; i++) assert_true(found[i] == 1);
    pith_ctx_free(ctx);
}

static void test_solve(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    double a[N * N], used[N * N], x[N * RIGHT], b[N * RIGHT] = {0};
    definite(a, 2);
    memcpy(used, a, sizeof used);
    pith_rng rng = {.seed = 3};
    for (size_t i = 0; i < N * RIGHT; i++) x[i] = (double)pith_rng_normal(&rng);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < N; k++)
            for (size_t c = 0; c < RIGHT; c++) b[i * RIGHT + c] += a[i * N + k] * x[k * RIGHT + c];
    assert_ok(ctx, pith_solve_definite(ctx, N, RIGHT, used, b));
    for (size_t i = 0; i < N * RIGHT; i++) assert_true(fabs(b[i] - x[i]) < 1e-9);
    for (size_t i = 0; i < N; i++) a[i * N + i] -= 1e4;
    assert_int_equal(pith_solve_definite(ctx, N, RIGHT, a, b), PITH_E_INTERNAL);
    assert_non_null(strstr(pith_error(ctx), "not positive definite"));
    pith_ctx_free(ctx);
}

static void test_qr(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    float a[N * N], q[N * N], diagonal[N];
    pith_rng rng = {.seed = 4};
    for (size_t i = 0; i < N * N; i++) a[i] = q[i] = pith_rng_normal(&rng);
    assert_ok(ctx, pith_qr(ctx, N, q, diagonal));
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < N; k++) { /* Q'Q = I; R = Q'a is upper triangular, with that diagonal */
            double one = 0, r = 0;
            for (size_t j = 0; j < N; j++) {
                one += (double)q[j * N + i] * (double)q[j * N + k];
                r += (double)q[j * N + i] * (double)a[j * N + k];
            }
            assert_true(fabs(one - (i == k)) < 1e-5);
            if (k <= i) assert_true(fabs(r - (i == k ? (double)diagonal[i] : 0)) < 1e-4);
        }
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    double a[4] = {2, 1, 1, 2}, b[2] = {1, 1}, w[2], im[2], solved[4] = {2, 1, 1, 2}, any[4] = {1, 2, 3, 4};
    float q[4] = {1, 2, 3, 4}, diagonal[2];
    PITH_TRY(pith_eigen(ctx, 2, a, true, w));
    PITH_TRY(pith_eigenvalues(ctx, 2, any, w, im));
    PITH_TRY(pith_solve_definite(ctx, 2, 1, solved, b));
    return pith_qr(ctx, 2, q, diagonal);
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault(life, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eigen), cmocka_unit_test(test_eigenvalues), cmocka_unit_test(test_solve), cmocka_unit_test(test_qr), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
