/* The llama against its plain double, and against itself: batches, threads, caches, failures. */
#include "tiny.h"

#define N 45

typedef struct variant {
    const char *name;
    tiny_form form;
    bool biases, tied;
    pith_cache_type cache;
    double tolerance;        /* of the logits' distance */
    void (*change)(pith_settings *s);
} variant;

static void as_is(pith_settings *s) { (void)s; }
static void halves(pith_settings *s) { s->rope_style = PITH_ROPE_HALVES; }
static void partial(pith_settings *s) { s->rope_dims = 8; }
static void unrotated(pith_settings *s) { s->rope_dims = 0; }
static void linear(pith_settings *s) { s->rope_scaling = PITH_ROPE_LINEAR, s->rope_factor = 4; }
static void llama3(pith_settings *s) { s->rope_scaling = PITH_ROPE_LLAMA3, s->rope_factor = 8, s->rope_original_ctx = 64, s->rope_base = 500; }
static void yarn(pith_settings *s) { s->rope_scaling = PITH_ROPE_YARN, s->rope_factor = 4, s->rope_original_ctx = 512, s->rope_base = 500; }
static void yarn_factor(pith_settings *s) { yarn(s), s->rope_attn_factor = 1.3f; }
static void window(pith_settings *s) { s->sliding_window = 11; }
static void one_to_one(pith_settings *s) { s->n_kv_heads = 6; }
static void one_for_all(pith_settings *s) { s->n_kv_heads = 1; }
static void qwen(pith_settings *s) { halves(s), snprintf(s->architecture, sizeof s->architecture, "qwen2"); }
static void wide_heads(pith_settings *s) { s->head_dim = 40, s->rope_dims = 40, s->n_layers = 1; }
static void odd(pith_settings *s) { s->n_embd = 68, s->n_ff = 101, s->head_dim = 6, s->rope_dims = 6, s->n_vocab = 37, s->n_layers = 3; }

static const variant variants[] = {
    {"plain", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, as_is},
    {"untied", TINY_F32, false, false, PITH_CACHE_F32, 3e-6, as_is},
    {"halves", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, halves},
    {"partial", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, partial},
    {"unrotated", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, unrotated},
    {"linear", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, linear},
    {"llama3", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, llama3},
    {"yarn", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, yarn},
    {"yarn with factor", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, yarn_factor},
    {"window", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, window},
    {"kv = heads", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, one_to_one},
    {"kv = 1", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, one_for_all},
    {"qwen2", TINY_F32, true, true, PITH_CACHE_F32, 3e-6, qwen},
    {"wide heads", TINY_F32, false, true, PITH_CACHE_F32, 3e-6, wide_heads},
    {"odd sizes", TINY_F32, true, false, PITH_CACHE_F32, 3e-6, odd},
    {"f16", TINY_F16, false, true, PITH_CACHE_F32, 3e-6, as_is},
    {"bf16", TINY_BF16, true, false, PITH_CACHE_F32, 3e-6, odd},
    {"f16 cache", TINY_F32, false, true, PITH_CACHE_F16, 2e-3, as_is},
    {"f16 cache, window", TINY_F32, false, true, PITH_CACHE_F16, 2e-3, window},
    {"q8 cache", TINY_F32, false, true, PITH_CACHE_Q8, 0.02, as_is},
    {"qmat", TINY_QMAT, true, true, PITH_CACHE_F32, 0.06, as_is},
    {"qmat, odd", TINY_QMAT, true, false, PITH_CACHE_F32, 0.06, odd},
};

/* Run ids in pieces of `piece` tokens (0: all at once), logits of all. */
static void run(pith_ctx *ctx, pith_llama *m, pith_cache *cache, const int32_t *ids, size_t n, size_t piece, float *logits)
{
    for (size_t i = 0, len; i < n; i += len) {
        len = PITH_MIN(n - i, piece ? piece : n);
        assert_ok(ctx, pith_llama_forward(ctx, m, cache, ids + i, len, len, logits + i * m->s.n_vocab));
    }
    assert_int_equal(cache->n, n);
}

