/* CSV, JSON lines, and prose out of plain text. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "data/readers.h"

/* ---- CSV -------------------------------------------------------------------------------------- */

void pith_csv_begin(pith_ctx *ctx, const char *what, const char *text, size_t len, char separator, pith_csv *csv)
{
    *csv = (pith_csv){.ctx = ctx, .what = what, .text = text, .len = len, .separator = separator};
}

void pith_csv_end(pith_csv *csv)
{
    pith_free(csv->ctx, csv->cells_text);
    pith_free(csv->ctx, csv->cells);
    *csv = (pith_csv){0};
}

/* Room for a row that takes up to the rest of this line and n_more cells.  Grows to twice what is needed. */
static pith_status grow(pith_ctx *ctx, void *pointer, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap) return PITH_OK;
    size_t more = PITH_MAX(need, 64) * 2, bytes;
    if (!pith_mul(more, size, &bytes)) bytes = SIZE_MAX;
    void *grown = pith_resize(ctx, *(void **)pointer, bytes);
    if (!grown) return PITH_E_MEMORY;
    *(void **)pointer = grown;
    *cap = more;
    return PITH_OK;
}

/* Read one row into cells_text, cells separated by NUL; *n_cells and whether the text went on to its end are the result. */
static pith_status read_row(pith_csv *c, size_t *n_cells)
{
    bool quotes = c->separator != '\t', quoted = false, fresh = true; /* fresh: at a cell's beginning */
    size_t n = 0, used = 0, first_line = c->line, lines = 1;
    for (;; c->at++) {
        PITH_TRY(grow(c->ctx, &c->cells_text, &c->cap_text, used + 2, 1));
        bool end = c->at >= c->len;
        char ch = end ? '\n' : c->text[c->at];
        if (end && quoted) return pith_fail(c->ctx, PITH_E_CORRUPT, "%s: line %zu: a quote that is not closed", c->what, first_line);
        if (ch == 0 && !end) return pith_fail(c->ctx, PITH_E_CORRUPT, "%s: line %zu: a NUL byte", c->what, first_line + lines - 1);
        if (quoted) {
            lines += ch == '\n';
            if (ch != '"') c->cells_text[used++] = ch;
            else if (c->at + 1 < c->len && c->text[c->at + 1] == '"') c->cells_text[used++] = c->text[++c->at];
            else quoted = false;
        } else if (quotes && fresh && ch == '"') {
            quoted = true;
            fresh = false;
        } else if (ch == c->separator || ch == '\n') {
            if (ch == '\n' && used && c->cells_text[used - 1] == '\r') used--;
            c->cells_text[used++] = 0;
            n++;
            fresh = true;
            if (ch == '\n') break;
        } else {
            c->cells_text[used++] = ch;
            fresh = false;
        }
    }
    if (c->at < c->len) c->at++;
    c->line = first_line + lines - 1;
    *n_cells = n;
    return PITH_OK;
}

pith_status pith_csv_next(pith_csv *c, const char *const **cells, size_t *n)
{
    *cells = NULL;
    *n = 0;
    while (c->at < c->len) {
        size_t n_cells = 0, first_line = ++c->line;
        PITH_TRY(read_row(c, &n_cells));
        if (n_cells == 1 && c->cells_text[0] == 0) continue; /* an empty line */
        if (!c->n_cols) c->n_cols = n_cells;
        if (n_cells != c->n_cols) return pith_fail(c->ctx, PITH_E_CORRUPT, "%s: line %zu: %zu cells; the first row has %zu", c->what, first_line, n_cells, c->n_cols);
        PITH_TRY(grow(c->ctx, &c->cells, &c->cap_cells, n_cells, sizeof *c->cells));
        const char *p = c->cells_text;
        for (size_t i = 0; i < n_cells; i++, p += strlen(p) + 1) c->cells[i] = p;
        *cells = c->cells;
        *n = n_cells;
        return PITH_OK;
    }
    return PITH_OK;
}

