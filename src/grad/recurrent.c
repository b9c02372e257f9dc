/* Recurrent layers: one operation for a whole sequence.  What comes from the input is computed outside, for all steps
 * at once; here is what each step adds.  The rows of a batch do not meet, so that a thread takes some of them through
 * all steps and waits for no other. */
#include "grad/tape.h"

#define ROWS ((size_t)16)    /* of the batch a task has at least, and */
#define ROWS_AT_MOST ((size_t)48)
#define PANEL ((size_t)PITH_GEMM_PANEL)

typedef struct recurrent_attr {
    pith_cell cell;
    size_t len, n, h, kept;       /* kept: steps whose values stay for the backward pass: len, or 1 where none follows */
    float *acts;                  /* [kept, n, parts h] LSTM i f g o, without forgetting i g o; GRU r z n and the recurrent product under n */
    float *c, *tc;                /* LSTM: [kept, n, h] the cell, and its tanh */
    int bias, peep;               /* which input; 0: none */
} recurrent_attr;

typedef struct recurrent_work {
    const pith_tape *tape;
    const recurrent_attr *a;
    const float *gates, *panels, *bias, *peep, *h0, *c0, *y, *gy; /* panels: of the weights, as `multiply` reads them */
    float *states, *scratch;      /* scratch [n, 3 h]: GRU's recurrent product */
    float *g_gates, *g_product, *gh, *gc; /* gh, gc [n, h]: running, and in the end by h0 and c0 */
    float *c_last;
} recurrent_work;

bool pith_cell_is_lstm(pith_cell cell) { return cell == PITH_CELL_LSTM || cell == PITH_CELL_LSTM_1997; }
size_t pith_cell_gates(pith_cell cell) { return cell == PITH_CELL_LSTM ? 4 : cell == PITH_CELL_GRU || cell == PITH_CELL_LSTM_1997 ? 3 : 1; }
static size_t n_acts(pith_cell cell) { return cell == PITH_CELL_GRU ? 4 : pith_cell_is_lstm(cell) ? pith_cell_gates(cell) : 0; }

/* Row `row` of the values kept of step t, of `width` a row. */
static float *kept_row(const recurrent_attr *a, float *values, size_t t, size_t row, size_t width) { return values + ((a->kept == 1 ? 0 : t * a->n) + row) * width; }

/* ---- products --------------------------------------------------------------------------------- */

/* Weights are used at every step: they are laid out once, PANEL columns at a time, so that none of their rows are apart. */
static void lay_panels(const float *w, size_t k, size_t n, bool transposed, float *panels)
{
    for (size_t j = 0; j < n; j += PANEL, panels += k * PANEL) {
        size_t width = PITH_MIN(PANEL, n - j);
        if (transposed) pith_transpose(w + j * k, width, k, k, panels, width);
        for (size_t r = 0; !transposed && r < k; r++) memcpy(panels + r * width, w + r * n + j, width * sizeof *w);
    }
}

/* c [rows, n] = a [rows, k] by panels, plus c if add */
static void multiply(const recurrent_work *w, size_t rows, size_t n, size_t k, const float *a, float *c, bool add)
{
    const float *panel = w->panels;
    for (size_t j = 0; j < n; j += PANEL, panel += k * PANEL) w->tape->kernels->gemm(rows, PITH_MIN(PANEL, n - j), k, a, k, panel, PITH_MIN(PANEL, n - j), c + j, n, add);
}

/* Rows of the batch a task takes: as many as leave all threads some, so that the weights are read the less often. */
static size_t rows_a_task(const pith_tape *tape, size_t n)
{
    return PITH_MIN(PITH_MAX(PITH_CEIL_DIV(n, (size_t)pith_n_threads(tape->ctx)), ROWS), ROWS_AT_MOST);
}

/* ---- forward ---------------------------------------------------------------------------------- */

