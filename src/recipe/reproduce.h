/* Reproducing a card: run it for each seed, put its rows beside each other, judge its claims. */
#ifndef PITH_REPRODUCE_H
#define PITH_REPRODUCE_H

#include "format/json.h"
#include "recipe/claim.h"
#include "recipe/run.h"

typedef struct pith_reproduce_options {
    uint64_t n_seeds;              /* 0: the card's number */
    uint64_t first_seed;           /* the others follow; results of a card are of seeds 1, 2 .. unless said */
    double budget_minutes;         /* of training, in place of the card's minutes: all steps are scaled alike; 0: the card's */
} pith_reproduce_options;

typedef struct pith_judgement {
    bool judged;                   /* false: means nothing in a quick run */
    pith_verdict verdict;
    char numbers[512];             /* what was compared */
} pith_judgement;

/* What a run gave. */
typedef struct pith_report {
    pith_card *card;               /* as it was run */
    uint64_t first_seed;
    double budget;                 /* factor on all steps, 1 unless asked for */
    pith_row_values values;
    pith_judgement *claims;        /* [card->n_claims] */
    char **notes;
    size_t n_notes;
    char **kept;                   /* [values.n_seeds] files of parts that outlast an interruption, or NULL */
    double seconds;                /* with those of runs that were interrupted */
    char date[24];                 /* when it began: "2026-11-21T18:30:00Z" */
    char machine[96];              /* processor, threads */
    pith_ctx *ctx;
} pith_report;

/** Run a card, which the report takes over (also on error).  Beds that are missing are trained; so is the card itself when
 *  it is a bed, into the cache.  A full run that was interrupted is gone on with.
 *  @return what its procedure returned; PITH_E_ARGUMENT, PITH_E_CANCELLED, PITH_E_IO, PITH_E_MEMORY */
pith_status pith_reproduce(pith_ctx *ctx, pith_card *card, const pith_reproduce_options *options, pith_report **report);
void pith_report_free(pith_report *report); /* NULL is allowed */
/** The report is where it belongs: nothing is kept any more for another run to go on from. */
void pith_report_settle(const pith_report *report);
/** Whether every claim that was judged holds. */
bool pith_report_holds(const pith_report *report);
/** All of it, with what rows and claims mean, so that it reads without the card.  NULL: memory. */
cJSON *pith_report_json(const pith_report *report);
/** Write it as <folder>/<id>.json, or <id>-quick.json; the folder is made.  path: the caller's, pith_free. */
pith_status pith_report_save(const pith_report *report, const char *folder, char **path);

/** The page of results: Markdown of all full runs among the .json files of a folder, by family and id.
 *  text: the caller's, pith_free.  @return PITH_E_IO, PITH_E_CORRUPT, PITH_E_FORMAT (the file is no report), PITH_E_MEMORY */
pith_status pith_results_page(pith_ctx *ctx, const char *folder, char **text);

#endif
