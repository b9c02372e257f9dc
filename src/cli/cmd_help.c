#include "cli/cli.h"

#include <unistd.h>

typedef struct help_args {
    const char *command;
    bool man;
    int completion;
} help_args;

static const pith_positional positionals[] = {
    {"COMMAND", PITH_ARG_TEXT, offsetof(help_args, command), true, "the command to explain; none: the list of commands"},
    {0},
};

static const pith_arg options[] = {
    {"man", 0, PITH_ARG_FLAG, NULL, offsetof(help_args, man), .help = "write the man page, as roff"},
    {"completion", 0, PITH_ARG_CHOICE, "SHELL", offsetof(help_args, completion), .choices = "none|bash|zsh", .fallback = "none",
     .help = "write the completion script of a shell"},
    {0},
};

static const pith_example examples[] = {
    {"pith help run", "the page of one command"},
    {"pith help --man > pith.1", "the man page (the build installs it)"},
    {"source <(pith help --completion bash)", "completion in this shell"},
    {0},
};

static const char *command_name(void *arg, size_t i)
{
    (void)arg;
    for (size_t k = 0; k <= i; k++)
        if (!pith_commands[k]) return NULL;
    return pith_commands[i]->name;
}

static pith_status run(pith_cli *cli, void *args)
{
    const help_args *a = args;
    int width = pith_terminal_width(STDOUT_FILENO, 80);
    if (a->man) {
        pith_help_man(stdout);
    } else if (a->completion == 1) {
        pith_help_bash(stdout);
    } else if (a->completion == 2) {
        pith_help_zsh(stdout);
    } else if (!a->command) {
        pith_help_overview(stdout, width);
    } else {
        const pith_command *command = pith_command_find(a->command);
        if (!command) {
            const char *near = pith_nearest(a->command, command_name, NULL);
            return pith_cli_usage(cli, near ? "unknown command \"%s\"; did you mean \"%s\"?" : "unknown command \"%s\"%s", a->command, near ? near : "");
        }
        pith_help_command(stdout, width, command);
    }
    return PITH_OK;
}

const pith_command pith_command_help = {
    .name = "help",
    .summary = "explain a command; write the man page or shell completion",
    .description = "Prints the page of one command, or the list of all. The man page and the completion scripts are made from the same "
                   "tables as these pages, so they always fit the program at hand.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(help_args), .run = run,
};
