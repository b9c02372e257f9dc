/* The tape: reverse-mode differentiation of f32 arrays, and what trains networks with it.
 *
 *     pith_tape_step(tape, step);                                    // a new step; the last one's values end
 *     pith_var *x = pith_tape_input(tape, pixels, PITH_DIMS(batch, 784));
 *     pith_var *h = pith_var_relu(pith_var_linear(x, w1, b1));
 *     pith_var *loss = pith_var_cross_entropy(pith_var_linear(h, w2, b2), labels, PITH_NO_LABEL);
 *     PITH_TRY(pith_backward(tape, loss, 0));                        // w1->grad … are set
 *     PITH_TRY(pith_optimizer_step(optimizer, rate));                // and used up
 *
 * Values.  An operation computes at once and returns a new value: f32, row-major, without gaps, up to
 * PITH_MAX_DIMS dimensions, any of them may be 0.  Arguments are never changed.  A view (reshape, a slice of the
 * first dimension, stop) shares memory with what it is a view of.
 *
 * Ownership.  The tape owns every value.  Parameters live as long as the tape, all else until the next
 * pith_tape_step; nothing is freed one by one.  pith_backward gives back the memory of each value that it has
 * passed (data is NULL then), unless told otherwise by pith_var_keep or PITH_KEEP_GRAPH.  Memory is kept and used
 * again, so that the second step of the same shape allocates nothing.
 *
 * Errors.  An operation that fails returns NULL, and one that is given NULL returns NULL, so that a network is
 * written without checks.  The first failure stays in the tape, with its sentence in the context (it names the
 * operation and the shapes), until the next step; pith_backward, pith_gradients and pith_tape_status return it:
 * PITH_E_SHAPE, PITH_E_ARGUMENT, PITH_E_MEMORY, PITH_E_LIMIT, PITH_E_UNSUPPORTED.
 *
 * Same bits.  A result depends neither on the number of threads nor on the instruction set.  Random numbers are a
 * function of the tape's seed, the step, and the order of draws within the step.
 *
 * A tape is used by one thread at a time; the work is spread over the context's threads. */
#ifndef PITH_GRAD_H
#define PITH_GRAD_H

#include "tensor/tensor.h"

typedef struct pith_tape pith_tape;
typedef struct pith_var pith_var;
typedef struct pith_op pith_op;
typedef struct pith_block pith_block; /* memory of values, shared by views */

struct pith_var {
    float *data;                  /* [count]; read-only to users, but for parameters between steps */
    float *grad;                  /* parameters: the sum over backward passes, [count]; NULL before the first */
    size_t count;
    int n_dims;                   /* 0: a scalar, count 1 */
    size_t dims[PITH_MAX_DIMS];
    const char *name;             /* parameters: the tape's copy; else NULL */
    bool needs_grad;              /* a parameter, or made of something that needs it while recording */

    /* for operations (ops in other files, see the end) and the tape */
    pith_tape *tape;
    const pith_op *op;            /* what made it; NULL: parameter, input, or not recorded */
    pith_var **in;                /* [n_in] */
    int n_in;
    void *attr;                   /* what the operation saved */
    bool keep;                    /* pith_var_keep */
    pith_block *block;            /* NULL: the caller's memory */
    pith_block *g_block;          /* the running gradient of a backward pass: memory, values */
    float *g_data;
    pith_var *g;                  /* the same when the pass itself is recorded */
    pith_block *grad_block;       /* parameters: the memory of grad */
    uint64_t pass;                /* the last pith_gradients that wanted it */
    bool sought;                  /* … and asked for it itself */
    size_t first_use;             /* parameters, while gradients are watched: the first value made of it */
};

/* n_dims, dims of a shape: pith_var_reshape(x, PITH_DIMS(2, 3)) */
#define PITH_DIMS(...) (int)PITH_COUNT(((const size_t[]){__VA_ARGS__})), (const size_t[]){__VA_ARGS__}

/* ---- the tape --------------------------------------------------------------------------------- */

/** @return PITH_E_MEMORY.  Free the tape before its context. */
pith_status pith_tape_new(pith_ctx *ctx, uint64_t seed, pith_tape **tape);
/** With all its values and parameters.  NULL is allowed. */
void pith_tape_free(pith_tape *tape);
uint64_t pith_tape_seed(const pith_tape *tape);
/** Begin a step: all values but parameters end, the last error is forgotten, recording is on, and random
 *  numbers are those of `step`. */
void pith_tape_step(pith_tape *tape, uint64_t step);
/** The first failure since the step began; PITH_OK if none. */
pith_status pith_tape_status(const pith_tape *tape);
/** Turn recording on or off; returns what it was.  Off: values only, no gradients (evaluation). */
bool pith_tape_record(pith_tape *tape, bool on);
/** Bytes held for values, gradients and parameters: the most there was at once, rounded up to the sizes of blocks. */
size_t pith_tape_bytes(const pith_tape *tape);

