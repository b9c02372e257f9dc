/* What every test includes: cmocka, and a context that fails loudly. */
#ifndef PITH_TEST_H
#define PITH_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

static inline void test_log(void *user, pith_log_level level, const char *line)
{
    (void)user;
    fprintf(stderr, "  [%d] %s\n", (int)level, line);
}

static inline pith_ctx *test_ctx(int n_threads)
{
    pith_options o = {.n_threads = n_threads, .log_level = PITH_LOG_WARN, .log = test_log};
    pith_ctx *ctx = NULL;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    return ctx;
}

/* assert that a call succeeds, with its sentence when it does not */
#define assert_ok(ctx, call)                                                              \
    do {                                                                                  \
        pith_status s_ = (call);                                                          \
        if (s_ != PITH_OK) fail_msg("%s: %s: %s", #call, pith_status_text(s_), pith_error(ctx)); \
    } while (0)

/* An allocator that fails at call number `fail_at` (counted from 1; 0: never) and counts what is held. */
typedef struct test_faults {
    long calls, fail_at, held;
} test_faults;
static inline void *test_faulty_realloc(void *user, void *ptr, size_t size)
{
    test_faults *f = user;
    if (size == 0) {
        if (ptr) f->held--;
        free(ptr);
        return NULL;
    }
    if (++f->calls == f->fail_at) return NULL;
    if (!ptr) f->held++;
    return realloc(ptr, size);
}

/* Run `life` with each of its allocations failing in turn, the context's own among them, and at last with none: then it must
 * succeed, before that it must end in PITH_E_MEMORY, and always give back what it took. */
typedef pith_status test_life(pith_ctx *ctx, void *user);
static inline void test_every_fault(test_life *life, void *user)
{
    for (long at = 1;; at++) {
        test_faults f = {.fail_at = at};
        pith_options options = {.n_threads = 1, .log_level = PITH_LOG_ERROR, .realloc = test_faulty_realloc, .realloc_user = &f};
        pith_ctx *ctx = NULL;
        pith_status status = pith_ctx_new(&options, &ctx);
        if (status == PITH_OK) status = life(ctx, user);
        if (status != PITH_OK && status != PITH_E_MEMORY) fail_msg("allocation %ld: %s: %s", at, pith_status_text(status), pith_error(ctx));
        if (ctx) pith_ctx_free(ctx);
        if (f.held) fail_msg("allocation %ld: %ld held", at, f.held);
        if (status == PITH_OK) break;
    }
}

#endif
