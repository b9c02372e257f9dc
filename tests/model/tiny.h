/* A llama of a few thousand random weights as a source of weights, and the same network written down
 * plainly in double precision. */
#ifndef PITH_TEST_TINY_H
#define PITH_TEST_TINY_H

#include <math.h>

#include "model/llama.h"
#include "test.h"

#define TINY_TENSORS 64

typedef enum tiny_form { TINY_F32, TINY_F16, TINY_BF16, TINY_QMAT } tiny_form;

typedef struct tiny_tensor {
    char name[48];
    size_t rows, cols;       /* a vector has one row */
    float *x;                /* values as they are after rounding to the form */
    uint16_t *half;
} tiny_tensor;

typedef struct tiny {
    pith_weights w;
    tiny_form form;
    size_t n;
    tiny_tensor t[TINY_TENSORS];
} tiny;

static inline tiny_tensor *tiny_find(pith_weights *w, const char *name)
{
    tiny *m = (tiny *)w;
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->t[i].name, name) == 0) return &m->t[i];
    return NULL;
}

static inline bool tiny_has(pith_weights *w, const char *name) { return tiny_find(w, name) != NULL; }

static inline void tiny_row(void *arg, size_t row, float *dst)
{
    const tiny_tensor *t = arg;
    memcpy(dst, t->x + row * t->cols, t->cols * sizeof *dst);
}

static inline pith_status tiny_matrix(pith_ctx *ctx, pith_weights *w, const char *name, pith_operator **op)
{
    tiny_tensor *t = tiny_find(w, name);
    if (!t) return pith_fail(ctx, PITH_E_FORMAT, "no %s", name);
    static const pith_dtype types[] = {[TINY_F32] = PITH_F32, [TINY_F16] = PITH_F16, [TINY_BF16] = PITH_BF16};
    tiny_form form = ((tiny *)w)->form;
    if (form != TINY_QMAT) {
        pith_tensor view = {.data = t->half ? (const void *)t->half : t->x, .dtype = types[form], .n_dims = 2, .dims = {t->rows, t->cols}};
        return pith_operator_from_tensor(ctx, &view, name, false, op);
    }
    pith_qmat m = {0};
    PITH_TRY(pith_qmat_from_rows_q8(ctx, t->rows, t->cols, tiny_row, t, &m));
    pith_status status = pith_operator_from_qmat(ctx, &m, name, op);
    if (status != PITH_OK) pith_qmat_free(ctx, &m);
    return status;
}

static inline pith_status tiny_vector(pith_ctx *ctx, pith_weights *w, const char *name, float *dst, size_t n)
{
    tiny_tensor *t = tiny_find(w, name);
    if (!t || t->cols != n) return pith_fail(ctx, PITH_E_FORMAT, "no %s of %zu values", name, n);
    memcpy(dst, t->x, n * sizeof *dst);
    return PITH_OK;
}

static inline void tiny_free(tiny *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->t[i].x);
        free(m->t[i].half);
    }
    free(m);
}

static inline tiny_tensor *tiny_add(tiny *m, const char *name, size_t rows, size_t cols, float mean, float deviation)
{
    assert_true(m->n < TINY_TENSORS);
    tiny_tensor *t = &m->t[m->n];
    pith_rng rng = {.seed = 7, .stream = m->n++};
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows;
    t->cols = cols;
    t->x = malloc(rows * cols * sizeof(float));
    bool halve = rows > 1 && (m->form == TINY_F16 || m->form == TINY_BF16);
    t->half = halve ? malloc(rows * cols * sizeof(uint16_t)) : NULL;
    for (size_t i = 0; i < rows * cols; i++) {
        t->x[i] = mean + deviation * pith_rng_normal(&rng);
        if (!halve) continue;
        t->half[i] = m->form == TINY_F16 ? pith_f32_to_f16(t->x[i]) : pith_f32_to_bf16(t->x[i]);
        t->x[i] = m->form == TINY_F16 ? pith_f16_to_f32(t->half[i]) : pith_bf16_to_f32(t->half[i]);
    }
    return t;
}

/* Settings of a small network; change what a test is about, then tiny_new. */
static inline pith_settings tiny_settings(void)
{
    return (pith_settings){.architecture = "llama", .n_layers = 2, .n_embd = 96, .n_ff = 160, .n_heads = 6, .n_kv_heads = 2, .head_dim = 16, .n_vocab = 130,
                           .n_ctx = 4096, .norm_eps = 1e-5f, .rope_base = 10000, .rope_dims = 16, .rope_factor = 1, .rope_low_freq_factor = 1,
                           .rope_high_freq_factor = 4, .rope_attn_factor = 0, .rope_beta_fast = 32, .rope_beta_slow = 1};
}

