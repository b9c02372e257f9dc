/* Problems, and the loop in which their workers train. */
#include "recipe/grads/problems.h"

#include <math.h>

#include "format/settings.h"
#include "model/llama_folder.h"
#include "model/llama_tape.h"
#include "recipe/labelled.h"
#include "recipe/train_card.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"

const pith_key pith_problem_keys[] = {
    {"data", PITH_KEY_NAMES, offsetof(pith_problem_settings, data), .required = true, .help = "data sets; the first that is there is used"},
    {"n_workers", PITH_KEY_COUNT, offsetof(pith_problem_settings, n_workers), .required = true, .min = 1, .max = 1024, .help = "simulated here"},
    {"batch", PITH_KEY_COUNT, offsetof(pith_problem_settings, batch), .required = true, .min = 1, .max = 65536, .help = "items of a worker and step"},
    {"items", PITH_KEY_COUNT, offsetof(pith_problem_settings, items), .required = true, .min = 1, .max = 1e9, .help = "images or tokens to train on, where the data has as many"},
    {"held_out", PITH_KEY_COUNT, offsetof(pith_problem_settings, held_out), .required = true, .min = 1, .max = 1e8, .help = "to measure on"},
    {"sorted", PITH_KEY_FLAG, offsetof(pith_problem_settings, sorted), .help = "images are shared out by label"},
    {"net", PITH_KEY_TEXT, offsetof(pith_problem_settings, net), .help = "of a cnn: resnet20"},
    {"net_settings", PITH_KEY_TEXT, offsetof(pith_problem_settings, net_settings), .help = "JSON object of settings that differ"},
    {"vocabulary", PITH_KEY_COUNT, offsetof(pith_problem_settings, vocabulary), .min = 300, .max = 1e6, .help = "of a language model: tokens, learned from the text"},
    {"context", PITH_KEY_COUNT, offsetof(pith_problem_settings, context), .min = 8, .max = 65536, .help = "tokens of an item"},
    {"layers", PITH_KEY_COUNT, offsetof(pith_problem_settings, layers), .min = 1, .max = 1000, .help = "of a language model"},
    {"width", PITH_KEY_COUNT, offsetof(pith_problem_settings, width), .min = 8, .max = 65536, .help = "of its states"},
    {"heads", PITH_KEY_COUNT, offsetof(pith_problem_settings, heads), .min = 2, .max = 1024, .help = "of its attention, an even number; half as many of keys and values"},
    {"ffn", PITH_KEY_COUNT, offsetof(pith_problem_settings, ffn), .min = 8, .max = 1 << 20, .help = "width within its feed-forward layers"},
    {"steps", PITH_KEY_STEPS, offsetof(pith_problem_settings, steps), .required = true, .min = 1, .max = 1e9, .help = "of training"},
    {"rate", PITH_KEY_NUMBER, offsetof(pith_problem_settings, rate), .required = true, .min = 1e-7, .max = 100, .help = "of learning, unless the card tries several"},
    {"momentum", PITH_KEY_NUMBER, offsetof(pith_problem_settings, momentum), .max = 0.9999, .help = "of SGD, or AdamW's beta1; after decoding"},
    {"decay", PITH_KEY_NUMBER, offsetof(pith_problem_settings, decay), .max = 1, .help = "of matrices and kernels; after decoding"},
    {"clip", PITH_KEY_NUMBER, offsetof(pith_problem_settings, clip), .max = 1e6, .help = "length of the step's gradients together; after decoding"},
    {"cosine", PITH_KEY_FLAG, offsetof(pith_problem_settings, cosine), .help = "the rate falls to 0"},
    {0},
};

const pith_link pith_problem_link = {50e-6, 125e6};

