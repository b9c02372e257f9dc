/* PNG by libpng, JPEG by libjpeg-turbo. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it and does not include it */

#include <jpeglib.h>
#include <png.h>

#include "data/readers.h"

void pith_image_free(pith_ctx *ctx, pith_image *image)
{
    pith_free(ctx, image->data);
    *image = (pith_image){0};
}

/* Room for the result and for a row-interleaved copy. */
static pith_status make_room(pith_ctx *ctx, const char *what, size_t width, size_t height, pith_image *image, uint8_t **interleaved)
{
    size_t n;
    if (!width || !height || !pith_mul(width, height, &n) || n > PITH_IMAGE_MAX_PIXELS)
        return pith_fail(ctx, PITH_E_LIMIT, "%s: %zu x %zu pixels; 1 to %zu in all can be read", what, width, height, PITH_IMAGE_MAX_PIXELS);
    *image = (pith_image){.data = pith_alloc(ctx, 3 * n), .width = width, .height = height};
    *interleaved = image->data ? pith_alloc(ctx, 3 * n) : NULL;
    if (*interleaved) return PITH_OK;
    pith_image_free(ctx, image);
    return PITH_E_MEMORY;
}

static void to_planes(const uint8_t *rgb, pith_image *image)
{
    size_t n = image->width * image->height;
    for (size_t i = 0; i < n; i++)
        for (size_t ch = 0; ch < 3; ch++) image->data[ch * n + i] = rgb[3 * i + ch];
}

/* ---- PNG -------------------------------------------------------------------------------------- */

static pith_status read_png(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_image *image)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    uint8_t *rgb = NULL;
    if (!png_image_begin_read_from_memory(&png, bytes, len)) {
        png_image_free(&png);
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: PNG header: %s", what, png.message);
    }
    pith_status status = make_room(ctx, what, png.width, png.height, image, &rgb);
    if (status == PITH_OK) {
        png.format = PNG_FORMAT_RGB;
        png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB; /* 16-bit files without a gamma are sRGB too, as viewers take them */
        png_color black = {0};
        if (!png_image_finish_read(&png, &black, rgb, 0, NULL)) status = pith_fail(ctx, PITH_E_CORRUPT, "%s: PNG data: %s", what, png.message);
        else to_planes(rgb, image);
        if (status == PITH_OK && png.warning_or_error) pith_log(ctx, PITH_LOG_INFO, "%s: %s", what, png.message); /* of chunks beside the pixels */
    }
    png_image_free(&png);
    pith_free(ctx, rgb);
    if (status != PITH_OK) pith_image_free(ctx, image);
    return status;
}

/* ---- JPEG ------------------------------------------------------------------------------------- */

typedef struct jpeg_state {
    struct jpeg_error_mgr errors; /* first: libjpeg hands this back */
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
} jpeg_state;

static void jpeg_fatal(j_common_ptr cinfo)
{
    jpeg_state *s = (jpeg_state *)cinfo->err;
    s->errors.format_message(cinfo, s->message);
    longjmp(s->jump, 1);
}

/* Warnings (level -1) are damage that libjpeg would patch over. */
static void jpeg_message(j_common_ptr cinfo, int level)
{
    if (level < 0) jpeg_fatal(cinfo);
}

/* The part between setjmp and the end: no local that changes is read after a jump.  false: s->message says why. */
static bool decode_jpeg(struct jpeg_decompress_struct *cinfo, jpeg_state *s, uint8_t *rgb)
{
    if (setjmp(s->jump)) return false;
    cinfo->out_color_space = JCS_RGB;
    jpeg_start_decompress(cinfo);
    while (cinfo->output_scanline < cinfo->output_height) {
        JSAMPROW row = rgb + (size_t)cinfo->output_scanline * cinfo->output_width * 3;
        jpeg_read_scanlines(cinfo, &row, 1);
    }
    jpeg_finish_decompress(cinfo);
    return true;
}

static bool begin_jpeg(struct jpeg_decompress_struct *cinfo, jpeg_state *s, const uint8_t *bytes, size_t len)
{
    if (setjmp(s->jump)) return false;
    jpeg_create_decompress(cinfo);
    jpeg_mem_src(cinfo, bytes, len);
    jpeg_read_header(cinfo, TRUE);
    return true;
}

static pith_status read_jpeg(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_image *image)
{
    struct jpeg_decompress_struct cinfo = {0};
    jpeg_state s;
    uint8_t *rgb = NULL;
    cinfo.err = jpeg_std_error(&s.errors);
    s.errors.error_exit = jpeg_fatal;
    s.errors.emit_message = jpeg_message;
    pith_status status = PITH_OK;
    bool good = begin_jpeg(&cinfo, &s, bytes, len);
    if (good) status = make_room(ctx, what, cinfo.image_width, cinfo.image_height, image, &rgb);
    if (good && status == PITH_OK) good = decode_jpeg(&cinfo, &s, rgb);
    if (!good) {
        size_t left = cinfo.src ? cinfo.src->bytes_in_buffer : len;
        status = pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: JPEG: %s", what, len - PITH_MIN(left, len), s.message);
    } else if (status == PITH_OK) {
        to_planes(rgb, image);
    }
    jpeg_destroy_decompress(&cinfo);
    pith_free(ctx, rgb);
    if (status != PITH_OK) pith_image_free(ctx, image);
    return status;
}

pith_status pith_image_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_image *image)
{
    *image = (pith_image){0};
    if (len >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) return read_png(ctx, what, bytes, len, image);
    if (len >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) return read_jpeg(ctx, what, bytes, len, image);
    return pith_fail(ctx, PITH_E_FORMAT, "%s: offset 0: neither PNG nor JPEG", what);
}

/* ---- another size ----------------------------------------------------------------------------- */

void pith_image_square(const pith_image *image, size_t size, uint8_t *dst)
{
    size_t side = PITH_MIN(image->width, image->height), left = (image->width - side) / 2, top = (image->height - side) / 2;
    double step = (double)side / (double)size;
    for (size_t i = 0; i < 3 * size * size; i++) {
        size_t y = i / size % size, x = i % size;
        const uint8_t *plane = image->data + i / (size * size) * image->width * image->height;
        double y0 = (double)y * step, y1 = y0 + step, x0 = (double)x * step, x1 = x0 + step, sum = 0, area = 0;
        for (size_t r = (size_t)y0; r < side && (double)r < y1; r++)
            for (size_t c = (size_t)x0; c < side && (double)c < x1; c++) {
                double w = (fmin(y1, (double)r + 1) - fmax(y0, (double)r)) * (fmin(x1, (double)c + 1) - fmax(x0, (double)c));
                sum += w * plane[(top + r) * image->width + left + c];
                area += w;
            }
        dst[i] = (uint8_t)(sum / area + 0.5);
    }
}
