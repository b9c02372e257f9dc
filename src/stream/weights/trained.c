/* Operators on a tape. */
#include "stream/weights/trained.h"

#include <math.h>

#include "grad/matmul.h"

#define DENSE_ROWS ((size_t)512)    /* of a fixed operator, made dense at a time for a gradient */
#define ROWS_A_TASK ((size_t)48)    /* of the gradient; a multiple of the product's rows */
#define ROUND_VALUES ((size_t)16384) /* a task */

/* ---- trained ---------------------------------------------------------------------------------- */

typedef struct trained_operator {
    pith_operator op;
    pith_var *param;
    pith_operator *dense;           /* f32, over the parameter's memory */
    pith_round_fn *round;           /* NULL: as it is */
    const void *user;
} trained_operator;

static const trained_operator *trained(const pith_operator *op) { return (const trained_operator *)op; }

static size_t dense_tiles(const pith_operator *op) { return trained(op)->dense->kind->n_tiles(trained(op)->dense); }

static void dense_apply(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in, float *y, size_t ldy, void *scratch)
{
    const pith_operator *dense = trained(op)->dense;
    dense->kind->apply(dense, k, tile0, tile1, in, y, ldy, scratch);
}

static size_t dense_scratch(const pith_operator *op, size_t n) { return trained(op)->dense->kind->scratch_bytes(trained(op)->dense, n); }

static void dense_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    (void)k;
    memcpy(dst, trained(op)->param->data + row * op->n_cols, op->n_cols * sizeof *dst);
}

/* A tile's rows are rounded into scratch and multiplied there, token by token. */
static void rounded_apply(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in, float *y, size_t ldy, void *scratch)
{
    const trained_operator *t = trained(op);
    for (size_t tile = tile0; tile < tile1; tile++) {
        size_t r = tile * PITH_TILE_ROWS, n = PITH_MIN((size_t)PITH_TILE_ROWS, op->n_rows - r);
        t->round(t->user, t->param->data + r * op->n_cols, scratch, n, op->n_cols);
        for (size_t i = 0; i < in->n; i++) k->f32_vec(scratch, 0, n, op->n_cols, in->x + i * in->cols, y + i * ldy + r);
    }
}

static size_t rounded_scratch(const pith_operator *op, size_t n)
{
    (void)n;
    return PITH_TILE_ROWS * op->n_cols * sizeof(float);
}

static void rounded_row(const pith_operator *op, const pith_kernels *k, size_t row, float *dst)
{
    (void)k;
    trained(op)->round(trained(op)->user, trained(op)->param->data + row * op->n_cols, dst, 1, op->n_cols);
}

static size_t trained_bytes(const pith_operator *op) { return op->n_rows * op->n_cols * sizeof(float); }

static void trained_free(pith_ctx *ctx, pith_operator *op)
{
    pith_operator_free(ctx, trained(op)->dense);
    pith_free(ctx, op);
}

static const pith_operator_kind trained_kind = {.name = "trained", .group = PITH_GEMM_PANEL / PITH_TILE_ROWS, .n_tiles = dense_tiles, .apply = dense_apply,
    .scratch_bytes = dense_scratch, .row = dense_row, .bytes = trained_bytes, .free = trained_free};
static const pith_operator_kind rounded_kind = {.name = "rounded", .n_tiles = dense_tiles, .apply = rounded_apply,
    .scratch_bytes = rounded_scratch, .row = rounded_row, .bytes = trained_bytes, .free = trained_free};

pith_status pith_operator_from_param(pith_ctx *ctx, pith_var *param, pith_round_fn *round, const void *user, pith_operator **op)
{
    if (param->n_dims != 2) return pith_fail(ctx, PITH_E_SHAPE, "%s: an operator is a matrix, this parameter has %d dimensions", param->name, param->n_dims);
    trained_operator *t = pith_calloc(ctx, 1, sizeof *t);
    if (!t) return PITH_E_MEMORY;
    pith_tensor values = {.data = param->data, .dtype = PITH_F32, .n_dims = 2, .dims = {param->dims[0], param->dims[1]}};
    pith_status status = pith_operator_from_tensor(ctx, &values, param->name, false, &t->dense);
    if (status != PITH_OK) {
        pith_free(ctx, t);
        return status;
    }
    t->op = *t->dense; /* the name is the dense one's */
    t->op.kind = round ? &rounded_kind : &trained_kind;
    t->op.mapped = false;
    t->param = param;
    t->round = round;
    t->user = user;
    *op = &t->op;
    return PITH_OK;
}

