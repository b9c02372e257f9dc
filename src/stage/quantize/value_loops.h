/* The loops of the quantisers over values.  Compiled once for each instruction set, for the compiler to make
 * vectors of; the results are the same. */
#ifndef PITH_VALUE_LOOPS_H
#define PITH_VALUE_LOOPS_H

#include "stage/quantize/embedded.h"
#include "stage/quantize/grid.h"

static inline int pith_within(int x, int low, int high) { return x < low ? low : x > high ? high : x; }
static inline float pith_within_f(float x, float low, float high) /* not a number: low */
{
    float y = x > low ? x : low; /* each of the two is one instruction */
    return y < high ? y : high;
}

/* ---- the embedded quantiser: groups of PITH_GROUP values --------------------------------------- */

#define PITH_START_ESCAPE 0          /* starting symbols: 8 + high part, 1..15; 0: see the list of escapes */

/* A split's context: how far from the middle the cell is, and which way its symbol is turned. */
static inline int pith_split_magnitude(int m, bool first)
{
    int a = first ? (m < 0 ? -m : m) : m < 0 ? -1 - m : m;
    if (first) return a < 3 ? a : 3;
    return a < 2 ? a : a < 4 ? 2 : 3;
}
static inline int pith_split_flip(int m, bool first) { return first ? m <= 0 : m < 0; }

/* ---- the exact layer: blocks of 32 numbers ------------------------------------------------------ */

#define PITH_GRID_FIRST_NUMBER (2 * PITH_GRID_SCALE_CLASSES) /* the first model of numbers */
#define PITH_GRID_NARROW_CLASSES 11                          /* of errors: below sqrt 2 steps, where 15 differences are enough */
#define PITH_GRID_FIRST_WIDE (PITH_GRID_FIRST_NUMBER + 32 * PITH_GRID_NARROW_CLASSES)
#define PITH_GRID_ESCAPE 0                                   /* symbols: 8, of wide models 128, + what is to be added to the prediction */
#define PITH_GRID_DOWN 0x8000                                /* beside a model: differences count downwards */
#define PITH_GRID_FAR 1000.0f                                /* predictions are held within so many steps of the range */

/* What the prediction says about blocks' ends (pith_grid.span), and the class of how near that will be; [blocks] each. */
typedef struct pith_block_guesses {
    float *low, *high;
    uint8_t *class;
} pith_block_guesses;

/* Models are mostly made in bf16 and quantised from that: then both ends of a block are bf16 values, which have 8 bits where
 * f16 has 11, and d and m follow from them.  What is coded of a block is the order of an end among all values: of m, or of
 * the bf16 value that it is made of; and of d, or of the high end that it is made of. */
typedef enum pith_ends { PITH_ENDS_F16, PITH_ENDS_BF16 } pith_ends; /* numbers are in files */

/* Values of 16 bits, f16 or bf16, in their order. */
static inline int pith_order_of(uint16_t h) { return h & 0x8000 ? ~(h & 0x7fff) : h; }
static inline uint16_t pith_of_order(int o) { return (uint16_t)(o < 0 ? 0x8000 | (~o & 0x7fff) : o & 0x7fff); }

/* m from a low end, d from a high one. */
static inline uint16_t pith_scale_of(pith_ends e, int order, bool min, float m, float span)
{
    if (e == PITH_ENDS_F16) return pith_of_order(order);
    float x = pith_bf16_to_f32(pith_of_order(order));
    return pith_f32_to_f16(min ? x : (x - m) / span);
}

/** The order of an end that gives the scale; m: of the block, as f32, for d.  false: none of the nearest three does. */
bool pith_end_of(const pith_grid *g, pith_ends e, uint16_t scale, bool min, float m, int *order);

