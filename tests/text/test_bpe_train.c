/* Learning a BPE against the same done by counting everything anew in each step, and through its files. */
#include <unistd.h>

#include "format/hf_tokenizer.h"
#include "test.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"

static const char *const controls[] = {"<|endoftext|>", "<|pad|>"};

/* ---- plainly ---------------------------------------------------------------------------------- */

enum { MOST = 1300 };

/* Words as strings of tokens' texts; here a word is a run of letters with the space before it, as all test texts
 * have nothing but lower-case letters and single spaces. */
typedef struct plain {
    int sym[MOST], start[MOST]; /* start: a word begins here */
    size_t n;
    char token[512][MOST];
    size_t n_tokens;
    char merges[512][2 * MOST];
    size_t n_merges;
} plain;

static int plain_find(const plain *p, const char *text)
{
    for (size_t i = 0; i < p->n_tokens; i++)
        if (strcmp(p->token[i], text) == 0) return (int)i;
    return -1;
}

/* first: the vocabulary before merges, from the result under test */
static void plain_train(plain *p, const char *text, const pith_vocab *v, size_t n_first, size_t n_tokens)
{
    p->n_tokens = n_first;
    for (size_t i = 0; i < n_first; i++) snprintf(p->token[i], sizeof p->token[i], "%s", v->tokens[i].s);
    for (p->n = 0; text[p->n]; p->n++) {
        char letter[8];
        snprintf(letter, sizeof letter, text[p->n] == ' ' ? "\u0120" : "%c", text[p->n]);
        p->sym[p->n] = plain_find(p, letter);
        assert_true(p->sym[p->n] >= 0);
        p->start[p->n] = p->n == 0 || text[p->n] == ' ';
    }
    while (p->n_tokens < n_tokens) {
        long best = 0;
        int left = -1, right = -1;
        for (size_t i = 0; i + 1 < p->n; i++) {
            if (p->start[i + 1]) continue;
            long count = 0;
            for (size_t k = 0; k + 1 < p->n; k++) count += !p->start[k + 1] && p->sym[k] == p->sym[i] && p->sym[k + 1] == p->sym[i + 1];
            bool better = count > best || (count == best && (p->sym[i] < left || (p->sym[i] == left && p->sym[i + 1] < right)));
            if (better) best = count, left = p->sym[i], right = p->sym[i + 1];
        }
        if (best < 2) break;
        static char joined[2 * MOST], a[MOST], b[MOST];
        snprintf(a, sizeof a, "%s", p->token[left]);
        snprintf(b, sizeof b, "%s", p->token[right]);
        snprintf(joined, sizeof joined, "%s%s", a, b);
        assert_int_equal(plain_find(p, joined), -1); /* no two pairs make the same */
        int id = (int)p->n_tokens;
        strcpy(p->token[p->n_tokens++], joined);
        snprintf(p->merges[p->n_merges++], sizeof *p->merges, "%s %s", a, b);
        size_t n = 0;
        for (size_t i = 0; i < p->n; i++, n++) {
            bool here = i + 1 < p->n && !p->start[i + 1] && p->sym[i] == left && p->sym[i + 1] == right;
            p->sym[n] = here ? id : p->sym[i];
            p->start[n] = p->start[i];
            i += here;
        }
        p->n = n;
    }
}

/* Words of few letters, so that runs and repeats are many. */
static void make_text(char *text, size_t n, unsigned letters, unsigned word_len, uint64_t seed)
{
    pith_rng rng = {.seed = seed};
    for (size_t i = 0; i < n; i++) {
        bool space = i && i + 1 < n && text[i - 1] != ' ' && pith_rng_below(&rng, word_len) == 0;
        text[i] = space ? ' ' : (char)('a' + pith_rng_below(&rng, letters));
    }
    text[n] = 0;
}