static void lstm_row(const recurrent_work *w, size_t t, size_t row, const float *c_before, float *y)
{
    const recurrent_attr *a = w->a;
    size_t h = a->h, wide = pith_cell_gates(a->cell) * h;
    pith_lstm_row r = {.h = h, .forgets = a->cell == PITH_CELL_LSTM, .gates = w->gates + (t * a->n + row) * wide, .bias = w->bias, .peep = w->peep, .c_before = c_before,
                       .act = kept_row(a, a->acts, t, row, wide), .c = kept_row(a, a->c, t, row, h), .tc = kept_row(a, a->tc, t, row, h), .y = y};
    w->tape->loops->lstm(&r);
}

static void gru_row(const recurrent_work *w, size_t t, size_t row, const float *before, float *y)
{
    const recurrent_attr *a = w->a;
    const pith_loops *l = w->tape->loops;
    size_t h = a->h;
    const float *gates = w->gates + (t * a->n + row) * 3 * h;
    float *act = kept_row(a, a->acts, t, row, 4 * h), *product = w->scratch + row * 3 * h;
    if (w->bias) l->binary(PITH_BINARY_ADD, product, 1, w->bias, 1, product, 3 * h);
    l->binary(PITH_BINARY_ADD, gates, 1, product, 1, act, 2 * h);
    l->unary(PITH_UNARY_SIGMOID, 0, 0, 0, act, NULL, act, 2 * h);
    memcpy(act + 3 * h, product + 2 * h, h * sizeof *act);
    for (size_t i = 0; i < h; i++) act[2 * h + i] = gates[2 * h + i] + act[i] * act[3 * h + i];
    l->unary(PITH_UNARY_TANH, 0, 0, 0, act + 2 * h, NULL, act + 2 * h, h);
    for (size_t i = 0; i < h; i++) y[i] = (1 - act[h + i]) * act[2 * h + i] + act[h + i] * before[i];
}

static void forward_step(const recurrent_work *w, size_t t, size_t from, size_t rows, const float *before, const float *c_before)
{
    const recurrent_attr *a = w->a;
    const pith_loops *l = w->tape->loops;
    size_t h = a->h, wide = pith_cell_gates(a->cell) * h;
    float *y = w->states + (t * a->n + from) * h;
    if (pith_cell_is_lstm(a->cell)) {
        multiply(w, rows, wide, h, before, kept_row(a, a->acts, t, from, wide), false);
        for (size_t r = 0; r < rows; r++) lstm_row(w, t, from + r, c_before + r * h, y + r * h);
    } else if (a->cell == PITH_CELL_GRU) {
        multiply(w, rows, wide, h, before, w->scratch + from * wide, false);
        for (size_t r = 0; r < rows; r++) gru_row(w, t, from + r, before + r * h, y + r * h);
    } else {
        memcpy(y, w->gates + (t * a->n + from) * wide, rows * wide * sizeof *y);
        multiply(w, rows, wide, h, before, y, true);
        for (size_t r = 0; w->bias && r < rows; r++) l->binary(PITH_BINARY_ADD, y + r * h, 1, w->bias, 1, y + r * h, h);
        l->unary(a->cell == PITH_CELL_TANH ? PITH_UNARY_TANH : PITH_UNARY_RELU, 0, 0, 0, y, NULL, y, rows * h);
    }
}

static void forward_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const recurrent_work *w = arg;
    const recurrent_attr *a = w->a;
    size_t h = a->h;
    const float *c_before = w->c0 ? w->c0 + from * h : NULL;
    for (size_t t = 0; t < a->len; t++) {
        forward_step(w, t, from, to - from, t ? w->states + ((t - 1) * a->n + from) * h : w->h0 + from * h, c_before);
        if (a->c) c_before = kept_row(a, a->c, t, from, h);
    }
    if (w->c_last) memcpy(w->c_last + from * h, c_before, (to - from) * h * sizeof(float));
}

