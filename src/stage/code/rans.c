/* Models, tables and streams of the entropy coder; the loops are in rans_<instruction set>.c. */
#include <math.h>

#include "stage/code/rans_kernels.h"

#define SYMBOL_SUM (1u << RANS_SYMBOL_BITS)
#define CONTEXT_SUM (1u << RANS_CONTEXT_BITS)
#define N_BUCKETS 16
#define BUCKET_SLOTS (SYMBOL_SUM / N_BUCKETS)
#define NO_CONTEXT_CODE 128

/* ---- logarithms -------------------------------------------------------------------------------- */

/* log2(v) * 2^26 for v >= 1, by repeated squaring: integers, so that plans are the same everywhere. */
static uint32_t log2_q26(uint32_t v)
{
    uint32_t whole = 31 - (uint32_t)__builtin_clz(v), log = whole;
    uint64_t m = (uint64_t)v << (31 - whole); /* in [1, 2), 31 fractional bits */
    for (int i = 0; i < 26; i++) {
        m = m * m >> 31;
        log = log << 1 | (uint32_t)(m >> 32);
        m >>= m >> 32;
    }
    return log;
}

#define MAX_COUNT (UINT64_C(1) << 55)

/* Counts below 2 * MAX_COUNT as 30-bit numbers in proportion; what was counted stays at least 1.
 * @return their sum */
static uint64_t scale_counts(const uint64_t *counts, size_t n, uint32_t *scaled)
{
    uint64_t total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) total += counts[i];
    int shift = 0;
    while (total >> shift >= UINT64_C(1) << 30) shift++;
    for (size_t i = 0; i < n; i++) {
        scaled[i] = (uint32_t)(counts[i] >> shift);
        if (counts[i] > 0 && scaled[i] == 0) scaled[i] = 1;
        sum += scaled[i];
    }
    return sum;
}

/* ---- fitting ----------------------------------------------------------------------------------- */

/* The frequencies that minimise sum of count * -log2(freq): the cost is convex in each freq, so moving one
 * unit at a time until no move gains is optimal. */
static pith_status fit_symbols(const uint64_t counts[256], uint16_t freq[256])
{
    uint32_t c[256];
    uint64_t gain[256], loss[256]; /* of one unit more; of one unit less */
    uint64_t total = scale_counts(counts, 256, c);
    if (total == 0) return PITH_E_ARGUMENT;
    uint32_t sum = 0;
    memset(freq, 0, 256 * sizeof *freq);
    for (int s = 0; s < 256; s++) {
        if (c[s] == 0) continue;
        uint32_t f = (uint32_t)(((uint64_t)c[s] * SYMBOL_SUM + total / 2) / total);
        freq[s] = (uint16_t)(f ? f : 1);
        sum += freq[s];
    }
#define PRICE(s)                                                                                              \
    do {                                                                                                      \
        uint32_t f_ = freq[s], log_ = log2_q26(f_);                                                           \
        gain[s] = (uint64_t)c[s] * (log2_q26(f_ + 1) - log_);                                                 \
        loss[s] = f_ > 1 ? (uint64_t)c[s] * (log_ - log2_q26(f_ - 1)) : UINT64_MAX;                           \
    } while (0)
    for (int s = 0; s < 256; s++)
        if (freq[s]) PRICE(s);
    for (;;) {
        int most = -1, least = -1;
        for (int s = 0; s < 256; s++) {
            if (!freq[s]) continue;
            if (most < 0 || gain[s] > gain[most]) most = s;
            if (least < 0 || loss[s] < loss[least]) least = s;
        }
        bool more = sum <= SYMBOL_SUM, less = sum >= SYMBOL_SUM;
        if (more && less && gain[most] <= loss[least]) return PITH_OK;
        if (more) {
            freq[most]++, sum++;
            PRICE(most);
        }
        if (less) {
            freq[least]--, sum--;
            PRICE(least);
        }
    }
#undef PRICE
}

