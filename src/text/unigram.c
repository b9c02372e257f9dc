/* Unigram language model: of all ways to cut a word into pieces, the one of highest total score (Viterbi).
 * Kudo, ACL 2018, arXiv:1804.10959.  Sums are in double and ties go to the piece that begins first, as in the
 * PyPI package `tokenizers`. */
#include "text/model.h"

typedef struct best {
    double score;
    uint32_t from;  /* where the last piece of the best way to here begins */
    int32_t id;     /* that piece; -1: a character that no piece covers */
    bool reached;
} best;

static inline void offer(best *b, double score, uint32_t from, int32_t id)
{
    if (b->reached && !(score > b->score)) return;
    *b = (best){score, from, id, true};
}

/* Ids of text that no piece covers: its bytes where all have tokens, else one unknown token. */
static pith_status emit_unknown(pith_encoder *e, const uint8_t *p, size_t len)
{
    const pith_tokenizer *tok = e->tok;
    pith_ids *ids = e->ids;
    PITH_TRY(pith_ids_reserve(e->ctx, ids, len));
    bool bytes = tok->byte_fallback;
    for (size_t i = 0; bytes && i < len; i++) bytes = tok->byte_id[p[i]] >= 0;
    for (size_t i = 0; bytes && i < len; i++) ids->ids[ids->n++] = tok->byte_id[p[i]];
    if (!bytes && tok->unk >= 0) ids->ids[ids->n++] = tok->unk;
    if (!bytes && tok->unk < 0) e->n_lost += len;
    return PITH_OK;
}

pith_status pith_unigram_word(pith_encoder *e, const uint8_t *p, size_t len)
{
    const pith_tokenizer *tok = e->tok;
    const pith_trie *trie = &tok->trie;
    void *work;
    size_t bytes;
    if (!pith_mul(len + 1, sizeof(best), &bytes)) return pith_fail(e->ctx, PITH_E_LIMIT, "tokenizer: a word of %zu bytes", len);
    PITH_TRY(pith_encoder_work(e, bytes, &work));
    best *at = work;
    for (size_t i = 0; i <= len; i++) at[i].reached = false;
    at[0] = (best){0, 0, -1, true};
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c;
        n = pith_utf8_next(p + i, p + len, &c);
        bool single = false;
        uint32_t node = 0;
        for (size_t j = i; j < len && (node = pith_trie_step(trie, node, p[j]));) {
            j++;
            int32_t id = trie->value[node];
            if (id < 0) continue;
            offer(&at[j], at[i].score + tok->scores[id], (uint32_t)i, id);
            single |= j - i == n;
        }
        if (!single) offer(&at[i + n], at[i].score + tok->unk_score, (uint32_t)i, -1);
    }
    /* back along the best way: turn the links round, then forward */
    size_t to = len, after = len;
    while (to) {
        size_t from = at[to].from;
        at[to].from = (uint32_t)after; /* the end of the piece that follows */
        after = to;
        to = from;
    }
    PITH_TRY(pith_ids_reserve(e->ctx, e->ids, len));
    for (size_t from = 0; from < len;) {
        size_t end = after;
        if (at[end].id >= 0) {
            PITH_TRY(pith_ids_reserve(e->ctx, e->ids, 1));
            e->ids->ids[e->ids->n++] = at[end].id;
        } else {
            while (end < len && at[at[end].from].id < 0) end = at[end].from; /* unknown neighbours are one */
            PITH_TRY(emit_unknown(e, p + from, end - from));
        }
        from = end;
        after = at[end].from;
    }
    return PITH_OK;
}

pith_status pith_unigram_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    size_t n = tok->n_tokens, total = 0;
    if (!v->scores) return pith_fail(ctx, PITH_E_FORMAT, "tokenizer: a unigram vocabulary without scores");
    tok->scores = pith_arena_take(tok->arena, n * sizeof *tok->scores);
    if (!tok->scores) return PITH_E_MEMORY;
    double least = 0;
    for (size_t i = 0; i < n; i++) {
        double s = (double)v->scores[i];
        if (!(s > -1e30 && s < 1e30)) return pith_fail(ctx, PITH_E_FORMAT, "tokenizer: the score of token %zu is %g", i, s);
        tok->scores[i] = s;
        if (s < least) least = s;
        total += tok->piece_begin[i + 1] - tok->piece_begin[i];
    }
    tok->unk_score = least - 10; /* the penalty of SentencePiece and of `tokenizers` */
    PITH_TRY(pith_trie_init(ctx, tok->arena, total, &tok->trie));
    for (size_t i = 0; i < n; i++)
        if (tok->types[i] == PITH_TOKEN_NORMAL || tok->types[i] == PITH_TOKEN_USER)
            pith_trie_add(&tok->trie, tok->pieces + tok->piece_begin[i], tok->piece_begin[i + 1] - tok->piece_begin[i], (int32_t)i);
    return PITH_OK;
}
