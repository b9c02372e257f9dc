/* Sixteen numbers at a time, for loops.c: the compiler makes of them what the instruction set has, and as no
 * product is fused with a sum, every instruction set gives the same bits. */
#ifndef PITH_GRAD_VEC_H
#define PITH_GRAD_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Vectors are handed over only to functions that are inlined, so -Wno-psabi. */

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(64)));
typedef float vec_at __attribute__((vector_size(64), aligned(4), may_alias)); /* in memory, at any address */
typedef int32_t mask __attribute__((vector_size(64)));

INLINE vec load(const float *p) { return *(const vec_at *)p; }
INLINE void store(float *p, vec v) { *(vec_at *)p = v; }
INLINE vec spread(float x) { return (vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE vec load_some(const float *p, size_t n) { vec v = {0}; memcpy(&v, p, n * sizeof(float)); return v; }
INLINE void store_some(float *p, vec v, size_t n) { memcpy(p, &v, n * sizeof(float)); }
/* n: LANES, a constant where these are called, or what is left */
INLINE vec get(const float *p, size_t n) { return n == LANES ? load(p) : load_some(p, n); }
INLINE void put(float *p, vec v, size_t n)
{
    if (n == LANES) store(p, v);
    else store_some(p, v, n);
}
INLINE vec choose(mask m, vec yes, vec no) { return (vec)((m & (mask)yes) | (~m & (mask)no)); }
INLINE vec vmax(vec a, vec b) { return choose(a >= b, a, b); }
INLINE vec vmin(vec a, vec b) { return choose(a <= b, a, b); }
INLINE vec vabs(vec x) { return (vec)((mask)x & 0x7fffffff); }
INLINE vec vsqrt(vec x)
{
    vec y;
    for (int i = 0; i < LANES; i++) y[i] = __builtin_sqrtf(x[i]);
    return y;
}
/* in the order of halves, as the kernels sum */
INLINE float vsum(vec v)
{
    for (int half = LANES / 2; half >= 1; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}

#define ROUNDER 0x1.8p23f /* adding it leaves the nearest integer in the low bits, for |x| < 2^22 */

INLINE vec vround(vec x) { return choose(vabs(x) < 0x1p22f, (x + ROUNDER) - ROUNDER, x); }
INLINE vec vfloor(vec x)
{
    vec r = vround(x);
    return choose(r > x, r - 1.0f, r);
}

/* exp x = 2^n e^r, n the integer nearest to x / ln 2, |r| <= ln 2 / 2, e^r by its series to r^7 (the rest is below
 * 6e-9); ln 2 in two parts, the first of few bits, so that n times it is exact.  0 below the smallest normal number. */
INLINE vec vexp(vec x)
{
    vec t = x * 0x1.715476p+0f + ROUNDER, n = t - ROUNDER;
    vec r = x - n * 0x1.62ep-1f - n * 0x1.0bfbe8p-15f;
    vec p = r * (1 / 5040.0f) + 1 / 720.0f;
    p = p * r + 1 / 120.0f;
    p = p * r + 1 / 24.0f;
    p = p * r + 1 / 6.0f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    mask power = (mask)(((mask)t - 0x4b400000 + 127) << 23); /* 0x4b400000: the bits of ROUNDER */
    vec y = p * (vec)power;
    y = choose(x < -87.3f, spread(0), y);
    y = choose(x > 88.3f, spread(INFINITY), y);
    return choose(x == x, y, x);
}

/* log x = e ln 2 + log m, m in [sqrt 1/2, sqrt 2); log m = 2 atanh s, s = (m - 1)/(m + 1), by its series to s^9. */
INLINE vec vlog(vec x)
{
    mask tiny = x < 0x1p-126f;
    vec big = choose(tiny, x * 0x1p24f, x);
    mask bits = (mask)big - 0x3f3504f3; /* the bits of sqrt 1/2 */
    mask e = bits >> 23;
    vec m = (vec)((bits & 0x7fffff) + 0x3f3504f3);
    vec n = __builtin_convertvector(e, vec) - choose(tiny, spread(24), spread(0));
    vec s = (m - 1.0f) / (m + 1.0f), q = s * s;
    vec p = q * (2 / 9.0f) + 2 / 7.0f;
    p = p * q + 2 / 5.0f;
    p = p * q + 2 / 3.0f;
    vec y = n * 0x1.62ep-1f + (n * 0x1.0bfbe8p-15f + (s * q * p + s * 2.0f));
    y = choose(x == spread(0), spread(-INFINITY), y);
    y = choose(x < spread(0), spread(NAN), y);
    y = choose(x == spread(INFINITY), x, y);
    return choose(x == x, y, x);
}

INLINE vec vsigmoid(vec x) { return 1.0f / (1.0f + vexp(-x)); }

/* 1 - 2/(e^2x + 1), and its series to x^9 where that would cancel */
INLINE vec vtanh(vec x)
{
    vec q = x * x, p = q * (62 / 2835.0f) - 17 / 315.0f;
    p = p * q + 2 / 15.0f;
    p = p * q - 1 / 3.0f;
    vec small = p * q * x + x, a = vabs(x), big = 1.0f - 2.0f / (vexp(a * 2.0f) + 1.0f);
    return choose(a < 0.25f, small, choose(x < spread(0), -big, big));
}

/* Within 6e-7 of erf, of which 1.5e-7 are the formula's: C. Hastings, 7.1.26 in Abramowitz and Stegun, 1964.
 * *e: exp(-x x), of which it is made */
INLINE vec verf_exp(vec x, vec *e)
{
    vec a = vabs(x), t = 1.0f / (a * 0.3275911f + 1.0f);
    vec p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    *e = vexp(-a * a);
    vec y = 1.0f - p * t * *e;
    return choose(x < spread(0), -y, y);
}

INLINE vec verf(vec x)
{
    vec e;
    return verf_exp(x, &e);
}

/* sin (quarter 0) or cos (quarter 1): x = n pi/2 + r, pi/2 in three parts, then the series of sin r or cos r. */
INLINE vec vsine(vec x, int quarter)
{
    vec t = x * 0x1.45f306p-1f + ROUNDER, n = t - ROUNDER;
    vec r = x - n * 0x1.92p+0f - n * 0x1.fb4p-12f - n * 0x1.4442d2p-24f, q = r * r;
    mask k = (mask)t + quarter;
    vec s = q * (1 / 362880.0f) - 1 / 5040.0f;
    s = s * q + 1 / 120.0f;
    s = s * q - 1 / 6.0f;
    s = s * q * r + r;
    vec c = q * (1 / 40320.0f) - 1 / 720.0f;
    c = c * q + 1 / 24.0f;
    c = c * q - 0.5f;
    c = c * q + 1.0f;
    vec y = choose((k & 1) != 0, c, s);
    y = choose((k & 2) != 0, -y, y);
    return choose(x == x, y, x);
}

#endif
