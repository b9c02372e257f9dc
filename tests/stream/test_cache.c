/* Caches: attention against the plain double, for one query, a few and many; what append and truncate do. */
#include <math.h>

#include "stream/cache/cache.h"
#include "test.h"

typedef struct shape {
    size_t n_heads, n_kv_heads, head_dim, window;
} shape;

static const shape shapes[] = {{4, 2, 16, 0}, {9, 3, 64, 0}, {6, 1, 24, 0}, {3, 3, 7, 0}, {4, 2, 16, 5}, {4, 4, 33, 40}, {2, 1, 128, 300}};

static float *normals(size_t n, uint64_t stream)
{
    float *x = malloc(n * sizeof *x);
    pith_rng rng = {.seed = 5, .stream = stream};
    for (size_t i = 0; i < n; i++) x[i] = pith_rng_normal(&rng);
    return x;
}

/* All positions' keys and values are here; query i stands at pos0 + i. */
static void plain_attend(const shape *s, const float *k, const float *v, const float *q, size_t n, size_t pos0, double scale, double *out)
{
    size_t d = s->head_dim, kv_dim = s->n_kv_heads * d;
    double *p = malloc((pos0 + n) * sizeof *p);
    for (size_t i = 0; i < n; i++) {
        for (size_t h = 0; h < s->n_heads; h++) {
            size_t at = h / (s->n_heads / s->n_kv_heads) * d, last = pos0 + i, first = s->window && last + 1 > s->window ? last + 1 - s->window : 0;
            double most = -INFINITY, sum = 0;
            for (size_t j = first; j <= last; j++) {
                p[j] = 0;
                for (size_t c = 0; c < d; c++) p[j] += (double)q[(i * s->n_heads + h) * d + c] * (double)k[j * kv_dim + at + c] * scale;
                most = fmax(most, p[j]);
            }
            for (size_t j = first; j <= last; j++) sum += p[j] = exp(p[j] - most);
            for (size_t c = 0; c < d; c++) {
                double y = 0;
                for (size_t j = first; j <= last; j++) y += p[j] / sum * (double)v[j * kv_dim + at + c];
                out[(i * s->n_heads + h) * d + c] = y;
            }
        }
    }
    free(p);
}

static void test_attention(void **state)
{
    (void)state;
    static const double tolerance[] = {[PITH_CACHE_F32] = 1e-5, [PITH_CACHE_F16] = 4e-3, [PITH_CACHE_Q8] = 6e-2};
    static const size_t before[] = {0, 1, 255, 300}, queries[] = {1, 7, 8, 33, 70};
    pith_ctx *ctx = test_ctx(2), *others[] = {test_ctx(1), test_ctx(3), test_ctx(5)};
    for (size_t t = 0; t < PITH_COUNT(shapes); t++) {
        const shape *s = &shapes[t];
        size_t q_dim = s->n_heads * s->head_dim, kv_dim = s->n_kv_heads * s->head_dim, most = 300 + 70;
        float *k = normals(most * kv_dim, 1), *v = normals(most * kv_dim, 2), *q = normals(70 * q_dim, 3);
        float *out = malloc(70 * q_dim * sizeof *out), *again = malloc(70 * q_dim * sizeof *again);
        double *expected = malloc(70 * q_dim * sizeof *expected), scale = 1 / sqrt((double)s->head_dim);
        for (pith_cache_type type = PITH_CACHE_F32; type <= PITH_CACHE_Q8; type++) {
            pith_cache *c;
            assert_ok(ctx, pith_cache_new(ctx, type, 2, s->n_kv_heads, s->head_dim, most, &c));
            for (size_t b = 0; b < PITH_COUNT(before); b++) {
                for (size_t i = 0; i < PITH_COUNT(queries); i++) {
                    size_t n = queries[i], pos0 = before[b];
                    c->kind->truncate(c, 0);
                    /* layer 0 gets other values: it must not be seen */
                    for (size_t layer = 0; layer < 2; layer++) assert_ok(ctx, c->kind->append(ctx, c, layer, layer ? k : v, layer ? v : k, pos0));
                    for (size_t layer = 0; layer < 2; layer++) {
                        assert_int_equal(c->n, pos0);
                        assert_ok(ctx, c->kind->append(ctx, c, layer, (layer ? k : v) + pos0 * kv_dim, (layer ? v : k) + pos0 * kv_dim, n));
                    }
                    assert_int_equal(c->n, pos0 + n);
                    plain_attend(s, k, v, q, n, pos0, scale, expected);
                    assert_ok(ctx, c->kind->attend(ctx, c, 1, q, n, s->n_heads, pos0, s->window, (float)scale, out));
                    for (size_t o = 0; o < PITH_COUNT(others); o++) { /* the same bytes on any number of threads */
                        memset(again, 0, n * q_dim * sizeof *again);
                        assert_ok(others[o], c->kind->attend(others[o], c, 1, q, n, s->n_heads, pos0, s->window, (float)scale, again));
                        assert_memory_equal(out, again, n * q_dim * sizeof *out);
                    }
                    for (size_t e = 0; e < n * q_dim; e++)
                        if (!(fabs((double)out[e] - expected[e]) < tolerance[type]))
                            fail_msg("type %d, shape %zu, %zu before, %zu queries: value %zu is %g, not %g", (int)type, t, pos0, n, e, (double)out[e], expected[e]);
                }
            }
            pith_cache_free(ctx, c);
        }
        free(k), free(v), free(q), free(out), free(again), free(expected);
    }
    for (size_t o = 0; o < PITH_COUNT(others); o++) pith_ctx_free(others[o]);
    pith_ctx_free(ctx);
}

