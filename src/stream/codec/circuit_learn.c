/* Passes over a circuit: upwards for likelihoods, and down again for the flows of EM.
 *
 * A pass takes a batch of images side by side.  Nodes of one depth are independent: they are the tasks that threads share,
 * and each does its sums in the order of images, so that results do not depend on threads. */
#include <math.h>

#include "stream/codec/circuit_lanes.h"

#define LANES 16                   /* batches are filled up to a multiple */
#define PASS_IMAGES 128            /* of a pass that only wants likelihoods */

typedef struct pass {
    const pith_circuit *c;         /* learning changes its parameters' values */
    const pith_kernels *kernels;
    size_t cap, lanes;             /* room; of this batch */
    size_t n_items;                /* of this batch; lanes beyond are a copy of the first and count for nothing */
    const uint8_t *x, *known;      /* all images [.., n]; known may be NULL */
    const uint32_t *item;          /* [n_items] which of them */
    uint32_t *order, *level;       /* nodes by depth: those of depth d are order[level[d]] to order[level[d + 1] - 1] */
    size_t n_levels;
    uint8_t *value, *value_known;  /* [n, cap] by node */
    float *inner;                  /* [n, n_states, cap] going up: what the images below and at the node say of its state; going down:
                                      the chance of its state */
    float *up;                     /* [n, n_states, cap] going up: what inner says of the parent's state; going down: chance of the
                                      parent's state over that */
    int32_t *exponent;             /* [n, cap] inner and up are less by 2^exponent */
    float *scratch;                /* [workers, scratch_size] */
    size_t scratch_size;
    const uint32_t *node;          /* of the level at work */

    /* learning */
    float *edge_flow, *leaf_flow;  /* as the parameters */
    bool first, last;              /* batch of those that make one step */
    float momentum, pseudocount;
} pass;

static void pass_free(pass *p)
{
    pith_ctx *ctx = p->c->ctx;
    pith_free(ctx, p->order);
    pith_free(ctx, p->level);
    pith_free(ctx, p->value);
    pith_free(ctx, p->value_known);
    pith_free(ctx, p->inner);
    pith_free(ctx, p->up);
    pith_free(ctx, p->exponent);
    pith_free(ctx, p->scratch);
    pith_free(ctx, p->edge_flow);
    pith_free(ctx, p->leaf_flow);
}

static pith_status sort_by_depth(pass *p)
{
    const pith_circuit *c = p->c;
    if (!(p->order = pith_array(c->ctx, c->n, sizeof *p->order)) || !(p->level = pith_array(c->ctx, c->n + 2, sizeof *p->level))) return PITH_E_MEMORY;
    uint32_t *depth = pith_array(c->ctx, c->n, sizeof *depth);
    if (!depth) return PITH_E_MEMORY;
    memset(p->level, 0, (c->n + 2) * sizeof *p->level);
    for (size_t i = 0; i < c->n; i++) {
        depth[i] = i ? depth[c->tree.parent[i]] + 1 : 0;
        p->n_levels = PITH_MAX(p->n_levels, (size_t)depth[i] + 1);
        p->level[depth[i] + 2]++;
    }
    for (size_t d = 2; d < c->n + 2; d++) p->level[d] += p->level[d - 1];
    for (size_t i = 0; i < c->n; i++) p->order[p->level[depth[i] + 1]++] = (uint32_t)i;
    pith_free(c->ctx, depth);
    return PITH_OK;
}

