/* Buckets of gradients on their way. */
#include "stream/grads/reduce.h"

typedef struct bucket {
    size_t from, to;                      /* parameters, in the reducer's order */
    size_t count;                         /* values, then one a parameter: 1 where it has a gradient */
    size_t missing;                       /* gradients that are not here yet */
    float *x, *others;
    pith_group_sum_state sum;
} bucket;

typedef struct slot {
    pith_var *param;
    size_t bucket, at;                    /* where its values are */
    bool told;
} slot;

struct pith_reducer {
    pith_group *group;
    pith_tape *tape;
    slot *slots;                          /* [n_slots] parameters from the last to the first */
    size_t n_slots;
    bucket *buckets;
    size_t n_buckets, n_begun, n_early;
    pith_status status;                   /* of what began within the backward pass */
};

/* ---- making ----------------------------------------------------------------------------------- */

static pith_status fill_buckets(pith_reducer *r, size_t bucket_bytes)
{
    pith_ctx *ctx = pith_group_ctx(r->group);
    pith_var *const *params = pith_tape_params(r->tape, &r->n_slots);
    r->slots = pith_calloc(ctx, r->n_slots, sizeof *r->slots);
    r->buckets = pith_calloc(ctx, r->n_slots, sizeof *r->buckets);
    if (!r->slots || !r->buckets) return PITH_E_MEMORY;
    for (size_t i = 0; i < r->n_slots; i++) {
        pith_var *p = params[r->n_slots - 1 - i];
        bucket *b = r->n_buckets ? &r->buckets[r->n_buckets - 1] : NULL;
        if (!b || (b->count + p->count) * sizeof(float) > bucket_bytes) {
            b = &r->buckets[r->n_buckets++];
            *b = (bucket){.from = i};
        }
        r->slots[i] = (slot){.param = p, .bucket = r->n_buckets - 1, .at = b->count};
        b->count += p->count;
        b->to = i + 1;
    }
    for (size_t i = 0; i < r->n_buckets; i++) {
        bucket *b = &r->buckets[i];
        size_t padded = pith_group_padded(r->group, b->count + b->to - b->from);
        b->x = pith_calloc(ctx, padded, sizeof *b->x);
        b->others = pith_calloc(ctx, padded, sizeof *b->others);
        if (!b->x || !b->others) return PITH_E_MEMORY;
    }
    return PITH_OK;
}

pith_status pith_reducer_new(pith_group *group, pith_tape *tape, size_t bucket_bytes, pith_reducer **out)
{
    pith_ctx *ctx = pith_group_ctx(group);
    if (pith_group_local(group) != 1) return pith_fail(ctx, PITH_E_ARGUMENT, "a tape's gradients are summed over processes; this group has %zu workers in one", pith_group_local(group));
    pith_reducer *r = pith_calloc(ctx, 1, sizeof *r);
    if (!r) return PITH_E_MEMORY;
    r->group = group;
    r->tape = tape;
    pith_status status = fill_buckets(r, bucket_bytes);
    if (status == PITH_OK) *out = r;
    else pith_reducer_free(r);
    return status;
}

void pith_reducer_free(pith_reducer *r)
{
    if (!r) return;
    pith_ctx *ctx = pith_group_ctx(r->group);
    pith_tape_watch(r->tape, NULL, NULL);
    for (size_t i = 0; i < r->n_buckets; i++) {
        pith_free(ctx, r->buckets[i].x);
        pith_free(ctx, r->buckets[i].others);
    }
    pith_free(ctx, r->buckets);
    pith_free(ctx, r->slots);
    pith_free(ctx, r);
}

size_t pith_reducer_buckets(const pith_reducer *r, size_t *early)
{
    *early = r->n_early;
    return r->n_buckets;
}

/* ---- a step ----------------------------------------------------------------------------------- */

/* Send what is whole, in the buckets' order, which is the same everywhere; and help on what is on its way. */
static pith_status send(pith_reducer *r)
{
    while (r->n_begun < r->n_buckets && r->buckets[r->n_begun].missing == 0) {
        bucket *b = &r->buckets[r->n_begun++];
        PITH_TRY(pith_group_sum_begin(r->group, &b->sum, b->x, b->others, b->count + b->to - b->from));
    }
    for (size_t i = 0; i < r->n_begun; i++) {
        pith_group_sum_state *s = &r->buckets[i].sum;
        PITH_TRY(pith_group_sum_poke(r->group, s));
        if (s->phase == 1) return PITH_OK; /* what comes after must not send its sums back before this does */
    }
    return PITH_OK;
}

static void ready(void *user, pith_var *param, const float *gradient)
{
    pith_reducer *r = user;
    size_t i = 0;
    while (i < r->n_slots && r->slots[i].param != param) i++;
    if (i == r->n_slots || r->slots[i].told) return;
    slot *s = &r->slots[i];
    bucket *b = &r->buckets[s->bucket];
    s->told = true;
    if (gradient) {
        memcpy(b->x + s->at, gradient, param->count * sizeof *gradient);
        b->x[b->count + i - b->from] = 1;
    }
    b->missing--;
    if (r->status == PITH_OK) r->status = send(r);
}

void pith_reducer_begin(pith_reducer *r)
{
    r->n_begun = r->n_early = 0;
    r->status = PITH_OK;
    for (size_t k = 0; k < r->n_buckets; k++) {
        bucket *b = &r->buckets[k];
        memset(b->x, 0, pith_group_padded(r->group, b->count + b->to - b->from) * sizeof *b->x);
        b->missing = 0;
        for (size_t i = b->from; i < b->to; i++) {
            r->slots[i].told = !r->slots[i].param->needs_grad;
            b->missing += !r->slots[i].told;
        }
    }
    pith_tape_watch(r->tape, ready, r);
}

pith_status pith_reducer_finish(pith_reducer *r)
{
    pith_tape_watch(r->tape, NULL, NULL);
    r->n_early = r->n_begun;
    for (size_t k = 0; k < r->n_buckets; k++) r->buckets[k].missing = 0;
    PITH_TRY(r->status);
    PITH_TRY(send(r));
    for (size_t k = 0; k < r->n_buckets; k++) {
        bucket *b = &r->buckets[k];
        PITH_TRY(pith_group_sum_finish(r->group, &b->sum));
        for (size_t i = b->from; i < b->to; i++) {
            pith_var *p = r->slots[i].param;
            if (!(b->x[b->count + i - b->from] > 0)) continue;
            float *grad = pith_tape_own_grad(p);
            if (!grad) return PITH_E_MEMORY;
            memcpy(grad, b->x + r->slots[i].at, p->count * sizeof *grad);
        }
    }
    return PITH_OK;
}
