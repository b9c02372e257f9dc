/* f32 to the K types: 256 values in groups, each group with a small integer scale (and minimum) of a shared f16 one.
 * First each group's own best scale is sought; then, the shared one rounded to f16, the integers around the rounded
 * ratio are tried; then the shared one is fitted to what was chosen, and the integers are tried once more. */
#include <float.h>

#include "format/quantize.h"

#define N 256
#define LANES 8

static const float ones[N] = {
#define ROW 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1
    ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW
#undef ROW
};

static float lane_sum(const float *a) { return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7])); }

/* v as the nearest f16; what would vanish becomes the smallest number, so that groups can still be told from zero */
static float shared_f16(float v, uint16_t *half)
{
    *half = pith_f32_to_f16(v);
    if ((*half & 0x7fff) == 0 && v != 0) *half |= 1;
    return pith_f16_to_f32(*half);
}

static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }
static int nearest(float v, int lo, int hi) { return (int)pith_level(v, (float)lo, (float)hi); }

/* sum of w (x - scale q - min)^2 with the nearest levels */
static float group_error(const float *restrict x, const float *restrict w, size_t n, float scale, float min, float lo, float hi)
{
    float inv = pith_inverse(scale), a[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            float e = x[i + k] - min - scale * pith_level((x[i + k] - min) * inv, lo, hi);
            a[k] += w[i + k] * e * e;
        }
    return lane_sum(a);
}

/* ---- scale only: Q3_K, Q6_K ------------------------------------------------------------------- */

typedef struct signed_fit {
    uint16_t half;              /* the shared scale */
    int8_t codes[16];
    float error;
} signed_fit;

/* Codes in c_lo..c_hi for a shared scale near d. */
static void choose_codes(const float *x, const float *w, float d, const float *scales, int c_lo, int c_hi, float lo, float hi, signed_fit *fit)
{
    d = shared_f16(d, &fit->half);
    float inv = pith_inverse(d);
    fit->error = 0;
    for (int g = 0; g < 16; g++) {
        int middle = nearest(scales[g] * inv, c_lo, c_hi), best = 0;
        float least = FLT_MAX;
        for (int c = clamp(middle - 1, c_lo, c_hi); c <= clamp(middle + 1, c_lo, c_hi); c++) {
            float error = group_error(x + 16 * g, w + 16 * g, 16, d * (float)c, 0, lo, hi);
            if (error < least) {
                least = error;
                best = c;
            }
        }
        fit->codes[g] = (int8_t)best;
        fit->error += least;
    }
}

/* Levels q[256] of lo..hi and the fit they belong to; false when the scale does not fit f16. */
static bool fit_signed(const float *x, const float *w, int c_lo, int c_hi, float lo, float hi, signed_fit *fit, int8_t *q)
{
    float scales[16], extreme = 0;
    if (!w) w = ones;
    for (int g = 0; g < 16; g++) {
        scales[g] = pith_fit_scale(x + 16 * g, w + 16 * g, 16, lo, hi);
        if (fabsf(scales[g]) > fabsf(extreme)) extreme = scales[g];
    }
    choose_codes(x, w, extreme / (float)c_lo, scales, c_lo, c_hi, lo, hi, fit);
    /* the shared scale that is best for these codes and levels */
    float d = pith_f16_to_f32(fit->half), xq = 0, qq = 0;
    for (int i = 0; i < N; i++) {
        float c = (float)fit->codes[i / 16], v = c * pith_level(x[i] * pith_inverse(d * c), lo, hi);
        xq += w[i] * x[i] * v;
        qq += w[i] * v * v;
    }
    signed_fit second;
    if (qq > 0) {
        choose_codes(x, w, xq / qq, scales, c_lo, c_hi, lo, hi, &second);
        if (second.error < fit->error) *fit = second;
    }
    d = pith_f16_to_f32(fit->half);
    for (int i = 0; i < N; i++) q[i] = (int8_t)pith_level(x[i] * pith_inverse(d * (float)fit->codes[i / 16]), lo, hi);
    return (fit->half & 0x7c00) != 0x7c00;
}