struct pith_problem {
    pith_run *run;
    pith_ctx *ctx;
    pith_problem_kind kind;
    const pith_problem_settings *s;
    size_t n;                      /* workers */
    pith_dataset *train, *test;
    pith_dataset **parts;          /* [n] images of each */
    pith_loader **loaders, *held_out; /* [n] */
    pith_labelled common;          /* of images */
    pith_arena *arena;             /* of the vocabulary */
    pith_vocab vocab;
    pith_ids ids, test_ids;        /* of text */
};

/* A network of one way, on a tape of its own. */
typedef struct subject {
    pith_problem *p;
    pith_tape *tape;
    pith_net *net;                 /* cnn */
    pith_llama *llama;             /* lm */
    pith_var *w, *bias;            /* logreg [classes, pixels], [classes] */
    pith_group *group;
    pith_exchange *exchange;
    pith_optimizer *optimizer;
} subject;

/* ---- images ----------------------------------------------------------------------------------- */

/* Items in the order in which workers get them: worker w has those from w n_items / n on. */
static pith_status order_items(const pith_problem *p, size_t *order)
{
    size_t n = p->train->n, at = 0;
    for (size_t w = 0; w < p->n && !p->s->sorted; w++)
        for (size_t i = w; i < n; i += p->n) order[at++] = i;
    for (size_t c = 0; c < p->common.n_classes && p->s->sorted; c++)
        for (size_t i = 0; i < n; i++)
            if (pith_labelled_class(p->train, i) == (int64_t)c) order[at++] = i;
    return at == n ? PITH_OK : pith_fail(p->ctx, PITH_E_INTERNAL, "%zu of %zu items were shared out", at, n);
}

static pith_status share_images(pith_problem *p)
{
    PITH_TRY(pith_labelled_open(p->run, &p->s->data, false, p->s->items, &p->common, &p->train));
    PITH_TRY(pith_labelled_open(p->run, &p->s->data, true, p->s->held_out, &p->common, &p->test));
    size_t n = p->train->n;
    if (n < p->n) return pith_fail(p->ctx, PITH_E_ARGUMENT, "%zu images are too few for %zu workers", n, p->n);
    size_t *order = pith_array(p->ctx, n, sizeof *order);
    if (!order) return PITH_E_MEMORY;
    bool cnn = p->kind == PITH_PROBLEM_CNN;
    pith_loader_options o = {.batch = p->s->batch, .seed = p->run->seed, .input = "image", .target = "label", .shuffle = true, .flip = cnn, .crop = cnn ? 4 : 0, .no_thread = true};
    pith_field_moments(pith_dataset_field(p->train, "image"), n, o.mean, o.std);
    pith_status status = order_items(p, order);
    for (size_t w = 0; w < p->n && status == PITH_OK; w++) {
        size_t from = w * n / p->n, to = (w + 1) * n / p->n;
        status = pith_dataset_pick(p->train, order + from, to - from, &p->parts[w]);
        o.seed = p->run->seed * 65536 + w;
        if (status == PITH_OK) status = pith_loader_new(p->ctx, p->parts[w], &o, &p->loaders[w]);
    }
    pith_free(p->ctx, order);
    PITH_TRY(status);
    o.batch = 128, o.once = true, o.shuffle = o.flip = false, o.crop = 0;
    return pith_loader_new(p->ctx, p->test, &o, &p->held_out);
}

/* Logits of a batch of images, and its classes until the step ends. */
static pith_var *image_logits(subject *s, const pith_batch *b, const int32_t **class)
{
    const pith_problem *p = s->p;
    int32_t *y = pith_op_attr(s->tape, b->n, sizeof *y);
    if (!y) return NULL;
    for (size_t i = 0; i < b->n; i++) y[i] = b->y[i * p->common.n_columns];
    *class = y;
    size_t pixels = p->common.dims[0] * p->common.dims[1] * p->common.dims[2];
    if (p->kind == PITH_PROBLEM_LOGREG) return pith_var_linear(pith_tape_input(s->tape, b->x, PITH_DIMS(b->n, pixels)), s->w, s->bias);
    return pith_net_forward(s->net, pith_tape_input(s->tape, b->x, PITH_DIMS(b->n, p->common.dims[0], p->common.dims[1], p->common.dims[2])));
}

