/* Which sequence task, and what its tests check.  For src/data only. */
#ifndef PITH_DATA_SEQUENCES_H
#define PITH_DATA_SEQUENCES_H

#include "base/base.h"

enum { /* kind_of in the table of sets */
    PITH_SEQ_REBER, PITH_SEQ_EMBEDDED_REBER, PITH_SEQ_ASSOC, PITH_SEQ_ADDING, PITH_SEQ_ORDER, PITH_SEQ_COUNT, PITH_SEQ_COPY,
    PITH_SEQ_REVERSE, PITH_SEQ_SORT, PITH_SEQ_TAGS, PITH_SEQ_MARKS, PITH_SEQ_STROKES
};

enum { PITH_REBER_MAX = 256, PITH_ASSOC_KEYS = 256, PITH_COPY_SYMBOLS = 10 };

/** Whether tokens [n] are a string of Reber's grammar (ids of the sets "reber" and "embedded-reber"). */
bool pith_reber_valid(const int32_t *tokens, size_t n, bool embedded);

/** A digit as a pen's moves: x [length, 3] is to the right, down (a box of about 10 by 10), and 1 where it touches the paper.
 *  @return which digit */
int pith_strokes_make(pith_rng *rng, float *x, size_t length);

#endif
