/* tokenizer.json: the pipeline normalizer -> pre_tokenizer -> model -> post_processor of the `tokenizers` library,
 * mapped to pith_vocab.  The file is not trusted: every member is checked for its type before it is used. */
#include "format/hf_tokenizer.h"

#include <float.h>
#include <math.h>

#include "format/json.h"
#include "format/safetensors.h"

#define MARK "\xE2\x96\x81" /* U+2581 */
enum { MOST_STEPS = 32 };

typedef struct reader {
    pith_ctx *ctx;
    pith_arena *arena;
    pith_vocab v;
    pith_text_step steps[MOST_STEPS];
    size_t n_steps;
    bool byte_level, byte_level_regex, digits, whitespace, bert, replaces_spaces; /* what the pre-tokenizers are */
    const char *pattern;
    bool metaspace, metaspace_split, has_nul;
    unsigned metaspace_flags;
} reader;

/* ---- NUL in strings --------------------------------------------------------------------------- */

/* cJSON's strings end at a NUL, but a vocabulary may hold that character.  Before parsing its escape is written as
 * that of U+FFFF, no character and of the same length; restore() takes it back in tokens and merges. */
static bool hide_nul(char *json, size_t len)
{
    bool any = false;
    for (size_t i = 0; i + 6 <= len; i++) {
        if (json[i] != '\\') continue;
        if (!memcmp(json + i, "\\u0000", 6)) {
            memcpy(json + i, "\\uffff", 6);
            any = true;
        }
        i++; /* what follows a backslash begins nothing */
    }
    return any;
}

/* U+FFFF back to NUL, in place; the new length. */
static size_t restore(const reader *r, char *s, size_t len)
{
    size_t n = 0;
    if (!r->has_nul) return len;
    for (size_t i = 0; i < len;) {
        bool nul = len - i >= 3 && !memcmp(s + i, "\xEF\xBF\xBF", 3);
        s[n++] = nul ? 0 : s[i];
        i += nul ? 3 : 1;
    }
    return n;
}

/* ---- members of objects ----------------------------------------------------------------------- */

static const cJSON *get(const cJSON *o, const char *key) { return cJSON_GetObjectItemCaseSensitive(o, key); }
static const char *get_text(const cJSON *o, const char *key) { return cJSON_GetStringValue(get(o, key)); }
static bool get_flag(const cJSON *o, const char *key, bool otherwise)
{
    const cJSON *x = get(o, key);
    return cJSON_IsBool(x) ? cJSON_IsTrue(x) : otherwise;
}
static const char *type_of(const cJSON *o)
{
    const char *t = get_text(o, "type");
    return t ? t : "";
}
static bool is(const char *a, const char *b) { return a && !strcmp(a, b); }

/* A whole number in 0..limit-1. */
static bool get_index(const cJSON *x, size_t limit, int32_t *value)
{
    double d = cJSON_IsNumber(x) ? x->valuedouble : -1;
    if (!(d >= 0 && d < (double)limit && d < 2147483648.0) || d != (double)(int32_t)d) return false;
    *value = (int32_t)d;
    return true;
}

static pith_status copy(reader *r, const char *s, pith_str *dst)
{
    size_t len = strlen(s);
    char *p = pith_arena_take(r->arena, len + 1);
    if (!p) return PITH_E_MEMORY;
    memcpy(p, s, len + 1);
    *dst = (pith_str){p, restore(r, p, len)};
    return PITH_OK;
}

/* ---- normalizer ------------------------------------------------------------------------------- */

