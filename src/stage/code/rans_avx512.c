/* The coder with AVX-512 F, BW, VL and DQ: the 32 lanes are two registers. */
#include <immintrin.h>

#include "stage/code/rans_kernels.h"

#define VECTORS 2

typedef struct lanes {
    __m512i v[VECTORS];
} lanes;

static inline lanes load_lanes(const uint32_t *state) { return (lanes){{_mm512_loadu_si512(state), _mm512_loadu_si512(state + 16)}}; }

static inline void store_lanes(uint32_t *state, lanes x)
{
    _mm512_storeu_si512(state, x.v[0]);
    _mm512_storeu_si512(state + 16, x.v[1]);
}

/* table[index].  A gather merges into its result and waits for what was there, so it starts from zero; gcc 12
 * leaves that out where it can see that no lane is masked. */
static inline __m512i gather(const uint32_t *table, __m512i index)
{
    __mmask16 every = 0xffff;
    __asm__("" : "+k"(every));
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), every, index, table, 4);
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Lanes below 2^16.  The constraint keeps gcc 12 from using k0, which cannot mask, and copying it. */
static inline __mmask16 low_lanes(__m512i x)
{
    __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32((int)RANS_LOW));
    __asm__("" : "+Yk"(low));
    return low;
}

static inline __m512i load_words(const uint8_t *src) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)src)); }

static inline __m512i refill(__m512i x, const uint8_t **src)
{
    __mmask16 low = low_lanes(x);
    __m512i words = load_words(*src);
    *src += 2 * (size_t)__builtin_popcount(low);
    return _mm512_or_si512(_mm512_mask_slli_epi32(x, low, x, 16), _mm512_maskz_expand_epi32(low, words));
}

static size_t read_slots(pith_rans_reader *r, const pith_rans_decoder *d, uint8_t *dst, size_t n_groups)
{
    const __m512i mask = _mm512_set1_epi32(4095);
    lanes x = load_lanes(r->state), slot = {{_mm512_and_si512(x.v[0], mask), _mm512_and_si512(x.v[1], mask)}};
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++, dst += PITH_RANS_LANES) {
#pragma GCC unroll 2
        for (int i = 0; i < VECTORS; i++) {
            __m512i entry = gather(d->slot, slot.v[i]);
            __m512i freq = _mm512_srli_epi32(entry, 20), rank = _mm512_and_si512(_mm512_srli_epi32(entry, 8), mask);
            __m512i v = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(x.v[i], RANS_SYMBOL_BITS), freq), rank);
            /* refill; a new word is also all that the next slot needs, which so is ready sooner than the state */
            __mmask16 low = low_lanes(v);
            __m512i words = load_words(src);
            slot.v[i] = _mm512_mask_expand_epi32(_mm512_and_si512(v, mask), low, _mm512_and_si512(words, mask));
            x.v[i] = _mm512_or_si512(_mm512_mask_slli_epi32(v, low, v, 16), _mm512_maskz_expand_epi32(low, words));
            src += 2 * (size_t)__builtin_popcount(low);
            _mm_storeu_si128((__m128i *)(void *)(dst + 16 * i), _mm512_cvtepi32_epi8(entry));
        }
    }
    store_lanes(r->state, x);
    r->src = src;
    return g;
}

/* The 16 buckets are three registers: no memory is looked up. */
static size_t read_buckets(pith_rans_reader *r, const pith_rans_decoder *d, uint8_t *dst, size_t n_groups)
{
    const __m512i mask = _mm512_set1_epi32(4095), mask_symbol = _mm512_set1_epi32(15);
    const __m512i divider = _mm512_loadu_si512(d->bucket[0]), own = _mm512_loadu_si512(d->bucket[1]), other = _mm512_loadu_si512(d->bucket[2]);
    lanes x = load_lanes(r->state);
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++, dst += PITH_RANS_LANES) {
#pragma GCC unroll 2
        for (int i = 0; i < VECTORS; i++) {
            /* a permutation looks at the low 4 bits of its index only, which are the bucket */
            __m512i slot = _mm512_and_si512(x.v[i], mask);
            __mmask16 is_other = _mm512_cmpge_epu32_mask(slot, _mm512_permutexvar_epi32(x.v[i], divider));
            __m512i entry = _mm512_mask_permutexvar_epi32(_mm512_permutexvar_epi32(x.v[i], own), is_other, x.v[i], other);
            __m512i freq = _mm512_and_si512(_mm512_srli_epi32(entry, 4), mask);
            __m512i rank = _mm512_add_epi32(_mm512_srli_epi32(slot, 4), _mm512_srai_epi32(entry, 16));
            __m512i high = _mm512_srli_epi32(x.v[i], RANS_SYMBOL_BITS);
            x.v[i] = refill(_mm512_add_epi32(_mm512_mullo_epi32(high, freq), rank), &src);
            _mm_storeu_si128((__m128i *)(void *)(dst + 16 * i), _mm512_cvtepi32_epi8(_mm512_and_si512(entry, mask_symbol)));
        }
    }
    store_lanes(r->state, x);
    r->src = src;
    return g;
}

