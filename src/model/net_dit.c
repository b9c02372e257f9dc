/* Diffusion transformer (Peebles, Xie, arXiv:2212.09748) with adaLN-Zero: the sum of time and condition says, in each
 * block, how normalised tokens are shifted and scaled, and how much of a branch is added (nothing at first).  Names are
 * those of its PyTorch form.
 *
 * x [n, channels, size, size], t [n] and the condition: ids [n, len] words (text; their encoder is learned with it, and the
 * mean over them counts), ids [n] (class; the number of classes itself is "none"), context [n, tokens, text_width] (its mean). */
#include <math.h>

#include "model/net_kind.h"

typedef struct block {
    pith_linear_layer qkv, proj, fc1, fc2, modulation;
    size_t depth;
} block;

typedef struct dit {
    size_t size, patch, width, n_heads, n_blocks, n_out;
    bool has_text, has_class, has_condition;
    pith_conv_layer embed;
    pith_time_layer time;
    pith_text_encoder text;
    pith_embedding_layer classes;
    pith_linear_layer condition;  /* of text or context */
    block *blocks;
    pith_linear_layer modulation, last;
    float *positions;             /* [tokens, width] sines and cosines of row and column */
} dit;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "4", 1, 4096, NULL, "of an image or latent"},
    {"out", PITH_NET_COUNT, "4", 1, 4096, NULL, "channels of the result"},
    {"size", PITH_NET_COUNT, "8", 1, 4096, NULL, "height and width, a multiple of patch"},
    {"patch", PITH_NET_COUNT, "1", 1, 256, NULL, "height and width of a patch"},
    {"width", PITH_NET_COUNT, "192", 4, 1 << 14, NULL, "values of a token, a multiple of heads and of 4"},
    {"depth", PITH_NET_COUNT, "8", 1, 1000, NULL, "blocks"},
    {"heads", PITH_NET_COUNT, "6", 1, 1024, NULL, "of attention"},
    {"condition", PITH_NET_CHOICE, "\"text\"", 0, 0, "text|class|context|none", "what comes beside the time"},
    {"classes", PITH_NET_COUNT, "10", 1, 1 << 20, NULL, "there are (condition class)"},
    {"text_vocab", PITH_NET_COUNT, "64", 1, 1 << 24, NULL, "words there are (condition text)"},
    {"text_len", PITH_NET_COUNT, "16", 1, 1 << 16, NULL, "words of a text at most"},
    {"text_width", PITH_NET_COUNT, "64", 1, 1 << 14, NULL, "values of a word, also of a context's token"},
    {"text_depth", PITH_NET_COUNT, "4", 0, 1000, NULL, "blocks of the encoder"},
    {"text_heads", PITH_NET_COUNT, "4", 1, 1024, NULL, "of its attention"},
    {0}};

/* A quarter of the width each: sine and cosine of the column, then of the row. */
static void fill_positions(const dit *m)
{
    size_t side = m->size / m->patch, quarter = m->width / 4;
    for (size_t at = 0; at < side * side; at++)
        for (size_t k = 0; k < quarter; k++) {
            double f = pow(10000, -(double)k / (double)quarter), column = (double)(at % side) * f, row = (double)(at / side) * f;
            float *p = m->positions + at * m->width + k;
            p[0] = (float)sin(column);
            p[quarter] = (float)cos(column);
            p[2 * quarter] = (float)sin(row);
            p[3 * quarter] = (float)cos(row);
        }
}

static void build_condition(pith_net *net, dit *m)
{
    size_t text_width = pith_net_count(net, "text_width");
    m->has_text = pith_net_is(net, "condition", "text");
    m->has_class = pith_net_is(net, "condition", "class");
    m->has_condition = !pith_net_is(net, "condition", "none");
    if (m->has_text) pith_text_encoder_build(net, &m->text, "text", pith_net_count(net, "text_vocab"), pith_net_count(net, "text_len"), text_width, pith_net_count(net, "text_depth"), pith_net_count(net, "text_heads"));
    if (m->has_class) pith_embedding_build(net, &m->classes, "y_embedder.embedding_table", pith_net_count(net, "classes") + 1, m->width, (pith_init){PITH_INIT_NORMAL, 0.02f});
    else if (m->has_condition) pith_linear_build(net, &m->condition, "y_embedder", text_width, m->width, true, PITH_LAYER_XAVIER);
}

