/* pith bench: how fast a model runs here, and how much of the machine's memory bandwidth that is. */
#include <math.h>

#include "api/model.h"
#include "cli/cli.h"
#include "eval/eval.h"

typedef struct bench_args {
    const char *model;
    int64_t prompt, decode, runs;
    bool strict;
} bench_args;

static const pith_positional positionals[] = {
    {"MODEL", PITH_ARG_FILE, offsetof(bench_args, model), false, "the model to time"},
    {0},
};

static const pith_arg options[] = {
    {"prompt", 'p', PITH_ARG_INT, "N", offsetof(bench_args, prompt), .fallback = "512", .min = 1, .max = 1e6, .help = "tokens to read at once"},
    {"decode", 'n', PITH_ARG_INT, "N", offsetof(bench_args, decode), .fallback = "64", .min = 1, .max = 1e6, .help = "tokens to write one by one"},
    {"runs", 'r', PITH_ARG_INT, "N", offsetof(bench_args, runs), .fallback = "3", .min = 1, .max = 1000, .help = "measure N times and take the best"},
    {"strict", 0, PITH_ARG_FLAG, NULL, offsetof(bench_args, strict), .help = "a damaged .pith is an error"},
    {0},
};

static const pith_example examples[] = {
    {"pith bench model.pith", "with 1, 2, 4 threads and so on, up to the number of cores"},
    {"pith bench model.gguf --threads 4 --json", "with four threads only"},
    {0},
};

/* ---- memory bandwidth ------------------------------------------------------------------------- */

#define BUFFER_BYTES ((size_t)256 << 20) /* well above what caches hold */
#define SLICES 64

typedef struct reading {
    const pith_kernels *k;
    const float *data;
    size_t n;             /* values a slice */
    float sums[SLICES];
} reading;

static void read_slice(void *arg, size_t i, int worker)
{
    reading *r = arg;
    (void)worker;
    const float *half = r->data + i * r->n;
    r->sums[i] = r->k->dot(half, half + r->n / 2, r->n / 2); /* both halves are read once */
}

/* Bytes a second that all threads together read, the best of a few passes. */
static pith_status measure_bandwidth(pith_ctx *ctx, double *bytes_per_second)
{
    reading r = {.k = pith_kernels_get(ctx), .n = BUFFER_BYTES / sizeof(float) / SLICES};
    float *data = pith_alloc(ctx, BUFFER_BYTES);
    if (!data) return PITH_E_MEMORY;
    for (size_t i = 0; i < BUFFER_BYTES / sizeof *data; i++) data[i] = (float)(i & 1);
    r.data = data;
    double best = INFINITY;
    for (int pass = 0; pass < 5; pass++) {
        double start = pith_now_s();
        pith_parallel(ctx, SLICES, read_slice, &r);
        best = fmin(best, pith_now_s() - start);
    }
    float sum = 0;
    for (size_t i = 0; i < SLICES; i++) sum += r.sums[i];
    pith_free(ctx, data);
    if (sum < 1) return pith_fail(ctx, PITH_E_INTERNAL, "the memory test read zeros");
    *bytes_per_second = (double)BUFFER_BYTES / best;
    return PITH_OK;
}

/* ---- the model -------------------------------------------------------------------------------- */

typedef struct figures {
    int threads;
    double prefill_tps, decode_tps, bandwidth, load_s;
    size_t ram_bytes, file_bytes;
    double bits_per_weight;
} figures;

/* Everything with one number of threads, in a context of its own. */
static pith_status measure(pith_cli *cli, const bench_args *a, int threads, figures *f)
{
    pith_options context = cli->options;
    pith_ctx *ctx = NULL;
    pith_model *model = NULL;
    context.n_threads = threads;
    pith_status status = pith_ctx_new(&context, &ctx);
    if (status != PITH_OK) return pith_fail(cli->ctx, status, "cannot start %d threads", threads);
    *f = (figures){.threads = threads};
    PITH_GOTO(measure_bandwidth(ctx, &f->bandwidth), done);
    PITH_GOTO(pith_model_open(ctx, a->model, &(pith_model_options){.strict = a->strict}, &model), done);
    PITH_GOTO(pith_eval_speed(ctx, model->llama, (size_t)a->prompt, (size_t)a->decode, (int)a->runs, &f->prefill_tps, &f->decode_tps), done);
    pith_model_info info;
    pith_model_describe(model, &info);
    f->load_s = info.load_s;
    f->ram_bytes = (size_t)info.ram_bytes;
    f->file_bytes = (size_t)info.file_bytes;
    f->bits_per_weight = info.bits_per_weight;
done:
    if (status != PITH_OK) pith_fail(cli->ctx, status, "%s", pith_error(ctx));
    pith_model_free(model);
    pith_ctx_free(ctx);
    return status;
}

