/* Calibration in three passes over the text: principal axes of the residual stream; second moments in
 * those axes; and the cost of noise, measured by adding some at the output of one operator at a time. */
#include "recipe/calibrate.h"

#include <math.h>

#include "model/generate.h"
#include "tensor/lapack.h"

#define CHUNK 256              /* tokens of one sequence, or the model's context if that is shorter */
#define NOISE_TOKENS 128       /* tokens that noise is put on */
#define NOISE_SCORED 64        /* of them, the last, whose predictions are compared */
#define NOISE_POWER 0.02f      /* of the output's own power: well within the range where KL grows linearly */
#define NOISE_GROUPS 64        /* layers are measured in at most so many groups of neighbours */
#define LOGIT_TOKENS 64        /* logits in memory at once, when gathering token weights */
#define OUT_SHARE 20           /* the output's input counts as so many layers' when axes are chosen */
#define HASH_NOISE 0x6e6f697365ull

const char *const pith_op_names[PITH_N_OPS] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};

static size_t chunk_of(const pith_llama *m) { return PITH_MIN((size_t)CHUNK, m->s.n_ctx); }

static pith_operator **op_of(pith_llama_layer *l, int i)
{
    pith_operator **const ops[PITH_N_OPS] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    return ops[i];
}

/* ---- text ------------------------------------------------------------------------------------- */

/* Sequences of CHUNK tokens that the model writes itself at temperature 1, each from the start token. */
static pith_status self_generate(pith_ctx *ctx, pith_llama *model, const pith_tokenizer *tok, uint64_t seed, int32_t *ids, size_t n)
{
    pith_cache *cache = NULL;
    pith_sampling sampling = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = seed};
    float *logits = pith_array(ctx, model->s.n_vocab, sizeof *logits);
    pith_status status = logits ? pith_llama_cache(ctx, model, PITH_CACHE_F16, chunk_of(model), &cache) : PITH_E_MEMORY;
    int32_t start = tok && pith_tokenizer_bos(tok) >= 0 ? pith_tokenizer_bos(tok) : 0;
    for (size_t i = 0; i < n && status == PITH_OK; i++) {
        if (i % chunk_of(model) == 0) {
            cache->kind->truncate(cache, 0);
            /* A different first token for each sequence, so that they do not all begin alike. */
            uint32_t r[4];
            pith_philox(seed, 1, i, r);
            ids[i] = i == 0 ? start : (int32_t)(r[0] % model->s.n_vocab);
            continue;
        }
        status = pith_llama_forward(ctx, model, cache, &ids[i - 1], 1, 1, logits);
        if (status != PITH_OK) break;
        int32_t id = pith_sample(ctx, &sampling, logits, model->s.n_vocab, NULL, 0, i);
        ids[i] = id < 0 ? start : id;
        status = pith_progress(ctx, "write calibration text", i + 1, n);
    }
    pith_cache_free(ctx, cache);
    pith_free(ctx, logits);
    return status;
}

/* ---- listening -------------------------------------------------------------------------------- */

typedef struct listener {
    pith_ctx *ctx;
    pith_llama *model;
    pith_calibration *c;
    const float *rotation;         /* NULL: first pass */
    float *covariance;             /* [n_embd, n_embd] first pass */
    float *buffer, *rotated;       /* [CHUNK, n_embd] */
} listener;

/* x / gain; a gain of zero hides its channel from the operator, so it counts as silent. */
static void take_gain_out(const float *x, const float *gain, size_t n, size_t cols, float *dst)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < cols; k++) dst[i * cols + k] = gain[k] != 0 ? x[i * cols + k] / gain[k] : 0;
}

static void add_squares(float *sum, const float *x, size_t n, size_t cols)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < cols; k++) sum[k] += x[i * cols + k] * x[i * cols + k];
}

static void add_rotated(listener *l, float *sum, const float *x, size_t n, float share)
{
    size_t e = l->c->n_embd;
    pith_gemm_fn *gemm = pith_kernels_get(l->ctx)->gemm;
    if (!l->rotation) {
        pith_transpose(x, n, e, e, l->rotated, n);
        for (size_t i = 0; i < n * e && share != 1; i++) l->rotated[i] *= share;
        gemm(e, e, n, l->rotated, n, x, e, l->covariance, e, true);
        return;
    }
    gemm(n, e, e, x, e, l->rotation, e, l->rotated, e, false);
    add_squares(sum, l->rotated, n, e);
}

