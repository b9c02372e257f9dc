/* What the layers of the embedded quantiser say about a matrix as its source has it: back from the basis
 * of the codec, with how far off each value may be.  The exact layer is coded given this, so writer and
 * reader must get the same bits: f32, in the order that docs/format.md gives. */
#ifndef PITH_PREDICT_H
#define PITH_PREDICT_H

#include "format/pith_file.h"
#include "stage/quantize/embedded.h"
#include "tensor/kernels.h"

typedef struct pith_predictor {
    const pith_kernels *kernels;
    const pith_manifest *manifest;
    size_t n;                        /* of the basis */
    float *q, *q_t;                  /* [n, n] Q and Q' */
    float *tile_square;              /* [n, ceil(n / 16)] sum of Q[r, i]^2 over the i of a tile */
} pith_predictor;
/** @return PITH_E_MEMORY; PITH_E_CORRUPT: the manifest has no basis, or a matrix that does not fit it */
pith_status pith_predictor_new(pith_ctx *ctx, const pith_manifest *m, pith_predictor *p);
void pith_predictor_free(pith_ctx *ctx, pith_predictor *p);

/* Decoded values in the codec's basis: those of one unit, or, where rows are mixed (PITH_BASIS_OUT), of the whole matrix. */
typedef struct pith_latent {
    float *z;                        /* [tiles * 16, blocks * 32], column scales multiplied on */
    float *noise;                    /* [tiles, blocks] likely mean square of the error, before column scales */
} pith_latent;
/** Bytes of one of n_tiles tiles, and laying it out over them. */
size_t pith_latent_bytes(const pith_coded_tensor *t, size_t n_tiles);
void pith_latent_init(pith_latent *l, const pith_coded_tensor *t, size_t n_tiles, void *memory);
/** Put a unit, as deep as it is decoded, at tile0 of l. */
void pith_latent_put(const pith_predictor *p, const pith_coded_tensor *t, const pith_unit *u, size_t tile0, const pith_latent *l);

/** Rows row0 .. row0 + n_rows - 1 of the source (row0 a multiple of 16), given l that begins at tile tile0:
 *  the unit that has these rows, or tile 0 for PITH_BASIS_OUT.
 *  value, variance  [n_rows, blocks * 32]; columns beyond the matrix are 0
 *  scratch          pith_predict_scratch bytes */
void pith_predict(const pith_predictor *p, const pith_coded_tensor *t, const pith_latent *l, size_t tile0, size_t row0, size_t n_rows, float *value, float *variance, void *scratch);
size_t pith_predict_scratch(const pith_predictor *p, const pith_coded_tensor *t);

#endif
