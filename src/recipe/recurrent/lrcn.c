/* lrcn: what moves how in a clip, told by convolutions per frame and an LSTM over them, trained jointly; and sentences about clips.
 * After arXiv:1411.4389.
 *
 * Networks are made in this order, each where a row asks for it: frame (each frame answers, trained alone), then those that begin
 * with its convolutions: lstm, last (only the last step learns), frozen (convolutions stay), bag (frames in random order); the same
 * over flow, `flow`, and `fused`, both answers; conv3d; and writers that begin with lstm: single, factored. */
#include <math.h>

#include "eval/bleu.h"
#include "eval/flow.h"
#include "model/beam.h"
#include "recipe/train_card.h"

typedef struct settings {
    pith_names runs;
    pith_counts lengths, widths;
    uint64_t n_train, n_test, frames, feature, width, beam, write_steps, n_written;
    double dropout, rgb_share;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: frame, lstm, last, frozen, bag, conv3d, flow, fused, single, factored"},
    {"lengths", PITH_KEY_COUNTS, offsetof(settings, lengths), .required = true, .min = 2, .max = 64, .help = "frames of clips that lstm is measured on without learning again"},
    {"convs", PITH_KEY_COUNTS, offsetof(settings, widths), .required = true, .min = 1, .max = 1024, .help = "channels of the convolutions"},
    {"n_train", PITH_KEY_COUNT, offsetof(settings, n_train), .required = true, .min = 1, .max = 1e6, .help = "clips to train on"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 1, .max = 1e6, .help = "clips to measure on"},
    {"frames", PITH_KEY_COUNT, offsetof(settings, frames), .required = true, .min = 2, .max = 64, .help = "of a clip"},
    {"feature", PITH_KEY_COUNT, offsetof(settings, feature), .required = true, .min = 1, .max = 4096, .help = "values that say what a frame shows"},
    {"width", PITH_KEY_COUNT, offsetof(settings, width), .required = true, .min = 1, .max = 4096, .help = "of the LSTMs"},
    {"dropout", PITH_KEY_NUMBER, offsetof(settings, dropout), .required = true, .max = 0.95, .help = "share dropped before and after the LSTM"},
    {"rgb_share", PITH_KEY_NUMBER, offsetof(settings, rgb_share), .required = true, .max = 1, .help = "of the answer to pixels in the fused one; the rest is the one to flow"},
    {"beam", PITH_KEY_COUNT, offsetof(settings, beam), .required = true, .min = 1, .max = 64, .help = "sentences that are kept while one is written"},
    {"write_steps", PITH_KEY_STEPS, offsetof(settings, write_steps), .required = true, .min = 1, .max = 1e7, .help = "of a writer's training"},
    {"n_written", PITH_KEY_COUNT, offsetof(settings, n_written), .required = true, .min = 1, .max = 1e6, .help = "test clips about which sentences are written"},
    {0},
};

enum { TRAIN, TEST, N_SPLITS, N_CLASSES = 8, SIDE = 32, PIXELS = 3 * SIDE * SIDE, BLOCK = 4, RANGE = 4, TEST_BATCH = 20, MAX_WORDS = 16 };
typedef enum view { PIXEL, FLOW, N_VIEWS } view;
typedef enum lesson { EACH_STEP, LAST_STEP, SHUFFLED, WORDS } lesson;

typedef struct study study;

/* A network at work. */
typedef struct learner {
    study *study;
    pith_tape *tape;
    pith_net *net;
    view view;
    lesson lesson;
    bool frozen;                   /* convolutions stay */
} learner;

struct study {
    pith_run *run;
    const settings *s;
    pith_dataset *clips[N_SPLITS];
    uint8_t *flow[N_SPLITS];       /* [n, frames, 3, SIDE, SIDE] */
    size_t n_words;                /* of the vocabulary */
    learner frame[N_VIEWS], lstm[N_VIEWS]; /* kept for those that begin with them */
    float *answers[N_VIEWS];       /* [n_test, N_CLASSES] of lstm; NULL: not asked yet */
};

