/* Nested dropout. */
#include "stage/tune/nested_dropout.h"

#include <math.h>

#define STREAM 0x6e657374          /* of random numbers, under the caller's seed */

static double weight(size_t k, double spread) { return exp(-((double)k / spread) * ((double)k / spread)); }

size_t pith_nested_draw(size_t n, double spread, uint64_t seed, uint64_t step)
{
    pith_rng rng = {seed, STREAM, step};
    double total = 0;
    for (size_t k = 1; k <= n; k++) total += weight(k, spread);
    double left = (double)pith_rng_uniform(&rng) * total;
    size_t k = 1;
    while (k < n && (left -= weight(k, spread)) >= 0) k++;
    return k;
}

pith_var *pith_nested_mask(pith_var *x, size_t k)
{
    if (!x) return NULL;
    size_t n = x->n_dims ? x->dims[x->n_dims - 1] : 0;
    if (k > n) return pith_op_fail(x->tape, PITH_E_ARGUMENT, "nested dropout: a prefix of %zu values of %s", k, PITH_SHAPE(x));
    pith_var *mask = pith_tape_fill(x->tape, 0, PITH_DIMS(n));
    for (size_t i = 0; mask && i < k; i++) mask->data[i] = 1;
    return pith_var_mul(x, mask);
}
