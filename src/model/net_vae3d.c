/* Variational autoencoder of clips, causal in time: the images' one (net_vae.c) with its convolutions over space and time.
 * A convolution sees, before a clip's first frame, that frame again (HaCohen et al., arXiv:2501.00103), and nothing of what
 * comes; norms are of each frame by itself.  So a first frame alone is an image, coded as it would be in its clip (Yu et
 * al., arXiv:2310.05737).
 *
 * Where a level halves time, 2 k + 1 frames become k + 1: the first, and one for each two that follow.  The decoder repeats
 * each frame and leaves out the first repetition.
 *
 * ENCODE: clips -> mean and log-variance, [n, 2 latent, frames, height, width], frame i of frames 0..i 2^time.  DECODE: latents
 * -> clips.  WHOLE: clips -> clips by way of a drawn latent, where nothing is recorded by the mean. */
#include <math.h>

#include "model/net_kind.h"
#include "model/net_vae3d.h"

/* A convolution of `kernel` by `kernel` places and `moments` moments, the last of which is now. */
typedef struct time_conv {
    pith_conv_layer layer;
    size_t moments;
} time_conv;

typedef struct block {
    pith_norm_layer norm1, norm2;
    time_conv conv1, conv2, shortcut;
    bool changes;
} block;

typedef struct level {
    block *blocks;                /* [n_blocks] */
    time_conv resample;
    bool in_time;                 /* it halves (doubles) time as well */
} level;

typedef struct side {
    time_conv in, out;
    pith_norm_layer norm;
    block middle;
    level *levels;
} side;

typedef struct vae3d {
    size_t n_levels, n_blocks, n_latent, n_time;
    bool half;                    /* a block's second convolution is of its own frame */
    side encoder, decoder;
    size_t moments, latent;       /* depths */
} vae3d;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of a frame"},
    {"widths", PITH_NET_LIST, "[16, 32, 32]", 1, 1 << 14, NULL, "channels of each level; height and width of each but the last are halved"},
    {"blocks", PITH_NET_COUNT, "1", 1, 64, NULL, "residual blocks of a level"},
    {"latent", PITH_NET_COUNT, "4", 1, 4096, NULL, "channels of a latent"},
    {"time", PITH_NET_COUNT, "1", 0, 15, NULL, "levels, the last ones, that halve time as well: a clip has k 2^time + 1 frames"},
    {"conv", PITH_NET_CHOICE, "\"time\"", 0, 0, "time|half", "a block's convolutions go over time: both, or the first (arXiv:2405.20279)"},
    {0}};

/* ---- convolutions ----------------------------------------------------------------------------- */

static void build_conv(pith_net *net, time_conv *c, const char *name, size_t n_in, size_t n_out, size_t moments, size_t kernel, size_t time_stride, size_t stride)
{
    const pith_init init = {PITH_INIT_UNIFORM, 1 / sqrtf((float)(n_in * moments * kernel * kernel))}; /* PyTorch's Conv3d */
    c->moments = moments;
    c->layer = (pith_conv_layer){.net = net, .name = name, .options = {.stride = {time_stride, stride, stride}, .padding = {0, kernel / 2, kernel / 2}}};
    c->layer.w = pith_net_add(net, pith_net_name(net, "%s.weight", name), init, PITH_DIMS(n_out, n_in, moments, kernel, kernel));
    c->layer.b = pith_net_add(net, pith_net_name(net, "%s.bias", name), init, PITH_DIMS(n_out));
}

static pith_var *run_conv(const time_conv *c, pith_var *x)
{
    if (!x) return NULL;
    if (c->moments > 1) {
        size_t dims[5];
        memcpy(dims, x->dims, sizeof dims);
        dims[2] = c->moments - 1;
        x = pith_var_concat((pith_var *const[]){pith_var_broadcast(pith_var_slice(x, 2, 0, 1), 5, dims), x}, 2, 2);
    }
    return pith_conv_run(&c->layer, x);
}

/* silu(norm x), each frame by itself */
static pith_var *run_norm(const pith_norm_layer *l, pith_var *x)
{
    if (!x) return NULL;
    static const int axes[] = {0, 2, 1, 3, 4}; /* to frames and back */
    size_t n = x->dims[0], channels = x->dims[1], frames = x->dims[2], height = x->dims[3], width = x->dims[4];
    pith_var *y = pith_var_reshape(pith_var_permute(x, axes), PITH_DIMS(n * frames, channels, height, width));
    y = pith_var_silu(pith_norm_run(l, y));
    return pith_var_permute(pith_var_reshape(y, PITH_DIMS(n, frames, channels, height, width)), axes);
}

/* ---- blocks ----------------------------------------------------------------------------------- */

static void build_norm(pith_net *net, pith_norm_layer *l, const char *name, size_t channels) { pith_group_norm_build(net, l, name, pith_group_count(channels), channels, 1e-6f); }

