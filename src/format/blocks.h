/* Block types: what their files share.  A decoder turns n_blocks blocks into values in the order of operations that the
 * PyPI package gguf uses, so that results agree to the last bit; layouts are those of ggml (ggml-common.h). */
#ifndef PITH_BLOCKS_H
#define PITH_BLOCKS_H

#include "format/model_file.h"

typedef void pith_block_decoder(const uint8_t *src, size_t n_blocks, float *dst);

/** The decoder of a type, NULL when it is of another family. */
pith_block_decoder *pith_decoder_legacy(pith_dtype dtype); /* Q4_0 … Q8_1, and the small ones: TQ, MXFP4, NVFP4, Q1_0, Q2_0 */
pith_block_decoder *pith_decoder_k(pith_dtype dtype);      /* Q2_K … Q8_K */
pith_block_decoder *pith_decoder_iq(pith_dtype dtype);     /* IQ1 … IQ4 */

static inline float pith_block_f16(const uint8_t *p) { return pith_f16_to_f32(pith_le16(p)); }

#endif
