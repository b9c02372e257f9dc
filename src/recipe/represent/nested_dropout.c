/* nested-dropout: image classifiers that learn from partly wrong labels, with the features before the classifier ordered
 * by nested dropout and cut, with co-teaching, with both, and beside them other remedies; and a regression where the
 * truth is known.  arXiv:2206.13140.
 *
 * A row is <images>_<noise>_<method>: "grey_sym50_nested"; toy rows are "toy_nested" and "toy_plain".  How many features
 * stay, and when to stop, is chosen on held-out training images with their wrong labels: nothing sees clean labels. */
#include "recipe/train_card.h"

#include <math.h>

#include "model/net.h"
#include "stage/transform/pca.h"
#include "stage/tune/coteaching.h"
#include "stage/tune/nested_dropout.h"

typedef struct settings {
    pith_names runs, grey, colour;
    uint64_t n_images, n_test, width, blocks, tune_steps, ramp_steps, toy_steps;
    double spread, toy_spread, drop, tune_rate;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: images (grey, colour), noise (clean, sym20, sym50, pair40), method; or toy and method"},
    {"grey", PITH_KEY_NAMES, offsetof(settings, grey), .required = true, .help = "data sets of labelled images; the first that is there is used"},
    {"colour", PITH_KEY_NAMES, offsetof(settings, colour), .required = true, .help = "the same"},
    {"n_images", PITH_KEY_COUNT, offsetof(settings, n_images), .required = true, .min = 10, .max = 1e7, .help = "to train on; a tenth of them is held out to choose by"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 1, .max = 1e7, .help = "to measure on, with right labels"},
    {"width", PITH_KEY_COUNT, offsetof(settings, width), .required = true, .min = 1, .max = 256, .help = "channels of the first stage; there are four times as many features"},
    {"blocks", PITH_KEY_COUNT, offsetof(settings, blocks), .required = true, .min = 1, .max = 20, .help = "residual blocks of a stage"},
    {"spread", PITH_KEY_NUMBER, offsetof(settings, spread), .required = true, .min = 0.1, .max = 1e4, .help = "s of P(k) ~ exp(-(k/s)^2)"},
    {"toy_spread", PITH_KEY_NUMBER, offsetof(settings, toy_spread), .required = true, .min = 0.1, .max = 1e4, .help = "the same in the regression"},
    {"drop", PITH_KEY_NUMBER, offsetof(settings, drop), .required = true, .max = 0.9, .help = "share of a batch that co-teaching leaves out"},
    {"ramp_steps", PITH_KEY_STEPS, offsetof(settings, ramp_steps), .required = true, .max = 1e7, .help = "until that share is reached"},
    {"tune_steps", PITH_KEY_STEPS, offsetof(settings, tune_steps), .required = true, .min = 1, .max = 1e7, .help = "after those of `train`, at a lower rate"},
    {"tune_rate", PITH_KEY_NUMBER, offsetof(settings, tune_rate), .required = true, .max = 1, .help = "of these steps, in parts of the first stage's rate"},
    {"toy_steps", PITH_KEY_STEPS, offsetof(settings, toy_steps), .required = true, .min = 1, .max = 1e7, .help = "of the regression"},
    {0},
};

enum { CLEAN, SYM20, SYM50, PAIR40, N_NOISES };
static const char *const noise_names[N_NOISES] = {"clean", "sym20", "sym50", "pair40"};
static const double noise_shares[N_NOISES] = {0, 0.2, 0.5, 0.4};
/* BOTH: the nested networks' features are cut, then they teach each other.  PCA: of the plain network's features. */
enum { PLAIN, DROPOUT, SMOOTH, EARLY, COTEACH, NESTED, BOTH, PCA, N_METHODS };
static const char *const method_names[N_METHODS] = {"plain", "dropout", "smooth", "early", "coteach", "nested", "both", "pca"};
enum { GREY, COLOUR, N_KINDS };

#define SMOOTHING 0.1f
#define HELD_OUT 10                /* one in so many training images chooses k and the step to stop at */
#define EVALUATIONS 20             /* of EARLY */
#define PATIENCE 4
#define BATCH 128                  /* of a pass without training */

/* ---- data ------------------------------------------------------------------------------------- */

/* A stretch of a data set's items, with a class each. */
typedef struct part {
    pith_dataset ds;               /* a view; fields are `fields` */
    pith_field fields[8];
    int32_t *class;                /* [n], within the images' */
} part;

