/* Sequence readers: about as many parameters as asked for, what each can see, reservoirs that are solved. */
#include "recipe/recurrent/reversal.h"
#include "test.h"

static const char *const kinds[] = {"elman", "jordan", "lstm_1997", "lstm_bias0", "lstm", "lstm_peep", "gru", "bilstm", "stacked", "echo", "window", "mamba2"};
enum { N = 2, LEN = 9, IN = 3, OUT = 2 };

static pith_reader_options options(const char *kind, bool last) { return (pith_reader_options){.kind = kind, .n_in = IN, .n_out = OUT, .last = last, .n_values = 1500, .window = 4, .seed = 1}; }

static void draw(float *x, size_t n)
{
    pith_rng rng = {7, 1, 0};
    for (size_t i = 0; i < n; i++) x[i] = pith_rng_normal(&rng);
}

/* Which steps of the input an output depends on. */
static bool depends(pith_reader *r, pith_tape *tape, size_t out_step, size_t in_step, bool last)
{
    float x[N * LEN * IN], y[2];
    draw(x, PITH_COUNT(x));
    for (int k = 0; k < 2; k++) {
        x[in_step * IN] += (float)k;
        pith_tape_step(tape, 1);
        pith_tape_record(tape, false);
        const pith_var *v = pith_reader_run(r, pith_tape_input(tape, x, PITH_DIMS(N, LEN, IN)), NULL);
        assert_non_null(v);
        assert_int_equal(v->n_dims, last ? 2 : 3);
        assert_int_equal(v->count, last ? N * OUT : N * LEN * OUT);
        y[k] = v->data[last ? 0 : out_step * OUT];
    }
    return y[0] != y[1];
}

static void test_kinds(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    for (size_t i = 0; i < PITH_COUNT(kinds) * 2; i++) {
        const char *kind = kinds[i / 2];
        bool last = i % 2, window = !strcmp(kind, "window");
        pith_reader_options o = options(kind, last);
        pith_tape *tape;
        pith_reader *r;
        assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
        assert_true(pith_reader_known(kind));
        assert_ok(ctx, pith_reader_new(tape, &o, &r));
        size_t n_params, n_values = 0;
        pith_var *const *params = pith_tape_params(tape, &n_params);
        for (size_t k = 0; k < n_params; k++) n_values += params[k]->count;
        assert_int_equal(n_values, pith_reader_n_values(r));
        bool wide = !strcmp(kind, "jordan") || !strcmp(kind, "mamba2"); /* at the widest, and of few widths */
        if (!wide && (n_values < 1350 || n_values > 1650)) fail_msg("%s has %zu parameters, not about 1500", kind, n_values);
        if (!strcmp(kind, "echo")) { /* its read-out is 0 before it is solved */
            float target[N * LEN * OUT];
            draw(target, PITH_COUNT(target));
            float x[N * LEN * IN];
            draw(x, PITH_COUNT(x));
            pith_tape_step(tape, 1);
            pith_tape_record(tape, false);
            assert_ok(ctx, pith_reader_show(r, pith_tape_input(tape, x, PITH_DIMS(N, LEN, IN)), target, NULL));
            assert_ok(ctx, pith_reader_solve(r, 1e-3));
        }
        assert_true(pith_reader_learns(r) == (strcmp(kind, "echo") != 0));
        assert_true(depends(r, tape, 5, 5, last)); /* a window that ends the sequence sees 5..8 */
        assert_true(depends(r, tape, 5, 1, last) == !window);
        if (!last) assert_true(depends(r, tape, 5, 6, last) == !strcmp(kind, "bilstm"));
        pith_reader_free(r);
        pith_tape_free(tape);
    }
    pith_ctx_free(ctx);
}

/* A window with both sides; what cannot be. */
static void test_options(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_reader *r;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_reader_options o = options("window", false);
    o.window = 5;
    o.centred = true;
    assert_ok(ctx, pith_reader_new(tape, &o, &r));
    for (size_t t = 0; t < LEN; t++) assert_true(depends(r, tape, 4, t, false) == (t >= 2 && t <= 6));
    pith_reader_free(r);
    o.last = true;
    assert_int_equal(pith_reader_new(tape, &o, &r), PITH_E_ARGUMENT);
    o = options("gated", false);
    assert_int_equal(pith_reader_new(tape, &o, &r), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "'gated'"));
    o = options("jordan", false);
    o.n_out = 0;
    assert_int_equal(pith_reader_new(tape, &o, &r), PITH_E_ARGUMENT);
    o = options("lstm", true);
    o.n_out = 0; /* its state */
    assert_ok(ctx, pith_reader_new(tape, &o, &r));
    float x[N * LEN * IN];
    draw(x, PITH_COUNT(x));
    pith_tape_step(tape, 1);
    const pith_var *v = pith_reader_run(r, pith_tape_input(tape, x, PITH_DIMS(N, LEN, IN)), NULL);
    assert_non_null(v);
    assert_int_equal(v->dims[1], pith_reader_width(r));
    pith_reader_free(r);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Its state carried on, a sequence in two parts is one. */
