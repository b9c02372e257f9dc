/* f32 to the K types: 256 values in groups, each group with a small integer scale (and minimum) of a shared f16 one.
 * First each group's own best scale is sought; then, the shared one rounded to f16, the integers around the rounded
 * ratio are tried; then the shared one is fitted to what was chosen, and the integers are tried once more.
 *
 * All groups of a block go through a search side by side, in 16 columns that the compiler makes vectors of: value i of group g
 * is at [i * n_groups + g], so that of 8 groups two values each are in a row.  The candidates, and the order in which sums are
 * added, are those of pith_fit_scale and pith_fit_scale_min, and so are the bits; what those leave out for one group is
 * computed here and not taken. */
#include <float.h>

#include "format/quantize.h"

#define N 256
#define COLUMNS 16
#define LANES 8
#define LANE_ROWS(n_groups) (LANES * (n_groups) / COLUMNS)
#define TERMS(n_groups) (N / (LANES * (n_groups))) /* of each lane */
#define INLINE static inline __attribute__((always_inline)) /* with n_groups known, loops over values and lanes are unrolled */

/* The values of a block side by side, and their weights. */
static void lay_out(const float *restrict x, const float *restrict w, size_t n_groups, float *restrict xs, float *restrict ws)
{
    size_t n = N / n_groups;
    for (size_t g = 0; g < n_groups; g++)
        for (size_t i = 0; i < n; i++) {
            xs[i * n_groups + g] = x[g * n + i];
            ws[i * n_groups + g] = w ? w[g * n + i] : 1.0f;
        }
}

/* Sums of a block in lanes: value i of a group is added to the group's lane i % LANES, which fixes the order. */
typedef struct lanes {
    float at[LANES][COLUMNS]; /* with 8 groups: columns 0..7 are an even lane's, 8..15 the next one's */
} lanes;

INLINE float lane(const lanes *a, size_t n_groups, size_t k, size_t g)
{
    size_t at = k * n_groups + g;
    return a->at[at / COLUMNS][at % COLUMNS];
}

INLINE void add_lanes(const lanes *a, size_t n_groups, float *restrict sums)
{
#define L(k) lane(a, n_groups, k, g)
    for (size_t g = 0; g < n_groups; g++) sums[g] = ((L(0) + L(4)) + (L(1) + L(5))) + ((L(2) + L(6)) + (L(3) + L(7)));
#undef L
}

/* One number a group to one a column. */
INLINE void to_columns(const float *restrict v, size_t n_groups, float *restrict columns)
{
    for (size_t c = 0; c < COLUMNS; c++) columns[c] = v[c % n_groups];
}

/* as pith_inverse, without a branch */
INLINE float inverse(float d)
{
    float i = 1.0f / d;
    return fabsf(i) <= FLT_MAX ? i : 0.0f;
}

/* v as the nearest f16; what would vanish becomes the smallest number, so that groups can still be told from zero */
static float shared_f16(float v, uint16_t *half)
{
    *half = pith_f32_to_f16(v);
    if ((*half & 0x7fff) == 0 && v != 0) *half |= 1;
    return pith_f16_to_f32(*half);
}

INLINE float clamp(float v, float lo, float hi)
{
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}

/* sums of w (x - scale q - min)^2 with the nearest levels, one a group */
INLINE void group_errors(const float *restrict xs, const float *restrict ws, size_t n_groups, const float *restrict scale, const float *restrict min,
                         float lo, float hi, float *restrict error)
{
    lanes a;
    float inv[COLUMNS], scales[COLUMNS], mins[COLUMNS];
    to_columns(scale, n_groups, scales);
    to_columns(min, n_groups, mins);
    for (size_t c = 0; c < COLUMNS; c++) inv[c] = inverse(scales[c]);
    for (size_t k = 0; k < LANE_ROWS(n_groups); k++)
        for (size_t c = 0; c < COLUMNS; c++) {
            float sum = 0;
            for (size_t j = 0; j < TERMS(n_groups); j++) {
                size_t i = j * LANES * n_groups + k * COLUMNS + c;
                float v = xs[i] - mins[c], e = v - scales[c] * pith_level(v * inv[c], lo, hi);
                sum += ws[i] * e * e;
            }
            a.at[k][c] = sum;
        }
    add_lanes(&a, n_groups, error);
}

