/* The GGUF reader on valid files, on files cut anywhere, and on files that lie. */
#include "maker.h"

#include <math.h>

#include "format/gguf.h"
#include "format/settings.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 }; /* value types, as numbered in files */

/* ---- a valid file, with the places of its fields ---------------------------------------------- */

typedef struct places {
    size_t version, n_tensors, n_keys;
    size_t key_name, key_type, key_value;       /* of the first key, general.architecture */
    size_t array_type, array_count, array_text; /* of tokenizer.ggml.tokens */
    size_t nested_count;                        /* of an array of arrays */
    size_t alignment, block_count, kv_heads;
    size_t tensor_name, n_dims, dim, dtype, offset, second_offset, second_name;
    size_t data;
} places;

static void key(maker *m, const char *name, uint32_t type)
{
    make_str(m, name);
    make_u32(m, type);
}

static void key_u32(maker *m, const char *name, uint32_t v)
{
    key(m, name, U32);
    make_u32(m, v);
}

static void key_str(maker *m, const char *name, const char *v)
{
    key(m, name, STRING);
    make_str(m, v);
}

static void make_valid(maker *m, places *at, uint32_t version)
{
    *m = (maker){0};
    make_bytes(m, "GGUF", 4);
    at->version = m->n;
    make_u32(m, version);
    at->n_tensors = m->n;
    make_u64(m, 2);
    at->n_keys = m->n;
    make_u64(m, 18);
    at->key_name = m->n;
    make_str(m, "general.architecture");
    at->key_type = m->n;
    make_u32(m, STRING);
    at->key_value = m->n;
    make_str(m, "llama");
    key(m, "general.alignment", U32);
    at->alignment = m->n;
    make_u32(m, 64);
    key(m, "llama.block_count", U32);
    at->block_count = m->n;
    make_u32(m, 1);
    key_u32(m, "llama.context_length", 128);
    key_u32(m, "llama.embedding_length", 32);
    key_u32(m, "llama.feed_forward_length", 64);
    key_u32(m, "llama.attention.head_count", 4);
    key(m, "llama.attention.head_count_kv", U64);
    at->kv_heads = m->n;
    make_u64(m, 2);
    key(m, "llama.rope.freq_base", F32);
    make_f32(m, 50000);
    key_str(m, "tokenizer.ggml.model", "gpt2");
    key_str(m, "tokenizer.ggml.pre", "gpt-2");
    key(m, "tokenizer.ggml.tokens", ARRAY);
    at->array_type = m->n;
    make_u32(m, STRING);
    at->array_count = m->n;
    make_u64(m, 3);
    at->array_text = m->n;
    make_str(m, "a");
    make_str(m, "b");
    make_str(m, "ab");
    key(m, "tokenizer.ggml.merges", ARRAY);
    make_u32(m, STRING);
    make_u64(m, 1);
    make_str(m, "a b");
    key(m, "tokenizer.ggml.token_type", ARRAY);
    make_u32(m, I32);
    make_u64(m, 3);
    make_u32(m, 1);
    make_u32(m, 3);
    make_u32(m, 1);
    key_u32(m, "tokenizer.ggml.eos_token_id", 2);
    key(m, "tokenizer.ggml.add_bos_token", BOOL);
    make_u8(m, 1);
    key(m, "pith.nested", ARRAY);
    make_u32(m, ARRAY);
    make_u64(m, 1);
    make_u32(m, U8);
    at->nested_count = m->n;
    make_u64(m, 5);
    make_bytes(m, "\1\2\3\4\5", 5);
    key(m, "pith.double", F64);
    make_bytes(m, &(double){0.5}, 8);
    at->tensor_name = m->n;
    make_str(m, "token_embd.weight");
    at->n_dims = m->n;
    make_u32(m, 2);
    at->dim = m->n;
    make_u64(m, 32);
    make_u64(m, 3);
    at->dtype = m->n;
    make_u32(m, PITH_Q8_0);
    at->offset = m->n;
    make_u64(m, 0);
    at->second_name = m->n;
    make_str(m, "output_norm.weight");
    make_u32(m, 1);
    make_u64(m, 32);
    make_u32(m, PITH_F32);
    at->second_offset = m->n;
    make_u64(m, 128);
    make_pad(m, 64);
    at->data = m->n;
    for (int row = 0; row < 3; row++) {
        make_bytes(m, &(uint16_t){0x3c00}, 2); /* scale 1 */
        for (int i = 0; i < 32; i++) make_u8(m, (uint8_t)(row * 32 + i));
    }
    make_pad(m, 64);
    for (int i = 0; i < 32; i++) make_f32(m, (float)i);
}

