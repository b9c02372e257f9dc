/* The ground everything stands on: status and message, memory, log and progress, threads, files.
 * Internal; include <pith.h> for what users see. */
#ifndef PITH_BASE_H
#define PITH_BASE_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pith.h"

#define PITH_TRY(call)                       \
    do {                                     \
        pith_status status_ = (call);        \
        if (status_ != PITH_OK) return status_; \
    } while (0)

/* For functions with a single exit: `status` must be in scope. */
#define PITH_GOTO(call, label)               \
    do {                                     \
        status = (call);                     \
        if (status != PITH_OK) goto label;   \
    } while (0)

#define PITH_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PITH_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PITH_MAX(a, b) ((a) > (b) ? (a) : (b))
#define PITH_CEIL_DIV(a, b) (((a) + (b) - 1) / (b))
#define PITH_ROUND_UP(a, b) (PITH_CEIL_DIV(a, b) * (b))
#define PITH_UNUSED __attribute__((unused))
#define PITH_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define PITH_ALIGN 64 /* every block of memory we hand out, and every tensor in our files */

/* ---- errors ----------------------------------------------------------------------------------- */

/** Store the sentence in the context and return `status`, so that `return pith_fail(...)` reads well.
 *  The sentence says what, where (file, tensor, offset), value and limit, and what to do. */
pith_status pith_fail(pith_ctx *ctx, pith_status status, const char *format, ...) PITH_PRINTF(3, 4);
/** Put "prefix: " before the sentence already stored: the caller knows the file, the callee the place. */
pith_status pith_fail_at(pith_ctx *ctx, pith_status status, const char *format, ...) PITH_PRINTF(3, 4);

/* ---- memory ----------------------------------------------------------------------------------- */

/* The library's only way to the heap.  Blocks are PITH_ALIGN-aligned and counted against the
 * context's memory_limit.  On failure the context's error is set and NULL comes back.
 * Thread-safe. */
void *pith_alloc(pith_ctx *ctx, size_t size);                     /* uninitialised; size 0 is 1 byte */
void *pith_calloc(pith_ctx *ctx, size_t count, size_t size);      /* zeroed, product checked */
void *pith_array(pith_ctx *ctx, size_t count, size_t size);       /* uninitialised, product checked */
void *pith_resize(pith_ctx *ctx, void *ptr, size_t size);         /* old block stays valid on failure */
void pith_free(pith_ctx *ctx, void *ptr);                         /* NULL is allowed */
char *pith_strdup(pith_ctx *ctx, const char *text);
char *pith_strndup(pith_ctx *ctx, const char *text, size_t len);
char *pith_format(pith_ctx *ctx, const char *format, ...) PITH_PRINTF(2, 3);
size_t pith_memory_used(const pith_ctx *ctx);
size_t pith_memory_peak(const pith_ctx *ctx);

/** a*b and a+b into *out; false on overflow.  For every size that comes from a file. */
static inline bool pith_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool pith_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* A stack of memory for one piece of work: take, then go back to a mark.  It grows by blocks and
 * keeps them, so that the second step of a loop allocates nothing. */
typedef struct pith_arena pith_arena;
typedef struct pith_mark {
    void *block;
    size_t used;
} pith_mark;
pith_arena *pith_arena_new(pith_ctx *ctx);
void pith_arena_free(pith_arena *arena);
void *pith_arena_take(pith_arena *arena, size_t size);            /* NULL: memory; error is set */
pith_mark pith_arena_mark(const pith_arena *arena);
void pith_arena_reset(pith_arena *arena, pith_mark mark);
/** The context's own arena, for scratch that does not outlive a call (mark, take, reset). */
pith_arena *pith_scratch(pith_ctx *ctx);

/* ---- log and progress ------------------------------------------------------------------------- */

void pith_log(pith_ctx *ctx, pith_log_level level, const char *format, ...) PITH_PRINTF(3, 4);
/** Report work; cheap enough to call often (callbacks are limited to ten a second, first and last
 *  always).  @return PITH_E_CANCELLED if the user asked to stop. */
pith_status pith_progress(pith_ctx *ctx, const char *what, uint64_t done, uint64_t total);
double pith_now_s(void); /* monotonic clock, seconds */

/* ---- threads ---------------------------------------------------------------------------------- */

typedef void pith_task(void *arg, size_t index, int worker);
/** Run task(arg, i, worker) for i in 0..n-1 over the context's threads and wait.  worker is in
 *  0..pith_n_threads-1 and unique among the tasks that run at one moment.  Tasks must not call
 *  pith_parallel or pith_fail on the same context; they report by fields of arg.
 *  Results must not depend on which worker ran what. */
void pith_parallel(pith_ctx *ctx, size_t n, pith_task *task, void *arg);
int pith_n_threads(const pith_ctx *ctx);

/* ---- processor -------------------------------------------------------------------------------- */

typedef enum pith_isa { PITH_ISA_SCALAR, PITH_ISA_NEON, PITH_ISA_AVX2, PITH_ISA_AVX512 } pith_isa;
typedef struct pith_cpu {
    pith_isa isa;          /* the kernel set in use: the best one present, or PITH_CPU from the environment */
    bool avx2, avx512;     /* avx2 with fma and f16c; avx512 f, bw, vl, dq */
    bool avx512_vnni, avx512_bf16, avx512_vbmi, avx_vnni;
    bool neon, neon_dot;
    bool limited;          /* PITH_CPU asked for less than is there */
    int n_cores;           /* physical cores this process may use */
    char name[64];         /* as the processor calls itself */
} pith_cpu;
/** Detected once per context; PITH_CPU=scalar|avx2|avx512|neon lowers it, a set not present is an error. */
const pith_cpu *pith_ctx_cpu(const pith_ctx *ctx);
pith_status pith_cpu_detect(pith_ctx *ctx, const char *wanted, pith_cpu *cpu);
const char *pith_isa_name(pith_isa isa);

