/* Denoising U-Net, as in latent diffusion (Rombach et al., arXiv:2112.10752): residual blocks that are told the time, and
 * at the end of each level attention among the places of the image and to the words of a text, whose encoder is learned
 * with it.  (There every block is followed by attention, and the way up has one block more a level.)
 *
 * x [n, channels, height, width], t [n], ids [n, len] -> the same shape as x.  ENCODE: ids -> context [n, len, text_width].
 * DECODE: with a context made before.  height and width are multiples of 2 to the number of levels less 1. */
#include "model/net_kind.h"

/* Attention within, to the context, and a gated perceptron, around one shortcut. */
typedef struct attender {
    pith_norm_layer norm, norm1, norm2, norm3;
    pith_linear_layer in, out, ff1, ff2;
    pith_attention_layer within, across;
    bool has_context;
} attender;

typedef struct level {
    pith_res_block *res;          /* [n_blocks] */
    attender attend;              /* after the last of them */
    pith_conv_layer resample;
    size_t depth;
} level;

typedef struct unet {
    size_t n_levels, n_blocks;
    pith_time_layer time;
    pith_text_encoder text;
    bool has_text;
    pith_conv_layer in, out;
    pith_norm_layer norm;
    level *down, *up;
    pith_res_block middle;
    size_t depth;                 /* "mid" */
} unet;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "4", 1, 4096, NULL, "of an image or latent"},
    {"out", PITH_NET_COUNT, "4", 1, 4096, NULL, "channels of the result"},
    {"widths", PITH_NET_LIST, "[64, 128]", 1, 1 << 14, NULL, "channels of each level; each but the last is halved"},
    {"blocks", PITH_NET_COUNT, "2", 1, 64, NULL, "residual blocks of a level, down and up"},
    {"heads", PITH_NET_COUNT, "4", 1, 1024, NULL, "of attention in each level"},
    {"text_vocab", PITH_NET_COUNT, "64", 0, 1 << 24, NULL, "words there are; 0: no encoder, the context comes from outside"},
    {"text_len", PITH_NET_COUNT, "16", 1, 1 << 16, NULL, "words of a text at most"},
    {"text_width", PITH_NET_COUNT, "64", 0, 1 << 14, NULL, "values of a word of the context; 0: there is no context"},
    {"text_depth", PITH_NET_COUNT, "4", 0, 1000, NULL, "blocks of the encoder"},
    {"text_heads", PITH_NET_COUNT, "4", 1, 1024, NULL, "of its attention"},
    {0}};

static void build_attender(pith_net *net, attender *a, const char *name, size_t width, size_t context_width, size_t n_heads)
{
    a->has_context = context_width > 0;
    pith_group_norm_build(net, &a->norm, pith_net_name(net, "%s.norm", name), pith_group_count(width), width, 1e-6f);
    pith_linear_build(net, &a->in, pith_net_name(net, "%s.proj_in", name), width, width, true, PITH_LAYER_TORCH);
    pith_norm_build(net, &a->norm1, pith_net_name(net, "%s.norm1", name), PITH_NORM_LAYER, width, 1e-5f);
    pith_attention_build(net, &a->within, pith_net_name(net, "%s.attn1", name), width, width, n_heads, PITH_LAYER_TORCH);
    if (a->has_context) {
        pith_norm_build(net, &a->norm2, pith_net_name(net, "%s.norm2", name), PITH_NORM_LAYER, width, 1e-5f);
        pith_attention_build(net, &a->across, pith_net_name(net, "%s.attn2", name), width, context_width, n_heads, PITH_LAYER_TORCH);
    }
    pith_norm_build(net, &a->norm3, pith_net_name(net, "%s.norm3", name), PITH_NORM_LAYER, width, 1e-5f);
    pith_linear_build(net, &a->ff1, pith_net_name(net, "%s.ff1", name), width, 4 * width, true, PITH_LAYER_TORCH);
    pith_linear_build(net, &a->ff2, pith_net_name(net, "%s.ff2", name), 2 * width, width, true, PITH_LAYER_TORCH);
    pith_linear_build(net, &a->out, pith_net_name(net, "%s.proj_out", name), width, width, true, PITH_LAYER_ZERO);
}

