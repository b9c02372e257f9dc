/* The llama family: settings, weights, and the angles of its positions.  What is computed: llama_network.c. */
#include <math.h>

#include "model/llama_network.h"

#define DEFAULT_BATCH 512
#define MIN_ROPE_ROWS 4096   /* positions whose angles are made at once */
#define MAX_LAYERS 4096
#define MAX_WIDTH ((size_t)1 << 24) /* of n_embd, n_ff and the heads together: products stay far from overflow */

/* ---- weights ---------------------------------------------------------------------------------- */

typedef enum width { ONE, N_VOCAB, N_EMBD, N_FF, Q_DIM, KV_DIM } width;

typedef struct entry {
    const char *name;
    size_t offset;           /* of a pith_operator * where `matrix`, else of a pith_llama_vector */
    width rows, cols;
    bool matrix, optional;
} entry;

#define MATRIX(of, name, field, rows, cols, optional) {name, offsetof(of, field), rows, cols, true, optional}
#define VECTOR(of, name, field, cols, optional) {name, offsetof(of, field), ONE, cols, false, optional}

static const entry whole[] = {
    MATRIX(pith_llama, "token_embd.weight", embedding, N_VOCAB, N_EMBD, false),
    VECTOR(pith_llama, "token_embd.scale", embedding_scale, N_EMBD, true),
    VECTOR(pith_llama, "output_norm.weight", output_norm, N_EMBD, false),
    MATRIX(pith_llama, "output.transform", output_transform, N_EMBD, N_EMBD, true),
    MATRIX(pith_llama, "output.weight", output, N_VOCAB, N_EMBD, true),
};
static const entry in_layer[] = {
    VECTOR(pith_llama_layer, "attn_norm.weight", attn_norm, N_EMBD, false),
    MATRIX(pith_llama_layer, "attn_q.weight", q, Q_DIM, N_EMBD, false),
    VECTOR(pith_llama_layer, "attn_q.bias", q_bias, Q_DIM, true),
    MATRIX(pith_llama_layer, "attn_k.weight", k, KV_DIM, N_EMBD, false),
    VECTOR(pith_llama_layer, "attn_k.bias", k_bias, KV_DIM, true),
    MATRIX(pith_llama_layer, "attn_v.weight", v, KV_DIM, N_EMBD, false),
    VECTOR(pith_llama_layer, "attn_v.bias", v_bias, KV_DIM, true),
    MATRIX(pith_llama_layer, "attn_output.weight", o, N_EMBD, Q_DIM, false),
    VECTOR(pith_llama_layer, "attn_output.scale", o_scale, Q_DIM, true),
    VECTOR(pith_llama_layer, "ffn_norm.weight", ffn_norm, N_EMBD, false),
    MATRIX(pith_llama_layer, "ffn_gate.weight", gate, N_FF, N_EMBD, false),
    MATRIX(pith_llama_layer, "ffn_up.weight", up, N_FF, N_EMBD, false),
    MATRIX(pith_llama_layer, "ffn_down.weight", down, N_EMBD, N_FF, false),
    VECTOR(pith_llama_layer, "ffn_down.scale", down_scale, N_FF, true),
};

static size_t width_of(const pith_settings *s, width w)
{
    const size_t widths[] = {[ONE] = 1, [N_VOCAB] = s->n_vocab, [N_EMBD] = s->n_embd, [N_FF] = s->n_ff,
                             [Q_DIM] = (size_t)s->n_heads * s->head_dim, [KV_DIM] = (size_t)s->n_kv_heads * s->head_dim};
    return widths[w];
}

bool pith_llama_weight_at(pith_llama *m, size_t i, pith_llama_weight *w)
{
    size_t i_layer = i < PITH_COUNT(whole) ? 0 : (i - PITH_COUNT(whole)) / PITH_COUNT(in_layer);
    if (i_layer >= m->s.n_layers) return false;
    const entry *e = i < PITH_COUNT(whole) ? &whole[i] : &in_layer[(i - PITH_COUNT(whole)) % PITH_COUNT(in_layer)];
    char *base = i < PITH_COUNT(whole) ? (char *)m : m->layers ? (char *)&m->layers[i_layer] : NULL;
    *w = (pith_llama_weight){.n_rows = width_of(&m->s, e->rows), .n_cols = width_of(&m->s, e->cols), .optional = e->optional};
    if (i < PITH_COUNT(whole)) snprintf(w->name, sizeof w->name, "%s", e->name);
    else snprintf(w->name, sizeof w->name, "blk.%zu.%s", i_layer, e->name);
    if (base && e->matrix) w->matrix = (pith_operator **)(void *)(base + e->offset);
    if (base && !e->matrix) w->vector = (pith_llama_vector *)(void *)(base + e->offset);
    return true;
}

/* ---- building --------------------------------------------------------------------------------- */