/* ---- scale only: Q3_K, Q6_K ------------------------------------------------------------------- */

typedef struct signed_fit {
    uint16_t half;              /* the shared scale */
    float codes[16];            /* whole numbers */
    float error;
} signed_fit;

/* sums of w x q and w q^2 for the levels of 1/scale = inv, one a group */
INLINE void scale_sums(const float *restrict xs, const float *restrict ws, float lo, float hi, const float *restrict inv, float *restrict xq, float *restrict qq)
{
    lanes a, b;
    for (size_t k = 0; k < LANE_ROWS(16); k++)
        for (size_t c = 0; c < COLUMNS; c++) {
            float sum_xq = 0, sum_qq = 0;
            for (size_t j = 0; j < TERMS(16); j++) {
                size_t i = j * LANES * 16 + k * COLUMNS + c;
                float q = pith_level(xs[i] * inv[c], lo, hi), wq = ws[i] * q;
                sum_xq += wq * xs[i];
                sum_qq += wq * q;
            }
            a.at[k][c] = sum_xq;
            b.at[k][c] = sum_qq;
        }
    add_lanes(&a, 16, xq);
    add_lanes(&b, 16, qq);
}

/* What pith_fit_scale finds for each group. */
INLINE void fit_scales(const float *restrict xs, const float *restrict ws, float lo, float hi, float *restrict scales)
{
    float per_extreme[16], best_gain[16], inv[16], xq[16], qq[16];
    for (size_t g = 0; g < 16; g++) {
        float extreme = 0;
        for (size_t i = 0; i < 16; i++) extreme = fabsf(xs[16 * i + g]) > fabsf(extreme) ? xs[16 * i + g] : extreme;
        per_extreme[g] = inverse(extreme);
        scales[g] = best_gain[g] = 0;
    }
    /* the extreme is put near the longer end (lo), somewhat inside or outside of the range */
    for (int step = -9; step <= 9; step++) {
        for (size_t g = 0; g < 16; g++) inv[g] = per_extreme[g] * (lo - 0.1f * (float)step);
        for (int round = 0; round < 2; round++) {
            scale_sums(xs, ws, lo, hi, inv, xq, qq);
            for (size_t g = 0; g < 16; g++) {
                /* with the best scale for these levels, xq/qq, the error is sum w x^2 - xq^2/qq; all levels 0 give NaN */
                float scale = xq[g] / qq[g], gain = xq[g] * scale;
                scales[g] = gain > best_gain[g] ? scale : scales[g];
                best_gain[g] = gain > best_gain[g] ? gain : best_gain[g];
                inv[g] = inverse(scale);
            }
        }
    }
}

/* Codes in c_lo..c_hi for a shared scale near d. */
INLINE void choose_codes(const float *xs, const float *ws, float d, const float *scales, float c_lo, float c_hi, float lo, float hi, signed_fit *fit)
{
    float middle[16], code[16], scale[16], least[16], error[16];
    static const float no_min[16];
    d = shared_f16(d, &fit->half);
    float inv = pith_inverse(d);
    for (size_t g = 0; g < 16; g++) {
        middle[g] = pith_level(scales[g] * inv, c_lo, c_hi);
        least[g] = FLT_MAX;
        fit->codes[g] = 0;
    }
    for (int step = -1; step <= 1; step++) {
        for (size_t g = 0; g < 16; g++) {
            code[g] = clamp(middle[g] + (float)step, c_lo, c_hi);
            scale[g] = d * code[g];
        }
        group_errors(xs, ws, 16, scale, no_min, lo, hi, error);
        for (size_t g = 0; g < 16; g++) {
            fit->codes[g] = error[g] < least[g] ? code[g] : fit->codes[g];
            least[g] = error[g] < least[g] ? error[g] : least[g];
        }
    }
    fit->error = 0;
    for (size_t g = 0; g < 16; g++) fit->error += least[g];
}

