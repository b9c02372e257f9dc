#include "stage/quantize/value_loops.h"

#ifndef LOOPS
#define LOOPS pith_value_loops_plain
#endif

/* The same memory as one and as the other. */
typedef int32_t any_i32 __attribute__((may_alias));
typedef float any_f32 __attribute__((may_alias));

/* ---- the embedded quantiser -------------------------------------------------------------------- */

/* Bit k of a row of bits for each value, shifted to bit b, added. */
static inline void add_bits(const uint8_t *restrict bits, int b, int32_t *restrict m)
{
    for (size_t k = 0; k < PITH_GROUP; k += 32) {
        uint32_t word = pith_le32(bits + k / 8);
        for (size_t i = 0; i < 32; i++) m[k + i] += (int32_t)((word >> i & 1) << b);
    }
}

static size_t start(const uint8_t *restrict symbols, const uint8_t *restrict planes, int bits, int32_t *restrict m)
{
    int half = bits ? 1 << (bits - 1) : 0, factor = 1 << bits, escapes = 0;
    for (size_t k = 0; k < PITH_GROUP; k++) {
        m[k] = (symbols[k] - 8) * factor - half;
        escapes += symbols[k] == PITH_START_ESCAPE;
    }
    for (int b = 0; b < bits; b++) add_bits(planes + (size_t)b * PITH_GROUP / 8, b, m);
    return (size_t)escapes;
}

static void split_contexts(const int32_t *restrict m, bool first, int base, uint8_t *restrict contexts)
{
    if (first) for (size_t k = 0; k < PITH_GROUP; k++) contexts[k] = (uint8_t)(base + pith_split_magnitude(m[k], true));
    else for (size_t k = 0; k < PITH_GROUP; k++) contexts[k] = (uint8_t)(base + pith_split_magnitude(m[k], false));
}

static void split(const uint8_t *restrict symbols, bool first, int32_t *restrict m)
{
    if (first) for (size_t k = 0; k < PITH_GROUP; k++) m[k] = 2 * m[k] - 1 + (symbols[k] ^ pith_split_flip(m[k], true));
    else for (size_t k = 0; k < PITH_GROUP; k++) m[k] = 2 * m[k] + (symbols[k] ^ pith_split_flip(m[k], false));
}

static void split_bits(const uint8_t *restrict bits, bool first, int32_t *restrict m)
{
    for (size_t k = 0; k < PITH_GROUP; k++) m[k] = 2 * m[k] - first;
    add_bits(bits, 0, m);
}

static void cells(const float *restrict z, const float *restrict factor, int32_t *restrict m)
{
    for (size_t k = 0; k < PITH_GROUP_COLS; k++) {
        float x = pith_within_f(z[k] * factor[k], -0x1p20f, 0x1p20f);
        float nearest = (x + 0x1.8p23f) - 0x1.8p23f;
        m[k] = (int32_t)(nearest - (nearest > x ? 1.0f : 0.0f));
    }
}

/* ---- packing ------------------------------------------------------------------------------------- */

/* Of 32 values, by halves: h = 16, 8, 4, 2, 1 makes one value of i and i + h: the lesser, the greater, the sum. */
static inline void halve(const float *restrict x, float *restrict low, float *restrict high)
{
    for (int i = 0; i < 16; i++) {
        low[i] = x[i + 16] < x[i] ? x[i + 16] : x[i];
        high[i] = x[i + 16] > x[i] ? x[i + 16] : x[i];
    }
}

static inline void by_halves(float *restrict low, float *restrict high, float *restrict sum)
{
#pragma GCC unroll 4
    for (int h = 8; h > 0; h /= 2)
        for (int i = 0; i < h; i++) {
            low[i] = low[i + h] < low[i] ? low[i + h] : low[i];
            high[i] = high[i + h] > high[i] ? high[i + h] : high[i];
            sum[i] += sum[i + h];
        }
}

static void extent(const int32_t *restrict m, int32_t *all, int32_t *size)
{
    int32_t a = 0, s = 0;
    for (size_t i = 0; i < PITH_GROUP; i++) {
        a |= m[i];
        s |= m[i] ^ (m[i] >> 31);
    }
    *all = a;
    *size = s;
}

static size_t outside(const int32_t *restrict m, int bits)
{
    int n = 0;
    for (size_t i = 0; i < PITH_GROUP; i++) n += (m[i] ^ (m[i] >> 31)) >> bits != 0;
    return (size_t)n;
}

static size_t pack(const int32_t *restrict m, int shift, int low, int high, uint8_t *restrict values)
{
    int n = 0;
    for (size_t i = 0; i < PITH_GROUP; i++) {
        int wanted = m[i] >> shift, v = pith_within(wanted, low, high);
        values[i] = (uint8_t)(v - low);
        n += v != wanted;
    }
    return (size_t)n;
}

static void range(const float *restrict x, float *least, float *most)
{
    float low[16], high[16], none[16] = {0};
    halve(x, low, high);
    by_halves(low, high, none);
    *least = low[0];
    *most = high[0];
}

