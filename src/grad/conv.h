/* What a convolution is, for the files that compute it. */
#ifndef PITH_GRAD_CONV_H
#define PITH_GRAD_CONV_H

#include "grad/tape.h"

#define MAX_SPACE 3

typedef struct conv_attr {
    int n_space;
    size_t n, groups, c_in, c_out;               /* c_in, c_out: of a group */
    size_t x[MAX_SPACE], w[MAX_SPACE], y[MAX_SPACE]; /* [depth, height, width]; 1 where there are fewer */
    size_t stride[MAX_SPACE], padding[MAX_SPACE], dilation[MAX_SPACE];
} conv_attr;

/* ---- over one or two dimensions (conv_direct.c, conv_positions.c) ------------------------------- */

enum { H = 1, W = 2 };
static inline size_t plane_of(const size_t *dims) { return dims[H] * dims[W]; }
static inline size_t padded16(size_t n) { return PITH_ROUND_UP(n, (size_t)16); }
/** How much further on the kernel's last place is than its first. */
static inline size_t reach(const conv_attr *a, int d) { return (a->w[d] - 1) * a->dilation[d]; }

/** Of stride 1: the gradient by the input is this convolution of the gradient by the result, which is padded by what the
 *  kernel reaches beyond, with the kernel turned round. */
static inline conv_attr conv_back(const conv_attr *a)
{
    conv_attr back = *a;
    back.c_in = a->c_out;
    back.c_out = a->c_in;
    for (int d = H; d <= W; d++) {
        back.x[d] = a->y[d];
        back.y[d] = a->x[d];
        back.padding[d] = reach(a, d) - a->padding[d];
    }
    return back;
}

/* In all of these: x [n, c_in, x..], w [c_out, c_in, w..], y or its gradient g [n, c_out, y..]; what is computed is the last
 * argument.  @return false: no memory, the tape's failure is set */

/** Convolutions over one or two dimensions in one group, unless more positions would be left out than there are, or strides
 *  are long: no columns are laid out, the product reads shifted rows of the padded input where they are.  Whether a
 *  convolution is of that kind depends on its shape alone. */
bool pith_conv_is_direct(const conv_attr *a);
bool pith_conv_direct(pith_tape *tape, const conv_attr *a, const float *x, const float *w, float *y);
bool pith_conv_direct_by_input(pith_tape *tape, const conv_attr *a, const float *g, const float *w, float *x);
bool pith_conv_direct_by_weights(pith_tape *tape, const conv_attr *a, const float *x, const float *g, float *w);

/** Positions that such a product takes for an image, those that are left out with them. */
size_t pith_conv_direct_positions(const conv_attr *a);

/** Those of them with small planes and many channels, where too many positions would be left out; by_input: of stride 1. */
bool pith_conv_is_by_positions(const conv_attr *a);
bool pith_conv_by_positions(pith_tape *tape, const conv_attr *a, const float *x, const float *w, float *y);
bool pith_conv_by_positions_by_input(pith_tape *tape, const conv_attr *a, const float *g, const float *w, float *x);
bool pith_conv_by_positions_by_weights(pith_tape *tape, const conv_attr *a, const float *x, const float *g, float *w);

/* Their gradients by the weights are sums over groups of images, which are tasks, then over the groups in order. */
#define CONV_STEPS ((size_t)160)      /* positions that one product should sum over, about; else it takes some images together */
#define CONV_IMAGES ((size_t)8)       /* of a group, at least */
#define CONV_PARTS ((size_t)1 << 22)  /* values that the groups' sums may take together, about */
/** Images of a group whose sum has n_part values. */
static inline size_t conv_group(const conv_attr *a, size_t n_part)
{
    return PITH_MAX(CONV_IMAGES, PITH_CEIL_DIV(a->n, PITH_MAX(CONV_PARTS / n_part, (size_t)1)));
}

#endif