/* Levels q[256] of lo..hi and the fit they belong to; false when the scale does not fit f16. */
INLINE bool fit_signed(const float *restrict x, const float *restrict w, float c_lo, float c_hi, float lo, float hi, signed_fit *fit, int8_t *restrict q)
{
    float xs[N], ws[N], scales[16], extreme = 0;
    lay_out(x, w, 16, xs, ws);
    fit_scales(xs, ws, lo, hi, scales);
    for (int g = 0; g < 16; g++)
        if (fabsf(scales[g]) > fabsf(extreme)) extreme = scales[g];
    choose_codes(xs, ws, extreme / c_lo, scales, c_lo, c_hi, lo, hi, fit);
    /* the shared scale that is best for these codes and levels */
    float d = pith_f16_to_f32(fit->half), xq = 0, qq = 0, v[N];
    for (int g = 0; g < 16; g++) {
        float c = fit->codes[g], inv = pith_inverse(d * c);
        for (int i = 16 * g; i < 16 * g + 16; i++) v[i] = c * pith_level(x[i] * inv, lo, hi);
    }
    for (int i = 0; i < N; i++) {
        float weight = w ? w[i] : 1.0f;
        xq += weight * x[i] * v[i];
        qq += weight * v[i] * v[i];
    }
    signed_fit second;
    if (qq > 0) {
        choose_codes(xs, ws, xq / qq, scales, c_lo, c_hi, lo, hi, &second);
        if (second.error < fit->error) *fit = second;
    }
    d = pith_f16_to_f32(fit->half);
    for (int g = 0; g < 16; g++) {
        float inv = pith_inverse(d * fit->codes[g]);
        for (int i = 16 * g; i < 16 * g + 16; i++) q[i] = (int8_t)pith_level(x[i] * inv, lo, hi);
    }
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
    for (int g = 0; g < 16; g++) dst[192 + g] = (uint8_t)(int8_t)fit.codes[g];
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
        unsigned u = (unsigned)((int)fit.codes[g] + 32);
        dst[96 + g % 8] |= (uint8_t)((u & 15) << (g < 8 ? 0 : 4));
        dst[104 + g % 4] |= (uint8_t)((u >> 4) << 2 * (g / 4));
    }
    pith_put16(dst + 108, fit.half);
    return fits;
}

/* ---- scale and minimum: Q2_K, Q4_K, Q5_K ------------------------------------------------------ */

typedef struct min_fit {
    uint16_t half, half_min;    /* the shared scale and minimum; value = half scale q - half_min min */
    float scales[16], mins[16]; /* codes, whole numbers */
    float error;
} min_fit;

typedef struct min_type {
    size_t n_groups;
    float c_hi;                 /* largest code of scales and minima */
    float hi;                   /* largest level */
} min_type;

typedef struct min_sums {
    float q[16], qq[16], xq[16];
} min_sums;

INLINE void scale_min_sums(const float *restrict xs, const float *restrict ws, size_t n_groups, float hi, const float *restrict inv, const float *restrict from,
                           min_sums *restrict s)
{
    lanes a, b, d;
    float invs[COLUMNS], froms[COLUMNS];
    to_columns(inv, n_groups, invs);
    to_columns(from, n_groups, froms);
    for (size_t k = 0; k < LANE_ROWS(n_groups); k++)
        for (size_t c = 0; c < COLUMNS; c++) {
            float sum_q = 0, sum_qq = 0, sum_xq = 0;
            for (size_t j = 0; j < TERMS(n_groups); j++) {
                size_t i = j * LANES * n_groups + k * COLUMNS + c;
                float q = pith_level((xs[i] - froms[c]) * invs[c], 0, hi), wq = ws[i] * q;
                sum_q += wq;
                sum_qq += wq * q;
                sum_xq += wq * xs[i];
            }
            a.at[k][c] = sum_q;
            b.at[k][c] = sum_qq;
            d.at[k][c] = sum_xq;
        }
    add_lanes(&a, n_groups, s->q);
    add_lanes(&b, n_groups, s->qq);
    add_lanes(&d, n_groups, s->xq);
}

