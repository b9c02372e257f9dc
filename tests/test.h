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

/* What is to survive a lack of memory: it makes, uses and gives back all that it needs, on its error paths as well. */
typedef pith_status test_life(pith_ctx *ctx, const void *user);

typedef struct test_fault_options {
    const char *name;    /* in what is said when it fails; NULL: "life" */
    int n_threads;       /* 0: one */
    long sparse;         /* where there are many: each up to the n-th fails, from there on steps grow by 1/n; 0: each */
    bool can_do_without; /* a run may end well although an allocation failed: that memory was for speed, or for what may be left out */
} test_fault_options;

/* Run `life` with each of its allocations failing in turn, the context's own among them, and at last with none.  A run with a
 * failure must end in PITH_E_MEMORY and say so, the last one in PITH_OK, and each must give back what it took.  Returns how many
 * allocations the life made in the last run, those of the context not counted. */
static inline long test_every_fault_with(test_life *life, const void *user, const test_fault_options *o)
{
    const char *name = o->name ? o->name : "life";
    for (long at = 1;; at += 1 + (o->sparse ? at / o->sparse : 0)) {
        test_faults f = {.fail_at = at};
        pith_options options = {.n_threads = o->n_threads ? o->n_threads : 1, .log_level = PITH_LOG_ERROR, .realloc = test_faulty_realloc, .realloc_user = &f};
        pith_ctx *ctx = NULL;
        pith_status status = pith_ctx_new(&options, &ctx);
        assert_true((status == PITH_OK) == (ctx != NULL));
        long n_own = f.calls;
        if (ctx) status = life(ctx, user);
        bool failed = f.calls >= at;
        bool fine = status == (failed ? PITH_E_MEMORY : PITH_OK) || (status == PITH_OK && o->can_do_without);
        if (!fine) fail_msg("%s, allocation %ld%s: %s: %s", name, at, failed ? "" : " not reached", pith_status_text(status), ctx ? pith_error(ctx) : "");
        if (ctx && status != PITH_OK && !pith_error(ctx)[0]) fail_msg("%s, allocation %ld: no sentence", name, at);
        if (ctx && pith_arena_mark(pith_scratch(ctx)).used) fail_msg("%s, allocation %ld: scratch memory was not given back", name, at);
        pith_ctx_free(ctx);
        if (f.held) fail_msg("%s, allocation %ld: %ld held", name, at, f.held);
        if (!failed) return f.calls - n_own;
    }
}

static inline long test_every_fault(test_life *life, const void *user) { return test_every_fault_with(life, user, &(test_fault_options){0}); }

#endif
