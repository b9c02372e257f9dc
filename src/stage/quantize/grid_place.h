/* Inside the exact layer's coder: where predictions lie between a grid's numbers.  Compiled once for each
 * instruction set, for the compiler to make vectors of; the results are the same. */
#ifndef PITH_GRID_PLACE_H
#define PITH_GRID_PLACE_H

#include "stage/quantize/grid.h"

#define PITH_GRID_FIRST_NUMBER (2 * PITH_GRID_SCALE_CLASSES) /* the first model of numbers */
#define PITH_GRID_DOWN 0x8000                                /* beside a model: differences count downwards */
#define PITH_GRID_FAR 1000.0f                                /* predictions are held within so many steps of the range */

/* floor(log2 x) of x >= 0, within -127..128. */
static inline int octave(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (int)(bits >> 23 & 255) - 127;
}

static inline int within(int x, int low, int high) { return x < low ? low : x > high ? high : x; }
static inline float within_f(float x, float low, float high) { return x > low ? (x < high ? x : high) : low; } /* NaN: low */

/* Of a block of 32: model of each number, and what a difference of 0 stands for. */
typedef void pith_grid_place_fn(const pith_grid *g, const float *value, const float *variance, float d, float m, uint16_t *model, int16_t *zero);
pith_grid_place_fn pith_grid_place, pith_grid_place_avx2, pith_grid_place_avx512;

static inline pith_grid_place_fn *pith_grid_place_for(pith_isa isa)
{
#if defined __x86_64__
    if (isa == PITH_ISA_AVX512) return pith_grid_place_avx512;
    if (isa == PITH_ISA_AVX2) return pith_grid_place_avx2;
#endif
    (void)isa;
    return pith_grid_place;
}

#endif
