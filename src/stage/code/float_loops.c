#include "stage/code/float_loops.h"
#include "stage/code/floats.h"

#ifndef LOOPS
#define LOOPS pith_float_loops_plain
#endif

/* Values where they lie. */
typedef uint32_t any_u32 __attribute__((may_alias, aligned(1)));
typedef uint16_t any_u16 __attribute__((may_alias, aligned(1)));

static size_t zeros(pith_float_split f, const void *values, size_t n, uint8_t *restrict is_zero)
{
    uint32_t sum = 0;
    const any_u32 *v = values;
    const any_u16 *h = values;
    if (f.bytes == 4)
        for (size_t i = 0; i < n; i++) sum += is_zero[i] = v[i] == 0;
    else
        for (size_t i = 0; i < n; i++) sum += is_zero[i] = h[i] == 0;
    return sum;
}

static size_t keep(pith_float_split f, const void *values, const uint8_t *is_zero, size_t n, void *kept)
{
    const any_u32 *v = values;
    const any_u16 *h = values;
    any_u32 *to = kept;
    any_u16 *to_h = kept;
    size_t k = 0;
    if (f.bytes == 4)
        for (size_t i = 0; i < n; i++) to[k] = v[i], k += !is_zero[i];
    else
        for (size_t i = 0; i < n; i++) to_h[k] = h[i], k += !is_zero[i];
    return k;
}

static size_t spread(pith_float_split f, const void *kept, const uint8_t *is_zero, size_t n, void *values)
{
    const any_u32 *from = kept;
    const any_u16 *from_h = kept;
    any_u32 *v = values;
    any_u16 *h = values;
    size_t k = 0;
    if (f.bytes == 4)
        for (size_t i = 0; i < n; i++) v[i] = from[k] & -(uint32_t)!is_zero[i], k += !is_zero[i];
    else
        for (size_t i = 0; i < n; i++) h[i] = (uint16_t)(from_h[k] & -(uint32_t)!is_zero[i]), k += !is_zero[i];
    return k;
}

static unsigned keys(pith_float_split f, const void *values, size_t n, uint16_t *restrict key)
{
    uint32_t all = 0, common = UINT32_MAX;
    const any_u32 *v = values;
    const any_u16 *h = values;
    if (f.bytes == 4)
        for (size_t i = 0; i < n; i++) {
            all |= v[i];
            common &= v[i];
            key[i] = (uint16_t)((v[i] & 0x7fffffff) >> f.low);
        }
    else
        for (size_t i = 0; i < n; i++) {
            all |= h[i];
            common &= h[i];
            key[i] = (uint16_t)((h[i] & 0x7fff) >> f.low);
        }
    const unsigned top = 8 * f.bytes - 1;
    unsigned shape = 0;
    while (shape < f.low && !(all >> shape & 1)) shape++;
    return shape + (!(all >> top & 1) ? PITH_SHAPE_POSITIVE : common >> top & 1 ? PITH_SHAPE_NEGATIVE : 0);
}

static void symbols(const uint16_t *restrict key, size_t n, int level, uint8_t *restrict symbol)
{
    for (size_t i = 0; i < n; i++) {
        int s = key[i] - level + PITH_KEY_CENTRE;
        symbol[i] = (uint8_t)(s < 1 || s > 255 ? 0 : s);
    }
}

/* ---- planes ----------------------------------------------------------------------------------- */

/* A plane of p < 8 bits: byte i has values i, i + h, i + 2 h .., from its lowest bits, h = ceil(n p / 8). */
static inline __attribute__((always_inline)) size_t put_part(const uint32_t *restrict field, size_t n, unsigned p, unsigned at, uint8_t *restrict raw)
{
    const size_t h = (n * p + 7) / 8;
    for (size_t i = 0; i < h; i++) raw[i] = 0;
    for (unsigned k = 0; k < 8 / p && k * h < n; k++) {
        const size_t m = n - k * h < h ? n - k * h : h;
        for (size_t i = 0; i < m; i++) raw[i] = (uint8_t)(raw[i] | ((field[i + k * h] >> at & ((1u << p) - 1)) << (k * p)));
    }
    return h;
}

