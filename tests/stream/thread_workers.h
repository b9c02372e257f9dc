/* A transport among threads of this process: as strict as MPI about order, without it.
 *
 * Each kind of exchange is numbered by each worker; number k of one is number k of all.  It is done for a worker once all
 * have taken what they need from all.  A test that could tell so often says "not yet", as timing may have it. */
#ifndef PITH_THREAD_WORKERS_H
#define PITH_THREAD_WORKERS_H

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "stream/grads/group.h"

enum { THREAD_MOST = 8, THREAD_RING = 64, THREAD_KINDS = 4 };
typedef enum thread_kind { ALL_TO_ALL, ALL_GATHER, GATHER_BYTES, BROADCAST } thread_kind;

typedef struct thread_exchange {
    uint64_t number;               /* from 1 */
    const void *data[THREAD_MOST];
    size_t count[THREAD_MOST];
    size_t n_there, n_taken;
} thread_exchange;

typedef struct thread_hub {
    size_t n;
    pthread_mutex_t lock;
    pthread_cond_t change;
    thread_exchange ring[THREAD_KINDS][THREAD_RING];
    bool broken;                   /* a worker failed: nobody waits */
} thread_hub;

typedef struct thread_worker {
    thread_hub *hub;
    size_t rank;
    uint64_t numbers[THREAD_KINDS];
    uint64_t seed, n_tests;
    bool failed;
} thread_worker;

typedef struct thread_request {
    thread_kind kind;
    uint64_t number;
    float *dst;
    size_t count;
    bool taken;
} thread_request;

static inline thread_exchange *thread_at(thread_hub *hub, thread_kind kind, uint64_t number) { return &hub->ring[kind][number % THREAD_RING]; }

/* lock held */
static inline void thread_put(thread_worker *w, thread_kind kind, const void *data, size_t count, uint64_t *number)
{
    *number = ++w->numbers[kind];
    thread_exchange *e = thread_at(w->hub, kind, *number);
    if (e->number != *number) *e = (thread_exchange){.number = *number};
    e->data[w->rank] = data;
    e->count[w->rank] = count;
    e->n_there++;
    pthread_cond_broadcast(&w->hub->change);
}

static inline bool thread_over(thread_hub *hub, thread_kind kind, uint64_t number)
{
    thread_exchange *e = thread_at(hub, kind, number);
    return e->number > number || e->n_taken == hub->n;
}

static inline bool thread_start(void *state, thread_kind kind, const float *src, float *dst, size_t count, void **request)
{
    thread_worker *w = state;
    thread_request *r = malloc(sizeof *r);
    if (!r) return false;
    *r = (thread_request){.kind = kind, .dst = dst, .count = count};
    pthread_mutex_lock(&w->hub->lock);
    thread_put(w, kind, src, count, &r->number);
    pthread_mutex_unlock(&w->hub->lock);
    *request = r;
    return true;
}

static inline bool thread_all_to_all(void *state, const float *send, float *recv, size_t count, void **request) { return thread_start(state, ALL_TO_ALL, send, recv, count, request); }
static inline bool thread_all_gather(void *state, const float *mine, float *all, size_t count, void **request) { return thread_start(state, ALL_GATHER, mine, all, count, request); }

/* Take what is there; lock held.  false: sizes differ */
static inline bool thread_take(thread_worker *w, thread_request *r)
{
    thread_exchange *e = thread_at(w->hub, r->kind, r->number);
    if (r->taken || e->number != r->number || e->n_there < w->hub->n) return true;
    for (size_t o = 0; o < w->hub->n; o++) {
        if (e->count[o] != r->count) return false;
        const float *src = (const float *)e->data[o] + (r->kind == ALL_TO_ALL ? w->rank * r->count : 0);
        memcpy(r->dst + o * r->count, src, r->count * sizeof *src);
    }
    r->taken = true;
    e->n_taken++;
    pthread_cond_broadcast(&w->hub->change);
    return true;
}

static inline bool thread_progress(thread_worker *w, void **request, bool wait)
{
    thread_request *r = *request;
    if (!r) return true;
    pthread_mutex_lock(&w->hub->lock);
    bool ok = thread_take(w, r);
    while (ok && wait && !w->hub->broken && !(r->taken && thread_over(w->hub, r->kind, r->number))) {
        pthread_cond_wait(&w->hub->change, &w->hub->lock);
        ok = thread_take(w, r);
    }
    bool done = ok && r->taken && thread_over(w->hub, r->kind, r->number);
    ok = ok && (done || !w->hub->broken);
    w->hub->broken |= !ok;
    if (!ok) pthread_cond_broadcast(&w->hub->change);
    pthread_mutex_unlock(&w->hub->lock);
    w->failed |= !ok;
    if (done || !ok) {
        free(r);
        *request = NULL;
    }
    return ok;
}

static inline bool thread_test(void *state, void **request)
{
    thread_worker *w = state;
    uint32_t draw[4];
    pith_philox(w->seed, w->rank, w->n_tests++, draw);
    nanosleep(&(struct timespec){.tv_nsec = 1000 * (draw[1] % 100)}, NULL); /* the others go on meanwhile */
    return draw[0] % 3 == 0 || thread_progress(w, request, false);
}
static inline bool thread_wait(void *state, void **request) { return thread_progress(state, request, true); }

/* data of each, lens [n], one after the other into all; BROADCAST: worker 0's alone, into all */
static inline bool thread_bytes(thread_worker *w, thread_kind kind, const void *data, void *all, const size_t *lens)
{
    thread_hub *hub = w->hub;
    uint64_t number;
    pthread_mutex_lock(&hub->lock);
    thread_put(w, kind, data, 0, &number);
    thread_exchange *e = thread_at(hub, kind, number);
    while (e->n_there < hub->n && !hub->broken) pthread_cond_wait(&hub->change, &hub->lock);
    uint8_t *dst = all;
    for (size_t o = 0; o < (kind == BROADCAST ? 1 : hub->n) && !hub->broken; o++) {
        if (lens[o] && dst != e->data[o]) memcpy(dst, e->data[o], lens[o]);
        dst += lens[o];
    }
    e->n_taken++;
    pthread_cond_broadcast(&hub->change);
    while (!thread_over(hub, kind, number) && !hub->broken) pthread_cond_wait(&hub->change, &hub->lock);
    bool ok = !hub->broken;
    pthread_mutex_unlock(&hub->lock);
    return ok;
}

static inline bool thread_gather_bytes(void *state, const void *mine, void *all, const size_t *lens) { return thread_bytes(state, GATHER_BYTES, mine, all, lens); }
static inline bool thread_broadcast(void *state, void *data, size_t len) { return thread_bytes(state, BROADCAST, data, data, &len); }

static inline const char *thread_error(void *state) { return ((thread_worker *)state)->failed ? "workers exchange arrays of different sizes" : "another worker failed, or there is no memory"; }

static inline pith_transport thread_transport(thread_worker *w)
{
    return (pith_transport){.state = w, .rank = w->rank, .size = w->hub->n, .start_all_to_all = thread_all_to_all, .start_all_gather = thread_all_gather, .test = thread_test, .wait = thread_wait,
                            .gather_bytes = thread_gather_bytes, .broadcast = thread_broadcast, .error = thread_error};
}

#endif