static pith_status add_step(reader *r, pith_text_step s)
{
    if (r->n_steps == MOST_STEPS) return pith_fail(r->ctx, PITH_E_LIMIT, "tokenizer.json: more than %d steps of normalizing", MOST_STEPS);
    r->steps[r->n_steps++] = s;
    return PITH_OK;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static pith_status read_charsmap(reader *r, const char *s)
{
    size_t len = strlen(s), n = 0;
    uint8_t *dst = pith_arena_take(r->arena, len / 4 * 3 + 3);
    if (!dst) return PITH_E_MEMORY;
    uint32_t bits = 0;
    int n_bits = 0;
    for (size_t i = 0; i < len && s[i] != '='; i++) {
        int d = base64_digit(s[i]);
        if (d < 0) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: precompiled_charsmap is not base64 at character %zu", i);
        bits = bits << 6 | (uint32_t)d;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        dst[n++] = (uint8_t)(bits >> n_bits);
    }
    if (r->v.charsmap.len) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: two precompiled_charsmaps");
    r->v.charsmap = (pith_str){(const char *)dst, n};
    return add_step(r, (pith_text_step){.kind = PITH_STEP_CHARSMAP});
}

static pith_status read_replace(reader *r, const cJSON *o)
{
    const cJSON *pattern = get(o, "pattern");
    const char *from = get_text(pattern, "String"), *regex = get_text(pattern, "Regex"), *to = get_text(o, "content");
    pith_text_step s = {.kind = PITH_STEP_REPLACE};
    if (!to || (!from && !regex)) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: normalizer Replace without pattern and content");
    if (!from && strcmp(regex, " {2,}")) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: normalizer Replace with the pattern \"%.100s\" is not supported", regex);
    if (!from) s.kind = PITH_STEP_REPLACE_RUNS;
    else PITH_TRY(copy(r, from, &s.from));
    PITH_TRY(copy(r, to, &s.to));
    r->replaces_spaces |= is(from, " ");
    return add_step(r, s);
}

static pith_status read_normalizer(reader *r, const cJSON *o)
{
    static const struct {
        const char *type;
        pith_text_step_kind kind;
    } plain[] = {{"NFC", PITH_STEP_NFC}, {"NFD", PITH_STEP_NFD}, {"NFKC", PITH_STEP_NFKC}, {"NFKD", PITH_STEP_NFKD},
                 {"Lowercase", PITH_STEP_LOWERCASE}, {"StripAccents", PITH_STEP_STRIP_ACCENTS}};
    if (!o || cJSON_IsNull(o)) return PITH_OK;
    const char *type = type_of(o);
    for (size_t i = 0; i < PITH_COUNT(plain); i++)
        if (is(type, plain[i].type)) return add_step(r, (pith_text_step){.kind = plain[i].kind});
    if (is(type, "Sequence")) {
        const cJSON *x;
        cJSON_ArrayForEach(x, get(o, "normalizers")) PITH_TRY(read_normalizer(r, x));
        return PITH_OK;
    }
    if (is(type, "Strip")) {
        unsigned flags = (get_flag(o, "strip_left", true) ? PITH_STRIP_LEFT : 0) | (get_flag(o, "strip_right", true) ? PITH_STRIP_RIGHT : 0);
        return add_step(r, (pith_text_step){.kind = PITH_STEP_STRIP, .flags = flags});
    }
    if (is(type, "Prepend")) {
        const char *s = get_text(o, "prepend");
        pith_text_step step = {.kind = PITH_STEP_PREPEND};
        if (!s) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: normalizer Prepend without prepend");
        PITH_TRY(copy(r, s, &step.to));
        return add_step(r, step);
    }
    if (is(type, "Replace")) return read_replace(r, o);
    if (is(type, "Precompiled")) {
        const char *s = get_text(o, "precompiled_charsmap");
        return s ? read_charsmap(r, s) : pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: normalizer Precompiled without precompiled_charsmap");
    }
    if (is(type, "BertNormalizer")) {
        bool lower = get_flag(o, "lowercase", true), accents = get_flag(o, "strip_accents", lower);
        unsigned flags = (get_flag(o, "clean_text", true) ? PITH_BERT_CLEAN : 0) | (get_flag(o, "handle_chinese_chars", true) ? PITH_BERT_CJK : 0) |
                         (accents ? PITH_BERT_ACCENTS : 0) | (lower ? PITH_BERT_LOWER : 0);
        r->v.lowercase = lower;
        return add_step(r, (pith_text_step){.kind = PITH_STEP_BERT, .flags = flags});
    }
    return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: normalizer \"%.60s\" is not supported", type);
}

/* ---- pre_tokenizer ---------------------------------------------------------------------------- */

static pith_status read_metaspace(reader *r, const cJSON *o)
{
    const char *mark = get_text(o, "replacement"), *scheme = get_text(o, "prepend_scheme");
    if (mark && strcmp(mark, MARK)) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: Metaspace with the replacement \"%.20s\" is not supported", mark);
    if (!scheme) scheme = get_flag(o, "add_prefix_space", true) ? "always" : "never";
    r->metaspace = true;
    r->metaspace_split = get_flag(o, "split", true);
    r->metaspace_flags = is(scheme, "always") ? PITH_METASPACE_ALWAYS : is(scheme, "first") ? PITH_METASPACE_FIRST : 0;
    if (!r->metaspace_flags && strcmp(scheme, "never")) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: prepend_scheme \"%.60s\" is not supported", scheme);
    return PITH_OK;
}

