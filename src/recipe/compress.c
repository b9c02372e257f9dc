#include "recipe/compress.h"

#include <math.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "eval/eval.h"
#include "recipe/job.h"
#include "stage/quantize/grid.h"
#include "stream/weights/source.h"

#define UNIT_WEIGHTS ((size_t)1 << 18) /* a unit's values: big enough that a stream's own cost is small */
#define START_OCTAVES (-0.75)          /* mean of log2(rms / step) at level 0: some 1.4 bits a weight */
#define DAMPING 1e-3                   /* of the mean, added to second moments */
#define MAX_SCALE 32.0                 /* of a column's scale to the middle of all */
#define WIDE 4.0f                      /* times the middle column's rms: kept apart by a reader */
#define MAX_WIDE 16                    /* columns of one matrix, at most */
#define TOKEN_FLOOR 0.3                /* share of the embedding's precision that all tokens have alike */
#define SAMPLE_UNITS 8                 /* one unit in so many is looked at to fit distributions */
#define ROTATION_UNIT 0x1p-14f
#define ROTATION_BITS 3                /* low bits of the stored rotation left zero: 11 bits a value are enough */
#define CHUNK_ROWS 64                  /* rows of the source turned to f32 at once */
#define SMALLER 0.999                  /* of the source's bytes: what an exact file may take */
#define MEASURE_TOKENS 1024
#define MEASURE_CONTEXT 256

/* ---- values of a unit ------------------------------------------------------------------------- */

typedef struct unit_shape {
    size_t tile0, n_tiles, n_blocks, row0, n_rows, ld;
} unit_shape;

static unit_shape shape_of(const pith_coded_tensor *t, uint32_t unit)
{
    unit_shape s = {.tile0 = pith_unit_tile0(t, unit), .n_tiles = pith_unit_tiles(t, unit), .n_rows = pith_unit_rows(t, unit), .n_blocks = pith_coded_blocks(t)};
    s.row0 = s.tile0 * PITH_GROUP_ROWS;
    s.ld = s.n_blocks * PITH_GROUP_COLS;
    return s;
}

/* The unit's values z = (rotated W) / c, padded with zeros, into z [n_tiles * 16, ld].  chunk:
 * [max(CHUNK_ROWS, rows), n_cols] of scratch. */
static pith_status unit_values(const job *j, const job_tensor *t, const unit_shape *s, float *z, float *chunk)
{
    size_t cols = t->coded->n_cols, e = j->c->n_embd;
    memset(z, 0, s->n_tiles * PITH_GROUP_ROWS * s->ld * sizeof *z);
    if (t->coded->basis & PITH_BASIS_OUT) {
        /* rows of Q' W: sum over chunks of the rows of W */
        for (size_t r0 = 0; r0 < t->coded->n_rows; r0 += CHUNK_ROWS) {
            size_t n = PITH_MIN(CHUNK_ROWS, t->coded->n_rows - r0);
            PITH_TRY(pith_tensor_rows_f32(&t->source->t, r0, r0 + n, chunk));
            j->kernels->gemm(s->n_rows, cols, n, j->rotation_t + s->row0 * e + r0, e, chunk, cols, z, s->ld, true);
        }
    } else {
        PITH_TRY(pith_tensor_rows_f32(&t->source->t, s->row0, s->row0 + s->n_rows, chunk));
        for (size_t r = 0; t->gain && r < s->n_rows; r++)
            for (size_t k = 0; k < cols; k++) chunk[r * cols + k] *= t->gain[k];
        if (t->coded->basis)
            j->kernels->gemm(s->n_rows, cols, cols, chunk, cols, j->c->rotation, e, z, s->ld, false);
        else
            for (size_t r = 0; r < s->n_rows; r++) memcpy(z + r * s->ld, chunk + r * cols, cols * sizeof *z);
    }
    bool finite = true;
    for (size_t r = 0; r < s->n_rows; r++) {
        for (size_t k = 0; k < cols; k++) {
            z[r * s->ld + k] /= t->col_scale[k];
            finite &= isfinite(z[r * s->ld + k]) != 0;
        }
    }
    return finite ? PITH_OK : PITH_E_NONFINITE;
}

/* A worker's memory for one unit. */
typedef struct unit_memory {
    float *z, *chunk, *step;
    double *weight;
    void *unit, *coding;
    uint8_t *dst;
    size_t dst_cap;
} unit_memory;

static size_t lay_unit(uint8_t *base, size_t n_tiles, size_t n_blocks, size_t n_cols, unit_memory *m)
{
    size_t at = 0, values = n_tiles * n_blocks * PITH_GROUP;
    const size_t sizes[] = {values * sizeof(float), PITH_MAX((size_t)CHUNK_ROWS, n_tiles * PITH_GROUP_ROWS) * n_cols * sizeof(float), n_tiles * sizeof(float),
                            n_tiles * sizeof(double), pith_unit_bytes(n_tiles, n_blocks), pith_unit_scratch(n_tiles, n_blocks), pith_unit_bound(n_tiles, n_blocks)};
    uint8_t *p[PITH_COUNT(sizes)];
    for (size_t i = 0; i < PITH_COUNT(sizes); i++) {
        p[i] = base ? base + at : NULL;
        at += PITH_ROUND_UP(sizes[i], PITH_ALIGN);
    }
    *m = (unit_memory){(float *)p[0], (float *)p[1], (float *)p[2], (double *)p[3], p[4], p[5], p[6], sizes[6]};
    return at;
}

/* Steps of level 0, as codes and as values.  Units start at different phases of the octave, so that at
 * any size about as many of them are just above their ideal step as just below. */
