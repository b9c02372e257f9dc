/* The llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU (H. Touvron et al.,
 * arXiv:2302.13971 and 2307.09288); Qwen2 adds biases to q, k and v, Mistral a sliding window. */
#include "model/llama.h"

#include <math.h>

#define DEFAULT_BATCH 512
#define TOKENS_A_TASK 16     /* tokens normalised, rotated or gated in one task */
#define MIN_ROPE_ROWS 4096   /* positions whose angles are made at once */
#define MAX_LAYERS 4096
#define MAX_WIDTH ((size_t)1 << 24) /* of n_embd, n_ff and the heads together: products stay far from overflow */

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

static pith_status take_matrix(pith_ctx *ctx, pith_weights *w, pith_llama *m, const char *name, size_t n_rows, size_t n_cols, pith_operator **op)
{
    PITH_TRY(w->matrix(ctx, w, name, op));
    pith_operator *o = *op;
    if (o->n_cols != n_cols || (n_rows && o->n_rows != n_rows))
        return pith_fail(ctx, PITH_E_FORMAT, "%s is %zu x %zu, the settings say %zu x %zu", name, o->n_rows, o->n_cols, n_rows, n_cols);
    m->ram_bytes += o->kind->bytes(o);
    return PITH_OK;
}

static pith_status take_vector(pith_ctx *ctx, pith_weights *w, const char *name, size_t n, float **v)
{
    *v = pith_array(ctx, n, sizeof **v);
    return *v ? w->vector(ctx, w, name, *v, n) : PITH_E_MEMORY;
}

static pith_status take_transform(pith_ctx *ctx, pith_weights *w, pith_llama *m)
{
    size_t e = m->s.n_embd;
    float *x;
    pith_status status = take_vector(ctx, w, "output.transform", e * e, &x);
    pith_tensor t = {.data = x, .dtype = PITH_F32, .n_dims = 2, .dims = {e, e}};
    if (status == PITH_OK) status = pith_operator_from_tensor(ctx, &t, "output.transform", false, &m->output_transform);
    if (status != PITH_OK) {
        pith_free(ctx, x);
        return status;
    }
    m->output_transform->owner = x;
    m->output_transform->release = pith_free;
    m->ram_bytes += m->output_transform->kind->bytes(m->output_transform);
    return PITH_OK;
}

