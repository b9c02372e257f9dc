/* Vector quantization that learns: each row of z becomes one of n_codes codes, with the gradient passed straight through
 * (van den Oord, Vinyals, Kavukcuoglu, arXiv:1711.00937).  The kinds differ in what a code is and how it moves.
 *
 *     pith_vq_new(tape, &options, &vq);                        // parameters on the tape, before the optimizer is made
 *     pith_vq_apply(vq, z, &r);                                // in each step: r.q goes on, r.loss is added
 *     ... pith_backward, pith_optimizer_step ...
 *     pith_vq_update(vq);                                      // what moves codes without gradients
 *
 * The same bits on any number of threads. */
#ifndef PITH_VQ_H
#define PITH_VQ_H

#include "grad/grad.h"

typedef enum pith_vq_kind {
    PITH_VQ_PLAIN,                 /* codes are parameters; |q - sg(z)|^2 + commitment |sg(q) - z|^2 */
    PITH_VQ_RESEED,                /* the same, from k-means (pith_vq_start), and codes that no row chose for 100 updates begin
                                      anew at rows of the last batch */
    PITH_VQ_EMA,                   /* codes are moving averages of the rows that chose them, decay 0.99 (same paper, appendix) */
    PITH_VQ_PROJECTED,             /* z is projected to code_dim, both sides have unit length there (Yu et al., arXiv:2110.04627) */
    PITH_VQ_LINEAR,                /* SimVQ: codes are C W, C normal, frozen and made from a seed, W trained (Zhu et al.,
                                      arXiv:2411.02038) */
    PITH_VQ_FROZEN,                /* the same with W frozen too, where it began: an ablation */
    PITH_VQ_FSQ,                   /* each of a few bounded coordinates rounded (Mentzer et al., arXiv:2309.15505) */
    PITH_VQ_LFQ                    /* signs of log2(n_codes) coordinates, with an entropy loss (Yu et al., arXiv:2310.05737; the
                                      batch's entropy is summed over bits, an upper bound of theirs over codes) */
} pith_vq_kind;
/** "plain", "reseed" …; and back, false when there is none. */
const char *pith_vq_kind_name(pith_vq_kind kind);
bool pith_vq_kind_find(const char *name, size_t len, pith_vq_kind *kind);

typedef struct pith_vq_options {
    pith_vq_kind kind;
    size_t n_codes, dim;           /* FSQ: 2^8, 2^10, 2^12, 2^13, 2^14 or 2^16; LFQ: a power of 2 */
    size_t code_dim;               /* PROJECTED; 0: 8 */
    float commitment;              /* 0: 0.25 */
    uint64_t seed;
} pith_vq_options;

typedef struct pith_vq pith_vq;

typedef struct pith_vq_result {
    pith_var *q;                   /* [n, dim] */
    pith_var *loss;                /* one value, to be added to the task's loss; NULL: this kind has none */
    const int32_t *code;           /* [n]; the quantizer's, until the next apply */
} pith_vq_result;

/** Free it before its tape.  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_vq_new(pith_tape *tape, const pith_vq_options *options, pith_vq **vq);
void pith_vq_free(pith_vq *vq); /* NULL is allowed */
/** RESEED: ten rounds of k-means over z [n, dim] from n_codes of its rows; n >= n_codes.  Others: nothing. */
pith_status pith_vq_start(pith_vq *vq, const float *z, size_t n);
/** z [n, dim].  @return the tape's failure, PITH_E_MEMORY */
pith_status pith_vq_apply(pith_vq *vq, pith_var *z, pith_vq_result *result);
/** After the optimizer's step, when the apply before it was recorded. */
pith_status pith_vq_update(pith_vq *vq);

size_t pith_vq_n_codes(const pith_vq *vq); /* FSQ: the product of its levels, near what was asked for */
size_t pith_vq_dim(const pith_vq *vq);
/** Bytes that a decoder needs to make q from codes: the codes, or what they are made from (LINEAR: the seed and W). */
size_t pith_vq_bytes(const pith_vq *vq);
/** LINEAR: q [n, dim] of codes, from the seed and W [dim, dim] alone, as a decoder makes it that was sent nothing else.
 *  @return PITH_E_ARGUMENT (a code that is not below n_codes), PITH_E_MEMORY */
pith_status pith_vq_decode_linear(pith_ctx *ctx, uint64_t seed, size_t n_codes, size_t dim, const float *w, const int32_t *code, size_t n, float *dst);
/** LINEAR: W [dim, dim]. */
const float *pith_vq_weight(const pith_vq *vq);

#endif
