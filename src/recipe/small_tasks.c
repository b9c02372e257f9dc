/* Small tasks: images, words, sequences. */
#include "recipe/small_tasks.h"

#include <ctype.h>
#include <stdlib.h>

#define WINDOW 32                  /* words of a window */
#define N_SYMBOLS 16               /* sort: what sequences are made of */
#define MIN_LENGTH 4
#define MAX_LENGTH 10
#define SORT_HELD_OUT 512          /* sequences to measure on */

/* sort's tokens: symbols, then these. */
enum { REVERSE = N_SYMBOLS, SORT, BEGIN, END, N_TOKENS };
/* Streams of random numbers under the seed. */
enum { TRAINING, HELD_OUT };

struct pith_tasks {
    pith_run *run;
    pith_task_options o;
    size_t batch;
    pith_dataset *images[2];       /* train, test */
    size_t n_classes;
    int32_t *words[2];             /* [n_words] train, test */
    size_t n_words[2];
};

struct pith_task_net {
    pith_tasks *tasks;
    pith_task_kind kind;
    pith_tape *tape;
    pith_net *net, *decoder;       /* decoder: of sort */
    pith_var *head, *head_bias;    /* of sort: [N_TOKENS, 2 width], [N_TOKENS] */
    pith_loader *loader, *held_out;
    pith_net_replace_fn *replace;
    void *replace_user;
};

static const char *const task_names[PITH_N_TASKS] = {"vgg", "words", "sort"};

pith_task_kind pith_task_find(const char *name, size_t len)
{
    int k = 0;
    while (k < PITH_N_TASKS && (strlen(task_names[k]) != len || memcmp(task_names[k], name, len))) k++;
    return (pith_task_kind)k;
}

pith_status pith_tasks_new(pith_run *run, const pith_task_options *o, pith_tasks **tasks)
{
    pith_tasks *t = pith_calloc(run->ctx, 1, sizeof *t);
    if (!t) return PITH_E_MEMORY;
    *t = (pith_tasks){.run = run, .o = *o, .batch = run->card->train.batch};
    *tasks = t;
    return PITH_OK;
}

void pith_tasks_free(pith_tasks *t)
{
    if (!t) return;
    for (int i = 0; i < 2; i++) {
        pith_dataset_free(t->images[i]);
        pith_free(t->run->ctx, t->words[i]);
    }
    pith_free(t->run->ctx, t);
}

/* ---- images ----------------------------------------------------------------------------------- */

/* The class of an item is the first column of its label. */
static size_t label_columns(const pith_dataset *ds) { return pith_dataset_field(ds, "label")->n_values; }

static pith_status open_images(pith_tasks *t)
{
    if (t->images[1]) return PITH_OK;
    for (int i = 0; i < 2; i++) {
        pith_dataset_options o = {.n = i ? PITH_MAX(t->o.n_images / 5, 1) : t->o.n_images};
        if (!t->images[i]) PITH_TRY(pith_run_data(t->run, &t->o.images, i ? "test" : "train", &o, &t->images[i]));
        const pith_field *image = pith_dataset_field(t->images[i], "image"), *label = pith_dataset_field(t->images[i], "label");
        if (!image || image->n_dims != 3 || !label || label->type == PITH_FIELD_F32)
            return pith_fail(t->run->ctx, PITH_E_ARGUMENT, "the data set %s has no labelled images", t->images[i]->name);
        for (size_t k = 0; k < t->images[i]->n; k++) {
            const void *item = pith_field_item(label, k);
            int64_t class = label->type == PITH_FIELD_U8 ? *(const uint8_t *)item : *(const int32_t *)item;
            if (class < 0) return pith_fail(t->run->ctx, PITH_E_ARGUMENT, "item %zu of the data set %s has no label", k, t->images[i]->name);
            t->n_classes = PITH_MAX(t->n_classes, (size_t)class + 1);
        }
    }
    return PITH_OK;
}

