/* A llama from nothing, and to a folder. */
#include "model/llama_folder.h"

#include <math.h>

#include "format/hf_tokenizer.h"
#include "format/safetensors.h"
#include "format/settings.h"

/* ---- from nothing ----------------------------------------------------------------------------- */

pith_settings pith_llama_settings(uint32_t n_layers, uint32_t n_embd, uint32_t n_heads, uint32_t n_kv_heads, uint32_t n_ff, uint32_t n_ctx, uint32_t n_vocab, bool tied)
{
    pith_settings s;
    pith_settings_default(&s);
    snprintf(s.architecture, sizeof s.architecture, "llama");
    s.n_layers = n_layers;
    s.n_embd = n_embd;
    s.n_heads = n_heads;
    s.n_kv_heads = n_kv_heads;
    s.head_dim = s.rope_dims = n_heads ? n_embd / n_heads : 0;
    s.n_ff = n_ff;
    s.n_ctx = s.rope_original_ctx = n_ctx;
    s.n_vocab = n_vocab;
    s.rope_style = PITH_ROPE_HALVES;
    s.tied_embeddings = tied;
    return s;
}

/* A source of weights that makes them up. */
typedef struct fresh_weights {
    pith_weights w;
    pith_llama shape;            /* settings alone: for the list of weights */
    uint64_t seed;
} fresh_weights;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), n_end = strlen(end);
    return n >= n_end && strcmp(s + n - n_end, end) == 0;
}

/* Place of a name in the list of weights, among those that a fresh model has. */
static bool find(const fresh_weights *f, const char *name, size_t *i, pith_llama_weight *weight)
{
    pith_llama shape = f->shape;
    for (*i = 0; pith_llama_weight_at(&shape, *i, weight); ++*i) {
        if (strcmp(weight->name, name) != 0) continue;
        return !weight->optional || (strcmp(name, "output.weight") == 0 && !shape.s.tied_embeddings);
    }
    return false;
}

static bool fresh_has(pith_weights *w, const char *name)
{
    size_t i;
    pith_llama_weight weight;
    return find((fresh_weights *)w, name, &i, &weight);
}

static pith_status fresh_matrix(pith_ctx *ctx, pith_weights *w, const char *name, pith_operator **op)
{
    const fresh_weights *f = (fresh_weights *)w;
    size_t i, count;
    pith_llama_weight weight;
    if (!find(f, name, &i, &weight)) return pith_fail(ctx, PITH_E_FORMAT, "no matrix named %s", name);
    double deviation = 1 / sqrt((double)weight.n_cols);
    if (strcmp(name, "token_embd.weight") == 0) deviation = 0.02;
    if (ends_with(name, "attn_output.weight") || ends_with(name, "ffn_down.weight")) deviation /= sqrt(2.0 * f->shape.s.n_layers);
    float *x = pith_mul(weight.n_rows, weight.n_cols, &count) ? pith_array(ctx, count, sizeof *x) : pith_array(ctx, SIZE_MAX, 2);
    if (!x) return PITH_E_MEMORY;
    pith_rng rng = {.seed = f->seed, .stream = i};
    for (size_t k = 0; k < count; k++) x[k] = (float)deviation * pith_rng_normal(&rng);
    pith_tensor t = {.data = x, .dtype = PITH_F32, .n_dims = 2, .dims = {weight.n_rows, weight.n_cols}};
    pith_status status = pith_operator_from_tensor(ctx, &t, name, false, op);
    if (status != PITH_OK) {
        pith_free(ctx, x);
        return status;
    }
    (*op)->owner = x;
    (*op)->release = pith_free;
    return PITH_OK;
}

static pith_status fresh_vector(pith_ctx *ctx, pith_weights *w, const char *name, float *dst, size_t n)
{
    size_t i;
    pith_llama_weight weight;
    if (!find((fresh_weights *)w, name, &i, &weight) || weight.n_cols != n) return pith_fail(ctx, PITH_E_FORMAT, "no vector named %s of %zu values", name, n);
    for (size_t k = 0; k < n; k++) dst[k] = 1;
    return PITH_OK;
}

pith_status pith_llama_fresh(pith_ctx *ctx, const pith_settings *settings, uint64_t seed, pith_llama **model)
{
    fresh_weights f = {.w = {.settings = *settings, .matrix = fresh_matrix, .has = fresh_has, .vector = fresh_vector}, .shape = {.s = *settings}, .seed = seed};
    return pith_llama_new(ctx, &f.w, model);
}

/* ---- to a folder ------------------------------------------------------------------------------ */

typedef struct saving {
    pith_ctx *ctx;
    pith_llama *m;
    pith_dtype dtype;
    pith_safetensors_writer *w;
    float *rows;                 /* one at a time, [widest] */
    uint8_t *encoded;
} saving;

static bool is_there(const pith_llama *m, const pith_llama_weight *w)
{
    if (w->vector) return w->vector->x != NULL;
    return *w->matrix && !(w->matrix == &m->output && m->output == m->embedding);
}

