/* How a run trains, for a person: on a terminal its curve, drawn again in place; elsewhere a line every few seconds. */
#ifndef PITH_TRAIN_VIEW_H
#define PITH_TRAIN_VIEW_H

#include "cli/cli.h"
#include "train/train.h"

typedef struct pith_train_view {
    pith_cli *cli;
    bool plot;               /* draw; else lines */
    double shown_s;          /* when something was last shown; 0: never */
    size_t n_points;         /* of the history then */
    uint64_t resumed_from;   /* as the history last said */
    unsigned height;         /* lines of the plot that stands on the terminal; 0: none */
    unsigned n_lines;        /* the terminal's, when it was drawn */
} pith_train_view;

/** What is shown goes to standard error, nothing if progress is off. */
void pith_train_view_init(pith_train_view *view, pith_cli *cli, bool plot);
/** As pith_train_options.observe; `user` is a pith_train_view. */
void pith_train_view_observe(void *user, const pith_train_history *history);

#endif
