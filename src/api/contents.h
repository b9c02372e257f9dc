/* What stands behind a pith_contents. */
#ifndef PITH_API_CONTENTS_H
#define PITH_API_CONTENTS_H

#include "format/pith_file.h"

typedef struct pith_contents_full {
    pith_contents c;               /* what users see; the first member */
    const pith_settings *settings;
    const pith_vocab *vocab;
    const pith_meta *meta;         /* [n_meta], not of a .pith */
    size_t n_meta;
    pith_arena *arena;             /* owns the entries */
    pith_model_file *file;         /* one of the two is open */
    pith_reader reader;
    bool is_pith;
} pith_contents_full;

static inline const pith_contents_full *pith_contents_inside(const pith_contents *c) { return (const pith_contents_full *)(const void *)c; }

#endif
