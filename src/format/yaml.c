/* YAML by libyaml's events, and structs filled from it by tables. */
#include "format/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <yaml.h>

/* ---- parsing ---------------------------------------------------------------------------------- */

typedef struct reader {
    pith_ctx *ctx;
    pith_arena *arena;
    const char *file;
    yaml_parser_t parser;
    yaml_event_t event;            /* the one that is looked at, when has_event */
    bool has_event;
} reader;

pith_status pith_yaml_fail(pith_ctx *ctx, const pith_yaml *at, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return pith_fail(ctx, PITH_E_FORMAT, "%s:%zu:%zu: %s", at->file, at->line, at->column, text);
}

static pith_status fail_here(reader *r, yaml_mark_t mark, const char *what)
{
    return pith_fail(r->ctx, PITH_E_FORMAT, "%s:%zu:%zu: %s", r->file, mark.line + 1, mark.column + 1, what);
}

static pith_status next(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = false;
    if (yaml_parser_parse(&r->parser, &r->event)) {
        r->has_event = true;
        return PITH_OK;
    }
    if (r->parser.error == YAML_MEMORY_ERROR) return pith_fail(r->ctx, PITH_E_MEMORY, "%s: out of memory while parsing", r->file);
    return fail_here(r, r->parser.problem_mark, r->parser.problem ? r->parser.problem : "not valid YAML");
}

/* One more place in an array of pointers that doubles. */
static pith_status append(reader *r, pith_yaml ***items, size_t n, pith_yaml *item)
{
    if ((n & (n - 1)) == 0) {
        pith_yaml **grown = pith_arena_take(r->arena, 2 * PITH_MAX(n, 1) * sizeof *grown);
        if (!grown) return PITH_E_MEMORY;
        if (n) memcpy(grown, *items, n * sizeof *grown);
        *items = grown;
    }
    (*items)[n] = item;
    return PITH_OK;
}

static pith_status read_value(reader *r, int depth, pith_yaml **out);

static pith_status read_pair(reader *r, int depth, pith_yaml *map)
{
    pith_yaml *key, *value;
    PITH_TRY(read_value(r, depth, &key));
    if (key->kind != PITH_YAML_SCALAR) return pith_yaml_fail(r->ctx, key, "expected a key, which is a word");
    const pith_yaml *before = pith_yaml_get(map, key->text);
    if (before) return pith_yaml_fail(r->ctx, key, "the key '%s' is there already, with its value in line %zu", key->text, before->line);
    PITH_TRY(next(r));
    PITH_TRY(read_value(r, depth, &value));
    PITH_TRY(append(r, &map->keys, map->n, key));
    PITH_TRY(append(r, &map->items, map->n, value));
    map->n++;
    return PITH_OK;
}

/* The value that begins at the event looked at; its last event is looked at afterwards. */
static pith_status read_value(reader *r, int depth, pith_yaml **out)
{
    const yaml_event_t *e = &r->event;
    yaml_mark_t mark = e->start_mark;
    if (depth == PITH_YAML_MAX_DEPTH) return fail_here(r, mark, "nested too deeply");
    pith_yaml *v = pith_arena_take(r->arena, sizeof *v);
    if (!v) return PITH_E_MEMORY;
    *v = (pith_yaml){.line = mark.line + 1, .column = mark.column + 1, .file = r->file};
    *out = v;
    switch (e->type) {
    case YAML_SCALAR_EVENT: {
        if (e->data.scalar.anchor || e->data.scalar.tag) return fail_here(r, mark, "anchors and tags are not used here; write the value itself");
        size_t len = e->data.scalar.length;
        if (memchr(e->data.scalar.value, 0, len)) return fail_here(r, mark, "a text may not hold a NUL character");
        char *text = pith_arena_take(r->arena, len + 1);
        if (!text) return PITH_E_MEMORY;
        memcpy(text, e->data.scalar.value, len + 1);
        v->kind = PITH_YAML_SCALAR;
        v->text = text;
        v->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return PITH_OK;
    }
    case YAML_SEQUENCE_START_EVENT:
        if (e->data.sequence_start.anchor || e->data.sequence_start.tag) return fail_here(r, mark, "anchors and tags are not used here; write the value itself");
        v->kind = PITH_YAML_LIST;
        for (;;) {
            pith_yaml *item;
            PITH_TRY(next(r));
            if (r->event.type == YAML_SEQUENCE_END_EVENT) return PITH_OK;
            PITH_TRY(read_value(r, depth + 1, &item));
            PITH_TRY(append(r, &v->items, v->n, item));
            v->n++;
        }
    case YAML_MAPPING_START_EVENT:
        if (e->data.mapping_start.anchor || e->data.mapping_start.tag) return fail_here(r, mark, "anchors and tags are not used here; write the value itself");
        v->kind = PITH_YAML_MAP;
        for (;;) {
            PITH_TRY(next(r));
            if (r->event.type == YAML_MAPPING_END_EVENT) return PITH_OK;
            PITH_TRY(read_pair(r, depth + 1, v));
        }
    default: return fail_here(r, mark, "anchors and aliases are not used here; write the value itself");
    }
}

