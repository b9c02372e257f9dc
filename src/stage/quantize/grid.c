#include "stage/quantize/grid.h"
#include "stage/quantize/value_loops.h"

#include <math.h>

#define BLOCK 32
#define LEAST_NUMBERS 16384        /* that come under a model of their own: it takes some 40 bytes in the file, and 17 KB where it is read */
#define SCALE_SHIFT 3              /* low bits of a scale's difference that are stored as they are */

bool pith_grid_of(pith_dtype dtype, pith_grid *g)
{
    pith_block_format f;
    if (!pith_block_format_of(dtype, &f)) return false;
    *g = (pith_grid){.low = f.has_min ? 0 : -(1 << (f.bits - 1)), .n_levels = 1 << f.bits, .has_min = f.has_min, .bits = f.bits};
    g->span = f.has_min ? (float)(g->n_levels - 1) : f.bits == 8 ? 127 : (float)g->low;
    return true;
}

void pith_grid_split(pith_dtype dtype, const uint8_t *blocks, pith_grid_rows *r)
{
    pith_block_format f;
    if (!pith_block_format_of(dtype, &f)) return;
    size_t bytes = pith_dtype_get((uint32_t)dtype)->block_bytes, n = r->n_rows * r->n_blocks;
    for (size_t i = 0; i < n; i++, blocks += bytes) {
        r->d[i] = pith_le16(blocks);
        if (f.has_min) r->m[i] = pith_le16(blocks + 2);
        pith_block_numbers(&f, blocks, r->u + i * BLOCK);
    }
}

#define SCALES_OF(min) ((min) ? 0 : PITH_GRID_SCALE_CLASSES) /* the first model of m, and of d */

/* ---- distributions ---------------------------------------------------------------------------- */

/* Models of a family differ in their class only and have the same symbols; a model is number first + class * stride. */
typedef struct family {
    int first, stride, n_classes;
} family;

static family family_of(int model)
{
    if (model >= PITH_GRID_FIRST_WIDE) return (family){PITH_GRID_FIRST_WIDE + (model - PITH_GRID_FIRST_WIDE) % 32, 32, PITH_GRID_ERROR_CLASSES - PITH_GRID_NARROW_CLASSES};
    if (model >= PITH_GRID_FIRST_NUMBER) return (family){PITH_GRID_FIRST_NUMBER + (model - PITH_GRID_FIRST_NUMBER) % 32, 32, PITH_GRID_NARROW_CLASSES};
    return (family){model / PITH_GRID_SCALE_CLASSES * PITH_GRID_SCALE_CLASSES, 1, PITH_GRID_SCALE_CLASSES};
}

static int last_symbol(int model) { return model >= PITH_GRID_FIRST_NUMBER && model < PITH_GRID_FIRST_WIDE ? 15 : 255; }

/* The model that is used in place of one: itself, or the nearest class of its family that is, the lower of two; -1: none is. */
static int stand_in(const bool used[PITH_GRID_MODELS], int model)
{
    family f = family_of(model);
    for (int distance = 0; distance < f.n_classes; distance++)
        for (int way = -1; way <= 1; way += 2) {
            int i = model + way * distance * f.stride;
            if (i >= f.first && i < f.first + f.n_classes * f.stride && used[i]) return i;
        }
    return -1;
}

/* Models are used for what comes often enough to pay for one, and for the most frequent of each family. */
pith_status pith_grid_fit(pith_grid_counts *c, pith_grid_models *m)
{
    uint64_t n[PITH_GRID_MODELS] = {0};
    for (int i = 0; i < PITH_GRID_MODELS; i++)
        for (int s = 0; s < 256; s++) n[i] += c->count[i][s];
    for (int i = 0; i < PITH_GRID_MODELS; i++) {
        family f = family_of(i);
        bool most = n[i] > 0;
        for (int k = f.first; k < f.first + f.n_classes * f.stride; k += f.stride) most &= k < i ? n[k] < n[i] : n[k] <= n[i];
        m->used[i] = most || n[i] >= LEAST_NUMBERS;
    }
    for (int i = 0; i < PITH_GRID_MODELS; i++) {
        int to = stand_in(m->used, i);
        for (int s = 0; s < 256 && to >= 0 && to != i; s++) c->count[to][s] += c->count[i][s];
    }
    for (int i = 0; i < PITH_GRID_MODELS; i++) {
        if (!m->used[i]) continue;
        c->count[i][PITH_GRID_ESCAPE]++;     /* always possible */
        PITH_TRY(pith_rans_model_fit(PITH_RANS_SYMBOLS, 1, c->count[i], &m->model[i]));
    }
    return PITH_OK;
}

