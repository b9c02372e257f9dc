/* From a card's `train` to the training loop's options. */
#ifndef PITH_TRAIN_CARD_H
#define PITH_TRAIN_CARD_H

#include "recipe/run.h"
#include "train/train.h"

/** Steps, parts and patience of the run's card; the rest is zero, the caller's to set.  identity is that of (card, seed). */
pith_train_options pith_run_train_options(const pith_run *run);
/** Optimizer and schedule; weights decay, gains and biases do not.  The rest is zero, the caller's to set. */
pith_train_role pith_run_train_role(const pith_run *run);

#endif
