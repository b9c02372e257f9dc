/* Pith's side of bench/train: trains a network as it is asked to, line by line.
 *     bench-train NET THREADS
 *     bench-train --list           names of networks
 * A line of standard input is a command and its arguments between tabs; the answer is a line of JSON.
 *     info               the network, its batch and optimizer, the machine
 *     save FOLDER        initial weights as model.safetensors, and the batches: x.f32 [10, batch, input..] or, of a language
 *                        model, ids.i32 [10, batch, tokens]; what is to be told of them, y.i32 [10, batch, labels], and for
 *                        a denoiser, whose y is the time, the noise as target.f32, of x's shape
 *     losses N           losses of the first N steps; once, before any other step
 *     steps N            seconds that N steps take
 *     machine            multiply-adds a second that the threads reach at most (0: not known)
 *     memory             most bytes that the process has held
 * Step i learns batch i % 10.  Seconds are of the clock ("wall") and of all threads of this process ("cpu"). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "machine.h"
#include "model/llama_folder.h"
#include "model/llama_tape.h"
#include "model/net.h"
#include "times.h"

enum { N_BATCHES = 10, N_CLASSES = 10, N_WORDS = 2048, MAX_ARGS = 2, PASSES = 3 };

typedef enum task { CLASSES, NOISE /* to be told from an image and a time */, WORDS /* the next ones of a text */ } task;
static const char *const task_names[] = {"classes", "noise", "words"};

typedef struct subject {
    const char *name, *kind, *settings; /* a language model has no kind, it is the llama below */
    task task;
    size_t batch;
    int n_dims;
    size_t dims[3];              /* of one input: values, or tokens */
    pith_optimizer_options optimizer;
    float rate;
} subject;

#define SGD {.kind = PITH_SGD, .momentum = 0.9f, .weight_decay = 1e-4f}
#define ADAMW {.kind = PITH_ADAMW, .weight_decay = 0.05f}
static const subject subjects[] = {
    {"mlp", "mlp", "{\"hidden\": [256, 256]}", CLASSES, 32, 1, {784}, SGD, 0.02f},
    {"lenet", "lenet5", NULL, CLASSES, 16, 3, {1, 28, 28}, SGD, 0.01f},
    {"resnet20", "resnet20", NULL, CLASSES, 128, 3, {3, 32, 32}, SGD, 0.01f},
    {"vit1m", "vit1m", NULL, CLASSES, 64, 3, {3, 32, 32}, ADAMW, 1e-3f},
    {"lm5m", NULL, NULL, WORDS, 8, 1, {256}, ADAMW, 1e-3f},
    {"lstm", "rnn", "{\"in\": 64, \"width\": 256, \"classes\": 10, \"output\": \"last\"}", CLASSES, 32, 2, {64, 64}, ADAMW, 1e-3f},
    {"unet", "ldm32", "{\"text_vocab\": 0, \"text_width\": 0}", NOISE, 32, 3, {4, 8, 8}, ADAMW, 1e-3f},
};
/* The bed lm5m: layers, width, heads and those of keys and values, inner width. */
enum { LM_LAYERS = 6, LM_WIDTH = 256, LM_HEADS = 8, LM_KV_HEADS = 4, LM_FF = 704 };

typedef struct side {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_net *net;               /* one of the two */
    pith_llama *llama;
    pith_optimizer *optimizer;
    const subject *set;
    float *x, *target;           /* [N_BATCHES, batch, n_values]; target: of NOISE */
    int32_t *ids, *y;            /* [N_BATCHES, batch, n_labels]; ids: of WORDS */
    size_t n_values, n_labels;   /* of one input */
    uint64_t step;
} side;

/* ---- training --------------------------------------------------------------------------------- */

/* Normal noise around a pattern of each class, so that there is something to learn.  A denoiser is told ten times the
 * class, by its name the time. */
static void make_images(side *s)
{
    pith_rng rng = {1, 1, 0};
    for (size_t i = 0; i < N_BATCHES * s->set->batch; i++) {
        s->y[i] = (int32_t)pith_rng_below(&rng, N_CLASSES);
        pith_rng pattern = {1, 2 + (uint64_t)s->y[i], 0};
        for (size_t k = i * s->n_values; k < (i + 1) * s->n_values; k++) {
            float noise = pith_rng_normal(&rng);
            s->x[k] = noise + 0.5f * pith_rng_normal(&pattern);
            if (s->target) s->target[k] = noise;
        }
        if (s->set->task == NOISE) s->y[i] *= 10;
    }
}

/* Each word leaves eight that may come next. */
static void make_texts(side *s)
{
    pith_rng rng = {1, 1, 0};
    uint32_t id = 0;
    for (size_t i = 0; i < N_BATCHES * s->set->batch * s->n_labels; i++) {
        s->ids[i] = (int32_t)id;
        id = (5 * id + pith_rng_below(&rng, 8)) % N_WORDS;
        s->y[i] = (int32_t)id;
    }
}