/* A stretch of work whose values are not needed after it: a batch of an evaluation.  (A training step needs
 * none.)  Only with recording off.  `keep` [n_keep] stay; values of before the scope always do. */
typedef struct pith_scope {
    size_t n_values;
} pith_scope;
pith_scope pith_scope_begin(pith_tape *tape);
void pith_scope_end(pith_tape *tape, pith_scope scope, pith_var *const *keep, size_t n_keep);

/** A parameter, zero at first; fill data.  Ends with the tape.  Not within a step. NULL: memory, shape. */
pith_var *pith_tape_param(pith_tape *tape, const char *name, int n_dims, const size_t *dims);
/** All parameters, in the order they were made. */
pith_var *const *pith_tape_params(const pith_tape *tape, size_t *n);
/** The caller's array as a value, not copied: it must stay, unchanged, until the step ends. */
pith_var *pith_tape_input(pith_tape *tape, const float *data, int n_dims, const size_t *dims);
/** An array all of one value. */
pith_var *pith_tape_fill(pith_tape *tape, float value, int n_dims, const size_t *dims);

/* ---- gradients -------------------------------------------------------------------------------- */

typedef enum pith_pass_flags {
    PITH_KEEP_GRAPH = 1,          /* values stay, another backward pass may follow */
    PITH_RECORD_PASS = 2          /* pith_gradients: the gradients can be differentiated again; keeps the graph */
} pith_pass_flags;

/** Add the gradients of `loss` (one value) to the parameters' grad.  Several passes add up: a large batch in parts.
 *  @return PITH_E_NONFINITE when the loss is not finite: the sentence names the first operation whose result was
 *  not; PITH_E_ARGUMENT when loss has several values, needs no gradient, or its graph was given back; or the
 *  tape's failure.  After an error the parameters' grad are not to be used: pith_tape_zero_grad. */
pith_status pith_backward(pith_tape *tape, pith_var *loss, unsigned flags);
/** In pith_backward, call fn once for each parameter that takes a gradient, as soon as nothing more will be added to it in
 *  this pass: to send it while the pass goes on.  gradient [count] is read only, of this pass and those before it; NULL:
 *  it has none.  fn NULL: no more. */
typedef void pith_gradient_fn(void *user, pith_var *param, const float *gradient);
void pith_tape_watch(pith_tape *tape, pith_gradient_fn *fn, void *user);
/** A parameter's grad to be written to, made (zeros) where there is none.  NULL: memory. */
float *pith_tape_own_grad(pith_var *param);
/** Forget the parameters' gradients (pith_optimizer_step does). */
void pith_tape_zero_grad(pith_tape *tape);
/** gx[i] = d<y, seed>/d x[i], for values x of this step or parameters; seed NULL: y has one value and seed is 1.
 *  What y does not depend on has gradient zero.  Parameters' grad is left alone. */
pith_status pith_gradients(pith_tape *tape, pith_var *y, pith_var *seed, pith_var *const *x, size_t n, unsigned flags, pith_var **gx);
/** Forward-mode product: jv = (dy/dx) v.  v[i] has the shape of x[i], jv the shape of y.  By differentiating the
 *  backward pass, which is linear in its seed, by the seed; costs two backward passes; keeps the graph. */
pith_status pith_jvp(pith_tape *tape, pith_var *y, pith_var *const *x, pith_var *const *v, size_t n, pith_var **jv);

/** Keep v's memory through backward passes until the step ends; returns v. */
pith_var *pith_var_keep(pith_var *v);
/** The same values, of which no gradient is taken (a view). */
pith_var *pith_var_stop(pith_var *v);
/** The values of `hard`, the gradient of `soft` (straight-through estimator: Bengio, Leonard, Courville,
 *  arXiv:1308.3432).  One shape. */
pith_var *pith_var_straight_through(pith_var *hard, pith_var *soft);
/** y = fn(user), whose inner values are not kept but computed again in the backward pass (Chen et al.,
 *  arXiv:1604.06174).  fn must do the same each time: random numbers are the same again.  user must stay until the
 *  step ends. */
typedef pith_var *pith_segment_fn(pith_tape *tape, void *user);
pith_var *pith_checkpoint(pith_tape *tape, pith_segment_fn *fn, void *user);
/** y = fn(user), whose inner values wait for the backward pass as bf16, in half the memory: gradients are those of values
 *  rounded to 8 bits, y is not rounded.  Inner values are not to be used outside (an error says so), but for those that
 *  pith_var_keep keeps; what fn was given stays f32.  user is not needed after. */
