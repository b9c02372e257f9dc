/* Tokenizers: words, merges against a plain reference, round trips, special tokens, reading of tokenizer.json. */
#include "test.h"

#include "format/hf_tokenizer.h"
#include "text/map.h"
#include "text/split.h"
#include "text/tokenizer.h"

/* ---- vocabularies made here ------------------------------------------------------------------- */

enum { MOST = 2048 };
typedef struct made {
    pith_vocab v;
    pith_str tokens[MOST], merges[MOST];
    float scores[MOST];
    uint8_t types[MOST];
    char room[64 << 10];
    size_t used;
} made;

static pith_str keep(made *m, const char *s, size_t len)
{
    assert_true(m->used + len + 1 <= sizeof m->room);
    char *p = m->room + m->used;
    memcpy(p, s, len);
    p[len] = 0;
    m->used += len + 1;
    return (pith_str){p, len};
}

static int32_t add_token(made *m, const char *s, uint8_t type, float score)
{
    size_t i = m->v.n_tokens++;
    assert_true(i < MOST);
    m->tokens[i] = keep(m, s, strlen(s));
    m->types[i] = type;
    m->scores[i] = score;
    return (int32_t)i;
}

static void add_merge(made *m, const char *left, const char *right)
{
    char text[256];
    int n = snprintf(text, sizeof text, "%s %s", left, right);
    assert_true(m->v.n_merges < MOST);
    m->merges[m->v.n_merges++] = keep(m, text, (size_t)n);
}

static made *new_made(pith_vocab_kind kind, const char *pre)
{
    made *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->v = (pith_vocab){.kind = kind, .tokens = m->tokens, .merges = m->merges, .types = m->types, .bos = -1, .eos = -1, .unk = -1, .pad = -1, .eot = -1};
    m->v.scores = kind == PITH_VOCAB_BPE ? NULL : m->scores;
    snprintf(m->v.pre, sizeof m->v.pre, "%s", pre);
    return m;
}

/* GPT-2's letter of a byte, in UTF-8. */
static const char *letter(int byte, char *buf)
{
    int c = byte;
    if (byte <= 0x20) c = 0x100 + byte;
    else if (byte >= 0x7F && byte <= 0xA0) c = 0x121 + byte - 0x7F;
    else if (byte == 0xAD) c = 0x143;
    buf[pith_utf8_put((uint32_t)c, (uint8_t *)buf)] = 0;
    return buf;
}

/* A byte-level vocabulary: 256 bytes, then n merges of random pairs of what is there. */
static made *random_bpe(uint64_t seed, int n, const char *pre)
{
    made *m = new_made(PITH_VOCAB_BPE, pre);
    pith_rng rng = {.seed = seed};
    char buf[8], both[256];
    for (int b = 0; b < 256; b++) add_token(m, letter(b, buf), PITH_TOKEN_NORMAL, 0);
    for (int i = 0; i < n; i++) {
        /* mostly among few letters, so that random words meet them */
        size_t k = m->v.n_tokens, a, b;
        a = pith_rng_below(&rng, 3) ? (i > 8 && pith_rng_below(&rng, 2) ? 256 + pith_rng_below(&rng, (uint32_t)k - 256) : 'a' + pith_rng_below(&rng, 3)) : pith_rng_below(&rng, (uint32_t)k);
        b = pith_rng_below(&rng, 3) ? (i > 8 && pith_rng_below(&rng, 2) ? 256 + pith_rng_below(&rng, (uint32_t)k - 256) : 'a' + pith_rng_below(&rng, 3)) : pith_rng_below(&rng, (uint32_t)k);
        if (m->tokens[a].len + m->tokens[b].len > 40) continue;
        snprintf(both, sizeof both, "%s%s", m->tokens[a].s, m->tokens[b].s);
        bool there = false;
        for (size_t t = 0; t < k && !there; t++) there = !strcmp(m->tokens[t].s, both);
        if (there) continue;
        add_token(m, both, PITH_TOKEN_NORMAL, 0);
        add_merge(m, m->tokens[a].s, m->tokens[b].s);
    }
    return m;
}

static pith_tokenizer *make(pith_ctx *ctx, const pith_vocab *v)
{
    pith_tokenizer *tok = NULL;
    assert_ok(ctx, pith_tokenizer_new(ctx, v, &tok));
    return tok;
}

static char *decode(const pith_tokenizer *tok, const pith_ids *ids, bool special, size_t *len)
{
    size_t cap = 16;
    for (size_t i = 0; i < ids->n; i++) cap += pith_token_text(tok, ids->ids[i], special, NULL, 0);
    char *text = malloc(cap);
    assert_non_null(text);
    *len = 0;
    for (size_t i = 0; i < ids->n; i++) *len += pith_token_text(tok, ids->ids[i], special, text + *len, cap - *len);
    text[*len] = 0;
    return text;
}

