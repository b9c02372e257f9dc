/* Low-bit matrices: building them, reading them back, and laying out 8-bit activations. */
#include <math.h>
#include <stdatomic.h>

#include "tensor/qmat.h"

static size_t mode_scales(pith_qscale mode) /* f16 values a row and block */
{
    return mode == PITH_QSCALE_ROW ? 0 : mode == PITH_QSCALE_BLOCK ? 1 : 2;
}

static size_t scales_bytes(pith_qscale mode, size_t n_blocks)
{
    return PITH_ROUND_UP(n_blocks * mode_scales(mode) * PITH_TILE_ROWS * sizeof(uint16_t), 64);
}

/* ---- making and freeing ----------------------------------------------------------------------- */

static pith_status new_matrix(pith_ctx *ctx, pith_qmat *m, const uint8_t *bits)
{
    size_t n_widths, n_values;
    if (!pith_mul(m->n_tiles, m->n_blocks, &n_widths) || !pith_mul(n_widths, 16 * 32 + 64, &n_values))
        return pith_fail(ctx, PITH_E_LIMIT, "a matrix of %zu x %zu is too large for this machine", m->n_rows, m->n_cols);
    m->bits = pith_array(ctx, n_widths, 1);
    m->tile_offset = pith_array(ctx, m->n_tiles + 1, sizeof *m->tile_offset);
    if (!m->bits || !m->tile_offset) return PITH_E_MEMORY;
    memcpy(m->bits, bits, n_widths);
    size_t offset = 0; /* below n_widths * (16*32 + 64), checked above */
    for (size_t tile = 0; tile < m->n_tiles; tile++) {
        m->tile_offset[tile] = offset;
        offset += scales_bytes(m->scale_mode, m->n_blocks);
        for (size_t b = 0; b < m->n_blocks; b++) {
            unsigned flags = bits[tile * m->n_blocks + b], width = m->scale_mode == PITH_QSCALE_ROW ? PITH_BLOCK_WIDTH(flags) : flags;
            if (width > 8)
                return pith_fail(ctx, PITH_E_ARGUMENT, "block %zu of tile %zu is %u bits wide; the limit is 8", b, tile, width);
            offset += 64 * width;
        }
    }
    m->tile_offset[m->n_tiles] = offset;
    m->data = pith_calloc(ctx, offset, 1);
    if (!m->data) return PITH_E_MEMORY;
    if (m->scale_mode == PITH_QSCALE_ROW) {
        m->row_scale = pith_calloc(ctx, m->n_tiles * PITH_TILE_ROWS, sizeof(float));
        if (!m->row_scale) return PITH_E_MEMORY;
    }
    return PITH_OK;
}

pith_status pith_qmat_new(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_qscale mode, const uint8_t *bits, pith_qmat *m)
{
    if (n_rows == 0 || n_cols == 0)
        return pith_fail(ctx, PITH_E_SHAPE, "a matrix of %zu x %zu has no values", n_rows, n_cols);
    pith_qmat made = {.n_rows = n_rows, .n_cols = n_cols, .scale_mode = mode,
                      .n_tiles = (n_rows - 1) / PITH_TILE_ROWS + 1, .n_blocks = (n_cols - 1) / PITH_TILE_COLS + 1};
    pith_status status = new_matrix(ctx, &made, bits);
    if (status == PITH_OK) *m = made;
    else pith_qmat_free(ctx, &made);
    return status;
}

void pith_qmat_free(pith_ctx *ctx, pith_qmat *m)
{
    pith_free(ctx, m->bits);
    pith_free(ctx, m->tile_offset);
    pith_free(ctx, m->data);
    pith_free(ctx, m->row_scale);
    *m = (pith_qmat){0};
}

size_t pith_qmat_bytes(const pith_qmat *m)
{
    if (!m->data) return 0;
    size_t rows = m->scale_mode == PITH_QSCALE_ROW ? sizeof(float) * PITH_TILE_ROWS * m->n_tiles : 0;
    return m->n_tiles * m->n_blocks + (m->n_tiles + 1) * sizeof *m->tile_offset + m->tile_offset[m->n_tiles] + rows;
}

/* ---- blocks ----------------------------------------------------------------------------------- */

static uint8_t *block_payload(const pith_qmat *m, size_t tile, size_t block)
{
    const uint8_t *bits = m->bits + tile * m->n_blocks;
    size_t offset = m->tile_offset[tile] + scales_bytes(m->scale_mode, m->n_blocks);
    for (size_t b = 0; b < block; b++) offset += 64u * PITH_BLOCK_WIDTH(bits[b]);
    return m->data + offset;
}