static void listen(void *user, const pith_operator *op, const float *x, size_t n, size_t cols)
{
    listener *l = user;
    pith_calibration *c = l->c;
    for (size_t i = 0; i < c->n_layers; i++) {
        pith_llama_layer *layer = &l->model->layers[i];
        if (op == layer->q || op == layer->gate) {
            const float *gain = op == layer->q ? layer->attn_norm.x : layer->ffn_norm.x;
            take_gain_out(x, gain, n, cols, l->buffer);
            add_rotated(l, (op == layer->q ? c->attn_in : c->ffn_in) + i * c->n_embd, l->buffer, n, 1);
            return;
        }
        if (l->rotation && op == layer->o) add_squares(c->o_in + i * c->q_dim, x, n, cols);
        if (l->rotation && op == layer->down) add_squares(c->down_in + i * c->n_ff, x, n, cols);
    }
}

/* Softmax p(1 - p) of each row, added to sum. */
static double add_importance(const float *logits, size_t n, size_t n_vocab, double *sum)
{
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * n_vocab;
        float top = row[0];
        for (size_t k = 1; k < n_vocab; k++) top = PITH_MAX(top, row[k]);
        double z = 0;
        for (size_t k = 0; k < n_vocab; k++) z += (double)expf(row[k] - top);
        for (size_t k = 0; k < n_vocab; k++) {
            double p = (double)expf(row[k] - top) / z;
            sum[k] += p * (1 - p);
            total += p * (1 - p);
        }
    }
    return total;
}

/* One pass of all text through the model. importance: [n_vocab] or NULL. */
static pith_status pass(pith_ctx *ctx, listener *l, const int32_t *ids, size_t n, const char *what, double *importance, double *importance_total)
{
    pith_llama *m = l->model;
    size_t e = l->c->n_embd, v = m->s.n_vocab;
    pith_cache *cache = NULL;
    float *hidden = pith_array(ctx, CHUNK * e, sizeof *hidden), *logits = importance ? pith_array(ctx, LOGIT_TOKENS * v, sizeof *logits) : NULL;
    pith_status status = hidden && (logits || !importance) ? pith_llama_cache(ctx, m, PITH_CACHE_F32, chunk_of(m), &cache) : PITH_E_MEMORY;
    m->tap = listen;
    m->tap_user = l;
    size_t n_seen = 0;
    for (size_t i = 0, k; i < n && status == PITH_OK; i += k) {
        k = PITH_MIN(chunk_of(m), n - i);
        cache->kind->truncate(cache, 0);
        PITH_GOTO(pith_llama_hidden(ctx, m, cache, ids + i, k, k, hidden), done);
        if (importance) {
            /* every fourth position's prediction is enough to know which tokens matter */
            size_t picked = PITH_MIN(LOGIT_TOKENS, k / 4);
            for (size_t p = 0; p < picked; p++) memcpy(l->buffer + p * e, hidden + (p * 4 + 3) * e, e * sizeof *hidden);
            PITH_GOTO(pith_llama_logits(ctx, m, l->buffer, picked, logits), done);
            *importance_total += add_importance(logits, picked, v, importance);
            n_seen += picked;
        }
        bool tied = m->output == m->embedding;
        if (!tied || !l->rotation) take_gain_out(hidden, m->output_norm.x, k, e, l->buffer);
        else memcpy(l->buffer, hidden, k * e * sizeof *hidden);
        add_rotated(l, l->c->out_in, l->buffer, k, OUT_SHARE);
        status = pith_progress(ctx, what, i + k, n);
    }
    if (importance && n_seen) *importance_total /= (double)n_seen;
done:
    m->tap = NULL;
    pith_cache_free(ctx, cache);
    pith_free(ctx, hidden);
    pith_free(ctx, logits);
    return status;
}

