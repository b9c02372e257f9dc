/* Segments whose values wait for the backward pass as bf16, in half the memory: f32's exponents with 8 bits of precision, as
 * activations are commonly kept (Kalamkar et al., arXiv:1905.12322).  What a segment made is its own, so that nothing outside
 * meets a value that is packed; a value made last, which the backward pass comes to first, unpacks them all. */
#include "grad/tape.h"

/* One packed block, and the values that lay in it. */
typedef struct packed {
    pith_var *holder;             /* owns the memory: bf16 [count] */
    size_t count;
    struct member {
        pith_var *v;
        size_t offset;
        struct member *next;
    } *members;
    struct packed *next;
} packed;

typedef struct store_attr {
    packed *first;                /* NULL: unpacked */
} store_attr;

typedef struct convert_work {
    const pith_tape *tape;
    float *wide;
    uint16_t *narrow;
} convert_work;

static void pack_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const convert_work *w = arg;
    w->tape->loops->to_bf16(w->wide + from, w->narrow + from, to - from);
}

static void unpack_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const convert_work *w = arg;
    w->tape->kernels->bf16_to_f32(w->narrow + from, w->wide + from, to - from);
}

/* ---- back ------------------------------------------------------------------------------------- */

static bool unpack(pith_tape *tape, packed *p)
{
    pith_block *block = pith_op_take(tape, p->count);
    if (!block) return false;
    convert_work w = {tape, pith_op_floats(block), (uint16_t *)p->holder->data};
    pith_op_ranges(tape, p->count, ELEMENT_GRAIN, unpack_range, &w);
    for (struct member *m = p->members; m; m = m->next) {
        m->v->block = block;
        m->v->data = w.wide + m->offset;
        if (m != p->members) block->refs++;
    }
    pith_op_drop(tape, p->holder->block);
    p->holder->block = NULL;
    p->holder->data = NULL;
    return true;
}

static void store_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    store_attr *a = y->attr;
    for (; a->first; a->first = a->first->next)
        if (!unpack(y->tape, a->first)) return;
    gx[0] = gy;
}

/* ---- forward ---------------------------------------------------------------------------------- */

static bool is_packable(const pith_var *v, const pith_var *result) { return v->block && v->count && v->block != result->block && !v->keep; }

/* A block that nothing outside of values from..to-1 holds. */
static packed *pack_block(pith_tape *tape, pith_block *block, size_t from, size_t to, const pith_var *result)
{
    static const pith_op op = {"bf16", NULL};
    packed *p = pith_op_attr(tape, 1, sizeof *p);
    if (!p) return NULL;
    *p = (packed){0};
    for (size_t i = from; i < to; i++) {
        pith_var *v = tape->values[i];
        if (v->block != block || !is_packable(v, result)) continue;
        struct member *m = pith_op_attr(tape, 1, sizeof *m);
        if (!m) return NULL;
        *m = (struct member){v, (size_t)(v->data - pith_op_floats(block)), p->members};
        p->members = m;
        p->count = PITH_MAX(p->count, m->offset + v->count);
    }
    p->holder = pith_var_keep(pith_op_value(tape, &op, NULL, 0, PITH_DIMS((p->count + 1) / 2), 0)); /* kept: not packed again by a segment around this one */
    if (!p->holder) return NULL;
    convert_work w = {tape, pith_op_floats(block), (uint16_t *)p->holder->data};
    pith_op_ranges(tape, p->count, ELEMENT_GRAIN, pack_range, &w);
    for (struct member *m = p->members; m; m = m->next) {
        pith_op_drop(tape, block);
        m->v->block = NULL;
        m->v->data = NULL;
    }
    return p;
}

pith_var *pith_store_bf16(pith_tape *tape, pith_segment_fn *fn, void *user)
{
    static const pith_op op = {"store_bf16", store_backward};
    size_t from = tape->n_values;
    pith_var *result = fn(tape, user);
    size_t to = tape->n_values;
    if (!result || !pith_recording(tape) || !result->needs_grad || to == from) return result;
    for (size_t i = from; i < to; i++)
        if (tape->values[i]->block) tape->values[i]->block->holders = 0;
    for (size_t i = from; i < to; i++)
        if (is_packable(tape->values[i], result)) tape->values[i]->block->holders++;
    pith_var *y = pith_op_view(&op, result, 0, result->n_dims, result->dims);
    store_attr *a = y ? pith_op_attr(tape, 1, sizeof *a) : NULL;
    if (!a) return NULL;
    *a = (store_attr){0};
    y->attr = a;
    for (size_t i = from; i < to; i++) {
        pith_var *v = tape->values[i];
        if (!is_packable(v, result) || v->block->holders != v->block->refs) continue;
        packed *p = pack_block(tape, v->block, from, to, result);
        if (!p) return NULL;
        p->next = a->first;
        a->first = p;
    }
    return y;
}
