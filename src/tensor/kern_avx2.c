/* AVX2 with FMA and F16C.  Built twice: with AVX-VNNI (PITH_KERN_VNNI, dot products of bytes in one
 * instruction) and without.  A register holds 8 of the 16 rows of a tile, one a lane: a half. */
#include <immintrin.h>
#include <math.h>

#include "tensor/kern.h"

#ifdef PITH_KERN_VNNI
enum { WITH_VNNI = 1 };
#else
enum { WITH_VNNI = 0 };
#endif

/* acc[r] += sum of 4 products of the bytes of lane r: u unsigned below 2^bits, a signed in -127..127.
 * Exact: without VNNI pairs are added in 16 bits, and 2 * 127 * 127 fits but 2 * 255 * 127 does not. */
INLINE __m256i dot4(__m256i acc, __m256i u, __m256i a, PITH_UNUSED unsigned bits)
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

INLINE __m256i load4(const int8_t *q) /* 4 activations in every lane */
{
    int32_t four;
    memcpy(&four, q, 4);
    return _mm256_set1_epi32(four);
}

INLINE __m256i load_bytes(const uint8_t *p) { return _mm256_load_si256((const __m256i *)(const void *)p); }
INLINE __m256i shift_right(__m256i x, unsigned n) { return n ? _mm256_srli_epi16(x, (int)n) : x; }
INLINE __m256i shift_left(__m256i x, unsigned n) { return n ? _mm256_slli_epi16(x, (int)n) : x; }
INLINE __m256i and_or(__m256i x, int mask, __m256i y) /* (x & mask) | y, bytes */
{
    return _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi8((char)mask)), y);
}

/* The 8 groups of one half of a block as bytes; p is the payload, 32 bytes on for the upper half. */
INLINE void unpack(const uint8_t *p, const unsigned bits, __m256i u[8])
{
    if (bits == 8) {
        for (int g = 0; g < 8; g++) u[g] = load_bytes(p + 64 * g);
        return;
    }
    for (int g = 0; g < 8; g++) u[g] = _mm256_setzero_si256();
    if (bits & 4) {
        const __m256i mask = _mm256_set1_epi8(15);
        for (int g = 0; g < 4; g++) {
            __m256i x = load_bytes(p + 64 * g);
            u[g] = _mm256_and_si256(x, mask);
            u[g + 4] = _mm256_and_si256(_mm256_srli_epi16(x, 4), mask);
        }
        p += 256;
    }
    if (bits & 2) {
        const unsigned low = bits & 4;
        for (int g = 0; g < 2; g++) {
            __m256i x = load_bytes(p + 64 * g);
            for (unsigned k = 0; k < 4; k++)
                u[g + 2 * (int)k] = and_or(low > 2 * k ? shift_left(x, low - 2 * k) : shift_right(x, 2 * k - low), 3 << low, u[g + 2 * (int)k]);
        }
        p += 128;
    }
    if (bits & 1) {
        const unsigned low = bits & 6;
        __m256i x = load_bytes(p);
        for (unsigned g = 0; g < 8; g++) u[g] = and_or(low > g ? shift_left(x, low - g) : shift_right(x, g - low), 1 << low, u[g]);
    }
}

INLINE __m256 load_scales(const uint8_t *p) { return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p)); }

/* ---- one row of activations ------------------------------------------------------------------- */

typedef struct vec_walk { /* where a tile's product stands */
    const uint8_t *bits, *bits_end, *payload, *scales;
    const int8_t *q;
    const int32_t *isum;
    const float *scale, *sum;
    __m256 y[2];
} vec_walk;

