/* A network's gradients among workers. */
#include "stream/grads/exchange.h"

#include "stream/grads/channel_parts.h"

struct pith_exchange {
    pith_group *group;
    pith_tape *tape;
    pith_compressor compressor;
    pith_layer *layers;                   /* [n] */
    pith_wire_item *items;                /* [n] */
    float **g;                            /* [n_local][n_values] */
    const float **lists;                  /* [n][n_local] into g */
    float *step;                          /* [n_values] */
    float *means;                         /* [n_values] of worker 0; NULL: it is elsewhere */
    size_t n, n_local, n_values;
    uint64_t n_observed;
    bool observes;
    pith_wire wire;
};

/* number: of the parameter on the tape */
static pith_status add_layer(pith_exchange *x, size_t i, pith_var *var, size_t number, const pith_channel_options *options, size_t at)
{
    bool matrix = var->n_dims >= 2 && var->dims[0] > 0;
    pith_layer *l = &x->layers[i];
    pith_channel_options o = *options;
    *l = (pith_layer){.var = var, .rows = matrix ? var->dims[0] : var->count, .cols = matrix ? var->count / var->dims[0] : 1, .compressed = matrix && options->compressor.kind != PITH_COMPRESS_DENSE};
    if (!l->compressed) o.compressor = (pith_compressor){PITH_COMPRESS_DENSE, 0};
    l->param = o.compressor.param;
    l->mean = x->means ? x->means + at : NULL;
    o.tensor = number;
    for (size_t w = 0; w < x->n_local; w++) x->lists[i * x->n_local + w] = x->g[w] + at;
    PITH_TRY(pith_channel_new(x->group, l->rows, l->cols, &o, &l->channel));
    x->items[i] = (pith_wire_item){l->channel, x->lists + i * x->n_local, x->step + at};
    return PITH_OK;
}

static pith_status fill(pith_exchange *x, pith_var *const *params, const pith_channel_options *options)
{
    pith_ctx *ctx = pith_group_ctx(x->group);
    size_t n_all, number = 0;
    pith_var *const *all = pith_tape_params(x->tape, &n_all);
    for (size_t i = 0; i < x->n; i++) x->n_values += params[i]->count;
    x->layers = pith_calloc(ctx, x->n, sizeof *x->layers);
    x->items = pith_calloc(ctx, x->n, sizeof *x->items);
    x->g = pith_make_each(ctx, x->n_local, x->n_values, sizeof(float));
    x->lists = pith_calloc(ctx, x->n * x->n_local, sizeof *x->lists);
    x->step = pith_calloc(ctx, x->n_values, sizeof *x->step);
    if (!x->layers || !x->items || !x->g || !x->lists || !x->step) return PITH_E_MEMORY;
    if (pith_group_leads(x->group) && !(x->means = pith_calloc(ctx, x->n_values, sizeof *x->means))) return PITH_E_MEMORY;
    for (size_t i = 0, at = 0; i < x->n; at += params[i++]->count, number++) {
        while (number < n_all && all[number] != params[i]) number++;
        if (number == n_all) return pith_fail(ctx, PITH_E_ARGUMENT, "parameter %zu of %zu to be sent is not on the tape, or not in its order", i, x->n);
        PITH_TRY(add_layer(x, i, params[i], number, options, at));
    }
    return PITH_OK;
}

pith_status pith_exchange_new(pith_group *group, pith_tape *tape, const pith_channel_options *options, pith_exchange **out)
{
    size_t n;
    pith_var *const *params = pith_tape_params(tape, &n);
    return pith_exchange_new_for(group, tape, params, n, options, out);
}

pith_status pith_exchange_new_for(pith_group *group, pith_tape *tape, pith_var *const *params, size_t n, const pith_channel_options *options, pith_exchange **out)
{
    pith_exchange *x = pith_calloc(pith_group_ctx(group), 1, sizeof *x);
    if (!x) return PITH_E_MEMORY;
    *x = (pith_exchange){.group = group, .tape = tape, .compressor = options->compressor, .n = n, .n_local = pith_group_local(group)};
    pith_status status = fill(x, params, options);
    if (status == PITH_OK) *out = x;
    else pith_exchange_free(x);
    return status;
}

