/* Curves as pictures.  The layout is written once, over a canvas that takes strokes and words; one canvas writes SVG,
 * the other fills pixels. */
#include "train/picture.h"

#include <math.h>
#include <png.h>

/* ---- canvases --------------------------------------------------------------------------------- */

typedef struct dot {
    double x, y;                    /* pixels, from the top left */
} dot;

typedef struct canvas canvas;
struct canvas {
    void (*stroke)(canvas *c, const dot *p, size_t n, double width, unsigned rgb);
    void (*words)(canvas *c, double x, double y, int align, unsigned rgb, const char *text); /* y: the baseline; align -1: from x on, 0: around it, 1: up to it */
    pith_status status;             /* the first failure */
};

#define LETTER 12.0                 /* height of letters and their distance, pixels */
#define ADVANCE 7.5

typedef struct svg {
    canvas base;
    pith_out *out;
} svg;

static void put(svg *s, const char *format, ...) PITH_PRINTF(2, 3);
static void put(svg *s, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (s->base.status == PITH_OK) s->base.status = pith_out_write(s->out, text, strlen(text));
}

static void svg_stroke(canvas *c, const dot *p, size_t n, double width, unsigned rgb)
{
    svg *s = (svg *)c;
    put(s, "<polyline fill=\"none\" stroke=\"#%06x\" stroke-width=\"%g\" stroke-linejoin=\"round\" points=\"", rgb, width);
    for (size_t i = 0; i < n; i++) put(s, i ? " %.1f,%.1f" : "%.1f,%.1f", p[i].x, p[i].y);
    put(s, "\"/>\n");
}

static void svg_words(canvas *c, double x, double y, int align, unsigned rgb, const char *text)
{
    svg *s = (svg *)c;
    static const char *const anchors[] = {"start", "middle", "end"};
    put(s, "<text x=\"%.1f\" y=\"%.1f\" fill=\"#%06x\" text-anchor=\"%s\">", x, y, rgb, anchors[align + 1]);
    for (; *text; text++) {
        if (*text == '&' || *text == '<' || (unsigned char)*text < ' ') put(s, "&#%d;", *text == '&' ? 38 : *text == '<' ? 60 : 0xFFFD);
        else put(s, "%c", *text);
    }
    put(s, "</text>\n");
}

typedef struct raster {
    canvas base;
    uint8_t *pixels;                /* [height, width, 3] */
    size_t width, height;
} raster;

/* Colour a pixel as far as `share` of it is covered. */
static void cover(raster *r, size_t x, size_t y, double share, unsigned rgb)
{
    uint8_t *p = r->pixels + (y * r->width + x) * 3;
    for (int i = 0; i < 3; i++) {
        double to = (double)(rgb >> (16 - 8 * i) & 0xFF);
        p[i] = (uint8_t)lround(p[i] + share * (to - p[i]));
    }
}

static void segment(raster *r, dot a, dot b, double width, unsigned rgb)
{
    double reach = width / 2 + 1, dx = b.x - a.x, dy = b.y - a.y, square = dx * dx + dy * dy;
    double x0 = fmax(0, floor(fmin(a.x, b.x) - reach)), x1 = fmin((double)r->width - 1, fmax(a.x, b.x) + reach);
    double y0 = fmax(0, floor(fmin(a.y, b.y) - reach)), y1 = fmin((double)r->height - 1, fmax(a.y, b.y) + reach);
    for (double y = y0; y <= y1; y++)
        for (double x = x0; x <= x1; x++) {
            double px = x + 0.5 - a.x, py = y + 0.5 - a.y;
            double t = square > 0 ? fmin(1, fmax(0, (px * dx + py * dy) / square)) : 0;
            double share = width / 2 + 0.5 - hypot(px - t * dx, py - t * dy);
            if (share > 0) cover(r, (size_t)x, (size_t)y, fmin(1, share), rgb);
        }
}

static void raster_stroke(canvas *c, const dot *p, size_t n, double width, unsigned rgb)
{
    for (size_t i = 0; i + 1 < n; i++) segment((raster *)c, p[i], p[i + 1], width, rgb);
}

