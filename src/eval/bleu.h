/* BLEU: how much of a text's word sequences are in reference texts. */
#ifndef PITH_BLEU_H
#define PITH_BLEU_H

#include "base/base.h"

#define PITH_BLEU_ORDER 4

typedef struct pith_bleu_text {
    const int32_t *words;
    size_t n;
} pith_bleu_text;

/* Sums over a corpus; zero it first. */
typedef struct pith_bleu {
    uint64_t matched[PITH_BLEU_ORDER], total[PITH_BLEU_ORDER]; /* of sequences of 1, 2 … words */
    uint64_t len, reference_len;
} pith_bleu;

/** A candidate with its references [n_references], one at least.  Each of its word sequences counts at most as often as it is in
 *  one of them; the reference's length is the one nearest to its own, of equals the shorter.
 *  thread: pure.  paper: Papineni, Roukos, Ward, Zhu, "BLEU", ACL 2002 */
void pith_bleu_add(pith_bleu *b, pith_bleu_text candidate, const pith_bleu_text *references, size_t n_references);
/** The geometric mean of the shares matched of sequences of 1..order words, times exp(1 - reference length / length) where the
 *  candidates are shorter, 0..1.  0 where some order has no match, as defined. */
double pith_bleu_score(const pith_bleu *b, size_t order);

#endif
