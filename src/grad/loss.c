/* Losses made of other operations, and drawing random numbers. */
#include <math.h>

#include "grad/tape.h"

static bool same(const char *op, pith_var *a, pith_var *b)
{
    if (!a || !b) return false;
    if (pith_same_shape(a, b)) return true;
    pith_op_fail(a->tape, PITH_E_SHAPE, "%s: %s and %s are not the same shape", op, PITH_SHAPE(a), PITH_SHAPE(b));
    return false;
}

pith_var *pith_var_mse(pith_var *x, pith_var *target)
{
    return same("mse", x, target) ? pith_var_mean(pith_var_square(pith_var_sub(x, target)), PITH_ALL_AXES) : NULL;
}

pith_var *pith_var_l1(pith_var *x, pith_var *target)
{
    return same("l1", x, target) ? pith_var_mean(pith_var_abs(pith_var_sub(x, target)), PITH_ALL_AXES) : NULL;
}

/* -t log s(x) - (1 - t) log(1 - s(x)) = softplus(x) - t x */
pith_var *pith_var_bce(pith_var *x, pith_var *target)
{
    return same("bce", x, target) ? pith_var_mean(pith_var_sub(pith_var_softplus(x), pith_var_mul(x, target)), PITH_ALL_AXES) : NULL;
}

pith_var *pith_var_hinge(pith_var *x, pith_var *target)
{
    return same("hinge", x, target) ? pith_var_mean(pith_var_relu(pith_var_affine(pith_var_mul(x, target), -1, 1)), PITH_ALL_AXES) : NULL;
}

pith_var *pith_var_kl(pith_var *x, pith_var *target)
{
    if (!same("kl", x, target)) return NULL;
    pith_var *log_p = pith_var_log_softmax(target);
    pith_var *sum = pith_var_sum(pith_var_mul(pith_var_exp(log_p), pith_var_sub(log_p, pith_var_log_softmax(x))), PITH_ALL_AXES);
    if (!sum) return NULL;
    return pith_var_scale(sum, x->count ? (float)((double)x->dims[x->n_dims - 1] / (double)x->count) : 0);
}

pith_var *pith_var_unit(pith_var *x, float eps)
{
    if (!x) return NULL;
    if (x->n_dims == 0) return pith_op_fail(x->tape, PITH_E_SHAPE, "unit: a scalar has no last axis");
    pith_var *square = pith_var_sum(pith_var_square(x), PITH_AXIS(x->n_dims - 1));
    return pith_var_mul(x, pith_var_rsqrt(pith_var_clamp(square, eps * eps, INFINITY)));
}

pith_var *pith_var_contrastive(pith_var *a, pith_var *b, float temperature)
{
    if (!same("contrastive", a, b)) return NULL;
    if (a->n_dims != 2 || !(temperature > 0)) return pith_op_fail(a->tape, PITH_E_SHAPE, "contrastive: two arrays [n, d] and a temperature above 0, not %s and %g", PITH_SHAPE(a), (double)temperature);
    int32_t *label = pith_op_attr(a->tape, a->dims[0], sizeof *label);
    for (size_t i = 0; label && i < a->dims[0]; i++) label[i] = (int32_t)i;
    pith_var *cosines = pith_var_matmul(pith_var_unit(a, 1e-8f), pith_var_unit(b, 1e-8f), false, true);
    return label ? pith_var_cross_entropy(pith_var_scale(cosines, 1 / temperature), label) : NULL;
}

/* ---- random numbers --------------------------------------------------------------------------- */

typedef enum noise_kind { UNIFORM, NORMAL, GUMBEL } noise_kind;

typedef struct noise_work {
    float *y;
    uint64_t seed, stream;
    noise_kind kind;
} noise_work;

static void noise_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const noise_work *w = arg;
    for (size_t i = from; i < to; i++) {
        pith_rng rng = {w->seed, w->stream, i * 2}; /* a normal number takes two */
        if (w->kind == UNIFORM) w->y[i] = pith_rng_uniform(&rng);
        else if (w->kind == NORMAL) w->y[i] = pith_rng_normal(&rng);
        else w->y[i] = (float)-log(-log(((double)pith_rng_u32(&rng) + 0.5) * 0x1p-32));
    }
}