/* A table of 64 16-bit limits in two registers. */
typedef struct limits {
    __m512i low, high;
} limits;

static inline limits load_limits(const uint16_t *limit) { return (limits){_mm512_loadu_si512(limit), _mm512_loadu_si512(limit + 32)}; }

static inline lanes look_up(limits t, __m512i contexts)
{
    __m512i found = _mm512_permutex2var_epi16(t.low, contexts, t.high); /* reads 6 bits of each context */
    return (lanes){{_mm512_cvtepu16_epi32(_mm512_castsi512_si256(found)), _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(found, 1))}};
}

static inline __m512i load_contexts(const uint8_t *contexts)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)contexts));
}

static size_t read_binary(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups)
{
    const __m512i mask = _mm512_set1_epi32(32767);
    const limits t = load_limits(d->limit[0]);
    lanes x = load_lanes(r->state);
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++, contexts += PITH_RANS_LANES, dst += PITH_RANS_LANES) {
        lanes limit = look_up(t, load_contexts(contexts));
        __mmask32 ones = 0;
#pragma GCC unroll 2
        for (int i = 0; i < VECTORS; i++) {
            /* with p = freq[0], h = x div M: a 0 gives h*p + place, a 1 gives h*(M - p) + place - p = x - h*p - p */
            __m512i place = _mm512_and_si512(x.v[i], mask), p = limit.v[i];
            __m512i product = _mm512_mullo_epi32(_mm512_srli_epi32(x.v[i], RANS_CONTEXT_BITS), p);
            __mmask16 is1 = _mm512_cmpge_epu32_mask(place, p);
            __m512i zero = _mm512_add_epi32(product, place);
            x.v[i] = refill(_mm512_mask_sub_epi32(zero, is1, _mm512_sub_epi32(x.v[i], p), product), &src);
            ones |= (__mmask32)is1 << 16 * i;
        }
        _mm256_storeu_si256((__m256i *)(void *)dst, _mm256_maskz_set1_epi8(ones, 1));
    }
    store_lanes(r->state, x);
    r->src = src;
    return g;
}

static size_t read_ternary(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups)
{
    const __m512i mask = _mm512_set1_epi32(32767), sum = _mm512_set1_epi32(32768);
    const limits t0 = load_limits(d->limit[0]), t1 = load_limits(d->limit[1]);
    lanes x = load_lanes(r->state);
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++, contexts += PITH_RANS_LANES, dst += PITH_RANS_LANES) {
        __m512i c = load_contexts(contexts);
        lanes limit0 = look_up(t0, c), limit1 = look_up(t1, c);
        __mmask32 ones = 0, twos = 0;
#pragma GCC unroll 2
        for (int i = 0; i < VECTORS; i++) {
            __m512i place = _mm512_and_si512(x.v[i], mask), high = _mm512_srli_epi32(x.v[i], RANS_CONTEXT_BITS);
            __mmask16 is1 = _mm512_cmpge_epu32_mask(place, limit0.v[i]), is2 = _mm512_cmpge_epu32_mask(place, limit1.v[i]);
            __m512i start = _mm512_mask_mov_epi32(_mm512_maskz_mov_epi32(is1, limit0.v[i]), is2, limit1.v[i]);
            __m512i stop = _mm512_mask_mov_epi32(_mm512_mask_mov_epi32(limit0.v[i], is1, limit1.v[i]), is2, sum);
            __m512i rank = _mm512_sub_epi32(place, start);
            x.v[i] = refill(_mm512_add_epi32(_mm512_mullo_epi32(high, _mm512_sub_epi32(stop, start)), rank), &src);
            ones |= (__mmask32)is1 << 16 * i;
            twos |= (__mmask32)is2 << 16 * i;
        }
        __m256i symbols = _mm256_maskz_set1_epi8(ones, 1);
        _mm256_storeu_si256((__m256i *)(void *)dst, _mm256_mask_blend_epi8(twos, symbols, _mm256_set1_epi8(2)));
    }
    store_lanes(r->state, x);
    r->src = src;
    return g;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static inline __m512i divide(__m512i x, __m512i reciprocal, __m512i shift)
{
    const __m512i bits = _mm512_set1_epi64(63), odd_lanes = _mm512_set1_epi64((long long)0xffffffff00000000);
    x = _mm512_add_epi32(x, _mm512_srli_epi32(shift, 6));
    __m512i even = _mm512_srlv_epi64(_mm512_mul_epu32(x, reciprocal), _mm512_and_si512(shift, bits));
    __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(reciprocal, 32));
    odd = _mm512_srlv_epi64(odd, _mm512_and_si512(_mm512_srli_epi64(shift, 32), bits));
    return _mm512_or_si512(even, _mm512_and_si512(_mm512_slli_epi64(odd, 32), odd_lanes));
}