static pith_status make_vgg(pith_task_net *n, size_t width)
{
    pith_tasks *t = n->tasks;
    PITH_TRY(open_images(t));
    const pith_field *f = pith_dataset_field(t->images[0], "image");
    char settings[160];
    snprintf(settings, sizeof settings, "{\"channels\": %zu, \"classes\": %zu, \"widths\": [%zu, %zu, %zu, %zu, %zu, %zu]}", f->dims[0], t->n_classes, width, width, 2 * width,
             2 * width, 4 * width, 4 * width);
    PITH_TRY(pith_net_new(n->tape, "vgg", settings, t->run->seed, &n->net));
    pith_loader_options o = {.batch = t->batch, .seed = t->run->seed, .input = "image", .target = "label", .shuffle = true};
    pith_field_moments(f, t->images[0]->n, o.mean, o.std);
    PITH_TRY(pith_loader_new(t->run->ctx, t->images[0], &o, &n->loader));
    o.shuffle = false;
    o.once = true;
    return pith_loader_new(t->run->ctx, t->images[1], &o, &n->held_out);
}

/* logits [rows, classes], and the labels of the rows. */
static pith_var *vgg_logits(pith_task_net *n, const pith_batch *b, const int32_t **label)
{
    const pith_field *f = pith_dataset_field(n->tasks->images[0], "image");
    size_t columns = label_columns(n->tasks->images[0]);
    int32_t *y = pith_op_attr(n->tape, b->n, sizeof *y);
    if (!y) return NULL;
    for (size_t i = 0; i < b->n; i++) y[i] = b->y[i * columns];
    *label = y;
    return pith_net_forward(n->net, pith_tape_input(n->tape, b->x, PITH_DIMS(b->n, f->dims[0], f->dims[1], f->dims[2])));
}

/* ---- words ------------------------------------------------------------------------------------ */

/* A word of a text: a run of letters in small letters, or another character that is no space. */
typedef struct word {
    const uint8_t *text;
    uint32_t len, count;
} word;

static size_t word_length(const uint8_t *text, size_t left)
{
    size_t n = 0;
    while (n < left && isalpha(text[n])) n++;
    return PITH_MAX(n, 1);
}

static int by_text(const void *a, const void *b)
{
    const word *x = a, *y = b;
    for (uint32_t i = 0; i < x->len && i < y->len; i++) {
        int c = tolower(x->text[i]) - tolower(y->text[i]);
        if (c) return c;
    }
    return (x->len > y->len) - (x->len < y->len);
}

static int by_count(const void *a, const void *b)
{
    const word *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : by_text(a, b);
}

/* The words of a text, [n] in order. */
static pith_status split(pith_ctx *ctx, const uint8_t *text, size_t len, word **words, size_t *n)
{
    size_t room = len + 1;
    word *w = pith_array(ctx, room, sizeof *w);
    if (!w) return PITH_E_MEMORY;
    *n = 0;
    for (size_t at = 0; at < len;) {
        if (isspace(text[at])) {
            at++;
            continue;
        }
        size_t step = word_length(text + at, len - at);
        w[(*n)++] = (word){text + at, (uint32_t)step, 1};
        at += step;
    }
    *words = w;
    return PITH_OK;
}

/* The most frequent words, by text; `words` [n] is used up.  @return how many there are, at most `most` */
static size_t most_frequent(word *words, size_t n, size_t most)
{
    size_t n_kinds = 0;
    qsort(words, n, sizeof *words, by_text);
    for (size_t i = 0; i < n; i++) {
        if (n_kinds && !by_text(&words[n_kinds - 1], &words[i])) words[n_kinds - 1].count++;
        else words[n_kinds++] = words[i];
    }
    qsort(words, n_kinds, sizeof *words, by_count);
    n_kinds = PITH_MIN(n_kinds, most);
    qsort(words, n_kinds, sizeof *words, by_text);
    return n_kinds;
}

/* Ids of a text's words: 1 + the place in the vocabulary, 0: unknown. */
static pith_status number_words(pith_tasks *t, int split_index, const pith_dataset *ds, const word *vocabulary, size_t n_vocabulary)
{
    word *words;
    size_t n;
    PITH_TRY(split(t->run->ctx, pith_dataset_field(ds, "text")->data, ds->n, &words, &n));
    int32_t *ids = pith_array(t->run->ctx, PITH_MAX(n, 1), sizeof *ids);
    for (size_t i = 0; i < n && ids; i++) {
        const word *found = bsearch(&words[i], vocabulary, n_vocabulary, sizeof *vocabulary, by_text);
        ids[i] = found ? (int32_t)(found - vocabulary) + 1 : 0;
    }
    t->words[split_index] = ids;
    t->n_words[split_index] = n;
    pith_free(t->run->ctx, words);
    return ids ? PITH_OK : PITH_E_MEMORY;
}

