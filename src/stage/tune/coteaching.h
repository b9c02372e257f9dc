/* Co-teaching against wrong labels (Han et al., arXiv:1804.06872): of two networks each picks the rows of a batch that
 * it finds easiest, and the other one learns from these alone.  Wrong labels are learned last, so they are seldom picked.
 *
 *     pith_coteach_pick(logits_a, label, n_keep, for_b);
 *     pith_coteach_pick(logits_b, label, n_keep, for_a);
 *     loss = pith_var_add(pith_var_cross_entropy(logits_a, for_a), pith_var_cross_entropy(logits_b, for_b));
 */
#ifndef PITH_COTEACHING_H
#define PITH_COTEACHING_H

#include "grad/grad.h"

/** How many of n rows are kept at `step`: n less a share that rises along a line from 0 to `drop` over n_ramp steps and
 *  then stays; at least 1 of any rows.  n_ramp 0: `drop` from the start. */
size_t pith_coteach_keep(size_t n, double drop, uint64_t n_ramp, uint64_t step);
/** picked[i] = label[i] for the n_keep rows of logits [n, classes] with the smallest cross-entropy, the first of equals
 *  first; PITH_NO_LABEL for the others.  No gradient.  @return PITH_E_ARGUMENT (a label that is no class, or logits of
 *  other than two dimensions), PITH_E_MEMORY, or the tape's failure when logits is NULL */
pith_status pith_coteach_pick(pith_tape *tape, const pith_var *logits, const int32_t *label, size_t n_keep, int32_t *picked);

#endif