static pith_status read_split(reader *r, const cJSON *o)
{
    const cJSON *pattern = get(o, "pattern");
    const char *regex = get_text(pattern, "Regex"), *text = get_text(pattern, "String"), *behavior = get_text(o, "behavior");
    bool invert = get_flag(o, "invert", false);
    if (!behavior || (!regex && !text)) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: pre-tokenizer Split without pattern or behavior");
    if (is(text, " ") && r->replaces_spaces) return PITH_OK; /* Gemma's: no space is left to split at */
    if (!regex || r->pattern || !((is(behavior, "Isolated") && !invert) || (is(behavior, "Removed") && invert)))
        return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: pre-tokenizer Split (%s, invert %d, pattern \"%.100s\") is not supported here",
                         behavior, invert, regex ? regex : text);
    r->pattern = regex;
    return PITH_OK;
}

static pith_status read_pre_tokenizer(reader *r, const cJSON *o)
{
    if (!o || cJSON_IsNull(o)) return PITH_OK;
    const char *type = type_of(o);
    if (is(type, "Sequence")) {
        const cJSON *x;
        cJSON_ArrayForEach(x, get(o, "pretokenizers")) PITH_TRY(read_pre_tokenizer(r, x));
        return PITH_OK;
    }
    if (r->byte_level || r->metaspace || r->bert)
        return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: pre-tokenizer %.60s after another that ends the sequence is not supported", type);
    if (is(type, "Metaspace")) return read_metaspace(r, o);
    if (is(type, "Split")) return read_split(r, o);
    if (is(type, "ByteLevel")) {
        r->byte_level = true;
        r->byte_level_regex = get_flag(o, "use_regex", true);
        if (!get_flag(o, "add_prefix_space", true)) return PITH_OK;
        if (r->digits || r->pattern) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: add_prefix_space after another pre-tokenizer is not supported");
        return add_step(r, (pith_text_step){.kind = PITH_STEP_PREFIX_SPACE});
    }
    if (is(type, "Digits") && get_flag(o, "individual_digits", false) && !r->pattern) return r->digits = true, PITH_OK;
    if (is(type, "WhitespaceSplit") && !r->pattern) return r->whitespace = true, PITH_OK;
    if (is(type, "BertPreTokenizer") && !r->pattern) return r->bert = true, PITH_OK;
    return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: pre-tokenizer \"%.60s\" is not supported here", type);
}

/* Patterns that files give to Split, and the names that GGUF has for what they do. */
static const char *const patterns[][2] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt-2"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", "llama-bpe"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", "qwen2"},
};

/* What the pre-tokenizers found come to, for the kind of the model. */
static pith_status settle_pre_tokenizer(reader *r)
{
    const char *pre = NULL;
    switch (r->v.kind) {
    case PITH_VOCAB_BPE:
        if (r->whitespace || r->metaspace || r->bert || (r->pattern && (r->digits || r->byte_level_regex))) break;
        if (r->pattern) {
            pre = "pattern";
            for (size_t i = 0; i < PITH_COUNT(patterns); i++)
                if (is(r->pattern, patterns[i][0])) pre = patterns[i][1];
            PITH_TRY(copy(r, r->pattern, &r->v.pattern));
        } else if (r->byte_level_regex) {
            pre = r->digits ? "smollm" : "gpt-2";
        } else if (!r->digits) {
            pre = "none";
        }
        break;
    case PITH_VOCAB_SPM:
    case PITH_VOCAB_UNIGRAM:
        if (r->digits || r->pattern || r->bert || (r->whitespace && (!r->metaspace || !r->metaspace_flags))) break;
        if (r->whitespace) PITH_TRY(add_step(r, (pith_text_step){.kind = PITH_STEP_WORDS}));
        else if (r->metaspace) PITH_TRY(add_step(r, (pith_text_step){.kind = PITH_STEP_METASPACE, .flags = r->metaspace_flags}));
        pre = r->metaspace && r->metaspace_split ? "metaspace" : "none";
        break;
    case PITH_VOCAB_WORDPIECE:
        if (r->bert && !r->digits && !r->pattern && !r->metaspace && !r->byte_level) pre = "bert";
        break;
    case PITH_VOCAB_NONE: break;
    }
    if (!pre) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: its pre-tokenizer does not go with its model in a way that pith knows");
    snprintf(r->v.pre, sizeof r->v.pre, "%s", pre);
    return PITH_OK;
}

