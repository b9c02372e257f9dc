/* Masks over several parameters at once: the smallest weights of all of them together are 0, in the forward pass and so
 * in the gradient too.  (Pruning while training, tensor by tensor, is stage/tune/gradual_prune.h.) */
#ifndef PITH_MASK_H
#define PITH_MASK_H

#include "grad/grad.h"

typedef struct pith_masks pith_masks;
/** Free it when no step of the tape that used it goes on.  @return PITH_E_MEMORY */
pith_status pith_masks_new(pith_tape *tape, pith_masks **masks);
void pith_masks_free(pith_masks *masks); /* NULL is allowed */
/** @return PITH_E_LIMIT (2^32 values), PITH_E_MEMORY */
pith_status pith_masks_add(pith_masks *masks, pith_var *param);
/** Mask the share (0..1) of all their values that is smallest in size, the first of equals first; random: any of them,
 *  by the seed.  What was masked before counts as it is in the parameters.  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_masks_cut(pith_masks *masks, double share, bool random, uint64_t seed);
/** Fixed by the caller: 1 stays, 0 is masked, [count of the parameter] in its order; NULL: no such parameter. */
float *pith_masks_of(pith_masks *masks, const pith_var *param);
/** The parameter under its mask, on the tape; itself when it has none. */
pith_var *pith_masks_apply(pith_masks *masks, pith_var *param);
/** The same as a pith_net_replace hook; user is the pith_masks. */
pith_var *pith_masks_replace(void *user, const char *name, pith_var *param);
/** Values that stay. */
size_t pith_masks_n_kept(const pith_masks *masks);

#endif