/* Consecutive blocks of one width. */
INLINE void vec_run(vec_walk *s, const unsigned bits, const pith_qscale mode)
{
    const size_t step = mode == PITH_QSCALE_ROW ? 0 : mode == PITH_QSCALE_BLOCK ? 32 : 64;
    do {
        for (size_t h = 0; h < 2; h++) {
            __m256i acc = _mm256_setzero_si256(), other = _mm256_setzero_si256();
            if (bits > 0) {
                __m256i u[8];
                unpack(s->payload + 32 * h, bits, u);
                if (mode != PITH_QSCALE_BLOCK_MIN) /* minus zero * sum of a */
                    acc = _mm256_sub_epi32(acc, _mm256_slli_epi32(_mm256_set1_epi32(*s->isum), (int)bits - 1));
                for (int g = 0; g < 4; g++) {
                    acc = dot4(acc, u[g], load4(s->q + 4 * g), bits);
                    other = dot4(other, u[g + 4], load4(s->q + 16 + 4 * g), bits);
                }
            }
            __m256 dot = _mm256_cvtepi32_ps(_mm256_add_epi32(acc, other));
            if (mode != PITH_QSCALE_ROW) dot = _mm256_mul_ps(dot, load_scales(s->scales + 16 * h));
            s->y[h] = _mm256_fmadd_ps(dot, _mm256_set1_ps(*s->scale), s->y[h]);
            if (mode == PITH_QSCALE_BLOCK_MIN)
                s->y[h] = _mm256_fmadd_ps(load_scales(s->scales + 32 + 16 * h), _mm256_set1_ps(*s->sum), s->y[h]);
        }
        s->payload += 64 * bits;
        s->scales += step;
        s->q += PITH_TILE_COLS;
        s->isum++, s->scale++, s->sum++;
    } while (++s->bits < s->bits_end && *s->bits == bits);
}

INLINE void vec_tile(vec_walk *s, const pith_qscale mode)
{
    while (s->bits < s->bits_end)
        switch (*s->bits) {
        case 0: vec_run(s, 0, mode); break;
        case 1: vec_run(s, 1, mode); break;
        case 2: vec_run(s, 2, mode); break;
        case 3: vec_run(s, 3, mode); break;
        case 4: vec_run(s, 4, mode); break;
        case 5: vec_run(s, 5, mode); break;
        case 6: vec_run(s, 6, mode); break;
        case 7: vec_run(s, 7, mode); break;
        default: vec_run(s, 8, mode); break;
        }
}

static void vec_tile_row(vec_walk *s) { vec_tile(s, PITH_QSCALE_ROW); }
static void vec_tile_block(vec_walk *s) { vec_tile(s, PITH_QSCALE_BLOCK); }
static void vec_tile_min(vec_walk *s) { vec_tile(s, PITH_QSCALE_BLOCK_MIN); }

/* Store the rows of half h of a tile that are rows of the matrix. */
INLINE void store_half(const pith_qmat *w, size_t tile, size_t h, float *dst, __m256 y)
{
    size_t row0 = tile * PITH_TILE_ROWS + 8 * h;
    if (row0 + 8 <= w->n_rows) {
        _mm256_storeu_ps(dst, y);
        return;
    }
    float all[8];
    _mm256_storeu_ps(all, y);
    for (size_t r = 0; row0 + r < w->n_rows; r++) dst[r] = all[r];
}

INLINE __m256 row_mode_end(const pith_qmat *w, size_t tile, size_t h, float total, __m256 y)
{
    size_t row = tile * PITH_TILE_ROWS + 8 * h;
    return _mm256_mul_ps(_mm256_loadu_ps(w->row_scale + row), _mm256_fmadd_ps(_mm256_loadu_ps(w->row_shift + row), _mm256_set1_ps(total), y));
}

