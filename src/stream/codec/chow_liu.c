#include "stream/codec/chow_liu.h"

#include <math.h>

/* ---- mutual information ------------------------------------------------------------------------ */

typedef struct pairs {
    size_t n, n_items, n_bins;
    const uint8_t *bin;            /* [n, n_items] */
    const double *count_log;       /* [n_items + 1] c log c */
    const uint32_t *bin_count;     /* [n, 256] */
    const double *bin_sum;         /* [n] the sum of c log c over the bins of one variable */
    uint32_t *item;                /* [workers, n_items] scratch */
    uint32_t *joint;               /* [workers, n_bins, n_bins] scratch */
    float *mi;
} pairs;

static size_t fullest(const uint32_t *count, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) if (count[i] > count[best]) best = i;
    return best;
}

/* Variable i with all above it.  Items of its fullest bin are not looked at: their joint counts are what the others leave. */
static void pairs_of(void *arg, size_t i, int worker)
{
    const pairs *p = arg;
    size_t n_bins = p->n_bins, common = fullest(p->bin_count + i * 256, n_bins), n_listed = 0;
    uint32_t *item = p->item + (size_t)worker * p->n_items, *joint = p->joint + (size_t)worker * n_bins * n_bins;
    const uint8_t *a = p->bin + i * p->n_items;
    for (size_t k = 0; k < p->n_items; k++) if (a[k] != common) item[n_listed++] = (uint32_t)k;
    for (size_t j = i + 1; j < p->n; j++) {
        const uint8_t *b = p->bin + j * p->n_items;
        const uint32_t *left = p->bin_count + j * 256;
        uint32_t *rest = joint + common * n_bins;
        double sum = 0;
        memset(joint, 0, n_bins * n_bins * sizeof *joint);
        for (size_t k = 0; k < n_listed; k++) joint[a[item[k]] * n_bins + b[item[k]]]++;
        for (size_t v = 0; v < n_bins; v++) {
            uint32_t others = 0;
            for (size_t u = 0; u < n_bins; u++) others += joint[u * n_bins + v];
            rest[v] = left[v] - others;
        }
        for (size_t k = 0; k < n_bins * n_bins; k++) sum += p->count_log[joint[k]];
        double nats = (sum - p->bin_sum[i] - p->bin_sum[j] + p->count_log[p->n_items]) / (double)p->n_items;
        p->mi[i * p->n + j] = p->mi[j * p->n + i] = (float)PITH_MAX(nats, 0.0);
    }
}

static pith_status count_pairs(pith_ctx *ctx, pairs *p, uint8_t *bin, uint32_t *bin_count, double *bin_sum, double *count_log)
{
    for (size_t c = 0; c <= p->n_items; c++) count_log[c] = c ? (double)c * log((double)c) : 0;
    for (size_t i = 0; i < p->n; i++) {
        for (size_t k = 0; k < p->n_items; k++) bin_count[i * 256 + bin[i * p->n_items + k]]++;
        bin_sum[i] = 0;
        for (size_t v = 0; v < p->n_bins; v++) bin_sum[i] += count_log[bin_count[i * 256 + v]];
        p->mi[i * p->n + i] = 0;
    }
    p->bin = bin, p->bin_count = bin_count, p->bin_sum = bin_sum, p->count_log = count_log;
    pith_parallel(ctx, p->n, pairs_of, p);
    return PITH_OK;
}

pith_status pith_mutual_information(pith_ctx *ctx, const uint8_t *x, size_t n_items, size_t n, int shift, float *mi)
{
    if (!n_items || !n || n_items > INT32_MAX || shift < 0 || shift > 7)
        return pith_fail(ctx, PITH_E_ARGUMENT, "mutual information of %zu variables over %zu items without their lowest %d bits: there must be some of both, and 0 to 7 bits", n, n_items, shift);
    size_t n_bins = 256 >> shift, workers = (size_t)pith_n_threads(ctx), n_bytes;
    pairs p = {.n = n, .n_items = n_items, .n_bins = n_bins, .mi = mi};
    if (!pith_mul(n, n_items, &n_bytes)) return pith_fail(ctx, PITH_E_MEMORY, "%zu items of %zu variables are too many", n_items, n);
    uint8_t *bin = pith_alloc(ctx, n_bytes);
    uint32_t *bin_count = bin ? pith_calloc(ctx, n, 256 * sizeof *bin_count) : NULL;
    double *bin_sum = bin_count ? pith_array(ctx, n, sizeof *bin_sum) : NULL;
    double *count_log = bin_sum ? pith_array(ctx, n_items + 1, sizeof *count_log) : NULL;
    p.item = count_log ? pith_array(ctx, workers * n_items, sizeof *p.item) : NULL;
    p.joint = p.item ? pith_array(ctx, workers * n_bins, n_bins * sizeof *p.joint) : NULL;
    pith_status status = p.joint ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) {
        for (size_t k = 0; k < n_items; k++)
            for (size_t i = 0; i < n; i++) bin[i * n_items + k] = (uint8_t)(x[k * n + i] >> shift);
        status = count_pairs(ctx, &p, bin, bin_count, bin_sum, count_log);
    }
    pith_free(ctx, p.joint);
    pith_free(ctx, p.item);
    pith_free(ctx, count_log);
    pith_free(ctx, bin_sum);
    pith_free(ctx, bin_count);
    pith_free(ctx, bin);
    return status;
}

/* ---- the tree ---------------------------------------------------------------------------------- */

#define NONE UINT32_MAX

