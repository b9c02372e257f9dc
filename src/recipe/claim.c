/* Claims: a recursive-descent parser to a small tree, and its evaluation by seed or over seeds. */
#include "recipe/claim.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

/* Far beyond what reads well, and what no stack minds. */
#define MAX_BYTES 1000
#define MAX_DEPTH 64 /* of brackets */

typedef enum node_kind {
    NUMBER, MEASURE, NEGATE, ADD, SUBTRACT, MULTIPLY, DIVIDE, ABS, LOG2, LEAST, MOST, /* numbers */
    SEEDS_MIN, SEEDS_MAX, SEEDS_MEAN, SEEDS_STD,                                      /* numbers, over seeds */
    LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, EQUAL, UNEQUAL, AND, OR                 /* truths */
} node_kind;

struct pith_claim {
    node_kind kind;
    double number;
    size_t row, measure;
    const pith_claim *a, *b;       /* LEAST, MOST: a and the rest, as nodes of the same kind */
};

static const struct {
    const char *name;
    node_kind kind;
} functions[] = {
    {"min", SEEDS_MIN}, {"max", SEEDS_MAX}, {"mean", SEEDS_MEAN}, {"std", SEEDS_STD},
    {"least", LEAST}, {"most", MOST}, {"abs", ABS}, {"log2", LOG2},
};

/* Longer ones first. */
static const struct {
    const char *text;
    node_kind kind;
} comparisons[] = {{"<=", LESS_EQUAL}, {">=", GREATER_EQUAL}, {"==", EQUAL}, {"!=", UNEQUAL}, {"<", LESS}, {">", GREATER}};

static bool is_truth(const pith_claim *c) { return c->kind >= LESS; }

/* ---- parsing ---------------------------------------------------------------------------------- */

typedef struct parser {
    const pith_card *card;
    const pith_yaml *source;
    const char *at;
    int depth;
} parser;

static pith_status fail_at(parser *p, const char *at, const char *format, ...) PITH_PRINTF(3, 4);
static pith_status fail_at(parser *p, const char *at, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t offset = (size_t)(at - p->source->text);
    pith_yaml place = *p->source;
    place.column += offset + p->source->quoted;
    return pith_yaml_fail(p->card->ctx, &place, "%s (character %zu of the claim '%s')", text, offset + 1, p->source->text);
}

static void skip_space(parser *p) { p->at += strspn(p->at, " \t\n"); }

/* Whether `word` comes next, as a whole word; passes it then. */
static bool take_word(parser *p, const char *word)
{
    skip_space(p);
    size_t len = strlen(word);
    if (strncmp(p->at, word, len) || isalnum((unsigned char)p->at[len]) || p->at[len] == '_' || p->at[len] == '.') return false;
    p->at += len;
    return true;
}

static bool take(parser *p, char c)
{
    skip_space(p);
    if (*p->at != c) return false;
    p->at++;
    return true;
}

static pith_status make(parser *p, pith_claim value, const pith_claim **out)
{
    pith_claim *c = pith_arena_take(p->card->arena, sizeof *c);
    if (!c) return PITH_E_MEMORY;
    *c = value;
    *out = c;
    return PITH_OK;
}

static pith_status parse_or(parser *p, const pith_claim **out);
static pith_status parse_nested(parser *p, const pith_claim **out);
static pith_status parse_sum(parser *p, const pith_claim **out);

static pith_status need_number(parser *p, const char *at, const pith_claim *c)
{
    return is_truth(c) ? fail_at(p, at, "expected a number, found a comparison") : PITH_OK;
}

/* The place in an array of names, or n. */
static size_t find(parser *p, bool rows, const char *name, size_t len)
{
    size_t n = rows ? p->card->n_rows : p->card->n_measures, i = 0;
    for (; i < n; i++) {
        const char *candidate = rows ? p->card->rows[i].name : p->card->measures[i].name;
        if (strlen(candidate) == len && !memcmp(candidate, name, len)) break;
    }
    return i;
}

