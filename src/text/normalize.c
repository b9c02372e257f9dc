/* Normalisers.  Each step reads one buffer and writes the other. */
#include "text/normalize.h"

#include <utf8proc.h>

static const char mark[3] = {(char)0xE2, (char)0x96, (char)0x81}; /* U+2581, SentencePiece's space */

pith_status pith_text_buf_reserve(pith_ctx *ctx, pith_text_buf *b, size_t n)
{
    size_t need, cap;
    if (!pith_add(b->n, n, &need) || !pith_add(need, need / 2 + 64, &cap)) cap = SIZE_MAX;
    uint8_t *p = pith_resize(ctx, b->p, cap);
    if (!p) return PITH_E_MEMORY;
    b->p = p;
    b->cap = cap;
    return PITH_OK;
}

void pith_normalize_work_free(pith_ctx *ctx, pith_normalize_work *w)
{
    pith_free(ctx, w->a.p);
    pith_free(ctx, w->b.p);
    pith_free(ctx, w->code_points.p);
    *w = (pith_normalize_work){0};
}

/* ---- SentencePiece's map ---------------------------------------------------------------------- */

static pith_status charsmap_init(pith_ctx *ctx, pith_arena *arena, pith_str blob, pith_charsmap *m)
{
    const uint8_t *p = (const uint8_t *)blob.s;
    if (!blob.len) return PITH_OK;
    size_t trie = blob.len >= 4 ? pith_le32(p) : 0;
    if (blob.len < 4 || trie % 4 || trie == 0 || trie > blob.len - 4)
        return pith_fail(ctx, PITH_E_FORMAT, "tokenizer: precompiled_charsmap of %zu bytes says its trie has %zu", blob.len, trie);
    uint32_t *units = pith_arena_take(arena, trie);
    uint8_t *strings = pith_arena_take(arena, blob.len - 4 - trie + 1);
    if (!units || !strings) return PITH_E_MEMORY;
    for (size_t i = 0; i < trie / 4; i++) units[i] = pith_le32(p + 4 + 4 * i);
    memcpy(strings, p + 4 + trie, blob.len - 4 - trie);
    strings[blob.len - 4 - trie] = 0;
    *m = (pith_charsmap){units, trie / 4, strings, blob.len - 4 - trie};
    return PITH_OK;
}

/* What replaces a text: the string of the shortest key that is a prefix of it (so does `tokenizers`; SentencePiece
 * itself takes the longest, which differs for keys that are prefixes of each other).  NULL: nothing. */
static const char *charsmap_find(const pith_charsmap *m, const uint8_t *p, size_t len)
{
    size_t node = 0;
    uint32_t unit = m->units[0];
    node ^= (unit >> 10) << ((unit & 1u << 9) >> 6);
    for (size_t i = 0; i < len && p[i]; i++) {
        node ^= p[i];
        if (node >= m->n_units) return NULL;
        unit = m->units[node];
        if ((unit & (1u << 31 | 0xFF)) != p[i]) return NULL;
        node ^= (unit >> 10) << ((unit & 1u << 9) >> 6);
        if (unit >> 8 & 1) {
            if (node >= m->n_units) return NULL;
            size_t at = m->units[node] & 0x7FFFFFFF;
            return at <= m->n_strings ? (const char *)m->strings + at : NULL;
        }
    }
    return NULL;
}

/* Grapheme by grapheme when the whole of it (under 6 bytes) is in the map, else character by character: the rule
 * of `tokenizers`. */
