/* Which table of kernels a processor gets. */
#include "tensor/kern.h"

const pith_kernels *pith_kernels_for(const pith_cpu *cpu)
{
    switch (cpu->isa) {
#if defined(__x86_64__)
    case PITH_ISA_AVX512: return cpu->avx512_vnni ? &pith_kernels_avx512_vnni : &pith_kernels_avx512;
    case PITH_ISA_AVX2: return cpu->avx_vnni ? &pith_kernels_avx2_vnni : &pith_kernels_avx2;
#elif defined(__aarch64__)
    case PITH_ISA_NEON: return cpu->neon_dot ? &pith_kernels_neon_dot : &pith_kernels_neon;
#endif
    default: return &pith_kernels_ref;
    }
}

const pith_kernels *pith_kernels_get(const pith_ctx *ctx) { return pith_kernels_for(pith_ctx_cpu(ctx)); }
