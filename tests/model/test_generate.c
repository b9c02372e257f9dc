/* Generation with a network that says what the test wants: each token is followed by the next of a list. */
#include "model/generate.h"
#include "tiny.h"

#define WORDS 12

/* GPT-2's letters for bytes, as UTF-8: those that print stand for themselves, others come from U+0100 on. */
static size_t letters(const char *bytes, char *dst)
{
    size_t n = 0;
    for (const uint8_t *b = (const uint8_t *)bytes; *b; b++) {
        unsigned letter = 0, next = 256;
        for (unsigned c = 0; c <= *b; c++) {
            bool prints = (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174;
            letter = prints ? c : next++;
        }
        if (letter < 0x80) {
            dst[n++] = (char)letter;
        } else {
            dst[n++] = (char)(0xC0 | letter >> 6);
            dst[n++] = (char)(0x80 | (letter & 63));
        }
    }
    return n;
}

/* A network, its tokenizer and a cache; token 0 begins a text, token 1 ends it, the words follow. */
typedef struct speaker {
    pith_ctx *ctx;
    tiny *t;
    pith_llama *m;
    pith_tokenizer *tok;
    pith_cache *cache;
} speaker;

static speaker speaker_new(pith_ctx *ctx, const char *const *words, size_t n_words, bool has_bos, size_t capacity)
{
    speaker s = {.ctx = ctx};
    size_t n = n_words + 2;
    pith_settings set = tiny_settings();
    set.n_layers = 1;
    set.n_vocab = (uint32_t)n;
    set.n_embd = 32;
    s.t = tiny_new(&set, TINY_F32, false, false);
    /* layers add nothing; a token's state is a one-hot vector, which the output turns into the follower's */
    static const char *const silent[] = {"blk.0.attn_output.weight", "blk.0.ffn_down.weight"};
    for (size_t k = 0; k < 2; k++) {
        tiny_tensor *t = tiny_find(&s.t->w, silent[k]);
        memset(t->x, 0, t->rows * t->cols * sizeof *t->x);
    }
    tiny_tensor *in = tiny_find(&s.t->w, "token_embd.weight"), *out = tiny_find(&s.t->w, "output.weight");
    memset(in->x, 0, in->rows * in->cols * sizeof *in->x);
    memset(out->x, 0, out->rows * out->cols * sizeof *out->x);
    for (size_t i = 0; i < n; i++) {
        size_t next = i == 0 ? 2 : i + 1 < n ? i + 1 : 1;
        in->x[i * 32 + i] = 1;
        out->x[next * 32 + i] = 1;
    }
    assert_ok(ctx, pith_llama_new(ctx, &s.t->w, &s.m));
    assert_ok(ctx, pith_llama_cache(ctx, s.m, PITH_CACHE_F32, capacity, &s.cache));

    char text[WORDS + 2][64];
    pith_str tokens[WORDS + 2];
    uint8_t types[WORDS + 2];
    assert_true(n <= WORDS + 2);
    for (size_t i = 0; i < n; i++) {
        types[i] = i < 2 ? PITH_TOKEN_CONTROL : PITH_TOKEN_NORMAL;
        tokens[i] = i == 0 ? (pith_str){"<s>", 3} : i == 1 ? (pith_str){"<end>", 5} : (pith_str){text[i], letters(words[i - 2], text[i])};
    }
    pith_vocab v = {.kind = PITH_VOCAB_BPE, .pre = "gpt-2", .n_tokens = n, .tokens = tokens, .types = types, .bos = has_bos ? 0 : -1, .eos = 1, .unk = -1, .pad = -1, .eot = -1};
    assert_ok(ctx, pith_tokenizer_new(ctx, &v, &s.tok));
    return s;
}

static void speaker_free(speaker *s)
{
    pith_cache_free(s->ctx, s->cache);
    pith_tokenizer_free(s->ctx, s->tok);
    pith_llama_free(s->ctx, s->m);
    tiny_free(s->t);
}

typedef struct heard {
    char text[256];
    size_t n, n_pieces, most_pieces;
} heard;

static bool hear(void *user, const char *text, size_t len)
{
    heard *h = user;
    assert_true(len > 0 && h->n + len < sizeof h->text);
    /* no piece begins or ends inside a character */
    assert_true(((uint8_t)text[0] & 0xC0) != 0x80);
    memcpy(h->text + h->n, text, len);
    h->n += len;
    return ++h->n_pieces != h->most_pieces;
}

static pith_generate_options quiet(heard *h)
{
    return (pith_generate_options){.sampling = {.top_p = 1, .repeat_penalty = 1}, .emit = hear, .user = h};
}

typedef struct talk {
    const char *words[WORDS];
    const char *stop[3];
    const char *text, *ended_by;
    size_t n_generated;
} talk;

static const talk talks[] = {
    {{"Hello", " wor", "ld"}, {NULL}, "Hello world", "end token", 3},
    {{"Hello", " wor", "ld"}, {"o w"}, "Hell", "stop string", 2},
    {{"Hello", " wor", "ld"}, {"Hello"}, "", "stop string", 1},
    {{"Hello", " wor", "ld"}, {"world!", "lo!"}, "Hello world", "end token", 3},
    {{"Hello", " wor", "ld"}, {"rld", "wo", "never"}, "Hello ", "stop string", 2},
    {{"a", "ab", "c"}, {"abc"}, "a", "stop string", 3},
    {{"aa", "aab"}, {"aab"}, "aa", "stop string", 2},
    {{"x\xE2", "\x82", "\xAC!"}, {NULL}, "x\u20AC!", "end token", 3},
    {{"x\xE2", "\x82", "\xAC!"}, {"\u20AC"}, "x", "stop string", 3},
    {{"\xF0\x9F", "\x98\x80", "\xF0\x9F"}, {NULL}, "\U0001F600\uFFFD", "end token", 3},
    {{"\xFF", "ok", "\xC0", "\x80"}, {NULL}, "\uFFFDok\uFFFD\uFFFD", "end token", 4},
    {{"\xE2", "A"}, {NULL}, "\uFFFD" "A", "end token", 2},
    {{"\xED\xA0\x80"}, {NULL}, "\uFFFD\uFFFD\uFFFD", "end token", 1},
    {{"caf\xC3", "<stop>"}, {"<stop>"}, "caf\uFFFD", "stop string", 2},
};

static size_t count_words(const char *const *words)
{
    size_t n = 0;
    while (n < WORDS && words[n]) n++;
    return n;
}

static void test_text(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(talks); i++) {
        const talk *t = &talks[i];
        speaker s = speaker_new(ctx, t->words, count_words(t->words), true, 40);
        heard h = {0};
        pith_generate_options o = quiet(&h);
        o.stop = t->stop;
        while (o.n_stop < 3 && t->stop[o.n_stop]) o.n_stop++;
        pith_generate_result r;
        assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r));
        if (strcmp(h.text, t->text)) fail_msg("talk %zu: '%s', not '%s'", i, h.text, t->text);
        assert_string_equal(r.ended_by, t->ended_by);
        assert_int_equal(r.n_generated, t->n_generated);
        assert_int_equal(r.n_prompt, 1);
        assert_true(r.prefill_s > 0 && r.decode_s > 0);
        speaker_free(&s);
    }
    pith_ctx_free(ctx);
}

