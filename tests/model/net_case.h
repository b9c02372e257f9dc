/* What every kind of network must hold, of a small one of it: its shape, its gradients against differences, files,
 * training, threads, failures of memory. */
#ifndef PITH_TEST_NET_CASE_H
#define PITH_TEST_NET_CASE_H

#include <math.h>
#include <unistd.h>

#include "test.h"
#include "model/net.h"

typedef struct net_case {
    const char *name, *settings;  /* a small one */
    int n_in, n_out;              /* dimensions of x and of the result; n_in 0: run makes the input */
    size_t in[5], out[5];
    pith_var *(*run)(pith_net *net); /* NULL: of x, which is normal */
    double tolerance;             /* of gradients; 0: 5e-3 of the largest */
    float rate;                   /* of the training; 0: 0.01 */
} net_case;

typedef struct net_bed {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_net *net;
} net_bed;

static inline net_bed net_bed_open(const char *name, const char *settings, uint64_t seed, int n_threads)
{
    net_bed b = {.ctx = test_ctx(n_threads)};
    assert_ok(b.ctx, pith_tape_new(b.ctx, 3, &b.tape));
    assert_ok(b.ctx, pith_net_new(b.tape, name, settings, seed, &b.net));
    return b;
}

static inline void net_bed_close(net_bed *b)
{
    pith_net_free(b->net);
    pith_tape_free(b->tape);
    pith_ctx_free(b->ctx);
}

static inline size_t dims_count(int n_dims, const size_t *dims)
{
    size_t n = 1;
    for (int d = 0; d < n_dims; d++) n *= dims[d];
    return n;
}

/* Normal values, as a value of this step. */
static inline pith_var *net_noise(pith_tape *tape, uint64_t stream, int n_dims, const size_t *dims)
{
    pith_var *x = pith_tape_fill(tape, 0, n_dims, dims);
    pith_rng rng = {.seed = 5, .stream = stream};
    for (size_t i = 0; x && i < x->count; i++) x->data[i] = pith_rng_normal(&rng);
    return x;
}

static inline pith_var *net_run(const net_case *c, pith_net *net)
{
    return c->run ? c->run(net) : pith_net_forward(net, net_noise(pith_net_tape(net), 1, c->n_in, c->in));
}

/* <result, r> with fixed r, in double. */
static inline double net_value(const net_case *c, net_bed *b)
{
    pith_tape_step(b->tape, 1);
    pith_var *y = net_run(c, b->net), *r = y ? net_noise(b->tape, 2, y->n_dims, y->dims) : NULL;
    assert_ok(b->ctx, pith_tape_status(b->tape));
    double sum = 0;
    for (size_t i = 0; i < y->count; i++) sum += (double)y->data[i] * (double)r->data[i];
    return sum;
}

/* All parameters moved, so that none that begins at zero hides what is behind it. */
static inline void net_disturb(net_bed *b)
{
    size_t n;
    pith_var *const *params = pith_net_params(b->net, &n);
    for (size_t p = 0; p < n; p++) {
        pith_rng rng = {.seed = 9, .stream = p};
        for (size_t i = 0; i < params[p]->count; i++) params[p]->data[i] += 0.1f * pith_rng_normal(&rng);
    }
}

/* d net_value / d *p, from four values around it. */
static inline double net_difference(const net_case *c, net_bed *b, float *p, float h)
{
    float at = *p;
    double f[4];
    for (int k = 0; k < 4; k++) {
        *p = at + h * (float)(k < 2 ? k - 2 : k - 1);
        f[k] = net_value(c, b);
    }
    *p = at;
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * (double)h);
}

static inline void check_net_gradient(const net_case *c)
{
    net_bed b = net_bed_open(c->name, c->settings, 1, 1);
    net_disturb(&b);
    size_t n;
    pith_var *const *params = pith_net_params(b.net, &n);
    pith_tape_step(b.tape, 1);
    pith_var *y = net_run(c, b.net);
    assert_ok(b.ctx, pith_tape_status(b.tape));
    assert_int_equal(y->n_dims, c->n_out);
    for (int d = 0; d < c->n_out; d++) assert_int_equal(y->dims[d], c->out[d]);
    pith_var *loss = pith_var_sum(pith_var_mul(y, net_noise(b.tape, 2, y->n_dims, y->dims)), PITH_ALL_AXES);
    assert_ok(b.ctx, pith_backward(b.tape, loss, 0));
    double tolerance = c->tolerance > 0 ? c->tolerance : 5e-3;
    size_t n_checked = 0, n_bent = 0;
    for (size_t p = 0; p < n; p++) {
        if (!params[p]->grad) fail_msg("%s: no gradient reaches %s", c->name, params[p]->name);
        double largest = 0;
        for (size_t i = 0; i < params[p]->count; i++) largest = fmax(largest, fabs((double)params[p]->grad[i]));
        size_t step = params[p]->count / (n > 60 ? 1 : 3) + 1; /* probes: the more parameters, the fewer of each */
        for (size_t i = p % step; i < params[p]->count; i += step, n_checked++) {
            double expected = net_difference(c, &b, &params[p]->data[i], 0x1p-11f), found = (double)params[p]->grad[i], limit = tolerance * (1 + largest);
            if (fabs(found - expected) <= limit) continue;
            double wider = net_difference(c, &b, &params[p]->data[i], 0x1p-9f); /* a quarter of the rounding errors */
            if (fabs(found - wider) <= limit) continue;
            if (fabs(wider - expected) > limit / 2) { /* a kink of relu or a maximum lies between */
                n_bent++;
                continue;
            }
            fail_msg("%s: by value %zu of %s is %g, differences give %g (the largest is %g)", c->name, i, params[p]->name, found, expected, largest);
        }
    }
    if (n_bent * 10 > n_checked) fail_msg("%s: %zu of %zu derivatives could not be judged", c->name, n_bent, n_checked);
    net_bed_close(&b);
}