static pith_status read_document(reader *r, pith_yaml **root)
{
    PITH_TRY(next(r)); /* the stream's start */
    PITH_TRY(next(r));
    if (r->event.type != YAML_DOCUMENT_START_EVENT) return fail_here(r, r->event.start_mark, "expected keys and values, the text is empty");
    PITH_TRY(next(r));
    PITH_TRY(read_value(r, 0, root));
    PITH_TRY(next(r)); /* the document's end */
    PITH_TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT) return fail_here(r, r->event.start_mark, "expected the end; a file holds one document");
    return PITH_OK;
}

pith_status pith_yaml_parse(pith_arena *arena, pith_ctx *ctx, const char *file, const char *text, size_t len, pith_yaml **root)
{
    if (len > PITH_YAML_MAX_BYTES) return pith_fail(ctx, PITH_E_LIMIT, "%s: %zu bytes of YAML; %zu are the limit", file, len, PITH_YAML_MAX_BYTES);
    reader r = {.ctx = ctx, .arena = arena};
    char *name = pith_arena_take(arena, strlen(file) + 1);
    if (!name) return PITH_E_MEMORY;
    r.file = strcpy(name, file);
    if (!yaml_parser_initialize(&r.parser)) return pith_fail(ctx, PITH_E_MEMORY, "%s: out of memory while parsing", file);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    pith_status status = read_document(&r, root);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return status;
}

pith_yaml *pith_yaml_get(const pith_yaml *map, const char *key)
{
    for (size_t i = 0; map && map->kind == PITH_YAML_MAP && i < map->n; i++)
        if (!strcmp(map->keys[i]->text, key)) return map->items[i];
    return NULL;
}

/* ---- filling ---------------------------------------------------------------------------------- */

typedef struct filler {
    pith_ctx *ctx;
    pith_arena *arena;
    bool partial;
} filler;

static const char *what_is(const pith_yaml *v)
{
    return v->kind == PITH_YAML_LIST ? "a list" : v->kind == PITH_YAML_MAP ? "a map of keys to values" : v->text[0] ? v->text : "nothing";
}

static pith_status expected(filler *f, const pith_yaml *v, const char *key, const char *type)
{
    return pith_yaml_fail(f->ctx, v, "'%s' is %s, not %s", key, type, what_is(v));
}

static pith_status in_range(filler *f, const pith_key *field, const pith_yaml *v, const char *key, double x)
{
    if (field->min == 0 && field->max == 0) return PITH_OK;
    if (x >= field->min && x <= field->max) return PITH_OK;
    return pith_yaml_fail(f->ctx, v, "'%s' is from %.10g to %.10g, not %s", key, field->min, field->max, v->text);
}

static pith_status read_number(filler *f, const pith_key *field, const pith_yaml *v, const char *key, double *x)
{
    char *end = NULL;
    if (v->kind == PITH_YAML_SCALAR && !v->quoted) *x = strtod(v->text, &end);
    if (!end || end == v->text || *end || !isfinite(*x)) return expected(f, v, key, "a number");
    return in_range(f, field, v, key, *x);
}

static pith_status read_count(filler *f, const pith_key *field, const pith_yaml *v, const char *key, uint64_t *x)
{
    char *end = NULL;
    unsigned long long n = 0;
    errno = 0;
    if (v->kind == PITH_YAML_SCALAR && !v->quoted && v->text[0] >= '0' && v->text[0] <= '9') n = strtoull(v->text, &end, 10);
    uint64_t unit = end && *end == 'k' ? 1000 : end && *end == 'M' ? 1000000 : 1;
    if (!end || errno || end[unit > 1]) return expected(f, v, key, "a whole number (2000, or 2k, 3M)");
    if (__builtin_mul_overflow((uint64_t)n, unit, x) || *x > (uint64_t)1 << 53) return pith_yaml_fail(f->ctx, v, "'%s' is at most 2^53, not %s", key, v->text);
    return in_range(f, field, v, key, (double)*x);
}

static pith_status read_text(filler *f, const pith_yaml *v, const char *key, const char **x)
{
    if (v->kind != PITH_YAML_SCALAR || (!v->text[0] && !v->quoted)) return expected(f, v, key, "a text");
    *x = v->text;
    return PITH_OK;
}

static pith_status read_choice(filler *f, const pith_key *field, const pith_yaml *v, const char *key, int *x)
{
    int i = 0;
    for (const char *c = field->choices; v->kind == PITH_YAML_SCALAR && c; i++) {
        size_t len = strcspn(c, "|");
        if (strlen(v->text) == len && !memcmp(c, v->text, len)) {
            *x = i;
            return PITH_OK;
        }
        c = c[len] ? c + len + 1 : NULL;
    }
    return pith_yaml_fail(f->ctx, v, "'%s' is one of %s, not %s", key, field->choices, what_is(v));
}

