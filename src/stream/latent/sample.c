/* From noise to data and back. */
#include "stream/latent/sample.h"

#include <math.h>

typedef struct walk {
    const pith_diffusion *d;
    const pith_denoiser *net;
    const pith_sampling *o;
    double *t;                    /* [n items] one level for all, as networks are asked */
    size_t n;
} walk;

static bool estimate(const walk *w, pith_var *x, double level, pith_var **z, pith_var **e)
{
    for (size_t i = 0; i < w->n; i++) w->t[i] = level;
    return pith_diffusion_estimate(w->d, w->net, x, w->t, w->o->guidance, z, e);
}

/* Deviation of the noise that is drawn again: of what lies between the levels, given the data (arXiv:2010.02502, eq. 16, for
 * any signal and noise). */
static double drawn_again(const pith_level *from, const pith_level *to, double eta)
{
    double ratio = to->signal > 0 ? from->signal / to->signal : 0, between = from->noise * from->noise - ratio * ratio * to->noise * to->noise;
    return from->noise > 0 ? eta * to->noise / from->noise * sqrt(PITH_MAX(between, 0)) : 0;
}

static pith_var *scaled_sum(pith_var *z, double of_z, pith_var *e, double of_e)
{
    return pith_var_add(pith_var_scale(z, (float)of_z), pith_var_scale(e, (float)of_e));
}

static pith_var *step(const walk *w, pith_var *x, pith_sample_step *at)
{
    const pith_level from = pith_diffusion_level(w->d, at->from), to = pith_diffusion_level(w->d, at->to);
    double g = drawn_again(&from, &to, w->o->eta);
    if (!estimate(w, x, at->from, &at->z, &at->e)) return NULL;
    pith_var *y = scaled_sum(at->z, to.signal, at->e, sqrt(PITH_MAX(to.noise * to.noise - g * g, 0))), *z, *e;
    if (g > 0) return scaled_sum(y, 1, pith_tape_normal(x->tape, x->n_dims, x->dims), g);
    if (!w->o->heun || to.noise == 0) return y;
    if (!estimate(w, y, at->to, &z, &e)) return NULL;
    double half_signal = (to.signal - from.signal) / 2, half_noise = (to.noise - from.noise) / 2;
    return pith_var_add(x, scaled_sum(pith_var_add(at->z, z), half_signal, pith_var_add(at->e, e), half_noise));
}

pith_var *pith_diffusion_walk(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *x, const pith_sampling *o)
{
    if (!x) return NULL;
    pith_tape *tape = x->tape;
    if (!x->n_dims) return pith_op_fail(tape, PITH_E_SHAPE, "sampling: one number; items [n, ..] are needed");
    if (!o->n_steps || !(o->eta >= 0 && o->eta <= 1) || (o->heun && o->eta > 0))
        return pith_op_fail(tape, PITH_E_ARGUMENT, "sampling: %zu steps with eta %g%s; at least one step, eta in 0..1, and 0 with Heun's method", o->n_steps, o->eta, o->heun ? " and Heun's method" : "");
    walk w = {.d = diffusion, .net = net, .o = o, .n = x->dims[0], .t = pith_op_attr(tape, x->dims[0], sizeof(double))};
    if (!w.t) return NULL;
    bool records = pith_recording(tape);
    const pith_scope scope = pith_scope_begin(tape);
    for (size_t i = 0; i < o->n_steps && x; i++) {
        pith_sample_step at = {.i = i, .n = o->n_steps, .from = o->levels ? o->levels[i] : pith_diffusion_step(diffusion, o->n_steps, i), .to = o->levels ? o->levels[i + 1] : pith_diffusion_step(diffusion, o->n_steps, i + 1)};
        x = at.x = step(&w, x, &at);
        if (x && o->hook) x = o->hook(o->user, &at);
        if (!records) pith_scope_end(tape, scope, &x, x ? 1 : 0); /* all since the walk began, but x */
    }
    return x;
}

pith_var *pith_diffusion_sample(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *noise, const pith_sampling *o)
{
    pith_sampling usual = *o;
    usual.levels = NULL;
    double prior = pith_diffusion_prior(diffusion);
    return pith_diffusion_walk(diffusion, net, prior == 1 ? noise : pith_var_scale(noise, (float)prior), &usual);
}

pith_var *pith_diffusion_invert(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *z, const pith_sampling *o)
{
    const pith_diffusion_options *d = pith_diffusion_settings(diffusion);
    if (!z) return NULL;
    if (o->eta > 0) return pith_op_fail(z->tape, PITH_E_ARGUMENT, "inversion: eta is %g; only a way without drawn noise (0) can be gone back", o->eta);
    if (d->kind == PITH_DIFFUSION_STEPS && d->target == PITH_TARGET_DATA)
        return pith_op_fail(z->tape, PITH_E_ARGUMENT, "inversion: a network that predicts data says nothing of the noise in clean data; use one of noise or velocity");
    pith_sampling back = *o;
    size_t n_levels;
    if (!pith_add(o->n_steps, 1, &n_levels)) return pith_op_fail(z->tape, PITH_E_LIMIT, "inversion: %zu steps", o->n_steps);
    double *levels = pith_op_attr(z->tape, n_levels, sizeof *levels);
    if (!levels) return NULL;
    for (size_t i = 0; i < n_levels; i++) levels[i] = pith_diffusion_step(diffusion, o->n_steps, o->n_steps - i);
    back.levels = levels;
    double prior = pith_diffusion_prior(diffusion);
    pith_var *x = pith_diffusion_walk(diffusion, net, z, &back);
    return prior == 1 ? x : pith_var_scale(x, (float)(1 / prior));
}