typedef struct images {
    pith_dataset *train, *test;
    int32_t *class[2];             /* [train->n], [test->n]: the right ones */
    int32_t *given[N_NOISES];      /* [train->n]: with noise; NULL: not made yet */
    size_t n_classes;
    pith_loader_options loader;    /* moments of the pixels */
} images;

static pith_status classes_of(const pith_run *run, const pith_dataset *ds, int32_t **class, size_t *n_classes)
{
    const pith_field *image = pith_dataset_field(ds, "image"), *label = pith_dataset_field(ds, "label");
    if (!image || image->n_dims != 3 || !label || label->type == PITH_FIELD_F32 || ds->n_fields > PITH_COUNT(((part *)0)->fields))
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has no labelled images; name another in the card's settings", ds->name);
    *class = pith_array(run->ctx, ds->n, sizeof **class);
    for (size_t i = 0; i < ds->n && *class; i++) {
        const void *item = pith_field_item(label, i);
        int32_t c = (*class)[i] = label->type == PITH_FIELD_U8 ? *(const uint8_t *)item : *(const int32_t *)item;
        if (c < 0) return pith_fail(run->ctx, PITH_E_ARGUMENT, "item %zu of the data set %s has no label", i, ds->name);
        *n_classes = PITH_MAX(*n_classes, (size_t)c + 1);
    }
    return *class ? PITH_OK : PITH_E_MEMORY;
}

static pith_status open_images(pith_run *run, int kind, images *im)
{
    const settings *s = run->card->settings;
    const pith_names *names = kind == GREY ? &s->grey : &s->colour;
    if (im->class[1]) return PITH_OK;
    PITH_TRY(pith_run_data(run, names, "train", &(pith_dataset_options){.n = s->n_images}, &im->train));
    PITH_TRY(pith_run_data(run, names, "test", &(pith_dataset_options){.n = s->n_test}, &im->test));
    PITH_TRY(classes_of(run, im->train, &im->class[0], &im->n_classes));
    PITH_TRY(classes_of(run, im->test, &im->class[1], &im->n_classes));
    if (im->n_classes < 2 || im->train->n < HELD_OUT) return pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has too few images or classes", im->train->name);
    im->loader = (pith_loader_options){.batch = run->card->train.batch, .seed = run->seed, .input = "image", .target = "label"};
    pith_field_moments(pith_dataset_field(im->train, "image"), im->train->n, im->loader.mean, im->loader.std);
    return PITH_OK;
}

static void close_images(pith_ctx *ctx, images *im)
{
    for (int i = 0; i < N_NOISES; i++) pith_free(ctx, im->given[i]);
    for (int i = 0; i < 2; i++) pith_free(ctx, im->class[i]);
    pith_dataset_free(im->train);
    pith_dataset_free(im->test);
}

/* Symmetric noise: any other class; pair: the next one. */
static pith_status make_noise(const pith_run *run, images *im, int noise)
{
    if (im->given[noise]) return PITH_OK;
    int32_t *given = im->given[noise] = pith_array(run->ctx, im->train->n, sizeof *given);
    if (!given) return PITH_E_MEMORY;
    for (size_t i = 0; i < im->train->n; i++) {
        pith_rng rng = {run->seed, 0x6e6f6973u + (uint64_t)noise, i << 8};
        bool wrong = (double)pith_rng_uniform(&rng) < noise_shares[noise];
        uint32_t n = (uint32_t)im->n_classes, by = noise == PAIR40 ? 1 : 1 + pith_rng_below(&rng, n - 1);
        given[i] = (int32_t)(((uint32_t)im->class[0][i] + (wrong ? by : 0)) % n);
    }
    return PITH_OK;
}

static void make_part(part *p, const pith_dataset *ds, int32_t *class, size_t from, size_t n)
{
    p->ds = *ds;
    p->ds.n = n;
    p->ds.fields = p->fields;
    p->class = class + from;
    for (size_t i = 0; i < ds->n_fields; i++) {
        p->fields[i] = ds->fields[i];
        p->fields[i].data = (uint8_t *)ds->fields[i].data + from * pith_field_item_bytes(&ds->fields[i]);
    }
}

/* ---- a row at work ---------------------------------------------------------------------------- */

struct row;
typedef struct learner {           /* one of up to two networks */
    struct row *row;
    pith_net *net;
    size_t prefix;                 /* features of this step */
    size_t fixed;                  /* 0: drawn by step where the method does */
} learner;