pith_status pith_grid_models_write(const pith_grid_models *m, uint8_t *dst, size_t cap, size_t *len)
{
    *len = 0;
    for (int i = 0; i < PITH_GRID_MODELS; i++) {
        size_t n;
        if (!m->used[i]) continue;
        if (cap - *len < 4) return PITH_E_SPACE;
        pith_put16(dst + *len, (uint16_t)i);
        PITH_TRY(pith_rans_model_write(&m->model[i], dst + *len + 2, cap - *len - 2, &n));
        *len += 2 + n;
    }
    if (cap - *len < 2) return PITH_E_SPACE;
    pith_put16(dst + *len, 65535);
    *len += 2;
    return PITH_OK;
}

pith_status pith_grid_models_read(const uint8_t *src, size_t len, pith_grid_models *m)
{
    memset(m->used, 0, sizeof m->used);
    for (int last = -1;;) {
        if (len < 2) return PITH_E_CORRUPT;
        int i = pith_le16(src);
        size_t n;
        src += 2;
        len -= 2;
        if (i == 65535) return len == 0 ? PITH_OK : PITH_E_CORRUPT;
        if (i <= last || i >= PITH_GRID_MODELS) return PITH_E_CORRUPT;
        PITH_TRY(pith_rans_model_read(src, len, &m->model[i], &n));
        if (m->model[i].kind != PITH_RANS_SYMBOLS) return PITH_E_CORRUPT;
        for (int s = last_symbol(i) + 1; s < 256; s++)
            if (m->model[i].freq[s]) return PITH_E_CORRUPT;
        m->used[last = i] = true;
        src += n;
        len -= n;
    }
}

struct pith_grid_encoders {
    uint16_t at[PITH_GRID_MODELS];         /* 1 + index of the model that is used; 0: none is */
    pith_rans_encoder encoder[];
};

struct pith_grid_decoders {
    uint16_t at[PITH_GRID_MODELS];
    pith_rans_decoder decoder[];
};

static size_t count_used(const pith_grid_models *m)
{
    size_t n = 0;
    for (int i = 0; i < PITH_GRID_MODELS; i++) n += m->used[i];
    return n;
}

/* Where the table of each model is, or of the one that stands in for it. */
static void number_models(const pith_grid_models *m, uint16_t at[PITH_GRID_MODELS])
{
    uint16_t n = 0;
    for (int i = 0; i < PITH_GRID_MODELS; i++)
        if (m->used[i]) at[i] = ++n;
    for (int i = 0; i < PITH_GRID_MODELS; i++) {
        int to = stand_in(m->used, i);
        at[i] = to < 0 ? 0 : at[to];
    }
}

pith_grid_encoders *pith_grid_encoders_new(pith_ctx *ctx, const pith_grid_models *m)
{
    pith_grid_encoders *e = pith_calloc(ctx, 1, sizeof *e + count_used(m) * sizeof *e->encoder);
    if (!e) return NULL;
    number_models(m, e->at);
    for (int i = 0; i < PITH_GRID_MODELS; i++)
        if (m->used[i]) pith_rans_encoder_init(&e->encoder[e->at[i] - 1], &m->model[i]);
    return e;
}

pith_grid_decoders *pith_grid_decoders_new(pith_ctx *ctx, const pith_grid_models *m)
{
    pith_grid_decoders *d = pith_calloc(ctx, 1, sizeof *d + count_used(m) * sizeof *d->decoder);
    if (!d) return NULL;
    number_models(m, d->at);
    for (int i = 0; i < PITH_GRID_MODELS; i++)
        if (m->used[i]) pith_rans_decoder_init(&d->decoder[d->at[i] - 1], &m->model[i]);
    return d;
}

/* ---- scales ----------------------------------------------------------------------------------- */

bool pith_end_of(const pith_grid *g, pith_ends e, uint16_t scale, bool min, float m, int *order)
{
    *order = pith_order_of(scale);
    if (e == PITH_ENDS_F16) return true;
    float x = pith_f16_to_f32(scale);
    int nearest = pith_order_of(pith_f32_to_bf16(min ? x : m + x * g->span));
    static const int8_t tries[] = {0, 1, -1};
    for (size_t i = 0; i < sizeof tries; i++)
        if (pith_scale_of(e, *order = nearest + tries[i], min, m, g->span) == scale) return true;
    return false;
}

