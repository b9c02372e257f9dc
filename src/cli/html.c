#include "cli/html.h"

#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"

/* Kinds of matrix, by what their names contain, each with its colour in all plots. */
static const struct { const char *part, *name, *colour; } roles[] = {
    {"attn_q", "query", "#f58518"},         {"attn_k", "key", "#ffbf79"},           {"attn_v", "value", "#54a24b"},
    {"attn_output", "attention out", "#88d27a"}, {"token_embd", "embedding", "#4c78a8"}, {"output.weight", "output", "#9ecae9"},
    {"ffn_gate", "gate", "#b279a2"},        {"ffn_up", "up", "#d6a5c9"},            {"ffn_down", "down", "#e45756"},
    {"", "other", "#bab0ac"},
};
#define N_ROLES PITH_COUNT(roles)

static size_t role_of(const char *name)
{
    size_t i = 0;
    while (!strstr(name, roles[i].part)) i++; /* the last one fits all */
    return i;
}

/* -1: not of a layer */
static long layer_of(const char *name)
{
    const char *p = strstr(name, "blk.");
    if (p) return strtol(p + 4, NULL, 10);
    p = strstr(name, "layers.");
    return p ? strtol(p + 7, NULL, 10) : -1;
}

typedef struct writer {
    pith_out *out;
    pith_status status;   /* the first failure; nothing is written after it */
} writer;

static void put(writer *w, const char *format, ...) PITH_PRINTF(2, 3);
static void put(writer *w, const char *format, ...)
{
    char text[2048];
    va_list list;
    va_start(list, format);
    int len = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (w->status == PITH_OK) w->status = pith_out_write(w->out, text, (size_t)PITH_MIN(len, (int)sizeof text - 1));
}

/* Text from the file: characters that mean something in HTML, and control bytes, are written out. */
static void put_text(writer *w, const char *text, size_t limit)
{
    for (size_t i = 0; text[i] && i < limit; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'') put(w, "&#%d;", c);
        else if (c < 32 && c != '\n' && c != '\t') put(w, "&#xFFFD;");
        else put(w, "%c", c);
    }
}

static double bits_of(const pith_html_page *p, size_t i)
{
    const pith_entry *e = &p->file->c.entries[i];
    return e->n_weights ? 8.0 * (double)e->bytes / (double)e->n_weights : 0;
}
static double gain_of(const pith_html_page *p, size_t i) { return p->file->c.entries[i].kl_saved; }
static double max_of(const pith_html_page *p, size_t i) { return p->max ? p->max[i] : NAN; }

static void put_legend(writer *w, const bool *used)
{
    put(w, "<p class=legend>");
    for (size_t k = 0; k < N_ROLES; k++)
        if (used[k]) put(w, "<span><i style=\"background:%s\"></i>%s</span> ", roles[k].colour, roles[k].name);
    put(w, "</p>\n");
}

/* Bytes of each layer, stacked by kind of matrix.  What belongs to no layer, often the largest part, is told in
 * words, or the layers would be too low to see. */
static void put_layers(writer *w, const pith_html_page *p)
{
    const pith_contents *c = &p->file->c;
    long n_layers = 0;
    for (size_t i = 0; i < c->n_entries; i++) n_layers = PITH_MAX(n_layers, layer_of(c->entries[i].name) + 1);
    if (n_layers < 1 || n_layers > 1000) return;
    double highest = 1, elsewhere = 0;
    bool used[N_ROLES] = {false};
    for (long l = -1; l < n_layers; l++) {
        double sum = 0;
        for (size_t i = 0; i < c->n_entries; i++)
            if (layer_of(c->entries[i].name) == l) sum += (double)c->entries[i].bytes;
        if (l < 0) elsewhere = sum;
        else highest = fmax(highest, sum);
    }
    double step = 900.0 / (double)n_layers;
    put(w, "<h2>Bytes of each layer</h2>\n<svg viewBox=\"0 0 1000 300\">\n");
    for (int g = 0; g <= 4; g++)
        put(w, "<line x1=80 x2=990 y1=%g y2=%g class=grid /><text x=72 y=%g class=axis text-anchor=end>%s</text>\n", 260 - 60.0 * g, 260 - 60.0 * g,
            264 - 60.0 * g, pith_text_bytes((uint64_t)(highest * g / 4)).s);
    for (long l = 0; l < n_layers; l++) {
        double y = 260, x = 85 + step * (double)l;
        for (size_t k = 0; k < N_ROLES; k++)
            for (size_t i = 0; i < c->n_entries; i++) {
                const pith_entry *r = &c->entries[i];
                if (layer_of(r->name) != l || role_of(r->name) != k) continue;
                double h = 240 * (double)r->bytes / highest;
                used[k] = true;
                y -= h;
                put(w, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"><title>", x, y, step * 0.85, h, roles[k].colour);
                put_text(w, r->name, 100);
                put(w, ": %s, %.2f bits</title></rect>\n", pith_text_bytes(r->bytes).s, bits_of(p, i));
            }
        if (l % (n_layers > 40 ? 10 : 5) == 0) put(w, "<text x=\"%.1f\" y=276 class=axis text-anchor=middle>%ld</text>\n", x + step * 0.42, l);
    }
    put(w, "</svg>\n");
    put_legend(w, used);
    put(w, "<p>What belongs to no layer has %s more.</p>\n", pith_text_bytes((uint64_t)elsewhere).s);
}

