/* All gradients of a network, from the workers to the step that they take: a channel (channel.h) for each tensor, sent
 * together, so that a step is at most one sum, two sums of factors and one gather.
 *
 *     for (size_t i = 0; i < pith_group_local(group); i++) {
 *         ... loss and backward pass of worker i ...
 *         PITH_TRY(pith_exchange_take(exchange, i));
 *     }
 *     PITH_TRY(pith_exchange_step(exchange, step));       // the tape's gradients are what all workers step along
 *     PITH_TRY(pith_optimizer_step(optimizer, rate));
 *
 * Matrices and kernels, as [dims[0], the others], go through the compressor; vectors (gains, biases) are sent whole.  The
 * same bits whether the workers are in this process or in others. */
#ifndef PITH_EXCHANGE_H
#define PITH_EXCHANGE_H

#include "grad/grad.h"
#include "stream/grads/channel.h"

/* A tensor of the network. */
typedef struct pith_layer {
    pith_var *var;
    pith_channel *channel;
    size_t rows, cols;
    bool compressed;                      /* goes through the compressor */
    double param;                         /* the compressor's, now */
    float *mean;                          /* [rows cols] of worker 0's gradients since pith_exchange_observe; NULL: not here */
} pith_layer;

typedef struct pith_exchange pith_exchange;
/** For the parameters that the tape has now, the same in all processes.  options->tensor is not used.  Free it before both.
 *  @return PITH_E_ARGUMENT, PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_exchange_new(pith_group *group, pith_tape *tape, const pith_channel_options *options, pith_exchange **exchange);
/** The same for some of them, in the order of the tape. */
pith_status pith_exchange_new_for(pith_group *group, pith_tape *tape, pith_var *const *params, size_t n, const pith_channel_options *options, pith_exchange **exchange);
void pith_exchange_free(pith_exchange *exchange); /* NULL is allowed */
pith_group *pith_exchange_group(const pith_exchange *exchange);
const pith_compressor *pith_exchange_compressor(const pith_exchange *exchange);
/** Its tensors, in the order of the tape's parameters. */
const pith_layer *pith_exchange_layers(const pith_exchange *exchange, size_t *n);
/** The gradients on the tape (none: zeros) become those of worker i of those here, and are forgotten on the tape. */
pith_status pith_exchange_take(pith_exchange *exchange, size_t i);
/** Once all workers here have theirs: the step that all take becomes the tape's gradients.
 *  @return PITH_E_NONFINITE, PITH_E_CORRUPT, PITH_E_IO, PITH_E_MEMORY; the exchange is not to be used further then */
pith_status pith_exchange_step(pith_exchange *exchange, uint64_t step);
/** Whether all is sent as it is, from the next step on. */
void pith_exchange_send_whole(pith_exchange *exchange, bool whole);
/** Another parameter for layer i, which is compressed: pith_channel_tune. */
pith_status pith_exchange_tune(pith_exchange *exchange, size_t i, double param);
/** Average worker 0's gradients from the next step on, from none; off: the averages stay. */
void pith_exchange_observe(pith_exchange *exchange, bool on);
/** Bytes a worker sends in a step by pith_compressor_bytes, without the lengths of messages.  param: as if all compressed
 *  layers had this one; 0: each has its own. */
double pith_exchange_bytes(const pith_exchange *exchange, double param);
/** pith_channel_visit of each tensor in turn. */
pith_status pith_exchange_visit(const pith_exchange *exchange, pith_channel_visit_fn *visit, void *user);

#endif
