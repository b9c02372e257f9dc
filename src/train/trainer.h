/* What a trainer holds; for src/train only. */
#ifndef PITH_TRAIN_TRAINER_H
#define PITH_TRAIN_TRAINER_H

#include "stream/grads/exchange.h"
#include "stream/grads/reduce.h"
#include "train/train.h"

/* Memory of the caller that belongs into a checkpoint. */
typedef struct kept {
    char *name;
    void *data;
    size_t n_bytes;
    bool shared;                      /* floats, of which the workers of a group take the mean */
} kept;

typedef struct pith_role_state {
    pith_train_role set;              /* name points into the trainer's history */
    pith_optimizer *optimizer;
    bool *owned;                      /* [n_params of the tape] */
    pith_exchange *exchange;          /* of its gradients; NULL: they are not compressed */
} pith_role_state;

typedef struct mean {
    double sum;
    uint64_t n;
} mean;

/* What of the loop itself a checkpoint holds; plain numbers. */
typedef struct pith_loop_state {
    uint64_t step;                    /* done */
    uint64_t settled;                 /* step after which log and evaluation are done, too: step or step - 1 */
    uint64_t stopped_early, n_worse, best_step;
    double best, seconds, norm;       /* norm: of the first role's last gradient; NaN: none yet */
    mean loss[PITH_TRAIN_MAX_ROLES], term[PITH_TRAIN_MAX_NOTES]; /* since the last point */
} pith_loop_state;

/* What went over the wire for gradients, by pith_traffic; dense_bytes: they themselves, of a worker. */
typedef struct pith_sent {
    uint64_t sum_bytes, gather_bytes_all, dense_bytes, n_steps;
} pith_sent;

struct pith_trainer {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_train_options set;
    pith_role_state roles[PITH_TRAIN_MAX_ROLES];
    bool *needs_grad;                 /* [n_params] as they were before a role's turn */
    kept *kept;
    size_t n_kept;
    uint8_t *best;                    /* all parameters, then what is kept, of the best evaluation; NULL: not asked for */
    size_t best_bytes;
    pith_loop_state state;
    pith_reducer *reducer;            /* of several processes that compress nothing; else NULL */
    bool many;                        /* the group has other processes */
    bool compresses;                  /* each role has an exchange */
    bool lost;                        /* an exchange with the others failed half-way: no more of them */
    uint8_t *copies;                  /* [local][copy_bytes] of what is shared, where several workers are here; else NULL */
    size_t copy_bytes;
    float *sums;                      /* [values of all parameters] of gradients of the workers here; NULL: they are exchanged, or one's */
    bool *summed;                     /* [n_params] any of them had one */
    pith_sent sent;
    pith_train_history history;
    pith_train_point *points;         /* [cap_points], the history's */
    size_t cap_points;
    double figure[PITH_TRAIN_MAX_NOTES]; /* of the evaluation at work */
    bool evaluating, finished;
    bool between;                     /* within a step: nothing that a checkpoint could hold */
    pith_status note_status;          /* the first note that could not be taken */
};

/** What the run is, for its checkpoint: parameters, settings, kept memory, options.identity. */
uint64_t pith_trainer_identity(const pith_trainer *trainer);
/** Of a run that compresses gradients all processes call this, as each has errors that wait; the first one writes. */
pith_status pith_trainer_save(pith_trainer *trainer);
/** Also removes what killed processes left half written beside it.  *found: false when there is no file.  On error the trainer is as before. */
pith_status pith_trainer_load(pith_trainer *trainer, bool *found);
/* workers.c */
/** What the group's workers need to exchange gradients. */
pith_status pith_trainer_join(pith_trainer *trainer);
void pith_trainer_leave(pith_trainer *trainer);
/** Before the first step. */
pith_status pith_trainer_begin_together(pith_trainer *trainer);
/** All processes go on, or none. */
pith_status pith_trainer_agree(pith_trainer *trainer, pith_status mine);
/** Where processes save together: all do what the first one would. */
pith_status pith_trainer_decide(pith_trainer *trainer, bool *yes);
/** Around the turns of a step. */
void pith_trainer_begin_step(pith_trainer *trainer);
pith_status pith_trainer_end_step(pith_trainer *trainer, const pith_loop_state *before);
/** Losses and backward passes of the parts of the workers here, then the gradients that all workers step along. */
pith_status pith_trainer_gradients(pith_trainer *trainer, pith_role_state *role, pith_train_at *at);
/** One part, in loop.c: its gradients over n_mean are added. */
pith_status pith_trainer_pass(pith_trainer *trainer, pith_role_state *role, pith_train_at *at, uint32_t n_mean);
/** What was sent so far, into the history. */
void pith_trainer_tell_sent(pith_trainer *trainer);

/** Room for one more point. */
pith_status pith_trainer_grow(pith_trainer *trainer, size_t n_points);

#endif
