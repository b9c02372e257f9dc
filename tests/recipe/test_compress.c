/* Compressing a small random llama: cuts run and get better with size, bytes do not depend on threads, damage
 * costs quality only, and nothing leaks when memory runs out. */
#include <stdio.h>
#include <unistd.h>

#include "eval/eval.h"
#include "files.h"
#include "recipe/compress.h"
#include "tiny_model.h"

static char folder[] = "/tmp/pith-compress-XXXXXX", model_path[80], pith_path[80], other_path[80];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(model_path, sizeof model_path, "%s/m.gguf", folder);
    snprintf(pith_path, sizeof pith_path, "%s/m.pith", folder);
    snprintf(other_path, sizeof other_path, "%s/o.pith", folder);
    pith_ctx *ctx = test_ctx(2);
    tiny_model tiny = tiny_model_default();
    tiny.settings.n_ctx = 64;
    assert_ok(ctx, tiny_model_write(ctx, &tiny, model_path));
    pith_compress_result r;
    assert_ok(ctx, pith_compress(ctx, model_path, pith_path, NULL, &r));
    assert_true(r.n_measured >= 3 && r.floor_bytes < r.total_bytes && r.file_bytes == r.total_bytes);
    assert_true(r.measured[r.n_measured - 1].kl < r.measured[0].kl);
    pith_ctx_free(ctx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(model_path);
    unlink(pith_path);
    unlink(other_path);
    return rmdir(folder);
}

/* KL of a .pith to the model it was made of, on a fixed row of tokens; < 0: it does not load. */
static double kl_of(const char *path, bool strict, uint64_t max_bytes)
{
    pith_ctx *ctx = test_ctx(2);
    pith_weights *w = NULL;
    pith_llama *source = NULL, *model = NULL;
    pith_weights_options o = {.strict = strict, .max_bytes = max_bytes};
    int32_t ids[128];
    for (int i = 0; i < 128; i++) ids[i] = 7 * i % 250;
    assert_ok(ctx, pith_weights_open(ctx, model_path, NULL, &w));
    assert_ok(ctx, pith_llama_new(ctx, w, &source));
    pith_weights_free(ctx, w);
    double kl = -1;
    if (pith_weights_open(ctx, path, &o, &w) == PITH_OK) {
        pith_eval_options eo = {.context = 64, .all_tokens = true};
        pith_eval_result r;
        assert_ok(ctx, pith_llama_new(ctx, w, &model));
        pith_weights_free(ctx, w);
        assert_ok(ctx, pith_eval_text(ctx, model, source, ids, 128, -1, &eo, &r));
        kl = r.kl_mean;
        pith_llama_free(ctx, model);
    }
    pith_llama_free(ctx, source);
    assert_int_equal(pith_memory_used(ctx) < 1 << 22, 1);
    pith_ctx_free(ctx);
    return kl;
}

static void cuts_get_better_with_size(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t len = test_file_bytes(pith_path);
    double before = 1e9;
    for (int part = 5; part <= 8; part++) {
        uint64_t bytes, size = len * (size_t)part / 8;
        pith_compress_options o = {.size = size};
        assert_ok(ctx, pith_cut(ctx, pith_path, other_path, &o, &bytes));
        assert_true(bytes <= size);
        double kl = kl_of(other_path, true, 0), prefix = kl_of(pith_path, false, size);
        assert_true(kl >= 0 && kl < before);
        assert_true(kl == prefix); /* a cut is a prefix and nothing else */
        before = kl;
    }
    assert_true(before < 0.01); /* all layers: close to the source */
    pith_compress_options o = {.size = 100};
    uint64_t bytes = 7;
    assert_int_equal(pith_cut(ctx, pith_path, other_path, &o, &bytes), PITH_E_SPACE);
    assert_non_null(strstr(pith_error(ctx), "smallest cut"));
    assert_int_equal(bytes, 7);
    pith_ctx_free(ctx);
}

