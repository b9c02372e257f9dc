/* quantized-distillation: students of few bits that learn from a larger teacher, with the quantizer inside of the loop
 * (method 1), or by learning the points that their weights are rounded to (method 2).  arXiv:1802.05668.
 *
 * A row is <task>_teacher, or <task>_<student>_<method>, with _<bits> where something is quantized: "vgg_half_distil_4",
 * "words_quarter_float". */
#include "recipe/small_tasks.h"
#include "recipe/train_card.h"
#include "stage/quantize/bucket.h"
#include "stage/tune/distill.h"

#include <math.h>

typedef struct settings {
    pith_names runs, images, texts;
    uint64_t n_images, text_bytes, vocabulary, points_steps;
    pith_counts widths;
    double temperature, weight, points_rate, words_rate;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: a task's teacher, or task (vgg, words), student (half, quarter), method and bits"},
    {"images", PITH_KEY_NAMES, offsetof(settings, images), .required = true, .help = "data sets of labelled images; the first that is there is used"},
    {"texts", PITH_KEY_NAMES, offsetof(settings, texts), .required = true, .help = "text data sets; the first that is there is used"},
    {"n_images", PITH_KEY_COUNT, offsetof(settings, n_images), .required = true, .min = 1, .max = 1e7, .help = "images to train on; a fifth of them to measure on"},
    {"text_bytes", PITH_KEY_COUNT, offsetof(settings, text_bytes), .required = true, .min = 1000, .max = 1e8, .help = "of text to train on; a fifth of them to measure on"},
    {"vocabulary", PITH_KEY_COUNT, offsetof(settings, vocabulary), .required = true, .min = 2, .max = 100000, .help = "words that the language model knows"},
    {"widths", PITH_KEY_COUNTS, offsetof(settings, widths), .required = true, .min = 4, .max = 1024, .help = "of the teachers: first channels of vgg, states of words"},
    {"temperature", PITH_KEY_NUMBER, offsetof(settings, temperature), .required = true, .min = 0.1, .max = 100, .help = "of answers that students learn from"},
    {"weight", PITH_KEY_NUMBER, offsetof(settings, weight), .required = true, .max = 1, .help = "of the teacher's answers; the labels have the rest"},
    {"points_steps", PITH_KEY_STEPS, offsetof(settings, points_steps), .required = true, .min = 1, .max = 1e7, .help = "of training that learns points"},
    {"points_rate", PITH_KEY_NUMBER, offsetof(settings, points_rate), .required = true, .max = 10, .help = "of it"},
    {"words_rate", PITH_KEY_NUMBER, offsetof(settings, words_rate), .required = true, .max = 1000, .help = "factor on the rate of `train` for words"},
    {0},
};

/* FLOAT: distilled, not quantized.  POST: FLOAT, quantized.  QAT: the quantizer in the loop, labels alone.  DISTIL: with the
 * teacher, method 1.  LEARNED: points learned, shared out by gradients, method 2.  EQUAL: the same, as many for each tensor. */
typedef enum method { FLOAT, POST, QAT, DISTIL, LEARNED, EQUAL, N_METHODS } method;
static const char *const method_names[N_METHODS] = {"float", "post", "qat", "distil", "learned", "equal"};
enum { HALF, QUARTER, N_STUDENTS };
static const char *const student_names[N_STUDENTS] = {"half", "quarter"};

#define SHARE_BATCHES 5            /* whose gradients tell how many points a tensor gets */
#define N_TASKS 2                  /* vgg, words */

/* What rows share: each task's teacher and its distilled float students, trained when first needed. */
typedef struct study {
    pith_run *run;
    pith_tasks *tasks;
    pith_task_net *teacher[N_TASKS], *distilled[N_TASKS][N_STUDENTS];
} study;

/* One network at work. */
typedef struct work {
    study *study;
    pith_task_net *net;
    pith_task_kind task;
    pith_task_net *teacher;        /* NULL: labels alone */
    int bits;                      /* 0: not quantized */
    pith_var **points;             /* [number of the tape's parameters before] LEARNED, EQUAL: of each that is quantized, else NULL */
    size_t n_points;
} work;

