/* What every fuzz target includes: its entry, a check that is in each build, a context, a copy of the input. */
#ifndef PITH_FUZZ_H
#define PITH_FUZZ_H

#include <stdlib.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static inline void require(bool always) { if (!always) abort(); }

/* One thread, and a limit on memory (0: none): a length that lies is an error, not gigabytes. */
static inline pith_ctx *fuzz_ctx(size_t memory_limit)
{
    pith_ctx *ctx;
    require(pith_ctx_new(&(pith_options){.n_threads = 1, .memory_limit = memory_limit}, &ctx) == PITH_OK);
    return ctx;
}

/* To be changed, and of exactly its size, so that a sanitizer sees reads beyond it; free() it. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    require(copy != NULL);
    memcpy(copy, data, len);
    return copy;
}

#endif
