#include "stage/code/blocks.h"

#include "stage/code/floats.h"
#include "stage/quantize/value_loops.h"

#define BLOCK ((size_t)32)
#define N_CLASSES 32               /* places of zero, in halves of a number */
#define SCALES_ROW 512
#define EXCEPTION_BYTES 8          /* u32 block, u16 d, u16 m */

/* A coded run: u8 ends; u32 n exceptions, bytes of the minima, of the scales and of the stream of numbers; u32 which models
 * follow; then each of these in turn: exceptions, minima, scales, models, stream (docs/format.md). */
enum { HEAD = 21 };

bool pith_blocks_has(pith_dtype dtype)
{
    pith_grid g;
    return pith_grid_of(dtype, &g);
}

size_t pith_blocks_bound(size_t n)
{
    return HEAD + n * EXCEPTION_BYTES + 2 * pith_floats_bound(PITH_F16, n) + N_CLASSES * PITH_RANS_MODEL_BYTES + pith_rans_bound(n * BLOCK);
}

/* Blocks taken apart.  All arrays are of one piece of memory. */
typedef struct parts {
    size_t n;
    pith_grid g;
    pith_block_format format;
    size_t block_bytes;
    const pith_value_loops *loops;
    uint16_t *d, *m, *high, *low;  /* [n] f16; the ends in their place, bf16 or the same f16 */
    float *step, *min;             /* [n] d and m; without minima these are 0 */
    int32_t *order;                /* [n] of ends */
    uint32_t *at;                  /* [n] where a block's symbols begin */
    uint8_t *class;                /* [n] */
    uint8_t *symbols;              /* [n, 32] by class */
    size_t n_of[N_CLASSES];        /* numbers of each class */
} parts;

static uint8_t *new_parts(pith_ctx *ctx, pith_dtype dtype, size_t n, parts *p)
{
    uint8_t *memory = pith_array(ctx, n, 4 * sizeof(uint16_t) + 4 * sizeof(uint32_t) + 1 + BLOCK);
    *p = (parts){.n = n, .block_bytes = pith_dtype_get((uint32_t)dtype)->block_bytes, .loops = pith_value_loops_for(pith_ctx_cpu(ctx)->isa)};
    pith_grid_of(dtype, &p->g);
    pith_block_format_of(dtype, &p->format);
    if (!memory) return NULL;
    p->at = (uint32_t *)(void *)memory;
    p->order = (int32_t *)(p->at + n);
    p->step = (float *)(void *)(p->order + n);
    p->min = p->step + n;
    p->d = (uint16_t *)(void *)(p->min + n);
    p->m = p->d + n;
    p->high = p->m + n;
    p->low = p->high + n;
    p->class = (uint8_t *)(p->low + n);
    p->symbols = p->class + n;
    memset(p->m, 0, n * sizeof *p->m); /* stays so without minima */
    memset(p->min, 0, n * sizeof *p->min);
    return memory;
}

static pith_dtype dtype_of(pith_ends e) { return e == PITH_ENDS_BF16 ? PITH_BF16 : PITH_F16; }

/* The places of zero, given d and m, and of each block's symbols. */
static void classify(parts *p)
{
    const float classes = -(float)N_CLASSES / (float)p->g.n_levels;
    uint32_t at[N_CLASSES], sum = 0;
    p->loops->widen(p->d, p->n, p->step);
    memset(p->n_of, 0, sizeof p->n_of);
    memset(p->class, 0, p->n);
    for (size_t i = 0; i < p->n && p->g.has_min; i++) p->class[i] = (uint8_t)pith_within_f(p->min[i] / p->step[i] * classes + 0.5f, 0, N_CLASSES - 1);
    for (size_t i = 0; i < p->n; i++) p->n_of[p->class[i]] += BLOCK;
    for (int c = 0; c < N_CLASSES; sum += (uint32_t)p->n_of[c++]) at[c] = sum;
    for (size_t i = 0; i < p->n; i++) {
        p->at[i] = at[p->class[i]];
        at[p->class[i]] += BLOCK;
    }
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* NaN and infinity are exceptions: what arithmetic makes of them differs between processors. */
static bool is_finite(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

/* The ends of all blocks in place of their scales; what they do not give goes to `exceptions` (NULL: is counted). */
static size_t find_ends(parts *p, pith_ends e, uint8_t *exceptions)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        int low = 0, high;
        bool found = !p->g.has_min || pith_end_of(&p->g, e, p->m[i], true, 0, &low);
        found &= pith_end_of(&p->g, e, p->d[i], false, p->min[i], &high);
        found &= e == PITH_ENDS_F16 || (is_finite(p->d[i]) && is_finite(p->m[i]));
        p->low[i] = pith_of_order(low);
        p->high[i] = pith_of_order(high);
        if (found) continue;
        if (exceptions) {
            pith_put32(exceptions + n * EXCEPTION_BYTES, (uint32_t)i);
            pith_put16(exceptions + n * EXCEPTION_BYTES + 4, p->d[i]);
            pith_put16(exceptions + n * EXCEPTION_BYTES + 6, p->m[i]);
        }
        n++;
    }
    return n;
}