static const settings *settings_of(const work *w) { return w->study->run->card->settings; }

/* Matrices and kernels are quantized; gains and biases stay f32. */
static bool is_quantized(const pith_var *param) { return param->n_dims >= 2; }

static pith_var *points_of(const work *w, const pith_var *param)
{
    size_t n;
    pith_var *const *params = pith_tape_params(param->tape, &n);
    for (size_t i = 0; i < w->n_points; i++)
        if (params[i] == param) return w->points[i];
    return NULL;
}

static pith_var *replace(void *user, const char *name, pith_var *param)
{
    (void)name;
    const work *w = user;
    if (!w->bits || !is_quantized(param)) return param;
    pith_var *points = points_of(w, param);
    return points ? pith_bucket_learned(param, points, PITH_BUCKET) : pith_bucket_round(param, PITH_BUCKET, w->bits);
}

/* ---- training --------------------------------------------------------------------------------- */

static pith_var *batch_loss(work *w, uint64_t index, pith_status *status)
{
    const settings *s = settings_of(w);
    const int32_t *label = NULL;
    pith_var *taught = NULL;
    if (w->teacher) { /* evaluates, on a tape of its own */
        pith_tape *tape = pith_task_net_tape(w->teacher);
        pith_tape_step(tape, index);
        pith_tape_record(tape, false);
        taught = pith_task_net_logits(w->teacher, index, &label, status);
        if (*status == PITH_OK) *status = pith_tape_status(tape);
        if (*status != PITH_OK) return NULL;
    }
    pith_var *x = pith_task_net_logits(w->net, index, &label, status);
    if (!x || !taught) return x ? pith_var_cross_entropy(x, label) : NULL;
    taught = pith_tape_input(x->tape, taught->data, taught->n_dims, taught->dims);
    return pith_distill_loss(x, taught, label, &(pith_distill_options){(float)s->temperature, (float)s->weight});
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    return batch_loss(user, at->step * at->n_parts + at->part, &at->status);
}

static bool owns_points(void *user, const pith_var *param)
{
    const work *w = user;
    for (size_t i = 0; i < w->n_points; i++)
        if (w->points[i] == param) return true;
    return false;
}

static pith_status train(work *w)
{
    const settings *s = settings_of(w);
    pith_train_options o = pith_run_train_options(w->study->run);
    pith_train_role role = pith_run_train_role(w->study->run);
    pith_trainer *trainer;
    role.loss = loss;
    o.user = w;
    if (w->task == PITH_TASK_WORDS) {
        role.schedule.rate *= (float)s->words_rate;
        role.schedule.last_rate *= (float)s->words_rate;
    }
    if (w->points) {
        o.n_steps = s->points_steps;
        role.owns = owns_points;
        role.group = NULL;
        role.optimizer.weight_decay = 0;
        role.schedule = (pith_schedule){.kind = PITH_RATE_CONSTANT, .rate = (float)s->points_rate};
    }
    PITH_TRY(pith_trainer_new(pith_task_net_tape(w->net), &o, &role, 1, &trainer));
    pith_status status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    return status;
}

static pith_status new_work(study *st, pith_task_kind task, size_t width, work *w)
{
    *w = (work){.study = st, .task = task};
    PITH_TRY(pith_task_net_new(st->tasks, task, width, &w->net));
    pith_task_net_replace(w->net, replace, w);
    return PITH_OK;
}

/* A network that other rows need, which the study keeps: it is not quantized. */
static pith_status keep(work *w, pith_status status, pith_task_net **kept)
{
    if (status == PITH_OK) status = train(w);
    if (w->net) pith_task_net_replace(w->net, NULL, NULL);
    if (status == PITH_OK) *kept = w->net;
    else pith_task_net_free(w->net);
    return status;
}

static pith_status open_teacher(study *st, pith_task_kind task)
{
    const settings *s = st->run->card->settings;
    work w;
    if (st->teacher[task]) return PITH_OK;
    return keep(&w, new_work(st, task, s->widths.items[task], &w), &st->teacher[task]);
}