static pith_status step_charsmap(pith_ctx *ctx, const pith_charsmap *m, const uint8_t *p, size_t len, pith_text_buf *dst)
{
    const uint8_t *end = p + len;
    if (!m->units) return pith_text_buf_put(ctx, dst, p, len);
    while (p < end) {
        uint32_t c, next;
        const uint8_t *q = p + pith_utf8_next(p, end, &c);
        bool ascii = *p < 0x80 && (q == end || *q < 0x80) && *p != '\r';
        utf8proc_int32_t state = 0;
        while (!ascii && q < end) {
            size_t n = pith_utf8_next(q, end, &next);
            if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)c, (utf8proc_int32_t)next, &state)) break;
            c = next;
            q += n;
        }
        const char *whole = q - p < 6 ? charsmap_find(m, p, (size_t)(q - p)) : NULL;
        if (whole) {
            PITH_TRY(pith_text_buf_put(ctx, dst, whole, strlen(whole)));
            p = q;
            continue;
        }
        for (size_t n; p < q; p += n) {
            n = pith_utf8_next(p, q, &c);
            const char *one = charsmap_find(m, p, n);
            PITH_TRY(one ? pith_text_buf_put(ctx, dst, one, strlen(one)) : pith_text_buf_put(ctx, dst, p, n));
        }
    }
    return PITH_OK;
}

/* ---- Unicode normal forms (UAX #15) ----------------------------------------------------------- */

static unsigned combining(int32_t c) { return (unsigned)utf8proc_get_property(c)->combining_class; }

/* Put the marks of each run in the order of their combining classes, equal ones as they were: insertion for a
 * few, counting for many, so that a long run costs no more than its length. */
static pith_status order_marks(pith_ctx *ctx, int32_t *c, size_t n)
{
    for (size_t i = 0, j; i < n; i = j) {
        j = i + 1;
        if (!combining(c[i])) continue;
        while (j < n && combining(c[j])) j++;
        size_t run = j - i;
        if (run <= 32) {
            for (size_t a = i + 1; a < j; a++) {
                int32_t x = c[a];
                unsigned k = combining(x);
                size_t b = a;
                for (; b > i && combining(c[b - 1]) > k; b--) c[b] = c[b - 1];
                c[b] = x;
            }
            continue;
        }
        size_t at[256] = {0}, sum = 0;
        int32_t *copy = pith_array(ctx, run, sizeof *copy);
        if (!copy) return PITH_E_MEMORY;
        memcpy(copy, c + i, run * sizeof *copy);
        for (size_t a = 0; a < run; a++) at[combining(copy[a]) & 255]++;
        for (size_t k = 0; k < 256; k++) {
            size_t count = at[k];
            at[k] = sum;
            sum += count;
        }
        for (size_t a = 0; a < run; a++) c[i + at[combining(copy[a]) & 255]++] = copy[a];
        pith_free(ctx, copy);
    }
    return PITH_OK;
}

/* One piece of valid UTF-8 that neither changes nor is changed by what is around it. */
static pith_status normal_form(pith_ctx *ctx, const uint8_t *p, const uint8_t *end, int options, pith_text_buf *cps, pith_text_buf *dst)
{
    enum { MOST = 32 }; /* the longest decomposition has 18 characters */
    cps->n = 0;
    while (p < end) {
        uint32_t c;
        int boundary = 0;
        p += pith_utf8_next(p, end, &c);
        if (cps->cap - cps->n < MOST * 4) PITH_TRY(pith_text_buf_reserve(ctx, cps, MOST * 4));
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, (utf8proc_int32_t *)(void *)(cps->p + cps->n), MOST,
                                                     (utf8proc_option_t)options, &boundary);
        if (n < 0 || n > MOST) return pith_fail(ctx, PITH_E_INTERNAL, "tokenizer: U+%04X does not decompose: %s", c, utf8proc_errmsg(n));
        cps->n += (size_t)n * 4;
    }
    int32_t *c = (int32_t *)(void *)cps->p;
    size_t n = cps->n / 4;
    PITH_TRY(order_marks(ctx, c, n));
    if (options & UTF8PROC_COMPOSE) {
        utf8proc_ssize_t left = utf8proc_normalize_utf32(c, (utf8proc_ssize_t)n, (utf8proc_option_t)options);
        if (left < 0) return pith_fail(ctx, PITH_E_INTERNAL, "tokenizer: %s", utf8proc_errmsg(left));
        n = (size_t)left;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t u[4];
        PITH_TRY(pith_text_buf_put(ctx, dst, u, pith_utf8_put((uint32_t)c[i], u)));
    }
    return PITH_OK;
}

