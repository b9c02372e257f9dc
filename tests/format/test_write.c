/* What the GGUF and safetensors writers write, the readers read; misuse is refused; nothing is left behind. */
#include "../tiny_model.h"
#include "maker.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/gguf.h"
#include "format/safetensors.h"
#include "format/settings.h"

static char path[] = "/tmp/pith-write-XXXXXX", other[64];

static pith_str text(const char *s) { return (pith_str){s, strlen(s)}; }

static const char *meta(const pith_model_file *file, const char *name)
{
    for (size_t i = 0; i < file->n_meta; i++)
        if (strcmp(file->meta[i].key, name) == 0) return file->meta[i].value;
    return NULL;
}

static void same_strings(const pith_str *a, const pith_str *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(a[i].len, b[i].len);
        assert_memory_equal(a[i].s, b[i].s, a[i].len);
    }
}

static void same_vocab(const pith_vocab *a, const pith_vocab *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_string_equal(a->pre, b->pre);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->n_merges, b->n_merges);
    same_strings(a->tokens, b->tokens, a->n_tokens);
    same_strings(a->merges, b->merges, a->n_merges);
    assert_memory_equal(a->types, b->types, a->n_tokens);
    assert_int_equal(a->scores != NULL, b->scores != NULL);
    if (a->scores) assert_memory_equal(a->scores, b->scores, a->n_tokens * sizeof *a->scores);
    assert_true(a->bos == b->bos && a->eos == b->eos && a->unk == b->unk && a->pad == b->pad && a->eot == b->eot);
    assert_true(a->add_bos == b->add_bos && a->add_eos == b->add_eos && a->add_space_prefix == b->add_space_prefix);
    same_strings(&a->chat_template, &b->chat_template, 1);
    same_strings(&a->charsmap, &b->charsmap, 1);
}

static void same_tensors(const pith_model_file *a, const pith_model_file *b)
{
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const pith_named_tensor *x = &a->tensors[i], *y = pith_model_file_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->t.dtype, y->t.dtype);
        assert_int_equal(x->t.n_dims, y->t.n_dims);
        assert_memory_equal(x->t.dims, y->t.dims, (size_t)x->t.n_dims * sizeof *x->t.dims);
        assert_int_equal(x->len_bytes, y->len_bytes);
        assert_memory_equal(x->t.data, y->t.data, x->len_bytes);
    }
}

