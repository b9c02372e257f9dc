/* Diffusion: values of schedules, identities between what networks predict, sampling of a normal distribution whose denoiser
 * is known and whose way from noise to data has a closed form, and the way back. */
#include <math.h>

#include "stream/latent/sample.h"
#include "test.h"

static pith_diffusion *diffusion(pith_ctx *ctx, pith_diffusion_options o)
{
    pith_diffusion *d = NULL;
    assert_ok(ctx, pith_diffusion_new(ctx, &o, &d));
    return d;
}

static pith_diffusion_options steps_of(pith_diffusion_target target, bool zero_snr)
{
    pith_diffusion_options o = pith_diffusion_usual(PITH_DIFFUSION_STEPS);
    o.target = target;
    o.zero_snr = zero_snr;
    return o;
}

/* Every way there is. */
#define N_WAYS 7
static pith_diffusion_options way(size_t i)
{
    switch (i) {
    case 0: return steps_of(PITH_TARGET_NOISE, false);
    case 1: return steps_of(PITH_TARGET_VELOCITY, false);
    case 2: return steps_of(PITH_TARGET_DATA, false);
    case 3: return steps_of(PITH_TARGET_VELOCITY, true);
    case 4: return steps_of(PITH_TARGET_DATA, true);
    case 5: return pith_diffusion_usual(PITH_DIFFUSION_EDM);
    default: return pith_diffusion_usual(PITH_DIFFUSION_FLOW);
    }
}

#define near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

/* ---- levels ----------------------------------------------------------------------------------- */

static void test_schedule(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_diffusion *d = diffusion(ctx, way(0)), *zero = diffusion(ctx, way(3));
    /* the first and the last squares of Stable Diffusion's signal, as its scheduler gives them */
    near(pow(pith_diffusion_level(d, 0).signal, 2), 0.99915, 1e-9);
    near(pow(pith_diffusion_level(d, 999).signal, 2), 0.004660, 1e-5);
    double before = 1;
    for (int t = 0; t < 1000; t++) {
        pith_level l = pith_diffusion_level(d, t), z = pith_diffusion_level(zero, t);
        assert_true(l.signal < before);
        near(l.signal * l.signal + l.noise * l.noise, 1, 1e-12);
        near(z.signal * z.signal + z.noise * z.noise, 1, 1e-12);
        assert_true(l.time == (float)t);
        before = l.signal;
    }
    near(pith_diffusion_level(zero, 0).signal, pith_diffusion_level(d, 0).signal, 1e-12);
    assert_true(pith_diffusion_level(zero, 999).signal == 0);
    assert_true(pith_diffusion_level(d, -1).signal == 1 && pith_diffusion_level(d, -1).noise == 0);
    assert_true(pith_diffusion_level(d, 5000).signal == pith_diffusion_level(d, 999).signal);
    assert_true(pith_diffusion_step(d, 50, 0) == 999 && pith_diffusion_step(d, 50, 1) == 979 && pith_diffusion_step(d, 50, 49) == 19 && pith_diffusion_step(d, 50, 50) == -1);
    assert_true(pith_diffusion_quantile(d, 0) == 0 && pith_diffusion_quantile(d, 0.9999) == 999 && pith_diffusion_quantile(d, 1) == 999);
    pith_diffusion_free(d);
    pith_diffusion_free(zero);

    /* EDM's steps: its ends, and the seventh roots between them */
    d = diffusion(ctx, way(5));
    near(pith_diffusion_step(d, 18, 0), 80, 1e-9);
    near(pith_diffusion_step(d, 18, 17), 0.002, 1e-12);
    assert_true(pith_diffusion_step(d, 18, 18) == 0);
    near(pow(pith_diffusion_step(d, 18, 5), 1.0 / 7), pow(80, 1.0 / 7) + 5.0 / 17 * (pow(0.002, 1.0 / 7) - pow(80, 1.0 / 7)), 1e-12);
    near(log(pith_diffusion_quantile(d, 0.5)), -1.2, 1e-9);
    near(log(pith_diffusion_quantile(d, 0.975002104851780)), -1.2 + 1.2 * 1.96, 1e-8);
    near(log(pith_diffusion_quantile(d, 1e-9)), -1.2 - 1.2 * 5.997807015, 1e-6);
    near(pith_diffusion_level(d, 2).time, 250 * log(2), 1e-4);
    pith_diffusion_free(d);

    d = diffusion(ctx, way(6));
    near(pith_diffusion_quantile(d, 0.5), 0.5, 1e-12);
    near(pith_diffusion_quantile(d, 0.975002104851780), 1 / (1 + exp(-1.96)), 1e-8);
    assert_true(pith_diffusion_step(d, 4, 1) == 0.75 && pith_diffusion_level(d, 0.25).time == 250);
    pith_diffusion_free(d);
    pith_ctx_free(ctx);
}

