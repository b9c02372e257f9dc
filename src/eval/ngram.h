/* Language models and taggers that count: what stands beside networks. */
#ifndef PITH_NGRAM_H
#define PITH_NGRAM_H

#include "base/base.h"

#define PITH_NGRAM_MAX 8

/* The probability of a symbol by how often it followed the last ones: counts of each order are mixed with the next lower one,
 * by how many kinds of symbols followed (Witten, Bell 1991, method C, interpolated); the lowest is mixed with 1 / n_symbols. */
typedef struct pith_ngram pith_ngram;
/** Counts of text [n], symbols below n_symbols (at most 256); order 1..PITH_NGRAM_MAX symbols with the one predicted.
 *  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_ngram_new(pith_ctx *ctx, const uint8_t *text, size_t n, size_t n_symbols, size_t order, pith_ngram **model);
void pith_ngram_free(pith_ngram *model); /* NULL is allowed */
/** Of `symbol` after `before` [n_before], of which the last order - 1 count; order at most the model's: fewer are looked back. */
double pith_ngram_chance(const pith_ngram *model, const uint8_t *before, size_t n_before, uint8_t symbol, size_t order);
/** Mean bits of a symbol of text [n], each after all before it. */
double pith_ngram_bits(const pith_ngram *model, const uint8_t *text, size_t n, size_t order);

/* A hidden Markov model whose states are the tags: chances from counts of tagged text, each count begun with 1 (Laplace). */
typedef struct pith_hmm {
    size_t n_tags, n_symbols;
    double *first, *next, *shows;  /* [n_tags], [n_tags, n_tags], [n_tags, n_symbols]: counts */
    pith_ctx *ctx;
} pith_hmm;
pith_status pith_hmm_new(pith_ctx *ctx, size_t n_tags, size_t n_symbols, pith_hmm *hmm);
void pith_hmm_free(pith_hmm *hmm);
/** A tagged sequence [n]; tags and symbols below their numbers. */
void pith_hmm_count(pith_hmm *hmm, const int32_t *symbols, const int32_t *tags, size_t n);
/** The likeliest tags of a sequence (Viterbi 1967).  @return PITH_E_MEMORY */
pith_status pith_hmm_tag(const pith_hmm *hmm, const int32_t *symbols, size_t n, int32_t *tags);

#endif
