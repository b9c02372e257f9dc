/* Functions of one value, and of two with broadcasting. */
#include "grad/tape.h"

/* ---- of one ----------------------------------------------------------------------------------- */

typedef struct unary_attr {
    pith_unary fn;
    int order; /* 0: f(x); 1: f'(x) g; 2: f''(x) g */
    float p0, p1;
} unary_attr;

typedef struct unary_work {
    const pith_loops *loops;
    const unary_attr *a;
    const float *x, *g;
    float *y;
} unary_work;

static void unary_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const unary_work *w = arg;
    w->loops->unary(w->a->fn, w->a->order, w->a->p0, w->a->p1, w->x + from, w->g ? w->g + from : NULL, w->y + from, to - from);
}

static void unary_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    const unary_attr *a = y->attr;
    pith_var *x = y->in[0];
    if (a->order == 0) {
        if (a->fn == PITH_UNARY_AFFINE) gx[0] = pith_var_scale(gy, a->p0); /* needs no x */
        else gx[0] = pith_var_slope(x, gy, a->fn, 1, a->p0, a->p1);
        return;
    }
    if (pith_wanted(y->in[1])) gx[1] = pith_var_slope(x, gy, a->fn, a->order, a->p0, a->p1);
    if (!pith_wanted(x)) return;
    if (a->order == 2) pith_op_fail(y->tape, PITH_E_UNSUPPORTED, "%s: its third derivative is not known", y->op->name);
    else gx[0] = pith_var_slope(x, pith_var_mul(gy, y->in[1]), a->fn, 2, a->p0, a->p1);
}

static const pith_op unary_ops[PITH_N_UNARIES] = {
#define X(upper, lower) [PITH_UNARY_##upper] = {#lower, unary_backward},
    PITH_UNARIES(X)
#undef X
};

static pith_var *unary(pith_var *x, pith_var *g, unary_attr attr)
{
    if (!x || (attr.order && !g)) return NULL;
    pith_var *in[] = {x, g};
    pith_var *y = pith_op_value(x->tape, &unary_ops[attr.fn], in, attr.order ? 2 : 1, x->n_dims, x->dims, sizeof attr);
    if (!y) return NULL;
    memcpy(y->attr, &attr, sizeof attr);
    unary_work w = {x->tape->loops, y->attr, x->data, g ? g->data : NULL, y->data};
    pith_op_ranges(x->tape, x->count, ELEMENT_GRAIN, unary_range, &w);
    return y;
}

pith_var *pith_var_unary(pith_var *x, pith_unary fn, float p0, float p1) { return unary(x, NULL, (unary_attr){fn, 0, p0, p1}); }
pith_var *pith_var_slope(pith_var *x, pith_var *g, pith_unary fn, int order, float p0, float p1) { return unary(x, g, (unary_attr){fn, order, p0, p1}); }

