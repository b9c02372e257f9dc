/* Pre-tokenizers given as regular expressions, by PCRE2: for those that split.h has no scanner for. */
#ifndef PITH_TEXT_PATTERN_H
#define PITH_TEXT_PATTERN_H

#include "base/base.h"

typedef struct pith_pattern pith_pattern;   /* read only once made; any number of threads */
typedef struct pith_matcher pith_matcher;   /* one call's state */

/** The pattern of a pre-tokenizer's name as GGUF gives it; NULL when there is none. */
const char *pith_pattern_by_name(const char *pre);
/** @return PITH_E_FORMAT with PCRE2's message and the place in the pattern, PITH_E_MEMORY */
pith_status pith_pattern_new(pith_ctx *ctx, const char *regex, size_t len, pith_pattern **pattern);
void pith_pattern_free(pith_ctx *ctx, pith_pattern *pattern);
pith_status pith_matcher_new(pith_ctx *ctx, const pith_pattern *pattern, pith_matcher **matcher);
void pith_matcher_free(pith_ctx *ctx, pith_matcher *matcher);
/** End of the word that begins at text[pos], pos < len: a match, or what lies before the next one.  A text is gone
 *  through from pos 0 to its end.
 *  @return PITH_E_LIMIT when the pattern backtracks without end on this text */
pith_status pith_matcher_next(pith_matcher *matcher, const uint8_t *text, size_t pos, size_t len, size_t *word_end);

#endif
