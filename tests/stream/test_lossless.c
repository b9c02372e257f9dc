/* Files to the bit: whatever goes in comes back, in the same bytes on every machine; what is damaged, cut or a lie is told, and a
 * failure leaves nothing behind. */
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <zstd.h>

#include "files.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "model/llama.h"
#include "recipe/compress.h"
#include "stream/weights/lossless.h"
#include "stream/weights/source.h"
#include "tiny_model.h"

#define SECTION 40

/* ---- sources ---------------------------------------------------------------------------------- */

static char mixed[128], small[128], model[128];   /* two folders and a GGUF */
static char out[128], packed[128], back[128];     /* a folder for results, and two names in it */
static char net[128];                             /* a model folder */
static char scratch[128];                         /* what is TMPDIR */

/* In the order of a .pith. */
static const char *const mixed_names[] = {".hidden", "README.md", "a.txt", "a/b/c/notes.txt", "a/empty", "broken.safetensors", "cut.gguf", "link.md", "model.gguf", "noise.bin", "q4.gguf", "weights.safetensors"};
static const char *const small_names[] = {"a/text.txt", "m.gguf", "nothing", "t.safetensors", "z.bin"};

static const char *in(const char *folder, const char *name)
{
    static char path[4][256];
    static int at;
    char *p = path[at++ % 4];
    assert_true(snprintf(p, sizeof path[0], "%s/%s", folder, name) < (int)sizeof path[0]);
    return p;
}

static void write_model(pith_ctx *ctx, pith_dtype dtype, const char *path)
{
    tiny_model t = tiny_model_default();
    t.settings.n_layers = 1;
    t.settings.n_ff = 64;
    t.dtype = dtype;
    assert_ok(ctx, tiny_model_write(ctx, &t, path));
}

static void write_noise(const char *path, size_t len)
{
    pith_rng rng = {.seed = 9};
    uint8_t *bytes = malloc(len);
    for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)pith_rng_u32(&rng);
    test_write_file(path, bytes, len);
    free(bytes);
}

typedef struct tensor {
    const char *name;
    pith_dtype dtype;
    int n_dims;
    size_t dims[2];
} tensor;

/* Like weights, with what is no number among them; bytes of any kind in other types. */
static void *values_of(const tensor *t, size_t n, size_t bytes)
{
    static const float odd[] = {0.0f, -0.0f, 1e-42f, INFINITY, -INFINITY, NAN, 1e30f};
    pith_rng rng = {.seed = 7, .stream = (uint64_t)t->dtype};
    uint8_t *values = malloc(bytes + 1);
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = i % 97 == 96 ? odd[i / 97 % PITH_COUNT(odd)] : 0.02f * pith_rng_normal(&rng);
    if (t->dtype == PITH_F32 || t->dtype == PITH_F16 || t->dtype == PITH_BF16) assert_int_equal(pith_blocks_from_f32(t->dtype, x, n, NULL, values), PITH_OK);
    else for (size_t i = 0; i < bytes; i++) values[i] = (uint8_t)(i % 3 == 0);
    free(x);
    return values;
}

static void write_safetensors(pith_ctx *ctx, const tensor *tensors, size_t n, const char *path)
{
    pith_safetensors_writer *w;
    assert_ok(ctx, pith_safetensors_writer_open(ctx, path, &w));
    assert_ok(ctx, pith_safetensors_put(w, "format", "pt"));
    for (size_t i = 0; i < n; i++) assert_ok(ctx, pith_safetensors_declare(w, tensors[i].name, tensors[i].dtype, tensors[i].n_dims, tensors[i].dims));
    for (size_t i = 0; i < n; i++) {
        size_t count = 1, bytes;
        for (int d = 0; d < tensors[i].n_dims; d++) count *= tensors[i].dims[d];
        assert_true(pith_dtype_bytes(tensors[i].dtype, count, &bytes));
        void *values = values_of(&tensors[i], count, bytes);
        assert_ok(ctx, pith_safetensors_data(w, values, bytes));
        free(values);
    }
    assert_ok(ctx, pith_safetensors_writer_close(w));
}

static const tensor mixed_tensors[] = {
    {"large", PITH_F32, 2, {300, 1001}}, {"f16", PITH_F16, 2, {33, 64}}, {"bf16", PITH_BF16, 2, {9, 300}}, {"i64", PITH_I64, 1, {5}}, {"bool", PITH_BOOL, 1, {7}},
    {"scalar", PITH_F32, 0, {0}}, {"one", PITH_BF16, 1, {1}}, {"none", PITH_F32, 2, {0, 9}}, {"long rows", PITH_F16, 2, {2, 5000}}, {"columns", PITH_F32, 2, {70, 3}}, {"f64", PITH_F64, 1, {3}},
};
static const tensor small_tensors[] = {{"a", PITH_F32, 2, {3, 64}}, {"b", PITH_BF16, 1, {2}}, {"c", PITH_I64, 1, {2}}};

static void write_blocks(pith_ctx *ctx, const char *path)
{
    static const tensor tensors[] = {{"q8", PITH_Q8_0, 2, {4, 64}}, {"q5", PITH_Q5_1, 2, {2, 64}}};
    pith_gguf_writer *w;
    assert_ok(ctx, pith_gguf_writer_open(ctx, path, &w));
    for (size_t i = 0; i < PITH_COUNT(tensors); i++) assert_ok(ctx, pith_gguf_declare(w, tensors[i].name, tensors[i].dtype, 2, tensors[i].dims));
    for (size_t i = 0; i < PITH_COUNT(tensors); i++) {
        pith_rng rng = {.seed = i};
        float x[256];
        uint8_t blocks[512];
        size_t count = tensors[i].dims[0] * 64, bytes;
        assert_true(pith_dtype_bytes(tensors[i].dtype, count, &bytes));
        for (size_t k = 0; k < count; k++) x[k] = pith_rng_normal(&rng);
        assert_int_equal(pith_blocks_from_f32(tensors[i].dtype, x, count, NULL, blocks), PITH_OK);
        assert_ok(ctx, pith_gguf_data(w, blocks, bytes));
    }
    assert_ok(ctx, pith_gguf_writer_close(w));
}