pith_var *pith_operator_param(const pith_operator *op)
{
    return op->kind == &trained_kind || op->kind == &rounded_kind ? trained(op)->param : NULL;
}

/* ---- rounding --------------------------------------------------------------------------------- */

typedef struct round_work {
    const trained_operator *t;
    float *dst;
} round_work;

static void round_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const round_work *w = arg;
    size_t cols = w->t->op.n_cols;
    w->t->round(w->t->user, w->t->param->data + from * cols, w->dst + from * cols, to - from, cols);
}

static void round_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    (void)y;
    gx[0] = gy;
}

/* The matrix as it is multiplied by. */
static pith_var *recorded_matrix(const pith_operator *op)
{
    static const pith_op rounding = {"round", round_backward};
    const trained_operator *t = trained(op);
    if (!t->round) return t->param;
    pith_var *param = t->param, *y = pith_op_value(param->tape, &rounding, &param, 1, 2, param->dims, 0);
    if (!y) return NULL;
    round_work w = {t, y->data};
    pith_op_ranges(param->tape, op->n_rows, PITH_CEIL_DIV(ROUND_VALUES, op->n_cols), round_rows, &w);
    return y;
}

void pith_round_to_groups(const void *user, const float *w, float *dst, size_t n_rows, size_t n_cols)
{
    const pith_round_groups *g = user;
    float most = (float)((1u << (g->bits - 1)) - 1);
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t c = 0; c < n_cols; c += g->group_size) {
            size_t n = PITH_MIN(g->group_size, n_cols - c);
            const float *x = w + r * n_cols + c;
            float *y = dst + r * n_cols + c, top = 0;
            for (size_t i = 0; i < n; i++) top = fmaxf(top, fabsf(x[i]));
            float scale = top / most, inverse = top > 0 ? most / top : 0;
            for (size_t i = 0; i < n; i++) y[i] = rintf(x[i] * inverse) * scale;
        }
    }
}

/* ---- fixed ------------------------------------------------------------------------------------ */

typedef struct fixed_attr {
    const pith_operator *op;
} fixed_attr;

typedef struct fixed_work {
    const pith_operator *op;
    const pith_kernels *kernels;
    size_t row0, n_rows;            /* that are dense now */
    float *dense;                   /* [n_rows, n_cols] */
    const float *gy;
    float *gx;
    const int32_t *ids;
} fixed_work;

static void make_dense(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const fixed_work *w = arg;
    for (size_t r = from; r < to; r++) w->op->kind->row(w->op, w->kernels, w->row0 + r, w->dense + r * w->op->n_cols);
}

/* gx += gy[:, row0 ..] W[row0 .., :] for some tokens */
static void add_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const fixed_work *w = arg;
    size_t cols = w->op->n_cols, rows = w->op->n_rows;
    w->kernels->gemm(to - from, cols, w->n_rows, w->gy + from * rows + w->row0, rows, w->dense, cols, w->gx + from * cols, cols, w->row0 > 0);
}

/* By all rows, dense: what the gradient is taken through. */
static pith_var *remake(pith_var *y)
{
    static const pith_op rows = {"operator_rows", NULL};
    const pith_operator *op = ((const fixed_attr *)y->attr)->op;
    pith_var *w = pith_op_value(y->tape, &rows, NULL, 0, PITH_DIMS(op->n_rows, op->n_cols), 0);
    if (!w) return NULL;
    fixed_work work = {.op = op, .kernels = pith_kernels_get(pith_tape_ctx(y->tape)), .dense = w->data};
    pith_op_ranges(y->tape, op->n_rows, PITH_CEIL_DIV(ROUND_VALUES, op->n_cols), make_dense, &work);
    return pith_var_linear(y->in[0], w, NULL);
}

