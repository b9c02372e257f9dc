/* Pith's side of bench/llama: runs a model as it is asked to, line by line.
 *     bench-model MODEL THREADS
 * A line of standard input is a command and its arguments between tabs; the answer is a line of JSON.
 *     info                     what the model and the machine are
 *     ids TEXT N OUT           the first N token ids of a text file, as int32
 *     logits IDS FROM N OUT    of ids FROM..FROM+N-1 in an empty context, as f32 [N, vocabulary]
 *     prefill N                seconds that N tokens at once take in an empty context
 *     decode N PAST            seconds that N tokens take one by one, PAST tokens before them
 *     machine                  bytes a second that the threads read of as much memory as the weights take;
 *                              multiply-adds a second of bytes and of f32 (0: not known)
 * Seconds are of the clock ("wall") and of all threads of this process ("cpu"). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "api/model.h"
#include "machine.h"
#include "times.h"

enum { MAX_ARGS = 5, SLICES = 64, PASSES = 3 };

typedef struct side {
    pith_ctx *ctx;
    pith_model *model;
    pith_cache *cache;
    float *logits;         /* [n_vocab] */
    size_t weight_bytes;   /* read for each token */
    uint8_t *memory;       /* as many bytes to read; NULL until asked */
} side;

static pith_status need(pith_ctx *ctx, bool ok, const char *what) { return ok ? PITH_OK : pith_fail(ctx, PITH_E_ARGUMENT, "%s", what); }

/* ---- the model -------------------------------------------------------------------------------- */

/* Some tokens; which they are does not matter to the time. */
static void some_ids(const side *s, int32_t *ids, size_t n, size_t first)
{
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)((first + i) * 7919 % s->model->llama->s.n_vocab);
}

/* n tokens at once after those in the cache. */
static pith_status run(side *s, size_t n)
{
    int32_t *ids = pith_array(s->ctx, n, sizeof *ids);
    if (!ids) return PITH_E_MEMORY;
    some_ids(s, ids, n, s->cache->n);
    pith_status status = pith_llama_forward(s->ctx, s->model->llama, s->cache, ids, n, 1, s->logits);
    pith_free(s->ctx, ids);
    return status;
}

static pith_status prefill(side *s, size_t n)
{
    s->cache->kind->truncate(s->cache, 0);
    times start = now();
    PITH_TRY(run(s, n));
    print_since(start);
    return PITH_OK;
}

static pith_status decode(side *s, size_t n, size_t past)
{
    if (s->cache->n < past) {
        s->cache->kind->truncate(s->cache, 0);
        PITH_TRY(run(s, past));
    }
    s->cache->kind->truncate(s->cache, past);
    times start = now();
    for (size_t i = 0; i < n; i++) PITH_TRY(run(s, 1));
    print_since(start);
    return PITH_OK;
}

static pith_status write_all(pith_ctx *ctx, const char *path, const void *data, size_t size, size_t n)
{
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(data, size, n, f) == n;
    if (f) ok = fclose(f) == 0 && ok;
    return ok ? PITH_OK : pith_fail(ctx, PITH_E_IO, "cannot write %s: %s", path, strerror(errno));
}

static pith_status ids_of_text(side *s, const char *path, size_t n, const char *out)
{
    /* no token is longer than this many bytes in prose */
    size_t len = n * 32, n_ids;
    char *text = pith_alloc(s->ctx, len);
    FILE *f = fopen(path, "rb");
    pith_status status = !text ? PITH_E_MEMORY : !f ? pith_fail(s->ctx, PITH_E_IO, "cannot read %s: %s", path, strerror(errno)) : PITH_OK;
    int32_t *ids = NULL;
    if (status == PITH_OK) status = pith_model_tokenize(s->model, text, fread(text, 1, len, f), &ids, &n_ids);
    if (status == PITH_OK) status = need(s->ctx, n_ids >= n, "the text has too few tokens");
    if (status == PITH_OK) status = write_all(s->ctx, out, ids, sizeof *ids, n);
    if (status == PITH_OK) printf("{\"ids\": %zu}\n", n);
    if (f) fclose(f);
    pith_free(s->ctx, text);
    pith_release(s->ctx, ids);
    return status;
}

