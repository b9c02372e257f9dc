/* pith plan: what compress would do, touching nothing. */
#include "cli/cut_options.h"

typedef struct plan_args {
    const char *model, *text;
    bool no_measure;
} plan_args;

static const pith_positional positionals[] = {
    {"MODEL", PITH_ARG_FILE, offsetof(plan_args, model), false, "a GGUF or safetensors file, or a model folder"},
    {0},
};

static const pith_arg options[] = {
    {"calibration", 'c', PITH_ARG_FILE, "FILE", offsetof(plan_args, text), .help = "as in compress"},
    {"no-measure", 0, PITH_ARG_FLAG, NULL, offsetof(plan_args, no_measure), .help = "as in compress"},
    {0},
};

static const pith_example examples[] = {
    {"pith plan model.gguf", "sizes, memory and time, and what happens to each tensor"},
    {0},
};

static pith_status print_json(pith_cli *cli, const pith_plan *p)
{
    cJSON *j = cJSON_CreateObject();
    pith_json_number(j, "source_bytes", (double)p->source_bytes);
    pith_json_number(j, "n_weights", (double)p->n_weights);
    pith_json_number(j, "smallest_cut_bytes", (double)p->floor_bytes);
    pith_json_number(j, "whole_bytes", (double)p->total_bytes);
    pith_json_number(j, "memory_bytes", (double)p->memory_bytes);
    pith_json_number(j, "seconds", p->seconds);
    cJSON *rows = cJSON_AddArrayToObject(j, "tensors");
    for (size_t i = 0; i < p->n_rows && rows; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToArray(rows, row);
        cJSON_AddStringToObject(row, "name", p->rows[i].name);
        pith_json_number(row, "rows", (double)p->rows[i].n_rows);
        pith_json_number(row, "cols", (double)p->rows[i].n_cols);
        cJSON_AddStringToObject(row, "source", p->rows[i].source);
        cJSON_AddStringToObject(row, "what", p->rows[i].what);
        pith_json_number(row, "source_bytes", (double)p->rows[i].source_bytes);
    }
    return pith_json_print(cli, j);
}

static void print_text(const pith_plan *p)
{
    printf("%-28s %14s %8s  %s\n", "tensor", "shape", "source", "what");
    for (size_t i = 0; i < p->n_rows; i++) {
        char shape[32];
        snprintf(shape, sizeof shape, "%zu x %zu", p->rows[i].n_rows, p->rows[i].n_cols);
        printf("%-28s %14s %8s  %s\n", p->rows[i].name, shape, p->rows[i].source, p->rows[i].what);
    }
    printf("\nsource            %s, %.1f M weights\n", pith_text_bytes(p->source_bytes).s, (double)p->n_weights * 1e-6);
    printf("result            about %s with all layers, cut anywhere down to about %s\n", pith_text_bytes(p->total_bytes).s, pith_text_bytes(p->floor_bytes).s);
    printf("memory            about %s\n", pith_text_bytes(p->memory_bytes).s);
    printf("time              about %s\n", pith_text_duration(p->seconds).s);
}

static pith_status run(pith_cli *cli, void *args)
{
    const plan_args *a = args;
    pith_compress_options o = {.text = a->text, .no_measure = a->no_measure};
    pith_plan plan;
    PITH_TRY(pith_plan_make(cli->ctx, a->model, &o, &plan));
    pith_terminal_clear(cli->terminal);
    pith_status status = PITH_OK;
    if (cli->globals.json) status = print_json(cli, &plan);
    else print_text(&plan);
    pith_plan_free(cli->ctx, &plan);
    return status;
}

const pith_command pith_command_plan = {
    .name = "plan",
    .summary = "say what compress would do: sizes, memory, time, each tensor",
    .description = "Reads the model's tables, runs it for a moment to learn its speed here, and writes nothing. Sizes are worked out from the rates at "
                   "which the coder's layers usually come out; the exact ones are known when the work is done.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(plan_args), .run = run,
};
