/* Frechet distance of normal distributions. */
#include "eval/frechet.h"

#include <math.h>

#include "tensor/lapack.h"

#define MOST_VALUES 16384

struct pith_moments {
    pith_ctx *ctx;
    size_t dim, n;
    double *origin;               /* [dim] the first vector: what is summed is the difference, so that little is lost */
    double *sum;                  /* [dim] */
    double *product;              /* [dim, dim] lower half */
    double *row;                  /* [dim] scratch */
};

pith_status pith_moments_new(pith_ctx *ctx, size_t dim, pith_moments **moments)
{
    if (!dim || dim > MOST_VALUES) return pith_fail(ctx, PITH_E_LIMIT, "moments of vectors of %zu values; 1 to %d are possible", dim, MOST_VALUES);
    pith_moments *m = pith_calloc(ctx, 1, sizeof *m);
    if (!m) return PITH_E_MEMORY;
    *m = (pith_moments){.ctx = ctx, .dim = dim, .origin = pith_calloc(ctx, dim, sizeof(double)), .sum = pith_calloc(ctx, dim, sizeof(double)),
                        .product = pith_calloc(ctx, dim * dim, sizeof(double)), .row = pith_calloc(ctx, dim, sizeof(double))};
    if (m->origin && m->sum && m->product && m->row) {
        *moments = m;
        return PITH_OK;
    }
    pith_moments_free(m);
    return PITH_E_MEMORY;
}

void pith_moments_free(pith_moments *moments)
{
    if (!moments) return;
    pith_free(moments->ctx, moments->origin);
    pith_free(moments->ctx, moments->sum);
    pith_free(moments->ctx, moments->product);
    pith_free(moments->ctx, moments->row);
    pith_free(moments->ctx, moments);
}

pith_status pith_moments_add(pith_moments *moments, const float *x, size_t n)
{
    size_t dim = moments->dim;
    for (size_t i = 0; i < n * dim; i++)
        if (!isfinite(x[i])) return pith_fail(moments->ctx, PITH_E_NONFINITE, "moments: value %zu of vector %zu is not finite", i % dim, i / dim);
    for (size_t i = 0; i < n; i++, x += dim) {
        if (!moments->n++)
            for (size_t k = 0; k < dim; k++) moments->origin[k] = (double)x[k];
        for (size_t k = 0; k < dim; k++) moments->row[k] = (double)x[k] - moments->origin[k];
        for (size_t k = 0; k < dim; k++) {
            double v = moments->row[k], *product = moments->product + k * dim;
            moments->sum[k] += v;
            for (size_t j = 0; j <= k; j++) product[j] += v * moments->row[j];
        }
    }
    return PITH_OK;
}

size_t pith_moments_count(const pith_moments *moments) { return moments->n; }
size_t pith_moments_size(const pith_moments *moments) { return moments->dim; }

pith_status pith_moments_get(const pith_moments *moments, double *mean, double *covariance)
{
    size_t dim = moments->dim;
    double n = (double)moments->n;
    if (moments->n < 2) return pith_fail(moments->ctx, PITH_E_ARGUMENT, "moments of %zu vectors; at least two are needed", moments->n);
    for (size_t k = 0; mean && k < dim; k++) mean[k] = moments->origin[k] + moments->sum[k] / n;
    for (size_t k = 0; covariance && k < dim; k++)
        for (size_t j = 0; j <= k; j++)
            covariance[k * dim + j] = covariance[j * dim + k] = (moments->product[k * dim + j] - moments->sum[k] * moments->sum[j] / n) / (n - 1);
    return PITH_OK;
}

/* ---- distance --------------------------------------------------------------------------------- */

/* c = a b, all [n, n]; transposed: a b' */
static void multiply(const double *a, const double *b, bool transposed, size_t n, double *c)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) c[i * n + j] = 0;
        for (size_t k = 0; k < n; k++)
            for (size_t j = 0; j < n; j++) c[i * n + j] += a[i * n + k] * (transposed ? b[j * n + k] : b[k * n + j]);
    }
}

/* The symmetric root of a covariance, in place: V sqrt(L) V'.  What rounding made negative is 0. */
static pith_status root(pith_ctx *ctx, double *a, size_t n, double *w, double *scratch, double *scaled)
{
    PITH_TRY(pith_eigen(ctx, n, a, true, w));
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++) scaled[i * n + k] = a[i * n + k] * sqrt(PITH_MAX(w[k], 0));
    multiply(scaled, a, true, n, scratch);
    memcpy(a, scratch, n * n * sizeof *a);
    return PITH_OK;
}

typedef struct work {
    double *mean[2], *w;          /* [dim] */
    double *covariance[2], *scratch[2]; /* [dim, dim] */
} work;

static pith_status distance_of(const pith_moments *a, const pith_moments *b, const work *s, double *distance)
{
    size_t n = a->dim;
    double sum = 0;
    PITH_TRY(pith_moments_get(a, s->mean[0], s->covariance[0]));
    PITH_TRY(pith_moments_get(b, s->mean[1], s->covariance[1]));
    for (size_t i = 0; i < n; i++) {
        double gap = s->mean[0][i] - s->mean[1][i];
        sum += gap * gap + s->covariance[0][i * n + i] + s->covariance[1][i * n + i];
    }
    PITH_TRY(root(a->ctx, s->covariance[0], n, s->w, s->scratch[0], s->scratch[1]));
    multiply(s->covariance[0], s->covariance[1], false, n, s->scratch[0]);
    multiply(s->scratch[0], s->covariance[0], false, n, s->scratch[1]);
    PITH_TRY(pith_eigen(a->ctx, n, s->scratch[1], false, s->w));
    for (size_t i = 0; i < n; i++) sum -= 2 * sqrt(PITH_MAX(s->w[i], 0));
    *distance = PITH_MAX(sum, 0);
    return PITH_OK;
}

pith_status pith_frechet(const pith_moments *a, const pith_moments *b, double *distance)
{
    if (a->dim != b->dim) return pith_fail(a->ctx, PITH_E_SHAPE, "Frechet distance between vectors of %zu and of %zu values", a->dim, b->dim);
    size_t n = a->dim;
    double *all = pith_array(a->ctx, 3 * n + 4 * n * n, sizeof *all);
    if (!all) return PITH_E_MEMORY;
    work s = {.mean = {all, all + n}, .w = all + 2 * n, .covariance = {all + 3 * n, all + 3 * n + n * n}, .scratch = {all + 3 * n + 2 * n * n, all + 3 * n + 3 * n * n}};
    pith_status status = distance_of(a, b, &s, distance);
    pith_free(a->ctx, all);
    return status;
}
