/* What the keys of a GGUF file say: the network's settings, its tokenizer, and every key as text.
 * Names of keys and their defaults: ggml-org/ggml, docs/gguf.md, and llama.cpp's own loader. */
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "format/gguf.h"
#include "format/settings.h"

static int shown(pith_str s) { return (int)PITH_MIN(s.len, 60); }

/* ---- values ----------------------------------------------------------------------------------- */

/* Value i of a key as a whole number; false when the type is not one. */
static bool value_int(const pith_gguf_key *k, size_t i, int64_t *v)
{
    const uint8_t *p = k->data;
    switch (k->item_type) {
    case PITH_GGUF_U8: case PITH_GGUF_BOOL: *v = p[i]; return true;
    case PITH_GGUF_I8: *v = (int8_t)p[i]; return true;
    case PITH_GGUF_U16: *v = pith_le16(p + 2 * i); return true;
    case PITH_GGUF_I16: *v = (int16_t)pith_le16(p + 2 * i); return true;
    case PITH_GGUF_U32: *v = pith_le32(p + 4 * i); return true;
    case PITH_GGUF_I32: *v = (int32_t)pith_le32(p + 4 * i); return true;
    case PITH_GGUF_U64: case PITH_GGUF_I64: *v = (int64_t)pith_le64(p + 8 * i); return true;
    default: return false;
    }
}

static float le_f32(const uint8_t *p) { return pith_float_of(pith_le32(p)); }

static double le_f64(const uint8_t *p)
{
    uint64_t u = pith_le64(p);
    double f;
    memcpy(&f, &u, 8);
    return f;
}

/* ---- settings --------------------------------------------------------------------------------- */

typedef struct lookup {
    pith_ctx *ctx;
    const pith_gguf *g;
    const char *architecture;
    char name[128];             /* the key looked for last */
} lookup;

static const pith_gguf_key *find(lookup *l, const char *suffix)
{
    snprintf(l->name, sizeof l->name, "%s.%s", l->architecture, suffix);
    return pith_gguf_find(l->g, l->name);
}

/* A number of 0..2^32-1; *v is left alone when the key is missing.  A list, one value a layer, must hold
 * one value throughout: the first is taken and a difference is said. */
static pith_status get_u32(lookup *l, const char *suffix, uint32_t *v)
{
    const pith_gguf_key *k = find(l, suffix);
    if (!k) return PITH_OK;
    int64_t first = 0, other;
    if (k->n == 0 || !value_int(k, 0, &first)) return pith_fail(l->ctx, PITH_E_CORRUPT, "%s: key %s is not a whole number", l->g->path, l->name);
    if (first < 0 || first > UINT32_MAX)
        return pith_fail(l->ctx, PITH_E_CORRUPT, "%s: key %s is %lld, out of 0..2^32-1", l->g->path, l->name, (long long)first);
    for (size_t i = 1; i < k->n; i++) {
        if (value_int(k, i, &other) && other == first) continue;
        pith_log(l->ctx, PITH_LOG_WARN, "%s: key %s differs from layer to layer; the first value, %lld, is taken", l->g->path, l->name, (long long)first);
        break;
    }
    *v = (uint32_t)first;
    return PITH_OK;
}

static pith_status get_f32(lookup *l, const char *suffix, float *v)
{
    const pith_gguf_key *k = find(l, suffix);
    if (!k) return PITH_OK;
    double x;
    if (k->type == PITH_GGUF_F32) x = (double)le_f32(k->data);
    else if (k->type == PITH_GGUF_F64) x = le_f64(k->data);
    else return pith_fail(l->ctx, PITH_E_CORRUPT, "%s: key %s is not a real number", l->g->path, l->name);
    if (!isfinite(x) || fabs(x) > 1e30) return pith_fail(l->ctx, PITH_E_CORRUPT, "%s: key %s is not a usable number", l->g->path, l->name);
    *v = (float)x;
    return PITH_OK;
}

static bool str_is(pith_str s, const char *text) { return s.len == strlen(text) && memcmp(s.s, text, s.len) == 0; }

static pith_str key_str(const pith_gguf_key *k)
{
    return (pith_str){(const char *)k->data + 8, (size_t)pith_le64(k->data)};
}

static const pith_named_tensor *tensor_named(const pith_gguf *g, const char *name)
{
    for (size_t i = 0; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i].name, name) == 0) return &g->tensors[i];
    return NULL;
}

