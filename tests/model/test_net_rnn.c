/* Recurrent networks. */
#include "net_case.h"

static const int32_t ids[] = {1, 5, 2, 0, 3, 3, 7, 4, 6, 1}, n_tokens[] = {5, 3};
static pith_var *two_texts(pith_net *net) { return pith_net_run(net, &(pith_net_input){.ids = ids, .n = 2, .len = 5, .n_tokens = n_tokens}); }

static const net_case cases[] = {
    {"rnn", "{\"in\": 3, \"width\": 4, \"classes\": 2}", 3, 3, {2, 5, 3}, {2, 5, 2}},
    {"rnn", "{\"in\": 3, \"width\": 4, \"layers\": 2, \"cell\": \"gru\", \"output\": \"last\"}", 3, 2, {2, 5, 3}, {2, 4}},
    {"rnn", "{\"in\": 3, \"width\": 4, \"cell\": \"tanh\", \"directions\": 2, \"layers\": 2, \"classes\": 2}", 3, 3, {2, 5, 3}, {2, 5, 2}},
    {"rnn", "{\"vocab\": 8, \"in\": 3, \"width\": 4, \"cell\": \"relu\", \"classes\": 2, \"output\": \"last\"}", 0, 2, .out = {2, 2}, .run = two_texts},
    {"rnn", "{\"vocab\": 8, \"in\": 3, \"width\": 4, \"directions\": 2, \"classes\": 2, \"output\": \"last\"}", 0, 2, .out = {2, 2}, .run = two_texts},
    {"rnn", "{\"in\": 3, \"width\": 4, \"cell\": \"lstm_1997\", \"classes\": 2}", 3, 3, {2, 5, 3}, {2, 5, 2}},
    {"rnn", "{\"in\": 3, \"width\": 4, \"peepholes\": 1, \"forget_bias\": 1, \"directions\": 2}", 3, 3, {2, 5, 3}, {2, 5, 8}},
    {"rnn", "{\"in\": 3, \"width\": 4, \"cell\": \"jordan\", \"classes\": 2}", 3, 3, {2, 5, 3}, {2, 5, 2}},
    {"rnn", "{\"vocab\": 8, \"in\": 3, \"width\": 4, \"cell\": \"jordan\", \"classes\": 2, \"output\": \"last\"}", 0, 2, .out = {2, 2}, .run = two_texts},
};

static pith_var *two_clips(pith_net *net) { return pith_net_run(net, &(pith_net_input){.x = net_noise(pith_net_tape(net), 1, PITH_DIMS(2, 3, 2, 8, 8))}); }
/* A sentence about two clips, gradients through both parts. */
static pith_var *two_sentences(pith_net *net)
{
    pith_var *seen = pith_net_run(net, &(pith_net_input){.part = PITH_NET_ENCODE, .x = net_noise(pith_net_tape(net), 1, PITH_DIMS(2, 3, 2, 8, 8))});
    pith_var *words = seen ? pith_net_run(net, &(pith_net_input){.part = PITH_NET_DECODE, .ids = ids, .n = 2, .len = 5, .context = pith_var_reshape(seen, PITH_DIMS(2, 1, 4))}) : NULL;
    pith_var *answer = two_clips(net); /* so that all parameters are used */
    return words && answer ? pith_var_add(words, pith_var_mean(answer, PITH_ALL_AXES)) : NULL;
}

#define SMALL_LRCN "\"channels\": 2, \"size\": 8, \"convs\": [3, 4], \"feature\": 5, \"width\": 4, \"classes\": 3"
static const net_case clip_cases[] = {
    {"lrcn", "{" SMALL_LRCN "}", 0, 3, .out = {2, 3, 3}, .run = two_clips},
    {"lrcn", "{" SMALL_LRCN ", \"mixer\": \"none\"}", 0, 3, .out = {2, 3, 3}, .run = two_clips},
    {"lrcn", "{" SMALL_LRCN ", \"mixer\": \"conv3d\"}", 0, 3, .out = {2, 1, 3}, .run = two_clips},
    {"lrcn", "{" SMALL_LRCN ", \"vocab\": 8}", 0, 3, .out = {2, 5, 8}, .run = two_sentences},
    {"lrcn", "{" SMALL_LRCN ", \"vocab\": 8, \"factored\": 0}", 0, 3, .out = {2, 5, 8}, .run = two_sentences},
};

static void test_clips(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(clip_cases); i++) check_net(&clip_cases[i]);
    net_bed b = net_bed_open("lrcn", "{" SMALL_LRCN "}", 1, 1);
    pith_tape_step(b.tape, 1);
    assert_null(pith_net_forward(b.net, net_noise(b.tape, 1, PITH_DIMS(2, 2, 8, 8))));
    assert_null(pith_net_run(b.net, &(pith_net_input){.part = PITH_NET_DECODE, .ids = ids, .n = 2, .len = 5}));
    pith_net *net;
    assert_int_equal(pith_net_new(b.tape, "lrcn", "{\"mixer\": \"none\", \"vocab\": 8}", 1, &net), PITH_E_ARGUMENT);
    net_bed_close(&b);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) check_net(&cases[i]);
}

static void test_counts(void **state)
{
    (void)state;
    check_net_count("lstm", NULL, 4 * 256 * (128 + 256) + 2 * 4 * 256);
    check_net_count("gru", "{\"layers\": 2}", 3 * 256 * (128 + 256) + 2 * 3 * 256 + 3 * 256 * 512 + 2 * 3 * 256);
    check_net_count("lrcn32", NULL, 16 * 28 + 32 * 145 + 64 * 289 + 128 * 1025 + 4 * 128 * 257 + 8 * 129);
}