static pith_var *noise(pith_tape *tape, noise_kind kind, int n_dims, const size_t *dims)
{
    static const pith_op op = {"random", NULL};
    pith_var *y = pith_op_value(tape, &op, NULL, 0, n_dims, dims, 0);
    if (!y) return NULL;
    noise_work w = {y->data, tape->seed, (tape->step << 24) + tape->n_draws++, kind};
    pith_op_ranges(tape, y->count, ELEMENT_GRAIN / 16, noise_range, &w);
    return y;
}

pith_var *pith_tape_uniform(pith_tape *tape, int n_dims, const size_t *dims) { return noise(tape, UNIFORM, n_dims, dims); }
pith_var *pith_tape_normal(pith_tape *tape, int n_dims, const size_t *dims) { return noise(tape, NORMAL, n_dims, dims); }
pith_var *pith_tape_gumbel(pith_tape *tape, int n_dims, const size_t *dims) { return noise(tape, GUMBEL, n_dims, dims); }

pith_var *pith_var_dropout(pith_var *x, float p)
{
    if (!x) return NULL;
    if (!(p >= 0 && p < 1)) return pith_op_fail(x->tape, PITH_E_ARGUMENT, "dropout: probability %g is not in 0..1", (double)p);
    if (p == 0 || !x->tape->training) return x;
    pith_var *mask = pith_tape_uniform(x->tape, x->n_dims, x->dims);
    for (size_t i = 0; mask && i < mask->count; i++) mask->data[i] = mask->data[i] >= p ? 1 / (1 - p) : 0;
    return pith_var_mul(x, mask);
}

pith_var *pith_var_draw_normal(pith_var *mean, pith_var *log_variance)
{
    if (!same("draw_normal", mean, log_variance)) return NULL;
    pith_var *z = pith_tape_normal(mean->tape, mean->n_dims, mean->dims);
    return pith_var_add(mean, pith_var_mul(pith_var_exp(pith_var_scale(log_variance, 0.5f)), z));
}

pith_var *pith_var_gumbel_softmax(pith_var *logits, float temperature, bool hard)
{
    if (!logits) return NULL;
    pith_tape *tape = logits->tape;
    if (!(temperature > 0) || logits->n_dims == 0) return pith_op_fail(tape, PITH_E_ARGUMENT, "gumbel_softmax: temperature %g of %s", (double)temperature, PITH_SHAPE(logits));
    pith_var *z = pith_tape_gumbel(tape, logits->n_dims, logits->dims);
    pith_var *soft = pith_var_softmax(pith_var_scale(pith_var_add(logits, z), 1 / temperature));
    if (!hard || !soft) return soft;
    size_t n = logits->dims[logits->n_dims - 1];
    const int32_t *best = NULL;
    bool was = pith_record_values(tape, false);
    pith_var *largest = n ? pith_var_top_k(soft, 1, &best) : NULL, *one = pith_tape_fill(tape, 0, soft->n_dims, soft->dims);
    pith_record_values(tape, was);
    if ((n && !largest) || !one) return NULL;
    for (size_t r = 0; n && r < soft->count / n; r++) one->data[r * n + (size_t)best[r]] = 1;
    return pith_var_straight_through(one, soft);
}

#define STRETCH_LOW (-0.1f)
#define STRETCH_HIGH 1.1f

pith_var *pith_var_hard_concrete(pith_var *log_alpha, float temperature)
{
    if (!log_alpha) return NULL;
    if (!(temperature > 0)) return pith_op_fail(log_alpha->tape, PITH_E_ARGUMENT, "hard_concrete: temperature %g is not above 0", (double)temperature);
    pith_var *u = pith_tape_uniform(log_alpha->tape, log_alpha->n_dims, log_alpha->dims);
    for (size_t i = 0; u && i < u->count; i++) { /* log u - log(1 - u), u away from 0 and 1 */
        float v = fminf(fmaxf(u->data[i], 1e-6f), 1 - 1e-6f);
        u->data[i] = logf(v) - log1pf(-v);
    }
    pith_var *s = pith_var_sigmoid(pith_var_scale(pith_var_add(log_alpha, u), 1 / temperature));
    return pith_var_clamp(pith_var_affine(s, STRETCH_HIGH - STRETCH_LOW, STRETCH_LOW), 0, 1);
}

pith_var *pith_var_hard_concrete_open(pith_var *log_alpha, float temperature)
{
    return pith_var_sigmoid(pith_var_affine(log_alpha, 1, -temperature * logf(-STRETCH_LOW / STRETCH_HIGH)));
}
