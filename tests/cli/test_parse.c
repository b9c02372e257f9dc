/* Parsing by table, sizes, suggestions, and how figures are written. */
#include <math.h>

#include "cli/cli.h"
#include "test.h"

/* what main.c provides in the program */
const pith_arg pith_global_options[] = {
    {"threads", 't', PITH_ARG_INT, "N", offsetof(pith_globals, threads), .min = 1, .max = 1024, .help = "threads"},
    {"verbose", 'v', PITH_ARG_COUNT, NULL, offsetof(pith_globals, verbose), .help = "more"},
    {"quiet", 'q', PITH_ARG_FLAG, NULL, offsetof(pith_globals, quiet), .help = "less"},
    {"help", 'h', PITH_ARG_FLAG, NULL, offsetof(pith_globals, help), .help = "help"},
    {0},
};
void pith_terminal_clear(pith_terminal *terminal) { (void)terminal; }

typedef struct args {
    bool flag;
    int64_t number;
    double real;
    uint64_t size;
    const char *text, *first, *second;
    int choice;
    pith_texts list;
} args;

static const pith_arg options[] = {
    {"flag", 'f', PITH_ARG_FLAG, NULL, offsetof(args, flag), .help = "flag"},
    {"number", 'n', PITH_ARG_INT, "N", offsetof(args, number), .fallback = "7", .min = -10, .max = 100, .help = "number"},
    {"real", 0, PITH_ARG_REAL, "X", offsetof(args, real), .fallback = "0.5", .help = "real"},
    {"size", 's', PITH_ARG_SIZE, "SIZE", offsetof(args, size), .help = "size"},
    {"text", 0, PITH_ARG_TEXT, "TEXT", offsetof(args, text), .help = "text"},
    {"choice", 'c', PITH_ARG_CHOICE, "C", offsetof(args, choice), .choices = "red|green|blue", .fallback = "green", .help = "choice"},
    {"list", 'l', PITH_ARG_TEXTS, "TEXT", offsetof(args, list), .help = "list"},
    {0},
};
static const pith_positional positionals[] = {
    {"FIRST", PITH_ARG_FILE, offsetof(args, first), false, "the first"},
    {"SECOND", PITH_ARG_TEXT, offsetof(args, second), true, "the second"},
    {0},
};
static const pith_command command = {.name = "test", .positionals = positionals, .options = options, .args_size = sizeof(args)};

static char message[256];

static bool parse(args *a, pith_globals *g, const char *const *words)
{
    int n = 0;
    while (words[n]) n++;
    *a = (args){0};
    *g = (pith_globals){0};
    return pith_args_parse(&command, n, (char **)(uintptr_t)words, a, g, NULL, message, sizeof message);
}
#define PARSE(...) parse(&a, &g, (const char *const[]){__VA_ARGS__, NULL})

static void test_values(void **state)
{
    (void)state;
    args a;
    pith_globals g;
    assert_true(PARSE("one"));
    assert_string_equal(a.first, "one");
    assert_null(a.second);
    assert_false(a.flag);
    assert_int_equal(a.number, 7);
    assert_true(a.real == 0.5);
    assert_int_equal(a.choice, 1);
    assert_true(PARSE("-fn5", "one", "--real=1e-3", "two", "-s", "60MB", "-vv", "--choice", "BLUE", "-t2", "--text", "-x", "-v"));
    assert_true(a.flag && a.number == 5 && a.real == 1e-3 && a.size == 60000000 && a.choice == 2 && g.verbose == 3 && g.threads == 2);
    assert_string_equal(a.second, "two");
    assert_string_equal(a.text, "-x"); /* an option's value may begin with a dash */
    assert_true(PARSE("-l", "a", "-lb", "--list=", "--", "-q"));
    assert_int_equal(a.list.n, 3);
    assert_string_equal(a.list.items[1], "b");
    assert_string_equal(a.list.items[2], "");
    assert_string_equal(a.first, "-q"); /* behind -- all are words */
    assert_false(g.quiet);
    assert_true(PARSE("-")); /* standard input */
    assert_string_equal(a.first, "-");
    assert_true(PARSE("--number", "-10", "x"));
    assert_int_equal(a.number, -10);
    assert_true(PARSE("--help")); /* asks for nothing else */
}