static void build_resample(pith_net *net, level *l, const char *name, size_t width, size_t stride)
{
    pith_conv_build(net, &l->resample, name, &(pith_conv_shape){.n_in = width, .n_out = width, .kernel = 3, .padding = 1, .stride = stride, .bias = true}, PITH_LAYER_TORCH);
}

/* Levels down, the middle, and levels up, whose blocks take what the blocks down gave, the last first. */
static void build_levels(pith_net *net, unet *m, const size_t *widths, size_t context_width)
{
    size_t time_width = 4 * widths[0], n_heads = pith_net_count(net, "heads"), width = widths[0], last = m->n_levels - 1;
    for (size_t i = 0; i <= last; i++) {
        level *l = &m->down[i];
        if (!(l->res = pith_net_take(net, m->n_blocks, sizeof *l->res))) return;
        for (size_t b = 0; b < m->n_blocks; b++, width = widths[i])
            pith_res_block_build(net, &l->res[b], pith_net_name(net, "down.%zu.res.%zu", i, b), width, widths[i], time_width);
        build_attender(net, &l->attend, pith_net_name(net, "down.%zu.attn", i), width, context_width, n_heads);
        l->depth = pith_net_add_depth(net, pith_net_name(net, "down.%zu", i));
        if (i < last) build_resample(net, l, pith_net_name(net, "down.%zu.conv", i), width, 2);
    }
    pith_res_block_build(net, &m->middle, "mid", width, width, time_width);
    m->depth = pith_net_add_depth(net, "mid");
    for (size_t i = 0; i <= last; i++) {
        level *l = &m->up[i];
        size_t next = widths[last - i];
        if (!(l->res = pith_net_take(net, m->n_blocks, sizeof *l->res))) return;
        for (size_t b = 0; b < m->n_blocks; b++, width = next)
            pith_res_block_build(net, &l->res[b], pith_net_name(net, "up.%zu.res.%zu", i, b), width + next, next, time_width);
        build_attender(net, &l->attend, pith_net_name(net, "up.%zu.attn", i), width, context_width, n_heads);
        l->depth = pith_net_add_depth(net, pith_net_name(net, "up.%zu", i));
        if (i < last) build_resample(net, l, pith_net_name(net, "up.%zu.conv", i), width, 1);
    }
}