static inline size_t write_groups(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts,
                                  size_t n_groups, bool has_contexts, bool alias)
{
    const uint32_t bits = has_contexts ? RANS_CONTEXT_BITS : RANS_SYMBOL_BITS;
    lanes x = load_lanes(w->state);
    uint8_t *dst = w->dst;
    __mmask16 bad = 0;
    size_t g = n_groups;
    for (; g > 0 && dst - w->base >= RANS_GROUP_BYTES; g--) {
#pragma GCC unroll 2
        for (int i = VECTORS - 1; i >= 0; i--) {
            size_t at = (g - 1) * PITH_RANS_LANES + 16 * (size_t)i;
            __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(symbols + at)));
            if (has_contexts) {
                __m512i context = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(contexts + at)));
                bad |= _mm512_cmpgt_epu32_mask(index, _mm512_set1_epi32(3)) | _mm512_cmpgt_epu32_mask(context, _mm512_set1_epi32(63));
                index = _mm512_and_si512(_mm512_add_epi32(_mm512_slli_epi32(context, 2), index), _mm512_set1_epi32(255));
            }
            __m512i freq_start = gather(e->freq_start, index);
            __m512i reciprocal = gather(e->reciprocal, index);
            __m512i shift = gather(e->shift, index);
            __m512i freq = _mm512_and_si512(freq_start, _mm512_set1_epi32(0xffff)), start = _mm512_srli_epi32(freq_start, 16);
            bad |= _mm512_testn_epi32_mask(freq, freq);

            __mmask16 full = _mm512_cmpge_epu32_mask(x.v[i], _mm512_slli_epi32(freq, 32 - bits));
            int n = __builtin_popcount(full);
            dst -= 2 * n;
            __m256i words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, x.v[i]));
            _mm256_mask_storeu_epi16(dst, (__mmask16)((1u << n) - 1), words);
            __m512i v = _mm512_mask_srli_epi32(x.v[i], full, x.v[i], 16);

            __m512i q = divide(v, reciprocal, shift);
            __m512i place = _mm512_add_epi32(start, _mm512_sub_epi32(v, _mm512_mullo_epi32(q, freq)));
            if (alias) {
                place = _mm512_and_si512(place, _mm512_set1_epi32(4095)); /* for elements without freq; these are reported below */
                place = _mm512_and_si512(_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), 0xffff, place, e->slot, 2), _mm512_set1_epi32(0xffff));
            }
            x.v[i] = _mm512_add_epi32(_mm512_slli_epi32(q, bits), place);
        }
    }
    store_lanes(w->state, x);
    w->dst = dst;
    w->bad |= bad != 0;
    return n_groups - g;
}

static size_t write_any(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t n_groups)
{
    if (e->has_contexts) return write_groups(w, e, symbols, contexts, n_groups, true, false);
    return e->alias ? write_groups(w, e, symbols, NULL, n_groups, false, true) : write_groups(w, e, symbols, NULL, n_groups, false, false);
}

const pith_rans_kernels pith_rans_avx512 = {
    .read_slots = read_slots, .read_buckets = read_buckets, .read_binary = read_binary, .read_ternary = read_ternary, .write = write_any};
