/* From logits to one token. */
#include <math.h>

#include "model/generate.h"
#include "model/sample.h"

#define STREAM 0x73616d70 /* "samp": our own sequence of random numbers under the user's seed */

const pith_sampling pith_sampling_default = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1, .repeat_last = 64};

typedef struct candidate {
    double mass;             /* exp(logit - greatest logit) */
    float logit;
    int32_t id;
} candidate;

/* A total order, so that the outcome does not depend on how we search: ties go to the smaller id. */
static bool better(const candidate *a, const candidate *b) { return a->logit > b->logit || (a->logit == b->logit && a->id < b->id); }

static void swap(candidate *a, candidate *b)
{
    candidate t = *a;
    *a = *b;
    *b = t;
}

/* Sink element i of a heap whose root is the worst. */
static void sink(candidate *heap, size_t n, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && better(&heap[child], &heap[child + 1])) child++;
        if (better(&heap[child], &heap[i])) return;
        swap(&heap[i], &heap[child]);
    }
}

/* The k best of n (all if k >= n), in c[0..]. @return how many */
static size_t keep_top(candidate *c, size_t n, size_t k)
{
    if (k >= n) return n;
    for (size_t i = k / 2; i-- > 0;) sink(c, k, i);
    for (size_t i = k; i < n; i++) {
        if (better(&c[i], &c[0])) {
            c[0] = c[i];
            sink(c, k, 0);
        }
    }
    return k;
}

/* The fewest best of n whose masses add up to `need`, in c[0..]: quickselect by mass. @return how many, at least 1 */
static size_t keep_mass(candidate *c, size_t n, double need)
{
    size_t low = 0, high = n; /* all before low are kept, all from high on are not */
    while (high - low > 1) {
        candidate *first = &c[low], *middle = &c[low + (high - low) / 2], *last = &c[high - 1];
        if (better(middle, first)) swap(middle, first);
        if (better(last, first)) swap(last, first);
        if (better(middle, last)) swap(middle, last); /* median of three stands last: the pivot */
        size_t at = low;
        double mass = 0;
        for (size_t i = low; i < high - 1; i++) {
            if (!better(&c[i], last)) continue;
            mass += c[i].mass;
            swap(&c[i], &c[at++]);
        }
        swap(&c[at], last);
        if (mass >= need) {
            high = at;
        } else if (mass + c[at].mass >= need) {
            return at + 1;
        } else {
            need -= mass + c[at].mass;
            low = at + 1;
        }
    }
    return PITH_MAX(PITH_MIN(low + 1, n), 1);
}

/* N. Keskar et al., arXiv:1909.05858: the logit of a token seen lately is divided by the penalty, or
 * multiplied where it is negative; once, however often it was seen. */
static pith_status penalise(pith_ctx *ctx, float *logits, size_t n_vocab, const int32_t *recent, size_t n_recent, float penalty)
{
    uint8_t *seen = pith_arena_take(pith_scratch(ctx), n_vocab / 8 + 1);
    if (!seen) return PITH_E_MEMORY;
    memset(seen, 0, n_vocab / 8 + 1);
    for (size_t i = 0; i < n_recent; i++) {
        size_t id = (size_t)recent[i];
        if (recent[i] < 0 || id >= n_vocab || seen[id / 8] >> id % 8 & 1) continue;
        seen[id / 8] |= (uint8_t)(1 << id % 8);
        logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
    return PITH_OK;
}

static double total_mass(const candidate *c, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += c[i].mass;
    return sum;
}

static pith_status draw(pith_ctx *ctx, const pith_sampling *s, const float *logits, size_t n_vocab, float greatest, uint64_t step, int32_t *id)
{
    size_t bytes, n = 0;
    candidate *c = pith_arena_take(pith_scratch(ctx), pith_mul(n_vocab, sizeof *c, &bytes) ? bytes : SIZE_MAX);
    if (!c) return PITH_E_MEMORY;
    for (size_t i = 0; i < n_vocab; i++)
        if (logits[i] > -INFINITY) c[n++] = (candidate){.logit = logits[i], .id = (int32_t)i};
    if (s->top_k > 0) n = keep_top(c, n, (size_t)s->top_k);
    for (size_t i = 0; i < n; i++) c[i].mass = exp((double)c[i].logit - (double)greatest);
    if (s->top_p < 1) n = keep_mass(c, n, (double)s->top_p * total_mass(c, n));
    if (s->min_p > 0) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (c[i].mass >= (double)s->min_p || c[i].logit == greatest) c[kept++] = c[i];
        n = kept;
    }
    for (size_t i = 0; i < n; i++) c[i].mass = exp(((double)c[i].logit - (double)greatest) / (double)s->temperature);
    uint32_t r[4];
    pith_philox(s->seed, STREAM, step, r);
    double left = ((double)(r[0] >> 5) * 0x1p26 + (double)(r[1] >> 6)) * 0x1p-53 * total_mass(c, n);
    size_t i = 0;
    while (i + 1 < n && left >= c[i].mass) left -= c[i++].mass;
    *id = c[i].id;
    return PITH_OK;
}

pith_status pith_sample_checked(pith_ctx *ctx, const pith_sampling *s, float *logits, size_t n_vocab, const int32_t *recent, size_t n_recent,
                                uint64_t step, int32_t *id)
{
    if (!(s->repeat_penalty > 0) || !(s->temperature >= 0) || !(s->top_p >= 0) || !(s->min_p <= 1) || s->top_k < 0 || s->repeat_last < 0)
        return pith_fail(ctx, PITH_E_ARGUMENT, "sampling: temperature %g, top-k %d, top-p %g, min-p %g, repetition penalty %g over %d tokens; "
                         "the penalty must be above 0, the others at least 0, min-p at most 1", (double)s->temperature, s->top_k, (double)s->top_p,
                         (double)s->min_p, (double)s->repeat_penalty, s->repeat_last);
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    pith_status status = PITH_OK;
    n_recent = PITH_MIN(n_recent, (size_t)s->repeat_last);
    if (s->repeat_penalty != 1 && n_recent) status = penalise(ctx, logits, n_vocab, recent, n_recent, s->repeat_penalty);
    size_t best = pith_argmax(logits, n_vocab);
    bool broken = n_vocab == 0;
    for (size_t i = 0; i < n_vocab; i++) broken |= !(logits[i] < INFINITY); /* -inf is a token that cannot come */
    if (status == PITH_OK && (broken || logits[best] == -INFINITY))
        status = pith_fail(ctx, PITH_E_NONFINITE, "the model's logits are not finite: its weights or its file are damaged");
    if (status == PITH_OK && s->temperature > 0) status = draw(ctx, s, logits, n_vocab, logits[best], step, id);
    else if (status == PITH_OK) *id = (int32_t)best;
    pith_arena_reset(pith_scratch(ctx), mark);
    return status;
}

int32_t pith_sample(pith_ctx *ctx, const pith_sampling *s, float *logits, size_t n_vocab, const int32_t *recent, size_t n_recent, uint64_t step)
{
    int32_t id = -1;
    return pith_sample_checked(ctx, s, logits, n_vocab, recent, n_recent, step, &id) == PITH_OK ? id : -1;
}
