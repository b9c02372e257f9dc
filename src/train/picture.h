/* Curves drawn once, as SVG and as PNG; for src/train only. */
#ifndef PITH_TRAIN_PICTURE_H
#define PITH_TRAIN_PICTURE_H

#include "train/curves.h"

/* From values to 0..1. */
typedef struct pith_axis_range {
    double low, high;               /* low < high */
    bool logarithmic;               /* low > 0 */
} pith_axis_range;

/** Over lines from..to-1 together; false: no value that is finite. */
bool pith_axis_fit(const pith_train_history *history, size_t from, size_t to, pith_axis_range *range);
double pith_axis_place(const pith_axis_range *range, double value);

pith_status pith_picture_svg(pith_ctx *ctx, const pith_train_history *history, const char *path);
pith_status pith_picture_png(pith_ctx *ctx, const pith_train_history *history, const char *path);

#endif
