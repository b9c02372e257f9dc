/* The tokenizer: tables from a vocabulary; special tokens, steps, words, models. */
#include "text/model.h"

/* ---- bytes of tokens -------------------------------------------------------------------------- */

/* GPT-2's byte letters: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up, in order. */
static int byte_of_letter(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF)) return (int)c;
    if (c < 0x100 || c >= 0x144) return -1;
    c -= 0x100;
    if (c < 0x21) return (int)c;                 /* 00..20 */
    if (c < 0x21 + 0x22) return (int)c - 0x21 + 0x7F; /* 7F..A0 */
    return 0xAD;
}

size_t pith_byte_letter(uint8_t byte, char letter[2])
{
    unsigned c = byte;
    if (byte_of_letter(c) < 0) c = 0x100 + (byte < 0x21 ? byte : byte < 0xAD ? 0x21 + byte - 0x7Fu : 0x43);
    if (c < 0x80) return letter[0] = (char)c, (size_t)1;
    letter[0] = (char)(0xC0 | c >> 6);
    letter[1] = (char)(0x80 | (c & 0x3F));
    return 2;
}

size_t pith_byte_letters_undo(const uint8_t *token, size_t len, uint8_t *dst)
{
    const uint8_t *p = token, *end = token + len;
    size_t n = 0;
    while (p < end) {
        uint32_t c;
        p += pith_utf8_next(p, end, &c);
        int b = byte_of_letter(c);
        if (b < 0) return SIZE_MAX;
        dst[n++] = (uint8_t)b;
    }
    return n;
}

static const uint8_t mark[3] = {0xE2, 0x96, 0x81};

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "<0x41>" names, or -1. */
static int byte_token(const uint8_t *p, size_t len)
{
    if (len != 6 || memcmp(p, "<0x", 3) || p[5] != '>') return -1;
    int a = hex_digit(p[3]), b = hex_digit(p[4]);
    return a < 0 || b < 0 ? -1 : a * 16 + b;
}

/* What a token of the file stands for, into dst (cap >= len + 1); its length. */
static size_t token_bytes(const pith_vocab *v, bool marked_words, uint8_t type, const uint8_t *p, size_t len, uint8_t *dst)
{
    size_t n = 0;
    if (type == PITH_TOKEN_BYTE) {
        int b = byte_token(p, len);
        if (b >= 0) {
            dst[0] = (uint8_t)b;
            return 1;
        }
    } else if (type == PITH_TOKEN_NORMAL && v->kind == PITH_VOCAB_BPE) {
        n = pith_byte_letters_undo(p, len, dst);
        if (n != SIZE_MAX) return n;
        n = 0;
    } else if (type == PITH_TOKEN_NORMAL && v->kind == PITH_VOCAB_WORDPIECE && !marked_words) {
        pith_str prefix = v->word_prefix.len ? v->word_prefix : (pith_str){"##", 2};
        if (len > prefix.len && !memcmp(p, prefix.s, prefix.len)) {
            memcpy(dst, p + prefix.len, len - prefix.len);
            return len - prefix.len;
        }
        dst[0] = ' ';
        memcpy(dst + 1, p, len);
        return len + 1;
    } else if (v->kind != PITH_VOCAB_BPE && type != PITH_TOKEN_CONTROL) {
        for (size_t i = 0; i < len;) {
            if (len - i >= 3 && !memcmp(p + i, mark, 3)) {
                dst[n++] = ' ';
                i += 3;
            } else {
                dst[n++] = p[i++];
            }
        }
        return n;
    }
    memcpy(dst, p, len);
    return len;
}

/* ---- building --------------------------------------------------------------------------------- */

