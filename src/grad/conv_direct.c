/* Convolution without columns.
 *
 * Let the input's planes stand with their padding around them, P wide.  A position of the result, counted along rows of
 * P instead of the result's width, then meets the kernel's place (k1, k2) always k1 P + k2 values further on: every
 * row of the matrix of columns is a piece of the padded plane, and the product can read it there.  The positions in
 * the last columns of such a row are no positions of the result; they are computed and left out. */
#include "grad/conv.h"

enum { H = 1, W = 2 };

#define BAND ((size_t)1024)         /* positions of a task; whole rows of them */
#define IMAGES_A_TASK ((size_t)8)   /* whose gradients by the weights are added up one after the other, or more */
#define PARTS ((size_t)1 << 22)     /* values that the groups of images may take before they are added up */
#define PLACES_A_TASK ((size_t)96)  /* rows of that gradient */

static size_t reach(const conv_attr *a, int d) { return (a->w[d] - 1) * a->dilation[d]; }
static size_t padded16(size_t n) { return PITH_ROUND_UP(n, (size_t)16); }

bool pith_conv_is_direct(const conv_attr *a)
{
    bool flat = a->groups == 1 && a->x[0] == 1 && a->w[0] == 1 && a->y[0] == 1 && a->padding[0] == 0;
    for (int d = H; d <= W; d++) flat = flat && a->stride[d] == 1 && a->padding[d] <= reach(a, d) && a->y[d] + reach(a, d) == a->x[d] + 2 * a->padding[d];
    /* of narrow results too many positions would be left out, and flat ones would be mostly padding */
    return flat && a->n && a->c_in && a->c_out && a->x[H] && a->x[W] && a->y[H] && 2 * reach(a, W) <= a->y[W] && reach(a, H) <= a->y[H];
}

/* Where the rows are, from the first padded plane on: channel by channel, place by place. */
static void place_rows(const conv_attr *a, size_t plane, size_t wide, size_t *row)
{
    for (size_t c = 0; c < a->c_in; c++)
        for (size_t k1 = 0; k1 < a->w[H]; k1++)
            for (size_t k2 = 0; k2 < a->w[W]; k2++) *row++ = c * plane + k1 * a->dilation[H] * wide + k2 * a->dilation[W];
}

/* Rows from..from+n_rows-1 of n_planes padded planes of x [n_planes, height, width], [n_planes, n_rows, wide]. */
static void pad(const float *x, size_t n_planes, size_t height, size_t width, const size_t *padding, size_t from, size_t n_rows, size_t wide, float *dst)
{
    for (size_t c = 0; c < n_planes; c++, x += height * width)
        for (size_t r = 0; r < n_rows; r++, dst += wide) {
            size_t at = from + r - padding[H]; /* huge when above the plane */
            if (at >= height) {
                memset(dst, 0, wide * sizeof *dst);
                continue;
            }
            for (size_t i = 0; i < padding[W]; i++) dst[i] = 0;
            memcpy(dst + padding[W], x + at * width, width * sizeof *dst);
            for (size_t i = padding[W] + width; i < wide; i++) dst[i] = 0;
        }
}

/* ---- the product ------------------------------------------------------------------------------ */

typedef struct direct {
    pith_gemm_rows_fn *gemm;
    const conv_attr *a;
    const float *x, *w;
    float *y;
    const size_t *w_row, *x_row;         /* [c_out], [c_in places] */
    size_t wide, band, n_bands;          /* rows of the result a task has */
    size_t n_padded, n_result;           /* floats of scratch for a worker: padded input, result */
    float *scratch;
} direct;

