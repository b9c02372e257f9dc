/* Video through FFmpeg, against the Y4M it was made from by the ffmpeg program.  Skipped where that or its libraries are missing. */
#include "files.h"

#include <unistd.h>

#include "data/media.h"

enum { W = 50, H = 38, FRAMES = 20, PIXELS = W * H, SKIP = 77 };

/* A disc that moves over a slope of colours. */
static void picture(uint8_t *rgb, int t)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int dx = x - 10 - 2 * t, dy = y - 20, in = dx * dx + dy * dy < 64;
            uint8_t *p = rgb + y * W + x;
            p[0] = (uint8_t)(in ? 230 : 40 + 3 * x);
            p[PIXELS] = (uint8_t)(in ? 60 : 30 + 4 * y);
            p[2 * PIXELS] = (uint8_t)(in ? 90 : 200 - 2 * x + t);
        }
}

/* In `film.y4m`, and from it in another form; false: this ffmpeg cannot. */
static bool encode(const char *options, const char *name)
{
    char command[512];
    snprintf(command, sizeof command, "ffmpeg -nostdin -v error -y -i %s/film.y4m -threads 1 %s %s/%s 2> %s/log", test_folder, options, test_folder, name, test_folder);
    return system(command) == 0;
}

static void write_film(pith_ctx *ctx, pith_y4m_sampling sampling)
{
    static uint8_t rgb[3 * PIXELS];
    pith_y4m_writer w;
    assert_ok(ctx, pith_y4m_write_begin(ctx, test_path("film.y4m"), &(pith_y4m_format){.width = W, .height = H, .rate_num = 25, .rate_den = 1, .sampling = sampling}, &w));
    for (int t = 0; t < FRAMES; t++) {
        picture(rgb, t);
        assert_ok(ctx, pith_y4m_write(&w, rgb));
    }
    assert_ok(ctx, pith_y4m_write_end(&w, true));
}

/* Read both to the end: the mean and the largest difference. */
static void compare(pith_ctx *ctx, const char *name, double *mean, int *worst)
{
    static uint8_t a[3 * PIXELS], b[3 * PIXELS];
    pith_video *film, *other;
    bool got = true, got_other;
    assert_ok(ctx, pith_video_open(ctx, test_path("film.y4m"), &film));
    assert_ok(ctx, pith_video_open(ctx, test_path(name), &other));
    assert_true(pith_video_about(other)->width == W && pith_video_about(other)->height == H && pith_video_about(other)->rate_num == 25 * pith_video_about(other)->rate_den);
    *mean = *worst = 0;
    for (int n = 0; got; n++) {
        assert_ok(ctx, pith_video_next(film, a, &got));
        assert_ok(ctx, pith_video_next(other, b, &got_other));
        assert_true(got == got_other && n == FRAMES - (got ? FRAMES - n : 0));
        for (size_t i = 0; i < sizeof a && got; i++) {
            int d = abs(a[i] - b[i]);
            *mean += d / (double)sizeof a / FRAMES;
            *worst = PITH_MAX(*worst, d);
        }
    }
    pith_video_close(film);
    pith_video_close(other);
}

static void test_frames(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const struct { const char *options, *name; pith_y4m_sampling sampling; double mean; int worst; } films[] = {
        {"-c:v ffv1", "444.mkv", PITH_Y4M_444, 0.7, 3},            /* without loss: only the way to RGB differs */
        {"-c:v ffv1", "420.mkv", PITH_Y4M_420, 1.5, 60},           /* and how chroma is interpolated, at the disc's edge */
        {"-c:v ffv1 -pix_fmt bgr0", "rgb.mkv", PITH_Y4M_444, 1, 4},
        {"-c:v mpeg4 -q:v 2", "film.mp4", PITH_Y4M_420, 4, 110},
    };
    for (size_t i = 0; i < PITH_COUNT(films); i++) {
        double mean;
        int worst;
        write_film(ctx, films[i].sampling);
        assert_true(encode(films[i].options, films[i].name));
        compare(ctx, films[i].name, &mean, &worst);
        if (mean > films[i].mean || worst > films[i].worst) fail_msg("%s: off by %.2f, at most %d", films[i].name, mean, worst);
    }
    pith_ctx_free(ctx);
}

