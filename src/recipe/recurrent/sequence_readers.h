/* Networks that read sequences, each of about as many parameters as asked for, so that kinds can be compared.
 *
 *   elman       tanh cells that see their states of before: Elman 1990
 *   jordan      tanh cells that see the outputs of before: Jordan 1986
 *   lstm        with forget gates that begin at 1; lstm_bias0: at 0; lstm_1997: without; lstm_peep: whose gates see the cell
 *   gru         arXiv:1406.1078
 *   bilstm      lstm in both directions; stacked: two layers of it
 *   echo        a fixed reservoir of spectral radius 0.9 and a ridge read-out: Jaeger, GMD report 148, 2001
 *   window      no state: an MLP over the last steps
 *   mamba2      two blocks of model/net_mamba.c between linear layers */
#ifndef PITH_SEQUENCE_READERS_H
#define PITH_SEQUENCE_READERS_H

#include "model/net.h"

#define PITH_READER_BLOCKS 2       /* of mamba2 */

typedef struct pith_reader pith_reader;

typedef struct pith_reader_options {
    const char *kind;              /* as above */
    size_t n_in, n_out;            /* values of a step; n_out 0: the states themselves (not of jordan, echo, window, mamba2) */
    bool last;                     /* one output for a sequence, after its last step */
    size_t n_values;               /* parameters wanted; the width is the one that comes nearest, at most 256 */
    size_t window;                 /* of window: steps it sees */
    bool centred;                  /* of window: half of them come after the step; not with last */
    uint64_t seed;
} pith_reader_options;

/** Makes its parameters on the tape.  @return PITH_E_ARGUMENT: no such kind, or it cannot do what is asked; PITH_E_MEMORY */
pith_status pith_reader_new(pith_tape *tape, const pith_reader_options *o, pith_reader **reader);
/** Before the tape.  NULL is allowed. */
void pith_reader_free(pith_reader *r);
/** Whether there is such a kind. */
bool pith_reader_known(const char *kind);
size_t pith_reader_width(const pith_reader *r);
size_t pith_reader_n_values(const pith_reader *r);
/** Whether a parameter is learned by gradients: all but those of echo. */
bool pith_reader_learns(const pith_reader *r);
/** x [n, len, n_in] -> [n, len, n_out], or [n, n_out] for last.  state: as in model/net.h, of kinds of one direction; NULL: 0. */
pith_var *pith_reader_run(pith_reader *r, pith_var *x, float *state);
/** The length of such a state for n sequences. */
size_t pith_reader_state(const pith_reader *r, size_t n);

/** ids [n, len], row i at i * stride, as [n, len, n_symbols]: 1 where the symbol is; none for what is below 0. */
pith_var *pith_reader_one_hot(pith_tape *tape, const int32_t *ids, size_t n, size_t len, size_t stride, size_t n_symbols);

/* How echo learns: what it is to answer, batch by batch; then solve, once. */
/** Recording is off.  target [rows, n_out] with a row for each output of x; rows where counts [rows] (NULL: all) is false do not
 *  count. */
pith_status pith_reader_show(pith_reader *r, pith_var *x, const float *target, const bool *counts);
pith_status pith_reader_solve(pith_reader *r, double ridge);

#endif
