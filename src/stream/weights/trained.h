/* Operators on a tape: y = W x as training sees it.  W may be a parameter of the tape, a parameter that is rounded on
 * its way (straight-through), or fixed, in whatever form it is stored. */
#ifndef PITH_TRAINED_H
#define PITH_TRAINED_H

#include "grad/grad.h"
#include "stream/weights/operator.h"

/** Rows of a trained matrix as they are used: dst [n_rows, n_cols] = w rounded to what can be stored.  Each row by
 *  itself, pure, called by many threads. */
typedef void pith_round_fn(const void *user, const float *w, float *dst, size_t n_rows, size_t n_cols);

/** An operator over a parameter [n_rows, n_cols] of a tape, which must outlive it.  It runs like any other, by the
 *  values that the parameter has at that moment, and is trained where it is recorded.
 *  round NULL: dense f32.  Else it runs by the rounded rows, and the gradient passes straight through the rounding to
 *  the parameter (Bengio, Leonard, Courville, arXiv:1308.3432); user must outlive the operator.
 *  @return PITH_E_MEMORY, PITH_E_SHAPE */
pith_status pith_operator_from_param(pith_ctx *ctx, pith_var *param, pith_round_fn *round, const void *user, pith_operator **op);
/** The parameter of such an operator; NULL: another kind, which is fixed. */
pith_var *pith_operator_param(const pith_operator *op);

/** x [.., n_cols] -> W x [.., n_rows].  Fixed operators are applied in their own form (one that rounds its inputs
 *  does so here; the gradient passes straight through that), and pass back the gradient by their dense rows.
 *  The operator must stay until the step ends. */
pith_var *pith_operator_record(const pith_operator *op, pith_var *x);
/** ids [count of dims], in 0..n_rows-1 -> [dims.., n_cols]: rows of W.  Failing: PITH_E_ARGUMENT, an id out of range. */
pith_var *pith_operator_record_rows(pith_tape *tape, const pith_operator *op, const int32_t *ids, int n_dims, const size_t *dims);

/* Symmetric whole numbers times a scale for each group of a row's values: the simplest low-bit form. */
typedef struct pith_round_groups {
    unsigned bits;                /* 2 to 8: -2^(bits-1)+1 .. 2^(bits-1)-1 */
    size_t group_size;            /* a row's last group may be shorter */
} pith_round_groups;
/** A pith_round_fn with a pith_round_groups as user: to the nearest of scale * q, scale the group's largest magnitude
 *  over the largest q. */
void pith_round_to_groups(const void *user, const float *w, float *dst, size_t n_rows, size_t n_cols);

#endif