typedef struct row {
    pith_run *run;
    const char *name;
    images *images;
    int noise, method;
    bool tuning;                   /* the second stage */
    part fit, held_out, test;      /* held_out: of the training images */
    pith_tape *tape;
    pith_loader *loader;
    learner learners[2];
    size_t n_learners, n_features;
} row;

static const settings *settings_of(const row *r) { return r->run->card->settings; }
static bool is_nested(const row *r) { return r->method == NESTED || r->method == BOTH; }
static bool teaches(const row *r) { return r->method == COTEACH || (r->method == BOTH && r->tuning); }

/* Before the classifier: the features under this step's mask. */
static pith_var *tap(void *user, const char *layer, pith_net_side side, pith_var *x)
{
    const learner *l = user;
    if (side != PITH_NET_BEFORE || strcmp(layer, "linear") != 0) return x;
    if (l->row->method == DROPOUT) return pith_var_dropout(x, 0.5f);
    return l->prefix ? pith_nested_mask(x, l->prefix) : x;
}

static pith_status make_row(row *r)
{
    const settings *s = settings_of(r);
    images *im = r->images;
    size_t n_held_out = im->train->n / HELD_OUT, n_fit = im->train->n - n_held_out;
    char net[160];
    PITH_TRY(make_noise(r->run, im, r->noise));
    make_part(&r->fit, im->train, im->given[r->noise], 0, n_fit);
    make_part(&r->held_out, im->train, im->given[r->noise], n_fit, n_held_out);
    make_part(&r->test, im->test, im->class[1], 0, im->test->n);
    snprintf(net, sizeof net, "{\"channels\": %zu, \"classes\": %zu, \"width\": %zu, \"blocks\": %zu}", pith_dataset_field(im->train, "image")->dims[0], im->n_classes, (size_t)s->width, (size_t)s->blocks);
    PITH_TRY(pith_tape_new(r->run->ctx, r->run->seed, &r->tape));
    r->n_learners = r->method == COTEACH || r->method == BOTH ? 2 : 1;
    r->n_features = 4 * s->width;
    for (size_t i = 0; i < r->n_learners; i++) {
        learner *l = &r->learners[i];
        l->row = r;
        PITH_TRY(pith_net_new(r->tape, "resnet", net, r->run->seed + ((uint64_t)i << 32), &l->net));
        pith_net_tap(l->net, tap, l);
    }
    pith_loader_options o = im->loader;
    o.shuffle = true;
    return pith_loader_new(r->run->ctx, &r->fit.ds, &o, &r->loader);
}

static void free_row(row *r)
{
    pith_loader_free(r->loader);
    for (size_t i = 0; i < r->n_learners; i++) pith_net_free(r->learners[i].net);
    pith_tape_free(r->tape);
}

/* ---- training --------------------------------------------------------------------------------- */

static pith_var *images_of(const row *r, const pith_batch *b)
{
    const pith_field *f = &r->fit.fields[0];
    for (size_t i = 0; strcmp(f->name, "image") != 0; i++) f = &r->fit.fields[i];
    return pith_tape_input(r->tape, b->x, PITH_DIMS(b->n, f->dims[0], f->dims[1], f->dims[2]));
}

/* Cross-entropy; for SMOOTH against labels that leave a share to all classes alike. */
static pith_var *one_loss(const row *r, pith_var *logits, const int32_t *label)
{
    pith_var *ce = pith_var_cross_entropy(logits, label);
    if (r->method != SMOOTH) return ce;
    return pith_var_sub(pith_var_scale(ce, 1 - SMOOTHING), pith_var_scale(pith_var_mean(pith_var_log_softmax(logits), PITH_ALL_AXES), SMOOTHING));
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    row *r = user;
    const settings *s = settings_of(r);
    uint64_t step = at->step * at->n_parts + at->part + (r->tuning ? r->run->card->train.steps : 0);
    pith_batch b;
    at->status = pith_loader_batch(r->loader, step, &b);
    int32_t *label = at->status == PITH_OK ? pith_op_attr(tape, 3 * b.n, sizeof *label) : NULL;
    if (!label) return NULL;
    pith_var *logits[2] = {NULL, NULL}, *x = images_of(r, &b);
    for (size_t i = 0; i < b.n; i++) label[i] = r->fit.class[b.items[i]];
    for (size_t i = 0; i < r->n_learners; i++) {
        learner *l = &r->learners[i];
        l->prefix = l->fixed ? l->fixed : is_nested(r) ? pith_nested_draw(r->n_features, s->spread, r->run->seed + i, step) : 0;
        logits[i] = pith_net_forward(l->net, x);
    }
    if (r->n_learners == 1) return one_loss(r, logits[0], label);
    if (!teaches(r)) return pith_var_add(one_loss(r, logits[0], label), one_loss(r, logits[1], label));
    size_t n_keep = pith_coteach_keep(b.n, s->drop, s->ramp_steps, at->step + (r->tuning ? s->ramp_steps : 0));
    int32_t *easy[2] = {label + b.n, label + 2 * b.n};
    for (int i = 0; i < 2 && at->status == PITH_OK; i++) at->status = pith_coteach_pick(tape, logits[i], label, n_keep, easy[1 - i]);
    return at->status == PITH_OK ? pith_var_add(one_loss(r, logits[0], easy[0]), one_loss(r, logits[1], easy[1])) : NULL;
}