static pith_status get_scaling(lookup *l, pith_settings *s)
{
    s->rope_original_ctx = s->n_ctx;
    PITH_TRY(get_f32(l, "rope.scaling.factor", &s->rope_factor));
    if (s->rope_factor == 0.0f) s->rope_factor = 1.0f; /* how some writers say "none" */
    PITH_TRY(get_u32(l, "rope.scaling.original_context_length", &s->rope_original_ctx));
    const pith_gguf_key *k = find(l, "rope.scaling.type");
    if (k && k->type != PITH_GGUF_STRING) return pith_fail(l->ctx, PITH_E_CORRUPT, "%s: key %s is not text", l->g->path, l->name);
    if (!k) {
        PITH_TRY(get_f32(l, "rope.scale_linear", &s->rope_factor)); /* the name before scaling.type came */
        if (s->rope_factor != 1.0f) s->rope_scaling = PITH_ROPE_LINEAR;
    } else if (str_is(key_str(k), "linear")) {
        s->rope_scaling = PITH_ROPE_LINEAR;
    } else if (str_is(key_str(k), "yarn")) {
        s->rope_scaling = PITH_ROPE_YARN;
        float extra = 1.0f;
        PITH_TRY(get_f32(l, "rope.scaling.attn_factor", &extra));
        PITH_TRY(get_f32(l, "rope.scaling.yarn_attn_factor", &extra));
        PITH_TRY(get_f32(l, "rope.scaling.yarn_beta_fast", &s->rope_beta_fast));
        PITH_TRY(get_f32(l, "rope.scaling.yarn_beta_slow", &s->rope_beta_slow));
        s->rope_attn_factor = extra * pith_yarn_attn_factor(s->rope_factor);
    } else if (!str_is(key_str(k), "none")) {
        pith_log(l->ctx, PITH_LOG_WARN, "%s: rope scaling %.*s is not known; positions are not scaled, long contexts will be poor", l->g->path,
                 shown(key_str(k)), key_str(k).s);
    }
    const pith_named_tensor *freqs = tensor_named(l->g, "rope_freqs.weight");
    if (!freqs) return PITH_OK;
    float factors[1024];
    size_t n = pith_tensor_count(&freqs->t);
    if (freqs->t.dtype != PITH_F32 || n != s->rope_dims / 2 || n > PITH_COUNT(factors))
        return pith_fail(l->ctx, PITH_E_CORRUPT, "%s: tensor rope_freqs.weight has %zu values, %u as F32 are expected", l->g->path, n, s->rope_dims / 2);
    for (size_t i = 0; i < n; i++) factors[i] = le_f32((const uint8_t *)freqs->t.data + 4 * i);
    if (!pith_llama3_from_factors(s, factors, n))
        pith_log(l->ctx, PITH_LOG_WARN, "%s: rope_freqs.weight does not follow llama 3's rule; positions are not scaled, long contexts will be poor", l->g->path);
    return PITH_OK;
}

