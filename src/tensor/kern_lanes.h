/* The kernels on plain numbers, written once over registers of 16 values and included by each
 * instruction set's file, which first defines
 *     v16                                   16 f32 values
 *     v_set(x)  v_add v_sub v_mul v_div (a, b)
 *     v_fma(a, b, c) = a*b + c    v_fms(a, b, c) = a*b - c    v_fnma(a, b, c) = c - a*b    one rounding
 *     v_max(a, b) = a > b ? a : b           so b where a is NaN
 *     v_below(x, bound, then, otherwise) = x < bound ? then : otherwise;   v_above likewise
 *     v_round(x) to nearest even, |x| < 2^22;   v_times_2_to(x, n): x * 2^n, whole n in -126..127
 *     v_sum(x), v_top(x)                    sum in the order of kern.h; the largest
 *     v_load(kind, p, n)  v_store(p, x, n)  v_store_f16(p, x, n): the first n of 16, n >= 16 for all; other lanes load as 0
 *     v_sum_rows(s)                         the sums of 16 registers, as one; may change s
 *     VALUE_QUERIES                         queries whose results (4 registers each) are held at once
 *     VEC_ROWS                              rows of a matrix multiplied at once
 * and has its table entries from here under lanes_*. */
#ifndef PITH_KERN_LANES_H
#define PITH_KERN_LANES_H

#include <math.h>

INLINE size_t kind_size(const kind k) { return k == KIND_F32 ? 4 : k == KIND_I8 ? 1 : 2; }

/* ---- elementwise ------------------------------------------------------------------------------ */

/* never_high: no value is above PITH_EXP_MAX. */
INLINE v16 v_exp(v16 x, const bool never_high)
{
    const v16 lowest = v_set(PITH_EXP_MIN), highest = v_set(PITH_EXP_MAX);
    v16 inside = v_max(x, lowest); /* a NaN goes on through r */
    if (!never_high) inside = v_above(inside, highest, highest, inside);
    v16 n = v_round(v_mul(inside, v_set(PITH_EXP_LOG2E)));
    v16 r = v_fnma(n, v_set(PITH_EXP_LN2_LOW), v_fnma(n, v_set(PITH_EXP_LN2_HIGH), x));
    v16 q = v_fma(v_set(PITH_EXP_Q4), r, v_set(PITH_EXP_Q3));
    q = v_fma(q, r, v_set(PITH_EXP_Q2));
    q = v_fma(q, r, v_set(PITH_EXP_Q1));
    q = v_fma(q, r, v_set(PITH_EXP_Q0));
    v16 e = v_times_2_to(v_add(v_set(1), v_fma(q, v_mul(r, r), r)), n);
    if (!never_high) e = v_above(x, highest, v_set(INFINITY), e);
    return v_below(x, lowest, v_set(0), e);
}

static float lanes_dot(const float *a, const float *b, size_t n)
{
    v16 s = v_set(0);
    for (size_t i = 0; i < n; i += 16) s = v_fma(v_load(KIND_F32, a + i, n - i), v_load(KIND_F32, b + i, n - i), s);
    return v_sum(s);
}

static void lanes_axpy(float *y, const float *x, float a, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        v_store(y + i, v_fma(v_set(a), v_load(KIND_F32, x + i, n - i), v_load(KIND_F32, y + i, n - i)), n - i);
}

