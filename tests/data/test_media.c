/* Sound and Y4M: what the readers make of good files, and that no damaged one passes or harms. */
#include "files.h"

#include <math.h>
#include <sndfile.h>
#include <unistd.h>

#include "data/media.h"
#include "says.h"

/* ---- sound ------------------------------------------------------------------------------------ */

/* A WAV of `codec` (1 integers, 3 floats) with a chunk of odd length before its data. */
static size_t make_wav(uint8_t *dst, int codec, int bits, int channels, const void *data, size_t n_bytes)
{
    static const uint8_t list[] = {'L', 'I', 'S', 'T', 3, 0, 0, 0, 'a', 'b', 'c', 0};
    uint8_t fmt[24] = "fmt ";
    int block = channels * bits / 8;
    fmt[4] = 16, fmt[8] = (uint8_t)codec, fmt[10] = (uint8_t)channels, fmt[20] = (uint8_t)block, fmt[22] = (uint8_t)bits;
    pith_put32(fmt + 12, 8000);
    pith_put32(fmt + 16, (uint32_t)(8000 * block));
    memcpy(dst, "RIFF....WAVE", 12);
    memcpy(dst + 12, fmt, 24);
    memcpy(dst + 36, list, 12);
    memcpy(dst + 48, "data", 4);
    pith_put32(dst + 52, (uint32_t)n_bytes);
    memcpy(dst + 56, data, n_bytes);
    size_t len = 56 + n_bytes;
    if (n_bytes % 2) dst[len++] = 0;
    pith_put32(dst + 4, (uint32_t)(len - 8));
    return len;
}

static void test_wav(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint8_t file[256];
    pith_sound s;
    const int16_t stereo[] = {0, 32767, -32768, 1, 16384, -1};
    size_t len = make_wav(file, 1, 16, 2, stereo, sizeof stereo);
    assert_ok(ctx, pith_sound_read(ctx, "file", file, len, &s));
    assert_true(s.channels == 2 && s.samples == 3 && s.rate == 8000);
    const float want[] = {0, -1, 0.5f, 32767 / 32768.0f, 1 / 32768.0f, -1 / 32768.0f};
    assert_memory_equal(s.data, want, sizeof want);
    pith_sound_free(ctx, &s);

    for (size_t cut = 0; cut < len; cut++) { /* no shorter one is taken for whole */
        uint8_t *copy = test_exact_copy(file, cut);
        assert_int_not_equal(pith_sound_read(ctx, "file", copy, cut, &s), PITH_OK);
        assert_says(ctx, "offset");
        assert_null(s.data);
        free(copy);
    }
    uint8_t *piped = test_exact_copy(file, len); /* lengths that were never filled in */
    pith_put32(piped + 4, 0xFFFFFFFF);
    pith_put32(piped + 52, 0xFFFFFFFF);
    assert_ok(ctx, pith_sound_read(ctx, "file", piped, len, &s));
    assert_true(s.samples == 3);
    assert_memory_equal(s.data, want, sizeof want);
    pith_sound_free(ctx, &s);
    assert_int_equal(pith_sound_read(ctx, "file", piped, len - 1, &s), PITH_E_CORRUPT);
    assert_says(ctx, "whole number of frames");
    free(piped);

    const uint8_t bytes[] = {128, 255, 0};
    len = make_wav(file, 1, 8, 1, bytes, sizeof bytes);
    assert_ok(ctx, pith_sound_read(ctx, "file", file, len, &s));
    assert_true(s.samples == 3 && s.data[0] == 0 && s.data[1] == 127 / 128.0f && s.data[2] == -1);
    pith_sound_free(ctx, &s);
    float floats[] = {0.25f, -3, 1e-20f};
    len = make_wav(file, 3, 32, 1, floats, sizeof floats);
    assert_ok(ctx, pith_sound_read(ctx, "file", file, len, &s));
    assert_memory_equal(s.data, floats, sizeof floats);
    pith_sound_free(ctx, &s);
    floats[1] = NAN;
    len = make_wav(file, 3, 32, 1, floats, sizeof floats);
    assert_int_equal(pith_sound_read(ctx, "file", file, len, &s), PITH_E_NONFINITE);
    assert_says(ctx, "sample 1 of channel 0");

    len = make_wav(file, 1, 16, 1, stereo, 0); /* empty is no error */
    assert_ok(ctx, pith_sound_read(ctx, "file", file, len, &s));
    assert_int_equal(s.samples, 0);
    pith_sound_free(ctx, &s);
    len = make_wav(file, 1, 16, 1, stereo, 4);
    memcpy(file + 48, "dada", 4);
    assert_int_equal(pith_sound_read(ctx, "file", file, len, &s), PITH_E_CORRUPT);
    assert_says(ctx, "offset 60: ends without");
    len = make_wav(file, 77, 16, 1, stereo, 4);
    assert_int_not_equal(pith_sound_read(ctx, "file", file, len, &s), PITH_OK);
    assert_int_equal(pith_sound_read(ctx, "file", (const uint8_t *)"not any sound", 13, &s), PITH_E_FORMAT);
    pith_ctx_free(ctx);
}

