/* Pruning while training (Zhu, Gupta, arXiv:1710.01878): each pruned tensor has a mask that is multiplied in the forward
 * pass, so that gradients to masked weights are zero; between two steps its smallest weights are masked, more of them
 * at each update until a last one, after which masks stay as they are.
 *
 *     pith_prune_new(tape, &options, &prune);
 *     pith_prune_add(prune, w);                                // each tensor that is pruned
 *     y = pith_var_linear(x, pith_prune_masked(prune, w), b);  // or pith_net_replace with pith_prune_replace
 *     ... after the optimizer's step: pith_prune_step(prune, step);
 */
#ifndef PITH_GRADUAL_PRUNE_H
#define PITH_GRADUAL_PRUNE_H

#include "grad/grad.h"

typedef enum pith_prune_shape {
    PITH_PRUNE_CUBIC,              /* s_f + (s_0 - s_f) (1 - t)^3, t from 0 to 1 over the updates: the paper's */
    PITH_PRUNE_LINEAR,             /* s_f + (s_0 - s_f) (1 - t) */
    PITH_PRUNE_AT_ONCE             /* s_f at the first update */
} pith_prune_shape;

typedef struct pith_prune_options {
    double from, to;               /* share of a tensor that is masked: s_0, s_f, 0..1 */
    uint64_t first_step, every;    /* the first update is before step first_step, the others each so many steps later */
    uint64_t n_updates;            /* after the first; at the last the share is `to` */
    pith_prune_shape shape;
    bool random;                   /* mask weights at random instead of the smallest (ablation); masks only grow */
    uint64_t seed;                 /* of that */
} pith_prune_options;

/** The share that is masked before `step`: 0 before the first update. */
double pith_prune_share(const pith_prune_options *options, uint64_t step);

typedef struct pith_prune pith_prune;
/** @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_prune_new(pith_tape *tape, const pith_prune_options *options, pith_prune **prune);
/** Free it when no step of the tape that used it goes on.  NULL is allowed. */
void pith_prune_free(pith_prune *prune);
/** Prune this parameter too, which is dense so far.  @return PITH_E_LIMIT (2^32 values), PITH_E_MEMORY */
pith_status pith_prune_add(pith_prune *prune, pith_var *param);
/** The parameter under its mask, on the tape; itself when it is not pruned. */
pith_var *pith_prune_masked(pith_prune *prune, pith_var *param);
/** The same as a pith_net_replace hook; user is the pith_prune. */
pith_var *pith_prune_replace(void *user, const char *name, pith_var *param);
/** Bring masks to where they are before `step`; call it once before each step, in order.  @return PITH_E_MEMORY */
pith_status pith_prune_step(pith_prune *prune, uint64_t step);
/** Write zeros where the masks are: the parameters are then the sparse network. */
void pith_prune_settle(pith_prune *prune);

/** Of all masks: equal hashes, equal masks. */
uint64_t pith_prune_hash(const pith_prune *prune);

/* What the tape's parameters take, each pruned tensor sparse and the others dense f32. */
typedef struct pith_prune_size {
    size_t n_values, n_nonzero;    /* in all parameters; nonzero: not masked */
    size_t dense_bytes;            /* 4 bytes a value */
    size_t bitmask_bytes;          /* a bit a value, and 4 bytes a value that is not masked */
    size_t csr_bytes;              /* 5 bits for the gap to the next value of the row, a zero value in gaps over 31, and 4
                                      bytes a row for where it begins: the paper's other form */
} pith_prune_size;
/** prune NULL: all dense. */
pith_prune_size pith_prune_measure(const pith_tape *tape, const pith_prune *prune);

#endif
