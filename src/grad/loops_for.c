/* Which table of loops a processor gets. */
#include "grad/loops.h"

extern const pith_loops pith_loops_base, pith_loops_avx2, pith_loops_avx512;

const pith_loops *pith_loops_for(const pith_cpu *cpu)
{
    switch (cpu->isa) {
#if defined(__x86_64__)
    case PITH_ISA_AVX512: return &pith_loops_avx512;
    case PITH_ISA_AVX2: return &pith_loops_avx2;
#endif
    default: return &pith_loops_base; /* on aarch64 that is NEON */
    }
}
