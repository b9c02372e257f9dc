#include "stage/code/floats.h"

#include "stage/code/float_loops.h"
#include "stage/code/rans.h"

/* A coded run: u8 flags, u8 which models follow, u16 the first row's level, u32 length of the stream; the models; the stream;
 * a u16 for each escape; the fields of all rows (see docs/format.md). */
enum { HAS_ZEROS = 1 };            /* of flags */
enum { HEAD = 8, N_CLASSES = 4, LEVEL_STEP = 2, ZEROS_WORTH = 64 /* one zero in so many values */ };
enum { MODEL_LEVELS, MODEL_SHAPES, MODEL_DENSITIES, MODEL_ZEROS, MODEL_KEYS, N_MODELS = MODEL_KEYS + N_CLASSES };
_Static_assert(N_MODELS == 8, "a byte says which are there");

static pith_float_split split_of(pith_dtype dtype)
{
    return dtype == PITH_F32 ? (pith_float_split){4, 20} : dtype == PITH_F16 ? (pith_float_split){2, 7} : (pith_float_split){2, 4};
}

bool pith_floats_has(pith_dtype dtype) { return dtype == PITH_F32 || dtype == PITH_F16 || dtype == PITH_BF16; }

size_t pith_floats_bound(pith_dtype dtype, size_t n)
{
    size_t rows = n; /* of one value at least: level, shape, density; each takes up to 12 bits, a key 12 and an escape, a zero's bit 15 */
    return HEAD + N_MODELS * PITH_RANS_MODEL_BYTES + pith_rans_bound(3 * rows + 2 * n) + 2 * n + n * split_of(dtype).bytes + 4 * rows;
}

/* Rows of a run and what is known of them.  All arrays are of one piece of memory. */
typedef struct rows {
    pith_float_split f;
    size_t n, row, n_rows;
    uint8_t *level_step, *shape, *density; /* [n_rows]; steps modulo 256 from the row before, 0 of the first */
    uint16_t *level;               /* [n_rows] in steps */
    uint32_t *n_kept, *at;         /* [n_rows] values that are coded (all, or those that are no zeros), and where their symbols begin */
    uint8_t *is_zero, *context;    /* [n] */
    uint8_t *symbol;               /* [n] by class, and in each by row */
    uint8_t *kept;                 /* [n + 1] the values that are coded, rows side by side, where some are not */
} rows;

static size_t rows_bytes(pith_float_split f, size_t n, size_t n_rows) { return n_rows * (3 + sizeof(uint16_t) + 2 * sizeof(uint32_t)) + n * (3 + f.bytes) + f.bytes; }

static void lay_out(rows *r, pith_float_split f, size_t n, size_t row, uint8_t *memory)
{
    *r = (rows){.f = f, .n = n, .row = row, .n_rows = PITH_CEIL_DIV(n, row)};
    r->n_kept = (uint32_t *)(void *)memory;
    r->at = r->n_kept + r->n_rows;
    r->level = (uint16_t *)(void *)(r->at + r->n_rows);
    r->level_step = (uint8_t *)(r->level + r->n_rows);
    r->shape = r->level_step + r->n_rows;
    r->density = r->shape + r->n_rows;
    r->is_zero = r->density + r->n_rows;
    r->context = r->is_zero + n;
    r->symbol = r->context + n;
    r->kept = r->symbol + n;
}

static size_t row_len(const rows *r, size_t i) { return PITH_MIN(r->row, r->n - i * r->row); }

/* A key's distribution depends on where in an octave the row's level is. */
static size_t class_of(const rows *r, size_t i) { return r->level[i] % N_CLASSES; }

