/* Perplexity, and distance to a reference model, on text. */
#ifndef PITH_EVAL_H
#define PITH_EVAL_H

#include "model/llama.h"

typedef struct pith_eval_options {
    size_t context;               /* tokens a chunk, default 512 */
    size_t n_chunks;              /* 0: all of the text */
    bool all_tokens;              /* score every token but the first; else the second half of each chunk, as llama.cpp does */
    const char *reference_cache;  /* unused yet: NULL */
} pith_eval_options;
typedef struct pith_eval_result {
    size_t n_chunks, n_scored;
    double nll_mean, perplexity, perplexity_stderr;
    bool has_reference;
    double kl_mean, kl_mean_stderr, kl_p99, top1_agreement;   /* KL(reference || model), nats */
    double reference_perplexity;
    double prefill_tokens_per_second;
} pith_eval_result;
/** ids [n]: chunked without overlap; the first id of each chunk is replaced by `bos` when bos >= 0.
 *  reference may be NULL.  @return PITH_E_ARGUMENT when the text is shorter than one chunk (message says how many tokens there are). */
pith_status pith_eval_text(pith_ctx *ctx, pith_llama *model, pith_llama *reference, const int32_t *ids, size_t n, int32_t bos, const pith_eval_options *o, pith_eval_result *r);
/** Tokens a second of one stream: n_prompt tokens at once, then n_decode single ones. Best of n_runs. */
pith_status pith_eval_speed(pith_ctx *ctx, pith_llama *model, size_t n_prompt, size_t n_decode, int n_runs, double *prefill_tps, double *decode_tps);

#endif
