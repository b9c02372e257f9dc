/* Operators made of a matrix: low-bit (qmat) or dense (f32, f16, bf16), and the loop that applies them.
 *
 * Few tokens read dense weights once and multiply token by token.  Many tokens turn a panel of rows to f32
 * columns in a worker's scratch and multiply that. */
#include "stream/weights/operator.h"

#include "format/model_file.h"

#define PANEL_ROWS PITH_GEMM_PANEL /* dense rows multiplied at a time when there are many tokens */
#define CHUNKS_A_THREAD 4    /* pieces a thread may take of one product, so that a late thread costs little */
#define Q8_ROWS 16           /* rows of activations quantised in one task */
#define EXACT_ROWS 64        /* rows dequantised in one task */

/* ---- the loop --------------------------------------------------------------------------------- */

typedef struct product {
    const pith_operator *const *ops;
    size_t n_ops;
    const pith_input *in;
    float *const *y;
    const pith_kernels *kernels;
    size_t n_units, n_chunks;
    uint8_t *scratch;        /* [n_threads, scratch_bytes] */
    size_t scratch_bytes;
} product;

/* Tiles of one operator that go to one worker together. */
static size_t unit_of(const pith_operator *op, size_t n_tokens)
{
    return n_tokens > PITH_FEW_TOKENS && op->kind->group ? op->kind->group : 1;
}

/* Units of all operators stand in one row; chunk c takes an equal share of it. */
static void apply_chunk(void *arg, size_t c, int worker)
{
    const product *p = arg;
    size_t u0 = p->n_units * c / p->n_chunks, u1 = p->n_units * (c + 1) / p->n_chunks;
    void *scratch = p->scratch ? p->scratch + (size_t)worker * p->scratch_bytes : NULL;
    for (size_t k = 0, first = 0; k < p->n_ops && first < u1; k++) {
        const pith_operator *op = p->ops[k];
        size_t n_tiles = op->kind->n_tiles(op), unit = unit_of(op, p->in->n), last = first + PITH_CEIL_DIV(n_tiles, unit);
        if (last > u0) {
            size_t tile0 = (PITH_MAX(u0, first) - first) * unit, tile1 = PITH_MIN((PITH_MIN(u1, last) - first) * unit, n_tiles);
            op->kind->apply(op, p->kernels, tile0, tile1, p->in, p->y[k], op->n_rows, scratch);
        }
        first = last;
    }
}

typedef struct quantise_job {
    pith_input *in;
    const pith_kernels *kernels;
} quantise_job;

static void quantise_rows(void *arg, size_t i, int worker)
{
    (void)worker;
    quantise_job *j = arg;
    size_t i0 = i * Q8_ROWS, i1 = PITH_MIN(i0 + Q8_ROWS, j->in->n);
    j->kernels->q8_rows(&j->in->q8, i0, i1, j->in->x, j->in->cols, j->in->cols);
}

static pith_status quantise(pith_ctx *ctx, const pith_kernels *kernels, pith_input *in)
{
    void *memory = pith_arena_take(pith_scratch(ctx), pith_q8_bytes(in->n, in->cols));
    if (!memory) return PITH_E_MEMORY;
    pith_q8_init(&in->q8, in->n, in->cols, memory);
    quantise_job job = {in, kernels};
    pith_parallel(ctx, PITH_CEIL_DIV(in->n, Q8_ROWS), quantise_rows, &job);
    in->has_q8 = true;
    return PITH_OK;
}

