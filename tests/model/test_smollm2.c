/* SmolLM2-135M-Instruct, when PITH_TEST_MODEL names its file: does it speak, alike on any number of
 * threads, and as its exact weights do. */
#include <math.h>

#include "eval/eval.h"
#include "model/generate.h"
#include "model/llama_tape.h"
#include "test.h"

static const char *path;

static const char text[] =
    "The lighthouse keeper climbed the stairs every evening before sunset. He carried a can of oil, a clean cloth and a box of matches. "
    "At the top he wiped the salt from the glass, filled the lamp and waited until the first stars came out. Ships from many countries "
    "passed the island at night, and their captains knew the light by its rhythm: two short flashes, one long pause. In winter the storms "
    "were so strong that the tower moved a little in the wind, but the keeper was not afraid. He had lived there for thirty years, and "
    "his father had kept the light before him. When the weather was good he grew potatoes and beans behind the house, and once a month a "
    "boat brought flour, letters and newspapers. He read every page twice. One day a young engineer arrived on the boat and told him that "
    "the lamp would be replaced by an electric one, which needed no keeper at all. The old man thought about this for a long time. Then he "
    "asked whether the new lamp would know when a ship was in trouble. The engineer said that it would not. \"In that case,\" said the "
    "keeper, \"I will stay, and the two of us can share the work.\" And so it was done. The electric lamp turned every night without a "
    "sound, and the keeper sat beside it with his telescope, watching the dark water and the small lights moving far away.";

static pith_llama *open_model(pith_ctx *ctx, bool exact, pith_tokenizer **tok)
{
    pith_weights *w;
    pith_llama *m;
    pith_weights_options o = {.exact = exact};
    assert_ok(ctx, pith_weights_open(ctx, path, &o, &w));
    assert_ok(ctx, pith_llama_new(ctx, w, &m));
    if (tok) assert_ok(ctx, pith_tokenizer_new(ctx, w->vocab, tok));
    pith_weights_free(ctx, w);
    return m;
}

typedef struct heard {
    char text[1024];
    size_t n;
} heard;

static bool hear(void *user, const char *piece, size_t len)
{
    heard *h = user;
    assert_true(h->n + len < sizeof h->text);
    memcpy(h->text + h->n, piece, len);
    h->n += len;
    return true;
}

/* `len` bytes of prompt, ten tokens of reply */
static void say(pith_ctx *ctx, pith_llama *m, const pith_tokenizer *tok, const char *prompt, size_t len, pith_cache_type type, float temperature, heard *h)
{
    pith_ids ids = {0};
    pith_cache *cache;
    pith_generate_result r;
    pith_generate_options o = {.sampling = pith_sampling_default, .max_tokens = 10, .emit = hear, .user = h};
    o.sampling.temperature = temperature;
    o.sampling.seed = 3;
    *h = (heard){0};
    assert_ok(ctx, pith_tokenize(ctx, tok, prompt, len, PITH_TOKENIZE_SPECIAL, &ids));
    assert_ok(ctx, pith_llama_cache(ctx, m, type, 512, &cache));
    assert_ok(ctx, pith_generate(ctx, m, tok, cache, ids.ids, ids.n, &o, &r));
    assert_int_equal(r.n_prompt, ids.n);
    assert_true(r.n_generated > 0);
    pith_cache_free(ctx, cache);
    pith_ids_free(ctx, &ids);
}

static void test_speaks(void **state)
{
    (void)state;
    static const char chat[] = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    pith_ctx *ctx = test_ctx(2), *alone = test_ctx(1);
    pith_tokenizer *tok;
    pith_llama *m = open_model(ctx, false, &tok);
    heard h, again;
    for (pith_cache_type type = PITH_CACHE_F32; type <= PITH_CACHE_Q8; type++) {
        say(ctx, m, tok, chat, sizeof chat - 1, type, 0, &h);
        if (!strstr(h.text, "Paris")) fail_msg("cache type %d: '%s'", (int)type, h.text);
    }
    for (int warm = 0; warm < 2; warm++) {
        say(ctx, m, tok, text, 400, PITH_CACHE_F16, warm ? 0.9f : 0, &h);
        say(alone, m, tok, text, 400, PITH_CACHE_F16, warm ? 0.9f : 0, &again);
        assert_string_equal(h.text, again.text);
    }
    pith_tokenizer_free(ctx, tok);
    pith_llama_free(ctx, m);
    pith_ctx_free(alone);
    pith_ctx_free(ctx);
}

