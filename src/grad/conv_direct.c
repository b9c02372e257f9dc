/* Convolution without columns.
 *
 * Let the input's planes stand with their padding around them.  A position of the result, counted along rows as wide as
 * these planes, then meets a place of the kernel always so many values further on: every row of the matrix of columns is
 * a piece of the padded plane, and the product reads it there.  The positions in the last columns of such a row are no
 * positions of the result; they are computed and left out.
 *
 * Strides.  Value u of a padded row is number u / stride of phase u % stride, and each phase has a plane of its own: within
 * one, no position is left out.
 *
 * Padding.  Without a stride, the padding behind a row is that before the next one, and that below an image is that above
 * the next; images so small that a product of one would not pay are laid out one below the other. */
#include "grad/conv.h"

#define MAX_PHASES ((size_t)16)      /* with more of them a kernel meets each too seldom */
#define BAND ((size_t)1024)         /* positions of a task; whole rows of them */
#define STACK ((size_t)400)         /* positions of images one below the other, about */
#define CHANNELS_A_TASK ((size_t)96) /* of the result, of the gradient by the weights, at most */

static size_t n_phases(const conv_attr *a) { return a->stride[H] * a->stride[W]; }

/* How much further on the kernel's last place is, within a phase. */
static size_t shift(const conv_attr *a, int d) { return reach(a, d) / a->stride[d]; }
/* Values from row to row, and rows from image to image. */
static size_t pitch(const conv_attr *a, int d) { return a->y[d] + shift(a, d) - (a->stride[d] == 1 ? a->padding[d] : 0); }

/* Positions that a product of one image takes, and that each of several below one another does. */
static size_t alone(const conv_attr *a) { return padded16((a->y[H] - 1) * pitch(a, W) + a->y[W]); }
static size_t stacked(const conv_attr *a) { return pitch(a, H) * pitch(a, W); }

size_t pith_conv_direct_positions(const conv_attr *a) { return PITH_MIN(alone(a), stacked(a)); }

bool pith_conv_is_direct(const conv_attr *a)
{
    bool flat = a->groups == 1 && a->x[0] == 1 && a->w[0] == 1 && a->y[0] == 1 && a->padding[0] == 0 && a->n && a->c_in && a->c_out && n_phases(a) <= MAX_PHASES;
    for (int d = H; d <= W; d++) flat = flat && a->x[d] && a->y[d] && a->padding[d] <= reach(a, d) && (a->stride[d] > 1 || a->y[d] + reach(a, d) == a->x[d] + 2 * a->padding[d]);
    return flat && pith_conv_direct_positions(a) <= 2 * plane_of(a->y); /* else too many positions would be left out */
}

/* The place (k1, k2) of the kernel in planes `plane` values long: its phase's plane, and how far on. */
static size_t place(const conv_attr *a, size_t k1, size_t k2, size_t plane, size_t wide)
{
    size_t u1 = k1 * a->dilation[H], u2 = k2 * a->dilation[W];
    return (u1 % a->stride[H] * a->stride[W] + u2 % a->stride[W]) * plane + u1 / a->stride[H] * wide + u2 / a->stride[W];
}

/* Planes that are to be laid out: [n_planes, height, width]. */
typedef struct planes {
    size_t n, height, width, top, left, stride1, stride2;
} planes;

static planes input_of(const conv_attr *a) { return (planes){a->c_in, a->x[H], a->x[W], a->padding[H], a->padding[W], a->stride[H], a->stride[W]}; }

/* Rows are short: no calls, and no loops that a compiler would make calls of. */
static void copy(float *dst, const float *src, size_t n)
{
    if (n < 8) {
        if (n & 4) memcpy(dst, src, 4 * sizeof *dst), dst += 4, src += 4;
        if (n & 2) memcpy(dst, src, 2 * sizeof *dst), dst += 2, src += 2;
        if (n & 1) *dst = *src;
        return;
    }
    for (size_t i = 0; i + 8 < n; i += 8) memcpy(dst + i, src + i, 8 * sizeof *dst);
    memcpy(dst + n - 8, src + n - 8, 8 * sizeof *dst); /* the last eight, some of them again */
}

