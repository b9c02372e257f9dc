/* Pruning while training: the schedule's numbers, masks against a plain sort, what is frozen, and sizes by hand. */
#include "stage/tune/gradual_prune.h"

#include <math.h>

#include "test.h"

static void test_schedule(void **state)
{
    (void)state;
    pith_prune_options o = {.from = 0.2, .to = 0.8, .first_step = 100, .every = 10, .n_updates = 4};
    assert_true(pith_prune_share(&o, 99) == 0);
    assert_true(fabs(pith_prune_share(&o, 100) - 0.2) < 1e-12);
    assert_true(fabs(pith_prune_share(&o, 119) - (0.8 - 0.6 * 27 / 64)) < 1e-12); /* one update done: (3/4)^3 left */
    assert_true(fabs(pith_prune_share(&o, 120) - (0.8 - 0.6 / 8)) < 1e-12);
    assert_true(pith_prune_share(&o, 140) == 0.8 && pith_prune_share(&o, 1000) == 0.8);
    o.shape = PITH_PRUNE_LINEAR;
    assert_true(fabs(pith_prune_share(&o, 120) - 0.5) < 1e-12);
    o.shape = PITH_PRUNE_AT_ONCE;
    assert_true(pith_prune_share(&o, 99) == 0 && pith_prune_share(&o, 100) == 0.8);
}

static void test_masks(void **state)
{
    (void)state;
    enum { N = 40 };
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    pith_prune *prune;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *w = pith_tape_param(tape, "w", PITH_DIMS(4, 10)), *b = pith_tape_param(tape, "b", PITH_DIMS(4));
    for (int i = 0; i < N; i++) w->data[i] = (float)((i * 17) % N - 20) + 0.25f; /* all |w| differ */
    pith_prune_options o = {.to = 0.75, .first_step = 2, .every = 2, .n_updates = 2};
    assert_ok(ctx, pith_prune_new(tape, &o, &prune));
    assert_ok(ctx, pith_prune_add(prune, w));
    pith_tape_step(tape, 0);
    assert_ptr_equal(pith_prune_masked(prune, w), w); /* nothing is masked yet */
    assert_ptr_equal(pith_prune_masked(prune, b), b); /* never pruned */
    uint64_t last = 0;
    for (uint64_t step = 0; step < 10; step++) {
        assert_ok(ctx, pith_prune_step(prune, step));
        if (step == 6) last = pith_prune_hash(prune);
        if (step > 6) w->data[step] = 100 + (float)step; /* after the last update masks stay, whatever weights do */
    }
    assert_true(pith_prune_hash(prune) == last);
    pith_prune_size size = pith_prune_measure(tape, prune);
    assert_int_equal(size.n_values, 44);
    assert_int_equal(size.n_nonzero, 14);
    /* the gradient of a sum is the mask */
    pith_tape_step(tape, 10);
    assert_ok(ctx, pith_backward(tape, pith_var_sum(pith_prune_masked(prune, w), PITH_ALL_AXES), 0));
    int kept = 0;
    for (int i = 0; i < N; i++) {
        float original = (float)((i * 17) % N - 20) + 0.25f;
        bool stays = fabsf(original) >= 15; /* the ten largest of 0.25 .. 19.75 */
        kept += stays;
        assert_true(w->grad[i] == (stays ? 1 : 0));
    }
    assert_int_equal(kept, 10);
    pith_prune_settle(prune);
    assert_true(w->data[7] == 0 || fabsf((float)((7 * 17) % N - 20) + 0.25f) >= 15);
    pith_prune_free(prune);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_random(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_prune *prune;
    float half[1000];
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *w = pith_tape_param(tape, "w", PITH_DIMS(1000));
    for (int i = 0; i < 1000; i++) w->data[i] = (float)(i + 1);
    pith_prune_options o = {.from = 0.5, .to = 0.9, .every = 1, .n_updates = 1, .random = true, .seed = 5};
    assert_ok(ctx, pith_prune_new(tape, &o, &prune));
    assert_ok(ctx, pith_prune_add(prune, w));
    for (uint64_t step = 0; step < 2; step++) {
        assert_ok(ctx, pith_prune_step(prune, step));
        pith_tape_step(tape, step);
        const pith_var *m = pith_prune_masked(prune, w);
        size_t n = 0, small = 0;
        for (int i = 0; i < 1000; i++) {
            bool stays = m->data[i] != 0;
            n += stays;
            small += stays && i < 500;
            if (step) assert_true(!stays || half[i] != 0); /* masks only grow */
            half[i] = m->data[i];
        }
        assert_int_equal(n, step ? 100 : 500);
        assert_true(small > n / 4 && small < n * 3 / 4); /* not by size */
    }
    pith_prune_free(prune);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_sizes(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_prune *prune;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *w = pith_tape_param(tape, "w", PITH_DIMS(2, 100));
    for (int i = 0; i < 200; i++) w->data[i] = i == 0 ? 3 : i == 99 ? 2 : 0.001f; /* row 0: a value, 98 zeros, a value; row 1: none */
    assert_ok(ctx, pith_prune_new(tape, &(pith_prune_options){.to = 0.99}, &prune));
    assert_int_equal(pith_prune_measure(tape, NULL).dense_bytes, 800);
    assert_ok(ctx, pith_prune_add(prune, w));
    assert_ok(ctx, pith_prune_step(prune, 0));
    pith_prune_size size = pith_prune_measure(tape, prune);
    assert_int_equal(size.n_nonzero, 2);
    assert_int_equal(size.bitmask_bytes, 200 / 8 + 2 * 4);
    /* row 0: 2 values and 98 / 32 = 3 fillers; row 1: 100 / 32 = 3 fillers */
    assert_int_equal(size.csr_bytes, 2 * 4 + (8 * 5 + 7) / 8 + 8 * 4);
    pith_prune_free(prune);
    assert_int_equal(pith_prune_new(tape, &(pith_prune_options){.from = 0.9, .to = 0.5}, &prune), PITH_E_ARGUMENT);
    assert_int_equal(pith_prune_new(tape, &(pith_prune_options){.to = 0.5, .n_updates = 2}, &prune), PITH_E_ARGUMENT);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
