/* What beds of images share: the attributes of the data set scenes32, and pictures by way of a trained autoencoder.  Images
 * of all these networks are in -1..1. */
#ifndef PITH_RECIPE_SCENES_H
#define PITH_RECIPE_SCENES_H

#include "recipe/run.h"

/* ---- attributes ------------------------------------------------------------------------------- */

/* Of two objects shape, colour, size and cell, then the background. */
#define PITH_SCENE_ATTRIBUTES 9
#define PITH_SCENE_LOGITS 58
extern const size_t pith_scene_classes[PITH_SCENE_ATTRIBUTES];

/** The labels of an image with its objects in reading order, by their cells, which a picture shows; the order in which they
 *  were drawn it does not.  -1: there is no such object. */
void pith_scene_order(const int32_t *label, int32_t *ordered);
/** Whether logits [PITH_SCENE_LOGITS] are largest where the labels are.  false where there is no object. */
void pith_scene_judge(const float *logits, const int32_t *ordered, bool *right);

/* ---- data ------------------------------------------------------------------------------------- */

/* A split of images, and batches of it.  Zero it before. */
typedef struct pith_images {
    pith_dataset *ds;
    pith_loader *loader;
    size_t dims[3];               /* channels, height, width */
} pith_images;
/** @param training  shuffled without end; else as stored, once
 *  @return PITH_E_ARGUMENT: no images; what pith_run_data returns.  Close it also after an error. */
pith_status pith_images_open(pith_run *run, const pith_names *names, bool training, size_t n, pith_images *images);
void pith_images_close(pith_images *images);
/** A batch on the tape, in -1..1; NULL: failed, and status has it.  batch may be NULL. */
pith_var *pith_images_batch(pith_images *images, pith_tape *tape, uint64_t step, pith_batch *batch, pith_status *status);
/** Images from..from+n-1 as they are stored, on the tape in -1..1, until the step ends.  NULL: failed, and the tape has it. */
pith_var *pith_images_range(const pith_images *images, pith_tape *tape, size_t from, size_t n);
/** PITH_E_ARGUMENT unless the labels are those of scenes32. */
pith_status pith_images_are_scenes(pith_run *run, const pith_images *images);
/** The field of this name when it is i32 [.., n_values]; else PITH_E_ARGUMENT. */
pith_status pith_images_field(pith_run *run, const pith_images *images, const char *name, const pith_field **field);

/* ---- autoencoders ----------------------------------------------------------------------------- */

/** Mean and log-variance of latents, each [n, latent, ..]; the log-variance is held in -30..20.  false: failed. */
bool pith_vae_posterior(pith_net *vae, pith_var *x, pith_var **mean, pith_var **log_variance);

/* A trained autoencoder, whose latents are scaled to a standard deviation of 1. */
typedef struct pith_latents {
    pith_bed *bed;
    pith_net *vae;
    double scale;                 /* what its own latents are multiplied by; bed.scale of its bed */
} pith_latents;
/** The bed `id` with its network on the tape.  Zero it before; close it also after an error, before the tape. */
pith_status pith_latents_open(pith_run *run, const char *id, pith_tape *tape, pith_latents *latents);
void pith_latents_close(pith_latents *latents);
/** Images -> mean and standard deviation of their latents.  false: failed. */
bool pith_latents_encode(const pith_latents *latents, pith_var *x, pith_var **mean, pith_var **deviation);
/** Latents -> images, cut to -1..1. */
pith_var *pith_latents_decode(const pith_latents *latents, pith_var *z);

#endif
