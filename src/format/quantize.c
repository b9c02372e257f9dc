/* f32 to block types of 32 values, and the searches for scales.  Without weights the results of Q8_0,
 * Q4_0, Q4_1, Q5_0 and Q5_1 equal those of the PyPI package gguf. */
#include "format/quantize.h"

#include <float.h>

static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }
static float inverse(float d) { float i = 1.0f / d; return d == 0 || !isfinite(i) ? 0.0f : i; }

/* ---- searches --------------------------------------------------------------------------------- */

float pith_fit_scale(const float *x, const float *w, size_t n, int lo, int hi, int8_t *q)
{
    float extreme = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    memset(q, 0, n);
    if (inverse(extreme) == 0) return 0;
    /* The extreme is put near the longer end (lo), somewhat inside or outside of the range. */
    float best_scale = 0, best_gain = 0;
    for (int step = -9; step <= 9; step++) {
        float inv = inverse(extreme) * ((float)lo - 0.1f * (float)step);
        for (int round = 0; round < 2; round++) {
            float xq = 0, qq = 0;
            for (size_t i = 0; i < n; i++) {
                float level = (float)clamp((int)lrintf(x[i] * inv), lo, hi), wi = w ? w[i] : 1.0f;
                xq += wi * x[i] * level;
                qq += wi * level * level;
            }
            if (qq <= 0) break;
            /* with the best scale xq/qq the error is sum w x^2 - xq^2/qq */
            float scale = xq / qq, gain = xq * scale;
            if (gain > best_gain) {
                best_gain = gain;
                best_scale = scale;
            }
            inv = inverse(scale);
            if (inv == 0) break;
        }
    }
    float inv = inverse(best_scale);
    for (size_t i = 0; i < n; i++) q[i] = (int8_t)clamp((int)lrintf(x[i] * inv), lo, hi);
    return best_scale;
}

float pith_fit_scale_min(const float *x, const float *w, size_t n, int hi, bool below_zero, uint8_t *q, float *min)
{
    float least = x[0], most = x[0], sum_w = 0, sum_x = 0;
    for (size_t i = 0; i < n; i++) {
        float wi = w ? w[i] : 1.0f;
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
        sum_w += wi;
        sum_x += wi * x[i];
    }
    if (below_zero && least > 0) least = 0;
    memset(q, 0, n);
    *min = least;
    if (inverse(most - least) == 0 || sum_w <= 0) return 0;
    float best_error = FLT_MAX, best_scale = 0, best_min = least;
    for (int step = -6; step <= 10; step++) {
        float inv = ((float)hi + 0.1f * (float)step) / (most - least), from = least;
        for (int round = 0; round < 2; round++) {
            float sum_q = 0, sum_qq = 0, sum_xq = 0;
            for (size_t i = 0; i < n; i++) {
                float level = (float)clamp((int)lrintf((x[i] - from) * inv), 0, hi), wi = w ? w[i] : 1.0f;
                sum_q += wi * level;
                sum_qq += wi * level * level;
                sum_xq += wi * level * x[i];
            }
            float det = sum_w * sum_qq - sum_q * sum_q;
            if (!(det > 0)) break;
            float scale = (sum_w * sum_xq - sum_x * sum_q) / det, m = (sum_qq * sum_x - sum_q * sum_xq) / det;
            if (below_zero && m > 0) {
                m = 0;
                scale = sum_xq / sum_qq;
            }
            float inv_new = inverse(scale), error = 0;
            if (inv_new <= 0) break;
            for (size_t i = 0; i < n; i++) {
                float level = (float)clamp((int)lrintf((x[i] - m) * inv_new), 0, hi), e = x[i] - m - scale * level;
                error += (w ? w[i] : 1.0f) * e * e;
            }
            if (error < best_error) {
                best_error = error;
                best_scale = scale;
                best_min = m;
            }
            inv = inv_new;
            from = m;
        }
    }
    float inv = inverse(best_scale);
    for (size_t i = 0; i < n; i++) q[i] = (uint8_t)clamp((int)lrintf((x[i] - best_min) * inv), 0, hi);
    *min = best_min;
    return best_scale;
}

/* ---- 32-value types --------------------------------------------------------------------------- */

static void put_nibbles(uint8_t *dst, const uint8_t *u)
{
    for (int i = 0; i < 16; i++) dst[i] = (uint8_t)((u[i] & 15) | (u[i + 16] & 15) << 4);
}

static void put_fifth_bits(uint8_t *dst, const uint8_t *u)
{
    uint32_t high = 0;
    for (int i = 0; i < 32; i++) high |= (uint32_t)(u[i] >> 4 & 1) << i;
    pith_put32(dst, high);
}

/* Levels -half..half-1 as u = level + half, and their scale. */
static float levels_signed(const float *x, const float *w, int half, uint8_t *u)
{
    if (w) {
        int8_t q[32];
        float d = pith_fit_scale(x, w, 32, -half, half - 1, q);
        for (int i = 0; i < 32; i++) u[i] = (uint8_t)(q[i] + half);
        return d;
    }
    float extreme = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    float d = extreme / (float)-half, inv = inverse(d);
    for (int i = 0; i < 32; i++) u[i] = (uint8_t)clamp((int)(x[i] * inv + ((float)half + 0.5f)), 0, 2 * half - 1);
    return d;
}