/* Text leaves as soon as it cannot become a stop string any more. */
static void test_pieces(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const char *const words[] = {"one", " tw", "o", " three"}, *const stops[] = {" twelve"};
    speaker s = speaker_new(ctx, words, 4, true, 40);
    heard h = {0};
    pith_generate_options o = quiet(&h);
    o.stop = stops;
    o.n_stop = 1;
    pith_generate_result r;
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r));
    assert_string_equal(h.text, "one two three");
    assert_int_equal(h.n_pieces, 3); /* " tw" waited for "o" */

    /* the caller has enough */
    s.cache->kind->truncate(s.cache, 0);
    h = (heard){.most_pieces = 2};
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r));
    assert_string_equal(h.text, "one two");
    assert_string_equal(r.ended_by, "caller");
    assert_int_equal(r.n_generated, 3);

    /* nobody listens */
    s.cache->kind->truncate(s.cache, 0);
    o.emit = NULL;
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r));
    assert_int_equal(r.n_generated, 4);
    speaker_free(&s);
    pith_ctx_free(ctx);
}

static void test_limits(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const char *const words[] = {"a", "b", "c", "d", "e", "f"}, *const empty[] = {"x", ""};
    speaker s = speaker_new(ctx, words, 6, true, 4);
    heard h = {0};
    pith_generate_options o = quiet(&h);
    pith_generate_result r;
    o.max_tokens = 3;
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r));
    assert_string_equal(h.text, "abc");
    assert_string_equal(r.ended_by, "limit");
    assert_int_equal(s.cache->n, 3); /* the token sampled last is not in the cache */

    /* four positions: the prompt, three tokens, and one more that none is left for */
    s.cache->kind->truncate(s.cache, 0);
    h = (heard){0};
    o.max_tokens = 0;
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r));
    assert_string_equal(h.text, "abcd");
    assert_string_equal(r.ended_by, "context full");

    /* a prompt that just fits, and one that does not */
    int32_t ids[5] = {0, 2, 3, 4, 5};
    s.cache->kind->truncate(s.cache, 0);
    h = (heard){0};
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, ids, 4, &o, &r));
    assert_string_equal(h.text, "d");
    assert_string_equal(r.ended_by, "context full");
    s.cache->kind->truncate(s.cache, 0);
    assert_int_equal(pith_generate(ctx, s.m, s.tok, s.cache, ids, 5, &o, &r), PITH_E_LIMIT);
    assert_non_null(strstr(pith_error(ctx), "5 tokens"));
    assert_non_null(strstr(pith_error(ctx), "4"));
    assert_int_equal(r.n_generated, 0);

    /* a second prompt stands after the first; an empty one cannot */
    assert_ok(ctx, pith_llama_forward(ctx, s.m, s.cache, ids, 2, 0, NULL));
    assert_int_equal(pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r), PITH_E_ARGUMENT);
    assert_int_equal(pith_generate(ctx, s.m, s.tok, s.cache, ids, 3, &o, &r), PITH_E_LIMIT);
    h = (heard){0};
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, ids + 2, 2, &o, &r));
    assert_string_equal(h.text, "d");

    s.cache->kind->truncate(s.cache, 0);
    o.stop = empty;
    o.n_stop = 2;
    assert_int_equal(pith_generate(ctx, s.m, s.tok, s.cache, ids, 1, &o, &r), PITH_E_ARGUMENT);
    o.n_stop = 0;
    ids[0] = 8;
    assert_int_equal(pith_generate(ctx, s.m, s.tok, s.cache, ids, 1, &o, &r), PITH_E_ARGUMENT);
    o.sampling.top_k = -1;
    ids[0] = 2;
    assert_int_equal(pith_generate(ctx, s.m, s.tok, s.cache, ids, 1, &o, &r), PITH_E_ARGUMENT);
    speaker_free(&s);

    /* nothing to begin with */
    s = speaker_new(ctx, words, 2, false, 4);
    o.sampling.top_k = 0;
    assert_int_equal(pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "empty"));
    speaker_free(&s);
    static const char *const with_end[] = {"a", "<|endoftext|>", "z"};
    s = speaker_new(ctx, with_end, 3, false, 4);
    h = (heard){0};
    assert_ok(ctx, pith_generate(ctx, s.m, s.tok, s.cache, NULL, 0, &o, &r));
    assert_string_equal(h.text, "z");
    speaker_free(&s);
    pith_ctx_free(ctx);
}