/* The right answer gives back data and noise, at every level of every way. */
static void test_answers(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < N_WAYS; i++) {
        pith_diffusion *d = diffusion(ctx, way(i));
        for (size_t k = 0; k < 100; k++) {
            double t = pith_diffusion_quantile(d, ((double)k + 0.5) / 100), z = 1.7, e = -0.6;
            pith_level l = pith_diffusion_level(d, t);
            double x = l.signal * z + l.noise * e, y = l.y_of_z * z + l.y_of_e * e;
            near(l.z_of_x * x + l.z_of_y * y, z, 1e-9);
            near(l.e_of_x * x + l.e_of_y * y, e, 1e-9);
        }
        pith_diffusion_free(d);
    }
    pith_ctx_free(ctx);
}

/* EDM (arXiv:2206.00364, section 5): inputs and answers have variance 1 for data of data_std, errors of the data grow as little
 * as they can, and the weighted loss is that of the answer. */
static void test_edm(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_diffusion *d = diffusion(ctx, way(5));
    const double data = 0.5;
    for (double s = 0.002; s < 100; s *= 1.7) {
        pith_level l = pith_diffusion_level(d, s);
        near(l.input * l.input * (data * data + s * s), 1, 1e-12);
        near(l.y_of_z * l.y_of_z * data * data + l.y_of_e * l.y_of_e, 1, 1e-12);
        near(l.z_of_x, data * data / (s * s + data * data), 1e-12);
        near(l.z_of_y, s * data / sqrt(s * s + data * data), 1e-12);
        double weight = (s * s + data * data) / (s * data * s * data);
        near(weight * l.z_of_y * l.z_of_y, 1, 1e-12);
    }
    pith_diffusion_free(d);
    pith_ctx_free(ctx);
}

/* ---- a network whose answers are known -------------------------------------------------------- */

/* Data are normal, of `mean` and `deviation`: the best guess of them is linear in x. */
typedef struct known {
    const pith_diffusion *d;
    double mean, deviation;
    double t;                     /* the level of the call to come */
    size_t n_calls;
} known;

/* E[z | x] for x = signal z + noise e. */
static double expected(const known *k, const pith_level *l, double x)
{
    double v = k->deviation * k->deviation;
    return k->mean + l->signal * v * (x - l->signal * k->mean) / (l->signal * l->signal * v + l->noise * l->noise);
}

static double level_of_time(const pith_diffusion *d, float time)
{
    switch (pith_diffusion_settings(d)->kind) {
    case PITH_DIFFUSION_EDM: return exp((double)time / 250);
    case PITH_DIFFUSION_FLOW: return (double)time / 1000;
    default: return (double)time;
    }
}

/* Without the condition the mean is 0. */
static pith_var *answer(void *user, pith_var *x, const float *time, bool conditional)
{
    known *k = user, without = *k;
    k->n_calls++;
    without.mean = conditional ? k->mean : 0;
    static const pith_op op = {"known", NULL};
    pith_var *y = pith_op_value(x->tape, &op, NULL, 0, x->n_dims, x->dims, 0);
    if (!y) return NULL;
    size_t each = x->count / x->dims[0];
    for (size_t i = 0; i < x->count; i++) {
        pith_level l = pith_diffusion_level(k->d, level_of_time(k->d, time[i / each]));
        double at = (double)x->data[i] / l.input, z = expected(&without, &l, at), e = l.noise > 0 ? (at - l.signal * z) / l.noise : 0;
        y->data[i] = (float)(l.y_of_z * z + l.y_of_e * e);
    }
    return y;
}