static void test_against_plain(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static plain p;
    static char text[1200];
    for (uint64_t seed = 0; seed < 60; seed++) {
        make_text(text, 300 + 40 * (seed % 20), seed % 4 == 3 ? 12 : 1 + (unsigned)seed % 4, seed % 3 ? 6 : 40, seed);
        pith_arena *arena = pith_arena_new(ctx);
        pith_vocab v;
        pith_bpe_options o = {.n_tokens = 256 + 2 + 60, .controls = controls, .n_controls = 2};
        assert_ok(ctx, pith_bpe_train(ctx, arena, &(pith_str){text, strlen(text)}, 1, &o, &v));
        memset(&p, 0, sizeof p);
        plain_train(&p, text, &v, 258, o.n_tokens);
        assert_int_equal(v.n_merges, p.n_merges);
        assert_true(v.n_merges > 2);
        for (size_t i = 0; i < v.n_merges; i++) assert_string_equal(v.merges[i].s, p.merges[i]);
        assert_int_equal(v.n_tokens, p.n_tokens);
        for (size_t i = 0; i < v.n_tokens; i++) assert_string_equal(v.tokens[i].s, p.token[i]);
        pith_arena_free(arena);
    }
    pith_ctx_free(ctx);
}

/* ---- through files ---------------------------------------------------------------------------- */

static void check_ids(pith_ctx *ctx, const pith_tokenizer *a, const pith_tokenizer *b, const char *text, size_t len)
{
    pith_ids x = {0}, y = {0};
    assert_ok(ctx, pith_tokenize(ctx, a, text, len, PITH_TOKENIZE_SPECIAL, &x));
    assert_ok(ctx, pith_tokenize(ctx, b, text, len, PITH_TOKENIZE_SPECIAL, &y));
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.ids, y.ids, x.n * sizeof *x.ids);
    char buf[64];
    size_t at = 0;
    for (size_t i = 0; i < x.n; i++) {
        size_t n = pith_token_text(a, x.ids[i], true, buf, sizeof buf);
        assert_true(n <= sizeof buf && at + n <= len && memcmp(text + at, buf, n) == 0);
        at += n;
    }
    assert_int_equal(at, len);
    pith_ids_free(ctx, &x);
    pith_ids_free(ctx, &y);
}

static void test_files(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    char text[3000], folder[] = "bpe-XXXXXX", json[64], config[64];
    pith_rng rng = {.seed = 1};
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)pith_rng_below(&rng, i < 1500 ? 256 : 0x60); /* any bytes, NUL too */
    memcpy(text + 200, "<|endoftext|>", 13);
    assert_non_null(mkdtemp(folder));
    snprintf(json, sizeof json, "%s/tokenizer.json", folder);
    snprintf(config, sizeof config, "%s/tokenizer_config.json", folder);
    for (int smollm = 0; smollm < 2; smollm++) {
        pith_arena *arena = pith_arena_new(ctx);
        pith_vocab v, read;
        pith_bpe_options o = {.n_tokens = 290, .pre = smollm ? "smollm" : NULL, .controls = controls, .n_controls = 2};
        assert_ok(ctx, pith_bpe_train(ctx, arena, &(pith_str){text, sizeof text}, 1, &o, &v));
        assert_int_equal(v.n_tokens, 290);
        assert_ok(ctx, pith_hf_vocab_write(ctx, &v, json, config));
        pith_map a, b;
        assert_ok(ctx, pith_map_open(ctx, json, &a));
        assert_ok(ctx, pith_map_open(ctx, config, &b));
        assert_ok(ctx, pith_hf_vocab_read(ctx, arena, (const char *)a.data, a.len, (const char *)b.data, b.len, &read));
        assert_int_equal(read.bos, 0);
        assert_int_equal(read.eos, 0);
        assert_string_equal(read.pre, v.pre);
        pith_tokenizer *made, *again;
        assert_ok(ctx, pith_tokenizer_new(ctx, &v, &made));
        assert_ok(ctx, pith_tokenizer_new(ctx, &read, &again));
        check_ids(ctx, made, again, text, sizeof text);
        assert_int_equal(pith_tokenizer_find(made, "<|pad|>", 7), 1);
        pith_tokenizer_free(ctx, made);
        pith_tokenizer_free(ctx, again);
        pith_map_close(ctx, &a);
        pith_map_close(ctx, &b);
        if (smollm) { /* digits stand alone */
            for (size_t i = 258; i < read.n_tokens; i++)
                for (size_t k = 0; read.tokens[i].len > 1 && k < read.tokens[i].len; k++) assert_false(read.tokens[i].s[k] >= '0' && read.tokens[i].s[k] <= '9');
        }
        snprintf(v.pre, sizeof v.pre, "other");
        assert_int_equal(pith_hf_vocab_write(ctx, &v, json, NULL), PITH_E_UNSUPPORTED);
        pith_arena_free(arena);
    }
    unlink(json);
    unlink(config);
    rmdir(folder);
    pith_ctx_free(ctx);
}

