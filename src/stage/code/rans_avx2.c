/* The coder with AVX2: the 32 lanes are four registers. */
#include <immintrin.h>

#include "stage/code/rans_kernels.h"

#define VECTORS 4

/* Row m: for each of 8 lanes, how many lanes below it are set in m, that is, which of the next words is its own. */
#define BIT(m, i) ((m) >> (i) & 1)
#define RANK(m, i) (BIT(m, 0) * ((i) > 0) + BIT(m, 1) * ((i) > 1) + BIT(m, 2) * ((i) > 2) + BIT(m, 3) * ((i) > 3) + \
                    BIT(m, 4) * ((i) > 4) + BIT(m, 5) * ((i) > 5) + BIT(m, 6) * ((i) > 6))
#define ROW(m) {RANK(m, 0), RANK(m, 1), RANK(m, 2), RANK(m, 3), RANK(m, 4), RANK(m, 5), RANK(m, 6), RANK(m, 7)}
#define ROWS4(m) ROW(m), ROW((m) + 1), ROW((m) + 2), ROW((m) + 3)
#define ROWS16(m) ROWS4(m), ROWS4((m) + 4), ROWS4((m) + 8), ROWS4((m) + 12)
#define ROWS64(m) ROWS16(m), ROWS16((m) + 16), ROWS16((m) + 32), ROWS16((m) + 48)
static const uint8_t word_of_lane[256][8] = {ROWS64(0), ROWS64(64), ROWS64(128), ROWS64(192)};

static inline __m256i refill(__m256i x, const uint8_t **src)
{
    __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    uint32_t m = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)*src));
    __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)word_of_lane[m]));
    *src += 2 * (size_t)__builtin_popcount(m);
    __m256i filled = _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_permutevar8x32_epi32(words, order));
    return _mm256_blendv_epi8(x, filled, low);
}

/* table[index].  A gather merges into its result and waits for what was there, so it starts from zero; gcc 12
 * leaves that out (and loses a third of the speed) where it can see that no lane is masked. */
static inline __m256i gather(const uint32_t *table, __m256i index)
{
    __m256i every = _mm256_set1_epi32(-1);
    __asm__("" : "+x"(every));
    return _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), (const int *)table, index, every, 4);
}

/* 32 small numbers in four registers, as bytes in order */
static inline void store_bytes(uint8_t *dst, const __m256i v[VECTORS])
{
    __m256i packed = _mm256_packus_epi16(_mm256_packus_epi32(v[0], v[1]), _mm256_packus_epi32(v[2], v[3]));
    packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)dst, packed);
}

static size_t read_slots(pith_rans_reader *r, const pith_rans_decoder *d, uint8_t *dst, size_t n_groups)
{
    const __m256i mask = _mm256_set1_epi32(4095);
    __m256i x[VECTORS], symbol[VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; i++) x[i] = _mm256_loadu_si256((const __m256i *)(const void *)(r->state + 8 * i));
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++, dst += PITH_RANS_LANES) {
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) {
            __m256i entry = gather(d->slot, _mm256_and_si256(x[i], mask));
            __m256i freq = _mm256_srli_epi32(entry, 20), rank = _mm256_and_si256(_mm256_srli_epi32(entry, 8), mask);
            x[i] = refill(_mm256_add_epi32(_mm256_mullo_epi32(_mm256_srli_epi32(x[i], RANS_SYMBOL_BITS), freq), rank), &src);
            symbol[i] = _mm256_and_si256(entry, _mm256_set1_epi32(255));
        }
        store_bytes(dst, symbol);
    }
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; i++) _mm256_storeu_si256((__m256i *)(void *)(r->state + 8 * i), x[i]);
    r->src = src;
    return g;
}

/* Binary models have limit[1] = M, which no place reaches: the third symbol then never comes. */
static inline size_t read_contexts(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups, bool ternary)
{
    const __m256i mask = _mm256_set1_epi32(32767);
    /* both limits of a context side by side, for one gather */
    uint32_t limits[PITH_RANS_CONTEXTS];
    for (int c = 0; c < PITH_RANS_CONTEXTS; c++) limits[c] = d->limit[0][c] | (uint32_t)d->limit[1][c] << 16;
    __m256i x[VECTORS], symbol[VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; i++) x[i] = _mm256_loadu_si256((const __m256i *)(const void *)(r->state + 8 * i));
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++, contexts += PITH_RANS_LANES, dst += PITH_RANS_LANES) {
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++) {
            __m256i c = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(contexts + 8 * i)));
            __m256i limit = gather(limits, _mm256_and_si256(c, _mm256_set1_epi32(PITH_RANS_CONTEXTS - 1)));
            __m256i limit0 = _mm256_and_si256(limit, _mm256_set1_epi32(0xffff));
            __m256i place = _mm256_and_si256(x[i], mask), high = _mm256_srli_epi32(x[i], RANS_CONTEXT_BITS);
            __m256i is0 = _mm256_cmpgt_epi32(limit0, place);
            if (!ternary) {
                /* as in AVX-512: h*p + place or x - h*p - p */
                __m256i product = _mm256_mullo_epi32(high, limit0);
                __m256i one = _mm256_sub_epi32(_mm256_sub_epi32(x[i], limit0), product);
                x[i] = refill(_mm256_blendv_epi8(one, _mm256_add_epi32(product, place), is0), &src);
                symbol[i] = _mm256_add_epi32(is0, _mm256_set1_epi32(1));
            } else {
                __m256i limit1 = _mm256_srli_epi32(limit, 16), is01 = _mm256_cmpgt_epi32(limit1, place);
                __m256i start = _mm256_blendv_epi8(limit1, _mm256_andnot_si256(is0, limit0), is01);
                __m256i stop = _mm256_blendv_epi8(_mm256_set1_epi32(32768), _mm256_blendv_epi8(limit1, limit0, is0), is01);
                __m256i product = _mm256_mullo_epi32(high, _mm256_sub_epi32(stop, start));
                x[i] = refill(_mm256_add_epi32(product, _mm256_sub_epi32(place, start)), &src);
                symbol[i] = _mm256_add_epi32(_mm256_add_epi32(is0, is01), _mm256_set1_epi32(2));
            }
        }
        store_bytes(dst, symbol);
    }
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; i++) _mm256_storeu_si256((__m256i *)(void *)(r->state + 8 * i), x[i]);
    r->src = src;
    return g;
}

static size_t read_binary(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups)
{
    return read_contexts(r, d, contexts, dst, n_groups, false);
}

static size_t read_ternary(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups)
{
    return read_contexts(r, d, contexts, dst, n_groups, true);
}

/* Writing is the plain loop: 32-bit division by products and packing of words gain little in registers of 8. */
const pith_rans_kernels pith_rans_avx2 = {
    .read_slots = read_slots, .read_buckets = read_slots, .read_binary = read_binary, .read_ternary = read_ternary, .write = pith_rans_write_ref};
