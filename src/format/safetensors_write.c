/* safetensors: the writer.  The header is built in memory, data is streamed. */
#include "format/safetensors.h"

#include <stdlib.h>

struct pith_safetensors_writer {
    pith_ctx *ctx;
    pith_out *out;
    char *path;
    char *tensors, *metadata;   /* members of the header and of __metadata__, as JSON */
    size_t n_tensors_text, n_tensors_cap, n_metadata_text, n_metadata_cap;
    size_t *ends;               /* [n_tensors] where each tensor ends in the data */
    char **names;               /* [n_tensors] owned */
    size_t n_tensors, ends_cap;
    size_t i_tensor, n_written;
    bool header_out;
};

pith_status pith_safetensors_writer_open(pith_ctx *ctx, const char *path, pith_safetensors_writer **result)
{
    pith_safetensors_writer *w = pith_calloc(ctx, 1, sizeof *w);
    if (!w) return PITH_E_MEMORY;
    w->ctx = ctx;
    w->path = pith_strdup(ctx, path);
    pith_status status = w->path ? pith_out_open(ctx, path, &w->out) : PITH_E_MEMORY;
    if (status != PITH_OK) {
        pith_safetensors_writer_discard(w);
        return status;
    }
    *result = w;
    return PITH_OK;
}

static pith_status append(pith_ctx *ctx, char **text, size_t *n, size_t *cap, const char *more, size_t n_more)
{
    size_t want;
    if (!pith_add(*n, n_more, &want)) return pith_fail(ctx, PITH_E_MEMORY, "out of memory: a header beyond the address space");
    if (want > *cap) {
        size_t bigger = PITH_MAX(want * 2, 4096);
        char *p = pith_resize(ctx, *text, bigger);
        if (!p) return PITH_E_MEMORY;
        *text = p;
        *cap = bigger;
    }
    memcpy(*text + *n, more, n_more);
    *n = want;
    return PITH_OK;
}

/* A JSON string literal (RFC 8259, section 7): quotes, backslashes and controls escaped, the rest as it is. */
static pith_status append_string(pith_ctx *ctx, char **text, size_t *n, size_t *cap, const char *s)
{
    PITH_TRY(append(ctx, text, n, cap, "\"", 1));
    for (; *s; s++) {
        char escaped[8];
        int len = 1;
        if (*s == '"' || *s == '\\') len = snprintf(escaped, sizeof escaped, "\\%c", *s);
        else if ((unsigned char)*s < 32) len = snprintf(escaped, sizeof escaped, "\\u%04x", *s);
        else escaped[0] = *s;
        PITH_TRY(append(ctx, text, n, cap, escaped, (size_t)len));
    }
    return append(ctx, text, n, cap, "\"", 1);
}

pith_status pith_safetensors_put(pith_safetensors_writer *w, const char *key, const char *value)
{
    if (w->header_out) return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: metadata %.60s comes after the first data", w->path, key);
    char **text = &w->metadata;
    size_t *n = &w->n_metadata_text, *cap = &w->n_metadata_cap;
    if (*n) PITH_TRY(append(w->ctx, text, n, cap, ",", 1));
    PITH_TRY(append_string(w->ctx, text, n, cap, key));
    PITH_TRY(append(w->ctx, text, n, cap, ":", 1));
    return append_string(w->ctx, text, n, cap, value);
}

static const char *type_name(pith_dtype dtype)
{
    const pith_dtype_info *info = pith_dtype_get((uint32_t)dtype);
    return info && info->block_len == 1 ? info->name : NULL; /* our names of plain types are the format's */
}

