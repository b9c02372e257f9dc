/* Networks of attention: ViT, BERT, experts. */
#include "net_case.h"

static const int32_t ids[] = {1, 5, 2, 0, 3, 3, 7, 4, 6, 1}, n_tokens[] = {5, 3};
static pith_var *two_texts(pith_net *net) { return pith_net_run(net, &(pith_net_input){.ids = ids, .n = 2, .len = 5, .n_tokens = n_tokens}); }

#define TINY_BERT "\"vocab\": 9, \"context\": 6, \"types\": 1, \"width\": 8, \"depth\": 2, \"heads\": 2, \"hidden\": 12"

static pith_var *two_equal_texts(pith_net *net) { return pith_net_run(net, &(pith_net_input){.ids = ids, .n = 2, .len = 5}); }

#define TINY_MOE "{\"vocab\": 8, \"context\": 10, \"width\": 6, \"depth\": 2, \"heads\": 2, \"experts\": 3, \"chosen\": 2, \"hidden\": 5}"

static const net_case cases[] = {
    {"vit", "{\"size\": 8, \"channels\": 1, \"width\": 8, \"depth\": 2, \"heads\": 2, \"hidden\": 12, \"classes\": 3}", 4, 2, {2, 1, 8, 8}, {2, 3}},
    {"vit", "{\"size\": 8, \"channels\": 2, \"width\": 8, \"depth\": 1, \"heads\": 4, \"hidden\": 8, \"classes\": 3, \"pool\": \"mean\"}", 4, 2, {2, 2, 8, 8}, {2, 3}},
    {"bert", "{" TINY_BERT ", \"output\": \"mean\"}", 0, 2, .out = {2, 8}, .run = two_texts},
    {"bert", "{" TINY_BERT ", \"classes\": 4}", 0, 2, .out = {2, 4}, .run = two_texts},
    {"bert", "{" TINY_BERT ", \"output\": \"tokens\"}", 0, 3, .out = {2, 5, 8}, .run = two_texts},
    {"moe", TINY_MOE, 0, 3, .out = {2, 5, 8}, .run = two_equal_texts},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) check_net(&cases[i]);
}

static void test_counts(void **state)
{
    (void)state;
    check_net_count("vit1m", NULL, 48 * 128 + 128 + 128 + 65 * 128 + 5 * (12 * 128 * 128 + 13 * 128) + 256 + 1290);
    check_net_count("minilm", NULL, 22713216 - 384 * 385); /* as its card says, less the pooler, which embeddings do not use */
    check_net_count("bert-base", NULL, 109482240 - 768 * 769); /* likewise */
}

/* What is beyond a text's tokens changes nothing. */
static void test_padding(void **state)
{
    (void)state;
    net_bed b = net_bed_open("bert", "{" TINY_BERT "}", 1, 2);
    net_disturb(&b);
    pith_tape_step(b.tape, 1);
    pith_var *both = two_texts(b.net), *alone = pith_net_run(b.net, &(pith_net_input){.ids = ids + 5, .n = 1, .len = 3});
    assert_ok(b.ctx, pith_tape_status(b.tape));
    for (size_t i = 0; i < 8; i++) assert_float_equal(both->data[8 + i], alone->data[i], 1e-6f);
    assert_null(pith_net_run(b.net, &(pith_net_input){.ids = ids, .n = 1, .len = 7}));
    assert_non_null(strstr(pith_error(b.ctx), "7 tokens"));
    pith_tape_step(b.tape, 2);
    assert_null(pith_net_run(b.net, &(pith_net_input){.ids = ids, .n = 2, .len = 5, .n_tokens = (const int32_t[]){5, 6}}));
    assert_int_equal(pith_tape_status(b.tape), PITH_E_ARGUMENT);
    net_bed_close(&b);
}

typedef struct loads {
    size_t tokens;                /* rows that experts of the first layer had */
} loads;

static pith_var *weigh(void *user, const char *layer, pith_net_side side, pith_var *x)
{
    loads *l = user;
    if (side == PITH_NET_AFTER && strncmp(layer, "layers.0.moe.experts.", 21) == 0 && !strchr(layer + 21, '.')) l->tokens += x->dims[0];
    return x;
}

/* Each token goes to as many experts as are chosen; with all chosen alike the load is even; nothing looks ahead. */
static void test_experts(void **state)
{
    (void)state;
    net_bed b = net_bed_open("moe", TINY_MOE, 1, 2);
    net_disturb(&b);
    loads l = {0};
    pith_net_tap(b.net, weigh, &l);
    pith_tape_step(b.tape, 1);
    pith_var *y = two_equal_texts(b.net);
    assert_non_null(y);
    assert_int_equal(l.tokens, 10 * 2);
    pith_var *balance = pith_net_hidden(b.net, "balance");
    assert_true(balance->data[0] > 0.5f && balance->data[0] < 3);
    pith_var *first = pith_net_run(b.net, &(pith_net_input){.ids = ids, .n = 1, .len = 3});
    assert_non_null(first);
    for (size_t i = 0; i < 3 * 8; i++) assert_float_equal(first->data[i], y->data[i], 1e-5f);
    net_bed_close(&b);
    b = net_bed_open("moe", "{\"vocab\": 8, \"width\": 6, \"depth\": 1, \"heads\": 1, \"experts\": 3, \"chosen\": 3, \"hidden\": 5}", 1, 2);
    pith_tape_step(b.tape, 1);
    assert_non_null(two_equal_texts(b.net));
    assert_float_equal(pith_net_hidden(b.net, "balance")->data[0], 1, 1e-5f);
    net_bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_counts), cmocka_unit_test(test_padding), cmocka_unit_test(test_experts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
