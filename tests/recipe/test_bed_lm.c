/* The language bed, in its quick form, on text made here: what it leaves is a model that runs, is measured and
 * compressed like any other, and the same again from the same seed. */
#include <stdlib.h>
#include <unistd.h>

#include "eval/eval.h"
#include "recipe/compress.h"
#include "recipe/run.h"
#include "test.h"
#include "text/tokenizer.h"

/* Sentences of made-up words, 2.8 MB, where the data set `text` looks for a book: its test split is every twentieth 64 KiB. */
static void write_text(pith_ctx *ctx, const char *folder)
{
    char *books = pith_format(ctx, "%s/text/canterbury", folder), *path = pith_format(ctx, "%s/alice29.txt", books);
    assert_ok(ctx, pith_folder_make(ctx, books));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    static const char *const parts[] = {"ta", "lo", "ri", "men", "sho", "ve", "ka", "din"};
    pith_rng rng = {.seed = 4};
    for (size_t n = 0, column = 0; n < 2800000;) {
        char word[16] = "";
        for (uint32_t k = 1 + pith_rng_below(&rng, 3); k--;) strcat(word, parts[pith_rng_below(&rng, PITH_COUNT(parts))]);
        int len = fprintf(f, "%s%s", word, ++column % 12 ? " " : column % 60 ? ".\n" : ".\n\n");
        assert_true(len > 0);
        n += (size_t)len;
    }
    assert_int_equal(fclose(f), 0);
    pith_free(ctx, path);
    pith_free(ctx, books);
}

static void test_bed(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    char here[2048], *folder;
    assert_non_null(getcwd(here, sizeof here));
    folder = pith_format(ctx, "%s/bed-lm-XXXXXX", here);
    assert_non_null(mkdtemp(folder));
    char *data = pith_format(ctx, "%s/data", folder), *packed = pith_format(ctx, "%s/lm.pith", folder);
    write_text(ctx, data);
    setenv("PITH_DATA", data, 1);
    setenv("XDG_CACHE_HOME", folder, 1);
    pith_bed *bed, *again;
    assert_ok(ctx, pith_bed_get(ctx, "lm1m", true, 3, &bed));
    assert_false(bed->was_cached);
    double ppl, bits, recall;
    assert_ok(ctx, pith_bed_value(bed, "lm", "ppl", &ppl));
    assert_ok(ctx, pith_bed_value(bed, "lm", "bits_per_byte", &bits));
    assert_ok(ctx, pith_bed_value(bed, "lm", "recall", &recall));
    assert_true(ppl > 2 && ppl < 512 && bits > 0 && bits < 8 && recall >= 0 && recall <= 1);
    assert_ok(ctx, pith_bed_get(ctx, "lm1m", true, 3, &again));
    assert_true(again->was_cached);
    pith_bed_close(again);

    /* as a model: measured again to the same */
    pith_weights *w;
    pith_llama *m;
    pith_tokenizer *tok;
    pith_ids ids = {0};
    assert_ok(ctx, pith_weights_open(ctx, bed->folder, NULL, &w));
    assert_ok(ctx, pith_llama_new(ctx, w, &m));
    assert_ok(ctx, pith_tokenizer_new(ctx, w->vocab, &tok));
    assert_int_equal(m->s.n_vocab, pith_tokenizer_size(tok));
    static const char text[] = "talori menshove kadin lota. <|endoftext|>";
    assert_ok(ctx, pith_tokenize(ctx, tok, text, sizeof text - 1, PITH_TOKENIZE_SPECIAL, &ids));
    assert_true(pith_token_ends(tok, ids.ids[ids.n - 1]));
    pith_eval_result r;
    assert_ok(ctx, pith_eval_text(ctx, m, NULL, ids.ids, ids.n, -1, &(pith_eval_options){.context = ids.n, .all_tokens = true}, &r));
    assert_true(r.perplexity > 1 && r.perplexity < 2000);
    pith_ids_free(ctx, &ids);
    pith_tokenizer_free(ctx, tok);
    pith_llama_free(ctx, m);
    pith_weights_free(ctx, w);

    /* and compressed, in small */
    pith_compress_result c;
    assert_ok(ctx, pith_compress(ctx, bed->folder, packed, &(pith_compress_options){.exact = PITH_EXACT_NEVER}, &c));
    assert_true(c.file_bytes < c.source_bytes / 2);
    assert_ok(ctx, pith_weights_open(ctx, packed, NULL, &w));
    assert_ok(ctx, pith_llama_new(ctx, w, &m));
    pith_llama_free(ctx, m);
    pith_weights_free(ctx, w);

    pith_bed_close(bed);
    assert_ok(ctx, pith_folder_remove(ctx, folder));
    pith_free(ctx, packed);
    pith_free(ctx, data);
    pith_free(ctx, folder);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
