/* AVX-512 (F, BW, VL, DQ).  Built twice: with VNNI (PITH_KERN_VNNI, dot products of bytes in one
 * instruction) and without.  A register holds the 16 rows of a tile, one a lane. */
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
INLINE __m512i dot4(__m512i acc, __m512i u, __m512i a, PITH_UNUSED unsigned bits)
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

INLINE __m512i load4(const int8_t *q) /* 4 activations in every lane */
{
    int32_t four;
    memcpy(&four, q, 4);
    return _mm512_set1_epi32(four);
}

INLINE __m512i shift_right(__m512i x, unsigned n) { return n ? _mm512_srli_epi16(x, n) : x; }
INLINE __m512i shift_left(__m512i x, unsigned n) { return n ? _mm512_slli_epi16(x, n) : x; }
INLINE __m512i and_or(__m512i x, int mask, __m512i y) /* (x & mask) | y, bytes */
{
    return _mm512_ternarylogic_epi32(x, _mm512_set1_epi8((char)mask), y, 0xea);
}

/* The 8 groups of a block as bytes. */
INLINE void unpack(const uint8_t *p, const unsigned bits, __m512i u[8])
{
    if (bits == 8) {
        for (int g = 0; g < 8; g++) u[g] = _mm512_load_si512(p + 64 * g);
        return;
    }
    for (int g = 0; g < 8; g++) u[g] = _mm512_setzero_si512();
    if (bits & 4) {
        __m512i mask = _mm512_set1_epi8(15);
        for (int g = 0; g < 4; g++) {
            __m512i x = _mm512_load_si512(p + 64 * g);
            u[g] = _mm512_and_si512(x, mask);
            u[g + 4] = _mm512_and_si512(_mm512_srli_epi16(x, 4), mask);
        }
        p += 256;
    }
    if (bits & 2) {
        const unsigned low = bits & 4;
        for (int g = 0; g < 2; g++) {
            __m512i x = _mm512_load_si512(p + 64 * g);
            for (unsigned k = 0; k < 4; k++)
                u[g + 2 * k] = and_or(low > 2 * k ? shift_left(x, low - 2 * k) : shift_right(x, 2 * k - low), 3 << low, u[g + 2 * k]);
        }
        p += 128;
    }
    if (bits & 1) {
        const unsigned low = bits & 6;
        __m512i x = _mm512_load_si512(p);
        for (unsigned g = 0; g < 8; g++) u[g] = and_or(low > g ? shift_left(x, low - g) : shift_right(x, g - low), 1 << low, u[g]);
    }
}

/* ---- one row of activations ------------------------------------------------------------------- */

/* sum over a block of u * a, for 16 rows, plus acc.  Two chains, so that the latency of a dot product hides. */
INLINE __m512i block_dot(const uint8_t *p, const int8_t *q, const unsigned bits, __m512i acc)
{
    __m512i other = _mm512_setzero_si512();
    if (bits == 4 && WITH_VNNI) { /* the high nibbles are left in place, 16 times as large */
        const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8((char)0xf0);
        for (int g = 0; g < 4; g++) {
            __m512i x = _mm512_load_si512(p + 64 * g);
            acc = dot4(acc, _mm512_and_si512(x, low), load4(q + 4 * g), 4);
            other = dot4(other, _mm512_and_si512(x, high), load4(q + 16 + 4 * g), 8);
        }
        return _mm512_add_epi32(acc, _mm512_srai_epi32(other, 4));
    }
    __m512i u[8];
    unpack(p, bits, u);
    for (int g = 0; g < 4; g++) {
        acc = dot4(acc, u[g], load4(q + 4 * g), bits);
        other = dot4(other, u[g + 4], load4(q + 16 + 4 * g), bits);
    }
    return _mm512_add_epi32(acc, other);
}

