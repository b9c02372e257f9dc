/* Gradients of a tape summed over a group of processes while its backward pass goes on.
 *
 * Parameters are put into buckets from the last to the first, about the order in which their gradients become ready;
 * a bucket is sent as soon as all of it is there, and what has come is added up in the order of the workers. */
#ifndef PITH_REDUCE_H
#define PITH_REDUCE_H

#include "grad/grad.h"
#include "stream/grads/group.h"

#define PITH_BUCKET_BYTES ((size_t)1 << 20)

typedef struct pith_reducer pith_reducer;
/** For the parameters that the tape has now, the same in all processes.  Free it before both.
 *  @return PITH_E_ARGUMENT (several workers in this process), PITH_E_MEMORY */
pith_status pith_reducer_new(pith_group *group, pith_tape *tape, size_t bucket_bytes, pith_reducer **reducer);
void pith_reducer_free(pith_reducer *reducer); /* NULL is allowed */
/** Before the last backward pass of a step. */
void pith_reducer_begin(pith_reducer *reducer);
/** After it: each parameter's grad is the sum over the processes; one that has a gradient nowhere has none.
 *  @return PITH_E_IO, PITH_E_MEMORY */
pith_status pith_reducer_finish(pith_reducer *reducer);
/** Buckets, and how many of the last step's were on their way before the backward pass was over. */
size_t pith_reducer_buckets(const pith_reducer *reducer, size_t *early);

#endif
