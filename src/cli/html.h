/* The page that "pith inspect --html" writes: one file with its styles and plots (inline SVG). */
#ifndef PITH_HTML_H
#define PITH_HTML_H

#include "api/contents.h"

typedef struct pith_html_page {
    const char *path;
    const pith_contents_full *file;
    const double *rms, *max;     /* [n_entries] of each tensor's values, NaN where unknown; NULL: not read */
} pith_html_page;

pith_status pith_html_write(pith_ctx *ctx, const char *path, const pith_html_page *page);

#endif
