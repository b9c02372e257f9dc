/* What changes the parameters, and how fast. */
#include <math.h>

#include "grad/precondition.h"

#define PART ((size_t)16384) /* values of a parameter that one task takes */

typedef struct part {
    size_t param, from, n;
} part;

typedef enum rule { BY_VALUE, ADAFACTOR, ORTHOGONAL } rule; /* BY_VALUE: each value for itself, as the kind says */

typedef struct setting {
    float weight_decay, rate_factor;
    rule rule;
    size_t n_rows, n_cols;       /* of the matrix; n_cols 0: none */
    float scale;                 /* of the update that stands in the gradient's place (not BY_VALUE) */
} setting;

struct pith_optimizer {
    pith_tape *tape;
    pith_optimizer_options options;
    size_t n_params, n_parts;
    pith_var **params;           /* [n_params] */
    part *parts;
    setting *settings;           /* [n_params] */
    float **state[PITH_N_STATES]; /* [n_params] momentum or first moment, second moment, average; each may be NULL */
    double *squares;             /* [n_parts] */
    double norm;
    uint64_t n_steps;
    float rate, factor;          /* of the step at work */
};

enum { FIRST, SECOND, AVERAGE };

static size_t state_count(const pith_optimizer *o, size_t i, int which)
{
    const setting *s = &o->settings[i];
    return which == SECOND && s->rule == ADAFACTOR && s->n_cols ? s->n_rows + s->n_cols : o->params[i]->count;
}

static bool has_state(const pith_optimizer *o, size_t i, int which)
{
    const pith_optimizer_options *p = &o->options;
    if (which == AVERAGE) return p->ema > 0;
    switch (p->kind) {
    case PITH_SGD: return which == FIRST && p->momentum > 0;
    case PITH_ADAMW: return true;
    case PITH_ADAFACTOR: return which == SECOND || p->beta1 > 0;
    case PITH_MUON: return which == FIRST || o->settings[i].rule == BY_VALUE;
    }
    return false;
}

static bool make_state(pith_optimizer *o, size_t i, int which)
{
    size_t count = state_count(o, i, which);
    float *x = pith_calloc(o->tape->ctx, count, sizeof *x);
    if (x && which == AVERAGE && count) memcpy(x, o->params[i]->data, count * sizeof *x);
    o->state[which][i] = x;
    return x != NULL;
}

static setting setting_of(const pith_optimizer_options *options, const pith_var *p)
{
    setting s = {.weight_decay = options->weight_decay, .rate_factor = 1};
    if (p->n_dims >= 2 && p->count) s.n_rows = p->dims[0], s.n_cols = p->count / p->dims[0];
    if (options->kind == PITH_ADAFACTOR) s.rule = ADAFACTOR;
    if (options->kind == PITH_MUON && s.n_cols) s.rule = ORTHOGONAL;
    return s;
}

static bool make_parts(pith_optimizer *o)
{
    for (size_t i = 0; i < o->n_params; i++) o->n_parts += PITH_CEIL_DIV(o->params[i]->count, PART);
    o->parts = pith_array(o->tape->ctx, o->n_parts, sizeof *o->parts);
    o->squares = pith_array(o->tape->ctx, o->n_parts, sizeof *o->squares);
    if (!o->parts || !o->squares) return false;
    size_t at = 0;
    for (size_t i = 0; i < o->n_params; i++)
        for (size_t from = 0; from < o->params[i]->count; from += PART) o->parts[at++] = (part){i, from, PITH_MIN(PART, o->params[i]->count - from)};
    return true;
}

static bool make(pith_optimizer *o, pith_var *const *params)
{
    pith_ctx *ctx = o->tape->ctx;
    o->params = pith_array(ctx, o->n_params, sizeof(pith_var *));
    o->settings = pith_array(ctx, o->n_params, sizeof *o->settings);
    bool ok = o->params && o->settings;
    for (int which = 0; which < PITH_N_STATES; which++) {
        o->state[which] = pith_calloc(ctx, o->n_params, sizeof(float *));
        ok = ok && o->state[which];
    }
    for (size_t i = 0; ok && i < o->n_params; i++) {
        o->params[i] = params[i];
        o->settings[i] = setting_of(&o->options, params[i]);
        for (int which = 0; ok && which < PITH_N_STATES; which++) ok = !has_state(o, i, which) || make_state(o, i, which);
    }
    return ok && make_parts(o);
}