/* NFC: only a character that may change, with the one before it and those after it that may change too. */
static pith_status step_nfc(pith_ctx *ctx, const pith_unicode *u, const uint8_t *p, size_t len, pith_text_buf *cps, pith_text_buf *dst)
{
    const uint8_t *end = p + len, *done = p, *before = p; /* before: start of the last character seen */
    const int options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    while (p < end) {
        size_t n;
        unsigned k = pith_class_at(u, p, end, &n);
        if (!(k & PITH_CHAR_NFC)) {
            before = p;
            p += n;
            continue;
        }
        uint32_t c;
        if (before < p && *before >= 0x80 && pith_utf8_next(before, p, &c) == 1) before = p; /* an invalid byte */
        const uint8_t *from = before;
        while (p < end && (pith_class_at(u, p, end, &n) & PITH_CHAR_NFC)) p += n;
        PITH_TRY(pith_text_buf_put(ctx, dst, done, (size_t)(from - done)));
        PITH_TRY(normal_form(ctx, from, p, options, cps, dst));
        done = before = p;
    }
    return pith_text_buf_put(ctx, dst, done, (size_t)(end - done));
}

/* The other forms: ASCII is left as it is, but the character before what is not ASCII goes with it. */
static pith_status step_normal_form(pith_ctx *ctx, int options, const uint8_t *p, size_t len, pith_text_buf *cps, pith_text_buf *dst)
{
    const uint8_t *end = p + len, *done = p;
    while (p < end) {
        if (*p < 0x80) {
            p++;
            continue;
        }
        const uint8_t *from = p > done ? p - 1 : p;
        uint32_t c;
        size_t n = 1;
        while (p < end && *p >= 0x80 && (n = pith_utf8_next(p, end, &c)) > 1) p += n;
        PITH_TRY(pith_text_buf_put(ctx, dst, done, (size_t)(from - done)));
        PITH_TRY(normal_form(ctx, from, p, options, cps, dst));
        if (p < end && *p >= 0x80) PITH_TRY(pith_text_buf_put(ctx, dst, p++, 1)); /* an invalid byte */
        done = p;
    }
    return pith_text_buf_put(ctx, dst, done, (size_t)(end - done));
}

/* ---- case, accents, BERT ---------------------------------------------------------------------- */

/* Lower case, one character at a time (full mapping: only U+0130 becomes two); drops the classes of `drop`. */
static pith_status step_lower(pith_ctx *ctx, const pith_unicode *u, const uint8_t *p, size_t len, bool lower, unsigned drop, pith_text_buf *dst)
{
    const uint8_t *end = p + len;
    PITH_TRY(pith_text_buf_reserve(ctx, dst, len));
    while (p < end) {
        if (*p < 0x80) {
            uint8_t c = *p++;
            if (lower && c >= 'A' && c <= 'Z') c |= 0x20;
            PITH_TRY(pith_text_buf_put(ctx, dst, &c, 1));
            continue;
        }
        uint32_t c;
        size_t n = pith_utf8_next(p, end, &c);
        uint8_t out[8];
        if (n == 1) {
            PITH_TRY(pith_text_buf_put(ctx, dst, p, 1));
        } else if (!(pith_char_class(u, c) & drop)) {
            size_t m = 0;
            if (lower && c == 0x130) {
                out[0] = 'i';
                m = 1 + pith_utf8_put(0x307, out + 1);
            } else {
                m = pith_utf8_put(lower ? (uint32_t)utf8proc_tolower((utf8proc_int32_t)c) : c, out);
            }
            PITH_TRY(pith_text_buf_put(ctx, dst, out, m));
        }
        p += n;
    }
    return PITH_OK;
}

