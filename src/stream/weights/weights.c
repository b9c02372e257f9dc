/* Weights of a GGUF file, a safetensors file or a model folder.  The file stays open as long as the
 * weights, or an operator that reads it in place, are there. */
#include "stream/weights/weights.h"
#include "stream/weights/source.h"

typedef struct shared_file {
    pith_model_file *file;
    size_t n_users;
} shared_file;

typedef struct file_weights {
    pith_weights w;
    shared_file *shared;
    bool exact;
} file_weights;

static void shared_release(pith_ctx *ctx, void *arg)
{
    shared_file *shared = arg;
    if (--shared->n_users) return;
    pith_model_file_close(ctx, shared->file);
    pith_free(ctx, shared);
}

static const pith_named_tensor *find(const pith_weights *w, const char *name)
{
    return pith_model_file_find(((const file_weights *)w)->shared->file, name);
}

static pith_status missing(pith_ctx *ctx, const pith_weights *w, const char *name)
{
    return pith_fail(ctx, PITH_E_FORMAT, "%s: no tensor named %s", ((const file_weights *)w)->shared->file->path, name);
}

static pith_status file_matrix(pith_ctx *ctx, pith_weights *w, const char *name, pith_operator **op)
{
    file_weights *fw = (file_weights *)w;
    const pith_named_tensor *t = find(w, name);
    if (!t) return missing(ctx, w, name);
    PITH_TRY(pith_operator_from_tensor(ctx, &t->t, name, fw->exact, op));
    /* What was turned into another form is not held twice. */
    const pith_model_file *file = fw->shared->file;
    for (size_t i = 0; i < file->n_maps && !(*op)->mapped; i++) pith_map_forget(&file->maps[i], t->t.data, t->len_bytes);
    if ((*op)->mapped) {
        (*op)->owner = fw->shared;
        (*op)->release = shared_release;
        fw->shared->n_users++;
    }
    return PITH_OK;
}

static bool file_has(pith_weights *w, const char *name) { return find(w, name) != NULL; }

static pith_status file_vector(pith_ctx *ctx, pith_weights *w, const char *name, float *dst, size_t n)
{
    const pith_named_tensor *t = find(w, name);
    if (!t) return missing(ctx, w, name);
    size_t count = pith_tensor_count(&t->t);
    if (count != n) return pith_fail(ctx, PITH_E_SHAPE, "%s has %zu values, %zu are needed", name, count, n);
    pith_tensor flat = t->t;
    size_t cols = pith_tensor_cols(&flat);
    pith_status status = cols ? pith_tensor_rows_f32(&flat, 0, count / cols, dst) : PITH_OK;
    if (status != PITH_OK) return pith_fail(ctx, status, "%s: its values cannot be read", name);
    return PITH_OK;
}

static void file_free(pith_ctx *ctx, pith_weights *w)
{
    shared_release(ctx, ((file_weights *)w)->shared);
    pith_free(ctx, w);
}

static pith_status open_file(pith_ctx *ctx, const char *path, const pith_weights_options *options, pith_weights **w)
{
    uint64_t bytes = 0;
    file_weights *fw = pith_calloc(ctx, 1, sizeof *fw);
    shared_file *shared = pith_calloc(ctx, 1, sizeof *shared);
    pith_status status = fw && shared ? pith_source_open(ctx, path, &shared->file, &bytes) : PITH_E_MEMORY;
    if (status != PITH_OK) {
        pith_free(ctx, shared);
        pith_free(ctx, fw);
        return status;
    }
    const pith_model_file *file = shared->file;
    shared->n_users = 1;
    fw->shared = shared;
    fw->exact = options && options->exact;
    fw->w = (pith_weights){.settings = file->settings, .vocab = &file->vocab, .file_bytes = (size_t)bytes,
                           .matrix = file_matrix, .has = file_has, .vector = file_vector, .free = file_free};
    for (size_t i = 0; i < file->n_tensors; i++) fw->w.n_weights += pith_tensor_count(&file->tensors[i].t);
    *w = &fw->w;
    return PITH_OK;
}

pith_status pith_weights_open(pith_ctx *ctx, const char *path, const pith_weights_options *options, pith_weights **w)
{
    if (strcmp(path, "-") == 0 || pith_file_sniff(path) == PITH_FILE_PITH)
        return pith_weights_open_pith(ctx, path, options, w);
    return open_file(ctx, path, options, w);
}

void pith_weights_free(pith_ctx *ctx, pith_weights *w)
{
    if (w) w->free(ctx, w);
}
