/* The loops of the coder of floating-point values.  Compiled once for each instruction set, for the compiler to make vectors
 * of; the results are the same. */
#ifndef PITH_FLOAT_LOOPS_H
#define PITH_FLOAT_LOOPS_H

#include "base/base.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are read where they lie");

#define PITH_KEY_CENTRE 200        /* the symbol of a key at the row's level; 0 is an escape */

/* How a type's bits are split: sign, key (exponent and three bits of the mantissa), low bits. */
typedef struct pith_float_split {
    unsigned bytes, low;           /* of a value; low bits */
} pith_float_split;

typedef struct pith_float_loops {
    /** Which of n values are zeros (no bit is set): 1 or 0 for each; returns how many. */
    size_t (*zeros)(pith_float_split f, const void *values, size_t n, uint8_t *is_zero);
    /** The others side by side, and the reverse; returns how many.  `kept` has room for one more, which is of no meaning. */
    size_t (*keep)(pith_float_split f, const void *values, const uint8_t *is_zero, size_t n, void *kept);
    size_t (*spread)(pith_float_split f, const void *kept, const uint8_t *is_zero, size_t n, void *values);
    /** Keys of n values, and their shape. */
    unsigned (*keys)(pith_float_split f, const void *values, size_t n, uint16_t *key);
    /** Symbols of keys, PITH_KEY_CENTRE + key - level, or 0 where that is not in 1..255. */
    void (*symbols)(const uint16_t *key, size_t n, int level, uint8_t *symbol);
    /** The low bits that the rows' shape does not drop and, above them, the sign unless all are alike, as a field of as many bits,
     *  in planes of 16, 8, 4, 2 and 1 bits as its width has them, from the lowest; each plane is a whole number of bytes.
     *  n <= PITH_FLOATS_MAX_ROW.  Returns pith_field_bytes. */
    size_t (*put_fields)(pith_float_split f, const void *values, size_t n, unsigned shape, uint8_t *raw);
    /** The reverse. */
    size_t (*get_fields)(pith_float_split f, const uint8_t *raw, size_t n, unsigned shape, uint32_t *field);
    /** Values from symbols (that of an escape: whatever it is) and fields. */
    void (*join)(pith_float_split f, const uint8_t *symbol, const uint32_t *field, size_t n, int level, unsigned shape, void *values);
} pith_float_loops;

extern const pith_float_loops pith_float_loops_plain, pith_float_loops_avx2, pith_float_loops_avx512;

static inline const pith_float_loops *pith_float_loops_for(pith_isa isa)
{
#if defined __x86_64__
    if (isa == PITH_ISA_AVX512) return &pith_float_loops_avx512;
    if (isa == PITH_ISA_AVX2) return &pith_float_loops_avx2;
#endif
    (void)isa;
    return &pith_float_loops_plain;
}

/* A row's shape: how many low bits are zero in all of its values (at most f.low), and whether their signs are alike. */
enum { PITH_SHAPE_DROP = 31, PITH_SHAPE_POSITIVE = 32, PITH_SHAPE_NEGATIVE = 64 };
/** Width of a field. */
static inline unsigned pith_field_bits(pith_float_split f, unsigned shape) { return (shape <= PITH_SHAPE_DROP) + f.low - (shape & PITH_SHAPE_DROP); }
/** Whether a byte can be a shape. */
static inline bool pith_shape_fits(pith_float_split f, unsigned shape) { return (shape & PITH_SHAPE_DROP) <= f.low && shape < PITH_SHAPE_NEGATIVE + PITH_SHAPE_POSITIVE; }
/** Bytes of n fields of so many bits. */
static inline size_t pith_field_bytes(unsigned bits, size_t n)
{
    size_t bytes = 0;
    for (unsigned plane = 16; plane; plane /= 2)
        if (bits & plane) bytes += (n * plane + 7) / 8;
    return bytes;
}

#endif