pith_var *pith_store_bf16(pith_tape *tape, pith_segment_fn *fn, void *user);

/* ---- elementwise ------------------------------------------------------------------------------ */

/* Shapes are matched from the last dimension; a dimension that is 1 or missing is repeated. */
pith_var *pith_var_add(pith_var *a, pith_var *b);
pith_var *pith_var_sub(pith_var *a, pith_var *b);
pith_var *pith_var_mul(pith_var *a, pith_var *b);
pith_var *pith_var_div(pith_var *a, pith_var *b);
pith_var *pith_var_max(pith_var *a, pith_var *b);          /* the gradient goes to a where they are equal */
pith_var *pith_var_min(pith_var *a, pith_var *b);
pith_var *pith_var_at_least(pith_var *a, pith_var *b);     /* 1 where a >= b, else 0; no gradient */

pith_var *pith_var_scale(pith_var *x, float factor);
pith_var *pith_var_affine(pith_var *x, float factor, float shift); /* factor x + shift */
pith_var *pith_var_neg(pith_var *x);
pith_var *pith_var_abs(pith_var *x);                       /* gradient 0 at 0 */
pith_var *pith_var_square(pith_var *x);
pith_var *pith_var_sqrt(pith_var *x);
pith_var *pith_var_rsqrt(pith_var *x);
pith_var *pith_var_reciprocal(pith_var *x);
pith_var *pith_var_pow(pith_var *x, float exponent);       /* x >= 0 */
pith_var *pith_var_exp(pith_var *x);
pith_var *pith_var_log(pith_var *x);
pith_var *pith_var_sin(pith_var *x);                       /* |x| up to about 10^4, as cos */
pith_var *pith_var_cos(pith_var *x);
pith_var *pith_var_erf(pith_var *x);
pith_var *pith_var_tanh(pith_var *x);
pith_var *pith_var_sigmoid(pith_var *x);
pith_var *pith_var_softplus(pith_var *x);                  /* log(1 + exp x) */
pith_var *pith_var_relu(pith_var *x);
pith_var *pith_var_leaky_relu(pith_var *x, float slope);   /* slope below 0 */
pith_var *pith_var_elu(pith_var *x, float alpha);
pith_var *pith_var_silu(pith_var *x);                      /* x sigmoid(x) */
pith_var *pith_var_gelu(pith_var *x);                      /* x Phi(x): Hendrycks, Gimpel, arXiv:1606.08415 */
pith_var *pith_var_gelu_tanh(pith_var *x);                 /* its tanh form, same paper */
pith_var *pith_var_silu_mul(pith_var *gate, pith_var *up); /* silu(gate) up, of one shape: SwiGLU (Shazeer, arXiv:2002.05202) */
pith_var *pith_var_clamp(pith_var *x, float low, float high); /* gradient 0 outside */
/* no gradient, that is gradient 0; see pith_var_straight_through */
pith_var *pith_var_round(pith_var *x);                     /* to even */
pith_var *pith_var_floor(pith_var *x);
pith_var *pith_var_sign(pith_var *x);

/* ---- shape ------------------------------------------------------------------------------------ */

/* An axis counts from 0, or from the end as -1, -2 … */
pith_var *pith_var_reshape(pith_var *x, int n_dims, const size_t *dims);           /* view */
pith_var *pith_var_permute(pith_var *x, const int *axes);                          /* y.dims[i] = x.dims[axes[i]] */
pith_var *pith_var_transpose(pith_var *x, int axis_a, int axis_b);                 /* two axes swapped */
pith_var *pith_var_slice(pith_var *x, int axis, size_t from, size_t n);            /* view where axis is the first */
pith_var *pith_var_concat(pith_var *const *x, size_t n, int axis);
pith_var *pith_var_pad(pith_var *x, int axis, size_t before, size_t after);        /* zeros */
pith_var *pith_var_broadcast(pith_var *x, int n_dims, const size_t *dims);

/* ---- reductions ------------------------------------------------------------------------------- */

#define PITH_AXIS(i) (1u << (i))                           /* axes as a set, from 0: PITH_AXIS(0) | PITH_AXIS(2) */
#define PITH_ALL_AXES 0xffu
/* The reduced axes stay as 1; PITH_ALL_AXES gives a scalar of no dimensions. */
pith_var *pith_var_sum(pith_var *x, unsigned axes);
pith_var *pith_var_mean(pith_var *x, unsigned axes);
pith_var *pith_var_sum_to(pith_var *x, int n_dims, const size_t *dims); /* what broadcasting from dims repeated */
/** The largest along the last axis, which stays as 1; the gradient goes to the first of equals. */
pith_var *pith_var_max_last(pith_var *x);
pith_var *pith_var_logsumexp(pith_var *x);                 /* along the last axis, which stays as 1 */
pith_var *pith_var_cumsum(pith_var *x, bool reverse);      /* along the last axis */

