/* A run's figures as files and as text. */
#include <png.h>
#include <unistd.h>

#include "files.h"
#include "task.h"
#include "train/curves.h"

static pith_train_history made(pith_train_point *points, size_t n)
{
    pith_train_history h = {.n_roles = 1, .n_terms = 1, .n_figures = 1, .n_points = n, .points = points, .role = {"loss"}, .term = {"r,\"<&"}, .figure = {"acc"}};
    for (size_t i = 0; i < n; i++) {
        double step = (double)(10 * (i + 1));
        points[i] = (pith_train_point){.step = 10 * (i + 1), .seconds = step / 8, .rate = 1e-3 * (1 - (double)i / (double)n), .norm = 1 + 1 / step,
                                       .loss = {5 * exp(-step / 100) + 0.01}, .term = {0.5}, .figure = {i % 3 == 2 ? 1 - exp(-step / 200) : (double)NAN}};
    }
    return h;
}

static char *read_and_remove(const char *stem, const char *ending, size_t *len)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s", stem, ending);
    char *text = test_read_file(path, len);
    unlink(path);
    return text;
}

static void test_files(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    char folder[] = "/tmp/pith-curves-XXXXXX", stem[64];
    assert_non_null(mkdtemp(folder));
    snprintf(stem, sizeof stem, "%s/run", folder);
    pith_train_point points[60];
    for (size_t n = 0; n <= 60; n += n < 2 ? 1 : 29) {
        pith_train_history h = made(points, n);
        assert_ok(ctx, pith_curves_check(ctx, stem));
        assert_ok(ctx, pith_curves_write(ctx, &h, stem));
        size_t len, lines = 0;
        char *csv = read_and_remove(stem, ".csv", &len);
        static const char head[] = "step,seconds,loss,\"r,\"\"<&\",acc,rate,gradient_norm\n";
        assert_int_equal(strncmp(csv, head, sizeof head - 1), 0);
        for (size_t i = 0; i < len; i++) lines += csv[i] == '\n';
        assert_int_equal(lines, n + 1);
        if (n) assert_non_null(strstr(csv, "\n10,1.250,4.53418709,0.5,,0.001,1.1\n"));
        free(csv);
        char *svg = read_and_remove(stem, ".svg", &len);
        assert_true(strncmp(svg, "<svg ", 5) == 0 && strcmp(svg + len - 7, "</svg>\n") == 0);
        if (n) assert_non_null(strstr(svg, ">r,\"&#60;&#38;</text>"));
        assert_null(strstr(svg, "nan"));
        assert_null(strstr(svg, "inf"));
        free(svg);
        char *png = read_and_remove(stem, ".png", &len);
        png_image image = {.version = PNG_IMAGE_VERSION};
        assert_true(png_image_begin_read_from_memory(&image, png, len));
        image.format = PNG_FORMAT_RGB;
        assert_true(image.width == 800 && image.height == 4 * 240); /* losses, acc, rate, norm */
        uint8_t *pixels = malloc(PNG_IMAGE_SIZE(image));
        assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
        size_t coloured = 0; /* in the first line's blue */
        for (size_t i = 0; i < 800 * 240; i++) coloured += memcmp(pixels + 3 * i, "\x00\x72\xb2", 3) == 0;
        assert_true(n ? coloured > 4 : coloured == 0);
        free(pixels);
        free(png);
    }
    snprintf(stem, sizeof stem, "%s/no/run", folder);
    assert_int_equal(pith_curves_check(ctx, stem), PITH_E_IO);
    rmdir(folder);
    pith_ctx_free(ctx);
}

/* The dots of a line that falls: full at the top left, at the bottom right. */
static void test_text(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_train_point points[60];
    pith_train_history h = made(points, 60);
    char *text = pith_curves_text(ctx, &h, 0, 40, 6);
    assert_non_null(text);
    size_t lines = 0;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    assert_int_equal(lines, 6);
    assert_int_equal(strncmp(text, "loss 0.022394, logarithmic\n", 27), 0);
    const char *first = strchr(text, '\n') + 1, *last = first;
    for (const char *p = first; p[0] && p[1]; p++)
        if (*p == '\n') last = p + 1;
    assert_int_equal(strncmp(first, "    4.534 ", 10), 0);
    assert_int_equal(strncmp(last, "  0.02239 ", 10), 0);
    assert_true(strncmp(first + 10, "\xe2\xa0\x80", 3) != 0);                         /* not empty: the beginning is high */
    assert_int_equal(strncmp(first + 10 + 3 * 29, "\xe2\xa0\x80", 3), 0);             /* empty: the end is low */
    assert_int_equal(strncmp(last + 10, "\xe2\xa0\x80", 3), 0);
    assert_true(strncmp(last + 10 + 3 * 29, "\xe2\xa0\x80", 3) != 0);
    pith_free(ctx, text);
    h.n_points = 0;
    text = pith_curves_text(ctx, &h, 0, 24, 3);
    assert_non_null(text);
    pith_free(ctx, text);
    assert_null(pith_curves_text(ctx, &h, 0, 23, 3));
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
