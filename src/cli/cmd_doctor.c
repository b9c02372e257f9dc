/* pith doctor: what this machine has, what pith makes of it, and whether its kernels agree here. */
#include <math.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "cli/cli.h"
#include "tensor/kernels.h"
#include "tensor/lapack.h"

static const pith_example examples[] = {
    {"pith doctor", "look this over when something is slow or odd, and add it to a report of a fault"},
    {"PITH_CPU=avx2 pith doctor", "with a kernel set that is not the best one"},
    {0},
};

/* ---- self test -------------------------------------------------------------------------------- */

/* Sizes that are no multiple of anything. */
enum { N_ROWS = 83, N_COLS = 211, N_TOKENS = 7, N_VALUES = 1021, HEAD = 64, N_KEYS = 37 };

/* Inputs of all kernels, and one set's results. */
typedef struct outputs {
    float vec[N_ROWS], mat[N_TOKENS * N_ROWS], f16[N_ROWS], dot, norm[N_VALUES], soft[N_VALUES], silu[N_VALUES], rope[HEAD], attend[HEAD];
} outputs;

typedef struct inputs {
    pith_qmat qmats[8];           /* widths 1 to 8 */
    float x[N_TOKENS * N_COLS], values[N_VALUES], gain[N_VALUES], cos[HEAD / 2], sin[HEAD / 2], kv[N_KEYS * HEAD];
    uint16_t half[N_ROWS * N_COLS], kv_half[N_KEYS * HEAD];
    void *q8_memory;
} inputs;

static pith_status make_inputs(pith_ctx *ctx, inputs *in)
{
    pith_rng rng = {.seed = 1};
    for (size_t i = 0; i < PITH_COUNT(in->x); i++) in->x[i] = pith_rng_normal(&rng);
    for (size_t i = 0; i < N_VALUES; i++) {
        in->values[i] = pith_rng_normal(&rng);
        in->gain[i] = pith_rng_uniform(&rng);
    }
    for (int i = 0; i < HEAD / 2; i++) {
        in->cos[i] = (float)cos(i);
        in->sin[i] = (float)sin(i);
    }
    for (size_t i = 0; i < PITH_COUNT(in->kv); i++) {
        in->kv[i] = pith_rng_normal(&rng);
        in->kv_half[i] = pith_f32_to_f16(in->kv[i]);
    }
    for (size_t i = 0; i < PITH_COUNT(in->half); i++) in->half[i] = pith_f32_to_f16(pith_rng_normal(&rng));
    in->q8_memory = pith_alloc(ctx, pith_q8_bytes(N_TOKENS, N_COLS));
    if (!in->q8_memory) return PITH_E_MEMORY;
    enum { TILES = (N_ROWS + 15) / 16, BLOCKS = (N_COLS + 31) / 32 };
    for (int width = 1; width <= 8; width++) {
        uint8_t bits[TILES * BLOCKS];
        memset(bits, width, sizeof bits);
        pith_qmat *m = &in->qmats[width - 1];
        PITH_TRY(pith_qmat_new(ctx, N_ROWS, N_COLS, PITH_QSCALE_BLOCK, bits, m));
        for (size_t tile = 0; tile < TILES; tile++)
            for (size_t block = 0; block < BLOCKS; block++) {
                uint8_t u[16][32];
                uint16_t scale[16];
                for (int r = 0; r < 16; r++) {
                    scale[r] = pith_f32_to_f16(0.01f + 0.1f * pith_rng_uniform(&rng));
                    for (int c = 0; c < 32; c++) u[r][c] = (uint8_t)pith_rng_below(&rng, 1u << width);
                }
                pith_qmat_put_block(m, tile, block, (const uint8_t(*)[32])u, scale, NULL);
            }
    }
    return PITH_OK;
}

static void free_inputs(pith_ctx *ctx, inputs *in)
{
    for (size_t i = 0; i < PITH_COUNT(in->qmats); i++) pith_qmat_free(ctx, &in->qmats[i]);
    pith_free(ctx, in->q8_memory);
}

