/* Networks in safetensors files. */
#include <math.h>
#include <stdlib.h>

#include "format/json.h"
#include "format/safetensors.h"
#include "model/net_kind.h"

#define SETTINGS_KEY "pith.net"

/* A parameter or a buffer. */
typedef struct array {
    const char *name;
    int n_dims;
    const size_t *dims;
    float *data;
    size_t count;
} array;

static size_t n_arrays(const pith_net *net) { return net->n_params + net->n_buffers; }

static array array_at(const pith_net *net, size_t i)
{
    if (i >= net->n_params) {
        const pith_net_buffer *b = &net->buffers[i - net->n_params];
        return (array){b->name, 1, &b->n, b->data, b->n};
    }
    const pith_var *p = net->params[i];
    return (array){p->name, p->n_dims, p->dims, p->data, p->count};
}

/* ---- saving ----------------------------------------------------------------------------------- */

static pith_status write_all(const pith_net *net, pith_safetensors_writer *w)
{
    PITH_TRY(pith_safetensors_put(w, SETTINGS_KEY, net->settings_text));
    PITH_TRY(pith_safetensors_put(w, "format", "pt")); /* readers of PyTorch's ecosystem ask for it */
    for (size_t i = 0; i < n_arrays(net); i++) {
        array a = array_at(net, i);
        PITH_TRY(pith_safetensors_declare(w, a.name, PITH_F32, a.n_dims, a.dims));
    }
    for (size_t i = 0; i < n_arrays(net); i++) {
        array a = array_at(net, i);
        PITH_TRY(pith_safetensors_data(w, a.data, a.count * sizeof(float)));
    }
    return PITH_OK;
}

pith_status pith_net_save(const pith_net *net, const char *path)
{
    pith_safetensors_writer *w;
    PITH_TRY(pith_safetensors_writer_open(net->ctx, path, &w));
    pith_status status = write_all(net, w);
    if (status == PITH_OK) return pith_safetensors_writer_close(w);
    pith_safetensors_writer_discard(w);
    return status;
}

/* ---- loading ---------------------------------------------------------------------------------- */

typedef struct source {
    pith_ctx *ctx;
    const char *path, *prefix;
    pith_map map;
    pith_model_file *file;
} source;

static pith_status source_open(pith_ctx *ctx, const char *path, const char *prefix, source *s)
{
    *s = (source){.ctx = ctx, .path = path, .prefix = prefix ? prefix : ""};
    PITH_TRY(pith_map_open(ctx, path, &s->map));
    pith_status status = pith_safetensors_open_memory(ctx, path, s->map.data, s->map.len, &s->file);
    if (status != PITH_OK) pith_map_close(ctx, &s->map);
    return status;
}

static void source_close(source *s)
{
    pith_model_file_close(s->ctx, s->file);
    pith_map_close(s->ctx, &s->map);
}

static const pith_named_tensor *find(const source *s, const char *name)
{
    size_t n = strlen(s->prefix);
    for (size_t i = 0; i < s->file->n_tensors; i++)
        if (strncmp(s->file->tensors[i].name, s->prefix, n) == 0 && strcmp(s->file->tensors[i].name + n, name) == 0) return &s->file->tensors[i];
    return NULL;
}

/* PyTorch counts the batches that its batch norms saw; nothing is computed from it. */
static bool is_counter(const char *name)
{
    static const char end[] = "num_batches_tracked";
    size_t len = strlen(name), n = sizeof end - 1;
    return len >= n && strcmp(name + len - n, end) == 0;
}

/* What is wrong with the file's tensor; its rows are read into `row` for that. */
static pith_status check(const source *s, array a, const pith_named_tensor *nt, float *row)
{
    if (!nt) return pith_fail(s->ctx, PITH_E_FORMAT, "%s: there is no tensor %s%s, which the network needs", s->path, s->prefix, a.name);
    const pith_tensor *t = &nt->t;
    bool same = t->n_dims == a.n_dims;
    for (int d = 0; same && d < a.n_dims; d++) same = t->dims[d] == a.dims[d];
    if (!same) {
        char have[PITH_MAX_DIMS * 21 + 1] = "", want[PITH_MAX_DIMS * 21 + 1] = "";
        for (int d = 0, n = 0; d < t->n_dims; d++) n += snprintf(have + n, sizeof have - (size_t)n, d ? ", %zu" : "%zu", t->dims[d]);
        for (int d = 0, n = 0; d < a.n_dims; d++) n += snprintf(want + n, sizeof want - (size_t)n, d ? ", %zu" : "%zu", a.dims[d]);
        return pith_fail(s->ctx, PITH_E_FORMAT, "%s: tensor %s has shape [%s]; the network has [%s]", s->path, nt->name, have, want);
    }
    if (t->dtype != PITH_F32 && t->dtype != PITH_F16 && t->dtype != PITH_BF16)
        return pith_fail(s->ctx, PITH_E_FORMAT, "%s: tensor %s is of type %s; f32, f16 or bf16 is expected", s->path, nt->name, pith_dtype_get(t->dtype)->name);
    size_t cols = pith_tensor_cols(t);
    for (size_t r = 0; r < (cols ? a.count / cols : 0); r++) {
        PITH_TRY(pith_tensor_rows_f32(t, r, r + 1, row));
        for (size_t i = 0; i < cols; i++)
            if (!isfinite(row[i])) return pith_fail(s->ctx, PITH_E_NONFINITE, "%s: tensor %s is not finite at %zu", s->path, nt->name, r * cols + i);
    }
    return PITH_OK;
}

