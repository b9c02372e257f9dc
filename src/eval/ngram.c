/* n-grams and hidden Markov models. */
#include "eval/ngram.h"

#include <math.h>

/* What was seen: a sequence of up to PITH_NGRAM_MAX symbols, one a byte, the last one lowest. */
typedef struct seen {
    uint64_t key;
    uint32_t count;               /* 0: an empty place */
    uint32_t kinds;               /* as what came before: different symbols that followed */
    uint32_t followed;            /* … and how many in all */
} seen;

struct pith_ngram {
    pith_ctx *ctx;
    size_t order, n_symbols, mask;
    seen *table[PITH_NGRAM_MAX];   /* [mask + 1] by length - 1; open addressing */
    seen nothing;                  /* what followed the empty sequence */
};

static seen *place(seen *table, size_t mask, uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(h >> 20 ^ h) & mask;
    while (table[i].count && table[i].key != key) i = (i + 1) & mask;
    return &table[i];
}

/* The last `len` of text [n] as a key. */
static uint64_t key_of(const uint8_t *text, size_t n, size_t len)
{
    uint64_t key = 0;
    for (size_t i = n - len; i < n; i++) key = key << 8 | text[i];
    return key;
}

static void count_at(pith_ngram *m, const uint8_t *text, size_t at)
{
    for (size_t len = 1; len <= m->order && len <= at + 1; len++) {
        uint64_t key = key_of(text, at + 1, len);
        seen *s = place(m->table[len - 1], m->mask, key), *before = len == 1 ? &m->nothing : place(m->table[len - 2], m->mask, key_of(text, at, len - 1));
        before->followed++;
        before->kinds += s->count == 0;
        s->key = key;
        s->count++;
    }
}

pith_status pith_ngram_new(pith_ctx *ctx, const uint8_t *text, size_t n, size_t n_symbols, size_t order, pith_ngram **model)
{
    if (!order || order > PITH_NGRAM_MAX || !n_symbols || n_symbols > 256 || n >= UINT32_MAX)
        return pith_fail(ctx, PITH_E_ARGUMENT, "an n-gram of order %zu over %zu symbols of %zu; 1 to %d, 1 to 256 and less than 2^32 can be counted", order, n_symbols, n, PITH_NGRAM_MAX);
    pith_ngram *m = pith_calloc(ctx, 1, sizeof *m);
    if (!m) return PITH_E_MEMORY;
    *m = (pith_ngram){.ctx = ctx, .order = order, .n_symbols = n_symbols, .mask = 15};
    while (m->mask < 2 * n) m->mask = 2 * m->mask + 1;
    for (size_t i = 0; i < order; i++) {
        if ((m->table[i] = pith_calloc(ctx, m->mask + 1, sizeof *m->table[i]))) continue;
        pith_ngram_free(m);
        return PITH_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) count_at(m, text, i);
    *model = m;
    return PITH_OK;
}

void pith_ngram_free(pith_ngram *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->order; i++) pith_free(m->ctx, m->table[i]);
    pith_free(m->ctx, m);
}

double pith_ngram_chance(const pith_ngram *m, const uint8_t *before, size_t n_before, uint8_t symbol, size_t order)
{
    double p = 1 / (double)m->n_symbols;
    for (size_t back = 0; back < order && back <= n_before; back++) {
        uint64_t key = key_of(before, n_before, back);
        const seen *context = back ? place(m->table[back - 1], m->mask, key) : &m->nothing;
        if (!context->followed) break; /* nor were longer ones */
        double count = place(m->table[back], m->mask, key << 8 | symbol)->count, kinds = context->kinds;
        p = (count + kinds * p) / ((double)context->followed + kinds);
    }
    return p;
}

double pith_ngram_bits(const pith_ngram *m, const uint8_t *text, size_t n, size_t order)
{
    double bits = 0;
    for (size_t i = 0; i < n; i++) {
        size_t back = PITH_MIN(i, order - 1);
        bits -= log2(pith_ngram_chance(m, text + i - back, back, text[i], order));
    }
    return n ? bits / (double)n : 0;
}

/* ---- hidden Markov models --------------------------------------------------------------------- */

pith_status pith_hmm_new(pith_ctx *ctx, size_t n_tags, size_t n_symbols, pith_hmm *hmm)
{
    *hmm = (pith_hmm){.n_tags = n_tags, .n_symbols = n_symbols, .ctx = ctx};
    size_t n = n_tags * (1 + n_tags + n_symbols);
    if (!n_tags || !n_symbols || n_tags > 4096 || n_symbols > 1 << 20) return pith_fail(ctx, PITH_E_ARGUMENT, "a Markov model of %zu tags and %zu symbols; 1 to 4096 tags and up to 2^20 symbols are possible", n_tags, n_symbols);
    if (!(hmm->first = pith_array(ctx, n, sizeof *hmm->first))) return PITH_E_MEMORY;
    hmm->next = hmm->first + n_tags;
    hmm->shows = hmm->next + n_tags * n_tags;
    for (size_t i = 0; i < n; i++) hmm->first[i] = 1;
    return PITH_OK;
}

void pith_hmm_free(pith_hmm *hmm)
{
    if (hmm->ctx) pith_free(hmm->ctx, hmm->first);
}

void pith_hmm_count(pith_hmm *m, const int32_t *symbols, const int32_t *tags, size_t n)
{
    for (size_t t = 0; t < n; t++) {
        size_t tag = (size_t)tags[t];
        if (t) m->next[(size_t)tags[t - 1] * m->n_tags + tag]++;
        else m->first[tag]++;
        m->shows[tag * m->n_symbols + (size_t)symbols[t]]++;
    }
}

/* log of p[i] over the sum of p [n] */
static double log_share(const double *p, size_t n, size_t i)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++) sum += p[k];
    return log(p[i] / sum);
}

pith_status pith_hmm_tag(const pith_hmm *m, const int32_t *symbols, size_t n, int32_t *tags)
{
    size_t k = m->n_tags, n_back;
    if (!pith_mul(n, k, &n_back)) return pith_fail(m->ctx, PITH_E_LIMIT, "a sequence of %zu is too long to be tagged", n);
    double *score = pith_array(m->ctx, 2 * k + k * k, sizeof *score);
    int32_t *back = score ? pith_array(m->ctx, n_back, sizeof *back) : NULL;
    if (!back) {
        pith_free(m->ctx, score);
        return PITH_E_MEMORY;
    }
    double *now = score + k, *step = score + 2 * k;
    for (size_t a = 0; a < k; a++)
        for (size_t b = 0; b < k; b++) step[a * k + b] = log_share(m->next + a * k, k, b);
    for (size_t t = 0; t < n; t++) {
        for (size_t b = 0; b < k; b++) {
            size_t from = 0;
            for (size_t a = 1; t && a < k; a++) from = score[a] + step[a * k + b] > score[from] + step[from * k + b] ? a : from;
            now[b] = (t ? score[from] + step[from * k + b] : log_share(m->first, k, b)) + log_share(m->shows + b * m->n_symbols, m->n_symbols, (size_t)symbols[t]);
            back[t * k + b] = (int32_t)from;
        }
        memcpy(score, now, k * sizeof *score);
    }
    size_t best = 0;
    for (size_t b = 1; b < k; b++) best = score[b] > score[best] ? b : best;
    for (size_t t = n; t-- > 0;) {
        tags[t] = (int32_t)best;
        best = (size_t)back[t * k + best];
    }
    pith_free(m->ctx, back);
    pith_free(m->ctx, score);
    return PITH_OK;
}
