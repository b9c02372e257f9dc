/* Convolution of small planes of many channels: position by position.
 *
 * The padded input stands with the channels of a position side by side.  What a place of the kernel adds to the result is
 * then a product of such positions, of all the images of a task, by that place's weights [c_in, c_out]: no position is
 * computed that is none of the result, as there are in conv_direct.c, where on 4x4 planes they are a third. */
#include "grad/conv.h"

#define PANEL ((size_t)PITH_GEMM_PANEL)
#define ROWS_A_TASK ((size_t)96)    /* positions, about */
#define CHANNELS ((size_t)32)       /* fewer would not fill the products */

static size_t padded(const conv_attr *a, int d) { return a->x[d] + 2 * a->padding[d]; }

/* Where the other way would compute 15% more positions than there are, or more. */
bool pith_conv_is_by_positions(const conv_attr *a)
{
    return pith_conv_is_direct(a) && a->c_in >= CHANNELS && a->c_out >= CHANNELS && 20 * pith_conv_direct_positions(a) >= 23 * plane_of(a->y);
}

/* Where the input of each position of the result begins, [images, y..], and how much further on a place of the kernel is, of
 * positions `step` values apart. */
static void find_rows(const conv_attr *a, size_t images, size_t step, size_t *row)
{
    size_t wide = padded(a, W);
    for (size_t image = 0; image < images; image++)
        for (size_t r = 0; r < a->y[H]; r++)
            for (size_t c = 0; c < a->y[W]; c++) *row++ = ((image * padded(a, H) + r * a->stride[H]) * wide + c * a->stride[W]) * step;
}

static size_t place(const conv_attr *a, size_t p, size_t step) { return (p / a->w[W] * a->dilation[H] * padded(a, W) + p % a->w[W] * a->dilation[W]) * step; }

/* n channels of an image, [n, x..], into positions [padded x.., step], whose padding is zero already. */
static void lay(const conv_attr *a, const float *x, size_t n, size_t step, float *dst)
{
    for (size_t r = 0; r < a->x[H]; r++) pith_transpose(x + r * a->x[W], n, a->x[W], plane_of(a->x), dst + ((r + a->padding[H]) * padded(a, W) + a->padding[W]) * step, step);
}

static size_t laid(const conv_attr *a, size_t images, size_t step) { return PITH_ROUND_UP(images * padded(a, H) * padded(a, W) * step, (size_t)16); }

/* ---- the product ------------------------------------------------------------------------------ */

typedef struct positions {
    pith_gemm_apart_fn *gemm;
    const conv_attr *a;
    const float *x, *w;                  /* w: panels of PANEL outputs, or the rest, each [c_in, places, outputs] */
    float *y;
    const size_t *row;                   /* [images, y..] */
    bool back;                           /* places from the last one on */
    size_t wide_out, images, n_laid, n_result; /* images: of a task */
    float *scratch;
} positions;

static void positions_range(void *arg, size_t from, size_t to, int worker)
{
    const positions *t = arg;
    const conv_attr *a = t->a;
    float *x = t->scratch + (size_t)worker * (t->n_laid + t->n_result), *result = x + t->n_laid;
    size_t places = plane_of(a->w), plane = plane_of(a->y), laid_image = padded(a, H) * padded(a, W) * a->c_in;
    for (size_t i = from; i < to; i++) {
        size_t image = i * t->images, images = PITH_MIN(t->images, a->n - image);
        for (size_t j = 0; j < images; j++) lay(a, t->x + (image + j) * a->c_in * plane_of(a->x), a->c_in, a->c_in, x + j * laid_image);
        for (size_t o = 0; o < t->wide_out; o += PANEL) {
            size_t n = PITH_MIN(PANEL, t->wide_out - o);
            const float *w = t->w + o * a->c_in * places;
            for (size_t p = 0; p < places; p++) t->gemm(images * plane, n, a->c_in, x + place(a, p, a->c_in), t->row, w + (t->back ? places - 1 - p : p) * n, places * n, result + o, t->wide_out, p > 0);
        }
        for (size_t j = 0; j < images; j++) pith_transpose(result + j * plane * t->wide_out, plane, a->c_out, t->wide_out, t->y + (image + j) * a->c_out * plane, plane);
    }
}

/* w as `positions` has it, with zeros for outputs beyond c_out. */
static bool convolve(pith_tape *tape, const conv_attr *a, const float *x, const float *w, bool back, float *y)
{
    positions t = {.gemm = tape->kernels->gemm_apart, .a = a, .x = x, .w = w, .y = y, .back = back, .wide_out = padded16(a->c_out)};
    t.images = PITH_MIN(PITH_CEIL_DIV(ROWS_A_TASK, plane_of(a->y)), a->n);
    t.n_laid = laid(a, t.images, a->c_in);
    t.n_result = t.images * plane_of(a->y) * t.wide_out;
    size_t n = (size_t)pith_n_threads(tape->ctx) * (t.n_laid + t.n_result), *row = pith_op_attr(tape, t.images * plane_of(a->y), sizeof *row);
    pith_block *scratch = row ? pith_op_take(tape, n) : NULL;
    if (!scratch) return false;
    find_rows(a, t.images, a->c_in, row);
    t.row = row;
    t.scratch = pith_op_floats(scratch);
    memset(t.scratch, 0, n * sizeof *t.scratch);
    pith_op_ranges(tape, PITH_CEIL_DIV(a->n, t.images), 1, positions_range, &t);
    pith_op_drop(tape, scratch);
    return true;
}