/* ---- model ------------------------------------------------------------------------------------ */

/* A token of the vocabulary or of added_tokens into its place. */
static pith_status put_token(reader *r, const char *text, int32_t id, char **room, size_t *left)
{
    size_t len = strlen(text);
    if (len >= *left) return pith_fail(r->ctx, PITH_E_INTERNAL, "tokenizer.json: its strings grew while they were read");
    memcpy(*room, text, len + 1);
    r->v.tokens[id] = (pith_str){*room, restore(r, *room, len)};
    r->v.types[id] = PITH_TOKEN_NORMAL;
    *room += len + 1;
    *left -= len + 1;
    return PITH_OK;
}

/* Name and id of an entry: an object of added_tokens, ["name", score] of unigram, "name": id of BPE and WordPiece. */
static bool entry(const reader *r, const cJSON *x, bool added, size_t index, const char **name, int32_t *id)
{
    if (added) {
        *name = cJSON_IsObject(x) ? get_text(x, "content") : NULL;
        return *name && get_index(get(x, "id"), INT32_MAX, id);
    }
    if (r->v.kind == PITH_VOCAB_UNIGRAM) {
        const cJSON *score = cJSON_IsArray(x) ? cJSON_GetArrayItem(x, 1) : NULL;
        *name = score ? cJSON_GetStringValue(cJSON_GetArrayItem(x, 0)) : NULL;
        *id = (int32_t)index;
        return *name && index < INT32_MAX && cJSON_IsNumber(score) && fabs(score->valuedouble) <= FLT_MAX;
    }
    *name = x->string;
    return get_index(x, INT32_MAX, id);
}

static void flags_of_added(reader *r, const cJSON *x, int32_t id)
{
    r->v.types[id] = get_flag(x, "special", false) ? PITH_TOKEN_CONTROL : PITH_TOKEN_USER;
    r->v.added[id] = (uint8_t)(PITH_ADDED | (get_flag(x, "lstrip", false) ? PITH_ADDED_LSTRIP : 0) | (get_flag(x, "rstrip", false) ? PITH_ADDED_RSTRIP : 0) |
                               (get_flag(x, "single_word", false) ? PITH_ADDED_WORD : 0) | (get_flag(x, "normalized", true) ? PITH_ADDED_NORMALIZED : 0));
}

static pith_status read_tokens(reader *r, const cJSON *vocab, const cJSON *added)
{
    const cJSON *lists[2] = {vocab, added}, *x;
    size_t n_entries = 0, bytes = 1, n = 0, index;
    const char *name = "";
    int32_t id = 0;
    for (int k = 0; k < 2; k++) {
        index = 0;
        cJSON_ArrayForEach(x, lists[k]) {
            if (!entry(r, x, k, index, &name, &id))
                return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: entry %zu of %s is not a token with its id or score", index, k ? "added_tokens" : "vocab");
            n_entries++;
            index++;
            bytes += strlen(name) + 1;
            n = PITH_MAX(n, (size_t)id + 1);
        }
    }
    if (!n) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: the vocabulary is empty");
    if (n > 2 * n_entries + 65536) return pith_fail(r->ctx, PITH_E_LIMIT, "tokenizer.json: the highest id is %zu, but there are only %zu tokens", n - 1, n_entries);
    r->v.n_tokens = n;
    r->v.tokens = pith_arena_take(r->arena, n * sizeof *r->v.tokens);
    r->v.types = pith_arena_take(r->arena, n);
    r->v.added = pith_arena_take(r->arena, n);
    char *room = pith_arena_take(r->arena, bytes);
    if (!r->v.tokens || !r->v.types || !r->v.added || !room) return PITH_E_MEMORY;
    if (r->v.kind == PITH_VOCAB_UNIGRAM && !(r->v.scores = pith_arena_take(r->arena, n * sizeof *r->v.scores))) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        r->v.tokens[i] = (pith_str){"", 0};
        r->v.types[i] = PITH_TOKEN_UNUSED;
        r->v.added[i] = 0;
        if (r->v.scores) r->v.scores[i] = 0;
    }
    index = 0;
    cJSON_ArrayForEach(x, vocab) {
        entry(r, x, false, index++, &name, &id);
        if (r->v.types[id] != PITH_TOKEN_UNUSED)
            return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: vocab: \"%.60s\" and \"%.60s\" both have the id %d", r->v.tokens[id].s, name, (int)id);
        PITH_TRY(put_token(r, name, id, &room, &bytes));
        if (r->v.scores) r->v.scores[id] = (float)cJSON_GetArrayItem(x, 1)->valuedouble;
    }
    cJSON_ArrayForEach(x, added) {
        entry(r, x, true, 0, &name, &id);
        PITH_TRY(put_token(r, name, id, &room, &bytes));
        flags_of_added(r, x, id);
    }
    return PITH_OK;
}

