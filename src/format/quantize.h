/* Encoding to block types: what its files share. */
#ifndef PITH_QUANTIZE_H
#define PITH_QUANTIZE_H

#include <math.h>

#include "format/model_file.h"

/** One block: x [block_len] within +-1e9, w [block_len] weights of the squared errors in 0..1, the largest 1, or NULL (all 1).
 *  @return false when a scale does not fit its f16 field. */
typedef bool pith_block_encoder(const float *x, const float *w, uint8_t *dst);

/** The encoder of a type, NULL when there is none. */
pith_block_encoder *pith_encoder_legacy(pith_dtype dtype);
pith_block_encoder *pith_encoder_k(pith_dtype dtype);

/** Store v as f16; false when it is not finite there. */
static inline bool pith_put_f16(uint8_t *p, float v)
{
    uint16_t h = pith_f32_to_f16(v);
    pith_put16(p, h);
    return (h & 0x7c00) != 0x7c00;
}

/** 1/d, or 0 where that is not finite. */
static inline float pith_inverse(float d)
{
    float i = 1.0f / d;
    return d == 0 || !isfinite(i) ? 0.0f : i;
}

/** Nearest whole number (ties to even) within lo..hi; lo for NaN.  Adding 1.5 * 2^23 leaves no bits below one; unlike lrintf it vectorises. */
static inline float pith_level(float v, float lo, float hi)
{
    v = (v + 12582912.0f) - 12582912.0f;
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}

/** The scale s whose levels q = nearest(x / s) in lo..hi give the least sum of w (x - s q)^2, among candidates around
 *  the extreme value's own scale, each improved by least squares.  n is a multiple of 8.  0 when all x are 0. */
float pith_fit_scale(const float *x, const float *w, size_t n, float lo, float hi);
/** Likewise with a minimum: x ~ s q + m, q in 0..hi.  With `below_zero`, m <= 0 (what K types can store). */
float pith_fit_scale_min(const float *x, const float *w, size_t n, float hi, bool below_zero, float *min);

#endif
