/* A small thing to learn: a function of two layers with dropout and running means, of data made from (step, part). */
#ifndef TASK_H
#define TASK_H

#include <math.h>

#include "test.h"
#include "train/train.h"

enum { TASK_IN = 6, TASK_HIDDEN = 16, TASK_BATCH = 8 };

typedef struct task {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_var *w1, *b1, *w2;
    float mean[TASK_HIDDEN], variance[TASK_HIDDEN]; /* kept */
    float x[4 * TASK_BATCH * TASK_IN], y[4 * TASK_BATCH];
    uint64_t cancel_after, n_losses; /* 0: never */
    uint64_t nan_at;                 /* 0: never */
    size_t batch;
    bool no_dropout;
} task;

static inline bool task_cancelled(void *user)
{
    task *t = user;
    return t->cancel_after && t->n_losses >= t->cancel_after;
}

static inline void task_open(task *t, int n_threads)
{
    pith_options o = {.n_threads = n_threads, .log_level = PITH_LOG_ERROR, .log = test_log, .cancelled = task_cancelled, .user = t};
    *t = (task){.batch = TASK_BATCH};
    assert_int_equal(pith_ctx_new(&o, &t->ctx), PITH_OK);
    assert_int_equal(pith_tape_new(t->ctx, 5, &t->tape), PITH_OK);
    t->w1 = pith_tape_param(t->tape, "w1", PITH_DIMS(TASK_HIDDEN, TASK_IN));
    t->b1 = pith_tape_param(t->tape, "b1", PITH_DIMS(TASK_HIDDEN));
    t->w2 = pith_tape_param(t->tape, "w2", PITH_DIMS(1, TASK_HIDDEN));
    assert_non_null(t->w2);
    pith_rng rng = {1, 2, 3};
    for (size_t i = 0; i < t->w1->count; i++) t->w1->data[i] = 0.4f * pith_rng_normal(&rng);
    for (size_t i = 0; i < t->w2->count; i++) t->w2->data[i] = 0.2f * pith_rng_normal(&rng);
    for (size_t i = 0; i < TASK_HIDDEN; i++) t->variance[i] = 1;
}

static inline void task_close(task *t)
{
    pith_tape_free(t->tape);
    pith_ctx_free(t->ctx);
}

static inline void task_data(task *t, uint64_t index, size_t n)
{
    pith_rng rng = {9, index, 0};
    for (size_t r = 0; r < n; r++) {
        float *x = t->x + r * TASK_IN;
        for (size_t i = 0; i < TASK_IN; i++) x[i] = pith_rng_normal(&rng);
        t->y[r] = tanhf(x[0] - x[1]) + 0.5f * x[2];
    }
}

static inline pith_var *task_forward(task *t, size_t n)
{
    pith_var *h = pith_var_linear(pith_tape_input(t->tape, t->x, PITH_DIMS(n, TASK_IN)), t->w1, t->b1);
    h = pith_var_batch_norm(pith_var_tanh(h), NULL, NULL, 1e-5f, t->mean, t->variance, 0.1f);
    if (!t->no_dropout) h = pith_var_dropout(h, 0.1f);
    return pith_var_mse(pith_var_linear(h, t->w2, NULL), pith_tape_input(t->tape, t->y, PITH_DIMS(n, 1)));
}

static inline pith_var *task_loss(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    task *t = user;
    t->n_losses++;
    task_data(t, at->step * at->n_parts + at->part, t->batch);
    pith_var *rec = pith_train_term(at, "rec", task_forward(t, t->batch));
    pith_var *size = pith_train_term(at, "size", pith_var_scale(pith_var_mean(pith_var_square(t->w2), PITH_ALL_AXES), 1e-3f));
    if (t->nan_at && at->step == t->nan_at) rec = pith_var_log(pith_var_neg(rec));
    return pith_var_add(rec, size);
}

static inline pith_status task_evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    task *t = user;
    double sum = 0;
    for (uint64_t k = 0; k < 4; k++) {
        task_data(t, 1000000 + k, t->batch);
        pith_var *loss = task_forward(t, t->batch);
        if (!loss) return pith_tape_status(t->tape);
        sum += (double)loss->data[0];
    }
    pith_train_note(at, "mse", sum / 4);
    return PITH_OK;
}

/* Options under which everything that a checkpoint can hold is in use. */
static inline pith_train_options task_options(task *t, uint64_t n_steps, const char *checkpoint)
{
    return (pith_train_options){.n_steps = n_steps, .evaluate = task_evaluate, .evaluate_every = 7, .log_every = 5, .checkpoint = checkpoint,
                                .watch = "mse", .restore_best = false, .user = t};
}

static inline pith_train_role task_role(pith_optimizer_kind kind)
{
    return (pith_train_role){.optimizer = {.kind = kind, .momentum = kind == PITH_SGD ? 0.9f : 0, .beta1 = kind == PITH_ADAFACTOR ? 0.9f : 0, .update_clip = 1, .weight_decay = 0.01f, .clip_norm = 1, .ema = 0.9f},
                             .schedule = {PITH_RATE_COSINE, 0.01f, 0.001f, 3, 0}, .group = pith_train_group_matrices, .loss = task_loss};
}

static inline void task_keep(task *t, pith_trainer *trainer)
{
    assert_int_equal(pith_trainer_keep(trainer, "mean", t->mean, sizeof t->mean), PITH_OK);
    assert_int_equal(pith_trainer_keep(trainer, "variance", t->variance, sizeof t->variance), PITH_OK);
}

/* All that the task has learned, as one hash. */
static inline uint64_t task_hash(const task *t)
{
    const pith_var *params[] = {t->w1, t->b1, t->w2};
    uint64_t hash[5] = {0};
    for (size_t i = 0; i < 3; i++) hash[i] = pith_hash(params[i]->data, params[i]->count * sizeof(float));
    hash[3] = pith_hash(t->mean, sizeof t->mean);
    hash[4] = pith_hash(t->variance, sizeof t->variance);
    return pith_hash(hash, sizeof hash);
}

#endif
