/* Products of matrices, over the tensor layer's gemm.
 *
 * gemm wants both sides row by row, and is fast where the result's columns are a multiple of 16.  So the right
 * side is copied ("packed") into panels of PITH_GEMM_PANEL columns, padded with zeros, where it is transposed,
 * narrow or used by many rows; the left side is copied only where it is transposed.  As each element is one chain
 * of multiply-adds in the order of k, no choice made here changes a bit, and neither does turning a product
 * around (c' = b' a'), which is done where that packs less. */
#include "grad/tape.h"
#include "grad/matmul.h"

#define PANEL ((size_t)PITH_GEMM_PANEL)
#define ROWS_A_TASK ((size_t)48)        /* a multiple of the kernel's rows */
#define PACK_FROM_ROWS ((size_t)24)     /* fewer rows do not pay for packing what could be read in place */
#define WORK_A_TASK ((size_t)1 << 18)   /* multiply-adds; below, waking a thread costs more */

typedef struct product {
    pith_gemm_fn *gemm;
    size_t m, n, k, n_panels, panel_len; /* panel_len: values of a packed panel */
    pith_matrix a, b;
    float *packed_a, *packed_b;          /* NULL: read in place */
    float *c, *edge;                     /* edge: [worker, ROWS_A_TASK, PANEL] */
    size_t ldc, row_blocks, step_a, step_b, step_c, panels_a_task;
    bool add, turn;                      /* turn: the result is to be c transposed */
    const float *bias;                   /* by column; by row where turned */
} product;

static size_t padded(size_t n) { return PITH_ROUND_UP(n, (size_t)16); }

/* Panel p of matrix b: [k, width] with width 64, or what is left of n padded to 16. */
static void pack_panel(const product *w, const float *b, size_t p, float *dst)
{
    size_t j = p * PANEL, n = PITH_MIN(PANEL, w->n - j), width = padded(n);
    if (w->b.transposed) {
        pith_transpose(b + j * w->b.stride, n, w->k, w->b.stride, dst, width);
        for (size_t r = 0; n < width && r < w->k; r++) memset(dst + r * width + n, 0, (width - n) * sizeof(float));
        return;
    }
    for (size_t r = 0; r < w->k; r++) {
        memcpy(dst + r * width, b + r * w->b.stride + j, n * sizeof(float));
        if (n < width) memset(dst + r * width + n, 0, (width - n) * sizeof(float));
    }
}

static void pack_b(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const product *w = arg;
    for (size_t i = from; i < to; i++) pack_panel(w, w->b.data + i / w->n_panels * w->step_b, i % w->n_panels, w->packed_b + i * w->panel_len);
}

static void pack_a(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const product *w = arg;
    for (size_t i = from; i < to; i++) {
        size_t matrix = i / w->row_blocks, r = i % w->row_blocks * ROWS_A_TASK, n = PITH_MIN(ROWS_A_TASK, w->m - r);
        pith_transpose(w->a.data + matrix * w->step_a + r, w->k, n, w->a.stride, w->packed_a + (matrix * w->m + r) * w->k, w->k);
    }
}

static void set_bias(const product *w, float *c, size_t ldc, size_t rows, size_t cols, size_t i, size_t j)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t q = 0; q < cols; q++) c[r * ldc + q] = w->bias[w->turn ? i + r : j + q];
}

/* Rows of a task by one panel. */
static void multiply_panel(const product *w, size_t matrix, size_t block, size_t p, int worker)
{
    size_t i = block * ROWS_A_TASK, rows = PITH_MIN(ROWS_A_TASK, w->m - i), j = p * PANEL, n = PITH_MIN(PANEL, w->n - j);
    const float *a = w->packed_a ? w->packed_a + ((w->step_a ? matrix : 0) * w->m + i) * w->k : w->a.data + matrix * w->step_a + i * w->a.stride;
    const float *b = w->packed_b ? w->packed_b + ((w->step_b ? matrix : 0) * w->n_panels + p) * w->panel_len : w->b.data + matrix * w->step_b + j;
    size_t lda = w->packed_a ? w->k : w->a.stride, width = w->packed_b ? padded(n) : n, ldb = w->packed_b ? width : w->b.stride;
    float *c = w->c + matrix * w->step_c + (w->turn ? j * w->ldc + i : i * w->ldc + j);
    if (width == n && !w->turn) {
        if (w->bias) set_bias(w, c, w->ldc, rows, n, i, j);
        w->gemm(rows, n, w->k, a, lda, b, ldb, c, w->ldc, w->add || w->bias);
        return;
    }
    float *edge = w->edge + (size_t)worker * ROWS_A_TASK * PANEL;
    if (w->bias) set_bias(w, edge, width, rows, n, i, j);
    for (size_t r = 0; w->bias && r < rows; r++) memset(edge + r * width + n, 0, (width - n) * sizeof(float));
    w->gemm(rows, width, w->k, a, lda, b, ldb, edge, width, w->bias != NULL);
    if (w->turn) pith_transpose(edge, rows, n, width, c, w->ldc);
    else
        for (size_t r = 0; r < rows; r++) memcpy(c + r * w->ldc, edge + r * width, n * sizeof(float));
}