static void clear(float *dst, size_t n)
{
    if (n >= 8) {
        memset(dst, 0, n * sizeof *dst);
        return;
    }
    if (n & 4) memset(dst, 0, 4 * sizeof *dst), dst += 4;
    if (n & 2) memset(dst, 0, 2 * sizeof *dst), dst += 2;
    if (n & 1) *dst = 0;
}

/* Rows first..first+n_rows-1 of each phase, `wide` values; behind the last, where rows share their padding, as many zeros as
 * stand before a row.  dst: phase by phase, `step` values apart. */
static void lay(const planes *s, const float *x, size_t first, size_t n_rows, size_t wide, size_t step, float *dst)
{
    for (size_t c = 0; c < s->n; c++, x += s->height * s->width)
        for (size_t phase = 0; phase < s->stride1 * s->stride2; phase++, dst += step) {
            size_t p1 = phase / s->stride2, p2 = phase % s->stride2;
            size_t from = s->left > p2 ? PITH_CEIL_DIV(s->left - p2, s->stride2) : 0, to = s->left + s->width > p2 ? PITH_CEIL_DIV(s->left + s->width - p2, s->stride2) : 0;
            to = PITH_MIN(to, wide);
            for (size_t r = 0; r < n_rows; r++) {
                float *row = dst + r * wide;
                size_t at = (first + r) * s->stride1 + p1 - s->top; /* huge when above the plane */
                if (at >= s->height || from >= to) {
                    clear(row, wide);
                    continue;
                }
                const float *src = x + at * s->width + from * s->stride2 + p2 - s->left;
                clear(row, from);
                if (s->stride2 == 1) copy(row + from, src, to - from);
                else
                    for (size_t i = from; i < to; i++) row[i] = src[(i - from) * s->stride2];
                clear(row + to, wide - to);
            }
            if (s->stride2 == 1) clear(dst + n_rows * wide, s->left);
        }
}

/* ---- the product ------------------------------------------------------------------------------ */

typedef struct direct {
    pith_gemm_rows_fn *gemm;
    const conv_attr *a;
    const float *x, *w;
    float *y;
    const size_t *x_row;                 /* [c_in places] */
    size_t wide, plane, rows, n_bands, images; /* a task has `rows` rows of the result of one image, or all of some images */
    size_t n_padded, n_result;           /* floats of scratch for a worker: padded input, result */
    float *scratch;
} direct;

static void direct_range(void *arg, size_t from, size_t to, int worker)
{
    const direct *t = arg;
    const conv_attr *a = t->a;
    const planes input = input_of(a);
    float *padded = t->scratch + (size_t)worker * (t->n_padded + t->n_result), *result = padded + t->n_padded;
    size_t k = a->c_in * plane_of(a->w), tall = pitch(a, H) * t->wide;
    for (size_t i = from; i < to; i++) {
        size_t image = i / t->n_bands * t->images, images = PITH_MIN(t->images, a->n - image), first = i % t->n_bands * t->rows, rows = PITH_MIN(t->rows, a->y[H] - first);
        for (size_t j = 0; j < images; j++)
            lay(&input, t->x + (image + j) * a->c_in * plane_of(a->x), first, j + 1 < images ? pitch(a, H) : rows + shift(a, H), t->wide, t->plane, padded + j * tall);
        size_t n = padded16((images - 1) * tall + (rows - 1) * t->wide + a->y[W]);
        t->gemm(a->c_out, n, k, t->w, k, padded, t->x_row, result, n, false);
        for (size_t j = 0; j < images; j++)
            for (size_t c = 0; c < a->c_out; c++) {
                float *y = t->y + ((image + j) * a->c_out + c) * plane_of(a->y) + first * a->y[W];
                for (size_t r = 0; r < rows; r++) copy(y + r * a->y[W], result + c * n + j * tall + r * t->wide, a->y[W]);
            }
    }
}