static void every_kind_of_key(void **state)
{
    pith_ctx *ctx = *state;
    pith_gguf_writer *w;
    const pith_str strings[] = {text("one"), {"", 0}, {"a\0b", 3}};
    const float floats[] = {1.5f, -2.25f};
    assert_ok(ctx, pith_gguf_writer_open(ctx, path, &w));
    assert_ok(ctx, pith_gguf_put_u32(w, "u32", 4000000000u));
    assert_ok(ctx, pith_gguf_put_f32(w, "f32", 0.1f));
    assert_ok(ctx, pith_gguf_put_bool(w, "bool", true));
    assert_ok(ctx, pith_gguf_put_str(w, "str", (pith_str){"x\0y", 3}));
    assert_ok(ctx, pith_gguf_put_array(w, "floats", PITH_GGUF_F32, floats, 2));
    assert_ok(ctx, pith_gguf_put_strs(w, "strings", strings, 3));
    assert_ok(ctx, pith_gguf_put_strs(w, "none", NULL, 0));
    assert_int_equal(pith_gguf_put_u32(w, "str", 1), PITH_E_ARGUMENT);
    assert_int_equal(pith_gguf_put_array(w, "bad", PITH_GGUF_STRING, floats, 2), PITH_E_ARGUMENT);
    const size_t dims[4] = {2, 3, 4, 32};
    assert_ok(ctx, pith_gguf_declare(w, "t4", PITH_Q8_0, 4, dims));
    assert_ok(ctx, pith_gguf_declare(w, "t1", PITH_I8, 1, (size_t[]){5}));
    assert_int_equal(pith_gguf_declare(w, "t1", PITH_I8, 1, dims), PITH_E_ARGUMENT);
    assert_int_equal(pith_gguf_declare(w, "t5", PITH_I8, 5, dims), PITH_E_UNSUPPORTED);
    assert_int_equal(pith_gguf_declare(w, "bool", PITH_BOOL, 1, dims), PITH_E_UNSUPPORTED);
    assert_int_equal(pith_gguf_declare(w, "broken", PITH_Q8_0, 1, (size_t[]){33}), PITH_E_SHAPE);
    assert_int_equal(pith_gguf_declare(w, "empty", PITH_F32, 1, (size_t[]){0}), PITH_E_SHAPE);
    assert_int_equal(pith_gguf_declare(w, "a name of 64 bytes, one more than llama.cpp takes, to the byte xx", PITH_F32, 1, dims), PITH_E_LIMIT);
    uint8_t bytes[24 * 34];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 7);
    assert_ok(ctx, pith_gguf_data(w, bytes, 100));
    assert_int_equal(pith_gguf_put_u32(w, "late", 1), PITH_E_ARGUMENT);
    assert_int_equal(pith_gguf_declare(w, "late", PITH_F32, 1, dims), PITH_E_ARGUMENT);
    assert_int_equal(pith_gguf_data(w, bytes, sizeof bytes), PITH_E_ARGUMENT);
    assert_ok(ctx, pith_gguf_data(w, bytes + 100, sizeof bytes - 100));
    assert_ok(ctx, pith_gguf_data(w, "abcde", 5));
    assert_int_equal(pith_gguf_data(w, "f", 1), PITH_E_ARGUMENT);
    assert_ok(ctx, pith_gguf_writer_close(w));

    pith_model_file *file;
    assert_ok(ctx, pith_model_file_open(ctx, path, &file));
    assert_string_equal(meta(file, "u32"), "4000000000");
    assert_string_equal(meta(file, "f32"), "0.100000001");
    assert_string_equal(meta(file, "bool"), "true");
    assert_string_equal(meta(file, "str"), "x\\0y");
    assert_string_equal(meta(file, "floats"), "[2 values] 1.5, -2.25");
    assert_string_equal(meta(file, "strings"), "[3 values] one, , a\\0b");
    assert_string_equal(meta(file, "none"), "[0 values]");
    const pith_named_tensor *t4 = pith_model_file_find(file, "t4"), *t1 = pith_model_file_find(file, "t1");
    assert_int_equal(t4->t.n_dims, 4);
    assert_memory_equal(t4->t.dims, dims, sizeof dims);
    assert_memory_equal(t4->t.data, bytes, sizeof bytes);
    assert_memory_equal(t1->t.data, "abcde", 5);
    assert_int_equal((uintptr_t)t1->t.data % 32, 0);
    pith_model_file_close(ctx, file);
}

static void unfinished_files_do_not_appear(void **state)
{
    pith_ctx *ctx = *state;
    pith_gguf_writer *w;
    pith_safetensors_writer *s;
    unlink(path);
    assert_ok(ctx, pith_gguf_writer_open(ctx, path, &w));
    assert_ok(ctx, pith_gguf_declare(w, "t", PITH_F32, 1, (size_t[]){4}));
    assert_ok(ctx, pith_gguf_data(w, "12345678", 8));
    assert_int_equal(pith_gguf_writer_close(w), PITH_E_ARGUMENT);
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(ctx, pith_safetensors_writer_open(ctx, path, &s));
    assert_ok(ctx, pith_safetensors_declare(s, "t", PITH_F32, 1, (size_t[]){4}));
    assert_int_equal(pith_safetensors_writer_close(s), PITH_E_ARGUMENT);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(pith_gguf_writer_open(ctx, "/nowhere/at/all.gguf", &w), PITH_E_IO);
}

