/* Beds that tell images apart: any network of images and classes, trained on labelled images.  In the bed's folder:
 * net.safetensors (pith_net_open), curves, and while it trains the checkpoint. */
#include "recipe/labelled.h"
#include "recipe/train_card.h"

typedef struct settings {
    const char *net, *net_settings;
    pith_names images;
    uint64_t n_images, n_test, evaluations, crop;
    bool flip;
} settings;

static const pith_key keys[] = {
    {"net", PITH_KEY_TEXT, offsetof(settings, net), .required = true, .help = "a network of images: vgg6, resnet20, vit1m …"},
    {"net_settings", PITH_KEY_TEXT, offsetof(settings, net_settings), .help = "JSON object of settings that differ; channels, size and classes come from the data"},
    {"images", PITH_KEY_NAMES, offsetof(settings, images), .required = true, .help = "data sets of labelled images; the first that is there is used"},
    {"n_images", PITH_KEY_COUNT, offsetof(settings, n_images), .required = true, .min = 1, .max = 1e7, .help = "to train on"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 1, .max = 1e7, .help = "to measure on"},
    {"evaluations", PITH_KEY_COUNT, offsetof(settings, evaluations), .required = true, .min = 1, .max = 1000, .help = "while it trains"},
    {"crop", PITH_KEY_COUNT, offsetof(settings, crop), .max = 16, .help = "pixels by which images are shifted at random; 0: none"},
    {"flip", PITH_KEY_FLAG, offsetof(settings, flip), .help = "images are mirrored at random"},
    {0},
};

typedef struct bed {
    pith_run *run;
    pith_dataset *images[2];       /* train, test */
    pith_loader *loaders[2];
    pith_labelled common;          /* of both */
    pith_tape *tape;
    pith_net *net;
} bed;

/* ---- data ------------------------------------------------------------------------------------- */

static pith_status open_data(bed *b)
{
    const settings *s = b->run->card->settings;
    pith_loader_options o = {.batch = b->run->card->train.batch, .seed = b->run->seed, .input = "image", .target = "label", .shuffle = true, .flip = s->flip, .crop = (int)s->crop};
    for (size_t i = 0; i < 2; i++) {
        PITH_TRY(pith_labelled_open(b->run, &s->images, i == 1, i ? s->n_test : s->n_images, &b->common, &b->images[i]));
        if (i == 0) pith_field_moments(pith_dataset_field(b->images[0], "image"), b->images[0]->n, o.mean, o.std);
        if (i == 1) o.shuffle = o.flip = false, o.crop = 0, o.once = true;
        PITH_TRY(pith_loader_new(b->run->ctx, b->images[i], &o, &b->loaders[i]));
    }
    return PITH_OK;
}

/* ---- training --------------------------------------------------------------------------------- */

/* logits [rows, classes] of a batch, and its classes until the step ends. */
static pith_var *logits_of(const bed *b, const pith_batch *batch, int32_t **class)
{
    *class = pith_op_attr(b->tape, batch->n, sizeof **class);
    if (!*class) return NULL;
    for (size_t i = 0; i < batch->n; i++) (*class)[i] = batch->y[i * b->common.n_columns];
    return pith_net_forward(b->net, pith_tape_input(b->tape, batch->x, PITH_DIMS(batch->n, b->common.dims[0], b->common.dims[1], b->common.dims[2])));
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    bed *b = user;
    pith_batch batch;
    int32_t *class;
    at->status = pith_loader_batch(b->loaders[0], at->step * at->n_parts + at->part, &batch);
    if (at->status != PITH_OK) return NULL;
    pith_var *logits = logits_of(b, &batch, &class);
    return logits ? pith_var_cross_entropy(logits, class) : NULL;
}

/* Share of test images that are classified rightly, and their mean cross-entropy. */
static pith_status measure(bed *b, double *accuracy, double *loss)
{
    size_t right = 0, n = b->images[1]->n;
    double sum = 0;
    for (uint64_t i = 0; i < pith_loader_steps(b->loaders[1]); i++) {
        pith_batch batch;
        int32_t *class;
        PITH_TRY(pith_loader_batch(b->loaders[1], i, &batch));
        pith_scope scope = pith_scope_begin(b->tape);
        pith_var *logits = logits_of(b, &batch, &class), *mean = logits ? pith_var_cross_entropy(logits, class) : NULL;
        if (!mean) return pith_tape_status(b->tape);
        right += pith_labelled_right(logits, class);
        sum += (double)mean->data[0] * (double)batch.n;
        pith_scope_end(b->tape, scope, NULL, 0);
    }
    *accuracy = (double)right / (double)n;
    *loss = sum / (double)n;
    return PITH_OK;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    double accuracy, loss;
    PITH_TRY(measure(user, &accuracy, &loss));
    pith_train_note(at, "acc", accuracy);
    pith_train_note(at, "test_loss", loss);
    return PITH_OK;
}

static pith_status train(bed *b)
{
    const settings *s = b->run->card->settings;
    pith_train_options o = pith_run_train_options(b->run);
    pith_train_role role = pith_run_train_role(b->run);
    uint64_t identity[3] = {o.identity, pith_dataset_hash(b->images[0]), pith_dataset_hash(b->images[1])};
    o.identity = pith_hash(identity, sizeof identity);
    o.item_name = "images";
    o.evaluate = evaluate;
    o.watch = "test_loss";
    o.user = b;
    role.loss = loss;
    return pith_run_train(b->run, b->tape, &o, s->evaluations, &role, 1, &b->net, 1, NULL);
}

static pith_status work(bed *b)
{
    const settings *s = b->run->card->settings;
    double accuracy, loss;
    char usual[128];
    PITH_TRY(open_data(b));
    PITH_TRY(pith_tape_new(b->run->ctx, b->run->seed, &b->tape));
    snprintf(usual, sizeof usual, "{\"channels\": %zu, \"classes\": %zu}", b->common.dims[0], b->common.n_classes);
    PITH_TRY(pith_run_net(b->run, b->tape, s->net, s->net_settings, usual, &b->net));
    PITH_TRY(train(b));
    pith_tape_step(b->tape, 0);
    pith_tape_record(b->tape, false);
    PITH_TRY(measure(b, &accuracy, &loss));
    PITH_TRY(pith_run_row(b->run, "bed", "acc", accuracy));
    PITH_TRY(pith_run_row(b->run, "bed", "loss", loss));
    PITH_TRY(pith_run_row(b->run, "bed", "parameters", (double)pith_net_n_values(b->net)));
    return pith_run_keep(b->run, b->net);
}

static pith_status run(pith_run *run)
{
    bed b = {.run = run};
    pith_status status = work(&b);
    pith_net_free(b.net);
    pith_tape_free(b.tape);
    for (size_t i = 0; i < 2; i++) {
        pith_loader_free(b.loaders[i]);
        pith_dataset_free(b.images[i]);
    }
    return status;
}

const pith_procedure pith_procedure_classifier = {"classifier", keys, sizeof(settings), run};