/* Features [n, n_features] of a part as the first or second network has them; the caller's. */
static pith_status features_of(const row *r, const learner *l, const part *p, float **features)
{
    pith_ctx *ctx = r->run->ctx;
    pith_loader *loader = NULL;
    pith_loader_options o = r->images->loader;
    o.batch = BATCH;
    o.once = true;
    float *f = pith_array(ctx, p->ds.n, r->n_features * sizeof *f);
    pith_status status = f ? pith_loader_new(ctx, &p->ds, &o, &loader) : PITH_E_MEMORY;
    for (uint64_t step = 0; status == PITH_OK && step < pith_loader_steps(loader); step++) {
        pith_batch b;
        PITH_GOTO(pith_progress(ctx, r->name, step, pith_loader_steps(loader)), done);
        PITH_GOTO(pith_loader_batch(loader, step, &b), done);
        pith_tape_step(r->tape, step);
        pith_tape_record(r->tape, false);
        pith_net_forward(l->net, images_of(r, &b));
        const pith_var *y = pith_net_hidden(l->net, "features");
        PITH_GOTO(pith_tape_status(r->tape), done);
        memcpy(f + step * BATCH * r->n_features, y->data, y->count * sizeof *f);
    }
done:
    pith_loader_free(loader);
    if (status == PITH_OK) *features = f;
    else pith_free(ctx, f);
    return status;
}

/* A linear layer over the first k values of features, for each k. */
typedef struct head {
    const float *w, *b;            /* [n_classes, d], [n_classes] */
    size_t d, n_classes;
} head;

static head head_of(const row *r, const learner *l)
{
    return (head){pith_net_param(l->net, "linear.weight")->data, pith_net_param(l->net, "linear.bias")->data, r->n_features, r->images->n_classes};
}

/* right[k], k = 0..d: how many of n rows of f [n, d] the first k values alone put into their class; logits [n_classes] is
 * scratch. */
static void count_right(const head *h, const float *f, const int32_t *class, size_t n, float *logits, size_t *right)
{
    memset(right, 0, (h->d + 1) * sizeof *right);
    for (size_t i = 0; i < n; i++) {
        memcpy(logits, h->b, h->n_classes * sizeof *logits);
        for (size_t k = 0;; k++) {
            right[k] += (size_t)class[i] == pith_argmax(logits, h->n_classes);
            if (k == h->d) break;
            for (size_t c = 0; c < h->n_classes; c++) logits[c] += f[i * h->d + k] * h->w[c * h->d + k];
        }
    }
}

static pith_status count_part(const row *r, const learner *l, const part *p, size_t *right)
{
    float *f, *logits = pith_array(r->run->ctx, r->images->n_classes, sizeof *logits);
    if (!logits) return PITH_E_MEMORY;
    pith_status status = features_of(r, l, p, &f);
    if (status == PITH_OK) {
        head h = head_of(r, l);
        count_right(&h, f, p->class, p->ds.n, logits, right);
        pith_free(r->run->ctx, f);
    }
    pith_free(r->run->ctx, logits);
    return status;
}

/* The smallest k in 1..d with the most. */
static size_t best_prefix(const size_t *right, size_t d)
{
    size_t best = 1;
    for (size_t k = 2; k <= d; k++) best = right[k] > right[best] ? k : best;
    return best;
}

static pith_status choose_prefix(const row *r, learner *l)
{
    size_t *right = pith_array(r->run->ctx, r->n_features + 1, sizeof *right);
    if (!right) return PITH_E_MEMORY;
    pith_status status = count_part(r, l, &r->held_out, right);
    if (status == PITH_OK) l->fixed = best_prefix(right, r->n_features);
    pith_free(r->run->ctx, right);
    return status;
}

