/* Weights from a .pith: every unit is decoded as deep as its packets are there, and packed into the
 * low-bit compute form straight away; nothing is held as f32. */
#include <math.h>

#include "format/pith_file.h"
#include "stage/quantize/embedded.h"
#include "stream/weights/weights.h"

#define NO_PACKET UINT32_MAX
#define MOST_WIDE 64               /* columns kept apart from one matrix */

typedef struct pith_source {
    pith_weights w;
    pith_reader r;
    pith_models *models;
    uint32_t *packet;          /* [n_units, PITH_MAX_LEVELS] index of the packet, NO_PACKET */
    pith_qmat *unit;           /* [n_units] decoded; rows of a unit */
    size_t *n_wide;            /* [n_tensors] columns kept apart */
    float **apart;             /* [n_tensors] their values, [rows in whole tiles, n_wide] */
    bool strict;
    /* what was found, for the report */
    size_t n_missing, n_damaged;
} pith_source;

/* ---- decoding --------------------------------------------------------------------------------- */

typedef struct decode_job {
    pith_ctx *ctx;
    pith_source *s;
    uint8_t **scratch;         /* [workers] */
    pith_status *status;       /* [workers] */
    size_t *n_missing, *n_damaged; /* [workers] */
    uint32_t max_packet;
} decode_job;

static size_t unit_tiles(const pith_coded_tensor *t, uint32_t unit)
{
    size_t tile0 = (size_t)(unit - t->first_unit) * t->unit_tiles;
    return PITH_MIN(t->unit_tiles, pith_coded_tiles(t) - tile0);
}

/* One group as the compute form wants it: unsigned values of `bits` bits, value = scale * u + min.  A
 * group that still spans more than 8 bits keeps its upper ones: activations have no more either. */
typedef struct packed_group {
    int bits, low, shift;
    float middle;              /* offset of a cell's value from its number */
} packed_group;

/* Move the values of wide columns to `apart` [rows of the unit, n_wide]; what stays behind is a zero, or the
 * half step that the number 0 stands for. */
static void take_wide(const pith_unit *u, size_t g, const uint8_t *wide, float step, float *apart, size_t n_wide)
{
    int32_t *m = u->m + g * PITH_GROUP;
    size_t w = 0;
    for (size_t c = 0; c < PITH_GROUP_COLS; c++) {
        for (size_t r = 0; r < PITH_GROUP_ROWS && wide[c]; r++) {
            apart[r * n_wide + w] = (float)m[r * PITH_GROUP_COLS + c] * step;
            m[r * PITH_GROUP_COLS + c] = 0;
        }
        w += wide[c];
    }
}

static packed_group measure_group(const pith_unit *u, size_t g)
{
    int start = pith_class_start(u->group_class[g]);
    packed_group p = {.middle = u->level > start ? 0.5f : 0};
    if (u->level < start) return p;
    const int32_t *m = u->m + g * PITH_GROUP;
    int low = m[0], high = m[0];
    for (size_t i = 1; i < PITH_GROUP; i++) {
        low = PITH_MIN(low, m[i]);
        high = PITH_MAX(high, m[i]);
    }
    if (low == high && low == 0 && p.middle == 0) return p;
    while ((high >> p.shift) - (low >> p.shift) > 255) p.shift++;
    p.low = low >> p.shift;
    for (p.bits = 1; ((high >> p.shift) - p.low) >> p.bits;) p.bits++;
    if (p.shift && p.middle == 0) p.middle = 0.5f - ldexpf(0.5f, -p.shift); /* 2^shift centred cells in one */
    return p;
}

