/* strokes: digits as a pen writes them, one after the other: what it moved, and whether it touched the paper. */
#include <math.h>

#include "data/sequences.h"

enum { MOST_POINTS = 16 };

/* A corner of the line, in a box of 1 by 1 (y down); lifted: the way to it is through the air. */
typedef struct corner {
    float x, y;
    bool lifted;
} corner;

static const corner digits[10][MOST_POINTS] = {
    {{.5f, 0, 0}, {.2f, .15f, 0}, {.1f, .5f, 0}, {.2f, .85f, 0}, {.5f, 1, 0}, {.8f, .85f, 0}, {.9f, .5f, 0}, {.8f, .15f, 0}, {.5f, 0, 0}},
    {{.3f, .25f, 0}, {.55f, 0, 0}, {.5f, 1, 0}},
    {{.1f, .25f, 0}, {.3f, .03f, 0}, {.7f, .03f, 0}, {.88f, .25f, 0}, {.7f, .5f, 0}, {.1f, 1, 0}, {.9f, 1, 0}},
    {{.1f, .1f, 0}, {.5f, 0, 0}, {.85f, .2f, 0}, {.75f, .4f, 0}, {.4f, .48f, 0}, {.8f, .58f, 0}, {.9f, .8f, 0}, {.5f, 1, 0}, {.1f, .9f, 0}},
    {{.6f, 0, 0}, {.1f, .65f, 0}, {.9f, .65f, 0}, {.65f, .35f, 1}, {.65f, 1, 0}},
    {{.2f, 0, 0}, {.15f, .45f, 0}, {.6f, .4f, 0}, {.9f, .7f, 0}, {.6f, 1, 0}, {.1f, .9f, 0}, {.2f, 0, 1}, {.85f, 0, 0}},
    {{.7f, 0, 0}, {.3f, .3f, 0}, {.12f, .7f, 0}, {.4f, 1, 0}, {.8f, .85f, 0}, {.75f, .6f, 0}, {.4f, .55f, 0}, {.15f, .7f, 0}},
    {{.1f, 0, 0}, {.9f, 0, 0}, {.4f, 1, 0}, {.3f, .5f, 1}, {.75f, .5f, 0}},
    {{.8f, .15f, 0}, {.5f, 0, 0}, {.2f, .2f, 0}, {.4f, .45f, 0}, {.75f, .65f, 0}, {.7f, .95f, 0}, {.4f, 1, 0}, {.15f, .8f, 0}, {.35f, .55f, 0}, {.7f, .35f, 0}, {.8f, .15f, 0}},
    {{.8f, .2f, 0}, {.5f, 0, 0}, {.15f, .25f, 0}, {.4f, .5f, 0}, {.8f, .3f, 0}, {.85f, .2f, 0}, {.75f, .7f, 0}, {.5f, 1, 0}},
};

static const uint8_t n_corners[10] = {9, 3, 7, 9, 5, 8, 8, 5, 11, 8};

/* The line at `way` along it, of lengths [n - 1]. */
static corner at_way(const corner *p, const float *lengths, size_t n, float way)
{
    size_t i = 0;
    while (i + 2 < n && way > lengths[i]) way -= lengths[i++];
    float t = PITH_MIN(way / lengths[i], 1.0f);
    return (corner){p[i].x + t * (p[i + 1].x - p[i].x), p[i].y + t * (p[i + 1].y - p[i].y), p[i + 1].lifted};
}

int pith_strokes_make(pith_rng *rng, float *x, size_t length)
{
    corner p[MOST_POINTS];
    float lengths[MOST_POINTS], all = 0;
    int digit = (int)pith_rng_below(rng, 10);
    size_t n = n_corners[digit];
    float angle = 0.2f * pith_rng_normal(rng), wide = 0.8f + 0.4f * pith_rng_uniform(rng), tall = 0.8f + 0.4f * pith_rng_uniform(rng), slant = 0.2f * pith_rng_normal(rng);
    if (digit == 7 && pith_rng_below(rng, 2)) n = 3; /* without its bar */
    for (size_t i = 0; i < n; i++) {
        float u = (digits[digit][i].x - 0.5f) * wide + 0.05f * pith_rng_normal(rng), v = (digits[digit][i].y - 0.5f) * tall + 0.05f * pith_rng_normal(rng);
        u -= slant * v;
        p[i] = (corner){u * cosf(angle) - v * sinf(angle), u * sinf(angle) + v * cosf(angle), digits[digit][i].lifted};
    }
    for (size_t i = 0; i + 1 < n; i++) all += lengths[i] = hypotf(p[i + 1].x - p[i].x, p[i + 1].y - p[i].y) + 1e-6f;
    float hurry = pith_rng_uniform(rng) - 0.5f; /* faster at the end, or at the beginning */
    corner last = p[0];
    for (size_t t = 0; t < length; t++) {
        float u = (float)(t + 1) / (float)length;
        corner now = at_way(p, lengths, n, all * (u + hurry * u * (1 - u)));
        x[3 * t] = 10 * (now.x - last.x) + 0.1f * pith_rng_normal(rng);
        x[3 * t + 1] = 10 * (now.y - last.y) + 0.1f * pith_rng_normal(rng);
        x[3 * t + 2] = now.lifted ? 0 : 1;
        last = now;
    }
    return digit;
}
