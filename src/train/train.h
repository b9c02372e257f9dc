/* The training loop over the tape: steps, figures, checkpoints, curves.
 *
 *     pith_train_options o = {.n_steps = 2000, .evaluate_every = 200, .evaluate = measure, .user = &task,
 *                             .checkpoint = "run/checkpoint", .checkpoint_every = 200, .curves = "run/curves"};
 *     pith_train_role role = {.optimizer = {.kind = PITH_ADAMW, .weight_decay = 0.1f}, .group = pith_train_group_matrices,
 *                             .schedule = {PITH_RATE_COSINE, 1e-3f, 1e-4f, 40, 0}, .loss = loss};
 *     PITH_TRY(pith_trainer_new(tape, &o, &role, 1, &trainer));
 *     PITH_GOTO(pith_trainer_keep(trainer, "net.bn1.mean", mean, sizeof mean), done);   // what else must survive a stop
 *     PITH_GOTO(pith_trainer_run(trainer, &result), done);
 *
 * A role is a loss and the parameters that learn from it.  Most runs have one; a generator and its discriminator are
 * two roles of one trainer, so that one checkpoint holds them both.  In each step every role has its turn, in order:
 * n_parts times loss and backward pass, then its optimizer.  Parameters of other roles take no gradients meanwhile.
 *
 * Resume.  When there is a checkpoint the run goes on from it, and ends with the same parameters, bit for bit, as
 * one that was never stopped, whenever and however it was stopped: the loss must depend on nothing but the
 * parameters, what pith_trainer_keep was given, and (seed, step, part).  A checkpoint of another run (other
 * parameters, settings or identity) or a damaged one is an error; it is never overwritten in that case.
 *
 * Several processes.  With options.group each process takes its share of the step's parts; gradients are summed in the
 * order of the processes while the last backward pass goes on, and all take the same step: up to rounding that of one
 * process with all parts.  Every process evaluates; the first one alone writes files, tells observers and logs lines.  A
 * process that fails ends the run of all at the next step, or, within a step, when its program ends; what the checkpoint
 * holds stays.
 *
 * The workers of a group may also be in this process, one after the other: bit for bit what processes do.
 *
 * Compressed gradients.  With options.exchange each worker of the group sends its gradients compressed, after its last
 * backward pass (stream/grads/exchange.h).  A checkpoint then holds the errors that wait in each worker, and belongs to
 * runs of as many workers that send in the same way.
 *
 * Same bits on any number of threads, as the tape. */
#ifndef PITH_TRAIN_H
#define PITH_TRAIN_H

#include "grad/grad.h"
#include "stream/grads/channel.h"

#define PITH_TRAIN_MAX_ROLES 4
#define PITH_TRAIN_MAX_NOTES 16     /* names of loss terms; as many of evaluated figures */
#define PITH_TRAIN_NAME 32          /* bytes of a name, with its end */

typedef struct pith_trainer pith_trainer;

/* Where a loss or an evaluation is called. */
typedef struct pith_train_at {
    pith_trainer *trainer;
    uint64_t step;                  /* from 0; evaluate: steps done so far */
    uint32_t part, n_parts;         /* of the step's batch; evaluate: 0 of 1 */
    size_t role;
    pith_status status;             /* a loss that fails outside of the tape (its data) sets this and returns NULL */
} pith_train_at;

/** Report a term of the loss by name ("rec", "kl"), or within `evaluate` a figure ("acc").  Terms are averaged between
 *  two lines of the log, over the parts and steps in which they were reported.  Names beyond
 *  PITH_TRAIN_MAX_NOTES, or too long, are an error of the run. */
void pith_train_note(pith_train_at *at, const char *name, double value);
/** The same of a value of one number, and gives it back: add(rec, pith_train_term(at, "kl", kl)).  NULL is allowed. */
pith_var *pith_train_term(pith_train_at *at, const char *name, pith_var *v);

/* Settings of one parameter, as they are before pith_train_role.group changes them. */
typedef struct pith_train_group {
    float weight_decay;             /* the optimizer's */
    float rate_factor;              /* 1; 0: the parameter stays */
    bool plain;                     /* false; true: AdamW where the optimizer is Muon */
} pith_train_group;

/* A loss, and who learns from it. */
typedef struct pith_train_role {
    const char *name;               /* before its columns when there are several roles: "g.loss"; else may be NULL */
    pith_optimizer_options optimizer;
    pith_schedule schedule;         /* n_steps 0: the run's */
    uint64_t first_step;            /* sits out the steps before: a discriminator that starts late */
    bool (*owns)(void *user, const pith_var *param);                            /* NULL: every parameter */
    void (*group)(void *user, const pith_var *param, pith_train_group *group);  /* NULL: all alike */
    /* The mean loss of a part of the batch (one value).  A new step of the tape has begun, with random numbers of
     * (step, role, part).  NULL: failed. */
    pith_var *(*loss)(void *user, pith_tape *tape, pith_train_at *at);
    /* Each may be NULL.  gradients: after the step's last backward pass, before the optimizer (exchange with other
     * processes, compress, mask).  changed: after the optimizer (project, prune, clip weights). */
    pith_status (*gradients)(void *user, pith_tape *tape, pith_train_at *at);
    pith_status (*changed)(void *user, pith_tape *tape, pith_train_at *at);
} pith_train_role;

/** group: weight decay for matrices and kernels only, none for gains and biases (less than two dimensions). */
void pith_train_group_matrices(void *user, const pith_var *param, pith_train_group *group);

