/* Batches are functions of the step; augmentation and normalisation do what they say. */
#include "test.h"

#include <math.h>

#include "data/data.h"

enum { N = 10, SIDE = 6, PIXELS = 3 * SIDE * SIDE };

/* Ten images of a data set whose pixel p of item i is known. */
typedef struct tiny {
    pith_dataset ds;
    pith_field fields[3];
    uint8_t image[N][PIXELS], label[N];
    float value[N][2];
} tiny;

static void tiny_fill(tiny *t, pith_ctx *ctx)
{
    *t = (tiny){.ds = {.name = "tiny", .n = N, .fields = t->fields, .n_fields = 3, .ctx = ctx}};
    for (int i = 0; i < N; i++) {
        for (int p = 0; p < PIXELS; p++) t->image[i][p] = (uint8_t)(1 + (i * 31 + p * 3) % 255);
        t->label[i] = (uint8_t)i;
        t->value[i][0] = (float)i, t->value[i][1] = -1;
    }
    t->fields[0] = (pith_field){.name = "image", .type = PITH_FIELD_U8, .n_dims = 3, .dims = {3, SIDE, SIDE}, .n_values = PIXELS, .data = t->image};
    t->fields[1] = (pith_field){.name = "label", .type = PITH_FIELD_U8, .n_values = 1, .data = t->label};
    t->fields[2] = (pith_field){.name = "value", .type = PITH_FIELD_F32, .n_dims = 1, .dims = {2}, .n_values = 2, .data = t->value};
}

static void test_once(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    tiny t;
    tiny_fill(&t, ctx);
    pith_loader *l;
    pith_batch b;
    assert_ok(ctx, pith_loader_new(ctx, &t.ds, &(pith_loader_options){.batch = 4, .once = true}, &l));
    assert_int_equal(pith_loader_steps(l), 3);
    for (uint64_t step = 0; step < 3; step++) {
        assert_ok(ctx, pith_loader_batch(l, step, &b));
        assert_int_equal(b.n, step == 2 ? 2 : 4);
        for (size_t k = 0; k < b.n; k++) {
            size_t item = step * 4 + k;
            assert_int_equal(b.items[k], item);
            assert_int_equal(b.y[k], item);
            for (size_t p = 0; p < PIXELS; p++) assert_true(b.x[k * PIXELS + p] == (float)t.image[item][p] / 255);
        }
        assert_null(b.ids);
        assert_null(b.y_f32);
    }
    assert_int_equal(pith_loader_batch(l, 3, &b), PITH_E_ARGUMENT);
    pith_loader_free(l);
    assert_ok(ctx, pith_loader_new(ctx, &t.ds, &(pith_loader_options){.batch = 3, .input = "value", .target = "value"}, &l));
    assert_ok(ctx, pith_loader_batch(l, 3, &b)); /* items 9, 0, 1 */
    assert_true(b.n == 3 && b.x[0] == 9 && b.x[1] == -1 && b.y_f32[2] == 0 && b.y_f32[4] == 1 && !b.y && b.epoch == 0);
    pith_loader_free(l);
    pith_ctx_free(ctx);
}

static void test_shuffle(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    tiny t;
    tiny_fill(&t, ctx);
    for (size_t n = 1; n <= N; n++) { /* every epoch has every item once, in an order of its own */
        t.ds.n = n;
        pith_loader *l;
        assert_ok(ctx, pith_loader_new(ctx, &t.ds, &(pith_loader_options){.batch = n, .seed = 5, .shuffle = true}, &l));
        int moved = 0, differs = 0;
        int32_t last[N] = {0};
        for (uint64_t epoch = 0; epoch < 20; epoch++) {
            pith_batch b;
            unsigned seen = 0;
            assert_ok(ctx, pith_loader_batch(l, epoch, &b));
            assert_int_equal(b.epoch, epoch);
            for (size_t k = 0; k < n; k++) {
                seen |= 1u << b.y[k];
                moved += b.y[k] != (int32_t)k;
                differs += epoch && b.y[k] != last[k];
                last[k] = b.y[k];
            }
            assert_int_equal(seen, (1u << n) - 1);
        }
        if (n >= 5) assert_true(moved > 20 * (int)n / 2 && differs > 19 * (int)n / 2);
        pith_loader_free(l);
    }
    pith_ctx_free(ctx);
}

