/* Decoders of the K types: 256 values in groups of 16 or 32, each group's scale itself a small integer. */
#include "format/blocks.h"

/* 16 bytes (4-bit scale, 4-bit minimum), 64 bytes of 2-bit values 32 apart, f16 scale, f16 minimum */
static void q2_k(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 84) {
        float d = pith_block_f16(src + 80), dmin = pith_block_f16(src + 82);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)(src[g] & 15), min = dmin * (float)(src[g] >> 4);
            const uint8_t *q = src + 16 + 32 * (g / 8) + 16 * (g % 2);
            int shift = 2 * (g / 2 % 4);
            for (int i = 0; i < 16; i++) *dst++ = scale * (float)(q[i] >> shift & 3) - min;
        }
    }
}

/* 32 bytes of third bits (inverted), 64 bytes of 2-bit values, 12 bytes of 6-bit scales, f16 scale */
static void q3_k(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 110) {
        const uint8_t *packed = src + 96;
        float d = pith_block_f16(src + 108);
        for (int g = 0; g < 16; g++) {
            int low = packed[g % 8] >> (g < 8 ? 0 : 4) & 15, high = packed[8 + g % 4] >> 2 * (g / 4) & 3;
            float scale = d * (float)((low | high << 4) - 32);
            const uint8_t *q = src + 32 + 32 * (g / 8) + 16 * (g % 2), *mask = src + 16 * (g % 2);
            int shift = 2 * (g / 2 % 4), bit = g / 2;
            for (int i = 0; i < 16; i++) *dst++ = scale * (float)((q[i] >> shift & 3) - (mask[i] >> bit & 1 ? 0 : 4));
        }
    }
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K: the first four plain, the others in pieces. */
static void scale_min(const uint8_t p[12], int g, int *scale, int *min)
{
    if (g < 4) {
        *scale = p[g] & 63;
        *min = p[g + 4] & 63;
    } else {
        *scale = (p[g + 4] & 15) | (p[g - 4] >> 6) << 4;
        *min = p[g + 4] >> 4 | (p[g] >> 6) << 4;
    }
}

/* f16 scale, f16 minimum, 12 bytes of scales and minima, nibbles 32 apart */
static void q4_k(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 144) {
        float d = pith_block_f16(src), dmin = pith_block_f16(src + 2);
        for (int g = 0; g < 8; g++) {
            int s, m;
            scale_min(src + 4, g, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            const uint8_t *q = src + 16 + 32 * (g / 2);
            int shift = 4 * (g % 2);
            for (int i = 0; i < 32; i++) *dst++ = scale * (float)(q[i] >> shift & 15) - min;
        }
    }
}

/* as Q4_K, with 32 bytes of fifth bits before the nibbles */
static void q5_k(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 176) {
        float d = pith_block_f16(src), dmin = pith_block_f16(src + 2);
        for (int g = 0; g < 8; g++) {
            int s, m;
            scale_min(src + 4, g, &s, &m);
            float scale = d * (float)s, min = dmin * (float)m;
            const uint8_t *high = src + 16, *q = src + 48 + 32 * (g / 2);
            int shift = 4 * (g % 2);
            for (int i = 0; i < 32; i++) *dst++ = scale * (float)((q[i] >> shift & 15) | (high[i] >> g & 1) << 4) - min;
        }
    }
}

/* 128 bytes of low nibbles, 64 bytes of two high bits, 16 signed scales, f16 scale */
static void q6_k(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 210) {
        float d = pith_block_f16(src + 208);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)(int8_t)src[192 + g];
            int half = g / 8, quarter = g / 2 % 4, at = 16 * (g % 2);
            const uint8_t *low = src + 64 * half + 32 * (quarter % 2) + at, *high = src + 128 + 32 * half + at;
            int low_shift = 4 * (quarter / 2), high_shift = 2 * quarter;
            for (int i = 0; i < 16; i++) *dst++ = scale * (float)(((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
        }
    }
}

/* f32 scale, 256 signed bytes, 16 sums that decoding does not need */
static void q8_k(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 292) {
        uint32_t bits = pith_le32(src);
        float d;
        memcpy(&d, &bits, 4);
        for (int i = 0; i < 256; i++) *dst++ = d * (float)(int8_t)src[4 + i];
    }
}

pith_block_decoder *pith_decoder_k(pith_dtype dtype)
{
    switch (dtype) {
    case PITH_Q2_K: return q2_k;
    case PITH_Q3_K: return q3_k;
    case PITH_Q4_K: return q4_k;
    case PITH_Q5_K: return q5_k;
    case PITH_Q6_K: return q6_k;
    case PITH_Q8_K: return q8_k;
    default: return NULL;
    }
}
