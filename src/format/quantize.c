/* f32 to block types of 32 values, and the searches for scales.  Without weights the results of Q8_0,
 * Q4_0, Q4_1, Q5_0 and Q5_1 equal those of the PyPI package gguf. */
#include "format/quantize.h"

#include <float.h>

#define LANES 8 /* sums are kept in this many lanes, which fixes their order and lets them vectorise */

static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static float lane_sum(const float *a) { return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7])); }

/* ---- searches --------------------------------------------------------------------------------- */

/* sums of w x q and w q^2 for the levels of 1/scale = inv */
static void scale_sums(const float *restrict x, const float *restrict w, size_t n, float lo, float hi, float inv, float *xq, float *qq)
{
    float a[LANES] = {0}, b[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            float q = pith_level(x[i + k] * inv, lo, hi), wq = w[i + k] * q;
            a[k] += wq * x[i + k];
            b[k] += wq * q;
        }
    *xq = lane_sum(a);
    *qq = lane_sum(b);
}

float pith_fit_scale(const float *x, const float *w, size_t n, float lo, float hi)
{
    float extreme = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    float per_extreme = pith_inverse(extreme), best_scale = 0, best_gain = 0;
    if (per_extreme == 0) return 0;
    /* the extreme is put near the longer end (lo), somewhat inside or outside of the range */
    for (int step = -9; step <= 9; step++) {
        float inv = per_extreme * (lo - 0.1f * (float)step);
        for (int round = 0; round < 2 && inv != 0; round++) {
            float xq, qq;
            scale_sums(x, w, n, lo, hi, inv, &xq, &qq);
            if (!(qq > 0)) break;
            /* with the best scale for these levels, xq/qq, the error is sum w x^2 - xq^2/qq */
            float scale = xq / qq, gain = xq * scale;
            if (gain > best_gain) {
                best_gain = gain;
                best_scale = scale;
            }
            inv = pith_inverse(scale);
        }
    }
    return best_scale;
}

typedef struct min_sums {
    float q, qq, xq;
} min_sums;

static min_sums scale_min_sums(const float *restrict x, const float *restrict w, size_t n, float hi, float inv, float from)
{
    float a[LANES] = {0}, b[LANES] = {0}, c[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            float q = pith_level((x[i + k] - from) * inv, 0, hi), wq = w[i + k] * q;
            a[k] += wq;
            b[k] += wq * q;
            c[k] += wq * x[i + k];
        }
    return (min_sums){lane_sum(a), lane_sum(b), lane_sum(c)};
}

float pith_fit_scale_min(const float *x, const float *w, size_t n, float hi, bool below_zero, float *min)
{
    float least = x[0], most = x[0], sum_w = 0, sum_x = 0, sum_xx = 0;
    for (size_t i = 0; i < n; i++) {
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
        sum_w += w[i];
        sum_x += w[i] * x[i];
        sum_xx += w[i] * x[i] * x[i];
    }
    if (below_zero && least > 0) least = 0;
    *min = least;
    if (pith_inverse(most - least) == 0 || !(sum_w > 0)) return 0;
    float best_error = FLT_MAX, best_scale = 0, best_min = least;
    for (int step = -5; step <= 9; step++) {
        float inv = (hi + 0.1f * hi / 15.0f * (float)step) / (most - least), from = least;
        for (int round = 0; round < 2 && inv > 0; round++) {
            min_sums s = scale_min_sums(x, w, n, hi, inv, from);
            if (!(s.qq > 0)) break;
            float det = sum_w * s.qq - s.q * s.q, scale = (sum_w * s.xq - sum_x * s.q) / det, m = (s.qq * sum_x - s.q * s.xq) / det;
            if (!(det > 1e-5f * sum_w * s.qq)) { /* nearly all on one level, which tells nothing of the minimum */
                m = from;
                scale = (s.xq - m * s.q) / s.qq;
            } else if (below_zero && m > 0) {
                m = 0;
                scale = s.xq / s.qq;
            }
            /* the error with these levels, from the sums alone */
            float error = sum_xx + scale * scale * s.qq + m * m * sum_w - 2 * scale * s.xq - 2 * m * sum_x + 2 * scale * m * s.q;
            if (error < best_error) {
                best_error = error;
                best_scale = scale;
                best_min = m;
            }
            inv = pith_inverse(scale);
            from = m;
        }
    }
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
        float d = pith_fit_scale(x, w, 32, (float)-half, (float)(half - 1)), inv = pith_inverse(d);
        for (int i = 0; i < 32; i++) u[i] = (uint8_t)(int)(pith_level(x[i] * inv, (float)-half, (float)(half - 1)) + (float)half);
        return d;
    }
    float extreme = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    float d = extreme / (float)-half, inv = pith_inverse(d);
    for (int i = 0; i < 32; i++) u[i] = (uint8_t)clamp((int)(x[i] * inv + ((float)half + 0.5f)), 0, 2 * half - 1);
    return d;
}

