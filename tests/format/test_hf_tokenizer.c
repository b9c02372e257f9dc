/* tokenizer.json and tokenizer_config.json that lie: a clear error, never a guess, a cut text or memory for what is not there. */
#include "../test.h"

#include "format/hf_tokenizer.h"

#define PRE "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define BPE(vocab, more) "{" PRE ",\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[]}" more "}"
#define UNIGRAM(vocab) "{\"pre_tokenizer\":{\"type\":\"Metaspace\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[" vocab "]}}"
#define D10 "[[[[[[[[[["
#define D50 D10 D10 D10 D10 D10

static pith_status read_vocab(pith_ctx *ctx, pith_arena *arena, const char *json, size_t len, const char *config, pith_vocab *v)
{
    return pith_hf_vocab_read(ctx, arena, json, len, config, config ? strlen(config) : 0, v);
}

static void refuses_lies(void **state)
{
    static const struct { const char *json, *config; pith_status status; const char *sentence; } cases[] = {
        {BPE("\"a\":0", ""), NULL, PITH_OK, ""},
        {BPE("\"a\":0,\"a\":1", ""), NULL, PITH_E_FORMAT, "tokenizer.json: vocab: \"a\" is there twice"},
        {BPE("\"a\":0,\"b\":0", ""), NULL, PITH_E_FORMAT, "tokenizer.json: vocab: \"a\" and \"b\" both have the id 0"},
        {BPE("\"a\":0", ",\"model\":{}"), NULL, PITH_E_FORMAT, "\"model\" is there twice"},
        {BPE("\"a\":0", ",\"x\":" D50 D50), NULL, PITH_E_LIMIT, "tokenizer.json: lists and objects deeper than 100"},
        {BPE("\"a\":0,\"b\":4294967296", ""), NULL, PITH_E_FORMAT, "entry 1 of vocab"},
        {BPE("\"a\":0,\"b\":1e999", ""), NULL, PITH_E_FORMAT, "entry 1 of vocab"},
        {BPE("\"a\":0,\"b\":2147483646", ""), NULL, PITH_E_LIMIT, "the highest id is 2147483646, but there are only 2 tokens"},
        {BPE("\"a\":0,\"b\":[\"c\",1]", ""), NULL, PITH_E_FORMAT, "entry 1 of vocab"},
        {BPE("\"a\":0,\"b\":{\"content\":\"c\",\"id\":1}", ""), NULL, PITH_E_FORMAT, "entry 1 of vocab"},
        {UNIGRAM("[\"a\",-1],[\"b\",-2]"), NULL, PITH_OK, ""},
        {UNIGRAM("[\"a\",-1],[\"b\",1e999]"), NULL, PITH_E_FORMAT, "entry 1 of vocab is not a token with its id or score"},
        {UNIGRAM("[\"a\",-1],[\"b\",-1e300]"), NULL, PITH_E_FORMAT, "entry 1 of vocab"},
        {UNIGRAM("[\"a\",-1],{\"content\":\"b\",\"id\":1}"), NULL, PITH_E_FORMAT, "entry 1 of vocab"},
        {BPE("\"a\":0", ""), "{\"bos_token\":\"a\",\"bos_token\":\"b\"}", PITH_E_FORMAT, "tokenizer_config.json: \"bos_token\" is there twice"},
        {BPE("\"a\":0", ""), "{\"bos_token\":" D50 D50 "}", PITH_E_LIMIT, "tokenizer_config.json: lists and objects deeper than 100"},
        {BPE("\"a\":0", ""), "[]", PITH_E_FORMAT, "tokenizer_config.json: no JSON object"},
        {BPE("\"a\":0", ""), "{\n\"bos_token\":x}", PITH_E_FORMAT, "tokenizer_config.json: not valid JSON at line 2, column 13"},
        {BPE("\"a\":0", "") "x", NULL, PITH_E_FORMAT, "tokenizer.json: not valid JSON"},
        /* U+FFFF stands for NUL while a file is read, so both cannot be had */
        {BPE("\"a\\u0000\":0,\"\xEF\xBF\xBF\":1", ""), NULL, PITH_E_FORMAT, "tokenizer.json: a NUL character at byte"},
        {BPE("\"a\\u0000\":0,\"\\uFFFF\":1", ""), NULL, PITH_E_FORMAT, "tokenizer.json: a NUL character at byte"},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_arena *arena = pith_arena_new(*state);
        pith_vocab v;
        pith_status status = read_vocab(*state, arena, cases[i].json, strlen(cases[i].json), cases[i].config, &v);
        if (status != cases[i].status || (status != PITH_OK && !strstr(pith_error(*state), cases[i].sentence)))
            fail_msg("%s %s: %s, \"%s\"; expected \"%s\"", cases[i].json, cases[i].config ? cases[i].config : "", pith_status_text(status), pith_error(*state), cases[i].sentence);
        pith_arena_free(arena);
    }
    static const char raw[] = BPE("\"a\0b\":0", "");
    pith_arena *arena = pith_arena_new(*state);
    pith_vocab v;
    assert_int_equal(read_vocab(*state, arena, raw, sizeof raw - 1, NULL, &v), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(*state), "a NUL character at byte"));
    pith_arena_free(arena);
}

