/* How long an optimal prefix code is (D. Huffman, Proc. IRE 40(9), 1952).  What pith writes is coded by rANS; this is for
 * recipes whose paper counts Huffman's bits. */
#ifndef PITH_HUFFMAN_H
#define PITH_HUFFMAN_H

#include "base/base.h"

/** Bits of all symbols with these counts [n] together; a symbol that is alone takes none.  @return PITH_E_MEMORY */
pith_status pith_huffman_bits(pith_ctx *ctx, const uint64_t *count, size_t n, uint64_t *n_bits);

#endif