/* What pith_fit_scale_min finds for each group, with minima <= 0. */
INLINE void fit_scales_mins(const float *restrict xs, const float *restrict ws, size_t n_groups, float hi, float *restrict scales, float *restrict mins)
{
    float least[16], range[16], sum_w[16], sum_x[16], sum_xx[16], best_error[16], inv[16], from[16];
    min_sums s;
    for (size_t g = 0; g < n_groups; g++) {
        float low = xs[g], high = low, w = 0, x = 0, xx = 0;
        for (size_t i = 0; i < N / n_groups; i++) {
            float v = xs[i * n_groups + g], weight = ws[i * n_groups + g];
            low = low < v ? low : v;
            high = high > v ? high : v;
            w += weight;
            x += weight * v;
            xx += weight * v * v;
        }
        low = low > 0 ? 0 : low;
        least[g] = mins[g] = low;
        /* nothing is taken where all values are one or weigh nothing */
        range[g] = inverse(high - low) != 0 && w > 0 ? high - low : INFINITY;
        sum_w[g] = w, sum_x[g] = x, sum_xx[g] = xx;
        best_error[g] = FLT_MAX;
        scales[g] = 0;
    }
    for (int step = -5; step <= 9; step++) {
        for (size_t g = 0; g < n_groups; g++) {
            inv[g] = (hi + 0.1f * hi / 15.0f * (float)step) / range[g];
            from[g] = least[g];
        }
        for (int round = 0; round < 2; round++) {
            scale_min_sums(xs, ws, n_groups, hi, inv, from, &s);
            for (size_t g = 0; g < n_groups; g++) {
                float w = sum_w[g], x = sum_x[g], q = s.q[g], qq = s.qq[g], xq = s.xq[g];
                float det = w * qq - q * q, scale = (w * xq - x * q) / det, m = (qq * x - q * xq) / det;
                /* nearly all on one level, which tells nothing of the minimum; or a minimum that cannot be stored */
                bool one_level = !(det > 1e-5f * w * qq);
                float fixed = one_level ? from[g] : 0.0f, fixed_scale = one_level ? (xq - from[g] * q) / qq : xq / qq;
                bool free = !one_level && !(m > 0);
                m = free ? m : fixed;
                scale = free ? scale : fixed_scale;
                /* the error with these levels, from the sums alone */
                float error = sum_xx[g] + scale * scale * qq + m * m * w - 2 * scale * xq - 2 * m * x + 2 * scale * m * q;
                bool usable = inv[g] > 0 && qq > 0;
                error = usable ? error : FLT_MAX;
                scales[g] = error < best_error[g] ? scale : scales[g];
                mins[g] = error < best_error[g] ? m : mins[g];
                best_error[g] = error < best_error[g] ? error : best_error[g];
                inv[g] = usable ? inverse(scale) : 0.0f;
                from[g] = m;
            }
        }
    }
}

INLINE void choose_min_codes(const min_type *t, const float *xs, const float *ws, float d, float dmin, const float *scales, const float *mins, min_fit *fit)
{
    float s_middle[16], m_middle[16], s_code[16], m_code[16], scale[16], min[16], least[16], error[16];
    d = shared_f16(d, &fit->half);
    dmin = shared_f16(dmin, &fit->half_min);
    float inv = pith_inverse(d), inv_min = pith_inverse(dmin);
    for (size_t g = 0; g < t->n_groups; g++) {
        s_middle[g] = pith_level(scales[g] * inv, 0, t->c_hi);
        m_middle[g] = pith_level(mins[g] * inv_min, 0, t->c_hi);
        least[g] = FLT_MAX;
    }
    for (int step = 0; step < 9; step++) {
        for (size_t g = 0; g < t->n_groups; g++) {
            s_code[g] = clamp(s_middle[g] + (float)(step / 3 - 1), 0, t->c_hi);
            m_code[g] = clamp(m_middle[g] + (float)(step % 3 - 1), 0, t->c_hi);
            scale[g] = d * s_code[g];
            min[g] = -dmin * m_code[g];
        }
        group_errors(xs, ws, t->n_groups, scale, min, 0, t->hi, error);
        for (size_t g = 0; g < t->n_groups; g++) {
            /* an error that is no number, of a shared minimum beyond f16, is taken: the second one may be within */
            fit->scales[g] = error[g] >= least[g] ? fit->scales[g] : s_code[g];
            fit->mins[g] = error[g] >= least[g] ? fit->mins[g] : m_code[g];
            least[g] = error[g] >= least[g] ? least[g] : error[g];
        }
    }
    fit->error = 0;
    for (size_t g = 0; g < t->n_groups; g++) fit->error += least[g];
}