typedef struct vec_walk { /* where a tile's product stands */
    const uint8_t *bits, *bits_end, *payload, *scales;
    const int8_t *q;
    const int32_t *isum;
    const float *scale, *sum;
    __m512 y;
} vec_walk;

/* Consecutive blocks of one width. */
INLINE void vec_run(vec_walk *s, const unsigned bits, const pith_qscale mode)
{
    do {
        __m512i acc = _mm512_setzero_si512();
        if (bits > 0) {
            if (mode != PITH_QSCALE_BLOCK_MIN) /* minus zero * sum of a */
                acc = _mm512_sub_epi32(acc, _mm512_slli_epi32(_mm512_set1_epi32(*s->isum), bits - 1));
            acc = block_dot(s->payload, s->q, bits, acc);
        }
        __m512 dot = _mm512_cvtepi32_ps(acc);
        if (mode != PITH_QSCALE_ROW) {
            dot = _mm512_mul_ps(dot, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)s->scales)));
            s->scales += 32;
        }
        s->y = _mm512_fmadd_ps(dot, _mm512_set1_ps(*s->scale), s->y);
        if (mode == PITH_QSCALE_BLOCK_MIN) {
            s->y = _mm512_fmadd_ps(_mm512_cvtph_ps(_mm256_load_si256((const __m256i *)s->scales)), _mm512_set1_ps(*s->sum), s->y);
            s->scales += 32;
        }
        s->payload += 64 * bits;
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

/* Lanes of a tile that are rows of the matrix. */
INLINE __mmask16 tile_mask(const pith_qmat *w, size_t tile)
{
    size_t n = w->n_rows - tile * PITH_TILE_ROWS;
    return n >= PITH_TILE_ROWS ? 0xffff : (__mmask16)((1u << n) - 1);
}

INLINE __m512 row_mode_end(const pith_qmat *w, size_t tile, float total, __m512 y)
{
    __m512 shift = _mm512_loadu_ps(w->row_shift + tile * PITH_TILE_ROWS), scale = _mm512_loadu_ps(w->row_scale + tile * PITH_TILE_ROWS);
    return _mm512_mul_ps(scale, _mm512_fmadd_ps(shift, _mm512_set1_ps(total), y));
}

static void avx512_qmat_vec(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i, float *y)
{
    for (size_t tile = tile0; tile < tile1; tile++) {
        vec_walk s = {.bits = w->bits + tile * w->n_blocks, .scales = w->data + w->tile_offset[tile],
                      .q = a->q + i * a->n_blocks * PITH_TILE_COLS, .isum = a->isum + i * a->n_blocks,
                      .scale = a->scale + i * a->n_blocks, .sum = a->sum + i * a->n_blocks, .y = _mm512_setzero_ps()};
        s.bits_end = s.bits + w->n_blocks;
        s.payload = s.scales + kern_scales_bytes(w);
        switch (w->scale_mode) {
        case PITH_QSCALE_ROW:
            vec_tile_row(&s);
            s.y = row_mode_end(w, tile, a->total[i], s.y);
            break;
        case PITH_QSCALE_BLOCK: vec_tile_block(&s); break;
        case PITH_QSCALE_BLOCK_MIN: vec_tile_min(&s); break;
        }
        _mm512_mask_storeu_ps(y + (tile - tile0) * PITH_TILE_ROWS, tile_mask(w, tile), s.y);
    }
}

/* ---- many rows of activations ----------------------------------------------------------------- */

/* Weights are unpacked once to bytes, CHUNK blocks of a pair of tiles at a time (16 KiB, in the first
 * cache), and used for every row of activations: MAT_ROWS rows by 2 tiles are held in registers. */
enum { CHUNK = 16, MAT_ROWS = 6 };

typedef struct mat_chunk {
    uint8_t u[2][CHUNK][512];
    float scale[2][CHUNK][16], min[2][CHUNK][16];
    int32_t zero[2][CHUNK];             /* minus zero */
    int32_t start[2][MAT_ROWS][CHUNK];  /* minus zero * sum of a, for the rows in hand */
    bool wide[2][CHUNK];                /* values need 8 bits */
} __attribute__((aligned(64))) mat_chunk;

