/* Convolution over one, two or three dimensions, by laying the values under the kernel out as a matrix and the
 * matrix product; most of one group in one or two dimensions without laying out (conv_direct.c, conv_positions.c).
 *
 * The product x * w, its gradient by x and that by w are three functions, linear in each of their two arguments,
 * whose gradients are again these three: so a convolution can be differentiated any number of times, and the
 * gradient by x is the transposed convolution. */
#include "grad/conv.h"

#include "grad/matmul.h"

static size_t volume(const size_t *dims) { return dims[0] * dims[1] * dims[2]; }

/* Where x lies for position o of the result and k of the kernel; false: in the padding. */
static bool position(const conv_attr *a, int d, size_t o, size_t k, size_t *at)
{
    *at = o * a->stride[d] + k * a->dilation[d] - a->padding[d];
    return *at < a->x[d]; /* below 0 it is huge */
}

typedef struct columns_work {
    const pith_loops *loops;
    const conv_attr *a;
    const float *x;   /* one image of one group, [c_in, x...] */
    float *columns;   /* [c_in * w..., y...] */
    bool back;        /* add the columns to gx instead; they are not kept */
    float *gx;
} columns_work;

/* A depth of column_row where the result is as wide as x and no step is taken over: all its rows are one piece of x,
 * moved, but for what moved in from the neighbouring row at one side, which is the padding's. */
static void column_plane(const columns_work *w, size_t base, size_t k1, size_t k2, float *row)
{
    const conv_attr *a = w->a;
    ptrdiff_t width = (ptrdiff_t)a->x[2], height = (ptrdiff_t)a->y[1];
    ptrdiff_t down = (ptrdiff_t)(k1 * a->dilation[1]) - (ptrdiff_t)a->padding[1], right = (ptrdiff_t)(k2 * a->dilation[2]) - (ptrdiff_t)a->padding[2];
    ptrdiff_t from = PITH_MAX((ptrdiff_t)0, -down), to = PITH_MIN(height, (ptrdiff_t)a->x[1] - down), aside = right < 0 ? -right : right;
    if (from >= to || aside >= width) {
        if (!w->back) memset(row, 0, (size_t)(height * width) * sizeof *row);
        return;
    }
    ptrdiff_t skip = right < 0 ? aside : 0, edge = right < 0 ? 0 : width - aside;
    size_t n = (size_t)((to - from) * width - aside), x = base + (size_t)((from + down) * width + right + skip), y = (size_t)(from * width + skip);
    if (!w->back) {
        memset(row, 0, (size_t)(from * width) * sizeof *row);
        memcpy(row + y, w->x + x, n * sizeof *row);
        memset(row + to * width, 0, (size_t)((height - to) * width) * sizeof *row);
    }
    for (ptrdiff_t r = from; r < to; r++)
        for (ptrdiff_t i = 0; i < aside; i++) row[r * width + edge + i] = 0;
    if (w->back) w->loops->binary(PITH_BINARY_ADD, w->gx + x, 1, row + y, 1, w->gx + x, n);
}

