/* A tokenizer learned from a file, for the oracle script:  train_file TEXT N PRE TOKENIZER_JSON; prints the seconds. */
#include <stdio.h>
#include <stdlib.h>

#include "format/hf_tokenizer.h"
#include "text/bpe_train.h"

int main(int argc, char **argv)
{
    static const char *const controls[] = {"<|endoftext|>"};
    pith_ctx *ctx;
    if (argc != 5 || pith_ctx_new(NULL, &ctx) != PITH_OK) return 2;
    pith_map text = {0};
    pith_vocab vocab;
    pith_arena *arena = pith_arena_new(ctx);
    pith_status status = arena ? pith_map_open(ctx, argv[1], &text) : PITH_E_MEMORY;
    pith_bpe_options o = {.n_tokens = strtoul(argv[2], NULL, 10), .pre = argv[3], .controls = controls, .n_controls = 1};
    double start = pith_now_s();
    if (status == PITH_OK) status = pith_bpe_train(ctx, arena, &(pith_str){(const char *)text.data, text.len}, 1, &o, &vocab);
    if (status == PITH_OK) printf("%.3f\n", pith_now_s() - start);
    if (status == PITH_OK) status = pith_hf_vocab_write(ctx, &vocab, argv[4], NULL);
    if (status != PITH_OK) fprintf(stderr, "%s\n", pith_error(ctx));
    pith_map_close(ctx, &text);
    pith_arena_free(arena);
    pith_ctx_free(ctx);
    return status != PITH_OK;
}
