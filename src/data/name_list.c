/* Names of what is in a folder. */
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "data/sets.h"

#define MAX_DEPTH 8

void pith_name_list_free(pith_name_list *l)
{
    for (size_t i = 0; i < l->n; i++) pith_free(l->ctx, l->name[i]);
    pith_free(l->ctx, l->name);
    *l = (pith_name_list){0};
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool has_end(const char *name, const char *const *ends)
{
    size_t n = strlen(name);
    for (size_t i = 0; ends[i]; i++)
        if (n > strlen(ends[i]) && strcasecmp(name + n - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

pith_status pith_name_list_add(pith_name_list *l, const char *name)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        char **grown = pith_resize(l->ctx, l->name, cap * sizeof *grown);
        if (!grown) return PITH_E_MEMORY;
        l->name = grown;
        l->cap = cap;
    }
    l->name[l->n] = pith_strdup(l->ctx, name);
    return l->name[l->n] ? (l->n++, PITH_OK) : PITH_E_MEMORY;
}

/* below: "" or "a/b/", the folder within the one that was asked for */
static pith_status add_folder(pith_name_list *l, const char *path, const char *below, const char *const *ends, int depth)
{
    char folder[2 * PITH_DATA_PATH], whole[3 * PITH_DATA_PATH], name[PITH_DATA_PATH];
    snprintf(folder, sizeof folder, "%s/%s", path, below);
    DIR *dir = opendir(folder);
    if (!dir) return pith_fail(l->ctx, PITH_E_IO, "%s: cannot be read as a folder", folder);
    pith_status status = PITH_OK;
    for (struct dirent *entry; status == PITH_OK && (entry = readdir(dir));) {
        struct stat st;
        snprintf(whole, sizeof whole, "%s%s", folder, entry->d_name);
        if (entry->d_name[0] == '.' || stat(whole, &st) != 0) continue;
        bool is_folder = S_ISDIR(st.st_mode), deeper = is_folder && depth > 0;
        if (snprintf(name, sizeof name, "%s%s%s", below, entry->d_name, deeper ? "/" : "") >= (int)sizeof name) continue;
        if (deeper) status = add_folder(l, path, name, ends, depth - 1);
        else if (ends ? S_ISREG(st.st_mode) && has_end(name, ends) : is_folder) status = pith_name_list_add(l, name);
    }
    closedir(dir);
    return status;
}

static pith_status list(pith_ctx *ctx, const char *path, const char *const *ends, int depth, pith_name_list *l)
{
    *l = (pith_name_list){.ctx = ctx};
    pith_status status = strlen(path) < PITH_DATA_PATH ? add_folder(l, path, "", ends, depth) : pith_fail(ctx, PITH_E_ARGUMENT, "a path of %zu bytes is too long", strlen(path));
    if (status != PITH_OK) pith_name_list_free(l);
    else if (l->n) qsort(l->name, l->n, sizeof *l->name, by_name);
    return status;
}

pith_status pith_name_list_read(pith_ctx *ctx, const char *path, const char *const *ends, pith_name_list *l) { return list(ctx, path, ends, 0, l); }

pith_status pith_name_list_walk(pith_ctx *ctx, const char *path, const char *const *ends, pith_name_list *l) { return list(ctx, path, ends, MAX_DEPTH, l); }

/* One block: pointers, then text. */
pith_status pith_name_list_give(const pith_name_list *l, pith_dataset *ds, pith_field *field)
{
    size_t bytes = l->n * sizeof(char *);
    for (size_t i = 0; i < l->n; i++) bytes += strlen(l->name[i]) + 1;
    if (l->n == 0) return PITH_OK;
    const char **names = ds->own = pith_alloc(ds->ctx, bytes);
    if (!names) return PITH_E_MEMORY;
    char *text = (char *)(names + l->n);
    for (size_t i = 0; i < l->n; i++) {
        names[i] = text;
        text = stpcpy(text, l->name[i]) + 1;
    }
    field->names = names;
    field->n_names = l->n;
    return PITH_OK;
}