/* ---- products --------------------------------------------------------------------------------- */

/** a [.., m, k] b [.., k, n] -> [.., m, n]; transpose_a: a is [.., k, m]; transpose_b: b is [.., n, k].  The
 *  leading dimensions are the same, or one side has none. */
pith_var *pith_var_matmul(pith_var *a, pith_var *b, bool transpose_a, bool transpose_b);
/** x [.., in] w [out, in], bias [out] or NULL -> [.., out] */
pith_var *pith_var_linear(pith_var *x, pith_var *w, pith_var *bias);
/** A sum of products by letters, as NumPy's einsum of two arrays with its result written out: "bhqd,bhkd->bhqk".  A letter is a
 *  dimension, of one size wherever it stands; what the result lacks is summed over.  A letter stands once in an array
 *  (diagonals are refused), and the result has none of its own.  PITH_E_ARGUMENT (the text), PITH_E_SHAPE */
pith_var *pith_var_einsum(pith_var *a, pith_var *b, const char *letters);

/* ---- Fourier transforms ----------------------------------------------------------------------- */

/* Complex values are [.., 2]: real part, imaginary part.  y_k = sum_t x_t e^(-2 pi i k t / n), and the inverse over n: as
 * NumPy's.  Any n up to 2^30; quick where no prime above 13 divides it. */
/** x [.., n] -> [.., n / 2 + 1, 2]: half the spectrum, whose other half is its mirror image. */
pith_var *pith_var_rfft(pith_var *x);
/** x [.., n / 2 + 1, 2] -> [.., n].  Imaginary parts of bin 0 and (n even) n / 2 do not count. */
pith_var *pith_var_irfft(pith_var *x, size_t n);
/* x [.., height, width] <-> [.., height, width / 2 + 1, 2] */
pith_var *pith_var_rfft2(pith_var *x);
pith_var *pith_var_irfft2(pith_var *x, size_t width);
/** Complex x [.., n, .., 2] along any axis but the last -> the same shape. */
pith_var *pith_var_fft(pith_var *x, int axis, bool inverse);

/* ---- choosing and placing --------------------------------------------------------------------- */

/* Indices are copied.  One out of range is PITH_E_ARGUMENT. */
/** w [rows, d], index [count of dims] -> [dims.., d]: an embedding. */
pith_var *pith_var_rows(pith_var *w, const int32_t *index, int n_dims, const size_t *dims);
/** x [n, d], index [n] -> [rows, d], zero but for x's rows added where they belong. */
pith_var *pith_var_index_add(pith_var *x, const int32_t *index, size_t rows);
/** x [.., n], index [.., m] with the same leading dimensions -> [.., m]: y[r, i] = x[r, index[r, i]]. */
pith_var *pith_var_gather(pith_var *x, const int32_t *index, size_t m);
/** x [.., m], index [.., m] -> [.., n]: y[r, index[r, i]] += x[r, i], in the order of i. */
pith_var *pith_var_scatter_add(pith_var *x, const int32_t *index, size_t n);
/** The k largest along the last axis, the first of equals first; index (or NULL): where they were, [.., k], until
 *  the step ends.  k = n sorts. */
pith_var *pith_var_top_k(pith_var *x, size_t k, const int32_t **index);

/* ---- softmax and losses ----------------------------------------------------------------------- */

pith_var *pith_var_softmax(pith_var *x);                   /* along the last axis */
pith_var *pith_var_log_softmax(pith_var *x);

/* Losses are one value, the mean over all values, or over rows where rows are spoken of. */
#define PITH_NO_LABEL (-100)
/** x [.., n] logits, label [rows] of 0..n-1, or PITH_NO_LABEL for rows that do not count. */
pith_var *pith_var_cross_entropy(pith_var *x, const int32_t *label);
/** Mean over rows of KL(softmax(target) || softmax(x)); shapes [.., n]. */
pith_var *pith_var_kl(pith_var *x, pith_var *target);
pith_var *pith_var_mse(pith_var *x, pith_var *target);
pith_var *pith_var_l1(pith_var *x, pith_var *target);
pith_var *pith_var_bce(pith_var *x, pith_var *target);     /* x logits, target in 0..1 */
pith_var *pith_var_hinge(pith_var *x, pith_var *target);   /* max(0, 1 - x target), target -1 or 1 */
/* Sequences of labels whose places are not known. */
typedef struct pith_ctc {
    int32_t blank;                /* the class that is no label */
    const int32_t *n_steps;       /* [n] of each sequence, 0..len; NULL: len */
    const int32_t *n_labels;      /* [n], 0..max_labels; NULL: max_labels */
    bool skip_impossible;         /* a sequence with fewer steps than its labels take (one each, and one between equal
                                   * neighbours) does not count in the mean and has no gradient; else it is PITH_E_ARGUMENT */
} pith_ctc;
/** Mean over sequences of -log p(labels): x [n, len, classes] logits, label [n, max_labels] (Graves et al., ICML 2006).  0
 *  where no sequence counts.  All numbers are copied. */