/* ---- limits ----------------------------------------------------------------------------------- */

static void test_limits(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_arena *arena = pith_arena_new(ctx);
    pith_vocab v;
    static const char *const twice[] = {"<a>", "<a>"}, *const letter[] = {"x"}, *const empty[] = {""};
    const struct {
        pith_bpe_options o;
        const char *word;
    } refused[] = {{{.n_tokens = 255}, "255"}, {{.n_tokens = 300, .controls = twice, .n_controls = 2}, "twice"}, {{.n_tokens = 300, .controls = letter, .n_controls = 1}, "letter"},
                   {{.n_tokens = 300, .controls = empty, .n_controls = 1}, "empty"}, {{.n_tokens = 300, .pre = "bert"}, "bert"}};
    for (size_t i = 0; i < PITH_COUNT(refused); i++) {
        assert_int_equal(pith_bpe_train(ctx, arena, NULL, 0, &refused[i].o, &v), PITH_E_ARGUMENT);
        assert_non_null(strstr(pith_error(ctx), refused[i].word));
    }
    /* no text, or too little: fewer tokens; words end with their text */
    assert_ok(ctx, pith_bpe_train(ctx, arena, NULL, 0, &(pith_bpe_options){.n_tokens = 300}, &v));
    assert_int_equal(v.n_tokens, 256);
    const pith_str texts[] = {{"ab", 2}, {"", 0}, {"ab", 2}, {"b", 1}, {"a", 1}};
    assert_ok(ctx, pith_bpe_train(ctx, arena, texts, 5, &(pith_bpe_options){.n_tokens = 300}, &v));
    assert_int_equal(v.n_merges, 1);
    assert_string_equal(v.merges[0].s, "a b");
    assert_ok(ctx, pith_bpe_train(ctx, arena, texts, 5, &(pith_bpe_options){.n_tokens = 300, .min_count = 3}, &v));
    assert_int_equal(v.n_merges, 0);
    static const char *const ab[] = {"ab"};
    const pith_str longer = {"abc abc abc xab xab", 19};
    assert_ok(ctx, pith_bpe_train(ctx, arena, &longer, 1, &(pith_bpe_options){.n_tokens = 300, .controls = ab, .n_controls = 1}, &v));
    for (size_t i = 0; i < v.n_merges; i++) assert_string_not_equal(v.merges[i].s, "a b");
    assert_true(v.n_merges > 1);
    assert_int_equal(v.types[0], PITH_TOKEN_CONTROL);
    pith_arena_free(arena);
    pith_ctx_free(ctx);
}

static pith_status whole_life(pith_ctx *ctx, const void *user)
{
    const char *text = user;
    pith_arena *arena = pith_arena_new(ctx);
    pith_vocab v;
    if (!arena) return PITH_E_MEMORY;
    pith_status status = pith_bpe_train(ctx, arena, &(pith_str){text, strlen(text)}, 1, &(pith_bpe_options){.n_tokens = 280, .controls = controls, .n_controls = 2}, &v);
    pith_arena_free(arena);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    static char text[400];
    make_text(text, 380, 5, 6, 3);
    assert_in_range(test_every_fault(whole_life, text), 20, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_plain), cmocka_unit_test(test_files), cmocka_unit_test(test_limits), cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
