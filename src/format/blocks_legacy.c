/* Decoders of the 32-value types with one scale, and of the small ternary, binary and 4-bit float types. */
#include "format/blocks.h"

/* f16 scale, 16 bytes: low nibbles are values 0..15, high nibbles 16..31 */
static void q4_0(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 32) {
        float d = pith_block_f16(src);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((src[2 + i] & 15) - 8);
            dst[i + 16] = d * (float)((src[2 + i] >> 4) - 8);
        }
    }
}

/* f16 scale, f16 minimum, nibbles */
static void q4_1(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 20, dst += 32) {
        float d = pith_block_f16(src), m = pith_block_f16(src + 2);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)(src[4 + i] & 15) + m;
            dst[i + 16] = d * (float)(src[4 + i] >> 4) + m;
        }
    }
}

/* f16 scale, 32 fifth bits, nibbles */
static void q5_0(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 22, dst += 32) {
        float d = pith_block_f16(src);
        uint32_t high = pith_le32(src + 2);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((int)((src[6 + i] & 15) | (high >> i & 1) << 4) - 16);
            dst[i + 16] = d * (float)((int)((src[6 + i] >> 4) | (high >> (i + 16) & 1) << 4) - 16);
        }
    }
}

/* f16 scale, f16 minimum, 32 fifth bits, nibbles */
static void q5_1(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 24, dst += 32) {
        float d = pith_block_f16(src), m = pith_block_f16(src + 2);
        uint32_t high = pith_le32(src + 4);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((src[8 + i] & 15) | (high >> i & 1) << 4) + m;
            dst[i + 16] = d * (float)((src[8 + i] >> 4) | (high >> (i + 16) & 1) << 4) + m;
        }
    }
}

/* f16 scale, 32 signed bytes; Q8_1 has an f16 sum between them, which decoding does not need */
static void q8(const uint8_t *src, size_t n_blocks, float *dst, size_t head)
{
    for (size_t b = 0; b < n_blocks; b++, src += head + 32, dst += 32) {
        float d = pith_block_f16(src);
        for (int i = 0; i < 32; i++) dst[i] = (float)(int8_t)src[head + (size_t)i] * d;
    }
}

static void q8_0(const uint8_t *src, size_t n_blocks, float *dst) { q8(src, n_blocks, dst, 2); }
static void q8_1(const uint8_t *src, size_t n_blocks, float *dst) { q8(src, n_blocks, dst, 4); }

/* Five ternary digits a byte, as a fraction of 256: multiplying by 3 brings the next digit above the byte.
 * 32 bytes hold values 0..159, 16 bytes 160..239, 4 bytes with four digits 240..255; f16 scale. */
static void tq1_0(const uint8_t *src, size_t n_blocks, float *dst)
{
    static const struct { uint8_t n_bytes, n_digits; } parts[] = {{32, 5}, {16, 5}, {4, 4}};
    for (size_t b = 0; b < n_blocks; b++, src += 54) {
        float d = pith_block_f16(src + 52);
        const uint8_t *p = src;
        for (size_t k = 0; k < PITH_COUNT(parts); k++) {
            for (unsigned digit = 0, power = 1; digit < parts[k].n_digits; digit++, power *= 3)
                for (int i = 0; i < parts[k].n_bytes; i++) {
                    unsigned q = (uint8_t)(p[i] * power);
                    *dst++ = d * (float)((int)(q * 3 >> 8) - 1);
                }
            p += parts[k].n_bytes;
        }
    }
}

/* two bits a value, 32 values apart within 32 bytes; f16 scale */
static void tq2_0(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 66) {
        float d = pith_block_f16(src + 64);
        for (int half = 0; half < 64; half += 32)
            for (int shift = 0; shift < 8; shift += 2)
                for (int i = 0; i < 32; i++) *dst++ = d * (float)((src[half + i] >> shift & 3) - 1);
    }
}

/* the sixteen values of a 4-bit float E2M1 (OCP Microscaling Formats 1.0), doubled */
static const int8_t e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* 8-bit exponent (halved for the doubled values), nibbles as in Q4_0 */
static void mxfp4(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 17, dst += 32) {
        uint32_t bits = src[0] < 2 ? (uint32_t)0x00200000 << src[0] : (uint32_t)(src[0] - 1) << 23;
        float d;
        memcpy(&d, &bits, 4);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)e2m1[src[1 + i] & 15];
            dst[i + 16] = d * (float)e2m1[src[1 + i] >> 4];
        }
    }
}

/* an unsigned E4M3 scale, halved for the doubled values; 0x7f is not a number and taken as 0 */
static float ue4m3_half(uint8_t x)
{
    int exponent = x >> 3 & 15, mantissa = x & 7;
    if (x == 0 || x == 0x7f) return 0.0f;
    float raw = exponent == 0 ? (float)mantissa * 0x1p-9f : (1.0f + (float)mantissa / 8.0f) * (float)(1u << exponent) * 0x1p-7f;
    return raw * 0.5f;
}

/* 64 values: four scales, then four groups of 8 bytes, low nibbles values 0..7 of 16 */
static void nvfp4(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 36)
        for (int group = 0; group < 4; group++, dst += 16) {
            float d = ue4m3_half(src[group]);
            const uint8_t *q = src + 4 + 8 * group;
            for (int i = 0; i < 8; i++) {
                dst[i] = d * (float)e2m1[q[i] & 15];
                dst[i + 8] = d * (float)e2m1[q[i] >> 4];
            }
        }
}

/* 128 values of one bit: -scale or +scale */
static void q1_0(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 128) {
        float d = pith_block_f16(src);
        for (int i = 0; i < 128; i++) dst[i] = src[2 + i / 8] >> i % 8 & 1 ? d : -d;
    }
}

/* 64 values of two bits, four a byte from the lowest: scale times -1, 0, 1, 2 */
static void q2_0(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 64) {
        float d = pith_block_f16(src);
        for (int i = 0; i < 64; i++) dst[i] = d * (float)((src[2 + i / 4] >> 2 * (i % 4) & 3) - 1);
    }
}

pith_block_decoder *pith_decoder_legacy(pith_dtype dtype)
{
    switch (dtype) {
    case PITH_Q4_0: return q4_0;
    case PITH_Q4_1: return q4_1;
    case PITH_Q5_0: return q5_0;
    case PITH_Q5_1: return q5_1;
    case PITH_Q8_0: return q8_0;
    case PITH_Q8_1: return q8_1;
    case PITH_TQ1_0: return tq1_0;
    case PITH_TQ2_0: return tq2_0;
    case PITH_MXFP4: return mxfp4;
    case PITH_NVFP4: return nvfp4;
    case PITH_Q1_0: return q1_0;
    case PITH_Q2_0: return q2_0;
    default: return NULL;
    }
}
