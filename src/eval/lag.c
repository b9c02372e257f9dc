/* Gradients by states of before. */
#include "eval/lag.h"

#include <math.h>

#include "eval/radius.h"

enum { ROWS = 16, STEPS = PITH_LAG_MAX + 1 };
#define INPUT 0.1f                 /* standard deviation of what comes from the input */

typedef struct probe {
    const pith_lag_options *o;
    pith_tape *tape;
    pith_var *w, *bias, *h, *c;    /* h, c [ROWS, width]: the state before the last steps, as parameters */
    float *input, *weigh;          /* [STEPS, ROWS, wide], [ROWS, width] */
    size_t wide;
    bool lstm;
} probe;

/* Length of the gradient by the state of `lag` steps before the end. */
static pith_status by_state(const probe *p, size_t lag, double *norm)
{
    size_t width = p->o->width, before = STEPS - lag;
    pith_var *c = NULL, *g[2], *state[2] = {p->h, p->c};
    pith_tape_step(p->tape, 0);
    pith_tape_record(p->tape, false);
    const pith_var *y = pith_var_recurrent(p->o->cell, pith_tape_input(p->tape, p->input, PITH_DIMS(before, ROWS, p->wide)), p->w, p->bias, NULL, NULL, &c);
    PITH_TRY(pith_tape_status(p->tape));
    memcpy(p->h->data, y->data + (before - 1) * ROWS * width, p->h->count * sizeof(float));
    if (c) memcpy(p->c->data, c->data, p->c->count * sizeof(float));
    pith_tape_record(p->tape, true);
    pith_var *rest = pith_tape_input(p->tape, p->input + before * ROWS * p->wide, PITH_DIMS(lag, ROWS, p->wide));
    pith_var *h = pith_var_recurrent(p->o->cell, rest, p->w, p->bias, p->h, p->lstm ? p->c : NULL, NULL);
    pith_var *weigh = pith_tape_input(p->tape, p->weigh, PITH_DIMS(1, ROWS, width)), *sum = pith_var_sum(pith_var_mul(pith_var_slice(h, 0, lag - 1, 1), weigh), PITH_ALL_AXES);
    PITH_TRY(pith_gradients(p->tape, sum, NULL, state, p->lstm ? 2 : 1, 0, g));
    double squares = 0;
    for (int i = 0; i <= p->lstm; i++)
        for (size_t k = 0; k < g[i]->count; k++) squares += (double)g[i]->data[k] * (double)g[i]->data[k];
    *norm = sqrt(squares);
    return PITH_OK;
}

static void draw(pith_rng *rng, float *x, size_t n, float size)
{
    for (size_t i = 0; i < n; i++) x[i] = size * pith_rng_normal(rng);
}

/* One network: its logarithms are added to sums [n]. */
static pith_status add_draw(const probe *p, uint64_t index, const size_t *lags, size_t n, double *sums)
{
    pith_rng rng = {p->o->seed, ((uint64_t)2 << 32) + index, 0};
    size_t width = p->o->width;
    double last = 0, norm;
    draw(&rng, p->w->data, p->w->count, 1 / sqrtf((float)width));
    draw(&rng, p->input, STEPS * ROWS * p->wide, INPUT);
    draw(&rng, p->weigh, ROWS * width, 1);
    for (size_t i = width; p->o->cell == PITH_CELL_LSTM && i < 2 * width; i++) p->bias->data[i] = p->o->forget_bias;
    if (!p->lstm) PITH_TRY(pith_radius_set(pith_tape_ctx(p->tape), p->w->data, width, p->o->radius));
    for (size_t i = 0; i < ROWS * width; i++) last += (double)p->weigh[i] * (double)p->weigh[i];
    for (size_t i = 0; i < n; i++) {
        PITH_TRY(by_state(p, lags[i], &norm));
        sums[i] += log(fmax(norm, 1e-300) / sqrt(last));
    }
    return PITH_OK;
}

pith_status pith_lag_gradients(pith_ctx *ctx, const pith_lag_options *o, const size_t *lags, size_t n, double *shares)
{
    probe p = {.o = o, .wide = o->width * pith_cell_gates(o->cell), .lstm = pith_cell_is_lstm(o->cell)};
    if ((!p.lstm && o->cell != PITH_CELL_TANH) || !o->width || o->width > 4096 || !o->n_draws) return pith_fail(ctx, PITH_E_ARGUMENT, "gradients over lags are of tanh cells and LSTMs of 1 to 4096 wide, at least one draw");
    for (size_t i = 0; i < n; i++)
        if (lags[i] < 1 || lags[i] > PITH_LAG_MAX) return pith_fail(ctx, PITH_E_ARGUMENT, "a lag of %zu; 1 to %d can be measured", lags[i], PITH_LAG_MAX);
    size_t n_input = STEPS * ROWS * p.wide, n_state = ROWS * o->width;
    PITH_TRY(pith_tape_new(ctx, o->seed, &p.tape));
    pith_status status = PITH_E_MEMORY;
    p.w = pith_tape_param(p.tape, "w", PITH_DIMS(p.wide, o->width));
    p.bias = pith_tape_param(p.tape, "bias", PITH_DIMS(p.wide));
    p.h = pith_tape_param(p.tape, "h", PITH_DIMS(ROWS, o->width));
    p.c = pith_tape_param(p.tape, "c", PITH_DIMS(ROWS, o->width));
    if (p.w && p.bias && p.h && p.c && (p.input = pith_array(ctx, n_input + n_state, sizeof *p.input))) status = PITH_OK;
    p.weigh = p.input ? p.input + n_input : NULL;
    for (size_t i = 0; i < n; i++) shares[i] = 0;
    for (uint64_t k = 0; status == PITH_OK && k < o->n_draws; k++) status = add_draw(&p, k, lags, n, shares);
    for (size_t i = 0; i < n; i++) shares[i] = exp(shares[i] / (double)o->n_draws);
    pith_free(ctx, p.input);
    pith_tape_free(p.tape);
    return status;
}