static pith_status parse_measure(parser *p, const char *name, size_t len, const pith_claim **out)
{
    pith_claim c = {.kind = MEASURE};
    c.row = find(p, true, name, len);
    if (c.row == p->card->n_rows) return fail_at(p, name, "'%.*s' is no row of this card", (int)PITH_MIN(len, 64), name);
    if (*p->at != '.') return fail_at(p, p->at, "expected '.' and a measure after the row '%.*s'", (int)PITH_MIN(len, 64), name);
    const char *measure = ++p->at;
    while (isalnum((unsigned char)*p->at) || *p->at == '_') p->at++;
    size_t measure_len = (size_t)(p->at - measure);
    c.measure = find(p, false, measure, measure_len);
    if (c.measure == p->card->n_measures) return fail_at(p, measure, "'%.*s' is no measure of this card", (int)PITH_MIN(measure_len, 64), measure);
    return make(p, c, out);
}

/* The arguments of a function, after its '('. */
static pith_status parse_call(parser *p, node_kind kind, const pith_claim **out)
{
    pith_claim c = {.kind = kind};
    skip_space(p);
    const char *at = p->at;
    PITH_TRY(parse_sum(p, &c.a));
    PITH_TRY(need_number(p, at, c.a));
    if (kind == LEAST || kind == MOST) {
        if (take(p, ',')) {
            PITH_TRY(parse_call(p, kind, &c.b));
            return make(p, c, out);
        }
        c.b = c.a;
    }
    if (!take(p, ')')) return fail_at(p, p->at, "expected ')'");
    return make(p, c, out);
}

static pith_status parse_primary(parser *p, const pith_claim **out)
{
    skip_space(p);
    const char *at = p->at;
    if (take(p, '(')) {
        PITH_TRY(parse_or(p, out));
        return take(p, ')') ? PITH_OK : fail_at(p, p->at, "expected ')'");
    }
    if (take(p, '-')) {
        pith_claim c = {.kind = NEGATE};
        PITH_TRY(parse_nested(p, &c.a));
        PITH_TRY(need_number(p, at + 1, c.a));
        return make(p, c, out);
    }
    if (isdigit((unsigned char)*at) || *at == '.') {
        char *end;
        pith_claim c = {.kind = NUMBER, .number = strtod(at, &end)};
        if (end == at || !isfinite(c.number)) return fail_at(p, at, "expected a number");
        p->at = end;
        return make(p, c, out);
    }
    while (isalnum((unsigned char)*p->at) || *p->at == '_') p->at++;
    size_t len = (size_t)(p->at - at);
    if (!len) return fail_at(p, at, "expected a number, row.measure or a function");
    for (size_t i = 0; i < PITH_COUNT(functions); i++)
        if (strlen(functions[i].name) == len && !memcmp(functions[i].name, at, len) && take(p, '(')) return parse_call(p, functions[i].kind, out);
    return parse_measure(p, at, len, out);
}

/* Brackets and signs come back to here. */
static pith_status parse_nested(parser *p, const pith_claim **out)
{
    if (p->depth == MAX_DEPTH) return fail_at(p, p->at, "nested too deeply");
    p->depth++;
    pith_status status = parse_primary(p, out);
    p->depth--;
    return status;
}

/* next (op next)*, of numbers, from the left. */
static pith_status parse_chain(parser *p, const char *ops, const node_kind *kinds, pith_status (*next)(parser *, const pith_claim **), const pith_claim **out)
{
    skip_space(p);
    const char *at = p->at;
    PITH_TRY(next(p, out));
    for (;;) {
        skip_space(p);
        const char *op = *p->at ? strchr(ops, *p->at) : NULL;
        if (!op) return PITH_OK;
        pith_claim c = {.kind = kinds[op - ops], .a = *out};
        PITH_TRY(need_number(p, at, c.a));
        at = ++p->at;
        PITH_TRY(next(p, &c.b));
        PITH_TRY(need_number(p, at, c.b));
        PITH_TRY(make(p, c, out));
    }
}

