/* The scalar kernels.  They define every result, bit for bit; the vector files must agree.  Plain code,
 * no thought of speed. */
#include <math.h>

#include "tensor/kern.h"

/* ---- sums ------------------------------------------------------------------------------------- */

static float sum16(float s[16])
{
    for (int half = 8; half >= 1; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

static float ref_dot(const float *a, const float *b, size_t n)
{
    float s[16] = {0};
    for (size_t i = 0; i < n; i++) s[i % 16] = fmaf(a[i], b[i], s[i % 16]);
    return sum16(s);
}

static void ref_axpy(float *y, const float *x, float a, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = fmaf(a, x[i], y[i]);
}

/* ---- low-bit matrices ------------------------------------------------------------------------- */

/* Value of row r, column c of a block of `bits` bits; the layout is qmat.h's. */
static unsigned block_value(const uint8_t *payload, unsigned bits, unsigned r, unsigned c)
{
    unsigned group = c / 4, value = 0, low = 0;
    for (unsigned p = 8; p >= 1; p /= 2) {
        if (!(bits & p)) continue;
        unsigned byte = payload[64 * (group % p) + 4 * r + c % 4];
        value |= (byte >> p * (group / p) & ((1u << p) - 1)) << low;
        low += p;
        payload += 64 * p;
    }
    return value;
}

/* zero of qmat.h's formula */
static int zero_of(const pith_qmat *w, unsigned bits)
{
    return bits == 0 || w->scale_mode == PITH_QSCALE_BLOCK_MIN ? 0 : 1 << (bits - 1);
}

/* One row of weights by one row of activations. */
static float row_product(const pith_qmat *w, size_t row, const pith_q8 *a, size_t i)
{
    size_t tile = row / PITH_TILE_ROWS;
    unsigned r = (unsigned)(row % PITH_TILE_ROWS);
    const uint8_t *bits = w->bits + tile * w->n_blocks;
    const uint8_t *scales = w->data + w->tile_offset[tile], *payload = scales + kern_scales_bytes(w);
    const int8_t *q = a->q + i * a->n_blocks * PITH_TILE_COLS;
    const float *a_scale = a->scale + i * a->n_blocks, *a_sum = a->sum + i * a->n_blocks;
    float y = 0;
    for (size_t b = 0; b < w->n_blocks; b++) {
        unsigned width = PITH_BLOCK_WIDTH(bits[b]);
        int dot = 0, zero = zero_of(w, width);
        for (unsigned c = 0; c < PITH_TILE_COLS; c++)
            dot += q[b * PITH_TILE_COLS + c] * ((int)block_value(payload, width, r, c) - zero);
        payload += 64u * width;
        switch (w->scale_mode) {
        case PITH_QSCALE_ROW:
            y = fmaf((float)dot * pith_block_factor(bits[b]), a_scale[b], y);
            if (bits[b] > 8) y = fmaf(pith_block_extra(bits[b]), a_sum[b], y);
            break;
        case PITH_QSCALE_BLOCK:
            y = fmaf((float)dot * pith_f16_to_f32(pith_le16(scales + 32 * b + 2 * r)), a_scale[b], y);
            break;
        case PITH_QSCALE_BLOCK_MIN:
            y = fmaf((float)dot * pith_f16_to_f32(pith_le16(scales + 64 * b + 2 * r)), a_scale[b], y);
            y = fmaf(pith_f16_to_f32(pith_le16(scales + 64 * b + 32 + 2 * r)), a_sum[b], y);
            break;
        }
    }
    if (w->scale_mode == PITH_QSCALE_ROW) y = w->row_scale[row] * fmaf(0.5f, a->total[i], y);
    return y;
}

static void ref_qmat_mat(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i0, size_t i1, float *y, size_t ldy)
{
    size_t row0 = tile0 * PITH_TILE_ROWS, row1 = PITH_MIN(tile1 * PITH_TILE_ROWS, w->n_rows);
    for (size_t i = i0; i < i1; i++)
        for (size_t row = row0; row < row1; row++) y[i * ldy + row - row0] = row_product(w, row, a, i);
}

static void ref_qmat_vec(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i_row, float *y)
{
    size_t row0 = tile0 * PITH_TILE_ROWS, row1 = PITH_MIN(tile1 * PITH_TILE_ROWS, w->n_rows);
    for (size_t row = row0; row < row1; row++) y[row - row0] = row_product(w, row, a, i_row);
}

static void ref_q8_rows(pith_q8 *a, size_t i0, size_t i1, const float *x, size_t ldx, size_t n_cols)
{
    for (size_t i = i0; i < i1; i++) {
        float total = 0;
        for (size_t b = 0; b < a->n_blocks; b++) {
            const float *xb = x + i * ldx + b * PITH_TILE_COLS;
            int8_t *q = a->q + (i * a->n_blocks + b) * PITH_TILE_COLS;
            size_t n = PITH_MIN((size_t)PITH_TILE_COLS, n_cols - b * PITH_TILE_COLS), at = i * a->n_blocks + b;
            float max = 0, scale = 0, inverse = 0;
            bool finite = true;
            for (size_t c = 0; c < n; c++) {
                finite = finite && isfinite(xb[c]);
                max = fmaxf(max, fabsf(xb[c]));
            }
            if (!finite) scale = NAN;
            else if (max >= PITH_Q8_TINY) {
                scale = max / 127;
                inverse = 127 / max;
            }
            int32_t sum = 0;
            memset(q, 0, PITH_TILE_COLS);
            for (size_t c = 0; finite && c < n; c++) sum += q[c] = (int8_t)rintf(xb[c] * inverse);
            a->isum[at] = sum;
            a->scale[at] = scale;
            a->sum[at] = scale * (float)sum;
            total += a->sum[at];
        }
        a->total[i] = total;
    }
}

/* ---- plain matrices --------------------------------------------------------------------------- */

static void ref_f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = pith_f16_to_f32(src[i]);
}

static void ref_f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = pith_f32_to_f16(src[i]);
}

