/* A weight is an operator, y = W x, whatever it is made of.  Recipes add kinds; the model does not know. */
#ifndef PITH_OPERATOR_H
#define PITH_OPERATOR_H

#include "tensor/kernels.h"

typedef struct pith_operator pith_operator;

/* Activations on their way into operators: f32 rows, and their 8-bit form made once, on first need. */
typedef struct pith_input {
    const float *x;               /* [n, cols] */
    size_t n, cols;
    pith_q8 q8;                   /* valid if has_q8; memory from the scratch arena */
    bool has_q8;
} pith_input;

#define PITH_FEW_TOKENS 4         /* up to here an operator multiplies token by token, above as a matrix */

/* What a kind of operator can do.  Tiles are units of work for the thread pool: any partition gives
 * the same bytes. */
typedef struct pith_operator_kind {
    const char *name;             /* "qmat", "f16", … */
    bool wants_q8;                /* apply reads input->q8 rather than input->x */
    size_t group;                 /* tiles better not parted when there are many tokens; 0 means 1 */
    size_t (*n_tiles)(const pith_operator *op);
    /* y[i * ldy + r] for tokens i in 0..n-1 and the rows r of tiles tile0..tile1-1 */
    void (*apply)(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in, float *y, size_t ldy, void *scratch);
    size_t (*scratch_bytes)(const pith_operator *op, size_t n);   /* per worker; NULL: none */
    void (*row)(const pith_operator *op, const pith_kernels *k, size_t row, float *dst);  /* dequantised row [n_cols]: embedding look-up, dense form */
    size_t (*bytes)(const pith_operator *op);                     /* memory held (or mapped) by the weights */
    void (*free)(pith_ctx *ctx, pith_operator *op);
} pith_operator_kind;

struct pith_operator {
    const pith_operator_kind *kind;
    size_t n_rows, n_cols;
    const char *name;             /* tensor's name, for calibration and messages; the operator's own copy */
    double bits_per_weight;       /* as stored in memory */
    bool mapped;                  /* reads a file's memory in place, which `owner` keeps */
    void *owner;                  /* released when the operator is freed; NULL: nothing to keep */
    void (*release)(pith_ctx *ctx, void *owner);
};

/** Apply operators that share an input, in one parallel loop: y[k] is [n, ops[k]->n_rows].
 *  The only way the model multiplies; calibration and the tape hook in here.
 *  in->q8 is made on first need, in the scratch arena: mark it before, reset it when done with `in`.
 *  Same bytes for any number of threads.
 *  @return PITH_E_MEMORY; PITH_E_SHAPE when in->cols is not what an operator takes */
pith_status pith_operators_apply(pith_ctx *ctx, const pith_operator *const *ops, size_t n_ops, pith_input *in, float *const *y);

/* A listener at the inputs of operators: calibration.  Called before the product, on the calling thread. */
typedef void pith_tap_fn(void *user, const pith_operator *op, const float *x, size_t n, size_t cols);

/** Wrap a low-bit matrix.  *m is moved on success and untouched on error. @return PITH_E_MEMORY */
pith_status pith_operator_from_qmat(pith_ctx *ctx, pith_qmat *m, const char *name, pith_operator **op);
/** Native compute form of a file's 2-D tensor: F32, F16 and BF16 in place (op->mapped: t->data must
 *  outlive the operator), Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 as the same values in a qmat, other block types
 *  requantised to 8 bits (one INFO line).  `exact`: the dequantised values to the last bit, in f16 if all
 *  of them fit, else f32 (four bytes a weight): the reference of an evaluation.
 *  @return PITH_E_MEMORY, PITH_E_SHAPE, PITH_E_UNSUPPORTED */
pith_status pith_operator_from_tensor(pith_ctx *ctx, const pith_tensor *t, const char *name, bool exact, pith_operator **op);
void pith_operator_free(pith_ctx *ctx, pith_operator *op);

#endif
