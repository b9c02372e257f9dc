/* What images are generated with: attribute classifier, VAE, discriminator, U-Net, DiT. */
#include "net_case.h"



static const float times[] = {3, 500.5f};
static const int32_t words[] = {4, 1, 2, 0, 5, 3, 6, 1}, n_words[] = {3, 4}, classes[] = {2, 0};

static pith_var *with_text(pith_net *net)
{
    return pith_net_run(net, &(pith_net_input){.x = net_noise(pith_net_tape(net), 1, PITH_DIMS(2, 2, 4, 4)), .t = times, .ids = words, .n = 2, .len = 4, .n_tokens = n_words});
}

static pith_var *with_context(pith_net *net)
{
    pith_tape *tape = pith_net_tape(net);
    return pith_net_run(net, &(pith_net_input){.x = net_noise(tape, 1, PITH_DIMS(2, 2, 4, 4)), .t = times, .context = net_noise(tape, 7, PITH_DIMS(2, 3, 4))});
}

static pith_var *with_class(pith_net *net)
{
    return pith_net_run(net, &(pith_net_input){.x = net_noise(pith_net_tape(net), 1, PITH_DIMS(2, 2, 4, 4)), .t = times, .ids = classes, .n = 2, .len = 1});
}

#define TINY_TEXT "\"text_vocab\": 7, \"text_len\": 4, \"text_width\": 4, \"text_depth\": 1, \"text_heads\": 2"
#define TINY_UNET "{\"channels\": 2, \"out\": 2, \"widths\": [4, 6], \"blocks\": 1, \"heads\": 2, "
#define TINY_DIT "{\"channels\": 2, \"out\": 3, \"size\": 4, \"patch\": 2, \"width\": 8, \"depth\": 2, \"heads\": 2, "
#define TINY_VAE "{\"channels\": 2, \"widths\": [4, 6], \"latent\": 3}"

static const net_case cases[] = {
    {"attributes", "{\"channels\": 2, \"size\": 4, \"widths\": [4, 6], \"features\": 5, \"classes\": [2, 3]}", 4, 2, {2, 2, 4, 4}, {2, 5}},
    {"vae", TINY_VAE, 4, 4, {1, 2, 4, 4}, {1, 2, 4, 4}},
    {"patchgan", "{\"widths\": [3, 4, 4]}", 4, 4, {2, 3, 16, 16}, {2, 1, 2, 2}},
    {"unet", TINY_UNET TINY_TEXT "}", 0, 4, .out = {2, 2, 4, 4}, .run = with_text},
    {"unet", TINY_UNET "\"text_vocab\": 0, \"text_width\": 4}", 0, 4, .out = {2, 2, 4, 4}, .run = with_context},
    {"unet", TINY_UNET "\"text_width\": 0}", 0, 4, .out = {2, 2, 4, 4}, .run = with_class},
    {"dit", TINY_DIT TINY_TEXT "}", 0, 4, .out = {2, 3, 4, 4}, .run = with_text},
    {"dit", TINY_DIT "\"condition\": \"context\", \"text_width\": 4}", 0, 4, .out = {2, 3, 4, 4}, .run = with_context},
    {"dit", TINY_DIT "\"condition\": \"class\", \"classes\": 2}", 0, 4, .out = {2, 3, 4, 4}, .run = with_class},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) check_net(&cases[i]);
}

/* Whole is encode, the mean (where nothing is recorded), decode. */
static void test_halves(void **state)
{
    (void)state;
    net_bed b = net_bed_open("vae", TINY_VAE, 1, 2);
    pith_tape_step(b.tape, 1);
    pith_tape_record(b.tape, false);
    pith_var *x = net_noise(b.tape, 1, PITH_DIMS(2, 2, 4, 4)), *moments = pith_net_run(b.net, &(pith_net_input){.part = PITH_NET_ENCODE, .x = x});
    pith_var *y = pith_net_run(b.net, &(pith_net_input){.part = PITH_NET_DECODE, .x = pith_var_slice(moments, 1, 0, 3)}), *whole = pith_net_forward(b.net, x);
    assert_non_null(y);
    assert_non_null(whole);
    assert_int_equal(moments->dims[1], 6);
    assert_memory_equal(y->data, whole->data, y->count * sizeof(float));
    assert_ptr_equal(pith_net_hidden(b.net, "latent")->tape, b.tape);
    pith_tape_record(b.tape, true); /* now drawn */
    whole = pith_net_forward(b.net, x);
    assert_memory_not_equal(y->data, whole->data, y->count * sizeof(float));
    net_bed_close(&b);
}

/* A denoiser by halves gives what it gives whole; at first it gives nothing (its last layer is zero). */
static void test_denoisers(void **state)
{
    (void)state;
    static const char *const kinds[] = {"unet", "dit"}, *const sizes[] = {TINY_UNET TINY_TEXT "}", TINY_DIT TINY_TEXT "}"};
    for (int k = 0; k < 2; k++) {
        net_bed b = net_bed_open(kinds[k], sizes[k], 1, 2);
        pith_tape_step(b.tape, 1);
        pith_var *y = with_text(b.net);
        for (size_t i = 0; i < y->count; i++) assert_float_equal(y->data[i], 0, 0);
        net_disturb(&b);
        pith_tape_step(b.tape, 1);
        y = with_text(b.net);
        pith_net_input in = {.part = PITH_NET_ENCODE, .ids = words, .n = 2, .len = 4, .n_tokens = n_words, .t = times, .x = net_noise(b.tape, 1, PITH_DIMS(2, 2, 4, 4))};
        in.context = pith_net_run(b.net, &in);
        assert_non_null(in.context);
        in.part = PITH_NET_DECODE;
        in.ids = NULL;
        pith_var *z = pith_net_run(b.net, &in);
        assert_non_null(z);
        assert_memory_equal(y->data, z->data, y->count * sizeof(float));
        in.part = PITH_NET_WHOLE;
        assert_null(pith_net_run(b.net, &in)); /* without words */
        assert_int_equal(pith_tape_status(b.tape), PITH_E_ARGUMENT);
        net_bed_close(&b);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    net_bed b = net_bed_open("vae32", NULL, 1, 2);
    pith_tape_step(b.tape, 1);
    pith_tape_record(b.tape, false);
    pith_var *y = pith_net_run(b.net, &(pith_net_input){.part = PITH_NET_ENCODE, .x = net_noise(b.tape, 1, PITH_DIMS(1, 3, 32, 32))});
    assert_string_equal(PITH_SHAPE(y), "[1, 8, 8, 8]");
    net_bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_halves), cmocka_unit_test(test_denoisers), cmocka_unit_test(test_shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
