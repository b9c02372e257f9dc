/* What a kind of network is written with; for src/model/net*.c only.
 *
 * A kind is one file, net_<kind>.c, with a pith_net_kind_<kind> in it, and its name in src/model/meson.build.  build
 * makes the parameters, through layers, in a structure of the kind's own; forward reads that structure and runs the
 * layers.  Names are handed down as text: pith_net_name(net, "layer%d.%d.conv1", stage, block).
 *
 * build never checks for errors: the first one stays in the net, and pith_net_new returns it.  What build takes from
 * the net's arena may be NULL, then the failure is set. */
#ifndef PITH_NET_KIND_H
#define PITH_NET_KIND_H

#include "model/net.h"

typedef struct pith_net_kind {
    pith_net_info info;
    size_t size;                  /* of the structure, zeroed before build */
    void (*build)(pith_net *net, void *self);
    pith_var *(*forward)(pith_net *net, void *self, const pith_net_input *in);
} pith_net_kind;

/* ---- settings, while building or later -------------------------------------------------------- */

size_t pith_net_count(const pith_net *net, const char *setting);
float pith_net_real(const pith_net *net, const char *setting);
/** The list's length; values [n]. */
size_t pith_net_list(const pith_net *net, const char *setting, const size_t **values);
/** Whether a CHOICE is this one. */
bool pith_net_is(const pith_net *net, const char *setting, const char *choice);

/* ---- while building --------------------------------------------------------------------------- */

/** Settings that do not fit together.  Only the first failure stays. */
void pith_net_fail(pith_net *net, pith_status status, const char *format, ...) PITH_PRINTF(3, 4);
/** Zeroed memory for as long as the net. */
void *pith_net_take(pith_net *net, size_t count, size_t size);
const char *pith_net_name(pith_net *net, const char *format, ...) PITH_PRINTF(2, 3);
/** A depth that pith_net_hidden finds, to be passed by pith_net_depth(net, this number, x). */
size_t pith_net_add_depth(pith_net *net, const char *name);
/** State [n], all `value`, saved as `name`. */
float *pith_net_add_buffer(pith_net *net, const char *name, size_t n, float value);

/* A parameter, and what stands in its place in this pass. */
typedef struct pith_slot {
    pith_var *param, *value;
    struct pith_slot *next;
} pith_slot;

typedef enum pith_init_kind { PITH_INIT_CONSTANT, PITH_INIT_UNIFORM /* -size..size */, PITH_INIT_NORMAL, PITH_INIT_TRUNCATED /* normal, drawn again beyond 2 size */ } pith_init_kind;
typedef struct pith_init {
    pith_init_kind kind;
    float size;
} pith_init;
/* How the weights of a layer with fan_in inputs and fan_out outputs a place begin; biases are 0 but with TORCH. */
typedef enum pith_layer_init {
    PITH_LAYER_TORCH,             /* uniform, +-1/sqrt(fan_in), weight and bias: PyTorch's Linear and Conv */
    PITH_LAYER_HE,                /* normal, sqrt(2/fan_in): arXiv:1502.01852 */
    PITH_LAYER_XAVIER,            /* uniform, +-sqrt(6/(fan_in + fan_out)): Glorot, Bengio, AISTATS 2010 */
    PITH_LAYER_SMALL,             /* normal of 0.02, cut at 2 of it: BERT (arXiv:1810.04805), ViT's PyTorch form */
    PITH_LAYER_ZERO
} pith_layer_init;

pith_slot *pith_net_add(pith_net *net, const char *name, pith_init init, int n_dims, const size_t *dims);

struct pith_net {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_arena *arena;            /* owns what is below but params, buffers and depths, which grow */
    const pith_net_kind *kind;
    const char *name;             /* of the kind or preset it was made as */
    char *settings_text;
    struct pith_net_value *values; /* [as many as kind->info.settings] */
    void *self;                   /* the kind's structure */
    uint64_t seed;
    pith_status status;           /* while building: the first failure */
    pith_slot *slots, **last_slot, none; /* none: stands for a parameter that could not be made */
    pith_var **params;
    pith_net_buffer *buffers;
    struct pith_net_depth_value *depths;
    size_t n_params, n_buffers, n_depths;
    bool frozen;
    pith_net_tap_fn *tap;
    void *tap_user;
    pith_net_replace_fn *replace;
    void *replace_user;
};