static void run_kernels(const pith_kernels *k, inputs *in, const pith_qmat *m, outputs *out)
{
    pith_q8 q8;
    size_t n_tiles = (N_ROWS + 15) / 16;
    float scratch[N_KEYS];
    memset(out, 0, sizeof *out);
    pith_q8_init(&q8, N_TOKENS, N_COLS, in->q8_memory);
    k->q8_rows(&q8, 0, N_TOKENS, in->x, N_COLS, N_COLS);
    k->qmat_vec(m, 0, n_tiles, &q8, 3, out->vec);
    k->qmat_mat(m, 0, n_tiles, &q8, 0, N_TOKENS, out->mat, N_ROWS);
    k->f16_vec(in->half, 0, N_ROWS, N_COLS, in->x, out->f16);
    out->dot = k->dot(in->values, in->gain, N_VALUES);
    k->rmsnorm(out->norm, in->values, in->gain, N_VALUES, 1e-5f);
    memcpy(out->soft, in->values, sizeof out->soft);
    k->softmax(out->soft, N_VALUES, 0.7f);
    k->silu_mul(out->silu, in->values, in->gain, N_VALUES);
    memcpy(out->rope, in->values, sizeof out->rope);
    k->rope(out->rope, in->cos, in->sin, HEAD, true);
    k->attend_heads_f16(in->x, 1, in->kv_half, in->kv_half, HEAD, N_KEYS, HEAD, 0.125f, scratch, out->attend);
}

typedef struct isa_result {
    const char *name, *kernels;
    bool present, agrees;
} isa_result;

/* Every kernel set that this processor has, against the scalar one: the same bits. */
static pith_status self_test(pith_ctx *ctx, isa_result results[4], size_t *n)
{
    static const pith_isa isas[] = {PITH_ISA_SCALAR, PITH_ISA_NEON, PITH_ISA_AVX2, PITH_ISA_AVX512};
    inputs *in = pith_calloc(ctx, 1, sizeof *in);
    outputs *want = pith_calloc(ctx, 2, sizeof *want);
    pith_status status = in && want ? make_inputs(ctx, in) : PITH_E_MEMORY;
    *n = 0;
    for (size_t i = 0; status == PITH_OK && i < PITH_COUNT(isas); i++) {
        pith_cpu scalar, cpu;
        isa_result *r = &results[(*n)++];
        *r = (isa_result){.name = pith_isa_name(isas[i])};
        PITH_GOTO(pith_cpu_detect(ctx, "scalar", &scalar), done);
        if (pith_cpu_detect(ctx, r->name, &cpu) != PITH_OK) continue; /* not on this processor */
        r->present = r->agrees = true;
        r->kernels = pith_kernels_for(&cpu)->name;
        for (size_t w = 0; w < PITH_COUNT(in->qmats); w++) {
            run_kernels(pith_kernels_for(&scalar), in, &in->qmats[w], &want[0]);
            run_kernels(pith_kernels_for(&cpu), in, &in->qmats[w], &want[1]);
            r->agrees &= memcmp(&want[0], &want[1], sizeof *want) == 0;
        }
    }
done:
    if (in) free_inputs(ctx, in);
    pith_free(ctx, in);
    pith_free(ctx, want);
    return status;
}

/* ---- report ----------------------------------------------------------------------------------- */

