/* Where data is, and reading it from there. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/readers.h"
#include "data/sets.h"

#define UNPACKED_LIMIT ((size_t)1 << 30)

/* snprintf that says whether it fitted */
static bool PITH_PRINTF(2, 3) put(char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path, PITH_DATA_PATH, format, args);
    va_end(args);
    return n >= 0 && n < PITH_DATA_PATH;
}

bool pith_data_cache(char *path)
{
    const char *root, *below;
    return pith_cache_root(&root, &below) && put(path, "%s%s/pith/data", root, below);
}

bool pith_data_cached_path(const pith_data_file *f, char *path)
{
    char cache[PITH_DATA_PATH];
    return f->package && pith_data_cache(cache) && put(path, "%s/%s%s%s/%s", cache, f->package, f->version ? "-" : "", f->version ? f->version : "", f->path);
}

static bool is_folder(const char *path) { return path[strlen(path) - 1] == '/'; }

static bool is_there(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && (is_folder(path) ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)) && access(path, R_OK) == 0;
}

/* A folder that was fetched has a mark once all of it is there. */
static bool is_whole(const char *folder)
{
    char mark[PITH_DATA_PATH];
    return put(mark, "%s%s", folder, PITH_DATA_WHOLE) && is_there(mark);
}

bool pith_data_locate(const pith_data_file *f, char *path)
{
    if (f->from == PITH_FROM_FOLDER) {
        const char *folder = getenv("PITH_DATA");
        return folder && *folder && put(path, "%s/%s", folder, f->path) && is_there(path);
    }
    if (pith_data_cached_path(f, path) && is_there(path) && (!is_folder(f->path) || is_whole(path))) return true;
    return f->from == PITH_FROM_DEBIAN && put(path, "/%s", f->path) && is_there(path);
}

bool pith_data_group_there(const pith_data_set *set, int group)
{
    char path[PITH_DATA_PATH];
    bool any = false;
    for (const pith_data_file *f = set->files; f && f->path; f++) {
        if (f->group != group) continue;
        if (!pith_data_locate(f, path)) return false;
        any = true;
    }
    return any;
}

pith_status pith_data_missing(const pith_data_request *r, const char *what)
{
    const pith_data_file *folder = NULL, *fetched = NULL;
    for (const pith_data_file *f = r->set->files; f && f->path; f++) {
        if (f->from == PITH_FROM_FOLDER && !folder) folder = f;
        if (f->from != PITH_FROM_FOLDER && !fetched) fetched = f;
    }
    if (fetched) return pith_fail(r->ctx, PITH_E_IO, "%s: %s not there; type: pith data get %s", r->set->name, what, r->set->name);
    return pith_fail(r->ctx, PITH_E_IO, "%s: %s not there; put the files in a folder, as %s and its like, and set PITH_DATA to it", r->set->name, what, folder ? folder->path : "files");
}

static pith_status check(pith_ctx *ctx, const pith_data_file *f, const pith_map *map)
{
    uint64_t hash = f->checksum ? pith_hash(map->data, map->len) : 0;
    if (hash == f->checksum) return PITH_OK;
    return pith_fail(ctx, PITH_E_CORRUPT, "%s: its checksum is %016llx, not %016llx; remove it and fetch it again", map->path, (unsigned long long)hash, (unsigned long long)f->checksum);
}

pith_status pith_data_check(pith_ctx *ctx, const pith_data_file *f, const char *path)
{
    pith_map map;
    PITH_TRY(pith_map_open(ctx, path, &map));
    pith_status status = check(ctx, f, &map);
    pith_map_close(ctx, &map);
    return status;
}

pith_status pith_data_read(pith_ctx *ctx, const pith_data_file *f, char *path, uint8_t **data, size_t *len)
{
    if (!pith_data_locate(f, path)) return pith_fail(ctx, PITH_E_IO, "%s: not there", f->path);
    pith_map map;
    PITH_TRY(pith_map_open(ctx, path, &map));
    pith_status status = check(ctx, f, &map);
    if (status == PITH_OK && (pith_ends_with(path, ".gz") || pith_ends_with(path, ".dz"))) {
        status = pith_gunzip(ctx, path, map.data, map.len, UNPACKED_LIMIT, data, len);
    } else if (status == PITH_OK) {
        *data = pith_alloc(ctx, map.len);
        if (*data && map.len) memcpy(*data, map.data, map.len);
        *len = map.len;
        status = *data ? PITH_OK : PITH_E_MEMORY;
    }
    pith_map_close(ctx, &map);
    return status;
}