static void make_mixed(pith_ctx *ctx)
{
    size_t len;
    assert_ok(ctx, pith_folder_make(ctx, in(mixed, "a/b/c")));
    write_model(ctx, PITH_F32, in(mixed, "model.gguf"));
    write_model(ctx, PITH_Q4_1, in(mixed, "q4.gguf"));
    write_safetensors(ctx, mixed_tensors, PITH_COUNT(mixed_tensors), in(mixed, "weights.safetensors"));
    char *gguf = test_read_file(in(mixed, "model.gguf"), &len);
    test_write_file(in(mixed, "cut.gguf"), gguf, len / 2);
    free(gguf);
    test_write_file(in(mixed, "broken.safetensors"), "\x0a\0\0\0\0\0\0\0{\"t\": [1]}and so on", 28);
    test_write_text(in(mixed, "README.md"), "What this is.\nWhat this is not.\n");
    test_write_text(in(mixed, "a/b/c/notes.txt"), "notes");
    test_write_text(in(mixed, ".hidden"), "?");
    test_write_text(in(mixed, "a.txt"), "before all that is in a");
    test_write_text(in(mixed, "a/empty"), "");
    write_noise(in(mixed, "noise.bin"), 5000);
    assert_int_equal(symlink("README.md", in(mixed, "link.md")), 0);
}

static void make_small(pith_ctx *ctx)
{
    assert_ok(ctx, pith_folder_make(ctx, in(small, "a")));
    test_write_text(in(small, "a/text.txt"), "Some text; some text; some text; some text; some text.");
    test_write_text(in(small, "nothing"), "");
    write_noise(in(small, "z.bin"), 50);
    write_safetensors(ctx, small_tensors, PITH_COUNT(small_tensors), in(small, "t.safetensors"));
    write_blocks(ctx, in(small, "m.gguf"));
}

static void make_net(pith_ctx *ctx)
{
    tiny_model t = tiny_model_default();
    t.settings.rope_style = PITH_ROPE_HALVES; /* as such folders have it */
    t.settings.n_vocab = 300;
    assert_ok(ctx, pith_folder_make(ctx, net));
    assert_ok(ctx, pith_hf_config_write(ctx, &t.settings, PITH_F32, NULL, in(net, "config.json")));
    write_safetensors(ctx, mixed_tensors + 1, 6, in(net, "model.safetensors"));
}

static int make_sources(void **state)
{
    if (test_make_folder(state)) return 1;
    pith_ctx *ctx = test_ctx(1);
    const struct { char *path; const char *name; } paths[] = {{mixed, "mixed"}, {small, "small"}, {out, "out"}, {packed, "out/x.pith"}, {back, "out/back"}, {net, "net"}, {scratch, "tmp"}};
    for (size_t i = 0; i < PITH_COUNT(paths); i++) strcpy(paths[i].path, test_path(paths[i].name));
    make_mixed(ctx);
    make_small(ctx);
    make_net(ctx);
    strcpy(model, in(mixed, "model.gguf"));
    assert_ok(ctx, pith_folder_make(ctx, scratch));
    setenv("TMPDIR", scratch, 1);
    pith_ctx_free(ctx);
    return 0;
}

/* ---- results ---------------------------------------------------------------------------------- */

static int n_seen, n_folders;
static int see(const char *path, const struct stat *st, int kind, struct FTW *f)
{
    (void)path, (void)st;
    n_seen += kind == FTW_F || kind == FTW_SL;
    n_folders += kind == FTW_D && f->level > 0;
    return 0;
}

/* Files below a folder. */
static int n_files(const char *folder)
{
    n_seen = n_folders = 0;
    assert_int_equal(nftw(folder, see, 8, FTW_PHYS), 0);
    return n_seen;
}

/* And folders. */
static int n_entries(const char *folder)
{
    int n = n_files(folder);
    return n + n_folders;
}

static void fresh(pith_ctx *ctx)
{
    assert_ok(ctx, pith_folder_remove(ctx, out));
    assert_ok(ctx, pith_folder_make(ctx, out));
}

static void assert_same_file(const char *a, const char *b)
{
    size_t n, m;
    char *x = test_read_file(a, &n), *y = test_read_file(b, &m);
    if (n != m || memcmp(x, y, n)) fail_msg("%s (%zu bytes) and %s (%zu) differ", a, n, b, m);
    free(x);
    free(y);
}

static void assert_text(const char *path, const char *text)
{
    char *s = test_read_file(path, NULL);
    assert_string_equal(s, text);
    free(s);
}

static void assert_same_folder(const char *a, const char *b, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) assert_same_file(in(a, names[i]), in(b, names[i]));
    assert_int_equal(n_files(b), n);
}

static void assert_says(pith_ctx *ctx, const char *part)
{
    if (!strstr(pith_error(ctx), part)) fail_msg("\"%s\" is not in: %s", part, pith_error(ctx));
}

static void compress(pith_ctx *ctx, const char *source, const char *target)
{
    pith_lossless_result result;
    assert_ok(ctx, pith_lossless_compress(ctx, source, target, &result));
}

static pith_status restore(pith_ctx *ctx, const char *source, const char *target)
{
    pith_reader r;
    PITH_TRY(pith_reader_open(ctx, source, 0, &r));
    pith_status status = pith_lossless_restore(ctx, &r, target);
    pith_reader_close(ctx, &r);
    return status;
}

static pith_status restore_bytes(pith_ctx *ctx, const uint8_t *bytes, size_t len, const char *target)
{
    pith_reader r;
    PITH_TRY(pith_reader_open_memory(ctx, bytes, len, &r));
    pith_status status = pith_lossless_restore(ctx, &r, target);
    pith_reader_close(ctx, &r);
    return status;
}

static void quiet(void *user, pith_log_level level, const char *line)
{
    (void)level;
    if (user && strstr(line, "it is stored as bytes")) ++*(int *)user;
}

static void collect(void *user, pith_log_level level, const char *line)
{
    (void)level;
    strncat(user, line, 1023 - strlen(user));
}

static pith_ctx *quiet_ctx(int *n_warnings)
{
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 2, .log_level = PITH_LOG_WARN, .log = quiet, .user = n_warnings}, &ctx), PITH_OK);
    return ctx;
}