/* Names, pieces and bytes of all tokens, and the maps over them. */
static pith_status build_texts(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    size_t n = v->n_tokens, total = 0, marked = 0, hashed = 0;
    for (size_t i = 0; i < n; i++) {
        if (!pith_add(total, v->tokens[i].len + 1, &total) || total >= UINT32_MAX)
            return pith_fail(ctx, PITH_E_LIMIT, "tokenizer: the texts of its %zu tokens have over 4 GB", n);
        marked += v->tokens[i].len > 3 && !memcmp(v->tokens[i].s, mark, 3);
        hashed += v->tokens[i].len > 2 && !memcmp(v->tokens[i].s, "##", 2);
    }
    bool bpe = v->kind == PITH_VOCAB_BPE;
    tok->marked_words = v->kind == PITH_VOCAB_WORDPIECE && !v->word_prefix.len && marked > hashed;
    tok->name_text = pith_arena_take(tok->arena, total);
    tok->bytes = pith_arena_take(tok->arena, total);
    tok->name_begin = pith_arena_take(tok->arena, (n + 1) * sizeof *tok->name_begin);
    tok->begin = pith_arena_take(tok->arena, (n + 1) * sizeof *tok->begin);
    if (!tok->name_text || !tok->bytes || !tok->name_begin || !tok->begin) return PITH_E_MEMORY;
    uint32_t at_name = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = (const uint8_t *)v->tokens[i].s;
        size_t len = v->tokens[i].len;
        tok->name_begin[i] = at_name;
        tok->begin[i] = at;
        if (len) memcpy(tok->name_text + at_name, p, len);
        at_name += (uint32_t)len;
        if (len) at += (uint32_t)token_bytes(v, tok->marked_words, tok->types[i], p, len, tok->bytes + at);
    }
    tok->name_begin[n] = at_name;
    tok->begin[n] = at;
    tok->pieces = bpe ? tok->bytes : tok->name_text;
    tok->piece_begin = bpe ? tok->begin : tok->name_begin;
    PITH_TRY(pith_string_map_init(ctx, tok->arena, n, tok->name_text, tok->name_begin, &tok->names));
    PITH_TRY(pith_string_map_init(ctx, tok->arena, n, tok->pieces, tok->piece_begin, &tok->ids));
    for (size_t i = 0; i < n; i++) pith_string_map_add(&tok->names, (uint32_t)i, false);
    for (size_t i = 0; i < n; i++)
        if (tok->types[i] == PITH_TOKEN_NORMAL) pith_string_map_add(&tok->ids, (uint32_t)i, false);
    for (size_t i = 0; i < n; i++)
        if (tok->types[i] == PITH_TOKEN_USER) pith_string_map_add(&tok->ids, (uint32_t)i, false);
    return PITH_OK;
}

static size_t name_len(const pith_tokenizer *tok, size_t id) { return tok->name_begin[id + 1] - tok->name_begin[id]; }

/* The tries of the tokens that are looked for in the text. */
static pith_status build_special(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    size_t early = 0, late = 0;
    for (size_t i = 0; i < tok->n_tokens; i++) {
        uint8_t type = tok->types[i];
        bool looked_for = type == PITH_TOKEN_CONTROL || type == PITH_TOKEN_USER || type == PITH_TOKEN_UNKNOWN;
        tok->added[i] = v->added ? v->added[i] : looked_for ? PITH_ADDED : 0;
        if (!(tok->added[i] & PITH_ADDED) || !name_len(tok, i)) continue;
        *(tok->added[i] & PITH_ADDED_NORMALIZED ? &late : &early) += name_len(tok, i);
    }
    pith_normalize_work work = {0};
    pith_status status = PITH_OK;
    /* a late token is looked for in the form that the steps give it, which may be longer */
    for (size_t i = 0; i < tok->n_tokens && status == PITH_OK && late; i++) {
        const uint8_t *p;
        size_t len;
        if (!(tok->added[i] & PITH_ADDED) || !(tok->added[i] & PITH_ADDED_NORMALIZED)) continue;
        status = pith_normalize(ctx, &tok->normalizer, 0, tok->normalizer.n_before, tok->name_text + tok->name_begin[i], name_len(tok, i), false, &work, &p, &len);
        late += len;
    }
    if (status == PITH_OK) status = pith_trie_init(ctx, tok->arena, early, &tok->special);
    if (status == PITH_OK) status = pith_trie_init(ctx, tok->arena, late, &tok->special_late);
    for (size_t i = 0; i < tok->n_tokens && status == PITH_OK; i++) {
        const uint8_t *p = tok->name_text + tok->name_begin[i];
        size_t len = name_len(tok, i);
        if (!(tok->added[i] & PITH_ADDED)) continue;
        bool is_late = tok->added[i] & PITH_ADDED_NORMALIZED;
        if (is_late) status = pith_normalize(ctx, &tok->normalizer, 0, tok->normalizer.n_before, p, len, false, &work, &p, &len);
        if (status == PITH_OK) pith_trie_add(is_late ? &tok->special_late : &tok->special, p, len, (int32_t)i);
    }
    tok->has_special = early > 0;
    tok->has_late = late > 0;
    pith_normalize_work_free(ctx, &work);
    return status;
}

