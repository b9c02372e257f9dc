/* The table of a run's figures, and the text form of a curve. */
#include "train/curves.h"

#include <math.h>

#include "train/picture.h"

/* ---- lines ------------------------------------------------------------------------------------ */

size_t pith_curves_count(const pith_train_history *h) { return h->n_roles + h->n_terms + h->n_figures + 2; }

const char *pith_curves_name(const pith_train_history *h, size_t i)
{
    if (i < h->n_roles) return h->role[i];
    i -= h->n_roles;
    if (i < h->n_terms) return h->term[i];
    i -= h->n_terms;
    if (i < h->n_figures) return h->figure[i];
    return i == h->n_figures ? "rate" : "gradient_norm";
}

double pith_curves_value(const pith_train_history *h, size_t i, size_t i_point)
{
    const pith_train_point *p = &h->points[i_point];
    if (i < h->n_roles) return p->loss[i];
    i -= h->n_roles;
    if (i < h->n_terms) return p->term[i];
    i -= h->n_terms;
    if (i < h->n_figures) return p->figure[i];
    return i == h->n_figures ? p->rate : p->norm;
}

/* ---- axes ------------------------------------------------------------------------------------- */

bool pith_axis_fit(const pith_train_history *h, size_t from, size_t to, pith_axis_range *range)
{
    double low = (double)INFINITY, high = -(double)INFINITY;
    for (size_t i = from; i < to; i++)
        for (size_t k = 0; k < h->n_points; k++) {
            double x = pith_curves_value(h, i, k);
            if (!isfinite(x)) continue;
            low = fmin(low, x);
            high = fmax(high, x);
        }
    if (low > high) return false;
    if (low == high) {
        double pad = low != 0 ? fabs(low) * 0.1 : 1;
        *range = (pith_axis_range){low - pad, high + pad, false};
    } else {
        *range = (pith_axis_range){low, high, low > 0 && high / low > 50};
    }
    return true;
}

double pith_axis_place(const pith_axis_range *r, double x)
{
    return r->logarithmic ? log(x / r->low) / log(r->high / r->low) : (x - r->low) / (r->high - r->low);
}

/* ---- CSV -------------------------------------------------------------------------------------- */

static pith_status put(pith_out *out, const char *text) { return pith_out_write(out, text, strlen(text)); }

/* A cell of text: in quotes where it must be (RFC 4180). */
static pith_status put_cell(pith_out *out, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) return put(out, text);
    PITH_TRY(put(out, "\""));
    for (; *text; text++) PITH_TRY(pith_out_write(out, *text == '"' ? "\"\"" : text, *text == '"' ? 2 : 1));
    return put(out, "\"");
}

static pith_status put_table(pith_out *out, const pith_train_history *h)
{
    size_t n = pith_curves_count(h);
    PITH_TRY(put(out, "step,seconds"));
    for (size_t i = 0; i < n; i++) {
        PITH_TRY(put(out, ","));
        PITH_TRY(put_cell(out, pith_curves_name(h, i)));
    }
    PITH_TRY(put(out, "\n"));
    for (size_t k = 0; k < h->n_points; k++) {
        char cell[64];
        snprintf(cell, sizeof cell, "%llu,%.3f", (unsigned long long)h->points[k].step, h->points[k].seconds);
        PITH_TRY(put(out, cell));
        for (size_t i = 0; i < n; i++) {
            double x = pith_curves_value(h, i, k);
            snprintf(cell, sizeof cell, ",%.9g", x);
            PITH_TRY(put(out, isnan(x) ? "," : cell));
        }
        PITH_TRY(put(out, "\n"));
    }
    return PITH_OK;
}

static pith_status write_csv(pith_ctx *ctx, const pith_train_history *h, const char *path)
{
    pith_out *out;
    PITH_TRY(pith_out_open(ctx, path, &out));
    pith_status status = put_table(out, h);
    if (status == PITH_OK) return pith_out_close(out);
    pith_out_discard(out);
    return status;
}

/* ---- files ------------------------------------------------------------------------------------ */

static char *path_of(pith_ctx *ctx, const char *stem, const char *ending)
{
    size_t len = strlen(stem) + strlen(ending) + 1;
    char *path = pith_alloc(ctx, len);
    if (path) snprintf(path, len, "%s%s", stem, ending);
    return path;
}

