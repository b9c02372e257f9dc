/* Tokenizers.  The input's first byte chooses:
 *   0x7B {   the input is a tokenizer.json; what is accepted must tokenize any text, itself to begin with
 *   else     the rest is text for a small vocabulary of the kind that the byte's low bits say; byte-level ids must
 *            decode to the same bytes; or, with bit 7, a chat template, and with bit 5 what follows a NUL is said */

#include "format/hf_tokenizer.h"
#include "fuzz.h"
#include "text/tokenizer.h"

static void use(pith_ctx *ctx, const pith_tokenizer *tok, const char *text, size_t len, bool same)
{
    pith_ids ids = {0};
    pith_status status = pith_tokenize(ctx, tok, text, len, PITH_TOKENIZE_SPECIAL | PITH_TOKENIZE_BOS_EOS, &ids);
    require(status == PITH_OK || status == PITH_E_MEMORY || status == PITH_E_LIMIT);
    size_t at = 0;
    for (size_t i = 0; i < ids.n; i++) {
        char buf[256];
        require(ids.ids[i] >= 0 && (size_t)ids.ids[i] < pith_tokenizer_size(tok));
        size_t n = pith_token_text(tok, ids.ids[i], true, buf, sizeof buf);
        if (!same) continue;
        require(n <= sizeof buf && n <= len - at && !memcmp(buf, text + at, n));
        at += n;
    }
    require(!same || (status == PITH_OK && at == len));
    pith_ids_free(ctx, &ids);
}

static void read_json(pith_ctx *ctx, const char *json, size_t len)
{
    static const char text[] = "Hello  world's 12345 \xC3\xA9" "e\xCC\x81\n\n\t<s> \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80\xFF\xE2\x96\x81 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    pith_arena *arena = pith_arena_new(ctx);
    pith_vocab vocab;
    pith_tokenizer *tok = NULL;
    require(arena != NULL);
    pith_status status = pith_hf_vocab_read(ctx, arena, json, len, json, len, &vocab);
    if (status == PITH_OK) status = pith_tokenizer_new(ctx, &vocab, &tok);
    require(status != PITH_E_MEMORY && (status == PITH_OK || pith_error(ctx)[0]));
    if (status == PITH_OK) {
        use(ctx, tok, text, sizeof text - 1, false);
        use(ctx, tok, json, len, false);
    }
    pith_tokenizer_free(ctx, tok);
    pith_arena_free(arena);
}

/* Conversations by the tokenizer's template; `said`, after its NUL, is the user's first turn. */
static void chat(pith_ctx *ctx, const pith_tokenizer *tok, const char *said, size_t len)
{
    char *text = pith_strndup(ctx, len ? said + 1 : "u", len ? len - 1 : 1), *prompt = NULL;
    require(text != NULL);
    const pith_message talk[] = {{"system", " s "}, {"user", text}, {"assistant", "a"}, {"user", " \xC2\xA0 "}};
    for (size_t n = 0; n <= 4; n++) {
        if (pith_chat_format(ctx, tok, talk + (n == 1), n == 1 ? 1 : n, n & 1, &prompt) == PITH_OK) pith_free(ctx, prompt);
        prompt = NULL;
    }
    pith_free(ctx, text);
}

enum { MOST = 300 };

/* 256 bytes (as letters, or as <0x00> with SentencePiece's kinds) and some words. */
static void use_small(pith_ctx *ctx, uint8_t choice, const char *text, size_t len)
{
    static const pith_vocab_kind kinds[] = {PITH_VOCAB_BPE, PITH_VOCAB_SPM, PITH_VOCAB_UNIGRAM, PITH_VOCAB_WORDPIECE};
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen35"};
    static const char *const words[] = {"<unk>", "<s>", "</s>", "a", "b", "ab", "aa", "\xE2\x96\x81", "\xE2\x96\x81\x61", "##a", "##b", "\xC3\xA9", "the", "e", "t", "h", "he", "aaaa"};
    static char names[256][8];
    pith_str tokens[MOST], merges[] = {{"a b", 3}, {"a a", 3}, {"h e", 3}, {"t he", 4}, {"aa aa", 5}};
    uint8_t types[MOST];
    float scores[MOST];
    pith_vocab v = {.kind = kinds[choice & 3], .tokens = tokens, .types = types, .scores = scores, .bos = -1, .eos = -1, .unk = -1, .pad = -1, .eot = -1};
    bool bpe = v.kind == PITH_VOCAB_BPE;
    for (int b = 0; b < 256; b++) {
        int c = b <= 0x20 ? 0x100 + b : b >= 0x7F && b <= 0xA0 ? 0x121 + b - 0x7F : b == 0xAD ? 0x143 : b;
        if (!bpe) snprintf(names[b], sizeof names[b], "<0x%02X>", (unsigned)b);
        else if (c < 0x80) snprintf(names[b], sizeof names[b], "%c", c);
        else snprintf(names[b], sizeof names[b], "%c%c", 0xC0 | c >> 6, 0x80 | (c & 63));
        tokens[b] = (pith_str){names[b], strlen(names[b])};
        types[b] = bpe ? PITH_TOKEN_NORMAL : PITH_TOKEN_BYTE;
        scores[b] = 0;
    }
    v.n_tokens = 256;
    for (size_t i = 0; i < PITH_COUNT(words); i++) {
        tokens[v.n_tokens] = (pith_str){words[i], strlen(words[i])};
        types[v.n_tokens] = i == 0 ? PITH_TOKEN_UNKNOWN : i < 3 ? PITH_TOKEN_CONTROL : PITH_TOKEN_NORMAL;
        scores[v.n_tokens++] = -(float)i;
    }
    snprintf(v.pre, sizeof v.pre, "%s", bpe ? pres[choice >> 2 & 3] : "");
    v.merges = bpe ? merges : NULL;
    v.n_merges = bpe ? PITH_COUNT(merges) : 0;
    v.add_space_prefix = !bpe && choice & 4;
    v.remove_extra_spaces = choice & 8;
    v.lowercase = choice & 16;
    v.unk = bpe ? -1 : 256;
    if (choice & 64) v.bos = 257, v.eos = 258;
    size_t n_template = choice & 32 ? strnlen(text, len) : len;
    if (choice & 128) v.chat_template = (pith_str){text, n_template};
    pith_tokenizer *tok = NULL;
    require(pith_tokenizer_new(ctx, &v, &tok) == PITH_OK);
    use(ctx, tok, text, len, bpe);
    if (choice & 128) chat(ctx, tok, text + n_template, len - n_template);
    pith_tokenizer_free(ctx, tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!len) return 0;
    pith_ctx *ctx = fuzz_ctx(((size_t)16 << 20) + len * 256); /* a vocabulary may have 65536 ids that no token has */
    if (data[0] == '{') read_json(ctx, (const char *)data, len);
    else use_small(ctx, data[0], (const char *)data + 1, len - 1);
    pith_ctx_free(ctx);
    return 0;
}