static void multiply(void *arg, size_t from, size_t to, int worker)
{
    const product *w = arg;
    size_t groups = PITH_CEIL_DIV(w->n_panels, w->panels_a_task);
    for (size_t t = from; t < to; t++) {
        size_t group = t % groups, block = t / groups % w->row_blocks, matrix = t / groups / w->row_blocks;
        for (size_t p = group * w->panels_a_task; p < PITH_MIN((group + 1) * w->panels_a_task, w->n_panels); p++) multiply_panel(w, matrix, block, p, worker);
    }
}

bool pith_product(pith_tape *tape, size_t n_matrices, size_t m, size_t n, size_t k, pith_matrix a, pith_matrix b, size_t step_a, size_t step_b, const float *bias, float *c)
{
    if (!n_matrices || !m || !n) return true;
    product w = {.gemm = tape->kernels->gemm, .m = m, .n = n, .k = k, .a = a, .b = b, .c = c, .ldc = n, .step_a = step_a, .step_b = step_b, .step_c = m * n, .bias = bias};
    /* c' = b' a': then b, in place if it is transposed, is the left side, and a is packed */
    if (m < n && b.transposed && m * 4 <= n) {
        w.turn = true;
        w.m = n;
        w.n = m;
        w.a = (pith_matrix){b.data, b.stride, !b.transposed};
        w.b = (pith_matrix){a.data, a.stride, !a.transposed};
        w.step_a = step_b;
        w.step_b = step_a;
    }
    w.n_panels = PITH_CEIL_DIV(w.n, PANEL);
    w.panel_len = k * padded(PITH_MIN(w.n, PANEL));
    w.row_blocks = PITH_CEIL_DIV(w.m, ROWS_A_TASK);
    size_t n_a = w.step_a ? n_matrices : 1, n_b = w.step_b ? n_matrices : 1;
    bool pack_right = w.b.transposed || w.n % 16 || w.m >= PACK_FROM_ROWS;
    pith_block *packed_a = NULL, *packed_b = NULL, *edge = pith_op_take(tape, (size_t)pith_n_threads(tape->ctx) * ROWS_A_TASK * PANEL);
    if (w.a.transposed) packed_a = pith_op_take(tape, n_a * w.m * k);
    if (pack_right) packed_b = pith_op_take(tape, n_b * w.n_panels * w.panel_len);
    bool done = edge && (packed_a || !w.a.transposed) && (packed_b || !pack_right);
    if (done) {
        w.edge = pith_op_floats(edge);
        w.packed_a = packed_a ? pith_op_floats(packed_a) : NULL;
        w.packed_b = packed_b ? pith_op_floats(packed_b) : NULL;
        if (packed_b) pith_op_ranges(tape, n_b * w.n_panels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.panel_len + 1), pack_b, &w);
        if (packed_a) pith_op_ranges(tape, n_a * w.row_blocks, PITH_CEIL_DIV(ELEMENT_GRAIN, ROWS_A_TASK * k + 1), pack_a, &w);
        size_t work = PITH_MIN(ROWS_A_TASK, w.m) * PITH_MIN(PANEL, w.n) * PITH_MAX(k, (size_t)1);
        w.panels_a_task = PITH_MAX((size_t)1, PITH_MIN(w.n_panels, WORK_A_TASK / work));
        size_t groups = PITH_CEIL_DIV(w.n_panels, w.panels_a_task);
        pith_op_ranges(tape, n_matrices * w.row_blocks * groups, PITH_MAX((size_t)1, WORK_A_TASK / (work * w.panels_a_task)), multiply, &w);
    }
    pith_op_drop(tape, edge);
    pith_op_drop(tape, packed_a);
    pith_op_drop(tape, packed_b);
    return done;
}

/* ---- matmul ----------------------------------------------------------------------------------- */

typedef struct matmul_attr {
    bool transpose_a, transpose_b;
} matmul_attr;

/* A product's gradient summed over the matrices that shared a side: all rows or columns at once, as one long k. */
static pith_var *back_shared(pith_var *g, const pith_var *x)
{
    return g && !pith_same_shape(g, x) ? pith_var_sum_to(g, x->n_dims, x->dims) : g;
}

static void matmul_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const matmul_attr *t = y->attr;
    pith_var *a = y->in[0], *b = y->in[1];
    if (pith_wanted(a)) gx[0] = back_shared(t->transpose_a ? pith_var_matmul(b, gy, t->transpose_b, true) : pith_var_matmul(gy, b, false, !t->transpose_b), a);
    if (!pith_wanted(b)) return;
    if (b->n_dims == 2 && a->n_dims > 2 && !t->transpose_a) { /* all matrices of a are one tall one */
        size_t k = a->dims[a->n_dims - 1], n = y->dims[y->n_dims - 1], rows = k ? a->count / k : 0;
        pith_var *tall = pith_var_reshape(a, PITH_DIMS(rows, k)), *g = pith_var_reshape(gy, PITH_DIMS(rows, n));
        gx[1] = t->transpose_b ? pith_var_matmul(g, tall, true, false) : pith_var_matmul(tall, g, true, false);
        return;
    }
    gx[1] = back_shared(t->transpose_b ? pith_var_matmul(gy, a, true, t->transpose_a) : pith_var_matmul(a, gy, !t->transpose_a, false), b);
}

