/* Adafactor and Muon beside the same formulas in double precision, written the plain way. */
#include <math.h>

#include "test.h"
#include "grad/grad.h"

enum { MAX = 12 };

/* One optimizer over one parameter, with gradients that the test chooses. */
typedef struct bench {
    pith_ctx *ctx;
    pith_tape *tape;
    pith_var *p;
    pith_optimizer *optimizer;
    double w[MAX * MAX], g[MAX * MAX];
    pith_rng rng;
} bench;

static void open_bench(bench *b, const pith_optimizer_options *o, int n_dims, const size_t *dims)
{
    *b = (bench){.ctx = test_ctx(2), .rng = {3, 4, 0}};
    assert_ok(b->ctx, pith_tape_new(b->ctx, 1, &b->tape));
    b->p = pith_tape_param(b->tape, "p", n_dims, dims);
    assert_non_null(b->p);
    for (size_t i = 0; i < b->p->count; i++) b->w[i] = b->p->data[i] = pith_rng_normal(&b->rng);
    assert_ok(b->ctx, pith_optimizer_new(b->tape, o, &b->optimizer));
}

static void close_bench(bench *b)
{
    pith_optimizer_free(b->optimizer);
    pith_tape_free(b->tape);
    pith_ctx_free(b->ctx);
}

/* The gradient of sum(p g) is g. */
static void step(bench *b, float rate)
{
    float g[MAX * MAX];
    for (size_t i = 0; i < b->p->count; i++) b->g[i] = g[i] = pith_rng_normal(&b->rng);
    pith_tape_step(b->tape, 0);
    pith_var *loss = pith_var_sum(pith_var_mul(b->p, pith_tape_input(b->tape, g, b->p->n_dims, b->p->dims)), PITH_ALL_AXES);
    assert_ok(b->ctx, pith_backward(b->tape, loss, 0));
    assert_ok(b->ctx, pith_optimizer_step(b->optimizer, rate));
}

static void compare(const bench *b, double tolerance)
{
    for (size_t i = 0; i < b->p->count; i++)
        if (fabs((double)b->p->data[i] - b->w[i]) > tolerance) fail_msg("value %zu is %.8g, not %.8g", i, (double)b->p->data[i], b->w[i]);
}

static double rms(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum / (double)n);
}

/* Algorithms 4 and 5 of arXiv:1804.04235, with sums over rows and columns as there. */
static void test_adafactor(void **state)
{
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        bool vector = mode == 1, relative = mode >= 2, momentum = mode == 3;
        size_t r = vector ? 1 : 5, c = 12, n = r * c;
        pith_optimizer_options o = {.kind = PITH_ADAFACTOR, .update_clip = 0.9f, .relative = relative, .beta1 = momentum ? 0.8f : 0, .weight_decay = 0.1f};
        bench b;
        if (vector) open_bench(&b, &o, PITH_DIMS(12));
        else open_bench(&b, &o, PITH_DIMS(5, 3, 4));
        double row[MAX] = {0}, col[MAX] = {0}, full[MAX * MAX] = {0}, m[MAX * MAX] = {0};
        size_t count;
        assert_non_null(pith_optimizer_state(b.optimizer, 0, 1, &count));
        assert_int_equal(count, vector ? 12 : 17);
        assert_true((pith_optimizer_state(b.optimizer, 0, 0, &count) != NULL) == momentum);
        for (int t = 1; t <= 4; t++) {
            step(&b, 0.02f);
            double beta2 = 1 - pow(t, -0.8), u[MAX * MAX], total = 0;
            for (size_t i = 0; i < r && !vector; i++) {
                double sum = 0;
                for (size_t j = 0; j < c; j++) sum += b.g[i * c + j] * b.g[i * c + j] + 1e-30;
                row[i] = beta2 * row[i] + (1 - beta2) * sum;
                total += row[i];
            }
            for (size_t j = 0; j < c && !vector; j++) {
                double sum = 0;
                for (size_t i = 0; i < r; i++) sum += b.g[i * c + j] * b.g[i * c + j] + 1e-30;
                col[j] = beta2 * col[j] + (1 - beta2) * sum;
            }
            for (size_t i = 0; i < n; i++) {
                full[i] = beta2 * full[i] + (1 - beta2) * (b.g[i] * b.g[i] + 1e-30);
                u[i] = b.g[i] / sqrt(vector ? full[i] : row[i / c] * col[i % c] / total);
            }
            double length = rms(u, n), rate = 0.02 * (relative ? fmax(1e-3, rms(b.w, n)) : 1);
            for (size_t i = 0; i < n; i++) {
                u[i] /= fmax(1, length / 0.9);
                m[i] = 0.8 * m[i] + 0.2 * u[i];
                b.w[i] -= 0.02 * 0.1 * b.w[i] + rate * (momentum ? m[i] : u[i]);
            }
            compare(&b, 1e-5);
        }
        close_bench(&b);
    }
}