/* ---- backward --------------------------------------------------------------------------------- */

/* gh: the gradient by this step's state; gc likewise, then by the cell before. */
static void lstm_row_back(const recurrent_work *w, size_t t, size_t row, const float *c_before)
{
    const recurrent_attr *a = w->a;
    size_t h = a->h, wide = pith_cell_gates(a->cell) * h;
    pith_lstm_row r = {.h = h, .forgets = a->cell == PITH_CELL_LSTM, .peep = w->peep, .c_before = c_before, .gh = w->gh + row * h, .act = kept_row(a, a->acts, t, row, wide),
                       .tc = kept_row(a, a->tc, t, row, h), .gc = w->gc + row * h, .g = w->g_gates + (t * a->n + row) * wide};
    w->tape->loops->lstm_back(&r);
}

/* gh becomes what goes past the gates; g_product what goes through the recurrent product. */
static void gru_row_back(const recurrent_work *w, size_t t, size_t row, const float *before)
{
    const recurrent_attr *a = w->a;
    size_t h = a->h, at = (t * a->n + row) * 3 * h;
    const float *restrict act = kept_row(a, a->acts, t, row, 4 * h);
    float *restrict gh = w->gh + row * h, *restrict g = w->g_gates + at, *restrict p = w->g_product + at;
    for (size_t k = 0; k < h; k++) {
        float r = act[k], z = act[h + k], n = act[2 * h + k], u = act[3 * h + k];
        float gn = gh[k] * (1 - z) * (1 - n * n);
        p[k] = g[k] = gn * u * r * (1 - r);
        p[h + k] = g[h + k] = gh[k] * (before[k] - n) * z * (1 - z);
        g[2 * h + k] = gn;
        p[2 * h + k] = gn * r;
        gh[k] *= z;
    }
}

static void backward_step(const recurrent_work *w, size_t t, size_t from, size_t rows)
{
    const recurrent_attr *a = w->a;
    const pith_loops *l = w->tape->loops;
    size_t h = a->h, wide = pith_cell_gates(a->cell) * h, at = t * a->n + from;
    const float *before = t ? w->y + (at - a->n) * h : w->h0 + from * h;
    float *gh = w->gh + from * h;
    l->binary(PITH_BINARY_ADD, gh, 1, w->gy + at * h, 1, gh, rows * h);
    if (pith_cell_is_lstm(a->cell)) {
        const float *c_before = t ? kept_row(a, a->c, t - 1, from, h) : w->c0 + from * h;
        for (size_t r = 0; r < rows; r++) lstm_row_back(w, t, from + r, c_before + r * h);
    } else if (a->cell == PITH_CELL_GRU) {
        for (size_t r = 0; r < rows; r++) gru_row_back(w, t, from + r, before + r * h);
    } else {
        const float *y = w->y + at * h;
        float *g = w->g_gates + at * h;
        for (size_t i = 0; i < rows * h; i++) g[i] = a->cell == PITH_CELL_TANH ? gh[i] * (1 - y[i] * y[i]) : y[i] > 0 ? gh[i] : 0;
    }
    const float *product = (a->cell == PITH_CELL_GRU ? w->g_product : w->g_gates) + at * wide;
    multiply(w, rows, h, wide, product, gh, a->cell == PITH_CELL_GRU);
}

static void backward_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const recurrent_work *w = arg;
    for (size_t t = w->a->len; t-- > 0;) backward_step(w, t, from, to - from);
}

/* The states before each step, [len n, h]. */
static pith_var *states_before(pith_var *y)
{
    const recurrent_attr *a = y->attr;
    static const pith_op op = {"recurrent_before", NULL};
    pith_var *v = pith_op_value(y->tape, &op, NULL, 0, PITH_DIMS(a->len * a->n, a->h), 0);
    size_t step = a->n * a->h;
    if (!v || !v->count) return v;
    memcpy(v->data, y->in[2]->data, step * sizeof(float));
    memcpy(v->data + step, y->data, (a->len - 1) * step * sizeof(float));
    return v;
}

