/* Ids of many texts, for the oracle script:  tokenize_file VOCAB TEXTS IDS [SECONDS]
 * VOCAB   a tokenizer.json, or a model file that pith_model_file_open knows
 * TEXTS   texts one after the other, each a 32-bit little-endian length and its bytes
 * IDS     written: per text a 32-bit count and the ids, as 32-bit integers
 * With SECONDS the texts are encoded again and again for that time, and bytes and seconds of the fastest pass are printed. */
#include <stdio.h>
#include <stdlib.h>

#include "format/hf_tokenizer.h"
#include "text/tokenizer.h"

static void log_line(void *user, pith_log_level level, const char *line)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", line);
}

static pith_status load(pith_ctx *ctx, const char *path, pith_tokenizer **tok)
{
    size_t n = strlen(path);
    pith_status status;
    if (n > 5 && !strcmp(path + n - 5, ".json")) {
        pith_map map;
        pith_vocab vocab;
        PITH_TRY(pith_map_open(ctx, path, &map));
        pith_arena *arena = pith_arena_new(ctx);
        status = arena ? pith_hf_vocab_read(ctx, arena, (const char *)map.data, map.len, NULL, 0, &vocab) : PITH_E_MEMORY;
        if (status == PITH_OK) status = pith_tokenizer_new(ctx, &vocab, tok);
        pith_arena_free(arena);
        pith_map_close(ctx, &map);
        return status;
    }
    pith_model_file *file;
    PITH_TRY(pith_model_file_open(ctx, path, &file));
    status = pith_tokenizer_new(ctx, &file->vocab, tok);
    pith_model_file_close(ctx, file);
    return status;
}

static pith_status encode_all(pith_ctx *ctx, const pith_tokenizer *tok, const pith_map *texts, FILE *ids_file, pith_ids *ids, size_t *bytes)
{
    *bytes = 0;
    for (size_t at = 0; at + 4 <= texts->len;) {
        size_t len = pith_le32(texts->data + at);
        at += 4;
        if (len > texts->len - at) return pith_fail(ctx, PITH_E_FORMAT, "a text of %zu bytes at %zu", len, at);
        ids->n = 0;
        PITH_TRY(pith_tokenize(ctx, tok, (const char *)texts->data + at, len, PITH_TOKENIZE_SPECIAL | PITH_TOKENIZE_BOS_EOS, ids));
        uint32_t n = (uint32_t)ids->n;
        if (ids_file && (fwrite(&n, 4, 1, ids_file) != 1 || fwrite(ids->ids, 4, n, ids_file) != n)) return pith_fail(ctx, PITH_E_IO, "cannot write ids");
        at += len;
        *bytes += len;
    }
    return PITH_OK;
}

int main(int argc, char **argv)
{
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_WARN, .log = log_line};
    pith_ctx *ctx;
    pith_tokenizer *tok = NULL;
    pith_map texts = {0};
    pith_ids ids = {0};
    size_t bytes = 0;
    if (argc < 4 || pith_ctx_new(&o, &ctx) != PITH_OK) return 2;
    double start = pith_now_s();
    pith_status status = load(ctx, argv[1], &tok);
    double load_s = pith_now_s() - start;
    if (status == PITH_OK) status = pith_map_open(ctx, argv[2], &texts);
    FILE *file = fopen(argv[3], "wb");
    if (!file) return 2;
    if (status == PITH_OK) status = encode_all(ctx, tok, &texts, file, &ids, &bytes);
    if (fclose(file) && status == PITH_OK) status = pith_fail(ctx, PITH_E_IO, "cannot write %s", argv[3]);
    if (argc > 4 && status == PITH_OK) {
        double best = 1e9, until = pith_now_s() + atof(argv[4]);
        while (status == PITH_OK && pith_now_s() < until) {
            double t = pith_now_s();
            status = encode_all(ctx, tok, &texts, NULL, &ids, &bytes);
            best = PITH_MIN(best, pith_now_s() - t);
        }
        printf("%zu %.6f %.6f\n", bytes, best, load_s);
    }
    if (status != PITH_OK) fprintf(stderr, "tokenize_file: %s: %s\n", pith_status_text(status), pith_error(ctx));
    pith_ids_free(ctx, &ids);
    pith_map_close(ctx, &texts);
    pith_tokenizer_free(ctx, tok);
    pith_ctx_free(ctx);
    return status != PITH_OK;
}