static void set_steps(const job_tensor *t, uint32_t unit, bool staggered, const unit_shape *s, pith_unit *u, float *step, double *weight)
{
    double phase = staggered ? fmod(unit * 0.6180339887498949, 1.0) - 0.5 : 0;
    for (size_t i = 0; i < s->n_tiles; i++) {
        weight[i] = t->tile_weight ? (double)t->tile_weight[s->tile0 + i] : 1;
        double octaves = log2((double)t->step / (double)t->coded->base_step) + phase - 0.5 * log2(weight[i]);
        int code = (int)lrint(8 * octaves), low = i ? u->step_code[i - 1] - 24 : 0, high = i ? u->step_code[i - 1] + 24 : 255;
        u->step_code[i] = (uint8_t)PITH_MIN(PITH_MAX(PITH_MIN(PITH_MAX(code, low), high), 0), 255);
        step[i] = t->coded->base_step * pith_step_of_code(u->step_code[i]);
    }
}

static void task_rms(void *arg, size_t i, int worker)
{
    job *j = arg;
    job_tensor *t = &j->tensors[i];
    uint32_t unit = t->coded->first_unit + pith_coded_units(t->coded) / 2;
    unit_shape s = shape_of(t->coded, unit);
    unit_memory m;
    lay_unit(j->scratch[worker], s.n_tiles, s.n_blocks, t->coded->n_cols, &m);
    pith_status status = unit_values(j, t, &s, m.z, m.chunk);
    if (status != PITH_OK) j->status[worker] = status;
    double sum = 0;
    for (size_t k = 0; k < t->coded->n_cols; k++) {
        float square = 0;
        for (size_t r = 0; r < s.n_rows; r++) square += m.z[r * s.ld + k] * m.z[r * s.ld + k];
        t->col_square[k] = square / (float)s.n_rows;
        sum += (double)square;
    }
    t->rms = sqrt(sum / ((double)s.n_rows * t->coded->n_cols));
}

/* Likely squared error of a row of the unit, in the transformed matrix: the geometric mean over tiles; where rows will be mixed, the mean. */
static double unit_noise(const job_tensor *t, const pith_unit *u, const float *step)
{
    bool mixed = t->coded->basis & PITH_BASIS_OUT;
    double sum = 0;
    for (size_t i = 0; i < u->n_tiles; i++) {
        double row = 0;
        for (size_t b = 0; b < u->n_blocks; b++) {
            double scale = 0;
            for (size_t k = b * PITH_GROUP_COLS; k < PITH_MIN((b + 1) * PITH_GROUP_COLS, t->coded->n_cols); k++) scale += (double)t->col_scale[k] * (double)t->col_scale[k];
            row += scale * (double)pith_unit_noise(u, i * u->n_blocks + b, step[i]);
        }
        sum += mixed ? row : log2(PITH_MAX(row, 1e-300));
    }
    return mixed ? sum / (double)u->n_tiles : exp2(sum / (double)u->n_tiles);
}

/* From that to the mean square of an error in the source: Q keeps a row's sum, gains are taken out. */
static double source_noise_factor(const job_tensor *t)
{
    double sum = 0;
    for (size_t k = 0; k < t->coded->n_cols; k++) sum += t->gain ? (double)t->gain[k] * (double)t->gain[k] : 1;
    return 1 / PITH_MAX(sum, 1e-30);
}

static pith_status code_unit(job *j, uint32_t unit, int worker, bool write)
{
    const job_tensor *t = &j->tensors[j->tensor_of_unit[unit]];
    unit_shape s = shape_of(t->coded, unit);
    unit_memory m;
    pith_unit u;
    lay_unit(j->scratch[worker], s.n_tiles, s.n_blocks, t->coded->n_cols, &m);
    PITH_TRY(unit_values(j, t, &s, m.z, m.chunk));
    pith_unit_init(&u, s.n_tiles, s.n_blocks, m.unit);
    set_steps(t, unit, j->staggered, &s, &u, m.step, m.weight);
    pith_unit_classify(&u, m.z, m.step);
    double to_source = source_noise_factor(t), to_kl = t->kl_per_row_noise / t->coded->n_rows, before = to_kl * pith_unit_error(&u, m.z, m.step, m.weight);
    for (int k = 0; k < j->n_levels; k++) {
        pith_level_out out = {.models = write ? j->models : NULL, .counts = write ? NULL : &j->counts[worker], .dst = m.dst, .cap = m.dst_cap};
        PITH_TRY(pith_unit_encode(&u, m.z, m.step, j->isa, &out, m.coding));
        if (!write) continue;
        coded_packet *p = &j->packets[(size_t)unit * PITH_JOB_LEVELS + (size_t)k];
        if (!(p->data = pith_alloc(j->ctx, out.len))) return PITH_E_MEMORY;
        memcpy(p->data, m.dst, out.len);
        p->len = out.len;
        p->kl_before = before;
        p->kl_after = before = to_kl * pith_unit_error(&u, m.z, m.step, m.weight);
        p->noise = to_source * unit_noise(t, &u, m.step);
    }
    return PITH_OK;
}

static void task_count(void *arg, size_t i, int worker)
{
    job *j = arg;
    pith_status status = code_unit(j, (uint32_t)(i * SAMPLE_UNITS), worker, false);
    if (status != PITH_OK) j->status[worker] = status;
}

static void task_code(void *arg, size_t i, int worker)
{
    job *j = arg;
    pith_status status = code_unit(j, (uint32_t)(i + j->n_done), worker, true);
    if (status != PITH_OK) j->status[worker] = status;
}

pith_status job_status(const job *j)
{
    for (int i = 0; i < pith_n_threads(j->ctx); i++) {
        if (j->status[i] == PITH_E_NONFINITE) return pith_fail(j->ctx, PITH_E_NONFINITE, "a weight of the source is not finite");
        if (j->status[i] != PITH_OK) return j->status[i] == PITH_E_MEMORY ? PITH_E_MEMORY : pith_fail(j->ctx, j->status[i], "coding a unit failed: %s", pith_status_text(j->status[i]));
    }
    return PITH_OK;
}

/* ---- the list of tensors ---------------------------------------------------------------------- */

static float *arena_floats(pith_arena *a, size_t n) { return pith_arena_take(a, n * sizeof(float)); }

