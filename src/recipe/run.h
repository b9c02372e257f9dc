/* What a procedure sees: the run of a card with one seed.  And the beds it starts from.
 *
 *     static pith_status run(pith_run *run)
 *     {
 *         const my_settings *s = run->card->settings;
 *         pith_bed *bed;
 *         PITH_TRY(pith_bed_open(run, "vgg6", &bed));          // trained now, or taken from the cache
 *         ... load from bed->folder, train by run->card->train with run->seed ...
 *         status = pith_run_row(run, "gradual", "acc", acc);
 *         pith_bed_close(bed);
 *         return status;
 *     }
 *     const pith_procedure pith_procedure_mine = {"mine", settings, sizeof(my_settings), run};
 *
 * A bed's procedure puts what it trained into run->folder, which then becomes the cached bed. */
#ifndef PITH_RUN_H
#define PITH_RUN_H

#include <cjson/cJSON.h>

#include "data/data.h"
#include "model/net.h"
#include "recipe/card.h"
#include "train/train.h"

typedef struct pith_measurement {
    uint32_t row, measure;         /* of the card */
    double value;
} pith_measurement;

/* A part of a run that is done, with a number where it needs one. */
typedef struct pith_part {
    char *name;
    double value;
} pith_part;

/* Who shared a training, and what each sent for its gradients. */
typedef struct pith_workers {
    size_t n;                      /* 0: nobody */
    double sent_bytes, dense_bytes; /* of a worker and step, in the mean: and its gradients as f32 */
    char how[PITH_CHANNEL_TEXT];   /* "topk:0.01 with ef" */
} pith_workers;

struct pith_run {
    pith_ctx *ctx;
    const pith_card *card;         /* with quick settings and the budget already in it */
    uint64_t seed;                 /* for everything random */
    bool quick;
    const char *folder;            /* empty, ours to write: a bed's result, or scratch that goes when the run ends.  A bed's
                                      may hold what an interrupted run left (a checkpoint to go on from) */
    /* what it reports */
    pith_measurement *values;
    size_t n_values, n_values_room;
    char **notes;
    size_t n_notes;
    /* what an interrupted run left, and this one leaves if it is interrupted (recipe/kept.c) */
    pith_part *parts;
    size_t n_parts, n_resumed;     /* n_resumed: of the values, which may be reported again */
    char *kept;                    /* the file; NULL: nothing is kept */
    double start_s, before_s;      /* when it began; seconds that the interrupted ones took */
    pith_group *group;             /* processes that share it, of which only the first writes files; NULL: this one alone */
    pith_workers workers;          /* of pith_run_train */
    const pith_run *parent;        /* the run for which this bed is trained; NULL */
    void (*observe)(void *user, const pith_train_history *history); /* who looks on while it trains; NULL */
    void *observe_user;
};

/** A measured value.  Row and measure must be in the card; each pair once.
 *  @return PITH_E_ARGUMENT, PITH_E_NONFINITE, PITH_E_MEMORY */
pith_status pith_run_row(pith_run *run, const char *row, const char *measure, double value);
/** A fact that readers of the result should know, once each: where the data came from, what fell back to what. */
pith_status pith_run_note(pith_run *run, const char *format, ...) PITH_PRINTF(2, 3);

/** Open a split of the first of these data sets of which training and test data are there (the ones before it have to be fetched first).  Which one, and where it came from, becomes a note.  options may be NULL;
 *  fewer items than options.n are taken, with a note, where there are no more.
 *  @return what pith_dataset_open returned for the last one */
pith_status pith_run_data(pith_run *run, const pith_names *names, const char *split, const pith_dataset_options *options, pith_dataset **ds);
/** Forget what was reported and which parts are done. */
void pith_run_clear(pith_run *run);

/** Make all rows, by `make`, of which not all is there from a run that was interrupted; each outlasts an interruption once it is
 *  made.  @return what make returned for the first that failed; PITH_E_MEMORY */
