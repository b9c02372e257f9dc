/* The table of files that a .pith stores to the bit: their names, and what lies where in them. */
#ifndef PITH_STORED_H
#define PITH_STORED_H

#include "format/model_file.h"

#define PITH_CHUNK_MAX ((uint32_t)16 << 20) /* bytes of a chunk at most */

/* A stretch of a file: one tensor, or what is none. */
typedef struct pith_stretch {
    uint64_t at, len;          /* bytes: where in the file it begins (not stored), and how many */
    uint32_t dtype;            /* 1 + pith_dtype of its values; 0: bytes of any kind */
    uint32_t row;              /* values of a row, of floats (stage/code/floats.h); else 0 */
    uint32_t chunk;            /* bytes of its chunks, but for the last: each is coded by itself, as a packet */
    uint64_t first_chunk;      /* chunks are numbered through */
} pith_stretch;
static inline uint64_t pith_stretch_chunks(const pith_stretch *s) { return (s->len - 1) / s->chunk + 1; } /* it has a byte at least */

typedef struct pith_stored_file {
    const char *name;          /* relative, with '/' between folders; a table is in their order */
    uint64_t len, first_chunk;
    size_t n_stretches;
    pith_stretch *stretches;   /* one after the other they are the file */
} pith_stored_file;

typedef struct pith_stored {
    bool is_folder;            /* what was in a folder; else one file (the header says it, not the table) */
    size_t n_files, n_chunks;
    pith_stored_file *files;
} pith_stored;

/** Whether a file may have this name: one that stays within the folder that files are put in, and that can be printed. */
bool pith_stored_name(pith_str name);

struct pith_writer;
struct pith_cursor;
/** As a section, and back; what is read lies in the arena.  @return PITH_E_CORRUPT, PITH_E_MEMORY */
void pith_stored_put(struct pith_writer *w, const pith_stored *s);
pith_status pith_stored_get(pith_ctx *ctx, pith_arena *arena, struct pith_cursor *c, pith_stored *s);
/** The file and stretch of a chunk, and where in the file it begins; returns its bytes. */
uint32_t pith_stored_chunk(const pith_stored *s, uint64_t chunk, const pith_stored_file **file, const pith_stretch **stretch, uint64_t *at);

#endif
