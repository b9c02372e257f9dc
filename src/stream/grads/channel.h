/* One tensor's way from the workers' gradients to the step that all of them take: compressed, with feedback of errors.
 *
 * Worker i has gradient g_i.  With C the compressor, and all arrays 0 at first:
 *   none      sends C(g);                 the step is the mean of what was sent
 *   ef        d = C(e + g), e += g - d;   the mean d.  (EF14: Seide et al., Interspeech 2014)
 *   ef21      d = C(g - h), h += d;       the mean h.  (Richtarik, Sokolov, Fatkhullin, arXiv:2106.05203)
 *   econtrol  d = C(eta e + g - h), e += g - h - d, h += d; the mean h.  (Gao, Islamov, Stich, arXiv:2311.05645)
 * econtrol is ef where eta = 1 and h stays 0, and ef21 where eta = 0, bit for bit.  One message a step in each. */
#ifndef PITH_CHANNEL_H
#define PITH_CHANNEL_H

#include "stream/grads/compressor.h"
#include "stream/grads/group.h"

typedef enum pith_feedback { PITH_FEEDBACK_NONE, PITH_FEEDBACK_EF, PITH_FEEDBACK_EF21, PITH_FEEDBACK_ECONTROL } pith_feedback;

/* What people call compressors and feedback, in cards and behind options: in the order of the enums, and with what stands
 * behind a colon. */
#define PITH_COMPRESSOR_WORDS "none|topk:SHARE|randk:SHARE|qsgd:BITS|sign|powersgd:RANK"
#define PITH_FEEDBACK_WORDS "none|ef|ef21|econtrol[:ETA]"

typedef struct pith_channel_options {
    pith_compressor compressor;
    pith_feedback feedback;
    float eta;                            /* of econtrol */
    bool dense_first;                     /* ef21, econtrol: h begins as the first gradient, sent whole */
    uint64_t seed, tensor;                /* of what is random; no two channels of a run share both */
} pith_channel_options;

/** Compressor, feedback, eta and dense_first from such words; the rest stays.  compress NULL: "none".  feedback NULL: "ef", but
 *  "none" where nothing is compressed, and of qsgd, which is unbiased.  econtrol alone has an eta of 0.1; ef21 and
 *  econtrol begin with a dense step.  @return PITH_E_ARGUMENT with what is allowed */
pith_status pith_channel_read(pith_ctx *ctx, const char *compress, const char *feedback, pith_channel_options *options);
/** The same back: "topk:0.01 with ef". */
#define PITH_CHANNEL_TEXT 64
void pith_channel_tell(const pith_channel_options *options, char text[PITH_CHANNEL_TEXT]);

typedef struct pith_channel pith_channel;
/** A tensor as [rows, cols] (a vector: cols 1), the same in all processes.  Free it before the group.
 *  @return PITH_E_ARGUMENT, PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_channel_new(pith_group *group, size_t rows, size_t cols, const pith_channel_options *options, pith_channel **channel);
void pith_channel_free(pith_channel *channel); /* NULL is allowed */
/** g [local][rows * cols] of the workers here -> mean [rows * cols], which all take; in each step once, on every process.
 *  On error the channel is not to be used further.  @return PITH_E_NONFINITE, PITH_E_CORRUPT, PITH_E_IO, PITH_E_MEMORY */
pith_status pith_channel_step(pith_channel *channel, uint64_t step, const float *const *g, float *mean);
/** Another share, number of bits or rank from the next step on; errors that wait stay, factors begin anew.
 *  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_channel_tune(pith_channel *channel, double param);
/** Whether it is sent as it is, from the next step on (a beginning that is not compressed).  Errors that wait go with it. */
void pith_channel_send_whole(pith_channel *channel, bool whole);
/** |C(x) - x|^2 of x [rows * cols] at another parameter; power: after 5 rounds from a random Q.  Uses the channel's
 *  scratch, changes nothing.  @return PITH_E_ARGUMENT, PITH_E_NONFINITE, PITH_E_MEMORY */
pith_status pith_channel_error(pith_channel *channel, double param, const float *x, double *error);
/** Call visit for each array of numbers that later steps depend on, always in the same order: to save and to restore them.
 *  own: x [local] of each worker here; else x [1], the same in all processes.  @return what visit returns */
typedef pith_status pith_channel_visit_fn(void *user, float *const *x, size_t count, bool own);
pith_status pith_channel_visit(const pith_channel *channel, pith_channel_visit_fn *visit, void *user);

#endif
