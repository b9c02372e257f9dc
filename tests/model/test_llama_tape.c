/* The llama on a tape against itself on buffers, and its gradients against its plain double. */
#include "tiny.h"

#include "model/llama_tape.h"

#define TEXTS 2
#define LEN 19
#define VOCAB 130

typedef struct fixture {
    pith_ctx *ctx;
    tiny *t;
    pith_llama *m;
    pith_tape *tape;
    int32_t ids[TEXTS * LEN], next[TEXTS * LEN];
} fixture;

static fixture fixture_new(int n_threads, const pith_settings *s, tiny_form form, bool biases, bool tied)
{
    fixture f = {.ctx = test_ctx(n_threads), .t = tiny_new(s, form, biases, tied)};
    assert_ok(f.ctx, pith_llama_new(f.ctx, &f.t->w, &f.m));
    assert_ok(f.ctx, pith_tape_new(f.ctx, 1, &f.tape));
    tiny_ids(f.ids, TEXTS * LEN, s->n_vocab, 11);
    tiny_ids(f.next, TEXTS * LEN, s->n_vocab, 12);
    return f;
}

static void fixture_free(fixture *f)
{
    pith_llama_free(f->ctx, f->m);
    pith_tape_free(f->tape);
    tiny_free(f->t);
    pith_ctx_free(f->ctx);
}

static pith_var *loss_of(fixture *f, bool checkpoint)
{
    pith_tape_step(f->tape, 0);
    return pith_var_cross_entropy(pith_llama_record(f->tape, f->m, f->ids, TEXTS, LEN, checkpoint), f->next);
}

static pith_var *param(const fixture *f, const char *name)
{
    size_t n;
    pith_var *const *params = pith_tape_params(f->tape, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(params[i]->name, name) == 0) return params[i];
    return NULL;
}

/* root mean square of b - a over that of a */
static double distance(const float *a, const float *b, size_t n)
{
    double error = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        sum += (double)a[i] * (double)a[i];
    }
    return isnan(error) ? INFINITY : sqrt(error / sum);
}

/* The last text's logits, by running. */
static void run_last(fixture *f, float *logits)
{
    pith_cache *cache;
    assert_ok(f->ctx, pith_llama_cache(f->ctx, f->m, PITH_CACHE_F32, LEN, &cache));
    assert_ok(f->ctx, pith_llama_forward(f->ctx, f->m, cache, f->ids + (TEXTS - 1) * LEN, LEN, LEN, logits));
    pith_cache_free(f->ctx, cache);
}

/* ---- forward ---------------------------------------------------------------------------------- */

static void as_is(pith_settings *s) { (void)s; }
static void halves(pith_settings *s) { s->rope_style = PITH_ROPE_HALVES; }
static void partial(pith_settings *s) { s->rope_dims = 8; }
static void unrotated(pith_settings *s) { s->rope_dims = 0; }
static void yarn(pith_settings *s) { s->rope_scaling = PITH_ROPE_YARN, s->rope_factor = 4, s->rope_original_ctx = 512, s->rope_base = 500; }
static void window(pith_settings *s) { s->sliding_window = 7; }
static void odd(pith_settings *s) { s->n_embd = 68, s->n_ff = 101, s->head_dim = 6, s->rope_dims = 6, s->n_vocab = 37, s->n_layers = 3; }