static uint8_t *block_scales(const pith_qmat *m, size_t tile, size_t block)
{
    return m->data + m->tile_offset[tile] + block * mode_scales(m->scale_mode) * 32;
}

/* Planes of a width, larger first: at most 3.  Returns how many; each holds bits `low` and up of u. */
static int planes_of(unsigned width, unsigned plane[3], unsigned low[3])
{
    int n = 0;
    unsigned next = 0;
    for (unsigned p = 8; p >= 1; p /= 2)
        if (width & p) {
            plane[n] = p;
            low[n++] = next;
            next += p;
        }
    return n;
}

/* A plane of p bits takes the 4 values of a row and group at a time, as the bytes of one word: they are
 * masked before they could cross into each other.  Part i of the plane holds groups i, i + p, ...
 * fours[group][row] are those words as they come. */
static inline __attribute__((always_inline)) void put_parts(uint8_t *plane, unsigned p, unsigned low, const uint32_t fours[8][16])
{
    const uint32_t mask = 0x01010101u * ((1u << p) - 1);
    for (unsigned part = 0; part < p; part++) {
        uint32_t word[16] = {0};
        for (unsigned k = 0; k < 8 / p; k++)
            for (unsigned row = 0; row < 16; row++) word[row] |= (fours[part + k * p][row] >> low & mask) << k * p;
        memcpy(plane + 64 * part, word, sizeof word);
    }
}

/* p is a constant in each, for the loops to become vectors. */
static void put_plane(uint8_t *plane, unsigned p, unsigned low, const uint32_t fours[8][16])
{
    if (p == 8) put_parts(plane, 8, low, fours);
    else if (p == 4) put_parts(plane, 4, low, fours);
    else if (p == 2) put_parts(plane, 2, low, fours);
    else put_parts(plane, 1, low, fours);
}

void pith_qmat_put_block(pith_qmat *m, size_t tile, size_t block, const uint8_t u[16][32], const uint16_t *scale, const uint16_t *min)
{
    unsigned plane[3], low[3];
    uint8_t *payload = block_payload(m, tile, block);
    int n_planes = planes_of(PITH_BLOCK_WIDTH(m->bits[tile * m->n_blocks + block]), plane, low);
    uint32_t fours[8][16];
    for (unsigned row = 0; row < 16; row++)
        for (unsigned group = 0; group < 8; group++) memcpy(&fours[group][row], &u[row][4 * group], 4);
    for (int k = 0; k < n_planes; payload += 64 * plane[k++]) put_plane(payload, plane[k], low[k], (const uint32_t(*)[16])fours);
    if (m->scale_mode == PITH_QSCALE_ROW) return;
    uint8_t *scales = block_scales(m, tile, block);
    memcpy(scales, scale, 32);
    if (m->scale_mode == PITH_QSCALE_BLOCK_MIN) memcpy(scales + 32, min, 32);
}

/* Row `row` of a block, in order of columns. */
static void block_row(const uint8_t *payload, unsigned width, unsigned row, uint8_t u[32])
{
    unsigned plane[3], low[3];
    int n_planes = planes_of(width, plane, low);
    uint32_t words[8] = {0};
    for (int i = 0; i < n_planes; payload += 64 * plane[i++]) {
        unsigned p = plane[i];
        uint32_t mask = 0x01010101u * ((1u << p) - 1), word;
        for (unsigned part = 0; part < p; part++) {
            memcpy(&word, payload + 64 * part + 4 * row, 4);
            for (unsigned k = 0; k < 8 / p; k++) words[part + k * p] |= (word >> k * p & mask) << low[i];
        }
    }
    memcpy(u, words, 32);
}

void pith_qmat_get_block(const pith_qmat *m, size_t tile, size_t block, uint8_t u[16][32], uint16_t *scale, uint16_t *min)
{
    const uint8_t *payload = block_payload(m, tile, block);
    for (unsigned row = 0; row < 16; row++) block_row(payload, PITH_BLOCK_WIDTH(m->bits[tile * m->n_blocks + block]), row, u[row]);
    if (m->scale_mode == PITH_QSCALE_ROW) return;
    const uint8_t *scales = block_scales(m, tile, block);
    if (scale) memcpy(scale, scales, 32);
    if (min && m->scale_mode == PITH_QSCALE_BLOCK_MIN) memcpy(min, scales + 32, 32);
}

