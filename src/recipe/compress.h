/* Model file in, .pith out: calibrate, code every matrix in layers, put the packets in order, write, measure. */
#ifndef PITH_COMPRESS_H
#define PITH_COMPRESS_H

#include "format/pith_file.h"
#include "model/llama.h"

typedef struct pith_compress_options {
    const char *text;              /* calibration text file (UTF-8); NULL: the model writes its own */
    uint64_t seed;
    uint64_t size;                 /* bytes the file may have; 0: all layers */
    double bits;                   /* bits a weight, whole file; 0: not asked */
    double kl;                     /* smallest cut whose measured KL to the source is at most this; 0: not asked */
    bool no_measure;               /* do not run the result */
    bool no_exact;                 /* no layer of exact values, also where the source has a grid */
} pith_compress_options;

/* A cut of the file, measured against the source on calibration text. */
typedef struct pith_measured {
    uint64_t bytes;
    double kl, predicted_kl;
} pith_measured;
#define PITH_MAX_MEASURED 16

typedef struct pith_compress_result {
    uint64_t source_bytes, file_bytes, total_bytes, floor_bytes, exact_bytes;
    size_t n_weights, n_tensors, n_packets;
    double bits_per_weight;
    double calibrate_s, code_s, measure_s;
    size_t n_measured;
    pith_measured measured[PITH_MAX_MEASURED];
} pith_compress_result;

/** Compress `source` to `target` (written beside it, then renamed).  One of size, bits, kl, or none.
 *  @return PITH_E_SPACE: the size is below the smallest cut (message says it); and what reading, running
 *  and writing return. */
pith_status pith_compress(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *o, pith_compress_result *r);

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

/** Copy the longest prefix of `source` that ends with a whole packet and fits.  One of size, bits, kl as above.
 *  @return PITH_E_SPACE below the floor, PITH_E_ARGUMENT when kl was not measured. */
pith_status pith_cut(pith_ctx *ctx, const char *source, const char *target, const pith_compress_options *o, uint64_t *bytes);

#endif
