/* What circuit_*.c share: values of many images side by side, [n_states, lanes]. */
#ifndef PITH_CIRCUIT_LANES_H
#define PITH_CIRCUIT_LANES_H

#include "stream/codec/circuit.h"
#include "tensor/kernels.h"

/** Node i's parameters. */
static inline float *pith_circuit_edge(const pith_circuit *c, size_t i) { return c->edge + i * c->n_states * c->n_states; }
static inline float *pith_circuit_leaf(const pith_circuit *c, size_t i) { return c->leaf + i * c->n_states * c->n_values; }
/** Rows of its edge that are used. */
static inline size_t pith_circuit_rows(const pith_circuit *c, size_t i) { return i ? c->n_states : 1; }

/** v [n_states, lanes] times a power of two for each lane, so that the largest is in 1..2; its exponent is added to
 *  exponent [lanes] (or NULL).  A lane without a number above 0 becomes 1 throughout: the model said that it cannot be. */
void pith_lanes_fit(float *v, size_t n_states, size_t lanes, int32_t *exponent);
/** v[z][b] *= u[z][b] */
static inline void pith_lanes_multiply(float *restrict v, const float *restrict u, size_t n) { for (size_t k = 0; k < n; k++) v[k] *= u[k]; }
/** v[z][b] = leaf[z][x[b]]; where known (or NULL) is 0: 1. */
void pith_lanes_leaf(const pith_circuit *c, size_t i, const uint8_t *x, const uint8_t *known, size_t lanes, float *v);

/** PITH_E_ARGUMENT unless all values are below n_values. */
pith_status pith_circuit_values_fit(const pith_circuit *c, const uint8_t *x, size_t n_items);

#endif
