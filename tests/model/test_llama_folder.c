/* A llama from nothing: what it begins as, that it learns, and that its folder gives it back. */
#include <unistd.h>

#include "model/llama_folder.h"
#include "model/llama_tape.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"
#include "tiny.h"

#define LEN 24

static void logits_of(pith_ctx *ctx, pith_llama *m, const int32_t *ids, float *logits)
{
    pith_cache *cache;
    assert_ok(ctx, pith_llama_cache(ctx, m, PITH_CACHE_F32, LEN, &cache));
    assert_ok(ctx, pith_llama_forward(ctx, m, cache, ids, LEN, LEN, logits));
    pith_cache_free(ctx, cache);
}

static void test_fresh(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    for (int tied = 0; tied < 2; tied++) {
        pith_settings s = pith_llama_settings(3, 64, 4, 2, 176, 128, 500, tied);
        pith_llama *m, *same, *other;
        assert_ok(ctx, pith_llama_fresh(ctx, &s, 7, &m));
        assert_ok(ctx, pith_llama_fresh(ctx, &s, 7, &same));
        assert_ok(ctx, pith_llama_fresh(ctx, &s, 8, &other));
        assert_int_equal(m->output == m->embedding, tied);
        pith_llama_weight a, b, c;
        float row_a[176], row_b[176], row_c[176];
        const pith_kernels *k = pith_kernels_get(ctx);
        for (size_t i = 0; pith_llama_weight_at(m, i, &a); i++) {
            assert_true(pith_llama_weight_at(same, i, &b) && pith_llama_weight_at(other, i, &c));
            if (a.vector) {
                assert_int_equal(a.vector->x != NULL, !a.optional);
                for (size_t n = 0; a.vector->x && n < a.n_cols; n++) assert_true(a.vector->x[n] == 1);
                continue;
            }
            if (!*a.matrix) continue;
            double square = 0;
            for (size_t r = 0; r < a.n_rows; r++) {
                (*a.matrix)->kind->row(*a.matrix, k, r, row_a);
                (*b.matrix)->kind->row(*b.matrix, k, r, row_b);
                (*c.matrix)->kind->row(*c.matrix, k, r, row_c);
                assert_memory_equal(row_a, row_b, a.n_cols * sizeof *row_a);
                assert_memory_not_equal(row_a, row_c, a.n_cols * sizeof *row_a);
                for (size_t n = 0; n < a.n_cols; n++) square += (double)row_a[n] * (double)row_a[n];
            }
            bool embedding = *a.matrix == m->embedding, adds = strstr(a.name, "attn_output") || strstr(a.name, "ffn_down");
            double expected = embedding ? 0.02 : 1 / sqrt((double)a.n_cols * (adds ? 6 : 1)), deviation = sqrt(square / (double)(a.n_rows * a.n_cols));
            if (fabs(deviation / expected - 1) > 0.06) fail_msg("%s: deviation %g, expected %g", a.name, deviation, expected);
        }
        pith_llama_free(ctx, m);
        pith_llama_free(ctx, same);
        pith_llama_free(ctx, other);
    }
    pith_settings wrong = pith_llama_settings(3, 64, 5, 2, 176, 128, 500, true);
    pith_llama *none;
    assert_int_equal(pith_llama_fresh(ctx, &wrong, 1, &none), PITH_E_FORMAT);
    pith_ctx_free(ctx);
}