static pith_var *make_loss(side *s, size_t batch)
{
    size_t n = s->set->batch, dims[4] = {n};
    memcpy(dims + 1, s->set->dims, sizeof s->set->dims);
    const int32_t *y = s->y + batch * n * s->n_labels;
    if (s->set->task == WORDS) return pith_var_cross_entropy(pith_llama_record(s->tape, s->llama, s->ids + batch * n * s->n_labels, n, s->n_labels, false), y);
    pith_var *x = pith_tape_input(s->tape, s->x + batch * n * s->n_values, 1 + s->set->n_dims, dims);
    if (s->set->task == CLASSES) return pith_var_cross_entropy(pith_net_forward(s->net, x), y);
    float t[64]; /* no batch of a denoiser is larger */
    for (size_t i = 0; i < n; i++) t[i] = (float)y[i];
    pith_var *target = pith_tape_input(s->tape, s->target + batch * n * s->n_values, 1 + s->set->n_dims, dims);
    return pith_var_mse(pith_net_run(s->net, &(pith_net_input){.x = x, .t = t}), target);
}

static pith_status step(side *s, float *value)
{
    size_t batch = s->step % N_BATCHES;
    pith_tape_step(s->tape, s->step++);
    pith_var *loss = make_loss(s, batch);
    PITH_TRY(pith_tape_status(s->tape));
    *value = loss->data[0];
    PITH_TRY(pith_backward(s->tape, loss, 0));
    return pith_optimizer_step(s->optimizer, s->set->rate);
}

static pith_status losses(side *s, size_t n)
{
    if (s->step) return pith_fail(s->ctx, PITH_E_ARGUMENT, "losses: steps were made already");
    printf("{\"losses\": [");
    for (size_t i = 0; i < n; i++) {
        float value;
        PITH_TRY(step(s, &value));
        printf(i ? ", %.9g" : "%.9g", (double)value);
    }
    printf("]}\n");
    return PITH_OK;
}

static pith_status steps(side *s, size_t n)
{
    float value;
    times start = now();
    for (size_t i = 0; i < n; i++) PITH_TRY(step(s, &value));
    print_since(start);
    return PITH_OK;
}

/* ---- files ------------------------------------------------------------------------------------ */

static pith_status write_all(pith_ctx *ctx, const char *folder, const char *name, const void *data, size_t len)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    pith_out *out;
    PITH_TRY(pith_out_open(ctx, path, &out));
    pith_status status = pith_out_write(out, data, len);
    if (status == PITH_OK) return pith_out_close(out);
    pith_out_discard(out);
    return status;
}

static pith_status save(side *s, const char *folder)
{
    char path[4096];
    size_t n = N_BATCHES * s->set->batch;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (s->net) PITH_TRY(pith_net_save(s->net, path));
    else PITH_TRY(pith_llama_save(s->ctx, s->llama, NULL, folder, PITH_F32));
    if (s->x) PITH_TRY(write_all(s->ctx, folder, "x.f32", s->x, n * s->n_values * sizeof *s->x));
    if (s->target) PITH_TRY(write_all(s->ctx, folder, "target.f32", s->target, n * s->n_values * sizeof *s->target));
    if (s->ids) PITH_TRY(write_all(s->ctx, folder, "ids.i32", s->ids, n * s->n_labels * sizeof *s->ids));
    PITH_TRY(write_all(s->ctx, folder, "y.i32", s->y, n * s->n_labels * sizeof *s->y));
    printf("{\"saved\": true}\n");
    return PITH_OK;
}

/* ---- the machine ------------------------------------------------------------------------------ */

static void run_peak(void *arg, size_t i, int worker)
{
    (void)i, (void)worker;
    ((const machine *)arg)->fma(NULL);
}

static pith_status measure_machine(side *s)
{
    machine m;
    PITH_TRY(machine_find(s->ctx, &m));
    double best = INFINITY;
    size_t n = (size_t)pith_n_threads(s->ctx) * 8;
    for (int pass = 0; pass < PASSES && m.fma; pass++) {
        double start = pith_now_s();
        pith_parallel(s->ctx, n, run_peak, &m);
        best = fmin(best, pith_now_s() - start);
    }
    printf("{\"fma\": %.0f}\n", m.fma ? (double)n * m.fma_macs / best : 0);
    return PITH_OK;
}

static void info(const side *s)
{
    const subject *t = s->set;
    size_t n_params, n = 0;
    pith_var *const *params = pith_tape_params(s->tape, &n_params);
    for (size_t i = 0; i < n_params; i++) n += params[i]->count;
    printf("{\"version\": \"%s\", \"processor\": \"%s\", \"kernels\": \"%s\", \"parameters\": %zu, \"batch\": %zu, \"task\": \"%s\", \"input\": [", pith_version(), pith_ctx_cpu(s->ctx)->name,
           pith_kernels_get(s->ctx)->name, n, t->batch, task_names[t->task]);
    for (int d = 0; d < t->n_dims; d++) printf(d ? ", %zu" : "%zu", t->dims[d]);
    printf("], \"optimizer\": \"%s\", \"rate\": %g, \"weight_decay\": %g, \"momentum\": %g}\n", t->optimizer.kind == PITH_SGD ? "sgd" : "adamw", (double)t->rate, (double)t->optimizer.weight_decay, (double)t->optimizer.momentum);
}

