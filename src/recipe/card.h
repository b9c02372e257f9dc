/* A card: one experiment as data.  What it is, what it trains or compresses with which settings, which rows it
 * measures, and what it claims of them.  recipes/<family>/<id>.yaml are built into the program; a user's own card is
 * a file.  docs/cards.md describes the format. */
#ifndef PITH_CARD_H
#define PITH_CARD_H

#include "format/yaml.h"
#include "stream/grads/channel.h"

typedef struct pith_run pith_run;            /* recipe/run.h */
typedef struct pith_claim pith_claim;        /* recipe/claim.h */

/* What a card calls to do its work: one C file in src/recipe/<family>/, named in src/recipe/meson.build. */
typedef struct pith_procedure {
    const char *name;              /* as in cards: "gradual_pruning" */
    const pith_key *settings;    /* of a card's `settings`; NULL: it takes none */
    size_t settings_size;          /* of the struct they fill, zeroed before */
    pith_status (*run)(pith_run *run);
} pith_procedure;

typedef enum pith_card_kind {
    PITH_CARD_CLAIM,               /* measures rows and claims something of them */
    PITH_CARD_BED                  /* trains a network that other cards start from; its result is cached */
} pith_card_kind;

typedef enum pith_card_optimizer { PITH_CARD_SGD, PITH_CARD_ADAMW, PITH_CARD_ADAFACTOR, PITH_CARD_MUON } pith_card_optimizer;
typedef enum pith_card_schedule { PITH_CARD_CONSTANT, PITH_CARD_LINEAR, PITH_CARD_COSINE } pith_card_schedule;

/* `train`: how networks are trained, all those that a card compares alike. */
typedef struct pith_card_train {
    int optimizer;                 /* pith_card_optimizer; adamw unless said */
    int schedule;                  /* pith_card_schedule; constant unless said */
    double rate, last_rate;        /* after the warm-up; at the end (0 unless said, of linear and cosine) */
    double warmup;                 /* share of the steps, 0..1 */
    uint64_t steps, batch, accumulate; /* accumulate: batches a step, 1 unless said */
    double momentum, beta1, beta2, eps; /* 0: the optimizer's own */
    double decay;                  /* of weights, not of gains and biases */
    double clip;                   /* length of all gradients together; 0: off */
    double ema;                    /* decay of a moving average; 0: none */
    uint64_t patience;             /* evaluations without gain before it stops; 0: never */
    bool nesterov;
    const char *compress, *feedback; /* words of several workers, as written: PITH_COMPRESSOR_WORDS, PITH_FEEDBACK_WORDS; NULL */
    pith_channel_options channel;  /* what they say, or pith_card_compress did */
} pith_card_train;

typedef struct pith_card_row {
    const char *name, *what;       /* "gradual": "pruned while it trains" */
    bool beside;                   /* of a peer or an ablation, not ours */
} pith_card_row;

typedef struct pith_card_claim {
    const char *text;              /* "gradual.acc >= magnitude.acc - 0.01" */
    const char *says;              /* the same in words; NULL */
    bool quick;                    /* means something in quick runs too */
    const pith_claim *parsed;
} pith_card_claim;

typedef struct pith_card {
    const char *id, *family, *title, *line; /* line: what it is, in one */
    const char *paper;             /* "arXiv:1710.01878"; NULL for beds of our own */
    const char *mechanism;         /* a few sentences */
    const char *stream;            /* "weights", "cache" … */
    int kind;                      /* pith_card_kind */
    pith_names beds, data;         /* ids of beds and names of data sets that it needs */
    const pith_procedure *procedure;
    void *settings;                /* of the procedure, [procedure->settings_size] */
    pith_card_train train;
    bool has_train;
    double minutes;                /* of all seeds on two cores, about */
    uint64_t seeds;                /* how many a full run takes, 1 unless said */
    size_t n_rows, n_measures, n_claims;
    pith_card_row *rows;           /* ours first */
    pith_pair *measures;           /* "acc": "share of test images that are classified rightly" */
    pith_card_claim *claims;
    bool quick;                    /* `quick` was applied */
    uint64_t workers;              /* of pith_card_share; 0: one */
    uint64_t split;                /* parts that each batch was split into by pith_card_share; 0: it was not */
    const char *file, *text;       /* where it came from, and its text [text_len] */
    size_t text_len;
    bool built_in;
    pith_arena *arena;             /* of all that is here */
    pith_ctx *ctx;
} pith_card;

/** Load a card: the id of a built-in one, or a path (it has a '/' or ends in .yaml).  quick: with its quick settings in
 *  place of the usual ones.  Free with pith_card_free.
 *  @return PITH_E_ARGUMENT (no such card), PITH_E_IO, PITH_E_FORMAT with file, line, column and what was expected, PITH_E_MEMORY */
pith_status pith_card_load(pith_ctx *ctx, const char *which, bool quick, pith_card **card);
/** The same from text [len]; `file` is what messages call it. */
pith_status pith_card_parse(pith_ctx *ctx, const char *file, const char *text, size_t len, bool quick, pith_card **card);
void pith_card_free(pith_card *card); /* NULL is allowed */

/** Scale what training costs: steps of `train` and settings that count steps, at least 1 each. */
void pith_card_scale(pith_card *card, double factor);

/** Make each step's parts a multiple of n workers: as they are where `accumulate` is one, else each batch in n parts.
 *  @return PITH_E_ARGUMENT when the batch cannot be split so */
pith_status pith_card_share(pith_card *card, size_t n);
/** How its workers compress gradients, in place of what the card says; NULL: as the card says, but a feedback belongs to its
 *  compressor.  @return PITH_E_ARGUMENT with what is allowed */
pith_status pith_card_compress(pith_card *card, const char *compress, const char *feedback);
/** Whether there are several workers, and they compress gradients: then the result is theirs alone. */
bool pith_card_compresses(const pith_card *card);

/* Built-in cards, sorted by family, then id. */
typedef struct pith_card_source {
    const char *family, *id, *text;
    size_t text_len;
} pith_card_source;
extern const pith_card_source pith_card_sources[]; /* family NULL ends the list */

/* Built-in procedures. */
typedef struct pith_procedure_entry {
    const pith_procedure *procedure; /* NULL ends the list */
    uint64_t code;                 /* hash of its source file: a bed trained by other code is another bed */
} pith_procedure_entry;
extern const pith_procedure_entry pith_procedures[];
/** NULL when there is none. */
const pith_procedure_entry *pith_procedure_find(const char *name);

#endif