static float levels_min(const float *x, const float *w, int hi, uint8_t *u, float *min)
{
    if (w) return pith_fit_scale_min(x, w, 32, hi, false, u, min);
    float least = x[0], most = x[0];
    for (int i = 1; i < 32; i++) {
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
    }
    float d = (most - least) / (float)hi, inv = inverse(d);
    for (int i = 0; i < 32; i++) u[i] = (uint8_t)clamp((int)((x[i] - least) * inv + 0.5f), 0, hi);
    *min = least;
    return d;
}

static bool q4_0(const float *x, const float *w, uint8_t *dst)
{
    uint8_t u[32];
    float d = levels_signed(x, w, 8, u);
    put_nibbles(dst + 2, u);
    return pith_put_f16(dst, d);
}

static bool q5_0(const float *x, const float *w, uint8_t *dst)
{
    uint8_t u[32];
    float d = levels_signed(x, w, 16, u);
    put_fifth_bits(dst + 2, u);
    put_nibbles(dst + 6, u);
    return pith_put_f16(dst, d);
}

static bool q4_1(const float *x, const float *w, uint8_t *dst)
{
    uint8_t u[32];
    float m, d = levels_min(x, w, 15, u, &m);
    put_nibbles(dst + 4, u);
    return pith_put_f16(dst, d) && pith_put_f16(dst + 2, m);
}

static bool q5_1(const float *x, const float *w, uint8_t *dst)
{
    uint8_t u[32];
    float m, d = levels_min(x, w, 31, u, &m);
    put_fifth_bits(dst + 4, u);
    put_nibbles(dst + 8, u);
    return pith_put_f16(dst, d) && pith_put_f16(dst + 2, m);
}

static bool q8_0(const float *x, const float *w, uint8_t *dst)
{
    (void)w; /* at 8 bits a search gains nothing that can be measured */
    float most = 0;
    for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[i]));
    float d = most / 127.0f, inv = inverse(d);
    for (int i = 0; i < 32; i++) dst[2 + i] = (uint8_t)(int8_t)clamp((int)roundf(x[i] * inv), -127, 127);
    return pith_put_f16(dst, d);
}

/* ---- IQ4_NL: sixteen uneven levels ------------------------------------------------------------ */

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static int iq4_nearest(float v)
{
    int lo = 0;
    for (int step = 8; step > 0; step /= 2)
        if (v > 0.5f * (float)(iq4_values[lo + step - 1] + iq4_values[lo + step])) lo += step;
    return lo;
}

static bool iq4_nl(const float *x, const float *w, uint8_t *dst)
{
    float extreme = 0, best_gain = 0, best = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    float per_extreme = inverse(extreme);
    for (int step = -12; step <= 12 && per_extreme != 0; step++) {
        /* the extreme goes to the longer end, or with the other sign to the shorter one */
        for (int side = 0; side < 2; side++) {
            float inv = per_extreme * (float)(side ? iq4_values[15] : iq4_values[0]) * (1.0f + 0.02f * (float)step);
            float xq = 0, qq = 0;
            for (int i = 0; i < 32; i++) {
                float level = (float)iq4_values[iq4_nearest(x[i] * inv)], wi = w ? w[i] : 1.0f;
                xq += wi * x[i] * level;
                qq += wi * level * level;
            }
            if (qq > 0 && xq * xq / qq > best_gain) {
                best_gain = xq * xq / qq;
                best = xq / qq;
            }
        }
    }
    uint8_t u[32];
    bool fits = pith_put_f16(dst, best);
    float inv = inverse(pith_f16_to_f32(pith_le16(dst)));
    for (int i = 0; i < 32; i++) u[i] = (uint8_t)iq4_nearest(x[i] * inv);
    put_nibbles(dst + 2, u);
    return fits;
}

pith_block_encoder *pith_encoder_legacy(pith_dtype dtype)
{
    switch (dtype) {
    case PITH_Q4_0: return q4_0;
    case PITH_Q4_1: return q4_1;
    case PITH_Q5_0: return q5_0;
    case PITH_Q5_1: return q5_1;
    case PITH_Q8_0: return q8_0;
    case PITH_IQ4_NL: return iq4_nl;
    default: return NULL;
    }
}

/* ---- all types -------------------------------------------------------------------------------- */

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

pith_status pith_blocks_from_f32(pith_dtype dtype, const float *src, size_t n, const float *importance, void *dst)
{
    uint8_t *p = dst;
    const pith_dtype_info *info = pith_dtype_get((uint32_t)dtype);
    if (!info) return PITH_E_UNSUPPORTED;
    if (dtype == PITH_F32) {
        memcpy(dst, src, 4 * n);
        return PITH_OK;
    }
    if (dtype == PITH_F16 || dtype == PITH_BF16) {
        for (size_t i = 0; i < n; i++) pith_put16(p + 2 * i, dtype == PITH_F16 ? pith_f32_to_f16(src[i]) : pith_f32_to_bf16(src[i]));
        return PITH_OK;
    }
    pith_block_encoder *encode = pith_encoder_legacy(dtype);
    if (!encode) encode = pith_encoder_k(dtype);
    if (!encode) return PITH_E_UNSUPPORTED;
    if (n % info->block_len) return PITH_E_SHAPE;
    for (size_t i = 0; i < n; i += info->block_len, p += info->block_bytes) {
        if (!all_finite(src + i, info->block_len)) return PITH_E_NONFINITE;
        if (importance && !all_finite(importance + i, info->block_len)) return PITH_E_NONFINITE;
        if (!encode(src + i, importance ? importance + i : NULL, p)) return PITH_E_NONFINITE;
    }
    return PITH_OK;
}
