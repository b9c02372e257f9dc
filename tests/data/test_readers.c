/* Readers: what they make of good files, and that no damaged one passes or harms. */
#include "files.h"

#include <archive.h>
#include <archive_entry.h>
#include <jpeglib.h>
#include <png.h>

#include "data/readers.h"
#include "says.h"

/* ---- arrays ----------------------------------------------------------------------------------- */

static void test_idx(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_values v;
    const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 250};
    assert_ok(ctx, pith_idx_read(ctx, "file", images, sizeof images, &v));
    assert_int_equal(v.type, PITH_FIELD_U8);
    assert_int_equal(v.n_dims, 3);
    assert_int_equal(v.dims[0] * 100 + v.dims[1] * 10 + v.dims[2], 212);
    assert_int_equal(v.count, 4);
    assert_memory_equal(v.data, ((uint8_t[]){1, 2, 3, 250}), 4);
    pith_values_free(ctx, &v);
    const uint8_t shorts[] = {0, 0, 0x0B, 1, 0, 0, 0, 2, 0x01, 0x02, 0xFF, 0xFE};
    assert_ok(ctx, pith_idx_read(ctx, "file", shorts, sizeof shorts, &v));
    assert_int_equal(v.type, PITH_FIELD_I32);
    assert_int_equal(((int32_t *)v.data)[0], 258);
    assert_int_equal(((int32_t *)v.data)[1], -2);
    pith_values_free(ctx, &v);
    const uint8_t floats[] = {0, 0, 0x0D, 1, 0, 0, 0, 1, 0x3F, 0xC0, 0, 0}, doubles[] = {0, 0, 0x0E, 0, 0xBF, 0xE0, 0, 0, 0, 0, 0, 0};
    assert_ok(ctx, pith_idx_read(ctx, "file", floats, sizeof floats, &v));
    assert_true(*(float *)v.data == 1.5f);
    pith_values_free(ctx, &v);
    assert_ok(ctx, pith_idx_read(ctx, "file", doubles, sizeof doubles, &v));
    assert_true(v.count == 1 && *(float *)v.data == -0.5f);
    pith_values_free(ctx, &v);

    for (size_t len = 0; len < sizeof images; len++) {
        uint8_t *cut = test_exact_copy(images, len);
        assert_int_not_equal(pith_idx_read(ctx, "file", cut, len, &v), PITH_OK);
        assert_says(ctx, "");
        free(cut);
    }
    const uint8_t other[] = {0, 0, 7, 1, 0, 0, 0, 0}, deep[] = {0, 0, 8, 9}, magic[] = {1, 0, 8, 1, 0, 0, 0, 0};
    const uint8_t huge[] = {0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    assert_int_equal(pith_idx_read(ctx, "file", other, sizeof other, &v), PITH_E_UNSUPPORTED);
    assert_says(ctx, "offset 2");
    assert_int_equal(pith_idx_read(ctx, "file", deep, sizeof deep, &v), PITH_E_UNSUPPORTED);
    assert_says(ctx, "offset 3");
    assert_int_equal(pith_idx_read(ctx, "file", magic, sizeof magic, &v), PITH_E_FORMAT);
    assert_int_equal(pith_idx_read(ctx, "file", huge, sizeof huge, &v), PITH_E_CORRUPT);
    assert_says(ctx, "offset 16");
    pith_ctx_free(ctx);
}

/* An NPY file of a dictionary and values. */
static size_t make_npy(uint8_t *out, int version, const char *dictionary, const void *values, size_t len)
{
    size_t n = strlen(dictionary), start = version == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)version;
    out[7] = 0;
    if (version == 1) pith_put16(out + 8, (uint16_t)n);
    else pith_put32(out + 8, (uint32_t)n);
    memcpy(out + start, dictionary, n);
    memcpy(out + start + n, values, len);
    return start + n + len;
}