static float minimum(const pith_grid *g, const pith_grid_rows *r, size_t i) { return g->has_min ? pith_f16_to_f32(r->m[i]) : 0; }

/* How most blocks were made. */
static pith_ends ends_of(const pith_grid *g, const pith_grid_rows *r)
{
    size_t n = r->n_rows * r->n_blocks, n_bf16 = 0;
    for (size_t i = 0; i < n; i++) {
        int order;
        float m = minimum(g, r, i);
        n_bf16 += (!g->has_min || pith_end_of(g, PITH_ENDS_BF16, r->m[i], true, m, &order)) && pith_end_of(g, PITH_ENDS_BF16, r->d[i], false, m, &order);
    }
    return n_bf16 >= n - n / 16 ? PITH_ENDS_BF16 : PITH_ENDS_F16;
}

/* ---- coding ----------------------------------------------------------------------------------- */

typedef struct grid_scratch {
    pith_block_guesses guess;
    float *min, *step;             /* [blocks] m and d */
    int32_t *end;                  /* [blocks] the order of an end, first as it is guessed */
    uint32_t *order;               /* [blocks] sorted by class */
    uint16_t *model;               /* [numbers] see value_loops.h */
    int16_t *zero;                 /* [numbers] */
    uint8_t *symbols;              /* [2 blocks + numbers] in coding order */
    uint32_t n[PITH_GRID_MODELS];  /* numbers, or scales, of each model */
} grid_scratch;

/* Parts of all numbers, that are gone through side by side where a step waits for memory that the last one wrote. */
#define PARTS 4

size_t pith_grid_scratch(size_t n_rows, size_t n_blocks)
{
    size_t blocks = n_rows * n_blocks, n = blocks * BLOCK;
    return PITH_ROUND_UP(sizeof(grid_scratch), PITH_ALIGN) + blocks * (6 * sizeof(float) + 1) + n * (2 * sizeof(uint16_t) + 1) + 2 * blocks;
}

static grid_scratch *lay_out(const pith_grid_rows *r, void *memory)
{
    grid_scratch *s = memory;
    size_t blocks = r->n_rows * r->n_blocks;
    s->guess.low = (float *)(void *)((uint8_t *)memory + PITH_ROUND_UP(sizeof *s, PITH_ALIGN));
    s->guess.high = s->guess.low + blocks;
    s->min = s->guess.high + blocks;
    s->step = s->min + blocks;
    s->end = (int32_t *)(void *)(s->step + blocks);
    s->order = (uint32_t *)(void *)(s->end + blocks);
    s->model = (uint16_t *)(void *)(s->order + blocks);
    s->zero = (int16_t *)(s->model + blocks * BLOCK);
    s->guess.class = (uint8_t *)(void *)(s->zero + blocks * BLOCK);
    s->symbols = s->guess.class + blocks;
    memset(s->n, 0, sizeof s->n);
    memset(s->min, 0, blocks * sizeof *s->min); /* stays so without minima */
    return s;
}

#define HEAD 5                     /* how ends are coded, and the length of the stream */

/* Low bits, and an escape each. */
static size_t raw_bound(size_t blocks) { return blocks * (4 + BLOCK) + 2 * (blocks * SCALE_SHIFT / 8 + 1); }

size_t pith_grid_bound(size_t n_rows, size_t n_blocks)
{
    size_t blocks = n_rows * n_blocks;
    return HEAD + pith_rans_bound(blocks * (2 + BLOCK)) + raw_bound(blocks);
}

/* Into coding order: by class, then by number; of d and of m alike. */
static void sort_scales(const pith_grid *g, const pith_grid_rows *r, grid_scratch *s)
{
    size_t n = r->n_rows * r->n_blocks;
    uint32_t at[PITH_GRID_SCALE_CLASSES], sum = 0, *count = s->n + SCALES_OF(false);
    for (size_t i = 0; i < n; i++) count[s->guess.class[i]]++;
    for (int c = 0; c < PITH_GRID_SCALE_CLASSES; sum += count[c++]) at[c] = sum;
    for (size_t i = 0; i < n; i++) s->order[at[s->guess.class[i]]++] = (uint32_t)i;
    if (g->has_min) memcpy(s->n + SCALES_OF(true), count, PITH_GRID_SCALE_CLASSES * sizeof *count);
}