static bool within_unit(float x) { return x >= 0 && x < 1; }

pith_status pith_optimizer_new_for(pith_tape *tape, const pith_optimizer_options *options, pith_var *const *params, size_t n, pith_optimizer **out)
{
    pith_optimizer_options p = *options;
    if ((p.kind == PITH_ADAMW || p.kind == PITH_MUON) && p.beta1 == 0 && p.beta2 == 0 && p.eps == 0) {
        p.beta1 = 0.9f;
        p.beta2 = 0.999f;
        p.eps = 1e-8f;
    }
    if (p.kind == PITH_MUON && p.momentum == 0) p.momentum = 0.95f;
    if ((unsigned)p.kind > PITH_MUON || !within_unit(p.momentum) || !within_unit(p.beta1) || !within_unit(p.beta2) || !within_unit(p.ema) || !(p.eps >= 0) || !(p.clip_norm >= 0) || !(p.update_clip >= 0))
        return pith_fail(tape->ctx, PITH_E_ARGUMENT, "optimizer: momentum, betas and ema are in 0..1, eps, clip_norm and update_clip not below 0");
    pith_optimizer *o = pith_calloc(tape->ctx, 1, sizeof *o);
    if (!o) return PITH_E_MEMORY;
    o->tape = tape;
    o->options = p;
    o->n_params = n;
    if (!make(o, params)) {
        pith_optimizer_free(o);
        return PITH_E_MEMORY;
    }
    *out = o;
    return PITH_OK;
}

pith_status pith_optimizer_new(pith_tape *tape, const pith_optimizer_options *options, pith_optimizer **out)
{
    return pith_optimizer_new_for(tape, options, tape->params, tape->n_params, out);
}

void pith_optimizer_free(pith_optimizer *o)
{
    if (!o) return;
    pith_ctx *ctx = o->tape->ctx;
    for (int which = 0; which < PITH_N_STATES; which++) {
        for (size_t i = 0; o->state[which] && i < o->n_params; i++) pith_free(ctx, o->state[which][i]);
        pith_free(ctx, o->state[which]);
    }
    pith_free(ctx, o->params);
    pith_free(ctx, o->parts);
    pith_free(ctx, o->squares);
    pith_free(ctx, o->settings);
    pith_free(ctx, o);
}

static setting *find(pith_optimizer *o, const pith_var *param, size_t *at)
{
    for (size_t i = 0; i < o->n_params; i++)
        if (o->params[i] == param) return &o->settings[*at = i];
    return NULL;
}

void pith_optimizer_group(pith_optimizer *o, pith_var *const *params, size_t n, float weight_decay, float rate_factor)
{
    for (size_t k = 0; k < n; k++) {
        size_t i;
        setting *s = find(o, params[k], &i);
        if (!s) continue;
        s->weight_decay = weight_decay;
        s->rate_factor = rate_factor;
    }
}

pith_status pith_optimizer_plain(pith_optimizer *o, pith_var *const *params, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        size_t i;
        setting *s = find(o, params[k], &i);
        if (!s || s->rule != ORTHOGONAL) continue;
        s->rule = BY_VALUE;
        if (!make_state(o, i, SECOND)) return PITH_E_MEMORY;
    }
    return PITH_OK;
}

static void measure(void *arg, size_t i, int worker)
{
    (void)worker;
    pith_optimizer *o = arg;
    part p = o->parts[i];
    const float *g = o->params[p.param]->grad;
    o->squares[i] = g ? (double)o->tape->loops->dot(g + p.from, g + p.from, p.n) : 0;
}

static void change(void *arg, size_t i, int worker)
{
    (void)worker;
    const pith_optimizer *o = arg;
    const pith_optimizer_options *p = &o->options;
    const pith_loops *loops = o->tape->loops;
    part at = o->parts[i];
    const pith_var *v = o->params[at.param];
    if (!v->grad) return;
    setting s = o->settings[at.param];
    float *w = v->data + at.from, rate = o->rate * s.rate_factor;
    const float *g = v->grad + at.from;
    float *state[PITH_N_STATES];
    for (int k = 0; k < PITH_N_STATES; k++) state[k] = o->state[k][at.param] ? o->state[k][at.param] + at.from : NULL;
    if (s.rule != BY_VALUE) {
        /* the gradient's place holds the update */
        loops->sgd(w, g, NULL, s.scale, 0, false, rate, s.weight_decay, at.n);
    } else if (p->kind == PITH_SGD) {
        loops->sgd(w, g, state[FIRST], o->factor, p->momentum, p->nesterov, rate, s.weight_decay, at.n);
    } else {
        double t = (double)o->n_steps;
        float scale = rate / (float)(1 - pow((double)p->beta1, t)), root = (float)sqrt(1 - pow((double)p->beta2, t));
        loops->adam(w, g, state[FIRST], state[SECOND], o->factor, p->beta1, p->beta2, scale, root, p->eps, 1 - rate * s.weight_decay, at.n);
    }
    if (state[AVERAGE]) loops->blend(state[AVERAGE], w, 1 - p->ema, at.n);
}

