/* Small runs of workers, the same whether they are simulated, threads or processes. */
#ifndef PITH_EXCHANGE_CASE_H
#define PITH_EXCHANGE_CASE_H

#include <math.h>

#include "stream/grads/adapt.h"
#include "stream/grads/reduce.h"

enum { CASE_IN = 24, CASE_HIDDEN = 36, CASE_OUT = 20, CASE_BATCH = 6, CASE_STEPS = 8 };

typedef struct case_net {
    pith_tape *tape;
    pith_var *w1, *b1, *w2, *b2;
    float x[CASE_BATCH * CASE_IN], y[CASE_BATCH * CASE_OUT];
} case_net;

typedef struct case_result {
    uint64_t hash;                 /* of the parameters */
    pith_traffic traffic;
    pith_adapt_report report;      /* of worker 0 */
    size_t n_buckets, early;
} case_result;

static inline pith_status case_net_new(pith_ctx *ctx, case_net *n)
{
    PITH_TRY(pith_tape_new(ctx, 3, &n->tape));
    n->w1 = pith_tape_param(n->tape, "w1", PITH_DIMS(CASE_HIDDEN, CASE_IN));
    n->b1 = pith_tape_param(n->tape, "b1", PITH_DIMS(CASE_HIDDEN));
    n->w2 = pith_tape_param(n->tape, "w2", PITH_DIMS(CASE_OUT, CASE_HIDDEN));
    n->b2 = pith_tape_param(n->tape, "b2", PITH_DIMS(CASE_OUT));
    if (!n->b2 || !n->w2 || !n->b1 || !n->w1) return PITH_E_MEMORY;
    pith_rng rng = {1, 2, 3};
    for (size_t i = 0; i < n->w1->count; i++) n->w1->data[i] = 0.2f * pith_rng_normal(&rng);
    for (size_t i = 0; i < n->w2->count; i++) n->w2->data[i] = 0.2f * pith_rng_normal(&rng);
    return PITH_OK;
}

/* The gradients of one worker's batch of a step. */
static inline pith_status case_pass(case_net *n, uint64_t step, size_t worker)
{
    pith_rng rng = {7, step * 64 + worker, 0};
    for (size_t i = 0; i < PITH_COUNT(n->x); i++) n->x[i] = pith_rng_normal(&rng);
    for (size_t i = 0; i < PITH_COUNT(n->y); i++) n->y[i] = n->x[i / CASE_OUT * CASE_IN + i % CASE_OUT];
    pith_tape_step(n->tape, step);
    pith_var *h = pith_var_tanh(pith_var_linear(pith_tape_input(n->tape, n->x, PITH_DIMS(CASE_BATCH, CASE_IN)), n->w1, n->b1));
    return pith_backward(n->tape, pith_var_mse(pith_var_linear(h, n->w2, n->b2), pith_tape_input(n->tape, n->y, PITH_DIMS(CASE_BATCH, CASE_OUT))), 0);
}

static inline uint64_t case_hash(const case_net *n)
{
    uint64_t h[4] = {pith_hash(n->w1->data, n->w1->count * 4), pith_hash(n->b1->data, n->b1->count * 4), pith_hash(n->w2->data, n->w2->count * 4), pith_hash(n->b2->data, n->b2->count * 4)};
    return pith_hash(h, sizeof h);
}

/* Whole at first, then compressed, then with parameters by layer where the compressor has one. */
static inline pith_status case_train(case_net *n, pith_group *group, pith_exchange *x, pith_adapt *adapt, pith_optimizer *optimizer, case_result *r)
{
    for (uint64_t step = 0; step < CASE_STEPS; step++) {
        pith_exchange_send_whole(x, step == 0);
        pith_exchange_observe(x, step < 4);
        for (size_t i = 0; i < pith_group_local(group); i++) {
            PITH_TRY(case_pass(n, step, pith_group_first(group) + i));
            PITH_TRY(pith_exchange_take(x, i));
        }
        PITH_TRY(pith_exchange_step(x, step));
        PITH_TRY(pith_optimizer_step(optimizer, 0.2f));
        if (step == 3 && adapt) PITH_TRY(pith_adapt_choose(adapt, &r->report));
    }
    r->hash = case_hash(n);
    r->traffic = *pith_group_traffic(group);
    return PITH_OK;
}

