/* pages: documents drawn from a seed, for what reads text out of pictures.  On each: 3 to 8 lines in every column, a table and a
 * bar chart, and white space between; one of three typefaces at one of five sizes, by FreeType, unhinted and at whole pixels, so
 * that a letter looks the same wherever it stands on a page. */
#include <assert.h>

#include <ft2build.h>
#include FT_FREETYPE_H

#include "base/library.h"
#include "data/readers.h"
#include "data/sets.h"

#define FUNCTIONS(X) X(FT_Init_FreeType) X(FT_Done_FreeType) X(FT_New_Memory_Face) X(FT_Done_Face) X(FT_Set_Pixel_Sizes) X(FT_Load_Char)

typedef struct library {
    void *handle;
    FUNCTIONS(PITH_LIBRARY_MEMBER)
} library;
static const char *const function_names[] = {FUNCTIONS(PITH_LIBRARY_NAME) NULL};

enum { N_FONTS = 3, N_SIZES = 5, FIRST_CHAR = 33, N_CHARS = 94, LARGEST = 48, MOST_COLUMNS = 3, LINE_CHARS = 40 };
enum { MIN_LINES = 3, MAX_LINES = 8, MIN_ROWS = 2, MAX_ROWS = 4, MIN_CELLS = 2, MAX_CELLS = 3, MIN_BARS = 3, MAX_BARS = 5, AREA = 3 }; /* AREA: a chart's height, in lines */
enum { ROWS_TEXT = 160, ROWS_RULES = 32 }; /* room for the bytes of a table and a chart, for bars and rules */
enum kind { NONE, LINE, CELL, NAME, BAR, RULE, N_KINDS };

static const char *const font_names[N_FONTS] = {"sans", "serif", "mono"};
static const char *const label_columns[] = {"font", "text size", "lines", "rows", "bars"};
static const char *const kind_names[N_KINDS] = {"none", "line", "cell", "name", "bar", "rule"};
static const char *const layout_columns[] = {"kind", "x", "y", "width", "height", "at"};
static const int usual_sizes[N_SIZES] = {6, 8, 10, 12, 14};

static const char *const words[] = {"about", "after", "again", "answer", "before", "between", "carry", "change", "city", "clear", "country", "done", "early", "example", "few", "figure",
                                    "for", "found", "great", "group", "half", "hour", "in", "it", "just", "keep", "kind", "large", "left", "light", "measure", "most",
                                    "near", "next", "of", "open", "order", "page", "point", "quick", "result", "same", "second", "seven", "small", "the", "to", "under",
                                    "use", "value", "very", "was", "water", "week", "while", "with", "work", "world", "year", "zero"};
static const char *const names[] = {"ash", "bay", "cod", "dew", "elm", "fig", "gum", "hop", "ivy", "jay", "kit", "log", "moss", "nut", "oak", "pine", "quay", "rye", "sky", "tea", "urn", "vine", "wax", "yew"};

/* ---- letters ---------------------------------------------------------------------------------- */

typedef struct glyph {
    int width, height, left, top, advance;   /* pixels; top: of the first row, above the baseline */
    size_t at;                               /* of its coverage [height, width] in the face's bits */
} glyph;

/* A typeface at one size. */
typedef struct face {
    glyph glyphs[N_CHARS];
    int size, ascent, line, blank;           /* line: from baseline to baseline */
    int widest_word, widest_name;            /* of what a line, and what a cell or a bar has to hold */
    uint8_t *bits;
    size_t n_bits, cap_bits;
} face;

typedef struct page_job {
    face faces[N_FONTS][N_SIZES];
    int n_sizes;
    size_t columns;
    float noise;
} page_job;

static const glyph *glyph_of(const face *f, char c) { return &f->glyphs[c - FIRST_CHAR]; }

/* From a letter's place to the next: boxes never overlap. */
static int step_of(const glyph *g) { return PITH_MAX(g->advance, PITH_MAX(g->left, 0) + g->width); }

