/* Sequences turned round (the data set "reverse"), by an encoder whose last state the decoder sees at each step, as in
 * arXiv:1406.1078, or by one reader of all: letters, a mark, then the reply, which ends with a symbol of its own. */
#ifndef PITH_REVERSAL_H
#define PITH_REVERSAL_H

#include "eval/bleu.h"
#include "recipe/recurrent/sequence_readers.h"

enum { PITH_REPLY = 11, PITH_REVERSAL_SYMBOLS = 28 }; /* of a reply at most, its end counted; end, 26 letters, mark */

typedef struct pith_reversal {
    pith_tape *tape;
    pith_reader *reader, *decoder; /* decoder NULL: the reader does both */
} pith_reversal;

/** Of a kind of reader, mamba2 as one of n_encoder + n_decoder parameters; other kinds as two.  On error to be freed too. */
pith_status pith_reversal_new(pith_tape *tape, const char *kind, size_t n_encoder, size_t n_decoder, uint64_t seed, pith_reversal *r);
void pith_reversal_free(pith_reversal *r);
/** The mean cross-entropy of the replies of tokens [n, len]; each symbol after the right ones (teacher forcing), or, fed_its_own, after
 *  those that it gives itself. */
pith_var *pith_reversal_loss(const pith_reversal *r, const int32_t *tokens, size_t n, size_t len, bool fed_its_own);
/** The likeliest symbol at each step, fed to the next: reply [n, PITH_REPLY].  Of tokens only letters and mark are seen.
 *  Recording is off. */
pith_status pith_reversal_reply(const pith_reversal *r, const int32_t *tokens, size_t n, size_t len, int32_t *reply);
/** Add the replies, up to their ends, to a BLEU. */
void pith_reversal_score(const int32_t *tokens, size_t n, size_t len, const int32_t *reply, pith_bleu *sum);

#endif