/* Eigenvectors of the covariance, largest first, into the columns of c->rotation. */
static pith_status principal_axes(pith_ctx *ctx, pith_calibration *c, const float *covariance)
{
    size_t n = c->n_embd;
    double *a = pith_array(ctx, n * n, sizeof *a), *w = pith_array(ctx, n, sizeof *w);
    pith_status status = a && w ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) {
        bool finite = true;
        for (size_t i = 0; i < n * n; i++) {
            a[i] = (double)covariance[i];
            finite &= isfinite(covariance[i]) != 0;
        }
        if (!finite) status = pith_fail(ctx, PITH_E_NONFINITE, "calibration: the model's inputs are not finite");
        else status = pith_eigen(ctx, n, a, true, w);
    }
    for (size_t i = 0; i < n && status == PITH_OK; i++)
        for (size_t k = 0; k < n; k++) c->rotation[i * n + k] = (float)a[i * n + (n - 1 - k)];
    pith_free(ctx, a);
    pith_free(ctx, w);
    return status;
}

/* ---- noise ------------------------------------------------------------------------------------ */

/* An operator with noise added to what it gives.  Pure in (seed, token, row), so threads do not matter. */
typedef struct noisy {
    pith_operator op;
    const pith_operator *inner;
    float sigma;
    const float *moments;/* [n_cols] second moments of the input; NULL: every token gets the same noise */
    uint64_t seed;
    double *power;       /* [tiles] sum of squares of outputs, when listening only (sigma 0) */
} noisy;

static float normal_at(uint64_t seed, uint64_t i, uint64_t k)
{
    pith_rng rng = {.seed = seed, .stream = i, .index = 2 * k};
    return pith_rng_normal(&rng);
}

static size_t noisy_tiles(const pith_operator *op) { return ((const noisy *)op)->inner->kind->n_tiles(((const noisy *)op)->inner); }
static size_t noisy_scratch(const pith_operator *op, size_t n)
{
    const pith_operator *inner = ((const noisy *)op)->inner;
    return inner->kind->scratch_bytes ? inner->kind->scratch_bytes(inner, n) : 0;
}

/* What errors of weights make of a token: with steps that fit the columns, noise in proportion to the
 * token's size in units of each column's usual one. */
static float whitened_rms(const float *x, const float *moments, size_t n)
{
    float sum = 0;
    for (size_t k = 0; k < n; k++) sum += moments[k] > 0 ? x[k] * x[k] / moments[k] : 0;
    return sqrtf(sum / (float)n);
}

static void noisy_apply(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in, float *y, size_t ldy, void *scratch)
{
    const noisy *o = (const noisy *)op;
    o->inner->kind->apply(o->inner, k, tile0, tile1, in, y, ldy, scratch);
    for (size_t i = 0; i < in->n; i++) {
        float sigma = o->sigma;
        if (o->moments) sigma *= whitened_rms(in->x + i * in->cols, o->moments, in->cols);
        for (size_t t = tile0; t < tile1; t++) {
            size_t r1 = PITH_MIN((t + 1) * PITH_TILE_ROWS, op->n_rows);
            for (size_t r = t * PITH_TILE_ROWS; r < r1; r++) {
                float *v = &y[i * ldy + r];
                if (o->power) o->power[t] += (double)*v * (double)*v;
                if (sigma > 0) *v += sigma * normal_at(o->seed, i, r);
            }
        }
    }
}

static void noisy_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    const noisy *o = (const noisy *)op;
    o->inner->kind->row(o->inner, k, row, dst);
    for (size_t c = 0; c < op->n_cols; c++) dst[c] += o->sigma * normal_at(o->seed, row, c);
}

static size_t noisy_bytes(const pith_operator *op) { return ((const noisy *)op)->inner->kind->bytes(((const noisy *)op)->inner); }
static void noisy_free(pith_ctx *ctx, pith_operator *op) { (void)ctx, (void)op; }

static void wrap(noisy *o, pith_operator_kind *kind, const pith_operator *inner)
{
    *kind = (pith_operator_kind){.name = "noisy", .wants_q8 = inner->kind->wants_q8, .group = inner->kind->group, .n_tiles = noisy_tiles, .apply = noisy_apply,
                                 .scratch_bytes = noisy_scratch, .row = noisy_row, .bytes = noisy_bytes, .free = noisy_free};
    *o = (noisy){.op = *inner, .inner = inner};
    o->op.kind = kind;
}

typedef struct kl_job {
    const float *reference, *logits;   /* [n, v] */
    size_t v;
    double *kl;                        /* [n] */
} kl_job;