static void build_block(pith_net *net, const vae3d *m, block *b, const char *name, size_t n_in, size_t n_out)
{
    b->changes = n_in != n_out;
    build_norm(net, &b->norm1, pith_net_name(net, "%s.norm1", name), n_in);
    build_conv(net, &b->conv1, pith_net_name(net, "%s.conv1", name), n_in, n_out, 3, 3, 1, 1);
    build_norm(net, &b->norm2, pith_net_name(net, "%s.norm2", name), n_out);
    build_conv(net, &b->conv2, pith_net_name(net, "%s.conv2", name), n_out, n_out, m->half ? 1 : 3, 3, 1, 1);
    if (b->changes) build_conv(net, &b->shortcut, pith_net_name(net, "%s.shortcut", name), n_in, n_out, 1, 1, 1, 1);
}

static pith_var *run_block(const block *b, pith_var *x)
{
    pith_var *y = run_conv(&b->conv2, run_norm(&b->norm2, run_conv(&b->conv1, run_norm(&b->norm1, x))));
    return pith_var_add(b->changes ? run_conv(&b->shortcut, x) : x, y);
}

/* ---- the network ------------------------------------------------------------------------------ */

/* Levels in the order in which they are passed: widths[0..] or back. */
static void build_side(pith_net *net, const vae3d *m, side *s, const char *name, const size_t *widths, size_t n_in, size_t n_out, bool up)
{
    size_t last = m->n_levels - 1, width = widths[up ? last : 0];
    s->levels = pith_net_take(net, m->n_levels, sizeof *s->levels);
    if (!s->levels) return;
    build_conv(net, &s->in, pith_net_name(net, "%s.conv_in", name), n_in, width, 3, 3, 1, 1);
    if (up) build_block(net, m, &s->middle, pith_net_name(net, "%s.mid", name), width, width);
    for (size_t i = 0; i <= last; i++) {
        level *l = &s->levels[i];
        size_t next = widths[up ? last - i : i];
        if (!(l->blocks = pith_net_take(net, m->n_blocks, sizeof *l->blocks))) return;
        for (size_t b = 0; b < m->n_blocks; b++, width = next)
            build_block(net, m, &l->blocks[b], pith_net_name(net, "%s.%s.%zu.block.%zu", name, up ? "up" : "down", i, b), width, next);
        if (i == last) continue;
        l->in_time = up ? i < m->n_time : i + m->n_time >= last;
        build_conv(net, &l->resample, pith_net_name(net, "%s.%s.%zu.conv", name, up ? "up" : "down", i), width, width, 3, 3, up || !l->in_time ? 1 : 2, up ? 1 : 2);
    }
    if (!up) build_block(net, m, &s->middle, pith_net_name(net, "%s.mid", name), width, width);
    build_norm(net, &s->norm, pith_net_name(net, "%s.norm_out", name), width);
    build_conv(net, &s->out, pith_net_name(net, "%s.conv_out", name), width, n_out, 3, 3, 1, 1);
}

static void build(pith_net *net, void *self)
{
    vae3d *m = self;
    const size_t *widths;
    size_t channels = pith_net_count(net, "channels");
    m->n_levels = pith_net_list(net, "widths", &widths);
    m->n_blocks = pith_net_count(net, "blocks");
    m->n_latent = pith_net_count(net, "latent");
    m->n_time = pith_net_count(net, "time");
    m->half = pith_net_is(net, "conv", "half");
    if (m->n_levels <= m->n_time) {
        pith_net_fail(net, PITH_E_ARGUMENT, "time: %zu levels are to halve time, of %zu widths all but the last halve", m->n_time, m->n_levels);
        return;
    }
    build_side(net, m, &m->encoder, "encoder", widths, channels, 2 * m->n_latent, false);
    m->moments = pith_net_add_depth(net, "moments");
    m->latent = pith_net_add_depth(net, "latent");
    build_side(net, m, &m->decoder, "decoder", widths, m->n_latent, channels, true);
}

static pith_var *encode(pith_net *net, const vae3d *m, pith_var *x)
{
    size_t places = (size_t)1 << (m->n_levels - 1), moments = (size_t)1 << m->n_time;
    if (x->dims[2] % moments != 1 % moments || x->dims[3] % places || x->dims[4] % places)
        return pith_op_fail(x->tape, PITH_E_SHAPE, "%s: clips %s; it takes k %zu + 1 frames, height and width in multiples of %zu", net->name, PITH_SHAPE(x), moments, places);
    x = run_conv(&m->encoder.in, x);
    for (size_t i = 0; i < m->n_levels; i++) {
        const level *l = &m->encoder.levels[i];
        for (size_t b = 0; b < m->n_blocks; b++) x = run_block(&l->blocks[b], x);
        if (i + 1 < m->n_levels) x = run_conv(&l->resample, x);
    }
    x = run_norm(&m->encoder.norm, run_block(&m->encoder.middle, x));
    return pith_net_depth(net, m->moments, run_conv(&m->encoder.out, x));
}