static pith_status pack_unit(pith_ctx *ctx, const pith_coded_tensor *t, const pith_unit *u, uint32_t unit, const uint8_t *wide, float *apart, size_t n_wide, uint8_t *bits, pith_qmat *m)
{
    size_t groups = u->n_tiles * u->n_blocks, row0 = (size_t)(unit - t->first_unit) * t->unit_tiles * PITH_TILE_ROWS;
    for (size_t g = 0, before = 0; g < groups; g++) {
        size_t tile = g / u->n_blocks, block = g % u->n_blocks;
        const uint8_t *flags = wide + block * PITH_GROUP_COLS;
        if (block == 0) before = 0;
        if (u->level >= 0 && n_wide)
            take_wide(u, g, flags, ldexpf(t->base_step * pith_step_of_code(u->step_code[tile]), -u->level), apart + tile * PITH_GROUP_ROWS * n_wide + before, n_wide);
        for (size_t c = 0; c < PITH_GROUP_COLS; c++) before += flags[c];
        bits[g] = (uint8_t)measure_group(u, g).bits;
    }
    PITH_TRY(pith_qmat_new(ctx, PITH_MIN(u->n_tiles * PITH_TILE_ROWS, t->n_rows - row0), t->n_cols, PITH_QSCALE_BLOCK_MIN, bits, m));
    for (size_t g = 0; g < groups; g++) {
        packed_group p = measure_group(u, g);
        if (!p.bits) continue;
        uint8_t values[16][32];
        uint16_t scale[16], min[16];
        float step = ldexpf(t->base_step * pith_step_of_code(u->step_code[g / u->n_blocks]), p.shift - u->level);
        const int32_t *v = u->m + g * PITH_GROUP;
        for (size_t i = 0; i < PITH_GROUP; i++) values[i / 32][i % 32] = (uint8_t)((v[i] >> p.shift) - p.low);
        for (size_t i = 0; i < 16; i++) {
            scale[i] = pith_f32_to_f16(step);
            min[i] = pith_f32_to_f16(((float)p.low + p.middle) * step);
        }
        pith_qmat_put_block(m, g / u->n_blocks, g % u->n_blocks, (const uint8_t(*)[32])values, scale, min);
    }
    return PITH_OK;
}

static void decode_unit(void *arg, size_t index, int worker)
{
    decode_job *j = arg;
    pith_source *s = j->s;
    uint32_t unit = (uint32_t)index;
    const pith_coded_tensor *t = pith_manifest_tensor_of_unit(&s->r.manifest, unit);
    size_t n_tiles = unit_tiles(t, unit), n_blocks = pith_coded_blocks(t);
    uint8_t *memory = j->scratch[worker], *payload = memory, *coding = payload + PITH_ROUND_UP(j->max_packet, PITH_ALIGN);
    uint8_t *bits = coding + PITH_ROUND_UP(pith_unit_scratch(n_tiles, n_blocks), PITH_ALIGN);
    pith_unit u;
    pith_unit_init(&u, n_tiles, n_blocks, bits + PITH_ROUND_UP(n_tiles * n_blocks, PITH_ALIGN));
    for (int k = 0; k < PITH_MAX_LEVELS; k++) {
        uint32_t i = s->packet[(size_t)unit * PITH_MAX_LEVELS + (size_t)k];
        if (i == NO_PACKET) break;
        const pith_packet *p = &s->r.packets[i];
        pith_status status = pith_reader_payload(&s->r, p, payload);
        if (status == PITH_OK) status = pith_unit_decode(&u, s->models, pith_ctx_cpu(j->ctx)->isa, payload, p->len, coding);
        if (status == PITH_OK) continue;
        if (status == PITH_E_CORRUPT) j->n_damaged[worker]++;
        else j->status[worker] = status;
        break;
    }
    if (u.level < 0) j->n_missing[worker]++;
    uint8_t *wide = coding; /* decoding is done with it */
    memset(wide, 0, n_blocks * PITH_GROUP_COLS);
    size_t n_wide = s->n_wide[t - s->r.manifest.tensors];
    if (n_wide) memcpy(wide, s->r.manifest.vectors[t->scale - 1].wide, t->n_cols);
    float *apart = n_wide ? s->apart[t - s->r.manifest.tensors] + (size_t)(unit - t->first_unit) * t->unit_tiles * PITH_TILE_ROWS * n_wide : NULL;
    pith_status status = pack_unit(j->ctx, t, &u, unit, wide, apart, n_wide, bits, &s->unit[unit]);
    if (status != PITH_OK) j->status[worker] = status;
}

