/* The least size within a budget of errors. */
#include "stage/allocate/budget.h"

#include <math.h>

/* best[b]: least size of the items so far whose errors take at most b buckets; INFINITY: none. */
typedef struct table {
    double *best, *next;           /* [n_buckets + 1] */
    uint32_t *taken;               /* [n_items, n_buckets + 1] the choice that led there, within its item */
} table;

static size_t buckets_of(double error, double width, size_t n_buckets)
{
    if (error <= 0) return 0;
    double b = ceil(error / width * (1 - 1e-12)); /* what divides evenly takes no more for rounding */
    return b <= (double)n_buckets ? (size_t)PITH_MAX(b, 1) : n_buckets + 1;
}

static void add_item(table *t, const pith_choice *choices, size_t n, double width, size_t n_buckets, uint32_t *taken)
{
    for (size_t b = 0; b <= n_buckets; b++) t->next[b] = (double)INFINITY;
    for (size_t c = 0; c < n; c++) {
        size_t cost = buckets_of(choices[c].error, width, n_buckets);
        for (size_t b = cost; b <= n_buckets; b++) {
            double size = t->best[b - cost] + choices[c].size;
            if (!(size < t->next[b])) continue;
            t->next[b] = size;
            taken[b] = (uint32_t)c;
        }
    }
    double *swap = t->best;
    t->best = t->next;
    t->next = swap;
}

static pith_status too_little(pith_ctx *ctx, size_t n_items, double budget)
{
    return pith_fail(ctx, PITH_E_SPACE, "the smallest errors of %zu items are above the budget of %g; allow more", n_items, budget);
}

static pith_status spend(pith_ctx *ctx, table *t, const pith_choice *choices, const size_t *first, size_t n_items, double width, size_t n_buckets, size_t *chosen)
{
    for (size_t b = 0; b <= n_buckets; b++) t->best[b] = 0;
    for (size_t i = 0; i < n_items; i++) add_item(t, choices + first[i], first[i + 1] - first[i], width, n_buckets, t->taken + i * (n_buckets + 1));
    size_t b = n_buckets;
    if (n_items && !isfinite(t->best[b])) return too_little(ctx, n_items, width * (double)n_buckets);
    for (size_t i = n_items; i-- > 0;) {
        chosen[i] = first[i] + t->taken[i * (n_buckets + 1) + b];
        b -= buckets_of(choices[chosen[i]].error, width, n_buckets);
    }
    return PITH_OK;
}

static pith_status check(pith_ctx *ctx, const pith_choice *choices, const size_t *first, size_t n_items, double budget)
{
    if (!(budget >= 0) || !isfinite(budget)) return pith_fail(ctx, PITH_E_ARGUMENT, "a budget of %g is none", budget);
    for (size_t i = 0; i < n_items; i++) {
        if (first[i] >= first[i + 1]) return pith_fail(ctx, PITH_E_ARGUMENT, "item %zu of a budget has no choice", i);
        for (size_t c = first[i]; c < first[i + 1]; c++)
            if (!isfinite(choices[c].size) || !isfinite(choices[c].error) || choices[c].size < 0 || choices[c].error < 0)
                return pith_fail(ctx, PITH_E_NONFINITE, "choice %zu of item %zu has size %g and error %g", c - first[i], i, choices[c].size, choices[c].error);
    }
    return PITH_OK;
}

pith_status pith_budget_spend(pith_ctx *ctx, const pith_choice *choices, const size_t *first, size_t n_items, double budget, size_t n_buckets, size_t *chosen)
{
    size_t cells;
    PITH_TRY(check(ctx, choices, first, n_items, budget));
    if (n_buckets < 1 || n_buckets > (size_t)1 << 24) return pith_fail(ctx, PITH_E_ARGUMENT, "a budget in %zu buckets is none", n_buckets);
    if (!pith_mul(n_items, n_buckets + 1, &cells)) return pith_fail(ctx, PITH_E_LIMIT, "%zu items of %zu buckets are too many", n_items, n_buckets);
    table t = {pith_array(ctx, n_buckets + 1, sizeof(double)), pith_array(ctx, n_buckets + 1, sizeof(double)), pith_calloc(ctx, cells, sizeof(uint32_t))};
    double width = budget > 0 ? budget / (double)n_buckets : 1; /* nothing to spend: only what has no error */
    size_t usable = budget > 0 ? n_buckets : 0;
    pith_status status = t.best && t.next && t.taken ? spend(ctx, &t, choices, first, n_items, width, usable, chosen) : PITH_E_MEMORY;
    pith_free(ctx, t.best);
    pith_free(ctx, t.next);
    pith_free(ctx, t.taken);
    return status;
}

/* ---- rivals ----------------------------------------------------------------------------------- */

/* Each item's choice of the smallest error, of these the smallest; *left: what of the budget they leave. */
static pith_status begin_small(pith_ctx *ctx, const pith_choice *c, const size_t *first, size_t n_items, double budget, size_t *chosen, double *left)
{
    PITH_TRY(check(ctx, c, first, n_items, budget));
    *left = budget;
    for (size_t i = 0; i < n_items; i++) {
        size_t best = first[i];
        for (size_t k = first[i]; k < first[i + 1]; k++)
            if (c[k].error < c[best].error || (c[k].error <= c[best].error && c[k].size < c[best].size)) best = k;
        chosen[i] = best;
        *left -= c[best].error;
    }
    return *left >= 0 ? PITH_OK : too_little(ctx, n_items, budget);
}

pith_status pith_budget_spend_greedily(pith_ctx *ctx, const pith_choice *c, const size_t *first, size_t n_items, double budget, size_t *chosen)
{
    double left;
    PITH_TRY(begin_small(ctx, c, first, n_items, budget, chosen, &left));
    for (;;) {
        size_t item = n_items, to = 0;
        double best = 0;
        for (size_t i = 0; i < n_items; i++)
            for (size_t k = first[i]; k < first[i + 1]; k++) {
                double saved = c[chosen[i]].size - c[k].size, added = c[k].error - c[chosen[i]].error;
                double gain = added > 0 ? saved / added : saved > 0 ? (double)INFINITY : 0;
                if (saved > 0 && added <= left && gain > best) best = gain, item = i, to = k;
            }
        if (item == n_items) return PITH_OK;
        left -= c[to].error - c[chosen[item]].error;
        chosen[item] = to;
    }
}

pith_status pith_budget_spend_randomly(pith_ctx *ctx, const pith_choice *c, const size_t *first, size_t n_items, double budget, pith_rng *rng, size_t *chosen)
{
    double left;
    PITH_TRY(begin_small(ctx, c, first, n_items, budget, chosen, &left));
    size_t *order = pith_array(ctx, n_items, sizeof *order);
    if (!order) return PITH_E_MEMORY;
    for (size_t i = 0; i < n_items; i++) { /* Fisher and Yates */
        size_t at = pith_rng_below(rng, (uint32_t)(i + 1));
        order[i] = order[at];
        order[at] = i;
    }
    for (size_t i = 0; i < n_items; i++) {
        size_t item = order[i], n = 0;
        double least = c[chosen[item]].error, have = left + least;
        for (size_t k = first[item]; k < first[item + 1]; k++) n += c[k].error <= have;
        for (size_t k = first[item], drawn = pith_rng_below(rng, (uint32_t)n); k < first[item + 1]; k++)
            if (c[k].error <= have && drawn-- == 0) {
                chosen[item] = k;
                break;
            }
        left = have - c[chosen[item]].error;
    }
    pith_free(ctx, order);
    return PITH_OK;
}