/* How words are cut: by the pre-tokenizer's name if there is a scanner of that name for this kind, else, for a
 * byte-level BPE, by a pattern. */
static pith_status choose_split(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    pith_split named = PITH_SPLIT_NONE;
    bool is_named = pith_split_by_name(v->pre, &named), is_mark = named == PITH_SPLIT_SPACES, is_bert = named == PITH_SPLIT_BERT;
    tok->split = PITH_SPLIT_NONE;
    if (v->kind == PITH_VOCAB_WORDPIECE) tok->split = PITH_SPLIT_BERT;
    if ((v->kind == PITH_VOCAB_SPM || v->kind == PITH_VOCAB_UNIGRAM) && is_mark) tok->split = PITH_SPLIT_SPACES;
    if (v->kind != PITH_VOCAB_BPE) return PITH_OK;
    if (is_named && !is_mark && !is_bert) {
        tok->split = named;
        return PITH_OK;
    }
    tok->split = PITH_SPLIT_GPT2;
    const char *regex = pith_pattern_by_name(v->pre);
    if (regex) return pith_pattern_new(ctx, regex, strlen(regex), &tok->pattern);
    if (v->pattern.len) return pith_pattern_new(ctx, v->pattern.s, v->pattern.len, &tok->pattern);
    pith_log(ctx, PITH_LOG_WARN, "tokenizer: pre-tokenizer \"%.*s\" is not known; GPT-2's is used, token ids may differ from the model's own",
             (int)sizeof v->pre, v->pre);
    return PITH_OK;
}

