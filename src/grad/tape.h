/* What a tape holds; for src/grad only. */
#ifndef PITH_GRAD_TAPE_H
#define PITH_GRAD_TAPE_H

#include "grad/grad.h"
#include "grad/loops.h"
#include "tensor/kernels.h"

#define MAX_COUNT ((size_t)1 << (sizeof(size_t) > 4 ? 40 : 29)) /* values in an array: products with 8 stay far from overflow */
#define N_CLASSES (8 * 40)                                      /* of blocks: eight a power of two */
#define MAX_IN 8                                                /* inputs of most operations; more are possible */
#define ELEMENT_GRAIN ((size_t)16384)                           /* values a task; below, waking a thread costs more */

/* A header of one cache line, then the values. */
struct pith_block {
    _Alignas(PITH_ALIGN) size_t class;
    size_t refs;
    size_t holders;                       /* pith_store_bf16: of the refs, those of a segment's values */
    pith_block *next, *next_unused;
};

struct pith_tape {
    pith_ctx *ctx;
    const pith_kernels *kernels;
    const pith_loops *loops;
    pith_arena *lasting, *arena;          /* parameters; values and attributes of a step */
    pith_mark start;
    pith_var **values;                    /* [n_values] of this step, in the order they were made */
    size_t n_values, cap_values;
    pith_var **params;
    size_t n_params;
    pith_block *blocks, *unused[N_CLASSES];
    size_t bytes;
    pith_status status;
    bool recording, training;             /* training: recording, or a checkpoint's first time through */
    uint64_t seed, step, n_draws;
    uint64_t pass, n_passes;              /* the pith_gradients at work; 0: none, or pith_backward */
    pith_gradient_fn *watch;              /* pith_tape_watch; NULL: nobody */
    void *watch_user;
    bool watching;                        /* within a pith_backward that is watched */
};

/** Recording on or off; returns what it was.  Does not end training, as pith_tape_record does. */
bool pith_record_values(pith_tape *tape, bool on);
bool pith_same_shape(const pith_var *a, const pith_var *b);
/** Axis from the front; false (and the failure set) when x has no such axis. */
bool pith_axis(const pith_var *x, const char *op, int axis, size_t *at);
/** Add g [rows, n] to a piece of x's gradient, whose rows begin at value `at` and are `step` apart; for backward functions in
 *  place of setting gx, where x is wanted and the pass is not recorded.  Without memory the tape's failure is set. */
void pith_op_add_piece(pith_var *x, const float *g, size_t rows, size_t n, size_t step, size_t at);
/** f'(x) g or f''(x) g of an elementwise function. */
pith_var *pith_var_slope(pith_var *x, pith_var *g, pith_unary fn, int order, float p0, float p1);
pith_var *pith_var_unary(pith_var *x, pith_unary fn, float p0, float p1);
/* gather and scatter_add by indices that are known to be right and stay until the step ends */
pith_var *pith_gather(pith_var *x, const int32_t *index, size_t m);
pith_var *pith_scatter_add(pith_var *x, const int32_t *index, size_t n);

#endif