pith_status pith_gguf_settings(pith_ctx *ctx, const pith_gguf *g, pith_settings *s)
{
    pith_settings_default(s);
    const pith_gguf_key *k = pith_gguf_find(g, "general.architecture");
    if (!k) return PITH_OK;
    if (k->type != PITH_GGUF_STRING) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key general.architecture is not text", g->path);
    pith_str name = key_str(k);
    if (name.len >= sizeof s->architecture || memchr(name.s, 0, name.len))
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: key general.architecture is no usable name: %.*s", g->path, shown(name), name.s);
    memcpy(s->architecture, name.s, name.len);
    lookup look = {.ctx = ctx, .g = g, .architecture = s->architecture}, *l = &look;
    PITH_TRY(get_u32(l, "block_count", &s->n_layers));
    PITH_TRY(get_u32(l, "context_length", &s->n_ctx));
    PITH_TRY(get_u32(l, "embedding_length", &s->n_embd));
    PITH_TRY(get_u32(l, "feed_forward_length", &s->n_ff));
    PITH_TRY(get_u32(l, "attention.head_count", &s->n_heads));
    s->n_kv_heads = s->n_heads;
    PITH_TRY(get_u32(l, "attention.head_count_kv", &s->n_kv_heads));
    if (s->n_heads) s->head_dim = s->n_embd / s->n_heads;
    PITH_TRY(get_u32(l, "attention.key_length", &s->head_dim));
    s->rope_dims = s->head_dim;
    PITH_TRY(get_u32(l, "rope.dimension_count", &s->rope_dims));
    PITH_TRY(get_f32(l, "attention.layer_norm_epsilon", &s->norm_eps));
    PITH_TRY(get_f32(l, "attention.layer_norm_rms_epsilon", &s->norm_eps));
    PITH_TRY(get_f32(l, "rope.freq_base", &s->rope_base));
    PITH_TRY(get_u32(l, "attention.sliding_window", &s->sliding_window));
    PITH_TRY(get_u32(l, "vocab_size", &s->n_vocab));
    const pith_gguf_key *tokens = pith_gguf_find(g, "tokenizer.ggml.tokens");
    if (!s->n_vocab && tokens && tokens->n <= UINT32_MAX) s->n_vocab = (uint32_t)tokens->n;
    const pith_named_tensor *embedding = tensor_named(g, "token_embd.weight");
    if (embedding && embedding->t.n_dims == 2 && embedding->t.dims[0] <= UINT32_MAX) s->n_vocab = (uint32_t)embedding->t.dims[0];
    s->tied_embeddings = embedding && !tensor_named(g, "output.weight");
    s->rope_style = strcmp(s->architecture, "llama") == 0 ? PITH_ROPE_PAIRS : PITH_ROPE_HALVES;
    PITH_TRY(get_scaling(l, s));
    return pith_settings_check(ctx, g->path, s, g->n_tensors);
}

/* ---- tokenizer -------------------------------------------------------------------------------- */

static pith_status vocab_strings(pith_ctx *ctx, pith_arena *arena, const pith_gguf *g, const char *key, pith_str **strings, size_t *n)
{
    *strings = NULL;
    *n = 0;
    const pith_gguf_key *k = pith_gguf_find(g, key);
    if (!k) return PITH_OK;
    if (k->type != PITH_GGUF_ARRAY || k->item_type != PITH_GGUF_STRING) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key %s is not a list of texts", g->path, key);
    if (k->n > INT32_MAX) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key %s has %zu values, more than token ids can name", g->path, key, k->n);
    pith_str *list = pith_arena_take(arena, k->n * sizeof *list);
    if (!list) return PITH_E_MEMORY;
    const uint8_t *p = k->data;
    for (size_t i = 0; i < k->n; i++) {
        size_t len = (size_t)pith_le64(p);
        list[i] = (pith_str){(const char *)p + 8, len};
        p += 8 + len;
    }
    *strings = list;
    *n = k->n;
    return PITH_OK;
}

