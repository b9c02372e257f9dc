/* The products of low-bit matrices, written once and included by each instruction set's file, which first
 * defines v16 and what kern_lanes.h asks for, and
 *     bytes                        4 bytes for each of the 16 rows of a tile: a group of qmat.h
 *     b_zero()  b_load(p)  b_store(p, x)                    p 64-byte aligned
 *     b_and(x, m)  b_and_or(x, m, y) = (x & m) | y          m: in every byte
 *     b_left(x, n)  b_right(x, n)  by n bits, 0..7; what crosses from byte to byte is masked away here
 *     sums                         an int32 for each row
 *     s_set(x)  s_shift(x, n) arithmetically to the right   s_add(a, b)   s_float(x) as v16
 *     four, load4(q)               4 activations, for all rows
 *     dot4(acc, u, a, bits)        acc + sum of 4 products in each row; exact for u below 2^bits
 *     BIASED                       whether it takes u of 8 bits minus 128, as signed bytes (b_bias(u))
 *     BYTE_DOT                     whether it costs the same at 8 bits as at 4
 *     v_top_magnitude(x, y)        the largest of 32 values without their signs, as bits
 *     v_store_i8(p, x, y)          32 values rounded to nearest even as int8, p 32-byte aligned; returns their sum
 *     MAT_ROWS, MAT_TILES          rows of activations and tiles whose sums are held at once
 * and has its table entries from here under qmat_*. */
#ifndef PITH_KERN_QMAT_H
#define PITH_KERN_QMAT_H

#include <math.h>

/* The 8 groups of a block as bytes. */
INLINE void unpack(const uint8_t *p, const unsigned bits, bytes u[8])
{
    if (bits == 8) {
        for (int g = 0; g < 8; g++) u[g] = b_bias(b_load(p + 64 * g));
        return;
    }
    for (int g = 0; g < 8; g++) u[g] = b_zero();
    if (bits & 4) {
        for (int g = 0; g < 4; g++) {
            bytes x = b_load(p + 64 * g);
            u[g] = b_and(x, 15);
            u[g + 4] = b_and(b_right(x, 4), 15);
        }
        p += 256;
    }
    if (bits & 2) {
        const int low = bits & 4;
        for (int g = 0; g < 2; g++) {
            bytes x = b_load(p + 64 * g);
            for (int k = 0; k < 4; k++)
                u[g + 2 * k] = b_and_or(low > 2 * k ? b_left(x, low - 2 * k) : b_right(x, 2 * k - low), 3 << low, u[g + 2 * k]);
        }
        p += 128;
    }
    if (bits & 1) {
        const int low = bits & 6;
        bytes x = b_load(p);
        for (int g = 0; g < 8; g++) u[g] = b_and_or(low > g ? b_left(x, low - g) : b_right(x, g - low), 1 << low, u[g]);
    }
}

/* What the sum over a block starts from, for each unit of the sum of a. */
INLINE int start_of(const unsigned bits, const pith_qscale mode)
{
    int zero = bits == 0 || mode == PITH_QSCALE_BLOCK_MIN ? 0 : 1 << (bits - 1);
    return (BIASED && bits == 8 ? 128 : 0) - zero;
}

/* ---- one row of activations ------------------------------------------------------------------- */

/* Sum over a block of u * a, plus acc.  Two chains, so that the latency of a dot product hides. */
INLINE v16 block_dot(const uint8_t *p, const int8_t *q, const unsigned bits, sums acc)
{
    sums other = s_set(0);
    if (bits == 4 && BYTE_DOT && !BIASED) { /* the high nibbles are left in place, 16 times as large */
        for (int g = 0; g < 4; g++) {
            bytes x = b_load(p + 64 * g);
            acc = dot4(acc, b_and(x, 15), load4(q + 4 * g), 4);
            other = dot4(other, b_and(x, 0xf0), load4(q + 16 + 4 * g), 8);
        }
        return s_float(s_add(acc, s_shift(other, 4)));
    }
    bytes u[8];
    unpack(p, bits, u);
    for (int g = 0; g < 4; g++) {
        acc = dot4(acc, u[g], load4(q + 4 * g), bits);
        other = dot4(other, u[g + 4], load4(q + 16 + 4 * g), bits);
    }
    return s_float(s_add(acc, other));
}