static void avx2_qmat_vec(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i, float *y)
{
    for (size_t tile = tile0; tile < tile1; tile++) {
        vec_walk s = {.bits = w->bits + tile * w->n_blocks, .scales = w->data + w->tile_offset[tile],
                      .q = a->q + i * a->n_blocks * PITH_TILE_COLS, .isum = a->isum + i * a->n_blocks,
                      .scale = a->scale + i * a->n_blocks, .sum = a->sum + i * a->n_blocks, .y = {_mm256_setzero_ps(), _mm256_setzero_ps()}};
        s.bits_end = s.bits + w->n_blocks;
        s.payload = s.scales + kern_scales_bytes(w);
        switch (w->scale_mode) {
        case PITH_QSCALE_ROW: vec_tile_row(&s); break;
        case PITH_QSCALE_BLOCK: vec_tile_block(&s); break;
        case PITH_QSCALE_BLOCK_MIN: vec_tile_min(&s); break;
        }
        for (size_t h = 0; h < 2; h++) {
            if (w->scale_mode == PITH_QSCALE_ROW) s.y[h] = row_mode_end(w, tile, h, a->total[i], s.y[h]);
            store_half(w, tile, h, y + (tile - tile0) * PITH_TILE_ROWS + 8 * h, s.y[h]);
        }
    }
}

/* ---- many rows of activations ----------------------------------------------------------------- */

/* Weights are unpacked once to bytes, CHUNK blocks of a tile at a time (16 KiB, in the first cache), and
 * used for every row of activations, MAT_ROWS rows by half a tile in registers. */
enum { CHUNK = 32, MAT_ROWS = 4 };

typedef struct mat_chunk {
    uint8_t u[2][CHUNK][256];           /* of each half */
    float scale[2][CHUNK][8], min[2][CHUNK][8];
    int32_t zero[CHUNK];                /* minus zero */
    bool wide[CHUNK];                   /* values need 8 bits */
} __attribute__((aligned(64))) mat_chunk;

INLINE void unpack_store(const uint8_t *payload, const unsigned bits, mat_chunk *c, size_t b)
{
    for (size_t h = 0; h < 2; h++) {
        __m256i u[8];
        unpack(payload + 32 * h, bits, u);
        for (size_t g = 0; g < 8; g++) _mm256_store_si256((__m256i *)(void *)(c->u[h][b] + 32 * g), u[g]);
    }
}

/* Unpack n blocks from b0 of a tile; *payload moves on. */
static void chunk_fill(mat_chunk *c, const pith_qmat *w, size_t tile, size_t b0, size_t n, const uint8_t **payload)
{
    const uint8_t *bits = w->bits + tile * w->n_blocks + b0, *p = *payload;
    size_t step = w->scale_mode == PITH_QSCALE_ROW ? 0 : w->scale_mode == PITH_QSCALE_BLOCK ? 32 : 64;
    const uint8_t *scales = w->data + w->tile_offset[tile] + b0 * step;
    for (size_t b = 0; b < n; b++) {
        switch (bits[b]) {
        case 0: unpack_store(p, 0, c, b); break;
        case 1: unpack_store(p, 1, c, b); break;
        case 2: unpack_store(p, 2, c, b); break;
        case 3: unpack_store(p, 3, c, b); break;
        case 4: unpack_store(p, 4, c, b); break;
        case 5: unpack_store(p, 5, c, b); break;
        case 6: unpack_store(p, 6, c, b); break;
        case 7: unpack_store(p, 7, c, b); break;
        default: unpack_store(p, 8, c, b); break;
        }
        p += 64u * bits[b];
        c->zero[b] = -kern_zero(w, bits[b]);
        c->wide[b] = bits[b] == 8;
        for (size_t h = 0; h < 2; h++) {
            if (step) _mm256_store_ps(c->scale[h][b], load_scales(scales + b * step + 16 * h));
            if (step == 64) _mm256_store_ps(c->min[h][b], load_scales(scales + b * step + 32 + 16 * h));
        }
    }
    *payload = p;
}

typedef struct mat_job { /* one chunk of a tile */
    const pith_qmat *w;
    const pith_q8 *a;
    mat_chunk *chunk;
    size_t tile, b0, n_blocks;
    float *y;               /* first row of the tile, activations 0 */
    size_t ldy;
} mat_job;