static pith_status parse_product(parser *p, const pith_claim **out)
{
    return parse_chain(p, "*/", (const node_kind[]){MULTIPLY, DIVIDE}, parse_nested, out);
}

static pith_status parse_sum(parser *p, const pith_claim **out)
{
    return parse_chain(p, "+-", (const node_kind[]){ADD, SUBTRACT}, parse_product, out);
}

static pith_status parse_comparison(parser *p, const pith_claim **out)
{
    skip_space(p);
    const char *at = p->at;
    PITH_TRY(parse_sum(p, out));
    skip_space(p);
    for (size_t i = 0; i < PITH_COUNT(comparisons); i++) {
        size_t len = strlen(comparisons[i].text);
        if (strncmp(p->at, comparisons[i].text, len)) continue;
        pith_claim c = {.kind = comparisons[i].kind, .a = *out};
        PITH_TRY(need_number(p, at, c.a));
        at = p->at += len;
        PITH_TRY(parse_sum(p, &c.b));
        PITH_TRY(need_number(p, at, c.b));
        return make(p, c, out);
    }
    return PITH_OK;
}

/* next (word next)*, of truths. */
static pith_status parse_logic(parser *p, const char *word, node_kind kind, pith_status (*next)(parser *, const pith_claim **), const pith_claim **out)
{
    skip_space(p);
    const char *at = p->at;
    PITH_TRY(next(p, out));
    while (take_word(p, word)) {
        pith_claim c = {.kind = kind, .a = *out};
        if (!is_truth(c.a)) return fail_at(p, at, "expected a comparison before '%s', found a number", word);
        skip_space(p);
        at = p->at;
        PITH_TRY(next(p, &c.b));
        if (!is_truth(c.b)) return fail_at(p, at, "expected a comparison after '%s', found a number", word);
        PITH_TRY(make(p, c, out));
    }
    return PITH_OK;
}

static pith_status parse_and(parser *p, const pith_claim **out) { return parse_logic(p, "and", AND, parse_comparison, out); }
static pith_status parse_or(parser *p, const pith_claim **out) { return parse_logic(p, "or", OR, parse_and, out); }

pith_status pith_claim_parse(const pith_card *card, const pith_yaml *text, const pith_claim **claim)
{
    parser p = {.card = card, .source = text, .at = text->text};
    if (strlen(text->text) > MAX_BYTES) return pith_yaml_fail(card->ctx, text, "a claim has at most %d characters; make two of it", MAX_BYTES);
    PITH_TRY(parse_or(&p, claim));
    skip_space(&p);
    if (*p.at) return fail_at(&p, p.at, "expected the end, or one of < <= > >= == != + - * / and or");
    if (!is_truth(*claim)) return fail_at(&p, p.at, "expected a comparison (<, <=, >, >=, ==, !=); a number alone claims nothing");
    return PITH_OK;
}

/* ---- judging ---------------------------------------------------------------------------------- */

#define OVER_SEEDS SIZE_MAX

static double evaluate(const pith_claim *c, const pith_row_values *v, size_t seed);

static double over_seeds(node_kind kind, const pith_claim *c, const pith_row_values *v)
{
    double sum = 0, square = 0, least = INFINITY, most = -INFINITY, n = (double)v->n_seeds;
    for (size_t s = 0; s < v->n_seeds; s++) {
        double x = evaluate(c, v, s);
        if (isnan(x)) return NAN;
        sum += x;
        least = PITH_MIN(least, x);
        most = PITH_MAX(most, x);
    }
    double mean = sum / n;
    if (kind == SEEDS_MIN) return least;
    if (kind == SEEDS_MAX) return most;
    if (kind == SEEDS_MEAN) return mean;
    for (size_t s = 0; s < v->n_seeds; s++) {
        double d = evaluate(c, v, s) - mean;
        square += d * d;
    }
    return v->n_seeds > 1 ? sqrt(square / (n - 1)) : 0;
}

