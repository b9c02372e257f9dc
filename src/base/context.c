/* The context: options, the last error's sentence, counted memory, log and progress. */
#include "base/context.h"

#include <stdlib.h>
#include <time.h>

#include "config.h"

const char *pith_version(void) { return PITH_VERSION; }

const char *pith_status_text(pith_status status)
{
    switch (status) {
#define X(name, number, text) \
    case PITH_##name: return text;
        PITH_STATUSES(X)
#undef X
    }
    return "unknown status";
}

static void *libc_realloc(void *user, void *ptr, size_t size)
{
    (void)user;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, size);
}

pith_status pith_ctx_new(const pith_options *options, pith_ctx **out)
{
    pith_options o = options ? *options : (pith_options){0};
    if (!out || o.n_threads < 0 || o.n_threads > 1024) return PITH_E_ARGUMENT;
    if (!o.realloc) o.realloc = libc_realloc;
    pith_ctx *ctx = o.realloc(o.realloc_user, NULL, sizeof *ctx);
    if (!ctx) return PITH_E_MEMORY;
    memset(ctx, 0, sizeof *ctx);
    ctx->options = o;
    pthread_mutex_init(&ctx->error_lock, NULL);
    pith_status status = pith_cpu_detect(ctx, getenv("PITH_CPU"), &ctx->cpu);
    if (status == PITH_OK && !(ctx->scratch = pith_arena_new(ctx))) status = PITH_E_MEMORY;
    if (status == PITH_OK) status = pith_pool_new(ctx, o.n_threads ? o.n_threads : ctx->cpu.n_cores, &ctx->pool);
    if (status != PITH_OK) {
        if (o.log) o.log(o.user, PITH_LOG_ERROR, ctx->error);
        pith_ctx_free(ctx);
        return status;
    }
    *out = ctx;
    return PITH_OK;
}

void pith_ctx_free(pith_ctx *ctx)
{
    if (!ctx) return;
    pith_pool_free(ctx, ctx->pool);
    pith_arena_free(ctx->scratch);
    pthread_mutex_destroy(&ctx->error_lock);
    ctx->options.realloc(ctx->options.realloc_user, ctx, 0);
}

const char *pith_error(const pith_ctx *ctx) { return ctx->error; }
pith_arena *pith_scratch(pith_ctx *ctx) { return ctx->scratch; }
const pith_cpu *pith_ctx_cpu(const pith_ctx *ctx) { return &ctx->cpu; }
int pith_n_threads(const pith_ctx *ctx) { return pith_pool_size(ctx->pool); }

pith_status pith_fail(pith_ctx *ctx, pith_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&ctx->error_lock);
    vsnprintf(ctx->error, sizeof ctx->error, format, args);
    pthread_mutex_unlock(&ctx->error_lock);
    va_end(args);
    return status;
}

pith_status pith_fail_at(pith_ctx *ctx, pith_status status, const char *format, ...)
{
    char text[sizeof ctx->error], prefix[512];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    pthread_mutex_lock(&ctx->error_lock);
    memcpy(text, ctx->error, sizeof text);
    snprintf(ctx->error, sizeof ctx->error, "%s: %.*s", prefix, (int)(sizeof text - sizeof prefix - 3), text);
    pthread_mutex_unlock(&ctx->error_lock);
    return status;
}

/* ---- memory ----------------------------------------------------------------------------------- */

/* Each block is preceded by its size and the start of the malloc'd region, within PITH_ALIGN bytes. */
typedef struct block_head {
    void *base;
    size_t size;
} block_head;

#define MAX_BLOCK ((size_t)1 << (sizeof(size_t) > 4 ? 46 : 31)) /* half of what a processor can address: surely a mistake */

static block_head *head_of(void *ptr) { return (block_head *)((uint8_t *)ptr - sizeof(block_head)); }

