/* A source of named weights for a model: a GGUF or safetensors file, or a decoded .pith. */
#ifndef PITH_WEIGHTS_H
#define PITH_WEIGHTS_H

#include "format/model_file.h"
#include "stream/weights/operator.h"

typedef struct pith_weights pith_weights;
struct pith_weights {
    pith_settings settings;
    const pith_vocab *vocab;
    size_t file_bytes;
    size_t n_weights;               /* values in all tensors, for bits_per_weight */
    /* the operator of a 2-D tensor; the caller owns it, also after the weights are freed.
     * PITH_E_FORMAT with the name when it is not there. */
    pith_status (*matrix)(pith_ctx *ctx, pith_weights *w, const char *name, pith_operator **op);
    bool (*has)(pith_weights *w, const char *name);
    /* n values of a tensor of n values, as f32; PITH_E_FORMAT, PITH_E_SHAPE */
    pith_status (*vector)(pith_ctx *ctx, pith_weights *w, const char *name, float *dst, size_t n);
    void (*free)(pith_ctx *ctx, pith_weights *w);
};

typedef struct pith_weights_options {
    bool exact;                     /* dequantise to f16/f32 (a reference for eval), not to the fastest form */
    bool strict;                    /* damaged packets are an error */
    uint64_t max_bytes;             /* of a .pith: read it as if it ended here; 0: all of it */
} pith_weights_options;

/** Open whatever `path` is ("-": a .pith from standard input). */
pith_status pith_weights_open(pith_ctx *ctx, const char *path, const pith_weights_options *options, pith_weights **w);
/** The .pith source; pith_weights_open calls it. */
pith_status pith_weights_open_pith(pith_ctx *ctx, const char *path, const pith_weights_options *options, pith_weights **w);
void pith_weights_free(pith_ctx *ctx, pith_weights *w);

#endif
