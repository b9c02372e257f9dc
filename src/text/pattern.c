/* Patterns by PCRE2, in UTF mode with Unicode properties, compiled to machine code where PCRE2 can.  A run of bytes
 * that are not UTF-8 is a word, and ends the text for the pattern on both sides. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>

#include "text/unicode.h"

struct pith_pattern {
    pcre2_general_context *memory;
    pcre2_code *code;
};

struct pith_matcher {
    pith_ctx *ctx;
    const pith_pattern *pattern;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    const uint8_t *begin, *end;  /* the run of valid UTF-8 that was looked at last */
};

/* Sources: the tokenizer.json files of the models that bear these names (GPT-4o and Llama 4, Mistral Nemo, Qwen3.5,
 * Seed-Coder), as listed in llama.cpp's src/llama-vocab.cpp. */
#define CASED "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CONTRACTED "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
static const struct {
    const char *name, *regex;
} known[] = {
    {"gpt-4o", "[^\\r\\n\\p{L}\\p{N}]?" CASED "*" SMALL "+" CONTRACTED "?|[^\\r\\n\\p{L}\\p{N}]?" CASED "+" SMALL "*" CONTRACTED
               "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"tekken", "[^\\r\\n\\p{L}\\p{N}]?" CASED "*" SMALL "+|[^\\r\\n\\p{L}\\p{N}]?" CASED "+" SMALL
               "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"qwen35", CONTRACTED "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"seed-coder", CONTRACTED "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
};

const char *pith_pattern_by_name(const char *pre)
{
    if (!strcmp(pre, "llama4") || !strcmp(pre, "minimax-m2")) pre = "gpt-4o";
    for (size_t i = 0; i < PITH_COUNT(known); i++)
        if (!strcmp(known[i].name, pre)) return known[i].regex;
    return NULL;
}

static void *take(size_t size, void *ctx) { return pith_alloc(ctx, size); }
static void give(void *ptr, void *ctx) { pith_free(ctx, ptr); }

pith_status pith_pattern_new(pith_ctx *ctx, const char *regex, size_t len, pith_pattern **out)
{
    pith_pattern *p = pith_calloc(ctx, 1, sizeof *p);
    pcre2_compile_context *how = NULL;
    pith_status status = PITH_E_MEMORY;
    int error = 0;
    PCRE2_SIZE at = 0;
    if (!p) return PITH_E_MEMORY;
    p->memory = pcre2_general_context_create(take, give, ctx);
    if (p->memory) how = pcre2_compile_context_create(p->memory);
    if (how) {
        p->code = pcre2_compile((PCRE2_SPTR)regex, len, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, how);
        status = p->code ? PITH_OK : PITH_E_MEMORY;
        if (p->code && pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE)) pith_log(ctx, PITH_LOG_DEBUG, "tokenizer: its pattern is interpreted, not compiled");
    }
    pcre2_compile_context_free(how);
    if (how && !p->code && error != PCRE2_ERROR_NOMEMORY && error != PCRE2_ERROR_HEAP_FAILED) {
        PCRE2_UCHAR text[200] = "";
        pcre2_get_error_message(error, text, sizeof text);
        status = error == 121 /* failed to allocate heap memory */
                     ? PITH_E_MEMORY
                     : pith_fail(ctx, PITH_E_FORMAT, "tokenizer: its pattern does not compile at character %zu: %s", (size_t)at, (const char *)text);
    }
    if (status != PITH_OK) {
        pith_pattern_free(ctx, p);
        return status;
    }
    *out = p;
    return PITH_OK;
}

void pith_pattern_free(pith_ctx *ctx, pith_pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->memory);
    pith_free(ctx, p);
}

pith_status pith_matcher_new(pith_ctx *ctx, const pith_pattern *pattern, pith_matcher **out)
{
    pith_matcher *m = pith_calloc(ctx, 1, sizeof *m);
    if (!m) return PITH_E_MEMORY;
    *m = (pith_matcher){.ctx = ctx, .pattern = pattern};
    pcre2_general_context *memory = pcre2_general_context_create(take, give, ctx);
    if (memory) {
        m->data = pcre2_match_data_create_from_pattern(pattern->code, memory);
        m->limits = pcre2_match_context_create(memory);
    }
    pcre2_general_context_free(memory);
    if (!m->data || !m->limits) {
        pith_matcher_free(ctx, m);
        return PITH_E_MEMORY;
    }
    pcre2_set_heap_limit(m->limits, 1u << 20); /* KiB */
    *out = m;
    return PITH_OK;
}

void pith_matcher_free(pith_ctx *ctx, pith_matcher *m)
{
    if (!m) return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->limits);
    pith_free(ctx, m);
}

/* From p, the end of the bytes that are (`valid`), or are not, UTF-8. */
static const uint8_t *utf8_run(const uint8_t *p, const uint8_t *end, bool valid)
{
    while (p < end) {
        uint32_t c;
        size_t n = pith_utf8_next(p, end, &c);
        if ((n > 1 || *p < 0x80) != valid) break;
        p += n;
    }
    return p;
}

pith_status pith_matcher_next(pith_matcher *m, const uint8_t *text, size_t pos, size_t len, size_t *word_end)
{
    const uint8_t *p = text + pos;
    if (!pos || p < m->begin || p >= m->end) {
        const uint8_t *invalid = utf8_run(p, text + len, false);
        if (invalid > p) {
            *word_end = (size_t)(invalid - text);
            return PITH_OK;
        }
        m->begin = p;
        m->end = utf8_run(p, text + len, true);
    }
    size_t at = (size_t)(p - m->begin), n_bytes = (size_t)(m->end - m->begin);
    uint32_t options = PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK;
    int n = pcre2_match(m->pattern->code, m->begin, n_bytes, at, options, m->data, m->limits);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) n = pcre2_match(m->pattern->code, m->begin, n_bytes, at, options | PCRE2_NO_JIT, m->data, m->limits);
    if (n == PCRE2_ERROR_NOMATCH) {
        *word_end = (size_t)(m->end - text);
        return PITH_OK;
    }
    if (n == PCRE2_ERROR_NOMEMORY) return PITH_E_MEMORY;
    if (n < 0) {
        PCRE2_UCHAR why[200] = "";
        pcre2_get_error_message(n, why, sizeof why);
        return pith_fail(m->ctx, PITH_E_LIMIT, "tokenizer: its pattern gives up at byte %zu of the text: %s", pos, (const char *)why);
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->data);
    size_t end = v[0] > at ? v[0] : v[1];
    if (end <= at || end > n_bytes) return pith_fail(m->ctx, PITH_E_FORMAT, "tokenizer: its pattern matches backwards at byte %zu", pos);
    *word_end = (size_t)(m->begin - text) + end;
    return PITH_OK;
}
