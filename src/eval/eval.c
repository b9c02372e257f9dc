/* Perplexity and distance to a reference, chunk by chunk: hidden states first, then logits in slices that
 * are scored and forgotten. */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>

#define DEFAULT_CONTEXT 512
#define SLICE_ROWS 64        /* tokens whose logits are held at a time, of each model */
#define LANES 8              /* independent sums, so that the compiler can use vectors without reordering */
#define SPEED_STREAM 0x73706565 /* random ids of the speed test */

/* ---- one token -------------------------------------------------------------------------------- */

typedef struct token_score {
    double nll, reference_nll, kl;
    bool same_top;
} token_score;

/* e^x for x <= 0 to about 1 ulp, below e^-700 as that; straight-line code that compilers vectorise.
 * x = k ln2 + r with |r| <= ln2 / 2 (ln2 in two parts, W. Cody and W. Waite, 1980), Taylor to r^12. */
static inline double exp_down(double x)
{
    const double magic = 0x1.8p52, log2e = 0x1.71547652b82fep+0, ln2_high = 0x1.62e42fefa38p-1, ln2_low = 0x1.ef35793c7673p-45;
    x = x < -700 ? -700 : x;
    double shifted = x * log2e + magic, k = shifted - magic, r = (x - k * ln2_high) - k * ln2_low;
    double p = 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1;
    p = p * r + 1;
    uint64_t bits, whole;
    memcpy(&bits, &shifted, 8);
    memcpy(&whole, &p, 8);
    whole += bits << 52; /* the low bits of `shifted` are k: add it to the exponent */
    memcpy(&p, &whole, 8);
    return p;
}

static double sum_lanes(const double *lanes)
{
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += lanes[l];
    return sum;
}

/* log sum e^x; with `other`, *weighted is the mean of x - other under the softmax of x. */
static double log_sum(const float *x, size_t n, float top, const float *other, double *weighted)
{
    double sums[LANES] = {0}, products[LANES] = {0};
    size_t i = 0;
    if (other) {
        for (; i + LANES <= n; i += LANES) {
            for (int l = 0; l < LANES; l++) {
                double v = (double)x[i + (size_t)l], e = exp_down(v - (double)top);
                sums[l] += e;
                products[l] += e * (v - (double)other[i + (size_t)l]);
            }
        }
    } else {
        for (; i + LANES <= n; i += LANES)
            for (int l = 0; l < LANES; l++) sums[l] += exp_down((double)x[i + (size_t)l] - (double)top);
    }
    for (; i < n; i++) {
        double e = exp_down((double)x[i] - (double)top);
        sums[0] += e;
        if (other) products[0] += e * ((double)x[i] - (double)other[i]);
    }
    double sum = sum_lanes(sums);
    if (other) *weighted = sum_lanes(products) / sum;
    return log(sum) + (double)top;
}

/* nll = log sum e^x - x[target];  KL(p || q) = E_p[x_p - x_q] - (log sum e^x_p - log sum e^x_q) */
static token_score score_row(const float *x, const float *reference, size_t n, int32_t target)
{
    token_score s = {0};
    size_t top = pith_argmax(x, n);
    double sum = log_sum(x, n, x[top], NULL, NULL);
    s.nll = sum - (double)x[target];
    if (reference) {
        size_t reference_top = pith_argmax(reference, n);
        double difference, reference_sum = log_sum(reference, n, reference[reference_top], x, &difference);
        s.reference_nll = reference_sum - (double)reference[target];
        s.kl = difference - (reference_sum - sum);
        s.same_top = top == reference_top;
    }
    return s;
}

/* ---- chunks ----------------------------------------------------------------------------------- */

typedef struct side {
    pith_llama *model;
    pith_cache *cache;
    float *hidden;           /* [n_scored of a chunk, n_embd] */
    float *logits;           /* [SLICE_ROWS, n_vocab] */
    double seconds;
} side;

typedef struct slice_job {
    const float *logits, *reference;
    const int32_t *targets;
    size_t n_vocab;
    token_score *scores;
} slice_job;

static void score_task(void *arg, size_t i, int worker)
{
    (void)worker;
    slice_job *j = arg;
    j->scores[i] = score_row(j->logits + i * j->n_vocab, j->reference ? j->reference + i * j->n_vocab : NULL, j->n_vocab, j->targets[i]);
}

static pith_status side_new(pith_ctx *ctx, pith_llama *model, size_t context, size_t n_out, side *s)
{
    s->model = model;
    PITH_TRY(pith_llama_cache(ctx, model, PITH_CACHE_F16, context, &s->cache));
    s->hidden = pith_array(ctx, n_out, model->s.n_embd * sizeof(float));
    s->logits = pith_array(ctx, SLICE_ROWS, model->s.n_vocab * sizeof(float));
    return s->hidden && s->logits ? PITH_OK : PITH_E_MEMORY;
}

static void side_free(pith_ctx *ctx, side *s)
{
    pith_free(ctx, s->logits);
    pith_free(ctx, s->hidden);
    pith_cache_free(ctx, s->cache);
}

