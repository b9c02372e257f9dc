/* How fast the kernels are, beside what the machine can do, measured in the same run:
 *     bench-kernels [SECONDS] [WORD...]
 * Each line is the best of many short runs within SECONDS (default 0.3); WORDs choose lines by name.
 * Weights are 64 MiB, more than the second-level cache holds, as in generating text. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "machine.h"

#define CHECK(ctx, call)                                                                  \
    do {                                                                                  \
        if ((call) != PITH_OK) {                                                          \
            fprintf(stderr, "%s: %s\n", #call, pith_error(ctx));                          \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

static double seconds = 0.3;
static int n_words;
static char **words;

static bool wanted(const char *name)
{
    if (n_words == 0) return true;
    for (int i = 0; i < n_words; i++)
        if (strstr(name, words[i])) return true;
    return false;
}

/* Best time of fn(arg), seconds. */
static double best_time(void (*fn)(void *), void *arg)
{
    double best = INFINITY, end = pith_now_s() + seconds;
    fn(arg);
    do {
        double start = pith_now_s();
        fn(arg);
        best = fmin(best, pith_now_s() - start);
    } while (pith_now_s() < end);
    return best;
}

/* ---- low-bit matrices ------------------------------------------------------------------------- */

typedef struct product {
    const pith_kernels *k;
    pith_qmat w;
    pith_q8 a;
    float *y;
} product;

static void run_vec(void *arg)
{
    product *p = arg;
    p->k->qmat_vec(&p->w, 0, p->w.n_tiles, &p->a, 0, p->y);
    sink = p->y[0];
}

static void run_mat(void *arg)
{
    product *p = arg;
    p->k->qmat_mat(&p->w, 0, p->w.n_tiles, &p->a, 0, p->a.n, p->y, p->w.n_rows);
    sink = p->y[0];
}

static void make_product(pith_ctx *ctx, product *p, size_t n_rows, size_t n_cols, pith_qscale mode, unsigned width, size_t n)
{
    size_t n_tiles = PITH_CEIL_DIV(n_rows, 16), n_blocks = PITH_CEIL_DIV(n_cols, 32);
    uint8_t *bits = pith_alloc(ctx, n_tiles * n_blocks), u[16][32];
    if (!bits) exit(1);
    for (size_t i = 0; i < n_tiles * n_blocks; i++) bits[i] = (uint8_t)(width < 9 ? width : 3 + i * 2654435761u % 4294967296u / 1073741824u);
    CHECK(ctx, pith_qmat_new(ctx, n_rows, n_cols, mode, bits, &p->w));
    uint16_t scale[16];
    for (int r = 0; r < 16; r++) {
        scale[r] = pith_f32_to_f16(0.01f * (float)(r + 1));
        for (int c = 0; c < 32; c++) u[r][c] = (uint8_t)(r * 37 + c * 11);
    }
    for (size_t t = 0; t < n_tiles; t++)
        for (size_t b = 0; b < n_blocks; b++) pith_qmat_put_block(&p->w, t, b, (const uint8_t(*)[32])u, scale, scale);
    void *memory = pith_alloc(ctx, pith_q8_bytes(n, n_cols));
    float *x = pith_array(ctx, n * n_cols, sizeof *x);
    p->y = pith_array(ctx, n * n_rows, sizeof *p->y);
    if (!memory || !x || !p->y) exit(1);
    for (size_t i = 0; i < n * n_cols; i++) x[i] = sinf((float)i);
    pith_q8_init(&p->a, n, n_cols, memory);
    p->k->q8_rows(&p->a, 0, n, x, n_cols, n_cols);
    pith_free(ctx, x);
    pith_free(ctx, bits);
}

static void free_product(pith_ctx *ctx, product *p)
{
    pith_free(ctx, p->a.q);
    pith_free(ctx, p->y);
    pith_qmat_free(ctx, &p->w);
}

static const struct { const char *name; pith_qscale mode; unsigned width; } forms[] = {
    {"block 8", PITH_QSCALE_BLOCK, 8}, {"block 4", PITH_QSCALE_BLOCK, 4}, {"block 5", PITH_QSCALE_BLOCK, 5}, {"min 4", PITH_QSCALE_BLOCK_MIN, 4},
    {"row 2", PITH_QSCALE_ROW, 2}, {"row 3", PITH_QSCALE_ROW, 3}, {"row 4", PITH_QSCALE_ROW, 4}, {"row 5", PITH_QSCALE_ROW, 5},
    {"row 6", PITH_QSCALE_ROW, 6}, {"row 3-6", PITH_QSCALE_ROW, 9},
};

