/* Beds that say what is in a scene: shape, colour, size and cell of its objects, and the background.  Their features are what
 * distances of images and of sets of images are measured in. */
#include "recipe/scenes.h"
#include "recipe/train_card.h"

typedef struct settings {
    const char *net, *net_settings;
    pith_names images;
    uint64_t n_images, n_test, evaluations;
} settings;

static const pith_key keys[] = {
    {"net", PITH_KEY_TEXT, offsetof(settings, net), .required = true, .help = "a network of kind attributes: clf32"},
    {"net_settings", PITH_KEY_TEXT, offsetof(settings, net_settings), .help = "JSON object of settings that differ; channels and size come from the data"},
    {"images", PITH_KEY_NAMES, offsetof(settings, images), .required = true, .help = "data sets labelled as scenes32 is; the first that is there is used"},
    {"n_images", PITH_KEY_COUNT, offsetof(settings, n_images), .required = true, .min = 1, .max = 1e7, .help = "to train on"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 1, .max = 1e7, .help = "to measure on"},
    {"evaluations", PITH_KEY_COUNT, offsetof(settings, evaluations), .required = true, .min = 1, .max = 1000, .help = "while it trains"},
    {0},
};

typedef struct bed {
    pith_run *run;
    const settings *s;
    pith_images train, test;
    pith_tape *tape;
    pith_net *net;
} bed;

/* Logits of a batch, and its labels [n, PITH_SCENE_ATTRIBUTES] with objects in reading order, until the step ends. */
static pith_var *logits_of(bed *b, pith_images *images, uint64_t step, int32_t **ordered, pith_status *status)
{
    pith_batch batch;
    pith_var *x = pith_images_batch(images, b->tape, step, &batch, status);
    *ordered = x ? pith_op_attr(b->tape, batch.n * PITH_SCENE_ATTRIBUTES, sizeof **ordered) : NULL;
    if (!*ordered) return NULL;
    for (size_t i = 0; i < batch.n; i++) pith_scene_order(batch.y + i * PITH_SCENE_ATTRIBUTES, *ordered + i * PITH_SCENE_ATTRIBUTES);
    pith_var *logits = pith_net_forward(b->net, x);
    if (logits && logits->dims[1] != PITH_SCENE_LOGITS) return pith_op_fail(b->tape, PITH_E_ARGUMENT, "the classifier gives %zu logits, scenes have %d; leave its classes as they are", logits->dims[1], PITH_SCENE_LOGITS);
    return logits;
}

/* The mean over attributes of the cross-entropies, of those objects that are there. */
static pith_var *entropy(bed *b, pith_var *logits, const int32_t *ordered)
{
    pith_var *sum = NULL;
    if (!logits) return NULL;
    for (size_t a = 0, from = 0; a < PITH_SCENE_ATTRIBUTES; from += pith_scene_classes[a++]) {
        int32_t *class = pith_op_attr(b->tape, logits->dims[0], sizeof *class);
        if (!class) return NULL;
        for (size_t i = 0; i < logits->dims[0]; i++) {
            int32_t label = ordered[i * PITH_SCENE_ATTRIBUTES + a];
            class[i] = label < 0 ? PITH_NO_LABEL : label;
        }
        pith_var *one = pith_var_cross_entropy(pith_var_slice(logits, 1, from, pith_scene_classes[a]), class);
        sum = sum ? pith_var_add(sum, one) : one;
    }
    return pith_var_scale(sum, 1.0f / PITH_SCENE_ATTRIBUTES);
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    bed *b = user;
    int32_t *ordered;
    pith_var *logits = logits_of(b, &b->train, at->step * at->n_parts + at->part, &ordered, &at->status);
    return entropy(b, logits, ordered);
}

/* Share of attributes found in the test images: of shapes, colours, sizes, cells, backgrounds, and of all together. */
enum { SHAPES, COLOURS, SIZES, CELLS, BACKGROUNDS, ALL, N_SHARES };