static void fixed_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"operator_back", NULL};
    const pith_operator *op = ((const fixed_attr *)y->attr)->op;
    pith_var *x = y->in[0];
    pith_tape *tape = y->tape;
    if (pith_op_remake(y, gy, remake)) return;
    pith_var *g = pith_op_value(tape, &back, NULL, 0, x->n_dims, x->dims, 0);
    pith_block *block = g ? pith_op_take(tape, PITH_MIN(DENSE_ROWS, op->n_rows) * op->n_cols) : NULL;
    if (!block) return;
    fixed_work w = {.op = op, .kernels = pith_kernels_get(pith_tape_ctx(tape)), .dense = pith_op_floats(block), .gy = gy->data, .gx = g->data};
    for (; w.row0 < op->n_rows; w.row0 += w.n_rows) {
        w.n_rows = PITH_MIN(DENSE_ROWS, op->n_rows - w.row0);
        pith_op_ranges(tape, w.n_rows, PITH_CEIL_DIV(ROUND_VALUES, op->n_cols), make_dense, &w);
        pith_op_ranges(tape, x->count / op->n_cols, ROWS_A_TASK, add_back, &w);
    }
    pith_op_drop(tape, block);
    gx[0] = g;
}

static pith_var *record_fixed(const pith_operator *op, pith_var *x)
{
    static const pith_op fixed = {"operator", fixed_backward};
    pith_tape *tape = x->tape;
    pith_ctx *ctx = pith_tape_ctx(tape);
    size_t dims[PITH_MAX_DIMS];
    memcpy(dims, x->dims, sizeof dims);
    dims[x->n_dims - 1] = op->n_rows;
    pith_var *y = pith_op_value(tape, &fixed, &x, 1, x->n_dims, dims, sizeof(fixed_attr));
    if (!y) return NULL;
    ((fixed_attr *)y->attr)->op = op;
    pith_input in = {.x = x->data, .n = x->count / op->n_cols, .cols = op->n_cols};
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    pith_status status = pith_operators_apply(ctx, &op, 1, &in, &y->data);
    pith_arena_reset(pith_scratch(ctx), mark);
    return status == PITH_OK ? y : pith_op_fail(tape, status, "%s", pith_error(ctx));
}

pith_var *pith_operator_record(const pith_operator *op, pith_var *x)
{
    if (!x) return NULL;
    if (x->n_dims < 1 || x->dims[x->n_dims - 1] != op->n_cols)
        return pith_op_fail(x->tape, PITH_E_SHAPE, "%s: %zu x %zu weights do not take %s", op->name, op->n_rows, op->n_cols, PITH_SHAPE(x));
    return pith_operator_param(op) ? pith_var_linear(x, recorded_matrix(op), NULL) : record_fixed(op, x);
}

/* ---- rows ------------------------------------------------------------------------------------- */

static void take_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const fixed_work *w = arg;
    for (size_t i = from; i < to; i++) w->op->kind->row(w->op, w->kernels, (size_t)w->ids[i], w->dense + i * w->op->n_cols);
}

pith_var *pith_operator_record_rows(pith_tape *tape, const pith_operator *op, const int32_t *ids, int n_dims, const size_t *dims)
{
    static const pith_op fixed_rows = {"operator_rows", NULL};
    if (pith_operator_param(op)) return pith_var_rows(recorded_matrix(op), ids, n_dims, dims);
    size_t shape[PITH_MAX_DIMS], n = 1;
    if (n_dims < 0 || n_dims >= PITH_MAX_DIMS) return pith_op_fail(tape, PITH_E_SHAPE, "%s: rows for ids of %d dimensions", op->name, n_dims);
    for (int d = 0; d < n_dims; d++) n *= shape[d] = dims[d];
    shape[n_dims] = op->n_cols;
    pith_var *y = pith_op_value(tape, &fixed_rows, NULL, 0, n_dims + 1, shape, 0);
    if (!y) return NULL;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= op->n_rows)
            return pith_op_fail(tape, PITH_E_ARGUMENT, "%s: id %d is not of 0..%zu", op->name, (int)ids[i], op->n_rows - 1);
    fixed_work w = {.op = op, .kernels = pith_kernels_get(pith_tape_ctx(tape)), .dense = y->data, .ids = ids};
    pith_op_ranges(tape, n, PITH_CEIL_DIV(ROUND_VALUES, op->n_cols), take_rows, &w);
    return y;
}