static inline __attribute__((always_inline)) size_t get_part(const uint8_t *restrict raw, size_t n, unsigned p, unsigned at, uint32_t *restrict field)
{
    const size_t h = (n * p + 7) / 8;
    for (unsigned k = 0; k < 8 / p && k * h < n; k++) {
        const size_t m = n - k * h < h ? n - k * h : h;
        for (size_t i = 0; i < m; i++) field[i + k * h] |= (uint32_t)(raw[i] >> (k * p) & ((1u << p) - 1)) << at;
    }
    return h;
}

static size_t put_planes(const uint32_t *restrict field, size_t n, unsigned bits, uint8_t *restrict raw)
{
    const uint8_t *start = raw;
    unsigned at = 0;
    if (bits & 16) {
        any_u16 *to = (any_u16 *)raw;
        for (size_t i = 0; i < n; i++) to[i] = (uint16_t)field[i];
        raw += 2 * n, at += 16;
    }
    if (bits & 8) {
        for (size_t i = 0; i < n; i++) raw[i] = (uint8_t)(field[i] >> at);
        raw += n, at += 8;
    }
    if (bits & 4) raw += put_part(field, n, 4, at, raw), at += 4;
    if (bits & 2) raw += put_part(field, n, 2, at, raw), at += 2;
    if (bits & 1) raw += put_part(field, n, 1, at, raw);
    return (size_t)(raw - start);
}

static size_t get_fields(pith_float_split f, const uint8_t *restrict raw, size_t n, unsigned shape, uint32_t *restrict field)
{
    const uint8_t *start = raw;
    const unsigned bits = pith_field_bits(f, shape);
    unsigned at = 0;
    if (bits & 16) {
        const any_u16 *from = (const any_u16 *)raw;
        for (size_t i = 0; i < n; i++) field[i] = from[i];
        raw += 2 * n, at += 16;
    } else {
        for (size_t i = 0; i < n; i++) field[i] = 0;
    }
    if (bits & 8) {
        for (size_t i = 0; i < n; i++) field[i] |= (uint32_t)raw[i] << at;
        raw += n, at += 8;
    }
    if (bits & 4) raw += get_part(raw, n, 4, at, field), at += 4;
    if (bits & 2) raw += get_part(raw, n, 2, at, field), at += 2;
    if (bits & 1) raw += get_part(raw, n, 1, at, field);
    return (size_t)(raw - start);
}

/* ---- values ----------------------------------------------------------------------------------- */

static size_t put_fields(pith_float_split f, const void *values, size_t n, unsigned shape, uint8_t *raw)
{
    const unsigned drop = shape & PITH_SHAPE_DROP, low = f.low - drop, top = 8 * f.bytes - 1;
    const uint32_t mask = (1u << f.low) - 1, sign = shape <= PITH_SHAPE_DROP; /* 1: it is stored */
    const any_u32 *v = values;
    const any_u16 *h = values;
    uint32_t field[PITH_FLOATS_MAX_ROW];
    if (f.bytes == 4)
        for (size_t i = 0; i < n; i++) field[i] = (v[i] & mask) >> drop | (v[i] >> top & sign) << low;
    else
        for (size_t i = 0; i < n; i++) field[i] = (h[i] & mask) >> drop | (h[i] >> top & sign) << low;
    return put_planes(field, n, low + sign, raw);
}

static void join(pith_float_split f, const uint8_t *restrict symbol, const uint32_t *restrict field, size_t n, int level, unsigned shape, void *values)
{
    const unsigned drop = shape & PITH_SHAPE_DROP, low = f.low - drop, top = 8 * f.bytes - 1;
    const uint32_t mask = (1u << low) - 1, base = (uint32_t)(level - PITH_KEY_CENTRE), inside = (1u << top) - 1, all = (uint32_t)(shape >= PITH_SHAPE_NEGATIVE) << top;
    any_u32 *v = values;
    any_u16 *h = values;
    if (f.bytes == 4)
        for (size_t i = 0; i < n; i++) v[i] = ((symbol[i] + base) << f.low & inside) | (field[i] & mask) << drop | field[i] >> low << top | all;
    else
        for (size_t i = 0; i < n; i++) h[i] = (uint16_t)(((symbol[i] + base) << f.low & inside) | (field[i] & mask) << drop | field[i] >> low << top | all);
}

const pith_float_loops LOOPS = {zeros, keep, spread, keys, symbols, put_fields, get_fields, join};
