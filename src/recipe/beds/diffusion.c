/* Beds that make pictures: a network that removes noise from an autoencoder's latents (Rombach et al., arXiv:2112.10752; Peebles,
 * Xie, arXiv:2212.09748), told the time and, where it reads texts, a caption, which is left out now and then so that it can
 * be guided (Ho, Salimans, arXiv:2207.12598). */
#include <math.h>

#include "eval/perceptual.h"
#include "format/json.h"
#include "recipe/scenes.h"
#include "recipe/train_card.h"
#include "stream/latent/sample.h"

typedef struct settings {
    const char *net, *net_settings, *latents, *classifier;
    pith_names images;
    uint64_t n_images, n_test, n_made, sample_steps, evaluations;
    double drop, guidance;
    int process, target;          /* pith_diffusion_kind, pith_diffusion_target */
    bool captions, heun;
} settings;

static const pith_key keys[] = {
    {"net", PITH_KEY_TEXT, offsetof(settings, net), .required = true, .help = "a network that denoises: ldm32, dit32"},
    {"net_settings", PITH_KEY_TEXT, offsetof(settings, net_settings), .help = "JSON object of settings that differ"},
    {"latents", PITH_KEY_TEXT, offsetof(settings, latents), .required = true, .help = "bed of the autoencoder"},
    {"classifier", PITH_KEY_TEXT, offsetof(settings, classifier), .required = true, .help = "bed that judges what is made"},
    {"images", PITH_KEY_NAMES, offsetof(settings, images), .required = true, .help = "data sets of images; the first that is there is used"},
    {"n_images", PITH_KEY_COUNT, offsetof(settings, n_images), .required = true, .min = 1, .max = 1e7, .help = "to train on; their latents are kept in memory"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 2, .max = 1e7, .help = "to measure on"},
    {"n_made", PITH_KEY_COUNT, offsetof(settings, n_made), .required = true, .min = 2, .max = 1e7, .help = "pictures that are made and compared with as many test images; at most n_test"},
    {"sample_steps", PITH_KEY_COUNT, offsetof(settings, sample_steps), .required = true, .min = 1, .max = 1000, .help = "in which each is made"},
    {"heun", PITH_KEY_FLAG, offsetof(settings, heun), .help = "they are made by Heun's method, else DDIM"},
    {"evaluations", PITH_KEY_COUNT, offsetof(settings, evaluations), .required = true, .min = 1, .max = 1000, .help = "while it trains"},
    {"captions", PITH_KEY_FLAG, offsetof(settings, captions), .help = "the network reads the images' captions"},
    {"drop", PITH_KEY_NUMBER, offsetof(settings, drop), .min = 0, .max = 1, .help = "share of captions that are left out in training"},
    {"guidance", PITH_KEY_NUMBER, offsetof(settings, guidance), .max = 100, .help = "with which pictures are made where there are captions; 1: none"},
    {"process", PITH_KEY_CHOICE, offsetof(settings, process), .choices = "steps|edm|flow", .help = "how levels of noise are counted; steps unless said"},
    {"target", PITH_KEY_CHOICE, offsetof(settings, target), .choices = "noise|velocity|data", .help = "what the network predicts (process steps); noise unless said"},
    {0},
};

#define NO_WORD 0                 /* ends a caption; alone it is no caption */

/* Means and standard deviations of a split's latents, [n, dims] each, and its captions. */
typedef struct split {
    pith_images images;
    float *mean, *deviation;
    const pith_field *words;      /* i32 [len]; NULL: none are read */
} split;

/* What is said of the items of one run of the network. */
typedef struct saying {
    const int32_t *ids;           /* [n, len]; NULL: nothing */
    size_t n;
} saying;

typedef struct bed {
    pith_run *run;
    const settings *s;
    split train, test;
    size_t dims[3], n_values;     /* of a latent */
    size_t n_words;               /* of a caption */
    pith_tape *tape;
    pith_bed *classifier_bed;
    pith_net *classifier, *net;
    pith_latents latents;
    pith_diffusion *diffusion;
    saying now;                   /* for `denoise` */
} bed;

/* ---- the network ------------------------------------------------------------------------------ */

static pith_var *denoise(void *user, pith_var *x, const float *time, bool conditional)
{
    bed *b = user;
    size_t n = x->dims[0], len = b->n_words;
    if (!b->s->captions) return pith_net_run(b->net, &(pith_net_input){.x = x, .t = time});
    int32_t *ids = pith_op_attr(b->tape, n * len, sizeof *ids), *n_tokens = pith_op_attr(b->tape, n, sizeof *n_tokens);
    if (!ids || !n_tokens) return NULL;
    for (size_t i = 0; i < n * len; i++) ids[i] = conditional ? b->now.ids[i] : NO_WORD;
    for (size_t i = 0; i < n; i++) {
        n_tokens[i] = 0;
        while ((size_t)n_tokens[i] < len && ids[i * len + (size_t)n_tokens[i]] != NO_WORD) n_tokens[i]++;
        n_tokens[i] = PITH_MAX(n_tokens[i], 1);
    }
    return pith_net_run(b->net, &(pith_net_input){.x = x, .t = time, .ids = ids, .n = n, .len = len, .n_tokens = n_tokens});
}