/* Zeros where a product reads behind the last plane. */
static void clear_tails(float *scratch, size_t n_workers, size_t step, size_t len, size_t tail)
{
    for (size_t i = 0; i < n_workers; i++) clear(scratch + i * step + len - tail, tail);
}

bool pith_conv_direct(pith_tape *tape, const conv_attr *a, const float *x, const float *w, float *y)
{
    size_t k = a->c_in * plane_of(a->w), wide = pitch(a, W);
    direct t = {.gemm = tape->kernels->gemm_rows, .a = a, .x = x, .w = w, .y = y, .wide = wide, .rows = PITH_MIN(PITH_CEIL_DIV(BAND, wide), a->y[H]), .images = 1};
    if (stacked(a) < alone(a)) t.images = PITH_MIN(PITH_CEIL_DIV(STACK, stacked(a)), a->n);
    t.n_bands = PITH_CEIL_DIV(a->y[H], t.rows);
    t.plane = ((t.images - 1) * pitch(a, H) + t.rows + shift(a, H)) * wide;
    size_t tail = a->padding[W] + 16; /* what a position of rounding up reads */
    t.n_padded = a->c_in * n_phases(a) * t.plane + tail;
    t.n_result = a->c_out * padded16((t.images - 1) * stacked(a) + (t.rows - 1) * wide + a->y[W]);
    size_t n_workers = (size_t)pith_n_threads(tape->ctx), *rows = pith_op_attr(tape, k, sizeof *rows), *row = rows;
    pith_block *scratch = rows ? pith_op_take(tape, n_workers * (t.n_padded + t.n_result)) : NULL;
    if (!scratch) return false;
    for (size_t c = 0; c < a->c_in; c++)
        for (size_t p = 0; p < plane_of(a->w); p++) *row++ = c * n_phases(a) * t.plane + place(a, p / a->w[W], p % a->w[W], t.plane, wide);
    t.x_row = rows;
    t.scratch = pith_op_floats(scratch);
    clear_tails(t.scratch, n_workers, t.n_padded + t.n_result, t.n_padded, tail);
    pith_op_ranges(tape, PITH_CEIL_DIV(a->n, t.images) * t.n_bands, 1, direct_range, &t);
    pith_op_drop(tape, scratch);
    return true;
}

/* ---- the gradient by the input ---------------------------------------------------------------- */

/* Each phase of the input's planes is a convolution, of stride 1, of the gradient by the kernel's places that meet it. */
typedef struct phases_work {
    pith_gemm_rows_fn *gemm;
    const conv_attr *a;
    const float *g, *turned;             /* turned: phase by phase, [c_in, c_out places of the phase] */
    float *x;
    const size_t *g_row;                 /* phase by phase, [c_out places of the phase] */
    size_t width, wide, plane, height, rows, n_bands; /* height, width: of a phase, the padding before with it */
    size_t n_padded, n_result;
    float *scratch;
} phases_work;

static size_t places_of_phase(const conv_attr *a, int d, size_t phase)
{
    size_t n = 0;
    for (size_t k = 0; k < a->w[d]; k++) n += k * a->dilation[d] % a->stride[d] == phase;
    return n;
}