/* Zeroed p->c, x, known are set before.  Call pass_free also after an error. */
static pith_status pass_begin(pass *p, size_t batch, bool learning)
{
    const pith_circuit *c = p->c;
    size_t k = c->n_states, cap = p->cap = PITH_ROUND_UP(batch, (size_t)LANES), n_values, n_state_values;
    p->kernels = pith_kernels_get(c->ctx);
    if (!pith_mul(c->n, cap, &n_values) || !pith_mul(n_values, k, &n_state_values)) return pith_fail(c->ctx, PITH_E_MEMORY, "a batch of %zu images of %zu variables with %zu states is too large", cap, c->n, k);
    PITH_TRY(sort_by_depth(p));
    p->scratch_size = 2 * k * cap + k * k;
    bool ok = (p->value = pith_alloc(c->ctx, n_values)) && (!p->known || (p->value_known = pith_alloc(c->ctx, n_values))) &&
              (p->inner = pith_array(c->ctx, n_state_values, sizeof *p->inner)) && (p->up = pith_array(c->ctx, n_state_values, sizeof *p->up)) &&
              (p->exponent = pith_array(c->ctx, n_values, sizeof *p->exponent)) &&
              (p->scratch = pith_array(c->ctx, p->scratch_size * (size_t)pith_n_threads(c->ctx), sizeof *p->scratch));
    if (ok && learning)
        ok = (p->edge_flow = pith_array(c->ctx, c->n * k * k, sizeof *p->edge_flow)) && (p->leaf_flow = pith_array(c->ctx, c->n * k * c->n_values, sizeof *p->leaf_flow));
    return ok ? PITH_OK : PITH_E_MEMORY;
}

static float *inner_of(const pass *p, size_t i) { return p->inner + i * p->c->n_states * p->cap; }
static float *up_of(const pass *p, size_t i) { return p->up + i * p->c->n_states * p->cap; }

/* ---- upwards ----------------------------------------------------------------------------------- */

static void gather(const pass *p, const uint8_t *all, size_t i, uint8_t *value)
{
    const uint8_t *column = all + p->c->tree.variable[i];
    for (size_t b = 0; b < p->lanes; b++) value[b] = column[p->item[b < p->n_items ? b : 0] * p->c->n];
}

static void go_up(void *arg, size_t index, int worker)
{
    (void)worker;
    const pass *p = arg;
    const pith_circuit *c = p->c;
    size_t i = p->node[index], k = c->n_states, lanes = p->lanes;
    uint8_t *value = p->value + i * p->cap, *known = p->known ? p->value_known + i * p->cap : NULL;
    float *inner = inner_of(p, i);
    int32_t *exponent = p->exponent + i * p->cap;
    gather(p, p->x, i, value);
    if (known) gather(p, p->known, i, known);
    memset(exponent, 0, lanes * sizeof *exponent);
    pith_lanes_leaf(c, i, value, known, lanes, inner);
    for (uint32_t child = c->first_child[i]; child != PITH_NO_PARENT; child = c->next_sibling[child]) {
        pith_lanes_multiply(inner, up_of(p, child), k * lanes);
        pith_lanes_fit(inner, k, lanes, exponent);
    }
    p->kernels->gemm(pith_circuit_rows(c, i), lanes, k, pith_circuit_edge(c, i), k, inner, lanes, up_of(p, i), lanes, false);
}

static void levels_up(pass *p)
{
    for (size_t d = p->n_levels; d-- > 0;) {
        p->node = p->order + p->level[d];
        pith_parallel(p->c->ctx, p->level[d + 1] - p->level[d], go_up, p);
    }
}

/* Likelihoods of this batch, of an image each: log2 p. */
static void read_log2(const pass *p, double *log2_p)
{
    const float *root = up_of(p, 0);
    for (size_t b = 0; b < p->n_items; b++) {
        int64_t sum = 0;
        for (size_t i = 0; i < p->c->n; i++) sum += p->exponent[i * p->cap + b];
        log2_p[b] = log2((double)root[b]) + (double)sum;
    }
}

static void set_batch(pass *p, const uint32_t *item, size_t n_items)
{
    p->item = item, p->n_items = n_items;
    p->lanes = PITH_ROUND_UP(n_items, (size_t)LANES);
}

pith_status pith_circuit_log2(const pith_circuit *c, const uint8_t *x, const uint8_t *known, size_t n_items, double *log2_p)
{
    PITH_TRY(pith_circuit_values_fit(c, x, n_items));
    if (n_items > UINT32_MAX) return pith_fail(c->ctx, PITH_E_ARGUMENT, "likelihoods of %zu images: ask for at most %u at once", n_items, UINT32_MAX);
    pass p = {.c = c, .x = x, .known = known};
    size_t batch = PITH_MIN(n_items, (size_t)PASS_IMAGES);
    uint32_t item[PASS_IMAGES];
    pith_status status = pass_begin(&p, batch, false);
    for (size_t from = 0; from < n_items && status == PITH_OK; from += batch) {
        size_t n = PITH_MIN(batch, n_items - from);
        for (size_t b = 0; b < n; b++) item[b] = (uint32_t)(from + b);
        set_batch(&p, item, n);
        levels_up(&p);
        read_log2(&p, log2_p + from);
        status = pith_progress(c->ctx, "likelihoods", from + n, n_items);
    }
    pass_free(&p);
    return status;
}

