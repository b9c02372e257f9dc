/* Networks' gradients among workers: simulated, and as threads that know each other only through a transport. */
#include "stream/exchange_case.h"
#include "stream/thread_workers.h"
#include "test.h"

static const pith_compressor compressors[] = {
    {PITH_COMPRESS_DENSE, 0}, {PITH_COMPRESS_TOP_K, 0.1}, {PITH_COMPRESS_RANDOM_K, 0.1}, {PITH_COMPRESS_QSGD, 4}, {PITH_COMPRESS_SIGN, 0}, {PITH_COMPRESS_POWER, 3},
};

static pith_status simulate(pith_ctx *ctx, size_t n, pith_compressor compressor, case_result *r)
{
    pith_group *group;
    PITH_TRY(pith_group_new(ctx, n, &group));
    pith_status status = case_exchange(ctx, group, compressor, r);
    pith_group_free(group);
    return status;
}

/* ---- threads ---------------------------------------------------------------------------------- */

typedef struct worker {
    thread_worker thread;
    pith_compressor compressor;
    bool reduces;
    pith_status status;
    case_result result;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    pith_ctx *ctx;
    pith_group *group = NULL;
    pith_transport transport = thread_transport(&w->thread);
    w->status = pith_ctx_new(&(pith_options){.n_threads = 1, .log_level = PITH_LOG_WARN, .log = test_log}, &ctx);
    if (w->status != PITH_OK) return NULL;
    w->status = pith_group_over(ctx, &transport, &group);
    if (w->status == PITH_OK) w->status = w->reduces ? case_reduce(ctx, group, &w->result) : case_exchange(ctx, group, w->compressor, &w->result);
    if (w->status != PITH_OK) fprintf(stderr, "worker %zu: %s\n", w->thread.rank, pith_error(ctx));
    pith_group_free(group);
    pith_ctx_free(ctx);
    return NULL;
}