static inline tiny *tiny_new(const pith_settings *s, tiny_form form, bool biases, bool tied)
{
    tiny *m = calloc(1, sizeof *m);
    m->form = form;
    m->w = (pith_weights){.settings = *s, .matrix = tiny_matrix, .has = tiny_has, .vector = tiny_vector};
    size_t q_dim = s->n_heads * s->head_dim, kv_dim = s->n_kv_heads * s->head_dim;
    char name[48];
    tiny_add(m, "token_embd.weight", s->n_vocab, s->n_embd, 0, 1);
    tiny_add(m, "output_norm.weight", 1, s->n_embd, 1, 0.1f);
    if (!tied) tiny_add(m, "output.weight", s->n_vocab, s->n_embd, 0, 0.3f);
    for (unsigned l = 0; l < s->n_layers; l++) {
#define ADD(what, ...) (snprintf(name, sizeof name, "blk.%u." what, l), tiny_add(m, name, __VA_ARGS__))
        float e = 1 / sqrtf((float)s->n_embd);
        ADD("attn_norm.weight", 1, s->n_embd, 1, 0.1f);
        ADD("ffn_norm.weight", 1, s->n_embd, 1, 0.1f);
        ADD("attn_q.weight", q_dim, s->n_embd, 0, 2 * e);
        ADD("attn_k.weight", kv_dim, s->n_embd, 0, 2 * e);
        ADD("attn_v.weight", kv_dim, s->n_embd, 0, e);
        ADD("attn_output.weight", s->n_embd, q_dim, 0, 1 / sqrtf((float)q_dim));
        ADD("ffn_gate.weight", s->n_ff, s->n_embd, 0, e);
        ADD("ffn_up.weight", s->n_ff, s->n_embd, 0, e);
        ADD("ffn_down.weight", s->n_embd, s->n_ff, 0, 1 / sqrtf((float)s->n_ff));
        if (biases) {
            ADD("attn_q.bias", 1, q_dim, 0, 0.5f);
            ADD("attn_k.bias", 1, kv_dim, 0, 0.5f);
            ADD("attn_v.bias", 1, kv_dim, 0, 0.5f);
        }
#undef ADD
    }
    return m;
}

/* ---- the same, plainly ------------------------------------------------------------------------ */

static inline const float *tiny_layer(tiny *m, unsigned layer, const char *what)
{
    char name[48];
    snprintf(name, sizeof name, "blk.%u.%s", layer, what);
    tiny_tensor *t = tiny_find(&m->w, name);
    return t ? t->x : NULL;
}

static inline void plain_matmul(const float *w, size_t rows, size_t cols, const double *x, double *y)
{
    for (size_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (size_t c = 0; c < cols; c++) y[r] += (double)w[r * cols + c] * x[c];
    }
}

static inline void plain_norm(const double *x, const float *gain, size_t n, double eps, double *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    for (size_t i = 0; i < n; i++) y[i] = x[i] / sqrt(sum / (double)n + eps) * (double)gain[i];
}

/* Frequency of pair i as the publications put it, by cases. */
static inline double plain_frequency(const pith_settings *s, size_t i, double *magnitude)
{
    double d = s->rope_dims, f = 1 / pow((double)s->rope_base, 2 * (double)i / d), length = 2 * M_PI / f;
    double factor = (double)s->rope_factor, original = s->rope_original_ctx, low = (double)s->rope_low_freq_factor, high = (double)s->rope_high_freq_factor;
    *magnitude = 1;
    switch (s->rope_scaling) {
    case PITH_ROPE_PLAIN: return f;
    case PITH_ROPE_LINEAR: return f / factor;
    case PITH_ROPE_LLAMA3:
        if (length < original / high) return f;
        if (length > original / low) return f / factor;
        double smooth = (original / length - low) / (high - low);
        return (1 - smooth) * f / factor + smooth * f;
    case PITH_ROPE_YARN: {
        double from = floor(d * log(original / ((double)s->rope_beta_fast * 2 * M_PI)) / (2 * log((double)s->rope_base)));
        double to = ceil(d * log(original / ((double)s->rope_beta_slow * 2 * M_PI)) / (2 * log((double)s->rope_base)));
        from = from < 0 ? 0 : from;
        to = to > d - 1 ? d - 1 : to;
        double ramp = ((double)i - from) / (to - from);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        *magnitude = s->rope_attn_factor > 0 ? (double)s->rope_attn_factor : 0.1 * log(factor) + 1;
        return f / factor * ramp + f * (1 - ramp);
    }
    }
    return f;
}

static inline void plain_rotate(const pith_settings *s, double *x, size_t pos)
{
    for (size_t i = 0; i < s->rope_dims / 2; i++) {
        double magnitude, angle = (double)pos * plain_frequency(s, i, &magnitude), c = cos(angle) * magnitude, sn = sin(angle) * magnitude;
        size_t a = s->rope_style == PITH_ROPE_PAIRS ? 2 * i : i, b = s->rope_style == PITH_ROPE_PAIRS ? 2 * i + 1 : i + s->rope_dims / 2;
        double xa = x[a], xb = x[b];
        x[a] = xa * c - xb * sn;
        x[b] = xa * sn + xb * c;
    }
}