/* Saved and opened again, the network gives the same bytes. */
static inline void check_net_file(const net_case *c)
{
    char path[64];
    snprintf(path, sizeof path, "net_test.%ld.safetensors", (long)getpid());
    net_bed b = net_bed_open(c->name, c->settings, 1, 1);
    net_disturb(&b);
    net_value(c, &b); /* buffers move */
    assert_ok(b.ctx, pith_net_save(b.net, path));
    pith_tape_step(b.tape, 2);
    pith_tape_record(b.tape, false);
    pith_var *y = net_run(c, b.net);
    assert_non_null(y);
    net_bed a = {.ctx = test_ctx(3)};
    assert_ok(a.ctx, pith_tape_new(a.ctx, 3, &a.tape));
    assert_ok(a.ctx, pith_net_open(a.tape, path, &a.net));
    assert_string_equal(pith_net_settings(a.net), pith_net_settings(b.net));
    pith_tape_step(a.tape, 2);
    pith_tape_record(a.tape, false);
    pith_var *z = net_run(c, a.net);
    assert_non_null(z);
    assert_memory_equal(y->data, z->data, y->count * sizeof(float)); /* three threads, one: the same */
    unlink(path);
    net_bed_close(&a);
    net_bed_close(&b);
}

/* A few steps towards a fixed result. */
static inline void check_net_trains(const net_case *c)
{
    net_bed b = net_bed_open(c->name, c->settings, 1, 2);
    pith_optimizer *optimizer;
    assert_ok(b.ctx, pith_optimizer_new(b.tape, &(pith_optimizer_options){.kind = PITH_ADAMW}, &optimizer));
    float first = 0, last = 0;
    for (uint64_t step = 0; step < 30; step++) {
        pith_tape_step(b.tape, 1);
        pith_var *y = net_run(c, b.net);
        assert_non_null(y);
        pith_var *loss = pith_var_mse(y, net_noise(b.tape, 4, y->n_dims, y->dims));
        assert_non_null(loss);
        last = loss->data[0];
        if (step == 0) first = last;
        assert_ok(b.ctx, pith_backward(b.tape, loss, 0));
        assert_ok(b.ctx, pith_optimizer_step(optimizer, c->rate > 0 ? c->rate : 0.01f));
    }
    if (!(last < 0.9f * first)) fail_msg("%s: a loss of %g is %g after 30 steps", c->name, (double)first, (double)last);
    pith_optimizer_free(optimizer);
    net_bed_close(&b);
}

static inline pith_status net_life(pith_ctx *ctx, const void *user)
{
    const net_case *c = user;
    pith_tape *tape;
    pith_net *net = NULL;
    PITH_TRY(pith_tape_new(ctx, 3, &tape));
    pith_status status = pith_net_new(tape, c->name, c->settings, 1, &net);
    if (status == PITH_OK) {
        pith_tape_step(tape, 1);
        pith_var *y = net_run(c, net);
        status = pith_tape_status(tape);
        assert_true((y != NULL) == (status == PITH_OK));
    }
    pith_net_free(net);
    pith_tape_free(tape);
    return status;
}

/* An allocation fails: an error, and nothing is lost. */
static inline void check_net_memory(const net_case *c)
{
    assert_in_range(test_every_fault_with(net_life, c, &(test_fault_options){.name = c->name, .sparse = 20}), 1, 10000);
}

static inline void check_net(const net_case *c)
{
    check_net_gradient(c);
    check_net_file(c);
    check_net_trains(c);
    check_net_memory(c);
}

static inline void check_net_count(const char *name, const char *settings, size_t n_values)
{
    net_bed b = net_bed_open(name, settings, PITH_NET_BLANK, 1);
    if (pith_net_n_values(b.net) != n_values) fail_msg("%s has %zu parameters, not %zu", name, pith_net_n_values(b.net), n_values);
    net_bed_close(&b);
}

#endif