pith_var *pith_var_ctc(pith_var *x, const int32_t *label, size_t max_labels, const pith_ctc *options);
/** a, b [n, d]: row i of a belongs to row i of b and to no other; cosines over the temperature, softmax over b
 *  (InfoNCE: van den Oord, Li, Vinyals, arXiv:1807.03748). */
pith_var *pith_var_contrastive(pith_var *a, pith_var *b, float temperature);
/** x / max(|x|, eps) along the last axis. */
pith_var *pith_var_unit(pith_var *x, float eps);

/* ---- norms ------------------------------------------------------------------------------------ */

/* gain and bias may be NULL: 1 and 0. */
/** Along the last axis: x less its mean (if center), over the root of its mean square plus eps. */
pith_var *pith_var_normalize(pith_var *x, float eps, bool center);
pith_var *pith_var_layer_norm(pith_var *x, pith_var *gain, pith_var *bias, float eps);   /* gain, bias: the last axis */
pith_var *pith_var_rms_norm(pith_var *x, pith_var *gain, float eps);
/* x [n, channels, ..]; gain, bias [channels] */
pith_var *pith_var_group_norm(pith_var *x, size_t n_groups, pith_var *gain, pith_var *bias, float eps);
/** While training, by the batch's mean and variance, of which averages are kept in mean and variance [channels], the
 *  caller's (each moves by `momentum` towards the batch's); where pith_tape_record is off, by these averages. */
pith_var *pith_var_batch_norm(pith_var *x, pith_var *gain, pith_var *bias, float eps, float *mean, float *variance, float momentum);
/** By these averages in any case: a network that is frozen, but passes gradients on. */
pith_var *pith_var_batch_norm_fixed(pith_var *x, pith_var *gain, pith_var *bias, float eps, const float *mean, const float *variance);

/* ---- attention -------------------------------------------------------------------------------- */

typedef struct pith_attention {
    bool causal;                  /* query i of n_q sees keys up to i + n_k - n_q; n_q <= n_k */
    size_t window;                /* … and only the last `window` of them; 0: all */
    float scale;                  /* 0: 1 / sqrt(d) */
    const int32_t *n_keys;        /* [n]: only the first so many keys of each, 1..n_k; not with causal; NULL: all; copied */
} pith_attention;
/** q [n, heads, n_q, d], k and v [n, kv_heads, n_k, d] with heads a multiple of kv_heads (head h uses
 *  h / (heads / kv_heads)) -> [n, heads, n_q, d].  Queries and keys of different lengths: cross-attention. */
pith_var *pith_var_attention(pith_var *q, pith_var *k, pith_var *v, const pith_attention *options);
/** The same of heads side by side, as linear layers leave them, which are read in place: q [n, n_q, heads d], k and v
 *  [n, n_k, kv_heads d] -> [n, n_q, heads d]. */
pith_var *pith_var_attention_heads(pith_var *q, pith_var *k, pith_var *v, size_t heads, size_t kv_heads, const pith_attention *options);
/** The same of one layer that makes all three: qkv [n, len, 3 heads d], queries, keys and values in that order -> [n, len, heads d]. */
pith_var *pith_var_attention_packed(pith_var *qkv, size_t heads, const pith_attention *options);

/* ---- recurrence ------------------------------------------------------------------------------- */

typedef enum pith_cell {
    PITH_CELL_TANH, PITH_CELL_RELU, /* h = f(gates + w h) */
    PITH_CELL_LSTM,               /* gates i, f, g, o: Hochreiter, Schmidhuber 1997, with Gers' forget gate, as in PyTorch */
    PITH_CELL_GRU,                /* gates r, z, n; n = tanh(gates + r (w h + bias)): arXiv:1406.1078, as in PyTorch */
    PITH_CELL_LSTM_1997           /* gates i, g, o: the cell as it was first, which forgets nothing */
} pith_cell;
bool pith_cell_is_lstm(pith_cell cell);   /* one of the two: beside the state there is a cell */
size_t pith_cell_gates(pith_cell cell);   /* rows of the weights, in states: 4, 3 or 1 */
/** All steps of a recurrent layer.  gates [len, n, g h]: what comes from the input at each step, with its bias, for the g
 *  gates of the cell; w [g h, h] and bias [g h] (or NULL) are what comes from the state before; h0, c0 [n, h]: the first
 *  state and (LSTM) cell, NULL: 0.  -> the states, [len, n, h]; *c_last (c_last may be NULL): the last cell [n, h], through
 *  which no gradient passes. */
