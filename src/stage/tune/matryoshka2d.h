/* Two-dimensional Matryoshka (Li et al., arXiv:2402.14776): an encoder learns to be good at every depth and with every
 * prefix of its embedding, by drawing one layer and one size for each step. */
#ifndef PITH_MATRYOSHKA2D_H
#define PITH_MATRYOSHKA2D_H

#include "grad/grad.h"

typedef struct pith_matryoshka2d {
    size_t n_layers;               /* 2 or more */
    const size_t *sizes;           /* [n_sizes] values of an embedding that are tried, 1 .. the whole */
    size_t n_sizes;
    bool no_layers, no_sizes;      /* only the last layer; only whole embeddings: what is left is Matryoshka in one dimension, or
                                      ordinary tuning */
    bool no_alignment;             /* without the term that draws the shallow embedding to the last one */
    float temperature;             /* of the contrastive loss */
    float softness;                /* temperature of the alignment */
} pith_matryoshka2d;

typedef struct pith_matryoshka2d_draw {
    size_t layer;                  /* 1 .. n_layers - 1: so many layers */
    size_t size;
} pith_matryoshka2d_draw;
/** The layer and the size of a step: a function of (seed, step). */
pith_matryoshka2d_draw pith_matryoshka2d_choose(const pith_matryoshka2d *options, uint64_t seed, uint64_t step);
/** a[i], b[i] [n, d]: embeddings of n pairs after i + 1 layers, [n_layers] of each; only the last and the drawn one are
 *  used.  Sum of contrastive losses at (last, whole), (last, size), (layer, whole), (layer, size), and of KL(softmax(last /
 *  softness) || softmax(layer / softness)) over coordinates of a and of b, at both sizes, without gradient to the last. */
pith_var *pith_matryoshka2d_loss(pith_var *const *a, pith_var *const *b, const pith_matryoshka2d *options, pith_matryoshka2d_draw draw);

#endif
