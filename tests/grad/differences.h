/* Gradients against differences.  A function of arrays is tested by <f(x), r> with random r, summed in double; its
 * derivative by x[i] is taken from four values around x[i], at which the rule's error is h^4 f'''''/30. */
#ifndef PITH_TEST_DIFFERENCES_H
#define PITH_TEST_DIFFERENCES_H

#include <math.h>

#include "test.h"
#include "grad/grad.h"

#define MAX_ARGS 4
#define H 0x1p-6
#define MAX_PROBES 24 /* values of an argument whose derivative is checked, spread over it */

typedef struct shape {
    int n_dims;
    size_t dims[6];
} shape;

typedef pith_var *function(pith_tape *tape, pith_var **x);

typedef struct check {
    const char *name;
    function *fn;
    int n_args;
    shape shapes[MAX_ARGS];
    float low, high;         /* values are drawn from here; both 0: normal */
    double tolerance;        /* 0: 2e-4 of the largest derivative, and absolutely */
} check;

static inline size_t count_of_shape(shape s)
{
    size_t n = 1;
    for (int d = 0; d < s.n_dims; d++) n *= s.dims[d];
    return n;
}

static inline void fill_random(float *x, size_t n, uint64_t stream, float low, float high)
{
    pith_rng rng = {.seed = 11, .stream = stream};
    for (size_t i = 0; i < n; i++) x[i] = low == high ? pith_rng_normal(&rng) : low + (high - low) * pith_rng_uniform(&rng);
}

static inline pith_var *drawn(pith_tape *tape, uint64_t stream, int n_dims, const size_t *dims)
{
    pith_var *v = pith_tape_fill(tape, 0, n_dims, dims);
    assert_non_null(v);
    fill_random(v->data, v->count, stream, 0, 0);
    return v;
}

static inline void assert_near(double found, double expected, double error)
{
    if (!(fabs(found - expected) <= error)) fail_msg("%.9g, not %.9g", found, expected);
}

/* <f(x), r>, or <d<f(x), r>/dx, v> when v is given, in double. */
static inline double value_of(pith_tape *tape, const check *c, pith_var **x, float *const *r, float *const *v)
{
    pith_tape_step(tape, 1);
    pith_var *y = c->fn(tape, x);
    assert_ok(pith_tape_ctx(tape), pith_tape_status(tape));
    double sum = 0;
    if (!v) {
        for (size_t i = 0; i < y->count; i++) sum += (double)y->data[i] * (double)r[0][i];
        return sum;
    }
    pith_var *seed = pith_tape_input(tape, r[0], y->n_dims, y->dims), *gx[MAX_ARGS];
    assert_ok(pith_tape_ctx(tape), pith_gradients(tape, y, seed, x, (size_t)c->n_args, 0, gx));
    for (int a = 0; a < c->n_args; a++)
        for (size_t i = 0; i < x[a]->count; i++) sum += (double)gx[a]->data[i] * (double)v[a][i];
    return sum;
}

static inline void compare(const check *c, const char *what, int arg, pith_tape *tape, pith_var **x, float *const *r, float *const *v, const float *found)
{
    size_t n = x[arg]->count, step = n > MAX_PROBES ? n / MAX_PROBES : 1;
    double expected[3 * MAX_PROBES], largest = 0, tolerance = c->tolerance > 0 ? c->tolerance : 2e-4;
    size_t k = 0;
    for (size_t i = 0; i < n; i += step, k++) {
        float at = x[arg]->data[i];
        double f[4];
        for (int p = 0; p < 4; p++) {
            x[arg]->data[i] = at + (float)((p < 2 ? p - 2 : p - 1) * H);
            f[p] = value_of(tape, c, x, r, v);
        }
        x[arg]->data[i] = at;
        expected[k] = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * H);
        largest = fmax(largest, fabs(expected[k]));
    }
    k = 0;
    for (size_t i = 0; i < n; i += step, k++)
        if (!(fabs((double)found[i] - expected[k]) <= tolerance * (1 + largest)))
            fail_msg("%s: %s by value %zu of argument %d is %g, differences give %g", c->name, what, i, arg, (double)found[i], expected[k]);
}