static char *arena_text(pith_arena *a, const char *format, unsigned layer, const char *name)
{
    char text[128];
    snprintf(text, sizeof text, format, layer, name);
    char *copy = pith_arena_take(a, strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

/* Column scales 1 / sqrt(second moment), in the coarse steps that the file stores.  Single inputs can be
 * hundreds of times larger than the rest (M. Sun et al., arXiv:2402.17762); their scale is held within
 * MAX_SCALE of the others', which costs little and keeps their numbers small. */
static float *column_scales(pith_arena *a, const float *moments, size_t n, double extra)
{
    float *c = arena_floats(a, n);
    double mean = 0, octaves = 0;
    for (size_t i = 0; i < n; i++) mean += (double)moments[i];
    double damping = DAMPING * (mean / (double)n + extra);
    if (!(damping > 0)) damping = 1;
    for (size_t i = 0; i < n; i++) octaves += log2((double)moments[i] + extra + damping);
    double middle = exp2(-0.5 * octaves / (double)n);
    for (size_t i = 0; c && i < n; i++) {
        double scale = 1 / sqrt((double)moments[i] + extra + damping);
        c[i] = pith_coarse_value(pith_coarse_code((float)PITH_MIN(PITH_MAX(scale, middle / MAX_SCALE), middle * MAX_SCALE)));
    }
    return c;
}

static pith_status add_vector(pith_ctx *ctx, pith_manifest *m, size_t cap, char *name, float *x, size_t n, bool coarse)
{
    if (!name || !x) return PITH_E_MEMORY;
    if (m->n_vectors == cap) return pith_fail(ctx, PITH_E_INTERNAL, "more vectors than counted");
    m->vectors[m->n_vectors++] = (pith_vector){.name = name, .n = (uint32_t)n, .x = x, .coarse = coarse};
    return PITH_OK;
}

static pith_status file_vector(pith_ctx *ctx, pith_arena *a, const pith_model_file *f, const char *name, float **x, size_t *n)
{
    const pith_named_tensor *t = pith_model_file_find(f, name);
    *x = NULL;
    if (!t) return PITH_OK;
    *n = pith_tensor_count(&t->t);
    if (!(*x = arena_floats(a, *n))) return PITH_E_MEMORY;
    pith_status status = pith_tensor_rows_f32(&t->t, 0, *n / pith_tensor_cols(&t->t), *x);
    return status == PITH_OK ? status : pith_fail(ctx, status, "%s: cannot be read as f32", name);
}

static pith_status add_matrix(pith_ctx *ctx, job *j, const pith_model_file *f, const char *name, unsigned basis, const float *gain, float *col_scale, double kl)
{
    pith_manifest *m = j->manifest;
    const pith_named_tensor *t = pith_model_file_find(f, name);
    if (!name || !col_scale) return PITH_E_MEMORY;
    if (!t || t->t.n_dims != 2) return pith_fail(ctx, PITH_E_FORMAT, "%s: the model has no such matrix", name);
    pith_coded_tensor *c = &m->tensors[m->n_tensors];
    *c = (pith_coded_tensor){.name = (char *)(uintptr_t)name, .n_rows = (uint32_t)t->t.dims[0], .n_cols = (uint32_t)t->t.dims[1], .source_dtype = t->t.dtype, .basis = basis};
    size_t tiles = UNIT_WEIGHTS / ((size_t)pith_coded_blocks(c) * PITH_GROUP), all = pith_coded_tiles(c);
    /* equal units, none much smaller than the others */
    c->unit_tiles = (uint32_t)PITH_CEIL_DIV(all, PITH_MAX(1, (all + tiles / 2) / PITH_MAX(tiles, 1)));
    c->first_unit = (uint32_t)j->n_units;
    j->n_units += pith_coded_units(c);
    j->tensors[m->n_tensors++] = (job_tensor){.source = t, .coded = c, .gain = gain, .col_scale = col_scale, .kl_per_row_noise = kl};
    j->n_tensors = m->n_tensors;
    return PITH_OK;
}

/* Tile weights of the embedding: how much its 16 tokens matter, mean 1, with a floor for all. */
static float *tile_weights(pith_arena *a, const pith_calibration *c)
{
    size_t n = PITH_CEIL_DIV(c->n_vocab, PITH_GROUP_ROWS);
    float *w = arena_floats(a, n);
    for (size_t t = 0; w && t < n; t++) {
        double sum = 0;
        size_t r0 = t * PITH_GROUP_ROWS, r1 = PITH_MIN(r0 + PITH_GROUP_ROWS, c->n_vocab);
        for (size_t r = r0; r < r1; r++) sum += (double)c->token_weight[r];
        double mean = TOKEN_FLOOR + (1 - TOKEN_FLOOR) * sum * (double)c->n_vocab / (double)(r1 - r0);
        w[t] = (float)PITH_MIN(PITH_MAX(mean, 0.05), 20);
    }
    return w;
}

/* Whether all matrices are of types that the exact layer can code; else one of them is in the log. */
static bool source_has_grid(pith_ctx *ctx, const pith_model_file *f, pith_exact_layer wanted)
{
    pith_grid g;
    for (size_t i = 0; i < f->n_tensors && wanted != PITH_EXACT_NEVER; i++) {
        const pith_named_tensor *t = &f->tensors[i];
        if (t->t.n_dims != 2 || pith_grid_of(t->t.dtype, &g)) continue;
        pith_log(ctx, wanted == PITH_EXACT_ALWAYS ? PITH_LOG_WARN : PITH_LOG_INFO, "no exact layer: it takes blocks of whole numbers (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0), and %s is of type %s",
                 t->name, pith_dtype_get((uint32_t)t->t.dtype)->name);
        return false;
    }
    return wanted != PITH_EXACT_NEVER;
}

/* Fill the manifest's tables and the job's list from the source and what was learned of it. */
static pith_status list_tensors(pith_ctx *ctx, job *j, pith_arena *a, const pith_model_file *f)
{
    pith_manifest *m = j->manifest;
    const pith_calibration *c = j->c;
    const pith_settings *s = &m->settings;
    size_t vector_cap = 8 + 9 * c->n_layers, n;
    bool exact = j->wants_exact;
    m->tensors = pith_arena_take(a, (2 + PITH_N_OPS * c->n_layers) * sizeof *m->tensors);
    m->vectors = pith_arena_take(a, vector_cap * sizeof *m->vectors);
    j->tensors = pith_arena_take(a, (2 + PITH_N_OPS * c->n_layers) * sizeof *j->tensors);
    if (!m->tensors || !m->vectors || !j->tensors) return PITH_E_MEMORY;
    size_t e = c->n_embd;
    float *gain, *embedding_scale;
    PITH_TRY(file_vector(ctx, a, f, "output_norm.weight", &gain, &n));
    if (!gain || n != e) return pith_fail(ctx, PITH_E_FORMAT, "output_norm.weight: missing or of the wrong length");

    /* The embedding: read by row, and, when tied, also the output. */
    if (s->tied_embeddings) {
        embedding_scale = column_scales(a, c->out_in, e, c->out_kl > 0 ? c->embedding_kl / ((double)e * c->out_kl) : 1);
        PITH_TRY(add_matrix(ctx, j, f, "token_embd.weight", PITH_BASIS_IN_PLAIN, NULL, embedding_scale, c->out_kl));
        PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "output_norm.gain", 0, ""), gain, e, false));
    } else {
        embedding_scale = arena_floats(a, e);
        for (size_t i = 0; embedding_scale && i < e; i++) embedding_scale[i] = 1;
        /* noise of variance v in a looked-up value costs embedding_kl * v; a row's squared error is e of them */
        PITH_TRY(add_matrix(ctx, j, f, "token_embd.weight", PITH_BASIS_IN_PLAIN, NULL, embedding_scale, c->embedding_kl / (double)e));
        float *output_scale = column_scales(a, c->out_in, e, 0);
        j->tensors[0].tile_weight = tile_weights(a, c);
        PITH_TRY(add_matrix(ctx, j, f, "output.weight", PITH_BASIS_IN, gain, output_scale, c->out_kl));
        PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "output_norm.weight", 0, ""), output_scale, e, true));
        if (exact) PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "output_norm.gain", 0, ""), gain, e, false));
    }
    j->tensors[m->n_tensors - 1].tile_weight = tile_weights(a, c);
    if (!j->tensors[0].tile_weight || !j->tensors[m->n_tensors - 1].tile_weight) return PITH_E_MEMORY;
    PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "token_embd.scale", 0, ""), embedding_scale, e, true));

    for (unsigned l = 0; l < c->n_layers; l++) {
        float *attn_gain, *ffn_gain, *x;
        PITH_TRY(file_vector(ctx, a, f, arena_text(a, "blk.%u.attn_norm.weight", l, ""), &attn_gain, &n));
        if (!attn_gain || n != e) return pith_fail(ctx, PITH_E_FORMAT, "blk.%u.attn_norm.weight: missing or of the wrong length", l);
        PITH_TRY(file_vector(ctx, a, f, arena_text(a, "blk.%u.ffn_norm.weight", l, ""), &ffn_gain, &n));
        if (!ffn_gain || n != e) return pith_fail(ctx, PITH_E_FORMAT, "blk.%u.ffn_norm.weight: missing or of the wrong length", l);
        float *attn_scale = column_scales(a, c->attn_in + l * e, e, 0), *ffn_scale = column_scales(a, c->ffn_in + l * e, e, 0);
        float *o_scale = column_scales(a, c->o_in + l * c->q_dim, c->q_dim, 0), *down_scale = column_scales(a, c->down_in + l * c->n_ff, c->n_ff, 0);
        PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "blk.%u.attn_norm.weight", l, ""), attn_scale, e, true));
        PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "blk.%u.ffn_norm.weight", l, ""), ffn_scale, e, true));
        PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "blk.%u.attn_output.scale", l, ""), o_scale, c->q_dim, true));
        PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "blk.%u.ffn_down.scale", l, ""), down_scale, c->n_ff, true));
        if (exact) {
            PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "blk.%u.attn_norm.gain", l, ""), attn_gain, e, false));
            PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "blk.%u.ffn_norm.gain", l, ""), ffn_gain, e, false));
        }
        static const char *const biases[] = {"attn_q.bias", "attn_k.bias", "attn_v.bias"};
        for (size_t b = 0; b < PITH_COUNT(biases); b++) {
            char *name = arena_text(a, "blk.%u.%s", l, biases[b]);
            if (!name) return PITH_E_MEMORY;
            PITH_TRY(file_vector(ctx, a, f, name, &x, &n));
            if (x) PITH_TRY(add_vector(ctx, m, vector_cap, name, x, n, false));
        }
        for (int i = 0; i < PITH_N_OPS; i++) {
            bool from_residual = i <= PITH_OP_V || i == PITH_OP_GATE || i == PITH_OP_UP;
            PITH_TRY(add_matrix(ctx, j, f, arena_text(a, "blk.%u.%s.weight", l, pith_op_names[i]), from_residual ? PITH_BASIS_IN : PITH_BASIS_OUT,
                                from_residual ? (i <= PITH_OP_V ? attn_gain : ffn_gain) : NULL,
                                i <= PITH_OP_V ? attn_scale : i == PITH_OP_O ? o_scale : i == PITH_OP_DOWN ? down_scale : ffn_scale, c->noise_kl[l * PITH_N_OPS + (size_t)i]));
        }
    }
    float *freqs;
    PITH_TRY(file_vector(ctx, a, f, "rope_freqs.weight", &freqs, &n));
    if (freqs) PITH_TRY(add_vector(ctx, m, vector_cap, arena_text(a, "rope_freqs.weight", 0, ""), freqs, n, false));
    for (size_t i = 0; i < m->n_tensors; i++)
        for (uint32_t v = 0; v < m->n_vectors; v++)
            if (m->vectors[v].x == j->tensors[i].col_scale) m->tensors[i].scale = v + 1;
    m->n_units = j->n_units;
    m->rotation_n = (uint32_t)e;
    if (!(m->rotation = pith_arena_take(a, e * e * sizeof *m->rotation))) return PITH_E_MEMORY;
    for (size_t i = 0; i < e * e; i++) {
        float unit = ROTATION_UNIT * (1 << ROTATION_BITS);
        m->rotation[i] = (int16_t)(lrintf(PITH_MIN(PITH_MAX(c->rotation[i], -1.0f), 1.0f) / unit) * (1 << ROTATION_BITS));
    }
    return PITH_OK;
}

