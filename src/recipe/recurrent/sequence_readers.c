/* Sequence readers. */
#include "recipe/recurrent/sequence_readers.h"

#include <math.h>

#include "eval/radius.h"
#include "eval/ridge.h"

typedef enum reader_family { CELLS, ECHO, WINDOW, MAMBA } reader_family;

typedef struct reader_kind {
    const char *name;
    reader_family family;
    const char *cell;              /* CELLS: settings of the net "rnn" */
    size_t layers, directions;
} reader_kind;

static const reader_kind kinds[] = {
    {"elman", CELLS, "\"cell\": \"tanh\"", 1, 1},
    {"jordan", CELLS, "\"cell\": \"jordan\"", 1, 1},
    {"lstm_1997", CELLS, "\"cell\": \"lstm_1997\"", 1, 1},
    {"lstm_bias0", CELLS, "\"cell\": \"lstm\"", 1, 1},
    {"lstm", CELLS, "\"cell\": \"lstm\", \"forget_bias\": 1", 1, 1},
    {"lstm_peep", CELLS, "\"cell\": \"lstm\", \"forget_bias\": 1, \"peepholes\": 1", 1, 1},
    {"gru", CELLS, "\"cell\": \"gru\"", 1, 1},
    {"bilstm", CELLS, "\"cell\": \"lstm\", \"forget_bias\": 1", 1, 2},
    {"stacked", CELLS, "\"cell\": \"lstm\", \"forget_bias\": 1", 2, 1},
    {"echo", ECHO, "\"cell\": \"tanh\"", 1, 1},
    {"window", WINDOW, NULL, 1, 1},
    {"mamba2", MAMBA, NULL, 1, 1},
};

#define RADIUS 0.9                 /* of the reservoir */
#define INPUT 0.5f                 /* its weights from the input are uniform within this … */
#define BIAS 0.1f                  /* … and its biases within this */
#define UNIT 8                     /* widths are multiples of it, which products like; of mamba2 of HEAD */
#define HEAD 16                    /* channels of a head of mamba2 */
#define STATE 16                   /* values that a channel of it remembers */
#define SMALL 2000                 /* parameters below which any width will do */
#define MAX_WIDTH ((size_t)256)    /* wider ones would spend their time on tanh, not on memory */

struct pith_reader {
    const reader_kind *kind;
    pith_reader_options o;
    pith_ctx *ctx;
    pith_tape *tape;
    pith_net *net, *in, *out;      /* in, out: linear layers before and after mamba2 */
    pith_var *w_out, *b_out;       /* echo: [n_out, width], [n_out] */
    pith_ridge ridge;              /* echo */
    size_t width, n_values;
};

static const reader_kind *find(const char *name)
{
    for (size_t i = 0; i < PITH_COUNT(kinds); i++)
        if (!strcmp(kinds[i].name, name)) return &kinds[i];
    return NULL;
}

bool pith_reader_known(const char *kind) { return find(kind); }

/* ---- making ----------------------------------------------------------------------------------- */

/* hidden 0: a linear layer */
static pith_status make_mlp(pith_reader *r, size_t n_in, size_t hidden, size_t n_out, uint64_t seed, pith_net **net)
{
    char settings[96], width[24] = "";
    if (hidden) snprintf(width, sizeof width, "%zu", hidden);
    snprintf(settings, sizeof settings, "{\"in\": %zu, \"hidden\": [%s], \"out\": %zu}", n_in, width, n_out);
    return pith_net_new(r->tape, "mlp", settings, seed, net);
}

static pith_status build_cells(pith_reader *r, uint64_t seed)
{
    char settings[256];
    bool echo = r->kind->family == ECHO;
    snprintf(settings, sizeof settings, "{%s, \"in\": %zu, \"width\": %zu, \"layers\": %zu, \"directions\": %zu, \"classes\": %zu, \"output\": \"%s\"}", r->kind->cell, r->o.n_in, r->width,
             r->kind->layers, r->kind->directions, echo ? 0 : r->o.n_out, r->o.last ? "last" : "all");
    return pith_net_new(r->tape, "rnn", settings, seed, &r->net);
}

/* A reservoir as it stays. */
static pith_status build_echo(pith_reader *r, uint64_t seed)
{
    PITH_TRY(build_cells(r, seed));
    r->w_out = pith_tape_param(r->tape, "readout.weight", PITH_DIMS(r->o.n_out, r->width));
    r->b_out = pith_tape_param(r->tape, "readout.bias", PITH_DIMS(r->o.n_out));
    if (!r->w_out || !r->b_out) return pith_tape_status(r->tape);
    if (seed == PITH_NET_BLANK) return PITH_OK;
    float drawn = 1 / sqrtf((float)r->width); /* all begin uniform within this */
    pith_var *in = pith_net_param(r->net, "rnn.weight_ih_l0"), *bias = pith_net_param(r->net, "rnn.bias_ih_l0"), *none = pith_net_param(r->net, "rnn.bias_hh_l0");
    for (size_t i = 0; i < in->count; i++) in->data[i] *= INPUT / drawn;
    for (size_t i = 0; i < bias->count; i++) bias->data[i] *= BIAS / drawn;
    memset(none->data, 0, none->count * sizeof *none->data);
    PITH_TRY(pith_radius_set(r->ctx, pith_net_param(r->net, "rnn.weight_hh_l0")->data, r->width, RADIUS));
    return pith_ridge_new(r->ctx, r->width, r->o.n_out, &r->ridge);
}