/* A text alone gives what it gives beside a longer one, in both directions. */
static void test_lengths(void **state)
{
    (void)state;
    net_bed b = net_bed_open("rnn", "{\"vocab\": 8, \"in\": 3, \"width\": 4, \"directions\": 2, \"layers\": 2, \"output\": \"last\"}", 1, 2);
    pith_tape_step(b.tape, 1);
    pith_var *both = two_texts(b.net), *alone = pith_net_run(b.net, &(pith_net_input){.ids = ids + 5, .n = 1, .len = 3});
    assert_ok(b.ctx, pith_tape_status(b.tape));
    assert_memory_equal(both->data + 8, alone->data, 8 * sizeof(float));
    assert_null(pith_net_run(b.net, &(pith_net_input){.ids = ids, .n = 2, .len = 5, .n_tokens = (const int32_t[]){0, 1}}));
    assert_non_null(strstr(pith_error(b.ctx), "0 steps of 5"));
    net_bed_close(&b);
}

/* Six steps are three and then three, when the state goes on. */
static void test_state(void **state)
{
    (void)state;
    net_bed b = net_bed_open("rnn", "{\"vocab\": 8, \"in\": 3, \"width\": 4, \"layers\": 2, \"classes\": 5}", 1, 2);
    float carried[2 * 2 * 4] = {0}, first[3 * 5];
    pith_tape_step(b.tape, 1);
    pith_var *whole = pith_net_run(b.net, &(pith_net_input){.ids = ids, .n = 1, .len = 6});
    pith_var *part = pith_net_run(b.net, &(pith_net_input){.ids = ids, .n = 1, .len = 3, .state = carried});
    assert_non_null(part);
    memcpy(first, part->data, sizeof first);
    part = pith_net_run(b.net, &(pith_net_input){.ids = ids + 3, .n = 1, .len = 3, .state = carried});
    assert_non_null(part);
    assert_memory_equal(whole->data, first, sizeof first);
    assert_memory_equal(whole->data + 15, part->data, sizeof first);
    net_bed_close(&b);
}

/* Jordan's network, step by step in double. */
static void test_jordan(void **state)
{
    (void)state;
    enum { IN = 3, WIDTH = 4, OUT = 2, LEN = 5 };
    net_bed b = net_bed_open("rnn", "{\"in\": 3, \"width\": 4, \"cell\": \"jordan\", \"classes\": 2, \"context_decay\": 0.25}", 1, 1);
    pith_tape_step(b.tape, 1);
    pith_var *x = net_noise(b.tape, 1, PITH_DIMS(1, LEN, IN)), *y = pith_net_forward(b.net, x);
    assert_non_null(y);
    const float *w_in = pith_net_param(b.net, "rnn.weight_ih_l0")->data, *w_back = pith_net_param(b.net, "rnn.weight_hh_l0")->data;
    const float *b_in = pith_net_param(b.net, "rnn.bias_ih_l0")->data, *b_back = pith_net_param(b.net, "rnn.bias_hh_l0")->data;
    const float *w_out = pith_net_param(b.net, "head.weight")->data, *b_out = pith_net_param(b.net, "head.bias")->data;
    double context[OUT] = {0};
    for (size_t t = 0; t < LEN; t++) {
        double h[WIDTH], out;
        for (size_t k = 0; k < WIDTH; k++) {
            double sum = (double)b_in[k] + (double)b_back[k];
            for (size_t i = 0; i < IN; i++) sum += (double)w_in[k * IN + i] * (double)x->data[t * IN + i];
            for (size_t i = 0; i < OUT; i++) sum += (double)w_back[k * OUT + i] * context[i];
            h[k] = tanh(sum);
        }
        for (size_t k = 0; k < OUT; k++) {
            out = (double)b_out[k];
            for (size_t i = 0; i < WIDTH; i++) out += (double)w_out[k * WIDTH + i] * h[i];
            assert_true(fabs(out - (double)y->data[t * OUT + k]) < 1e-5);
            context[k] = 0.25 * context[k] + tanh(out);
        }
    }
    net_bed_close(&b);
}

/* Settings that do not fit, and where a forget bias goes. */
static void test_settings(void **state)
{
    (void)state;
    net_bed plain = net_bed_open("rnn", "{\"width\": 4}", 1, 1), biased = net_bed_open("rnn", "{\"width\": 4, \"forget_bias\": 1}", 1, 1);
    const float *a = pith_net_param(plain.net, "rnn.bias_ih_l0")->data, *c = pith_net_param(biased.net, "rnn.bias_ih_l0")->data;
    for (size_t i = 0; i < 16; i++) assert_true(c[i] == (i / 4 == 1 ? a[i] + 1 : a[i]));
    pith_net *net;
    assert_int_equal(pith_net_new(plain.tape, "rnn", "{\"cell\": \"gru\", \"peepholes\": 1}", 1, &net), PITH_E_ARGUMENT);
    assert_int_equal(pith_net_new(plain.tape, "rnn", "{\"cell\": \"jordan\"}", 1, &net), PITH_E_ARGUMENT);
    net_bed_close(&plain);
    net_bed_close(&biased);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_counts), cmocka_unit_test(test_lengths), cmocka_unit_test(test_state), cmocka_unit_test(test_jordan), cmocka_unit_test(test_clips),
                                       cmocka_unit_test(test_settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
