/* Networks over images: MLP, LeNet, VGG, ResNet. */
#include "net_case.h"

static const net_case cases[] = {
    {"mlp", "{\"in\": 6, \"hidden\": [5, 4], \"out\": 3, \"activation\": \"gelu\"}", 2, 2, {4, 6}, {4, 3}},
    {"lenet", "{\"size\": 16, \"padding\": 0, \"activation\": \"tanh\", \"pool\": \"mean\", \"classes\": 4}", 4, 2, {2, 1, 16, 16}, {2, 4}},
    {"vgg", "{\"channels\": 1, \"widths\": [3, 4, 4], \"classes\": 3}", 4, 2, {3, 1, 6, 6}, {3, 3}},
    {"resnet", "{\"blocks\": 1, \"width\": 3, \"classes\": 3}", 4, 2, {2, 3, 8, 8}, {2, 3}},
    {"resnet", "{\"blocks\": 1, \"width\": 2, \"shortcut\": \"conv\", \"classes\": 3}", 4, 2, {2, 3, 8, 8}, {2, 3}},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(cases); i++) check_net(&cases[i]);
}

static void test_counts(void **state)
{
    (void)state;
    check_net_count("mlp", NULL, 785 * 256 + 257 * 256 + 257 * 10);
    check_net_count("lenet5", NULL, 61706);
    /* 0.27M, 0.46M and 0.85M in table 6 of arXiv:1512.03385, of which batch norm's gains and biases are part */
    check_net_count("resnet20", NULL, 269722);
    check_net_count("resnet32", NULL, 464154);
    check_net_count("resnet56", NULL, 853018);
    check_net_count("vgg6", "{\"channels\": 1}", 144 + 2304 + 4608 + 9216 + 18432 + 36864 + 2 * 224 + 650);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
