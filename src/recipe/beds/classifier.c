/* Beds that tell images apart: any network of images and classes, trained on labelled images.  In the bed's folder:
 * net.safetensors (pith_net_open), curves, and while it trains the checkpoint. */
#include <unistd.h>

#include "format/json.h"
#include "model/net.h"
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
    size_t dims[3], n_columns, n_classes; /* of an image; values of a label, of which the first is the class */
    pith_tape *tape;
    pith_net *net;
    double accuracy, loss;         /* on the test images, in the end */
} bed;

/* ---- data ------------------------------------------------------------------------------------- */

static int64_t class_of(const pith_field *label, size_t item)
{
    const void *at = pith_field_item(label, item);
    return label->type == PITH_FIELD_U8 ? *(const uint8_t *)at : *(const int32_t *)at;
}

static pith_status open_split(bed *b, size_t i)
{
    const settings *s = b->run->card->settings;
    pith_dataset_options o = {.n = i ? s->n_test : s->n_images};
    PITH_TRY(pith_run_data(b->run, &s->images, i ? "test" : "train", &o, &b->images[i]));
    const pith_dataset *ds = b->images[i];
    const pith_field *image = pith_dataset_field(ds, "image"), *label = pith_dataset_field(ds, "label");
    if (!image || image->type != PITH_FIELD_U8 || image->n_dims != 3 || !label || label->type == PITH_FIELD_F32)
        return pith_fail(b->run->ctx, PITH_E_ARGUMENT, "the data set %s has no labelled images; name another in the card's settings", ds->name);
    if (i && memcmp(b->dims, image->dims, sizeof b->dims) != 0) return pith_fail(b->run->ctx, PITH_E_ARGUMENT, "the data set %s has test images of another shape", ds->name);
    memcpy(b->dims, image->dims, sizeof b->dims);
    b->n_columns = label->n_values;
    for (size_t k = 0; k < ds->n; k++) {
        int64_t class = class_of(label, k);
        if (class < 0) return pith_fail(b->run->ctx, PITH_E_ARGUMENT, "item %zu of the data set %s has no label", k, ds->name);
        b->n_classes = PITH_MAX(b->n_classes, (size_t)class + 1);
    }
    return PITH_OK;
}