/* ---- clips ------------------------------------------------------------------------------------ */

static const uint8_t *image_of(const pith_dataset *ds, size_t item) { return pith_field_item(pith_dataset_field(ds, "image"), item); }
static int32_t motion_of(const pith_dataset *ds, size_t item) { return *(const int32_t *)pith_field_item(pith_dataset_field(ds, "label"), item); }
static const int32_t *words_of(const pith_dataset *ds, size_t item) { return pith_field_item(pith_dataset_field(ds, "words"), item); }

typedef struct flow_work {
    const pith_dataset *ds;
    uint8_t *flow;
    size_t frames;
} flow_work;

/* Of each frame from the one before; of the first none. */
static void flow_of_clip(void *arg, size_t item, int worker)
{
    (void)worker;
    const flow_work *w = arg;
    int8_t blocks[SIDE / BLOCK * (SIDE / BLOCK) * 2] = {0};
    const uint8_t *image = image_of(w->ds, item);
    for (size_t t = 0; t < w->frames; t++) {
        if (t) pith_flow_match(image + (t - 1) * PIXELS, image + t * PIXELS, 3, SIDE, SIDE, BLOCK, RANGE, blocks);
        pith_flow_picture(blocks, SIDE, SIDE, BLOCK, RANGE, w->flow + (item * w->frames + t) * PIXELS);
    }
}

static pith_status need_flow(study *st)
{
    for (int i = 0; i < N_SPLITS && !st->flow[TEST]; i++) {
        const pith_dataset *ds = st->clips[i];
        if (!(st->flow[i] = pith_array(st->run->ctx, ds->n, st->s->frames * PIXELS))) return PITH_E_MEMORY;
        flow_work w = {ds, st->flow[i], st->s->frames};
        pith_parallel(st->run->ctx, ds->n, flow_of_clip, &w);
    }
    return PITH_OK;
}

static pith_status open_clips(study *st)
{
    for (int i = 0; i < N_SPLITS; i++) {
        pith_dataset_options o = {.n = i == TRAIN ? st->s->n_train : st->s->n_test, .frames = st->s->frames};
        PITH_TRY(pith_run_data(st->run, &st->run->card->data, i == TRAIN ? "train" : "test", &o, &st->clips[i]));
        const pith_field *image = pith_dataset_field(st->clips[i], "image"), *words = pith_dataset_field(st->clips[i], "words");
        if (!image || image->n_dims != 4 || image->n_values != st->s->frames * PIXELS || !words || words->n_values != MAX_WORDS)
            return pith_fail(st->run->ctx, PITH_E_ARGUMENT, "the data set %s has no clips of 32x32 with captions; clips32 has", st->clips[i]->name);
        st->n_words = words->n_names;
    }
    return PITH_OK;
}

/* Frames as values of -1..1, [n, frames, 3, SIDE, SIDE]; order [n, frames] or NULL. */
static pith_var *frames_of(const learner *l, const uint8_t *all, const size_t *items, size_t n, size_t frames, const uint8_t *order)
{
    pith_var *x = pith_tape_fill(l->tape, 0, PITH_DIMS(n, frames, 3, SIDE, SIDE));
    for (size_t i = 0; x && i < n * frames; i++) {
        const uint8_t *from = all + (items[i / frames] * frames + (order ? order[i] : i % frames)) * PIXELS;
        float *to = x->data + i * PIXELS;
        for (size_t k = 0; k < PIXELS; k++) to[k] = (float)from[k] / 127.5f - 1;
    }
    return x;
}

/* As they come, or of a bag of frames in random order. */
static void order_frames(const learner *l, pith_rng *rng, uint8_t *order, size_t frames)
{
    for (size_t t = 0; t < frames; t++) order[t] = (uint8_t)t;
    for (size_t t = frames; l->lesson == SHUFFLED && t-- > 1;) {
        size_t k = pith_rng_below(rng, (uint32_t)t + 1);
        uint8_t swap = order[t];
        order[t] = order[k];
        order[k] = swap;
    }
}

