/* The llama on float buffers and a cache. */
#include <math.h>

#include "model/llama_network.h"

#define TOKENS_A_TASK 16     /* tokens normalised, rotated or gated in one task */

/* One batch of tokens on its way through the layers. */
typedef struct batch batch;
typedef void token_step(batch *b, size_t i0, size_t i1);

struct batch {
    pith_ctx *ctx;
    pith_llama *m;
    pith_cache *cache;
    const llama_engine *engine;
    const pith_kernels *kernels;
    const int32_t *ids;
    size_t n, pos0;
    size_t n_out;                       /* tokens whose result is asked for */
    float *value[LLAMA_N_VALUES];       /* [n, …]; GATE and UP lie over Q … ATT, which are done with by then */
    token_step *begin_norm;             /* what is still to be done to X, together with the next norm */
    const pith_llama_layer *l;
    const float *gain;                  /* of the next norm */
};

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

/* ---- steps of a token ------------------------------------------------------------------------- */

static void look_up_and_norm(batch *b, size_t i0, size_t i1)
{
    const pith_llama *m = b->m;
    const float *scale = m->embedding_scale.x;
    size_t e = m->s.n_embd;
    for (size_t i = i0; i < i1; i++) {
        float *x = b->value[LLAMA_X] + i * e;
        m->embedding->kind->row(m->embedding, b->kernels, (size_t)b->ids[i], x);
        for (size_t c = 0; scale && c < e; c++) x[c] *= scale[c];
        b->kernels->rmsnorm(b->value[LLAMA_H] + i * e, x, b->gain, e, m->s.norm_eps);
    }
}

static void add_and_norm(batch *b, size_t i0, size_t i1)
{
    size_t e = b->m->s.n_embd;
    for (size_t i = i0; i < i1; i++) {
        float *x = b->value[LLAMA_X] + i * e, *h = b->value[LLAMA_H] + i * e;
        b->kernels->axpy(x, h, 1, e);
        b->kernels->rmsnorm(h, x, b->gain, e, b->m->s.norm_eps);
    }
}

static void add_bias(const batch *b, float *x, const pith_llama_vector *bias, size_t n)
{
    if (bias->x) b->kernels->axpy(x, bias->x, 1, n);
}

static void bias_and_rotate(batch *b, size_t i0, size_t i1)
{
    const pith_settings *s = &b->m->s;
    size_t d = s->head_dim, half = s->rope_dims / 2, q_dim = s->n_heads * d, kv_dim = s->n_kv_heads * d;
    bool pairs = s->rope_style == PITH_ROPE_PAIRS;
    for (size_t i = i0; i < i1; i++) {
        const float *c = b->m->rope_cos + (b->pos0 + i) * half, *sn = b->m->rope_sin + (b->pos0 + i) * half;
        float *q = b->value[LLAMA_Q] + i * q_dim, *k = b->value[LLAMA_K] + i * kv_dim;
        add_bias(b, q, &b->l->q_bias, q_dim);
        add_bias(b, k, &b->l->k_bias, kv_dim);
        add_bias(b, b->value[LLAMA_V] + i * kv_dim, &b->l->v_bias, kv_dim);
        for (size_t h = 0; h < s->n_heads && half; h++) b->kernels->rope(q + h * d, c, sn, 2 * half, pairs);
        for (size_t h = 0; h < s->n_kv_heads && half; h++) b->kernels->rope(k + h * d, c, sn, 2 * half, pairs);
    }
}

static void scale_columns(float *x, const pith_llama_vector *scale, size_t n, size_t cols)
{
    for (size_t i = 0; scale->x && i < n; i++)
        for (size_t c = 0; c < cols; c++) x[i * cols + c] *= scale->x[c];
}

static void scale_attention(batch *b, size_t i0, size_t i1)
{
    size_t q_dim = (size_t)b->m->s.n_heads * b->m->s.head_dim;
    scale_columns(b->value[LLAMA_ATT] + i0 * q_dim, &b->l->o_scale, i1 - i0, q_dim);
}

static void gate_up(batch *b, size_t i0, size_t i1)
{
    size_t f = b->m->s.n_ff;
    float *gate = b->value[LLAMA_GATE] + i0 * f;
    b->kernels->silu_mul(gate, gate, b->value[LLAMA_UP] + i0 * f, (i1 - i0) * f);
    scale_columns(gate, &b->l->down_scale, i1 - i0, f);
}

/* ---- the engine ------------------------------------------------------------------------------- */

/* What changes X always has a norm behind it, and is done with it in one pass over the tokens. */
static pith_status embed(void *run)
{
    ((batch *)run)->begin_norm = look_up_and_norm;
    return PITH_OK;
}

static pith_status add(void *run)
{
    ((batch *)run)->begin_norm = add_and_norm;
    return PITH_OK;
}

static pith_status norm(void *run, const pith_llama_vector *gain)
{
    batch *b = run;
    b->gain = gain->x;
    each_token(b, b->begin_norm);
    return PITH_OK;
}