void pith_exchange_free(pith_exchange *x)
{
    if (!x) return;
    pith_ctx *ctx = pith_group_ctx(x->group);
    for (size_t i = 0; x->layers && i < x->n; i++) pith_channel_free(x->layers[i].channel);
    pith_wire_free(x->group, &x->wire);
    pith_free_each(ctx, x->g, x->n_local);
    pith_free(ctx, x->layers);
    pith_free(ctx, x->items);
    pith_free(ctx, x->lists);
    pith_free(ctx, x->step);
    pith_free(ctx, x->means);
    pith_free(ctx, x);
}

pith_group *pith_exchange_group(const pith_exchange *x) { return x->group; }
const pith_compressor *pith_exchange_compressor(const pith_exchange *x) { return &x->compressor; }

const pith_layer *pith_exchange_layers(const pith_exchange *x, size_t *n)
{
    *n = x->n;
    return x->layers;
}

/* ---- a step ----------------------------------------------------------------------------------- */

/* Worker 0's gradient into the averages. */
static void observe(pith_exchange *x)
{
    float part = 1 / (float)++x->n_observed;
    for (size_t k = 0; k < x->n_values; k++) x->means[k] += part * (x->g[0][k] - x->means[k]);
}

pith_status pith_exchange_take(pith_exchange *x, size_t i)
{
    if (i >= x->n_local) return pith_fail(pith_group_ctx(x->group), PITH_E_ARGUMENT, "worker %zu of %zu here has no gradients", i, x->n_local);
    float *at = x->g[i];
    for (size_t k = 0; k < x->n; k++) {
        const pith_var *v = x->layers[k].var;
        if (v->grad) memcpy(at, v->grad, v->count * sizeof *at);
        else memset(at, 0, v->count * sizeof *at);
        at += v->count;
    }
    pith_tape_zero_grad(x->tape);
    if (i == 0 && x->observes && x->means) observe(x);
    return PITH_OK;
}

pith_status pith_exchange_step(pith_exchange *x, uint64_t step)
{
    PITH_TRY(pith_wire_step(x->group, &x->wire, x->items, x->n, step));
    for (size_t k = 0; k < x->n; k++) {
        float *grad = pith_tape_own_grad(x->layers[k].var);
        if (!grad) return PITH_E_MEMORY;
        memcpy(grad, x->items[k].mean, x->layers[k].var->count * sizeof *grad);
    }
    return PITH_OK;
}

void pith_exchange_send_whole(pith_exchange *x, bool whole)
{
    for (size_t k = 0; k < x->n; k++) pith_channel_send_whole(x->layers[k].channel, whole);
}

pith_status pith_exchange_tune(pith_exchange *x, size_t i, double param)
{
    if (i >= x->n || !x->layers[i].compressed) return pith_fail(pith_group_ctx(x->group), PITH_E_ARGUMENT, "tensor %zu of %zu is not compressed", i, x->n);
    PITH_TRY(pith_channel_tune(x->layers[i].channel, param));
    x->layers[i].param = param;
    return PITH_OK;
}

void pith_exchange_observe(pith_exchange *x, bool on)
{
    x->observes = on;
    if (!on) return;
    x->n_observed = 0;
    if (x->means) memset(x->means, 0, x->n_values * sizeof *x->means);
}

pith_status pith_exchange_visit(const pith_exchange *x, pith_channel_visit_fn *visit, void *user)
{
    for (size_t k = 0; k < x->n; k++) PITH_TRY(pith_channel_visit(x->layers[k].channel, visit, user));
    return PITH_OK;
}

double pith_exchange_bytes(const pith_exchange *x, double param)
{
    double bytes = 0;
    for (size_t k = 0; k < x->n; k++) {
        const pith_layer *l = &x->layers[k];
        pith_compressor c = {l->compressed ? x->compressor.kind : PITH_COMPRESS_DENSE, param > 0 ? param : l->param};
        bytes += pith_compressor_bytes(&c, l->rows, l->cols);
    }
    return bytes;
}