/* A line of the log. */
typedef struct pith_train_point {
    uint64_t step;                              /* steps done */
    double seconds;                             /* of training so far, earlier runs included */
    double rate, norm;                          /* of the first role: rate, and length of its gradient before clipping */
    double loss[PITH_TRAIN_MAX_ROLES];          /* means since the last point; NaN: none */
    double term[PITH_TRAIN_MAX_NOTES];
    double figure[PITH_TRAIN_MAX_NOTES];        /* NaN: not evaluated here */
} pith_train_point;

/* All lines so far, and what the columns are called. */
typedef struct pith_train_history {
    size_t n_roles, n_terms, n_figures, n_points;
    char role[PITH_TRAIN_MAX_ROLES][PITH_TRAIN_NAME];       /* "loss", or "g.loss", "d.loss" */
    char term[PITH_TRAIN_MAX_NOTES][PITH_TRAIN_NAME];
    char figure[PITH_TRAIN_MAX_NOTES][PITH_TRAIN_NAME];
    const pith_train_point *points;
    uint64_t n_steps;                                       /* of the whole run */
    uint64_t resumed_from;                                  /* the checkpoint's step; 0: from the start */
    double items_per_s;                                     /* so far; steps where items are not counted */
    const char *item_name;                                  /* "images", "steps" */
    size_t n_workers;                                       /* that share the steps; 0: this process alone */
    double sent_bytes, dense_bytes;                         /* of a worker and step, in the mean: for its gradients, and these as f32; 0: none yet */
} pith_train_history;

typedef struct pith_train_options {
    uint64_t n_steps;
    uint32_t n_parts;               /* passes whose gradients are averaged to one step; 0: 1 */
    uint64_t identity;              /* a hash of what else decides the result: data, network, card */
    double n_items;                 /* of a step, for the speed shown: images, tokens; 0: steps are counted */
    const char *item_name;          /* "images"; NULL: "items" */

    uint64_t log_every;             /* 0: about 200 lines in all */
    uint64_t evaluate_every;        /* 0: only at the end, if there is `evaluate` */
    uint64_t checkpoint_every;      /* 0: only when stopped (pith_options.cancelled) and at the end */
    double checkpoint_seconds;      /* … and when this time passed since the last; 0: off */
    const char *checkpoint;         /* file; NULL: none */
    const char *curves;             /* path without ending: .csv, .svg, .png beside each other; NULL: none */

    /* Figures of the parameters as they are (their moving averages where the first role's optimizer has ema).
     * Recording is off. */
    pith_status (*evaluate)(void *user, pith_tape *tape, pith_train_at *at);
    const char *watch;              /* figure that tells which parameters are better; NULL: none */
    bool watch_largest;             /* larger is better */
    uint32_t patience;              /* evaluations in a row without a better one before the run stops; 0: never */
    bool restore_best;              /* end with the parameters (and kept state) of the best evaluation */

    pith_group *group;              /* of workers, of whose number n_parts is a multiple; must stay; NULL: this process alone */
    pith_channel_options exchange;  /* how they compress gradients; zeros: not at all.  Its seed and tensor are not used */
    void (*observe)(void *user, const pith_train_history *history);             /* each new point; NULL: none */
    void *observe_user;
    void *user;                     /* of all other functions here and in the roles */
} pith_train_options;

typedef struct pith_train_result {
    uint64_t n_steps;               /* done, earlier runs included */
    uint64_t resumed_from;          /* 0: from the start */
    bool stopped_early, diverged;   /* diverged: with PITH_E_NONFINITE */
    double seconds;                 /* training, earlier runs included */
    double steps_per_s;             /* of this run, evaluation and checkpoints left out */
    double best;                    /* of the figure watched; NaN: none */
    uint64_t best_step;
} pith_train_result;

/** For the parameters the tape has now.  Options, roles and their strings are copied; `user` must stay.  Free it
 *  before the tape. @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_trainer_new(pith_tape *tape, const pith_train_options *options, const pith_train_role *roles, size_t n_roles, pith_trainer **trainer);
void pith_trainer_free(pith_trainer *trainer); /* NULL is allowed */
/** Before the run: memory of the caller that a checkpoint has to hold beside parameters and optimizers (running
 *  statistics of batch norm, masks).  Plain bytes without pointers; it must stay while the trainer does. */
pith_status pith_trainer_keep(pith_trainer *trainer, const char *name, void *data, size_t n_bytes);
/** The same, of numbers that differ between the workers of a group: after each step they are their mean. */
pith_status pith_trainer_share(pith_trainer *trainer, const char *name, float *data, size_t n);
/** Train to the end, from the checkpoint if there is one.  At the end the parameters are the trained ones: their
 *  moving averages where a role has ema, the best ones where restore_best.  result may be NULL.
 *  @return PITH_E_NONFINITE with the step and the first operation (the last checkpoint stays); PITH_E_CANCELLED after
 *  writing a checkpoint; PITH_E_CORRUPT, PITH_E_FORMAT, PITH_E_ARGUMENT of a checkpoint that does not fit;
 *  PITH_E_IO; what the tape and the callbacks return */
pith_status pith_trainer_run(pith_trainer *trainer, pith_train_result *result);
/** Of the run so far; stays until the trainer is freed or runs on. */
const pith_train_history *pith_trainer_history(const pith_trainer *trainer);
/** The last value noted of a figure; NaN: none. */
double pith_train_figure(const pith_train_history *history, const char *name);
pith_tape *pith_trainer_tape(const pith_trainer *trainer);

#endif