static const uint8_t *bytes_of(const learner *l, int split) { return l->view == FLOW ? l->study->flow[split] : image_of(l->study->clips[split], 0); }

/* ---- making and training ---------------------------------------------------------------------- */

static pith_status make(study *st, learner *l, const char *mixer, bool writes, bool factored)
{
    const settings *s = st->s;
    char text[384];
    size_t len = 0;
    l->study = st;
    len += (size_t)snprintf(text, sizeof text, "{\"mixer\": \"%s\", \"feature\": %d, \"width\": %d, \"classes\": %d, \"dropout\": %.4f, \"vocab\": %zu, \"factored\": %d, \"convs\": [", mixer, (int)s->feature,
                            (int)s->width, N_CLASSES, s->dropout, writes ? st->n_words : 0, factored);
    for (size_t i = 0; i < s->widths.n && len < sizeof text - 16; i++) len += (size_t)snprintf(text + len, sizeof text - len, "%s%d", i ? ", " : "", (int)s->widths.items[i]);
    snprintf(text + len, sizeof text - len, "]}");
    PITH_TRY(pith_tape_new(st->run->ctx, st->run->seed, &l->tape));
    return pith_net_new(l->tape, "lrcn", text, st->run->seed, &l->net);
}

static void close_learner(learner *l)
{
    pith_net_free(l->net);
    pith_tape_free(l->tape);
    *l = (learner){0};
}

static bool sees(const char *name) { return !strncmp(name, "conv", 4) || !strncmp(name, "fc.", 3); }

/* Parameters of the same name and size: all, or those that see. */
static void begin_with(const learner *l, const learner *from, bool sight_alone)
{
    size_t n;
    pith_var *const *params = pith_net_params(l->net, &n);
    for (size_t i = 0; i < n; i++) {
        const pith_var *other = pith_net_param(from->net, params[i]->name);
        if (other && other->count == params[i]->count && (!sight_alone || sees(params[i]->name))) memcpy(params[i]->data, other->data, other->count * sizeof(float));
    }
}

static bool owns(void *user, const pith_var *param)
{
    const learner *l = user;
    return !l->frozen || !sees(param->name);
}

/* A caption as what is fed (a blank, then its words) and what is asked (its words, then the end). */
static void caption_of(const int32_t *words, int32_t *fed, int32_t *asked)
{
    bool over = false;
    for (size_t t = 0; t < MAX_WORDS; t++) {
        fed[t] = t ? words[t - 1] : 0;
        asked[t] = over ? PITH_NO_LABEL : words[t];
        over = over || words[t] == 0;
    }
}

static pith_var *context_of(const learner *l, pith_var *x)
{
    pith_var *seen = pith_net_run(l->net, &(pith_net_input){.part = PITH_NET_ENCODE, .x = x});
    return seen ? pith_var_reshape(seen, PITH_DIMS(seen->dims[0], 1, seen->dims[1])) : NULL;
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    learner *l = user;
    const study *st = l->study;
    size_t n = st->run->card->train.batch, frames = st->s->frames;
    pith_rng rng = {st->run->seed, (uint64_t)3 << 32, (at->step * at->n_parts + at->part) << 20};
    size_t *items = pith_op_attr(tape, n, sizeof *items);
    uint8_t *order = pith_op_attr(tape, n * frames, 1);
    int32_t *label = pith_op_attr(tape, n * PITH_MAX(frames, (size_t)MAX_WORDS), sizeof *label), *fed = pith_op_attr(tape, n * MAX_WORDS, sizeof *fed);
    if (!items || !order || !label || !fed) return NULL;
    for (size_t i = 0; i < n; i++) {
        items[i] = pith_rng_below(&rng, (uint32_t)st->clips[TRAIN]->n);
        order_frames(l, &rng, order + i * frames, frames);
    }
    pith_var *x = frames_of(l, bytes_of(l, TRAIN), items, n, frames, order);
    if (l->lesson == WORDS) {
        for (size_t i = 0; i < n; i++) caption_of(words_of(st->clips[TRAIN], items[i]), fed + i * MAX_WORDS, label + i * MAX_WORDS);
        return pith_var_cross_entropy(pith_net_run(l->net, &(pith_net_input){.part = PITH_NET_DECODE, .ids = fed, .n = n, .len = MAX_WORDS, .context = context_of(l, x)}), label);
    }
    pith_var *y = pith_net_forward(l->net, x);
    size_t steps = y ? y->dims[1] : 0;
    for (size_t i = 0; i < n * steps; i++) label[i] = l->lesson == LAST_STEP && i % steps + 1 < steps ? PITH_NO_LABEL : motion_of(st->clips[TRAIN], items[i / steps]);
    return pith_var_cross_entropy(y, label);
}

