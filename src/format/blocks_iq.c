/* Decoders of the IQ types: groups of values taken from a table of grid points, with signs and small integer scales. */
#include "format/blocks.h"
#include "format/iq_tables.h"

/* the sixteen values of IQ4: denser near zero */
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* f16 scale, nibbles as in Q4_0 */
static void iq4_nl(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 32) {
        float d = pith_block_f16(src);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)iq4_values[src[2 + i] & 15];
            dst[i + 16] = d * (float)iq4_values[src[2 + i] >> 4];
        }
    }
}

/* f16 scale, 8 x 2 high bits and 8 nibbles of scales, then eight groups of 32 as in IQ4_NL */
static void iq4_xs(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 136) {
        float d = pith_block_f16(src);
        unsigned high = pith_le16(src + 2);
        for (int g = 0; g < 8; g++, dst += 32) {
            int scale = (src[4 + g / 2] >> 4 * (g % 2) & 15) | (int)(high >> 2 * g & 3) << 4;
            float dl = d * (float)(scale - 32);
            const uint8_t *q = src + 8 + 16 * g;
            for (int i = 0; i < 16; i++) {
                dst[i] = dl * (float)iq4_values[q[i] & 15];
                dst[i + 16] = dl * (float)iq4_values[q[i] >> 4];
            }
        }
    }
}

/* ---- grids ------------------------------------------------------------------------------------ */

static const uint8_t iq2_values[4] = {8, 25, 43, 0}; /* code 3 is not in the grids */
static const uint8_t iq3_xxs_values[8] = {4, 12, 20, 28, 36, 44, 52, 62};

/* Seven sign bits name eight: their number is even. */
static unsigned even_signs(unsigned seven) { return seven | (unsigned)(__builtin_popcount(seven) & 1) << 7; }

/* scale * grid point * sign for eight values of 2-bit codes */
static void put_iq2(float *dst, float scale, unsigned codes, unsigned signs)
{
    for (int i = 0; i < 8; i++) {
        float v = scale * (float)iq2_values[codes >> 2 * i & 3];
        dst[i] = signs >> i & 1 ? -v : v;
    }
}

/* f16 scale, then for 32 values: four bytes of grid indices, 4 x 7 bits of signs, 4 bits of scale */
static void iq2_xxs(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 66) {
        float d = pith_block_f16(src);
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = src + 2 + 8 * g;
            uint32_t rest = pith_le32(q + 4);
            float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
            for (int k = 0; k < 4; k++, dst += 8) put_iq2(dst, scale, iq2_xxs_grid[q[k]], even_signs(rest >> 7 * k & 127));
        }
    }
}

/* f16 scale, 32 x (9 bits of grid index, 7 of signs), 16 nibbles of scales */
static void iq2_xs(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 74) {
        float d = pith_block_f16(src);
        for (int k = 0; k < 32; k++, dst += 8) {
            unsigned q = pith_le16(src + 2 + 2 * k);
            float scale = d * (0.5f + (float)(src[66 + k / 4] >> 4 * (k / 2 % 2) & 15)) * 0.25f;
            put_iq2(dst, scale, iq2_xs_grid[q & 511], even_signs(q >> 9));
        }
    }
}

/* f16 scale, 32 bytes of grid indices, 32 of signs, 8 with two more index bits each, 16 nibbles of scales */
static void iq2_s(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 82) {
        float d = pith_block_f16(src);
        for (int k = 0; k < 32; k++, dst += 8) {
            unsigned q = src[2 + k] | (unsigned)(src[66 + k / 4] >> 2 * (k % 4) & 3) << 8;
            float scale = d * (0.5f + (float)(src[74 + k / 4] >> 4 * (k / 2 % 2) & 15)) * 0.25f;
            put_iq2(dst, scale, iq2_s_grid[q], src[34 + k]);
        }
    }
}