static pith_status take_layer(pith_ctx *ctx, pith_weights *w, pith_llama *m, uint32_t i)
{
    const pith_settings *s = &m->s;
    pith_llama_layer *l = &m->layers[i];
    size_t q_dim = (size_t)s->n_heads * s->head_dim, kv_dim = (size_t)s->n_kv_heads * s->head_dim;
    const struct {
        const char *name;
        size_t n_rows, n_cols;
        pith_operator **op;
    } matrices[] = {
        {"attn_q", q_dim, s->n_embd, &l->q}, {"attn_k", kv_dim, s->n_embd, &l->k}, {"attn_v", kv_dim, s->n_embd, &l->v}, {"attn_output", s->n_embd, q_dim, &l->o},
        {"ffn_gate", s->n_ff, s->n_embd, &l->gate}, {"ffn_up", s->n_ff, s->n_embd, &l->up}, {"ffn_down", s->n_embd, s->n_ff, &l->down},
    };
    const struct {
        const char *name;
        size_t n;
        bool optional;
        float **v;
    } vectors[] = {
        {"attn_norm.weight", s->n_embd, false, &l->attn_norm}, {"ffn_norm.weight", s->n_embd, false, &l->ffn_norm},
        {"attn_output.scale", q_dim, true, &l->o_scale}, {"ffn_down.scale", s->n_ff, true, &l->down_scale},
        {"attn_q.bias", q_dim, true, &l->q_bias}, {"attn_k.bias", kv_dim, true, &l->k_bias}, {"attn_v.bias", kv_dim, true, &l->v_bias},
    };
    char name[64];
    for (size_t k = 0; k < PITH_COUNT(matrices); k++) {
        snprintf(name, sizeof name, "blk.%u.%s.weight", i, matrices[k].name);
        PITH_TRY(take_matrix(ctx, w, m, name, matrices[k].n_rows, matrices[k].n_cols, matrices[k].op));
    }
    for (size_t k = 0; k < PITH_COUNT(vectors); k++) {
        snprintf(name, sizeof name, "blk.%u.%s", i, vectors[k].name);
        if (!vectors[k].optional || w->has(w, name)) PITH_TRY(take_vector(ctx, w, name, vectors[k].n, vectors[k].v));
    }
    return PITH_OK;
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
    char last[64];
    PITH_TRY(check_settings(ctx, s));
    PITH_TRY(check_no_extras(ctx, w));
    snprintf(last, sizeof last, "blk.%u.attn_q.weight", s->n_layers - 1);
    if (!w->has(w, last)) return pith_fail(ctx, PITH_E_FORMAT, "the settings say %u layers, but there is no %s", s->n_layers, last);
    m->layers = pith_calloc(ctx, s->n_layers, sizeof *m->layers);
    if (!m->layers) return PITH_E_MEMORY;
    PITH_TRY(take_matrix(ctx, w, m, "token_embd.weight", 0, s->n_embd, &m->embedding));
    if (s->n_vocab > m->embedding->n_rows)
        return pith_fail(ctx, PITH_E_FORMAT, "%u tokens, but token_embd.weight has %zu rows", s->n_vocab, m->embedding->n_rows);
    if (m->embedding->n_rows > INT32_MAX) return pith_fail(ctx, PITH_E_FORMAT, "token_embd.weight has %zu rows", m->embedding->n_rows);
    s->n_vocab = (uint32_t)m->embedding->n_rows;
    PITH_TRY(make_rope(ctx, w, m));
    for (uint32_t i = 0; i < s->n_layers; i++) {
        PITH_TRY(take_layer(ctx, w, m, i));
        PITH_TRY(pith_progress(ctx, "load", i + 1, s->n_layers));
    }
    PITH_TRY(take_vector(ctx, w, "output_norm.weight", s->n_embd, &m->output_norm));
    if (w->has(w, "token_embd.scale")) PITH_TRY(take_vector(ctx, w, "token_embd.scale", s->n_embd, &m->embedding_scale));
    if (w->has(w, "output.transform")) PITH_TRY(take_transform(ctx, w, m));
    m->output = m->embedding;
    if (w->has(w, "output.weight")) {
        m->output = NULL;
        PITH_TRY(take_matrix(ctx, w, m, "output.weight", s->n_vocab, s->n_embd, &m->output));
    }
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
    for (uint32_t i = 0; m->layers && i < m->s.n_layers; i++) {
        pith_llama_layer *l = &m->layers[i];
        pith_operator *ops[] = {l->q, l->k, l->v, l->o, l->gate, l->up, l->down};
        float *vectors[] = {l->attn_norm, l->ffn_norm, l->q_bias, l->k_bias, l->v_bias, l->o_scale, l->down_scale};
        for (size_t k = 0; k < PITH_COUNT(ops); k++) pith_operator_free(ctx, ops[k]);
        for (size_t k = 0; k < PITH_COUNT(vectors); k++) pith_free(ctx, vectors[k]);
    }
    if (m->output != m->embedding) pith_operator_free(ctx, m->output);
    pith_operator_free(ctx, m->embedding);
    pith_free(ctx, m->embedding_scale);
    pith_operator_free(ctx, m->output_transform);
    pith_free(ctx, m->output_norm);
    pith_free(ctx, m->layers);
    pith_free(ctx, m->rope_freq);
    pith_free(ctx, m->rope_cos);
    pith_free(ctx, m->rope_sin);
    pith_free(ctx, m);
}

/* ---- running ---------------------------------------------------------------------------------- */

/* Angles for positions below n; limit: the most that will ever be asked. */
static pith_status ready_rope(pith_ctx *ctx, pith_llama *m, size_t n, size_t limit)
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

/* One batch of tokens on its way through the layers.  All arrays are [n, …] f32. */
typedef struct batch {
    pith_ctx *ctx;
    pith_llama *m;
    const pith_llama_layer *l;
    const pith_kernels *kernels;
    const int32_t *ids;
    size_t n, pos0;
    float *x;                 /* [n_embd] residual stream */
    float *h;                 /* [n_embd] normalised input of the next operators; then what they add to x */
    float *q, *k, *v, *att;   /* [n_heads or n_kv_heads, head_dim] */
    float *gate, *up;         /* [n_ff], over q … att, which are done with by then */
    const float *norm;        /* gain of the next norm */
} batch;

typedef void token_step(batch *b, size_t i0, size_t i1);
typedef struct step_job {
    batch *b;
    token_step *step;
} step_job;