pith_status pith_safetensors_declare(pith_safetensors_writer *w, const char *name, pith_dtype dtype, int n_dims, const size_t *dims)
{
    pith_ctx *ctx = w->ctx;
    const char *type = type_name(dtype);
    size_t count = 1, bytes, begin = w->n_tensors ? w->ends[w->n_tensors - 1] : 0, end;
    if (!type) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: tensor %s: safetensors has no block types", w->path, name);
    if (w->header_out) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: tensor %s is declared after the first data", w->path, name);
    if (n_dims < 0 || n_dims > PITH_MAX_DIMS) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: tensor %s: %d dimensions", w->path, name, n_dims);
    for (int i = 0; i < n_dims; i++)
        if (!pith_mul(count, dims[i], &count)) return pith_fail(ctx, PITH_E_SHAPE, "%s: tensor %s: dimension %d is %zu", w->path, name, i, dims[i]);
    if (!pith_dtype_bytes(dtype, count, &bytes) || !pith_add(begin, bytes, &end)) return pith_fail(ctx, PITH_E_SHAPE, "%s: tensor %s is too large", w->path, name);
    if (w->n_tensors == w->ends_cap) {
        size_t cap = PITH_MAX(w->ends_cap * 2, 64);
        size_t *ends = pith_resize(ctx, w->ends, cap * sizeof *ends);
        if (!ends) return PITH_E_MEMORY;
        w->ends = ends;
        char **names = pith_resize(ctx, w->names, cap * sizeof *names);
        if (!names) return PITH_E_MEMORY;
        w->names = names;
        w->ends_cap = cap;
    }
    char **text = &w->tensors, number[64];
    size_t *n = &w->n_tensors_text, *cap = &w->n_tensors_cap;
    PITH_TRY(append(ctx, text, n, cap, ",", 1));
    PITH_TRY(append_string(ctx, text, n, cap, name));
    PITH_TRY(append(ctx, text, n, cap, ":{\"dtype\":", 10));
    PITH_TRY(append_string(ctx, text, n, cap, type));
    PITH_TRY(append(ctx, text, n, cap, ",\"shape\":[", 10));
    for (int i = 0; i < n_dims; i++) {
        int len = snprintf(number, sizeof number, "%s%zu", i ? "," : "", dims[i]);
        PITH_TRY(append(ctx, text, n, cap, number, (size_t)len));
    }
    int len = snprintf(number, sizeof number, "],\"data_offsets\":[%zu,%zu]}", begin, end);
    PITH_TRY(append(ctx, text, n, cap, number, (size_t)len));
    w->names[w->n_tensors] = pith_strdup(ctx, name);
    if (!w->names[w->n_tensors]) return PITH_E_MEMORY;
    w->ends[w->n_tensors++] = end;
    return PITH_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static pith_status write_header(pith_safetensors_writer *w)
{
    if (w->n_tensors) qsort(w->names, w->n_tensors, sizeof *w->names, by_name);
    for (size_t i = 1; i < w->n_tensors; i++)
        if (strcmp(w->names[i - 1], w->names[i]) == 0) return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: tensor %s is declared twice", w->path, w->names[i]);
    size_t n = 2 + w->n_tensors_text + (w->n_metadata_text ? w->n_metadata_text + 19 : 0);
    size_t padded = PITH_ROUND_UP(n + 8, PITH_ALIGN) - 8; /* the data begins at a multiple of 64; the format asks for 8 */
    uint8_t head[8];
    pith_put64(head, padded);
    w->header_out = true;
    PITH_TRY(pith_out_write(w->out, head, 8));
    PITH_TRY(pith_out_write(w->out, "{", 1));
    if (w->n_metadata_text) {
        PITH_TRY(pith_out_write(w->out, "\"__metadata__\":{", 16));
        PITH_TRY(pith_out_write(w->out, w->metadata, w->n_metadata_text));
        PITH_TRY(pith_out_write(w->out, "}", 1));
    }
    /* every member begins with a comma, which the first one must lose when nothing is before it */
    size_t skip = w->n_tensors_text && !w->n_metadata_text;
    if (w->n_tensors_text) PITH_TRY(pith_out_write(w->out, w->tensors + skip, w->n_tensors_text - skip));
    PITH_TRY(pith_out_write(w->out, "}", 1));
    while (pith_out_tell(w->out) < 8 + padded) PITH_TRY(pith_out_write(w->out, " ", 1));
    return PITH_OK;
}

pith_status pith_safetensors_data(pith_safetensors_writer *w, const void *data, size_t len)
{
    if (!w->header_out) PITH_TRY(write_header(w));
    while (w->i_tensor < w->n_tensors && w->ends[w->i_tensor] == w->n_written) w->i_tensor++; /* empty tensors */
    if (w->i_tensor == w->n_tensors) return len ? pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: more data than the tensors declared", w->path) : PITH_OK;
    if (len > w->ends[w->i_tensor] - w->n_written)
        return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: tensor %zu has fewer bytes than were given", w->path, w->i_tensor);
    PITH_TRY(pith_out_write(w->out, data, len));
    w->n_written += len;
    return PITH_OK;
}

pith_status pith_safetensors_writer_close(pith_safetensors_writer *w)
{
    size_t total = w->n_tensors ? w->ends[w->n_tensors - 1] : 0;
    pith_status status = PITH_OK;
    if (w->n_written < total) status = pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: only %zu of %zu bytes were written", w->path, w->n_written, total);
    if (status == PITH_OK && !w->header_out) status = write_header(w);
    if (status == PITH_OK) {
        status = pith_out_close(w->out);
        w->out = NULL;
    }
    pith_safetensors_writer_discard(w);
    return status;
}

void pith_safetensors_writer_discard(pith_safetensors_writer *w)
{
    if (!w) return;
    pith_out_discard(w->out);
    for (size_t i = 0; i < w->n_tensors; i++) pith_free(w->ctx, w->names[i]);
    pith_free(w->ctx, w->names);
    pith_free(w->ctx, w->tensors);
    pith_free(w->ctx, w->metadata);
    pith_free(w->ctx, w->ends);
    pith_free(w->ctx, w->path);
    pith_free(w->ctx, w);
}
