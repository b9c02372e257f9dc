/* Discrete Fourier transforms: passes of radix 4, 2 and the odd primes up to 13 that leave the result in order (Stockham's
 * form: Cochran et al., What is the fast Fourier transform?, 1967), and for other lengths a convolution of a power of 2
 * (Bluestein 1970).  Rows are taken LANES at a time, side by side, so that every pass runs over whole vectors.
 *
 * Ours, not FFTW: that one chooses its way by the processor, so that bits differ between machines, keeps its plans in
 * global state, ends the program where memory fails, and is under the GPL.
 *
 * All transforms are linear, and each operation's gradient is another of them: the adjoint of sum_t x_t e^(-2 pi i k t/n) is
 * the same sum with e^+; for real values over half a spectrum likewise, with other weights for the bins that stand for
 * two. */
#include <math.h>

#include "grad/tape.h"

#define LANES ((size_t)16)
#define MAX_RADIX 13
#define MAX_PASSES 40
#define MAX_LENGTH ((size_t)1 << 30)

typedef struct plan {
    size_t n;
    int n_passes;
    size_t radix[MAX_PASSES];
    const float *roots;           /* [2, n] e^(-2 pi i j / n): real parts, then imaginary */
    struct plan *longer;          /* Bluestein: of a power of 2, at least 2 n - 1; else NULL */
    const float *chirp, *filter;  /* [2, n] e^(-pi i j^2 / n); [2, longer] the transform of its inverse, over the length */
} plan;

/* ---- plans ------------------------------------------------------------------------------------ */

/* e^(-2 pi i j / n) */
static void root(size_t j, size_t n, float *re, float *im)
{
    double angle = 2 * M_PI * (double)j / (double)n;
    *re = (float)cos(angle);
    *im = (float)-sin(angle);
}

static float *new_roots(pith_tape *tape, size_t n, size_t count)
{
    float *w = pith_op_attr(tape, count, 2 * sizeof *w);
    for (size_t j = 0; w && j < count; j++) root(j, n, &w[j], &w[count + j]);
    return w;
}

/* Into radices; false: a prime is left that has no pass. */
static bool split(plan *p)
{
    static const size_t radices[] = {4, 2, 3, 5, 7, 11, MAX_RADIX};
    size_t left = p->n;
    for (size_t i = 0; i < PITH_COUNT(radices); i++)
        for (; left % radices[i] == 0; left /= radices[i]) p->radix[p->n_passes++] = radices[i];
    return left == 1;
}

static void run(const pith_loops *l, const plan *p, size_t lanes, float *re, float *im, float *work);
/* Values a lane. */
static size_t work_len(const plan *p) { return p->longer ? 4 * p->longer->n : 2 * p->n; }

static bool new_filter(pith_tape *tape, plan *p)
{
    size_t n = p->n, m = p->longer->n;
    float *chirp = pith_op_attr(tape, n, 2 * sizeof *chirp), *filter = pith_op_attr(tape, m, 2 * sizeof *filter);
    pith_block *work = chirp && filter ? pith_op_take(tape, work_len(p->longer)) : NULL;
    if (!work) return false;
    memset(filter, 0, 2 * m * sizeof *filter);
    for (size_t j = 0, square = 0; j < n; square = (square + 2 * j + 1) % (2 * n), j++) { /* square: j^2 mod 2 n */
        root(square, 2 * n, &chirp[j], &chirp[n + j]);
        size_t other = j ? m - j : 0;
        filter[j] = filter[other] = chirp[j] / (float)m;
        filter[m + j] = filter[m + other] = -chirp[n + j] / (float)m;
    }
    run(tape->loops, p->longer, 1, filter, filter + m, pith_op_floats(work));
    pith_op_drop(tape, work);
    p->chirp = chirp;
    p->filter = filter;
    return true;
}

/* Until the step ends; NULL: the failure is set. */
static plan *new_plan(pith_tape *tape, size_t n)
{
    plan *p = pith_op_attr(tape, 1, sizeof *p);
    if (!p) return NULL;
    *p = (plan){.n = n};
    if (split(p)) return (p->roots = new_roots(tape, n, n)) ? p : NULL;
    size_t m = 1;
    while (m < 2 * n - 1) m *= 2;
    return (p->longer = new_plan(tape, m)) && new_filter(tape, p) ? p : NULL;
}

/* ---- running them ----------------------------------------------------------------------------- */

static void run_passes(const pith_loops *l, const plan *p, size_t lanes, float *re, float *im, float *work)
{
    float *from[2] = {re, im}, *to[2] = {work, work + p->n * lanes};
    for (size_t i = 0, step = 1; i < (size_t)p->n_passes; step *= p->radix[i++]) {
        l->fft_pass(p->radix[i], p->n / step / p->radix[i], step, lanes, p->roots, from[0], from[1], to[0], to[1]);
        float *swap[2] = {from[0], from[1]};
        memcpy(from, to, sizeof from);
        memcpy(to, swap, sizeof to);
    }
    if (from[0] == re) return;
    memcpy(re, from[0], p->n * lanes * sizeof *re);
    memcpy(im, from[1], p->n * lanes * sizeof *im);
}