static void build(pith_net *net, void *self)
{
    unet *m = self;
    const size_t *widths;
    size_t n_vocab = pith_net_count(net, "text_vocab"), text_width = pith_net_count(net, "text_width");
    m->n_levels = pith_net_list(net, "widths", &widths);
    m->n_blocks = pith_net_count(net, "blocks");
    m->has_text = n_vocab && text_width;
    m->down = pith_net_take(net, m->n_levels, sizeof *m->down);
    m->up = pith_net_take(net, m->n_levels, sizeof *m->up);
    if (!m->n_levels) pith_net_fail(net, PITH_E_ARGUMENT, "widths must name at least one level");
    if (net->status != PITH_OK) return;
    if (m->has_text) pith_text_encoder_build(net, &m->text, "text", n_vocab, pith_net_count(net, "text_len"), text_width, pith_net_count(net, "text_depth"), pith_net_count(net, "text_heads"));
    pith_time_build(net, &m->time, "time", widths[0], 4 * widths[0], PITH_LAYER_TORCH);
    pith_conv_build(net, &m->in, "conv_in", &(pith_conv_shape){.n_in = pith_net_count(net, "channels"), .n_out = widths[0], .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_TORCH);
    build_levels(net, m, widths, text_width);
    pith_group_norm_build(net, &m->norm, "norm_out", pith_group_count(widths[0]), widths[0], 1e-5f);
    pith_conv_build(net, &m->out, "conv_out", &(pith_conv_shape){.n_in = widths[0], .n_out = pith_net_count(net, "out"), .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_ZERO);
}

/* ---- running ---------------------------------------------------------------------------------- */

static pith_var *attend(const attender *a, pith_var *x, pith_var *context, const pith_attention *words)
{
    if (!x) return NULL;
    size_t height = x->dims[2], width = x->dims[3], channels = x->dims[1];
    pith_var *y = pith_linear_run(&a->in, pith_to_tokens(pith_norm_run(&a->norm, x))), *z = pith_norm_run(&a->norm1, y);
    y = pith_var_add(y, pith_attention_run(&a->within, z, z, NULL));
    if (a->has_context) y = pith_var_add(y, pith_attention_run(&a->across, pith_norm_run(&a->norm2, y), context, words));
    z = pith_linear_run(&a->ff1, pith_norm_run(&a->norm3, y)); /* GEGLU: Shazeer, arXiv:2002.05202 */
    z = pith_var_mul(pith_var_slice(z, -1, 0, 2 * channels), pith_var_gelu(pith_var_slice(z, -1, 2 * channels, 2 * channels)));
    y = pith_var_add(y, pith_linear_run(&a->ff2, z));
    return pith_var_add(x, pith_from_tokens(pith_linear_run(&a->out, y), height, width));
}

static pith_var *denoise(pith_net *net, const unet *m, const pith_net_input *in, pith_var *context)
{
    pith_var **kept = pith_op_attr(net->tape, m->n_levels * m->n_blocks, sizeof(pith_var *)), *x = pith_conv_run(&m->in, in->x);
    if (!kept || !x) return NULL;
    const pith_attention words = {.n_keys = in->n_tokens};
    pith_var *time = pith_time_run(&m->time, in->t, x->dims[0]);
    size_t n = 0, last_level = m->n_levels - 1, last = m->n_blocks - 1;
    for (size_t i = 0; i <= last_level; i++) {
        const level *l = &m->down[i];
        for (size_t b = 0; b <= last; b++) {
            x = pith_res_block_run(&l->res[b], x, time);
            if (b == last) x = pith_net_depth(net, l->depth, attend(&l->attend, x, context, &words));
            kept[n++] = x;
        }
        if (i < last_level) x = pith_conv_run(&l->resample, x);
    }
    x = pith_net_depth(net, m->depth, pith_res_block_run(&m->middle, x, time));
    for (size_t i = 0; i <= last_level; i++) {
        const level *l = &m->up[i];
        for (size_t b = 0; b <= last; b++) x = pith_res_block_run(&l->res[b], pith_var_concat((pith_var *const[]){x, kept[--n]}, 2, 1), time);
        x = pith_net_depth(net, l->depth, attend(&l->attend, x, context, &words));
        if (x && i < last_level) x = pith_conv_run(&l->resample, pith_var_interpolate(x, 2 * x->dims[2], 2 * x->dims[3], false));
    }
    return pith_conv_run(&m->out, pith_var_silu(pith_norm_run(&m->norm, x)));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const unet *m = self;
    pith_var *context = in->context;
    if (m->has_text && in->part != PITH_NET_DECODE && !(context = pith_text_encoder_run(&m->text, in))) return NULL;
    if (in->part == PITH_NET_ENCODE) return m->has_text ? context : pith_net_refuse(net, "there is no encoder of texts");
    if (!in->x || !in->t) return pith_net_refuse(net, "x and t are needed");
    if (m->down[0].attend.has_context && !context) return pith_net_refuse(net, "a context is needed");
    return denoise(net, m, in, context);
}

static const pith_net_preset presets[] = {
    {"ldm32", "{}", "of 8x8x4 latents and texts of 16 words"},
    {0}};

const pith_net_kind pith_net_kind_unet = {
    .info = {"unet", "denoiser of images or latents; x [n, channels, height, width], t [n], ids or context -> [n, out, height, width]",
             "Rombach et al., arXiv:2112.10752; begins as there: PyTorch's layers, the last of each block zero", settings, presets},
    .size = sizeof(unet), .build = build, .forward = forward};
