/* Adafactor's and Muon's updates. */
#include "grad/precondition.h"

#include <math.h>

#include "grad/matmul.h"

#define PIECE ((size_t)16384) /* values that one sum or one task takes */

double pith_mean_square(pith_tape *tape, const float *x, size_t n)
{
    double sum = 0;
    for (size_t from = 0; from < n; from += PIECE) sum += (double)tape->loops->dot(x + from, x + from, PITH_MIN(PIECE, n - from));
    return n ? sum / (double)n : 0;
}

/* ---- orthogonal momentum ---------------------------------------------------------------------- */

static void scale(float *x, float a, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] *= a;
}

/* x = 3.4445 x - 4.775 (x x') x + 2.0315 (x x')^2 x, five times: the odd polynomial of Jordan et al. that lifts small
 * singular values fastest.  x [r, c] with r <= c. */
static bool newton_schulz(pith_tape *tape, float *x, size_t r, size_t c)
{
    static const float a0 = 3.4445f, a1 = -4.775f, a2 = 2.0315f;
    pith_block *gram = pith_op_take(tape, r * r), *square = pith_op_take(tape, r * r), *next = pith_op_take(tape, r * c);
    bool ok = gram && square && next;
    for (int i = 0; i < 5 && ok; i++) {
        float *g = pith_op_floats(gram), *s = pith_op_floats(square), *y = pith_op_floats(next);
        ok = pith_product(tape, 1, r, r, c, (pith_matrix){x, c, false}, (pith_matrix){x, c, true}, 0, 0, NULL, g)
          && pith_product(tape, 1, r, r, r, (pith_matrix){g, r, false}, (pith_matrix){g, r, false}, 0, 0, NULL, s);
        if (!ok) break;
        scale(s, a2, r * r);
        tape->loops->axpy(s, g, a1, r * r);
        ok = pith_product(tape, 1, r, c, r, (pith_matrix){s, r, false}, (pith_matrix){x, c, false}, 0, 0, NULL, y);
        if (!ok) break;
        scale(x, a0, r * c);
        tape->loops->axpy(x, y, 1, r * c);
    }
    pith_op_drop(tape, gram);
    pith_op_drop(tape, square);
    pith_op_drop(tape, next);
    return ok;
}

bool pith_orthogonal_update(pith_tape *tape, float *g, float *m, size_t n_rows, size_t n_cols, float momentum, float factor)
{
    size_t n = n_rows * n_cols;
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * factor;
        m[i] = momentum * m[i] + d;
        g[i] = d + momentum * m[i];
    }
    double length = sqrt(pith_mean_square(tape, g, n) * (double)n);
    scale(g, (float)(1 / (length + 1e-7)), n);
    if (n_rows <= n_cols) return newton_schulz(tape, g, n_rows, n_cols);
    pith_block *turned = pith_op_take(tape, n);
    if (!turned) return false;
    float *x = pith_op_floats(turned);
    pith_transpose(g, n_rows, n_cols, n_cols, x, n_rows);
    bool ok = newton_schulz(tape, x, n_cols, n_rows);
    pith_transpose(x, n_cols, n_rows, n_rows, g, n_cols);
    pith_op_drop(tape, turned);
    return ok;
}

/* ---- Adafactor -------------------------------------------------------------------------------- */

#define EPS1 1e-30f /* the paper's */

typedef struct adafactor {
    pith_tape *tape;
    float *g, *rows, *cols;
    size_t n_rows, n_cols;
    float beta2, factor, mean;
} adafactor;

static void row_means(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const adafactor *a = arg;
    for (size_t r = from; r < to; r++) {
        float *g = a->g + r * a->n_cols;
        scale(g, a->factor, a->n_cols);
        float mean = (float)pith_mean_square(a->tape, g, a->n_cols) + EPS1;
        a->rows[r] = a->beta2 * a->rows[r] + (1 - a->beta2) * mean;
    }
}

static void col_means(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const adafactor *a = arg;
    float share = (1 - a->beta2) / (float)a->n_rows;
    for (size_t c = from; c < to; c++) a->cols[c] = a->beta2 * a->cols[c] + (1 - a->beta2) * EPS1;
    for (size_t r = 0; r < a->n_rows; r++) {
        const float *g = a->g + r * a->n_cols;
        for (size_t c = from; c < to; c++) a->cols[c] += share * g[c] * g[c];
    }
}

static void divide(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const adafactor *a = arg;
    for (size_t r = from; r < to; r++) {
        float *g = a->g + r * a->n_cols, row = 1 / sqrtf(fmaxf(a->rows[r] / a->mean, EPS1));
        for (size_t c = 0; c < a->n_cols; c++) g[c] *= row / sqrtf(a->cols[c]);
    }
}

/* g over the root of rows' mean x columns' mean over the mean of both (the paper's algorithm 4). */
static void by_factors(pith_tape *tape, float *g, float *v, size_t n_rows, size_t n_cols, float beta2, float factor)
{
    adafactor a = {tape, g, v, v + n_rows, n_rows, n_cols, beta2, factor, 0};
    size_t grain = PITH_CEIL_DIV(PIECE, n_cols);
    pith_op_ranges(tape, n_rows, grain, row_means, &a);
    pith_op_ranges(tape, n_cols, PITH_MAX(PITH_CEIL_DIV(PIECE, n_rows), (size_t)64), col_means, &a);
    double sum = 0;
    for (size_t r = 0; r < n_rows; r++) sum += (double)a.rows[r];
    a.mean = (float)(sum / (double)n_rows);
    pith_op_ranges(tape, n_rows, grain, divide, &a);
}

void pith_adafactor_update(pith_tape *tape, float *g, float *m, float *v, size_t n_rows, size_t n_cols, bool factored, float beta1, float beta2, float clip, float factor)
{
    size_t n = n_rows * n_cols;
    if (factored) {
        by_factors(tape, g, v, n_rows, n_cols, beta2, factor);
    } else {
        for (size_t i = 0; i < n; i++) {
            float d = g[i] * factor;
            v[i] = beta2 * v[i] + (1 - beta2) * (d * d + EPS1);
            g[i] = d / sqrtf(v[i]);
        }
    }
    double rms = sqrt(pith_mean_square(tape, g, n));
    if (clip > 0 && rms > (double)clip) scale(g, (float)((double)clip / rms), n);
    for (size_t i = 0; m && i < n; i++) g[i] = m[i] = beta1 * m[i] + (1 - beta1) * g[i];
}