static pith_status open_text(pith_tasks *t, bool test, pith_dataset **ds)
{
    PITH_TRY(pith_run_data(t->run, &t->o.texts, test ? "test" : "train", &(pith_dataset_options){.n = test ? PITH_MAX(t->o.text_bytes / 5, 1) : t->o.text_bytes}, ds));
    const pith_field *f = pith_dataset_field(*ds, "text");
    if (f && f->type == PITH_FIELD_U8 && f->n_dims == 0) return PITH_OK;
    return pith_fail(t->run->ctx, PITH_E_ARGUMENT, "the data set %s has no text", (*ds)->name);
}

static pith_status open_words(pith_tasks *t)
{
    if (t->words[1]) return PITH_OK;
    pith_dataset *train = NULL, *test = NULL;
    word *vocabulary = NULL;
    size_t n = 0;
    pith_status status;
    PITH_GOTO(open_text(t, false, &train), done);
    PITH_GOTO(open_text(t, true, &test), done);
    PITH_GOTO(split(t->run->ctx, pith_dataset_field(train, "text")->data, train->n, &vocabulary, &n), done);
    n = most_frequent(vocabulary, n, t->o.vocabulary - 1);
    PITH_GOTO(number_words(t, 0, train, vocabulary, n), done);
    PITH_GOTO(number_words(t, 1, test, vocabulary, n), done);
done:
    pith_free(t->run->ctx, vocabulary);
    pith_dataset_free(train);
    pith_dataset_free(test);
    return status;
}

static pith_status make_words(pith_task_net *n, size_t width)
{
    pith_tasks *t = n->tasks;
    PITH_TRY(open_words(t));
    char settings[160];
    snprintf(settings, sizeof settings, "{\"cell\": \"lstm\", \"vocab\": %zu, \"in\": %zu, \"width\": %zu, \"layers\": 2, \"classes\": %zu}", t->o.vocabulary, width, width,
             t->o.vocabulary);
    PITH_TRY(pith_net_new(n->tape, "rnn", settings, t->run->seed, &n->net));
    pith_loader_options o = {.batch = t->batch, .seed = t->run->seed};
    PITH_TRY(pith_loader_windows(t->run->ctx, t->words[0], NULL, t->n_words[0], WINDOW, &o, &n->loader));
    o.once = true;
    return pith_loader_windows(t->run->ctx, t->words[1], NULL, t->n_words[1], WINDOW, &o, &n->held_out);
}

static pith_var *words_logits(pith_task_net *n, const pith_batch *b, const int32_t **label)
{
    int32_t *ids = pith_op_attr(n->tape, b->n * WINDOW, sizeof *ids), *y = pith_op_attr(n->tape, b->n * WINDOW, sizeof *y);
    if (!ids || !y) return NULL;
    for (size_t i = 0; i < b->n; i++) {
        memcpy(ids + i * WINDOW, b->ids + i * (WINDOW + 1), WINDOW * sizeof *ids);
        memcpy(y + i * WINDOW, b->ids + i * (WINDOW + 1) + 1, WINDOW * sizeof *y);
    }
    *label = y;
    return pith_net_run(n->net, &(pith_net_input){.ids = ids, .n = b->n, .len = WINDOW});
}

/* ---- sort ------------------------------------------------------------------------------------- */

static pith_status make_sort(pith_task_net *n, size_t width)
{
    uint64_t seed = n->tasks->run->seed;
    char settings[160];
    snprintf(settings, sizeof settings, "{\"cell\": \"gru\", \"vocab\": %d, \"in\": %zu, \"width\": %zu}", N_TOKENS, width, width);
    PITH_TRY(pith_net_new(n->tape, "rnn", settings, seed, &n->net));
    PITH_TRY(pith_net_new(n->tape, "rnn", settings, seed + ((uint64_t)1 << 32), &n->decoder));
    n->head = pith_tape_param(n->tape, "head.weight", PITH_DIMS(N_TOKENS, 2 * width));
    n->head_bias = pith_tape_param(n->tape, "head.bias", PITH_DIMS(N_TOKENS));
    if (!n->head || !n->head_bias) return pith_tape_status(n->tape);
    pith_rng rng = {seed, (uint64_t)1 << 32, 0};
    for (size_t i = 0; i < n->head->count; i++) n->head->data[i] = (2 * pith_rng_uniform(&rng) - 1) / __builtin_sqrtf(2 * (float)width);
    return PITH_OK;
}

