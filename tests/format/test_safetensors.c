/* The safetensors reader and model folders: valid, cut anywhere, and lying. */
#include "maker.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/json.h"
#include "format/safetensors.h"

/* ---- single files in memory ------------------------------------------------------------------- */

static void make_file(maker *m, const char *header, size_t n_data)
{
    *m = (maker){0};
    make_u64(m, strlen(header));
    make_bytes(m, header, strlen(header));
    for (size_t i = 0; i < n_data; i++) make_u8(m, (uint8_t)i);
}

static pith_status open_bytes(pith_ctx *ctx, const uint8_t *p, size_t n)
{
    uint8_t *copy = test_exact_copy(p, n);
    pith_model_file *file = NULL;
    pith_status status = pith_safetensors_open_memory(ctx, "made.safetensors", copy, n, &file);
    if (status == PITH_OK) pith_model_file_close(ctx, file);
    else assert_null(file);
    free(copy);
    return status;
}

#define VALID                                                                                           \
    "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[3,19]}," \
    "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"s\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[19,21]}," \
    "\"e\":{\"dtype\":\"I64\",\"shape\":[4,0],\"data_offsets\":[3,3]}}   "

static void reads_what_is_there(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    make_file(&m, VALID, 21);
    pith_model_file *file;
    assert_ok(ctx, pith_safetensors_open_memory(ctx, "made.safetensors", m.p, m.n, &file));
    assert_int_equal(file->n_tensors, 4);
    const pith_tensor *b = &pith_model_file_find(file, "b")->t;
    assert_int_equal(b->dtype, PITH_F32);
    assert_true(b->n_dims == 2 && b->dims[0] == 2 && b->dims[1] == 2);
    assert_ptr_equal(b->data, m.p + m.n - 21 + 3);
    assert_int_equal(pith_model_file_find(file, "s")->t.n_dims, 0);
    assert_int_equal(pith_model_file_find(file, "e")->len_bytes, 0);
    assert_int_equal(file->n_meta, 1);
    assert_string_equal(file->meta[0].value, "pt");
    pith_model_file_close(ctx, file);
    make_free(&m);
}

static void refuses_every_prefix(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    make_file(&m, VALID, 21);
    for (size_t n = 0; n < m.n; n++) {
        pith_status status = open_bytes(ctx, m.p, n);
        if (status != PITH_E_CORRUPT && !(n < 9 && status == PITH_E_FORMAT)) fail_msg("%zu of %zu bytes: %s", n, m.n, pith_status_text(status));
        assert_memory_equal(pith_error(ctx), "made.safetensors: ", 18);
    }
    make_u8(&m, 0); /* nor may bytes be left over */
    assert_int_equal(open_bytes(ctx, m.p, m.n), PITH_E_CORRUPT);
    make_free(&m);
}

static void survives_any_byte(void **state)
{
    pith_ctx *ctx = *state;
    maker m;
    make_file(&m, VALID, 21);
    static const char values[] = {0, '0', '9', '-', '"', '[', '{', '}', ',', '\\', '\x7f', '\xff'};
    for (size_t i = 0; i < m.n - 21; i++)
        for (size_t k = 0; k < PITH_COUNT(values); k++) {
            uint8_t before = m.p[i];
            m.p[i] = (uint8_t)values[k];
            open_bytes(ctx, m.p, m.n);
            m.p[i] = before;
        }
    make_free(&m);
}

