/* Speed and size of the entropy coder, beside htscodecs' 32-way rANS on the same data in the same run.
 *   bench_rans [FILE ...]     each FILE is read as one byte a symbol; without, only made data
 * Rates are the best of several runs on one core, in millions of symbols a second. */
#include <math.h>
#include <stdlib.h>

#include "stage/code/rans.h"
#ifdef HAVE_HTSCODECS
#include <htscodecs/rANS_static4x16.h>
#endif

#define RUNS 15

typedef struct data {
    const char *name;
    pith_rans_kind kind;
    uint8_t *symbols, *contexts;
    size_t n;
} data;

static const struct { pith_isa isa; const char *name; } isas[] = {{PITH_ISA_SCALAR, "scalar"}, {PITH_ISA_AVX2, "avx2"}, {PITH_ISA_AVX512, "avx512"}};

static void fail(const char *what)
{
    fprintf(stderr, "bench_rans: %s\n", what);
    exit(1);
}

static void row(const char *data_name, const char *coder, size_t n, double entropy_bits, size_t len, double encode_s, double decode_s)
{
    printf("%-22s %-10s %8.4f bits/symbol  %+7.3f %%  encode %6.0f M/s  decode %6.0f M/s\n", data_name, coder, 8.0 * (double)len / (double)n,
           entropy_bits > 0 ? 100 * (8.0 * (double)len / entropy_bits - 1) : 0.0, (double)n / encode_s * 1e-6, (double)n / decode_s * 1e-6);
}

/* bits of an ideal coder that knows the counts */
static double entropy(const uint64_t counts[256], int group)
{
    double bits = 0;
    for (int c = 0; c < 256; c += group) {
        double sum = 0;
        for (int s = c; s < c + group; s++) sum += (double)counts[s];
        for (int s = c; s < c + group; s++)
            if (counts[s]) bits += (double)counts[s] * log2(sum / (double)counts[s]);
    }
    return bits;
}

static void bench(const pith_cpu *cpu, const data *d)
{
    uint64_t counts[256] = {0};
    pith_rans_model model;
    static pith_rans_encoder encoder;
    static pith_rans_decoder decoder;
    pith_rans_count(d->symbols, d->contexts, d->n, counts);
    if (pith_rans_model_fit(d->kind, PITH_RANS_CONTEXTS, counts, &model) != PITH_OK) fail("no model");
    double bits = entropy(counts, d->contexts ? 4 : 256);
    uint8_t model_bytes[PITH_RANS_MODEL_BYTES];
    size_t model_len = 0;
    if (pith_rans_model_write(&model, model_bytes, sizeof model_bytes, &model_len) != PITH_OK) fail("no model bytes");
    double t0 = pith_now_s();
    for (int i = 0; i < 100; i++) pith_rans_model_fit(d->kind, PITH_RANS_CONTEXTS, counts, &model);
    double t1 = pith_now_s();
    for (int i = 0; i < 100; i++) pith_rans_encoder_init(&encoder, &model);
    double t2 = pith_now_s();
    for (int i = 0; i < 100; i++) pith_rans_decoder_init(&decoder, &model);
    double t3 = pith_now_s();
    printf("%s: %zu symbols, entropy %.4f, model %+.3f %% in %zu bytes; fit %.1f us, encoder %.1f us, decoder %.1f us\n", d->name, d->n,
           bits / (double)d->n, 100 * (pith_rans_model_bits(&model, counts) / bits - 1), model_len, (t1 - t0) * 1e4, (t2 - t1) * 1e4, (t3 - t2) * 1e4);

    size_t cap = pith_rans_bound(d->n);
    uint8_t *stream = malloc(cap), *back = malloc(d->n);
    if (!stream || !back) fail("out of memory");
    pith_rans_segment segment = {&encoder, d->symbols, d->contexts, d->n};
    for (size_t k = 0; k < PITH_COUNT(isas); k++) {
        if ((isas[k].isa == PITH_ISA_AVX2 && !cpu->avx2) || (isas[k].isa == PITH_ISA_AVX512 && !cpu->avx512)) continue;
        double encode_s = 1e9, decode_s = 1e9;
        size_t len = 0;
        for (int run = 0; run < RUNS; run++) {
            double t = pith_now_s();
            if (pith_rans_encode(isas[k].isa, &segment, 1, stream, cap, &len) != PITH_OK) fail("encode");
            encode_s = fmin(encode_s, pith_now_s() - t);
            memset(back, 255, d->n);
            t = pith_now_s();
            pith_rans_reader reader;
            if (pith_rans_read_begin(&reader, isas[k].isa, stream, len) != PITH_OK ||
                pith_rans_read(&reader, &decoder, d->contexts, back, d->n) != PITH_OK || pith_rans_read_end(&reader) != PITH_OK) fail("decode");
            decode_s = fmin(decode_s, pith_now_s() - t);
            if (memcmp(back, d->symbols, d->n) != 0) fail("decoded symbols differ");
        }
        row(d->name, isas[k].name, d->n, bits, len + model_len, encode_s, decode_s);
    }
#ifdef HAVE_HTSCODECS
    static const struct { int flags; const char *name; } peers[] = {
        {RANS_CPU_ENC_AVX2 | RANS_CPU_DEC_AVX2, "hts avx2"}, {RANS_CPU_ENC_AVX512 | RANS_CPU_DEC_AVX512, "hts avx512"}};
    for (size_t k = 0; k < PITH_COUNT(peers); k++) {
        if ((k == 0 && !cpu->avx2) || (k == 1 && !cpu->avx512)) continue;
        rans_set_cpu(peers[k].flags);
        unsigned peer_cap = rans_compress_bound_4x16((unsigned)d->n, RANS_ORDER_X32), len = 0;
        uint8_t *peer = malloc(peer_cap);
        if (!peer) fail("out of memory");
        double encode_s = 1e9, decode_s = 1e9;
        for (int run = 0; run < RUNS; run++) {
            len = peer_cap;
            double t = pith_now_s();
            if (!rans_compress_to_4x16(d->symbols, (unsigned)d->n, peer, &len, RANS_ORDER_X32)) fail("htscodecs encode");
            encode_s = fmin(encode_s, pith_now_s() - t);
            unsigned n = (unsigned)d->n;
            t = pith_now_s();
            if (!rans_uncompress_to_4x16(peer, len, back, &n)) fail("htscodecs decode");
            decode_s = fmin(decode_s, pith_now_s() - t);
            if (n != d->n || memcmp(back, d->symbols, d->n) != 0) fail("htscodecs: decoded symbols differ");
        }
        row(d->name, peers[k].name, d->n, bits, len, encode_s, decode_s);
        free(peer);
    }
#endif
    free(stream);
    free(back);
}

