/* What the readers of model settings share: defaults, range checks, and the rules of rotary scaling. */
#ifndef PITH_SETTINGS_H
#define PITH_SETTINGS_H

#include "format/model_file.h"

/** An empty model file with its arena and a copy of the path; pith_model_file_close frees it. */
pith_status pith_model_file_new(pith_ctx *ctx, const char *path, pith_model_file **file);

/** Zero but for what files may leave out: norm_eps 1e-5, rope_base 10000, no scaling. */
void pith_settings_default(pith_settings *s);
/** Refuse settings that cannot be of any network: counts out of range, heads that do not divide.  Nothing is asked of
 *  an architecture we do not know, nor of a file without layers.  @return PITH_E_CORRUPT */
pith_status pith_settings_check(pith_ctx *ctx, const char *path, const pith_settings *s, size_t n_tensors);
/** Whether the network is one that src/model runs: llama or qwen2. */
bool pith_settings_known(const pith_settings *s);

/** YaRN's factor on cos and sin, 0.1 ln(factor) + 1 (arXiv:2309.00071, section 3.4); 1 for factor <= 1. */
float pith_yarn_attn_factor(float factor);
/** What llama 3's scaling divides frequency i by, for all rope_dims/2 of them (GGUF keeps them as rope_freqs.weight).
 *  Between wavelengths original_ctx/high and original_ctx/low it goes over smoothly. */
void pith_llama3_factors(const pith_settings *s, float *factors);
/** The reverse: the settings whose factors are these n = rope_dims/2 values within 1e-3 of each; false and
 *  `s` as it was when there are none. */
bool pith_llama3_from_factors(pith_settings *s, const float *factors, size_t n);

#endif
