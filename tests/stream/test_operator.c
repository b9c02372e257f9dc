/* Operators: each type against the plain product, any partition, and what is refused. */
#include <math.h>

#include "stream/weights/operator.h"
#include "format/model_file.h"
#include "test.h"

static float *normals(size_t n, uint64_t stream)
{
    float *x = malloc(n * sizeof *x);
    pith_rng rng = {.seed = 11, .stream = stream};
    for (size_t i = 0; i < n; i++) x[i] = pith_rng_normal(&rng);
    return x;
}

/* A matrix of normal values in a type's bytes. */
static pith_tensor matrix(pith_dtype dtype, size_t rows, size_t cols, uint64_t stream)
{
    size_t bytes;
    assert_true(pith_dtype_bytes(dtype, rows * cols, &bytes));
    float *x = normals(rows * cols, stream);
    void *data = malloc(bytes);
    assert_int_equal(pith_blocks_from_f32(dtype, x, rows * cols, NULL, data), PITH_OK);
    free(x);
    return (pith_tensor){.data = data, .dtype = dtype, .n_dims = 2, .dims = {rows, cols}};
}

/* Distance of y from W x, with the operator's own rows as W, over the size of the products. */
static double product_error(pith_ctx *ctx, const pith_operator *op, const float *x, size_t n, const float *y)
{
    double worst = 0;
    float *row = malloc(op->n_cols * sizeof *row);
    for (size_t r = 0; r < op->n_rows; r++) {
        op->kind->row(op, pith_kernels_get(ctx), r, row);
        for (size_t i = 0; i < n; i++) {
            double sum = 0, size = 0;
            for (size_t c = 0; c < op->n_cols; c++) {
                sum += (double)row[c] * (double)x[i * op->n_cols + c];
                size += (double)row[c] * (double)row[c];
            }
            double error = fabs((double)y[i * op->n_rows + r] - sum) / sqrt(size);
            worst = isnan(error) ? INFINITY : fmax(worst, error);
        }
    }
    free(row);
    return worst;
}

typedef struct form {
    pith_dtype dtype;
    bool exact;
    const char *kind;
    double tolerance;  /* of a product, in lengths of the row; x is normal: 8 bits of 32 normals err by up to 0.5 max/127 each */
} form;

static const form forms[] = {
    {PITH_F32, false, "f32", 2e-5}, {PITH_F16, false, "f16", 2e-5}, {PITH_BF16, false, "bf16", 2e-5},
    {PITH_Q4_0, false, "qmat", 0.04}, {PITH_Q4_1, false, "qmat", 0.04}, {PITH_Q5_0, false, "qmat", 0.04}, {PITH_Q5_1, false, "qmat", 0.04},
    {PITH_Q8_0, false, "qmat", 0.04}, {PITH_Q4_K, false, "qmat", 0.04}, {PITH_Q6_K, false, "qmat", 0.04},
    {PITH_Q4_1, true, "f32", 2e-5}, {PITH_Q6_K, true, "f32", 2e-5},
};

static void test_products(void **state)
{
    (void)state;
    static const size_t rows[] = {1, 16, 37, 200}, tokens[] = {1, 2, 4, 5, 19};
    pith_ctx *ctx = test_ctx(2), *alone = test_ctx(1), *crowd = test_ctx(5);
    for (size_t f = 0; f < PITH_COUNT(forms); f++) {
        for (size_t s = 0; s < PITH_COUNT(rows); s++) {
            size_t cols = pith_dtype_get(forms[f].dtype)->block_len == 256 ? 512 : forms[f].dtype < PITH_Q4_0 || forms[f].dtype == PITH_BF16 ? 97 : 96;
            pith_tensor t = matrix(forms[f].dtype, rows[s], cols, f);
            pith_operator *op;
            assert_ok(ctx, pith_operator_from_tensor(ctx, &t, "w", forms[f].exact, &op));
            assert_string_equal(op->kind->name, forms[f].kind);
            assert_int_equal(op->mapped, !forms[f].exact && strcmp(forms[f].kind, "qmat") != 0);
            assert_true(op->kind->bytes(op) > 0 && op->bits_per_weight > 0);
            for (size_t k = 0; k < PITH_COUNT(tokens); k++) {
                size_t n = tokens[k], count = n * rows[s];
                float *x = normals(n * cols, 100), *y = malloc(count * sizeof *y), *z = malloc(count * sizeof *z);
                pith_ctx *contexts[] = {ctx, alone, crowd};
                for (size_t c = 0; c < 3; c++) {
                    pith_mark mark = pith_arena_mark(pith_scratch(contexts[c]));
                    pith_input in = {.x = x, .n = n, .cols = cols};
                    assert_ok(ctx, pith_operators_apply(contexts[c], (const pith_operator *const[]){op}, 1, &in, (float *const[]){c ? z : y}));
                    pith_arena_reset(pith_scratch(contexts[c]), mark);
                    if (c) assert_memory_equal(y, z, count * sizeof *y);
                }
                double error = product_error(ctx, op, x, n, y);
                if (!(error < forms[f].tolerance))
                    fail_msg("%s%s, %zu rows, %zu tokens: off by %g", pith_dtype_get(forms[f].dtype)->name, forms[f].exact ? " exact" : "", rows[s], n, error);
                free(x), free(y), free(z);
            }
            pith_operator_free(ctx, op);
            free((void *)(uintptr_t)t.data);
        }
    }
    pith_ctx_free(crowd);
    pith_ctx_free(alone);
    pith_ctx_free(ctx);
}