/* The tap hears each of the operators. */
static pith_status multiply(void *run, pith_operator *const *ops, size_t n_ops, llama_value from, const llama_value *to)
{
    batch *b = run;
    pith_input in = {.x = b->value[from], .n = b->n, .cols = ops[0]->n_cols};
    float *y[3];
    for (size_t k = 0; k < n_ops; k++) y[k] = b->value[to[k]];
    for (size_t k = 0; k < n_ops && b->m->tap; k++) b->m->tap(b->m->tap_user, ops[k], in.x, in.n, in.cols);
    pith_mark mark = pith_arena_mark(pith_scratch(b->ctx));
    pith_status status = pith_operators_apply(b->ctx, (const pith_operator *const *)ops, n_ops, &in, y);
    pith_arena_reset(pith_scratch(b->ctx), mark);
    return status;
}

/* Let go of all but the last n tokens: their keys and values are stored, and nobody asks for more of them. */
static void keep_last(batch *b, size_t n)
{
    size_t gone = b->n - n;
    b->value[LLAMA_Q] += gone * b->m->s.n_heads * b->m->s.head_dim;
    b->value[LLAMA_X] += gone * b->m->s.n_embd;
    b->pos0 += gone;
    b->n = n;
}

static pith_status attend(void *run, const pith_llama_layer *l, size_t i_layer)
{
    batch *b = run;
    const pith_settings *s = &b->m->s;
    pith_cache *cache = b->cache;
    b->l = l;
    each_token(b, bias_and_rotate);
    PITH_TRY(cache->kind->append(b->ctx, cache, i_layer, b->value[LLAMA_K], b->value[LLAMA_V], b->n));
    /* A listener gets all tokens at every operator; else the last layer works only for those asked, maybe none. */
    if (i_layer + 1 == s->n_layers && !b->m->tap) keep_last(b, b->n_out);
    if (b->n == 0) return PITH_OK;
    float scale = 1 / sqrtf((float)s->head_dim);
    PITH_TRY(cache->kind->attend(b->ctx, cache, i_layer, b->value[LLAMA_Q], b->n, s->n_heads, b->pos0, s->sliding_window, scale, b->value[LLAMA_ATT]));
    if (l->o_scale.x) each_token(b, scale_attention);
    return PITH_OK;
}

static pith_status gate(void *run, const pith_llama_layer *l)
{
    batch *b = run;
    b->l = l;
    each_token(b, gate_up);
    return PITH_OK;
}

static pith_status layer(void *run, size_t i_layer)
{
    const batch *b = run;
    return llama_layer(b->engine, run, b->m, i_layer);
}

static const llama_engine engine = {.embed = embed, .layer = layer, .norm = norm, .multiply = multiply, .attend = attend, .gate = gate, .add = add};

/* ---- calls ------------------------------------------------------------------------------------ */

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
    batch b = {.ctx = ctx, .m = m, .cache = cache, .engine = &engine, .kernels = pith_kernels_get(ctx), .ids = ids, .n = n, .pos0 = cache->n, .n_out = n_out,
               .value = {[LLAMA_X] = memory, [LLAMA_H] = memory + n * e, [LLAMA_Q] = inner, [LLAMA_K] = inner + n * q_dim,
                         [LLAMA_V] = inner + n * (q_dim + kv_dim), [LLAMA_ATT] = inner + n * (q_dim + 2 * kv_dim),
                         [LLAMA_GATE] = inner, [LLAMA_UP] = inner + n * s->n_ff}};
    PITH_TRY(llama_body(&engine, &b, m));
    if (n_out) memcpy(hidden, b.value[LLAMA_H] + (b.n - n_out) * e, n_out * e * sizeof *hidden);
    return PITH_OK;
}

static pith_status check_call(pith_ctx *ctx, const pith_llama *m, const pith_cache *cache, const int32_t *ids, size_t n)
{
    const pith_settings *s = &m->s;
    if (cache->n_layers != s->n_layers || cache->n_kv_heads != s->n_kv_heads || cache->head_dim != s->head_dim)
        return pith_fail(ctx, PITH_E_SHAPE, "the cache was made for another model");
    if (n > cache->capacity - cache->n)
        return pith_fail(ctx, PITH_E_LIMIT, "%zu tokens after %zu do not fit into a context of %zu", n, cache->n, cache->capacity);
    return llama_check_ids(ctx, m, ids, n);
}

pith_status pith_llama_hidden(pith_ctx *ctx, pith_llama *m, pith_cache *cache, const int32_t *ids, size_t n, size_t n_out, float *hidden)
{
    if (n_out > n) return pith_fail(ctx, PITH_E_ARGUMENT, "results of %zu tokens asked of %zu", n_out, n);
    PITH_TRY(check_call(ctx, m, cache, ids, n));
    PITH_TRY(llama_ready_rope(ctx, m, cache->n + n, cache->capacity));
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
    if (m->output_transform) b.value[LLAMA_X] = pith_arena_take(pith_scratch(ctx), PITH_MIN(n, most) * e * sizeof *hidden);
    pith_status status = m->output_transform && !b.value[LLAMA_X] ? PITH_E_MEMORY : PITH_OK;
    for (size_t i = 0; i < n && status == PITH_OK; i += b.n) {
        b.n = PITH_MIN(n - i, most);
        b.value[LLAMA_H] = (float *)(uintptr_t)(hidden + i * e); /* the head only reads it */
        b.value[LLAMA_LOGITS] = logits + i * m->s.n_vocab;
        status = llama_head(&engine, &b, m);
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
