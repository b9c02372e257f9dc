/* The CTC loss beside the sum over all paths, one by one; what is refused; threads; memory. */
#include "differences.h"

enum { LEN = 5, CLASSES = 3 };

/* Whether a path, repeats taken together and blanks left out, says the labels. */
static bool says(const int32_t *path, size_t len, int32_t blank, const int32_t *label, size_t n_labels)
{
    size_t k = 0;
    for (size_t t = 0; t < len; t++) {
        if (path[t] == blank || (t && path[t] == path[t - 1])) continue;
        if (k == n_labels || label[k] != path[t]) return false;
        k++;
    }
    return k == n_labels;
}

/* The labels' probability, and each class's share of it at each step. */
static double all_paths(const float *x, size_t len, int32_t blank, const int32_t *label, size_t n_labels, double share[LEN][CLASSES])
{
    size_t n_paths = 1;
    double total = 0;
    for (size_t t = 0; t < len; t++) n_paths *= CLASSES;
    memset(share, 0, sizeof(double[LEN][CLASSES]));
    for (size_t i = 0; i < n_paths; i++) {
        int32_t path[LEN];
        double p = 1;
        for (size_t t = 0, rest = i; t < len; t++, rest /= CLASSES) {
            double sum = 0;
            path[t] = (int32_t)(rest % CLASSES);
            for (size_t c = 0; c < CLASSES; c++) sum += exp((double)x[t * CLASSES + c]);
            p *= exp((double)x[t * CLASSES + (size_t)path[t]]) / sum;
        }
        if (!says(path, len, blank, label, n_labels)) continue;
        total += p;
        for (size_t t = 0; t < len; t++) share[t][path[t]] += p;
    }
    return total;
}