static void lanes_rmsnorm(float *y, const float *x, const float *gain, size_t n, float eps)
{
    const v16 inverse = v_set(1 / sqrtf(lanes_dot(x, x, n) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16)
        v_store(y + i, v_mul(v_mul(v_load(KIND_F32, x + i, n - i), inverse), v_load(KIND_F32, gain + i, n - i)), n - i);
}

static void lanes_softmax(float *x, size_t n, float scale)
{
    v16 max = v_set(-INFINITY), s = v_set(0);
    size_t whole = n / 16 * 16;
    for (size_t i = 0; i < whole; i += 16) {
        v16 v = v_mul(v_load(KIND_F32, x + i, 16), v_set(scale));
        v_store(x + i, v, 16);
        max = v_max(v, max);
    }
    float top = v_top(max);
    for (size_t i = whole; i < n; i++) {
        x[i] *= scale;
        top = x[i] > top ? x[i] : top;
    }
    for (size_t i = 0; i < n; i += 16) {
        v16 e = v_exp(v_sub(v_load(KIND_F32, x + i, n - i), v_set(top)), true);
        v_store(x + i, e, n - i);
        s = v_add(s, n - i < 16 ? v_load(KIND_F32, x + i, n - i) : e); /* lanes beyond the end are exp(-top), not 0 */
    }
    const v16 inverse = v_set(1 / v_sum(s));
    for (size_t i = 0; i < n; i += 16) v_store(x + i, v_mul(v_load(KIND_F32, x + i, n - i), inverse), n - i);
}

static void lanes_silu_mul(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        v16 g = v_load(KIND_F32, gate + i, n - i), e = v_exp(v_sub(v_set(-0.0f), g), false);
        v_store(y + i, v_mul(v_div(g, v_add(v_set(1), e)), v_load(KIND_F32, up + i, n - i)), n - i);
    }
}

static void lanes_rope(float *x, const float *cos, const float *sin, size_t d, bool interleaved)
{
    size_t half = d / 2;
    if (interleaved) { /* rare in files, and small beside the products: left to the compiler */
        for (size_t i = 0; i < half; i++) {
            float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = __builtin_fmaf(a, cos[i], -(b * sin[i]));
            x[2 * i + 1] = __builtin_fmaf(a, sin[i], b * cos[i]);
        }
        return;
    }
    for (size_t i = 0; i < half; i += 16) {
        size_t n = half - i;
        v16 a = v_load(KIND_F32, x + i, n), b = v_load(KIND_F32, x + half + i, n), c = v_load(KIND_F32, cos + i, n), s = v_load(KIND_F32, sin + i, n);
        v_store(x + i, v_fms(a, c, v_mul(b, s)), n);
        v_store(x + half + i, v_fma(a, s, v_mul(b, c)), n);
    }
}

static void lanes_f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 16) v_store(dst + i, v_load(KIND_F16, src + i, n - i), n - i);
}

static void lanes_bf16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 16) v_store(dst + i, v_load(KIND_BF16, src + i, n - i), n - i);
}

static void lanes_f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 16) v_store_f16(dst + i, v_load(KIND_F32, src + i, n - i), n - i);
}

/* ---- plain matrices --------------------------------------------------------------------------- */

/* Matrices are asked for this many bytes ahead, in the order they lie in memory: a few short rows at a time are
 * streams that end before the processor has learnt them.  A tenth to a third of the speed; 8 to 32 KiB serve alike. */
enum { ROWS_AHEAD = 8192 };

/* Dot products of `count` rows (at most 16; `stride` bytes apart) with x, one register of sums a row.
 * ahead: rows follow one another, and more of them follow these. */
INLINE void rows_times(const uint8_t *w, size_t stride, const int count, const kind k, const float *x, size_t n, v16 *s, const bool ahead)
{
    const size_t size = kind_size(k);
    size_t c = 0;
    for (int r = 0; r < count; r++) s[r] = v_set(0);
    for (; ahead && c + 32 <= n; c += 32) { /* of 16 bits: a line of the cache in each row */
        v16 x0 = v_load(KIND_F32, x + c, 16), x1 = v_load(KIND_F32, x + c + 16, 16);
#pragma GCC unroll 16
        for (size_t i = 0; i < (size_t)count * 32 * size; i += 64) __builtin_prefetch(w + ROWS_AHEAD + (size_t)count * c * size + i);
#pragma GCC unroll 16
        for (int r = 0; r < count; r++) {
            s[r] = v_fma(v_load(k, w + (size_t)r * stride + c * size, 16), x0, s[r]);
            s[r] = v_fma(v_load(k, w + (size_t)r * stride + (c + 16) * size, 16), x1, s[r]);
        }
    }
    for (; c + 16 <= n; c += 16) {
        v16 xc = v_load(KIND_F32, x + c, 16);
#pragma GCC unroll 16
        for (int r = 0; r < count; r++) s[r] = v_fma(v_load(k, w + (size_t)r * stride + c * size, 16), xc, s[r]);
    }
    if (c < n) {
        v16 xc = v_load(KIND_F32, x + c, n - c);
        for (int r = 0; r < count; r++) s[r] = v_fma(v_load(k, w + (size_t)r * stride + c * size, n - c), xc, s[r]);
    }
}