static void expect_ids(pith_ctx *ctx, const pith_tokenizer *tok, const char *text, unsigned flags, const int32_t *want, size_t n)
{
    pith_ids ids = {0};
    assert_ok(ctx, pith_tokenize(ctx, tok, text, strlen(text), flags, &ids));
    bool same = ids.n == n && (!n || !memcmp(ids.ids, want, n * sizeof *want));
    if (!same) {
        fprintf(stderr, "  \"%s\" gives", text);
        for (size_t i = 0; i < ids.n; i++) fprintf(stderr, " %d", ids.ids[i]);
        fprintf(stderr, "\n");
    }
    assert_true(same);
    pith_ids_free(ctx, &ids);
}
#define EXPECT(text, flags, ...) expect_ids(ctx, tok, text, flags, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

/* ---- characters and words --------------------------------------------------------------------- */

static void test_utf8(void **state)
{
    (void)state;
    uint8_t buf[8];
    uint32_t c;
    for (uint32_t k = 0; k < PITH_CODE_POINTS; k++) {
        size_t n = pith_utf8_put(k, buf);
        bool surrogate = k >= 0xD800 && k < 0xE000;
        assert_int_equal(pith_utf8_next(buf, buf + n, &c), surrogate ? 1 : n);
        assert_int_equal(c, surrogate ? PITH_REPLACEMENT : k);
        if (n > 1) { /* cut short it is one invalid byte */
            assert_int_equal(pith_utf8_next(buf, buf + n - 1, &c), 1);
            assert_int_equal(c, PITH_REPLACEMENT);
        }
    }
    static const char *const bad[] = {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xE2\x82("};
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        const uint8_t *p = (const uint8_t *)bad[i];
        assert_int_equal(pith_utf8_next(p, p + strlen(bad[i]), &c), 1);
        assert_int_equal(c, PITH_REPLACEMENT);
    }
}

static void test_classes(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_arena *arena = pith_arena_new(ctx);
    pith_unicode u;
    assert_ok(ctx, pith_unicode_init(ctx, arena, &u));
    size_t letters = 0, numbers = 0, spaces = 0;
    for (uint32_t c = 0; c < PITH_CODE_POINTS; c++) {
        unsigned k = pith_char_class(&u, c);
        letters += (k & PITH_CHAR_LETTER) != 0;
        numbers += (k & PITH_CHAR_NUMBER) != 0;
        spaces += (k & PITH_CHAR_SPACE) != 0;
    }
    assert_int_equal(letters, 141028); /* of the Unicode Character Database 16.0 */
    assert_int_equal(numbers, 1911);
    assert_int_equal(spaces, 25);
    assert_int_equal(pith_char_class(&u, 0x1E943), PITH_CHAR_LETTER); /* an Adlam letter, far up */
    assert_int_equal(pith_char_class(&u, PITH_REPLACEMENT), 0);
    assert_int_equal(pith_char_class(&u, 0x10FFFF), 0);
    pith_arena_free(arena);
    pith_ctx_free(ctx);
}

/* `want`: the words with | between them. */
static void expect_words(const pith_unicode *u, pith_split split, const char *text, const char *want)
{
    char got[512];
    size_t n = 0, len = strlen(text);
    for (size_t pos = 0, end; pos < len; pos = end) {
        bool space;
        end = pith_split_next(u, split, (const uint8_t *)text, pos, len, &space);
        assert_true(end > pos && end <= len);
        if (space) continue;
        if (n) got[n++] = '|';
        memcpy(got + n, text + pos, end - pos);
        n += end - pos;
    }
    got[n] = 0;
    assert_string_equal(got, want);
}

static void test_words(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_arena *arena = pith_arena_new(ctx);
    pith_unicode u;
    assert_ok(ctx, pith_unicode_init(ctx, arena, &u));
    static const struct {
        pith_split split;
        const char *text, *want;
    } cases[] = {
        {PITH_SPLIT_GPT2, "I'm you're 'S it's'x 12ab", "I|'m| you|'re| '|S| it|'s|'|x| 12|ab"},
        {PITH_SPLIT_GPT2, "a  b   \n c\t\td  ", "a| | b|   \n| c|\t|\t|d|  "},
        {PITH_SPLIT_GPT2, "x ... (y)", "x| ...| (|y|)"},
        {PITH_SPLIT_GPT2, "na\xC3\xAFve \xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x80z", "na\xC3\xAFve| \xE4\xBD\xA0\xE5\xA5\xBD|\xE3\x80\x80|z"},
        {PITH_SPLIT_GPT2, "a\xFF\xFE b", "a|\xFF\xFE| b"},
        {PITH_SPLIT_SMOLLM, "in 1984,  7 x12", "in| |1|9|8|4|,|  |7| x|1|2"},
        {PITH_SPLIT_SMOLLM, "\xD9\xA3\xC2\xBD!", "\xD9\xA3|\xC2\xBD|!"},
        {PITH_SPLIT_LLAMA3, "I'M it'\xC5\xBF 1234567 (hi)\n\n  x", "I|'M| it|'\xC5\xBF| |123|456|7| (|hi|)\n\n| | x"},
        {PITH_SPLIT_LLAMA3, "a \n \n  b\tc \"q\"\r\n", "a| \n \n| | b|\tc| \"|q|\"\r\n"},
        {PITH_SPLIT_LLAMA3, "end   ", "end|   "},
        {PITH_SPLIT_LLAMA3, "\t\t!x", "\t|\t|!x"},
        {PITH_SPLIT_LLAMA3, "'\xC5\xBFx 'Sx", "'\xC5\xBF|x| '|Sx"},
        {PITH_SPLIT_QWEN2, "x 12 'll", "x| |1|2| '|ll"},
        {PITH_SPLIT_SPACES, "\xE2\x96\x81" "a" "\xE2\x96\x81\xE2\x96\x81" "b", "\xE2\x96\x81" "a|\xE2\x96\x81|\xE2\x96\x81" "b"},
        {PITH_SPLIT_RUNS, "\xE2\x96\x81" "a" "\xE2\x96\x81\xE2\x96\x81" "b", "\xE2\x96\x81" "a|\xE2\x96\x81\xE2\x96\x81" "b"},
        {PITH_SPLIT_NONE, "a b", "a b"},
        {PITH_SPLIT_BERT, " don't  stop\n", "don|'|t|stop"},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) expect_words(&u, cases[i].split, cases[i].text, cases[i].want);
    pith_arena_free(arena);
    pith_ctx_free(ctx);
}

/* ---- merging ---------------------------------------------------------------------------------- */

/* The definition: the best pair anywhere, the leftmost of equals, until none is left.  `rank` gives a pair's rank and
 * what it becomes. */
typedef uint32_t pair_rank(const made *m, int32_t left, int32_t right, int32_t *both);

static size_t reference_merge(const made *m, pair_rank *rank, int32_t *sym, size_t n)
{
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t at = 0;
        int32_t both, id = -1;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t r = rank(m, sym[i], sym[i + 1], &both);
            if (r >= best) continue;
            best = r;
            at = i;
            id = both;
        }
        if (best == UINT32_MAX) return n;
        sym[at] = id;
        for (size_t i = at + 1; i + 1 < n; i++) sym[i] = sym[i + 1];
        n--;
    }
}

