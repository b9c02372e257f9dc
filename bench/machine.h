/* What the machine can do, to hold figures against: reading memory, and multiply-adds at their fastest. */
#ifndef PITH_BENCH_MACHINE_H
#define PITH_BENCH_MACHINE_H

#include "tensor/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Results go here, so that the compiler cannot leave the work out; each thread has its own. */
static _Thread_local volatile float sink;

/* A piece of memory to read; the functions below take one as `arg`. */
typedef struct span {
    const uint8_t *data;
    size_t len;
} span;

static void read_plain(void *arg)
{
    const span *s = arg;
    uint64_t x[8] = {0};
    for (size_t i = 0; i + 64 <= s->len; i += 64)
        for (size_t k = 0; k < 8; k++) {
            uint64_t v;
            memcpy(&v, s->data + i + 8 * k, 8);
            x[k] ^= v;
        }
    for (int k = 1; k < 8; k++) x[0] ^= x[k];
    sink = (float)x[0];
}

enum { PEAK_STEPS = 100000 };

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void read_512(void *arg)
{
    const span *s = arg;
    __m512i x[8];
    for (int k = 0; k < 8; k++) x[k] = _mm512_setzero_si512();
    for (size_t i = 0; i + 512 <= s->len; i += 512)
        for (int k = 0; k < 8; k++) x[k] = _mm512_xor_si512(x[k], _mm512_loadu_si512(s->data + i + 64 * k));
    for (int k = 1; k < 8; k++) x[0] = _mm512_xor_si512(x[0], x[k]);
    sink = (float)_mm512_reduce_add_epi32(x[0]);
}

__attribute__((target("avx512f,avx512vnni"))) static void peak_vnni(PITH_UNUSED void *arg)
{
    __m512i x[12], u = _mm512_set1_epi32((int)sink), a = _mm512_set1_epi8(1);
    for (int k = 0; k < 12; k++) x[k] = _mm512_setzero_si512();
    for (int i = 0; i < PEAK_STEPS; i++) {
        for (int k = 0; k < 12; k++) x[k] = _mm512_dpbusd_epi32(x[k], u, a);
        __asm__ volatile("" : "+v"(u)); /* the loop stays a loop */
    }
    for (int k = 1; k < 12; k++) x[0] = _mm512_add_epi32(x[0], x[k]);
    sink = (float)_mm512_reduce_add_epi32(x[0]);
}

__attribute__((target("avx512f"))) static void peak_fma(PITH_UNUSED void *arg)
{
    __m512 x[12], u = _mm512_set1_ps(sink), a = _mm512_set1_ps(0.5f);
    for (int k = 0; k < 12; k++) x[k] = _mm512_setzero_ps();
    for (int i = 0; i < PEAK_STEPS; i++) {
        for (int k = 0; k < 12; k++) x[k] = _mm512_fmadd_ps(x[k], a, u);
        __asm__ volatile("" : "+v"(u));
    }
    for (int k = 1; k < 12; k++) x[0] = _mm512_add_ps(x[0], x[k]);
    sink = _mm512_reduce_add_ps(x[0]);
}
#endif

typedef struct machine {
    void (*read)(void *span);
    void (*dot8)(void *), (*fma)(void *); /* PEAK_STEPS steps; NULL: not known for this processor */
    double dot8_macs, fma_macs;           /* multiply-adds of a call */
} machine;

/* The fastest functions for the machine as it is, whatever PITH_CPU says. */
static pith_status machine_find(pith_ctx *ctx, machine *m)
{
    *m = (machine){.read = read_plain, .dot8_macs = 12.0 * 64 * PEAK_STEPS, .fma_macs = 12.0 * 16 * PEAK_STEPS};
    pith_cpu cpu;
    PITH_TRY(pith_cpu_detect(ctx, NULL, &cpu));
#if defined(__x86_64__)
    if (cpu.avx512) m->read = read_512, m->fma = peak_fma;
    if (cpu.avx512_vnni) m->dot8 = peak_vnni;
#endif
    return PITH_OK;
}

#endif
