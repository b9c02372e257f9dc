/* gradual-pruning: networks pruned while they train, beside smaller dense ones of the same bytes, other schedules, and
 * random masks, on three tasks.  arXiv:1710.01878.
 *
 * A row is <task>_<method>_<sparsity>: "vgg_gradual_90", "words_small_875" (0.875), "sort_dense". */
#include "recipe/small_tasks.h"
#include "recipe/train_card.h"
#include "stage/tune/gradual_prune.h"

typedef struct settings {
    pith_names runs, images, texts;
    double begin, end;
    uint64_t updates, n_images, text_bytes, vocabulary;
    pith_counts widths;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: task (vgg, words, sort), method, digits of the sparsity: vgg_gradual_90"},
    {"begin", PITH_KEY_NUMBER, offsetof(settings, begin), .required = true, .min = 0, .max = 0.95, .help = "share of the steps before the first pruning"},
    {"end", PITH_KEY_NUMBER, offsetof(settings, end), .required = true, .min = 0.05, .max = 1, .help = "share of the steps before the last"},
    {"updates", PITH_KEY_COUNT, offsetof(settings, updates), .required = true, .min = 1, .max = 1e6, .help = "prunings from the first to the last"},
    {"images", PITH_KEY_NAMES, offsetof(settings, images), .required = true, .help = "data sets of labelled images; the first that is there is used"},
    {"texts", PITH_KEY_NAMES, offsetof(settings, texts), .required = true, .help = "text data sets; the first that is there is used"},
    {"n_images", PITH_KEY_COUNT, offsetof(settings, n_images), .required = true, .min = 1, .max = 1e7, .help = "images to train on; a fifth of them to measure on"},
    {"text_bytes", PITH_KEY_COUNT, offsetof(settings, text_bytes), .required = true, .min = 1000, .max = 1e8, .help = "of text to train on; a fifth of them to measure on"},
    {"vocabulary", PITH_KEY_COUNT, offsetof(settings, vocabulary), .required = true, .min = 2, .max = 100000, .help = "words that the language model knows"},
    {"widths", PITH_KEY_COUNTS, offsetof(settings, widths), .required = true, .min = 1, .max = 1024, .help = "of the large networks: first channels of vgg, states of words, states of sort"},
    {0},
};

typedef enum method { DENSE, GRADUAL, SMALL, EQUAL, ONESHOT, LINEAR, RANDOM, N_METHODS } method;
static const char *const method_names[N_METHODS] = {"dense", "gradual", "small", "equal", "oneshot", "linear", "random"};

/* One row at work. */
typedef struct row {
    pith_run *run;
    const char *name;
    pith_tasks *tasks;
    pith_task_kind task;
    method method;
    double sparsity;
} row;

static pith_status parse_row(pith_run *run, const char *name, pith_tasks *tasks, row *r)
{
    *r = (row){.run = run, .name = name, .tasks = tasks, .method = N_METHODS};
    size_t len = strcspn(name, "_");
    r->task = pith_task_find(name, len);
    const char *at = name + len + (name[len] == '_'), *digits = "";
    for (int m = 0; m < N_METHODS; m++) {
        size_t n = strlen(method_names[m]);
        if (strncmp(at, method_names[m], n) || (at[n] && at[n] != '_')) continue;
        r->method = (method)m;
        digits = at[n] ? at + n + 1 : "";
    }
    size_t n_digits = strspn(digits, "0123456789");
    double unit = 1;
    for (size_t i = 0; i < n_digits; i++) r->sparsity += (digits[i] - '0') * (unit /= 10);
    bool wants_digits = r->method != DENSE;
    if (r->task == PITH_N_TASKS || r->method == N_METHODS || digits[n_digits] || (n_digits > 0) != wants_digits)
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is no task (vgg, words, sort) with a method (dense, gradual, small, equal, oneshot, linear, random) and digits of a sparsity (90)",
                         run->card->file, name);
    return PITH_OK;
}

/* ---- how large -------------------------------------------------------------------------------- */

static pith_prune_options schedule_of(const row *r)
{
    const settings *s = r->run->card->settings;
    double steps = (double)r->run->card->train.steps;
    uint64_t first = (uint64_t)(s->begin * steps), last = (uint64_t)(s->end * steps), every = PITH_MAX((last - PITH_MIN(first, last)) / s->updates, 1);
    pith_prune_options o = {.to = r->sparsity, .first_step = first, .every = every, .n_updates = PITH_MIN(s->updates, (last - PITH_MIN(first, last)) / every),
                            .shape = r->method == LINEAR ? PITH_PRUNE_LINEAR : r->method == ONESHOT ? PITH_PRUNE_AT_ONCE : PITH_PRUNE_CUBIC,
                            .random = r->method == RANDOM, .seed = r->run->seed};
    if (r->method == ONESHOT) { /* in the middle of the others' updates, then finetuned for what is left */
        o.first_step = (first + last) / 2;
        o.n_updates = 0;
    }
    return o;
}

/* All of the network's tensors that the method prunes, dense so far. */
static pith_status prune_network(pith_task_net *net, const pith_prune_options *o, pith_prune **prune)
{
    PITH_TRY(pith_prune_new(pith_task_net_tape(net), o, prune));
    size_t n;
    pith_var *const *params = pith_tape_params(pith_task_net_tape(net), &n);
    for (size_t i = 0; i < n; i++)
        if (pith_task_net_prunes(net, params[i])) PITH_TRY(pith_prune_add(*prune, params[i]));
    pith_task_net_replace(net, pith_prune_replace, *prune);
    return PITH_OK;
}

static size_t full_width(const row *r) { return ((const settings *)r->run->card->settings)->widths.items[r->task]; }

