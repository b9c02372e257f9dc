/* pith run: prompt in, text out; on a terminal a conversation. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/model.h"
#include "cli/cli.h"

typedef struct run_args {
    const char *model, *file;
    const char *prompt, *system;
    bool raw, strict;
    int64_t max_tokens, context, top_k, repeat_last, seed;
    double temperature, top_p, min_p, repeat_penalty;
    pith_texts stop;
    int cache;
} run_args;

static const pith_positional positionals[] = {
    {"MODEL", PITH_ARG_FILE, offsetof(run_args, model), false, "a .pith or GGUF file, a .safetensors file or a model folder; \"-\" reads a .pith from standard input"},
    {"FILE", PITH_ARG_FILE, offsetof(run_args, file), true, "the prompt, from a file; \"-\" is standard input"},
    {0},
};

static const pith_arg options[] = {
    {"prompt", 'p', PITH_ARG_TEXT, "TEXT", offsetof(run_args, prompt), .help = "the prompt"},
    {"system", 's', PITH_ARG_TEXT, "TEXT", offsetof(run_args, system), .help = "a system message before the conversation"},
    {"raw", 0, PITH_ARG_FLAG, NULL, offsetof(run_args, raw), .help = "go on with the prompt as it is, without the model's chat template"},
    {"max-tokens", 'n', PITH_ARG_INT, "N", offsetof(run_args, max_tokens), .fallback = "512", .min = 0, .max = 1e9,
     .help = "end the reply after N tokens; 0: only when the context is full"},
    {"temperature", 0, PITH_ARG_REAL, "X", offsetof(run_args, temperature), .fallback = "0.8", .min = 0, .max = 100,
     .help = "how freely to choose; 0: always the likeliest token"},
    {"top-k", 0, PITH_ARG_INT, "K", offsetof(run_args, top_k), .fallback = "40", .min = 0, .max = 1e9, .help = "choose among the K likeliest tokens; 0: all"},
    {"top-p", 0, PITH_ARG_REAL, "P", offsetof(run_args, top_p), .fallback = "0.95", .min = 1e-6, .max = 1,
     .help = "choose among the likeliest tokens that have probability P together"},
    {"min-p", 0, PITH_ARG_REAL, "P", offsetof(run_args, min_p), .fallback = "0.05", .min = 0, .max = 1,
     .help = "leave out tokens less likely than P times the likeliest"},
    {"repeat-penalty", 0, PITH_ARG_REAL, "X", offsetof(run_args, repeat_penalty), .fallback = "1", .min = 0.01, .max = 100,
     .help = "above 1: make recent tokens less likely"},
    {"repeat-last", 0, PITH_ARG_INT, "N", offsetof(run_args, repeat_last), .fallback = "64", .min = 0, .max = 1e6,
     .help = "how many tokens the penalty looks back"},
    {"seed", 0, PITH_ARG_INT, "N", offsetof(run_args, seed), .fallback = "0", .help = "same seed, same reply"},
    {"stop", 0, PITH_ARG_TEXTS, "TEXT", offsetof(run_args, stop), .help = "end the reply where this text would come"},
    {"cache", 0, PITH_ARG_CHOICE, "TYPE", offsetof(run_args, cache), .choices = "f16|f32|q8", .fallback = "f16",
     .help = "how keys and values are kept"},
    {"context", 'c', PITH_ARG_INT, "N", offsetof(run_args, context), .min = 0, .max = 1e9, .fallback = "0",
     .help = "room for N tokens of prompt and reply; 0: as many as needed, in a conversation 4096, within the model's limit"},
    {"strict", 0, PITH_ARG_FLAG, NULL, offsetof(run_args, strict), .help = "a damaged .pith is an error; else it runs at the quality that is left"},
    {0},
};

static const pith_example examples[] = {
    {"pith run model.pith", "a conversation"},
    {"pith run model.pith -p \"Why is the sky blue?\"", "one question"},
    {"pith run model.pith --raw -p \"Once upon a time\" --temperature 0", "go on with a text, always the same way"},
    {"head -c 40M model.pith | pith run - -p \"Hello\"", "a file of which only the beginning has arrived"},
    {0},
};

/* ---- the reply -------------------------------------------------------------------------------- */

typedef struct listener {
    pith_cli *cli;
    bool print;
    bool failed;      /* out of memory while keeping the text */
    char *text;       /* the reply so far, NUL-terminated */
    size_t len, cap;
} listener;

