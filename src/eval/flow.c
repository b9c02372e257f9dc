/* Block matching. */
#include "eval/flow.h"

#include <math.h>
#include <stdlib.h>

typedef struct pictures {
    const uint8_t *before, *now;
    size_t channels, height, width, block;
} pictures;

/* The difference of the block at (x, y) from what lies (dx, dy) before it. */
static uint32_t difference(const pictures *p, size_t x, size_t y, int dx, int dy)
{
    uint32_t sum = 0;
    for (size_t c = 0; c < p->channels; c++)
        for (size_t row = 0; row < p->block; row++) {
            const uint8_t *now = p->now + (c * p->height + y + row) * p->width + x;
            const uint8_t *before = p->before + (c * p->height + (size_t)((int)(y + row) - dy)) * p->width + (size_t)((int)x - dx);
            for (size_t i = 0; i < p->block; i++) sum += (uint32_t)abs((int)now[i] - (int)before[i]);
        }
    return sum;
}

void pith_flow_match(const uint8_t *before, const uint8_t *now, size_t channels, size_t height, size_t width, size_t block, int range, int8_t *flow)
{
    const pictures p = {before, now, channels, height, width, block};
    for (size_t y = 0; y + block <= height; y += block)
        for (size_t x = 0; x + block <= width; x += block, flow += 2) {
            uint32_t least = difference(&p, x, y, 0, 0);
            int best_x = 0, best_y = 0;
            for (int dy = -range; dy <= range; dy++)
                for (int dx = -range; dx <= range; dx++) {
                    if ((int)x - dx < 0 || (int)(x + block) - dx > (int)width || (int)y - dy < 0 || (int)(y + block) - dy > (int)height) continue;
                    uint32_t d = difference(&p, x, y, dx, dy);
                    if (d > least || (d == least && dx * dx + dy * dy >= best_x * best_x + best_y * best_y)) continue;
                    least = d, best_x = dx, best_y = dy;
                }
            flow[0] = (int8_t)best_x;
            flow[1] = (int8_t)best_y;
        }
}

void pith_flow_picture(const int8_t *flow, size_t height, size_t width, size_t block, int range, uint8_t *picture)
{
    size_t n_across = width / block, plane = height * width;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            bool inside = y / block < height / block && x / block < n_across;
            const int8_t *v = flow + (y / block * n_across + x / block) * 2;
            int dx = inside ? v[0] : 0, dy = inside ? v[1] : 0;
            uint8_t *at = picture + y * width + x;
            at[0] = (uint8_t)(128 + 127 * dx / range);
            at[plane] = (uint8_t)(128 + 127 * dy / range);
            at[2 * plane] = (uint8_t)(255 * sqrt((double)(dx * dx + dy * dy)) / (sqrt(2) * range) + 0.5);
        }
}
