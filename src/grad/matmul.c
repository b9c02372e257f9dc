/* Products of matrices, over the tensor layer's gemm.
 *
 * gemm wants the right side row by row, and is fast where the result's columns are a multiple of 16.  So the right
 * side is copied ("packed") into panels of PITH_GEMM_PANEL columns, padded with zeros, where it is transposed,
 * narrow or used by many rows; the left side is read where it is.  As each element is one chain of multiply-adds, from 0
 * or its bias, in the order of k, no choice made here changes a bit, and neither does turning a product around
 * (c' = b' a'), which is done where that packs less. */
#include "grad/tape.h"
#include "grad/matmul.h"

#define PANEL ((size_t)PITH_GEMM_PANEL)
#define ROWS_A_TASK ((size_t)48)        /* a multiple of the kernel's rows */
#define PACK_FROM_ROWS ((size_t)24)     /* fewer rows do not pay for packing what could be read in place */
#define DEPTH ((size_t)160)             /* of a transposed left side at a time: a panel of so many rows stays in the first cache */
#define FEW_PLACES ((size_t)512)        /* values: rows so far apart, or a multiple, share few places of the first cache */
#define TALLEST ((size_t)384)           /* rows of a task with such a left side, at most, and */
#define PANELS_A_TASK ((size_t)8)       /* its panels: its part of the result stays in the second cache */
#define WORK_A_TASK ((size_t)1 << 18)   /* multiply-adds; below, waking a thread costs more */

typedef struct product {
    pith_gemm_fn *gemm;
    pith_gemm_turned_fn *gemm_turned;
    size_t m, n, k, n_panels, panel_len; /* panel_len: values of a packed panel */
    pith_matrix a, b;
    float *packed;                       /* b; where a is transposed, for each worker a panel, [DEPTH, PANEL], and a task's rows, [DEPTH, slab_stride]; NULL: read in place */
    float *c, *edge;                     /* edge: [worker, rows_a_task, PANEL] */
    size_t ldc, slab_stride /* 0: rows are read in place */, rows_a_task, row_blocks, step_a, step_b, step_c, panels_a_task;
    bool turn;                           /* the result is to be c transposed */
    const float *bias;                   /* by column; by row where turned */
} product;

static size_t padded(size_t n) { return PITH_ROUND_UP(n, (size_t)16); }

/* Rows k0..k0+depth-1 of panel p of matrix b: [depth, width] with width 64, or what is left of n padded to 16. */
static void pack_panel(const product *w, const float *b, size_t p, size_t k0, size_t depth, float *dst)
{
    size_t j = p * PANEL, n = PITH_MIN(PANEL, w->n - j), width = padded(n);
    if (w->b.transposed) pith_transpose(b + j * w->b.stride + k0, n, depth, w->b.stride, dst, width);
    for (size_t r = 0; r < depth; r++) {
        if (!w->b.transposed) {
            const float *row = b + (k0 + r) * w->b.stride + j; /* and what will be packed next, should k go on */
            for (size_t i = 0; w->a.transposed && i < n; i += 16) __builtin_prefetch(row + depth * w->b.stride + i, 0, 2);
            if (n == PANEL) memcpy(dst + r * width, row, PANEL * sizeof(float)); /* without a call */
            else memcpy(dst + r * width, row, n * sizeof(float));
        }
        if (n < width) memset(dst + r * width + n, 0, (width - n) * sizeof(float));
    }
}

static void pack_b(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const product *w = arg;
    for (size_t i = from; i < to; i++) pack_panel(w, w->b.data + i / w->n_panels * w->step_b, i % w->n_panels, 0, w->k, w->packed + i * w->panel_len);
}

/* What sums begin with: the bias of rows from i and columns from j on, and zeros in columns cols..width-1. */
static void set_bias(const product *w, float *c, size_t ldc, size_t rows, size_t cols, size_t width, size_t i, size_t j)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t q = 0; q < cols; q++) c[r * ldc + q] = w->bias[w->turn ? i + r : j + q];
        for (size_t q = cols; q < width; q++) c[r * ldc + q] = 0;
    }
}