/* P(c) of the header */
static uint32_t code_probability(uint32_t code)
{
    return code <= 128 ? code * code : CONTEXT_SUM - (256 - code) * (256 - code);
}

/* The code under which n0 and n1 elements cost least: the cost falls and then rises with the code. */
static uint8_t fit_code(uint64_t n0, uint64_t n1)
{
    if (n0 + n1 == 0) return NO_CONTEXT_CODE;
    uint64_t counts[2] = {n0, n1};
    uint32_t c[2];
    scale_counts(counts, 2, c);
    uint32_t low = 1, high = 255;
    while (low < high) {
        uint32_t mid = (low + high) / 2, p = code_probability(mid), p_next = code_probability(mid + 1);
        uint64_t gain = (uint64_t)c[0] * (log2_q26(p_next) - log2_q26(p));
        uint64_t loss = (uint64_t)c[1] * (log2_q26(CONTEXT_SUM - p) - log2_q26(CONTEXT_SUM - p_next));
        if (gain > loss) low = mid + 1;
        else high = mid;
    }
    return (uint8_t)low;
}

static void freqs_from_codes(pith_rans_model *model)
{
    memset(model->freq, 0, sizeof model->freq);
    for (int c = 0; c < PITH_RANS_CONTEXTS; c++) {
        uint16_t *freq = &model->freq[PITH_RANS_INDEX(c, 0)];
        uint32_t f0 = code_probability(model->code[c][0]);
        if (model->kind == PITH_RANS_TERNARY) {
            f0 = PITH_MIN(f0, CONTEXT_SUM - 2);
            uint32_t rest = CONTEXT_SUM - f0, f1 = rest * code_probability(model->code[c][1]) / CONTEXT_SUM;
            f1 = PITH_MAX(f1, 1); /* and less than rest, P being at most 32767 */
            freq[1] = (uint16_t)f1;
            freq[2] = (uint16_t)(rest - f1);
        } else {
            freq[1] = (uint16_t)(CONTEXT_SUM - f0);
        }
        freq[0] = (uint16_t)f0;
    }
}

static int kind_symbols(pith_rans_kind kind) { return kind == PITH_RANS_TERNARY ? 3 : 2; }

pith_status pith_rans_model_fit(pith_rans_kind kind, int n_contexts, const uint64_t counts[256], pith_rans_model *model)
{
    for (int i = 0; i < 256; i++)
        if (counts[i] >= MAX_COUNT) return PITH_E_ARGUMENT;
    if (kind == PITH_RANS_SYMBOLS) {
        pith_rans_model fitted = {.kind = kind, .n_contexts = 1};
        PITH_TRY(fit_symbols(counts, fitted.freq));
        *model = fitted;
        return PITH_OK;
    }
    if ((kind != PITH_RANS_BINARY && kind != PITH_RANS_TERNARY) || n_contexts < 1 || n_contexts > PITH_RANS_CONTEXTS) return PITH_E_ARGUMENT;
    for (int i = 0; i < 256; i++)
        if (counts[i] > 0 && (i / 4 >= n_contexts || i % 4 >= kind_symbols(kind))) return PITH_E_ARGUMENT;
    *model = (pith_rans_model){.kind = kind, .n_contexts = n_contexts};
    memset(model->code, NO_CONTEXT_CODE, sizeof model->code);
    for (int c = 0; c < n_contexts; c++) {
        const uint64_t *n = &counts[PITH_RANS_INDEX(c, 0)];
        model->code[c][0] = fit_code(n[0], n[1] + n[2]);
        if (kind == PITH_RANS_TERNARY) model->code[c][1] = fit_code(n[1], n[2]);
    }
    freqs_from_codes(model);
    return PITH_OK;
}