/* Each block begins as the identity. */
static void begin_as_identity(pith_tape *tape)
{
    size_t n;
    pith_var *const *params = pith_tape_params(tape, &n);
    for (size_t i = 0; i < n; i++) {
        const char *end = strstr(params[i]->name, ".bn2.weight");
        if (end && !end[strlen(".bn2.weight")]) memset(params[i]->data, 0, params[i]->count * sizeof(float));
    }
}

static pith_status make_image_net(subject *s)
{
    const pith_problem *p = s->p;
    char usual[128];
    if (p->kind == PITH_PROBLEM_LOGREG) {
        s->w = pith_tape_param(s->tape, "weight", PITH_DIMS(p->common.n_classes, p->common.dims[0] * p->common.dims[1] * p->common.dims[2]));
        s->bias = pith_tape_param(s->tape, "bias", PITH_DIMS(p->common.n_classes));
        return s->w && s->bias ? PITH_OK : PITH_E_MEMORY;
    }
    snprintf(usual, sizeof usual, "{\"channels\": %zu, \"classes\": %zu}", p->common.dims[0], p->common.n_classes);
    PITH_TRY(pith_run_net(p->run, s->tape, p->s->net ? p->s->net : "resnet20", p->s->net_settings, usual, &s->net));
    pith_net_freeze(s->net, p->s->sorted);
    if (p->s->sorted) begin_as_identity(s->tape);
    return PITH_OK;
}

/* ---- text ------------------------------------------------------------------------------------- */

#define VOCABULARY_BYTES ((size_t)4 << 20) /* of text that the vocabulary is learned from: enough for a few thousand tokens, and merging takes time in proportion */

/* Tokens of a text until there are `wanted`, in pieces of bytes that need no more than that. */
static pith_status tokenize(pith_problem *p, const pith_tokenizer *tok, const pith_dataset *ds, size_t wanted, pith_ids *ids)
{
    const char *text = pith_dataset_field(ds, "text")->data;
    size_t piece = 65536;
    for (size_t at = 0; at < ds->n && ids->n < wanted; at += piece) {
        PITH_TRY(pith_tokenize(p->ctx, tok, text + at, PITH_MIN(piece, ds->n - at), PITH_TOKENIZE_PLAIN, ids));
        PITH_TRY(pith_progress(p->ctx, "tokenizing", ids->n, wanted));
    }
    ids->n = PITH_MIN(ids->n, wanted);
    if (ids->n < wanted) return pith_run_note(p->run, "of %zu tokens asked for the text has %zu", wanted, ids->n);
    return PITH_OK;
}

static pith_status open_text(pith_problem *p, bool test, pith_dataset **ds)
{
    PITH_TRY(pith_run_data(p->run, &p->s->data, test ? "test" : "train", &(pith_dataset_options){.quick = p->run->quick}, ds));
    const pith_field *text = pith_dataset_field(*ds, "text");
    if (text && text->type == PITH_FIELD_U8 && text->n_values == 1) return PITH_OK;
    return pith_fail(p->ctx, PITH_E_ARGUMENT, "%s: the data set %s is no text in one piece; name another", p->run->card->file, (*ds)->name);
}