/* Tokens after which generation ends, by the file and by the names that chat models use. */
static void mark_ends(pith_tokenizer *tok)
{
    static const char *const names[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<|end|>", "<|eot|>"};
    const int32_t ids[] = {tok->eos, tok->eot};
    for (size_t i = 0; i < PITH_COUNT(ids); i++)
        if (ids[i] >= 0) tok->ends[ids[i]] = true;
    for (size_t i = 0; i < PITH_COUNT(names); i++) {
        int32_t id = pith_tokenizer_find(tok, names[i], strlen(names[i]));
        if (id >= 0 && (tok->types[id] == PITH_TOKEN_CONTROL || tok->types[id] == PITH_TOKEN_USER)) tok->ends[id] = true;
    }
}

static pith_status build(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    size_t n = v->n_tokens;
    tok->types = pith_arena_take(tok->arena, n);
    tok->added = pith_arena_take(tok->arena, n);
    tok->ends = pith_arena_take(tok->arena, n * sizeof *tok->ends);
    tok->chat_template = pith_arena_take(tok->arena, v->chat_template.len + 1);
    if (!tok->types || !tok->added || !tok->ends || !tok->chat_template) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        uint8_t type = v->types ? v->types[i] : PITH_TOKEN_NORMAL;
        tok->types[i] = type >= PITH_TOKEN_NORMAL && type <= PITH_TOKEN_BYTE ? type : PITH_TOKEN_NORMAL;
        tok->ends[i] = false;
    }
    if (v->chat_template.len) memcpy(tok->chat_template, v->chat_template.s, v->chat_template.len);
    tok->chat_template[v->chat_template.len] = 0;
    const struct {
        int32_t id, *dst;
        const char *name;
    } ids[] = {{v->bos, &tok->bos, "bos"}, {v->eos, &tok->eos, "eos"}, {v->unk, &tok->unk, "unknown"}, {v->pad, &tok->pad, "padding"}, {v->eot, &tok->eot, "end-of-turn"}};
    for (size_t i = 0; i < PITH_COUNT(ids); i++) {
        *ids[i].dst = ids[i].id >= 0 && (size_t)ids[i].id < n ? ids[i].id : -1;
        if (ids[i].id >= 0 && (size_t)ids[i].id >= n)
            pith_log(ctx, PITH_LOG_WARN, "tokenizer: its %s token is %d, but it has %zu tokens: none is used", ids[i].name, ids[i].id, n);
    }
    tok->add_bos = v->add_bos && tok->bos >= 0;
    tok->add_eos = v->add_eos && tok->eos >= 0;
    tok->ignore_merges = v->ignore_merges;
    tok->fuse_unknown = !v->keep_unknown;
    /* GGUF files of byte-level models name an unknown token (often the end of text) that the model never sees */
    if (v->kind == PITH_VOCAB_BPE && tok->unk >= 0 && tok->types[tok->unk] != PITH_TOKEN_UNKNOWN) tok->unk = -1;
    PITH_TRY(pith_unicode_init(ctx, tok->arena, &tok->unicode));
    PITH_TRY(build_texts(ctx, v, tok));
    PITH_TRY(choose_split(ctx, v, tok));
    PITH_TRY(pith_normalizer_init(ctx, tok->arena, &tok->unicode, v, &tok->normalizer));
    PITH_TRY(build_special(ctx, v, tok));
    mark_ends(tok);
    for (int b = 0; b < 256; b++) tok->byte_id[b] = -1;
    for (size_t i = 0; i < n; i++) {
        int b = tok->types[i] == PITH_TOKEN_BYTE ? byte_token(tok->name_text + tok->name_begin[i], name_len(tok, i)) : -1;
        if (b < 0) continue;
        tok->byte_id[b] = (int32_t)i;
        tok->byte_fallback = true;
    }
    switch (tok->kind) {
    case PITH_VOCAB_BPE: return pith_bpe_init(ctx, v, tok);
    case PITH_VOCAB_SPM: return pith_spm_init(ctx, v, tok);
    case PITH_VOCAB_UNIGRAM: return pith_unigram_init(ctx, v, tok);
    case PITH_VOCAB_WORDPIECE: return pith_wordpiece_init(ctx, v, tok);
    case PITH_VOCAB_NONE: break;
    }
    return pith_fail(ctx, PITH_E_INTERNAL, "tokenizer: kind %d", (int)tok->kind);
}

pith_status pith_tokenizer_new(pith_ctx *ctx, const pith_vocab *vocab, pith_tokenizer **out)
{
    if (vocab->kind == PITH_VOCAB_NONE || !vocab->n_tokens || !vocab->tokens)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "the file holds no tokenizer that pith knows: give token ids, or a file with one");
    if (vocab->n_tokens > (size_t)1 << 30) return pith_fail(ctx, PITH_E_LIMIT, "tokenizer: %zu tokens, over the limit of 2^30", vocab->n_tokens);
    pith_tokenizer *tok = pith_calloc(ctx, 1, sizeof *tok);
    if (!tok) return PITH_E_MEMORY;
    tok->kind = vocab->kind;
    tok->n_tokens = vocab->n_tokens;
    tok->arena = pith_arena_new(ctx);
    pith_mark scratch = pith_arena_mark(pith_scratch(ctx));
    pith_status status = tok->arena ? build(ctx, vocab, tok) : PITH_E_MEMORY;
    pith_arena_reset(pith_scratch(ctx), scratch);
    if (status != PITH_OK) {
        pith_tokenizer_free(ctx, tok);
        return status;
    }
    *out = tok;
    return PITH_OK;
}

