/* Rice codes (R. F. Rice, JPL 79-22, 1979) for small whole numbers of about geometric distribution: gaps between indices.
 * A number is its quotient by 2^p in ones and a zero, then p bits; p is chosen for the list and stands in its first byte.
 * A quotient of 24 or more is 24 ones and the number in 32 bits, so that no list is much larger than it was. */
#ifndef PITH_RICE_H
#define PITH_RICE_H

#include "base/base.h"

/** Bytes that n numbers take at most; SIZE_MAX: too many. */
size_t pith_rice_bound(size_t n);
/** dst has pith_rice_bound(n) bytes.  @return bytes written */
size_t pith_rice_encode(const uint32_t *x, size_t n, uint8_t *dst);
/** n numbers from src [len]; false when they are not all there.  used: bytes they took */
bool pith_rice_decode(const uint8_t *src, size_t len, uint32_t *x, size_t n, size_t *used);

#endif