/* A prompt in batches, with the penalty over prompt and reply: what a loop of forward and sample gives. */
static void test_same_as_by_hand(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_settings set = tiny_settings();
    tiny *t = tiny_new(&set, TINY_QMAT, false, true);
    pith_llama *m;
    pith_cache *cache;
    assert_ok(ctx, pith_llama_new(ctx, &t->w, &m));
    assert_ok(ctx, pith_llama_cache(ctx, m, PITH_CACHE_F16, 128, &cache));
    m->n_batch = 8;
    static const char *const words[] = {"a"};
    speaker other = speaker_new(ctx, words, 1, true, 4); /* its tokenizer knows 3 ids, the others say nothing */
    int32_t ids[21 + 40];
    tiny_ids(ids, 21, 130, 1);
    pith_generate_options o = {.sampling = {.temperature = 1.2f, .top_k = 50, .top_p = 0.95f, .repeat_penalty = 1.3f, .repeat_last = 10, .seed = 77}, .max_tokens = 40};
    pith_generate_result r;
    assert_ok(ctx, pith_generate(ctx, m, other.tok, cache, ids, 21, &o, &r));
    size_t n = 21;
    float logits[130];
    cache->kind->truncate(cache, 0);
    for (size_t i = 0; i < n; i += 8) assert_ok(ctx, pith_llama_forward(ctx, m, cache, ids + i, PITH_MIN(8, n - i), 1, logits));
    for (size_t step = 0; step < 40; step++) {
        ids[n] = pith_sample(ctx, &o.sampling, logits, 130, ids + n - 10, 10, step);
        if (ids[n] == 1) break; /* the tokenizer's end */
        assert_ok(ctx, pith_llama_forward(ctx, m, cache, &ids[n++], 1, 1, logits));
    }
    assert_int_equal(r.n_generated, n - 21);
    assert_true(r.n_generated > 5);
    /* the same cache content shows in the next logits */
    float after[130];
    cache->kind->truncate(cache, 0);
    assert_ok(ctx, pith_generate(ctx, m, other.tok, cache, ids, 21, &o, &r));
    size_t held = cache->n;
    assert_true(held >= n - 1);
    if (held == n - 1) assert_ok(ctx, pith_llama_forward(ctx, m, cache, &ids[n - 1], 1, 1, after));
    if (held == n - 1) assert_memory_equal(logits, after, sizeof after);
    speaker_free(&other);
    pith_cache_free(ctx, cache);
    pith_llama_free(ctx, m);
    tiny_free(t);
    pith_ctx_free(ctx);
}

