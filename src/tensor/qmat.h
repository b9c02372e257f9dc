/* The compute form of a low-bit matrix: rows interleaved by 16 (a tile) in blocks of 32 columns, each
 * block of 16 x 32 values with its own width of 1 to 8 bits (0: all stored values are the same).  One layout
 * serves the 32-block formats of GGUF (a scale, and maybe a minimum, per row and block) and our own codec (a
 * scale per row; a number stands for the middle of its cell, or, in centred blocks, for itself).
 *
 * Products are taken with activations quantised to 8 bits in the same blocks of 32 columns.  With u the
 * stored unsigned value and zero = 2^(bits-1) (0 when bits is 0 or the matrix has minima), the integer
 *     dot[r,b] = sum_j a[b,j] * (u[r,b,j] - zero[b])
 * is exact, and blocks are added in order, b = 0, 1, ..., each step one fused multiply-add in f32:
 *     row:    y = fma(dot, a_scale[b], y);                    last, y = scale[r] * fma(1/2, a_total, y)
 *             in a block with flags: y = fma(dot * 2^s, a_scale[b], y), then y = fma(2^s c - 1/2, a_sum[b], y)
 *     block:  y = fma(dot * scale[r,b], a_scale[b], y)
 *     min:    as block, then y = fma(min[r,b], a_sum[b], y)
 * This order is the definition: every instruction set, and qmat_vec and qmat_mat alike, give the same bits.
 *
 * Bytes of a block of w bits: 64*w.  w = 8: column c of row r is byte 64*(c/4) + 4*r + c%4, so that each
 * 64 bytes (a "group") hold 4 columns of 16 rows, what one 512-bit u8 x s8 dot product consumes.
 * w < 8: planes of 4, 2 and 1 bits, as many as w has binary digits, the larger plane first and holding the
 * lower bits of u.  A plane of p bits is 64*p bytes: group g is in bits p*(g/p) .. p*(g/p)+p-1 of the bytes
 * 64*(g%p) .. 64*(g%p)+63, in the same order within the 64. */
#ifndef PITH_QMAT_H
#define PITH_QMAT_H

#include "tensor/tensor.h"

#define PITH_TILE_ROWS 16
#define PITH_TILE_COLS 32

typedef enum pith_qscale {
    PITH_QSCALE_ROW,      /* f32 scale per row: value = scale * 2^s * (u - zero + c) */
    PITH_QSCALE_BLOCK,    /* f16 scale per row and block: value = scale * (u - zero) */
    PITH_QSCALE_BLOCK_MIN /* f16 scale and f16 minimum per row and block: value = scale * u + min */
} pith_qscale;

/* Row mode: flags of a block, beside its width in the low 4 bits.  c is 1/2; in a centred block it is
 * 1/2 - 2^-(s + 1), the middle of 2^s cells that are centred at whole numbers (0 for s = 0). */
#define PITH_BLOCK_WIDTH(bits) ((bits) & 15u)
#define PITH_BLOCK_CENTRED 16u
#define PITH_BLOCK_SHIFT(s) ((unsigned)(s) << 5) /* s: 0..7 */

/** 2^s, and what the sum of activations is multiplied by, of a block with flags (see the head of this file). */
static inline float pith_block_factor(unsigned bits) { return (float)(1u << (bits >> 5)); }
static inline float pith_block_extra(unsigned bits) { return pith_block_factor(bits) * 0.5f - (bits & PITH_BLOCK_CENTRED ? 1.0f : 0.5f); }

typedef struct pith_qmat {
    size_t n_rows, n_cols;           /* as the user sees it; storage is padded with zeros to whole tiles */
    size_t n_tiles, n_blocks;        /* ceil(n_rows / 16), ceil(n_cols / 32) */
    pith_qscale scale_mode;
    uint8_t *bits;                   /* [n_tiles, n_blocks] width of each block, 0..8, and in row mode its flags */
    size_t *tile_offset;             /* [n_tiles + 1] bytes into data, multiples of 64 */
    uint8_t *data;                   /* per tile: scales [n_blocks][16] f16 (block), or scales and minima
                                        [n_blocks][2][16] f16 (min), zeros up to a multiple of 64; then the
                                        payloads of its blocks, each 64-byte aligned */
    float *row_scale;                /* [n_tiles * 16], PITH_QSCALE_ROW only */
} pith_qmat;

