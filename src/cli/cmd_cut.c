/* pith cut: a smaller .pith from a larger one, without compressing anew. */
#include "cli/cut_options.h"

typedef struct cut_command_args {
    const char *file, *output;
    cut_args cut;
} cut_command_args;

static const pith_positional positionals[] = {
    {"FILE", PITH_ARG_FILE, offsetof(cut_command_args, file), false, "a .pith file; \"-\" is standard input"},
    {0},
};

static const pith_arg options[] = {
    {"output", 'o', PITH_ARG_FILE, "FILE", offsetof(cut_command_args, output), .help = "where to write; \"-\" is standard output"},
    CUT_OPTIONS(cut_command_args, cut),
    {0},
};

static const pith_example examples[] = {
    {"pith cut model.pith --size 60MB -o small.pith", "at most 60,000,000 bytes"},
    {"pith cut model.pith --quality kl=0.1 -o small.pith", "as small as a KL divergence of 0.1 allows"},
    {0},
};

static pith_status run(pith_cli *cli, void *args)
{
    const cut_command_args *a = args;
    pith_compress_options o = {0};
    uint64_t bytes;
    PITH_TRY(pith_cut_options(cli, &a->cut, &o));
    if (!a->output) return pith_cli_usage(cli, "--output is missing: where to write the smaller file");
    if (!o.size && o.bits <= 0 && o.kl <= 0) return pith_cli_usage(cli, "say how large: --size, --bits or --quality");
    double start = pith_now_s();
    PITH_TRY(pith_cut(cli->ctx, a->file, a->output, &o, &bytes));
    double took = pith_now_s() - start;
    if (strcmp(a->output, "-") == 0) return PITH_OK;
    if (cli->globals.json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "output", a->output);
        pith_json_number(j, "file_bytes", (double)bytes);
        pith_json_number(j, "seconds", took);
        return pith_json_print(cli, j);
    }
    if (!cli->globals.quiet) printf("%s   %s, in %s\n", a->output, pith_text_bytes(bytes).s, pith_text_duration(took).s);
    return PITH_OK;
}

const pith_command pith_command_cut = {
    .name = "cut",
    .summary = "make a smaller .pith of a larger one, in no time",
    .description = "Copies as many of the file's packets as fit. Nothing is decoded and nothing computed: a cut is the beginning of the file.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(cut_command_args), .run = run,
};
