/* Mechanisms of training that cards share: prefixes drawn by nested dropout, and which rows co-teaching picks; the terms of
 * two-dimensional Matryoshka; and principal components. */
#include <math.h>

#include "stage/transform/pca.h"
#include "stage/tune/coteaching.h"
#include "stage/tune/matryoshka2d.h"
#include "stage/tune/nested_dropout.h"
#include "test.h"

/* Draws follow exp(-(k / s)^2), and are a function of (seed, step). */
static void test_nested_draw(void **state)
{
    (void)state;
    enum { N = 24, DRAWS = 20000 };
    double weight[N + 1], total = 0;
    size_t count[N + 1] = {0};
    for (int k = 1; k <= N; k++) total += weight[k] = exp(-(k / 10.0) * (k / 10.0));
    for (uint64_t step = 0; step < DRAWS; step++) {
        size_t k = pith_nested_draw(N, 10, 3, step);
        assert_in_range(k, 1, N);
        assert_int_equal(k, pith_nested_draw(N, 10, 3, step));
        count[k]++;
    }
    for (int k = 1; k <= N; k++) {
        double expected = DRAWS * weight[k] / total;
        assert_true(fabs((double)count[k] - expected) < 5 * sqrt(expected) + 1);
    }
    assert_int_equal(pith_nested_draw(1, 10, 3, 0), 1);
    size_t differ = 0;
    for (uint64_t step = 0; step < 100; step++) differ += pith_nested_draw(N, 10, 3, step) != pith_nested_draw(N, 10, 4, step);
    assert_true(differ > 50);
}

