/* The llama family: Llama, SmolLM2, Qwen2 (biases), Mistral.  Defined once, over operators, for running on buffers and
 * a cache (here) and for recording on a tape (model/llama_tape.h). */
#ifndef PITH_LLAMA_H
#define PITH_LLAMA_H

#include "stream/cache/cache.h"
#include "stream/weights/trained.h"
#include "stream/weights/weights.h"

/* A gain, a bias or a scale. */
typedef struct pith_llama_vector {
    float *x;                                         /* NULL: none */
    pith_var *param;                                  /* trained: x is its memory, the tape's; NULL: fixed, x is the model's own */
} pith_llama_vector;

typedef struct pith_llama_layer {
    pith_llama_vector attn_norm, ffn_norm;                  /* [n_embd] */
    pith_operator *q, *k, *v, *o, *gate, *up, *down;
    pith_llama_vector q_bias, k_bias, v_bias;               /* may be none */
    pith_llama_vector o_scale, down_scale;                  /* multiplied onto the inputs of o and down; may be none */
} pith_llama_layer;

typedef struct pith_llama {
    pith_settings s;
    pith_operator *embedding;                         /* [n_vocab, n_embd] */
    pith_llama_vector embedding_scale;                      /* [n_embd] multiplied onto a looked-up row, or none (rotated and scaled codecs) */
    pith_operator *output;                            /* = embedding when tied */
    pith_llama_vector output_norm;
    pith_operator *output_transform;                  /* [n_embd, n_embd] between the last norm and the output; NULL: none */
    pith_llama_layer *layers;
    float *rope_cos, *rope_sin;                       /* [n_ctx_ready, rope_dims/2], grown as needed */
    size_t n_rope;
    float *rope_freq;                                 /* [rope_dims/2] radians a position, scaling applied */
    float rope_magnitude;                             /* of the rotated vectors: 1 but for YaRN */
    bool rope_divided;                                /* by a vector of the file that the settings do not tell of */
    size_t n_batch;                                   /* tokens that pass the layers at once in prefill: 512 */
    size_t ram_bytes;                                 /* of all operators */
    pith_tap_fn *tap;                                 /* listens at operator inputs when set */
    void *tap_user;
} pith_llama;

/** Build from weights: takes the operators out of `w`; `w` may be freed after.
 *  @return PITH_E_UNSUPPORTED for another architecture or tensors that this definition would ignore,
 *  PITH_E_FORMAT for settings or shapes that do not fit together, PITH_E_MEMORY. */
pith_status pith_llama_new(pith_ctx *ctx, pith_weights *w, pith_llama **model);
void pith_llama_free(pith_ctx *ctx, pith_llama *model);

/* One of the weights: the model's only list of them. */
typedef struct pith_llama_weight {
    char name[48];                                    /* as in GGUF: blk.0.attn_q.weight */
    pith_operator **matrix;                           /* one of the two is set */
    pith_llama_vector *vector;
    size_t n_rows, n_cols;                            /* by the settings; a vector has one row */
    bool optional;                                    /* a model may do without it: *matrix and vector->x may be NULL */
} pith_llama_weight;
/** Weight number i, from 0; false behind the last.  model->layers may be NULL: only names and sizes are right then. */
bool pith_llama_weight_at(pith_llama *model, size_t i, pith_llama_weight *weight);

/** Run n tokens at positions cache->n …, appending to the cache.
 *  logits: NULL, or [n_logits, n_vocab] for the last n_logits tokens.
 *  @return PITH_E_LIMIT beyond the cache, PITH_E_ARGUMENT for an id out of range. */
pith_status pith_llama_forward(pith_ctx *ctx, pith_llama *model, pith_cache *cache, const int32_t *ids, size_t n, size_t n_logits, float *logits);
/** The same in two halves: the last n_out hidden states after the output norm, [n_out, n_embd], and the
 *  logits [n, n_vocab] of n of them.  For those who cannot hold all logits at once. */
pith_status pith_llama_hidden(pith_ctx *ctx, pith_llama *model, pith_cache *cache, const int32_t *ids, size_t n, size_t n_out, float *hidden);
pith_status pith_llama_logits(pith_ctx *ctx, pith_llama *model, const float *hidden, size_t n, float *logits);
/** A plain cache for this model; capacity in positions, 0 for all that the model was trained for.
 *  @return PITH_E_LIMIT beyond that, PITH_E_MEMORY */
pith_status pith_llama_cache(pith_ctx *ctx, const pith_llama *model, pith_cache_type type, size_t capacity, pith_cache **cache);

#endif