/* Each item comes to each place about equally often. */
static void test_shuffle_is_fair(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    tiny t;
    tiny_fill(&t, ctx);
    pith_loader *l;
    enum { EPOCHS = 4000 };
    int counts[N][N] = {0};
    assert_ok(ctx, pith_loader_new(ctx, &t.ds, &(pith_loader_options){.batch = N, .seed = 1, .shuffle = true, .no_thread = true}, &l));
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        pith_batch b;
        assert_ok(ctx, pith_loader_batch(l, epoch, &b));
        for (int k = 0; k < N; k++) counts[k][b.y[k]]++;
    }
    for (int k = 0; k < N; k++)
        for (int i = 0; i < N; i++) /* mean 400, standard deviation 19 */
            if (abs(counts[k][i] - EPOCHS / N) > 6 * 19) fail_msg("item %d at place %d: %d times of %d", i, k, counts[k][i], EPOCHS);
    pith_loader_free(l);
    pith_ctx_free(ctx);
}

static uint64_t batch_hash(const pith_batch *b)
{
    return pith_hash(b->x, b->n * PIXELS * sizeof *b->x) ^ pith_hash(b->items, b->n * sizeof *b->items) ^ (uint64_t)b->y[0];
}

/* The same step gives the same bytes: in order, again, from the middle, with and without the thread. */
static void test_pure(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    tiny t;
    tiny_fill(&t, ctx);
    enum { STEPS = 40 };
    uint64_t hashes[STEPS];
    pith_loader_options o = {.batch = 7, .seed = 3, .shuffle = true, .flip = true, .crop = 2, .mean = {0.5f}, .std = {0.25f}};
    pith_loader *l, *plain;
    pith_batch b;
    assert_ok(ctx, pith_loader_new(ctx, &t.ds, &o, &l));
    o.no_thread = true;
    assert_ok(ctx, pith_loader_new(ctx, &t.ds, &o, &plain));
    for (uint64_t step = 0; step < STEPS; step++) {
        assert_ok(ctx, pith_loader_batch(l, step, &b));
        hashes[step] = batch_hash(&b);
        assert_ok(ctx, pith_loader_batch(plain, step, &b));
        assert_true(batch_hash(&b) == hashes[step]);
    }
    for (int i = 0; i < 60; i++) {
        uint64_t step = (uint64_t)(i * 17 % STEPS);
        assert_ok(ctx, pith_loader_batch(l, step, &b));
        assert_true(batch_hash(&b) == hashes[step]);
    }
    pith_loader_free(l);
    pith_loader_free(plain);
    o.seed = 4;
    assert_ok(ctx, pith_loader_new(ctx, &t.ds, &o, &l));
    assert_ok(ctx, pith_loader_batch(l, 0, &b));
    assert_true(batch_hash(&b) != hashes[0]);
    pith_loader_free(l);
    pith_ctx_free(ctx);
}

/* Whether batch image x is item `image` seen through a flip and a move. */
static bool is_view(const float *x, const uint8_t *image, bool flip, int dy, int dx)
{
    for (int ch = 0; ch < 3; ch++)
        for (int y = 0; y < SIDE; y++)
            for (int c = 0; c < SIDE; c++) {
                int from_y = y + dy, from_x = (flip ? SIDE - 1 - c : c) + dx;
                bool in = from_y >= 0 && from_y < SIDE && from_x >= 0 && from_x < SIDE;
                float v = (float)(in ? image[(ch * SIDE + from_y) * SIDE + from_x] : 0) / 255;
                if (x[(ch * SIDE + y) * SIDE + c] != (v - 0.1f) / 2) return false;
            }
    return true;
}

static void test_augment(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    tiny t;
    tiny_fill(&t, ctx);
    pith_loader *l;
    assert_ok(ctx, pith_loader_new(ctx, &t.ds, &(pith_loader_options){.batch = 10, .flip = true, .crop = 1, .mean = {0.1f, 0.1f, 0.1f}, .std = {2, 2, 2}}, &l));
    int counts[2][3][3] = {0};
    for (uint64_t step = 0; step < 36; step++) {
        pith_batch b;
        assert_ok(ctx, pith_loader_batch(l, step, &b));
        for (size_t k = 0; k < b.n; k++) {
            int found = 0;
            for (int v = 0; v < 18; v++)
                if (is_view(b.x + k * PIXELS, t.image[b.items[k]], v / 9, v / 3 % 3 - 1, v % 3 - 1)) counts[v / 9][v / 3 % 3][v % 3]++, found++;
            assert_int_equal(found, 1);
        }
    }
    for (int v = 0; v < 18; v++) assert_true(counts[v / 9][v / 3 % 3][v % 3] >= 5); /* 20 each on average */
    pith_loader_free(l);
    pith_ctx_free(ctx);
}

