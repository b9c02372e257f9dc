/* What the layers of the embedded quantiser say about a matrix as its source has it: back from the basis
 * of the codec, with how far off each value may be.  The exact layer is coded given this, so writer and
 * reader must get the same bits: values are 16-bit numbers multiplied exactly, all else is f32 in the order
 * that docs/format.md gives. */
#ifndef PITH_PREDICT_H
#define PITH_PREDICT_H

#include "format/pith_file.h"
#include "stage/quantize/value_loops.h"
#include "tensor/kernels.h"

#define PITH_Q_UNIT 0x1p-11f

typedef struct pith_predictor {
    const pith_kernels *kernels;
    const pith_value_loops *loops;
    const pith_manifest *manifest;
    size_t n, n_pairs;               /* of the basis; ceil(n / 2) */
    int16_t *q;                      /* [n, 2 n_pairs] Q in units of PITH_Q_UNIT */
    int16_t *q_t_pairs;              /* [n_pairs, n, 2] Q', rows in pairs (tensor/gemm_whole.h) */
    float *tile_square;              /* [n, ceil(n / 16)] sum of Q[r, i]^2 over the i of a tile */
    /* where pith_exact_forward will be called: Q once more in 8 bits and less, for what is small beside the numbers it is added to */
    size_t n_fours;                  /* ceil(n / 4) */
    uint8_t *q7_t;                   /* [n, 4 n_fours] 64 + Q' in units of q7_unit [n] of its rows */
    int8_t *q8_fours;                /* [n_fours, n, 4] Q in units of q8_unit [n] of its columns, rows in fours */
    float *q7_unit, *q8_unit;
    uint8_t *sixty_four;             /* [4 n_fours] of them: a product with it is what the 64 of numbers of 7 bits add to others */
    int32_t *q8_offset;              /* [n] that of q8_fours */
} pith_predictor;
/** forward: pith_exact_forward will be called.
 *  @return PITH_E_MEMORY; PITH_E_CORRUPT: the manifest has no basis, or a matrix that does not fit it */
pith_status pith_predictor_new(pith_ctx *ctx, const pith_manifest *m, bool forward, pith_predictor *p);
void pith_predictor_free(pith_ctx *ctx, pith_predictor *p);

/* Decoded values in the codec's basis as 16-bit numbers: those of one unit, or, where rows are mixed
 * (PITH_BASIS_OUT), of the whole matrix, rows in pairs. */
typedef struct pith_latent {
    int16_t *z;                      /* [tiles * 16, blocks * 32], or [tiles * 8, blocks * 32, 2] */
    float *unit;                     /* [tiles] what 1 of z stands for: a power of two; rows mixed: [1], before column scales */
    float *noise;                    /* [tiles, blocks] likely mean square of the error, before column scales */
} pith_latent;
/** Bytes of one of n_tiles tiles, and laying it out over them. */
size_t pith_latent_bytes(const pith_coded_tensor *t, size_t n_tiles);
void pith_latent_init(pith_latent *l, const pith_coded_tensor *t, size_t n_tiles, void *memory);
/** Put a unit, as deep as it is decoded, at tile0 of l; first: the first unit of l. */
void pith_latent_put(const pith_predictor *p, const pith_coded_tensor *t, const pith_unit *u, size_t tile0, bool first, const pith_latent *l);

/** Rows row0 .. row0 + n_rows - 1 of the source (row0 a multiple of 16), given l that begins at tile tile0:
 *  the unit that has these rows, or tile 0 for PITH_BASIS_OUT.
 *  value, variance  [n_rows, blocks * 32]; columns beyond the matrix are 0
 *  scratch          pith_predict_scratch bytes */
void pith_predict(const pith_predictor *p, const pith_coded_tensor *t, const pith_latent *l, size_t tile0, size_t row0, size_t n_rows, float *value, float *variance, void *scratch);
size_t pith_predict_scratch(const pith_predictor *p, const pith_coded_tensor *t);

#endif
