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

/* A matrix W [n_rows, n_cols] as the sum of parts that are there (not NULL); those on the tape are trained where they need a
 * gradient. */
typedef struct pith_weight_parts {
    size_t n_rows, n_cols;
    const pith_operator *stored;  /* in any form: low-bit, outliers, f16 …, or over a parameter; must stay until the step ends */
    pith_var *dense;              /* [n_rows, n_cols] */
    pith_var *left, *right;       /* low rank, left right: [n_rows, rank], [rank, n_cols] */
    pith_var *sparse;             /* [n]: value i stands at place[i] = row n_cols + column; equal places add up */
    const int32_t *place;
    pith_var *codebook;           /* [codes, d], d divides n_cols: run i of d values of a row is codebook[code[i]] */
    const int32_t *code;          /* [n_rows n_cols / d] */
} pith_weight_parts;
/** x [.., n_cols] -> W x [.., n_rows].  Sparse values and codes are spread into a dense matrix for the step; low rank goes
 *  through its rank, and what is stored stays as it is.  Indices are copied.  NULL: PITH_E_SHAPE, PITH_E_ARGUMENT (no part, an
 *  index out of range), PITH_E_LIMIT (a sparse part of 2^31 places or more) */
pith_var *pith_weight_record(const pith_weight_parts *w, pith_var *x);

/* Symmetric whole numbers times a scale for each group of a row's values: the simplest low-bit form. */
typedef struct pith_round_groups {
    unsigned bits;                /* 2 to 8: -2^(bits-1)+1 .. 2^(bits-1)-1 */
    size_t group_size;            /* a row's last group may be shorter */
} pith_round_groups;
/** A pith_round_fn with a pith_round_groups as user: to the nearest of scale * q, scale the group's largest magnitude
 *  over the largest q. */
void pith_round_to_groups(const void *user, const float *w, float *dst, size_t n_rows, size_t n_cols);

#endif
