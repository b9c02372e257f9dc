/* How far images and sets of them are apart: Frechet distances that are known, and distances of features. */
#include <math.h>

#include "eval/perceptual.h"
#include "test.h"

#define near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static pith_moments *moments(pith_ctx *ctx, size_t dim)
{
    pith_moments *m = NULL;
    assert_ok(ctx, pith_moments_new(ctx, dim, &m));
    return m;
}

/* ---- Frechet distance ------------------------------------------------------------------------- */

static void test_moments(void **state)
{
    (void)state;
    /* a large mean, which squares would drown */
    static const float x[] = {10000, 0, 10001, 2, 10002, 4, 10003, 0, 10004, 9};
    pith_ctx *ctx = test_ctx(1);
    pith_moments *m = moments(ctx, 2);
    double mean[2], covariance[4];
    assert_ok(ctx, pith_moments_add(m, x, 1));
    assert_int_equal(pith_moments_get(m, mean, covariance), PITH_E_ARGUMENT);
    assert_ok(ctx, pith_moments_add(m, x + 2, 4));
    assert_ok(ctx, pith_moments_add(m, x, 0));
    assert_int_equal(pith_moments_count(m), 5);
    assert_int_equal(pith_moments_size(m), 2);
    assert_ok(ctx, pith_moments_get(m, mean, covariance));
    near(mean[0], 10002, 1e-9);
    near(mean[1], 3, 1e-12);
    near(covariance[0], 2.5, 1e-9);
    near(covariance[1], 4, 1e-9);
    near(covariance[2], 4, 1e-9);
    near(covariance[3], 14, 1e-9);
    const float bad[] = {1, NAN};
    assert_int_equal(pith_moments_add(m, bad, 1), PITH_E_NONFINITE);
    assert_int_equal(pith_moments_count(m), 5);
    pith_moments_free(m);
    assert_int_equal(pith_moments_new(ctx, 0, &m), PITH_E_LIMIT);
    assert_int_equal(pith_moments_new(ctx, SIZE_MAX / 2, &m), PITH_E_LIMIT);
    pith_ctx_free(ctx);
}

/* Vectors with exactly this mean and a covariance of squares of `scale` along the axes, turned by `angle`. */
static pith_moments *crossed(pith_ctx *ctx, const double mean[2], const double scale[2], double angle)
{
    pith_moments *m = moments(ctx, 2);
    for (int axis = 0; axis < 2; axis++)
        for (int side = -1; side <= 1; side += 2) { /* two a side: the sum of squares over n - 1 is (2 r^2) / 3 */
            double r = side * scale[axis] * sqrt(1.5), u = axis ? -sin(angle) : cos(angle), v = axis ? cos(angle) : sin(angle);
            const float x[2] = {(float)(mean[0] + r * u), (float)(mean[1] + r * v)};
            assert_ok(ctx, pith_moments_add(m, x, 1));
        }
    return m;
}

