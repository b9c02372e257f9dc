/* Variational autoencoder of images (Kingma, Welling, arXiv:1312.6114), of residual blocks as in latent diffusion (Rombach
 * et al., arXiv:2112.10752, without attention): each level but the last ends in a convolution of stride 2, and the
 * decoder goes the same way back by nearest values and a convolution.
 *
 * ENCODE: images -> mean and log-variance, [n, 2 latent, height, width].  DECODE: latents [n, latent, ..] -> images.
 * WHOLE: images -> images by way of a drawn latent, where nothing is recorded by the mean. */
#include "model/net_kind.h"

typedef struct level {
    pith_res_block *blocks;       /* [n_blocks] */
    pith_conv_layer resample;
} level;

typedef struct side {
    pith_conv_layer in, out;
    pith_norm_layer norm;
    pith_res_block middle;
    level *levels;
} side;

typedef struct vae {
    size_t n_levels, n_blocks, n_latent;
    side encoder, decoder;
    size_t moments, latent;       /* depths */
} vae;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of an image"},
    {"widths", PITH_NET_LIST, "[32, 64, 64]", 1, 1 << 14, NULL, "channels of each level; each but the last is halved"},
    {"blocks", PITH_NET_COUNT, "1", 1, 64, NULL, "residual blocks of a level"},
    {"latent", PITH_NET_COUNT, "4", 1, 4096, NULL, "channels of a latent"},
    {0}};

/* Levels in the order in which they are passed: widths[0..] or back. */
static void build_side(pith_net *net, const vae *m, side *s, const char *name, const size_t *widths, size_t n_in, size_t n_out, bool up)
{
    size_t last = m->n_levels - 1, width = widths[up ? last : 0];
    s->levels = pith_net_take(net, m->n_levels, sizeof *s->levels);
    if (!s->levels) return;
    pith_conv_build(net, &s->in, pith_net_name(net, "%s.conv_in", name), &(pith_conv_shape){.n_in = n_in, .n_out = width, .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_TORCH);
    if (up) pith_res_block_build(net, &s->middle, pith_net_name(net, "%s.mid", name), width, width, 0);
    for (size_t i = 0; i <= last; i++) {
        level *l = &s->levels[i];
        size_t next = widths[up ? last - i : i];
        if (!(l->blocks = pith_net_take(net, m->n_blocks, sizeof *l->blocks))) return;
        for (size_t b = 0; b < m->n_blocks; b++, width = next)
            pith_res_block_build(net, &l->blocks[b], pith_net_name(net, "%s.%s.%zu.block.%zu", name, up ? "up" : "down", i, b), width, next, 0);
        if (i < last)
            pith_conv_build(net, &l->resample, pith_net_name(net, "%s.%s.%zu.conv", name, up ? "up" : "down", i), &(pith_conv_shape){.n_in = width, .n_out = width, .kernel = 3, .padding = 1, .stride = up ? 1 : 2, .bias = true}, PITH_LAYER_TORCH);
    }
    if (!up) pith_res_block_build(net, &s->middle, pith_net_name(net, "%s.mid", name), width, width, 0);
    pith_group_norm_build(net, &s->norm, pith_net_name(net, "%s.norm_out", name), pith_group_count(width), width, 1e-6f);
    pith_conv_build(net, &s->out, pith_net_name(net, "%s.conv_out", name), &(pith_conv_shape){.n_in = width, .n_out = n_out, .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_TORCH);
}

static void build(pith_net *net, void *self)
{
    vae *m = self;
    const size_t *widths;
    size_t channels = pith_net_count(net, "channels");
    m->n_levels = pith_net_list(net, "widths", &widths);
    m->n_blocks = pith_net_count(net, "blocks");
    m->n_latent = pith_net_count(net, "latent");
    if (!m->n_levels) {
        pith_net_fail(net, PITH_E_ARGUMENT, "widths must name at least one level");
        return;
    }
    build_side(net, m, &m->encoder, "encoder", widths, channels, 2 * m->n_latent, false);
    m->moments = pith_net_add_depth(net, "moments");
    m->latent = pith_net_add_depth(net, "latent");
    build_side(net, m, &m->decoder, "decoder", widths, m->n_latent, channels, true);
}

static pith_var *end(const side *s, pith_var *x) { return pith_conv_run(&s->out, pith_var_silu(pith_norm_run(&s->norm, x))); }

static pith_var *encode(pith_net *net, const vae *m, pith_var *x)
{
    x = pith_conv_run(&m->encoder.in, x);
    for (size_t i = 0; i < m->n_levels; i++) {
        const level *l = &m->encoder.levels[i];
        for (size_t b = 0; b < m->n_blocks; b++) x = pith_res_block_run(&l->blocks[b], x, NULL);
        if (i + 1 < m->n_levels) x = pith_conv_run(&l->resample, x);
    }
    return pith_net_depth(net, m->moments, end(&m->encoder, pith_res_block_run(&m->encoder.middle, x, NULL)));
}

static pith_var *decode(const vae *m, pith_var *z)
{
    pith_var *x = pith_res_block_run(&m->decoder.middle, pith_conv_run(&m->decoder.in, z), NULL);
    for (size_t i = 0; x && i < m->n_levels; i++) {
        const level *l = &m->decoder.levels[i];
        for (size_t b = 0; b < m->n_blocks; b++) x = pith_res_block_run(&l->blocks[b], x, NULL);
        if (x && i + 1 < m->n_levels) x = pith_conv_run(&l->resample, pith_var_interpolate(x, 2 * x->dims[2], 2 * x->dims[3], false));
    }
    return end(&m->decoder, x);
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const vae *m = self;
    if (in->part == PITH_NET_DECODE) return decode(m, in->x);
    pith_var *moments = encode(net, m, in->x);
    if (in->part == PITH_NET_ENCODE || !moments) return moments;
    pith_var *mean = pith_var_slice(moments, 1, 0, m->n_latent);
    pith_var *z = pith_recording(net->tape) ? pith_var_draw_normal(mean, pith_var_slice(moments, 1, m->n_latent, m->n_latent)) : mean;
    return decode(m, pith_net_depth(net, m->latent, z));
}

static const pith_net_preset presets[] = {
    {"vae32", "{}", "32x32 colour images to 8x8 of 4 values"},
    {0}};

const pith_net_kind pith_net_kind_vae = {
    .info = {"vae", "variational autoencoder; x [n, channels, height, width] -> the same; ENCODE: mean and log-variance; DECODE: of latents",
             "arXiv:1312.6114, with the blocks of arXiv:2112.10752; begins as PyTorch's layers", settings, presets},
    .size = sizeof(vae), .build = build, .forward = forward};