INLINE void unpack_store(const uint8_t *payload, const unsigned bits, uint8_t *dst)
{
    __m512i u[8];
    unpack(payload, bits, u);
    for (int g = 0; g < 8; g++) _mm512_store_si512(dst + 64 * g, u[g]);
}

/* Unpack n blocks from b0 of a tile into slot t; *payload moves on. */
static void chunk_fill(mat_chunk *c, int t, const pith_qmat *w, size_t tile, size_t b0, size_t n, const uint8_t **payload)
{
    const uint8_t *bits = w->bits + tile * w->n_blocks + b0, *p = *payload;
    size_t step = w->scale_mode == PITH_QSCALE_ROW ? 0 : w->scale_mode == PITH_QSCALE_BLOCK ? 32 : 64;
    const uint8_t *scales = w->data + w->tile_offset[tile] + b0 * step;
    for (size_t b = 0; b < n; b++) {
        switch (bits[b]) {
        case 0: unpack_store(p, 0, c->u[t][b]); break;
        case 1: unpack_store(p, 1, c->u[t][b]); break;
        case 2: unpack_store(p, 2, c->u[t][b]); break;
        case 3: unpack_store(p, 3, c->u[t][b]); break;
        case 4: unpack_store(p, 4, c->u[t][b]); break;
        case 5: unpack_store(p, 5, c->u[t][b]); break;
        case 6: unpack_store(p, 6, c->u[t][b]); break;
        case 7: unpack_store(p, 7, c->u[t][b]); break;
        default: unpack_store(p, 8, c->u[t][b]); break;
        }
        p += 64u * bits[b];
        c->zero[t][b] = -kern_zero(w, bits[b]);
        c->wide[t][b] = bits[b] == 8;
        if (step) _mm512_store_ps(c->scale[t][b], _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(scales + b * step))));
        if (step == 64) _mm512_store_ps(c->min[t][b], _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(scales + b * step + 32))));
    }
    *payload = p;
}

/* Integer products of block b of the chunk with n_rows rows of activations from q, lda blocks apart. */
INLINE void block_products(const mat_chunk *c, size_t b, const int n_rows, const int n_tiles, const unsigned bits, const int8_t *q, size_t lda, __m512i acc[2][MAT_ROWS])
{
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m512i u[2];
#pragma GCC unroll 2
        for (int t = 0; t < n_tiles; t++) u[t] = _mm512_load_si512(c->u[t][b] + 64 * g);
#pragma GCC unroll 6
        for (int r = 0; r < n_rows; r++) {
            __m512i x = load4(q + (size_t)r * lda * PITH_TILE_COLS + 4 * g);
#pragma GCC unroll 2
            for (int t = 0; t < n_tiles; t++) acc[t][r] = dot4(acc[t][r], u[t], x, bits);
        }
    }
}