static pith_denoiser denoiser(bed *b) { return (pith_denoiser){denoise, b}; }

/* Captions of items of a split for `denoise`, each left out with probability `drop`.  false: failed. */
static bool say(bed *b, const split *set, const size_t *items, size_t n, double drop)
{
    if (!b->s->captions) return true;
    int32_t *ids = pith_op_attr(b->tape, n * b->n_words, sizeof *ids);
    pith_var *draw = drop > 0 ? pith_tape_uniform(b->tape, PITH_DIMS(n)) : NULL;
    if (!ids || (drop > 0 && !draw)) return false;
    for (size_t i = 0; i < n; i++) {
        const int32_t *words = pith_field_item(set->words, items[i]);
        bool dropped = draw && (double)draw->data[i] < drop;
        for (size_t k = 0; k < b->n_words; k++) ids[i * b->n_words + k] = dropped ? NO_WORD : words[k];
    }
    b->now = (saying){ids, n};
    return true;
}

/* ---- latents ---------------------------------------------------------------------------------- */

/* Every image through the autoencoder, once. */
static pith_status encode(bed *b, split *set, const char *what)
{
    pith_ctx *ctx = b->run->ctx;
    size_t n = set->images.ds->n, batch = b->run->card->train.batch;
    pith_status status = PITH_OK;
    for (size_t at = 0, some; at < n && status == PITH_OK; at += some) {
        pith_var *mean, *deviation;
        some = PITH_MIN(batch, n - at);
        pith_tape_step(b->tape, at);
        pith_tape_record(b->tape, false);
        if (!pith_latents_encode(&b->latents, pith_images_range(&set->images, b->tape, at, some), &mean, &deviation)) return pith_tape_status(b->tape);
        if (!set->mean) { /* now a latent's size is known */
            memcpy(b->dims, mean->dims + 1, sizeof b->dims);
            b->n_values = mean->count / some;
            set->mean = pith_array(ctx, n, b->n_values * sizeof *set->mean);
            set->deviation = pith_array(ctx, n, b->n_values * sizeof *set->deviation);
            if (!set->mean || !set->deviation) status = PITH_E_MEMORY;
        }
        if (status == PITH_OK) {
            memcpy(set->mean + at * b->n_values, mean->data, mean->count * sizeof *mean->data);
            memcpy(set->deviation + at * b->n_values, deviation->data, deviation->count * sizeof *deviation->data);
            status = pith_progress(ctx, what, at + some, n);
        }
    }
    return status;
}

/* Rows of a split's array for some items. */
static pith_var *rows(const bed *b, const float *from, const size_t *items, size_t n)
{
    float *to = pith_op_attr(b->tape, n * b->n_values, sizeof *to);
    if (!to) return NULL;
    for (size_t i = 0; i < n; i++) memcpy(to + i * b->n_values, from + items[i] * b->n_values, b->n_values * sizeof *to);
    return pith_tape_input(b->tape, to, PITH_DIMS(n, b->dims[0], b->dims[1], b->dims[2]));
}

/* ---- training --------------------------------------------------------------------------------- */

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    bed *b = user;
    pith_batch batch;
    at->status = pith_loader_batch(b->train.images.loader, at->step * at->n_parts + at->part, &batch);
    if (at->status != PITH_OK || !say(b, &b->train, batch.items, batch.n, b->s->drop)) return NULL;
    pith_var *mean = rows(b, b->train.mean, batch.items, batch.n), *deviation = rows(b, b->train.deviation, batch.items, batch.n);
    if (!mean || !deviation) return NULL;
    pith_var *z = pith_var_add(mean, pith_var_mul(deviation, pith_tape_normal(tape, mean->n_dims, mean->dims)));
    pith_denoiser net = denoiser(b);
    return pith_diffusion_loss(b->diffusion, &net, z);
}

