/* What a person sees on standard error: log lines and progress.  On a terminal progress is a bar
 * that is drawn again in place; elsewhere it is a plain line every few seconds. */
#ifndef PITH_TERMINAL_H
#define PITH_TERMINAL_H

#include "base/base.h"

typedef struct pith_terminal {
    FILE *out;               /* standard error */
    bool is_terminal, colour, progress;
    bool bar_shown;          /* a bar stands on the current line */
    double start_s;          /* when the work that progress is about began */
    double last_line_s;      /* when the last plain progress line was printed */
    const char *last_what;
    double left_s;           /* that the work shown last still takes; below 0: not known */
    unsigned n_lines;        /* log lines so far: what draws above the bar sees that it has moved */
} pith_terminal;

/** Look at standard error and the environment (NO_COLOR, TERM). */
void pith_terminal_init(pith_terminal *terminal, bool progress);
/** Columns of the terminal behind `fd`, or `otherwise`. */
int pith_terminal_width(int fd, int otherwise);
/** Take the bar away, before anything else is printed. */
void pith_terminal_clear(pith_terminal *terminal);
/** As pith_options.log and .progress; `user` is a pith_terminal. */
void pith_terminal_log(void *user, pith_log_level level, const char *line);
void pith_terminal_progress(void *user, const char *what, uint64_t done, uint64_t total, double left_s);

#endif