/* Settings and tokenizer come back as they went, for each kind of scaling and vocabulary; keys can be copied to another file. */
static void models_come_back(void **state)
{
    pith_ctx *ctx = *state;
    for (int i = 0; i < 8; i++) {
        tiny_model m = tiny_model_default();
        m.vocab = i % 2 ? PITH_VOCAB_SPM : PITH_VOCAB_BPE;
        m.biases = i % 2;
        m.dtype = i % 2 ? PITH_Q4_0 : PITH_F16;
        pith_settings *s = &m.settings;
        s->tied_embeddings = i % 2 == 0;
        s->rope_scaling = (pith_rope_scaling)(i / 2);
        if (i % 2) {
            snprintf(s->architecture, sizeof s->architecture, "qwen2");
            s->rope_style = PITH_ROPE_HALVES;
            s->sliding_window = 77;
            s->head_dim = 24; /* not n_embd / n_heads */
            s->rope_dims = 16;
            s->n_embd = 96;
            s->n_heads = 8;
        }
        if (i >= 2) s->rope_factor = 4;
        s->rope_original_ctx = s->rope_scaling == PITH_ROPE_LLAMA3 ? 8192 : s->rope_scaling == PITH_ROPE_YARN ? 64 : 256;
        if (s->rope_scaling == PITH_ROPE_YARN) s->rope_attn_factor = 1.25f;
        if (s->rope_scaling == PITH_ROPE_LLAMA3) s->rope_base = 500000;
        assert_ok(ctx, tiny_model_write(ctx, &m, path));
        pith_model_file *file, *again;
        assert_ok(ctx, pith_model_file_open(ctx, path, &file));
        pith_settings expected = *s, *got = &file->settings;
        expected.n_vocab = (uint32_t)file->vocab.n_tokens;
        /* factors are stored as f32, so the ends come back to about three digits */
        assert_true(fabsf(got->rope_low_freq_factor - expected.rope_low_freq_factor) < 2e-3f && fabsf(got->rope_high_freq_factor - expected.rope_high_freq_factor) < 2e-3f);
        assert_true(fabsf(got->rope_factor - expected.rope_factor) < 1e-5f && fabsf(got->rope_attn_factor - expected.rope_attn_factor) < 1e-6f);
        expected.rope_low_freq_factor = got->rope_low_freq_factor;
        expected.rope_high_freq_factor = got->rope_high_freq_factor;
        expected.rope_factor = got->rope_factor;
        expected.rope_attn_factor = got->rope_attn_factor;
        assert_memory_equal(&expected, got, offsetof(pith_settings, tied_embeddings) + 1); /* padding follows */
        pith_arena *arena = pith_arena_new(ctx);
        pith_vocab v;
        assert_ok(ctx, tiny_vocab(arena, m.vocab, &v));
        same_vocab(&v, &file->vocab);
        pith_arena_free(arena);

        pith_gguf_writer *w;
        assert_ok(ctx, pith_gguf_writer_open(ctx, other, &w));
        assert_ok(ctx, pith_gguf_put_u32(w, "llama.context_length", 99));
        assert_ok(ctx, pith_gguf_put_keys_of(w, file));
        for (size_t k = 0; k < file->n_tensors; k++)
            assert_ok(ctx, pith_gguf_declare(w, file->tensors[k].name, file->tensors[k].t.dtype, file->tensors[k].t.n_dims, file->tensors[k].t.dims));
        for (size_t k = 0; k < file->n_tensors; k++) assert_ok(ctx, pith_gguf_data(w, file->tensors[k].t.data, file->tensors[k].len_bytes));
        assert_ok(ctx, pith_gguf_writer_close(w));
        assert_ok(ctx, pith_model_file_open(ctx, other, &again));
        same_tensors(file, again);
        same_vocab(&file->vocab, &again->vocab);
        assert_string_equal(meta(again, "llama.context_length"), "99");
        assert_int_equal(again->n_meta, file->n_meta + (i % 2)); /* qwen2 has no llama.context_length to replace */
        pith_model_file_close(ctx, file);
        pith_model_file_close(ctx, again);
    }
}