static void test_nested_mask(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *w = pith_tape_param(tape, "w", PITH_DIMS(2, 4));
    for (int i = 0; i < 8; i++) w->data[i] = (float)(i + 1);
    pith_tape_step(tape, 0);
    pith_var *y = pith_var_keep(pith_nested_mask(w, 3));
    assert_ok(ctx, pith_backward(tape, pith_var_sum(y, PITH_ALL_AXES), 0));
    for (int i = 0; i < 8; i++) {
        assert_true(y->data[i] == (i % 4 < 3 ? w->data[i] : 0));
        assert_true(w->grad[i] == (i % 4 < 3 ? 1 : 0));
    }
    assert_null(pith_nested_mask(w, 5));
    assert_int_equal(pith_tape_status(tape), PITH_E_ARGUMENT);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_coteach(void **state)
{
    (void)state;
    static const float logits[] = {9, 0, 0, 0, 5, 5, NAN, 0, 0, 9}; /* by row: sure, sure of the other, even, broken, sure */
    static const int32_t label[] = {0, 0, 1, 0, 1}, two[] = {0, PITH_NO_LABEL, PITH_NO_LABEL, PITH_NO_LABEL, 1}, none[] = {0, 5, 0, 0, 0};
    int32_t picked[5];
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *x = pith_tape_input(tape, logits, PITH_DIMS(5, 2));
    assert_ok(ctx, pith_coteach_pick(tape, x, label, 2, picked));
    assert_memory_equal(picked, two, sizeof two);
    assert_ok(ctx, pith_coteach_pick(tape, x, label, 4, picked));
    assert_true(picked[3] == PITH_NO_LABEL && picked[1] == 0 && picked[2] == 1);
    assert_ok(ctx, pith_coteach_pick(tape, x, label, 5, picked));
    assert_memory_equal(picked, label, sizeof label);
    assert_int_equal(pith_coteach_pick(tape, x, none, 2, picked), PITH_E_ARGUMENT);
    assert_int_equal(pith_coteach_pick(tape, pith_tape_input(tape, logits, PITH_DIMS(10)), label, 2, picked), PITH_E_ARGUMENT);
    assert_int_equal(pith_coteach_keep(10, 0.3, 100, 0), 10);
    assert_int_equal(pith_coteach_keep(100, 0.3, 100, 50), 85);
    assert_int_equal(pith_coteach_keep(10, 0.3, 100, 1000), 7);
    assert_int_equal(pith_coteach_keep(10, 1, 0, 0), 1);
    assert_int_equal(pith_coteach_keep(0, 0.5, 0, 0), 0);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Rows along (3, 4) / 5 with a little across, far from 0. */
static void test_pca(void **state)
{
    (void)state;
    enum { N = 50 };
    float x[N * 2], mean[2], axes[4], y[N * 2];
    pith_ctx *ctx = test_ctx(1);
    for (int i = 0; i < N; i++) {
        float along = (float)(i - N / 2), across = i % 2 ? 0.1f : -0.1f;
        x[2 * i] = 7 + 0.6f * along - 0.8f * across;
        x[2 * i + 1] = -5 + 0.8f * along + 0.6f * across;
    }
    assert_ok(ctx, pith_pca(ctx, x, N, 2, mean, axes));
    assert_true(fabsf(axes[0] - 0.6f) < 1e-3f && fabsf(axes[1] - 0.8f) < 1e-3f);
    assert_true(fabsf(axes[2] - 0.8f) < 1e-3f && fabsf(axes[3] + 0.6f) < 1e-3f);
    pith_pca_project(x, N, 2, mean, axes, 2, y);
    for (int i = 0; i < N; i++) { /* all axes give all of it back */
        assert_true(fabsf(mean[0] + y[2 * i] * axes[0] + y[2 * i + 1] * axes[2] - x[2 * i]) < 1e-4f);
        assert_true(fabsf(fabsf(y[2 * i + 1]) - 0.1f) < 0.02f);
    }
    x[3] = NAN;
    assert_int_equal(pith_pca(ctx, x, N, 2, mean, axes), PITH_E_NONFINITE);
    assert_int_equal(pith_pca(ctx, x, 0, 2, mean, axes), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

/* The sum against its terms one by one, what is left out, and that each layer and size is drawn. */
static void test_matryoshka(void **state)
{
    (void)state;
    enum { N = 3, D = 4, LAYERS = 3 };
    static const size_t sizes[] = {2, 4};
    pith_matryoshka2d o = {.n_layers = LAYERS, .sizes = sizes, .n_sizes = 2, .temperature = 0.5f, .softness = 0.3f};
    size_t seen[LAYERS][D + 1] = {{0}};
    for (uint64_t step = 0; step < 100; step++) {
        pith_matryoshka2d_draw d = pith_matryoshka2d_choose(&o, 1, step);
        assert_in_range(d.layer, 1, LAYERS - 1);
        seen[d.layer][d.size]++;
    }
    assert_true(seen[1][2] > 10 && seen[1][4] > 10 && seen[2][2] > 10 && seen[2][4] > 10);

    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *a[LAYERS], *b[LAYERS];
    pith_rng rng = {1, 2, 0};
    for (int i = 0; i < LAYERS; i++) {
        a[i] = pith_tape_param(tape, "a", PITH_DIMS(N, D));
        b[i] = pith_tape_param(tape, "b", PITH_DIMS(N, D));
        for (int k = 0; k < N * D; k++) a[i]->data[k] = pith_rng_normal(&rng), b[i]->data[k] = pith_rng_normal(&rng);
    }
    pith_tape_step(tape, 0);
    const pith_matryoshka2d_draw d = {2, 2};
#define PREFIX(x) pith_var_slice(x, 1, 0, 2)
#define LOSS(x, y) (double)pith_var_contrastive(x, y, 0.5f)->data[0]
#define ALIGN(x, y) (double)pith_var_kl(pith_var_scale(x, 1 / 0.3f), pith_var_scale(y, 1 / 0.3f))->data[0]
    double last = LOSS(a[2], b[2]), last_size = LOSS(PREFIX(a[2]), PREFIX(b[2])), layer = LOSS(a[1], b[1]), layer_size = LOSS(PREFIX(a[1]), PREFIX(b[1]));
    double align = ALIGN(a[1], a[2]) + ALIGN(b[1], b[2]) + ALIGN(PREFIX(a[1]), PREFIX(a[2])) + ALIGN(PREFIX(b[1]), PREFIX(b[2]));
    pith_var *sum = pith_matryoshka2d_loss(a, b, &o, d);
    assert_true(fabs((double)sum->data[0] - (last + last_size + layer + layer_size + align)) < 1e-4);
    assert_ok(ctx, pith_backward(tape, sum, 0));
    assert_null(a[0]->grad); /* a layer that was not drawn */
    assert_non_null(a[1]->grad);
    o.no_alignment = true;
    assert_true(fabs((double)pith_matryoshka2d_loss(a, b, &o, d)->data[0] - (last + last_size + layer + layer_size)) < 1e-4);
    o.no_layers = true;
    assert_true(fabs((double)pith_matryoshka2d_loss(a, b, &o, d)->data[0] - (last + last_size)) < 1e-5);
    o.no_sizes = true;
    assert_true(fabs((double)pith_matryoshka2d_loss(a, b, &o, d)->data[0] - last) < 1e-5);
    assert_null(pith_matryoshka2d_loss(a, b, &o, (pith_matryoshka2d_draw){1, 5}));
    assert_int_equal(pith_tape_status(tape), PITH_E_ARGUMENT);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    static const float logits[] = {1, 2};
    static const int32_t label[] = {0};
    pith_tape *tape;
    int32_t picked;
    float mean[2], axes[4];
    pith_status status;
    PITH_TRY(pith_tape_new(ctx, 1, &tape));
    PITH_GOTO(pith_coteach_pick(tape, pith_tape_input(tape, logits, PITH_DIMS(1, 2)), label, 1, &picked), done);
    if (!pith_nested_mask(pith_tape_input(tape, logits, PITH_DIMS(1, 2)), 1)) PITH_GOTO(pith_tape_status(tape), done);
    PITH_GOTO(pith_pca(ctx, logits, 1, 2, mean, axes), done);
done:
    pith_tape_free(tape);
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
        cmocka_unit_test(test_nested_draw), cmocka_unit_test(test_nested_mask), cmocka_unit_test(test_coteach), cmocka_unit_test(test_pca), cmocka_unit_test(test_matryoshka), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
