/* An interleaved entropy coder: range asymmetric numeral systems (rANS) over 32 lanes.
 * J. Duda, arXiv:1311.2540; interleaved states and one stream of words: F. Giesen, arXiv:1402.3392;
 * slots by the alias method: M. Vose, IEEE Trans. Softw. Eng. 17(9), 1991.
 *
 * A stream holds segments in order.  A segment has n elements and one model, which is either
 *   SYMBOLS   bytes 0..255 with one static distribution, or
 *   BINARY    bytes 0..1, TERNARY bytes 0..2: the distribution of element i is chosen by a context
 *             0..63 that the reader knows from what it has read before.
 * A model may serve many segments.  Where segments begin and which models they use is not in the
 * stream: whoever stores it says so elsewhere.
 *
 * Everything is integer arithmetic; every instruction set makes and reads the same bytes.
 *
 * ---- The stream --------------------------------------------------------------------------------
 * All numbers are little-endian.  M = 2^k with k = 12 for SYMBOLS and k = 15 for the others.
 *
 *   u32 state[32]      each >= 2^16
 *   u16 words[]        to the end of the stream
 *
 * or nothing at all (0 bytes), which stands for 32 states of 2^16 and no words, and is what a writer
 * makes of them.  Element i of a segment is read by lane i mod 32; every segment begins at lane 0
 * again.  To read an element with state x of its lane:
 *
 *   slot = x mod M;  find the symbol s and its rank r from the slot (below);
 *   x = freq[s] * (x div M) + r;  if x < 2^16:  x = x * 2^16 + next word.
 *
 * Lanes take words in element order.  After the last element every state is 2^16 and no word is
 * left; anything else is damage, and most damage ends so.  Segments of a model with one symbol only
 * (freq = 4096) read nothing and change nothing.  The writer does the reverse from the last element to the first, from states of 2^16:
 *
 *   if x >= freq[s] * 2^(32 - k):  put x mod 2^16 before the words put so far, x = x div 2^16;
 *   x = (x div freq[s]) * M + slot of symbol s and rank (x mod freq[s]).
 *
 * ---- From slots to symbols ---------------------------------------------------------------------
 * BINARY, TERNARY and SYMBOLS with a symbol above 15: symbols own consecutive slots in order;
 *   r = slot - start[s], start[s] = sum of freq[t], t < s.
 * SYMBOLS with no symbol above 15: 16 buckets of 256 slots, at most two symbols in each, so that
 *   one comparison finds the symbol.  bucket b = slot mod 16, place o = slot div 16.  With rest[s] =
 *   freq[s] for all 16 symbols, do 16 times: let lo be the symbol of least rest and hi that of
 *   greatest rest among those not yet done as lo, the lower symbol on equality (16th time: the same);
 *   own[lo] = rest[lo], other[lo] = hi, rest[hi] -= 256 - own[lo].  (Always rest[lo] <= 256.)
 *   Place o of bucket b belongs to symbol b with rank o if o < own[b], else to s = other[b] with
 *   rank base[b] + o - own[b], where base[b] = own[s] + sum over buckets c < b with other[c] = s of
 *   (256 - own[c]).
 *
 * ---- A model in bytes --------------------------------------------------------------------------
 *   u8 kind: 0 SYMBOLS, 1 BINARY, 2 TERNARY
 * SYMBOLS: u8 first, u8 last (the lowest and highest symbol with freq > 0), then, when first < last, bits,
 *   lowest bit of a byte first, zero bits up to a whole byte.  For the symbols first..last-1 in turn:
 *     4 bits L: 1..12: freq = 2^(L-1) + the next L-1 bits;
 *               0: 4 more bits z: this and the next z symbols have freq 0 (z as large as can be).
 *   freq[last] is what is missing from 4096.
 * BINARY: u8 n - 1 (n contexts, 1..64), then a code c (1..255) for each:
 *     P(c) = c^2 for c <= 128, 32768 - (256 - c)^2 above;  freq[0] = P(c), freq[1] = 32768 - freq[0].
 *     (Steps that fit the information a probability carries: at most 4.5e-5 bits are lost an element.)
 * TERNARY: u8 n - 1, then codes c0, c1 for each context:
 *     freq[0] = min(P(c0), 32766); t = 32768 - freq[0];
 *     freq[1] = t * P(c1) div 32768, but at least 1; freq[2] = t - freq[1].
 * Contexts n..63 have codes 128. */
#ifndef PITH_RANS_H
#define PITH_RANS_H

#include "base/base.h"

#define PITH_RANS_LANES 32
#define PITH_RANS_CONTEXTS 64      /* at most */
#define PITH_RANS_STATE_BYTES 128  /* of a stream; a state carries 0 to 16 bits of its 32, so about 96 are overhead */
#define PITH_RANS_MODEL_BYTES 512  /* pith_rans_model_write never needs more */

typedef enum pith_rans_kind { PITH_RANS_SYMBOLS, PITH_RANS_BINARY, PITH_RANS_TERNARY } pith_rans_kind; /* numbers are in files */

/* Distributions.  Rows of freq and of counts are indexed by PITH_RANS_INDEX. */
typedef struct pith_rans_model {
    pith_rans_kind kind;
    int n_contexts;                          /* 1..64; 1 for SYMBOLS */
    uint8_t code[PITH_RANS_CONTEXTS][2];     /* of BINARY and TERNARY */
    uint16_t freq[256];                      /* sums to 4096, or to 32768 in each context */
} pith_rans_model;
#define PITH_RANS_INDEX(context, symbol) ((context) * 4 + (symbol)) /* BINARY, TERNARY; SYMBOLS: the symbol */

/** Add a histogram of elements to counts[256], indexed as freq is.  contexts NULL: SYMBOLS.  Out of
 *  range contexts (> 63) and symbols (> 3) with contexts are counted modulo 64 and 4. */