pith_status pith_rans_model_from_freqs(const uint16_t freq[256], pith_rans_model *model)
{
    uint32_t sum = 0;
    for (int s = 0; s < 256; s++) sum += freq[s];
    if (sum != SYMBOL_SUM) return PITH_E_ARGUMENT;
    *model = (pith_rans_model){.kind = PITH_RANS_SYMBOLS, .n_contexts = 1};
    memcpy(model->freq, freq, sizeof model->freq);
    return PITH_OK;
}

void pith_rans_count(const uint8_t *symbols, const uint8_t *contexts, size_t n, uint64_t counts[256])
{
    /* four histograms, so that runs of one symbol do not wait for their own sums */
    uint64_t part[4][256] = {{0}};
    for (size_t i = 0; i < n; i++) {
        size_t index = contexts ? PITH_RANS_INDEX(contexts[i] % PITH_RANS_CONTEXTS, symbols[i] % 4) : symbols[i];
        part[i % 4][index]++;
    }
    for (int i = 0; i < 256; i++) counts[i] += part[0][i] + part[1][i] + part[2][i] + part[3][i];
}

double pith_rans_model_bits(const pith_rans_model *model, const uint64_t counts[256])
{
    uint32_t k = model->kind == PITH_RANS_SYMBOLS ? RANS_SYMBOL_BITS : RANS_CONTEXT_BITS;
    double bits = 0;
    for (int i = 0; i < 256; i++) {
        if (counts[i] == 0) continue;
        if (model->freq[i] == 0) return INFINITY;
        bits += (double)counts[i] * (double)((k << 26) - log2_q26(model->freq[i]));
    }
    return bits / (1 << 26);
}

/* ---- models in bytes --------------------------------------------------------------------------- */

typedef struct bit_io {
    uint8_t *dst;           /* writing */
    const uint8_t *src;     /* reading */
    size_t n_bits, cap;     /* done; room or available, in bits */
    bool over;              /* past the cap */
} bit_io;

static void put_bits(bit_io *io, uint32_t value, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, io->n_bits++) {
        if (io->n_bits >= io->cap) {
            io->over = true;
            return;
        }
        if (io->n_bits % 8 == 0) io->dst[io->n_bits / 8] = 0;
        io->dst[io->n_bits / 8] |= (uint8_t)((value >> i & 1) << io->n_bits % 8);
    }
}

static uint32_t get_bits(bit_io *io, uint32_t n)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < n; i++, io->n_bits++) {
        if (io->n_bits >= io->cap) {
            io->over = true;
            return 0;
        }
        value |= (uint32_t)(io->src[io->n_bits / 8] >> io->n_bits % 8 & 1) << i;
    }
    return value;
}

static void symbol_range(const uint16_t freq[256], int *first, int *last)
{
    *first = 0, *last = 255;
    while (freq[*first] == 0) ++*first;
    while (freq[*last] == 0) --*last;
}

pith_status pith_rans_model_write(const pith_rans_model *model, uint8_t *dst, size_t cap, size_t *len)
{
    bit_io io = {.dst = dst, .cap = PITH_MIN(cap, (size_t)PITH_RANS_MODEL_BYTES) * 8};
    put_bits(&io, (uint32_t)model->kind, 8);
    if (model->kind == PITH_RANS_SYMBOLS) {
        int first, last;
        symbol_range(model->freq, &first, &last);
        put_bits(&io, (uint32_t)first, 8);
        put_bits(&io, (uint32_t)last, 8);
        for (int s = first; s < last; s++) {
            uint32_t f = model->freq[s];
            if (f) {
                uint32_t n = 32 - (uint32_t)__builtin_clz(f);
                put_bits(&io, n, 4);
                put_bits(&io, f, n - 1);
            } else {
                int end = s + 1;
                while (model->freq[end] == 0 && end - s < 16) end++;
                put_bits(&io, 0, 4);
                put_bits(&io, (uint32_t)(end - s - 1), 4);
                s = end - 1;
            }
        }
    } else {
        put_bits(&io, (uint32_t)model->n_contexts - 1, 8);
        for (int c = 0; c < model->n_contexts; c++) {
            put_bits(&io, model->code[c][0], 8);
            if (model->kind == PITH_RANS_TERNARY) put_bits(&io, model->code[c][1], 8);
        }
    }
    if (io.over) return PITH_E_SPACE;
    *len = PITH_CEIL_DIV(io.n_bits, 8);
    return PITH_OK;
}