/* A file as libsndfile writes it, in memory. */
typedef struct written {
    uint8_t bytes[1 << 17];
    sf_count_t len, at;
} written;
static sf_count_t w_len(void *user) { return ((written *)user)->len; }
static sf_count_t w_tell(void *user) { return ((written *)user)->at; }
static sf_count_t w_seek(sf_count_t offset, int whence, void *user)
{
    written *w = user;
    return w->at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? w->at + offset : w->len + offset;
}
static sf_count_t w_read(void *dst, sf_count_t n, void *user)
{
    written *w = user;
    n = PITH_MIN(n, w->len - w->at);
    memcpy(dst, w->bytes + w->at, (size_t)n);
    w->at += n;
    return n;
}
static sf_count_t w_write(const void *src, sf_count_t n, void *user)
{
    written *w = user;
    assert_true(w->at + n <= (sf_count_t)sizeof w->bytes);
    memcpy(w->bytes + w->at, src, (size_t)n);
    w->at += n;
    w->len = PITH_MAX(w->len, w->at);
    return n;
}

enum { TONE = 6000 };

static void write_tone(written *w, int format, int16_t *tone)
{
    for (int i = 0; i < TONE * 2; i++) tone[i] = (int16_t)(9000 * sin(i * 0.013) + 4000 * sin(i * 0.31) + (i * 7919) % 200);
    SF_VIRTUAL_IO io = {w_len, w_seek, w_read, w_write, w_tell};
    SF_INFO info = {.channels = 2, .samplerate = 16000, .format = format};
    *w = (written){0};
    SNDFILE *f = sf_open_virtual(&io, SFM_WRITE, &info, w);
    assert_non_null(f);
    assert_int_equal(sf_writef_short(f, tone, TONE), TONE);
    sf_close(f);
}

/* Each coding that a WAV may have is what libsndfile itself reads of the file, though it gets no more than three chunks of it. */
static void test_wav_codings(void **state)
{
    (void)state;
    static const int codings[] = {SF_FORMAT_PCM_24, SF_FORMAT_DOUBLE, SF_FORMAT_ULAW, SF_FORMAT_ALAW, SF_FORMAT_IMA_ADPCM, SF_FORMAT_MS_ADPCM};
    pith_ctx *ctx = test_ctx(1);
    static written w;
    static int16_t tone[TONE * 2];
    static float want[TONE * 4];
    for (size_t k = 0; k < sizeof codings / sizeof *codings; k++) {
        write_tone(&w, SF_FORMAT_WAV | codings[k], tone);
        w.at = 0;
        SF_VIRTUAL_IO io = {w_len, w_seek, w_read, w_write, w_tell};
        SF_INFO info = {0};
        SNDFILE *f = sf_open_virtual(&io, SFM_READ, &info, &w);
        assert_non_null(f);
        size_t n = (size_t)sf_readf_float(f, want, TONE * 2);
        sf_close(f);
        assert_in_range(n, TONE, TONE * 2);
        pith_sound s;
        assert_ok(ctx, pith_sound_read(ctx, "file", w.bytes, (size_t)w.len, &s));
        assert_true(s.channels == 2 && s.samples == n);
        for (size_t i = 0; i < n * 2; i++) assert_true(s.data[i % 2 * n + i / 2] == want[i]);
        pith_sound_free(ctx, &s);
    }
    pith_ctx_free(ctx);
}

