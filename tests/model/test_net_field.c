/* Fields: siren, hash grid. */
#include "net_case.h"

static pith_var *places(pith_net *net)
{
    pith_var *x = pith_tape_fill(pith_net_tape(net), 0, PITH_DIMS(30, 2));
    for (size_t i = 0; x && i < x->count; i++) x->data[i] = fmodf(0.618034f * (float)(i + 1), 1);
    return pith_net_forward(net, x);
}

#define TINY_HASH "{\"encoding\": \"hash\", \"hidden\": [5], \"out\": 2, \"levels\": 3, \"entries\": 24, \"coarsest\": 2, \"finest\": 6}"

static const net_case cases[] = {
    {"field", "{\"hidden\": [5, 4], \"out\": 2, \"omega\": 4}", 0, 2, .out = {30, 2}, .run = places},
    {"field", TINY_HASH, 0, 2, .out = {30, 2}, .run = places, .rate = 0.03f},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) check_net(&cases[i]);
}

/* At a corner of a dense level the entry itself is read; outside of the cube the nearest point counts. */
static void test_corners(void **state)
{
    (void)state;
    const pith_hash_grid grid = {.n_levels = 1, .n_features = 1, .n_entries = 100, .coarsest = 4, .growth = 1};
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    assert_int_equal(pith_hash_grid_rows(&grid, 2), 25);
    assert_int_equal(pith_hash_grid_rows(&(pith_hash_grid){.n_levels = 2, .n_features = 1, .n_entries = 100, .coarsest = 4, .growth = 4}, 3), 100 + 100);
    float points[] = {0.5f, 0.25f, 1, 1, 2, -3, 0.125f, 0};
    pith_var *table = pith_tape_fill(tape, 0, PITH_DIMS(25, 1));
    for (size_t i = 0; i < 25; i++) table->data[i] = (float)(i * i);
    pith_var *y = pith_var_hash_grid(pith_tape_input(tape, points, PITH_DIMS(4, 2)), table, &grid);
    assert_non_null(y);
    assert_float_equal(y->data[0], 11 * 11, 1e-3f); /* corner (2, 1) of 5 by 5 */
    assert_float_equal(y->data[1], 24 * 24, 1e-3f);
    assert_float_equal(y->data[2], 20 * 20, 1e-3f);
    assert_float_equal(y->data[3], 12.5f, 1e-3f);   /* between 0 and 5 * 5 */
    assert_null(pith_var_hash_grid(pith_tape_input(tape, points, PITH_DIMS(4, 2)), pith_tape_fill(tape, 0, PITH_DIMS(24, 1)), &grid));
    assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* The sines of siren stay as wide from layer to layer, which is what its first weights are for. */
static void test_spread(void **state)
{
    (void)state;
    net_bed b = net_bed_open("siren", "{\"hidden\": [128, 128, 128, 128]}", 1, 1);
    pith_tape_step(b.tape, 1);
    pith_var *x = pith_tape_uniform(b.tape, PITH_DIMS(200, 2));
    assert_non_null(pith_net_forward(b.net, pith_var_affine(x, 2, -1)));
    for (size_t i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "hidden%zu", i);
        const pith_var *h = pith_net_hidden(b.net, name);
        double square = 0;
        for (size_t k = 0; k < h->count; k++) square += (double)h->data[k] * (double)h->data[k];
        square /= (double)h->count;
        assert_true(square > 0.35 && square < 0.6);
    }
    net_bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_corners), cmocka_unit_test(test_spread)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