void pith_qmat_row(const pith_qmat *m, size_t row, float *dst)
{
    size_t tile = row / PITH_TILE_ROWS;
    unsigned r = (unsigned)(row % PITH_TILE_ROWS);
    const uint8_t *bits = m->bits + tile * m->n_blocks, *payload = block_payload(m, tile, 0);
    for (size_t b = 0; b < m->n_blocks; b++) {
        uint8_t u[32];
        unsigned width = PITH_BLOCK_WIDTH(bits[b]);
        block_row(payload, width, r, u);
        payload += 64u * width;
        float scale, factor = 1, add = 0, min = 0;
        int zero = width ? 1 << (width - 1) : 0;
        if (m->scale_mode == PITH_QSCALE_ROW) {
            scale = m->row_scale[row];
            factor = pith_block_factor(bits[b]);
            add = pith_block_extra(bits[b]) + 0.5f;
        } else {
            const uint8_t *scales = block_scales(m, tile, b) + 2 * r;
            scale = pith_f16_to_f32(pith_le16(scales));
            if (m->scale_mode == PITH_QSCALE_BLOCK_MIN) {
                min = pith_f16_to_f32(pith_le16(scales + 32));
                zero = 0;
            }
        }
        size_t n = PITH_MIN((size_t)PITH_TILE_COLS, m->n_cols - b * PITH_TILE_COLS);
        for (size_t c = 0; c < n; c++) dst[b * PITH_TILE_COLS + c] = scale * (factor * (float)(u[c] - zero) + add) + min;
    }
}

pith_status pith_qmat_join(pith_ctx *ctx, pith_qmat *parts, size_t n_parts, size_t n_rows, pith_qmat *m)
{
    size_t n_blocks = parts[0].n_blocks, n_tiles = PITH_CEIL_DIV(n_rows, PITH_TILE_ROWS), tile = 0;
    uint8_t *bits = pith_array(ctx, n_tiles, n_blocks);
    if (!bits) return PITH_E_MEMORY;
    for (size_t i = 0; i < n_parts; tile += parts[i++].n_tiles) memcpy(bits + tile * n_blocks, parts[i].bits, parts[i].n_tiles * n_blocks);
    pith_qmat whole;
    pith_status status = pith_qmat_new(ctx, n_rows, parts[0].n_cols, parts[0].scale_mode, bits, &whole);
    pith_free(ctx, bits);
    if (status != PITH_OK) return status;
    tile = 0;
    for (size_t i = 0; i < n_parts; i++) {
        size_t n = parts[i].n_tiles;
        memcpy(whole.data + whole.tile_offset[tile], parts[i].data, parts[i].tile_offset[n]); /* laid out alike in both */
        if (whole.row_scale) memcpy(whole.row_scale + tile * PITH_TILE_ROWS, parts[i].row_scale, n * PITH_TILE_ROWS * sizeof(float));
        pith_qmat_free(ctx, &parts[i]);
        tile += n;
    }
    *m = whole;
    return PITH_OK;
}

/* ---- from GGUF blocks ------------------------------------------------------------------------- */

/* Layouts: d f16, then m f16 in the _1 types, then 32 fifth bits in Q5, then 16 bytes with value j in the
 * low and value j + 16 in the high nibble of byte j; Q8_0: 32 signed bytes.  Source: GGUF documentation. */
bool pith_block_format_of(pith_dtype dtype, pith_block_format *f)
{
    switch (dtype) {
    case PITH_Q4_0: *f = (pith_block_format){4, false, false, 0, 2}; return true;
    case PITH_Q4_1: *f = (pith_block_format){4, true, false, 0, 4}; return true;
    case PITH_Q5_0: *f = (pith_block_format){5, false, false, 2, 6}; return true;
    case PITH_Q5_1: *f = (pith_block_format){5, true, false, 4, 8}; return true;
    case PITH_Q8_0: *f = (pith_block_format){8, false, true, 0, 2}; return true;
    default: return false;
    }
}

void pith_block_numbers(const pith_block_format *f, const uint8_t *block, uint8_t u[32])
{
    const uint8_t *low = block + f->low_at;
    if (f->is_signed) {
        for (int i = 0; i < 32; i++) u[i] = low[i] ^ 0x80;
        return;
    }
    uint32_t high = f->high_at ? pith_le32(block + f->high_at) : 0;
    for (int i = 0; i < 16; i++) {
        u[i] = (uint8_t)((low[i] & 15) | (high >> i & 1) << 4);
        u[i + 16] = (uint8_t)(low[i] >> 4 | (high >> (i + 16) & 1) << 4);
    }
}