static void test_npy(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_values v;
    uint8_t file[512];
    const float floats[6] = {1, -2, 3.5f, 0, 5, 6};
    size_t len = make_npy(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", floats, sizeof floats);
    assert_ok(ctx, pith_npy_read(ctx, "file", file, len, &v));
    assert_int_equal(v.n_dims * 100 + (int)v.dims[0] * 10 + (int)v.dims[1], 223);
    assert_memory_equal(v.data, floats, sizeof floats);
    pith_values_free(ctx, &v);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = test_exact_copy(file, cut);
        assert_int_not_equal(pith_npy_read(ctx, "file", copy, cut, &v), PITH_OK);
        assert_says(ctx, "");
        free(copy);
    }
    const struct { const char *type; uint8_t bytes[8]; size_t n; pith_field_type result; double value; } kinds[] = {
        {"|b1", {1}, 1, PITH_FIELD_U8, 1}, {"|u1", {200}, 1, PITH_FIELD_U8, 200}, {"|i1", {0xFE}, 1, PITH_FIELD_I32, -2},
        {"<u2", {1, 1}, 2, PITH_FIELD_I32, 257}, {"<i2", {0xFF, 0xFF}, 2, PITH_FIELD_I32, -1}, {"<u4", {2, 0, 0, 0}, 4, PITH_FIELD_I32, 2},
        {"<i4", {0xFD, 0xFF, 0xFF, 0xFF}, 4, PITH_FIELD_I32, -3}, {"<u8", {9}, 8, PITH_FIELD_I32, 9},
        {"<i8", {0xF0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 8, PITH_FIELD_I32, -16}, {"<f2", {0, 0x3E}, 2, PITH_FIELD_F32, 1.5},
        {"<f8", {0, 0, 0, 0, 0, 0, 0xE0, 0xBF}, 8, PITH_FIELD_F32, -0.5},
    };
    for (size_t i = 0; i < PITH_COUNT(kinds); i++) {
        char dictionary[128];
        snprintf(dictionary, sizeof dictionary, "{'descr': '%s', 'fortran_order': False, 'shape': (1,), }", kinds[i].type);
        len = make_npy(file, 2 + (int)(i & 1), dictionary, kinds[i].bytes, kinds[i].n);
        assert_ok(ctx, pith_npy_read(ctx, "file", file, len, &v));
        assert_int_equal(v.type, kinds[i].result);
        double got = v.type == PITH_FIELD_U8 ? *(uint8_t *)v.data : v.type == PITH_FIELD_I32 ? *(int32_t *)v.data : (double)*(float *)v.data;
        assert_true(got == kinds[i].value);
        pith_values_free(ctx, &v);
    }
    const struct { const char *dictionary; pith_status status; const char *says; } bad[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", PITH_E_UNSUPPORTED, "descr"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", PITH_E_UNSUPPORTED, "C order"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", PITH_E_CORRUPT, "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", PITH_E_CORRUPT, "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", PITH_E_CORRUPT, "values"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", PITH_E_CORRUPT, "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1", PITH_E_CORRUPT, "shape"},
        {"{'fortran_order': False, 'shape': (1,), }", PITH_E_UNSUPPORTED, "descr"},
        {"{'descr': '<f4'", PITH_E_UNSUPPORTED, "C order"},
        {"{'descr': '", PITH_E_UNSUPPORTED, "descr"},
    };
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        len = make_npy(file, 1, bad[i].dictionary, floats, 4);
        uint8_t *copy = test_exact_copy(file, len);
        assert_int_equal(pith_npy_read(ctx, "file", copy, len, &v), bad[i].status);
        assert_says(ctx, bad[i].says);
        free(copy);
    }
    const int64_t large = (int64_t)1 << 40;
    len = make_npy(file, 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", &large, 8);
    assert_int_equal(pith_npy_read(ctx, "file", file, len, &v), PITH_E_UNSUPPORTED);
    assert_says(ctx, "32 bits");
    file[6] = 4;
    assert_int_equal(pith_npy_read(ctx, "file", file, len, &v), PITH_E_UNSUPPORTED);
    pith_ctx_free(ctx);
}