/* Operators of different types and heights on one input give what each gives alone. */
static void test_together(void **state)
{
    (void)state;
    static const form mixed[] = {{PITH_Q4_0, false, "", 0}, {PITH_F16, false, "", 0}, {PITH_Q8_0, false, "", 0}, {PITH_F32, false, "", 0}};
    static const size_t rows[] = {150, 3, 16, 290}, tokens[] = {1, 9};
    pith_ctx *ctx = test_ctx(3);
    const pith_operator *ops[4];
    pith_operator *owned[4];
    pith_tensor t[4];
    for (size_t i = 0; i < 4; i++) {
        t[i] = matrix(mixed[i].dtype, rows[i], 64, i);
        assert_ok(ctx, pith_operator_from_tensor(ctx, &t[i], "w", false, &owned[i]));
        ops[i] = owned[i];
    }
    for (size_t k = 0; k < PITH_COUNT(tokens); k++) {
        size_t n = tokens[k];
        float *x = normals(n * 64, 9), *y[4], *z;
        for (size_t i = 0; i < 4; i++) y[i] = malloc(n * rows[i] * sizeof(float));
        pith_mark mark = pith_arena_mark(pith_scratch(ctx));
        pith_input in = {.x = x, .n = n, .cols = 64};
        assert_ok(ctx, pith_operators_apply(ctx, ops, 4, &in, y));
        assert_true(in.has_q8);
        for (size_t i = 0; i < 4; i++) {
            z = malloc(n * rows[i] * sizeof(float));
            assert_ok(ctx, pith_operators_apply(ctx, &ops[i], 1, &in, &z));
            assert_memory_equal(y[i], z, n * rows[i] * sizeof(float));
            free(z);
            free(y[i]);
        }
        pith_arena_reset(pith_scratch(ctx), mark);
        free(x);
    }
    pith_input narrow = {.x = NULL, .n = 1, .cols = 63};
    assert_int_equal(pith_operators_apply(ctx, ops, 4, &narrow, NULL), PITH_E_SHAPE);
    for (size_t i = 0; i < 4; i++) {
        pith_operator_free(ctx, owned[i]);
        free((void *)(uintptr_t)t[i].data);
    }
    pith_ctx_free(ctx);
}

/* exact keeps the dequantised values to the bit, in f16 where that is possible */
static void test_exact(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    static const pith_dtype types[] = {PITH_Q4_1, PITH_Q8_0, PITH_Q5_K};
    for (size_t k = 0; k < PITH_COUNT(types); k++) {
        pith_tensor t = matrix(types[k], 70, 256, k);
        pith_operator *op;
        assert_ok(ctx, pith_operator_from_tensor(ctx, &t, "w", true, &op));
        float expected[256], row[256];
        for (size_t r = 0; r < 70; r++) {
            assert_int_equal(pith_tensor_rows_f32(&t, r, r + 1, expected), PITH_OK);
            op->kind->row(op, pith_kernels_get(ctx), r, row);
            assert_memory_equal(row, expected, sizeof row);
        }
        pith_operator_free(ctx, op);
        free((void *)(uintptr_t)t.data);
    }
    /* ternary: a scale or nothing; blocks of Q8_0 whose scale is a power of two */
    pith_tensor t = matrix(PITH_Q8_0, 65, 64, 5);
    for (size_t b = 0; b < 65 * 2; b++) pith_put16((uint8_t *)(uintptr_t)t.data + 34 * b, 0x2C00);
    pith_operator *op;
    assert_ok(ctx, pith_operator_from_tensor(ctx, &t, "w", true, &op));
    assert_string_equal(op->kind->name, "f16");
    float expected[64], row[64];
    for (size_t r = 0; r < 65; r++) {
        assert_int_equal(pith_tensor_rows_f32(&t, r, r + 1, expected), PITH_OK);
        op->kind->row(op, pith_kernels_get(ctx), r, row);
        assert_memory_equal(row, expected, sizeof row);
    }
    pith_operator_free(ctx, op);
    free((void *)(uintptr_t)t.data);
    pith_ctx_free(ctx);
}

