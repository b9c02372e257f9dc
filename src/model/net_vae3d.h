/* The autoencoder of clips begins as one of images. */
#ifndef PITH_NET_VAE3D_H
#define PITH_NET_VAE3D_H

#include "model/net.h"

/** Parameters of a "vae3d" from a "vae" with the same channels, widths, blocks and latent: each kernel becomes the last
 *  moment of one over time, the others are 0, so that a single frame is coded as before (Zhao et al., arXiv:2405.20279).
 *  @return PITH_E_ARGUMENT, and nothing is changed, where the two do not fit: the sentence names the parameter */
pith_status pith_vae3d_inflate(pith_net *clips, const pith_net *images);

#endif