/* A token id from a key, -1 when it is missing or names no token. */
static pith_status vocab_id(pith_ctx *ctx, const pith_gguf *g, const char *key, size_t n_tokens, int32_t *id)
{
    char name[96];
    snprintf(name, sizeof name, "tokenizer.ggml.%s", key);
    const pith_gguf_key *k = pith_gguf_find(g, name);
    int64_t v;
    if (k) {
        if (k->type == PITH_GGUF_ARRAY || !value_int(k, 0, &v)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key %s is not a whole number", g->path, name);
        if (k->type == PITH_GGUF_U32 && v == UINT32_MAX) v = -1;
        *id = v >= 0 && v <= INT32_MAX ? (int32_t)v : -1;
        if (v < -1 || v >= (int64_t)n_tokens)
            pith_log(ctx, PITH_LOG_WARN, "%s: key %s is %lld, not one of the %zu tokens; it is ignored", g->path, name, (long long)v, n_tokens);
    }
    if (*id >= (int64_t)n_tokens) *id = -1;
    return PITH_OK;
}

static pith_status vocab_flag(pith_ctx *ctx, const pith_gguf *g, const char *key, bool *flag)
{
    char name[96];
    snprintf(name, sizeof name, "tokenizer.ggml.%s", key);
    const pith_gguf_key *k = pith_gguf_find(g, name);
    if (!k) return PITH_OK;
    if (k->type != PITH_GGUF_BOOL) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key %s is not a truth value", g->path, name);
    *flag = k->data[0] != 0;
    return PITH_OK;
}

static pith_status vocab_types(pith_ctx *ctx, pith_arena *arena, const pith_gguf *g, pith_vocab *v)
{
    v->types = pith_arena_take(arena, v->n_tokens);
    if (!v->types) return PITH_E_MEMORY;
    memset(v->types, PITH_TOKEN_NORMAL, v->n_tokens);
    const pith_gguf_key *k = pith_gguf_find(g, "tokenizer.ggml.token_type");
    if (!k) return PITH_OK;
    if (k->type != PITH_GGUF_ARRAY || k->n != v->n_tokens)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: key tokenizer.ggml.token_type has %zu values for %zu tokens", g->path, k->n, v->n_tokens);
    size_t n_odd = 0;
    for (size_t i = 0; i < k->n; i++) {
        int64_t type;
        if (!value_int(k, i, &type)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key tokenizer.ggml.token_type does not hold whole numbers", g->path);
        if (type >= PITH_TOKEN_NORMAL && type <= PITH_TOKEN_BYTE) v->types[i] = (uint8_t)type;
        else n_odd++;
    }
    if (n_odd) pith_log(ctx, PITH_LOG_WARN, "%s: %zu tokens have an unknown type and are taken as plain text", g->path, n_odd);
    return PITH_OK;
}

static pith_status vocab_scores(pith_ctx *ctx, pith_arena *arena, const pith_gguf *g, pith_vocab *v)
{
    const pith_gguf_key *k = pith_gguf_find(g, "tokenizer.ggml.scores");
    if (!k) return PITH_OK;
    if (k->type != PITH_GGUF_ARRAY || k->item_type != PITH_GGUF_F32 || k->n != v->n_tokens)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: key tokenizer.ggml.scores is not a list of %zu real numbers", g->path, v->n_tokens);
    float *scores = pith_arena_take(arena, v->n_tokens * sizeof *scores);
    if (!scores) return PITH_E_MEMORY;
    for (size_t i = 0; i < k->n; i++) {
        scores[i] = le_f32(k->data + 4 * i);
        if (!isfinite(scores[i])) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key tokenizer.ggml.scores: value %zu is not finite", g->path, i);
    }
    v->scores = scores;
    return PITH_OK;
}

/* What llama.cpp takes for granted of a kind of tokenizer where the file does not say. */
static void vocab_defaults(pith_vocab *v)
{
    static const char *const whole_first[] = {"llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "tekken"};
    v->bos = v->eos = v->unk = v->pad = v->eot = -1;
    switch (v->kind) {
    case PITH_VOCAB_SPM: v->bos = 1, v->eos = 2, v->unk = 0, v->add_bos = v->add_space_prefix = true; break;
    case PITH_VOCAB_UNIGRAM: v->eos = 1, v->unk = 2, v->pad = 0, v->add_eos = v->add_space_prefix = true; break;
    case PITH_VOCAB_WORDPIECE: v->bos = 101, v->eos = 102, v->unk = 100, v->pad = 0, v->add_bos = v->add_eos = v->lowercase = true; break;
    case PITH_VOCAB_BPE:
        for (size_t i = 0; i < PITH_COUNT(whole_first); i++)
            if (strcmp(v->pre, whole_first[i]) == 0) v->ignore_merges = v->add_bos = true;
        break;
    case PITH_VOCAB_NONE: break;
    }
}

/* A text of a key that may be missing. */
static pith_status get_text(pith_ctx *ctx, const pith_gguf *g, const char *key, pith_str *s)
{
    *s = (pith_str){"", 0};
    const pith_gguf_key *k = pith_gguf_find(g, key);
    if (!k) return PITH_OK;
    if (k->type != PITH_GGUF_STRING) return pith_fail(ctx, PITH_E_CORRUPT, "%s: key %s is not text", g->path, key);
    *s = key_str(k);
    return PITH_OK;
}

pith_status pith_gguf_vocab(pith_ctx *ctx, pith_arena *arena, const pith_gguf *g, pith_vocab *v)
{
    static const struct { const char *name; pith_vocab_kind kind; } kinds[] = {
        {"gpt2", PITH_VOCAB_BPE}, {"llama", PITH_VOCAB_SPM}, {"t5", PITH_VOCAB_UNIGRAM}, {"bert", PITH_VOCAB_WORDPIECE}};
    *v = (pith_vocab){0};
    vocab_defaults(v);
    pith_str model, pre;
    PITH_TRY(get_text(ctx, g, "tokenizer.ggml.model", &model));
    for (size_t i = 0; i < PITH_COUNT(kinds); i++)
        if (str_is(model, kinds[i].name)) v->kind = kinds[i].kind;
    if (v->kind == PITH_VOCAB_NONE) {
        if (model.len && !str_is(model, "no_vocab") && !str_is(model, "none"))
            pith_log(ctx, PITH_LOG_WARN, "%s: tokenizer %.*s is not known; the file is read without one", g->path, shown(model), model.s);
        return PITH_OK;
    }
    PITH_TRY(get_text(ctx, g, "tokenizer.ggml.pre", &pre));
    if (pre.len >= sizeof v->pre || (pre.len && memchr(pre.s, 0, pre.len)))
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: key tokenizer.ggml.pre is no usable name: %.*s", g->path, shown(pre), pre.s);
    memcpy(v->pre, pre.s, pre.len);
    vocab_defaults(v);
    PITH_TRY(vocab_strings(ctx, arena, g, "tokenizer.ggml.tokens", &v->tokens, &v->n_tokens));
    if (!v->n_tokens) return pith_fail(ctx, PITH_E_CORRUPT, "%s: a tokenizer without tokens (key tokenizer.ggml.tokens)", g->path);
    PITH_TRY(vocab_strings(ctx, arena, g, "tokenizer.ggml.merges", &v->merges, &v->n_merges));
    PITH_TRY(vocab_types(ctx, arena, g, v));
    PITH_TRY(vocab_scores(ctx, arena, g, v));
    PITH_TRY(vocab_id(ctx, g, "bos_token_id", v->n_tokens, &v->bos));
    if (v->kind == PITH_VOCAB_WORDPIECE) {
        PITH_TRY(vocab_id(ctx, g, "cls_token_id", v->n_tokens, &v->bos));
        PITH_TRY(vocab_id(ctx, g, "seperator_token_id", v->n_tokens, &v->eos)); /* the key is misspelt in the format */
    } else {
        PITH_TRY(vocab_id(ctx, g, "eos_token_id", v->n_tokens, &v->eos));
    }
    PITH_TRY(vocab_id(ctx, g, "unknown_token_id", v->n_tokens, &v->unk));
    PITH_TRY(vocab_id(ctx, g, "padding_token_id", v->n_tokens, &v->pad));
    PITH_TRY(vocab_id(ctx, g, "eot_token_id", v->n_tokens, &v->eot));
    PITH_TRY(vocab_flag(ctx, g, "add_bos_token", &v->add_bos));
    PITH_TRY(vocab_flag(ctx, g, "add_eos_token", &v->add_eos));
    PITH_TRY(vocab_flag(ctx, g, "add_space_prefix", &v->add_space_prefix));
    PITH_TRY(vocab_flag(ctx, g, "remove_extra_whitespaces", &v->remove_extra_spaces));
    PITH_TRY(get_text(ctx, g, "tokenizer.chat_template", &v->chat_template));
    const pith_gguf_key *charsmap = pith_gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    if (charsmap) {
        if (charsmap->type != PITH_GGUF_ARRAY || charsmap->item_type > PITH_GGUF_I8)
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: key tokenizer.ggml.precompiled_charsmap is not a list of bytes", g->path);
        v->charsmap = (pith_str){(const char *)charsmap->data, charsmap->n};
    }
    return PITH_OK;
}

/* ---- keys as text ----------------------------------------------------------------------------- */

/* Text is written twice: once to learn its length (p is NULL), once for good. */
typedef struct text_out {
    char *p;
    size_t n;
} text_out;

static void put_text(text_out *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool zero = s[i] == 0; /* a C string cannot hold it */
        if (t->p && zero) memcpy(t->p + t->n, "\\0", 2);
        else if (t->p) t->p[t->n] = s[i];
        t->n += zero ? 2 : 1;
    }
}

/* One value; returns the position behind it. */
static const uint8_t *put_value(text_out *t, pith_gguf_type type, const uint8_t *p)
{
    char text[40];
    int n = 0;
    pith_gguf_key one = {.type = type, .item_type = type, .n = 1, .data = p};
    int64_t v;
    if (type == PITH_GGUF_STRING) {
        pith_str s = key_str(&one);
        put_text(t, s.s, s.len);
        return p + 8 + s.len;
    }
    if (type == PITH_GGUF_ARRAY) {
        put_text(t, "[…]", strlen("[…]"));
        return p;
    }
    if (type == PITH_GGUF_BOOL) n = snprintf(text, sizeof text, "%s", p[0] ? "true" : "false");
    else if (type == PITH_GGUF_F32) n = snprintf(text, sizeof text, "%.9g", (double)le_f32(p));
    else if (type == PITH_GGUF_F64) n = snprintf(text, sizeof text, "%.17g", le_f64(p));
    else if (type == PITH_GGUF_U64) n = snprintf(text, sizeof text, "%llu", (unsigned long long)pith_le64(p));
    else if (value_int(&one, 0, &v)) n = snprintf(text, sizeof text, "%lld", (long long)v);
    put_text(t, text, (size_t)n);
    return p + pith_gguf_type_bytes(type);
}

static void put_key(text_out *t, const pith_gguf_key *k)
{
    enum { SHOWN = 8 };
    const uint8_t *p = k->data;
    if (k->type != PITH_GGUF_ARRAY) {
        put_value(t, k->type, p);
        return;
    }
    char text[40];
    put_text(t, text, (size_t)snprintf(text, sizeof text, "[%zu values]", k->n));
    size_t n = k->item_type == PITH_GGUF_ARRAY ? PITH_MIN(k->n, 1) : PITH_MIN(k->n, SHOWN);
    for (size_t i = 0; i < n; i++) {
        put_text(t, i ? ", " : " ", i ? 2 : 1);
        p = put_value(t, k->item_type, p);
    }
    if (k->n > n) put_text(t, ", …", strlen(", …"));
}

pith_status pith_gguf_meta(pith_arena *arena, const pith_gguf *g, size_t *n_meta, pith_meta **meta)
{
    text_out t = {0};
    for (size_t i = 0; i < g->n_keys; i++) {
        put_key(&t, &g->keys[i]);
        t.n += g->keys[i].name.len + 2;
    }
    pith_meta *list = pith_arena_take(arena, g->n_keys * sizeof *list);
    char *text = pith_arena_take(arena, t.n);
    if (!list || !text) return PITH_E_MEMORY;
    for (size_t i = 0; i < g->n_keys; i++) {
        const pith_gguf_key *k = &g->keys[i];
        list[i].key = text;
        memcpy(text, k->name.s, k->name.len);
        text += k->name.len;
        *text++ = 0;
        t = (text_out){.p = text};
        put_key(&t, k);
        list[i].value = text;
        text += t.n;
        *text++ = 0;
    }
    *n_meta = g->n_keys;
    *meta = list;
    return PITH_OK;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static pith_status fill(pith_ctx *ctx, const pith_gguf *g, pith_model_file *file)
{
    file->kind = PITH_FILE_GGUF;
    file->n_tensors = g->n_tensors;
    file->tensors = g->tensors;
    PITH_TRY(pith_gguf_settings(ctx, g, &file->settings));
    PITH_TRY(pith_gguf_vocab(ctx, file->arena, g, &file->vocab));
    return pith_gguf_meta(file->arena, g, &file->n_meta, &file->meta);
}

/* split.count of a model cut into files name-00001-of-000NN.gguf; 1 when it is whole. */
static pith_status split_count(pith_ctx *ctx, const pith_gguf *g, size_t *n)
{
    *n = 1;
    const pith_gguf_key *k = pith_gguf_find(g, "split.count"), *number = pith_gguf_find(g, "split.no");
    int64_t v, no = 0;
    if (!k) return PITH_OK;
    if (k->type == PITH_GGUF_ARRAY || !value_int(k, 0, &v) || v < 0 || v > 99999)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: key split.count is not a number up to 99999", g->path);
    if (v > 1 && number && number->type != PITH_GGUF_ARRAY && value_int(number, 0, &no) && no != 0)
        return pith_fail(ctx, PITH_E_ARGUMENT, "%s: part %lld of a model in %lld files; open the first one", g->path, (long long)no + 1, (long long)v);
    if (v > 1) *n = (size_t)v;
    return PITH_OK;
}

enum { TAIL = 64 };
static size_t part_tail(char tail[TAIL], size_t i_part, size_t n_parts)
{
    return (size_t)snprintf(tail, TAIL, "-%05zu-of-%05zu.gguf", i_part + 1, n_parts);
}

/* Map the file of part i, which must be a plain one: a pipe would wait for ever. */
static pith_status map_part(pith_ctx *ctx, pith_model_file *file, const char *name, size_t i)
{
    struct stat st;
    if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) return pith_fail(ctx, PITH_E_IO, "%s: not a plain file", name);
    pith_map *maps = pith_resize(ctx, file->maps, (i + 1) * sizeof *maps);
    if (!maps) return PITH_E_MEMORY;
    file->maps = maps;
    PITH_TRY(pith_map_open(ctx, name, &maps[i]));
    file->n_maps++;
    if (!pith_add(file->file_bytes, maps[i].len, &file->file_bytes)) file->file_bytes = SIZE_MAX;
    return PITH_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const pith_named_tensor *const *)a)->name, (*(const pith_named_tensor *const *)b)->name);
}