INLINE void matrix_vec(const void *w, size_t stride, size_t n_rows, const kind k, const float *x, size_t cols, float *y, const bool ahead)
{
    const uint8_t *p = w;
    v16 s[VEC_ROWS];
    size_t r = 0;
    for (; r + VEC_ROWS <= n_rows; r += VEC_ROWS) {
        rows_times(p + r * stride, stride, VEC_ROWS, k, x, cols, s, ahead);
        for (size_t i = 0; i < VEC_ROWS; i++) y[r + i] = v_sum(s[i]);
    }
    for (; r < n_rows; r++) {
        rows_times(p + r * stride, stride, 1, k, x, cols, s, ahead);
        y[r] = v_sum(s[0]);
    }
}

static void lanes_f32_vec(const float *w, size_t r0, size_t r1, size_t cols, const float *x, float *y)
{
    matrix_vec(w + r0 * cols, 4 * cols, r1 - r0, KIND_F32, x, cols, y, true);
}

static void lanes_f16_vec(const uint16_t *w, size_t r0, size_t r1, size_t cols, const float *x, float *y)
{
    matrix_vec(w + r0 * cols, 2 * cols, r1 - r0, KIND_F16, x, cols, y, true);
}

static void lanes_bf16_vec(const uint16_t *w, size_t r0, size_t r1, size_t cols, const float *x, float *y)
{
    matrix_vec(w + r0 * cols, 2 * cols, r1 - r0, KIND_BF16, x, cols, y, true);
}

/* ---- attention -------------------------------------------------------------------------------- */

/* Keys are taken 16 at a time.  When three queries or more share them and they are not f32, they are widened
 * once; heads wider than WIDE_HEAD are not. */
enum { WIDE_HEAD = 256 };

INLINE void scores_of_16(const uint8_t *k, size_t stride, const kind type, const float *q, size_t n_q, size_t ldq, size_t d, float *scores, size_t lds)
{
    for (size_t i = 0; i < n_q; i++) {
        v16 s[16];
        rows_times(k, stride, 16, type, q + i * ldq, d, s, false);
        v_store(scores + i * lds, v_sum_rows(s), 16);
    }
}

/* scores[i][j] = q[i] . k[j] */
INLINE void all_scores(const uint8_t *k, size_t stride, const kind type, const float *q, size_t n_q, size_t n, size_t d, float *scores)
{
    float wide[16 * WIDE_HEAD];
    size_t j = 0;
    for (; j + 16 <= n; j += 16, k += 16 * stride) {
        if (type == KIND_F32 || n_q <= 2 || d > WIDE_HEAD) {
            scores_of_16(k, stride, type, q, n_q, d, d, scores + j, n);
            continue;
        }
        for (size_t r = 0; r < 16; r++)
            for (size_t c = 0; c < d; c += 16) v_store(wide + r * d + c, v_load(type, k + r * stride + c * kind_size(type), d - c), d - c);
        scores_of_16((const uint8_t *)wide, d * sizeof *wide, KIND_F32, q, n_q, d, d, scores + j, n);
    }
    for (size_t i = 0; i < n_q; i++) matrix_vec(k, stride, n - j, type, q + i * d, d, scores + i * n + j, false);
}

/* out[i][c] = sum over j of weight[i][j] * v[j][c] for `count` queries, 64 columns at a time in registers.
 * scale: of each row of v, or NULL. */
