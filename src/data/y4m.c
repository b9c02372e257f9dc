/* Y4M: a line of text, then frames, each a line of text and its planes. */
#include "data/media.h"

#define HEAD_LIMIT 1024 /* bytes of a line of text */

static const char magic[] = "YUV4MPEG2";
enum { MAGIC = sizeof magic - 1 };

/* How the file names what we read, and how we write it. */
static const struct {
    const char *tag;
    pith_y4m_sampling sampling;
} tags[] = {{"420jpeg", PITH_Y4M_420}, {"420mpeg2", PITH_Y4M_420_LEFT}, {"422", PITH_Y4M_422}, {"444", PITH_Y4M_444}, {"mono", PITH_Y4M_MONO}, {"420", PITH_Y4M_420}};

/* ---- planes ----------------------------------------------------------------------------------- */

static bool is_420(pith_y4m_sampling s) { return s == PITH_Y4M_420 || s == PITH_Y4M_420_LEFT; }

void pith_y4m_plane(const pith_y4m_format *f, int plane, size_t *width, size_t *height)
{
    bool chroma = plane > 0;
    *width = chroma && f->sampling != PITH_Y4M_444 ? PITH_CEIL_DIV(f->width, 2) : f->width;
    *height = chroma && is_420(f->sampling) ? PITH_CEIL_DIV(f->height, 2) : f->height;
    if (chroma && f->sampling == PITH_Y4M_MONO) *width = *height = 0;
}

size_t pith_y4m_frame_bytes(const pith_y4m_format *f)
{
    size_t width, height;
    pith_y4m_plane(f, 1, &width, &height);
    return f->width * f->height + 2 * width * height;
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* The line that begins at y->at, without its end: where it ends, SIZE_MAX when it does not. */
static size_t line_end(const pith_y4m *y)
{
    size_t most = PITH_MIN(y->len - y->at, (size_t)HEAD_LIMIT);
    const uint8_t *end = most ? memchr(y->bytes + y->at, '\n', most) : NULL;
    return end ? (size_t)(end - y->bytes) : SIZE_MAX;
}

/* All of text[0..n-1] as a number of at most 9 digits. */
static bool parse_number(const uint8_t *text, size_t n, uint32_t *value)
{
    *value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *value = *value * 10 + (text[i] - '0');
    }
    return n >= 1 && n <= 9;
}

/* num:den */
static bool parse_rate(const uint8_t *text, size_t n, uint32_t *num, uint32_t *den)
{
    const uint8_t *colon = memchr(text, ':', n);
    size_t first = colon ? (size_t)(colon - text) : n;
    return colon && parse_number(text, first, num) && parse_number(colon + 1, n - first - 1, den);
}

static bool is_text(const uint8_t *text, size_t n, const char *other) { return n == strlen(other) && memcmp(text, other, n) == 0; }

/* One parameter, its letter first, at y->at. */
static pith_status take_parameter(pith_y4m *y, const uint8_t *text, size_t n)
{
    pith_y4m_format *f = &y->format;
    uint32_t v;
    const uint8_t *rest = text + 1;
    size_t left = n - 1;
    switch (text[0]) {
    case 'W':
    case 'H':
        if (!parse_number(rest, left, &v) || v == 0) break;
        *(text[0] == 'W' ? &f->width : &f->height) = v;
        return PITH_OK;
    case 'F':
        if (!parse_rate(rest, left, &f->rate_num, &f->rate_den)) break;
        return PITH_OK;
    case 'C':
        for (size_t i = 0; i < PITH_COUNT(tags); i++)
            if (is_text(rest, left, tags[i].tag)) {
                f->sampling = tags[i].sampling;
                return PITH_OK;
            }
        return pith_fail(y->ctx, PITH_E_UNSUPPORTED, "%s: offset %zu: samples as \"%.*s\"; 420, 420jpeg, 420mpeg2, 422, 444 and mono of 8 bits can be read (ffmpeg -pix_fmt yuv420p makes them)",
                         y->what, y->at, (int)PITH_MIN(n, (size_t)40), (const char *)text);
    case 'X':
        if (is_text(text, n, "XCOLORRANGE=FULL")) f->full_range = true;
        return PITH_OK;
    case 'I':
        if (left == 1 && (rest[0] == 't' || rest[0] == 'b' || rest[0] == 'm')) pith_log(y->ctx, PITH_LOG_WARN, "%s: interlaced; its frames are taken as they are", y->what);
        return PITH_OK;
    case 'A':
        return PITH_OK;
    }
    return pith_fail(y->ctx, PITH_E_CORRUPT, "%s: offset %zu: \"%.*s\" is no parameter of Y4M", y->what, y->at, (int)PITH_MIN(n, (size_t)40), (const char *)text);
}

