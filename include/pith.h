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
    X(E_INTERNAL, 12, "an internal check failed") \
    X(E_CLAIM, 13, "a claim does not hold")

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

/* ---- models ----------------------------------------------------------------------------------- */

/* A model ready to run, with its tokenizer.  It uses its context; free it before the context. */
typedef struct pith_model pith_model;

typedef struct pith_model_options {
    bool exact;    /* keep the file's values to the last bit (f16 or f32): a reference to measure against */
    bool strict;   /* a damaged .pith is an error; else it runs at the quality that is left and says so */
} pith_model_options;

/** Open a .pith file, a GGUF file, a .safetensors file or a model folder; "-" reads a .pith from
 *  standard input, which may end early.  options may be NULL.
 *  @return PITH_E_IO, PITH_E_FORMAT, PITH_E_CORRUPT, PITH_E_UNSUPPORTED, PITH_E_MEMORY */
PITH_API pith_status pith_model_open(pith_ctx *ctx, const char *path, const pith_model_options *options, pith_model **model);
/** NULL is allowed. */
PITH_API void pith_model_free(pith_model *model);

typedef struct pith_model_info {
    char architecture[32];        /* "llama" */
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, n_vocab, n_context;
    uint64_t n_weights;           /* values in all tensors */
    uint64_t file_bytes;          /* read from the file */
    uint64_t ram_bytes;           /* held, or mapped, by the weights while running */
    double bits_per_weight;       /* of the file */
    double load_s;                /* seconds that opening took */
    bool has_tokenizer, has_chat; /* chat: a template that pith knows */
} pith_model_info;
PITH_API void pith_model_describe(const pith_model *model, pith_model_info *info);

/** Token ids of a text of len bytes, any bytes.  *ids is the caller's: pith_release(ctx, ids).
 *  @return PITH_E_UNSUPPORTED when the model has no tokenizer, PITH_E_MEMORY */
PITH_API pith_status pith_model_tokenize(pith_model *model, const char *text, size_t len, int32_t **ids, size_t *n);
/** Free what the library handed out.  NULL is allowed. */
PITH_API void pith_release(pith_ctx *ctx, void *ptr);

/* ---- generating text -------------------------------------------------------------------------- */

typedef enum pith_kv_type { PITH_KV_F16, PITH_KV_F32, PITH_KV_Q8 } pith_kv_type;

/* A conversation with a model: its cache of keys and values.  Several may use one model, one at a time.
 * Text that a new prompt shares with the last one is not computed again. */
typedef struct pith_session pith_session;

/** n_context: positions there is room for; 0: the model's own limit.
 *  @return PITH_E_LIMIT beyond the model's limit, PITH_E_UNSUPPORTED without tokenizer, PITH_E_MEMORY */
PITH_API pith_status pith_session_new(pith_model *model, size_t n_context, pith_kv_type cache, pith_session **session);
/** NULL is allowed. */
PITH_API void pith_session_free(pith_session *session);

typedef struct pith_reply_options {
    size_t max_tokens;            /* 0: until the context is full */
    float temperature;            /* 0: always the likeliest token */
    int top_k;                    /* only the k likeliest; 0: off */
    float top_p;                  /* the likeliest that reach this probability together; 1: off */
    float min_p;                  /* at least this share of the likeliest one's probability; 0: off */
    float repeat_penalty;         /* 1: off */
    int repeat_last;              /* tokens that the penalty looks back over */
    uint64_t seed;                /* same seed, same reply */
    const char *const *stop;      /* [n_stop] strings that end the reply, not part of it */
    size_t n_stop;
    /** Receives the reply in whole UTF-8 characters as it comes; false stops. */
    bool (*text)(void *user, const char *text, size_t len);
    void *user;
} pith_reply_options;
/** Values that most want: temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, no penalty, seed 0. */
PITH_API void pith_reply_defaults(pith_reply_options *options);

typedef struct pith_reply {
    size_t n_prompt;              /* tokens of the prompt */
    size_t n_reused;              /* of them still in the cache */
    size_t n_generated;
    double prefill_s, decode_s;
    const char *ended_by;         /* "end token", "stop string", "limit", "context full", "caller" */
} pith_reply;

typedef struct pith_message {
    const char *role;             /* "system", "user", "assistant" */
    const char *content;
} pith_message;

/** Reply to a conversation, in the form of the model's chat template.
 *  @return PITH_E_UNSUPPORTED (no template that pith knows), PITH_E_LIMIT (does not fit the context),
 *  PITH_E_CANCELLED, PITH_E_MEMORY; *reply then says what was done so far */
PITH_API pith_status pith_session_reply(pith_session *session, const pith_message *messages, size_t n_messages,
                                        const pith_reply_options *options, pith_reply *reply);
/** Go on with a text as it is. */
PITH_API pith_status pith_session_complete(pith_session *session, const char *text, size_t len, const pith_reply_options *options, pith_reply *reply);

/* ---- measuring -------------------------------------------------------------------------------- */