static int32_t find_token(const made *m, const char *s)
{
    for (size_t i = 0; i < m->v.n_tokens; i++)
        if (!strcmp(m->tokens[i].s, s)) return (int32_t)i;
    return -1;
}

static uint32_t listed_rank(const made *m, int32_t left, int32_t right, int32_t *both)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s", m->tokens[left].s, m->tokens[right].s);
    for (size_t i = 0; i < m->v.n_merges; i++) {
        if (strcmp(m->merges[i].s, text)) continue;
        snprintf(text, sizeof text, "%s%s", m->tokens[left].s, m->tokens[right].s);
        *both = find_token(m, text);
        return (uint32_t)i;
    }
    return UINT32_MAX;
}

static void test_merges(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    made *m = random_bpe(1, 90, "none");
    pith_tokenizer *tok = make(ctx, &m->v);
    pith_rng rng = {.seed = 2};
    pith_ids ids = {0};
    char word[200];
    int32_t want[200];
    size_t merged = 0;
    for (int round = 0; round < 150; round++) {
        size_t len = 1 + pith_rng_below(&rng, round < 120 ? 60 : 199); /* both ways of merging: up to 48 symbols, and more */
        for (size_t i = 0; i < len; i++) word[i] = (char)('a' + pith_rng_below(&rng, 3));
        for (size_t i = 0; i < len; i++) want[i] = word[i];
        size_t n = reference_merge(m, listed_rank, want, len);
        merged += len - n;
        ids.n = 0;
        assert_ok(ctx, pith_tokenize(ctx, tok, word, len, 0, &ids));
        assert_int_equal(ids.n, n);
        assert_memory_equal(ids.ids, want, n * 4);
    }
    assert_true(merged > 1000); /* else the vocabulary tests nothing */
    pith_ids_free(ctx, &ids);
    pith_tokenizer_free(ctx, tok);
    free(m);
    pith_ctx_free(ctx);
}

/* SentencePiece: any two tokens whose concatenation is a token; rank by score. */
static uint32_t score_rank(const made *m, int32_t left, int32_t right, int32_t *both)
{
    char text[256];
    snprintf(text, sizeof text, "%s%s", m->tokens[left].s, m->tokens[right].s);
    *both = find_token(m, text);
    return *both < 0 ? UINT32_MAX : (uint32_t)-m->scores[*both];
}

