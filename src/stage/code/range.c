#include "stage/code/range.h"

#define DIGITS 7                                  /* of low and range */
#define TOP (UINT64_C(1) << 8 * DIGITS)
#define LEAST (TOP >> 8)                          /* of range between symbols */

size_t pith_range_bound(size_t n, int bits)
{
    /* A symbol takes at most `bits` bits, and less than 2^-16 of one for what range div 2^bits leaves out. */
    size_t n_bits;
    if (!pith_mul(n, (size_t)bits, &n_bits) || !pith_add(n_bits, n / 65536, &n_bits)) return SIZE_MAX;
    return n_bits / 8 + DIGITS + 2;
}

/* ---- writing ---------------------------------------------------------------------------------- */

void pith_range_write_begin(pith_range_writer *w, uint8_t *dst, size_t cap)
{
    *w = (pith_range_writer){.dst = dst, .cap = cap, .range = TOP};
}

static void put_digit(pith_range_writer *w)
{
    if (w->len < w->cap) w->dst[w->len++] = (uint8_t)(w->low >> 8 * (DIGITS - 1));
    else w->full = true;
    w->low = w->low << 8 & (TOP - 1);
}

/* low has grown beyond its digits: one more in those written. */
static void carry(pith_range_writer *w)
{
    if (w->low < TOP) return;
    w->low -= TOP;
    for (size_t i = w->len; i > 0 && ++w->dst[i - 1] == 0; i--) continue;
}

void pith_range_write(pith_range_writer *w, uint32_t start, uint32_t freq, int bits)
{
    uint64_t r = w->range >> bits;
    w->low += start * r;
    w->range = freq * r;
    carry(w);
    while (w->range < LEAST) {
        put_digit(w);
        w->range <<= 8;
    }
}

pith_status pith_range_write_end(pith_range_writer *w, size_t *len)
{
    uint64_t last = w->low + w->range - 1;
    for (int n = 0; n <= DIGITS; n++) { /* the first number of the interval with n digits, if there is one */
        uint64_t unit = UINT64_C(1) << 8 * (DIGITS - n), x = (w->low + unit - 1) & ~(unit - 1);
        if (x > last) continue;
        w->low = x;
        carry(w);
        for (int i = 0; i < n; i++) put_digit(w);
        break;
    }
    while (w->len && !w->dst[w->len - 1]) w->len--;
    if (w->full) return PITH_E_SPACE;
    *len = w->len;
    return PITH_OK;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static void take_digit(pith_range_reader *r)
{
    r->code = r->code << 8 | (r->at < r->len ? r->src[r->at] : 0);
    r->at++;
}

void pith_range_read_begin(pith_range_reader *r, const uint8_t *src, size_t len)
{
    *r = (pith_range_reader){.src = src, .len = len, .range = TOP};
    for (int i = 0; i < DIGITS; i++) take_digit(r);
}

uint32_t pith_range_read(pith_range_reader *r, int bits)
{
    uint64_t at = r->code / (r->range >> bits), n = UINT64_C(1) << bits;
    if (at < n) return (uint32_t)at;
    r->bad = true;
    r->code = 0;
    return 0;
}

void pith_range_read_done(pith_range_reader *r, uint32_t start, uint32_t freq, int bits)
{
    uint64_t unit = r->range >> bits;
    r->code -= start * unit;
    r->range = freq * unit;
    while (r->range < LEAST) {
        take_digit(r);
        r->range <<= 8;
    }
}

pith_status pith_range_read_end(const pith_range_reader *r)
{
    return r->bad || r->at < r->len ? PITH_E_CORRUPT : PITH_OK;
}

/* ---- tables ----------------------------------------------------------------------------------- */

#define PARTS 16                                  /* partial sums */
/* Places kept back for what rounding adds: the 16 + 4 additions of the sum, the quotient and the product are each within
 * 2^-24 of their result, together less than 24 of 2^24 places. */
#define SLACK 64

void pith_range_frequencies(const float *weight, size_t n, int bits, int32_t *freq)
{
    float part[PARTS] = {0};
    size_t whole = n - n % PARTS;
    for (size_t s = 0; s < whole; s += PARTS)
        for (size_t j = 0; j < PARTS; j++) part[j] += weight[s + j];
    for (size_t s = whole; s < n; s++) part[s - whole] += weight[s];
    for (size_t half = PARTS / 2; half; half /= 2)
        for (size_t j = 0; j < half; j++) part[j] += part[j + half];
    float scale = (float)((1 << bits) - (int32_t)n - SLACK) / part[0];
    int32_t sum = 0;
    for (size_t s = 0; s < n; s++) {
        freq[s] = 1 + (int32_t)(weight[s] * scale);
        sum += freq[s];
    }
    freq[0] += (1 << bits) - sum;
}

uint32_t pith_range_start(const int32_t *freq, size_t s)
{
    int32_t sum = 0;
    for (size_t i = 0; i < s; i++) sum += freq[i];
    return (uint32_t)sum;
}

size_t pith_range_find(const int32_t *freq, uint32_t at, uint32_t *start)
{
    size_t s = 0;
    int32_t rest = (int32_t)at;
    while (rest >= freq[s]) rest -= freq[s++];
    *start = at - (uint32_t)rest;
    return s;
}