pith_status pith_curves_write(pith_ctx *ctx, const pith_train_history *history, const char *stem)
{
    static pith_status (*const writers[])(pith_ctx *, const pith_train_history *, const char *) = {write_csv, pith_picture_svg, pith_picture_png};
    static const char *const endings[] = {".csv", ".svg", ".png"};
    for (size_t i = 0; i < PITH_COUNT(writers); i++) {
        char *path = path_of(ctx, stem, endings[i]);
        if (!path) return PITH_E_MEMORY;
        pith_status status = writers[i](ctx, history, path);
        pith_free(ctx, path);
        PITH_TRY(status);
    }
    return PITH_OK;
}

pith_status pith_curves_check(pith_ctx *ctx, const char *stem)
{
    char *path = path_of(ctx, stem, ".csv");
    if (!path) return PITH_E_MEMORY;
    pith_status status = pith_out_check(ctx, path, "-");
    pith_free(ctx, path);
    return status;
}

/* ---- text ------------------------------------------------------------------------------------- */

#define LABEL 10 /* characters before the dots: an end of the axis */

/* Dots [4 rows, 2 width columns] as bits of braille patterns, [rows, width]. */
typedef struct dots {
    uint8_t *bits;
    size_t width, height;
} dots;

static void set_dot(dots *d, size_t x, size_t y)
{
    static const uint8_t bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}; /* Unicode, block U+2800 */
    d->bits[y / 4 * d->width + x / 2] |= bit[y % 4][x % 2];
}

static void draw(dots *d, const pith_train_history *h, size_t i_line, const pith_axis_range *range)
{
    size_t last_x = 2 * d->width - 1, last_y = 4 * d->height - 1;
    double end = (double)PITH_MAX(h->points[h->n_points - 1].step, 1u), x0 = 0, y0 = 0;
    bool started = false;
    for (size_t k = 0; k < h->n_points; k++) {
        double v = pith_curves_value(h, i_line, k);
        if (!isfinite(v)) continue;
        double x = (double)h->points[k].step / end * (double)last_x, y = (1 - pith_axis_place(range, v)) * (double)last_y;
        int n = started ? (int)fmax(fabs(x - x0), fabs(y - y0)) + 1 : 1;
        for (int s = started ? 0 : n; s <= n; s++) {
            double t = (double)s / n;
            set_dot(d, (size_t)lround(started ? x0 + t * (x - x0) : x), (size_t)lround(started ? y0 + t * (y - y0) : y));
        }
        x0 = x, y0 = y, started = true;
    }
}

char *pith_curves_text(pith_ctx *ctx, const pith_train_history *h, size_t i_line, size_t width, size_t height)
{
    if (width < 24 || height < 3 || width > 1000 || height > 1000) {
        pith_fail(ctx, PITH_E_ARGUMENT, "a curve of %zu by %zu characters: it has 24 to 1000 by 3 to 1000", width, height);
        return NULL;
    }
    size_t n_cols = width - LABEL, n_rows = height - 1, cap = height * (LABEL + 3 * n_cols + 1) + 256, at = 0;
    uint8_t *bits = pith_calloc(ctx, n_rows, n_cols);
    char *text = bits ? pith_alloc(ctx, cap) : NULL;
    if (!text) {
        pith_free(ctx, bits);
        return NULL;
    }
    dots d = {bits, n_cols, n_rows};
    pith_axis_range range;
    double last = (double)NAN;
    for (size_t k = 0; k < h->n_points; k++) {
        double v = pith_curves_value(h, i_line, k);
        last = isnan(v) ? last : v;
    }
    bool any = pith_axis_fit(h, i_line, i_line + 1, &range);
    if (any) draw(&d, h, i_line, &range);
    at += (size_t)snprintf(text, cap, "%s %.5g%s\n", pith_curves_name(h, i_line), last, any && range.logarithmic ? ", logarithmic" : "");
    for (size_t r = 0; r < n_rows; r++) {
        bool end = any && (r == 0 || r == n_rows - 1);
        if (end) at += (size_t)snprintf(text + at, cap - at, "%*.4g ", LABEL - 1, r ? range.low : range.high);
        else at += (size_t)snprintf(text + at, cap - at, "%*s", LABEL, "");
        for (size_t c = 0; c < n_cols; c++) {
            unsigned code = 0x2800 + bits[r * n_cols + c];
            text[at++] = (char)(0xE0 | code >> 12);
            text[at++] = (char)(0x80 | (code >> 6 & 0x3F));
            text[at++] = (char)(0x80 | (code & 0x3F));
        }
        text[at++] = '\n';
    }
    text[at] = 0;
    pith_free(ctx, bits);
    return text;
}