typedef struct pith_measure_options {
    size_t n_context;             /* tokens a chunk; 0: 512 */
    size_t n_chunks;              /* 0: all of the text */
    bool all_tokens;              /* score all tokens but each chunk's first; else the second half, as llama.cpp does */
} pith_measure_options;

typedef struct pith_measure {
    size_t n_chunks, n_scored;
    double perplexity, perplexity_stderr;
    bool has_reference;           /* what follows is set only with a reference */
    double kl_mean, kl_stderr, kl_p99;    /* nats a token, KL(reference || model) */
    double top1_agreement;        /* 0..1 */
    double reference_perplexity;
    double prefill_tokens_per_second;     /* always set */
} pith_measure;

/** How well a model predicts a text, and how far it is from a reference (NULL: none).
 *  @return PITH_E_ARGUMENT when the text is shorter than one chunk or the vocabularies differ */
PITH_API pith_status pith_model_measure(pith_model *model, pith_model *reference, const char *text, size_t len,
                                        const pith_measure_options *options, pith_measure *measure);

/* ---- compressing ------------------------------------------------------------------------------ */

/* A source in blocks of whole numbers (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0) can have a last layer with its exact values. */
typedef enum pith_exact_layer {
    PITH_EXACT_IF_SMALLER,         /* if the whole file is then still smaller than its source */
    PITH_EXACT_ALWAYS,
    PITH_EXACT_NEVER
} pith_exact_layer;

/* How to compress, and how large the result may be: one of size, bits, kl, or none of them for
 * everything there is.  Zero-initialise, then set what matters. */
typedef struct pith_compress_options {
    const char *text;              /* calibration text file (UTF-8); NULL: the model writes its own */
    uint64_t seed;
    uint64_t size;                 /* bytes the file may have; 0: all layers */
    double bits;                   /* bits a weight, whole file; 0: not asked */
    double kl;                     /* smallest cut whose measured KL to the source is at most this; 0: not asked */
    bool no_measure;               /* do not run the result */
    pith_exact_layer exact;        /* whether to end with the source's exact values */
} pith_compress_options;

/* A cut of the file, measured against the source on calibration text. */
typedef struct pith_measured {
    uint64_t bytes;
    double kl, predicted_kl;       /* nats a token */
} pith_measured;
#define PITH_MAX_MEASURED 16

typedef struct pith_compress_result {
    uint64_t source_bytes, file_bytes, total_bytes, floor_bytes, exact_bytes;
    size_t n_weights, n_tensors, n_packets;
    double bits_per_weight;
    double calibrate_s, code_s, measure_s;
    size_t n_measured;
    pith_measured measured[PITH_MAX_MEASURED];
} pith_compress_result;

/** Compress `source` to `target` (written beside it, then renamed).
 *  @return PITH_E_SPACE: the size is below the smallest cut (the message says which that is); and what
 *  reading, running and writing return. */
PITH_API pith_status pith_compress(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *options,
                                   pith_compress_result *result);

/** Copy the longest prefix of `source` that ends with a whole packet and fits.  *bytes: what was written.
 *  @return PITH_E_SPACE below the smallest cut, PITH_E_ARGUMENT when kl was not measured. */
PITH_API pith_status pith_cut(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *options, uint64_t *bytes);

/* ---- looking into files ----------------------------------------------------------------------- */

typedef struct pith_entry {
    const char *name, *type;       /* type: "Q4_0" …; of a .pith the source's, or "vector" */
    int n_dims;
    size_t dims[8];                /* row-major: the last is contiguous */
    uint64_t n_weights, bytes;
    /* of a .pith: */
    size_t n_packets;              /* that are there whole */
    unsigned n_levels;             /* of refinement that at least some rows have */
    bool exact;                    /* some of its exact values are there */
    double kl_saved;               /* error that the packets there are expected to take away, nats a token */
} pith_entry;

/* What is in a file, without its weights having been read. */
typedef struct pith_contents {
    const char *kind;              /* "GGUF", "safetensors", "pith" */
    uint64_t file_bytes, n_weights;
    size_t n_entries;
    const pith_entry *entries;
    /* of a .pith: */
    uint64_t total_bytes;          /* of the file before it was cut */
    uint64_t floor_bytes;          /* of the smallest cut */
    uint64_t exact_bytes;          /* from which on values are the source's; 0: never */
    uint64_t manifest_bytes;       /* before the first packet */
    uint64_t skipped_bytes;        /* damaged, passed over */
    size_t n_packets;
    const char *made;              /* how it was made and what was measured then, JSON; NULL: not a .pith */
} pith_contents;

/** @return PITH_E_IO, PITH_E_FORMAT, PITH_E_CORRUPT, PITH_E_UNSUPPORTED, PITH_E_MEMORY */
PITH_API pith_status pith_contents_read(pith_ctx *ctx, const char *path, pith_contents **contents);
/** NULL is allowed. */
PITH_API void pith_contents_free(pith_ctx *ctx, pith_contents *contents);

#ifdef __cplusplus
}
#endif
#endif
