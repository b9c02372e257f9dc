/* Recurrent networks: layers of LSTM, GRU or plain cells over vectors or tokens, then a linear layer.  Names and gates
 * are those of PyTorch's LSTM, GRU and RNN. */
#include <math.h>

#include "model/net_kind.h"

typedef struct direction {
    const char *name;             /* "rnn.l0", "rnn.l0_reverse": for taps */
    pith_slot *w_in, *w_state, *b_in, *b_state, *peep; /* peep may be NULL */
} direction;

typedef struct rnn {
    pith_cell cell;
    size_t n_vocab, n_in, width, n_layers, n_directions;
    pith_embedding_layer embedding;
    direction *layers;            /* [n_layers, n_directions] */
    size_t *depths;               /* [n_layers] */
    pith_linear_layer head;
    bool has_head, last, peepholes;
    bool jordan;                  /* cell is then the one its hidden layer has, TANH */
    float dropout, forget_bias, context_decay;
} rnn;

static const pith_net_setting settings[] = {
    {"cell", PITH_NET_CHOICE, "\"lstm\"", 0, 0, "lstm|gru|tanh|relu|lstm_1997|jordan", "what a step computes; lstm_1997 forgets nothing; jordan looks back by its outputs"},
    {"peepholes", PITH_NET_COUNT, "0", 0, 1, NULL, "1: gates of an LSTM see its cell"},
    {"forget_bias", PITH_NET_REAL, "0", -100, 100, NULL, "what an LSTM's forget gates begin with beside PyTorch's draw"},
    {"context_decay", PITH_NET_REAL, "0.5", 0, 0.99, NULL, "jordan: what a step leaves of the outputs of before"},
    {"vocab", PITH_NET_COUNT, "0", 0, 1 << 24, NULL, "tokens there are, embedded in `in` values; 0: the input is vectors"},
    {"in", PITH_NET_COUNT, "128", 1, 1 << 20, NULL, "values of a step's input"},
    {"width", PITH_NET_COUNT, "256", 1, 1 << 14, NULL, "values of a state"},
    {"layers", PITH_NET_COUNT, "1", 1, 64, NULL, "one above the other"},
    {"directions", PITH_NET_COUNT, "1", 1, 2, NULL, "2: from the end as well, side by side"},
    {"output", PITH_NET_CHOICE, "\"all\"", 0, 0, "all|last", "of all steps, or of the last that counts (from the end: of the first)"},
    {"classes", PITH_NET_COUNT, "0", 0, 1 << 24, NULL, "values of an output; 0: the states themselves"},
    {"dropout", PITH_NET_REAL, "0", 0, 0.99, NULL, "share of a layer's input (but the first's) and of the head's that is dropped in training"},
    {0}};

static const struct { const char *name; pith_cell cell; } cells[] = {
    {"lstm", PITH_CELL_LSTM}, {"gru", PITH_CELL_GRU}, {"tanh", PITH_CELL_TANH}, {"relu", PITH_CELL_RELU}, {"lstm_1997", PITH_CELL_LSTM_1997}, {"jordan", PITH_CELL_TANH},
};

static void build_direction(pith_net *net, const rnn *m, direction *d, size_t layer, bool reverse, size_t n_in)
{
    const pith_init init = {PITH_INIT_UNIFORM, 1 / sqrtf((float)m->width)};
    const char *end = reverse ? "_reverse" : "";
    size_t wide = pith_cell_gates(m->cell) * m->width;
    d->name = pith_net_name(net, "rnn.l%zu%s", layer, end);
    d->w_in = pith_net_add(net, pith_net_name(net, "rnn.weight_ih_l%zu%s", layer, end), init, PITH_DIMS(wide, n_in));
    d->w_state = pith_net_add(net, pith_net_name(net, "rnn.weight_hh_l%zu%s", layer, end), init, PITH_DIMS(wide, m->jordan ? pith_net_count(net, "classes") : m->width));
    d->b_in = pith_net_add(net, pith_net_name(net, "rnn.bias_ih_l%zu%s", layer, end), init, PITH_DIMS(wide));
    d->b_state = pith_net_add(net, pith_net_name(net, "rnn.bias_hh_l%zu%s", layer, end), init, PITH_DIMS(wide));
    if (m->peepholes) d->peep = pith_net_add(net, pith_net_name(net, "rnn.weight_peep_l%zu%s", layer, end), init, PITH_DIMS(pith_cell_gates(m->cell) - 1, m->width));
    for (size_t i = m->width; m->cell == PITH_CELL_LSTM && d->b_in->param && net->seed != PITH_NET_BLANK && i < 2 * m->width; i++) d->b_in->param->data[i] += m->forget_bias;
}

