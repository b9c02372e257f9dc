/* Networks whose memory is a state: Mamba, RWKV. */
#include "net_case.h"

static const int32_t ids[] = {1, 5, 2, 0, 3, 3, 7, 4, 6, 1};
static pith_var *two_texts(pith_net *net) { return pith_net_run(net, &(pith_net_input){.ids = ids, .n = 2, .len = 5}); }

#define TINY_MAMBA "\"width\": 6, \"depth\": 2, \"state\": 3, \"expand\": 2, \"head_dim\": 4, \"kernel\": 3"
#define TINY_RWKV "{\"vocab\": 8, \"width\": 6, \"depth\": 2, \"head_dim\": 3, \"hidden\": 7}"

static const net_case cases[] = {
    {"mamba", "{\"vocab\": 8, " TINY_MAMBA "}", 0, 3, .out = {2, 5, 8}, .run = two_texts},
    {"mamba", "{\"vocab\": 8, \"head\": \"own\", " TINY_MAMBA "}", 0, 3, .out = {2, 5, 8}, .run = two_texts},
    {"mamba", "{\"vocab\": 0, " TINY_MAMBA "}", 3, 3, {2, 4, 6}, {2, 4, 6}},
    {"rwkv", TINY_RWKV, 0, 3, .out = {2, 5, 8}, .run = two_texts},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) check_net(&cases[i]);
}

/* Nothing looks ahead: what comes later changes nothing before it, and does change what follows. */
static void test_causal(void **state)
{
    (void)state;
    static const int32_t other[] = {1, 5, 2, 0, 3, 3, 7, 6, 6, 1};
    static const char *const kinds[][2] = {{"mamba", "{\"vocab\": 8, " TINY_MAMBA "}"}, {"rwkv", TINY_RWKV}};
    for (int k = 0; k < 2; k++) {
        net_bed b = net_bed_open(kinds[k][0], kinds[k][1], 1, 2);
        net_disturb(&b);
        pith_tape_step(b.tape, 1);
        pith_var *y = pith_net_run(b.net, &(pith_net_input){.ids = ids, .n = 1, .len = 10}), *z = pith_net_run(b.net, &(pith_net_input){.ids = other, .n = 1, .len = 10});
        assert_ok(b.ctx, pith_tape_status(b.tape));
        assert_memory_equal(y->data, z->data, 7 * 8 * sizeof(float));
        assert_memory_not_equal(y->data + 9 * 8, z->data + 9 * 8, 8 * sizeof(float));
        net_bed_close(&b);
    }
}

/* Decays of 1 to 16 and steps of 0.001 to 0.1, as the paper has them. */
static void test_start(void **state)
{
    (void)state;
    net_bed b = net_bed_open("mamba2", "{\"width\": 512, \"head_dim\": 4, \"depth\": 1}", 3, 1);
    pith_var *a = pith_net_param(b.net, "backbone.layers.0.mixer.A_log"), *dt = pith_net_param(b.net, "backbone.layers.0.mixer.dt_bias");
    float low[2] = {1e9f, 1e9f}, high[2] = {0, 0};
    assert_int_equal(a->count, 256);
    for (size_t i = 0; i < a->count; i++) {
        float of[2] = {expf(a->data[i]), log1pf(expf(dt->data[i]))};
        for (int k = 0; k < 2; k++) low[k] = fminf(low[k], of[k]), high[k] = fmaxf(high[k], of[k]);
    }
    assert_true(low[0] >= 1 && low[0] < 2 && high[0] > 15 && high[0] <= 16.01f);
    assert_true(low[1] > 0.00099f && low[1] < 0.002f && high[1] > 0.05f && high[1] < 0.101f);
    net_bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_causal), cmocka_unit_test(test_start)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