/* A chunk that is not sound may hold anything: here a name whose length, taken as signed, leads back to its own begin, for ever. */
static void test_wav_strange_names(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint8_t plain[256], file[512];
    const int16_t samples[] = {1, -2, 3};
    uint8_t list[28] = "LIST\x14\0\0\0adtlabcd\xf8\xff\xff\xff";
    size_t len = make_wav(plain, 1, 16, 1, samples, sizeof samples);
    memcpy(file, plain, 36);
    memcpy(file + 36, list, sizeof list);
    memcpy(file + 36 + sizeof list, plain + 36, len - 36);
    len += sizeof list;
    pith_put32(file + 4, (uint32_t)(len - 8));
    pith_sound s;
    assert_ok(ctx, pith_sound_read(ctx, "file", file, len, &s));
    assert_true(s.samples == 3 && s.data[1] == -2 / 32768.0f);
    pith_sound_free(ctx, &s);
    memcpy(file + 12, "junk", 4); /* no format */
    assert_int_equal(pith_sound_read(ctx, "file", file, len, &s), PITH_E_CORRUPT);
    assert_says(ctx, "offset 76: samples without a chunk \"fmt \"");
    pith_ctx_free(ctx);
}

static void test_flac_and_ogg(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static written w;
    static int16_t tone[TONE * 2];
    pith_sound s;
    write_tone(&w, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, tone);
    size_t len = (size_t)w.len;
    assert_ok(ctx, pith_sound_read(ctx, "file", w.bytes, len, &s));
    assert_true(s.channels == 2 && s.samples == TONE && s.rate == 16000);
    for (size_t i = 0; i < TONE * 2; i++) assert_true(s.data[i % 2 * TONE + i / 2] == (float)tone[i] / 32768);
    pith_sound_free(ctx, &s);
    for (size_t cut = 0; cut < len; cut += 1 + len / 97) {
        uint8_t *copy = test_exact_copy(w.bytes, cut);
        assert_int_not_equal(pith_sound_read(ctx, "file", copy, cut, &s), PITH_OK);
        assert_says(ctx, "");
        free(copy);
    }
    size_t n_refused = 0, n_tried = 0;
    for (size_t at = len / 4; at < len; at += len / 40, n_tried++) { /* each frame has a checksum */
        w.bytes[at] ^= 0x10;
        n_refused += pith_sound_read(ctx, "file", w.bytes, len, &s) == PITH_E_CORRUPT && strstr(pith_error(ctx), "sample");
        pith_sound_free(ctx, &s);
        w.bytes[at] ^= 0x10;
    }
    assert_int_equal(n_refused, n_tried);

    write_tone(&w, SF_FORMAT_OGG | SF_FORMAT_VORBIS, tone);
    assert_ok(ctx, pith_sound_read(ctx, "file", w.bytes, (size_t)w.len, &s));
    assert_true(s.channels == 2 && s.samples == TONE);
    double error = 0, power = 0;
    for (size_t i = 0; i < TONE * 2; i++) {
        double x = (double)tone[i] / 32768, d = (double)s.data[i % 2 * TONE + i / 2] - x;
        error += d * d, power += x * x;
    }
    if (error > 0.02 * power) fail_msg("Vorbis differs by %.3f of the power", error / power);
    pith_sound_free(ctx, &s);
    len = (size_t)w.len;
    for (size_t cut = 0; cut < len; cut += 1 + len / 97) {
        uint8_t *copy = test_exact_copy(w.bytes, cut);
        assert_int_not_equal(pith_sound_read(ctx, "file", copy, cut, &s), PITH_OK);
        assert_says(ctx, "offset");
        free(copy);
    }
    for (size_t at = 0; at < len; at += 1 + len / 50) { /* each page has a checksum */
        w.bytes[at] ^= 0x10;
        assert_int_not_equal(pith_sound_read(ctx, "file", w.bytes, len, &s), PITH_OK);
        assert_says(ctx, "offset");
        w.bytes[at] ^= 0x10;
    }
    pith_ctx_free(ctx);
}

/* ---- Y4M -------------------------------------------------------------------------------------- */

static const pith_y4m_sampling samplings[] = {PITH_Y4M_420, PITH_Y4M_420_LEFT, PITH_Y4M_422, PITH_Y4M_444, PITH_Y4M_MONO};