static pith_status open_bytes(pith_ctx *ctx, const uint8_t *p, size_t n)
{
    uint8_t *copy = test_exact_copy(p, n);
    pith_model_file *file = NULL;
    pith_status status = pith_gguf_open_memory(ctx, "made.gguf", copy, n, &file);
    if (status == PITH_OK) pith_model_file_close(ctx, file);
    else assert_null(file);
    free(copy);
    return status;
}

/* ---- tests ------------------------------------------------------------------------------------ */

static const char *meta(const pith_model_file *file, const char *name)
{
    for (size_t i = 0; i < file->n_meta; i++)
        if (strcmp(file->meta[i].key, name) == 0) return file->meta[i].value;
    fail_msg("no key %s", name);
    return "";
}

static void reads_what_is_there(void **state)
{
    pith_ctx *ctx = *state;
    for (uint32_t version = 2; version <= 3; version++) {
        maker m;
        places at;
        pith_model_file *file;
        make_valid(&m, &at, version);
        assert_ok(ctx, pith_gguf_open_memory(ctx, "made.gguf", m.p, m.n, &file));
        assert_int_equal(file->kind, PITH_FILE_GGUF);
        const pith_settings *s = &file->settings;
        assert_string_equal(s->architecture, "llama");
        assert_int_equal(s->n_layers, 1);
        assert_int_equal(s->n_heads, 4);
        assert_int_equal(s->n_kv_heads, 2);
        assert_int_equal(s->head_dim, 8);
        assert_int_equal(s->rope_dims, 8);
        assert_int_equal(s->n_vocab, 3);
        assert_int_equal(s->rope_style, PITH_ROPE_PAIRS);
        assert_true(s->rope_base == 50000 && s->norm_eps == 1e-5f && s->tied_embeddings);
        const pith_vocab *v = &file->vocab;
        assert_int_equal(v->kind, PITH_VOCAB_BPE);
        assert_string_equal(v->pre, "gpt-2");
        assert_int_equal(v->n_tokens, 3);
        assert_int_equal(v->n_merges, 1);
        assert_memory_equal(v->tokens[2].s, "ab", 2);
        assert_int_equal(v->types[1], PITH_TOKEN_CONTROL);
        assert_true(v->eos == 2 && v->bos == -1 && v->add_bos);
        assert_string_equal(meta(file, "tokenizer.ggml.tokens"), "[3 values] a, b, ab");
        assert_string_equal(meta(file, "pith.nested"), "[1 values] […]");
        assert_string_equal(meta(file, "pith.double"), "0.5");
        const pith_named_tensor *e = pith_model_file_find(file, "token_embd.weight"), *n = pith_model_file_find(file, "output_norm.weight");
        assert_non_null(e);
        assert_non_null(n);
        assert_int_equal(e->t.n_dims, 2);
        assert_int_equal(e->t.dims[0], 3);
        assert_int_equal(e->t.dims[1], 32);
        float x[64];
        assert_int_equal(pith_tensor_rows_f32(&e->t, 1, 3, x), PITH_OK);
        for (int i = 0; i < 64; i++) assert_true(x[i] == (float)(32 + i));
        assert_int_equal(pith_tensor_rows_f32(&n->t, 0, 1, x), PITH_OK);
        assert_true(x[31] == 31);
        assert_int_equal(pith_tensor_rows_f32(&e->t, 0, 4, x), PITH_E_ARGUMENT);
        assert_null(pith_model_file_find(file, "output.weight"));
        pith_model_file_close(ctx, file);
        make_free(&m);
    }
}

/* Every proper prefix of a file is refused, with a sentence that names the file. */
static void refuses_every_prefix(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    places at;
    make_valid(&m, &at, 3);
    assert_int_equal(open_bytes(ctx, m.p, m.n), PITH_OK);
    for (size_t n = 0; n < m.n; n++) {
        pith_status status = open_bytes(ctx, m.p, n);
        if (status != (n < 8 ? PITH_E_FORMAT : PITH_E_CORRUPT)) fail_msg("%zu of %zu bytes: %s", n, m.n, pith_status_text(status));
        assert_memory_equal(pith_error(ctx), "made.gguf: ", 11);
    }
    make_free(&m);
}