static void test_frechet(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const double here[2] = {1, -2}, there[2] = {4, 2}, one[2] = {1, 3}, other[2] = {2, 0.5}, flat[2] = {2, 0}, round[2] = {2, 2};
    const struct {
        const double *mean_a, *scale_a, *mean_b, *scale_b;
        double angle_a, angle_b, distance;
    } cases[] = {
        {here, one, here, one, 0.3, 0.3, 0},
        {here, one, there, one, 0.3, 0.3, 25},                           /* means alone */
        {here, one, here, other, 0.3, 0.3, 1 + 2.5 * 2.5},               /* along the same axes roots subtract */
        {here, one, there, other, 0, 0, 25 + 1 + 2.5 * 2.5},
        {here, one, here, one, 0, M_PI / 2, 2 * 2 * 2},                  /* axes exchanged: 1 and 3 against 3 and 1 */
        {here, flat, here, flat, 0, M_PI / 2, 8},                        /* singular, nothing in common: tr A + tr B */
        {here, round, here, flat, 0.7, 0.2, 4},
        /* the root of a 2x2 matrix M has the trace sqrt(tr M + 2 sqrt(det M)); at 45 degrees tr A B is tr A tr B / 2 */
        {here, one, here, other, 0, M_PI / 4, 10 + 4.25 - 2 * sqrt(10 * 4.25 / 2 + 2 * 3)},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_moments *a = crossed(ctx, cases[i].mean_a, cases[i].scale_a, cases[i].angle_a), *b = crossed(ctx, cases[i].mean_b, cases[i].scale_b, cases[i].angle_b);
        double forth, back;
        assert_ok(ctx, pith_frechet(a, b, &forth));
        assert_ok(ctx, pith_frechet(b, a, &back));
        if (fabs(forth - cases[i].distance) > 2e-5 || fabs(forth - back) > 2e-5) fail_msg("case %zu: %.9g and %.9g, not %.9g", i, forth, back, cases[i].distance);
        pith_moments_free(a);
        pith_moments_free(b);
    }
    pith_moments *a = moments(ctx, 2), *b = moments(ctx, 3);
    double d;
    assert_int_equal(pith_frechet(a, b, &d), PITH_E_SHAPE);
    pith_moments_free(b);
    b = moments(ctx, 2);
    assert_int_equal(pith_frechet(a, b, &d), PITH_E_ARGUMENT);
    pith_moments_free(a);
    pith_moments_free(b);
    pith_ctx_free(ctx);
}

/* More values than LAPACK's blocks: a set against itself scaled by s is (s - 1)^2 times its variance. */
static void test_frechet_of_many(void **state)
{
    (void)state;
    enum { DIM = 70, MANY = 200 };
    pith_ctx *ctx = test_ctx(1);
    pith_moments *a = moments(ctx, DIM), *b = moments(ctx, DIM);
    pith_rng rng = {.seed = 4};
    float x[DIM], twice[DIM];
    double mean[DIM], *covariance = pith_array(ctx, DIM * DIM, sizeof *covariance), distance, wanted = 0;
    for (int i = 0; i < MANY; i++) {
        float common = pith_rng_normal(&rng);
        for (int k = 0; k < DIM; k++) x[k] = pith_rng_normal(&rng) + common, twice[k] = 2 * x[k];
        assert_ok(ctx, pith_moments_add(a, x, 1));
        assert_ok(ctx, pith_moments_add(b, twice, 1));
    }
    assert_ok(ctx, pith_moments_get(a, mean, covariance));
    for (int k = 0; k < DIM; k++) wanted += mean[k] * mean[k] + covariance[k * DIM + k];
    assert_ok(ctx, pith_frechet(a, b, &distance));
    near(distance, wanted, 1e-6 * wanted);
    pith_free(ctx, covariance);
    pith_moments_free(a);
    pith_moments_free(b);
    pith_ctx_free(ctx);
}

/* ---- features --------------------------------------------------------------------------------- */

#define SMALL "{\"widths\": [4, 4, 8], \"features\": 6, \"size\": 8}"
#define PIXELS (2 * 3 * 8 * 8)

static void fill(float *x, uint64_t seed)
{
    pith_rng rng = {.seed = seed};
    for (size_t i = 0; i < PIXELS; i++) x[i] = 2 * pith_rng_uniform(&rng) - 1;
}