static pith_status share_text(pith_problem *p)
{
    static const char *const controls[] = {"<|endoftext|>"};
    const pith_problem_settings *s = p->s;
    if (!s->vocabulary || !s->context || !s->layers || !s->width || !s->heads || !s->ffn)
        return pith_fail(p->ctx, PITH_E_ARGUMENT, "%s: a language model needs vocabulary, context, layers, width, heads and ffn", p->run->card->file);
    PITH_TRY(open_text(p, false, &p->train));
    PITH_TRY(open_text(p, true, &p->test));
    if (!(p->arena = pith_arena_new(p->ctx))) return PITH_E_MEMORY;
    pith_str text = {pith_dataset_field(p->train, "text")->data, PITH_MIN(p->train->n, VOCABULARY_BYTES)};
    pith_bpe_options bpe = {.n_tokens = s->vocabulary, .pre = "smollm", .controls = controls, .n_controls = 1};
    PITH_TRY(pith_bpe_train(p->ctx, p->arena, &text, 1, &bpe, &p->vocab));
    pith_tokenizer *tok;
    PITH_TRY(pith_tokenizer_new(p->ctx, &p->vocab, &tok));
    pith_status status = tokenize(p, tok, p->train, s->items, &p->ids);
    if (status == PITH_OK) status = tokenize(p, tok, p->test, s->held_out, &p->test_ids);
    pith_tokenizer_free(p->ctx, tok);
    PITH_TRY(status);
    pith_loader_options o = {.batch = s->batch, .no_thread = true};
    for (size_t w = 0; w < p->n; w++) {
        size_t from = w * p->ids.n / p->n, to = (w + 1) * p->ids.n / p->n;
        o.seed = p->run->seed * 65536 + w;
        PITH_TRY(pith_loader_windows(p->ctx, p->ids.ids + from, NULL, to - from, s->context, &o, &p->loaders[w]));
    }
    o = (pith_loader_options){.batch = s->batch, .once = true, .no_thread = true};
    return pith_loader_windows(p->ctx, p->test_ids.ids, NULL, p->test_ids.n, s->context, &o, &p->held_out);
}

static pith_var *text_logits(subject *s, const pith_batch *b, const int32_t **next)
{
    size_t len = s->p->s->context;
    int32_t *ids = pith_op_attr(s->tape, b->n * len, sizeof *ids), *y = pith_op_attr(s->tape, b->n * len, sizeof *y);
    if (!ids || !y) return NULL;
    for (size_t i = 0; i < b->n; i++) {
        memcpy(ids + i * len, b->ids + i * (len + 1), len * sizeof *ids);
        memcpy(y + i * len, b->ids + i * (len + 1) + 1, len * sizeof *y);
    }
    *next = y;
    return pith_llama_record(s->tape, s->llama, ids, b->n, len, false);
}

static pith_status make_llama(subject *s)
{
    const pith_problem_settings *o = s->p->s;
    pith_settings shape = pith_llama_settings((uint32_t)o->layers, (uint32_t)o->width, (uint32_t)o->heads, (uint32_t)(o->heads / 2), (uint32_t)o->ffn, (uint32_t)o->context,
                                              (uint32_t)s->p->vocab.n_tokens, true);
    PITH_TRY(pith_llama_fresh(s->p->ctx, &shape, s->p->run->seed, &s->llama));
    return pith_llama_train(s->p->ctx, s->llama, s->tape, NULL);
}

/* ---- problems --------------------------------------------------------------------------------- */

pith_status pith_problem_new(pith_run *run, pith_problem_kind kind, const pith_problem_settings *s, pith_problem **out)
{
    pith_problem *p = pith_calloc(run->ctx, 1, sizeof *p);
    if (!p) return PITH_E_MEMORY;
    *p = (pith_problem){.run = run, .ctx = run->ctx, .kind = kind, .s = s, .n = s->n_workers};
    p->parts = pith_calloc(p->ctx, p->n, sizeof *p->parts);
    p->loaders = pith_calloc(p->ctx, p->n, sizeof *p->loaders);
    pith_status status = !p->parts || !p->loaders ? PITH_E_MEMORY : kind == PITH_PROBLEM_LM ? share_text(p) : share_images(p);
    if (status == PITH_OK) *out = p;
    else pith_problem_free(p);
    return status;
}