pith_var *pith_var_recurrent(pith_cell cell, pith_var *gates, pith_var *w, pith_var *bias, pith_var *h0, pith_var *c0, pith_var **c_last);
/** The same of an LSTM whose gates but g see the cell (Gers, Schmidhuber 2000): peep [gates - 1, h] times the cell before,
 *  for o times this step's, is added to them.  NULL: none. */
pith_var *pith_var_recurrent_peep(pith_cell cell, pith_var *gates, pith_var *w, pith_var *bias, pith_var *peep, pith_var *h0, pith_var *c0, pith_var **c_last);

/** Gated linear recurrence (linear attention; state-space duality: Dao, Gu, arXiv:2405.21060): for each head, from the state
 *  s0 [n, heads, dk, dv] (NULL: 0), S = diag(exp(decay)) S + k^T v and y = q S; before: y = q S of before the step.
 *  q, k [n, groups, len, dk], v [n, heads, len, dv], heads a multiple of groups; decay [n, heads, len, 1] or [.., dk], 0 or
 *  less.  -> [n, heads, len, dv]; *last (may be NULL): the last state, through which no gradient passes. */
pith_var *pith_var_linear_scan(pith_var *q, pith_var *k, pith_var *v, pith_var *decay, pith_var *s0, bool before, pith_var **last);

/* ---- convolution, pooling, interpolation ------------------------------------------------------ */

/* By dimension of space, first to last; 0 in groups, stride, dilation is 1. */
typedef struct pith_conv {
    size_t groups;
    size_t stride[3], padding[3], dilation[3];
    size_t output_padding[3];     /* transposed: added to the result's far side; below the stride */
} pith_conv;
/** x [n, c_in, space..] of one to three dimensions, w [c_out, c_in / groups, kernel..], bias [c_out] or NULL ->
 *  [n, c_out, (space + 2 padding - dilation (kernel - 1) - 1) / stride + 1 ..]; padded with zeros. */
pith_var *pith_var_conv(pith_var *x, pith_var *w, pith_var *bias, const pith_conv *options);
/** What the gradient by x of such a convolution does: x [n, c_in, space..], w [c_in, c_out / groups, kernel..] ->
 *  [n, c_out, (space - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1 ..] */
pith_var *pith_var_conv_transposed(pith_var *x, pith_var *w, pith_var *bias, const pith_conv *options);

typedef struct pith_pool_window {
    size_t size[3], stride[3], padding[3]; /* by dimension of space, first to last; stride 0: the size; padding below the size */
} pith_pool_window;
/* x [n, channels, space..] of one to three dimensions; what lies in the padding does not count */
pith_var *pith_var_max_pool(pith_var *x, const pith_pool_window *window);
pith_var *pith_var_avg_pool(pith_var *x, const pith_pool_window *window);
/** To height by width: the nearest value, or linear between the four around; outer edges lie on each other. */
pith_var *pith_var_interpolate(pith_var *x, size_t height, size_t width, bool linear);

/* A hash grid over the unit cube (arXiv:2201.05989). */
typedef struct pith_hash_grid {
    size_t n_levels, n_features;  /* features of an entry */
    size_t n_entries;             /* of a level at most; beyond, corners share them */
    size_t coarsest;              /* cells of the first level along an axis */
    float growth;                 /* of their number from level to level, 1 or more */
} pith_hash_grid;
/** Rows of the table for points of d values. */
size_t pith_hash_grid_rows(const pith_hash_grid *grid, size_t d);
/** x [n, d] in 0..1, d up to 4, table [rows, n_features] -> [n, n_levels n_features]; the gradient by x is that within
 *  its cell. */
pith_var *pith_var_hash_grid(pith_var *x, pith_var *table, const pith_hash_grid *grid);

/* ---- random numbers --------------------------------------------------------------------------- */

pith_var *pith_tape_uniform(pith_tape *tape, int n_dims, const size_t *dims);      /* [0, 1) */
pith_var *pith_tape_normal(pith_tape *tape, int n_dims, const size_t *dims);
pith_var *pith_tape_gumbel(pith_tape *tape, int n_dims, const size_t *dims);
/** x with each value dropped (0) with probability p, the others over 1 - p; x itself where pith_tape_record is off. */
pith_var *pith_var_dropout(pith_var *x, float p);
/** mean + exp(log_variance / 2) noise (Kingma, Welling, arXiv:1312.6114). */
pith_var *pith_var_draw_normal(pith_var *mean, pith_var *log_variance);
/** softmax((logits + Gumbel noise) / temperature) along the last axis (Jang, Gu, Poole, arXiv:1611.01144); hard: one
 *  1 at the largest, with that one's gradient passed straight through. */