/* <J v, r> = <v, J' r>, the gradient found before. */
static inline void check_forward(const check *c, pith_tape *tape, pith_var **x, pith_var *y, const float *r, float *const *v, float *const *found)
{
    pith_var *directions[MAX_ARGS], *jv;
    double forward = 0, backward = 0, size = 0;
    for (int a = 0; a < c->n_args; a++) {
        directions[a] = pith_tape_input(tape, v[a], x[a]->n_dims, x[a]->dims);
        for (size_t i = 0; i < x[a]->count; i++) {
            backward += (double)found[a][i] * (double)v[a][i];
            size += fabs((double)found[a][i] * (double)v[a][i]);
        }
    }
    assert_ok(pith_tape_ctx(tape), pith_jvp(tape, y, x, directions, (size_t)c->n_args, &jv));
    for (size_t i = 0; i < y->count; i++) forward += (double)jv->data[i] * (double)r[i];
    if (!(fabs(forward - backward) <= 1e-4 * (1 + size))) fail_msg("%s: the forward product gives %g, the gradient %g", c->name, forward, backward);
}

static inline void check_gradient(pith_ctx *ctx, const check *c)
{
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    pith_var *x[MAX_ARGS];
    float *v[MAX_ARGS], *found[MAX_ARGS];
    for (int a = 0; a < c->n_args; a++) {
        x[a] = pith_tape_param(tape, "x", c->shapes[a].n_dims, c->shapes[a].dims);
        assert_non_null(x[a]);
        fill_random(x[a]->data, x[a]->count, (uint64_t)a, c->low, c->high);
        v[a] = malloc((x[a]->count + 1) * sizeof(float));
        found[a] = calloc(x[a]->count + 1, sizeof(float));
        fill_random(v[a], x[a]->count, 20 + (uint64_t)a, -1, 1);
    }
    pith_tape_step(tape, 1);
    pith_var *y = c->fn(tape, x), *gx[MAX_ARGS];
    if (!y) fail_msg("%s: %s", c->name, pith_error(ctx));
    float *r = malloc((y->count + 1) * sizeof(float));
    fill_random(r, y->count, 40, -1, 1);
    /* the first derivative */
    pith_var *seed = pith_tape_input(tape, r, y->n_dims, y->dims);
    assert_ok(ctx, pith_gradients(tape, y, seed, x, (size_t)c->n_args, 0, gx));
    for (int a = 0; a < c->n_args; a++) memcpy(found[a], gx[a]->data, x[a]->count * sizeof(float));
    for (int a = 0; a < c->n_args; a++) compare(c, "gradient", a, tape, x, &r, NULL, found[a]);
    /* the second, of <gradient, v> */
    pith_tape_step(tape, 1);
    y = c->fn(tape, x);
    seed = pith_tape_input(tape, r, y->n_dims, y->dims);
    assert_ok(ctx, pith_gradients(tape, y, seed, x, (size_t)c->n_args, PITH_RECORD_PASS, gx));
    pith_var *sum = pith_tape_fill(tape, 0, 0, NULL), *again[MAX_ARGS];
    for (int a = 0; a < c->n_args; a++) {
        /* recorded or not, a gradient is the same up to rounding */
        for (size_t i = 0; i < x[a]->count; i++) assert_true(fabsf(gx[a]->data[i] - found[a][i]) <= 1e-4f * (1 + fabsf(found[a][i])));
        sum = pith_var_add(sum, pith_var_sum(pith_var_mul(gx[a], pith_tape_input(tape, v[a], x[a]->n_dims, x[a]->dims)), PITH_ALL_AXES));
    }
    check_forward(c, tape, x, y, r, v, found);
    assert_ok(ctx, pith_gradients(tape, sum, NULL, x, (size_t)c->n_args, 0, again));
    for (int a = 0; a < c->n_args; a++) memcpy(found[a], again[a]->data, x[a]->count * sizeof(float));
    for (int a = 0; a < c->n_args; a++) compare(c, "second derivative", a, tape, x, &r, v, found[a]);
    pith_tape_free(tape);
    for (int a = 0; a < c->n_args; a++) free(v[a]), free(found[a]);
    free(r);
}

#endif