/* One row of the matrix, channel c and place k0 k1 k2 of the kernel: that value of x for every position of the result. */
static void column_row(const columns_work *w, size_t c, size_t k0, size_t k1, size_t k2, float *row)
{
    const conv_attr *a = w->a;
    size_t base = c * volume(a->x), s = a->stride[2], shift = k2 * a->dilation[2];
    if (s == 1 && a->stride[1] == 1 && a->y[2] == a->x[2]) {
        for (size_t o0 = 0; o0 < a->y[0]; o0++, row += a->y[1] * a->y[2]) {
            size_t i0;
            if (position(a, 0, o0, k0, &i0)) column_plane(w, base + i0 * a->x[1] * a->x[2], k1, k2, row);
            else if (!w->back) memset(row, 0, a->y[1] * a->y[2] * sizeof *row);
        }
        return;
    }
    /* o from..to-1 are inside: o s + shift - padding in 0..width-1 */
    size_t from = a->padding[2] > shift ? PITH_CEIL_DIV(a->padding[2] - shift, s) : 0;
    size_t room = a->x[2] + a->padding[2] > shift ? PITH_CEIL_DIV(a->x[2] + a->padding[2] - shift, s) : 0;
    size_t to = PITH_MIN(room, a->y[2]);
    from = PITH_MIN(from, to);
    for (size_t o0 = 0; o0 < a->y[0]; o0++) {
        for (size_t o1 = 0; o1 < a->y[1]; o1++, row += a->y[2]) {
            size_t i0, i1;
            bool inside = position(a, 0, o0, k0, &i0);
            inside = position(a, 1, o1, k1, &i1) && inside;
            if (!inside || from == to) {
                if (!w->back) memset(row, 0, a->y[2] * sizeof *row);
                continue;
            }
            size_t at = base + (i0 * a->x[1] + i1) * a->x[2] + from * s + shift - a->padding[2];
            if (w->back) {
                for (size_t o = from; o < to; o++) w->gx[at + (o - from) * s] += row[o];
                continue;
            }
            memset(row, 0, from * sizeof *row);
            if (s == 1) memcpy(row + from, w->x + at, (to - from) * sizeof *row);
            else
                for (size_t o = from; o < to; o++) row[o] = w->x[at + (o - from) * s];
            memset(row + to, 0, (a->y[2] - to) * sizeof *row);
        }
    }
}

static void columns_of_channel(const columns_work *w, size_t c)
{
    const conv_attr *a = w->a;
    float *row = w->columns + c * volume(a->w) * volume(a->y);
    for (size_t k0 = 0; k0 < a->w[0]; k0++)
        for (size_t k1 = 0; k1 < a->w[1]; k1++)
            for (size_t k2 = 0; k2 < a->w[2]; k2++, row += volume(a->y)) column_row(w, c, k0, k1, k2, row);
}

/* Images and groups from..to-1 (image by image) to or from columns, channel by channel. */
typedef struct lay_work {
    const pith_loops *loops;
    const conv_attr *a;
    float *x, *columns;
    bool back;
} lay_work;

static void lay_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const lay_work *l = arg;
    const conv_attr *a = l->a;
    for (size_t i = from; i < to; i++) {
        size_t image = i / a->c_in, c = i % a->c_in;
        float *x = l->x + image * a->c_in * volume(a->x);
        columns_work w = {l->loops, a, x, l->columns + image * a->c_in * volume(a->w) * volume(a->y), l->back, x};
        columns_of_channel(&w, c);
    }
}

static void lay(pith_tape *tape, const conv_attr *a, float *x, float *columns, size_t images, bool back)
{
    lay_work l = {tape->loops, a, x, columns, back};
    size_t each = volume(a->w) * volume(a->y);
    if (each) pith_op_ranges(tape, images * a->c_in, PITH_CEIL_DIV(ELEMENT_GRAIN, each), lay_range, &l);
}

/* Images whose columns are laid out at once: enough for all threads, few enough to stay in the second cache. */
#define COLUMNS_AT_ONCE ((size_t)1 << 18)

static size_t images_at_once(const conv_attr *a)
{
    size_t each = PITH_MAX(a->groups * a->c_in * volume(a->w) * volume(a->y), (size_t)1);
    return PITH_MAX((size_t)1, PITH_MIN(a->n, COLUMNS_AT_ONCE / each));
}

/* ---- the three functions ---------------------------------------------------------------------- */