/* n_rows rows of activations from row i by n_tiles tiles, over the n blocks of a chunk from block b0. */
INLINE void mat_kernel(mat_chunk *c, const int n_rows, const int n_tiles, const pith_qscale mode, const pith_q8 *a, size_t i, size_t b0, size_t n, __m512 y[2][MAT_ROWS])
{
    const size_t lda = a->n_blocks, at = i * lda + b0;
    const int8_t *q = a->q + at * PITH_TILE_COLS;
    __mmask16 in_chunk = (__mmask16)((1u << n) - 1);
    for (int r = 0; r < n_rows; r++)
        for (int t = 0; t < n_tiles; t++)
            _mm512_store_si512(c->start[t][r], _mm512_mullo_epi32(_mm512_load_si512(c->zero[t]), _mm512_maskz_loadu_epi32(in_chunk, a->isum + at + (size_t)r * lda)));
    for (size_t b = 0; b < n; b++) {
        __m512i acc[2][MAT_ROWS];
#pragma GCC unroll 6
        for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 2
            for (int t = 0; t < n_tiles; t++) acc[t][r] = _mm512_set1_epi32(c->start[t][r][b]);
        const int8_t *qb = q + b * PITH_TILE_COLS;
        if (WITH_VNNI || c->wide[0][b] || (n_tiles > 1 && c->wide[1][b])) block_products(c, b, n_rows, n_tiles, 8, qb, lda, acc);
        else block_products(c, b, n_rows, n_tiles, 7, qb, lda, acc);
#pragma GCC unroll 2
        for (int t = 0; t < n_tiles; t++) {
            __m512 scale = mode == PITH_QSCALE_ROW ? _mm512_setzero_ps() : _mm512_load_ps(c->scale[t][b]);
#pragma GCC unroll 6
            for (int r = 0; r < n_rows; r++) {
                __m512 dot = _mm512_cvtepi32_ps(acc[t][r]);
                if (mode != PITH_QSCALE_ROW) dot = _mm512_mul_ps(dot, scale);
                y[t][r] = _mm512_fmadd_ps(dot, _mm512_set1_ps(a->scale[at + (size_t)r * lda + b]), y[t][r]);
                if (mode == PITH_QSCALE_BLOCK_MIN)
                    y[t][r] = _mm512_fmadd_ps(_mm512_load_ps(c->min[t][b]), _mm512_set1_ps(a->sum[at + (size_t)r * lda + b]), y[t][r]);
            }
        }
    }
}

typedef struct mat_job { /* one chunk of a pair of tiles, all rows of activations */
    const pith_qmat *w;
    const pith_q8 *a;
    mat_chunk *chunk;
    size_t tile, b0, n_blocks;
    float *y;               /* first row of the tile, activations 0 */
    size_t ldy;
    __mmask16 mask[2];
} mat_job;

INLINE void mat_rows(const mat_job *j, size_t i, const int n_rows, const int n_tiles, const pith_qscale mode)
{
    __m512 y[2][MAT_ROWS];
    float *dst = j->y + i * j->ldy;
    for (int r = 0; r < n_rows; r++)
        for (int t = 0; t < n_tiles; t++)
            y[t][r] = j->b0 ? _mm512_maskz_loadu_ps(j->mask[t], dst + (size_t)r * j->ldy + 16 * t) : _mm512_setzero_ps();
    mat_kernel(j->chunk, n_rows, n_tiles, mode, j->a, i, j->b0, j->n_blocks, y);
    bool end = mode == PITH_QSCALE_ROW && j->b0 + j->n_blocks == j->w->n_blocks;
    for (int r = 0; r < n_rows; r++)
        for (int t = 0; t < n_tiles; t++) {
            if (end) y[t][r] = row_mode_end(j->w, j->tile + (size_t)t, j->a->total[i + (size_t)r], y[t][r]);
            _mm512_mask_storeu_ps(dst + (size_t)r * j->ldy + 16 * t, j->mask[t], y[t][r]);
        }
}

INLINE void mat_all_rows(const mat_job *j, size_t i, size_t i1, const int n_tiles, const pith_qscale mode)
{
    for (; i + MAT_ROWS <= i1; i += MAT_ROWS) mat_rows(j, i, MAT_ROWS, n_tiles, mode);
    if (i + 3 <= i1) mat_rows(j, i, 3, n_tiles, mode), i += 3;
    for (; i < i1; i++) mat_rows(j, i, 1, n_tiles, mode);
}

static void mat_row_2(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 2, PITH_QSCALE_ROW); }
static void mat_block_2(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 2, PITH_QSCALE_BLOCK); }
static void mat_min_2(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 2, PITH_QSCALE_BLOCK_MIN); }
static void mat_row_1(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 1, PITH_QSCALE_ROW); }
static void mat_block_1(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 1, PITH_QSCALE_BLOCK); }
static void mat_min_1(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 1, PITH_QSCALE_BLOCK_MIN); }