/* A file may put its values anywhere: odd addresses are copied, and give the same product. */
static void test_misaligned(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const pith_dtype types[] = {PITH_F32, PITH_F16, PITH_Q4_0};
    for (size_t k = 0; k < PITH_COUNT(types); k++) {
        pith_tensor t = matrix(types[k], 20, 32, k), moved = t;
        size_t bytes;
        assert_true(pith_dtype_bytes(types[k], 20 * 32, &bytes));
        uint8_t *data = malloc(bytes + 1);
        memcpy(data + 1, t.data, bytes);
        moved.data = data + 1;
        pith_operator *a, *b;
        assert_ok(ctx, pith_operator_from_tensor(ctx, &t, "w", false, &a));
        assert_ok(ctx, pith_operator_from_tensor(ctx, &moved, "w", false, &b));
        assert_false(b->mapped);
        float *x = normals(7 * 32, 1), y[7 * 20], z[7 * 20];
        pith_mark mark = pith_arena_mark(pith_scratch(ctx));
        pith_input in = {.x = x, .n = 7, .cols = 32};
        float *out[] = {y, z};
        assert_ok(ctx, pith_operators_apply(ctx, (const pith_operator *const[]){a, b}, 2, &in, out));
        assert_memory_equal(y, z, sizeof y);
        pith_arena_reset(pith_scratch(ctx), mark);
        pith_operator_free(ctx, a);
        pith_operator_free(ctx, b);
        free(x), free(data), free((void *)(uintptr_t)t.data);
    }
    pith_ctx_free(ctx);
}

static void test_refused(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    float x[64] = {0};
    pith_operator *op = NULL;
    pith_tensor vector = {.data = x, .dtype = PITH_F32, .n_dims = 1, .dims = {64}}, cube = {.data = x, .dtype = PITH_F32, .n_dims = 3, .dims = {4, 4, 4}};
    pith_tensor empty = {.data = x, .dtype = PITH_F32, .n_dims = 2, .dims = {0, 64}}, huge = {.data = x, .dtype = PITH_F32, .n_dims = 2, .dims = {SIZE_MAX / 8, 64}};
    pith_tensor ragged = {.data = x, .dtype = PITH_Q4_0, .n_dims = 2, .dims = {1, 33}}, unknown = {.data = x, .dtype = (pith_dtype)999, .n_dims = 2, .dims = {1, 32}};
    const pith_tensor *shapes[] = {&vector, &cube, &empty, &huge, &ragged};
    for (size_t i = 0; i < PITH_COUNT(shapes); i++) {
        assert_int_equal(pith_operator_from_tensor(ctx, shapes[i], "the tensor", false, &op), PITH_E_SHAPE);
        assert_non_null(strstr(pith_error(ctx), "the tensor"));
    }
    assert_int_equal(pith_operator_from_tensor(ctx, &unknown, "the tensor", false, &op), PITH_E_UNSUPPORTED);
    assert_null(op);
    pith_operator_free(ctx, NULL);
    pith_ctx_free(ctx);
}

static int n_released;
static void count_release(pith_ctx *ctx, void *owner)
{
    (void)ctx;
    n_released += *(int *)owner;
}

static void test_owner_is_released(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    float x[64] = {0};
    int token = 1;
    pith_tensor t = {.data = x, .dtype = PITH_F32, .n_dims = 2, .dims = {2, 32}};
    pith_operator *op;
    assert_ok(ctx, pith_operator_from_tensor(ctx, &t, "w", false, &op));
    op->owner = &token;
    op->release = count_release;
    n_released = 0;
    pith_operator_free(ctx, op);
    assert_int_equal(n_released, 1);
    pith_ctx_free(ctx);
}

typedef struct made_of {
    const form *form;
    pith_tensor t;
    const float *x;
} made_of;

static pith_status make_and_apply(pith_ctx *ctx, const void *user)
{
    const made_of *m = user;
    float y[9 * 40], *out = y;
    pith_operator *op;
    pith_input in = {.x = m->x, .n = 9, .cols = 256};
    PITH_TRY(pith_operator_from_tensor(ctx, &m->t, "w", m->form->exact, &op));
    pith_mark mark = pith_arena_mark(pith_scratch(ctx)); /* the input's other forms are kept there */
    pith_status status = pith_operators_apply(ctx, (const pith_operator *const[]){op}, 1, &in, &out);
    pith_arena_reset(pith_scratch(ctx), mark);
    pith_operator_free(ctx, op);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    static const form some[] = {{PITH_F32, false, "", 0}, {PITH_Q4_0, false, "", 0}, {PITH_Q4_K, false, "", 0}, {PITH_Q4_K, true, "", 0}};
    float *x = normals(9 * 256, 1);
    for (size_t k = 0; k < PITH_COUNT(some); k++) {
        made_of m = {&some[k], matrix(some[k].dtype, 40, 256, k), x};
        assert_in_range(test_every_fault_with(make_and_apply, &m, &(test_fault_options){.n_threads = 2}), 1, 100);
        free((void *)(uintptr_t)m.t.data);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_together), cmocka_unit_test(test_exact), cmocka_unit_test(test_misaligned),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_owner_is_released), cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