/* Every tensor's step: KL is s n step^2 / 12 and the rate falls by one bit an octave for each of rows x n
 * weights, so at equal slope step^2 is in proportion to rows / s; then one factor for all sets the mean rate. */
static void choose_steps(job *j)
{
    double octaves = 0, weights = 0;
    for (size_t i = 0; i < j->n_tensors; i++) {
        job_tensor *t = &j->tensors[i];
        double n = (double)t->coded->n_rows * t->coded->n_cols;
        t->step = t->kl_per_row_noise > 0 ? (float)sqrt(t->coded->n_rows / t->kl_per_row_noise) : (float)PITH_MAX(t->rms, 1e-20);
        octaves += n * log2(PITH_MAX(t->rms, 1e-20) / (double)t->step);
        weights += n;
    }
    double factor = exp2(octaves / weights - j->start_octaves);
    for (size_t i = 0; i < j->n_tensors; i++) {
        job_tensor *t = &j->tensors[i];
        /* no matrix starts more than some octaves from its rms: what matters less than that is not there */
        double step = PITH_MIN(PITH_MAX((double)t->step * factor, t->rms / 64), t->rms * 64);
        t->step = (float)PITH_MAX(step, 1e-30);
        t->coded->base_step = t->step * 0x1p-16f;
    }
}