/* normal values of a deviation in steps, rounded, in 0..n_symbols-1 */
static void fill_normal(data *d, float deviation, int n_symbols)
{
    pith_rng rng = {.seed = 1, .stream = (uint64_t)n_symbols};
    for (size_t i = 0; i < d->n; i++) {
        float v = roundf(pith_rng_normal(&rng) * deviation + (float)(n_symbols / 2));
        d->symbols[i] = (uint8_t)fminf(fmaxf(v, 0), (float)(n_symbols - 1));
    }
}

/* refinement as an embedded quantizer does it: contexts with their own probability */
static void fill_contexts(data *d, int n_symbols)
{
    pith_rng rng = {.seed = 2, .stream = (uint64_t)n_symbols};
    for (size_t i = 0; i < d->n; i++) {
        d->contexts[i] = (uint8_t)pith_rng_below(&rng, PITH_RANS_CONTEXTS);
        float p = 0.3f + 0.6f * (float)d->contexts[i] / PITH_RANS_CONTEXTS, u = pith_rng_uniform(&rng);
        d->symbols[i] = (uint8_t)(u < p ? 0 : n_symbols == 2 || u < p + 0.6f * (1 - p) ? 1 : 2);
    }
}

int main(int argc, char **argv)
{
    pith_ctx *ctx = NULL;
    if (pith_ctx_new(NULL, &ctx) != PITH_OK) fail("no context");
    const pith_cpu *cpu = pith_ctx_cpu(ctx);
    printf("%s\n", cpu->name);
    data d = {.n = (size_t)1 << 21};
    d.symbols = malloc(d.n);
    d.contexts = malloc(d.n);
    if (!d.symbols || !d.contexts) fail("out of memory");
    uint8_t *contexts = d.contexts;

    d.kind = PITH_RANS_SYMBOLS, d.contexts = NULL;
    d.name = "normal, 16 symbols", fill_normal(&d, 2.4f, 16), bench(cpu, &d);
    d.name = "normal, 64 symbols", fill_normal(&d, 4.0f, 64), bench(cpu, &d);
    d.name = "normal, 256 symbols", fill_normal(&d, 28.0f, 256), bench(cpu, &d);
    d.contexts = contexts;
    d.kind = PITH_RANS_BINARY, d.name = "binary, 64 contexts", fill_contexts(&d, 2), bench(cpu, &d);
    d.kind = PITH_RANS_TERNARY, d.name = "ternary, 64 contexts", fill_contexts(&d, 3), bench(cpu, &d);
    free(d.symbols);
    free(contexts);

    for (int i = 1; i < argc; i++) {
        pith_map map;
        if (pith_map_open(ctx, argv[i], &map) != PITH_OK) fail(pith_error(ctx));
        const char *slash = strrchr(argv[i], '/');
        data f = {.name = slash ? slash + 1 : argv[i], .kind = PITH_RANS_SYMBOLS, .n = map.len};
        f.symbols = malloc(map.len);
        if (!f.symbols) fail("out of memory");
        memcpy(f.symbols, map.data, map.len);
        bench(cpu, &f);
        free(f.symbols);
        pith_map_close(ctx, &map);
    }
    pith_ctx_free(ctx);
    return 0;
}
