/* Chat prompts: equal to what Jinja makes of the same templates; what is not known is refused. */
#include "test.h"

#include <time.h>

#include "text/tokenizer.h"

typedef struct sample {
    const char *template;
    const char *want[6];   /* conversation A opened, A, B opened, B, C opened, C */
} sample;

#include "chat_samples.h"

static const pith_message a[] = {{"user", "Hi"}};
static const pith_message b[] = {{"system", " Be brief. "}, {"user", "  Hi there\n"}, {"assistant", " Hello! "}, {"user", "Bye"}};
static const pith_message c[] = {{"user", "Hi"}, {"assistant", "Ho\xC2\xA0"}};
static const struct {
    const pith_message *messages;
    size_t n;
} conversations[] = {{a, 1}, {b, 4}, {c, 2}};

static pith_tokenizer *tokenizer(pith_ctx *ctx, const char *template)
{
    pith_str tokens[] = {{"<s>", 3}, {"</s>", 4}, {"a", 1}};
    uint8_t types[] = {PITH_TOKEN_CONTROL, PITH_TOKEN_CONTROL, PITH_TOKEN_NORMAL};
    pith_vocab v = {.kind = PITH_VOCAB_BPE, .pre = "gpt-2", .n_tokens = 3, .tokens = tokens, .types = types, .bos = 0, .eos = 1, .unk = -1, .pad = -1, .eot = -1,
                    .chat_template = {template, strlen(template)}};
    pith_tokenizer *tok = NULL;
    assert_ok(ctx, pith_tokenizer_new(ctx, &v, &tok));
    return tok;
}

static void test_samples(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(samples); i++) {
        pith_tokenizer *tok = tokenizer(ctx, samples[i].template);
        for (size_t k = 0; k < 6; k++) {
            char *text = NULL;
            const char *want = samples[i].want[k];
            pith_status status = pith_chat_format(ctx, tok, conversations[k / 2].messages, conversations[k / 2].n, k % 2 == 0, &text);
            if (!want) {
                assert_int_equal(status, PITH_E_ARGUMENT);
                assert_null(text);
                continue;
            }
            if (status != PITH_OK) fail_msg("template %zu: %s", i, pith_error(ctx));
            assert_string_equal(text, want);
            pith_free(ctx, text);
        }
        pith_tokenizer_free(ctx, tok);
    }
    pith_ctx_free(ctx);
}

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    char *copy = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(copy);
    sprintf(copy, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return copy;
}

/* Each of these changes makes the template write something else; a recognition that looked at parts only would not see it. */
static void test_unknown(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"<|im_end|>", "<|end|>"}, {"assistant\\n", "bot\\n"}, {"{% for", "{{ 'x' }}{% for"}, {"message['content']", "message['content'] | trim"},
        {"{% endfor %}", "{% endfor %} "}, {"'user'", "'human'"}, {"<|eot_id|>", "<|end|>"}, {"'[INST] '", "'[INST]'"}, {"[/INST]", "[/INS]"}, {"content.strip()", "content"},
        {"messages[0]['content'] + '<|im_end|>", "messages[0]['content'] + '"}, {"December", "January"}, {"eos_token", "bos_token"}, {"{{- \" \" +", "{{- \"  \" +"},
    };
    pith_ctx *ctx = test_ctx(1);
    size_t n_changed = 0;
    for (size_t i = 0; i < PITH_COUNT(samples); i++) {
        for (size_t k = 0; k < PITH_COUNT(changes); k++) {
            if (!strstr(samples[i].template, changes[k][0])) continue;
            char *template = replaced(samples[i].template, changes[k][0], changes[k][1]), *text = NULL;
            pith_tokenizer *tok = tokenizer(ctx, template);
            pith_status status = pith_chat_format(ctx, tok, a, 1, true, &text);
            if (status != PITH_E_UNSUPPORTED) fail_msg("template %zu with %s for %s: status %d", i, changes[k][1], changes[k][0], (int)status);
            assert_null(text);
            n_changed++;
            pith_tokenizer_free(ctx, tok);
            free(template);
        }
    }
    assert_true(n_changed > 25);
    static const char *const others[] = {"", "{", "{{", "{{ 'a", "{%", "{#", "{% for message in messages %}{{ message }}{% endfor %}", "plain", "{{'<|im_start|>'}}{% x %}"};
    for (size_t i = 0; i < PITH_COUNT(others); i++) {
        pith_tokenizer *tok = tokenizer(ctx, others[i]);
        char *text = NULL;
        assert_int_equal(pith_chat_format(ctx, tok, a, 1, true, &text), PITH_E_UNSUPPORTED);
        assert_null(text);
        pith_tokenizer_free(ctx, tok);
    }
    pith_ctx_free(ctx);
}

static void test_roles(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    char *text = NULL;
    pith_tokenizer *tok = tokenizer(ctx, samples[0].template);
    assert_int_equal(pith_chat_format(ctx, tok, &(pith_message){"tool", "x"}, 1, true, &text), PITH_E_ARGUMENT);
    assert_int_equal(pith_chat_format(ctx, tok, a, 0, true, &text), PITH_E_ARGUMENT);
    assert_null(text);
    pith_tokenizer_free(ctx, tok);
    pith_ctx_free(ctx);
}

/* Llama 3.2 writes the day it runs on. */
static void test_today(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t i = 0;
    while (i < PITH_COUNT(samples) && !strstr(samples[i].template, "26 Jul 2024")) i++;
    assert_true(i < PITH_COUNT(samples));
    char *template = replaced(samples[i].template, "{%- set date_string = \"26 Jul 2024\" %}",
        "{%- if strftime_now is defined %}{%- set date_string = strftime_now(\"%d %b %Y\") %}{%- else %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}");
    pith_tokenizer *tok = tokenizer(ctx, template);
    char *text = NULL, want[64];
    time_t now = time(NULL);
    strftime(want, sizeof want, "\nToday Date: %d %b %Y\n\n<|eot_id|>", localtime(&now));
    assert_ok(ctx, pith_chat_format(ctx, tok, a, 1, true, &text));
    time_t then = time(NULL);
    if (now / 3600 == then / 3600) assert_non_null(strstr(text, want)); /* not across midnight */
    pith_free(ctx, text);
    pith_tokenizer_free(ctx, tok);
    free(template);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_samples), cmocka_unit_test(test_unknown), cmocka_unit_test(test_roles), cmocka_unit_test(test_today)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
