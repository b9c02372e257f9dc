/* Changes to a source that show what a compression rests on. */
#include "recipe/job.h"
#include "tensor/lapack.h"

/* A random orthogonal matrix, uniformly distributed (the Q of a normal matrix's QR with signs put right:
 * F. Mezzadri, Notices of the AMS 54(5), 2007). */
static pith_status random_orthogonal(pith_ctx *ctx, pith_arena *a, size_t n, float *r)
{
    pith_rng rng = {.seed = 1};
    float *diagonal = pith_arena_take(a, n * sizeof *diagonal);
    if (!diagonal) return PITH_E_MEMORY;
    for (size_t i = 0; i < n * n; i++) r[i] = pith_rng_normal(&rng);
    PITH_TRY(pith_qr(ctx, n, r, diagonal));
    for (size_t i = 0; i < n * n; i++) r[i] *= diagonal[i % n] < 0 ? -1.0f : 1.0f;
    return PITH_OK;
}

/* W diag(gain) R, or R' W, as a new tensor of f32. */
static pith_status rotate_tensor(job *j, pith_arena *a, job_tensor *t, const float *r, const float *r_t)
{
    size_t rows = t->coded->n_rows, cols = t->coded->n_cols, n = j->c->n_embd;
    float *from = pith_arena_take(a, rows * cols * sizeof *from), *to = pith_arena_take(a, rows * cols * sizeof *to);
    pith_named_tensor *made = pith_arena_take(a, sizeof *made);
    if (!from || !to || !made) return PITH_E_MEMORY;
    PITH_TRY(pith_tensor_rows_f32(&t->source->t, 0, rows, from));
    for (size_t i = 0; i < rows * cols && t->gain; i++) from[i] *= t->gain[i % cols];
    if (t->coded->basis & PITH_BASIS_OUT) j->kernels->gemm(n, cols, n, r_t, n, from, cols, to, cols, false);
    else j->kernels->gemm(rows, n, n, from, cols, r, n, to, cols, false);
    *made = *t->source;
    made->t.data = (uint8_t *)to;
    made->t.dtype = PITH_F32;
    made->len_bytes = rows * cols * sizeof *to;
    t->source = made;
    t->gain = NULL;
    return PITH_OK;
}

pith_status job_rotate_source(job *j, pith_arena *a)
{
    size_t n = j->c->n_embd;
    float *r = pith_arena_take(a, n * n * sizeof *r), *r_t = pith_arena_take(a, n * n * sizeof *r_t), *basis = pith_arena_take(a, n * n * sizeof *basis);
    if (!r || !r_t || !basis) return PITH_E_MEMORY;
    PITH_TRY(random_orthogonal(j->ctx, a, n, r));
    pith_transpose(r, n, n, n, r_t, n);
    for (size_t i = 0; i < j->n_tensors; i++) PITH_TRY(rotate_tensor(j, a, &j->tensors[i], r, r_t));
    /* the principal axes of the rotated model are R' Q */
    j->kernels->gemm(n, n, n, r_t, n, j->c->rotation, n, basis, n, false);
    memcpy(j->c->rotation, basis, n * n * sizeof *basis);
    return PITH_OK;
}