/* How many numbers each model has, and where the next of each part goes in coding order. */
static void count_numbers(const pith_grid_rows *r, grid_scratch *s, uint32_t at[PARTS][PITH_GRID_MODELS])
{
    const size_t part = r->n_rows * r->n_blocks * (BLOCK / PARTS);
    const uint16_t *model = s->model;
    uint32_t sum = 0;
    memset(at, 0, PARTS * sizeof *at);
    for (size_t i = 0; i < part; i++)
        for (size_t k = 0; k < PARTS; k++) at[k][model[k * part + i] & ~PITH_GRID_DOWN]++;
    for (int i = PITH_GRID_FIRST_NUMBER; i < PITH_GRID_MODELS; i++) {
        const uint32_t first = sum;
        for (size_t k = 0; k < PARTS; k++) {
            const uint32_t n = at[k][i];
            at[k][i] = sum;
            sum += n;
        }
        s->n[i] = sum - first;
    }
}

/* Low bits of f16 scales' differences, in coding order, lowest bit of a byte first. */
static size_t low_bytes(pith_ends e, size_t blocks) { return e == PITH_ENDS_F16 ? (blocks * SCALE_SHIFT + 7) / 8 : 0; }

static void put_low(uint8_t *low, size_t k, unsigned bits)
{
    size_t at = k * SCALE_SHIFT;
    unsigned word = bits << (at & 7);
    low[at / 8] |= (uint8_t)word;
    if (word >> 8) low[at / 8 + 1] |= (uint8_t)(word >> 8);
}

static unsigned get_low(const uint8_t *low, size_t k, size_t n_low)
{
    size_t at = k * SCALE_SHIFT;
    unsigned word = low[at / 8] | (at / 8 + 1 < n_low ? low[at / 8 + 1] << 8 : 0);
    return word >> (at & 7) & ((1u << SCALE_SHIFT) - 1);
}

/* Writers: symbols of everything in coding order, and the raw bytes; returns how many of these. */
static size_t make_symbols(const pith_grid *g, const pith_grid_rows *r, pith_isa isa, pith_ends e, grid_scratch *s, uint8_t *raw)
{
    const pith_value_loops *loops = pith_value_loops_for(isa);
    size_t blocks = r->n_rows * r->n_blocks, n = blocks * BLOCK, n_low = low_bytes(e, blocks);
    uint8_t *out = s->symbols, *escapes = raw + (size_t)(1 + g->has_min) * n_low, *low = raw;
    const int shift = e == PITH_ENDS_F16 ? SCALE_SHIFT : 0;
    memset(raw, 0, (size_t)(1 + g->has_min) * n_low);
    loops->guess(g, r->value, r->variance, blocks, s->guess);
    sort_scales(g, r, s);
    for (int min = g->has_min; min >= 0; min--, low += n_low) {
        const uint16_t *scale = min ? r->m : r->d;
        loops->guess_ends(e, min, min ? s->guess.low : s->guess.high, s->min, g->span, blocks, s->end);
        for (size_t k = 0; k < blocks; k++) {
            uint32_t i = s->order[k];
            int order;
            bool near = pith_end_of(g, e, scale[i], min, s->min[i], &order);
            int difference = order - s->end[i], high = (difference >> shift) + 128;
            near = near && high >= 1 && high <= 255;
            *out++ = (uint8_t)(near ? high : PITH_GRID_ESCAPE);
            if (!near) {
                pith_put16(escapes, scale[i]);
                escapes += 2;
            } else if (shift) {
                put_low(low, k, (unsigned)difference & ((1u << SCALE_SHIFT) - 1));
            }
        }
        loops->widen(scale, blocks, min ? s->min : s->step);
    }
    uint32_t at[PARTS][PITH_GRID_MODELS];
    loops->place(g, r->value, r->variance, s->step, s->min, blocks, s->model, s->zero);
    count_numbers(r, s, at);
    for (size_t k = 0; k < PARTS; k++)
        for (size_t i = k * (n / PARTS); i < (k + 1) * (n / PARTS); i++) {
            const int model = s->model[i] & ~PITH_GRID_DOWN;
            int symbol = s->model[i] & PITH_GRID_DOWN ? s->zero[i] - r->u[i] : r->u[i] - s->zero[i];
            bool near = symbol >= 1 && symbol <= last_symbol(model);
            out[at[k][model]++] = (uint8_t)(near ? symbol : PITH_GRID_ESCAPE);
            if (!near) *escapes++ = r->u[i];
        }
    return (size_t)(escapes - raw);
}

