/* Beam search. */
#include "model/beam.h"

/* Into best [most], the likeliest first. */
static void keep(pith_sentence *best, size_t *n, size_t most, const pith_sentence *begun, double log_chance, int32_t word, bool over)
{
    size_t at = *n;
    while (at > 0 && log_chance > best[at - 1].log_chance) at--;
    if (at == most) return;
    *n = PITH_MIN(*n + 1, most);
    memmove(best + at + 1, best + at, (*n - at - 1) * sizeof *best);
    best[at] = *begun;
    best[at].log_chance = log_chance;
    best[at].over = over;
    if (!begun->over && word) best[at].words[best[at].n++] = word;
}

/* One word more for each of kept [*n] that is not over; *n 0: all are. */
static pith_status grow(pith_beam_next *next, void *user, size_t n_words, size_t max_words, size_t beam, pith_sentence *kept, size_t *n, pith_sentence *grown, int32_t *begun, float *log_chance)
{
    size_t n_open = 0, n_grown = 0, len = 0;
    for (size_t i = 0; i < *n; i++) {
        if (kept[i].over) continue;
        len = kept[i].n;
        memcpy(begun + n_open++ * len, kept[i].words, len * sizeof *begun);
    }
    if (!n_open) {
        *n = 0;
        return PITH_OK;
    }
    PITH_TRY(next(user, begun, n_open, len, log_chance));
    for (size_t i = 0; i < *n; i++) {
        if (kept[i].over) keep(grown, &n_grown, beam, &kept[i], kept[i].log_chance, 0, true);
        for (size_t w = 0; !kept[i].over && w < n_words; w++) keep(grown, &n_grown, beam, &kept[i], kept[i].log_chance + (double)log_chance[w], (int32_t)w, w == 0 || len + 1 == max_words);
        if (!kept[i].over) log_chance += n_words;
    }
    memcpy(kept, grown, n_grown * sizeof *kept);
    *n = n_grown;
    return PITH_OK;
}

pith_status pith_beam_search(pith_ctx *ctx, pith_beam_next *next, void *user, size_t n_words, size_t max_words, size_t beam, pith_sentence *best)
{
    if (!beam || beam > 1024 || !n_words || n_words > INT32_MAX || !max_words || max_words > PITH_BEAM_WORDS)
        return pith_fail(ctx, PITH_E_ARGUMENT, "a beam of %zu over %zu words, %zu a sentence; 1 to 1024, at least one, and 1 to %d are possible", beam, n_words, max_words, PITH_BEAM_WORDS);
    pith_sentence *kept = pith_array(ctx, 2 * beam, sizeof *kept);
    int32_t *begun = pith_array(ctx, beam * max_words, sizeof *begun);
    float *log_chance = pith_array(ctx, beam, n_words * sizeof *log_chance);
    pith_status status = kept && begun && log_chance ? PITH_OK : PITH_E_MEMORY;
    size_t n = 1;
    if (status == PITH_OK) kept[0] = (pith_sentence){.n = 0};
    while (status == PITH_OK && n) {
        *best = kept[0];
        status = grow(next, user, n_words, max_words, beam, kept, &n, kept + beam, begun, log_chance);
    }
    pith_free(ctx, kept);
    pith_free(ctx, begun);
    pith_free(ctx, log_chance);
    return status;
}
