/* The tape itself: passes, memory, errors, threads; and optimizers. */
#include <math.h>

#include "test.h"
#include "grad/grad.h"

static pith_tape *new_tape(pith_ctx *ctx)
{
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 5, &tape));
    return tape;
}

static pith_var *param(pith_tape *tape, const char *name, int n_dims, const size_t *dims, float scale)
{
    pith_var *p = pith_tape_param(tape, name, n_dims, dims);
    pith_rng rng = {.seed = 2, .stream = pith_hash(name, strlen(name))};
    for (size_t i = 0; p && i < p->count; i++) p->data[i] = scale * pith_rng_normal(&rng);
    return p;
}

/* ---- an MLP ----------------------------------------------------------------------------------- */

#define BATCH 48
#define WIDTH 70

typedef struct net {
    pith_tape *tape;
    pith_var *w1, *b1, *w2, *b2, *x;
    pith_optimizer *optimizer;
    bool checkpointed;
    float points[BATCH * 2];
    int32_t labels[BATCH];
} net;

static pith_status net_new(pith_ctx *ctx, net *n, const pith_optimizer_options *o)
{
    PITH_TRY(pith_tape_new(ctx, 5, &n->tape));
    n->w1 = param(n->tape, "w1", PITH_DIMS(WIDTH, 2), 1);
    n->b1 = param(n->tape, "b1", PITH_DIMS(WIDTH), 0.5f);
    n->w2 = param(n->tape, "w2", PITH_DIMS(3, WIDTH), 0.1f);
    n->b2 = param(n->tape, "b2", PITH_DIMS(3), 0);
    PITH_TRY(pith_tape_status(n->tape));
    return pith_optimizer_new(n->tape, o, &n->optimizer);
}

static void net_free(net *n)
{
    pith_optimizer_free(n->optimizer);
    pith_tape_free(n->tape);
}

static pith_var *hidden(pith_tape *tape, void *user)
{
    (void)tape;
    net *n = user;
    return pith_var_dropout(pith_var_gelu(pith_var_linear(n->x, n->w1, n->b1)), 0.05f);
}

/* Which of three rings a point lies in. */
static pith_status net_step(net *n, uint64_t step, float *loss)
{
    pith_rng rng = {.seed = 9, .stream = step};
    for (int i = 0; i < BATCH; i++) {
        float x = 4 * pith_rng_uniform(&rng) - 2, y = 4 * pith_rng_uniform(&rng) - 2;
        n->points[2 * i] = x;
        n->points[2 * i + 1] = y;
        n->labels[i] = x * x + y * y < 0.8f ? 0 : x * x + y * y < 2.2f ? 1 : 2;
    }
    pith_tape_step(n->tape, step);
    n->x = pith_tape_input(n->tape, n->points, PITH_DIMS(BATCH, 2));
    pith_var *h = n->checkpointed ? pith_checkpoint(n->tape, hidden, n) : hidden(n->tape, n);
    pith_var *l = pith_var_cross_entropy(pith_var_linear(h, n->w2, n->b2), n->labels);
    PITH_TRY(pith_backward(n->tape, l, 0));
    *loss = l->data[0];
    return pith_optimizer_step(n->optimizer, 0.02f);
}

static void test_learns(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    static const pith_optimizer_options kinds[] = {
        {.kind = PITH_ADAMW, .weight_decay = 0.001f, .clip_norm = 5, .ema = 0.99f},
        {.kind = PITH_SGD, .momentum = 0.95f, .nesterov = true},
    };
    for (size_t k = 0; k < PITH_COUNT(kinds); k++) {
        net n = {0};
        assert_ok(ctx, net_new(ctx, &n, &kinds[k]));
        float loss, mean = 0, first = 0;
        for (uint64_t step = 0; step < 500; step++) {
            assert_ok(ctx, net_step(&n, step, &loss));
            if (step == 0) first = loss;
            if (step >= 450) mean += loss / 50;
        }
        assert_true(first > 0.8f);
        if (!(mean < 0.2f)) fail_msg("optimizer %zu: loss %g", k, (double)mean);
        assert_int_equal(*pith_optimizer_steps(n.optimizer), 500);
        net_free(&n);
    }
    pith_ctx_free(ctx);
}

