/* Messages of compressed gradients.  Numbers are little-endian. */
#include "stream/grads/compressor.h"

#include <math.h>

#include "stage/code/rice.h"
#include "tensor/tensor.h"

#define BUCKET ((size_t)1024)
#define MAX_RANK 4096

pith_status pith_compressor_check(pith_ctx *ctx, const pith_compressor *c)
{
    switch (c->kind) {
    case PITH_COMPRESS_TOP_K:
    case PITH_COMPRESS_RANDOM_K:
        if (c->param > 0 && c->param <= 1) break;
        return pith_fail(ctx, PITH_E_ARGUMENT, "a share of values to send is above 0 and at most 1, not %g", c->param);
    case PITH_COMPRESS_QSGD:
        if (c->param >= 2 && c->param <= 16 && c->param == floor(c->param)) break;
        return pith_fail(ctx, PITH_E_ARGUMENT, "gradients are quantized to 2 to 16 bits, not %g", c->param);
    case PITH_COMPRESS_POWER:
        if (c->param >= 1 && c->param <= MAX_RANK && c->param == floor(c->param)) break;
        return pith_fail(ctx, PITH_E_ARGUMENT, "gradients are factored with rank 1 to %d, not %g", MAX_RANK, c->param);
    case PITH_COMPRESS_DENSE:
    case PITH_COMPRESS_SIGN: break;
    }
    return PITH_OK;
}

size_t pith_compressor_kept(const pith_compressor *c, size_t n)
{
    size_t k = (size_t)llrint(c->param * (double)n);
    return PITH_MIN(PITH_MAX(k, (size_t)1), n);
}

bool pith_compressor_factors(const pith_compressor *c, size_t rows, size_t cols)
{
    return c->kind == PITH_COMPRESS_POWER && 2 * c->param * (double)(rows + cols) < (double)rows * (double)cols;
}

size_t pith_compressor_bound(const pith_compressor *c, size_t n)
{
    if (n > UINT32_MAX / 8) return SIZE_MAX;
    size_t k = pith_compressor_kept(c, n);
    switch (c->kind) {
    case PITH_COMPRESS_TOP_K: return 4 * k + pith_rice_bound(k);
    case PITH_COMPRESS_RANDOM_K: return 4 * k;
    case PITH_COMPRESS_QSGD: return 4 * PITH_CEIL_DIV(n, BUCKET) + (n * (size_t)c->param + 7) / 8;
    case PITH_COMPRESS_SIGN: return 4 + (n + 7) / 8;
    case PITH_COMPRESS_DENSE:
    case PITH_COMPRESS_POWER: break;
    }
    return 4 * n;
}

double pith_compressor_bytes(const pith_compressor *c, size_t rows, size_t cols)
{
    size_t n = rows * cols;
    if (n == 0) return 0;
    if (pith_compressor_factors(c, rows, cols)) return 4 * c->param * (double)(rows + cols);
    if (c->kind != PITH_COMPRESS_TOP_K) return (double)pith_compressor_bound(c, n);
    /* a Rice code of geometric gaps of mean g and parameter p = floor(log2 g): p + 1 bits and the mean quotient */
    double k = (double)pith_compressor_kept(c, n), gap = PITH_MAX((double)n / k - 1, 1e-9), p = gap >= 1 ? floor(log2(gap)) : 0;
    double below = pow(gap / (gap + 1), exp2(p)), quotient = below / (1 - below);
    return 1 + k * (32 + p + 1 + quotient) / 8;
}

/* ---- floats in messages ----------------------------------------------------------------------- */

static void put_float(uint8_t *dst, float x) { pith_put32(dst, pith_bits_of(x)); }

static bool get_float(const uint8_t *src, float *x)
{
    *x = pith_float_of(pith_le32(src));
    return isfinite(*x);
}

/* ---- the largest, and some at random ---------------------------------------------------------- */

/* Magnitudes as whole numbers of the same order. */
static uint32_t magnitude(float x) { return pith_bits_of(x) & 0x7fffffff; }

/* The k-th largest of a [n], 1 <= k <= n; a is put in another order.  Quickselect (Hoare, CACM 4, 1961). */
static uint32_t kth_largest(uint32_t *a, size_t n, size_t k)
{
    size_t low = 0, high = n - 1, want = k - 1;
    while (low < high) {
        uint32_t x = a[low], y = a[low + (high - low) / 2], z = a[high], pivot = PITH_MAX(PITH_MIN(x, y), PITH_MIN(PITH_MAX(x, y), z));
        size_t i = low, j = high;
        for (;;) {
            while (a[i] > pivot) i++;
            while (a[j] < pivot) j--;
            if (i >= j) break;
            uint32_t swap = a[i];
            a[i++] = a[j];
            a[j--] = swap;
        }
        if (want <= j) high = j;
        else low = j + 1;
    }
    return a[want];
}

