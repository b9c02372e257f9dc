/* Compress a model once, cut it to two sizes, and list what each has.
 *
 *     cc shrink.c $(pkg-config --cflags --libs pith) -o shrink
 *     ./shrink model.gguf model.pith */
#include <pith.h>
#include <stdio.h>

static void warn(void *user, pith_log_level level, const char *line)
{
    (void)user;
    (void)level;
    fprintf(stderr, "shrink: %s\n", line);
}

static pith_status list(pith_ctx *ctx, const char *path)
{
    pith_contents *c = NULL;
    pith_status status = pith_contents_read(ctx, path, &c);
    if (status != PITH_OK) return status;
    double kl = 0;
    for (size_t i = 0; i < c->n_entries; i++) kl += c->entries[i].kl_saved;
    printf("%s: %llu bytes, %.3f bits per weight, %zu packets that save %.3f nats a token\n", path, (unsigned long long)c->file_bytes,
           8.0 * (double)c->file_bytes / (double)c->n_weights, c->n_packets, kl);
    pith_contents_free(ctx, c);
    return PITH_OK;
}

int main(int argc, char **argv)
{
    pith_ctx *ctx = NULL;
    pith_options options = {.log = warn, .log_level = PITH_LOG_WARN};
    pith_compress_result made;
    char path[1024];
    if (argc != 3) {
        fprintf(stderr, "usage: shrink MODEL OUTPUT\n");
        return 2;
    }
    if (pith_ctx_new(&options, &ctx) != PITH_OK) return 1;

    pith_status status = pith_compress(ctx, argv[1], argv[2], &(pith_compress_options){.no_measure = true}, &made);
    if (status == PITH_OK) status = list(ctx, argv[2]);
    for (int percent = 80; percent >= 60 && status == PITH_OK; percent -= 20) {
        uint64_t bytes;
        pith_compress_options size = {.size = made.floor_bytes + (made.total_bytes - made.floor_bytes) * (uint64_t)percent / 100};
        snprintf(path, sizeof path, "%s.%d", argv[2], percent);
        status = pith_cut(ctx, argv[2], path, &size, &bytes);
        if (status == PITH_OK) status = list(ctx, path);
    }
    if (status != PITH_OK) fprintf(stderr, "shrink: %s\n", pith_error(ctx));
    pith_ctx_free(ctx);
    return status == PITH_OK ? 0 : 1;
}