static void run_step(void *arg, size_t task, int worker)
{
    (void)worker;
    const step_job *j = arg;
    j->step(j->b, task * TOKENS_A_TASK, PITH_MIN((task + 1) * TOKENS_A_TASK, j->b->n));
}

/* What is done for each token on its own, over the threads when there are many. */
static void each_token(batch *b, token_step *step)
{
    step_job job = {b, step};
    pith_parallel(b->ctx, PITH_CEIL_DIV(b->n, TOKENS_A_TASK), run_step, &job);
}

static void look_up(batch *b, size_t i0, size_t i1)
{
    const pith_llama *m = b->m;
    size_t e = m->s.n_embd;
    for (size_t i = i0; i < i1; i++) {
        float *x = b->x + i * e;
        m->embedding->kind->row(m->embedding, b->kernels, (size_t)b->ids[i], x);
        for (size_t c = 0; m->embedding_scale && c < e; c++) x[c] *= m->embedding_scale[c];
        b->kernels->rmsnorm(b->h + i * e, x, b->norm, e, m->s.norm_eps);
    }
}

static void add_and_norm(batch *b, size_t i0, size_t i1)
{
    size_t e = b->m->s.n_embd;
    for (size_t i = i0; i < i1; i++) {
        b->kernels->axpy(b->x + i * e, b->h + i * e, 1, e);
        b->kernels->rmsnorm(b->h + i * e, b->x + i * e, b->norm, e, b->m->s.norm_eps);
    }
}

static void add_bias(const batch *b, float *x, const float *bias, size_t n)
{
    if (bias) b->kernels->axpy(x, bias, 1, n);
}

static void bias_and_rotate(batch *b, size_t i0, size_t i1)
{
    const pith_settings *s = &b->m->s;
    size_t d = s->head_dim, half = s->rope_dims / 2, q_dim = s->n_heads * d, kv_dim = s->n_kv_heads * d;
    bool pairs = s->rope_style == PITH_ROPE_PAIRS;
    for (size_t i = i0; i < i1; i++) {
        const float *c = b->m->rope_cos + (b->pos0 + i) * half, *sn = b->m->rope_sin + (b->pos0 + i) * half;
        float *q = b->q + i * q_dim, *k = b->k + i * kv_dim;
        add_bias(b, q, b->l->q_bias, q_dim);
        add_bias(b, k, b->l->k_bias, kv_dim);
        add_bias(b, b->v + i * kv_dim, b->l->v_bias, kv_dim);
        for (size_t h = 0; h < s->n_heads && half; h++) b->kernels->rope(q + h * d, c, sn, 2 * half, pairs);
        for (size_t h = 0; h < s->n_kv_heads && half; h++) b->kernels->rope(k + h * d, c, sn, 2 * half, pairs);
    }
}

static void scale_columns(float *x, const float *scale, size_t n, size_t cols)
{
    for (size_t i = 0; scale && i < n; i++)
        for (size_t c = 0; c < cols; c++) x[i * cols + c] *= scale[c];
}

static void gate_up(batch *b, size_t i0, size_t i1)
{
    size_t f = b->m->s.n_ff;
    b->kernels->silu_mul(b->gate + i0 * f, b->gate + i0 * f, b->up + i0 * f, (i1 - i0) * f);
    scale_columns(b->gate + i0 * f, b->l->down_scale, i1 - i0, f);
}

static void scale_attention(batch *b, size_t i0, size_t i1)
{
    size_t q_dim = (size_t)b->m->s.n_heads * b->m->s.head_dim;
    scale_columns(b->att + i0 * q_dim, b->l->o_scale, i1 - i0, q_dim);
}

/* y[k] = ops[k] x for operators that share an input; the tap hears each of them. */
static pith_status multiply(batch *b, const pith_operator *const *ops, size_t n_ops, const float *x, float *const *y)
{
    pith_input in = {.x = x, .n = b->n, .cols = ops[0]->n_cols};
    for (size_t k = 0; k < n_ops && b->m->tap; k++) b->m->tap(b->m->tap_user, ops[k], x, in.n, in.cols);
    pith_mark mark = pith_arena_mark(pith_scratch(b->ctx));
    pith_status status = pith_operators_apply(b->ctx, ops, n_ops, &in, y);
    pith_arena_reset(pith_scratch(b->ctx), mark);
    return status;
}