/* y[n, g] = w[g] columns(x[n, g]) */
static bool forward(pith_tape *tape, const conv_attr *a, const float *x, const float *w, float *y)
{
    if (pith_conv_is_by_positions(a)) return pith_conv_by_positions(tape, a, x, w, y);
    if (pith_conv_is_direct(a)) return pith_conv_direct(tape, a, x, w, y);
    size_t k = a->c_in * volume(a->w), p = volume(a->y), at_once = images_at_once(a), x_step = a->groups * a->c_in * volume(a->x), y_step = a->groups * a->c_out * p;
    pith_block *columns = pith_op_take(tape, at_once * a->groups * k * p);
    bool done = columns != NULL;
    for (size_t i = 0; done && i < a->n; i += at_once) {
        size_t images = PITH_MIN(at_once, a->n - i);
        lay(tape, a, (float *)(uintptr_t)(x + i * x_step), pith_op_floats(columns), images * a->groups, false);
        pith_matrix right = {pith_op_floats(columns), p, false};
        if (a->groups == 1) {
            done = pith_product(tape, images, a->c_out, p, k, (pith_matrix){w, k, false}, right, 0, k * p, NULL, y + i * y_step);
            continue;
        }
        for (size_t n = 0; done && n < images; n++) {
            right.data = pith_op_floats(columns) + n * a->groups * k * p;
            done = pith_product(tape, a->groups, a->c_out, p, k, (pith_matrix){w, k, false}, right, a->c_out * k, k * p, NULL, y + (i + n) * y_step);
        }
    }
    pith_op_drop(tape, columns);
    return done;
}

/* x[n, g] = columns^-1(w[g]' y[n, g]), places that several columns share are added up */
static bool by_input(pith_tape *tape, const conv_attr *a, const float *g, const float *w, float *x)
{
    if (pith_conv_is_by_positions(a) && a->stride[1] == 1 && a->stride[2] == 1) return pith_conv_by_positions_by_input(tape, a, g, w, x);
    if (pith_conv_is_direct(a)) return pith_conv_direct_by_input(tape, a, g, w, x);
    size_t k = a->c_in * volume(a->w), p = volume(a->y), at_once = images_at_once(a), x_step = a->groups * a->c_in * volume(a->x), y_step = a->groups * a->c_out * p;
    pith_block *columns = pith_op_take(tape, at_once * a->groups * k * p);
    bool done = columns != NULL;
    if (x_step > 0 && a->n > 0) memset(x, 0, a->n * x_step * sizeof *x);
    for (size_t i = 0; done && i < a->n; i += at_once) {
        size_t images = PITH_MIN(at_once, a->n - i);
        pith_matrix left = {w, k, true};
        if (a->groups == 1) {
            done = pith_product(tape, images, k, p, a->c_out, left, (pith_matrix){g + i * y_step, p, false}, 0, a->c_out * p, NULL, pith_op_floats(columns));
        } else {
            for (size_t n = 0; done && n < images; n++)
                done = pith_product(tape, a->groups, k, p, a->c_out, left, (pith_matrix){g + (i + n) * y_step, p, false}, a->c_out * k, a->c_out * p, NULL, pith_op_floats(columns) + n * a->groups * k * p);
        }
        if (done) lay(tape, a, x + i * x_step, pith_op_floats(columns), images * a->groups, true);
    }
    pith_op_drop(tape, columns);
    return done;
}

/* w[g] = sum over n of y[n, g] columns(x[n, g])': the images' products side by side, then added in order */
static bool by_weights(pith_tape *tape, const conv_attr *a, const float *x, const float *g, float *w)
{
    if (pith_conv_is_by_positions(a)) return pith_conv_by_positions_by_weights(tape, a, x, g, w);
    if (pith_conv_is_direct(a)) return pith_conv_direct_by_weights(tape, a, x, g, w);
    size_t k = a->c_in * volume(a->w), p = volume(a->y), at_once = images_at_once(a), x_step = a->groups * a->c_in * volume(a->x), y_step = a->groups * a->c_out * p, n_w = a->groups * a->c_out * k;
    pith_block *columns = pith_op_take(tape, at_once * a->groups * k * p), *products = pith_op_take(tape, at_once * n_w);
    bool done = columns && products;
    if (n_w) memset(w, 0, n_w * sizeof *w);
    for (size_t i = 0; done && i < a->n; i += at_once) {
        size_t images = PITH_MIN(at_once, a->n - i);
        lay(tape, a, (float *)(uintptr_t)(x + i * x_step), pith_op_floats(columns), images * a->groups, false);
        done = pith_product(tape, images * a->groups, a->c_out, k, p, (pith_matrix){g + i * y_step, p, false}, (pith_matrix){pith_op_floats(columns), p, true}, a->c_out * p, k * p, NULL, pith_op_floats(products));
        for (size_t n = 0; done && n < images; n++) tape->loops->binary(PITH_BINARY_ADD, w, 1, pith_op_floats(products) + n * n_w, 1, w, n_w);
    }
    pith_op_drop(tape, columns);
    pith_op_drop(tape, products);
    return done;
}