static void direct_range(void *arg, size_t from, size_t to, int worker)
{
    const direct *t = arg;
    const conv_attr *a = t->a;
    float *padded = t->scratch + (size_t)worker * (t->n_padded + t->n_result), *result = padded + t->n_padded;
    size_t k = a->c_in * a->w[H] * a->w[W], plane = a->y[H] * a->y[W];
    for (size_t i = from; i < to; i++) {
        size_t image = i / t->n_bands, first = i % t->n_bands * t->band, rows = PITH_MIN(t->band, a->y[H] - first), n = padded16((rows - 1) * t->wide + a->y[W]);
        /* the last band may be lower; its planes are as far apart as the others' */
        pad(t->x + image * a->c_in * a->x[H] * a->x[W], a->c_in, a->x[H], a->x[W], a->padding, first, t->band + reach(a, H), t->wide, padded);
        t->gemm(a->c_out, n, k, t->w, t->w_row, padded, t->x_row, result, n, false);
        float *y = t->y + image * a->c_out * plane + first * a->y[W];
        for (size_t c = 0; c < a->c_out; c++)
            for (size_t r = 0; r < rows; r++) memcpy(y + c * plane + r * a->y[W], result + c * n + r * t->wide, a->y[W] * sizeof *y);
    }
}

bool pith_conv_direct(pith_tape *tape, const conv_attr *a, const float *x, const float *w, float *y)
{
    size_t k = a->c_in * a->w[H] * a->w[W], wide = a->y[W] + reach(a, W), band = PITH_MIN(PITH_CEIL_DIV(BAND, wide), a->y[H]), plane = (band + reach(a, H)) * wide;
    direct t = {.gemm = tape->kernels->gemm_rows, .a = a, .x = x, .w = w, .y = y, .wide = wide, .band = band, .n_bands = PITH_CEIL_DIV(a->y[H], band)};
    t.n_padded = a->c_in * plane + 16; /* the product reads up to 15 values too many */
    t.n_result = a->c_out * padded16((band - 1) * wide + a->y[W]);
    size_t n_workers = (size_t)pith_n_threads(tape->ctx), n_scratch = n_workers * (t.n_padded + t.n_result), *rows = pith_op_attr(tape, a->c_out + k, sizeof *rows);
    pith_block *scratch = rows ? pith_op_take(tape, n_scratch) : NULL;
    if (!scratch) return false;
    for (size_t c = 0; c < a->c_out; c++) rows[c] = c * k;
    place_rows(a, plane, wide, rows + a->c_out);
    t.w_row = rows;
    t.x_row = rows + a->c_out;
    t.scratch = pith_op_floats(scratch);
    for (size_t i = 0; i < n_workers; i++) memset(t.scratch + i * (t.n_padded + t.n_result) + t.n_padded - 16, 0, 16 * sizeof(float));
    pith_op_ranges(tape, a->n * t.n_bands, 1, direct_range, &t);
    pith_op_drop(tape, scratch);
    return true;
}

/* A convolution of the gradient, padded by what the kernel reaches beyond, with the kernel turned round. */
bool pith_conv_direct_by_input(pith_tape *tape, const conv_attr *a, const float *g, const float *w, float *x)
{
    conv_attr back = *a;
    back.c_in = a->c_out;
    back.c_out = a->c_in;
    for (int d = H; d <= W; d++) {
        back.x[d] = a->y[d];
        back.y[d] = a->x[d];
        back.padding[d] = reach(a, d) - a->padding[d];
    }
    size_t places = a->w[H] * a->w[W];
    pith_block *turned = pith_op_take(tape, a->c_in * a->c_out * places);
    if (!turned) return false;
    float *v = pith_op_floats(turned);
    for (size_t o = 0; o < a->c_out; o++)
        for (size_t c = 0; c < a->c_in; c++)
            for (size_t p = 0; p < places; p++) v[(c * a->c_out + o) * places + p] = w[(o * a->c_in + c) * places + places - 1 - p];
    bool done = pith_conv_direct(tape, &back, g, v, x);
    pith_op_drop(tape, turned);
    return done;
}

/* ---- the gradient by the weights -------------------------------------------------------------- */

typedef struct weights_work {
    pith_gemm_rows_fn *gemm;
    const conv_attr *a;
    const float *x, *g;
    float *parts;                        /* [n_groups, places of all channels, wide_out]: sums over a group's images */
    const size_t *x_row, *g_row;         /* of one task's channels; [positions] */
    size_t wide, plane, n_positions, wide_out, n_groups, images, channels, n_blocks;
    size_t n_padded, n_turned;
    float *scratch;
} weights_work;