static bool hear(void *user, const char *text, size_t len)
{
    listener *l = user;
    if (l->print) {
        pith_terminal_clear(l->cli->terminal);
        fwrite(text, 1, len, stdout);
        fflush(stdout);
    }
    if (l->len + len + 1 > l->cap) {
        size_t cap = 2 * (l->len + len + 1);
        char *bigger = pith_resize(l->cli->ctx, l->text, cap);
        if (!bigger) {
            l->failed = true;
            return false;
        }
        l->text = bigger;
        l->cap = cap;
    }
    memcpy(l->text + l->len, text, len);
    l->len += len;
    l->text[l->len] = 0;
    return !l->cli->options.cancelled(l->cli->options.user);
}

static double per_second(size_t n, double seconds) { return seconds > 0 ? (double)n / seconds : 0; }

static void report(pith_cli *cli, const pith_reply *r, const run_args *a)
{
    size_t n_new = r->n_prompt - r->n_reused;
    if (r->ended_by && strcmp(r->ended_by, "limit") == 0 && a->max_tokens > 0)
        pith_log(cli->ctx, PITH_LOG_WARN, "the reply was cut after %lld tokens (-n allows more)", (long long)a->max_tokens);
    if (r->ended_by && strcmp(r->ended_by, "context full") == 0)
        pith_log(cli->ctx, PITH_LOG_WARN, "the reply was cut: the context is full (--context allows more, up to the model's limit)");
    pith_log(cli->ctx, PITH_LOG_INFO, "prompt: %zu tokens (%zu kept from before), %.0f tokens/s; reply: %zu tokens, %.1f tokens/s; ended by: %s",
             r->n_prompt, r->n_reused, per_second(n_new, r->prefill_s), r->n_generated, per_second(r->n_generated, r->decode_s),
             r->ended_by ? r->ended_by : "error");
}

static pith_status print_json(pith_cli *cli, const pith_model *model, const pith_reply *r, const char *text)
{
    pith_model_info info;
    pith_model_describe(model, &info);
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "text", text ? text : "");
    cJSON_AddStringToObject(j, "ended_by", r->ended_by ? r->ended_by : "");
    pith_json_number(j, "prompt_tokens", (double)r->n_prompt);
    pith_json_number(j, "generated_tokens", (double)r->n_generated);
    pith_json_number(j, "prefill_tokens_per_second", per_second(r->n_prompt - r->n_reused, r->prefill_s));
    pith_json_number(j, "decode_tokens_per_second", per_second(r->n_generated, r->decode_s));
    pith_json_number(j, "load_seconds", info.load_s);
    pith_json_number(j, "file_bytes", (double)info.file_bytes);
    pith_json_number(j, "ram_bytes", (double)info.ram_bytes);
    pith_json_number(j, "bits_per_weight", info.bits_per_weight);
    pith_json_number(j, "peak_memory_bytes", (double)pith_memory_peak(cli->ctx));
    return pith_json_print(cli, j);
}

static pith_reply_options reply_options(const run_args *a, listener *l)
{
    return (pith_reply_options){
        .max_tokens = (size_t)a->max_tokens, .temperature = (float)a->temperature, .top_k = (int)a->top_k, .top_p = (float)a->top_p,
        .min_p = (float)a->min_p, .repeat_penalty = (float)a->repeat_penalty, .repeat_last = (int)a->repeat_last,
        .seed = (uint64_t)a->seed, .stop = a->stop.items, .n_stop = a->stop.n, .text = hear, .user = l,
    };
}

/* Positions a single reply needs: the prompt and the longest reply, within the model's limit. */
static pith_status context_for(const pith_model *model, const run_args *a, size_t n_prompt, size_t *n)
{
    size_t limit = model->llama->s.n_ctx, wanted = n_prompt + (size_t)a->max_tokens + 1;
    *n = a->context ? (size_t)a->context : a->max_tokens == 0 || (limit && wanted > limit) ? limit : wanted;
    if (limit && n_prompt > limit)
        return pith_fail(model->ctx, PITH_E_LIMIT, "the prompt has %zu tokens; the model was made for %zu", n_prompt, limit);
    return PITH_OK;
}

/* ---- one prompt ------------------------------------------------------------------------------- */