static pith_status check_settings(pith_ctx *ctx, const pith_settings *s)
{
    static const char *const known[] = {"llama", "qwen2", "mistral"};
    bool ok = false;
    for (size_t i = 0; i < PITH_COUNT(known); i++) ok |= strcmp(s->architecture, known[i]) == 0;
    if (!ok)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "the network is of architecture '%s'; llama, qwen2 and mistral can be run", s->architecture);
    if (!s->n_layers || s->n_layers > MAX_LAYERS || !s->n_embd || s->n_embd > MAX_WIDTH || !s->n_ff || s->n_ff > MAX_WIDTH || !s->n_ctx)
        return pith_fail(ctx, PITH_E_FORMAT, "settings out of range: %u layers, width %u, feed-forward width %u, context %u", s->n_layers, s->n_embd,
                         s->n_ff, s->n_ctx);
    if (!s->n_heads || !s->n_kv_heads || !s->head_dim || s->n_heads % s->n_kv_heads || (size_t)s->n_heads * s->head_dim > MAX_WIDTH)
        return pith_fail(ctx, PITH_E_FORMAT, "settings out of range: %u heads over %u heads of keys, %u values each", s->n_heads, s->n_kv_heads, s->head_dim);
    if (s->rope_dims > s->head_dim || s->rope_dims % 2)
        return pith_fail(ctx, PITH_E_FORMAT, "settings out of range: %u of %u values of a head are rotated", s->rope_dims, s->head_dim);
    if (!(s->norm_eps >= 0 && s->norm_eps < 1) || !(s->rope_base > 0 && isfinite(s->rope_base)))
        return pith_fail(ctx, PITH_E_FORMAT, "settings out of range: norm epsilon %g, rope base %g", (double)s->norm_eps, (double)s->rope_base);
    if (s->rope_scaling != PITH_ROPE_PLAIN && !(s->rope_factor > 0 && isfinite(s->rope_factor)))
        return pith_fail(ctx, PITH_E_FORMAT, "settings out of range: rope scaling by %g", (double)s->rope_factor);
    return PITH_OK;
}

/* Tensors that other members of the family have and that would change the result if we ignored them. */
static pith_status check_no_extras(pith_ctx *ctx, pith_weights *w)
{
    static const char *const extras[] = {"attn_output.bias", "attn_q_norm.weight", "attn_k_norm.weight", "attn_norm.bias", "ffn_norm.bias",
                                         "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias", "ffn_gate_inp.weight", "attn_sinks.weight",
                                         "post_attention_norm.weight", "post_ffw_norm.weight"};
    char name[64];
    for (size_t i = 0; i < PITH_COUNT(extras); i++) {
        snprintf(name, sizeof name, "blk.0.%s", extras[i]);
        if (w->has(w, name)) return pith_fail(ctx, PITH_E_UNSUPPORTED, "the model has %s, which this definition of its architecture does not use", name);
    }
    if (w->has(w, "output.bias")) return pith_fail(ctx, PITH_E_UNSUPPORTED, "the model has output.bias, which this definition of its architecture does not use");
    return PITH_OK;
}

static pith_status take_matrix(pith_ctx *ctx, pith_weights *w, pith_llama *m, const pith_llama_weight *it)
{
    PITH_TRY(w->matrix(ctx, w, it->name, it->matrix));
    pith_operator *o = *it->matrix;
    bool embedding = it->matrix == &m->embedding; /* its rows are the vocabulary, which the settings may undercount */
    if (embedding && it->n_rows > o->n_rows)
        return pith_fail(ctx, PITH_E_FORMAT, "%zu tokens, but %s has %zu rows", it->n_rows, it->name, o->n_rows);
    if (embedding && o->n_rows > INT32_MAX) return pith_fail(ctx, PITH_E_FORMAT, "%s has %zu rows", it->name, o->n_rows);
    if (embedding) m->s.n_vocab = (uint32_t)o->n_rows;
    if (o->n_cols != it->n_cols || (o->n_rows != it->n_rows && !embedding))
        return pith_fail(ctx, PITH_E_FORMAT, "%s is %zu x %zu, the settings say %zu x %zu", it->name, o->n_rows, o->n_cols, it->n_rows, it->n_cols);
    m->ram_bytes += o->kind->bytes(o);
    return PITH_OK;
}

static pith_status take_vector(pith_ctx *ctx, pith_weights *w, const char *name, size_t n, float **v)
{
    *v = pith_array(ctx, n, sizeof **v);
    return *v ? w->vector(ctx, w, name, *v, n) : PITH_E_MEMORY;
}

