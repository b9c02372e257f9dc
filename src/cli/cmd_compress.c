/* pith compress: a model file in, a .pith out. */
#include <math.h>
#include <sys/stat.h>

#include "cli/cut_options.h"
#include "stream/weights/lossless.h"

typedef struct compress_args {
    const char *model, *output, *text;
    cut_args cut;
    int64_t seed;
    int exact;
    bool no_measure, lossless;
} compress_args;

static const pith_positional positionals[] = {
    {"MODEL", PITH_ARG_FILE, offsetof(compress_args, model), false, "a GGUF or safetensors file, or a model folder; with --lossless any file or folder"},
    {0},
};

static const pith_arg options[] = {
    {"output", 'o', PITH_ARG_FILE, "FILE", offsetof(compress_args, output), .help = "where to write; by default beside the model, with .pith for its ending"},
    CUT_OPTIONS(compress_args, cut),
    {"calibration", 'c', PITH_ARG_FILE, "FILE", offsetof(compress_args, text), .help = "text to learn from, of the kind that the model will see; by default the model writes its own"},
    {"exact", 0, PITH_ARG_CHOICE, "WHEN", offsetof(compress_args, exact), .choices = "if-smaller|always|never", .fallback = "if-smaller", .help = "a last layer with the exact values of a source that is itself quantised (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0): if the whole file is then smaller than the source, always, or never"},
    {"seed", 0, PITH_ARG_INT, "N", offsetof(compress_args, seed), .fallback = "0", .min = 0, .max = 9e15, .help = "of the calibration"},
    {"lossless", 0, PITH_ARG_FLAG, NULL, offsetof(compress_args, lossless), .help = "keep every bit: any file or folder, model or not, of which \"pith convert\" makes the same again. The result runs, but cannot be cut"},
    {"no-measure", 0, PITH_ARG_FLAG, NULL, offsetof(compress_args, no_measure), .help = "do not run the result (then --quality cannot be used on it)"},
    {0},
};

static const pith_example examples[] = {
    {"pith compress model.gguf", "write model.pith, which can be cut to any size"},
    {"pith compress model.gguf --size 60MB -o small.pith", "at most 60,000,000 bytes"},
    {"pith compress --lossless MiniLM/ -o MiniLM.pith", "every bit of all files in a folder"},
    {"pith compress model.gguf --quality kl=0.05", "the smallest that is within 0.05 nats a token of the source"},
    {0},
};

/* Beside the model: .pith for its ending, or, of what is kept to the bit, behind its name, since any two files may differ in their endings
 * alone.  A folder's dots are no ending's. */
static char *default_output(pith_ctx *ctx, const char *model, bool lossless)
{
    size_t len = strlen(model);
    struct stat st;
    bool whole_name = lossless || (stat(model, &st) == 0 && S_ISDIR(st.st_mode));
    while (len > 1 && model[len - 1] == '/') len--;
    const char *slash = memrchr(model, '/', len), *dot = memrchr(model, '.', len);
    if (!whole_name && dot && dot > (slash ? slash : model)) len = (size_t)(dot - model);
    char *name = pith_alloc(ctx, len + 6);
    if (!name) return NULL;
    memcpy(name, model, len);
    memcpy(name + len, ".pith", 6);
    return name;
}