static int32_t find(const pith_vocab *v, const char *name)
{
    size_t len = name ? strlen(name) : 0;
    for (size_t i = 0; len && i < v->n_tokens; i++)
        if (v->tokens[i].len == len && !memcmp(v->tokens[i].s, name, len)) return (int32_t)i;
    return -1;
}

static pith_status read_merges(reader *r, const cJSON *merges)
{
    const cJSON *x;
    size_t n = 0, bytes = 1;
    cJSON_ArrayForEach(x, merges) {
        const char *a = cJSON_IsArray(x) ? cJSON_GetStringValue(cJSON_GetArrayItem(x, 0)) : cJSON_GetStringValue(x);
        const char *b = cJSON_IsArray(x) ? cJSON_GetStringValue(cJSON_GetArrayItem(x, 1)) : "";
        if (!a || !b) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: merge %zu is neither \"left right\" nor [left, right]", n);
        bytes += strlen(a) + strlen(b) + 2;
        n++;
    }
    r->v.n_merges = n;
    r->v.merges = pith_arena_take(r->arena, n * sizeof *r->v.merges);
    char *room = pith_arena_take(r->arena, bytes);
    if (!r->v.merges || !room) return PITH_E_MEMORY;
    n = 0;
    cJSON_ArrayForEach(x, merges) {
        bool pair = cJSON_IsArray(x);
        const char *a = pair ? cJSON_GetArrayItem(x, 0)->valuestring : x->valuestring, *b = pair ? cJSON_GetArrayItem(x, 1)->valuestring : "";
        size_t len = strlen(a), n_b = strlen(b);
        memcpy(room, a, len);
        if (pair) {
            room[len] = ' ';
            memcpy(room + len + 1, b, n_b);
            len += 1 + n_b;
        }
        r->v.merges[n++] = (pith_str){room, restore(r, room, len)};
        room += len;
    }
    return PITH_OK;
}

static pith_status read_model(reader *r, const cJSON *model, const cJSON *added)
{
    const cJSON *vocab = get(model, "vocab");
    const char *type = type_of(model), *unk = get_text(model, "unk_token");
    if (!*type) type = get(model, "merges") ? "BPE" : cJSON_IsArray(vocab) ? "Unigram" : get(model, "max_input_chars_per_word") ? "WordPiece" : "";
    bool bpe = is(type, "BPE"), fallback = get_flag(model, "byte_fallback", false);
    const cJSON *suffix = get(model, "end_of_word_suffix"), *prefix = get(model, "continuing_subword_prefix");
    if (bpe) r->v.kind = r->byte_level ? PITH_VOCAB_BPE : PITH_VOCAB_SPM;
    else if (is(type, "Unigram")) r->v.kind = PITH_VOCAB_UNIGRAM;
    else if (is(type, "WordPiece")) r->v.kind = PITH_VOCAB_WORDPIECE;
    else return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: model \"%.60s\" is not supported", type);
    if (!(r->v.kind == PITH_VOCAB_UNIGRAM ? cJSON_IsArray(vocab) : cJSON_IsObject(vocab))) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: model without a vocab of its kind");
    if (bpe && ((cJSON_IsString(suffix) && *suffix->valuestring) || (cJSON_IsString(prefix) && *prefix->valuestring)))
        return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: a BPE with marks at the ends or inside of words is not supported");
    if (added && !cJSON_IsArray(added) && !cJSON_IsNull(added)) return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: added_tokens is not a list");
    PITH_TRY(read_tokens(r, vocab, added));
    if (bpe) PITH_TRY(read_merges(r, get(model, "merges")));
    r->v.ignore_merges = get_flag(model, "ignore_merges", false);
    r->v.keep_unknown = bpe && !get_flag(model, "fuse_unk", false);
    r->v.unk = find(&r->v, unk);
    if (r->v.kind == PITH_VOCAB_UNIGRAM && !get_index(get(model, "unk_id"), r->v.n_tokens, &r->v.unk)) r->v.unk = -1;
    if (r->v.unk >= 0) r->v.types[r->v.unk] = PITH_TOKEN_UNKNOWN;
    for (size_t i = 0; i < r->v.n_tokens && fallback; i++) {
        const pith_str t = r->v.tokens[i];
        if (t.len == 6 && !memcmp(t.s, "<0x", 3) && t.s[5] == '>' && r->v.types[i] == PITH_TOKEN_NORMAL) r->v.types[i] = PITH_TOKEN_BYTE;
    }
    if (r->v.kind == PITH_VOCAB_WORDPIECE) {
        const char *inner = cJSON_IsString(prefix) && *prefix->valuestring ? prefix->valuestring : "##";
        int32_t most = 0;
        PITH_TRY(copy(r, inner, &r->v.word_prefix));
        if (get_index(get(model, "max_input_chars_per_word"), 1 << 30, &most)) r->v.max_word_chars = (uint32_t)most;
    }
    return PITH_OK;
}