static void kl_of_token(void *arg, size_t i, int worker)
{
    (void)worker;
    kl_job *j = arg;
    const float *a = j->reference + i * j->v, *b = j->logits + i * j->v;
    float top_a = a[0], top_b = b[0];
    for (size_t k = 1; k < j->v; k++) {
        top_a = PITH_MAX(top_a, a[k]);
        top_b = PITH_MAX(top_b, b[k]);
    }
    double za = 0, zb = 0, dot = 0;
    for (size_t k = 0; k < j->v; k++) {
        float ea = expf(a[k] - top_a);
        za += (double)ea;
        zb += (double)expf(b[k] - top_b);
        dot += (double)ea * ((double)a[k] - (double)b[k]);
    }
    j->kl[i] = dot / za - (double)top_a + (double)top_b - log(za) + log(zb);
}

typedef struct meter {
    pith_ctx *ctx;
    pith_llama *m;
    pith_cache *cache;
    const int32_t *ids;
    size_t n, n_scored;
    float *reference, *logits;         /* [n, v] */
    double *kl;
} meter;

static pith_status measure(meter *t, double *kl)
{
    t->cache->kind->truncate(t->cache, 0);
    PITH_TRY(pith_llama_forward(t->ctx, t->m, t->cache, t->ids, t->n, t->n_scored, t->logits));
    kl_job job = {t->reference + (t->n - t->n_scored) * t->m->s.n_vocab, t->logits, t->m->s.n_vocab, t->kl};
    pith_parallel(t->ctx, t->n_scored, kl_of_token, &job);
    double sum = 0;
    for (size_t i = 0; i < t->n_scored; i++) sum += t->kl[i];
    *kl = sum / (double)t->n_scored;
    return PITH_OK;
}

/* Layers of one group, one kind of operator: what noise at their outputs costs, an equal share each. */
static pith_status measure_group(meter *t, pith_calibration *c, size_t first, size_t last, int kind, const double *power, uint64_t seed)
{
    noisy wrapped[64];
    pith_operator_kind kinds[64];
    double kl, relative = 0;
    for (size_t i = first; i < last; i++) {
        pith_operator **slot = op_of(&t->m->layers[i], kind);
        wrap(&wrapped[i - first], &kinds[i - first], *slot);
        wrapped[i - first].sigma = (float)sqrt(NOISE_POWER * power[i * PITH_N_OPS + kind]);
        wrapped[i - first].seed = seed + i;
        if (kind == PITH_OP_O) wrapped[i - first].moments = c->o_in + i * c->q_dim;
        if (kind == PITH_OP_DOWN) wrapped[i - first].moments = c->down_in + i * c->n_ff;
        *slot = &wrapped[i - first].op;
        relative += NOISE_POWER;
    }
    pith_status status = measure(t, &kl);
    for (size_t i = first; i < last; i++) {
        *op_of(&t->m->layers[i], kind) = (pith_operator *)(uintptr_t)wrapped[i - first].inner;
        double variance = NOISE_POWER * power[i * PITH_N_OPS + kind];
        c->noise_kl[i * PITH_N_OPS + kind] = variance > 0 ? PITH_MAX(kl, 1e-9) * (NOISE_POWER / relative) / variance : 0;
    }
    return status;
}

/* Mean square of every operator's output, from one run. */
static pith_status output_power(meter *t, pith_calibration *c, double *power)
{
    size_t n_ops = c->n_layers * PITH_N_OPS, n_tiles = 0;
    noisy *wrapped = pith_calloc(t->ctx, n_ops, sizeof *wrapped);
    pith_operator_kind *kinds = pith_calloc(t->ctx, n_ops, sizeof *kinds);
    pith_status status = wrapped && kinds ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < n_ops && status == PITH_OK; i++) n_tiles += PITH_CEIL_DIV((*op_of(&t->m->layers[i / PITH_N_OPS], (int)(i % PITH_N_OPS)))->n_rows, PITH_TILE_ROWS);
    double *sums = status == PITH_OK ? pith_calloc(t->ctx, n_tiles, sizeof *sums) : NULL;
    if (!sums) status = PITH_E_MEMORY;
    if (status == PITH_OK) {
        double *at = sums;
        for (size_t i = 0; i < n_ops; i++) {
            pith_operator **slot = op_of(&t->m->layers[i / PITH_N_OPS], (int)(i % PITH_N_OPS));
            wrap(&wrapped[i], &kinds[i], *slot);
            wrapped[i].power = at;
            at += PITH_CEIL_DIV((*slot)->n_rows, PITH_TILE_ROWS);
            *slot = &wrapped[i].op;
        }
        t->cache->kind->truncate(t->cache, 0);
        /* all logits are asked for, so that the last layer works for every token */
        status = pith_llama_forward(t->ctx, t->m, t->cache, t->ids, t->n, t->n, t->reference);
        for (size_t i = 0; i < n_ops; i++) {
            const pith_operator *inner = wrapped[i].inner;
            double sum = 0;
            for (size_t k = 0; k < PITH_CEIL_DIV(inner->n_rows, PITH_TILE_ROWS); k++) sum += wrapped[i].power[k];
            power[i] = sum / ((double)inner->n_rows * (double)t->n);
            *op_of(&t->m->layers[i / PITH_N_OPS], (int)(i % PITH_N_OPS)) = (pith_operator *)(uintptr_t)inner;
        }
    }
    pith_free(t->ctx, sums);
    pith_free(t->ctx, kinds);
    pith_free(t->ctx, wrapped);
    return status;
}

