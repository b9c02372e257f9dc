/* A llama from nothing, and to a folder that other programs read. */
#ifndef PITH_LLAMA_FOLDER_H
#define PITH_LLAMA_FOLDER_H

#include "model/llama.h"

/** Settings of a llama as Hugging Face's folders have them (rotary positions by halves, base 10,000, epsilon 1e-5);
 *  whether they fit together is looked at when the model is made. */
pith_settings pith_llama_settings(uint32_t n_layers, uint32_t n_embd, uint32_t n_heads, uint32_t n_kv_heads, uint32_t n_ff, uint32_t n_ctx, uint32_t n_vocab, bool tied);

/** A network to be trained.  Weights are normal with variance 1 / n_cols, those of what is added to the residual stream
 *  over 2 n_layers as well (GPT-2's scaling), the embedding's have deviation 0.02; gains are 1.  All are functions of
 *  (seed, name's place in the list) alone.  @return as pith_llama_new */
pith_status pith_llama_fresh(pith_ctx *ctx, const pith_settings *settings, uint64_t seed, pith_llama **model);

/** Write the model as it is now into a folder (made if need be): config.json, model.safetensors and, unless vocab is
 *  NULL, tokenizer.json and tokenizer_config.json.  Each file appears whole, the weights last.  dtype: F32, F16, BF16.
 *  @return PITH_E_UNSUPPORTED for what such a folder cannot say (weights of a rotated model, a vocabulary that is no
 *  byte-level BPE), PITH_E_NONFINITE (a value is beyond the type), PITH_E_IO, PITH_E_MEMORY */
pith_status pith_llama_save(pith_ctx *ctx, pith_llama *model, const pith_vocab *vocab, const char *folder, pith_dtype dtype);

#endif
