/* The command line, driven by tables.  A command is one file with one pith_command in it and one
 * word in src/cli/meson.build; parsing, help pages, the man page and shell completion all come
 * from that one table. */
#ifndef PITH_CLI_H
#define PITH_CLI_H

#include <cjson/cJSON.h>

#include "base/base.h"
#include "cli/terminal.h"

/* What an option's value is, and the C type it is stored as. */
typedef enum pith_arg_type {
    PITH_ARG_FLAG,    /* bool: no value */
    PITH_ARG_COUNT,   /* int: how often it was given */
    PITH_ARG_INT,     /* int64_t */
    PITH_ARG_REAL,    /* double */
    PITH_ARG_SIZE,    /* uint64_t bytes: 60000000, 60MB, 60M (decimal), 64MiB (binary) */
    PITH_ARG_TEXT,    /* const char *, NULL when not given */
    PITH_ARG_FILE,    /* const char *, as TEXT; the shell completes file names */
    PITH_ARG_CHOICE,  /* int: index into `choices` */
    PITH_ARG_TEXTS    /* pith_texts: may be given again */
} pith_arg_type;

#define PITH_MAX_TEXTS 64
typedef struct pith_texts {
    const char *items[PITH_MAX_TEXTS]; /* point into argv */
    size_t n;
} pith_texts;

typedef struct pith_arg {
    const char *name;        /* without dashes; NULL ends the table */
    char letter;             /* 0: none */
    pith_arg_type type;
    const char *value;       /* what help calls the value, "FILE"; NULL for flags */
    size_t offset;           /* where in the command's arguments it is stored */
    const char *fallback;    /* the default, written as a user would; NULL: zero */
    double min, max;         /* INT, REAL, SIZE: the range allowed; both 0: any */
    const char *choices;     /* CHOICE: "f16|f32|q8"; TEXT: for help and completion alone, "none|topk:SHARE" */
    const char *help;        /* one or two sentences */
} pith_arg;

typedef struct pith_positional {
    const char *name;        /* "MODEL"; NULL ends the table */
    pith_arg_type type;      /* TEXT or FILE */
    size_t offset;
    bool optional;
    const char *help;
} pith_positional;

typedef struct pith_example {
    const char *command, *what; /* command NULL ends the table */
} pith_example;

typedef struct pith_cli pith_cli;

typedef struct pith_command {
    const char *name;
    const char *summary;          /* after the name in lists; no full stop */
    const char *description;      /* paragraphs, separated by empty lines */
    const pith_positional *positionals;
    const pith_arg *options;
    const pith_example *examples;
    const char *exit_notes;       /* added to the general ones; NULL: nothing to add */
    size_t args_size;             /* of the struct that `offset`s point into */
    /* @return PITH_OK, or an error whose sentence is in cli->ctx (main prints it) */
    pith_status (*run)(pith_cli *cli, void *args);
} pith_command;

/* Options that every command takes. */
typedef struct pith_globals {
    int64_t threads;
    uint64_t memory;
    int verbose;
    bool quiet, json, no_progress, help, version;
} pith_globals;

/* One run of the program. */
struct pith_cli {
    pith_globals globals;
    pith_terminal *terminal;
    pith_ctx *ctx;
    pith_options options;  /* that ctx was made with, for commands that need another */
    bool usage_error;   /* exit 2 rather than 1 */
};

extern const pith_arg pith_global_options[];
extern const pith_command *const pith_commands[]; /* NULL ends the list */
const pith_command *pith_command_find(const char *name);

/* ---- parsing ---------------------------------------------------------------------------------- */

/** Fill `args` (zeroed, command->args_size bytes) and `globals` from argv[0..argc), which starts after
 *  the command's name.  Strings point into argv.  command may be NULL: global options only, stops
 *  at the first other word, and *n_used tells how many were taken.
 *  @return false: `message` says what was wrong and what to do */
bool pith_args_parse(const pith_command *command, int argc, char **argv, void *args, pith_globals *globals, int *n_used,
                     char *message, size_t message_size);
/** "60MB" to bytes.  Decimal for B, K, KB, M, MB, G, GB, T, TB; binary for KiB, MiB, GiB, TiB; a
 *  fraction is allowed and rounds down.  false: not a size. */
bool pith_size_parse(const char *text, uint64_t *bytes);
/** The candidate nearest to `word` by edit distance, or NULL when none is near. */
const char *pith_nearest(const char *word, const char *(*candidate)(void *arg, size_t i), void *arg);

/** Whether SIGINT came since the last call; takes it back, so that work can go on (a chat where ^C ends one
 *  reply). */
bool pith_cli_take_interrupt(void);

/** Say that options do not go together: `return pith_cli_usage(cli, "...")` exits with 2. */
pith_status pith_cli_usage(pith_cli *cli, const char *format, ...) PITH_PRINTF(2, 3);

/* ---- help ------------------------------------------------------------------------------------- */

void pith_help_overview(FILE *out, int width);
void pith_help_command(FILE *out, int width, const pith_command *command);
void pith_help_man(FILE *out);
void pith_help_bash(FILE *out);
void pith_help_zsh(FILE *out);

/* ---- results ---------------------------------------------------------------------------------- */

typedef struct pith_text32 {
    char s[32];
} pith_text32;
pith_text32 pith_text_bytes(uint64_t bytes);       /* "91.7 MB", decimal; "512 B" */
pith_text32 pith_text_count(double n);             /* "134.5 M" */
pith_text32 pith_text_duration(double seconds);    /* "850 ms", "4.2 s", "3:07" */

/* A table for people: cells are collected, then printed with columns wide enough. */
typedef struct pith_table pith_table;
/** align: one letter a column, 'l' or 'r'.  NULL: out of memory. */
pith_table *pith_table_new(pith_ctx *ctx, const char *align);
/** One row: the formatted text is split at tabs.  Missing cells are empty. */
pith_status pith_table_row(pith_table *table, const char *format, ...) PITH_PRINTF(2, 3);
/** Print and free; the first row is underlined as the heading. */
pith_status pith_table_print(pith_table *table, FILE *out);
void pith_table_free(pith_table *table);

/** Print `json` on standard output and delete it; NULL (an allocation failed while building) is
 *  PITH_E_MEMORY, as is text that cannot be made. */
pith_status pith_json_print(pith_cli *cli, cJSON *json);
/** Numbers that are not finite become null, which is all that JSON has for them. */
bool pith_json_number(cJSON *object, const char *key, double value);

#endif
