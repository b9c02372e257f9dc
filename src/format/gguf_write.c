/* GGUF: the writer.  Keys and the tensor table are built in memory, data is streamed. */
#include "format/gguf.h"
#include "format/settings.h"

#define ALIGNMENT 32
#define MAX_NAME 63

typedef struct buffer {
    uint8_t *p;
    size_t n, cap;
} buffer;

struct pith_gguf_writer {
    pith_ctx *ctx;
    pith_out *out;
    char *path;
    buffer keys, tensors;       /* as they stand in the file */
    buffer names;               /* size_t pairs: offset in keys, length; one a key */
    buffer sizes;               /* one size_t a tensor: its bytes */
    size_t n_keys, n_tensors;
    uint64_t offset;            /* of the next tensor in the data section */
    bool header_out;
    size_t i_tensor;            /* whose bytes come next */
    size_t n_here;              /* bytes of it already written */
};

static pith_status grow(pith_ctx *ctx, buffer *b, size_t more)
{
    size_t want;
    if (!pith_add(b->n, more, &want)) return pith_fail(ctx, PITH_E_MEMORY, "out of memory: a header beyond the address space");
    if (want <= b->cap) return PITH_OK;
    size_t cap = PITH_MAX(want, b->cap <= SIZE_MAX / 2 ? b->cap * 2 : want);
    uint8_t *p = pith_resize(ctx, b->p, PITH_MAX(cap, 4096));
    if (!p) return PITH_E_MEMORY;
    b->p = p;
    b->cap = PITH_MAX(cap, 4096);
    return PITH_OK;
}

/* The following four need room made by grow. */
static void add(buffer *b, const void *data, size_t n)
{
    if (n) memcpy(b->p + b->n, data, n);
    b->n += n;
}

static void add32(buffer *b, uint32_t v)
{
    pith_put32(b->p + b->n, v);
    b->n += 4;
}

static void add64(buffer *b, uint64_t v)
{
    pith_put64(b->p + b->n, v);
    b->n += 8;
}

static void add_str(buffer *b, const char *s, size_t n)
{
    add64(b, n);
    add(b, s, n);
}

pith_status pith_gguf_writer_open(pith_ctx *ctx, const char *path, pith_gguf_writer **result)
{
    pith_gguf_writer *w = pith_calloc(ctx, 1, sizeof *w);
    if (!w) return PITH_E_MEMORY;
    w->ctx = ctx;
    w->path = pith_strdup(ctx, path);
    pith_status status = w->path ? pith_out_open(ctx, path, &w->out) : PITH_E_MEMORY;
    if (status != PITH_OK) {
        pith_gguf_writer_discard(w);
        return status;
    }
    *result = w;
    return PITH_OK;
}

/* ---- keys ------------------------------------------------------------------------------------- */

static bool has_key(const pith_gguf_writer *w, const char *name, size_t len)
{
    const size_t *at = (const size_t *)(const void *)w->names.p;
    for (size_t i = 0; i < w->n_keys; i++)
        if (at[2 * i + 1] == len && memcmp(w->keys.p + at[2 * i], name, len) == 0) return true;
    return false;
}

/* Begin a key: its name and type, with room for n_value bytes after them. */
static pith_status begin(pith_gguf_writer *w, const char *name, size_t len, pith_gguf_type type, size_t n_value)
{
    if (w->header_out) return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: key %.*s comes after the first data", w->path, (int)PITH_MIN(len, 60), name);
    if (has_key(w, name, len)) return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: key %.*s is already there", w->path, (int)PITH_MIN(len, 60), name);
    size_t n;
    if (!pith_add(len + 12, n_value, &n)) return pith_fail(w->ctx, PITH_E_MEMORY, "out of memory: key %.*s", (int)PITH_MIN(len, 60), name);
    PITH_TRY(grow(w->ctx, &w->keys, n));
    PITH_TRY(grow(w->ctx, &w->names, 2 * sizeof(size_t)));
    size_t at[2] = {w->keys.n + 8, len};
    add(&w->names, at, sizeof at);
    add_str(&w->keys, name, len);
    add32(&w->keys, (uint32_t)type);
    w->n_keys++;
    return PITH_OK;
}

