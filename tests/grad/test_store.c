/* Segments kept as bf16: the same result, gradients of rounded values, less memory, and what is not theirs left alone. */
#include "differences.h"
#include "grad/loops.h"

enum { ROWS = 128, WIDTH = 64, LAYERS = 8 };

typedef struct net {
    pith_tape *tape;
    pith_var *x, *w[LAYERS], *b[LAYERS], *h, *inner;
    int layer;
} net;

static pith_status net_new(pith_ctx *ctx, net *n)
{
    *n = (net){0};
    PITH_TRY(pith_tape_new(ctx, 1, &n->tape));
    n->x = pith_tape_param(n->tape, "x", PITH_DIMS(ROWS, WIDTH));
    for (int i = 0; i < LAYERS; i++) {
        n->w[i] = pith_tape_param(n->tape, "w", PITH_DIMS(WIDTH, WIDTH));
        n->b[i] = pith_tape_param(n->tape, "b", PITH_DIMS(WIDTH));
    }
    PITH_TRY(pith_tape_status(n->tape));
    fill_random(n->x->data, n->x->count, 1, 0, 0);
    for (int i = 0; i < LAYERS; i++) {
        fill_random(n->w[i]->data, n->w[i]->count, 2 + (uint64_t)i, -0.15f, 0.15f);
        fill_random(n->b[i]->data, n->b[i]->count, 20 + (uint64_t)i, -0.5f, 0.5f);
    }
    return PITH_OK;
}

/* A residual layer with views, a constant, and random numbers. */
static pith_var *layer(pith_tape *tape, void *user)
{
    net *n = user;
    pith_var *y = pith_var_layer_norm(n->h, NULL, NULL, 1e-5f);
    y = pith_var_gelu(pith_var_linear(y, n->w[n->layer], n->b[n->layer]));
    y = pith_var_reshape(pith_var_tanh(pith_var_reshape(y, PITH_DIMS(ROWS * WIDTH))), PITH_DIMS(ROWS, WIDTH));
    y = pith_var_mul(pith_var_dropout(y, 0.2f), pith_tape_fill(tape, 0.7f, PITH_DIMS(WIDTH)));
    n->inner = y;
    return pith_var_add(n->h, y);
}

static pith_var *two_layers(pith_tape *tape, void *user)
{
    net *n = user;
    for (int i = 0; i < 2; i++, n->layer++) n->h = pith_store_bf16(tape, layer, n);
    return n->h;
}

typedef enum how { PLAIN, STORED, NESTED } how;

static pith_var *loss_of(net *n, how kind)
{
    n->h = n->x;
    for (n->layer = 0; n->layer < LAYERS;) {
        if (kind == NESTED) {
            n->h = pith_store_bf16(n->tape, two_layers, n);
        } else {
            n->h = kind == STORED ? pith_store_bf16(n->tape, layer, n) : layer(n->tape, n);
            n->layer++;
        }
    }
    return pith_var_mean(pith_var_square(n->h), PITH_ALL_AXES);
}

static void test_gradients(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2), *other = test_ctx(3);
    net plain, stored[3];
    assert_ok(ctx, net_new(ctx, &plain));
    pith_tape_step(plain.tape, 1);
    pith_var *loss = loss_of(&plain, PLAIN);
    assert_ok(ctx, pith_backward(plain.tape, loss, 0));
    for (int k = 0; k < 3; k++) { /* the third: as the first, on other threads */
        net *n = &stored[k];
        assert_ok(ctx, net_new(k == 2 ? other : ctx, n));
        for (uint64_t step = 0; step < 2; step++) {
            pith_tape_step(n->tape, 1);
            pith_tape_zero_grad(n->tape);
            pith_var *l = loss_of(n, k == 1 ? NESTED : STORED);
            assert_ok(ctx, pith_tape_status(n->tape));
            assert_true(l->data[0] == loss->data[0]); /* forward nothing is rounded */
            assert_null(n->inner->data);
            assert_ok(ctx, pith_backward(n->tape, l, 0));
        }
        if (!(pith_tape_bytes(n->tape) < pith_tape_bytes(plain.tape) * 3 / 4)) fail_msg("%zu bytes, of %zu without", pith_tape_bytes(n->tape), pith_tape_bytes(plain.tape));
        bool rounded = false;
        for (int i = 0; i < LAYERS; i++) {
            double error = 0, size = 0;
            for (size_t v = 0; v < n->w[i]->count; v++) {
                error += pow((double)(n->w[i]->grad[v] - plain.w[i]->grad[v]), 2);
                size += pow((double)plain.w[i]->grad[v], 2);
                rounded |= n->w[i]->grad[v] != plain.w[i]->grad[v];
            }
            if (!(sqrt(error / size) < 0.01)) fail_msg("layer %d: the gradient is off by %g of its length", i, sqrt(error / size));
        }
        assert_true(rounded);
    }
    for (int i = 0; i < LAYERS; i++) assert_memory_equal(stored[0].w[i]->grad, stored[2].w[i]->grad, WIDTH * WIDTH * sizeof(float));
    for (int k = 0; k < 3; k++) pith_tape_free(stored[k].tape);
    pith_tape_free(plain.tape);
    pith_ctx_free(other);
    pith_ctx_free(ctx);
}

