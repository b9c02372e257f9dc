/* Values, their memory, and the passes over them. */
#include <math.h>

#include "grad/tape.h"

/* ---- blocks ----------------------------------------------------------------------------------- */

/* Sizes come in steps of an eighth of a power of two, so that a block is at most an eighth larger than asked for
 * and a batch of another size finds blocks that fit. */
#define STEPS 8
#define SMALLEST 64 /* floats */

static size_t class_of(size_t count, size_t *size)
{
    size_t power = SMALLEST, class = 0;
    while (power * 2 <= count) power *= 2, class += STEPS;
    size_t step = power / STEPS, above = count > power ? PITH_CEIL_DIV(count - power, step) : 0;
    *size = power + above * step;
    return class + above;
}

pith_block *pith_op_take(pith_tape *tape, size_t count)
{
    size_t size = 0, class = count < MAX_COUNT ? class_of(count, &size) : N_CLASSES;
    if (class >= N_CLASSES) {
        pith_op_fail(tape, PITH_E_LIMIT, "a value of %zu numbers is too large", count);
        return NULL;
    }
    pith_block *b = tape->unused[class];
    if (b) {
        tape->unused[class] = b->next_unused;
    } else {
        b = pith_alloc(tape->ctx, sizeof *b + size * sizeof(float));
        if (!b) {
            tape->status = tape->status ? tape->status : PITH_E_MEMORY;
            return NULL;
        }
        *b = (pith_block){.class = class, .next = tape->blocks};
        tape->blocks = b;
        tape->bytes += sizeof *b + size * sizeof(float);
    }
    b->refs = 1;
    return b;
}

static void retain(pith_block *b)
{
    if (b) b->refs++;
}

void pith_op_drop(pith_tape *tape, pith_block *b)
{
    if (!b || --b->refs) return;
    b->next_unused = tape->unused[b->class];
    tape->unused[b->class] = b;
}

float *pith_op_floats(pith_block *block) { return (float *)(block + 1); }

/* ---- the tape --------------------------------------------------------------------------------- */

pith_status pith_tape_new(pith_ctx *ctx, uint64_t seed, pith_tape **out)
{
    pith_tape *tape = pith_calloc(ctx, 1, sizeof *tape);
    if (!tape) return PITH_E_MEMORY;
    tape->ctx = ctx;
    tape->seed = seed;
    tape->recording = tape->training = true;
    tape->kernels = pith_kernels_get(ctx);
    tape->loops = pith_loops_for(pith_ctx_cpu(ctx));
    tape->lasting = pith_arena_new(ctx);
    tape->arena = pith_arena_new(ctx);
    if (!tape->lasting || !tape->arena) {
        pith_tape_free(tape);
        return PITH_E_MEMORY;
    }
    tape->start = pith_arena_mark(tape->arena);
    *out = tape;
    return PITH_OK;
}

void pith_tape_free(pith_tape *tape)
{
    if (!tape) return;
    for (pith_block *b = tape->blocks, *next; b; b = next) {
        next = b->next;
        pith_free(tape->ctx, b);
    }
    pith_free(tape->ctx, tape->values);
    pith_free(tape->ctx, tape->params);
    pith_arena_free(tape->lasting);
    pith_arena_free(tape->arena);
    pith_free(tape->ctx, tape);
}

/* Give back the memory of values from..n_values-1, the values themselves stay in the arena. */
static void release(pith_tape *tape, size_t from)
{
    for (size_t i = from; i < tape->n_values; i++) {
        pith_var *v = tape->values[i];
        pith_op_drop(tape, v->block);
        pith_op_drop(tape, v->g_block);
        v->block = v->g_block = NULL;
        v->data = v->g_data = NULL;
    }
    tape->n_values = from;
}

void pith_tape_step(pith_tape *tape, uint64_t step)
{
    release(tape, 0);
    pith_arena_reset(tape->arena, tape->start);
    for (size_t i = 0; i < tape->n_params; i++) tape->params[i]->g = NULL;
    tape->status = PITH_OK;
    tape->recording = tape->training = true;
    tape->step = step;
    tape->n_draws = 0;
}

pith_status pith_tape_status(const pith_tape *tape) { return tape->status; }
uint64_t pith_tape_seed(const pith_tape *tape) { return tape->seed; }
size_t pith_tape_bytes(const pith_tape *tape) { return tape->bytes; }
pith_ctx *pith_tape_ctx(const pith_tape *tape) { return tape->ctx; }
bool pith_recording(const pith_tape *tape) { return tape->recording; }

