/* Values of any type as f32, by rows or whole. */
#include "format/blocks.h"

static float e4m3(uint8_t x)
{
    /* 1-4-3 with bias 7, no infinities; 0x7f and 0xff are not numbers (OCP 8-bit Floating Point, 1.0) */
    int exponent = x >> 3 & 15, mantissa = x & 7;
    float f = exponent == 15 && mantissa == 7 ? __builtin_nanf("")
              : exponent == 0                 ? (float)mantissa * 0x1p-9f
                                              : (float)(8 + mantissa) * (float)(1u << exponent) * 0x1p-10f;
    return x & 0x80 ? -f : f;
}

/* 1-5-2 is the upper half of an f16 */
static float e5m2(uint8_t x) { return pith_f16_to_f32((uint16_t)(x << 8)); }

/* As pith_f16_to_f32, but without branches, so that the loop vectorises: the product moves the exponent up by 112, of
 * subnormals too; infinity and NaN then need the rest of the exponent (and NaN becomes quiet). */
static void f16_values(const uint8_t *p, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t h = pith_le16(p + 2 * i), u = (h & 0x7fff) << 13;
        float v;
        memcpy(&v, &u, 4);
        v *= 0x1p112f;
        uint32_t bits, infinite = u >= 0x0f800000 ? 0x7f800000 : 0, quiet = u > 0x0f800000 ? 0x00400000 : 0;
        memcpy(&bits, &v, 4);
        bits |= infinite | quiet | (h & 0x8000) << 16;
        memcpy(dst + i, &bits, 4);
    }
}

#define SCALARS(expression) \
    do { \
        for (size_t i = 0; i < n; i++) dst[i] = (float)(expression); \
        return PITH_OK; \
    } while (0)

static pith_status scalars(pith_dtype dtype, const uint8_t *p, size_t n, float *dst)
{
    switch (dtype) {
    case PITH_F32: memcpy(dst, p, 4 * n); return PITH_OK;
    case PITH_F16: f16_values(p, n, dst); return PITH_OK;
    case PITH_BF16: SCALARS(pith_bf16_to_f32(pith_le16(p + 2 * i)));
    case PITH_F64:
        for (size_t i = 0; i < n; i++) {
            uint64_t bits = pith_le64(p + 8 * i);
            double x;
            memcpy(&x, &bits, 8);
            dst[i] = (float)x;
        }
        return PITH_OK;
    case PITH_F8_E4M3: SCALARS(e4m3(p[i]));
    case PITH_F8_E5M2: SCALARS(e5m2(p[i]));
    case PITH_I8: SCALARS((int8_t)p[i]);
    case PITH_U8: case PITH_BOOL: SCALARS(p[i]);
    case PITH_I16: SCALARS((int16_t)pith_le16(p + 2 * i));
    case PITH_U16: SCALARS(pith_le16(p + 2 * i));
    case PITH_I32: SCALARS((int32_t)pith_le32(p + 4 * i));
    case PITH_U32: SCALARS(pith_le32(p + 4 * i));
    case PITH_I64: SCALARS((int64_t)pith_le64(p + 8 * i));
    case PITH_U64: SCALARS(pith_le64(p + 8 * i));
    default: return PITH_E_UNSUPPORTED;
    }
}

pith_status pith_blocks_to_f32(pith_dtype dtype, const void *src, size_t n, float *dst)
{
    const pith_dtype_info *info = pith_dtype_get((uint32_t)dtype);
    if (!info) return PITH_E_UNSUPPORTED;
    if (n == 0) return PITH_OK;
    if (info->block_len == 1) return scalars(dtype, src, n, dst);
    if (n % info->block_len) return PITH_E_SHAPE;
    pith_block_decoder *decode = pith_decoder_legacy(dtype);
    if (!decode) decode = pith_decoder_k(dtype);
    if (!decode) decode = pith_decoder_iq(dtype);
    if (!decode) return PITH_E_UNSUPPORTED;
    decode(src, n / info->block_len, dst);
    return PITH_OK;
}

pith_status pith_tensor_rows_f32(const pith_tensor *t, size_t r0, size_t r1, float *dst)
{
    const pith_dtype_info *info = pith_dtype_get((uint32_t)t->dtype);
    size_t cols = pith_tensor_cols(t), count = pith_tensor_count(t);
    if (!info) return PITH_E_UNSUPPORTED;
    if (r0 > r1 || cols == 0 || r1 > count / cols) return PITH_E_ARGUMENT;
    if (cols % info->block_len) return PITH_E_SHAPE;
    size_t row_bytes = cols / info->block_len * info->block_bytes;
    return pith_blocks_to_f32(t->dtype, (const uint8_t *)t->data + r0 * row_bytes, (r1 - r0) * cols, dst);
}