static pith_status check_all(const pith_net *net, const source *s)
{
    size_t cols = 1;
    for (size_t i = 0; i < n_arrays(net); i++) {
        array a = array_at(net, i);
        if (a.n_dims) cols = PITH_MAX(cols, a.dims[a.n_dims - 1]);
    }
    pith_arena *scratch = pith_scratch(s->ctx);
    pith_mark mark = pith_arena_mark(scratch);
    float *row = pith_arena_take(scratch, cols * sizeof *row);
    pith_status status = row ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < n_arrays(net) && status == PITH_OK; i++) {
        array a = array_at(net, i);
        status = check(s, a, find(s, a.name), row);
    }
    pith_arena_reset(scratch, mark);
    return status;
}

static pith_status load(pith_net *net, const source *s)
{
    PITH_TRY(check_all(net, s));
    for (size_t i = 0; i < n_arrays(net); i++) {
        array a = array_at(net, i);
        const pith_tensor *t = &find(s, a.name)->t;
        size_t cols = pith_tensor_cols(t);
        PITH_TRY(pith_tensor_rows_f32(t, 0, cols ? a.count / cols : 0, a.data));
    }
    size_t n_unused = s->file->n_tensors - n_arrays(net);
    for (size_t i = 0; i < s->file->n_tensors; i++) n_unused -= is_counter(s->file->tensors[i].name);
    if (n_unused) pith_log(s->ctx, PITH_LOG_WARN, "%s: %zu tensors are not of the network %s and were left out", s->path, n_unused, net->name);
    return PITH_OK;
}

pith_status pith_net_load(pith_net *net, const char *path, const char *prefix)
{
    source s;
    PITH_TRY(source_open(net->ctx, path, prefix, &s));
    pith_status status = load(net, &s);
    source_close(&s);
    return status;
}

/* The kind of settings that pith_net_save wrote, into kind[n]. */
static pith_status read_kind(const source *s, const char *settings, char *kind, size_t n)
{
    cJSON *object;
    PITH_TRY(pith_hf_json_parse(s->ctx, s->path, settings, strlen(settings), &object));
    const char *text = pith_json_text(object, "kind");
    bool fits = text && strlen(text) < n;
    if (fits) strcpy(kind, text);
    cJSON_Delete(object);
    return fits ? PITH_OK : pith_fail(s->ctx, PITH_E_FORMAT, "%s: its " SETTINGS_KEY " names no kind of network", s->path);
}

static pith_status open_net(pith_tape *tape, const source *s, pith_net **result)
{
    const char *settings = NULL;
    for (size_t i = 0; i < s->file->n_meta; i++)
        if (strcmp(s->file->meta[i].key, SETTINGS_KEY) == 0) settings = s->file->meta[i].value;
    if (!settings) return pith_fail(s->ctx, PITH_E_FORMAT, "%s: no settings of a network (" SETTINGS_KEY ") are in its metadata; make the network and load the file into it", s->path);
    char kind[64];
    PITH_TRY(read_kind(s, settings, kind, sizeof kind));
    pith_net *net;
    pith_status status = pith_net_new(tape, kind, settings, PITH_NET_BLANK, &net);
    if (status != PITH_OK) return pith_fail_at(s->ctx, status, "%s", s->path);
    status = load(net, s);
    if (status == PITH_OK) *result = net;
    else pith_net_free(net);
    return status;
}

pith_status pith_net_open(pith_tape *tape, const char *path, pith_net **net)
{
    source s;
    PITH_TRY(source_open(pith_tape_ctx(tape), path, NULL, &s));
    pith_status status = open_net(tape, &s, net);
    source_close(&s);
    return status;
}
