/* Random graphs as plans of sparse networks: nodes are units, edges are weights. */
#ifndef PITH_GRAPH_H
#define PITH_GRAPH_H

#include "base/base.h"

/* Edges go from the lower to the higher number, so that the graph has no cycles. */
typedef struct pith_graph {
    size_t n, n_edges, n_layers;
    uint8_t *edge;                 /* [n, n] 1: there is an edge between them (both ways alike) */
    size_t *layer;                 /* [n] the longest way from a node without incoming edges */
    pith_ctx *ctx;
} pith_graph;

/** Watts, Strogatz, Nature 393, 1998: a ring of n nodes, each with its n_near nearest (half on each side), of whose
 *  edges each is rewired with probability `rewire`.  @return PITH_E_ARGUMENT (n_near below 2, or not below n), PITH_E_MEMORY */
pith_status pith_graph_ring(pith_ctx *ctx, size_t n, size_t n_near, double rewire, pith_rng *rng, pith_graph *graph);
/** Barabasi, Albert, Science 286, 1999: nodes come one by one, each with n_new edges to others, drawn by their degrees.
 *  @return PITH_E_ARGUMENT (n_new below 1, or not below n), PITH_E_MEMORY */
pith_status pith_graph_growing(pith_ctx *ctx, size_t n, size_t n_new, pith_rng *rng, pith_graph *graph);
/** The caller's edges [n, n], both ways alike; they are copied. */
pith_status pith_graph_of(pith_ctx *ctx, size_t n, const uint8_t *edge, pith_graph *graph);
void pith_graph_free(pith_graph *graph);

/* What a graph looks like.  Distances, and what is made of them, are without direction, between nodes that are connected. */
enum {
    PITH_GRAPH_NODES, PITH_GRAPH_EDGES, PITH_GRAPH_LAYERS, PITH_GRAPH_SOURCES, PITH_GRAPH_SINKS, PITH_GRAPH_DIAMETER, PITH_GRAPH_DENSITY,
    PITH_GRAPH_PATH,               /* mean distance */
    PITH_GRAPH_ECCENTRICITY,       /* mean, variance, standard deviation over nodes, as the next three */
    PITH_GRAPH_DEGREE = PITH_GRAPH_ECCENTRICITY + 3,
    PITH_GRAPH_CLOSENESS = PITH_GRAPH_DEGREE + 3,
    PITH_GRAPH_BETWEENNESS = PITH_GRAPH_CLOSENESS + 3, /* share of shortest ways between two others that pass the node (Brandes 2001) */
    PITH_GRAPH_N_PROPERTIES = PITH_GRAPH_BETWEENNESS + 3
};
extern const char *const pith_graph_property_names[PITH_GRAPH_N_PROPERTIES];
/** @return PITH_E_MEMORY */
pith_status pith_graph_measure(const pith_graph *graph, double properties[PITH_GRAPH_N_PROPERTIES]);

#endif