static void build(pith_net *net, void *self)
{
    dit *m = self;
    m->size = pith_net_count(net, "size");
    m->patch = pith_net_count(net, "patch");
    m->width = pith_net_count(net, "width");
    m->n_heads = pith_net_count(net, "heads");
    m->n_blocks = pith_net_count(net, "depth");
    m->n_out = pith_net_count(net, "out");
    if (m->size % m->patch || m->width % m->n_heads || m->width % 4) {
        pith_net_fail(net, PITH_E_ARGUMENT, "a size of %zu in patches of %zu, a width of %zu in %zu heads: one must be a multiple of the other, and the width of 4", m->size, m->patch, m->width, m->n_heads);
        return;
    }
    m->blocks = pith_net_take(net, m->n_blocks, sizeof *m->blocks);
    m->positions = pith_net_take(net, m->size / m->patch * (m->size / m->patch) * m->width, sizeof *m->positions);
    if (!m->blocks || !m->positions) return;
    fill_positions(m);
    pith_conv_build(net, &m->embed, "x_embedder.proj", &(pith_conv_shape){.n_in = pith_net_count(net, "channels"), .n_out = m->width, .kernel = m->patch, .stride = m->patch, .bias = true}, PITH_LAYER_XAVIER);
    pith_time_build(net, &m->time, "t_embedder.mlp", m->width, m->width, PITH_LAYER_SMALL);
    build_condition(net, m);
    for (size_t i = 0; i < m->n_blocks; i++) {
        block *b = &m->blocks[i];
        pith_linear_build(net, &b->qkv, pith_net_name(net, "blocks.%zu.attn.qkv", i), m->width, 3 * m->width, true, PITH_LAYER_XAVIER);
        pith_linear_build(net, &b->proj, pith_net_name(net, "blocks.%zu.attn.proj", i), m->width, m->width, true, PITH_LAYER_XAVIER);
        pith_linear_build(net, &b->fc1, pith_net_name(net, "blocks.%zu.mlp.fc1", i), m->width, 4 * m->width, true, PITH_LAYER_XAVIER);
        pith_linear_build(net, &b->fc2, pith_net_name(net, "blocks.%zu.mlp.fc2", i), 4 * m->width, m->width, true, PITH_LAYER_XAVIER);
        pith_linear_build(net, &b->modulation, pith_net_name(net, "blocks.%zu.adaLN_modulation.1", i), m->width, 6 * m->width, true, PITH_LAYER_ZERO);
        b->depth = pith_net_add_depth(net, pith_net_name(net, "blocks.%zu", i));
    }
    pith_linear_build(net, &m->modulation, "final_layer.adaLN_modulation.1", m->width, 2 * m->width, true, PITH_LAYER_ZERO);
    pith_linear_build(net, &m->last, "final_layer.linear", m->width, m->patch * m->patch * m->n_out, true, PITH_LAYER_ZERO);
}

/* ---- running ---------------------------------------------------------------------------------- */

/* Part i of what a modulation says, [n, 1, width]. */
static pith_var *part(const dit *m, pith_var *says, size_t i)
{
    return says ? pith_var_reshape(pith_var_slice(says, -1, i * m->width, m->width), PITH_DIMS(says->dims[0], 1, m->width)) : NULL;
}

/* Tokens normalised, scaled by part i + 1 (more than 1) and shifted by part i. */
static pith_var *modulated(const dit *m, pith_var *x, pith_var *says, size_t i)
{
    return pith_var_add(pith_var_mul(pith_var_normalize(x, 1e-6f, true), pith_var_affine(part(m, says, i + 1), 1, 1)), part(m, says, i));
}

