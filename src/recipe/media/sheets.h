/* How many bytes images take in the formats that everyone has. */
#ifndef PITH_SHEETS_H
#define PITH_SHEETS_H

#include "base/base.h"

/* Grey images [n, height, width] as sheets of up to `columns` by `columns` of them, each sheet a file; what is left of the last
 * sheet's rows is as wide, and black.  *len: the files' bytes together. */
typedef struct pith_sheets {
    const uint8_t *x;
    size_t n, height, width, columns;
} pith_sheets;

/** PNG: the smaller of unfiltered and adaptively filtered rows, zlib's level 9.  @return PITH_E_ARGUMENT (a sheet is too large),
 *  PITH_E_MEMORY, PITH_E_INTERNAL */
pith_status pith_sheets_png(pith_ctx *ctx, const pith_sheets *sheets, uint64_t *len);
/** WebP without loss, level 9 (the slowest).  *there is false, and nothing else is done, where libwebp is not installed; pith_error says so.
 *  @return as above */
pith_status pith_sheets_webp(pith_ctx *ctx, const pith_sheets *sheets, bool *there, uint64_t *len);

#endif