/* Let go of all but the last n tokens: their keys and values are stored, and nobody asks for more of them. */
static void keep_last(batch *b, size_t n)
{
    size_t gone = b->n - n;
    b->q += gone * b->m->s.n_heads * b->m->s.head_dim;
    b->x += gone * b->m->s.n_embd;
    b->pos0 += gone;
    b->n = n;
}

/* One layer.  b->h holds the normalised input, and on return that of what follows (norm: its gain).
 * n_out: tokens whose result is needed. */
static pith_status run_layer(batch *b, pith_cache *cache, size_t i_layer, size_t n_out, const float *norm)
{
    const pith_settings *s = &b->m->s;
    const pith_llama_layer *l = b->l = &b->m->layers[i_layer];
    PITH_TRY(multiply(b, (const pith_operator *const[]){l->q, l->k, l->v}, 3, b->h, (float *const[]){b->q, b->k, b->v}));
    each_token(b, bias_and_rotate);
    PITH_TRY(cache->kind->append(b->ctx, cache, i_layer, b->k, b->v, b->n));
    keep_last(b, n_out);
    if (b->n == 0) return PITH_OK;
    PITH_TRY(cache->kind->attend(b->ctx, cache, i_layer, b->q, b->n, s->n_heads, b->pos0, s->sliding_window, 1 / sqrtf((float)s->head_dim), b->att));
    if (l->o_scale) each_token(b, scale_attention);
    PITH_TRY(multiply(b, (const pith_operator *const[]){l->o}, 1, b->att, &b->h));
    b->norm = l->ffn_norm;
    each_token(b, add_and_norm);
    PITH_TRY(multiply(b, (const pith_operator *const[]){l->gate, l->up}, 2, b->h, (float *const[]){b->gate, b->up}));
    each_token(b, gate_up);
    PITH_TRY(multiply(b, (const pith_operator *const[]){l->down}, 1, b->gate, &b->h));
    b->norm = norm;
    each_token(b, add_and_norm);
    return PITH_OK;
}

/* One batch through all layers; the last n_out normalised states to hidden [n_out, n_embd]. */
static pith_status run_batch(pith_ctx *ctx, pith_llama *m, pith_cache *cache, const int32_t *ids, size_t n, size_t n_out, float *hidden)
{
    const pith_settings *s = &m->s;
    size_t e = s->n_embd, q_dim = (size_t)s->n_heads * s->head_dim, kv_dim = (size_t)s->n_kv_heads * s->head_dim;
    size_t attention = 2 * q_dim + 2 * kv_dim, feed = 2 * (size_t)s->n_ff, per_token = 2 * e + PITH_MAX(attention, feed), bytes;
    if (!pith_mul(n, per_token * sizeof(float), &bytes)) bytes = SIZE_MAX;
    float *memory = pith_arena_take(pith_scratch(ctx), bytes);
    if (!memory) return PITH_E_MEMORY;
    float *inner = memory + 2 * n * e;
    batch b = {.ctx = ctx, .m = m, .kernels = pith_kernels_get(ctx), .ids = ids, .n = n, .pos0 = cache->n, .x = memory, .h = memory + n * e,
               .q = inner, .k = inner + n * q_dim, .v = inner + n * (q_dim + kv_dim), .att = inner + n * (q_dim + 2 * kv_dim),
               .gate = inner, .up = inner + n * s->n_ff, .norm = m->layers[0].attn_norm};
    each_token(&b, look_up);
    for (size_t i = 0; i < s->n_layers; i++) {
        bool last = i + 1 == s->n_layers;
        /* A listener gets all tokens at every operator; else the last layer works only for those asked. */
        PITH_TRY(run_layer(&b, cache, i, last && !m->tap ? n_out : n, last ? m->output_norm : m->layers[i + 1].attn_norm));
    }
    if (n_out) memcpy(hidden, b.h + (b.n - n_out) * e, n_out * e * sizeof *hidden);
    return PITH_OK;
}

