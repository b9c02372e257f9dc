/* Cutting: the longest prefix of whole packets that fits. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "recipe/compress.h"
#include "stream/weights/lossless.h"

/* Bytes at which the measured KL falls to `kl`: between two measured cuts, log KL is taken as straight in bytes. */
static pith_status bytes_for_kl(pith_ctx *ctx, const pith_reader *r, double kl, uint64_t *bytes)
{
    cJSON *meta = cJSON_Parse(r->manifest.meta);
    const cJSON *measured = cJSON_GetObjectItemCaseSensitive(meta, "measured"), *row;
    double last_bytes = 0, last_kl = INFINITY, best = INFINITY;
    *bytes = 0;
    cJSON_ArrayForEach(row, measured)
    {
        double b = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(row, "bytes")), k = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(row, "kl_mean"));
        if (!(b > last_bytes) || !isfinite(k)) continue;
        best = PITH_MIN(best, k);
        if (k <= kl) {
            double part = isinf(last_kl) || last_kl <= k || k <= 0 ? 1 : (log(last_kl) - log(kl)) / (log(last_kl) - log(k));
            *bytes = (uint64_t)ceil(last_bytes + part * (b - last_bytes));
            break;
        }
        last_bytes = b;
        last_kl = k;
    }
    cJSON_Delete(meta);
    if (*bytes) return PITH_OK;
    if (isinf(best)) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: its quality was not measured when it was made; choose by --size or --bits", r->path);
    return pith_fail(ctx, PITH_E_ARGUMENT, "%s: a KL of %g is not reached by the whole file (%.4g); nothing is cut", r->path, kl, best);
}

static pith_status choose(pith_ctx *ctx, const pith_reader *r, const pith_compress_options *o, uint64_t *end)
{
    const pith_manifest *m = &r->manifest;
    uint64_t limit = o->size;
    if (o->bits > 0) {
        double weights = 0;
        for (size_t i = 0; i < m->n_tensors; i++) weights += (double)m->tensors[i].n_rows * m->tensors[i].n_cols;
        for (size_t i = 0; i < m->n_vectors; i++) weights += m->vectors[i].n;
        limit = (uint64_t)(weights * o->bits / 8);
    }
    if (o->kl > 0) {
        PITH_TRY(bytes_for_kl(ctx, r, o->kl, &limit));
        if (limit > r->file_bytes && r->file_bytes < m->total_bytes)
            return pith_fail(ctx, PITH_E_ARGUMENT, "%s: a KL of %g takes about %.1f MB, and of this file's %.1f MB only %.1f are there", r->path, o->kl, (double)limit * 1e-6,
                             (double)m->total_bytes * 1e-6, (double)r->file_bytes * 1e-6);
    }
    if (!limit) limit = r->file_bytes;
    if (limit < m->floor_bytes)
        return pith_fail(ctx, PITH_E_SPACE, "%s: %llu bytes are too few; the smallest cut of this file with a first layer of everything has %llu", r->path,
                         (unsigned long long)limit, (unsigned long long)m->floor_bytes);
    *end = m->manifest_bytes;
    for (size_t i = 0; i < r->n_packets; i++) {
        uint64_t next = r->packets[i].offset + r->packets[i].len;
        if (next > limit) break;
        *end = next;
    }
    return PITH_OK;
}

static pith_status copy_prefix(pith_ctx *ctx, const pith_reader *r, pith_out *out, uint64_t end)
{
    static const size_t chunk = 1 << 20;
    uint8_t *buffer = pith_alloc(ctx, chunk);
    pith_status status = buffer ? PITH_OK : PITH_E_MEMORY;
    for (uint64_t at = 0; at < end && status == PITH_OK;) {
        ssize_t n = pread(r->fd, buffer, (size_t)PITH_MIN(chunk, end - at), (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) status = pith_fail(ctx, PITH_E_IO, "%s: cannot read at %llu: %s", r->path, (unsigned long long)at, n ? strerror(errno) : "the file has shrunk");
        else status = pith_out_write(out, buffer, (size_t)n);
        at += (uint64_t)PITH_MAX(n, 0);
    }
    pith_free(ctx, buffer);
    return status;
}

pith_status pith_cut(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *o, uint64_t *bytes)
{
    pith_reader r;
    pith_out *out = NULL;
    uint64_t end = 0;
    PITH_TRY(pith_out_check(ctx, target, source));
    PITH_TRY(pith_reader_open(ctx, source, 0, &r));
    pith_status status = pith_is_lossless(&r) ? pith_fail(ctx, PITH_E_ARGUMENT, "%s: holds files to the bit, so there is nothing to leave out; \"pith convert\" makes them again, and \"pith compress\" a .pith that can be cut", source) :
                                                choose(ctx, &r, o, &end);
    if (status == PITH_OK) status = pith_out_open(ctx, target, &out);
    if (status == PITH_OK) {
        status = copy_prefix(ctx, &r, out, end);
        if (status == PITH_OK) status = pith_out_close(out);
        else pith_out_discard(out);
    }
    pith_reader_close(ctx, &r);
    if (status == PITH_OK) *bytes = end;
    return status;
}
