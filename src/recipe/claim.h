/* Claims: expressions over measured rows, judged and never typed.
 *
 *     gradual.acc >= magnitude.acc - 0.01
 *     ours.bytes < 0.5 * dense.bytes and min(ours.acc) > max(dense.acc)
 *     vq.mse - sim.mse > std(vq.mse)
 *
 * row.measure is the mean over seeds.  min(e), max(e), mean(e) and std(e) go over seeds: e is worked out for each seed
 * alone (std of one seed is 0).  least(a, b, ..) and most(a, b, ..) choose among their arguments; abs(a) and log2(a)
 * are what they say.  Then + - * / and brackets; one of < <= > >= == !=; `and`, `or`. */
#ifndef PITH_CLAIM_H
#define PITH_CLAIM_H

#include "recipe/card.h"

/* What was measured, by row, measure (both of the card) and seed; NaN: not measured. */
typedef struct pith_row_values {
    size_t n_rows, n_measures, n_seeds;
    double *at;                    /* [row, measure, seed] */
} pith_row_values;

static inline double *pith_row_value_at(const pith_row_values *v, size_t row, size_t measure, size_t seed)
{
    return v->at + (row * v->n_measures + measure) * v->n_seeds + seed;
}

typedef enum pith_verdict {
    PITH_HOLDS,
    PITH_FAILS,
    PITH_UNJUDGED                  /* it speaks of something that was not measured, or divides by zero */
} pith_verdict;

/** Parse a claim about a card whose rows and measures are known.  text: where it stands in the card's file.  All is the
 *  card's arena's.  @return PITH_E_FORMAT with file, line, column; PITH_E_MEMORY */
pith_status pith_claim_parse(const pith_card *card, const pith_yaml *text, const pith_claim **claim);

/** Judge a claim.  numbers, size: the caller's; what was compared, "0.971 ± 0.002 >= 0.954 ± 0.001"; several
 *  comparisons are separated by semicolons, and what was not measured, or is not finite, is '?'.  It is cut where it does not fit. */
pith_verdict pith_claim_judge(const pith_claim *claim, const pith_row_values *values, char *numbers, size_t size);

#endif
