/* A small random network in a GGUF file, for tests of whatever needs a model. */
#ifndef PITH_TINY_MODEL_H
#define PITH_TINY_MODEL_H

#include "format/model_file.h"

typedef struct tiny_model {
    pith_settings settings;     /* n_vocab follows from the vocabulary */
    pith_dtype dtype;           /* of the matrices; norms and biases are F32 */
    pith_vocab_kind vocab;      /* PITH_VOCAB_BPE or PITH_VOCAB_SPM, about 300 tokens each */
    bool biases;                /* on q, k and v, as in qwen2 */
    bool zero_gain;             /* value 3 of the layers' norms is 0 */
    uint64_t seed;
} tiny_model;

/** llama, 2 layers, 64 wide, 4 heads over 2 of keys and values, 256 in the feed-forward, context 256, F32, BPE, tied. */
tiny_model tiny_model_default(void);
/** Write it.  The matrices have variance 1/n_cols, norms are near 1, so activations and logits are of order 1. */
pith_status tiny_model_write(pith_ctx *ctx, const tiny_model *m, const char *path);
/** The vocabulary alone, in an arena. */
pith_status tiny_vocab(pith_arena *arena, pith_vocab_kind kind, pith_vocab *vocab);

#endif