static bool always(void *user)
{
    (void)user;
    return true;
}

static void test_cancelled(void **state)
{
    (void)state;
    pith_options options = {.n_threads = 1};
    pith_ctx *ctx = test_ctx(1), *impatient;
    static const char *const words[] = {"a"};
    options.cancelled = always;
    assert_int_equal(pith_ctx_new(&options, &impatient), PITH_OK);
    speaker s = speaker_new(ctx, words, 1, true, 4);
    pith_generate_options o = quiet(NULL);
    pith_generate_result r;
    assert_int_equal(pith_generate(impatient, s.m, s.tok, s.cache, NULL, 0, &o, &r), PITH_E_CANCELLED);
    speaker_free(&s);
    pith_ctx_free(impatient);
    pith_ctx_free(ctx);
}

static pith_status speak(pith_ctx *ctx, const void *user)
{
    static const char *const stops[] = {"Hello world!"};
    const speaker *s = user;
    heard h = {0};
    pith_generate_options o = quiet(&h);
    o.sampling = pith_sampling_default;
    o.sampling.repeat_penalty = 1.1f;
    o.sampling.temperature = 1e-3f;
    o.stop = stops;
    o.n_stop = 1;
    pith_generate_result r;
    s->cache->kind->truncate(s->cache, 0);
    PITH_TRY(pith_generate(ctx, s->m, s->tok, s->cache, NULL, 0, &o, &r));
    assert_string_equal(h.text, "Hello worldand a much longer word, to fill what is held");
    return PITH_OK;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    pith_ctx *sound = test_ctx(1);
    static const char *const words[] = {"Hello", " wor", "ld", "and a much longer word, to fill what is held"};
    speaker s = speaker_new(sound, words, 4, true, 40);
    int32_t begin = 0;
    assert_ok(sound, pith_llama_forward(sound, s.m, s.cache, &begin, 1, 0, NULL)); /* makes the model's angles, which stay with it */
    assert_in_range(test_every_fault(speak, &s), 5, 100);
    speaker_free(&s);
    pith_ctx_free(sound);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_pieces), cmocka_unit_test(test_limits), cmocka_unit_test(test_same_as_by_hand),
        cmocka_unit_test(test_cancelled), cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
