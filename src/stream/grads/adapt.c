/* Parameters by layer. */
#include "stream/grads/adapt.h"

#include <math.h>

#include "stage/allocate/budget.h"

struct pith_adapt {
    pith_exchange *exchange;
    pith_ctx *ctx;
    pith_adapt_options o;
    double *candidates;           /* [n] ascending */
    size_t n;
    const pith_layer *layers;
    size_t *at, n_layers;         /* [n_layers] those of the exchange that are compressed */
    double *norms;                /* [n_layers] of gradients, the last time; -1: there was none */
    double *usual, *params;       /* [n_layers] each one's usual parameter, and what it gets */
    pith_choice *choices;         /* [n_layers, n] */
    size_t *first, *chosen;       /* [n_layers + 1]; [n_layers] */
    uint64_t round;
};

/* ---- making ----------------------------------------------------------------------------------- */

/* Whole numbers of low..high, or shares; list NULL: how many. */
static size_t list_candidates(pith_compressor_kind kind, double low, double high, double *list)
{
    size_t n = 0;
    if (kind == PITH_COMPRESS_POWER || kind == PITH_COMPRESS_QSGD) {
        double least = kind == PITH_COMPRESS_QSGD ? 2 : 1, most = kind == PITH_COMPRESS_QSGD ? 16 : high;
        for (double p = PITH_MAX(ceil(low), least); p <= PITH_MIN(floor(high), most); p++, n++)
            if (list) list[n] = p;
        return n;
    }
    for (int i = 0; low * exp2(i / 4.0) <= PITH_MIN(high, 1) * (1 + 1e-9); i++, n++)
        if (list) list[n] = PITH_MIN(low * exp2(i / 4.0), 1);
    return n;
}

static pith_status fill(pith_adapt *a)
{
    const pith_compressor *c = pith_exchange_compressor(a->exchange);
    const pith_adapt_options *o = &a->o;
    double low = (o->strict > 0 ? o->strict : o->usual) / 2, high = 2 * o->usual;
    if (c->kind == PITH_COMPRESS_DENSE || c->kind == PITH_COMPRESS_SIGN) return pith_fail(a->ctx, PITH_E_ARGUMENT, "layers share out a rank, bits or a share of values; this compressor has none");
    if (!(o->alpha > 0) || !isfinite(o->alpha) || o->n_buckets < 1) return pith_fail(a->ctx, PITH_E_ARGUMENT, "a budget of %g of the usual errors in %zu buckets is none", o->alpha, o->n_buckets);
    PITH_TRY(pith_compressor_check(a->ctx, &(pith_compressor){c->kind, o->usual}));
    if (o->strict > 0) PITH_TRY(pith_compressor_check(a->ctx, &(pith_compressor){c->kind, o->strict}));
    a->n = list_candidates(c->kind, low, high, NULL);
    size_t n_all;
    a->layers = pith_exchange_layers(a->exchange, &n_all);
    a->candidates = pith_array(a->ctx, a->n, sizeof *a->candidates);
    a->at = pith_array(a->ctx, n_all, sizeof *a->at);
    a->norms = pith_array(a->ctx, n_all, sizeof *a->norms);
    a->usual = pith_array(a->ctx, n_all, sizeof *a->usual);
    a->params = pith_array(a->ctx, n_all, sizeof *a->params);
    a->choices = pith_array(a->ctx, n_all, a->n * sizeof *a->choices);
    a->first = pith_array(a->ctx, n_all + 1, sizeof *a->first);
    a->chosen = pith_array(a->ctx, n_all, sizeof *a->chosen);
    if (!a->candidates || !a->at || !a->norms || !a->usual || !a->params || !a->choices || !a->first || !a->chosen) return PITH_E_MEMORY;
    list_candidates(c->kind, low, high, a->candidates);
    for (size_t i = 0; i < n_all; i++)
        if (a->layers[i].compressed) a->at[a->n_layers++] = i;
    for (size_t l = 0; l < a->n_layers; l++) a->norms[l] = -1;
    for (size_t l = 0; l <= a->n_layers; l++) a->first[l] = l * a->n;
    return PITH_OK;
}

pith_status pith_adapt_new(pith_exchange *exchange, const pith_adapt_options *options, pith_adapt **out)
{
    pith_ctx *ctx = pith_group_ctx(pith_exchange_group(exchange));
    pith_adapt *a = pith_calloc(ctx, 1, sizeof *a);
    if (!a) return PITH_E_MEMORY;
    *a = (pith_adapt){.exchange = exchange, .ctx = ctx, .o = *options};
    pith_status status = fill(a);
    if (status == PITH_OK) *out = a;
    else pith_adapt_free(a);
    return status;
}

void pith_adapt_free(pith_adapt *a)
{
    if (!a) return;
    void *blocks[] = {a->candidates, a->at, a->norms, a->usual, a->params, a->choices, a->first, a->chosen};
    for (size_t i = 0; i < PITH_COUNT(blocks); i++) pith_free(a->ctx, blocks[i]);
    pith_free(a->ctx, a);
}

const double *pith_adapt_candidates(const pith_adapt *a, size_t *n)
{
    *n = a->n;
    return a->candidates;
}

