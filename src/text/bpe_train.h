/* Learning a byte-level BPE vocabulary from text (Sennrich et al., ACL 2016, on bytes as in GPT-2). */
#ifndef PITH_BPE_TRAIN_H
#define PITH_BPE_TRAIN_H

#include "format/model_file.h"

typedef struct pith_bpe_options {
    size_t n_tokens;              /* of the vocabulary: controls, 256 bytes, merges; text too poor for them gives fewer */
    const char *pre;              /* how text is cut into words, by GGUF's name: "gpt-2", "smollm" …; NULL: "gpt-2" */
    uint64_t min_count;           /* pairs seen less often are not merged; 0: 2 */
    const char *const *controls;  /* [n_controls] names of control tokens, ids 0…; the first ends a text (bos and eos) */
    size_t n_controls;
} pith_bpe_options;

/** Learn from texts, between which no word goes on.  Ids: controls, then the bytes in the order of GPT-2's letters for
 *  them, then merges as they were made.  In each step the most frequent pair is merged, of equal ones that of the
 *  smallest (left, right) ids: what the PyPI package `tokenizers` makes of the same text.  (It would also merge to
 *  the name of a control, which here stays apart.)
 *  Time: linear in the text, and n log n in its different words.  Controls in the text are text here.
 *  vocab's arrays and strings live in `arena`, which stays whole on error.
 *  @return PITH_E_ARGUMENT (n_tokens too small, a control empty or twice, an unknown `pre`), PITH_E_LIMIT (2^31
 *  letters in different words), PITH_E_MEMORY, PITH_E_CANCELLED */
pith_status pith_bpe_train(pith_ctx *ctx, pith_arena *arena, const pith_str *texts, size_t n_texts, const pith_bpe_options *options, pith_vocab *vocab);

#endif