static int ascending(const void *a, const void *b) { return *(const int32_t *)a - *(const int32_t *)b; }

/* Item `item` of a stream: source [MAX_LENGTH + 1] is the operation and the symbols, target [MAX_LENGTH + 1] the symbols
 * turned round or sorted, and END.  @return how many symbols */
static size_t draw_item(uint64_t seed, uint64_t stream, uint64_t item, int32_t *source, int32_t *target)
{
    pith_rng rng = {seed, stream, item << 16};
    size_t n = MIN_LENGTH + pith_rng_below(&rng, MAX_LENGTH - MIN_LENGTH + 1);
    bool sort = pith_rng_below(&rng, 2);
    source[0] = sort ? SORT : REVERSE;
    for (size_t i = 0; i < n; i++) target[n - 1 - i] = source[1 + i] = (int32_t)pith_rng_below(&rng, N_SYMBOLS);
    if (sort) qsort(target, n, sizeof *target, ascending);
    target[n] = END;
    return n;
}

/* Items from..from+count-1; the right symbols are fed to the decoder, each predicts the next. */
static pith_var *sort_logits(pith_task_net *n, uint64_t stream, uint64_t from, size_t count, const int32_t **label)
{
    enum { LEN = MAX_LENGTH + 1 };
    int32_t *source = pith_op_attr(n->tape, count * LEN, sizeof *source), *fed = pith_op_attr(n->tape, count * LEN, sizeof *fed);
    int32_t *y = pith_op_attr(n->tape, count * LEN, sizeof *y);
    if (!source || !fed || !y) return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t len = draw_item(n->tasks->run->seed, stream, from + i, source + i * LEN, y + i * LEN);
        for (size_t k = 1 + len; k < LEN; k++) source[i * LEN + k] = END, y[i * LEN + k] = PITH_NO_LABEL;
        fed[i * LEN] = BEGIN;
        for (size_t k = 1; k < LEN; k++) fed[i * LEN + k] = k <= len ? y[i * LEN + k - 1] : END;
    }
    *label = y;
    pith_var *memory = pith_net_run(n->net, &(pith_net_input){.ids = source, .n = count, .len = LEN});
    pith_var *state = pith_net_run(n->decoder, &(pith_net_input){.ids = fed, .n = count, .len = LEN});
    if (!memory || !state) return NULL;
    size_t width = state->dims[2];
    pith_var *keys = pith_var_reshape(memory, PITH_DIMS(count, 1, LEN, width));
    pith_var *seen = pith_var_attention(pith_var_reshape(state, PITH_DIMS(count, 1, LEN, width)), keys, keys, &(pith_attention){0});
    pith_var *both[2] = {state, pith_var_reshape(seen, PITH_DIMS(count, LEN, width))};
    pith_var *w = n->replace ? n->replace(n->replace_user, n->head->name, n->head) : n->head;
    return pith_var_linear(pith_var_concat(both, 2, -1), w, n->head_bias);
}

/* ---- networks --------------------------------------------------------------------------------- */

pith_status pith_task_net_new(pith_tasks *tasks, pith_task_kind kind, size_t width, pith_task_net **net)
{
    static pith_status (*const make[PITH_N_TASKS])(pith_task_net *, size_t) = {make_vgg, make_words, make_sort};
    pith_task_net *n = pith_calloc(tasks->run->ctx, 1, sizeof *n);
    if (!n) return PITH_E_MEMORY;
    *n = (pith_task_net){.tasks = tasks, .kind = kind};
    pith_status status = pith_tape_new(tasks->run->ctx, tasks->run->seed, &n->tape);
    if (status == PITH_OK) status = make[kind](n, width);
    if (status == PITH_OK) *net = n;
    else pith_task_net_free(n);
    return status;
}

void pith_task_net_free(pith_task_net *n)
{
    if (!n) return;
    pith_loader_free(n->loader);
    pith_loader_free(n->held_out);
    pith_net_free(n->net);
    pith_net_free(n->decoder);
    pith_tape_free(n->tape);
    pith_free(n->tasks->run->ctx, n);
}

pith_tape *pith_task_net_tape(const pith_task_net *n) { return n->tape; }