/* Long texts make blocks of queries smaller; the result stays. */
static void test_long(void **state)
{
    (void)state;
    const shape s = {16, 1, 8, 0};
    size_t most = 9000, n = 40, pos0 = most - n;
    pith_ctx *ctx = test_ctx(2);
    float *k = normals(most * 8, 1), *v = normals(most * 8, 2), *q = normals(n * 128, 3), *out = malloc(n * 128 * sizeof *out);
    double *expected = malloc(n * 128 * sizeof *expected);
    pith_cache *c;
    assert_ok(ctx, pith_cache_new(ctx, PITH_CACHE_F32, 1, 1, 8, most, &c));
    assert_ok(ctx, c->kind->append(ctx, c, 0, k, v, most));
    plain_attend(&s, k, v, q, n, pos0, 0.3, expected);
    assert_ok(ctx, c->kind->attend(ctx, c, 0, q, n, 16, pos0, 0, 0.3f, out));
    for (size_t e = 0; e < n * 128; e++) assert_true(fabs((double)out[e] - expected[e]) < 1e-5);
    pith_cache_free(ctx, c);
    free(k), free(v), free(q), free(out), free(expected);
    pith_ctx_free(ctx);
}

static void test_limits(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_cache *c = NULL;
    float x[5 * 8] = {0};
    assert_ok(ctx, pith_cache_new(ctx, PITH_CACHE_Q8, 2, 2, 4, 4, &c));
    assert_int_equal(c->kind->bytes(c), 2 * 2 * 2 * 4 * (4 + sizeof(float)));
    assert_int_equal(c->kind->append(ctx, c, 0, x, x, 5), PITH_E_LIMIT);
    assert_ok(ctx, c->kind->append(ctx, c, 0, x, x, 4));
    assert_int_equal(c->n, 0);
    assert_ok(ctx, c->kind->append(ctx, c, 1, x, x, 4));
    assert_int_equal(c->n, 4);
    assert_int_equal(c->kind->append(ctx, c, 0, x, x, 1), PITH_E_LIMIT);
    assert_non_null(strstr(pith_error(ctx), "4"));
    c->kind->truncate(c, 9);
    assert_int_equal(c->n, 4);
    c->kind->truncate(c, 1);
    assert_int_equal(c->n, 1);
    pith_cache_free(ctx, c);
    c = NULL;
    assert_int_equal(pith_cache_new(ctx, (pith_cache_type)3, 1, 1, 1, 1, &c), PITH_E_ARGUMENT);
    assert_int_equal(pith_cache_new(ctx, PITH_CACHE_F32, 0, 1, 1, 1, &c), PITH_E_ARGUMENT);
    assert_int_equal(pith_cache_new(ctx, PITH_CACHE_F32, 1, 1, 1, 0, &c), PITH_E_ARGUMENT);
    assert_int_equal(pith_cache_new(ctx, PITH_CACHE_F32, SIZE_MAX / 2, 3, 1, 1, &c), PITH_E_MEMORY);
    assert_int_equal(pith_cache_new(ctx, PITH_CACHE_F32, 1, 1, SIZE_MAX / 16, 2, &c), PITH_E_MEMORY);
    assert_null(c);
    pith_cache_free(ctx, NULL);
    pith_ctx_free(ctx);
}

/* Zeros and huge values survive 8 bits. */
static void test_q8_edges(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_cache *c;
    float k[2 * 4] = {0}, v[2 * 4] = {0, 0, 0, 0, 1e30f, -5e29f, 0, 1e25f}, q[4] = {1, 2, 3, 4}, out[4];
    assert_ok(ctx, pith_cache_new(ctx, PITH_CACHE_Q8, 1, 1, 4, 2, &c));
    assert_ok(ctx, c->kind->append(ctx, c, 0, k, v, 2));
    assert_ok(ctx, c->kind->attend(ctx, c, 0, q, 1, 1, 1, 0, 1, out));
    for (int i = 0; i < 4; i++) assert_true(fabsf(out[i] - 0.5f * v[4 + i]) <= 1e30f / 500);
    assert_true(fabsf(out[0] / 5e29f - 1) < 1e-6f); /* the greatest value of a row is kept */
    pith_cache_free(ctx, c);
    pith_ctx_free(ctx);
}

static pith_status fill_and_attend(pith_ctx *ctx, const void *type)
{
    float *x = normals(20 * 16, 1), out[20 * 16];
    pith_cache *c = NULL;
    pith_status status;
    PITH_GOTO(pith_cache_new(ctx, *(const pith_cache_type *)type, 1, 2, 8, 20, &c), done);
    PITH_GOTO(c->kind->append(ctx, c, 0, x, x, 20), done);
    PITH_GOTO(c->kind->attend(ctx, c, 0, x, 20, 2, 0, 0, 1, out), done);
done:
    pith_cache_free(ctx, c);
    free(x);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    for (pith_cache_type type = PITH_CACHE_F32; type <= PITH_CACHE_Q8; type++)
        assert_in_range(test_every_fault_with(fill_and_attend, &type, &(test_fault_options){.n_threads = 2}), 1, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention), cmocka_unit_test(test_long), cmocka_unit_test(test_limits), cmocka_unit_test(test_q8_edges),
        cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
