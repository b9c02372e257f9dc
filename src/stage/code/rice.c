/* Rice codes; bits are filled from the lowest. */
#include "stage/code/rice.h"

#define LONGEST 24

size_t pith_rice_bound(size_t n)
{
    size_t bits;
    return pith_mul(n, LONGEST + 32, &bits) && pith_add(bits, 7, &bits) ? 1 + bits / 8 : SIZE_MAX;
}

typedef struct bits {
    uint8_t *to;
    const uint8_t *from, *end;
    uint64_t window;
    int n;
    bool ran_out;
} bits;

static void put(bits *b, uint32_t value, int n)
{
    b->window |= (uint64_t)value << b->n;
    b->n += n;
    while (b->n >= 8) {
        *b->to++ = (uint8_t)b->window;
        b->window >>= 8;
        b->n -= 8;
    }
}

static uint32_t take(bits *b, int n)
{
    while (b->n < n) {
        if (b->from == b->end) {
            b->ran_out = true;
            return 0;
        }
        b->window |= (uint64_t)*b->from++ << b->n;
        b->n += 8;
    }
    uint32_t value = (uint32_t)(b->window & (((uint64_t)1 << n) - 1));
    b->window >>= n;
    b->n -= n;
    return value;
}

/* The largest p with 2^p at most the mean: within a small part of a bit of the best for geometric numbers. */
static int parameter(const uint32_t *x, size_t n)
{
    uint64_t sum = 0;
    int p = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    while (p < 31 && n && sum / n >> (p + 1)) p++;
    return p;
}

size_t pith_rice_encode(const uint32_t *x, size_t n, uint8_t *dst)
{
    int p = parameter(x, n);
    bits b = {.to = dst + 1};
    dst[0] = (uint8_t)p;
    for (size_t i = 0; i < n; i++) {
        uint32_t ones = x[i] >> p;
        if (ones >= LONGEST) {
            put(&b, ((uint32_t)1 << LONGEST) - 1, LONGEST);
            put(&b, x[i], 32);
        } else {
            put(&b, ((uint32_t)1 << ones) - 1, (int)ones + 1);
            put(&b, x[i] & (((uint32_t)1 << p) - 1), p);
        }
    }
    if (b.n) put(&b, 0, 8 - b.n);
    return (size_t)(b.to - dst);
}

bool pith_rice_decode(const uint8_t *src, size_t len, uint32_t *x, size_t n, size_t *used)
{
    if (len == 0 || src[0] > 31) return false;
    int p = src[0];
    bits b = {.from = src + 1, .end = src + len};
    for (size_t i = 0; i < n && !b.ran_out; i++) {
        uint32_t ones = 0;
        while (ones < LONGEST && take(&b, 1)) ones++;
        if (ones == LONGEST) {
            x[i] = take(&b, 32);
        } else {
            if (p && ones >> (32 - p)) return false;
            x[i] = ones << p | take(&b, p);
        }
    }
    *used = (size_t)(b.from - src);
    return !b.ran_out;
}
