/* The compute form of a low-bit matrix: rows interleaved by 16 in blocks of 32 columns, each block of
 * 16 x 32 values with its own width of 1 to 8 bits (0: all values are zero).  One layout serves the 32-block formats of GGUF
 * (a scale, and maybe a minimum, per row and block) and our own codec (a scale per row).
 *
 * Products are taken with activations quantised to 8 bits in the same blocks of 32 columns, integers
 * accumulated exactly within a block:
 *     y[r] = sum_b  a_scale[b] * ( w_scale[r,b] * sum_j a[b,j] * (u[r,b,j] - zero[b] + shift[r])
 *                                 + w_min[r,b] * sum_j a[b,j] )
 * with u the stored unsigned value and zero[b] = 2^(bits-1) (0 when the matrix has minima). */
#ifndef PITH_QMAT_H
#define PITH_QMAT_H

#include "tensor/tensor.h"

#define PITH_TILE_ROWS 16
#define PITH_TILE_COLS 32

typedef enum pith_qscale {
    PITH_QSCALE_ROW,    /* f32 scale and shift per row: value = scale * (q + shift) */
    PITH_QSCALE_BLOCK,  /* f16 scale per row and block */
    PITH_QSCALE_BLOCK_MIN /* f16 scale and f16 minimum per row and block: value = scale * u + min */
} pith_qscale;

typedef struct pith_qmat {
    size_t n_rows, n_cols;           /* as the user sees it; storage is padded with zeros to whole tiles */
    size_t n_tiles, n_blocks;        /* ceil(n_rows / 16), ceil(n_cols / 32) */
    pith_qscale scale_mode;
    uint8_t *bits;                   /* [n_tiles, n_blocks] width of each block, 0..8 */
    size_t *tile_offset;             /* [n_tiles + 1] bytes into data, multiples of 64 */
    uint8_t *data;                   /* per tile, per block: [16 f16 scales [16 f16 minima]] payload */
    float *row_scale, *row_shift;    /* [n_tiles * 16], PITH_QSCALE_ROW only */
} pith_qmat;

/** Empty matrix with room for blocks of the given widths (bits [n_tiles, n_blocks], copied).
 *  Payload of a block of w bits: 64*w bytes, planes of 4, 2 and 1 bits (w = 7: 4, 2, 1; w = 8: one plane
 *  of bytes).  Ownership: caller frees with pith_qmat_free. */
pith_status pith_qmat_new(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_qscale mode, const uint8_t *bits, pith_qmat *m);
void pith_qmat_free(pith_ctx *ctx, pith_qmat *m);
size_t pith_qmat_bytes(const pith_qmat *m);      /* everything held, for ram_bytes */

/** Write one block: u[16][32] unsigned values below 2^bits; scale and min [16] f16 or NULL in row mode.
 *  Pure but for the block written: blocks may be written in parallel. */
void pith_qmat_put_block(pith_qmat *m, size_t tile, size_t block, const uint8_t u[16][32], const uint16_t *scale, const uint16_t *min);
/** The reverse of put_block. */
void pith_qmat_get_block(const pith_qmat *m, size_t tile, size_t block, uint8_t u[16][32], uint16_t *scale, uint16_t *min);
/** Dequantised row, f32 [n_cols]. */
void pith_qmat_row(const pith_qmat *m, size_t row, float *dst);

/** From a GGUF tensor of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 bit for bit (same values; nothing requantised).
 *  @return PITH_E_UNSUPPORTED for other types, PITH_E_SHAPE if cols % 32. */
pith_status pith_qmat_from_blocks(pith_ctx *ctx, const pith_tensor *t, pith_qmat *m);
/** From f32 rows, requantised to 8 bits in blocks of 32 (max |x| / 127, as Q8_0): the run form of types
 *  without kernels of their own. row_fn fills dst[n_cols] with row r; called from several threads. */
typedef void pith_row_fn(void *arg, size_t row, float *dst);
pith_status pith_qmat_from_rows_q8(pith_ctx *ctx, size_t n_rows, size_t n_cols, pith_row_fn *row_fn, void *arg, pith_qmat *m);

/* Activations quantised to 8 bits in blocks of 32: q = round(x / scale), scale = max|x| / 127. */
typedef struct pith_q8 {
    size_t n, n_blocks;              /* rows (tokens), blocks a row */
    int8_t *q;                       /* [n, n_blocks * 32], 64-byte aligned rows; padding is zero */
    float *scale;                    /* [n, n_blocks] */
    int32_t *sum;                    /* [n, n_blocks] sum of q */
} pith_q8;
size_t pith_q8_bytes(size_t n, size_t n_cols);
/** Lay out a pith_q8 over memory of pith_q8_bytes (64-byte aligned). */
void pith_q8_init(pith_q8 *a, size_t n, size_t n_cols, void *memory);

#endif
