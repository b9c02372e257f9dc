/* Model file in, .pith out: calibrate, code every matrix in layers, put the packets in order, write, measure.
 * pith_compress and pith_cut are declared in pith.h. */
#ifndef PITH_COMPRESS_H
#define PITH_COMPRESS_H

#include "format/pith_file.h"
#include "model/llama.h"

/* Ways to compress that show what the usual one is worth; for bench/quality. */
typedef struct pith_study {
    uint64_t single_bytes;         /* one layer, with the steps that give packets of about so many bytes, not more; 0: layers,
                                      as usual */
    bool rotate;                   /* as if the source had its gains folded in and its residual stream rotated at random: the
                                      same function, but no weight on a grid, and no axis that means anything */
} pith_study;
/** pith_compress, with a study (NULL: none). */
pith_status pith_compress_study(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *o, const pith_study *study, pith_compress_result *r);

/* What pith_compress would do, from the file's tables alone. */
typedef struct pith_plan_row {
    const char *name;              /* points into the plan */
    size_t n_rows, n_cols;
    char source[16];               /* type in the source */
    const char *what;              /* "coded, input rotated", "kept as f32", … */
    uint64_t source_bytes;
} pith_plan_row;
typedef struct pith_plan {
    size_t n_rows;
    pith_plan_row *rows;
    uint64_t source_bytes, floor_bytes, total_bytes; /* estimates from the rate of each layer */
    uint64_t memory_bytes;         /* peak while compressing */
    double seconds;                /* on this machine's threads */
    size_t n_weights;
    pith_model_file *file;         /* names point into it */
} pith_plan;
pith_status pith_plan_make(pith_ctx *ctx, const char *source, const pith_compress_options *o, pith_plan *plan);
void pith_plan_free(pith_ctx *ctx, pith_plan *plan);

#endif