/* Where each row's symbols begin: sorted by class. */
static void place_rows(rows *r, size_t n_of[N_CLASSES])
{
    size_t at[N_CLASSES], sum = 0;
    memset(n_of, 0, N_CLASSES * sizeof *n_of);
    for (size_t i = 0; i < r->n_rows; i++) n_of[class_of(r, i)] += r->n_kept[i];
    for (size_t c = 0; c < N_CLASSES; sum += n_of[c++]) at[c] = sum;
    for (size_t i = 0; i < r->n_rows; i++) {
        r->at[i] = (uint32_t)at[class_of(r, i)];
        at[class_of(r, i)] += r->n_kept[i];
    }
}

/* Fields of rows of one shape are stored together, as long as that is no more than a longest row: the first row after those
 * from `i` on, and how many values they have. */
static size_t end_of_run(const rows *r, size_t i, size_t *n)
{
    const uint8_t shape = r->shape[i];
    for (*n = r->n_kept[i++]; i < r->n_rows && r->shape[i] == shape && *n + r->n_kept[i] <= PITH_FLOATS_MAX_ROW; i++) *n += r->n_kept[i];
    return i;
}

/* The contexts of a row's zeros. */
static void put_contexts(rows *r)
{
    for (size_t i = 0; i < r->n_rows; i++) memset(r->context + i * r->row, r->density[i], row_len(r, i));
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* Which values are zeros, and how many of each row are not. */
static size_t find_zeros(rows *r, const pith_float_loops *loops, const uint8_t *values)
{
    size_t n_zeros = 0;
    for (size_t i = 0; i < r->n_rows; i++) {
        size_t first = i * r->row, n = row_len(r, i), zeros = loops->zeros(r->f, values + first * r->f.bytes, n, r->is_zero + first);
        r->n_kept[i] = (uint32_t)(n - zeros);
        r->density[i] = (uint8_t)PITH_MIN((size_t)(PITH_RANS_CONTEXTS - 1), PITH_RANS_CONTEXTS * zeros / n);
        n_zeros += zeros;
    }
    return n_zeros;
}

/* A row's shape and its level, from the mean key of its values that are no zeros.  That may be no further from the last
 * than a byte says. */
static void describe_row(rows *r, const pith_float_loops *loops, size_t i, const void *values, uint16_t *key)
{
    uint64_t sum = 0, n = 0;
    r->shape[i] = (uint8_t)loops->keys(r->f, values, r->n_kept[i], key);
    for (size_t k = 0; k < r->n_kept[i]; k++) {
        sum += key[k];
        n += key[k] != 0;
    }
    int last = i ? r->level[i - 1] : 0, level = n ? (int)((sum + n) / (LEVEL_STEP * n)) : last;
    if (i) level = PITH_MIN(PITH_MAX(level, last - 128), last + 127);
    r->level[i] = (uint16_t)level;
    r->level_step[i] = i ? (uint8_t)(level - last) : 0;
}

typedef struct out {
    uint8_t *p;
    size_t left;
    uint8_t models;                /* which are there */
    pith_rans_encoder *encoder;    /* [N_MODELS] */
    pith_rans_segment segment[N_MODELS];
    size_t n_segments;
} out;

/* One more segment of the stream, of a model of its own. */
static pith_status add_segment(out *o, int model, const uint8_t *symbols, const uint8_t *contexts, size_t n)
{
    uint64_t counts[256] = {0};
    pith_rans_model m;
    size_t used;
    if (!n) return PITH_OK;
    pith_rans_count(symbols, contexts, n, counts);
    PITH_TRY(pith_rans_model_fit(contexts ? PITH_RANS_BINARY : PITH_RANS_SYMBOLS, contexts ? PITH_RANS_CONTEXTS : 1, counts, &m));
    PITH_TRY(pith_rans_model_write(&m, o->p, o->left, &used));
    o->p += used;
    o->left -= used;
    o->models |= (uint8_t)(1u << model);
    pith_rans_encoder_init(&o->encoder[model], &m);
    o->segment[o->n_segments++] = (pith_rans_segment){&o->encoder[model], symbols, contexts, n};
    return PITH_OK;
}

/* All of it, once rows are described and symbols made. */
static pith_status write_run(rows *r, pith_isa isa, out *o, const uint8_t *values, const uint16_t *key, const size_t n_of[N_CLASSES], bool has_zeros, uint8_t *head)
{
    const pith_float_loops *loops = pith_float_loops_for(isa);
    size_t stream, at = 0;
    PITH_TRY(add_segment(o, MODEL_LEVELS, r->level_step + 1, NULL, r->n_rows - 1));
    PITH_TRY(add_segment(o, MODEL_SHAPES, r->shape, NULL, r->n_rows));
    if (has_zeros) PITH_TRY(add_segment(o, MODEL_DENSITIES, r->density, NULL, r->n_rows));
    if (has_zeros) PITH_TRY(add_segment(o, MODEL_ZEROS, r->is_zero, r->context, r->n));
    for (int c = 0; c < N_CLASSES; at += n_of[c++]) PITH_TRY(add_segment(o, MODEL_KEYS + c, r->symbol + at, NULL, n_of[c]));
    PITH_TRY(pith_rans_encode(isa, o->segment, o->n_segments, o->p, o->left, &stream));
    o->p += stream;
    o->left -= stream;
    head[0] = has_zeros ? HAS_ZEROS : 0;
    head[1] = o->models;
    pith_put16(head + 2, r->level[0]);
    pith_put32(head + 4, (uint32_t)stream);
    for (size_t i = 0, first = 0; i < r->n_rows; first += r->n_kept[i++])
        for (size_t k = 0; k < r->n_kept[i]; k++) {
            if (r->symbol[r->at[i] + k]) continue;
            if (o->left < 2) return PITH_E_SPACE;
            pith_put16(o->p, key[first + k]);
            o->p += 2;
            o->left -= 2;
        }
    for (size_t i = 0, n; i < r->n_rows; values += n * r->f.bytes) {
        const unsigned shape = r->shape[i];
        i = end_of_run(r, i, &n);
        if (o->left < pith_field_bytes(pith_field_bits(r->f, shape), n)) return PITH_E_SPACE;
        size_t used = loops->put_fields(r->f, values, n, shape, o->p);
        o->p += used;
        o->left -= used;
    }
    return PITH_OK;
}

pith_status pith_floats_encode(pith_ctx *ctx, pith_dtype dtype, const void *values, size_t n, size_t row, uint8_t *dst, size_t cap, size_t *len)
{
    const pith_isa isa = pith_ctx_cpu(ctx)->isa;
    const pith_float_loops *loops = pith_float_loops_for(isa);
    const pith_float_split f = split_of(dtype);
    *len = 0;
    if (row < 1 || row > PITH_FLOATS_MAX_ROW) return PITH_E_ARGUMENT;
    if (n == 0) return PITH_OK;
    if (cap < HEAD) return PITH_E_SPACE;
    rows r;
    uint8_t *memory = pith_alloc(ctx, rows_bytes(f, n, PITH_CEIL_DIV(n, row)));
    uint16_t *key = pith_array(ctx, n, sizeof *key);
    out o = {.p = dst + HEAD, .left = cap - HEAD, .encoder = pith_array(ctx, N_MODELS, sizeof *o.encoder)};
    pith_status status = PITH_E_MEMORY;
    if (memory && key && o.encoder) {
        lay_out(&r, f, n, row, memory);
        const uint8_t *coded = values;
        const bool has_zeros = find_zeros(&r, loops, values) > n / ZEROS_WORTH;
        size_t n_of[N_CLASSES], first = 0;
        if (has_zeros) {
            loops->keep(f, values, r.is_zero, n, r.kept);
            coded = r.kept;
            put_contexts(&r);
        }
        for (size_t i = 0; i < r.n_rows; first += r.n_kept[i++]) {
            if (!has_zeros) r.n_kept[i] = (uint32_t)row_len(&r, i);
            describe_row(&r, loops, i, coded + first * f.bytes, key + first);
        }
        place_rows(&r, n_of);
        first = 0;
        for (size_t i = 0; i < r.n_rows; first += r.n_kept[i++]) loops->symbols(key + first, r.n_kept[i], LEVEL_STEP * r.level[i], r.symbol + r.at[i]);
        status = write_run(&r, isa, &o, coded, key, n_of, has_zeros, dst);
    }
    if (status == PITH_OK) *len = (size_t)(o.p - dst);
    pith_free(ctx, memory);
    pith_free(ctx, key);
    pith_free(ctx, o.encoder);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* What is not read yet. */
typedef struct in {
    const uint8_t *p, *end;
    uint8_t models;
    pith_rans_decoder *decoder;    /* [N_MODELS] */
    pith_rans_reader reader;
} in;

static pith_status read_models(in *i)
{
    for (int k = 0; k < N_MODELS; k++) {
        pith_rans_model m;
        size_t used;
        if (!(i->models >> k & 1)) continue;
        PITH_TRY(pith_rans_model_read(i->p, (size_t)(i->end - i->p), &m, &used));
        if ((m.kind == PITH_RANS_BINARY) != (k == MODEL_ZEROS) || m.kind == PITH_RANS_TERNARY) return PITH_E_CORRUPT;
        pith_rans_decoder_init(&i->decoder[k], &m);
        i->p += used;
    }
    return PITH_OK;
}

static pith_status read_segment(in *i, int model, const uint8_t *contexts, uint8_t *dst, size_t n)
{
    if (!n) return PITH_OK;
    return i->models >> model & 1 ? pith_rans_read(&i->reader, &i->decoder[model], contexts, dst, n) : PITH_E_CORRUPT;
}

static pith_status read_rows(rows *r, in *i, int first_level, bool has_zeros)
{
    PITH_TRY(read_segment(i, MODEL_LEVELS, NULL, r->level_step + 1, r->n_rows - 1));
    PITH_TRY(read_segment(i, MODEL_SHAPES, NULL, r->shape, r->n_rows));
    if (has_zeros) {
        PITH_TRY(read_segment(i, MODEL_DENSITIES, NULL, r->density, r->n_rows));
        put_contexts(r);
        PITH_TRY(read_segment(i, MODEL_ZEROS, r->context, r->is_zero, r->n));
    }
    for (size_t k = 0; k < r->n_rows; k++) {
        const int level = k ? r->level[k - 1] + (int8_t)r->level_step[k] : first_level;
        if (level < 0 || level > UINT16_MAX / LEVEL_STEP || !pith_shape_fits(r->f, r->shape[k])) return PITH_E_CORRUPT;
        r->level[k] = (uint16_t)level;
        size_t n = row_len(r, k), zeros = 0;
        for (size_t v = k * r->row; v < k * r->row + n && has_zeros; v++) zeros += r->is_zero[v];
        r->n_kept[k] = (uint32_t)(n - zeros);
    }
    return PITH_OK;
}

/* Keys that are no symbols, in place; then no escape is left over. */
static pith_status put_escapes(const rows *r, uint8_t *values, const uint8_t **escape, const uint8_t *end)
{
    const uint32_t low = (1u << r->f.low) - 1, sign = 1u << (8 * r->f.bytes - 1);
    for (size_t i = 0; i < r->n_rows; values += r->n_kept[i++] * r->f.bytes) {
        const uint8_t *symbol = r->symbol + r->at[i], *at = symbol, *last = symbol + r->n_kept[i];
        for (; at < last && (at = memchr(at, 0, (size_t)(last - at))); at++) {
            if (end - *escape < 2) return PITH_E_CORRUPT;
            const uint32_t key = pith_le16(*escape);
            uint8_t *v = values + (size_t)(at - symbol) * r->f.bytes;
            *escape += 2;
            if (key >= sign >> r->f.low) return PITH_E_CORRUPT;
            if (r->f.bytes == 4) pith_put32(v, (pith_le32(v) & (low | sign)) | key << r->f.low);
            else pith_put16(v, (uint16_t)((pith_le16(v) & (low | sign)) | key << r->f.low));
        }
    }
    return PITH_OK;
}

static pith_status read_run(rows *r, in *i, pith_isa isa, const uint8_t *src, uint8_t *values)
{
    const pith_float_loops *loops = pith_float_loops_for(isa);
    const bool has_zeros = src[0] & HAS_ZEROS;
    const size_t stream = pith_le32(src + 4);
    size_t n_of[N_CLASSES], at = 0, n_escapes = 0, n_raw = 0, n_kept = 0;
    if (src[0] > HAS_ZEROS) return PITH_E_CORRUPT;
    PITH_TRY(read_models(i));
    if (stream > (size_t)(i->end - i->p)) return PITH_E_CORRUPT;
    PITH_TRY(pith_rans_read_begin(&i->reader, isa, i->p, stream));
    PITH_TRY(read_rows(r, i, pith_le16(src + 2), has_zeros));
    place_rows(r, n_of);
    for (int c = 0; c < N_CLASSES; at += n_of[c++]) PITH_TRY(read_segment(i, MODEL_KEYS + c, NULL, r->symbol + at, n_of[c]));
    PITH_TRY(pith_rans_read_end(&i->reader));
    const uint8_t *escape = i->p + stream, *raw = i->end;
    for (size_t k = 0, n; k < r->n_rows; n_kept += n) {
        const unsigned bits = pith_field_bits(r->f, r->shape[k]);
        k = end_of_run(r, k, &n);
        n_raw += pith_field_bytes(bits, n);
    }
    for (const uint8_t *s = r->symbol, *last = s + n_kept; s < last && (s = memchr(s, 0, (size_t)(last - s))); s++) n_escapes++;
    if ((size_t)(i->end - escape) != n_raw + 2 * n_escapes) return PITH_E_CORRUPT;
    raw -= n_raw;
    uint8_t *coded = has_zeros ? r->kept : values, *to = coded;
    for (size_t k = 0, n; k < r->n_rows;) {
        uint32_t field[PITH_FLOATS_MAX_ROW], *next = field;
        const size_t end = end_of_run(r, k, &n);
        raw += loops->get_fields(r->f, raw, n, r->shape[k], field);
        for (; k < end; to += r->n_kept[k] * r->f.bytes, next += r->n_kept[k++])
            loops->join(r->f, r->symbol + r->at[k], next, r->n_kept[k], LEVEL_STEP * r->level[k], r->shape[k], to);
    }
    if (n_escapes) PITH_TRY(put_escapes(r, coded, &escape, i->end - n_raw));
    if (has_zeros) loops->spread(r->f, r->kept, r->is_zero, r->n, values);
    return PITH_OK;
}

pith_status pith_floats_decode(pith_ctx *ctx, pith_dtype dtype, const uint8_t *src, size_t len, void *values, size_t n, size_t row)
{
    const pith_float_split f = split_of(dtype);
    if (row < 1 || row > PITH_FLOATS_MAX_ROW) return PITH_E_CORRUPT;
    if (n == 0) return len == 0 ? PITH_OK : PITH_E_CORRUPT;
    if (len < HEAD) return PITH_E_CORRUPT;
    rows r;
    uint8_t *memory = pith_alloc(ctx, rows_bytes(f, n, PITH_CEIL_DIV(n, row)));
    in i = {.p = src + HEAD, .end = src + len, .models = src[1], .decoder = pith_array(ctx, N_MODELS, sizeof *i.decoder)};
    pith_status status = PITH_E_MEMORY;
    if (memory && i.decoder) {
        lay_out(&r, f, n, row, memory);
        status = read_run(&r, &i, pith_ctx_cpu(ctx)->isa, src, values);
    }
    pith_free(ctx, memory);
    pith_free(ctx, i.decoder);
    return status;
}