static void test_cifar(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { RECORD = 3074, N = 2 };
    uint8_t *file = malloc(N * RECORD);
    for (size_t i = 0; i < N * RECORD; i++) file[i] = (uint8_t)(i * 7);
    file[1] = 99, file[RECORD + 1] = 3;
    pith_values labels, images;
    assert_ok(ctx, pith_cifar_read(ctx, "file", file, N * RECORD, 2, 100, &labels, &images));
    assert_int_equal(labels.count, 4);
    assert_int_equal(((uint8_t *)labels.data)[3], 3);
    assert_int_equal(images.dims[0], 2);
    assert_memory_equal((uint8_t *)images.data + 3072, file + RECORD + 2, 3072);
    pith_values_free(ctx, &labels);
    pith_values_free(ctx, &images);
    assert_int_equal(pith_cifar_read(ctx, "file", file, N * RECORD - 1, 2, 100, &labels, &images), PITH_E_CORRUPT);
    assert_int_equal(pith_cifar_read(ctx, "file", file, 0, 2, 100, &labels, &images), PITH_E_CORRUPT);
    file[RECORD + 1] = 100;
    assert_int_equal(pith_cifar_read(ctx, "file", file, N * RECORD, 2, 100, &labels, &images), PITH_E_CORRUPT);
    assert_says(ctx, "offset 3075");
    assert_null(labels.data);
    free(file);
    pith_ctx_free(ctx);
}

/* ---- images ----------------------------------------------------------------------------------- */

enum { WIDTH = 7, HEIGHT = 5 };

static void make_pixels(uint8_t *rgb)
{
    for (int i = 0; i < WIDTH * HEIGHT * 3; i++) rgb[i] = (uint8_t)(i * 2);
}

static uint8_t *make_png(const uint8_t *pixels, uint32_t format, size_t *len)
{
    png_image png = {.version = PNG_IMAGE_VERSION, .width = WIDTH, .height = HEIGHT, .format = format};
    png_alloc_size_t size = 0;
    assert_true(png_image_write_to_memory(&png, NULL, &size, 0, pixels, 0, NULL));
    uint8_t *file = malloc(size);
    assert_true(png_image_write_to_memory(&png, file, &size, 0, pixels, 0, NULL));
    *len = size;
    return file;
}

static uint8_t *make_jpeg(const uint8_t *rgb, size_t *len)
{
    struct jpeg_compress_struct c = {0};
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &size);
    c.image_width = WIDTH, c.image_height = HEIGHT, c.input_components = 3, c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 100, TRUE);
    for (int i = 0; i < 3; i++) c.comp_info[i].h_samp_factor = c.comp_info[i].v_samp_factor = 1;
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < HEIGHT; y++) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + y * WIDTH * 3);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    *len = size;
    return out;
}

static void test_images(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint8_t rgb[WIDTH * HEIGHT * 3];
    make_pixels(rgb);
    for (int kind = 0; kind < 2; kind++) {
        size_t len;
        uint8_t *file = kind ? make_jpeg(rgb, &len) : make_png(rgb, PNG_FORMAT_RGB, &len);
        pith_image image;
        assert_ok(ctx, pith_image_read(ctx, "file", file, len, &image));
        assert_true(image.width == WIDTH && image.height == HEIGHT);
        for (int i = 0; i < WIDTH * HEIGHT; i++)
            for (int ch = 0; ch < 3; ch++) assert_true(abs(image.data[ch * WIDTH * HEIGHT + i] - rgb[3 * i + ch]) <= 6 * kind);
        pith_image_free(ctx, &image);
        for (size_t cut = 0; cut + 13 < len; cut++) { /* a PNG's last chunk has no data, a JPEG's end mark two bytes */
            uint8_t *copy = test_exact_copy(file, cut);
            if (pith_image_read(ctx, "file", copy, cut, &image) == PITH_OK) fail_msg("%zu of %zu bytes are taken for a whole image", cut, len);
            assert_says(ctx, "");
            assert_null(image.data);
            free(copy);
        }
        size_t refused = 0;
        for (size_t at = 0; at < len; at++) { /* any byte may change: an image, or an error, and no harm */
            file[at] ^= 0x55;
            if (pith_image_read(ctx, "file", file, len, &image) != PITH_OK) refused++;
            pith_image_free(ctx, &image);
            file[at] ^= 0x55;
        }
        assert_true(refused > len / 4);
        free(file);
    }
    size_t len;
    uint8_t grey[WIDTH * HEIGHT], *file;
    for (int i = 0; i < WIDTH * HEIGHT; i++) grey[i] = (uint8_t)(255 - i);
    file = make_png(grey, PNG_FORMAT_GRAY, &len);
    pith_image image;
    assert_ok(ctx, pith_image_read(ctx, "file", file, len, &image));
    for (int i = 0; i < WIDTH * HEIGHT * 3; i++) assert_int_equal(image.data[i], grey[i % (WIDTH * HEIGHT)]);
    pith_image_free(ctx, &image);
    pith_put32(file + 16, 0xFFFFFF7F); /* the header's width, big-endian: 2^31 - 1, with its checksum wrong too */
    assert_int_not_equal(pith_image_read(ctx, "file", file, len, &image), PITH_OK);
    free(file);
    assert_int_equal(pith_image_read(ctx, "file", (const uint8_t *)"GIF89a", 6, &image), PITH_E_FORMAT);
    pith_ctx_free(ctx);
}