/* Each token reads all weights once (of the embedding table one row, but it is the output matrix too when
 * tied), so this share of the bandwidth is how near decoding is to the limit that memory sets. */
static double share(const figures *f) { return f->bandwidth > 0 ? f->decode_tps * (double)f->ram_bytes / f->bandwidth : 0; }

static pith_status print_results(pith_cli *cli, const bench_args *a, const figures *f, size_t n)
{
    const pith_cpu *cpu = pith_ctx_cpu(cli->ctx);
    if (cli->globals.json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "model", a->model);
        cJSON_AddStringToObject(j, "processor", cpu->name);
        cJSON_AddStringToObject(j, "kernels", pith_kernels_get(cli->ctx)->name);
        pith_json_number(j, "file_bytes", (double)f->file_bytes);
        pith_json_number(j, "ram_bytes", (double)f->ram_bytes);
        pith_json_number(j, "bits_per_weight", f->bits_per_weight);
        pith_json_number(j, "prompt_tokens", (double)a->prompt);
        pith_json_number(j, "decode_tokens", (double)a->decode);
        cJSON *runs = cJSON_AddArrayToObject(j, "threads");
        for (size_t i = 0; i < n; i++) {
            cJSON *r = cJSON_CreateObject();
            cJSON_AddItemToArray(runs, r);
            pith_json_number(r, "threads", f[i].threads);
            pith_json_number(r, "prefill_tokens_per_second", f[i].prefill_tps);
            pith_json_number(r, "decode_tokens_per_second", f[i].decode_tps);
            pith_json_number(r, "memory_bytes_per_second", f[i].bandwidth);
            pith_json_number(r, "share_of_bandwidth", share(&f[i]));
            pith_json_number(r, "load_seconds", f[i].load_s);
        }
        return pith_json_print(cli, j);
    }
    printf("%s: %s in the file (%.3f bits per weight), %s in memory\n%s, kernels %s\n\n", a->model, pith_text_bytes(f->file_bytes).s, f->bits_per_weight,
           pith_text_bytes(f->ram_bytes).s, cpu->name, pith_kernels_get(cli->ctx)->name);
    pith_table *t = pith_table_new(cli->ctx, "rrrrrr");
    if (!t) return PITH_E_MEMORY;
    pith_status status = pith_table_row(t, "threads\tread %lld tokens\twrite %lld tokens\tmemory\tof it used\tload", (long long)a->prompt, (long long)a->decode);
    for (size_t i = 0; i < n && status == PITH_OK; i++)
        status = pith_table_row(t, "%d\t%.0f/s\t%.1f/s\t%.1f GB/s\t%.0f%%\t%s", f[i].threads, f[i].prefill_tps, f[i].decode_tps, f[i].bandwidth / 1e9,
                                100 * share(&f[i]), pith_text_duration(f[i].load_s).s);
    if (status == PITH_OK) return pith_table_print(t, stdout);
    pith_table_free(t);
    return status;
}

static pith_status run(pith_cli *cli, void *args)
{
    const bench_args *a = args;
    figures f[16];
    size_t n = 0;
    if (strcmp(a->model, "-") == 0) return pith_cli_usage(cli, "the model is loaded once for each number of threads: it must be a file");
    int n_cores = pith_ctx_cpu(cli->ctx)->n_cores;
    if (cli->globals.threads) {
        PITH_TRY(measure(cli, a, (int)cli->globals.threads, &f[n++]));
    } else {
        for (int t = 1; t < n_cores && n + 1 < PITH_COUNT(f); t *= 2) PITH_TRY(measure(cli, a, t, &f[n++]));
        PITH_TRY(measure(cli, a, n_cores, &f[n++]));
    }
    return print_results(cli, a, f, n);
}

const pith_command pith_command_bench = {
    .name = "bench",
    .summary = "time a model: reading a prompt, writing tokens, share of the memory bandwidth",
    .description = "Times reading a prompt at once and writing tokens one by one, with 1, 2, 4 threads and so on up to the number of cores, or with --threads "
                   "only. Before each it measures how fast as many threads read memory; writing a token reads all weights "
                   "once, so the share of that speed tells how near to the machine's limit it is (above 100%: weights in the cache).",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(bench_args), .run = run,
};