static void test_scores(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    made *m = new_made(PITH_VOCAB_SPM, "");
    pith_rng rng = {.seed = 3};
    m->v.unk = add_token(m, "<unk>", PITH_TOKEN_UNKNOWN, 0);
    char text[64];
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        add_token(m, text, PITH_TOKEN_BYTE, 0);
    }
    int32_t a = add_token(m, "a", PITH_TOKEN_NORMAL, -1000);
    add_token(m, "b", PITH_TOKEN_NORMAL, -1001);
    int32_t space = add_token(m, "\xE2\x96\x81", PITH_TOKEN_NORMAL, -1002);
    for (int i = 0; i < 60; i++) { /* some scores are equal: then the leftmost goes first */
        snprintf(text, sizeof text, "%s%s", m->tokens[257 + pith_rng_below(&rng, 3 + (uint32_t)i / 2)].s, m->tokens[257 + pith_rng_below(&rng, 2)].s);
        if (find_token(m, text) < 0) add_token(m, text, PITH_TOKEN_NORMAL, (float)-(1 + i / 2));
        else i -= pith_rng_below(&rng, 4) > 0;
    }
    m->v.add_space_prefix = true;
    pith_tokenizer *tok = make(ctx, &m->v);
    pith_ids ids = {0};
    for (int round = 0; round < 200; round++) {
        char in[128];
        int32_t want[129];
        size_t len = 1 + pith_rng_below(&rng, 120), n = 0;
        want[n++] = space;
        for (size_t i = 0; i < len; i++) {
            uint32_t k = pith_rng_below(&rng, 8);
            in[i] = "ababab c"[k];
            if (k < 6) want[n++] = a + (int32_t)(k & 1);
            else want[n++] = k == 6 ? space : 1 + 'c';
        }
        n = reference_merge(m, score_rank, want, n);
        ids.n = 0;
        assert_ok(ctx, pith_tokenize(ctx, tok, in, len, 0, &ids));
        assert_int_equal(ids.n, n);
        assert_memory_equal(ids.ids, want, n * 4);
        size_t back;
        char *text_back = decode(tok, &ids, false, &back);
        assert_int_equal(back, len + 1);
        assert_memory_equal(text_back + 1, in, len);
        free(text_back);
    }
    EXPECT("\xFF", 0, space, 1 + 0xFF); /* bytes that are not UTF-8 are byte tokens */
    pith_ids_free(ctx, &ids);
    pith_tokenizer_free(ctx, tok);
    free(m);
    pith_ctx_free(ctx);
}

static void test_unigram(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    made *m = new_made(PITH_VOCAB_UNIGRAM, "none");
    pith_rng rng = {.seed = 4};
    m->v.unk = add_token(m, "<unk>", PITH_TOKEN_UNKNOWN, 0);
    for (int i = 0; i < 80; i++) {
        char text[8];
        size_t len = 1 + pith_rng_below(&rng, 5);
        for (size_t k = 0; k < len; k++) text[k] = (char)('a' + pith_rng_below(&rng, 3));
        text[len] = 0;
        if (strcmp(text, "c") && find_token(m, text) < 0) add_token(m, text, PITH_TOKEN_NORMAL, -1 - 9 * pith_rng_uniform(&rng));
    }
    m->v.n_steps = 0;
    m->v.steps = (pith_text_step[1]){{0}}; /* no step at all */
    pith_tokenizer *tok = make(ctx, &m->v);
    double least = 0;
    for (size_t i = 0; i < m->v.n_tokens; i++) least = PITH_MIN(least, (double)m->scores[i]);
    size_t unknown = 0;
    for (int round = 0; round < 200; round++) {
        char in[64];
        double best[65];
        size_t len = 1 + pith_rng_below(&rng, 60);
        for (size_t i = 0; i < len; i++) in[i] = (char)('a' + pith_rng_below(&rng, 3));
        in[len] = 0;
        best[0] = 0; /* the best score of each prefix, by the definition */
        for (size_t to = 1; to <= len; to++) {
            best[to] = -1e30;
            for (size_t from = to < 5 ? 0 : to - 5; from < to; from++) {
                char piece[8];
                memcpy(piece, in + from, to - from);
                piece[to - from] = 0;
                int32_t id = find_token(m, piece);
                double s = id > 0 ? (double)m->scores[id] : to - from == 1 ? least - 10 : -1e30;
                if (best[from] + s > best[to]) best[to] = best[from] + s;
            }
        }
        pith_ids ids = {0};
        assert_ok(ctx, pith_tokenize(ctx, tok, in, len, 0, &ids));
        double got = 0;
        size_t at = 0;
        for (size_t i = 0; i < ids.n; i++) {
            if (ids.ids[i] != m->v.unk) {
                const pith_str t = m->tokens[ids.ids[i]];
                assert_memory_equal(in + at, t.s, t.len);
                got += (double)m->scores[ids.ids[i]];
                at += t.len;
                continue;
            }
            /* one unknown token for a run of c that no piece takes */
            unknown++;
            assert_int_equal(in[at], 'c');
            size_t next = at;
            do {
                got += least - 10;
                next++;
            } while (next < len && in[next] == 'c' && i + 1 < ids.n && strncmp(m->tokens[ids.ids[i + 1]].s, in + next, m->tokens[ids.ids[i + 1]].len));
            at = next;
        }
        assert_true(got >= best[len] - 1e-6 && got <= best[len] + 1e-6);
        pith_ids_free(ctx, &ids);
    }
    assert_true(unknown > 0);
    pith_tokenizer_free(ctx, tok);
    free(m);
    pith_ctx_free(ctx);
}

