/* The numbers of a block-quantised matrix, coded to the bit given a prediction of its values.
 *
 * GGUF's block types of 32 values say value = d * q + m with whole numbers q, a scale d and maybe a minimum
 * m in f16.  A reader that has an approximation of each value, and knows how far off it may be, has most of
 * q, d and m already; what is missing is coded here by rANS, with distributions chosen by how large the
 * error is in units of d, and by where between two whole numbers (and how near to the end of the range) the
 * prediction lies.  Both sides compute these contexts in single f32 operations in a fixed order, so that
 * they agree on every machine; docs/format.md has them. */
#ifndef PITH_GRID_H
#define PITH_GRID_H

#include "stage/code/rans.h"
#include "tensor/qmat.h"

/* A type's grid: q = u + low, u in 0..n_levels-1 (what blocks store, but for Q8_0's signed bytes). */
typedef struct pith_grid {
    int low, n_levels;
    bool has_min;
    unsigned bits;
    float span;                          /* d = (a block's high end - its low end) / span, as ggml's quantisers make it: the low end is m or, without minima,
                                          * 0; the high end is the largest value, or, without minima, the one of largest magnitude (Q8_0: its magnitude) */
} pith_grid;
/** false: the type has no such grid (it is not of blocks of 32 with f16 scales). */
bool pith_grid_of(pith_dtype dtype, pith_grid *g);

/* Some rows of a matrix, n_blocks blocks of 32 values each. */
typedef struct pith_grid_rows {
    size_t n_rows, n_blocks;
    const float *value, *variance;       /* [n_rows, n_blocks * 32] prediction, and the square of its likely error */
    uint8_t *u;                          /* [n_rows, n_blocks * 32] */
    uint16_t *d, *m;                     /* [n_rows, n_blocks] f16; m is not used without minima */
} pith_grid_rows;
/** Take rows of blocks apart, as they lie in a GGUF file. */
void pith_grid_split(pith_dtype dtype, const uint8_t *blocks, pith_grid_rows *r);

/* ---- distributions ---------------------------------------------------------------------------- */

#define PITH_GRID_SCALE_CLASSES 13
#define PITH_GRID_ERROR_CLASSES 23
#define PITH_GRID_MODELS (2 * PITH_GRID_SCALE_CLASSES + PITH_GRID_ERROR_CLASSES * 32)

typedef struct pith_grid_models {
    bool used[PITH_GRID_MODELS];
    pith_rans_model model[PITH_GRID_MODELS];
} pith_grid_models;

typedef struct pith_grid_counts {
    uint64_t count[PITH_GRID_MODELS][256];
} pith_grid_counts;

/* Models of one kind that differ in their class alone stand in for each other: what falls under one that is not
 * used goes by the nearest class that is, the lower of two. */
/** Fit to what was counted (changed: models not used are added to those that stand in).  @return PITH_E_ARGUMENT */
pith_status pith_grid_fit(pith_grid_counts *c, pith_grid_models *m);
/** To bytes and back.  Each used model is a u16 with its number and the model as rans.h writes it; 65535 ends.
 *  @return PITH_E_SPACE; PITH_E_CORRUPT */
#define PITH_GRID_MODEL_BYTES (PITH_GRID_MODELS * (2 + (size_t)PITH_RANS_MODEL_BYTES) + 2)
pith_status pith_grid_models_write(const pith_grid_models *m, uint8_t *dst, size_t cap, size_t *len);
pith_status pith_grid_models_read(const uint8_t *src, size_t len, pith_grid_models *m);

/* ---- coding ----------------------------------------------------------------------------------- */

/** Bytes of scratch (64-byte aligned), and of a coded result at most. */
size_t pith_grid_scratch(size_t n_rows, size_t n_blocks);
size_t pith_grid_bound(size_t n_rows, size_t n_blocks);

/** Add what coding these rows needs to `counts`.  raw: pith_grid_bound bytes that are overwritten. */
void pith_grid_count(const pith_grid *g, const pith_grid_rows *r, pith_isa isa, pith_grid_counts *counts, void *scratch, uint8_t *raw);
/** Tables of the used models, made once.  Ownership: caller frees with pith_free.  NULL: out of memory. */
typedef struct pith_grid_encoders pith_grid_encoders;
typedef struct pith_grid_decoders pith_grid_decoders;
pith_grid_encoders *pith_grid_encoders_new(pith_ctx *ctx, const pith_grid_models *m);
pith_grid_decoders *pith_grid_decoders_new(pith_ctx *ctx, const pith_grid_models *m);
/** cap >= pith_grid_bound.  @return PITH_E_SPACE; PITH_E_ARGUMENT: something falls under a model that was never counted */
pith_status pith_grid_encode(const pith_grid *g, const pith_grid_rows *r, const pith_grid_encoders *e, pith_isa isa, uint8_t *dst, size_t cap, size_t *len, void *scratch);
/** Fills r->u, r->d, r->m.  @return PITH_E_CORRUPT: what they hold is undefined */
pith_status pith_grid_decode(const pith_grid *g, const pith_grid_rows *r, const pith_grid_decoders *d, pith_isa isa, const uint8_t *src, size_t len, void *scratch);

/** Bits that a number takes, about, when the prediction's likely error is `ratio` times d. */
double pith_grid_bits(double ratio);
#define PITH_GRID_SCALE_BITS 8.3          /* likewise of a scale or a minimum; some 3 less where they are made of bf16 values */

#endif