static void test_forward(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*change)(pith_settings *s);
        tiny_form form;
        bool biases, tied, train;
    } cases[] = {
        {"fixed", as_is, TINY_F32, false, true, false}, {"trained", as_is, TINY_F32, false, true, true},
        {"untied", as_is, TINY_F32, false, false, true}, {"biases", halves, TINY_F32, true, true, true},
        {"fixed biases", halves, TINY_F16, true, false, false}, {"partial", partial, TINY_F32, false, true, true},
        {"unrotated", unrotated, TINY_F32, false, true, true}, {"yarn", yarn, TINY_F32, false, true, true},
        {"window", window, TINY_F32, false, true, true}, {"odd", odd, TINY_F32, true, true, true},
        {"low-bit", as_is, TINY_QMAT, false, true, false}, {"of low-bit", as_is, TINY_QMAT, false, true, true},
    };
    static float ran[LEN * VOCAB], after[LEN * VOCAB];
    for (size_t k = 0; k < PITH_COUNT(cases); k++) {
        pith_settings s = tiny_settings();
        cases[k].change(&s);
        fixture f = fixture_new(2, &s, cases[k].form, cases[k].biases, cases[k].tied);
        run_last(&f, ran);
        if (cases[k].train) assert_ok(f.ctx, pith_llama_train(f.ctx, f.m, f.tape, NULL));
        pith_tape_step(f.tape, 0);
        pith_var *logits = pith_llama_record(f.tape, f.m, f.ids, TEXTS, LEN, false);
        assert_ok(f.ctx, pith_tape_status(f.tape));
        assert_int_equal(logits->count, TEXTS * LEN * s.n_vocab);
        run_last(&f, after);
        /* low-bit operators round their inputs, trained ones do not */
        bool rounds = cases[k].form == TINY_QMAT, differs = rounds && cases[k].train;
        double d = distance(after, logits->data + (TEXTS - 1) * LEN * s.n_vocab, LEN * s.n_vocab), moved = distance(ran, after, LEN * s.n_vocab);
        /* a value that is nearly between two steps of 8 bits may fall to either side */
        if (!(d < (rounds && !differs ? 5e-3 : 3e-6))) fail_msg("%s: the tape's logits are %g from those run", cases[k].name, d);
        if (!(moved < (differs ? 3e-2 : 1e-6))) fail_msg("%s: to train it moved the logits by %g", cases[k].name, moved);
        fixture_free(&f);
    }
}

/* ---- gradients -------------------------------------------------------------------------------- */

static double plain_loss(fixture *f)
{
    size_t v = f->t->w.settings.n_vocab;
    double *logits = calloc(LEN * v, sizeof *logits), sum = 0;
    for (size_t text = 0; text < TEXTS; text++) {
        tiny_reference(f->t, f->ids + text * LEN, LEN, logits);
        for (size_t i = 0; i < LEN; i++) {
            const double *row = logits + i * v;
            double z = 0;
            for (size_t c = 0; c < v; c++) z += exp(row[c]);
            sum += log(z) - row[f->next[text * LEN + i]];
        }
    }
    free(logits);
    return sum / (TEXTS * LEN);
}

/* The loss in plain double, moved along a random direction in each weight by itself. */
static void test_gradients(void **state)
{
    (void)state;
    pith_settings s = tiny_settings();
    s.n_embd = 48, s.n_ff = 80, s.n_heads = 4, s.head_dim = 12, s.rope_dims = 12, s.sliding_window = 13;
    for (int tied = 0; tied < 2; tied++) {
        s.rope_style = tied ? PITH_ROPE_HALVES : PITH_ROPE_PAIRS;
        fixture f = fixture_new(2, &s, TINY_F32, true, tied);
        assert_ok(f.ctx, pith_llama_train(f.ctx, f.m, f.tape, NULL));
        size_t n;
        pith_tape_params(f.tape, &n);
        assert_int_equal(n, f.t->n);
        pith_var *loss = loss_of(&f, false);
        assert_ok(f.ctx, pith_tape_status(f.tape));
        assert_true(fabs((double)loss->data[0] - plain_loss(&f)) < 1e-5);
        assert_ok(f.ctx, pith_backward(f.tape, loss, 0));
        for (size_t i = 0; i < f.t->n; i++) {
            tiny_tensor *t = &f.t->t[i];
            pith_var *p = param(&f, t->name);
            assert_non_null(p);
            size_t count = t->rows * t->cols;
            float *was = malloc(count * sizeof *was), *along = malloc(count * sizeof *along);
            memcpy(was, t->x, count * sizeof *was);
            pith_rng rng = {.seed = 3, .stream = i};
            double slope = 0, norm = 0, loss_at[2];
            for (size_t k = 0; k < count; k++) {
                along[k] = pith_rng_normal(&rng);
                slope += (double)along[k] * (double)p->grad[k];
                norm += (double)p->grad[k] * (double)p->grad[k];
            }
            for (int side = 0; side < 2; side++) {
                for (size_t k = 0; k < count; k++) t->x[k] = was[k] + (side ? -1e-4f : 1e-4f) * along[k];
                loss_at[side] = plain_loss(&f);
            }
            memcpy(t->x, was, count * sizeof *was);
            double measured = (loss_at[0] - loss_at[1]) / 2e-4;
            if (!(fabs(measured - slope) < 2e-3 * sqrt(norm))) fail_msg("%s: slope %g, measured %g, gradient of length %g", t->name, slope, measured, sqrt(norm));
            free(was), free(along);
        }
        fixture_free(&f);
    }
}