/* logits [n, n_vocab] of a whole text, nothing cached or batched */
static inline void tiny_reference(tiny *m, const int32_t *ids, size_t n, double *logits)
{
    const pith_settings *s = &m->w.settings;
    size_t e = s->n_embd, d = s->head_dim, q_dim = s->n_heads * d, kv_dim = s->n_kv_heads * d, f = s->n_ff;
    double *x = calloc(n * e, 8), *h = calloc(PITH_MAX(e, f), 8), *q = calloc(n * q_dim, 8), *k = calloc(n * kv_dim, 8), *v = calloc(n * kv_dim, 8);
    double *att = calloc(q_dim, 8), *gate = calloc(f, 8), *up = calloc(f, 8), *score = calloc(n, 8), *y = calloc(e, 8);
    const float *embedding = tiny_find(&m->w, "token_embd.weight")->x;
    for (size_t i = 0; i < n * e; i++) x[i] = (double)embedding[(size_t)ids[i / e] * e + i % e];
    for (unsigned l = 0; l < s->n_layers; l++) {
        const float *qb = tiny_layer(m, l, "attn_q.bias"), *kb = tiny_layer(m, l, "attn_k.bias"), *vb = tiny_layer(m, l, "attn_v.bias");
        for (size_t i = 0; i < n; i++) {
            plain_norm(x + i * e, tiny_layer(m, l, "attn_norm.weight"), e, (double)s->norm_eps, h);
            plain_matmul(tiny_layer(m, l, "attn_q.weight"), q_dim, e, h, q + i * q_dim);
            plain_matmul(tiny_layer(m, l, "attn_k.weight"), kv_dim, e, h, k + i * kv_dim);
            plain_matmul(tiny_layer(m, l, "attn_v.weight"), kv_dim, e, h, v + i * kv_dim);
            for (size_t c = 0; qb && c < q_dim; c++) q[i * q_dim + c] += (double)qb[c];
            for (size_t c = 0; kb && c < kv_dim; c++) k[i * kv_dim + c] += (double)kb[c];
            for (size_t c = 0; vb && c < kv_dim; c++) v[i * kv_dim + c] += (double)vb[c];
            for (size_t t = 0; t < s->n_heads; t++) plain_rotate(s, q + i * q_dim + t * d, i);
            for (size_t t = 0; t < s->n_kv_heads; t++) plain_rotate(s, k + i * kv_dim + t * d, i);
        }
        for (size_t i = 0; i < n; i++) {
            for (size_t t = 0; t < s->n_heads; t++) {
                size_t kv = t / (s->n_heads / s->n_kv_heads), from = s->sliding_window && i + 1 > s->sliding_window ? i + 1 - s->sliding_window : 0;
                double most = -INFINITY, sum = 0;
                for (size_t j = from; j <= i; j++) {
                    score[j] = 0;
                    for (size_t c = 0; c < d; c++) score[j] += q[i * q_dim + t * d + c] * k[j * kv_dim + kv * d + c];
                    score[j] /= sqrt((double)d);
                    most = fmax(most, score[j]);
                }
                for (size_t j = from; j <= i; j++) sum += score[j] = exp(score[j] - most);
                for (size_t c = 0; c < d; c++) {
                    att[t * d + c] = 0;
                    for (size_t j = from; j <= i; j++) att[t * d + c] += score[j] / sum * v[j * kv_dim + kv * d + c];
                }
            }
            plain_matmul(tiny_layer(m, l, "attn_output.weight"), e, q_dim, att, y);
            for (size_t c = 0; c < e; c++) x[i * e + c] += y[c];
            plain_norm(x + i * e, tiny_layer(m, l, "ffn_norm.weight"), e, (double)s->norm_eps, h);
            plain_matmul(tiny_layer(m, l, "ffn_gate.weight"), f, e, h, gate);
            plain_matmul(tiny_layer(m, l, "ffn_up.weight"), f, e, h, up);
            for (size_t c = 0; c < f; c++) gate[c] = gate[c] / (1 + exp(-gate[c])) * up[c];
            plain_matmul(tiny_layer(m, l, "ffn_down.weight"), e, f, gate, y);
            for (size_t c = 0; c < e; c++) x[i * e + c] += y[c];
        }
    }
    tiny_tensor *output = tiny_find(&m->w, "output.weight");
    for (size_t i = 0; i < n; i++) {
        plain_norm(x + i * e, tiny_find(&m->w, "output_norm.weight")->x, e, (double)s->norm_eps, h);
        plain_matmul(output ? output->x : embedding, s->n_vocab, e, h, logits + i * s->n_vocab);
    }
    free(x), free(h), free(q), free(k), free(v), free(att), free(gate), free(up), free(score), free(y);
}

/* root mean square of b - a over that of a */
static inline double tiny_distance(const double *a, const float *b, size_t n)
{
    double error = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        error += (a[i] - (double)b[i]) * (a[i] - (double)b[i]);
        sum += a[i] * a[i];
    }
    return isnan(error) ? INFINITY : sqrt(error / sum);
}

static inline void tiny_ids(int32_t *ids, size_t n, uint32_t n_vocab, uint64_t seed)
{
    pith_rng rng = {.seed = seed};
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)pith_rng_below(&rng, n_vocab);
}

#endif