static void build(pith_net *net, void *self)
{
    rnn *m = self;
    size_t classes = pith_net_count(net, "classes"), n_in = pith_net_count(net, "in");
    for (size_t i = 0; i < PITH_COUNT(cells); i++)
        if (pith_net_is(net, "cell", cells[i].name)) m->cell = cells[i].cell;
    m->jordan = pith_net_is(net, "cell", "jordan");
    m->peepholes = pith_net_count(net, "peepholes");
    m->forget_bias = pith_net_real(net, "forget_bias");
    m->context_decay = pith_net_real(net, "context_decay");
    m->n_vocab = pith_net_count(net, "vocab");
    m->n_in = n_in;
    m->width = pith_net_count(net, "width");
    m->n_layers = pith_net_count(net, "layers");
    m->n_directions = pith_net_count(net, "directions");
    m->last = pith_net_is(net, "output", "last");
    m->dropout = pith_net_real(net, "dropout");
    m->has_head = classes > 0;
    m->layers = pith_net_take(net, m->n_layers * m->n_directions, sizeof *m->layers);
    m->depths = pith_net_take(net, m->n_layers, sizeof *m->depths);
    if (m->peepholes && !pith_cell_is_lstm(m->cell)) pith_net_fail(net, PITH_E_ARGUMENT, "peepholes are of an LSTM");
    if (m->jordan && (!classes || m->n_layers > 1 || m->n_directions > 1)) pith_net_fail(net, PITH_E_ARGUMENT, "jordan takes classes, what it looks back by, and one layer in one direction");
    if (!m->layers || !m->depths) return;
    if (m->n_vocab) pith_embedding_build(net, &m->embedding, "embedding", m->n_vocab, n_in, (pith_init){PITH_INIT_NORMAL, 1});
    for (size_t l = 0; l < m->n_layers; l++) {
        for (size_t d = 0; d < m->n_directions; d++) build_direction(net, m, &m->layers[l * m->n_directions + d], l, d > 0, n_in);
        m->depths[l] = pith_net_add_depth(net, pith_net_name(net, "hidden%zu", l));
        n_in = m->n_directions * m->width;
    }
    if (m->has_head) pith_linear_build(net, &m->head, "head", n_in, classes, true, PITH_LAYER_TORCH);
}

/* ---- running ---------------------------------------------------------------------------------- */

/* How many steps of row i count. */
static size_t steps_of(const pith_net_input *in, size_t i, size_t len) { return in->n_tokens ? (size_t)in->n_tokens[i] : len; }

/* x [len, n, width], each row's steps that count turned round. */
static pith_var *turned(const pith_net_input *in, pith_var *x)
{
    size_t len = x->dims[0], n = x->dims[1], width = x->dims[2];
    int32_t *index = pith_op_attr(x->tape, len * n, sizeof *index);
    if (!index) return NULL;
    for (size_t t = 0; t < len; t++)
        for (size_t i = 0; i < n; i++) {
            size_t steps = steps_of(in, i, len);
            index[t * n + i] = (int32_t)((t < steps ? steps - 1 - t : t) * n + i);
        }
    return pith_var_rows(pith_var_reshape(x, PITH_DIMS(len * n, width)), index, PITH_DIMS(len, n));
}

/* Of [len, n, width], the last step of each row that counts (from the end: the first step), [n, width]. */
static pith_var *last_of(const pith_net_input *in, pith_var *x, bool reverse)
{
    if (!x) return NULL;
    size_t len = x->dims[0], n = x->dims[1], width = x->dims[2];
    int32_t *index = pith_op_attr(x->tape, n, sizeof *index);
    if (!index) return NULL;
    for (size_t i = 0; i < n; i++) index[i] = (int32_t)((reverse ? 0 : steps_of(in, i, len) - 1) * n + i);
    return pith_var_rows(pith_var_reshape(x, PITH_DIMS(len * n, width)), index, PITH_DIMS(n));
}

/* n values of the state that came in, as a value of this step; the place is written to later. */
static pith_var *state_value(pith_net *net, const float *state, size_t n, size_t width)
{
    pith_var *v = state ? pith_tape_fill(net->tape, 0, PITH_DIMS(n, width)) : NULL;
    if (v) memcpy(v->data, state, v->count * sizeof(float));
    return v;
}

static pith_var *run_direction(pith_net *net, const rnn *m, size_t layer, size_t dir, const pith_net_input *in, pith_var *x)
{
    const direction *d = &m->layers[layer * m->n_directions + dir];
    if (dir) x = turned(in, x);
    x = pith_net_before(net, d->name, x);
    if (!x) return NULL;
    size_t len = x->dims[0], n = x->dims[1];
    float *state = in->state ? in->state + layer * 2 * n * m->width : NULL;
    pith_var *h0 = state_value(net, state, n, m->width), *c0 = pith_cell_is_lstm(m->cell) ? state_value(net, state ? state + n * m->width : NULL, n, m->width) : NULL, *c = NULL;
    pith_var *peep = d->peep ? d->peep->value : NULL;
    pith_var *y = pith_var_recurrent_peep(m->cell, pith_var_linear(x, d->w_in->value, d->b_in->value), d->w_state->value, d->b_state->value, peep, h0, c0, &c);
    if (!y) return NULL;
    if (state && len) {
        memcpy(state, y->data + (len - 1) * n * m->width, n * m->width * sizeof *state);
        if (c) memcpy(state + n * m->width, c->data, n * m->width * sizeof *state);
    }
    y = pith_net_after(net, d->name, y);
    return dir && y ? turned(in, y) : y;
}

