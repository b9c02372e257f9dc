/* The exact layer: the numbers that a block-quantised source has, given what the layers before say.
 *
 * It is worked on in regions: a unit where columns were mixed, the whole matrix where rows were.  A
 * region's units are decoded into a pith_latent; then each unit's rows of the source are predicted from it,
 * and their numbers written or read.  The writer goes the reader's way to its prediction. */
#ifndef PITH_EXACT_H
#define PITH_EXACT_H

#include "stage/quantize/grid.h"
#include "stream/weights/predict.h"

/* One worker's memory. */
typedef struct pith_exact_work {
    const pith_predictor *p;
    const pith_coded_tensor *t;
    size_t tile0, n_tiles;           /* of the region */
    uint32_t unit0, n_units;
    uint8_t *levels;                 /* [n_units] layers that were decoded */
    uint8_t *step_code;              /* [n_tiles] */
    void *unit_memory, *coding, *latent_memory, *predict, *grid;
    uint8_t *buffer;
    pith_latent latent;
    pith_grid_rows rows;             /* room for one unit's rows */
    float *value, *variance;         /* what rows.value and rows.variance point to */
    /* for pith_exact_keep and pith_exact_forward: what the source has beside its prediction, of the whole region */
    float *rest;                     /* [n_tiles * 16, blocks * 32] */
    void *rest_numbers;              /* the same as 7-bit numbers, or, where rows were mixed, 8-bit ones in fours */
    float *rest_unit;                /* of these: [rows], or [blocks * 32] */
    int32_t *rest_offset;            /* [blocks * 32] what the 64 of Q's numbers add to a product */
} pith_exact_work;

/** Bytes for any region of the tensor, and laying it out for the region that has `unit`; keep: pith_exact_keep will be called. */
size_t pith_exact_work_bytes(const pith_predictor *p, const pith_coded_tensor *t, size_t max_packet, bool keep);
void pith_exact_work_init(pith_exact_work *w, const pith_predictor *p, const pith_coded_tensor *t, uint32_t unit, size_t max_packet, bool keep, void *memory);

/** Decode the region's units, each as deep as its packets go; a damaged one ends its unit's layers and is
 *  counted in *n_damaged.  @return PITH_E_IO */
pith_status pith_exact_latent(pith_exact_work *w, const pith_models *models, pith_isa isa, pith_fetch_fn *fetch, void *user, size_t *n_damaged);
/** Predict a unit's rows of the source: w->rows has their shape, value and variance. */
void pith_exact_predict(pith_exact_work *w, uint32_t unit);

/** Where a unit's numbers are missing: 0 for predictions that are not finite, as a gain of 0 makes them. */
void pith_exact_make_finite(pith_exact_work *w);

/** With the source's numbers of a unit in w->rows: keep what its values are beside the predicted, for pith_exact_forward. */
void pith_exact_keep(pith_exact_work *w, uint32_t unit, const pith_grid *g);
/** Once all units of the region are kept: their values in the codec's basis, as fine numbers of the embedded
 *  quantiser.  Calls `take` with each unit in turn; the unit is good until it returns. */
typedef pith_status pith_take_fn(void *user, uint32_t unit, pith_unit *u);
pith_status pith_exact_forward(pith_exact_work *w, pith_take_fn *take, void *user);

/* Payload of an exact packet: the layers of each unit of the region that it was coded given, a u8 each;
 * then what grid.h makes. */
static inline size_t pith_exact_head(const pith_exact_work *w) { return w->n_units; }

#endif