static bool read_symbols(bit_io *io, uint16_t freq[256])
{
    uint32_t first = get_bits(io, 8), last = get_bits(io, 8), left = SYMBOL_SUM;
    if (first > last) return false;
    int zeros = -1; /* where the run of zeros before this symbol began, for the one way to write runs */
    for (uint32_t s = first; s < last && !io->over; s++) {
        uint32_t n = get_bits(io, 4);
        if (n > RANS_SYMBOL_BITS) return false;
        if (n) {
            uint32_t f = 1u << (n - 1) | get_bits(io, n - 1);
            if (f >= left) return false;
            freq[s] = (uint16_t)f;
            left -= f;
            zeros = -1;
        } else {
            uint32_t end = s + 1 + get_bits(io, 4);
            if (s == first || end > last) return false;
            if (zeros >= 0 && (s - (uint32_t)zeros) % 16 != 0) return false; /* a run was not filled */
            if (zeros < 0) zeros = (int)s;
            s = end - 1;
        }
    }
    freq[last] = (uint16_t)left;
    while (io->n_bits % 8 != 0)
        if (get_bits(io, 1) != 0) return false;
    return !io->over;
}

static bool read_codes(bit_io *io, pith_rans_model *model)
{
    uint32_t n = get_bits(io, 8) + 1;
    if (n > PITH_RANS_CONTEXTS) return false;
    model->n_contexts = (int)n;
    memset(model->code, NO_CONTEXT_CODE, sizeof model->code);
    for (uint32_t c = 0; c < n; c++) {
        for (int i = 0; i < kind_symbols(model->kind) - 1; i++)
            if ((model->code[c][i] = (uint8_t)get_bits(io, 8)) == 0) return false;
    }
    return !io->over;
}

pith_status pith_rans_model_read(const uint8_t *src, size_t len, pith_rans_model *model, size_t *used)
{
    bit_io io = {.src = src, .cap = PITH_MIN(len, (size_t)PITH_RANS_MODEL_BYTES) * 8};
    uint32_t kind = get_bits(&io, 8);
    if (io.over || kind > PITH_RANS_TERNARY) return PITH_E_CORRUPT;
    pith_rans_model m = {.kind = (pith_rans_kind)kind, .n_contexts = 1};
    if (kind == PITH_RANS_SYMBOLS) {
        if (!read_symbols(&io, m.freq)) return PITH_E_CORRUPT;
    } else {
        if (!read_codes(&io, &m)) return PITH_E_CORRUPT;
        freqs_from_codes(&m);
    }
    *model = m;
    *used = io.n_bits / 8;
    return PITH_OK;
}

/* ---- tables ------------------------------------------------------------------------------------ */

static int single_symbol(const pith_rans_model *model)
{
    if (model->kind != PITH_RANS_SYMBOLS) return -1;
    int first, last;
    symbol_range(model->freq, &first, &last);
    return first == last ? first : -1;
}

static bool uses_alias(const pith_rans_model *model)
{
    if (model->kind != PITH_RANS_SYMBOLS) return false;
    int first, last;
    symbol_range(model->freq, &first, &last);
    return last < N_BUCKETS && first < last;
}

/* own, other and base of the header */
typedef struct alias_table {
    uint32_t own[N_BUCKETS], other[N_BUCKETS], base[N_BUCKETS];
} alias_table;