pith_status pith_operators_apply(pith_ctx *ctx, const pith_operator *const *ops, size_t n_ops, pith_input *in, float *const *y)
{
    if (in->n == 0) return PITH_OK;
    const pith_kernels *kernels = pith_kernels_get(ctx);
    size_t n_threads = (size_t)pith_n_threads(ctx);
    product p = {.ops = ops, .n_ops = n_ops, .in = in, .y = y, .kernels = kernels};
    bool wants_q8 = false;
    for (size_t k = 0; k < n_ops; k++) {
        const pith_operator *op = ops[k];
        if (op->n_cols != in->cols)
            return pith_fail(ctx, PITH_E_SHAPE, "%s takes %zu columns, its input has %zu", op->name, op->n_cols, in->cols);
        wants_q8 |= op->kind->wants_q8;
        p.n_units += PITH_CEIL_DIV(op->kind->n_tiles(op), unit_of(op, in->n));
        if (op->kind->scratch_bytes) p.scratch_bytes = PITH_MAX(p.scratch_bytes, op->kind->scratch_bytes(op, in->n));
    }
    if (wants_q8 && !in->has_q8) PITH_TRY(quantise(ctx, kernels, in));
    p.n_chunks = n_threads == 1 ? 1 : PITH_MIN(p.n_units, n_threads * CHUNKS_A_THREAD);
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    if (p.scratch_bytes) {
        size_t total;
        p.scratch_bytes = PITH_ROUND_UP(p.scratch_bytes, PITH_ALIGN);
        p.scratch = pith_arena_take(pith_scratch(ctx), pith_mul(p.scratch_bytes, n_threads, &total) ? total : SIZE_MAX);
        if (!p.scratch) return PITH_E_MEMORY;
    }
    pith_parallel(ctx, p.n_chunks, apply_chunk, &p);
    pith_arena_reset(pith_scratch(ctx), mark);
    return PITH_OK;
}

static size_t tiles_of_rows(const pith_operator *op) { return PITH_CEIL_DIV(op->n_rows, PITH_TILE_ROWS); }

static void set_bits(pith_operator *op)
{
    op->bits_per_weight = 8.0 * (double)op->kind->bytes(op) / ((double)op->n_rows * (double)op->n_cols);
}

/* ---- low-bit ---------------------------------------------------------------------------------- */

typedef struct qmat_operator {
    pith_operator op;
    pith_qmat m;
} qmat_operator;

static void qmat_apply(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in, float *y,
                       size_t ldy, void *scratch)
{
    (void)scratch;
    const pith_qmat *m = &((const qmat_operator *)op)->m;
    y += tile0 * PITH_TILE_ROWS;
    if (in->n == 1) k->qmat_vec(m, tile0, tile1, &in->q8, 0, y);
    else k->qmat_mat(m, tile0, tile1, &in->q8, 0, in->n, y, ldy);
}

static void qmat_get_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    (void)k;
    pith_qmat_row(&((const qmat_operator *)op)->m, row, dst);
}

static size_t qmat_bytes(const pith_operator *op) { return pith_qmat_bytes(&((const qmat_operator *)op)->m); }

static void qmat_free(pith_ctx *ctx, pith_operator *op)
{
    pith_qmat_free(ctx, &((qmat_operator *)op)->m);
    pith_free(ctx, (char *)op->name);
    pith_free(ctx, op);
}

static const pith_operator_kind qmat_kind = {
    .name = "qmat", .wants_q8 = true, .n_tiles = tiles_of_rows, .apply = qmat_apply, .row = qmat_get_row, .bytes = qmat_bytes, .free = qmat_free};

pith_status pith_operator_from_qmat(pith_ctx *ctx, pith_qmat *m, const char *name, pith_operator **op)
{
    qmat_operator *q = pith_calloc(ctx, 1, sizeof *q);
    if (!q) return PITH_E_MEMORY;
    q->op = (pith_operator){.kind = &qmat_kind, .n_rows = m->n_rows, .n_cols = m->n_cols, .name = pith_strdup(ctx, name)};
    if (!q->op.name) {
        pith_free(ctx, q);
        return PITH_E_MEMORY;
    }
    q->m = *m;
    *m = (pith_qmat){0};
    set_bits(&q->op);
    *op = &q->op;
    return PITH_OK;
}

/* ---- dense ------------------------------------------------------------------------------------ */

typedef struct dense_operator {
    pith_operator op;
    const void *data;        /* [n_rows, n_cols], in a mapped file or `owned` */
    void *owned;
} dense_operator;

static const void *dense_data(const pith_operator *op) { return ((const dense_operator *)op)->data; }

