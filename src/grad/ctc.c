/* Connectionist temporal classification (Graves, Fernandez, Gomez, Schmidhuber, ICML 2006): the probability of a sequence of
 * labels, summed over all ways to place them on the steps, each label on one or more in a row, with blanks between.
 *
 * Forward and backward sums run in the log domain, in double, over the 2 n_labels + 1 states blank, label, blank … of each
 * sequence; sequences are shared out to threads.  The share of the paths that pass a class at a step is kept, and is the
 * gradient. */
#include <math.h>

#include "grad/tape.h"

#define NEVER (-1e30f)            /* the logarithm of 0 where it is to be added to others */

typedef struct ctc_attr {
    size_t n, len, n_classes, max_labels;
    int32_t blank;
    int32_t *label, *n_steps, *n_labels; /* own copies */
    float *weight;                /* [n] of a sequence in the mean; 0: left out */
    float *share;                 /* [n, len, classes]; NULL: no backward pass follows */
} ctc_attr;

typedef struct ctc_work {
    const ctc_attr *a;
    const float *x;
    double *loss;                 /* [n] */
    double *scratch;
    size_t scratch_len;           /* of a worker */
} ctc_work;

/* What state s of sequence i stands for. */
static int32_t class_of(const ctc_attr *a, size_t i, size_t s) { return s % 2 ? a->label[i * a->max_labels + s / 2] : a->blank; }

/* Whether a path may come to state s from s - 2, past a blank. */
static bool may_skip(const ctc_attr *a, size_t i, size_t s) { return s % 2 && s > 1 && class_of(a, i, s) != class_of(a, i, s - 2); }

static double log_sum(double x, double y)
{
    double high = fmax(x, y), low = fmin(x, y);
    return high == -INFINITY ? high : high + log1p(exp(low - high));
}

/* alpha[t, s]: all paths that are at s at step t, up to there. */
static double forward(const ctc_attr *a, size_t i, const float *x, double *alpha)
{
    size_t n_states = 2 * (size_t)a->n_labels[i] + 1, len = (size_t)a->n_steps[i];
    for (size_t t = 0; t < len; t++) {
        double *now = alpha + t * n_states;
        const double *was = t ? now - n_states : NULL;
        for (size_t s = 0; s < n_states; s++) {
            double sum = t ? was[s] : s < 2 ? 0 : -INFINITY;
            if (t && s > 0) sum = log_sum(sum, was[s - 1]);
            if (t && may_skip(a, i, s)) sum = log_sum(sum, was[s - 2]);
            now[s] = sum + (double)x[t * a->n_classes + (size_t)class_of(a, i, s)];
        }
    }
    const double *last = alpha + (len - 1) * n_states;
    return n_states > 1 ? log_sum(last[n_states - 1], last[n_states - 2]) : last[0];
}

/* beta[s]: the same from step t on, without step t itself. */
static void backward(const ctc_attr *a, size_t i, const float *x, const double *alpha, double total, double *beta, float *share)
{
    size_t n_states = 2 * (size_t)a->n_labels[i] + 1, len = (size_t)a->n_steps[i];
    for (size_t t = len; t-- > 0;) {
        const float *next = x + (t + 1) * a->n_classes;
        for (size_t s = 0; s < n_states; s++) { /* what comes after a state has not been replaced yet */
            double sum = s + 2 < n_states ? -INFINITY : 0;
            if (t + 1 < len) {
                sum = beta[s] + (double)next[class_of(a, i, s)];
                if (s + 1 < n_states) sum = log_sum(sum, beta[s + 1] + (double)next[class_of(a, i, s + 1)]);
                if (s + 2 < n_states && may_skip(a, i, s + 2)) sum = log_sum(sum, beta[s + 2] + (double)next[class_of(a, i, s + 2)]);
            }
            beta[s] = sum;
            share[t * a->n_classes + (size_t)class_of(a, i, s)] += (float)exp(alpha[t * n_states + s] + sum - total);
        }
    }
}

static void sequences(void *arg, size_t from, size_t to, int worker)
{
    const ctc_work *w = arg;
    const ctc_attr *a = w->a;
    for (size_t i = from; i < to; i++) {
        w->loss[i] = 0;
        if (!(a->weight[i] > 0) || !a->n_steps[i]) continue; /* no steps and no labels: one empty path */
        const float *x = w->x + i * a->len * a->n_classes;
        double *alpha = w->scratch + (size_t)worker * w->scratch_len, total = forward(a, i, x, alpha);
        w->loss[i] = -total;
        if (a->share) backward(a, i, x, alpha, total, alpha + a->len * (2 * a->max_labels + 1), a->share + i * a->len * a->n_classes);
    }
}

/* ---- the same, of operations ------------------------------------------------------------------ */