static void alias_build(const uint16_t *freq, alias_table *a)
{
    uint32_t rest[N_BUCKETS], next[N_BUCKETS];
    for (int s = 0; s < N_BUCKETS; s++) rest[s] = freq[s];
    uint32_t left = (1u << N_BUCKETS) - 1; /* symbols not done */
    while (left) {
        int lo = -1, hi = -1;
        for (int s = 0; s < N_BUCKETS; s++) {
            if (!(left >> s & 1)) continue;
            if (lo < 0 || rest[s] < rest[lo]) lo = s;
            if (hi < 0 || rest[s] > rest[hi]) hi = s;
        }
        a->own[lo] = rest[lo];
        a->other[lo] = (uint32_t)hi;
        rest[hi] -= BUCKET_SLOTS - rest[lo];
        left &= ~(1u << lo);
    }
    memcpy(next, a->own, sizeof next);
    for (int b = 0; b < N_BUCKETS; b++) {
        a->base[b] = next[a->other[b]];
        next[a->other[b]] += BUCKET_SLOTS - a->own[b];
    }
}

void pith_rans_encoder_init(pith_rans_encoder *e, const pith_rans_model *model)
{
    memset(e, 0, sizeof *e);
    e->has_contexts = model->kind != PITH_RANS_SYMBOLS;
    e->bits = e->has_contexts ? RANS_CONTEXT_BITS : RANS_SYMBOL_BITS;
    e->single = single_symbol(model);
    e->alias = uses_alias(model);
    uint32_t start = 0;
    for (int i = 0; i < 256; i++) {
        uint32_t f = model->freq[i];
        if (e->has_contexts && i % 4 == 0) start = 0;
        if (f == 0) continue;
        e->freq_start[i] = f | start << 16;
        start += f;
        /* Exact x / f for x < f * 2^(32 - bits) by a product with m = 2^S / f, S = 32 + floor(log2 f), m < 2^32.
         * m rounded up, error e = m*f - 2^S: right when x*e < 2^S.  m rounded down, taken times x + 1, error
         * e = 2^S - m*f: right when (x + 1)*e <= 2^S.  One of the two e is at most f/2, and then
         * (x + 1)*e <= f^2 * 2^(31-bits) < 2^S because f < 2^bits.  (A. Robison, ARITH-17, 2005.) */
        uint32_t s = 31 - (uint32_t)__builtin_clz(f) + 1;
        if ((f & (f - 1)) == 0) s--; /* a power of two: 2^31 exactly */
        uint64_t one = UINT64_C(1) << (31 + s), down = one / f, error_down = one % f;
        bool up = error_down == 0 || f - error_down < error_down;
        e->reciprocal[i] = (uint32_t)(down + (up && error_down != 0));
        e->shift[i] = (31 + s) | (up ? 0u : 64u);
    }
    if (!e->alias) return;
    alias_table a;
    alias_build(model->freq, &a);
    for (uint32_t slot = 0; slot < SYMBOL_SUM; slot++) {
        uint32_t b = slot % N_BUCKETS, o = slot / N_BUCKETS;
        uint32_t s = o < a.own[b] ? b : a.other[b], rank = o < a.own[b] ? o : a.base[b] + o - a.own[b];
        e->slot[(e->freq_start[s] >> 16) + rank] = (uint16_t)slot;
    }
}