static pith_status build_window(pith_reader *r, uint64_t seed)
{
    return make_mlp(r, r->o.window * r->o.n_in, r->width, r->o.n_out, seed, &r->net);
}

static pith_status build_mamba(pith_reader *r, uint64_t seed)
{
    char settings[128];
    snprintf(settings, sizeof settings, "{\"vocab\": 0, \"width\": %zu, \"depth\": %d, \"state\": %d, \"head_dim\": %d}", r->width, PITH_READER_BLOCKS, STATE, HEAD);
    PITH_TRY(make_mlp(r, r->o.n_in, 0, r->width, seed, &r->in));
    PITH_TRY(pith_net_new(r->tape, "mamba", settings, seed, &r->net));
    return make_mlp(r, r->width, 0, r->o.n_out, seed == PITH_NET_BLANK ? seed : seed + ((uint64_t)1 << 32), &r->out);
}

static pith_status build(pith_reader *r, uint64_t seed)
{
    static pith_status (*const builders[])(pith_reader *, uint64_t) = {[CELLS] = build_cells, [ECHO] = build_echo, [WINDOW] = build_window, [MAMBA] = build_mamba};
    size_t before, after;
    pith_tape_params(r->tape, &before);
    PITH_TRY(builders[r->kind->family](r, seed));
    pith_var *const *params = pith_tape_params(r->tape, &after);
    r->n_values = 0;
    for (size_t i = before; i < after; i++) r->n_values += params[i]->count;
    return PITH_OK;
}

static void drop(pith_reader *r)
{
    pith_ridge_free(&r->ridge);
    pith_net_free(r->in);
    pith_net_free(r->net);
    pith_net_free(r->out);
}

/* How many parameters it has with `width`: by making it. */
static pith_status count(const pith_reader *like, size_t width, size_t *n_values)
{
    pith_reader r = {.kind = like->kind, .o = like->o, .ctx = like->ctx, .width = width};
    PITH_TRY(pith_tape_new(r.ctx, 0, &r.tape));
    pith_status status = build(&r, PITH_NET_BLANK);
    *n_values = r.n_values;
    drop(&r);
    pith_tape_free(r.tape);
    return status;
}

/* The width whose count is nearest, by bisection: counts grow with it. */
static pith_status choose_width(pith_reader *r)
{
    size_t unit = r->kind->family == MAMBA ? HEAD : r->o.n_values < SMALL ? 1 : UNIT, low = 1, high = MAX_WIDTH / unit, n_low, n_high;
    while (low < high) { /* the first that has at least as many */
        size_t middle = (low + high) / 2, n;
        PITH_TRY(count(r, middle * unit, &n));
        if (n < r->o.n_values) low = middle + 1;
        else high = middle;
    }
    PITH_TRY(count(r, low * unit, &n_high));
    r->width = low * unit;
    if (low == 1 || n_high <= r->o.n_values) return PITH_OK;
    PITH_TRY(count(r, (low - 1) * unit, &n_low));
    if (r->o.n_values - n_low < n_high - r->o.n_values) r->width = (low - 1) * unit;
    return PITH_OK;
}

pith_status pith_reader_new(pith_tape *tape, const pith_reader_options *o, pith_reader **reader)
{
    pith_ctx *ctx = pith_tape_ctx(tape);
    const reader_kind *kind = find(o->kind);
    if (!kind) return pith_fail(ctx, PITH_E_ARGUMENT, "'%s' is no kind of sequence reader; there are elman, jordan, lstm, lstm_bias0, lstm_1997, lstm_peep, gru, bilstm, stacked, echo, window and mamba2", o->kind);
    bool states = kind->family == CELLS && strcmp(kind->name, "jordan") != 0;
    if ((!o->n_out && !states) || (kind->family == WINDOW && (!o->window || (o->centred && o->last))))
        return pith_fail(ctx, PITH_E_ARGUMENT, "%s cannot read so: %zu outputs, a window of %zu", kind->name, o->n_out, o->window);
    pith_reader *r = pith_calloc(ctx, 1, sizeof *r);
    if (!r) return PITH_E_MEMORY;
    *r = (pith_reader){.kind = kind, .o = *o, .ctx = ctx, .tape = tape};
    pith_status status = choose_width(r);
    if (status == PITH_OK) status = build(r, o->seed);
    if (status == PITH_OK) *reader = r;
    else pith_reader_free(r);
    return status;
}