static void test_variants(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2), *alone = test_ctx(1), *crowd = test_ctx(3);
    for (size_t i = 0; i < PITH_COUNT(variants); i++) {
        const variant *v = &variants[i];
        pith_settings s = tiny_settings();
        v->change(&s);
        tiny *t = tiny_new(&s, v->form, v->biases, v->tied);
        int32_t ids[N];
        tiny_ids(ids, N, s.n_vocab, i);
        size_t count = N * s.n_vocab;
        double *expected = malloc(count * sizeof *expected);
        float *whole = malloc(count * sizeof *whole), *other = malloc(count * sizeof *other);
        tiny_reference(t, ids, N, expected);

        pith_llama *m;
        pith_cache *cache;
        assert_ok(ctx, pith_llama_new(ctx, &t->w, &m));
        assert_ok(ctx, pith_llama_cache(ctx, m, v->cache, N, &cache));
        assert_int_equal(m->s.tied_embeddings, v->tied);
        run(ctx, m, cache, ids, N, 0, whole);
        double error = tiny_distance(expected, whole, count);
        if (!(error < v->tolerance)) fail_msg("%s: all at once: off by %g", v->name, error);

        static const size_t pieces[] = {1, 3, 7, 8, 31};
        for (size_t p = 0; p < PITH_COUNT(pieces); p++) {
            cache->kind->truncate(cache, 0);
            run(ctx, m, cache, ids, N, pieces[p], other);
            error = tiny_distance(expected, other, count);
            if (!(error < v->tolerance)) fail_msg("%s: in pieces of %zu: off by %g", v->name, pieces[p], error);
        }
        cache->kind->truncate(cache, 0);
        m->n_batch = 13;
        run(ctx, m, cache, ids, N, 0, other);
        error = tiny_distance(expected, other, count);
        if (!(error < v->tolerance)) fail_msg("%s: in batches of 13: off by %g", v->name, error);
        m->n_batch = 512;

        /* the last tokens' logits alone are the same bytes, and so are those of other numbers of threads */
        cache->kind->truncate(cache, 0);
        assert_ok(ctx, pith_llama_forward(ctx, m, cache, ids, N, 9, other));
        error = tiny_distance(expected + (N - 9) * s.n_vocab, other, 9 * s.n_vocab);
        if (!(error < v->tolerance)) fail_msg("%s: last 9: off by %g", v->name, error);
        pith_ctx *others[] = {alone, crowd};
        for (size_t k = 0; k < PITH_COUNT(others); k++) {
            cache->kind->truncate(cache, 0);
            run(others[k], m, cache, ids, N, 0, other);
            assert_memory_equal(whole, other, count * sizeof *whole);
        }
        pith_cache_free(ctx, cache);
        pith_llama_free(ctx, m);
        tiny_free(t);
        free(expected), free(whole), free(other);
    }
    pith_ctx_free(crowd);
    pith_ctx_free(alone);
    pith_ctx_free(ctx);
}

/* A model, its source and a cache of `capacity`. */
typedef struct fixture {
    pith_ctx *ctx;
    tiny *t;
    pith_llama *m;
    pith_cache *cache;
} fixture;

static fixture fixture_new(tiny_form form, pith_cache_type type, size_t capacity)
{
    pith_settings s = tiny_settings();
    fixture f = {.ctx = test_ctx(2), .t = tiny_new(&s, form, false, true)};
    assert_ok(f.ctx, pith_llama_new(f.ctx, &f.t->w, &f.m));
    assert_ok(f.ctx, pith_llama_cache(f.ctx, f.m, type, capacity, &f.cache));
    return f;
}

static void fixture_free(fixture *f)
{
    pith_cache_free(f->ctx, f->cache);
    pith_llama_free(f->ctx, f->m);
    tiny_free(f->t);
    pith_ctx_free(f->ctx);
}

static void test_truncate(void **state)
{
    (void)state;
    for (pith_cache_type type = PITH_CACHE_F32; type <= PITH_CACHE_Q8; type++) {
        fixture f = fixture_new(TINY_QMAT, type, 64);
        int32_t ids[40], wrong[20];
        tiny_ids(ids, 40, 130, 1);
        tiny_ids(wrong, 20, 130, 2);
        float straight[130], back[130];
        assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 20, 0, NULL));
        assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids + 20, 20, 1, straight));
        f.cache->kind->truncate(f.cache, 20);
        assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, wrong, 20, 1, back));
        assert_memory_not_equal(straight, back, sizeof back);
        f.cache->kind->truncate(f.cache, 20);
        assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids + 20, 20, 1, back));
        assert_memory_equal(straight, back, sizeof back);
        f.cache->kind->truncate(f.cache, 1000);
        assert_int_equal(f.cache->n, 40);
        fixture_free(&f);
    }
}

typedef struct heard {
    size_t calls, tokens[8];
    const char *names[64];
    double sum;
} heard;

