/* NEON, 64-bit ARM.  Built twice: with dot products of bytes (PITH_KERN_DOT, the dotprod extension) and
 * without.  The 16 rows of a tile are in four registers of 4 lanes. */
#include <arm_neon.h>

#include "tensor/kern.h"

/* ---- registers of 16 values ------------------------------------------------------------------- */

typedef float32x4x4_t v16;
enum { VALUE_QUERIES = 1, VEC_ROWS = 4 };

#define EACH4(expression) \
    do { \
        _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) expression; \
    } while (0)

INLINE v16 v_set(float x) { return (v16){{vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}}; }
INLINE v16 v_add(v16 a, v16 b) { EACH4(a.val[i] = vaddq_f32(a.val[i], b.val[i])); return a; }
INLINE v16 v_sub(v16 a, v16 b) { EACH4(a.val[i] = vsubq_f32(a.val[i], b.val[i])); return a; }
INLINE v16 v_mul(v16 a, v16 b) { EACH4(a.val[i] = vmulq_f32(a.val[i], b.val[i])); return a; }
INLINE v16 v_div(v16 a, v16 b) { EACH4(a.val[i] = vdivq_f32(a.val[i], b.val[i])); return a; }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { EACH4(c.val[i] = vfmaq_f32(c.val[i], a.val[i], b.val[i])); return c; }
INLINE v16 v_fms(v16 a, v16 b, v16 c) { EACH4(c.val[i] = vfmaq_f32(vnegq_f32(c.val[i]), a.val[i], b.val[i])); return c; }
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { EACH4(c.val[i] = vfmsq_f32(c.val[i], a.val[i], b.val[i])); return c; }
INLINE v16 v_max(v16 a, v16 b) { EACH4(a.val[i] = vbslq_f32(vcgtq_f32(a.val[i], b.val[i]), a.val[i], b.val[i])); return a; }
INLINE v16 v_below(v16 x, v16 bound, v16 then, v16 otherwise)
{
    EACH4(x.val[i] = vbslq_f32(vcltq_f32(x.val[i], bound.val[i]), then.val[i], otherwise.val[i]));
    return x;
}
INLINE v16 v_above(v16 x, v16 bound, v16 then, v16 otherwise) { return v_below(bound, x, then, otherwise); }
INLINE v16 v_round(v16 x) { EACH4(x.val[i] = vrndnq_f32(x.val[i])); return x; }
INLINE v16 v_times_2_to(v16 x, v16 n)
{
    EACH4(x.val[i] = vmulq_f32(x.val[i], vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.val[i]), vdupq_n_s32(127)), 23))));
    return x;
}
INLINE float v_top(v16 x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.val[0], x.val[1]), vmaxq_f32(x.val[2], x.val[3]))); }

INLINE float v_sum(v16 s)
{
    float32x4_t x = vaddq_f32(vaddq_f32(s.val[0], s.val[2]), vaddq_f32(s.val[1], s.val[3]));
    float32x2_t y = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(y, 0) + vget_lane_f32(y, 1);
}

