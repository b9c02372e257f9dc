/* What operations compute, against plain loops in double precision and the C library. */
#include "differences.h"
#include "grad/matmul.h"

static double gelu(double x) { return 0.5 * x * (1 + erf(x / sqrt(2))); }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return log1p(exp(x)); }
static double silu(double x) { return x * sigmoid(x); }

static void test_functions(void **state)
{
    (void)state;
    static const struct { pith_var *(*fn)(pith_var *); double (*exact)(double); double low, high, error; } fns[] = {
        {pith_var_exp, exp, -80, 80, 3e-7}, {pith_var_log, log, 1e-30, 90, 3e-7}, {pith_var_tanh, tanh, -9, 9, 3e-7}, {pith_var_sin, sin, -900, 900, 1e-6}, {pith_var_cos, cos, -900, 900, 1e-6},
        {pith_var_erf, erf, -4, 4, 6e-7}, {pith_var_sigmoid, sigmoid, -20, 20, 3e-7}, {pith_var_softplus, softplus, -20, 20, 3e-7}, {pith_var_gelu, gelu, -5, 5, 1e-6}, {pith_var_silu, silu, -9, 9, 5e-7},
        {pith_var_sqrt, sqrt, 0, 9, 2e-7}, {pith_var_abs, fabs, -9, 9, 0}, {pith_var_floor, floor, -9, 9, 0}, {pith_var_round, rint, -9, 9, 0},
    };
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    for (size_t k = 0; k < PITH_COUNT(fns); k++) {
        pith_var *x = drawn(tape, k, PITH_DIMS(20011));
        fill_random(x->data, x->count, k, (float)fns[k].low, (float)fns[k].high);
        pith_var *y = fns[k].fn(x);
        for (size_t i = 0; i < x->count; i++) {
            double exact = fns[k].exact((double)x->data[i]);
            assert_near((double)y->data[i], exact, fns[k].error * fmax(1, fabs(exact)));
        }
    }
    static const float edges[] = {-INFINITY, -100, 100, INFINITY, NAN};
    pith_var *e = pith_var_exp(pith_tape_input(tape, edges, PITH_DIMS(5)));
    assert_true(e->data[0] == 0 && e->data[1] == 0 && isinf(e->data[2]) && isinf(e->data[3]) && isnan(e->data[4]));
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_products(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{1, 1, 1}, {3, 70, 5}, {50, 65, 33}, {2, 128, 200}, {100, 16, 7}, {64, 1, 3}};
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    for (size_t s = 0; s < PITH_COUNT(sizes); s++) {
        for (int t = 0; t < 4; t++) {
            size_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
            bool ta = t & 1, tb = t & 2;
            pith_tape_step(tape, 0);
            pith_var *a = drawn(tape, 1, PITH_DIMS(2, ta ? k : m, ta ? m : k)), *b = drawn(tape, 2, PITH_DIMS(2, tb ? n : k, tb ? k : n)), *y = pith_var_matmul(a, b, ta, tb);
            for (size_t z = 0; z < 2; z++)
                for (size_t i = 0; i < m; i++)
                    for (size_t j = 0; j < n; j++) {
                        double sum = 0;
                        for (size_t p = 0; p < k; p++) sum += (double)a->data[z * m * k + (ta ? p * m + i : i * k + p)] * (double)b->data[z * k * n + (tb ? j * k + p : p * n + j)];
                        assert_near((double)y->data[(z * m + i) * n + j], sum, 1e-4);
                    }
        }
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* A bias is what each sum begins with, however the sides lie in memory: the same bits. */
static void test_product_bias(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{3, 5, 1}, {50, 65, 33}, {100, 80, 400}, {6, 200, 170}, {4, 7, 0}, {512, 130, 330}, {1024, 65, 161}};
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    for (size_t s = 0; s < PITH_COUNT(sizes); s++) {
        size_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
        pith_tape_step(tape, 0);
        pith_var *a = drawn(tape, 1, PITH_DIMS(m, k)), *b = drawn(tape, 2, PITH_DIMS(k, n)), *bias = drawn(tape, 3, PITH_DIMS(n));
        pith_var *turned_a = pith_var_transpose(a, 0, 1), *turned_b = pith_var_transpose(b, 0, 1);
        float *first = NULL;
        for (int t = 0; t < 4; t++) {
            bool ta = t & 1, tb = t & 2;
            pith_var *y = pith_tape_fill(tape, 0, PITH_DIMS(m, n));
            pith_matrix left = {ta ? turned_a->data : a->data, ta ? m : k, ta}, right = {tb ? turned_b->data : b->data, tb ? k : n, tb};
            assert_true(pith_product(tape, 1, m, n, k, left, right, 0, 0, bias->data, y->data));
            if (!first) first = y->data;
            assert_memory_equal(y->data, first, m * n * sizeof(float));
        }
        for (size_t i = 0; i < m * n; i++) {
            double sum = (double)bias->data[i % n];
            for (size_t p = 0; p < k; p++) sum += (double)a->data[i / n * k + p] * (double)b->data[p * n + i % n];
            assert_near((double)first[i], sum, 1e-4);
        }
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void check_conv(pith_tape *tape, const size_t x_dims[4], const size_t w_dims[4], const pith_conv *o)
{
    pith_tape_step(tape, 0);
    pith_var *x = drawn(tape, 1, 4, x_dims), *w = drawn(tape, 2, 4, w_dims), *y = pith_var_conv(x, w, NULL, o);
    assert_non_null(y);
    size_t groups = o->groups ? o->groups : 1, c_out = w_dims[0] / groups, c_in = w_dims[1];
    for (size_t at = 0; at < y->count; at++) {
        size_t ox = at % y->dims[3], oy = at / y->dims[3] % y->dims[2], c = at / y->dims[3] / y->dims[2] % y->dims[1], n = at / y->dims[3] / y->dims[2] / y->dims[1];
        double sum = 0;
        for (size_t i = 0; i < c_in; i++)
            for (size_t ky = 0; ky < w_dims[2]; ky++)
                for (size_t kx = 0; kx < w_dims[3]; kx++) {
                    size_t py = oy * PITH_MAX(o->stride[0], 1u) + ky * PITH_MAX(o->dilation[0], 1u) - o->padding[0], px = ox * PITH_MAX(o->stride[1], 1u) + kx * PITH_MAX(o->dilation[1], 1u) - o->padding[1];
                    if (py >= x_dims[2] || px >= x_dims[3]) continue;
                    sum += (double)x->data[((n * x_dims[1] + c / c_out * c_in + i) * x_dims[2] + py) * x_dims[3] + px] * (double)w->data[((c * c_in + i) * w_dims[2] + ky) * w_dims[3] + kx];
                }
        assert_near((double)y->data[at], sum, 2e-5);
    }
}

/* Each letter an index of one to four, as plain loops over all of them. */
static void check_einsum(pith_tape *tape, const char *spec)
{
    static const char letters[] = "abcdk";
    static const size_t sizes[] = {2, 3, 1, 4, 5};
    size_t dims[3][PITH_MAX_DIMS], at[5], total = 2 * 3 * 1 * 4 * 5;
    int n[3] = {0}, part = 0, label[3][PITH_MAX_DIMS];
    for (const char *p = spec; *p; p++) {
        if (*p == ',' || *p == '>') part++;
        const char *found = strchr(letters, *p);
        if (!found) continue;
        label[part][n[part]] = (int)(found - letters);
        dims[part][n[part]++] = sizes[found - letters];
    }
    pith_var *x[3];
    for (int i = 0; i < 2; i++) x[i] = drawn(tape, (uint64_t)i, n[i], dims[i]);
    pith_var *y = pith_var_einsum(x[0], x[1], spec);
    if (!y) fail_msg("%s: %s", spec, pith_error(pith_tape_ctx(tape)));
    x[2] = y;
    assert_int_equal(y->n_dims, n[2]);
    double *sum = calloc(y->count, sizeof *sum);
    for (size_t i = 0; i < total; i++) {
        size_t rest = i, index[3] = {0};
        for (int l = 0; l < 5; l++) {
            at[l] = rest % sizes[l];
            rest /= sizes[l];
        }
        bool counts = true; /* a letter that stands nowhere is 0 */
        for (int l = 0; l < 5; l++) counts &= at[l] == 0 || strchr(spec, letters[l]);
        for (int k = 0; k < 3; k++)
            for (int d = 0; d < n[k]; d++) index[k] = index[k] * x[k]->dims[d] + at[label[k][d]];
        if (counts) sum[index[2]] += (double)x[0]->data[index[0]] * (double)x[1]->data[index[1]];
    }
    for (size_t i = 0; i < y->count; i++) assert_near((double)y->data[i], sum[i], 1e-5);
    free(sum);
}

static void test_einsum(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    static const char *const specs[] = {"ak,kd->ad", "ka,kd->ad", "ak,dk->ad", "ka,dk->da", "bak,bdk->bad", "abk,bkd->dab", "bak,dk->bad", "ak,bkd->bad", "a,b->ba", "ak,ak->", "ak,ak->a", "ak,ak->ka", "abk,d->ab", "abd,kb->a", "a,->a", ",bk->k", "cab,cbk->ack"};
    for (size_t i = 0; i < PITH_COUNT(specs); i++) check_einsum(tape, specs[i]);
    static const struct { const char *spec; pith_status status; } refused[] = {
        {"aa,ab->b", PITH_E_ARGUMENT}, {"ab,bc", PITH_E_ARGUMENT}, {"ab,bc->ad", PITH_E_ARGUMENT}, {"ab,bc->aa", PITH_E_ARGUMENT}, {"ab->ab", PITH_E_ARGUMENT}, {"a1,ab->b", PITH_E_ARGUMENT}, {"abcdefghi,a->a", PITH_E_ARGUMENT},
        {"ab,cd,ef->a", PITH_E_ARGUMENT}, {"abc,bc->a", PITH_E_SHAPE}, {"ab,cb->ac", PITH_E_SHAPE}, {"ab,bc->ac", PITH_OK}};
    for (size_t i = 0; i < PITH_COUNT(refused); i++) {
        pith_tape_step(tape, 1);
        pith_var *y = pith_var_einsum(drawn(tape, 1, PITH_DIMS(2, 3)), drawn(tape, 2, PITH_DIMS(3, 4)), refused[i].spec);
        assert_true((y != NULL) == (refused[i].status == PITH_OK));
        assert_int_equal(pith_tape_status(tape), refused[i].status);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* Pooling of one to three dimensions by plain loops; windows (2, 3, 2), with padding (1, 2, 0) where the size has room for it. */
static void test_pooling(void **state)
{
    (void)state;
    static const size_t dims[][3] = {{4, 5, 6}, {1, 3, 2}, {3, 1, 5}, {7, 7, 7}};
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    const pith_pool_window w = {.size = {2, 3, 2}, .stride = {2, 1, 3}, .padding = {1, 2, 0}};
    for (size_t c = 0; c < 3 * PITH_COUNT(dims); c++) {
        int n_space = 1 + (int)(c % 3);
        size_t x_dims[5] = {2, 3}, in[3] = {1, 1, 1}, size[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, padding[3] = {0}, out[3] = {1, 1, 1};
        for (int d = 0; d < n_space; d++) {
            x_dims[2 + d] = in[d] = dims[c / 3][d];
            size[d] = w.size[d], stride[d] = w.stride[d], padding[d] = w.padding[d];
            out[d] = (in[d] + 2 * padding[d] - size[d]) / stride[d] + 1;
        }
        pith_var *x = drawn(tape, c, n_space + 2, x_dims), *max = pith_var_max_pool(x, &w), *mean = pith_var_avg_pool(x, &w);
        assert_true(max && mean && max->n_dims == n_space + 2);
        for (int d = 0; d < n_space; d++) assert_true(max->dims[2 + d] == out[d] && mean->dims[2 + d] == out[d]);
        for (size_t o = 0; o < max->count; o++) {
            size_t plane = o / (out[0] * out[1] * out[2]), n = 0, k[3];
            double largest = -INFINITY, sum = 0;
            for (k[0] = 0; k[0] < size[0]; k[0]++)
                for (k[1] = 0; k[1] < size[1]; k[1]++)
                    for (k[2] = 0; k[2] < size[2]; k[2]++) {
                        size_t a = o / (out[1] * out[2]) % out[0] * stride[0] + k[0] - padding[0], b = o / out[2] % out[1] * stride[1] + k[1] - padding[1], e = o % out[2] * stride[2] + k[2] - padding[2];
                        if (a >= in[0] || b >= in[1] || e >= in[2]) continue;
                        double v = (double)x->data[((plane * in[0] + a) * in[1] + b) * in[2] + e];
                        largest = fmax(largest, v);
                        sum += v;
                        n++;
                    }
            assert_near((double)max->data[o], largest, 0);
            assert_near((double)mean->data[o], sum / (double)n, 1e-6);
        }
    }
    static const struct { pith_pool_window w; int n_dims; size_t dims[6]; } wrong[] = {
        {{.size = {2, 2}}, 5, {1, 1, 4, 4, 4}}, {{.size = {2, 2, 2}, .padding = {2}}, 5, {1, 1, 4, 4, 4}}, {{.size = {5}}, 3, {1, 1, 4}}, {{.size = {1, 1, 1}}, 6, {1, 1, 2, 2, 2, 2}}, {{.size = {1}}, 2, {1, 1}}, {{.size = {1, 1}}, 4, {1, 1, 0, 3}}};
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) {
        pith_tape_step(tape, 1);
        assert_null(pith_var_avg_pool(pith_tape_fill(tape, 0, wrong[i].n_dims, wrong[i].dims), &wrong[i].w));
        assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    }
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_space(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    check_conv(tape, (const size_t[]){2, 3, 5, 6}, (const size_t[]){4, 3, 3, 3}, &(pith_conv){.padding = {1, 1}});
    check_conv(tape, (const size_t[]){2, 2, 3, 4}, (const size_t[]){2, 2, 5, 5}, &(pith_conv){.padding = {2, 2}});
    check_conv(tape, (const size_t[]){1, 1, 3, 2}, (const size_t[]){1, 1, 3, 3}, &(pith_conv){.padding = {3, 3}, .dilation = {3, 3}});
    check_conv(tape, (const size_t[]){2, 4, 7, 9}, (const size_t[]){6, 2, 3, 2}, &(pith_conv){.groups = 2, .stride = {2, 3}, .padding = {2, 1}, .dilation = {1, 2}});
    check_conv(tape, (const size_t[]){3, 2, 8, 8}, (const size_t[]){5, 2, 1, 1}, &(pith_conv){0});
    pith_var *x = pith_tape_fill(tape, 0, PITH_DIMS(1, 1, 2, 4));
    for (int i = 0; i < 8; i++) x->data[i] = (float)i;
    pith_var *max = pith_var_max_pool(x, &(pith_pool_window){.size = {2, 2}}), *mean = pith_var_avg_pool(x, &(pith_pool_window){.size = {2, 2}});
    assert_true(max->data[0] == 5 && max->data[1] == 7 && mean->data[0] == 2.5f && mean->data[1] == 4.5f);
    pith_var *wide = pith_var_interpolate(x, 2, 8, true), *near = pith_var_interpolate(x, 4, 8, false);
    assert_true(wide->data[0] == 0 && wide->data[1] == 0.25f && wide->data[2] == 0.75f && wide->data[7] == 3 && near->data[1] == 0 && near->data[2] == 1 && near->data[31] == 7);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static void test_rows(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    pith_var *x = drawn(tape, 1, PITH_DIMS(5, 37)), *soft = pith_var_softmax(x), *logs = pith_var_log_softmax(x), *y = pith_var_layer_norm(x, NULL, NULL, 1e-5f), *r = pith_var_rms_norm(x, NULL, 0);
    const int32_t *order;
    pith_var *sorted = pith_var_top_k(x, 37, &order);
    for (size_t i = 0; i < 5; i++) {
        double sum = 0, mean = 0, square = 0, rms = 0;
        for (size_t k = 0; k < 37; k++) sum += exp((double)x->data[i * 37 + k]);
        for (size_t k = 0; k < 37; k++) {
            size_t at = i * 37 + k;
            assert_near((double)soft->data[at], exp((double)x->data[at]) / sum, 1e-6);
            assert_near((double)logs->data[at], (double)x->data[at] - log(sum), 1e-5);
            mean += (double)y->data[at] / 37, square += (double)(y->data[at] * y->data[at]) / 37, rms += (double)(r->data[at] * r->data[at]) / 37;
            assert_true(sorted->data[at] == x->data[i * 37 + (size_t)order[at]] && (k == 0 || sorted->data[at] <= sorted->data[at - 1]));
        }
        assert_near(mean, 0, 1e-5), assert_near(square, 1, 1e-3), assert_near(rms, 1, 1e-4);
    }
    /* attention beside its formula */
    pith_var *q = drawn(tape, 3, PITH_DIMS(2, 4, 50, 5)), *k = drawn(tape, 4, PITH_DIMS(2, 2, 61, 5)), *v = drawn(tape, 5, PITH_DIMS(2, 2, 61, 5));
    for (int kind = 0; kind < 3; kind++) {
        pith_var *o = pith_var_attention(q, k, v, &(pith_attention){.causal = kind > 0, .window = kind > 1 ? 7 : 0});
        for (size_t at = 0; at < o->count / 5; at++) {
            size_t i = at % 50, kv = at / 200 * 2 + at / 50 % 4 / 2, to = kind ? i + 12 : 61, from = kind > 1 && to > 7 ? to - 7 : 0;
            double sum = 0, out[5] = {0};
            for (size_t j = from; j < to; j++) {
                double s = 0;
                for (size_t d = 0; d < 5; d++) s += (double)q->data[at * 5 + d] * (double)k->data[(kv * 61 + j) * 5 + d];
                s = exp(s / sqrt(5));
                sum += s;
                for (size_t d = 0; d < 5; d++) out[d] += s * (double)v->data[(kv * 61 + j) * 5 + d];
            }
            for (size_t d = 0; d < 5; d++) assert_near((double)o->data[at * 5 + d], out[d] / sum, 1e-5);
        }
    }
    /* heads side by side, and all in one, give the same bits */
    pith_var *k4 = drawn(tape, 6, PITH_DIMS(2, 4, 50, 5)), *v4 = drawn(tape, 7, PITH_DIMS(2, 4, 50, 5)), *side[3], *packed[] = {q, k4, v4};
    for (int i = 0; i < 3; i++) packed[i] = pith_var_reshape(pith_var_transpose(packed[i], 1, 2), PITH_DIMS(2, 50, 20));
    side[0] = packed[0];
    side[1] = pith_var_reshape(pith_var_transpose(k, 1, 2), PITH_DIMS(2, 61, 10));
    side[2] = pith_var_reshape(pith_var_transpose(v, 1, 2), PITH_DIMS(2, 61, 10));
    pith_var *apart = pith_var_transpose(pith_var_attention(q, k, v, &(pith_attention){0}), 1, 2), *heads = pith_var_attention_heads(side[0], side[1], side[2], 4, 2, &(pith_attention){0});
    assert_memory_equal(heads->data, apart->data, apart->count * sizeof(float));
    apart = pith_var_transpose(pith_var_attention(q, k4, v4, &(pith_attention){.causal = true}), 1, 2);
    heads = pith_var_attention_packed(pith_var_concat(packed, 3, 2), 4, &(pith_attention){.causal = true});
    assert_memory_equal(heads->data, apart->data, apart->count * sizeof(float));
    /* averages of a batch's statistics, and their use */
    float mean[3] = {0}, variance[3] = {0};
    pith_var *b = pith_var_affine(drawn(tape, 6, PITH_DIMS(400, 3)), 2, 5);
    assert_non_null(pith_var_batch_norm(b, NULL, NULL, 1e-5f, mean, variance, 1));
    assert_near((double)mean[0], 5, 0.5), assert_near((double)variance[2], 4, 0.8);
    pith_tape_record(tape, false);
    pith_var *n = pith_var_batch_norm(b, NULL, NULL, 0, mean, variance, 1);
    assert_near((double)n->data[4], ((double)b->data[4] - (double)mean[1]) / sqrt((double)variance[1]), 1e-5);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

static double logistic(double x) { return 1 / (1 + exp(-x)); }

/* 19 rows of 5 values over 4 steps: gates, weights and bias as drawn, step by step in double. */
static void test_recurrent(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    for (int round = 0; round < 2 * (PITH_CELL_LSTM_1997 + 1); round++) {
        enum { LEN = 4, ROWS = 19, WIDTH = 21 };
        int cell = round / 2;
        bool lstm = cell == PITH_CELL_LSTM || cell == PITH_CELL_LSTM_1997;
        size_t parts = cell == PITH_CELL_LSTM ? 4 : cell == PITH_CELL_GRU || lstm ? 3 : 1, last = parts - 1; /* parts of an LSTM: i, f or not, g, o */
        if (round % 2 && !lstm) continue; /* no peepholes */
        pith_tape_step(tape, 1);
        pith_var *gates = drawn(tape, 1, PITH_DIMS(LEN, ROWS, parts * WIDTH)), *w = drawn(tape, 2, PITH_DIMS(parts * WIDTH, WIDTH)), *bias = drawn(tape, 3, PITH_DIMS(parts * WIDTH));
        pith_var *h0 = drawn(tape, 4, PITH_DIMS(ROWS, WIDTH)), *c0 = lstm ? drawn(tape, 5, PITH_DIMS(ROWS, WIDTH)) : NULL, *c_last = NULL;
        pith_var *peep = round % 2 ? drawn(tape, 6, PITH_DIMS(parts - 1, WIDTH)) : NULL;
        pith_var *y = pith_var_recurrent_peep((pith_cell)cell, gates, w, bias, peep, h0, c0, &c_last);
        assert_non_null(y);
        for (size_t n = 0; n < ROWS; n++) {
            double h[WIDTH], c[WIDTH] = {0};
            for (size_t i = 0; i < WIDTH; i++) h[i] = (double)h0->data[n * WIDTH + i], c[i] = c0 ? (double)c0->data[n * WIDTH + i] : 0;
            for (size_t t = 0; t < LEN; t++) {
                double g[4 * WIDTH], u[4 * WIDTH], next[WIDTH];
                for (size_t k = 0; k < parts * WIDTH; k++) {
                    g[k] = (double)gates->data[(t * ROWS + n) * parts * WIDTH + k];
                    u[k] = (double)bias->data[k];
                    for (size_t i = 0; i < WIDTH; i++) u[k] += (double)w->data[k * WIDTH + i] * h[i];
                }
                for (size_t i = 0; i < WIDTH; i++) {
                    double both = g[i] + u[i];
                    if (cell == PITH_CELL_TANH) next[i] = tanh(both);
                    if (cell == PITH_CELL_RELU) next[i] = fmax(both, 0);
                    if (lstm) {
                        double p[3] = {0}, keep = 1, z = tanh(g[(last - 1) * WIDTH + i] + u[(last - 1) * WIDTH + i]);
                        for (size_t k = 0; peep && k < last; k++) p[k] = (double)peep->data[k * WIDTH + i];
                        if (cell == PITH_CELL_LSTM) keep = logistic(g[WIDTH + i] + u[WIDTH + i] + p[1] * c[i]);
                        c[i] = keep * c[i] + logistic(both + p[0] * c[i]) * z;
                        next[i] = logistic(g[last * WIDTH + i] + u[last * WIDTH + i] + p[last - 1] * c[i]) * tanh(c[i]);
                    }
                    if (cell == PITH_CELL_GRU) {
                        double z = logistic(g[WIDTH + i] + u[WIDTH + i]);
                        next[i] = (1 - z) * tanh(g[2 * WIDTH + i] + logistic(both) * u[2 * WIDTH + i]) + z * h[i];
                    }
                }
                for (size_t i = 0; i < WIDTH; i++) assert_near((double)y->data[(t * ROWS + n) * WIDTH + i], h[i] = next[i], 2e-5 * (1 + fabs(next[i])));
            }
            for (size_t i = 0; c_last && i < WIDTH; i++) assert_near((double)c_last->data[n * WIDTH + i], c[i], 1e-5);
        }
    }
    assert_null(pith_var_recurrent(PITH_CELL_GRU, drawn(tape, 1, PITH_DIMS(2, 3, 8)), drawn(tape, 1, PITH_DIMS(8, 2)), NULL, NULL, NULL, NULL));
    assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* 40 steps of two heads that share queries and keys, step by step in double; then in two parts, the state carried on. */
static void test_scan(void **state)
{
    (void)state;
    enum { LEN = 40, DK = 3, DV = 2 };
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    for (int kind = 0; kind < 4; kind++) {
        bool before = kind & 1, wide = kind & 2;
        pith_tape_step(tape, 1);
        pith_var *q = drawn(tape, 1, PITH_DIMS(1, 1, LEN, DK)), *k = drawn(tape, 2, PITH_DIMS(1, 1, LEN, DK)), *v = drawn(tape, 3, PITH_DIMS(1, 2, LEN, DV));
        pith_var *decay = pith_var_neg(pith_var_abs(drawn(tape, 4, PITH_DIMS(1, 2, LEN, wide ? DK : 1)))), *s0 = drawn(tape, 5, PITH_DIMS(1, 2, DK, DV));
        pith_var *y = pith_var_linear_scan(q, k, v, decay, s0, before, NULL), *half[2], *carried = s0;
        assert_non_null(y);
        for (size_t h = 0; h < 2; h++) {
            double s[DK][DV];
            for (size_t i = 0; i < DK * DV; i++) s[i / DV][i % DV] = (double)s0->data[h * DK * DV + i];
            for (size_t t = 0; t < LEN; t++)
                for (int pass = 0; pass < 2; pass++) {
                    for (size_t j = 0; j < DV && (pass == 0) == before; j++) {
                        double sum = 0;
                        for (size_t i = 0; i < DK; i++) sum += (double)q->data[t * DK + i] * s[i][j];
                        assert_near((double)y->data[(h * LEN + t) * DV + j], sum, 1e-5 * (1 + fabs(sum)));
                    }
                    for (size_t i = 0; i < DK && (pass == 0) != before; i++)
                        for (size_t j = 0; j < DV; j++)
                            s[i][j] = exp((double)decay->data[(h * LEN + t) * (wide ? DK : 1) + (wide ? i : 0)]) * s[i][j] + (double)k->data[t * DK + i] * (double)v->data[(h * LEN + t) * DV + j];
                }
        }
        for (size_t p = 0; p < 2; p++) {
            pith_var *x[4] = {q, k, v, decay};
            for (int i = 0; i < 4; i++) x[i] = pith_var_slice(x[i], 2, p * 20, 20);
            half[p] = pith_var_linear_scan(x[0], x[1], x[2], x[3], carried, before, &carried);
        }
        pith_var *joined = pith_var_concat(half, 2, 2);
        assert_memory_equal(joined->data, y->data, y->count * sizeof(float));
    }
    assert_null(pith_var_linear_scan(drawn(tape, 1, PITH_DIMS(1, 2, 4, 3)), drawn(tape, 1, PITH_DIMS(1, 2, 4, 3)), drawn(tape, 1, PITH_DIMS(1, 3, 4, 3)), drawn(tape, 1, PITH_DIMS(1, 3, 4, 1)), NULL, false, NULL));
    assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

/* In one pass: the bits of one operation after the other, also of their gradients, whatever is wanted of them. */
static void test_gated(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_tape *tape;
    enum { N = 40001 }; /* no whole number of pieces */
    assert_ok(ctx, pith_tape_new(ctx, 7, &tape));
    pith_var *gate = pith_tape_param(tape, "gate", PITH_DIMS(N)), *up = pith_tape_param(tape, "up", PITH_DIMS(N));
    fill_random(gate->data, N, 1, -6, 6);
    fill_random(up->data, N, 2, -2, 2);
    for (unsigned wanted = 1; wanted < 4; wanted++) {
        pith_var *y[2], *g[2][2], *x[2];
        pith_tape_step(tape, wanted);
        pith_var *a = wanted & 1 ? gate : pith_var_stop(gate), *b = wanted & 2 ? up : pith_var_stop(up), *seed = drawn(tape, 3, PITH_DIMS(N));
        size_t n = 0;
        if (wanted & 1) x[n++] = gate;
        if (wanted & 2) x[n++] = up;
        y[0] = pith_var_silu_mul(a, b);
        y[1] = pith_var_mul(pith_var_silu(a), b);
        for (int k = 0; k < 2; k++) assert_ok(ctx, pith_gradients(tape, y[k], seed, x, n, PITH_KEEP_GRAPH, g[k]));
        assert_memory_equal(y[0]->data, y[1]->data, N * sizeof(float));
        for (size_t i = 0; i < n; i++) assert_memory_equal(g[0][i]->data, g[1][i]->data, N * sizeof(float));
    }
    assert_null(pith_var_silu_mul(gate, drawn(tape, 4, PITH_DIMS(3))));
    assert_int_equal(pith_tape_status(tape), PITH_E_SHAPE);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_functions), cmocka_unit_test(test_products), cmocka_unit_test(test_product_bias), cmocka_unit_test(test_einsum), cmocka_unit_test(test_space), cmocka_unit_test(test_pooling), cmocka_unit_test(test_rows), cmocka_unit_test(test_recurrent), cmocka_unit_test(test_scan), cmocka_unit_test(test_gated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