pith_status pith_csv_int(const pith_csv *csv, const char *const *cells, size_t column, long min, long max, long *value)
{
    char *end;
    errno = 0;
    long v = strtol(cells[column], &end, 10);
    if (end == cells[column] || *end || errno || v < min || v > max)
        return pith_fail(csv->ctx, PITH_E_CORRUPT, "%s: line %zu, column %zu: \"%.20s\" is no whole number in %ld..%ld", csv->what, csv->line, column + 1, cells[column], min, max);
    *value = v;
    return PITH_OK;
}

/* ---- JSON lines ------------------------------------------------------------------------------- */

pith_status pith_jsonl_next(pith_jsonl *j, cJSON **value)
{
    *value = NULL;
    while (j->at < j->len) {
        const char *begin = j->text + j->at, *end = memchr(begin, '\n', j->len - j->at);
        size_t len = end ? (size_t)(end - begin) : j->len - j->at;
        j->at += len + (end != NULL);
        j->line++;
        size_t blank = 0;
        while (blank < len && (begin[blank] == ' ' || begin[blank] == '\t' || begin[blank] == '\r')) blank++;
        if (blank == len) continue;
        pith_status status = pith_json_parse(j->ctx, "value", begin, len, value);
        if (status != PITH_OK) return pith_fail_at(j->ctx, status, "%s: line %zu", j->what, j->line);
        return PITH_OK;
    }
    return PITH_OK;
}

/* ---- prose ------------------------------------------------------------------------------------ */

pith_status pith_text_append(pith_text_buffer *b, const char *text, size_t len)
{
    size_t need;
    if (!pith_add(b->len, len, &need)) need = SIZE_MAX;
    PITH_TRY(grow(b->ctx, &b->text, &b->cap, need, 1));
    if (len) memcpy(b->text + b->len, text, len);
    b->len += len;
    return PITH_OK;
}

/* Bytes of the UTF-8 sequence at p, 0 when it is none (RFC 3629). */
static size_t utf8_length(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xC2 && p[0] < 0xE0 ? 2 : p[0] >= 0xE0 && p[0] < 0xF0 ? 3 : p[0] >= 0xF0 && p[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    bool overlong = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xF0 && p[1] < 0x90), surrogate = p[0] == 0xED && p[1] >= 0xA0, beyond = p[0] == 0xF4 && p[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : n;
}

pith_status pith_text_clean(pith_text_buffer *b, const char *text, size_t len)
{
    size_t begin = b->len;   /* nothing before it is looked at */
    bool paragraph = false;  /* a line without letters was seen: the next one starts a paragraph */
    for (size_t at = 0; at < len;) {
        const char *line = text + at, *end = memchr(line, '\n', len - at);
        size_t n = end ? (size_t)(end - line) : len - at, letters = 0;
        at += n + (end != NULL);
        for (size_t i = 0, k; i < n; i += k ? k : 1) {
            k = utf8_length((const uint8_t *)line + i, n - i);
            letters += k > 1 || (k == 1 && isalpha((unsigned char)line[i])); /* k 0: a byte that is dropped below */
        }
        if (!letters) {
            paragraph = true;
            continue;
        }
        PITH_TRY(pith_text_append(b, paragraph ? "\n\n" : " ", b->len == begin ? 0 : paragraph ? 2 : 1));
        paragraph = false;
        bool blank = true;   /* leading blanks are dropped, later runs become one */
        for (size_t i = 0; i < n;) {
            size_t k = utf8_length((const uint8_t *)line + i, n - i);
            unsigned char c = (unsigned char)line[i];
            bool is_blank = c == ' ' || c == '\t';
            if (k == 1 && is_blank) blank = true;
            else if (k && c != 127 && c >= 32) {
                if (blank && b->len > begin && b->text[b->len - 1] != ' ' && b->text[b->len - 1] != '\n') PITH_TRY(pith_text_append(b, " ", 1));
                PITH_TRY(pith_text_append(b, line + i, k));
                blank = false;
            }
            i += k ? k : 1;
        }
    }
    return b->len == begin ? PITH_OK : pith_text_append(b, "\n\n", 2);
}