/* Integer products of half h of block b of the chunk with n_rows rows of activations from q, lda bytes apart. */
INLINE void block_products(const uint8_t *u, const int8_t *q, size_t lda, const int n_rows, const unsigned bits, __m256i acc[MAT_ROWS])
{
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i x = load_bytes(u + 32 * g);
#pragma GCC unroll 4
        for (int r = 0; r < n_rows; r++) acc[r] = dot4(acc[r], x, load4(q + (size_t)r * lda + 4 * g), bits);
    }
}

INLINE void mat_rows(const mat_job *j, size_t i, size_t h, const int n_rows, const pith_qscale mode)
{
    const pith_q8 *a = j->a;
    const mat_chunk *c = j->chunk;
    __m256 y[MAT_ROWS];
    float *dst = j->y + i * j->ldy + 8 * h;
    size_t row0 = j->tile * PITH_TILE_ROWS + 8 * h, whole = row0 + 8 <= j->w->n_rows ? 8 : j->w->n_rows - row0;
    for (int r = 0; r < n_rows; r++) {
        y[r] = _mm256_setzero_ps();
        if (j->b0 > 0) {
            float all[8] = {0};
            memcpy(all, dst + (size_t)r * j->ldy, whole * sizeof *all);
            y[r] = _mm256_loadu_ps(all);
        }
    }
    for (size_t b = 0; b < j->n_blocks; b++) {
        size_t at = i * a->n_blocks + j->b0 + b;
        const int8_t *q = a->q + at * PITH_TILE_COLS;
        __m256i acc[MAT_ROWS];
        for (int r = 0; r < n_rows; r++) acc[r] = _mm256_set1_epi32(c->zero[b] * a->isum[at + (size_t)r * a->n_blocks]);
        if (WITH_VNNI || c->wide[b]) block_products(c->u[h][b], q, a->n_blocks * PITH_TILE_COLS, n_rows, 8, acc);
        else block_products(c->u[h][b], q, a->n_blocks * PITH_TILE_COLS, n_rows, 7, acc);
        for (int r = 0; r < n_rows; r++) {
            size_t at_row = at + (size_t)r * a->n_blocks;
            __m256 dot = _mm256_cvtepi32_ps(acc[r]);
            if (mode != PITH_QSCALE_ROW) dot = _mm256_mul_ps(dot, _mm256_load_ps(c->scale[h][b]));
            y[r] = _mm256_fmadd_ps(dot, _mm256_set1_ps(a->scale[at_row]), y[r]);
            if (mode == PITH_QSCALE_BLOCK_MIN) y[r] = _mm256_fmadd_ps(_mm256_load_ps(c->min[h][b]), _mm256_set1_ps(a->sum[at_row]), y[r]);
        }
    }
    bool end = mode == PITH_QSCALE_ROW && j->b0 + j->n_blocks == j->w->n_blocks;
    for (int r = 0; r < n_rows; r++) {
        if (end) y[r] = row_mode_end(j->w, j->tile, h, a->total[i + (size_t)r], y[r]);
        store_half(j->w, j->tile, h, dst + (size_t)r * j->ldy, y[r]);
    }
}

INLINE void mat_all_rows(const mat_job *j, size_t i0, size_t i1, const pith_qscale mode)
{
    for (size_t h = 0; h < 2 && j->tile * PITH_TILE_ROWS + 8 * h < j->w->n_rows; h++) {
        size_t i = i0;
        for (; i + MAT_ROWS <= i1; i += MAT_ROWS) mat_rows(j, i, h, MAT_ROWS, mode);
        for (; i < i1; i++) mat_rows(j, i, h, 1, mode);
    }
}

static void mat_row(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, PITH_QSCALE_ROW); }
static void mat_block(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, PITH_QSCALE_BLOCK); }
static void mat_min(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, PITH_QSCALE_BLOCK_MIN); }

