/* Convolutions of the sizes that networks have, direct and by columns, and both gradients, beside plain sums in double
 * precision; the same bits on any number of threads. */
#include <math.h>

#include "test.h"
#include "grad/conv.h"

typedef struct layer {
    size_t n, c_in, c_out, height, width, k_h, k_w, padding_h, padding_w, dilation, stride;
    bool direct;
    size_t stride_w;              /* 0: stride, as of rows */
} layer;

static const layer layers[] = {
    {3, 2, 5, 7, 9, 3, 3, 1, 1, 1, 1, true},
    {19, 20, 17, 6, 6, 3, 3, 1, 1, 1, 1, true},     /* several groups of images */
    {2, 3, 100, 6, 5, 3, 3, 1, 1, 1, 1, true},      /* blocks of channels of the result */
    {39, 6, 7, 4, 4, 3, 3, 1, 1, 1, 1, true},       /* images one below the other, the last ones fewer */
    {3, 20, 5, 4, 3, 3, 3, 1, 1, 1, 1, true},
    {1, 3, 4, 70, 40, 5, 3, 2, 0, 1, 1, true},      /* several bands, the last one lower */
    {2, 3, 33, 8, 12, 1, 1, 0, 0, 1, 1, true},
    {2, 4, 3, 11, 13, 3, 3, 0, 4, 2, 1, true},
    {2, 4, 3, 12, 14, 5, 5, 0, 0, 1, 1, true},
    {2, 3, 6, 8, 8, 3, 3, 1, 1, 1, 2, true},
    {11, 17, 19, 8, 8, 3, 3, 1, 1, 1, 2, true},
    {2, 3, 5, 15, 16, 5, 4, 2, 1, 1, 3, true},      /* values that no position meets */
    {2, 3, 5, 15, 17, 3, 3, 2, 2, 2, 2, true},      /* of two phases, one is not met */
    {1, 3, 4, 90, 82, 7, 5, 3, 0, 1, 2, true},      /* bands */
    {3, 5, 6, 9, 9, 1, 1, 0, 0, 1, 2, true},
    {3, 2, 5, 9, 8, 3, 3, 1, 1, 1, 2, true, 1},
    {17, 3, 5, 4, 7, 3, 3, 1, 1, 1, 1, true, 2},
    {19, 33, 37, 4, 4, 3, 3, 1, 1, 1, 1, true},     /* by positions */
    {3, 70, 90, 4, 4, 3, 3, 1, 1, 1, 1, true},      /* several panels of channels */
    {5, 32, 40, 8, 8, 3, 3, 1, 1, 1, 2, true},
    {2, 40, 32, 7, 6, 3, 3, 2, 1, 2, 1, true},
    {2, 3, 6, 2, 2, 3, 3, 1, 1, 1, 1, false},       /* narrow */
    {2, 3, 6, 25, 25, 5, 5, 2, 2, 1, 5, false},     /* many phases */
    {2, 3, 6, 8, 8, 3, 3, 3, 3, 1, 1, false},       /* more padding than the kernel reaches */
};

static size_t stride_w(const layer *l) { return l->stride_w ? l->stride_w : l->stride; }

typedef struct result {
    float *y, *gx, *gw;
    size_t n_y, n_x, n_w;
} result;

static float *copy_of(const pith_var *v)
{
    float *x = malloc(v->count * sizeof *x);
    memcpy(x, v->data, v->count * sizeof *x);
    return x;
}

static pith_var *random_param(pith_tape *tape, const char *name, const size_t *dims)
{
    pith_var *p = pith_tape_param(tape, name, 4, dims);
    assert_non_null(p);
    pith_rng rng = {.seed = 2, .stream = pith_hash(name, strlen(name))};
    for (size_t i = 0; i < p->count; i++) p->data[i] = pith_rng_normal(&rng);
    return p;
}

