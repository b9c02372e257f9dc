/* A group of workers that train one model, and what they say to each other.
 *
 * All of them may be in this process (tests, simulations of larger clusters, any machine): then every call handles
 * the arrays of all workers at once.  Or one of them is, and the others are other processes, reached through a
 * transport (Open MPI: src/mpi).  Code is written once: it loops over the pith_group_local workers that are here.
 *
 * Sums are taken in the order of the workers, whatever arrives first, so that the result neither depends on timing nor
 * on which transport it was.  What each worker would put on a wire is counted, for measurements and for a link model
 * that turns it into time. */
#ifndef PITH_GROUP_H
#define PITH_GROUP_H

#include "base/base.h"

/* How processes talk.  Functions return false after an error, whose sentence `error` gives.  A request is NULL once it
 * is done. */
typedef struct pith_transport {
    void *state;
    size_t rank, size;
    /* every process its `count` floats for each other one, in order: send, recv [size, count]; they stay untouched until done */
    bool (*start_all_to_all)(void *state, const float *send, float *recv, size_t count, void **request);
    /* all [size, count] of everybody's mine [count]; all processes begin these in one order, and the ones above in one order,
       but not these among those */
    bool (*start_all_gather)(void *state, const float *mine, float *all, size_t count, void **request);
    bool (*test)(void *state, void **request);
    bool (*wait)(void *state, void **request);
    /* blocking; lens [size] in bytes */
    bool (*gather_bytes)(void *state, const void *mine, void *all, const size_t *lens);
    bool (*broadcast)(void *state, void *data, size_t len); /* from process 0 */
    const char *(*error)(void *state);
} pith_transport;

/* What went over the wire, per worker. */
typedef struct pith_traffic {
    uint64_t n_sums, n_gathers, n_broadcasts;
    uint64_t sum_bytes;                   /* of the arrays that were summed */
    uint64_t gather_bytes;                /* of one worker's messages: the largest of each exchange */
    uint64_t gather_bytes_all;            /* of all workers' messages together */
    uint64_t broadcast_bytes;
} pith_traffic;

/** Bytes that one of n workers sent: of messages, which differ, the mean. */
static inline double pith_traffic_sent(const pith_traffic *t, size_t n) { return (double)t->sum_bytes + (double)t->gather_bytes_all / (double)n; }

typedef struct pith_group pith_group;

typedef struct pith_parcel {
    const uint8_t *data;
    size_t len;
} pith_parcel;

/** n >= 1 workers in this process.  Free it before ctx.  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_group_new(pith_ctx *ctx, size_t n, pith_group **group);
/** One worker here, the others behind the transport, whose state is the caller's and must stay. */
pith_status pith_group_over(pith_ctx *ctx, const pith_transport *transport, pith_group **group);
void pith_group_free(pith_group *group); /* NULL is allowed */
pith_ctx *pith_group_ctx(const pith_group *group);
size_t pith_group_size(const pith_group *group);
size_t pith_group_first(const pith_group *group);  /* of the workers here */
size_t pith_group_local(const pith_group *group);  /* how many are here */
/** Whether worker 0 is here: the one that writes files.  group NULL: true. */
bool pith_group_leads(const pith_group *group);

/** x [local][count] each become the sum over all workers.  @return PITH_E_IO, PITH_E_MEMORY, PITH_E_LIMIT */
pith_status pith_group_sum(pith_group *group, float *const *x, size_t count);
/** Everybody's message: mine [local]; *all [size], the group's until its next call.  @return as above */
pith_status pith_group_gather(pith_group *group, const pith_parcel *mine, const pith_parcel **all);
/** data [len] of worker 0 to all processes. */
pith_status pith_group_broadcast(pith_group *group, void *data, size_t len);
/** All processes agree that none has failed.  @return mine where that is a failure, else the first of the others', in order of
 *  workers; PITH_E_IO.  Not counted as traffic. */
pith_status pith_group_agree(pith_group *group, pith_status mine);
const pith_traffic *pith_group_traffic(const pith_group *group);
void pith_group_forget_traffic(pith_group *group);

/* A sum on its way, so that a process works on meanwhile.  Sums are begun in the same order by all, and poked and finished in
 * that order: one whose first phase is not over is poked before those that were begun after it. */
typedef struct pith_group_sum_state {
    float *x;                             /* [size * chunk] the caller's array, padded */
    float *others;                        /* [size * chunk] scratch */
    size_t chunk;
    int phase;                            /* 0 idle, 1 pieces to their owners, 2 sums back, 3 done */
    void *request;
} pith_group_sum_state;
/** Floats that x and others of `count` values need. */
size_t pith_group_padded(const pith_group *group, size_t count);
/** Only of one worker a process.  x is not to be touched until finished; of a group of 1 it is done at once. */
pith_status pith_group_sum_begin(pith_group *group, pith_group_sum_state *s, float *x, float *others, size_t count);
/** Do what can be done without waiting. */
pith_status pith_group_sum_poke(pith_group *group, pith_group_sum_state *s);
pith_status pith_group_sum_finish(pith_group *group, pith_group_sum_state *s);

/* A link between any two workers, the same for all. */
typedef struct pith_link {
    double latency_s, bytes_per_s;
} pith_link;
/** Seconds for such traffic among n workers: sums by ring allreduce, 2 (n-1) messages of 1/n of the array (Patarasuk, Yuan,
 *  J. Parallel Distrib. Comput. 69, 2009); gathers by a ring of n-1 steps; broadcasts by a binary tree. */
double pith_link_seconds(const pith_link *link, size_t n, const pith_traffic *traffic);

#endif