static pith_var *run_block(pith_net *net, const dit *m, const block *b, pith_var *x, pith_var *condition)
{
    static const pith_attention all = {0};
    pith_var *says = pith_linear_run(&b->modulation, condition);
    pith_var *y = pith_linear_run(&b->proj, pith_var_attention_packed(pith_linear_run(&b->qkv, modulated(m, x, says, 0)), m->n_heads, &all));
    x = pith_var_add(x, pith_var_mul(part(m, says, 2), y));
    y = pith_linear_run(&b->fc2, pith_var_gelu_tanh(pith_linear_run(&b->fc1, modulated(m, x, says, 3))));
    return pith_net_depth(net, b->depth, pith_var_add(x, pith_var_mul(part(m, says, 5), y)));
}

/* [n, width], or NULL with the failure set */
static pith_var *conditioned(pith_net *net, const dit *m, const pith_net_input *in, pith_var *context, size_t n)
{
    pith_var *c = pith_time_run(&m->time, in->t, n);
    if (m->has_class) {
        if (!in->ids || in->n != n || in->len != 1) return pith_net_refuse(net, "ids, one class an image, are needed");
        pith_var *y = pith_embedding_run(&m->classes, in->ids, n, 1);
        c = pith_var_add(c, pith_var_reshape(y, PITH_DIMS(n, m->width)));
    } else if (m->has_condition) {
        if (!context || context->n_dims != 3) return pith_net_refuse(net, "a context [n, tokens, width] is needed");
        if (context->dims[0] != n) return pith_op_fail(net->tape, PITH_E_SHAPE, "%s: a context %s for %zu images", net->name, PITH_SHAPE(context), n);
        c = pith_var_add(c, pith_linear_run(&m->condition, pith_mean_of_tokens(in, context)));
    }
    return pith_var_silu(c);
}

/* [n, tokens, patch patch out] -> [n, out, size, size] */
static pith_var *joined(const dit *m, pith_var *x, size_t n)
{
    size_t side = m->size / m->patch;
    x = pith_var_permute(pith_var_reshape(x, PITH_DIMS(n, side, side, m->patch, m->patch, m->n_out)), (const int[]){0, 5, 1, 3, 2, 4});
    return pith_var_reshape(x, PITH_DIMS(n, m->n_out, m->size, m->size));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const dit *m = self;
    pith_var *context = in->context;
    if (m->has_text && in->part != PITH_NET_DECODE && !(context = pith_text_encoder_run(&m->text, in))) return NULL;
    if (in->part == PITH_NET_ENCODE) return m->has_text ? context : pith_net_refuse(net, "there is no encoder of texts");
    if (!in->x || !in->t) return pith_net_refuse(net, "x and t are needed");
    if (in->x->n_dims != 4 || in->x->dims[2] != m->size || in->x->dims[3] != m->size) return pith_op_fail(net->tape, PITH_E_SHAPE, "%s: x %s is not of size %zu", net->name, PITH_SHAPE(in->x), m->size);
    size_t n = in->x->dims[0], side = m->size / m->patch;
    pith_var *c = conditioned(net, m, in, context, n), *x = pith_to_tokens(pith_conv_run(&m->embed, in->x));
    x = pith_var_add(x, pith_tape_input(net->tape, m->positions, PITH_DIMS(1, side * side, m->width)));
    for (size_t i = 0; i < m->n_blocks; i++) x = run_block(net, m, &m->blocks[i], x, c);
    return joined(m, pith_linear_run(&m->last, modulated(m, x, pith_linear_run(&m->modulation, c), 0)), n);
}

static const pith_net_preset presets[] = {
    {"dit32", "{}", "of 8x8x4 latents: 64 tokens, width 192, 8 blocks, 6 heads"},
    {0}};

const pith_net_kind pith_net_kind_dit = {
    .info = {"dit", "transformer that denoises; x [n, channels, size, size], t [n], ids or context -> [n, out, size, size]",
             "Peebles, Xie, arXiv:2212.09748; begins as there: uniform after Glorot, gates and the last layer zero", settings, presets},
    .size = sizeof(dit), .build = build, .forward = forward};
