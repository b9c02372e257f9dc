/* Products with weights of every form on a tape: values and gradients beside the dense matrix of the same sum, second
 * derivatives, threads, what is refused. */
#include "../grad/differences.h"
#include "format/model_file.h"
#include "stream/weights/trained.h"

enum { ROWS = 20, COLS = 96, RANK = 3, N_SPARSE = 50, N_CODES = 7, RUN = 4, TOKENS = 5 };

/* What a test builds once: a stored matrix, indices, and the dense form of all that is fixed. */
typedef struct bed {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_operator *stored;
    uint8_t bytes[ROWS * COLS * 4];
    int32_t place[N_SPARSE], code[ROWS * COLS / RUN];
    pith_var *x, *dense, *left, *right, *sparse, *codebook;
} bed;

static pith_var *param(bed *b, const char *name, uint64_t stream, int n_dims, const size_t *dims)
{
    pith_var *v = pith_tape_param(b->tape, name, n_dims, dims);
    if (v) fill_random(v->data, v->count, stream, 0, 0);
    return v;
}

static pith_status bed_open(bed *b, pith_ctx *ctx, pith_dtype dtype)
{
    float w[ROWS * COLS];
    *b = (bed){.ctx = ctx};
    fill_random(w, ROWS * COLS, 1, 0, 0);
    PITH_TRY(pith_blocks_from_f32(dtype, w, ROWS * COLS, NULL, b->bytes));
    pith_tensor t = {.data = b->bytes, .dtype = dtype, .n_dims = 2, .dims = {ROWS, COLS}};
    PITH_TRY(pith_operator_from_tensor(ctx, &t, "w", false, &b->stored));
    PITH_TRY(pith_tape_new(ctx, 1, &b->tape));
    b->x = param(b, "x", 2, PITH_DIMS(2, TOKENS, COLS));
    b->dense = param(b, "dense", 3, PITH_DIMS(ROWS, COLS));
    b->left = param(b, "left", 4, PITH_DIMS(ROWS, RANK));
    b->right = param(b, "right", 5, PITH_DIMS(RANK, COLS));
    b->sparse = param(b, "sparse", 6, PITH_DIMS(N_SPARSE));
    b->codebook = param(b, "codebook", 7, PITH_DIMS(N_CODES, RUN));
    for (int32_t i = 0; i < N_SPARSE; i++) b->place[i] = i * i * 31 % (ROWS * COLS); /* some twice */
    for (int32_t i = 0; i < ROWS * COLS / RUN; i++) b->code[i] = i * 5 % 11 % N_CODES;
    return pith_tape_status(b->tape);
}

static void bed_close(bed *b)
{
    pith_tape_free(b->tape);
    pith_operator_free(b->ctx, b->stored);
}

/* The parts of a set of bits. */
static pith_weight_parts parts_of(const bed *b, unsigned which)
{
    pith_weight_parts w = {.n_rows = ROWS, .n_cols = COLS};
    if (which & 1) w.stored = b->stored;
    if (which & 2) w.dense = b->dense;
    if (which & 4) w.left = b->left, w.right = b->right;
    if (which & 8) w.sparse = b->sparse, w.place = b->place;
    if (which & 16) w.codebook = b->codebook, w.code = b->code;
    return w;
}

/* The same matrix in double. */
static void dense_of(const bed *b, unsigned which, double *w)
{
    for (size_t r = 0; r < ROWS; r++) {
        float row[COLS];
        b->stored->kind->row(b->stored, pith_kernels_get(b->ctx), r, row);
        for (size_t c = 0; c < COLS; c++) {
            double v = which & 1 ? (double)row[c] : 0;
            if (which & 2) v += (double)b->dense->data[r * COLS + c];
            for (size_t k = 0; which & 4 && k < RANK; k++) v += (double)b->left->data[r * RANK + k] * (double)b->right->data[k * COLS + c];
            for (size_t i = 0; which & 8 && i < N_SPARSE; i++)
                if ((size_t)b->place[i] == r * COLS + c) v += (double)b->sparse->data[i];
            if (which & 16) v += (double)b->codebook->data[b->code[(r * COLS + c) / RUN] * RUN + (int)(c % RUN)];
            w[r * COLS + c] = v;
        }
    }
}

