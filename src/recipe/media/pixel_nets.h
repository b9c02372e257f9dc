/* Networks that know how likely an image is: an autoregressive CNN that codes and a variational autoencoder with its bound, to
 * hold other coders against, and a flow, whose latents others code.  Images are grey, [n, height, width]. */
#ifndef PITH_PIXEL_NETS_H
#define PITH_PIXEL_NETS_H

#include "recipe/train_card.h"

typedef struct pith_pixels {
    const uint8_t *train, *test;   /* [n_train, height, width], [n_test, ..] */
    size_t n_train, n_test, height, width;
} pith_pixels;

/* What was measured on test images. */
typedef struct pith_pixel_figures {
    double ideal;                  /* bits a value: -log2 p, or the bound */
    double bits;                   /* bits a value of a file of the first n_coded images; 0: not coded */
    double encode_s, decode_s;     /* an image */
    bool same;                     /* decoded = coded */
    double parameters, learn_s;
} pith_pixel_figures;

/** PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu, arXiv:1601.06759): a 7x7 convolution that sees the pixels before, blocks of
 *  masked 3x3 convolutions with shortcuts, 256 logits a pixel; trained by the run's card.  The first n_coded test images are
 *  coded side by side by the range coder: one pass to write, one for each pixel to read. */
pith_status pith_pixel_cnn(pith_run *run, const pith_pixels *pixels, size_t width, size_t n_blocks, size_t n_coded, pith_pixel_figures *figures);
/** A `vae` network whose decoder gives each pixel's mean and scale of a logistic distribution cut into 256 steps (Salimans et al.,
 *  arXiv:1701.05517); the bound is of one draw an image. */
pith_status pith_pixel_vae(pith_run *run, const pith_pixels *pixels, const char *settings, pith_pixel_figures *figures);

/** A flow of integers (Hoogeboom et al., arXiv:1905.07376): pixels by fours as channels, of which two are changed by the
 *  rounded answer of a network that sees the other two, in turn, modulo 256.  Trained by the run's card under a logistic
 *  distribution of each latent; ideal: bits a value under that.  same: the test images come back from their latents.
 *  @param train, test  the images' latents, as many bytes; the caller's, pith_free
 *  @return PITH_E_ARGUMENT: a side of odd length */
pith_status pith_pixel_flow(pith_run *run, const pith_pixels *pixels, size_t width, uint8_t **train, uint8_t **test, pith_pixel_figures *figures);

#endif