/* Read a file to the end or its first error; the number of frames that came. */
static pith_status read_all(pith_ctx *ctx, const char *path, int *n)
{
    static uint8_t rgb[3 * PIXELS];
    pith_video *v;
    bool got = true;
    *n = 0;
    pith_status status = pith_video_open(ctx, path, &v);
    while (status == PITH_OK && got) {
        status = pith_video_next(v, rgb, &got);
        *n += status == PITH_OK && got;
    }
    pith_video_close(v);
    return status;
}

static void hear(void *user, pith_log_level level, const char *line)
{
    *(bool *)user |= level == PITH_LOG_WARN && strstr(line, "is it cut off?");
}

static void test_damage(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    int n;
    write_film(ctx, PITH_Y4M_420);
    assert_true(encode("-c:v libx264 -g 5 -crf 12", "whole.mkv"));
    assert_true(encode("-c:v mpeg4 -q:v 2 -movflags +faststart", "whole.mp4"));
    size_t len;
    uint8_t *bytes = test_read_file(test_path("whole.mkv"), &len);
    int n_refused = 0;
    for (int k = 0; k < 20; k++) { /* a run of bytes of the pictures; what a decoder patches over is told, too */
        size_t at = len / 4 + (size_t)k * len / 32;
        for (size_t i = 0; i < 12; i++) bytes[at + i] ^= 0xA5;
        test_write_file(test_path("damaged.mkv"), bytes, len);
        for (size_t i = 0; i < 12; i++) bytes[at + i] ^= 0xA5;
        pith_status status = read_all(ctx, test_path("damaged.mkv"), &n);
        if (status != PITH_OK && strstr(pith_error(ctx), "frame")) n_refused++;
    }
    free(bytes);
    assert_int_equal(n_refused, 20);
    pith_ctx_free(ctx);
    static const char *const names[] = {"whole.mkv", "whole.mp4"};
    for (int k = 0; k < 2; k++) { /* cut off: an error, or a warning where the format does not tell */
        bool warned = false;
        pith_options o = {.n_threads = 1, .log_level = PITH_LOG_WARN, .log = hear, .user = &warned};
        assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
        assert_int_equal(read_all(ctx, test_path(names[k]), &n), PITH_OK);
        assert_true(n == FRAMES && !warned);
        bytes = test_read_file(test_path(names[k]), &len);
        test_write_file(test_path("cut"), bytes, len * 2 / 3);
        free(bytes);
        pith_status status = read_all(ctx, test_path("cut"), &n);
        assert_true(n < FRAMES && (status == PITH_E_CORRUPT || warned));
        pith_ctx_free(ctx);
    }
    ctx = test_ctx(1);
    test_write_text(test_path("text"), "this is no video at all, whatever one may think of it");
    assert_int_equal(read_all(ctx, test_path("text"), &n), PITH_E_FORMAT);
    test_write_text(test_path("empty"), "");
    assert_int_not_equal(read_all(ctx, test_path("empty"), &n), PITH_OK);
    /* A playlist may not open what it names. */
    char list[256];
    snprintf(list, sizeof list, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n", test_path("whole.mkv"));
    test_write_text(test_path("list.m3u8"), list);
    assert_int_not_equal(read_all(ctx, test_path("list.m3u8"), &n), PITH_OK);
    snprintf(list, sizeof list, "ffconcat version 1.0\nfile %s\n", test_path("whole.mkv"));
    test_write_text(test_path("list"), list);
    assert_int_not_equal(read_all(ctx, test_path("list"), &n), PITH_OK);
    assert_int_equal(read_all(ctx, test_path("nothing"), &n), PITH_E_IO);
    pith_ctx_free(ctx);
}

static pith_status read_small(pith_ctx *ctx, const void *user)
{
    (void)user;
    int n;
    PITH_TRY(read_all(ctx, test_path("small.avi"), &n));
    assert_int_equal(n, FRAMES);
    return PITH_OK;
}

static void test_memory(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    write_film(ctx, PITH_Y4M_420);
    assert_true(encode("-c:v mpeg4", "small.avi"));
    pith_ctx_free(ctx);
    assert_true(test_every_fault(read_small, NULL) >= 3);
}

int main(void)
{
    if (system("ffmpeg -version > /dev/null 2>&1") != 0) {
        printf("skipped: the program ffmpeg is not installed\n");
        return SKIP;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_frames), cmocka_unit_test(test_damage), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, test_make_folder, test_drop_folder);
}