/* ---- post_processor and tokenizer_config ------------------------------------------------------ */

/* The id of a pair ["[SEP]", 102] of BertProcessing. */
static int32_t pair_id(reader *r, const cJSON *x)
{
    int32_t id;
    return get_index(cJSON_GetArrayItem(x, 1), r->v.n_tokens, &id) ? id : -1;
}

static pith_status read_template(reader *r, const cJSON *o)
{
    const cJSON *x;
    bool after = false;
    cJSON_ArrayForEach(x, get(o, "single")) {
        const cJSON *special = get(x, "SpecialToken"), *ids;
        if (get(x, "Sequence")) after = true;
        if (!special) continue;
        const char *name = get_text(special, "id");
        ids = name ? get(get(get(o, "special_tokens"), name), "ids") : NULL;
        int32_t id;
        if (cJSON_GetArraySize(ids) != 1 || !get_index(cJSON_GetArrayItem(ids, 0), r->v.n_tokens, &id))
            return pith_fail(r->ctx, PITH_E_FORMAT, "tokenizer.json: the post_processor's token \"%.60s\" has not one id in the vocabulary", name ? name : "");
        bool *add = after ? &r->v.add_eos : &r->v.add_bos;
        if (*add) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: a post_processor that adds two tokens on one side is not supported");
        *add = true;
        *(after ? &r->v.eos : &r->v.bos) = id;
    }
    return PITH_OK;
}

static pith_status read_post_processor(reader *r, const cJSON *o)
{
    if (!o || cJSON_IsNull(o)) return PITH_OK;
    const char *type = type_of(o);
    if (is(type, "Sequence")) {
        const cJSON *x;
        cJSON_ArrayForEach(x, get(o, "processors")) PITH_TRY(read_post_processor(r, x));
        return PITH_OK;
    }
    if (is(type, "ByteLevel")) return PITH_OK; /* moves offsets only */
    if (is(type, "TemplateProcessing")) return read_template(r, o);
    if (is(type, "BertProcessing") || is(type, "RobertaProcessing")) {
        r->v.bos = pair_id(r, get(o, "cls"));
        r->v.eos = pair_id(r, get(o, "sep"));
        r->v.add_bos = r->v.bos >= 0;
        r->v.add_eos = r->v.eos >= 0;
        return PITH_OK;
    }
    return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "tokenizer.json: post_processor \"%.60s\" is not supported", type);
}

/* The token that tokenizer_config.json names under `key`: a string or an object with content. */
static int32_t named_token(reader *r, const cJSON *config, const char *key)
{
    const cJSON *x = get(config, key);
    const char *name = cJSON_IsObject(x) ? get_text(x, "content") : cJSON_GetStringValue(x);
    int32_t id = find(&r->v, name);
    if (name && id < 0) pith_log(r->ctx, PITH_LOG_WARN, "tokenizer_config.json: %s \"%.60s\" is not in the vocabulary", key, name);
    return id;
}