/* No two parts have a tensor of one name; within a part that is checked already. */
static pith_status check_names(pith_ctx *ctx, const pith_gguf *g)
{
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark mark = pith_arena_mark(scratch);
    const pith_named_tensor **order = pith_arena_take(scratch, g->n_tensors * sizeof *order);
    if (!order) return PITH_E_MEMORY;
    for (size_t i = 0; i < g->n_tensors; i++) order[i] = &g->tensors[i];
    qsort(order, g->n_tensors, sizeof *order, by_name);
    pith_status status = PITH_OK;
    for (size_t i = 1; i < g->n_tensors && status == PITH_OK; i++)
        if (by_name(&order[i - 1], &order[i]) == 0) status = pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s is in two parts", g->path, order[i]->name);
    pith_arena_reset(scratch, mark);
    return status;
}

/* Map parts 2..n and append their tensors. */
static pith_status open_parts(pith_ctx *ctx, pith_model_file *file, pith_gguf *g, size_t n_parts)
{
    char tail[TAIL];
    size_t len = strlen(file->path), n_tail = part_tail(tail, 0, n_parts), room = g->n_tensors;
    if (len < n_tail || strcmp(file->path + len - n_tail, tail) != 0)
        return pith_fail(ctx, PITH_E_FORMAT, "%s: first of %zu files, but its name does not end in %s, so the others cannot be found", file->path, n_parts, tail);
    char *name = pith_arena_take(file->arena, len + 1);
    if (!name) return PITH_E_MEMORY;
    memcpy(name, file->path, len + 1);
    for (size_t i = 1; i < n_parts; i++) {
        part_tail(tail, i, n_parts);
        memcpy(name + len - n_tail, tail, n_tail);
        PITH_TRY(map_part(ctx, file, name, i));
        pith_gguf part;
        PITH_TRY(pith_gguf_parse(ctx, file->arena, file->maps[i].path, file->maps[i].data, file->maps[i].len, &part));
        size_t n = g->n_tensors + part.n_tensors;
        if (n > room) { /* by doubling: the arena keeps the old ones */
            room = PITH_MAX(n, 2 * room);
            pith_named_tensor *all = pith_arena_take(file->arena, room * sizeof *all);
            if (!all) return PITH_E_MEMORY;
            if (g->n_tensors) memcpy(all, g->tensors, g->n_tensors * sizeof *all);
            g->tensors = all;
        }
        if (part.n_tensors) memcpy(g->tensors + g->n_tensors, part.tensors, part.n_tensors * sizeof *part.tensors);
        g->n_tensors = n;
    }
    return check_names(ctx, g);
}