void *pith_alloc(pith_ctx *ctx, size_t size)
{
    size_t total;
    if (!pith_add(PITH_MAX(size, 1), PITH_ALIGN + sizeof(block_head), &total) || total > MAX_BLOCK) total = SIZE_MAX;
    size_t used = atomic_fetch_add(&ctx->memory_used, size) + size;
    size_t limit = ctx->options.memory_limit;
    uint8_t *base = NULL;
    if (total != SIZE_MAX && used >= size && (!limit || used <= limit))
        base = ctx->options.realloc(ctx->options.realloc_user, NULL, total);
    if (!base) {
        atomic_fetch_sub(&ctx->memory_used, size);
        pith_fail(ctx, PITH_E_MEMORY, "out of memory: %zu bytes asked for, %zu held%s", size, used - size,
                  limit && used > limit ? ", over the context's memory limit" : "");
        return NULL;
    }
    size_t peak = atomic_load(&ctx->memory_peak);
    while (used > peak && !atomic_compare_exchange_weak(&ctx->memory_peak, &peak, used)) { }
    uint8_t *ptr = (uint8_t *)PITH_ROUND_UP((uintptr_t)base + sizeof(block_head), PITH_ALIGN);
    *head_of(ptr) = (block_head){base, size};
    return ptr;
}

void *pith_array(pith_ctx *ctx, size_t count, size_t size)
{
    size_t total;
    return pith_alloc(ctx, pith_mul(count, size, &total) ? total : SIZE_MAX);
}

void *pith_calloc(pith_ctx *ctx, size_t count, size_t size)
{
    void *ptr = pith_array(ctx, count, size);
    if (ptr) memset(ptr, 0, count * size);
    return ptr;
}

void *pith_resize(pith_ctx *ctx, void *ptr, size_t size)
{
    void *bigger = pith_alloc(ctx, size);
    if (!bigger) return NULL;
    if (ptr) memcpy(bigger, ptr, PITH_MIN(size, head_of(ptr)->size));
    pith_free(ctx, ptr);
    return bigger;
}

void pith_free(pith_ctx *ctx, void *ptr)
{
    if (!ptr) return;
    atomic_fetch_sub(&ctx->memory_used, head_of(ptr)->size);
    ctx->options.realloc(ctx->options.realloc_user, head_of(ptr)->base, 0);
}

char *pith_strndup(pith_ctx *ctx, const char *text, size_t len)
{
    char *copy = pith_alloc(ctx, len == SIZE_MAX ? len : len + 1);
    if (!copy) return NULL;
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

char *pith_strdup(pith_ctx *ctx, const char *text) { return pith_strndup(ctx, text, strlen(text)); }
size_t pith_memory_used(const pith_ctx *ctx) { return atomic_load(&ctx->memory_used); }
size_t pith_memory_peak(const pith_ctx *ctx) { return atomic_load(&ctx->memory_peak); }

/* ---- log and progress ------------------------------------------------------------------------- */

void pith_log(pith_ctx *ctx, pith_log_level level, const char *format, ...)
{
    if (!ctx->options.log || level > ctx->options.log_level) return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->options.log(ctx->options.user, level, line);
}

double pith_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

pith_status pith_progress(pith_ctx *ctx, const char *what, uint64_t done, uint64_t total)
{
    const pith_options *o = &ctx->options;
    if (o->cancelled && o->cancelled(o->user)) return pith_fail(ctx, PITH_E_CANCELLED, "interrupted during: %s", what);
    if (!o->progress) return PITH_OK;
    double now = pith_now_s();
    bool first = !ctx->progress_what || strcmp(ctx->progress_what, what) != 0 || done < ctx->progress_from;
    if (first) {
        ctx->progress_what = what;
        ctx->progress_start_s = now;
        ctx->progress_from = done;
    } else if (done < total && now - ctx->progress_last_s < 0.1) {
        return PITH_OK;
    }
    ctx->progress_last_s = now;
    double left = -1;
    if (done > ctx->progress_from && total >= done)
        left = (now - ctx->progress_start_s) * (double)(total - done) / (double)(done - ctx->progress_from);
    o->progress(o->user, what, done, total, left);
    if (done >= total) ctx->progress_what = NULL;
    return PITH_OK;
}