INLINE void values_times(const uint8_t *v, size_t stride, const kind type, const float *scale, const float *weight, const int count, size_t n, size_t d, float *out)
{
    for (size_t c = 0; c < d; c += 64) {
        v16 s[VALUE_QUERIES][4];
        for (int i = 0; i < count; i++)
            for (int x = 0; x < 4; x++) s[i][x] = v_set(0);
        if (d - c >= 64) {
            for (size_t j = 0; j < n; j++) {
                v16 row[4];
#pragma GCC unroll 4
                for (size_t x = 0; x < 4; x++) row[x] = v_load(type, v + j * stride + (c + 16 * x) * kind_size(type), 16);
#pragma GCC unroll 4
                for (int i = 0; i < count; i++) {
                    float wj = weight[(size_t)i * n + j];
                    v16 w = v_set(type == KIND_I8 ? wj * scale[j] : wj);
#pragma GCC unroll 4
                    for (int x = 0; x < 4; x++) s[i][x] = v_fma(w, row[x], s[i][x]);
                }
            }
        } else {
            for (size_t j = 0; j < n; j++)
                for (int i = 0; i < count; i++) {
                    float wj = weight[(size_t)i * n + j];
                    v16 w = v_set(type == KIND_I8 ? wj * scale[j] : wj);
                    for (size_t x = 0; 16 * x < d - c; x++) s[i][x] = v_fma(w, v_load(type, v + j * stride + (c + 16 * x) * kind_size(type), d - c - 16 * x), s[i][x]);
                }
        }
        for (int i = 0; i < count; i++)
            for (size_t x = 0; x < 4 && c + 16 * x < d; x++) v_store(out + (size_t)i * d + c + 16 * x, s[i][x], d - c - 16 * x);
    }
}

INLINE void attend(const float *q, size_t n_q, const void *k, const float *k_scale, const void *v, const float *v_scale, const kind type, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out)
{
    stride *= kind_size(type);
    all_scores(k, stride, type, q, n_q, n, d, scratch);
    for (size_t i = 0; i < n_q; i++) {
        if (type == KIND_I8)
            for (size_t j = 0; j < n; j++) scratch[i * n + j] *= k_scale[j];
        lanes_softmax(scratch + i * n, n, scale);
    }
    size_t i = 0;
    for (; i + VALUE_QUERIES <= n_q; i += VALUE_QUERIES) values_times(v, stride, type, v_scale, scratch + i * n, VALUE_QUERIES, n, d, out + i * d);
    if (VALUE_QUERIES > 2 && i + 2 <= n_q) values_times(v, stride, type, v_scale, scratch + i * n, VALUE_QUERIES > 2 ? 2 : 1, n, d, out + i * d), i += 2;
    for (; i < n_q; i++) values_times(v, stride, type, v_scale, scratch + i * n, 1, n, d, out + i * d);
}

static void lanes_attend_heads_f32(const float *q, size_t n_q, const float *k, const float *v, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out)
{
    attend(q, n_q, k, NULL, v, NULL, KIND_F32, stride, n, d, scale, scratch, out);
}

static void lanes_attend_heads_f16(const float *q, size_t n_q, const uint16_t *k, const uint16_t *v, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out)
{
    attend(q, n_q, k, NULL, v, NULL, KIND_F16, stride, n, d, scale, scratch, out);
}

static void lanes_attend_heads_q8(const float *q, size_t n_q, const int8_t *k, const float *k_scale, const int8_t *v, const float *v_scale, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out)
{
    attend(q, n_q, k, k_scale, v, v_scale, KIND_I8, stride, n, d, scale, scratch, out);
}

#define LANES_ENTRIES                                                                                              \
    .f16_vec = lanes_f16_vec, .bf16_vec = lanes_bf16_vec, .f32_vec = lanes_f32_vec, .f16_to_f32 = lanes_f16_to_f32, \
    .f32_to_f16 = lanes_f32_to_f16, .bf16_to_f32 = lanes_bf16_to_f32, .dot = lanes_dot, .axpy = lanes_axpy,         \
    .rmsnorm = lanes_rmsnorm, .softmax = lanes_softmax, .silu_mul = lanes_silu_mul, .rope = lanes_rope,             \
    .attend_heads_f32 = lanes_attend_heads_f32, .attend_heads_f16 = lanes_attend_heads_f16, .attend_heads_q8 = lanes_attend_heads_q8

#endif
