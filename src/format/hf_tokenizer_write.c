/* tokenizer.json and tokenizer_config.json of a byte-level BPE, as the `tokenizers` library reads them. */
#include "format/hf_tokenizer.h"

#include "format/json.h"

/* Objects by cJSON, which returns NULL when it has no memory and takes NULL for nothing: one check at the end. */
typedef struct writer {
    bool failed;
} writer;

static cJSON *put(writer *w, cJSON *object, const char *name, cJSON *value)
{
    if (value && cJSON_AddItemToObject(object, name, value)) return value;
    cJSON_Delete(value);
    w->failed = true;
    return NULL;
}

static cJSON *append(writer *w, cJSON *list, cJSON *value)
{
    if (value && cJSON_AddItemToArray(list, value)) return value;
    cJSON_Delete(value);
    w->failed = true;
    return NULL;
}

static cJSON *part(writer *w, cJSON *list, const char *type)
{
    cJSON *o = append(w, list, cJSON_CreateObject());
    put(w, o, "type", cJSON_CreateString(type));
    return o;
}

static void byte_level(writer *w, cJSON *o, bool regex)
{
    put(w, o, "type", cJSON_CreateString("ByteLevel"));
    put(w, o, "add_prefix_space", cJSON_CreateFalse());
    put(w, o, "trim_offsets", cJSON_CreateTrue());
    put(w, o, "use_regex", cJSON_CreateBool(regex));
}

/* false: there is no way to say this one */
static bool pre_tokenizer(writer *w, cJSON *root, const pith_vocab *v)
{
    bool digits = strcmp(v->pre, "smollm") == 0, pattern = v->pattern.len;
    if (!pattern && strcmp(v->pre, "gpt-2") == 0) {
        byte_level(w, put(w, root, "pre_tokenizer", cJSON_CreateObject()), true);
        return true;
    }
    if (!pattern && !digits) return false;
    cJSON *sequence = put(w, root, "pre_tokenizer", cJSON_CreateObject());
    put(w, sequence, "type", cJSON_CreateString("Sequence"));
    cJSON *list = put(w, sequence, "pretokenizers", cJSON_CreateArray());
    if (digits && !pattern) {
        put(w, part(w, list, "Digits"), "individual_digits", cJSON_CreateTrue());
    } else {
        cJSON *split = part(w, list, "Split");
        put(w, put(w, split, "pattern", cJSON_CreateObject()), "Regex", cJSON_CreateString(v->pattern.s));
        put(w, split, "behavior", cJSON_CreateString("Isolated"));
        put(w, split, "invert", cJSON_CreateFalse());
    }
    byte_level(w, append(w, list, cJSON_CreateObject()), !pattern);
    return true;
}

static void model(writer *w, cJSON *root, const pith_vocab *v)
{
    cJSON *o = put(w, root, "model", cJSON_CreateObject());
    put(w, o, "type", cJSON_CreateString("BPE"));
    static const char *const none[] = {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < PITH_COUNT(none); i++) put(w, o, none[i], cJSON_CreateNull());
    put(w, o, "fuse_unk", cJSON_CreateFalse());
    put(w, o, "byte_fallback", cJSON_CreateFalse());
    put(w, o, "ignore_merges", cJSON_CreateBool(v->ignore_merges));
    cJSON *vocab = put(w, o, "vocab", cJSON_CreateObject()), *merges = put(w, o, "merges", cJSON_CreateArray());
    for (size_t i = 0; i < v->n_tokens && !w->failed; i++) put(w, vocab, v->tokens[i].s, cJSON_CreateNumber((double)i));
    for (size_t i = 0; i < v->n_merges && !w->failed; i++) append(w, merges, cJSON_CreateString(v->merges[i].s));
}

