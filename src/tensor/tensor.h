/* Types of values and their storage, shapes, conversions to f32, and the place of the largest. */
#ifndef PITH_TENSOR_H
#define PITH_TENSOR_H

#include "base/base.h"

/* name, pinned number (in .pith files; the first 40 are GGUF's own), values a block, bytes a block.
 * Source of numbers and sizes: the GGUF specification (ggml-org/ggml, docs/gguf.md). */
#define PITH_DTYPES(X) \
    X(F32, 0, 1, 4) X(F16, 1, 1, 2) X(Q4_0, 2, 32, 18) X(Q4_1, 3, 32, 20) \
    X(Q5_0, 6, 32, 22) X(Q5_1, 7, 32, 24) X(Q8_0, 8, 32, 34) X(Q8_1, 9, 32, 36) \
    X(Q2_K, 10, 256, 84) X(Q3_K, 11, 256, 110) X(Q4_K, 12, 256, 144) X(Q5_K, 13, 256, 176) X(Q6_K, 14, 256, 210) X(Q8_K, 15, 256, 292) \
    X(IQ2_XXS, 16, 256, 66) X(IQ2_XS, 17, 256, 74) X(IQ3_XXS, 18, 256, 98) X(IQ1_S, 19, 256, 50) X(IQ4_NL, 20, 32, 18) \
    X(IQ3_S, 21, 256, 110) X(IQ2_S, 22, 256, 82) X(IQ4_XS, 23, 256, 136) \
    X(I8, 24, 1, 1) X(I16, 25, 1, 2) X(I32, 26, 1, 4) X(I64, 27, 1, 8) X(F64, 28, 1, 8) \
    X(IQ1_M, 29, 256, 56) X(BF16, 30, 1, 2) X(TQ1_0, 34, 256, 54) X(TQ2_0, 35, 256, 66) X(MXFP4, 39, 32, 17) \
    X(NVFP4, 40, 64, 36) X(Q1_0, 41, 128, 18) X(Q2_0, 42, 64, 18) \
    X(U8, 64, 1, 1) X(U16, 65, 1, 2) X(U32, 66, 1, 4) X(U64, 67, 1, 8) X(BOOL, 68, 1, 1) \
    X(F8_E4M3, 69, 1, 1) X(F8_E5M2, 70, 1, 1)

typedef enum pith_dtype {
#define X(name, number, n, bytes) PITH_##name = number,
    PITH_DTYPES(X)
#undef X
} pith_dtype;

typedef struct pith_dtype_info {
    const char *name;      /* "Q4_0" */
    size_t block_len;      /* values in a block, along the last (contiguous) dimension */
    size_t block_bytes;
} pith_dtype_info;

/** NULL when `dtype` is not one of the list: it may come straight from a file. */
const pith_dtype_info *pith_dtype_get(uint32_t dtype);
/** By name, case-insensitive; false when there is none. */
bool pith_dtype_by_name(const char *name, pith_dtype *dtype);
/** Bytes of n values (n a multiple of the block); false on overflow or a broken block. */
bool pith_dtype_bytes(pith_dtype dtype, size_t n, size_t *bytes);

#define PITH_MAX_DIMS 8

/* A view: row-major, dims[n_dims - 1] is contiguous.  (GGUF lists dimensions the other way round; its
 * reader turns them.)  Owns nothing. */
typedef struct pith_tensor {
    const void *data;
    pith_dtype dtype;
    int n_dims;
    size_t dims[PITH_MAX_DIMS];
} pith_tensor;

size_t pith_tensor_count(const pith_tensor *t);                     /* values */
size_t pith_tensor_cols(const pith_tensor *t);                      /* the last dimension; 1 for a scalar */

/** Where the largest of x [n] is, the first of equals; 0 when n is 0.  A NaN is never larger than another value and none is
 *  larger than it: it is passed over, but at x[0] it stays. */
size_t pith_argmax(const float *x, size_t n);

/* ---- half precision: IEEE 754-2008 binary16, and bfloat16, the upper half of a binary32; rounded to nearest even, NaN stays NaN. ---- */

static inline uint32_t pith_bits_of(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float pith_float_of(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

static inline float pith_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    uint32_t normal = (exponent + 112) << 23 | fraction << 13, small = pith_bits_of((float)fraction * 0x1p-24f); /* exact */
    uint32_t special = 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0); /* NaN becomes quiet, as the processors' own conversions do */
    return pith_float_of(sign | (exponent == 31 ? special : exponent == 0 ? small : normal));
}

static inline uint16_t pith_f32_to_f16(float f)
{
    uint32_t u = pith_bits_of(f), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    uint32_t small = pith_bits_of(pith_float_of(magnitude) + 0.5f) - 0x3f000000; /* below 2^-14: the addition rounds to multiples of 2^-24 */
    uint32_t special = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : 0x7c00; /* 65520 and above round to infinity */
    return (uint16_t)(sign | (magnitude >= 0x477ff000 ? special : magnitude < 0x38800000 ? small : normal));
}

static inline float pith_bf16_to_f32(uint16_t b) { return pith_float_of((uint32_t)b << 16); }

static inline uint16_t pith_f32_to_bf16(float f)
{
    uint32_t u = pith_bits_of(f);
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/** floor(log2 x) of x >= 0 from its exponent bits: -127 (0 and what is not normal) to 128 (not finite) */
static inline int pith_octave(float x) { return (int)(pith_bits_of(x) >> 23 & 255) - 127; }

#endif
