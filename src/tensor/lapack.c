/* LAPACK as OpenBLAS has it.  It is loaded at the first factorisation: its threads spin when they are started, and few who
 * run a model factorise anything.  Its own memory is outside pith_alloc. */
#include "tensor/lapack.h"

#include <dlfcn.h>
#include <stdio.h>

#define LIBRARY "libopenblas.so.0"

/* Fortran's: all by reference, lengths of strings at the end. */
typedef void eigen_fn(const char *job, const char *half, const int *n, double *a, const int *lda, double *w, double *work, const int *n_work, int *whole, const int *n_whole, int *info, size_t, size_t);
typedef void solve_fn(const char *half, const int *n, const int *n_right, double *a, const int *lda, double *b, const int *ldb, int *info, size_t);
typedef void qr_fn(const int *m, const int *n, float *a, const int *lda, float *tau, float *work, const int *n_work, int *info);
typedef void q_fn(const int *m, const int *n, const int *k, float *a, const int *lda, const float *tau, float *work, const int *n_work, int *info);

/* A function of the library, which stays loaded until the program ends, into *f (a pointer to it). */
static pith_status find(pith_ctx *ctx, const char *name, void *f)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    *(void **)f = library ? dlsym(library, name) : NULL;
    if (library) dlclose(library);
    return *(void **)f ? PITH_OK : pith_fail(ctx, PITH_E_UNSUPPORTED, "factorising a matrix takes OpenBLAS (%s, %s), which is not installed: apt-get install libopenblas0", LIBRARY, name);
}

static pith_status check_size(pith_ctx *ctx, size_t n)
{
    return n && n <= INT32_MAX ? PITH_OK : pith_fail(ctx, PITH_E_SHAPE, "a matrix of %zu rows cannot be factorised", n);
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
    eigen_fn *eigen;
    PITH_TRY(find(ctx, "dsyevd_", &eigen));
    int size = (int)n, all = -1, n_whole, info = 0;
    double n_work;
    eigen(vectors ? "V" : "N", "U", &size, a, &size, w, &n_work, &all, &n_whole, &all, &info, 1, 1); /* how much it wants to work with */
    int lengths[2] = {(int)n_work, n_whole};
    double *work = info ? NULL : pith_array(ctx, (size_t)lengths[0], sizeof *work);
    int *whole = info ? NULL : pith_array(ctx, (size_t)lengths[1], sizeof *whole);
    pith_status status = info || (work && whole) ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK && !info) {
        transpose(a, n);
        eigen(vectors ? "V" : "N", "U", &size, a, &size, w, work, &lengths[0], whole, &lengths[1], &info, 1, 1);
        transpose(a, n);
    }
    if (info) status = pith_fail(ctx, PITH_E_INTERNAL, "the eigenvalues of a matrix of %zu rows do not converge (LAPACK: %d)", n, info);
    pith_free(ctx, work);
    pith_free(ctx, whole);
    return status;
}

pith_status pith_solve_definite(pith_ctx *ctx, size_t n, double *a, double *b)
{
    PITH_TRY(check_size(ctx, n));
    solve_fn *solve;
    PITH_TRY(find(ctx, "dposv_", &solve));
    int size = (int)n, one = 1, info = 0;
    transpose(a, n);
    solve("U", &size, &one, a, &size, b, &size, &info, 1);
    return info ? pith_fail(ctx, PITH_E_INTERNAL, "a matrix of %zu rows that is to be solved is not positive definite (LAPACK: %d)", n, info) : PITH_OK;
}

pith_status pith_qr(pith_ctx *ctx, size_t n, float *a, float *diagonal)
{
    PITH_TRY(check_size(ctx, n));
    qr_fn *factorise;
    q_fn *make_q;
    PITH_TRY(find(ctx, "sgeqrf_", &factorise));
    PITH_TRY(find(ctx, "sorgqr_", &make_q));
    int size = (int)n, n_work = (int)PITH_MIN(64 * n, (size_t)INT32_MAX), info = 0;
    float *tau = pith_array(ctx, n, sizeof *tau), *work = pith_array(ctx, (size_t)n_work, sizeof *work), *columns = pith_array(ctx, n * n, sizeof *columns);
    pith_status status = tau && work && columns ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < n * n && status == PITH_OK; i++) columns[i % n * n + i / n] = a[i];
    if (status == PITH_OK) factorise(&size, &size, columns, &size, tau, work, &n_work, &info);
    for (size_t i = 0; i < n && status == PITH_OK; i++) diagonal[i] = columns[i * n + i];
    if (status == PITH_OK && !info) make_q(&size, &size, &size, columns, &size, tau, work, &n_work, &info);
    for (size_t i = 0; i < n * n && status == PITH_OK; i++) a[i] = columns[i % n * n + i / n];
    if (info) status = pith_fail(ctx, PITH_E_INTERNAL, "LAPACK: %d", info);
    pith_free(ctx, tau);
    pith_free(ctx, work);
    pith_free(ctx, columns);
    return status;
}

void pith_lapack_version(char *text, size_t cap)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    char *(*config)(void) = NULL;
    if (library) *(void **)&config = dlsym(library, "openblas_get_config");
    snprintf(text, cap, "%s", config ? config() : "not installed");
    if (library) dlclose(library);
}