/* ---- the order of packets --------------------------------------------------------------------- */

static int by_slope(const void *a, const void *b)
{
    const ordered *x = a, *y = b;
    if (x->slope != y->slope) return x->slope > y->slope ? -1 : 1;
    if (x->unit != y->unit) return x->unit < y->unit ? -1 : 1;
    if (x->kind != y->kind) return (int)x->kind - (int)y->kind;
    return (int)x->level - (int)y->level;
}

void job_sort(ordered *order, size_t n) { qsort(order, n, sizeof *order, by_slope); }

/* Quality gained per byte; within a unit made non-increasing by merging (the upper convex hull), so that
 * dependencies come first of themselves. */
static void slopes_of_unit(const coded_packet *p, int n_levels, double slope[PITH_JOB_LEVELS])
{
    double gain[PITH_JOB_LEVELS], bytes[PITH_JOB_LEVELS];
    int first[PITH_JOB_LEVELS], n = 0;
    for (int k = 0; k < n_levels; k++) {
        gain[n] = PITH_MAX(p[k].kl_before - p[k].kl_after, 0);
        bytes[n] = (double)p[k].len + PITH_PACKET_HEADER;
        first[n++] = k;
        while (n > 1 && gain[n - 1] * bytes[n - 2] > gain[n - 2] * bytes[n - 1]) {
            gain[n - 2] += gain[n - 1];
            bytes[n - 2] += bytes[n - 1];
            n--;
        }
    }
    for (int i = 0; i < n; i++)
        for (int k = first[i]; k < (i + 1 < n ? first[i + 1] : n_levels); k++) slope[k] = gain[i] / bytes[i];
}

/* *n: packets; then those written, the first of them: what would go beyond `most` bytes is left out. */
static pith_status write_packets(job *j, pith_out *out, const ordered *order, uint64_t most, size_t *n)
{
    pith_manifest *m = j->manifest;
    size_t first_layers = 0, exact = 0;
    for (size_t i = 0; i < *n; i++) {
        const coded_packet *c = job_packet(j, &order[i]);
        if (!j->exact && first_layers == j->n_units && pith_out_tell(out) + PITH_PACKET_HEADER + c->len > most) {
            *n = i;
            break;
        }
        pith_packet p = {.unit = order[i].unit, .level = order[i].level, .kind = order[i].kind, .len = (uint32_t)c->len, .gain = (float)(c->kl_before - c->kl_after)};
        PITH_TRY(pith_packet_write(out, &p, c->data));
        if (!p.kind && !p.level && ++first_layers == j->n_units) m->floor_bytes = pith_out_tell(out);
        if (p.kind && ++exact == j->n_units) m->exact_bytes = pith_out_tell(out);
    }
    m->total_bytes = pith_out_tell(out);
    return PITH_OK;
}

/* ---- measuring -------------------------------------------------------------------------------- */

/* Sizes at which the result is measured: evenly in bits from the floor to the whole. */
static size_t cuts_to_measure(const pith_manifest *m, uint64_t cuts[PITH_MAX_MEASURED])
{
    size_t n = 6;
    for (size_t i = 0; i < n; i++) cuts[i] = m->floor_bytes + (m->total_bytes - m->floor_bytes) * i / (n - 1);
    return n;
}

/* KL of the file as it stands, read up to `bytes`, to the model it was made from. */
static pith_status measure_cut(pith_ctx *ctx, const char *path, uint64_t bytes, pith_llama *source, const pith_calibration *c, double *kl)
{
    pith_weights *w = NULL;
    pith_llama *model = NULL;
    pith_weights_options wo = {.max_bytes = bytes};
    pith_eval_options eo = {.context = MEASURE_CONTEXT, .all_tokens = true};
    pith_eval_result r;
    size_t n = PITH_MIN(c->n_tokens, MEASURE_TOKENS);
    eo.context = PITH_MIN(PITH_MIN(eo.context, n), source->s.n_ctx);
    pith_status status = pith_weights_open_pith(ctx, path, &wo, &w);
    if (status == PITH_OK) status = pith_llama_new(ctx, w, &model);
    pith_weights_free(ctx, w);
    if (status == PITH_OK) status = pith_eval_text(ctx, model, source, c->ids, n, -1, &eo, &r);
    if (status == PITH_OK) *kl = r.kl_mean;
    pith_llama_free(ctx, model);
    return status;
}