void pith_grid_count(const pith_grid *g, const pith_grid_rows *r, pith_isa isa, pith_grid_counts *counts, void *scratch, uint8_t *raw)
{
    grid_scratch *s = lay_out(r, scratch);
    make_symbols(g, r, isa, ends_of(g, r), s, raw);
    const uint8_t *at = s->symbols;
    for (int i = 0; i < PITH_GRID_MODELS; i++) {
        pith_rans_count(at, NULL, s->n[i], counts->count[i]);
        at += s->n[i];
    }
}

pith_status pith_grid_encode(const pith_grid *g, const pith_grid_rows *r, const pith_grid_encoders *e, pith_isa isa, uint8_t *dst, size_t cap, size_t *len, void *scratch)
{
    grid_scratch *s = lay_out(r, scratch);
    size_t raw_cap = raw_bound(r->n_rows * r->n_blocks);
    const pith_ends kind = ends_of(g, r);
    if (cap < pith_grid_bound(r->n_rows, r->n_blocks)) return PITH_E_SPACE;
    /* raw bytes are gathered at the end of dst, then moved behind the stream */
    uint8_t *raw = dst + cap - raw_cap;
    size_t n_raw = make_symbols(g, r, isa, kind, s, raw), n_segments = 0, stream;
    pith_rans_segment segments[PITH_GRID_MODELS];
    const uint8_t *at = s->symbols;
    for (int i = 0; i < PITH_GRID_MODELS; i++) {
        if (!s->n[i]) continue;
        if (!e->at[i]) return PITH_E_ARGUMENT;
        segments[n_segments++] = (pith_rans_segment){&e->encoder[e->at[i] - 1], at, NULL, s->n[i]};
        at += s->n[i];
    }
    PITH_TRY(pith_rans_encode(isa, segments, n_segments, dst + HEAD, cap - HEAD - raw_cap, &stream));
    dst[0] = (uint8_t)kind;
    pith_put32(dst + 1, (uint32_t)stream);
    memmove(dst + HEAD + stream, raw, n_raw);
    *len = HEAD + stream + n_raw;
    return PITH_OK;
}

/* Read the next segments, one for each model first..last-1, into `symbols`. */
static pith_status read_models(pith_rans_reader *reader, const pith_grid_decoders *d, const grid_scratch *s, int first, int last, uint8_t *symbols)
{
    for (int i = first; i < last; i++) {
        if (!s->n[i]) continue;
        if (!d->at[i]) return PITH_E_CORRUPT;
        PITH_TRY(pith_rans_read(reader, &d->decoder[d->at[i] - 1], NULL, symbols, s->n[i]));
        symbols += s->n[i];
    }
    return PITH_OK;
}

/* Symbols from coding order to where they belong. */
static void put_symbols(const grid_scratch *s, size_t n, uint32_t at[PARTS][PITH_GRID_MODELS], uint8_t *restrict to)
{
    const size_t part = n / PARTS;
    const uint16_t *model = s->model;
    const uint8_t *symbols = s->symbols;
    for (size_t i = 0; i < part; i++)
        for (size_t k = 0; k < PARTS; k++) to[k * part + i] = symbols[at[k][model[k * part + i] & ~PITH_GRID_DOWN]++];
}

/* Numbers from symbols, in place. */
static pith_status put_numbers(const pith_grid *g, const pith_value_loops *loops, const grid_scratch *s, size_t n, const uint8_t *escapes, const uint8_t *end, uint8_t *u)
{
    int top = g->n_levels - 1;
    for (size_t i = 0; i < n; i += BLOCK) {
        uint8_t symbol[BLOCK];
        memcpy(symbol, u + i, BLOCK);
        size_t n_escapes = loops->settle(s->model + i, s->zero + i, top, u + i);
        if (n_escapes > (size_t)(end - escapes)) return PITH_E_CORRUPT;
        for (size_t k = 0; k < BLOCK && n_escapes > 0; k++) {
            if (symbol[k] != PITH_GRID_ESCAPE) continue;
            u[i + k] = (uint8_t)pith_within(*escapes++, 0, top);
            n_escapes--;
        }
    }
    return escapes == end ? PITH_OK : PITH_E_CORRUPT;
}

