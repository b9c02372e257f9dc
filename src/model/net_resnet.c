/* ResNet in its CIFAR form (He, Zhang, Ren, Sun, arXiv:1512.03385, section 4.2): three stages of `blocks` blocks of two
 * 3x3 convolutions, each stage twice as wide and half as high as the one before; the shortcut where the shape changes
 * takes every second value and is padded with zero channels (the paper's A), or is a 1x1 convolution (its B). */
#include "model/net_kind.h"

#define N_STAGES 3

typedef struct block {
    pith_conv_layer conv1, conv2, shortcut;
    pith_norm_layer bn1, bn2, shortcut_bn;
    size_t n_in, n_out, stride;
} block;

typedef struct resnet {
    pith_conv_layer conv1;
    pith_norm_layer bn1;
    size_t n_blocks;              /* of a stage */
    block *blocks;                /* [3 n_blocks] */
    pith_linear_layer linear;
    size_t depths[N_STAGES + 2];  /* stem, the stages, features */
    bool projects;                /* shortcuts are convolutions */
} resnet;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of an image"},
    {"blocks", PITH_NET_COUNT, "3", 1, 1000, NULL, "of each of the three stages; the depth is 6 blocks + 2"},
    {"width", PITH_NET_COUNT, "16", 1, 1 << 14, NULL, "channels of the first stage"},
    {"shortcut", PITH_NET_CHOICE, "\"pad\"", 0, 0, "pad|conv", "where the shape changes"},
    {"classes", PITH_NET_COUNT, "10", 1, 1 << 20, NULL, "values of an output"},
    {0}};

static void build_block(pith_net *net, block *b, const char *name, size_t n_in, size_t n_out, size_t stride, bool projects)
{
    b->n_in = n_in;
    b->n_out = n_out;
    b->stride = stride;
    pith_conv_build(net, &b->conv1, pith_net_name(net, "%s.conv1", name), &(pith_conv_shape){.n_in = n_in, .n_out = n_out, .kernel = 3, .padding = 1, .stride = stride}, PITH_LAYER_HE);
    pith_norm_build(net, &b->bn1, pith_net_name(net, "%s.bn1", name), PITH_NORM_BATCH, n_out, 1e-5f);
    pith_conv_build(net, &b->conv2, pith_net_name(net, "%s.conv2", name), &(pith_conv_shape){.n_in = n_out, .n_out = n_out, .kernel = 3, .padding = 1}, PITH_LAYER_HE);
    pith_norm_build(net, &b->bn2, pith_net_name(net, "%s.bn2", name), PITH_NORM_BATCH, n_out, 1e-5f);
    if (!projects || n_in == n_out) return;
    pith_conv_build(net, &b->shortcut, pith_net_name(net, "%s.shortcut.0", name), &(pith_conv_shape){.n_in = n_in, .n_out = n_out, .kernel = 1, .stride = stride}, PITH_LAYER_HE);
    pith_norm_build(net, &b->shortcut_bn, pith_net_name(net, "%s.shortcut.1", name), PITH_NORM_BATCH, n_out, 1e-5f);
}

static void build(pith_net *net, void *self)
{
    resnet *m = self;
    size_t width = pith_net_count(net, "width"), n_in = width;
    m->n_blocks = pith_net_count(net, "blocks");
    m->projects = pith_net_is(net, "shortcut", "conv");
    m->blocks = pith_net_take(net, N_STAGES * m->n_blocks, sizeof *m->blocks);
    if (!m->blocks) return;
    pith_conv_build(net, &m->conv1, "conv1", &(pith_conv_shape){.n_in = pith_net_count(net, "channels"), .n_out = width, .kernel = 3, .padding = 1}, PITH_LAYER_HE);
    pith_norm_build(net, &m->bn1, "bn1", PITH_NORM_BATCH, width, 1e-5f);
    m->depths[0] = pith_net_add_depth(net, "stem");
    for (size_t s = 0; s < N_STAGES; s++) {
        for (size_t i = 0; i < m->n_blocks; i++) {
            const char *name = pith_net_name(net, "layer%zu.%zu", s + 1, i);
            build_block(net, &m->blocks[s * m->n_blocks + i], name, n_in, width << s, s && i == 0 ? 2 : 1, m->projects);
            n_in = width << s;
        }
        m->depths[1 + s] = pith_net_add_depth(net, pith_net_name(net, "layer%zu", s + 1));
    }
    m->depths[N_STAGES + 1] = pith_net_add_depth(net, "features");
    pith_linear_build(net, &m->linear, "linear", n_in, pith_net_count(net, "classes"), true, PITH_LAYER_TORCH);
}

/* Every second value of each row and column, then channels of zeros, half before and half after. */
static pith_var *padded(const block *b, pith_var *x)
{
    size_t more = b->n_out - b->n_in;
    x = pith_var_avg_pool(x, &(pith_pool_window){.size = {1, 1}, .stride = {b->stride, b->stride}});
    return pith_var_pad(x, 1, more / 2, more - more / 2);
}

static pith_var *run_block(const resnet *m, const block *b, pith_var *x)
{
    pith_var *y = pith_var_relu(pith_norm_run(&b->bn1, pith_conv_run(&b->conv1, x)));
    y = pith_norm_run(&b->bn2, pith_conv_run(&b->conv2, y));
    if (b->n_in != b->n_out) x = m->projects ? pith_norm_run(&b->shortcut_bn, pith_conv_run(&b->shortcut, x)) : padded(b, x);
    return pith_var_relu(pith_var_add(y, x));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const resnet *m = self;
    pith_var *x = pith_net_depth(net, m->depths[0], pith_var_relu(pith_norm_run(&m->bn1, pith_conv_run(&m->conv1, in->x))));
    for (size_t s = 0; s < N_STAGES; s++) {
        for (size_t i = 0; i < m->n_blocks; i++) x = run_block(m, &m->blocks[s * m->n_blocks + i], x);
        x = pith_net_depth(net, m->depths[1 + s], x);
    }
    return pith_linear_run(&m->linear, pith_net_depth(net, m->depths[N_STAGES + 1], pith_pool_space(x)));
}

static const pith_net_preset presets[] = {
    {"resnet8", "{\"blocks\": 1}", "one block a stage"},
    {"resnet20", "{\"blocks\": 3}", "0.27 million parameters"},
    {"resnet32", "{\"blocks\": 5}", "0.46 million"},
    {"resnet56", "{\"blocks\": 9}", "0.85 million"},
    {0}};

const pith_net_kind pith_net_kind_resnet = {
    .info = {"resnet", "residual network for small images; x [n, channels, height, width] -> [n, classes]",
             "He et al., arXiv:1512.03385, section 4.2; convolutions begin as in arXiv:1502.01852", settings, presets},
    .size = sizeof(resnet), .build = build, .forward = forward};
