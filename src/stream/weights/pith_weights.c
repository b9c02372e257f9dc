/* Weights from a .pith.  A cut that ends before the exact layer runs in the codec's basis: norms have the
 * column scales for gains, and the way to a tied output goes through a transform.  With exact packets the
 * model runs in its source's basis, as the source would. */
#include "format/pith_file.h"
#include "stream/weights/decode.h"
#include "stream/weights/lossless.h"
#include "stream/weights/weights.h"

typedef struct pith_source {
    pith_weights w;
    pith_reader r;
    pith_decoded d;
} pith_source;

static pith_source *source_of(pith_weights *w) { return (pith_source *)w; }

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), k = strlen(tail);
    return n >= k && strcmp(name + n - k, tail) == 0;
}

static pith_status get_matrix(pith_ctx *ctx, pith_weights *w, const char *name, pith_operator **op)
{
    pith_source *s = source_of(w);
    const pith_manifest *m = &s->r.manifest;
    size_t i = 0;
    while (i < m->n_tensors && strcmp(m->tensors[i].name, name) != 0) i++;
    if (i == m->n_tensors) return pith_fail(ctx, PITH_E_FORMAT, "%s: there is no matrix %s", s->r.path, name);
    if (!s->d.matrix[i]) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: matrix %s was taken before", s->r.path, name);
    *op = s->d.matrix[i];
    s->d.matrix[i] = NULL;
    return PITH_OK;
}

/* A tied file keeps the gain of the last norm apart: in the codec's basis the model's norm then has none, and
 * the way to the output is the transform c Q' diag(gain) Q. */
static bool is_made(const pith_source *s, const char *name)
{
    bool tied = s->r.manifest.settings.tied_embeddings && !s->d.source_basis;
    return tied && (strcmp(name, "output_norm.weight") == 0 || strcmp(name, "output.transform") == 0);
}

/* The vector that stands behind a name in the basis the model runs in; NULL: there is none. */
static const pith_vector *vector_of(const pith_source *s, const char *name)
{
    const pith_manifest *m = &s->r.manifest;
    if (!s->d.source_basis) return pith_manifest_vector(m, name);
    if (ends_with(name, ".scale")) return NULL;
    const pith_vector *gain = pith_manifest_gain(m, name);
    return gain ? gain : pith_manifest_vector(m, name);
}

static bool has(pith_weights *w, const char *name)
{
    const pith_source *s = source_of(w);
    for (size_t i = 0; i < s->r.manifest.n_tensors; i++)
        if (strcmp(s->r.manifest.tensors[i].name, name) == 0) return true;
    return vector_of(s, name) || is_made(s, name);
}

static pith_status make_transform(pith_ctx *ctx, pith_source *s, float *dst)
{
    const pith_manifest *m = &s->r.manifest;
    const pith_vector *gain = pith_manifest_vector(m, "output_norm.gain"), *scale = pith_manifest_vector(m, "token_embd.scale");
    size_t n = m->rotation_n;
    if (!gain || !scale || gain->n != n || scale->n != n) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the gain or scale of the output is missing", s->r.path);
    float *q = pith_array(ctx, n * n, sizeof *q), *q_t = pith_array(ctx, n * n, sizeof *q_t);
    bool ok = q && q_t;
    /* dst[a, b] = sum_i (c[a] q[i, a] gain[i]) q[i, b] */
    for (size_t i = 0; i < n && ok; i++)
        for (size_t a = 0; a < n; a++) {
            q[i * n + a] = (float)m->rotation[i * n + a] * 0x1p-14f;
            q_t[a * n + i] = scale->x[a] * q[i * n + a] * gain->x[i];
        }
    if (ok) pith_kernels_get(ctx)->gemm(n, n, n, q_t, n, q, n, dst, n, false);
    pith_free(ctx, q);
    pith_free(ctx, q_t);
    return ok ? PITH_OK : PITH_E_MEMORY;
}