static pith_status train(learner *l, uint64_t n_steps)
{
    pith_train_options o = pith_run_train_options(l->study->run);
    pith_train_role role = pith_run_train_role(l->study->run);
    role.loss = loss;
    role.owns = owns;
    o.user = l;
    o.n_steps = n_steps;
    pith_trainer *trainer;
    PITH_TRY(pith_trainer_new(l->tape, &o, &role, 1, &trainer));
    pith_status status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    return status;
}

/* ---- answers ---------------------------------------------------------------------------------- */

/* Mean over steps of the chances of each class (lesson LAST_STEP: those of the last step), answers [n, N_CLASSES]. */
static pith_status answer(const learner *l, const uint8_t *clips, size_t n_clips, size_t frames, float *answers)
{
    for (size_t from = 0; from < n_clips; from += TEST_BATCH) {
        size_t n = PITH_MIN((size_t)TEST_BATCH, n_clips - from), items[TEST_BATCH];
        uint8_t order[TEST_BATCH * 64]; /* frames are at most 64 */
        for (size_t i = 0; i < n; i++) {
            pith_rng rng = {l->study->run->seed, (uint64_t)4 << 32, (uint64_t)(from + i) << 20};
            items[i] = from + i;
            order_frames(l, &rng, order + i * frames, frames);
        }
        pith_tape_step(l->tape, from);
        pith_tape_record(l->tape, false);
        const pith_var *y = pith_var_softmax(pith_net_forward(l->net, frames_of(l, clips, items, n, frames, order)));
        PITH_TRY(pith_tape_status(l->tape));
        size_t steps = y->dims[1], first = l->lesson == LAST_STEP ? steps - 1 : 0;
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < N_CLASSES; k++) {
                float sum = 0;
                for (size_t t = first; t < steps; t++) sum += y->data[(i * steps + t) * N_CLASSES + k];
                answers[(from + i) * N_CLASSES + k] = sum / (float)(steps - first);
            }
    }
    return PITH_OK;
}

static double accuracy(const pith_dataset *ds, const float *answers)
{
    size_t right = 0;
    for (size_t i = 0; i < ds->n; i++) right += (int32_t)pith_argmax(answers + i * N_CLASSES, N_CLASSES) == motion_of(ds, i);
    return (double)right / (double)ds->n;
}

/* A network's answers to all test clips, [n_test, N_CLASSES]; the caller frees them. */
static pith_status answer_tests(const learner *l, float **answers)
{
    const study *st = l->study;
    float *a = pith_array(st->run->ctx, st->clips[TEST]->n, N_CLASSES * sizeof *a);
    if (!a) return PITH_E_MEMORY;
    pith_status status = answer(l, bytes_of(l, TEST), st->clips[TEST]->n, st->s->frames, a);
    if (status == PITH_OK) *answers = a;
    else pith_free(st->run->ctx, a);
    return status;
}

static pith_status put(const study *st, const char *row, const float *answers, size_t n_values)
{
    PITH_TRY(pith_run_row(st->run, row, "acc", accuracy(st->clips[TEST], answers)));
    return pith_run_row(st->run, row, "params", (double)n_values);
}