/* A picture that changes slowly, so that halved chroma can follow. */
static void smooth(uint8_t *rgb, size_t width, size_t height, int shift)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < height; y++)
            for (size_t x = 0; x < width; x++)
                rgb[(c * height + y) * width + x] = (uint8_t)(128 + 90 * sin(0.09 * ((double)x + shift) + (double)c) * cos(0.07 * (double)y + 2 * (double)c));
}

static void test_colours(void **state)
{
    (void)state;
    /* Corners of BT.601, 8 bits: white, black, red, green, blue as the standard's table of colour bars at 100% has them */
    static const struct { uint8_t rgb[3], limited[3], full[3]; } known[] = {
        {{255, 255, 255}, {235, 128, 128}, {255, 128, 128}}, {{0, 0, 0}, {16, 128, 128}, {0, 128, 128}},      {{255, 0, 0}, {81, 90, 240}, {76, 85, 255}},
        {{0, 255, 0}, {145, 54, 34}, {150, 44, 21}},         {{0, 0, 255}, {41, 240, 110}, {29, 255, 107}}, {{128, 128, 128}, {126, 128, 128}, {128, 128, 128}},
    };
    for (size_t i = 0; i < PITH_COUNT(known); i++)
        for (int full = 0; full < 2; full++)
            for (size_t k = 0; k < PITH_COUNT(samplings); k++) {
                pith_y4m_format f = {.width = 1, .height = 1, .sampling = samplings[k], .full_range = full};
                uint8_t yuv[3] = {0, 128, 128}, rgb[3];
                pith_y4m_from_rgb(&f, known[i].rgb, yuv);
                assert_memory_equal(yuv, full ? known[i].full : known[i].limited, pith_y4m_frame_bytes(&f));
                pith_y4m_to_rgb(&f, yuv, rgb);
                for (int c = 0; c < 3 && samplings[k] != PITH_Y4M_MONO; c++) assert_in_range(rgb[c] + 2 - known[i].rgb[c], 0, 4);
            }
    enum { W = 33, H = 21 };
    static uint8_t rgb[3 * W * H], again[3 * W * H], yuv[3 * W * H];
    smooth(rgb, W, H, 0);
    for (size_t k = 0; k + 1 < PITH_COUNT(samplings); k++)
        for (int full = 0; full < 2; full++) {
            pith_y4m_format f = {.width = W, .height = H, .sampling = samplings[k], .full_range = full};
            pith_y4m_from_rgb(&f, rgb, yuv);
            pith_y4m_to_rgb(&f, yuv, again);
            int worst = 0;
            double sum = 0;
            for (size_t i = 0; i < sizeof rgb; i++) {
                int d = abs(rgb[i] - again[i]);
                worst = PITH_MAX(worst, d);
                sum += d;
            }
            /* The wrong place of the chroma, half a pixel off, costs about 4 at the steepest slopes here. */
            if (worst > (samplings[k] == PITH_Y4M_444 ? 2 : 7) || sum > 1.0 * sizeof rgb) fail_msg("sampling %zu: off by %d, mean %.2f", k, worst, sum / sizeof rgb);
        }
    /* Chroma between its places: a step from 128 to 208 after column 1, each known sample by hand */
    pith_y4m_format f = {.width = 8, .height = 1, .sampling = PITH_Y4M_420, .full_range = true};
    const uint8_t step[8 + 8] = {100, 100, 100, 100, 100, 100, 100, 100, 128, 128, 128, 128, 128, 128, 208, 208};
    const float jpeg[8] = {0, 0, 0, 20, 60, 80, 80, 80}, left[8] = {0, 0, 0, 40, 80, 80, 80, 80};
    for (int k = 0; k < 2; k++) {
        f.sampling = k ? PITH_Y4M_420_LEFT : PITH_Y4M_420;
        uint8_t out[24];
        pith_y4m_to_rgb(&f, step, out);
        for (int x = 0; x < 8; x++) assert_int_equal(out[x], lroundf(fminf(255, 100 + 1.402f * (k ? left : jpeg)[x])));
    }
}

