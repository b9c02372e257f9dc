/* The spectral radius of a recurrent matrix: by it states fade, stay or grow. */
#ifndef PITH_RADIUS_H
#define PITH_RADIUS_H

#include "base/base.h"

/** Scale w [n, n] so that its largest eigenvalue has modulus `radius`.
 *  @return PITH_E_ARGUMENT (all its eigenvalues are 0), PITH_E_MEMORY, PITH_E_INTERNAL */
pith_status pith_radius_set(pith_ctx *ctx, float *w, size_t n, double radius);

#endif
