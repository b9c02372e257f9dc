/* Help pages, the man page and shell completion, all from the commands' tables. */
#include <ctype.h>

#include "cli/cli.h"

static const char intro[] =
    "pith makes neural network models small and runs them small. One compressed file serves every size: any "
    "prefix of it is a working model, and the more of it there is, the better the model.";

static const struct { const char *code, *what; } exit_codes[] = {
    {"0", "done"},
    {"1", "failed; the reason is on standard error"},
    {"2", "wrong usage; nothing was done"},
    {"130", "interrupted (143: terminated); no half-written file is left"},
};

static const struct { const char *name, *what; } environment[] = {
    {"PITH_CPU", "scalar, neon, avx2 or avx512: use this kernel set, not the best one present."},
    {"NO_COLOR", "when set, no colours."},
};

/* ---- text ------------------------------------------------------------------------------------- */

/* Words of `text` filled into lines of `width` columns after `indent`; the caller has already printed
 * `column` columns of the first line.  An empty line starts a paragraph. */
static void fill(FILE *out, int width, int indent, int column, const char *text)
{
    if (column < indent) column += fprintf(out, "%*s", indent - column, "");
    bool first = true;
    while (*text) {
        if (text[0] == '\n' && text[1] == '\n') {
            fprintf(out, "\n\n%*s", indent, "");
            column = indent;
            first = true;
            text += 2;
            continue;
        }
        size_t len = strcspn(text, " \n");
        if (!first && column + 1 + (int)len > width) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)len, text);
        column += (int)len;
        first = false;
        text += len;
        if (*text == ' ' || (*text == '\n' && text[1] != '\n')) text++;
    }
    fputc('\n', out);
}

static bool takes_value(const pith_arg *o) { return o->type != PITH_ARG_FLAG && o->type != PITH_ARG_COUNT; }

/* "help text (0 to 100; default 0.8)" into buf */
static const char *option_help(const pith_arg *o, char *buf, size_t size)
{
    char extra[320] = "";
    size_t n = 0;
    for (const char *c = o->choices; c && *c; c += strcspn(c, "|") + (c[strcspn(c, "|")] != 0))
        n += (size_t)snprintf(extra + n, sizeof extra - n, "%s%.*s", c == o->choices ? "; one of " : ", ", (int)strcspn(c, "|"), c);
    if ((o->min != 0 || o->max != 0) && o->max < 0x1p62) n += (size_t)snprintf(extra + n, sizeof extra - n, "; %.15g to %.15g", o->min, o->max);
    if (o->type == PITH_ARG_TEXTS) n += (size_t)snprintf(extra + n, sizeof extra - n, "; may be repeated");
    if (o->fallback) n += (size_t)snprintf(extra + n, sizeof extra - n, "; default %s", o->fallback);
    snprintf(buf, size, n ? "%s (%s)" : "%s%s", o->help, n ? extra + 2 : "");
    return buf;
}

static void print_options(FILE *out, int width, const pith_arg *options)
{
    for (const pith_arg *o = options; o && o->name; o++) {
        char text[512];
        int column = o->letter ? fprintf(out, "  -%c, --%s", o->letter, o->name) : fprintf(out, "      --%s", o->name);
        if (takes_value(o)) column += fprintf(out, " %s", o->value);
        if (column > 24) {
            fputc('\n', out);
            column = 0;
        }
        fill(out, width, 26, column, option_help(o, text, sizeof text));
    }
}

static void print_synopsis(FILE *out, const pith_command *c)
{
    fprintf(out, "pith %s", c->name);
    for (const pith_positional *p = c->positionals; p && p->name; p++) fprintf(out, p->optional ? " [%s]" : " %s", p->name);
    fputs(" [options]", out);
}

void pith_help_overview(FILE *out, int width)
{
    width = PITH_MIN(width, 100);
    fputs("usage: pith COMMAND [arguments] [options]\n\n", out);
    fill(out, width, 0, 0, intro);
    fputs("\ncommands:\n", out);
    for (const pith_command *const *c = pith_commands; *c; c++) fill(out, width, 13, fprintf(out, "  %s", (*c)->name), (*c)->summary);
    fputs("\noptions of every command:\n", out);
    print_options(out, width, pith_global_options);
    fputs("\n\"pith help COMMAND\" explains one; \"man pith\" has everything.\n", out);
}

void pith_help_command(FILE *out, int width, const pith_command *c)
{
    width = PITH_MIN(width, 100);
    fputs("usage: ", out);
    print_synopsis(out, c);
    fputs("\n\n", out);
    fill(out, width, 0, 0, c->description);
    if (c->positionals && c->positionals->name) {
        fputs("\narguments:\n", out);
        for (const pith_positional *p = c->positionals; p->name; p++) fill(out, width, 26, fprintf(out, "  %s", p->name), p->help);
    }
    if (c->options && c->options->name) {
        fputs("\noptions:\n", out);
        print_options(out, width, c->options);
    }
    fputs("\noptions of every command:\n", out);
    print_options(out, width, pith_global_options);
    if (c->examples && c->examples->command) {
        fputs("\nexamples:\n", out);
        for (const pith_example *e = c->examples; e->command; e++) {
            fprintf(out, "  %s\n", e->command);
            fill(out, width, 6, 0, e->what);
        }
    }
    fputs("\nexit status:\n", out);
    for (size_t i = 0; i < PITH_COUNT(exit_codes); i++) fill(out, width, 8, fprintf(out, "  %s", exit_codes[i].code), exit_codes[i].what);
    if (c->exit_notes) fill(out, width, 2, 0, c->exit_notes);
}

