/* The inner loops over arrays: one file, built once for each instruction set; all give the same bits. */
#ifndef PITH_GRAD_LOOPS_H
#define PITH_GRAD_LOOPS_H

#include "base/base.h"

/* Functions of one number with up to two constants. */
#define PITH_UNARIES(X) \
    X(AFFINE, affine) X(ABS, abs) X(SQUARE, square) X(SQRT, sqrt) X(RSQRT, rsqrt) X(RECIPROCAL, reciprocal) X(POW, pow) \
    X(EXP, exp) X(LOG, log) X(SIN, sin) X(COS, cos) X(ERF, erf) X(TANH, tanh) X(SIGMOID, sigmoid) X(SOFTPLUS, softplus) \
    X(RELU, relu) X(LEAKY_RELU, leaky_relu) X(ELU, elu) X(SILU, silu) X(GELU, gelu) X(GELU_TANH, gelu_tanh) \
    X(CLAMP, clamp) X(ROUND, round) X(FLOOR, floor) X(SIGN, sign)
typedef enum pith_unary {
#define X(upper, lower) PITH_UNARY_##upper,
    PITH_UNARIES(X)
#undef X
    PITH_N_UNARIES
} pith_unary;

typedef enum pith_binary {
    PITH_BINARY_ADD, PITH_BINARY_SUB, PITH_BINARY_MUL, PITH_BINARY_DIV, PITH_BINARY_MAX, PITH_BINARY_MIN,
    PITH_BINARY_AT_LEAST, PITH_N_BINARIES
} pith_binary;

/* A row of an LSTM layer at one step: gates i, f (where it forgets), g, o, each of h values. */
typedef struct pith_lstm_row {
    size_t h;
    bool forgets;
    const float *gates, *bias, *peep;    /* gates, bias: added to act, bias may be NULL; peep [gates but g, h], NULL: none */
    const float *c_before, *gh;          /* gh: backward, the gradient by y */
    float *act;                          /* forward: the recurrent product, which becomes the gates after their functions */
    float *c, *tc, *y;                   /* the cell, its tanh, the state; backward: tc alone, read */
    float *gc, *g;                       /* backward: the gradient by the cell, then by the one before; by the gates */
} pith_lstm_row;

/* Sums are 16 partial sums, number i % 16 takes value i; then s[i] += s[i+8], s[i+4], s[i+2], s[i+1]. */
typedef struct pith_loops {
    /* order 0: y = f(x); 1: y = f'(x) g; 2: y = f''(x) g.  y may be x or g. */
    void (*unary)(pith_unary fn, int order, float p0, float p1, const float *x, const float *g, float *y, size_t n);
    /* y = a . b, where step_a, step_b are 1, or 0 for one value repeated; y may be a or b */
    void (*binary)(pith_binary fn, const float *a, int step_a, const float *b, int step_b, float *y, size_t n);
    float (*sum)(const float *x, size_t n);
    float (*dot)(const float *a, const float *b, size_t n);
    float (*spread)(const float *x, size_t n, float mean);         /* sum of (x - mean)^2 */
    float (*max)(const float *x, size_t n);                        /* -infinity when n is 0 */
    float (*exp_sum)(const float *x, float scale, float shift, float *y, size_t n); /* y = exp(scale x - shift), and its sum */
    void (*axpy)(float *y, const float *x, float a, size_t n);     /* y += a x, rounded twice */
    /* y = (x - mean) r, times gain plus bias where they are not NULL */
    void (*normalize)(const float *x, float mean, float r, const float *gain, const float *bias, float *y, size_t n);
    void (*center)(const float *x, float mean, float factor, float shift, float *y, size_t n); /* y = (x - mean) factor + shift */
    /* gx = p g - q - (x - mean) s */
    void (*center_back)(const float *x, float mean, const float *g, float p, float q, float s, float *gx, size_t n);
    /* in place: by_gain += (x - mean) r g, by_bias += g; either may be NULL */
    void (*gain_back)(const float *x, float mean, float r, const float *g, float *by_gain, float *by_bias, size_t n);
    void (*softmax_back)(const float *y, const float *g, float dot, float *gx, size_t n); /* gx = y (g - dot) */
    /* in place: m = beta1 m + (1 - beta1) g, v likewise of g^2, w = keep w - rate m / (sqrt(v) / root + eps) */
    void (*adam)(float *w, const float *g, float *m, float *v, float factor, float beta1, float beta2, float rate, float root, float eps, float keep, size_t n);
    /* in place: m = momentum m + factor g + decay w; w -= rate m (nesterov: rate (g + momentum m)); m NULL: momentum 0 */
    void (*sgd)(float *w, const float *g, float *m, float factor, float momentum, bool nesterov, float rate, float decay, size_t n);
    /* a step of a row of an LSTM; its gradients, from that by y and the one by the cell that a later step left */
    void (*lstm)(const pith_lstm_row *row);
    void (*lstm_back)(const pith_lstm_row *row);
    void (*blend)(float *y, const float *x, float t, size_t n);    /* y += t (x - y) */
    void (*to_bf16)(const float *x, uint16_t *y, size_t n);        /* to the nearest, even of two; NaN stays one */
    /* One pass of a Fourier transform of n = radix m step values, `lanes` of them side by side: for j < m, i < step lanes,
     *     y[(radix j + k) step lanes + i] = w[j k step] sum_l x[(m l + j) step lanes + i] w[l k n / radix]
     * w [2, n] the n-th roots of 1, real parts first.  radix 2, 4, or odd and up to 13.  x, y: real and imaginary parts */
    void (*fft_pass)(size_t radix, size_t m, size_t step, size_t lanes, const float *w, const float *xr, const float *xi, float *yr, float *yi);
} pith_loops;

const pith_loops *pith_loops_for(const pith_cpu *cpu);

#endif
