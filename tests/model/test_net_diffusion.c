/* What images are generated with: attribute classifier, VAE, discriminator, U-Net, DiT. */
#include "net_case.h"



#define TINY_VAE "{\"channels\": 2, \"widths\": [4, 6], \"latent\": 3}"

static const net_case cases[] = {
    {"attributes", "{\"channels\": 2, \"size\": 4, \"widths\": [4, 6], \"features\": 5, \"classes\": [2, 3]}", 4, 2, {2, 2, 4, 4}, {2, 5}},
    {"vae", TINY_VAE, 4, 4, {1, 2, 4, 4}, {1, 2, 4, 4}},
    {"patchgan", "{\"widths\": [3, 4, 4]}", 4, 4, {2, 3, 16, 16}, {2, 1, 2, 2}},
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_halves), cmocka_unit_test(test_shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