static pith_status decode_all(pith_ctx *ctx, pith_source *s)
{
    const pith_manifest *m = &s->r.manifest;
    size_t n_workers = (size_t)pith_n_threads(ctx), bytes = 0;
    decode_job j = {.ctx = ctx, .s = s};
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    j.scratch = pith_arena_take(pith_scratch(ctx), n_workers * sizeof *j.scratch);
    j.status = pith_arena_take(pith_scratch(ctx), n_workers * sizeof *j.status);
    j.n_missing = pith_arena_take(pith_scratch(ctx), n_workers * sizeof *j.n_missing);
    j.n_damaged = pith_arena_take(pith_scratch(ctx), n_workers * sizeof *j.n_damaged);
    if (!j.scratch || !j.status || !j.n_missing || !j.n_damaged) return PITH_E_MEMORY;
    for (size_t i = 0; i < s->r.n_packets; i++) j.max_packet = PITH_MAX(j.max_packet, s->r.packets[i].len);
    for (size_t i = 0; i < m->n_tensors; i++) {
        size_t tiles = PITH_MIN(m->tensors[i].unit_tiles, pith_coded_tiles(&m->tensors[i])), blocks = pith_coded_blocks(&m->tensors[i]);
        bytes = PITH_MAX(bytes, PITH_ROUND_UP(pith_unit_scratch(tiles, blocks), PITH_ALIGN) + PITH_ROUND_UP(tiles * blocks, PITH_ALIGN) + pith_unit_bytes(tiles, blocks));
    }
    bytes += PITH_ROUND_UP(j.max_packet, PITH_ALIGN);
    pith_status status = PITH_OK;
    memset(j.scratch, 0, n_workers * sizeof *j.scratch);
    for (size_t i = 0; i < n_workers && status == PITH_OK; i++) {
        j.status[i] = PITH_OK;
        j.n_missing[i] = j.n_damaged[i] = 0;
        if (!(j.scratch[i] = pith_alloc(ctx, bytes))) status = PITH_E_MEMORY;
    }
    if (status == PITH_OK) pith_parallel(ctx, m->n_units, decode_unit, &j);
    for (size_t i = 0; i < n_workers; i++) {
        pith_free(ctx, j.scratch[i]);
        if (status != PITH_OK) continue;
        s->n_missing += j.n_missing[i];
        s->n_damaged += j.n_damaged[i];
        status = j.status[i];
        if (status == PITH_E_IO) pith_fail(ctx, status, "%s: a packet cannot be read", s->r.path);
    }
    pith_arena_reset(pith_scratch(ctx), mark);
    if (status != PITH_OK) return status;
    size_t n_bad = s->n_damaged + (s->r.n_skipped > 0);
    if (n_bad && s->strict)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: %zu packets are damaged, %llu bytes passed over; without --strict it runs at the quality that is left", s->r.path, s->n_damaged,
                         (unsigned long long)s->r.n_skipped);
    if (s->n_damaged) pith_log(ctx, PITH_LOG_WARN, "%s: %zu packets are damaged; their units stay at the layer before", s->r.path, s->n_damaged);
    if (s->n_missing)
        pith_log(ctx, PITH_LOG_WARN, "%s: %zu of %zu units have no layer yet and are zero; from %.1f MB on all have one", s->r.path, s->n_missing, m->n_units,
                 (double)m->floor_bytes * 1e-6);
    return PITH_OK;
}

/* ---- a low-bit matrix with some columns apart -------------------------------------------------- */

typedef struct split_operator {
    pith_operator op;
    pith_operator *low;        /* the rest, in which these columns are (nearly) zero */
    size_t n_wide;
    uint32_t *column;          /* [n_wide] */
    float *apart;              /* [rows in whole tiles, n_wide] */
} split_operator;

static size_t split_tiles(const pith_operator *op) { return PITH_CEIL_DIV(op->n_rows, PITH_TILE_ROWS); }

