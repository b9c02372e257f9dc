/* The page that "pith inspect --html" writes: one file with its styles and plots (inline SVG). */
#ifndef PITH_HTML_H
#define PITH_HTML_H

#include "format/model_file.h"

typedef struct pith_html_row {
    const char *name, *type;
    int n_dims;
    size_t dims[PITH_MAX_DIMS];
    uint64_t n, bytes;
    double rms, max;             /* NaN: not read */
    size_t n_packets;            /* .pith only, as all below */
    unsigned n_levels;
    bool exact;
    double gain;                 /* KL that the packets are expected to save, nats a token */
} pith_html_row;

typedef struct pith_html_page {
    const char *path, *kind;
    uint64_t file_bytes;
    const pith_settings *settings;
    const pith_vocab *vocab;
    pith_html_row *rows;         /* [n_rows] */
    size_t n_rows;
    const pith_meta *meta;       /* [n_meta] */
    size_t n_meta;
    bool is_pith;                /* below: .pith only */
    const char *json;            /* how the file was made */
    uint64_t total_bytes, floor_bytes, exact_bytes, manifest_bytes, skipped_bytes;
    size_t n_packets;
} pith_html_page;

pith_status pith_html_write(pith_ctx *ctx, const char *path, const pith_html_page *page);

#endif
