/* pith eval: how well a model predicts a text, and how far it is from another. */
#include "api/model.h"
#include "cli/cli.h"
#include "eval/eval.h"

typedef struct eval_args {
    const char *model, *text, *reference;
    int64_t context, chunks;
    bool all_tokens, strict, no_speed;
} eval_args;

static const pith_positional positionals[] = {
    {"MODEL", PITH_ARG_FILE, offsetof(eval_args, model), false, "the model to measure"},
    {0},
};

static const pith_arg options[] = {
    {"text", 'f', PITH_ARG_FILE, "FILE", offsetof(eval_args, text), .help = "the text to predict; \"-\" is standard input"},
    {"reference", 'r', PITH_ARG_FILE, "MODEL", offsetof(eval_args, reference),
     .help = "also measure the distance to this model, whose weights are taken exactly as they are in its file"},
    {"context", 'c', PITH_ARG_INT, "N", offsetof(eval_args, context), .fallback = "512", .min = 2, .max = 1e6, .help = "tokens a chunk"},
    {"chunks", 'n', PITH_ARG_INT, "N", offsetof(eval_args, chunks), .fallback = "0", .min = 0, .max = 1e9, .help = "use the first N chunks; 0: all"},
    {"all-tokens", 0, PITH_ARG_FLAG, NULL, offsetof(eval_args, all_tokens),
     .help = "score every token of a chunk but the first; else the second half, as llama.cpp does"},
    {"no-speed", 0, PITH_ARG_FLAG, NULL, offsetof(eval_args, no_speed), .help = "do not measure the speed of decoding"},
    {"strict", 0, PITH_ARG_FLAG, NULL, offsetof(eval_args, strict), .help = "a damaged .pith is an error"},
    {0},
};

static const pith_example examples[] = {
    {"pith eval model.pith --text valid.txt", "perplexity"},
    {"pith eval small.pith --text valid.txt --reference model.gguf --chunks 16 --json", "what compression cost, for a program to read"},
    {0},
};

static pith_status print_json(pith_cli *cli, const eval_args *a, const pith_model_info *info, const pith_measure *m, double decode_tps)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "model", a->model);
    pith_json_number(j, "perplexity", m->perplexity);
    pith_json_number(j, "perplexity_stderr", m->perplexity_stderr);
    if (m->has_reference) {
        cJSON_AddStringToObject(j, "reference", a->reference);
        pith_json_number(j, "reference_perplexity", m->reference_perplexity);
        pith_json_number(j, "kl_mean", m->kl_mean);
        pith_json_number(j, "kl_stderr", m->kl_stderr);
        pith_json_number(j, "kl_p99", m->kl_p99);
        pith_json_number(j, "top1_agreement", m->top1_agreement);
    }
    pith_json_number(j, "bits_per_weight", info->bits_per_weight);
    pith_json_number(j, "file_bytes", (double)info->file_bytes);
    pith_json_number(j, "ram_bytes", (double)info->ram_bytes);
    pith_json_number(j, "load_seconds", info->load_s);
    pith_json_number(j, "prefill_tokens_per_second", m->prefill_tokens_per_second);
    if (!a->no_speed) pith_json_number(j, "decode_tokens_per_second", decode_tps);
    pith_json_number(j, "context", (double)a->context);
    pith_json_number(j, "n_chunks", (double)m->n_chunks);
    pith_json_number(j, "n_scored", (double)m->n_scored);
    cJSON_AddStringToObject(j, "scored", a->all_tokens ? "all tokens" : "second half of each chunk");
    pith_json_number(j, "threads", pith_n_threads(cli->ctx));
    return pith_json_print(cli, j);
}

static void print_text(pith_cli *cli, const eval_args *a, const pith_model_info *info, const pith_measure *m, double decode_tps)
{
    printf("perplexity        %.4f ± %.4f   (%zu chunks of %lld tokens, %zu scored)\n", m->perplexity, m->perplexity_stderr, m->n_chunks,
           (long long)a->context, m->n_scored);
    if (m->has_reference) {
        printf("reference's       %.4f   (%s)\n", m->reference_perplexity, a->reference);
        printf("KL divergence     %.5f ± %.5f mean, %.4f 99th percentile\n", m->kl_mean, m->kl_stderr, m->kl_p99);
        printf("same top token    %.2f%%\n", 100 * m->top1_agreement);
    }
    printf("size              %s in the file (%.3f bits per weight), %s in memory\n", pith_text_bytes(info->file_bytes).s, info->bits_per_weight,
           pith_text_bytes(info->ram_bytes).s);
    printf("speed             %.0f tokens/s reading", m->prefill_tokens_per_second);
    if (!a->no_speed) printf(", %.1f writing", decode_tps);
    printf("   (%d threads, loaded in %s)\n", pith_n_threads(cli->ctx), pith_text_duration(info->load_s).s);
}

static pith_status run(pith_cli *cli, void *args)
{
    const eval_args *a = args;
    pith_ctx *ctx = cli->ctx;
    if (!a->text) return pith_cli_usage(cli, "--text is missing: the text to predict");
    if (strcmp(a->model, "-") == 0 && strcmp(a->text, "-") == 0) return pith_cli_usage(cli, "the model and the text cannot both come from standard input");
    pith_map text = {0};
    pith_model *model = NULL, *reference = NULL;
    pith_measure m = {0};
    pith_measure_options o = {.n_context = (size_t)a->context, .n_chunks = (size_t)a->chunks, .all_tokens = a->all_tokens};
    double prefill_tps = 0, decode_tps = 0;
    pith_status status = PITH_OK;
    PITH_GOTO(pith_map_open(ctx, a->text, &text), done);
    PITH_GOTO(pith_model_open(ctx, a->model, &(pith_model_options){.strict = a->strict}, &model), done);
    if (a->reference) PITH_GOTO(pith_model_open(ctx, a->reference, &(pith_model_options){.exact = true, .strict = a->strict}, &reference), done);
    PITH_GOTO(pith_model_measure(model, reference, text.data ? (const char *)text.data : "", text.len, &o, &m), done);
    if (!a->no_speed) PITH_GOTO(pith_eval_speed(ctx, model->llama, 16, 32, 3, &prefill_tps, &decode_tps), done);
    pith_model_info info;
    pith_model_describe(model, &info);
    pith_terminal_clear(cli->terminal);
    if (cli->globals.json) status = print_json(cli, a, &info, &m, decode_tps);
    else print_text(cli, a, &info, &m, decode_tps);
done:
    pith_model_free(reference);
    pith_model_free(model);
    pith_map_close(ctx, &text);
    return status;
}

const pith_command pith_command_eval = {
    .name = "eval",
    .summary = "measure a model on a text: perplexity, distance to a reference, speed",
    .description = "Cuts a text into chunks, lets the model predict each token from those before it in its chunk, and prints the perplexity. With "
                   "--reference it also prints how far the model's predictions are from the other model's: mean and 99th percentile of "
                   "the Kullback-Leibler divergence (nats a token), and how often both find the same token likeliest.\n\n"
                   "Speed is that of this run: reading the text in chunks, and writing 32 tokens one by one, the best of three.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(eval_args), .run = run,
};
