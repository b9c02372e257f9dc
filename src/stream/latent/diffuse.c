/* Levels of noise, and what a network's answer says at each. */
#include "stream/latent/diffuse.h"

#include <math.h>

struct pith_diffusion {
    pith_ctx *ctx;
    pith_diffusion_options o;
    double *signal;               /* STEPS: sqrt(a_t), [n_levels] */
};

pith_diffusion_options pith_diffusion_usual(pith_diffusion_kind kind)
{
    switch (kind) {
    case PITH_DIFFUSION_EDM: return (pith_diffusion_options){.kind = kind, .data_std = 0.5, .noise_min = 0.002, .noise_max = 80, .draw_mean = -1.2, .draw_std = 1.2};
    case PITH_DIFFUSION_FLOW: return (pith_diffusion_options){.kind = kind, .draw_std = 1};
    default: return (pith_diffusion_options){.kind = PITH_DIFFUSION_STEPS, .n_levels = 1000};
    }
}

/* ---- making ----------------------------------------------------------------------------------- */

static pith_status check(pith_ctx *ctx, const pith_diffusion_options *o)
{
    switch (o->kind) {
    case PITH_DIFFUSION_STEPS:
        if (o->n_levels < 2) return pith_fail(ctx, PITH_E_ARGUMENT, "diffusion: %zu levels; at least 2 are needed", o->n_levels);
        if (o->zero_snr && o->target == PITH_TARGET_NOISE)
            return pith_fail(ctx, PITH_E_ARGUMENT, "diffusion: where the last level is noise alone, a network that predicts it says nothing of the data; ask for velocity or data");
        return PITH_OK;
    case PITH_DIFFUSION_EDM:
        if (o->data_std > 0 && o->noise_min > 0 && o->noise_max > o->noise_min && o->draw_std > 0) return PITH_OK;
        return pith_fail(ctx, PITH_E_ARGUMENT, "diffusion: data of %g, levels %g to %g drawn with a spread of %g; all must be more than 0, and rise", o->data_std, o->noise_min, o->noise_max, o->draw_std);
    case PITH_DIFFUSION_FLOW:
        if (o->draw_std > 0) return PITH_OK;
        return pith_fail(ctx, PITH_E_ARGUMENT, "diffusion: levels drawn with a spread of %g; it must be more than 0", o->draw_std);
    }
    return pith_fail(ctx, PITH_E_ARGUMENT, "diffusion: no kind %d", (int)o->kind);
}

/* sqrt(a_t); with zero_snr shifted and stretched, so that the first stays and the last is 0. */
static void fill_signal(const pith_diffusion_options *o, double *signal)
{
    const double from = sqrt(0.00085), to = sqrt(0.012);
    size_t last = o->n_levels - 1;
    double product = 1;
    for (size_t t = 0; t <= last; t++) {
        double root = from + (to - from) * (double)t / (double)last;
        product *= 1 - root * root;
        signal[t] = sqrt(product);
    }
    if (!o->zero_snr) return;
    double first = signal[0], end = signal[last];
    for (size_t t = 0; t <= last; t++) signal[t] = (signal[t] - end) * first / (first - end);
}

pith_status pith_diffusion_new(pith_ctx *ctx, const pith_diffusion_options *options, pith_diffusion **diffusion)
{
    PITH_TRY(check(ctx, options));
    pith_diffusion *d = pith_calloc(ctx, 1, sizeof *d);
    if (!d) return PITH_E_MEMORY;
    *d = (pith_diffusion){.ctx = ctx, .o = *options};
    if (options->kind == PITH_DIFFUSION_STEPS) {
        if (!(d->signal = pith_array(ctx, options->n_levels, sizeof *d->signal))) {
            pith_free(ctx, d);
            return PITH_E_MEMORY;
        }
        fill_signal(options, d->signal);
    }
    *diffusion = d;
    return PITH_OK;
}

void pith_diffusion_free(pith_diffusion *diffusion)
{
    if (!diffusion) return;
    pith_free(diffusion->ctx, diffusion->signal);
    pith_free(diffusion->ctx, diffusion);
}

const pith_diffusion_options *pith_diffusion_settings(const pith_diffusion *diffusion) { return &diffusion->o; }

/* ---- levels ----------------------------------------------------------------------------------- */