bool pith_record_values(pith_tape *tape, bool on)
{
    bool was = tape->recording;
    tape->recording = on;
    return was;
}

bool pith_tape_record(pith_tape *tape, bool on)
{
    tape->training = on;
    return pith_record_values(tape, on);
}

pith_scope pith_scope_begin(pith_tape *tape) { return (pith_scope){tape->n_values}; }

void pith_scope_end(pith_tape *tape, pith_scope scope, pith_var *const *keep, size_t n_keep)
{
    size_t n = scope.n_values;
    for (size_t i = scope.n_values; i < tape->n_values; i++) {
        pith_var *v = tape->values[i];
        bool kept = v->needs_grad;
        for (size_t k = 0; k < n_keep && !kept; k++) kept = keep[k] == v;
        if (kept) {
            pith_var *swap = tape->values[n];
            tape->values[n++] = v;
            tape->values[i] = swap;
        }
    }
    release(tape, n);
}

/* ---- values ----------------------------------------------------------------------------------- */

pith_var *pith_op_fail(pith_tape *tape, pith_status status, const char *format, ...)
{
    if (tape->status) return NULL; /* the first one stays */
    char text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tape->status = pith_fail(tape->ctx, status, "%s", text);
    return NULL;
}

pith_shape_text pith_shape(const pith_var *v)
{
    pith_shape_text s = {"["};
    size_t at = 1;
    for (int d = 0; d < v->n_dims; d++) at += (size_t)snprintf(s.text + at, sizeof s.text - at, d ? ", %zu" : "%zu", v->dims[d]);
    snprintf(s.text + at, sizeof s.text - at, "]");
    return s;
}

void *pith_op_attr(pith_tape *tape, size_t count, size_t size)
{
    size_t bytes;
    void *p = pith_arena_take(tape->arena, pith_mul(count, size, &bytes) ? bytes : SIZE_MAX);
    if (!p && !tape->status) tape->status = PITH_E_MEMORY;
    return p;
}

/* Values in a shape; false when there are too many of them or of dimensions. */
static bool count_of(pith_tape *tape, const char *name, int n_dims, const size_t *dims, size_t *count)
{
    *count = 1;
    bool fits = n_dims >= 0 && n_dims <= PITH_MAX_DIMS, zero = false;
    for (int d = 0; fits && d < n_dims; d++) zero |= dims[d] == 0;
    for (int d = 0; fits && d < n_dims; d++) fits = pith_mul(*count, PITH_MAX(dims[d], 1), count) && *count < MAX_COUNT;
    if (!fits) pith_op_fail(tape, PITH_E_LIMIT, "%s: a shape of %d dimensions is too large (at most %d, and 2^40 values)", name, n_dims, PITH_MAX_DIMS);
    if (zero) *count = 0;
    return fits;
}

/* A value without memory, in the list of those that end with the step. */
static pith_var *add_value(pith_tape *tape, const char *name, int n_dims, const size_t *dims)
{
    size_t count;
    if (!count_of(tape, name, n_dims, dims, &count)) return NULL;
    if (tape->n_values == tape->cap_values) {
        size_t cap = PITH_MAX(tape->cap_values * 2, (size_t)256);
        pith_var **bigger = pith_resize(tape->ctx, tape->values, cap * sizeof *bigger);
        if (!bigger) {
            if (!tape->status) tape->status = PITH_E_MEMORY;
            return NULL;
        }
        tape->values = bigger;
        tape->cap_values = cap;
    }
    pith_var *v = pith_op_attr(tape, 1, sizeof *v);
    if (!v) return NULL;
    *v = (pith_var){.tape = tape, .count = count, .n_dims = n_dims};
    if (n_dims) memcpy(v->dims, dims, (size_t)n_dims * sizeof *dims);
    tape->values[tape->n_values++] = v;
    return v;
}