static void bench_products(pith_ctx *ctx, const pith_kernels *k, double read_gbs, double peak_gmacs)
{
    for (size_t f = 0; f < PITH_COUNT(forms); f++) {
        char name[64];
        snprintf(name, sizeof name, "qmat_vec %s", forms[f].name);
        for (size_t n = 1; n <= 4; n += 3, snprintf(name, sizeof name, "qmat_mat %s 64 MiB x4", forms[f].name)) {
            if (!wanted(name)) continue;
            product p = {.k = k};
            size_t cols = 1536, rows = ((size_t)64 << 20) * 8 / (forms[f].width < 9 ? forms[f].width : 5) / cols / 16 * 16;
            make_product(ctx, &p, rows, cols, forms[f].mode, forms[f].width, n);
            double t = best_time(n == 1 ? run_vec : run_mat, &p), gb = (double)pith_qmat_bytes(&p.w) / 1e9;
            printf("%-26s %8.2f GB/s  %5.1f%% of reading  %8.1f GMAC/s\n", name, gb / t, 100 * gb / t / read_gbs, (double)(rows * cols * n) / t / 1e9);
            free_product(ctx, &p);
        }
        for (size_t cols = 576; cols <= 1536; cols += 960)
            for (size_t n = 2; n <= 512; n *= 4) {
                snprintf(name, sizeof name, "qmat_mat %s %zu x%zu", forms[f].name, cols, n);
                if (!wanted(name)) continue;
                product p = {.k = k};
                make_product(ctx, &p, 1536, cols, forms[f].mode, forms[f].width, n);
                double t = best_time(run_mat, &p), gmacs = (double)(1536 * cols * n) / t / 1e9;
                printf("%-26s %8.1f GMAC/s %5.1f%% of peak\n", name, gmacs, 100 * gmacs / peak_gmacs);
                free_product(ctx, &p);
            }
    }
}

/* ---- the others, at the sizes of a small llama ------------------------------------------------- */

enum { N_KEYS = 512, HEAD = 64, KV_HEADS = 3, STRIDE = HEAD * KV_HEADS, N_EMBD = 576, N_FF = 1536, BIG_ROWS = 16384 };

typedef struct others {
    const pith_kernels *k;
    float *x, *y, *z, *w32, *scratch;
    uint16_t *w16;
    int8_t *w8;
    pith_q8 a;
} others;

static void run_f32_vec(void *arg) { others *o = arg; o->k->f32_vec(o->w32, 0, BIG_ROWS, N_EMBD, o->x, o->y); }
static void run_f16_vec(void *arg) { others *o = arg; o->k->f16_vec(o->w16, 0, BIG_ROWS, N_EMBD, o->x, o->y); }
static void run_bf16_vec(void *arg) { others *o = arg; o->k->bf16_vec(o->w16, 0, BIG_ROWS, N_EMBD, o->x, o->y); }
static void run_rmsnorm(void *arg) { others *o = arg; o->k->rmsnorm(o->y, o->x, o->z, N_EMBD, 1e-5f); }
static void run_silu(void *arg) { others *o = arg; o->k->silu_mul(o->y, o->x, o->z, N_FF); }
static void run_softmax(void *arg)
{
    others *o = arg;
    memcpy(o->y, o->x, N_KEYS * sizeof *o->y);
    o->k->softmax(o->y, N_KEYS, 0.125f);
}
static void run_rope(void *arg) { others *o = arg; o->k->rope(o->y, o->z, o->z, HEAD, false); }
static void run_q8(void *arg) { others *o = arg; o->k->q8_rows(&o->a, 0, 1, o->x, N_EMBD, N_EMBD); }
static void run_attend_f32(void *arg) { others *o = arg; o->k->attend_heads_f32(o->x, 1, o->w32, o->w32 + N_KEYS * STRIDE, STRIDE, N_KEYS, HEAD, 0.125f, o->scratch, o->y); }
static void run_attend_f16(void *arg) { others *o = arg; o->k->attend_heads_f16(o->x, 1, o->w16, o->w16 + N_KEYS * STRIDE, STRIDE, N_KEYS, HEAD, 0.125f, o->scratch, o->y); }
static void run_attend_q8(void *arg) { others *o = arg; o->k->attend_heads_q8(o->x, 1, o->w8, o->z, o->w8 + N_KEYS * STRIDE, o->z, STRIDE, N_KEYS, HEAD, 0.125f, o->scratch, o->y); }

static void run_pair_f16(void *arg) { others *o = arg; o->k->attend_heads_f16(o->x, 2, o->w16, o->w16 + N_KEYS * STRIDE, STRIDE, N_KEYS, HEAD, 0.125f, o->scratch, o->y); }
static void run_heads_f16(void *arg) { others *o = arg; o->k->attend_heads_f16(o->x, 3, o->w16, o->w16 + N_KEYS * STRIDE, STRIDE, N_KEYS, HEAD, 0.125f, o->scratch, o->y); }
static void run_heads_q8(void *arg) { others *o = arg; o->k->attend_heads_q8(o->x, 3, o->w8, o->z, o->w8 + N_KEYS * STRIDE, o->z, STRIDE, N_KEYS, HEAD, 0.125f, o->scratch, o->y); }