/* For EARLY: by the wrong labels of held-out images. */
static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    row *r = user;
    size_t *right = pith_array(r->run->ctx, r->n_features + 1, sizeof *right);
    if (!right) return PITH_E_MEMORY;
    pith_status status = count_part(r, &r->learners[0], &r->held_out, right);
    if (status == PITH_OK) pith_train_note(at, "acc", (double)right[r->n_features] / (double)r->held_out.ds.n);
    pith_free(r->run->ctx, right);
    return status;
}

static pith_status train_stage(row *r)
{
    const settings *s = settings_of(r);
    pith_train_options o = pith_run_train_options(r->run);
    pith_train_role role = pith_run_train_role(r->run);
    pith_trainer *trainer;
    role.loss = loss;
    o.user = r;
    if (r->tuning) {
        o.n_steps = s->tune_steps;
        role.schedule = (pith_schedule){.kind = PITH_RATE_CONSTANT, .rate = (float)(r->run->card->train.rate * s->tune_rate)};
    }
    if (r->method == EARLY) {
        o.evaluate = evaluate;
        o.evaluate_every = PITH_MAX(o.n_steps / EVALUATIONS, (uint64_t)1);
        o.watch = "acc";
        o.watch_largest = o.restore_best = true;
        o.patience = PATIENCE;
    }
    PITH_TRY(pith_trainer_new(r->tape, &o, &role, 1, &trainer));
    pith_status status = PITH_OK;
    for (size_t i = 0; i < r->n_learners && status == PITH_OK; i++) {
        size_t n;
        const pith_net_buffer *buffers = pith_net_buffers(r->learners[i].net, &n);
        for (size_t k = 0; k < n && status == PITH_OK; k++) {
            char name[96];
            snprintf(name, sizeof name, "%zu.%s", i, buffers[k].name);
            status = pith_trainer_keep(trainer, name, buffers[k].data, buffers[k].n * sizeof(float));
        }
    }
    if (status == PITH_OK) status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    return status;
}

static pith_status train(row *r)
{
    PITH_TRY(train_stage(r));
    if (r->method == BOTH)
        for (size_t i = 0; i < r->n_learners; i++) PITH_TRY(choose_prefix(r, &r->learners[i]));
    r->tuning = true;
    if (r->method != EARLY) PITH_TRY(train_stage(r)); /* EARLY is at its best step already */
    if (r->method == NESTED) PITH_TRY(choose_prefix(r, &r->learners[0]));
    return PITH_OK;
}

/* ---- measuring -------------------------------------------------------------------------------- */

/* Bytes of f32 that stay of the network when only k features do: rows of the convolution and norm that make them, columns
 * of the classifier. */
static double bytes_of(const row *r, size_t k)
{
    size_t n;
    pith_var *const *params = pith_net_params(r->learners[0].net, &n);
    char last[32];
    double values = 0, share = (double)k / (double)r->n_features;
    size_t len = (size_t)snprintf(last, sizeof last, "layer3.%zu.", (size_t)settings_of(r)->blocks - 1);
    for (size_t i = 0; i < n; i++) {
        const char *name = params[i]->name;
        bool makes = strncmp(name, last, len) == 0 && (strncmp(name + len, "conv2", 5) == 0 || strncmp(name + len, "bn2", 3) == 0);
        values += (double)params[i]->count * (makes || strcmp(name, "linear.weight") == 0 ? share : 1);
    }
    return 4 * values;
}

/* Of the images whose label is wrong, the share that the network puts into the wrong class all the same. */
static double memorised(const row *r, const head *h, const float *f, size_t k)
{
    size_t n_wrong = 0, n_learned = 0;
    for (size_t i = 0; i < r->fit.ds.n; i++) {
        if (r->fit.class[i] == r->images->class[0][i]) continue;
        size_t best = 0;
        double most = -HUGE_VAL;
        for (size_t c = 0; c < h->n_classes; c++) {
            double sum = (double)h->b[c];
            for (size_t j = 0; j < k; j++) sum += (double)f[i * h->d + j] * (double)h->w[c * h->d + j];
            if (sum > most) most = sum, best = c;
        }
        n_wrong++;
        n_learned += (size_t)r->fit.class[i] == best;
    }
    return n_wrong ? (double)n_learned / (double)n_wrong : 0;
}

/* Largest difference between the logits of the network under its mask and those of the first k features alone, on a batch
 * of test images, over the largest logit. */
