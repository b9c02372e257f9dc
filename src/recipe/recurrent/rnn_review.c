/* rnn-review: the models that a review of recurrent networks names, trained by its methods on tasks that ask for memory, all of
 * about the parameters of one LSTM; and what stands beside them.  After arXiv:1506.00019.
 *
 * `runs` says which rows are measured at which task.  A row is a kind of reader (recipe/recurrent/sequence_readers.h), or lstm_recent (LSTM learning
 * from the last steps alone), lstm_free (LSTM that is fed its own symbols while it learns), ngram, hmm; of the task `gradient`
 * tanh_05, tanh_10, tanh_15 (tanh cells of spectral radius 0.5, 1, 1.5), lstm, lstm_bias0, lstm_1997. */
#include <math.h>

#include "eval/bleu.h"
#include "eval/lag.h"
#include "eval/ngram.h"
#include "recipe/recurrent/reversal.h"
#include "recipe/train_card.h"

typedef struct step_counts {
    uint64_t adding, order, count, text, marks, strokes, reversal;
} step_counts;

typedef struct settings {
    pith_pairs runs;
    pith_names texts;
    uint64_t n_train, n_test, width, window, recent, draws;
    uint64_t text_bytes, text_window, text_width;
    double ridge, text_rate;
    step_counts steps;
} settings;

#define STEPS(name_) {#name_, PITH_KEY_STEPS, offsetof(step_counts, name_), .required = true, .min = 1, .max = 1e7, .help = "of this task"}
static const pith_key step_keys[] = {STEPS(adding), STEPS(order), STEPS(count), STEPS(text), STEPS(marks), STEPS(strokes), STEPS(reversal), {0}};

static const pith_key keys[] = {
    {"runs", PITH_KEY_PAIRS, offsetof(settings, runs), .required = true, .help = "for each task the rows that are measured, with spaces between: gradient, adding_50, adding_100, adding_200, order_50, order_100, count, text, marks, strokes, bleu"},
    {"texts", PITH_KEY_NAMES, offsetof(settings, texts), .required = true, .help = "data sets of text, the first that is there"},
    {"n_train", PITH_KEY_COUNT, offsetof(settings, n_train), .required = true, .min = 1, .max = 1e7, .help = "sequences to train on"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 1, .max = 1e7, .help = "sequences to measure on"},
    {"width", PITH_KEY_COUNT, offsetof(settings, width), .required = true, .min = 2, .max = 1024, .help = "of the LSTM whose parameters all others have about as many of"},
    {"window", PITH_KEY_COUNT, offsetof(settings, window), .required = true, .min = 1, .max = 1000, .help = "steps that the network without state sees"},
    {"recent", PITH_KEY_COUNT, offsetof(settings, recent), .required = true, .min = 1, .max = 1000, .help = "steps that truncated backpropagation goes through"},
    {"text_bytes", PITH_KEY_COUNT, offsetof(settings, text_bytes), .required = true, .min = 1000, .max = 1e8, .help = "of text to train on; a tenth of it to measure on"},
    {"text_window", PITH_KEY_COUNT, offsetof(settings, text_window), .required = true, .min = 8, .max = 4096, .help = "characters of a training window; four times as many of a measured one"},
    {"text_width", PITH_KEY_COUNT, offsetof(settings, text_width), .required = true, .min = 2, .max = 112, .help = "width, for text; of a wider one some readers do not have the parameters"},
    {"text_rate", PITH_KEY_NUMBER, offsetof(settings, text_rate), .required = true, .min = 1e-8, .max = 10, .help = "of learning text, in place of the card's; it falls to a hundredth by a cosine"},
    {"draws", PITH_KEY_COUNT, offsetof(settings, draws), .required = true, .min = 1, .max = 1000, .help = "networks drawn for the task gradient"},
    {"ridge", PITH_KEY_NUMBER, offsetof(settings, ridge), .required = true, .min = 1e-12, .max = 1e6, .help = "of the echo state network's read-out"},
    {"steps", PITH_KEY_GROUP, offsetof(settings, steps), .required = true, .fields = step_keys, .help = "training steps by task"},
    {0},
};

typedef enum task_kind { GRADIENT, SUM /* of a sequence */, LABEL /* of a sequence */, NEXT /* a symbol at each step that asks */, TEXT, REVERSAL } task_kind;