/* The row of a network whose answers no other row needs. */
static pith_status report(const learner *l, const char *row)
{
    float *answers;
    PITH_TRY(answer_tests(l, &answers));
    pith_status status = put(l->study, row, answers, pith_net_n_values(l->net));
    pith_free(l->study->run->ctx, answers);
    return status;
}

/* The same network on clips of the same motions in fewer or more frames. */
static pith_status other_lengths(const learner *l, const char *row)
{
    const study *st = l->study;
    for (size_t i = 0; i < st->s->lengths.n; i++) {
        size_t frames = st->s->lengths.items[i];
        char measure[24];
        pith_dataset *ds;
        PITH_TRY(pith_dataset_open(st->run->ctx, st->clips[TEST]->name, "test", &(pith_dataset_options){.n = st->clips[TEST]->n, .frames = frames}, &ds));
        float *answers = pith_array(st->run->ctx, ds->n, N_CLASSES * sizeof *answers);
        pith_status status = answers ? answer(l, image_of(ds, 0), ds->n, frames, answers) : PITH_E_MEMORY;
        snprintf(measure, sizeof measure, "frames_%zu", frames);
        if (status == PITH_OK) status = pith_run_row(st->run, row, measure, accuracy(ds, answers));
        pith_free(st->run->ctx, answers);
        pith_dataset_free(ds);
        PITH_TRY(status);
    }
    return PITH_OK;
}

/* ---- rows of activity ------------------------------------------------------------------------- */

static pith_status need_frame(study *st, view v)
{
    learner *l = &st->frame[v];
    if (l->net) return PITH_OK;
    if (v == FLOW) PITH_TRY(need_flow(st));
    l->view = v;
    PITH_TRY(make(st, l, "none", false, false));
    return train(l, st->run->card->train.steps);
}

static pith_status need_lstm(study *st, view v)
{
    learner *l = &st->lstm[v];
    if (l->net) return PITH_OK;
    PITH_TRY(need_frame(st, v));
    l->view = v;
    PITH_TRY(make(st, l, "lstm", false, false));
    begin_with(l, &st->frame[v], true);
    return train(l, st->run->card->train.steps);
}

static pith_status need_answers(study *st, view v)
{
    PITH_TRY(need_lstm(st, v));
    return st->answers[v] ? PITH_OK : answer_tests(&st->lstm[v], &st->answers[v]);
}

static pith_status lstm_row(study *st, const char *row, view v)
{
    PITH_TRY(need_answers(st, v));
    PITH_TRY(put(st, row, st->answers[v], pith_net_n_values(st->lstm[v].net)));
    return v == PIXEL ? other_lengths(&st->lstm[v], row) : PITH_OK;
}

static pith_status fused_row(study *st, const char *row)
{
    size_t n = st->clips[TEST]->n * N_CLASSES;
    for (view v = PIXEL; v < N_VIEWS; v++) PITH_TRY(need_answers(st, v));
    float *both = pith_array(st->run->ctx, n, sizeof *both), share = (float)st->s->rgb_share;
    if (!both) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) both[i] = share * st->answers[PIXEL][i] + (1 - share) * st->answers[FLOW][i];
    pith_status status = put(st, row, both, pith_net_n_values(st->lstm[PIXEL].net) + pith_net_n_values(st->lstm[FLOW].net));
    pith_free(st->run->ctx, both);
    return status;
}

/* A network of its own, which begins with the frame-wise one where it has its convolutions. */
static pith_status other_row(study *st, const char *row, lesson taught, bool frozen)
{
    learner l = {.lesson = taught, .frozen = frozen};
    bool deep = !strcmp(row, "conv3d");
    if (!deep) PITH_TRY(need_frame(st, PIXEL));
    pith_status status = make(st, &l, deep ? "conv3d" : "lstm", false, false);
    if (status == PITH_OK && !deep) begin_with(&l, &st->frame[PIXEL], true);
    if (status == PITH_OK) status = train(&l, st->run->card->train.steps * (deep ? 2 : 1)); /* as long as the others together with their beginning */
    if (status == PITH_OK) status = report(&l, row);
    close_learner(&l);
    return status;
}