/* ---- man page (roff, man macros) -------------------------------------------------------------- */

/* Text with roff's special characters written out; empty lines become paragraphs. */
static void roff(FILE *out, const char *text)
{
    bool line_start = true;
    for (; *text; text++) {
        if (text[0] == '\n' && text[1] == '\n') {
            fputs("\n.PP\n", out);
            text++;
            line_start = true;
            continue;
        }
        if (line_start && (*text == '.' || *text == '\'')) fputs("\\&", out);
        line_start = *text == '\n';
        switch (*text) {
        case '\\': fputs("\\e", out); break;
        case '-': fputs("\\-", out); break;
        case '~': fputs("\\(ti", out); break;
        case '^': fputs("\\(ha", out); break;
        case '`': fputs("\\(ga", out); break;
        case '"': fputs("\\(dq", out); break;
        default: fputc(*text, out);
        }
    }
}

static void roff_options(FILE *out, const pith_arg *options)
{
    for (const pith_arg *o = options; o && o->name; o++) {
        char text[512];
        fputs(".TP\n\\fB", out);
        if (o->letter) fprintf(out, "\\-%c\\fR, \\fB", o->letter);
        fputs("\\-\\-", out);
        roff(out, o->name);
        fputs("\\fR", out);
        if (takes_value(o)) fprintf(out, " \\fI%s\\fR", o->value);
        fputc('\n', out);
        roff(out, option_help(o, text, sizeof text));
        fputc('\n', out);
    }
}

static void roff_command(FILE *out, const pith_command *c)
{
    fputs(".SS ", out);
    print_synopsis(out, c);
    fputc('\n', out);
    roff(out, c->description);
    fputc('\n', out);
    for (const pith_positional *p = c->positionals; p && p->name; p++) {
        fprintf(out, ".TP\n\\fI%s\\fR\n", p->name);
        roff(out, p->help);
        fputc('\n', out);
    }
    roff_options(out, c->options);
    for (const pith_example *e = c->examples; e && e->command; e++) {
        fputs(".PP\n", out);
        roff(out, e->what);
        fputs(":\n.PP\n.RS 4\n.nf\n", out);
        roff(out, e->command);
        fputs("\n.fi\n.RE\n", out);
    }
    if (!c->exit_notes) return;
    fputs(".PP\n", out);
    roff(out, c->exit_notes);
    fputc('\n', out);
}

void pith_help_man(FILE *out)
{
    fprintf(out, ".TH PITH 1 \"\" \"pith %s\" \"User Commands\"\n", pith_version());
    fputs(".SH NAME\npith \\- compress neural network models and run them compressed\n"
          ".SH SYNOPSIS\n\\fBpith\\fR \\fICOMMAND\\fR [\\fIarguments\\fR] [\\fIoptions\\fR]\n.SH DESCRIPTION\n", out);
    roff(out, intro);
    fputs("\n.SH COMMANDS\n", out);
    for (const pith_command *const *c = pith_commands; *c; c++) roff_command(out, *c);
    fputs(".SH OPTIONS OF EVERY COMMAND\n", out);
    roff_options(out, pith_global_options);
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < PITH_COUNT(exit_codes); i++) {
        fprintf(out, ".TP\n%s\n", exit_codes[i].code);
        roff(out, exit_codes[i].what);
        fputc('\n', out);
    }
    fputs(".SH ENVIRONMENT\n", out);
    for (size_t i = 0; i < PITH_COUNT(environment); i++) {
        fprintf(out, ".TP\n\\fB%s\\fR\n", environment[i].name);
        roff(out, environment[i].what);
        fputc('\n', out);
    }
}

/* ---- completion ------------------------------------------------------------------------------- */

static bool completes_files(const pith_command *c)
{
    for (const pith_positional *p = c->positionals; p && p->name; p++)
        if (p->type == PITH_ARG_FILE) return true;
    return false;
}

static void bash_words(FILE *out, const pith_arg *options)
{
    for (const pith_arg *o = options; o && o->name; o++) {
        if (o->letter) fprintf(out, " -%c", o->letter);
        fprintf(out, " --%s", o->name);
    }
}

/* "none topk econtrol" of "none|topk:SHARE|econtrol[:ETA]" */
static void choice_words(FILE *out, const char *choices)
{
    for (const char *c = choices; *c;) {
        fprintf(out, "%s%.*s", c == choices ? "" : " ", (int)strcspn(c, ":[|"), c);
        c += strcspn(c, "|");
        if (*c) c++;
    }
}