static pith_status measure(bed *b, double *share)
{
    size_t n_right[N_SHARES] = {0}, n[N_SHARES] = {0};
    for (uint64_t step = 0; step < pith_loader_steps(b->test.loader); step++) {
        int32_t *ordered;
        pith_status status;
        pith_scope scope = pith_scope_begin(b->tape);
        pith_var *logits = logits_of(b, &b->test, step, &ordered, &status);
        PITH_TRY(status);
        if (!logits) return pith_tape_status(b->tape);
        for (size_t i = 0; i < logits->dims[0]; i++) {
            bool right[PITH_SCENE_ATTRIBUTES];
            const int32_t *labels = ordered + i * PITH_SCENE_ATTRIBUTES;
            pith_scene_judge(logits->data + i * PITH_SCENE_LOGITS, labels, right);
            for (size_t a = 0; a < PITH_SCENE_ATTRIBUTES; a++) {
                if (labels[a] < 0) continue;
                size_t kind = a < PITH_SCENE_ATTRIBUTES - 1 ? a % 4 : BACKGROUNDS;
                n[kind]++, n[ALL]++;
                n_right[kind] += right[a], n_right[ALL] += right[a];
            }
        }
        pith_scope_end(b->tape, scope, NULL, 0);
    }
    for (size_t k = 0; k < N_SHARES; k++) share[k] = n[k] ? (double)n_right[k] / (double)n[k] : 0;
    return PITH_OK;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    double share[N_SHARES];
    PITH_TRY(measure(user, share));
    pith_train_note(at, "acc", share[ALL]);
    return PITH_OK;
}

static pith_status train(bed *b)
{
    pith_train_options o = pith_run_train_options(b->run);
    pith_train_role role = pith_run_train_role(b->run);
    uint64_t identity[] = {o.identity, pith_dataset_hash(b->train.ds), pith_dataset_hash(b->test.ds)};
    o.identity = pith_hash(identity, sizeof identity);
    o.item_name = "images";
    o.evaluate = evaluate;
    o.watch = "acc";
    o.watch_largest = true;
    o.user = b;
    role.loss = loss;
    return pith_run_train(b->run, b->tape, &o, b->s->evaluations, &role, 1, &b->net, 1, NULL);
}

static pith_status work(bed *b)
{
    static const char *const names[N_SHARES] = {"shape", "colour", "size", "cell", "background", "acc"};
    double share[N_SHARES];
    PITH_TRY(pith_images_open(b->run, &b->s->images, true, b->s->n_images, &b->train));
    PITH_TRY(pith_images_open(b->run, &b->s->images, false, b->s->n_test, &b->test));
    PITH_TRY(pith_images_are_scenes(b->run, &b->train));
    PITH_TRY(pith_images_are_scenes(b->run, &b->test));
    PITH_TRY(pith_tape_new(b->run->ctx, b->run->seed, &b->tape));
    char usual[64];
    snprintf(usual, sizeof usual, "{\"channels\": %zu, \"size\": %zu}", b->train.dims[0], b->train.dims[1]);
    PITH_TRY(pith_run_net(b->run, b->tape, b->s->net, b->s->net_settings, usual, &b->net));
    PITH_TRY(train(b));
    pith_tape_step(b->tape, 0);
    pith_tape_record(b->tape, false);
    PITH_TRY(measure(b, share));
    for (size_t k = 0; k < N_SHARES; k++) PITH_TRY(pith_run_row(b->run, "bed", names[k], share[k]));
    PITH_TRY(pith_run_row(b->run, "bed", "parameters", (double)pith_net_n_values(b->net)));
    return pith_run_keep(b->run, b->net);
}

static pith_status run(pith_run *run)
{
    bed b = {.run = run, .s = run->card->settings};
    pith_status status = work(&b);
    pith_net_free(b.net);
    pith_tape_free(b.tape);
    pith_images_close(&b.test);
    pith_images_close(&b.train);
    return status;
}

const pith_procedure pith_procedure_attributes = {"attributes", keys, sizeof(settings), run};
