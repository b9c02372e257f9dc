/* classifier: a network of src/model that says of an image one thing (its class) or several (its attributes), trained
 * and kept as <bed>/model.safetensors.  An interrupted training goes on from its checkpoint. */
#include "model/net.h"
#include "recipe/train_card.h"

typedef struct settings {
    const char *net;
    pith_counts attributes;
    uint64_t images, held_out;
    bool flip;
    uint64_t crop;
} settings;

static const pith_key keys[] = {
    {"net", PITH_KEY_TEXT, offsetof(settings, net), .required = true, .help = "kind or preset of src/model: vgg6, resnet20, vit1m"},
    {"attributes", PITH_KEY_COUNTS, offsetof(settings, attributes), .min = 2, .max = 4096, .help = "kinds of each column of the label; one class when not given"},
    {"images", PITH_KEY_COUNT, offsetof(settings, images), .required = true, .min = 1, .max = 1e7, .help = "to train on, where the data has as many"},
    {"held_out", PITH_KEY_COUNT, offsetof(settings, held_out), .required = true, .min = 1, .max = 1e7, .help = "to measure on, where the data has as many"},
    {"flip", PITH_KEY_FLAG, offsetof(settings, flip), .help = "swap left and right of half of the images"},
    {"crop", PITH_KEY_COUNT, offsetof(settings, crop), .max = 16, .help = "pixels that an image is moved at most"},
    {0},
};

#define MAX_GROUPS 16

typedef struct task {
    pith_run *run;
    pith_dataset *train, *test;
    const pith_field *image, *label;
    size_t n_groups, classes[MAX_GROUPS]; /* a group of logits for each column of the label that counts */
    pith_tape *tape;
    pith_net *net;
    pith_loader *loader, *held_out;
} task;

/* ---- data ------------------------------------------------------------------------------------- */

static pith_status count_classes(task *t, const pith_dataset *ds)
{
    const pith_field *f = pith_dataset_field(ds, "label");
    for (size_t i = 0; i < ds->n; i++) {
        const void *item = pith_field_item(f, i);
        for (size_t g = 0; g < t->n_groups; g++) {
            int64_t class = f->type == PITH_FIELD_U8 ? ((const uint8_t *)item)[g] : ((const int32_t *)item)[g];
            const settings *s = t->run->card->settings;
            if (!s->attributes.n && class >= 0) t->classes[g] = PITH_MAX(t->classes[g], (size_t)class + 1);
            else if (class >= (int64_t)t->classes[g]) return pith_fail(t->run->ctx, PITH_E_ARGUMENT, "%s: column %zu of the label of item %zu is %lld; the card says %zu kinds", ds->name, g, i, (long long)class, t->classes[g]);
        }
    }
    return PITH_OK;
}

static pith_status open_data(task *t)
{
    const settings *s = t->run->card->settings;
    PITH_TRY(pith_run_data(t->run, &t->run->card->data, "train", &(pith_dataset_options){.n = s->images}, &t->train));
    PITH_TRY(pith_run_data(t->run, &t->run->card->data, "test", &(pith_dataset_options){.n = s->held_out}, &t->test));
    t->image = pith_dataset_field(t->train, "image");
    t->label = pith_dataset_field(t->train, "label");
    t->n_groups = PITH_MAX(s->attributes.n, 1);
    if (!t->image || t->image->n_dims != 3 || !t->label || t->label->type == PITH_FIELD_F32 || t->n_groups > t->label->n_values || t->n_groups > MAX_GROUPS)
        return pith_fail(t->run->ctx, PITH_E_ARGUMENT, "the data set %s has no images with labels of %zu columns", t->train->name, t->n_groups);
    for (size_t g = 0; g < s->attributes.n; g++) t->classes[g] = s->attributes.items[g];
    PITH_TRY(count_classes(t, t->train));
    PITH_TRY(count_classes(t, t->test));
    pith_loader_options o = {.batch = t->run->card->train.batch, .seed = t->run->seed, .input = "image", .target = "label", .shuffle = true, .flip = s->flip, .crop = (int)s->crop};
    pith_field_moments(t->image, t->train->n, o.mean, o.std);
    PITH_TRY(pith_loader_new(t->run->ctx, t->train, &o, &t->loader));
    o = (pith_loader_options){.batch = o.batch, .input = "image", .target = "label", .once = true, .mean = {o.mean[0], o.mean[1], o.mean[2], o.mean[3]},
                              .std = {o.std[0], o.std[1], o.std[2], o.std[3]}};
    return pith_loader_new(t->run->ctx, t->test, &o, &t->held_out);
}

/* What the network is told of the data, as far as its kind has such settings. */
static pith_status make_net(task *t)
{
    const settings *s = t->run->card->settings;
    char text[256] = "";
    if (!s->attributes.n) snprintf(text, sizeof text, "{\"channels\": %zu, \"classes\": %zu}", t->image->dims[0], t->classes[0]);
    if (s->attributes.n) {
        size_t len = (size_t)snprintf(text, sizeof text, "{\"channels\": %zu, \"size\": %zu, \"classes\": [", t->image->dims[0], t->image->dims[1]);
        for (size_t g = 0; g < t->n_groups && len < sizeof text; g++) len += (size_t)snprintf(text + len, sizeof text - len, "%s%zu", g ? ", " : "", t->classes[g]);
        if (len < sizeof text) snprintf(text + len, sizeof text - len, "]}");
    }
    return pith_net_new(t->tape, s->net, text, t->run->seed, &t->net);
}

/* ---- training --------------------------------------------------------------------------------- */