/* ---- there and back --------------------------------------------------------------------------- */

static void assert_result(const pith_lossless_result *r)
{
    uint64_t source = 0, bytes = 0, coded = 0, floats = 0;
    for (size_t i = 0; i < PITH_COUNT(mixed_names); i++) source += test_file_bytes(in(mixed, mixed_names[i]));
    assert_int_equal(r->n_types, 5); /* F32, F16, BF16, Q4_1, others */
    for (size_t i = 0; i < r->n_types; i++) {
        bytes += r->types[i].bytes;
        coded += r->types[i].coded;
        if (r->types[i].dtype == 1 + PITH_F16) floats = r->types[i].bytes;
        assert_true(i == 0 || r->types[i].bytes <= r->types[i - 1].bytes);
        for (size_t k = 0; k < i; k++) assert_int_not_equal(r->types[i].dtype, r->types[k].dtype);
        if (r->types[i].dtype) assert_true(r->types[i].coded < r->types[i].bytes);
    }
    assert_int_equal(r->source_bytes, source);
    assert_int_equal(bytes, source);
    assert_int_equal(floats, 2 * (33 * 64 + 2 * 5000));
    assert_int_equal(r->n_files, PITH_COUNT(mixed_names));
    assert_int_equal(r->n_tensors, 2 * 11 - 1 + PITH_COUNT(mixed_tensors)); /* one has no bytes; two models of a table, a norm and 9 */
    assert_int_equal(r->file_bytes, test_file_bytes(packed));
    assert_true(coded < r->file_bytes && r->file_bytes < source && r->seconds > 0);
}

/* Of the safetensors: neither of these is seen in what comes back. */
static void assert_stretches(const pith_stored_file *f)
{
    bool has_two = false;
    for (size_t i = 0; i < f->n_stretches; i++) {
        has_two |= f->stretches[i].dtype == 1 + PITH_F32 && pith_stretch_chunks(&f->stretches[i]) > 1;
        if (i) assert_true(f->stretches[i].dtype || f->stretches[i - 1].dtype); /* bytes are packed with those beside them */
    }
    assert_true(has_two); /* or the large tensor is no test of chunks */
}

static void test_all(void **state)
{
    (void)state;
    int n_warnings = 0;
    pith_ctx *ctx = quiet_ctx(&n_warnings);
    pith_lossless_result result;
    pith_reader r;
    fresh(ctx);
    assert_ok(ctx, pith_lossless_compress(ctx, mixed, packed, &result));
    assert_int_equal(n_warnings, 2); /* of what is damaged */
    assert_result(&result);
    assert_int_equal(pith_file_sniff(packed), PITH_FILE_STORED);
    assert_ok(ctx, pith_reader_open(ctx, packed, 0, &r));
    assert_true(pith_is_lossless(&r) && r.manifest.stored.is_folder);
    assert_int_equal(r.manifest.total_bytes, r.file_bytes);
    assert_true(r.n_packets == r.manifest.stored.n_chunks && r.n_packets > result.n_tensors);
    for (size_t i = 0; i < PITH_COUNT(mixed_names); i++) assert_string_equal(r.manifest.stored.files[i].name, mixed_names[i]);
    assert_stretches(&r.manifest.stored.files[PITH_COUNT(mixed_names) - 1]);
    for (int again = 0; again < 2; again++) { /* what is there is replaced */
        assert_ok(ctx, pith_lossless_restore(ctx, &r, back));
        assert_same_folder(mixed, back, mixed_names, PITH_COUNT(mixed_names));
        if (!again) test_write_text(in(back, "README.md"), "other");
    }
    pith_reader_close(ctx, &r);
    pith_ctx_free(ctx);
}

static void test_one_file(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    pith_reader r;
    fresh(ctx);
    for (size_t i = 0; i < PITH_COUNT(mixed_names); i++) {
        const char *slash = strrchr(mixed_names[i], '/');
        compress(ctx, in(mixed, mixed_names[i]), packed);
        assert_ok(ctx, pith_reader_open(ctx, packed, 0, &r));
        assert_false(r.manifest.stored.is_folder);
        assert_int_equal(r.manifest.stored.n_files, 1);
        assert_string_equal(r.manifest.stored.files[0].name, slash ? slash + 1 : mixed_names[i]);
        assert_ok(ctx, pith_lossless_restore(ctx, &r, back));
        assert_same_file(in(mixed, mixed_names[i]), back);
        pith_reader_close(ctx, &r);
    }
    assert_int_equal(n_files(out), 2);
    pith_ctx_free(ctx);
}

/* A folder stays one, however little is in it. */
static void test_one_in_a_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"only", "deep/er/only"};
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(names); i++) {
        char from[128];
        fresh(ctx);
        strcpy(from, in(out, "from"));
        assert_ok(ctx, pith_folder_make(ctx, in(from, "deep/er")));
        test_write_text(in(from, names[i]), "one");
        compress(ctx, from, packed);
        assert_ok(ctx, restore(ctx, packed, back));
        assert_same_folder(from, back, &names[i], 1);
    }
    pith_ctx_free(ctx);
}

/* Longer than any chunk. */
static void test_large_bytes(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    const size_t len = PITH_CHUNK_MAX + 1001;
    char *text = malloc(len);
    for (size_t i = 0; i < len; i++) text[i] = (char)(i >> 9);
    fresh(ctx);
    test_write_file(in(out, "large"), text, len);
    free(text);
    compress(ctx, in(out, "large"), packed);
    assert_true(test_file_bytes(packed) < len / 50);
    assert_ok(ctx, restore(ctx, packed, back));
    assert_same_file(in(out, "large"), back);
    fresh(ctx);
    pith_ctx_free(ctx);
}