pith_var *pith_var_scale(pith_var *x, float factor) { return pith_var_unary(x, PITH_UNARY_AFFINE, factor, 0); }
pith_var *pith_var_affine(pith_var *x, float factor, float shift) { return pith_var_unary(x, PITH_UNARY_AFFINE, factor, shift); }
pith_var *pith_var_neg(pith_var *x) { return pith_var_scale(x, -1); }
pith_var *pith_var_abs(pith_var *x) { return pith_var_unary(x, PITH_UNARY_ABS, 0, 0); }
pith_var *pith_var_square(pith_var *x) { return pith_var_unary(x, PITH_UNARY_SQUARE, 0, 0); }
pith_var *pith_var_sqrt(pith_var *x) { return pith_var_unary(x, PITH_UNARY_SQRT, 0, 0); }
pith_var *pith_var_rsqrt(pith_var *x) { return pith_var_unary(x, PITH_UNARY_RSQRT, 0, 0); }
pith_var *pith_var_reciprocal(pith_var *x) { return pith_var_unary(x, PITH_UNARY_RECIPROCAL, 0, 0); }
pith_var *pith_var_pow(pith_var *x, float exponent) { return pith_var_unary(x, PITH_UNARY_POW, exponent, 0); }
pith_var *pith_var_exp(pith_var *x) { return pith_var_unary(x, PITH_UNARY_EXP, 0, 0); }
pith_var *pith_var_log(pith_var *x) { return pith_var_unary(x, PITH_UNARY_LOG, 0, 0); }
pith_var *pith_var_sin(pith_var *x) { return pith_var_unary(x, PITH_UNARY_SIN, 0, 0); }
pith_var *pith_var_cos(pith_var *x) { return pith_var_unary(x, PITH_UNARY_COS, 0, 0); }
pith_var *pith_var_erf(pith_var *x) { return pith_var_unary(x, PITH_UNARY_ERF, 0, 0); }
pith_var *pith_var_tanh(pith_var *x) { return pith_var_unary(x, PITH_UNARY_TANH, 0, 0); }
pith_var *pith_var_sigmoid(pith_var *x) { return pith_var_unary(x, PITH_UNARY_SIGMOID, 0, 0); }
pith_var *pith_var_softplus(pith_var *x) { return pith_var_unary(x, PITH_UNARY_SOFTPLUS, 0, 0); }
pith_var *pith_var_relu(pith_var *x) { return pith_var_unary(x, PITH_UNARY_RELU, 0, 0); }
pith_var *pith_var_leaky_relu(pith_var *x, float slope) { return pith_var_unary(x, PITH_UNARY_LEAKY_RELU, slope, 0); }
pith_var *pith_var_elu(pith_var *x, float alpha) { return pith_var_unary(x, PITH_UNARY_ELU, alpha, 0); }
pith_var *pith_var_silu(pith_var *x) { return pith_var_unary(x, PITH_UNARY_SILU, 0, 0); }
pith_var *pith_var_gelu(pith_var *x) { return pith_var_unary(x, PITH_UNARY_GELU, 0, 0); }
pith_var *pith_var_gelu_tanh(pith_var *x) { return pith_var_unary(x, PITH_UNARY_GELU_TANH, 0, 0); }
pith_var *pith_var_clamp(pith_var *x, float low, float high) { return pith_var_unary(x, PITH_UNARY_CLAMP, low, high); }
pith_var *pith_var_round(pith_var *x) { return pith_var_unary(x, PITH_UNARY_ROUND, 0, 0); }
pith_var *pith_var_floor(pith_var *x) { return pith_var_unary(x, PITH_UNARY_FLOOR, 0, 0); }
pith_var *pith_var_sign(pith_var *x) { return pith_var_unary(x, PITH_UNARY_SIGN, 0, 0); }

/* ---- of two ----------------------------------------------------------------------------------- */

/* The result's dimensions, neighbours that behave alike taken together: steps in values, 0 where repeated. */
typedef struct pairing {
    int n_dims;
    size_t dims[PITH_MAX_DIMS], step_a[PITH_MAX_DIMS], step_b[PITH_MAX_DIMS];
} pairing;

typedef struct binary_work {
    const pith_loops *loops;
    pith_binary fn;
    const pairing *p;
    const float *a, *b;
    float *y;
} binary_work;

