/* Decoders of the IQ types: groups of values taken from a table of grid points, with signs and small integer scales. */
#include "format/blocks.h"

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

pith_block_decoder *pith_decoder_iq(pith_dtype dtype)
{
    switch (dtype) {
    case PITH_IQ4_NL: return iq4_nl;
    case PITH_IQ4_XS: return iq4_xs;
    default: return NULL;
    }
}