static pith_status declare(saving *s, const pith_llama_weight *w)
{
    char name[64];
    if (!pith_hf_tensor_name_of(w->name, name))
        return pith_fail(s->ctx, PITH_E_UNSUPPORTED, "%s has no place in a model folder: the model was rotated or scaled to be coded; save the one it was made of", w->name);
    size_t dims[2] = {w->n_rows, w->n_cols};
    return pith_safetensors_declare(s->w, name, s->dtype, w->matrix ? 2 : 1, w->matrix ? dims : dims + 1);
}

/* Row r of the file is this row of ours: queries and keys rotated in neighbouring pairs are written by halves. */
static size_t row_of(const saving *s, const pith_llama_weight *w, size_t r)
{
    const pith_settings *set = &s->m->s;
    bool rotated = strstr(w->name, ".attn_q.") || strstr(w->name, ".attn_k.");
    if (set->rope_style != PITH_ROPE_PAIRS || !rotated) return r;
    size_t d = set->head_dim, half = d / 2;
    return r / d * d + r % d % half * 2 + r % d / half;
}

static pith_status write_row(saving *s, const char *name, const float *x, size_t n)
{
    size_t bytes;
    pith_status status = pith_dtype_bytes(s->dtype, n, &bytes) ? pith_blocks_from_f32(s->dtype, x, n, NULL, s->encoded) : PITH_E_SHAPE;
    if (status != PITH_OK) return pith_fail(s->ctx, status, "%s cannot be written as %s", name, pith_dtype_get((uint32_t)s->dtype)->name);
    return pith_safetensors_data(s->w, s->encoded, bytes);
}

static pith_status write_weight(saving *s, const pith_llama_weight *w)
{
    if (w->vector) {
        for (size_t i = 0; i < w->n_cols; i++) s->rows[i] = w->vector->x[row_of(s, w, i)];
        return write_row(s, w->name, s->rows, w->n_cols);
    }
    const pith_operator *op = *w->matrix;
    for (size_t r = 0; r < w->n_rows; r++) {
        op->kind->row(op, pith_kernels_get(s->ctx), row_of(s, w, r), s->rows);
        PITH_TRY(write_row(s, w->name, s->rows, w->n_cols));
    }
    return PITH_OK;
}

static pith_status write_weights(saving *s, const char *path)
{
    pith_llama_weight w;
    size_t widest = 1, n = 0;
    for (; pith_llama_weight_at(s->m, n, &w); n++) widest = PITH_MAX(widest, w.n_cols);
    pith_status status = PITH_E_MEMORY;
    s->rows = pith_array(s->ctx, widest, sizeof *s->rows);
    s->encoded = pith_array(s->ctx, widest, sizeof *s->rows);
    if (!s->rows || !s->encoded) goto done;
    PITH_GOTO(pith_safetensors_writer_open(s->ctx, path, &s->w), done);
    PITH_GOTO(pith_safetensors_put(s->w, "format", "pt"), done);
    for (size_t i = 0; pith_llama_weight_at(s->m, i, &w); i++)
        if (is_there(s->m, &w)) PITH_GOTO(declare(s, &w), done);
    for (size_t i = 0; pith_llama_weight_at(s->m, i, &w); i++) {
        PITH_GOTO(pith_progress(s->ctx, "saving", i, n), done);
        if (is_there(s->m, &w)) PITH_GOTO(write_weight(s, &w), done);
    }
    status = pith_safetensors_writer_close(s->w);
    s->w = NULL;
done:
    pith_safetensors_writer_discard(s->w);
    pith_free(s->ctx, s->rows);
    pith_free(s->ctx, s->encoded);
    return status;
}

pith_status pith_llama_save(pith_ctx *ctx, pith_llama *m, const pith_vocab *vocab, const char *folder, pith_dtype dtype)
{
    saving s = {.ctx = ctx, .m = m, .dtype = dtype};
    if (dtype != PITH_F32 && dtype != PITH_F16 && dtype != PITH_BF16) return pith_fail(ctx, PITH_E_UNSUPPORTED, "a model folder is written as F32, F16 or BF16");
    if (m->s.rope_style == PITH_ROPE_PAIRS && m->s.rope_dims != m->s.head_dim)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "%u of %u values of a head are rotated in pairs, which a model folder cannot say", m->s.rope_dims, m->s.head_dim);
    if (m->rope_divided) return pith_fail(ctx, PITH_E_UNSUPPORTED, "the model scales positions by a vector of its own, which a model folder cannot say");
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"};
    char *paths[PITH_COUNT(names)] = {NULL};
    pith_status status = pith_folder_make(ctx, folder);
    for (size_t i = 0; i < PITH_COUNT(names) && status == PITH_OK; i++)
        if (!(paths[i] = pith_format(ctx, "%s/%s", folder, names[i]))) status = PITH_E_MEMORY;
    if (status == PITH_OK && vocab) status = pith_hf_vocab_write(ctx, vocab, paths[1], paths[2]);
    if (status == PITH_OK) status = pith_hf_config_write(ctx, &m->s, dtype, vocab, paths[0]);
    if (status == PITH_OK) status = write_weights(&s, paths[3]);
    for (size_t i = 0; i < PITH_COUNT(names); i++) pith_free(ctx, paths[i]);
    return status;
}
