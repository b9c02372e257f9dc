/* The coder in plain C: what every other version of the loops must equal. */
#include "stage/code/rans_kernels.h"

/* ---- reading ---------------------------------------------------------------------------------- */

static inline const uint8_t *refill(uint32_t *x, const uint8_t *src)
{
    uint32_t low = *x < RANS_LOW; /* no branch: it would be taken as often as not */
    *x = *x << 16 * low | (pith_le16(src) & (0u - low));
    return src + 2 * low;
}

static inline uint8_t step_slot(uint32_t *x, const uint32_t *slots)
{
    uint32_t entry = slots[*x & 4095];
    *x = (entry >> 20) * (*x >> RANS_SYMBOL_BITS) + (entry >> 8 & 4095);
    return (uint8_t)entry;
}

static inline uint8_t step_context(uint32_t *x, uint32_t limit0, uint32_t limit1)
{
    uint32_t place = *x & 32767, high = *x >> RANS_CONTEXT_BITS;
    uint32_t is1 = place >= limit0, is2 = place >= limit1;
    uint32_t freq0 = limit0, freq1 = limit1 - limit0, freq2 = 32768 - limit1;
    uint32_t start = (freq0 & (0u - is1)) + (freq1 & (0u - is2)); /* no branches, as in refill */
    uint32_t freq = freq0 + ((freq1 - freq0) & (0u - is1)) + ((freq2 - freq1) & (0u - is2));
    *x = freq * high + place - start;
    return (uint8_t)(is1 + is2);
}

static inline const uint8_t *read_slot_lanes(uint32_t *state, const uint8_t *src, const pith_rans_decoder *d, uint8_t *dst, size_t n)
{
    for (size_t lane = 0; lane < n; lane++) {
        dst[lane] = step_slot(&state[lane], d->slot);
        src = refill(&state[lane], src);
    }
    return src;
}

static inline const uint8_t *read_context_lanes(uint32_t *state, const uint8_t *src, const pith_rans_decoder *d, const uint8_t *contexts,
                                                uint8_t *dst, size_t n)
{
    for (size_t lane = 0; lane < n; lane++) {
        size_t c = contexts[lane] % PITH_RANS_CONTEXTS;
        dst[lane] = step_context(&state[lane], d->limit[0][c], d->limit[1][c]);
        src = refill(&state[lane], src);
    }
    return src;
}

static size_t read_slots(pith_rans_reader *r, const pith_rans_decoder *d, uint8_t *dst, size_t n_groups)
{
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++) src = read_slot_lanes(r->state, src, d, dst + g * PITH_RANS_LANES, PITH_RANS_LANES);
    r->src = src;
    return g;
}

static size_t read_contexts(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n_groups)
{
    const uint8_t *src = r->src;
    size_t g = 0;
    for (; g < n_groups && src <= r->limit; g++)
        src = read_context_lanes(r->state, src, d, contexts + g * PITH_RANS_LANES, dst + g * PITH_RANS_LANES, PITH_RANS_LANES);
    r->src = src;
    return g;
}

void pith_rans_read_lanes(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n)
{
    if (d->kind == PITH_RANS_SYMBOLS) r->src = read_slot_lanes(r->state, r->src, d, dst, n);
    else r->src = read_context_lanes(r->state, r->src, d, contexts, dst, n);
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* Index of an element in the tables; one that no model has sets *bad and becomes index 0. */
static inline size_t element_index(const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t i, bool *bad)
{
    if (!e->has_contexts) return symbols[i];
    bool wrong = symbols[i] > 3 || contexts[i] >= PITH_RANS_CONTEXTS;
    *bad |= wrong;
    return wrong ? 0 : PITH_RANS_INDEX(contexts[i], symbols[i]);
}

/* Lanes n-1..0.  For an element without freq bad is set and what is written is of no use. */
static inline void write_lanes(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t n)
{
    uint8_t *dst = w->dst;
    bool bad = w->bad;
    for (size_t lane = n; lane-- > 0;) {
        size_t index = element_index(e, symbols, contexts, lane, &bad);
        uint32_t freq = e->freq_start[index] & 0xffff, start = e->freq_start[index] >> 16, x = w->state[lane];
        bad |= freq == 0;
        /* no branches on the state: they would be taken as often as not */
        uint32_t full = x >= freq << (32 - e->bits);
        pith_put16(dst - 2, (uint16_t)x);
        dst -= 2 * full;
        x >>= 16 * full;
        uint32_t q = (uint32_t)((uint64_t)(x + (e->shift[index] >> 6)) * e->reciprocal[index] >> (e->shift[index] & 63));
        uint32_t place = start + x - q * freq;
        w->state[lane] = (q << e->bits) + (e->alias ? e->slot[place % 4096] : place);
    }
    w->dst = dst;
    w->bad = bad;
}

void pith_rans_write_lanes(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t n)
{
    write_lanes(w, e, symbols, contexts, n);
}

size_t pith_rans_write_ref(rans_writer *w, const pith_rans_encoder *e, const uint8_t *symbols, const uint8_t *contexts, size_t n_groups)
{
    size_t g = n_groups;
    for (; g > 0 && w->dst - w->base >= RANS_GROUP_BYTES; g--) {
        size_t at = (g - 1) * PITH_RANS_LANES;
        write_lanes(w, e, symbols + at, e->has_contexts ? contexts + at : NULL, PITH_RANS_LANES);
    }
    return n_groups - g;
}

const pith_rans_kernels pith_rans_ref = {
    .read_slots = read_slots, .read_buckets = read_slots, .read_binary = read_contexts, .read_ternary = read_contexts, .write = pith_rans_write_ref};
