/* Gated values, silu(gate) up, in one pass over memory each way, piece by piece in the first cache.  The bits are those of
 * the operations one after the other; what is saved is their traffic, and the memory of silu(gate). */
#include "grad/tape.h"

#define PIECE ((size_t)1024) /* values; five arrays of them fit into a first cache */

typedef struct gated_work {
    const pith_loops *loops;
    const float *gate, *up, *g;
    float *y, *g_gate, *g_up; /* g_gate, g_up: NULL where not wanted */
} gated_work;

static void gated_range(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const gated_work *w = arg;
    for (size_t i = from; i < to; i += PIECE) {
        size_t n = PITH_MIN(PIECE, to - i);
        w->loops->unary(PITH_UNARY_SILU, 0, 0, 0, w->gate + i, NULL, w->y + i, n);
        w->loops->binary(PITH_BINARY_MUL, w->y + i, 1, w->up + i, 1, w->y + i, n);
    }
}

static void gated_range_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const gated_work *w = arg;
    for (size_t i = from; i < to; i += PIECE) {
        size_t n = PITH_MIN(PIECE, to - i);
        if (w->g_up) {
            w->loops->unary(PITH_UNARY_SILU, 0, 0, 0, w->gate + i, NULL, w->g_up + i, n);
            w->loops->binary(PITH_BINARY_MUL, w->g + i, 1, w->g_up + i, 1, w->g_up + i, n);
        }
        if (w->g_gate) {
            w->loops->binary(PITH_BINARY_MUL, w->g + i, 1, w->up + i, 1, w->g_gate + i, n);
            w->loops->unary(PITH_UNARY_SILU, 1, 0, 0, w->gate + i, w->g_gate + i, w->g_gate + i, n);
        }
    }
}

static void gated_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"silu_mul_back", NULL};
    pith_var *gate = y->in[0], *up = y->in[1];
    pith_tape *tape = y->tape;
    bool wanted[2] = {pith_wanted(gate), pith_wanted(up)};
    if (pith_recording(tape)) { /* the same, of operations */
        if (wanted[0]) gx[0] = pith_var_slope(gate, pith_var_mul(gy, up), PITH_UNARY_SILU, 1, 0, 0);
        if (wanted[1]) gx[1] = pith_var_mul(gy, pith_var_silu(gate));
        return;
    }
    for (int i = 0; i < 2; i++)
        if (wanted[i] && !(gx[i] = pith_op_value(tape, &back, NULL, 0, y->n_dims, y->dims, 0))) return;
    gated_work w = {tape->loops, gate->data, up->data, gy->data, NULL, wanted[0] ? gx[0]->data : NULL, wanted[1] ? gx[1]->data : NULL};
    pith_op_ranges(tape, y->count, ELEMENT_GRAIN, gated_range_back, &w);
}

pith_var *pith_var_silu_mul(pith_var *gate, pith_var *up)
{
    static const pith_op op = {"silu_mul", gated_backward};
    if (!gate || !up) return NULL;
    if (!pith_same_shape(gate, up)) return pith_op_fail(gate->tape, PITH_E_SHAPE, "silu_mul: %s and %s", PITH_SHAPE(gate), PITH_SHAPE(up));
    pith_var *in[] = {gate, up}, *y = pith_op_value(gate->tape, &op, in, 2, gate->n_dims, gate->dims, 0);
    if (!y) return NULL;
    gated_work w = {.loops = gate->tape->loops, .gate = gate->data, .up = up->data, .y = y->data};
    pith_op_ranges(gate->tape, y->count, ELEMENT_GRAIN, gated_range, &w);
    return y;
}