/* (yr, yi)[lanes] = (xr, xi)[lanes] (wr, wi) */
static void turn(const float *xr, const float *xi, float wr, float wi, float *yr, float *yi, size_t lanes)
{
    for (size_t q = 0; q < lanes; q++) {
        float r = xr[q] * wr - xi[q] * wi, i = xr[q] * wi + xi[q] * wr;
        yr[q] = r;
        yi[q] = i;
    }
}

/* k t = (k^2 + t^2 - (k - t)^2) / 2 turns the transform into a convolution with a chirp. */
static void run_bluestein(const pith_loops *l, const plan *p, size_t lanes, float *re, float *im, float *work)
{
    size_t n = p->n, m = p->longer->n;
    float *a = work, *b = work + m * lanes;
    for (size_t j = 0; j < n; j++) turn(re + j * lanes, im + j * lanes, p->chirp[j], p->chirp[n + j], a + j * lanes, b + j * lanes, lanes);
    memset(a + n * lanes, 0, (m - n) * lanes * sizeof *a);
    memset(b + n * lanes, 0, (m - n) * lanes * sizeof *b);
    run_passes(l, p->longer, lanes, a, b, work + 2 * m * lanes);
    for (size_t j = 0; j < m; j++) turn(a + j * lanes, b + j * lanes, p->filter[j], p->filter[m + j], a + j * lanes, b + j * lanes, lanes);
    run_passes(l, p->longer, lanes, b, a, work + 2 * m * lanes); /* parts exchanged: the inverse */
    for (size_t j = 0; j < n; j++) turn(a + j * lanes, b + j * lanes, p->chirp[j], p->chirp[n + j], re + j * lanes, im + j * lanes, lanes);
}

/* In place, re and im [n, lanes]; with the two exchanged by e^+, the inverse times n.  work [work_len, lanes] */
static void run(const pith_loops *l, const plan *p, size_t lanes, float *re, float *im, float *work)
{
    if (p->longer) run_bluestein(l, p, lanes, re, im, work);
    else run_passes(l, p, lanes, re, im, work);
}

typedef struct fft_work {
    const pith_loops *loops;
    const void *attr;
    const float *x;
    float *y, *scratch;
    size_t scratch_len;           /* of a worker */
} fft_work;

/* fn over groups of LANES rows, each worker with memory for [2, n, lanes] values and the passes' own. */
static bool run_rows(pith_tape *tape, fft_work *w, const plan *p, size_t rows, pith_range_fn *fn)
{
    w->scratch_len = (2 * p->n + work_len(p)) * PITH_MIN(LANES, rows);
    pith_block *scratch = pith_op_take(tape, (size_t)pith_n_threads(tape->ctx) * w->scratch_len);
    if (!scratch) return false;
    w->scratch = pith_op_floats(scratch);
    w->loops = tape->loops;
    pith_op_ranges(tape, rows, LANES, fn, w);
    pith_op_drop(tape, scratch);
    return true;
}

/* An axis that a transform can be taken along. */
static bool is_length(pith_var *x, const char *name, size_t n)
{
    if (n > 0 && n <= MAX_LENGTH) return true;
    pith_op_fail(x->tape, PITH_E_SHAPE, "%s: %zu values of %s cannot be transformed (1 to 2^30 can)", name, n, PITH_SHAPE(x));
    return false;
}

/* ---- complex values --------------------------------------------------------------------------- */

typedef struct fft_attr {
    size_t axis, inner;           /* inner: complex values from one along the axis to the next */
    bool plus;                    /* e^+ */
    float scale;
    plan *p;
} fft_attr;

static void fft_rows(void *arg, size_t from, size_t to, int worker)
{
    const fft_work *w = arg;
    const fft_attr *a = w->attr;
    size_t n = a->p->n, lanes = to - from, at[LANES];
    float *re = w->scratch + (size_t)worker * w->scratch_len, *im = re + n * lanes;
    for (size_t q = 0; q < lanes; q++) at[q] = ((from + q) / a->inner * n * a->inner + (from + q) % a->inner) * 2;
    for (size_t j = 0; j < n; j++)
        for (size_t q = 0; q < lanes; q++) {
            const float *x = w->x + at[q] + j * a->inner * 2;
            re[j * lanes + q] = x[0];
            im[j * lanes + q] = x[1];
        }
    run(w->loops, a->p, lanes, a->plus ? im : re, a->plus ? re : im, im + n * lanes);
    for (size_t j = 0; j < n; j++)
        for (size_t q = 0; q < lanes; q++) {
            float *y = w->y + at[q] + j * a->inner * 2;
            y[0] = re[j * lanes + q] * a->scale;
            y[1] = im[j * lanes + q] * a->scale;
        }
}