static pith_status answer(pith_cli *cli, pith_model *model, const run_args *a, const char *prompt, size_t len)
{
    pith_session *session = NULL;
    char *text = NULL, *formatted = NULL;
    pith_ids ids = {0};
    listener l = {.cli = cli, .print = !cli->globals.json};
    pith_reply_options o = reply_options(a, &l);
    pith_reply r = {0};
    size_t n_context;
    bool chat = !a->raw && model->has_chat;
    pith_message messages[2];
    size_t n_messages = 0;
    pith_status status = PITH_OK;
    if (!a->raw && !chat) pith_log(cli->ctx, PITH_LOG_WARN, "the model has no chat template that pith knows: going on with the prompt as it is");
    if (chat) {
        text = pith_strndup(cli->ctx, prompt, len);
        if (!text) return PITH_E_MEMORY;
        if (strlen(text) < len) pith_log(cli->ctx, PITH_LOG_WARN, "the prompt has a NUL byte: what follows it is left out (--raw keeps it)");
        if (a->system) messages[n_messages++] = (pith_message){"system", a->system};
        messages[n_messages++] = (pith_message){"user", text};
        PITH_GOTO(pith_chat_format(cli->ctx, model->tok, messages, n_messages, true, &formatted), done);
    }
    /* the prompt is tokenised once here for its length, so that the cache gets no more room than it needs */
    const char *whole = chat ? formatted : prompt;
    PITH_GOTO(pith_model_ids(model, whole, chat ? strlen(formatted) : len, PITH_TOKENIZE_SPECIAL, &ids), done);
    PITH_GOTO(context_for(model, a, ids.n, &n_context), done);
    PITH_GOTO(pith_session_new(model, n_context, (pith_kv_type)a->cache, &session), done);
    status = chat ? pith_session_reply(session, messages, n_messages, &o, &r) : pith_session_complete(session, prompt, len, &o, &r);
    if (l.print) {
        fputc('\n', stdout);
        fflush(stdout); /* warnings may follow, and both streams may be one file */
    }
    if (status == PITH_OK && l.failed) status = PITH_E_MEMORY;
    if (status != PITH_OK) goto done;
    report(cli, &r, a);
    if (cli->globals.json) status = print_json(cli, model, &r, l.text);
done:
    pith_session_free(session);
    pith_ids_free(cli->ctx, &ids);
    pith_free(cli->ctx, text);
    pith_free(cli->ctx, formatted);
    pith_free(cli->ctx, l.text);
    return status;
}

/* ---- a conversation --------------------------------------------------------------------------- */

#define MAX_MESSAGES 1024

typedef struct conversation {
    pith_message messages[MAX_MESSAGES];
    size_t n, n_system;   /* messages, of which the first n_system stay for ever */
} conversation;

static void drop(pith_ctx *ctx, conversation *c, size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++) pith_free(ctx, (void *)(uintptr_t)c->messages[i].content);
    memmove(c->messages + first, c->messages + first + n, (c->n - first - n) * sizeof *c->messages);
    c->n -= n;
}

/* Reply to the last message.  When the conversation outgrows the context, the oldest exchange goes. */
static pith_status take_turn(pith_cli *cli, pith_session *session, conversation *c, const run_args *a)
{
    listener l = {.cli = cli, .print = true};
    pith_reply_options o = reply_options(a, &l);
    pith_reply r = {0};
    pith_status status;
    while ((status = pith_session_reply(session, c->messages, c->n, &o, &r)) == PITH_E_LIMIT && l.len == 0 && c->n >= c->n_system + 3) {
        drop(cli->ctx, c, c->n_system, 2);
        pith_log(cli->ctx, PITH_LOG_WARN, "the context is full: the oldest question and reply are forgotten");
    }
    fputs("\n\n", stdout);
    bool interrupted = pith_cli_take_interrupt();
    if (status == PITH_OK && l.failed) status = PITH_E_MEMORY;
    if (status == PITH_OK) report(cli, &r, a);
    if (status == PITH_OK || (status == PITH_E_CANCELLED && interrupted)) {
        char *content = l.text ? l.text : pith_strdup(cli->ctx, "");
        if (!content) return PITH_E_MEMORY;
        c->messages[c->n++] = (pith_message){"assistant", content};
        return PITH_OK;
    }
    pith_free(cli->ctx, l.text);
    return status;
}