static bool q6_k(const float *x, const float *w, uint8_t *dst)
{
    signed_fit fit;
    int8_t q[N];
    bool fits = fit_signed(x, w, -128, 127, -32, 31, &fit, q);
    memset(dst, 0, 192);
    for (int i = 0; i < N; i++) {
        unsigned u = (unsigned)(q[i] + 32);
        int half = i / 128, quarter = i / 32 % 4, at = i % 32;
        dst[64 * half + 32 * (quarter % 2) + at] |= (uint8_t)((u & 15) << 4 * (quarter / 2));
        dst[128 + 32 * half + at] |= (uint8_t)((u >> 4) << 2 * quarter);
    }
    memcpy(dst + 192, fit.codes, 16);
    pith_put16(dst + 208, fit.half);
    return fits;
}

static bool q3_k(const float *x, const float *w, uint8_t *dst)
{
    signed_fit fit;
    int8_t q[N];
    bool fits = fit_signed(x, w, -32, 31, -4, 3, &fit, q);
    memset(dst, 0, 108);
    for (int i = 0; i < N; i++) {
        unsigned u = (unsigned)(q[i] + 4);
        dst[i % 32] |= (uint8_t)((u >> 2) << i / 32);
        dst[32 + 32 * (i / 128) + i % 32] |= (uint8_t)((u & 3) << 2 * (i / 32 % 4));
    }
    for (int g = 0; g < 16; g++) {
        unsigned u = (unsigned)(fit.codes[g] + 32);
        dst[96 + g % 8] |= (uint8_t)((u & 15) << (g < 8 ? 0 : 4));
        dst[104 + g % 4] |= (uint8_t)((u >> 4) << 2 * (g / 4));
    }
    pith_put16(dst + 108, fit.half);
    return fits;
}

/* ---- scale and minimum: Q2_K, Q4_K, Q5_K ------------------------------------------------------ */

typedef struct min_fit {
    uint16_t half, half_min;    /* the shared scale and minimum; value = half scale q - half_min min */
    uint8_t scales[16], mins[16];
    float error;
} min_fit;

typedef struct min_type {
    size_t group;               /* values a group */
    int c_hi;                   /* largest code of scales and minima */
    float hi;                   /* largest level */
} min_type;

static void choose_min_codes(const min_type *t, const float *x, const float *w, float d, float dmin, const float *scales, const float *mins, min_fit *fit)
{
    d = shared_f16(d, &fit->half);
    dmin = shared_f16(dmin, &fit->half_min);
    float inv = pith_inverse(d), inv_min = pith_inverse(dmin);
    fit->error = 0;
    for (size_t g = 0; g < N / t->group; g++) {
        int s = nearest(scales[g] * inv, 0, t->c_hi), m = nearest(mins[g] * inv_min, 0, t->c_hi);
        float least = FLT_MAX;
        for (int si = clamp(s - 1, 0, t->c_hi); si <= clamp(s + 1, 0, t->c_hi); si++)
            for (int mi = clamp(m - 1, 0, t->c_hi); mi <= clamp(m + 1, 0, t->c_hi); mi++) {
                float error = group_error(x + g * t->group, w + g * t->group, t->group, d * (float)si, -dmin * (float)mi, 0, t->hi);
                if (error >= least) continue;
                least = error;
                fit->scales[g] = (uint8_t)si;
                fit->mins[g] = (uint8_t)mi;
            }
        fit->error += least;
    }
}

/* The level of value i under a fit. */
static float min_level(const min_type *t, const min_fit *fit, float d, float dmin, const float *x, size_t i)
{
    size_t g = i / t->group;
    return pith_level((x[i] + dmin * (float)fit->mins[g]) * pith_inverse(d * (float)fit->scales[g]), 0, t->hi);
}