static void split_apply(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in, float *y, size_t ldy, void *scratch)
{
    const split_operator *o = (const split_operator *)op;
    o->low->kind->apply(o->low, k, tile0, tile1, in, y, ldy, scratch);
    size_t r0 = tile0 * PITH_TILE_ROWS, r1 = PITH_MIN(tile1 * PITH_TILE_ROWS, op->n_rows), n = o->n_wide;
    float x[MOST_WIDE];
    for (size_t i = 0; i < in->n; i++) {
        for (size_t w = 0; w < n; w++) x[w] = in->x[i * in->cols + o->column[w]];
        for (size_t r = r0; r < r1; r++) {
            float sum = 0;
            for (size_t w = 0; w < n; w++) sum += x[w] * o->apart[r * n + w];
            y[i * ldy + r] += sum;
        }
    }
}

static void split_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    const split_operator *o = (const split_operator *)op;
    o->low->kind->row(o->low, k, row, dst);
    for (size_t w = 0; w < o->n_wide; w++) dst[o->column[w]] += o->apart[row * o->n_wide + w];
}

static size_t split_bytes(const pith_operator *op)
{
    const split_operator *o = (const split_operator *)op;
    return o->low->kind->bytes(o->low) + split_tiles(op) * PITH_TILE_ROWS * o->n_wide * sizeof(float);
}

static void split_free(pith_ctx *ctx, pith_operator *op)
{
    split_operator *o = (split_operator *)op;
    pith_operator_free(ctx, o->low);
    pith_free(ctx, o->column);
    pith_free(ctx, o->apart);
    pith_free(ctx, (char *)(uintptr_t)o->op.name);
    pith_free(ctx, o);
}

static const pith_operator_kind split_kind = {.name = "qmat + columns", .wants_q8 = true, .n_tiles = split_tiles, .apply = split_apply, .row = split_row,
                                              .bytes = split_bytes, .free = split_free};

/* *low and *apart move into the operator on success. */
static pith_status split_new(pith_ctx *ctx, pith_operator *low, const uint8_t *wide, size_t n_wide, float *apart, pith_operator **op)
{
    split_operator *o = pith_calloc(ctx, 1, sizeof *o);
    if (!o) return PITH_E_MEMORY;
    o->op = (pith_operator){.kind = &split_kind, .n_rows = low->n_rows, .n_cols = low->n_cols, .name = pith_strdup(ctx, low->name)};
    o->column = pith_array(ctx, n_wide, sizeof *o->column);
    if (!o->op.name || !o->column) {
        pith_free(ctx, (char *)(uintptr_t)o->op.name);
        pith_free(ctx, o->column);
        pith_free(ctx, o);
        return PITH_E_MEMORY;
    }
    for (uint32_t c = 0; c < low->n_cols; c++)
        if (wide[c]) o->column[o->n_wide++] = c;
    o->low = low;
    o->apart = apart;
    o->op.bits_per_weight = 8.0 * (double)split_bytes(&o->op) / ((double)low->n_rows * (double)low->n_cols);
    *op = &o->op;
    return PITH_OK;
}

/* ---- as a source of weights ------------------------------------------------------------------- */

static pith_source *source_of(pith_weights *w) { return (pith_source *)w; }

