/* How strongly each layer of an exchange is compressed, chosen anew while training goes on.
 *
 * L-GreCo (Markov, Alimohammadi, Frantar, Alistarh, arXiv:2210.17357): of worker 0's gradients, averaged over the last
 * steps, the error |C_p(g) - g| and the size of each layer at each candidate p; then, by dynamic programming
 * (stage/allocate/budget.h), the least bytes whose errors together are no more than those of one usual parameter for
 * all.  Worker 0 chooses, the others are told.
 *
 * Accordion (Agarwal, Wang, Lee, Venkataraman, Papailiopoulos, arXiv:2010.16248): a layer whose gradient's norm has changed
 * by a share of 0.5 or more since the last time is in a critical phase and keeps the usual parameter; the others take a
 * stricter one.  Of the paper's two signs of a critical phase only this one is used, not the change of the rate.  With
 * both, Accordion says what the usual parameter of each layer is, and L-GreCo spreads it. */
#ifndef PITH_ADAPT_H
#define PITH_ADAPT_H

#include "stream/grads/exchange.h"

typedef struct pith_adapt_options {
    double usual;                 /* parameter known to be safe for all layers */
    double strict;                /* of Accordion's calm layers; 0: no Accordion */
    double change;                /* of a norm that makes a phase critical: 0.5 */
    bool spread;                  /* L-GreCo; off: each layer has its own usual parameter */
    double alpha;                 /* budget as a share of the usual errors: 1 */
    size_t n_buckets;             /* of errors: 10000 */
    uint64_t seed;                /* of the random allocation beside it */
} pith_adapt_options;

/* One adjustment.  Sizes in bytes a worker and step of the layers that are compressed. */
typedef struct pith_adapt_report {
    double usual_size, size;      /* with one parameter for all; as chosen */
    double budget, error;         /* sum of |C(g) - g| that is allowed; as chosen, measured once more */
    double greedy_size, random_size; /* what simpler allocators make of the same tables; 0 where nothing is spread */
    size_t n_layers, n_changed;   /* that are compressed; that have another parameter than before */
    size_t n_critical;            /* of Accordion */
    double table_s, search_s;     /* seconds for errors, for the dynamic programme */
} pith_adapt_report;

typedef struct pith_adapt pith_adapt;
/** Candidates are half of strict (or usual) to twice usual: each rank, each number of bits, shares in steps of 2^(1/4).
 *  Free it before the exchange.  @return PITH_E_ARGUMENT (a compressor without a parameter), PITH_E_MEMORY */
pith_status pith_adapt_new(pith_exchange *exchange, const pith_adapt_options *options, pith_adapt **adapt);
void pith_adapt_free(pith_adapt *adapt); /* NULL is allowed */
/** Choose by what the exchange observed (pith_exchange_observe), on all processes at once; factors begin anew, errors that
 *  wait stay.  Where nothing smaller is found layers keep their usual parameters.  report: of worker 0, elsewhere zeros.
 *  @return PITH_E_SPACE (alpha below 1, and no choice errs so little), PITH_E_NONFINITE, PITH_E_IO, PITH_E_MEMORY */
pith_status pith_adapt_choose(pith_adapt *adapt, pith_adapt_report *report);
/** The candidates, ascending. */
const double *pith_adapt_candidates(const pith_adapt *adapt, size_t *n);

#endif