static void test_wordpiece(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (int gguf = 0; gguf < 2; gguf++) {
        static const char *const plain[] = {"[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "caf", "##e", "!", "\xE4\xBD\xA0"};
        made *m = new_made(PITH_VOCAB_WORDPIECE, "");
        for (int i = 0; i < 10; i++) {
            char text[32];
            bool inner = !strncmp(plain[i], "##", 2);
            snprintf(text, sizeof text, "%s%s", gguf && i > 2 && !inner ? "\xE2\x96\x81" : "", gguf && inner ? plain[i] + 2 : plain[i]);
            add_token(m, text, i == 0 ? PITH_TOKEN_UNKNOWN : i < 3 ? PITH_TOKEN_CONTROL : PITH_TOKEN_NORMAL, 0);
        }
        m->v.unk = 0;
        m->v.bos = 1;
        m->v.eos = 2;
        m->v.add_bos = m->v.add_eos = m->v.lowercase = true;
        pith_tokenizer *tok = make(ctx, &m->v);
        EXPECT("UnAffable!", 0, 3, 4, 5, 8);
        EXPECT("caf\xC3\x89 caf\x01" "e\xCC\x81\xE4\xBD\xA0", 0, 6, 7, 6, 7, 9); /* composed and decomposed, a control inside, a CJK character alone */
        EXPECT("unable unx", PITH_TOKENIZE_BOS_EOS, 1, 3, 5, 0, 2);
        EXPECT("un[SEP]un", PITH_TOKENIZE_SPECIAL, 3, 2, 3);
        EXPECT("", PITH_TOKENIZE_BOS_EOS, 1, 2);
        pith_ids ids = {0};
        char word[128];
        memset(word, 'u', 101);
        assert_ok(ctx, pith_tokenize(ctx, tok, word, 101, 0, &ids)); /* over 100 characters */
        assert_int_equal(ids.n, 1);
        ids.n = 0;
        assert_ok(ctx, pith_tokenize(ctx, tok, "unaffable !", 11, 0, &ids));
        size_t len;
        char *text = decode(tok, &ids, false, &len);
        assert_string_equal(text, " unaffable !");
        free(text);
        pith_ids_free(ctx, &ids);
        pith_tokenizer_free(ctx, tok);
        free(m);
    }
    pith_ctx_free(ctx);
}

/* ---- whole texts ------------------------------------------------------------------------------ */

static void test_round_trip(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "gpt-4o", "none"};
    static const char *const pieces[] = {" ", "  ", "\n", "\r\n", "ab", "ca", "'s", "'LL", "12", "\xC3\xA9", "\xE2\x96\x81", "\xF0\x9F\x98\x80", "\xE4\xBD\xA0", "\xFF", "\xC3", "\xED\xA0\x80", "...", "\t"};
    for (size_t k = 0; k < PITH_COUNT(pres); k++) {
        made *m = random_bpe(10 + k, 200, pres[k]);
        pith_tokenizer *tok = make(ctx, &m->v);
        pith_rng rng = {.seed = 20 + k};
        for (int round = 0; round < 100; round++) {
            char text[2048];
            size_t len = 0, n = pith_rng_below(&rng, 400), back;
            for (size_t i = 0; i < n; i++) {
                const char *p = pieces[pith_rng_below(&rng, PITH_COUNT(pieces))];
                if (round % 2) text[len++] = (char)pith_rng_below(&rng, 256);
                else for (; *p; p++) text[len++] = *p;
            }
            pith_ids ids = {0};
            assert_ok(ctx, pith_tokenize(ctx, tok, text, len, PITH_TOKENIZE_SPECIAL, &ids));
            char *got = decode(tok, &ids, false, &back);
            assert_int_equal(back, len);
            assert_memory_equal(got, text, len);
            free(got);
            pith_ids_free(ctx, &ids);
        }
        pith_tokenizer_free(ctx, tok);
        free(m);
    }
    pith_ctx_free(ctx);
}

/* Texts that would be slow if anything were quadratic in the length of a word or a run. */
static void test_long_runs(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    enum { N = 1 << 20 };
    char *text = malloc(N + 8);
    assert_non_null(text);
    static const char *const units[] = {"a", " ", "\n", "\xF0\x9F\x98\x80", "\xFF", "ab", "7", "a\xCC\x81\xCC\xA3", "'", " \n", "\xE2\x96\x81"};
    made *kinds[5] = {random_bpe(5, 200, "llama-bpe"), random_bpe(5, 200, "qwen2"), random_bpe(5, 200, "smollm"), random_bpe(5, 200, "gpt-4o"), new_made(PITH_VOCAB_UNIGRAM, "none")};
    kinds[4]->v.unk = add_token(kinds[4], "<unk>", PITH_TOKEN_UNKNOWN, 0);
    for (int i = 0; i < 40; i++) add_token(kinds[4], (const char *[]){"a", "aa", "aaa", "\xE2\x96\x81", "ab"}[i % 5], PITH_TOKEN_NORMAL, (float)-i);
    double start = pith_now_s();
    for (size_t k = 0; k < PITH_COUNT(kinds); k++) {
        pith_tokenizer *tok = make(ctx, &kinds[k]->v);
        for (size_t u = 0; u < PITH_COUNT(units); u++) {
            size_t n = strlen(units[u]), len = 0;
            while (len + n <= N) {
                memcpy(text + len, units[u], n);
                len += n;
            }
            pith_ids ids = {0};
            assert_ok(ctx, pith_tokenize(ctx, tok, text, len, PITH_TOKENIZE_SPECIAL, &ids));
            assert_true(ids.n > 0 && ids.n <= len + 1);
            pith_ids_free(ctx, &ids);
        }
        pith_tokenizer_free(ctx, tok);
        free(kinds[k]);
    }
    /* 55 MB in all take about three seconds; a quadratic step anywhere takes hours.  The bound leaves room for sanitizers. */
    assert_true(pith_now_s() - start < 100);
    free(text);
    pith_ctx_free(ctx);
}

