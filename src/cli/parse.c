/* From argv to a command's arguments, by its table. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"

typedef struct parse_state {
    const pith_command *command;
    void *args;
    pith_globals *globals;
    char *message;
    size_t message_size;
} parse_state;

static bool complain(parse_state *p, const char *format, ...) PITH_PRINTF(2, 3);
static bool complain(parse_state *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(p->message, p->message_size, format, list);
    va_end(list);
    return false;
}

/* ---- suggestions ------------------------------------------------------------------------------ */

#define MAX_WORD 48

/* Edits from a to b, a swap of neighbours counted as one (optimal string alignment). */
static int edit_distance(const char *a, const char *b)
{
    int n = (int)strnlen(a, MAX_WORD), m = (int)strnlen(b, MAX_WORD);
    int d[3][MAX_WORD + 1];
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *row = d[i % 3], *above = d[(i + 2) % 3], *above2 = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = PITH_MIN(best, PITH_MIN(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) best = PITH_MIN(best, above2[j - 2] + 1);
            row[j] = best;
        }
    }
    return d[n % 3][m];
}

const char *pith_nearest(const char *word, const char *(*candidate)(void *arg, size_t i), void *arg)
{
    const char *best = NULL;
    int limit = (int)strlen(word) / 3 + 1, best_distance = limit + 1;
    for (size_t i = 0; candidate(arg, i); i++) {
        const char *c = candidate(arg, i);
        bool begins = strlen(word) >= 3 && strncmp(c, word, strlen(word)) == 0;
        int distance = begins ? 1 : edit_distance(word, c);
        if (distance < best_distance) {
            best_distance = distance;
            best = c;
        }
    }
    return best;
}

static const char *option_name(void *arg, size_t i)
{
    const pith_command *command = arg;
    for (const pith_arg *o = command ? command->options : NULL; o && o->name; o++)
        if (i-- == 0) return o->name;
    for (const pith_arg *o = pith_global_options; o->name; o++)
        if (i-- == 0) return o->name;
    return NULL;
}

/* ---- values ----------------------------------------------------------------------------------- */

