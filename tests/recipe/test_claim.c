/* Claims: parsing with precedence, judging over seeds, what is not measured, and errors with their column. */
#include <math.h>

#include "recipe/cards.h"

/* A card with one claim, as a quoted text at column 10 of line 15 */
static pith_status parse(pith_ctx *ctx, const char *claim, pith_card **card)
{
    char text[4096];
    int n = snprintf(text, sizeof text, CARD_HEAD CARD_ROWS CARD_TRAIN "claims: ['%s']\n", claim);
    return pith_card_parse(ctx, "card.yaml", text, (size_t)n, false, card);
}

/* ours.acc 1 2 3, dense.acc 2 2 2, ours.bytes 10, dense.bytes 40; the row `other` was not measured */
static const double measured[3][2][3] = {{{1, 2, 3}, {10, 10, 10}}, {{2, 2, 2}, {40, 40, 40}}, {{NAN, NAN, NAN}, {NAN, NAN, NAN}}};
static pith_row_values values(double *at)
{
    memcpy(at, measured, sizeof measured);
    return (pith_row_values){3, 2, 3, at};
}

static void test_judge(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        pith_verdict verdict;
        const char *numbers;
    } cases[] = {
        {"ours.acc == dense.acc", PITH_HOLDS, "2 ± 1 == 2 ± 0"},
        {"ours.acc > dense.acc", PITH_FAILS, "2 ± 1 > 2 ± 0"},
        {"ours.acc >= dense.acc - 0.01", PITH_HOLDS, "2 ± 1 >= 1.99 ± 0"},
        {"ours.bytes < 0.5 * dense.bytes", PITH_HOLDS, "10 ± 0 < 20 ± 0"},
        {"ours.bytes != 10", PITH_FAILS, NULL},
        {"ours.bytes <= 10 and ours.acc < 2", PITH_FAILS, "10 ± 0 <= 10; 2 ± 1 < 2"},
        {"ours.bytes < 10 or ours.acc < 3", PITH_HOLDS, NULL},
        /* `and` binds before `or`, brackets before both */
        {"1 < 2 or 1 < 2 and 2 < 1", PITH_HOLDS, NULL},
        {"(1 < 2 or 1 < 2) and 2 < 1", PITH_FAILS, NULL},
        {"1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and 8 / 4 / 2 == 1 and 5 - 2 - 1 == 2", PITH_HOLDS, NULL},
        {"-2 * -3 == 6 and --1 == 1 and -ours.acc == -2", PITH_HOLDS, NULL},
        {"min(ours.acc) == 1 and max(ours.acc) == 3 and mean(ours.acc) == 2 and std(ours.acc) == 1", PITH_HOLDS, NULL},
        /* by seed: 1/2, 2/2, 3/2 */
        {"min(ours.acc / dense.acc) == 0.5 and max(ours.acc - dense.acc) == 1", PITH_HOLDS, NULL},
        {"least(ours.acc, dense.bytes, 1.5) == 1.5 and most(1, 2, ours.acc, 0) == 2 and least(4) == 4", PITH_HOLDS, NULL},
        {"abs(ours.acc - 5) == 3 and log2(8) == 3", PITH_HOLDS, NULL},
        {"other.acc < 1", PITH_UNJUDGED, "? < 1"},
        {"other.acc < 1 or 1 < 2", PITH_HOLDS, NULL},
        {"other.acc < 1 and 1 < 2", PITH_UNJUDGED, NULL},
        {"other.acc < 1 and 2 < 1", PITH_FAILS, NULL},
        {"1 / 0 > 1", PITH_UNJUDGED, "? > 1"},
        {"1e3 == 1000 and .5 == 0.5", PITH_HOLDS, NULL},
    };
    pith_ctx *ctx = test_ctx(1);
    double at[18];
    pith_row_values v = values(at);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_card *card = NULL;
        char numbers[512];
        assert_ok(ctx, parse(ctx, cases[i].claim, &card));
        pith_verdict verdict = pith_claim_judge(card->claims[0].parsed, &v, numbers, sizeof numbers);
        if (verdict != cases[i].verdict) fail_msg("%s: verdict %d, numbers %s", cases[i].claim, verdict, numbers);
        if (cases[i].numbers) assert_string_equal(numbers, cases[i].numbers);
        for (size_t size = 0; size < 12; size++) { /* cut, but not within a character */
            char small[16] = "untouched";
            pith_claim_judge(card->claims[0].parsed, &v, small, size);
            assert_true(!size || (strlen(small) < size && strncmp(small, numbers, strlen(small)) == 0));
            for (size_t k = strlen(small); size && k-- > 0 && (unsigned char)small[k] >= 0x80;) assert_true(((unsigned char)small[k] & 0xc0) == 0x80 && k > 0);
        }
        pith_card_free(card);
    }
    pith_ctx_free(ctx);
}

