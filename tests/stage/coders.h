/* What tests of coders share: a context for each instruction set, and memory that tells what was written beside it. */
#ifndef PITH_TEST_CODERS_H
#define PITH_TEST_CODERS_H

#include "test.h"

#define FENCE 63                    /* odd, so that what is fenced begins at an odd address */
#define PAINT 0xa5

/* ---- contexts --------------------------------------------------------------------------------- */

static pith_ctx *ctxs[4];           /* one for each instruction set that is here */
static size_t n_ctxs;

static inline int make_contexts(void **state)
{
    (void)state;
    char *was = getenv("PITH_CPU") ? strdup(getenv("PITH_CPU")) : NULL;
    pith_ctx *ctx = test_ctx(1);
    for (pith_isa isa = PITH_ISA_SCALAR; isa <= PITH_ISA_AVX512; isa++) {
        pith_cpu cpu;
        if (pith_cpu_detect(ctx, pith_isa_name(isa), &cpu) != PITH_OK) continue;
        setenv("PITH_CPU", pith_isa_name(isa), 1);
        ctxs[n_ctxs] = test_ctx(1);
        assert_int_equal(pith_ctx_cpu(ctxs[n_ctxs++])->isa, isa);
    }
    if (was) setenv("PITH_CPU", was, 1);
    else unsetenv("PITH_CPU");
    free(was);
    pith_ctx_free(ctx);
    return 0;
}

static inline int drop_contexts(void **state)
{
    (void)state;
    while (n_ctxs) pith_ctx_free(ctxs[--n_ctxs]);
    return 0;
}

/* ---- memory ----------------------------------------------------------------------------------- */

/* Bytes at an odd address between painted ones. */
static inline uint8_t *fenced(size_t len)
{
    uint8_t *all = malloc(len + 2 * FENCE);
    assert_non_null(all);
    memset(all, PAINT, len + 2 * FENCE);
    return all + FENCE;
}

static inline bool painted(const uint8_t *p, size_t n)
{
    bool all = true;
    for (size_t i = 0; i < n; i++) all &= p[i] == PAINT;
    return all;
}

static inline bool fence_holds(const uint8_t *p, size_t len) { return painted(p - FENCE, FENCE) && painted(p + len, FENCE); }
static inline void drop_fenced(uint8_t *p) { free(p - FENCE); }

#endif
