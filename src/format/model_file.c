/* Opening a model whatever its format. */
#include <stdlib.h>
#include <sys/stat.h>

#include "format/gguf.h"
#include "format/settings.h"

pith_status pith_model_file_new(pith_ctx *ctx, const char *path, pith_model_file **result)
{
    pith_model_file *file = pith_calloc(ctx, 1, sizeof *file);
    if (!file) return PITH_E_MEMORY;
    file->vocab.bos = file->vocab.eos = file->vocab.unk = file->vocab.pad = file->vocab.eot = -1;
    pith_settings_default(&file->settings);
    file->path = pith_strdup(ctx, path);
    file->arena = pith_arena_new(ctx);
    if (!file->path || !file->arena) {
        pith_model_file_close(ctx, file);
        return PITH_E_MEMORY;
    }
    *result = file;
    return PITH_OK;
}

void pith_model_file_close(pith_ctx *ctx, pith_model_file *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->n_maps; i++) pith_map_close(ctx, &file->maps[i]);
    pith_free(ctx, file->maps);
    pith_arena_free(file->arena);
    pith_free(ctx, file->path);
    pith_free(ctx, file);
}

const pith_named_tensor *pith_model_file_find(const pith_model_file *file, const char *name)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

static pith_file_kind kind_of(const uint8_t *head, size_t n)
{
    if (n >= 4 && memcmp(head, "GGUF", 4) == 0) return PITH_FILE_GGUF;
    return PITH_FILE_UNKNOWN;
}

pith_file_kind pith_file_sniff(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return PITH_FILE_UNKNOWN;
    FILE *f = fopen(path, "rbe");
    if (!f) return PITH_FILE_UNKNOWN;
    uint8_t head[16];
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    return kind_of(head, n);
}

pith_status pith_model_file_open(pith_ctx *ctx, const char *path, pith_model_file **result)
{
    pith_model_file *file;
    PITH_TRY(pith_model_file_new(ctx, path, &file));
    pith_status status = PITH_E_MEMORY;
    file->maps = pith_calloc(ctx, 1, sizeof *file->maps);
    if (!file->maps) goto done;
    PITH_GOTO(pith_map_open(ctx, path, &file->maps[0]), done);
    file->n_maps = 1;
    file->file_bytes = file->maps[0].len;
    switch (kind_of(file->maps[0].data, file->maps[0].len)) {
    case PITH_FILE_GGUF: status = pith_gguf_open(ctx, file); break;
    default: status = pith_fail(ctx, PITH_E_FORMAT, "%s: neither a GGUF, safetensors nor .pith file nor a model folder", path); break;
    }
done:
    if (status != PITH_OK) {
        pith_model_file_close(ctx, file);
        return status;
    }
    *result = file;
    return PITH_OK;
}
