/* A run's figures as a table, as pictures, and as text for a terminal. */
#ifndef PITH_TRAIN_CURVES_H
#define PITH_TRAIN_CURVES_H

#include "train/train.h"

/** Write stem.csv, stem.svg and stem.png, each whole or not at all. @return PITH_E_IO, PITH_E_MEMORY */
pith_status pith_curves_write(pith_ctx *ctx, const pith_train_history *history, const char *stem);
/** Before long work: whether they could be written. */
pith_status pith_curves_check(pith_ctx *ctx, const char *stem);

/* The lines of a history: losses, their terms, figures, then the rate and the gradient's length. */
size_t pith_curves_count(const pith_train_history *history);
/** Its name, as in the CSV's head. */
const char *pith_curves_name(const pith_train_history *history, size_t i_line);
/** Its value at point i; NaN: none. */
double pith_curves_value(const pith_train_history *history, size_t i_line, size_t i);
/** Line i as text of `width` by `height` characters, with its name, its range and the last value; each character
 *  holds 2 by 4 dots (Unicode's braille patterns).  Logarithmic where the values span more than a factor of 50.
 *  Free with pith_free.  NULL: no memory, or narrower than 24 or lower than 3. */
char *pith_curves_text(pith_ctx *ctx, const pith_train_history *history, size_t i_line, size_t width, size_t height);

#endif