/* The transform comes as a vector of n_embd^2 values, as no source of weights has it in another form. */
static pith_status take_transform(pith_ctx *ctx, pith_weights *w, pith_llama *m, const pith_llama_weight *it)
{
    size_t e = it->n_cols;
    float *x;
    pith_status status = take_vector(ctx, w, it->name, e * e, &x);
    pith_tensor t = {.data = x, .dtype = PITH_F32, .n_dims = 2, .dims = {e, e}};
    if (status == PITH_OK) status = pith_operator_from_tensor(ctx, &t, it->name, false, it->matrix);
    if (status != PITH_OK) {
        pith_free(ctx, x);
        return status;
    }
    m->output_transform->owner = x;
    m->output_transform->release = pith_free;
    m->ram_bytes += m->output_transform->kind->bytes(m->output_transform);
    return PITH_OK;
}

static pith_status take_weight(pith_ctx *ctx, pith_weights *w, pith_llama *m, const pith_llama_weight *it)
{
    if (it->optional && !w->has(w, it->name)) return PITH_OK;
    if (it->vector) return take_vector(ctx, w, it->name, it->n_cols, &it->vector->x);
    return it->matrix == &m->output_transform ? take_transform(ctx, w, m, it) : take_matrix(ctx, w, m, it);
}

/* The pair index at which a wave turns `turns` times within the context the model was trained on
 * (YaRN's correction dimension). */
static double yarn_pair(const pith_settings *s, double turns)
{
    return s->rope_dims * log(s->rope_original_ctx / (turns * 2 * M_PI)) / (2 * log((double)s->rope_base));
}

/* Radians a position for each rotated pair.  Plain: base^(-2i/d).  Linear: S. Chen et al., arXiv:2306.15595.
 * llama3: by wavelength, as published with Llama 3.1.  YaRN: B. Peng et al., arXiv:2309.00071, where
 * low waves are interpolated, high ones kept, and q and k grow by 0.1 ln(factor) + 1. */
static pith_status make_rope(pith_ctx *ctx, pith_weights *w, pith_llama *m)
{
    const pith_settings *s = &m->s;
    size_t n = s->rope_dims / 2;
    m->rope_magnitude = 1;
    m->rope_freq = pith_array(ctx, n, sizeof *m->rope_freq);
    if (!m->rope_freq) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) m->rope_freq[i] = (float)pow((double)s->rope_base, -2.0 * (double)i / s->rope_dims);

    /* A file made for Llama 3 carries its scaling as a vector of divisors; the settings' word for it is the same thing. */
    if (n && w->has(w, "rope_freqs.weight")) {
        float *divisors = NULL;
        pith_status status = take_vector(ctx, w, "rope_freqs.weight", n, &divisors);
        for (size_t i = 0; i < n && status == PITH_OK; i++) {
            if (divisors[i] > 0) m->rope_freq[i] /= divisors[i];
            else status = pith_fail(ctx, PITH_E_FORMAT, "rope_freqs.weight[%zu] is %g, a divisor above 0 is needed", i, (double)divisors[i]);
        }
        pith_free(ctx, divisors);
        m->rope_divided = s->rope_scaling != PITH_ROPE_LLAMA3;
        if (status != PITH_OK || s->rope_scaling == PITH_ROPE_LLAMA3) return status;
    }

    double factor = (double)s->rope_factor, original = s->rope_original_ctx ? s->rope_original_ctx : s->n_ctx;
    if (s->rope_scaling == PITH_ROPE_LINEAR) {
        for (size_t i = 0; i < n; i++) m->rope_freq[i] = (float)((double)m->rope_freq[i] / factor);
    } else if (s->rope_scaling == PITH_ROPE_LLAMA3) {
        double low = (double)s->rope_low_freq_factor, high = (double)s->rope_high_freq_factor;
        if (!(low > 0 && high > low)) return pith_fail(ctx, PITH_E_FORMAT, "rope scaling llama3: frequency factors %g and %g", low, high);
        for (size_t i = 0; i < n; i++) {
            double f = (double)m->rope_freq[i], turns = original * f / (2 * M_PI);
            double keep = (turns - low) / (high - low); /* 1: as it is, 0: divided by factor */
            keep = PITH_MIN(PITH_MAX(keep, 0), 1);
            m->rope_freq[i] = (float)(keep * f + (1 - keep) * f / factor);
        }
    } else if (s->rope_scaling == PITH_ROPE_YARN) {
        pith_settings y = *s;
        y.rope_original_ctx = (uint32_t)original;
        double low = floor(yarn_pair(&y, (double)s->rope_beta_fast)), high = ceil(yarn_pair(&y, (double)s->rope_beta_slow));
        if (!(s->rope_beta_slow > 0 && s->rope_beta_fast > s->rope_beta_slow && s->rope_base > 1))
            return pith_fail(ctx, PITH_E_FORMAT, "rope scaling yarn: beta %g and %g, base %g", (double)s->rope_beta_fast, (double)s->rope_beta_slow, (double)s->rope_base);
        low = PITH_MAX(low, 0);
        high = PITH_MIN(high, (double)s->rope_dims - 1);
        for (size_t i = 0; i < n; i++) {
            double f = (double)m->rope_freq[i], ramp = ((double)i - low) / PITH_MAX(high - low, 0.001);
            ramp = PITH_MIN(PITH_MAX(ramp, 0), 1); /* 0: as it is, 1: divided by factor */
            m->rope_freq[i] = (float)((1 - ramp) * f + ramp * f / factor);
        }
        m->rope_magnitude = s->rope_attn_factor > 0 ? s->rope_attn_factor : factor > 1 ? (float)(0.1 * log(factor) + 1) : 1;
    }
    return PITH_OK;
}

