/* Quantization in buckets: values and gradients by hand, shares of points, sizes; and distillation's loss. */
#include "stage/quantize/bucket.h"

#include <math.h>

#include "stage/code/huffman.h"
#include "stage/tune/distill.h"
#include "test.h"

static pith_var *param(pith_tape *tape, const float *x, size_t n)
{
    pith_var *p = pith_tape_param(tape, "p", PITH_DIMS(n));
    if (p) memcpy(p->data, x, n * sizeof *x);
    return p;
}

static void test_round(void **state)
{
    (void)state;
    static const float w[] = {-1, 1, 0.2f, -0.4f, 10, 10}; /* a bucket of four, one without range */
    static const float expected[] = {-1, 1, 1 / 3.0f, -1 / 3.0f, 10, 10};
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *p = param(tape, w, 6);
    pith_tape_step(tape, 0);
    pith_var *q = pith_var_keep(pith_bucket_round(p, 4, 2));
    assert_ok(ctx, pith_backward(tape, pith_var_sum(pith_var_square(q), PITH_ALL_AXES), 0));
    for (int i = 0; i < 6; i++) {
        assert_true(fabsf(q->data[i] - expected[i]) < 1e-6f);
        assert_true(fabsf(p->grad[i] - 2 * q->data[i]) < 1e-5f); /* the gradient at what was rounded, not at w */
    }
    assert_null(pith_bucket_round(p, 4, 9));
    assert_int_equal(pith_tape_status(tape), PITH_E_ARGUMENT);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_learned(void **state)
{
    (void)state;
    static const float w[] = {0, 2, 0.5f, 1.9f, -1, 3}, at[] = {0.1f, 0.9f};
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *v = param(tape, w, 6), *p = param(tape, at, 2);
    pith_tape_step(tape, 0);
    pith_var *q = pith_var_keep(pith_bucket_learned(v, p, 4));
    assert_ok(ctx, pith_backward(tape, pith_var_sum(q, PITH_ALL_AXES), 0));
    static const float expected[] = {0.2f, 1.8f, 0.2f, 1.8f, -0.6f, 2.6f};
    for (int i = 0; i < 6; i++) assert_true(fabsf(q->data[i] - expected[i]) < 1e-6f);
    assert_true(fabsf(p->grad[0] - (2 + 2 + 4)) < 1e-6f && fabsf(p->grad[1] - 8) < 1e-6f); /* ranges of their buckets */
    assert_null(v->grad);
    float points[3];
    assert_ok(ctx, pith_bucket_quantiles(ctx, w, 6, 4, points, 3)); /* 0 1 0.25 0.95 0 1, sorted */
    assert_true(points[0] == 0 && fabsf(points[1] - 0.95f) < 1e-6f && points[2] == 1);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_share(void **state)
{
    (void)state;
    static const double norm[] = {1, 3, 0}, none[] = {0, 0, 0}, huge[] = {1, 0};
    size_t n[3];
    pith_bucket_share(norm, 3, 4, n); /* 2 each, and 6 as 1 to 3 */
    assert_true(n[0] == 4 && n[1] == 6 && n[2] == 2);
    pith_bucket_share(none, 3, 4, n);
    assert_true(n[0] == 4 && n[1] == 4 && n[2] == 4);
    pith_bucket_share(huge, 2, 256, n);
    assert_true(n[0] == PITH_BUCKET_POINTS && n[1] == 128);
}

static void test_sizes(void **state)
{
    (void)state;
    static const uint64_t count[] = {5, 0, 1, 1, 2, 9}, alone[] = {0, 7};
    uint64_t bits;
    size_t bytes;
    float w[10];
    pith_ctx *ctx = test_ctx(1);
    assert_ok(ctx, pith_huffman_bits(ctx, count, 6, &bits)); /* lengths 2, 4, 4, 3, 1 */
    assert_int_equal(bits, 5 * 2 + 4 + 4 + 2 * 3 + 9);
    assert_ok(ctx, pith_huffman_bits(ctx, alone, 2, &bits));
    assert_int_equal(bits, 0);
    for (int i = 0; i < 10; i++) w[i] = (float)(i % 2);
    assert_ok(ctx, pith_bucket_bytes(ctx, w, 10, 4, NULL, 0, 2, &bytes)); /* a bit each; 4 lengths; 3 buckets */
    assert_int_equal(bytes, 2 + 4 + 24);
    assert_ok(ctx, pith_bucket_bytes(ctx, w, 10, 4, (const float[]){0, 1}, 2, 0, &bytes));
    assert_int_equal(bytes, 2 + 2 + 24 + 8);
    pith_ctx_free(ctx);
}

static void test_distill(void **state)
{
    (void)state;
    static const float x[] = {1, -1}, y[] = {2, 0.5f};
    static const int32_t label[] = {1};
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *s = pith_tape_param(tape, "s", PITH_DIMS(1, 2)), *t = pith_tape_param(tape, "t", PITH_DIMS(1, 2));
    memcpy(s->data, x, sizeof x);
    memcpy(t->data, y, sizeof y);
    pith_tape_step(tape, 0);
    pith_var *l = pith_distill_loss(s, t, label, &(pith_distill_options){2, 0.7f});
    double p = 1 / (1 + exp(-0.75)), q = 1 / (1 + exp(-1.0)); /* of the first class, at a temperature of 2 */
    double kl = p * log(p / q) + (1 - p) * log((1 - p) / (1 - q)), expected = 0.7 * 4 * kl + 0.3 * log(1 + exp(2.0));
    assert_true(fabs((double)l->data[0] - expected) < 1e-5);
    assert_ok(ctx, pith_backward(tape, l, 0));
    assert_non_null(s->grad);
    assert_null(t->grad);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    static const float w[] = {0, 1, 2};
    pith_tape *tape;
    float points[2];
    size_t bytes;
    pith_status status;
    PITH_TRY(pith_tape_new(ctx, 1, &tape));
    pith_var *p = param(tape, w, 3);
    PITH_GOTO(pith_tape_status(tape), done);
    PITH_GOTO(pith_bucket_quantiles(ctx, w, 3, 2, points, 2), done);
    PITH_GOTO(pith_bucket_bytes(ctx, w, 3, 2, points, 2, 0, &bytes), done);
    if (!pith_bucket_round(p, 2, 2) || !pith_bucket_learned(p, p, 2)) status = pith_tape_status(tape);
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
        cmocka_unit_test(test_round), cmocka_unit_test(test_learned), cmocka_unit_test(test_share),
        cmocka_unit_test(test_sizes), cmocka_unit_test(test_distill), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