static pith_status check_sides(pith_ctx *ctx, const char *what, const pith_y4m_format *f)
{
    if (f->width && f->height && f->width <= PITH_VIDEO_MAX_PIXELS && f->height <= PITH_VIDEO_MAX_PIXELS / f->width) return PITH_OK;
    return pith_fail(ctx, PITH_E_LIMIT, "%s: frames of %zu x %zu pixels; 1 to %zu pixels are possible", what, f->width, f->height, PITH_VIDEO_MAX_PIXELS);
}

bool pith_y4m_known(const uint8_t *bytes, size_t len) { return len >= MAGIC && memcmp(bytes, magic, MAGIC) == 0; }

pith_status pith_y4m_begin(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_y4m *y)
{
    *y = (pith_y4m){.ctx = ctx, .what = what, .bytes = bytes, .len = len, .format = {.rate_den = 1}};
    if (!pith_y4m_known(bytes, len) || len == MAGIC || (bytes[MAGIC] != ' ' && bytes[MAGIC] != '\n')) return pith_fail(ctx, PITH_E_FORMAT, "%s: offset 0: not Y4M", what);
    size_t end = line_end(y);
    if (end == SIZE_MAX) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset 0: a head without an end in its first %d bytes", what, HEAD_LIMIT);
    for (y->at = MAGIC; y->at < end;) {
        const uint8_t *text = bytes + y->at;
        if (*text == ' ') {
            y->at++;
            continue;
        }
        const uint8_t *blank = memchr(text, ' ', end - y->at);
        size_t n = blank ? (size_t)(blank - text) : end - y->at;
        PITH_TRY(take_parameter(y, text, n));
        y->at += n;
    }
    y->at = end + 1;
    if (!y->format.width || !y->format.height) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset 0: a head without width or height", what);
    return check_sides(ctx, what, &y->format);
}

pith_status pith_y4m_next(pith_y4m *y, const uint8_t **frame)
{
    *frame = NULL;
    if (y->at == y->len) return PITH_OK;
    const uint8_t *head = y->bytes + y->at;
    size_t end = line_end(y), left = y->len - y->at, need = pith_y4m_frame_bytes(&y->format);
    bool named = left >= 6 && memcmp(head, "FRAME", 5) == 0 && (head[5] == '\n' || head[5] == ' ');
    if (!named || end == SIZE_MAX) {
        bool cut = left < 6 && memcmp(head, "FRAME\n", left) == 0;
        return pith_fail(y->ctx, PITH_E_CORRUPT, cut ? "%s: offset %zu: cut off in the head of frame %zu" : "%s: offset %zu: no head of frame %zu", y->what, y->at, y->frame);
    }
    end++;
    if (y->len - end < need) return pith_fail(y->ctx, PITH_E_CORRUPT, "%s: offset %zu: frame %zu is cut off: %zu bytes of %zu", y->what, end, y->frame, y->len - end, need);
    *frame = y->bytes + end;
    y->at = end + need;
    y->frame++;
    return PITH_OK;
}