void pith_problem_free(pith_problem *p)
{
    if (!p) return;
    for (size_t w = 0; w < p->n; w++) {
        if (p->loaders) pith_loader_free(p->loaders[w]);
        if (p->parts) pith_dataset_free(p->parts[w]);
    }
    pith_loader_free(p->held_out);
    pith_free(p->ctx, p->loaders);
    pith_free(p->ctx, p->parts);
    pith_ids_free(p->ctx, &p->ids);
    pith_ids_free(p->ctx, &p->test_ids);
    pith_arena_free(p->arena);
    pith_dataset_free(p->train);
    pith_dataset_free(p->test);
    pith_free(p->ctx, p);
}

/* ---- subjects --------------------------------------------------------------------------------- */

static pith_var *logits(subject *s, const pith_batch *b, const int32_t **label)
{
    return s->p->kind == PITH_PROBLEM_LM ? text_logits(s, b, label) : image_logits(s, b, label);
}

static pith_status subject_make(subject *s, const pith_way *way)
{
    pith_problem *p = s->p;
    const pith_problem_settings *o = p->s;
    pith_channel_options channel = way->channel;
    channel.seed = p->run->seed;
    PITH_TRY(pith_tape_new(p->ctx, p->run->seed, &s->tape));
    PITH_TRY(p->kind == PITH_PROBLEM_LM ? make_llama(s) : make_image_net(s));
    PITH_TRY(pith_group_new(p->ctx, p->n, &s->group));
    PITH_TRY(pith_exchange_new(s->group, s->tape, &channel, &s->exchange));
    pith_optimizer_options optimizer = {.kind = PITH_SGD, .momentum = (float)o->momentum, .weight_decay = (float)o->decay, .clip_norm = (float)o->clip};
    if (p->kind == PITH_PROBLEM_LM) {
        optimizer.kind = PITH_ADAMW;
        optimizer.beta1 = optimizer.momentum;
        optimizer.beta2 = 0.95f;
        optimizer.eps = 1e-8f;
    }
    PITH_TRY(pith_optimizer_new(s->tape, &optimizer, &s->optimizer));
    size_t n;
    pith_var *const *params = pith_tape_params(s->tape, &n);
    for (size_t i = 0; i < n; i++)
        if (params[i]->n_dims < 2) pith_optimizer_group(s->optimizer, &params[i], 1, 0, 1);
    return PITH_OK;
}

static void subject_free(subject *s)
{
    pith_optimizer_free(s->optimizer);
    pith_exchange_free(s->exchange);
    pith_group_free(s->group);
    pith_net_free(s->net);
    pith_llama_free(s->p->ctx, s->llama);
    pith_tape_free(s->tape);
}

/* Sums over batches that are measured. */
typedef struct sums {
    double loss, right, rows;
} sums;

static pith_status add_batch(subject *s, const pith_batch *b, sums *t)
{
    const int32_t *label = NULL;
    pith_scope scope = pith_scope_begin(s->tape);
    pith_var *x = logits(s, b, &label), *loss = x ? pith_var_cross_entropy(x, label) : NULL;
    if (!loss) return pith_tape_status(s->tape);
    size_t rows = x->count / x->dims[x->n_dims - 1];
    t->right += (double)pith_labelled_right(x, label);
    t->loss += (double)loss->data[0] * (double)rows;
    t->rows += (double)rows;
    pith_scope_end(s->tape, scope, NULL, 0);
    return PITH_OK;
}

static pith_status measure(subject *s, pith_way_result *r)
{
    const pith_problem *p = s->p;
    sums held_out = {0}, trained = {0};
    pith_batch b;
    pith_tape_step(s->tape, UINT64_MAX); /* random numbers of no training step */
    pith_tape_record(s->tape, false);
    for (uint64_t i = 0; i < pith_loader_steps(p->held_out); i++) {
        PITH_TRY(pith_loader_batch(p->held_out, i, &b));
        PITH_TRY(add_batch(s, &b, &held_out));
    }
    for (size_t w = 0; w < p->n && p->kind == PITH_PROBLEM_LOGREG; w++)
        for (uint64_t i = 0; i < pith_loader_steps(p->loaders[w]); i++) {
            PITH_TRY(pith_loader_batch(p->loaders[w], i, &b));
            PITH_TRY(add_batch(s, &b, &trained));
        }
    r->accuracy = held_out.right / held_out.rows;
    r->loss = held_out.loss / held_out.rows;
    if (trained.rows > 0) r->train_loss = trained.loss / trained.rows;
    return PITH_OK;
}