typedef bool conv_fn(pith_tape *tape, const conv_attr *a, const float *left, const float *right, float *result);

static pith_var *run(const pith_op *op, conv_fn *fn, const conv_attr *a, pith_var *left, pith_var *right, int n_dims, const size_t *dims)
{
    if (!left || !right) return NULL;
    pith_var *in[] = {left, right}, *y = pith_op_value(left->tape, op, in, 2, n_dims, dims, sizeof *a);
    if (!y) return NULL;
    memcpy(y->attr, a, sizeof *a);
    return fn(y->tape, a, left->data, right->data, y->data) ? y : NULL;
}

static void shape_of(const conv_attr *a, size_t first, size_t second, const size_t *space, size_t *dims)
{
    dims[0] = first;
    dims[1] = second;
    memcpy(dims + 2, space + MAX_SPACE - a->n_space, (size_t)a->n_space * sizeof *dims);
}

static pith_var *conv_forward(const conv_attr *a, pith_var *x, pith_var *w);
static pith_var *conv_by_input(const conv_attr *a, pith_var *g, pith_var *w);
static pith_var *conv_by_weights(const conv_attr *a, pith_var *x, pith_var *g);

static void forward_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    if (pith_wanted(y->in[0])) gx[0] = conv_by_input(y->attr, gy, y->in[1]);
    if (pith_wanted(y->in[1])) gx[1] = conv_by_weights(y->attr, y->in[0], gy);
}

static void by_input_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    if (pith_wanted(y->in[0])) gx[0] = conv_forward(y->attr, gy, y->in[1]);
    if (pith_wanted(y->in[1])) gx[1] = conv_by_weights(y->attr, gy, y->in[0]);
}

static void by_weights_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    if (pith_wanted(y->in[0])) gx[0] = conv_by_input(y->attr, y->in[1], gy);
    if (pith_wanted(y->in[1])) gx[1] = conv_forward(y->attr, y->in[0], gy);
}

static pith_var *conv_forward(const conv_attr *a, pith_var *x, pith_var *w)
{
    static const pith_op op = {"conv", forward_backward};
    size_t dims[PITH_MAX_DIMS];
    shape_of(a, a->n, a->groups * a->c_out, a->y, dims);
    return run(&op, forward, a, x, w, a->n_space + 2, dims);
}

static pith_var *conv_by_input(const conv_attr *a, pith_var *g, pith_var *w)
{
    static const pith_op op = {"conv_transposed", by_input_backward};
    size_t dims[PITH_MAX_DIMS];
    shape_of(a, a->n, a->groups * a->c_in, a->x, dims);
    return run(&op, by_input, a, g, w, a->n_space + 2, dims);
}

static pith_var *conv_by_weights(const conv_attr *a, pith_var *x, pith_var *g)
{
    static const pith_op op = {"conv_by_weights", by_weights_backward};
    size_t dims[PITH_MAX_DIMS];
    shape_of(a, a->groups * a->c_out, a->c_in, a->w, dims);
    return run(&op, by_weights, a, x, g, a->n_space + 2, dims);
}

/* ---- what is called --------------------------------------------------------------------------- */