/* ---- down, and EM ------------------------------------------------------------------------------ */

/* One distribution: its flows become a share of it. */
static void step_row(float *theta, const float *flow, size_t n, float momentum, float pseudocount)
{
    double sum = (double)pseudocount;
    for (size_t v = 0; v < n; v++) sum += (double)flow[v];
    if (sum <= 0) return; /* a state that nothing needed stays as it is */
    float each = pseudocount / (float)n, share = (float)((1 - (double)momentum) / sum);
    for (size_t v = 0; v < n; v++) theta[v] = momentum * theta[v] + share * (flow[v] + each);
}

static void step_node(const pass *p, size_t i)
{
    const pith_circuit *c = p->c;
    size_t k = c->n_states, rows = pith_circuit_rows(c, i);
    float *edge = pith_circuit_edge(c, i), *edge_flow = p->edge_flow + i * k * k;
    for (size_t e = 0; e < rows * k; e++) edge_flow[e] *= edge[e];
    for (size_t z = 0; z < rows; z++) step_row(edge + z * k, edge_flow + z * k, k, p->momentum, p->pseudocount);
    for (size_t z = 0; z < k; z++) step_row(pith_circuit_leaf(c, i) + z * c->n_values, p->leaf_flow + (i * k + z) * c->n_values, c->n_values, p->momentum, p->pseudocount);
}

/* up becomes the chance of the parent's state over what was expected: by it the edge's own chances are weighed. */
static void weigh(const pass *p, size_t i, float *up)
{
    const float *parent = i ? inner_of(p, p->c->tree.parent[i]) : NULL;
    for (size_t z = 0; z < pith_circuit_rows(p->c, i); z++)
        for (size_t b = 0; b < p->lanes; b++) {
            float chance = parent ? parent[z * p->lanes + b] : b < p->n_items, u = up[z * p->lanes + b];
            up[z * p->lanes + b] = u > 0 ? chance / u : 0;
        }
}

static void go_down(void *arg, size_t index, int worker)
{
    const pass *p = arg;
    const pith_circuit *c = p->c;
    size_t i = p->node[index], k = c->n_states, lanes = p->lanes, rows = pith_circuit_rows(c, i);
    float *inner = inner_of(p, i), *up = up_of(p, i), *edge_flow = p->edge_flow + i * k * k, *leaf_flow = p->leaf_flow + i * k * c->n_values;
    float *turned = p->scratch + (size_t)worker * p->scratch_size, *chance = turned + k * p->cap, *edge_turned = chance + k * p->cap;
    const uint8_t *value = p->value + i * p->cap;
    weigh(p, i, up);
    pith_transpose(inner, k, lanes, lanes, turned, k);
    p->kernels->gemm(rows, k, lanes, up, lanes, turned, k, edge_flow, k, !p->first);
    pith_transpose(pith_circuit_edge(c, i), rows, k, k, edge_turned, rows);
    p->kernels->gemm(k, lanes, rows, edge_turned, rows, up, lanes, chance, lanes, false);
    pith_lanes_multiply(inner, chance, k * lanes);
    if (p->first) memset(leaf_flow, 0, k * c->n_values * sizeof *leaf_flow);
    for (size_t z = 0; z < k; z++)
        for (size_t b = 0; b < p->n_items; b++) leaf_flow[z * c->n_values + value[b]] += inner[z * lanes + b];
    if (p->last) step_node(p, i);
}

static void levels_down(pass *p)
{
    for (size_t d = 0; d < p->n_levels; d++) {
        p->node = p->order + p->level[d];
        pith_parallel(p->c->ctx, p->level[d + 1] - p->level[d], go_down, p);
    }
}