/* The constants: of each state whether it is there (0 or NEVER), may be skipped to, and its class; where it begins and ends. */
typedef struct ctc_parts {
    pith_var *first, *shifted, *skipped, *last, *weight;
    int32_t *class, *end;
} ctc_parts;

static bool new_parts(pith_tape *tape, const ctc_attr *a, size_t n_states, ctc_parts *p)
{
    pith_var **fills[] = {&p->first, &p->shifted, &p->skipped};
    for (int k = 0; k < 3; k++)
        if (!(*fills[k] = pith_tape_fill(tape, NEVER, PITH_DIMS(a->n, n_states)))) return false;
    p->last = pith_tape_fill(tape, 0, PITH_DIMS(a->n, 2));
    p->weight = pith_tape_fill(tape, 0, PITH_DIMS(a->n, 1));
    p->class = pith_op_attr(tape, a->n * a->len * n_states, sizeof *p->class);
    p->end = pith_op_attr(tape, a->n * 2, sizeof *p->end);
    if (!p->last || !p->weight || !p->class || !p->end) return false;
    for (size_t i = 0; i < a->n; i++) {
        size_t there = 2 * (size_t)a->n_labels[i] + 1;
        for (size_t s = 0; s < n_states; s++) {
            size_t at = i * n_states + s;
            if (s < 2 && s < there) p->first->data[at] = 0;
            if (s > 0 && s < there) p->shifted->data[at] = 0;
            if (s < there && may_skip(a, i, s)) p->skipped->data[at] = 0;
            for (size_t t = 0; t < a->len; t++) p->class[(i * a->len + t) * n_states + s] = s < there ? class_of(a, i, s) : a->blank;
        }
        p->end[2 * i] = (int32_t)(there - 1);
        p->end[2 * i + 1] = (int32_t)(there > 1 ? there - 2 : 0);
        if (there == 1) p->last->data[2 * i + 1] = NEVER;
        if (a->n_steps[i]) p->weight->data[i] = -a->weight[i];
    }
    return true;
}

/* 1 for the sequences that have a step t. */
static pith_var *running(pith_tape *tape, const ctc_attr *a, size_t t)
{
    pith_var *on = pith_tape_fill(tape, 0, PITH_DIMS(a->n, 1));
    for (size_t i = 0; on && i < a->n; i++) on->data[i] = (size_t)a->n_steps[i] > t ? 1 : 0;
    return on;
}

static pith_var *remake(pith_var *y)
{
    const ctc_attr *a = y->attr;
    pith_tape *tape = y->tape;
    size_t n_states = 2 * a->max_labels + 1;
    ctc_parts p;
    if (!a->len || !a->n) return pith_var_scale(pith_var_sum(y->in[0], PITH_ALL_AXES), 0);
    if (!new_parts(tape, a, n_states, &p)) return NULL;
    pith_var *x = pith_gather(y->in[0], p.class, n_states), *alpha = NULL;
    for (size_t t = 0; t < a->len; t++) {
        pith_var *step = pith_var_reshape(pith_var_slice(x, 1, t, 1), PITH_DIMS(a->n, n_states)), *sum = p.first;
        if (t) {
            pith_var *from[3] = {alpha};
            from[1] = pith_var_add(pith_var_slice(pith_var_pad(alpha, 1, 1, 0), 1, 0, n_states), p.shifted);
            from[2] = pith_var_add(pith_var_slice(pith_var_pad(alpha, 1, 2, 0), 1, 0, n_states), p.skipped);
            for (int k = 0; k < 3; k++) from[k] = pith_var_reshape(from[k], PITH_DIMS(a->n, n_states, 1));
            sum = pith_var_reshape(pith_var_logsumexp(pith_var_concat(from, 3, 2)), PITH_DIMS(a->n, n_states));
        }
        sum = pith_var_add(sum, step);
        pith_var *on = running(tape, a, t);
        alpha = t ? pith_var_add(pith_var_mul(sum, on), pith_var_mul(alpha, pith_var_affine(on, -1, 1))) : sum;
    }
    pith_var *total = pith_var_logsumexp(pith_var_add(pith_gather(alpha, p.end, 2), p.last));
    return pith_var_sum(pith_var_mul(total, p.weight), PITH_ALL_AXES);
}

/* ---- the operation ---------------------------------------------------------------------------- */

static void ctc_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"ctc_back", NULL};
    if (pith_op_remake(y, gy, remake)) return;
    const ctc_attr *a = y->attr;
    pith_var *x = y->in[0], *g = pith_op_value(y->tape, &back, NULL, 0, x->n_dims, x->dims, 0);
    size_t row = a->len * a->n_classes;
    for (size_t i = 0; g && i < x->count; i++) g->data[i] = -gy->data[0] * a->weight[i / row] * a->share[i];
    gx[0] = g;
}

