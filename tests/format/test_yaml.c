/* YAML into structs: what is read, and where each error is said to be. */
#include "format/yaml.h"
#include "test.h"

typedef struct inner {
    double rate;
    uint64_t steps;
} inner;
typedef struct outer {
    bool flag;
    uint64_t count;
    double number;
    const char *text;
    int choice;
    pith_counts counts;
    pith_numbers numbers;
    pith_names names;
    pith_pairs pairs;
    inner group;
    pith_yaml *node;
} outer;

static const pith_key inner_keys[] = {
    {"rate", PITH_KEY_NUMBER, offsetof(inner, rate), .required = true, .min = 0.1, .max = 2, .help = "how fast"},
    {"steps", PITH_KEY_STEPS, offsetof(inner, steps), .required = false},
    {0},
};
static const pith_key keys[] = {
    {"flag", PITH_KEY_FLAG, offsetof(outer, flag), .required = false},
    {"count", PITH_KEY_COUNT, offsetof(outer, count), .min = 1, .max = 5e6},
    {"number", PITH_KEY_NUMBER, offsetof(outer, number), .required = false},
    {"text", PITH_KEY_TEXT, offsetof(outer, text), .required = false},
    {"choice", PITH_KEY_CHOICE, offsetof(outer, choice), .choices = "sgd|adamw|muon"},
    {"counts", PITH_KEY_COUNTS, offsetof(outer, counts), .required = false},
    {"numbers", PITH_KEY_NUMBERS, offsetof(outer, numbers), .required = false},
    {"names", PITH_KEY_NAMES, offsetof(outer, names), .required = false},
    {"pairs", PITH_KEY_PAIRS, offsetof(outer, pairs), .required = false},
    {"group", PITH_KEY_GROUP, offsetof(outer, group), .fields = inner_keys},
    {"node", PITH_KEY_NODE, offsetof(outer, node), .required = false},
    {0},
};

/* Parse and fill; the sentence stays in ctx. */
static pith_status read_text(pith_ctx *ctx, pith_arena *arena, const char *text, bool partial, outer *o)
{
    pith_yaml *root;
    PITH_TRY(pith_yaml_parse(arena, ctx, "card.yaml", text, strlen(text), &root));
    return pith_yaml_fill(arena, ctx, root, keys, partial, o);
}