static void test_refusals(void **state)
{
    (void)state;
    args a;
    pith_globals g;
    const struct { const char *words[6], *part; } bad[] = {
        {{"-f"}, "FIRST is missing"},      {{"a", "b", "c"}, "unexpected argument \"c\""}, {{"a", "--numbre", "5"}, "did you mean --number"},
        {{"a", "--xyzzy"}, "unknown option --xyzzy"}, {{"a", "-x"}, "unknown option -x"}, {{"a", "--number"}, "needs a value"},
        {{"a", "-n"}, "needs a value"},    {{"a", "--number", ""}, "not a whole number"},  {{"a", "--number", "101"}, "not between -10 and 100"},
        {{"a", "--number=5.5"}, "not a whole number"}, {{"a", "--real", "inf"}, "not a number"}, {{"a", "--real", "1,5"}, "not a number"},
        {{"a", "--choice", "gree"}, "not one of red|green|blue"}, {{"a", "--flag=1"}, "takes no value"}, {{"a", "-s", "-5"}, "not a size"},
    };
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        assert_false(parse(&a, &g, bad[i].words));
        if (!strstr(message, bad[i].part)) fail_msg("\"%s\" does not say \"%s\"", message, bad[i].part);
    }
    const char *many[2 * PITH_MAX_TEXTS + 4] = {"a"};
    for (int i = 0; i <= PITH_MAX_TEXTS; i++) many[1 + i] = "-lx";
    assert_false(parse(&a, &g, many));
}

static void test_sizes(void **state)
{
    (void)state;
    const struct { const char *text; uint64_t bytes; } good[] = {
        {"0", 0}, {"123", 123}, {"60MB", 60000000}, {"60M", 60000000}, {"60mb", 60000000}, {"1.5k", 1500}, {"2KiB", 2048}, {"64MiB", 67108864},
        {"0.1GB", 100000000}, {"1.25 GiB", 1342177280}, {"1TB", 1000000000000}, {"18446744073709551615", UINT64_MAX}, {"7B", 7}, {"93.3MB", 93300000},
    };
    for (size_t i = 0; i < PITH_COUNT(good); i++) {
        uint64_t bytes = 1;
        assert_true(pith_size_parse(good[i].text, &bytes));
        if (bytes != good[i].bytes) fail_msg("%s is %llu", good[i].text, (unsigned long long)bytes);
    }
    static const char *const bad[] = {"", "MB", "-1", "1XB", "1.2.3M", "1e6", "0x10", "99999999999999999999", "60MBs", ".5M", "1000000000TB"};
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        uint64_t bytes;
        if (pith_size_parse(bad[i], &bytes)) fail_msg("\"%s\" was taken for a size", bad[i]);
    }
}

static const char *word(void *arg, size_t i) { return ((const char *const *)arg)[i]; }

static void test_nearest(void **state)
{
    (void)state;
    static const char *const words[] = {"run", "eval", "inspect", "convert", "compress", NULL};
    assert_string_equal(pith_nearest("rnu", word, (void *)(uintptr_t)words), "run");
    assert_string_equal(pith_nearest("inspct", word, (void *)(uintptr_t)words), "inspect");
    assert_string_equal(pith_nearest("compres", word, (void *)(uintptr_t)words), "compress");
    assert_string_equal(pith_nearest("conv", word, (void *)(uintptr_t)words), "convert");
    assert_null(pith_nearest("xyz", word, (void *)(uintptr_t)words));
    char longer[200];
    memset(longer, 'r', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    pith_nearest(longer, word, (void *)(uintptr_t)words); /* any answer, no overflow */
}

static void test_figures(void **state)
{
    (void)state;
    assert_string_equal(pith_text_bytes(0).s, "0 B");
    assert_string_equal(pith_text_bytes(999).s, "999 B");
    assert_string_equal(pith_text_bytes(1000).s, "1.0 kB");
    assert_string_equal(pith_text_bytes(91654321).s, "91.7 MB");
    assert_string_equal(pith_text_bytes(999600000).s, "1.0 GB");
    assert_string_equal(pith_text_bytes(UINT64_MAX).s, "18.4 EB");
    assert_string_equal(pith_text_count(134515008).s, "134.5 M");
    assert_string_equal(pith_text_count(576).s, "576");
    assert_string_equal(pith_text_duration(0.0012).s, "1.2 ms");
    assert_string_equal(pith_text_duration(0.85).s, "850 ms");
    assert_string_equal(pith_text_duration(4.21).s, "4.2 s");
    assert_string_equal(pith_text_duration(187).s, "3:07 min");
    assert_string_equal(pith_text_duration(7500).s, "2:05 h");
}

static pith_status table_of_a_row(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_table *t = pith_table_new(ctx, "l");
    pith_status status = t ? pith_table_row(t, "row") : PITH_E_MEMORY;
    pith_table_free(t);
    return status;
}

static void test_table(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t before = pith_memory_used(ctx);
    pith_table *t = pith_table_new(ctx, "lr");
    assert_ok(ctx, pith_table_row(t, "name\tn"));
    assert_ok(ctx, pith_table_row(t, "%s\t%d", "größe", 1000));
    assert_ok(ctx, pith_table_row(t, "x"));
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    assert_ok(ctx, pith_table_print(t, f));
    fclose(f);
    assert_string_equal(text, "name      n\n───────────\ngröße  1000\nx          \n");
    free(text);
    pith_table_free(pith_table_new(ctx, "lrl"));
    pith_table_free(NULL);
    assert_int_equal(pith_memory_used(ctx), before);
    pith_ctx_free(ctx);
    assert_true(test_every_fault(table_of_a_row, NULL) >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),  cmocka_unit_test(test_refusals), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_figures),  cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