/* What made v and of what, where that is to be known. */
static bool remember(pith_var *v, const pith_op *op, pith_var *const *in, int n_in)
{
    pith_tape *tape = v->tape;
    bool needs = false, wanted = false;
    for (int i = 0; i < n_in; i++) {
        needs |= in[i]->needs_grad;
        wanted |= tape->pass && in[i]->pass == tape->pass;
    }
    /* A backward function looks at the inputs of what it is given, also when its own work is not recorded; but
     * there no operation asks for the inputs of a value just made. */
    if (!tape->recording || !needs) return true;
    v->in = pith_op_attr(tape, (size_t)n_in, sizeof *v->in);
    if (!v->in) return false;
    memcpy(v->in, in, (size_t)n_in * sizeof *in);
    v->n_in = n_in;
    v->op = op;
    v->needs_grad = true;
    v->pass = wanted ? tape->pass : 0;
    return true;
}

pith_var *pith_op_value(pith_tape *tape, const pith_op *op, pith_var *const *in, int n_in, int n_dims, const size_t *dims, size_t attr_bytes)
{
    for (int i = 0; i < n_in; i++) {
        if (!in[i]) return NULL;
        if (in[i]->count && !in[i]->data)
            return pith_op_fail(tape, PITH_E_ARGUMENT, "%s: its argument %d, %s, was given back by a backward pass (pith_var_keep keeps it)", op->name, i + 1, PITH_SHAPE(in[i]));
    }
    pith_var *v = add_value(tape, op->name, n_dims, dims);
    if (!v || !(v->block = pith_op_take(tape, v->count))) return NULL;
    v->data = pith_op_floats(v->block);
    if (attr_bytes) {
        v->attr = pith_op_attr(tape, 1, attr_bytes);
        if (!v->attr) return NULL;
        memset(v->attr, 0, attr_bytes);
    }
    return remember(v, op, in, n_in) ? v : NULL;
}

pith_var *pith_op_view(const pith_op *op, pith_var *x, size_t offset, int n_dims, const size_t *dims)
{
    if (!x) return NULL;
    pith_var *v = add_value(x->tape, op->name, n_dims, dims);
    if (!v) return NULL;
    if (x->count && !x->data) return pith_op_fail(x->tape, PITH_E_ARGUMENT, "%s: its argument, %s, was given back by a backward pass", op->name, PITH_SHAPE(x));
    v->data = x->data ? x->data + offset : NULL;
    v->block = x->block;
    retain(v->block);
    return remember(v, op, &x, 1) ? v : NULL;
}

pith_var *pith_tape_param(pith_tape *tape, const char *name, int n_dims, const size_t *dims)
{
    size_t count;
    if (!count_of(tape, name, n_dims, dims, &count)) return NULL;
    pith_var **bigger = pith_resize(tape->ctx, tape->params, (tape->n_params + 1) * sizeof *bigger);
    if (bigger) tape->params = bigger;
    pith_var *v = bigger ? pith_arena_take(tape->lasting, sizeof *v) : NULL;
    char *copy = v ? pith_arena_take(tape->lasting, strlen(name) + 1) : NULL;
    pith_block *block = copy ? pith_op_take(tape, count) : NULL;
    if (!block) {
        if (!tape->status) tape->status = PITH_E_MEMORY;
        return NULL;
    }
    strcpy(copy, name);
    *v = (pith_var){.tape = tape, .name = copy, .block = block, .data = pith_op_floats(block), .count = count, .n_dims = n_dims, .needs_grad = true};
    if (n_dims) memcpy(v->dims, dims, (size_t)n_dims * sizeof *dims);
    memset(v->data, 0, count * sizeof(float));
    tape->params[tape->n_params++] = v;
    return v;
}

pith_var *const *pith_tape_params(const pith_tape *tape, size_t *n)
{
    *n = tape->n_params;
    return tape->params;
}

pith_var *pith_tape_input(pith_tape *tape, const float *data, int n_dims, const size_t *dims)
{
    pith_var *v = add_value(tape, "input", n_dims, dims);
    if (v) v->data = (float *)(uintptr_t)data; /* never written: operations do not change their arguments */
    return v;
}

pith_var *pith_tape_fill(pith_tape *tape, float value, int n_dims, const size_t *dims)
{
    static const pith_op fill = {"fill", NULL};
    pith_var *v = pith_op_value(tape, &fill, NULL, 0, n_dims, dims, 0);
    for (size_t i = 0; v && i < v->count; i++) v->data[i] = value;
    return v;
}

pith_var *pith_var_keep(pith_var *v)
{
    if (v) v->keep = true;
    return v;
}