static void test_state(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    float x[LEN * IN], carried[4096] = {0};
    draw(x, PITH_COUNT(x));
    for (size_t i = 0; i < PITH_COUNT(kinds); i++) {
        if (!strstr("elman lstm_1997 lstm_peep gru stacked", kinds[i])) continue;
        pith_tape *tape;
        pith_reader *r;
        pith_reader_options o = options(kinds[i], true);
        assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
        assert_ok(ctx, pith_reader_new(tape, &o, &r));
        assert_true(pith_reader_state(r, 1) <= PITH_COUNT(carried));
        memset(carried, 0, sizeof carried);
        pith_tape_step(tape, 1);
        pith_var *all = pith_tape_input(tape, x, PITH_DIMS(1, LEN, IN)), *whole = pith_reader_run(r, all, NULL);
        assert_non_null(pith_reader_run(r, pith_var_slice(all, 1, 0, 5), carried));
        pith_var *part = pith_reader_run(r, pith_var_slice(all, 1, 5, LEN - 5), carried);
        assert_non_null(part);
        assert_memory_equal(whole->data, part->data, OUT * sizeof(float));
        pith_reader_free(r);
        pith_tape_free(tape);
    }
    pith_ctx_free(ctx);
}

/* ---- reversal ---------------------------------------------------------------------------------- */

/* Three sequences, learned by heart: what is fed, asked and replied lies where it should, by two networks and by one. */
static void test_reversal(void **state)
{
    (void)state;
    enum { ROWS = 3, TOKENS = 21, A = 1, B = 2, C = 3, MARK = 27 };
    static const int32_t tokens[ROWS * TOKENS] = {
        [0] = A, B, MARK, B, A,
        [TOKENS] = C, A, A, B, MARK, B, A, A, C,
        [2 * TOKENS] = A, B, C, A, C, B, B, C, A, A, MARK, A, A, C, B, B, C, A, C, B, A,
    };
    static const struct { const char *kind; bool own; double least; } ways[] = {{"gru", false, 1}, {"gru", true, 0.8}, {"mamba2", false, 1}};
    pith_ctx *ctx = test_ctx(1);
    for (size_t k = 0; k < PITH_COUNT(ways); k++) {
        pith_tape *tape;
        pith_reversal r;
        pith_optimizer *optimizer;
        int32_t reply[ROWS * PITH_REPLY];
        pith_bleu sum = {0};
        assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
        assert_ok(ctx, pith_reversal_new(tape, ways[k].kind, 4000, 6000, 1, &r));
        assert_true((r.decoder == NULL) == !strcmp(ways[k].kind, "mamba2"));
        assert_ok(ctx, pith_optimizer_new(tape, &(pith_optimizer_options){.kind = PITH_ADAMW, .clip_norm = 1}, &optimizer));
        for (uint64_t step = 0; step < 300; step++) {
            pith_tape_step(tape, step);
            assert_ok(ctx, pith_backward(tape, pith_reversal_loss(&r, tokens, ROWS, TOKENS, ways[k].own), 0));
            assert_ok(ctx, pith_optimizer_step(optimizer, 0.01f));
        }
        pith_tape_step(tape, 0);
        pith_tape_record(tape, false);
        assert_ok(ctx, pith_reversal_reply(&r, tokens, ROWS, TOKENS, reply));
        pith_reversal_score(tokens, ROWS, TOKENS, reply, &sum);
        if (pith_bleu_score(&sum, 4) < ways[k].least) fail_msg("%s (%d) replies with a BLEU of %g", ways[k].kind, ways[k].own, pith_bleu_score(&sum, 4));
        pith_optimizer_free(optimizer);
        pith_reversal_free(&r);
        pith_tape_free(tape);
    }
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    const char *name = user;
    float x[N * LEN * IN], target[N * OUT];
    draw(x, PITH_COUNT(x));
    draw(target, PITH_COUNT(target));
    pith_tape *tape;
    pith_reader *r = NULL;
    pith_reader_options o = options(name, true);
    pith_status status;
    PITH_TRY(pith_tape_new(ctx, 3, &tape));
    PITH_GOTO(pith_reader_new(tape, &o, &r), done);
    pith_tape_step(tape, 1);
    pith_tape_record(tape, false);
    pith_var *in = pith_tape_input(tape, x, PITH_DIMS(N, LEN, IN));
    PITH_GOTO(pith_tape_status(tape), done);
    if (strcmp(name, "echo") == 0) {
        PITH_GOTO(pith_reader_show(r, in, target, NULL), done);
        PITH_GOTO(pith_reader_solve(r, 0.1), done);
    }
    pith_reader_run(r, in, NULL);
    status = pith_tape_status(tape);
done:
    pith_reader_free(r);
    pith_tape_free(tape);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    static const char *const some[] = {"echo", "mamba2"};
    for (size_t k = 0; k < PITH_COUNT(some); k++) test_every_fault_with(life, some[k], &(test_fault_options){.name = some[k], .sparse = 10});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds), cmocka_unit_test(test_options), cmocka_unit_test(test_state), cmocka_unit_test(test_reversal), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
