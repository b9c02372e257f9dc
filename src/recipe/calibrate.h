/* What a compressor learns of a model by running it on text: how large the inputs of every operator are,
 * and how much noise at its output costs. */
#ifndef PITH_CALIBRATE_H
#define PITH_CALIBRATE_H

#include "model/llama.h"
#include "text/tokenizer.h"

/* The operators of a layer, in this order everywhere here. */
enum { PITH_OP_Q, PITH_OP_K, PITH_OP_V, PITH_OP_O, PITH_OP_GATE, PITH_OP_UP, PITH_OP_DOWN, PITH_N_OPS };
extern const char *const pith_op_names[PITH_N_OPS]; /* "attn_q" … as in tensor names */

typedef struct pith_calibration {
    size_t n_layers, n_embd, q_dim, n_ff, n_vocab;
    size_t n_tokens;               /* that were run */
    int32_t *ids;                  /* [n_tokens] the text */
    bool self_generated;           /* text made by the model itself */
    float *rotation;               /* [n_embd, n_embd] Q: principal axes of the normalised residual stream, in columns, largest first */
    /* second moments of operators' inputs, with the norm's gain taken out and rotated by Q where they
     * come from the residual stream */
    float *attn_in, *ffn_in;       /* [n_layers, n_embd] */
    float *o_in;                   /* [n_layers, q_dim] */
    float *down_in;                /* [n_layers, n_ff] */
    float *out_in;                 /* [n_embd] of Q' diag(gain) x for a tied output, of Q' x else */
    /* KL (nats a token) for noise of variance 1 at every output of an operator, in the linear range */
    double *noise_kl;              /* [n_layers, PITH_N_OPS] */
    double out_kl, embedding_kl;   /* at the logits; at a looked-up row */
    float *token_weight;           /* [n_vocab] share of each token in what is predicted and read, sum 1 */
} pith_calibration;

typedef struct pith_calibrate_options {
    const int32_t *ids;            /* text; NULL: the model writes its own */
    size_t n_ids;
    size_t n_tokens;               /* at most this many are used; 0: 4096, and 2048 of the model's own */
    uint64_t seed;
} pith_calibrate_options;

/** Learn from a model in its native form.  Memory: a few n_embd^2 and the logits of 128 tokens, twice.
 *  @return PITH_E_MEMORY, PITH_E_CANCELLED, PITH_E_NONFINITE (the model's own output is not finite) */
pith_status pith_calibrate(pith_ctx *ctx, pith_llama *model, const pith_tokenizer *tok, const pith_calibrate_options *o, pith_calibration *c);
void pith_calibration_free(pith_ctx *ctx, pith_calibration *c);

#endif