pith_var *pith_var_stop(pith_var *v)
{
    static const pith_op stop = {"stop", NULL};
    if (!v) return NULL;
    bool was = pith_record_values(v->tape, false);
    pith_var *y = pith_op_view(&stop, v, 0, v->n_dims, v->dims);
    pith_record_values(v->tape, was);
    return y;
}

static void straight_through_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    (void)y;
    gx[1] = gy; /* in[0] is `hard`, which gets none */
}

pith_var *pith_var_straight_through(pith_var *hard, pith_var *soft)
{
    static const pith_op straight_through = {"straight_through", straight_through_backward};
    if (!hard || !soft) return NULL;
    if (!pith_same_shape(hard, soft)) return pith_op_fail(hard->tape, PITH_E_SHAPE, "straight_through: %s and %s are not the same shape", PITH_SHAPE(hard), PITH_SHAPE(soft));
    pith_var *y = pith_op_view(&straight_through, hard, 0, hard->n_dims, hard->dims);
    pith_var *in[] = {hard, soft};
    return y && remember(y, &straight_through, in, 2) ? y : NULL;
}

bool pith_same_shape(const pith_var *a, const pith_var *b)
{
    return a->n_dims == b->n_dims && (a->n_dims == 0 || memcmp(a->dims, b->dims, (size_t)a->n_dims * sizeof *a->dims) == 0);
}

/* ---- work in parts ---------------------------------------------------------------------------- */

typedef struct ranges {
    size_t n, grain;
    pith_range_fn *fn;
    void *arg;
} ranges;

static void run_range(void *arg, size_t i, int worker)
{
    const ranges *r = arg;
    r->fn(r->arg, i * r->grain, PITH_MIN((i + 1) * r->grain, r->n), worker);
}

void pith_op_ranges(pith_tape *tape, size_t n, size_t grain, pith_range_fn *fn, void *arg)
{
    if (grain == 0) grain = 1;
    ranges r = {n, grain, fn, arg};
    pith_parallel(tape->ctx, PITH_CEIL_DIV(n, grain), run_range, &r);
}

/* ---- passes ----------------------------------------------------------------------------------- */

bool pith_wanted(const pith_var *x)
{
    return x->tape->pass ? x->pass == x->tape->pass : x->needs_grad;
}

bool pith_op_once(const pith_var *y)
{
    if (!y->tape->recording) return false;
    pith_op_fail(y->tape, PITH_E_UNSUPPORTED, "%s: its gradient cannot be differentiated again", y->op->name);
    return true;
}

typedef struct sum_arg {
    const pith_loops *loops;
    float *y;
    const float *a, *b;
} sum_arg;

static void sum_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const sum_arg *s = arg;
    s->loops->binary(PITH_BINARY_ADD, s->a + from, 1, s->b + from, 1, s->y + from, to - from);
}

static bool is_whole(const pith_var *g)
{
    size_t size;
    return g->data == pith_op_floats(g->block) && class_of(g->count, &size) == g->block->class;
}

/* The gradient of v so far, plus g: shared where it is the first, added in place where nobody else holds it. */
static void accumulate(pith_var *v, pith_var *g)
{
    pith_tape *tape = v->tape;
    if (!v->g_data) {
        if (!g->block || (v->name && !is_whole(g))) { /* the caller's, or a piece of a larger block, which a parameter would keep */
            v->g_block = pith_op_take(tape, v->count);
            if (!v->g_block) return;
            v->g_data = pith_op_floats(v->g_block);
            if (v->count) memcpy(v->g_data, g->data, v->count * sizeof(float));
            return;
        }
        v->g_block = g->block;
        v->g_data = g->data;
        retain(g->block);
        return;
    }
    pith_block *into = v->g_block->refs == 1 ? v->g_block : pith_op_take(tape, v->count);
    if (!into) return;
    float *y = into == v->g_block ? v->g_data : pith_op_floats(into);
    sum_arg s = {tape->loops, y, v->g_data, g->data};
    pith_op_ranges(tape, v->count, ELEMENT_GRAIN, sum_range, &s);
    if (into != v->g_block) {
        pith_op_drop(tape, v->g_block);
        v->g_block = into;
        v->g_data = y;
    }
}

typedef struct piece_arg {
    const pith_loops *loops;
    float *y;
    const float *g;
    size_t n, step;
} piece_arg;