/* A model for each class, then the stream of all numbers. */
static pith_status write_numbers(const parts *p, pith_isa isa, pith_rans_encoder *encoder, uint8_t *head, uint8_t *dst, size_t cap, size_t *len)
{
    pith_rans_segment segment[N_CLASSES];
    size_t n_segments = 0, at = 0, used, stream;
    uint32_t models = 0;
    *len = 0;
    for (int c = 0; c < N_CLASSES; at += p->n_of[c++]) {
        uint64_t counts[256] = {0};
        pith_rans_model m;
        if (!p->n_of[c]) continue;
        pith_rans_count(p->symbols + at, NULL, p->n_of[c], counts);
        PITH_TRY(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, counts, &m));
        PITH_TRY(pith_rans_model_write(&m, dst + *len, cap - *len, &used));
        *len += used;
        models |= 1u << c;
        pith_rans_encoder_init(&encoder[n_segments], &m);
        segment[n_segments] = (pith_rans_segment){&encoder[n_segments], p->symbols + at, NULL, p->n_of[c]};
        n_segments++;
    }
    PITH_TRY(pith_rans_encode(isa, segment, n_segments, dst + *len, cap - *len, &stream));
    *len += stream;
    pith_put32(head + 13, models);
    pith_put32(head + 17, (uint32_t)stream);
    return PITH_OK;
}

static pith_status write_run(pith_ctx *ctx, parts *p, const uint8_t *blocks, pith_rans_encoder *encoder, uint8_t *dst, size_t cap, size_t *len)
{
    if (cap < pith_blocks_bound(p->n)) return PITH_E_SPACE;
    for (size_t i = 0; i < p->n; i++) {
        p->d[i] = pith_le16(blocks + i * p->block_bytes);
        if (p->g.has_min) p->m[i] = pith_le16(blocks + i * p->block_bytes + 2);
    }
    p->loops->widen(p->m, p->n, p->min);
    classify(p);
    for (size_t i = 0; i < p->n; i++) pith_block_numbers(&p->format, blocks + i * p->block_bytes, p->symbols + p->at[i]);
    const pith_ends e = find_ends(p, PITH_ENDS_BF16, NULL) <= p->n / 16 ? PITH_ENDS_BF16 : PITH_ENDS_F16;
    size_t n_exceptions = find_ends(p, e, dst + HEAD), at = HEAD + n_exceptions * EXCEPTION_BYTES, low = 0, high, numbers;
    if (p->g.has_min) PITH_TRY(pith_floats_encode(ctx, dtype_of(e), p->low, p->n, SCALES_ROW, dst + at, cap - at, &low));
    PITH_TRY(pith_floats_encode(ctx, dtype_of(e), p->high, p->n, SCALES_ROW, dst + at + low, cap - at - low, &high));
    at += low + high;
    PITH_TRY(write_numbers(p, pith_ctx_cpu(ctx)->isa, encoder, dst, dst + at, cap - at, &numbers));
    dst[0] = (uint8_t)e;
    pith_put32(dst + 1, (uint32_t)n_exceptions);
    pith_put32(dst + 5, (uint32_t)low);
    pith_put32(dst + 9, (uint32_t)high);
    *len = at + numbers;
    return PITH_OK;
}