bool pith_task_net_prunes(const pith_task_net *n, const pith_var *param)
{
    size_t count;
    bool first = n->kind == PITH_TASK_VGG && param == pith_tape_params(n->tape, &count)[0];
    return param->n_dims >= 2 && !first;
}

void pith_task_net_replace(pith_task_net *n, pith_net_replace_fn *fn, void *user)
{
    n->replace = fn;
    n->replace_user = user;
    pith_net_replace(n->net, fn, user);
    if (n->decoder) pith_net_replace(n->decoder, fn, user);
}

static pith_var *logits(pith_task_net *n, const pith_batch *b, const int32_t **label)
{
    return n->kind == PITH_TASK_VGG ? vgg_logits(n, b, label) : words_logits(n, b, label);
}

pith_var *pith_task_net_logits(pith_task_net *n, uint64_t index, const int32_t **label, pith_status *status)
{
    pith_batch b;
    if (n->kind == PITH_TASK_SORT) return sort_logits(n, TRAINING, index * n->tasks->batch, n->tasks->batch, label);
    *status = pith_loader_batch(n->loader, index, &b);
    return *status == PITH_OK ? logits(n, &b, label) : NULL;
}

pith_var *pith_task_net_loss(pith_task_net *n, uint64_t index, pith_status *status)
{
    const int32_t *label = NULL;
    pith_var *x = pith_task_net_logits(n, index, &label, status);
    return x ? pith_var_cross_entropy(x, label) : NULL;
}

pith_status pith_task_net_copy(pith_task_net *dst, const pith_task_net *src)
{
    size_t n, n_src, n_buffers = 0;
    pith_var *const *to = pith_tape_params(dst->tape, &n), *const *from = pith_tape_params(src->tape, &n_src);
    const pith_net_buffer *b = pith_net_buffers(dst->net, &n_buffers), *c = pith_net_buffers(src->net, &n_buffers);
    bool alike = dst->kind == src->kind && n == n_src;
    for (size_t i = 0; i < n && alike; i++) alike = to[i]->count == from[i]->count;
    if (!alike) return pith_fail(dst->tasks->run->ctx, PITH_E_ARGUMENT, "a network of %s is copied to one of another task or width", task_names[src->kind]);
    for (size_t i = 0; i < n; i++) memcpy(to[i]->data, from[i]->data, to[i]->count * sizeof(float));
    for (size_t i = 0; i < n_buffers; i++) memcpy(b[i].data, c[i].data, b[i].n * sizeof(float));
    return PITH_OK;
}

/* Add a batch's figures, by row that counts. */
static pith_status add_figures(pith_task_net *n, pith_var *x, const int32_t *label, double *right, double *nats, double *rows)
{
    pith_var *loss = pith_var_cross_entropy(x, label);
    PITH_TRY(pith_tape_status(n->tape));
    size_t n_classes = x->dims[x->n_dims - 1], counted = 0;
    for (size_t i = 0; i < x->count / n_classes; i++) {
        *right += label[i] == (int32_t)pith_argmax(x->data + i * n_classes, n_classes);
        counted += label[i] != PITH_NO_LABEL;
    }
    *nats += (double)loss->data[0] * (double)counted;
    *rows += (double)counted;
    return PITH_OK;
}

pith_status pith_task_net_measure(pith_task_net *n, pith_task_figures *figures)
{
    double right = 0, nats = 0, rows = 0;
    uint64_t n_steps = n->kind == PITH_TASK_SORT ? 1 : pith_loader_steps(n->held_out);
    for (uint64_t step = 0; step < n_steps; step++) {
        const int32_t *label = NULL;
        pith_batch b;
        PITH_TRY(pith_progress(n->tasks->run->ctx, "measuring", step, n_steps));
        if (n->held_out) PITH_TRY(pith_loader_batch(n->held_out, step, &b));
        pith_tape_step(n->tape, step);
        pith_tape_record(n->tape, false);
        pith_var *x = n->held_out ? logits(n, &b, &label) : sort_logits(n, HELD_OUT, 0, SORT_HELD_OUT, &label);
        if (!x) return pith_tape_status(n->tape);
        PITH_TRY(add_figures(n, x, label, &right, &nats, &rows));
    }
    *figures = (pith_task_figures){.accuracy = right / rows, .loss = nats / rows};
    return PITH_OK;
}