/* The value of a number at one seed, or OVER_SEEDS with measures as their means.  NaN: not measured. */
static double evaluate(const pith_claim *c, const pith_row_values *v, size_t seed)
{
    switch (c->kind) {
    case NUMBER: return c->number;
    case MEASURE: return seed == OVER_SEEDS ? over_seeds(SEEDS_MEAN, c, v) : *pith_row_value_at(v, c->row, c->measure, seed);
    case SEEDS_MIN:
    case SEEDS_MAX:
    case SEEDS_MEAN:
    case SEEDS_STD: return over_seeds(c->kind, c->a, v);
    default: break;
    }
    double a = evaluate(c->a, v, seed), b = c->b ? evaluate(c->b, v, seed) : 0;
    if (isnan(a) || isnan(b)) return NAN;
    switch (c->kind) {
    case NEGATE: return -a;
    case ADD: return a + b;
    case SUBTRACT: return a - b;
    case MULTIPLY: return a * b;
    case DIVIDE: return a / b;
    case ABS: return fabs(a);
    case LOG2: return log2(a);
    case LEAST: return PITH_MIN(a, b);
    default: return PITH_MAX(a, b); /* MOST */
    }
}

static bool has_measure(const pith_claim *c)
{
    return c->kind == MEASURE || (c->kind < SEEDS_MIN && ((c->a && has_measure(c->a)) || (c->b && has_measure(c->b))));
}

typedef struct writer {
    char *text;
    size_t size, len;
} writer;

static void put(writer *w, const char *format, ...) PITH_PRINTF(2, 3);
static void put(writer *w, const char *format, ...)
{
    if (w->len >= w->size) return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->text + w->len, w->size - w->len, format, args);
    va_end(args);
    if (n > 0) w->len += (size_t)n;
}

static void put_side(writer *w, const pith_claim *c, const pith_row_values *v)
{
    double x = evaluate(c, v, OVER_SEEDS);
    if (!isfinite(x)) put(w, "?");
    else put(w, "%.4g", x);
    if (isfinite(x) && v->n_seeds > 1 && has_measure(c)) put(w, " ± %.2g", over_seeds(SEEDS_STD, c, v));
}

static pith_verdict compare(const pith_claim *c, const pith_row_values *v, writer *w)
{
    double a = evaluate(c->a, v, OVER_SEEDS), b = evaluate(c->b, v, OVER_SEEDS);
    const char *sign = "";
    for (size_t i = 0; i < PITH_COUNT(comparisons); i++)
        if (comparisons[i].kind == c->kind) sign = comparisons[i].text;
    if (w->len) put(w, "; ");
    put_side(w, c->a, v);
    put(w, " %s ", sign);
    put_side(w, c->b, v);
    if (!isfinite(a) || !isfinite(b)) return PITH_UNJUDGED;
    bool holds = c->kind == LESS ? a < b : c->kind == LESS_EQUAL ? a <= b : c->kind == GREATER ? a > b : c->kind == GREATER_EQUAL ? a >= b
                 : c->kind == EQUAL ? a == b : a != b;
    return holds ? PITH_HOLDS : PITH_FAILS;
}

static pith_verdict judge(const pith_claim *c, const pith_row_values *v, writer *w)
{
    if (c->kind != AND && c->kind != OR) return compare(c, v, w);
    pith_verdict a = judge(c->a, v, w), b = judge(c->b, v, w), decisive = c->kind == AND ? PITH_FAILS : PITH_HOLDS;
    if (a == decisive || b == decisive) return decisive;
    return a == PITH_UNJUDGED || b == PITH_UNJUDGED ? PITH_UNJUDGED : a;
}

pith_verdict pith_claim_judge(const pith_claim *claim, const pith_row_values *values, char *numbers, size_t size)
{
    writer w = {numbers, size, 0};
    if (size) numbers[0] = 0;
    pith_verdict verdict = judge(claim, values, &w);
    if (w.len >= size) /* cut: not within a character */
        for (size_t i = size; i-- > 0 && (!numbers[i] || (unsigned char)numbers[i] >= 0x80);) numbers[i] = 0;
    return verdict;
}