pith_status pith_blocks_encode(pith_ctx *ctx, pith_dtype dtype, const uint8_t *blocks, size_t n, uint8_t *dst, size_t cap, size_t *len)
{
    parts p;
    *len = 0;
    if (n == 0) return PITH_OK;
    uint8_t *memory = new_parts(ctx, dtype, n, &p);
    pith_rans_encoder *encoder = pith_array(ctx, N_CLASSES, sizeof *encoder);
    pith_status status = memory && encoder ? write_run(ctx, &p, blocks, encoder, dst, cap, len) : PITH_E_MEMORY;
    pith_free(ctx, memory);
    pith_free(ctx, encoder);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* d and m of all blocks, from their ends and the exceptions. */
static pith_status put_scales(parts *p, pith_ends e, const uint8_t *exceptions, size_t n_exceptions)
{
    if (p->g.has_min) {
        for (size_t i = 0; i < p->n; i++) p->order[i] = pith_order_of(p->low[i]);
        p->loops->scales(e, true, p->order, p->min, p->g.span, p->n, p->m);
        p->loops->widen(p->m, p->n, p->min);
    }
    for (size_t i = 0; i < p->n; i++) p->order[i] = pith_order_of(p->high[i]);
    p->loops->scales(e, false, p->order, p->min, p->g.span, p->n, p->d);
    for (size_t i = 0; i < n_exceptions; i++, exceptions += EXCEPTION_BYTES) {
        const uint32_t block = pith_le32(exceptions);
        if (block >= p->n) return PITH_E_CORRUPT;
        p->d[block] = pith_le16(exceptions + 4);
        p->m[block] = pith_le16(exceptions + 6);
        p->min[block] = pith_f16_to_f32(p->m[block]);
    }
    return PITH_OK;
}

static pith_status read_numbers(parts *p, pith_isa isa, uint32_t models, size_t stream, const uint8_t *src, const uint8_t *end, pith_rans_decoder *decoder)
{
    pith_rans_reader reader;
    size_t n_models = 0, used, at = 0;
    for (int c = 0; c < N_CLASSES; c++) {
        pith_rans_model m;
        if (!(models >> c & 1)) continue;
        PITH_TRY(pith_rans_model_read(src, (size_t)(end - src), &m, &used));
        if (m.kind != PITH_RANS_SYMBOLS) return PITH_E_CORRUPT;
        for (int s = p->g.n_levels; s < 256; s++)
            if (m.freq[s]) return PITH_E_CORRUPT;
        pith_rans_decoder_init(&decoder[n_models++], &m);
        src += used;
    }
    if ((size_t)(end - src) != stream) return PITH_E_CORRUPT;
    PITH_TRY(pith_rans_read_begin(&reader, isa, src, stream));
    n_models = 0;
    for (int c = 0; c < N_CLASSES; at += p->n_of[c++]) {
        const bool there = models >> c & 1;
        if (there != (p->n_of[c] > 0)) return PITH_E_CORRUPT;
        if (there) PITH_TRY(pith_rans_read(&reader, &decoder[n_models++], NULL, p->symbols + at, p->n_of[c]));
    }
    return pith_rans_read_end(&reader);
}

static pith_status read_run(pith_ctx *ctx, parts *p, const uint8_t *src, size_t len, pith_rans_decoder *decoder, uint8_t *blocks)
{
    const uint8_t *end = src + len, *exceptions = src + HEAD;
    const size_t n_exceptions = pith_le32(src + 1), low = pith_le32(src + 5), high = pith_le32(src + 9);
    if (src[0] > PITH_ENDS_BF16 || n_exceptions > p->n || (low > 0) != p->g.has_min) return PITH_E_CORRUPT;
    const pith_ends e = (pith_ends)src[0];
    if ((uint64_t)n_exceptions * EXCEPTION_BYTES + low + high > len - HEAD) return PITH_E_CORRUPT;
    const uint8_t *at = exceptions + n_exceptions * EXCEPTION_BYTES;
    if (p->g.has_min) PITH_TRY(pith_floats_decode(ctx, dtype_of(e), at, low, p->low, p->n, SCALES_ROW));
    PITH_TRY(pith_floats_decode(ctx, dtype_of(e), at + low, high, p->high, p->n, SCALES_ROW));
    PITH_TRY(put_scales(p, e, exceptions, n_exceptions));
    classify(p);
    PITH_TRY(read_numbers(p, pith_ctx_cpu(ctx)->isa, pith_le32(src + 13), pith_le32(src + 17), at + low + high, end, decoder));
    for (size_t i = 0; i < p->n; i++, blocks += p->block_bytes) {
        pith_put16(blocks, p->d[i]);
        if (p->g.has_min) pith_put16(blocks + 2, p->m[i]);
        pith_block_put_numbers(&p->format, p->symbols + p->at[i], blocks);
    }
    return PITH_OK;
}

pith_status pith_blocks_decode(pith_ctx *ctx, pith_dtype dtype, const uint8_t *src, size_t len, uint8_t *blocks, size_t n)
{
    parts p;
    if (n == 0) return len == 0 ? PITH_OK : PITH_E_CORRUPT;
    if (len < HEAD) return PITH_E_CORRUPT;
    uint8_t *memory = new_parts(ctx, dtype, n, &p);
    pith_rans_decoder *decoder = pith_array(ctx, N_CLASSES, sizeof *decoder);
    pith_status status = memory && decoder ? read_run(ctx, &p, src, len, decoder, blocks) : PITH_E_MEMORY;
    pith_free(ctx, memory);
    pith_free(ctx, decoder);
    return status;
}