static void ref_bf16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = pith_bf16_to_f32(src[i]);
}

static void ref_f16_vec(const uint16_t *w, size_t r0, size_t r1, size_t cols, const float *x, float *y)
{
    for (size_t r = r0; r < r1; r++) {
        float s[16] = {0};
        for (size_t c = 0; c < cols; c++) s[c % 16] = fmaf(pith_f16_to_f32(w[r * cols + c]), x[c], s[c % 16]);
        y[r - r0] = sum16(s);
    }
}

static void ref_bf16_vec(const uint16_t *w, size_t r0, size_t r1, size_t cols, const float *x, float *y)
{
    for (size_t r = r0; r < r1; r++) {
        float s[16] = {0};
        for (size_t c = 0; c < cols; c++) s[c % 16] = fmaf(pith_bf16_to_f32(w[r * cols + c]), x[c], s[c % 16]);
        y[r - r0] = sum16(s);
    }
}

static void ref_f32_vec(const float *w, size_t r0, size_t r1, size_t cols, const float *x, float *y)
{
    for (size_t r = r0; r < r1; r++) y[r - r0] = ref_dot(w + r * cols, x, cols);
}

/* ---- elementwise ------------------------------------------------------------------------------ */

static float ref_exp(float x)
{
    if (isnan(x)) return x;
    if (x < PITH_EXP_MIN) return 0;
    if (x > PITH_EXP_MAX) return INFINITY;
    float n = rintf(x * PITH_EXP_LOG2E);
    float r = fmaf(-n, PITH_EXP_LN2_LOW, fmaf(-n, PITH_EXP_LN2_HIGH, x));
    float q = fmaf(PITH_EXP_Q4, r, PITH_EXP_Q3);
    q = fmaf(q, r, PITH_EXP_Q2);
    q = fmaf(q, r, PITH_EXP_Q1);
    q = fmaf(q, r, PITH_EXP_Q0);
    float e = 1 + fmaf(q, r * r, r);
    uint32_t power = (uint32_t)((int)n + 127) << 23;
    float scale;
    memcpy(&scale, &power, 4);
    return e * scale;
}