static void test_y4m(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    char path[] = "/tmp/pith-media-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    enum { W = 13, H = 7, FRAMES = 3 };
    static uint8_t rgb[3 * W * H], again[3 * W * H], yuv[3 * W * H];
    for (size_t k = 0; k < PITH_COUNT(samplings); k++) {
        pith_y4m_format f = {.width = W, .height = H, .rate_num = 30000, .rate_den = 1001, .sampling = samplings[k], .full_range = k % 2};
        pith_y4m_writer w;
        assert_ok(ctx, pith_y4m_write_begin(ctx, path, &f, &w));
        for (int i = 0; i < FRAMES; i++) {
            smooth(rgb, W, H, 5 * i);
            assert_ok(ctx, pith_y4m_write(&w, rgb));
        }
        assert_ok(ctx, pith_y4m_write_end(&w, true));
        pith_map map;
        assert_ok(ctx, pith_map_open(ctx, path, &map));
        pith_y4m y;
        const uint8_t *frame;
        assert_ok(ctx, pith_y4m_begin(ctx, "file", map.data, map.len, &y));
        assert_true(y.format.width == W && y.format.height == H && y.format.rate_num == 30000 && y.format.rate_den == 1001);
        assert_true(y.format.sampling == f.sampling && y.format.full_range == f.full_range);
        static const size_t bytes[] = {W * H + 2 * 7 * 4, W * H + 2 * 7 * 4, W * H + 2 * 7 * H, 3 * W * H, W * H};
        assert_int_equal(pith_y4m_frame_bytes(&y.format), bytes[k]);
        pith_video *v;
        bool got;
        assert_ok(ctx, pith_video_open(ctx, path, &v));
        assert_true(pith_video_about(v)->width == W && strcmp(pith_video_about(v)->codec, "y4m") == 0);
        for (int i = 0; i < FRAMES; i++) {
            smooth(rgb, W, H, 5 * i);
            pith_y4m_from_rgb(&f, rgb, yuv);
            assert_ok(ctx, pith_y4m_next(&y, &frame));
            assert_non_null(frame);
            assert_memory_equal(frame, yuv, bytes[k]);
            pith_y4m_to_rgb(&f, yuv, rgb);
            assert_ok(ctx, pith_video_next(v, again, &got));
            assert_true(got);
            assert_memory_equal(again, rgb, sizeof rgb);
        }
        assert_ok(ctx, pith_y4m_next(&y, &frame));
        assert_null(frame);
        assert_ok(ctx, pith_video_next(v, again, &got));
        assert_false(got);
        pith_video_close(v);
        for (size_t cut = 0; cut < map.len; cut++) { /* a file that ends early is told, with its place; one that ends after a frame is whole */
            uint8_t *copy = test_exact_copy(map.data, cut);
            pith_status status = pith_y4m_begin(ctx, "file", copy, cut, &y);
            frame = copy;
            while (status == PITH_OK && frame) status = pith_y4m_next(&y, &frame);
            assert_int_equal(status == PITH_OK, cut >= map.len - FRAMES * (6 + bytes[k]) && (map.len - cut) % (6 + bytes[k]) == 0);
            if (status != PITH_OK) assert_says(ctx, "offset");
            free(copy);
        }
        pith_map_close(ctx, &map);
    }
    pith_y4m_writer w;
    assert_int_equal(pith_y4m_write_begin(ctx, path, &(pith_y4m_format){.width = 1 << 20, .height = 1 << 20}, &w), PITH_E_LIMIT);
    remove(path);
    assert_ok(ctx, pith_y4m_write_begin(ctx, path, &(pith_y4m_format){.width = W, .height = H}, &w));
    assert_ok(ctx, pith_y4m_write_end(&w, false));
    assert_int_not_equal(access(path, F_OK), 0);
    pith_ctx_free(ctx);
}

