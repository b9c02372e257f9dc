/* Random graphs, and what they look like. */
#include "stage/select/graph.h"

#include <math.h>

const char *const pith_graph_property_names[PITH_GRAPH_N_PROPERTIES] = {
    "nodes", "edges", "layers", "sources", "sinks", "diameter", "density", "path", "eccentricity", "eccentricity_var", "eccentricity_sd",
    "degree", "degree_var", "degree_sd", "closeness", "closeness_var", "closeness_sd", "betweenness", "betweenness_var", "betweenness_sd"};

static pith_status start(pith_ctx *ctx, size_t n, pith_graph *g)
{
    size_t size;
    *g = (pith_graph){.n = n, .ctx = ctx};
    if (!n || !pith_mul(n, n, &size)) return pith_fail(ctx, PITH_E_ARGUMENT, "a graph of %zu nodes", n);
    g->edge = pith_calloc(ctx, size, 1);
    g->layer = pith_calloc(ctx, n, sizeof *g->layer);
    if (g->edge && g->layer) return PITH_OK;
    pith_graph_free(g);
    return PITH_E_MEMORY;
}

void pith_graph_free(pith_graph *g)
{
    if (!g->ctx) return;
    pith_free(g->ctx, g->edge);
    pith_free(g->ctx, g->layer);
    *g = (pith_graph){0};
}

static void join(pith_graph *g, size_t a, size_t b) { g->edge[a * g->n + b] = g->edge[b * g->n + a] = 1; }
static void part(pith_graph *g, size_t a, size_t b) { g->edge[a * g->n + b] = g->edge[b * g->n + a] = 0; }
static bool joined(const pith_graph *g, size_t a, size_t b) { return g->edge[a * g->n + b]; }

/* Layers and edges, when all edges are there. */
static void finish(pith_graph *g)
{
    g->n_layers = 1;
    for (size_t b = 0; b < g->n; b++)
        for (size_t a = 0; a < b; a++) {
            if (!joined(g, a, b)) continue;
            g->n_edges++;
            g->layer[b] = PITH_MAX(g->layer[b], g->layer[a] + 1);
            g->n_layers = PITH_MAX(g->n_layers, g->layer[b] + 1);
        }
}

pith_status pith_graph_ring(pith_ctx *ctx, size_t n, size_t n_near, double rewire, pith_rng *rng, pith_graph *g)
{
    if (n_near < 2 || n_near >= n || n > UINT32_MAX) return pith_fail(ctx, PITH_E_ARGUMENT, "a ring of %zu nodes with %zu near ones: 2 or more and fewer than the nodes are possible", n, n_near);
    PITH_TRY(start(ctx, n, g));
    for (size_t d = 1; d <= n_near / 2; d++)
        for (size_t a = 0; a < n; a++) join(g, a, (a + d) % n);
    for (size_t d = 1; d <= n_near / 2; d++)
        for (size_t a = 0; a < n; a++) {
            size_t b = (a + d) % n, degree = 0;
            for (size_t k = 0; k < n; k++) degree += joined(g, a, k);
            if ((double)pith_rng_uniform(rng) >= rewire || degree == n - 1 || !joined(g, a, b)) continue;
            size_t c = a;
            while (c == a || joined(g, a, c)) c = pith_rng_below(rng, (uint32_t)n);
            part(g, a, b);
            join(g, a, c);
        }
    finish(g);
    return PITH_OK;
}

pith_status pith_graph_growing(pith_ctx *ctx, size_t n, size_t n_new, pith_rng *rng, pith_graph *g)
{
    if (n_new < 1 || n_new >= n || n > 65535) return pith_fail(ctx, PITH_E_ARGUMENT, "a growing graph of %zu nodes with %zu new edges each: 1 or more and fewer than the nodes are possible", n, n_new);
    PITH_TRY(start(ctx, n, g));
    for (size_t b = n_new; b < n; b++) {
        for (size_t k = 0; k < n_new; k++) {
            uint32_t total = 0;
            for (size_t a = 0; a < b; a++)
                for (size_t c = 0; c < b && !joined(g, a, b); c++) total += joined(g, a, c);
            size_t chosen = 0;
            if (total) { /* by degree among those before it */
                uint32_t left = pith_rng_below(rng, total);
                for (size_t a = 0; a < b; a++) {
                    uint32_t degree = 0;
                    for (size_t c = 0; c < b && !joined(g, a, b); c++) degree += joined(g, a, c);
                    if (left < degree) {
                        chosen = a;
                        break;
                    }
                    left -= degree;
                }
            } else {
                while (joined(g, chosen, b)) chosen++; /* the first ones, which have no edges yet */
            }
            join(g, chosen, b);
        }
    }
    finish(g);
    return PITH_OK;
}

