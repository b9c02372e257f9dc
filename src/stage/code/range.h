/* A range coder: for symbols of which each has a distribution of its own that the reader works out from what it has read.
 * (Where one distribution serves many symbols, rANS is faster.)
 * G. Martin, "Range encoding", 1979; carries are added to bytes already written, which are all in memory.
 *
 * Distributions are frequencies that sum to 2^bits, bits 1..24.  Everything is integer arithmetic.
 *
 * ---- The stream --------------------------------------------------------------------------------
 * It is a number between 0 and 1 in base 256, highest digit first; zeros after the last digit that is not 0 are not
 * stored.  Symbols narrow an interval [low, low + range), at first [0, 2^56), of numbers whose unit is the 7th digit: with
 * r = range div 2^bits, low += start * r and range = freq * r; while range < 2^48 the unit moves one digit down and range
 * grows by 256.  The stream is a number in the last interval, that which needs the fewest digits. */
#ifndef PITH_RANGE_H
#define PITH_RANGE_H

#include "base/base.h"

#define PITH_RANGE_MAX_BITS 24

/** Bytes that n symbols of `bits` bits can never exceed; SIZE_MAX on overflow. */
size_t pith_range_bound(size_t n, int bits);

typedef struct pith_range_writer {
    uint8_t *dst;
    size_t cap, len;
    uint64_t low, range;
    bool full;                     /* dst was too small */
} pith_range_writer;

void pith_range_write_begin(pith_range_writer *w, uint8_t *dst, size_t cap);
/** A symbol that owns start..start+freq-1 of 0..2^bits-1; freq is 1 or more. */
void pith_range_write(pith_range_writer *w, uint32_t start, uint32_t freq, int bits);
/** The stream is dst[len].  @return PITH_E_SPACE */
pith_status pith_range_write_end(pith_range_writer *w, size_t *len);

typedef struct pith_range_reader {
    const uint8_t *src;
    size_t len, at;
    uint64_t code, range;          /* code: how far the stream's number lies above low */
    bool bad;                      /* a number outside of the interval: no writer makes it */
} pith_range_reader;

/** src [len] is borrowed. */
void pith_range_read_begin(pith_range_reader *r, const uint8_t *src, size_t len);
/** Where in 0..2^bits-1 the next symbol lies; whose it is, the caller says by pith_range_read_done. */
uint32_t pith_range_read(pith_range_reader *r, int bits);
/** start <= what pith_range_read said < start + freq, with the same bits. */
void pith_range_read_done(pith_range_reader *r, uint32_t start, uint32_t freq, int bits);
/** After the last symbol: whether all bytes were used.  A cut stream reads as if it ended in zeros, and most changed bits
 *  give other symbols and nothing else, so that a container adds a checksum.  @return PITH_E_CORRUPT */
pith_status pith_range_read_end(const pith_range_reader *r);

/* ---- tables ----------------------------------------------------------------------------------- */

#define PITH_RANGE_MAX_SYMBOLS 256

/** Weights [n], n up to 256, finite, not negative and not all 0, as whole frequencies of 1 or more that sum to 2^bits, bits 16..24;
 *  what rounding leaves is given to symbol 0.  The same on every machine: f32 operations of IEEE 754 in a fixed order. */
void pith_range_frequencies(const float *weight, size_t n, int bits, int32_t *freq);
/** The sum of the frequencies before symbol s. */
uint32_t pith_range_start(const int32_t *freq, size_t s);
/** The symbol that owns place `at`, less than their sum; *start: its first place. */
size_t pith_range_find(const int32_t *freq, uint32_t at, uint32_t *start);

#endif