static void test_same_bytes(void **state)
{
    (void)state;
    char *was = getenv("PITH_CPU") ? strdup(getenv("PITH_CPU")) : NULL;
    pith_ctx *any = test_ctx(1);
    fresh(any);
    compress(any, small, in(out, "first"));
    compress(any, in(mixed, "weights.safetensors"), in(out, "first-weights"));
    for (pith_isa isa = PITH_ISA_SCALAR; isa <= PITH_ISA_AVX512; isa++) {
        pith_cpu cpu;
        if (pith_cpu_detect(any, pith_isa_name(isa), &cpu) != PITH_OK) continue;
        setenv("PITH_CPU", pith_isa_name(isa), 1);
        for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
            pith_ctx *ctx = test_ctx(n_threads);
            compress(ctx, small, packed);
            assert_same_file(packed, in(out, "first"));
            compress(ctx, in(mixed, "weights.safetensors"), packed);
            assert_same_file(packed, in(out, "first-weights"));
            assert_ok(ctx, restore(ctx, packed, back));
            assert_same_file(in(mixed, "weights.safetensors"), back);
            pith_ctx_free(ctx);
        }
    }
    if (was) setenv("PITH_CPU", was, 1);
    else unsetenv("PITH_CPU");
    free(was);
    pith_ctx_free(any);
}

/* ---- as a model ------------------------------------------------------------------------------- */

static void assert_same_model(const pith_model_file *a, const pith_model_file *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->n_tensors, b->n_tensors);
    assert_int_equal(a->n_meta, b->n_meta);
    assert_int_equal(a->vocab.n_tokens, b->vocab.n_tokens);
    assert_string_equal(a->settings.architecture, b->settings.architecture);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const pith_named_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        assert_string_equal(x->name, y->name);
        assert_true(x->t.dtype == y->t.dtype && x->t.n_dims == y->t.n_dims && x->len_bytes == y->len_bytes);
        assert_memory_equal(x->t.dims, y->t.dims, (size_t)x->t.n_dims * sizeof *x->t.dims);
        if (x->len_bytes) assert_memory_equal(x->t.data, y->t.data, x->len_bytes);
    }
}

static void test_source_open(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    fresh(ctx);
    const char *const sources[] = {model, in(mixed, "weights.safetensors"), net};
    for (size_t i = 0; i < PITH_COUNT(sources); i++) {
        pith_model_file *source, *stored, *plain;
        uint64_t n_bytes;
        compress(ctx, sources[i], packed);
        assert_ok(ctx, pith_model_file_open(ctx, sources[i], &source));
        assert_ok(ctx, pith_source_open(ctx, sources[i], &plain, &n_bytes));
        assert_ok(ctx, pith_source_open(ctx, packed, &stored, &n_bytes));
        assert_int_equal(n_entries(scratch), 0);
        assert_same_model(source, plain);
        assert_same_model(source, stored);
        assert_string_equal(stored->path, packed);
        assert_int_equal(n_bytes, test_file_bytes(packed));
        assert_int_equal(stored->file_bytes, source->file_bytes);
        pith_model_file_close(ctx, source);
        pith_model_file_close(ctx, stored);
        pith_model_file_close(ctx, plain);
    }
    pith_ctx_free(ctx);
}

static void test_source_that_is_none(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    pith_model_file *file = NULL;
    uint64_t n_bytes;
    size_t len;
    fresh(ctx);
    const char *const sources[] = {in(mixed, "a"), in(mixed, "README.md"), in(mixed, "cut.gguf"), in(mixed, "a/empty")};
    for (size_t i = 0; i < PITH_COUNT(sources); i++) {
        compress(ctx, sources[i], packed);
        assert_int_not_equal(pith_source_open(ctx, packed, &file, &n_bytes), PITH_OK);
        assert_true(pith_error(ctx)[0]);
        assert_int_equal(n_entries(scratch), 0);
    }
    compress(ctx, model, packed);
    uint8_t *bytes = test_read_file(packed, &len);
    bytes[len / 2] ^= 1;
    test_write_file(packed, bytes, len);
    assert_int_equal(pith_source_open(ctx, packed, &file, &n_bytes), PITH_E_CORRUPT);
    assert_says(ctx, packed);
    assert_int_equal(n_entries(scratch), 0);
    bytes[len / 2] ^= 1;
    test_write_file(packed, bytes, len);
    free(bytes);
    setenv("TMPDIR", "/nowhere/at/all", 1);
    assert_int_equal(pith_source_open(ctx, packed, &file, &n_bytes), PITH_E_IO);
    assert_says(ctx, "/nowhere/at/all");
    setenv("TMPDIR", scratch, 1);
    assert_null(file);
    pith_ctx_free(ctx);
}

static float *logits_of(pith_ctx *ctx, const char *path, size_t *n)
{
    static const int32_t ids[] = {1, 40, 250, 7, 7, 99, 180, 3};
    pith_weights *w;
    pith_llama *llama;
    pith_cache *cache;
    assert_ok(ctx, pith_weights_open(ctx, path, NULL, &w));
    assert_ok(ctx, pith_llama_new(ctx, w, &llama));
    pith_weights_free(ctx, w);
    assert_ok(ctx, pith_llama_cache(ctx, llama, PITH_CACHE_F32, PITH_COUNT(ids), &cache));
    *n = PITH_COUNT(ids) * llama->s.n_vocab;
    float *logits = malloc(*n * sizeof *logits);
    assert_ok(ctx, pith_llama_forward(ctx, llama, cache, ids, PITH_COUNT(ids), PITH_COUNT(ids), logits));
    pith_cache_free(ctx, cache);
    pith_llama_free(ctx, llama);
    return logits;
}

static void test_runs(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    fresh(ctx);
    const char *const sources[] = {model, in(mixed, "q4.gguf")};
    for (size_t i = 0; i < PITH_COUNT(sources); i++) {
        size_t n, m;
        compress(ctx, sources[i], packed);
        float *x = logits_of(ctx, sources[i], &n), *y = logits_of(ctx, packed, &m);
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n * sizeof *x);
        free(x);
        free(y);
    }
    pith_ctx_free(ctx);
}