static void run_threads(size_t n, pith_compressor compressor, bool reduces, uint64_t seed, worker *workers)
{
    static thread_hub hub;
    hub = (thread_hub){.n = n, .lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
    pthread_t threads[THREAD_MOST];
    for (size_t i = 0; i < n; i++) {
        workers[i] = (worker){.thread = {.hub = &hub, .rank = i, .seed = seed}, .compressor = compressor, .reduces = reduces};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < n; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < n; i++) assert_int_equal(workers[i].status, PITH_OK);
}

/* Same bytes over the wire and same weights, of every worker. */
static void test_same(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static worker workers[THREAD_MOST];
    for (size_t c = 0; c < PITH_COUNT(compressors); c++)
        for (size_t n = 1; n <= 5; n += 2) {
            case_result r;
            assert_ok(ctx, simulate(ctx, n, compressors[c], &r));
            run_threads(n, compressors[c], false, 0, workers);
            for (size_t i = 0; i < n; i++) {
                const pith_traffic *t = &workers[i].result.traffic;
                assert_true(workers[i].result.hash == r.hash);
                assert_true(n == 1 || (t->n_sums == r.traffic.n_sums && t->sum_bytes == r.traffic.sum_bytes));
                assert_true(t->n_gathers == r.traffic.n_gathers && t->gather_bytes == r.traffic.gather_bytes && t->gather_bytes_all == r.traffic.gather_bytes_all);
                assert_true(t->n_broadcasts == r.traffic.n_broadcasts && t->broadcast_bytes == r.traffic.broadcast_bytes);
                assert_int_equal(workers[i].result.report.n_layers, i == 0 ? r.report.n_layers : 0);
            }
        }
    pith_ctx_free(ctx);
}

/* A reducer of many buckets: sums in the order of the workers, whatever comes first; again and again, as timing varies. */
static void test_reducer(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static worker workers[THREAD_MOST];
    for (size_t n = 2; n <= 5; n++) {
        case_result r;
        assert_ok(ctx, case_reduce_here(ctx, n, &r));
        for (uint64_t round = 0; round < 5; round++) {
            run_threads(n, compressors[0], true, round, workers);
            for (size_t i = 0; i < n; i++) {
                assert_true(workers[i].result.hash == r.hash);
                assert_true(workers[i].result.n_buckets >= 3 && workers[i].result.early > 0);
                assert_true(workers[i].result.traffic.sum_bytes == workers[0].result.traffic.sum_bytes);
            }
        }
    }
    pith_ctx_free(ctx);
}

/* ---- what is sent ----------------------------------------------------------------------------- */

/* A step is few exchanges, and its bytes are those that are told. */
static void test_traffic(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (size_t c = 0; c < PITH_COUNT(compressors); c++) {
        pith_compressor_kind kind = compressors[c].kind;
        bool factors = kind == PITH_COMPRESS_POWER, messages = !factors && kind != PITH_COMPRESS_DENSE;
        case_net n = {0};
        pith_group *group;
        pith_exchange *x;
        assert_ok(ctx, pith_group_new(ctx, 3, &group));
        assert_ok(ctx, case_net_new(ctx, &n));
        assert_ok(ctx, pith_exchange_new(group, n.tape, &(pith_channel_options){.compressor = compressors[c], .feedback = PITH_FEEDBACK_EF}, &x));
        for (size_t i = 0; i < 3; i++) {
            assert_ok(ctx, case_pass(&n, 0, i));
            assert_ok(ctx, pith_exchange_take(x, i));
        }
        assert_int_equal(pith_exchange_take(x, 3), PITH_E_ARGUMENT);
        assert_ok(ctx, pith_exchange_step(x, 0));
        const pith_traffic *t = pith_group_traffic(group);
        assert_int_equal(t->n_sums, factors ? 3 : 1);
        assert_int_equal(t->n_gathers, messages);
        double sent = (double)t->sum_bytes + (double)t->gather_bytes_all / 3 - (messages ? 8 : 0), told = pith_exchange_bytes(x, 0);
        assert_true(fabs(sent / told - 1) < (kind == PITH_COMPRESS_TOP_K ? 0.03 : 1e-9));
        assert_int_equal(pith_exchange_tune(x, 1, 2), PITH_E_ARGUMENT); /* a vector */
        pith_exchange_free(x);
        pith_tape_free(n.tape);
        pith_group_free(group);
    }
    pith_ctx_free(ctx);
}

/* ---- parameters by layer ---------------------------------------------------------------------- */

typedef struct bench {
    pith_tape *tape;
    pith_var *low, *high;          /* a large matrix whose gradient is of rank 1, a small one of full rank */
    pith_group *group;
    pith_exchange *x;
} bench;

static void bench_new(pith_ctx *ctx, bench *b)
{
    assert_ok(ctx, pith_tape_new(ctx, 1, &b->tape));
    b->low = pith_tape_param(b->tape, "low", PITH_DIMS(80, 60));
    b->high = pith_tape_param(b->tape, "high", PITH_DIMS(40, 40));
    assert_ok(ctx, pith_group_new(ctx, 2, &b->group));
    assert_ok(ctx, pith_exchange_new(b->group, b->tape, &(pith_channel_options){.compressor = {PITH_COMPRESS_POWER, 4}, .feedback = PITH_FEEDBACK_EF}, &b->x));
}

/* Worker 0's gradients, observed; `scale` of the second. */
static void bench_observe(pith_ctx *ctx, bench *b, float scale)
{
    pith_exchange_observe(b->x, true);
    for (size_t i = 0; i < 2; i++) {
        float *low = pith_tape_own_grad(b->low), *high = pith_tape_own_grad(b->high);
        pith_rng rng = {9, 1, 0};
        for (size_t k = 0; k < b->low->count; k++) low[k] = (float)(k / 60) * (float)(k % 60) / 4800;
        for (size_t k = 0; k < b->high->count; k++) high[k] = scale * pith_rng_normal(&rng);
        assert_ok(ctx, pith_exchange_take(b->x, i));
    }
    pith_exchange_observe(b->x, false);
}

static void bench_free(bench *b)
{
    pith_exchange_free(b->x);
    pith_group_free(b->group);
    pith_tape_free(b->tape);
}

static void test_spread(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    bench b;
    pith_adapt *adapt;
    pith_adapt_report r;
    size_t n;
    bench_new(ctx, &b);
    pith_adapt_options o = {.usual = 4, .spread = true, .alpha = 1.01, .n_buckets = 10000};
    assert_ok(ctx, pith_adapt_new(b.x, &o, &adapt));
    const double *candidates = pith_adapt_candidates(adapt, &n);
    assert_int_equal(n, 7);
    for (size_t i = 0; i < n; i++) assert_true(candidates[i] == 2 + (double)i);
    bench_observe(ctx, &b, 1);
    assert_ok(ctx, pith_adapt_choose(adapt, &r));
    const pith_layer *layers = pith_exchange_layers(b.x, &n);
    /* rank 2 has no error where rank 1 is enough; the other may not err more than at 4 */
    assert_true(layers[0].param == 2 && layers[1].param == 4);
    assert_int_equal(r.n_layers, 2);
    assert_int_equal(r.n_changed, 1);
    assert_true(r.usual_size == 4 * 4 * (140 + 80) && r.size == 4 * (2 * 140 + 4 * 80));
    assert_true(r.error <= r.budget && r.budget > 0 && r.greedy_size >= r.size && r.random_size >= r.size);
    assert_true(pith_exchange_bytes(b.x, 0) == r.size && pith_exchange_bytes(b.x, 4) == r.usual_size);
    pith_adapt_free(adapt);
    o.alpha = 2; /* twice the errors: the other comes down, too */
    assert_ok(ctx, pith_adapt_new(b.x, &o, &adapt));
    assert_ok(ctx, pith_adapt_choose(adapt, &r));
    assert_true(layers[0].param == 2 && layers[1].param == 2);
    pith_adapt_free(adapt);
    o.alpha = 1;
    o.n_buckets = 1; /* errors rounded up to all there is: the usual stays */
    assert_ok(ctx, pith_adapt_new(b.x, &o, &adapt));
    assert_ok(ctx, pith_adapt_choose(adapt, &r));
    assert_true(layers[0].param == 4 && layers[1].param == 4 && r.size == r.usual_size && r.error <= r.budget * (1 + 1e-9));
    pith_adapt_free(adapt);
    o.alpha = 1e-9; /* nothing errs so little */
    assert_ok(ctx, pith_adapt_new(b.x, &o, &adapt));
    assert_int_equal(pith_adapt_choose(adapt, &r), PITH_E_SPACE);
    pith_adapt_free(adapt);
    bench_free(&b);
    pith_ctx_free(ctx);
}

static void test_accordion(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    bench b;
    pith_adapt *adapt;
    pith_adapt_report r;
    size_t n;
    static const float scales[] = {1, 1.2f, 1.9f, 1.9f, 0.9f};
    static const double params[] = {4, 2, 4, 2, 4}; /* changes of 0.2, 0.58, 0 and 0.53 */
    bench_new(ctx, &b);
    assert_ok(ctx, pith_adapt_new(b.x, &(pith_adapt_options){.usual = 4, .strict = 2, .change = 0.5, .alpha = 1, .n_buckets = 100}, &adapt));
    const pith_layer *layers = pith_exchange_layers(b.x, &n);
    for (size_t i = 0; i < PITH_COUNT(scales); i++) {
        bench_observe(ctx, &b, scales[i]);
        assert_ok(ctx, pith_adapt_choose(adapt, &r));
        assert_true(layers[1].param == params[i]);
        assert_true(layers[0].param == (i ? 2 : 4));
        assert_int_equal(r.n_critical, i == 0 ? 2 : params[i] > 2);
    }
    pith_adapt_free(adapt);
    assert_int_equal(pith_adapt_new(b.x, &(pith_adapt_options){.usual = 4.5, .alpha = 1, .n_buckets = 100}, &adapt), PITH_E_ARGUMENT);
    bench_free(&b);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *compressor)
{
    case_result r;
    return simulate(ctx, 2, *(const pith_compressor *)compressor, &r);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t c = 0; c < PITH_COUNT(compressors); c++) test_every_fault(life, &compressors[c]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same), cmocka_unit_test(test_reducer), cmocka_unit_test(test_traffic), cmocka_unit_test(test_spread), cmocka_unit_test(test_accordion), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