static void test_values(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_arena *arena = pith_arena_new(ctx);
    outer o = {.number = 7};
    assert_ok(ctx, read_text(ctx, arena,
                             "flag: true\ncount: 2M\ntext: \"3\"\nchoice: muon\ncounts: [1, 2k]\nnumbers: [1e-3, -2]\nnames: [a, b c]\n"
                             "pairs:\n  x: one\n  y: >-\n    two\n    three\ngroup:\n  rate: 0.5\n  steps: 10\nnode: [1, {k: v}]\n",
                             false, &o));
    assert_true(o.flag);
    assert_int_equal(o.count, 2000000);
    assert_true(o.number == 7); /* not given: as it was */
    assert_string_equal(o.text, "3");
    assert_int_equal(o.choice, 2);
    assert_int_equal(o.counts.n, 2);
    assert_int_equal(o.counts.items[1], 2000);
    assert_true(o.numbers.items[0] == 1e-3 && o.numbers.items[1] == -2);
    assert_string_equal(o.names.items[1], "b c");
    assert_string_equal(o.pairs.items[1].name, "y");
    assert_string_equal(o.pairs.items[1].text, "two three");
    assert_int_equal(o.pairs.items[1].at->line, 10);
    assert_true(o.group.rate == 0.5 && o.group.steps == 10);
    assert_string_equal(pith_yaml_get(o.node->items[1], "k")->text, "v");
    assert_ok(ctx, read_text(ctx, arena, "group: {steps: 3}\n", true, &o)); /* partial: rate is not missing */
    assert_true(o.group.rate == 0.5 && o.group.steps == 3);
    pith_arena_free(arena);
    pith_ctx_free(ctx);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"flag: yes\n", "card.yaml:1:7: 'flag' is true or false, not yes"},
        {"flag: \"true\"\n", "card.yaml:1:7: 'flag' is true or false"},
        {"count: 1\nstepz: 3\n", "card.yaml:2:1: unknown key 'stepz'; expected one of: flag, count"},
        {"count: 0\n", "card.yaml:1:8: 'count' is from 1 to 5000000, not 0"},
        {"count: -3\n", "card.yaml:1:8: 'count' is a whole number"},
        {"count: 3.5\n", "card.yaml:1:8: 'count' is a whole number"},
        {"count: 99999999999999999999\n", "card.yaml:1:8: 'count' is a whole number"},
        {"count: 9999999999999999999k\n", "at most 2^53"},
        {"count: [1]\n", "card.yaml:1:8: 'count' is a whole number (2000, or 2k, 3M), not a list"},
        {"number: 1x\n", "card.yaml:1:9: 'number' is a number, not 1x"},
        {"number: nan\n", "card.yaml:1:9: 'number' is a number, not nan"},
        {"text:\n", "'text' is a text, not nothing"},
        {"choice: adam\n", "card.yaml:1:9: 'choice' is one of sgd|adamw|muon, not adam"},
        {"choice: adamwx\n", "not adamwx"},
        {"counts: 3\n", "card.yaml:1:9: 'counts' is a list, not 3"},
        {"counts: [1,\n  x]\n", "card.yaml:2:3: 'counts' is a whole number"},
        {"pairs: [a]\n", "card.yaml:1:8: 'pairs' is a map of names to texts, not a list"},
        {"group:\n  steps: 3\n", "card.yaml:2:3: 'rate' is missing: how fast"},
        {"group:\n  rate: 3\n", "card.yaml:2:9: 'rate' is from 0.1 to 2, not 3"},
        {"count: 1\ncount: 2\n", "card.yaml:2:1: the key 'count' is there already"},
        {"- a\n", "card.yaml:1:1: expected keys and values, not a list"},
        {"", "card.yaml:1:1: expected keys and values"},
        {"a: b: c\n", "card.yaml:1:5: "},
        {"text: &x y\n", "card.yaml:1:7: anchors and tags are not used here"},
        {"text: *x\n", "card.yaml:1:7: anchors and aliases"},
        {"text: !!str y\n", "card.yaml:1:7: anchors and tags"},
        {"text: \"a\\0b\"\n", "NUL"},
        {"text: a\n---\ntext: b\n", "one document"},
        {"? [a]\n: b\n", "expected a key"},
        {"text: \"open\n", "card.yaml:"},
    };
    pith_ctx *ctx = test_ctx(1);
    pith_arena *arena = pith_arena_new(ctx);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        outer o = {0};
        assert_int_equal(read_text(ctx, arena, cases[i].text, false, &o), PITH_E_FORMAT);
        if (!strstr(pith_error(ctx), cases[i].says)) fail_msg("%s gives '%s', not '%s'", cases[i].text, pith_error(ctx), cases[i].says);
    }
    char deep[128];
    memset(deep, '[', sizeof deep);
    pith_yaml *root;
    assert_int_equal(pith_yaml_parse(arena, ctx, "deep", deep, sizeof deep, &root), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(ctx), "nested too deeply"));
    assert_int_equal(pith_yaml_parse(arena, ctx, "long", deep, PITH_YAML_MAX_BYTES + 1, &root), PITH_E_LIMIT);
    pith_arena_free(arena);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_arena *arena = pith_arena_new(ctx);
    outer o = {0};
    pith_status status = arena ? read_text(ctx, arena, "names: [a, b]\npairs: {x: y}\ngroup: {rate: 1}\n", false, &o) : PITH_E_MEMORY;
    pith_arena_free(arena);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault(life, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
