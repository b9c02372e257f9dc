/* The public API over a tiny model: what a user of the library sees. */
#include <math.h>
#include <unistd.h>

#include "test.h"
#include "tiny_model.h"

static char path[64];

static int make_model(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/pith-api-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    pith_ctx *ctx = test_ctx(1);
    tiny_model m = tiny_model_default();
    m.seed = 5; /* with which replies are long */
    pith_status status = tiny_model_write(ctx, &m, path);
    pith_ctx_free(ctx);
    return status == PITH_OK ? 0 : -1;
}

static int remove_model(void **state)
{
    (void)state;
    return unlink(path);
}

static pith_ctx *quiet_ctx(int n_threads)
{
    pith_ctx *ctx = NULL;
    assert_int_equal(pith_ctx_new(&(pith_options){.n_threads = n_threads}, &ctx), PITH_OK);
    return ctx;
}

typedef struct heard {
    char text[4096];
    size_t len;
    int n_pieces, stop_after;
} heard;

static bool hear(void *user, const char *text, size_t len)
{
    heard *h = user;
    assert_true(h->len + len < sizeof h->text);
    memcpy(h->text + h->len, text, len);
    h->len += len;
    h->n_pieces++;
    return !h->stop_after || h->n_pieces < h->stop_after;
}

static pith_reply_options greedy(heard *h)
{
    pith_reply_options o;
    pith_reply_defaults(&o);
    o.temperature = 0;
    o.max_tokens = 16;
    o.text = hear;
    o.user = h;
    *h = (heard){0};
    return o;
}

static void test_open(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(2);
    pith_model *model = NULL;
    assert_int_equal(pith_model_open(ctx, "/no/such/file", NULL, &model), PITH_E_IO);
    assert_non_null(strstr(pith_error(ctx), "/no/such/file"));
    assert_int_equal(pith_model_open(ctx, NULL, NULL, &model), PITH_E_ARGUMENT);
    assert_int_equal(pith_model_open(NULL, path, NULL, &model), PITH_E_ARGUMENT);
    assert_null(model);
    assert_ok(ctx, pith_model_open(ctx, path, NULL, &model));
    pith_model_info info;
    pith_model_describe(model, &info);
    assert_string_equal(info.architecture, "llama");
    assert_int_equal(info.n_layers, 2);
    assert_true(info.has_tokenizer && info.n_vocab > 250 && info.n_context == 256);
    assert_true(info.file_bytes > 100000 && info.ram_bytes > 100000 && info.n_weights > 100000);
    assert_true(fabs(info.bits_per_weight - 8.0 * (double)info.file_bytes / (double)info.n_weights) < 1e-9);
    int32_t *ids = NULL;
    size_t n = 0;
    assert_ok(ctx, pith_model_tokenize(model, "Hello", 5, &ids, &n));
    assert_true(n >= 1 && n <= 6);
    pith_release(ctx, ids);
    assert_ok(ctx, pith_model_tokenize(model, "", 0, &ids, &n));
    pith_release(ctx, ids);
    pith_release(ctx, NULL);
    pith_model_free(model);
    pith_model_free(NULL);
    assert_true(pith_memory_used(ctx) < 1 << 20);
    pith_ctx_free(ctx);
}