/* Any one byte changed: whatever comes of it, it comes without harm (the sanitizers watch). */
static void survives_any_byte(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    places at;
    make_valid(&m, &at, 3);
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t i = 0; i < at.data; i++)
        for (size_t k = 0; k < PITH_COUNT(values); k++) {
            uint8_t before = m.p[i];
            m.p[i] = values[k];
            open_bytes(ctx, m.p, m.n);
            m.p[i] = before;
        }
    assert_int_equal(open_bytes(ctx, m.p, m.n), PITH_OK);
    make_free(&m);
}

typedef struct lie {
    const char *about;
    size_t at;
    int width;                /* bytes of the field: 1, 4 or 8 */
    uint64_t value;
    pith_status status;
    const char *sentence;     /* a part of it */
} lie;

static void refuses_lies(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    places at;
    make_valid(&m, &at, 3);
    const uint64_t minus = UINT64_MAX, huge = (uint64_t)1 << 62;
    const lie lies[] = {
        {"the magic", 0, 4, 0x46554748, PITH_E_FORMAT, "not a GGUF file"},
        {"version 1", at.version, 4, 1, PITH_E_UNSUPPORTED, "version 1"},
        {"version 4", at.version, 4, 4, PITH_E_UNSUPPORTED, "version 4"},
        {"a big-endian version", at.version, 4, 0x03000000, PITH_E_UNSUPPORTED, "big-endian"},
        {"huge n_tensors", at.n_tensors, 8, huge, PITH_E_CORRUPT, "tensors cannot be"},
        {"negative n_tensors", at.n_tensors, 8, minus, PITH_E_CORRUPT, "tensors cannot be"},
        {"one tensor more", at.n_tensors, 8, 3, PITH_E_CORRUPT, "tensor 2"},
        {"huge n_keys", at.n_keys, 8, huge, PITH_E_CORRUPT, "keys cannot be"},
        {"negative n_keys", at.n_keys, 8, minus, PITH_E_CORRUPT, "keys cannot be"},
        {"one key more", at.n_keys, 8, 19, PITH_E_CORRUPT, "tensor 0"},
        {"huge name", at.key_name, 8, huge, PITH_E_CORRUPT, "key 0 at byte 32: a string of"},
        {"negative name", at.key_name, 8, minus, PITH_E_CORRUPT, "a string of"},
        {"empty name", at.key_name, 8, 0, PITH_E_CORRUPT, "its name has 0 bytes"},
        {"a zero in a name", at.key_name + 8, 1, 0, PITH_E_CORRUPT, "zero byte"},
        {"unknown type", at.key_type, 4, 13, PITH_E_CORRUPT, "key general.architecture at byte"},
        {"negative type", at.key_type, 4, UINT32_MAX, PITH_E_CORRUPT, "value type 4294967295"},
        {"huge text", at.key_value, 8, huge, PITH_E_CORRUPT, "a string of"},
        {"text of the wrong length", at.key_value, 8, 6, PITH_E_CORRUPT, "key 1"},
        {"an architecture of another type", at.key_type, 4, U64, PITH_E_CORRUPT, ""},
        {"alignment 0", at.alignment, 4, 0, PITH_E_CORRUPT, "general.alignment is 0"},
        {"alignment 48", at.alignment, 4, 48, PITH_E_CORRUPT, "general.alignment is 48"},
        {"alignment 2^31", at.alignment, 4, 1u << 31, PITH_E_CORRUPT, "general.alignment"},
        {"alignment 256", at.alignment, 4, 256, PITH_E_CORRUPT, "offset 128 is not a multiple"},
        {"unknown item type", at.array_type, 4, 99, PITH_E_CORRUPT, "tokenizer.ggml.tokens"},
        {"huge array", at.array_count, 8, huge, PITH_E_CORRUPT, "strings or arrays"},
        {"negative array", at.array_count, 8, minus, PITH_E_CORRUPT, "strings or arrays"},
        {"huge text in an array", at.array_text, 8, minus, PITH_E_CORRUPT, "a string of"},
        {"huge nested array", at.nested_count, 8, huge, PITH_E_CORRUPT, "pith.nested"},
        {"layers without tensors", at.block_count, 4, UINT32_MAX, PITH_E_CORRUPT, "number of layers"},
        {"no layers", at.block_count, 4, 0, PITH_E_CORRUPT, "number of layers"},
        {"heads beyond 32 bits", at.kv_heads, 8, huge, PITH_E_CORRUPT, "llama.attention.head_count_kv"},
        {"negative heads", at.kv_heads, 8, minus, PITH_E_CORRUPT, "llama.attention.head_count_kv"},
        {"heads that do not divide", at.kv_heads, 8, 3, PITH_E_CORRUPT, "do not divide"},
        {"no key-value heads", at.kv_heads, 8, 0, PITH_E_CORRUPT, "do not divide"},
        {"huge tensor name", at.tensor_name, 8, huge, PITH_E_CORRUPT, "tensor 0"},
        {"long tensor name", at.tensor_name, 8, 300, PITH_E_CORRUPT, "its name has 300 bytes"},
        {"a zero in a tensor's name", at.tensor_name + 10, 1, 0, PITH_E_CORRUPT, "zero byte"},
        {"nine dimensions", at.n_dims, 4, 9, PITH_E_CORRUPT, "9 dimensions"},
        {"negative number of dimensions", at.n_dims, 4, UINT32_MAX, PITH_E_CORRUPT, "dimensions"},
        {"a dimension of 0", at.dim, 8, 0, PITH_E_CORRUPT, "dimension 0 is 0"},
        {"a negative dimension", at.dim, 8, minus, PITH_E_CORRUPT, "dimension 0 is"},
        {"dimensions whose product overflows", at.dim, 8, huge, PITH_E_CORRUPT, "dimension 1 is 3"},
        {"broken blocks", at.dim, 8, 33, PITH_E_CORRUPT, "not whole blocks of Q8_0"},
        {"more rows than there are", at.dim + 8, 8, 4, PITH_E_CORRUPT, "overlap"},
        {"far more rows", at.dim + 8, 8, 1000, PITH_E_CORRUPT, "data section has"},
        {"unknown tensor type", at.dtype, 4, 33, PITH_E_UNSUPPORTED, "tensor type 33"},
        {"a type of ours", at.dtype, 4, PITH_BOOL, PITH_E_UNSUPPORTED, "tensor type 68"},
        {"negative tensor type", at.dtype, 4, UINT32_MAX, PITH_E_UNSUPPORTED, "not known"},
        {"offset outside", at.offset, 8, 1 << 20, PITH_E_CORRUPT, "token_embd.weight: 102 bytes at offset 1048576"},
        {"negative offset", at.offset, 8, minus - 63, PITH_E_CORRUPT, "data section has"},
        {"unaligned offset", at.offset, 8, 1, PITH_E_CORRUPT, "not a multiple"},
        {"overlap", at.second_offset, 8, 64, PITH_E_CORRUPT, "token_embd.weight and output_norm.weight overlap"},
        {"the same place", at.second_offset, 8, 0, PITH_E_CORRUPT, "overlap"},
    };
    for (size_t i = 0; i < PITH_COUNT(lies); i++) {
        const lie *l = &lies[i];
        uint8_t before[8];
        memcpy(before, m.p + l->at, 8);
        if (l->width == 8) pith_put64(m.p + l->at, l->value);
        else if (l->width == 4) pith_put32(m.p + l->at, (uint32_t)l->value);
        else m.p[l->at] = (uint8_t)l->value;
        pith_status status = open_bytes(ctx, m.p, m.n);
        if (status != l->status || !strstr(pith_error(ctx), l->sentence))
            fail_msg("%s: %s, \"%s\"; expected %s and \"%s\"", l->about, pith_status_text(status), pith_error(ctx), pith_status_text(l->status), l->sentence);
        assert_memory_equal(pith_error(ctx), "made.gguf: ", 11);
        memcpy(m.p + l->at, before, 8);
    }
    assert_int_equal(open_bytes(ctx, m.p, m.n), PITH_OK);
    make_free(&m);
}