static pith_status get_matrix(pith_ctx *ctx, pith_weights *w, const char *name, pith_operator **op)
{
    pith_source *s = source_of(w);
    const pith_manifest *m = &s->r.manifest;
    const pith_coded_tensor *t = NULL;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensors[i].name, name) == 0) t = &m->tensors[i];
    if (!t) return pith_fail(ctx, PITH_E_FORMAT, "%s: there is no matrix %s", s->r.path, name);
    pith_qmat *units = s->unit + t->first_unit, whole = {0};
    size_t n_units = pith_coded_units(t), n_blocks = pith_coded_blocks(t);
    if (!units[0].data) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: matrix %s was taken before", s->r.path, name);
    uint8_t *bits = pith_array(ctx, pith_coded_tiles(t), n_blocks);
    if (!bits) return PITH_E_MEMORY;
    size_t tile = 0;
    for (size_t i = 0; i < n_units; i++) {
        memcpy(bits + tile * n_blocks, units[i].bits, units[i].n_tiles * n_blocks);
        tile += units[i].n_tiles;
    }
    pith_status status = pith_qmat_new(ctx, t->n_rows, t->n_cols, PITH_QSCALE_BLOCK_MIN, bits, &whole);
    pith_free(ctx, bits);
    tile = 0;
    for (size_t i = 0; i < n_units && status == PITH_OK; i++) {
        /* tiles are laid out alike, one after the other, in both */
        memcpy(whole.data + whole.tile_offset[tile], units[i].data, units[i].tile_offset[units[i].n_tiles]);
        tile += units[i].n_tiles;
        pith_qmat_free(ctx, &units[i]);
    }
    if (status == PITH_OK) status = pith_operator_from_qmat(ctx, &whole, name, op);
    if (status != PITH_OK) pith_qmat_free(ctx, &whole);
    size_t index = (size_t)(t - m->tensors);
    if (status == PITH_OK && s->n_wide[index]) {
        pith_operator *low = *op;
        status = split_new(ctx, low, m->vectors[t->scale - 1].wide, s->n_wide[index], s->apart[index], op);
        if (status == PITH_OK) s->apart[index] = NULL;
        else pith_operator_free(ctx, low);
    }
    return status;
}

/* A tied file keeps the gain of the last norm apart: the model's norm then has none, and the way to the
 * output is the transform c Q' diag(gain) Q. */
static bool is_made(const pith_manifest *m, const char *name)
{
    bool tied = m->settings.tied_embeddings;
    return tied && (strcmp(name, "output_norm.weight") == 0 || strcmp(name, "output.transform") == 0);
}

static bool has(pith_weights *w, const char *name)
{
    const pith_manifest *m = &source_of(w)->r.manifest;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensors[i].name, name) == 0) return true;
    return pith_manifest_vector(m, name) || is_made(m, name);
}

static pith_status make_transform(pith_ctx *ctx, pith_source *s, float *dst)
{
    const pith_manifest *m = &s->r.manifest;
    const pith_vector *gain = pith_manifest_vector(m, "output_norm.gain"), *scale = pith_manifest_vector(m, "token_embd.scale");
    size_t n = m->rotation_n;
    if (!gain || !scale || gain->n != n || scale->n != n) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the gain or scale of the output is missing", s->r.path);
    float *q = pith_array(ctx, n * n, sizeof *q);
    if (!q) return PITH_E_MEMORY;
    for (size_t i = 0; i < n * n; i++) q[i] = (float)m->rotation[i] * 0x1p-14f;
    memset(dst, 0, n * n * sizeof *dst);
    const pith_kernels *k = pith_kernels_get(ctx);
    /* dst[a, b] = c[a] sum_i q[i, a] gain[i] q[i, b] */
    for (size_t i = 0; i < n; i++)
        for (size_t a = 0; a < n; a++) k->axpy(dst + a * n, q + i * n, scale->x[a] * q[i * n + a] * gain->x[i], n);
    pith_free(ctx, q);
    return PITH_OK;
}

static pith_status get_vector(pith_ctx *ctx, pith_weights *w, const char *name, float *dst, size_t n)
{
    pith_source *s = source_of(w);
    const pith_manifest *m = &s->r.manifest;
    if (is_made(m, name)) {
        size_t e = m->rotation_n;
        bool transform = strcmp(name, "output.transform") == 0;
        if (n != (transform ? e * e : e)) return pith_fail(ctx, PITH_E_SHAPE, "%s: %s has not %zu values", s->r.path, name, n);
        if (transform) return make_transform(ctx, s, dst);
        for (size_t i = 0; i < n; i++) dst[i] = 1;
        return PITH_OK;
    }
    const pith_vector *v = pith_manifest_vector(m, name);
    if (!v) return pith_fail(ctx, PITH_E_FORMAT, "%s: there is no vector %s", s->r.path, name);
    if (v->n != n) return pith_fail(ctx, PITH_E_SHAPE, "%s: %s has %u values, not %zu", s->r.path, name, v->n, n);
    memcpy(dst, v->x, n * sizeof *dst);
    return PITH_OK;
}