static void phases_range(void *arg, size_t from, size_t to, int worker)
{
    const phases_work *t = arg;
    const conv_attr *a = t->a;
    const planes gradient = {a->c_out, a->y[H], a->y[W], shift(a, H), shift(a, W), 1, 1};
    float *padded = t->scratch + (size_t)worker * (t->n_padded + t->n_result), *result = padded + t->n_padded;
    for (size_t i = from; i < to; i++) {
        size_t image = i / t->n_bands, first = i % t->n_bands * t->rows, rows = PITH_MIN(t->rows, t->height - first), n = padded16((rows - 1) * t->wide + t->width), at = 0;
        lay(&gradient, t->g + image * a->c_out * plane_of(a->y), first, rows + shift(a, H), t->wide, t->plane, padded);
        for (size_t phase = 0; phase < n_phases(a); phase++) {
            size_t p1 = phase / a->stride[W], p2 = phase % a->stride[W], k = a->c_out * places_of_phase(a, H, p1) * places_of_phase(a, W, p2);
            t->gemm(a->c_in, n, k, t->turned + a->c_in * at, k, padded, t->g_row + at, result, n, false);
            at += k;
            for (size_t c = 0; c < a->c_in; c++)
                for (size_t r = 0; r < rows; r++) {
                    size_t to_row = (first + r) * a->stride[H] + p1 - a->padding[H], q = a->padding[W] > p2 ? PITH_CEIL_DIV(a->padding[W] - p2, a->stride[W]) : 0;
                    if (to_row >= a->x[H]) continue;
                    float *x = t->x + ((image * a->c_in + c) * a->x[H] + to_row) * a->x[W];
                    const float *y = result + c * n + r * t->wide;
                    for (size_t u = q * a->stride[W] + p2 - a->padding[W]; u < a->x[W]; u += a->stride[W]) x[u] = y[q++];
                }
        }
    }
}

/* Weights and places in the order in which phases_range takes them. */
static void turn_phases(const conv_attr *a, const float *w, size_t plane, size_t wide, float *turned, size_t *row)
{
    size_t places = plane_of(a->w);
    for (size_t phase = 0; phase < n_phases(a); phase++) {
        size_t p1 = phase / a->stride[W], p2 = phase % a->stride[W];
        for (size_t c = 0; c < a->c_in; c++)
            for (size_t o = 0; o < a->c_out; o++)
                for (size_t p = 0; p < places; p++) {
                    size_t u1 = p / a->w[W] * a->dilation[H], u2 = p % a->w[W] * a->dilation[W];
                    if (u1 % a->stride[H] != p1 || u2 % a->stride[W] != p2) continue;
                    *turned++ = w[(o * a->c_in + c) * places + p];
                    if (c == 0) *row++ = o * plane + (shift(a, H) - u1 / a->stride[H]) * wide + shift(a, W) - u2 / a->stride[W];
                }
    }
}

static bool by_phases(pith_tape *tape, const conv_attr *a, const float *g, const float *w, float *x)
{
    phases_work t = {.gemm = tape->kernels->gemm_rows, .a = a, .g = g, .x = x};
    t.height = (a->padding[H] + a->x[H] - 1) / a->stride[H] + 1;
    t.width = (a->padding[W] + a->x[W] - 1) / a->stride[W] + 1;
    t.wide = t.width + shift(a, W);
    t.rows = PITH_MIN(PITH_CEIL_DIV(BAND, t.wide), t.height);
    t.n_bands = PITH_CEIL_DIV(t.height, t.rows);
    t.plane = (t.rows + shift(a, H)) * t.wide;
    size_t tail = shift(a, W) + 16, n_workers = (size_t)pith_n_threads(tape->ctx), n_turned = a->c_in * a->c_out * plane_of(a->w);
    t.n_padded = a->c_out * t.plane + tail;
    t.n_result = a->c_in * padded16((t.rows - 1) * t.wide + t.width);
    size_t *rows = pith_op_attr(tape, a->c_out * plane_of(a->w), sizeof *rows);
    pith_block *scratch = rows ? pith_op_take(tape, n_workers * (t.n_padded + t.n_result) + n_turned) : NULL;
    if (!scratch) return false;
    t.scratch = pith_op_floats(scratch) + n_turned;
    turn_phases(a, w, t.plane, t.wide, pith_op_floats(scratch), rows);
    t.turned = pith_op_floats(scratch);
    t.g_row = rows;
    clear_tails(t.scratch, n_workers, t.n_padded + t.n_result, t.n_padded, tail);
    pith_op_ranges(tape, a->n * t.n_bands, 1, phases_range, &t);
    pith_op_drop(tape, scratch);
    return true;
}