static pith_status build(pith_ctx *ctx, pith_weights *w, pith_llama *m)
{
    pith_settings *s = &m->s;
    pith_llama_weight it;
    char last[64];
    PITH_TRY(check_settings(ctx, s));
    PITH_TRY(check_no_extras(ctx, w));
    snprintf(last, sizeof last, "blk.%u.attn_q.weight", s->n_layers - 1);
    if (!w->has(w, last)) return pith_fail(ctx, PITH_E_FORMAT, "the settings say %u layers, but there is no %s", s->n_layers, last);
    m->layers = pith_calloc(ctx, s->n_layers, sizeof *m->layers);
    if (!m->layers) return PITH_E_MEMORY;
    PITH_TRY(make_rope(ctx, w, m));
    size_t n = 0;
    while (pith_llama_weight_at(m, n, &it)) n++;
    for (size_t i = 0; pith_llama_weight_at(m, i, &it); i++) {
        PITH_TRY(take_weight(ctx, w, m, &it));
        PITH_TRY(pith_progress(ctx, "load", i + 1, n));
    }
    if (!m->output) m->output = m->embedding;
    s->tied_embeddings = m->output == m->embedding;
    return PITH_OK;
}

pith_status pith_llama_new(pith_ctx *ctx, pith_weights *w, pith_llama **model)
{
    pith_llama *m = pith_calloc(ctx, 1, sizeof *m);
    if (!m) return PITH_E_MEMORY;
    m->s = w->settings;
    m->n_batch = DEFAULT_BATCH;
    pith_status status = build(ctx, w, m);
    if (status != PITH_OK) {
        pith_llama_free(ctx, m);
        return status;
    }
    *model = m;
    return PITH_OK;
}

void pith_llama_free(pith_ctx *ctx, pith_llama *m)
{
    if (!m) return;
    if (!m->layers) m->s.n_layers = 0; /* settings refused: nothing was taken */
    if (m->output == m->embedding) m->output = NULL;
    pith_llama_weight it;
    for (size_t i = 0; pith_llama_weight_at(m, i, &it); i++) {
        if (it.matrix) pith_operator_free(ctx, *it.matrix);
        if (it.vector && !it.vector->param) pith_free(ctx, it.vector->x);
    }
    pith_free(ctx, m->layers);
    pith_free(ctx, m->rope_freq);
    pith_free(ctx, m->rope_cos);
    pith_free(ctx, m->rope_sin);
    pith_free(ctx, m);
}

/* ---- for the engines -------------------------------------------------------------------------- */

pith_status llama_ready_rope(pith_ctx *ctx, pith_llama *m, size_t n, size_t limit)
{
    if (n <= m->n_rope) return PITH_OK;
    size_t half = m->s.rope_dims / 2, rows = PITH_MIN(PITH_MAX(PITH_MAX(n, 2 * m->n_rope), MIN_ROPE_ROWS), PITH_MAX(limit, n));
    size_t bytes;
    if (!pith_mul(rows, half * sizeof(float), &bytes)) bytes = SIZE_MAX;
    float *cosines = pith_resize(ctx, m->rope_cos, bytes);
    if (!cosines) return PITH_E_MEMORY;
    m->rope_cos = cosines;
    float *sines = pith_resize(ctx, m->rope_sin, bytes);
    if (!sines) return PITH_E_MEMORY; /* n_rope still counts rows that both tables have */
    m->rope_sin = sines;
    for (size_t pos = m->n_rope; pos < rows; pos++) {
        for (size_t i = 0; i < half; i++) {
            double angle = (double)pos * (double)m->rope_freq[i];
            cosines[pos * half + i] = (float)cos(angle) * m->rope_magnitude;
            sines[pos * half + i] = (float)sin(angle) * m->rope_magnitude;
        }
    }
    m->n_rope = rows;
    return PITH_OK;
}

pith_status llama_check_ids(pith_ctx *ctx, const pith_llama *m, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= m->s.n_vocab)
            return pith_fail(ctx, PITH_E_ARGUMENT, "token %zu has id %d, the model knows 0 to %u", i, (int)ids[i], m->s.n_vocab - 1);
    return PITH_OK;
}
