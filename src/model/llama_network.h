/* The llama, written once: a sequence of steps (llama_network.c) that an engine carries out.  One engine works on
 * float buffers over a cache (llama_run.c), the other records on a tape (llama_tape.c). */
#ifndef PITH_LLAMA_NETWORK_H
#define PITH_LLAMA_NETWORK_H

#include "model/llama.h"

/* What is known of each token at some step; the engine keeps one array for each. */
typedef enum llama_value {
    LLAMA_X,                       /* [n_embd] the residual stream */
    LLAMA_H,                       /* [n_embd] normalised, the input of what follows; then what that adds to X */
    LLAMA_Q, LLAMA_K, LLAMA_V,     /* [heads or kv_heads, head_dim] */
    LLAMA_ATT,                     /* [heads, head_dim] */
    LLAMA_GATE, LLAMA_UP,          /* [n_ff] */
    LLAMA_LOGITS,                  /* [n_vocab] */
    LLAMA_N_VALUES
} llama_value;

typedef struct llama_engine {
    pith_status (*embed)(void *run);                                                   /* X = rows of the embedding, scaled */
    pith_status (*layer)(void *run, size_t i_layer);                                   /* llama_layer, in the engine's own way */
    pith_status (*norm)(void *run, const pith_llama_vector *gain);                           /* H = RMS norm of X */
    pith_status (*multiply)(void *run, pith_operator *const *ops, size_t n_ops, llama_value from, const llama_value *to); /* to[k] = ops[k] from */
    pith_status (*attend)(void *run, const pith_llama_layer *l, size_t i_layer);       /* biases onto Q, K, V; Q and K rotated; ATT, scaled for o */
    pith_status (*gate)(void *run, const pith_llama_layer *l);                         /* GATE = silu(GATE) UP, scaled for down */
    pith_status (*add)(void *run);                                                     /* X = X + H; H is free after */
} llama_engine;

/** From tokens to normalised states: X and H of the last layer. */
pith_status llama_body(const llama_engine *e, void *run, const pith_llama *m);
/** One layer: X to X. */
pith_status llama_layer(const llama_engine *e, void *run, const pith_llama *m, size_t i_layer);
/** LOGITS of H; X is overwritten. */
pith_status llama_head(const llama_engine *e, void *run, const pith_llama *m);

/** Angles for positions below n, in m->rope_cos and rope_sin; limit: the most that will ever be asked. */
pith_status llama_ready_rope(pith_ctx *ctx, pith_llama *m, size_t n, size_t limit);
/** @return PITH_E_ARGUMENT for an id that the model does not know */
pith_status llama_check_ids(pith_ctx *ctx, const pith_llama *m, const int32_t *ids, size_t n);

#endif