static bool fit_min(const min_type *t, const float *x, const float *w, min_fit *fit, uint8_t *q)
{
    float scales[16], mins[16], most = 0, most_min = 0;
    if (!w) w = ones;
    for (size_t g = 0; g < N / t->group; g++) {
        float m;
        scales[g] = pith_fit_scale_min(x + g * t->group, w + g * t->group, t->group, t->hi, true, &m);
        mins[g] = -m;
        most = fmaxf(most, scales[g]);
        most_min = fmaxf(most_min, mins[g]);
    }
    choose_min_codes(t, x, w, most / (float)t->c_hi, most_min / (float)t->c_hi, scales, mins, fit);
    /* the shared scale and minimum that are best for these codes and levels: x ~ d a - dmin b */
    float d = pith_f16_to_f32(fit->half), dmin = pith_f16_to_f32(fit->half_min), aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (size_t i = 0; i < N; i++) {
        float a = (float)fit->scales[i / t->group] * min_level(t, fit, d, dmin, x, i), b = (float)fit->mins[i / t->group];
        aa += w[i] * a * a;
        ab += w[i] * a * b;
        bb += w[i] * b * b;
        ax += w[i] * a * x[i];
        bx += w[i] * b * x[i];
    }
    float det = aa * bb - ab * ab, d2 = (ax * bb - ab * bx) / det, dmin2 = (ab * ax - aa * bx) / det;
    if (det > 0 && d2 > 0 && dmin2 > 0) {
        min_fit second = *fit;
        choose_min_codes(t, x, w, d2, dmin2, scales, mins, &second);
        if (second.error < fit->error) *fit = second;
    }
    d = pith_f16_to_f32(fit->half);
    dmin = pith_f16_to_f32(fit->half_min);
    for (size_t i = 0; i < N; i++) q[i] = (uint8_t)min_level(t, fit, d, dmin, x, i);
    return (fit->half & 0x7c00) != 0x7c00 && (fit->half_min & 0x7c00) != 0x7c00;
}

static bool q2_k(const float *x, const float *w, uint8_t *dst)
{
    static const min_type type = {16, 15, 3};
    min_fit fit;
    uint8_t q[N];
    bool fits = fit_min(&type, x, w, &fit, q);
    memset(dst, 0, 80);
    for (int g = 0; g < 16; g++) dst[g] = (uint8_t)(fit.scales[g] | fit.mins[g] << 4);
    for (int i = 0; i < N; i++) dst[16 + 32 * (i / 128) + i % 32] |= (uint8_t)(q[i] << 2 * (i / 32 % 4));
    pith_put16(dst + 80, fit.half);
    pith_put16(dst + 82, fit.half_min);
    return fits;
}

/* f16 scale, f16 minimum and 12 bytes of 6-bit codes, as Q4_K and Q5_K begin */
static void put_head(uint8_t *dst, const min_fit *fit)
{
    pith_put16(dst, fit->half);
    pith_put16(dst + 2, fit->half_min);
    uint8_t *p = dst + 4;
    memset(p, 0, 12);
    for (int g = 0; g < 4; g++) {
        p[g] = (uint8_t)(fit->scales[g] | (fit->scales[g + 4] >> 4) << 6);
        p[g + 4] = (uint8_t)(fit->mins[g] | (fit->mins[g + 4] >> 4) << 6);
        p[g + 8] = (uint8_t)((fit->scales[g + 4] & 15) | (fit->mins[g + 4] & 15) << 4);
    }
}

static bool q4_k(const float *x, const float *w, uint8_t *dst)
{
    static const min_type type = {32, 63, 15};
    min_fit fit;
    uint8_t q[N];
    bool fits = fit_min(&type, x, w, &fit, q);
    put_head(dst, &fit);
    memset(dst + 16, 0, 128);
    for (int i = 0; i < N; i++) dst[16 + 32 * (i / 64) + i % 32] |= (uint8_t)(q[i] << 4 * (i / 32 % 2));
    return fits;
}

static bool q5_k(const float *x, const float *w, uint8_t *dst)
{
    static const min_type type = {32, 63, 31};
    min_fit fit;
    uint8_t q[N];
    bool fits = fit_min(&type, x, w, &fit, q);
    put_head(dst, &fit);
    memset(dst + 16, 0, 160);
    for (int i = 0; i < N; i++) {
        dst[16 + i % 32] |= (uint8_t)((q[i] >> 4) << i / 32);
        dst[48 + 32 * (i / 64) + i % 32] |= (uint8_t)((q[i] & 15) << 4 * (i / 32 % 2));
    }
    return fits;
}

pith_block_encoder *pith_encoder_k(pith_dtype dtype)
{
    switch (dtype) {
    case PITH_Q2_K: return q2_k;
    case PITH_Q3_K: return q3_k;
    case PITH_Q4_K: return q4_k;
    case PITH_Q5_K: return q5_k;
    case PITH_Q6_K: return q6_k;
    default: return NULL;
    }
}