/* Rows r0..r1-1 as columns: dst [n_cols, PANEL_ROWS]; `strip`: room for PITH_TILE_ROWS rows of f32. */
typedef void widen_fn(const pith_operator *op, const pith_kernels *k, size_t r0, size_t r1, float *strip, float *dst);

static void dense_apply(const pith_operator *op, const pith_kernels *k, size_t row0, size_t row1, const pith_input *in, float *y, size_t ldy,
                        float *scratch, widen_fn *widen)
{
    float *panel = scratch + PITH_TILE_ROWS * op->n_cols;
    for (size_t r0 = row0, r1; r0 < row1; r0 = r1) {
        r1 = PITH_MIN(r0 + PANEL_ROWS, row1);
        widen(op, k, r0, r1, scratch, panel);
        k->gemm(in->n, r1 - r0, op->n_cols, in->x, in->cols, panel, PANEL_ROWS, y + r0, ldy, false);
    }
}

/* The types differ in how rows are multiplied and widened. */
#define DENSE(type, T, to_f32)                                                                                                   \
    static void type##_widen(const pith_operator *op, const pith_kernels *k, size_t r0, size_t r1, float *strip, float *dst)     \
    {                                                                                                                            \
        for (size_t r = r0, n; r < r1; r += n) {                                                                                 \
            n = PITH_MIN(r1 - r, (size_t)PITH_TILE_ROWS);                                                                        \
            const float *rows = to_f32(k, (const T *)dense_data(op) + r * op->n_cols, strip, n * op->n_cols);                    \
            pith_transpose(rows, n, op->n_cols, op->n_cols, dst + (r - r0), PANEL_ROWS);                                         \
        }                                                                                                                        \
    }                                                                                                                            \
    static void type##_apply(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in,   \
                             float *y, size_t ldy, void *scratch)                                                                \
    {                                                                                                                            \
        size_t row0 = tile0 * PITH_TILE_ROWS, row1 = PITH_MIN(tile1 * PITH_TILE_ROWS, op->n_rows);                               \
        if (in->n > PITH_FEW_TOKENS) {                                                                                           \
            dense_apply(op, k, row0, row1, in, y, ldy, scratch, type##_widen);                                                   \
            return;                                                                                                              \
        }                                                                                                                        \
        for (size_t i = 0; i < in->n; i++)                                                                                       \
            k->type##_vec(dense_data(op), row0, row1, op->n_cols, in->x + i * in->cols, y + i * ldy + row0);                     \
    }

static const float *same_f32(const pith_kernels *k, const float *src, float *dst, size_t n)
{
    (void)k, (void)dst, (void)n;
    return src;
}

static const float *f16_to_f32(const pith_kernels *k, const uint16_t *src, float *dst, size_t n)
{
    k->f16_to_f32(src, dst, n);
    return dst;
}

static const float *bf16_to_f32(const pith_kernels *k, const uint16_t *src, float *dst, size_t n)
{
    k->bf16_to_f32(src, dst, n);
    return dst;
}

DENSE(f32, float, same_f32)
DENSE(f16, uint16_t, f16_to_f32)
DENSE(bf16, uint16_t, bf16_to_f32)

static size_t panel_bytes(const pith_operator *op, size_t n)
{
    return n > PITH_FEW_TOKENS ? (PITH_TILE_ROWS + PANEL_ROWS) * op->n_cols * sizeof(float) : 0;
}

static void f32_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    (void)k;
    memcpy(dst, (const float *)dense_data(op) + row * op->n_cols, op->n_cols * sizeof *dst);
}

static void f16_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    k->f16_to_f32((const uint16_t *)dense_data(op) + row * op->n_cols, dst, op->n_cols);
}

static void bf16_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    k->bf16_to_f32((const uint16_t *)dense_data(op) + row * op->n_cols, dst, op->n_cols);
}

static size_t f32_bytes(const pith_operator *op) { return op->n_rows * op->n_cols * 4; }
static size_t half_bytes(const pith_operator *op) { return op->n_rows * op->n_cols * 2; }