static uint64_t train_bits(int n_threads, bool checkpointed)
{
    pith_ctx *ctx = test_ctx(n_threads);
    net n = {.checkpointed = checkpointed};
    assert_ok(ctx, net_new(ctx, &n, &(pith_optimizer_options){.kind = PITH_ADAMW, .clip_norm = 0.5f}));
    float loss;
    for (uint64_t step = 0; step < 20; step++) assert_ok(ctx, net_step(&n, step, &loss));
    uint64_t hash = pith_hash(n.w1->data, n.w1->count * 4) ^ pith_hash(n.w2->data, n.w2->count * 4) * 3 ^ pith_hash(n.b1->data, n.b1->count * 4) * 5;
    net_free(&n);
    pith_ctx_free(ctx);
    return hash;
}

static void test_same_bits(void **state)
{
    (void)state;
    uint64_t one = train_bits(1, false);
    assert_true(one == train_bits(2, false));
    assert_true(one == train_bits(3, false));
    assert_true(one == train_bits(2, true)); /* a checkpoint changes nothing, random numbers included */
    /* nor does the instruction set */
    const char *set = getenv("PITH_CPU");
    char *was = set ? strdup(set) : NULL;
    setenv("PITH_CPU", "scalar", 1);
    assert_true(one == train_bits(2, false));
    if (was) setenv("PITH_CPU", was, 1);
    else unsetenv("PITH_CPU");
    free(was);
}

/* ---- memory ----------------------------------------------------------------------------------- */

static void test_allocates_once(void **state)
{
    (void)state;
    for (int checkpointed = 0; checkpointed < 2; checkpointed++) {
        test_faults faults = {0};
        pith_options o = {.n_threads = 2, .realloc = test_faulty_realloc, .realloc_user = &faults};
        pith_ctx *ctx;
        assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
        net n = {.checkpointed = checkpointed};
        assert_ok(ctx, net_new(ctx, &n, &(pith_optimizer_options){.kind = PITH_ADAMW, .clip_norm = 1}));
        float loss;
        assert_ok(ctx, net_step(&n, 0, &loss));
        long calls = faults.calls;
        size_t bytes = pith_tape_bytes(n.tape);
        for (uint64_t step = 1; step < 5; step++) assert_ok(ctx, net_step(&n, step, &loss));
        assert_int_equal(faults.calls, calls);
        assert_int_equal(pith_tape_bytes(n.tape), bytes);
        net_free(&n);
        pith_ctx_free(ctx);
        assert_int_equal(faults.held, 0);
    }
}

static pith_status life(pith_ctx *ctx, const void *checkpointed)
{
    net n = {.checkpointed = *(const bool *)checkpointed};
    float loss;
    pith_status status = net_new(ctx, &n, &(pith_optimizer_options){.kind = PITH_ADAMW, .ema = 0.9f});
    if (status == PITH_OK) status = net_step(&n, 0, &loss);
    if (status != PITH_OK && n.optimizer) { /* a step later there may be memory again */
        pith_tape_zero_grad(n.tape);
        assert_ok(ctx, net_step(&n, 1, &loss));
    }
    net_free(&n);
    return status;
}

static void test_failing_memory(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) assert_in_range(test_every_fault(life, &(bool){k}), 1, 500);
}

/* ---- passes ----------------------------------------------------------------------------------- */