/* All gradients, one after the other; the caller frees. */
static float *gradients(fixture *f, bool checkpoint, size_t *count)
{
    assert_ok(f->ctx, pith_backward(f->tape, loss_of(f, checkpoint), 0));
    size_t n;
    pith_var *const *params = pith_tape_params(f->tape, &n);
    *count = 0;
    for (size_t i = 0; i < n; i++) *count += params[i]->count;
    float *g = malloc(*count * sizeof *g), *at = g;
    for (size_t i = 0; i < n; at += params[i++]->count) {
        assert_non_null(params[i]->grad);
        memcpy(at, params[i]->grad, params[i]->count * sizeof *at);
    }
    pith_tape_zero_grad(f->tape);
    return g;
}

/* Layers computed again, or other numbers of threads: the same bits.  Only the peak of memory differs. */
static void test_same_bits(void **state)
{
    (void)state;
    pith_settings s = tiny_settings();
    s.n_layers = 4;
    float *expected = NULL;
    size_t expected_count = 0, bytes = 0, count;
    for (int k = 0; k < 3; k++) {
        fixture f = fixture_new(k == 2 ? 3 : 1, &s, TINY_F32, false, true);
        assert_ok(f.ctx, pith_llama_train(f.ctx, f.m, f.tape, NULL));
        float *g = gradients(&f, k == 1, &count);
        if (!expected) {
            expected = g;
            expected_count = count;
            bytes = pith_tape_bytes(f.tape);
        } else {
            assert_int_equal(count, expected_count);
            assert_memory_equal(expected, g, count * sizeof *g);
            free(g);
        }
        if (k == 1) assert_true(pith_tape_bytes(f.tape) < bytes);
        fixture_free(&f);
    }
    free(expected);
}

static bool only_first_q(void *user, const char *name) { return (void)user, strcmp(name, "blk.0.attn_q.weight") == 0; }

/* What is fixed passes the gradient on: that of one trained matrix is the same as when all are. */
static void test_fixed(void **state)
{
    (void)state;
    static const struct {
        tiny_form form;
        double tolerance;
    } cases[] = {{TINY_F32, 1e-5}, {TINY_F16, 1e-5}, {TINY_QMAT, 0.06}};
    for (size_t k = 0; k < PITH_COUNT(cases); k++) {
        pith_settings s = tiny_settings();
        s.n_ff = 1100; /* more rows than are made dense at once */
        fixture all = fixture_new(2, &s, cases[k].form, true, false), one = fixture_new(2, &s, cases[k].form, true, false);
        assert_ok(all.ctx, pith_llama_train(all.ctx, all.m, all.tape, NULL));
        assert_ok(one.ctx, pith_llama_train(one.ctx, one.m, one.tape, &(pith_llama_training){.chosen = only_first_q}));
        size_t n, count;
        pith_tape_params(one.tape, &n);
        assert_int_equal(n, 1);
        float *g_all = gradients(&all, false, &count), *g_one = gradients(&one, true, &count);
        free(g_all);
        assert_ok(all.ctx, pith_backward(all.tape, loss_of(&all, false), 0));
        double d = distance(param(&all, "blk.0.attn_q.weight")->grad, g_one, count);
        if (!(d < cases[k].tolerance)) fail_msg("form %d: the gradient through fixed operators is %g off", (int)cases[k].form, d);
        free(g_one);
        fixture_free(&all);
        fixture_free(&one);
    }
}