static void steps(const float *restrict x, float low, float step, float zero, float top, uint8_t *restrict u)
{
    for (size_t i = 0; i < 32; i++) u[i] = (uint8_t)pith_within_f((((x[i] - low) / step + 0x1.8p23f) - 0x1.8p23f) + zero, 0, top);
}

/* ---- the exact layer ----------------------------------------------------------------------------- */

/* Not inlined, or gcc 12 makes vectors of blocks. */
static __attribute__((noinline)) void guess_block(const pith_grid *g, const float *restrict value, const float *restrict variance, float *least, float *most, uint8_t *class)
{
    float low[16], high[16], sum[16];
    halve(value, low, high);
    for (int i = 0; i < 16; i++) sum[i] = variance[i] + variance[i + 16];
    by_halves(low, high, sum);
    float first = g->has_min ? low[0] : 0, last = high[0];
    if (!g->has_min && -low[0] > high[0]) last = g->n_levels == 256 ? -low[0] : low[0];
    float d = (last - first) / g->span;
    *least = first;
    *most = last;
    *class = (uint8_t)(pith_within(pith_octave(sum[0] / 32 / (d * d)) >> 1, -6, 6) + 6);
}

static void guess(const pith_grid *g, const float *value, const float *variance, size_t n_blocks, pith_block_guesses to)
{
    for (size_t b = 0; b < n_blocks; b++) guess_block(g, value + 32 * b, variance + 32 * b, &to.low[b], &to.high[b], &to.class[b]);
}

static void guess_ends(pith_ends e, bool min, const float *restrict end, const float *restrict m, float span, size_t n, int32_t *restrict order)
{
    if (e == PITH_ENDS_BF16)
        for (size_t i = 0; i < n; i++) order[i] = pith_order_of(pith_f32_to_bf16(pith_within_f(end[i], -65504.0f, 65504.0f)));
    else if (min)
        for (size_t i = 0; i < n; i++) order[i] = pith_order_of(pith_f32_to_f16(pith_within_f(end[i], -65504.0f, 65504.0f)));
    else
        for (size_t i = 0; i < n; i++)
            order[i] = pith_order_of(pith_f32_to_f16(pith_within_f((pith_within_f(end[i], -65504.0f, 65504.0f) - m[i]) / span, -65504.0f, 65504.0f)));
}

static void scales(pith_ends e, bool min, const int32_t *restrict order, const float *restrict m, float span, size_t n, uint16_t *restrict scale)
{
    if (e == PITH_ENDS_F16) for (size_t i = 0; i < n; i++) scale[i] = pith_scale_of(PITH_ENDS_F16, order[i], min, m[i], span);
    else if (min) for (size_t i = 0; i < n; i++) scale[i] = pith_scale_of(PITH_ENDS_BF16, order[i], true, m[i], span);
    else for (size_t i = 0; i < n; i++) scale[i] = pith_scale_of(PITH_ENDS_BF16, order[i], false, m[i], span);
}

static void widen(const uint16_t *restrict half, size_t n, float *restrict x)
{
    for (size_t i = 0; i < n; i++) x[i] = pith_f16_to_f32(half[i]);
}

static inline void place_block(const pith_grid *g, const float *restrict value, const float *restrict variance, float d, float m, uint16_t *restrict model, int16_t *restrict zero)
{
    const float top = (float)(g->n_levels - 1), low = (float)g->low, inverse = 1 / d, inverse_square = inverse * inverse;
    const int half = g->n_levels / 2, end = g->n_levels - 1;
    for (int i = 0; i < 32; i++) {
        float x = pith_within_f((value[i] - m) * inverse - low, -PITH_GRID_FAR, top + PITH_GRID_FAR);
        int down = x > top / 2;
        float a = down ? top - x : x;                         /* distance from the nearer end */
        int near = pith_within((int)((a + 0x1.8p23f) - 0x1.8p23f), 0, half); /* to nearest even */
        float f = pith_within_f((a - (float)near + 2.5f) * 4, 0, 100);       /* quarters, from 2 below the middle of the cell */
        int quarter = pith_within((int)f - 8, -2, 5) + 2;
        int class = pith_within(pith_octave(variance[i] * inverse_square), -10, 12) + 10;
        model[i] = (uint16_t)((PITH_GRID_FIRST_NUMBER + class * 32 + pith_within(near, 0, 3) * 8 + quarter) | (down ? PITH_GRID_DOWN : 0));
        int middle = class < PITH_GRID_NARROW_CLASSES ? 8 : 128;
        zero[i] = (int16_t)(down ? end - near + middle : near - middle);
    }
}

static void place(const pith_grid *g, const float *value, const float *variance, const float *d, const float *m, size_t n_blocks, uint16_t *model, int16_t *zero)
{
    for (size_t b = 0; b < n_blocks; b++) place_block(g, value + 32 * b, variance + 32 * b, d[b], m[b], model + 32 * b, zero + 32 * b);
}