static void test_special(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    made *m = random_bpe(6, 0, "gpt-2");
    uint8_t added[MOST] = {0};
    int32_t end = add_token(m, "<|end|>", PITH_TOKEN_CONTROL, 0), longer = add_token(m, "<|end|>>", PITH_TOKEN_CONTROL, 0);
    int32_t user = add_token(m, "  x", PITH_TOKEN_USER, 0), mask = add_token(m, "<mask>", PITH_TOKEN_CONTROL, 0), word = add_token(m, "foo", PITH_TOKEN_USER, 0);
    m->v.eos = end;
    pith_tokenizer *tok = make(ctx, &m->v);
    EXPECT("a<|end|>b", PITH_TOKENIZE_SPECIAL, 'a', end, 'b');
    EXPECT("<|end|>>", PITH_TOKENIZE_SPECIAL, longer); /* the longest at the leftmost place */
    EXPECT("<|end|", PITH_TOKENIZE_SPECIAL, '<', '|', 'e', 'n', 'd', '|');
    EXPECT("<|end|>", 0, '<', '|', 'e', 'n', 'd', '|', '>'); /* text is text unless asked otherwise */
    EXPECT("a  xb", 0, 'a', user, 'b');                      /* the user's own tokens always */
    EXPECT("food", 0, word, 'd');
    assert_true(pith_token_ends(tok, end) && !pith_token_ends(tok, 'a') && !pith_token_ends(tok, -1) && !pith_token_ends(tok, 1 << 20));
    char buf[16];
    assert_int_equal(pith_token_text(tok, end, false, buf, sizeof buf), 0);
    assert_int_equal(pith_token_text(tok, end, true, buf, sizeof buf), 7);
    assert_memory_equal(buf, "<|end|>", 7);
    buf[0] = '#';
    assert_int_equal(pith_token_text(tok, end, true, buf, 6), 7); /* too small: nothing written */
    assert_int_equal(buf[0], '#');
    assert_int_equal(pith_token_text(tok, user, false, buf, sizeof buf), 3);
    assert_int_equal(pith_token_text(tok, -1, true, buf, sizeof buf), 0);
    assert_int_equal(pith_token_text(tok, INT32_MAX, true, buf, sizeof buf), 0);
    assert_int_equal(pith_tokenizer_find(tok, "<mask>", 6), mask);
    assert_int_equal(pith_tokenizer_find(tok, "<none>", 6), -1);
    assert_int_equal(pith_tokenizer_size(tok), m->v.n_tokens);
    pith_tokenizer_free(ctx, tok);
    /* the same with the flags of a tokenizer.json */
    added[end] = PITH_ADDED;
    added[mask] = PITH_ADDED | PITH_ADDED_LSTRIP | PITH_ADDED_RSTRIP;
    added[word] = PITH_ADDED | PITH_ADDED_WORD;
    m->v.added = added;
    tok = make(ctx, &m->v);
    EXPECT("a \t<mask>\xE3\x80\x80 b", PITH_TOKENIZE_SPECIAL, 'a', mask, 'b');
    EXPECT("food foo", 0, 'f', 'o', 'o', 'd', ' ', word);
    EXPECT("\xC3\xA9" "foo", 0, 0xC3, 0xA9, 'f', 'o', 'o');
    pith_tokenizer_free(ctx, tok);
    free(m);
    pith_ctx_free(ctx);
}

/* ---- tokenizer.json --------------------------------------------------------------------------- */