bool pith_conv_direct_by_input(pith_tape *tape, const conv_attr *a, const float *g, const float *w, float *x)
{
    if (n_phases(a) > 1) return by_phases(tape, a, g, w, x);
    conv_attr back = conv_back(a);
    size_t places = plane_of(a->w);
    pith_block *turned = pith_op_take(tape, a->c_in * a->c_out * places);
    if (!turned) return false;
    float *v = pith_op_floats(turned);
    for (size_t c = 0; c < a->c_in; c++)
        for (size_t o = 0; o < a->c_out; o++)
            for (size_t p = 0; p < places; p++) *v++ = w[(o * a->c_in + c) * places + places - 1 - p];
    bool done = pith_conv_direct(tape, &back, g, pith_op_floats(turned), x);
    pith_op_drop(tape, turned);
    return done;
}

/* ---- the gradient by the weights -------------------------------------------------------------- */

/* The input stands position by position, its channels side by side: then what a place of the kernel adds to the gradient, or
 * a row of places where they are neighbours, is the product of the gradient by the result and columns of it. */
typedef struct weights_work {
    pith_gemm_pieces_fn *gemm;
    const conv_attr *a;
    const float *x, *g;
    float *parts;                        /* [n_groups, c_out, columns]: sums over a group's images */
    const size_t *piece;                 /* [columns / PITH_GEMM_PIECE] */
    size_t wide, plane, rows, stack, columns, n_groups, images, channels, n_blocks; /* of images `stack` at once, or bands of `rows` */
    size_t n_padded, n_turned, n_g;
    float *scratch;
} weights_work;

/* Adds some images, or rows of one, to a group's part. */
static void add_weights(const weights_work *t, size_t image, size_t images, size_t first, size_t c, size_t channels, float *padded, float *part, bool add)
{
    const conv_attr *a = t->a;
    const planes input = input_of(a), gradient = {channels, a->y[H], a->y[W], 0, 0, 1, 1};
    float *turned = padded + t->n_padded, *g = turned + t->n_turned;
    size_t rows = PITH_MIN(t->rows, a->y[H] - first), tall = pitch(a, H) * t->wide, n = (images - 1) * tall + (rows - 1) * t->wide + a->y[W], g_plane = (images - 1) * tall + rows * t->wide;
    for (size_t j = 0; j < images; j++) {
        bool last = j + 1 == images;
        lay(&input, t->x + (image + j) * a->c_in * plane_of(a->x), first, last ? rows + shift(a, H) : pitch(a, H), t->wide, t->plane, padded + j * tall);
        lay(&gradient, t->g + ((image + j) * a->c_out + c) * plane_of(a->y), first, last ? rows : pitch(a, H), t->wide, g_plane, g + j * tall);
    }
    size_t shared = a->stride[W] == 1 ? a->padding[W] : 0; /* behind a plane */
    for (size_t phase = 0; phase < n_phases(a); phase++)
        pith_transpose(padded + phase * t->plane, a->c_in, t->plane + shared, n_phases(a) * t->plane, turned + phase * t->plane * a->c_in, a->c_in);
    t->gemm(channels, t->columns / PITH_GEMM_PIECE, n, g, g_plane, turned, t->piece, a->c_in, part, t->columns, add);
}

static void weights_range(void *arg, size_t from, size_t to, int worker)
{
    const weights_work *t = arg;
    const conv_attr *a = t->a;
    float *scratch = t->scratch + (size_t)worker * (t->n_padded + t->n_turned + t->n_g);
    for (size_t i = from; i < to; i++) {
        size_t group = i / t->n_blocks, c = i % t->n_blocks * t->channels, channels = PITH_MIN(t->channels, a->c_out - c), end = PITH_MIN((group + 1) * t->images, a->n);
        float *part = t->parts + (group * a->c_out + c) * t->columns;
        for (size_t image = group * t->images; image < end; image += t->stack)
            for (size_t first = 0; first < a->y[H]; first += t->rows)
                add_weights(t, image, PITH_MIN(t->stack, end - image), first, c, channels, scratch, part, image > group * t->images || first > 0);
    }
}