pith_status pith_run_each(pith_run *run, const pith_names *rows, pith_status (*make)(void *user, const char *row), void *user);
/** The same for procedures of another shape: whether a part is there, with its number (value may be NULL) ... */
bool pith_run_has_part(const pith_run *run, const char *part, double *value);
/** ... and: it is, with what was reported so far.  @return PITH_E_NONFINITE, PITH_E_MEMORY */
pith_status pith_run_part_done(pith_run *run, const char *part, double value);
/** Take up what an interrupted run of the same card, seed, data and budget (a factor on its steps) by the same program left, and leave the
 *  same from here on; where there is no place for it the run goes on without, with a warning.  run->kept is the caller's, pith_free.
 *  @return PITH_E_MEMORY, PITH_E_CANCELLED */
pith_status pith_run_resume(pith_run *run, double budget);

/** A hash of what decides a result: the card, the procedure's code and pith's version, which data is there, the seed, and all that of
 *  the beds it starts from.  @return PITH_E_ARGUMENT: beds that start from each other */
pith_status pith_run_hash(pith_ctx *ctx, const pith_card *card, uint64_t seed, uint64_t *hash);
/** Rows and notes as JSON, and what the run was.  NULL: memory. */
cJSON *pith_run_json(const pith_run *run, double seconds);
/** Report all that is in such JSON; or its notes alone, with "before: " where before is not NULL. */
pith_status pith_run_take(pith_run *run, const cJSON *json);
pith_status pith_run_take_notes(pith_run *run, const cJSON *json, const char *before);

/* A trained bed. */
typedef struct pith_bed {
    pith_card *card;
    char *folder;                  /* its files; read only */
    uint64_t seed;
    bool was_cached;
    pith_ctx *ctx;
} pith_bed;

/** The bed `id` for a run: same seed, quick as the run is.  Trained first when it is not in the cache, which takes the
 *  card's minutes (progress tells).  The card must name it in `beds`.  Notes of its training become the run's.
 *  @return PITH_E_ARGUMENT, or what its training returned */
pith_status pith_bed_open(pith_run *run, const char *id, pith_bed **bed);
/** The same outside of a run. */
pith_status pith_bed_get(pith_ctx *ctx, const char *which, bool quick, uint64_t seed, pith_bed **bed);
/** The same of a card that is loaded; takes it over, also on error. */
pith_status pith_bed_of_card(pith_ctx *ctx, pith_card *card, uint64_t seed, pith_bed **bed);
/** The same; `observe` (or NULL) sees how it trains, and the workers of `group` (NULL: this process alone) share the work: all
 *  call this with the same card, of which pith_card_share made parts. */
pith_status pith_bed_train(pith_ctx *ctx, pith_card *card, uint64_t seed, pith_group *group, void (*observe)(void *user, const pith_train_history *history), void *user, pith_bed **bed);
void pith_bed_close(pith_bed *bed); /* NULL is allowed */
/** What its training measured.  @return PITH_E_ARGUMENT */
pith_status pith_bed_value(const pith_bed *bed, const char *row, const char *measure, double *value);
/** Report all of that as the run's own rows and notes; the run is of the bed's card. */
pith_status pith_bed_report(const pith_bed *bed, pith_run *run);
/** What its workers sent; n 0: it was trained by one process.  @return PITH_E_IO, PITH_E_CORRUPT, PITH_E_MEMORY */
pith_status pith_bed_workers(const pith_bed *bed, pith_workers *workers);
/** What its training noted, as where its data came from: an array of texts, cJSON_Delete frees it.  @return PITH_E_IO, PITH_E_CORRUPT, PITH_E_MEMORY */
pith_status pith_bed_notes(const pith_bed *bed, cJSON **notes);
/** The network it kept (pith_run_keep), its parameters on the tape. */
pith_status pith_bed_net(const pith_bed *bed, pith_tape *tape, pith_net **net);
/** Where a bed is or would be: ~/.cache/pith/beds/<id>-<pith_run_hash>.
 *  @param path  the caller's, pith_free  @param there  whether it is trained */
pith_status pith_bed_path(pith_ctx *ctx, const pith_card *card, uint64_t seed, char **path, bool *there);

#endif