static pith_status logits_of_ids(side *s, const char *path, size_t from, size_t n, const char *out)
{
    size_t n_vocab = s->model->llama->s.n_vocab;
    int32_t *ids = pith_array(s->ctx, n, sizeof *ids);
    float *logits = pith_array(s->ctx, n * n_vocab, sizeof *logits);
    pith_status status = ids && logits ? PITH_OK : PITH_E_MEMORY;
    FILE *f = fopen(path, "rb");
    if (status == PITH_OK) status = need(s->ctx, f && fseek(f, (long)(from * sizeof *ids), SEEK_SET) == 0 && fread(ids, sizeof *ids, n, f) == n, "cannot read the ids");
    if (f) fclose(f);
    s->cache->kind->truncate(s->cache, 0);
    if (status == PITH_OK) status = pith_llama_forward(s->ctx, s->model->llama, s->cache, ids, n, n, logits);
    if (status == PITH_OK) status = write_all(s->ctx, out, logits, sizeof *logits, n * n_vocab);
    if (status == PITH_OK) printf("{\"vocabulary\": %zu}\n", n_vocab);
    pith_free(s->ctx, logits);
    pith_free(s->ctx, ids);
    return status;
}

static size_t weights_in(const pith_operator *op) { return op->n_rows * op->n_cols; }

static void info(const side *s)
{
    const pith_llama *m = s->model->llama;
    size_t layers = 0;
    for (uint32_t i = 0; i < m->s.n_layers; i++) {
        const pith_llama_layer *l = &m->layers[i];
        layers += weights_in(l->q) + weights_in(l->k) + weights_in(l->v) + weights_in(l->o) + weights_in(l->gate) + weights_in(l->up) + weights_in(l->down);
    }
    printf("{\"version\": \"%s\", \"processor\": \"%s\", \"kernels\": \"%s\", \"weight_bytes\": %zu, \"cache_bytes\": %zu, \"layer_weights\": %zu, \"output_weights\": %zu}\n",
           pith_version(), pith_ctx_cpu(s->ctx)->name, pith_kernels_get(s->ctx)->name, s->weight_bytes, s->cache->kind->bytes(s->cache) / s->cache->capacity, layers,
           weights_in(m->output));
}

/* ---- the machine ------------------------------------------------------------------------------ */

typedef struct slices {
    void (*fn)(void *);
    const uint8_t *memory; /* NULL: nothing to read */
    size_t len;            /* bytes a slice */
} slices;

static void run_slice(void *arg, size_t i, int worker)
{
    (void)worker;
    const slices *s = arg;
    span part = {s->memory ? s->memory + i * s->len : NULL, s->len};
    s->fn(&part);
}

/* Best time of n slices over the threads. */
static double slices_time(side *s, slices job, size_t n)
{
    double best = INFINITY;
    for (int pass = 0; pass < PASSES; pass++) {
        double start = pith_now_s();
        pith_parallel(s->ctx, n, run_slice, &job);
        best = fmin(best, pith_now_s() - start);
    }
    return best;
}

static pith_status measure_machine(side *s)
{
    machine m;
    PITH_TRY(machine_find(s->ctx, &m));
    if (!s->memory) {
        s->memory = pith_alloc(s->ctx, s->weight_bytes);
        if (!s->memory) return PITH_E_MEMORY;
        memset(s->memory, 1, s->weight_bytes);
    }
    size_t len = s->weight_bytes / SLICES / 512 * 512, n = (size_t)pith_n_threads(s->ctx) * 8;
    double read = (double)(len * SLICES) / slices_time(s, (slices){m.read, s->memory, len}, SLICES);
    double dot8 = m.dot8 ? (double)n * m.dot8_macs / slices_time(s, (slices){m.dot8, NULL, 0}, n) : 0;
    double fma = m.fma ? (double)n * m.fma_macs / slices_time(s, (slices){m.fma, NULL, 0}, n) : 0;
    printf("{\"read\": %.0f, \"dot8\": %.0f, \"fma\": %.0f}\n", read, dot8, fma);
    return PITH_OK;
}

