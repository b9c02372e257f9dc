/* WordPiece: the longest piece that begins the word, then the longest inner piece that begins the rest, and so on;
 * a word that cannot be cut so, or is too long, is the unknown token.  Devlin et al., arXiv:1810.04805. */
#include "text/model.h"

pith_status pith_wordpiece_word(pith_encoder *e, const uint8_t *p, size_t len)
{
    const pith_tokenizer *tok = e->tok;
    pith_ids *ids = e->ids;
    size_t start = ids->n, chars = 0;
    PITH_TRY(pith_ids_reserve(e->ctx, ids, len));
    for (size_t i = 0; i < len && chars <= tok->max_word_chars; chars++) {
        uint32_t c;
        i += pith_utf8_next(p + i, p + len, &c);
    }
    bool known = chars <= tok->max_word_chars;
    for (size_t i = 0, to; known && i < len; i = to) {
        const pith_trie *trie = i ? &tok->inner : &tok->trie;
        int32_t id = -1;
        uint32_t node = 0;
        to = i;
        for (size_t j = i; j < len && (node = pith_trie_step(trie, node, p[j]));) {
            j++;
            if (trie->value[node] < 0) continue;
            id = trie->value[node];
            to = j;
        }
        known = id >= 0;
        if (known) ids->ids[ids->n++] = id;
    }
    if (!known) {
        ids->n = start;
        if (tok->unk >= 0) ids->ids[ids->n++] = tok->unk;
        else e->n_lost += len;
    }
    return PITH_OK;
}

pith_status pith_wordpiece_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    static const uint8_t mark[3] = {0xE2, 0x96, 0x81};
    const uint8_t *prefix = v->word_prefix.len ? (const uint8_t *)v->word_prefix.s : (const uint8_t *)"##";
    size_t n_prefix = v->word_prefix.len ? v->word_prefix.len : 2, total = 0;
    bool marked = tok->marked_words;
    for (size_t i = 0; i < tok->n_tokens; i++) total += tok->piece_begin[i + 1] - tok->piece_begin[i];
    tok->max_word_chars = v->max_word_chars ? v->max_word_chars : 100;
    PITH_TRY(pith_trie_init(ctx, tok->arena, total, &tok->trie));
    PITH_TRY(pith_trie_init(ctx, tok->arena, total, &tok->inner));
    for (size_t i = 0; i < tok->n_tokens; i++) {
        const uint8_t *p = tok->pieces + tok->piece_begin[i];
        size_t len = tok->piece_begin[i + 1] - tok->piece_begin[i], skip = marked ? 3 : n_prefix;
        if (tok->types[i] != PITH_TOKEN_NORMAL && tok->types[i] != PITH_TOKEN_USER) continue;
        bool has = len > skip && !memcmp(p, marked ? mark : prefix, skip);
        pith_trie_add(has == marked ? &tok->trie : &tok->inner, has ? p + skip : p, has ? len - skip : len, (int32_t)i);
    }
    return PITH_OK;
}