/* The levels of all values under a fit. */
INLINE void min_levels(const min_type *t, const min_fit *fit, const float *restrict x, float *restrict levels)
{
    float d = pith_f16_to_f32(fit->half), dmin = pith_f16_to_f32(fit->half_min);
    size_t n = N / t->n_groups;
    for (size_t g = 0; g < t->n_groups; g++) {
        float inv = pith_inverse(d * fit->scales[g]), min = dmin * fit->mins[g];
        for (size_t i = g * n; i < g * n + n; i++) levels[i] = pith_level((x[i] + min) * inv, 0, t->hi);
    }
}

INLINE bool fit_min(const min_type *t, const float *restrict x, const float *restrict w, min_fit *fit, uint8_t *restrict q)
{
    float xs[N], ws[N], scales[16], mins[16], levels[N], most = 0, most_min = 0;
    lay_out(x, w, t->n_groups, xs, ws);
    fit_scales_mins(xs, ws, t->n_groups, t->hi, scales, mins);
    for (size_t g = 0; g < t->n_groups; g++) {
        mins[g] = 0.0f - mins[g]; /* no -0 */
        most = fmaxf(most, scales[g]);
        most_min = fmaxf(most_min, mins[g]);
    }
    *fit = (min_fit){0};
    choose_min_codes(t, xs, ws, most / t->c_hi, most_min / t->c_hi, scales, mins, fit);
    /* the shared scale and minimum that are best for these codes and levels: x ~ d a - dmin b */
    float aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    min_levels(t, fit, x, levels);
    for (size_t i = 0; i < N; i++) {
        float a = fit->scales[i / (N / t->n_groups)] * levels[i], b = fit->mins[i / (N / t->n_groups)], weight = w ? w[i] : 1.0f;
        aa += weight * a * a;
        ab += weight * a * b;
        bb += weight * b * b;
        ax += weight * a * x[i];
        bx += weight * b * x[i];
    }
    float det = aa * bb - ab * ab, d2 = (ax * bb - ab * bx) / det, dmin2 = (ab * ax - aa * bx) / det;
    if (det > 0 && d2 > 0 && dmin2 > 0) {
        min_fit second = *fit;
        choose_min_codes(t, xs, ws, d2, dmin2, scales, mins, &second);
        if (second.error < fit->error) *fit = second;
        min_levels(t, fit, x, levels);
    }
    for (size_t i = 0; i < N; i++) q[i] = (uint8_t)levels[i];
    return (fit->half & 0x7c00) != 0x7c00 && (fit->half_min & 0x7c00) != 0x7c00;
}

static bool q2_k(const float *x, const float *w, uint8_t *dst)
{
    static const min_type type = {16, 15, 3};
    min_fit fit;
    uint8_t q[N];
    bool fits = fit_min(&type, x, w, &fit, q);
    memset(dst, 0, 80);
    for (int g = 0; g < 16; g++) dst[g] = (uint8_t)((int)fit.scales[g] | (int)fit.mins[g] << 4);
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
        int scale = (int)fit->scales[g], scale4 = (int)fit->scales[g + 4], min = (int)fit->mins[g], min4 = (int)fit->mins[g + 4];
        p[g] = (uint8_t)(scale | (scale4 >> 4) << 6);
        p[g + 4] = (uint8_t)(min | (min4 >> 4) << 6);
        p[g + 8] = (uint8_t)((scale4 & 15) | (min4 & 15) << 4);
    }
}

static bool q4_k(const float *x, const float *w, uint8_t *dst)
{
    static const min_type type = {8, 63, 15};
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
    static const min_type type = {8, 63, 31};
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