static pith_status mask_error(row *r, const head *h, const float *f, size_t k, double *error)
{
    pith_loader *loader;
    pith_loader_options o = r->images->loader;
    pith_batch b;
    learner *l = &r->learners[0];
    o.once = true;
    PITH_TRY(pith_loader_new(r->run->ctx, &r->test.ds, &o, &loader));
    pith_status status = pith_loader_batch(loader, 0, &b);
    pith_tape_step(r->tape, 0);
    pith_tape_record(r->tape, false);
    l->prefix = k;
    const pith_var *y = status == PITH_OK ? pith_net_forward(l->net, images_of(r, &b)) : NULL;
    l->prefix = 0;
    if (status == PITH_OK) status = pith_tape_status(r->tape);
    double difference = 0, most = 1e-30;
    for (size_t i = 0; status == PITH_OK && i < b.n; i++)
        for (size_t c = 0; c < h->n_classes; c++) {
            double sum = (double)h->b[c], masked = (double)y->data[i * h->n_classes + c];
            for (size_t j = 0; j < k; j++) sum += (double)f[i * h->d + j] * (double)h->w[c * h->d + j];
            difference = PITH_MAX(difference, fabs(sum - masked));
            most = PITH_MAX(most, fabs(masked));
        }
    *error = difference / most;
    pith_loader_free(loader);
    return status;
}

static pith_status report(row *r)
{
    pith_ctx *ctx = r->run->ctx;
    const learner *l = &r->learners[0];
    size_t d = r->n_features, k = l->fixed ? l->fixed : d;
    size_t *right = pith_array(ctx, d + 1, sizeof *right);
    float *logits = pith_array(ctx, r->images->n_classes, sizeof *logits), *fit = NULL, *test = NULL;
    double n = (double)r->test.ds.n, error = 0;
    head h = head_of(r, l);
    pith_status status = right && logits ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) status = features_of(r, l, &r->fit, &fit);
    if (status == PITH_OK) status = features_of(r, l, &r->test, &test);
    if (status == PITH_OK) {
        count_right(&h, test, r->test.class, r->test.ds.n, logits, right);
        size_t peak = best_prefix(right, d);
        PITH_GOTO(pith_run_row(r->run, r->name, "acc", (double)right[k] / n), done);
        PITH_GOTO(pith_run_row(r->run, r->name, "k", (double)k), done);
        PITH_GOTO(pith_run_row(r->run, r->name, "full", (double)right[d] / n), done);
        PITH_GOTO(pith_run_row(r->run, r->name, "peak", (double)peak), done);
        PITH_GOTO(pith_run_row(r->run, r->name, "peak_acc", (double)right[peak] / n), done);
        PITH_GOTO(pith_run_row(r->run, r->name, "kib", bytes_of(r, k) / 1024), done);
        if (r->noise != CLEAN) PITH_GOTO(pith_run_row(r->run, r->name, "memorised", memorised(r, &h, fit, k)), done);
        if (is_nested(r)) PITH_GOTO(mask_error(r, &h, test, k, &error), done);
        if (is_nested(r)) PITH_GOTO(pith_run_row(r->run, r->name, "cut_error", error), done);
    }
done:
    pith_free(ctx, right);
    pith_free(ctx, logits);
    pith_free(ctx, fit);
    pith_free(ctx, test);
    return status;
}