static bool pair_up(const pith_var *a, const pith_var *b, int *n_dims, size_t *dims, pairing *p)
{
    *n_dims = PITH_MAX(a->n_dims, b->n_dims);
    size_t step_a[PITH_MAX_DIMS], step_b[PITH_MAX_DIMS], at_a = 1, at_b = 1;
    for (int d = *n_dims - 1; d >= 0; d--) {
        int da = d - (*n_dims - a->n_dims), db = d - (*n_dims - b->n_dims);
        size_t na = da >= 0 ? a->dims[da] : 1, nb = db >= 0 ? b->dims[db] : 1;
        if (na != nb && na != 1 && nb != 1) return false;
        dims[d] = na == 1 ? nb : na;
        step_a[d] = na == 1 ? 0 : at_a;
        step_b[d] = nb == 1 ? 0 : at_b;
        at_a *= na;
        at_b *= nb;
    }
    p->n_dims = 0;
    for (int d = 0; d < *n_dims; d++) {
        if (dims[d] == 1) continue;
        int last = p->n_dims - 1;
        if (last >= 0 && p->step_a[last] == step_a[d] * dims[d] && p->step_b[last] == step_b[d] * dims[d]) {
            p->dims[last] *= dims[d];
            p->step_a[last] = step_a[d];
            p->step_b[last] = step_b[d];
            continue;
        }
        p->dims[p->n_dims] = dims[d];
        p->step_a[p->n_dims] = step_a[d];
        p->step_b[p->n_dims++] = step_b[d];
    }
    if (p->n_dims == 0) {
        p->n_dims = 1;
        p->dims[0] = 1;
        p->step_a[0] = p->step_b[0] = 0;
    }
    return true;
}

/* Rows, that is all but the last of the taken together dimensions. */
static void binary_rows(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const binary_work *w = arg;
    const pairing *p = w->p;
    int last = p->n_dims - 1;
    size_t n = p->dims[last];
    for (size_t row = from; row < to; row++) {
        size_t rest = row, at_a = 0, at_b = 0;
        for (int d = last - 1; d >= 0; d--) {
            size_t i = rest % p->dims[d];
            rest /= p->dims[d];
            at_a += i * p->step_a[d];
            at_b += i * p->step_b[d];
        }
        w->loops->binary(w->fn, w->a + at_a, (int)p->step_a[last], w->b + at_b, (int)p->step_b[last], w->y + row * n, n);
    }
}

/* Parts of the one row there is. */
static void binary_part(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const binary_work *w = arg;
    size_t step_a = w->p->step_a[0], step_b = w->p->step_b[0];
    w->loops->binary(w->fn, w->a + from * step_a, (int)step_a, w->b + from * step_b, (int)step_b, w->y + from, to - from);
}

static pith_var *binary(const pith_op *op, pith_binary fn, pith_var *a, pith_var *b)
{
    if (!a || !b) return NULL;
    pairing p;
    int n_dims;
    size_t dims[PITH_MAX_DIMS];
    if (!pair_up(a, b, &n_dims, dims, &p)) return pith_op_fail(a->tape, PITH_E_SHAPE, "%s: %s and %s cannot be matched", op->name, PITH_SHAPE(a), PITH_SHAPE(b));
    pith_var *in[] = {a, b}, *y = pith_op_value(a->tape, op, in, 2, n_dims, dims, 0);
    if (!y || !y->count) return y;
    binary_work w = {y->tape->loops, fn, &p, a->data, b->data, y->data};
    size_t n = p.dims[p.n_dims - 1];
    if (p.n_dims == 1) pith_op_ranges(y->tape, n, ELEMENT_GRAIN, binary_part, &w);
    else pith_op_ranges(y->tape, y->count / n, PITH_CEIL_DIV(ELEMENT_GRAIN, n), binary_rows, &w);
    return y;
}

/* g, summed over what was repeated of x */
static pith_var *back_to(pith_var *g, const pith_var *x)
{
    if (!g || pith_same_shape(g, x)) return g;
    return pith_var_sum_to(g, x->n_dims, x->dims);
}

static void add_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    for (int i = 0; i < 2; i++)
        if (pith_wanted(y->in[i])) gx[i] = back_to(gy, y->in[i]);
}

static void sub_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    if (pith_wanted(y->in[0])) gx[0] = back_to(gy, y->in[0]);
    if (pith_wanted(y->in[1])) gx[1] = pith_var_neg(back_to(gy, y->in[1]));
}

static void mul_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    for (int i = 0; i < 2; i++)
        if (pith_wanted(y->in[i])) gx[i] = back_to(pith_var_mul(gy, y->in[1 - i]), y->in[i]);
}

