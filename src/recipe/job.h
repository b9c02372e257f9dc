/* A compression on its way: what compress.c, exact.c and study.c share. */
#ifndef PITH_JOB_H
#define PITH_JOB_H

#include "format/pith_file.h"
#include "recipe/calibrate.h"
#include "recipe/compress.h"
#include "stage/quantize/embedded.h"

#define PITH_JOB_LEVELS 7              /* layers of a unit, at most */

/* One matrix of the model on its way into the file. */
typedef struct job_tensor {
    const pith_named_tensor *source;
    pith_coded_tensor *coded;
    const float *gain;             /* [n_cols] folded in, NULL: none */
    float *col_scale;              /* [n_cols] c: values are W / c; the input is multiplied by c */
    double kl_per_row_noise;       /* KL for noise of variance 1 in every output */
    const float *tile_weight;      /* [tiles] of the embedding; NULL: all 1 */
    double rms;                    /* of the normalised values, from a sample */
    float *col_square;             /* [n_cols] mean square of each column's, likewise */
    float step;                    /* at the reference trade-off, before the ladder's phase */
} job_tensor;

typedef struct coded_packet {
    uint8_t *data;
    size_t len;
    double kl_before, kl_after;    /* of this unit's error */
    double noise;                  /* mean square of the error after it, in the source's values */
} coded_packet;

typedef struct job {
    pith_ctx *ctx;
    const pith_kernels *kernels;
    pith_isa isa;
    pith_manifest *manifest;
    pith_calibration *c;
    float *rotation_t;             /* [n_embd, n_embd] Q' */
    job_tensor *tensors;
    size_t n_tensors, n_units;
    int n_levels;                  /* layers that are coded, at most PITH_JOB_LEVELS */
    double start_octaves;          /* mean of log2(rms / step) at level 0 */
    bool staggered;                /* units' steps start at different phases of the octave */
    uint32_t *tensor_of_unit;      /* [n_units] */
    coded_packet *packets;         /* [n_units, PITH_JOB_LEVELS] */
    bool wants_exact;              /* the source's types have grids, and its values are wanted */
    coded_packet *exact;           /* [n_units]; NULL: there is no exact layer */
    pith_models *models;
    pith_model_counts *counts;     /* [workers] */
    uint8_t **scratch;             /* [workers] */
    size_t scratch_bytes;
    pith_status *status;           /* [workers] */
    size_t n_done;
} job;

/* A packet in the file's order. */
typedef struct ordered {
    uint32_t unit;
    uint8_t level, kind;
    double slope;                  /* KL gained per byte */
} ordered;

static inline coded_packet *job_packet(const job *j, const ordered *o)
{
    return o->kind ? &j->exact[o->unit] : &j->packets[(size_t)o->unit * PITH_JOB_LEVELS + o->level];
}

/** Best first: by slope, then unit, then level. */
void job_sort(ordered *order, size_t n);
/** The first error of any worker, with its message. */
pith_status job_status(const job *j);
/** Run `task` with arg for 0..n-1 on all threads, in slices that begin at j->n_done, so that progress is seen
 *  and a wish to stop is heard. */
pith_status job_run(job *j, const char *what, size_t n, pith_task *task, void *arg);

/** Make the source what pith_study.rotate says.  Before anything is coded; the basis in the manifest stays, as it holds
 *  for the source itself. */
pith_status job_rotate_source(job *j, pith_arena *a);

/** Choose how many layers each unit keeps, and code the exact layer given them; the manifest gets its distributions.
 *  order, n  in: all packets, best first, with room for n_units more; out: those that stay and the exact ones
 *  most      bytes that packets may take; if they cannot, then, unless `always`, there is no exact layer and order
 *            is as before */
pith_status job_add_exact(job *j, pith_arena *a, ordered *order, size_t *n, double most, bool always);

#endif
