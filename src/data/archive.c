/* Compressed files and archives, by libarchive.  It allocates outside pith_alloc: some MB for a decoder's window.
 *
 * It is loaded (base/library.h) when an archive is opened: it brings a dozen more libraries, and few who run a model ever unpack a data set. */
#include <archive.h>
#include <archive_entry.h>

#include "base/library.h"
#include "data/readers.h"

#define MAX_ENTRY ((size_t)1 << 30)
#define LIBRARY "libarchive.so.13"

/* What is used of it. */
#define FUNCTIONS(X) \
    X(archive_error_string) X(archive_filter_bytes) X(archive_filter_count) X(archive_read_data) X(archive_read_free) \
    X(archive_read_new) X(archive_read_next_header) X(archive_read_open_memory) X(archive_read_support_filter_gzip) \
    X(archive_read_support_filter_xz) X(archive_read_support_filter_zstd) X(archive_read_support_format_ar) \
    X(archive_read_support_format_raw) X(archive_read_support_format_tar) X(archive_read_support_format_zip) \
    X(archive_entry_filetype) X(archive_entry_pathname)

typedef struct library {
    void *handle;
    FUNCTIONS(PITH_LIBRARY_MEMBER)
} library;
static const char *const names[] = {FUNCTIONS(PITH_LIBRARY_NAME) NULL};

static pith_status failed(pith_ctx *ctx, const library *l, const char *what, struct archive *a)
{
    const char *why = l->archive_error_string(a);
    return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %lld: %s", what, (long long)l->archive_filter_bytes(a, -1), why ? why : "cannot be unpacked");
}

/* The entry that was just opened, whole.  The size in its header is a hint, what comes out counts. */
static pith_status read_entry(pith_ctx *ctx, const library *l, const char *what, struct archive *a, size_t limit, uint8_t **out, size_t *out_len)
{
    uint8_t *data = NULL;
    size_t len = 0, cap = 0;
    for (;;) {
        if (len == cap) {
            cap = cap ? 2 * cap : (size_t)1 << 16;
            uint8_t *grown = pith_resize(ctx, data, cap);
            if (!grown) {
                pith_free(ctx, data);
                return PITH_E_MEMORY;
            }
            data = grown;
        }
        la_ssize_t n = l->archive_read_data(a, data + len, cap - len);
        if (n == 0) break;
        if (n < 0 || len + (size_t)n > limit) {
            pith_status status = n < 0 ? failed(ctx, l, what, a) : pith_fail(ctx, PITH_E_LIMIT, "%s: unpacks to more than %zu bytes", what, limit);
            pith_free(ctx, data);
            return status;
        }
        len += (size_t)n;
    }
    *out = data;
    *out_len = len;
    return PITH_OK;
}

/* The next entry's header; *entry NULL at the end.  A warning is what libarchive passes over: wrong for us. */
static pith_status next_entry(pith_ctx *ctx, const library *l, const char *what, struct archive *a, struct archive_entry **entry)
{
    int r = l->archive_read_next_header(a, entry);
    if (r == ARCHIVE_EOF) {
        *entry = NULL;
        return PITH_OK;
    }
    return r == ARCHIVE_OK ? PITH_OK : failed(ctx, l, what, a);
}

static pith_status gunzip(pith_ctx *ctx, const library *l, const char *what, const uint8_t *bytes, size_t len, size_t limit, uint8_t **out, size_t *out_len)
{
    struct archive *a = l->archive_read_new();
    if (!a) return pith_fail(ctx, PITH_E_MEMORY, "%s: no memory to unpack", what);
    struct archive_entry *entry = NULL;
    pith_status status = PITH_OK;
    l->archive_read_support_filter_gzip(a);
    l->archive_read_support_format_raw(a);
    if (l->archive_read_open_memory(a, bytes, len) != ARCHIVE_OK) status = failed(ctx, l, what, a);
    if (status == PITH_OK) status = next_entry(ctx, l, what, a, &entry);
    if (status == PITH_OK && !entry) status = pith_fail(ctx, PITH_E_CORRUPT, "%s: an empty file", what);
    if (status == PITH_OK && l->archive_filter_count(a) < 2) status = pith_fail(ctx, PITH_E_FORMAT, "%s: offset 0: not compressed by gzip", what);
    if (status == PITH_OK) status = read_entry(ctx, l, what, a, limit, out, out_len);
    l->archive_read_free(a);
    return status;
}

/* inner: this is the data.tar of a .deb, whose own outer layer is an ar archive. */
static pith_status each(pith_ctx *ctx, const library *l, const char *what, const uint8_t *bytes, size_t len, bool inner, const pith_archive_visitor *v)
{
    bool deb = !inner && len > 8 && memcmp(bytes, "!<arch>\n", 8) == 0;
    struct archive *a = l->archive_read_new();
    if (!a) return pith_fail(ctx, PITH_E_MEMORY, "%s: no memory to unpack", what);
    pith_status status = PITH_OK;
    l->archive_read_support_filter_gzip(a);
    l->archive_read_support_filter_xz(a);
    l->archive_read_support_filter_zstd(a);
    l->archive_read_support_format_tar(a);
    l->archive_read_support_format_zip(a);
    if (deb) l->archive_read_support_format_ar(a);
    if (l->archive_read_open_memory(a, bytes, len) != ARCHIVE_OK) status = failed(ctx, l, what, a);
    for (struct archive_entry *entry = NULL; status == PITH_OK;) {
        status = next_entry(ctx, l, what, a, &entry);
        if (status != PITH_OK || !entry) break;
        const char *path = l->archive_entry_pathname(entry);
        if (!path || l->archive_entry_filetype(entry) != AE_IFREG) continue;
        if (strncmp(path, "./", 2) == 0) path += 2;
        if (deb ? strncmp(path, "data.tar", 8) != 0 : v->wanted && !v->wanted(v->user, path)) continue;
        uint8_t *data;
        size_t n;
        status = read_entry(ctx, l, what, a, MAX_ENTRY, &data, &n);
        if (status != PITH_OK) break;
        status = deb ? each(ctx, l, what, data, n, true, v) : v->file(v->user, path, data, n);
        pith_free(ctx, data);
    }
    l->archive_read_free(a);
    return status;
}

pith_status pith_gunzip(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, size_t limit, uint8_t **out, size_t *out_len)
{
    library l;
    PITH_TRY(pith_library_open(ctx, what, LIBRARY, "libarchive13", names, &l));
    pith_status status = gunzip(ctx, &l, what, bytes, len, limit, out, out_len);
    pith_library_close(&l);
    return status;
}

pith_status pith_archive_each(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, const pith_archive_visitor *visitor)
{
    library l;
    PITH_TRY(pith_library_open(ctx, what, LIBRARY, "libarchive13", names, &l));
    pith_status status = each(ctx, &l, what, bytes, len, false, visitor);
    pith_library_close(&l);
    return status;
}
