/* Probabilistic circuits: densities of images that are exact, learned by EM, and code images without loss.
 * A. Liu, S. Mandt, G. Van den Broeck, "Lossless compression with probabilistic circuits", ICLR 2022 (arXiv:2111.11632).
 *
 * The structure is a hidden Chow-Liu tree: over the variables (pixels) stands a tree; node i has a hidden state z_i of
 * n_states values, drawn given the state of its parent, and its variable is drawn given z_i:
 *
 *     p(x) = sum over all z of  prod_i  edge[i][z_parent(i)][z_i]  leaf[i][z_i][x_i]
 *
 *     pith_circuit *c;
 *     PITH_TRY(pith_circuit_new(ctx, train, n_images, 28 * 28, &(pith_circuit_options){.n_states = 16, .seed = 1}, &c));
 *     PITH_TRY(pith_circuit_learn(c, train, n_images, &training));
 *     PITH_TRY(pith_circuit_encode(c, test, n_test, &file, &file_bytes));
 *     PITH_TRY(pith_circuit_decode(c, file, file_bytes, &images, &n_test));
 *     pith_circuit_free(c);
 *
 * Coding.  Values are coded in the order of nodes, each by p(x_i | those before it).  The paper keeps upward values (what a
 * subtree says of the state above it) in a cache; a new x_i changes those from its node to the root, and a pass back down
 * gives the conditional: O(log n) of the circuit a value where the tree is balanced.  In the order of nodes (depth
 * first) both can be kept on the way from the root to the open node: what the rest of the image says of its state, and
 * what its own subtree says so far.  Opening a node is then one step down, leaving it one step up, whatever the depth:
 * twice the circuit for all values of an image together, and the same conditionals.
 *
 * Same bits.  Reader and writer do the same f32 arithmetic, each operation rounded as IEEE 754 has it, in an order that is
 * fixed (sums of products: pith_gemm_fn; no function of a library; no contraction), and turn it into whole frequencies.  So
 * files are the same on every instruction set and for any number of threads, and learning gives the same circuit.
 *
 * Files of images and of circuits: docs/format.md. */
#ifndef PITH_CIRCUIT_H
#define PITH_CIRCUIT_H

#include "stream/codec/chow_liu.h"

#define PITH_CIRCUIT_VALUES 256
#define PITH_CIRCUIT_MAX_STATES 256

typedef struct pith_circuit {
    pith_ctx *ctx;
    pith_var_tree tree;
    size_t n;                      /* variables */
    size_t n_states, n_values;     /* of a hidden state, of a variable */
    float *edge;                   /* [n, n_states of the parent, n_states] rows sum to 1; node 0: its first row alone */
    float *leaf;                   /* [n, n_states, n_values] rows sum to 1 */
    uint32_t *first_child, *next_sibling; /* [n] nodes, in rising order; PITH_NO_PARENT: none */
} pith_circuit;

typedef struct pith_circuit_options {
    size_t n_states;               /* 1..PITH_CIRCUIT_MAX_STATES; fastest: a multiple of 16 */
    size_t n_values;               /* 2..256; 0: 256 */
    int tree_shift;                /* the tree looks at values without so many low bits; the paper: 4 */
    uint64_t seed;                 /* of the parameters before EM */
} pith_circuit_options;

/** A circuit over the tree of images x [n_items, n], with random parameters around each variable's own distribution.
 *  Free it before ctx.
 *  @return PITH_E_ARGUMENT (no images or variables, options out of range, a value beyond n_values), PITH_E_MEMORY */
pith_status pith_circuit_new(pith_ctx *ctx, const uint8_t *x, size_t n_items, size_t n, const pith_circuit_options *options, pith_circuit **circuit);
void pith_circuit_free(pith_circuit *circuit); /* NULL is allowed */

/* ---- learning ---------------------------------------------------------------------------------- */

