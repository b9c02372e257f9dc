/* Perplexity and KL against sums written down plainly. */
#include "eval/eval.h"
#include "../model/tiny.h"

#define V 130

typedef struct pair {
    pith_ctx *ctx;
    tiny *t[2];
    pith_llama *m[2];   /* f32, and the same weights in 8 bits */
} pair;

static pair pair_new(int n_threads)
{
    pair p = {.ctx = test_ctx(n_threads)};
    pith_settings s = tiny_settings();
    for (int k = 0; k < 2; k++) {
        p.t[k] = tiny_new(&s, k ? TINY_QMAT : TINY_F32, false, true);
        assert_ok(p.ctx, pith_llama_new(p.ctx, &p.t[k]->w, &p.m[k]));
    }
    return p;
}

static void pair_free(pair *p)
{
    for (int k = 0; k < 2; k++) {
        pith_llama_free(p->ctx, p->m[k]);
        tiny_free(p->t[k]);
    }
    pith_ctx_free(p->ctx);
}

/* log softmax in double */
static void plain_log_softmax(const float *x, double *y)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < V; i++) most = fmax(most, (double)x[i]);
    for (size_t i = 0; i < V; i++) sum += exp((double)x[i] - most);
    for (size_t i = 0; i < V; i++) y[i] = (double)x[i] - most - log(sum);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static pith_eval_result plain_eval(pair *p, const int32_t *ids, size_t context, size_t n_chunks, size_t first, int32_t bos)
{
    static double kls[4096];
    double nll = 0, reference = 0, kl = 0, same = 0;
    size_t n = 0;
    for (size_t c = 0; c < n_chunks; c++) {
        int32_t chunk[256];
        float *logits[2];
        memcpy(chunk, ids + c * context, context * sizeof *chunk);
        if (bos >= 0) chunk[0] = bos;
        for (int k = 0; k < 2; k++) {
            pith_cache *cache;
            logits[k] = malloc(context * V * sizeof(float));
            assert_ok(p->ctx, pith_llama_cache(p->ctx, p->m[k], PITH_CACHE_F16, context, &cache));
            assert_ok(p->ctx, pith_llama_forward(p->ctx, p->m[k], cache, chunk, context - 1, context - 1 - first, logits[k] + first * V));
            pith_cache_free(p->ctx, cache);
        }
        for (size_t i = first; i + 1 < context; i++) {
            double a[V], b[V], d = 0;
            size_t ta = 0, tb = 0;
            plain_log_softmax(logits[0] + i * V, a);
            plain_log_softmax(logits[1] + i * V, b);
            for (size_t v = 0; v < V; v++) {
                d += exp(a[v]) * (a[v] - b[v]);
                if (a[v] > a[ta]) ta = v;
                if (b[v] > b[tb]) tb = v;
            }
            nll -= b[chunk[i + 1]];
            reference -= a[chunk[i + 1]];
            kl += kls[n++] = d;
            same += ta == tb;
        }
        free(logits[0]), free(logits[1]);
    }
    qsort(kls, n, sizeof *kls, by_value);
    double at = 0.99 * (double)(n - 1);
    size_t i = (size_t)at;
    return (pith_eval_result){.n_chunks = n_chunks, .n_scored = n, .nll_mean = nll / (double)n, .perplexity = exp(nll / (double)n),
                              .reference_perplexity = exp(reference / (double)n), .kl_mean = kl / (double)n, .top1_agreement = same / (double)n,
                              .kl_p99 = i + 1 < n ? kls[i] + (at - (double)i) * (kls[i + 1] - kls[i]) : kls[n - 1]};
}

static void assert_near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance * (1 + fabs(b)))) fail_msg("%.12g is not %.12g", a, b);
}

static void test_text(void **state)
{
    (void)state;
    pair p = pair_new(2), q = pair_new(1);
    int32_t ids[700];
    tiny_ids(ids, 700, V, 1);
    static const struct {
        size_t context, n_chunks, expected_chunks;
        bool all;
        int32_t bos;
    } cases[] = {{200, 0, 3, false, 0}, {200, 2, 2, true, -1}, {151, 0, 4, false, 5}, {4, 1, 1, false, 0}, {5, 100, 100, true, 1}};
    for (size_t k = 0; k < PITH_COUNT(cases); k++) {
        pith_eval_options o = {.context = cases[k].context, .n_chunks = cases[k].n_chunks, .all_tokens = cases[k].all};
        pith_eval_result r, again, alone, expected;
        expected = plain_eval(&p, ids, o.context, cases[k].expected_chunks, o.all_tokens ? 0 : o.context / 2, cases[k].bos);
        assert_ok(p.ctx, pith_eval_text(p.ctx, p.m[1], p.m[0], ids, 700, cases[k].bos, &o, &r));
        assert_int_equal(r.n_chunks, cases[k].expected_chunks);
        assert_int_equal(r.n_scored, expected.n_scored);
        assert_true(r.has_reference);
        assert_near(r.nll_mean, expected.nll_mean, 1e-12);
        assert_near(log(r.perplexity), expected.nll_mean, 1e-12);
        assert_near(log(r.reference_perplexity), log(expected.reference_perplexity), 1e-12);
        assert_near(r.kl_mean, expected.kl_mean, 1e-12);
        assert_near(r.kl_p99, expected.kl_p99, 1e-12);
        assert_near(r.top1_agreement, expected.top1_agreement, 1e-12);
        assert_true(r.kl_mean > 0 && r.prefill_tokens_per_second > 0);
        /* the number of threads changes nothing; a model is no distance from itself */
        assert_ok(q.ctx, pith_eval_text(q.ctx, q.m[1], q.m[0], ids, 700, cases[k].bos, &o, &again));
        assert_true(again.nll_mean == r.nll_mean && again.kl_mean == r.kl_mean && again.kl_p99 == r.kl_p99);
        assert_ok(p.ctx, pith_eval_text(p.ctx, p.m[1], p.m[1], ids, 700, cases[k].bos, &o, &again));
        assert_true(again.kl_mean == 0 && again.kl_p99 == 0 && again.top1_agreement == 1 && again.nll_mean == r.nll_mean);
        assert_ok(p.ctx, pith_eval_text(p.ctx, p.m[1], NULL, ids, 700, cases[k].bos, &o, &alone));
        assert_true(alone.nll_mean == r.nll_mean && alone.perplexity_stderr == r.perplexity_stderr && !alone.has_reference);
    }
    pair_free(&q);
    pair_free(&p);
}

