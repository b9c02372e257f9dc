#include "cli/train_view.h"

#include <math.h>
#include <unistd.h>

#include "train/curves.h"

#define DRAW_EVERY_S 0.25
#define LINE_EVERY_S 5.0
#define CURVE 8 /* lines of a curve, with its heading */

void pith_train_view_init(pith_train_view *view, pith_cli *cli, bool plot)
{
    *view = (pith_train_view){.cli = cli, .plot = plot && cli->terminal->is_terminal};
}

/* "step 400 of 800: loss 0.1234, acc 0.9; 5.3 K images/s" */
static void print_line(FILE *out, const pith_train_history *h)
{
    const pith_train_point *p = &h->points[h->n_points - 1];
    fprintf(out, "step %llu of %llu:", (unsigned long long)p->step, (unsigned long long)h->n_steps);
    for (size_t i = 0; i < h->n_roles + h->n_terms + h->n_figures; i++) {
        double x = pith_curves_value(h, i, h->n_points - 1);
        if (!isnan(x)) fprintf(out, " %s %.4g,", pith_curves_name(h, i), x);
    }
    fprintf(out, " %s %s/s", pith_text_count(h->items_per_s).s, h->item_name);
    if (h->dense_bytes > 0) fprintf(out, ", sent %s a step, %.3g of dense", pith_text_bytes((uint64_t)h->sent_bytes).s, h->sent_bytes / h->dense_bytes);
}

/* The first loss, and below it the first figure if there is one. */
static void draw(pith_train_view *v, const pith_train_history *h)
{
    pith_terminal *t = v->cli->terminal;
    size_t width = (size_t)PITH_MIN(pith_terminal_width(STDERR_FILENO, 80) - 1, 100), lines[2] = {0, h->n_roles + h->n_terms};
    pith_terminal_clear(t);
    if (v->height && v->n_lines == t->n_lines) fprintf(t->out, "\033[%uA\033[J", v->height);
    v->height = 0;
    for (size_t i = 0; i < (h->n_figures ? 2u : 1u); i++) {
        char *text = pith_curves_text(v->cli->ctx, h, lines[i], width, CURVE);
        if (!text) continue; /* too narrow: the line below is shown all the same */
        fputs(text, t->out);
        pith_free(v->cli->ctx, text);
        v->height += CURVE;
    }
    print_line(t->out, h);
    fputs("\033[K\n", t->out);
    fflush(t->out);
    v->height++;
    v->n_lines = t->n_lines;
}

void pith_train_view_observe(void *user, const pith_train_history *h)
{
    pith_train_view *v = user;
    pith_terminal *t = v->cli->terminal;
    if (!t->progress || !h->n_points) return;
    bool fresh = h->n_points < v->n_points, last = h->points[h->n_points - 1].step >= h->n_steps;
    double now = pith_now_s();
    if (v->shown_s == 0 && !v->plot) v->shown_s = now; /* short work shows nothing */
    if (!t->is_terminal) t->last_line_s = now;         /* these lines tell all that those of progress would */
    if (fresh) v->height = 0;                          /* another network's: below */
    if (h->resumed_from != v->resumed_from) {
        pith_terminal_clear(t);
        fprintf(t->out, "pith: goes on from step %llu, where it was stopped\n", (unsigned long long)h->resumed_from);
        v->height = 0;
    }
    v->resumed_from = h->resumed_from;
    v->n_points = h->n_points;
    if (!last && now - v->shown_s < (v->plot ? DRAW_EVERY_S : LINE_EVERY_S)) return;
    v->shown_s = now;
    if (v->plot) {
        draw(v, h);
        return;
    }
    pith_terminal_clear(t);
    fputs("pith: ", t->out);
    print_line(t->out, h);
    if (!t->is_terminal && !last && t->left_s >= 0) fprintf(t->out, ", %s left", pith_text_duration(t->left_s).s);
    fputc('\n', t->out);
}