bool pith_conv_by_positions(pith_tape *tape, const conv_attr *a, const float *x, const float *w, float *y)
{
    size_t k = a->c_in * plane_of(a->w), wide = padded16(a->c_out);
    pith_block *turned = pith_op_take(tape, k * wide);
    if (!turned) return false;
    float *v = pith_op_floats(turned);
    for (size_t o = 0; o < wide; o += PANEL) {
        size_t n = PITH_MIN(PANEL, wide - o), there = PITH_MIN(n, a->c_out - o);
        pith_transpose(w + o * k, there, k, k, v + o * k, n);
        for (size_t r = 0; r < k; r++) memset(v + o * k + r * n + there, 0, (n - there) * sizeof *v);
    }
    bool done = convolve(tape, a, x, v, false, y);
    pith_op_drop(tape, turned);
    return done;
}

bool pith_conv_by_positions_by_input(pith_tape *tape, const conv_attr *a, const float *g, const float *w, float *x)
{
    conv_attr back = conv_back(a);
    size_t places = plane_of(a->w), wide = padded16(a->c_in);
    pith_block *turned = pith_op_take(tape, a->c_out * places * wide);
    if (!turned) return false;
    float *v = pith_op_floats(turned);
    for (size_t c = 0; c < wide; c += PANEL) {
        size_t n = PITH_MIN(PANEL, wide - c), there = PITH_MIN(n, a->c_in - c);
        for (size_t o = 0; o < a->c_out; o++, v += places * n) {
            pith_transpose(w + (o * a->c_in + c) * places, there, places, places, v, n);
            for (size_t p = 0; p < places; p++) memset(v + p * n + there, 0, (n - there) * sizeof *v);
        }
    }
    bool done = convolve(tape, &back, g, pith_op_floats(turned), true, x);
    pith_op_drop(tape, turned);
    return done;
}

/* ---- the gradient by the weights -------------------------------------------------------------- */

typedef struct weights_work {
    pith_gemm_rows_fn *gemm;
    const conv_attr *a;
    const float *x, *g;
    float *parts;                        /* [n_groups, c_out, places, wide_in]: sums over a group's images */
    const size_t *row;                   /* [stack, y..] */
    size_t wide_in, n_groups, images, stack, n_laid, n_g; /* stack: of a group's images, at once */
    float *scratch;
} weights_work;

static void weights_range(void *arg, size_t from, size_t to, int worker)
{
    const weights_work *t = arg;
    const conv_attr *a = t->a;
    float *x = t->scratch + (size_t)worker * (t->n_laid + t->n_g), *g = x + t->n_laid;
    size_t places = plane_of(a->w), plane = plane_of(a->y);
    for (size_t i = from; i < to; i++) {
        float *part = t->parts + i * a->c_out * places * t->wide_in;
        for (size_t first = i * t->images, end = PITH_MIN(first + t->images, a->n), image = first; image < end; image += t->stack) {
            size_t n = PITH_MIN(t->stack, end - image);
            for (size_t j = 0; j < n; j++)
                for (size_t c = 0; c < a->c_out; c++) memcpy(g + (c * n + j) * plane, t->g + ((image + j) * a->c_out + c) * plane, plane * sizeof *g);
            for (size_t c = 0; c < a->c_in; c += PANEL) {
                size_t channels = PITH_MIN(PANEL, a->c_in - c), wide = PITH_MIN(PANEL, t->wide_in - c);
                for (size_t j = 0; j < n; j++) lay(a, t->x + ((image + j) * a->c_in + c) * plane_of(a->x), channels, PANEL, x + j * padded(a, H) * padded(a, W) * PANEL);
                for (size_t p = 0; p < places; p++)
                    t->gemm(a->c_out, wide, n * plane, g, n * plane, x + place(a, p, PANEL), t->row, part + p * t->wide_in + c, places * t->wide_in, image > first);
            }
        }
    }
}

bool pith_conv_by_positions_by_weights(pith_tape *tape, const conv_attr *a, const float *x, const float *g, float *w)
{
    weights_work t = {.gemm = tape->kernels->gemm_rows, .a = a, .x = x, .g = g, .wide_in = padded16(a->c_in)};
    size_t places = plane_of(a->w), n_part = a->c_out * places * t.wide_in, n_workers = (size_t)pith_n_threads(tape->ctx);
    t.images = conv_group(a, n_part);
    t.n_groups = PITH_CEIL_DIV(a->n, t.images);
    t.stack = PITH_MIN(PITH_CEIL_DIV(CONV_STEPS, plane_of(a->y)), PITH_MIN(t.images, a->n));
    t.n_laid = laid(a, t.stack, PANEL); /* of PANEL channels at a time */
    t.n_g = PITH_ROUND_UP(a->c_out * t.stack * plane_of(a->y), (size_t)16);
    size_t n = n_workers * (t.n_laid + t.n_g), *row = pith_op_attr(tape, t.stack * plane_of(a->y), sizeof *row);
    pith_block *scratch = row ? pith_op_take(tape, n) : NULL, *parts = scratch ? pith_op_take(tape, t.n_groups * n_part) : NULL;
    if (parts) {
        find_rows(a, t.stack, PANEL, row);
        t.row = row;
        t.scratch = pith_op_floats(scratch);
        t.parts = pith_op_floats(parts);
        memset(t.scratch, 0, n * sizeof *t.scratch);
        pith_op_ranges(tape, t.n_groups, 1, weights_range, &t);
        for (size_t i = 1; i < t.n_groups; i++) tape->loops->axpy(t.parts, t.parts + i * n_part, 1, n_part);
        for (size_t o = 0; o < a->c_out; o++) pith_transpose(t.parts + o * places * t.wide_in, places, a->c_in, t.wide_in, w + o * a->c_in * places, places);
    }
    pith_op_drop(tape, scratch);
    pith_op_drop(tape, parts);
    return parts != NULL;
}