static pith_status check_ids(pith_ctx *ctx, const pith_llama *m, const pith_cache *cache, const int32_t *ids, size_t n)
{
    const pith_settings *s = &m->s;
    if (cache->n_layers != s->n_layers || cache->n_kv_heads != s->n_kv_heads || cache->head_dim != s->head_dim)
        return pith_fail(ctx, PITH_E_SHAPE, "the cache was made for another model");
    if (n > cache->capacity - cache->n)
        return pith_fail(ctx, PITH_E_LIMIT, "%zu tokens after %zu do not fit into a context of %zu", n, cache->n, cache->capacity);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->n_vocab)
            return pith_fail(ctx, PITH_E_ARGUMENT, "token %zu has id %d, the model knows 0 to %u", i, (int)ids[i], s->n_vocab - 1);
    return PITH_OK;
}

pith_status pith_llama_hidden(pith_ctx *ctx, pith_llama *m, pith_cache *cache, const int32_t *ids, size_t n, size_t n_out, float *hidden)
{
    if (n_out > n) return pith_fail(ctx, PITH_E_ARGUMENT, "results of %zu tokens asked of %zu", n_out, n);
    PITH_TRY(check_ids(ctx, m, cache, ids, n));
    PITH_TRY(ready_rope(ctx, m, cache->n + n, cache->capacity));
    size_t start = cache->n, most = PITH_MAX(m->n_batch, 1);
    for (size_t i = 0; i < n;) {
        size_t len = PITH_MIN(n - i, most), first_out = n - n_out; /* tokens from first_out on have results */
        size_t out = i + len > first_out ? i + len - PITH_MAX(first_out, i) : 0;
        pith_mark mark = pith_arena_mark(pith_scratch(ctx));
        pith_status status = run_batch(ctx, m, cache, ids + i, len, out, hidden);
        pith_arena_reset(pith_scratch(ctx), mark);
        if (status != PITH_OK) {
            cache->kind->truncate(cache, start);
            return status;
        }
        if (out) hidden += out * m->s.n_embd;
        i += len;
    }
    return PITH_OK;
}

pith_status pith_llama_logits(pith_ctx *ctx, pith_llama *m, const float *hidden, size_t n, float *logits)
{
    batch b = {.ctx = ctx, .m = m};
    size_t most = PITH_MAX(m->n_batch, 1), e = m->s.n_embd;
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    float *moved = m->output_transform ? pith_arena_take(pith_scratch(ctx), PITH_MIN(n, most) * e * sizeof *moved) : NULL;
    pith_status status = m->output_transform && !moved ? PITH_E_MEMORY : PITH_OK;
    for (size_t i = 0; i < n && status == PITH_OK; i += b.n) {
        const float *x = hidden + i * e;
        b.n = PITH_MIN(n - i, most);
        if (moved) status = multiply(&b, (const pith_operator *const[]){m->output_transform}, 1, x, &moved);
        if (status == PITH_OK) status = multiply(&b, (const pith_operator *const[]){m->output}, 1, moved ? moved : x, (float *const[]){logits + i * m->s.n_vocab});
    }
    pith_arena_reset(pith_scratch(ctx), mark);
    return status;
}

pith_status pith_llama_forward(pith_ctx *ctx, pith_llama *m, pith_cache *cache, const int32_t *ids, size_t n, size_t n_logits, float *logits)
{
    if (!logits) n_logits = 0;
    if (n_logits > n) return pith_fail(ctx, PITH_E_ARGUMENT, "logits of %zu tokens asked of %zu", n_logits, n);
    size_t start = cache->n;
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    float *hidden = NULL;
    pith_status status = PITH_OK;
    if (n_logits && !(hidden = pith_arena_take(pith_scratch(ctx), n_logits * m->s.n_embd * sizeof *hidden))) status = PITH_E_MEMORY;
    if (status == PITH_OK) status = pith_llama_hidden(ctx, m, cache, ids, n, n_logits, hidden);
    if (status == PITH_OK) status = pith_llama_logits(ctx, m, hidden, n_logits, logits);
    if (status != PITH_OK && cache->n > start) cache->kind->truncate(cache, start);
    pith_arena_reset(pith_scratch(ctx), mark);
    return status;
}

pith_status pith_llama_cache(pith_ctx *ctx, const pith_llama *m, pith_cache_type type, size_t capacity, pith_cache **cache)
{
    if (capacity > m->s.n_ctx)
        return pith_fail(ctx, PITH_E_LIMIT, "a context of %zu tokens was asked, the model was made for %u", capacity, m->s.n_ctx);
    return pith_cache_new(ctx, type, m->s.n_layers, m->s.n_kv_heads, m->s.head_dim, capacity ? capacity : m->s.n_ctx, cache);
}