static int width_of(const face *f, const char *word)
{
    int width = 0;
    for (; *word; word++) width += step_of(glyph_of(f, *word));
    return width;
}

static pith_status keep_glyph(pith_ctx *ctx, face *f, int c, FT_GlyphSlot slot)
{
    const FT_Bitmap *b = &slot->bitmap;
    glyph *g = &f->glyphs[c];
    *g = (glyph){.width = (int)b->width, .height = (int)b->rows, .left = slot->bitmap_left, .top = slot->bitmap_top, .at = f->n_bits,
                 .advance = PITH_MAX((int)((slot->linearHoriAdvance + 0x8000) >> 16), 1)};
    size_t n = (size_t)b->width * b->rows;
    if (f->n_bits + n > f->cap_bits) {
        size_t cap = 2 * f->cap_bits + n + 4096;
        uint8_t *grown = pith_resize(ctx, f->bits, cap);
        if (!grown) return PITH_E_MEMORY;
        f->bits = grown;
        f->cap_bits = cap;
    }
    for (int y = 0; y < g->height; y++) memcpy(f->bits + f->n_bits + (size_t)(y * g->width), b->buffer + y * b->pitch, (size_t)g->width);
    f->n_bits += n;
    return PITH_OK;
}

static pith_status draw_face(pith_ctx *ctx, const library *l, const char *path, FT_Face from, int size, face *f)
{
    f->size = size;
    FT_Error error = l->FT_Set_Pixel_Sizes(from, 0, (FT_UInt)size);
    int descent = 0;
    for (int c = 0; c < N_CHARS; c++) {
        if (!error) error = l->FT_Load_Char(from, (FT_ULong)(FIRST_CHAR + c), FT_LOAD_RENDER | FT_LOAD_NO_HINTING | FT_LOAD_TARGET_NORMAL);
        if (error || from->glyph->bitmap.pixel_mode != FT_PIXEL_MODE_GRAY || from->glyph->bitmap.pitch < 0)
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: character %d cannot be drawn at %d pixels (FreeType's error %d)", path, FIRST_CHAR + c, size, error);
        PITH_TRY(keep_glyph(ctx, f, c, from->glyph));
        f->ascent = PITH_MAX(f->ascent, f->glyphs[c].top);
        descent = PITH_MAX(descent, f->glyphs[c].height - f->glyphs[c].top);
    }
    f->line = f->ascent + descent + 1;
    f->blank = PITH_MAX(size * 3 / 10, 2);
    for (size_t i = 0; i < PITH_COUNT(words); i++) f->widest_word = PITH_MAX(f->widest_word, width_of(f, words[i]));
    f->widest_word += size; /* a capital, a full stop */
    for (size_t i = 0; i < PITH_COUNT(names); i++) f->widest_name = PITH_MAX(f->widest_name, width_of(f, names[i]));
    for (char digit = '0'; digit <= '9'; digit++) f->widest_name = PITH_MAX(f->widest_name, 2 * step_of(glyph_of(f, digit))); /* numbers in cells */
    return PITH_OK;
}

static pith_status draw_font(const pith_data_request *r, const library *l, FT_Library ft, int font, const int *sizes, page_job *job)
{
    char path[PITH_DATA_PATH];
    uint8_t *bytes;
    size_t len;
    FT_Face from;
    PITH_TRY(pith_data_read(r->ctx, &r->set->files[font], path, &bytes, &len));
    FT_Error error = l->FT_New_Memory_Face(ft, bytes, (FT_Long)len, 0, &from);
    pith_status status = error ? pith_fail(r->ctx, PITH_E_CORRUPT, "%s: no typeface (FreeType's error %d)", path, error) : PITH_OK;
    for (int s = 0; s < job->n_sizes && status == PITH_OK; s++) status = draw_face(r->ctx, l, path, from, sizes[s], &job->faces[font][s]);
    if (!error) l->FT_Done_Face(from);
    pith_free(r->ctx, bytes);
    return status;
}

static pith_status draw_fonts(const pith_data_request *r, const int *sizes, page_job *job)
{
    library l;
    FT_Library ft;
    PITH_TRY(pith_library_open(r->ctx, r->set->name, "libfreetype.so.6", "libfreetype6", function_names, &l));
    pith_status status = l.FT_Init_FreeType(&ft) ? pith_fail(r->ctx, PITH_E_MEMORY, "%s: FreeType cannot start", r->set->name) : PITH_OK;
    if (status == PITH_OK) {
        for (int font = 0; font < N_FONTS && status == PITH_OK; font++) status = draw_font(r, &l, ft, font, sizes, job);
        l.FT_Done_FreeType(ft);
    }
    pith_library_close(&l);
    return status;
}

/* ---- a page being drawn ----------------------------------------------------------------------- */

typedef struct page {
    const face *face;
    uint8_t *image;                          /* [side, side] */
    int side, paper, ink;
    char *text;
    size_t len, cap;
    int32_t (*layout)[6];
    size_t n, cap_layout;
    uint32_t name, name_step;                /* the next name, and how far to the one after it */
} page;

static void add_row(page *p, enum kind kind, int x, int y, int width, int height, int at)
{
    assert(p->n < p->cap_layout);
    const int32_t row[6] = {(int32_t)kind, x, y, width, height, at};
    memcpy(p->layout[p->n++], row, sizeof row);
}

static void add_text(page *p, const char *text)
{
    size_t n = strlen(text);
    assert(p->len + n <= p->cap);
    memcpy(p->text + p->len, text, n);
    p->len += n;
}

static void fill_box(page *p, enum kind kind, int x, int y, int width, int height, int at)
{
    for (int j = y; j < y + height; j++) memset(p->image + j * p->side + x, p->ink, (size_t)width);
    add_row(p, kind, x, y, width, height, at);
}

/* A word at x, baseline y: its letters on the page, in the text and in the layout.  Where the next one begins. */
static int put_word(page *p, enum kind kind, int x, int y, const char *word)
{
    for (; *word; word++) {
        const glyph *g = glyph_of(p->face, *word);
        int left = x + PITH_MAX(g->left, 0), top = y - g->top;
        const uint8_t *bits = p->face->bits + g->at;
        for (int j = 0; j < g->height; j++)
            for (int i = 0; i < g->width; i++) {
                uint8_t *pixel = p->image + (top + j) * p->side + left + i;
                *pixel = (uint8_t)(p->paper + (p->ink - p->paper) * bits[j * g->width + i] / 255);
            }
        add_row(p, kind, left, top, g->width, g->height, (int)p->len);
        add_text(p, (char[]){*word, 0});
        x += step_of(g);
    }
    return x;
}

#define PICK(list) list[pith_rng_below(rng, PITH_COUNT(list))]

/* No two of a page are the same: 24 and the step have no divisor in common. */
static const char *next_name(page *p)
{
    const char *name = names[p->name];
    p->name = (p->name + p->name_step) % PITH_COUNT(names);
    return name;
}

/* A line of words that fills a random part of the width. */
static void put_line(page *p, pith_rng *rng, int x, int y, int width)
{
    int end = x + PITH_MAX(width * (4 + (int)pith_rng_below(rng, 7)) / 10, p->face->widest_word);
    size_t first = p->len;
    bool begin = true;
    for (;;) {
        char word[16];
        if (pith_rng_below(rng, 8) == 0) snprintf(word, sizeof word, "%u", pith_rng_below(rng, 1000));
        else snprintf(word, sizeof word, "%s", PICK(words));
        if (begin && word[0] >= 'a') word[0] = (char)(word[0] - 'a' + 'A');
        if (pith_rng_below(rng, 6) == 0) strcat(word, pith_rng_below(rng, 2) ? "." : ",");
        size_t n = strlen(word) + !begin;
        if (p->len - first + n > LINE_CHARS || x + (begin ? 0 : p->face->blank) + width_of(p->face, word) > end) break;
        if (!begin) {
            add_text(p, " ");
            x += p->face->blank;
        }
        x = put_word(p, LINE, x, y, word);
        begin = false;
    }
    add_text(p, "\n");
}

/* What stands in a column. */
typedef struct plan {
    bool table, chart;
    int lines, rows, cells, bars;
} plan;

static int row_height(const face *f) { return f->line + 2; }

static int height_of_table(const face *f, const plan *a) { return a->rows * row_height(f) + 3; }
static int height_of_chart(const face *f) { return (AREA + 1) * f->line + 2; }

static int height_of(const face *f, const plan *a)
{
    return a->lines * f->line + (a->table ? height_of_table(f, a) : 0) + (a->chart ? height_of_chart(f) : 0) + 2 * (1 + a->table + a->chart);
}

/* Make it smaller until it fits; false: it cannot. */
static bool fit(const face *f, plan *a, int width, int height)
{
    int cell = f->widest_name + 4;
    while (a->cells > MIN_CELLS && a->cells * cell > width) a->cells--;
    while (a->bars > MIN_BARS && a->bars * cell + 2 > width) a->bars--;
    while (a->lines > MIN_LINES && height_of(f, a) > height) a->lines--;
    while (a->rows > MIN_ROWS && height_of(f, a) > height) a->rows--;
    return height_of(f, a) <= height && f->widest_word <= width && (!a->table || a->cells * cell <= width) && (!a->chart || a->bars * cell + 2 <= width);
}

/* Names above and at the left, numbers else; ruled above, below its head and at its end.  y: its top. */
static void put_table(page *p, pith_rng *rng, const plan *a, int x, int y, int width)
{
    int cell = p->face->widest_name + 4, all = a->cells * cell;
    x += (int)pith_rng_below(rng, (uint32_t)(width - all + 1));
    for (int row = 0; row < a->rows; row++) {
        if (row < 2) fill_box(p, RULE, x, y++, all, 1, -1);
        for (int k = 0; k < a->cells; k++) {
            char number[8];
            snprintf(number, sizeof number, "%u", pith_rng_below(rng, 100));
            put_word(p, CELL, x + k * cell + 2, y + 1 + p->face->ascent, row == 0 || k == 0 ? next_name(p) : number);
            add_text(p, k + 1 < a->cells ? "\t" : "\n");
        }
        y += row_height(p->face);
    }
    fill_box(p, RULE, x, y, all, 1, -1);
}

/* Bars of 10 to 90 hundredths of the axis, which is ruled at the left and below; their values are in the text alone. */
static void put_chart(page *p, pith_rng *rng, const plan *a, int x, int y, int width)
{
    int slot = p->face->widest_name + 4, area = AREA * p->face->line, all = a->bars * slot + 1;
    x += (int)pith_rng_below(rng, (uint32_t)(width - all + 1));
    fill_box(p, RULE, x, y, 1, area, -1);
    fill_box(p, RULE, x, y + area, all, 1, -1);
    for (int k = 0; k < a->bars; k++) {
        const char *name = next_name(p);
        int value = 10 * (1 + (int)pith_rng_below(rng, 9)), high = (value * area + 50) / 100, left = x + 1 + k * slot;
        char number[8];
        put_word(p, NAME, left + (slot - width_of(p->face, name)) / 2, y + area + 2 + p->face->ascent, name);
        add_text(p, " ");
        fill_box(p, BAR, left + slot / 4, y + area - high, slot / 2, high, (int)p->len);
        snprintf(number, sizeof number, "%d\n", value);
        add_text(p, number);
    }
}

/* Blocks in a random order, what is left of the height shared out between them by chance. */
static void put_column(page *p, pith_rng *rng, const plan *a, int x, int y, int width, int height)
{
    int order[3] = {0, 1, 2}, left = height - height_of(p->face, a), first = 1;
    for (int i = 2; i > 0; i--) {
        int k = (int)pith_rng_below(rng, (uint32_t)i + 1), t = order[i];
        order[i] = order[k], order[k] = t;
    }
    for (int i = 0; i < 3; i++) {
        int gap = (int)pith_rng_below(rng, (uint32_t)left + 1);
        if ((order[i] == 1 && !a->table) || (order[i] == 2 && !a->chart)) continue;
        if (!first) add_text(p, "\n");
        first = 0;
        y += gap + 1;
        left -= gap;
        switch (order[i]) {
        case 0:
            for (int k = 0; k < a->lines; k++) put_line(p, rng, x, y + k * p->face->line + p->face->ascent, width);
            y += a->lines * p->face->line + 1;
            break;
        case 1:
            put_table(p, rng, a, x, y, width);
            y += height_of_table(p->face, a) + 1;
            break;
        default:
            put_chart(p, rng, a, x, y, width);
            y += height_of_chart(p->face) + 1;
        }
    }
}

static void add_noise(pith_rng *rng, float deviation, uint8_t *image, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = (float)image[i] + deviation * pith_rng_normal(rng) + 0.5f;
        image[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

static int margin_of(size_t side) { return (int)side / 32 + 1; }

static int column_width(size_t side, size_t columns) { return ((int)side - margin_of(side) * (int)(columns + 1)) / (int)columns; }

static void make_page(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    const page_job *job = user;
    pith_rng stream = pith_data_rng(r, i), *rng = &stream;
    int font = (int)pith_rng_below(rng, N_FONTS), size = (int)pith_rng_below(rng, (uint32_t)job->n_sizes);
    int margin = margin_of(r->size), width = column_width(r->size, job->columns), height = (int)r->size - 2 * margin, n_lines = 0, n_rows = 0, n_bars = 0;
    const pith_field *image = &ds->fields[0], *text = &ds->fields[1], *layout = &ds->fields[2], *label = &ds->fields[3];
    page p = {.image = (uint8_t *)image->data + i * image->n_values, .side = (int)r->size, .text = (char *)text->data + i * text->n_values, .cap = text->n_values,
              .layout = (int32_t(*)[6])layout->data + i * layout->dims[0], .cap_layout = layout->dims[0]};
    p.paper = 255 - (int)pith_rng_below(rng, 16);
    p.ink = (int)pith_rng_below(rng, 64);
    static const uint32_t steps[] = {1, 5, 7, 11, 13, 17, 19, 23};
    p.name = pith_rng_below(rng, PITH_COUNT(names));
    p.name_step = PICK(steps);
    memset(p.image, p.paper, image->n_values);
    size_t with_table = pith_rng_below(rng, (uint32_t)job->columns), with_chart = pith_rng_below(rng, (uint32_t)job->columns);
    plan plans[MOST_COLUMNS];
    for (size_t c = 0; c < job->columns; c++) {
        plans[c] = (plan){.table = c == with_table, .chart = c == with_chart, .lines = MIN_LINES + (int)pith_rng_below(rng, MAX_LINES - MIN_LINES + 1),
                          .rows = MIN_ROWS + (int)pith_rng_below(rng, MAX_ROWS - MIN_ROWS + 1), .cells = MIN_CELLS + (int)pith_rng_below(rng, MAX_CELLS - MIN_CELLS + 1),
                          .bars = MIN_BARS + (int)pith_rng_below(rng, MAX_BARS - MIN_BARS + 1)};
        while (!fit(&job->faces[font][size], &plans[c], width, height)) size--; /* the smallest fits: pith_pages_open has seen to it */
    }
    p.face = &job->faces[font][size];
    for (size_t c = 0; c < job->columns; c++) {
        if (c) add_text(&p, "\n");
        put_column(&p, rng, &plans[c], margin + (int)c * (width + margin), margin, width, height);
        n_lines += plans[c].lines;
        n_rows += plans[c].table ? plans[c].rows : 0;
        n_bars += plans[c].chart ? plans[c].bars : 0;
    }
    if (job->noise > 0) add_noise(rng, job->noise, p.image, image->n_values);
    const int32_t about[] = {font, p.face->size, n_lines, n_rows, n_bars};
    memcpy((int32_t *)label->data + i * PITH_COUNT(about), about, sizeof about);
}

/* ---- opening ---------------------------------------------------------------------------------- */

static pith_status add_fields(pith_dataset *ds, size_t side, size_t columns)
{
    size_t n_text = columns * (MAX_LINES * (LINE_CHARS + 1) + 2) + ROWS_TEXT;
    pith_field *image = pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(1, side, side));
    pith_field *text = image ? pith_dataset_add(ds, "text", PITH_FIELD_U8, PITH_FIELD_SHAPE(n_text)) : NULL;
    pith_field *layout = text ? pith_dataset_add(ds, "layout", PITH_FIELD_I32, PITH_FIELD_SHAPE(n_text + ROWS_RULES, PITH_COUNT(layout_columns))) : NULL;
    pith_field *label = layout ? pith_dataset_add(ds, "label", PITH_FIELD_I32, PITH_FIELD_SHAPE(PITH_COUNT(label_columns))) : NULL;
    if (!label) return PITH_E_MEMORY;
    layout->columns = layout_columns;
    layout->names = kind_names;
    layout->n_names = N_KINDS;
    label->columns = label_columns;
    label->names = font_names;
    label->n_names = N_FONTS;
    return PITH_OK;
}

/* Every page can be laid out in each typeface's smallest size. */
static pith_status check_room(const pith_data_request *r, const page_job *job)
{
    for (int font = 0; font < N_FONTS; font++) {
        plan least = {.table = true, .chart = true, .lines = MIN_LINES, .rows = MIN_ROWS, .cells = MIN_CELLS, .bars = MIN_BARS};
        const face *f = &job->faces[font][0];
        if (!fit(f, &least, column_width(r->size, job->columns), (int)r->size - 2 * margin_of(r->size)))
            return pith_fail(r->ctx, PITH_E_ARGUMENT, "%s: %zu pixels a side are too few for %zu columns with letters of %d pixels; a larger size, fewer columns or smaller letters fit", r->set->name, r->size, job->columns, f->size);
    }
    return PITH_OK;
}

pith_status pith_pages_open(const pith_data_request *r, pith_dataset *ds)
{
    const int one[1] = {(int)r->text_size};
    if (r->columns > MOST_COLUMNS) return pith_fail(r->ctx, PITH_E_ARGUMENT, "%s: %zu columns; 1 to %d can be made", ds->name, r->columns, MOST_COLUMNS);
    if (r->text_size && (r->text_size < (size_t)usual_sizes[0] || r->text_size > LARGEST)) return pith_fail(r->ctx, PITH_E_ARGUMENT, "%s: letters of %zu pixels; %d to %d can be made", ds->name, r->text_size, usual_sizes[0], LARGEST);
    if (!(r->noise >= 0 && r->noise <= 128)) return pith_fail(r->ctx, PITH_E_ARGUMENT, "%s: noise of %g; a deviation of 0 to 128 can be made", ds->name, (double)r->noise);
    char path[PITH_DATA_PATH];
    for (const pith_data_file *f = r->set->files; f->path; f++)
        if (!pith_data_locate(f, path)) return pith_data_missing(r, "typefaces are");
    page_job *job = pith_calloc(r->ctx, 1, sizeof *job);
    if (!job) return PITH_E_MEMORY;
    job->n_sizes = r->text_size ? 1 : N_SIZES;
    job->columns = r->columns ? r->columns : 1;
    job->noise = r->noise;
    pith_status status = draw_fonts(r, r->text_size ? one : usual_sizes, job);
    if (status == PITH_OK) status = check_room(r, job);
    if (status == PITH_OK) status = add_fields(ds, r->size, job->columns);
    if (status == PITH_OK) status = pith_data_fill(r, ds, make_page, job);
    for (int font = 0; font < N_FONTS; font++)
        for (int s = 0; s < N_SIZES; s++) pith_free(r->ctx, job->faces[font][s].bits);
    pith_free(r->ctx, job);
    snprintf(ds->source, sizeof ds->source, "made from seed %llu with typefaces of %s from Debian", (unsigned long long)r->seed, r->set->files->package);
    return status;
}