void pith_block_put_numbers(const pith_block_format *f, const uint8_t u[32], uint8_t *block)
{
    uint8_t *low = block + f->low_at;
    uint32_t high = 0;
    if (f->is_signed) {
        for (int i = 0; i < 32; i++) low[i] = u[i] ^ 0x80;
        return;
    }
    for (int i = 0; i < 16; i++) low[i] = (uint8_t)((u[i] & 15) | (u[i + 16] & 15) << 4);
    if (!f->high_at) return;
    for (int i = 0; i < 32; i++) high |= (uint32_t)(u[i] >> 4 & 1) << i;
    pith_put32(block + f->high_at, high);
}

typedef struct from_blocks_job {
    pith_qmat *m;
    const uint8_t *data;
    size_t block_bytes;
    pith_block_format format;
} from_blocks_job;

static void from_blocks_tile(void *arg, size_t tile, PITH_UNUSED int worker)
{
    from_blocks_job *job = arg;
    pith_qmat *m = job->m;
    size_t row0 = tile * PITH_TILE_ROWS, n = PITH_MIN((size_t)PITH_TILE_ROWS, m->n_rows - row0);
    for (size_t b = 0; b < m->n_blocks; b++) {
        uint8_t u[16][32] = {{0}};
        uint16_t scale[16] = {0}, min[16] = {0};
        for (size_t r = 0; r < n; r++) {
            const uint8_t *block = job->data + ((row0 + r) * m->n_blocks + b) * job->block_bytes;
            pith_block_numbers(&job->format, block, u[r]);
            scale[r] = pith_le16(block);
            if (job->format.has_min) min[r] = pith_le16(block + 2);
        }
        pith_qmat_put_block(m, tile, b, (const uint8_t(*)[32])u, scale, min);
    }
}

/* A matrix whose blocks all have one width. */
static pith_status new_uniform(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_qscale mode, unsigned width, pith_qmat *m)
{
    size_t n_widths;
    if (!pith_mul(PITH_CEIL_DIV(n_rows, PITH_TILE_ROWS), PITH_CEIL_DIV(n_cols, PITH_TILE_COLS), &n_widths))
        return pith_fail(ctx, PITH_E_LIMIT, "a matrix of %zu x %zu is too large for this machine", n_rows, n_cols);
    uint8_t *bits = pith_alloc(ctx, n_widths);
    if (!bits) return PITH_E_MEMORY;
    memset(bits, (int)width, n_widths);
    pith_status status = pith_qmat_new(ctx, n_rows, n_cols, mode, bits, m);
    pith_free(ctx, bits);
    return status;
}

pith_status pith_qmat_from_blocks(pith_ctx *ctx, const pith_tensor *t, pith_qmat *m)
{
    from_blocks_job job = {.data = t->data};
    const pith_dtype_info *info = pith_dtype_get((uint32_t)t->dtype);
    if (!pith_block_format_of(t->dtype, &job.format))
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "type %s (%u) has no product of its own; requantise its rows instead",
                         info ? info->name : "unknown", (unsigned)t->dtype);
    job.block_bytes = info->block_bytes;
    size_t cols = pith_tensor_cols(t), rows = cols ? pith_tensor_count(t) / cols : 0;
    if (cols % 32 != 0 || rows == 0)
        return pith_fail(ctx, PITH_E_SHAPE, "%zu rows of %zu values of type %s; a row must be whole blocks of 32", rows, cols, info->name);
    pith_qmat made;
    PITH_TRY(new_uniform(ctx, rows, cols, job.format.has_min ? PITH_QSCALE_BLOCK_MIN : PITH_QSCALE_BLOCK, job.format.bits, &made));
    job.m = &made;
    pith_parallel(ctx, made.n_tiles, from_blocks_tile, &job);
    *m = made;
    return PITH_OK;
}

/* ---- from rows of f32 ------------------------------------------------------------------------- */

typedef struct from_rows_job {
    pith_qmat *m;
    pith_row_fn *row_fn;
    void *arg;
    float *rows;          /* [n_threads][16][n_cols] */
    atomic_size_t bad;    /* 1 + the lowest row that cannot be represented; 0: none */
} from_rows_job;

static void mark_bad(atomic_size_t *bad, size_t row)
{
    size_t seen = atomic_load(bad);
    while ((seen == 0 || row + 1 < seen) && !atomic_compare_exchange_weak(bad, &seen, row + 1)) {}
}