/* ---- choosing, by worker 0 -------------------------------------------------------------------- */

static const pith_layer *layer(const pith_adapt *a, size_t l) { return &a->layers[a->at[l]]; }

static double size_at(const pith_adapt *a, size_t l, double param)
{
    return pith_compressor_bytes(&(pith_compressor){pith_exchange_compressor(a->exchange)->kind, param}, layer(a, l)->rows, layer(a, l)->cols);
}

static pith_status error_at(const pith_adapt *a, size_t l, double param, double *error)
{
    PITH_TRY(pith_channel_error(layer(a, l)->channel, param, layer(a, l)->mean, error));
    *error = sqrt(*error);
    return PITH_OK;
}

/* Each layer's usual parameter, by its norm now and before. */
static void choose_usual(pith_adapt *a, pith_adapt_report *r)
{
    for (size_t l = 0; l < a->n_layers; l++) {
        const pith_layer *at = layer(a, l);
        double square = 0;
        for (size_t k = 0; k < at->rows * at->cols; k++) square += (double)at->mean[k] * (double)at->mean[k];
        double norm = sqrt(square), before = a->norms[l];
        bool critical = before < 0 || fabs(norm - before) >= a->o.change * before;
        a->norms[l] = norm;
        a->usual[l] = a->o.strict > 0 && !critical ? a->o.strict : a->o.usual;
        r->n_critical += a->o.strict > 0 && critical;
    }
}

static double chosen_size(const pith_adapt *a)
{
    double size = 0;
    for (size_t l = 0; l < a->n_layers; l++) size += a->choices[a->chosen[l]].size;
    return size;
}

/* What the three allocators make of the tables; chosen is the dynamic programme's. */
static pith_status search(pith_adapt *a, pith_adapt_report *r)
{
    pith_rng rng = {a->o.seed, ((uint64_t)1 << 32) + a->round, 0};
    PITH_TRY(pith_budget_spend_greedily(a->ctx, a->choices, a->first, a->n_layers, r->budget, a->chosen));
    r->greedy_size = chosen_size(a);
    PITH_TRY(pith_budget_spend_randomly(a->ctx, a->choices, a->first, a->n_layers, r->budget, &rng, a->chosen));
    r->random_size = chosen_size(a);
    double start = pith_now_s();
    pith_status status = pith_budget_spend(a->ctx, a->choices, a->first, a->n_layers, r->budget, a->o.n_buckets, a->chosen);
    r->search_s = pith_now_s() - start;
    return status;
}

static pith_status spread(pith_adapt *a, pith_adapt_report *r)
{
    double start = pith_now_s(), size = 0;
    for (size_t l = 0; l < a->n_layers; l++) {
        double usual;
        for (size_t k = 0; k < a->n; k++) {
            pith_choice *c = &a->choices[l * a->n + k];
            c->size = size_at(a, l, a->candidates[k]);
            PITH_TRY(error_at(a, l, a->candidates[k], &c->error));
        }
        PITH_TRY(error_at(a, l, a->usual[l], &usual));
        r->budget += a->o.alpha * usual;
    }
    r->table_s = pith_now_s() - start;
    for (size_t l = 0; l < a->n_layers; l++) size += size_at(a, l, a->usual[l]);
    pith_status status = search(a, r);
    bool found = status == PITH_OK && chosen_size(a) < size;
    if (status != PITH_OK && (status != PITH_E_SPACE || a->o.alpha < 1)) return status;
    if (!found) pith_log(a->ctx, PITH_LOG_INFO, "layers keep their usual parameters: errors rounded up to %zu buckets leave nothing smaller", a->o.n_buckets);
    for (size_t l = 0; l < a->n_layers; l++) a->params[l] = found ? a->candidates[a->chosen[l] - a->first[l]] : a->usual[l];
    return PITH_OK;
}

static pith_status choose(pith_adapt *a, pith_adapt_report *r)
{
    choose_usual(a, r);
    if (a->o.spread && a->n_layers) PITH_TRY(spread(a, r));
    else memcpy(a->params, a->usual, a->n_layers * sizeof *a->params);
    r->n_layers = a->n_layers;
    for (size_t l = 0; l < a->n_layers; l++) {
        double error;
        PITH_TRY(error_at(a, l, a->params[l], &error));
        r->error += error;
        r->size += size_at(a, l, a->params[l]);
        r->usual_size += size_at(a, l, a->o.usual);
        r->n_changed += a->params[l] != layer(a, l)->param;
    }
    if (!a->o.spread) r->budget = r->error;
    return PITH_OK;
}

pith_status pith_adapt_choose(pith_adapt *a, pith_adapt_report *report)
{
    pith_group *group = pith_exchange_group(a->exchange);
    *report = (pith_adapt_report){0};
    pith_status status = pith_group_leads(group) ? choose(a, report) : PITH_OK;
    PITH_TRY(pith_group_agree(group, status));
    PITH_TRY(pith_group_broadcast(group, a->params, a->n_layers * sizeof *a->params));
    a->round++;
    for (size_t l = 0; l < a->n_layers; l++) PITH_TRY(pith_exchange_tune(a->exchange, a->at[l], a->params[l]));
    return PITH_OK;
}