static void piece_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const piece_arg *p = arg;
    for (size_t i = from; i < to; i++) p->loops->binary(PITH_BINARY_ADD, p->y + i * p->step, 1, p->g + i * p->n, 1, p->y + i * p->step, p->n);
}

void pith_op_add_piece(pith_var *x, const float *g, size_t rows, size_t n, size_t step, size_t at)
{
    pith_tape *tape = x->tape;
    if (!x->g_data || x->g_block->refs > 1) {
        pith_block *own = pith_op_take(tape, x->count);
        if (!own) return;
        if (x->g_data) memcpy(pith_op_floats(own), x->g_data, x->count * sizeof(float));
        else memset(pith_op_floats(own), 0, x->count * sizeof(float));
        pith_op_drop(tape, x->g_block);
        x->g_block = own;
        x->g_data = pith_op_floats(own);
    }
    if (!rows || !n) return;
    piece_arg p = {tape->loops, x->g_data + at, g, n, step};
    pith_op_ranges(tape, rows, PITH_CEIL_DIV(ELEMENT_GRAIN, n), piece_range, &p);
}

static void forget_gradient(pith_var *v)
{
    pith_op_drop(v->tape, v->g_block);
    v->g_block = NULL;
    v->g_data = NULL;
    v->g = NULL;
}

static bool given_back(pith_var *v)
{
    if (v->count && !v->data) {
        pith_op_fail(v->tape, PITH_E_ARGUMENT, "%s: a value of shape %s was given back by an earlier backward pass; give that one PITH_KEEP_GRAPH", v->op ? v->op->name : "backward", PITH_SHAPE(v));
        return true;
    }
    return false;
}

/* Call v's backward function and hand its results on to the inputs. */
static bool pass_value(pith_var *v, bool recorded)
{
    pith_tape *tape = v->tape;
    bool gone = given_back(v);
    for (int i = 0; i < v->n_in && !gone; i++) gone = given_back(v->in[i]);
    if (gone) return false;
    pith_mark mark = pith_arena_mark(tape->arena);
    size_t n_values = tape->n_values;
    pith_var *gy = v->g, *gx[MAX_IN] = {0};
    if (!recorded) {
        gy = add_value(tape, v->op->name, v->n_dims, v->dims);
        if (!gy) return false;
        gy->block = v->g_block;
        gy->data = v->g_data;
        retain(gy->block);
    }
    pith_var **list = v->n_in <= MAX_IN ? gx : pith_op_attr(tape, (size_t)v->n_in, sizeof *list);
    if (!list) return false;
    if (list != gx) memset(list, 0, (size_t)v->n_in * sizeof *list);
    v->op->backward(v, gy, list);
    for (int i = 0; i < v->n_in && !tape->status; i++) {
        pith_var *x = v->in[i];
        if (!list[i] || !pith_wanted(x)) continue;
        if (list[i]->count != x->count) {
            pith_op_fail(tape, PITH_E_INTERNAL, "%s: its gradient has shape %s, not %s", v->op->name, PITH_SHAPE(list[i]), PITH_SHAPE(x));
        } else if (recorded) {
            x->g = x->g ? pith_var_add(x->g, list[i]) : list[i];
        } else {
            accumulate(x, list[i]);
        }
    }
    if (!recorded) {
        release(tape, n_values);
        pith_arena_reset(tape->arena, mark);
    }
    return tape->status == PITH_OK;
}

static const pith_op checkpoint_op;

/* Where each parameter is used first.  What a checkpoint uses is known only to its function. */
static void find_first_uses(pith_tape *tape)
{
    size_t n_values = tape->n_values, unknown = n_values;
    for (size_t i = 0; i < tape->n_params; i++) tape->params[i]->first_use = n_values;
    for (size_t i = n_values; i-- > 0;) {
        const pith_var *v = tape->values[i];
        if (v->op == &checkpoint_op) unknown = i;
        for (int k = 0; k < v->n_in; k++)
            if (v->in[k]->name) v->in[k]->first_use = i;
    }
    for (size_t i = 0; i < tape->n_params; i++) tape->params[i]->first_use = PITH_MIN(tape->params[i]->first_use, unknown);
}

