/* Labelled images, for networks that tell classes apart. */
#ifndef PITH_LABELLED_H
#define PITH_LABELLED_H

#include "recipe/run.h"

/* What training and test images have in common.  Zero it before. */
typedef struct pith_labelled {
    size_t dims[3];                /* channels, height, width */
    size_t n_columns, n_classes;   /* values of a label, of which the first is the class */
} pith_labelled;

/** Open a split, the training images first; n: how many.  *ds is the caller's also after an error.
 *  @return PITH_E_ARGUMENT: no labelled images, or test images of another shape; what pith_run_data returns */
pith_status pith_labelled_open(pith_run *run, const pith_names *names, bool test, size_t n, pith_labelled *common, pith_dataset **ds);
/** The class of an item; below 0: it has none. */
int64_t pith_labelled_class(const pith_dataset *ds, size_t item);
/** In how many rows of logits [.., classes] the largest is that of its class. */
size_t pith_labelled_right(const pith_var *logits, const int32_t *class);

#endif