void pith_rans_decoder_init(pith_rans_decoder *d, const pith_rans_model *model)
{
    d->kind = model->kind;
    d->single = single_symbol(model);
    d->alias = uses_alias(model);
    if (model->kind != PITH_RANS_SYMBOLS) {
        for (int c = 0; c < PITH_RANS_CONTEXTS; c++) {
            const uint16_t *freq = &model->freq[PITH_RANS_INDEX(c, 0)];
            d->limit[0][c] = freq[0];
            d->limit[1][c] = (uint16_t)(freq[0] + freq[1]);
        }
        return;
    }
    if (d->single >= 0) return;
    if (d->alias) {
        alias_table a;
        alias_build(model->freq, &a);
        for (uint32_t b = 0; b < N_BUCKETS; b++) {
            uint32_t s = a.other[b];
            d->bucket[0][b] = a.own[b] * N_BUCKETS | b; /* slots of bucket b from here on belong to s */
            d->bucket[1][b] = (uint32_t)model->freq[b] << 4 | b;
            d->bucket[2][b] = (a.base[b] - a.own[b]) << 16 | (uint32_t)model->freq[s] << 4 | s;
        }
        for (uint32_t slot = 0; slot < SYMBOL_SUM; slot++) {
            uint32_t b = slot % N_BUCKETS, o = slot / N_BUCKETS;
            uint32_t s = o < a.own[b] ? b : a.other[b], rank = o < a.own[b] ? o : a.base[b] + o - a.own[b];
            d->slot[slot] = (uint32_t)model->freq[s] << 20 | rank << 8 | s;
        }
        return;
    }
    uint32_t *slot = d->slot;
    for (uint32_t s = 0; s < 256; s++) {
        uint32_t f = model->freq[s], entry = f << 20 | s;
        for (uint32_t rank = 0; rank < f; rank++) slot[rank] = entry | rank << 8;
        slot += f;
    }
}

/* ---- streams ----------------------------------------------------------------------------------- */

static const pith_rans_kernels *kernels_for(pith_isa isa)
{
#if defined(__x86_64__)
    if (isa == PITH_ISA_AVX512) return &pith_rans_avx512;
    if (isa == PITH_ISA_AVX2) return &pith_rans_avx2;
#endif
    (void)isa;
    return &pith_rans_ref;
}

size_t pith_rans_bound(size_t n)
{
    size_t bytes; /* an element never takes more than one word */
    return pith_mul(n, 2, &bytes) && pith_add(bytes, PITH_RANS_STATE_BYTES, &bytes) ? bytes : SIZE_MAX;
}

static pith_status write_segment(const pith_rans_kernels *k, rans_writer *w, const pith_rans_segment *s)
{
    const pith_rans_encoder *e = s->encoder;
    if (e->single >= 0) {
        for (size_t i = 0; i < s->n; i++)
            if (s->symbols[i] != e->single) return PITH_E_ARGUMENT;
        return PITH_OK;
    }
    size_t left = s->n;
    while (left > 0) {
        size_t n = left % PITH_RANS_LANES;
        if (n == 0) {
            left -= PITH_RANS_LANES * k->write(w, e, s->symbols, s->contexts, left / PITH_RANS_LANES);
            if (left == 0) break;
            n = PITH_RANS_LANES;
        }
        /* Part of a group, or little room: write aside, then see whether it fits. */
        uint8_t aside[RANS_GROUP_BYTES], *dst = w->dst;
        w->dst = aside + sizeof aside;
        left -= n;
        pith_rans_write_lanes(w, e, s->symbols + left, e->has_contexts ? s->contexts + left : NULL, n);
        size_t len = (size_t)(aside + sizeof aside - w->dst);
        if (len > (size_t)(dst - w->base)) return PITH_E_SPACE;
        memcpy(dst - len, w->dst, len);
        w->dst = dst - len;
    }
    return w->bad ? PITH_E_ARGUMENT : PITH_OK;
}

pith_status pith_rans_encode(pith_isa isa, const pith_rans_segment *segments, size_t n_segments, uint8_t *dst, size_t cap, size_t *len)
{
    const pith_rans_kernels *k = kernels_for(isa);
    rans_writer w = {.bad = false};
    for (int lane = 0; lane < PITH_RANS_LANES; lane++) w.state[lane] = RANS_LOW;
    /* Words fill the space from its end; room for the states stays in front when there is any. */
    size_t front = PITH_MIN(cap, (size_t)PITH_RANS_STATE_BYTES);
    w.base = dst + front;
    w.dst = dst + cap;
    for (size_t i = n_segments; i-- > 0;) PITH_TRY(write_segment(k, &w, &segments[i]));

    size_t n_words_bytes = (size_t)(dst + cap - w.dst);
    bool initial = n_words_bytes == 0;
    for (int lane = 0; lane < PITH_RANS_LANES; lane++) initial &= w.state[lane] == RANS_LOW;
    if (initial) {
        *len = 0;
        return PITH_OK;
    }
    if (front < PITH_RANS_STATE_BYTES) return PITH_E_SPACE;
    for (int lane = 0; lane < PITH_RANS_LANES; lane++) pith_put32(dst + 4 * lane, w.state[lane]);
    memmove(dst + front, w.dst, n_words_bytes);
    *len = front + n_words_bytes;
    return PITH_OK;
}