/* near[v] is v's neighbour on the way to variable 0. */
static void prim(size_t n, const float *weight, uint32_t *near, float *best, bool *in)
{
    for (size_t v = 0; v < n; v++) near[v] = v ? 0 : NONE, best[v] = weight[v], in[v] = v == 0;
    for (size_t done = 1; done < n; done++) {
        size_t next = 0;
        for (size_t v = 1; v < n; v++) if (!in[v] && (!next || best[v] > best[next])) next = v;
        in[next] = true;
        for (size_t v = 1; v < n; v++)
            if (!in[v] && weight[next * n + v] > best[v]) best[v] = weight[next * n + v], near[v] = (uint32_t)next;
    }
}

/* Adjacency of an undirected tree: the neighbours of v are to[from[v]] to to[from[v + 1] - 1], rising. */
static void link_both(size_t n, const uint32_t *near, uint32_t *from, uint32_t *to, uint32_t *at)
{
    memset(from, 0, (n + 1) * sizeof *from);
    for (size_t v = 1; v < n; v++) from[v + 1]++, from[near[v] + 1]++;
    for (size_t v = 0; v < n; v++) from[v + 1] += from[v], at[v] = from[v];
    for (size_t v = 0; v < n; v++) {
        for (size_t w = 0; w < v; w++) if (near[v] == w || near[w] == v) to[at[v]++] = (uint32_t)w;
        for (size_t w = v + 1; w < n; w++) if (near[v] == w || near[w] == v) to[at[v]++] = (uint32_t)w;
    }
}

/* Breadth first from `start`: order [n], and each one's parent; the last of the order lies farthest away. */
static void walk(size_t n, const uint32_t *from, const uint32_t *to, uint32_t start, uint32_t *order, uint32_t *parent)
{
    size_t end = 1;
    order[0] = start, parent[start] = NONE;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = order[i];
        for (uint32_t k = from[v]; k < from[v + 1]; k++)
            if (to[k] != parent[v]) parent[to[k]] = v, order[end++] = to[k];
    }
}

static uint32_t middle(size_t n, const uint32_t *from, const uint32_t *to, uint32_t *order, uint32_t *parent)
{
    walk(n, from, to, 0, order, parent);
    walk(n, from, to, order[n - 1], order, parent);
    size_t length = 0;
    for (uint32_t v = order[n - 1]; parent[v] != NONE; v = parent[v]) length++;
    uint32_t v = order[n - 1];
    for (size_t i = 0; i < length / 2; i++) v = parent[v];
    return v;
}

/* Depth first from `root`, lower variables first. */
static void number_nodes(const uint32_t *from, const uint32_t *to, uint32_t root, uint32_t *stack, uint32_t *node, pith_var_tree *tree)
{
    size_t n_stack = 0, n_nodes = 0;
    stack[n_stack++] = root;
    uint32_t *up = tree->parent; /* while it is made: by variable, of which variable it hangs */
    up[root] = NONE;
    while (n_stack) {
        uint32_t v = stack[--n_stack];
        node[v] = (uint32_t)n_nodes;
        tree->variable[n_nodes++] = v;
        for (uint32_t k = from[v + 1]; k > from[v]; k--)
            if (to[k - 1] != up[v]) up[to[k - 1]] = v, stack[n_stack++] = to[k - 1];
    }
    for (size_t v = 0; v < n_nodes; v++) stack[node[v]] = up[v] == NONE ? PITH_NO_PARENT : node[up[v]];
    memcpy(tree->parent, stack, n_nodes * sizeof *stack);
}

pith_status pith_var_tree_span(pith_ctx *ctx, size_t n, const float *weight, pith_var_tree *tree)
{
    if (!n || n > UINT32_MAX / 8) return pith_fail(ctx, PITH_E_ARGUMENT, "a tree over %zu variables: there must be some, and at most %u", n, UINT32_MAX / 8);
    *tree = (pith_var_tree){.n = n};
    uint32_t *work = pith_array(ctx, 7 * n + 1, sizeof *work);
    float *best = work ? pith_array(ctx, n, sizeof *best) : NULL;
    bool *in = best ? pith_array(ctx, n, sizeof *in) : NULL;
    tree->variable = in ? pith_array(ctx, n, sizeof *tree->variable) : NULL;
    tree->parent = tree->variable ? pith_array(ctx, n, sizeof *tree->parent) : NULL;
    pith_status status = tree->parent ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) {
        uint32_t *near = work, *order = near + n, *parent = order + n, *node = parent + n, *to = node + n, *from = to + 2 * n;
        prim(n, weight, near, best, in);
        link_both(n, near, from, to, order);
        number_nodes(from, to, middle(n, from, to, order, parent), order, node, tree);
    }
    pith_free(ctx, in);
    pith_free(ctx, best);
    pith_free(ctx, work);
    return status;
}

bool pith_var_tree_valid(const pith_var_tree *tree)
{
    if (!tree->n || tree->parent[0] != PITH_NO_PARENT) return false;
    for (size_t i = 1; i < tree->n; i++) { /* the parent is the node before or above it */
        uint32_t up = (uint32_t)i - 1;
        if (tree->parent[i] >= i) return false;
        while (up != PITH_NO_PARENT && up > tree->parent[i]) up = tree->parent[up];
        if (up != tree->parent[i]) return false;
    }
    for (size_t i = 0; i < tree->n; i++) if (tree->variable[i] >= tree->n) return false;
    return true;
}

void pith_var_tree_free(pith_ctx *ctx, pith_var_tree *tree)
{
    pith_free(ctx, tree->variable);
    pith_free(ctx, tree->parent);
    *tree = (pith_var_tree){0};
}
