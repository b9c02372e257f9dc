/* LAPACK as OpenBLAS has it.  It is loaded (base/library.h) at the first factorisation: its threads spin when they are started, and few who
 * run a model factorise anything.  Its own memory is outside pith_alloc. */
#include "tensor/lapack.h"

#include <stdio.h>

#include "base/library.h"

/* Fortran's: all by reference, lengths of strings at the end. */
void dsyevd_(const char *job, const char *half, const int *n, double *a, const int *lda, double *w, double *work, const int *n_work, int *whole, const int *n_whole, int *info, size_t, size_t);
void dgeev_(const char *left, const char *right, const int *n, double *a, const int *lda, double *re, double *im, double *vl, const int *ldvl, double *vr, const int *ldvr, double *work, const int *n_work, int *info, size_t, size_t);
void dposv_(const char *half, const int *n, const int *n_right, double *a, const int *lda, double *b, const int *ldb, int *info, size_t);
void sgeqrf_(const int *m, const int *n, float *a, const int *lda, float *tau, float *work, const int *n_work, int *info);
void sorgqr_(const int *m, const int *n, const int *k, float *a, const int *lda, const float *tau, float *work, const int *n_work, int *info);
char *openblas_get_config(void);

#define FUNCTIONS(X) X(dsyevd_) X(dgeev_) X(dposv_) X(sgeqrf_) X(sorgqr_) X(openblas_get_config)
typedef struct library {
    void *handle;
    FUNCTIONS(PITH_LIBRARY_MEMBER)
} library;
static const char *const names[] = {FUNCTIONS(PITH_LIBRARY_NAME) NULL};

static pith_status open_lapack(pith_ctx *ctx, library *l) { return pith_library_open(ctx, "factorising a matrix", "libopenblas.so.0", "libopenblas0", names, l); }

static pith_status check_size(pith_ctx *ctx, size_t n)
{
    return n && n <= PITH_LAPACK_MOST ? PITH_OK : pith_fail(ctx, PITH_E_SHAPE, "a matrix of %zu rows cannot be factorised: 1 to %d can", n, PITH_LAPACK_MOST);
}

/* Fortran's matrices are column-major. */
static void transpose(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++) {
            double x = a[i * n + k];
            a[i * n + k] = a[k * n + i];
            a[k * n + i] = x;
        }
}

pith_status pith_eigen(pith_ctx *ctx, size_t n, double *a, bool vectors, double *w)
{
    PITH_TRY(check_size(ctx, n));
    library l;
    PITH_TRY(open_lapack(ctx, &l));
    int size = (int)n, all = -1, n_whole, info = 0;
    double n_work;
    l.dsyevd_(vectors ? "V" : "N", "U", &size, a, &size, w, &n_work, &all, &n_whole, &all, &info, 1, 1); /* how much it wants to work with */
    int lengths[2] = {(int)n_work, n_whole};
    double *work = info ? NULL : pith_array(ctx, (size_t)lengths[0], sizeof *work);
    int *whole = info ? NULL : pith_array(ctx, (size_t)lengths[1], sizeof *whole);
    pith_status status = info || (work && whole) ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK && !info) {
        transpose(a, n);
        l.dsyevd_(vectors ? "V" : "N", "U", &size, a, &size, w, work, &lengths[0], whole, &lengths[1], &info, 1, 1);
        transpose(a, n);
    }
    pith_library_close(&l);
    if (info) status = pith_fail(ctx, PITH_E_INTERNAL, "the eigenvalues of a matrix of %zu rows do not converge (LAPACK: %d)", n, info);
    pith_free(ctx, work);
    pith_free(ctx, whole);
    return status;
}

pith_status pith_eigenvalues(pith_ctx *ctx, size_t n, double *a, double *re, double *im)
{
    PITH_TRY(check_size(ctx, n));
    library l;
    PITH_TRY(open_lapack(ctx, &l));
    int size = (int)n, one = 1, n_work = (int)PITH_MIN(8 * n, (size_t)INT32_MAX), info = 0;
    double none, *work = pith_array(ctx, (size_t)n_work, sizeof *work);
    /* a transposed matrix has the same eigenvalues */
    if (work) l.dgeev_("N", "N", &size, a, &size, re, im, &none, &one, &none, &one, work, &n_work, &info, 1, 1);
    pith_library_close(&l);
    pith_status status = work ? PITH_OK : PITH_E_MEMORY;
    if (info) status = pith_fail(ctx, PITH_E_INTERNAL, "the eigenvalues of a matrix of %zu rows do not converge (LAPACK: %d)", n, info);
    pith_free(ctx, work);
    return status;
}

pith_status pith_solve_definite(pith_ctx *ctx, size_t n, size_t n_right, double *a, double *b)
{
    PITH_TRY(check_size(ctx, n));
    PITH_TRY(check_size(ctx, n_right));
    library l;
    PITH_TRY(open_lapack(ctx, &l));
    int size = (int)n, width = (int)n_right, info = 0;
    double *columns = pith_array(ctx, n * n_right, sizeof *columns);
    for (size_t i = 0; i < n * n_right && columns; i++) columns[i % n_right * n + i / n_right] = b[i];
    transpose(a, n);
    if (columns) l.dposv_("U", &size, &width, a, &size, columns, &size, &info, 1);
    for (size_t i = 0; i < n * n_right && columns; i++) b[i] = columns[i % n_right * n + i / n_right];
    pith_library_close(&l);
    pith_status status = columns ? PITH_OK : PITH_E_MEMORY;
    if (info) status = pith_fail(ctx, PITH_E_INTERNAL, "a matrix of %zu rows that is to be solved is not positive definite (LAPACK: %d)", n, info);
    pith_free(ctx, columns);
    return status;
}

pith_status pith_qr(pith_ctx *ctx, size_t n, float *a, float *diagonal)
{
    PITH_TRY(check_size(ctx, n));
    library l;
    PITH_TRY(open_lapack(ctx, &l));
    int size = (int)n, n_work = (int)PITH_MIN(64 * n, (size_t)INT32_MAX), info = 0;
    float *tau = pith_array(ctx, n, sizeof *tau), *work = pith_array(ctx, (size_t)n_work, sizeof *work), *columns = pith_array(ctx, n * n, sizeof *columns);
    pith_status status = tau && work && columns ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < n * n && status == PITH_OK; i++) columns[i % n * n + i / n] = a[i];
    if (status == PITH_OK) l.sgeqrf_(&size, &size, columns, &size, tau, work, &n_work, &info);
    for (size_t i = 0; i < n && status == PITH_OK; i++) diagonal[i] = columns[i * n + i];
    if (status == PITH_OK && !info) l.sorgqr_(&size, &size, &size, columns, &size, tau, work, &n_work, &info);
    for (size_t i = 0; i < n * n && status == PITH_OK; i++) a[i] = columns[i % n * n + i / n];
    pith_library_close(&l);
    if (info) status = pith_fail(ctx, PITH_E_INTERNAL, "LAPACK: %d", info);
    pith_free(ctx, tau);
    pith_free(ctx, work);
    pith_free(ctx, columns);
    return status;
}

void pith_lapack_version(pith_ctx *ctx, char *text, size_t cap)
{
    library l;
    bool there = open_lapack(ctx, &l) == PITH_OK;
    snprintf(text, cap, "%s", there ? l.openblas_get_config() : "not installed");
    if (there) pith_library_close(&l);
}