static void test_values(void **state)
{
    (void)state;
    static const pith_dtype types[] = {PITH_F32, PITH_F16, PITH_BF16};
    pith_ctx *ctx = test_ctx(2);
    double *w = malloc(ROWS * COLS * sizeof *w);
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        bed b;
        assert_ok(ctx, bed_open(&b, ctx, types[t]));
        for (unsigned which = 1; which < 32; which++) {
            pith_tape_step(b.tape, which);
            pith_tape_zero_grad(b.tape);
            pith_weight_parts parts = parts_of(&b, which);
            pith_var *y = pith_var_keep(pith_weight_record(&parts, b.x)), *g = pith_tape_fill(b.tape, 0, PITH_DIMS(2, TOKENS, ROWS));
            assert_ok(ctx, pith_tape_status(b.tape));
            fill_random(g->data, g->count, 50, 0, 0);
            assert_ok(ctx, pith_backward(b.tape, pith_var_sum(pith_var_mul(y, g), PITH_ALL_AXES), 0));
            dense_of(&b, which, w);
            double gw[ROWS * COLS] = {0};
            for (size_t i = 0; i < 2 * TOKENS; i++) {
                for (size_t r = 0; r < ROWS; r++) {
                    double sum = 0;
                    for (size_t c = 0; c < COLS; c++) {
                        sum += w[r * COLS + c] * (double)b.x->data[i * COLS + c];
                        gw[r * COLS + c] += (double)g->data[i * ROWS + r] * (double)b.x->data[i * COLS + c];
                    }
                    assert_near((double)y->data[i * ROWS + r], sum, 2e-4);
                }
                for (size_t c = 0; c < COLS; c++) {
                    double sum = 0;
                    for (size_t r = 0; r < ROWS; r++) sum += w[r * COLS + c] * (double)g->data[i * ROWS + r];
                    assert_near((double)b.x->grad[i * COLS + c], sum, 2e-4);
                }
            }
            /* gradients of the factors, from that of the matrix */
            for (size_t i = 0; which & 2 && i < ROWS * COLS; i++) assert_near((double)b.dense->grad[i], gw[i], 1e-4);
            for (size_t i = 0; which & 8 && i < N_SPARSE; i++) assert_near((double)b.sparse->grad[i], gw[b.place[i]], 1e-4);
            for (size_t i = 0; which & 4 && i < ROWS * RANK; i++) {
                double sum = 0;
                for (size_t c = 0; c < COLS; c++) sum += gw[i / RANK * COLS + c] * (double)b.right->data[i % RANK * COLS + c];
                assert_near((double)b.left->grad[i], sum, 1e-3);
            }
            for (size_t i = 0; which & 4 && i < RANK * COLS; i++) {
                double sum = 0;
                for (size_t r = 0; r < ROWS; r++) sum += gw[r * COLS + i % COLS] * (double)b.left->data[r * RANK + i / COLS];
                assert_near((double)b.right->grad[i], sum, 1e-3);
            }
            double gc[N_CODES * RUN] = {0};
            for (size_t i = 0; i < ROWS * COLS; i++) gc[b.code[i / RUN] * RUN + (int)(i % RUN)] += gw[i];
            for (size_t i = 0; which & 16 && i < N_CODES * RUN; i++) assert_near((double)b.codebook->grad[i], gc[i], 2e-3);
        }
        bed_close(&b);
    }
    free(w);
    pith_ctx_free(ctx);
}

/* A packed low-bit matrix rounds what goes in, to 8 bits; its gradient is that of its rows, with low rank beside it as in
 * fine-tuning; and the gradient's gradient by the seed gives the forward product of these rows. */