/* A file that is a header and a lie must not make the reader ask for memory. */
static void memory_follows_the_file(void **state)
{
    (void)state;
    pith_options o = {.n_threads = 1, .memory_limit = (size_t)1 << 20};
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    maker m;
    places at;
    make_valid(&m, &at, 3);
    static const uint64_t counts[] = {2, 3, 40, 1000, 100000, (uint64_t)1 << 32, UINT64_MAX};
    const size_t fields[] = {at.n_tensors, at.n_keys, at.array_count, at.nested_count, at.key_name, at.dim, at.dim + 8, at.array_text};
    for (size_t f = 0; f < PITH_COUNT(fields); f++)
        for (size_t i = 0; i < PITH_COUNT(counts); i++) {
            uint64_t before = pith_le64(m.p + fields[f]);
            pith_put64(m.p + fields[f], counts[i]);
            pith_status status = open_bytes(ctx, m.p, m.n);
            assert_int_not_equal(status, PITH_E_MEMORY);
            pith_put64(m.p + fields[f], before);
        }
    assert_true(pith_memory_peak(ctx) < (size_t)512 << 10);
    make_free(&m);
    pith_ctx_free(ctx);
}

static void header(maker *m, uint64_t n_tensors, uint64_t n_keys)
{
    *m = (maker){0};
    make_bytes(m, "GGUF", 4);
    make_u32(m, 3);
    make_u64(m, n_tensors);
    make_u64(m, n_keys);
}