static void bench_others(pith_ctx *ctx, const pith_kernels *k, double read_gbs)
{
    size_t n = (size_t)BIG_ROWS * N_EMBD;
    others o = {.k = k, .x = pith_array(ctx, 4096, 4), .y = pith_array(ctx, BIG_ROWS, 4), .z = pith_array(ctx, 4096, 4), .w32 = pith_array(ctx, n, 4),
                .scratch = pith_array(ctx, 65536, 4), .w16 = pith_array(ctx, n, 2), .w8 = pith_array(ctx, n, 1)};
    void *memory = pith_alloc(ctx, pith_q8_bytes(1, N_EMBD));
    if (!o.x || !o.y || !o.z || !o.w32 || !o.scratch || !o.w16 || !o.w8 || !memory) exit(1);
    for (size_t i = 0; i < 4096; i++) o.x[i] = sinf((float)i), o.z[i] = cosf((float)i);
    for (size_t i = 0; i < BIG_ROWS; i++) o.y[i] = 1;
    for (size_t i = 0; i < n; i++) o.w32[i] = (float)(i % 251) * 0.01f - 1, o.w16[i] = pith_f32_to_f16(o.w32[i]), o.w8[i] = (int8_t)(i % 251 - 125);
    pith_q8_init(&o.a, 1, N_EMBD, memory);
    static const struct { const char *name; void (*run)(void *); size_t bytes; } matrices[] = {
        {"f32_vec", run_f32_vec, 4}, {"f16_vec", run_f16_vec, 2}, {"bf16_vec", run_bf16_vec, 2}};
    for (size_t i = 0; i < PITH_COUNT(matrices); i++) {
        if (!wanted(matrices[i].name)) continue;
        double gbs = (double)(n * matrices[i].bytes) / best_time(matrices[i].run, &o) / 1e9;
        printf("%-26s %8.2f GB/s  %5.1f%% of reading\n", matrices[i].name, gbs, 100 * gbs / read_gbs);
    }
    static const struct { const char *name; void (*run)(void *); } small[] = {
        {"rmsnorm 576", run_rmsnorm}, {"silu_mul 1536", run_silu}, {"softmax 512", run_softmax}, {"rope 64", run_rope}, {"q8_rows 576", run_q8},
        {"attend_heads_f32 x1", run_attend_f32}, {"attend_heads_f16 x1", run_attend_f16}, {"attend_heads_q8 x1", run_attend_q8},
        {"attend_heads_f16 x2", run_pair_f16}, {"attend_heads_f16 x3", run_heads_f16}, {"attend_heads_q8 x3", run_heads_q8}};
    for (size_t i = 0; i < PITH_COUNT(small); i++)
        if (wanted(small[i].name)) printf("%-26s %8.0f ns\n", small[i].name, best_time(small[i].run, &o) * 1e9);
    pith_free(ctx, o.x), pith_free(ctx, o.y), pith_free(ctx, o.z), pith_free(ctx, o.w32);
    pith_free(ctx, o.scratch), pith_free(ctx, o.w16), pith_free(ctx, o.w8), pith_free(ctx, memory);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        char *end;
        errno = 0;
        seconds = strtod(argv[1], &end);
        if (errno || *end || !(seconds > 0)) {
            fprintf(stderr, "usage: %s [SECONDS] [WORD...]\n", argv[0]);
            return 2;
        }
        n_words = argc - 2;
        words = argv + 2;
    }
    pith_ctx *ctx = NULL;
    if (pith_ctx_new(NULL, &ctx) != PITH_OK) {
        fprintf(stderr, "no context: is PITH_CPU one that this processor has?\n");
        return 1;
    }
    const pith_cpu *cpu = pith_ctx_cpu(ctx);
    const pith_kernels *k = pith_kernels_for(cpu);
    printf("%s, %s\n", cpu->name, k->name);
    machine m;
    CHECK(ctx, machine_find(ctx, &m));
    span s = {.len = (size_t)64 << 20};
    uint8_t *memory = pith_alloc(ctx, s.len);
    if (!memory) return 1;
    memset(memory, 1, s.len);
    s.data = memory;
    double peak = m.dot8 ? m.dot8_macs / best_time(m.dot8, NULL) / 1e9 : NAN, t = fmin(best_time(read_plain, &s), best_time(m.read, &s));
    double read_gbs = (double)s.len / t / 1e9;
    printf("%-26s %8.2f GB/s\n%-26s %8.1f GMAC/s\n", "reading 64 MiB", read_gbs, "byte dot products", peak);
    pith_free(ctx, memory);
    bench_products(ctx, k, read_gbs, peak);
    bench_others(ctx, k, read_gbs);
    pith_ctx_free(ctx);
    return 0;
}
