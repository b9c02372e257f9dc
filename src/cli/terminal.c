#include "cli/terminal.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"

#define LINE_EVERY_S 5.0
#define MAX_BAR 40
#define SHOW_AFTER_S 0.5 /* short work shows nothing */

void pith_terminal_init(pith_terminal *terminal, bool progress)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    bool dumb = !term || strcmp(term, "dumb") == 0;
    *terminal = (pith_terminal){.out = stderr, .progress = progress, .left_s = -1};
    terminal->is_terminal = isatty(STDERR_FILENO) && !dumb;
    terminal->colour = terminal->is_terminal && !(no_color && *no_color);
}

int pith_terminal_width(int fd, int otherwise)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return otherwise;
}

void pith_terminal_clear(pith_terminal *terminal)
{
    if (terminal->bar_shown) fprintf(terminal->out, "\r\033[K");
    terminal->bar_shown = false;
}

void pith_terminal_log(void *user, pith_log_level level, const char *line)
{
    static const char *const words[] = {"error: ", "warning: ", "", ""}, *const colours[] = {"\033[1;31m", "\033[1;33m", "", ""};
    pith_terminal *t = user;
    pith_terminal_clear(t);
    t->n_lines++;
    if (t->colour && *words[level]) fprintf(t->out, "pith: %s%s\033[0m%s\n", colours[level], words[level], line);
    else fprintf(t->out, "pith: %s%s\n", words[level], line);
}

void pith_terminal_progress(void *user, const char *what, uint64_t done, uint64_t total, double left_s)
{
    pith_terminal *t = user;
    if (!t->progress) return;
    bool known = total > 0 && done <= total;
    double share = known ? (double)done / (double)total : 0;
    char left[48] = "";
    double now = pith_now_s();
    bool new_work = !t->last_what || strcmp(t->last_what, what) != 0;
    if (new_work) t->start_s = t->last_line_s = now;
    t->last_what = done >= total ? NULL : what;
    t->left_s = done < total ? left_s : -1;
    if (left_s >= 0 && done < total) snprintf(left, sizeof left, ", %s left", pith_text_duration(left_s).s);
    if (!t->is_terminal) {
        if (now - t->last_line_s < LINE_EVERY_S) return;
        t->last_line_s = now;
        fprintf(t->out, "pith: %s: %.0f%%%s\n", what, 100 * share, left);
        return;
    }
    if (done >= total) {
        pith_terminal_clear(t);
        return;
    }
    if (now - t->start_s < SHOW_AFTER_S) return;
    /* what [#####-----]  42%, 12 s left */
    int room = pith_terminal_width(STDERR_FILENO, 80) - (int)strlen(what) - (int)strlen(left) - 10;
    int bar = PITH_MIN(room, MAX_BAR), filled = bar > 0 ? (int)(share * bar) : 0;
    fprintf(t->out, "\r%s ", what);
    if (bar >= 8) {
        fputs(t->colour ? "[\033[32m" : "[", t->out);
        for (int i = 0; i < bar; i++) {
            if (i == filled && t->colour) fputs("\033[0m", t->out);
            fputc(i < filled ? '#' : '-', t->out);
        }
        fputs(t->colour ? "\033[0m] " : "] ", t->out);
    }
    fprintf(t->out, "%3.0f%%%s\033[K", 100 * share, left);
    fflush(t->out);
    t->bar_shown = true;
}