/* The spread of chunk means over many chunks agrees with the stated standard error of one. */
static void test_standard_error(void **state)
{
    (void)state;
    pair p = pair_new(2);
    int32_t ids[64 * 40];
    tiny_ids(ids, 64 * 40, V, 2);
    pith_eval_options o = {.context = 64, .all_tokens = true};
    double sum = 0, square = 0, stated = 0;
    for (size_t c = 0; c < 40; c++) {
        pith_eval_result r;
        assert_ok(p.ctx, pith_eval_text(p.ctx, p.m[0], NULL, ids + 64 * c, 64, -1, &o, &r));
        sum += r.nll_mean;
        square += r.nll_mean * r.nll_mean;
        stated += r.perplexity_stderr / r.perplexity / 40;
    }
    double spread = sqrt(square / 40 - sum / 40 * sum / 40);
    assert_true(spread > 0.6 * stated && spread < 1.6 * stated);
    pair_free(&p);
}

static void test_refused(void **state)
{
    (void)state;
    pair p = pair_new(1);
    int32_t ids[20];
    tiny_ids(ids, 20, V, 1);
    pith_eval_result r = {.n_scored = 77};
    pith_eval_options o = {.context = 21};
    assert_int_equal(pith_eval_text(p.ctx, p.m[0], NULL, ids, 20, -1, &o, &r), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(p.ctx), "20 tokens"));
    assert_int_equal(pith_eval_text(p.ctx, p.m[0], NULL, ids, 20, -1, NULL, &r), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(p.ctx), "512"));
    o.context = 3;
    assert_int_equal(pith_eval_text(p.ctx, p.m[0], NULL, ids, 20, -1, &o, &r), PITH_E_ARGUMENT);
    o.context = 10;
    ids[19] = V;
    assert_int_equal(pith_eval_text(p.ctx, p.m[0], NULL, ids, 20, -1, &o, &r), PITH_E_ARGUMENT);
    ids[19] = 0;
    ids[12] = -7;
    assert_int_equal(pith_eval_text(p.ctx, p.m[0], NULL, ids, 20, -1, &o, &r), PITH_E_ARGUMENT);
    ids[12] = 0;
    pith_settings s = tiny_settings();
    s.n_vocab = V - 1;
    tiny *t = tiny_new(&s, TINY_F32, false, true);
    pith_llama *other;
    assert_ok(p.ctx, pith_llama_new(p.ctx, &t->w, &other));
    assert_int_equal(pith_eval_text(p.ctx, p.m[0], other, ids, 20, -1, &o, &r), PITH_E_SHAPE);
    pith_llama_free(p.ctx, other);
    tiny_free(t);
    /* a damaged weight shows */
    p.t[0]->t[0].x[0] = NAN;
    ids[3] = 0;
    assert_int_equal(pith_eval_text(p.ctx, p.m[0], NULL, ids, 20, -1, &o, &r), PITH_E_NONFINITE);
    assert_non_null(strstr(pith_error(p.ctx), "finite"));
    assert_int_equal(r.n_scored, 77);
    double a, b;
    assert_int_equal(pith_eval_speed(p.ctx, p.m[0], 0, 0, 1, &a, &b), PITH_E_ARGUMENT);
    assert_int_equal(pith_eval_speed(p.ctx, p.m[0], 1, 1, 0, &a, &b), PITH_E_ARGUMENT);
    assert_int_equal(pith_eval_speed(p.ctx, p.m[0], 4096, 1, 1, &a, &b), PITH_E_LIMIT);
    pair_free(&p);
}

static void test_speed(void **state)
{
    (void)state;
    pair p = pair_new(2);
    double prefill = -1, decode = -1;
    assert_ok(p.ctx, pith_eval_speed(p.ctx, p.m[1], 50, 10, 2, &prefill, &decode));
    assert_true(prefill > 0 && decode > 0);
    assert_ok(p.ctx, pith_eval_speed(p.ctx, p.m[1], 0, 3, 1, &prefill, &decode));
    assert_true(prefill == 0 && decode > 0);
    pair_free(&p);
}

static pith_status whole_life(pith_ctx *ctx, const void *user)
{
    tiny *t = *(tiny *const *)user;
    int32_t ids[40];
    tiny_ids(ids, 40, V, 1);
    pith_llama *m;
    pith_eval_options o = {.context = 20};
    pith_eval_result r;
    double a, b;
    PITH_TRY(pith_llama_new(ctx, &t->w, &m));
    pith_status status = pith_eval_text(ctx, m, m, ids, 40, 0, &o, &r);
    if (status == PITH_OK) status = pith_eval_speed(ctx, m, 3, 1, 1, &a, &b);
    pith_llama_free(ctx, m);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    pith_settings s = tiny_settings();
    tiny *t = tiny_new(&s, TINY_QMAT, false, true);
    assert_in_range(test_every_fault(whole_life, &t), 20, 1000);
    tiny_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_standard_error), cmocka_unit_test(test_refused), cmocka_unit_test(test_speed),
        cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
