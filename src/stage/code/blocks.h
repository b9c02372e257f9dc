/* GGUF's blocks of 32 numbers as they are, in fewer bytes: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0.
 *
 * Numbers are coded by rANS, where blocks have a minimum with a distribution for each place that zero has among them: the
 * numbers near it are the frequent ones.  Scales are coded as floats; where they were made of bf16 values, which is told by
 * their being reproduced, those values take their place. */
#ifndef PITH_CODE_BLOCKS_H
#define PITH_CODE_BLOCKS_H

#include "tensor/tensor.h"

#define PITH_BLOCKS_MAX ((size_t)1 << 20) /* blocks at once */

/** Whether blocks of this type are coded here. */
bool pith_blocks_has(pith_dtype dtype);
/** Bytes that n blocks can never exceed. */
size_t pith_blocks_bound(size_t n);
/** n <= PITH_BLOCKS_MAX blocks as they lie in a file.  cap >= pith_blocks_bound never fails on space.  The bytes are the same on
 *  every machine.  @return PITH_E_SPACE, PITH_E_MEMORY.  thread: several may call it with one context */
pith_status pith_blocks_encode(pith_ctx *ctx, pith_dtype dtype, const uint8_t *blocks, size_t n, uint8_t *dst, size_t cap, size_t *len);
/** The reverse, bit for bit; src[len] may be anything.  @return PITH_E_CORRUPT (what `blocks` holds is undefined), PITH_E_MEMORY */
pith_status pith_blocks_decode(pith_ctx *ctx, pith_dtype dtype, const uint8_t *src, size_t len, uint8_t *blocks, size_t n);

#endif