static void ref_rmsnorm(float *y, const float *x, const float *gain, size_t n, float eps)
{
    float inverse = 1 / sqrtf(ref_dot(x, x, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = x[i] * inverse * gain[i];
}

static void ref_softmax(float *x, size_t n, float scale)
{
    float max = -INFINITY, s[16] = {0};
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
        max = x[i] > max ? x[i] : max;
    }
    for (size_t i = 0; i < n; i++) {
        x[i] = ref_exp(x[i] - max);
        s[i % 16] += x[i];
    }
    float inverse = 1 / sum16(s);
    for (size_t i = 0; i < n; i++) x[i] *= inverse;
}

static void ref_silu_mul(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = gate[i] / (1 + ref_exp(-gate[i])) * up[i];
}

static void ref_rope(float *x, const float *cos, const float *sin, size_t d, bool interleaved)
{
    size_t step = interleaved ? 2 : 1, far = interleaved ? 1 : d / 2;
    for (size_t i = 0; i < d / 2; i++) {
        float a = x[i * step], b = x[i * step + far];
        x[i * step] = fmaf(a, cos[i], -(b * sin[i]));
        x[i * step + far] = fmaf(a, sin[i], b * cos[i]);
    }
}

/* ---- attention -------------------------------------------------------------------------------- */

static void ref_attend_heads_f32(const float *q, size_t n_q, const float *k, const float *v, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out)
{
    for (size_t i = 0; i < n_q; i++, q += d, scratch += n, out += d) {
        for (size_t j = 0; j < n; j++) scratch[j] = ref_dot(k + j * stride, q, d);
        ref_softmax(scratch, n, scale);
        memset(out, 0, d * sizeof *out);
        for (size_t j = 0; j < n; j++) ref_axpy(out, v + j * stride, scratch[j], d);
    }
}

static void ref_attend_heads_f16(const float *q, size_t n_q, const uint16_t *k, const uint16_t *v, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out)
{
    for (size_t i = 0; i < n_q; i++, q += d, scratch += n, out += d) {
        for (size_t j = 0; j < n; j++) ref_f16_vec(k + j * stride, 0, 1, d, q, &scratch[j]);
        ref_softmax(scratch, n, scale);
        memset(out, 0, d * sizeof *out);
        for (size_t j = 0; j < n; j++)
            for (size_t c = 0; c < d; c++) out[c] = fmaf(scratch[j], pith_f16_to_f32(v[j * stride + c]), out[c]);
    }
}

static void ref_attend_heads_q8(const float *q, size_t n_q, const int8_t *k, const float *k_scale, const int8_t *v, const float *v_scale, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out)
{
    for (size_t i = 0; i < n_q; i++, q += d, scratch += n, out += d) {
        for (size_t j = 0; j < n; j++) {
            float s[16] = {0};
            for (size_t c = 0; c < d; c++) s[c % 16] = fmaf((float)k[j * stride + c], q[c], s[c % 16]);
            scratch[j] = sum16(s) * k_scale[j];
        }
        ref_softmax(scratch, n, scale);
        memset(out, 0, d * sizeof *out);
        for (size_t j = 0; j < n; j++) {
            float weight = scratch[j] * v_scale[j];
            for (size_t c = 0; c < d; c++) out[c] = fmaf(weight, (float)v[j * stride + c], out[c]);
        }
    }
}

const pith_kernels pith_kernels_ref = {
    .name = "scalar", .qmat_vec = ref_qmat_vec, .qmat_mat = ref_qmat_mat, .q8_rows = ref_q8_rows,
    .f16_vec = ref_f16_vec, .bf16_vec = ref_bf16_vec, .f32_vec = ref_f32_vec,
    .f16_to_f32 = ref_f16_to_f32, .f32_to_f16 = ref_f32_to_f16, .bf16_to_f32 = ref_bf16_to_f32,
    .dot = ref_dot, .axpy = ref_axpy, .rmsnorm = ref_rmsnorm, .softmax = ref_softmax, .silu_mul = ref_silu_mul,
    .rope = ref_rope,
    .attend_heads_f32 = ref_attend_heads_f32, .attend_heads_f16 = ref_attend_heads_f16, .attend_heads_q8 = ref_attend_heads_q8,
    .gemm = pith_gemm_ref, .gemm_turned = pith_gemm_turned_ref, .gemm_apart = pith_gemm_apart_ref, .gemm_rows = pith_gemm_rows_ref,
    .gemm_pieces = pith_gemm_pieces_ref, .gemm16 = pith_gemm16_ref, .gemm8 = pith_gemm8_ref,
};