/* Settings and kernel of a convolution; `x` is its input, or its result where it is transposed. */
static bool settings(const char *name, const pith_var *x, const pith_var *w, const pith_conv *o, conv_attr *a)
{
    a->n_space = x->n_dims - 2;
    a->groups = o->groups ? o->groups : 1;
    bool fits = a->n_space >= 1 && a->n_space <= MAX_SPACE && w->n_dims == x->n_dims && w->dims[0] % a->groups == 0 && w->dims[0] > 0;
    for (int d = 0; d < MAX_SPACE; d++) {
        int of = d - (MAX_SPACE - a->n_space);
        a->x[d] = a->w[d] = a->y[d] = a->stride[d] = a->dilation[d] = 1;
        a->padding[d] = 0;
        if (!fits || of < 0) continue;
        a->w[d] = w->dims[2 + of];
        a->stride[d] = o->stride[of] ? o->stride[of] : 1;
        a->dilation[d] = o->dilation[of] ? o->dilation[of] : 1;
        a->padding[d] = o->padding[of];
        fits = a->w[d] > 0 && a->w[d] <= INT32_MAX && a->stride[d] <= INT32_MAX && a->dilation[d] <= INT32_MAX && a->padding[d] <= INT32_MAX;
    }
    if (!fits) pith_op_fail(x->tape, PITH_E_SHAPE, "%s: %s with kernel %s in %zu groups", name, PITH_SHAPE(x), PITH_SHAPE(w), a->groups);
    a->n = x->dims[0];
    a->c_out = fits ? w->dims[0] / a->groups : 0;
    a->c_in = fits ? w->dims[1] : 0;
    return fits;
}

static pith_var *add_bias(const char *name, pith_var *y, pith_var *bias)
{
    if (!y || !bias) return y;
    if (bias->count != y->dims[1]) return pith_op_fail(y->tape, PITH_E_SHAPE, "%s: bias %s for %zu channels", name, PITH_SHAPE(bias), y->dims[1]);
    const size_t dims[PITH_MAX_DIMS] = {y->dims[1], 1, 1, 1};
    return pith_var_add(y, pith_var_reshape(bias, y->n_dims - 1, dims));
}

pith_var *pith_var_conv(pith_var *x, pith_var *w, pith_var *bias, const pith_conv *o)
{
    conv_attr a;
    if (!x || !w || !settings("conv", x, w, o, &a)) return NULL;
    bool fits = x->dims[1] == a.groups * a.c_in;
    for (int of = 0; of < a.n_space; of++) {
        int d = MAX_SPACE - a.n_space + of;
        size_t reach = (a.w[d] - 1) * a.dilation[d] + 1;
        a.x[d] = x->dims[2 + of];
        fits = fits && a.x[d] + 2 * a.padding[d] >= reach;
        a.y[d] = fits ? (a.x[d] + 2 * a.padding[d] - reach) / a.stride[d] + 1 : 0;
    }
    if (!fits) return pith_op_fail(x->tape, PITH_E_SHAPE, "conv: %s with kernel %s in %zu groups", PITH_SHAPE(x), PITH_SHAPE(w), a.groups);
    return add_bias("conv", conv_forward(&a, x, w), bias);
}

pith_var *pith_var_conv_transposed(pith_var *x, pith_var *w, pith_var *bias, const pith_conv *o)
{
    conv_attr a;
    if (!x || !w || !settings("conv_transposed", x, w, o, &a)) return NULL;
    bool fits = x->dims[1] == a.groups * a.c_out;
    for (int of = 0; of < a.n_space; of++) {
        int d = MAX_SPACE - a.n_space + of;
        a.y[d] = x->dims[2 + of];
        size_t reach = a.y[d] && a.y[d] <= INT32_MAX ? (a.y[d] - 1) * a.stride[d] + (a.w[d] - 1) * a.dilation[d] + 1 + o->output_padding[of] : 0;
        fits = fits && reach > 2 * a.padding[d] && o->output_padding[of] < a.stride[d];
        a.x[d] = fits ? reach - 2 * a.padding[d] : 0;
    }
    if (!fits) return pith_op_fail(x->tape, PITH_E_SHAPE, "conv_transposed: %s with kernel %s in %zu groups", PITH_SHAPE(x), PITH_SHAPE(w), a.groups);
    return add_bias("conv_transposed", conv_by_input(&a, x, w), bias);
}