/* A letter as strokes over a grid of 5 by 9: two digits a point, a space lifts the pen; row 6 is the baseline. */
static const char *letter_strokes(char letter)
{
    static const char *const digits[] = {"103041453616050110", "112026 1636", "01103041420646", "011030414233 13334445361605", "300444 3036",
        "400003334445361605", "4130100105163645443303", "004016", "103041423313020110 1304051636454433", "0516364541301001021343"};
    static const char *const letters[] = {"12324346 441405163645", "0006 0312324345361605", "4332120305163645", "4046 4332120305163645",
        "04444332120305163645", "40302126 1242", "4332120305163645 42473818", "0006 0312324346", "2226 2021", "22271808 2021", "0006 4204 2346",
        "202536", "0602324346 2226", "0206 0312324346", "123243453616050312", "0208 0312324345361605", "4248 4332120305163645", "0206 03123243",
        "43321203143445361605", "202536 0242", "0205163645 4246", "022642", "0216233642", "0246 4206", "0226 4218", "02420646"};
    if (letter >= '0' && letter <= '9') return digits[letter - '0'];
    if (letter >= 'a' && letter <= 'z') return letters[letter - 'a'];
    if (letter >= 'A' && letter <= 'Z') return letters[letter - 'A'];
    switch (letter) {
    case ' ': return "";
    case '.': return "2526";
    case ',': return "2517";
    case ':': return "2223 2526";
    case '-': return "0444";
    case '+': return "0444 2226";
    case '=': return "0343 0545";
    case '_': return "0747";
    case '/': return "4006";
    case '(': return "30212536";
    case ')': return "10212516";
    default: return "0040460600"; /* a box for what is not here */
    }
}

static void raster_words(canvas *c, double x, double y, int align, unsigned rgb, const char *text)
{
    double size = LETTER / 8, left = x - (align + 1) * 0.5 * ADVANCE * (double)strlen(text);
    for (; *text; text++, left += ADVANCE) {
        bool down = false;
        dot from = {0, 0};
        for (const char *s = letter_strokes(*text); *s; s += *s == ' ' ? 1 : 2) {
            if (*s == ' ') {
                down = false;
                continue;
            }
            dot to = {left + 0.9 * size * (s[0] - '0') + 0.5, y + size * (s[1] - '0' - 6)};
            if (down) segment((raster *)c, from, to, 1.1, rgb);
            from = to;
            down = true;
        }
    }
}

/* ---- layout ----------------------------------------------------------------------------------- */

enum { WIDTH = 800, PANEL = 240, LEFT = 72, RIGHT = 24, TOP = 40, BOTTOM = 32 };
#define INK 0x333333u
#define GRID 0xdddddau

/* Distinct also to people who see few colours (Okabe and Ito's set, without yellow). */
static const unsigned colours[] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x000000};

/* Panels: losses and their terms share one, the others have one each. */
static size_t n_panels(const pith_train_history *h) { return 1 + pith_curves_count(h) - h->n_roles - h->n_terms; }

static void panel_lines(const pith_train_history *h, size_t panel, size_t *from, size_t *to)
{
    size_t shared = h->n_roles + h->n_terms;
    *from = panel ? shared + panel - 1 : 0;
    *to = panel ? *from + 1 : shared;
}

/* 1, 2 or 5 times a power of ten, so that about `n` of them fill the span. */
static double nice_step(double span, double n)
{
    double power = pow(10, floor(log10(span / n))), rest = span / n / power;
    return power * (rest < 1.5 ? 1 : rest < 3.5 ? 2 : rest < 7.5 ? 5 : 10);
}

typedef struct frame {
    double x, y, width, height;
} frame;

static void level(canvas *c, const frame *f, double place, double value)
{
    char text[32];
    double y = f->y + (1 - place) * f->height;
    c->stroke(c, (dot[]){{f->x, y}, {f->x + f->width, y}}, 2, 1, GRID);
    snprintf(text, sizeof text, "%.4g", value);
    c->words(c, f->x - 6, y + LETTER / 3, 1, INK, text);
}

static void draw_axes(canvas *c, const frame *f, const pith_axis_range *range, double n_steps)
{
    if (range->logarithmic) {
        bool few = range->high / range->low < 1000;
        for (double power = pow(10, floor(log10(range->low))); power <= range->high; power *= 10)
            for (int k = 1; k <= (few ? 5 : 1); k = k == 1 ? 2 : k == 2 ? 5 : 10)
                if (k * power >= range->low && k * power <= range->high) level(c, f, pith_axis_place(range, k * power), k * power);
    } else {
        double step = nice_step(range->high - range->low, 5);
        for (double v = ceil(range->low / step) * step; v <= range->high + 1e-9 * step; v += step) level(c, f, pith_axis_place(range, v), fabs(v) < 1e-9 * step ? 0 : v);
    }
    double step = fmax(1, nice_step(n_steps, 8));
    for (double v = 0; v <= n_steps; v += step) {
        char text[32];
        double x = f->x + v / n_steps * f->width;
        c->stroke(c, (dot[]){{x, f->y + f->height}, {x, f->y + f->height + 4}}, 2, 1, INK);
        snprintf(text, sizeof text, "%.7g", v);
        c->words(c, x, f->y + f->height + 5 + LETTER, 0, INK, text);
    }
    c->stroke(c, (dot[]){{f->x, f->y}, {f->x, f->y + f->height}, {f->x + f->width, f->y + f->height}}, 3, 1, INK);
}