static pith_var *fft(pith_var *x, const fft_attr *a);

static void fft_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    fft_attr a = *(const fft_attr *)y->attr;
    a.plus = !a.plus;
    gx[0] = fft(gy, &a);
}

static pith_var *fft(pith_var *x, const fft_attr *a)
{
    static const pith_op op = {"fft", fft_backward};
    pith_var *y = x ? pith_op_value(x->tape, &op, &x, 1, x->n_dims, x->dims, sizeof *a) : NULL;
    if (!y) return NULL;
    fft_attr *own = y->attr;
    *own = *a;
    if (!y->count) return y;
    if (!own->p && !(own->p = new_plan(x->tape, x->dims[a->axis]))) return NULL;
    fft_work w = {.attr = own, .x = x->data, .y = y->data};
    return run_rows(x->tape, &w, own->p, x->count / 2 / own->p->n, fft_rows) ? y : NULL;
}

pith_var *pith_var_fft(pith_var *x, int axis, bool inverse)
{
    fft_attr a = {.inner = 1, .plus = inverse};
    if (!x || !pith_axis(x, "fft", axis, &a.axis)) return NULL;
    size_t last = (size_t)x->n_dims - 1, n = x->dims[a.axis];
    if (a.axis == last || x->dims[last] != 2) return pith_op_fail(x->tape, PITH_E_SHAPE, "fft: %s is not [.., 2] with an axis %d before the parts", PITH_SHAPE(x), axis);
    if (!is_length(x, "fft", n)) return NULL;
    for (size_t d = a.axis + 1; d < last; d++) a.inner *= x->dims[d];
    a.scale = inverse ? 1 / (float)n : 1;
    return fft(x, &a);
}

/* ---- real values and half their spectrum ------------------------------------------------------ */

/* back false: y_k = weight_k sum_t x_t e^(-2 pi i k t / n); true, its adjoint: y_t = sum_k weight_k Re(x_k e^(2 pi i k t / n)).
 * An even n goes through a transform of n / 2: neighbours are the parts of a complex value. */
typedef struct half_attr {
    size_t n, n_bins;             /* n / 2 + 1 */
    float inner, edge;            /* the weights: of bins that stand for two, and of the first and (n even) the last */
    bool back;
    plan *p;
    const float *roots;           /* [2, n_bins], n even */
} half_attr;

static bool is_edge(const half_attr *a, size_t k) { return k == 0 || 2 * k == a->n; }

static void half_rows(void *arg, size_t from, size_t to, int worker)
{
    const fft_work *w = arg;
    const half_attr *a = w->attr;
    size_t n = a->p->n, lanes = to - from;
    bool even = a->n % 2 == 0;
    float *re = w->scratch + (size_t)worker * w->scratch_len, *im = re + n * lanes;
    for (size_t j = 0; j < n; j++)
        for (size_t q = 0; q < lanes; q++) {
            const float *x = w->x + (from + q) * a->n;
            re[j * lanes + q] = x[even ? 2 * j : j];
            im[j * lanes + q] = even ? x[2 * j + 1] : 0;
        }
    run(w->loops, a->p, lanes, re, im, im + n * lanes);
    for (size_t k = 0; k < a->n_bins; k++) {
        size_t here = k % n * lanes, there = (n - k) % n * lanes;
        float weight = is_edge(a, k) ? a->edge : a->inner;
        for (size_t q = 0; q < lanes; q++) {
            float *y = w->y + ((from + q) * a->n_bins + k) * 2, yr = re[here + q], yi = im[here + q];
            if (even) { /* of the even places (z + z')/2, of the odd ones (z - z')/2i, z' conjugate at n - k */
                float er = 0.5f * (yr + re[there + q]), ei = 0.5f * (yi - im[there + q]), or = 0.5f * (yi + im[there + q]), oi = 0.5f * (re[there + q] - yr);
                yr = er + (or * a->roots[k] - oi * a->roots[a->n_bins + k]);
                yi = ei + (or * a->roots[a->n_bins + k] + oi * a->roots[k]);
            }
            y[0] = weight * yr;
            y[1] = weight * yi;
        }
    }
}

/* Bin k of a row, weighed so that with its mirror image it counts once. */
static void bin(const half_attr *a, const float *x, size_t k, float *re, float *im)
{
    float weight = is_edge(a, k) ? a->edge : 0.5f * a->inner;
    *re = weight * x[2 * k];
    *im = is_edge(a, k) ? 0 : weight * x[2 * k + 1];
}