static void test_perceptual(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_net *net, *other;
    float x[PIXELS], y[PIXELS], z[PIXELS];
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    assert_ok(ctx, pith_net_new(tape, "clf32", SMALL, 1, &net));
    assert_ok(ctx, pith_net_new(tape, "mlp", NULL, 1, &other));
    pith_net_freeze(net, true);
    fill(x, 1);
    fill(y, 2);
    for (size_t i = 0; i < PIXELS; i++) z[i] = x[i] + 0.01f * y[i];
    pith_tape_step(tape, 0);
    pith_var *a = pith_tape_input(tape, x, PITH_DIMS(2, 3, 8, 8)), *b = pith_tape_input(tape, y, PITH_DIMS(2, 3, 8, 8)), *c = pith_tape_input(tape, z, PITH_DIMS(2, 3, 8, 8));
    pith_var *same = pith_perceptual_distance(net, a, a), *far = pith_perceptual_distance(net, a, b), *back = pith_perceptual_distance(net, b, a), *close = pith_perceptual_distance(net, a, c);
    assert_ok(ctx, pith_tape_status(tape));
    assert_true(same->count == 1 && same->data[0] == 0);
    assert_true(far->data[0] > 0 && far->data[0] <= 12 && far->data[0] == back->data[0]);
    assert_true(close->data[0] > 0 && close->data[0] < 0.01f * far->data[0]);

    /* by hand: two less twice the cosine, at each place */
    double all = 0;
    for (size_t stage = 0; stage < 3; stage++) {
        char name[16];
        snprintf(name, sizeof name, "stages.%zu", stage);
        assert_non_null(pith_net_forward(net, a));
        pith_var *of_a = pith_net_hidden(net, name);
        assert_non_null(pith_net_forward(net, b));
        pith_var *of_b = pith_net_hidden(net, name);
        double sum = 0;
        size_t channels = of_a->dims[1], places = of_a->dims[2] * of_a->dims[3];
        for (size_t i = 0; i < 2 * places; i++) {
            double lengths[2] = {0}, dot = 0;
            for (size_t k = 0; k < channels; k++) {
                size_t at = (i / places * channels + k) * places + i % places;
                double u = (double)of_a->data[at], v = (double)of_b->data[at];
                lengths[0] += u * u, lengths[1] += v * v, dot += u * v;
            }
            sum += 2 - 2 * dot / sqrt(lengths[0] * lengths[1]);
        }
        all += sum / (double)(2 * places);
    }
    near((double)far->data[0], all, 1e-4 * all);

    /* features: the depth before the logits */
    assert_int_equal(pith_features_count(net), 6);
    assert_int_equal(pith_features_count(other), 0);
    pith_moments *m = moments(ctx, 6), *wrong = moments(ctx, 5);
    double mean[6];
    assert_ok(ctx, pith_features_add(net, a, m));
    assert_ok(ctx, pith_moments_get(m, mean, NULL));
    assert_non_null(pith_net_forward(net, a));
    pith_var *features = pith_net_hidden(net, "features");
    near(mean[3], ((double)features->data[3] + (double)features->data[9]) / 2, 1e-6);
    assert_int_equal(pith_features_add(net, a, wrong), PITH_E_SHAPE);
    assert_null(pith_perceptual_distance(other, pith_var_reshape(a, PITH_DIMS(2, 192)), pith_var_reshape(b, PITH_DIMS(2, 192))));
    assert_int_not_equal(pith_tape_status(tape), PITH_OK);
    pith_moments_free(m);
    pith_moments_free(wrong);
    pith_net_free(net);
    pith_net_free(other);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    static const float x[] = {1, 2, 3, 4, 5, 7};
    pith_moments *a = NULL, *b = NULL;
    double distance = -1;
    pith_status status;
    PITH_GOTO(pith_moments_new(ctx, 2, &a), done);
    PITH_GOTO(pith_moments_new(ctx, 2, &b), done);
    PITH_GOTO(pith_moments_add(a, x, 3), done);
    PITH_GOTO(pith_moments_add(b, x, 3), done);
    PITH_GOTO(pith_frechet(a, b, &distance), done);
    near(distance, 0, 1e-6);
done:
    pith_moments_free(a);
    pith_moments_free(b);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault(life, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments), cmocka_unit_test(test_frechet), cmocka_unit_test(test_frechet_of_many),
        cmocka_unit_test(test_perceptual), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
