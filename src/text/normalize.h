/* Making text ready: the steps that come before it is cut into words. */
#ifndef PITH_TEXT_NORMALIZE_H
#define PITH_TEXT_NORMALIZE_H

#include "format/model_file.h"
#include "text/unicode.h"

typedef struct pith_text_buf {
    uint8_t *p;
    size_t n, cap;
} pith_text_buf;

/* Room for n more bytes. */
pith_status pith_text_buf_reserve(pith_ctx *ctx, pith_text_buf *b, size_t n);
static inline pith_status pith_text_buf_put(pith_ctx *ctx, pith_text_buf *b, const void *p, size_t n)
{
    if (!n) return PITH_OK;
    if (b->cap - b->n < n) PITH_TRY(pith_text_buf_reserve(ctx, b, n));
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return PITH_OK;
}

/* SentencePiece's precompiled map: a double-array trie (Darts-clone's units) whose leaves point to the strings
 * that replace what was matched. */
typedef struct pith_charsmap {
    const uint32_t *units;
    size_t n_units;
    const uint8_t *strings;      /* each ends with 0 */
    size_t n_strings;
} pith_charsmap;

typedef struct pith_normalizer {
    const pith_unicode *unicode;
    size_t n_steps, n_before;    /* those before n_before are normalisers, the others belong to the cutting into words */
    pith_text_step *steps;       /* copies, strings too */
    pith_charsmap map;
} pith_normalizer;

/** Copy the steps of a vocabulary, or those that follow from its kind and flags, into `arena`.
 *  @return PITH_E_FORMAT for a charsmap whose sizes do not fit. */
pith_status pith_normalizer_init(pith_ctx *ctx, pith_arena *arena, const pith_unicode *unicode, const pith_vocab *v, pith_normalizer *z);

/* What a call needs and keeps for the next one. */
typedef struct pith_normalize_work {
    pith_text_buf a, b, code_points;
} pith_normalize_work;
void pith_normalize_work_free(pith_ctx *ctx, pith_normalize_work *w);

/** text[0..len) through steps step0 .. step1 - 1.  *dst points into the work (or to text itself when nothing changed) until the
 *  next call.  `first`: the text is the start of what the user gave.  Bytes that are not UTF-8 pass through every
 *  step but BERT's cleaning, which drops them as it drops U+FFFD. */
pith_status pith_normalize(pith_ctx *ctx, const pith_normalizer *z, size_t step0, size_t step1, const uint8_t *text, size_t len, bool first,
                           pith_normalize_work *w, const uint8_t **dst, size_t *dst_len);

#endif