/* By the peepholes: each gate's gradient times the cell it saw, over all steps and rows. */
static pith_var *by_peepholes(const pith_var *y, const pith_var *g)
{
    const recurrent_attr *a = y->attr;
    const pith_var *peep = y->in[a->peep];
    size_t h = a->h, wide = pith_cell_gates(a->cell) * h, sigmoids = wide - 2 * h;
    pith_var *v = pith_tape_fill(y->tape, 0, peep->n_dims, peep->dims);
    for (size_t t = 0; v && t < a->len; t++)
        for (size_t row = 0; row < a->n; row++) {
            const float *gates = g->data + (t * a->n + row) * wide, *c = kept_row(a, a->c, t, row, h);
            const float *before = t ? kept_row(a, a->c, t - 1, row, h) : y->in[3]->data + row * h;
            for (size_t from = 0; from < sigmoids; from += h)
                for (size_t i = 0; i < h; i++) v->data[from + i] += gates[from + i] * before[i];
            for (size_t i = 0; i < h; i++) v->data[sigmoids + i] += gates[wide - h + i] * c[i];
        }
    return v;
}

/* ---- the same, of operations ------------------------------------------------------------------ */

/* One step: the state after h, and the cell after *c. */
static pith_var *step_of(pith_cell cell, pith_var *gates, pith_var *product, pith_var *peep, pith_var *h, pith_var **c)
{
    pith_var *sum = pith_var_add(gates, product), *part[4] = {0};
    if (cell == PITH_CELL_TANH) return pith_var_tanh(sum);
    if (cell == PITH_CELL_RELU) return pith_var_relu(sum);
    size_t wide = h ? h->dims[1] : 0, n = pith_cell_gates(cell);
    for (size_t i = 0; i < n; i++) part[i] = pith_var_slice(sum, 1, i * wide, wide);
    if (pith_cell_is_lstm(cell)) { /* i and f, or i alone, then g and o */
        for (size_t i = 0; peep && i < n - 2; i++) part[i] = pith_var_add(part[i], pith_var_mul(pith_var_slice(peep, 0, i, 1), *c));
        pith_var *kept = n == 4 ? pith_var_mul(pith_var_sigmoid(part[1]), *c) : *c, *o = part[n - 1];
        *c = pith_var_add(kept, pith_var_mul(pith_var_sigmoid(part[0]), pith_var_tanh(part[n - 2])));
        if (peep) o = pith_var_add(o, pith_var_mul(pith_var_slice(peep, 0, n - 2, 1), *c));
        return pith_var_mul(pith_var_sigmoid(o), pith_var_tanh(*c));
    }
    pith_var *z = pith_var_sigmoid(part[1]), *under = pith_var_mul(pith_var_sigmoid(part[0]), pith_var_slice(product, 1, 2 * wide, wide));
    pith_var *new = pith_var_tanh(pith_var_add(pith_var_slice(gates, 1, 2 * wide, wide), under));
    return pith_var_add(new, pith_var_mul(z, pith_var_sub(h, new)));
}

static pith_var *remake(pith_var *y)
{
    const recurrent_attr *a = y->attr;
    pith_var *h = y->in[2], *c = pith_cell_is_lstm(a->cell) ? y->in[3] : NULL;
    pith_var **states = pith_op_attr(y->tape, a->len, sizeof *states);
    size_t wide = pith_cell_gates(a->cell) * a->h;
    for (size_t t = 0; states && t < a->len; t++) {
        pith_var *gates = pith_var_reshape(pith_var_slice(y->in[0], 0, t, 1), PITH_DIMS(a->n, wide)), *product = pith_var_matmul(h, y->in[1], false, true);
        if (a->bias) product = pith_var_add(product, y->in[a->bias]);
        h = step_of(a->cell, gates, product, a->peep ? y->in[a->peep] : NULL, h, &c);
        states[t] = pith_var_reshape(h, PITH_DIMS(1, a->n, a->h));
    }
    return states ? pith_var_concat(states, a->len, 0) : NULL;
}

