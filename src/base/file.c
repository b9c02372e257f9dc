/* Mapped input, and output that appears whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/base.h"

uint64_t pith_hash(const void *data, size_t len) { return XXH3_64bits(data, len); }

/* Read a pipe to its end. */
static pith_status slurp(pith_ctx *ctx, int fd, pith_map *map)
{
    uint8_t *data = NULL;
    size_t len = 0, cap = 0;
    for (;;) {
        if (len == cap) {
            size_t bigger = cap ? cap * 2 : (size_t)1 << 20;
            uint8_t *grown = pith_resize(ctx, data, bigger);
            if (!grown) {
                pith_free(ctx, data);
                return PITH_E_MEMORY;
            }
            data = grown;
            cap = bigger;
        }
        ssize_t n = read(fd, data + len, cap - len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            pith_free(ctx, data);
            return pith_fail(ctx, PITH_E_IO, "%s: %s", map->path, strerror(errno));
        }
        if (n == 0) break;
        len += (size_t)n;
    }
    map->data = data;
    map->len = len;
    map->owned_memory = true;
    return PITH_OK;
}

pith_status pith_map_open(pith_ctx *ctx, const char *path, pith_map *map)
{
    *map = (pith_map){0};
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return pith_fail(ctx, PITH_E_IO, "%s: %s", path, strerror(errno));
    pith_status status = PITH_OK;
    map->path = pith_strdup(ctx, is_stdin ? "standard input" : path);
    struct stat st;
    if (!map->path) {
        status = PITH_E_MEMORY;
    } else if (fstat(fd, &st) != 0) {
        status = pith_fail(ctx, PITH_E_IO, "%s: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        status = pith_fail(ctx, PITH_E_IO, "%s: is a folder, not a file", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = slurp(ctx, fd, map);
    } else if (st.st_size > 0) {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = pith_fail(ctx, PITH_E_IO, "%s: cannot map %lld bytes: %s", path, (long long)st.st_size, strerror(errno));
        } else {
            map->data = data;
            map->len = (size_t)st.st_size;
        }
    }
    if (!is_stdin) close(fd);
    if (status != PITH_OK) {
        pith_free(ctx, map->path);
        *map = (pith_map){0};
    }
    return status;
}

void pith_map_close(pith_ctx *ctx, pith_map *map)
{
    if (map->owned_memory) pith_free(ctx, (void *)(uintptr_t)map->data);
    else if (map->data) munmap((void *)(uintptr_t)map->data, map->len);
    pith_free(ctx, map->path);
    *map = (pith_map){0};
}

void pith_map_forget(const pith_map *map, const void *data, size_t len)
{
    uintptr_t begin = (uintptr_t)map->data, from = (uintptr_t)data, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (map->owned_memory || !map->data || from < begin || from - begin > map->len || len > map->len - (from - begin)) return;
    uintptr_t first = PITH_ROUND_UP(from, page), last = (from + len) / page * page; /* whole pages: the others are shared with a neighbour */
    if (last > first) (void)madvise((void *)first, last - first, MADV_DONTNEED);
}

/* ---- output ----------------------------------------------------------------------------------- */

#define N_PENDING 16
#define OUT_BUFFER ((size_t)1 << 18)

/* Temporary names of files being written, for a signal handler to unlink.  This is the one piece of
 * state outside a context: signals have no context. */
static _Atomic(char *) pending[N_PENDING];

struct pith_out {
    pith_ctx *ctx;
    int fd, slot;
    char *path, *temporary;   /* temporary is NULL for pipes and devices */
    uint64_t offset;          /* bytes accepted so far */
    bool failed;              /* a write was lost: closing must not put the file in place */
    size_t n_buffered;
    uint8_t buffer[OUT_BUFFER];
};

static pith_status out_error(pith_out *out, const char *what)
{
    out->failed = true;
    return pith_fail(out->ctx, PITH_E_IO, "%s: %s: %s", out->path, what, strerror(errno));
}