/* A rule that must be looked up: the token after each is the one that followed it last time. */
static void test_learns(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_settings s = pith_llama_settings(2, 32, 2, 1, 64, LEN, 20, true);
    pith_tape *tape;
    pith_llama *m;
    pith_optimizer *optimizer;
    assert_ok(ctx, pith_llama_fresh(ctx, &s, 1, &m));
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    assert_ok(ctx, pith_llama_train(ctx, m, tape, NULL));
    assert_ok(ctx, pith_optimizer_new(tape, &(pith_optimizer_options){.kind = PITH_ADAMW, .clip_norm = 1}, &optimizer));
    double first = 0, last = 0;
    for (uint64_t step = 0; step < 60; step++) {
        int32_t ids[8 * LEN], next[8 * LEN];
        pith_rng rng = {.seed = 5, .stream = step};
        for (size_t t = 0; t < 8; t++) {
            uint32_t at = pith_rng_below(&rng, 20), stride = 1 + pith_rng_below(&rng, 3);
            for (size_t i = 0; i < LEN; i++, at = (at + stride) % 20) {
                ids[t * LEN + i] = (int32_t)at;
                next[t * LEN + i] = (int32_t)((at + stride) % 20);
            }
        }
        pith_tape_step(tape, step);
        pith_var *loss = pith_var_cross_entropy(pith_llama_record(tape, m, ids, 8, LEN, step % 2), next);
        assert_ok(ctx, pith_tape_status(tape));
        last = (double)loss->data[0];
        if (!step) first = last;
        assert_ok(ctx, pith_backward(tape, loss, 0));
        assert_ok(ctx, pith_optimizer_step(optimizer, 0.01f));
    }
    assert_true(fabs(first - log(20)) < 0.1);
    if (!(last < 0.35)) fail_msg("after 60 steps the loss is %g", last);
    pith_optimizer_free(optimizer);
    pith_llama_free(ctx, m);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* ---- folders ---------------------------------------------------------------------------------- */

static const char text[] = "the key of the door: seven. the key of the gate: nine. what is the key of the door? seven";

/* What was rotated in pairs comes back by halves; what says nothing without scaling may differ then. */
static void check_settings(const pith_settings *a, const pith_settings *b)
{
    const uint32_t counts[][2] = {{a->n_layers, b->n_layers}, {a->n_embd, b->n_embd}, {a->n_ff, b->n_ff}, {a->n_heads, b->n_heads}, {a->n_kv_heads, b->n_kv_heads},
                                  {a->head_dim, b->head_dim}, {a->n_vocab, b->n_vocab}, {a->n_ctx, b->n_ctx}, {a->rope_dims, b->rope_dims},
                                  {a->sliding_window, b->sliding_window}, {a->tied_embeddings, b->tied_embeddings}, {a->rope_scaling, b->rope_scaling}};
    assert_string_equal(a->architecture, b->architecture);
    for (size_t i = 0; i < PITH_COUNT(counts); i++) assert_int_equal(counts[i][0], counts[i][1]);
    assert_true(a->norm_eps == b->norm_eps && a->rope_base == b->rope_base && b->rope_style == PITH_ROPE_HALVES);
    if (a->rope_scaling == PITH_ROPE_PLAIN) return;
    assert_true(a->rope_factor == b->rope_factor && a->rope_original_ctx == b->rope_original_ctx);
    if (a->rope_scaling == PITH_ROPE_LLAMA3) assert_true(a->rope_low_freq_factor == b->rope_low_freq_factor && a->rope_high_freq_factor == b->rope_high_freq_factor);
    else assert_true(a->rope_attn_factor == b->rope_attn_factor && a->rope_beta_fast == b->rope_beta_fast && a->rope_beta_slow == b->rope_beta_slow);
}

/* Saved, opened, and run: the same logits, for weights that the type holds. */
static void check_folder(pith_ctx *ctx, pith_llama *m, pith_dtype dtype, double tolerance)
{
    char folder[] = "llama-XXXXXX", inner[64];
    static float a[LEN * 600], b[LEN * 600];
    double wide[LEN * 600];
    int32_t ids[LEN];
    assert_non_null(mkdtemp(folder));
    snprintf(inner, sizeof inner, "%s/a/b", folder);
    pith_arena *arena = pith_arena_new(ctx);
    pith_vocab vocab;
    static const char *const controls[] = {"<|endoftext|>"};
    assert_ok(ctx, pith_bpe_train(ctx, arena, &(pith_str){text, sizeof text - 1}, 1, &(pith_bpe_options){.n_tokens = 280, .controls = controls, .n_controls = 1}, &vocab));
    assert_ok(ctx, pith_llama_save(ctx, m, &vocab, inner, dtype));
    pith_weights *w;
    pith_llama *again;
    assert_ok(ctx, pith_weights_open(ctx, inner, NULL, &w));
    assert_int_equal(w->vocab->n_tokens, vocab.n_tokens);
    assert_int_equal(w->vocab->eos, 0);
    assert_ok(ctx, pith_llama_new(ctx, w, &again));
    check_settings(&m->s, &again->s);
    tiny_ids(ids, LEN, m->s.n_vocab, 3);
    logits_of(ctx, m, ids, a);
    logits_of(ctx, again, ids, b);
    for (size_t i = 0; i < LEN * m->s.n_vocab; i++) wide[i] = (double)a[i];
    double d = tiny_distance(wide, b, LEN * m->s.n_vocab);
    if (!(d <= tolerance)) fail_msg("the folder's logits are %g off", d);
    pith_llama_free(ctx, again);
    pith_weights_free(ctx, w);
    pith_arena_free(arena);
    assert_ok(ctx, pith_folder_remove(ctx, folder));
}

static void test_folder(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_settings s = pith_llama_settings(2, 48, 4, 2, 80, 64, 280, true);
    pith_llama *m;
    pith_tape *tape;
    assert_ok(ctx, pith_llama_fresh(ctx, &s, 7, &m));
    check_folder(ctx, m, PITH_F32, 0);
    check_folder(ctx, m, PITH_BF16, 0.01);
    /* being trained, and changed */
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    assert_ok(ctx, pith_llama_train(ctx, m, tape, NULL));
    size_t n;
    pith_var *const *params = pith_tape_params(tape, &n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < params[i]->count; k++) params[i]->data[k] *= 1 + 0.1f * (float)(k % 3);
    check_folder(ctx, m, PITH_F32, 0);
    pith_llama_free(ctx, m);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Rotated in pairs, with biases, untied, a window, scaled positions. */
static void test_folder_of_others(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    for (int k = 0; k < 5; k++) {
        pith_settings s = tiny_settings();
        s.n_ctx = 256;
        s.n_vocab = 280;
        if (k == 1) s.rope_scaling = PITH_ROPE_LLAMA3, s.rope_factor = 8, s.rope_original_ctx = 64, s.rope_base = 500, s.rope_attn_factor = 1;
        if (k == 2) s.rope_scaling = PITH_ROPE_YARN, s.rope_factor = 4, s.rope_original_ctx = 64, s.rope_attn_factor = 1.3f, s.rope_style = PITH_ROPE_HALVES;
        if (k == 3) strcpy(s.architecture, "qwen2"), s.rope_style = PITH_ROPE_HALVES, s.sliding_window = 9, s.norm_eps = 1e-6f;
        if (k == 4) s.rope_style = PITH_ROPE_HALVES, s.rope_dims = 8;
        tiny *t = tiny_new(&s, TINY_F32, k == 3 || k == 0, k % 2);
        pith_llama *m;
        assert_ok(ctx, pith_llama_new(ctx, &t->w, &m));
        check_folder(ctx, m, PITH_F32, 1e-6);
        pith_llama_free(ctx, m);
        tiny_free(t);
    }
    /* what a folder cannot say */
    pith_settings s = tiny_settings();
    tiny *t = tiny_new(&s, TINY_F32, false, true);
    tiny_add(t, "blk.1.ffn_down.scale", 1, s.n_ff, 1, 0.1f);
    pith_llama *m;
    assert_ok(ctx, pith_llama_new(ctx, &t->w, &m));
    char folder[] = "llama-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_int_equal(pith_llama_save(ctx, m, NULL, folder, PITH_F32), PITH_E_UNSUPPORTED);
    assert_non_null(strstr(pith_error(ctx), "blk.1.ffn_down.scale"));
    assert_int_equal(pith_llama_save(ctx, m, NULL, folder, PITH_Q4_0), PITH_E_UNSUPPORTED);
    pith_llama_free(ctx, m);
    tiny_free(t);
    s.rope_dims = 8;
    t = tiny_new(&s, TINY_F32, false, true);
    assert_ok(ctx, pith_llama_new(ctx, &t->w, &m));
    assert_int_equal(pith_llama_save(ctx, m, NULL, folder, PITH_F32), PITH_E_UNSUPPORTED);
    pith_llama_free(ctx, m);
    tiny_free(t);
    s.rope_dims = 16;
    t = tiny_new(&s, TINY_F32, false, true);
    tiny_add(t, "rope_freqs.weight", 1, 8, 2, 0);
    assert_ok(ctx, pith_llama_new(ctx, &t->w, &m));
    assert_int_equal(pith_llama_save(ctx, m, NULL, folder, PITH_F32), PITH_E_UNSUPPORTED);
    assert_ok(ctx, pith_folder_remove(ctx, folder));
    pith_llama_free(ctx, m);
    tiny_free(t);
    pith_ctx_free(ctx);
}

static pith_status whole_life(pith_ctx *ctx, const void *folder)
{
    pith_settings s = pith_llama_settings(1, 16, 2, 1, 16, 16, 20, true);
    pith_llama *m = NULL;
    pith_status status = pith_llama_fresh(ctx, &s, 1, &m);
    if (status == PITH_OK) status = pith_llama_save(ctx, m, NULL, folder, PITH_F16);
    pith_llama_free(ctx, m);
    return status;
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    char folder[] = "llama-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_in_range(test_every_fault(whole_life, folder), 30, 1000);
    pith_ctx *ctx = test_ctx(1);
    assert_ok(ctx, pith_folder_remove(ctx, folder));
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh), cmocka_unit_test(test_learns), cmocka_unit_test(test_folder), cmocka_unit_test(test_folder_of_others),
        cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