/* ---- colours ---------------------------------------------------------------------------------- */

/* ITU-R BT.601: luma 0.299 R + 0.587 G + 0.114 B, chroma (B - Y) / 1.772 and (R - Y) / 1.402; in units of 2^-16, with 219 or 255 steps of
 * luma and 224 or 255 of chroma.  u and v add up to 0, so that grey has no colour. */
typedef struct matrix {
    int32_t y, r_v, g_u, g_v, b_u;         /* to RGB */
    int32_t luma[3], u[3], v[3];           /* from RGB */
    int32_t black;
} matrix;

static const matrix matrices[2] = {
    {.y = 76309, .r_v = 104597, .g_u = -25675, .g_v = -53279, .b_u = 132201,
     .luma = {16829, 33039, 6416}, .u = {-9714, -19071, 28785}, .v = {28784, -24103, -4681}, .black = 16},
    {.y = 65536, .r_v = 91881, .g_u = -22553, .g_v = -46802, .b_u = 116130,
     .luma = {19595, 38470, 7471}, .u = {-11058, -21710, 32768}, .v = {32768, -27439, -5329}, .black = 0},
};

static uint8_t clamp(int32_t v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

/* The two samples of a halved axis around pixel x, and the weight of the first, in quarters. */
static void neighbours(size_t x, size_t n, bool left, size_t *a, size_t *b, int *weight)
{
    size_t k = x / 2;
    if (left) {
        *a = k, *b = x % 2 && k + 1 < n ? k + 1 : k;
        *weight = 2;
    } else {
        *a = x % 2 || k == 0 ? k : k - 1, *b = x % 2 ? PITH_MIN(k + 1, n - 1) : k;
        *weight = x % 2 ? 3 : 1;
    }
}

/* A plane's value at a pixel, in sixteenths. */
static int32_t chroma_at(const pith_y4m_format *f, const uint8_t *plane, size_t width, size_t height, size_t x, size_t y)
{
    size_t xs[2] = {x, x}, ys[2] = {y, y};
    int wx = 2, wy = 2;
    if (f->sampling != PITH_Y4M_444) neighbours(x, width, f->sampling != PITH_Y4M_420, &xs[0], &xs[1], &wx);
    if (is_420(f->sampling)) neighbours(y, height, false, &ys[0], &ys[1], &wy);
    const uint8_t *top = plane + ys[0] * width, *bottom = plane + ys[1] * width;
    return wy * (wx * top[xs[0]] + (4 - wx) * top[xs[1]]) + (4 - wy) * (wx * bottom[xs[0]] + (4 - wx) * bottom[xs[1]]);
}

void pith_y4m_to_rgb(const pith_y4m_format *f, const uint8_t *frame, uint8_t *rgb)
{
    const matrix *m = &matrices[f->full_range];
    size_t width, height, n = f->width * f->height;
    pith_y4m_plane(f, 1, &width, &height);
    const uint8_t *u_plane = frame + n, *v_plane = u_plane + width * height;
    for (size_t i = 0; i < n; i++) {
        size_t x = i % f->width, y = i / f->width;
        int32_t u = 0, v = 0, luma = (frame[i] - m->black) * 16 * m->y + (1 << 19);
        if (width) {
            u = chroma_at(f, u_plane, width, height, x, y) - 128 * 16;
            v = chroma_at(f, v_plane, width, height, x, y) - 128 * 16;
        }
        rgb[i] = clamp((luma + m->r_v * v) >> 20);
        rgb[n + i] = clamp((luma + m->g_u * u + m->g_v * v) >> 20);
        rgb[2 * n + i] = clamp((luma + m->b_u * u) >> 20);
    }
}

/* The mean colour around a sample of chroma, eight times: over the 2 rows it stands for, and over 2 pixels, or 1 : 2 : 1 where it is at
 * the left of them. */
static void mean_colour(const pith_y4m_format *f, const uint8_t *rgb, size_t x, size_t y, int32_t sum[3])
{
    bool across = f->sampling != PITH_Y4M_444, down = is_420(f->sampling), left = across && f->sampling != PITH_Y4M_420;
    size_t n = f->width * f->height, x0 = across ? 2 * x : x, y0 = down ? 2 * y : y;
    size_t xs[4] = {x0, x0, x0, x0}, ys[2] = {y0, down && y0 + 1 < f->height ? y0 + 1 : y0};
    size_t after = x0 + 1 < f->width ? x0 + 1 : x0;
    if (left) xs[2] = x0 ? x0 - 1 : 0, xs[3] = after;
    else if (across) xs[2] = xs[3] = after;
    for (int c = 0; c < 3; c++) {
        sum[c] = 0;
        for (int j = 0; j < 2; j++)
            for (int i = 0; i < 4; i++) sum[c] += rgb[(size_t)c * n + ys[j] * f->width + xs[i]];
    }
}

void pith_y4m_from_rgb(const pith_y4m_format *f, const uint8_t *rgb, uint8_t *frame)
{
    const matrix *m = &matrices[f->full_range];
    size_t width, height, n = f->width * f->height;
    pith_y4m_plane(f, 1, &width, &height);
    for (size_t i = 0; i < n; i++)
        frame[i] = clamp(m->black + ((m->luma[0] * rgb[i] + m->luma[1] * rgb[n + i] + m->luma[2] * rgb[2 * n + i] + (1 << 15)) >> 16));
    uint8_t *u = frame + n, *v = u + width * height;
    for (size_t i = 0; i < width * height; i++) {
        int32_t c[3];
        mean_colour(f, rgb, i % width, i / width, c);
        u[i] = clamp(128 + ((m->u[0] * c[0] + m->u[1] * c[1] + m->u[2] * c[2] + (1 << 18)) >> 19));
        v[i] = clamp(128 + ((m->v[0] * c[0] + m->v[1] * c[1] + m->v[2] * c[2] + (1 << 18)) >> 19));
    }
}

/* ---- writing ---------------------------------------------------------------------------------- */

pith_status pith_y4m_write_begin(pith_ctx *ctx, const char *path, const pith_y4m_format *f, pith_y4m_writer *w)
{
    *w = (pith_y4m_writer){.ctx = ctx, .format = *f};
    PITH_TRY(check_sides(ctx, path, f));
    char head[160];
    size_t tag = 0;
    while (tags[tag].sampling != f->sampling) tag++;
    int n = snprintf(head, sizeof head, "%s W%zu H%zu F%u:%u Ip A1:1 C%s XCOLORRANGE=%s\n", magic, f->width, f->height, f->rate_num, f->rate_den, tags[tag].tag, f->full_range ? "FULL" : "LIMITED");
    w->frame = pith_alloc(ctx, pith_y4m_frame_bytes(f));
    if (!w->frame) return PITH_E_MEMORY;
    pith_status status = pith_out_open(ctx, path, &w->out);
    if (status == PITH_OK) status = pith_out_write(w->out, head, (size_t)n);
    if (status != PITH_OK) pith_y4m_write_end(w, false);
    return status;
}

pith_status pith_y4m_write(pith_y4m_writer *w, const uint8_t *rgb)
{
    pith_y4m_from_rgb(&w->format, rgb, w->frame);
    PITH_TRY(pith_out_write(w->out, "FRAME\n", 6));
    return pith_out_write(w->out, w->frame, pith_y4m_frame_bytes(&w->format));
}

pith_status pith_y4m_write_end(pith_y4m_writer *w, bool keep)
{
    pith_status status = PITH_OK;
    if (keep) status = pith_out_close(w->out);
    else pith_out_discard(w->out);
    pith_free(w->ctx, w->frame);
    *w = (pith_y4m_writer){0};
    return status;
}