/* A model in three files, as llama.cpp splits them. */
static void parts_make_a_whole(void **state)
{
    pith_ctx *ctx = *state;
    char names[3][128];
    for (unsigned i = 0; i < 3; i++) {
        snprintf(names[i], sizeof names[i], "%s-%05u-of-00003.gguf", path, i + 1);
        pith_gguf_writer *w;
        assert_ok(ctx, pith_gguf_writer_open(ctx, names[i], &w));
        assert_ok(ctx, pith_gguf_put_u32(w, "split.count", 3));
        assert_ok(ctx, pith_gguf_put_u32(w, "split.no", i));
        char name[8];
        snprintf(name, sizeof name, "t%u", i);
        assert_ok(ctx, pith_gguf_declare(w, name, PITH_F32, 1, (size_t[]){2}));
        assert_ok(ctx, pith_gguf_data(w, (float[]){(float)i, 1}, 8));
        assert_ok(ctx, pith_gguf_writer_close(w));
    }
    pith_model_file *file;
    assert_ok(ctx, pith_model_file_open(ctx, names[0], &file));
    assert_int_equal(file->n_tensors, 3);
    float x[2];
    assert_int_equal(pith_tensor_rows_f32(&pith_model_file_find(file, "t2")->t, 0, 1, x), PITH_OK);
    assert_true(x[0] == 2);
    pith_model_file_close(ctx, file);
    assert_int_equal(pith_model_file_open(ctx, names[1], &file), PITH_E_ARGUMENT);
    pith_gguf_writer *again;
    assert_ok(ctx, pith_gguf_writer_open(ctx, names[2], &again)); /* a tensor that another part has */
    assert_ok(ctx, pith_gguf_declare(again, "t0", PITH_F32, 1, (size_t[]){2}));
    assert_ok(ctx, pith_gguf_data(again, (float[]){2, 1}, 8));
    assert_ok(ctx, pith_gguf_writer_close(again));
    assert_int_equal(pith_model_file_open(ctx, names[0], &file), PITH_E_CORRUPT);
    assert_non_null(strstr(pith_error(ctx), "tensor t0 is in two parts"));
    unlink(names[2]);
    assert_int_equal(mkfifo(names[2], 0600), 0);
    assert_int_equal(pith_model_file_open(ctx, names[0], &file), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), "not a plain file"));
    unlink(names[2]);
    assert_int_equal(pith_model_file_open(ctx, names[0], &file), PITH_E_IO);
    assert_int_equal(rename(names[0], path), 0);
    assert_int_equal(pith_model_file_open(ctx, path, &file), PITH_E_FORMAT);
    unlink(names[1]);
}