static void listen(void *user, const pith_operator *op, const float *x, size_t n, size_t cols)
{
    heard *h = user;
    assert_int_equal(cols, op->n_cols);
    assert_true(h->calls < 64);
    h->names[h->calls++] = op->name;
    for (size_t i = 0; i < n * cols; i++) h->sum += fabs((double)x[i]);
}

static void test_tap(void **state)
{
    (void)state;
    fixture f = fixture_new(TINY_F32, PITH_CACHE_F32, 64);
    int32_t ids[30];
    tiny_ids(ids, 30, 130, 3);
    float quiet[130], tapped[130];
    assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 30, 1, quiet));
    f.cache->kind->truncate(f.cache, 0);
    heard h = {0};
    f.m->tap = listen;
    f.m->tap_user = &h;
    assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 30, 1, tapped));
    assert_int_equal(h.calls, 2 * 7 + 1);
    static const char *const order[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
                                        "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight", "blk.1.attn_q.weight"};
    for (size_t i = 0; i < PITH_COUNT(order); i++) assert_string_equal(h.names[i], order[i]);
    assert_string_equal(h.names[14], "token_embd.weight");
    assert_true(isfinite(h.sum) && h.sum > 0);
    for (size_t i = 0; i < 130; i++) assert_true(fabsf(quiet[i] - tapped[i]) < 1e-4f);

    /* without logits a listener still hears every layer, all tokens */
    double all = h.sum;
    h = (heard){0};
    f.cache->kind->truncate(f.cache, 0);
    assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 30, 0, NULL));
    assert_int_equal(h.calls, 2 * 7);
    assert_true(h.sum < all && h.sum > 0.9 * all);
    fixture_free(&f);
}

static void test_limits(void **state)
{
    (void)state;
    fixture f = fixture_new(TINY_F32, PITH_CACHE_F16, 16);
    pith_cache *none = NULL;
    int32_t ids[17] = {0};
    float logits[130];
    assert_int_equal(pith_llama_forward(f.ctx, f.m, f.cache, ids, 17, 1, logits), PITH_E_LIMIT);
    assert_non_null(strstr(pith_error(f.ctx), "17"));
    assert_non_null(strstr(pith_error(f.ctx), "16"));
    assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 16, 1, logits));
    assert_int_equal(pith_llama_forward(f.ctx, f.m, f.cache, ids, 1, 1, logits), PITH_E_LIMIT);
    f.cache->kind->truncate(f.cache, 3);
    ids[1] = 130;
    assert_int_equal(pith_llama_forward(f.ctx, f.m, f.cache, ids, 2, 1, logits), PITH_E_ARGUMENT);
    ids[1] = -1;
    assert_int_equal(pith_llama_forward(f.ctx, f.m, f.cache, ids, 2, 1, logits), PITH_E_ARGUMENT);
    assert_int_equal(f.cache->n, 3);
    assert_int_equal(pith_llama_forward(f.ctx, f.m, f.cache, ids, 1, 2, logits), PITH_E_ARGUMENT);
    assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 0, 0, NULL));
    assert_int_equal(f.cache->n, 3);
    assert_int_equal(pith_llama_cache(f.ctx, f.m, PITH_CACHE_F16, 4097, &none), PITH_E_LIMIT);
    assert_ok(f.ctx, pith_llama_cache(f.ctx, f.m, PITH_CACHE_F16, 0, &none));
    assert_int_equal(none->capacity, 4096);
    pith_cache_free(f.ctx, none);
    assert_ok(f.ctx, pith_cache_new(f.ctx, PITH_CACHE_F16, 2, 3, 16, 16, &none));
    ids[1] = 1;
    assert_int_equal(pith_llama_forward(f.ctx, f.m, none, ids, 1, 1, logits), PITH_E_SHAPE);
    pith_cache_free(f.ctx, none);
    fixture_free(&f);
}

static pith_cache_kind failing;
static const pith_cache_kind *working;
static int calls_left;

static pith_status attend_and_fail(pith_ctx *ctx, pith_cache *c, size_t layer, const float *q, size_t n, size_t n_heads, size_t pos0, size_t window, float scale, float *out)
{
    if (calls_left-- == 0) return pith_fail(ctx, PITH_E_INTERNAL, "on purpose");
    return working->attend(ctx, c, layer, q, n, n_heads, pos0, window, scale, out);
}