/* Go on from a padded copy of the last words: a group may then read past them, but not past the copy. */
static void enter_tail(pith_rans_reader *r)
{
    size_t left = (size_t)(r->end - r->src);
    memset(r->tail, 0, sizeof r->tail);
    memcpy(r->tail, r->src, left);
    r->src = r->tail;
    r->end = r->limit = r->tail + left;
    r->in_tail = true;
}

pith_status pith_rans_read_begin(pith_rans_reader *r, pith_isa isa, const uint8_t *src, size_t len)
{
    r->isa = isa;
    r->in_tail = false;
    memset(r->tail, 0, sizeof r->tail);
    if (len == 0) {
        for (int lane = 0; lane < PITH_RANS_LANES; lane++) r->state[lane] = RANS_LOW;
        r->src = r->end = r->limit = r->tail;
        r->in_tail = true;
        return PITH_OK;
    }
    if (len < PITH_RANS_STATE_BYTES || len % 2 != 0) return PITH_E_CORRUPT;
    for (int lane = 0; lane < PITH_RANS_LANES; lane++) {
        r->state[lane] = pith_le32(src + 4 * lane);
        if (r->state[lane] < RANS_LOW) return PITH_E_CORRUPT;
    }
    r->src = src + PITH_RANS_STATE_BYTES;
    r->end = src + len;
    if (r->end - r->src < RANS_GROUP_BYTES) enter_tail(r);
    else r->limit = r->end - RANS_GROUP_BYTES;
    return PITH_OK;
}

pith_status pith_rans_read(pith_rans_reader *r, const pith_rans_decoder *d, const uint8_t *contexts, uint8_t *dst, size_t n)
{
    if (d->single >= 0) {
        if (n > 0) memset(dst, d->single, n);
        return PITH_OK;
    }
    const pith_rans_kernels *k = kernels_for(r->isa);
    size_t n_groups = n / PITH_RANS_LANES, done = 0;
    for (;;) {
        uint8_t *to = dst + done * PITH_RANS_LANES;
        const uint8_t *from = d->kind == PITH_RANS_SYMBOLS ? NULL : contexts + done * PITH_RANS_LANES;
        if (d->kind == PITH_RANS_BINARY) done += k->read_binary(r, d, from, to, n_groups - done);
        else if (d->kind == PITH_RANS_TERNARY) done += k->read_ternary(r, d, from, to, n_groups - done);
        else if (d->alias) done += k->read_buckets(r, d, to, n_groups - done);
        else done += k->read_slots(r, d, to, n_groups - done);
        if (done == n_groups && (n % PITH_RANS_LANES == 0 || r->src <= r->limit)) break;
        if (r->in_tail) return PITH_E_CORRUPT;
        enter_tail(r);
    }
    size_t at = done * PITH_RANS_LANES;
    if (n > at) pith_rans_read_lanes(r, d, d->kind == PITH_RANS_SYMBOLS ? NULL : contexts + at, dst + at, n - at);
    return PITH_OK;
}

pith_status pith_rans_read_end(const pith_rans_reader *r)
{
    if (r->src != r->end) return PITH_E_CORRUPT;
    for (int lane = 0; lane < PITH_RANS_LANES; lane++)
        if (r->state[lane] != RANS_LOW) return PITH_E_CORRUPT;
    return PITH_OK;
}