void pith_tokenizer_free(pith_ctx *ctx, pith_tokenizer *tok)
{
    if (!tok) return;
    pith_pattern_free(ctx, tok->pattern);
    pith_arena_free(tok->arena);
    pith_free(ctx, tok);
}

/* ---- encoding --------------------------------------------------------------------------------- */

void pith_ids_free(pith_ctx *ctx, pith_ids *ids)
{
    pith_free(ctx, ids->ids);
    *ids = (pith_ids){0};
}

pith_status pith_ids_reserve(pith_ctx *ctx, pith_ids *ids, size_t n)
{
    size_t need, cap, bytes;
    if (ids->cap - ids->n >= n) return PITH_OK;
    if (!pith_add(ids->n, n, &need) || !pith_add(need, need / 2 + 64, &cap) || !pith_mul(cap, sizeof *ids->ids, &bytes)) bytes = SIZE_MAX;
    int32_t *p = pith_resize(ctx, ids->ids, bytes);
    if (!p) return PITH_E_MEMORY;
    ids->ids = p;
    ids->cap = bytes / sizeof *p;
    return PITH_OK;
}

pith_status pith_encoder_work(pith_encoder *e, size_t n, void **p)
{
    e->work.n = 0;
    if (e->work.cap < n) PITH_TRY(pith_text_buf_reserve(e->ctx, &e->work, n));
    *p = e->work.p;
    return PITH_OK;
}

static pith_status encode_word(pith_encoder *e, const uint8_t *p, size_t len)
{
    switch (e->tok->kind) {
    case PITH_VOCAB_BPE: return pith_bpe_word(e, p, len);
    case PITH_VOCAB_SPM: return pith_spm_word(e, p, len);
    case PITH_VOCAB_UNIGRAM: return pith_unigram_word(e, p, len);
    case PITH_VOCAB_WORDPIECE: return pith_wordpiece_word(e, p, len);
    case PITH_VOCAB_NONE: break;
    }
    return pith_fail(e->ctx, PITH_E_INTERNAL, "tokenizer: kind %d", (int)e->tok->kind);
}

/* Cut into words and encode each; one that came before in this text is copied from the output. */
static pith_status encode_words(pith_encoder *e, const uint8_t *text, size_t len)
{
    const pith_tokenizer *tok = e->tok;
    pith_ids *ids = e->ids;
    e->epoch++;
    for (size_t pos = 0, end; pos < len; pos = end) {
        bool space = false;
        if (e->matcher) PITH_TRY(pith_matcher_next(e->matcher, text, pos, len, &end));
        else end = pith_split_next(&tok->unicode, tok->split, text, pos, len, &space);
        size_t n = end - pos;
        if (space) continue;
        const uint8_t *p = text + pos;
        if (n == 1 && tok->kind == PITH_VOCAB_BPE && tok->byte_id[*p] >= 0 && ids->n < ids->cap) {
            ids->ids[ids->n++] = tok->byte_id[*p];
            continue;
        }
        if (n > PITH_WORD_CACHED) {
            PITH_TRY(encode_word(e, p, n));
            continue;
        }
        uint64_t h = pith_hash_short(p, n);
        pith_seen *s = &e->seen[h & e->seen_mask];
        uint32_t tag = (uint32_t)(h >> 32);
        if (s->tag == tag && s->epoch == e->epoch && s->len == n && !memcmp(text + s->start, p, n)) {
            if (ids->cap - ids->n < s->n) PITH_TRY(pith_ids_reserve(e->ctx, ids, s->n));
            const int32_t *src = ids->ids + s->out;
            int32_t *dst = ids->ids + ids->n;
            for (size_t i = 0; i < s->n; i++) dst[i] = src[i];
            ids->n += s->n;
            continue;
        }
        size_t out = ids->n, lost = e->n_lost;
        PITH_TRY(encode_word(e, p, n));
        if (out <= UINT32_MAX && lost == e->n_lost) *s = (pith_seen){tag, e->epoch, (uint32_t)pos, (uint32_t)out, (uint16_t)n, (uint16_t)(ids->n - out)};
    }
    return PITH_OK;
}

