/* pith_sample with a status, for the loop that generates. */
#ifndef PITH_SAMPLE_H
#define PITH_SAMPLE_H

#include "model/generate.h"

/** @return PITH_E_NONFINITE, PITH_E_ARGUMENT, PITH_E_MEMORY; *id untouched then */
pith_status pith_sample_checked(pith_ctx *ctx, const pith_sampling *s, float *logits, size_t n_vocab, const int32_t *recent, size_t n_recent,
                                uint64_t step, int32_t *id);

#endif