static void refuses_lies(void **state)
{
    pith_ctx *ctx = *state;
#define D10 "[[[[[[[[[["
#define D50 D10 D10 D10 D10 D10
#define T(dtype, shape, offsets) "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct { const char *header; size_t n_data; pith_status status; const char *sentence; } lies[] = {
        {"[]", 0, PITH_E_FORMAT, "no JSON header"},
        {"{", 0, PITH_E_CORRUPT, "a header of 1 bytes"},
        {"{\"t\"}", 0, PITH_E_CORRUPT, "line 1, column 5"},
        {"{}{}", 0, PITH_E_CORRUPT, "not valid JSON"},
        {"{\"t\":1}", 0, PITH_E_CORRUPT, "tensor t: dtype, shape or data_offsets is missing"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, PITH_E_CORRUPT, "missing"},
        {T("F32", "7", "[0,4]"), 4, PITH_E_CORRUPT, "missing"},
        {T("F31", "[1]", "[0,4]"), 4, PITH_E_UNSUPPORTED, "type F31"},
        {T("F32", "[-1]", "[0,4]"), 4, PITH_E_CORRUPT, "dimension 0"},
        {T("F32", "[1.5]", "[0,4]"), 4, PITH_E_CORRUPT, "dimension 0"},
        {T("F32", "[1e300]", "[0,4]"), 4, PITH_E_CORRUPT, "dimension 0"},
        {T("F32", "[\"1\"]", "[0,4]"), 4, PITH_E_CORRUPT, "dimension 0"},
        {T("F32", "[9007199254740992,9007199254740992]", "[0,4]"), 4, PITH_E_CORRUPT, "dimension 1"},
        {T("F32", "[4611686018427387904]", "[0,0]"), 0, PITH_E_CORRUPT, "dimension 0"},
        {T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, PITH_E_UNSUPPORTED, "more than 8 dimensions"},
        {T("F32", "[2]", "[0,4]"), 4, PITH_E_CORRUPT, "its shape does not fit its 4 bytes"},
        {T("F32", "[1]", "[0,5]"), 4, PITH_E_CORRUPT, "not within the 4 bytes"},
        {T("F32", "[1]", "[4,0]"), 4, PITH_E_CORRUPT, "not within"},
        {T("F32", "[1]", "[-4,0]"), 4, PITH_E_CORRUPT, "not within"},
        {T("F32", "[1]", "[1e18,1e18]"), 4, PITH_E_CORRUPT, "not within"},
        {T("F32", "[1]", "[0]"), 4, PITH_E_CORRUPT, "not within"},
        {T("F32", "[1]", "[0,4,8]"), 4, PITH_E_CORRUPT, "not within"},
        {T("F32", "[1]", "[]"), 4, PITH_E_CORRUPT, "not within"},
        {T("F32", "[1]", "[4,8]"), 8, PITH_E_CORRUPT, "overlap or leave a hole"},
        {T("F32", "[1]", "[0,4]"), 8, PITH_E_CORRUPT, "the tensors end at byte 4 of the data, the file at 8"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6, PITH_E_CORRUPT, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}", 6, PITH_E_CORRUPT, "\"a\" is there twice"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"shape\":[0],\"data_offsets\":[0,4]}}", 4, PITH_E_CORRUPT, "t: \"shape\" is there twice"},
        {"{\"t\\u0000x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, PITH_E_CORRUPT, "a NUL character at byte 3"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"more\":" D50 D50 "1}}", 4, PITH_E_LIMIT, "deeper than 100"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, PITH_E_CORRUPT, "__metadata__"},
        {"{\"__metadata__\":7}", 0, PITH_E_CORRUPT, "__metadata__"},
    };
    for (size_t i = 0; i < PITH_COUNT(lies); i++) {
        maker m;
        make_file(&m, lies[i].header, lies[i].n_data);
        pith_status status = open_bytes(ctx, m.p, m.n);
        if (status != lies[i].status || !strstr(pith_error(ctx), lies[i].sentence))
            fail_msg("%s: %s, \"%s\"; expected \"%s\"", lies[i].header, pith_status_text(status), pith_error(ctx), lies[i].sentence);
        make_free(&m);
    }
    maker m;
    static const uint64_t lengths[] = {0, 1, 1000, (uint64_t)1 << 40, (uint64_t)1 << 63, UINT64_MAX};
    make_file(&m, VALID, 21);
    for (size_t i = 0; i < PITH_COUNT(lengths); i++) {
        pith_put64(m.p, lengths[i]);
        pith_status status = open_bytes(ctx, m.p, m.n);
        assert_true(status == PITH_E_CORRUPT || status == PITH_E_FORMAT);
    }
    make_free(&m);
}

