/* The llama on a tape: the network of llama_network.c, recorded.
 *
 *     pith_llama_train(ctx, m, tape, NULL);                  // its weights become parameters
 *     pith_tape_step(tape, step);
 *     pith_var *logits = pith_llama_record(tape, m, ids, n_texts, len, false);
 *     pith_backward(tape, pith_var_cross_entropy(logits, next_ids), 0);
 *
 * Between steps the model runs as always (pith_llama_forward …), by the values its parameters have. */
#ifndef PITH_LLAMA_TAPE_H
#define PITH_LLAMA_TAPE_H

#include "model/llama.h"

typedef struct pith_llama_training {
    bool (*chosen)(void *user, const char *name); /* whether a weight is trained; NULL: all are */
    void *user;
    pith_round_fn *round;             /* matrices of the layers that are trained are rounded by it; NULL: they are f32 */
    const void *round_user;           /* outlives the model */
} pith_llama_training;

/** Make weights of the model parameters of the tape, named as in GGUF; the others stay fixed, in whatever form they
 *  are.  options NULL: all of them, f32.  The tape must outlive the model; not within a step.
 *  @return PITH_E_MEMORY; the model is still whole then, some of its weights being parameters */
pith_status pith_llama_train(pith_ctx *ctx, pith_llama *model, pith_tape *tape, const pith_llama_training *options);

/** Logits [n_texts, len, n_vocab] of texts that each begin at position 0: ids [n_texts, len].  checkpoint: layers are
 *  computed again in the backward pass, and only what passes between them is kept.
 *  NULL: the tape's failure says why; PITH_E_LIMIT when len is more than the model's context. */
pith_var *pith_llama_record(pith_tape *tape, pith_llama *model, const int32_t *ids, size_t n_texts, size_t len, bool checkpoint);
/** The same up to the normalised states [n_texts, len, n_embd], and from there: h [.., n_embd] -> [.., n_vocab]. */
pith_var *pith_llama_record_hidden(pith_tape *tape, pith_llama *model, const int32_t *ids, size_t n_texts, size_t len, bool checkpoint);
pith_var *pith_llama_record_logits(pith_tape *tape, pith_llama *model, pith_var *hidden);

#endif
