/* The inner loops of the coder, one set an instruction set.  rans_ref.c defines the result. */
#ifndef PITH_RANS_KERNELS_H
#define PITH_RANS_KERNELS_H

#include "stage/code/rans.h"

#define RANS_LOW (1u << 16)                       /* states are in [2^16, 2^32) */
#define RANS_GROUP_BYTES (2 * PITH_RANS_LANES)    /* the most words a group of 32 can take */
#define RANS_SYMBOL_BITS 12
#define RANS_CONTEXT_BITS 15

/* A stream being written, from its end to its beginning. */
typedef struct rans_writer {
    uint32_t state[PITH_RANS_LANES];
    uint8_t *dst;                                 /* the first word written so far */
    uint8_t *base;                                /* no word goes below */
    bool bad;                                     /* an element without freq was seen */
} rans_writer;

/* Groups are 32 elements.  Readers go forward and stop early once src > limit; writers go from the last group
 * to the first and stop early once fewer than RANS_GROUP_BYTES are free.  All return the groups done. */
typedef struct pith_rans_kernels {
    size_t (*read_slots)(pith_rans_reader *r, const pith_rans_decoder *d, uint8_t *dst, size_t n_groups);   /* any SYMBOLS */
    size_t (*read_buckets)(pith_rans_reader *r, const pith_rans_decoder *d, uint8_t *dst, size_t n_groups); /* those with d->alias */
    size_t (*read_binary)(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups);
    size_t (*read_ternary)(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups);
    size_t (*write)(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t n_groups);
} pith_rans_kernels;

extern const pith_rans_kernels pith_rans_ref, pith_rans_avx2, pith_rans_avx512;
size_t pith_rans_write_ref(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t n_groups);

/** Part of a group: lanes 0..n-1, n < 32.  The reader's src must be <= limit; the writer must have a group's room. */
void pith_rans_read_lanes(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n);
void pith_rans_write_lanes(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t n);

#endif