/* Places that are neighbours in a plane: their channels are columns side by side. */
static size_t run_of(const conv_attr *a) { return a->stride[W] == 1 && a->dilation[W] == 1 ? a->w[W] : 1; }

/* Columns [c_out, columns] to weights [c_out, c_in, places]. */
static void take_columns(const conv_attr *a, const float *part, size_t columns, float *w)
{
    size_t places = plane_of(a->w), run = run_of(a), wide = padded16(run * a->c_in);
    for (size_t o = 0; o < a->c_out; o++)
        for (size_t p = 0; p < places; p++)
            for (size_t c = 0; c < a->c_in; c++) w[(o * a->c_in + c) * places + p] = part[o * columns + p / run * wide + p % run * a->c_in + c];
}

bool pith_conv_direct_by_weights(pith_tape *tape, const conv_attr *a, const float *x, const float *g, float *w)
{
    size_t run = run_of(a), runs = plane_of(a->w) / run, pieces = PITH_CEIL_DIV(run * a->c_in, (size_t)PITH_GEMM_PIECE);
    weights_work t = {.gemm = tape->kernels->gemm_pieces, .a = a, .x = x, .g = g, .wide = pitch(a, W), .columns = runs * pieces * PITH_GEMM_PIECE};
    t.images = conv_group(a, a->c_out * t.columns);
    t.n_groups = PITH_CEIL_DIV(a->n, t.images);
    t.n_blocks = PITH_CEIL_DIV(a->c_out, CHANNELS_A_TASK);
    t.channels = PITH_CEIL_DIV(a->c_out, t.n_blocks);
    t.rows = PITH_MIN(PITH_CEIL_DIV(BAND, t.wide), a->y[H]);
    t.stack = t.rows < a->y[H] ? 1 : PITH_MIN(PITH_CEIL_DIV(CONV_STEPS, stacked(a)), t.images);
    t.plane = ((t.stack - 1) * pitch(a, H) + t.rows + shift(a, H)) * t.wide;
    size_t tail = a->padding[W] + 16, n_workers = (size_t)pith_n_threads(tape->ctx), *piece = pith_op_attr(tape, runs * pieces, sizeof *piece);
    t.n_padded = a->c_in * n_phases(a) * t.plane + tail;
    t.n_turned = PITH_ROUND_UP((n_phases(a) * t.plane + tail) * a->c_in + PITH_GEMM_PIECE, (size_t)16);
    t.n_g = t.channels * ((t.stack - 1) * pitch(a, H) + t.rows) * t.wide;
    size_t step = t.n_padded + t.n_turned + t.n_g;
    pith_block *scratch = piece ? pith_op_take(tape, n_workers * step) : NULL, *parts = scratch ? pith_op_take(tape, t.n_groups * a->c_out * t.columns) : NULL;
    if (parts) {
        for (size_t r = 0; r < runs; r++) /* a run begins at place r * run */
            for (size_t i = 0; i < pieces; i++) piece[r * pieces + i] = place(a, r * run / a->w[W], r * run % a->w[W], t.plane, t.wide) * a->c_in + i * PITH_GEMM_PIECE;
        t.piece = piece;
        t.scratch = pith_op_floats(scratch);
        t.parts = pith_op_floats(parts);
        clear_tails(t.scratch, n_workers, step, t.n_padded, tail);
        clear_tails(t.scratch, n_workers, step, t.n_padded + t.n_turned, tail * a->c_in + PITH_GEMM_PIECE);
        pith_op_ranges(tape, t.n_groups * t.n_blocks, 1, weights_range, &t);
        for (size_t i = 1; i < t.n_groups; i++) tape->loops->axpy(t.parts, t.parts + i * a->c_out * t.columns, 1, a->c_out * t.columns);
        take_columns(a, t.parts, t.columns, w);
    }
    pith_op_drop(tape, scratch);
    pith_op_drop(tape, parts);
    return parts != NULL;
}