/* g [c_out, y..] as [positions along wide rows, wide_out], zero where there is no position or channel. */
static void turn(const weights_work *t, const float *g, float *dst)
{
    const conv_attr *a = t->a;
    memset(dst, 0, t->n_turned * sizeof *dst);
    for (size_t r = 0; r < a->y[H]; r++) pith_transpose(g + r * a->y[W], a->c_out, a->y[W], a->y[H] * a->y[W], dst + r * t->wide * t->wide_out, t->wide_out);
}

static void weights_range(void *arg, size_t from, size_t to, int worker)
{
    const weights_work *t = arg;
    const conv_attr *a = t->a;
    float *padded = t->scratch + (size_t)worker * (t->n_padded + t->n_turned), *turned = padded + t->n_padded;
    size_t places = a->w[H] * a->w[W];
    for (size_t i = from; i < to; i++) {
        size_t group = i / t->n_blocks, c = i % t->n_blocks * t->channels, channels = PITH_MIN(t->channels, a->c_in - c);
        float *part = t->parts + (group * a->c_in + c) * places * t->wide_out;
        for (size_t n = group * t->images; n < PITH_MIN((group + 1) * t->images, a->n); n++) {
            pad(t->x + (n * a->c_in + c) * a->x[H] * a->x[W], channels, a->x[H], a->x[W], a->padding, 0, a->y[H] + reach(a, H), t->wide, padded);
            turn(t, t->g + n * a->c_out * a->y[H] * a->y[W], turned);
            t->gemm(channels * places, t->wide_out, t->n_positions, padded, t->x_row, turned, t->g_row, part, t->wide_out, n > group * t->images);
        }
    }
}

bool pith_conv_direct_by_weights(pith_tape *tape, const conv_attr *a, const float *x, const float *g, float *w)
{
    size_t places = a->w[H] * a->w[W], k = a->c_in * places;
    weights_work t = {.gemm = tape->kernels->gemm_rows, .a = a, .x = x, .g = g, .wide = a->y[W] + reach(a, W), .wide_out = padded16(a->c_out)};
    t.plane = (a->y[H] + reach(a, H)) * t.wide;
    t.n_positions = (a->y[H] - 1) * t.wide + a->y[W];
    t.images = PITH_MAX(IMAGES_A_TASK, PITH_CEIL_DIV(a->n, PITH_MAX(PARTS / (k * t.wide_out), (size_t)1)));
    t.n_groups = PITH_CEIL_DIV(a->n, t.images);
    t.channels = PITH_MIN(PITH_CEIL_DIV(PLACES_A_TASK, places), a->c_in);
    t.n_blocks = PITH_CEIL_DIV(a->c_in, t.channels);
    t.n_padded = t.channels * t.plane;
    t.n_turned = a->y[H] * t.wide * t.wide_out;
    size_t n_workers = (size_t)pith_n_threads(tape->ctx), *rows = pith_op_attr(tape, k + t.n_positions, sizeof *rows);
    pith_block *scratch = rows ? pith_op_take(tape, n_workers * (t.n_padded + t.n_turned)) : NULL, *parts = scratch ? pith_op_take(tape, t.n_groups * k * t.wide_out) : NULL;
    if (parts) {
        place_rows(a, t.plane, t.wide, rows);
        for (size_t i = 0; i < t.n_positions; i++) rows[k + i] = i * t.wide_out;
        t.x_row = rows;
        t.g_row = rows + k;
        t.scratch = pith_op_floats(scratch);
        t.parts = pith_op_floats(parts);
        pith_op_ranges(tape, t.n_groups * t.n_blocks, 1, weights_range, &t);
        for (size_t i = 1; i < t.n_groups; i++) tape->loops->axpy(t.parts, t.parts + i * k * t.wide_out, 1, k * t.wide_out);
        pith_transpose(t.parts, k, a->c_out, t.wide_out, w, k);
    }
    pith_op_drop(tape, scratch);
    pith_op_drop(tape, parts);
    return parts != NULL;
}