static size_t width_of(const study *st, pith_task_kind task, int student)
{
    const settings *s = st->run->card->settings;
    return s->widths.items[task] / (student == HALF ? 2 : 4);
}

static pith_status open_distilled(study *st, pith_task_kind task, int student)
{
    work w;
    if (st->distilled[task][student]) return PITH_OK;
    PITH_TRY(open_teacher(st, task));
    pith_status status = new_work(st, task, width_of(st, task, student), &w);
    w.teacher = st->teacher[task];
    return keep(&w, status, &st->distilled[task][student]);
}

/* ---- learned points --------------------------------------------------------------------------- */

/* norm [n]: of each parameter's gradients over a few batches, where it is quantized. */
static pith_status gradient_norms(work *w, double *norm, size_t n)
{
    pith_tape *tape = pith_task_net_tape(w->net);
    for (uint64_t i = 0; i < SHARE_BATCHES; i++) {
        pith_status status = PITH_OK;
        pith_tape_step(tape, i);
        pith_var *l = batch_loss(w, i, &status);
        PITH_TRY(status);
        PITH_TRY(pith_backward(tape, l, 0));
        pith_var *const *params = pith_tape_params(tape, &n);
        for (size_t p = 0; p < n; p++) {
            double sum = 0;
            for (size_t k = 0; params[p]->grad && is_quantized(params[p]) && k < params[p]->count; k++) sum += (double)params[p]->grad[k] * (double)params[p]->grad[k];
            norm[p] += sqrt(sum);
        }
        pith_tape_zero_grad(tape);
    }
    return PITH_OK;
}

/* Points for each tensor, 2^bits on average, at quantiles of its values.  The gradients are those of rounded weights. */
static pith_status make_points(work *w, bool by_gradients)
{
    pith_ctx *ctx = w->study->run->ctx;
    pith_tape *tape = pith_task_net_tape(w->net);
    size_t n, n_tensors = 0;
    pith_tape_params(tape, &n);
    double *norm = pith_calloc(ctx, n, sizeof *norm);
    size_t *share = pith_calloc(ctx, n, sizeof *share);
    pith_var **points = pith_calloc(ctx, n, sizeof *points);
    pith_status status = norm && share && points ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK && by_gradients) status = gradient_norms(w, norm, n);
    if (status == PITH_OK) {
        pith_var *const *params = pith_tape_params(tape, &n);
        for (size_t i = 0; i < n; i++)
            if (is_quantized(params[i])) norm[n_tensors++] = norm[i];
        pith_bucket_share(norm, n_tensors, (size_t)1 << w->bits, share);
        pith_tape_step(tape, 0);
    }
    for (size_t i = 0, k = 0; i < n && status == PITH_OK; i++) {
        pith_var *param = pith_tape_params(tape, &(size_t){0})[i];
        if (!is_quantized(param)) continue;
        char name[128];
        snprintf(name, sizeof name, "points.%zu", i);
        points[i] = pith_tape_param(tape, name, PITH_DIMS(share[k]));
        status = points[i] ? pith_bucket_quantiles(ctx, param->data, param->count, PITH_BUCKET, points[i]->data, share[k]) : pith_tape_status(tape);
        k++;
    }
    pith_free(ctx, norm);
    pith_free(ctx, share);
    w->points = points;
    w->n_points = n;
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static pith_status bytes_of(const work *w, double *bytes)
{
    size_t n, sum = 0;
    pith_var *const *params = pith_tape_params(pith_task_net_tape(w->net), &n);
    for (size_t i = 0; i < (w->points ? w->n_points : n); i++) {
        size_t more = 4 * params[i]->count;
        const pith_var *points = w->points ? w->points[i] : NULL;
        if (w->bits && is_quantized(params[i]))
            PITH_TRY(pith_bucket_bytes(w->study->run->ctx, params[i]->data, params[i]->count, PITH_BUCKET, points ? points->data : NULL, points ? points->count : 0, w->bits, &more));
        sum += more;
    }
    *bytes = (double)sum;
    return PITH_OK;
}

