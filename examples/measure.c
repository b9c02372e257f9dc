/* Measure what compression cost: how far a small model is from the one it was made of, on a text.
 *
 *     cc measure.c $(pkg-config --cflags --libs pith) -o measure
 *     ./measure small.pith model.gguf text.txt */
#include <pith.h>
#include <stdio.h>
#include <stdlib.h>

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    if (f && fseek(f, 0, SEEK_END) == 0) {
        long size = ftell(f);
        rewind(f);
        text = size >= 0 ? malloc((size_t)size + 1) : NULL;
        *len = text ? fread(text, 1, (size_t)size, f) : 0;
    }
    if (f) fclose(f);
    return text;
}

int main(int argc, char **argv)
{
    pith_ctx *ctx = NULL;
    pith_model *small = NULL, *source = NULL;
    size_t len = 0;
    if (argc != 4) {
        fprintf(stderr, "usage: measure SMALL SOURCE TEXT\n");
        return 2;
    }
    char *text = read_file(argv[3], &len);
    if (!text || pith_ctx_new(NULL, &ctx) != PITH_OK) {
        fprintf(stderr, "measure: cannot read %s\n", argv[3]);
        free(text);
        return 1;
    }

    pith_measure m;
    pith_model_options exact = {.exact = true}; /* the reference keeps its file's values to the last bit */
    pith_status status = pith_model_open(ctx, argv[1], NULL, &small);
    if (status == PITH_OK) status = pith_model_open(ctx, argv[2], &exact, &source);
    if (status == PITH_OK) status = pith_model_measure(small, source, text, len, &(pith_measure_options){.n_context = 128, .n_chunks = 4}, &m);
    if (status == PITH_OK) {
        pith_model_info info;
        pith_model_describe(small, &info);
        printf("%.3f bits per weight\nperplexity %.3f (source: %.3f)\nKL divergence %.5f nats a token\nsame top token %.1f%%\n", info.bits_per_weight,
               m.perplexity, m.reference_perplexity, m.kl_mean, 100 * m.top1_agreement);
    } else {
        fprintf(stderr, "measure: %s\n", pith_error(ctx));
    }

    pith_model_free(source);
    pith_model_free(small);
    pith_ctx_free(ctx);
    free(text);
    return status == PITH_OK ? 0 : 1;
}
