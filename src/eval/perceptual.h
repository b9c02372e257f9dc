/* Images as a classifier (a network of kind attributes) sees them: how far two are apart, and what sets of them are like. */
#ifndef PITH_PERCEPTUAL_H
#define PITH_PERCEPTUAL_H

#include "eval/frechet.h"
#include "model/net.h"

/** Squared distance of its features, of unit length at each place, at each stage (in the way of LPIPS: Zhang et al.,
 *  arXiv:1801.03924, with weights all 1): the mean over images and places, all stages added up.  One value, 0 for equal
 *  images, at most 4 a stage.
 *  net   on the images' tape; frozen while this trains others
 *  a, b  [n, channels, height, width] as the net is fed
 *  @return NULL: failed (the net has no stages, shapes), as operations of the tape do */
pith_var *pith_perceptual_distance(pith_net *net, pith_var *a, pith_var *b);

/** Add the features (depth "features", before the logits) of images x [n, ..] to the moments, for pith_frechet.
 *  @return PITH_E_SHAPE (moments of another size), PITH_E_NONFINITE, or the tape's failure */
pith_status pith_features_add(pith_net *net, pith_var *x, pith_moments *moments);
/** How many features the net gives, by its settings; 0: it is of another kind. */
size_t pith_features_count(const pith_net *net);

#endif
