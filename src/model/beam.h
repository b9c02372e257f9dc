/* The likeliest sentence that is found by keeping, word by word, the best few. */
#ifndef PITH_BEAM_H
#define PITH_BEAM_H

#include "base/base.h"

#define PITH_BEAM_WORDS 64         /* of a sentence at most */

typedef struct pith_sentence {
    int32_t words[PITH_BEAM_WORDS];
    size_t n;                      /* without its end */
    double log_chance;             /* of the words and, where there is one, the end; nats */
    bool over;
} pith_sentence;

/** The logarithms of the chances of each word after each of n sentences of `len` words: begun [n, len] -> log_chance [n, n_words]. */
typedef pith_status pith_beam_next(void *user, const int32_t *begun, size_t n, size_t len, float *log_chance);

/** Word 0 ends a sentence; one of max_words (at most PITH_BEAM_WORDS) is over too.  beam 1: the likeliest word each time.  Of
 *  equals the earlier found stays.  best: the likeliest of the beam in the end.
 *  @return PITH_E_ARGUMENT, PITH_E_MEMORY, or what `next` returned */
pith_status pith_beam_search(pith_ctx *ctx, pith_beam_next *next, void *user, size_t n_words, size_t max_words, size_t beam, pith_sentence *best);

#endif
