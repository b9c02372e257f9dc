/* Networks over the tape: each kind is defined once, in src/model/net_<kind>.c, for training, evaluation and
 * compression alike.
 *
 *     PITH_TRY(pith_net_new(tape, "resnet20", "{\"classes\": 100}", seed, &net));
 *     ...
 *     pith_tape_step(tape, step);
 *     pith_var *logits = pith_net_forward(net, pith_tape_input(tape, images, PITH_DIMS(batch, 3, 32, 32)));
 *     PITH_TRY(pith_backward(tape, pith_var_cross_entropy(logits, labels), 0));
 *
 * Parameters are those of the tape, with PyTorch's names and layouts ("layer1.0.conv1.weight", [out, in, 3, 3]), so
 * that weights go to and fro.  Buffers (running means and variances) are the net's.
 *
 * Errors.  As with the operations of the tape: forward returns NULL, and the sentence is the tape's. */
#ifndef PITH_NET_H
#define PITH_NET_H

#include "grad/grad.h"

typedef struct pith_net pith_net;

/* ---- kinds ------------------------------------------------------------------------------------ */

typedef enum pith_net_type { PITH_NET_COUNT /* a whole number */, PITH_NET_REAL, PITH_NET_LIST /* of whole numbers */, PITH_NET_CHOICE } pith_net_type;

#define PITH_NET_MAX_LIST 16

/* A setting of a kind; a table of them ends with name NULL. */
typedef struct pith_net_setting {
    const char *name;
    pith_net_type type;
    const char *normal;           /* the default, as JSON: "10", "[32, 64]", "\"mean\"" */
    double low, high;             /* of the number, or of each of a list */
    const char *choices;          /* CHOICE: "class|mean" */
    const char *summary;
} pith_net_setting;

/* Named settings of a kind: "resnet20".  A table ends with name NULL. */
typedef struct pith_net_preset {
    const char *name;
    const char *settings;         /* JSON object: what differs from the defaults */
    const char *summary;
} pith_net_preset;

/* What `pith` lists. */
typedef struct pith_net_info {
    const char *name, *summary, *paper; /* paper: where it is from, and how parameters begin */
    const pith_net_setting *settings;
    const pith_net_preset *presets;
} pith_net_info;
/** All kinds, in their order. */
const pith_net_info *pith_net_infos(size_t i); /* NULL: i is past the last */

/* ---- making ----------------------------------------------------------------------------------- */

#define PITH_NET_BLANK UINT64_MAX /* as a seed: parameters stay 0, to be loaded */

/** A network of a kind or preset, its parameters made on the tape (not within a step) and set as its paper says, from
 *  `seed` and each parameter's name alone.
 *  settings  JSON object of what differs from the preset, or NULL
 *  @return PITH_E_ARGUMENT: no such kind, an unknown setting, a value out of range; PITH_E_MEMORY, PITH_E_LIMIT.  The
 *  sentence names what there is.  On error parameters already made stay on the tape: free it. */
pith_status pith_net_new(pith_tape *tape, const char *kind, const char *settings, uint64_t seed, pith_net **net);
/** Before the tape.  Parameters stay with the tape.  NULL is allowed. */
void pith_net_free(pith_net *net);

pith_tape *pith_net_tape(const pith_net *net);
const char *pith_net_kind_name(const pith_net *net);
/** All settings, as a JSON object with "kind" first: what pith_net_open makes the same network from. */
const char *pith_net_settings(const pith_net *net);
/** In the order they were made, with names as in files. */
pith_var *const *pith_net_params(const pith_net *net, size_t *n);
/** One of them; NULL: none has this name. */
pith_var *pith_net_param(const pith_net *net, const char *name);
/** Whether a parameter of the tape is one of the net's. */
bool pith_net_owns(const pith_net *net, const pith_var *param);
/** Values in all parameters together. */
size_t pith_net_n_values(const pith_net *net);