/* A dot for each matrix: its layer across, `value` of it up. */
static void put_dots(writer *w, const pith_html_page *p, const char *title, double (*value)(const pith_html_page *, size_t), const char *unit)
{
    const pith_contents *c = &p->file->c;
    long n_layers = 0;
    double highest = 0;
    bool used[N_ROLES] = {false};
    for (size_t i = 0; i < c->n_entries; i++) {
        n_layers = PITH_MAX(n_layers, layer_of(c->entries[i].name) + 1);
        if (c->entries[i].n_dims >= 2) highest = fmax(highest, value(p, i));
    }
    if (!(highest > 0) || n_layers > 1000) return;
    put(w, "<h2>%s</h2>\n<svg viewBox=\"0 0 1000 300\">\n", title);
    for (int g = 0; g <= 4; g++)
        put(w, "<line x1=80 x2=990 y1=%g y2=%g class=grid /><text x=72 y=%g class=axis text-anchor=end>%.3g %s</text>\n", 260 - 60.0 * g, 260 - 60.0 * g,
            264 - 60.0 * g, highest * g / 4, unit);
    for (size_t i = 0; i < c->n_entries; i++) {
        const pith_entry *r = &c->entries[i];
        if (r->n_dims < 2 || !isfinite(value(p, i))) continue;
        size_t k = role_of(r->name);
        used[k] = true;
        put(w, "<circle cx=\"%.1f\" cy=\"%.1f\" r=4 fill=\"%s\"><title>", 100 + 880.0 * (double)(layer_of(r->name) + 1) / (double)(n_layers + 1),
            260 - 240 * value(p, i) / highest, roles[k].colour);
        put_text(w, r->name, 100);
        put(w, ": %.4g %s</title></circle>\n", value(p, i), unit);
    }
    put(w, "<text x=90 y=290 class=axis>first layer</text><text x=980 y=290 class=axis text-anchor=end>last layer</text></svg>\n");
    put_legend(w, used);
}

static void put_table(writer *w, const pith_html_page *p)
{
    const pith_contents *c = &p->file->c;
    put(w, "<h2>Tensors</h2>\n<table><tr><th>name<th>shape<th>type<th>bits<th>bytes%s</tr>\n", p->file->is_pith ? "<th>packets<th>levels<th>KL saved" : "");
    for (size_t i = 0; i < c->n_entries; i++) {
        const pith_entry *r = &c->entries[i];
        put(w, "<tr><td>");
        put_text(w, r->name, 200);
        put(w, "<td>");
        for (int d = 0; d < r->n_dims; d++) put(w, d ? " × %zu" : "%zu", r->dims[d]);
        put(w, "<td>%s<td>%.3f<td>%llu", r->type, bits_of(p, i), (unsigned long long)r->bytes);
        if (p->file->is_pith) put(w, "<td>%zu<td>%u%s<td>%.6f", r->n_packets, r->n_levels, r->exact ? " + exact" : "", r->kl_saved);
        put(w, "</tr>\n");
    }
    put(w, "</table>\n");
}

pith_status pith_html_write(pith_ctx *ctx, const char *path, const pith_html_page *p)
{
    writer w = {0};
    const pith_contents *c = &p->file->c;
    const pith_settings *s = p->file->settings;
    PITH_TRY(pith_out_open(ctx, path, &w.out));
    put(&w, "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\n<title>");
    put_text(&w, p->path, 300);
    put(&w, "</title>\n<style>body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
            "svg{width:100%%;height:auto}.grid{stroke:#ddd}.axis{font-size:12px;fill:#666}"
            "table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}td,th{padding:.1em .8em;text-align:right;border-bottom:1px solid #eee}"
            "td:first-child,th:first-child{text-align:left}.legend span{margin-right:1em}.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}"
            "pre{white-space:pre-wrap;background:#f6f6f6;padding:1em;font-size:12px}</style>\n<h1>");
    put_text(&w, p->path, 300);
    put(&w, "</h1>\n<p>%s, %s, %s weights, %.3f bits per weight", c->kind, pith_text_bytes(c->file_bytes).s, pith_text_count((double)c->n_weights).s,
        c->n_weights ? 8.0 * (double)c->file_bytes / (double)c->n_weights : 0);
    if (s->n_layers) {
        put(&w, "<br>");
        put_text(&w, s->architecture, sizeof s->architecture);
        put(&w, ": %u layers, width %u, feed-forward %u, %u heads (%u for keys and values), context %u", s->n_layers, s->n_embd, s->n_ff, s->n_heads,
            s->n_kv_heads, s->n_ctx);
    }
    if (p->file->is_pith) {
        put(&w, "<br>%.1f%% of %s are here, in %zu packets; the smallest cut is %s", 100 * (double)c->file_bytes / (double)PITH_MAX(c->total_bytes, 1),
            pith_text_bytes(c->total_bytes).s, c->n_packets, pith_text_bytes(c->floor_bytes).s);
        if (c->exact_bytes) put(&w, "; exact from %s on", pith_text_bytes(c->exact_bytes).s);
    }
    put(&w, "</p>\n");
    put_layers(&w, p);
    put_dots(&w, p, "Bits per weight", bits_of, "bits");
    if (p->file->is_pith) put_dots(&w, p, "Error taken away by each tensor's packets", gain_of, "nats");
    else put_dots(&w, p, "Largest magnitude", max_of, "");
    put_table(&w, p);
    if (p->file->n_meta || c->made) put(&w, "<h2>%s</h2>\n<pre>", p->file->is_pith ? "How it was made" : "Keys");
    for (size_t i = 0; i < p->file->n_meta; i++) {
        put_text(&w, p->file->meta[i].key, 200);
        put(&w, " = ");
        put_text(&w, p->file->meta[i].value, 300);
        put(&w, "\n");
    }
    if (c->made) put_text(&w, c->made, 20000);
    put(&w, p->file->n_meta || c->made ? "</pre>\n</html>\n" : "</html>\n");
    if (w.status != PITH_OK) {
        pith_out_discard(w.out);
        return w.status;
    }
    return pith_out_close(w.out);
}
