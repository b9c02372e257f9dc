/* The thread pool.  ./check also runs this file under the thread sanitizer. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "test.h"

#define N_MAX 5000

typedef struct work {
    atomic_int seen[N_MAX];
    atomic_int inside[64];      /* tasks that a worker is in: never more than one */
    atomic_int overlaps, bad_workers;
    int n_workers;
    double out[N_MAX];          /* plain: each index is written by one task and read after the loop */
} work;

static void count(void *arg, size_t i, int worker)
{
    work *w = arg;
    if (worker < 0 || worker >= w->n_workers) {
        atomic_fetch_add(&w->bad_workers, 1);
        return;
    }
    if (atomic_fetch_add(&w->inside[worker], 1) != 0) atomic_fetch_add(&w->overlaps, 1);
    atomic_fetch_add(&w->seen[i], 1);
    w->out[i] = (double)i * 0.5;
    atomic_fetch_sub(&w->inside[worker], 1);
}

static void check_pool(int n_threads)
{
    static const size_t sizes[] = {0, 1, 2, 3, 17, 1000, N_MAX};
    pith_ctx *ctx = test_ctx(n_threads);
    assert_int_equal(pith_n_threads(ctx), n_threads);
    work *w = calloc(1, sizeof *w);
    assert_non_null(w);
    for (size_t s = 0; s < PITH_COUNT(sizes); s++) {
        memset(w, 0, sizeof *w);
        w->n_workers = n_threads;
        pith_parallel(ctx, sizes[s], count, w);
        for (size_t i = 0; i < N_MAX; i++) {
            assert_int_equal(w->seen[i], i < sizes[s]);
            if (i < sizes[s]) assert_true(w->out[i] == (double)i * 0.5);
        }
        assert_int_equal(w->overlaps, 0);
        assert_int_equal(w->bad_workers, 0);
    }
    free(w);
    pith_ctx_free(ctx);
}

static void test_one(void **state) { (void)state; check_pool(1); }
static void test_two(void **state) { (void)state; check_pool(2); }
static void test_many(void **state) { (void)state; check_pool(7); /* more than the cores of most test machines */ }

/* Many short loops, with pauses now and then so that workers go to sleep and must be woken. */
static void add(void *arg, size_t i, int worker)
{
    (void)worker;
    atomic_fetch_add((atomic_long *)arg, (long)i);
}

static void test_many_loops(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(3);
    atomic_long sum = 0;
    for (int loop = 0; loop < 2000; loop++) {
        pith_parallel(ctx, 5, add, &sum);
        if (loop % 500 == 499) usleep(2000);
    }
    assert_int_equal(sum, 2000 * (0 + 1 + 2 + 3 + 4));
    pith_ctx_free(ctx);
}

/* Contexts are independent: two at once, each with its pool, used from two threads. */
static void *other_context(void *arg)
{
    pith_ctx *ctx = NULL;
    if (pith_ctx_new(&(pith_options){.n_threads = 2}, &ctx) != PITH_OK) return NULL;
    for (int loop = 0; loop < 200; loop++) pith_parallel(ctx, 4, add, arg);
    pith_ctx_free(ctx);
    return arg;
}

static void test_two_contexts(void **state)
{
    (void)state;
    pthread_t thread;
    atomic_long a = 0, b = 0;
    assert_int_equal(pthread_create(&thread, NULL, other_context, &a), 0);
    assert_ptr_equal(other_context(&b), &b);
    void *result = NULL;
    pthread_join(thread, &result);
    assert_ptr_equal(result, &a);
    assert_int_equal(a, 200 * 6);
    assert_int_equal(b, 200 * 6);
}

/* Memory may be taken and given back by the tasks themselves. */
static void take(void *arg, size_t i, int worker)
{
    pith_ctx *ctx = arg;
    (void)worker;
    void *p = pith_alloc(ctx, 100 + i);
    if (p) memset(p, 1, 100 + i);
    pith_free(ctx, p);
}

static void test_allocation_in_tasks(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(4);
    size_t before = pith_memory_used(ctx);
    pith_parallel(ctx, 2000, take, ctx);
    assert_int_equal(pith_memory_used(ctx), before);
    assert_true(pith_memory_peak(ctx) > before);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),        cmocka_unit_test(test_two),          cmocka_unit_test(test_many),
        cmocka_unit_test(test_many_loops), cmocka_unit_test(test_two_contexts), cmocka_unit_test(test_allocation_in_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