static const char small_json[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true,\"normalized\":false},{\"id\":9,\"content\":\"new\",\"special\":false}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"},{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"}]},"
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"always\",\"split\":true},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0],\"tokens\":[\"<s>\"]}}},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,\"fuse_unk\":true,"
    "\"vocab\":{\"<s>\":0,\"<unk>\":1,\"<0x7A>\":2,\"\xE2\x96\x81\":3,\"a\":4,\"b\":5,\"ab\":6,\"\xE2\x96\x81" "ab\":7,\"\\u00e9\":8,\"\\u0000\":10},"
    "\"merges\":[\"a b\",[\"\xE2\x96\x81\",\"ab\"]]}}";

static void test_json(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_arena *arena = pith_arena_new(ctx);
    static const char config[] = "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":null,\"pad_token\":\"<unk>\",\"chat_template\":[{\"name\":\"rag\",\"template\":\"R\"},{\"name\":\"default\",\"template\":\"T\"}]}";
    pith_vocab v;
    assert_ok(ctx, pith_hf_vocab_read(ctx, arena, small_json, sizeof small_json - 1, config, sizeof config - 1, &v));
    assert_int_equal(v.kind, PITH_VOCAB_SPM);
    assert_int_equal(v.n_tokens, 11);
    assert_int_equal(v.tokens[10].len, 1); /* a NUL */
    assert_int_equal(*v.tokens[10].s, 0);
    assert_int_equal(v.n_merges, 2);
    assert_int_equal(v.pad, 1);
    assert_int_equal(v.chat_template.len, 1);
    assert_int_equal(*v.chat_template.s, 'T');
    pith_tokenizer *tok = make(ctx, &v);
    pith_arena_free(arena); /* the tokenizer keeps what it needs */
    EXPECT("  AB   abz\xC3\xA9q ", PITH_TOKENIZE_BOS_EOS, 0, 7, 7, 2, 8, 1);
    EXPECT("abNEWb<s>", PITH_TOKENIZE_SPECIAL, 7, 9, 3, 5, 0); /* the added token is found after lower-casing */
    pith_tokenizer_free(ctx, tok);
    pith_ctx_free(ctx);
}

static void test_bad_json(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        pith_status status;
    } cases[] = {
        {"", PITH_E_FORMAT}, {"[]", PITH_E_FORMAT}, {"{", PITH_E_FORMAT}, {"{}", PITH_E_UNSUPPORTED}, {"nul", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\"}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e300},\"merges\":[]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2000000000},\"merges\":[]}}", PITH_E_LIMIT}, /* memory by a lie */
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[7]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}", PITH_E_UNSUPPORTED},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[1,2]]}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", PITH_E_FORMAT},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", PITH_E_UNSUPPORTED}, /* no pre-tokenizer */
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}", PITH_E_UNSUPPORTED},
        {"{\"normalizer\":{\"type\":\"Nmt\"},\"model\":{}}", PITH_E_UNSUPPORTED},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!!!\"},\"model\":{}}", PITH_E_FORMAT},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"\"},\"model\":{}}", PITH_E_UNSUPPORTED},
        {"{\"pre_tokenizer\":{\"type\":\"Punctuation\"},\"model\":{}}", PITH_E_UNSUPPORTED},
        {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"},\"model\":{}}", PITH_E_UNSUPPORTED},
        {"{\"pre_tokenizer\":{\"type\":\"Split\"},\"model\":{}}", PITH_E_FORMAT},
        {"{\"added_tokens\":[{\"id\":\"x\",\"content\":\"y\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", PITH_E_FORMAT},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"q\"}}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", PITH_E_FORMAT},
        {"{\"post_processor\":{\"type\":\"Other\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", PITH_E_UNSUPPORTED},
    };
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_arena *arena = pith_arena_new(ctx);
        pith_vocab v = {.n_tokens = 77};
        pith_status got = pith_hf_vocab_read(ctx, arena, cases[i].json, strlen(cases[i].json), NULL, 0, &v);
        if (got != cases[i].status) fail_msg("%s: status %d: %s", cases[i].json, got, pith_error(ctx));
        assert_non_null(strstr(pith_error(ctx), "tokenizer.json"));
        assert_int_equal(v.n_tokens, 77); /* untouched */
        pith_arena_free(arena);
    }
    /* cut short anywhere it is an error, and never more */
    for (size_t len = 0; len + 1 < sizeof small_json - 1; len++) {
        pith_arena *arena = pith_arena_new(ctx);
        pith_vocab v;
        assert_int_equal(pith_hf_vocab_read(ctx, arena, small_json, len, NULL, 0, &v), PITH_E_FORMAT);
        pith_arena_free(arena);
    }
    pith_ctx_free(ctx);
}

/* ---- damaged vocabularies, failing allocations ------------------------------------------------ */

