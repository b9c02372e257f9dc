/* The program: finds the command, parses its arguments, makes the context, runs it, and turns the
 * result into an exit code.  Signals and all printing of errors are here. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"

const pith_arg pith_global_options[] = {
    {"threads", 't', PITH_ARG_INT, "N", offsetof(pith_globals, threads), .min = 1, .max = 1024,
     .help = "threads to work with; one a physical core when not given"},
    {"memory", 0, PITH_ARG_SIZE, "SIZE", offsetof(pith_globals, memory), .min = 65536, .max = 0x1p62,
     .help = "fail rather than hold more than this in memory; mapped files are not counted"},
    {"json", 0, PITH_ARG_FLAG, NULL, offsetof(pith_globals, json), .help = "print the result as JSON"},
    {"verbose", 'v', PITH_ARG_COUNT, NULL, offsetof(pith_globals, verbose), .help = "say more; twice: everything"},
    {"quiet", 'q', PITH_ARG_FLAG, NULL, offsetof(pith_globals, quiet), .help = "print errors only"},
    {"no-progress", 0, PITH_ARG_FLAG, NULL, offsetof(pith_globals, no_progress), .help = "show no progress"},
    {"help", 'h', PITH_ARG_FLAG, NULL, offsetof(pith_globals, help), .help = "explain the command and stop"},
    {"version", 0, PITH_ARG_FLAG, NULL, offsetof(pith_globals, version), .help = "print the version and stop"},
    {0},
};

#define X(name) extern const pith_command pith_command_##name;
PITH_COMMANDS(X)
#undef X

const pith_command *const pith_commands[] = {
#define X(name) &pith_command_##name,
    PITH_COMMANDS(X)
#undef X
    NULL,
};

const pith_command *pith_command_find(const char *name)
{
    for (const pith_command *const *c = pith_commands; *c; c++)
        if (strcmp((*c)->name, name) == 0) return *c;
    return NULL;
}

static const char *command_name(void *arg, size_t i)
{
    (void)arg;
    return i < PITH_COUNT(pith_commands) && pith_commands[i] ? pith_commands[i]->name : NULL;
}

/* ---- signals ---------------------------------------------------------------------------------- */

#define GRACE_S 3 /* for the work to stop by itself after the first signal */

static volatile sig_atomic_t caught;

/* First signal: ask the work to stop, which removes its unfinished files and frees everything.  A second
 * one, or no answer in time (a read that blocks), ends the program here. */
static void on_signal(int number)
{
    if (!caught && number != SIGALRM) {
        caught = number;
        alarm(GRACE_S);
        return;
    }
    pith_out_discard_all();
    _exit(128 + (number == SIGALRM ? caught : number));
}

static void on_broken_pipe(int number)
{
    (void)number;
    pith_out_discard_all();
    _exit(0); /* the reader has all it wanted: no error, no message */
}

static bool cancelled(void *user)
{
    (void)user;
    return caught != 0;
}

bool pith_cli_take_interrupt(void)
{
    if (caught != SIGINT) return false;
    alarm(0);
    caught = 0;
    return true;
}

static void set_signals(void)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP, SIGALRM};
    struct sigaction action = {.sa_handler = on_signal};
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < PITH_COUNT(stops); i++) sigaction(stops[i], &action, NULL);
    action.sa_handler = on_broken_pipe;
    sigaction(SIGPIPE, &action, NULL);
}

/* ---- running ---------------------------------------------------------------------------------- */

/* Usage errors and what happens before there is a context. */
static int usage_error(const pith_command *command, const char *message)
{
    fprintf(stderr, "pith: %s\n", message);
    if (command) fprintf(stderr, "\"pith help %s\" tells how it is used\n", command->name);
    else fprintf(stderr, "\"pith help\" lists the commands\n");
    return 2;
}

/* Standard output may be a file on a full disk: a result that was not written is a failure. */
static bool flush_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    fprintf(stderr, "pith: cannot write to standard output\n");
    return false;
}

static int run_command(const pith_command *command, pith_globals *globals, void *args)
{
    pith_terminal terminal;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"); /* of several processes the first one speaks */
    if (rank && atoi(rank) > 0) globals->quiet = true;
    pith_terminal_init(&terminal, !globals->no_progress && !globals->quiet);
    pith_options options = {
        .n_threads = (int)globals->threads,
        .memory_limit = (size_t)globals->memory,
        .log_level = globals->quiet ? PITH_LOG_ERROR : globals->verbose > 1 ? PITH_LOG_DEBUG : globals->verbose ? PITH_LOG_INFO : PITH_LOG_WARN,
        .log = pith_terminal_log, .progress = pith_terminal_progress, .cancelled = cancelled, .user = &terminal,
    };
    pith_cli cli = {.globals = *globals, .terminal = &terminal, .options = options};
    /* Worker threads inherit a blocked mask: handlers run on this thread only. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pith_status status = pith_ctx_new(&options, &cli.ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != PITH_OK) return 1; /* the context has logged why */
    status = command->run(&cli, args);
    pith_terminal_clear(&terminal);
    int code = 0;
    if (caught) {
        code = 128 + caught;
        pith_terminal_log(&terminal, PITH_LOG_ERROR, "stopped by a signal; no half-written file is left");
    } else if (status != PITH_OK && cli.usage_error) {
        code = usage_error(command, pith_error(cli.ctx));
    } else if (status != PITH_OK) {
        const char *sentence = pith_error(cli.ctx);
        pith_terminal_log(&terminal, PITH_LOG_ERROR, *sentence ? sentence : pith_status_text(status));
        code = 1;
    }
    pith_log(cli.ctx, PITH_LOG_DEBUG, "peak memory %s", pith_text_bytes(pith_memory_peak(cli.ctx)).s);
    pith_ctx_free(cli.ctx);
    return code;
}

int main(int argc, char **argv)
{
    char message[512];
    pith_globals globals = {0};
    int n_used = 0;
    set_signals();
    if (!pith_args_parse(NULL, argc - 1, argv + 1, NULL, &globals, &n_used, message, sizeof message)) return usage_error(NULL, message);
    const char *name = 1 + n_used < argc ? argv[1 + n_used] : NULL;
    if (globals.version) {
        printf("pith %s\n", pith_version());
        return flush_output() ? 0 : 1;
    }
    if (!name) {
        pith_help_overview(globals.help ? stdout : stderr, pith_terminal_width(globals.help ? STDOUT_FILENO : STDERR_FILENO, 80));
        return globals.help ? (flush_output() ? 0 : 1) : 2;
    }
    const pith_command *command = pith_command_find(name);
    if (!command) {
        const char *near = pith_nearest(name, command_name, NULL);
        snprintf(message, sizeof message, near ? "unknown command \"%s\"; did you mean \"%s\"?" : "unknown command \"%s\"%s", name, near ? near : "");
        return usage_error(NULL, message);
    }
    void *args = calloc(1, command->args_size ? command->args_size : 1);
    int code = 1;
    if (!args) {
        fprintf(stderr, "pith: out of memory\n");
    } else if (!pith_args_parse(command, argc - n_used - 2, argv + n_used + 2, args, &globals, NULL, message, sizeof message)) {
        code = usage_error(command, message);
    } else if (globals.help) {
        pith_help_command(stdout, pith_terminal_width(STDOUT_FILENO, 80), command);
        code = 0;
    } else {
        code = run_command(command, &globals, args);
    }
    free(args);
    if (!flush_output() && code == 0) code = 1;
    return code;
}
