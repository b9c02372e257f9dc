/* Opening a model whatever its format. */
#include <dirent.h>
#include <sys/stat.h>

#include "format/gguf.h"
#include "format/safetensors.h"
#include "format/settings.h"
#include "format/pith_file.h"

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
    if (n >= 8 && memcmp(head, PITH_FILE_MAGIC, 8) == 0) return n >= PITH_FILE_HEADER && pith_le64(head + 48) ? PITH_FILE_STORED : PITH_FILE_PITH;
    /* a JSON header's length (the format allows 100 MB), then the header */
    if (n >= 9 && head[8] == '{' && pith_le64(head) <= (uint64_t)100 << 20) return PITH_FILE_SAFETENSORS;
    return PITH_FILE_UNKNOWN;
}

static bool is_model_folder(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) return false;
    bool found = false;
    for (struct dirent *e; !found && (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        found = strcmp(e->d_name, "config.json") == 0 || (n > 12 && strcmp(e->d_name + n - 12, ".safetensors") == 0);
    }
    closedir(dir);
    return found;
}

pith_file_kind pith_file_sniff(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return PITH_FILE_UNKNOWN;
    if (S_ISDIR(st.st_mode)) return is_model_folder(path) ? PITH_FILE_SAFETENSORS : PITH_FILE_UNKNOWN;
    if (!S_ISREG(st.st_mode)) return PITH_FILE_UNKNOWN; /* reading would take bytes from a pipe */
    FILE *f = fopen(path, "rbe");
    if (!f) return PITH_FILE_UNKNOWN;
    uint8_t head[PITH_FILE_HEADER];
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    return kind_of(head, n);
}

static pith_status open_file(pith_ctx *ctx, pith_model_file *file)
{
    file->maps = pith_calloc(ctx, 1, sizeof *file->maps);
    if (!file->maps) return PITH_E_MEMORY;
    PITH_TRY(pith_map_open(ctx, file->path, &file->maps[0]));
    file->n_maps = 1;
    const pith_map *map = &file->maps[0];
    file->file_bytes = map->len;
    switch (kind_of(map->data, map->len)) {
    case PITH_FILE_GGUF: return pith_gguf_open(ctx, file);
    case PITH_FILE_SAFETENSORS:
        file->kind = PITH_FILE_SAFETENSORS;
        pith_log(ctx, PITH_LOG_INFO, "%s: tensors alone; settings and tokenizer are read from a model folder", file->path);
        return pith_safetensors_parse(ctx, file->path, map->data, map->len, file);
    case PITH_FILE_PITH:
    case PITH_FILE_STORED: return pith_fail(ctx, PITH_E_FORMAT, "%s: is compressed already, and this takes a GGUF or safetensors file or a model folder", file->path);
    default: return pith_fail(ctx, PITH_E_FORMAT, "%s: neither a GGUF nor a safetensors file nor a model folder", file->path);
    }
}

pith_status pith_model_file_open(pith_ctx *ctx, const char *path, pith_model_file **result)
{
    struct stat st;
    pith_model_file *file;
    PITH_TRY(pith_model_file_new(ctx, path, &file));
    bool is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    pith_status status = is_folder ? pith_model_folder_open(ctx, file) : open_file(ctx, file);
    if (status != PITH_OK) {
        pith_model_file_close(ctx, file);
        return status;
    }
    *result = file;
    return PITH_OK;
}