static pith_level level_of_steps(const pith_diffusion *d, double t)
{
    double at = PITH_MIN(PITH_MAX(nearbyint(t), -1), (double)(d->o.n_levels - 1));
    double s = at < 0 ? 1 : d->signal[(size_t)at], n = sqrt(1 - s * s);
    pith_level l = {.signal = s, .noise = n, .input = 1, .time = (float)PITH_MAX(at, 0)};
    switch (d->o.target) {
    case PITH_TARGET_NOISE:
        l.y_of_e = 1;
        l.z_of_x = 1 / s, l.z_of_y = -n / s;
        l.e_of_y = 1;
        break;
    case PITH_TARGET_VELOCITY:
        l.y_of_z = -n, l.y_of_e = s;
        l.z_of_x = s, l.z_of_y = -n;
        l.e_of_x = n, l.e_of_y = s;
        break;
    case PITH_TARGET_DATA:
        l.y_of_z = 1;
        l.z_of_y = 1;
        if (n > 0) l.e_of_x = 1 / n, l.e_of_y = -s / n;
        break;
    }
    return l;
}

/* D(x) = d2 / (s2 + d2) x + s d / sqrt(s2 + d2) F; the noise is (x - D) / s, in which s cancels. */
static pith_level level_of_edm(const pith_diffusion *d, double t)
{
    double s = PITH_MAX(t, 0), data = d->o.data_std, both = s * s + data * data, root = sqrt(both);
    return (pith_level){.signal = 1, .noise = s, .input = 1 / root, .time = (float)(250 * log(PITH_MAX(s, d->o.noise_min))),
                        .z_of_x = data * data / both, .z_of_y = s * data / root, .e_of_x = s / both, .e_of_y = -data / root,
                        .y_of_z = s / (data * root), .y_of_e = -data / root};
}

static pith_level level_of_flow(double t)
{
    t = PITH_MIN(PITH_MAX(t, 0), 1);
    return (pith_level){.signal = 1 - t, .noise = t, .input = 1, .time = (float)(1000 * t), .z_of_x = 1, .z_of_y = -t, .e_of_x = 1, .e_of_y = 1 - t, .y_of_z = -1, .y_of_e = 1};
}

pith_level pith_diffusion_level(const pith_diffusion *diffusion, double t)
{
    switch (diffusion->o.kind) {
    case PITH_DIFFUSION_EDM: return level_of_edm(diffusion, t);
    case PITH_DIFFUSION_FLOW: return level_of_flow(t);
    default: return level_of_steps(diffusion, t);
    }
}

double pith_diffusion_prior(const pith_diffusion *diffusion) { return diffusion->o.kind == PITH_DIFFUSION_EDM ? diffusion->o.noise_max : 1; }

double pith_diffusion_step(const pith_diffusion *diffusion, size_t n, size_t i)
{
    const pith_diffusion_options *o = &diffusion->o;
    double left = n ? (double)(n - PITH_MIN(i, n)) / (double)n : 0;
    if (o->kind == PITH_DIFFUSION_STEPS) return nearbyint((double)o->n_levels * left) - 1;
    if (o->kind == PITH_DIFFUSION_FLOW) return left;
    if (i >= n) return 0;
    double from = pow(o->noise_max, 1.0 / 7), to = pow(o->noise_min, 1.0 / 7);
    return pow(n > 1 ? from + (to - from) * (double)i / (double)(n - 1) : from, 7);
}

/* The normal distribution's quantile: Newton's method on its integral, from 0, by steps that are not too long. */
static double normal_quantile(double u)
{
    double x = 0;
    u = PITH_MIN(PITH_MAX(u, 1e-12), 1 - 1e-12);
    for (int i = 0; i < 100; i++) {
        double error = 0.5 * erfc(-x * M_SQRT1_2) - u, step = error / (exp(-0.5 * x * x) / sqrt(2 * M_PI));
        step = PITH_MIN(PITH_MAX(step, -0.5), 0.5);
        x -= step;
        if (fabs(step) < 1e-13) break;
    }
    return x;
}

double pith_diffusion_quantile(const pith_diffusion *diffusion, double u)
{
    const pith_diffusion_options *o = &diffusion->o;
    if (o->kind == PITH_DIFFUSION_STEPS) return PITH_MIN(floor(u * (double)o->n_levels), (double)(o->n_levels - 1));
    double drawn = o->draw_mean + o->draw_std * normal_quantile(u);
    return o->kind == PITH_DIFFUSION_EDM ? exp(drawn) : 1 / (1 + exp(-drawn));
}

/* ---- networks --------------------------------------------------------------------------------- */