/* Some matrices and a norm of the .pith are those of the source, to the bit. */
static void same_weights(const char *source, const char *packed, uint64_t exact, const char *cpu)
{
    static const char *const names[] = {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_v.weight", "blk.1.attn_output.weight", "blk.0.ffn_up.weight", "blk.1.ffn_down.weight"};
    if (cpu) setenv("PITH_CPU", cpu, 1);
    pith_ctx *ctx = test_ctx(2);
    pith_weights *from, *to;
    pith_operator *a, *b;
    float x[512], y[512];
    assert_ok(ctx, pith_weights_open(ctx, source, NULL, &from));
    assert_ok(ctx, pith_weights_open(ctx, packed, &(pith_weights_options){.strict = true, .max_bytes = exact}, &to));
    for (size_t i = 0; i < PITH_COUNT(names); i++) {
        assert_ok(ctx, from->matrix(ctx, from, names[i], &a));
        assert_ok(ctx, to->matrix(ctx, to, names[i], &b));
        for (size_t k = 0; k < a->n_rows; k++) {
            a->kind->row(a, pith_kernels_get(ctx), k, x);
            b->kind->row(b, pith_kernels_get(ctx), k, y);
            assert_memory_equal(x, y, a->n_cols * sizeof *x);
        }
        pith_operator_free(ctx, a);
        pith_operator_free(ctx, b);
    }
    assert_false(to->has(to, "blk.0.attn_output.scale"));
    assert_ok(ctx, from->vector(ctx, from, "blk.1.ffn_norm.weight", x, 256));
    assert_ok(ctx, to->vector(ctx, to, "blk.1.ffn_norm.weight", y, 256));
    assert_memory_equal(x, y, 256 * sizeof *x);
    pith_weights_free(ctx, from);
    pith_weights_free(ctx, to);
    pith_ctx_free(ctx);
    if (cpu) unsetenv("PITH_CPU");
}

/* Matrices of a cut are the same bits whatever the instruction set. */
static void same_on_all_processors(const char *packed, uint64_t bytes)
{
    static const char *const cpus[] = {"scalar", "avx2", "avx512"};
    float *rows[PITH_COUNT(cpus)];
    const size_t n_rows = 256, n_cols = 512;
    for (size_t c = 0; c < PITH_COUNT(cpus); c++) {
        static const char *const names[] = {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_output.weight", "blk.0.ffn_up.weight", "blk.1.ffn_down.weight"};
        setenv("PITH_CPU", cpus[c], 1); /* what this processor has not is passed over */
        pith_ctx *ctx = test_ctx(2);
        pith_weights *w;
        assert_ok(ctx, pith_weights_open(ctx, packed, &(pith_weights_options){.strict = true, .max_bytes = bytes}, &w));
        assert_true(w->has(w, "blk.0.attn_output.scale")); /* in the codec's basis */
        rows[c] = calloc(PITH_COUNT(names) * n_rows * n_cols, sizeof(float));
        for (size_t i = 0; i < PITH_COUNT(names); i++) {
            pith_operator *op;
            assert_ok(ctx, w->matrix(ctx, w, names[i], &op));
            for (size_t k = 0; k < PITH_MIN(n_rows, op->n_rows); k++) op->kind->row(op, pith_kernels_get(ctx), k, rows[c] + (i * n_rows + k) * n_cols);
            pith_operator_free(ctx, op);
        }
        pith_weights_free(ctx, w);
        pith_ctx_free(ctx);
        if (c) assert_memory_equal(rows[c], rows[0], PITH_COUNT(names) * n_rows * n_cols * sizeof(float));
    }
    unsetenv("PITH_CPU");
    for (size_t c = 0; c < PITH_COUNT(cpus); c++) free(rows[c]);
}

static char said[32];
static void hear_damage(void *user, pith_log_level level, const char *line)
{
    (void)user;
    (void)level;
    const char *at = strstr(line, " packets are damaged");
    while (at && at > line && at[-1] != ' ') at--;
    if (at) snprintf(said, sizeof said, "%.*s", (int)(strcspn(at, ";")), at);
}

/* What loading says of damage. */
static const char *damage_in(const char *path)
{
    pith_options o = {.n_threads = 2, .log_level = PITH_LOG_WARN, .log = hear_damage};
    pith_ctx *ctx;
    pith_weights *w;
    said[0] = 0;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    assert_ok(ctx, pith_weights_open(ctx, path, NULL, &w));
    pith_weights_free(ctx, w);
    pith_ctx_free(ctx);
    return said;
}

/* A source of 4-bit blocks: the whole file has its very numbers, and every size before that works. */
static void a_quantised_source_becomes_exact(void **state)
{
    (void)state;
    static const pith_dtype types[] = {PITH_Q4_1, PITH_Q8_0};
    for (size_t t = 0; t < PITH_COUNT(types); t++) {
        pith_ctx *ctx = test_ctx(2);
        char source[80], packed[80];
        snprintf(source, sizeof source, "%s/q.gguf", folder);
        snprintf(packed, sizeof packed, "%s/q.pith", folder);
        tiny_model tiny = tiny_model_default();
        tiny.settings.n_embd = 256;
        tiny.settings.head_dim = tiny.settings.rope_dims = 64;
        tiny.settings.n_ff = 512;
        tiny.settings.n_ctx = 64;
        tiny.dtype = types[t];
        tiny.zero_gain = true; /* predictions that are not finite */
        assert_ok(ctx, tiny_model_write(ctx, &tiny, source));
        pith_compress_options o = {.no_measure = true, .exact = PITH_EXACT_ALWAYS};
        pith_compress_result r;
        assert_ok(ctx, pith_compress(ctx, source, packed, &o, &r));
        assert_int_equal(r.exact_bytes, r.total_bytes);
        pith_reader reader;
        assert_ok(ctx, pith_reader_open(ctx, packed, 0, &reader));
        uint64_t exact = reader.manifest.exact_bytes, manifest = reader.manifest.manifest_bytes;
        assert_true(exact > r.floor_bytes && exact <= r.total_bytes);
        pith_reader_close(ctx, &reader);

        same_weights(source, packed, exact, "scalar"); /* predictions must not depend on the processor */
        same_weights(source, packed, exact, NULL);

        /* parts of the exact layer, and damage in it: quality between that of the layers and the whole */
        char plain[sizeof model_path];
        memcpy(plain, model_path, sizeof plain);
        snprintf(model_path, sizeof model_path, "%s", source);
        double whole = kl_of(packed, true, exact), before = 1e9;
        for (int part = 6; part <= 10; part++) {
            double kl = kl_of(packed, true, manifest + (exact - manifest) * (uint64_t)part / 10);
            assert_true(kl >= 0 && kl < before * 1.1 + 1e-3);
            before = kl;
        }
        same_on_all_processors(packed, manifest + (exact - manifest) * 9 / 10); /* exact values turned into the codec's basis */
        size_t len;
        uint8_t *data = test_read_file(packed, &len);
        data[manifest + PITH_PACKET_HEADER] ^= 0x10; /* a first layer: what was exact given it falls back */
        test_write_file(other_path, data, len);
        data[manifest + PITH_PACKET_HEADER] ^= 0x10;
        double hurt = kl_of(other_path, false, 0);
        assert_true(hurt > whole && hurt < 20);
        assert_string_equal(damage_in(other_path), "1 packets are damaged");
        for (size_t at = len - 30; at > len - len / 3; at -= len / 16) {
            data[at] ^= 0x10;
            test_write_file(other_path, data, len);
            data[at] ^= 0x10;
            double kl = kl_of(other_path, false, 0);
            assert_true(kl >= 0 && kl < whole + 0.1);
            assert_true(kl_of(other_path, true, 0) < 0);
        }
        free(data);
        memcpy(model_path, plain, sizeof plain);
        unlink(source);
        unlink(packed);
        pith_ctx_free(ctx);
    }
}

static void studies_are_what_they_say(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_compress_options o = {.no_measure = true};
    pith_compress_result usual, r;
    pith_reader reader;
    assert_ok(ctx, pith_compress(ctx, model_path, other_path, &o, &usual));
    double whole = kl_of(other_path, true, 0);
    /* rotated, it is the same function: as good, but of other numbers */
    assert_ok(ctx, pith_compress_study(ctx, model_path, other_path, &o, &(pith_study){.rotate = true}, &r));
    double rotated = kl_of(other_path, true, 0);
    assert_true(rotated < 1.5 * whole + 1e-4 && llabs((long long)r.total_bytes - (long long)usual.total_bytes) < (long long)usual.total_bytes / 20);
    /* one layer: every unit has one packet, and together they have the size that was asked for */
    for (uint64_t bytes = 30000; bytes <= 60000; bytes += 30000) {
        assert_ok(ctx, pith_compress_study(ctx, model_path, other_path, &o, &(pith_study){.single_bytes = bytes}, &r));
        assert_ok(ctx, pith_reader_open(ctx, other_path, 0, &reader));
        assert_int_equal(reader.n_packets, reader.manifest.n_units);
        uint64_t packets = r.total_bytes - reader.manifest.manifest_bytes;
        assert_true(packets <= bytes && packets > bytes * 97 / 100);
        pith_reader_close(ctx, &reader);
        assert_true(kl_of(other_path, true, 0) < 1);
    }
    assert_int_equal(pith_compress_study(ctx, model_path, other_path, &o, &(pith_study){.single_bytes = 10}, &r), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

static void quality_chooses_a_cut(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    uint64_t loose, tight;
    pith_compress_options o = {.kl = 0.1};
    assert_ok(ctx, pith_cut(ctx, pith_path, other_path, &o, &loose));
    o.kl = 0.03;
    assert_ok(ctx, pith_cut(ctx, pith_path, other_path, &o, &tight));
    assert_true(tight > loose);
    o.kl = 1e-9;
    assert_int_equal(pith_cut(ctx, pith_path, other_path, &o, &tight), PITH_E_ARGUMENT);
    /* of a cut that has not got there */
    assert_true(test_file_bytes(other_path) > 0);
    o.kl = 0.01;
    assert_ok(ctx, pith_cut(ctx, pith_path, other_path, &(pith_compress_options){.kl = 0.1}, &loose));
    assert_int_equal(pith_cut(ctx, other_path, model_path, &o, &tight), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "takes about"));
    /* nothing is written over its own source */
    size_t before = test_file_bytes(pith_path);
    assert_int_equal(pith_cut(ctx, pith_path, pith_path, &(pith_compress_options){.size = before / 2}, &tight), PITH_E_ARGUMENT);
    assert_int_equal(pith_compress(ctx, model_path, model_path, NULL, &(pith_compress_result){0}), PITH_E_ARGUMENT);
    assert_int_equal(test_file_bytes(pith_path), before);
    pith_ctx_free(ctx);
}

static void bytes_do_not_depend_on_threads(void **state)
{
    (void)state;
    size_t n = 0, len;
    uint8_t *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        pith_ctx *ctx = test_ctx(threads);
        pith_compress_options o = {.no_measure = true};
        pith_compress_result r;
        assert_ok(ctx, pith_compress(ctx, model_path, other_path, &o, &r));
        uint8_t *data = test_read_file(other_path, &len);
        if (first) {
            assert_int_equal(len, n);
            assert_memory_equal(data, first, n);
            free(data);
        } else {
            first = data;
            n = len;
        }
        pith_ctx_free(ctx);
    }
    free(first);
}

static void damage_costs_quality_only(void **state)
{
    (void)state;
    size_t len;
    uint8_t *data = test_read_file(pith_path, &len);
    double whole = kl_of(pith_path, true, 0);
    uint64_t manifest = pith_le64(data + 16);
    uint8_t *hurt = malloc(len);
    /* in a late payload, in a packet's header, and in the manifest */
    const size_t places[] = {len - 40, (size_t)manifest + pith_le32(data + manifest + 8) + 20 + 18, 200};
    for (int i = 0; i < 3; i++) {
        memcpy(hurt, data, len);
        hurt[places[i]] ^= 0x55;
        test_write_file(other_path, hurt, len);
        double kl = kl_of(other_path, false, 0);
        if (i < 2) assert_true(kl >= whole && kl < 20);
        else assert_true(kl < 0);
        assert_true(kl_of(other_path, true, 0) < 0);
    }
    free(hurt);
    free(data);
}

static pith_status open_and_load(pith_ctx *ctx, const void *path)
{
    pith_weights *w = NULL;
    pith_llama *m = NULL;
    pith_status status = pith_weights_open(ctx, path, NULL, &w);
    if (status == PITH_OK) status = pith_llama_new(ctx, w, &m);
    pith_weights_free(ctx, w);
    pith_llama_free(ctx, m);
    return status;
}

static const pith_compress_options always_exact = {.no_measure = true, .exact = PITH_EXACT_ALWAYS};

static pith_status compress_exactly(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_compress_result r;
    return pith_compress(ctx, model_path, other_path, &always_exact, &r);
}

static void running_out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    tiny_model tiny = tiny_model_default();
    pith_compress_result made;
    test_every_fault_with(open_and_load, pith_path, &(test_fault_options){.name = "read", .sparse = 16});
    tiny.settings.n_ctx = 64;
    tiny.dtype = PITH_Q4_0;
    assert_ok(ctx, tiny_model_write(ctx, &tiny, model_path));
    assert_ok(ctx, pith_compress(ctx, model_path, other_path, &always_exact, &made));
    assert_true(made.exact_bytes > 0);
    test_every_fault_with(open_and_load, other_path, &(test_fault_options){.name = "read exact", .sparse = 16});
    pith_ctx_free(ctx);
    test_every_fault_with(compress_exactly, NULL, &(test_fault_options){.name = "write", .sparse = 2});
}

static void a_plan_lists_every_tensor(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_compress_options o = {0};
    pith_plan plan;
    assert_ok(ctx, pith_plan_make(ctx, model_path, &o, &plan));
    size_t len = test_file_bytes(model_path), coded = 0, bytes = 0;
    for (size_t i = 0; i < plan.n_rows; i++) {
        coded += strncmp(plan.rows[i].what, "coded", 5) == 0;
        bytes += plan.rows[i].source_bytes;
    }
    assert_int_equal(plan.source_bytes, len);
    assert_int_equal(coded, 2 * 7 + 1); /* two layers of seven, and the embedding */
    assert_true(bytes < len && plan.floor_bytes < plan.total_bytes && plan.seconds > 0 && plan.memory_bytes > len);
    pith_plan_free(ctx, &plan);
    assert_int_equal(pith_plan_make(ctx, "/no/such/file", &o, &plan), PITH_E_IO);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_plan_lists_every_tensor), cmocka_unit_test(cuts_get_better_with_size), cmocka_unit_test(a_quantised_source_becomes_exact), cmocka_unit_test(studies_are_what_they_say), cmocka_unit_test(quality_chooses_a_cut),
                                       cmocka_unit_test(bytes_do_not_depend_on_threads), cmocka_unit_test(damage_costs_quality_only),
                                       cmocka_unit_test(running_out_of_memory_leaks_nothing)};
    return cmocka_run_group_tests_name("compress", tests, setup, teardown);
}
