/* What the kernel files share: the rules of arithmetic, the tables they define, the constants of exp.
 * Only src/tensor/kern*.c include this. */
#ifndef PITH_KERN_H
#define PITH_KERN_H

#include "tensor/kernels.h"

/* The arithmetic that every file follows, so that all tables give the same bits:
 *   - sums over an index (dot products, squares, the sum of softmax) are 16 partial sums, number i % 16
 *     takes value i by fused multiply-add (or addition), then s[i] += s[i+8], s[i+4], s[i+2], s[i+1];
 *   - every other chain of additions runs in order of its index;
 *   - where a product is added, one fused multiply-add.
 * A lane that a vector file adds beyond the end is +0 * +0 onto a partial sum, which changes nothing. */

extern const pith_kernels pith_kernels_ref;
#if defined(__x86_64__)
extern const pith_kernels pith_kernels_avx2, pith_kernels_avx2_vnni, pith_kernels_avx512, pith_kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const pith_kernels pith_kernels_neon, pith_kernels_neon_dot;
#endif

/* exp(x) = 2^n * (1 + (r + r^2 * q(r))), n = round(x / ln 2), r = x - n * ln 2 in two steps (Cody and
 * Waite, 1980); q of degree 4 fitted here to the least largest relative error over |r| <= ln 2 / 2, 3.1e-9.
 * Below PITH_EXP_MIN the result is 0, above PITH_EXP_MAX infinity.  At most 1 ulp from exp, held by
 * a test. */
#define PITH_EXP_MIN (-0x1.5d589ep+6f) /* -87.336: the smallest result is normal */
#define PITH_EXP_MAX 0x1.61814ap+6f    /* 88.376: n is at most 127 */
#define PITH_EXP_LOG2E 0x1.715476p+0f
#define PITH_EXP_LN2_HIGH 0x1.62ep-1f
#define PITH_EXP_LN2_LOW 0x1.0bfbe8p-15f
#define PITH_EXP_Q0 0x1.fffffcp-2f
#define PITH_EXP_Q1 0x1.55549p-3f
#define PITH_EXP_Q2 0x1.5558f4p-5f
#define PITH_EXP_Q3 0x1.123a6cp-7f
#define PITH_EXP_Q4 0x1.6a2352p-10f

/* What a row of plain numbers may be stored as. */
typedef enum kind { KIND_F32, KIND_F16, KIND_BF16, KIND_I8 } kind;

#define INLINE static inline __attribute__((always_inline))

/* Activations: |max| below this is taken for zero (127 / max must stay finite). */
#define PITH_Q8_TINY 1e-30f

/* Bytes of scales before a tile's payloads (qmat.h). */
static inline size_t kern_scales_bytes(const pith_qmat *w)
{
    size_t each = w->scale_mode == PITH_QSCALE_ROW ? 0 : w->scale_mode == PITH_QSCALE_BLOCK ? 32 : 64;
    return PITH_ROUND_UP(w->n_blocks * each, (size_t)64);
}

#endif