/* x = a x + (b x x' + c (x x')^2) x, five times, of rows <= cols. */
static void newton_schulz(double *x, size_t r, size_t c)
{
    for (int k = 0; k < 5; k++) {
        double gram[MAX * MAX] = {0}, poly[MAX * MAX] = {0}, y[MAX * MAX] = {0};
        for (size_t i = 0; i < r; i++)
            for (size_t j = 0; j < r; j++)
                for (size_t l = 0; l < c; l++) gram[i * r + j] += x[i * c + l] * x[j * c + l];
        for (size_t i = 0; i < r; i++)
            for (size_t j = 0; j < r; j++) {
                for (size_t l = 0; l < r; l++) poly[i * r + j] += 2.0315 * gram[i * r + l] * gram[l * r + j];
                poly[i * r + j] -= 4.775 * gram[i * r + j];
            }
        for (size_t i = 0; i < r; i++)
            for (size_t j = 0; j < c; j++) {
                y[i * c + j] = 3.4445 * x[i * c + j];
                for (size_t l = 0; l < r; l++) y[i * c + j] += poly[i * r + l] * x[l * c + j];
            }
        memcpy(x, y, r * c * sizeof *x);
    }
}

static void test_muon(void **state)
{
    (void)state;
    for (int tall = 0; tall < 2; tall++) {
        size_t rows = tall ? 12 : 5, cols = tall ? 6 : 12, n = rows * cols, r = PITH_MIN(rows, cols), c = PITH_MAX(rows, cols);
        pith_optimizer_options o = {.kind = PITH_MUON, .momentum = 0.9f, .weight_decay = 0.1f};
        bench b;
        if (tall) open_bench(&b, &o, PITH_DIMS(12, 6));
        else open_bench(&b, &o, PITH_DIMS(5, 3, 4));
        double m[MAX * MAX] = {0}, x[MAX * MAX];
        for (int t = 1; t <= 3; t++) {
            step(&b, 0.02f);
            for (size_t i = 0; i < n; i++) {
                m[i] = 0.9 * m[i] + b.g[i];
                x[tall ? i % cols * rows + i / cols : i] = b.g[i] + 0.9 * m[i];
            }
            double length = rms(x, n) * sqrt((double)n);
            for (size_t i = 0; i < n; i++) x[i] /= length;
            newton_schulz(x, r, c);
            /* near orthogonal: every row of the smaller side has a length near 1, and no two are alike */
            for (size_t i = 0; i < r; i++)
                for (size_t j = 0; j <= i; j++) {
                    double dot = 0;
                    for (size_t l = 0; l < c; l++) dot += x[i * c + l] * x[j * c + l];
                    assert_true(i == j ? dot > 0.4 && dot < 1.5 : fabs(dot) < 0.45);
                }
            for (size_t i = 0; i < n; i++) b.w[i] -= 0.02 * 0.1 * b.w[i] + 0.02 * 0.2 * sqrt((double)c) * x[tall ? i % cols * rows + i / cols : i];
            compare(&b, 2e-5);
        }
        close_bench(&b);
    }
}

/* Muon's vectors, and matrices that are said to be plain, move as AdamW's. */
static void test_plain(void **state)
{
    (void)state;
    float w[2][24];
    for (int adam = 0; adam < 2; adam++) {
        for (int vector = 0; vector < 2; vector++) {
            pith_optimizer_options o = {.kind = adam ? PITH_ADAMW : PITH_MUON, .weight_decay = 0.1f};
            bench b;
            if (vector) open_bench(&b, &o, PITH_DIMS(12));
            else open_bench(&b, &o, PITH_DIMS(3, 4));
            size_t count;
            if (!adam && !vector) assert_null(pith_optimizer_state(b.optimizer, 0, 1, &count));
            assert_ok(b.ctx, pith_optimizer_plain(b.optimizer, &b.p, 1));
            assert_non_null(pith_optimizer_state(b.optimizer, 0, 1, &count));
            for (int t = 0; t < 3; t++) step(&b, 0.1f);
            memcpy(w[adam] + 12 * vector, b.p->data, 12 * sizeof(float));
            close_bench(&b);
        }
    }
    assert_memory_equal(w[0], w[1], sizeof w[0]);
}

/* An optimizer of some parameters leaves the others; unsuitable options are told. */
static void test_some(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    pith_var *a = pith_tape_param(tape, "a", PITH_DIMS(2, 2)), *z = pith_tape_param(tape, "z", PITH_DIMS(0, 3));
    pith_tape_param(tape, "b", PITH_DIMS(2));
    for (pith_optimizer_kind kind = PITH_SGD; kind <= PITH_MUON; kind++) {
        pith_optimizer *o;
        pith_var *some[] = {z, a};
        assert_ok(ctx, pith_optimizer_new_for(tape, &(pith_optimizer_options){.kind = kind}, some, 2, &o));
        size_t n;
        assert_true(pith_optimizer_params(o, &n)[1] == a && n == 2);
        pith_var *b = pith_tape_params(tape, &n)[2];
        a->data[0] = b->data[0] = 0;
        pith_tape_step(tape, 0);
        assert_ok(ctx, pith_backward(tape, pith_var_sum(pith_var_add(pith_var_sum_to(a, PITH_DIMS(2)), pith_var_add(b, pith_var_sum(z, PITH_ALL_AXES))), PITH_ALL_AXES), 0));
        assert_ok(ctx, pith_optimizer_step(o, 0.1f));
        assert_true(a->data[0] < 0 && b->data[0] == 0 && !b->grad);
        pith_optimizer_free(o);
        assert_int_equal(pith_optimizer_new(tape, &(pith_optimizer_options){.kind = kind, .update_clip = -1}, &o), PITH_E_ARGUMENT);
        assert_int_equal(pith_optimizer_new(tape, &(pith_optimizer_options){.kind = kind, .beta1 = NAN, .eps = 1}, &o), PITH_E_ARGUMENT);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adafactor), cmocka_unit_test(test_muon), cmocka_unit_test(test_plain), cmocka_unit_test(test_some)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
