/* A low-bit matrix with a few of its values beside it in f32: whole columns, and single values.  That a
 * handful of values far above the others is what makes low widths costly, and that keeping them apart is
 * cheap, is from T. Dettmers et al., arXiv:2208.07339 (columns) and arXiv:2306.03078 (single values). */
#ifndef PITH_OUTLIERS_H
#define PITH_OUTLIERS_H

#include "stream/weights/operator.h"

typedef struct pith_outlier {
    uint32_t at;                 /* column * 16 + row within its tile */
    float value;                 /* added to what the low-bit matrix says there */
} pith_outlier;

typedef struct pith_outliers {
    size_t n_columns;            /* at most PITH_MAX_OUTLIER_COLUMNS */
    uint32_t *column;            /* [n_columns] */
    float *columns;              /* [rows in whole tiles, n_columns] added likewise */
    size_t *start;               /* [n_tiles + 1] of each tile's single values; NULL: there are none */
    pith_outlier *single;
} pith_outliers;
#define PITH_MAX_OUTLIER_COLUMNS 64

void pith_outliers_free(pith_ctx *ctx, pith_outliers *o); /* *o becomes all zero */

/** The operator of the sum.  `low` and *o move into it on success, and are untouched on error.
 *  @return PITH_E_MEMORY */
pith_status pith_operator_with_outliers(pith_ctx *ctx, pith_operator *low, pith_outliers *o, pith_operator **op);

#endif
