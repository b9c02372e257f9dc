/* The tree over variables that keeps most of what pairs of them know of each other.
 * C. Chow, C. Liu, "Approximating discrete probability distributions with dependence trees", IEEE Trans. Inf. Theory
 * 14(3), 1968. */
#ifndef PITH_CHOW_LIU_H
#define PITH_CHOW_LIU_H

#include "base/base.h"

/* Nodes 0..n-1: a parent comes before its children, and a node is followed at once by all that is below it. */
typedef struct pith_var_tree {
    size_t n;
    uint32_t *variable;            /* [n] of each node: a permutation */
    uint32_t *parent;              /* [n] a node; PITH_NO_PARENT of node 0, the root */
} pith_var_tree;
#define PITH_NO_PARENT UINT32_MAX

/** Mutual information, nats, of each pair of n variables over n_items observations.
 *  x     [n_items, n] values 0..255; shift: they are compared without their `shift` lowest bits, 0..7
 *  mi    [n, n] the caller's, symmetric, 0 on the diagonal
 *  @return PITH_E_ARGUMENT (no items, or 2^31 of them), PITH_E_MEMORY.  thread: spread over the context's */
pith_status pith_mutual_information(pith_ctx *ctx, const uint8_t *x, size_t n_items, size_t n, int shift, float *mi);

/** The spanning tree of greatest total weight [n, n] (R. Prim, Bell Syst. Tech. J. 36, 1957), rooted in the middle of its
 *  longest way.  Of equal weights the lower variable comes first.  Free it also after an error, once zeroed.
 *  @return PITH_E_ARGUMENT (n is 0), PITH_E_MEMORY */
pith_status pith_var_tree_span(pith_ctx *ctx, size_t n, const float *weight, pith_var_tree *tree);
/** Whether these arrays [n] are such a tree. */
bool pith_var_tree_valid(const pith_var_tree *tree);
void pith_var_tree_free(pith_ctx *ctx, pith_var_tree *tree);

#endif