bool pith_size_parse(const char *text, uint64_t *bytes)
{
    static const struct { const char *unit; double factor; } units[] = {
        {"", 1}, {"B", 1}, {"K", 1e3}, {"KB", 1e3}, {"M", 1e6}, {"MB", 1e6}, {"G", 1e9}, {"GB", 1e9}, {"T", 1e12}, {"TB", 1e12},
        {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
    };
    if (!isdigit((unsigned char)text[0])) return false;
    size_t n_digits = strspn(text, "0123456789"), len = n_digits;
    if (text[len] == '.') len += 1 + strspn(text + len + 1, "0123456789");
    const char *unit = text + len;
    while (*unit == ' ') unit++;
    for (size_t i = 0; i < PITH_COUNT(units); i++) {
        if (strcasecmp(unit, units[i].unit) != 0) continue;
        if (len == n_digits && units[i].factor == 1) { /* every byte counts: no detour over double */
            errno = 0;
            *bytes = strtoull(text, NULL, 10);
            return errno == 0;
        }
        double value = floor(strtod(text, NULL) * units[i].factor + 1e-6);
        if (!(value < 0x1p63)) return false;
        *bytes = (uint64_t)value;
        return true;
    }
    return false;
}

static int choice_index(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (int i = 0; ; i++) {
        size_t n = strcspn(choices, "|");
        if (n == len && strncasecmp(choices, text, n) == 0) return i;
        if (!choices[n]) return -1;
        choices += n + 1;
    }
}

static bool in_range(parse_state *p, const pith_arg *o, const char *text, double value)
{
    if ((o->min == 0 && o->max == 0) || (value >= o->min && value <= o->max)) return true;
    if (isinf(o->max) || o->max >= 0x1p62) return complain(p, "--%s: %s is too small; %.15g is the least", o->name, text, o->min);
    return complain(p, "--%s: %s is not between %.15g and %.15g", o->name, text, o->min, o->max);
}

/* Store one value; `text` is NULL for flags. */
static bool store(parse_state *p, const pith_arg *o, void *base, const char *text)
{
    void *slot = (uint8_t *)base + o->offset;
    char *end = NULL;
    errno = 0;
    switch (o->type) {
    case PITH_ARG_FLAG: *(bool *)slot = true; return true;
    case PITH_ARG_COUNT: ++*(int *)slot; return true;
    case PITH_ARG_INT: {
        long long value = strtoll(text, &end, 10);
        if (errno || end == text || *end) return complain(p, "--%s: \"%s\" is not a whole number", o->name, text);
        *(int64_t *)slot = value;
        return in_range(p, o, text, (double)value);
    }
    case PITH_ARG_REAL: {
        double value = strtod(text, &end);
        if (errno == ERANGE || end == text || *end || !isfinite(value)) return complain(p, "--%s: \"%s\" is not a number", o->name, text);
        *(double *)slot = value;
        return in_range(p, o, text, value);
    }
    case PITH_ARG_SIZE: {
        uint64_t value;
        if (!pith_size_parse(text, &value))
            return complain(p, "--%s: \"%s\" is not a size; write bytes, or a number with KB, MB, GB (or KiB, MiB, GiB)", o->name, text);
        *(uint64_t *)slot = value;
        return in_range(p, o, text, (double)value);
    }
    case PITH_ARG_TEXT:
    case PITH_ARG_FILE: *(const char **)slot = text; return true;
    case PITH_ARG_CHOICE: {
        int index = choice_index(o->choices, text);
        if (index < 0) return complain(p, "--%s: \"%s\" is not one of %s", o->name, text, o->choices);
        *(int *)slot = index;
        return true;
    }
    case PITH_ARG_TEXTS: {
        pith_texts *texts = slot;
        if (texts->n == PITH_MAX_TEXTS) return complain(p, "--%s: given more than %d times", o->name, PITH_MAX_TEXTS);
        texts->items[texts->n++] = text;
        return true;
    }
    }
    return complain(p, "--%s: unknown type %d", o->name, (int)o->type);
}

static bool store_defaults(parse_state *p, const pith_arg *options, void *base)
{
    for (const pith_arg *o = options; o && o->name; o++)
        if (o->fallback && !store(p, o, base, o->fallback)) return false;
    return true;
}

/* ---- options ---------------------------------------------------------------------------------- */

/* The option with this name or letter, and the struct it stores into. */
static const pith_arg *find(const parse_state *p, const char *name, size_t len, char letter, void **base)
{
    const pith_arg *const tables[2] = {p->command ? p->command->options : NULL, pith_global_options};
    for (int t = 0; t < 2; t++)
        for (const pith_arg *o = tables[t]; o && o->name; o++)
            if (name ? strlen(o->name) == len && strncmp(o->name, name, len) == 0 : o->letter == letter) {
                *base = t ? (void *)p->globals : p->args;
                return o;
            }
    return NULL;
}

static bool takes_value(const pith_arg *o) { return o->type != PITH_ARG_FLAG && o->type != PITH_ARG_COUNT; }

/* "--name", "--name=value", "--name value".  *i is the index in argv. */
static bool parse_long(parse_state *p, int argc, char **argv, int *i)
{
    const char *word = argv[*i] + 2, *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    void *base;
    const pith_arg *o = find(p, word, len, 0, &base);
    if (!o) {
        char name[MAX_WORD];
        snprintf(name, sizeof name, "%.*s", (int)PITH_MIN(len, sizeof name - 1), word);
        const char *near = pith_nearest(name, option_name, (void *)(uintptr_t)p->command);
        if (near) return complain(p, "unknown option --%s; did you mean --%s?", name, near);
        return complain(p, "unknown option --%s", name);
    }
    if (!takes_value(o)) {
        if (equals) return complain(p, "--%s takes no value", o->name);
        return store(p, o, base, NULL);
    }
    if (equals) return store(p, o, base, equals + 1);
    if (*i + 1 >= argc) return complain(p, "--%s needs a value: %s", o->name, o->value);
    return store(p, o, base, argv[++*i]);
}

/* "-v", "-vv", "-n5", "-n 5", "-vn5" */
static bool parse_short(parse_state *p, int argc, char **argv, int *i)
{
    for (const char *c = argv[*i] + 1; *c; c++) {
        void *base;
        const pith_arg *o = find(p, NULL, 0, *c, &base);
        if (!o) return complain(p, "unknown option -%c", *c);
        if (!takes_value(o)) {
            if (!store(p, o, base, NULL)) return false;
            continue;
        }
        if (c[1]) return store(p, o, base, c + 1);
        if (*i + 1 >= argc) return complain(p, "-%c needs a value: %s", *c, o->value);
        return store(p, o, base, argv[++*i]);
    }
    return true;
}

bool pith_args_parse(const pith_command *command, int argc, char **argv, void *args, pith_globals *globals, int *n_used,
                     char *message, size_t message_size)
{
    parse_state p = {command, args, globals, message, message_size};
    if (command && !store_defaults(&p, command->options, args)) return false;
    const pith_positional *next = command ? command->positionals : NULL;
    bool only_words = false;
    int i = 0;
    for (; i < argc; i++) {
        const char *word = argv[i];
        if (!only_words && strcmp(word, "--") == 0 && command) {
            only_words = true;
        } else if (!only_words && strncmp(word, "--", 2) == 0 && word[2]) {
            if (!parse_long(&p, argc, argv, &i)) return false;
        } else if (!only_words && word[0] == '-' && word[1]) {
            if (!parse_short(&p, argc, argv, &i)) return false;
        } else if (!command) {
            break;
        } else if (!next || !next->name) {
            return complain(&p, "unexpected argument \"%s\"", word);
        } else {
            *(const char **)((uint8_t *)args + next->offset) = word;
            next++;
        }
    }
    if (n_used) *n_used = i;
    if (next && next->name && !next->optional && !globals->help) return complain(&p, "%s is missing: %s", next->name, next->help);
    return true;
}

pith_status pith_cli_usage(pith_cli *cli, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    cli->usage_error = true;
    return pith_fail(cli->ctx, PITH_E_ARGUMENT, "%s", text);
}