/* The mean loss on test images, each with a noise and a level that stay its own: levels spread evenly, as training draws them. */
static pith_status measure_loss(bed *b, double *loss)
{
    size_t n = b->test.images.ds->n, batch = b->run->card->train.batch;
    pith_denoiser net = denoiser(b);
    double sum = 0;
    for (size_t from = 0, some; from < n; from += some) {
        some = PITH_MIN(batch, n - from);
        pith_scope scope = pith_scope_begin(b->tape);
        size_t *items = pith_op_attr(b->tape, some, sizeof *items);
        double *t = pith_op_attr(b->tape, some, sizeof *t);
        float *noise = pith_op_attr(b->tape, some * b->n_values, sizeof *noise);
        if (!items || !t || !noise) return PITH_E_MEMORY;
        for (size_t i = 0; i < some; i++) {
            pith_rng rng = {.seed = b->run->seed, .stream = pith_hash("test noise", 10) + from + i};
            items[i] = from + i;
            t[i] = pith_diffusion_quantile(b->diffusion, fmod((double)(from + i) * 0.6180339887498949, 1)); /* golden section */
            for (size_t k = 0; k < b->n_values; k++) noise[i * b->n_values + k] = pith_rng_normal(&rng);
        }
        if (!say(b, &b->test, items, some, 0)) return pith_tape_status(b->tape);
        pith_var *e = pith_tape_input(b->tape, noise, PITH_DIMS(some, b->dims[0], b->dims[1], b->dims[2]));
        pith_var *mean = pith_diffusion_loss_at(b->diffusion, &net, rows(b, b->test.mean, items, some), e, t);
        if (!mean) return pith_tape_status(b->tape);
        sum += (double)mean->data[0] * (double)some;
        pith_scope_end(b->tape, scope, NULL, 0);
    }
    *loss = sum / (double)n;
    return PITH_OK;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    double loss;
    PITH_TRY(measure_loss(user, &loss));
    pith_train_note(at, "test_loss", loss);
    return PITH_OK;
}

static bool is_of_net(void *user, const pith_var *param) { return pith_net_owns(((bed *)user)->net, param); }

static pith_status train(bed *b)
{
    pith_train_options o = pith_run_train_options(b->run);
    pith_train_role role = pith_run_train_role(b->run);
    size_t n = b->train.images.ds->n * b->n_values * sizeof(float);
    uint64_t identity[] = {o.identity, pith_hash(b->train.mean, n), pith_hash(b->train.deviation, n), pith_dataset_hash(b->test.images.ds)};
    o.identity = pith_hash(identity, sizeof identity);
    o.item_name = "images";
    o.evaluate = evaluate;
    o.user = b;
    role.loss = loss;
    role.owns = is_of_net;
    return pith_run_train(b->run, b->tape, &o, b->s->evaluations, &role, 1, &b->net, 1, NULL);
}

/* ---- measuring -------------------------------------------------------------------------------- */

typedef struct figures {
    double loss, fd, found;
    size_t n_asked;               /* attributes that captions named */
} figures;

/* Captions of one object name all that the classifier tells of it. */
static void judge(const bed *b, const pith_var *logits, const size_t *items, figures *f)
{
    const pith_field *label = pith_dataset_field(b->test.images.ds, "label");
    for (size_t i = 0; i < logits->dims[0]; i++) {
        int32_t ordered[PITH_SCENE_ATTRIBUTES];
        bool right[PITH_SCENE_ATTRIBUTES];
        pith_scene_order(pith_field_item(label, items[i]), ordered);
        if (ordered[4] >= 0) continue; /* there is a second one */
        pith_scene_judge(logits->data + i * PITH_SCENE_LOGITS, ordered, right);
        for (size_t a = 0; a < PITH_SCENE_ATTRIBUTES; a++) {
            f->n_asked += ordered[a] >= 0;
            f->found += right[a];
        }
    }
}

/* Pictures of the captions of test images from..from+n-1, and those images, as the classifier sees them. */
static pith_status make_some(bed *b, size_t from, size_t n, pith_moments *real, pith_moments *made, figures *f)
{
    const pith_sampling o = {.n_steps = b->s->sample_steps, .guidance = b->s->captions ? b->s->guidance : 1, .heun = b->s->heun};
    pith_tape_step(b->tape, from);
    pith_tape_record(b->tape, false);
    size_t *items = pith_op_attr(b->tape, n, sizeof *items);
    if (!items) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) items[i] = from + i;
    if (!say(b, &b->test, items, n, 0)) return pith_tape_status(b->tape);
    pith_denoiser net = denoiser(b);
    pith_var *noise = pith_tape_normal(b->tape, PITH_DIMS(n, b->dims[0], b->dims[1], b->dims[2]));
    pith_var *image = pith_latents_decode(&b->latents, pith_diffusion_sample(b->diffusion, &net, noise, &o));
    pith_var *logits = image && b->s->captions ? pith_net_forward(b->classifier, image) : NULL;
    if (!image || (b->s->captions && !logits)) return pith_tape_status(b->tape);
    if (logits) judge(b, logits, items, f);
    PITH_TRY(pith_features_add(b->classifier, image, made));
    pith_var *original = pith_images_range(&b->test.images, b->tape, from, n);
    return original ? pith_features_add(b->classifier, original, real) : pith_tape_status(b->tape);
}