pith_var *pith_var_gumbel_softmax(pith_var *logits, float temperature, bool hard);
/** Gates in 0..1 that are 0 or 1 with positive probability: the hard concrete of Louizos, Welling, Kingma,
 *  arXiv:1712.01312, with its stretch of -0.1 to 1.1. */
pith_var *pith_var_hard_concrete(pith_var *log_alpha, float temperature);
/** The probability that such a gate is not 0, [shape of log_alpha]. */
pith_var *pith_var_hard_concrete_open(pith_var *log_alpha, float temperature);

/* ---- training --------------------------------------------------------------------------------- */

typedef enum pith_optimizer_kind {
    PITH_SGD,                     /* with momentum, nesterov; decay is added to the gradient */
    PITH_ADAMW,                   /* Loshchilov, Hutter, arXiv:1711.05101 */
    PITH_ADAFACTOR,               /* Shazeer, Stern, arXiv:1804.04235: of a matrix's second moments row and column means */
    PITH_MUON                     /* Jordan et al. 2024, kellerjordan.github.io/posts/muon: matrices move by their momentum made
                                   * orthogonal, at a rate that suits AdamW (Liu et al., arXiv:2502.16982); AdamW for the rest */
} pith_optimizer_kind;

/* To Adafactor and Muon a matrix is a parameter of two dimensions or more, [dims[0], the others together]. */
typedef struct pith_optimizer_options {
    pith_optimizer_kind kind;
    float momentum;               /* SGD; 0: none, and no memory for it.  Muon, with Nesterov's step; 0: 0.95 */
    bool nesterov;                /* SGD */
    float beta1, beta2, eps;      /* AdamW; all 0: 0.9, 0.999, 1e-8.  Adafactor: beta1 of its updates, 0: none kept */
    float update_clip;            /* Adafactor: the root mean square of an update is at most this (the paper: 1); 0: off */
    bool relative;                /* Adafactor: rate times the parameter's root mean square, at least 1e-3 */
    float weight_decay;           /* of every parameter, until pith_optimizer_group */
    float clip_norm;              /* gradients together are no longer than this; 0: off */
    float ema;                    /* decay of a moving average of the parameters; 0: none kept */
} pith_optimizer_options;

typedef struct pith_optimizer pith_optimizer;

/** For the parameters the tape has now.  Free it before the tape. @return PITH_E_MEMORY, PITH_E_ARGUMENT */
pith_status pith_optimizer_new(pith_tape *tape, const pith_optimizer_options *options, pith_optimizer **optimizer);
/** For some of them. */
pith_status pith_optimizer_new_for(pith_tape *tape, const pith_optimizer_options *options, pith_var *const *params, size_t n, pith_optimizer **optimizer);
void pith_optimizer_free(pith_optimizer *optimizer); /* NULL is allowed */
/** Parameters with settings of their own: weight decay (0 for gains and biases), and a factor on the rate (0: fixed). */
void pith_optimizer_group(pith_optimizer *optimizer, pith_var *const *params, size_t n, float weight_decay, float rate_factor);
/** Matrices that take AdamW where the optimizer is Muon (embeddings, the last layer).  Before the first step.
 *  @return PITH_E_MEMORY */
pith_status pith_optimizer_plain(pith_optimizer *optimizer, pith_var *const *params, size_t n);
/** Change the parameters in place and forget the tape's gradients.  A parameter without gradient stays.
 *  @return PITH_E_NONFINITE when a gradient is not finite: its parameter is named, nothing is changed; PITH_E_MEMORY
 *  (Muon's products): some have changed */
pith_status pith_optimizer_step(pith_optimizer *optimizer, float rate);
/** Length of all gradients together at the last step, before clipping. */
double pith_optimizer_norm(const pith_optimizer *optimizer);
/** Exchange the parameters and their moving averages: before an evaluation, and after. */
void pith_optimizer_swap_ema(pith_optimizer *optimizer);
/* What a checkpoint holds beside the parameters: steps taken, and for each parameter up to PITH_N_STATES arrays:
 * momentum (or first moment), second moment (Adafactor: of a matrix its rows', then its columns'), average. */