/* Tell of the parameters whose first use is value i, which has been passed. */
static void tell_watcher(pith_tape *tape, const pith_var *v, size_t i)
{
    bool any = v->op == &checkpoint_op;
    for (int k = 0; k < v->n_in; k++) any |= v->in[k]->name && v->in[k]->first_use == i;
    for (size_t p = 0; p < tape->n_params && any && !tape->status; p++) {
        pith_var *param = tape->params[p];
        if (param->first_use != i || !param->needs_grad) continue;
        param->first_use = SIZE_MAX; /* told */
        tape->watch(tape->watch_user, param, param->g_data);
    }
}

/* Pass values from..to-1 in reverse.  Whatever has a gradient by then has all of it: what uses a value is made
 * after it. */
static pith_status sweep(pith_tape *tape, size_t from, size_t to, unsigned flags)
{
    bool recorded = flags & PITH_RECORD_PASS;
    for (size_t i = to; i-- > from && !tape->status;) {
        pith_var *v = tape->values[i];
        bool reached = v->op && (recorded ? (void *)v->g : (void *)v->g_data);
        if (reached && !pass_value(v, recorded)) break;
        if (tape->watching) tell_watcher(tape, v, i);
        if (!reached || recorded || v->sought) continue;
        forget_gradient(v);
        if (flags & PITH_KEEP_GRAPH || v->keep) continue;
        pith_op_drop(tape, v->block);
        v->block = NULL;
        v->data = NULL;
    }
    return tape->status;
}

/* The first value that is not finite, for a person. */
static pith_status name_nonfinite(pith_tape *tape, float loss)
{
    for (size_t i = 0; i < tape->n_values; i++) {
        const pith_var *v = tape->values[i];
        for (size_t k = 0; v->data && k < v->count; k++) {
            if (isfinite(v->data[k])) continue;
            pith_op_fail(tape, PITH_E_NONFINITE, "the loss is %g; the first value that is not finite is number %zu of the %s of shape %s", (double)loss, k, v->op ? v->op->name : "input or value without gradient", PITH_SHAPE(v));
            return tape->status;
        }
    }
    for (size_t i = 0; i < tape->n_params; i++) {
        const pith_var *v = tape->params[i];
        for (size_t k = 0; k < v->count; k++)
            if (!isfinite(v->data[k])) pith_op_fail(tape, PITH_E_NONFINITE, "the loss is %g; the parameter %s is not finite at %zu", (double)loss, v->name, k);
    }
    pith_op_fail(tape, PITH_E_NONFINITE, "the loss is %g", (double)loss);
    return tape->status;
}

/* y's gradient at the start of a pass. */
static void seed_pass(pith_var *y, pith_var *seed, bool recorded)
{
    pith_tape *tape = y->tape;
    if (!seed) seed = pith_tape_fill(tape, 1, y->n_dims, y->dims);
    if (!seed) return;
    if (recorded) y->g = seed;
    else accumulate(y, seed);
}

/* A parameter's gradient that another value has too gets memory of its own, so that it may be changed. */
static void unshare_gradient(pith_var *p)
{
    if (!p->g_block || p->g_block->refs == 1) return;
    pith_block *own = pith_op_take(p->tape, p->count);
    if (own && p->count) memcpy(pith_op_floats(own), p->g_data, p->count * sizeof(float));
    pith_op_drop(p->tape, p->g_block);
    p->g_block = own;
    p->g_data = own ? pith_op_floats(own) : NULL;
}

pith_status pith_backward(pith_tape *tape, pith_var *loss, unsigned flags)
{
    if (tape->status) return tape->status;
    if (!loss) return pith_fail(tape->ctx, PITH_E_ARGUMENT, "backward: there is no loss");
    if (loss->count != 1 || !loss->needs_grad)
        return pith_fail(tape->ctx, PITH_E_ARGUMENT, "backward: the loss has shape %s and %s; it is one value made of parameters", PITH_SHAPE(loss), loss->needs_grad ? "depends on parameters" : "depends on no parameter");
    if (given_back(loss)) return tape->status;
    if (!isfinite(loss->data[0])) return name_nonfinite(tape, loss->data[0]);
    bool keep = loss->keep, was = pith_record_values(tape, false);
    loss->keep = true; /* what people print */
    for (size_t i = 0; i < tape->n_params; i++) {
        pith_var *p = tape->params[i];
        p->g_data = p->grad;
        p->g_block = p->grad_block;
        p->grad_block = NULL;
        p->grad = NULL;
    }
    size_t n_values = tape->n_values;
    if (tape->watch) find_first_uses(tape);
    seed_pass(loss, NULL, false);
    tape->watching = tape->watch != NULL;
    sweep(tape, 0, n_values, flags & PITH_KEEP_GRAPH);
    tape->watching = false;
    for (size_t i = 0; i < tape->n_params && tape->watch && !tape->status; i++) /* what this loss does not depend on */
        if (tape->params[i]->needs_grad && tape->params[i]->first_use != SIZE_MAX) tape->watch(tape->watch_user, tape->params[i], tape->params[i]->g_data);
    loss->keep = keep || !(flags & PITH_KEEP_GRAPH);
    for (size_t i = 0; i < tape->n_params; i++) {
        pith_var *p = tape->params[i];
        unshare_gradient(p);
        p->grad = p->g_data;
        p->grad_block = p->g_block;
        p->g_data = NULL;
        p->g_block = NULL;
    }
    pith_record_values(tape, was);
    return tape->status;
}