/* ---- sentences -------------------------------------------------------------------------------- */

/* A writer, and what it saw of one clip, [width]. */
typedef struct view_of_clip {
    const learner *writer;
    const float *context;
} view_of_clip;

static pith_status next_word(void *user, const int32_t *begun, size_t n, size_t len, float *log_chance)
{
    const view_of_clip *c = user;
    pith_tape *tape = c->writer->tape;
    pith_scope scope = pith_scope_begin(tape);
    int32_t *fed = pith_op_attr(tape, n * (len + 1), sizeof *fed); /* a blank before the words */
    for (size_t i = 0; fed && i < n; i++)
        for (size_t t = 0; t <= len; t++) fed[i * (len + 1) + t] = t ? begun[i * len + t - 1] : 0;
    size_t width = c->writer->study->s->width;
    pith_var *same = pith_var_broadcast(pith_tape_input(tape, c->context, PITH_DIMS(1, 1, width)), PITH_DIMS(n, 1, width));
    pith_var *y = fed ? pith_net_run(c->writer->net, &(pith_net_input){.part = PITH_NET_DECODE, .ids = fed, .n = n, .len = len + 1, .context = same}) : NULL;
    const pith_var *last = pith_var_log_softmax(pith_var_slice(y, 1, len, 1));
    if (last) memcpy(log_chance, last->data, last->count * sizeof *log_chance);
    pith_status status = pith_tape_status(tape);
    pith_scope_end(tape, scope, NULL, 0);
    return status;
}

static pith_status write_about(const learner *l, const float *context, size_t beam, pith_sentence *best)
{
    view_of_clip c = {l, context};
    return pith_beam_search(l->study->run->ctx, next_word, &c, l->study->n_words, MAX_WORDS, beam, best);
}

enum { COLOUR, SHAPE, VERB, COLOUR_2, SHAPE_2, GROUND, N_ATTRIBUTES };

/* a COLOUR SHAPE VERB ... a COLOUR SHAPE on GROUND; -1 where the sentence has none. */
static void attributes_of(const int32_t *words, size_t n, int32_t a_word, int32_t on_word, int32_t *attributes)
{
    for (int i = 0; i < N_ATTRIBUTES; i++) attributes[i] = -1;
    for (size_t i = 1; i < 4 && i < n; i++) attributes[COLOUR + (int)i - 1] = words[i];
    for (size_t i = 4; i < n; i++) {
        if (words[i] == a_word && i + 2 < n) attributes[COLOUR_2] = words[i + 1], attributes[SHAPE_2] = words[i + 2];
        if (words[i] == on_word && i + 1 < n) attributes[GROUND] = words[i + 1];
    }
}

static int32_t word_named(const pith_field *f, const char *name)
{
    int32_t i = 0;
    while ((size_t)i < f->n_names && strcmp(f->names[i], name) != 0) i++;
    return i;
}

typedef struct written {
    double right, greedy, beam;    /* attributes; logarithms of chances */
    pith_bleu bleu;
} written;