static pith_status get_vector(pith_ctx *ctx, pith_weights *w, const char *name, float *dst, size_t n)
{
    pith_source *s = source_of(w);
    if (is_made(s, name)) {
        size_t e = s->r.manifest.rotation_n;
        bool transform = strcmp(name, "output.transform") == 0;
        if (n != (transform ? e * e : e)) return pith_fail(ctx, PITH_E_SHAPE, "%s: %s has not %zu values", s->r.path, name, n);
        if (transform) return make_transform(ctx, s, dst);
        for (size_t i = 0; i < n; i++) dst[i] = 1;
        return PITH_OK;
    }
    const pith_vector *v = vector_of(s, name);
    if (!v) return pith_fail(ctx, PITH_E_FORMAT, "%s: there is no vector %s", s->r.path, name);
    if (v->n != n) return pith_fail(ctx, PITH_E_SHAPE, "%s: %s has %u values, not %zu", s->r.path, name, v->n, n);
    memcpy(dst, v->x, n * sizeof *dst);
    return PITH_OK;
}

static void free_source(pith_ctx *ctx, pith_weights *w)
{
    pith_source *s = source_of(w);
    pith_decoded_free(ctx, s->r.manifest.n_tensors, &s->d);
    pith_reader_close(ctx, &s->r);
    pith_free(ctx, s);
}

/* Say what is not as it was written; with `strict` that is an error. */
static pith_status report(pith_ctx *ctx, const pith_source *s, bool strict)
{
    const pith_manifest *m = &s->r.manifest;
    if ((s->d.n_damaged || s->r.n_skipped) && strict)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: %zu packets are damaged, %llu bytes passed over; without --strict it runs at the quality that is left", s->r.path, s->d.n_damaged,
                         (unsigned long long)s->r.n_skipped);
    if (s->d.n_damaged) pith_log(ctx, PITH_LOG_WARN, "%s: %zu packets are damaged; their units stay at the layer before", s->r.path, s->d.n_damaged);
    if (s->d.n_missing)
        pith_log(ctx, PITH_LOG_WARN, "%s: %zu of %zu units have no layer yet and are zero; from %.1f MB on all have one", s->r.path, s->d.n_missing, m->n_units,
                 (double)m->floor_bytes * 1e-6);
    if (s->d.source_basis)
        pith_log(ctx, PITH_LOG_INFO, s->d.n_exact == m->n_units ? "%s: all weights are exactly the source's" : "%s: %zu of %zu units are exactly the source's", s->r.path, s->d.n_exact, m->n_units);
    return PITH_OK;
}

static pith_status open_source(pith_ctx *ctx, const char *path, const pith_weights_options *o, pith_source *s)
{
    PITH_TRY(pith_reader_open(ctx, path, o ? o->max_bytes : 0, &s->r));
    const pith_manifest *m = &s->r.manifest;
    if (pith_is_lossless(&s->r)) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: holds files to the bit, which are not read from a pipe; give the file's name", s->r.path);
    s->w.settings = m->settings;
    s->w.vocab = &m->vocab;
    s->w.file_bytes = (size_t)s->r.file_bytes;
    for (size_t i = 0; i < m->n_tensors; i++) s->w.n_weights += (size_t)m->tensors[i].n_rows * m->tensors[i].n_cols;
    for (size_t i = 0; i < m->n_vectors; i++) s->w.n_weights += m->vectors[i].n;
    PITH_TRY(pith_decode(ctx, &s->r, &s->d));
    return report(ctx, s, o && o->strict);
}

pith_status pith_weights_open_pith(pith_ctx *ctx, const char *path, const pith_weights_options *options, pith_weights **w)
{
    pith_source *s = pith_calloc(ctx, 1, sizeof *s);
    if (!s) return PITH_E_MEMORY;
    s->w.matrix = get_matrix;
    s->w.has = has;
    s->w.vector = get_vector;
    s->w.free = free_source;
    pith_status status = open_source(ctx, path, options, s);
    if (status != PITH_OK) {
        free_source(ctx, &s->w);
        return status;
    }
    *w = &s->w;
    return PITH_OK;
}