/* The plain network's features by their principal components, as many as held-out images want. */
static pith_status report_pca(row *r, const char *name)
{
    pith_ctx *ctx = r->run->ctx;
    const learner *l = &r->learners[0];
    size_t d = r->n_features, n_classes = r->images->n_classes;
    const part *parts[3] = {&r->fit, &r->held_out, &r->test};
    float *f[3] = {NULL, NULL, NULL}, *mean = pith_array(ctx, d, sizeof *mean), *axes = pith_array(ctx, d * d, sizeof *axes), *turned = NULL;
    float *w = pith_array(ctx, n_classes, d * sizeof *w), *b = pith_array(ctx, n_classes, sizeof *b), *logits = pith_array(ctx, n_classes, sizeof *logits);
    size_t *right = pith_array(ctx, d + 1, sizeof *right);
    head plain = head_of(r, l), h = {w, b, d, n_classes};
    pith_status status = mean && axes && w && b && logits && right ? PITH_OK : PITH_E_MEMORY;
    for (int i = 0; i < 3 && status == PITH_OK; i++) status = features_of(r, l, parts[i], &f[i]);
    if (status == PITH_OK) status = pith_pca(ctx, f[0], r->fit.ds.n, d, mean, axes);
    if (status != PITH_OK) goto done;
    for (size_t c = 0; c < n_classes; c++) { /* w (mean + sum of y_i axis_i) + b */
        double shift = (double)plain.b[c];
        for (size_t j = 0; j < d; j++) shift += (double)plain.w[c * d + j] * (double)mean[j];
        b[c] = (float)shift;
        for (size_t i = 0; i < d; i++) {
            double sum = 0;
            for (size_t j = 0; j < d; j++) sum += (double)plain.w[c * d + j] * (double)axes[i * d + j];
            w[c * d + i] = (float)sum;
        }
    }
    size_t k = 0;
    for (int i = 1; i < 3; i++) {
        turned = pith_array(ctx, parts[i]->ds.n, d * sizeof *turned);
        if (!turned) status = PITH_E_MEMORY;
        if (!turned) goto done;
        pith_pca_project(f[i], parts[i]->ds.n, d, mean, axes, d, turned);
        count_right(&h, turned, parts[i]->class, parts[i]->ds.n, logits, right);
        pith_free(ctx, turned);
        if (i == 1) k = best_prefix(right, d);
    }
    PITH_GOTO(pith_run_row(r->run, name, "k", (double)k), done);
    status = pith_run_row(r->run, name, "acc", (double)right[k] / (double)r->test.ds.n);
done:
    for (int i = 0; i < 3; i++) pith_free(ctx, f[i]);
    pith_free(ctx, mean);
    pith_free(ctx, axes);
    pith_free(ctx, w);
    pith_free(ctx, b);
    pith_free(ctx, logits);
    pith_free(ctx, right);
    return status;
}

/* ---- the regression --------------------------------------------------------------------------- */

/* y = sin(3 x) from 40 points with noise of 0.4, by a perceptron wide enough to learn the noise; measured against the truth. */
enum { TOY_POINTS = 40, TOY_GRID = 200, TOY_HIDDEN = 128, TOY_FEATURES = 64 };
#define TOY_NOISE 0.4f
#define TOY_RATE 3e-3f

typedef struct toy {
    pith_run *run;
    pith_net *net;
    bool nested;
    size_t prefix;
    float x[3][TOY_GRID], y[3][TOY_GRID]; /* to learn from, to choose k by, the truth */
    size_t n[3];
} toy;

static void make_points(toy *t)
{
    for (int set = 0; set < 3; set++) {
        pith_rng rng = {t->run->seed, 0x746f79u + (uint64_t)set, 0};
        t->n[set] = set == 2 ? TOY_GRID : TOY_POINTS;
        for (size_t i = 0; i < t->n[set]; i++) {
            float x = set == 2 ? -2 + 4 * ((float)i + 0.5f) / TOY_GRID : -2 + 4 * pith_rng_uniform(&rng);
            t->x[set][i] = x;
            t->y[set][i] = (float)sin(3 * (double)x) + (set == 2 ? 0 : TOY_NOISE * pith_rng_normal(&rng));
        }
    }
}

static pith_var *toy_tap(void *user, const char *layer, pith_net_side side, pith_var *x)
{
    const toy *t = user;
    return t->prefix && side == PITH_NET_BEFORE && strcmp(layer, "layers.2") == 0 ? pith_nested_mask(x, t->prefix) : x;
}

static pith_var *toy_error(toy *t, int set)
{
    pith_tape *tape = pith_net_tape(t->net);
    pith_var *y = pith_net_forward(t->net, pith_tape_input(tape, t->x[set], PITH_DIMS(t->n[set], 1)));
    return pith_var_mse(y, pith_tape_input(tape, t->y[set], PITH_DIMS(t->n[set], 1)));
}

static pith_var *toy_loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    toy *t = user;
    const settings *s = t->run->card->settings;
    if (t->nested) t->prefix = pith_nested_draw(TOY_FEATURES, s->toy_spread, t->run->seed, at->step);
    return toy_error(t, 0);
}

static pith_status toy_measure(toy *t, int set, size_t prefix, double *error)
{
    pith_tape *tape = pith_net_tape(t->net);
    pith_tape_step(tape, 0);
    pith_tape_record(tape, false);
    t->prefix = prefix;
    const pith_var *e = toy_error(t, set);
    PITH_TRY(pith_tape_status(tape));
    *error = (double)e->data[0];
    return PITH_OK;
}