static void test_y4m_heads(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const struct { const char *head; pith_status status; const char *says; } heads[] = {
        {"YUV4MPEG2 W4 H2 F25:1 Ip A0:0 C420jpeg Xwhatever\n", PITH_OK, ""},
        {"YUV4MPEG2 H2  W4\n", PITH_OK, ""},
        {"YUV4MPEG2 W4 H2 C420p10 XYSCSS=420P10\n", PITH_E_UNSUPPORTED, "offset 16: samples as \"C420p10\""},
        {"YUV4MPEG2 W4 H2 C444alpha\n", PITH_E_UNSUPPORTED, "C444alpha"},
        {"YUV4MPEG2 W4\n", PITH_E_CORRUPT, "without width or height"},
        {"YUV4MPEG2 W4 H0\n", PITH_E_CORRUPT, "offset 13: \"H0\""},
        {"YUV4MPEG2 W4 H-2\n", PITH_E_CORRUPT, "offset 13"},
        {"YUV4MPEG2 W4 H2 F25\n", PITH_E_CORRUPT, "\"F25\""},
        {"YUV4MPEG2 W4 H2 F25:1x\n", PITH_E_CORRUPT, "\"F25:1x\""},
        {"YUV4MPEG2 W99999999999 H2\n", PITH_E_CORRUPT, "W99999999999"},
        {"YUV4MPEG2 W999999999 H999999999\n", PITH_E_LIMIT, "999999999 x 999999999"},
        {"YUV4MPEG2 W4 H2 Z\n", PITH_E_CORRUPT, "\"Z\" is no parameter"},
        {"YUV4MPEG2W4 H2\n", PITH_E_FORMAT, "not Y4M"},
        {"YUV4MPEG", PITH_E_FORMAT, "not Y4M"},
        {"YUV4MPEG2 W4 H2", PITH_E_CORRUPT, "without an end"},
        {"", PITH_E_FORMAT, "not Y4M"},
    };
    for (size_t i = 0; i < PITH_COUNT(heads); i++) {
        pith_y4m y;
        uint8_t *copy = test_exact_copy(heads[i].head, strlen(heads[i].head));
        assert_int_equal(pith_y4m_begin(ctx, "file", copy, strlen(heads[i].head), &y), heads[i].status);
        if (heads[i].status != PITH_OK) assert_says(ctx, heads[i].says);
        else assert_true(y.format.width == 4 && y.format.height == 2 && y.format.rate_den == 1);
        free(copy);
    }
    static const char two[] = "YUV4MPEG2 W2 H1 Cmono\nFRAME Ip\nabFRAMES\ncd";
    pith_y4m y;
    const uint8_t *frame;
    assert_ok(ctx, pith_y4m_begin(ctx, "file", (const uint8_t *)two, sizeof two - 1, &y));
    assert_ok(ctx, pith_y4m_next(&y, &frame));
    assert_memory_equal(frame, "ab", 2);
    assert_int_equal(pith_y4m_next(&y, &frame), PITH_E_CORRUPT);
    assert_says(ctx, "offset 33: no head of frame 1");
    pith_ctx_free(ctx);
}

typedef struct inputs {
    written sound;
    char path[32]; /* of a Y4M file */
} inputs;

static pith_status read_sound(pith_ctx *ctx, const void *user)
{
    const inputs *in = user;
    pith_sound s;
    pith_status status = pith_sound_read(ctx, "file", in->sound.bytes, (size_t)in->sound.len, &s);
    pith_sound_free(ctx, &s);
    return status;
}

static pith_status open_video(pith_ctx *ctx, const void *user)
{
    const inputs *in = user;
    pith_video *v;
    pith_status status = pith_video_open(ctx, in->path, &v);
    pith_video_close(v);
    return status;
}

static pith_status write_frame(pith_ctx *ctx, const void *user)
{
    const inputs *in = user;
    pith_y4m_writer writer;
    uint8_t rgb[6] = {0};
    PITH_TRY(pith_y4m_write_begin(ctx, in->path, &(pith_y4m_format){.width = 2, .height = 1}, &writer));
    pith_status status = pith_y4m_write(&writer, rgb), end = pith_y4m_write_end(&writer, status == PITH_OK);
    return status == PITH_OK ? end : status;
}

static void test_memory(void **state)
{
    (void)state;
    static inputs in = {.path = "/tmp/pith-media-XXXXXX"};
    static int16_t tone[TONE * 2];
    write_tone(&in.sound, SF_FORMAT_FLAC | SF_FORMAT_PCM_16, tone);
    int fd = mkstemp(in.path);
    static const char y4m[] = "YUV4MPEG2 W2 H1 Cmono\nFRAME\nab";
    assert_int_equal(write(fd, y4m, sizeof y4m - 1), sizeof y4m - 1);
    close(fd);
    static test_life *const lives[] = {read_sound, open_video, write_frame};
    for (size_t i = 0; i < PITH_COUNT(lives); i++) assert_true(test_every_fault(lives[i], &in) >= 1);
    remove(in.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wav), cmocka_unit_test(test_wav_codings), cmocka_unit_test(test_wav_strange_names),
        cmocka_unit_test(test_flac_and_ogg), cmocka_unit_test(test_colours), cmocka_unit_test(test_y4m),
        cmocka_unit_test(test_y4m_heads), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
