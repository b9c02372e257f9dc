/* Beds that code images: a variational autoencoder whose loss is L1, a perceptual distance, a little KL, and in the last part
 * of training what a critic of patches says (Rombach et al., arXiv:2112.10752; Esser et al., arXiv:2012.09841).  Its latents
 * are to be multiplied by bed.scale. */
#include <math.h>

#include "eval/perceptual.h"
#include "recipe/scenes.h"
#include "recipe/train_card.h"

#define MOST_CRITIC_WEIGHT 1e4        /* as in the paper's code */

typedef struct settings {
    const char *net, *net_settings, *critic, *critic_settings, *classifier, *last_layer;
    pith_names images;
    uint64_t n_images, n_test, evaluations;
    double perceptual, kl, critic_weight, critic_from;
} settings;

static const pith_key keys[] = {
    {"net", PITH_KEY_TEXT, offsetof(settings, net), .required = true, .help = "a network of kind vae: vae32"},
    {"net_settings", PITH_KEY_TEXT, offsetof(settings, net_settings), .help = "JSON object of settings that differ; channels come from the data"},
    {"last_layer", PITH_KEY_TEXT, offsetof(settings, last_layer), .required = true, .help = "parameter by whose gradients the critic is weighed"},
    {"critic", PITH_KEY_TEXT, offsetof(settings, critic), .required = true, .help = "a network of kind patchgan: patchgan32"},
    {"critic_settings", PITH_KEY_TEXT, offsetof(settings, critic_settings), .help = "JSON object of settings that differ"},
    {"classifier", PITH_KEY_TEXT, offsetof(settings, classifier), .required = true, .help = "bed whose features the perceptual distance is of"},
    {"images", PITH_KEY_NAMES, offsetof(settings, images), .required = true, .help = "data sets of images; the first that is there is used"},
    {"n_images", PITH_KEY_COUNT, offsetof(settings, n_images), .required = true, .min = 1, .max = 1e7, .help = "to train on"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 2, .max = 1e7, .help = "to measure on"},
    {"evaluations", PITH_KEY_COUNT, offsetof(settings, evaluations), .required = true, .min = 1, .max = 1000, .help = "while it trains"},
    {"perceptual", PITH_KEY_NUMBER, offsetof(settings, perceptual), .required = true, .min = 0, .max = 1e3, .help = "weight of the perceptual distance; L1, the mean over pixels, has 1"},
    {"kl", PITH_KEY_NUMBER, offsetof(settings, kl), .required = true, .min = 0, .max = 1e3, .help = "weight of the KL divergence, nats an image"},
    {"critic_weight", PITH_KEY_NUMBER, offsetof(settings, critic_weight), .required = true, .min = 0, .max = 1e3, .help = "of the critic, whose gradient at the last layer is first made as long as the other's"},
    {"critic_from", PITH_KEY_NUMBER, offsetof(settings, critic_from), .required = true, .min = 0, .max = 1, .help = "share of the steps after which the critic counts; 1: never"},
    {0},
};

typedef struct bed {
    pith_run *run;
    const settings *s;
    pith_images train, test;
    pith_tape *tape;
    pith_bed *classifier_bed;
    pith_net *classifier, *vae, *critic;
    pith_var *last;
    uint64_t critic_step;         /* the first one that counts */
} bed;

/* ---- losses ----------------------------------------------------------------------------------- */

static pith_var *decode(const bed *b, pith_var *z) { return pith_net_run(b->vae, &(pith_net_input){.part = PITH_NET_DECODE, .x = z}); }

/* KL of the posterior from the standard normal distribution, nats an image. */
static pith_var *divergence(pith_var *mean, pith_var *log_variance)
{
    pith_var *twice = pith_var_sub(pith_var_add(pith_var_square(mean), pith_var_exp(log_variance)), pith_var_affine(log_variance, 1, 1));
    return twice ? pith_var_scale(pith_var_sum(twice, PITH_ALL_AXES), 0.5f / (float)twice->dims[0]) : NULL;
}

/* Length of the gradient of y at the last layer; less than 0: failed. */
static double length_at_last(const bed *b, pith_var *y)
{
    pith_var *g;
    double sum = 0;
    if (!y || pith_gradients(b->tape, y, NULL, &b->last, 1, PITH_KEEP_GRAPH, &g) != PITH_OK) return -1;
    for (size_t i = 0; i < g->count; i++) sum += (double)g->data[i] * (double)g->data[i];
    return sqrt(sum);
}

