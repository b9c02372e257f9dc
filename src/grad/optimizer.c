/* What changes the parameters, and how fast. */
#include <math.h>

#include "grad/tape.h"

#define PART ((size_t)16384) /* values of a parameter that one task takes */

typedef struct part {
    size_t param, from, n;
} part;

typedef struct setting {
    float weight_decay, rate_factor;
} setting;

struct pith_optimizer {
    pith_tape *tape;
    pith_optimizer_options options;
    size_t n_params, n_parts;
    part *parts;
    setting *settings;           /* [n_params] */
    float **state[3];            /* [n_params] momentum or first moment, second moment, average; or NULL */
    double *squares;             /* [n_parts] */
    double norm;
    uint64_t n_steps;
    float rate, factor;          /* of the step at work */
};

enum { FIRST, SECOND, AVERAGE };

static bool make_state(pith_optimizer *o, int which)
{
    o->state[which] = pith_calloc(o->tape->ctx, o->n_params, sizeof *o->state[which]);
    for (size_t i = 0; o->state[which] && i < o->n_params; i++) {
        const pith_var *p = o->tape->params[i];
        o->state[which][i] = pith_calloc(o->tape->ctx, p->count, sizeof(float));
        if (!o->state[which][i]) return false;
        if (which == AVERAGE && p->count) memcpy(o->state[which][i], p->data, p->count * sizeof(float));
    }
    return o->state[which] != NULL;
}

static bool make_parts(pith_optimizer *o)
{
    pith_var **params = o->tape->params;
    for (size_t i = 0; i < o->n_params; i++) o->n_parts += PITH_CEIL_DIV(params[i]->count, PART);
    o->parts = pith_array(o->tape->ctx, o->n_parts, sizeof *o->parts);
    o->squares = pith_array(o->tape->ctx, o->n_parts, sizeof *o->squares);
    o->settings = pith_array(o->tape->ctx, o->n_params, sizeof *o->settings);
    if (!o->parts || !o->squares || !o->settings) return false;
    size_t at = 0;
    for (size_t i = 0; i < o->n_params; i++) {
        o->settings[i] = (setting){o->options.weight_decay, 1};
        for (size_t from = 0; from < params[i]->count; from += PART) o->parts[at++] = (part){i, from, PITH_MIN(PART, params[i]->count - from)};
    }
    return true;
}

pith_status pith_optimizer_new(pith_tape *tape, const pith_optimizer_options *options, pith_optimizer **out)
{
    pith_optimizer_options p = *options;
    if (p.kind == PITH_ADAMW && p.beta1 == 0 && p.beta2 == 0 && p.eps == 0) {
        p.beta1 = 0.9f;
        p.beta2 = 0.999f;
        p.eps = 1e-8f;
    }
    bool known = p.kind == PITH_SGD || p.kind == PITH_ADAMW;
    if (!known || !(p.momentum >= 0 && p.momentum < 1 && p.beta1 >= 0 && p.beta1 < 1 && p.beta2 >= 0 && p.beta2 < 1 && p.eps >= 0 && p.ema >= 0 && p.ema < 1 && p.clip_norm >= 0))
        return pith_fail(tape->ctx, PITH_E_ARGUMENT, "optimizer: momentum, betas and ema are in 0..1, eps and clip_norm not below 0");
    pith_optimizer *o = pith_calloc(tape->ctx, 1, sizeof *o);
    if (!o) return PITH_E_MEMORY;
    o->tape = tape;
    o->options = p;
    o->n_params = tape->n_params;
    bool first = p.kind == PITH_ADAMW || p.momentum > 0;
    if (!make_parts(o) || (first && !make_state(o, FIRST)) || (p.kind == PITH_ADAMW && !make_state(o, SECOND)) || (p.ema > 0 && !make_state(o, AVERAGE))) {
        pith_optimizer_free(o);
        return PITH_E_MEMORY;
    }
    *out = o;
    return PITH_OK;
}

void pith_optimizer_free(pith_optimizer *o)
{
    if (!o) return;
    pith_ctx *ctx = o->tape->ctx;
    for (int which = 0; which < 3; which++) {
        for (size_t i = 0; o->state[which] && i < o->n_params; i++) pith_free(ctx, o->state[which][i]);
        pith_free(ctx, o->state[which]);
    }
    pith_free(ctx, o->parts);
    pith_free(ctx, o->squares);
    pith_free(ctx, o->settings);
    pith_free(ctx, o);
}

