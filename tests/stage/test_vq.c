/* Quantizers: the nearest code against a plain search, what moves and what does not, gradients' way, decoding from a
 * seed, and that each kind learns. */
#include "stage/quantize/vq.h"

#include <math.h>

#include "test.h"

enum { N = 96, DIM = 6 };

static void fill_rows(float *z, uint64_t seed)
{
    pith_rng rng = {seed, 9, 0};
    for (size_t i = 0; i < N * DIM; i++) z[i] = pith_rng_normal(&rng);
}

static pith_vq *make(pith_ctx *ctx, pith_vq_kind kind, size_t n_codes, pith_tape **tape)
{
    pith_vq *vq;
    assert_ok(ctx, pith_tape_new(ctx, 3, tape));
    assert_ok(ctx, pith_vq_new(*tape, &(pith_vq_options){.kind = kind, .n_codes = n_codes, .dim = DIM, .seed = 4}, &vq));
    return vq;
}

static void test_nearest(void **state)
{
    (void)state;
    enum { CODES = 2500 }; /* three blocks of the search */
    pith_ctx *ctx = test_ctx(3);
    pith_tape *tape;
    pith_vq *vq = make(ctx, PITH_VQ_PLAIN, CODES, &tape);
    size_t n_params;
    float *codes = pith_tape_params(tape, &n_params)[0]->data, z[N * DIM];
    fill_rows(z, 1);
    pith_rng rng = {2, 2, 0};
    for (size_t i = 0; i < CODES * DIM; i++) codes[i] = pith_rng_normal(&rng);
    memcpy(codes + 2200 * DIM, codes + 40 * DIM, DIM * sizeof *codes);
    memcpy(z, codes + 40 * DIM, DIM * sizeof *z); /* equals two codes: the first is taken */
    pith_vq_result r;
    pith_tape_step(tape, 0);
    assert_ok(ctx, pith_vq_apply(vq, pith_tape_input(tape, z, PITH_DIMS(N, DIM)), &r));
    assert_int_equal(r.code[0], 40);
    for (size_t i = 0; i < N; i++) {
        double best = INFINITY, found = 0;
        for (size_t c = 0; c < CODES; c++) {
            double d = 0;
            for (size_t k = 0; k < DIM; k++) d += pow((double)z[i * DIM + k] - (double)codes[c * DIM + k], 2);
            best = fmin(best, d);
            if (c == (size_t)r.code[i]) found = d;
        }
        assert_true(found <= best + 1e-5);
        assert_memory_equal(r.q->data + i * DIM, codes + (size_t)r.code[i] * DIM, DIM * sizeof *codes);
    }
    pith_vq_free(vq);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* The gradient of sum(q a) by z is a (straight through) plus that of the commitment. */
static void test_straight_through(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_vq *vq = make(ctx, PITH_VQ_LINEAR, 32, &tape);
    float rows[N * DIM], a[N * DIM];
    fill_rows(rows, 1);
    fill_rows(a, 2);
    pith_var *z = pith_tape_param(tape, "z", PITH_DIMS(N, DIM));
    memcpy(z->data, rows, sizeof rows);
    pith_vq_result r;
    pith_tape_step(tape, 0);
    assert_ok(ctx, pith_vq_apply(vq, z, &r));
    float q[N * DIM];
    memcpy(q, r.q->data, sizeof q);
    pith_var *loss = pith_var_add(pith_var_sum(pith_var_mul(r.q, pith_tape_input(tape, a, PITH_DIMS(N, DIM))), PITH_ALL_AXES), r.loss);
    assert_ok(ctx, pith_backward(tape, loss, 0));
    for (size_t i = 0; i < N * DIM; i++) assert_true(fabsf(z->grad[i] - (a[i] + 0.25f * 2 * (rows[i] - q[i]) / (N * DIM))) < 1e-5f);
    pith_vq_free(vq);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* One step moves every code of SimVQ, the chosen ones alone of plain VQ, and none where W is frozen. */
static size_t moved(pith_ctx *ctx, pith_vq_kind kind)
{
    enum { CODES = 200 };
    pith_tape *tape;
    pith_vq *vq = make(ctx, kind, CODES, &tape);
    pith_optimizer *optimizer;
    float z[N * DIM], before[CODES * DIM], after[CODES * DIM];
    int32_t all[CODES];
    fill_rows(z, 1);
    for (int i = 0; i < CODES; i++) all[i] = i;
    size_t n_params;
    pith_var *const *params = pith_tape_params(tape, &n_params);
    bool linear = kind != PITH_VQ_PLAIN;
    pith_vq_result r;
    assert_ok(ctx, pith_optimizer_new(tape, &(pith_optimizer_options){.kind = PITH_SGD}, &optimizer));
    for (int pass = 0; pass < 2; pass++) {
        float *dst = pass ? after : before;
        if (linear) assert_ok(ctx, pith_vq_decode_linear(ctx, 4, CODES, DIM, pith_vq_weight(vq), all, CODES, dst));
        else memcpy(dst, params[0]->data, sizeof before);
        if (pass) break;
        pith_tape_step(tape, 0);
        assert_ok(ctx, pith_vq_apply(vq, pith_tape_input(tape, z, PITH_DIMS(N, DIM)), &r));
        if (n_params) assert_ok(ctx, pith_backward(tape, r.loss, 0));
        if (n_params) assert_ok(ctx, pith_optimizer_step(optimizer, 0.5f));
        assert_ok(ctx, pith_vq_update(vq));
    }
    size_t n = 0;
    for (size_t i = 0; i < CODES; i++) n += memcmp(before + i * DIM, after + i * DIM, DIM * sizeof *before) != 0;
    pith_optimizer_free(optimizer);
    pith_vq_free(vq);
    pith_tape_free(tape);
    return n;
}

static void test_moves(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    assert_int_equal(moved(ctx, PITH_VQ_LINEAR), 200);
    assert_int_equal(moved(ctx, PITH_VQ_FROZEN), 0);
    size_t plain = moved(ctx, PITH_VQ_PLAIN);
    assert_true(plain > 0 && plain <= N);
    pith_ctx_free(ctx);
}

/* What a decoder makes from the seed and W is what the encoder's side had, to the last bit. */
static void test_seed(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    pith_vq *vq = make(ctx, PITH_VQ_LINEAR, 3000, &tape);
    float z[N * DIM], q[N * DIM];
    fill_rows(z, 1);
    pith_vq_result r;
    pith_tape_step(tape, 0);
    assert_ok(ctx, pith_vq_apply(vq, pith_tape_input(tape, z, PITH_DIMS(N, DIM)), &r));
    assert_ok(ctx, pith_vq_decode_linear(ctx, 4, 3000, DIM, pith_vq_weight(vq), r.code, N, q));
    assert_memory_equal(q, r.q->data, sizeof q);
    assert_int_equal(pith_vq_bytes(vq), 8 + DIM * DIM * sizeof(float));
    int32_t bad = 3000;
    assert_int_equal(pith_vq_decode_linear(ctx, 4, 3000, DIM, pith_vq_weight(vq), &bad, 1, q), PITH_E_ARGUMENT);
    pith_vq_free(vq);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Each kind, trained alone to give rows back, comes nearer to them. */
static void test_learns(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t n_codes;
    } kinds[] = {{"plain", 16}, {"reseed", 16}, {"ema", 16}, {"project", 16}, {"simvq", 16}, {"fsq", 256}, {"lfq", 16}};
    for (size_t k = 0; k < PITH_COUNT(kinds); k++) {
        pith_vq_kind kind;
        assert_true(pith_vq_kind_find(kinds[k].name, strlen(kinds[k].name), &kind));
        pith_ctx *ctx = test_ctx(1);
        pith_tape *tape;
        pith_vq *vq = make(ctx, kind, kinds[k].n_codes, &tape);
        float z[N * DIM], first = 0, last = 0;
        fill_rows(z, 7);
        for (size_t i = 0; i < N * DIM; i++) z[i] = z[i] * 0.1f + (float)((i / DIM * 5 + i % DIM) % 4) - 1.5f; /* a few clumps */
        pith_optimizer *optimizer = NULL;
        size_t n_params;
        pith_tape_params(tape, &n_params);
        if (n_params) assert_ok(ctx, pith_optimizer_new(tape, &(pith_optimizer_options){.kind = PITH_ADAMW}, &optimizer));
        assert_ok(ctx, pith_vq_start(vq, z, N));
        for (uint64_t step = 0; step < 150; step++) {
            pith_vq_result r;
            pith_tape_step(tape, step);
            pith_var *x = pith_tape_input(tape, z, PITH_DIMS(N, DIM));
            assert_ok(ctx, pith_vq_apply(vq, x, &r));
            for (size_t i = 0; i < N; i++) assert_true(r.code[i] >= 0 && (size_t)r.code[i] < pith_vq_n_codes(vq));
            pith_var *error = pith_var_mse(r.q, x), *loss = r.loss ? pith_var_add(error, r.loss) : error;
            last = error->data[0];
            if (!step) first = last;
            if (loss->needs_grad) {
                assert_ok(ctx, pith_backward(tape, loss, 0));
                assert_ok(ctx, pith_optimizer_step(optimizer, 0.02f));
            }
            assert_ok(ctx, pith_vq_update(vq));
        }
        bool from_kmeans = kind == PITH_VQ_RESEED;
        if (!(last < (from_kmeans ? first + 1e-6f : 0.8f * first))) fail_msg("%s: %g after %g", kinds[k].name, (double)last, (double)first);
        pith_optimizer_free(optimizer);
        pith_vq_free(vq);
        pith_tape_free(tape);
        pith_ctx_free(ctx);
    }
}

/* k-means starts near; codes that nobody chose begin anew at rows. */
static void test_reseed(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_vq *vq = make(ctx, PITH_VQ_RESEED, 8, &tape);
    size_t n_params;
    float *codes = pith_tape_params(tape, &n_params)[0]->data, z[N * DIM];
    fill_rows(z, 1);
    assert_int_equal(pith_vq_start(vq, z, 7), PITH_E_ARGUMENT);
    for (size_t i = 0; i < 8 * DIM; i++) codes[i] = i < DIM ? 0 : 1000; /* all rows choose the first */
    for (uint64_t step = 0; step < 100; step++) {
        pith_vq_result r;
        pith_tape_step(tape, step);
        assert_ok(ctx, pith_vq_apply(vq, pith_tape_input(tape, z, PITH_DIMS(N, DIM)), &r));
        assert_ok(ctx, pith_vq_update(vq));
        assert_true(codes[DIM] == 1000 || step == 99);
    }
    for (size_t c = 1; c < 8; c++) {
        bool is_row = false;
        for (size_t i = 0; i < N && !is_row; i++) is_row = !memcmp(codes + c * DIM, z + i * DIM, DIM * sizeof *z);
        assert_true(is_row);
    }
    pith_vq_free(vq);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_errors(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_vq *vq;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    assert_int_equal(pith_vq_new(tape, &(pith_vq_options){.n_codes = 0, .dim = 3}, &vq), PITH_E_ARGUMENT);
    assert_int_equal(pith_vq_new(tape, &(pith_vq_options){.kind = PITH_VQ_FSQ, .n_codes = 100, .dim = 3}, &vq), PITH_E_ARGUMENT);
    assert_int_equal(pith_vq_new(tape, &(pith_vq_options){.kind = PITH_VQ_LFQ, .n_codes = 100, .dim = 3}, &vq), PITH_E_ARGUMENT);
    assert_ok(ctx, pith_vq_new(tape, &(pith_vq_options){.n_codes = 4, .dim = 3}, &vq));
    pith_vq_result r;
    pith_tape_step(tape, 0);
    assert_int_equal(pith_vq_apply(vq, pith_tape_fill(tape, 0, PITH_DIMS(2, 4)), &r), PITH_E_SHAPE);
    assert_non_null(strstr(pith_error(ctx), "[2, 4]"));
    pith_vq_free(vq);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *kind)
{
    float z[N * DIM];
    fill_rows(z, 1);
    pith_tape *tape;
    pith_vq *vq = NULL;
    pith_vq_result r;
    pith_status status;
    PITH_TRY(pith_tape_new(ctx, 1, &tape));
    PITH_GOTO(pith_vq_new(tape, &(pith_vq_options){.kind = *(const pith_vq_kind *)kind, .n_codes = 8, .dim = DIM}, &vq), done);
    PITH_GOTO(pith_vq_start(vq, z, N), done);
    pith_tape_step(tape, 0);
    PITH_GOTO(pith_vq_apply(vq, pith_tape_input(tape, z, PITH_DIMS(N, DIM)), &r), done);
    PITH_GOTO(pith_vq_update(vq), done);
done:
    pith_vq_free(vq);
    pith_tape_free(tape);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    static const pith_vq_kind kinds[] = {PITH_VQ_PLAIN, PITH_VQ_RESEED, PITH_VQ_EMA, PITH_VQ_LINEAR, PITH_VQ_FROZEN, PITH_VQ_LFQ};
    for (size_t k = 0; k < PITH_COUNT(kinds); k++) test_every_fault(life, &kinds[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_straight_through), cmocka_unit_test(test_moves),
        cmocka_unit_test(test_seed), cmocka_unit_test(test_learns), cmocka_unit_test(test_reseed),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