static pith_status write_all(const learner *l, written *sum)
{
    const study *st = l->study;
    const pith_field *f = pith_dataset_field(st->clips[TEST], "words");
    int32_t a_word = word_named(f, "a"), on_word = word_named(f, "on");
    size_t n = PITH_MIN(st->s->n_written, st->clips[TEST]->n);
    for (size_t i = 0; i < n; i++) {
        pith_sentence greedy, beam;
        int32_t said[N_ATTRIBUTES], true_ones[N_ATTRIBUTES];
        const int32_t *words = words_of(st->clips[TEST], i);
        size_t n_words = 0;
        while (n_words < MAX_WORDS && words[n_words]) n_words++;
        PITH_TRY(pith_progress(st->run->ctx, "writing", i, n));
        pith_tape_step(l->tape, i);
        pith_tape_record(l->tape, false);
        const pith_var *context = context_of(l, frames_of(l, bytes_of(l, TEST), &i, 1, st->s->frames, NULL));
        PITH_TRY(pith_tape_status(l->tape));
        PITH_TRY(write_about(l, context->data, 1, &greedy));
        PITH_TRY(write_about(l, context->data, st->s->beam, &beam));
        sum->greedy += greedy.log_chance / (double)n;
        sum->beam += beam.log_chance / (double)n;
        attributes_of(words, n_words, a_word, on_word, true_ones);
        attributes_of(beam.words, beam.n, a_word, on_word, said);
        for (int k = 0; k < N_ATTRIBUTES; k++) sum->right += (said[k] == true_ones[k]) / (double)(n * N_ATTRIBUTES);
        pith_bleu_add(&sum->bleu, (pith_bleu_text){beam.words, beam.n}, &(pith_bleu_text){words, n_words}, 1);
    }
    return PITH_OK;
}

static pith_status writer_row(study *st, const char *row, bool factored)
{
    learner l = {.lesson = WORDS};
    written sum = {0};
    PITH_TRY(need_lstm(st, PIXEL));
    pith_status status = make(st, &l, "lstm", true, factored);
    if (status == PITH_OK) begin_with(&l, &st->lstm[PIXEL], false);
    if (status == PITH_OK) status = train(&l, st->s->write_steps);
    if (status == PITH_OK) status = write_all(&l, &sum);
    if (status == PITH_OK) status = pith_run_row(st->run, row, "params", (double)pith_net_n_values(l.net));
    if (status == PITH_OK) status = pith_run_row(st->run, row, "attributes", sum.right);
    if (status == PITH_OK) status = pith_run_row(st->run, row, "greedy", sum.greedy);
    if (status == PITH_OK) status = pith_run_row(st->run, row, "beam", sum.beam);
    if (status == PITH_OK) status = pith_run_row(st->run, row, "bleu", pith_bleu_score(&sum.bleu, PITH_BLEU_ORDER));
    close_learner(&l);
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static pith_status run_row(void *user, const char *row)
{
    study *st = user;
    if (!strcmp(row, "frame")) {
        PITH_TRY(need_frame(st, PIXEL));
        return report(&st->frame[PIXEL], row);
    }
    if (!strcmp(row, "lstm")) return lstm_row(st, row, PIXEL);
    if (!strcmp(row, "flow")) return lstm_row(st, row, FLOW);
    if (!strcmp(row, "fused")) return fused_row(st, row);
    if (!strcmp(row, "last")) return other_row(st, row, LAST_STEP, false);
    if (!strcmp(row, "frozen")) return other_row(st, row, EACH_STEP, true);
    if (!strcmp(row, "bag")) return other_row(st, row, SHUFFLED, false);
    if (!strcmp(row, "conv3d")) return other_row(st, row, EACH_STEP, false);
    if (!strcmp(row, "single") || !strcmp(row, "factored")) return writer_row(st, row, row[0] == 'f');
    return pith_fail(st->run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is no row; there are frame, lstm, last, frozen, bag, conv3d, flow, fused, single and factored", st->run->card->file, row);
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    study st = {.run = run, .s = s};
    pith_status status = open_clips(&st);
    if (status == PITH_OK) status = pith_run_each(run, &s->runs, run_row, &st);
    for (int i = 0; i < N_VIEWS; i++) {
        close_learner(&st.frame[i]);
        close_learner(&st.lstm[i]);
        pith_free(run->ctx, st.answers[i]);
    }
    for (int i = 0; i < N_SPLITS; i++) {
        pith_free(run->ctx, st.flow[i]);
        pith_dataset_free(st.clips[i]);
    }
    return status;
}

const pith_procedure pith_procedure_lrcn = {"lrcn", keys, sizeof(settings), run};