/* BERT's Chinese characters, as `tokenizers` has them (its last range but one begins at 2B920). */
static bool is_cjk(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* Controls, NUL and U+FFFD go, white space becomes a space; Chinese characters get a space on each side. */
static pith_status step_clean(pith_ctx *ctx, const pith_unicode *u, const uint8_t *p, size_t len, unsigned flags, pith_text_buf *dst)
{
    const uint8_t *end = p + len;
    PITH_TRY(pith_text_buf_reserve(ctx, dst, len));
    for (size_t n; p < end; p += n) {
        uint32_t c;
        n = pith_utf8_next(p, end, &c);
        unsigned k = pith_char_class(u, c);
        if (flags & PITH_BERT_CLEAN) {
            if (c == 0 || c == PITH_REPLACEMENT || (k & PITH_CHAR_CONTROL)) continue;
            if (k & PITH_CHAR_SPACE) {
                PITH_TRY(pith_text_buf_put(ctx, dst, " ", 1));
                continue;
            }
        }
        bool wide = (flags & PITH_BERT_CJK) && is_cjk(c);
        if (wide) PITH_TRY(pith_text_buf_put(ctx, dst, " ", 1));
        PITH_TRY(pith_text_buf_put(ctx, dst, p, n));
        if (wide) PITH_TRY(pith_text_buf_put(ctx, dst, " ", 1));
    }
    return PITH_OK;
}

/* ---- spaces and strings ----------------------------------------------------------------------- */

static void strip(const pith_unicode *u, unsigned flags, const uint8_t **p, size_t *len)
{
    const uint8_t *from = *p, *end = *p + *len, *last;
    size_t n;
    while ((flags & PITH_STRIP_LEFT) && from < end && (pith_class_at(u, from, end, &n) & PITH_CHAR_SPACE)) from += n;
    if (flags & PITH_STRIP_RIGHT) {
        last = from;
        for (const uint8_t *q = from; q < end; q += n)
            if (!(pith_class_at(u, q, end, &n) & PITH_CHAR_SPACE)) last = q + n;
        end = last;
    }
    *p = from;
    *len = (size_t)(end - from);
}

static pith_status step_replace(pith_ctx *ctx, pith_str from, pith_str to, const uint8_t *p, size_t len, pith_text_buf *dst)
{
    const uint8_t *end = p + len;
    while (from.len && p < end) {
        const uint8_t *hit = from.len == 1 ? memchr(p, from.s[0], (size_t)(end - p)) : memmem(p, (size_t)(end - p), from.s, from.len);
        if (!hit) break;
        PITH_TRY(pith_text_buf_put(ctx, dst, p, (size_t)(hit - p)));
        PITH_TRY(pith_text_buf_put(ctx, dst, to.s, to.len));
        p = hit + from.len;
    }
    return pith_text_buf_put(ctx, dst, p, (size_t)(end - p));
}

static pith_status step_replace_runs(pith_ctx *ctx, pith_str to, const uint8_t *p, size_t len, pith_text_buf *dst)
{
    const uint8_t *end = p + len;
    while (p < end) {
        const uint8_t *q = memchr(p, ' ', (size_t)(end - p));
        if (!q) q = end;
        PITH_TRY(pith_text_buf_put(ctx, dst, p, (size_t)(q - p)));
        for (p = q; p < end && *p == ' ';) p++;
        if (p - q == 1) PITH_TRY(pith_text_buf_put(ctx, dst, " ", 1));
        if (p - q > 1) PITH_TRY(pith_text_buf_put(ctx, dst, to.s, to.len));
    }
    return PITH_OK;
}

static bool starts_with_mark(const uint8_t *p, size_t len) { return len >= 3 && !memcmp(p, mark, 3); }

static pith_status step_words(pith_ctx *ctx, const pith_unicode *u, const uint8_t *p, size_t len, pith_text_buf *dst)
{
    const uint8_t *end = p + len;
    size_t n;
    while (p < end) {
        while (p < end && (pith_class_at(u, p, end, &n) & PITH_CHAR_SPACE)) p += n;
        const uint8_t *q = p;
        while (q < end && !(pith_class_at(u, q, end, &n) & PITH_CHAR_SPACE)) q += n;
        if (q == p) break;
        if (!starts_with_mark(p, (size_t)(q - p))) PITH_TRY(pith_text_buf_put(ctx, dst, mark, 3));
        PITH_TRY(pith_text_buf_put(ctx, dst, p, (size_t)(q - p)));
        p = q;
    }
    return PITH_OK;
}

static const pith_str space = {" ", 1}, marked = {mark, 3};

/* One step into dst, which is empty. */
static pith_status step(pith_ctx *ctx, const pith_normalizer *z, const pith_text_step *s, const uint8_t *p, size_t len, bool first,
                        pith_text_buf *cps, pith_text_buf *dst)
{
    const pith_unicode *u = z->unicode;
    switch (s->kind) {
    case PITH_STEP_NFC: return step_nfc(ctx, u, p, len, cps, dst);
    case PITH_STEP_NFD: return step_normal_form(ctx, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, p, len, cps, dst);
    case PITH_STEP_NFKC: return step_normal_form(ctx, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, p, len, cps, dst);
    case PITH_STEP_NFKD: return step_normal_form(ctx, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, p, len, cps, dst);
    case PITH_STEP_LOWERCASE: return step_lower(ctx, u, p, len, true, 0, dst);
    case PITH_STEP_STRIP_ACCENTS: return step_lower(ctx, u, p, len, false, PITH_CHAR_MARK, dst);
    case PITH_STEP_REPLACE: return step_replace(ctx, s->from, s->to, p, len, dst);
    case PITH_STEP_REPLACE_RUNS: return step_replace_runs(ctx, s->to, p, len, dst);
    case PITH_STEP_CHARSMAP: return step_charsmap(ctx, &z->map, p, len, dst);
    case PITH_STEP_WORDS: return step_words(ctx, u, p, len, dst);
    case PITH_STEP_STRIP:
        strip(u, s->flags, &p, &len);
        return pith_text_buf_put(ctx, dst, p, len);
    case PITH_STEP_PREPEND:
        if (len) PITH_TRY(pith_text_buf_put(ctx, dst, s->to.s, s->to.len));
        return pith_text_buf_put(ctx, dst, p, len);
    case PITH_STEP_METASPACE:
        if ((s->flags & PITH_METASPACE_ALWAYS || (s->flags & PITH_METASPACE_FIRST && first)) && len && *p != ' ' && !starts_with_mark(p, len))
            PITH_TRY(pith_text_buf_put(ctx, dst, mark, 3));
        return step_replace(ctx, space, marked, p, len, dst);
    case PITH_STEP_PREFIX_SPACE:
        if (len && *p != ' ') PITH_TRY(pith_text_buf_put(ctx, dst, " ", 1));
        return pith_text_buf_put(ctx, dst, p, len);
    case PITH_STEP_BERT: break; /* several passes: below */
    }
    return pith_fail(ctx, PITH_E_INTERNAL, "tokenizer: step %d is not known", (int)s->kind);
}

pith_status pith_normalize(pith_ctx *ctx, const pith_normalizer *z, size_t step0, size_t step1, const uint8_t *text, size_t len, bool first,
                           pith_normalize_work *w, const uint8_t **dst, size_t *dst_len)
{
    pith_text_buf *from = &w->a, *to = &w->b;
#define PASS(call)                       \
    do {                                 \
        to->n = 0;                       \
        PITH_TRY(call);                  \
        pith_text_buf *swap_ = from;     \
        from = to;                       \
        to = swap_;                      \
        text = from->n ? from->p : text; \
        len = from->n;                   \
    } while (0)
    for (size_t i = step0; i < step1; i++) {
        const pith_text_step *s = &z->steps[i];
        if (s->kind != PITH_STEP_BERT) {
            PASS(step(ctx, z, s, text, len, first, &w->code_points, to));
            continue;
        }
        if (s->flags & (PITH_BERT_CLEAN | PITH_BERT_CJK)) PASS(step_clean(ctx, z->unicode, text, len, s->flags, to));
        if (s->flags & PITH_BERT_ACCENTS) PASS(step_normal_form(ctx, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, text, len, &w->code_points, to));
        if (s->flags & (PITH_BERT_ACCENTS | PITH_BERT_LOWER))
            PASS(step_lower(ctx, z->unicode, text, len, s->flags & PITH_BERT_LOWER, s->flags & PITH_BERT_ACCENTS ? PITH_CHAR_ACCENT : 0, to));
    }
#undef PASS
    *dst = text;
    *dst_len = len;
    return PITH_OK;
}

static pith_status copy_str(pith_arena *arena, pith_str *s)
{
    char *p = pith_arena_take(arena, s->len + 1);
    if (!p) return PITH_E_MEMORY;
    if (s->len) memcpy(p, s->s, s->len);
    p[s->len] = 0;
    s->s = p;
    return PITH_OK;
}

pith_status pith_normalizer_init(pith_ctx *ctx, pith_arena *arena, const pith_unicode *unicode, const pith_vocab *v, pith_normalizer *z)
{
    pith_text_step own[4];
    const pith_text_step *steps = v->steps;
    size_t n = v->n_steps;
    if (!steps) {
        n = 0;
        switch (v->kind) {
        case PITH_VOCAB_NONE: break;
        case PITH_VOCAB_BPE: /* Qwen2's tokenizer.json begins with NFC, which GGUF does not tell */
            if (!strcmp(v->pre, "qwen2")) own[n++] = (pith_text_step){.kind = PITH_STEP_NFC};
            if (v->add_space_prefix) own[n++] = (pith_text_step){.kind = PITH_STEP_PREFIX_SPACE};
            break;
        case PITH_VOCAB_UNIGRAM:
            if (v->charsmap.len) own[n++] = (pith_text_step){.kind = PITH_STEP_CHARSMAP};
            if (v->remove_extra_spaces) {
                own[n++] = (pith_text_step){.kind = PITH_STEP_STRIP, .flags = PITH_STRIP_LEFT | PITH_STRIP_RIGHT};
                own[n++] = (pith_text_step){.kind = PITH_STEP_REPLACE_RUNS, .to = space};
                own[n++] = (pith_text_step){.kind = PITH_STEP_METASPACE, .flags = v->add_space_prefix ? PITH_METASPACE_ALWAYS : 0};
                break;
            }
            /* fall through */
        case PITH_VOCAB_SPM:
            if (v->add_space_prefix) own[n++] = (pith_text_step){.kind = PITH_STEP_PREPEND, .to = marked};
            own[n++] = (pith_text_step){.kind = PITH_STEP_REPLACE, .from = space, .to = marked};
            break;
        case PITH_VOCAB_WORDPIECE:
            own[n++] = (pith_text_step){.kind = PITH_STEP_BERT,
                                        .flags = PITH_BERT_CLEAN | PITH_BERT_CJK | (v->lowercase ? PITH_BERT_ACCENTS | PITH_BERT_LOWER : 0)};
            break;
        }
        steps = own;
    }
    z->unicode = unicode;
    z->n_steps = n;
    for (z->n_before = 0; z->n_before < n; z->n_before++) {
        pith_text_step_kind k = steps[z->n_before].kind;
        if (k == PITH_STEP_METASPACE || k == PITH_STEP_WORDS || k == PITH_STEP_PREFIX_SPACE) break;
    }
    z->steps = pith_arena_take(arena, n * sizeof *z->steps);
    if (!z->steps) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        z->steps[i] = steps[i];
        PITH_TRY(copy_str(arena, &z->steps[i].from));
        PITH_TRY(copy_str(arena, &z->steps[i].to));
    }
    z->map = (pith_charsmap){0};
    return charsmap_init(ctx, arena, v->charsmap, &z->map);
}