/* Rounded matrices: the values are those of the rounded network, and so are the gradients. */
static void test_rounded(void **state)
{
    (void)state;
    static const pith_round_groups four = {4, 32};
    static float ran[LEN * VOCAB];
    pith_settings s = tiny_settings();
    fixture rounded = fixture_new(2, &s, TINY_F32, false, true), plain = fixture_new(2, &s, TINY_F32, false, true);
    pith_llama_training o = {.round = pith_round_to_groups, .round_user = &four};
    assert_ok(rounded.ctx, pith_llama_train(rounded.ctx, rounded.m, rounded.tape, &o));
    assert_ok(plain.ctx, pith_llama_train(plain.ctx, plain.m, plain.tape, NULL));
    size_t n, count;
    pith_var *const *params = pith_tape_params(plain.tape, &n);
    for (size_t i = 0; i < n; i++) {
        pith_var *p = params[i];
        if (p->n_dims != 2 || strncmp(p->name, "blk.", 4) != 0) continue;
        pith_round_to_groups(&four, p->data, p->data, p->dims[0], p->dims[1]);
        float top = 0, step = INFINITY;
        for (size_t c = 0; c < 32; c++) top = fmaxf(top, fabsf(p->data[c]));
        for (size_t c = 0; c < 32; c++) step = p->data[c] != 0 ? fminf(step, fabsf(p->data[c])) : step;
        assert_true(step >= top / 7.01f);
    }
    float *a = gradients(&rounded, false, &count), *b = gradients(&plain, false, &count);
    assert_memory_equal(a, b, count * sizeof *a);
    free(a), free(b);
    pith_tape_step(rounded.tape, 1);
    pith_var *logits = pith_llama_record(rounded.tape, rounded.m, rounded.ids, TEXTS, LEN, false);
    run_last(&rounded, ran);
    assert_true(distance(ran, logits->data + (TEXTS - 1) * LEN * VOCAB, LEN * VOCAB) < 3e-6);
    run_last(&plain, ran);
    assert_true(distance(ran, logits->data + (TEXTS - 1) * LEN * VOCAB, LEN * VOCAB) < 3e-6);
    fixture_free(&rounded);
    fixture_free(&plain);
}

/* ---- failures --------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    (void)state;
    pith_settings s = tiny_settings();
    s.n_ctx = LEN;
    fixture f = fixture_new(1, &s, TINY_F32, false, true);
    int32_t more[LEN + 1] = {0};
    pith_tape_step(f.tape, 0);
    assert_null(pith_llama_record(f.tape, f.m, more, 1, LEN + 1, false));
    assert_int_equal(pith_tape_status(f.tape), PITH_E_LIMIT);
    f.ids[3] = VOCAB;
    pith_tape_step(f.tape, 1);
    assert_null(pith_llama_record(f.tape, f.m, f.ids, TEXTS, LEN, true));
    assert_int_equal(pith_tape_status(f.tape), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(f.ctx), "130"));
    /* an operator by itself */
    float x[7] = {0};
    pith_tape_step(f.tape, 2);
    assert_null(pith_operator_record(f.m->layers[0].q, pith_tape_input(f.tape, x, PITH_DIMS(1, 7))));
    assert_int_equal(pith_tape_status(f.tape), PITH_E_SHAPE);
    assert_non_null(strstr(pith_error(f.ctx), "blk.0.attn_q.weight"));
    fixture_free(&f);
}

typedef struct trained {
    tiny *t;
    bool fixed;
} trained;

static pith_status whole_life(pith_ctx *ctx, const void *user)
{
    const trained *what = user;
    int32_t ids[6];
    tiny_ids(ids, 6, VOCAB, 5);
    pith_llama *m = NULL;
    pith_tape *tape = NULL;
    pith_status status;
    PITH_GOTO(pith_tape_new(ctx, 1, &tape), done);
    PITH_GOTO(pith_llama_new(ctx, &what->t->w, &m), done);
    PITH_GOTO(pith_llama_train(ctx, m, tape, &(pith_llama_training){.chosen = what->fixed ? only_first_q : NULL}), done);
    for (uint64_t step = 0; step < 2; step++) {
        pith_tape_step(tape, step);
        pith_var *logits = pith_llama_record(tape, m, ids, 1, 5, step == 1);
        PITH_GOTO(pith_backward(tape, pith_var_cross_entropy(logits, ids + 1), 0), done);
    }
done:
    pith_llama_free(ctx, m);
    pith_tape_free(tape);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    pith_settings s = tiny_settings();
    s.n_layers = 1;
    for (int fixed = 0; fixed < 2; fixed++) {
        trained what = {tiny_new(&s, fixed ? TINY_QMAT : TINY_F16, true, false), fixed};
        assert_in_range(test_every_fault(whole_life, &what), 40, 1000);
        tiny_free(what.t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward), cmocka_unit_test(test_gradients), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_fixed),
        cmocka_unit_test(test_rounded), cmocka_unit_test(test_refusals), cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