static void shuffle(uint32_t *item, size_t n, uint64_t seed, uint64_t epoch)
{
    pith_rng rng = {.seed = seed, .stream = epoch};
    for (size_t k = 0; k < n; k++) item[k] = (uint32_t)k;
    for (size_t k = n; k > 1; k--) {
        uint32_t j = pith_rng_below(&rng, (uint32_t)k), t = item[k - 1];
        item[k - 1] = item[j], item[j] = t;
    }
}

static pith_status check_training(const pith_circuit *c, const pith_circuit_training *t, size_t n_items)
{
    bool ok = t->batch && n_items && n_items < INT32_MAX && t->pseudocount >= 0;
    for (size_t i = 0; i < PITH_COUNT(t->momentum); i++) ok = ok && t->momentum[i] >= 0 && t->momentum[i] < 1;
    return ok ? PITH_OK : pith_fail(c->ctx, PITH_E_ARGUMENT, "learning from %zu images in batches of %zu with a pseudocount of %g: there must be some images, the momentum must be in 0..1 and the pseudocount not negative", n_items, t->batch, t->pseudocount);
}

/* How a run of EM is divided: epochs of whole batches, then rounds. */
typedef struct plan {
    const pith_circuit_training *t;
    size_t n_items, batch, n_batches, n_epochs, total;
} plan;

static double momentum_at(const plan *l, size_t epoch, size_t batch)
{
    const pith_circuit_training *t = l->t;
    if (epoch >= l->n_epochs) return 0;
    int part = epoch >= t->epochs[0];
    double done = (double)(epoch - (part ? t->epochs[0] : 0)) + (double)batch / (double)l->n_batches;
    return t->momentum[part] + (t->momentum[part + 1] - t->momentum[part]) * done / (double)t->epochs[part];
}

static pith_status learn_epoch(pass *p, const plan *l, size_t epoch, const uint32_t *item, double *log2_p)
{
    bool round = epoch >= l->n_epochs; /* all images, the last batch shorter, one step */
    size_t n_batches = round ? PITH_CEIL_DIV(l->n_items, l->batch) : l->n_batches;
    double sum = 0, n_passed = 0;
    for (size_t i = 0; i < n_batches; i++) {
        size_t from = i * l->batch, n = PITH_MIN(l->batch, l->n_items - from);
        PITH_TRY(pith_progress(p->c->ctx, "learning the circuit", epoch * l->n_batches + i, l->total));
        set_batch(p, item + from, n);
        p->first = !round || i == 0;
        p->last = !round || i + 1 == n_batches;
        p->momentum = (float)momentum_at(l, epoch, i);
        levels_up(p);
        read_log2(p, log2_p);
        for (size_t b = 0; b < n; b++) sum += log2_p[b];
        n_passed += (double)n;
        levels_down(p);
    }
    return l->t->passed ? l->t->passed(l->t->user, epoch, -sum / n_passed / (double)p->c->n) : PITH_OK;
}

pith_status pith_circuit_learn(pith_circuit *c, const uint8_t *x, size_t n_items, const pith_circuit_training *t)
{
    PITH_TRY(check_training(c, t, n_items));
    PITH_TRY(pith_circuit_values_fit(c, x, n_items));
    plan l = {.t = t, .n_items = n_items, .batch = PITH_MIN(t->batch, n_items), .n_epochs = t->epochs[0] + t->epochs[1]};
    l.n_batches = n_items / l.batch;
    l.total = (l.n_epochs + t->rounds) * l.n_batches;
    pass p = {.c = c, .x = x, .pseudocount = (float)t->pseudocount};
    uint32_t *item = NULL;
    double *log2_p = NULL;
    pith_status status = pass_begin(&p, l.batch, true);
    if (status == PITH_OK && (!(item = pith_array(c->ctx, n_items, sizeof *item)) || !(log2_p = pith_array(c->ctx, l.batch, sizeof *log2_p)))) status = PITH_E_MEMORY;
    for (size_t epoch = 0; epoch < l.n_epochs + t->rounds && status == PITH_OK; epoch++) {
        shuffle(item, n_items, t->seed, epoch);
        status = learn_epoch(&p, &l, epoch, item, log2_p);
    }
    pith_free(c->ctx, log2_p);
    pith_free(c->ctx, item);
    pass_free(&p);
    return status;
}
