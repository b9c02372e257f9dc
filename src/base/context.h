/* What a context holds; for src/base only. */
#ifndef PITH_CONTEXT_H
#define PITH_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"

typedef struct pith_pool pith_pool;

struct pith_ctx {
    pith_options options;
    char error[1024];
    pthread_mutex_t error_lock;
    atomic_size_t memory_used, memory_peak;
    pith_arena *scratch;
    pith_pool *pool;
    pith_cpu cpu;
    const char *progress_what;
    double progress_start_s, progress_last_s;
    uint64_t progress_from;
};

pith_status pith_pool_new(pith_ctx *ctx, int n_threads, pith_pool **pool);
void pith_pool_free(pith_ctx *ctx, pith_pool *pool);
int pith_pool_size(const pith_pool *pool);

#endif