static void limits_json(void **state)
{
    pith_ctx *ctx = *state;
    cJSON *json;
    size_t n = PITH_JSON_MAX_VALUES + 16;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, ',', n);
    text[0] = '[';
    assert_int_equal(pith_json_parse(ctx, "many", text, n, &json), PITH_E_LIMIT);
    assert_int_equal(pith_json_parse(ctx, "long", text, PITH_JSON_MAX_BYTES + 1, &json), PITH_E_LIMIT); /* not even looked at */
    memset(text, '[', n);
    assert_int_equal(pith_json_parse(ctx, "deep", text, 100000, &json), PITH_E_CORRUPT);
    assert_int_equal(pith_json_parse(ctx, "empty", text, 0, &json), PITH_E_CORRUPT);
    assert_int_equal(pith_json_parse(ctx, "lines", "{\n \"a\": 1,\n \"b\": x}", 20, &json), PITH_E_CORRUPT);
    assert_string_equal(pith_error(ctx), "lines: not valid JSON at line 3, column 7");
    assert_int_equal(pith_json_parse(ctx, "spaces", " [1] \n\t", 7, &json), PITH_OK);
    cJSON_Delete(json);
    free(text);
}

/* ---- folders ---------------------------------------------------------------------------------- */

static char folder[] = "/tmp/pith-folder-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put_file(const char *name, const char *text) { test_write_text(in_folder(name), text); }