typedef struct vec_walk { /* where a tile's product stands */
    const uint8_t *bits, *bits_end, *payload, *scales;
    const int8_t *q;
    const int32_t *isum;
    const float *scale, *sum;
    v16 y;
} vec_walk;

/* Weights are asked for this many bytes ahead.  The processor's own prefetching stops at pages and falls
 * behind where unpacking is long: 4 to 30% of the speed, most at 2 and 3 bits; 2 to 4 KiB serve alike. */
enum { AHEAD = 3072 };

INLINE void ask_ahead(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i += 64) __builtin_prefetch(p + AHEAD + i);
}

/* Consecutive blocks of one width. */
INLINE void vec_run(vec_walk *walk, const unsigned bits, const pith_qscale mode)
{
    vec_walk s = *walk;
    do {
        v16 dot = v_set(0);
        ask_ahead(s.payload, 64 * bits);
        if (bits > 0) dot = block_dot(s.payload, s.q, bits, s_set(start_of(bits, mode) * *s.isum));
        if (mode != PITH_QSCALE_ROW) dot = v_mul(dot, v_load(KIND_F16, s.scales, 16));
        s.y = v_fma(dot, v_set(*s.scale), s.y);
        if (mode == PITH_QSCALE_BLOCK_MIN) s.y = v_fma(v_load(KIND_F16, s.scales + 32, 16), v_set(*s.sum), s.y);
        s.scales += mode == PITH_QSCALE_ROW ? 0 : mode == PITH_QSCALE_BLOCK ? 32 : 64;
        s.payload += 64 * bits;
        s.q += PITH_TILE_COLS;
        s.isum++, s.scale++, s.sum++;
    } while (++s.bits < s.bits_end && *s.bits == bits);
    *walk = s;
}

/* One block with flags, in row mode. */
static void vec_flagged(vec_walk *s)
{
    const unsigned flags = *s->bits++, width = PITH_BLOCK_WIDTH(flags);
    bytes u[8];
    sums acc = s_set(start_of(width, PITH_QSCALE_ROW) * *s->isum);
    switch (width) {
    case 0: unpack(s->payload, 0, u); break;
    case 1: unpack(s->payload, 1, u); break;
    case 2: unpack(s->payload, 2, u); break;
    case 3: unpack(s->payload, 3, u); break;
    case 4: unpack(s->payload, 4, u); break;
    case 5: unpack(s->payload, 5, u); break;
    case 6: unpack(s->payload, 6, u); break;
    case 7: unpack(s->payload, 7, u); break;
    default: unpack(s->payload, 8, u); break;
    }
    if (width == 0) acc = s_set(0);
    else if (width < 8) for (int g = 0; g < 8; g++) acc = dot4(acc, u[g], load4(s->q + 4 * g), 7);
    else for (int g = 0; g < 8; g++) acc = dot4(acc, u[g], load4(s->q + 4 * g), 8);
    s->y = v_fma(v_mul(s_float(acc), v_set(pith_block_factor(flags))), v_set(*s->scale), s->y);
    s->y = v_fma(v_set(pith_block_extra(flags)), v_set(*s->sum), s->y);
    s->payload += 64 * width;
    s->q += PITH_TILE_COLS;
    s->isum++, s->scale++, s->sum++;
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
        case 8: vec_run(s, 8, mode); break;
        default: vec_flagged(s); break;
        }
}

static void vec_tile_row(vec_walk *s) { vec_tile(s, PITH_QSCALE_ROW); }
static void vec_tile_block(vec_walk *s) { vec_tile(s, PITH_QSCALE_BLOCK); }
static void vec_tile_min(vec_walk *s) { vec_tile(s, PITH_QSCALE_BLOCK_MIN); }

INLINE v16 row_mode_end(const pith_qmat *w, size_t tile, float total, v16 y)
{
    return v_mul(v_load(KIND_F32, w->row_scale + tile * PITH_TILE_ROWS, 16), v_fma(v_set(0.5f), v_set(total), y));
}