#define PITH_N_STATES 3
uint64_t *pith_optimizer_steps(pith_optimizer *optimizer);
/** The optimizer's parameters, in its order. */
pith_var *const *pith_optimizer_params(const pith_optimizer *optimizer, size_t *n);
/** [*count], or NULL where there is none. */
float *pith_optimizer_state(pith_optimizer *optimizer, size_t i_param, int which, size_t *count);

typedef enum pith_schedule_kind {
    PITH_RATE_CONSTANT, PITH_RATE_LINEAR, PITH_RATE_COSINE,
    PITH_RATE_ROOT                /* after the warm-up rate sqrt(n_warmup / step); last_rate is not used */
} pith_schedule_kind;
typedef struct pith_schedule {
    pith_schedule_kind kind;
    float rate, last_rate;        /* after the warm-up; at step n_steps */
    uint64_t n_warmup, n_steps;   /* the rate rises linearly over n_warmup steps, then falls until n_steps */
} pith_schedule;
/** The rate of step 0, 1 … */
float pith_schedule_rate(const pith_schedule *schedule, uint64_t step);

/* ---- operations in other files ---------------------------------------------------------------- */

/* An operation: a constant of these, and a function that computes.  The function calls pith_op_value, fills
 * y->data, and returns y:
 *
 *     static void twice_backward(pith_var *y, pith_var *gy, pith_var **gx) { gx[0] = pith_var_scale(gy, 2); }
 *     static const pith_op twice = {"twice", twice_backward};
 *     pith_var *my_twice(pith_var *x)
 *     {
 *         pith_var *y = x ? pith_op_value(x->tape, &twice, &x, 1, x->n_dims, x->dims, 0) : NULL;
 *         for (size_t i = 0; y && i < y->count; i++) y->data[i] = 2 * x->data[i];
 *         return y;
 *     }
 *
 * Made of operations itself, a backward function can be differentiated in turn; one that computes on arrays alone
 * calls pith_op_remake first, or pith_op_once, which turns a recorded pass into an error. */
struct pith_op {
    const char *name;
    /* gy: the gradient by y, of y's shape.  Set gx[i], of in[i]'s shape, where pith_wanted(y->in[i]); NULL is
     * zero.  Neither y nor gy may be changed. */
    void (*backward)(pith_var *y, pith_var *gy, pith_var **gx);
};

/** A value not yet filled, with attr_bytes zeroed behind y->attr; inputs are remembered where a gradient is needed.
 *  NULL: an input is NULL, or memory, or a size beyond what is possible. */
pith_var *pith_op_value(pith_tape *tape, const pith_op *op, pith_var *const *in, int n_in, int n_dims, const size_t *dims, size_t attr_bytes);
/** The same memory under another shape of no more values, from value `offset` on. */
pith_var *pith_op_view(const pith_op *op, pith_var *x, size_t offset, int n_dims, const size_t *dims);
/** Record the failure; returns NULL.  %s of a shape: pith_shape_text. */
pith_var *pith_op_fail(pith_tape *tape, pith_status status, const char *format, ...) PITH_PRINTF(3, 4);
typedef struct pith_shape_text {
    char text[PITH_MAX_DIMS * 21 + 3];
} pith_shape_text;
/** "[2, 3]" */
pith_shape_text pith_shape(const pith_var *v);
#define PITH_SHAPE(v) pith_shape(v).text
/** Whether this backward pass has a use for x's gradient. */
bool pith_wanted(const pith_var *x);
/** Whether what is computed now will be differentiated. */
bool pith_recording(const pith_tape *tape);
/** In a backward function: true, and the failure is set, when the pass is recorded. */
bool pith_op_once(const pith_var *y);
/** The same where y can be made again, slowly, of operations that can be differentiated: true when the pass is recorded, and
 *  then y's inputs have got their gradients by way of remake(y). */
typedef pith_var *pith_remake_fn(pith_var *y);
bool pith_op_remake(pith_var *y, pith_var *gy, pith_remake_fn *remake);
pith_ctx *pith_tape_ctx(const pith_tape *tape);
/** Memory until the step ends (or the backward function that asked returns); NULL: the failure is set. */
void *pith_op_attr(pith_tape *tape, size_t count, size_t size);
/** Scratch of `count` floats, to be given back by pith_op_drop. */
pith_block *pith_op_take(pith_tape *tape, size_t count);
void pith_op_drop(pith_tape *tape, pith_block *block); /* NULL is allowed */
float *pith_op_floats(pith_block *block);
/** fn(arg, from, to, worker) over parts of 0..n-1, `grain` of them each but the last, on the context's threads. */
typedef void pith_range_fn(void *arg, size_t from, size_t to, int worker);
void pith_op_ranges(pith_tape *tape, size_t n, size_t grain, pith_range_fn *fn, void *arg);

#endif