static pith_var *logits_of(const task *t, const pith_batch *b)
{
    return pith_net_forward(t->net, pith_tape_input(t->tape, b->x, PITH_DIMS(b->n, t->image->dims[0], t->image->dims[1], t->image->dims[2])));
}

/* Column g of a batch's labels, PITH_NO_LABEL where there is none. */
static const int32_t *labels_of(const task *t, const pith_batch *b, size_t g)
{
    int32_t *y = pith_op_attr(t->tape, b->n, sizeof *y);
    for (size_t i = 0; y && i < b->n; i++) {
        int32_t class = b->y[i * t->label->n_values + g];
        y[i] = class < 0 ? PITH_NO_LABEL : class;
    }
    return y;
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    const task *t = user;
    pith_batch b;
    at->status = pith_loader_batch(t->loader, at->step * at->n_parts + at->part, &b);
    pith_var *x = at->status == PITH_OK ? logits_of(t, &b) : NULL, *sum = NULL;
    for (size_t g = 0, from = 0; x && g < t->n_groups; from += t->classes[g++]) {
        const int32_t *label = labels_of(t, &b, g);
        if (!label) return NULL;
        pith_var *ce = pith_var_cross_entropy(pith_var_slice(x, 1, from, t->classes[g]), label);
        sum = g ? pith_var_add(sum, ce) : ce;
    }
    return sum && t->n_groups > 1 ? pith_var_scale(sum, 1 / (float)t->n_groups) : sum;
}

/* Share of the labels of all held-out images that are found, and their mean cross-entropy. */
static pith_status measure(const task *t, double *accuracy, double *nats)
{
    double right = 0, labels = 0, sum = 0;
    for (uint64_t step = 0; step < pith_loader_steps(t->held_out); step++) {
        pith_batch b;
        PITH_TRY(pith_loader_batch(t->held_out, step, &b));
        pith_tape_step(t->tape, step);
        pith_tape_record(t->tape, false);
        pith_var *x = logits_of(t, &b);
        for (size_t g = 0, from = 0; x && g < t->n_groups; from += t->classes[g++]) {
            const int32_t *label = labels_of(t, &b, g);
            pith_var *own = pith_var_slice(x, 1, from, t->classes[g]), *ce = label ? pith_var_cross_entropy(own, label) : NULL;
            if (!ce) break;
            double here = 0;
            for (size_t i = 0; i < b.n; i++) {
                const float *row = own->data + i * t->classes[g];
                size_t best = 0;
                for (size_t k = 1; k < t->classes[g]; k++) best = row[k] > row[best] ? k : best;
                right += label[i] == (int32_t)best;
                here += label[i] != PITH_NO_LABEL;
            }
            sum += here ? (double)ce->data[0] * here : 0;
            labels += here;
        }
        PITH_TRY(pith_tape_status(t->tape));
    }
    *accuracy = right / labels;
    *nats = sum / labels;
    return PITH_OK;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    double accuracy, nats;
    PITH_TRY(measure(user, &accuracy, &nats));
    pith_train_note(at, "acc", accuracy);
    return PITH_OK;
}

static pith_status train(task *t)
{
    pith_ctx *ctx = t->run->ctx;
    pith_train_options o = pith_run_train_options(t->run);
    pith_train_role role = pith_run_train_role(t->run);
    char *checkpoint = pith_format(ctx, "%s/checkpoint", t->run->folder), *curves = pith_format(ctx, "%s/curves", t->run->folder);
    pith_trainer *trainer = NULL;
    size_t n;
    const pith_net_buffer *buffers = pith_net_buffers(t->net, &n);
    o.user = t;
    o.evaluate = evaluate;
    o.evaluate_every = PITH_MAX(o.n_steps / 5, 1);
    o.checkpoint = checkpoint;
    o.checkpoint_seconds = 30;
    o.curves = curves;
    o.item_name = "images";
    role.loss = loss;
    pith_status status = checkpoint && curves ? pith_trainer_new(t->tape, &o, &role, 1, &trainer) : PITH_E_MEMORY;
    for (size_t i = 0; i < n && status == PITH_OK; i++) status = pith_trainer_keep(trainer, buffers[i].name, buffers[i].data, buffers[i].n * sizeof(float));
    if (status == PITH_OK) status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    pith_free(ctx, checkpoint);
    pith_free(ctx, curves);
    return status;
}

static pith_status save_and_report(const task *t)
{
    double accuracy, nats;
    PITH_TRY(measure(t, &accuracy, &nats));
    PITH_TRY(pith_run_row(t->run, "net", "acc", accuracy));
    PITH_TRY(pith_run_row(t->run, "net", "loss", nats));
    PITH_TRY(pith_run_row(t->run, "net", "values", (double)pith_net_n_values(t->net)));
    char *path = pith_format(t->run->ctx, "%s/model.safetensors", t->run->folder);
    pith_status status = path ? pith_net_save(t->net, path) : PITH_E_MEMORY;
    pith_free(t->run->ctx, path);
    return status;
}

static pith_status run(pith_run *run)
{
    task t = {.run = run};
    pith_status status;
    PITH_GOTO(open_data(&t), done);
    PITH_GOTO(pith_tape_new(run->ctx, run->seed, &t.tape), done);
    PITH_GOTO(make_net(&t), done);
    PITH_GOTO(train(&t), done);
    PITH_GOTO(save_and_report(&t), done);
done:
    pith_net_free(t.net);
    pith_tape_free(t.tape);
    pith_loader_free(t.loader);
    pith_loader_free(t.held_out);
    pith_dataset_free(t.train);
    pith_dataset_free(t.test);
    return status;
}

const pith_procedure pith_procedure_classifier = {"classifier", keys, sizeof(settings), run};