typedef struct task {
    const char *name, *data;       /* name: also the measure's */
    task_kind kind;
    size_t length, longer;         /* of sequences; longer ones are measured too, as <name>_long; 0: none */
    size_t steps;                  /* offset in step_counts */
    bool whole;                    /* NEXT: a sequence is right when all of it is; else symbols are counted */
    bool centred;                  /* a window without state sees both sides */
    bool timed;                    /* when it was learned is measured, and how many parameters there are */
} task;

static const task tasks[] = {
    {"gradient", .kind = GRADIENT},
    {"adding_50", "adding", SUM, .length = 50, .steps = offsetof(step_counts, adding)},
    {"adding_100", "adding", SUM, .length = 100, .steps = offsetof(step_counts, adding), .timed = true},
    {"adding_200", "adding", SUM, .length = 200, .steps = offsetof(step_counts, adding)},
    {"order_50", "order", LABEL, .length = 50, .steps = offsetof(step_counts, order)},
    {"order_100", "order", LABEL, .length = 100, .steps = offsetof(step_counts, order)},
    {"count", "count", NEXT, .length = 21, .longer = 41, .steps = offsetof(step_counts, count), .whole = true},
    {"text", .kind = TEXT, .steps = offsetof(step_counts, text)},
    {"marks", "marks", NEXT, .length = 50, .steps = offsetof(step_counts, marks), .centred = true},
    {"strokes", "strokes", LABEL, .length = 40, .steps = offsetof(step_counts, strokes)},
    {"bleu", "reverse", REVERSAL, .length = 21, .steps = offsetof(step_counts, reversal)},
};

enum { TRAIN, TEST, LONGER, N_SETS, TEST_BATCH = 100, EVALUATIONS = 100 };
#define LEARNED 0.05               /* a squared error of the adding task that counts as learned */

/* ---- a task's data ---------------------------------------------------------------------------- */

typedef struct task_data {
    pith_run *run;
    const settings *s;
    const task *task;
    uint64_t n_steps;
    size_t width;                  /* of the LSTM that all follow */
    pith_dataset *sets[N_SETS];    /* NULL: text */
    uint8_t *text[2];              /* [n_text] symbols, train and test */
    size_t n_text[2];
    size_t n_symbols;              /* that tokens can be; 0: the input is numbers */
    size_t n_in, n_out;
} task_data;

static void close_task_data(task_data *d)
{
    for (int i = 0; i < N_SETS; i++) pith_dataset_free(d->sets[i]);
    for (int i = 0; i < 2; i++) pith_free(d->run->ctx, d->text[i]);
}

/* Characters of the training text as symbols, by their bytes; 0 is any other. */
static pith_status open_text(task_data *d)
{
    uint8_t symbol[256] = {0};
    d->n_symbols = 1;
    for (int i = 0; i < 2; i++) {
        pith_dataset *ds;
        size_t most = i ? d->s->text_bytes / 10 : d->s->text_bytes;
        PITH_TRY(pith_run_data(d->run, &d->s->texts, i ? "test" : "train", &(pith_dataset_options){.quick = d->run->quick}, &ds));
        const pith_field *f = pith_dataset_field(ds, "text");
        const uint8_t *bytes = f ? f->data : NULL;
        bool is_text = f && f->type == PITH_FIELD_U8;
        size_t n = is_text ? ds->n * f->n_values : 0;
        d->text[i] = is_text ? pith_alloc(d->run->ctx, most) : NULL;
        for (size_t k = 0; d->text[i] && k < n && d->n_text[i] < most; k++) {
            if (!bytes[k]) continue; /* after a short text */
            if (i == TRAIN && !symbol[bytes[k]] && d->n_symbols < 255) symbol[bytes[k]] = (uint8_t)d->n_symbols++;
            d->text[i][d->n_text[i]++] = symbol[bytes[k]];
        }
        pith_status status = d->text[i] ? PITH_OK : is_text ? PITH_E_MEMORY : pith_fail(d->run->ctx, PITH_E_ARGUMENT, "the data set %s has no text", ds->name);
        pith_dataset_free(ds);
        PITH_TRY(status);
    }
    d->n_in = d->n_out = d->n_symbols;
    return PITH_OK;
}