static size_t settle(const uint16_t *restrict model, const int16_t *restrict zero, int top, uint8_t *restrict u)
{
    int16_t escapes = 0, most = (int16_t)top;
    for (int i = 0; i < 32; i++) {
        int16_t down = (int16_t)-(int16_t)(model[i] >> 15), symbol = u[i]; /* PITH_GRID_DOWN: all ones */
        int16_t number = (int16_t)(zero[i] + (int16_t)((int16_t)(symbol ^ down) - down));
        escapes = (int16_t)(escapes + (symbol == PITH_GRID_ESCAPE));
        number = number < 0 ? 0 : number;
        u[i] = (uint8_t)(number > most ? most : number);
    }
    return (size_t)escapes;
}

/* ---- predictions --------------------------------------------------------------------------------- */

static inline int16_t number(float x)
{
    return (int16_t)((pith_within_f(x, -32767, 32767) + 0x1.8p23f) - 0x1.8p23f);
}

static void numbers(const int32_t *restrict m, float middle, const float *restrict factor, int16_t *restrict z)
{
    for (size_t k = 0; k < PITH_GROUP_COLS; k++) z[k] = number(((float)m[k] + middle) * factor[k]);
}

static void number_pairs(const int32_t *restrict m, float middle, const float *restrict factor, int16_t *restrict z)
{
    for (size_t k = 0; k < PITH_GROUP_COLS; k++) {
        z[2 * k] = number(((float)m[k] + middle) * factor[k]);
        z[2 * k + 1] = number(((float)m[PITH_GROUP_COLS + k] + middle) * factor[k]);
    }
}

static void round7(const float *restrict x, float factor, size_t n, uint8_t *restrict z)
{
    for (size_t k = 0; k < n; k++) z[k] = (uint8_t)(64 + (int)((pith_within_f(x[k] * factor, -63, 63) + 0x1.8p23f) - 0x1.8p23f));
}

static inline int8_t number8(float x)
{
    return (int8_t)((pith_within_f(x, -127, 127) + 0x1.8p23f) - 0x1.8p23f);
}

static void round_fours(const float *restrict x, size_t ld, const float *restrict factor, size_t n, int8_t *restrict z)
{
    const float *restrict second = x + ld, *restrict third = x + 2 * ld, *restrict fourth = x + 3 * ld;
    for (size_t k = 0; k < n; k++) {
        z[4 * k] = number8(x[k] * factor[k]);
        z[4 * k + 1] = number8(second[k] * factor[k]);
        z[4 * k + 2] = number8(third[k] * factor[k]);
        z[4 * k + 3] = number8(fourth[k] * factor[k]);
    }
}

static float largest(const float *x, size_t n)
{
    const any_i32 *bits = (const any_i32 *)x;
    int32_t most = 0; /* magnitudes are in the order of their bits */
    for (size_t i = 0; i < n; i++) {
        int32_t size = bits[i] & 0x7fffffff;
        size = size > 0x7f800000 ? 0 : size;
        most = size > most ? size : most;
    }
    float result;
    memcpy(&result, &most, sizeof result);
    return result;
}

static void raise_to(const float *restrict x, size_t n, float *restrict most)
{
    for (size_t i = 0; i < n; i++) {
        float size = x[i] < 0 ? -x[i] : x[i];
        most[i] = size > most[i] ? size : most[i];
    }
}

static void add_squares(const int16_t *restrict pairs, float c0, float c1, size_t n, float *restrict to)
{
    for (size_t i = 0; i < n; i++) {
        float x = (float)pairs[2 * i] * c0, y = (float)pairs[2 * i + 1] * c1;
        to[i] = (to[i] + x * x) + y * y;
    }
}

static void scale_sums(void *sum, float unit, const float *restrict factor, size_t n)
{
    const any_i32 *from = sum;
    any_f32 *to = sum;
    for (size_t i = 0; i < n; i++) to[i] = (float)from[i] * unit * factor[i];
}

static void add_numbers(void *sum, const int32_t *restrict offset, float row, const float *restrict column, const int16_t *restrict z, const float *restrict factor, size_t n)
{
    const any_i32 *from = sum;
    any_f32 *to = sum;
    for (size_t i = 0; i < n; i++) to[i] = (float)(from[i] - offset[i]) * (row * column[i]) + (float)z[i] * factor[i];
}

static void add_pairs(void *sum, const int32_t *restrict offset, float row, const float *restrict column, const int16_t *restrict z, const float *restrict factor, size_t n)
{
    const any_i32 *from = sum;
    any_f32 *to = sum;
    for (size_t i = 0; i < n; i++) to[i] = (float)(from[i] - offset[i]) * (row * column[i]) + (float)z[2 * i] * factor[i];
}

const pith_value_loops LOOPS = {start, split_contexts, split, split_bits, cells, extent, outside, pack, range, steps, guess, guess_ends, scales, widen, place, settle, numbers, number_pairs, round7, round_fours, largest, raise_to, add_squares, scale_sums, add_numbers, add_pairs};