pith_var *pith_var_matmul(pith_var *a, pith_var *b, bool transpose_a, bool transpose_b)
{
    static const pith_op op = {"matmul", matmul_backward};
    if (!a || !b) return NULL;
    int da = a->n_dims - 2, db = b->n_dims - 2;
    bool fits = da >= 0 && db >= 0 && (da == 0 || db == 0 || (da == db && memcmp(a->dims, b->dims, (size_t)da * sizeof *a->dims) == 0));
    size_t m = 0, n = 0, k = 0;
    if (fits) {
        m = a->dims[da + transpose_a];
        k = a->dims[da + !transpose_a];
        n = b->dims[db + !transpose_b];
        fits = k == b->dims[db + transpose_b];
    }
    if (!fits) return pith_op_fail(a->tape, PITH_E_SHAPE, "matmul: %s%s by %s%s", PITH_SHAPE(a), transpose_a ? " transposed" : "", PITH_SHAPE(b), transpose_b ? " transposed" : "");
    const pith_var *longer = da >= db ? a : b;
    size_t dims[PITH_MAX_DIMS], n_matrices = 1, step_a = da ? m * k : 0, step_b = db ? k * n : 0;
    memcpy(dims, longer->dims, sizeof dims);
    dims[longer->n_dims - 2] = m;
    dims[longer->n_dims - 1] = n;
    for (int d = 0; d < longer->n_dims - 2; d++) n_matrices *= dims[d];
    pith_var *in[] = {a, b}, *y = pith_op_value(a->tape, &op, in, 2, longer->n_dims, dims, sizeof(matmul_attr));
    if (!y) return NULL;
    *(matmul_attr *)y->attr = (matmul_attr){transpose_a, transpose_b};
    size_t rows = m;
    if (da && !db && !transpose_a) { /* one tall matrix */
        rows *= n_matrices;
        n_matrices = 1;
        step_a = 0;
    }
    pith_matrix ma = {a->data, transpose_a ? m : k, transpose_a}, mb = {b->data, transpose_b ? k : n, transpose_b};
    return pith_product(a->tape, n_matrices, rows, n, k, ma, mb, step_a, step_b, NULL, y->data) ? y : NULL;
}

/* ---- linear ----------------------------------------------------------------------------------- */

static void linear_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    pith_var *x = y->in[0], *w = y->in[1];
    size_t n_out = w->dims[0], n_in = w->dims[1], rows = x->count / n_in;
    pith_var *g = pith_var_reshape(gy, PITH_DIMS(rows, n_out));
    if (pith_wanted(x)) gx[0] = pith_var_reshape(pith_var_matmul(g, w, false, false), x->n_dims, x->dims);
    if (pith_wanted(w)) gx[1] = pith_var_matmul(g, pith_var_reshape(x, PITH_DIMS(rows, n_in)), true, false);
    if (y->n_in > 2 && pith_wanted(y->in[2])) gx[2] = pith_var_sum_to(g, 1, &n_out);
}

pith_var *pith_var_linear(pith_var *x, pith_var *w, pith_var *bias)
{
    static const pith_op op = {"linear", linear_backward};
    if (!x || !w) return NULL;
    bool fits = w->n_dims == 2 && x->n_dims >= 1 && w->dims[1] > 0 && x->dims[x->n_dims - 1] == w->dims[1];
    if (!fits) return pith_op_fail(x->tape, PITH_E_SHAPE, "linear: weights %s do not take %s", PITH_SHAPE(w), PITH_SHAPE(x));
    if (bias && (bias->n_dims != 1 || bias->dims[0] != w->dims[0])) return pith_op_fail(x->tape, PITH_E_SHAPE, "linear: weights %s, but bias %s", PITH_SHAPE(w), PITH_SHAPE(bias));
    size_t dims[PITH_MAX_DIMS], n_in = w->dims[1], n_out = w->dims[0];
    memcpy(dims, x->dims, sizeof dims);
    dims[x->n_dims - 1] = n_out;
    pith_var *in[] = {x, w, bias}, *y = pith_op_value(x->tape, &op, in, bias ? 3 : 2, x->n_dims, dims, 0);
    if (!y) return NULL;
    pith_matrix ma = {x->data, n_in, false}, mb = {w->data, n_in, true};
    return pith_product(x->tape, 1, x->count / n_in, n_out, n_in, ma, mb, 0, 0, bias ? bias->data : NULL, y->data) ? y : NULL;
}
