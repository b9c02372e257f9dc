/* The pre-tokenizers as hand-written scanners: one pass, no backtracking beyond the last character of a run.
 * The patterns are in split.h; sources: GPT-2's encoder, the tokenizer.json of SmolLM2, Llama 3 and Qwen2. */
#include "text/split.h"

enum { L = PITH_CHAR_LETTER, N = PITH_CHAR_NUMBER, S = PITH_CHAR_SPACE, LNS = L | N | S };

typedef struct span {
    const pith_unicode *u;
    const uint8_t *end;
} span;

static inline unsigned class_at(const span *s, const uint8_t *p, size_t *n) { return pith_class_at(s->u, p, s->end, n); }

/* End of the run of characters whose class meets `mask` (in), or does not (out). */
static const uint8_t *run_in(const span *s, const uint8_t *p, unsigned mask)
{
    size_t n;
    while (p < s->end && (class_at(s, p, &n) & mask)) p += n;
    return p;
}

static const uint8_t *run_out(const span *s, const uint8_t *p, unsigned mask)
{
    size_t n;
    while (p < s->end && !(class_at(s, p, &n) & mask)) p += n;
    return p;
}

static inline bool is_newline(uint8_t c) { return c == '\n' || c == '\r'; }

/* Length of 's 't 're 've 'm 'll 'd at p (which holds an apostrophe), 0 if none.  any_case: also upper-case
 * letters, and U+017F, which folds to s. */
