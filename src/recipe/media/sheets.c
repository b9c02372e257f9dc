/* libwebp is loaded when it is asked for: only this measurement needs it.  Both libraries allocate outside of pith_alloc, a few
 * MB a sheet. */
#include "recipe/media/sheets.h"

#include <png.h>
#include <setjmp.h>
#include <webp/encode.h>

#include "base/library.h"

#define MAX_SIDE 16383             /* WebP's */

/* One sheet, width and height of it. */
typedef struct sheet {
    uint8_t *pixels;
    size_t width, height;
} sheet;

typedef pith_status sheet_fn(pith_ctx *ctx, const sheet *s, void *user, uint64_t *len);

static pith_status each_sheet(pith_ctx *ctx, const pith_sheets *all, sheet_fn *fn, void *user, uint64_t *len)
{
    size_t columns = all->columns, each = columns * columns;
    sheet s = {.width = columns * all->width};
    if (!all->n || !s.width || s.width > MAX_SIDE || columns * all->height > MAX_SIDE)
        return pith_fail(ctx, PITH_E_ARGUMENT, "sheets of %zu by %zu images of %zu by %zu pixels: at most %d pixels a side", columns, columns, all->width, all->height, MAX_SIDE);
    if (!(s.pixels = pith_array(ctx, s.width, columns * all->height))) return PITH_E_MEMORY;
    pith_status status = PITH_OK;
    *len = 0;
    for (size_t from = 0; from < all->n && status == PITH_OK; from += each) {
        size_t n = PITH_MIN(each, all->n - from);
        s.height = PITH_CEIL_DIV(n, columns) * all->height;
        memset(s.pixels, 0, s.width * s.height);
        for (size_t k = 0; k < n; k++)
            for (size_t y = 0; y < all->height; y++)
                memcpy(s.pixels + (k / columns * all->height + y) * s.width + k % columns * all->width, all->x + ((from + k) * all->height + y) * all->width, all->width);
        status = fn(ctx, &s, user, len);
    }
    pith_free(ctx, s.pixels);
    return status;
}

/* ---- PNG --------------------------------------------------------------------------------------- */

static void png_count(png_structp png, png_bytep data, size_t n)
{
    (void)data;
    *(uint64_t *)png_get_io_ptr(png) += n;
}
static void png_no_flush(png_structp png) { (void)png; }
static void png_error_to(png_structp png, png_const_charp text)
{
    snprintf(png_get_error_ptr(png), 128, "%s", text);
    png_longjmp(png, 1);
}
static void png_warning_to(png_structp png, png_const_charp text) { (void)png, (void)text; }

static pith_status png_size(pith_ctx *ctx, const sheet *s, int filters, uint64_t *len)
{
    char why[128] = "memory";
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, why, png_error_to, png_warning_to);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info || setjmp(png_jmpbuf(png))) {
        if (png) png_destroy_write_struct(&png, info ? &info : NULL);
        return pith_fail(ctx, PITH_E_INTERNAL, "libpng: %s", why);
    }
    *len = 0;
    png_set_write_fn(png, len, png_count, png_no_flush);
    png_set_IHDR(png, info, (png_uint_32)s->width, (png_uint_32)s->height, 8, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(png, 9);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, filters);
    png_write_info(png, info);
    for (size_t y = 0; y < s->height; y++) png_write_row(png, s->pixels + y * s->width);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return PITH_OK;
}

static pith_status png_sheet(pith_ctx *ctx, const sheet *s, void *user, uint64_t *len)
{
    (void)user;
    uint64_t plain, filtered;
    PITH_TRY(png_size(ctx, s, PNG_FILTER_NONE, &plain));
    PITH_TRY(png_size(ctx, s, PNG_ALL_FILTERS, &filtered));
    *len += PITH_MIN(plain, filtered);
    return PITH_OK;
}

pith_status pith_sheets_png(pith_ctx *ctx, const pith_sheets *sheets, uint64_t *len) { return each_sheet(ctx, sheets, png_sheet, NULL, len); }

/* ---- WebP -------------------------------------------------------------------------------------- */

#define LIBRARY "libwebp.so.7"
#define FUNCTIONS(X) X(WebPConfigInitInternal) X(WebPConfigLosslessPreset) X(WebPPictureInitInternal) X(WebPPictureImportRGB) X(WebPPictureFree) X(WebPEncode)

typedef struct library {
    void *handle;
    FUNCTIONS(PITH_LIBRARY_MEMBER)
} library;
static const char *const names[] = {FUNCTIONS(PITH_LIBRARY_NAME) NULL};

static int webp_count(const uint8_t *data, size_t n, const WebPPicture *picture)
{
    (void)data;
    *(uint64_t *)picture->custom_ptr += n;
    return 1;
}

static pith_status webp_sheet(pith_ctx *ctx, const sheet *s, void *user, uint64_t *len)
{
    const library *l = user;
    WebPConfig config;
    WebPPicture picture;
    if (!l->WebPConfigInitInternal(&config, WEBP_PRESET_DEFAULT, 75, WEBP_ENCODER_ABI_VERSION) || !l->WebPConfigLosslessPreset(&config, 9) ||
        !l->WebPPictureInitInternal(&picture, WEBP_ENCODER_ABI_VERSION))
        return pith_fail(ctx, PITH_E_UNSUPPORTED, LIBRARY " is of another version than pith was built with; build pith again");
    uint8_t *rgb = pith_array(ctx, s->width * s->height, 3);
    if (!rgb) return PITH_E_MEMORY;
    for (size_t i = 0; i < s->width * s->height; i++) memset(rgb + 3 * i, s->pixels[i], 3);
    picture.use_argb = 1;
    picture.width = (int)s->width, picture.height = (int)s->height;
    picture.writer = webp_count, picture.custom_ptr = len;
    bool ok = l->WebPPictureImportRGB(&picture, rgb, 3 * (int)s->width) && l->WebPEncode(&config, &picture);
    pith_free(ctx, rgb);
    l->WebPPictureFree(&picture);
    return ok ? PITH_OK : pith_fail(ctx, PITH_E_INTERNAL, "libwebp: error %d for a sheet of %zu by %zu pixels", (int)picture.error_code, s->width, s->height);
}

pith_status pith_sheets_webp(pith_ctx *ctx, const pith_sheets *sheets, bool *there, uint64_t *len)
{
    library l;
    if (!(*there = pith_library_open(ctx, "sheets as WebP", LIBRARY, "libwebp7", names, &l) == PITH_OK)) return PITH_OK;
    pith_status status = each_sheet(ctx, sheets, webp_sheet, &l, len);
    pith_library_close(&l);
    return status;
}