static void qmat_vec(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i, float *y)
{
    for (size_t tile = tile0; tile < tile1; tile++) {
        const uint8_t *bits = w->bits + tile * w->n_blocks, *scales = w->data + w->tile_offset[tile];
        size_t at = i * a->n_blocks;
        vec_walk s = {bits, bits + w->n_blocks, scales + kern_scales_bytes(w), scales, a->q + at * PITH_TILE_COLS,
                      a->isum + at, a->scale + at, a->sum + at, v_set(0)};
        ask_ahead(scales, kern_scales_bytes(w));
        switch (w->scale_mode) {
        case PITH_QSCALE_ROW:
            vec_tile_row(&s);
            s.y = row_mode_end(w, tile, a->total[i], s.y);
            break;
        case PITH_QSCALE_BLOCK: vec_tile_block(&s); break;
        case PITH_QSCALE_BLOCK_MIN: vec_tile_min(&s); break;
        }
        v_store(y + (tile - tile0) * PITH_TILE_ROWS, s.y, w->n_rows - tile * PITH_TILE_ROWS);
    }
}

/* ---- many rows of activations ----------------------------------------------------------------- */

/* Weights are unpacked once to bytes, CHUNK blocks of MAT_TILES tiles at a time (16 KiB, in the first
 * cache), and used for every row of activations, MAT_ROWS at a time. */
enum { CHUNK = 32 / MAT_TILES };

typedef struct mat_chunk {
    uint8_t u[MAT_TILES][CHUNK][512];
    float scale[MAT_TILES][CHUNK][16], min[MAT_TILES][CHUNK][16];
    int32_t start[MAT_TILES][CHUNK];    /* what sums start from, for each unit of the sum of a */
    uint8_t flags[MAT_TILES][CHUNK];    /* row mode: the block's byte, if it has flags */
    bool wide[CHUNK];                   /* values of a block need 8 bits */
} __attribute__((aligned(64))) mat_chunk;

INLINE void unpack_store(const uint8_t *payload, const unsigned bits, uint8_t *dst)
{
    bytes u[8];
    unpack(payload, bits, u);
    for (int g = 0; g < 8; g++) b_store(dst + 64 * g, u[g]);
}

/* Unpack n blocks from b0 of a tile into slot t; *payload moves on. */
static void chunk_fill(mat_chunk *c, int t, const pith_qmat *w, size_t tile, size_t b0, size_t n, const uint8_t **payload)
{
    const uint8_t *bits = w->bits + tile * w->n_blocks + b0, *p = *payload;
    size_t step = w->scale_mode == PITH_QSCALE_ROW ? 0 : w->scale_mode == PITH_QSCALE_BLOCK ? 32 : 64;
    const uint8_t *scales = w->data + w->tile_offset[tile] + b0 * step;
    for (size_t b = 0; b < n; b++) {
        const unsigned width = PITH_BLOCK_WIDTH(bits[b]);
        switch (width) {
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
        p += 64u * width;
        c->start[t][b] = start_of(width, w->scale_mode);
        c->flags[t][b] = bits[b] > 8 ? bits[b] : 0;
        c->wide[b] = (t > 0 && c->wide[b]) || width == 8;
        if (step) v_store(c->scale[t][b], v_load(KIND_F16, scales + b * step, 16), 16);
        if (step == 64) v_store(c->min[t][b], v_load(KIND_F16, scales + b * step + 32, 16), 16);
    }
    *payload = p;
}

typedef struct mat_job { /* one chunk */
    const pith_qmat *w;
    const pith_q8 *a;
    const mat_chunk *chunk;
    size_t tile, b0, n_blocks;
    float *y;               /* first row of the tile, activations 0 */
    size_t ldy;
} mat_job;

/* Integer products of block b of the chunk with n_rows rows of activations from q, lda bytes apart. */
INLINE void block_products(const mat_chunk *c, size_t b, const int n_rows, const int n_tiles, const unsigned bits, const int8_t *q, size_t lda, sums acc[MAT_TILES][MAT_ROWS])
{
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        bytes u[MAT_TILES];
#pragma GCC unroll 2
        for (int t = 0; t < n_tiles; t++) u[t] = b_load(c->u[t][b] + 64 * g);
#pragma GCC unroll 6
        for (int r = 0; r < n_rows; r++) {
            four x = load4(q + (size_t)r * lda + 4 * g);
#pragma GCC unroll 2
            for (int t = 0; t < n_tiles; t++) acc[t][r] = dot4(acc[t][r], u[t], x, bits);
        }
    }
}