/* Standard input is the file, or a pipe that it comes from. */
static void assert_not_from_stdin(pith_ctx *ctx, bool pipe_it)
{
    int was = dup(STDIN_FILENO), ends[2] = {open(packed, O_RDONLY), -1};
    size_t len;
    if (pipe_it) {
        char *bytes = test_read_file(packed, &len);
        close(ends[0]);
        assert_int_equal(pipe(ends), 0);
        assert_true(len < 60000); /* what a pipe holds */
        assert_int_equal(write(ends[1], bytes, len), len);
        close(ends[1]);
        free(bytes);
    }
    dup2(ends[0], STDIN_FILENO);
    pith_weights *w = NULL;
    assert_int_equal(pith_weights_open(ctx, "-", NULL, &w), PITH_E_UNSUPPORTED);
    assert_says(ctx, "standard input: holds files to the bit");
    assert_null(w);
    dup2(was, STDIN_FILENO);
    close(was);
    close(ends[0]);
}

static void test_no_pipe(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    fresh(ctx);
    compress(ctx, in(small, "m.gguf"), packed);
    assert_not_from_stdin(ctx, false);
    assert_not_from_stdin(ctx, true);
    pith_ctx_free(ctx);
}

static void test_no_cut(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint64_t bytes = 7;
    fresh(ctx);
    compress(ctx, model, packed);
    const pith_compress_options sizes[] = {{.size = 100}, {.size = 1 << 30}, {.bits = 4}, {.kl = 0.1}};
    for (size_t i = 0; i < PITH_COUNT(sizes); i++) {
        assert_int_equal(pith_cut(ctx, packed, back, &sizes[i], &bytes), PITH_E_ARGUMENT);
        assert_says(ctx, packed);
        assert_says(ctx, "nothing to leave out");
    }
    assert_int_equal(bytes, 7);
    assert_int_equal(n_files(out), 1);
    pith_ctx_free(ctx);
}

/* ---- damage ----------------------------------------------------------------------------------- */

static uint8_t *packed_small(pith_ctx *ctx, size_t *len)
{
    fresh(ctx);
    compress(ctx, small, packed);
    return test_read_file(packed, len);
}

/* Older files stay, but for those that were whole before the damage came; no other name appears. */
static void assert_nothing_half(const char *damaged)
{
    bool after = false;
    for (size_t i = 0; i < PITH_COUNT(small_names); i++) {
        after |= strcmp(small_names[i], damaged) == 0;
        if (after) assert_text(in(back, small_names[i]), "old");
        else assert_same_file(in(small, small_names[i]), in(back, small_names[i]));
    }
    assert_true(after);
    assert_int_equal(n_files(back), PITH_COUNT(small_names));
}

static void put_old_files(pith_ctx *ctx)
{
    assert_ok(ctx, pith_folder_make(ctx, in(back, "a")));
    for (size_t i = 0; i < PITH_COUNT(small_names); i++) test_write_text(in(back, small_names[i]), "old");
}

static void test_damaged_packets(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    pith_reader r;
    size_t len;
    uint8_t *bytes = packed_small(ctx, &len);
    assert_ok(ctx, pith_reader_open(ctx, packed, 0, &r));
    for (size_t i = 0; i < r.n_packets; i++) {
        const pith_packet *p = &r.packets[i];
        const pith_stored_file *f;
        const pith_stretch *t;
        uint64_t at;
        pith_stored_chunk(&r.manifest.stored, p->unit, &f, &t, &at);
        uint8_t *place = bytes + p->offset + (i % 3 == 0 ? 0 : i % 3 == 1 ? p->len / 2 : p->len - 1);
        put_old_files(ctx);
        *place ^= 0x10;
        assert_int_equal(restore_bytes(ctx, bytes, len, back), PITH_E_CORRUPT);
        *place ^= 0x10;
        assert_says(ctx, "memory: damaged at byte");
        assert_says(ctx, f->name);
        assert_nothing_half(f->name);
    }
    for (size_t i = 0; i < PITH_PACKET_HEADER; i++) {
        bytes[r.packets[r.n_packets / 2].offset - PITH_PACKET_HEADER + i] ^= 1;
        assert_int_equal(restore_bytes(ctx, bytes, len, back), PITH_E_CORRUPT);
        assert_says(ctx, "memory");
        bytes[r.packets[r.n_packets / 2].offset - PITH_PACKET_HEADER + i] ^= 1;
    }
    assert_ok(ctx, restore_bytes(ctx, bytes, len, back));
    assert_same_folder(small, back, small_names, PITH_COUNT(small_names));
    pith_reader_close(ctx, &r);
    free(bytes);
    pith_ctx_free(ctx);
}

static void test_damaged_file(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    size_t len;
    fresh(ctx);
    compress(ctx, model, packed);
    uint8_t *bytes = test_read_file(packed, &len);
    bytes[len - 1] ^= 1;
    for (int there = 0; there < 2; there++) {
        assert_int_equal(restore_bytes(ctx, bytes, len, back), PITH_E_CORRUPT);
        assert_says(ctx, "model.gguf");
        assert_int_equal(n_files(out), 1 + there);
        if (there) assert_text(back, "old");
        test_write_text(back, "old");
    }
    free(bytes);
    pith_ctx_free(ctx);
}

static void test_damaged_manifest(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    pith_reader r;
    size_t len, n_harmless = 0;
    uint8_t *bytes = packed_small(ctx, &len);
    assert_ok(ctx, pith_reader_open(ctx, packed, 0, &r));
    const size_t end = (size_t)r.manifest.manifest_bytes;
    pith_reader_close(ctx, &r);
    for (size_t i = 0; i < end; i++) {
        bytes[i] ^= 1;
        if (pith_reader_open_memory(ctx, bytes, len, &r) == PITH_OK) {
            pith_reader_close(ctx, &r);
            n_harmless++;
        }
        bytes[i] ^= 1;
    }
    assert_in_range(n_harmless, 0, 14); /* what fills up two sections */
    free(bytes);
    pith_ctx_free(ctx);
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    size_t len;
    uint8_t *bytes = packed_small(ctx, &len);
    for (size_t n = 0; n < len; n++) {
        char there[64];
        pith_status status = restore_bytes(ctx, bytes, n, back);
        assert_true(status == PITH_E_FORMAT || status == PITH_E_CORRUPT);
        snprintf(there, sizeof there, status == PITH_E_CORRUPT ? "%zu of %zu bytes are there" : n < PITH_FILE_HEADER ? "only %zu bytes" : "%zu bytes are there", n, len);
        if (n) assert_says(ctx, there);
    }
    assert_int_equal(n_files(out), 1);
    assert_ok(ctx, restore_bytes(ctx, bytes, len, back));
    free(bytes);
    pith_ctx_free(ctx);
}