static void refuses_repetition(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    header(&m, 0, 2);
    key_u32(&m, "a", 1);
    key_u32(&m, "a", 2);
    assert_int_equal(open_bytes(ctx, m.p, m.n), PITH_E_CORRUPT);
    assert_string_equal(pith_error(ctx), "made.gguf: key a is there twice");
    make_free(&m);
    header(&m, 2, 0);
    for (uint64_t i = 0; i < 2; i++) {
        make_str(&m, "t");
        make_u32(&m, 1);
        make_u64(&m, 8);
        make_u32(&m, PITH_F32);
        make_u64(&m, 32 * i);
    }
    make_pad(&m, 32);
    for (int i = 0; i < 64; i++) make_u8(&m, 0);
    assert_int_equal(open_bytes(ctx, m.p, m.n), PITH_E_CORRUPT);
    assert_string_equal(pith_error(ctx), "made.gguf: tensor t is there twice");
    make_free(&m);
}

static void refuses_deep_nesting(void **state)
{
    pith_ctx *ctx = *state;
    for (int depth = 1; depth <= 200; depth += depth < 6 ? 1 : 97) {
        maker m;
        header(&m, 0, 1);
        key(&m, "deep", ARRAY);
        for (int i = 1; i < depth; i++) {
            make_u32(&m, ARRAY);
            make_u64(&m, 1);
        }
        make_u32(&m, U8);
        make_u64(&m, 1);
        make_u8(&m, 7);
        assert_int_equal(open_bytes(ctx, m.p, m.n), depth <= 4 ? PITH_OK : PITH_E_CORRUPT);
        make_free(&m);
    }
}

static void reads_a_file_without_anything(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    pith_model_file *file;
    header(&m, 0, 0);
    assert_ok(ctx, pith_gguf_open_memory(ctx, "made.gguf", m.p, m.n, &file));
    assert_int_equal(file->n_tensors, 0);
    assert_string_equal(file->settings.architecture, "");
    assert_int_equal(file->vocab.kind, PITH_VOCAB_NONE);
    pith_model_file_close(ctx, file);
    make_free(&m);
}

/* Each kind of rotary scaling, from its keys. */
static void reads_scaling(void **state)
{
    pith_ctx *ctx = *state;
    static const struct { const char *type; pith_rope_scaling scaling; float attn; } cases[] = {
        {"none", PITH_ROPE_PLAIN, 1}, {"linear", PITH_ROPE_LINEAR, 1}, {"yarn", PITH_ROPE_YARN, 1.13862944f}, {"unheard-of", PITH_ROPE_PLAIN, 1}};
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        maker m;
        pith_model_file *file;
        header(&m, 0, 5);
        key_str(&m, "general.architecture", "qwen2");
        key_u32(&m, "qwen2.context_length", 100);
        key_str(&m, "qwen2.rope.scaling.type", cases[i].type);
        key(&m, "qwen2.rope.scaling.factor", F32);
        make_f32(&m, 4);
        key_u32(&m, "qwen2.rope.scaling.original_context_length", 25);
        assert_ok(ctx, pith_gguf_open_memory(ctx, "made.gguf", m.p, m.n, &file));
        assert_int_equal(file->settings.rope_scaling, cases[i].scaling);
        assert_int_equal(file->settings.rope_style, PITH_ROPE_HALVES);
        assert_true(file->settings.rope_factor == 4 && file->settings.rope_original_ctx == 25);
        assert_true(fabsf(file->settings.rope_attn_factor - cases[i].attn) < 1e-6f);
        pith_model_file_close(ctx, file);
        make_free(&m);
    }
}