static void safetensors_come_back(void **state)
{
    pith_ctx *ctx = *state;
    pith_safetensors_writer *w;
    const char *odd = "quote \" back \\ slash \n line \t \x01 and é";
    assert_ok(ctx, pith_safetensors_writer_open(ctx, path, &w));
    assert_ok(ctx, pith_safetensors_put(w, "format", "pt"));
    assert_ok(ctx, pith_safetensors_put(w, odd, odd));
    assert_ok(ctx, pith_safetensors_declare(w, odd, PITH_BF16, 2, (size_t[]){2, 3}));
    assert_ok(ctx, pith_safetensors_declare(w, "empty", PITH_F32, 2, (size_t[]){0, 3}));
    assert_ok(ctx, pith_safetensors_declare(w, "scalar", PITH_I64, 0, NULL));
    assert_ok(ctx, pith_safetensors_declare(w, "e4m3", PITH_F8_E4M3, 1, (size_t[]){5}));
    assert_int_equal(pith_safetensors_declare(w, "blocks", PITH_Q8_0, 1, (size_t[]){32}), PITH_E_UNSUPPORTED);
    assert_ok(ctx, pith_safetensors_data(w, "\x80\x3f\x00\x40\x40\x40\x80\x40\xa0\x40\xc0\x40", 12));
    assert_int_equal(pith_safetensors_put(w, "late", ""), PITH_E_ARGUMENT);
    assert_int_equal(pith_safetensors_declare(w, "late", PITH_F32, 0, NULL), PITH_E_ARGUMENT);
    assert_int_equal(pith_safetensors_data(w, "123456789", 9), PITH_E_ARGUMENT);
    assert_ok(ctx, pith_safetensors_data(w, "\x05\0\0\0\0\0\0\0", 8));
    assert_ok(ctx, pith_safetensors_data(w, "\x38\xb8\x7e\x01\x00", 5));
    assert_ok(ctx, pith_safetensors_writer_close(w));

    pith_model_file *file;
    assert_ok(ctx, pith_model_file_open(ctx, path, &file));
    assert_int_equal(file->kind, PITH_FILE_SAFETENSORS);
    assert_int_equal(pith_file_sniff(path), PITH_FILE_SAFETENSORS);
    assert_string_equal(meta(file, odd), odd);
    float x[6];
    assert_int_equal(pith_tensor_rows_f32(&pith_model_file_find(file, odd)->t, 0, 2, x), PITH_OK);
    for (int i = 0; i < 6; i++) assert_true(x[i] == (float)(i + 1));
    assert_int_equal(pith_tensor_rows_f32(&pith_model_file_find(file, "scalar")->t, 0, 1, x), PITH_OK);
    assert_true(x[0] == 5);
    assert_int_equal(pith_tensor_rows_f32(&pith_model_file_find(file, "e4m3")->t, 0, 1, x), PITH_OK);
    assert_true(x[0] == 1 && x[1] == -1 && x[2] == 448 && x[3] == 0x1p-9f && x[4] == 0);
    assert_int_equal(pith_model_file_find(file, "empty")->len_bytes, 0);
    pith_model_file_close(ctx, file);

    assert_ok(ctx, pith_safetensors_writer_open(ctx, path, &w));
    assert_ok(ctx, pith_safetensors_declare(w, "t", PITH_F32, 0, NULL));
    assert_ok(ctx, pith_safetensors_declare(w, "t", PITH_F32, 0, NULL));
    assert_int_equal(pith_safetensors_data(w, "1234", 4), PITH_E_ARGUMENT);
    pith_safetensors_writer_discard(w);
    assert_ok(ctx, pith_safetensors_writer_open(ctx, path, &w)); /* nothing at all is a valid file too */
    assert_ok(ctx, pith_safetensors_writer_close(w));
    assert_ok(ctx, pith_model_file_open(ctx, path, &file));
    assert_int_equal(file->n_tensors, 0);
    pith_model_file_close(ctx, file);
}

static pith_status write_and_open(pith_ctx *ctx, const void *model)
{
    pith_model_file *file = NULL;
    pith_status status = tiny_model_write(ctx, model, path);
    if (status == PITH_OK) status = pith_model_file_open(ctx, path, &file);
    pith_model_file_close(ctx, file);
    return status;
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    tiny_model m = tiny_model_default();
    m.settings.n_layers = 1;
    assert_in_range(test_every_fault(write_and_open, &m), 20, 1000);
}

static int setup(void **state)
{
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    snprintf(other, sizeof other, "%s-b", path);
    pith_options o = {.n_threads = 1};
    return pith_ctx_new(&o, (pith_ctx **)state) != PITH_OK;
}

static int teardown(void **state)
{
    pith_ctx_free(*state);
    unlink(path);
    unlink(other);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_key), cmocka_unit_test(unfinished_files_do_not_appear), cmocka_unit_test(models_come_back),
        cmocka_unit_test(parts_make_a_whole), cmocka_unit_test(safetensors_come_back), cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