void pith_reader_free(pith_reader *r)
{
    if (!r) return;
    drop(r);
    pith_free(r->ctx, r);
}

size_t pith_reader_width(const pith_reader *r) { return r->width; }
size_t pith_reader_n_values(const pith_reader *r) { return r->n_values; }
bool pith_reader_learns(const pith_reader *r) { return r->kind->family != ECHO; }
size_t pith_reader_state(const pith_reader *r, size_t n) { return r->kind->layers * 2 * n * r->width; }

/* ---- running ---------------------------------------------------------------------------------- */

/* x [n, len, n_in] -> the steps around each, side by side, 0 beyond the ends: [n, len, window n_in]; of last those that end it. */
static pith_var *windows(const pith_reader *r, pith_var *x)
{
    if (!x) return NULL;
    size_t n = x->dims[0], len = x->dims[1], window = r->o.window, after = r->o.centred ? window / 2 : 0;
    pith_var *wide = pith_var_pad(x, 1, window - 1 - after, after);
    if (r->o.last) return pith_var_reshape(pith_var_slice(wide, 1, len - 1, window), PITH_DIMS(n, window * r->o.n_in));
    pith_var **parts = pith_op_attr(x->tape, window, sizeof(pith_var *));
    for (size_t k = 0; parts && k < window; k++) parts[k] = pith_var_slice(wide, 1, k, len);
    return parts ? pith_var_concat(parts, window, -1) : NULL;
}

/* A net over single rows. */
static pith_var *by_rows(pith_net *net, pith_var *x)
{
    if (!x) return NULL;
    size_t width = x->dims[x->n_dims - 1], n = x->dims[0], len = x->dims[1];
    bool deep = x->n_dims == 3;
    pith_var *y = pith_net_forward(net, deep ? pith_var_reshape(x, PITH_DIMS(n * len, width)) : x);
    return y && deep ? pith_var_reshape(y, PITH_DIMS(n, len, y->dims[1])) : y;
}

static pith_var *run_mamba(const pith_reader *r, pith_var *x)
{
    pith_var *y = pith_net_forward(r->net, by_rows(r->in, x));
    if (y && r->o.last) y = pith_var_reshape(pith_var_slice(y, 1, y->dims[1] - 1, 1), PITH_DIMS(y->dims[0], y->dims[2]));
    return by_rows(r->out, y);
}

pith_var *pith_reader_run(pith_reader *r, pith_var *x, float *state)
{
    if (!x) return NULL;
    if (state && r->kind->family != CELLS) return pith_op_fail(r->tape, PITH_E_ARGUMENT, "%s has no state to be carried on", r->kind->name);
    if (x->n_dims != 3 || !x->dims[1]) return pith_op_fail(r->tape, PITH_E_SHAPE, "%s: x %s is not [n, len, %zu] of a step at least", r->kind->name, PITH_SHAPE(x), r->o.n_in);
    if (r->kind->family == WINDOW) return by_rows(r->net, windows(r, x));
    if (r->kind->family == MAMBA) return run_mamba(r, x);
    pith_var *y = pith_net_run(r->net, &(pith_net_input){.x = x, .state = state});
    return r->kind->family == ECHO ? pith_var_linear(y, r->w_out, r->b_out) : y;
}

pith_var *pith_reader_one_hot(pith_tape *tape, const int32_t *ids, size_t n, size_t len, size_t stride, size_t n_symbols)
{
    pith_var *x = pith_tape_fill(tape, 0, PITH_DIMS(n, len, n_symbols));
    for (size_t i = 0; x && i < n * len; i++) {
        int32_t id = ids[i / len * stride + i % len];
        if (id >= 0) x->data[i * n_symbols + (size_t)id] = 1;
    }
    return x;
}

pith_status pith_reader_show(pith_reader *r, pith_var *x, const float *target, const bool *counts)
{
    const pith_var *states = pith_net_forward(r->net, x);
    PITH_TRY(pith_tape_status(r->tape));
    size_t rows = states->count / r->width;
    for (size_t i = 0; i < rows; i++)
        if (!counts || counts[i]) pith_ridge_add(&r->ridge, states->data + i * r->width, target + i * r->o.n_out, 1);
    return PITH_OK;
}

pith_status pith_reader_solve(pith_reader *r, double ridge)
{
    PITH_TRY(pith_ridge_solve(&r->ridge, ridge));
    for (size_t k = 0; k < r->o.n_out; k++) {
        for (size_t i = 0; i < r->width; i++) r->w_out->data[k * r->width + i] = (float)r->ridge.xy[i * r->o.n_out + k];
        r->b_out->data[k] = (float)r->ridge.xy[r->width * r->o.n_out + k];
    }
    return PITH_OK;
}