static void test_square(void **state)
{
    (void)state;
    uint8_t pixels[3 * 4 * 6], dst[3 * 2 * 2];
    for (int i = 0; i < 3 * 4 * 6; i++) pixels[i] = (uint8_t)(i % 6 == 0 || i % 6 == 5 ? 200 : i % 24 / 6 * 10); /* the outer columns are cut off */
    pith_image_square(&(pith_image){.data = pixels, .width = 6, .height = 4}, 2, dst);
    for (int ch = 0; ch < 3; ch++) {
        assert_int_equal(dst[ch * 4], 5);
        assert_int_equal(dst[ch * 4 + 1], 5);
        assert_int_equal(dst[ch * 4 + 3], 25);
    }
    uint8_t one[3 * 9];
    uint8_t single[3] = {7, 8, 9};
    pith_image_square(&(pith_image){.data = single, .width = 1, .height = 1}, 3, one);
    for (int i = 0; i < 27; i++) assert_int_equal(one[i], 7 + i / 9);
}

/* ---- text ------------------------------------------------------------------------------------- */

static void test_csv(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const char text[] = "a,b,c\r\n1,\"two, \"\"quoted\"\"\nlines\",3\n\n,,\n\"\",x\"y,12";
    static const char *const expected[][3] = {{"a", "b", "c"}, {"1", "two, \"quoted\"\nlines", "3"}, {"", "", ""}, {"", "x\"y", "12"}};
    static const size_t lines[] = {1, 3, 5, 6};
    pith_csv csv;
    pith_csv_begin(ctx, "file", text, sizeof text - 1, ',', &csv);
    const char *const *cells;
    size_t n;
    for (size_t row = 0; row < PITH_COUNT(expected); row++) {
        assert_ok(ctx, pith_csv_next(&csv, &cells, &n));
        assert_non_null(cells);
        assert_int_equal(n, 3);
        assert_int_equal(csv.line, lines[row]);
        for (int k = 0; k < 3; k++) assert_string_equal(cells[k], expected[row][k]);
    }
    long v;
    assert_ok(ctx, pith_csv_int(&csv, cells, 2, 0, 12, &v));
    assert_int_equal(v, 12);
    assert_int_equal(pith_csv_int(&csv, cells, 2, 0, 11, &v), PITH_E_CORRUPT);
    assert_says(ctx, "line 6, column 3");
    assert_int_equal(pith_csv_int(&csv, cells, 1, 0, 11, &v), PITH_E_CORRUPT);
    assert_int_equal(pith_csv_int(&csv, cells, 0, 0, 11, &v), PITH_E_CORRUPT);
    assert_ok(ctx, pith_csv_next(&csv, &cells, &n));
    assert_null(cells);
    pith_csv_end(&csv);

    pith_csv_begin(ctx, "file", "q\"\t\"x\ty\nz\t1\t2\n", 15, '\t', &csv); /* TSV has no quotes */
    assert_ok(ctx, pith_csv_next(&csv, &cells, &n));
    assert_string_equal(cells[1], "\"x");
    assert_ok(ctx, pith_csv_next(&csv, &cells, &n));
    assert_int_equal(n, 3);
    pith_csv_end(&csv);

    static const struct { const char *text; size_t len; const char *says; } bad[] = {{"a,b\n1\n", 6, "line 2: 1 cells"}, {"a\n\"b\nc\n", 7, "line 2: a quote"}, {"a\nb\0c", 5, "line 2: a NUL"}};
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        pith_csv_begin(ctx, "file", bad[i].text, bad[i].len, ',', &csv);
        assert_ok(ctx, pith_csv_next(&csv, &cells, &n));
        assert_int_equal(pith_csv_next(&csv, &cells, &n), PITH_E_CORRUPT);
        assert_says(ctx, bad[i].says);
        pith_csv_end(&csv);
    }
    pith_ctx_free(ctx);
}