/** Zeroed matrix with room for blocks of the given widths (bits [n_tiles, n_blocks], copied).
 *  @return PITH_E_SHAPE (no rows or columns), PITH_E_ARGUMENT (a width above 8, flags outside row mode),
 *  PITH_E_MEMORY, PITH_E_LIMIT (the size overflows).  Ownership: caller frees with pith_qmat_free. */
pith_status pith_qmat_new(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_qscale mode, const uint8_t *bits, pith_qmat *m);
void pith_qmat_free(pith_ctx *ctx, pith_qmat *m);   /* *m becomes all zero; freeing that is allowed */
size_t pith_qmat_bytes(const pith_qmat *m);      /* everything held, for ram_bytes */

/** Write one block: u[16][32] unsigned values below 2^bits (higher bits are ignored); scale [16] f16 (NULL
 *  in row mode) and min [16] f16 (NULL but in min mode).  Rows and columns beyond the matrix should be 0.
 *  Touches this block only: blocks may be written in parallel. */
void pith_qmat_put_block(pith_qmat *m, size_t tile, size_t block, const uint8_t u[16][32], const uint16_t *scale, const uint16_t *min);
/** The reverse of put_block. */
void pith_qmat_get_block(const pith_qmat *m, size_t tile, size_t block, uint8_t u[16][32], uint16_t *scale, uint16_t *min);
/** Dequantised row, f32 [n_cols]. */
void pith_qmat_row(const pith_qmat *m, size_t row, float *dst);

/** One matrix of n_rows rows from parts that follow each other, all but the last of whole tiles, all of the
 *  same columns and mode; they are freed, on success only.  @return PITH_E_MEMORY */
pith_status pith_qmat_join(pith_ctx *ctx, pith_qmat *parts, size_t n_parts, size_t n_rows, pith_qmat *m);

/* GGUF's blocks of 32 values: a scale in f16, maybe a minimum in f16, then whole numbers. */
typedef struct pith_block_format {
    unsigned bits;
    bool has_min;
    bool is_signed;                  /* whole bytes, two's complement */
    size_t high_at, low_at;          /* bytes to the 32 fifth bits (0: none) and to the nibbles or bytes */
} pith_block_format;
/** false: not one of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. */
bool pith_block_format_of(pith_dtype dtype, pith_block_format *f);
/** Its numbers, unsigned: with half the range added where they are signed. */
void pith_block_numbers(const pith_block_format *f, const uint8_t *block, uint8_t u[32]);
/** The reverse: the bytes of a block that hold numbers, from those. */
void pith_block_put_numbers(const pith_block_format *f, const uint8_t u[32], uint8_t *block);

/** From a GGUF tensor of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 bit for bit (same values; nothing requantised).
 *  Sources: the block layouts of the GGUF documentation.  Leading dimensions are rows.
 *  @return PITH_E_UNSUPPORTED for other types, PITH_E_SHAPE if cols % 32, PITH_E_MEMORY. */
pith_status pith_qmat_from_blocks(pith_ctx *ctx, const pith_tensor *t, pith_qmat *m);
/** From f32 rows, requantised to 8 bits in blocks of 32 (scale max|x| / 127 rounded to f16, as Q8_0): the
 *  run form of types without kernels of their own.  row_fn fills dst[n_cols] with row r; called from
 *  several threads.  @return PITH_E_NONFINITE when a value is not finite or its scale exceeds f16. */
typedef void pith_row_fn(void *arg, size_t row, float *dst);
pith_status pith_qmat_from_rows_q8(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_row_fn *row_fn, void *arg, pith_qmat *m);

/* Activations quantised to 8 bits in blocks of 32: scale = max|x| / 127, q = x * (127 / max|x|) rounded to
 * nearest even, -127..127.  max|x| below 1e-30: scale and q are 0.  A block with a value that is not
 * finite: scale is NaN and q is 0, so that the NaN reaches every result. */
typedef struct pith_q8 {
    size_t n, n_blocks;              /* rows (tokens), blocks a row */
    int8_t *q;                       /* [n, n_blocks * 32], 64-byte aligned; columns beyond n_cols are zero */
    int32_t *isum;                   /* [n, n_blocks] sum of q */
    float *scale;                    /* [n, n_blocks] */
    float *sum;                      /* [n, n_blocks] scale * isum */
    float *total;                    /* [n] sums of a row added in order */
} pith_q8;
/** 0 when the size overflows. */
size_t pith_q8_bytes(size_t n, size_t n_cols);
/** Lay out a pith_q8 over memory of pith_q8_bytes (64-byte aligned). */
void pith_q8_init(pith_q8 *a, size_t n, size_t n_cols, void *memory);

#endif