/* ---- training --------------------------------------------------------------------------------- */

/* Every worker's loss and gradients; -> their mean loss. */
static pith_status pass(subject *s, uint64_t step, double *loss)
{
    const pith_problem *p = s->p;
    *loss = 0;
    for (size_t w = 0; w < p->n; w++) {
        pith_batch b;
        const int32_t *label = NULL;
        PITH_TRY(pith_loader_batch(p->loaders[w], step, &b));
        pith_tape_step(s->tape, step * p->n + w);
        pith_var *x = logits(s, &b, &label), *l = x ? pith_var_cross_entropy(x, label) : NULL;
        if (!l) return pith_tape_status(s->tape);
        *loss += (double)l->data[0] / (double)p->n;
        PITH_TRY(pith_backward(s->tape, l, 0));
        PITH_TRY(pith_exchange_take(s->exchange, w));
    }
    return PITH_OK;
}

static pith_status train(subject *s, const pith_way *way, pith_way_result *r)
{
    const pith_problem_settings *o = s->p->s;
    pith_schedule schedule = {.kind = o->cosine ? PITH_RATE_COSINE : PITH_RATE_CONSTANT, .rate = (float)(way->rate > 0 ? way->rate : o->rate), .n_steps = o->steps};
    uint64_t tail = PITH_MAX(o->steps / 10, (uint64_t)1);
    for (uint64_t step = 0; step < o->steps; step++) {
        double loss, start = pith_now_s();
        PITH_TRY(pith_progress(s->p->ctx, "training", step, o->steps));
        if (way->before) PITH_TRY(way->before(way->user, s->exchange, step));
        double passes = pith_now_s();
        PITH_TRY(pass(s, step, &loss));
        double codes = pith_now_s();
        PITH_TRY(pith_exchange_step(s->exchange, step));
        double end = pith_now_s();
        r->code_s += passes - start + end - codes;
        r->compute_s += codes - passes;
        if (step >= o->steps - tail) r->train_loss += loss / (double)tail;
        PITH_TRY(pith_optimizer_step(s->optimizer, pith_schedule_rate(&schedule, step)));
    }
    return way->before ? way->before(way->user, s->exchange, o->steps) : PITH_OK;
}

pith_status pith_problem_train(pith_problem *p, const pith_way *way, pith_way_result *r)
{
    subject s = {.p = p};
    *r = (pith_way_result){0};
    pith_status status = subject_make(&s, way);
    if (status == PITH_OK) status = train(&s, way, r);
    if (status == PITH_OK) status = measure(&s, r);
    if (status == PITH_E_NONFINITE || (status == PITH_OK && !(r->loss < PITH_DIVERGED && r->train_loss < PITH_DIVERGED))) {
        pith_log(p->ctx, PITH_LOG_INFO, "%s: diverged at rate %g", p->run->card->id, way->rate > 0 ? way->rate : p->s->rate);
        r->diverged = true;
        r->accuracy = 0;
        r->loss = r->train_loss = PITH_DIVERGED;
        status = PITH_OK;
    }
    if (status == PITH_OK) {
        const pith_traffic *t = pith_group_traffic(s.group);
        r->bytes = pith_traffic_sent(t, p->n);
        r->exchanges = (double)(t->n_sums + t->n_gathers);
        r->link_s = pith_link_seconds(&pith_problem_link, p->n, t);
    }
    subject_free(&s);
    return status;
}