/* A number of each item's level, as a value that multiplies x [n, ..]: [n, 1, ..]. */
static pith_var *numbers(const pith_diffusion *d, const pith_var *x, const double *t, size_t offset)
{
    size_t dims[PITH_MAX_DIMS], n = x->dims[0];
    float *each = pith_op_attr(x->tape, n, sizeof *each);
    if (!each) return NULL;
    for (size_t i = 0; i < n; i++) {
        pith_level l = pith_diffusion_level(d, t[i]);
        each[i] = (float)*(const double *)((const char *)&l + offset);
    }
    dims[0] = n;
    for (int i = 1; i < x->n_dims; i++) dims[i] = 1;
    return pith_tape_input(x->tape, each, x->n_dims, dims);
}

/* a's items times one number of their levels, plus b's times another. */
static pith_var *mixed(const pith_diffusion *d, pith_var *a, size_t of_a, pith_var *b, size_t of_b, const double *t)
{
    if (!a || !b) return NULL;
    if (!a->n_dims) return pith_op_fail(a->tape, PITH_E_SHAPE, "diffusion: one number; items [n, ..] are needed");
    if (a->n_dims != b->n_dims || memcmp(a->dims, b->dims, (size_t)a->n_dims * sizeof *a->dims) != 0)
        return pith_op_fail(a->tape, PITH_E_SHAPE, "diffusion: %s and %s are not of one shape", PITH_SHAPE(a), PITH_SHAPE(b));
    return pith_var_add(pith_var_mul(a, numbers(d, a, t, of_a)), pith_var_mul(b, numbers(d, b, t, of_b)));
}
#define NUMBER(name) offsetof(pith_level, name)

pith_var *pith_diffusion_mix(const pith_diffusion *diffusion, pith_var *z, pith_var *e, const double *t)
{
    return mixed(diffusion, z, NUMBER(signal), e, NUMBER(noise), t);
}

static pith_var *answer(const pith_diffusion *d, const pith_denoiser *net, pith_var *x, const double *t, double guidance)
{
    if (!x) return NULL;
    if (!x->n_dims) return pith_op_fail(x->tape, PITH_E_SHAPE, "diffusion: one number; items [n, ..] are needed");
    float *time = pith_op_attr(x->tape, x->dims[0], sizeof *time);
    if (!time) return NULL;
    for (size_t i = 0; i < x->dims[0]; i++) time[i] = pith_diffusion_level(d, t[i]).time;
    if (d->o.kind == PITH_DIFFUSION_EDM) x = pith_var_mul(x, numbers(d, x, t, NUMBER(input)));
    if (!x || guidance == 1) return x ? net->run(net->user, x, time, true) : NULL;
    pith_var *without = net->run(net->user, x, time, false);
    if (guidance == 0) return without;
    return pith_var_add(without, pith_var_scale(pith_var_sub(net->run(net->user, x, time, true), without), (float)guidance));
}

bool pith_diffusion_estimate(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *x, const double *t, double guidance, pith_var **z, pith_var **e)
{
    pith_var *y = answer(diffusion, net, x, t, guidance);
    if (z) *z = mixed(diffusion, x, NUMBER(z_of_x), y, NUMBER(z_of_y), t);
    if (e) *e = mixed(diffusion, x, NUMBER(e_of_x), y, NUMBER(e_of_y), t);
    return y && (!z || *z) && (!e || *e);
}

pith_var *pith_diffusion_loss_at(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *z, pith_var *e, const double *t)
{
    pith_var *y = answer(diffusion, net, pith_diffusion_mix(diffusion, z, e, t), t, 1);
    return y ? pith_var_mse(y, mixed(diffusion, z, NUMBER(y_of_z), e, NUMBER(y_of_e), t)) : NULL;
}

pith_var *pith_diffusion_loss(const pith_diffusion *diffusion, const pith_denoiser *net, pith_var *z)
{
    if (!z) return NULL;
    if (!z->n_dims) return pith_op_fail(z->tape, PITH_E_SHAPE, "diffusion: one number; items [n, ..] are needed");
    size_t n = z->dims[0];
    pith_var *u = pith_tape_uniform(z->tape, PITH_DIMS(n)), *e = pith_tape_normal(z->tape, z->n_dims, z->dims);
    double *t = pith_op_attr(z->tape, n, sizeof *t);
    if (!u || !e || !t) return NULL;
    for (size_t i = 0; i < n; i++) t[i] = pith_diffusion_quantile(diffusion, (double)u->data[i]);
    return pith_diffusion_loss_at(diffusion, net, z, e, t);
}