static pith_status open_data(bed *b)
{
    const settings *s = b->run->card->settings;
    pith_loader_options o = {.batch = b->run->card->train.batch, .seed = b->run->seed, .input = "image", .target = "label", .shuffle = true, .flip = s->flip, .crop = (int)s->crop};
    for (size_t i = 0; i < 2; i++) {
        PITH_TRY(open_split(b, i));
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
    for (size_t i = 0; i < batch->n; i++) (*class)[i] = batch->y[i * b->n_columns];
    return pith_net_forward(b->net, pith_tape_input(b->tape, batch->x, PITH_DIMS(batch->n, b->dims[0], b->dims[1], b->dims[2])));
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

static size_t n_right(const pith_var *logits, const int32_t *class)
{
    size_t n = logits->dims[1], right = 0;
    for (size_t r = 0; r < logits->dims[0]; r++) {
        const float *x = logits->data + r * n;
        size_t best = 0;
        for (size_t k = 1; k < n; k++)
            if (x[k] > x[best]) best = k;
        right += (int32_t)best == class[r];
    }
    return right;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    bed *b = user;
    size_t right = 0;
    double sum = 0;
    for (uint64_t i = 0; i < pith_loader_steps(b->loaders[1]); i++) {
        pith_batch batch;
        int32_t *class;
        PITH_TRY(pith_loader_batch(b->loaders[1], i, &batch));
        pith_scope scope = pith_scope_begin(tape);
        pith_var *logits = logits_of(b, &batch, &class), *mean = logits ? pith_var_cross_entropy(logits, class) : NULL;
        if (!mean) return pith_tape_status(tape);
        right += n_right(logits, class);
        sum += (double)mean->data[0] * (double)batch.n;
        pith_scope_end(tape, scope, NULL, 0);
    }
    pith_train_note(at, "acc", (double)right / (double)b->images[1]->n);
    pith_train_note(at, "test_loss", sum / (double)b->images[1]->n);
    return PITH_OK;
}

/* Running statistics survive a stop. */
static pith_status keep_buffers(const bed *b, pith_trainer *trainer)
{
    size_t n;
    const pith_net_buffer *buffers = pith_net_buffers(b->net, &n);
    for (size_t i = 0; i < n; i++) PITH_TRY(pith_trainer_share(trainer, buffers[i].name, buffers[i].data, buffers[i].n));
    return PITH_OK;
}

static pith_status train(bed *b, const char *checkpoint, const char *curves)
{
    const settings *s = b->run->card->settings;
    pith_train_options o = pith_run_train_options(b->run);
    pith_train_role role = pith_run_train_role(b->run);
    uint64_t identity[3] = {o.identity, pith_dataset_hash(b->images[0]), pith_dataset_hash(b->images[1])};
    o.identity = pith_hash(identity, sizeof identity);
    o.item_name = "images";
    o.checkpoint = checkpoint;
    o.checkpoint_seconds = 20;
    o.curves = curves;
    o.evaluate = evaluate;
    o.evaluate_every = PITH_MAX(o.n_steps / s->evaluations, (uint64_t)1);
    o.watch = "test_loss";
    o.user = b;
    role.loss = loss;
    pith_trainer *trainer;
    PITH_TRY(pith_trainer_new(b->tape, &o, &role, 1, &trainer));
    pith_status status = keep_buffers(b, trainer);
    if (status == PITH_OK) status = pith_trainer_run(trainer, NULL);
    b->accuracy = pith_train_figure(pith_trainer_history(trainer), "acc");
    b->loss = pith_train_figure(pith_trainer_history(trainer), "test_loss");
    pith_trainer_free(trainer);
    return status;
}

/* The card's settings, and of the data what they leave open. */
static pith_status make_net(bed *b)
{
    const settings *s = b->run->card->settings;
    const char *own = s->net_settings ? s->net_settings : "{}";
    cJSON *json = NULL;
    pith_status status = pith_json_parse(b->run->ctx, "net_settings", own, strlen(own), &json);
    if (status == PITH_OK && !cJSON_IsObject(json)) status = pith_fail(b->run->ctx, PITH_E_FORMAT, "%s: net_settings is no JSON object: %s", b->run->card->file, own);
    bool ok = status == PITH_OK && (cJSON_HasObjectItem(json, "channels") || cJSON_AddNumberToObject(json, "channels", (double)b->dims[0])) &&
              (cJSON_HasObjectItem(json, "classes") || cJSON_AddNumberToObject(json, "classes", (double)b->n_classes));
    char *text = ok ? cJSON_PrintUnformatted(json) : NULL;
    if (status == PITH_OK) status = text ? pith_net_new(b->tape, s->net, text, b->run->seed, &b->net) : PITH_E_MEMORY;
    cJSON_free(text);
    cJSON_Delete(json);
    return status;
}

static pith_status work(bed *b)
{
    pith_ctx *ctx = b->run->ctx;
    PITH_TRY(open_data(b));
    PITH_TRY(pith_tape_new(ctx, b->run->seed, &b->tape));
    PITH_TRY(make_net(b));
    char *checkpoint = pith_format(ctx, "%s/checkpoint", b->run->folder), *curves = pith_format(ctx, "%s/curves", b->run->folder), *net = pith_format(ctx, "%s/net.safetensors", b->run->folder);
    pith_status status = checkpoint && curves && net ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) status = train(b, checkpoint, curves);
    bool leads = pith_group_leads(b->run->group);
    if (status == PITH_OK && leads) status = pith_net_save(b->net, net);
    if (status == PITH_OK && leads) unlink(checkpoint); /* it has served */
    pith_free(ctx, net);
    pith_free(ctx, curves);
    pith_free(ctx, checkpoint);
    return status;
}

static pith_status run(pith_run *run)
{
    bed b = {.run = run};
    pith_status status = work(&b);
    if (status == PITH_OK) status = pith_run_row(run, "bed", "acc", b.accuracy);
    if (status == PITH_OK) status = pith_run_row(run, "bed", "loss", b.loss);
    if (status == PITH_OK) status = pith_run_row(run, "bed", "parameters", (double)pith_net_n_values(b.net));
    pith_net_free(b.net);
    pith_tape_free(b.tape);
    for (size_t i = 0; i < 2; i++) {
        pith_loader_free(b.loaders[i]);
        pith_dataset_free(b.images[i]);
    }
    return status;
}

const pith_procedure pith_procedure_classifier = {"classifier", keys, sizeof(settings), run};
