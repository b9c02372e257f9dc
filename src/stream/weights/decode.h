/* From the packets of a .pith to operators, on all threads; nothing is held as f32 but for the region that a
 * thread is at. */
#ifndef PITH_DECODE_H
#define PITH_DECODE_H

#include "format/pith_file.h"
#include "stream/weights/operator.h"

typedef struct pith_decoded {
    pith_operator **matrix;      /* [n_tensors]; taken out by whoever uses them */
    bool source_basis;           /* matrices are as the source has them; else in the codec's basis */
    size_t n_missing;            /* units without a first layer: zero */
    size_t n_damaged;            /* packets */
    size_t n_exact;              /* units with the source's own numbers */
} pith_decoded;

/** Decode everything that is there.  If every matrix but the embedding has its exact packets, the model comes in
 *  its source's basis, where these are as they were; else in the codec's, where such as are exact are
 *  packed in a few bits more than the layers before had.
 *  @return PITH_E_MEMORY, PITH_E_IO, PITH_E_CORRUPT (with message) */
pith_status pith_decode(pith_ctx *ctx, const pith_reader *r, pith_decoded *d);
void pith_decoded_free(pith_ctx *ctx, size_t n_tensors, pith_decoded *d);

#endif