static pith_status toy_work(toy *t, pith_tape *tape, const char *name)
{
    const settings *s = t->run->card->settings;
    char net[96];
    size_t k = TOY_FEATURES;
    double error, least = HUGE_VAL;
    pith_trainer *trainer;
    pith_train_options o = {.n_steps = s->toy_steps, .user = t};
    pith_train_role role = {.optimizer = {.kind = PITH_ADAMW}, .schedule = {.kind = PITH_RATE_CONSTANT, .rate = TOY_RATE}, .loss = toy_loss};
    snprintf(net, sizeof net, "{\"in\": 1, \"hidden\": [%d, %d], \"out\": 1}", TOY_HIDDEN, TOY_FEATURES);
    make_points(t);
    PITH_TRY(pith_net_new(tape, "mlp", net, t->run->seed, &t->net));
    pith_net_tap(t->net, toy_tap, t);
    PITH_TRY(pith_trainer_new(tape, &o, &role, 1, &trainer));
    pith_status status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    PITH_TRY(status);
    for (size_t i = 1; t->nested && i <= TOY_FEATURES; i++) {
        PITH_TRY(toy_measure(t, 1, i, &error));
        if (error < least) least = error, k = i;
    }
    PITH_TRY(toy_measure(t, 2, k, &error));
    PITH_TRY(pith_run_row(t->run, name, "mse", error));
    return pith_run_row(t->run, name, "k", (double)k);
}

static pith_status run_toy(pith_run *run, const char *name)
{
    pith_tape *tape;
    PITH_TRY(pith_tape_new(run->ctx, run->seed, &tape));
    toy t = {.run = run, .nested = strcmp(name, "toy_nested") == 0};
    pith_status status = toy_work(&t, tape, name);
    pith_net_free(t.net);
    pith_tape_free(tape);
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static int find(const char *const *names, int n, const char *text, size_t len)
{
    int i = 0;
    while (i < n && (strlen(names[i]) != len || memcmp(names[i], text, len) != 0)) i++;
    return i;
}

static pith_status parse_row(pith_run *run, const char *name, row *r, int *kind)
{
    static const char *const kinds[N_KINDS] = {"grey", "colour"};
    *r = (row){.run = run, .name = name};
    size_t a = strcspn(name, "_"), b = name[a] ? strcspn(name + a + 1, "_") : 0;
    const char *method = name + a + b + 1;
    *kind = find(kinds, N_KINDS, name, a);
    r->noise = name[a] ? find(noise_names, N_NOISES, name + a + 1, b) : N_NOISES;
    r->method = name[a] && *method ? find(method_names, N_METHODS, method + 1, strlen(method + 1)) : N_METHODS;
    if (*kind < N_KINDS && r->noise < N_NOISES && r->method < N_METHODS) return PITH_OK;
    return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is not images (grey, colour), noise (clean, sym20, sym50, pair40) and method (plain, dropout, smooth, early, coteach, nested, both, pca), joined by '_', nor toy_nested or toy_plain",
                     run->card->file, name);
}

/* "grey_sym50_pca" beside "grey_sym50_plain", if it is wanted; else NULL. */
static const char *pca_row(const pith_names *runs, const char *plain)
{
    size_t len = (size_t)(strrchr(plain, '_') - plain);
    for (size_t i = 0; i < runs->n; i++)
        if (strncmp(runs->items[i], plain, len) == 0 && strcmp(runs->items[i] + len, "_pca") == 0) return runs->items[i];
    return NULL;
}

static pith_status run_method(row *r)
{
    const char *pca = r->method == PLAIN ? pca_row(&settings_of(r)->runs, r->name) : NULL;
    pith_status status = make_row(r);
    if (status == PITH_OK) status = train(r);
    if (status == PITH_OK) status = report(r);
    if (status == PITH_OK && pca) status = report_pca(r, pca);
    free_row(r);
    return status;
}

/* What all rows share. */
typedef struct study {
    pith_run *run;
    images all[N_KINDS];
} study;

static pith_status run_row(void *user, const char *name)
{
    study *st = user;
    row r;
    int kind;
    if (!strcmp(name, "toy_nested") || !strcmp(name, "toy_plain")) return run_toy(st->run, name);
    PITH_TRY(parse_row(st->run, name, &r, &kind));
    if (r.method == PCA) return PITH_OK; /* with the plain network */
    PITH_TRY(open_images(st->run, kind, &st->all[kind]));
    r.images = &st->all[kind];
    return run_method(&r);
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    study st = {.run = run};
    pith_status status = pith_run_each(run, &s->runs, run_row, &st);
    for (int i = 0; i < N_KINDS; i++) close_images(run->ctx, &st.all[i]);
    return status;
}

const pith_procedure pith_procedure_nested_dropout = {"nested_dropout", keys, sizeof(settings), run};