static pith_status run(pith_cli *cli, void *args)
{
    (void)args;
    pith_ctx *ctx = cli->ctx;
    const pith_cpu *cpu = pith_ctx_cpu(ctx);
    isa_result results[4];
    size_t n = 0;
    struct sysinfo memory = {0};
    char pcre[64] = "", lapack[256];
    PITH_TRY(self_test(ctx, results, &n));
    bool ok = true;
    for (size_t i = 0; i < n; i++) ok &= !results[i].present || results[i].agrees;
    bool have_memory = sysinfo(&memory) == 0;
    pith_lapack_version(lapack, sizeof lapack);
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    const struct { const char *name; bool has; } features[] = {
        {"avx2", cpu->avx2}, {"avx512", cpu->avx512}, {"avx512_vnni", cpu->avx512_vnni}, {"avx512_bf16", cpu->avx512_bf16},
        {"avx512_vbmi", cpu->avx512_vbmi}, {"avx_vnni", cpu->avx_vnni}, {"neon", cpu->neon}, {"neon_dot", cpu->neon_dot},
    };
    const struct { const char *name, *version; } libraries[] = {
        {"OpenBLAS", lapack}, {"cJSON", cJSON_Version()}, {"PCRE2", pcre}, {"utf8proc", utf8proc_version()},
    };
    const char *why = cpu->limited ? "because PITH_CPU asks for it" : "the best this processor has";
    double total = have_memory ? (double)memory.totalram * memory.mem_unit : NAN;
    double unused = have_memory ? (double)(memory.freeram + memory.bufferram) * memory.mem_unit : NAN;
    pith_status verdict = ok ? PITH_OK : pith_fail(ctx, PITH_E_INTERNAL, "a kernel set does not give the scalar one's results on this processor: please report it; "
                                                                         "PITH_CPU=scalar works around it");
    if (cli->globals.json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "version", pith_version());
        cJSON_AddStringToObject(j, "processor", cpu->name);
        pith_json_number(j, "cores", cpu->n_cores);
        pith_json_number(j, "threads", pith_n_threads(ctx));
        pith_json_number(j, "memory_bytes", total);
        pith_json_number(j, "memory_free_bytes", unused);
        cJSON_AddStringToObject(j, "isa", pith_isa_name(cpu->isa));
        cJSON_AddBoolToObject(j, "isa_limited", cpu->limited);
        cJSON_AddStringToObject(j, "kernels", pith_kernels_get(ctx)->name);
        cJSON *f = cJSON_AddObjectToObject(j, "features");
        for (size_t i = 0; i < PITH_COUNT(features); i++) cJSON_AddBoolToObject(f, features[i].name, features[i].has);
        cJSON *l = cJSON_AddObjectToObject(j, "libraries");
        for (size_t i = 0; i < PITH_COUNT(libraries); i++) cJSON_AddStringToObject(l, libraries[i].name, libraries[i].version);
        pith_json_number(l, "xxHash", XXH_versionNumber());
        cJSON *t = cJSON_AddObjectToObject(j, "self_test");
        for (size_t i = 0; i < n; i++)
            cJSON_AddStringToObject(t, results[i].name, !results[i].present ? "not on this processor" : results[i].agrees ? "ok" : "differs");
        PITH_TRY(pith_json_print(cli, j));
        return verdict;
    }
    printf("pith        %s\n", pith_version());
    printf("processor   %s, %d cores that this process may use\n", cpu->name, cpu->n_cores);
    printf("has        ");
    bool any = false;
    for (size_t i = 0; i < PITH_COUNT(features); i++)
        if (features[i].has) {
            printf(" %s", features[i].name);
            any = true;
        }
    printf("%s\nkernels     %s (%s), %d threads\n", any ? "" : " nothing beyond the base set", pith_kernels_get(ctx)->name, why, pith_n_threads(ctx));
    if (have_memory) printf("memory      %s, of it %s unused\n", pith_text_bytes((uint64_t)total).s, pith_text_bytes((uint64_t)unused).s);
    for (size_t i = 0; i < PITH_COUNT(libraries); i++) printf("%-11s %s\n", libraries[i].name, libraries[i].version);
    printf("%-11s %u.%u.%u\n", "xxHash", XXH_versionNumber() / 10000, XXH_versionNumber() / 100 % 100, XXH_versionNumber() % 100);
    puts("self test   each kernel set against the scalar one, bit by bit:");
    for (size_t i = 0; i < n; i++)
        printf("            %-7s %s\n", results[i].name, !results[i].present ? "not on this processor" : results[i].agrees ? "ok" : "DIFFERS");
    return verdict;
}

const pith_command pith_command_doctor = {
    .name = "doctor",
    .summary = "show what this machine has and test that pith computes right on it",
    .description = "Prints the processor and what pith uses of it, memory, and the libraries' versions, and tests every kernel set that the processor "
                   "has against the scalar one: their results must be the same to the last bit.",
    .examples = examples,
    .exit_notes = "1 also when a kernel set gives other results than the scalar one.",
    .run = run,
};