static void half_rows_back(void *arg, size_t from, size_t to, int worker)
{
    const fft_work *w = arg;
    const half_attr *a = w->attr;
    size_t n = a->p->n, lanes = to - from;
    bool even = a->n % 2 == 0;
    float *re = w->scratch + (size_t)worker * w->scratch_len, *im = re + n * lanes;
    for (size_t k = 0; k < (even ? n : a->n_bins); k++)
        for (size_t q = 0; q < lanes; q++) {
            const float *x = w->x + (from + q) * a->n_bins * 2;
            size_t at = k * lanes + q, mirror = (n - k) % n * lanes + q;
            float xr, xi, mr, mi;
            bin(a, x, k, &xr, &xi);
            if (!even) {
                re[mirror] = xr, im[mirror] = -xi;
                re[at] = xr, im[at] = xi;
                continue;
            }
            bin(a, x, n - k, &mr, &mi);
            float dr = xr - mr, di = xi + mi, or = dr * a->roots[k] + di * a->roots[a->n_bins + k], oi = di * a->roots[k] - dr * a->roots[a->n_bins + k];
            re[at] = xr + mr - oi;
            im[at] = xi - mi + or;
        }
    run(w->loops, a->p, lanes, im, re, im + n * lanes);
    for (size_t j = 0; j < n; j++)
        for (size_t q = 0; q < lanes; q++) {
            float *y = w->y + (from + q) * a->n;
            y[even ? 2 * j : j] = re[j * lanes + q];
            if (even) y[2 * j + 1] = im[j * lanes + q];
        }
}

static pith_var *half(pith_var *x, const half_attr *a);

static void half_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    half_attr a = *(const half_attr *)y->attr;
    a.back = !a.back;
    gx[0] = half(gy, &a);
}

/* x [.., n] -> [.., n_bins, 2], or back */
static pith_var *half(pith_var *x, const half_attr *a)
{
    static const pith_op forward = {"rfft", half_backward}, back = {"irfft", half_backward};
    if (!x) return NULL;
    size_t dims[PITH_MAX_DIMS + 1], last = (size_t)x->n_dims - 1;
    memcpy(dims, x->dims, sizeof x->dims);
    dims[a->back ? last - 1 : last] = a->back ? a->n : a->n_bins;
    dims[last + 1] = 2;
    pith_var *y = pith_op_value(x->tape, a->back ? &back : &forward, &x, 1, a->back ? x->n_dims - 1 : x->n_dims + 1, dims, sizeof *a);
    if (!y) return NULL;
    half_attr *own = y->attr;
    *own = *a;
    if (!y->count) return y;
    if (!own->p) {
        own->p = new_plan(x->tape, a->n % 2 ? a->n : a->n / 2);
        own->roots = a->n % 2 ? NULL : new_roots(x->tape, a->n, a->n_bins);
        if (!own->p || (a->n % 2 == 0 && !own->roots)) return NULL;
    }
    fft_work w = {.attr = own, .x = x->data, .y = y->data};
    return run_rows(x->tape, &w, own->p, (a->back ? y : x)->count / a->n, a->back ? half_rows_back : half_rows) ? y : NULL;
}

pith_var *pith_var_rfft(pith_var *x)
{
    size_t axis;
    if (!x || !pith_axis(x, "rfft", -1, &axis) || !is_length(x, "rfft", x->dims[axis])) return NULL;
    size_t n = x->dims[axis];
    return half(x, &(half_attr){.n = n, .n_bins = n / 2 + 1, .inner = 1, .edge = 1});
}

pith_var *pith_var_irfft(pith_var *x, size_t n)
{
    if (!x || !is_length(x, "irfft", n)) return NULL;
    if (x->n_dims < 2 || x->dims[x->n_dims - 1] != 2 || x->dims[x->n_dims - 2] != n / 2 + 1)
        return pith_op_fail(x->tape, PITH_E_SHAPE, "irfft: %zu values have a spectrum [.., %zu, 2], not %s", n, n / 2 + 1, PITH_SHAPE(x));
    return half(x, &(half_attr){.n = n, .n_bins = n / 2 + 1, .inner = 2 / (float)n, .edge = 1 / (float)n, .back = true});
}

pith_var *pith_var_rfft2(pith_var *x)
{
    if (!x) return NULL;
    if (x->n_dims < 2) return pith_op_fail(x->tape, PITH_E_SHAPE, "rfft2: %s is not [.., height, width]", PITH_SHAPE(x));
    return pith_var_fft(pith_var_rfft(x), -3, false);
}

pith_var *pith_var_irfft2(pith_var *x, size_t width)
{
    if (!x) return NULL;
    if (x->n_dims < 3) return pith_op_fail(x->tape, PITH_E_SHAPE, "irfft2: %s is not [.., height, width / 2 + 1, 2]", PITH_SHAPE(x));
    return pith_var_irfft(pith_var_fft(x, -3, true), width);
}
