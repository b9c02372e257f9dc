/* Pre-tokenizers: cut text into the words that merges never cross, as the patterns of the model families do. */
#ifndef PITH_TEXT_SPLIT_H
#define PITH_TEXT_SPLIT_H

#include "text/unicode.h"

typedef enum pith_split {
    PITH_SPLIT_GPT2,    /* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
    PITH_SPLIT_SMOLLM,  /* every \p{N} by itself, then GPT-2's pattern on what lies between */
    PITH_SPLIT_LLAMA3,  /* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
    PITH_SPLIT_QWEN2,   /* Llama 3's with \p{N} for \p{N}{1,3} */
    PITH_SPLIT_NONE,    /* the whole segment */
    PITH_SPLIT_SPACES,  /* before each U+2581: SentencePiece's way, one mark a word */
    PITH_SPLIT_RUNS,    /* before each U+2581 that follows another character: runs of marks stay together */
    PITH_SPLIT_BERT     /* white space cuts and goes, punctuation stands alone */
} pith_split;

/** The split of a pre-tokenizer's name as GGUF gives it; false when it is unknown. */
bool pith_split_by_name(const char *pre, pith_split *split);
/** End of the word that begins at text[pos], pos < len.  PITH_SPLIT_BERT: words of white space must be skipped by
 *  the caller (*space).  Linear in the text over all calls.  Pure. */
size_t pith_split_next(const pith_unicode *u, pith_split split, const uint8_t *text, size_t pos, size_t len, bool *space);

#endif