pith_status pith_graph_of(pith_ctx *ctx, size_t n, const uint8_t *edge, pith_graph *g)
{
    PITH_TRY(start(ctx, n, g));
    for (size_t a = 0; a < n; a++)
        for (size_t b = a + 1; b < n; b++)
            if (edge[a * n + b] || edge[b * n + a]) join(g, a, b);
    finish(g);
    return PITH_OK;
}

/* ---- properties ------------------------------------------------------------------------------- */

/* From one node: distances [n] (SIZE_MAX: not connected), and what it adds to betweenness. */
static void visit(const pith_graph *g, size_t from, size_t *distance, size_t *order, double *ways, double *share, double *betweenness)
{
    size_t n = g->n, n_seen = 1;
    for (size_t i = 0; i < n; i++) distance[i] = SIZE_MAX, ways[i] = share[i] = 0;
    distance[from] = 0;
    ways[from] = 1;
    order[0] = from;
    for (size_t k = 0; k < n_seen; k++)
        for (size_t a = order[k], b = 0; b < n; b++) {
            if (!joined(g, a, b)) continue;
            if (distance[b] == SIZE_MAX) distance[b] = distance[a] + 1, order[n_seen++] = b;
            if (distance[b] == distance[a] + 1) ways[b] += ways[a];
        }
    for (size_t k = n_seen; k-- > 1;) {
        size_t b = order[k];
        for (size_t a = 0; a < n; a++)
            if (joined(g, a, b) && distance[a] + 1 == distance[b]) share[a] += ways[a] / ways[b] * (1 + share[b]);
        betweenness[b] += share[b];
    }
}

static void spread(const double *x, size_t n, double *out)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    for (size_t i = 0; i < n; i++) square += (x[i] - sum / (double)n) * (x[i] - sum / (double)n);
    out[0] = sum / (double)n;
    out[1] = square / (double)n;
    out[2] = sqrt(out[1]);
}

pith_status pith_graph_measure(const pith_graph *g, double p[PITH_GRAPH_N_PROPERTIES])
{
    size_t n = g->n, *whole = pith_array(g->ctx, n, 2 * sizeof *whole);
    double *real = pith_calloc(g->ctx, n, 6 * sizeof *real);
    double n_pairs = 0, way = 0, others = PITH_MAX((double)n - 1, 1);
    if (!whole || !real) {
        pith_free(g->ctx, whole);
        pith_free(g->ctx, real);
        return PITH_E_MEMORY;
    }
    size_t *distance = whole, *order = whole + n;
    double *ways = real, *share = real + n, *betweenness = real + 2 * n, *eccentricity = real + 3 * n, *degree = real + 4 * n, *closeness = real + 5 * n;
    memset(p, 0, PITH_GRAPH_N_PROPERTIES * sizeof *p);
    for (size_t a = 0; a < n; a++) {
        double sum = 0, reached = 0;
        bool in = false, out = false;
        visit(g, a, distance, order, ways, share, betweenness);
        for (size_t b = 0; b < n; b++) {
            if (joined(g, a, b)) degree[a]++, in |= b < a, out |= b > a;
            if (b == a || distance[b] == SIZE_MAX) continue;
            sum += (double)distance[b];
            reached++;
            eccentricity[a] = PITH_MAX(eccentricity[a], (double)distance[b]);
        }
        closeness[a] = sum > 0 ? reached / sum * (reached / others) : 0; /* in parts of what can be reached, as Wasserman, Faust 1994 */
        p[PITH_GRAPH_SOURCES] += !in;
        p[PITH_GRAPH_SINKS] += !out;
        p[PITH_GRAPH_DIAMETER] = PITH_MAX(p[PITH_GRAPH_DIAMETER], eccentricity[a]);
        way += sum;
        n_pairs += reached;
    }
    for (size_t a = 0; a < n && n > 2; a++) betweenness[a] /= others * (others - 1);
    p[PITH_GRAPH_NODES] = (double)n;
    p[PITH_GRAPH_EDGES] = (double)g->n_edges;
    p[PITH_GRAPH_LAYERS] = (double)g->n_layers;
    p[PITH_GRAPH_DENSITY] = n > 1 ? 2 * (double)g->n_edges / ((double)n * others) : 0;
    p[PITH_GRAPH_PATH] = n_pairs > 0 ? way / n_pairs : 0;
    spread(eccentricity, n, p + PITH_GRAPH_ECCENTRICITY);
    spread(degree, n, p + PITH_GRAPH_DEGREE);
    spread(closeness, n, p + PITH_GRAPH_CLOSENESS);
    spread(betweenness, n, p + PITH_GRAPH_BETWEENNESS);
    pith_free(g->ctx, whole);
    pith_free(g->ctx, real);
    return PITH_OK;
}