/* ---- lies ------------------------------------------------------------------------------------- */

/* The bytes of the next section with its header, and where it ends. */
static size_t section_bytes(const uint8_t *bytes, size_t at) { return PITH_ROUND_UP(SECTION + (size_t)pith_le64(bytes + at + 16), 8); }

/* A .pith of a model in which there is nothing. */
static uint8_t *bare_model(pith_ctx *ctx, size_t *len)
{
    uint8_t models = 0;
    pith_manifest m = {.settings = tiny_model_default().settings, .models = {&models, 1}};
    pith_out *o;
    pith_arena *arena = pith_arena_new(ctx);
    assert_ok(ctx, tiny_vocab(arena, PITH_VOCAB_BPE, &m.vocab));
    m.settings.n_vocab = (uint32_t)m.vocab.n_tokens;
    assert_ok(ctx, pith_out_open(ctx, back, &o));
    assert_ok(ctx, pith_manifest_write(ctx, o, &m));
    m.total_bytes = m.floor_bytes = pith_out_tell(o);
    assert_ok(ctx, pith_manifest_patch(ctx, o, &m));
    assert_ok(ctx, pith_out_close(o));
    pith_arena_free(arena);
    return test_read_file(back, len);
}

static void assert_open(pith_ctx *ctx, const uint8_t *bytes, size_t len, const char *wrong)
{
    pith_reader r;
    pith_status status = pith_reader_open_memory(ctx, bytes, len, &r), refused = pith_le64(bytes + 48) > 2 ? PITH_E_UNSUPPORTED : PITH_E_CORRUPT;
    if (status == PITH_OK) pith_reader_close(ctx, &r);
    if (wrong && status != refused) fail_msg("%s: %s", wrong, pith_status_text(status));
    if (!wrong) assert_ok(ctx, status);
}

static void put_kind(uint8_t *bytes, uint64_t kind)
{
    pith_put64(bytes + 48, kind);
    pith_put64(bytes + 56, pith_hash(bytes, 56));
}

static void test_header_kind(void **state)
{
    (void)state;
    enum { MODEL, ONE_FILE, FOLDER, UNKNOWN };
    pith_ctx *ctx = quiet_ctx(NULL);
    size_t len, bare_len, one_len;
    uint8_t *bytes = packed_small(ctx, &len), *bare = bare_model(ctx, &bare_len);
    compress(ctx, in(small, "z.bin"), packed);
    uint8_t *one = test_read_file(packed, &one_len);

    /* all sections of a model, and the files of the other behind them */
    const size_t files = PITH_FILE_HEADER + section_bytes(bytes, PITH_FILE_HEADER), files_len = section_bytes(bytes, files);
    uint8_t *both = malloc(bare_len + files_len);
    memcpy(both, bare, bare_len);
    memcpy(both + bare_len, bytes + files, files_len);
    pith_put32(both + 12, pith_le32(bare + 12) + 1);
    pith_put64(both + 16, bare_len + files_len);

    const struct {
        uint8_t *bytes;
        size_t len;
        uint64_t kind;
        const char *wrong;
    } cases[] = {
        {bare, bare_len, MODEL, NULL}, {one, one_len, ONE_FILE, NULL}, {one, one_len, FOLDER, NULL}, {bytes, len, FOLDER, NULL},
        {bytes, len, MODEL, "files that are said to be a model"}, {bytes, len, ONE_FILE, "files that are said to be one"}, {bytes, len, UNKNOWN, "an unknown kind"},
        {bytes, len, 1ull << 32 | FOLDER, "an unknown kind of more than 32 bits"}, {bare, bare_len, ONE_FILE, "a model that is said to be a file"},
        {bare, bare_len, FOLDER, "a model that is said to be files"}, {both, bare_len + files_len, MODEL, "a model, and files too"}, {both, bare_len + files_len, FOLDER, "files, and a model too"},
    };
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        put_kind(cases[i].bytes, cases[i].kind);
        assert_open(ctx, cases[i].bytes, cases[i].len, cases[i].wrong);
    }
    free(both);
    free(bare);
    free(bytes);
    free(one);
    pith_ctx_free(ctx);
}

typedef struct packet {
    uint32_t unit;
    size_t len;
    const char *payload;
} packet;

/* A .pith of two chunks of three bytes, "abc" and "def", in one file. */
static void write_two(pith_ctx *ctx, uint32_t dtype, const char *name, const packet *packets, size_t n)
{
    pith_stretch stretch = {.len = 6, .dtype = dtype, .chunk = 3};
    pith_stored_file file = {.name = name, .n_stretches = 1, .stretches = &stretch};
    pith_manifest m = {.stored = {.n_files = 1, .n_chunks = 2, .files = &file}};
    pith_out *o;
    assert_ok(ctx, pith_out_open(ctx, packed, &o));
    assert_ok(ctx, pith_manifest_write(ctx, o, &m));
    for (size_t i = 0; i < n; i++) { /* between kind and bytes comes the hash of what they should become */
        uint8_t payload[128];
        size_t rest = packets[i].len ? packets[i].len - 1 : 0;
        payload[0] = (uint8_t)packets[i].payload[0];
        pith_put64(payload + 1, pith_hash(packets[i].unit ? "def" : "abc", 3));
        memcpy(payload + 9, packets[i].payload + 1, rest);
        assert_ok(ctx, pith_packet_write(o, &(pith_packet){.unit = packets[i].unit, .len = packets[i].len ? (uint32_t)(9 + rest) : 0, .kind = PITH_PACKET_CHUNK}, payload));
    }
    m.total_bytes = pith_out_tell(o);
    assert_ok(ctx, pith_manifest_patch(ctx, o, &m));
    assert_ok(ctx, pith_out_close(o));
}

