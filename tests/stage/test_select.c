/* What is kept: masks over several parameters, and random graphs with their properties against ones worked out by hand. */
#include <math.h>

#include "stage/select/graph.h"
#include "stage/select/mask.h"
#include "test.h"

static void test_masks(void **state)
{
    (void)state;
    static const float a[] = {1, -5, 2, 9}, b[] = {-3, 4, 2, 8, -7, 6}; /* the five smallest: 1, 2, 2, 3, 4 */
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    pith_masks *m;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *x = pith_tape_param(tape, "a", PITH_DIMS(2, 2)), *y = pith_tape_param(tape, "b", PITH_DIMS(6)), *z = pith_tape_param(tape, "c", PITH_DIMS(1));
    memcpy(x->data, a, sizeof a);
    memcpy(y->data, b, sizeof b);
    assert_ok(ctx, pith_masks_new(tape, &m));
    assert_ok(ctx, pith_masks_add(m, x));
    assert_ok(ctx, pith_masks_add(m, y));
    assert_ok(ctx, pith_masks_cut(m, 0.5, false, 0));
    assert_int_equal(pith_masks_n_kept(m), 5);
    pith_tape_step(tape, 0);
    assert_ptr_equal(pith_masks_apply(m, z), z);
    pith_var *sum = pith_var_add(pith_var_sum(pith_masks_apply(m, x), PITH_ALL_AXES), pith_var_sum(pith_masks_replace(m, "b", y), PITH_ALL_AXES));
    assert_true(sum->data[0] == -5 + 9 + 8 - 7 + 6);
    assert_ok(ctx, pith_backward(tape, sum, 0));
    for (int i = 0; i < 4; i++) assert_true(x->grad[i] == (fabsf(a[i]) > 4 ? 1 : 0));
    for (int i = 0; i < 6; i++) assert_true(y->grad[i] == (fabsf(b[i]) > 4 ? 1 : 0));
    assert_ok(ctx, pith_masks_cut(m, 1, false, 0));
    assert_int_equal(pith_masks_n_kept(m), 0);
    assert_ok(ctx, pith_masks_cut(m, 0.3, true, 7));
    assert_int_equal(pith_masks_n_kept(m), 7);
    pith_masks_of(m, y)[0] = 0.5f;
    assert_null(pith_masks_of(m, z));
    assert_int_equal(pith_masks_cut(m, 1.5, false, 0), PITH_E_ARGUMENT);
    pith_masks_free(m);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* 0 - 1 - 2 - 3 with 1 - 3: the way from 0 to 2 and to 3 passes 1. */
static void test_properties(void **state)
{
    (void)state;
    static const uint8_t edge[16] = {0, 1, 0, 0, /**/ 0, 0, 1, 1, /**/ 0, 0, 0, 1, /**/ 0, 0, 0, 0};
    static const size_t layers[] = {0, 1, 2, 3};
    pith_ctx *ctx = test_ctx(1);
    pith_graph g;
    double p[PITH_GRAPH_N_PROPERTIES];
    assert_ok(ctx, pith_graph_of(ctx, 4, edge, &g));
    assert_memory_equal(g.layer, layers, sizeof layers);
    assert_ok(ctx, pith_graph_measure(&g, p));
    assert_true(p[PITH_GRAPH_NODES] == 4 && p[PITH_GRAPH_EDGES] == 4 && p[PITH_GRAPH_LAYERS] == 4);
    assert_true(p[PITH_GRAPH_SOURCES] == 1 && p[PITH_GRAPH_SINKS] == 1 && p[PITH_GRAPH_DIAMETER] == 2);
    assert_true(fabs(p[PITH_GRAPH_DENSITY] - 4 / 6.0) < 1e-12 && fabs(p[PITH_GRAPH_PATH] - 8 / 6.0) < 1e-12);
    assert_true(fabs(p[PITH_GRAPH_ECCENTRICITY] - 7 / 4.0) < 1e-12 && fabs(p[PITH_GRAPH_DEGREE] - 2) < 1e-12 && fabs(p[PITH_GRAPH_DEGREE + 1] - 0.5) < 1e-12);
    assert_true(fabs(p[PITH_GRAPH_CLOSENESS] - (3 / 5.0 + 1 + 2 * 3 / 4.0) / 4) < 1e-12);
    assert_true(fabs(p[PITH_GRAPH_BETWEENNESS] - 2 / 3.0 / 4) < 1e-12); /* node 1: two of three pairs */
    pith_graph_free(&g);
    pith_ctx_free(ctx);
}

static void test_random_graphs(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_graph ring, again, growing;
    double p[PITH_GRAPH_N_PROPERTIES];
    for (uint64_t seed = 1; seed < 20; seed++) {
        size_t n = 10 + 2 * seed;
        pith_rng a = {seed, 1, 0}, b = {seed, 1, 0}, c = {seed, 2, 0};
        assert_ok(ctx, pith_graph_ring(ctx, n, n / 5, 1, &a, &ring));
        assert_ok(ctx, pith_graph_ring(ctx, n, n / 5, 1, &b, &again));
        assert_memory_equal(ring.edge, again.edge, n * n);
        assert_int_equal(ring.n_edges, n * (n / 5 / 2)); /* rewired, none lost */
        assert_ok(ctx, pith_graph_growing(ctx, n, n / 10, &c, &growing));
        assert_int_equal(growing.n_edges, (n - n / 10) * (n / 10));
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < i; k++) {
                assert_int_equal(growing.edge[i * n + k], growing.edge[k * n + i]);
                assert_true(!growing.edge[i * n + k] || growing.layer[k] < growing.layer[i]);
            }
        assert_ok(ctx, pith_graph_measure(&growing, p));
        assert_true(p[PITH_GRAPH_CLOSENESS] > 0 && p[PITH_GRAPH_BETWEENNESS] > 0);
        pith_graph_free(&ring);
        pith_graph_free(&again);
        pith_graph_free(&growing);
    }
    pith_rng plain = {1, 1, 0};
    assert_ok(ctx, pith_graph_ring(ctx, 10, 4, 0, &plain, &ring));
    for (size_t i = 0; i < 10; i++) assert_true(ring.edge[i * 10 + (i + 1) % 10] && ring.edge[i * 10 + (i + 2) % 10] && !ring.edge[i * 10 + (i + 3) % 10]);
    pith_graph_free(&ring);
    assert_int_equal(pith_graph_ring(ctx, 5, 5, 1, &plain, &ring), PITH_E_ARGUMENT);
    assert_int_equal(pith_graph_growing(ctx, 5, 0, &plain, &ring), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_tape *tape;
    pith_masks *m = NULL;
    pith_graph g = {0};
    pith_rng rng = {1, 1, 0};
    double p[PITH_GRAPH_N_PROPERTIES];
    pith_status status;
    PITH_TRY(pith_tape_new(ctx, 1, &tape));
    pith_var *w = pith_tape_param(tape, "w", PITH_DIMS(3));
    PITH_GOTO(pith_tape_status(tape), done);
    PITH_GOTO(pith_masks_new(tape, &m), done);
    PITH_GOTO(pith_masks_add(m, w), done);
    PITH_GOTO(pith_masks_cut(m, 0.5, false, 0), done);
    PITH_GOTO(pith_graph_growing(ctx, 5, 2, &rng, &g), done);
    PITH_GOTO(pith_graph_measure(&g, p), done);
done:
    pith_graph_free(&g);
    pith_masks_free(m);
    pith_tape_free(tape);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault(life, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks), cmocka_unit_test(test_properties), cmocka_unit_test(test_random_graphs), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