/* n_rows rows of activations from row i by n_tiles tiles; all three constants where this is called. */
INLINE void mat_rows(const mat_job *j, size_t i, const int n_rows, const int n_tiles, const pith_qscale mode)
{
    const mat_chunk *c = j->chunk;
    const pith_q8 *a = j->a;
    const size_t lda = a->n_blocks, n_valid = j->w->n_rows - j->tile * PITH_TILE_ROWS;
    float *dst = j->y + i * j->ldy;
    v16 y[MAT_TILES][MAT_ROWS];
    for (int r = 0; r < n_rows; r++)
        for (int t = 0; t < n_tiles; t++) y[t][r] = j->b0 ? v_load(KIND_F32, dst + (size_t)r * j->ldy + 16 * t, n_valid - 16 * (size_t)t) : v_set(0);
    int32_t start[MAT_TILES][MAT_ROWS][CHUNK]; /* to be spread over lanes as they are loaded, which is free */
    for (int r = 0; r < n_rows; r++)
        for (int t = 0; t < n_tiles; t++)
            for (size_t b = 0; b < j->n_blocks; b++) start[t][r][b] = c->start[t][b] * a->isum[(i + (size_t)r) * lda + j->b0 + b];
    for (size_t b = 0; b < j->n_blocks; b++) {
        const size_t at = i * lda + j->b0 + b;
        const int8_t *q = a->q + at * PITH_TILE_COLS;
        sums acc[MAT_TILES][MAT_ROWS];
#pragma GCC unroll 6
        for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 2
            for (int t = 0; t < n_tiles; t++) acc[t][r] = s_set(start[t][r][b]);
        if (BYTE_DOT || c->wide[b]) block_products(c, b, n_rows, n_tiles, 8, q, lda * PITH_TILE_COLS, acc);
        else block_products(c, b, n_rows, n_tiles, 7, q, lda * PITH_TILE_COLS, acc);
#pragma GCC unroll 2
        for (int t = 0; t < n_tiles; t++) {
            v16 scale = v_set(0);
            const unsigned flags = mode == PITH_QSCALE_ROW ? c->flags[t][b] : 0;
            if (mode != PITH_QSCALE_ROW) scale = v_load(KIND_F32, c->scale[t][b], 16);
            else if (flags) scale = v_set(pith_block_factor(flags));
#pragma GCC unroll 6
            for (int r = 0; r < n_rows; r++) {
                v16 dot = s_float(acc[t][r]);
                if (mode != PITH_QSCALE_ROW || flags) dot = v_mul(dot, scale);
                y[t][r] = v_fma(dot, v_set(a->scale[at + (size_t)r * lda]), y[t][r]);
                if (mode == PITH_QSCALE_BLOCK_MIN)
                    y[t][r] = v_fma(v_load(KIND_F32, c->min[t][b], 16), v_set(a->sum[at + (size_t)r * lda]), y[t][r]);
                else if (flags)
                    y[t][r] = v_fma(v_set(pith_block_extra(flags)), v_set(a->sum[at + (size_t)r * lda]), y[t][r]);
            }
        }
    }
    bool end = mode == PITH_QSCALE_ROW && j->b0 + j->n_blocks == j->w->n_blocks;
    for (int r = 0; r < n_rows; r++)
        for (int t = 0; t < n_tiles; t++) {
            if (end) y[t][r] = row_mode_end(j->w, j->tile + (size_t)t, a->total[i + (size_t)r], y[t][r]);
            v_store(dst + (size_t)r * j->ldy + 16 * t, y[t][r], n_valid - 16 * (size_t)t);
        }
}