/* Rows of a task by one panel. */
static void multiply_panel(const product *w, size_t matrix, size_t block, size_t p, int worker)
{
    size_t i = block * w->rows_a_task, rows = PITH_MIN(w->rows_a_task, w->m - i), j = p * PANEL, n = PITH_MIN(PANEL, w->n - j);
    const float *a = w->a.data + matrix * w->step_a + i * w->a.stride;
    const float *b = w->packed ? w->packed + ((w->step_b ? matrix : 0) * w->n_panels + p) * w->panel_len : w->b.data + matrix * w->step_b + j;
    size_t width = w->packed ? padded(n) : n, ldb = w->packed ? width : w->b.stride;
    float *c = w->c + matrix * w->step_c + (w->turn ? j * w->ldc + i : i * w->ldc + j);
    if (width == n && !w->turn) {
        if (w->bias) set_bias(w, c, w->ldc, rows, n, n, i, j);
        w->gemm(rows, n, w->k, a, w->a.stride, b, ldb, c, w->ldc, w->bias);
        return;
    }
    float *edge = w->edge + (size_t)worker * w->rows_a_task * PANEL;
    if (w->bias) set_bias(w, edge, width, rows, n, width, i, j);
    w->gemm(rows, width, w->k, a, w->a.stride, b, ldb, edge, width, w->bias);
    if (w->turn) pith_transpose(edge, rows, n, width, c, w->ldc);
    else
        for (size_t r = 0; r < rows; r++) memcpy(c + r * w->ldc, edge + r * width, n * sizeof(float));
}

/* The same by panels from..to-1 of a transposed left side, as a gradient by weights has, of which k is the longest: its
 * rows and those of b are gone through once, side by side, some DEPTH of them at a time. */
static void multiply_turned(const product *w, size_t matrix, size_t block, size_t from, size_t to, int worker)
{
    size_t i = block * w->rows_a_task, rows = PITH_MIN(w->rows_a_task, w->m - i), k0 = 0;
    const float *a = w->a.data + matrix * w->step_a + i, *b = w->b.data + matrix * w->step_b;
    float *panel = w->packed + (size_t)worker * DEPTH * (PANEL + w->slab_stride), *slab = panel + DEPTH * PANEL, *edge = w->edge + (size_t)worker * w->rows_a_task * PANEL;
    const bool copies = w->slab_stride && to - from > 1;
    do { /* also once when k is 0 */
        size_t depth = PITH_MIN(w->k - k0, DEPTH);
        for (size_t r = 0; copies && r < depth; r++) memcpy(slab + r * w->slab_stride, a + (k0 + r) * w->a.stride, rows * sizeof *slab);
        for (size_t p = from; p < to; p++) {
            size_t j = p * PANEL, n = PITH_MIN(PANEL, w->n - j), width = padded(n);
            float *c = w->c + matrix * w->step_c + i * w->ldc + j, *to_c = width == n ? c : edge; /* only the last panel is narrow */
            size_t ldc = width == n ? w->ldc : width;
            pack_panel(w, b, p, k0, depth, panel);
            if (w->bias && k0 == 0) set_bias(w, to_c, ldc, rows, n, width, i, j);
            w->gemm_turned(rows, width, depth, copies ? slab : a + k0 * w->a.stride, copies ? w->slab_stride : w->a.stride, panel, width, to_c, ldc, w->bias || k0 > 0);
            if (width == n || k0 + depth < w->k) continue;
            for (size_t r = 0; r < rows; r++) memcpy(c + r * w->ldc, edge + r * width, n * sizeof(float));
        }
        k0 += depth;
    } while (k0 < w->k);
}

static void multiply(void *arg, size_t from, size_t to, int worker)
{
    const product *w = arg;
    size_t groups = PITH_CEIL_DIV(w->n_panels, w->panels_a_task);
    for (size_t t = from; t < to; t++) {
        size_t group = t % groups, block = t / groups % w->row_blocks, matrix = t / groups / w->row_blocks, first = group * w->panels_a_task, last = PITH_MIN(first + w->panels_a_task, w->n_panels);
        if (w->a.transposed) multiply_turned(w, matrix, block, first, last, worker);
        else
            for (size_t p = first; p < last; p++) multiply_panel(w, matrix, block, p, worker);
    }
}