static pith_status converse(pith_cli *cli, pith_model *model, const run_args *a)
{
    size_t limit = model->llama->s.n_ctx, wanted = a->context ? (size_t)a->context : limit && limit < 4096 ? limit : 4096;
    pith_session *session = NULL;
    char *line = NULL;
    size_t cap = 0;
    pith_status status = PITH_OK;
    conversation *c = pith_calloc(cli->ctx, 1, sizeof *c);
    if (!c) return PITH_E_MEMORY;
    PITH_GOTO(pith_session_new(model, wanted, (pith_kv_type)a->cache, &session), done);
    if (a->system) {
        c->messages[0] = (pith_message){"system", pith_strdup(cli->ctx, a->system)};
        if (!c->messages[0].content) {
            status = PITH_E_MEMORY;
            goto done;
        }
        c->n = c->n_system = 1;
    }
    fputs("Type a message; /clear starts again, ^C ends a reply, ^D ends the conversation.\n\n", stderr);
    for (;;) {
        fputs("> ", stderr);
        ssize_t len = getline(&line, &cap, stdin);
        if (len < 0) break; /* the end, or ^C while waiting */
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) line[--len] = 0;
        if (len == 0) continue;
        if (strcmp(line, "/exit") == 0) break;
        if (strcmp(line, "/clear") == 0) {
            drop(cli->ctx, c, c->n_system, c->n - c->n_system);
            continue;
        }
        if (c->n + 2 > MAX_MESSAGES) drop(cli->ctx, c, c->n_system, 2);
        char *content = pith_strndup(cli->ctx, line, (size_t)len);
        if (!content) {
            status = PITH_E_MEMORY;
            break;
        }
        c->messages[c->n++] = (pith_message){"user", content};
        PITH_GOTO(take_turn(cli, session, c, a), done);
    }
    fputc('\n', stderr);
done:
    free(line);
    drop(cli->ctx, c, 0, c->n);
    pith_free(cli->ctx, c);
    pith_session_free(session);
    return status;
}

static pith_status run(pith_cli *cli, void *args)
{
    const run_args *a = args;
    if (a->prompt && a->file) return pith_cli_usage(cli, "the prompt is given twice: --prompt and %s", a->file);
    bool model_on_stdin = strcmp(a->model, "-") == 0;
    bool from_stdin = (a->file && strcmp(a->file, "-") == 0) || (!a->file && !a->prompt && !isatty(STDIN_FILENO));
    if (model_on_stdin && (from_stdin || (!a->file && !a->prompt)))
        return pith_cli_usage(cli, "the model comes from standard input: give the prompt with --prompt or in a file");
    bool chat = !a->prompt && !a->file && !from_stdin;
    if (chat && cli->globals.json) return pith_cli_usage(cli, "--json needs a prompt: --prompt or a file");
    if (chat && a->raw) return pith_cli_usage(cli, "--raw needs a prompt: --prompt or a file");

    pith_map file = {0};
    if (!chat && !a->prompt) PITH_TRY(pith_map_open(cli->ctx, from_stdin ? "-" : a->file, &file));
    pith_model *model = NULL;
    pith_status status = pith_model_open(cli->ctx, a->model, &(pith_model_options){.strict = a->strict}, &model);
    if (status == PITH_OK) {
        pith_log(cli->ctx, PITH_LOG_INFO, "%s: loaded in %s, %s of weights in memory", a->model, pith_text_duration(model->load_s).s,
                 pith_text_bytes(model->llama->ram_bytes).s);
        if (chat && !model->has_chat)
            status = pith_fail(cli->ctx, PITH_E_UNSUPPORTED, "%s: no chat template that pith knows; give a prompt with --raw -p", a->model);
        else if (chat)
            status = converse(cli, model, a);
        else
            status = answer(cli, model, a, a->prompt ? a->prompt : file.data ? (const char *)file.data : "", a->prompt ? strlen(a->prompt) : file.len);
    }
    pith_model_free(model);
    pith_map_close(cli->ctx, &file);
    return status;
}

const pith_command pith_command_run = {
    .name = "run",
    .summary = "run a model: prompt in, text out; on a terminal a conversation",
    .description = "Loads a model and lets it reply. Without a prompt, on a terminal, it is a conversation; otherwise the prompt is --prompt, "
                   "FILE or standard input. Prompts are put into the model's own chat template unless --raw is given. The text "
                   "goes to standard output as it comes, everything else to standard error.\n\n"
                   "Any prefix of a .pith file is a model: it can be run while it is still arriving.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(run_args), .run = run,
};