static size_t encode_top(const float *x, size_t n, size_t k, uint32_t *scratch, uint8_t *dst)
{
    if (n == 0) return 0;
    for (size_t i = 0; i < n; i++) scratch[i] = magnitude(x[i]);
    uint32_t least = kth_largest(scratch, n, k);
    size_t n_above = 0, n_chosen = 0, next = 0;
    for (size_t i = 0; i < n; i++) n_above += magnitude(x[i]) > least;
    size_t n_equal = k - n_above; /* of those that equal the least, the first so many */
    for (size_t i = 0; i < n; i++) {
        uint32_t m = magnitude(x[i]);
        if (m < least || (m == least && n_equal == 0)) continue;
        n_equal -= m == least;
        put_float(dst + 4 * n_chosen, x[i]);
        scratch[n_chosen++] = (uint32_t)(i - next); /* n_chosen <= i: what is overwritten was read */
        next = i + 1;
    }
    return 4 * k + pith_rice_encode(scratch, k, dst + 4 * k);
}

static bool decode_top(const uint8_t *src, size_t len, size_t n, size_t k, uint32_t *scratch, float *x)
{
    size_t used, at = 0;
    if (n == 0) return len == 0;
    if (len < 4 * k || !pith_rice_decode(src + 4 * k, len - 4 * k, scratch, k, &used) || used != len - 4 * k) return false;
    memset(x, 0, n * sizeof *x);
    for (size_t i = 0; i < k; i++, at++) {
        if (scratch[i] >= n - at) return false;
        at += scratch[i];
        if (!get_float(src + 4 * i, &x[at])) return false;
        if (at == n - 1 && i + 1 < k) return false;
    }
    return true;
}

/* Whether each place is one of k of n drawn without repetition, in order (Knuth, vol. 2, algorithm 3.4.2 S). */
typedef struct sampler {
    pith_rng rng;
    size_t left, wanted;
} sampler;
static bool is_drawn(sampler *s) { return pith_rng_below(&s->rng, (uint32_t)s->left--) < s->wanted && s->wanted--; }
static sampler start_sampler(pith_draws d, size_t n, size_t k) { return (sampler){{d.seed, d.stream, 0}, n, k}; }

static size_t encode_random(pith_draws d, const float *x, size_t n, size_t k, uint8_t *dst)
{
    sampler s = start_sampler(d, n, k);
    size_t at = 0;
    for (size_t i = 0; i < n && at < k; i++)
        if (is_drawn(&s)) put_float(dst + 4 * at++, x[i]);
    return 4 * k;
}

static bool decode_random(pith_draws d, const uint8_t *src, size_t len, size_t n, size_t k, float *x)
{
    sampler s = start_sampler(d, n, k);
    if (len != 4 * k) return false;
    memset(x, 0, n * sizeof *x);
    for (size_t i = 0; i < n && s.wanted; i++) {
        if (!is_drawn(&s)) continue;
        if (!get_float(src, &x[i])) return false;
        src += 4;
    }
    return true;
}

/* ---- quantized -------------------------------------------------------------------------------- */

static size_t encode_qsgd(pith_draws d, int bits, const float *x, size_t n, uint8_t *dst)
{
    uint8_t *start = dst;
    uint32_t drawn[4];             /* of four values at a time */
    float levels = (float)((1 << (bits - 1)) - 1);
    uint64_t window = 0;
    int filled = 0;
    for (size_t b = 0; b < n; b += BUCKET, dst += 4) {
        float scale = 0;
        for (size_t i = b; i < PITH_MIN(b + BUCKET, n); i++) scale = PITH_MAX(scale, fabsf(x[i]));
        put_float(dst, scale);
    }
    for (size_t i = 0; i < n; i++) {
        float scale;
        get_float(start + 4 * (i / BUCKET), &scale);
        if (i % 4 == 0) pith_philox(d.seed, d.stream, i / 4, drawn);
        float u = pith_uniform_of(drawn[i % 4]), level = scale > 0 ? floorf(levels * (fabsf(x[i]) / scale) + u) : 0;
        window |= ((uint64_t)PITH_MIN(level, levels) << 1 | (x[i] < 0)) << filled;
        for (filled += bits; filled >= 8; filled -= 8, window >>= 8) *dst++ = (uint8_t)window;
    }
    if (filled) *dst++ = (uint8_t)window;
    return (size_t)(dst - start);
}

static bool decode_qsgd(int bits, const uint8_t *src, size_t n, float *x)
{
    const uint8_t *scales = src;
    float levels = (float)((1 << (bits - 1)) - 1), scale = 0;
    uint64_t window = 0;
    int filled = 0;
    src += 4 * PITH_CEIL_DIV(n, BUCKET);
    for (size_t i = 0; i < n; i++) {
        if (i % BUCKET == 0 && (!get_float(scales + 4 * (i / BUCKET), &scale) || scale < 0)) return false;
        for (; filled < bits; filled += 8) window |= (uint64_t)*src++ << filled;
        uint32_t code = (uint32_t)window & ((1u << bits) - 1);
        window >>= bits;
        filled -= bits;
        float value = scale * ((float)(code >> 1) / levels);
        x[i] = code & 1 ? -value : value;
    }
    return true;
}