static void dense_free(pith_ctx *ctx, pith_operator *op)
{
    pith_free(ctx, ((dense_operator *)op)->owned);
    pith_free(ctx, (char *)op->name);
    pith_free(ctx, op);
}

#define DENSE_KIND(type, bytes_of)                                                                                   \
    static const pith_operator_kind type##_kind = {.name = #type, .group = PANEL_ROWS / PITH_TILE_ROWS, .n_tiles = tiles_of_rows, \
        .apply = type##_apply, .scratch_bytes = panel_bytes, .row = type##_row, .bytes = bytes_of, .free = dense_free};

DENSE_KIND(f32, f32_bytes)
DENSE_KIND(f16, half_bytes)
DENSE_KIND(bf16, half_bytes)

/* `owned` may be NULL: then data is a file's. */
static pith_status dense_new(pith_ctx *ctx, const pith_operator_kind *kind, const pith_tensor *t, const char *name, const void *data,
                             void *owned, pith_operator **op)
{
    dense_operator *d = pith_calloc(ctx, 1, sizeof *d);
    if (!d) return PITH_E_MEMORY;
    d->op = (pith_operator){.kind = kind, .n_rows = t->dims[0], .n_cols = t->dims[1], .name = pith_strdup(ctx, name), .mapped = !owned};
    if (!d->op.name) {
        pith_free(ctx, d);
        return PITH_E_MEMORY;
    }
    d->data = data;
    d->owned = owned;
    set_bits(&d->op);
    *op = &d->op;
    return PITH_OK;
}

/* ---- from a file's tensor --------------------------------------------------------------------- */

typedef struct rows_job {
    const pith_tensor *t;
    const pith_kernels *kernels;
    float *dst;              /* [n_rows, n_cols] */
    uint16_t *half;          /* the same in f16, second pass */
    bool *fits;              /* [tasks] every value of the task's rows is an f16 */
} rows_job;

static void read_rows(void *arg, size_t i, int worker)
{
    (void)worker;
    rows_job *j = arg;
    size_t cols = j->t->dims[1], r0 = i * EXACT_ROWS, r1 = PITH_MIN(r0 + EXACT_ROWS, j->t->dims[0]);
    float *dst = j->dst + r0 * cols;
    (void)pith_tensor_rows_f32(j->t, r0, r1, dst); /* the type was tried by the caller */
    bool fits = true;
    for (size_t k = 0; k < (r1 - r0) * cols && fits; k++) fits = pith_f16_to_f32(pith_f32_to_f16(dst[k])) == dst[k];
    j->fits[i] = fits;
}

static void halve_rows(void *arg, size_t i, int worker)
{
    (void)worker;
    rows_job *j = arg;
    size_t cols = j->t->dims[1], r0 = i * EXACT_ROWS, r1 = PITH_MIN(r0 + EXACT_ROWS, j->t->dims[0]);
    j->kernels->f32_to_f16(j->dst + r0 * cols, j->half + r0 * cols, (r1 - r0) * cols);
}

/* The dequantised values, in f16 when that loses nothing. */
static pith_status dense_from_rows(pith_ctx *ctx, const pith_tensor *t, const char *name, size_t count, pith_operator **op)
{
    size_t n_tasks = PITH_CEIL_DIV(t->dims[0], EXACT_ROWS);
    rows_job job = {.t = t, .kernels = pith_kernels_get(ctx), .dst = pith_array(ctx, count, sizeof(float)), .fits = pith_array(ctx, n_tasks, sizeof(bool))};
    pith_status status = PITH_E_MEMORY;
    if (!job.dst || !job.fits) goto done;
    pith_parallel(ctx, n_tasks, read_rows, &job);
    bool fits = true;
    for (size_t i = 0; i < n_tasks; i++) fits &= job.fits[i];
    if (fits) {
        if (!(job.half = pith_array(ctx, count, sizeof(uint16_t)))) goto done;
        pith_parallel(ctx, n_tasks, halve_rows, &job);
        status = dense_new(ctx, &f16_kind, t, name, job.half, job.half, op);
        if (status == PITH_OK) job.half = NULL;
    } else {
        status = dense_new(ctx, &f32_kind, t, name, job.dst, job.dst, op);
        if (status == PITH_OK) job.dst = NULL;
    }
done:
    pith_free(ctx, job.half);
    pith_free(ctx, job.fits);
    pith_free(ctx, job.dst);
    return status;
}

