/* What channel.c (a tensor's own arithmetic) and wire.c (what goes to the other workers) share. */
#ifndef PITH_CHANNEL_PARTS_H
#define PITH_CHANNEL_PARTS_H

#include "stream/grads/channel.h"

/* What is summed at once. */
typedef struct pith_wire_sums {
    float **x;                            /* [local][room] */
    size_t room;
} pith_wire_sums;

/* Buffers of what is sent at once; they grow in the first step and are kept. */
typedef struct pith_wire {
    pith_wire_sums whole, left, right;    /* as it is; factors P and Q */
    uint8_t **bytes;                      /* [local][bytes_room] */
    pith_parcel *mine;                    /* [local] */
    size_t bytes_room;
} pith_wire;

struct pith_channel {
    pith_group *group;
    pith_channel_options o;
    size_t rows, cols, n, n_local;
    bool whole;
    float **e, **h, **d;                  /* [local][n]; e, h: NULL where the feedback has none; d: what goes into C, then C's */
    float *mean_h;                        /* [n] */
    float *work;                          /* [n] */
    uint32_t *scratch;                    /* [n] */
    float *last_q;                        /* [cols r] of the mean, the next step's start; NULL: sent as a message or whole */
    pith_wire wire;                       /* of a channel that is stepped alone */
};

/* How a step is sent: summed as it is, summed as factors, or as messages that all workers decode. */
typedef enum pith_channel_way { PITH_WAY_WHOLE, PITH_WAY_FACTORS, PITH_WAY_MESSAGE } pith_channel_way;
pith_channel_way pith_channel_way_of(const pith_channel *ch, uint64_t step);
size_t pith_channel_rank(const pith_channel *ch);
/** d [local] from g [local]. */
void pith_channel_prepare(const pith_channel *ch, const float *const *g);
/** What workers keep once d [local] are C of it; mean [n], of d over all workers, becomes the step. */
void pith_channel_remember(const pith_channel *ch, const float *const *g, float *mean);
/** d[i] as a message, at most pith_compressor_bound; and of worker w, from a message -> x [n]. */
pith_status pith_channel_encode(pith_channel *ch, uint64_t step, size_t i, uint8_t *dst, size_t *len);
pith_status pith_channel_decode(pith_channel *ch, uint64_t step, size_t w, const uint8_t *src, size_t len, float *x);

/* One of the tensors that are sent together: g [local][n], mean [n]. */
typedef struct pith_wire_item {
    pith_channel *channel;
    const float *const *g;
    float *mean;
} pith_wire_item;
/** A step of several channels of one group: at most one sum of all that is whole, two of all factors, one gather of all
 *  messages. */
pith_status pith_wire_step(pith_group *group, pith_wire *wire, const pith_wire_item *items, size_t n, uint64_t step);
void pith_wire_free(pith_group *group, pith_wire *wire);

/** [n][count] zeros, each of `size` bytes; NULL: memory. */
void *pith_make_each(pith_ctx *ctx, size_t n, size_t count, size_t size);
void pith_free_each(pith_ctx *ctx, void *list, size_t n);

#endif