static void test_jsonl(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const char text[] = "{\"a\": 1}\r\n  \n[2]\nnope\n";
    pith_jsonl j = {.ctx = ctx, .what = "file", .text = text, .len = sizeof text - 1};
    cJSON *value;
    assert_ok(ctx, pith_jsonl_next(&j, &value));
    assert_int_equal(cJSON_GetObjectItem(value, "a")->valueint, 1);
    cJSON_Delete(value);
    assert_ok(ctx, pith_jsonl_next(&j, &value));
    assert_true(cJSON_IsArray(value));
    assert_int_equal(j.line, 3);
    cJSON_Delete(value);
    assert_int_equal(pith_jsonl_next(&j, &value), PITH_E_CORRUPT);
    assert_says(ctx, "line 4");
    assert_null(value);
    assert_ok(ctx, pith_jsonl_next(&j, &value));
    assert_null(value);
    pith_ctx_free(ctx);
}

static void test_clean(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const struct { const char *text, *clean; } cases[] = {
        {"  Two   lines\n\tof one.\r\n\n\n  Next.\n", "Two lines of one.\n\nNext.\n\n"},
        {"+----+\n| cell |\n+----+\nafter", "| cell |\n\nafter\n\n"},
        {"caf\xc3\xa9 \xff\xc3 \xed\xa0\x80 na\xf0\x9f\x98\x80\x01ve \xc0\x80", "caf\xc3\xa9 na\xf0\x9f\x98\x80ve\n\n"},
        {"a\n+--|\x9a+\nb", "a\n\nb\n\n"}, {"\n\n 12 34 \n", ""}, {"", ""}, {"a", "a\n\n"},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_text_buffer b = {.ctx = ctx};
        char *copy = test_exact_copy(cases[i].text, strlen(cases[i].text));
        assert_ok(ctx, pith_text_clean(&b, copy, strlen(cases[i].text)));
        assert_int_equal(b.len, strlen(cases[i].clean));
        assert_memory_equal(b.text ? b.text : "", cases[i].clean, b.len);
        free(copy);
        pith_free(ctx, b.text);
    }
    pith_ctx_free(ctx);
}

/* ---- archives --------------------------------------------------------------------------------- */

static size_t make_archive(uint8_t *out, size_t cap, bool zip, const char *const *names, const char *const *contents)
{
    struct archive *a = archive_write_new();
    size_t used;
    if (zip) archive_write_set_format_zip(a);
    else archive_write_set_format_ustar(a), archive_write_add_filter_gzip(a);
    archive_write_open_memory(a, out, cap, &used);
    for (; *names; names++, contents++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, *names);
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_perm(e, 0644);
        archive_entry_set_size(e, (la_int64_t)strlen(*contents));
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        archive_write_data(a, *contents, strlen(*contents));
        archive_entry_free(e);
    }
    archive_write_close(a);
    archive_write_free(a);
    return used;
}

typedef struct seen_files {
    char text[256];
    bool refuse;
} seen_files;

static bool not_b(void *user, const char *path) { (void)user; return strcmp(path, "b") != 0; }

static pith_status note(void *user, const char *path, const uint8_t *bytes, size_t len)
{
    seen_files *s = user;
    if (s->refuse) return PITH_E_CANCELLED;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s=%.*s;", path, (int)len, (const char *)bytes);
    return PITH_OK;
}