static size_t encode_sign(const float *x, size_t n, uint8_t *dst)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += fabs((double)x[i]);
    put_float(dst, n ? (float)(sum / (double)n) : 0);
    memset(dst + 4, 0, (n + 7) / 8);
    for (size_t i = 0; i < n; i++) dst[4 + i / 8] |= (uint8_t)((x[i] < 0) << i % 8);
    return 4 + (n + 7) / 8;
}

static bool decode_sign(const uint8_t *src, size_t n, float *x)
{
    float scale;
    if (!get_float(src, &scale) || scale < 0) return false;
    for (size_t i = 0; i < n; i++) x[i] = src[4 + i / 8] >> i % 8 & 1 ? -scale : scale;
    return true;
}

/* ---- messages --------------------------------------------------------------------------------- */

pith_status pith_compressor_encode(pith_ctx *ctx, const pith_compressor *c, pith_draws draws, const float *x, size_t n, uint32_t *scratch, uint8_t *dst, size_t *len)
{
    if (n > UINT32_MAX / 8) return pith_fail(ctx, PITH_E_LIMIT, "a gradient of %zu values is too large for a message; split its tensor", n);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return pith_fail(ctx, PITH_E_NONFINITE, "a gradient that should be sent is %g at %zu", (double)x[i], i);
    switch (c->kind) {
    case PITH_COMPRESS_TOP_K: *len = encode_top(x, n, pith_compressor_kept(c, n), scratch, dst); break;
    case PITH_COMPRESS_RANDOM_K: *len = encode_random(draws, x, n, pith_compressor_kept(c, n), dst); break;
    case PITH_COMPRESS_QSGD: *len = encode_qsgd(draws, (int)c->param, x, n, dst); break;
    case PITH_COMPRESS_SIGN: *len = encode_sign(x, n, dst); break;
    case PITH_COMPRESS_DENSE:
    case PITH_COMPRESS_POWER:
        for (size_t i = 0; i < n; i++) put_float(dst + 4 * i, x[i]);
        *len = 4 * n;
    }
    return PITH_OK;
}

pith_status pith_compressor_decode(pith_ctx *ctx, const pith_compressor *c, pith_draws draws, const uint8_t *src, size_t len, size_t n, uint32_t *scratch, float *x)
{
    size_t k = pith_compressor_kept(c, n), whole = pith_compressor_bound(c, n);
    bool ok = c->kind == PITH_COMPRESS_TOP_K ? len <= whole : len == whole;
    switch (ok ? c->kind : PITH_COMPRESS_DENSE) {
    case PITH_COMPRESS_TOP_K: ok = decode_top(src, len, n, k, scratch, x); break;
    case PITH_COMPRESS_RANDOM_K: ok = decode_random(draws, src, len, n, k, x); break;
    case PITH_COMPRESS_QSGD: ok = decode_qsgd((int)c->param, src, n, x); break;
    case PITH_COMPRESS_SIGN: ok = decode_sign(src, n, x); break;
    case PITH_COMPRESS_DENSE:
    case PITH_COMPRESS_POWER:
        for (size_t i = 0; i < n && ok; i++) ok = get_float(src + 4 * i, &x[i]);
    }
    return ok ? PITH_OK : pith_fail(ctx, PITH_E_CORRUPT, "a worker's message of %zu bytes is no gradient of %zu values; all workers must run the same program", len, n);
}

/* ---- factors ---------------------------------------------------------------------------------- */

void pith_orthonormal(float *p, size_t rows, size_t r)
{
    for (size_t c = 0; c < r; c++) {
        double before = 0, after = 0;
        for (size_t i = 0; i < rows; i++) before += (double)p[i * r + c] * (double)p[i * r + c];
        for (int again = 0; again < 2; again++) /* twice is enough: Kahan, in Parlett 1980 */
            for (size_t o = 0; o < c; o++) {
                double dot = 0;
                for (size_t i = 0; i < rows; i++) dot += (double)p[i * r + o] * (double)p[i * r + c];
                for (size_t i = 0; i < rows; i++) p[i * r + c] -= (float)dot * p[i * r + o];
            }
        for (size_t i = 0; i < rows; i++) after += (double)p[i * r + c] * (double)p[i * r + c];
        float scale = after > 1e-10 * before ? (float)(1 / sqrt(after)) : 0;
        for (size_t i = 0; i < rows; i++) p[i * r + c] *= scale;
    }
}

void pith_power_left(const float *m, size_t rows, size_t cols, const float *q, size_t r, float *p)
{
    memset(p, 0, rows * r * sizeof *p);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            for (size_t k = 0; k < r; k++) p[i * r + k] += m[i * cols + j] * q[j * r + k];
}

void pith_power_right(const float *m, size_t rows, size_t cols, const float *p, size_t r, float *q)
{
    memset(q, 0, cols * r * sizeof *q);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            for (size_t k = 0; k < r; k++) q[j * r + k] += m[i * cols + j] * p[i * r + k];
}

void pith_power_product(const float *p, const float *q, size_t rows, size_t cols, size_t r, float *m)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            float sum = 0;
            for (size_t k = 0; k < r; k++) sum += p[i * r + k] * q[j * r + k];
            m[i * cols + j] = sum;
        }
}
