/* Gradient compressors: an array of f32 to a message and back, with exact bytes.
 *
 * A compressor C is contractive when E|C(x) - x|^2 <= (1 - delta) |x|^2; that is what error feedback (channel.h) needs.
 *   top_k     the k = share * n of largest magnitude, the first of equals; values in 32 bits, gaps between their indices
 *             in Rice codes.  delta = k/n.  (Stich, Cordonnier, Jaggi, arXiv:1809.07599)
 *   random_k  k places drawn by (seed, stream), which the receiver draws too, so that only values are sent; not scaled up.
 *             delta = k/n
 *   qsgd      bits b: buckets of 1024, each with its largest magnitude as scale; sign and floor(s |x| / scale + u) of
 *             s = 2^(b-1) - 1 levels, u uniform.  Unbiased.  (Alistarh et al., arXiv:1610.02132, with the maximum as norm)
 *   sign      a bit a value, and their mean magnitude.  (Karimireddy et al., arXiv:1901.09847)
 *   power     a matrix as P Q^T of rank r: one power iteration from the last step's Q.  A protocol rather than a message:
 *             P is summed over the workers, made orthogonal, Q summed.  (Vogels, Karimireddy, Jaggi, arXiv:1905.13727)
 *   dense     f32 as it is. */
#ifndef PITH_COMPRESSOR_H
#define PITH_COMPRESSOR_H

#include "base/base.h"

typedef enum pith_compressor_kind {
    PITH_COMPRESS_DENSE, PITH_COMPRESS_TOP_K, PITH_COMPRESS_RANDOM_K, PITH_COMPRESS_QSGD, PITH_COMPRESS_SIGN, PITH_COMPRESS_POWER
} pith_compressor_kind;

typedef struct pith_compressor {
    pith_compressor_kind kind;
    double param;                         /* share of values, bits, rank */
} pith_compressor;

/** @return PITH_E_ARGUMENT: share not in 0..1, bits not 2..16, rank not 1.. */
pith_status pith_compressor_check(pith_ctx *ctx, const pith_compressor *c);
/** Values of n that top_k and random_k keep: at least 1 (of 0: 0). */
size_t pith_compressor_kept(const pith_compressor *c, size_t n);
/** Bytes that a message of n values needs at most, not of power; SIZE_MAX: too many. */
size_t pith_compressor_bound(const pith_compressor *c, size_t n);
/** Bytes a worker sends of a [rows, cols] tensor: exact, but of top_k, whose gaps are taken as uniform at random. */
double pith_compressor_bytes(const pith_compressor *c, size_t rows, size_t cols);
/** Whether power sends [rows, cols] as factors: where they are less than half of it. */
bool pith_compressor_factors(const pith_compressor *c, size_t rows, size_t cols);
/** Where a message's random numbers come from: no two messages share one. */
typedef struct pith_draws {
    uint64_t seed, stream;
} pith_draws;
/** x [n] finite -> dst [pith_compressor_bound]; scratch [n].  Not of power.  @return PITH_E_NONFINITE, PITH_E_LIMIT (2^32 values) */
pith_status pith_compressor_encode(pith_ctx *ctx, const pith_compressor *c, pith_draws draws, const float *x, size_t n, uint32_t *scratch, uint8_t *dst, size_t *len);
/** x [n] from a message; scratch [n].  @return PITH_E_CORRUPT */
pith_status pith_compressor_decode(pith_ctx *ctx, const pith_compressor *c, pith_draws draws, const uint8_t *src, size_t len, size_t n, uint32_t *scratch, float *x);

/** Gram-Schmidt: the columns of p [rows, r] orthonormal; one that depends on those before it becomes 0. */
void pith_orthonormal(float *p, size_t rows, size_t r);
/** p [rows, r] = m [rows, cols] q [cols, r], and q = m^T p. */
void pith_power_left(const float *m, size_t rows, size_t cols, const float *q, size_t r, float *p);
void pith_power_right(const float *m, size_t rows, size_t cols, const float *p, size_t r, float *q);
/** m = p q^T */
void pith_power_product(const float *p, const float *q, size_t rows, size_t cols, size_t r, float *m);

#endif