static pith_status open_task_data(pith_run *run, const task *t, task_data *d)
{
    const settings *s = run->card->settings;
    *d = (task_data){.run = run, .s = s, .task = t, .n_steps = *(const uint64_t *)((const char *)&s->steps + t->steps), .width = t->kind == TEXT ? s->text_width : s->width};
    if (t->kind == GRADIENT) return PITH_OK;
    if (t->kind == TEXT) return open_text(d);
    const char *name = t->data;
    for (int i = 0; i < N_SETS; i++) {
        pith_dataset_options o = {.n = i == TRAIN ? s->n_train : s->n_test, .length = i == LONGER ? t->longer : t->length};
        if (o.length) PITH_TRY(pith_run_data(run, &(pith_names){1, &name}, i == TRAIN ? "train" : "test", &o, &d->sets[i]));
    }
    const pith_field *input = &d->sets[TRAIN]->fields[0], *answer = &d->sets[TRAIN]->fields[1];
    d->n_symbols = input->type == PITH_FIELD_F32 ? 0 : t->kind == REVERSAL ? PITH_REVERSAL_SYMBOLS : input->n_names;
    d->n_in = d->n_symbols ? d->n_symbols : input->dims[1];
    d->n_out = t->kind == SUM ? 1 : t->kind == LABEL ? answer->n_names : t->centred ? 4 : d->n_symbols; /* marks: a tag */
    return PITH_OK;
}

static pith_status open_loader(const task_data *d, int set, pith_loader **loader)
{
    pith_loader_options o = {.batch = set == TRAIN ? d->run->card->train.batch : TEST_BATCH, .seed = d->run->seed, .shuffle = set == TRAIN, .once = set != TRAIN};
    if (d->task->kind == TEXT) {
        size_t window = d->s->text_window * (set == TRAIN ? 1 : 4);
        o.shuffle = false;
        return pith_loader_windows(d->run->ctx, NULL, d->text[set], d->n_text[set], window, &o, loader);
    }
    o.input = d->sets[set]->fields[0].name;
    o.target = d->sets[set]->fields[1].name;
    return pith_loader_new(d->run->ctx, d->sets[set], &o, loader);
}

/* ---- a network at a task ----------------------------------------------------------------------- */

typedef struct learner {
    const task_data *data;
    pith_tape *tape;
    pith_reader *reader;
    pith_reversal reversal;        /* of that task, in place of the reader */
    pith_loader *loader;           /* while it trains */
    size_t recent;                 /* steps that it learns from; 0: all */
    bool fed_its_own;              /* reversal: while it learns */
    uint64_t learned_at;           /* step; 0: not yet */
} learner;

typedef struct batch {
    size_t n, len;
    pith_var *x;                   /* [n, len, n_in] */
    const float *sum;              /* SUM: [n] */
    const int32_t *tokens;         /* REVERSAL: [n, len], the loader's */
    int32_t *label;                /* LABEL: [n]; NEXT, TEXT: [n, len] */
} batch;

static pith_status take_batch(const learner *l, pith_loader *loader, int set, uint64_t step, batch *out)
{
    const task_data *d = l->data;
    pith_batch from;
    PITH_TRY(pith_loader_batch(loader, step, &from));
    bool text = d->task->kind == TEXT;
    size_t n = from.n, len = text ? d->s->text_window * (set == TRAIN ? 1 : 4) : d->sets[set]->fields[0].dims[0];
    *out = (batch){.n = n, .len = len, .sum = from.y_f32, .tokens = from.ids};
    out->x = d->n_symbols ? pith_reader_one_hot(l->tape, from.ids, n, len, text ? len + 1 : len, d->n_symbols) : pith_tape_input(l->tape, from.x, PITH_DIMS(n, len, d->n_in));
    size_t n_labels = d->task->kind == LABEL ? n : n * len;
    out->label = pith_op_attr(l->tape, n_labels, sizeof *out->label);
    if (!out->x || !out->label) return pith_tape_status(l->tape);
    for (size_t i = 0; i < n_labels && d->task->kind != SUM; i++) {
        int32_t y = text ? from.ids[i / len * (len + 1) + i % len + 1] : from.y[i];
        out->label[i] = y < 0 ? PITH_NO_LABEL : y;
    }
    return PITH_OK;
}