/* Whenever a call fails, the cache is as it was before. */
static void test_failure_undone(void **state)
{
    (void)state;
    fixture f = fixture_new(TINY_F32, PITH_CACHE_F16, 64);
    int32_t ids[40];
    float expected[130], logits[130];
    tiny_ids(ids, 40, 130, 4);
    f.m->n_batch = 8;
    assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 40, 1, expected));
    working = f.cache->kind;
    failing = *working;
    failing.attend = attend_and_fail;
    for (int calls = 0; calls < 5; calls++) { /* four batches: the last layer attends only in the last */
        working->truncate(f.cache, 0);
        assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids, 12, 0, NULL));
        f.cache->kind = &failing;
        calls_left = calls;
        assert_int_equal(pith_llama_forward(f.ctx, f.m, f.cache, ids + 12, 28, 1, logits), PITH_E_INTERNAL);
        f.cache->kind = working;
        assert_int_equal(f.cache->n, 12);
        assert_ok(f.ctx, pith_llama_forward(f.ctx, f.m, f.cache, ids + 12, 28, 1, logits));
        for (size_t i = 0; i < 130; i++) assert_true(fabsf(logits[i] - expected[i]) < 0.05f);
    }
    fixture_free(&f);
}

static void expect_refused(pith_ctx *ctx, tiny *t, pith_status status, const char *word)
{
    pith_llama *m = NULL;
    assert_int_equal(pith_llama_new(ctx, &t->w, &m), status);
    if (!strstr(pith_error(ctx), word)) fail_msg("'%s' does not speak of '%s'", pith_error(ctx), word);
    assert_null(m);
    tiny_free(t);
}

static void test_refusals(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
#define REFUSE(change, status, word)                       \
    do {                                                   \
        pith_settings s = tiny_settings();                 \
        tiny *t = tiny_new(&s, TINY_F32, false, true);     \
        pith_settings *w = &t->w.settings;                 \
        change;                                            \
        (void)w;                                           \
        expect_refused(ctx, t, status, word);              \
    } while (0)
    REFUSE(strcpy(w->architecture, "gemma"), PITH_E_UNSUPPORTED, "gemma");
    REFUSE(w->n_layers = 3, PITH_E_FORMAT, "blk.2");
    REFUSE(w->n_layers = 4000000000, PITH_E_FORMAT, "layers");
    REFUSE(w->n_layers = 0, PITH_E_FORMAT, "0 layers");
    REFUSE(w->n_ff = 161, PITH_E_FORMAT, "ffn_gate");
    REFUSE(w->n_embd = 0, PITH_E_FORMAT, "width 0");
    REFUSE(w->n_heads = 5, PITH_E_FORMAT, "heads");
    REFUSE(w->n_kv_heads = 0, PITH_E_FORMAT, "heads");
    REFUSE(w->head_dim = 8, PITH_E_FORMAT, "rotated");
    REFUSE(w->rope_dims = 7, PITH_E_FORMAT, "rotated");
    REFUSE(w->n_vocab = 131, PITH_E_FORMAT, "131");
    REFUSE(w->norm_eps = NAN, PITH_E_FORMAT, "epsilon");
    REFUSE(w->rope_base = -1, PITH_E_FORMAT, "rope base");
    REFUSE((w->rope_scaling = PITH_ROPE_LINEAR, w->rope_factor = 0), PITH_E_FORMAT, "scaling");
    REFUSE((w->rope_scaling = PITH_ROPE_LLAMA3, w->rope_low_freq_factor = 5), PITH_E_FORMAT, "llama3");
    REFUSE((w->rope_scaling = PITH_ROPE_YARN, w->rope_beta_slow = 0), PITH_E_FORMAT, "yarn");
    REFUSE(tiny_add(t, "blk.0.attn_q_norm.weight", 1, 16, 1, 0), PITH_E_UNSUPPORTED, "attn_q_norm");
    REFUSE(tiny_add(t, "output.weight", 129, 96, 0, 1), PITH_E_FORMAT, "output.weight");
    REFUSE(strcpy(tiny_find(&t->w, "blk.1.ffn_norm.weight")->name, "gone"), PITH_E_FORMAT, "blk.1.ffn_norm");
    REFUSE(tiny_add(t, "rope_freqs.weight", 1, 8, -1, 0), PITH_E_FORMAT, "rope_freqs");
#undef REFUSE
    pith_ctx_free(ctx);
}