static void print_json(pith_cli *cli, const char *output, const pith_compress_result *r)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "output", output);
    pith_json_number(j, "source_bytes", (double)r->source_bytes);
    pith_json_number(j, "file_bytes", (double)r->file_bytes);
    pith_json_number(j, "whole_bytes", (double)r->total_bytes);
    pith_json_number(j, "smallest_cut_bytes", (double)r->floor_bytes);
    pith_json_number(j, "exact_bytes", r->exact_bytes ? (double)r->exact_bytes : NAN);
    pith_json_number(j, "bits_per_weight", r->bits_per_weight);
    pith_json_number(j, "n_weights", (double)r->n_weights);
    pith_json_number(j, "n_tensors", (double)r->n_tensors);
    pith_json_number(j, "n_packets", (double)r->n_packets);
    pith_json_number(j, "calibrate_seconds", r->calibrate_s);
    pith_json_number(j, "code_seconds", r->code_s);
    pith_json_number(j, "measure_seconds", r->measure_s);
    cJSON *rows = cJSON_AddArrayToObject(j, "measured");
    for (size_t i = 0; i < r->n_measured && rows; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToArray(rows, row);
        pith_json_number(row, "bytes", (double)r->measured[i].bytes);
        pith_json_number(row, "kl_mean", r->measured[i].kl);
        pith_json_number(row, "kl_predicted", r->measured[i].predicted_kl);
    }
    pith_json_print(cli, j);
}

static void print_text(const char *output, const pith_compress_result *r)
{
    printf("%s   %s, %.3f bits per weight (source: %s)\n", output, pith_text_bytes(r->file_bytes).s, r->bits_per_weight, pith_text_bytes(r->source_bytes).s);
    printf("made of           %zu matrices in %zu packets; can be cut down to %s\n", r->n_tensors, r->n_packets, pith_text_bytes(r->floor_bytes).s);
    printf("time              %s to calibrate, %s to code, %s to measure\n", pith_text_duration(r->calibrate_s).s, pith_text_duration(r->code_s).s,
           pith_text_duration(r->measure_s).s);
    if (r->exact_bytes && r->exact_bytes <= r->file_bytes) printf("exact             the first %s hold the source's very values\n", pith_text_bytes(r->exact_bytes).s);
    if (r->n_measured) printf("\n%12s %18s\n", "cut at", "KL to the source");
    for (size_t i = 0; i < r->n_measured; i++) printf("%12s %18.4f\n", pith_text_bytes(r->measured[i].bytes).s, r->measured[i].kl);
}

/* ---- to the bit ------------------------------------------------------------------------------- */

static const char *type_name(uint32_t dtype) { return dtype ? pith_dtype_get(dtype - 1)->name : "other"; }
static double percent(uint64_t part, uint64_t whole) { return whole ? 100 * (double)part / (double)whole : 100; }

static pith_status print_lossless_json(pith_cli *cli, const char *output, const pith_lossless_result *r)
{
    cJSON *j = cJSON_CreateObject(), *types = cJSON_AddArrayToObject(j, "types");
    cJSON_AddStringToObject(j, "output", output);
    pith_json_number(j, "source_bytes", (double)r->source_bytes);
    pith_json_number(j, "file_bytes", (double)r->file_bytes);
    pith_json_number(j, "n_files", (double)r->n_files);
    pith_json_number(j, "n_tensors", (double)r->n_tensors);
    pith_json_number(j, "seconds", r->seconds);
    for (size_t i = 0; i < r->n_types && types; i++) {
        cJSON *type = cJSON_CreateObject();
        cJSON_AddItemToArray(types, type);
        cJSON_AddStringToObject(type, "type", type_name(r->types[i].dtype));
        pith_json_number(type, "bytes", (double)r->types[i].bytes);
        pith_json_number(type, "coded_bytes", (double)r->types[i].coded);
    }
    return pith_json_print(cli, j);
}

static pith_status print_lossless(pith_cli *cli, const char *output, const pith_lossless_result *r)
{
    printf("%s   %s, %.2f%% of %s, to the bit\n", output, pith_text_bytes(r->file_bytes).s, percent(r->file_bytes, r->source_bytes), pith_text_bytes(r->source_bytes).s);
    printf("made of           %zu file%s, %zu tensors; every chunk was decoded and compared\n", r->n_files, r->n_files == 1 ? "" : "s", r->n_tensors);
    printf("time              %s, %s a second\n\n", pith_text_duration(r->seconds).s, pith_text_bytes((uint64_t)((double)r->source_bytes / PITH_MAX(r->seconds, 1e-9))).s);
    pith_table *t = pith_table_new(cli->ctx, "lrrr");
    if (!t) return PITH_E_MEMORY;
    pith_status status = pith_table_row(t, "type\tbytes\tbecame\tof it");
    for (size_t i = 0; i < r->n_types && status == PITH_OK; i++)
        status = pith_table_row(t, "%s\t%s\t%s\t%.2f%%", type_name(r->types[i].dtype), pith_text_bytes(r->types[i].bytes).s, pith_text_bytes(r->types[i].coded).s, percent(r->types[i].coded, r->types[i].bytes));
    if (status == PITH_OK) return pith_table_print(t, stdout);
    pith_table_free(t);
    return status;
}

