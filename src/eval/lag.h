/* How much of a gradient is left so many steps before. */
#ifndef PITH_LAG_H
#define PITH_LAG_H

#include "grad/grad.h"

typedef struct pith_lag_options {
    pith_cell cell;                /* TANH, LSTM or LSTM_1997 */
    size_t width;
    double radius;                 /* TANH: spectral radius of its matrix */
    float forget_bias;             /* LSTM */
    size_t n_draws;                /* networks drawn, and sequences with each */
    uint64_t seed;
} pith_lag_options;

/** For each lag [n], 1 to PITH_LAG_MAX: |dL / d state of that many steps before the end| / |dL / d last state|, L the last state
 *  times fixed normal numbers; an LSTM's state is both h and c.  The mean of logarithms over networks with normal weights of
 *  deviation 1 / sqrt(width) and inputs of 0.1, small, so that tanh is nearly linear.
 *  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_lag_gradients(pith_ctx *ctx, const pith_lag_options *o, const size_t *lags, size_t n, double *shares);

#define PITH_LAG_MAX 59

#endif