static void empty_folder(void)
{
    static const char *const names[] = {"config.json", "model.safetensors", "odd.safetensors", "two.safetensors", "pipe.safetensors", "model.safetensors.index.json",
                                        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"};
    for (size_t i = 0; i < PITH_COUNT(names); i++) unlink(in_folder(names[i]));
}

/* F32 tensors of shape [n] filled with their number */
static void put_tensors(pith_ctx *ctx, const char *name, const char *const *tensors, size_t n_tensors, size_t rows, size_t cols)
{
    pith_safetensors_writer *w;
    float x[256];
    assert_true(rows * cols <= PITH_COUNT(x));
    assert_ok(ctx, pith_safetensors_writer_open(ctx, in_folder(name), &w));
    for (size_t i = 0; i < n_tensors; i++) assert_ok(ctx, pith_safetensors_declare(w, tensors[i], PITH_F32, 2, (size_t[]){rows, cols}));
    for (size_t i = 0; i < n_tensors; i++) {
        for (size_t k = 0; k < rows * cols; k++) x[k] = (float)i;
        assert_ok(ctx, pith_safetensors_data(w, x, rows * cols * 4));
    }
    assert_ok(ctx, pith_safetensors_writer_close(w));
}

static const char *const llama_tensors[] = {
    "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.bias",
    "model.layers.0.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
    "model.norm.weight", "lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"};

#define CONFIG(type, more)                                                                                             \
    "{\"model_type\":\"" type "\",\"num_hidden_layers\":1,\"hidden_size\":16,\"intermediate_size\":32,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"vocab_size\":99,\"max_position_embeddings\":512,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.5" more "}"

static void folders_become_models(void **state)
{
    pith_ctx *ctx = *state;
    static const struct { const char *config, *architecture; pith_rope_scaling scaling; float factor, attn; uint32_t original, window; bool known; } cases[] = {
        {CONFIG("llama", ""), "llama", PITH_ROPE_PLAIN, 1, 1, 512, 0, true},
        {CONFIG("mistral", ",\"sliding_window\":64,\"rope_scaling\":null"), "llama", PITH_ROPE_PLAIN, 1, 1, 512, 64, true},
        {CONFIG("qwen2", ",\"sliding_window\":64"), "qwen2", PITH_ROPE_PLAIN, 1, 1, 512, 0, true},
        {CONFIG("qwen2", ",\"sliding_window\":64,\"use_sliding_window\":true"), "qwen2", PITH_ROPE_PLAIN, 1, 1, 512, 64, true},
        {CONFIG("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}"), "llama", PITH_ROPE_LINEAR, 4, 1, 512, 0, true},
        {CONFIG("llama", ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":256}"),
         "llama", PITH_ROPE_LLAMA3, 8, 1, 256, 0, true},
        {CONFIG("qwen2", ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":128}"), "qwen2", PITH_ROPE_YARN, 4, 1.13862944f, 128, 0, true},
        {CONFIG("qwen2", ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"attention_factor\":1.5}"), "qwen2", PITH_ROPE_YARN, 4, 1.5f, 512, 0, true},
        {CONFIG("llama", ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000.5}"), "llama", PITH_ROPE_PLAIN, 1, 1, 512, 0, true},
        {CONFIG("llama", ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}"), "llama", PITH_ROPE_PLAIN, 1, 1, 512, 0, true},
        {CONFIG("unheard_of", ""), "unheard_of", PITH_ROPE_PLAIN, 1, 1, 512, 0, false},
        {CONFIG("llama", ",\"hidden_act\":\"gelu\""), "", PITH_ROPE_PLAIN, 1, 1, 512, 0, false},
    };
    put_tensors(ctx, "model.safetensors", llama_tensors, PITH_COUNT(llama_tensors), 8, 16);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_model_file *file;
        put_file("config.json", cases[i].config);
        assert_ok(ctx, pith_model_file_open(ctx, folder, &file));
        const pith_settings *s = &file->settings;
        assert_string_equal(s->architecture, cases[i].architecture);
        assert_int_equal(s->rope_scaling, cases[i].scaling);
        assert_int_equal(s->rope_style, PITH_ROPE_HALVES);
        assert_true(s->rope_factor == cases[i].factor && fabsf(s->rope_attn_factor - cases[i].attn) < 1e-6f);
        assert_int_equal(s->rope_original_ctx, cases[i].original);
        assert_int_equal(s->sliding_window, cases[i].window);
        assert_true(s->rope_base == 10000.5f && s->norm_eps == 1e-6f);
        assert_true(s->n_layers == 1 && s->n_embd == 16 && s->n_ff == 32 && s->n_heads == 4 && s->n_kv_heads == 2 && s->head_dim == 4 && s->rope_dims == 4);
        assert_int_equal(s->n_vocab, cases[i].known ? 8 : 99); /* the matrix knows better */
        assert_false(s->tied_embeddings);
        static const char *const names[] = {"token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.bias", "blk.0.ffn_down.weight",
                                            "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight", "output.weight"};
        for (size_t k = 0; k < PITH_COUNT(names); k++) {
            const pith_named_tensor *nt = pith_model_file_find(file, cases[i].known ? names[k] : llama_tensors[k]);
            float x[16];
            if (!nt) fail_msg("case %zu: no %s", i, names[k]);
            assert_int_equal(pith_tensor_rows_f32(&nt->t, 7, 8, x), PITH_OK);
            assert_true(x[15] == (float)k);
        }
        assert_non_null(pith_model_file_find(file, llama_tensors[8])); /* an unknown tensor keeps its name */
        pith_model_file_close(ctx, file);
    }
    empty_folder();
}

static void broken_configs(void **state)
{
    pith_ctx *ctx = *state;
    static const struct { const char *config; pith_status status; const char *sentence; } cases[] = {
        {"{", PITH_E_CORRUPT, "config.json: not valid JSON at line 1"},
        {"[]", PITH_E_CORRUPT, "no JSON object"},
        {CONFIG("a name that is longer than thirty-one bytes", ""), PITH_E_CORRUPT, "model_type"},
        {CONFIG("llama", ",\"head_dim\":-4"), PITH_E_CORRUPT, "head_dim"},
        {CONFIG("llama", ",\"head_dim\":3"), PITH_E_CORRUPT, "head dimension"},
        {CONFIG("llama", ",\"head_dim\":1e12"), PITH_E_CORRUPT, "head_dim"},
        {CONFIG("llama", ",\"partial_rotary_factor\":7"), PITH_E_CORRUPT, "partial_rotary_factor"},
        {CONFIG("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}"), PITH_E_CORRUPT, "factor is not positive"},
        {CONFIG("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"4\"}"), PITH_E_CORRUPT, "factor is not a usable number"},
        {CONFIG("llama", ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":1}"), PITH_E_CORRUPT, "llama 3"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":4000000000}", PITH_E_CORRUPT, "number of layers"},
        {CONFIG("llama", ",\"hidden_size\":32"), PITH_E_CORRUPT, "config.json: \"hidden_size\" is there twice"},
        {CONFIG("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4,\"factor\":8}"), PITH_E_CORRUPT, "rope_scaling: \"factor\" is there twice"},
        {CONFIG("llama\\u0000-like", ""), PITH_E_CORRUPT, "config.json: a NUL character at byte 20"},
        {CONFIG("llama", ",\"x\":" D50 D50 D50), PITH_E_LIMIT, "config.json: lists and objects deeper than 100"},
        {CONFIG("llama", ",\"rope_theta\":1e999"), PITH_E_CORRUPT, "rope_theta"},
    };
    put_tensors(ctx, "model.safetensors", llama_tensors, PITH_COUNT(llama_tensors), 8, 16);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_model_file *file = NULL;
        put_file("config.json", cases[i].config);
        pith_status status = pith_model_file_open(ctx, folder, &file);
        if (status != cases[i].status || !strstr(pith_error(ctx), cases[i].sentence))
            fail_msg("%s: %s, \"%s\"; expected \"%s\"", cases[i].config, pith_status_text(status), pith_error(ctx), cases[i].sentence);
        assert_non_null(strstr(pith_error(ctx), folder));
    }
    empty_folder();
}

static void parts_make_a_whole(void **state)
{
    pith_ctx *ctx = *state;
    static const struct { const char *index; pith_status status; const char *sentence; } cases[] = {
        {"{\"weight_map\":{\"a\":\"odd.safetensors\",\"b\":\"two.safetensors\",\"c\":\"odd.safetensors\"}}", PITH_OK, ""},
        {"{\"weight_map\":{\"a\":\"odd.safetensors\",\"c\":\"odd.safetensors\"}}", PITH_OK, ""},
        {"{\"weight_map\":{\"a\":\"odd.safetensors\",\"z\":\"odd.safetensors\"}}", PITH_E_CORRUPT, "tensor z is in no part"},
        {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", PITH_E_IO, "gone.safetensors"},
        {"{\"weight_map\":{\"a\":\"../odd.safetensors\"}}", PITH_E_CORRUPT, "not named as"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", PITH_E_CORRUPT, "not named as"},
        {"{\"weight_map\":{\"a\":7}}", PITH_E_CORRUPT, "not named as"},
        {"{\"weight_map\":[]}", PITH_E_CORRUPT, "no weight_map"},
        {"{}", PITH_E_CORRUPT, "no weight_map"},
        {"[]", PITH_E_CORRUPT, "index.json: no JSON object"},
        {"{\"weight_map\":{\"a\":\"odd.safetensors\",\"a\":\"two.safetensors\"}}", PITH_E_CORRUPT, "weight_map: \"a\" is there twice"},
        {"{\"weight_map\":{\"a\":\"odd.safetensors\\u0000/\"}}", PITH_E_CORRUPT, "a NUL character"},
        {"{\"weight_map\":{\"a\":\"pipe.safetensors\"}}", PITH_E_IO, "pipe.safetensors: not a plain file"},
        {"{\"weight_map\":{}}", PITH_E_CORRUPT, "lists no tensor"},
        {"{\"weight_map\":", PITH_E_CORRUPT, "index.json: not valid JSON"},
    };
    put_tensors(ctx, "odd.safetensors", (const char *const[]){"a", "c"}, 2, 2, 2);
    put_tensors(ctx, "two.safetensors", (const char *const[]){"b"}, 1, 2, 2);
    pith_model_file *file = NULL;
    assert_int_equal(pith_model_file_open(ctx, folder, &file), PITH_E_FORMAT); /* two files, no index */
    assert_int_equal(mkfifo(in_folder("pipe.safetensors"), 0600), 0);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        put_file("model.safetensors.index.json", cases[i].index);
        pith_status status = pith_model_file_open(ctx, folder, &file);
        if (status != cases[i].status || (status != PITH_OK && !strstr(pith_error(ctx), cases[i].sentence)))
            fail_msg("%s: %s, \"%s\"; expected \"%s\"", cases[i].index, pith_status_text(status), pith_error(ctx), cases[i].sentence);
        if (status != PITH_OK) continue;
        assert_int_equal(file->n_tensors, i == 0 ? 3 : 2);
        pith_model_file_close(ctx, file);
    }
    unlink(in_folder("pipe.safetensors"));
    /* the same tensor in two parts */
    put_tensors(ctx, "two.safetensors", (const char *const[]){"a", "b"}, 2, 2, 2);
    put_file("model.safetensors.index.json", cases[0].index);
    assert_int_equal(pith_model_file_open(ctx, folder, &file), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "tensor a is there twice"));
    unlink(in_folder("model.safetensors.index.json"));
    unlink(in_folder("two.safetensors"));
    assert_int_equal(pith_file_sniff(folder), PITH_FILE_SAFETENSORS);
    assert_ok(ctx, pith_model_file_open(ctx, folder, &file)); /* one file of any name, no config */
    assert_string_equal(file->settings.architecture, "");
    pith_model_file_close(ctx, file);
    empty_folder();
    assert_int_equal(pith_file_sniff(folder), PITH_FILE_UNKNOWN);
    assert_int_equal(pith_file_sniff("/nowhere/at/all"), PITH_FILE_UNKNOWN);
    assert_int_equal(pith_model_file_open(ctx, folder, &file), PITH_E_FORMAT);
    assert_int_equal(pith_model_file_open(ctx, "/nowhere/at/all", &file), PITH_E_IO);
    put_file("config.json", "this is no model");
    assert_int_equal(pith_model_file_open(ctx, in_folder("config.json"), &file), PITH_E_FORMAT);
    assert_int_equal(pith_file_sniff(in_folder("config.json")), PITH_FILE_UNKNOWN);
    empty_folder();
}

/* Memory grows with the tensors, not with tensors times parts. */
static void many_parts_take_little_memory(void **state)
{
    (void)state;
    enum { PARTS = 400 };
    pith_options o = {.n_threads = 1, .memory_limit = (size_t)2 << 20};
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    char name[32], *index = malloc(PARTS * 64), *end = index + sprintf(index, "{\"weight_map\":{");
    for (int i = 0; i < PARTS; i++) {
        maker m;
        char header[96];
        snprintf(header, sizeof header, "{\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", i);
        snprintf(name, sizeof name, "p%d.safetensors", i);
        make_file(&m, header, 1);
        test_write_file(in_folder(name), m.p, m.n);
        make_free(&m);
        end += sprintf(end, "%s\"t%d\":\"%s\"", i ? "," : "", i, name);
    }
    strcpy(end, "}}");
    put_file("model.safetensors.index.json", index);
    pith_model_file *file = NULL;
    assert_ok(ctx, pith_model_file_open(ctx, folder, &file));
    assert_int_equal(file->n_tensors, PARTS);
    for (int i = 0; i < PARTS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_non_null(pith_model_file_find(file, name));
        snprintf(name, sizeof name, "p%d.safetensors", i);
        unlink(in_folder(name));
    }
    pith_model_file_close(ctx, file);
    free(index);
    empty_folder();
    pith_ctx_free(ctx);
}

static void names_follow_gguf(void **state)
{
    (void)state;
    static const struct { const char *hf, *gguf; } cases[] = {
        {"model.layers.12.self_attn.o_proj.weight", "blk.12.attn_output.weight"}, {"layers.3.mlp.gate_proj.bias", "blk.3.ffn_gate.bias"},
        {"embed_tokens.weight", "token_embd.weight"}, {"lm_head.weight", "output.weight"}, {"model.norm.weight", "output_norm.weight"},
        {"model.layers.1234567.mlp.up_proj.weight", NULL}, {"model.layers..mlp.up_proj.weight", NULL}, {"model.layers.1.mlp.up_proj", NULL},
        {"model.layers.1.mlp.up_proj.weight.weight", NULL}, {"model.layers.-1.mlp.up_proj.weight", NULL}, {"model.layers.1", NULL}, {"model.", NULL},
        {"", NULL}, {"lm_head.bias", NULL}, {"visual.blocks.0.norm1.weight", NULL}};
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        char name[64] = "";
        bool known = pith_hf_tensor_name(cases[i].hf, name);
        assert_int_equal(known, cases[i].gguf != NULL);
        if (known) assert_string_equal(name, cases[i].gguf);
    }
}

