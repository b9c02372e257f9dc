/* GGUF v2 and v3 (ggml-org/ggml, docs/gguf.md): reading from memory, and a streaming writer.
 * All integers are little-endian; big-endian files are refused. */
#ifndef PITH_GGUF_H
#define PITH_GGUF_H

#include "format/model_file.h"

/* ---- reading ---------------------------------------------------------------------------------- */

typedef enum pith_gguf_type {
    PITH_GGUF_U8, PITH_GGUF_I8, PITH_GGUF_U16, PITH_GGUF_I16, PITH_GGUF_U32, PITH_GGUF_I32, PITH_GGUF_F32,
    PITH_GGUF_BOOL, PITH_GGUF_STRING, PITH_GGUF_ARRAY, PITH_GGUF_U64, PITH_GGUF_I64, PITH_GGUF_F64,
    PITH_GGUF_N_TYPES
} pith_gguf_type;

/* A key, checked to lie inside the file with all it holds. */
typedef struct pith_gguf_key {
    pith_str name;
    pith_gguf_type type;
    pith_gguf_type item_type;       /* of an array's values; else = type */
    size_t n;                       /* values of an array; else 1 */
    const uint8_t *data;            /* the first value */
    const uint8_t *end;             /* behind the last */
} pith_gguf_key;

/* A parsed file.  Points into the file's bytes; the arrays live in the arena given. */
typedef struct pith_gguf {
    const char *path;               /* for messages */
    const uint8_t *data;
    size_t len;
    uint32_t version;
    size_t alignment, data_start;
    size_t n_keys, n_tensors;
    pith_gguf_key *keys;            /* in file order; names are unique */
    pith_named_tensor *tensors;     /* in file order; names are unique, data does not overlap */
} pith_gguf;

/** Check the whole structure of a file in memory.  `data` must outlive the result.
 *  @return PITH_E_FORMAT (not GGUF), PITH_E_UNSUPPORTED (version, tensor type), PITH_E_CORRUPT, PITH_E_MEMORY */
pith_status pith_gguf_parse(pith_ctx *ctx, pith_arena *arena, const char *path, const void *data, size_t len, pith_gguf *g);
const pith_gguf_key *pith_gguf_find(const pith_gguf *g, const char *name);
/** What the keys say of the network and its tokenizer, checked for range.  @return PITH_E_CORRUPT */
pith_status pith_gguf_settings(pith_ctx *ctx, const pith_gguf *g, pith_settings *settings);
pith_status pith_gguf_vocab(pith_ctx *ctx, pith_arena *arena, const pith_gguf *g, pith_vocab *vocab);
/** Every key as text. */
pith_status pith_gguf_meta(pith_arena *arena, const pith_gguf *g, size_t *n_meta, pith_meta **meta);

/** Fill a model file whose bytes are file->maps[0]: what pith_model_file_open does once the file is mapped.
 *  Further shards named by the keys are mapped too. */
pith_status pith_gguf_open(pith_ctx *ctx, pith_model_file *file);
/** Open a file held in memory, which stays the caller's and must outlive the result (tests, fuzzing). */
pith_status pith_gguf_open_memory(pith_ctx *ctx, const char *path, const void *data, size_t len, pith_model_file **file);

#endif