static void recurrent_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"recurrent_back", NULL};
    if (pith_op_remake(y, gy, remake)) return;
    const recurrent_attr *a = y->attr;
    pith_var *gates = y->in[0], *weights = y->in[1], *h0 = y->in[2], *c0 = pith_cell_is_lstm(a->cell) ? y->in[3] : NULL;
    pith_var *g = pith_op_value(y->tape, &back, NULL, 0, gates->n_dims, gates->dims, 0), *gh = pith_tape_fill(y->tape, 0, h0->n_dims, h0->dims);
    pith_var *gc = c0 ? pith_tape_fill(y->tape, 0, h0->n_dims, h0->dims) : gh;
    pith_var *product = a->cell == PITH_CELL_GRU ? pith_op_value(y->tape, &back, NULL, 0, gates->n_dims, gates->dims, 0) : g;
    if (!g || !gh || !gc || !product) return;
    pith_block *panels = pith_op_take(y->tape, weights->count);
    if (!panels) return;
    lay_panels(weights->data, pith_cell_gates(a->cell) * a->h, a->h, false, pith_op_floats(panels));
    recurrent_work w = {.tape = y->tape, .a = a, .panels = pith_op_floats(panels), .peep = a->peep ? y->in[a->peep]->data : NULL, .h0 = h0->data, .c0 = c0 ? c0->data : NULL, .y = y->data, .gy = gy->data,
                        .g_gates = g->data, .g_product = product->data, .gh = gh->data, .gc = gc->data};
    pith_op_ranges(y->tape, a->n, rows_a_task(y->tape, a->n), backward_rows, &w);
    pith_op_drop(y->tape, panels);
    gx[0] = g;
    size_t wide = pith_cell_gates(a->cell) * a->h;
    pith_var *tall = pith_var_reshape(product, PITH_DIMS(a->len * a->n, wide));
    if (pith_wanted(weights)) gx[1] = pith_var_matmul(tall, states_before(y), true, false);
    gx[2] = gh;
    if (c0) gx[3] = gc;
    if (a->peep && pith_wanted(y->in[a->peep])) gx[a->peep] = by_peepholes(y, g);
    if (a->bias && pith_wanted(y->in[a->bias])) gx[a->bias] = pith_var_sum_to(tall, 1, &wide);
}

/* ---- the operation ---------------------------------------------------------------------------- */

static bool fits(pith_cell cell, const pith_var *gates, const pith_var *w, const pith_var *bias, const pith_var *peep, const pith_var *h0, const pith_var *c0)
{
    if (gates->n_dims != 3 || w->n_dims != 2) return false;
    size_t h = w->dims[1], wide = pith_cell_gates(cell) * h;
    const pith_var *states[] = {h0, c0};
    for (int i = 0; i < 2; i++)
        if (states[i] && (states[i]->n_dims != 2 || states[i]->dims[0] != gates->dims[1] || states[i]->dims[1] != h)) return false;
    return h && w->dims[0] == wide && gates->dims[2] == wide && (!bias || (bias->n_dims == 1 && bias->dims[0] == wide)) && ((!c0 && !peep) || pith_cell_is_lstm(cell)) &&
           (!peep || (peep->n_dims == 2 && peep->dims[0] == pith_cell_gates(cell) - 1 && peep->dims[1] == h));
}