static void test_bad_vocab(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tokenizer *tok = NULL;
    pith_vocab none = {.kind = PITH_VOCAB_NONE};
    assert_int_equal(pith_tokenizer_new(ctx, &none, &tok), PITH_E_UNSUPPORTED);
    assert_null(tok);
    made *m = new_made(PITH_VOCAB_UNIGRAM, "");
    add_token(m, "a", PITH_TOKEN_NORMAL, -1);
    m->v.scores = NULL;
    assert_int_equal(pith_tokenizer_new(ctx, &m->v, &tok), PITH_E_FORMAT);
    m->v.scores = m->scores;
    m->scores[0] = 1.0f / 0.0f;
    assert_int_equal(pith_tokenizer_new(ctx, &m->v, &tok), PITH_E_FORMAT);
    m->scores[0] = -1;
    static const char *const maps[] = {"\x01", "\xFF\xFF\xFF\xFF", "\x08\0\0\0abcd", "\x03\0\0\0abcdef"};
    static const size_t lens[] = {1, 4, 8, 10};
    for (size_t i = 0; i < PITH_COUNT(maps); i++) {
        m->v.charsmap = (pith_str){maps[i], lens[i]};
        assert_int_equal(pith_tokenizer_new(ctx, &m->v, &tok), PITH_E_FORMAT);
    }
    m->v.unk = add_token(m, "<unk>", PITH_TOKEN_UNKNOWN, 0);
    /* a map of noise: every step of the walk is checked */
    pith_rng rng = {.seed = 8};
    for (int round = 0; round < 200; round++) {
        uint8_t noise[4 + 256];
        pith_put32(noise, 128);
        for (size_t i = 4; i < sizeof noise; i++) noise[i] = (uint8_t)(pith_rng_below(&rng, 4) ? pith_rng_below(&rng, 64) : pith_rng_below(&rng, 256));
        m->v.charsmap = (pith_str){(const char *)noise, sizeof noise};
        tok = make(ctx, &m->v);
        pith_ids ids = {0};
        assert_ok(ctx, pith_tokenize(ctx, tok, (const char *)noise + 4, 200, 0, &ids));
        pith_ids_free(ctx, &ids);
        pith_tokenizer_free(ctx, tok);
    }
    free(m);
    /* ids, types and merges that point nowhere */
    m = random_bpe(7, 20, "gpt-2");
    m->v.bos = 1 << 30;
    m->v.eos = -5;
    m->types[3] = 200;
    add_merge(m, "nothere", "a");
    add_merge(m, "", "");
    m->merges[0] = (pith_str){NULL, 0};
    tok = make(ctx, &m->v);
    assert_int_equal(pith_tokenizer_bos(tok), -1);
    EXPECT("a", PITH_TOKENIZE_BOS_EOS, 'a');
    pith_tokenizer_free(ctx, tok);
    /* an unknown pre-tokenizer is said and GPT-2's is used; a pattern that does not compile is an error */
    strcpy(m->v.pre, "unheard-of");
    tok = make(ctx, &m->v);
    EXPECT("a 1", 0, 'a', ' ', '1');
    pith_tokenizer_free(ctx, tok);
    m->v.pattern = (pith_str){"a(", 2};
    tok = NULL;
    assert_int_equal(pith_tokenizer_new(ctx, &m->v, &tok), PITH_E_FORMAT);
    assert_null(tok);
    m->v.pattern = (pith_str){"(a|aa)+$", 8}; /* backtracks without end: refused, not waited for */
    tok = make(ctx, &m->v);
    char text[4000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    pith_ids ids = {0};
    assert_int_equal(pith_tokenize(ctx, tok, text, sizeof text, 0, &ids), PITH_E_LIMIT);
    assert_int_equal(ids.n, 0);
    pith_ids_free(ctx, &ids);
    pith_tokenizer_free(ctx, tok);
    free(m);
    pith_ctx_free(ctx);
}

static pith_status build_and_use(pith_ctx *ctx, const void *user)
{
    const made *m = user;
    static const char text[] = "abc cab  ABC\n<|end|> caf\xC3\xA9 e\xCC\x81 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    pith_tokenizer *tok = NULL;
    pith_ids ids = {0};
    char *chat = NULL;
    pith_message hello = {"user", "abc"};
    PITH_TRY(pith_tokenizer_new(ctx, &m->v, &tok));
    pith_status status = pith_tokenize(ctx, tok, text, sizeof text - 1, PITH_TOKENIZE_SPECIAL | PITH_TOKENIZE_BOS_EOS, &ids);
    if (status != PITH_OK) assert_int_equal(ids.n, 0);
    if (status == PITH_OK && m->v.chat_template.len) status = pith_chat_format(ctx, tok, &hello, 1, true, &chat);
    pith_free(ctx, chat);
    pith_ids_free(ctx, &ids);
    pith_tokenizer_free(ctx, tok);
    return status;
}

static pith_status read_json(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_arena *arena = pith_arena_new(ctx);
    pith_vocab v;
    if (!arena) return PITH_E_MEMORY;
    pith_status status = pith_hf_vocab_read(ctx, arena, small_json, sizeof small_json - 1, "{\"chat_template\":\"x\"}", 21, &v);
    pith_arena_free(arena);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    static const char chatml[] = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";
    made *m = random_bpe(9, 50, "qwen2");
    add_token(m, "<|end|>", PITH_TOKEN_CONTROL, 0);
    m->v.chat_template = (pith_str){chatml, sizeof chatml - 1};
    assert_true(test_every_fault(build_and_use, m) >= 5);
    strcpy(m->v.pre, "gpt-4o");
    /* PCRE2 does without the memory for its machine code */
    assert_true(test_every_fault_with(build_and_use, m, &(test_fault_options){.can_do_without = true}) >= 5);
    free(m);
    static const pith_vocab_kind kinds[] = {PITH_VOCAB_SPM, PITH_VOCAB_UNIGRAM, PITH_VOCAB_WORDPIECE};
    for (size_t i = 0; i < PITH_COUNT(kinds); i++) {
        m = new_made(kinds[i], "");
        m->v.unk = add_token(m, "<unk>", PITH_TOKEN_UNKNOWN, 0);
        add_token(m, "a", PITH_TOKEN_NORMAL, -3);
        add_token(m, "aa", PITH_TOKEN_NORMAL, -2);
        add_token(m, "<|end|>", PITH_TOKEN_CONTROL, 0);
        m->v.remove_extra_spaces = m->v.add_space_prefix = m->v.lowercase = true;
        uint8_t added[MOST] = {0, 0, 0, PITH_ADDED | PITH_ADDED_NORMALIZED};
        m->v.added = added;
        assert_true(test_every_fault(build_and_use, m) >= 5);
        free(m);
    }
    assert_true(test_every_fault(read_json, NULL) >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8), cmocka_unit_test(test_classes), cmocka_unit_test(test_words), cmocka_unit_test(test_merges),
        cmocka_unit_test(test_scores), cmocka_unit_test(test_unigram), cmocka_unit_test(test_wordpiece), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_long_runs), cmocka_unit_test(test_special), cmocka_unit_test(test_json), cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_bad_vocab), cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