static size_t contraction(const span *s, const uint8_t *p, bool any_case)
{
    size_t left = (size_t)(s->end - p);
    uint8_t fold = any_case ? 0x20 : 0;
    if (left < 2) return 0;
    uint8_t a = p[1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (any_case && left >= 3 && p[1] == 0xC5 && p[2] == 0xBF) return 3;
    if (left < 3) return 0;
    uint8_t b = p[2] | fold;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return 0;
}

/* \s+(?!\S)|\s+ at p, which holds white space: all of the run when the text ends after it, else all but its last
 * character, which begins the next word, unless it is the only one.  A number ends the text when `number_ends`. */
static const uint8_t *spaces(const span *s, const uint8_t *p, bool number_ends)
{
    const uint8_t *q = p, *last = p;
    size_t n = 0;
    unsigned k = S;
    while (q < s->end && ((k = class_at(s, q, &n)) & S)) {
        last = q;
        q += n;
    }
    if (q == s->end || (number_ends && (k & N)) || last == p) return q;
    return last;
}

/* GPT-2; `digits`: SmolLM2's, where a number is a word and ends the segment before it. */
static const uint8_t *next_gpt2(const span *s, const uint8_t *p, bool digits)
{
    size_t n, m = 0;
    if (*p == '\'') {
        n = contraction(s, p, false);
        if (n) return p + n;
    }
    unsigned k = class_at(s, p, &n);
    if (*p == ' ' && p + 1 < s->end) {
        unsigned next = class_at(s, p + 1, &m);
        if (!(next & S) && !(digits && (next & N))) {
            p++;
            k = next;
            n = m;
        }
    }
    if (k & L) return run_in(s, p + n, L);
    if (k & N) return digits ? p + n : run_in(s, p + n, N);
    if (k & S) return spaces(s, p, digits);
    return run_out(s, p + n, LNS);
}

static const uint8_t *next_llama3(const span *s, const uint8_t *p, int max_digits)
{
    size_t n, m = 0;
    if (*p == '\'') {
        n = contraction(s, p, true);
        if (n) return p + n;
    }
    unsigned k = class_at(s, p, &n), next = 0;
    if (k & L) return run_in(s, p + n, L);
    if (k & N) {
        p += n;
        for (int i = 1; i < max_digits && p < s->end && (class_at(s, p, &n) & N); i++) p += n;
        return p;
    }
    bool has_next = p + n < s->end;
    if (has_next) next = class_at(s, p + n, &m);
    if ((next & L) && !is_newline(*p)) return run_in(s, p + n + m, L);
    if (!(k & S) || (*p == ' ' && has_next && !(next & LNS))) {
        p = run_out(s, p + n, LNS);
        while (p < s->end && is_newline(*p)) p++;
        return p;
    }
    /* \s*[\r\n]+ : through the last line end of the run of white space */
    const uint8_t *q = p, *line = NULL, *last = p;
    while (q < s->end && (class_at(s, q, &n) & S)) {
        last = q;
        if (is_newline(*q)) line = q + 1;
        q += n;
    }
    if (line) return line;
    return q == s->end || last == p ? q : last;
}

static bool is_mark(const uint8_t *p, const uint8_t *end) { return end - p >= 3 && p[0] == 0xE2 && p[1] == 0x96 && p[2] == 0x81; }

/* To the next U+2581 after p; `runs`: marks that follow marks do not count. */
static const uint8_t *next_mark(const span *s, const uint8_t *p, bool runs)
{
    if (is_mark(p, s->end)) {
        p += 3;
        while (runs && is_mark(p, s->end)) p += 3;
    } else {
        p++;
    }
    while (p < s->end) {
        p = memchr(p, 0xE2, (size_t)(s->end - p));
        if (!p) return s->end;
        if (is_mark(p, s->end)) return p;
        p++;
    }
    return s->end;
}

static const uint8_t *next_bert(const span *s, const uint8_t *p, bool *space)
{
    size_t n;
    unsigned k = class_at(s, p, &n);
    *space = k & S;
    if (k & S) return run_in(s, p + n, S);
    if (k & PITH_CHAR_PUNCT) return p + n;
    return run_out(s, p + n, S | PITH_CHAR_PUNCT);
}

size_t pith_split_next(const pith_unicode *u, pith_split split, const uint8_t *text, size_t pos, size_t len, bool *space)
{
    span s = {u, text + len};
    const uint8_t *p = text + pos, *q = s.end;
    *space = false;
    switch (split) {
    case PITH_SPLIT_GPT2: q = next_gpt2(&s, p, false); break;
    case PITH_SPLIT_SMOLLM: q = next_gpt2(&s, p, true); break;
    case PITH_SPLIT_LLAMA3: q = next_llama3(&s, p, 3); break;
    case PITH_SPLIT_QWEN2: q = next_llama3(&s, p, 1); break;
    case PITH_SPLIT_NONE: break;
    case PITH_SPLIT_SPACES: q = next_mark(&s, p, false); break;
    case PITH_SPLIT_RUNS: q = next_mark(&s, p, true); break;
    case PITH_SPLIT_BERT: q = next_bert(&s, p, space); break;
    }
    return (size_t)(q - text);
}

/* Names that GGUF files carry for pre-tokenizers of equal effect. */
static const struct {
    const char *name;
    pith_split split;
} names[] = {
    {"gpt-2", PITH_SPLIT_GPT2}, {"gpt2", PITH_SPLIT_GPT2}, {"phi-2", PITH_SPLIT_GPT2}, {"mpt", PITH_SPLIT_GPT2}, {"olmo", PITH_SPLIT_GPT2},
    {"jais", PITH_SPLIT_GPT2}, {"exaone4", PITH_SPLIT_GPT2}, {"trillion", PITH_SPLIT_GPT2}, {"roberta-bpe", PITH_SPLIT_GPT2},
    {"jina-v1-en", PITH_SPLIT_GPT2}, {"jina-v2-es", PITH_SPLIT_GPT2}, {"jina-v2-de", PITH_SPLIT_GPT2}, {"jina-v2-code", PITH_SPLIT_GPT2},
    {"jina-es", PITH_SPLIT_GPT2}, {"jina-de", PITH_SPLIT_GPT2}, {"granite-docling", PITH_SPLIT_GPT2},
    {"smollm", PITH_SPLIT_SMOLLM}, {"starcoder", PITH_SPLIT_SMOLLM}, {"refact", PITH_SPLIT_SMOLLM}, {"command-r", PITH_SPLIT_SMOLLM},
    {"codeshell", PITH_SPLIT_SMOLLM}, {"exaone", PITH_SPLIT_SMOLLM}, {"minerva-7b", PITH_SPLIT_SMOLLM},
    {"llama-bpe", PITH_SPLIT_LLAMA3}, {"llama3", PITH_SPLIT_LLAMA3}, {"llama-v3", PITH_SPLIT_LLAMA3}, {"falcon3", PITH_SPLIT_LLAMA3},
    {"falcon-h1", PITH_SPLIT_LLAMA3}, {"pixtral", PITH_SPLIT_LLAMA3}, {"midm-2.0", PITH_SPLIT_LLAMA3}, {"lfm2", PITH_SPLIT_LLAMA3},
    {"dbrx", PITH_SPLIT_LLAMA3}, {"smaug-bpe", PITH_SPLIT_LLAMA3}, {"glm4", PITH_SPLIT_LLAMA3}, {"chatglm-bpe", PITH_SPLIT_LLAMA3},
    {"qwen2", PITH_SPLIT_QWEN2}, {"deepseek-r1-qwen", PITH_SPLIT_QWEN2}, {"stablelm2", PITH_SPLIT_QWEN2}, {"megrez", PITH_SPLIT_QWEN2},
    {"hunyuan", PITH_SPLIT_QWEN2}, {"grok-2", PITH_SPLIT_QWEN2}, {"kormo", PITH_SPLIT_QWEN2},
    {"none", PITH_SPLIT_NONE}, {"metaspace", PITH_SPLIT_SPACES}, {"bert", PITH_SPLIT_BERT},
};

bool pith_split_by_name(const char *pre, pith_split *split)
{
    for (size_t i = 0; i < PITH_COUNT(names); i++) {
        if (strcmp(names[i].name, pre)) continue;
        *split = names[i].split;
        return true;
    }
    return false;
}
