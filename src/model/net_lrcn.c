/* Long-term recurrent convolutional networks (Donahue et al., arXiv:1411.4389): a convolutional network sees each frame of a clip, an
 * LSTM reads what it saw, and answers at each step; or a second LSTM writes a sentence about it.
 *
 * whole    x [n, frames, channels, height, width] -> [n, frames, classes]; mixer conv3d: [n, 1, classes]
 * encode   x -> [n, width], the mean of the LSTM's states: what the writer sees
 * decode   ids [n, len] and context [n, 1, width] of encode -> [n, len, vocab]
 *
 * The writer sees the clip at each step beside the word before; factored: its first LSTM sees words alone, its second the
 * first one's states and the clip. */
#include <math.h>

#include "model/net_kind.h"

typedef struct lstm_layer {
    const char *name;
    pith_slot *w_in, *w_state, *bias;
} lstm_layer;

typedef struct lrcn {
    enum { MIX_LSTM, MIX_NONE, MIX_CONV3D } mixer;
    size_t channels, size, n_convs, width, n_vocab;
    pith_conv_layer *convs;
    pith_linear_layer fc, head, words_out;
    pith_embedding_layer words;
    lstm_layer lstm, writer[2];
    bool factored;
    size_t feature_depth;
    float dropout;
} lrcn;

static const pith_net_setting settings[] = {
    {"channels", PITH_NET_COUNT, "3", 1, 64, NULL, "of a frame"},
    {"size", PITH_NET_COUNT, "32", 8, 1024, NULL, "height and width of a frame"},
    {"convs", PITH_NET_LIST, "[16, 32, 64]", 1, 1024, NULL, "channels of 3x3 convolutions, each of which halves the picture"},
    {"feature", PITH_NET_COUNT, "128", 1, 1 << 14, NULL, "values that say what a frame shows"},
    {"mixer", PITH_NET_CHOICE, "\"lstm\"", 0, 0, "lstm|none|conv3d", "what joins frames; none: each answers alone; conv3d: the convolutions, 3x3x3 and halving time too"},
    {"width", PITH_NET_COUNT, "128", 1, 1 << 14, NULL, "of the LSTMs"},
    {"classes", PITH_NET_COUNT, "8", 1, 1 << 20, NULL, "values of an answer"},
    {"vocab", PITH_NET_COUNT, "0", 0, 1 << 24, NULL, "words that the writer knows; 0: no writer"},
    {"factored", PITH_NET_COUNT, "1", 0, 1, NULL, "1: a writer of two LSTMs, the first of which sees words alone"},
    {"dropout", PITH_NET_REAL, "0", 0, 0.99, NULL, "share dropped before and after the LSTM"},
    {0}};

/* One bias, forget gates open at first. */
static void build_lstm(pith_net *net, lstm_layer *l, const char *name, size_t n_in, size_t width)
{
    const pith_init init = {PITH_INIT_UNIFORM, 1 / sqrtf((float)width)};
    l->name = name;
    l->w_in = pith_net_add(net, pith_net_name(net, "%s.weight_ih", name), init, PITH_DIMS(4 * width, n_in));
    l->w_state = pith_net_add(net, pith_net_name(net, "%s.weight_hh", name), init, PITH_DIMS(4 * width, width));
    l->bias = pith_net_add(net, pith_net_name(net, "%s.bias", name), init, PITH_DIMS(4 * width));
    for (size_t i = width; l->bias->param && net->seed != PITH_NET_BLANK && i < 2 * width; i++) l->bias->param->data[i] += 1;
}

static void build(pith_net *net, void *self)
{
    lrcn *m = self;
    const size_t *widths;
    size_t feature = pith_net_count(net, "feature"), classes = pith_net_count(net, "classes");
    m->n_convs = pith_net_list(net, "convs", &widths);
    m->channels = pith_net_count(net, "channels");
    m->size = pith_net_count(net, "size");
    m->width = pith_net_count(net, "width");
    m->n_vocab = pith_net_count(net, "vocab");
    m->factored = pith_net_count(net, "factored");
    m->dropout = pith_net_real(net, "dropout");
    m->mixer = pith_net_is(net, "mixer", "lstm") ? MIX_LSTM : pith_net_is(net, "mixer", "none") ? MIX_NONE : MIX_CONV3D;
    m->convs = pith_net_take(net, m->n_convs, sizeof *m->convs);
    if (!m->n_convs || (m->n_vocab && m->mixer != MIX_LSTM)) pith_net_fail(net, PITH_E_ARGUMENT, "a convolution is needed, and by a writer the mixer lstm");
    if (!m->convs) return;
    size_t side = m->size, n_in = m->channels;
    for (size_t i = 0; i < m->n_convs; i++, side = (side + 1) / 2, n_in = widths[i - 1]) {
        pith_conv_shape shape = {.n_in = n_in, .n_out = widths[i], .kernel = 3, .stride = 2, .padding = 1, .n_space = m->mixer == MIX_CONV3D ? 3 : 2, .bias = true};
        pith_conv_build(net, &m->convs[i], pith_net_name(net, "conv%zu", i), &shape, PITH_LAYER_HE);
    }
    m->feature_depth = pith_net_add_depth(net, "feature");
    pith_linear_build(net, &m->fc, "fc", m->mixer == MIX_CONV3D ? n_in : n_in * side * side, feature, true, PITH_LAYER_TORCH);
    if (m->mixer == MIX_LSTM) build_lstm(net, &m->lstm, "lstm", feature, m->width);
    pith_linear_build(net, &m->head, "head", m->mixer == MIX_LSTM ? m->width : feature, classes, true, PITH_LAYER_TORCH);
    if (!m->n_vocab) return;
    pith_embedding_build(net, &m->words, "words", m->n_vocab, m->width, (pith_init){PITH_INIT_NORMAL, 0.3f});
    build_lstm(net, &m->writer[0], "writer0", m->factored ? m->width : 2 * m->width, m->width);
    if (m->factored) build_lstm(net, &m->writer[1], "writer1", 2 * m->width, m->width);
    pith_linear_build(net, &m->words_out, "words_out", m->width, m->n_vocab, true, PITH_LAYER_TORCH);
}