static void test_uses(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape = new_tape(ctx);
    pith_var *a = pith_tape_param(tape, "a", PITH_DIMS(2)), *b = pith_tape_param(tape, "b", PITH_DIMS(2));
    a->data[0] = 2, a->data[1] = 3, b->data[0] = 5, b->data[1] = 7;
    assert_null(a->grad);
    /* a a b, by a value used three times: gradients 2ab and a a; two passes add up */
    for (int pass = 1; pass <= 2; pass++) {
        pith_tape_step(tape, 0);
        pith_var *s = pith_var_mul(a, b);
        assert_ok(ctx, pith_backward(tape, pith_var_sum(pith_var_mul(s, a), PITH_ALL_AXES), 0));
        assert_true(a->grad[0] == (float)pass * 20 && a->grad[1] == (float)pass * 42 && b->grad[0] == (float)pass * 4 && b->grad[1] == (float)pass * 9);
    }
    /* both get the same gradient, and can change it alone */
    pith_tape_zero_grad(tape);
    pith_tape_step(tape, 0);
    assert_ok(ctx, pith_backward(tape, pith_var_sum(pith_var_add(a, b), PITH_ALL_AXES), 0));
    a->grad[0] = 100;
    assert_true(b->grad[0] == 1 && b->grad != a->grad);
    pith_tape_zero_grad(tape);
    /* views: half of a, twice, as another shape */
    pith_tape_step(tape, 0);
    pith_var *half = pith_var_slice(a, 0, 1, 1), *row = pith_var_reshape(half, PITH_DIMS(1, 1));
    assert_ptr_equal(row->data, a->data + 1);
    assert_ok(ctx, pith_backward(tape, pith_var_mul(row, half), 0));
    assert_true(a->grad[0] == 0 && a->grad[1] == 6);
    pith_tape_zero_grad(tape);
    /* what does not depend on b leaves b without gradient; stop; straight through */
    pith_tape_step(tape, 0);
    pith_var *y = pith_var_add(pith_var_mul(pith_var_stop(a), a), pith_var_stop(b));
    assert_ok(ctx, pith_backward(tape, pith_var_sum(y, PITH_ALL_AXES), 0));
    assert_true(a->grad[0] == 2 && a->grad[1] == 3);
    assert_null(b->grad);
    pith_tape_zero_grad(tape);
    pith_tape_step(tape, 0);
    y = pith_var_straight_through(pith_var_sign(a), pith_var_scale(a, 4));
    assert_true(y->data[0] == 1);
    assert_ok(ctx, pith_backward(tape, pith_var_sum(y, PITH_ALL_AXES), 0));
    assert_true(a->grad[0] == 4 && a->grad[1] == 4);
    pith_tape_zero_grad(tape);
    /* nothing is recorded */
    pith_tape_step(tape, 0);
    assert_true(pith_tape_record(tape, false));
    pith_scope scope = pith_scope_begin(tape);
    y = pith_var_mul(a, b);
    pith_var *gone = pith_var_mul(y, y);
    assert_false(y->needs_grad);
    pith_scope_end(tape, scope, &y, 1);
    assert_true(y->data[1] == 21);
    assert_null(gone->data);
    assert_false(pith_tape_record(tape, true));
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_given_back(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape = new_tape(ctx);
    pith_var *a = param(tape, "a", PITH_DIMS(9), 1);
    pith_tape_step(tape, 0);
    pith_var *e = pith_var_exp(a), *kept = pith_var_keep(pith_var_exp(e)), *loss = pith_var_sum(pith_var_square(kept), PITH_ALL_AXES);
    assert_ok(ctx, pith_backward(tape, loss, PITH_KEEP_GRAPH));
    assert_ok(ctx, pith_backward(tape, loss, 0));
    assert_null(e->data);
    assert_non_null(kept->data);
    assert_non_null(loss->data);
    assert_int_equal(pith_backward(tape, loss, 0), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "PITH_KEEP_GRAPH"));
    pith_tape_step(tape, 1);
    e = pith_var_exp(a);
    assert_ok(ctx, pith_backward(tape, pith_var_sum(e, PITH_ALL_AXES), 0));
    assert_null(pith_var_add(e, e));
    assert_non_null(strstr(pith_error(ctx), "given back"));
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_errors(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape = new_tape(ctx);
    pith_var *a = param(tape, "a", PITH_DIMS(2, 3), 1), *b = param(tape, "b", PITH_DIMS(2, 2), 1);
    pith_tape_step(tape, 0);
    assert_null(pith_var_exp(pith_var_add(a, b)));
    assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    assert_string_equal(pith_error(ctx), "add: [2, 3] and [2, 2] cannot be matched");
    assert_null(pith_var_matmul(a, a, false, false));
    assert_string_equal(pith_error(ctx), "add: [2, 3] and [2, 2] cannot be matched"); /* the first stays */
    assert_int_equal(pith_backward(tape, NULL, 0), PITH_E_SHAPE);
    pith_tape_step(tape, 0);
    assert_ok(ctx, pith_tape_status(tape));
    assert_int_equal(pith_backward(tape, NULL, 0), PITH_E_ARGUMENT);
    assert_int_equal(pith_backward(tape, pith_var_exp(a), 0), PITH_E_ARGUMENT);
    assert_int_equal(pith_backward(tape, pith_tape_fill(tape, 1, 0, NULL), 0), PITH_E_ARGUMENT);
    static const struct { int n; size_t dims[2]; } huge = {2, {(size_t)1 << 39, (size_t)1 << 39}};
    assert_null(pith_tape_fill(tape, 1, huge.n, huge.dims));
    assert_int_equal(pith_tape_status(tape), PITH_E_LIMIT);
    pith_tape_step(tape, 0);
    assert_null(pith_var_reshape(a, PITH_DIMS(7)));
    pith_tape_step(tape, 0);
    assert_null(pith_var_slice(a, 1, 2, 2));
    pith_tape_step(tape, 0);
    assert_null(pith_var_permute(a, (const int[]){0, 0}));
    pith_tape_step(tape, 0);
    assert_null(pith_var_sum(a, PITH_AXIS(2)));
    pith_tape_step(tape, 0);
    assert_null(pith_var_cross_entropy(a, (const int32_t[]){0, 3}));
    assert_int_equal(pith_tape_status(tape), PITH_E_ARGUMENT);
    pith_tape_step(tape, 0);
    assert_null(pith_var_rows(a, (const int32_t[]){-1}, PITH_DIMS(1)));
    pith_tape_step(tape, 0);
    a->data[4] = -1;
    assert_int_equal(pith_backward(tape, pith_var_sum(pith_var_exp(pith_var_log(a)), PITH_ALL_AXES), 0), PITH_E_NONFINITE);
    assert_non_null(strstr(pith_error(ctx), "of the log of shape [2, 3]"));
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* jvp of a small net against two values of it */
static void test_forward_mode(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape = new_tape(ctx);
    pith_var *x[] = {param(tape, "x", PITH_DIMS(3, 4), 1), param(tape, "w", PITH_DIMS(5, 4), 1)}, *v[2], *jv, *y[2];
    float direction[2][20], start[2][20], found[15];
    for (int i = 0; i < 2; i++) {
        memcpy(start[i], x[i]->data, x[i]->count * 4);
        for (size_t k = 0; k < x[i]->count; k++) direction[i][k] = sinf((float)k + (float)i);
    }
    pith_tape_step(tape, 0);
    for (int i = 0; i < 2; i++) v[i] = pith_tape_input(tape, direction[i], x[i]->n_dims, x[i]->dims);
    assert_ok(ctx, pith_jvp(tape, pith_var_softmax(pith_var_gelu(pith_var_linear(x[0], x[1], NULL))), x, v, 2, &jv));
    memcpy(found, jv->data, sizeof found);
    pith_tape_step(tape, 0);
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < 2; i++)
            for (size_t k = 0; k < x[i]->count; k++) x[i]->data[k] = start[i][k] + (side ? 1 : -1) * 0x1p-8f * direction[i][k];
        y[side] = pith_var_softmax(pith_var_gelu(pith_var_linear(x[0], x[1], NULL)));
    }
    for (size_t k = 0; k < 15; k++) assert_true(fabsf(found[k] - (y[1]->data[k] - y[0]->data[k]) * 0x1p7f) < 1e-3f);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* ---- custom operations ------------------------------------------------------------------------ */

static void cube_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    if (pith_op_once(y)) return;
    gx[0] = pith_var_scale(pith_var_mul(gy, pith_var_square(y->in[0])), 3);
}