INLINE v16 v_load(const kind k, const void *src, size_t n)
{
    const size_t size = k == KIND_F32 ? 4 : k == KIND_I8 ? 1 : 2;
    uint8_t part[64];
    const uint8_t *p = src;
    if (n < 16) {
        memset(part, 0, 16 * size);
        memcpy(part, p, n * size);
        p = part;
    }
    v16 x;
    if (k == KIND_F32) {
        EACH4(x.val[i] = vreinterpretq_f32_u8(vld1q_u8(p + 16 * i)));
    } else if (k == KIND_F16) {
        EACH4(x.val[i] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * i))));
    } else if (k == KIND_BF16) {
        EACH4(x.val[i] = vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p + 8 * i)), 16)));
    } else {
        int8x16_t bytes8 = vreinterpretq_s8_u8(vld1q_u8(p));
        int16x8_t low = vmovl_s8(vget_low_s8(bytes8)), high = vmovl_s8(vget_high_s8(bytes8));
        x.val[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
        x.val[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
        x.val[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
        x.val[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
    }
    return x;
}

INLINE void v_store(float *p, v16 x, size_t n)
{
    float part[16], *dst = n < 16 ? part : p;
    EACH4(vst1q_f32(dst + 4 * i, x.val[i]));
    if (n < 16) memcpy(p, part, n * sizeof *p);
}

INLINE void v_store_f16(uint16_t *p, v16 x, size_t n)
{
    uint16_t part[16], *dst = n < 16 ? part : p;
    EACH4(vst1_u16(dst + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.val[i]))));
    if (n < 16) memcpy(p, part, n * sizeof *p);
}

INLINE v16 v_sum_rows(v16 s[16])
{
    float sums[16];
    for (int i = 0; i < 16; i++) sums[i] = v_sum(s[i]);
    return v_load(KIND_F32, sums, 16);
}

INLINE uint32_t v_top_magnitude(v16 x, v16 y)
{
    uint32x4_t top = vdupq_n_u32(0);
    EACH4(top = vmaxq_u32(top, vmaxq_u32(vreinterpretq_u32_f32(vabsq_f32(x.val[i])), vreinterpretq_u32_f32(vabsq_f32(y.val[i])))));
    return vmaxvq_u32(top);
}

INLINE int32_t v_store_i8(int8_t *p, v16 x, v16 y)
{
    int32_t sum = 0;
    for (int half = 0; half < 2; half++) {
        int32x4_t q[4];
        EACH4(q[i] = vcvtnq_s32_f32((half ? y : x).val[i]));
        int16x8_t low = vcombine_s16(vqmovn_s32(q[0]), vqmovn_s32(q[1])), high = vcombine_s16(vqmovn_s32(q[2]), vqmovn_s32(q[3]));
        vst1q_s8(p + 16 * half, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
        sum += vaddvq_s32(vaddq_s32(vaddq_s32(q[0], q[1]), vaddq_s32(q[2], q[3])));
    }
    return sum;
}

/* ---- low-bit products ------------------------------------------------------------------------- */

typedef uint8x16x4_t bytes;
typedef int32x4x4_t sums;
typedef int8x16_t four;
enum { BYTE_DOT = 1, BIASED = 1, MAT_ROWS = 3, MAT_TILES = 1 };

INLINE bytes b_zero(void) { return (bytes){{vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)}}; }
INLINE bytes b_load(const uint8_t *p)
{
    bytes x;
    EACH4(x.val[i] = vld1q_u8(p + 16 * i));
    return x;
}
INLINE void b_store(uint8_t *p, bytes x) { EACH4(vst1q_u8(p + 16 * i, x.val[i])); }
INLINE bytes b_and(bytes x, int m) { EACH4(x.val[i] = vandq_u8(x.val[i], vdupq_n_u8((uint8_t)m))); return x; }
INLINE bytes b_and_or(bytes x, int m, bytes y) { EACH4(x.val[i] = vorrq_u8(vandq_u8(x.val[i], vdupq_n_u8((uint8_t)m)), y.val[i])); return x; }
INLINE bytes b_left(bytes x, int n) { EACH4(x.val[i] = vshlq_u8(x.val[i], vdupq_n_s8((int8_t)n))); return x; }
INLINE bytes b_right(bytes x, int n) { EACH4(x.val[i] = vshlq_u8(x.val[i], vdupq_n_s8((int8_t)-n))); return x; }
INLINE bytes b_bias(bytes x) { EACH4(x.val[i] = veorq_u8(x.val[i], vdupq_n_u8(0x80))); return x; }
INLINE sums s_set(int x) { return (sums){{vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x)}}; }
INLINE sums s_add(sums a, sums b) { EACH4(a.val[i] = vaddq_s32(a.val[i], b.val[i])); return a; }
INLINE sums s_shift(sums x, int n) { EACH4(x.val[i] = vshlq_s32(x.val[i], vdupq_n_s32(-n))); return x; }
INLINE v16 s_float(sums x)
{
    v16 y;
    EACH4(y.val[i] = vcvtq_f32_s32(x.val[i]));
    return y;
}
INLINE four load4(const int8_t *q)
{
    int32_t x;
    memcpy(&x, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
}

/* Exact: a product of signed bytes, one above -128, and the sum of two fit 16 bits. */
INLINE sums dot4(sums acc, bytes u, four a, PITH_UNUSED unsigned bits)
{
    for (int i = 0; i < 4; i++) {
        int8x16_t w = vreinterpretq_s8_u8(u.val[i]);
#ifdef PITH_KERN_DOT
        acc.val[i] = vdotq_s32(acc.val[i], w, a);
#else
        int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(a)), high = vmull_high_s8(w, a);
        acc.val[i] = vpadalq_s16(acc.val[i], vpaddq_s16(low, high));
#endif
    }
    return acc;
}

#include "tensor/kern_lanes.h"
#include "tensor/kern_qmat.h"

#ifdef PITH_KERN_DOT
const pith_kernels pith_kernels_neon_dot = {.name = "neon-dot",
#else
const pith_kernels pith_kernels_neon = {.name = "neon",
#endif
    .gemm = pith_gemm_neon, .gemm_turned = pith_gemm_turned_neon, .gemm_apart = pith_gemm_apart_neon, .gemm_rows = pith_gemm_rows_neon,
    .gemm_pieces = pith_gemm_pieces_neon, .gemm16 = pith_gemm16_neon, .gemm8 = pith_gemm8_neon, LANES_ENTRIES, QMAT_ENTRIES};
