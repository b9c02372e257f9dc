/* Principal components, by the eigenvectors of the covariance in double precision. */
#include "stage/transform/pca.h"

#include <math.h>

#include "tensor/lapack.h"

/* mean and covariance [d, d], of which the upper half is filled */
static pith_status moments(pith_ctx *ctx, const float *x, size_t n, size_t d, double *mean, double *covariance)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < d; k++) mean[k] += (double)x[i * d + k] / (double)n;
    for (size_t k = 0; k < d; k++)
        if (!isfinite(mean[k])) return pith_fail(ctx, PITH_E_NONFINITE, "principal components: value %zu of the rows is not finite", k);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < d; k++) {
            double v = (double)x[i * d + k] - mean[k];
            for (size_t l = k; l < d; l++) covariance[k * d + l] += v * ((double)x[i * d + l] - mean[l]);
        }
    return PITH_OK;
}

pith_status pith_pca(pith_ctx *ctx, const float *x, size_t n, size_t d, float *mean, float *axes)
{
    if (!n || !d || d > INT32_MAX) return pith_fail(ctx, PITH_E_ARGUMENT, "principal components of %zu rows of %zu values: at least one of each is needed", n, d);
    double *c = pith_calloc(ctx, d * d, sizeof *c), *m = pith_calloc(ctx, d, sizeof *m), *w = pith_array(ctx, d, sizeof *w);
    pith_status status = c && m && w ? moments(ctx, x, n, d, m, c) : PITH_E_MEMORY;
    if (status == PITH_OK) status = pith_eigen(ctx, d, c, true, w);
    for (size_t i = 0; i < d && status == PITH_OK; i++) { /* columns, the largest last */
        size_t column = d - 1 - i;
        double most = 0;
        for (size_t k = 0; k < d; k++)
            if (fabs(c[k * d + column]) > fabs(most)) most = c[k * d + column];
        for (size_t k = 0; k < d; k++) axes[i * d + k] = (float)(most < 0 ? -c[k * d + column] : c[k * d + column]);
        mean[i] = (float)m[i];
    }
    pith_free(ctx, c);
    pith_free(ctx, m);
    pith_free(ctx, w);
    return status;
}

void pith_pca_project(const float *x, size_t n, size_t d, const float *mean, const float *axes, size_t k, float *dst)
{
    for (size_t i = 0; i < n; i++)
        for (size_t a = 0; a < k; a++) {
            double sum = 0;
            for (size_t j = 0; j < d; j++) sum += (double)(x[i * d + j] - mean[j]) * (double)axes[a * d + j];
            dst[i * k + a] = (float)sum;
        }
}
