/* What the cards of gradients train, by workers simulated in this process:
 *   logreg   logistic regression on images
 *   cnn      a residual network on images
 *   lm       a llama on prose, its vocabulary learned from it
 * Images lie with the workers in turn, or sorted by label, so that each worker has few classes; of text each has a stretch.
 *
 * Sorted, each worker's batch has other means and variances, and their running averages are nobody's: the batch norms of
 * a cnn are then fixed at mean 0 and variance 1, gains and biases are trained, and the last gain of each block begins at 0
 * so that each block begins as the identity (De, Smith, arXiv:2002.10444). */
#ifndef PITH_GRADS_PROBLEMS_H
#define PITH_GRADS_PROBLEMS_H

#include "recipe/run.h"
#include "stream/grads/exchange.h"

typedef enum pith_problem_kind { PITH_PROBLEM_LOGREG, PITH_PROBLEM_CNN, PITH_PROBLEM_LM } pith_problem_kind;

/* A card's settings of one problem; those of the other kinds are not read. */
typedef struct pith_problem_settings {
    pith_names data;               /* of these sets the first that is there */
    uint64_t n_workers, batch;     /* items of a worker and step */
    uint64_t items, held_out;      /* images, or tokens, where the data has as many */
    bool sorted;
    const char *net, *net_settings; /* cnn */
    uint64_t vocabulary, context, layers, width, heads, ffn; /* lm */
    uint64_t steps;
    double rate, momentum, decay, clip; /* SGD; of lm AdamW, and its beta1 */
    bool cosine;                   /* the rate falls to 0; else it stays */
} pith_problem_settings;
/** The same for every card: a group of keys. */
extern const pith_key pith_problem_keys[];

typedef struct pith_problem pith_problem;
/** Its data; s must stay.  @return PITH_E_ARGUMENT, PITH_E_IO, PITH_E_MEMORY */
pith_status pith_problem_new(pith_run *run, pith_problem_kind kind, const pith_problem_settings *s, pith_problem **problem);
void pith_problem_free(pith_problem *problem); /* NULL is allowed */

/* One way to train it. */
typedef struct pith_way {
    pith_channel_options channel;  /* seed is set from the run */
    double rate;                   /* in place of the settings'; 0: theirs */
    /* before each step, and once more after the last (step = steps); may be NULL */
    pith_status (*before)(void *user, pith_exchange *exchange, uint64_t step);
    void *user;
} pith_way;

typedef struct pith_way_result {
    double accuracy;               /* of what is held out: images, or next tokens */
    double loss, train_loss;       /* mean cross-entropy, nats: of what is held out; of the last tenth of the steps, logreg: of
                                      all that was trained on */
    double bytes, exchanges;       /* a worker's, all steps; sums and gathers */
    double compute_s, code_s;      /* of all workers: losses and gradients; compression and what belongs to it */
    double link_s;                 /* what went over the wire, on such links: pith_problem_link */
    bool diverged;                 /* a loss or a gradient was not finite: losses are PITH_DIVERGED, accuracy is 0 */
} pith_way_result;
#define PITH_DIVERGED 1e6
extern const pith_link pith_problem_link; /* 1 Gbit/s Ethernet */
/** From the run's seed: the same network and batches for each way. */
pith_status pith_problem_train(pith_problem *problem, const pith_way *way, pith_way_result *result);

#endif