static const char tokenizer[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":0,\"content\":\"<|end|>\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":false,\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
    "\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,"
    "\"vocab\":{\"<|end|>\":0,\"a\":1,\"b\":2,\"ab\":3},\"merges\":[\"a b\"]}}";

static void make_whole_folder(pith_ctx *ctx)
{
    put_tensors(ctx, "model.safetensors", llama_tensors, PITH_COUNT(llama_tensors), 8, 16);
    put_file("config.json", CONFIG("llama", ""));
    put_file("tokenizer.json", tokenizer);
    put_file("tokenizer_config.json", "{\"eos_token\":\"<|end|>\"}");
    put_file("chat_template.jinja", "{{ messages }}");
}

static void tokenizers_come_along(void **state)
{
    pith_ctx *ctx = *state;
    pith_model_file *file;
    make_whole_folder(ctx);
    assert_ok(ctx, pith_model_file_open(ctx, folder, &file));
    assert_int_equal(file->vocab.kind, PITH_VOCAB_BPE);
    assert_int_equal(file->vocab.n_tokens, 4);
    assert_int_equal(file->vocab.eos, 0);
    assert_memory_equal(file->vocab.tokens[3].s, "ab", 2);
    assert_int_equal(file->vocab.chat_template.len, 14);
    assert_memory_equal(file->vocab.chat_template.s, "{{ messages }}", 14);
    pith_model_file_close(ctx, file);
    put_file("tokenizer.json", "{\"model\":");
    assert_int_not_equal(pith_model_file_open(ctx, folder, &file), PITH_OK);
    assert_non_null(strstr(pith_error(ctx), "tokenizer.json"));
    empty_folder();
}

static pith_status open_and_close(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_model_file *file;
    PITH_TRY(pith_model_file_open(ctx, folder, &file));
    pith_model_file_close(ctx, file);
    return PITH_OK;
}

static void survives_lack_of_memory(void **state)
{
    make_whole_folder(*state);
    assert_in_range(test_every_fault(open_and_close, NULL), 10, 500);
    empty_folder();
}

static int setup(void **state)
{
    pith_options o = {.n_threads = 1};
    return !mkdtemp(folder) || pith_ctx_new(&o, (pith_ctx **)state) != PITH_OK;
}

static int teardown(void **state)
{
    pith_ctx_free(*state);
    empty_folder();
    rmdir(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_there), cmocka_unit_test(refuses_every_prefix), cmocka_unit_test(survives_any_byte),
        cmocka_unit_test(refuses_lies), cmocka_unit_test(limits_json), cmocka_unit_test(folders_become_models), cmocka_unit_test(broken_configs),
        cmocka_unit_test(parts_make_a_whole), cmocka_unit_test(many_parts_take_little_memory), cmocka_unit_test(names_follow_gguf), cmocka_unit_test(tokenizers_come_along),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