static pith_var *kept(pith_tape *tape, void *user)
{
    (void)tape;
    net *n = user;
    n->inner = pith_var_exp(pith_var_keep(pith_var_tanh(n->x)));
    return pith_var_square(n->inner);
}

static pith_var *same(pith_tape *tape, void *user)
{
    (void)tape;
    return ((net *)user)->x;
}

/* Inner values are not there outside; nothing is packed where nothing is recorded; a segment may give back what it got. */
static void test_inside(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    net n;
    assert_ok(ctx, net_new(ctx, &n));
    pith_tape_step(n.tape, 1);
    pith_var *y = pith_store_bf16(n.tape, kept, &n), *gx, *again;
    assert_true(y->data && !n.inner->data);
    /* of the tanh that was kept exactly, and exp that was not: 2 e^2t (1 - t^2) within a rounding; and its gradient */
    assert_ok(ctx, pith_gradients(n.tape, pith_var_sum(y, PITH_ALL_AXES), NULL, &n.x, 1, PITH_RECORD_PASS, &gx));
    assert_ok(ctx, pith_gradients(n.tape, pith_var_sum(pith_var_keep(gx), PITH_ALL_AXES), NULL, &n.x, 1, 0, &again));
    for (size_t i = 0; i < n.x->count; i++) {
        double t = tanh((double)n.x->data[i]), e = exp(2 * t), s = 1 - t * t;
        assert_true(fabs((double)gx->data[i] - 2 * e * s) <= 0.005 * 2 * e * s + 1e-6);
        assert_true(fabs((double)again->data[i] - 4 * e * s * (s - t)) <= 0.02 * e + 1e-6);
    }
    pith_tape_step(n.tape, 2);
    y = pith_store_bf16(n.tape, kept, &n);
    assert_null(pith_var_square(n.inner));
    assert_int_equal(pith_tape_status(n.tape), PITH_E_ARGUMENT);
    pith_tape_step(n.tape, 3);
    assert_true(pith_store_bf16(n.tape, same, &n) == n.x);
    pith_tape_record(n.tape, false);
    y = pith_store_bf16(n.tape, kept, &n);
    assert_true(y && n.inner->data);
    pith_tape_free(n.tape);
    pith_ctx_free(ctx);
}

/* Each instruction set rounds as the scalar function does. */
static void test_rounding(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0, 0x80000000, 1, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0xffc12345, 0x3f808000, 0x3f818000, 0x3f80ffff};
    pith_ctx *ctx = test_ctx(1);
    const pith_loops *loops = pith_loops_for(pith_ctx_cpu(ctx));
    float x[1000];
    uint16_t y[1000];
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t u = i < PITH_COUNT(odd) ? odd[i] : i * 2654435761u;
        memcpy(&x[i], &u, sizeof u);
    }
    loops->to_bf16(x, y, 1000);
    for (size_t i = 0; i < 1000; i++) {
        uint16_t expected = pith_f32_to_bf16(x[i]);
        if (isnan(x[i])) assert_true(isnan(pith_bf16_to_f32(y[i])));
        else assert_int_equal(y[i], expected);
    }
    pith_ctx_free(ctx);
}

static pith_status one_step(net *n, uint64_t step, how kind)
{
    pith_tape_step(n->tape, step);
    pith_var *loss = loss_of(n, kind);
    pith_status status = loss ? pith_backward(n->tape, loss, 0) : pith_tape_status(n->tape);
    pith_tape_zero_grad(n->tape);
    return status;
}

static pith_status life(pith_ctx *ctx, const void *kind)
{
    net n;
    pith_status status = net_new(ctx, &n);
    for (uint64_t step = 0; step < 2 && status == PITH_OK; step++) status = one_step(&n, step, *(const how *)kind);
    pith_tape_free(n.tape);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    for (how kind = STORED; kind <= NESTED; kind++) {
        assert_in_range(test_every_fault(life, &kind), 1, 500);
        test_faults faults = {0};
        pith_options o = {.n_threads = 1, .log_level = PITH_LOG_ERROR, .realloc = test_faulty_realloc, .realloc_user = &faults};
        pith_ctx *ctx;
        net n;
        assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
        assert_ok(ctx, net_new(ctx, &n));
        assert_ok(ctx, one_step(&n, 0, kind));
        faults.fail_at = faults.calls + 1; /* the second step allocates nothing */
        assert_ok(ctx, one_step(&n, 1, kind));
        assert_true(faults.calls < faults.fail_at);
        pith_tape_free(n.tape);
        pith_ctx_free(ctx);
        assert_int_equal(faults.held, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_inside), cmocka_unit_test(test_rounding), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