pith_status pith_gguf_put_u32(pith_gguf_writer *w, const char *key, uint32_t v)
{
    PITH_TRY(begin(w, key, strlen(key), PITH_GGUF_U32, 4));
    add32(&w->keys, v);
    return PITH_OK;
}

pith_status pith_gguf_put_f32(pith_gguf_writer *w, const char *key, float v)
{
    PITH_TRY(begin(w, key, strlen(key), PITH_GGUF_F32, 4));
    add32(&w->keys, pith_bits_of(v));
    return PITH_OK;
}

pith_status pith_gguf_put_bool(pith_gguf_writer *w, const char *key, bool v)
{
    PITH_TRY(begin(w, key, strlen(key), PITH_GGUF_BOOL, 1));
    add(&w->keys, &(uint8_t){v}, 1);
    return PITH_OK;
}

pith_status pith_gguf_put_str(pith_gguf_writer *w, const char *key, pith_str s)
{
    size_t n;
    if (!pith_add(s.len, 8, &n)) n = SIZE_MAX;
    PITH_TRY(begin(w, key, strlen(key), PITH_GGUF_STRING, n));
    add_str(&w->keys, s.s, s.len);
    return PITH_OK;
}

pith_status pith_gguf_put_array(pith_gguf_writer *w, const char *key, pith_gguf_type item_type, const void *values, size_t n)
{
    size_t size = pith_gguf_type_bytes(item_type), bytes, total;
    if (size == 0) return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: key %s: not a scalar type", w->path, key);
    if (!pith_mul(n, size, &bytes) || !pith_add(bytes, 12, &total)) bytes = total = SIZE_MAX;
    PITH_TRY(begin(w, key, strlen(key), PITH_GGUF_ARRAY, total));
    add32(&w->keys, (uint32_t)item_type);
    add64(&w->keys, n);
    add(&w->keys, values, bytes);
    return PITH_OK;
}

pith_status pith_gguf_put_strs(pith_gguf_writer *w, const char *key, const pith_str *strings, size_t n)
{
    size_t total = 12;
    for (size_t i = 0; i < n; i++)
        if (!pith_add(total, strings[i].len, &total) || !pith_add(total, 8, &total)) total = SIZE_MAX;
    PITH_TRY(begin(w, key, strlen(key), PITH_GGUF_ARRAY, total));
    add32(&w->keys, PITH_GGUF_STRING);
    add64(&w->keys, n);
    for (size_t i = 0; i < n; i++) add_str(&w->keys, strings[i].s, strings[i].len);
    return PITH_OK;
}

static pith_status put_setting(pith_gguf_writer *w, const pith_settings *s, const char *suffix, uint32_t v)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", s->architecture, suffix);
    return pith_gguf_put_u32(w, key, v);
}

static pith_status put_setting_f32(pith_gguf_writer *w, const pith_settings *s, const char *suffix, float v)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", s->architecture, suffix);
    return pith_gguf_put_f32(w, key, v);
}

static pith_str text(const char *s) { return (pith_str){s, strlen(s)}; }

static pith_status put_scaling(pith_gguf_writer *w, const pith_settings *s)
{
    if (s->rope_scaling != PITH_ROPE_LINEAR && s->rope_scaling != PITH_ROPE_YARN) return PITH_OK;
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.type", s->architecture);
    PITH_TRY(pith_gguf_put_str(w, key, text(s->rope_scaling == PITH_ROPE_YARN ? "yarn" : "linear")));
    PITH_TRY(put_setting_f32(w, s, "rope.scaling.factor", s->rope_factor));
    if (s->rope_scaling != PITH_ROPE_YARN) return PITH_OK;
    PITH_TRY(put_setting(w, s, "rope.scaling.original_context_length", s->rope_original_ctx));
    PITH_TRY(put_setting_f32(w, s, "rope.scaling.attn_factor", s->rope_attn_factor / pith_yarn_attn_factor(s->rope_factor)));
    PITH_TRY(put_setting_f32(w, s, "rope.scaling.yarn_beta_fast", s->rope_beta_fast));
    return put_setting_f32(w, s, "rope.scaling.yarn_beta_slow", s->rope_beta_slow);
}