static void tells_llama3_from_its_factors(void **state)
{
    (void)state;
    static const struct { uint32_t dims; float base, factor, low, high; } cases[] = {
        {128, 500000, 8, 1, 4}, {64, 500000, 32, 1, 4}, {128, 500000, 16, 2, 8}, {96, 10000, 3.5f, 1, 3}, {64, 500000, 1, 1, 4}};
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_settings s, t;
        float f[64], g[64];
        pith_settings_default(&s);
        s.rope_dims = cases[i].dims;
        s.rope_base = cases[i].base;
        t = s;
        s.rope_scaling = PITH_ROPE_LLAMA3;
        s.rope_factor = cases[i].factor;
        s.rope_low_freq_factor = cases[i].low;
        s.rope_high_freq_factor = cases[i].high;
        s.rope_original_ctx = 8192;
        pith_llama3_factors(&s, f);
        assert_true(pith_llama3_from_factors(&t, f, s.rope_dims / 2));
        if (cases[i].factor == 1) {
            assert_int_equal(t.rope_scaling, PITH_ROPE_PLAIN);
            continue;
        }
        assert_int_equal(t.rope_scaling, PITH_ROPE_LLAMA3);
        assert_true(fabsf(t.rope_low_freq_factor - cases[i].low) < 2e-3f && fabsf(t.rope_high_freq_factor - cases[i].high) < 2e-3f);
        pith_llama3_factors(&t, g);
        for (size_t k = 0; k < s.rope_dims / 2; k++) assert_true(fabsf(f[k] - g[k]) <= 1e-3f * f[k]);
        f[s.rope_dims / 4] *= 1.5f;
        t = s;
        assert_false(pith_llama3_from_factors(&t, f, s.rope_dims / 2));
        assert_memory_equal(&s, &t, offsetof(pith_settings, tied_embeddings));
    }
}

/* ---- keys of every type, one at a time -------------------------------------------------------- */

static void list(maker *m, const char *name, uint32_t item_type, uint64_t n)
{
    key(m, name, ARRAY);
    make_u32(m, item_type);
    make_u64(m, n);
}

static void make_network(maker *m, uint64_t n_keys)
{
    header(m, 0, n_keys + 1);
    key_str(m, "general.architecture", "other");
}

static void takes_whole_numbers_of_any_type(void **state)
{
    pith_ctx *ctx = *state;
    static const struct { uint32_t type; const char *bytes; size_t n; pith_status status; uint32_t value; } cases[] = {
        {U8, "\xff", 1, PITH_OK, 255}, {I8, "\x7f", 1, PITH_OK, 127}, {I8, "\xff", 1, PITH_E_CORRUPT, 0}, {U16, "\xff\xff", 2, PITH_OK, 65535},
        {I16, "\x00\x01", 2, PITH_OK, 256}, {I16, "\x00\x80", 2, PITH_E_CORRUPT, 0}, {U32, "\xff\xff\xff\xff", 4, PITH_OK, UINT32_MAX},
        {I32, "\xff\xff\xff\xff", 4, PITH_E_CORRUPT, 0}, {I64, "\x07\0\0\0\0\0\0\0", 8, PITH_OK, 7}, {U64, "\0\0\0\0\1\0\0\0", 8, PITH_E_CORRUPT, 0},
        {F32, "\0\0\x80\x3f", 4, PITH_E_CORRUPT, 0}, {BOOL, "\1", 1, PITH_OK, 1}, {BOOL, "\2", 1, PITH_E_CORRUPT, 0}};
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        maker m;
        pith_model_file *file;
        make_network(&m, 1);
        key(&m, "other.block_count", cases[i].type);
        make_bytes(&m, cases[i].bytes, cases[i].n);
        pith_status status = pith_gguf_open_memory(ctx, "made.gguf", m.p, m.n, &file);
        if (status != cases[i].status) fail_msg("type %u: %s", cases[i].type, pith_status_text(status));
        if (status == PITH_OK) {
            assert_int_equal(file->settings.n_layers, cases[i].value);
            pith_model_file_close(ctx, file);
        } else {
            assert_non_null(strstr(pith_error(ctx), "other.block_count"));
        }
        make_free(&m);
    }
}

static void note_line(void *user, pith_log_level level, const char *line)
{
    if (level <= PITH_LOG_WARN) snprintf(user, 512, "%s", line);
}