static void test_custom(void **state)
{
    (void)state;
    static const pith_op cube = {"cube", cube_backward};
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape = new_tape(ctx);
    pith_var *x = pith_tape_param(tape, "x", PITH_DIMS(3)), *gx;
    for (int i = 0; i < 3; i++) x->data[i] = (float)i + 1;
    pith_tape_step(tape, 0);
    pith_var *y = pith_op_value(tape, &cube, &x, 1, x->n_dims, x->dims, 0);
    for (int i = 0; i < 3; i++) y->data[i] = x->data[i] * x->data[i] * x->data[i];
    pith_var *loss = pith_var_sum(y, PITH_ALL_AXES);
    assert_ok(ctx, pith_backward(tape, loss, PITH_KEEP_GRAPH));
    assert_true(x->grad[0] == 3 && x->grad[1] == 12 && x->grad[2] == 27);
    assert_int_equal(pith_gradients(tape, loss, NULL, &x, 1, PITH_RECORD_PASS, &gx), PITH_E_UNSUPPORTED);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* ---- optimizers ------------------------------------------------------------------------------- */

static void test_optimizers(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (int kind = 0; kind < 5; kind++) {
        pith_tape *tape = new_tape(ctx);
        pith_var *p = pith_tape_param(tape, "p", PITH_DIMS(2)), *fixed = pith_tape_param(tape, "fixed", PITH_DIMS(1)), *unused = pith_tape_param(tape, "unused", PITH_DIMS(1));
        p->data[0] = 1, p->data[1] = -2, fixed->data[0] = 3, unused->data[0] = 4;
        pith_optimizer_options o = {.kind = kind < 3 ? PITH_SGD : PITH_ADAMW, .momentum = kind == 1 || kind == 2 ? 0.9f : 0, .nesterov = kind == 2, .weight_decay = 0.1f, .ema = 0.75f, .clip_norm = kind == 4 ? 1 : 0};
        pith_optimizer *opt;
        assert_ok(ctx, pith_optimizer_new(tape, &o, &opt));
        pith_optimizer_group(opt, &fixed, 1, 0, 0);
        double w[2] = {1, -2}, m[2] = {0}, v[2] = {0}, average[2] = {1, -2};
        for (int step = 1; step <= 3; step++) {
            pith_tape_step(tape, (uint64_t)step);
            pith_var *loss = pith_var_sum(pith_var_mul(pith_var_square(p), fixed), PITH_ALL_AXES);
            assert_ok(ctx, pith_backward(tape, loss, 0));
            assert_ok(ctx, pith_optimizer_step(opt, 0.01f));
            double g[3] = {6 * w[0], 6 * w[1], w[0] * w[0] + w[1] * w[1]}, norm = sqrt(g[0] * g[0] + g[1] * g[1] + g[2] * g[2]);
            assert_true(fabs(pith_optimizer_norm(opt) - norm) < 1e-5 * norm);
            for (int i = 0; i < 2; i++) {
                double d = kind == 4 ? g[i] / norm : g[i];
                if (kind < 3) {
                    d += 0.1 * w[i];
                    m[i] = (kind ? 0.9 : 0) * m[i] + d;
                    w[i] -= 0.01 * (kind == 2 ? d + 0.9 * m[i] : m[i]);
                } else {
                    m[i] = 0.9 * m[i] + 0.1 * d;
                    v[i] = 0.999 * v[i] + 0.001 * d * d;
                    w[i] -= 0.01 * (0.1 * w[i] + m[i] / (1 - pow(0.9, step)) / (sqrt(v[i] / (1 - pow(0.999, step))) + 1e-8));
                }
                average[i] += 0.25 * (w[i] - average[i]);
                assert_true(fabs((double)p->data[i] - w[i]) < 2e-5);
                assert_true(fabs((double)pith_optimizer_state(opt, 0, 2, &(size_t){0})[i] - average[i]) < 2e-5);
            }
            assert_true(fixed->data[0] == 3 && unused->data[0] == 4);
            assert_null(p->grad);
        }
        float now = p->data[0];
        pith_optimizer_swap_ema(opt);
        assert_true(fabs((double)p->data[0] - average[0]) < 2e-5);
        pith_optimizer_swap_ema(opt);
        assert_true(p->data[0] == now);
        pith_tape_step(tape, 9);
        assert_ok(ctx, pith_backward(tape, pith_var_sum(p, PITH_ALL_AXES), 0));
        p->grad[1] = NAN;
        assert_int_equal(pith_optimizer_step(opt, 1), PITH_E_NONFINITE);
        assert_non_null(strstr(pith_error(ctx), "gradient of p "));
        assert_true(p->data[0] == now);
        pith_optimizer_free(opt);
        pith_tape_free(tape);
    }
    pith_ctx_free(ctx);
}

static void test_schedules(void **state)
{
    (void)state;
    pith_schedule s = {PITH_RATE_COSINE, 1, 0.1f, 4, 24};
    assert_true(pith_schedule_rate(&s, 0) == 0.25f && pith_schedule_rate(&s, 3) == 1 && pith_schedule_rate(&s, 4) == 1);
    assert_true(fabsf(pith_schedule_rate(&s, 14) - 0.55f) < 1e-6f && pith_schedule_rate(&s, 24) == 0.1f && pith_schedule_rate(&s, 99) == 0.1f);
    s.kind = PITH_RATE_LINEAR;
    assert_true(fabsf(pith_schedule_rate(&s, 9) - 0.775f) < 1e-6f);
    s.kind = PITH_RATE_CONSTANT;
    assert_true(pith_schedule_rate(&s, 99) == 1);
    s.kind = PITH_RATE_ROOT;
    assert_true(pith_schedule_rate(&s, 3) == 1 && pith_schedule_rate(&s, 15) == 0.5f && pith_schedule_rate(&s, 399) == 0.1f);
}

/* ---- random numbers --------------------------------------------------------------------------- */

static void test_random(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape = new_tape(ctx);
    pith_var *(*draw[])(pith_tape *, int, const size_t *) = {pith_tape_uniform, pith_tape_normal, pith_tape_gumbel};
    static const double means[] = {0.5, 0, 0.5772156649}, variances[] = {1 / 12.0, 1, 1.6449340668};
    for (size_t k = 0; k < 3; k++) {
        pith_tape_step(tape, 3);
        pith_var *a = draw[k](tape, PITH_DIMS(40001)), *b = draw[k](tape, PITH_DIMS(40001));
        double mean = 0, variance = 0, product = 0;
        for (size_t i = 0; i < a->count; i++) {
            double d = (double)a->data[i] - means[k];
            mean += d, variance += d * d, product += d * ((double)b->data[i] - means[k]);
        }
        assert_true(fabs(mean / 40001) < 0.03 && fabs(variance / 40001 / variances[k] - 1) < 0.05 && fabs(product / 40001) < 0.03);
        uint64_t bits = pith_hash(a->data, a->count * 4);
        pith_tape_step(tape, 3);
        assert_true(bits == pith_hash(draw[k](tape, PITH_DIMS(40001))->data, 40001 * 4));
        pith_tape_step(tape, 4);
        assert_true(bits != pith_hash(draw[k](tape, PITH_DIMS(40001))->data, 40001 * 4));
    }
    /* a hard choice is one 1, and passes a gradient; gates are within 0..1 and reach both ends as often as they say */
    pith_var *p = param(tape, "p", PITH_DIMS(50, 7), 1), *gates = pith_tape_param(tape, "gates", PITH_DIMS(20000));
    pith_tape_step(tape, 0);
    pith_var *y = pith_var_gumbel_softmax(p, 0.7f, true), *z = pith_var_hard_concrete(gates, 0.66f);
    for (size_t r = 0; r < 50; r++) {
        float sum = 0, max = 0;
        for (size_t i = 0; i < 7; i++) sum += y->data[r * 7 + i], max = fmaxf(max, y->data[r * 7 + i]);
        assert_true(sum == 1 && max == 1);
    }
    double open = 0;
    for (size_t i = 0; i < z->count; i++) {
        assert_true(z->data[i] >= 0 && z->data[i] <= 1);
        open += z->data[i] > 0;
    }
    assert_true(fabs(open / 20000 - (double)pith_var_hard_concrete_open(gates, 0.66f)->data[0]) < 0.02);
    assert_ok(ctx, pith_backward(tape, pith_var_add(pith_var_sum(pith_var_mul(y, pith_tape_normal(tape, 2, y->dims)), PITH_ALL_AXES), pith_var_sum(z, PITH_ALL_AXES)), 0));
    double size = 0;
    for (size_t i = 0; i < p->count; i++) size += fabs((double)p->grad[i]);
    assert_true(size > 1);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* ---- watching --------------------------------------------------------------------------------- */

typedef struct watched {
    pith_var *order[8];
    float first[8];
    size_t n, n_none;
} watched;

static void watch(void *user, pith_var *param, const float *gradient)
{
    watched *w = user;
    w->order[w->n] = param;
    w->first[w->n++] = gradient ? gradient[0] : 0;
    w->n_none += gradient == NULL;
}

static pith_var *squared_by(pith_tape *tape, void *user)
{
    (void)tape;
    pith_var **p = user;
    return pith_var_mul(pith_var_square(p[1]), p[0]);
}

/* Each parameter is told of once, last layers first, with the gradient that it has in the end; what is used twice only
 * after its first use; before a checkpoint is passed nothing is known. */
static void test_watch(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 0, &tape));
    pith_var *p[5];
    for (size_t i = 0; i < 5; i++) {
        p[i] = pith_tape_param(tape, "p", PITH_DIMS(1));
        p[i]->data[0] = (float)i + 2;
    }
    for (uint64_t step = 0; step < 3; step++) {
        bool checkpoint = step == 2;
        watched w = {.n = 0};
        pith_tape_step(tape, step);
        pith_tape_watch(tape, watch, &w);
        pith_var *h = checkpoint ? pith_checkpoint(tape, squared_by, p) : squared_by(tape, p);
        h = pith_var_mul(h, p[2]);
        h = pith_var_mul(h, p[3]);
        h = pith_var_mul(h, p[1]); /* again */
        assert_ok(ctx, pith_backward(tape, pith_var_sum(h, PITH_ALL_AXES), 0));
        pith_tape_watch(tape, NULL, NULL);
        assert_int_equal(w.n, 5);
        assert_int_equal(w.n_none, 1); /* p[4] is in no loss */
        if (!checkpoint) assert_true(w.order[0] == p[3] && w.order[1] == p[2] && w.order[4] == p[4]);
        for (size_t i = 0; i < 4; i++) assert_true(w.order[i]->grad[0] == w.first[i]);
        assert_true(p[3]->grad[0] == 2 * 27 * 4 * (float)(step + 1)); /* p0 p1^3 p2, summed over the passes */
        assert_null(p[4]->grad);
    }
    float *made = pith_tape_own_grad(p[4]);
    assert_true(made && made == p[4]->grad && made[0] == 0);
    assert_true(pith_tape_own_grad(p[3]) == p[3]->grad);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_learns), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_allocates_once), cmocka_unit_test(test_failing_memory),
        cmocka_unit_test(test_uses), cmocka_unit_test(test_given_back), cmocka_unit_test(test_errors), cmocka_unit_test(test_forward_mode),
        cmocka_unit_test(test_custom), cmocka_unit_test(test_optimizers), cmocka_unit_test(test_schedules), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