/* What a session keeps of an earlier prompt changes no byte of the reply. */
static void test_sessions(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(2);
    pith_model *model = NULL;
    pith_session *a = NULL, *b = NULL;
    heard h, again;
    pith_reply r;
    assert_ok(ctx, pith_model_open(ctx, path, NULL, &model));
    assert_int_equal(pith_session_new(model, 257, PITH_KV_F16, &a), PITH_E_LIMIT);
    assert_int_equal(pith_session_new(model, 0, (pith_kv_type)9, &a), PITH_E_ARGUMENT);
    assert_ok(ctx, pith_session_new(model, 0, PITH_KV_F32, &a));
    assert_ok(ctx, pith_session_new(model, 128, PITH_KV_F32, &b));
    pith_reply_options o = greedy(&h), o2 = greedy(&again);
    assert_ok(ctx, pith_session_complete(a, "One two four six", 16, &o, &r));
    assert_true(r.n_reused == 0 && r.n_generated == 16 && h.len > 0);
    assert_string_equal(r.ended_by, "limit");
    size_t n_first = r.n_prompt;
    h = (heard){0};
    assert_ok(ctx, pith_session_complete(a, "One two four six", 16, &o, &r)); /* the same prompt once more */
    assert_int_equal(r.n_reused, n_first - 1);
    assert_ok(ctx, pith_session_complete(b, "One two four six", 16, &o2, &r));
    assert_int_equal(r.n_reused, 0);
    assert_memory_equal(h.text, again.text, PITH_MAX(h.len, again.len));
    h = again = (heard){0};
    assert_ok(ctx, pith_session_complete(a, "One two four five", 17, &o, &r)); /* the beginning is shared */
    assert_true(r.n_reused >= 1 && r.n_reused < r.n_prompt);
    pith_session_free(b);
    assert_ok(ctx, pith_session_new(model, 128, PITH_KV_F32, &b));
    assert_ok(ctx, pith_session_complete(b, "One two four five", 17, &o2, &r));
    assert_int_equal(h.len, again.len);
    assert_memory_equal(h.text, again.text, h.len);
    /* the caller stops; a stop string; a prompt that does not fit */
    h = (heard){.stop_after = 1};
    assert_ok(ctx, pith_session_complete(a, "One two four six", 16, &o, &r));
    assert_string_equal(r.ended_by, "caller");
    again = (heard){0};
    assert_ok(ctx, pith_session_complete(a, "the cat sat", 11, &o2, &r));
    char middle[3] = {again.text[again.len / 2], again.text[again.len / 2 + 1], 0};
    const char *stop[] = {"\x01 never", middle};
    o.stop = stop;
    o.n_stop = 2;
    h = (heard){0};
    assert_ok(ctx, pith_session_complete(a, "the cat sat", 11, &o, &r));
    assert_string_equal(r.ended_by, "stop string");
    assert_int_equal(h.len, strstr(again.text, middle) - again.text);
    assert_memory_equal(h.text, again.text, h.len);
    char longer[3000];
    memset(longer, 'x', sizeof longer);
    assert_int_equal(pith_session_complete(a, longer, sizeof longer, &o, &r), PITH_E_LIMIT);
    assert_ok(ctx, pith_session_complete(a, "", 0, NULL, &r)); /* defaults, nothing heard, empty prompt */
    pith_session_free(a);
    pith_session_free(b);
    pith_session_free(NULL);
    pith_model_free(model);
    pith_ctx_free(ctx);
}

static void test_chat(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(1);
    pith_model *model = NULL;
    pith_session *session = NULL;
    pith_model_info info;
    heard h;
    pith_reply r;
    assert_ok(ctx, pith_model_open(ctx, path, NULL, &model));
    pith_model_describe(model, &info);
    assert_ok(ctx, pith_session_new(model, 0, PITH_KV_Q8, &session));
    pith_reply_options o = greedy(&h);
    pith_message messages[3] = {{"user", "Hi"}, {"assistant", "Hello"}, {"user", "Bye"}};
    pith_status status = pith_session_reply(session, messages, 1, &o, &r);
    if (info.has_chat) {
        assert_int_equal(status, PITH_OK);
        assert_ok(ctx, pith_session_reply(session, messages, 3, &o, &r));
        assert_true(r.n_reused > 1); /* the conversation so far */
    } else {
        assert_int_equal(status, PITH_E_UNSUPPORTED);
        assert_true(strlen(pith_error(ctx)) > 10);
    }
    pith_session_free(session);
    pith_model_free(model);
    pith_ctx_free(ctx);
}

static void test_measure(void **state)
{
    (void)state;
    pith_ctx *ctx = quiet_ctx(2);
    pith_model *model = NULL, *exact = NULL;
    pith_measure m;
    char text[2000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = "the cat sat on a mat. "[i % 22];
    assert_ok(ctx, pith_model_open(ctx, path, NULL, &model));
    assert_ok(ctx, pith_model_open(ctx, path, &(pith_model_options){.exact = true}, &exact));
    pith_measure_options o = {.n_context = 64, .n_chunks = 3};
    assert_ok(ctx, pith_model_measure(model, NULL, text, sizeof text, &o, &m));
    assert_true(!m.has_reference && m.n_chunks == 3 && isfinite(m.perplexity) && m.perplexity > 1 && m.prefill_tokens_per_second > 0);
    assert_ok(ctx, pith_model_measure(model, exact, text, sizeof text, &o, &m));
    assert_true(m.has_reference && fabs(m.kl_mean) < 1e-4 && m.top1_agreement > 0.95);
    assert_int_equal(pith_model_measure(model, NULL, "short", 5, NULL, &m), PITH_E_ARGUMENT);
    pith_model_free(exact);
    pith_model_free(model);
    pith_ctx_free(ctx);
}

/* From opening to the last token. */
static pith_status complete(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_model *model;
    pith_session *session = NULL;
    heard h;
    pith_reply r;
    pith_reply_options o = greedy(&h);
    o.max_tokens = 3;
    PITH_TRY(pith_model_open(ctx, path, NULL, &model));
    pith_status status = pith_session_new(model, 64, PITH_KV_F16, &session);
    if (status == PITH_OK) status = pith_session_complete(session, "Hello", 5, &o, &r);
    pith_session_free(session);
    pith_model_free(model);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_true(test_every_fault(complete, NULL) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open), cmocka_unit_test(test_sessions), cmocka_unit_test(test_chat), cmocka_unit_test(test_measure), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