/* x [n, len, in] -> [n, len, width] */
static pith_var *run_lstm(pith_net *net, const lstm_layer *l, pith_var *x)
{
    x = pith_net_before(net, l->name, x);
    if (!x) return NULL;
    pith_var *gates = pith_var_linear(pith_var_transpose(x, 0, 1), l->w_in->value, l->bias->value);
    return pith_net_after(net, l->name, pith_var_transpose(pith_var_recurrent(PITH_CELL_LSTM, gates, l->w_state->value, NULL, NULL, NULL, NULL), 0, 1));
}

/* What each frame shows, [n, frames, feature]; conv3d: [n, 1, feature]. */
static pith_var *see(pith_net *net, const lrcn *m, pith_var *x)
{
    if (!x || x->n_dims != 5 || !x->dims[1] || x->dims[2] != m->channels || x->dims[3] != m->size || x->dims[4] != m->size) return pith_net_refuse(net, "x [n, frames, channels, size, size] is needed");
    size_t n = x->dims[0], frames = x->dims[1];
    bool deep = m->mixer == MIX_CONV3D;
    x = deep ? pith_var_transpose(x, 1, 2) : pith_var_reshape(x, PITH_DIMS(n * frames, m->channels, m->size, m->size));
    for (size_t i = 0; i < m->n_convs; i++) x = pith_var_relu(pith_conv_run(&m->convs[i], x));
    x = pith_var_relu(pith_linear_run(&m->fc, deep ? pith_pool_space(x) : pith_flatten(x)));
    return x ? pith_net_depth(net, m->feature_depth, pith_var_reshape(x, PITH_DIMS(n, deep ? 1 : frames, x->dims[1]))) : NULL;
}

static pith_var *write_words(pith_net *net, const lrcn *m, const pith_net_input *in)
{
    if (!m->n_vocab || !in->ids || !in->context || in->context->n_dims != 3 || in->context->dims[0] != in->n || in->context->dims[1] != 1 || in->context->dims[2] != m->width)
        return pith_net_refuse(net, "a writer, ids and a context [n, 1, width] are needed");
    pith_var *x = pith_embedding_run(&m->words, in->ids, in->n, in->len), *clip = pith_var_broadcast(in->context, PITH_DIMS(in->n, in->len, m->width));
    if (m->factored) x = run_lstm(net, &m->writer[0], x);
    pith_var *both[2] = {x, clip};
    x = run_lstm(net, &m->writer[m->factored], pith_var_concat(both, 2, -1));
    return pith_linear_run(&m->words_out, pith_net_dropout(net, x, m->dropout));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const lrcn *m = self;
    if (in->part == PITH_NET_DECODE) return write_words(net, m, in);
    if (in->part == PITH_NET_ENCODE && m->mixer != MIX_LSTM) return pith_net_refuse(net, "the mixer lstm is needed to encode");
    pith_var *x = pith_net_dropout(net, see(net, m, in->x), m->dropout);
    if (m->mixer == MIX_LSTM) x = run_lstm(net, &m->lstm, x);
    if (!x) return NULL;
    if (in->part == PITH_NET_ENCODE) return pith_var_reshape(pith_var_mean(x, PITH_AXIS(1)), PITH_DIMS(x->dims[0], m->width));
    return pith_linear_run(&m->head, pith_net_dropout(net, x, m->dropout));
}

static const pith_net_preset presets[] = {
    {"lrcn32", "{}", "clips of 32x32, eight answers"},
    {0}};

const pith_net_kind pith_net_kind_lrcn = {
    .info = {"lrcn", "convolutions per frame, then an LSTM; x [n, frames, channels, size, size] -> [n, frames, classes]; parts encode and decode write sentences",
             "Donahue et al., arXiv:1411.4389; convolutions begin as He's, the rest as PyTorch's", settings, presets},
    .size = sizeof(lrcn), .build = build, .forward = forward};
