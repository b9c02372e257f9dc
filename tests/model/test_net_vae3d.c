/* The autoencoder of clips: what every network holds, causality to the bit, beginning from one of images, learning clips32. */
#include "data/data.h"
#include "model/net_vae3d.h"
#include "net_case.h"

#define TINY "{\"channels\": 2, \"widths\": [3, 4, 4], \"latent\": 2}"

static const net_case cases[] = {
    {"vae3d", "{\"channels\": 2, \"widths\": [2, 3], \"latent\": 2}", 5, 5, {1, 2, 3, 4, 4}, {1, 2, 3, 4, 4}},
    {"vae3d", "{\"channels\": 1, \"widths\": [2, 3, 2], \"latent\": 2, \"time\": 2, \"conv\": \"half\"}", 5, 5, {1, 1, 5, 4, 4}, {1, 1, 5, 4, 4}},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) check_net(&cases[i]);
    check_net_count("vae3d32", "{\"widths\": [16], \"latent\": 4, \"time\": 0}",
                    (3 * 16 + 16 * 8) * 27 + 16 + 8 + 2 * (2 * (16 * 16 * 27 + 16) + 4 * 16) + 2 * 16 + (4 * 16 + 16 * 3) * 27 + 16 + 3 + 2 * (2 * (16 * 16 * 27 + 16) + 4 * 16) + 2 * 16);
}

static pith_var *run(net_bed *b, pith_net_part part, pith_var *x)
{
    pith_var *y = pith_net_run(b->net, &(pith_net_input){.part = part, .x = x});
    if (!y) fail_msg("%s", pith_error(b->ctx));
    return y;
}

/* Frames 0..n-1 of two clips are the same bits. */
static bool same_until(pith_var *a, pith_var *b, size_t n)
{
    pith_var *x = pith_var_slice(a, 2, 0, n), *y = pith_var_slice(b, 2, 0, n);
    return x && y && x->count == y->count && memcmp(x->data, y->data, x->count * sizeof(float)) == 0;
}

/* A clip of 9 frames, and the same with other frames from each one on: a latent of frames 0..2i keeps its bits while these do,
 * and changes when they change.  So do the frames of a decoded clip, and parts of clips are as the whole. */
static void test_causal(void **state)
{
    (void)state;
    static const char *const settings[] = {TINY, "{\"channels\": 2, \"widths\": [3, 4, 4], \"latent\": 2, \"time\": 2}"};
    for (size_t k = 0; k < PITH_COUNT(settings); k++) {
        size_t moments = (size_t)2 << k, n_latent = 8 / moments + 1;
        net_bed b = net_bed_open("vae3d", settings[k], 3, 2);
        net_disturb(&b);
        pith_tape_step(b.tape, 1);
        pith_tape_record(b.tape, false);
        pith_var *x = net_noise(b.tape, 1, PITH_DIMS(2, 2, 9, 8, 8)), *other = net_noise(b.tape, 2, PITH_DIMS(2, 2, 9, 8, 8)), *z = run(&b, PITH_NET_ENCODE, x);
        assert_true(z->n_dims == 5 && z->dims[1] == 4 && z->dims[2] == n_latent && z->dims[3] == 2 && z->dims[4] == 2);
        for (size_t t = 1; t < 9; t++) {
            pith_var *changed = pith_var_concat((pith_var *const[]){pith_var_slice(x, 2, 0, t), pith_var_slice(other, 2, t, 9 - t)}, 2, 2), *c = run(&b, PITH_NET_ENCODE, changed);
            size_t kept = (t - 1) / moments + 1; /* latents of frames before t alone */
            assert_true(same_until(z, c, kept));
            assert_false(same_until(z, c, kept + 1));
            if ((t - 1) % moments == 0) assert_true(same_until(run(&b, PITH_NET_ENCODE, pith_var_slice(x, 2, 0, t)), z, kept));
        }
        pith_var *latent = net_noise(b.tape, 3, PITH_DIMS(1, 2, n_latent, 2, 2)), *noise = net_noise(b.tape, 4, PITH_DIMS(1, 2, n_latent, 2, 2)), *y = run(&b, PITH_NET_DECODE, latent);
        assert_true(y->n_dims == 5 && y->dims[1] == 2 && y->dims[2] == 9 && y->dims[3] == 8);
        for (size_t t = 1; t < n_latent; t++) {
            pith_var *c = run(&b, PITH_NET_DECODE, pith_var_concat((pith_var *const[]){pith_var_slice(latent, 2, 0, t), pith_var_slice(noise, 2, t, n_latent - t)}, 2, 2));
            size_t kept = (t - 1) * moments + 1;
            assert_true(same_until(y, c, kept));
            assert_false(same_until(y, c, kept + 1));
            pith_var *part = run(&b, PITH_NET_DECODE, pith_var_slice(latent, 2, 0, t)); /* of the first alone: an image */
            assert_true(part->dims[2] == kept && same_until(part, y, kept));
        }
        net_bed_close(&b);
    }
}