struct pith_net_value {
    double number;                /* COUNT, REAL */
    size_t n, list[PITH_NET_MAX_LIST];
    const char *choice;           /* within the setting's choices */
    size_t len;                   /* of choice */
};

struct pith_net_depth_value {
    const char *name;
    pith_var *value;              /* of the last pass; NULL before */
};

/** The settings that differ, into net->values; `what` begins the message.  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_net_read_settings(pith_net *net, const char *what, const char *json);
/** net->values by the defaults; and all of them as text. */
pith_status pith_net_default_settings(pith_net *net);
char *pith_net_settings_text(pith_net *net);

/* ---- while running ---------------------------------------------------------------------------- */

/** By the net's tap; x where there is none. */
pith_var *pith_net_before(pith_net *net, const char *layer, pith_var *x);
pith_var *pith_net_after(pith_net *net, const char *layer, pith_var *x);
pith_var *pith_net_depth(pith_net *net, size_t depth, pith_var *x);
/** x, dropped with probability p where the net trains and is not frozen. */
pith_var *pith_net_dropout(pith_net *net, pith_var *x, float p);
/** A failure of the input: NULL, and the sentence is the tape's. */
pith_var *pith_net_refuse(pith_net *net, const char *what);

/* ---- layers ----------------------------------------------------------------------------------- */

typedef struct pith_linear_layer {
    pith_net *net;
    const char *name;
    pith_slot *w, *b;             /* [out, in], [out]; b may be NULL */
} pith_linear_layer;
void pith_linear_build(pith_net *net, pith_linear_layer *l, const char *name, size_t n_in, size_t n_out, bool bias, pith_layer_init init);
pith_var *pith_linear_run(const pith_linear_layer *l, pith_var *x); /* [.., in] -> [.., out] */

typedef struct pith_conv_layer {
    pith_net *net;
    const char *name;
    pith_slot *w, *b;             /* [out, in / groups, kernel..], [out] */
    pith_conv options;
    bool transposed;              /* w is [in, out / groups, kernel..] */
} pith_conv_layer;
typedef struct pith_conv_shape {
    size_t n_in, n_out, kernel, stride, padding, groups; /* stride, groups: 0 is 1 */
    int n_space;                  /* 1 to 3; 0: 2 */
    bool bias, transposed;
    size_t output_padding;
} pith_conv_shape;
void pith_conv_build(pith_net *net, pith_conv_layer *l, const char *name, const pith_conv_shape *shape, pith_layer_init init);
pith_var *pith_conv_run(const pith_conv_layer *l, pith_var *x);

typedef enum pith_norm_kind { PITH_NORM_BATCH, PITH_NORM_LAYER, PITH_NORM_RMS, PITH_NORM_GROUP } pith_norm_kind;
typedef struct pith_norm_layer {
    pith_net *net;
    const char *name;
    pith_norm_kind kind;
    pith_slot *gain, *bias;       /* [channels], NULL: none */
    float *mean, *variance, eps;  /* BATCH: running, with momentum 0.1 */
    size_t n_groups;
} pith_norm_layer;
void pith_norm_build(pith_net *net, pith_norm_layer *l, const char *name, pith_norm_kind kind, size_t channels, float eps);
void pith_group_norm_build(pith_net *net, pith_norm_layer *l, const char *name, size_t n_groups, size_t channels, float eps);
pith_var *pith_norm_run(const pith_norm_layer *l, pith_var *x); /* LAYER, RMS: [.., channels]; else [n, channels, ..] */

typedef struct pith_embedding_layer {
    pith_net *net;
    const char *name;
    pith_slot *w;                 /* [rows, width] */
} pith_embedding_layer;
void pith_embedding_build(pith_net *net, pith_embedding_layer *l, const char *name, size_t n_rows, size_t width, pith_init init);
pith_var *pith_embedding_run(const pith_embedding_layer *l, const int32_t *ids, size_t n, size_t len); /* [n, len, width] */

/* Attention with its four matrices: name.to_q, to_k, to_v, to_out. */
typedef struct pith_attention_layer {
    pith_linear_layer q, k, v, out;
    size_t n_heads;
} pith_attention_layer;
void pith_attention_build(pith_net *net, pith_attention_layer *l, const char *name, size_t width, size_t context_width, size_t n_heads, pith_layer_init init);
/** x [n, n_q, width], context [n, n_k, context_width], x itself for attention within; options NULL: to all */
pith_var *pith_attention_run(const pith_attention_layer *l, pith_var *x, pith_var *context, const pith_attention *options);