#define N 64
/* The exact way from noise e to data: x - signal mean stays at the same place among its standard deviations. */
static double exact(const known *k, double x)
{
    pith_level top = pith_diffusion_level(k->d, pith_diffusion_step(k->d, 1, 0));
    return k->mean + k->deviation * (x - top.signal * k->mean) / sqrt(top.signal * top.signal * k->deviation * k->deviation + top.noise * top.noise);
}

static double sampling_error(pith_tape *tape, known *k, const float *noise, const pith_sampling *o)
{
    pith_denoiser net = {answer, k};
    pith_tape_step(tape, 0);
    pith_tape_record(tape, false);
    pith_var *z = pith_diffusion_sample(k->d, &net, pith_tape_input(tape, noise, PITH_DIMS(N / 2, 2)), o);
    assert_ok(pith_tape_ctx(tape), pith_tape_status(tape));
    double most = 0;
    for (size_t i = 0; i < N; i++) most = fmax(most, fabs((double)z->data[i] - exact(k, (double)noise[i] * pith_diffusion_prior(k->d))));
    return most;
}

/* Twice the steps: half the error for DDIM and Euler's method, a quarter for Heun's, but where the last level of STEPS is far
 * from clean. */
static void test_sampling(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    float noise[N];
    pith_rng rng = {.seed = 5};
    for (size_t i = 0; i < N; i++) noise[i] = pith_rng_normal(&rng);
    assert_ok(ctx, pith_tape_new(ctx, 3, &tape));
    for (size_t i = 0; i < N_WAYS; i++) {
        known k = {.d = diffusion(ctx, way(i)), .mean = 0.7, .deviation = 0.5};
        double error[2][2];
        for (size_t heun = 0; heun < 2; heun++)
            for (size_t twice = 0; twice < 2; twice++) error[heun][twice] = sampling_error(tape, &k, noise, &(pith_sampling){.n_steps = twice ? 100 : 50, .guidance = 1, .heun = heun});
        if (error[0][1] > 0.65 * error[0][0] || error[0][1] > 0.06) fail_msg("way %zu: errors %g, %g", i, error[0][0], error[0][1]);
        bool far = pith_diffusion_settings(k.d)->kind == PITH_DIFFUSION_STEPS;
        if (error[1][1] > (far ? 0.6 : 0.1) * error[0][1] || error[1][1] > (far ? 0.6 : 0.35) * error[1][0]) fail_msg("way %zu: errors %g, %g; Heun %g, %g", i, error[0][0], error[0][1], error[1][0], error[1][1]);
        pith_diffusion_free((pith_diffusion *)k.d);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Noise of data, and data of that noise. */
static void test_inversion(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    float data[N];
    pith_rng rng = {.seed = 6};
    for (size_t i = 0; i < N; i++) data[i] = 0.7f + 0.5f * pith_rng_normal(&rng);
    assert_ok(ctx, pith_tape_new(ctx, 3, &tape));
    for (size_t i = 0; i < N_WAYS; i++) {
        pith_diffusion_options o = way(i);
        known k = {.d = diffusion(ctx, o), .mean = 0.7, .deviation = 0.5};
        pith_denoiser net = {answer, &k};
        double error[2];
        for (size_t twice = 0; twice < 2; twice++) {
            pith_sampling s = {.n_steps = twice ? 200 : 100, .guidance = 1};
            pith_tape_step(tape, 0);
            pith_tape_record(tape, false);
            pith_var *z = pith_tape_input(tape, data, PITH_DIMS(N, 1)), *e = pith_diffusion_invert(k.d, &net, z, &s);
            if (o.kind == PITH_DIFFUSION_STEPS && o.target == PITH_TARGET_DATA) {
                assert_null(e);
                assert_int_equal(pith_tape_status(tape), PITH_E_ARGUMENT);
                continue;
            }
            pith_var *back = pith_diffusion_sample(k.d, &net, e, &s);
            assert_ok(ctx, pith_tape_status(tape));
            error[twice] = 0;
            for (size_t j = 0; j < N; j++) error[twice] = fmax(error[twice], fabs((double)back->data[j] - (double)data[j]));
            /* the noise is the right one too */
            for (size_t j = 0; j < N; j++) near(exact(&k, (double)e->data[j] * pith_diffusion_prior(k.d)), (double)data[j], 0.06);
        }
        if (!(o.kind == PITH_DIFFUSION_STEPS && o.target == PITH_TARGET_DATA) && (error[1] > 0.65 * error[0] || error[1] > 0.05)) fail_msg("way %zu: errors %g, %g", i, error[0], error[1]);
        pith_diffusion_free((pith_diffusion *)k.d);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* With all noise drawn anew the data have the mean and variance that they should.  Steps take memory once, but for a few numbers. */
static void test_drawn_noise(void **state)
{
    (void)state;
    enum { MANY = 8000 };
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < N_WAYS; i++) {
        known k = {.d = diffusion(ctx, way(i)), .mean = 0.7, .deviation = 0.5};
        pith_denoiser net = {answer, &k};
        pith_tape *tape;
        assert_ok(ctx, pith_tape_new(ctx, 8, &tape));
        size_t bytes[2];
        double mean = 0, square = 0;
        for (size_t long_way = 0; long_way < 2; long_way++) {
            pith_tape_step(tape, i);
            pith_tape_record(tape, false);
            pith_var *z = pith_diffusion_sample(k.d, &net, pith_tape_normal(tape, PITH_DIMS(8, MANY / 8)), &(pith_sampling){.n_steps = long_way ? 200 : 3, .guidance = 1, .eta = 1});
            assert_ok(ctx, pith_tape_status(tape));
            bytes[long_way] = pith_tape_bytes(tape);
            for (size_t j = 0; long_way && j < MANY; j++) mean += (double)z->data[j] / MANY;
            for (size_t j = 0; long_way && j < MANY; j++) square += pow((double)z->data[j] - mean, 2) / MANY;
        }
        if (fabs(mean - 0.7) > 0.03 || fabs(sqrt(square) - 0.5) > 0.03) fail_msg("way %zu: mean %g, deviation %g", i, mean, sqrt(square));
        if (bytes[1] > bytes[0] + 197 * MANY) fail_msg("way %zu: %zu and %zu bytes", i, bytes[0], bytes[1]); /* a quarter of a value a step */
        pith_tape_free(tape);
        pith_diffusion_free((pith_diffusion *)k.d);
    }
    pith_ctx_free(ctx);
}

/* Guidance mixes two answers, and asks only for those it needs; hooks see each step and may change it. */
static pith_var *to_zero(void *user, const pith_sample_step *at)
{
    size_t *n = user;
    assert_true(at->i == *n && at->n == 4 && at->z && at->e && at->to < at->from);
    *n += 1;
    return at->i + 1 == at->n ? pith_var_scale(at->x, 0) : at->x;
}
static pith_var *refuse(void *user, const pith_sample_step *at)
{
    (void)user;
    return pith_op_fail(at->x->tape, PITH_E_UNSUPPORTED, "refused");
}

static void test_guidance_and_hooks(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    const float some[2] = {0.3f, -1.1f};
    const double t[2] = {300, 700}, weights[] = {0, 1, 3};
    double z[3][2];
    assert_ok(ctx, pith_tape_new(ctx, 8, &tape));
    known k = {.d = diffusion(ctx, way(1)), .mean = 0.7, .deviation = 0.5};
    pith_denoiser net = {answer, &k};
    pith_tape_step(tape, 0);
    for (size_t w = 0; w < 3; w++) {
        pith_var *zhat, *ehat, *x = pith_tape_input(tape, some, PITH_DIMS(2));
        k.n_calls = 0;
        assert_true(pith_diffusion_estimate(k.d, &net, x, t, weights[w], &zhat, &ehat));
        assert_int_equal(k.n_calls, w == 2 ? 2 : 1);
        for (size_t i = 0; i < 2; i++) {
            pith_level l = pith_diffusion_level(k.d, t[i]);
            z[w][i] = (double)zhat->data[i];
            near(l.signal * z[w][i] + l.noise * (double)ehat->data[i], (double)some[i], 1e-5); /* both say the same x */
        }
    }
    for (size_t i = 0; i < 2; i++) {
        pith_level l = pith_diffusion_level(k.d, t[i]);
        near(z[1][i], expected(&k, &l, (double)some[i]), 1e-5);
        near(z[2][i], z[0][i] + 3 * (z[1][i] - z[0][i]), 1e-4);
    }
    size_t n = 0;
    pith_var *x = pith_tape_input(tape, some, PITH_DIMS(2));
    pith_var *y = pith_diffusion_sample(k.d, &net, x, &(pith_sampling){.n_steps = 4, .guidance = 1, .hook = to_zero, .user = &n});
    assert_true(n == 4 && y->data[0] == 0 && y->data[1] == 0);
    const double part[] = {400, 200, -1}; /* from a level in between, as an edit does */
    assert_non_null(pith_diffusion_walk(k.d, &net, x, &(pith_sampling){.n_steps = 2, .guidance = 1, .levels = part}));
    assert_null(pith_diffusion_sample(k.d, &net, x, &(pith_sampling){.n_steps = 4, .guidance = 1, .hook = refuse}));
    assert_int_equal(pith_tape_status(tape), PITH_E_UNSUPPORTED);
    const pith_sampling wrong[] = {{.n_steps = 0}, {.n_steps = 2, .eta = 1, .heun = true}, {.n_steps = 2, .eta = 1.5}, {.n_steps = 2, .eta = NAN}};
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) {
        pith_tape_step(tape, 1);
        x = pith_tape_input(tape, some, PITH_DIMS(2));
        assert_null(pith_diffusion_sample(k.d, &net, x, &wrong[i]));
        assert_int_equal(pith_tape_status(tape), PITH_E_ARGUMENT);
    }
    pith_diffusion_free((pith_diffusion *)k.d);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* ---- losses ----------------------------------------------------------------------------------- */

/* The best network's loss is what remains to be said of the data: for normal data known in closed form. */
static void test_loss(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 8, &tape));
    for (size_t i = 0; i < N_WAYS; i++) {
        known k = {.d = diffusion(ctx, way(i)), .mean = 0.7, .deviation = 0.5};
        pith_denoiser net = {answer, &k};
        double *t = pith_array(ctx, MANY, sizeof *t), wanted = 0;
        pith_tape_step(tape, i);
        for (size_t j = 0; j < MANY; j++) {
            t[j] = pith_diffusion_quantile(k.d, ((double)j + 0.5) / MANY);
            pith_level l = pith_diffusion_level(k.d, t[j]);
            /* y is of_z z + of_e (x - signal z) / noise: what is not known of z is multiplied */
            double v = 0.25, left = v * l.noise * l.noise / (l.signal * l.signal * v + l.noise * l.noise), slope = l.y_of_z - l.y_of_e * l.signal / l.noise;
            wanted += slope * slope * left / MANY;
        }
        pith_var *z = pith_var_affine(pith_tape_normal(tape, PITH_DIMS(MANY, 1)), 0.5f, 0.7f), *e = pith_tape_normal(tape, PITH_DIMS(MANY, 1));
        pith_var *loss = pith_diffusion_loss_at(k.d, &net, z, e, t), *drawn = pith_diffusion_loss(k.d, &net, z);
        assert_ok(ctx, pith_tape_status(tape));
        if (fabs((double)loss->data[0] - wanted) > 0.03 * wanted) fail_msg("way %zu: loss %g, not %g", i, (double)loss->data[0], wanted);
        if (fabs((double)drawn->data[0] - wanted) > 0.05 * wanted) fail_msg("way %zu: drawn loss %g, not %g", i, (double)drawn->data[0], wanted);
        pith_free(ctx, t);
        pith_diffusion_free((pith_diffusion *)k.d);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* A network of one parameter learns through loss and sampling alike. */
static pith_var *times_w(void *user, pith_var *x, const float *time, bool conditional)
{
    (void)time, (void)conditional;
    return pith_var_mul(x, user);
}

static void test_gradients(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    const float some[3] = {0.3f, -1.1f, 2};
    assert_ok(ctx, pith_tape_new(ctx, 8, &tape));
    pith_var *w = pith_tape_param(tape, "w", 0, NULL);
    pith_denoiser net = {times_w, w};
    for (size_t i = 0; i < N_WAYS; i++) {
        pith_diffusion *d = diffusion(ctx, way(i));
        double value[2][3], slope[2] = {0};
        for (int k = -1; k <= 1; k++) {
            w->data[0] = 0.3f + 0.01f * (float)k;
            pith_tape_step(tape, 0);
            pith_var *z = pith_tape_input(tape, some, PITH_DIMS(3));
            pith_var *of[2] = {pith_diffusion_loss(d, &net, z), pith_var_mean(pith_var_square(pith_diffusion_sample(d, &net, z, &(pith_sampling){.n_steps = 3, .guidance = 1, .heun = true})), PITH_ALL_AXES)}, *g;
            for (size_t j = 0; j < 2; j++) {
                assert_ok(ctx, pith_tape_status(tape));
                value[j][k + 1] = (double)of[j]->data[0];
                if (k) continue;
                assert_ok(ctx, pith_gradients(tape, of[j], NULL, &w, 1, PITH_KEEP_GRAPH, &g));
                slope[j] = (double)g->data[0];
            }
        }
        for (size_t j = 0; j < 2; j++) {
            double wanted = (value[j][2] - value[j][0]) / 0.02;
            if (fabs(slope[j] - wanted) > 0.02 * fabs(wanted) + 1e-4) fail_msg("way %zu, %s: gradient %g, not %g", i, j ? "sampling" : "loss", slope[j], wanted);
        }
        pith_diffusion_free(d);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* ---- failures --------------------------------------------------------------------------------- */

static void test_wrong_options(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_diffusion *d = NULL;
    pith_diffusion_options o = steps_of(PITH_TARGET_NOISE, true);
    assert_int_equal(pith_diffusion_new(ctx, &o, &d), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "ask for velocity or data"));
    o = steps_of(PITH_TARGET_NOISE, false);
    o.n_levels = 1;
    assert_int_equal(pith_diffusion_new(ctx, &o, &d), PITH_E_ARGUMENT);
    o.n_levels = SIZE_MAX / 4;
    assert_int_equal(pith_diffusion_new(ctx, &o, &d), PITH_E_MEMORY);
    o = way(5);
    o.data_std = 0;
    assert_int_equal(pith_diffusion_new(ctx, &o, &d), PITH_E_ARGUMENT);
    o = way(5);
    o.noise_max = o.noise_min;
    assert_int_equal(pith_diffusion_new(ctx, &o, &d), PITH_E_ARGUMENT);
    o = way(6);
    o.draw_std = NAN;
    assert_int_equal(pith_diffusion_new(ctx, &o, &d), PITH_E_ARGUMENT);
    assert_null(d);

    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    d = diffusion(ctx, way(0));
    const float some[6] = {0};
    const double t[6] = {0};
    pith_tape_step(tape, 0);
    assert_null(pith_diffusion_mix(d, pith_tape_input(tape, some, PITH_DIMS(2, 3)), pith_tape_input(tape, some, PITH_DIMS(3, 2)), t));
    assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    pith_tape_step(tape, 1);
    assert_null(pith_diffusion_loss(d, &(pith_denoiser){0}, pith_tape_fill(tape, 1, 0, NULL)));
    assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    pith_diffusion_free(d);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_tape *tape = NULL;
    pith_diffusion *d;
    pith_diffusion_options o = way(0);
    pith_status status;
    PITH_TRY(pith_diffusion_new(ctx, &o, &d));
    PITH_GOTO(pith_tape_new(ctx, 1, &tape), done);
    known k = {.d = d, .mean = 0.7, .deviation = 0.5};
    pith_denoiser net = {answer, &k};
    pith_tape_step(tape, 0);
    pith_tape_record(tape, false);
    pith_var *z = pith_diffusion_sample(d, &net, pith_tape_normal(tape, PITH_DIMS(4, 2)), &(pith_sampling){.n_steps = 3, .guidance = 2, .eta = 0.5});
    pith_diffusion_loss(d, &net, z);
    status = pith_tape_status(tape);
done:
    pith_tape_free(tape);
    pith_diffusion_free(d);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault(life, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule), cmocka_unit_test(test_answers), cmocka_unit_test(test_edm), cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_inversion), cmocka_unit_test(test_drawn_noise), cmocka_unit_test(test_guidance_and_hooks),
        cmocka_unit_test(test_loss), cmocka_unit_test(test_gradients), cmocka_unit_test(test_wrong_options), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