static result compute(const layer *l, int n_threads)
{
    pith_ctx *ctx = test_ctx(n_threads);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *x = random_param(tape, "x", (const size_t[]){l->n, l->c_in, l->height, l->width}), *w = random_param(tape, "w", (const size_t[]){l->c_out, l->c_in, l->k_h, l->k_w});
    pith_conv o = {.stride = {l->stride, stride_w(l)}, .padding = {l->padding_h, l->padding_w}, .dilation = {l->dilation, l->dilation}};
    for (uint64_t step = 0; step < 2; step++) { /* the second time memory holds what the first left */
        pith_tape_step(tape, step);
        pith_tape_zero_grad(tape);
        pith_var *y = pith_var_keep(pith_var_conv(x, w, NULL, &o));
        assert_ok(ctx, pith_tape_status(tape));
        /* the gradient by y is sin(i) */
        float *g = malloc(y->count * sizeof *g);
        for (size_t i = 0; i < y->count; i++) g[i] = sinf((float)i);
        assert_ok(ctx, pith_backward(tape, pith_var_sum(pith_var_mul(y, pith_tape_input(tape, g, y->n_dims, y->dims)), PITH_ALL_AXES), 0));
        free(g);
        if (step == 0) continue;
        result r = {copy_of(y), malloc(x->count * sizeof(float)), malloc(w->count * sizeof(float)), y->count, x->count, w->count};
        memcpy(r.gx, x->grad, x->count * sizeof(float));
        memcpy(r.gw, w->grad, w->count * sizeof(float));
        pith_tape_free(tape);
        pith_ctx_free(ctx);
        return r;
    }
    return (result){0};
}

static void free_result(result *r)
{
    free(r->y);
    free(r->gx);
    free(r->gw);
}

static void compare(const float *got, const double *wanted, size_t n, const char *what, size_t i_layer)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs(wanted[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - wanted[i]) <= 1e-5 * largest)) fail_msg("layer %zu: %s %zu is %g, not %g", i_layer, what, i, (double)got[i], wanted[i]);
}

static void check(size_t i_layer)
{
    const layer *l = &layers[i_layer];
    result r = compute(l, 1), again = compute(l, 3);
    assert_memory_equal(r.y, again.y, r.n_y * sizeof(float));
    assert_memory_equal(r.gx, again.gx, r.n_x * sizeof(float));
    assert_memory_equal(r.gw, again.gw, r.n_w * sizeof(float));
    free_result(&again);
    size_t yh = (l->height + 2 * l->padding_h - l->dilation * (l->k_h - 1) - 1) / l->stride + 1, yw = (l->width + 2 * l->padding_w - l->dilation * (l->k_w - 1) - 1) / stride_w(l) + 1;
    assert_int_equal(r.n_y, l->n * l->c_out * yh * yw);
    conv_attr a = {2, l->n, 1, l->c_in, l->c_out, {1, l->height, l->width}, {1, l->k_h, l->k_w}, {1, yh, yw}, {1, l->stride, stride_w(l)}, {0, l->padding_h, l->padding_w}, {1, l->dilation, l->dilation}};
    assert_int_equal(pith_conv_is_direct(&a), l->direct);
    float *x = malloc(r.n_x * sizeof *x), *w = malloc(r.n_w * sizeof *w);
    pith_rng rx = {.seed = 2, .stream = pith_hash("x", 1)}, rw = {.seed = 2, .stream = pith_hash("w", 1)};
    for (size_t i = 0; i < r.n_x; i++) x[i] = pith_rng_normal(&rx);
    for (size_t i = 0; i < r.n_w; i++) w[i] = pith_rng_normal(&rw);
    double *y = calloc(r.n_y, sizeof *y), *gx = calloc(r.n_x, sizeof *gx), *gw = calloc(r.n_w, sizeof *gw);
    for (size_t i = 0; i < r.n_y; i++) {
        size_t c = i % yw, row = i / yw % yh, out = i / (yw * yh) % l->c_out, n = i / (yw * yh * l->c_out);
        double g = (double)sinf((float)i);
        for (size_t in = 0; in < l->c_in; in++)
            for (size_t k1 = 0; k1 < l->k_h; k1++)
                for (size_t k2 = 0; k2 < l->k_w; k2++) {
                    size_t at_h = row * l->stride + k1 * l->dilation - l->padding_h, at_w = c * stride_w(l) + k2 * l->dilation - l->padding_w;
                    if (at_h >= l->height || at_w >= l->width) continue;
                    size_t at_x = ((n * l->c_in + in) * l->height + at_h) * l->width + at_w, at_k = ((out * l->c_in + in) * l->k_h + k1) * l->k_w + k2;
                    y[i] += (double)x[at_x] * (double)w[at_k];
                    gx[at_x] += g * (double)w[at_k];
                    gw[at_k] += g * (double)x[at_x];
                }
    }
    compare(r.y, y, r.n_y, "value", i_layer);
    compare(r.gx, gx, r.n_x, "gradient by the input", i_layer);
    compare(r.gw, gw, r.n_w, "gradient by the weights", i_layer);
    free(x), free(w), free(y), free(gx), free(gw);
    free_result(&r);
}

static void test_layers(void **state)
{
    (void)state;
    for (size_t i = 0; i < PITH_COUNT(layers); i++) check(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
