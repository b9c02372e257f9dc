/* Sampling from a diffusion, and the way back: from noise to data along levels, or from data to the noise that it comes
 * from.
 *
 * A step from level t to s takes what the network says of data z and noise e at t, and mixes them as s does: DDIM (Song,
 * Meng, Ermon, arXiv:2010.02502) for STEPS, Euler's method for EDM and FLOW.  It is x' = x + d(signal) z + d(noise) e, and
 * with heun z and e are the means of what is said at t and, after a first try, at s (arXiv:2206.00364); the step to clean
 * data stays Euler's.  (The last level of STEPS is not near to clean: there Heun's method halves DDIM's error, and no more.)
 *
 * While the tape records nothing, memory is that of one step, but for a few numbers a step, until the tape's step ends; what
 * was made before the walk stays, what a hook made does not.  While it records, all can be differentiated. */
#ifndef PITH_SAMPLE_LATENT_H
#define PITH_SAMPLE_LATENT_H

#include "stream/latent/diffuse.h"

/* What is known after a step, of which x goes on. */
typedef struct pith_sample_step {
    size_t i, n;                  /* step i of n */
    double from, to;              /* levels */
    pith_var *x;                  /* at `to` */
    pith_var *z, *e;              /* what the network said at `from` */
} pith_sample_step;

typedef struct pith_sampling {
    size_t n_steps;
    double guidance;              /* as in pith_diffusion_estimate: 1: the condition alone */
    double eta;                   /* share of noise that is drawn again, 0..1; 0: none, the way depends on its start alone.  At 1 STEPS are
                                     DDPM's.  Not with heun */
    bool heun;
    const double *levels;         /* [n_steps + 1], falling or rising; NULL: pith_diffusion_step's */
    /* After each step: x to go on with: step->x, or a value of its shape (edited, blended by a mask with known data mixed
     * to the level).  NULL fails.  run NULL: none. */
    pith_var *(*hook)(void *user, const pith_sample_step *step);
    void *user;
} pith_sampling;

/** x [n, ..] at levels[0] -> at levels[n_steps]; levels NULL: from the noisiest to clean, x of pith_diffusion_prior.
 *  NULL: failed; PITH_E_ARGUMENT of options that do not fit. */
pith_var *pith_diffusion_walk(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *x, const pith_sampling *o);
/** noise [n, ..] of variance 1 -> data.  o->levels is not used. */
pith_var *pith_diffusion_sample(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *noise, const pith_sampling *o);
/** Data -> the noise of which pith_diffusion_sample with the same options makes it, up to the steps' error.  eta must be 0;
 *  o->levels is not used.  Not for PITH_TARGET_DATA, which says nothing of the noise in clean data. */
pith_var *pith_diffusion_invert(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *z, const pith_sampling *o);

#endif