/* ---- sums of parts ---------------------------------------------------------------------------- */

static bool is_matrix(const pith_var *v, size_t n_rows, size_t n_cols) { return v->n_dims == 2 && v->dims[0] == n_rows && v->dims[1] == n_cols; }

static bool parts_fit(const pith_weight_parts *w)
{
    const pith_var *l = w->left, *r = w->right, *book = w->codebook;
    if (w->stored && (w->stored->n_rows != w->n_rows || w->stored->n_cols != w->n_cols)) return false;
    if (w->dense && !is_matrix(w->dense, w->n_rows, w->n_cols)) return false;
    if (!l != !r || (l && (l->n_dims != 2 || !is_matrix(l, w->n_rows, l->dims[1]) || !is_matrix(r, l->dims[1], w->n_cols)))) return false;
    if (w->sparse && w->sparse->n_dims != 1) return false;
    return !book || (book->n_dims == 2 && book->dims[1] > 0 && w->n_cols % book->dims[1] == 0);
}

/* The dense matrix of the parts that are multiplied as one; NULL, too, where there are none. */
static pith_var *spread_parts(const pith_weight_parts *w, pith_tape *tape)
{
    pith_var *sum = w->dense;
    size_t n_places;
    if (w->sparse) {
        if (!pith_mul(w->n_rows, w->n_cols, &n_places) || n_places > INT32_MAX)
            return pith_op_fail(tape, PITH_E_LIMIT, "weight: a sparse part of %zu x %zu has more than 2^31 places; part the matrix by rows", w->n_rows, w->n_cols);
        pith_var *column = pith_var_reshape(w->sparse, PITH_DIMS(w->sparse->count, 1));
        pith_var *spread = pith_var_reshape(pith_var_index_add(column, w->place, n_places), PITH_DIMS(w->n_rows, w->n_cols));
        sum = sum ? pith_var_add(sum, spread) : spread;
    }
    if (w->codebook && pith_tape_status(tape) == PITH_OK) {
        pith_var *runs = pith_var_rows(w->codebook, w->code, PITH_DIMS(w->n_rows, w->n_cols / w->codebook->dims[1]));
        runs = pith_var_reshape(runs, PITH_DIMS(w->n_rows, w->n_cols));
        sum = sum ? pith_var_add(sum, runs) : runs;
    }
    return sum;
}

pith_var *pith_weight_record(const pith_weight_parts *w, pith_var *x)
{
    if (!x) return NULL;
    pith_tape *tape = x->tape;
    if (!w->n_rows || !w->n_cols || !parts_fit(w))
        return pith_op_fail(tape, PITH_E_SHAPE, "weight: parts of a %zu x %zu matrix have other shapes (dense %s, left %s, right %s, sparse %s, codebook %s)", w->n_rows, w->n_cols, w->dense ? PITH_SHAPE(w->dense) : "-",
                            w->left ? PITH_SHAPE(w->left) : "-", w->right ? PITH_SHAPE(w->right) : "-", w->sparse ? PITH_SHAPE(w->sparse) : "-", w->codebook ? PITH_SHAPE(w->codebook) : "-");
    if (x->n_dims < 1 || x->dims[x->n_dims - 1] != w->n_cols) return pith_op_fail(tape, PITH_E_SHAPE, "weight: %zu x %zu weights do not take %s", w->n_rows, w->n_cols, PITH_SHAPE(x));
    pith_var *terms[3] = {0};
    size_t n = 0;
    if (w->stored) terms[n++] = pith_operator_record(w->stored, x);
    if (w->dense || w->sparse || w->codebook) terms[n++] = pith_var_linear(x, spread_parts(w, tape), NULL);
    if (w->left) terms[n++] = pith_var_linear(pith_var_linear(x, w->right, NULL), w->left, NULL);
    if (!n) return pith_op_fail(tape, PITH_E_ARGUMENT, "weight: a %zu x %zu matrix without parts", w->n_rows, w->n_cols);
    for (size_t i = 1; i < n; i++) terms[0] = pith_var_add(terms[0], terms[i]);
    return terms[0];
}
