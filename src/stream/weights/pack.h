/* From the numbers of the embedded quantiser, or of the source, to the form that is multiplied with: low-bit blocks as wide
 * as most of their numbers need, and outliers for the rest.  Nothing is held as f32 on the way. */
#ifndef PITH_PACK_H
#define PITH_PACK_H

#include "format/pith_file.h"
#include "stage/quantize/embedded.h"
#include "stage/quantize/grid.h"
#include "stream/weights/outliers.h"

/* A unit in its run form. */
typedef struct pith_packed {
    pith_qmat m;                 /* its rows; in row mode, or in the modes of blocks in the source's basis */
    float *columns;              /* [rows in whole tiles, n_wide] */
    size_t *start;               /* [n_tiles + 1] of the single values of each tile */
    pith_outlier *single;
} pith_packed;
void pith_packed_free(pith_ctx *ctx, pith_packed *p);

/** Pack a decoded unit of n_rows rows of t.  The numbers in u are changed on the way.
 *  wide   [n_cols] 1 for the n_wide columns that are kept apart; not read if n_wide is 0
 *  @return PITH_E_MEMORY */
pith_status pith_pack_unit(pith_ctx *ctx, const pith_coded_tensor *t, pith_unit *u, size_t n_rows, const uint8_t *wide, size_t n_wide, pith_packed *p);

/** The rows of a unit as their source has them, or predictions of them, with as many bits as the likely error
 *  leaves a meaning to; `start` and `single` are not there then.
 *  decoded  rows->u, d and m are the source's numbers; else rows->value is what is packed
 *  @return PITH_E_MEMORY */
pith_status pith_pack_rows(pith_ctx *ctx, const pith_grid *g, const pith_grid_rows *rows, size_t n_cols, bool decoded, pith_packed *p);

/** The operator of a tensor from all its units, in order; they are freed, also on error.  @return PITH_E_MEMORY */
pith_status pith_pack_join(pith_ctx *ctx, const pith_coded_tensor *t, pith_packed *units, const uint8_t *wide, size_t n_wide, pith_operator **op);

#endif