INLINE void mat_all_rows(const mat_job *j, size_t i, size_t i1, const int n_tiles, const pith_qscale mode)
{
    for (; i + MAT_ROWS <= i1; i += MAT_ROWS) mat_rows(j, i, MAT_ROWS, n_tiles, mode);
    if (MAT_ROWS > 3 && i + 3 <= i1) mat_rows(j, i, MAT_ROWS > 3 ? 3 : 1, n_tiles, mode), i += 3;
    for (; i < i1; i++) mat_rows(j, i, 1, n_tiles, mode);
}

static void mat_row_1(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 1, PITH_QSCALE_ROW); }
static void mat_block_1(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 1, PITH_QSCALE_BLOCK); }
static void mat_min_1(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, 1, PITH_QSCALE_BLOCK_MIN); }
static void mat_row_all(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, MAT_TILES, PITH_QSCALE_ROW); }
static void mat_block_all(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, MAT_TILES, PITH_QSCALE_BLOCK); }
static void mat_min_all(const mat_job *j, size_t i0, size_t i1) { mat_all_rows(j, i0, i1, MAT_TILES, PITH_QSCALE_BLOCK_MIN); }

static void qmat_mat(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i0, size_t i1, float *y, size_t ldy)
{
    static void (*const run[2][3])(const mat_job *, size_t, size_t) = {{mat_row_1, mat_block_1, mat_min_1}, {mat_row_all, mat_block_all, mat_min_all}};
    mat_chunk chunk;
    size_t n_tiles;
    for (size_t tile = tile0; tile < tile1; tile += n_tiles) {
        n_tiles = tile + MAT_TILES <= tile1 ? MAT_TILES : 1;
        mat_job j = {.w = w, .a = a, .chunk = &chunk, .tile = tile, .y = y + (tile - tile0) * PITH_TILE_ROWS, .ldy = ldy};
        const uint8_t *payload[MAT_TILES];
        for (size_t t = 0; t < n_tiles; t++) payload[t] = w->data + w->tile_offset[tile + t] + kern_scales_bytes(w);
        for (; j.b0 < w->n_blocks; j.b0 += CHUNK) {
            j.n_blocks = PITH_MIN((size_t)CHUNK, w->n_blocks - j.b0);
            for (size_t t = 0; t < n_tiles; t++) chunk_fill(&chunk, (int)t, w, tile + t, j.b0, j.n_blocks, &payload[t]);
            run[n_tiles == MAT_TILES][w->scale_mode](&j, i0, i1);
        }
    }
}

/* ---- quantising activations ------------------------------------------------------------------- */

static void qmat_q8_rows(pith_q8 *a, size_t i0, size_t i1, const float *x, size_t ldx, size_t n_cols)
{
    for (size_t i = i0; i < i1; i++) {
        float total = 0;
        for (size_t b = 0; b < a->n_blocks; b++) {
            const float *xb = x + i * ldx + b * PITH_TILE_COLS;
            size_t n = n_cols - b * PITH_TILE_COLS, at = i * a->n_blocks + b;
            v16 v0 = v_load(KIND_F32, xb, n), v1 = v_set(0);
            if (n > 16) v1 = v_load(KIND_F32, xb + 16, n - 16);
            /* compared as integers, magnitudes keep their order and what is not finite comes last */
            uint32_t top = v_top_magnitude(v0, v1);
            float max, scale = 0, inverse = 0;
            memcpy(&max, &top, 4);
            if (top >= 0x7f800000) {
                scale = NAN;
                v0 = v1 = v_set(0);
            } else if (max >= PITH_Q8_TINY) {
                scale = max / 127;
                inverse = 127 / max;
            }
            int32_t sum = v_store_i8(a->q + at * PITH_TILE_COLS, v_mul(v0, v_set(inverse)), v_mul(v1, v_set(inverse)));
            a->isum[at] = sum;
            a->scale[at] = scale;
            a->sum[at] = scale * (float)sum;
            total += a->sum[at];
        }
        a->total[i] = total;
    }
}

#define QMAT_ENTRIES .qmat_vec = qmat_vec, .qmat_mat = qmat_mat, .q8_rows = qmat_q8_rows

#endif
