/* Sums of products named by letters (Einstein's convention, as in NumPy), of two arrays: letters that only one array has and
 * the result has not are summed first; then both are put in order and multiplied as matrices. */
#include <ctype.h>

#include "grad/tape.h"

typedef struct labels {
    int n;
    char of[PITH_MAX_DIMS];
} labels;

static bool has(const labels *l, char c) { return memchr(l->of, c, (size_t)l->n) != NULL; }
static int place(const labels *l, char c) { return (int)((const char *)memchr(l->of, c, (size_t)l->n) - l->of); }
static void append(labels *l, char c) { l->of[l->n++] = c; }

/* Letters until something else stands there; moves *text to it.  false: too many of them, or one twice. */
static bool read_labels(const char **text, labels *l)
{
    for (*l = (labels){0}; isalpha((unsigned char)**text) || **text == ' '; (*text)++) {
        if (**text == ' ') continue;
        if (l->n == PITH_MAX_DIMS || has(l, **text)) return false;
        append(l, **text);
    }
    return true;
}

static bool skip(const char **text, const char *sign)
{
    bool there = strncmp(*text, sign, strlen(sign)) == 0;
    if (there) *text += strlen(sign);
    return there;
}

static bool read_spec(const char *spec, labels *a, labels *b, labels *y)
{
    if (!read_labels(&spec, a) || !skip(&spec, ",") || !read_labels(&spec, b) || !skip(&spec, "->") || !read_labels(&spec, y) || *spec) return false;
    bool known = true;
    for (int i = 0; i < y->n; i++) known &= has(a, y->of[i]) || has(b, y->of[i]);
    return known;
}

static size_t product(const pith_var *x, const labels *l, const labels *of)
{
    size_t n = 1;
    for (int i = 0; i < of->n; i++) n *= x->dims[place(l, of->of[i])];
    return n;
}

/* x without the letters that neither the other array nor the result has. */
static pith_var *sum_alone(pith_var *x, labels *l, const labels *other, const labels *result)
{
    labels left = {0};
    size_t dims[PITH_MAX_DIMS];
    unsigned axes = 0;
    for (int i = 0; i < l->n; i++) {
        if (!has(other, l->of[i]) && !has(result, l->of[i])) {
            axes |= PITH_AXIS(i);
            continue;
        }
        dims[left.n] = x->dims[i];
        append(&left, l->of[i]);
    }
    *l = left;
    return axes ? pith_var_reshape(pith_var_sum(x, axes), left.n, dims) : x;
}

/* x's dimensions in the order of `to`, in place where they are. */
static pith_var *in_order(pith_var *x, const labels *l, const labels *to)
{
    int axes[PITH_MAX_DIMS] = {0};
    bool moved = false;
    for (int i = 0; i < to->n; i++) {
        axes[i] = place(l, to->of[i]);
        moved |= axes[i] != i;
    }
    return moved ? pith_var_permute(x, axes) : x;
}

static labels joined(const labels *a, const labels *b, const labels *c)
{
    labels all = {0};
    const labels *parts[] = {a, b, c};
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < parts[p]->n; i++) append(&all, parts[p]->of[i]);
    return all;
}

/* x as matrices [batch, own, shared], or turned where it lies in that order. */
static pith_var *matrices(pith_var *x, const labels *l, const labels *batch, const labels *own, const labels *shared, bool *turned)
{
    labels straight = joined(batch, own, shared), other = joined(batch, shared, own);
    *turned = memcmp(l->of, straight.of, (size_t)l->n) != 0 && memcmp(l->of, other.of, (size_t)l->n) == 0;
    size_t n = product(x, l, batch), rows = product(x, l, *turned ? shared : own), cols = product(x, l, *turned ? own : shared);
    pith_var *m = in_order(x, l, *turned ? &other : &straight);
    return batch->n ? pith_var_reshape(m, PITH_DIMS(n, rows, cols)) : pith_var_reshape(m, PITH_DIMS(rows, cols));
}

pith_var *pith_var_einsum(pith_var *a, pith_var *b, const char *spec)
{
    if (!a || !b) return NULL;
    labels la, lb, ly, batch = {0}, left = {0}, right = {0}, shared = {0};
    if (!read_spec(spec, &la, &lb, &ly))
        return pith_op_fail(a->tape, PITH_E_ARGUMENT, "einsum: \"%.200s\" is not of the form \"ab,bc->ac\": up to %d letters an array, none of them twice, the result's all among them", spec, PITH_MAX_DIMS);
    bool fits = la.n == a->n_dims && lb.n == b->n_dims;
    for (int i = 0; fits && i < la.n; i++) fits = !has(&lb, la.of[i]) || b->dims[place(&lb, la.of[i])] == a->dims[i];
    if (!fits) return pith_op_fail(a->tape, PITH_E_SHAPE, "einsum: \"%.200s\" of %s and %s", spec, PITH_SHAPE(a), PITH_SHAPE(b));
    a = sum_alone(a, &la, &lb, &ly);
    b = sum_alone(b, &lb, &la, &ly);
    if (!a || !b) return NULL;
    for (int i = 0; i < ly.n; i++) append(!has(&lb, ly.of[i]) ? &left : !has(&la, ly.of[i]) ? &right : &batch, ly.of[i]);
    for (int i = 0; i < la.n; i++)
        if (!has(&ly, la.of[i])) append(&shared, la.of[i]);
    bool turn_a, turn_b;
    pith_var *ma = matrices(a, &la, &batch, &left, &shared, &turn_a), *mb = matrices(b, &lb, &batch, &right, &shared, &turn_b);
    labels made = joined(&batch, &left, &right);
    size_t dims[PITH_MAX_DIMS];
    for (int i = 0; i < made.n; i++) dims[i] = has(&la, made.of[i]) ? a->dims[place(&la, made.of[i])] : b->dims[place(&lb, made.of[i])];
    pith_var *y = pith_var_reshape(pith_var_matmul(ma, mb, turn_a, !turn_b), made.n, dims);
    return y ? in_order(y, &made, &ly) : NULL;
}