/* Of all steps, or as truncated backpropagation sees them: the first ones leave a state, of which no gradient is taken. */
static pith_var *read_recent(const learner *l, pith_var *x)
{
    size_t len = x->dims[1];
    if (!l->recent || l->recent >= len) return pith_reader_run(l->reader, x, NULL);
    size_t n = pith_reader_state(l->reader, x->dims[0]);
    float *state = pith_op_attr(l->tape, n, sizeof *state);
    if (!state) return NULL;
    memset(state, 0, n * sizeof *state);
    bool recording = pith_tape_record(l->tape, false);
    pith_reader_run(l->reader, pith_var_slice(x, 1, 0, len - l->recent), state);
    pith_tape_record(l->tape, recording);
    return pith_reader_run(l->reader, pith_var_slice(x, 1, len - l->recent, l->recent), state);
}

/* ---- training and measuring ------------------------------------------------------------------- */

static pith_status measure_reversal(const learner *l, double *bleu)
{
    pith_loader *loader = NULL;
    pith_bleu sum = {0};
    int32_t *reply = pith_array(l->data->run->ctx, TEST_BATCH * PITH_REPLY, sizeof *reply);
    pith_status status = reply ? open_loader(l->data, TEST, &loader) : PITH_E_MEMORY;
    for (uint64_t step = 0; status == PITH_OK && step < pith_loader_steps(loader); step++) {
        pith_batch b;
        pith_tape_step(l->tape, step);
        pith_tape_record(l->tape, false);
        status = pith_loader_batch(loader, step, &b);
        if (status == PITH_OK) status = pith_reversal_reply(&l->reversal, b.ids, b.n, l->data->task->length, reply);
        if (status == PITH_OK) pith_reversal_score(b.ids, b.n, l->data->task->length, reply, &sum);
    }
    pith_loader_free(loader);
    pith_free(l->data->run->ctx, reply);
    *bleu = pith_bleu_score(&sum, PITH_BLEU_ORDER);
    return status;
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    learner *l = user;
    batch b;
    at->status = take_batch(l, l->loader, TRAIN, at->step * at->n_parts + at->part, &b);
    if (at->status != PITH_OK) return NULL;
    if (l->data->task->kind == REVERSAL) return pith_reversal_loss(&l->reversal, b.tokens, b.n, b.len, l->fed_its_own);
    pith_var *y = read_recent(l, b.x);
    if (l->data->task->kind == SUM) return pith_var_mse(y, pith_tape_input(tape, b.sum, PITH_DIMS(b.n, 1)));
    return pith_var_cross_entropy(y, b.label);
}

/* Sums of errors and right answers. */
typedef struct tally {
    double error, bits;
    size_t n, right, n_whole, whole; /* answers, sequences */
} tally;

static void count_batch(const learner *l, const batch *b, const pith_var *y, tally *sum)
{
    task_kind kind = l->data->task->kind;
    size_t n_out = l->data->n_out, len = kind == NEXT || kind == TEXT ? b->len : 1;
    for (size_t i = 0; i < b->n; i++) {
        bool whole = true;
        for (size_t t = 0; t < len; t++) {
            const float *x = y->data + (i * len + t) * n_out;
            if (kind == SUM) {
                sum->error += ((double)x[0] - (double)b->sum[i]) * ((double)x[0] - (double)b->sum[i]);
                sum->n++;
                continue;
            }
            int32_t label = b->label[i * len + t];
            if (label == PITH_NO_LABEL) continue;
            size_t best = pith_argmax(x, n_out);
            double total = 0;
            for (size_t k = 0; k < n_out; k++) total += exp((double)x[k] - (double)x[best]);
            sum->bits += (log(total) + (double)x[best] - (double)x[label]) / log(2);
            sum->n++;
            sum->right += best == (size_t)label;
            whole = whole && best == (size_t)label;
        }
        sum->n_whole++;
        sum->whole += whole;
    }
}