/* "    --cache) …" : what follows an option */
static void bash_values(FILE *out, const char *command, const pith_arg *options)
{
    for (const pith_arg *o = options; o && o->name; o++) {
        if (!takes_value(o)) continue;
        fprintf(out, "    %s:--%s", command, o->name);
        if (o->letter) fprintf(out, "|%s:-%c", command, o->letter);
        fputs(") ", out);
        if (o->type == PITH_ARG_FILE) {
            fputs("compopt -o default; COMPREPLY=();", out);
        } else if (o->choices) {
            fputs("COMPREPLY=($(compgen -W '", out);
            choice_words(out, o->choices);
            fputs("' -- \"$cur\"));", out);
        } else {
            fputs("COMPREPLY=();", out);
        }
        fputs(" return ;;\n", out);
    }
}

void pith_help_bash(FILE *out)
{
    fputs("# bash completion for pith; made by: pith help --completion bash\n"
          "_pith()\n{\n"
          "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]}\n"
          "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W '", out);
    for (const pith_command *const *c = pith_commands; *c; c++) fprintf(out, "%s ", (*c)->name);
    fputs("--help --version' -- \"$cur\"))\n    return\n  fi\n  case $cmd:$prev in\n", out);
    for (const pith_command *const *c = pith_commands; *c; c++) bash_values(out, (*c)->name, (*c)->options);
    bash_values(out, "*", pith_global_options);
    fputs("  esac\n  case $cmd in\n", out);
    for (const pith_command *const *c = pith_commands; *c; c++) {
        fprintf(out, "    %s)\n      case $cur in\n        -*) COMPREPLY=($(compgen -W '", (*c)->name);
        bash_words(out, (*c)->options);
        bash_words(out, pith_global_options);
        fputs("' -- \"$cur\")) ;;\n        *) ", out);
        if (strcmp((*c)->name, "help") == 0) {
            fputs("COMPREPLY=($(compgen -W '", out);
            for (const pith_command *const *k = pith_commands; *k; k++) fprintf(out, "%s ", (*k)->name);
            fputs("' -- \"$cur\")) ;;\n", out);
        } else {
            fputs(completes_files(*c) ? "compopt -o default; COMPREPLY=() ;;\n" : "COMPREPLY=() ;;\n", out);
        }
        fputs("      esac ;;\n", out);
    }
    fputs("  esac\n}\ncomplete -F _pith pith\n", out);
}

/* Text inside '…[…]' of a zsh argument specification. */
static void zsh_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'') fputs("'\\''", out);
        else if (strchr("[]:\\", *text)) fprintf(out, "\\%c", *text);
        else fputc(*text, out);
    }
}

static void zsh_options(FILE *out, const pith_arg *options)
{
    for (const pith_arg *o = options; o && o->name; o++) {
        bool again = o->type == PITH_ARG_COUNT || o->type == PITH_ARG_TEXTS;
        for (int form = o->letter ? 0 : 1; form < 2; form++) {
            fputs(" \\\n        '", out);
            if (again) fputc('*', out);
            if (form == 0) fprintf(out, "-%c[", o->letter);
            else fprintf(out, "--%s%s[", o->name, takes_value(o) ? "=" : "");
            zsh_text(out, o->help);
            fputc(']', out);
            if (takes_value(o)) {
                fprintf(out, ":%s:", o->value);
                if (o->type == PITH_ARG_FILE) {
                    fputs("_files", out);
                } else if (o->choices) {
                    fputc('(', out);
                    choice_words(out, o->choices);
                    fputc(')', out);
                }
            }
            fputc('\'', out);
        }
    }
}

void pith_help_zsh(FILE *out)
{
    fputs("#compdef pith\n# zsh completion for pith; made by: pith help --completion zsh\n"
          "_pith() {\n  local -a commands\n  commands=(\n", out);
    for (const pith_command *const *c = pith_commands; *c; c++) {
        fprintf(out, "    '%s:", (*c)->name);
        zsh_text(out, (*c)->summary);
        fputs("'\n", out);
    }
    fputs("  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
          "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n", out);
    for (const pith_command *const *c = pith_commands; *c; c++) {
        fprintf(out, "    %s)\n      _arguments -s", (*c)->name);
        zsh_options(out, (*c)->options);
        zsh_options(out, pith_global_options);
        int n = 0;
        for (const pith_positional *p = (*c)->positionals; p && p->name; p++) {
            fprintf(out, " \\\n        '%d:%s%s:%s'", ++n, p->optional ? ":" : "", p->name,
                    p->type == PITH_ARG_FILE ? "_files" : strcmp((*c)->name, "help") == 0 ? "->commands" : "");
        }
        fputs(" ;;\n", out);
    }
    fputs("  esac\n}\nif [ \"$funcstack[1]\" = \"_pith\" ]; then _pith \"$@\"; else compdef _pith pith; fi\n", out);
}