pith_status pith_gguf_put_settings(pith_gguf_writer *w, const pith_settings *s)
{
    if (!s->architecture[0]) return PITH_OK;
    PITH_TRY(pith_gguf_put_str(w, "general.architecture", text(s->architecture)));
    PITH_TRY(put_setting(w, s, "block_count", s->n_layers));
    PITH_TRY(put_setting(w, s, "context_length", s->n_ctx));
    PITH_TRY(put_setting(w, s, "embedding_length", s->n_embd));
    PITH_TRY(put_setting(w, s, "feed_forward_length", s->n_ff));
    PITH_TRY(put_setting(w, s, "attention.head_count", s->n_heads));
    PITH_TRY(put_setting(w, s, "attention.head_count_kv", s->n_kv_heads));
    PITH_TRY(put_setting_f32(w, s, "attention.layer_norm_rms_epsilon", s->norm_eps));
    if (s->n_heads && s->head_dim != s->n_embd / s->n_heads) {
        PITH_TRY(put_setting(w, s, "attention.key_length", s->head_dim));
        PITH_TRY(put_setting(w, s, "attention.value_length", s->head_dim));
    }
    PITH_TRY(put_setting(w, s, "rope.dimension_count", s->rope_dims));
    PITH_TRY(put_setting_f32(w, s, "rope.freq_base", s->rope_base));
    if (s->sliding_window) PITH_TRY(put_setting(w, s, "attention.sliding_window", s->sliding_window));
    PITH_TRY(put_setting(w, s, "vocab_size", s->n_vocab));
    return put_scaling(w, s);
}

static pith_status put_id(pith_gguf_writer *w, const char *key, int32_t id)
{
    return id < 0 ? PITH_OK : pith_gguf_put_u32(w, key, (uint32_t)id);
}

static pith_status put_types(pith_gguf_writer *w, const pith_vocab *v)
{
    pith_arena *scratch = pith_scratch(w->ctx);
    pith_mark mark = pith_arena_mark(scratch);
    uint8_t *types = pith_arena_take(scratch, v->n_tokens * 4);
    pith_status status = PITH_E_MEMORY;
    if (types) {
        for (size_t i = 0; i < v->n_tokens; i++) pith_put32(types + 4 * i, v->types[i]);
        status = pith_gguf_put_array(w, "tokenizer.ggml.token_type", PITH_GGUF_I32, types, v->n_tokens);
    }
    pith_arena_reset(scratch, mark);
    return status;
}