static pith_var *batch_of(bed *b, pith_train_at *at) { return pith_images_batch(&b->train, b->tape, at->step * at->n_parts + at->part, NULL, &at->status); }

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    bed *b = user;
    pith_var *x = batch_of(b, at), *mean, *log_variance;
    if (!x || !pith_vae_posterior(b->vae, x, &mean, &log_variance)) return NULL;
    pith_var *y = decode(b, pith_var_draw_normal(mean, log_variance));
    pith_var *pd = pith_train_term(at, "pd", pith_perceptual_distance(b->classifier, y, x));
    pith_var *rec = pith_var_add(pith_train_term(at, "l1", pith_var_l1(y, x)), pith_var_scale(pd, (float)b->s->perceptual));
    pith_var *kl = pith_train_term(at, "kl", divergence(mean, log_variance)), *sum = pith_var_add(rec, pith_var_scale(kl, (float)b->s->kl));
    if (at->step < b->critic_step) return sum;
    pith_var *fault = pith_var_neg(pith_var_mean(pith_net_forward(b->critic, y), PITH_ALL_AXES));
    double of_rec = length_at_last(b, rec), of_fault = length_at_last(b, fault);
    if (of_rec < 0 || of_fault < 0) return NULL;
    double weight = b->s->critic_weight * PITH_MIN(of_rec / (of_fault + 1e-4), MOST_CRITIC_WEIGHT);
    pith_train_note(at, "critic_weight", weight);
    return pith_var_add(sum, pith_var_scale(fault, (float)weight));
}

static pith_var *hinge(pith_var *judged, float wanted)
{
    return judged ? pith_var_hinge(judged, pith_tape_fill(judged->tape, wanted, judged->n_dims, judged->dims)) : NULL;
}

/* The critic tells images from what the autoencoder makes of them. */
static pith_var *critic_loss(void *user, pith_tape *tape, pith_train_at *at)
{
    bed *b = user;
    pith_var *x = batch_of(b, at), *y = NULL, *mean, *log_variance;
    bool recorded = pith_tape_record(tape, false);
    if (x && pith_vae_posterior(b->vae, x, &mean, &log_variance)) y = decode(b, pith_var_draw_normal(mean, log_variance));
    pith_tape_record(tape, recorded);
    if (!y) return NULL;
    return pith_var_scale(pith_var_add(hinge(pith_net_forward(b->critic, x), 1), hinge(pith_net_forward(b->critic, y), -1)), 0.5f);
}

static bool is_of_vae(void *user, const pith_var *param) { return pith_net_owns(((bed *)user)->vae, param); }
static bool is_of_critic(void *user, const pith_var *param) { return pith_net_owns(((bed *)user)->critic, param); }

/* ---- measuring -------------------------------------------------------------------------------- */

typedef struct figures {
    double psnr, pd, kl, fd;
} figures;

/* One test batch by way of its mean latents: sums over images into f, features into the moments (or NULL). */
static pith_status measure_batch(bed *b, uint64_t step, figures *f, double *square, pith_moments *real, pith_moments *made)
{
    pith_status status;
    pith_var *x = pith_images_batch(&b->test, b->tape, step, NULL, &status), *mean, *log_variance;
    PITH_TRY(status);
    if (!x || !pith_vae_posterior(b->vae, x, &mean, &log_variance)) return pith_tape_status(b->tape);
    pith_var *y = pith_var_clamp(decode(b, mean), -1, 1);
    pith_var *kl = divergence(mean, log_variance), *mse = pith_var_mse(y, x), *pd = pith_perceptual_distance(b->classifier, y, x);
    if (!kl || !mse || !pd) return pith_tape_status(b->tape);
    double n = (double)x->dims[0];
    *square += n * (double)mse->data[0];
    f->kl += n * (double)kl->data[0];
    f->pd += n * (double)pd->data[0];
    if (real) PITH_TRY(pith_features_add(b->classifier, x, real));
    return made ? pith_features_add(b->classifier, y, made) : PITH_OK;
}

static pith_status measure(bed *b, figures *f, pith_moments *real, pith_moments *made)
{
    double square = 0, n = (double)b->test.ds->n;
    *f = (figures){0};
    for (uint64_t step = 0; step < pith_loader_steps(b->test.loader); step++) {
        pith_scope scope = pith_scope_begin(b->tape);
        PITH_TRY(measure_batch(b, step, f, &square, real, made));
        pith_scope_end(b->tape, scope, NULL, 0);
    }
    f->psnr = 10 * log10(4 / PITH_MAX(square / n, 1e-12)); /* images are in -1..1 */
    f->pd /= n;
    f->kl /= n;
    return PITH_OK;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    figures f;
    PITH_TRY(measure(user, &f, NULL, NULL));
    pith_train_note(at, "psnr", f.psnr);
    pith_train_note(at, "test_pd", f.pd);
    pith_train_note(at, "test_kl", f.kl);
    return PITH_OK;
}

static pith_status measure_all(bed *b, figures *f)
{
    pith_moments *real = NULL, *made = NULL;
    size_t n = pith_features_count(b->classifier);
    pith_status status = pith_moments_new(b->run->ctx, n, &real);
    if (status == PITH_OK) status = pith_moments_new(b->run->ctx, n, &made);
    if (status == PITH_OK) status = measure(b, f, real, made);
    if (status == PITH_OK) status = pith_frechet(real, made, &f->fd);
    pith_moments_free(made);
    pith_moments_free(real);
    return status;
}