static void div_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    pith_var *ga = pith_var_div(gy, y->in[1]);
    if (pith_wanted(y->in[0])) gx[0] = back_to(ga, y->in[0]);
    if (pith_wanted(y->in[1])) gx[1] = back_to(pith_var_neg(pith_var_mul(ga, y)), y->in[1]);
}

/* the gradient goes where the value came from */
static void choice_backward(pith_var *y, pith_var *gy, pith_var *from_a, pith_var **gx)
{
    if (pith_wanted(y->in[0])) gx[0] = back_to(pith_var_mul(gy, from_a), y->in[0]);
    if (pith_wanted(y->in[1])) gx[1] = back_to(pith_var_mul(gy, pith_var_affine(from_a, -1, 1)), y->in[1]);
}

static void max_backward(pith_var *y, pith_var *gy, pith_var **gx) { choice_backward(y, gy, pith_var_at_least(y->in[0], y->in[1]), gx); }
static void min_backward(pith_var *y, pith_var *gy, pith_var **gx) { choice_backward(y, gy, pith_var_at_least(y->in[1], y->in[0]), gx); }

pith_var *pith_var_add(pith_var *a, pith_var *b)
{
    static const pith_op op = {"add", add_backward};
    return binary(&op, PITH_BINARY_ADD, a, b);
}

pith_var *pith_var_sub(pith_var *a, pith_var *b)
{
    static const pith_op op = {"sub", sub_backward};
    return binary(&op, PITH_BINARY_SUB, a, b);
}

pith_var *pith_var_mul(pith_var *a, pith_var *b)
{
    static const pith_op op = {"mul", mul_backward};
    return binary(&op, PITH_BINARY_MUL, a, b);
}

pith_var *pith_var_div(pith_var *a, pith_var *b)
{
    static const pith_op op = {"div", div_backward};
    return binary(&op, PITH_BINARY_DIV, a, b);
}

pith_var *pith_var_max(pith_var *a, pith_var *b)
{
    static const pith_op op = {"max", max_backward};
    return binary(&op, PITH_BINARY_MAX, a, b);
}

pith_var *pith_var_min(pith_var *a, pith_var *b)
{
    static const pith_op op = {"min", min_backward};
    return binary(&op, PITH_BINARY_MIN, a, b);
}

pith_var *pith_var_at_least(pith_var *a, pith_var *b)
{
    static const pith_op op = {"at_least", NULL};
    if (!a || !b) return NULL;
    bool was = pith_record_values(a->tape, false);
    pith_var *y = binary(&op, PITH_BINARY_AT_LEAST, a, b);
    pith_record_values(a->tape, was);
    return y;
}

static void broadcast_backward(pith_var *y, pith_var *gy, pith_var **gx) { gx[0] = back_to(gy, y->in[0]); }

pith_var *pith_var_broadcast(pith_var *x, int n_dims, const size_t *dims)
{
    static const pith_op op = {"broadcast", broadcast_backward};
    if (!x) return NULL;
    pith_var *y = pith_op_value(x->tape, &op, &x, 1, n_dims, dims, 0);
    pairing p;
    int n_paired;
    size_t paired[PITH_MAX_DIMS];
    if (!y) return NULL;
    if (n_dims < x->n_dims || !pair_up(x, y, &n_paired, paired, &p) || memcmp(paired, y->dims, (size_t)n_paired * sizeof *paired))
        return pith_op_fail(x->tape, PITH_E_SHAPE, "broadcast: %s does not repeat to %s", PITH_SHAPE(x), PITH_SHAPE(y));
    if (!y->count) return y;
    const float zero = 0;
    for (int d = 0; d < p.n_dims; d++) p.step_b[d] = 0;
    binary_work w = {y->tape->loops, PITH_BINARY_ADD, &p, x->data, &zero, y->data};
    size_t n = p.dims[p.n_dims - 1];
    pith_op_ranges(y->tape, y->count / n, PITH_CEIL_DIV(ELEMENT_GRAIN, n), binary_rows, &w);
    return y;
}