void pith_tape_watch(pith_tape *tape, pith_gradient_fn *fn, void *user)
{
    tape->watch = fn;
    tape->watch_user = user;
}

float *pith_tape_own_grad(pith_var *p)
{
    if (p->grad) return p->grad;
    p->grad_block = pith_op_take(p->tape, p->count);
    p->grad = p->grad_block ? pith_op_floats(p->grad_block) : NULL;
    if (p->grad) memset(p->grad, 0, p->count * sizeof(float));
    return p->grad;
}

void pith_tape_zero_grad(pith_tape *tape)
{
    for (size_t i = 0; i < tape->n_params; i++) {
        pith_var *p = tape->params[i];
        pith_op_drop(tape, p->grad_block);
        p->grad_block = NULL;
        p->grad = NULL;
    }
}

/* ---- values made again ------------------------------------------------------------------------ */

/* Hand y's gradient on to `again`, the same value made again by the values from..: and through these to what they are made of. */
static void pass_again(pith_var *y, pith_var *gy, pith_var *again, size_t from)
{
    pith_tape *tape = y->tape;
    size_t to = tape->n_values;
    bool recorded = tape->recording, watching = tape->watching;
    if (!again || !again->needs_grad) return;
    if (!pith_same_shape(again, y)) {
        pith_op_fail(tape, PITH_E_ARGUMENT, "%s: it gave shape %s, made again %s", y->op->name, PITH_SHAPE(y), PITH_SHAPE(again));
        return;
    }
    if (recorded) again->g = again->g ? pith_var_add(again->g, gy) : gy;
    else accumulate(again, gy);
    tape->watching = false;
    sweep(tape, from, to, recorded ? PITH_RECORD_PASS : 0);
    tape->watching = watching;
    for (size_t i = from; recorded && i < to; i++) tape->values[i]->g = NULL;
}

bool pith_op_remake(pith_var *y, pith_var *gy, pith_remake_fn *remake)
{
    if (!y->tape->recording) return false;
    size_t from = y->tape->n_values;
    if (y->count) pass_again(y, gy, remake(y), from);
    return true;
}

/* ---- checkpoints ------------------------------------------------------------------------------ */

typedef struct segment {
    pith_segment_fn *fn;
    void *user;
    uint64_t n_draws;
} segment;

static void checkpoint_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    (void)gx;
    pith_tape *tape = y->tape;
    const segment *s = y->attr;
    uint64_t n_draws = tape->n_draws;
    size_t from = tape->n_values;
    tape->n_draws = s->n_draws;
    bool was = pith_record_values(tape, true);
    pith_var *again = s->fn(tape, s->user);
    pith_record_values(tape, was);
    tape->n_draws = n_draws;
    pass_again(y, gy, again, from);
}

static const pith_op checkpoint_op = {"checkpoint", checkpoint_backward};

pith_var *pith_checkpoint(pith_tape *tape, pith_segment_fn *fn, void *user)
{
    if (!tape->recording) return fn(tape, user);
    uint64_t n_draws = tape->n_draws;
    pith_scope scope = pith_scope_begin(tape);
    tape->recording = false;
    pith_var *y = fn(tape, user);
    pith_scope_end(tape, scope, &y, y ? 1 : 0);
    /* what was there before the segment is something else's result */
    if (y && tape->n_values == scope.n_values) y = pith_op_view(&checkpoint_op, y, 0, y->n_dims, y->dims);
    tape->recording = true;
    segment *s = y ? pith_op_attr(tape, 1, sizeof *s) : NULL;
    if (!s) return NULL;
    *s = (segment){fn, user, n_draws};
    y->attr = s;
    y->op = &checkpoint_op;
    y->needs_grad = true;
    return y;
}

