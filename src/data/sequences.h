/* Which sequence task, and what its tests check.  For src/data only. */
#ifndef PITH_DATA_SEQUENCES_H
#define PITH_DATA_SEQUENCES_H

#include "base/base.h"

enum { /* kind_of in the table of sets */
    PITH_SEQ_REBER, PITH_SEQ_EMBEDDED_REBER, PITH_SEQ_ASSOC, PITH_SEQ_ADDING, PITH_SEQ_ORDER, PITH_SEQ_COUNT, PITH_SEQ_COPY,
    PITH_SEQ_REVERSE, PITH_SEQ_SORT, PITH_SEQ_TAGS
};

enum { PITH_REBER_MAX = 256, PITH_ASSOC_KEYS = 256, PITH_COPY_SYMBOLS = 10 };

/** Whether tokens [n] are a string of Reber's grammar (ids of the sets "reber" and "embedded-reber"). */
bool pith_reber_valid(const int32_t *tokens, size_t n, bool embedded);

#endif
