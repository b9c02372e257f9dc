/* A small run shared by the processes that mpirun started: what test_processes.py compares.
 *
 * usage: train_processes PARTS STEPS CHECKPOINT COMPRESS WORKERS [DIE_RANK DIE_STEP]
 *
 * COMPRESS as in cards.  Without mpirun, WORKERS above 1 are simulated.  The first process prints a line "losses <sum of the log's> hash <of the parameters> early <buckets sent within the
 * backward pass, of how many>".  Process DIE_RANK kills itself in step DIE_STEP. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "mpi/transport.h"
#include "train/train.h"
#include "train/trainer.h"

enum { IN = 20, HIDDEN = 30, BATCH = 24 };

typedef struct task {
    pith_group *group;
    pith_var *w1, *b1, *w2;
    float mean[HIDDEN], variance[HIDDEN], x[BATCH * IN], y[BATCH];
    long die_rank, die_step;
} task;

/* Item i of step s has the same numbers, in whatever part it is. */
static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    task *t = user;
    size_t n = BATCH / at->n_parts, rank = t->group ? pith_group_first(t->group) : 0;
    if ((long)rank == t->die_rank && (long)at->step == t->die_step) raise(SIGKILL);
    for (size_t i = 0; i < n; i++) {
        pith_rng rng = {7, at->step * BATCH + at->part * n + i, 0};
        for (size_t k = 0; k < IN; k++) t->x[i * IN + k] = pith_rng_normal(&rng);
        t->y[i] = tanhf(t->x[i * IN] - t->x[i * IN + 1]);
    }
    pith_var *h = pith_var_tanh(pith_var_linear(pith_tape_input(tape, t->x, PITH_DIMS(n, IN)), t->w1, t->b1));
    return pith_train_term(at, "mse", pith_var_mse(pith_var_linear(h, t->w2, NULL), pith_tape_input(tape, t->y, PITH_DIMS(n, 1))));
}

static pith_status run(task *t, pith_ctx *ctx, uint32_t n_parts, uint64_t n_steps, const char *checkpoint, const char *compress)
{
    pith_tape *tape;
    pith_trainer *trainer = NULL;
    PITH_TRY(pith_tape_new(ctx, 5, &tape));
    t->w1 = pith_tape_param(tape, "w1", PITH_DIMS(HIDDEN, IN));
    t->b1 = pith_tape_param(tape, "b1", PITH_DIMS(HIDDEN));
    t->w2 = pith_tape_param(tape, "w2", PITH_DIMS(1, HIDDEN));
    if (!t->w2) return PITH_E_MEMORY;
    pith_rng rng = {1, 2, 3};
    for (size_t i = 0; i < t->w1->count; i++) t->w1->data[i] = 0.3f * pith_rng_normal(&rng);
    for (size_t i = 0; i < t->w2->count; i++) t->w2->data[i] = 0.2f * pith_rng_normal(&rng);
    pith_train_options o = {.n_steps = n_steps, .n_parts = n_parts, .log_every = 1, .checkpoint = checkpoint, .checkpoint_every = checkpoint ? 2 : 0, .group = t->group, .user = t};
    pith_train_role role = {.optimizer = {.kind = PITH_ADAMW, .clip_norm = 1}, .schedule = {.rate = 0.01f}, .loss = loss};
    pith_status status = pith_channel_read(ctx, compress, NULL, &o.exchange);
    if (status == PITH_OK) status = pith_trainer_new(tape, &o, &role, 1, &trainer);
    if (status == PITH_OK) status = pith_trainer_share(trainer, "mean", t->mean, HIDDEN);
    if (status == PITH_OK) {
        status = pith_trainer_run(trainer, NULL);
        const pith_train_history *h = pith_trainer_history(trainer);
        double sum = 0;
        size_t early = 0, n_buckets = trainer->reducer ? pith_reducer_buckets(trainer->reducer, &early) : 0;
        for (size_t i = 0; i < h->n_points; i++) sum += h->points[i].loss[0] + h->points[i].term[0];
        if (status == PITH_OK && pith_group_leads(t->group)) printf("losses %.12g hash %016llx early %zu of %zu\n", sum, (unsigned long long)(pith_hash(t->w1->data, t->w1->count * 4) ^ pith_hash(t->w2->data, t->w2->count * 4)), early, n_buckets);
        pith_trainer_free(trainer);
    }
    pith_tape_free(tape);
    return status;
}

extern pith_mpi_open_fn pith_mpi_open;
extern pith_mpi_close_fn pith_mpi_close;

int main(int argc, char **argv)
{
    if (argc < 6) return 2;
    task t = {.die_rank = argc > 7 ? atol(argv[6]) : -1, .die_step = argc > 7 ? atol(argv[7]) : -1};
    pith_options options = {.n_threads = 1, .log_level = PITH_LOG_ERROR};
    pith_ctx *ctx;
    pith_transport transport;
    char text[512] = "";
    bool many = getenv("OMPI_COMM_WORLD_SIZE") != NULL;
    if (pith_ctx_new(&options, &ctx) != PITH_OK) return 1;
    pith_status status = PITH_OK;
    if (many) status = pith_mpi_open(&transport, text, sizeof text) ? pith_group_over(ctx, &transport, &t.group) : PITH_E_IO;
    else if (atol(argv[5]) > 1) status = pith_group_new(ctx, (size_t)atol(argv[5]), &t.group);
    if (status == PITH_OK) status = run(&t, ctx, (uint32_t)atol(argv[1]), (uint64_t)atol(argv[2]), *argv[3] ? argv[3] : NULL, argv[4]);
    if (status != PITH_OK) fprintf(stderr, "%s%s\n", text, pith_error(ctx));
    pith_group_free(t.group);
    pith_ctx_free(ctx);
    fflush(stdout);
    if (many) pith_mpi_close(status != PITH_OK);
    return status != PITH_OK;
}