static pith_status run_lossless(pith_cli *cli, const compress_args *a, const char *output)
{
    pith_lossless_result r;
    if (a->cut.size || a->cut.bits > 0 || a->cut.quality || a->text || a->exact || a->no_measure)
        return pith_cli_usage(cli, "--lossless keeps every bit: it takes no --size, --bits, --quality, --calibration, --exact or --no-measure");
    if (!strcmp(output, "-")) return pith_cli_usage(cli, "--lossless writes its header last, so it cannot go to a pipe; name a file with -o");
    PITH_TRY(pith_lossless_compress(cli->ctx, a->model, output, &r));
    pith_terminal_clear(cli->terminal);
    if (cli->globals.json) return print_lossless_json(cli, output, &r);
    return cli->globals.quiet ? PITH_OK : print_lossless(cli, output, &r);
}

static pith_status run(pith_cli *cli, void *args)
{
    const compress_args *a = args;
    if (a->lossless) {
        const char *slash = strrchr(a->model, '/'), *last = slash ? slash + 1 : a->model;
        if (!strcmp(a->model, "-")) return pith_cli_usage(cli, "--lossless takes files and folders by name, not a pipe");
        if (!a->output && (!strcmp(last, ".") || !strcmp(last, ".."))) return pith_cli_usage(cli, "name the output with -o");
        char *made = a->output ? NULL : default_output(cli->ctx, a->model, true);
        pith_status status = a->output || made ? run_lossless(cli, a, a->output ? a->output : made) : PITH_E_MEMORY;
        pith_free(cli->ctx, made);
        return status;
    }
    pith_compress_options o = {.text = a->text, .seed = (uint64_t)a->seed, .no_measure = a->no_measure, .exact = (pith_exact_layer)a->exact};
    pith_compress_result r;
    PITH_TRY(pith_cut_options(cli, &a->cut, &o));
    if (o.kl > 0 && a->no_measure) return pith_cli_usage(cli, "--quality needs the result to be measured: leave out --no-measure");
    char *made = a->output ? NULL : default_output(cli->ctx, a->model, false);
    const char *output = a->output ? a->output : made;
    pith_status status = output ? pith_compress(cli->ctx, a->model, output, &o, &r) : PITH_E_MEMORY;
    pith_terminal_clear(cli->terminal);
    if (status == PITH_OK && cli->globals.json) print_json(cli, output, &r);
    else if (status == PITH_OK) print_text(output, &r);
    pith_free(cli->ctx, made);
    return status;
}

const pith_command pith_command_compress = {
    .name = "compress",
    .summary = "make a model smaller: one file that can be cut to any size",
    .description = "Runs the model on some text to learn what matters in it, then stores every matrix as a coarse layer and refinements, in packets "
                   "ordered over the whole model by quality gained per byte. Any prefix of the result is a working model. Without --size, --bits or "
                   "--quality the file holds all layers; \"pith cut\" makes smaller ones of it in no time.\n\n"
                   "The result is measured against the source at several sizes, and the file remembers what was found.\n\n"
                   "With --lossless any file or folder is stored to the bit, its tensors by coders made for their types; every chunk is decoded and compared "
                   "before it is written. Names and contents are kept; times, permissions and empty folders are not, and links become what they lead to. Without -o "
                   ".pith is put behind the name.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(compress_args), .run = run,
};