/* One over the standard deviation of drawn latents, over as many training images as test images. */
static pith_status measure_scale(bed *b, double *scale)
{
    double sum = 0, square = 0, n = 0;
    for (uint64_t step = 0; step < pith_loader_steps(b->test.loader); step++) {
        pith_status status;
        pith_scope scope = pith_scope_begin(b->tape);
        pith_var *x = pith_images_batch(&b->train, b->tape, step, NULL, &status), *mean, *log_variance;
        PITH_TRY(status);
        if (!x || !pith_vae_posterior(b->vae, x, &mean, &log_variance)) return pith_tape_status(b->tape);
        for (size_t i = 0; i < mean->count; i++) {
            double m = (double)mean->data[i];
            sum += m;
            square += m * m + exp((double)log_variance->data[i]);
        }
        n += (double)mean->count;
        pith_scope_end(b->tape, scope, NULL, 0);
    }
    *scale = 1 / sqrt(PITH_MAX(square / n - sum / n * (sum / n), 1e-12));
    return PITH_OK;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static pith_status make_nets(bed *b)
{
    const settings *s = b->s;
    char usual[32];
    snprintf(usual, sizeof usual, "{\"channels\": %zu}", b->train.dims[0]);
    PITH_TRY(pith_bed_open(b->run, s->classifier, &b->classifier_bed));
    PITH_TRY(pith_bed_net(b->classifier_bed, b->tape, &b->classifier));
    pith_net_freeze(b->classifier, true);
    PITH_TRY(pith_run_net(b->run, b->tape, s->net, s->net_settings, usual, &b->vae));
    PITH_TRY(pith_run_net(b->run, b->tape, s->critic, s->critic_settings, usual, &b->critic));
    if ((b->last = pith_net_param(b->vae, s->last_layer))) return PITH_OK;
    return pith_fail(b->run->ctx, PITH_E_ARGUMENT, "%s: last_layer is '%s', which is no parameter of %s", b->run->card->file, s->last_layer, s->net);
}

static pith_status train(bed *b)
{
    pith_train_options o = pith_run_train_options(b->run);
    pith_train_role roles[2] = {pith_run_train_role(b->run), pith_run_train_role(b->run)};
    uint64_t identity[] = {o.identity, pith_dataset_hash(b->train.ds), pith_dataset_hash(b->test.ds)};
    b->critic_step = (uint64_t)(b->s->critic_from * (double)o.n_steps);
    o.identity = pith_hash(identity, sizeof identity);
    o.item_name = "images";
    o.evaluate = evaluate;
    o.user = b;
    roles[0].name = "vae";
    roles[0].loss = loss;
    roles[0].owns = is_of_vae;
    roles[1].name = "critic";
    roles[1].loss = critic_loss;
    roles[1].owns = is_of_critic;
    roles[1].first_step = b->critic_step;
    return pith_run_train(b->run, b->tape, &o, b->s->evaluations, roles, b->critic_step < o.n_steps ? 2 : 1, (pith_net *const[]){b->vae, b->critic}, 2, NULL);
}

static pith_status work(bed *b)
{
    figures f;
    double scale = 0;
    PITH_TRY(pith_images_open(b->run, &b->s->images, true, b->s->n_images, &b->train));
    PITH_TRY(pith_images_open(b->run, &b->s->images, false, b->s->n_test, &b->test));
    PITH_TRY(pith_tape_new(b->run->ctx, b->run->seed, &b->tape));
    PITH_TRY(make_nets(b));
    PITH_TRY(train(b));
    pith_tape_step(b->tape, 0);
    pith_tape_record(b->tape, false);
    PITH_TRY(measure_all(b, &f));
    PITH_TRY(measure_scale(b, &scale));
    PITH_TRY(pith_run_row(b->run, "bed", "psnr", f.psnr));
    PITH_TRY(pith_run_row(b->run, "bed", "pd", f.pd));
    PITH_TRY(pith_run_row(b->run, "bed", "kl", f.kl));
    PITH_TRY(pith_run_row(b->run, "bed", "fd", f.fd));
    PITH_TRY(pith_run_row(b->run, "bed", "scale", scale));
    PITH_TRY(pith_run_row(b->run, "bed", "parameters", (double)pith_net_n_values(b->vae)));
    return pith_run_keep(b->run, b->vae);
}

static pith_status run(pith_run *run)
{
    bed b = {.run = run, .s = run->card->settings};
    pith_status status = work(&b);
    pith_net_free(b.critic);
    pith_net_free(b.vae);
    pith_net_free(b.classifier);
    pith_bed_close(b.classifier_bed);
    pith_tape_free(b.tape);
    pith_images_close(&b.test);
    pith_images_close(&b.train);
    return status;
}

const pith_procedure pith_procedure_vae = {"vae", keys, sizeof(settings), run};