static void test_payloads(void **state)
{
    (void)state;
    char zstd[3][64] = {{1}, {1}, {1}};
    size_t len[3];
    for (size_t i = 0; i < 3; i++) len[i] = 1 + ZSTD_compress(zstd[i] + 1, sizeof zstd[i] - 1, "defg", 2 + i, 3); /* a byte less, as many, a byte more */
    const packet first = {0, 4, "\0abc"}, second = {1, 4, "\0def"};
    const struct {
        const char *what;
        packet packets[3];
        bool right;
        uint32_t dtype;
    } cases[] = {
        {"as they are", {first, second}, true, 0}, {"zstd", {first, {1, len[1], zstd[1]}}, true, 0}, {"a packet more", {first, second, second}, true, 0},
        {"empty", {first, {1, 0, ""}}, false, 0}, {"a kind and nothing", {first, {1, 1, "\0"}}, false, 0}, {"a byte less", {first, {1, 3, "\0de"}}, false, 0},
        {"another byte", {first, {1, 4, "\0dex"}}, false, 0},
        {"a byte more", {first, {1, 5, "\0defg"}}, false, 0}, {"an unknown kind", {first, {1, 4, "\3def"}}, false, 0}, {"values of bytes", {first, {1, 4, "\2def"}}, false, 0},
        {"values of integers", {first, {1, 4, "\2def"}}, false, 1 + PITH_I8}, {"no zstd", {first, {1, 4, "\1def"}}, false, 0}, {"zstd, a byte less", {first, {1, len[0], zstd[0]}}, false, 0},
        {"zstd, a byte more", {first, {1, len[2], zstd[2]}}, false, 0}, {"zstd, cut", {first, {1, len[1] - 1, zstd[1]}}, false, 0},
        {"one is missing", {first}, false, 0}, {"the first is missing", {second}, false, 0}, {"in another order", {second, first}, false, 0}, {"one twice", {first, first, second}, false, 0},
    };
    pith_ctx *ctx = quiet_ctx(NULL);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        size_t n = 0;
        while (n < 3 && cases[i].packets[n].payload) n++;
        fresh(ctx);
        write_two(ctx, cases[i].dtype, "six", cases[i].packets, n);
        pith_status status = restore(ctx, packed, back);
        if (status != (cases[i].right ? PITH_OK : PITH_E_CORRUPT)) fail_msg("%s: %s: %s", cases[i].what, pith_status_text(status), pith_error(ctx));
        assert_int_equal(n_files(out), cases[i].right ? 2 : 1);
        if (cases[i].right) assert_text(back, "abcdef");
    }
    write_two(ctx, 0, "a/six", (const packet[]){first, second}, 2);
    assert_int_equal(restore(ctx, packed, in(out, "not-made")), PITH_E_CORRUPT); /* one file is in no folder */
    pith_ctx_free(ctx);
}

/* ---- what cannot be done ---------------------------------------------------------------------- */

static void test_no_source(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_lossless_result result;
    fresh(ctx);
    assert_ok(ctx, pith_folder_make(ctx, in(out, "in/empty")));
    assert_ok(ctx, pith_folder_make(ctx, in(out, "loop/a")));
    assert_ok(ctx, pith_folder_make(ctx, in(out, "dangling")));
    assert_int_equal(symlink("..", in(out, "loop/a/up")), 0);
    assert_int_equal(symlink("nothing", in(out, "dangling/link")), 0);
    const struct {
        const char *source, *part;
        pith_status status;
    } cases[] = {{"/nowhere/at/all", "/nowhere/at/all", PITH_E_IO}, {in(out, "in"), "no file in it", PITH_E_IO}, {in(out, "loop"), "folders deep", PITH_E_LIMIT}, {in(out, "dangling"), "dangling/link", PITH_E_IO}};
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        assert_int_equal(pith_lossless_compress(ctx, cases[i].source, packed, &result), cases[i].status);
        assert_says(ctx, cases[i].part);
    }
    assert_int_equal(n_files(out), 2); /* the links */
    pith_ctx_free(ctx);
}

/* As someone who may not write in the folder. */
static pith_status without_permission(pith_ctx *ctx, const char *source, const char *target)
{
    pith_lossless_result result;
    const bool root = geteuid() == 0; /* to whom permissions do not apply */
    assert_int_equal(chmod(out, 0555), 0);
    assert_int_equal(chmod(test_folder, 0755), 0);
    if (root) assert_int_equal(seteuid(65534), 0);
    pith_status status = source ? pith_lossless_compress(ctx, source, target, &result) : restore(ctx, packed, target);
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(out, 0755), 0);
    return status;
}

static void test_no_target(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_lossless_result result;
    fresh(ctx);
    test_write_text(in(out, "file"), "old");
    assert_int_equal(pith_lossless_compress(ctx, small, "/nowhere/at/all/x.pith", &result), PITH_E_IO);
    assert_says(ctx, "/nowhere/at/all/x.pith");
    assert_int_equal(pith_lossless_compress(ctx, small, out, &result), PITH_E_IO);
    assert_int_equal(pith_lossless_compress(ctx, model, model, &result), PITH_E_ARGUMENT);
    assert_int_equal(pith_lossless_compress(ctx, small, in(out, "file/x.pith"), &result), PITH_E_IO);
    assert_int_equal(without_permission(ctx, small, packed), PITH_E_IO);
    assert_int_equal(without_permission(ctx, small, in(out, "new/x.pith")), PITH_E_IO);
    assert_int_equal(n_files(out), 1);
    compress(ctx, small, packed);
    assert_int_equal(restore(ctx, packed, in(out, "file")), PITH_E_IO); /* files in a file */
    assert_says(ctx, "file");
    assert_int_equal(without_permission(ctx, NULL, back), PITH_E_IO);
    compress(ctx, in(small, "z.bin"), packed);
    assert_int_equal(restore(ctx, packed, out), PITH_E_IO);
    assert_int_equal(without_permission(ctx, NULL, back), PITH_E_IO);
    assert_text(in(out, "file"), "old");
    assert_int_equal(n_entries(out), 2);
    pith_ctx_free(ctx);
}

