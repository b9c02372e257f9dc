/* The beds of images, quick: each trained on what the one before left, the same on one thread and on two, and whole or not at
 * all when memory ends. */
#include <math.h>
#include <unistd.h>

#include "files.h"
#include "recipe/cards.h"
#include "recipe/scenes.h"

static void use_cache(const char *name)
{
    char folder[64];
    snprintf(folder, sizeof folder, "%s/%s", test_folder, name);
    assert_true(mkdir(folder, 0777) == 0 || access(folder, W_OK) == 0);
    setenv("XDG_CACHE_HOME", folder, 1);
}

static int make_root(void **state)
{
    unsetenv("PITH_DATA");
    return test_make_folder(state);
}

/* ---- attributes ------------------------------------------------------------------------------- */

static void test_attributes(void **state)
{
    (void)state;
    /* the object of cell 2 comes before that of cell 5, whichever was drawn first; one alone stays */
    static const int32_t labels[3][9] = {{1, 7, 0, 5, 4, 3, 2, 2, 5}, {4, 3, 2, 2, 1, 7, 0, 5, 5}, {1, 7, 0, 5, -1, -1, -1, -1, 3}};
    static const int32_t wanted[3][9] = {{4, 3, 2, 2, 1, 7, 0, 5, 5}, {4, 3, 2, 2, 1, 7, 0, 5, 5}, {1, 7, 0, 5, -1, -1, -1, -1, 3}};
    size_t n_logits = 0;
    for (size_t i = 0; i < PITH_SCENE_ATTRIBUTES; i++) n_logits += pith_scene_classes[i];
    assert_int_equal(n_logits, PITH_SCENE_LOGITS);
    for (size_t i = 0; i < 3; i++) {
        int32_t ordered[9];
        float logits[PITH_SCENE_LOGITS] = {0};
        bool right[9];
        pith_scene_order(labels[i], ordered);
        assert_memory_equal(ordered, wanted[i], sizeof ordered);
        /* logits that say it, but for the first object's colour */
        for (size_t a = 0, at = 0; a < PITH_SCENE_ATTRIBUTES; at += pith_scene_classes[a++])
            if (ordered[a] >= 0) logits[at + ((size_t)ordered[a] + (a == 1)) % pith_scene_classes[a]] = 1;
        pith_scene_judge(logits, ordered, right);
        for (size_t a = 0; a < PITH_SCENE_ATTRIBUTES; a++) assert_int_equal(right[a], a != 1 && ordered[a] >= 0);
    }
}

/* ---- quick beds ------------------------------------------------------------------------------- */

static const struct {
    const char *id, *measures[8];
} beds[] = {
    {"clf32", {"acc", "shape", "colour", "size", "cell", "background", "parameters"}},
    {"vae32", {"psnr", "pd", "kl", "fd", "scale", "parameters"}},
    {"ldm32", {"loss", "fd", "attr_acc", "parameters"}},
    {"dit32", {"loss", "fd", "attr_acc", "parameters"}},
    {"ldm3m", {"loss", "fd", "parameters"}},
};

static uint64_t hash_of_net(pith_ctx *ctx, const pith_bed *bed)
{
    pith_map map;
    char *file = pith_format(ctx, "%s/net.safetensors", bed->folder);
    assert_ok(ctx, pith_map_open(ctx, file, &map));
    uint64_t hash = pith_hash(map.data, map.len);
    pith_map_close(ctx, &map);
    pith_free(ctx, file);
    return hash;
}

/* What beds measured, and their networks. */
static void train_all(int n_threads, double value[PITH_COUNT(beds)][8], uint64_t net[PITH_COUNT(beds)])
{
    pith_ctx *ctx = test_ctx(n_threads);
    for (size_t i = 0; i < PITH_COUNT(beds); i++) {
        pith_bed *bed;
        assert_ok(ctx, pith_bed_get(ctx, beds[i].id, true, 1, &bed));
        assert_false(bed->was_cached);
        for (size_t k = 0; beds[i].measures[k]; k++) assert_ok(ctx, pith_bed_value(bed, "bed", beds[i].measures[k], &value[i][k]));
        net[i] = hash_of_net(ctx, bed);
        char *checkpoint = pith_format(ctx, "%s/checkpoint", bed->folder);
        assert_int_not_equal(access(checkpoint, F_OK), 0);
        pith_free(ctx, checkpoint);
        pith_bed_close(bed);
    }
    pith_ctx_free(ctx);
}

