/* Model files to the bit, in fewer bytes: `pith compress --lossless`.
 *
 * Any files are taken; of GGUF and safetensors, which are known to be made of tensors, floating-point values and blocks of 32 numbers
 * are coded by what they are (stage/code/floats.h, blocks.h), all else by zstd.  Chunks of one to four megabytes are coded each by
 * itself, on all threads, decoded and compared before they are written.  Beside the files, which are mapped, that takes some 5 to 12
 * megabytes for each of four chunks a thread. */
#ifndef PITH_LOSSLESS_H
#define PITH_LOSSLESS_H

#include "format/pith_file.h"

#define PITH_LOSSLESS_MAX_TYPES 64

/* What the stretches of a type came to. */
typedef struct pith_lossless_type {
    uint32_t dtype;                /* as in pith_stretch: 0 is what is no tensor, or has no coder of its own */
    uint64_t bytes, coded;
} pith_lossless_type;

typedef struct pith_lossless_result {
    uint64_t source_bytes, file_bytes;
    size_t n_files, n_tensors, n_types;
    pith_lossless_type types[PITH_LOSSLESS_MAX_TYPES]; /* most bytes first */
    double seconds;
} pith_lossless_result;

/** A file, or a folder with all that is in it, into one .pith.  The result is the same for any number of threads.
 *  Links are followed; empty folders, times and permissions are not kept.
 *  @return PITH_E_IO, PITH_E_ARGUMENT (the target is the source), PITH_E_LIMIT, PITH_E_CORRUPT (a chunk did not come back as it was),
 *  PITH_E_MEMORY, PITH_E_CANCELLED */
pith_status pith_lossless_compress(pith_ctx *ctx, const char *source, const char *target, pith_lossless_result *result);

/** Bytes of the chunks that a tensor is coded in: of floats in rows of so many values, or of blocks. */
uint32_t pith_lossless_chunk_bytes(pith_dtype dtype, size_t row);

/** Whether an open .pith is such a one. */
static inline bool pith_is_lossless(const pith_reader *r) { return r->manifest.stored.n_files > 0; }
/** What it was made of: a file at `target`, or in a folder `target`, which is made, what was in the folder.  Files that are there are
 *  replaced once they are whole.  @return PITH_E_CORRUPT (cut or damaged), PITH_E_IO, PITH_E_MEMORY, PITH_E_CANCELLED */
pith_status pith_lossless_restore(pith_ctx *ctx, const pith_reader *r, const char *target);
/** One chunk, of the packet that holds it, into dst [pith_stored_chunk]; payload [packet->len] is overwritten.  Safe from several threads.
 *  @return PITH_E_CORRUPT, PITH_E_IO, PITH_E_MEMORY */
pith_status pith_lossless_chunk(pith_ctx *ctx, const pith_reader *r, const pith_packet *packet, uint8_t *payload, uint8_t *dst);

#endif