static void test_full_disk(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_lossless_result result;
    struct rlimit old;
    fresh(ctx);
    compress(ctx, model, packed);
    test_write_text(in(out, "older.pith"), "old");
    test_write_text(back, "old");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){30000, old.rlim_max}), 0);
    pith_status packing = pith_lossless_compress(ctx, model, in(out, "older.pith"), &result), unpacking = restore(ctx, packed, back);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(packing, PITH_E_IO);
    assert_int_equal(unpacking, PITH_E_IO);
    assert_text(in(out, "older.pith"), "old");
    assert_text(back, "old");
    assert_int_equal(n_files(out), 3);
    pith_ctx_free(ctx);
}

static bool stop(void *user)
{
    (void)user;
    return true;
}

/* What is not kept is told. */
static void test_left_out(void **state)
{
    (void)state;
    char said[1024] = "", from[128];
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 1, .log_level = PITH_LOG_WARN, .log = collect, .user = said}, &ctx), PITH_OK);
    fresh(ctx);
    strcpy(from, in(out, "from"));
    assert_ok(ctx, pith_folder_make(ctx, in(from, "void")));
    test_write_text(in(from, "file"), "x");
    assert_int_equal(mkfifo(in(from, "pipe"), 0600), 0);
    compress(ctx, from, packed);
    assert_non_null(strstr(said, "void: an empty folder is not kept"));
    assert_non_null(strstr(said, "pipe: neither a file nor a folder"));
    assert_ok(ctx, restore(ctx, packed, back));
    assert_same_file(in(from, "file"), in(back, "file"));
    assert_int_equal(n_entries(back), 1);
    pith_ctx_free(ctx);
}

static void test_wrong_sources(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(NULL);
    pith_lossless_result result;
    fresh(ctx);
    assert_ok(ctx, pith_folder_make(ctx, in(out, "from")));
    test_write_text(in(out, "from/a\x1b[31m"), "x");
    assert_int_equal(pith_lossless_compress(ctx, in(out, "from"), packed, &result), PITH_E_ARGUMENT);
    assert_says(ctx, "rename it");
    assert_int_equal(mkfifo(in(out, "pipe"), 0600), 0);
    assert_int_equal(pith_lossless_compress(ctx, in(out, "pipe"), packed, &result), PITH_E_IO);
    assert_says(ctx, "neither a file nor a folder");
    pith_ctx_free(ctx);
}

static void test_cancelled(void **state)
{
    (void)state;
    pith_ctx *ctx, *other = test_ctx(1);
    pith_lossless_result result;
    pith_model_file *file;
    uint64_t n_bytes;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = 1, .cancelled = stop}, &ctx), PITH_OK);
    fresh(other);
    assert_int_equal(pith_lossless_compress(ctx, model, packed, &result), PITH_E_CANCELLED);
    assert_int_equal(n_files(out), 0);
    compress(other, model, packed);
    assert_int_equal(restore(ctx, packed, back), PITH_E_CANCELLED);
    assert_int_equal(pith_source_open(ctx, packed, &file, &n_bytes), PITH_E_CANCELLED);
    assert_int_equal(n_files(out), 1);
    assert_int_equal(n_entries(scratch), 0);
    pith_ctx_free(ctx);
    pith_ctx_free(other);
}

/* ---- no memory -------------------------------------------------------------------------------- */

static pith_status there(pith_ctx *ctx, const void *user)
{
    pith_lossless_result result;
    pith_status status = pith_lossless_compress(ctx, user, in(out, "life.pith"), &result);
    assert_int_equal(n_files(out), status == PITH_OK ? 2 : 1);
    unlink(in(out, "life.pith"));
    return status;
}

static pith_status and_back(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_status status = restore(ctx, packed, back);
    assert_int_equal(n_files(out), status == PITH_OK ? 2 : 1);
    unlink(back);
    return status;
}

static pith_status and_open(pith_ctx *ctx, const void *user)
{
    pith_model_file *file;
    uint64_t n_bytes;
    pith_status status = pith_source_open(ctx, user, &file, &n_bytes);
    if (status == PITH_OK) pith_model_file_close(ctx, file);
    assert_int_equal(n_entries(scratch), 0);
    return status;
}

/* Several files: those that were whole by then may be there. */
static pith_status and_all_back(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_status status = restore(ctx, packed, back);
    for (size_t i = 0; i < PITH_COUNT(small_names); i++)
        if (access(in(back, small_names[i]), F_OK) == 0) assert_same_file(in(small, small_names[i]), in(back, small_names[i]));
        else assert_int_equal(status, PITH_E_MEMORY);
    assert_true(n_files(out) <= 1 + (int)PITH_COUNT(small_names));
    pith_ctx *other = test_ctx(1);
    assert_ok(other, pith_folder_remove(other, back));
    pith_ctx_free(other);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    char tensors[128];
    strcpy(tensors, in(small, "t.safetensors"));
    fresh(ctx);
    compress(ctx, tensors, packed);
    assert_in_range(test_every_fault(there, tensors), 20, 1000);
    assert_in_range(test_every_fault_with(there, small, &(test_fault_options){.name = "folder", .sparse = 20}), 20, 2000);
    assert_in_range(test_every_fault_with(there, small, &(test_fault_options){.name = "two threads", .n_threads = 2, .sparse = 10}), 20, 2000);
    assert_in_range(test_every_fault(and_back, NULL), 20, 1000);
    assert_in_range(test_every_fault(and_open, packed), 20, 1000);
    compress(ctx, small, packed);
    assert_in_range(test_every_fault_with(and_all_back, NULL, &(test_fault_options){.name = "back", .sparse = 20}), 20, 2000);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all), cmocka_unit_test(test_one_file), cmocka_unit_test(test_one_in_a_folder), cmocka_unit_test(test_large_bytes), cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_source_open),
        cmocka_unit_test(test_source_that_is_none), cmocka_unit_test(test_runs), cmocka_unit_test(test_no_pipe), cmocka_unit_test(test_no_cut), cmocka_unit_test(test_damaged_packets),
        cmocka_unit_test(test_damaged_file), cmocka_unit_test(test_damaged_manifest), cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_header_kind), cmocka_unit_test(test_payloads),
        cmocka_unit_test(test_no_source), cmocka_unit_test(test_no_target), cmocka_unit_test(test_full_disk), cmocka_unit_test(test_left_out), cmocka_unit_test(test_wrong_sources), cmocka_unit_test(test_cancelled), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_sources, test_drop_folder);
}