static pith_status read_config(reader *r, const cJSON *config)
{
    const struct {
        const char *key;
        int32_t *id;
        bool settled; /* by the post_processor */
    } named[] = {{"bos_token", &r->v.bos, r->v.add_bos}, {"eos_token", &r->v.eos, r->v.add_eos}, {"pad_token", &r->v.pad, false}};
    for (size_t i = 0; i < PITH_COUNT(named); i++) {
        int32_t id = named_token(r, config, named[i].key);
        if (id >= 0 && !named[i].settled) *named[i].id = id;
    }
    const cJSON *chat = get(config, "chat_template"), *x;
    const char *text = cJSON_GetStringValue(chat);
    if (cJSON_IsArray(chat)) {
        cJSON_ArrayForEach(x, chat)
            if (is(get_text(x, "name"), "default")) text = get_text(x, "template");
    }
    return text ? copy(r, text, &r->v.chat_template) : PITH_OK;
}

/* ---- all of it -------------------------------------------------------------------------------- */

/* Whether U+FFFF is there, as itself or as an escape, so that it can stand for nothing else. */
static bool holds_ffff(const char *text, size_t len)
{
    if (memmem(text, len, "\xEF\xBF\xBF", 3)) return true;
    for (size_t i = 0; i + 6 <= len; i++)
        if (text[i] == '\\' && strncasecmp(text + i, "\\uffff", 6) == 0) return true;
    return false;
}

static pith_status parse(pith_ctx *ctx, const char *name, const char *text, size_t len, bool *has_nul, cJSON **json)
{
    char *copied = NULL;
    if (memmem(text, len, "\\u0000", 6) && !holds_ffff(text, len)) {
        copied = pith_strndup(ctx, text, len);
        if (!copied) return PITH_E_MEMORY;
        *has_nul = hide_nul(copied, len);
        text = copied;
    }
    pith_status status = pith_hf_json_parse(ctx, name, text, len, json);
    pith_free(ctx, copied);
    return status == PITH_E_CORRUPT ? PITH_E_FORMAT : status; /* the message stays */
}

/* The nearest that GGUF's flags can say of the steps, for what is written to files that know only those. */
static void derive_flags(reader *r)
{
    for (size_t i = 0; i < r->n_steps; i++) {
        const pith_text_step *s = &r->steps[i];
        bool prefix = s->kind == PITH_STEP_PREPEND || s->kind == PITH_STEP_WORDS || s->kind == PITH_STEP_PREFIX_SPACE || (s->kind == PITH_STEP_METASPACE && s->flags);
        r->v.add_space_prefix |= prefix;
        r->v.remove_extra_spaces |= s->kind == PITH_STEP_REPLACE_RUNS || s->kind == PITH_STEP_WORDS;
    }
}

static pith_status read_all(reader *r, const cJSON *root)
{
    r->v.bos = r->v.eos = r->v.unk = r->v.pad = r->v.eot = -1;
    PITH_TRY(read_normalizer(r, get(root, "normalizer")));
    PITH_TRY(read_pre_tokenizer(r, get(root, "pre_tokenizer")));
    PITH_TRY(read_model(r, get(root, "model"), get(root, "added_tokens")));
    PITH_TRY(settle_pre_tokenizer(r));
    PITH_TRY(read_post_processor(r, get(root, "post_processor")));
    derive_flags(r);
    r->v.n_steps = r->n_steps;
    r->v.steps = pith_arena_take(r->arena, PITH_MAX(r->n_steps, 1) * sizeof *r->v.steps);
    if (!r->v.steps) return PITH_E_MEMORY;
    memcpy(r->v.steps, r->steps, r->n_steps * sizeof *r->steps);
    return PITH_OK;
}

pith_status pith_hf_vocab_read(pith_ctx *ctx, pith_arena *arena, const char *tokenizer_json, size_t len,
                               const char *tokenizer_config_json, size_t config_len, pith_vocab *vocab)
{
    reader r = {.ctx = ctx, .arena = arena};
    cJSON *root = NULL, *config = NULL;
    bool config_has_nul = false;
    pith_status status = parse(ctx, "tokenizer.json", tokenizer_json, len, &r.has_nul, &root);
    if (status == PITH_OK && tokenizer_config_json) status = parse(ctx, "tokenizer_config.json", tokenizer_config_json, config_len, &config_has_nul, &config);
    if (status == PITH_OK) status = read_all(&r, root);
    r.has_nul = config_has_nul;
    if (status == PITH_OK && config) status = read_config(&r, config);
    cJSON_Delete(root);
    cJSON_Delete(config);
    if (status == PITH_OK) *vocab = r.v;
    return status;
}