pith_status pith_gguf_put_vocab(pith_gguf_writer *w, const pith_vocab *v)
{
    static const char *const models[] = {[PITH_VOCAB_NONE] = "no_vocab", [PITH_VOCAB_BPE] = "gpt2", [PITH_VOCAB_SPM] = "llama",
                                         [PITH_VOCAB_UNIGRAM] = "t5", [PITH_VOCAB_WORDPIECE] = "bert"};
    PITH_TRY(pith_gguf_put_str(w, "tokenizer.ggml.model", text(models[v->kind])));
    if (v->kind == PITH_VOCAB_NONE) return PITH_OK;
    if (v->kind == PITH_VOCAB_BPE && !v->pre[0])
        pith_log(w->ctx, PITH_LOG_WARN, "%s: GGUF has no name for how this tokenizer cuts words; it is written as \"default\", and ids may differ", w->path);
    if (v->pre[0] || v->kind == PITH_VOCAB_BPE) PITH_TRY(pith_gguf_put_str(w, "tokenizer.ggml.pre", text(v->pre[0] ? v->pre : "default")));
    PITH_TRY(pith_gguf_put_strs(w, "tokenizer.ggml.tokens", v->tokens, v->n_tokens));
    PITH_TRY(put_types(w, v));
    if (v->scores) PITH_TRY(pith_gguf_put_array(w, "tokenizer.ggml.scores", PITH_GGUF_F32, v->scores, v->n_tokens));
    if (v->n_merges) PITH_TRY(pith_gguf_put_strs(w, "tokenizer.ggml.merges", v->merges, v->n_merges));
    PITH_TRY(put_id(w, "tokenizer.ggml.bos_token_id", v->bos));
    PITH_TRY(put_id(w, "tokenizer.ggml.eos_token_id", v->eos));
    if (v->kind == PITH_VOCAB_WORDPIECE) {
        PITH_TRY(put_id(w, "tokenizer.ggml.cls_token_id", v->bos));
        PITH_TRY(put_id(w, "tokenizer.ggml.seperator_token_id", v->eos));
    }
    PITH_TRY(put_id(w, "tokenizer.ggml.unknown_token_id", v->unk));
    PITH_TRY(put_id(w, "tokenizer.ggml.padding_token_id", v->pad));
    PITH_TRY(put_id(w, "tokenizer.ggml.eot_token_id", v->eot));
    PITH_TRY(pith_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", v->add_bos));
    PITH_TRY(pith_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", v->add_eos));
    PITH_TRY(pith_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", v->add_space_prefix));
    if (v->remove_extra_spaces) PITH_TRY(pith_gguf_put_bool(w, "tokenizer.ggml.remove_extra_whitespaces", true));
    if (v->charsmap.len) PITH_TRY(pith_gguf_put_array(w, "tokenizer.ggml.precompiled_charsmap", PITH_GGUF_U8, v->charsmap.s, v->charsmap.len));
    if (v->chat_template.len) PITH_TRY(pith_gguf_put_str(w, "tokenizer.chat_template", v->chat_template));
    return PITH_OK;
}

pith_status pith_gguf_put_keys_of(pith_gguf_writer *w, const pith_model_file *from)
{
    if (from->kind != PITH_FILE_GGUF || !from->n_maps) return PITH_OK;
    pith_arena *arena = pith_arena_new(w->ctx);
    if (!arena) return PITH_E_MEMORY;
    pith_gguf g;
    pith_status status;
    PITH_GOTO(pith_gguf_parse(w->ctx, arena, from->path, from->maps[0].data, from->maps[0].len, &g), done);
    for (size_t i = 0; i < g.n_keys; i++) {
        const pith_gguf_key *k = &g.keys[i];
        bool of_split = k->name.len > 6 && memcmp(k->name.s, "split.", 6) == 0;
        bool of_layout = k->name.len == 17 && memcmp(k->name.s, "general.alignment", 17) == 0;
        if (of_split || of_layout || has_key(w, k->name.s, k->name.len)) continue;
        /* from behind the name on: an array's value begins with its own type and count */
        const uint8_t *value = k->type == PITH_GGUF_ARRAY ? k->data - 12 : k->data;
        PITH_GOTO(begin(w, k->name.s, k->name.len, k->type, (size_t)(k->end - value)), done);
        add(&w->keys, value, (size_t)(k->end - value));
    }
done:
    pith_arena_free(arena);
    return status;
}

/* ---- tensors ---------------------------------------------------------------------------------- */

/* Whether the table already names it: the table is walked, names are few. */
static bool has_tensor(const pith_gguf_writer *w, const char *name, size_t len)
{
    const uint8_t *p = w->tensors.p;
    for (size_t i = 0; i < w->n_tensors; i++) {
        size_t n = (size_t)pith_le64(p);
        if (n == len && memcmp(p + 8, name, len) == 0) return true;
        p += 8 + n;
        p += 4 + 8 * (size_t)pith_le32(p) + 12;
    }
    return false;
}

pith_status pith_gguf_declare(pith_gguf_writer *w, const char *name, pith_dtype dtype, int n_dims, const size_t *dims)
{
    pith_ctx *ctx = w->ctx;
    size_t len = strlen(name), count = 1, bytes;
    const pith_dtype_info *info = pith_dtype_get((uint32_t)dtype);
    if (!info || dtype >= 64) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: tensor %s: GGUF has no type %s", w->path, name, info ? info->name : "of this number");
    if (w->header_out) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: tensor %s is declared after the first data", w->path, name);
    if (len == 0 || len > MAX_NAME) return pith_fail(ctx, PITH_E_LIMIT, "%s: tensor %s: names have 1 to %d bytes in GGUF", w->path, name, MAX_NAME);
    if (n_dims < 1 || n_dims > 4) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: tensor %s: %d dimensions, GGUF has 1 to 4", w->path, name, n_dims);
    if (has_tensor(w, name, len)) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: tensor %s is already there", w->path, name);
    for (int i = 0; i < n_dims; i++)
        if (dims[i] == 0 || !pith_mul(count, dims[i], &count)) return pith_fail(ctx, PITH_E_SHAPE, "%s: tensor %s: dimension %d is %zu", w->path, name, i, dims[i]);
    if (dims[n_dims - 1] % info->block_len || !pith_dtype_bytes(dtype, count, &bytes))
        return pith_fail(ctx, PITH_E_SHAPE, "%s: tensor %s: rows of %zu values are not whole blocks of %s", w->path, name, dims[n_dims - 1], info->name);
    PITH_TRY(grow(ctx, &w->tensors, 8 + len + 4 + 8 * (size_t)n_dims + 12));
    PITH_TRY(grow(ctx, &w->sizes, sizeof bytes));
    add_str(&w->tensors, name, len);
    add32(&w->tensors, (uint32_t)n_dims);
    for (int i = n_dims - 1; i >= 0; i--) add64(&w->tensors, dims[i]);
    add32(&w->tensors, (uint32_t)dtype);
    add64(&w->tensors, w->offset);
    add(&w->sizes, &bytes, sizeof bytes);
    w->offset += PITH_ROUND_UP((uint64_t)bytes, ALIGNMENT);
    w->n_tensors++;
    return PITH_OK;
}

static pith_status write_header(pith_gguf_writer *w)
{
    uint8_t head[24] = "GGUF";
    pith_put32(head + 4, 3);
    pith_put64(head + 8, w->n_tensors);
    pith_put64(head + 16, w->n_keys);
    w->header_out = true;
    PITH_TRY(pith_out_write(w->out, head, sizeof head));
    PITH_TRY(pith_out_write(w->out, w->keys.p, w->keys.n));
    PITH_TRY(pith_out_write(w->out, w->tensors.p, w->tensors.n));
    return pith_out_pad(w->out, ALIGNMENT);
}

pith_status pith_gguf_data(pith_gguf_writer *w, const void *data, size_t len)
{
    if (!w->header_out) PITH_TRY(write_header(w));
    if (w->i_tensor == w->n_tensors) return len ? pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: more data than the tensors declared", w->path) : PITH_OK;
    size_t size = ((const size_t *)(const void *)w->sizes.p)[w->i_tensor];
    if (len > size - w->n_here) return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: tensor %zu has %zu bytes, more were given", w->path, w->i_tensor, size);
    PITH_TRY(pith_out_write(w->out, data, len));
    w->n_here += len;
    if (w->n_here < size) return PITH_OK;
    w->i_tensor++;
    w->n_here = 0;
    return pith_out_pad(w->out, ALIGNMENT);
}

pith_status pith_gguf_writer_close(pith_gguf_writer *w)
{
    pith_status status = PITH_OK;
    if (w->i_tensor < w->n_tensors)
        status = pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: only %zu of %zu tensors were written", w->path, w->i_tensor, w->n_tensors);
    if (status == PITH_OK && !w->header_out) status = write_header(w);
    if (status == PITH_OK) {
        status = pith_out_close(w->out);
        w->out = NULL;
    }
    pith_gguf_writer_discard(w);
    return status;
}

void pith_gguf_writer_discard(pith_gguf_writer *w)
{
    if (!w) return;
    pith_out_discard(w->out);
    pith_free(w->ctx, w->keys.p);
    pith_free(w->ctx, w->tensors.p);
    pith_free(w->ctx, w->names.p);
    pith_free(w->ctx, w->sizes.p);
    pith_free(w->ctx, w->path);
    pith_free(w->ctx, w);
}