static float levels_min(const float *x, const float *w, int hi, uint8_t *u, float *min)
{
    if (w) {
        float d = pith_fit_scale_min(x, w, 32, (float)hi, false, min), inv = pith_inverse(d);
        for (int i = 0; i < 32; i++) u[i] = (uint8_t)(int)pith_level((x[i] - *min) * inv, 0, (float)hi);
        return d;
    }
    float least = x[0], most = x[0];
    for (int i = 1; i < 32; i++) {
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
    }
    float d = (most - least) / (float)hi, inv = pith_inverse(d);
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
    float d = most / 127.0f, inv = pith_inverse(d);
    for (int i = 0; i < 32; i++) dst[2 + i] = (uint8_t)(int8_t)clamp((int)roundf(x[i] * inv), -127, 127);
    return pith_put_f16(dst, d);
}

/* ---- IQ4_NL: sixteen uneven levels ------------------------------------------------------------ */

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* halfway between neighbours, and how far apart they are */
static const float iq4_bounds[15] = {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101};
static const float iq4_gaps[15] = {23, 21, 18, 16, 14, 13, 12, 11, 12, 13, 13, 15, 16, 20, 24};

static int iq4_nearest(float v)
{
    int level = 0;
    for (int k = 0; k < 15; k++) level += v > iq4_bounds[k];
    return level;
}

/* sums of w x l and w l^2 for the nearest levels l of x * inv */
static void iq4_sums(const float *x, const float *w, float inv, float *xl, float *ll)
{
    float v[32], level[32], a[LANES] = {0}, b[LANES] = {0};
    for (int i = 0; i < 32; i++) {
        v[i] = x[i] * inv;
        level[i] = iq4_values[0];
    }
    for (int k = 0; k < 15; k++) {
        float bound = iq4_bounds[k], gap = iq4_gaps[k];
        for (int i = 0; i < 32; i++) level[i] += v[i] > bound ? gap : 0.0f;
    }
    for (int i = 0; i < 32; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float wl = (w ? w[i + k] : 1.0f) * level[i + k];
            a[k] += wl * x[i + k];
            b[k] += wl * level[i + k];
        }
    *xl = lane_sum(a);
    *ll = lane_sum(b);
}

static bool iq4_nl(const float *x, const float *w, uint8_t *dst)
{
    float extreme = 0, best_gain = 0, best = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    float per_extreme = pith_inverse(extreme);
    /* the extreme goes to the longer end, or with the other sign to the shorter one, or somewhat beside */
    for (int step = 0; step < 26 && per_extreme != 0; step++) {
        float inv = per_extreme * (float)iq4_values[step % 2 ? 15 : 0] * (0.76f + 0.04f * (float)(step / 2)), xl, ll;
        iq4_sums(x, w, inv, &xl, &ll);
        if (!(ll > 0) || !(xl * xl / ll > best_gain)) continue;
        best_gain = xl * xl / ll;
        best = xl / ll;
    }
    uint8_t u[32];
    bool fits = pith_put_f16(dst, best);
    float inv = pith_inverse(pith_f16_to_f32(pith_le16(dst)));
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

/* No block type holds values beyond this (Q6_K reaches 65504 * 128 * 32); below it sums of squares stay finite. */
#define LARGEST 1e9f
#define MAX_BLOCK 256

static bool all_usable(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) <= LARGEST)) return false;
    return true;
}

/* w / max w, so that products with squares stay in range; *weights is NULL when all are 0. */
static pith_status scale_weights(const float *w, size_t n, float scaled[MAX_BLOCK], const float **weights)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(w[i])) return PITH_E_NONFINITE;
        if (w[i] < 0) return PITH_E_ARGUMENT;
        most = fmaxf(most, w[i]);
    }
    for (size_t i = 0; i < n && most > 0; i++) scaled[i] = w[i] / most;
    *weights = most > 0 ? scaled : NULL;
    return PITH_OK;
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
    float scaled[MAX_BLOCK];
    const float *weights = NULL;
    for (size_t i = 0; i < n; i += info->block_len, p += info->block_bytes) {
        if (!all_usable(src + i, info->block_len)) return PITH_E_NONFINITE;
        if (importance) PITH_TRY(scale_weights(importance + i, info->block_len, scaled, &weights));
        if (!encode(src + i, weights, p)) return PITH_E_NONFINITE;
    }
    return PITH_OK;
}
