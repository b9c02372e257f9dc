/* What the processor can do, and how many physical cores we may use. */
#include <ctype.h>
#include <sched.h>
#include <stdlib.h>

#include "base/base.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const char *const isa_names[] = {"scalar", "neon", "avx2", "avx512"};
const char *pith_isa_name(pith_isa isa) { return isa_names[isa]; }

/* Physical cores: distinct (package, core) pairs among the CPUs this process may run on. */
static int count_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    struct { int package, core; } seen[CPU_SETSIZE];
    int n_cores = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        int ids[2] = {0, cpu};
        static const char *const names[2] = {"physical_package_id", "core_id"};
        for (int k = 0; k < 2; k++) {
            char path[128];
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, names[k]);
            FILE *f = fopen(path, "r");
            if (!f) continue;
            if (fscanf(f, "%d", &ids[k]) != 1) ids[k] = k ? cpu : 0;
            fclose(f);
        }
        int i = 0;
        while (i < n_cores && (seen[i].package != ids[0] || seen[i].core != ids[1])) i++;
        if (i == n_cores) {
            seen[n_cores].package = ids[0];
            seen[n_cores++].core = ids[1];
        }
    }
    return n_cores ? n_cores : 1;
}

static void processor_name(char name[64])
{
    snprintf(name, 64, "unknown processor");
#if defined(__x86_64__)
    uint32_t r[12];
    char text[49] = {0};
    if ((uint32_t)__get_cpuid_max(0x80000000, NULL) < 0x80000004) return;
    for (uint32_t i = 0; i < 3; i++) __get_cpuid(0x80000002 + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    memcpy(text, r, 48);
    char *start = text;
    while (isspace((unsigned char)*start)) start++;
    if (*start) snprintf(name, 64, "%s", start);
#elif defined(__aarch64__)
    snprintf(name, 64, "64-bit ARM");
#endif
}

pith_status pith_cpu_detect(pith_ctx *ctx, const char *wanted, pith_cpu *cpu)
{
    *cpu = (pith_cpu){.isa = PITH_ISA_SCALAR, .n_cores = count_cores()};
    processor_name(cpu->name);
#if defined(__x86_64__)
    __builtin_cpu_init();
    uint32_t a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1); /* clang 14 cannot ask for it by name */
    cpu->avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
    cpu->avx512 = cpu->avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    cpu->avx512_vnni = cpu->avx512 && __builtin_cpu_supports("avx512vnni");
    cpu->avx512_bf16 = cpu->avx512 && __builtin_cpu_supports("avx512bf16");
    cpu->avx512_vbmi = cpu->avx512 && __builtin_cpu_supports("avx512vbmi");
    cpu->avx_vnni = cpu->avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
    if (cpu->avx2) cpu->isa = PITH_ISA_AVX2;
    if (cpu->avx512) cpu->isa = PITH_ISA_AVX512;
#elif defined(__aarch64__)
    cpu->neon = true;
#if defined(__linux__)
    cpu->neon_dot = getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#endif
    cpu->isa = PITH_ISA_NEON;
#endif
    if (!wanted || !*wanted) return PITH_OK;
    for (size_t i = 0; i < PITH_COUNT(isa_names); i++) {
        if (strcmp(wanted, isa_names[i]) != 0) continue;
        pith_isa isa = (pith_isa)i;
        bool present = isa == PITH_ISA_SCALAR || (isa == PITH_ISA_NEON && cpu->neon) || (isa == PITH_ISA_AVX2 && cpu->avx2) ||
                       (isa == PITH_ISA_AVX512 && cpu->avx512);
        if (!present)
            return pith_fail(ctx, PITH_E_UNSUPPORTED, "PITH_CPU=%s: this processor (%s) does not have it; the best here is %s",
                             wanted, cpu->name, pith_isa_name(cpu->isa));
        cpu->limited = isa != cpu->isa;
        cpu->isa = isa;
        if (isa != PITH_ISA_AVX512) cpu->avx512 = cpu->avx512_vnni = cpu->avx512_bf16 = cpu->avx512_vbmi = false;
        if (isa == PITH_ISA_SCALAR) cpu->avx2 = cpu->avx_vnni = cpu->neon = cpu->neon_dot = false;
        return PITH_OK;
    }
    return pith_fail(ctx, PITH_E_ARGUMENT, "PITH_CPU=%s: not one of scalar, neon, avx2, avx512", wanted);
}
