/* Floating-point values as they are, in fewer bytes: f32, f16 and bf16 of trained networks.
 *
 * Of a weight's bits the sign and all of the mantissa but its first bits are as good as random, and stored as they are.  The
 * exponent and three bits of the mantissa, its key (eight to an octave), are coded by rANS as their distance from the row's
 * level, since rows differ in size more than a row's values do.  Rows all of whose values end in zero bits (what was
 * f16 or bf16 once, and was widened) store none of them, and no signs where all are alike; where there are many zeros, a bit says for each value whether it is one,
 * given how many the row has. */
#ifndef PITH_FLOATS_H
#define PITH_FLOATS_H

#include "tensor/tensor.h"

#define PITH_FLOATS_MAX_ROW 4096   /* values */

/** Whether values of this type are coded here: F32, F16, BF16. */
bool pith_floats_has(pith_dtype dtype);
/** Bytes that n values can never exceed. */
size_t pith_floats_bound(pith_dtype dtype, size_t n);

/** n values (fewer than 2^32, little-endian, at any address), `row` of them to a row (1..PITH_FLOATS_MAX_ROW), the last of which may be shorter.
 *  cap >= pith_floats_bound never fails on space.  The bytes are the same on every machine.
 *  @return PITH_E_SPACE, PITH_E_ARGUMENT (row), PITH_E_MEMORY.  thread: several may call it with one context */
pith_status pith_floats_encode(pith_ctx *ctx, pith_dtype dtype, const void *values, size_t n, size_t row, uint8_t *dst, size_t cap, size_t *len);
/** The reverse, bit for bit; src[len] may be anything.  @return PITH_E_CORRUPT (what `values` holds is undefined), PITH_E_MEMORY */
pith_status pith_floats_decode(pith_ctx *ctx, pith_dtype dtype, const uint8_t *src, size_t len, void *values, size_t n, size_t row);

#endif
