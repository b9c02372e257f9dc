/* Diffusion: how data is noised, what a network is asked for, and what its answer says of the data and of the noise.
 *
 * At level t data z and noise e of variance 1 are mixed to x = signal z + noise e.  A network is given x, scaled, and
 * the time; its answer y stands for a mixture of z and e too, so that both follow from x and y by two numbers each
 * (pith_level).  Three ways to count levels:
 *
 *     STEPS   t = 0, 1 … n_levels - 1, less than 0: clean.  signal = sqrt(a_t), noise = sqrt(1 - a_t), with a_t the product of
 *             1 - beta and sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012): latent diffusion (arXiv:2112.10752).  y is e
 *             (Ho et al., arXiv:2006.11239), v = signal e - noise z (Salimans, Ho, arXiv:2202.00512), or z
 *     EDM     t is the noise's standard deviation, 0: clean.  signal = 1 (Karras et al., arXiv:2206.00364)
 *     FLOW    t in 0..1, 0: clean.  signal = 1 - t, noise = t, y is e - z (Liu et al., arXiv:2209.03003; the draw of t is that
 *             of Esser et al., arXiv:2403.03206)
 *
 *     pith_diffusion *d;
 *     pith_diffusion_options o = pith_diffusion_usual(PITH_DIFFUSION_STEPS);
 *     PITH_TRY(pith_diffusion_new(ctx, &o, &d));
 *     ...
 *     pith_var *loss = pith_diffusion_loss(d, z, &(pith_denoiser){denoise, net});   // in a training step
 *
 * Errors.  As with the operations of the tape: NULL, and the sentence is the tape's. */
#ifndef PITH_DIFFUSE_H
#define PITH_DIFFUSE_H

#include "grad/grad.h"

typedef enum pith_diffusion_kind { PITH_DIFFUSION_STEPS, PITH_DIFFUSION_EDM, PITH_DIFFUSION_FLOW } pith_diffusion_kind;
typedef enum pith_diffusion_target { PITH_TARGET_NOISE, PITH_TARGET_VELOCITY, PITH_TARGET_DATA } pith_diffusion_target;

typedef struct pith_diffusion_options {
    pith_diffusion_kind kind;
    /* STEPS */
    pith_diffusion_target target;
    size_t n_levels;
    bool zero_snr;                /* the last level is noise alone (Lin et al., arXiv:2305.08891); not with PITH_TARGET_NOISE */
    /* EDM */
    double data_std;              /* standard deviation of the data */
    double noise_min, noise_max;  /* levels at which sampling ends, before 0, and begins */
    /* EDM: ln t, FLOW: ln(t / (1 - t)), as training draws it: normal */
    double draw_mean, draw_std;
} pith_diffusion_options;
/** STEPS: 1,000 levels, noise.  EDM: data of 0.5, levels 0.002..80, -1.2 and 1.2.  FLOW: 0 and 1. */
pith_diffusion_options pith_diffusion_usual(pith_diffusion_kind kind);

typedef struct pith_diffusion pith_diffusion;
/** @return PITH_E_ARGUMENT (options that do not fit each other), PITH_E_MEMORY.  Free it before its context. */
pith_status pith_diffusion_new(pith_ctx *ctx, const pith_diffusion_options *options, pith_diffusion **diffusion);
void pith_diffusion_free(pith_diffusion *diffusion); /* NULL is allowed */
const pith_diffusion_options *pith_diffusion_settings(const pith_diffusion *diffusion);

/* One level, as numbers. */
typedef struct pith_level {
    double signal, noise;         /* x = signal z + noise e */
    double input;                 /* the network sees input x */
    double y_of_z, y_of_e;        /* its answer should be y = y_of_z z + y_of_e e */
    double z_of_x, z_of_y;        /* z = z_of_x x + z_of_y y: what x and the answer say of the data … */
    double e_of_x, e_of_y;        /* … and of the noise */
    float time;                   /* what the network is told: STEPS t, EDM 250 ln t (a thousand times the paper's), FLOW 1,000 t:
                                     all of the size that pith's networks are made for */
} pith_level;
/** t as the kind counts it; STEPS is rounded, and beyond the ends t is the end.  Clean data asked for PITH_TARGET_DATA says
 *  nothing of the noise: e is taken as 0. */
pith_level pith_diffusion_level(const pith_diffusion *diffusion, double t);
/** Standard deviation of x where sampling begins. */
double pith_diffusion_prior(const pith_diffusion *diffusion);
/** Level i of n steps of sampling, i = 0..n: from the noisiest to clean.  STEPS: evenly, the last level first
 *  ("trailing" in arXiv:2305.08891).  EDM: the seventh roots evenly, then 0.  FLOW: evenly. */
double pith_diffusion_step(const pith_diffusion *diffusion, size_t n, size_t i);

/* ---- networks --------------------------------------------------------------------------------- */

/* A network that removes noise: x [n, ..] as scaled, time [n] -> y, of x's shape.  conditional: told what is wanted (a text, a
 * class); else not, which only guidance asks for.  It may run several times in a step of the tape. */
typedef struct pith_denoiser {
    pith_var *(*run)(void *user, pith_var *x, const float *time, bool conditional);
    void *user;
} pith_denoiser;

/** signal z + noise e, each of the n items of z [n, ..] at its own level t [n]; e of z's shape. */
pith_var *pith_diffusion_mix(const pith_diffusion *diffusion, pith_var *z, pith_var *e, const double *t);
/** What the network says of x [n, ..] at levels t [n]: data and noise, of x's shape; either may be NULL.
 *  guidance  w: answers are y_u + w (y_c - y_u) of the unconditional and the conditional one (Ho, Salimans,
 *            arXiv:2207.12598); 1 and 0 ask for one of them only
 *  @return false: failed */
bool pith_diffusion_estimate(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *x, const double *t, double guidance, pith_var **z, pith_var **e);

/** Mean square of the difference between the network's answer and what it should be, for z [n, ..] with noise e at levels t
 *  [n].  For EDM this is the paper's weighted loss: weight and scale of the answer cancel. */
pith_var *pith_diffusion_loss_at(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *z, pith_var *e, const double *t);
/** The same with noise and levels drawn from the tape, STEPS: evenly. */
pith_var *pith_diffusion_loss(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *z);
/** The level that number u in 0..1 stands for when training draws: its quantile. */
double pith_diffusion_quantile(const pith_diffusion *diffusion, double u);

#endif