/* Each channel's last few values, weighed: a depthwise convolution over time that sees nothing of what comes.  name.weight
 * [channels, 1, kernel], as PyTorch's Conv1d, name.bias. */
typedef struct pith_causal_conv {
    const char *name;
    pith_net *net;
    pith_slot *w, *b;
    size_t kernel;
} pith_causal_conv;
void pith_causal_conv_build(pith_net *net, pith_causal_conv *l, const char *name, size_t channels, size_t kernel);
pith_var *pith_causal_conv_run(const pith_causal_conv *l, pith_var *x); /* [n, len, channels] */
/** x [n, len, width], each row one step later: the first is 0, the last is gone. */
pith_var *pith_one_later(pith_var *x);

/** x [n, len, width] -> [n, width]: the mean over the tokens of each row that count. */
pith_var *pith_mean_of_tokens(const pith_net_input *in, pith_var *x);

/* A residual block of images: norm, silu, 3x3 convolution, time added to each channel, and once more norm, silu, 3x3
 * convolution (zero at first where there is a time, so that the block begins as its shortcut); the shortcut is a 1x1
 * convolution where the channels change.  Names: name.norm1, conv1, time, norm2, conv2, shortcut. */
typedef struct pith_res_block {
    pith_norm_layer norm1, norm2;
    pith_conv_layer conv1, conv2, shortcut;
    pith_linear_layer time;
    bool changes, has_time;
} pith_res_block;
void pith_res_block_build(pith_net *net, pith_res_block *b, const char *name, size_t n_in, size_t n_out, size_t time_width); /* 0: without */
/** time [n, time_width] or NULL */
pith_var *pith_res_block_run(const pith_res_block *b, pith_var *x, pith_var *time);
/** Groups of a group norm: 8 where they divide, else fewer. */
size_t pith_group_count(size_t channels);

/* t, as sines and cosines of `width` / 2 frequencies from 1 down to 1/10000 (arXiv:1706.03762), through two linear layers with
 * silu between: name.0, name.2. */
typedef struct pith_time_layer {
    pith_linear_layer first, second;
    size_t width;
} pith_time_layer;
void pith_time_build(pith_net *net, pith_time_layer *l, const char *name, size_t width, size_t n_out, pith_layer_init init);
pith_var *pith_time_run(const pith_time_layer *l, const float *t, size_t n); /* [n, n_out] */

/* A small transformer over words, each attending to all, learned with what it conditions: name.words, positions, blocks.i, norm. */
typedef struct pith_text_block {
    pith_norm_layer norm1, norm2;
    pith_attention_layer attention;
    pith_linear_layer fc1, fc2;
} pith_text_block;
typedef struct pith_text_encoder {
    pith_embedding_layer words, positions;
    pith_text_block *blocks;
    pith_norm_layer norm;
    size_t n_blocks, n_ctx;
} pith_text_encoder;
void pith_text_encoder_build(pith_net *net, pith_text_encoder *e, const char *name, size_t n_vocab, size_t n_ctx, size_t width, size_t depth, size_t n_heads);
pith_var *pith_text_encoder_run(const pith_text_encoder *e, const pith_net_input *in); /* ids [n, len] -> [n, len, width] */

typedef enum pith_activation { PITH_ACT_RELU, PITH_ACT_GELU, PITH_ACT_SILU, PITH_ACT_TANH, PITH_ACT_NONE } pith_activation;
#define PITH_ACTIVATIONS "relu|gelu|silu|tanh|none"
/** Of a CHOICE of PITH_ACTIVATIONS. */
pith_activation pith_net_activation(const pith_net *net, const char *setting);
pith_var *pith_activate(pith_activation activation, pith_var *x);
/** [n, channels, ..] -> [n, channels]: the mean over space. */
pith_var *pith_pool_space(pith_var *x);
/** [n, channels, height, width] -> [n, height width, channels], and back */
pith_var *pith_to_tokens(pith_var *x);
pith_var *pith_from_tokens(pith_var *x, size_t height, size_t width);
/** [n, ..] -> [n, all the rest] */
pith_var *pith_flatten(pith_var *x);

#endif