/* A list of numbers, counts or names: item i is read by `type` into items + i * size. */
static pith_status read_list(filler *f, const pith_key *field, const pith_yaml *v, const char *key, size_t size, size_t *n, void **items)
{
    if (v->kind != PITH_YAML_LIST) return expected(f, v, key, "a list");
    char *at = pith_arena_take(f->arena, PITH_MAX(v->n, 1) * size);
    if (!at) return PITH_E_MEMORY;
    for (size_t i = 0; i < v->n; i++) {
        void *item = at + i * size;
        if (field->type == PITH_KEY_COUNTS) PITH_TRY(read_count(f, field, v->items[i], key, item));
        else if (field->type == PITH_KEY_NUMBERS) PITH_TRY(read_number(f, field, v->items[i], key, item));
        else PITH_TRY(read_text(f, v->items[i], key, item));
    }
    *n = v->n;
    *items = at;
    return PITH_OK;
}

static pith_status read_pairs(filler *f, const pith_yaml *v, const char *key, pith_pairs *x)
{
    if (v->kind != PITH_YAML_MAP) return expected(f, v, key, "a map of names to texts");
    pith_pair *items = pith_arena_take(f->arena, PITH_MAX(v->n, 1) * sizeof *items);
    if (!items) return PITH_E_MEMORY;
    for (size_t i = 0; i < v->n; i++) {
        items[i] = (pith_pair){.name = v->keys[i]->text, .at = v->keys[i]};
        PITH_TRY(read_text(f, v->items[i], items[i].name, &items[i].text));
    }
    *x = (pith_pairs){v->n, items};
    return PITH_OK;
}

static pith_status read_field(filler *f, const pith_key *field, pith_yaml *v, void *dest)
{
    void *to = (char *)dest + field->offset;
    const char *key = field->name;
    switch (field->type) {
    case PITH_KEY_FLAG: {
        bool yes = v->kind == PITH_YAML_SCALAR && !v->quoted && !strcmp(v->text, "true");
        if (!yes && (v->kind != PITH_YAML_SCALAR || v->quoted || strcmp(v->text, "false"))) return expected(f, v, key, "true or false");
        *(bool *)to = yes;
        return PITH_OK;
    }
    case PITH_KEY_COUNT:
    case PITH_KEY_STEPS: return read_count(f, field, v, key, to);
    case PITH_KEY_NUMBER: return read_number(f, field, v, key, to);
    case PITH_KEY_TEXT: return read_text(f, v, key, to);
    case PITH_KEY_CHOICE: return read_choice(f, field, v, key, to);
    case PITH_KEY_COUNTS: {
        pith_counts *x = to;
        return read_list(f, field, v, key, sizeof *x->items, &x->n, (void **)&x->items);
    }
    case PITH_KEY_NUMBERS: {
        pith_numbers *x = to;
        return read_list(f, field, v, key, sizeof *x->items, &x->n, (void **)&x->items);
    }
    case PITH_KEY_NAMES: {
        pith_names *x = to;
        return read_list(f, field, v, key, sizeof *x->items, &x->n, (void **)&x->items);
    }
    case PITH_KEY_PAIRS: return read_pairs(f, v, key, to);
    case PITH_KEY_GROUP:
        if (v->kind != PITH_YAML_MAP) return expected(f, v, key, "a map of keys to values");
        return pith_yaml_fill(f->arena, f->ctx, v, field->fields, f->partial, to);
    case PITH_KEY_NODE: *(pith_yaml **)to = v; return PITH_OK;
    }
    return pith_fail(f->ctx, PITH_E_INTERNAL, "a field of no type");
}

/* "a, b, c" of what is expected, cut where it gets long. */
static void list_names(const pith_key *fields, char *text, size_t size)
{
    size_t len = 0;
    text[0] = 0;
    for (const pith_key *k = fields; k->name && len + strlen(k->name) + 8 < size; k++)
        len += (size_t)snprintf(text + len, size - len, "%s%s", len ? ", " : "", k->name);
}

pith_status pith_yaml_fill(pith_arena *arena, pith_ctx *ctx, const pith_yaml *map, const pith_key *fields, bool partial, void *dest)
{
    filler f = {ctx, arena, partial};
    if (map->kind != PITH_YAML_MAP) return pith_yaml_fail(ctx, map, "expected keys and values, not %s", what_is(map));
    for (size_t i = 0; i < map->n; i++) {
        const pith_key *k = fields;
        while (k->name && strcmp(k->name, map->keys[i]->text)) k++;
        if (!k->name) {
            char names[384];
            list_names(fields, names, sizeof names);
            return pith_yaml_fail(ctx, map->keys[i], "unknown key '%s'; expected one of: %s", map->keys[i]->text, names);
        }
        PITH_TRY(read_field(&f, k, map->items[i], dest));
    }
    for (const pith_key *k = fields; k->name && !partial; k++)
        if (k->required && !pith_yaml_get(map, k->name))
            return pith_yaml_fail(ctx, map, "'%s' is missing%s%s", k->name, k->help ? ": " : "", k->help ? k->help : "");
    return PITH_OK;
}