/* ---- random numbers --------------------------------------------------------------------------- */

/* Counter-based (Philox4x32-10, Salmon et al., SC 2011): the value is a pure function of (seed,
 * stream, index), so results do not depend on threads or order. */
typedef struct pith_rng {
    uint64_t seed, stream, index;
} pith_rng;
void pith_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]);
uint32_t pith_rng_u32(pith_rng *rng);
/** 32 random bits as a number in [0, 1), by their upper 24. */
static inline float pith_uniform_of(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }
float pith_rng_uniform(pith_rng *rng);              /* [0, 1) */
float pith_rng_normal(pith_rng *rng);               /* mean 0, variance 1 */
uint32_t pith_rng_below(pith_rng *rng, uint32_t n); /* 0..n-1 without bias; n >= 1 */

/* ---- hashing ---------------------------------------------------------------------------------- */

uint64_t pith_hash(const void *data, size_t len); /* XXH3, 64 bits */

/* ---- files ------------------------------------------------------------------------------------ */

/* A file mapped read-only.  data is NULL when len is 0. */
typedef struct pith_map {
    const uint8_t *data;
    size_t len;
    char *path;            /* owned, for messages */
    bool owned_memory;     /* read from a pipe into memory instead of mapped */
} pith_map;
pith_status pith_map_open(pith_ctx *ctx, const char *path, pith_map *map);
void pith_map_close(pith_ctx *ctx, pith_map *map);
/** Bytes of the map that were read and are not needed soon: their pages no longer count as ours.
 *  Reading them again is allowed.  Bytes outside the map, and maps in memory, are left alone. */
void pith_map_forget(const pith_map *map, const void *data, size_t len);

/* A file being written beside its target under a temporary name; the target appears whole or not at
 * all.  pith_out_close renames, pith_out_discard removes; one of them must be called.  A signal
 * handler may call pith_out_discard_all. */
typedef struct pith_out pith_out;
pith_status pith_out_open(pith_ctx *ctx, const char *path, pith_out **out);  /* "-" is standard output */
pith_status pith_out_write(pith_out *out, const void *data, size_t len);
pith_status pith_out_pad(pith_out *out, size_t alignment);        /* zeros up to a multiple */
uint64_t pith_out_tell(const pith_out *out);
/** Flush, and the name under which what was written so far can be read; NULL for a pipe. */
pith_status pith_out_so_far(pith_out *out, const char **path);
pith_status pith_out_patch(pith_out *out, uint64_t offset, const void *data, size_t len); /* not on a pipe */
pith_status pith_out_close(pith_out *out);                        /* flush, fsync, rename, free */
void pith_out_discard(pith_out *out);                             /* NULL is allowed */
void pith_out_discard_all(void);                                  /* async-signal-safe: unlink every open temporary */
/** Before long work: whether a file could be written at `path`, and that this would not replace `source`.
 *  @return PITH_E_IO, PITH_E_ARGUMENT (they are the same file), PITH_E_MEMORY */
pith_status pith_out_check(pith_ctx *ctx, const char *path, const char *source);

/* ---- folders ---------------------------------------------------------------------------------- */

/** With its parents; one that is there is fine.  @return PITH_E_IO, PITH_E_MEMORY */
pith_status pith_folder_make(pith_ctx *ctx, const char *path);
/** A new one for what lasts no longer than the work, in $TMPDIR or /tmp; free with pith_free once pith_folder_remove has it.
 *  @return PITH_E_IO, PITH_E_MEMORY */
pith_status pith_folder_scratch(pith_ctx *ctx, char **path);
/** With all that is in it; one that is not there is fine.  @return PITH_E_IO */
pith_status pith_folder_remove(pith_ctx *ctx, const char *path);
/** The folder of caches, ${XDG_CACHE_HOME:-~/.cache}, is the one text and then the other.  @return false: neither is set */
bool pith_cache_root(const char **root, const char **below);
/** ${XDG_CACHE_HOME:-~/.cache}/pith/<name>, which need not be there; free with pith_free.  @return PITH_E_IO (neither
 *  is set), PITH_E_MEMORY */
pith_status pith_cache_path(pith_ctx *ctx, const char *name, char **path);

/* ---- little-endian fields of files ------------------------------------------------------------ */

static inline uint16_t pith_le16(const void *p) { const uint8_t *b = p; return (uint16_t)(b[0] | b[1] << 8); }
static inline uint32_t pith_le32(const void *p) { const uint8_t *b = p; return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24; }
static inline uint64_t pith_le64(const void *p) { return (uint64_t)pith_le32(p) | (uint64_t)pith_le32((const uint8_t *)p + 4) << 32; }
static inline void pith_put16(void *p, uint16_t v) { uint8_t *b = p; b[0] = (uint8_t)v; b[1] = (uint8_t)(v >> 8); }
static inline void pith_put32(void *p, uint32_t v) { uint8_t *b = p; for (int i = 0; i < 4; i++) b[i] = (uint8_t)(v >> 8 * i); }
static inline void pith_put64(void *p, uint64_t v) { uint8_t *b = p; for (int i = 0; i < 8; i++) b[i] = (uint8_t)(v >> 8 * i); }

#endif