static inline pith_status case_exchange(pith_ctx *ctx, pith_group *group, pith_compressor compressor, case_result *r)
{
    case_net n = {0};
    pith_exchange *x = NULL;
    pith_adapt *adapt = NULL;
    pith_optimizer *optimizer = NULL;
    pith_channel_options o = {.compressor = compressor, .feedback = PITH_FEEDBACK_EF, .seed = 5};
    pith_adapt_options a = {.usual = compressor.param, .spread = true, .alpha = 1, .n_buckets = 1000, .seed = 1};
    bool adapts = compressor.kind != PITH_COMPRESS_DENSE && compressor.kind != PITH_COMPRESS_SIGN;
    *r = (case_result){0};
    pith_status status = case_net_new(ctx, &n);
    if (status == PITH_OK) status = pith_exchange_new(group, n.tape, &o, &x);
    if (status == PITH_OK && adapts) status = pith_adapt_new(x, &a, &adapt);
    if (status == PITH_OK) status = pith_optimizer_new(n.tape, &(pith_optimizer_options){.kind = PITH_SGD, .momentum = 0.9f}, &optimizer);
    if (status == PITH_OK) status = case_train(&n, group, x, adapt, optimizer, r);
    pith_optimizer_free(optimizer);
    pith_adapt_free(adapt);
    pith_exchange_free(x);
    pith_tape_free(n.tape);
    return status;
}

/* One worker a process, gradients summed by a reducer in small buckets while the backward pass goes on. */
static inline pith_status case_reduce(pith_ctx *ctx, pith_group *group, case_result *r)
{
    case_net n = {0};
    pith_reducer *reducer = NULL;
    pith_optimizer *optimizer = NULL;
    *r = (case_result){0};
    pith_status status = case_net_new(ctx, &n);
    if (status == PITH_OK) status = pith_reducer_new(group, n.tape, 512, &reducer);
    if (status == PITH_OK) status = pith_optimizer_new(n.tape, &(pith_optimizer_options){.kind = PITH_SGD}, &optimizer);
    for (uint64_t step = 0; step < CASE_STEPS && status == PITH_OK; step++) {
        pith_reducer_begin(reducer);
        status = case_pass(&n, step, pith_group_first(group));
        if (status == PITH_OK) status = pith_reducer_finish(reducer);
        if (status == PITH_OK) status = pith_optimizer_step(optimizer, 0.05f);
    }
    if (status == PITH_OK) {
        r->hash = case_hash(&n);
        r->traffic = *pith_group_traffic(group);
        r->n_buckets = pith_reducer_buckets(reducer, &r->early);
    }
    pith_optimizer_free(optimizer);
    pith_reducer_free(reducer);
    pith_tape_free(n.tape);
    return status;
}

/* The same by n workers in this process, added up in their order. */
static inline pith_status case_reduce_here(pith_ctx *ctx, size_t n_workers, case_result *r)
{
    case_net n = {0};
    pith_optimizer *optimizer = NULL;
    size_t n_params = 0;
    float sum[CASE_HIDDEN * CASE_IN + CASE_HIDDEN + CASE_OUT * CASE_HIDDEN + CASE_OUT];
    *r = (case_result){0};
    pith_status status = case_net_new(ctx, &n);
    if (status == PITH_OK) status = pith_optimizer_new(n.tape, &(pith_optimizer_options){.kind = PITH_SGD}, &optimizer);
    pith_var *const *params = status == PITH_OK ? pith_tape_params(n.tape, &n_params) : NULL;
    for (uint64_t step = 0; step < CASE_STEPS && status == PITH_OK; step++) {
        for (size_t w = 0; w < n_workers && status == PITH_OK; w++) {
            status = case_pass(&n, step, w);
            for (size_t i = 0, at = 0; i < n_params && status == PITH_OK; at += params[i++]->count)
                for (size_t k = 0; k < params[i]->count; k++) sum[at + k] = w ? sum[at + k] + params[i]->grad[k] : params[i]->grad[k];
            pith_tape_zero_grad(n.tape);
        }
        for (size_t i = 0, at = 0; i < n_params && status == PITH_OK; at += params[i++]->count) {
            float *grad = pith_tape_own_grad(params[i]);
            if (grad) memcpy(grad, sum + at, params[i]->count * sizeof *grad);
            else status = PITH_E_MEMORY;
        }
        if (status == PITH_OK) status = pith_optimizer_step(optimizer, 0.05f);
    }
    if (status == PITH_OK) r->hash = case_hash(&n);
    pith_optimizer_free(optimizer);
    pith_tape_free(n.tape);
    return status;
}

#endif