/* The caller's numbers, checked. */
static bool read_lengths(pith_tape *tape, const int32_t *label, const pith_ctc *o, ctc_attr *a)
{
    a->label = pith_op_attr(tape, a->n * a->max_labels, sizeof *a->label);
    a->n_steps = pith_op_attr(tape, a->n, sizeof *a->n_steps);
    a->n_labels = pith_op_attr(tape, a->n, sizeof *a->n_labels);
    a->weight = pith_op_attr(tape, a->n, sizeof *a->weight);
    if (!a->label || !a->n_steps || !a->n_labels || !a->weight) return false;
    if (a->n && a->max_labels) memcpy(a->label, label, a->n * a->max_labels * sizeof *label);
    size_t n_counted = 0;
    for (size_t i = 0; i < a->n; i++) {
        int64_t steps = o->n_steps ? o->n_steps[i] : (int64_t)a->len, labels = o->n_labels ? o->n_labels[i] : (int64_t)a->max_labels, needed = labels;
        if (steps < 0 || steps > (int64_t)a->len || labels < 0 || labels > (int64_t)a->max_labels) {
            pith_op_fail(tape, PITH_E_ARGUMENT, "ctc: sequence %zu has %lld steps of at most %zu and %lld labels of at most %zu", i, (long long)steps, a->len, (long long)labels, a->max_labels);
            return false;
        }
        for (int64_t k = 0; k < labels; k++) {
            const int32_t *l = a->label + i * a->max_labels + k;
            if (*l < 0 || (size_t)*l >= a->n_classes || *l == a->blank) {
                pith_op_fail(tape, PITH_E_ARGUMENT, "ctc: label %lld of sequence %zu is %d; there are %zu classes, of which %d is the blank", (long long)k, i, (int)*l, a->n_classes, (int)a->blank);
                return false;
            }
            needed += k > 0 && l[0] == l[-1];
        }
        if (needed > steps && !o->skip_impossible) {
            pith_op_fail(tape, PITH_E_ARGUMENT, "ctc: the %lld labels of sequence %zu take at least %lld steps, it has %lld; make it longer, or leave such out by skip_impossible", (long long)labels, i, (long long)needed, (long long)steps);
            return false;
        }
        a->n_steps[i] = (int32_t)steps;
        a->n_labels[i] = (int32_t)labels;
        a->weight[i] = needed <= steps;
        n_counted += needed <= steps;
    }
    for (size_t i = 0; n_counted && i < a->n; i++) a->weight[i] /= (float)n_counted;
    return true;
}

static pith_var *ctc_of(pith_var *x, const ctc_attr *attr)
{
    static const pith_op op = {"ctc", ctc_backward};
    pith_tape *tape = x->tape;
    pith_var *y = pith_op_value(tape, &op, &x, 1, 0, NULL, sizeof *attr);
    if (!y) return NULL;
    ctc_attr *a = y->attr;
    *a = *attr;
    if (pith_recording(tape)) {
        if (!(a->share = pith_op_attr(tape, x->count, sizeof *a->share))) return NULL;
        memset(a->share, 0, x->count * sizeof *a->share);
    }
    ctc_work w = {.a = a, .x = x->data, .loss = pith_op_attr(tape, a->n, sizeof *w.loss)};
    size_t n_scratch; /* f32s */
    if (!pith_mul(a->len + 1, 2 * a->max_labels + 1, &w.scratch_len) || !pith_mul(w.scratch_len, (size_t)pith_n_threads(tape->ctx) * 2, &n_scratch)) n_scratch = SIZE_MAX;
    pith_block *scratch = w.loss ? pith_op_take(tape, n_scratch) : NULL;
    if (!scratch) return NULL;
    w.scratch = (double *)pith_op_floats(scratch);
    pith_op_ranges(tape, a->n, 1, sequences, &w);
    pith_op_drop(tape, scratch);
    double sum = 0;
    for (size_t i = 0; i < a->n; i++) sum += (double)a->weight[i] * w.loss[i];
    y->data[0] = (float)sum;
    return y;
}

pith_var *pith_var_ctc(pith_var *x, const int32_t *label, size_t max_labels, const pith_ctc *o)
{
    if (!x) return NULL;
    bool fits = x->n_dims == 3 && x->dims[1] <= INT32_MAX && x->dims[0] <= INT32_MAX && max_labels <= INT32_MAX / 2 && o->blank >= 0 && (size_t)o->blank < x->dims[2];
    if (!fits)
        return pith_op_fail(x->tape, PITH_E_SHAPE, "ctc: %s is not [n, len, classes] with a class %d for the blank, and %zu labels", PITH_SHAPE(x), (int)o->blank, max_labels);
    ctc_attr a = {.n = x->dims[0], .len = x->dims[1], .n_classes = x->dims[2], .max_labels = max_labels, .blank = o->blank};
    if (!read_lengths(x->tape, label, o, &a)) return NULL;
    pith_var *logs = pith_var_log_softmax(x);
    return logs ? ctc_of(logs, &a) : NULL;
}