static pith_status report(const work *w, const char *name)
{
    pith_task_figures f;
    double bytes;
    PITH_TRY(pith_task_net_measure(w->net, &f));
    PITH_TRY(bytes_of(w, &bytes));
    PITH_TRY(pith_run_row(w->study->run, name, "acc", f.accuracy));
    PITH_TRY(pith_run_row(w->study->run, name, "loss", f.loss));
    return pith_run_row(w->study->run, name, "kib", bytes / 1024);
}

static pith_status run_student(study *st, const char *name, pith_task_kind task, int student, method m, int bits)
{
    work w = {0};
    pith_status status = PITH_OK;
    bool from_float = m == POST || m == LEARNED || m == EQUAL;
    if (from_float) PITH_TRY(open_distilled(st, task, student));
    if (m != QAT) PITH_TRY(open_teacher(st, task));
    PITH_GOTO(new_work(st, task, width_of(st, task, student), &w), done);
    w.bits = bits;
    w.teacher = m == QAT ? NULL : st->teacher[task];
    if (from_float) PITH_GOTO(pith_task_net_copy(w.net, st->distilled[task][student]), done);
    if (m == LEARNED || m == EQUAL) PITH_GOTO(make_points(&w, m == LEARNED), done);
    if (m != POST) PITH_GOTO(train(&w), done);
    status = report(&w, name);
done:
    pith_task_net_free(w.net);
    pith_free(st->run->ctx, w.points);
    return status;
}

/* A network of the study as a row. */
static pith_status report_kept(study *st, const char *name, pith_task_kind task, pith_task_net *net)
{
    work w = {.study = st, .net = net, .task = task};
    return report(&w, name);
}

static size_t word(const char **at, const char *const *names, size_t n)
{
    size_t len = strcspn(*at, "_"), i = 0;
    while (i < n && (strlen(names[i]) != len || memcmp(names[i], *at, len) != 0)) i++;
    *at += len + ((*at)[len] == '_');
    return i;
}

static pith_status run_row(void *user, const char *name)
{
    study *st = user;
    const char *at = name + strcspn(name, "_");
    pith_task_kind task = pith_task_find(name, (size_t)(at - name));
    at += *at == '_';
    if (task < N_TASKS && strcmp(at, "teacher") == 0) {
        PITH_TRY(open_teacher(st, task));
        return report_kept(st, name, task, st->teacher[task]);
    }
    size_t student = word(&at, student_names, N_STUDENTS), m = word(&at, method_names, N_METHODS);
    int bits = at[0] >= '1' && at[0] <= '8' && !at[1] ? at[0] - '0' : 0;
    if (task >= N_TASKS || student == N_STUDENTS || m == N_METHODS || (m == FLOAT ? *at != 0 : !bits))
        return pith_fail(st->run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is no task (vgg, words) with teacher, or with a student (half, quarter), a method (float, post, qat, distil, learned, equal) and, but for float, bits (1 to 8)",
                         st->run->card->file, name);
    if (m != FLOAT) return run_student(st, name, task, (int)student, (method)m, bits);
    PITH_TRY(open_distilled(st, task, (int)student));
    return report_kept(st, name, task, st->distilled[task][student]);
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    if (s->widths.n != N_TASKS) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: widths are two: of vgg and words", run->card->file);
    pith_task_options o = {.images = s->images, .texts = s->texts, .n_images = s->n_images, .text_bytes = s->text_bytes, .vocabulary = s->vocabulary};
    study st = {.run = run};
    PITH_TRY(pith_tasks_new(run, &o, &st.tasks));
    pith_status status = pith_run_each(run, &s->runs, run_row, &st);
    for (int t = 0; t < N_TASKS; t++) {
        pith_task_net_free(st.teacher[t]);
        for (int k = 0; k < N_STUDENTS; k++) pith_task_net_free(st.distilled[t][k]);
    }
    pith_tasks_free(st.tasks);
    return status;
}

const pith_procedure pith_procedure_quantized_distillation = {"quantized_distillation", keys, sizeof(settings), run};