/* State that is not learned by gradients and belongs to checkpoints. */
typedef struct pith_net_buffer {
    const char *name;             /* "bn1.running_mean" */
    float *data;                  /* [n], changed by forward passes that train */
    size_t n;
} pith_net_buffer;
const pith_net_buffer *pith_net_buffers(const pith_net *net, size_t *n);

/* ---- files ------------------------------------------------------------------------------------ */

/** Parameters and buffers as f32 safetensors, the settings in its metadata under "pith.net": one file, that appears
 *  whole or not at all.  @return PITH_E_IO, PITH_E_MEMORY */
pith_status pith_net_save(const pith_net *net, const char *path);
/** Parameters and buffers from any safetensors file with these names, of f32, f16 or bf16; names in the file may have
 *  `prefix` before them (NULL: none).  Tensors that the network has no use for are counted in one line of the log.
 *  Nothing is changed unless all is there and fits.
 *  @return PITH_E_FORMAT (missing, or another shape), PITH_E_NONFINITE, and those of the reader */
pith_status pith_net_load(pith_net *net, const char *path, const char *prefix);
/** A network from a file that pith_net_save made. */
pith_status pith_net_open(pith_tape *tape, const char *path, pith_net **net);

/* ---- running ---------------------------------------------------------------------------------- */

/* Networks of two halves (a VAE; text encoder and denoiser) run whole or by halves. */
typedef enum pith_net_part { PITH_NET_WHOLE, PITH_NET_ENCODE, PITH_NET_DECODE } pith_net_part;

/* What goes in; each kind says which of these it reads. */
typedef struct pith_net_input {
    pith_net_part part;
    pith_var *x;                  /* images [n, channels, height, width], clips [n, channels, frames, ..], vectors [n, in], sequences [n, len, in] */
    const int32_t *ids;           /* tokens [n, len] */
    size_t n, len;                /* of ids */
    const int32_t *n_tokens;      /* [n]: the first so many of each row count, 1..len; NULL: all */
    float *state;                 /* recurrent: [layers, 2, n, width], h and c, begun from and replaced by the last (values only:
                                     no gradient goes through); NULL: 0 */
    const float *t;               /* [n] time of a diffusion, of about 0..1000 */
    pith_var *context;            /* [n, tokens, width] what is attended to */
} pith_net_input;

/** x alone. */
pith_var *pith_net_forward(pith_net *net, pith_var *x);
pith_var *pith_net_run(pith_net *net, const pith_net_input *in);

/** Normally a network trains while its tape records, and evaluates while it does not.  Frozen: it evaluates in any
 *  case (running statistics, no dropout) while gradients pass through it: perceptual losses, teachers. */
void pith_net_freeze(pith_net *net, bool frozen);

/* ---- listening and replacing ------------------------------------------------------------------ */

/** Called with the input (before) and output (after) of each layer that has parameters, and of each embedding and hidden
 *  depth (after only); returns what to go on with: x itself, or another value of its shape (a gate, a quantised value).
 *  NULL stops the pass.  layer: "layer1.0.conv1". */
typedef enum pith_net_side { PITH_NET_BEFORE, PITH_NET_AFTER } pith_net_side;
typedef pith_var *pith_net_tap_fn(void *user, const char *layer, pith_net_side side, pith_var *x);
void pith_net_tap(pith_net *net, pith_net_tap_fn *fn, void *user); /* NULL: none */

/** Called for each parameter at the start of each pass; returns what stands in its place: param itself, or a value on
 *  the tape of its shape (masked, quantised, a product of factors).  Replaced once a pass, however often it is used. */
typedef pith_var *pith_net_replace_fn(void *user, const char *name, pith_var *param);
void pith_net_replace(pith_net *net, pith_net_replace_fn *fn, void *user); /* NULL: none */

/* Values at named depths of the last pass, until the step ends (or a backward pass gives them back: pith_var_keep). */
size_t pith_net_n_hidden(const pith_net *net);
const char *pith_net_hidden_name(const pith_net *net, size_t i);
pith_var *pith_net_hidden(const pith_net *net, const char *name); /* NULL: no such depth, or not passed */

#endif