/* How many rows and panels a task takes. */
static void part(product *w, size_t n_matrices, size_t n_threads)
{
    w->rows_a_task = ROWS_A_TASK;
    if (w->a.transposed) { /* each block of rows packs b again */
        w->panels_a_task = PANELS_A_TASK;
        size_t groups = PITH_CEIL_DIV(w->n_panels, PANELS_A_TASK) * n_matrices, blocks = PITH_CEIL_DIV(w->m, TALLEST);
        if (n_threads > 1) blocks = PITH_MAX(blocks, PITH_MIN(PITH_CEIL_DIV(2 * n_threads, groups), PITH_CEIL_DIV(w->m, ROWS_A_TASK)));
        w->rows_a_task = PITH_ROUND_UP(PITH_CEIL_DIV(w->m, blocks), (size_t)12); /* tiles have so many rows, or half of them */
    } else {
        size_t work = PITH_MIN(ROWS_A_TASK, w->m) * PITH_MIN(PANEL, w->n) * PITH_MAX(w->k, (size_t)1);
        w->panels_a_task = PITH_MAX((size_t)1, PITH_MIN(w->n_panels, WORK_A_TASK / work));
    }
    w->row_blocks = PITH_CEIL_DIV(w->m, w->rows_a_task);
    if (w->a.transposed && w->n_panels > 1 && w->a.stride % FEW_PLACES == 0)
        w->slab_stride = PITH_ROUND_UP(w->rows_a_task, (size_t)32) + 16; /* an odd number of lines, so that rows use all places of the cache */
}

bool pith_product(pith_tape *tape, size_t n_matrices, size_t m, size_t n, size_t k, pith_matrix a, pith_matrix b, size_t step_a, size_t step_b, const float *bias, float *c)
{
    if (!n_matrices || !m || !n) return true;
    product w = {.gemm = tape->kernels->gemm, .gemm_turned = tape->kernels->gemm_turned, .m = m, .n = n, .k = k, .a = a, .b = b, .c = c, .ldc = n, .step_a = step_a, .step_b = step_b, .step_c = m * n, .bias = bias};
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
    size_t n_threads = (size_t)pith_n_threads(tape->ctx), n_b = w.step_b ? n_matrices : 1;
    part(&w, n_matrices, n_threads);
    bool whole = !w.a.transposed && (w.b.transposed || w.n % 16 || w.m >= PACK_FROM_ROWS);
    pith_block *packed = NULL, *edge = pith_op_take(tape, n_threads * w.rows_a_task * PANEL);
    if (whole || w.a.transposed) packed = pith_op_take(tape, whole ? n_b * w.n_panels * w.panel_len : n_threads * DEPTH * (PANEL + w.slab_stride));
    bool done = edge && (packed || !(whole || w.a.transposed));
    if (done) {
        w.edge = pith_op_floats(edge);
        w.packed = packed ? pith_op_floats(packed) : NULL;
        if (whole) pith_op_ranges(tape, n_b * w.n_panels, PITH_CEIL_DIV(ELEMENT_GRAIN, w.panel_len + 1), pack_b, &w);
        size_t work = PITH_MIN(w.rows_a_task, w.m) * PITH_MIN(w.panels_a_task * PANEL, w.n) * PITH_MAX(k, (size_t)1);
        pith_op_ranges(tape, n_matrices * w.row_blocks * PITH_CEIL_DIV(w.n_panels, w.panels_a_task), PITH_MAX((size_t)1, WORK_A_TASK / work), multiply, &w);
    }
    pith_op_drop(tape, edge);
    pith_op_drop(tape, packed);
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
        size_t k = a->dims[a->n_dims - 1], n = y->dims[y->n_dims - 1], rows = 1;
        for (int d = 0; d < a->n_dims - 1; d++) rows *= a->dims[d]; /* not by a's count: k may be 0 */
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