/* From the weights of an autoencoder of images, frames by themselves are coded as it codes them. */
static void test_from_images(void **state)
{
    (void)state;
    net_bed b = net_bed_open("vae3d", TINY, 1, 2), flat = {.ctx = b.ctx}, other = {.ctx = b.ctx};
    assert_ok(b.ctx, pith_tape_new(b.ctx, 3, &flat.tape));
    assert_ok(b.ctx, pith_net_new(flat.tape, "vae", TINY, 5, &flat.net));
    assert_ok(b.ctx, pith_tape_new(b.ctx, 3, &other.tape));
    assert_ok(b.ctx, pith_net_new(other.tape, "vae", "{\"channels\": 2, \"widths\": [3, 5, 4], \"latent\": 2}", 5, &other.net));
    net_disturb(&flat);
    size_t n;
    pith_var *const *params = pith_net_params(b.net, &n);
    float first = params[0]->data[0];
    assert_int_equal(pith_vae3d_inflate(b.net, other.net), PITH_E_ARGUMENT);
    assert_true(params[0]->data[0] == first);
    assert_ok(b.ctx, pith_vae3d_inflate(b.net, flat.net));
    pith_tape_step(b.tape, 1);
    pith_tape_step(flat.tape, 1);
    pith_tape_record(b.tape, false);
    pith_tape_record(flat.tape, false);
    pith_var *image = net_noise(flat.tape, 1, PITH_DIMS(2, 2, 8, 8)), *clip = pith_tape_input(b.tape, image->data, PITH_DIMS(2, 2, 1, 8, 8));
    pith_var *z2 = run(&flat, PITH_NET_ENCODE, image), *z3 = run(&b, PITH_NET_ENCODE, clip), *y2 = run(&flat, PITH_NET_WHOLE, image), *y3 = run(&b, PITH_NET_WHOLE, clip);
    assert_true(z2->count == z3->count && y2->count == y3->count);
    for (size_t i = 0; i < z2->count; i++) assert_true(fabsf(z2->data[i] - z3->data[i]) <= 1e-4f * (1 + fabsf(z2->data[i])));
    for (size_t i = 0; i < y2->count; i++) assert_true(fabsf(y2->data[i] - y3->data[i]) <= 1e-4f * (1 + fabsf(y2->data[i])));
    pith_net_free(other.net);
    pith_tape_free(other.tape);
    pith_net_free(flat.net);
    pith_tape_free(flat.tape);
    net_bed_close(&b);
}

/* Clips [frames, 3, height, width] of bytes -> [n, 3, frames, height, width], -1..1 */
static pith_var *batch(pith_tape *tape, const pith_field *images, size_t from, size_t n)
{
    size_t frames = images->dims[0], plane = images->dims[2] * images->dims[3];
    pith_var *x = pith_tape_fill(tape, 0, PITH_DIMS(n, 3, frames, images->dims[2], images->dims[3]));
    for (size_t i = 0; x && i < x->count; i++) {
        size_t clip = i / (3 * frames * plane), channel = i / (frames * plane) % 3, frame = i / plane % frames;
        const uint8_t *bytes = pith_field_item(images, from + clip);
        x->data[i] = (float)bytes[(frame * 3 + channel) * plane + i % plane] / 127.5f - 1;
    }
    return x;
}

static void test_learns_clips(void **state)
{
    (void)state;
    enum { CLIPS = 4, STEPS = 25 };
    net_bed b = net_bed_open("vae3d", "{\"widths\": [8, 8, 8]}", 1, 2);
    pith_dataset *clips;
    pith_optimizer *optimizer;
    assert_ok(b.ctx, pith_dataset_open(b.ctx, "clips32", "train", &(pith_dataset_options){.n = CLIPS, .frames = 9}, &clips));
    assert_ok(b.ctx, pith_optimizer_new(b.tape, &(pith_optimizer_options){.kind = PITH_ADAMW, .clip_norm = 1}, &optimizer));
    const pith_field *images = pith_dataset_field(clips, "image");
    assert_true(images && images->dims[0] == 9);
    float first = 0, last = 0;
    for (size_t step = 0; step < STEPS; step++) {
        pith_tape_step(b.tape, step);
        pith_var *x = batch(b.tape, images, step % (CLIPS / 2) * 2, 2), *loss = pith_var_mse(pith_net_forward(b.net, x), x);
        if (!loss) fail_msg("%s", pith_error(b.ctx));
        if (step < 2) first += loss->data[0] / 2;
        if (step >= STEPS - 2) last += loss->data[0] / 2;
        assert_ok(b.ctx, pith_backward(b.tape, loss, 0));
        assert_ok(b.ctx, pith_optimizer_step(optimizer, 4e-3f));
    }
    if (!(last < 0.5f * first)) fail_msg("a loss of %g is %g after %d steps", (double)first, (double)last, STEPS);
    pith_optimizer_free(optimizer);
    pith_dataset_free(clips);
    net_bed_close(&b);
}

static void test_refuses(void **state)
{
    (void)state;
    net_bed b = net_bed_open("vae3d", TINY, 1, 1);
    static const struct { int n_dims; size_t dims[5]; } wrong[] = {{4, {1, 2, 8, 8}}, {5, {1, 3, 3, 8, 8}}, {5, {1, 2, 4, 8, 8}}, {5, {1, 2, 0, 8, 8}}, {5, {1, 2, 3, 8, 6}}};
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) {
        pith_tape_step(b.tape, 1);
        assert_null(pith_net_forward(b.net, net_noise(b.tape, 1, wrong[i].n_dims, wrong[i].dims)));
        assert_int_equal(pith_tape_status(b.tape), PITH_E_SHAPE);
    }
    pith_tape_step(b.tape, 2);
    pith_net *none;
    assert_int_equal(pith_net_new(b.tape, "vae3d", "{\"widths\": [4, 4], \"time\": 2}", 1, &none), PITH_E_ARGUMENT);
    net_bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_causal), cmocka_unit_test(test_from_images), cmocka_unit_test(test_learns_clips), cmocka_unit_test(test_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