static void test_archives(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const char *const names[] = {"./a", "b", "c/d", NULL}, *const contents[] = {"first", "second", ""};
    uint8_t file[20000];
    for (int zip = 0; zip < 2; zip++) {
        size_t len = make_archive(file, sizeof file, zip, names, contents);
        seen_files seen = {0};
        assert_ok(ctx, pith_archive_each(ctx, "file", file, len, &(pith_archive_visitor){.wanted = not_b, .file = note, .user = &seen}));
        assert_string_equal(seen.text, "a=first;c/d=;");
        seen.refuse = true;
        assert_int_equal(pith_archive_each(ctx, "file", file, len, &(pith_archive_visitor){.file = note, .user = &seen}), PITH_E_CANCELLED);
        seen = (seen_files){0};
        assert_int_not_equal(pith_archive_each(ctx, "file", file, len / 2, &(pith_archive_visitor){.file = note, .user = &seen}), PITH_OK);
        assert_says(ctx, "offset");
    }
    static const char *const one[] = {"x", NULL}, *const two[] = {"some content, some content"};
    size_t len = make_archive(file, sizeof file, false, one, two), n;
    uint8_t *out;
    assert_ok(ctx, pith_gunzip(ctx, "file", file, len, 1 << 20, &out, &n)); /* a gzipped tar is gzip too */
    assert_true(n >= 1024 && memcmp(out, "x", 2) == 0);
    pith_free(ctx, out);
    assert_int_equal(pith_gunzip(ctx, "file", file, len, 100, &out, &n), PITH_E_LIMIT);
    assert_int_equal(pith_gunzip(ctx, "file", file, len / 2, 1 << 20, &out, &n), PITH_E_CORRUPT);
    assert_int_equal(pith_gunzip(ctx, "file", (const uint8_t *)"plain", 5, 100, &out, &n), PITH_E_FORMAT);
    pith_ctx_free(ctx);
}

/* ---- memory ----------------------------------------------------------------------------------- */

typedef struct inputs {
    uint8_t *png, *jpeg, *tar;
    size_t png_len, jpeg_len, tar_len;
} inputs;

/* Every reader once, stopped by the failure. */
static pith_status read_each(pith_ctx *ctx, const void *user)
{
    const inputs *in = user;
    static const uint8_t idx[] = {0, 0, 8, 1, 0, 0, 0, 1, 5};
    static const uint8_t record[3073] = {1};
    pith_values a = {0}, b = {0};
    pith_image image = {0};
    pith_text_buffer text = {.ctx = ctx};
    pith_csv csv;
    const char *const *cells;
    size_t n;
    seen_files seen = {0};
    pith_csv_begin(ctx, "file", "a,b\n", 4, ',', &csv);
    pith_status status = pith_idx_read(ctx, "file", idx, sizeof idx, &a);
    pith_values_free(ctx, &a);
    if (status == PITH_OK) status = pith_cifar_read(ctx, "file", record, sizeof record, 1, 10, &b, &a);
    pith_values_free(ctx, &a);
    pith_values_free(ctx, &b);
    for (int k = 0; k < 2 && status == PITH_OK; k++) {
        status = pith_image_read(ctx, "file", k ? in->jpeg : in->png, k ? in->jpeg_len : in->png_len, &image);
        pith_image_free(ctx, &image);
    }
    if (status == PITH_OK) status = pith_csv_next(&csv, &cells, &n);
    pith_csv_end(&csv);
    if (status == PITH_OK) status = pith_text_clean(&text, "word", 4);
    pith_free(ctx, text.text);
    if (status == PITH_OK) status = pith_archive_each(ctx, "file", in->tar, in->tar_len, &(pith_archive_visitor){.file = note, .user = &seen});
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    uint8_t rgb[WIDTH * HEIGHT * 3], tar[20000];
    make_pixels(rgb);
    static const char *const names[] = {"a", NULL}, *const contents[] = {"first"};
    inputs in = {.tar = tar, .tar_len = make_archive(tar, sizeof tar, false, names, contents)};
    in.png = make_png(rgb, PNG_FORMAT_RGB, &in.png_len);
    in.jpeg = make_jpeg(rgb, &in.jpeg_len);
    assert_true(test_every_fault(read_each, &in) >= 10);
    free(in.png);
    free(in.jpeg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx), cmocka_unit_test(test_npy), cmocka_unit_test(test_cifar), cmocka_unit_test(test_images), cmocka_unit_test(test_square),
        cmocka_unit_test(test_csv), cmocka_unit_test(test_jsonl), cmocka_unit_test(test_clean), cmocka_unit_test(test_archives), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