/* Over at most `most` batches of a set. */
static pith_status measure(const learner *l, int set, uint64_t most, double *value)
{
    pith_loader *loader;
    tally sum = {0};
    PITH_TRY(open_loader(l->data, set, &loader));
    pith_status status = PITH_OK;
    for (uint64_t step = 0; status == PITH_OK && step < PITH_MIN(pith_loader_steps(loader), most); step++) {
        batch b;
        pith_tape_step(l->tape, step);
        pith_tape_record(l->tape, false);
        status = take_batch(l, loader, set, step, &b);
        const pith_var *y = status == PITH_OK ? pith_reader_run(l->reader, b.x, NULL) : NULL;
        if (status == PITH_OK) status = pith_tape_status(l->tape);
        if (status == PITH_OK) count_batch(l, &b, y, &sum);
    }
    pith_loader_free(loader);
    const task *t = l->data->task;
    *value = t->kind == SUM ? sum.error / (double)sum.n : t->kind == TEXT ? sum.bits / (double)sum.n : t->whole ? (double)sum.whole / (double)sum.n_whole : (double)sum.right / (double)sum.n;
    return status;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    learner *l = user;
    double error;
    PITH_TRY(measure(l, TEST, 1, &error));
    pith_train_note(at, "mse", error);
    if (!l->learned_at && error < LEARNED) l->learned_at = at->step;
    return PITH_OK;
}

static pith_status train(learner *l)
{
    pith_train_options o = pith_run_train_options(l->data->run);
    pith_train_role role = pith_run_train_role(l->data->run);
    role.loss = loss;
    o.user = l;
    o.n_steps = l->data->n_steps;
    if (l->data->task->kind == TEXT) {
        role.schedule.kind = PITH_RATE_COSINE;
        role.schedule.rate = (float)l->data->s->text_rate;
        role.schedule.last_rate = role.schedule.rate / 100;
    }
    if (l->data->task->timed) {
        o.evaluate = evaluate;
        o.evaluate_every = PITH_MAX(o.n_steps / EVALUATIONS, (uint64_t)1);
    }
    pith_trainer *trainer = NULL;
    pith_status status = open_loader(l->data, TRAIN, &l->loader);
    if (status == PITH_OK) status = pith_trainer_new(l->tape, &o, &role, 1, &trainer);
    if (status == PITH_OK) status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    pith_loader_free(l->loader);
    l->loader = NULL;
    return status;
}

