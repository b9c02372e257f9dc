/* What a size costs in quality, and what that rests on:
 *     bench-quality [-s N] MODEL TEXT [MB ...]    (60 70 80 93; chunks of 512 tokens, the second half of each scored)
 * Mean KL (nats a token) to the model itself with its weights exactly as they are, of
 *     cut       one file of layers, compressed once, cut to the size
 *     direct    the model compressed for that size alone: one layer, with the steps that give the size
 *     rotated   cuts of one file made of the same function with its gains folded in and its residual stream rotated
 *               by a random orthogonal matrix, so that no weight lies on a grid
 * One rounding of the weights is by luck some percent better or worse than another of the same size, so the mean over N
 * calibrations (seeds 0 to N - 1; 1 if not given) is printed, and of cut over direct the standard deviation too.
 * Results go to standard output as a table, all single figures and the time of everything to standard error. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "eval/eval.h"
#include "recipe/compress.h"
#include "text/tokenizer.h"

enum { MAX_SIZES = 16, MAX_SEEDS = 100, CONTEXT = 512, CHUNKS = 16, MANIFEST = 700000 /* bytes, of a llama with some 50,000 tokens */ };

typedef struct study {
    pith_ctx *ctx;
    const char *model;
    pith_llama *reference;
    pith_ids ids;
    char path[512];
} study;

static void must(const study *s, pith_status status)
{
    if (status == PITH_OK) return;
    fprintf(stderr, "bench-quality: %s\n", pith_error(s->ctx));
    unlink(s->path);
    exit(1);
}

static double kl_at(study *s, uint64_t bytes)
{
    pith_weights *w;
    pith_llama *model;
    pith_eval_options o = {.context = CONTEXT};
    pith_eval_result r;
    must(s, pith_weights_open(s->ctx, s->path, &(pith_weights_options){.max_bytes = bytes}, &w));
    must(s, pith_llama_new(s->ctx, w, &model));
    pith_weights_free(s->ctx, w);
    must(s, pith_eval_text(s->ctx, model, s->reference, s->ids.ids, PITH_MIN(s->ids.n, (size_t)CONTEXT * CHUNKS), -1, &o, &r));
    pith_llama_free(s->ctx, model);
    return r.kl_mean;
}

static void compress(study *s, const pith_study *how, int seed)
{
    pith_compress_options o = {.no_measure = true, .seed = (uint64_t)seed};
    pith_compress_result r;
    double start = pith_now_s();
    must(s, pith_compress_study(s->ctx, s->model, s->path, &o, how, &r));
    fprintf(stderr, "compressed to %.2f MB in %.1f s\n", (double)r.total_bytes * 1e-6, pith_now_s() - start);
}

static void open_reference(study *s, const char *text)
{
    pith_weights *w;
    pith_tokenizer *tok;
    pith_map map;
    must(s, pith_weights_open(s->ctx, s->model, &(pith_weights_options){.exact = true}, &w));
    must(s, pith_llama_new(s->ctx, w, &s->reference));
    must(s, pith_tokenizer_new(s->ctx, w->vocab, &tok));
    must(s, pith_map_open(s->ctx, text, &map));
    must(s, pith_tokenize(s->ctx, tok, (const char *)map.data, map.len, PITH_TOKENIZE_PLAIN, &s->ids));
    pith_map_close(s->ctx, &map);
    pith_tokenizer_free(s->ctx, tok);
    pith_weights_free(s->ctx, w);
}

enum { CUT, DIRECT, ROTATED, N_COLUMNS };

/* kl[column][size] of one calibration. */
static void measure(study *s, int seed, const double *mb, size_t n, double kl[N_COLUMNS][MAX_SIZES])
{
    static const char *const names[] = {"cut", "direct", "rotated"};
    for (int column = 0; column < N_COLUMNS; column++) {
        if (column != DIRECT) compress(s, &(pith_study){.rotate = column == ROTATED}, seed);
        for (size_t i = 0; i < n; i++) {
            uint64_t bytes = (uint64_t)(mb[i] * 1e6);
            if (column == DIRECT) compress(s, &(pith_study){.single_bytes = bytes - MANIFEST}, seed);
            kl[column][i] = kl_at(s, bytes);
            fprintf(stderr, "seed %d, %s %.1f MB: %.4f\n", seed, names[column], mb[i], kl[column][i]);
        }
    }
}

static void add_seed(double kl[N_COLUMNS][MAX_SIZES], size_t n, double sum[N_COLUMNS][MAX_SIZES], double *ratio, double *square)
{
    for (size_t i = 0; i < n; i++) {
        double r = kl[CUT][i] / kl[DIRECT][i];
        for (int column = 0; column < N_COLUMNS; column++) sum[column][i] += kl[column][i];
        ratio[i] += r;
        square[i] += r * r;
    }
}

static void print_table(const double *mb, size_t n, int seeds, double sum[N_COLUMNS][MAX_SIZES], const double *ratio, const double *square)
{
    printf("%8s %10s %10s %12s %6s %10s\n", "MB", "cut", "direct", "cut/direct", "sd", "rotated");
    for (size_t i = 0; i < n; i++) {
        double mean = ratio[i] / seeds, deviation = sqrt(fmax(square[i] / seeds - mean * mean, 0) * seeds / fmax(seeds - 1, 1));
        printf("%8.1f %10.4f %10.4f %12.3f %6.3f %10.4f\n", mb[i], sum[CUT][i] / seeds, sum[DIRECT][i] / seeds, mean, deviation, sum[ROTATED][i] / seeds);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: bench-quality [-s SEEDS] MODEL TEXT [MB ...]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const double usual[] = {60, 70, 80, 93};
    double mb[MAX_SIZES], kl[N_COLUMNS][MAX_SIZES], sum[N_COLUMNS][MAX_SIZES] = {{0}}, ratio[MAX_SIZES] = {0}, square[MAX_SIZES] = {0};
    size_t n = 0;
    int seeds = 1;
    study s = {0};
    for (int c; (c = getopt(argc, argv, "s:")) != -1;) {
        if (c != 's' || (seeds = atoi(optarg)) < 1 || seeds > MAX_SEEDS) return usage();
    }
    if (argc - optind < 2 || argc - optind > 2 + MAX_SIZES) return usage();
    for (int i = optind + 2; i < argc; i++) {
        mb[n++] = strtod(argv[i], NULL);
        if (mb[n - 1] * 1e6 > 2 * MANIFEST) continue;
        fprintf(stderr, "bench-quality: %s: not a size in MB\n", argv[i]);
        return 2;
    }
    for (; argc == optind + 2 && n < PITH_COUNT(usual); n++) mb[n] = usual[n];
    if (pith_ctx_new(NULL, &s.ctx) != PITH_OK) return 1;
    s.model = argv[optind];
    const char *folder = getenv("TMPDIR");
    snprintf(s.path, sizeof s.path, "%s/bench-quality-%d.pith", folder && *folder ? folder : "/tmp", (int)getpid());
    open_reference(&s, argv[optind + 1]);
    for (int seed = 0; seed < seeds; seed++) {
        measure(&s, seed, mb, n, kl);
        add_seed(kl, n, sum, ratio, square);
    }
    unlink(s.path);
    print_table(mb, n, seeds, sum, ratio, square);
    pith_llama_free(s.ctx, s.reference);
    pith_ids_free(s.ctx, &s.ids);
    pith_ctx_free(s.ctx);
    return 0;
}