/* Every text of the file may hold the escape of NUL. */
static void keeps_nul(void **state)
{
    static const char json[] = "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\\u0000\"},\"content\":\"\\u0000\\u0000\"}," PRE
                               ",\"added_tokens\":[{\"id\":2,\"content\":\"<\\u0000>\"}],"
                               "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\\u0000b\":0,\"\\\\u0000\":1},\"merges\":[\"a \\u0000b\"]}}";
    pith_arena *arena = pith_arena_new(*state);
    pith_vocab v;
    assert_ok(*state, read_vocab(*state, arena, json, sizeof json - 1, "{\"eos_token\":\"\\\\u0000\",\"chat_template\":\"a\\u0000\"}", &v));
    assert_true(v.tokens[0].len == 3 && !memcmp(v.tokens[0].s, "a\0b", 3));
    assert_true(v.tokens[1].len == 6 && !memcmp(v.tokens[1].s, "\\u0000", 6));
    assert_true(v.tokens[2].len == 3 && !memcmp(v.tokens[2].s, "<\0>", 3));
    assert_true(v.merges[0].len == 4 && !memcmp(v.merges[0].s, "a \0b", 4));
    assert_true(v.steps[0].from.len == 2 && !memcmp(v.steps[0].from.s, "x\0", 2));
    assert_true(v.steps[0].to.len == 2 && !memcmp(v.steps[0].to.s, "\0\0", 2));
    assert_true(v.eos == 1 && v.chat_template.len == 2 && !memcmp(v.chat_template.s, "a\0", 2));
    pith_arena_free(arena);
}

/* More JSON than a file may have. */
static void limits_size(void **state)
{
    size_t n = (size_t)9 << 20, head;
    char *json = malloc(n + 64);
    assert_non_null(json);
    head = (size_t)sprintf(json, "{\"model\":[");
    memset(json + head, ',', n);
    memcpy(json + head + n, "]}", 3);
    pith_arena *arena = pith_arena_new(*state);
    pith_vocab v;
    assert_int_equal(read_vocab(*state, arena, json, head + n + 2, NULL, &v), PITH_E_LIMIT);
    assert_non_null(strstr(pith_error(*state), "tokenizer.json: about"));
    pith_arena_free(arena);
    free(json);
}

static int setup(void **state)
{
    pith_options o = {.n_threads = 1, .memory_limit = (size_t)8 << 20};
    return pith_ctx_new(&o, (pith_ctx **)state) != PITH_OK;
}

static int teardown(void **state)
{
    pith_ctx_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_lies), cmocka_unit_test(keeps_nul), cmocka_unit_test(limits_size)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