/* The scales of all blocks from s->symbols, which are in coding order, and the guesses in s->end. */
static pith_status put_scales(const pith_grid *g, const pith_value_loops *loops, grid_scratch *s, pith_ends e, bool min, size_t blocks, const uint8_t *low, const uint8_t **escapes, const uint8_t *end,
                              uint16_t *scale)
{
    const size_t n_low = low_bytes(e, blocks);
    if (e == PITH_ENDS_F16)
        for (size_t k = 0; k < blocks; k++) s->end[s->order[k]] += ((int)s->symbols[k] - 128) * (1 << SCALE_SHIFT) + (int)get_low(low, k, n_low);
    else
        for (size_t k = 0; k < blocks; k++) s->end[s->order[k]] += (int)s->symbols[k] - 128;
    loops->scales(e, min, s->end, s->min, g->span, blocks, scale);
    for (const uint8_t *at = s->symbols, *last = at + blocks; (at = memchr(at, PITH_GRID_ESCAPE, (size_t)(last - at))) != NULL; at++) {
        if (end - *escapes < 2) return PITH_E_CORRUPT;
        scale[s->order[at - s->symbols]] = pith_le16(*escapes);
        *escapes += 2;
    }
    return PITH_OK;
}

pith_status pith_grid_decode(const pith_grid *g, const pith_grid_rows *r, const pith_grid_decoders *d, pith_isa isa, const uint8_t *src, size_t len, void *scratch)
{
    const pith_value_loops *loops = pith_value_loops_for(isa);
    grid_scratch *s = lay_out(r, scratch);
    size_t blocks = r->n_rows * r->n_blocks;
    if (len < HEAD || src[0] > PITH_ENDS_BF16) return PITH_E_CORRUPT;
    const pith_ends kind = (pith_ends)src[0];
    size_t stream = pith_le32(src + 1), n_low = low_bytes(kind, blocks), n_lows = (size_t)(1 + g->has_min) * n_low;
    if (stream > len - HEAD || len - HEAD - stream < n_lows) return PITH_E_CORRUPT;
    const uint8_t *low = src + HEAD + stream, *escapes = low + n_lows, *end = src + len;
    pith_rans_reader reader;
    PITH_TRY(pith_rans_read_begin(&reader, isa, src + HEAD, stream));
    loops->guess(g, r->value, r->variance, blocks, s->guess);
    sort_scales(g, r, s);
    for (int min = g->has_min; min >= 0; min--, low += n_low) {
        uint16_t *scale = min ? r->m : r->d;
        PITH_TRY(read_models(&reader, d, s, SCALES_OF(min), SCALES_OF(min) + PITH_GRID_SCALE_CLASSES, s->symbols));
        loops->guess_ends(kind, min, min ? s->guess.low : s->guess.high, s->min, g->span, blocks, s->end);
        PITH_TRY(put_scales(g, loops, s, kind, min, blocks, low, &escapes, end, scale));
        loops->widen(scale, blocks, min ? s->min : s->step);
    }
    uint32_t at[PARTS][PITH_GRID_MODELS];
    loops->place(g, r->value, r->variance, s->step, s->min, blocks, s->model, s->zero);
    count_numbers(r, s, at);
    PITH_TRY(read_models(&reader, d, s, PITH_GRID_FIRST_NUMBER, PITH_GRID_MODELS, s->symbols));
    PITH_TRY(pith_rans_read_end(&reader));
    put_symbols(s, blocks * BLOCK, at, r->u);
    return put_numbers(g, loops, s, blocks * BLOCK, escapes, end, r->u);
}

double pith_grid_bits(double ratio)
{
    /* Entropy of the whole number nearest to a uniformly placed normal variable of this deviation, at
     * 2^-4, 2^-3.5 … 2^2; above, log2(ratio sqrt(2 pi e)); below, almost nothing. */
    static const double table[] = {0.163, 0.230, 0.326, 0.461, 0.651, 0.914, 1.254, 1.658, 2.105, 2.577, 3.062, 3.555, 4.051};
    double at = 2 * log2(ratio > 0 ? ratio : 1e-30) + 8, last = PITH_COUNT(table) - 1;
    if (!(at > 0)) return table[0] * exp2(at / 2);
    if (at >= last) return log2(ratio) + 2.0471;
    int i = (int)at;
    return table[i] + (at - i) * (table[i + 1] - table[i]);
}