/* In place; a copy when the file has put the values where they cannot be read as such. */
static pith_status dense_in_place(pith_ctx *ctx, const pith_operator_kind *kind, const pith_tensor *t, const char *name, size_t len,
                                  size_t value_bytes, pith_operator **op)
{
    if ((uintptr_t)t->data % value_bytes == 0) return dense_new(ctx, kind, t, name, t->data, NULL, op);
    void *copy = pith_alloc(ctx, len);
    if (!copy) return PITH_E_MEMORY;
    memcpy(copy, t->data, len);
    pith_status status = dense_new(ctx, kind, t, name, copy, copy, op);
    if (status != PITH_OK) pith_free(ctx, copy);
    return status;
}

static void tensor_row(void *arg, size_t row, float *dst) { (void)pith_tensor_rows_f32(arg, row, row + 1, dst); }

pith_status pith_operator_from_tensor(pith_ctx *ctx, const pith_tensor *t, const char *name, bool exact, pith_operator **op)
{
    const pith_dtype_info *info = pith_dtype_get(t->dtype);
    size_t count, len;
    if (!info) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: unknown type %d", name, (int)t->dtype);
    if (t->n_dims != 2 || !t->dims[0] || !t->dims[1] || t->dims[0] > INT32_MAX || t->dims[1] > INT32_MAX)
        return pith_fail(ctx, PITH_E_SHAPE, "%s: a matrix is needed, this has %d dimensions of %zu x %zu", name, t->n_dims,
                         t->n_dims > 0 ? t->dims[0] : 0, t->n_dims > 1 ? t->dims[1] : 0);
    if (!pith_mul(t->dims[0], t->dims[1], &count) || t->dims[1] % info->block_len || !pith_dtype_bytes(t->dtype, count, &len))
        return pith_fail(ctx, PITH_E_SHAPE, "%s: %zu x %zu values of %s in blocks of %zu", name, t->dims[0], t->dims[1], info->name, info->block_len);
    switch (t->dtype) {
    case PITH_F32: return dense_in_place(ctx, &f32_kind, t, name, len, 4, op);
    case PITH_F16: return dense_in_place(ctx, &f16_kind, t, name, len, 2, op);
    case PITH_BF16: return dense_in_place(ctx, &bf16_kind, t, name, len, 2, op);
    default: break;
    }

    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    float *row = pith_arena_take(pith_scratch(ctx), t->dims[1] * sizeof *row);
    pith_status status = row ? pith_tensor_rows_f32(t, 0, 1, row) : PITH_E_MEMORY;
    pith_arena_reset(pith_scratch(ctx), mark);
    if (!row) return PITH_E_MEMORY;
    if (status != PITH_OK) return pith_fail(ctx, status, "%s: values of type %s cannot be read", name, info->name);
    if (exact) return dense_from_rows(ctx, t, name, count, op);

    pith_qmat m = {0};
    status = pith_qmat_from_blocks(ctx, t, &m);
    if (status == PITH_E_UNSUPPORTED) {
        pith_log(ctx, PITH_LOG_INFO, "%s: %s is requantised to 8 bits to run", name, info->name);
        status = pith_qmat_from_rows_q8(ctx, t->dims[0], t->dims[1], tensor_row, (void *)(uintptr_t)t, &m);
    }
    if (status != PITH_OK) return pith_fail_at(ctx, status, "%s", name);
    status = pith_operator_from_qmat(ctx, &m, name, op);
    if (status != PITH_OK) pith_qmat_free(ctx, &m);
    return status;
}

void pith_operator_free(pith_ctx *ctx, pith_operator *op)
{
    if (!op) return;
    void *owner = op->owner;
    void (*release)(pith_ctx *, void *) = op->release;
    op->kind->free(ctx, op);
    if (owner && release) release(ctx, owner);
}