/* KL that the packets beyond `bytes` were expected to save: what is lost at that cut. */
static double predicted_kl(const job *j, const ordered *order, size_t n, uint64_t bytes)
{
    uint64_t at = j->manifest->manifest_bytes;
    double kl = 0;
    for (size_t i = 0; i < j->n_units; i++) kl += j->packets[i * PITH_JOB_LEVELS].kl_before;
    for (size_t i = 0; i < n; i++) {
        const coded_packet *p = job_packet(j, &order[i]);
        at += p->len + PITH_PACKET_HEADER;
        if (at > bytes) break;
        kl -= p->kl_before - p->kl_after;
    }
    return kl;
}

static pith_status make_meta(pith_ctx *ctx, const char *source, const pith_compress_options *o, const pith_calibration *c, bool exact, const pith_compress_result *r, char **meta)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *made = cJSON_AddObjectToObject(root, "made");
    const char *slash = strrchr(source, '/');
    bool ok = made && cJSON_AddStringToObject(made, "by", "pith") && cJSON_AddStringToObject(made, "version", pith_version()) &&
              cJSON_AddStringToObject(made, "source", slash ? slash + 1 : source) && cJSON_AddNumberToObject(made, "source_bytes", (double)r->source_bytes) &&
              cJSON_AddStringToObject(made, "stages", exact ? "rotation(principal axes) | embedded | rans, exact grid" : "rotation(principal axes) | embedded | rans") &&
              cJSON_AddStringToObject(made, "calibration", o->text ? "text" : "written by the model") &&
              cJSON_AddNumberToObject(made, "calibration_tokens", (double)c->n_tokens) && cJSON_AddNumberToObject(made, "seed", (double)o->seed);
    cJSON *measured = cJSON_AddArrayToObject(root, "measured");
    for (size_t i = 0; i < r->n_measured && measured; i++) {
        cJSON *row = cJSON_CreateObject();
        ok &= cJSON_AddItemToArray(measured, row) && cJSON_AddNumberToObject(row, "bytes", (double)r->measured[i].bytes) &&
              cJSON_AddNumberToObject(row, "kl_mean", r->measured[i].kl) && cJSON_AddNumberToObject(row, "kl_predicted", r->measured[i].predicted_kl);
    }
    char *text = ok && measured ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (!text) return pith_fail(ctx, PITH_E_MEMORY, "out of memory for the manifest");
    *meta = pith_strdup(ctx, text);
    free(text);
    return *meta ? PITH_OK : PITH_E_MEMORY;
}

/* ---- all of it -------------------------------------------------------------------------------- */

pith_status job_run(job *j, const char *what, size_t n, pith_task *task, void *arg)
{
    size_t slice = (size_t)pith_n_threads(j->ctx) * 4;
    for (j->n_done = 0; j->n_done < n; j->n_done += slice) {
        pith_parallel(j->ctx, PITH_MIN(slice, n - j->n_done), task, arg);
        PITH_TRY(job_status(j));
        PITH_TRY(pith_progress(j->ctx, what, PITH_MIN(j->n_done + slice, n), n));
    }
    return PITH_OK;
}

static pith_status prepare_workers(job *j, pith_arena *a)
{
    pith_ctx *ctx = j->ctx;
    size_t n = (size_t)pith_n_threads(ctx);
    for (size_t i = 0; i < j->n_tensors; i++) {
        const pith_coded_tensor *t = j->tensors[i].coded;
        unit_memory m;
        j->scratch_bytes = PITH_MAX(j->scratch_bytes, lay_unit(NULL, pith_unit_tiles(t, t->first_unit), pith_coded_blocks(t), t->n_cols, &m));
    }
    j->scratch = pith_arena_take(a, n * sizeof *j->scratch);
    j->status = pith_arena_take(a, n * sizeof *j->status);
    j->counts = pith_arena_take(a, n * sizeof *j->counts);
    j->models = pith_arena_take(a, sizeof *j->models);
    j->tensor_of_unit = pith_arena_take(a, j->n_units * sizeof *j->tensor_of_unit);
    j->packets = pith_arena_take(a, j->n_units * PITH_JOB_LEVELS * sizeof *j->packets);
    if (!j->scratch || !j->status || !j->counts || !j->models || !j->tensor_of_unit || !j->packets) return PITH_E_MEMORY;
    memset(j->packets, 0, j->n_units * PITH_JOB_LEVELS * sizeof *j->packets);
    for (size_t i = 0; i < n; i++) {
        j->status[i] = PITH_OK;
        memset(&j->counts[i], 0, sizeof j->counts[i]);
        if (!(j->scratch[i] = pith_arena_take(a, j->scratch_bytes))) return PITH_E_MEMORY;
    }
    for (uint32_t i = 0; i < j->n_tensors; i++)
        for (uint32_t u = 0; u < pith_coded_units(j->tensors[i].coded); u++) j->tensor_of_unit[j->tensors[i].coded->first_unit + u] = i;
    return PITH_OK;
}

