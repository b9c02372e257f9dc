/* Sampling and text generation. */
#ifndef PITH_GENERATE_H
#define PITH_GENERATE_H

#include "model/llama.h"
#include "text/tokenizer.h"

typedef struct pith_sampling {
    float temperature;            /* 0: greedy */
    int top_k;                    /* 0: off */
    float top_p, min_p;           /* 1 and 0: off */
    float repeat_penalty;         /* 1: off; over the last repeat_last tokens */
    int repeat_last;
    uint64_t seed;
} pith_sampling;
extern const pith_sampling pith_sampling_default;

/** One token from logits [n_vocab] (changed in place).  Order: repetition penalty, top-k, top-p, min-p, temperature.
 *  recent: the last n_recent tokens.  A function of (logits, recent, seed, step) alone; ties go to the smaller id.
 *  @return -1 with the error set: settings out of range, logits not finite, memory. */
int32_t pith_sample(pith_ctx *ctx, const pith_sampling *s, float *logits, size_t n_vocab, const int32_t *recent, size_t n_recent, uint64_t step);

typedef struct pith_generate_options {
    pith_sampling sampling;
    size_t max_tokens;            /* 0: until the context is full */
    const char *const *stop;      /* strings that end the reply (not emitted) */
    size_t n_stop;
    /* pieces of text as they come, whole UTF-8 characters (what the model says that is none comes as
     * U+FFFD); text that may still become a stop string is held back.  false stops.  NULL: nobody listens */
    bool (*emit)(void *user, const char *text, size_t len);
    void *user;
} pith_generate_options;
typedef struct pith_generate_result {
    size_t n_prompt, n_generated;
    double prefill_s, decode_s;
    const char *ended_by;         /* "end token", "stop string", "limit", "context full", "caller" */
} pith_generate_result;
/** Run ids through the model, from where the cache stands, then generate until something ends it; a full
 *  context ends it too.  An empty prompt on an empty cache starts from BOS, or the end-of-text token where the vocabulary has no BOS.
 *  The token sampled last is not in the cache.
 *  @return PITH_E_LIMIT when the prompt does not fit (says the numbers), PITH_E_ARGUMENT, PITH_E_NONFINITE,
 *  PITH_E_MEMORY, PITH_E_CANCELLED; *result is then what was done so far */
pith_status pith_generate(pith_ctx *ctx, pith_llama *model, const pith_tokenizer *tok, pith_cache *cache, const int32_t *ids, size_t n, const pith_generate_options *o, pith_generate_result *result);

#endif
