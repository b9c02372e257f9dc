/* What beds of images share. */
#include "recipe/scenes.h"

#include <math.h>

enum { SHAPE, COLOUR, SIZE, CELL, OF_OBJECT }; /* columns of an object */

/* ---- attributes ------------------------------------------------------------------------------- */

const size_t pith_scene_classes[PITH_SCENE_ATTRIBUTES] = {6, 8, 3, 9, 6, 8, 3, 9, 6};

void pith_scene_order(const int32_t *label, int32_t *ordered)
{
    bool swap = label[OF_OBJECT + CELL] >= 0 && label[OF_OBJECT + CELL] < label[CELL];
    for (size_t i = 0; i < OF_OBJECT; i++) {
        ordered[i] = label[swap ? OF_OBJECT + i : i];
        ordered[OF_OBJECT + i] = label[swap ? i : OF_OBJECT + i];
    }
    ordered[2 * OF_OBJECT] = label[2 * OF_OBJECT];
}

void pith_scene_judge(const float *logits, const int32_t *ordered, bool *right)
{
    for (size_t a = 0; a < PITH_SCENE_ATTRIBUTES; logits += pith_scene_classes[a++]) {
        right[a] = ordered[a] >= 0 && (size_t)ordered[a] == pith_argmax(logits, pith_scene_classes[a]);
    }
}

/* ---- data ------------------------------------------------------------------------------------- */

pith_status pith_images_open(pith_run *run, const pith_names *names, bool training, size_t n, pith_images *images)
{
    pith_dataset_options o = {.n = n};
    pith_loader_options lo = {.batch = run->card->train.batch, .seed = run->seed, .input = "image", .shuffle = training, .once = !training};
    for (size_t c = 0; c < PITH_COUNT(lo.mean); c++) lo.mean[c] = lo.std[c] = 0.5f;
    PITH_TRY(pith_run_data(run, names, training ? "train" : "test", &o, &images->ds));
    const pith_field *image = pith_dataset_field(images->ds, "image");
    if (!image || image->type != PITH_FIELD_U8 || image->n_dims != 3)
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has no images; name another in the card's settings", images->ds->name);
    memcpy(images->dims, image->dims, sizeof images->dims);
    return pith_loader_new(run->ctx, images->ds, &lo, &images->loader);
}

void pith_images_close(pith_images *images)
{
    pith_loader_free(images->loader);
    pith_dataset_free(images->ds);
    *images = (pith_images){0};
}

pith_var *pith_images_batch(pith_images *images, pith_tape *tape, uint64_t step, pith_batch *batch, pith_status *status)
{
    pith_batch own;
    pith_batch *b = batch ? batch : &own;
    *status = pith_loader_batch(images->loader, step, b);
    return *status == PITH_OK ? pith_tape_input(tape, b->x, PITH_DIMS(b->n, images->dims[0], images->dims[1], images->dims[2])) : NULL;
}

pith_var *pith_images_range(const pith_images *images, pith_tape *tape, size_t from, size_t n)
{
    const pith_field *image = pith_dataset_field(images->ds, "image");
    const uint8_t *bytes = pith_field_item(image, from);
    float *pixels = pith_op_attr(tape, n * image->n_values, sizeof *pixels);
    for (size_t i = 0; pixels && i < n * image->n_values; i++) pixels[i] = (float)bytes[i] / 127.5f - 1;
    return pixels ? pith_tape_input(tape, pixels, PITH_DIMS(n, images->dims[0], images->dims[1], images->dims[2])) : NULL;
}

pith_status pith_images_field(pith_run *run, const pith_images *images, const char *name, const pith_field **field)
{
    *field = pith_dataset_field(images->ds, name);
    if (*field && (*field)->type == PITH_FIELD_I32 && (*field)->n_dims == 1) return PITH_OK;
    return pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has no field '%s' of numbers; use scenes32", images->ds->name, name);
}

pith_status pith_images_are_scenes(pith_run *run, const pith_images *images)
{
    const pith_field *label;
    PITH_TRY(pith_images_field(run, images, "label", &label));
    bool fit = label->n_values == PITH_SCENE_ATTRIBUTES;
    for (size_t i = 0; fit && i < images->ds->n; i++) {
        const int32_t *row = pith_field_item(label, i);
        for (size_t a = 0; a < PITH_SCENE_ATTRIBUTES; a++) fit = fit && row[a] >= -1 && (row[a] < 0 || (size_t)row[a] < pith_scene_classes[a]);
    }
    return fit ? PITH_OK : pith_fail(run->ctx, PITH_E_ARGUMENT, "the labels of the data set %s are not those of two objects and a background; use scenes32", images->ds->name);
}

/* ---- autoencoders ----------------------------------------------------------------------------- */

bool pith_vae_posterior(pith_net *vae, pith_var *x, pith_var **mean, pith_var **log_variance)
{
    pith_var *moments = pith_net_run(vae, &(pith_net_input){.part = PITH_NET_ENCODE, .x = x});
    if (!moments) return false;
    size_t n = moments->dims[1] / 2;
    *mean = pith_var_slice(moments, 1, 0, n);
    *log_variance = pith_var_clamp(pith_var_slice(moments, 1, n, n), -30, 20);
    return *mean && *log_variance;
}

pith_status pith_latents_open(pith_run *run, const char *id, pith_tape *tape, pith_latents *latents)
{
    PITH_TRY(pith_bed_open(run, id, &latents->bed));
    PITH_TRY(pith_bed_value(latents->bed, "bed", "scale", &latents->scale));
    PITH_TRY(pith_bed_net(latents->bed, tape, &latents->vae));
    if (strcmp(pith_net_kind_name(latents->vae), "vae") != 0 || !(latents->scale > 0))
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "the bed '%s' is no autoencoder with a scale of its latents", id);
    pith_net_freeze(latents->vae, true);
    return PITH_OK;
}

void pith_latents_close(pith_latents *latents)
{
    pith_net_free(latents->vae);
    pith_bed_close(latents->bed);
    *latents = (pith_latents){0};
}

bool pith_latents_encode(const pith_latents *latents, pith_var *x, pith_var **mean, pith_var **deviation)
{
    pith_var *log_variance;
    if (!pith_vae_posterior(latents->vae, x, mean, &log_variance)) return false;
    *mean = pith_var_scale(*mean, (float)latents->scale);
    *deviation = pith_var_scale(pith_var_exp(pith_var_scale(log_variance, 0.5f)), (float)latents->scale);
    return *mean && *deviation;
}

pith_var *pith_latents_decode(const pith_latents *latents, pith_var *z)
{
    return pith_var_clamp(pith_net_run(latents->vae, &(pith_net_input){.part = PITH_NET_DECODE, .x = pith_var_scale(z, (float)(1 / latents->scale))}), -1, 1);
}