/* f16 scale, 64 bytes of grid indices (four values each), then for 32 values 4 x 7 bits of signs and 4 bits of scale */
static void iq3_xxs(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 98) {
        float d = pith_block_f16(src);
        for (int g = 0; g < 8; g++) {
            uint32_t rest = pith_le32(src + 66 + 4 * g);
            float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
            for (int k = 0; k < 8; k++, dst += 4) {
                unsigned codes = iq3_xxs_grid[src[2 + 8 * g + k]], signs = even_signs(rest >> 7 * (k / 2) & 127) >> 4 * (k % 2);
                for (int i = 0; i < 4; i++) {
                    float v = scale * (float)iq3_xxs_values[codes >> 3 * i & 7];
                    dst[i] = signs >> i & 1 ? -v : v;
                }
            }
        }
    }
}

/* f16 scale, 64 bytes of grid indices, 8 with their ninth bits, 32 of signs, 8 nibbles of scales */
static void iq3_s(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 110) {
        float d = pith_block_f16(src);
        for (int k = 0; k < 64; k++, dst += 4) {
            unsigned q = src[2 + k] | (unsigned)(src[66 + k / 8] >> k % 8 & 1) << 8;
            unsigned codes = iq3_s_grid[q], signs = src[74 + k / 2] >> 4 * (k % 2);
            float scale = d * (float)(1 + 2 * (src[106 + k / 16] >> 4 * (k / 8 % 2) & 15));
            for (int i = 0; i < 4; i++) {
                float v = scale * (float)(2 * (codes >> 3 * i & 7) + 1);
                dst[i] = signs >> i & 1 ? -v : v;
            }
        }
    }
}

/* scale * (grid point + shift) for eight values of -1, 0, 1 */
static void put_iq1(float *dst, float scale, unsigned codes, bool down)
{
    float shift = down ? -0.125f : 0.125f;
    for (int i = 0; i < 8; i++) dst[i] = scale * ((float)((int)(codes >> 2 * i & 3) - 1) + shift);
}

/* f16 scale, 32 bytes of grid indices, then for 32 values 4 x 3 more index bits, 3 bits of scale, the shift's sign */
static void iq1_s(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 50) {
        float d = pith_block_f16(src);
        for (int k = 0; k < 32; k++, dst += 8) {
            unsigned high = pith_le16(src + 34 + 2 * (k / 4));
            float scale = d * (float)(2 * (high >> 12 & 7) + 1);
            put_iq1(dst, scale, iq1_grid[src[2 + k] | (high >> 3 * (k % 4) & 7) << 8], high >> 15);
        }
    }
}

/* 32 bytes of grid indices, 32 nibbles (3 more index bits, the shift's sign), 4 x (4 x 3 bits of scales for 16 values,
 * and 4 bits of the f16 scale) */
static void iq1_m(const uint8_t *src, size_t n_blocks, float *dst)
{
    for (size_t b = 0; b < n_blocks; b++, src += 56) {
        unsigned half = 0;
        for (int i = 0; i < 4; i++) half |= (unsigned)(pith_le16(src + 48 + 2 * i) >> 12) << 4 * i;
        float d = pith_f16_to_f32((uint16_t)half);
        for (int k = 0; k < 32; k++, dst += 8) {
            unsigned high = src[32 + k / 2] >> 4 * (k % 2) & 15;
            float scale = d * (float)(2 * (pith_le16(src + 48 + 2 * (k / 8)) >> 3 * (k / 2 % 4) & 7) + 1);
            put_iq1(dst, scale, iq1_grid[src[k] | (high & 7) << 8], high >> 3);
        }
    }
}

pith_block_decoder *pith_decoder_iq(pith_dtype dtype)
{
    switch (dtype) {
    case PITH_IQ1_S: return iq1_s;
    case PITH_IQ1_M: return iq1_m;
    case PITH_IQ2_XXS: return iq2_xxs;
    case PITH_IQ2_XS: return iq2_xs;
    case PITH_IQ2_S: return iq2_s;
    case PITH_IQ3_XXS: return iq3_xxs;
    case PITH_IQ3_S: return iq3_s;
    case PITH_IQ4_NL: return iq4_nl;
    case PITH_IQ4_XS: return iq4_xs;
    default: return NULL;
    }
}