void pith_optimizer_group(pith_optimizer *o, pith_var *const *params, size_t n, float weight_decay, float rate_factor)
{
    for (size_t i = 0; i < o->n_params; i++)
        for (size_t k = 0; k < n; k++)
            if (o->tape->params[i] == params[k]) o->settings[i] = (setting){weight_decay, rate_factor};
}

static void measure(void *arg, size_t i, int worker)
{
    (void)worker;
    pith_optimizer *o = arg;
    part p = o->parts[i];
    const float *g = o->tape->params[p.param]->grad;
    o->squares[i] = g ? (double)o->tape->loops->dot(g + p.from, g + p.from, p.n) : 0;
}

static void change(void *arg, size_t i, int worker)
{
    (void)worker;
    const pith_optimizer *o = arg;
    const pith_optimizer_options *p = &o->options;
    part at = o->parts[i];
    const pith_var *v = o->tape->params[at.param];
    if (!v->grad) return;
    setting s = o->settings[at.param];
    float *w = v->data + at.from, rate = o->rate * s.rate_factor;
    const float *g = v->grad + at.from;
    float *state[3];
    for (int k = 0; k < 3; k++) state[k] = o->state[k] ? o->state[k][at.param] + at.from : NULL;
    if (p->kind == PITH_SGD) {
        o->tape->loops->sgd(w, g, state[FIRST], o->factor, p->momentum, p->nesterov, rate, s.weight_decay, at.n);
    } else {
        double t = (double)o->n_steps;
        float scale = rate / (float)(1 - pow((double)p->beta1, t)), root = (float)sqrt(1 - pow((double)p->beta2, t));
        o->tape->loops->adam(w, g, state[FIRST], state[SECOND], o->factor, p->beta1, p->beta2, scale, root, p->eps, 1 - rate * s.weight_decay, at.n);
    }
    if (state[AVERAGE]) o->tape->loops->blend(state[AVERAGE], w, 1 - p->ema, at.n);
}

static pith_status name_nonfinite(const pith_optimizer *o)
{
    for (size_t i = 0; i < o->n_parts; i++)
        if (!isfinite(o->squares[i])) return pith_fail(o->tape->ctx, PITH_E_NONFINITE, "optimizer: the gradient of %s is not finite, or too large to be squared", o->tape->params[o->parts[i].param]->name);
    return pith_fail(o->tape->ctx, PITH_E_NONFINITE, "optimizer: the gradients' norm is not finite");
}

pith_status pith_optimizer_step(pith_optimizer *o, float rate)
{
    pith_ctx *ctx = o->tape->ctx;
    pith_parallel(ctx, o->n_parts, measure, o);
    double sum = 0;
    for (size_t i = 0; i < o->n_parts; i++) sum += o->squares[i];
    o->norm = sqrt(sum);
    if (!isfinite(o->norm)) return name_nonfinite(o);
    o->rate = rate;
    o->factor = o->options.clip_norm > 0 && o->norm > (double)o->options.clip_norm ? (float)((double)o->options.clip_norm / o->norm) : 1;
    o->n_steps++;
    pith_parallel(ctx, o->n_parts, change, o);
    pith_tape_zero_grad(o->tape);
    return PITH_OK;
}

double pith_optimizer_norm(const pith_optimizer *o) { return o->norm; }
uint64_t *pith_optimizer_steps(pith_optimizer *o) { return &o->n_steps; }

float *pith_optimizer_state(pith_optimizer *o, size_t i_param, int which)
{
    return which >= 0 && which < 3 && i_param < o->n_params && o->state[which] ? o->state[which][i_param] : NULL;
}

void pith_optimizer_swap_ema(pith_optimizer *o)
{
    for (size_t i = 0; o->state[AVERAGE] && i < o->n_params; i++) {
        const pith_var *p = o->tape->params[i];
        for (size_t k = 0; k < p->count; k++) {
            float w = p->data[k];
            p->data[k] = o->state[AVERAGE][i][k];
            o->state[AVERAGE][i][k] = w;
        }
    }
}

float pith_schedule_rate(const pith_schedule *s, uint64_t step)
{
    if (step < s->n_warmup) return s->rate * (float)((double)(step + 1) / (double)s->n_warmup);
    if (s->kind == PITH_RATE_CONSTANT) return s->rate;
    if (step >= s->n_steps) return s->last_rate;
    double t = (double)(step - s->n_warmup) / (double)(s->n_steps - s->n_warmup);
    double left = s->kind == PITH_RATE_LINEAR ? 1 - t : (1 + cos(3.141592653589793 * t)) / 2;
    return (float)((double)s->last_rate + ((double)s->rate - (double)s->last_rate) * left);
}
