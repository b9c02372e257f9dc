/* The kernels: one scalar reference (kern_ref.c defines the result), then a file per instruction set
 * that overwrites entries of the table it does better.  Chosen once per context by its pith_cpu. */
#ifndef PITH_KERNELS_H
#define PITH_KERNELS_H

#include "tensor/gemm.h"
#include "tensor/gemm_whole.h"
#include "tensor/qmat.h"

/* Every table gives the same bits as the scalar one (a NaN for a NaN, whichever), and no kernel's result
 * depends on how the work was parted.  Pointers need the alignment of their type only, but for qmat and q8.
 * Sums of n values are 16 partial sums, so their error is at most (n/16 + 5) * 2^-24 of the sum of
 * magnitudes; exp is within 1 ulp, silu within 2.5 ulp (times up: 3). */
typedef struct pith_kernels {
    const char *name; /* "avx512-vnni" … for doctor and bench */

    /* y[r - 16*tile0] for rows of tiles tile0..tile1-1: row i_row of activations; writes only rows < w->n_rows */
    void (*qmat_vec)(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i_row, float *y);
    /* y[i * ldy + (row - 16*tile0)] for rows i0..i1-1 of activations; writes only rows < w->n_rows.
     * Fastest with an even number of tiles and six rows or more. */
    void (*qmat_mat)(const pith_qmat *w, size_t tile0, size_t tile1, const pith_q8 *a, size_t i0, size_t i1, float *y, size_t ldy);
    /* quantise rows i0..i1-1 of x [.., n_cols], row stride ldx */
    void (*q8_rows)(pith_q8 *a, size_t i0, size_t i1, const float *x, size_t ldx, size_t n_cols);

    /* f16/bf16/f32 weights [rows, cols] row-major with f32 activations: y[r - r0] = sum_c w[r,c] x[c].
     * Weights are widened, which is exact; the processors' bf16 dot products would round x as well, and
     * would gain nothing where reading the weights is the limit. */
    void (*f16_vec)(const uint16_t *w, size_t r0, size_t r1, size_t cols, const float *x, float *y);
    void (*bf16_vec)(const uint16_t *w, size_t r0, size_t r1, size_t cols, const float *x, float *y);
    void (*f32_vec)(const float *w, size_t r0, size_t r1, size_t cols, const float *x, float *y);
    void (*f16_to_f32)(const uint16_t *src, float *dst, size_t n);
    void (*f32_to_f16)(const float *src, uint16_t *dst, size_t n);
    void (*bf16_to_f32)(const uint16_t *src, float *dst, size_t n);

    pith_gemm_fn *gemm; /* dense f32 product, gemm.h */
    pith_gemm_turned_fn *gemm_turned;
    pith_gemm_apart_fn *gemm_apart;
    pith_gemm_rows_fn *gemm_rows;
    pith_gemm_pieces_fn *gemm_pieces;
    pith_gemm16_fn *gemm16; /* gemm_whole.h */
    pith_gemm8_fn *gemm8;
    float (*dot)(const float *a, const float *b, size_t n);
    void (*axpy)(float *y, const float *x, float a, size_t n);                     /* y += a x */
    void (*rmsnorm)(float *y, const float *x, const float *gain, size_t n, float eps); /* y = x / rms(x) * gain; in place allowed */
    /* in place softmax of x * scale over n values; returns nothing; max subtracted */
    void (*softmax)(float *x, size_t n, float scale);
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);      /* y = silu(gate) * up */
    /* rotate one head [d] in place by cos/sin [d/2]; interleaved: pairs (2i, 2i+1), else (i, i + d/2) */
    void (*rope)(float *x, const float *cos, const float *sin, size_t d, bool interleaved);

    /* Attention of n_q queries over the same n keys, as of heads that share them: q, out [n_q, d] f32; k, v
     * rows of d values at strides (in values) in the cache's type; scratch [n_q, n] f32.  Scores are scaled
     * by `scale`.  q8: int8 with one f32 scale a row.  The same bits as one query at a time. */
    void (*attend_heads_f32)(const float *q, size_t n_q, const float *k, const float *v, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out);
    void (*attend_heads_f16)(const float *q, size_t n_q, const uint16_t *k, const uint16_t *v, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out);
    void (*attend_heads_q8)(const float *q, size_t n_q, const int8_t *k, const float *k_scale, const int8_t *v, const float *v_scale, size_t stride, size_t n, size_t d, float scale, float *scratch, float *out);
} pith_kernels;

/** The table for a processor; constant tables, nothing to free. */
const pith_kernels *pith_kernels_for(const pith_cpu *cpu);
const pith_kernels *pith_kernels_get(const pith_ctx *ctx);

#endif
