/* A pool of threads for short parallel loops.  Workers spin a moment before they sleep: a token's
 * decode runs hundreds of loops of some ten microseconds, and waking a thread costs about as much.
 *
 * A loop passes a gate: workers enter while it is open, and the caller, once no task is left, shuts it and
 * waits for those inside alone.  A worker that the system has not run in the meantime (other programs
 * have the core) is not waited for; it comes too late and sees that. */
#include <pthread.h>

#include "base/context.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

#define SPINS 20000 /* about 100 us on the processors at hand before a worker sleeps */

typedef struct worker {
    pith_pool *pool;
    int id;
    pthread_t thread;
} worker;

struct pith_pool {
    int n_threads, n_spins;
    worker *workers;      /* n_threads - 1; the caller is worker 0 */
    pith_task *task;
    void *arg;
    size_t n;
    _Alignas(64) atomic_size_t next;      /* index of the next task */
    _Alignas(64) _Atomic uint64_t gate;   /* loops so far << 32 | flags | workers inside */
    atomic_int n_sleeping;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake, left;
};

#define GATE_OPEN (UINT64_C(1) << 31)
#define GATE_WATCHED (UINT64_C(1) << 30) /* the caller sleeps until the last one leaves */
#define GATE_INSIDE (GATE_WATCHED - 1)

static unsigned loops_of(uint64_t gate) { return (unsigned)(gate >> 32); }

static void drain(pith_pool *pool, int id)
{
    for (size_t i; (i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < pool->n;)
        pool->task(pool->arg, i, id);
}

static unsigned wait_for_work(pith_pool *pool, unsigned seen)
{
    for (int spin = 0; spin < pool->n_spins; spin++) {
        unsigned now = loops_of(atomic_load_explicit(&pool->gate, memory_order_acquire));
        if (now != seen) return now;
        RELAX();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->n_sleeping, 1);
    unsigned now;
    while ((now = loops_of(atomic_load(&pool->gate))) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->n_sleeping, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static bool enter(pith_pool *pool)
{
    uint64_t gate = atomic_load(&pool->gate);
    while (gate & GATE_OPEN)
        if (atomic_compare_exchange_weak(&pool->gate, &gate, gate + 1)) return true;
    return false;
}

static void leave(pith_pool *pool)
{
    uint64_t before = atomic_fetch_sub(&pool->gate, 1);
    if ((before & GATE_INSIDE) != 1 || !(before & GATE_WATCHED)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->left);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    pith_pool *pool = w->pool;
    for (unsigned seen = 0;;) {
        seen = wait_for_work(pool, seen);
        if (atomic_load(&pool->stop)) return NULL;
        if (!enter(pool)) continue;
        drain(pool, w->id);
        leave(pool);
    }
}

/* The next loop; flags: GATE_OPEN, or 0 to wake everyone. */
static void announce(pith_pool *pool, uint64_t flags)
{
    atomic_store(&pool->gate, (uint64_t)(loops_of(atomic_load(&pool->gate)) + 1) << 32 | flags);
    if (atomic_load(&pool->n_sleeping) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void shut(pith_pool *pool)
{
    uint64_t gate = atomic_fetch_and(&pool->gate, ~GATE_OPEN);
    for (int spin = 0; gate & GATE_INSIDE; spin++) {
        if (spin >= pool->n_spins) break;
        RELAX();
        gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
    }
    if (!(gate & GATE_INSIDE)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_or(&pool->gate, GATE_WATCHED);
    while (atomic_load(&pool->gate) & GATE_INSIDE) pthread_cond_wait(&pool->left, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

pith_status pith_pool_new(pith_ctx *ctx, int n_threads, pith_pool **out)
{
    pith_pool *pool = pith_calloc(ctx, 1, sizeof *pool);
    if (!pool) return PITH_E_MEMORY;
    *out = pool;
    pool->n_threads = 1;
    /* Spinning only helps while every thread has a core to itself. */
    pool->n_spins = n_threads <= ctx->cpu.n_cores ? SPINS : 0;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->left, NULL);
    if (n_threads == 1) return PITH_OK;
    pool->workers = pith_calloc(ctx, (size_t)n_threads - 1, sizeof *pool->workers);
    if (!pool->workers) return PITH_E_MEMORY;
    for (int i = 0; i < n_threads - 1; i++) {
        pool->workers[i] = (worker){.pool = pool, .id = i + 1};
        if (pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]) != 0) {
            pith_log(ctx, PITH_LOG_WARN, "could start only %d of %d threads", i + 1, n_threads);
            break;
        }
        pool->n_threads++;
    }
    return PITH_OK;
}

void pith_pool_free(pith_ctx *ctx, pith_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->stop, true);
    announce(pool, 0);
    for (int i = 0; i < pool->n_threads - 1; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    pthread_cond_destroy(&pool->left);
    pith_free(ctx, pool->workers);
    pith_free(ctx, pool);
}

int pith_pool_size(const pith_pool *pool) { return pool->n_threads; }

void pith_parallel(pith_ctx *ctx, size_t n, pith_task *task, void *arg)
{
    pith_pool *pool = ctx->pool;
    if (n <= 1 || pool->n_threads == 1) {
        for (size_t i = 0; i < n; i++) task(arg, i, 0);
        return;
    }
    pool->task = task;
    pool->arg = arg;
    pool->n = n;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    announce(pool, GATE_OPEN);
    drain(pool, 0);
    shut(pool);
}
