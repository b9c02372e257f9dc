/* Vision transformer (Dosovitskiy et al., arXiv:2010.11929): patches as tokens, blocks with the norm before attention
 * and before the perceptron.  Names are those of PyTorch image models (timm). */
#include "model/net_kind.h"

typedef struct block {
    pith_norm_layer norm1, norm2;
    pith_linear_layer qkv, proj, fc1, fc2;
    size_t depth;
} block;

typedef struct vit {
    pith_conv_layer patch;
    pith_slot *class_token, *position; /* [1, 1, width] or NULL, [1, tokens, width] */
    size_t n_blocks, width, n_heads, n_tokens;
    block *blocks;
    pith_norm_layer norm;
    pith_linear_layer head;
    size_t tokens, features;      /* depths */
    float dropout;
} vit;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 4096, NULL, "of an image"},
    {"size", PITH_NET_COUNT, "32", 1, 4096, NULL, "height and width of an image, a multiple of patch"},
    {"patch", PITH_NET_COUNT, "4", 1, 256, NULL, "height and width of a patch"},
    {"width", PITH_NET_COUNT, "128", 1, 1 << 14, NULL, "values of a token, a multiple of heads"},
    {"depth", PITH_NET_COUNT, "5", 1, 1000, NULL, "blocks"},
    {"heads", PITH_NET_COUNT, "4", 1, 1024, NULL, "of attention"},
    {"hidden", PITH_NET_COUNT, "512", 1, 1 << 16, NULL, "values within a perceptron"},
    {"pool", PITH_NET_CHOICE, "\"class\"", 0, 0, "class|mean", "what is classified: a token of its own, or the mean of all"},
    {"dropout", PITH_NET_REAL, "0", 0, 0.99, NULL, "share dropped of each branch in training"},
    {"classes", PITH_NET_COUNT, "10", 1, 1 << 20, NULL, "values of an output"},
    {0}};

static void build_block(pith_net *net, block *b, size_t i, size_t width, size_t hidden)
{
    pith_norm_build(net, &b->norm1, pith_net_name(net, "blocks.%zu.norm1", i), PITH_NORM_LAYER, width, 1e-6f);
    pith_linear_build(net, &b->qkv, pith_net_name(net, "blocks.%zu.attn.qkv", i), width, 3 * width, true, PITH_LAYER_SMALL);
    pith_linear_build(net, &b->proj, pith_net_name(net, "blocks.%zu.attn.proj", i), width, width, true, PITH_LAYER_SMALL);
    pith_norm_build(net, &b->norm2, pith_net_name(net, "blocks.%zu.norm2", i), PITH_NORM_LAYER, width, 1e-6f);
    pith_linear_build(net, &b->fc1, pith_net_name(net, "blocks.%zu.mlp.fc1", i), width, hidden, true, PITH_LAYER_SMALL);
    pith_linear_build(net, &b->fc2, pith_net_name(net, "blocks.%zu.mlp.fc2", i), hidden, width, true, PITH_LAYER_SMALL);
    b->depth = pith_net_add_depth(net, pith_net_name(net, "blocks.%zu", i));
}

static void build(pith_net *net, void *self)
{
    vit *m = self;
    size_t size = pith_net_count(net, "size"), patch = pith_net_count(net, "patch"), channels = pith_net_count(net, "channels");
    m->width = pith_net_count(net, "width");
    m->n_heads = pith_net_count(net, "heads");
    m->n_blocks = pith_net_count(net, "depth");
    m->dropout = pith_net_real(net, "dropout");
    if (size % patch || m->width % m->n_heads) {
        pith_net_fail(net, PITH_E_ARGUMENT, "images of %zu in patches of %zu, %zu values in %zu heads: one must be a multiple of the other", size, patch, m->width, m->n_heads);
        return;
    }
    bool class_token = pith_net_is(net, "pool", "class");
    m->n_tokens = (size / patch) * (size / patch) + class_token;
    m->blocks = pith_net_take(net, m->n_blocks, sizeof *m->blocks);
    if (!m->blocks) return;
    const pith_init small = {PITH_INIT_TRUNCATED, 0.02f};
    if (class_token) m->class_token = pith_net_add(net, "cls_token", small, PITH_DIMS(1, 1, m->width));
    m->position = pith_net_add(net, "pos_embed", small, PITH_DIMS(1, m->n_tokens, m->width));
    pith_conv_build(net, &m->patch, "patch_embed.proj", &(pith_conv_shape){.n_in = channels, .n_out = m->width, .kernel = patch, .stride = patch, .bias = true}, PITH_LAYER_TORCH);
    m->tokens = pith_net_add_depth(net, "tokens");
    for (size_t i = 0; i < m->n_blocks; i++) build_block(net, &m->blocks[i], i, m->width, pith_net_count(net, "hidden"));
    pith_norm_build(net, &m->norm, "norm", PITH_NORM_LAYER, m->width, 1e-6f);
    m->features = pith_net_add_depth(net, "features");
    pith_linear_build(net, &m->head, "head", m->width, pith_net_count(net, "classes"), true, PITH_LAYER_SMALL);
}

static pith_var *run_block(pith_net *net, const vit *m, const block *b, pith_var *x)
{
    static const pith_attention all = {0};
    pith_var *y = pith_linear_run(&b->proj, pith_var_attention_packed(pith_linear_run(&b->qkv, pith_norm_run(&b->norm1, x)), m->n_heads, &all));
    x = pith_var_add(x, pith_net_dropout(net, y, m->dropout));
    y = pith_linear_run(&b->fc2, pith_var_gelu(pith_linear_run(&b->fc1, pith_norm_run(&b->norm2, x))));
    return pith_net_depth(net, b->depth, pith_var_add(x, pith_net_dropout(net, y, m->dropout)));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const vit *m = self;
    pith_var *x = pith_conv_run(&m->patch, in->x); /* [n, width, rows, columns] */
    if (!x) return NULL;
    size_t n = x->dims[0], n_patches = x->dims[2] * x->dims[3];
    x = pith_var_transpose(pith_var_reshape(x, PITH_DIMS(n, m->width, n_patches)), 1, 2);
    if (m->class_token) x = pith_var_concat((pith_var *const[]){pith_var_broadcast(m->class_token->value, PITH_DIMS(n, 1, m->width)), x}, 2, 1);
    x = pith_net_depth(net, m->tokens, pith_var_add(x, m->position->value));
    for (size_t i = 0; i < m->n_blocks; i++) x = run_block(net, m, &m->blocks[i], x);
    x = pith_norm_run(&m->norm, x);
    x = m->class_token ? pith_var_slice(x, 1, 0, 1) : pith_var_mean(x, PITH_AXIS(1));
    return pith_linear_run(&m->head, pith_net_depth(net, m->features, pith_var_reshape(x, PITH_DIMS(n, m->width))));
}

static const pith_net_preset presets[] = {
    {"vit1m", "{}", "patch 4 of 32x32, 5 blocks, width 128: one million parameters"},
    {"vits", "{\"width\": 96, \"depth\": 4, \"hidden\": 384}", "4 blocks, width 96: 0.46 million"},
    {0}};

const pith_net_kind pith_net_kind_vit = {
    .info = {"vit", "vision transformer; x [n, channels, size, size] -> [n, classes]",
             "Dosovitskiy et al., arXiv:2010.11929; begins as its PyTorch form (normal of 0.02, patches as PyTorch's Conv2d)", settings, presets},
    .size = sizeof(vit), .build = build, .forward = forward};
