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

/** Bytes of a scalar; 0 for texts and arrays. */
size_t pith_gguf_type_bytes(pith_gguf_type type);

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

/* ---- writing ---------------------------------------------------------------------------------- */

/* Keys and the tensor table first, then the tensors' bytes in the order declared:
 *     pith_gguf_writer_open, _put_* and _settings, _vocab, _keys_of, _declare in any order; _data until
 *     all tensors are whole; _close.
 * The file is GGUF v3, little-endian, alignment 32; it appears under its name only at _close.  After an
 * error the caller still owes a _discard. */
typedef struct pith_gguf_writer pith_gguf_writer;

pith_status pith_gguf_writer_open(pith_ctx *ctx, const char *path, pith_gguf_writer **w);
/** One key.  @return PITH_E_ARGUMENT for a key already there or after the first byte of data, PITH_E_MEMORY */
pith_status pith_gguf_put_u32(pith_gguf_writer *w, const char *key, uint32_t v);
pith_status pith_gguf_put_f32(pith_gguf_writer *w, const char *key, float v);
pith_status pith_gguf_put_bool(pith_gguf_writer *w, const char *key, bool v);
pith_status pith_gguf_put_str(pith_gguf_writer *w, const char *key, pith_str s);
/** A list of n values of a scalar type, little-endian in memory, or of texts. */
pith_status pith_gguf_put_array(pith_gguf_writer *w, const char *key, pith_gguf_type item_type, const void *values, size_t n);
pith_status pith_gguf_put_strs(pith_gguf_writer *w, const char *key, const pith_str *strings, size_t n);
/** The keys that say what `settings` and `vocab` say.  Llama 3's scaling has no keys: declare the F32 tensor
 *  rope_freqs.weight [rope_dims/2] with pith_llama3_factors.  No architecture: nothing is written. */
pith_status pith_gguf_put_settings(pith_gguf_writer *w, const pith_settings *settings);
pith_status pith_gguf_put_vocab(pith_gguf_writer *w, const pith_vocab *vocab);
/** All keys of a GGUF file as they are, but for those already put, its alignment and its parts' numbers. */
pith_status pith_gguf_put_keys_of(pith_gguf_writer *w, const pith_model_file *from);
/** A tensor; dims row-major (the last is contiguous), at most four.
 *  @return PITH_E_UNSUPPORTED for a type GGUF does not have, PITH_E_SHAPE for broken blocks, PITH_E_LIMIT for
 *  names over 63 bytes (llama.cpp's limit), PITH_E_ARGUMENT for a name already there */
pith_status pith_gguf_declare(pith_gguf_writer *w, const char *name, pith_dtype dtype, int n_dims, const size_t *dims);
/** The next bytes of the tensors, in pieces of any size that do not reach over a tensor's end. */
pith_status pith_gguf_data(pith_gguf_writer *w, const void *data, size_t len);
/** Finish and put the file in place; frees `w` also on error.  @return PITH_E_ARGUMENT when bytes are missing */
pith_status pith_gguf_writer_close(pith_gguf_writer *w);
void pith_gguf_writer_discard(pith_gguf_writer *w); /* NULL is allowed */

#endif