typedef struct segment {
    const uint8_t *text;
    size_t len;
    bool first;      /* it begins where the user's text begins */
    bool late;       /* the normalisers have been over it */
    unsigned flags;
} segment;

static pith_status encode_plain(pith_encoder *e, segment s);

static bool is_word_char(const pith_unicode *u, const uint8_t *p, const uint8_t *end)
{
    size_t n;
    return *p == '_' || (pith_class_at(u, p, end, &n) & (PITH_CHAR_LETTER | PITH_CHAR_NUMBER | PITH_CHAR_MARK));
}

/* Start of the character that ends at p > begin. */
static const uint8_t *back(const uint8_t *begin, const uint8_t *p)
{
    const uint8_t *q = p - 1;
    uint32_t c;
    while (q > begin && p - q < 4 && (*q & 0xC0) == 0x80) q--;
    return q + pith_utf8_next(q, p, &c) == p ? q : p - 1;
}

/* Look for tokens written in the text, the longest at the leftmost place; encode what lies between them. */
static pith_status encode_special(pith_encoder *e, const pith_trie *trie, segment s)
{
    const pith_tokenizer *tok = e->tok;
    const pith_unicode *u = &tok->unicode;
    const uint8_t *p = s.text, *end = s.text + s.len, *done = p;
    while (p < end) {
        uint32_t node = trie->root[*p];
        if (!node) {
            p++;
            continue;
        }
        int32_t id = -1;
        const uint8_t *q = p + 1, *to = p + 1;
        for (;;) {
            int32_t here = trie->value[node];
            if (here >= 0 && (s.flags & PITH_TOKENIZE_SPECIAL || tok->types[here] == PITH_TOKEN_USER)) {
                id = here;
                to = q;
            }
            if (q == end || !(node = pith_trie_step(trie, node, *q))) break;
            q++;
        }
        if (id < 0) {
            p++;
            continue;
        }
        uint8_t added = tok->added[id];
        const uint8_t *from = p;
        p = to;
        if ((added & PITH_ADDED_WORD) && ((from > s.text && is_word_char(u, back(s.text, from), end)) || (to < end && is_word_char(u, to, end)))) continue;
        size_t n;
        while ((added & PITH_ADDED_LSTRIP) && from > done && (pith_class_at(u, back(done, from), end, &n) & PITH_CHAR_SPACE)) from = back(done, from);
        while ((added & PITH_ADDED_RSTRIP) && p < end && (pith_class_at(u, p, end, &n) & PITH_CHAR_SPACE)) p += n;
        segment before = {done, (size_t)(from - done), s.first && done == s.text, s.late, s.flags};
        PITH_TRY(encode_plain(e, before));
        PITH_TRY(pith_ids_reserve(e->ctx, e->ids, 1));
        e->ids->ids[e->ids->n++] = id;
        done = p;
    }
    segment rest = {done, (size_t)(end - done), s.first && done == s.text, s.late, s.flags};
    return encode_plain(e, rest);
}

/* A segment without (early) special tokens. */
static pith_status encode_plain(pith_encoder *e, segment s)
{
    const pith_tokenizer *tok = e->tok;
    const pith_normalizer *z = &tok->normalizer;
    size_t step0 = 0;
    if (!s.len) return PITH_OK;
    if (tok->has_late && !s.late) {
        PITH_TRY(pith_normalize(e->ctx, z, 0, z->n_before, s.text, s.len, s.first, &e->normalize, &s.text, &s.len));
        e->late.n = 0;
        PITH_TRY(pith_text_buf_put(e->ctx, &e->late, s.text, s.len));
        s.text = e->late.p;
        s.late = true;
        return s.len ? encode_special(e, &tok->special_late, s) : PITH_OK;
    }
    if (s.late) step0 = z->n_before;
    PITH_TRY(pith_normalize(e->ctx, z, step0, z->n_steps, s.text, s.len, s.first, &e->normalize, &s.text, &s.len));
    return encode_words(e, s.text, s.len);
}