/* An echo state network is shown the training data once, and solved. */
static pith_status fit(learner *l)
{
    const task_data *d = l->data;
    pith_loader *loader;
    PITH_TRY(open_loader(d, TRAIN, &loader));
    pith_status status = PITH_OK;
    uint64_t n = PITH_MAX(d->s->n_train / d->run->card->train.batch, (uint64_t)1);
    for (uint64_t step = 0; status == PITH_OK && step < n; step++) {
        batch x;
        pith_tape_step(l->tape, step);
        pith_tape_record(l->tape, false);
        PITH_GOTO(take_batch(l, loader, TRAIN, step, &x), done);
        size_t rows = d->task->kind == NEXT ? x.n * x.len : x.n;
        float *target = pith_op_attr(l->tape, rows * d->n_out, sizeof *target);
        bool *counts = pith_op_attr(l->tape, rows, sizeof *counts);
        PITH_GOTO(pith_tape_status(l->tape), done);
        for (size_t i = 0; i < rows; i++) {
            counts[i] = d->task->kind == SUM || x.label[i] != PITH_NO_LABEL;
            for (size_t k = 0; k < d->n_out; k++) target[i * d->n_out + k] = d->task->kind == SUM ? x.sum[i] : x.label[i] == (int32_t)k;
        }
        status = pith_reader_show(l->reader, x.x, target, counts);
    }
    if (status == PITH_OK) status = pith_reader_solve(l->reader, d->s->ridge);
done:
    pith_loader_free(loader);
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

/* Parameters of the LSTM that all others follow, with this much to read at a step. */
static size_t lstm_values(const task_data *d, size_t n_in, size_t n_out)
{
    size_t w = d->width;
    return 4 * w * (n_in + w + 2) + n_out * (w + 1);
}

static pith_status make_readers(learner *l, const char *kind)
{
    const task_data *d = l->data;
    bool last = d->task->kind == SUM || d->task->kind == LABEL;
    pith_reader_options o = {.kind = kind, .n_in = d->n_in, .n_out = d->n_out, .last = last, .window = d->s->window, .centred = d->task->centred, .seed = d->run->seed};
    o.n_values = lstm_values(d, d->n_in, d->n_out);
    if (d->task->kind != REVERSAL) return pith_reader_new(l->tape, &o, &l->reader);
    size_t n_encoder = lstm_values(d, d->n_in, 0), n_decoder = lstm_values(d, d->n_in + d->width, d->n_out);
    return pith_reversal_new(l->tape, kind, n_encoder, n_decoder, d->run->seed, &l->reversal);
}

static pith_status reader_row(const task_data *d, const char *row)
{
    pith_run *run = d->run;
    learner l = {.data = d};
    double value = 0, longer = 0;
    bool recent = !strcmp(row, "lstm_recent"), own = !strcmp(row, "lstm_free");
    l.recent = recent ? d->s->recent : 0;
    l.fed_its_own = own;
    pith_status status;
    PITH_GOTO(pith_tape_new(run->ctx, run->seed, &l.tape), done);
    PITH_GOTO(make_readers(&l, recent || own ? "lstm" : row), done);
    PITH_GOTO(!l.reader || pith_reader_learns(l.reader) ? train(&l) : fit(&l), done);
    if (d->task->kind == REVERSAL) PITH_GOTO(measure_reversal(&l, &value), done);
    else PITH_GOTO(measure(&l, TEST, UINT64_MAX, &value), done);
    PITH_GOTO(pith_run_row(run, row, d->task->name, value), done);
    if (d->task->longer) {
        PITH_GOTO(measure(&l, LONGER, UINT64_MAX, &longer), done);
        PITH_GOTO(pith_run_row(run, row, "count_long", longer), done);
    }
    if (d->task->timed) {
        PITH_GOTO(pith_run_row(run, row, "params", (double)pith_reader_n_values(l.reader)), done);
        if (pith_reader_learns(l.reader)) PITH_GOTO(pith_run_row(run, row, "learned", (double)(l.learned_at ? l.learned_at : d->n_steps + 1)), done);
    }
done:
    pith_reversal_free(&l.reversal);
    pith_reader_free(l.reader);
    pith_tape_free(l.tape);
    return status;
}

/* The best of all orders on the test text itself: a favour to what stands beside. */
static pith_status ngram_row(const task_data *d, const char *row)
{
    pith_ngram *model;
    double best = INFINITY;
    size_t best_order = 0;
    PITH_TRY(pith_ngram_new(d->run->ctx, d->text[TRAIN], d->n_text[TRAIN], d->n_symbols, PITH_NGRAM_MAX, &model));
    for (size_t order = 1; order <= PITH_NGRAM_MAX; order++) {
        double bits = pith_ngram_bits(model, d->text[TEST], d->n_text[TEST], order);
        if (bits < best) best = bits, best_order = order;
    }
    pith_ngram_free(model);
    PITH_TRY(pith_run_note(d->run, "%zu characters are the n-gram's best order", best_order));
    return pith_run_row(d->run, row, d->task->name, best);
}

/* Each mark has a tag of its own. */
static pith_status hmm_row(const task_data *d, const char *row)
{
    enum { TAGS = 6, OWN = 4, FIRST_MARK = 5 };
    pith_hmm hmm;
    size_t len = d->task->length, right = 0, asked = 0;
    int32_t *tags = pith_array(d->run->ctx, len, sizeof *tags);
    pith_status status = tags ? pith_hmm_new(d->run->ctx, TAGS, d->n_symbols, &hmm) : PITH_E_MEMORY;
    for (int set = TRAIN; status == PITH_OK && set <= TEST; set++) {
        const int32_t *tokens = d->sets[set]->fields[0].data, *target = d->sets[set]->fields[1].data;
        for (size_t i = 0; status == PITH_OK && i < d->sets[set]->n; i++, tokens += len, target += len) {
            for (size_t t = 0; t < len; t++) tags[t] = target[t] < 0 ? OWN + tokens[t] - FIRST_MARK : target[t];
            if (set == TRAIN) pith_hmm_count(&hmm, tokens, tags, len);
            else status = pith_hmm_tag(&hmm, tokens, len, tags);
            for (size_t t = 0; set == TEST && t < len; t++) {
                asked += target[t] >= 0;
                right += target[t] >= 0 && tags[t] == target[t];
            }
        }
    }
    if (tags) pith_hmm_free(&hmm);
    pith_free(d->run->ctx, tags);
    return status == PITH_OK ? pith_run_row(d->run, row, d->task->name, (double)right / (double)asked) : status;
}

/* ---- how gradients vanish --------------------------------------------------------------------- */

static pith_status gradient_row(const task_data *d, const char *row)
{
    static const struct { const char *row; pith_cell cell; double radius; float forget_bias; } probes[] = {
        {"tanh_05", PITH_CELL_TANH, 0.5, 0}, {"tanh_10", PITH_CELL_TANH, 1, 0}, {"tanh_15", PITH_CELL_TANH, 1.5, 0},
        {"lstm_1997", PITH_CELL_LSTM_1997, 0, 0}, {"lstm_bias0", PITH_CELL_LSTM, 0, 0}, {"lstm", PITH_CELL_LSTM, 0, 1},
    };
    static const size_t lags[] = {10, 25, 50};
    size_t k = 0;
    while (k < PITH_COUNT(probes) && strcmp(probes[k].row, row) != 0) k++;
    if (k == PITH_COUNT(probes)) return pith_fail(d->run->ctx, PITH_E_ARGUMENT, "%s: '%s' is no row of the task gradient; there are tanh_05, tanh_10, tanh_15, lstm_1997, lstm_bias0 and lstm", d->run->card->file, row);
    double shares[PITH_COUNT(lags)];
    const pith_lag_options o = {.cell = probes[k].cell, .width = d->s->width, .radius = probes[k].radius, .forget_bias = probes[k].forget_bias, .n_draws = d->s->draws, .seed = d->run->seed};
    PITH_TRY(pith_lag_gradients(d->run->ctx, &o, lags, PITH_COUNT(lags), shares));
    for (size_t i = 0; i < PITH_COUNT(lags); i++) {
        char measure[16];
        snprintf(measure, sizeof measure, "lag_%zu", lags[i]);
        PITH_TRY(pith_run_row(d->run, row, measure, shares[i]));
    }
    return PITH_OK;
}

/* ---- all -------------------------------------------------------------------------------------- */

static pith_status row_of(const task_data *d, const char *row)
{
    task_kind kind = d->task->kind;
    bool recent = !strcmp(row, "lstm_recent"), own = !strcmp(row, "lstm_free");
    if (kind == GRADIENT) return gradient_row(d, row);
    if (kind == TEXT && !strcmp(row, "ngram")) return ngram_row(d, row);
    if (d->task->centred && !strcmp(row, "hmm")) return hmm_row(d, row);
    bool can = pith_reader_known(row) || (recent && (kind == SUM || kind == LABEL)) || (own && kind == REVERSAL);
    if (can && !strcmp(row, "echo") && (kind == TEXT || kind == REVERSAL)) can = false;
    return can ? reader_row(d, row) : pith_fail(d->run->ctx, PITH_E_ARGUMENT, "%s: '%s' cannot be a row of the task %s", d->run->card->file, row, d->task->name);
}

static pith_status run_task(pith_run *run, const task *t, const char *rows)
{
    task_data d;
    char row[32], part[64];
    pith_status status = open_task_data(run, t, &d);
    for (int len; status == PITH_OK && sscanf(rows, "%31s%n", row, &len) == 1; rows += len) {
        snprintf(part, sizeof part, "%s.%s", row, t->name);
        if (pith_run_has_part(run, part, NULL)) continue;
        status = row_of(&d, row);
        if (status == PITH_OK) status = pith_run_part_done(run, part, 0);
    }
    close_task_data(&d);
    return status;
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    for (size_t i = 0; i < s->runs.n; i++) {
        size_t k = 0;
        while (k < PITH_COUNT(tasks) && strcmp(tasks[k].name, s->runs.items[i].name) != 0) k++;
        if (k == PITH_COUNT(tasks)) return pith_yaml_fail(run->ctx, s->runs.items[i].at, "'%s' is no task; `pith recipes --procedures` lists them", s->runs.items[i].name);
        PITH_TRY(run_task(run, &tasks[k], s->runs.items[i].text));
    }
    return PITH_OK;
}

const pith_procedure pith_procedure_rnn_review = {"rnn_review", keys, sizeof(settings), run};