/* Put the update in the gradient's place, for the rules that look at a parameter as a whole. */
static bool precondition(pith_optimizer *o, size_t i)
{
    const pith_optimizer_options *p = &o->options;
    const pith_var *v = o->params[i];
    setting *s = &o->settings[i];
    if (!v->grad || !v->count || s->rule == BY_VALUE) return true;
    float *first = o->state[FIRST][i];
    if (s->rule == ORTHOGONAL) {
        s->scale = 0.2f * sqrtf((float)PITH_MAX(s->n_rows, s->n_cols));
        return pith_orthogonal_update(o->tape, v->grad, first, s->n_rows, s->n_cols, p->momentum, o->factor);
    }
    s->scale = p->relative ? fmaxf(1e-3f, (float)sqrt(pith_mean_square(o->tape, v->data, v->count))) : 1;
    float beta2 = (float)(1 - pow((double)o->n_steps, -0.8));
    pith_adafactor_update(o->tape, v->grad, first, o->state[SECOND][i], s->n_cols ? s->n_rows : 1, s->n_cols ? s->n_cols : v->count, s->n_cols > 0, p->beta1, beta2, p->update_clip, o->factor);
    return true;
}

static pith_status name_nonfinite(const pith_optimizer *o)
{
    for (size_t i = 0; i < o->n_parts; i++)
        if (!isfinite(o->squares[i])) return pith_fail(o->tape->ctx, PITH_E_NONFINITE, "optimizer: the gradient of %s is not finite, or too large to be squared", o->params[o->parts[i].param]->name);
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
    for (size_t i = 0; i < o->n_params; i++)
        if (!precondition(o, i)) return PITH_E_MEMORY;
    pith_parallel(ctx, o->n_parts, change, o);
    pith_tape_zero_grad(o->tape);
    return PITH_OK;
}

double pith_optimizer_norm(const pith_optimizer *o) { return o->norm; }
uint64_t *pith_optimizer_steps(pith_optimizer *o) { return &o->n_steps; }

pith_var *const *pith_optimizer_params(const pith_optimizer *o, size_t *n)
{
    *n = o->n_params;
    return o->params;
}

float *pith_optimizer_state(pith_optimizer *o, size_t i_param, int which, size_t *count)
{
    if (which < 0 || which >= PITH_N_STATES || i_param >= o->n_params || !o->state[which][i_param]) return NULL;
    *count = state_count(o, i_param, which);
    return o->state[which][i_param];
}

void pith_optimizer_swap_ema(pith_optimizer *o)
{
    for (size_t i = 0; i < o->n_params; i++) {
        const pith_var *p = o->params[i];
        float *average = o->state[AVERAGE][i];
        for (size_t k = 0; average && k < p->count; k++) {
            float w = p->data[k];
            p->data[k] = average[k];
            average[k] = w;
        }
    }
}

float pith_schedule_rate(const pith_schedule *s, uint64_t step)
{
    if (step < s->n_warmup) return s->rate * (float)((double)(step + 1) / (double)s->n_warmup);
    if (s->kind == PITH_RATE_CONSTANT) return s->rate;
    if (s->kind == PITH_RATE_ROOT) return (float)((double)s->rate * sqrt((double)PITH_MAX(s->n_warmup, 1u) / (double)(step + 1)));
    if (step >= s->n_steps) return s->last_rate;
    double t = (double)(step - s->n_warmup) / (double)(s->n_steps - s->n_warmup);
    double left = s->kind == PITH_RATE_LINEAR ? 1 - t : (1 + cos(3.141592653589793 * t)) / 2;
    return (float)((double)s->last_rate + ((double)s->rate - (double)s->last_rate) * left);
}
