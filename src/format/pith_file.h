/* The .pith container: a manifest, then packets in order of quality gained per byte, so that any prefix
 * works.  The layout is written down to the byte in docs/format.md. */
#ifndef PITH_FILE_H
#define PITH_FILE_H

#include "format/stored.h"

#define PITH_FILE_MAGIC "PITH\r\n\x1a\n" /* 8 bytes */
#define PITH_FILE_VERSION 2        /* of stored files; models that can be cut are version 1 */
#define PITH_FILE_HEADER 64
#define PITH_PACKET_HEADER 20

/* Sections of the manifest; numbers are in files, for ever. */
typedef enum pith_section_kind {
    PITH_SECTION_META = 1,     /* JSON: settings, how the file was made, what was measured */
    PITH_SECTION_VOCAB = 2,    /* the tokenizer */
    PITH_SECTION_TENSORS = 3,  /* the tensor table */
    PITH_SECTION_VECTORS = 4,  /* small tensors, by name */
    PITH_SECTION_MODELS = 5,   /* distributions of the entropy coder */
    PITH_SECTION_ROTATION = 6, /* the orthogonal basis of the residual stream */
    PITH_SECTION_EXACT = 7,    /* distributions of the exact layer; not there if the file has none */
    PITH_SECTION_FILES = 8     /* files that are stored to the bit, in place of all but META */
} pith_section_kind;

/* What was done to a matrix before it was quantised.  W is [rows, cols] as in the source. */
typedef enum pith_basis {
    PITH_BASIS_IN = 1,         /* columns: W diag(gain of the norm before it) Q */
    PITH_BASIS_OUT = 2,        /* rows: Q' W */
    PITH_BASIS_IN_PLAIN = 4    /* columns: W Q (the embedding) */
} pith_basis;

typedef struct pith_coded_tensor {
    char *name;
    uint32_t n_rows, n_cols;
    uint32_t unit_tiles;       /* tiles of 16 rows in a unit; the last unit may have fewer */
    uint32_t first_unit;       /* units are numbered through the file */
    uint32_t source_dtype;     /* pith_dtype of the source */
    uint32_t basis;            /* pith_basis bits */
    uint32_t scale;            /* 1 + index of the vector of column scales c that values were divided by; 0: none */
    float base_step;           /* step = base_step * 2^(code / 8) */
} pith_coded_tensor;
static inline uint32_t pith_coded_tiles(const pith_coded_tensor *t) { return (t->n_rows + 15) / 16; }
static inline uint32_t pith_coded_blocks(const pith_coded_tensor *t) { return (t->n_cols + 31) / 32; }
static inline uint32_t pith_coded_units(const pith_coded_tensor *t) { return PITH_CEIL_DIV(pith_coded_tiles(t), t->unit_tiles); }
/* Of one of its units, by number: the first tile, how many (the first unit has the most), and rows that are there. */
static inline size_t pith_unit_tile0(const pith_coded_tensor *t, uint32_t unit) { return (size_t)(unit - t->first_unit) * t->unit_tiles; }
static inline size_t pith_unit_tiles(const pith_coded_tensor *t, uint32_t unit) { return PITH_MIN(t->unit_tiles, pith_coded_tiles(t) - pith_unit_tile0(t, unit)); }
static inline size_t pith_unit_rows(const pith_coded_tensor *t, uint32_t unit) { return PITH_MIN(16 * pith_unit_tiles(t, unit), t->n_rows - 16 * pith_unit_tile0(t, unit)); }

typedef struct pith_vector {
    char *name;
    uint32_t n;
    float *x;                  /* [n] */
    bool coarse;               /* stored as eighth octaves (values > 0): gains that the codec chose itself */
    uint8_t *wide;             /* [n] of a coarse one, 0 or 1: columns whose numbers are much larger than the others' */
} pith_vector;

/** A coarse value, 2^((code - 128) / 8), and the nearest code of x > 0. */
float pith_coarse_value(uint8_t code);
uint8_t pith_coarse_code(float x);

typedef struct pith_bytes {
    uint8_t *data;
    size_t len;
} pith_bytes;

/* Numbers are in files, for ever. */
typedef enum pith_packet_kind {
    PITH_PACKET_LEVEL,         /* of the embedded quantiser */
    PITH_PACKET_EXACT,         /* exact values */
    PITH_PACKET_CHUNK          /* of a stored file */
} pith_packet_kind;