void pith_rans_count(const uint8_t *symbols, const uint8_t *contexts, size_t n, uint64_t counts[256]);

/** The model that codes these counts in the fewest bits.  n_contexts is ignored for SYMBOLS.
 *  Every symbol counted gets freq >= 1; contexts without counts get codes 128.
 *  @return PITH_E_ARGUMENT: no counts (SYMBOLS), n_contexts not in 1..64, a count of 2^55 or more, or
 *  counts of symbols or contexts the kind does not have.  thread: pure. */
pith_status pith_rans_model_fit(pith_rans_kind kind, int n_contexts, const uint64_t counts[256], pith_rans_model *model);

/** A SYMBOLS model from given frequencies.  @return PITH_E_ARGUMENT if they do not sum to 4096. */
pith_status pith_rans_model_from_freqs(const uint16_t freq[256], pith_rans_model *model);

/** Bytes of a model, into dst[cap]; *len written.  @return PITH_E_SPACE. */
pith_status pith_rans_model_write(const pith_rans_model *model, uint8_t *dst, size_t cap, size_t *len);
/** Read a model from src[len]; *used bytes of it.  Whatever it returns PITH_OK for is a valid model, and
 *  pith_rans_model_write makes the same bytes of it.  @return PITH_E_CORRUPT. */
pith_status pith_rans_model_read(const uint8_t *src, size_t len, pith_rans_model *model, size_t *used);

/** Bits that elements with these counts take under the model (the stream's size is the sum over segments plus
 *  64 to 128 bytes): INFINITY when something counted has freq 0.  The same value on every machine. */
double pith_rans_model_bits(const pith_rans_model *model, const uint64_t counts[256]);

/* ---- writing ---------------------------------------------------------------------------------- */

/* Tables to write with a model.  Built in at most 6 us; 12 KB. */
typedef struct pith_rans_encoder {
    uint8_t bits;                            /* k */
    bool has_contexts, alias;
    int single;                              /* the only symbol, or -1 */
    uint32_t freq_start[256];                /* freq | start << 16; freq 0: cannot be written */
    uint32_t reciprocal[256], shift[256];    /* x / freq = (x + (shift >> 6)) * reciprocal >> (shift & 63) */
    uint16_t slot[4096 + 1];                 /* alias: slot of start + rank; one more, for 32-bit loads */
} pith_rans_encoder;
void pith_rans_encoder_init(pith_rans_encoder *encoder, const pith_rans_model *model);

typedef struct pith_rans_segment {
    const pith_rans_encoder *encoder;
    const uint8_t *symbols;                  /* [n] */
    const uint8_t *contexts;                 /* [n]; not read for SYMBOLS */
    size_t n;
} pith_rans_segment;

/** Bytes that n elements can never exceed; SIZE_MAX on overflow. */
size_t pith_rans_bound(size_t n);

/** Write a stream.
 *  segments  [n_segments] in the order of reading
 *  dst       caller's, cap bytes; cap >= pith_rans_bound(all elements) never fails on space
 *  len       bytes written; untouched on error, dst then undefined
 *  @return PITH_E_SPACE, PITH_E_ARGUMENT (an element that its model gives no freq)
 *  thread: pure; the bytes do not depend on isa (one that this build or processor does not have: a crash;
 *  take it from pith_ctx_cpu). */
pith_status pith_rans_encode(pith_isa isa, const pith_rans_segment *segments, size_t n_segments, uint8_t *dst, size_t cap, size_t *len);

/* ---- reading ---------------------------------------------------------------------------------- */

/* Tables to read with a model.  Built in at most 5 us; 17 KB. */
typedef struct pith_rans_decoder {
    pith_rans_kind kind;
    bool alias;
    int single;
    uint16_t limit[2][PITH_RANS_CONTEXTS];   /* contexts: symbol 0 below limit[0], symbol 1 below limit[1] */
    uint32_t bucket[3][16];                  /* alias: comparison with the slot; entries rank << 16 | freq << 4 | symbol */
    uint32_t slot[4096];                     /* SYMBOLS: freq << 20 | rank << 8 | symbol */
} pith_rans_decoder;
void pith_rans_decoder_init(pith_rans_decoder *decoder, const pith_rans_model *model);

/* A stream being read.  Must not be copied or moved. */
typedef struct pith_rans_reader {
    uint32_t state[PITH_RANS_LANES];
    const uint8_t *src, *end;                /* the next word; the end of the stream's words */
    const uint8_t *limit;                    /* a group of 32 may be read while src <= limit */
    pith_isa isa;
    bool in_tail;
    uint8_t tail[4 * PITH_RANS_LANES];       /* the last words, padded, so that nothing reads past the stream */
} pith_rans_reader;

/** Begin to read a stream of len bytes; src is borrowed until the end.  @return PITH_E_CORRUPT */
pith_status pith_rans_read_begin(pith_rans_reader *reader, pith_isa isa, const uint8_t *src, size_t len);
/** Read the next segment into dst[n].  contexts [n] are taken modulo 64, not read for SYMBOLS, and must not
 *  overlap dst.  Whatever the bytes, only symbols of the model come out and nothing outside src, contexts
 *  and dst is touched.  @return PITH_E_CORRUPT: the stream ended (dst is undefined). */
pith_status pith_rans_read(pith_rans_reader *reader, const pith_rans_decoder *decoder, const uint8_t *contexts, uint8_t *dst, size_t n);
/** After the last segment: is all read and every state as the writer began?  A cut stream never passes; a changed bit
 *  passes seldom but can (another element, the same state), so a container adds a checksum.  @return PITH_E_CORRUPT */
pith_status pith_rans_read_end(const pith_rans_reader *reader);

#endif
