/* AVX2 with FMA and F16C.  Built twice: with AVX-VNNI (PITH_KERN_VNNI, dot products of bytes in one
 * instruction) and without.  The 16 rows of a tile are in two registers of 8 lanes, a and b. */
#include <immintrin.h>

#include "tensor/kern.h"

/* ---- registers of 16 values ------------------------------------------------------------------- */

typedef struct v16 {
    __m256 a, b; /* values 0-7 and 8-15 */
} v16;
enum { VALUE_QUERIES = 1, VEC_ROWS = 4 };

INLINE v16 v_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE v16 v_add(v16 x, v16 y) { return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
INLINE v16 v_sub(v16 x, v16 y) { return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
INLINE v16 v_mul(v16 x, v16 y) { return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
INLINE v16 v_div(v16 x, v16 y) { return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
INLINE v16 v_max(v16 x, v16 y) { return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
INLINE v16 v_fma(v16 x, v16 y, v16 z) { return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
INLINE v16 v_fms(v16 x, v16 y, v16 z) { return (v16){_mm256_fmsub_ps(x.a, y.a, z.a), _mm256_fmsub_ps(x.b, y.b, z.b)}; }
INLINE v16 v_fnma(v16 x, v16 y, v16 z) { return (v16){_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)}; }
INLINE v16 v_below(v16 x, v16 bound, v16 then, v16 otherwise)
{
    return (v16){_mm256_blendv_ps(otherwise.a, then.a, _mm256_cmp_ps(x.a, bound.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(otherwise.b, then.b, _mm256_cmp_ps(x.b, bound.b, _CMP_LT_OQ))};
}
INLINE v16 v_above(v16 x, v16 bound, v16 then, v16 otherwise)
{
    return (v16){_mm256_blendv_ps(otherwise.a, then.a, _mm256_cmp_ps(x.a, bound.a, _CMP_GT_OQ)),
                 _mm256_blendv_ps(otherwise.b, then.b, _mm256_cmp_ps(x.b, bound.b, _CMP_GT_OQ))};
}
INLINE __m256 round8(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE v16 v_round(v16 x) { return (v16){round8(x.a), round8(x.b)}; }
INLINE __m256 power8(__m256 n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23)); }
INLINE v16 v_times_2_to(v16 x, v16 n) { return (v16){_mm256_mul_ps(x.a, power8(n.a)), _mm256_mul_ps(x.b, power8(n.b))}; }

INLINE float v_sum(v16 s)
{
    __m256 h = _mm256_add_ps(s.a, s.b);
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

INLINE float v_top(v16 s)
{
    __m256 h = _mm256_max_ps(s.a, s.b);
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

INLINE __m256 load8(const kind k, const void *p)
{
    switch (k) {
    case KIND_F32: return _mm256_loadu_ps(p);
    case KIND_F16: return _mm256_cvtph_ps(_mm_loadu_si128(p));
    case KIND_BF16: return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
    default: return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
    }
}

INLINE v16 v_load(const kind k, const void *p, size_t n)
{
    const size_t size = k == KIND_F32 ? 4 : k == KIND_I8 ? 1 : 2;
    uint8_t part[64];
    if (n < 16) {
        memset(part, 0, 16 * size);
        memcpy(part, p, n * size);
        p = part;
    }
    return (v16){load8(k, p), load8(k, (const uint8_t *)p + 8 * size)};
}

INLINE void v_store(float *p, v16 x, size_t n)
{
    float part[16], *dst = n < 16 ? part : p;
    _mm256_storeu_ps(dst, x.a);
    _mm256_storeu_ps(dst + 8, x.b);
    if (n < 16) memcpy(p, part, n * sizeof *p);
}

INLINE void v_store_f16(uint16_t *p, v16 x, size_t n)
{
    uint16_t part[16], *dst = n < 16 ? part : p;
    _mm_storeu_si128((__m128i *)(void *)dst, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(dst + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
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
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i h = _mm256_max_epu32(_mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(x.a), magnitude), _mm256_and_si256(_mm256_castps_si256(x.b), magnitude)),
                                 _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(y.a), magnitude), _mm256_and_si256(_mm256_castps_si256(y.b), magnitude)));
    __m128i t = _mm_max_epu32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    t = _mm_max_epu32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epu32(t, _mm_shuffle_epi32(t, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(t);
}

INLINE int32_t v_store_i8(int8_t *p, v16 x, v16 y)
{
    __m256i q0 = _mm256_cvtps_epi32(x.a), q1 = _mm256_cvtps_epi32(x.b), q2 = _mm256_cvtps_epi32(y.a), q3 = _mm256_cvtps_epi32(y.b);
    /* packing works within halves of 128 bits and leaves groups of 4 values in the order 0 2 4 6 1 3 5 7 */
    __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(q0, q1), _mm256_packs_epi32(q2, q3));
    _mm256_store_si256((__m256i *)(void *)p, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    __m256i s = _mm256_add_epi32(_mm256_add_epi32(q0, q1), _mm256_add_epi32(q2, q3));
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    return _mm_cvtsi128_si32(t);
}

/* ---- low-bit products ------------------------------------------------------------------------- */

typedef struct bytes {
    __m256i a, b;
} bytes, sums;
typedef __m256i four;
#ifdef PITH_KERN_VNNI
enum { BYTE_DOT = 1 };
#else
enum { BYTE_DOT = 0 };
#endif
enum { BIASED = 0, MAT_ROWS = 3, MAT_TILES = 1 };

INLINE bytes b_zero(void) { return (bytes){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
INLINE bytes b_load(const uint8_t *p) { return (bytes){_mm256_load_si256((const __m256i *)(const void *)p), _mm256_load_si256((const __m256i *)(const void *)(p + 32))}; }
INLINE void b_store(uint8_t *p, bytes x)
{
    _mm256_store_si256((__m256i *)(void *)p, x.a);
    _mm256_store_si256((__m256i *)(void *)(p + 32), x.b);
}
INLINE bytes b_and(bytes x, int m) { return (bytes){_mm256_and_si256(x.a, _mm256_set1_epi8((char)m)), _mm256_and_si256(x.b, _mm256_set1_epi8((char)m))}; }
INLINE bytes b_and_or(bytes x, int m, bytes y)
{
    x = b_and(x, m);
    return (bytes){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
INLINE bytes b_left(bytes x, int n) { return n ? (bytes){_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)} : x; }
INLINE bytes b_right(bytes x, int n) { return n ? (bytes){_mm256_srli_epi16(x.a, n), _mm256_srli_epi16(x.b, n)} : x; }
INLINE bytes b_bias(bytes x) { return x; }
INLINE sums s_set(int x) { return (sums){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INLINE sums s_add(sums x, sums y) { return (sums){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
INLINE sums s_shift(sums x, int n) { return (sums){_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)}; }
INLINE v16 s_float(sums x) { return (v16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
INLINE four load4(const int8_t *q)
{
    int32_t x;
    memcpy(&x, q, 4);
    return _mm256_set1_epi32(x);
}

/* Without VNNI pairs are added in 16 bits, and 2 * 127 * 127 fits but 2 * 255 * 127 does not. */
INLINE __m256i dot_half(__m256i acc, __m256i u, __m256i a, PITH_UNUSED unsigned bits)
{
#ifdef PITH_KERN_VNNI
    return _mm256_dpbusd_avx_epi32(acc, u, a);
#else
    if (bits == 8) {
        __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8));
        __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(a, 8));
        return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
    }
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, a), _mm256_set1_epi16(1)));
#endif
}

INLINE sums dot4(sums acc, bytes u, four a, unsigned bits) { return (sums){dot_half(acc.a, u.a, a, bits), dot_half(acc.b, u.b, a, bits)}; }

#include "tensor/kern_lanes.h"
#include "tensor/kern_qmat.h"

#ifdef PITH_KERN_VNNI
const pith_kernels pith_kernels_avx2_vnni = {.name = "avx2-vnni", .gemm16 = pith_gemm16_avx2_vnni, .gemm8 = pith_gemm8_avx2_vnni,
#else
const pith_kernels pith_kernels_avx2 = {.name = "avx2", .gemm16 = pith_gemm16_avx2, .gemm8 = pith_gemm8_avx2,
#endif
    .gemm = pith_gemm_avx2, .gemm_turned = pith_gemm_turned_avx2, .gemm_apart = pith_gemm_apart_avx2, .gemm_rows = pith_gemm_rows_avx2,
    .gemm_pieces = pith_gemm_pieces_avx2, LANES_ENTRIES, QMAT_ENTRIES};