/* A list with one value a layer is a number when they are all the same; else the first is taken, and that is said. */
static void takes_lists_with_a_value_a_layer(void **state)
{
    (void)state;
    char line[512] = "";
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_WARN, .log = note_line, .user = line};
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    for (uint32_t other = 4; other <= 5; other++) {
        maker m;
        pith_model_file *file;
        make_network(&m, 1);
        list(&m, "other.attention.head_count_kv", U32, 3);
        make_u32(&m, 4);
        make_u32(&m, 4);
        make_u32(&m, other);
        assert_ok(ctx, pith_gguf_open_memory(ctx, "made.gguf", m.p, m.n, &file));
        assert_int_equal(file->settings.n_kv_heads, 4);
        pith_model_file_close(ctx, file);
        make_free(&m);
        assert_int_equal(strstr(line, "differs from layer to layer") != NULL, other == 5);
    }
    pith_ctx_free(ctx);
}

static void takes_real_numbers(void **state)
{
    pith_ctx *ctx = *state;
    static const struct { uint32_t type; double value; pith_status status; } cases[] = {
        {F32, 2.5, PITH_OK}, {F64, 2.5, PITH_OK}, {F64, 1e31, PITH_E_CORRUPT}, {F32, (double)INFINITY, PITH_E_CORRUPT}, {F64, (double)NAN, PITH_E_CORRUPT}, {U32, 2.5, PITH_E_CORRUPT}};
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        maker m;
        pith_model_file *file;
        make_network(&m, 1);
        key(&m, "other.rope.freq_base", cases[i].type);
        if (cases[i].type == F64) make_bytes(&m, &cases[i].value, 8);
        else make_f32(&m, (float)cases[i].value);
        assert_int_equal(pith_gguf_open_memory(ctx, "made.gguf", m.p, m.n, &file), cases[i].status);
        if (cases[i].status == PITH_OK) {
            assert_true(file->settings.rope_base == 2.5f);
            pith_model_file_close(ctx, file);
        }
        make_free(&m);
    }
}

/* A tokenizer of three tokens with one more key, which `more` writes. */
static pith_status open_vocab(pith_ctx *ctx, const char *model, void (*more)(maker *), pith_model_file **file, maker *m)
{
    header(m, 0, 3);
    key_str(m, "tokenizer.ggml.model", model);
    list(m, "tokenizer.ggml.tokens", STRING, 3);
    for (int i = 0; i < 3; i++) make_str(m, "t");
    more(m);
    return pith_gguf_open_memory(ctx, "made.gguf", m->p, m->n, file);
}

static void merges_of_numbers(maker *m) { list(m, "tokenizer.ggml.merges", U32, 1); make_u32(m, 1); }
static void two_types(maker *m) { list(m, "tokenizer.ggml.token_type", I32, 2); make_u64(m, 1); }
static void types_of_text(maker *m) { list(m, "tokenizer.ggml.token_type", STRING, 3); make_str(m, ""); make_str(m, ""); make_str(m, ""); }
static void two_scores(maker *m) { list(m, "tokenizer.ggml.scores", F32, 2); make_u64(m, 0); }
static void scores_of_nothing(maker *m) { list(m, "tokenizer.ggml.scores", F32, 3); make_f32(m, 0); make_f32(m, NAN); make_f32(m, 0); }
static void bos_of_text(maker *m) { key_str(m, "tokenizer.ggml.bos_token_id", "1"); }
static void flag_of_number(maker *m) { key_u32(m, "tokenizer.ggml.add_bos_token", 1); }
static void template_of_number(maker *m) { key_u32(m, "tokenizer.chat_template", 1); }
static void pre_of_number(maker *m) { key_u32(m, "tokenizer.ggml.pre", 1); }
static void pre_too_long(maker *m) { key_str(m, "tokenizer.ggml.pre", "a name that is longer than thirty-one bytes"); }
static void charsmap_of_text(maker *m) { key_str(m, "tokenizer.ggml.precompiled_charsmap", "x"); }
static void odd_types(maker *m) { list(m, "tokenizer.ggml.token_type", I32, 3); make_u32(m, 0); make_u32(m, 7); make_u32(m, 6); }
static void bos_outside(maker *m) { key_u32(m, "tokenizer.ggml.bos_token_id", 3); }
static void bos_nothing(maker *m) { key_u32(m, "tokenizer.ggml.bos_token_id", UINT32_MAX); }
static void charsmap(maker *m) { list(m, "tokenizer.ggml.precompiled_charsmap", I8, 2); make_bytes(m, "xy", 2); }
static void pre_llama3(maker *m) { key_str(m, "tokenizer.ggml.pre", "llama-bpe"); }