static void test_one_seed(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_card *card = NULL;
    double at[6] = {0.25, 7, 0.5, 9, 0, 0};
    char numbers[64];
    assert_ok(ctx, parse(ctx, "std(ours.acc) == 0 and ours.acc < dense.acc", &card));
    assert_int_equal(pith_claim_judge(card->claims[0].parsed, &(pith_row_values){3, 2, 1, at}, numbers, sizeof numbers), PITH_HOLDS);
    assert_string_equal(numbers, "0 == 0; 0.25 < 0.5");
    pith_card_free(card);
    pith_ctx_free(ctx);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        int column; /* of the file; the claim begins at 11 */
        const char *says;
    } cases[] = {
        {"ours.acc", 19, "expected a comparison"},
        {"ours.acc >", 21, "expected a number, row.measure or a function"},
        {"ours.acc > 1 2", 24, "expected the end"},
        {"nobody.acc > 1", 11, "'nobody' is no row"},
        {"ours.size > 1", 16, "'size' is no measure"},
        {"ours > 1", 15, "expected '.' and a measure after the row 'ours'"},
        {"(ours.acc > 1", 24, "expected ')'"},
        {"min(ours.acc > 1) < 2", 24, "expected ')'"},
        {"(ours.acc > 1) + 1 > 2", 11, "expected a number, found a comparison"},
        {"1 + (1 < 2) > 2", 14, "expected a number, found a comparison"},
        {"1 < 2 < 3", 17, "expected the end"},
        {"1 and 1 < 2", 11, "expected a comparison before 'and'"},
        {"1 < 2 or 3", 20, "expected a comparison after 'or'"},
        {"sum(1, 2) > 1", 11, "'sum' is no row"},
        {"least() > 1", 17, "expected a number"},
        {"1 ! 2", 13, "expected the end"},
    };
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_card *card = NULL;
        char place[64];
        snprintf(place, sizeof place, "card.yaml:15:%d: ", cases[i].column);
        assert_int_equal(parse(ctx, cases[i].claim, &card), PITH_E_FORMAT);
        if (!strstr(pith_error(ctx), place) || !strstr(pith_error(ctx), cases[i].says)) fail_msg("%s: %s; expected %s%s", cases[i].claim, pith_error(ctx), place, cases[i].says);
    }
    char deep[200], wide[1100];
    pith_card *card = NULL;
    memset(deep, '(', sizeof deep);
    deep[sizeof deep - 1] = 0;
    assert_int_equal(parse(ctx, deep, &card), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(ctx), "nested too deeply"));
    memset(deep, '-', sizeof deep - 1);
    assert_int_equal(parse(ctx, deep, &card), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(ctx), "nested too deeply"));
    memset(wide, '1', sizeof wide);
    wide[sizeof wide - 1] = 0;
    assert_int_equal(parse(ctx, wide, &card), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(ctx), "at most 1000 characters"));
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_one_seed),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