/* Quantise up to 32 values; false when the scale is not finite in f16. */
static bool quantise_block(const float *x, size_t n, uint8_t u[32], uint16_t *scale)
{
    float max = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
        max = fmaxf(max, fabsf(x[i]));
    }
    *scale = pith_f32_to_f16(max / 127);
    float step = pith_f16_to_f32(*scale);
    if (isinf(step)) return false;
    for (size_t i = 0; i < n; i++) {
        float q = step > 0 ? rintf(x[i] / step) : 0;
        u[i] = (uint8_t)(128 + (int)fminf(fmaxf(q, -128), 127)); /* the rounding of the scale may pass 127 */
    }
    for (size_t i = n; i < 32; i++) u[i] = 128;
    return true;
}

static void from_rows_tile(void *arg, size_t tile, int worker)
{
    from_rows_job *job = arg;
    pith_qmat *m = job->m;
    float *rows = job->rows + (size_t)worker * PITH_TILE_ROWS * m->n_cols;
    size_t row0 = tile * PITH_TILE_ROWS, n = PITH_MIN((size_t)PITH_TILE_ROWS, m->n_rows - row0);
    for (size_t r = 0; r < n; r++) job->row_fn(job->arg, row0 + r, rows + r * m->n_cols);
    for (size_t b = 0; b < m->n_blocks; b++) {
        uint8_t u[16][32] = {{0}};
        uint16_t scale[16] = {0};
        size_t col0 = b * PITH_TILE_COLS, n_values = PITH_MIN((size_t)PITH_TILE_COLS, m->n_cols - col0);
        for (size_t r = 0; r < n; r++)
            if (!quantise_block(rows + r * m->n_cols + col0, n_values, u[r], &scale[r])) mark_bad(&job->bad, row0 + r);
        pith_qmat_put_block(m, tile, b, (const uint8_t(*)[32])u, scale, NULL);
    }
}

pith_status pith_qmat_from_rows_q8(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_row_fn *row_fn, void *arg, pith_qmat *m)
{
    pith_qmat made;
    PITH_TRY(new_uniform(ctx, n_rows, n_cols, PITH_QSCALE_BLOCK, 8, &made));
    from_rows_job job = {.m = &made, .row_fn = row_fn, .arg = arg};
    job.rows = pith_array(ctx, (size_t)pith_n_threads(ctx) * PITH_TILE_ROWS, n_cols * sizeof(float));
    pith_status status = job.rows ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) {
        pith_parallel(ctx, made.n_tiles, from_rows_tile, &job);
        size_t bad = atomic_load(&job.bad);
        if (bad)
            status = pith_fail(ctx, PITH_E_NONFINITE, "row %zu has a value that is not finite or above %g, the limit of 8-bit blocks",
                               bad - 1, 127 * 65504.0);
    }
    pith_free(ctx, job.rows);
    if (status == PITH_OK) *m = made;
    else pith_qmat_free(ctx, &made);
    return status;
}

/* ---- activations ------------------------------------------------------------------------------ */

/* Bytes of the five arrays of a pith_q8, each rounded to 64; false on overflow. */
static bool q8_sizes(size_t n, size_t n_cols, size_t sizes[5], size_t *total)
{
    size_t n_blocks = n_cols ? (n_cols - 1) / PITH_TILE_COLS + 1 : 0, n_all, bytes;
    if (!pith_mul(n, n_blocks, &n_all) || !pith_mul(n_all, 64, &bytes) || !pith_add(bytes, n, &bytes) ||
        !pith_mul(bytes, 4, &bytes) || !pith_add(bytes, 5 * 64, &bytes)) return false;
    sizes[0] = n_all * PITH_TILE_COLS;
    sizes[1] = sizes[2] = sizes[3] = n_all * 4;
    sizes[4] = n * 4;
    *total = 0;
    for (int i = 0; i < 5; i++) {
        sizes[i] = PITH_ROUND_UP(sizes[i], 64);
        *total += sizes[i];
    }
    return true;
}

size_t pith_q8_bytes(size_t n, size_t n_cols)
{
    size_t sizes[5], total;
    return q8_sizes(n, n_cols, sizes, &total) ? total : 0;
}

void pith_q8_init(pith_q8 *a, size_t n, size_t n_cols, void *memory)
{
    size_t sizes[5], total;
    *a = (pith_q8){.n = n, .n_blocks = PITH_CEIL_DIV(n_cols, PITH_TILE_COLS)};
    if (!q8_sizes(n, n_cols, sizes, &total)) return; /* pith_q8_bytes said 0 */
    uint8_t *p = memory;
    a->q = (int8_t *)p;
    a->isum = (int32_t *)(void *)(p += sizes[0]);
    a->scale = (float *)(void *)(p += sizes[1]);
    a->sum = (float *)(void *)(p += sizes[2]);
    a->total = (float *)(void *)(p += sizes[3]);
}