/* ---- commands --------------------------------------------------------------------------------- */

static bool whole_number(const char *s, size_t *n)
{
    char *end;
    errno = 0;
    unsigned long long x = strtoull(s, &end, 10);
    *n = (size_t)x;
    return !errno && end != s && !*end && x <= 1 << 20;
}

static pith_status answer(side *s, char **args, int n_args)
{
    size_t a, b;
    if (n_args == 1 && strcmp(args[0], "info") == 0) return info(s), PITH_OK;
    if (n_args == 1 && strcmp(args[0], "machine") == 0) return measure_machine(s);
    if (n_args == 2 && strcmp(args[0], "prefill") == 0 && whole_number(args[1], &a)) return prefill(s, a);
    if (n_args == 3 && strcmp(args[0], "decode") == 0 && whole_number(args[1], &a) && whole_number(args[2], &b)) return decode(s, a, b);
    if (n_args == 4 && strcmp(args[0], "ids") == 0 && whole_number(args[2], &a)) return ids_of_text(s, args[1], a, args[3]);
    if (n_args == 5 && strcmp(args[0], "logits") == 0 && whole_number(args[2], &a) && whole_number(args[3], &b)) return logits_of_ids(s, args[1], a, b, args[4]);
    return pith_fail(s->ctx, PITH_E_ARGUMENT, "unknown command: %s", args[0]);
}

static pith_status serve(side *s)
{
    char line[8192], *args[MAX_ARGS + 1];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        int n = 0;
        char *at = NULL;
        for (char *arg = strtok_r(line, "\t", &at); arg && n <= MAX_ARGS; arg = strtok_r(NULL, "\t", &at)) args[n++] = arg;
        PITH_TRY(need(s->ctx, n > 0, "an empty line"));
        PITH_TRY(answer(s, args, n));
        fflush(stdout);
    }
    return PITH_OK;
}

static pith_status open_side(side *s, const char *path)
{
    PITH_TRY(pith_model_open(s->ctx, path, NULL, &s->model));
    const pith_llama *m = s->model->llama;
    PITH_TRY(pith_llama_cache(s->ctx, m, PITH_CACHE_F16, 0, &s->cache));
    s->logits = pith_array(s->ctx, m->s.n_vocab, sizeof *s->logits);
    s->weight_bytes = m->ram_bytes - (m->output == m->embedding ? 0 : m->embedding->kind->bytes(m->embedding));
    return s->logits ? PITH_OK : PITH_E_MEMORY;
}

int main(int argc, char **argv)
{
    side s = {0};
    size_t threads;
    if (argc != 3 || !whole_number(argv[2], &threads) || threads > 1024) {
        fprintf(stderr, "usage: %s MODEL THREADS\n", argv[0]);
        return 2;
    }
    if (pith_ctx_new(&(pith_options){.n_threads = (int)threads}, &s.ctx) != PITH_OK) {
        fprintf(stderr, "%s: cannot start\n", argv[0]);
        return 1;
    }
    pith_status status = open_side(&s, argv[1]);
    if (status == PITH_OK) status = serve(&s);
    if (status != PITH_OK) fprintf(stderr, "%s: %s\n", argv[0], pith_error(s.ctx));
    pith_free(s.ctx, s.memory);
    pith_free(s.ctx, s.logits);
    pith_cache_free(s.ctx, s.cache);
    pith_model_free(s.model);
    pith_ctx_free(s.ctx);
    return status == PITH_OK ? 0 : 1;
}