typedef struct pith_value_loops {
    /** Starting values from symbols and low bits, `bits` planes of 64 bytes; returns how many symbols are escapes. */
    size_t (*start)(const uint8_t *symbols, const uint8_t *planes, int bits, int32_t *m);
    /** The context of each value's split: base + its magnitude. */
    void (*split_contexts)(const int32_t *m, bool first, int base, uint8_t *contexts);
    /** Split each cell: by symbols, or by 512 bits. */
    void (*split)(const uint8_t *symbols, bool first, int32_t *m);
    void (*split_bits)(const uint8_t *bits, bool first, int32_t *m);
    /** 32 values as cells: the whole number below z * factor, within +-2^20. */
    void (*cells)(const float *z, const float *factor, int32_t *m);

    /* packing a group's cells in few bits (stream/weights/pack.c) */
    /** OR of all cells, and of each or its complement, whichever is not negative. */
    void (*extent)(const int32_t *m, int32_t *all, int32_t *size);
    /** How many cells, or their complements, are 2^bits or more. */
    size_t (*outside)(const int32_t *m, int bits);
    /** Cells without their lowest `shift` bits, held within low..high, from 0; returns how many had to be. */
    size_t (*pack)(const int32_t *m, int shift, int low, int high, uint8_t *values);
    /** The least and the largest of 32 values; the values in steps above low, to the nearest, plus zero, held within 0..top. */
    void (*range)(const float *x, float *least, float *most);
    void (*steps)(const float *x, float low, float step, float zero, float top, uint8_t *u);

    /** Of n_blocks blocks what the predictions say. */
    void (*guess)(const pith_grid *g, const float *value, const float *variance, size_t n_blocks, pith_block_guesses to);
    /** The order that a guessed end has: the low one, for m, or the high one, for d, given m. */
    void (*guess_ends)(pith_ends e, bool min, const float *end, const float *m, float span, size_t n_blocks, int32_t *order);
    /** m, or, given m, d, from the orders of ends. */
    void (*scales)(pith_ends e, bool min, const int32_t *order, const float *m, float span, size_t n_blocks, uint16_t *scale);
    /** f16 to f32. */
    void (*widen)(const uint16_t *half, size_t n, float *x);
    /** Model of each number of n_blocks blocks with these d and m, and what its symbol is added to, or, counting down, taken from. */
    void (*place)(const pith_grid *g, const float *value, const float *variance, const float *d, const float *m, size_t n_blocks, uint16_t *model, int16_t *zero);
    /** A block's numbers 0..top from symbols, in place, given what `place` made; returns how many are escapes. */
    size_t (*settle)(const uint16_t *model, const int16_t *zero, int top, uint8_t *u);

    /** 32 cells as 16-bit numbers, (m + middle) * factor to the nearest, ties to even; pairs: of two rows of a group, side by side. */
    void (*numbers)(const int32_t *m, float middle, const float *factor, int16_t *z);
    void (*number_pairs)(const int32_t *m, float middle, const float *factor, int16_t *z);
    /** n values as 7-bit numbers, 64 + x * factor; 4 rows of n values, ld apart, as 8-bit numbers x * factor[i], a column's side by side. */
    void (*round7)(const float *x, float factor, size_t n, uint8_t *z);
    void (*round_fours)(const float *x, size_t ld, const float *factor, size_t n, int8_t *z);
    /** The largest magnitude, and most[i] raised to that of x[i]: not a number counts for nothing.  (What rounds takes it for the lowest number.) */
    float (*largest)(const float *x, size_t n);
    void (*raise_to)(const float *x, size_t n, float *most);
    /** to[i] + (c0 pairs[2 i])^2 + (c1 pairs[2 i + 1])^2, summed from the left. */
    void (*add_squares)(const int16_t *pairs, float c0, float c1, size_t n, float *to);
    /** sum[i] * unit * factor[i], in place: sums lie where their values will. */
    void (*scale_sums)(void *sum, float unit, const float *factor, size_t n);
    /** (sum[i] - offset[i]) * (row * column[i]) + z[i] * factor[i], in place; pairs: z[2 i]. */
    void (*add_numbers)(void *sum, const int32_t *offset, float row, const float *column, const int16_t *z, const float *factor, size_t n);
    void (*add_pairs)(void *sum, const int32_t *offset, float row, const float *column, const int16_t *z, const float *factor, size_t n);
} pith_value_loops;

extern const pith_value_loops pith_value_loops_plain, pith_value_loops_avx2, pith_value_loops_avx512;

static inline const pith_value_loops *pith_value_loops_for(pith_isa isa)
{
#if defined __x86_64__
    if (isa == PITH_ISA_AVX512) return &pith_value_loops_avx512;
    if (isa == PITH_ISA_AVX2) return &pith_value_loops_avx2;
#endif
    (void)isa;
    return &pith_value_loops_plain;
}

#endif