/* A packet as its header says. */
typedef struct pith_packet {
    uint32_t unit;
    uint32_t len;              /* payload bytes */
    float gain;                /* KL (nats a token) that it is expected to save */
    uint8_t level;
    uint8_t kind;              /* pith_packet_kind */
    uint64_t offset;           /* of the payload in the file */
    uint32_t check;            /* low 32 bits of XXH3 over the header after this field, and the payload */
} pith_packet;

/* ---- manifest --------------------------------------------------------------------------------- */

typedef struct pith_manifest {
    char *meta;                /* JSON text, NUL-terminated */
    pith_settings settings;    /* also in meta */
    pith_vocab vocab;
    size_t n_tensors, n_units, n_vectors;
    pith_coded_tensor *tensors;
    pith_vector *vectors;
    pith_bytes models;         /* of the entropy coder, see stage/quantize/embedded.h */
    pith_bytes exact_models;   /* of the exact layer, see stage/quantize/grid.h; len 0: there is none */
    pith_stored stored;        /* files to the bit; n_files 0: this is a model that can be cut.  With them there is nothing else but meta */
    uint32_t rotation_n;       /* 0: none */
    int16_t *rotation;         /* [n, n] row-major Q, in units of 2^-14 */
    uint64_t total_bytes;      /* of the whole file, uncut */
    uint64_t floor_bytes;      /* of the smallest cut that has a first layer of everything */
    uint64_t exact_bytes;      /* … that holds the source's exact values; 0: none does */
    uint64_t manifest_bytes;   /* header and sections: where the packets begin */
    size_t meta_room;          /* bytes the meta section was given; the text is padded with spaces */
    pith_arena *arena;         /* owns what a reader made; NULL on the writer's side */
} pith_manifest;

/** Write header and sections, but for exact_models; totals may be patched later with pith_manifest_patch. */
pith_status pith_manifest_write(pith_ctx *ctx, pith_out *out, pith_manifest *m);
/** Directly after it: write exact_models. */
pith_status pith_manifest_write_exact(pith_ctx *ctx, pith_out *out, pith_manifest *m);
/** Once the packets are written: put the header's totals and what `meta` says by then in place. */
pith_status pith_manifest_patch(pith_ctx *ctx, pith_out *out, const pith_manifest *m);
void pith_manifest_free(pith_ctx *ctx, pith_manifest *m);

/** A packet's header and payload. */
pith_status pith_packet_write(pith_out *out, const pith_packet *p, const uint8_t *payload);

/* ---- reading ---------------------------------------------------------------------------------- */

/* A .pith open for reading: a file (read with pread, so that it never counts as memory held) or a pipe
 * (kept in an unlinked temporary file while it arrives). */
typedef struct pith_reader {
    pith_manifest manifest;
    int fd;
    uint64_t file_bytes;       /* that are there */
    size_t n_packets;
    pith_packet *packets;      /* in file order; all headers lie within the file and name a unit and level of it */
    uint64_t n_skipped;        /* bytes passed over because no packet could be read there */
    char *path;
} pith_reader;

/** Open (as if the file ended after max_bytes; 0: all of it), read the manifest and the headers of all packets that are there whole.  Payloads are not read.
 *  A damaged header: one warning, and reading goes on at the next whole packet.
 *  @return PITH_E_IO, PITH_E_FORMAT (not a .pith, or cut within the manifest: says how many bytes it needs),
 *  PITH_E_CORRUPT (manifest damaged), PITH_E_UNSUPPORTED (a later version). */
pith_status pith_reader_open(pith_ctx *ctx, const char *path, uint64_t max_bytes, pith_reader *r);
/** From memory: for the fuzzer and tests. */
pith_status pith_reader_open_memory(pith_ctx *ctx, const uint8_t *data, size_t len, pith_reader *r);
void pith_reader_close(pith_ctx *ctx, pith_reader *r);
/** Payload of a packet into dst[p->len], checksum tested.  Safe from several threads (message not set).
 *  @return PITH_E_IO, PITH_E_CORRUPT */
pith_status pith_reader_payload(const pith_reader *r, const pith_packet *p, uint8_t *dst);
const pith_vector *pith_manifest_vector(const pith_manifest *m, const char *name);
/** The vector with the source's gain of a norm, given the name of its scales: "X.gain" of "X.weight"; NULL: there is none. */
const pith_vector *pith_manifest_gain(const pith_manifest *m, const char *scales);
/** The tensor of a unit. */
const pith_coded_tensor *pith_manifest_tensor_of_unit(const pith_manifest *m, uint32_t unit);

#endif