/* Each value four times; in_time: each frame twice, but the first. */
static pith_var *enlarge(pith_var *x, bool in_time)
{
    if (!x) return NULL;
    size_t n = x->dims[0], channels = x->dims[1], frames = x->dims[2], height = 2 * x->dims[3], width = 2 * x->dims[4];
    x = pith_var_interpolate(pith_var_reshape(x, PITH_DIMS(n, channels * frames, x->dims[3], x->dims[4])), height, width, false);
    if (!in_time) return pith_var_reshape(x, PITH_DIMS(n, channels, frames, height, width));
    x = pith_var_broadcast(pith_var_reshape(x, PITH_DIMS(n, channels, frames, 1, height * width)), PITH_DIMS(n, channels, frames, 2, height * width));
    return pith_var_slice(pith_var_reshape(x, PITH_DIMS(n, channels, 2 * frames, height, width)), 2, 1, 2 * frames - 1);
}

static pith_var *decode(const vae3d *m, pith_var *z)
{
    pith_var *x = run_block(&m->decoder.middle, run_conv(&m->decoder.in, z));
    for (size_t i = 0; i < m->n_levels; i++) {
        const level *l = &m->decoder.levels[i];
        for (size_t b = 0; b < m->n_blocks; b++) x = run_block(&l->blocks[b], x);
        if (i + 1 < m->n_levels) x = run_conv(&l->resample, enlarge(x, l->in_time));
    }
    return run_conv(&m->decoder.out, run_norm(&m->decoder.norm, x));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const vae3d *m = self;
    if (!in->x) return NULL;
    size_t channels = in->part == PITH_NET_DECODE ? m->n_latent : pith_net_count(net, "channels");
    if (in->x->n_dims != 5 || in->x->dims[1] != channels || !in->x->dims[2])
        return pith_op_fail(net->tape, PITH_E_SHAPE, "%s: %s is not [n, %zu, frames, height, width]", net->name, PITH_SHAPE(in->x), channels);
    if (in->part == PITH_NET_DECODE) return decode(m, in->x);
    pith_var *moments = encode(net, m, in->x);
    if (in->part == PITH_NET_ENCODE || !moments) return moments;
    pith_var *mean = pith_var_slice(moments, 1, 0, m->n_latent);
    pith_var *z = pith_recording(net->tape) ? pith_var_draw_normal(mean, pith_var_slice(moments, 1, m->n_latent, m->n_latent)) : mean;
    return decode(m, pith_net_depth(net, m->latent, z));
}

/* ---- from images ------------------------------------------------------------------------------ */

/* The moments of a kernel over time that stands for `image`; 0: it does not. */
static size_t moments_of(const pith_var *clip, const pith_var *image)
{
    bool kernel = clip->n_dims == 5 && image && image->n_dims == 4;
    if (!image || (!kernel && clip->n_dims != image->n_dims)) return 0;
    for (int d = 0; d < image->n_dims; d++)
        if (image->dims[d] != clip->dims[kernel && d > 1 ? d + 1 : d]) return 0;
    return kernel ? clip->dims[2] : 1;
}

pith_status pith_vae3d_inflate(pith_net *clips, const pith_net *images)
{
    size_t n;
    pith_var *const *params = pith_net_params(clips, &n);
    for (size_t p = 0; p < n; p++) {
        const pith_var *image = pith_net_param(images, params[p]->name);
        if (!moments_of(params[p], image))
            return pith_fail(clips->ctx, PITH_E_ARGUMENT, "%s: %s%s of the images does not become %s of the clips; make both with the same channels, widths, blocks and latent", params[p]->name, image ? "" : "nothing ",
                             image ? PITH_SHAPE(image) : "", PITH_SHAPE(params[p]));
    }
    for (size_t p = 0; p < n; p++) {
        pith_var *param = params[p];
        const pith_var *image = pith_net_param(images, param->name);
        size_t moments = moments_of(param, image), places = moments > 1 ? image->dims[2] * image->dims[3] : image->count, kernels = places ? image->count / places : 0;
        memset(param->data, 0, param->count * sizeof(float));
        for (size_t k = 0; k < kernels; k++) memcpy(param->data + ((k + 1) * moments - 1) * places, image->data + k * places, places * sizeof(float));
    }
    return PITH_OK;
}

static const pith_net_preset presets[] = {
    {"vae3d32", "{}", "clips of 32x32 and 2 k + 1 frames to 8x8 and k + 1, of 4 values"},
    {0}};

const pith_net_kind pith_net_kind_vae3d = {
    .info = {"vae3d", "variational autoencoder of clips, causal in time; x [n, channels, frames, height, width] -> the same; ENCODE: mean and log-variance; DECODE: of latents",
             "arXiv:2310.05737, arXiv:2405.20279, with the blocks of arXiv:2112.10752; begins as PyTorch's layers", settings, presets},
    .size = sizeof(vae3d), .build = build, .forward = forward};
