/* Who gets how much: for each item (a layer, a head) one of its choices, so that sizes together are least while errors
 * together stay within a budget.  By dynamic programming over errors in buckets, as L-GreCo does for layers of a network
 * (Markov et al., arXiv:2210.17357, algorithm 1); knows nothing of what the items are. */
#ifndef PITH_BUDGET_H
#define PITH_BUDGET_H

#include "base/base.h"

typedef struct pith_choice {
    double size, error;            /* finite, not negative */
} pith_choice;

/** choices: item i has those from first[i] to first[i + 1] - 1 (first [n_items + 1], at least one each).  chosen [n_items]:
 *  index into choices.  Errors are rounded up to buckets of budget / n_buckets, those of 0 to none, so that the budget holds
 *  always, and the sizes are the least of all choices whose rounded errors fit.  Takes n_items * n_buckets steps a choice.
 *  @return PITH_E_SPACE when not even the smallest errors fit, PITH_E_ARGUMENT, PITH_E_NONFINITE, PITH_E_MEMORY */
pith_status pith_budget_spend(pith_ctx *ctx, const pith_choice *choices, const size_t *first, size_t n_items, double budget, size_t n_buckets, size_t *chosen);

/* What the dynamic programme is measured against; arguments and errors are the same, errors are not rounded. */
/** From the smallest errors, again and again the change that saves the most size for the error it adds. */
pith_status pith_budget_spend_greedily(pith_ctx *ctx, const pith_choice *choices, const size_t *first, size_t n_items, double budget, size_t *chosen);
/** Items in random order; each takes one of those choices that leave the others their smallest errors. */
pith_status pith_budget_spend_randomly(pith_ctx *ctx, const pith_choice *choices, const size_t *first, size_t n_items, double budget, pith_rng *rng, size_t *chosen);

#endif
