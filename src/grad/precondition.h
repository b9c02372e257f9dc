/* Updates that look at a parameter as a whole; for optimizer.c.  Each puts the update in the gradient's place. */
#ifndef PITH_GRAD_PRECONDITION_H
#define PITH_GRAD_PRECONDITION_H

#include "grad/tape.h"

/** Mean of x^2, in an order that does not depend on threads; 0 of none. */
double pith_mean_square(pith_tape *tape, const float *x, size_t n);
/** g, m [n_rows, n_cols]: m = momentum m + factor g; g = the nearest orthogonal matrix to factor g + momentum m,
 *  roughly: five Newton-Schulz steps leave singular values of 0.7 to 1.2.
 *  @return false: no memory, the tape's failure is set */
bool pith_orthogonal_update(pith_tape *tape, float *g, float *m, size_t n_rows, size_t n_cols, float momentum, float factor);
/** g [n_rows, n_cols], m likewise or NULL, v [n_rows + n_cols] if factored (else [n_rows * n_cols]): g over the root
 *  of its second moments, no longer than `clip` (root mean square; 0: off), through its moving average if beta1 > 0. */
void pith_adafactor_update(pith_tape *tape, float *g, float *m, float *v, size_t n_rows, size_t n_cols, bool factored, float beta1, float beta2, float clip, float factor);

#endif
