/* Weights of a file: what is there, what is not, and how long the file stays open. */
#include <unistd.h>

#include "files.h"
#include "stream/weights/weights.h"
#include "tiny_model.h"

static char path[] = "/tmp/pith_test_weights_XXXXXX";

static void write_model(pith_ctx *ctx, pith_dtype dtype)
{
    tiny_model t = tiny_model_default();
    t.dtype = dtype;
    assert_ok(ctx, tiny_model_write(ctx, &t, path));
}

/* y = W x for one x */
static void product(pith_ctx *ctx, const pith_operator *op, float *y)
{
    float x[64];
    for (size_t i = 0; i < 64; i++) x[i] = (float)i / 64 - 0.3f;
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    pith_input in = {.x = x, .n = 1, .cols = 64};
    assert_ok(ctx, pith_operators_apply(ctx, &op, 1, &in, &y));
    pith_arena_reset(pith_scratch(ctx), mark);
}

static void test_file(void **state)
{
    (void)state;
    static const struct {
        pith_dtype dtype;
        bool exact;
        const char *kind;
    } cases[] = {{PITH_F32, false, "f32"}, {PITH_F16, false, "f16"}, {PITH_F16, true, "f16"}, {PITH_Q8_0, false, "qmat"}, {PITH_Q8_0, true, "f32"}};
    pith_ctx *ctx = test_ctx(2);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        write_model(ctx, cases[i].dtype);
        size_t before = pith_memory_used(ctx);
        pith_weights_options o = {.exact = cases[i].exact};
        pith_weights *w;
        pith_operator *op, *none = NULL;
        assert_ok(ctx, pith_weights_open(ctx, path, &o, &w));
        assert_int_equal(w->settings.n_layers, 2);
        assert_true(w->vocab->n_tokens > 256 && w->file_bytes > 1000);
        /* embedding, and in each layer q o, k v, three of the feed-forward; norms */
        size_t n = w->vocab->n_tokens * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 256 + 2 * 64) + 64;
        assert_int_equal(w->n_weights, n);
        assert_true(w->has(w, "blk.1.attn_q.weight"));
        assert_false(w->has(w, "blk.2.attn_q.weight"));
        assert_ok(ctx, w->matrix(ctx, w, "blk.1.attn_q.weight", &op));
        assert_string_equal(op->kind->name, cases[i].kind);
        assert_string_equal(op->name, "blk.1.attn_q.weight");
        assert_int_equal(op->n_rows, 64);
        assert_int_equal(w->matrix(ctx, w, "blk.2.attn_q.weight", &none), PITH_E_FORMAT);
        assert_non_null(strstr(pith_error(ctx), "blk.2.attn_q.weight"));
        assert_int_equal(w->matrix(ctx, w, "output_norm.weight", &none), PITH_E_SHAPE);
        float norm[64], y[64], z[64];
        assert_ok(ctx, w->vector(ctx, w, "output_norm.weight", norm, 64));
        assert_true(norm[0] > 0.1f && norm[0] < 10);
        assert_int_equal(w->vector(ctx, w, "output_norm.weight", norm, 63), PITH_E_SHAPE);
        assert_int_equal(w->vector(ctx, w, "nothing", norm, 64), PITH_E_FORMAT);
        product(ctx, op, y);
        pith_weights_free(ctx, w);
        product(ctx, op, z); /* a mapped file is still there */
        assert_memory_equal(y, z, sizeof y);
        pith_operator_free(ctx, op);
        assert_true(pith_memory_used(ctx) < before + 1000000); /* the scratch arena stays */
    }
    pith_ctx_free(ctx);
}

static void test_refused(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_weights *w = NULL;
    assert_int_not_equal(pith_weights_open(ctx, "/nowhere/model.gguf", NULL, &w), PITH_OK);
    assert_non_null(strstr(pith_error(ctx), "/nowhere/model.gguf"));
    test_write_text(path, "neither this nor that");
    assert_int_not_equal(pith_weights_open(ctx, path, NULL, &w), PITH_OK);
    assert_null(w);
    pith_weights_free(ctx, NULL);
    pith_ctx_free(ctx);
}

static pith_status open_and_take(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_weights *w;
    pith_operator *op = NULL;
    PITH_TRY(pith_weights_open(ctx, path, NULL, &w));
    pith_status status = w->matrix(ctx, w, "blk.0.ffn_down.weight", &op);
    pith_weights_free(ctx, w);
    pith_operator_free(ctx, op);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    static const pith_dtype types[] = {PITH_F16, PITH_Q8_0};
    for (size_t k = 0; k < PITH_COUNT(types); k++) {
        pith_ctx *ctx = test_ctx(1);
        write_model(ctx, types[k]);
        pith_ctx_free(ctx);
        assert_in_range(test_every_fault(open_and_take, NULL), 5, 1000);
    }
}

static int begin(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int end(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_file), cmocka_unit_test(test_refused), cmocka_unit_test(test_faults_everywhere)};
    return cmocka_run_group_tests(tests, begin, end);
}