static pith_status measure(bed *b, figures *f)
{
    size_t n = b->s->n_made, n_features = pith_features_count(b->classifier), batch = b->run->card->train.batch;
    pith_moments *real = NULL, *made = NULL;
    pith_tape_step(b->tape, 0);
    pith_tape_record(b->tape, false);
    PITH_TRY(measure_loss(b, &f->loss));
    pith_status status = pith_moments_new(b->run->ctx, n_features, &real);
    if (status == PITH_OK) status = pith_moments_new(b->run->ctx, n_features, &made);
    for (size_t from = 0, some; from < n && status == PITH_OK; from += some) {
        some = PITH_MIN(batch, n - from);
        status = make_some(b, from, some, real, made, f);
        if (status == PITH_OK) status = pith_progress(b->run->ctx, "making pictures", from + some, n);
    }
    if (status == PITH_OK) status = pith_frechet(real, made, &f->fd);
    pith_moments_free(made);
    pith_moments_free(real);
    return status;
}

/* ---- all of it -------------------------------------------------------------------------------- */

/* Pictures that are made are compared with as many test images. */
static pith_status enough_tests(const bed *b, uint64_t n)
{
    if (b->s->n_made <= n) return PITH_OK;
    return pith_fail(b->run->ctx, PITH_E_ARGUMENT, "%s: %llu pictures are compared with %llu test images; make n_made at most so many", b->run->card->file, (unsigned long long)b->s->n_made, (unsigned long long)n);
}

static pith_status open_split(bed *b, bool training, split *set)
{
    const settings *s = b->s;
    PITH_TRY(pith_images_open(b->run, &s->images, training, training ? s->n_images : s->n_test, &set->images));
    if (!training) PITH_TRY(enough_tests(b, set->images.ds->n));
    if (s->captions) {
        PITH_TRY(pith_images_are_scenes(b->run, &set->images));
        PITH_TRY(pith_images_field(b->run, &set->images, "words", &set->words));
        b->n_words = set->words->n_values;
    }
    return encode(b, set, training ? "encoding images" : "encoding test images");
}

static pith_status make_net(bed *b)
{
    char usual[128];
    snprintf(usual, sizeof usual, "{\"channels\": %zu, \"out\": %zu}", b->dims[0], b->dims[0]);
    PITH_TRY(pith_run_net(b->run, b->tape, b->s->net, b->s->net_settings, usual, &b->net));
    pith_diffusion_options o = pith_diffusion_usual((pith_diffusion_kind)b->s->process);
    o.target = (pith_diffusion_target)b->s->target;
    o.data_std = 1; /* latents are scaled to it */
    return pith_diffusion_new(b->run->ctx, &o, &b->diffusion);
}

static pith_status work(bed *b)
{
    const settings *s = b->s;
    figures f = {0};
    PITH_TRY(enough_tests(b, s->n_test)); /* before beds are trained */
    PITH_TRY(pith_tape_new(b->run->ctx, b->run->seed, &b->tape));
    PITH_TRY(pith_latents_open(b->run, s->latents, b->tape, &b->latents));
    PITH_TRY(pith_bed_open(b->run, s->classifier, &b->classifier_bed));
    PITH_TRY(pith_bed_net(b->classifier_bed, b->tape, &b->classifier));
    PITH_TRY(open_split(b, true, &b->train));
    PITH_TRY(open_split(b, false, &b->test));
    pith_tape_step(b->tape, 0);
    PITH_TRY(make_net(b));
    PITH_TRY(train(b));
    PITH_TRY(measure(b, &f));
    PITH_TRY(pith_run_row(b->run, "bed", "loss", f.loss));
    PITH_TRY(pith_run_row(b->run, "bed", "fd", f.fd));
    if (s->captions) PITH_TRY(pith_run_row(b->run, "bed", "attr_acc", f.n_asked ? f.found / (double)f.n_asked : 0));
    PITH_TRY(pith_run_row(b->run, "bed", "parameters", (double)pith_net_n_values(b->net)));
    return pith_run_keep(b->run, b->net);
}

static void close_split(pith_ctx *ctx, split *set)
{
    pith_free(ctx, set->mean);
    pith_free(ctx, set->deviation);
    pith_images_close(&set->images);
}

static pith_status run(pith_run *run)
{
    bed b = {.run = run, .s = run->card->settings};
    pith_status status = work(&b);
    pith_diffusion_free(b.diffusion);
    pith_net_free(b.net);
    pith_net_free(b.classifier);
    pith_latents_close(&b.latents);
    pith_bed_close(b.classifier_bed);
    pith_tape_free(b.tape);
    close_split(run->ctx, &b.test);
    close_split(run->ctx, &b.train);
    return status;
}

const pith_procedure pith_procedure_diffusion = {"diffusion", keys, sizeof(settings), run};
