#include "stage/quantize/grid_place.h"

#ifndef PLACE
#define PLACE pith_grid_place
#endif

void PLACE(const pith_grid *g, const float *restrict value, const float *restrict variance, float d, float m, uint16_t *restrict model, int16_t *restrict zero)
{
    const float top = (float)(g->n_levels - 1), low = (float)g->low, inverse = 1 / d, inverse_square = inverse * inverse;
    const int half = g->n_levels / 2, end = g->n_levels - 1;
    for (int i = 0; i < 32; i++) {
        float x = within_f((value[i] - m) * inverse - low, -PITH_GRID_FAR, top + PITH_GRID_FAR);
        int down = x > top / 2;
        float a = down ? top - x : x;                         /* distance from the nearer end */
        int near = within((int)((a + 0x1.8p23f) - 0x1.8p23f), 0, half); /* to nearest even */
        float f = within_f((a - (float)near + 2.5f) * 4, 0, 100);       /* quarters, from 2 below the middle of the cell */
        int quarter = within((int)f - 8, -2, 5) + 2;
        int class = within(octave(variance[i] * inverse_square), -10, 12) + 10;
        model[i] = (uint16_t)((PITH_GRID_FIRST_NUMBER + class * 32 + within(near, 0, 3) * 8 + quarter) | (down ? PITH_GRID_DOWN : 0));
        zero[i] = (int16_t)(down ? end - near : near);
    }
}