pith_status pith_gguf_open(pith_ctx *ctx, pith_model_file *file)
{
    pith_gguf g;
    size_t n_parts;
    PITH_TRY(pith_gguf_parse(ctx, file->arena, file->path, file->maps[0].data, file->maps[0].len, &g));
    PITH_TRY(split_count(ctx, &g, &n_parts));
    if (n_parts > 1) PITH_TRY(open_parts(ctx, file, &g, n_parts));
    return fill(ctx, &g, file);
}

pith_status pith_gguf_open_memory(pith_ctx *ctx, const char *path, const void *data, size_t len, pith_model_file **result)
{
    pith_model_file *file;
    PITH_TRY(pith_model_file_new(ctx, path, &file));
    pith_gguf g;
    size_t n_parts = 1;
    file->file_bytes = len;
    pith_status status = pith_gguf_parse(ctx, file->arena, file->path, data, len, &g);
    if (status == PITH_OK) status = split_count(ctx, &g, &n_parts);
    if (status == PITH_OK && n_parts > 1) status = pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: first of %zu files; a model in memory must be whole", path, n_parts);
    if (status == PITH_OK) status = fill(ctx, &g, file);
    if (status != PITH_OK) {
        pith_model_file_close(ctx, file);
        return status;
    }
    *result = file;
    return PITH_OK;
}