static pith_status side_run(pith_ctx *ctx, side *s, const int32_t *ids, size_t n, size_t n_out)
{
    double begun = pith_now_s();
    s->cache->kind->truncate(s->cache, 0);
    PITH_TRY(pith_llama_hidden(ctx, s->model, s->cache, ids, n, n_out, s->hidden));
    s->seconds += pith_now_s() - begun;
    return PITH_OK;
}

static pith_status side_slice(pith_ctx *ctx, side *s, size_t first, size_t n)
{
    double begun = pith_now_s();
    PITH_TRY(pith_llama_logits(ctx, s->model, s->hidden + first * s->model->s.n_embd, n, s->logits));
    s->seconds += pith_now_s() - begun;
    return PITH_OK;
}

/* ids [context]: the last token is only a target, so it is not run. */
static pith_status run_chunk(pith_ctx *ctx, side *model, side *reference, const int32_t *ids, size_t context, size_t n_out, token_score *scores)
{
    PITH_TRY(side_run(ctx, model, ids, context - 1, n_out));
    if (reference) PITH_TRY(side_run(ctx, reference, ids, context - 1, n_out));
    for (size_t i = 0; i < n_out; i += SLICE_ROWS) {
        size_t n = PITH_MIN(SLICE_ROWS, n_out - i);
        PITH_TRY(side_slice(ctx, model, i, n));
        if (reference) PITH_TRY(side_slice(ctx, reference, i, n));
        slice_job job = {model->logits, reference ? reference->logits : NULL, ids + context - n_out + i, model->model->s.n_vocab, scores + i};
        pith_parallel(ctx, n, score_task, &job);
    }
    return PITH_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between the two nearest ranks, linearly. values are sorted. */
static double quantile(const double *values, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? values[i] + (at - (double)i) * (values[i + 1] - values[i]) : values[n - 1];
}

/* Standard error of the mean of n values. */
static double standard_error(double sum, double sum_of_squares, size_t n)
{
    double mean = sum / (double)n, variance = sum_of_squares / (double)n - mean * mean;
    return n > 1 && variance > 0 ? sqrt(variance / (double)(n - 1)) : 0;
}

static pith_status summarise(pith_ctx *ctx, const token_score *scores, size_t n, bool has_reference, pith_eval_result *r)
{
    double nll = 0, nll2 = 0, reference = 0, kl = 0, kl2 = 0;
    size_t same = 0;
    double *kls = pith_array(ctx, n, sizeof *kls);
    if (!kls) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        nll += scores[i].nll;
        nll2 += scores[i].nll * scores[i].nll;
        reference += scores[i].reference_nll;
        kls[i] = scores[i].kl;
        kl += kls[i];
        kl2 += kls[i] * kls[i];
        same += scores[i].same_top;
    }
    r->n_scored = n;
    r->nll_mean = nll / (double)n;
    r->perplexity = exp(r->nll_mean);
    r->perplexity_stderr = r->perplexity * standard_error(nll, nll2, n);
    r->has_reference = has_reference;
    if (has_reference) {
        qsort(kls, n, sizeof *kls, by_value);
        r->kl_mean = kl / (double)n;
        r->kl_mean_stderr = standard_error(kl, kl2, n);
        r->kl_p99 = quantile(kls, n, 0.99);
        r->top1_agreement = (double)same / (double)n;
        r->reference_perplexity = exp(reference / (double)n);
    }
    pith_free(ctx, kls);
    return PITH_OK;
}