static void test_measures(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tokenizer *tok;
    pith_llama *m = open_model(ctx, false, &tok), *exact = open_model(ctx, true, NULL);
    pith_ids ids = {0};
    assert_ok(ctx, pith_tokenize(ctx, tok, text, sizeof text - 1, PITH_TOKENIZE_PLAIN, &ids));
    assert_true(ids.n > 256 && ids.n < 384);
    pith_eval_options o = {.context = 128};
    pith_eval_result r;
    assert_ok(ctx, pith_eval_text(ctx, m, exact, ids.ids, ids.n, pith_tokenizer_bos(tok), &o, &r));
    /* simple prose: a model that is wired wrongly has a perplexity of thousands */
    if (!(r.perplexity > 3 && r.perplexity < 30)) fail_msg("perplexity %g", r.perplexity);
    /* 8-bit activations against f32 on the same weights */
    if (!(r.kl_mean > 0 && r.kl_mean < 0.006)) fail_msg("KL %g", r.kl_mean);
    assert_true(fabs(r.perplexity / r.reference_perplexity - 1) < 0.02 && r.top1_agreement > 0.95);
    pith_ids_free(ctx, &ids);
    pith_tokenizer_free(ctx, tok);
    pith_llama_free(ctx, exact);
    pith_llama_free(ctx, m);
    pith_ctx_free(ctx);
}

static bool in_last_layer(void *user, const char *name) { return (void)user, strncmp(name, "blk.29.", 7) == 0; }

static double loss_by_tape(pith_ctx *ctx, pith_tape *tape, pith_llama *m, const int32_t *ids, size_t n_texts, size_t len, bool checkpoint, pith_var **loss)
{
    int32_t next[256];
    assert_true(n_texts * len <= PITH_COUNT(next));
    for (size_t i = 0; i < n_texts * len; i++) next[i] = (i + 1) % len ? ids[i + 1] : PITH_NO_LABEL;
    pith_tape_step(tape, 0);
    *loss = pith_var_cross_entropy(pith_llama_record(tape, m, ids, n_texts, len, checkpoint), next);
    assert_ok(ctx, pith_tape_status(tape));
    return (double)(*loss)->data[0];
}

/* The loss on a text is that of an evaluation, whatever the weights are kept in, and a step of training lowers it. */
static void test_trains(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    for (int exact = 0; exact < 2; exact++) {
        pith_tokenizer *tok;
        pith_llama *m = open_model(ctx, exact, &tok);
        pith_ids ids = {0};
        pith_tape *tape;
        pith_var *loss;
        pith_optimizer *optimizer;
        pith_eval_result r;
        assert_ok(ctx, pith_tokenize(ctx, tok, text, sizeof text - 1, PITH_TOKENIZE_PLAIN, &ids));
        assert_ok(ctx, pith_eval_text(ctx, m, NULL, ids.ids, ids.n, -1, &(pith_eval_options){.context = 128, .n_chunks = 2, .all_tokens = true}, &r));
        assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
        pith_tape_record(tape, false);
        double fixed = loss_by_tape(ctx, tape, m, ids.ids, 2, 128, false, &loss);
        /* the evaluation's cache is f16; 8-bit inputs may fall to another side */
        if (!(fabs(fixed - r.nll_mean) < (exact ? 1e-3 : 5e-3))) fail_msg("exact %d: the tape's loss is %.6f, the evaluation's %.6f", exact, fixed, r.nll_mean);
        assert_ok(ctx, pith_llama_train(ctx, m, tape, &(pith_llama_training){.chosen = in_last_layer}));
        assert_ok(ctx, pith_optimizer_new(tape, &(pith_optimizer_options){.kind = PITH_ADAMW}, &optimizer));
        double before = loss_by_tape(ctx, tape, m, ids.ids, 1, 128, true, &loss);
        assert_ok(ctx, pith_backward(tape, loss, 0));
        assert_ok(ctx, pith_optimizer_step(optimizer, 3e-4f));
        double after = loss_by_tape(ctx, tape, m, ids.ids, 1, 128, true, &loss);
        if (!(after < before - 0.02)) fail_msg("exact %d: a step changed the loss from %.4f to %.4f", exact, before, after);
        pith_optimizer_free(optimizer);
        pith_llama_free(ctx, m);
        pith_tape_free(tape);
        pith_ids_free(ctx, &ids);
        pith_tokenizer_free(ctx, tok);
    }
    pith_ctx_free(ctx);
}

int main(void)
{
    path = getenv("PITH_TEST_MODEL");
    if (!path || !*path) {
        fprintf(stderr, "PITH_TEST_MODEL is not set\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_speaks), cmocka_unit_test(test_measures), cmocka_unit_test(test_trains)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
