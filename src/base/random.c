/* Philox4x32-10: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#include <math.h>

#include "base/base.h"

void pith_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c[3] ^ k1, (uint32_t)p0};
        memcpy(c, n, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

uint32_t pith_rng_u32(pith_rng *rng)
{
    uint32_t block[4];
    pith_philox(rng->seed, rng->stream, rng->index >> 2, block);
    return block[rng->index++ & 3];
}

float pith_rng_uniform(pith_rng *rng) { return pith_uniform_of(pith_rng_u32(rng)); }

float pith_rng_normal(pith_rng *rng)
{
    /* Box-Muller; the first uniform is in (0, 1] so that the logarithm is finite. */
    double u = ((double)pith_rng_u32(rng) + 1.0) * 0x1p-32, v = (double)pith_rng_u32(rng) * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

uint32_t pith_rng_below(pith_rng *rng, uint32_t n)
{
    /* D. Lemire, "Fast random integer generation in an interval", TOMACS 2019. */
    uint64_t product = (uint64_t)pith_rng_u32(rng) * n;
    uint32_t threshold = (0u - n) % n;
    while ((uint32_t)product < threshold) product = (uint64_t)pith_rng_u32(rng) * n;
    return (uint32_t)(product >> 32);
}