static void avx512_qmat_mat(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i0, size_t i1, float *y, size_t ldy)
{
    static void (*const by_tiles[2][3])(const mat_job *, size_t, size_t) = {{mat_row_1, mat_block_1, mat_min_1}, {mat_row_2, mat_block_2, mat_min_2}};
    mat_chunk chunk;
    for (size_t tile = tile0; tile < tile1; tile += 2) {
        int n_tiles = tile + 1 < tile1 ? 2 : 1;
        mat_job j = {.w = w, .a = a, .chunk = &chunk, .tile = tile, .y = y + (tile - tile0) * PITH_TILE_ROWS, .ldy = ldy};
        const uint8_t *payload[2];
        for (int t = 0; t < n_tiles; t++) {
            j.mask[t] = tile_mask(w, tile + (size_t)t);
            payload[t] = w->data + w->tile_offset[tile + (size_t)t] + kern_scales_bytes(w);
        }
        for (; j.b0 < w->n_blocks; j.b0 += CHUNK) {
            j.n_blocks = PITH_MIN((size_t)CHUNK, w->n_blocks - j.b0);
            for (int t = 0; t < n_tiles; t++) chunk_fill(&chunk, t, w, tile + (size_t)t, j.b0, j.n_blocks, &payload[t]);
            by_tiles[n_tiles - 1][w->scale_mode](&j, i0, i1);
        }
    }
}

/* ---- quantising activations ------------------------------------------------------------------- */

INLINE __mmask16 mask_below(size_t n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }

static void avx512_q8_rows(pith_q8 *a, size_t i0, size_t i1, const float *x, size_t ldx, size_t n_cols)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    for (size_t i = i0; i < i1; i++) {
        float total = 0;
        for (size_t b = 0; b < a->n_blocks; b++) {
            const float *xb = x + i * ldx + b * PITH_TILE_COLS;
            size_t n = n_cols - b * PITH_TILE_COLS, at = i * a->n_blocks + b;
            __m512 v0 = _mm512_maskz_loadu_ps(mask_below(n), xb);
            __m512 v1 = n > 16 ? _mm512_maskz_loadu_ps(mask_below(n - 16), xb + 16) : _mm512_setzero_ps();
            /* as integers: the order is that of the magnitudes, and what is not finite comes last */
            uint32_t top = _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v0), magnitude),
                                                                    _mm512_and_si512(_mm512_castps_si512(v1), magnitude)));
            float max, scale = 0, inverse = 0;
            memcpy(&max, &top, 4);
            if (top >= 0x7f800000) {
                scale = NAN;
                v0 = v1 = _mm512_setzero_ps();
            } else if (max >= PITH_Q8_TINY) {
                scale = max / 127;
                inverse = 127 / max;
            }
            __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(v0, _mm512_set1_ps(inverse)));
            __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(v1, _mm512_set1_ps(inverse)));
            int8_t *q = a->q + at * PITH_TILE_COLS;
            _mm_store_si128((__m128i *)q, _mm512_cvtepi32_epi8(q0));
            _mm_store_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(q1));
            int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
            a->isum[at] = sum;
            a->scale[at] = scale;
            a->sum[at] = scale * (float)sum;
            total += a->sum[at];
        }
        a->total[i] = total;
    }
}

/* ---- registers of 16 values -------------------------------------------------------------------- */

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

#include "tensor/kern_lanes.h"

#ifdef PITH_KERN_VNNI
const pith_kernels pith_kernels_avx512_vnni = {.name = "avx512-vnni",
#else
const pith_kernels pith_kernels_avx512 = {.name = "avx512",
#endif
    .qmat_vec = avx512_qmat_vec, .qmat_mat = avx512_qmat_mat, .q8_rows = avx512_q8_rows, .gemm = pith_gemm_avx512, LANES_ENTRIES};