static void test_low_bit(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    bed b;
    assert_ok(ctx, bed_open(&b, ctx, PITH_Q4_0));
    assert_string_equal(b.stored->kind->name, "qmat");
    double *w = malloc(ROWS * COLS * sizeof *w);
    dense_of(&b, 5, w);
    pith_tape_step(b.tape, 1);
    pith_weight_parts parts = parts_of(&b, 5);
    pith_var *y = pith_weight_record(&parts, b.x), *direction = pith_tape_fill(b.tape, 0, 3, b.x->dims), *jv, *gx, *g = pith_tape_fill(b.tape, 0, PITH_DIMS(2, TOKENS, ROWS));
    assert_ok(ctx, pith_tape_status(b.tape));
    fill_random(direction->data, direction->count, 60, 0, 0);
    fill_random(g->data, g->count, 61, 0, 0);
    assert_ok(ctx, pith_gradients(b.tape, y, g, &b.x, 1, PITH_KEEP_GRAPH, &gx));
    assert_ok(ctx, pith_jvp(b.tape, y, &b.x, &direction, 1, &jv));
    for (size_t i = 0; i < 2 * TOKENS; i++) {
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0, length = 0, forward = 0;
            for (size_t c = 0; c < COLS; c++) {
                sum += w[r * COLS + c] * (double)b.x->data[i * COLS + c];
                forward += w[r * COLS + c] * (double)direction->data[i * COLS + c];
                length += w[r * COLS + c] * w[r * COLS + c];
            }
            assert_near((double)y->data[i * ROWS + r], sum, 0.04 * sqrt(length)); /* eight bits of normal values */
            assert_near((double)jv->data[i * ROWS + r], forward, 2e-4);
        }
        for (size_t c = 0; c < COLS; c++) {
            double sum = 0;
            for (size_t r = 0; r < ROWS; r++) sum += w[r * COLS + c] * (double)g->data[i * ROWS + r];
            assert_near((double)gx->data[i * COLS + c], sum, 2e-4);
        }
    }
    free(w);
    bed_close(&b);
    pith_ctx_free(ctx);
}

static void test_refuses(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    bed b;
    assert_ok(ctx, bed_open(&b, ctx, PITH_F32));
    for (int k = 0; k < 9; k++) {
        pith_tape_step(b.tape, 1);
        pith_weight_parts w = parts_of(&b, k == 0 ? 0 : 31);
        int32_t place[N_SPARSE] = {ROWS * COLS};
        pith_var *x = b.x;
        if (k == 1) w.n_rows--;
        if (k == 2) w.right = NULL;
        if (k == 3) w.right = b.left;
        if (k == 4) w.sparse = b.left;
        if (k == 5) w.place = place;
        if (k == 6) w.codebook = pith_tape_fill(b.tape, 0, PITH_DIMS(N_CODES, 5));
        if (k == 7) w.codebook = pith_tape_fill(b.tape, 0, PITH_DIMS(2, RUN));
        if (k == 8) x = b.left;
        assert_null(pith_weight_record(&w, x));
        assert_int_equal(pith_tape_status(b.tape), k == 0 || k == 5 || k == 7 ? PITH_E_ARGUMENT : PITH_E_SHAPE);
    }
    bed_close(&b);
    pith_ctx_free(ctx);
}

/* All parts, forward and back. */
static pith_status step(bed *b, uint64_t *bits)
{
    pith_weight_parts w = parts_of(b, 31);
    pith_var *const x[] = {b->x, b->left, b->sparse, b->codebook};
    pith_var *gx[4];
    pith_tape_step(b->tape, 1);
    pith_var *y = pith_weight_record(&w, b->x), *loss = y ? pith_var_sum(pith_var_square(y), PITH_ALL_AXES) : NULL;
    if (!loss) return pith_tape_status(b->tape);
    PITH_TRY(pith_gradients(b->tape, loss, NULL, x, 4, PITH_RECORD_PASS, gx));
    for (size_t i = 0; i < 4; i++) *bits = *bits * 31 + pith_hash(gx[i]->data, gx[i]->count * sizeof(float));
    return PITH_OK;
}

static void test_same_bits(void **state)
{
    (void)state;
    uint64_t bits[2] = {0};
    for (int k = 0; k < 2; k++) {
        pith_ctx *ctx = test_ctx(1 + 2 * k);
        bed b;
        assert_ok(ctx, bed_open(&b, ctx, PITH_Q4_0));
        assert_ok(ctx, step(&b, &bits[k]));
        bed_close(&b);
        pith_ctx_free(ctx);
    }
    assert_true(bits[0] == bits[1]);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    bed b;
    uint64_t bits = 0;
    pith_status status = bed_open(&b, ctx, PITH_Q4_0);
    if (status == PITH_OK) status = step(&b, &bits);
    bed_close(&b);
    return status;
}

static void test_failing_memory(void **state)
{
    (void)state;
    assert_in_range(test_every_fault(life, NULL), 1, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_low_bit), cmocka_unit_test(test_refuses), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_failing_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
