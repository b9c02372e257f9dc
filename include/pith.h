/* pith: compress what neural networks store, move and compute, and run on the compressed form.
 *
 * The public C API.  Everything here follows three rules:
 *   - a function that can fail takes a pith_ctx first and returns a pith_status; the context then
 *     holds one sentence that says what was wrong, where, and what to do (pith_error);
 *   - outputs are the last parameters and are untouched on error unless the comment says otherwise;
 *   - nothing aborts on bad input and nothing is kept in global state.
 * A context is used by one thread at a time; it owns the threads that do the work. */
#ifndef PITH_H
#define PITH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PITH_API __attribute__((visibility("default")))
#else
#define PITH_API
#endif

/* ---- status ----------------------------------------------------------------------------------- */

/* name, pinned number, what it means to a person */
#define PITH_STATUSES(X) \
    X(OK, 0, "ok") \
    X(E_ARGUMENT, 1, "an argument is out of range") \
    X(E_MEMORY, 2, "out of memory") \
    X(E_IO, 3, "a file cannot be read or written") \
    X(E_FORMAT, 4, "the file is not what it says it is") \
    X(E_CORRUPT, 5, "the file is damaged") \
    X(E_UNSUPPORTED, 6, "not supported") \
    X(E_SHAPE, 7, "shapes do not fit") \
    X(E_SPACE, 8, "the space given is too small") \
    X(E_NONFINITE, 9, "a value is not finite") \
    X(E_LIMIT, 10, "a limit is exceeded") \
    X(E_CANCELLED, 11, "interrupted") \
    X(E_INTERNAL, 12, "an internal check failed")

typedef enum pith_status {
#define X(name, number, text) PITH_##name = number,
    PITH_STATUSES(X)
#undef X
} pith_status;

/** The meaning of a status, a constant string; never NULL. */
PITH_API const char *pith_status_text(pith_status status);

/* ---- context ---------------------------------------------------------------------------------- */

typedef struct pith_ctx pith_ctx;

typedef enum pith_log_level {
    PITH_LOG_ERROR,
    PITH_LOG_WARN,  /* every fallback and everything unexpected: one line */
    PITH_LOG_INFO,
    PITH_LOG_DEBUG
} pith_log_level;

/** Everything a context can be told.  Zero-initialise, then set what matters. */
typedef struct pith_options {
    int n_threads;              /* 0: one per physical core that this process may use */
    pith_log_level log_level;   /* messages above this level are dropped before formatting */
    /** Receives each log line (no newline).  NULL: nothing is written anywhere. */
    void (*log)(void *user, pith_log_level level, const char *line);
    /** Receives progress: `done` of `total` units of `what`, and seconds left (< 0: unknown yet). */
    void (*progress)(void *user, const char *what, uint64_t done, uint64_t total, double left_s);
    /** Asked between pieces of work; true stops the call with PITH_E_CANCELLED. */
    bool (*cancelled)(void *user);
    void *user;                 /* handed to the callbacks above */
    /** realloc-like allocator: size 0 frees, NULL means failure.  NULL: the C library's. */
    void *(*realloc)(void *user, void *ptr, size_t size);
    void *realloc_user;
    size_t memory_limit;        /* bytes this context may hold at once; 0: no limit */
} pith_options;

/** Make a context.  @return PITH_E_MEMORY, PITH_E_ARGUMENT.  options may be NULL. */
PITH_API pith_status pith_ctx_new(const pith_options *options, pith_ctx **ctx);
/** Stop the threads and release everything.  NULL is allowed. */
PITH_API void pith_ctx_free(pith_ctx *ctx);
/** The sentence of the last failed call on this context ("" if none); valid until the next call. */
PITH_API const char *pith_error(const pith_ctx *ctx);

/** "0.1.0" */
PITH_API const char *pith_version(void);

#ifdef __cplusplus
}
#endif
#endif