static void test_windows(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    int32_t tokens[23];
    uint8_t bytes[23];
    for (int i = 0; i < 23; i++) tokens[i] = 1000 + i, bytes[i] = (uint8_t)(200 + i);
    pith_loader *l;
    pith_batch b;
    assert_ok(ctx, pith_loader_windows(ctx, tokens, NULL, 23, 5, &(pith_loader_options){.batch = 3, .once = true}, &l));
    assert_int_equal(pith_loader_steps(l), 2); /* 22 / 5 = 4 windows */
    assert_ok(ctx, pith_loader_batch(l, 0, &b));
    assert_true(b.n == 3 && b.ids[0] == 1000 && b.ids[5] == 1005 && b.ids[6] == 1005 && b.ids[17] == 1015 && !b.y && !b.x);
    assert_ok(ctx, pith_loader_batch(l, 1, &b));
    assert_true(b.n == 1 && b.ids[5] == 1020);
    pith_loader_free(l);
    assert_ok(ctx, pith_loader_windows(ctx, NULL, bytes, 23, 22, &(pith_loader_options){.batch = 2}, &l)); /* one place only */
    assert_ok(ctx, pith_loader_batch(l, 9, &b));
    assert_true(b.ids[0] == 200 && b.ids[45] == 222);
    pith_loader_free(l);
    assert_ok(ctx, pith_loader_windows(ctx, tokens, NULL, 23, 4, &(pith_loader_options){.batch = 100, .seed = 9}, &l));
    unsigned starts = 0;
    assert_ok(ctx, pith_loader_batch(l, 0, &b));
    for (size_t k = 0; k < 100; k++) {
        assert_true(b.items[k] < 19);
        starts |= 1u << b.items[k];
        for (size_t i = 0; i < 5; i++) assert_int_equal(b.ids[k * 5 + i], 1000 + (int)(b.items[k] + i));
    }
    assert_true(__builtin_popcount(starts) >= 17);
    pith_loader_free(l);
    assert_int_equal(pith_loader_windows(ctx, tokens, NULL, 5, 5, &(pith_loader_options){.batch = 1}, &l), PITH_E_ARGUMENT);
    assert_int_equal(pith_loader_windows(ctx, tokens, NULL, 23, 0, &(pith_loader_options){.batch = 1}, &l), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

static void test_moments(void **state)
{
    (void)state;
    const uint8_t image[2][2][1][2] = {{{{0, 255}}, {{51, 51}}}, {{{0, 255}}, {{51, 51}}}};
    pith_field f = {.type = PITH_FIELD_U8, .n_dims = 3, .dims = {2, 1, 2}, .n_values = 4, .data = (void *)(uintptr_t)image};
    float mean[2], std[2];
    pith_field_moments(&f, 2, mean, std);
    assert_true(fabsf(mean[0] - 0.5f) < 1e-6f && fabsf(std[0] - 0.5f) < 1e-6f && fabsf(mean[1] - 0.2f) < 1e-6f && std[1] < 1e-4f);
}

static pith_status make_loader(pith_ctx *ctx, const void *user)
{
    (void)user;
    tiny t;
    pith_loader *l;
    tiny_fill(&t, ctx);
    PITH_TRY(pith_loader_new(ctx, &t.ds, &(pith_loader_options){.batch = 2}, &l));
    pith_loader_free(l);
    return PITH_OK;
}

static void test_errors(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    tiny t;
    tiny_fill(&t, ctx);
    pith_loader *l = NULL;
    const pith_loader_options bad[] = {{.batch = 0}, {.batch = 1, .input = "none"}, {.batch = 1, .target = "none"}, {.batch = 1, .input = "value", .flip = true},
                                       {.batch = 1, .crop = SIDE}, {.batch = 1, .crop = -1}};
    for (size_t i = 0; i < PITH_COUNT(bad); i++) assert_int_equal(pith_loader_new(ctx, &t.ds, &bad[i], &l), PITH_E_ARGUMENT);
    assert_int_equal(pith_loader_new(ctx, &t.ds, &(pith_loader_options){.batch = SIZE_MAX / 4}, &l), PITH_E_MEMORY);
    assert_null(l);
    pith_ctx_free(ctx);
    assert_int_equal(test_every_fault(make_loader, NULL), 7); /* the loader, and three arrays a slot */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once), cmocka_unit_test(test_shuffle), cmocka_unit_test(test_shuffle_is_fair), cmocka_unit_test(test_pure),
        cmocka_unit_test(test_augment), cmocka_unit_test(test_windows), cmocka_unit_test(test_moments), cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