/* What a network of the task takes, pruned at once to `sparsity` where it is above 0. */
static pith_status size_of(const row *r, size_t width, double sparsity, pith_prune_size *size)
{
    pith_task_net *net = NULL;
    pith_prune *prune = NULL;
    pith_status status = pith_task_net_new(r->tasks, r->task, width, &net);
    if (status == PITH_OK && sparsity > 0) status = prune_network(net, &(pith_prune_options){.to = sparsity}, &prune);
    if (status == PITH_OK && prune) status = pith_prune_step(prune, 0);
    if (status == PITH_OK) *size = pith_prune_measure(pith_task_net_tape(net), prune);
    pith_task_net_free(net);
    pith_prune_free(prune);
    return status;
}

/* The width of the smallest dense network that has at least what the sparse one has: bytes with its bitmask, or values
 * that are not zero.  So the dense one is never the smaller of the two. */
static pith_status small_width(const row *r, size_t *width)
{
    pith_prune_size sparse, dense;
    size_t low = 1, high = full_width(r);
    PITH_TRY(size_of(r, high, r->sparsity, &sparse));
    while (low < high) {
        size_t middle = (low + high) / 2;
        PITH_TRY(size_of(r, middle, 0, &dense));
        bool enough = r->method == SMALL ? dense.dense_bytes >= sparse.bitmask_bytes : dense.n_values >= sparse.n_nonzero;
        if (enough) high = middle;
        else low = middle + 1;
    }
    *width = low;
    return PITH_OK;
}

/* ---- training --------------------------------------------------------------------------------- */

/* What the loop's functions are given. */
typedef struct training {
    pith_task_net *net;
    pith_prune *prune;             /* NULL: dense */
    uint64_t last_update;          /* the step before which masks change for the last time */
    uint64_t final_masks;          /* their hash then */
} training;

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    training *t = user;
    return pith_task_net_loss(t->net, at->step * at->n_parts + at->part, &at->status);
}

static pith_status changed(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    training *t = user;
    if (!t->prune) return PITH_OK;
    PITH_TRY(pith_prune_step(t->prune, at->step + 1));
    if (at->step + 1 == t->last_update) t->final_masks = pith_prune_hash(t->prune);
    return PITH_OK;
}

static pith_status train(const row *r, training *t)
{
    pith_train_options o = pith_run_train_options(r->run);
    pith_train_role role = pith_run_train_role(r->run);
    pith_trainer *trainer;
    o.user = t;
    role.loss = loss;
    role.changed = changed;
    if (t->prune) {
        PITH_TRY(pith_prune_step(t->prune, 0));
        t->final_masks = pith_prune_hash(t->prune); /* where the last update is the first */
    }
    PITH_TRY(pith_trainer_new(pith_task_net_tape(t->net), &o, &role, 1, &trainer));
    pith_status status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    return status;
}

static pith_status report(const row *r, const training *t, size_t width, const pith_task_figures *f)
{
    pith_prune_size size = pith_prune_measure(pith_task_net_tape(t->net), t->prune);
    PITH_TRY(pith_run_row(r->run, r->name, "acc", f->accuracy));
    PITH_TRY(pith_run_row(r->run, r->name, "loss", f->loss));
    PITH_TRY(pith_run_row(r->run, r->name, "width", (double)width));
    PITH_TRY(pith_run_row(r->run, r->name, "nonzero", (double)size.n_nonzero));
    PITH_TRY(pith_run_row(r->run, r->name, "bytes", (double)(t->prune ? size.bitmask_bytes : size.dense_bytes)));
    PITH_TRY(pith_run_row(r->run, r->name, "csr_bytes", (double)(t->prune ? size.csr_bytes : size.dense_bytes)));
    return t->prune ? pith_run_row(r->run, r->name, "late", pith_prune_hash(t->prune) != t->final_masks) : PITH_OK;
}

static pith_status make_row(const row *r)
{
    size_t width = full_width(r);
    bool is_pruned = r->method != DENSE && r->method != SMALL && r->method != EQUAL;
    if (r->method == SMALL || r->method == EQUAL) PITH_TRY(small_width(r, &width));
    pith_task_figures figures;
    pith_prune_options o = schedule_of(r);
    training t = {.last_update = o.first_step + o.every * o.n_updates};
    pith_status status = pith_task_net_new(r->tasks, r->task, width, &t.net);
    if (status == PITH_OK && is_pruned) status = prune_network(t.net, &o, &t.prune);
    if (status == PITH_OK) status = train(r, &t);
    if (status == PITH_OK && t.prune) pith_prune_settle(t.prune);
    if (status == PITH_OK) status = pith_task_net_measure(t.net, &figures);
    if (status == PITH_OK) status = report(r, &t, width, &figures);
    pith_task_net_free(t.net);
    pith_prune_free(t.prune);
    return status;
}

/* What all rows share. */
typedef struct study {
    pith_run *run;
    pith_tasks *tasks;
} study;

static pith_status run_row(void *user, const char *name)
{
    const study *st = user;
    row r;
    PITH_TRY(parse_row(st->run, name, st->tasks, &r));
    return make_row(&r);
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    if (s->widths.n != PITH_N_TASKS) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: widths are three: of vgg, words and sort", run->card->file);
    pith_task_options o = {.images = s->images, .texts = s->texts, .n_images = s->n_images, .text_bytes = s->text_bytes, .vocabulary = s->vocabulary};
    pith_tasks *tasks;
    PITH_TRY(pith_tasks_new(run, &o, &tasks));
    pith_status status = pith_run_each(run, &s->runs, run_row, &(study){run, tasks});
    pith_tasks_free(tasks);
    return status;
}

const pith_procedure pith_procedure_gradual_pruning = {"gradual_pruning", keys, sizeof(settings), run};