/* Every sequence of up to three labels over every number of steps. */
static void test_values(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    size_t n_possible = 0, n_impossible = 0;
    for (int32_t blank = 0; blank < CLASSES; blank++)
        for (int32_t len = 0; len <= LEN; len++)
            for (int32_t which = 0; which < 15; which++) { /* none; 2 of one; 4 of two; 8 of three */
                int32_t n_labels = which == 0 ? 0 : which < 3 ? 1 : which < 7 ? 2 : 3, label[3], bits = which - ((1 << n_labels) - 1);
                for (int k = 0; k < 3; k++) label[k] = (blank + 1 + (bits >> k & 1)) % CLASSES;
                pith_tape_step(tape, 1);
                pith_var *x = pith_tape_fill(tape, 0, PITH_DIMS(1, LEN, CLASSES)), *gx;
                fill_random(x->data, x->count, (uint64_t)which, 0, 0);
                x->needs_grad = true;
                double share[LEN][CLASSES], p = all_paths(x->data, (size_t)len, blank, label, (size_t)n_labels, share);
                pith_var *loss = pith_var_ctc(x, label, 3, &(pith_ctc){.blank = blank, .n_steps = &len, .n_labels = &n_labels});
                if (!(p > 0)) {
                    assert_null(loss);
                    assert_int_equal(pith_tape_status(tape), PITH_E_ARGUMENT);
                    n_impossible++;
                    continue;
                }
                n_possible++;
                assert_non_null(loss);
                if (!(fabs((double)loss->data[0] + log(p)) <= 1e-5)) fail_msg("%g, not %g", (double)loss->data[0], -log(p));
                assert_ok(ctx, pith_gradients(tape, loss, NULL, &x, 1, 0, &gx));
                for (size_t t = 0; t < LEN; t++) {
                    double sum = 0;
                    for (size_t c = 0; c < CLASSES; c++) sum += exp((double)x->data[t * CLASSES + c]);
                    for (size_t c = 0; c < CLASSES; c++) {
                        double expected = t < (size_t)len ? exp((double)x->data[t * CLASSES + c]) / sum - share[t][c] / p : 0;
                        if (!(fabs((double)gx->data[t * CLASSES + c] - expected) <= 1e-5)) fail_msg("gradient %g, not %g", (double)gx->data[t * CLASSES + c], expected);
                    }
                }
            }
    assert_true(n_possible > 100 && n_impossible > 50);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* A batch is the mean of its sequences; one that cannot be does not count where it is skipped. */
static void test_batch(void **state)
{
    (void)state;
    static const int32_t label[] = {1, 2, 1, 1, 2, 0}, n_labels[] = {2, 2, 1}, n_steps[] = {5, 2, 4};
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    pith_var *x = pith_tape_fill(tape, 0, PITH_DIMS(3, LEN, CLASSES)), *gx;
    fill_random(x->data, x->count, 1, 0, 0);
    x->needs_grad = true;
    double alone[3] = {0};
    for (size_t i = 0; i < 3; i += 2) {
        pith_var *one = pith_var_ctc(pith_var_slice(x, 0, i, 1), label + 2 * i, 2, &(pith_ctc){.n_steps = n_steps + i, .n_labels = n_labels + i});
        assert_non_null(one);
        alone[i] = (double)one->data[0];
    }
    const pith_ctc skip = {.n_steps = n_steps, .n_labels = n_labels, .skip_impossible = true};
    pith_var *loss = pith_var_ctc(x, label, 2, &skip); /* of the second, 1 1 takes three steps */
    assert_non_null(loss);
    assert_true(fabs((double)loss->data[0] - (alone[0] + alone[2]) / 2) < 1e-6);
    assert_ok(ctx, pith_gradients(tape, loss, NULL, &x, 1, PITH_KEEP_GRAPH, &gx));
    for (size_t i = LEN * CLASSES; i < 2 * LEN * CLASSES; i++) assert_true(gx->data[i] == 0);
    /* none that counts: 0 */
    pith_var *none = pith_var_ctc(pith_var_slice(x, 0, 1, 1), label + 2, 2, &(pith_ctc){.n_steps = n_steps + 1, .skip_impossible = true});
    assert_true(none && none->data[0] == 0);
    static const struct { int32_t label[2], n_labels, n_steps, blank; pith_status status; } wrong[] = {
        {{1, 1}, 2, 2, 0, PITH_E_ARGUMENT}, {{1, 0}, 2, 5, 0, PITH_E_ARGUMENT}, {{1, 3}, 2, 5, 0, PITH_E_ARGUMENT}, {{-1, 1}, 2, 5, 0, PITH_E_ARGUMENT}, {{1, 2}, 3, 5, 0, PITH_E_ARGUMENT},
        {{1, 2}, 2, 6, 0, PITH_E_ARGUMENT}, {{1, 2}, -1, 5, 0, PITH_E_ARGUMENT}, {{1, 2}, 2, 5, 3, PITH_E_SHAPE}, {{1, 2}, 2, 5, -1, PITH_E_SHAPE}, {{1, 2}, 2, 2, 0, PITH_OK}};
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) {
        pith_tape_step(tape, 1);
        x = pith_tape_fill(tape, 0, PITH_DIMS(1, LEN, CLASSES));
        loss = pith_var_ctc(x, wrong[i].label, 2, &(pith_ctc){wrong[i].blank, &wrong[i].n_steps, &wrong[i].n_labels, false});
        assert_int_equal(pith_tape_status(tape), wrong[i].status);
        assert_true((loss != NULL) == (wrong[i].status == PITH_OK));
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* 300 steps of 7 sequences: sums that leave the range of f32 many times over. */
static pith_status compute(pith_tape *tape, float *loss, uint64_t *bits)
{
    enum { N = 7, LONG = 300, LABELS = 40 };
    int32_t label[N * LABELS];
    for (size_t i = 0; i < N * LABELS; i++) label[i] = (int32_t)(1 + i * i % 11);
    pith_tape_step(tape, 1);
    pith_var *x = pith_tape_fill(tape, 0, PITH_DIMS(N, LONG, 12)), *gx;
    if (!x) return pith_tape_status(tape);
    fill_random(x->data, x->count, 3, -4, 4);
    x->needs_grad = true;
    pith_var *y = pith_var_ctc(x, label, LABELS, &(pith_ctc){0});
    if (!y) return pith_tape_status(tape);
    *loss = y->data[0];
    PITH_TRY(pith_gradients(tape, y, NULL, &x, 1, 0, &gx));
    *bits = pith_hash(gx->data, gx->count * sizeof(float));
    return PITH_OK;
}

static void test_same_bits(void **state)
{
    (void)state;
    uint64_t bits[2];
    for (int k = 0; k < 2; k++) {
        pith_ctx *ctx = test_ctx(1 + 2 * k);
        pith_tape *tape;
        float loss;
        assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
        assert_ok(ctx, compute(tape, &loss, &bits[k]));
        assert_true(loss > 200 && loss < 2000);
        pith_tape_free(tape);
        pith_ctx_free(ctx);
    }
    assert_true(bits[0] == bits[1]);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_tape *tape;
    uint64_t bits;
    float loss;
    PITH_TRY(pith_tape_new(ctx, 1, &tape));
    pith_status status = compute(tape, &loss, &bits);
    pith_tape_free(tape);
    return status;
}

static void test_failing_memory(void **state)
{
    (void)state;
    assert_in_range(test_every_fault(life, NULL), 1, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_batch), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_failing_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