/* EM (the paper's section 4): flows are the expected uses of each parameter, and of a batch's flows a share becomes the
 * parameters: theta = m theta + (1 - m) normalized(flows + pseudocount). */
typedef struct pith_circuit_training {
    size_t batch;                  /* images; the paper: 512 */
    size_t epochs[2];              /* m rises from momentum[0] to [1] in the first, to [2] in the second; the paper: 100, 100 */
    double momentum[3];            /* the paper: 0.2, 0.9, 0.95 */
    size_t rounds;                 /* over all images, with m = 0, after these; the paper: 20 */
    double pseudocount;            /* of each distribution, spread evenly over its values; the paper: 0.1 */
    uint64_t seed;                 /* of the order of images */
    /* After each epoch and round: bits a value of the images as they were passed (before the step that they are in).
     * NULL, or an error stops it. */
    pith_status (*passed)(void *user, size_t epoch, double bits);
    void *user;
} pith_circuit_training;

/** @return PITH_E_ARGUMENT (options, no items, values out of range), PITH_E_MEMORY, PITH_E_CANCELLED, what `passed` returned;
 *  the circuit is valid after each of them. */
pith_status pith_circuit_learn(pith_circuit *circuit, const uint8_t *x, size_t n_items, const pith_circuit_training *training);

/* ---- likelihoods ------------------------------------------------------------------------------- */

/** log2 p of each image, summed over the values of variables that it does not know.
 *  x [n_items, n]; known [n_items, n] 0 where x is not known, NULL: all is; log2_p [n_items] the caller's
 *  @return PITH_E_ARGUMENT (values out of range), PITH_E_MEMORY */
pith_status pith_circuit_log2(const pith_circuit *circuit, const uint8_t *x, const uint8_t *known, size_t n_items, double *log2_p);

/* ---- coding ------------------------------------------------------------------------------------ */

#define PITH_CIRCUIT_BITS 24       /* frequencies sum to 2^24 */
#define PITH_CIRCUIT_BLOCK 32      /* images that are coded side by side, in one stream */

/* Multiply-adds to code one image. */
typedef struct pith_circuit_work {
    uint64_t kept;                 /* steps up and down, as they are counted in a walk over all nodes */
    uint64_t again;                /* instead of them, one pass over the whole circuit for each value */
    uint64_t last;                 /* sums over states for all values of each variable: the same in both */
} pith_circuit_work;
/** @return PITH_E_MEMORY */
pith_status pith_circuit_count(const pith_circuit *circuit, pith_circuit_work *work);

/** The whole frequencies that value v of each variable is coded with in image x [n]: freq [n, n_values], by node. */
pith_status pith_circuit_tables(const pith_circuit *circuit, const uint8_t *x, uint32_t *freq);

/** A file of images x [n_items, n].  *file is the caller's, pith_free.
 *  @return PITH_E_ARGUMENT (values out of range, more than 2^32 - 1 images), PITH_E_MEMORY */
pith_status pith_circuit_encode(const pith_circuit *circuit, const uint8_t *x, size_t n_items, uint8_t **file, size_t *len);
/** The images of a file [n_items, n], the caller's, pith_free.
 *  @return PITH_E_CORRUPT (what is wrong and where), PITH_E_ARGUMENT (another circuit's file), PITH_E_MEMORY */
pith_status pith_circuit_decode(const pith_circuit *circuit, const uint8_t *file, size_t len, uint8_t **x, size_t *n_items);

/* ---- files of circuits ------------------------------------------------------------------------- */

/** *file is the caller's, pith_free.  The last 8 bytes are what a file of images knows its circuit by.  @return PITH_E_MEMORY */
pith_status pith_circuit_write(const pith_circuit *circuit, uint8_t **file, size_t *len);
/** @return PITH_E_CORRUPT, PITH_E_UNSUPPORTED (a later version), PITH_E_MEMORY */
pith_status pith_circuit_read(pith_ctx *ctx, const uint8_t *file, size_t len, pith_circuit **circuit);

#endif
