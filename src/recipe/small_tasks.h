/* Small tasks that cards of compression train networks on: images of a kind (vgg), the next word of a text (words, two
 * layers of LSTM), and a sequence turned round or sorted (sort, GRUs with attention).  Each network has one width, so
 * that smaller ones are made by the same rule. */
#ifndef PITH_SMALL_TASKS_H
#define PITH_SMALL_TASKS_H

#include "model/net.h"
#include "recipe/run.h"

typedef enum pith_task_kind { PITH_TASK_VGG, PITH_TASK_WORDS, PITH_TASK_SORT, PITH_N_TASKS } pith_task_kind;
/** "vgg", "words", "sort"; PITH_N_TASKS when it is none of them. */
pith_task_kind pith_task_find(const char *name, size_t len);

typedef struct pith_task_options {
    pith_names images, texts;      /* data sets; of each the first that is there is used */
    size_t n_images;               /* to train on; a fifth of them to measure on */
    size_t text_bytes;             /* the same of text */
    size_t vocabulary;             /* words that are known, the most frequent; others are one word, "unknown" */
} pith_task_options;

/* Data of the tasks, read when a task is first used. */
typedef struct pith_tasks pith_tasks;
pith_status pith_tasks_new(pith_run *run, const pith_task_options *options, pith_tasks **tasks);
void pith_tasks_free(pith_tasks *tasks); /* NULL is allowed */

/* A network on a tape of its own, and the batches that it learns from. */
typedef struct pith_task_net pith_task_net;
/** width: vgg: the first two convolutions' channels, the others 2 and 4 times as many; words, sort: of states and
 *  embeddings.  Everything random comes from the run's seed.  Free it before the tasks. */
pith_status pith_task_net_new(pith_tasks *tasks, pith_task_kind kind, size_t width, pith_task_net **net);
void pith_task_net_free(pith_task_net *net); /* NULL is allowed */
pith_tape *pith_task_net_tape(const pith_task_net *net);
/** Whether pruning is for this parameter: matrices and kernels, but the first convolution. */
bool pith_task_net_prunes(const pith_task_net *net, const pith_var *param);
/** What stands in place of each parameter, as in model/net.h. */
void pith_task_net_replace(pith_task_net *net, pith_net_replace_fn *fn, void *user);

/** The mean cross-entropy of batch `index` of `batch` items, a function of (seed, index).  NULL: failed; *status then says
 *  so when it was not the tape. */
pith_var *pith_task_net_loss(pith_task_net *net, uint64_t index, pith_status *status);

/** The same batch before its loss: logits [rows, classes], or [n, steps, classes], and for each row its class or
 *  PITH_NO_LABEL, until the step ends. */
pith_var *pith_task_net_logits(pith_task_net *net, uint64_t index, const int32_t **label, pith_status *status);
/** Parameters and running statistics of a network of the same kind and width. */
pith_status pith_task_net_copy(pith_task_net *dst, const pith_task_net *src);

typedef struct pith_task_figures {
    double accuracy;               /* share of held-out images, words or symbols that are predicted rightly */
    double loss;                   /* their mean cross-entropy, nats */
} pith_task_figures;
pith_status pith_task_net_measure(pith_task_net *net, pith_task_figures *figures);

#endif