/* Jordan's network (1986): a step sees, beside its input, context units s = decay s + tanh(the outputs of before); tanh, which is
 * not in his, keeps outputs without bounds from running away.  x [len, n, in] -> the outputs, [len, n, classes]. */
static pith_var *run_jordan(pith_net *net, const rnn *m, pith_var *x)
{
    const direction *d = m->layers;
    x = pith_net_before(net, d->name, x);
    if (!x) return NULL;
    size_t len = x->dims[0], n = x->dims[1];
    pith_var *gates = pith_var_linear(x, d->w_in->value, d->b_in->value), *context = pith_tape_fill(net->tape, 0, PITH_DIMS(n, m->head.w->value->dims[0]));
    pith_var **h = pith_op_attr(net->tape, len, sizeof *h), *all = NULL;
    if (!h || !context) return NULL;
    for (size_t t = 0; t < len; t++) {
        pith_var *gate = pith_var_reshape(pith_var_slice(gates, 0, t, 1), PITH_DIMS(n, m->width));
        pith_var *y = pith_var_tanh(pith_var_add(gate, pith_var_linear(context, d->w_state->value, d->b_state->value)));
        h[t] = pith_var_reshape(y, PITH_DIMS(1, n, m->width));
        if (t + 1 < len) context = pith_var_add(pith_var_scale(context, m->context_decay), pith_var_tanh(pith_var_linear(y, m->head.w->value, m->head.b->value)));
    }
    all = pith_net_depth(net, m->depths[0], pith_net_after(net, d->name, pith_var_concat(h, len, 0)));
    return pith_linear_run(&m->head, pith_net_dropout(net, all, m->dropout));
}

/* The input as [len, n, in]. */
static pith_var *steps(pith_net *net, const rnn *m, const pith_net_input *in)
{
    if (m->n_vocab) return in->ids ? pith_var_transpose(pith_embedding_run(&m->embedding, in->ids, in->n, in->len), 0, 1) : pith_net_refuse(net, "ids are needed");
    if (!in->x || in->x->n_dims != 3) return pith_net_refuse(net, "x [n, len, in] is needed");
    return pith_var_transpose(in->x, 0, 1);
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const rnn *m = self;
    pith_var *x = steps(net, m, in), *y[2] = {NULL, NULL};
    if (!x) return NULL;
    size_t len = x->dims[0], n = x->dims[1];
    if (!len && m->last) return pith_net_refuse(net, "sequences of at least one step are needed");
    for (size_t i = 0; in->n_tokens && i < n; i++)
        if (in->n_tokens[i] < 1 || (size_t)in->n_tokens[i] > len) return pith_op_fail(net->tape, PITH_E_ARGUMENT, "%s: %d steps of %zu in row %zu", net->name, (int)in->n_tokens[i], len, i);
    if (in->state && (m->n_directions > 1 || in->n_tokens || m->jordan)) return pith_net_refuse(net, "a state is carried on in one direction, over all steps, and not by jordan");
    if (m->jordan) {
        if (!len) return pith_net_refuse(net, "sequences of at least one step are needed");
        x = run_jordan(net, m, x);
        return m->last ? last_of(in, x, false) : pith_var_transpose(x, 0, 1);
    }
    for (size_t l = 0; l < m->n_layers; l++) {
        if (l) x = pith_net_dropout(net, x, m->dropout);
        for (size_t d = 0; d < m->n_directions; d++) y[d] = run_direction(net, m, l, d, in, x);
        x = pith_net_depth(net, m->depths[l], m->n_directions > 1 ? pith_var_concat(y, 2, -1) : y[0]);
        if (!x) return NULL;
    }
    if (m->last) {
        for (size_t d = 0; d < m->n_directions; d++) y[d] = last_of(in, y[d], d > 0);
        x = m->n_directions > 1 ? pith_var_concat(y, 2, -1) : y[0];
    }
    x = pith_net_dropout(net, x, m->dropout);
    if (m->has_head) x = pith_linear_run(&m->head, x);
    return m->last ? x : pith_var_transpose(x, 0, 1);
}

static const pith_net_preset presets[] = {
    {"lstm", "{\"cell\": \"lstm\"}", "one layer of 256"},
    {"gru", "{\"cell\": \"gru\"}", "one layer of 256"},
    {0}};

const pith_net_kind pith_net_kind_rnn = {
    .info = {"rnn", "recurrent layers; x [n, len, in] or ids [n, len], n_tokens, state -> [n, len, classes], or [n, classes] for last",
             "Hochreiter, Schmidhuber 1997; Cho et al., arXiv:1406.1078; begins as PyTorch's LSTM, GRU and RNN", settings, presets},
    .size = sizeof(rnn), .build = build, .forward = forward};
