/* Pith's side of bench/train: trains a network as it is asked to, line by line.
 *     bench-train NET THREADS
 *     bench-train --list           names of networks
 * A line of standard input is a command and its arguments between tabs; the answer is a line of JSON.
 *     info               the network, its batch and optimizer, the machine
 *     save FOLDER        initial weights as weights.safetensors, batches as x.f32 [10, batch, ..] and y.i32 [10, batch]
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
#include "model/net.h"
#include "times.h"

enum { N_BATCHES = 10, N_CLASSES = 10, MAX_ARGS = 2, PASSES = 3 };

typedef struct subject {
    const char *name, *kind, *settings;
    size_t batch;
    int n_dims;
    size_t dims[3];              /* of one input */
    pith_optimizer_options optimizer;
    float rate;
} subject;

#define SGD {.kind = PITH_SGD, .momentum = 0.9f, .weight_decay = 1e-4f}
#define ADAMW {.kind = PITH_ADAMW, .weight_decay = 0.05f}
static const subject subjects[] = {
    {"mlp", "mlp", "{\"hidden\": [256, 256]}", 32, 1, {784}, SGD, 0.02f},
    {"lenet", "lenet5", NULL, 16, 3, {1, 28, 28}, SGD, 0.01f},
    {"resnet20", "resnet20", NULL, 128, 3, {3, 32, 32}, SGD, 0.01f},
    {"vit1m", "vit1m", NULL, 64, 3, {3, 32, 32}, ADAMW, 1e-3f},
    {"lstm", "rnn", "{\"in\": 64, \"width\": 256, \"classes\": 10, \"output\": \"last\"}", 32, 2, {64, 64}, ADAMW, 1e-3f},
};

typedef struct side {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_net *net;
    pith_optimizer *optimizer;
    const subject *set;
    float *x;                    /* [N_BATCHES, batch, n_values] */
    int32_t *y;                  /* [N_BATCHES, batch] */
    size_t n_values;             /* of one input */
    uint64_t step;
} side;

/* ---- training --------------------------------------------------------------------------------- */

/* Normal noise around a pattern of each class, so that there is something to learn. */
static void make_batches(side *s)
{
    pith_rng rng = {1, 1, 0};
    for (size_t i = 0; i < N_BATCHES * s->set->batch; i++) {
        s->y[i] = (int32_t)pith_rng_below(&rng, N_CLASSES);
        pith_rng pattern = {1, 2 + (uint64_t)s->y[i], 0};
        for (size_t k = 0; k < s->n_values; k++) s->x[i * s->n_values + k] = pith_rng_normal(&rng) + 0.5f * pith_rng_normal(&pattern);
    }
}

static pith_status step(side *s, float *value)
{
    size_t at = s->step % N_BATCHES * s->set->batch, dims[4] = {s->set->batch};
    memcpy(dims + 1, s->set->dims, sizeof s->set->dims);
    pith_tape_step(s->tape, s->step++);
    pith_var *logits = pith_net_forward(s->net, pith_tape_input(s->tape, s->x + at * s->n_values, 1 + s->set->n_dims, dims));
    pith_var *loss = pith_var_cross_entropy(logits, s->y + at);
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
    snprintf(path, sizeof path, "%s/weights.safetensors", folder);
    PITH_TRY(pith_net_save(s->net, path));
    PITH_TRY(write_all(s->ctx, folder, "x.f32", s->x, n * s->n_values * sizeof *s->x));
    PITH_TRY(write_all(s->ctx, folder, "y.i32", s->y, n * sizeof *s->y));
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
    printf("{\"version\": \"%s\", \"processor\": \"%s\", \"kernels\": \"%s\", \"parameters\": %zu, \"batch\": %zu, \"input\": [", pith_version(), pith_ctx_cpu(s->ctx)->name,
           pith_kernels_get(s->ctx)->name, pith_net_n_values(s->net), t->batch);
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
    s->n_values = 1;
    for (int d = 0; d < s->set->n_dims; d++) s->n_values *= s->set->dims[d];
    s->x = pith_array(s->ctx, N_BATCHES * s->set->batch * s->n_values, sizeof *s->x);
    s->y = pith_array(s->ctx, N_BATCHES * s->set->batch, sizeof *s->y);
    if (!s->x || !s->y) return PITH_E_MEMORY;
    make_batches(s);
    PITH_TRY(pith_tape_new(s->ctx, 1, &s->tape));
    PITH_TRY(pith_net_new(s->tape, s->set->kind, s->set->settings, 1, &s->net));
    return pith_optimizer_new(s->tape, &s->set->optimizer, &s->optimizer);
}

static void close_side(side *s)
{
    pith_free(s->ctx, s->x);
    pith_free(s->ctx, s->y);
    pith_optimizer_free(s->optimizer);
    pith_net_free(s->net);
    pith_tape_free(s->tape);
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