/* What the forward pass keeps. */
static bool take_kept(pith_tape *tape, recurrent_attr *a)
{
    size_t states = a->kept * a->n * a->h; /* no more than the gates have */
    if (n_acts(a->cell) && !(a->acts = pith_op_attr(tape, states, n_acts(a->cell) * sizeof *a->acts))) return false;
    if (!pith_cell_is_lstm(a->cell)) return true;
    a->c = pith_op_attr(tape, states, sizeof *a->c);
    a->tc = a->c ? pith_op_attr(tape, states, sizeof *a->tc) : NULL;
    return a->tc;
}

pith_var *pith_var_recurrent_peep(pith_cell cell, pith_var *gates, pith_var *w, pith_var *bias, pith_var *peep, pith_var *h0, pith_var *c0, pith_var **c_last)
{
    static const pith_op op = {"recurrent", recurrent_backward}, cells = {"recurrent_cells", NULL};
    if (!gates || !w) return NULL;
    pith_tape *tape = gates->tape;
    if (!fits(cell, gates, w, bias, peep, h0, c0))
        return pith_op_fail(tape, PITH_E_SHAPE, "recurrent: %zu gates, %s from the input, weights %s%s%s%s%s%s%s%s%s", pith_cell_gates(cell), PITH_SHAPE(gates), PITH_SHAPE(w), bias ? ", bias " : "",
                            bias ? PITH_SHAPE(bias) : "", peep ? ", peepholes " : "", peep ? PITH_SHAPE(peep) : "", h0 ? ", state " : "", h0 ? PITH_SHAPE(h0) : "", c0 ? ", cell " : "", c0 ? PITH_SHAPE(c0) : "");
    recurrent_attr a = {.cell = cell, .len = gates->dims[0], .n = gates->dims[1], .h = w->dims[1]};
    bool lstm = pith_cell_is_lstm(cell);
    a.kept = pith_recording(tape) ? a.len : 1;
    if (!h0) h0 = pith_tape_fill(tape, 0, PITH_DIMS(a.n, a.h));
    if (!c0 && lstm) c0 = pith_tape_fill(tape, 0, PITH_DIMS(a.n, a.h));
    pith_var *in[6] = {gates, w, h0}, *last = NULL;
    int n_in = 3;
    if (lstm) in[n_in++] = c0;
    if (bias) in[a.bias = n_in++] = bias;
    if (peep) in[a.peep = n_in++] = peep;
    pith_var *y = pith_op_value(tape, &op, in, n_in, PITH_DIMS(a.len, a.n, a.h), sizeof a);
    if (!y || !take_kept(tape, &a)) return NULL;
    memcpy(y->attr, &a, sizeof a);
    if (c_last && lstm && !(last = pith_op_value(tape, &cells, NULL, 0, PITH_DIMS(a.n, a.h), 0))) return NULL;
    size_t wide = pith_cell_gates(cell) * a.h;
    pith_block *panels = pith_op_take(tape, wide * a.h), *scratch = pith_op_take(tape, cell == PITH_CELL_GRU ? a.n * wide : 1);
    if (panels && scratch) {
        lay_panels(w->data, a.h, wide, true, pith_op_floats(panels));
        recurrent_work work = {.tape = tape, .a = y->attr, .gates = gates->data, .panels = pith_op_floats(panels), .bias = bias ? bias->data : NULL, .peep = peep ? peep->data : NULL, .h0 = h0->data,
                               .c0 = c0 ? c0->data : NULL, .states = y->data, .scratch = pith_op_floats(scratch), .c_last = last ? last->data : NULL};
        pith_op_ranges(tape, a.n, rows_a_task(tape, a.n), forward_rows, &work);
        if (last) *c_last = last;
    }
    bool done = panels && scratch;
    pith_op_drop(tape, scratch);
    pith_op_drop(tape, panels);
    return done ? y : NULL;
}

pith_var *pith_var_recurrent(pith_cell cell, pith_var *gates, pith_var *w, pith_var *bias, pith_var *h0, pith_var *c0, pith_var **c_last)
{
    return pith_var_recurrent_peep(cell, gates, w, bias, NULL, h0, c0, c_last);
}