/* ---- gradients as values ---------------------------------------------------------------------- */

/* Mark what x leads to. */
static void mark_pass(pith_tape *tape, pith_var *const *x, size_t n)
{
    tape->pass = ++tape->n_passes;
    for (size_t i = 0; i < n; i++) {
        x[i]->pass = tape->pass;
        x[i]->sought = true;
    }
    for (size_t i = 0; i < tape->n_values; i++) {
        pith_var *v = tape->values[i];
        if (v->op == &checkpoint_op) v->pass = tape->pass; /* its inputs are known only to its function */
        for (int k = 0; k < v->n_in; k++)
            if (v->in[k]->pass == tape->pass) v->pass = tape->pass;
    }
}

/* The gradient of x as a value. */
static pith_var *found_gradient(pith_var *x, bool recorded)
{
    pith_tape *tape = x->tape;
    if (recorded ? !x->g : !x->g_data) return pith_tape_fill(tape, 0, x->n_dims, x->dims);
    if (recorded) return x->g;
    pith_var *g = add_value(tape, "gradient", x->n_dims, x->dims);
    if (!g) return NULL;
    g->block = x->g_block;
    g->data = x->g_data;
    retain(g->block);
    return g;
}

pith_status pith_gradients(pith_tape *tape, pith_var *y, pith_var *seed, pith_var *const *x, size_t n, unsigned flags, pith_var **gx)
{
    if (tape->status) return tape->status;
    bool recorded = flags & PITH_RECORD_PASS, missing = !y;
    for (size_t i = 0; i < n; i++) missing |= !x[i];
    if (missing) return pith_fail(tape->ctx, PITH_E_ARGUMENT, "gradients: a value is missing");
    if (seed ? !pith_same_shape(seed, y) : y->count != 1)
        return pith_fail(tape->ctx, PITH_E_SHAPE, "gradients: the result has shape %s, its seed %s", PITH_SHAPE(y), seed ? PITH_SHAPE(seed) : "is left out, which is for one value");
    if (tape->pass) return pith_fail(tape->ctx, PITH_E_ARGUMENT, "gradients: not within another pass");
    bool was = pith_record_values(tape, recorded), kept = y->keep;
    size_t n_values = tape->n_values;
    mark_pass(tape, x, n);
    y->keep = true;
    if (y->pass == tape->pass) {
        seed_pass(y, seed, recorded);
        sweep(tape, 0, n_values, flags);
    }
    y->keep = kept || !(flags & (PITH_KEEP_GRAPH | PITH_RECORD_PASS));
    for (size_t i = 0; i < n; i++) gx[i] = tape->status ? NULL : found_gradient(x[i], recorded);
    for (size_t i = 0; i < n; i++) {
        forget_gradient(x[i]);
        x[i]->sought = false;
    }
    for (size_t i = 0; i < n_values; i++) forget_gradient(tape->values[i]);
    tape->pass = 0;
    pith_record_values(tape, was);
    return tape->status;
}

pith_status pith_jvp(pith_tape *tape, pith_var *y, pith_var *const *x, pith_var *const *v, size_t n, pith_var **jv)
{
    if (tape->status) return tape->status;
    if (!y) return pith_fail(tape->ctx, PITH_E_ARGUMENT, "jvp: a value is missing");
    bool was = pith_record_values(tape, true);
    pith_var *seed = pith_tape_fill(tape, 0, y->n_dims, y->dims), *product = NULL;
    pith_var **gx = pith_op_attr(tape, n, sizeof *gx);
    if (seed) seed->needs_grad = true;
    if (seed && gx && pith_gradients(tape, y, seed, x, n, PITH_RECORD_PASS, gx) == PITH_OK) {
        for (size_t i = 0; i < n; i++) {
            pith_var *term = pith_var_sum(pith_var_mul(gx[i], v[i]), PITH_ALL_AXES);
            product = product ? pith_var_add(product, term) : term;
        }
        if (!product) product = pith_tape_fill(tape, 0, 0, NULL);
        if (product) pith_gradients(tape, product, NULL, &seed, 1, PITH_RECORD_PASS, jv);
    }
    pith_record_values(tape, was);
    return tape->status;
}