static void memory(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("{\"peak\": %ld}\n", u.ru_maxrss * 1024L);
}

/* ---- commands --------------------------------------------------------------------------------- */

static bool whole_number(const char *s, size_t *n)
{
    char *end;
    errno = 0;
    unsigned long long x = strtoull(s, &end, 10);
    *n = (size_t)x;
    return !errno && end != s && !*end && x <= 1 << 20;
}

static pith_status answer(side *s, char **args, int n_args)
{
    size_t n;
    if (n_args == 1 && strcmp(args[0], "info") == 0) return info(s), PITH_OK;
    if (n_args == 1 && strcmp(args[0], "memory") == 0) return memory(), PITH_OK;
    if (n_args == 1 && strcmp(args[0], "machine") == 0) return measure_machine(s);
    if (n_args == 2 && strcmp(args[0], "save") == 0) return save(s, args[1]);
    if (n_args == 2 && strcmp(args[0], "losses") == 0 && whole_number(args[1], &n)) return losses(s, n);
    if (n_args == 2 && strcmp(args[0], "steps") == 0 && whole_number(args[1], &n)) return steps(s, n);
    return pith_fail(s->ctx, PITH_E_ARGUMENT, "unknown command: %s", args[0]);
}

static pith_status serve(side *s)
{
    char line[8192], *args[MAX_ARGS + 1];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        int n = 0;
        char *at = NULL;
        for (char *arg = strtok_r(line, "\t", &at); arg && n <= MAX_ARGS; arg = strtok_r(NULL, "\t", &at)) args[n++] = arg;
        if (n == 0) return pith_fail(s->ctx, PITH_E_ARGUMENT, "an empty line");
        PITH_TRY(answer(s, args, n));
        fflush(stdout);
    }
    return PITH_OK;
}

static pith_status open_side(side *s, const char *name)
{
    for (size_t i = 0; i < PITH_COUNT(subjects); i++)
        if (strcmp(subjects[i].name, name) == 0) s->set = &subjects[i];
    if (!s->set) return pith_fail(s->ctx, PITH_E_ARGUMENT, "%s is not among the networks; --list names them", name);
    bool words = s->set->task == WORDS;
    s->n_values = 1;
    for (int d = 0; d < s->set->n_dims; d++) s->n_values *= s->set->dims[d];
    s->n_labels = words ? s->n_values : 1;
    size_t n = N_BATCHES * s->set->batch;
    if (!(s->y = pith_array(s->ctx, n * s->n_labels, sizeof *s->y))) return PITH_E_MEMORY;
    if (words && !(s->ids = pith_array(s->ctx, n * s->n_labels, sizeof *s->ids))) return PITH_E_MEMORY;
    if (!words && !(s->x = pith_array(s->ctx, n * s->n_values, sizeof *s->x))) return PITH_E_MEMORY;
    if (s->set->task == NOISE && !(s->target = pith_array(s->ctx, n * s->n_values, sizeof *s->target))) return PITH_E_MEMORY;
    PITH_TRY(pith_tape_new(s->ctx, 1, &s->tape));
    if (words) {
        pith_settings settings = pith_llama_settings(LM_LAYERS, LM_WIDTH, LM_HEADS, LM_KV_HEADS, LM_FF, (uint32_t)s->n_labels, N_WORDS, true);
        make_texts(s);
        PITH_TRY(pith_llama_fresh(s->ctx, &settings, 1, &s->llama));
        PITH_TRY(pith_llama_train(s->ctx, s->llama, s->tape, NULL));
    } else {
        make_images(s);
        PITH_TRY(pith_net_new(s->tape, s->set->kind, s->set->settings, 1, &s->net));
    }
    return pith_optimizer_new(s->tape, &s->set->optimizer, &s->optimizer);
}

static void close_side(side *s)
{
    pith_free(s->ctx, s->x);
    pith_free(s->ctx, s->target);
    pith_free(s->ctx, s->ids);
    pith_free(s->ctx, s->y);
    pith_optimizer_free(s->optimizer);
    pith_net_free(s->net);
    pith_tape_free(s->tape);
    pith_llama_free(s->ctx, s->llama);
    pith_ctx_free(s->ctx);
}

int main(int argc, char **argv)
{
    side s = {0};
    size_t threads;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < PITH_COUNT(subjects); i++) puts(subjects[i].name);
        return 0;
    }
    if (argc != 3 || !whole_number(argv[2], &threads) || threads > 1024) {
        fprintf(stderr, "usage: %s NET THREADS\n", argv[0]);
        return 2;
    }
    if (pith_ctx_new(&(pith_options){.n_threads = (int)threads}, &s.ctx) != PITH_OK) {
        fprintf(stderr, "%s: cannot start\n", argv[0]);
        return 1;
    }
    pith_status status = open_side(&s, argv[1]);
    if (status == PITH_OK) status = serve(&s);
    if (status != PITH_OK) fprintf(stderr, "%s: %s\n", argv[0], pith_error(s.ctx));
    close_side(&s);
    return status == PITH_OK ? 0 : 1;
}
