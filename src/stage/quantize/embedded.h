/* An embedded scalar quantiser with entropy coding: a matrix is a coarse layer and refinements, each of
 * which halves the step; what any number of layers gives is a uniform quantiser.
 * After T. Berger's successive refinement; embedded dead-zone quantisers are the heart of EBCOT
 * (D. Taubman, IEEE Trans. Image Process. 9(7), 2000).  Here the cells are split in halves from a
 * mid-tread start, so that nothing is lost against a uniform quantiser of the final step.
 *
 * A unit is a block of rows: tiles of 16 rows, each tile cut into groups of 16 x 32 values.  A tile has a
 * step; level k of a unit quantises with step(tile) / 2^k.  A group has a class, the quarter octaves of its
 * rms over the tile's step at level 0; from it both sides know
 *   - the level at which the group starts (below it, it is zero: reverse water-filling),
 *   - how many low bits of the starting values are stored as they are,
 *   - the distributions of everything else.
 *
 * At its starting level k a value x is v = round(x / step_k), reconstructed as v * step_k.  One level on,
 * the cell [v - 1/2, v + 1/2) * step is split at v * step, so m = 2v - 1 or 2v; from then on a value is
 * the cell [m, m + 1) * step_k, reconstructed in its middle, and splitting gives 2m or 2m + 1. */
#ifndef PITH_EMBEDDED_H
#define PITH_EMBEDDED_H

#include "stage/code/rans.h"

#define PITH_GROUP_ROWS 16
#define PITH_GROUP_COLS 32
#define PITH_GROUP 512
#define PITH_MAX_LEVELS 8            /* levels 0..7 */
#define PITH_CLASS_ZERO 64           /* class of a group whose rms is the step */
#define PITH_CLASS_MAX 127
#define PITH_START_CLASSES 9         /* distributions of starting values */

/* The static models of a file: one set serves every unit. */
enum { PITH_MODEL_STEP, PITH_MODEL_CLASS, PITH_MODEL_SPLIT, PITH_MODEL_START /* … + PITH_START_CLASSES - 1 */,
    PITH_N_MODELS = PITH_MODEL_START + PITH_START_CLASSES };

typedef struct pith_models {
    pith_rans_model model[PITH_N_MODELS];
    pith_rans_encoder encoder[PITH_N_MODELS];
    pith_rans_decoder decoder[PITH_N_MODELS];
} pith_models;
/** Tables from the models. */
void pith_models_ready(pith_models *m);
/** All models to bytes and back. dst has room for PITH_N_MODELS * PITH_RANS_MODEL_BYTES. @return PITH_E_CORRUPT */
pith_status pith_models_write(const pith_models *m, uint8_t *dst, size_t cap, size_t *len);
pith_status pith_models_read(const uint8_t *src, size_t len, pith_models *m);

/* Histograms that models are fitted to; every symbol that a writer may need counts at least once. */
typedef struct pith_model_counts {
    uint64_t count[PITH_N_MODELS][256];
} pith_model_counts;
void pith_model_counts_init(pith_model_counts *c);
pith_status pith_models_fit(const pith_model_counts *c, pith_models *m);

/* A unit on its way through the levels, on either side. */
typedef struct pith_unit {
    size_t n_tiles, n_blocks;
    int level;                       /* -1: nothing yet */
    uint8_t *step_code;              /* [n_tiles] eighth octaves: step = base * 2^(code / 8) */
    uint8_t *group_class;            /* [n_tiles, n_blocks] */
    int32_t *m;                      /* [n_tiles, n_blocks, 16, 32] v or m of each value; of groups that have not started: undefined */
} pith_unit;

/** Bytes of memory a unit and its coding need (one block, 64-byte aligned). */
size_t pith_unit_bytes(size_t n_tiles, size_t n_blocks);
/** Lay a unit out over memory; level -1. */
void pith_unit_init(pith_unit *u, size_t n_tiles, size_t n_blocks, void *memory);

/** The level a class starts at; PITH_MAX_LEVELS: never. */
int pith_class_start(int group_class);
/** 2^(code / 8), the same float on every machine. */
float pith_step_of_code(uint8_t code);

/* ---- writing ---------------------------------------------------------------------------------- */

/** Classes of all groups from the values.  z [n_tiles * 16, n_blocks * 32] normalised values (padding 0);
 *  step [n_tiles] steps of level 0 as stored (base included); step_code already set. */
void pith_unit_classify(pith_unit *u, const float *z, const float *step);
/* What a writer wants of a level. */
typedef struct pith_level_out {
    const pith_models *models;       /* NULL: nothing is written, only counted */
    pith_model_counts *counts;       /* added to; NULL: not counted */
    uint8_t *dst;                    /* cap >= pith_unit_bound bytes, needed in any case */
    size_t cap, len;                 /* len: bytes of the packet */
} pith_level_out;
size_t pith_unit_bound(size_t n_tiles, size_t n_blocks);
/** Advance to level u->level + 1: quantise, count, write.  z and step as in pith_unit_classify.
 *  @return PITH_E_SPACE; PITH_E_ARGUMENT if a symbol has no code (never with fitted models). */
pith_status pith_unit_encode(pith_unit *u, const float *z, const float *step, pith_isa isa, pith_level_out *out, void *scratch);
/** Bytes of scratch for encode and decode. */
size_t pith_unit_scratch(size_t n_tiles, size_t n_blocks);
/** Weighted squared error of the unit at its level: sum over tiles of weight[tile] * |z - zhat|^2. */
double pith_unit_error(const pith_unit *u, const float *z, const float *step, const double *weight);
/** Likely mean square of a group's errors at u's level, given the step of level 0: a twelfth of a cell's square, or, where
 *  the group has not started, its own mean square as its class has it.  The same float on every machine. */
float pith_unit_noise(const pith_unit *u, size_t group, float step0);

/* ---- reading ---------------------------------------------------------------------------------- */

/** Advance to level u->level + 1 from a packet's bytes.  @return PITH_E_CORRUPT: u is as before for use at its old level. */
pith_status pith_unit_decode(pith_unit *u, const pith_models *models, pith_isa isa, const uint8_t *src, size_t len, void *scratch);

/* Where packets come from: the bytes of a unit's level into *data (`buffer` is the caller's room for them);
 * *len 0: there is none.  @return PITH_E_CORRUPT: damaged; PITH_E_IO */
typedef pith_status pith_fetch_fn(void *user, uint32_t unit, int level, uint8_t *buffer, const uint8_t **data, size_t *len);
/** Advance as deep as packets go.  A damaged one ends that, and is counted in *n_damaged.  @return PITH_E_IO */
pith_status pith_unit_restore(pith_unit *u, uint32_t number, const pith_models *models, pith_isa isa, pith_fetch_fn *fetch, void *user, uint8_t *buffer, void *scratch, size_t *n_damaged);

#endif