static void avx2_qmat_mat(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i0, size_t i1, float *y, size_t ldy)
{
    static void (*const by_mode[3])(const mat_job *, size_t, size_t) = {mat_row, mat_block, mat_min};
    mat_chunk chunk;
    for (size_t tile = tile0; tile < tile1; tile++) {
        mat_job j = {.w = w, .a = a, .chunk = &chunk, .tile = tile, .y = y + (tile - tile0) * PITH_TILE_ROWS, .ldy = ldy};
        const uint8_t *payload = w->data + w->tile_offset[tile] + kern_scales_bytes(w);
        for (; j.b0 < w->n_blocks; j.b0 += CHUNK) {
            j.n_blocks = PITH_MIN((size_t)CHUNK, w->n_blocks - j.b0);
            chunk_fill(&chunk, w, tile, j.b0, j.n_blocks, &payload);
            by_mode[w->scale_mode](&j, i0, i1);
        }
    }
}

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

#include "tensor/kern_lanes.h"

/* ---- quantising activations ------------------------------------------------------------------- */

INLINE uint32_t top_magnitude(v16 x, v16 y)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i h = _mm256_max_epu32(_mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(x.a), magnitude), _mm256_and_si256(_mm256_castps_si256(x.b), magnitude)),
                                 _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(y.a), magnitude), _mm256_and_si256(_mm256_castps_si256(y.b), magnitude)));
    __m128i t = _mm_max_epu32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    t = _mm_max_epu32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epu32(t, _mm_shuffle_epi32(t, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(t);
}

static void avx2_q8_rows(pith_q8 *a, size_t i0, size_t i1, const float *x, size_t ldx, size_t n_cols)
{
    for (size_t i = i0; i < i1; i++) {
        float total = 0;
        for (size_t b = 0; b < a->n_blocks; b++) {
            const float *xb = x + i * ldx + b * PITH_TILE_COLS;
            size_t n = n_cols - b * PITH_TILE_COLS, at = i * a->n_blocks + b;
            v16 v0 = v_load(KIND_F32, xb, n), v1 = n > 16 ? v_load(KIND_F32, xb + 16, n - 16) : v_set(0);
            /* as integers: the order is that of the magnitudes, and what is not finite comes last */
            uint32_t top = top_magnitude(v0, v1);
            float max, scale = 0, inverse = 0;
            memcpy(&max, &top, 4);
            if (top >= 0x7f800000) {
                scale = NAN;
                v0 = v1 = v_set(0);
            } else if (max >= PITH_Q8_TINY) {
                scale = max / 127;
                inverse = 127 / max;
            }
            v0 = v_mul(v0, v_set(inverse));
            v1 = v_mul(v1, v_set(inverse));
            __m256i q0 = _mm256_cvtps_epi32(v0.a), q1 = _mm256_cvtps_epi32(v0.b), q2 = _mm256_cvtps_epi32(v1.a), q3 = _mm256_cvtps_epi32(v1.b);
            __m256i s = _mm256_add_epi32(_mm256_add_epi32(q0, q1), _mm256_add_epi32(q2, q3));
            __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
            t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
            t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1));
            int32_t sum = _mm_cvtsi128_si32(t);
            /* packing works within halves of 128 bits and leaves groups of 4 values in the order 0 2 4 6 1 3 5 7 */
            __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q0, q1), _mm256_packs_epi32(q2, q3));
            bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_store_si256((__m256i *)(void *)(a->q + at * PITH_TILE_COLS), bytes);
            a->isum[at] = sum;
            a->scale[at] = scale;
            a->sum[at] = scale * (float)sum;
            total += a->sum[at];
        }
        a->total[i] = total;
    }
}

#ifdef PITH_KERN_VNNI
const pith_kernels pith_kernels_avx2_vnni = {.name = "avx2-vnni",
#else
const pith_kernels pith_kernels_avx2 = {.name = "avx2",
#endif
    .qmat_vec = avx2_qmat_vec, .qmat_mat = avx2_qmat_mat, .q8_rows = avx2_q8_rows, .gemm = pith_gemm_avx2, LANES_ENTRIES};