static void checks_tokenizers(void **state)
{
    pith_ctx *ctx = *state;
    static void (*const bad[])(maker *) = {merges_of_numbers, two_types, types_of_text, two_scores, scores_of_nothing, bos_of_text, flag_of_number,
                                           template_of_number, pre_of_number, pre_too_long, charsmap_of_text};
    maker m;
    pith_model_file *file;
    for (size_t i = 0; i < PITH_COUNT(bad); i++) {
        pith_status status = open_vocab(ctx, "llama", bad[i], &file, &m);
        if (status != PITH_E_CORRUPT) fail_msg("case %zu: %s", i, pith_status_text(status));
        assert_non_null(strstr(pith_error(ctx), "key tokenizer."));
        make_free(&m);
    }
    static const struct { const char *model; void (*more)(maker *); pith_vocab_kind kind; int32_t bos, eos; bool add_bos, whole_first; } good[] = {
        {"llama", odd_types, PITH_VOCAB_SPM, 1, 2, true, false},     {"llama", bos_outside, PITH_VOCAB_SPM, -1, 2, true, false},
        {"llama", bos_nothing, PITH_VOCAB_SPM, -1, 2, true, false},  {"t5", charsmap, PITH_VOCAB_UNIGRAM, -1, 1, false, false},
        {"bert", odd_types, PITH_VOCAB_WORDPIECE, -1, -1, true, false}, {"gpt2", pre_llama3, PITH_VOCAB_BPE, -1, -1, true, true},
        {"rwkv", odd_types, PITH_VOCAB_NONE, -1, -1, false, false}};
    for (size_t i = 0; i < PITH_COUNT(good); i++) {
        assert_ok(ctx, open_vocab(ctx, good[i].model, good[i].more, &file, &m));
        const pith_vocab *v = &file->vocab;
        assert_int_equal(v->kind, good[i].kind);
        if (v->bos != good[i].bos || v->eos != good[i].eos || v->add_bos != good[i].add_bos || v->ignore_merges != good[i].whole_first)
            fail_msg("case %zu: bos %d, eos %d, add_bos %d, whole words first %d", i, v->bos, v->eos, v->add_bos, v->ignore_merges);
        if (good[i].more == odd_types && v->kind) assert_memory_equal(v->types, "\1\1\6", 3);
        if (good[i].more == charsmap) assert_memory_equal(v->charsmap.s, "xy", v->charsmap.len);
        pith_model_file_close(ctx, file);
        make_free(&m);
    }
    header(&m, 0, 1);
    key_str(&m, "tokenizer.ggml.model", "gpt2");
    assert_int_equal(open_bytes(ctx, m.p, m.n), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "without tokens"));
    make_free(&m);
}

static pith_status open_and_close(pith_ctx *ctx, const void *user)
{
    const maker *m = user;
    pith_model_file *file;
    PITH_TRY(pith_gguf_open_memory(ctx, "made.gguf", m->p, m->n, &file));
    pith_model_file_close(ctx, file);
    return PITH_OK;
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    maker m;
    places at;
    make_valid(&m, &at, 3);
    assert_in_range(test_every_fault(open_and_close, &m), 5, 100);
    make_free(&m);
}

static int setup(void **state)
{
    pith_options o = {.n_threads = 1}; /* no log: thousands of files are broken on purpose */
    return pith_ctx_new(&o, (pith_ctx **)state) != PITH_OK;
}

static int teardown(void **state)
{
    pith_ctx_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_there), cmocka_unit_test(refuses_every_prefix), cmocka_unit_test(survives_any_byte),
        cmocka_unit_test(refuses_lies), cmocka_unit_test(memory_follows_the_file), cmocka_unit_test(refuses_repetition),
        cmocka_unit_test(refuses_deep_nesting), cmocka_unit_test(reads_a_file_without_anything), cmocka_unit_test(reads_scaling),
        cmocka_unit_test(tells_llama3_from_its_factors),
        cmocka_unit_test(takes_whole_numbers_of_any_type), cmocka_unit_test(takes_lists_with_a_value_a_layer), cmocka_unit_test(takes_real_numbers),
        cmocka_unit_test(checks_tokenizers), cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