static void test_quick(void **state)
{
    (void)state;
    static double one[PITH_COUNT(beds)][8], two[PITH_COUNT(beds)][8];
    uint64_t net_one[PITH_COUNT(beds)], net_two[PITH_COUNT(beds)];
    use_cache("one");
    train_all(1, one, net_one);
    use_cache("two");
    train_all(2, two, net_two);
    assert_memory_equal(one, two, sizeof one);
    assert_memory_equal(net_one, net_two, sizeof net_one);
    assert_true(one[0][0] > 0.05 && one[0][0] < 1);
    assert_true(one[1][0] > 5 && one[1][1] > 0 && one[1][2] > 0 && one[1][3] > 0);
    for (size_t i = 2; i < PITH_COUNT(beds); i++) assert_true(one[i][0] > 0.5 && one[i][0] < 1.2 && one[i][1] > 0); /* little is learned in so few steps */
}

/* A trained autoencoder as other cards use it: its latents have the standard deviation that its scale is for. */
static pith_status use_latents(pith_run *run)
{
    pith_tape *tape = NULL;
    pith_latents l = {0};
    pith_images images = {0};
    const char *name = "scenes32";
    pith_var *x, *mean, *deviation;
    double sum = 0, square = 0;
    pith_status status = pith_tape_new(run->ctx, 1, &tape);
    if (status == PITH_OK) status = pith_latents_open(run, "vae32", tape, &l);
    if (status == PITH_OK) status = pith_images_open(run, &(pith_names){1, &name}, true, 64, &images);
    if (status == PITH_OK) {
        pith_tape_step(tape, 0);
        pith_tape_record(tape, false);
        x = pith_images_batch(&images, tape, 0, NULL, &status);
    }
    if (status == PITH_OK) {
        assert_true(pith_latents_encode(&l, x, &mean, &deviation));
        for (size_t i = 0; i < mean->count; i++) {
            double m = (double)mean->data[i], d = (double)deviation->data[i];
            sum += m;
            square += m * m + d * d;
        }
        double n = (double)mean->count;
        square = sqrt(square / n - sum / n * (sum / n));
        pith_var *y = pith_latents_decode(&l, mean);
        assert_int_equal(y->count, x->count);
        for (size_t i = 0; i < y->count; i++) assert_true(fabsf(y->data[i]) <= 1);
    }
    pith_images_close(&images);
    pith_latents_close(&l);
    pith_tape_free(tape);
    return status == PITH_OK ? pith_run_row(run, "ours", "acc", square) : status;
}

static void test_latents(void **state)
{
    (void)state;
    static const char text[] = CARD_HEAD CARD_ROWS "train: {rate: 1e-3, steps: 1, batch: 32}\nkind: bed\nbeds: [vae32]\n";
    use_cache("one");
    pith_ctx *ctx = test_ctx(1);
    pith_card *card = test_card(ctx, text, true);
    pith_procedure p = *card->procedure;
    pith_bed *bed;
    double deviation;
    p.run = use_latents;
    card->procedure = &p;
    assert_ok(ctx, pith_bed_of_card(ctx, card, 1, &bed));
    assert_ok(ctx, pith_bed_value(bed, "ours", "acc", &deviation));
    assert_true(fabs(deviation - 1) < 0.1); /* over other images than the scale was measured on */
    pith_bed_close(bed);
    /* a bed that is not there is an error, also of the path */
    char *path;
    bool there;
    card = test_card(ctx, CARD_HEAD CARD_ROWS "train: {rate: 1e-3, steps: 1, batch: 32}\nkind: bed\nbeds: [nowhere]\n", true);
    assert_int_equal(pith_bed_path(ctx, card, 1, &path, &there), PITH_E_ARGUMENT);
    pith_card_free(card);
    pith_ctx_free(ctx);
}

/* ---- memory ends ------------------------------------------------------------------------------ */

static pith_status get_and_close(pith_ctx *ctx, const void *id)
{
    pith_bed *bed = NULL;
    pith_status status = pith_bed_get(ctx, id, true, 2, &bed);
    pith_bed_close(bed);
    return status;
}

/* A batch that cannot be fetched ahead is fetched when it is due. */
static void test_no_memory(void **state)
{
    (void)state;
    use_cache("faults");
    for (size_t i = 0; i < 2; i++) test_every_fault_with(get_and_close, beds[i].id, &(test_fault_options){.name = beds[i].id, .sparse = 1, .can_do_without = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attributes), cmocka_unit_test(test_quick), cmocka_unit_test(test_latents), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_root, test_drop_folder);
}