pith_status pith_tokenize(pith_ctx *ctx, const pith_tokenizer *tok, const char *text, size_t len, unsigned flags, pith_ids *ids)
{
    if (len > INT32_MAX) return pith_fail(ctx, PITH_E_LIMIT, "tokenizer: a text of %zu bytes, over the limit of 2 GB: give it in parts", len);
    size_t n_before = ids->n, n_seen = 64;
    while (n_seen < len / 8 && n_seen < 32768) n_seen *= 2;
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark start = pith_arena_mark(scratch);
    pith_encoder e = {.ctx = ctx, .tok = tok, .ids = ids, .seen = pith_arena_take(scratch, n_seen * sizeof *e.seen), .seen_mask = n_seen - 1};
    pith_status status = e.seen ? pith_ids_reserve(ctx, ids, len / 4 + 2) : PITH_E_MEMORY;
    if (status == PITH_OK && tok->pattern) status = pith_matcher_new(ctx, tok->pattern, &e.matcher);
    if (status == PITH_OK) {
        memset(e.seen, 0, n_seen * sizeof *e.seen); /* epoch 0 is never current */
        segment all = {(const uint8_t *)text, len, true, false, flags};
        if ((flags & PITH_TOKENIZE_BOS_EOS) && tok->add_bos) ids->ids[ids->n++] = tok->bos;
        status = tok->has_special ? encode_special(&e, &tok->special, all) : encode_plain(&e, all);
        if (status == PITH_OK && (flags & PITH_TOKENIZE_BOS_EOS) && tok->add_eos) {
            status = pith_ids_reserve(ctx, ids, 1);
            if (status == PITH_OK) ids->ids[ids->n++] = tok->eos;
        }
    }
    if (status != PITH_OK) ids->n = n_before;
    if (status == PITH_OK && e.n_lost)
        pith_log(ctx, PITH_LOG_WARN, "tokenizer: %zu bytes of the text have no token in this vocabulary, which has no unknown token: they are left out", e.n_lost);
    pith_normalize_work_free(ctx, &e.normalize);
    pith_matcher_free(ctx, e.matcher);
    pith_free(ctx, e.work.p);
    pith_free(ctx, e.late.p);
    pith_arena_reset(scratch, start);
    return status;
}

/* ---- questions -------------------------------------------------------------------------------- */

size_t pith_token_text(const pith_tokenizer *tok, int32_t id, bool special, char *buf, size_t cap)
{
    if (id < 0 || (size_t)id >= tok->n_tokens) return 0;
    uint8_t type = tok->types[id];
    bool hidden = type == PITH_TOKEN_CONTROL || type == PITH_TOKEN_UNKNOWN || type == PITH_TOKEN_UNUSED;
    if (hidden && !special) return 0;
    const uint8_t *p = hidden ? tok->name_text + tok->name_begin[id] : tok->bytes + tok->begin[id];
    size_t n = hidden ? name_len(tok, (size_t)id) : tok->begin[id + 1] - tok->begin[id];
    if (n && n <= cap) memcpy(buf, p, n);
    return n;
}

size_t pith_tokenizer_size(const pith_tokenizer *tok) { return tok->n_tokens; }
int32_t pith_tokenizer_find(const pith_tokenizer *tok, const char *name, size_t len) { return pith_string_map_find(&tok->names, (const uint8_t *)name, len); }
int32_t pith_tokenizer_bos(const pith_tokenizer *tok) { return tok->bos; }
bool pith_token_ends(const pith_tokenizer *tok, int32_t id) { return id >= 0 && (size_t)id < tok->n_tokens && tok->ends[id]; }
