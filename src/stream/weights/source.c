#include "stream/weights/source.h"

#include "stream/weights/lossless.h"

/* The model among what was restored: the folder itself, or its one file. */
static pith_status open_restored(pith_ctx *ctx, const pith_reader *r, const char *folder, pith_model_file **file)
{
    char *inside = r->manifest.stored.is_folder ? pith_strdup(ctx, folder) : pith_format(ctx, "%s/%s", folder, r->manifest.stored.files[0].name);
    if (!inside) return PITH_E_MEMORY;
    pith_status status = pith_lossless_restore(ctx, r, inside);
    if (status == PITH_OK) status = pith_model_file_open(ctx, inside, file);
    pith_free(ctx, inside);
    return status;
}

/* What went wrong before stays what is said. */
static void remove_scratch(pith_ctx *ctx, const char *folder, pith_status status)
{
    char said[1024];
    snprintf(said, sizeof said, "%s", pith_error(ctx));
    if (pith_folder_remove(ctx, folder) == PITH_OK) return;
    pith_log(ctx, PITH_LOG_WARN, "%s: scratch stays behind", folder);
    if (status != PITH_OK) pith_fail(ctx, status, "%s", said);
}

pith_status pith_source_open(pith_ctx *ctx, const char *path, pith_model_file **file, uint64_t *stored_bytes)
{
    pith_reader r;
    char *folder, *name;
    if (pith_file_sniff(path) != PITH_FILE_STORED) {
        PITH_TRY(pith_model_file_open(ctx, path, file));
        *stored_bytes = (*file)->file_bytes;
        return PITH_OK;
    }
    PITH_TRY(pith_reader_open(ctx, path, 0, &r));
    pith_status status = pith_folder_scratch(ctx, &folder);
    if (status == PITH_OK) {
        pith_log(ctx, PITH_LOG_INFO, "%s: holds files to the bit, which are put in %s for as long as they are read", path, folder);
        status = open_restored(ctx, &r, folder, file);
        if (status != PITH_OK && strncmp(pith_error(ctx), path, strlen(path))) status = pith_fail_at(ctx, status, "%s", path);
        remove_scratch(ctx, folder, status);
        pith_free(ctx, folder);
    }
    if (status == PITH_OK && !(name = pith_strdup(ctx, path))) {
        pith_model_file_close(ctx, *file);
        status = PITH_E_MEMORY;
    }
    if (status == PITH_OK) {
        pith_free(ctx, (*file)->path);
        (*file)->path = name;
        *stored_bytes = r.file_bytes;
    }
    pith_reader_close(ctx, &r);
    return status;
}
