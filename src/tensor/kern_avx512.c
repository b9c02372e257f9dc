/* AVX-512 (F, BW, VL, DQ).  Built twice: with VNNI (PITH_KERN_VNNI, dot products of bytes in one
 * instruction) and without.  A register holds the 16 rows of a tile, one a lane. */
#include <immintrin.h>

#include "tensor/kern.h"

/* ---- registers of 16 values ------------------------------------------------------------------- */

INLINE __mmask16 mask_below(size_t n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }

typedef __m512 v16;
enum { VALUE_QUERIES = 3, VEC_ROWS = 4 };

INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 v_fms(v16 a, v16 b, v16 c) { return _mm512_fmsub_ps(a, b, c); }
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 v_below(v16 x, v16 bound, v16 then, v16 otherwise) { return _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask(x, bound, _CMP_LT_OQ), then); }
INLINE v16 v_above(v16 x, v16 bound, v16 then, v16 otherwise) { return _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask(x, bound, _CMP_GT_OQ), then); }
INLINE v16 v_round(v16 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE v16 v_times_2_to(v16 x, v16 n)
{
    return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23)));
}
INLINE float v_top(v16 x) { return _mm512_reduce_max_ps(x); }

INLINE float v_sum(v16 s)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* The same tree for 16 registers together: each step adds the halves of two registers into one, and the
 * rows are taken so that the sums come out in order. */
INLINE v16 v_sum_rows(v16 s[16])
{
    v16 e[8], f[4], g[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) { /* halves of rows (0,4) (8,12) (1,5) (9,13) ... */
        v16 a = s[i / 2 + i % 2 * 8], b = s[i / 2 + i % 2 * 8 + 4];
        e[i] = v_add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) f[i] = v_add(_mm512_shuffle_f32x4(e[2 * i], e[2 * i + 1], 0x88), _mm512_shuffle_f32x4(e[2 * i], e[2 * i + 1], 0xdd));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        __m512d a = _mm512_castps_pd(f[2 * i]), b = _mm512_castps_pd(f[2 * i + 1]);
        g[i] = v_add(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    return v_add(_mm512_shuffle_ps(g[0], g[1], 0x88), _mm512_shuffle_ps(g[0], g[1], 0xdd));
}

/* Whole registers are told from parts by a branch: masks cost more than what they would save. */
INLINE v16 v_load(const kind k, const void *p, size_t n)
{
    if (n >= 16)
        switch (k) {
        case KIND_F32: return _mm512_loadu_ps(p);
        case KIND_F16: return _mm512_cvtph_ps(_mm256_loadu_si256(p));
        case KIND_BF16: return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
        default: return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
        }
    __mmask16 m = mask_below(n);
    switch (k) {
    case KIND_F32: return _mm512_maskz_loadu_ps(m, p);
    case KIND_F16: return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
    case KIND_BF16: return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
    default: return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, p)));
    }
}
INLINE void v_store(float *p, v16 x, size_t n)
{
    if (n >= 16) _mm512_storeu_ps(p, x);
    else _mm512_mask_storeu_ps(p, mask_below(n), x);
}
INLINE void v_store_f16(uint16_t *p, v16 x, size_t n)
{
    _mm256_mask_storeu_epi16(p, mask_below(n), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE uint32_t v_top_magnitude(v16 x, v16 y)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x), magnitude), _mm512_and_si512(_mm512_castps_si512(y), magnitude)));
}

INLINE int32_t v_store_i8(int8_t *p, v16 x, v16 y)
{
    __m512i i = _mm512_cvtps_epi32(x), j = _mm512_cvtps_epi32(y);
    _mm_store_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(i));
    _mm_store_si128((__m128i *)(void *)(p + 16), _mm512_cvtepi32_epi8(j));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(i, j));
}

/* ---- low-bit products ------------------------------------------------------------------------- */

typedef __m512i bytes, sums, four;
#ifdef PITH_KERN_VNNI
enum { BYTE_DOT = 1 };
#else
enum { BYTE_DOT = 0 };
#endif
enum { BIASED = 0, MAT_ROWS = 6, MAT_TILES = 2 };

INLINE bytes b_zero(void) { return _mm512_setzero_si512(); }
INLINE bytes b_load(const uint8_t *p) { return _mm512_load_si512(p); }
INLINE void b_store(uint8_t *p, bytes x) { _mm512_store_si512(p, x); }
INLINE bytes b_and(bytes x, int m) { return _mm512_and_si512(x, _mm512_set1_epi8((char)m)); }
INLINE bytes b_and_or(bytes x, int m, bytes y) { return _mm512_ternarylogic_epi32(x, _mm512_set1_epi8((char)m), y, 0xea); }
INLINE bytes b_left(bytes x, int n) { return n ? _mm512_slli_epi16(x, (unsigned)n) : x; }
INLINE bytes b_right(bytes x, int n) { return n ? _mm512_srli_epi16(x, (unsigned)n) : x; }
INLINE bytes b_bias(bytes x) { return x; }
INLINE sums s_set(int x) { return _mm512_set1_epi32(x); }
INLINE sums s_add(sums a, sums b) { return _mm512_add_epi32(a, b); }
INLINE sums s_shift(sums x, int n) { return _mm512_srai_epi32(x, (unsigned)n); }
INLINE v16 s_float(sums x) { return _mm512_cvtepi32_ps(x); }
INLINE four load4(const int8_t *q)
{
    int32_t x;
    memcpy(&x, q, 4);
    return _mm512_set1_epi32(x);
}

/* Without VNNI pairs are added in 16 bits, and 2 * 127 * 127 fits but 2 * 255 * 127 does not. */
INLINE sums dot4(sums acc, bytes u, four a, PITH_UNUSED unsigned bits)
{
#ifdef PITH_KERN_VNNI
    return _mm512_dpbusd_epi32(acc, u, a);
#else
    if (bits == 8) {
        __m512i even = _mm512_madd_epi16(_mm512_and_si512(u, _mm512_set1_epi16(255)), _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8));
        __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(u, 8), _mm512_srai_epi16(a, 8));
        return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
    }
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(u, a), _mm512_set1_epi16(1)));
#endif
}

#include "tensor/kern_lanes.h"
#include "tensor/kern_qmat.h"

#ifdef PITH_KERN_VNNI
const pith_kernels pith_kernels_avx512_vnni = {.name = "avx512-vnni", .gemm16 = pith_gemm16_avx512_vnni, .gemm8 = pith_gemm8_avx512_vnni,
#else
const pith_kernels pith_kernels_avx512 = {.name = "avx512", .gemm16 = pith_gemm16_avx512, .gemm8 = pith_gemm8_avx512,
#endif
    .gemm = pith_gemm_avx512, .gemm_turned = pith_gemm_turned_avx512, .gemm_apart = pith_gemm_apart_avx512, .gemm_rows = pith_gemm_rows_avx512,
    .gemm_pieces = pith_gemm_pieces_avx512, LANES_ENTRIES, QMAT_ENTRIES};