static int by_float(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Columns whose values are far above the middle one's are marked: a reader keeps them apart, in more bits
 * than the rest (T. Dettmers et al., arXiv:2208.07339, do so with inputs).  Matrices that share an input
 * share the marks. */
static pith_status mark_wide(job *j, pith_arena *a)
{
    pith_manifest *m = j->manifest;
    for (size_t i = 0; i < j->n_tensors; i++) {
        const job_tensor *t = &j->tensors[i];
        size_t n = t->coded->n_cols;
        if (!t->coded->scale) continue;
        pith_vector *v = &m->vectors[t->coded->scale - 1];
        float *sorted = arena_floats(a, n);
        if (!v->wide && (v->wide = pith_arena_take(a, n))) memset(v->wide, 0, n);
        if (!sorted || !v->wide) return PITH_E_MEMORY;
        memcpy(sorted, t->col_square, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, by_float);
        size_t most = PITH_MIN(n, MAX_WIDE);
        float limit = PITH_MAX(sorted[n / 2] * WIDE * WIDE, sorted[n - most]);
        for (size_t k = 0; k < n; k++) v->wide[k] |= t->col_square[k] > limit;
    }
    return PITH_OK;
}

static pith_status fit_models(job *j, pith_arena *a)
{
    for (size_t i = 0; i < j->n_tensors; i++)
        if (!(j->tensors[i].col_square = arena_floats(a, j->tensors[i].coded->n_cols))) return PITH_E_MEMORY;
    pith_parallel(j->ctx, j->n_tensors, task_rms, j);
    PITH_TRY(job_status(j));
    PITH_TRY(mark_wide(j, a));
    choose_steps(j);
    pith_parallel(j->ctx, PITH_CEIL_DIV(j->n_units, SAMPLE_UNITS), task_count, j);
    PITH_TRY(job_status(j));
    for (int w = 1; w < pith_n_threads(j->ctx); w++)
        for (int i = 0; i < PITH_N_MODELS; i++)
            for (int s = 0; s < 256; s++) j->counts[0].count[i][s] += j->counts[w].count[i][s];
    pith_status status = pith_models_fit(&j->counts[0], j->models);
    return status == PITH_OK ? status : pith_fail(j->ctx, status, "the coder's distributions cannot be fitted");
}

static pith_status put_in_order(job *j, pith_arena *a, ordered **order, size_t *n)
{
    size_t levels = (size_t)j->n_levels;
    *n = j->n_units * levels;
    if (!(*order = pith_arena_take(a, (*n + j->n_units) * sizeof **order))) /* room for exact ones */ return PITH_E_MEMORY;
    for (size_t u = 0; u < j->n_units; u++) {
        double slope[PITH_JOB_LEVELS];
        slopes_of_unit(&j->packets[u * PITH_JOB_LEVELS], j->n_levels, slope);
        for (size_t k = 0; k < levels; k++) (*order)[u * levels + k] = (ordered){.unit = (uint32_t)u, .level = (uint8_t)k, .slope = slope[k]};
    }
    job_sort(*order, *n);
    return PITH_OK;
}

static pith_status code_layers(job *j, pith_arena *a)
{
    pith_model_counts_init(&j->counts[0]); /* once, or the bytes would depend on how many threads there are */
    for (int w = 1; w < pith_n_threads(j->ctx); w++) memset(&j->counts[w], 0, sizeof j->counts[w]);
    PITH_TRY(fit_models(j, a));
    return job_run(j, "compress", j->n_units, task_code, j);
}

/* One layer of about `bytes`, not more: a step on both sides is found, and then one between.  Steps come in eighths of
 * octaves, so a small model cannot come as close as a large one. */
static pith_status code_single(job *j, pith_arena *a, double bytes)
{
    double weights = 0, below = -INFINITY, below_bytes = 0, above = INFINITY, above_bytes = 0, close = 0.001;
    for (size_t i = 0; i < j->n_tensors; i++) weights += (double)j->tensors[i].coded->n_rows * j->tensors[i].coded->n_cols;
    j->n_levels = 1;
    j->staggered = false;
    for (int tries = 0; tries < 16; tries++, close *= 1.25) {
        PITH_TRY(code_layers(j, a));
        double all = 0, wanted = (1 - close / 2) * bytes, at = j->start_octaves;
        for (size_t i = 0; i < j->n_units; i++) all += (double)j->packets[i * PITH_JOB_LEVELS].len + PITH_PACKET_HEADER;
        if (all <= bytes && all > (1 - close) * bytes) return PITH_OK;
        if (all < wanted) below = at, below_bytes = all;
        else above = at, above_bytes = all;
        if (isfinite(below) && isfinite(above)) j->start_octaves = below + (above - below) * PITH_MIN(PITH_MAX((wanted - below_bytes) / (above_bytes - below_bytes), 0.1), 0.9);
        else j->start_octaves += 8 * (wanted - all) / weights; /* an octave of the step is a bit a weight, or more */
        for (size_t i = 0; i < j->n_units * PITH_JOB_LEVELS; i++) {
            pith_free(j->ctx, j->packets[i].data);
            j->packets[i] = (coded_packet){0};
        }
    }
    return pith_fail(j->ctx, PITH_E_ARGUMENT, "no step gives one layer of %.1f MB", bytes * 1e-6);
}

/* The part that owns memory: everything in `a`, but for the packets. */
static pith_status compress_with(pith_ctx *ctx, job *j, pith_arena *a, const pith_model_file *f, pith_llama *source, const char *name, const char *target,
                                 const pith_compress_options *o, const pith_study *study, pith_compress_result *r)
{
    pith_manifest *m = j->manifest;
    pith_out *out = NULL;
    ordered *order;
    size_t n_order;
    double start = pith_now_s();
    j->wants_exact = !study->rotate && !study->single_bytes && source_has_grid(ctx, f, o->exact);
    j->n_levels = PITH_JOB_LEVELS;
    j->start_octaves = START_OCTAVES;
    j->staggered = true;
    PITH_TRY(list_tensors(ctx, j, a, f));
    if (study->rotate) PITH_TRY(job_rotate_source(j, a));
    if (!(j->rotation_t = arena_floats(a, j->c->n_embd * j->c->n_embd))) return PITH_E_MEMORY;
    pith_transpose(j->c->rotation, j->c->n_embd, j->c->n_embd, j->c->n_embd, j->rotation_t, j->c->n_embd);
    PITH_TRY(prepare_workers(j, a));
    if (study->single_bytes) PITH_TRY(code_single(j, a, (double)study->single_bytes));
    else PITH_TRY(code_layers(j, a));
    PITH_TRY(put_in_order(j, a, &order, &n_order));
    size_t cap = PITH_N_MODELS * PITH_RANS_MODEL_BYTES;
    if (!(m->models.data = pith_arena_take(a, cap))) return PITH_E_MEMORY;
    PITH_TRY(pith_models_write(j->models, m->models.data, cap, &m->models.len));
    PITH_TRY(make_meta(ctx, name, o, j->c, j->wants_exact, r, &m->meta));
    pith_status status = pith_out_open(ctx, target, &out);
    if (status != PITH_OK) return status;
    PITH_GOTO(pith_manifest_write(ctx, out, m), fail);
    if (j->wants_exact)
        PITH_GOTO(job_add_exact(j, a, order, &n_order, SMALLER * (double)r->source_bytes - (double)m->manifest_bytes, o->exact == PITH_EXACT_ALWAYS), fail);
    if (j->exact) PITH_GOTO(pith_manifest_write_exact(ctx, out, m), fail);
    PITH_GOTO(write_packets(j, out, order, r->source_bytes, &n_order), fail);
    PITH_GOTO(pith_manifest_patch(ctx, out, m), fail);
    r->code_s = pith_now_s() - start;
    start = pith_now_s();
    const char *so_far;
    PITH_GOTO(pith_out_so_far(out, &so_far), fail);
    uint64_t cuts[PITH_MAX_MEASURED];
    size_t n_cuts = o->no_measure || !so_far ? 0 : cuts_to_measure(m, cuts);
    for (size_t i = 0; i < n_cuts; i++) {
        pith_measured *row = &r->measured[i];
        row->bytes = cuts[i];
        row->predicted_kl = predicted_kl(j, order, n_order, cuts[i]);
        PITH_GOTO(measure_cut(ctx, so_far, cuts[i], source, j->c, &row->kl), fail);
        r->n_measured = i + 1;
        PITH_GOTO(pith_progress(ctx, "measure", i + 1, n_cuts), fail);
    }
    r->measure_s = pith_now_s() - start;
    pith_free(ctx, m->meta);
    m->meta = NULL;
    PITH_GOTO(make_meta(ctx, name, o, j->c, j->exact != NULL, r, &m->meta), fail);
    PITH_GOTO(pith_manifest_patch(ctx, out, m), fail);
    r->total_bytes = m->total_bytes;
    r->floor_bytes = m->floor_bytes;
    r->exact_bytes = m->exact_bytes;
    r->n_packets = n_order;
    r->n_tensors = m->n_tensors;
    for (size_t i = 0; i < m->n_tensors; i++) r->n_weights += (size_t)m->tensors[i].n_rows * m->tensors[i].n_cols;
    for (size_t i = 0; i < m->n_vectors; i++) r->n_weights += m->vectors[i].n;
    r->file_bytes = m->total_bytes;
    if (o->size || o->bits > 0 || o->kl > 0) {
        PITH_GOTO(pith_out_so_far(out, &so_far), fail);
        PITH_GOTO(pith_cut(ctx, so_far, target, o, &r->file_bytes), fail);
        pith_out_discard(out);
    } else {
        PITH_TRY(pith_out_close(out));
    }
    r->bits_per_weight = 8.0 * (double)r->file_bytes / (double)r->n_weights;
    return PITH_OK;
fail:
    pith_out_discard(out);
    return status;
}

static pith_status read_ids(pith_ctx *ctx, const pith_tokenizer *tok, const char *path, pith_ids *ids)
{
    pith_map text;
    PITH_TRY(pith_map_open(ctx, path, &text));
    pith_status status = pith_tokenize(ctx, tok, (const char *)text.data, PITH_MIN(text.len, (size_t)1 << 20), PITH_TOKENIZE_PLAIN, ids);
    if (status == PITH_OK && ids->n < 32) status = pith_fail(ctx, PITH_E_ARGUMENT, "%s: %zu tokens are too few to learn from; give some thousand words", path, ids->n);
    pith_map_close(ctx, &text);
    return status;
}

pith_status pith_compress(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *options, pith_compress_result *r)
{
    return pith_compress_study(ctx, source, target, options, NULL, r);
}

pith_status pith_compress_study(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *options, const pith_study *study, pith_compress_result *r)
{
    pith_compress_options o = options ? *options : (pith_compress_options){0};
    pith_model_file *file = NULL;
    pith_weights *w = NULL;
    pith_llama *model = NULL;
    pith_tokenizer *tok = NULL;
    pith_ids ids = {0};
    pith_calibration c = {0};
    pith_manifest manifest = {0};
    pith_arena *arena = NULL;
    job j = {.ctx = ctx, .kernels = pith_kernels_get(ctx), .isa = pith_ctx_cpu(ctx)->isa, .manifest = &manifest, .c = &c};
    *r = (pith_compress_result){0};
    double start = pith_now_s();
    pith_status status;
    PITH_GOTO(pith_out_check(ctx, target, source), done);
    PITH_GOTO(pith_source_open(ctx, source, &file, &(uint64_t){0}), done);
    PITH_GOTO(pith_weights_open(ctx, source, NULL, &w), done);
    PITH_GOTO(pith_llama_new(ctx, w, &model), done);
    PITH_GOTO(pith_tokenizer_new(ctx, &file->vocab, &tok), done);
    if (o.text) PITH_GOTO(read_ids(ctx, tok, o.text, &ids), done);
    pith_calibrate_options co = {.ids = ids.ids, .n_ids = ids.n, .seed = o.seed};
    PITH_GOTO(pith_calibrate(ctx, model, tok, &co, &c), done);
    r->calibrate_s = pith_now_s() - start;
    r->source_bytes = file->file_bytes;
    manifest.settings = model->s;
    manifest.vocab = file->vocab;
    if (!(arena = pith_arena_new(ctx))) {
        status = PITH_E_MEMORY;
        goto done;
    }
    status = compress_with(ctx, &j, arena, file, model, source, target, &o, study ? study : &(pith_study){0}, r);
done:
    for (size_t i = 0; j.packets && i < j.n_units * PITH_JOB_LEVELS; i++) pith_free(ctx, j.packets[i].data);
    for (size_t i = 0; j.exact && i < j.n_units; i++) pith_free(ctx, j.exact[i].data);
    pith_free(ctx, manifest.meta);
    pith_arena_free(arena);
    pith_calibration_free(ctx, &c);
    pith_ids_free(ctx, &ids);
    pith_tokenizer_free(ctx, tok);
    pith_llama_free(ctx, model);
    pith_weights_free(ctx, w);
    pith_model_file_close(ctx, file);
    return status;
}