pith_status pith_eval_text(pith_ctx *ctx, pith_llama *model, pith_llama *reference, const int32_t *ids, size_t n, int32_t bos, const pith_eval_options *o,
                           pith_eval_result *result)
{
    size_t context = o && o->context ? o->context : DEFAULT_CONTEXT, n_chunks = n / context;
    if (context < 4) return pith_fail(ctx, PITH_E_ARGUMENT, "chunks of %zu tokens are too short to score: at least 4", context);
    if (n_chunks == 0) return pith_fail(ctx, PITH_E_ARGUMENT, "the text has %zu tokens, one chunk needs %zu", n, context);
    if (o && o->n_chunks > n_chunks) pith_log(ctx, PITH_LOG_WARN, "the text has %zu chunks of %zu tokens, not the %zu asked for", n_chunks, context, o->n_chunks);
    if (o && o->n_chunks) n_chunks = PITH_MIN(n_chunks, o->n_chunks);
    if (reference && reference->s.n_vocab != model->s.n_vocab)
        return pith_fail(ctx, PITH_E_SHAPE, "the reference has %u tokens, the model %u: their logits cannot be compared", reference->s.n_vocab, model->s.n_vocab);
    size_t n_out = o && o->all_tokens ? context - 1 : context - 1 - context / 2, n_scored;
    if (!pith_mul(n_chunks, n_out, &n_scored)) return pith_fail(ctx, PITH_E_LIMIT, "%zu chunks of %zu tokens are too many", n_chunks, context);

    side a = {0}, b = {0};
    token_score *scores = pith_array(ctx, n_scored, sizeof *scores);
    int32_t *chunk = pith_array(ctx, context, sizeof *chunk);
    pith_status status = scores && chunk ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) status = side_new(ctx, model, context, n_out, &a);
    if (status == PITH_OK && reference) status = side_new(ctx, reference, context, n_out, &b);
    for (size_t i = 0; i < n_chunks && status == PITH_OK; i++) {
        token_score *mine = scores + i * n_out;
        memcpy(chunk, ids + i * context, context * sizeof *chunk);
        if (bos >= 0) chunk[0] = bos;
        if (chunk[context - 1] < 0 || (uint32_t)chunk[context - 1] >= model->s.n_vocab) /* forward checks the others */
            status = pith_fail(ctx, PITH_E_ARGUMENT, "token %zu has id %d, the model knows 0 to %u", context - 1, (int)chunk[context - 1], model->s.n_vocab - 1);
        if (status == PITH_OK) status = pith_progress(ctx, "evaluate", i, n_chunks);
        if (status == PITH_OK) status = run_chunk(ctx, &a, reference ? &b : NULL, chunk, context, n_out, mine);
        for (size_t k = 0; k < n_out && status == PITH_OK; k++)
            if (!isfinite(mine[k].nll) || !isfinite(mine[k].kl))
                status = pith_fail(ctx, PITH_E_NONFINITE, "chunk %zu, token %zu: the logits are not finite", i, context - n_out + k);
    }
    if (status == PITH_OK) status = pith_progress(ctx, "evaluate", n_chunks, n_chunks);
    if (status == PITH_OK) {
        pith_eval_result r = {.n_chunks = n_chunks, .prefill_tokens_per_second = (double)(n_chunks * (context - 1)) / a.seconds};
        status = summarise(ctx, scores, n_scored, reference != NULL, &r);
        if (status == PITH_OK) *result = r;
    }
    side_free(ctx, &b);
    side_free(ctx, &a);
    pith_free(ctx, chunk);
    pith_free(ctx, scores);
    return status;
}

/* ---- speed ------------------------------------------------------------------------------------ */

static pith_status speed_run(pith_ctx *ctx, pith_llama *model, pith_cache *cache, const int32_t *ids, size_t n_prompt, size_t n_decode, float *logits,
                             double *prefill_s, double *decode_s)
{
    cache->kind->truncate(cache, 0);
    double begun = pith_now_s();
    if (n_prompt) PITH_TRY(pith_llama_forward(ctx, model, cache, ids, n_prompt, 1, logits));
    double filled = pith_now_s();
    for (size_t i = 0; i < n_decode; i++) PITH_TRY(pith_llama_forward(ctx, model, cache, ids + n_prompt + i, 1, 1, logits));
    *prefill_s = PITH_MIN(*prefill_s, filled - begun);
    *decode_s = PITH_MIN(*decode_s, pith_now_s() - filled);
    return PITH_OK;
}

pith_status pith_eval_speed(pith_ctx *ctx, pith_llama *model, size_t n_prompt, size_t n_decode, int n_runs, double *prefill_tps, double *decode_tps)
{
    size_t n;
    if (n_runs < 1 || !pith_add(n_prompt, n_decode, &n) || n == 0)
        return pith_fail(ctx, PITH_E_ARGUMENT, "a speed test of %zu and %zu tokens, %d times", n_prompt, n_decode, n_runs);
    pith_cache *cache = NULL;
    PITH_TRY(pith_llama_cache(ctx, model, PITH_CACHE_F16, n, &cache));
    int32_t *ids = pith_array(ctx, n, sizeof *ids);
    float *logits = pith_array(ctx, model->s.n_vocab, sizeof *logits);
    pith_status status = ids && logits ? PITH_OK : PITH_E_MEMORY;
    pith_rng rng = {.stream = SPEED_STREAM};
    for (size_t i = 0; i < n && status == PITH_OK; i++) ids[i] = (int32_t)pith_rng_below(&rng, model->s.n_vocab);
    double prefill_s = INFINITY, decode_s = INFINITY;
    for (int i = 0; i < n_runs && status == PITH_OK; i++) {
        status = pith_progress(ctx, "speed", (uint64_t)i, (uint64_t)n_runs);
        if (status == PITH_OK) status = speed_run(ctx, model, cache, ids, n_prompt, n_decode, logits, &prefill_s, &decode_s);
    }
    if (status == PITH_OK) status = pith_progress(ctx, "speed", (uint64_t)n_runs, (uint64_t)n_runs);
    if (status == PITH_OK) {
        *prefill_tps = n_prompt ? (double)n_prompt / prefill_s : 0;
        *decode_tps = n_decode ? (double)n_decode / decode_s : 0;
    }
    pith_free(ctx, logits);
    pith_free(ctx, ids);
    pith_cache_free(ctx, cache);
    return status;
}