static void free_source(pith_ctx *ctx, pith_weights *w)
{
    pith_source *s = source_of(w);
    for (size_t i = 0; s->unit && i < s->r.manifest.n_units; i++) pith_qmat_free(ctx, &s->unit[i]);
    for (size_t i = 0; s->apart && i < s->r.manifest.n_tensors; i++) pith_free(ctx, s->apart[i]);
    pith_free(ctx, s->apart);
    pith_free(ctx, s->n_wide);
    pith_free(ctx, s->unit);
    pith_free(ctx, s->packet);
    pith_free(ctx, s->models);
    pith_reader_close(ctx, &s->r);
    pith_free(ctx, s);
}

static pith_status open_source(pith_ctx *ctx, const char *path, const pith_weights_options *o, pith_source *s)
{
    PITH_TRY(pith_reader_open(ctx, path, o ? o->max_bytes : 0, &s->r));
    const pith_manifest *m = &s->r.manifest;
    s->strict = o && o->strict;
    s->w.settings = m->settings;
    s->w.vocab = &m->vocab;
    s->w.file_bytes = (size_t)s->r.file_bytes;
    for (size_t i = 0; i < m->n_tensors; i++) s->w.n_weights += (size_t)m->tensors[i].n_rows * m->tensors[i].n_cols;
    for (size_t i = 0; i < m->n_vectors; i++) s->w.n_weights += m->vectors[i].n;
    s->models = pith_alloc(ctx, sizeof *s->models);
    s->packet = pith_array(ctx, m->n_units, PITH_MAX_LEVELS * sizeof *s->packet);
    s->unit = pith_calloc(ctx, m->n_units, sizeof *s->unit);
    s->n_wide = pith_calloc(ctx, m->n_tensors, sizeof *s->n_wide);
    s->apart = pith_calloc(ctx, m->n_tensors, sizeof *s->apart);
    if (!s->models || !s->packet || !s->unit || !s->n_wide || !s->apart) return PITH_E_MEMORY;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *t = &m->tensors[i];
        const pith_vector *v = t->scale ? &m->vectors[t->scale - 1] : NULL;
        for (size_t c = 0; v && v->wide && c < v->n; c++) s->n_wide[i] += v->wide[c];
        if (s->n_wide[i] > MOST_WIDE) return pith_fail(ctx, PITH_E_CORRUPT, "%s: %s keeps %zu columns apart, at most %d can be", path, t->name, s->n_wide[i], MOST_WIDE);
        if (s->n_wide[i] && !(s->apart[i] = pith_calloc(ctx, (size_t)pith_coded_tiles(t) * PITH_TILE_ROWS, s->n_wide[i] * sizeof **s->apart))) return PITH_E_MEMORY;
    }
    if (pith_models_read(m->models.data, m->models.len, s->models) != PITH_OK) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the coder's distributions are damaged", path);
    memset(s->packet, 0xff, m->n_units * PITH_MAX_LEVELS * sizeof *s->packet);
    for (size_t i = 0; i < s->r.n_packets; i++) {
        const pith_packet *p = &s->r.packets[i];
        if (p->kind == 0) s->packet[(size_t)p->unit * PITH_MAX_LEVELS + p->level] = (uint32_t)i;
    }
    return decode_all(ctx, s);
}

pith_status pith_weights_open_pith(pith_ctx *ctx, const char *path, const pith_weights_options *options, pith_weights **w)
{
    pith_source *s = pith_calloc(ctx, 1, sizeof *s);
    if (!s) return PITH_E_MEMORY;
    s->w.matrix = get_matrix;
    s->w.has = has;
    s->w.vector = get_vector;
    s->w.free = free_source;
    pith_status status = open_source(ctx, path, options, s);
    if (status != PITH_OK) {
        free_source(ctx, &s->w);
        return status;
    }
    *w = &s->w;
    return PITH_OK;
}
