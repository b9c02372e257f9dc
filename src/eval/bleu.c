/* BLEU by its definition. */
#include "eval/bleu.h"

#include <math.h>

static bool same(const int32_t *a, const int32_t *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* How often `words` [n] is in a text. */
static size_t count(pith_bleu_text text, const int32_t *words, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i + n <= text.n; i++) found += same(text.words + i, words, n);
    return found;
}

void pith_bleu_add(pith_bleu *b, pith_bleu_text candidate, const pith_bleu_text *references, size_t n_references)
{
    size_t nearest = references[0].n;
    for (size_t r = 1; r < n_references; r++) {
        size_t n = references[r].n, gap = n > candidate.n ? n - candidate.n : candidate.n - n, best = nearest > candidate.n ? nearest - candidate.n : candidate.n - nearest;
        if (gap < best || (gap == best && n < nearest)) nearest = n;
    }
    b->len += candidate.n;
    b->reference_len += nearest;
    for (size_t n = 1; n <= PITH_BLEU_ORDER; n++) {
        for (size_t i = 0; i + n <= candidate.n; i++) {
            const int32_t *words = candidate.words + i;
            b->total[n - 1]++;
            if (count((pith_bleu_text){candidate.words, i + n - 1}, words, n)) continue; /* counted where it was first */
            size_t here = count(candidate, words, n), most = 0;
            for (size_t r = 0; r < n_references; r++) most = PITH_MAX(most, count(references[r], words, n));
            b->matched[n - 1] += PITH_MIN(here, most);
        }
    }
}

double pith_bleu_score(const pith_bleu *b, size_t order)
{
    double sum = 0;
    for (size_t n = 0; n < order; n++) {
        if (!b->matched[n]) return 0;
        sum += log((double)b->matched[n] / (double)b->total[n]) / (double)order;
    }
    double penalty = b->len < b->reference_len ? 1 - (double)b->reference_len / (double)b->len : 0;
    return exp(sum + penalty);
}