/* What the whole vocabulary must be for this file to say the same. */
static pith_status check(pith_ctx *ctx, const pith_vocab *v)
{
    if (v->kind != PITH_VOCAB_BPE || v->n_steps || v->add_bos || v->add_eos || v->add_space_prefix || v->lowercase)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "only a byte-level BPE without steps before it can be written as tokenizer.json");
    for (size_t i = 0; i < v->n_tokens + v->n_merges; i++) {
        pith_str s = i < v->n_tokens ? v->tokens[i] : v->merges[i - v->n_tokens];
        if (!s.s || memchr(s.s, 0, s.len) || s.s[s.len])
            return pith_fail(ctx, PITH_E_UNSUPPORTED, "token or merge %zu holds a NUL, or ends without one, and cannot be written as tokenizer.json", i);
    }
    return PITH_OK;
}

static cJSON *tokenizer_json(writer *w, const pith_vocab *v, bool *known)
{
    cJSON *root = cJSON_CreateObject();
    put(w, root, "version", cJSON_CreateString("1.0"));
    put(w, root, "truncation", cJSON_CreateNull());
    put(w, root, "padding", cJSON_CreateNull());
    cJSON *added = put(w, root, "added_tokens", cJSON_CreateArray());
    for (size_t i = 0; i < v->n_tokens; i++) {
        if (v->types[i] != PITH_TOKEN_CONTROL && v->types[i] != PITH_TOKEN_USER) continue;
        unsigned flags = v->added ? v->added[i] : 0;
        cJSON *o = append(w, added, cJSON_CreateObject());
        put(w, o, "id", cJSON_CreateNumber((double)i));
        put(w, o, "content", cJSON_CreateString(v->tokens[i].s));
        put(w, o, "single_word", cJSON_CreateBool(flags & PITH_ADDED_WORD));
        put(w, o, "lstrip", cJSON_CreateBool(flags & PITH_ADDED_LSTRIP));
        put(w, o, "rstrip", cJSON_CreateBool(flags & PITH_ADDED_RSTRIP));
        put(w, o, "normalized", cJSON_CreateBool(flags & PITH_ADDED_NORMALIZED));
        put(w, o, "special", cJSON_CreateBool(v->types[i] == PITH_TOKEN_CONTROL));
    }
    put(w, root, "normalizer", cJSON_CreateNull());
    *known = pre_tokenizer(w, root, v);
    put(w, root, "post_processor", cJSON_CreateNull());
    byte_level(w, put(w, root, "decoder", cJSON_CreateObject()), true);
    model(w, root, v);
    return root;
}

static cJSON *config_json(writer *w, const pith_vocab *v)
{
    cJSON *root = cJSON_CreateObject();
    const struct {
        const char *key;
        int32_t id;
    } named[] = {{"bos_token", v->bos}, {"eos_token", v->eos}, {"pad_token", v->pad}};
    for (size_t i = 0; i < PITH_COUNT(named); i++)
        if (named[i].id >= 0 && (size_t)named[i].id < v->n_tokens) put(w, root, named[i].key, cJSON_CreateString(v->tokens[named[i].id].s));
    if (v->chat_template.len) put(w, root, "chat_template", cJSON_CreateString(v->chat_template.s));
    put(w, root, "tokenizer_class", cJSON_CreateString("PreTrainedTokenizerFast"));
    return root;
}

static pith_status write_one(pith_ctx *ctx, const char *path, const writer *w, cJSON *json)
{
    pith_status status = json && !w->failed ? pith_json_write(ctx, path, json) : pith_fail(ctx, PITH_E_MEMORY, "out of memory: %s", path);
    cJSON_Delete(json);
    return status;
}

pith_status pith_hf_vocab_write(pith_ctx *ctx, const pith_vocab *v, const char *tokenizer_path, const char *config_path)
{
    PITH_TRY(check(ctx, v));
    writer w = {0};
    bool known = true;
    cJSON *json = tokenizer_json(&w, v, &known);
    if (!known) {
        cJSON_Delete(json);
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "the pre-tokenizer %s cannot be written as tokenizer.json; gpt-2, smollm and patterns can", v->pre);
    }
    PITH_TRY(write_one(ctx, tokenizer_path, &w, json));
    return config_path ? write_one(ctx, config_path, &w, config_json(&w, v)) : PITH_OK;
}
