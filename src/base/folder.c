/* Folders: made with their parents, removed with what is in them, and the cache. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

char *pith_format(pith_ctx *ctx, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : pith_alloc(ctx, (size_t)len + 1);
    if (!text) return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return text;
}

pith_status pith_folder_make(pith_ctx *ctx, const char *path)
{
    char *part = pith_strdup(ctx, path);
    if (!part) return PITH_E_MEMORY;
    pith_status status = PITH_OK;
    for (char *p = part + (*part == '/'); status == PITH_OK; p++) {
        bool last = !*p;
        if (*p != '/' && !last) continue;
        *p = 0;
        struct stat st;
        if (mkdir(part, 0777) != 0 && (errno != EEXIST || stat(part, &st) != 0 || !S_ISDIR(st.st_mode)))
            status = pith_fail(ctx, PITH_E_IO, "%s: cannot make the folder: %s", part, errno == EEXIST ? "a file of this name is in the way" : strerror(errno));
        if (last) break;
        *p = '/';
    }
    pith_free(ctx, part);
    return status;
}

pith_status pith_folder_scratch(pith_ctx *ctx, char **path)
{
    const char *base = getenv("TMPDIR");
    char *folder = pith_format(ctx, "%s/pith-XXXXXX", base && base[0] ? base : "/tmp");
    if (!folder) return PITH_E_MEMORY;
    if (mkdtemp(folder)) {
        *path = folder;
        return PITH_OK;
    }
    pith_status status = pith_fail(ctx, PITH_E_IO, "%s: cannot make a folder for scratch: %s; set TMPDIR to another place", folder, strerror(errno));
    pith_free(ctx, folder);
    return status;
}

/* What is in the open folder, which is closed.  Links are removed, never followed. */
static bool empty(int fd, int depth)
{
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0) close(fd);
        return false;
    }
    bool ok = depth < 64;
    for (struct dirent *e; ok && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (unlinkat(fd, e->d_name, 0) == 0) continue;
        ok = (errno == EISDIR || errno == EPERM) && empty(openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), depth + 1) &&
             unlinkat(fd, e->d_name, AT_REMOVEDIR) == 0;
    }
    closedir(dir);
    return ok;
}

pith_status pith_folder_remove(pith_ctx *ctx, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return PITH_OK;
    if (fd < 0 || !empty(fd, 0) || rmdir(path) != 0) return pith_fail(ctx, PITH_E_IO, "%s: cannot remove the folder: %s", path, strerror(errno));
    return PITH_OK;
}

bool pith_cache_root(const char **root, const char **below)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool set = cache && cache[0] == '/'; /* a relative one is to be ignored: XDG Base Directory Specification */
    *root = set ? cache : home;
    *below = set ? "" : "/.cache";
    return set || (home && home[0]);
}

pith_status pith_cache_path(pith_ctx *ctx, const char *name, char **path)
{
    const char *root, *below;
    if (!pith_cache_root(&root, &below)) return pith_fail(ctx, PITH_E_IO, "neither XDG_CACHE_HOME nor HOME is set, so there is no place for the cache; set one");
    char *text = pith_format(ctx, "%s%s/pith/%s", root, below, name);
    if (!text) return PITH_E_MEMORY;
    *path = text;
    return PITH_OK;
}
