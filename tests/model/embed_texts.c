/* The sentence embeddings of lines: embed_texts FOLDER < TEXT > EMBEDDINGS
 *
 * FOLDER has a sentence-transformers model of BERT's shape (model.safetensors, tokenizer.json).  Of each line at most 256
 * tokens count; 16 lines go through at once.  Out: f32, [lines, width].  For minilm_test.py. */
#include <stdlib.h>

#include "format/hf_tokenizer.h"
#include "model/net.h"
#include "text/tokenizer.h"

#define BATCH ((size_t)16)
#define MAX_TOKENS ((size_t)256)

typedef struct embedder {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_net *net;
    pith_tokenizer *tok;
} embedder;

static pith_status open_tokenizer(embedder *e, const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    pith_map map;
    PITH_TRY(pith_map_open(e->ctx, path, &map));
    pith_arena *arena = pith_arena_new(e->ctx);
    pith_vocab vocab;
    pith_status status = arena ? pith_hf_vocab_read(e->ctx, arena, (const char *)map.data, map.len, NULL, 0, &vocab) : PITH_E_MEMORY;
    if (status == PITH_OK) status = pith_tokenizer_new(e->ctx, &vocab, &e->tok);
    pith_arena_free(arena);
    pith_map_close(e->ctx, &map);
    return status;
}

static pith_status open_all(embedder *e, const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    PITH_TRY(pith_tape_new(e->ctx, 0, &e->tape));
    PITH_TRY(pith_net_new(e->tape, "minilm", NULL, PITH_NET_BLANK, &e->net));
    PITH_TRY(pith_net_load(e->net, path, NULL));
    return open_tokenizer(e, folder);
}

/* The tokens of a line between [CLS] and [SEP], at most MAX_TOKENS of them, padded with 0. */
static pith_status tokens_of(embedder *e, const char *line, size_t len, int32_t *row, int32_t *n)
{
    pith_ids ids = {0};
    PITH_TRY(pith_tokenize(e->ctx, e->tok, line, len, PITH_TOKENIZE_PLAIN, &ids));
    *n = 0;
    row[(*n)++] = pith_tokenizer_find(e->tok, "[CLS]", 5);
    for (size_t i = 0; i < ids.n && i < MAX_TOKENS - 2; i++) row[(*n)++] = ids.ids[i];
    row[(*n)++] = pith_tokenizer_find(e->tok, "[SEP]", 5);
    pith_ids_free(e->ctx, &ids);
    return PITH_OK;
}

static pith_status embed(embedder *e, const int32_t *rows, const int32_t *n_tokens, size_t n)
{
    static int32_t ids[BATCH * MAX_TOKENS];
    size_t len = 1;
    for (size_t i = 0; i < n; i++) len = PITH_MAX(len, (size_t)n_tokens[i]);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < len; k++) ids[i * len + k] = k < (size_t)n_tokens[i] ? rows[i * MAX_TOKENS + k] : 0;
    pith_tape_step(e->tape, 0);
    pith_tape_record(e->tape, false);
    pith_var *y = pith_net_run(e->net, &(pith_net_input){.ids = ids, .n = n, .len = len, .n_tokens = n_tokens});
    if (y) fwrite(y->data, sizeof(float), y->count, stdout);
    return pith_tape_status(e->tape);
}

static pith_status embed_lines(embedder *e)
{
    static int32_t rows[BATCH * MAX_TOKENS], n_tokens[BATCH];
    static char line[1 << 16];
    size_t n = 0;
    while (fgets(line, sizeof line, stdin)) {
        PITH_TRY(tokens_of(e, line, strcspn(line, "\n"), rows + n * MAX_TOKENS, &n_tokens[n]));
        if (++n < BATCH) continue;
        PITH_TRY(embed(e, rows, n_tokens, n));
        n = 0;
    }
    return n ? embed(e, rows, n_tokens, n) : PITH_OK;
}

int main(int argc, char **argv)
{
    embedder e = {0};
    pith_status status = argc == 2 ? pith_ctx_new(NULL, &e.ctx) : PITH_E_ARGUMENT;
    if (status == PITH_OK) status = open_all(&e, argv[1]);
    if (status == PITH_OK) status = embed_lines(&e);
    if (status != PITH_OK) fprintf(stderr, "embed_texts: %s\n", e.ctx ? pith_error(e.ctx) : "embed_texts FOLDER < TEXT > EMBEDDINGS");
    pith_tokenizer_free(e.ctx, e.tok);
    pith_net_free(e.net);
    pith_tape_free(e.tape);
    pith_ctx_free(e.ctx);
    return status != PITH_OK;
}
