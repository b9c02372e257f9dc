/* From a card's `train` to the training loop's options. */
#ifndef PITH_TRAIN_CARD_H
#define PITH_TRAIN_CARD_H

#include "model/net.h"
#include "recipe/run.h"
#include "train/train.h"

/** Steps, parts and patience of the run's card; the rest is zero, the caller's to set.  identity is that of (card, seed). */
pith_train_options pith_run_train_options(const pith_run *run);
/** Optimizer and schedule; weights decay, gains and biases do not.  The rest is zero, the caller's to set. */
pith_train_role pith_run_train_role(const pith_run *run);

/** Train a bed in the run's folder: checkpoint and curves are there, an evaluation comes `evaluations` times, and the buffers of
 *  nets [n_nets] survive a stop and are the mean of a group's.  o from pith_run_train_options, with what is the caller's; what it
 *  says of checkpoints (but for how often, 20 s unless it says) and curves is set here.  result may be NULL. */
pith_status pith_run_train(pith_run *run, pith_tape *tape, pith_train_options *o, uint64_t evaluations, const pith_train_role *roles, size_t n_roles, pith_net *const *nets, size_t n_nets, pith_train_result *result);
/** The last thing a bed does, once what it trained is in the run's folder: the checkpoint has served. */
void pith_run_trained(pith_run *run);
/** Its network as net.safetensors, what pith_bed_net opens, and pith_run_trained.  In a group the first process alone writes. */
pith_status pith_run_keep(pith_run *run, const pith_net *net);
/** A network of a card: `kind`, and of its settings those of `own` (a JSON object, or NULL) before those of `usual` (likewise, from
 *  the data: "{\"channels\": 3}"). */
pith_status pith_run_net(pith_run *run, pith_tape *tape, const char *kind, const char *own, const char *usual, pith_net **net);

#endif
