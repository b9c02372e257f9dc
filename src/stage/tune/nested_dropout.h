/* Nested dropout: in training only the first k values of a representation are kept, k drawn anew for each step, so that
 * values are ordered by how much they matter and any prefix is a code of its own (Rippel, Gelbart, Adams,
 * arXiv:1402.0915; k by a half normal as in Chen et al., arXiv:2206.13140). */
#ifndef PITH_NESTED_DROPOUT_H
#define PITH_NESTED_DROPOUT_H

#include "grad/grad.h"

/** The length k of step's prefix, 1..n, with P(k) ~ exp(-(k / spread)^2): a function of (seed, step).  spread > 0. */
size_t pith_nested_draw(size_t n, double spread, uint64_t seed, uint64_t step);
/** x [.., n] with all but the first k of each row's values 0 (no gradient goes to those); k in 0..n. */
pith_var *pith_nested_mask(pith_var *x, size_t k);

#endif