pith_status pith_out_open(pith_ctx *ctx, const char *path, pith_out **result)
{
    pith_out *out = pith_alloc(ctx, sizeof *out);
    if (!out) return PITH_E_MEMORY;
    *out = (pith_out){.ctx = ctx, .fd = -1, .slot = -1};
    bool is_stdout = strcmp(path, "-") == 0;
    struct stat st;
    bool exists = !is_stdout && stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) {
        pith_status status = pith_fail(ctx, PITH_E_IO, "%s: is a folder; name a file to write", path);
        pith_out_discard(out);
        return status;
    }
    /* A link stays a link: what it points to is replaced. */
    char *real = exists ? realpath(path, NULL) : NULL;
    out->path = pith_strdup(ctx, is_stdout ? "standard output" : real ? real : path);
    free(real);
    if (!out->path) goto no_memory;
    if (is_stdout || (exists && !S_ISREG(st.st_mode))) { /* a device or a pipe is written as it is, never replaced */
        out->fd = is_stdout ? STDOUT_FILENO : open(path, O_WRONLY | O_CLOEXEC);
        if (out->fd < 0) {
            pith_status status = out_error(out, "cannot open");
            pith_out_discard(out);
            return status;
        }
        *result = out;
        return PITH_OK;
    }
    size_t len = strlen(out->path) + 32;
    out->temporary = pith_alloc(ctx, len);
    if (!out->temporary) goto no_memory;
    snprintf(out->temporary, len, "%s.%ld.partial", out->path, (long)getpid());
    out->fd = open(out->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (out->fd < 0 && errno == EEXIST && unlink(out->temporary) == 0)
        out->fd = open(out->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (out->fd < 0) {
        pith_status status = out_error(out, "cannot write beside it");
        pith_out_discard(out);
        return status;
    }
    if (exists) (void)!fchmod(out->fd, st.st_mode & 0777); /* as open to others as the file it replaces */
    for (int i = 0; i < N_PENDING && out->slot < 0; i++) {
        char *empty = NULL;
        if (atomic_compare_exchange_strong(&pending[i], &empty, out->temporary)) out->slot = i;
    }
    *result = out;
    return PITH_OK;
no_memory:
    pith_out_discard(out);
    return PITH_E_MEMORY;
}

static pith_status write_all(pith_out *out, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(out->fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return out_error(out, "cannot write");
        data += n;
        len -= (size_t)n;
    }
    return PITH_OK;
}

static pith_status flush(pith_out *out)
{
    size_t n = out->n_buffered;
    out->n_buffered = 0;
    return write_all(out, out->buffer, n);
}

pith_status pith_out_write(pith_out *out, const void *data, size_t len)
{
    if (len > OUT_BUFFER - out->n_buffered) PITH_TRY(flush(out));
    if (len > OUT_BUFFER) {
        PITH_TRY(write_all(out, data, len));
    } else if (len > 0) {
        memcpy(out->buffer + out->n_buffered, data, len);
        out->n_buffered += len;
    }
    out->offset += len;
    return PITH_OK;
}

pith_status pith_out_pad(pith_out *out, size_t alignment)
{
    static const uint8_t zeros[4096];
    size_t n = (size_t)(PITH_ROUND_UP(out->offset, alignment) - out->offset);
    for (; n > 0; n -= PITH_MIN(n, sizeof zeros)) PITH_TRY(pith_out_write(out, zeros, PITH_MIN(n, sizeof zeros)));
    return PITH_OK;
}

uint64_t pith_out_tell(const pith_out *out) { return out->offset; }

pith_status pith_out_so_far(pith_out *out, const char **path)
{
    PITH_TRY(flush(out));
    *path = out->temporary;
    return PITH_OK;
}

pith_status pith_out_patch(pith_out *out, uint64_t offset, const void *data, size_t len)
{
    if (!out->temporary) return pith_fail(out->ctx, PITH_E_IO, "%s: cannot go back in a pipe", out->path);
    PITH_TRY(flush(out));
    size_t end;
    if (!pith_add(offset, len, &end) || end > out->offset) return pith_fail(out->ctx, PITH_E_INTERNAL, "%s: patch beyond what is written", out->path);
    for (const uint8_t *p = data; len > 0;) {
        ssize_t n = pwrite(out->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return out_error(out, "cannot write");
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return PITH_OK;
}

static void out_free(pith_out *out)
{
    if (out->slot >= 0) atomic_store(&pending[out->slot], NULL);
    if (out->fd >= 0 && out->fd != STDOUT_FILENO) close(out->fd);
    pith_free(out->ctx, out->temporary);
    pith_free(out->ctx, out->path);
    pith_free(out->ctx, out);
}

pith_status pith_out_close(pith_out *out)
{
    pith_status status = out->failed ? PITH_E_IO : flush(out);
    if (status == PITH_OK && out->temporary) {
        if (fsync(out->fd) != 0 && errno != EINVAL && errno != ENOSYS) status = out_error(out, "cannot flush to the disk");
        else if (rename(out->temporary, out->path) != 0) status = out_error(out, "cannot put the finished file in place");
    }
    if (status != PITH_OK) {
        pith_out_discard(out);
        return status;
    }
    out_free(out);
    return PITH_OK;
}

void pith_out_discard(pith_out *out)
{
    if (!out) return;
    if (out->temporary && out->fd >= 0) unlink(out->temporary);
    out_free(out);
}

void pith_out_discard_all(void)
{
    for (int i = 0; i < N_PENDING; i++) {
        char *name = atomic_load(&pending[i]);
        if (name) unlink(name);
    }
}

pith_status pith_out_check(pith_ctx *ctx, const char *path, const char *source)
{
    struct stat to, from;
    if (strcmp(path, "-") == 0) return PITH_OK;
    bool exists = stat(path, &to) == 0;
    if (exists && strcmp(source, "-") != 0 && stat(source, &from) == 0 && to.st_dev == from.st_dev && to.st_ino == from.st_ino)
        return pith_fail(ctx, PITH_E_ARGUMENT, "%s: input and output are the same file; name another to write", path);
    if (exists && S_ISDIR(to.st_mode)) return pith_fail(ctx, PITH_E_IO, "%s: is a folder; name a file to write", path);
    if (exists && !S_ISREG(to.st_mode)) return PITH_OK; /* a device or a pipe: writing shows */
    char *folder = exists ? realpath(path, NULL) : strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
    if (!folder) return PITH_E_MEMORY;
    if (slash) slash[slash == folder] = 0;
    pith_status status = PITH_OK;
    if (access(slash ? folder : ".", W_OK | X_OK) != 0) status = pith_fail(ctx, PITH_E_IO, "%s: cannot write beside it: %s", path, strerror(errno));
    free(folder);
    return status;
}