static pith_status measure_noise(pith_ctx *ctx, pith_llama *m, pith_calibration *c, const int32_t *ids, size_t n, uint64_t seed)
{
    size_t v = m->s.n_vocab, n_groups = PITH_MIN(c->n_layers, NOISE_GROUPS);
    if (c->n_layers > n_groups * 64) n_groups = PITH_CEIL_DIV(c->n_layers, 64);
    meter t = {.ctx = ctx, .m = m, .ids = ids, .n = PITH_MIN(PITH_MIN(n, NOISE_TOKENS), chunk_of(m))};
    t.n_scored = PITH_MIN(t.n, NOISE_SCORED);
    double *power = pith_calloc(ctx, c->n_layers * PITH_N_OPS, sizeof *power);
    t.reference = pith_array(ctx, t.n * v, sizeof(float));
    t.logits = pith_array(ctx, t.n * v, sizeof(float));
    t.kl = pith_array(ctx, t.n, sizeof(double));
    pith_status status = power && t.reference && t.logits && t.kl ? pith_llama_cache(ctx, m, PITH_CACHE_F32, t.n, &t.cache) : PITH_E_MEMORY;
    if (status == PITH_OK) status = output_power(&t, c, power);
    for (size_t g = 0; g < n_groups && status == PITH_OK; g++) {
        size_t first = g * c->n_layers / n_groups, last = (g + 1) * c->n_layers / n_groups;
        for (int kind = 0; kind < PITH_N_OPS && status == PITH_OK; kind++) {
            status = measure_group(&t, c, first, last, kind, power, seed ^ HASH_NOISE);
            if (status == PITH_OK) status = pith_progress(ctx, "measure what noise costs", g * PITH_N_OPS + (size_t)kind + 1, n_groups * PITH_N_OPS + 1);
        }
    }
    if (status == PITH_OK) {
        /* noise on the rows of the embedding as they are looked up; the output keeps its own */
        noisy o;
        pith_operator_kind kind;
        double kl, square = 0;
        float *row = t.logits;
        for (size_t i = 0; i < t.n; i++) {
            m->embedding->kind->row(m->embedding, pith_kernels_get(ctx), (size_t)ids[i], row);
            for (size_t k = 0; k < c->n_embd; k++) square += (double)row[k] * (double)row[k];
        }
        square /= (double)(t.n * c->n_embd);
        pith_operator *embedding = m->embedding;
        wrap(&o, &kind, embedding);
        o.sigma = (float)sqrt(NOISE_POWER * square);
        o.seed = seed;
        m->embedding = &o.op;
        status = measure(&t, &kl);
        m->embedding = embedding;
        c->embedding_kl = o.sigma > 0 ? PITH_MAX(kl, 1e-9) / (NOISE_POWER * square) : 0;
    }
    pith_cache_free(ctx, t.cache);
    pith_free(ctx, power);
    pith_free(ctx, t.reference);
    pith_free(ctx, t.logits);
    pith_free(ctx, t.kl);
    return status;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static void scale(float *x, size_t n, double by)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)((double)x[i] * by);
}