/* A vector of divisors does what the settings of llama3 say, once. */
static void test_rope_divisors(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_settings s = tiny_settings();
    llama3(&s);
    tiny *t = tiny_new(&s, TINY_F32, false, true);
    pith_llama *by_settings, *by_vector;
    assert_ok(ctx, pith_llama_new(ctx, &t->w, &by_settings));
    tiny_tensor *divisors = tiny_add(t, "rope_freqs.weight", 1, 8, 1, 0);
    bool changed = false;
    for (size_t i = 0; i < 8; i++) {
        double magnitude, f = plain_frequency(&s, i, &magnitude);
        divisors->x[i] = (float)(pow((double)s.rope_base, -2.0 * (double)i / 16) / f);
        changed |= divisors->x[i] > 1.5f;
    }
    assert_true(changed);
    for (int with_settings = 0; with_settings < 2; with_settings++) {
        t->w.settings.rope_scaling = with_settings ? PITH_ROPE_LLAMA3 : PITH_ROPE_PLAIN;
        assert_ok(ctx, pith_llama_new(ctx, &t->w, &by_vector));
        for (size_t i = 0; i < 8; i++) assert_true(fabsf(by_vector->rope_freq[i] / by_settings->rope_freq[i] - 1) < 1e-6f);
        pith_llama_free(ctx, by_vector);
    }
    pith_llama_free(ctx, by_settings);
    tiny_free(t);
    pith_ctx_free(ctx);
}

/* After the first tokens, decoding asks nothing of the heap. */
static void test_decode_allocates_nothing(void **state)
{
    (void)state;
    test_faults faults = {0};
    pith_options o = {.n_threads = 2, .realloc = test_faulty_realloc, .realloc_user = &faults};
    static const tiny_form forms[] = {TINY_F16, TINY_QMAT};
    for (size_t k = 0; k < PITH_COUNT(forms); k++) {
        pith_ctx *ctx;
        assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
        pith_settings s = tiny_settings();
        tiny *t = tiny_new(&s, forms[k], false, true);
        pith_llama *m;
        pith_cache *cache;
        float logits[130];
        int32_t ids[64];
        tiny_ids(ids, 64, 130, 5);
        assert_ok(ctx, pith_llama_new(ctx, &t->w, &m));
        assert_ok(ctx, pith_llama_cache(ctx, m, PITH_CACHE_F16, 64, &cache));
        assert_ok(ctx, pith_llama_forward(ctx, m, cache, ids, 1, 1, logits));
        long calls = faults.calls;
        for (size_t i = 1; i < 64; i++) assert_ok(ctx, pith_llama_forward(ctx, m, cache, ids + i, 1, 1, logits));
        assert_int_equal(faults.calls, calls);
        pith_cache_free(ctx, cache);
        pith_llama_free(ctx, m);
        tiny_free(t);
        pith_ctx_free(ctx);
    }
    assert_int_equal(faults.held, 0);
}

typedef struct continued {
    tiny *t;
    float *logits;
} continued;

/* Build, run, continue; @return the first failure */
static pith_status whole_life(pith_ctx *ctx, const void *user)
{
    const continued *c = user;
    int32_t ids[24];
    tiny_ids(ids, 24, 130, 6);
    pith_llama *m = NULL;
    pith_cache *cache = NULL;
    pith_status status;
    PITH_GOTO(pith_llama_new(ctx, &c->t->w, &m), done);
    PITH_GOTO(pith_llama_cache(ctx, m, PITH_CACHE_Q8, 32, &cache), done);
    PITH_GOTO(pith_llama_forward(ctx, m, cache, ids, 23, 1, c->logits), done);
    PITH_GOTO(pith_llama_forward(ctx, m, cache, ids + 23, 1, 1, c->logits), done);
done:
    pith_cache_free(ctx, cache);
    pith_llama_free(ctx, m);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    float expected[130], logits[130];
    static const tiny_form forms[] = {TINY_F16, TINY_QMAT};
    for (size_t k = 0; k < PITH_COUNT(forms); k++) {
        pith_settings s = tiny_settings();
        tiny *t = tiny_new(&s, forms[k], true, false);
        pith_ctx *sound = test_ctx(1);
        assert_ok(sound, whole_life(sound, &(continued){t, expected}));
        pith_ctx_free(sound);
        assert_in_range(test_every_fault(whole_life, &(continued){t, logits}), 20, 1000);
        assert_memory_equal(expected, logits, sizeof logits);
        tiny_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants), cmocka_unit_test(test_truncate), cmocka_unit_test(test_tap), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_failure_undone),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_rope_divisors), cmocka_unit_test(test_decode_allocates_nothing),
        cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