static void draw_panel(canvas *c, const pith_train_history *h, size_t panel, dot *scratch)
{
    size_t from, to;
    panel_lines(h, panel, &from, &to);
    frame f = {LEFT, (double)(panel * PANEL) + TOP, WIDTH - LEFT - RIGHT, PANEL - TOP - BOTTOM};
    pith_axis_range range;
    bool any = pith_axis_fit(h, from, to, &range);
    double n_steps = (double)PITH_MAX(h->points[h->n_points - 1].step, 1u), x = f.x;
    if (any) draw_axes(c, &f, &range, n_steps);
    for (size_t i = from; i < to; i++) {
        const char *name = pith_curves_name(h, i);
        unsigned colour = colours[(i - from) % PITH_COUNT(colours)];
        size_t n = 0;
        for (size_t k = 0; k < h->n_points; k++) {
            double v = pith_curves_value(h, i, k);
            if (isfinite(v)) scratch[n++] = (dot){f.x + (double)h->points[k].step / n_steps * f.width, f.y + (1 - pith_axis_place(&range, v)) * f.height};
        }
        if (n == 1) { /* one evaluation: a mark */
            scratch[1] = (dot){scratch[0].x + 4, scratch[0].y};
            scratch[0].x -= 4;
            n = 2;
        }
        if (n) c->stroke(c, scratch, n, 1.5, colour);
        c->words(c, x, f.y - 12, -1, colour, name);
        x += ADVANCE * (double)(strlen(name) + 2);
    }
}

static pith_status draw(pith_ctx *ctx, canvas *c, const pith_train_history *h)
{
    dot *scratch = pith_array(ctx, h->n_points + 1, sizeof *scratch);
    if (!scratch) return PITH_E_MEMORY;
    for (size_t i = 0; i < n_panels(h) && h->n_points; i++) draw_panel(c, h, i, scratch);
    pith_free(ctx, scratch);
    return c->status;
}

/* ---- files ------------------------------------------------------------------------------------ */

pith_status pith_picture_svg(pith_ctx *ctx, const pith_train_history *h, const char *path)
{
    svg s = {.base = {svg_stroke, svg_words, PITH_OK}};
    PITH_TRY(pith_out_open(ctx, path, &s.out));
    unsigned height = (unsigned)(n_panels(h) * PANEL);
    put(&s, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" viewBox=\"0 0 %d %u\" ", WIDTH, height, WIDTH, height);
    put(&s, "font-family=\"sans-serif\" font-size=\"%g\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n", LETTER);
    pith_status status = draw(ctx, &s.base, h);
    put(&s, "</svg>\n");
    if (status == PITH_OK) status = s.base.status;
    if (status == PITH_OK) return pith_out_close(s.out);
    pith_out_discard(s.out);
    return status;
}

pith_status pith_picture_png(pith_ctx *ctx, const pith_train_history *h, const char *path)
{
    size_t height = n_panels(h) * PANEL, bytes = WIDTH * height * 3;
    raster r = {.base = {raster_stroke, raster_words, PITH_OK}, .width = WIDTH, .height = height, .pixels = pith_alloc(ctx, bytes)};
    if (!r.pixels) return PITH_E_MEMORY;
    memset(r.pixels, 0xFF, bytes);
    pith_status status = draw(ctx, &r.base, h);
    /* libpng's simple form: into memory that is surely large enough, then written as all files are */
    png_image image = {.version = PNG_IMAGE_VERSION, .width = WIDTH, .height = (png_uint_32)height, .format = PNG_FORMAT_RGB};
    png_alloc_size_t len = PNG_IMAGE_PNG_SIZE_MAX(image);
    uint8_t *file = status == PITH_OK ? pith_alloc(ctx, len) : NULL;
    if (status == PITH_OK && !file) status = PITH_E_MEMORY;
    if (status == PITH_OK && !png_image_write_to_memory(&image, file, &len, 0, r.pixels, 0, NULL)) status = pith_fail(ctx, PITH_E_INTERNAL, "%s: libpng: %s", path, image.message);
    pith_out *out = NULL;
    if (status == PITH_OK) status = pith_out_open(ctx, path, &out);
    if (status == PITH_OK) status = pith_out_write(out, file, len);
    if (status == PITH_OK) status = pith_out_close(out);
    else pith_out_discard(out);
    pith_free(ctx, file);
    pith_free(ctx, r.pixels);
    return status;
}