pith_status pith_calibrate(pith_ctx *ctx, pith_llama *model, const pith_tokenizer *tok, const pith_calibrate_options *o, pith_calibration *c)
{
    const pith_settings *s = &model->s;
    *c = (pith_calibration){.n_layers = s->n_layers, .n_embd = s->n_embd, .q_dim = (size_t)s->n_heads * s->head_dim, .n_ff = s->n_ff, .n_vocab = s->n_vocab,
                            .self_generated = !o->ids};
    size_t e = c->n_embd, n = o->n_tokens ? o->n_tokens : o->ids ? 4096 : 2048;
    if (o->ids) n = PITH_MIN(n, o->n_ids);
    n = PITH_MAX(n, 1);
    int32_t *ids = pith_array(ctx, n, sizeof *ids);
    double *importance = pith_calloc(ctx, s->n_vocab, sizeof *importance), total = 0;
    listener l = {.ctx = ctx, .model = model, .c = c, .covariance = pith_calloc(ctx, e * e, sizeof(float)), .buffer = pith_array(ctx, CHUNK * e, sizeof(float)),
                  .rotated = pith_array(ctx, CHUNK * e, sizeof(float))};
    c->rotation = pith_array(ctx, e * e, sizeof(float));
    c->attn_in = pith_calloc(ctx, c->n_layers * e, sizeof(float));
    c->ffn_in = pith_calloc(ctx, c->n_layers * e, sizeof(float));
    c->o_in = pith_calloc(ctx, c->n_layers * c->q_dim, sizeof(float));
    c->down_in = pith_calloc(ctx, c->n_layers * c->n_ff, sizeof(float));
    c->out_in = pith_calloc(ctx, e, sizeof(float));
    c->noise_kl = pith_calloc(ctx, c->n_layers * PITH_N_OPS, sizeof(double));
    c->token_weight = pith_calloc(ctx, c->n_vocab, sizeof(float));
    pith_status status = PITH_E_MEMORY;
    if (!ids || !importance || !l.covariance || !l.buffer || !l.rotated || !c->rotation || !c->attn_in || !c->ffn_in || !c->o_in || !c->down_in || !c->out_in ||
        !c->noise_kl || !c->token_weight)
        goto done;
    if (o->ids) memcpy(ids, o->ids, n * sizeof *ids);
    else PITH_GOTO(self_generate(ctx, model, tok, o->seed, ids, n), done);
    PITH_GOTO(pass(ctx, &l, ids, n, "find principal axes", NULL, NULL), done);
    PITH_GOTO(principal_axes(ctx, c, l.covariance), done);
    l.rotation = c->rotation;
    PITH_GOTO(pass(ctx, &l, ids, n, "gather second moments", importance, &total), done);
    scale(c->attn_in, c->n_layers * e, 1.0 / (double)n);
    scale(c->ffn_in, c->n_layers * e, 1.0 / (double)n);
    scale(c->o_in, c->n_layers * c->q_dim, 1.0 / (double)n);
    scale(c->down_in, c->n_layers * c->n_ff, 1.0 / (double)n);
    scale(c->out_in, e, 1.0 / (double)n);
    c->out_kl = total / 2; /* KL = 1/2 sum p(1-p) var: iid noise on the logits, second order */
    double sum = 0;
    for (size_t k = 0; k < c->n_vocab; k++) sum += importance[k];
    for (size_t k = 0; k < c->n_vocab && sum > 0; k++) c->token_weight[k] = (float)(0.5 * importance[k] / sum);
    for (size_t i = 0; i < n; i++) c->token_weight[ids[i]] += 0.5f / (float)n;
    c->n_tokens = n;
    status = measure_noise(ctx, model, c, ids, n, o->seed);
done:
    c->ids = ids;
    pith_free(ctx, importance);
    pith_free(ctx, l.covariance);
    pith_free(ctx, l.buffer);
    pith_free(ctx, l.rotated);
    if (status != PITH_OK) pith_calibration_free(ctx, c);
    return status;
}

void pith_calibration_free(pith_ctx *ctx, pith_calibration *c)
{
    pith_free(ctx, c->ids);
    pith_free(ctx, c->rotation);
    pith_free(ctx, c->attn_in);
    pith_free(ctx, c->ffn_in);
    pith_free(ctx, c->o_in);
    pith_free(ctx, c->down_in);
    pith_free(ctx, c->out_in);
    pith_free(ctx, c->noise_kl);
    pith_free(ctx, c->token_weight);
    *c = (pith_calibration){0};
}
