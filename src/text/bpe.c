/* Byte-pair encoding: GPT-2's, on bytes with ranked merges, and SentencePiece's, on characters with scores.
 * Both come down to one table (left id, right id) -> (rank, id of the two together); the pair of lowest rank goes
 * first, the leftmost of equal ones.   Sennrich et al., ACL 2016; Kudo and Richardson, EMNLP 2018. */
#include "text/model.h"

#include <stdlib.h>

/* ---- merging ---------------------------------------------------------------------------------- */

enum { SHORT = 48 }; /* symbols up to which looking at all pairs is faster than a heap */

/* sym [n], 1 <= n <= SHORT, in place; returns the symbols left. */
static size_t merge_short(const pith_pair_map *m, int32_t *sym, size_t n)
{
    uint32_t rank[SHORT]; /* rank[i], id[i]: of the pair (sym[i], sym[i + 1]) */
    int32_t id[SHORT];
#define LOOK(i)                                                                                          \
    do {                                                                                                 \
        const pith_pair_slot *slot_ = pith_pair_map_find(m, (uint32_t)sym[i], (uint32_t)sym[(i) + 1]);   \
        rank[i] = slot_->rank;                                                                           \
        id[i] = (int32_t)slot_->id;                                                                      \
    } while (0)
    for (size_t i = 0; i + 1 < n; i++) LOOK(i);
    while (n > 1) {
        size_t best = 0;
        uint32_t least = rank[0];
        for (size_t i = 1; i + 1 < n; i++) {
            if (rank[i] < least) {
                least = rank[i];
                best = i;
            }
        }
        if (least == PITH_NO_RANK) break;
        sym[best] = id[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            sym[i] = sym[i + 1];
            rank[i] = rank[i + 1]; /* the last one is read, not used */
            id[i] = id[i + 1];
        }
        if (best) LOOK(best - 1);
        if (best + 1 < n) LOOK(best);
    }
#undef LOOK
    return n;
}

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t x = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= x) break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

static void sift_up(uint64_t *heap, size_t i)
{
    uint64_t x = heap[i];
    for (; i && heap[(i - 1) / 2] > x; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = x;
}

#define END UINT32_MAX

/* The same for any n < 2^32 in O(n log n): a linked list of symbols, and a heap of (rank, position) in which an
 * entry that no longer tells the rank of its position is passed over. */
static pith_status merge_long(pith_encoder *e, int32_t *sym, size_t n, size_t *left)
{
    const pith_pair_map *m = &e->tok->merges;
    void *work;
    size_t bytes;
    if (!pith_mul(n, 32, &bytes)) return pith_fail(e->ctx, PITH_E_LIMIT, "tokenizer: a word of %zu symbols", n);
    PITH_TRY(pith_encoder_work(e, bytes, &work));
    uint64_t *heap = work;                            /* [2n]: each merge takes one and adds two */
    uint32_t *prev = (uint32_t *)(heap + 2 * n), *next = prev + n, *rank = next + n, *id = rank + n;
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        prev[i] = i ? (uint32_t)(i - 1) : END;
        next[i] = i + 1 < n ? (uint32_t)(i + 1) : END;
        rank[i] = PITH_NO_RANK;
        if (i + 1 == n) break;
        const pith_pair_slot *s = pith_pair_map_find(m, (uint32_t)sym[i], (uint32_t)sym[i + 1]);
        rank[i] = s->rank;
        id[i] = s->id;
        if (s->rank != PITH_NO_RANK) heap[n_heap++] = (uint64_t)s->rank << 32 | i;
    }
    for (size_t i = n_heap / 2; i-- > 0;) sift_down(heap, n_heap, i);
    while (n_heap) {
        uint32_t at = (uint32_t)heap[0], top = (uint32_t)(heap[0] >> 32);
        heap[0] = heap[--n_heap];
        if (n_heap) sift_down(heap, n_heap, 0);
        if (rank[at] != top) continue;
        uint32_t gone = next[at];
        sym[at] = (int32_t)id[at];
        rank[gone] = PITH_NO_RANK;
        next[at] = next[gone];
        if (next[at] != END) prev[next[at]] = at;
        rank[at] = PITH_NO_RANK;
        const uint32_t sides[2] = {prev[at], at};
        for (int k = 0; k < 2; k++) {
            uint32_t i = sides[k];
            if (i == END || next[i] == END) continue;
            const pith_pair_slot *s = pith_pair_map_find(m, (uint32_t)sym[i], (uint32_t)sym[next[i]]);
            rank[i] = s->rank;
            id[i] = s->id;
            if (s->rank == PITH_NO_RANK) continue;
            heap[n_heap] = (uint64_t)s->rank << 32 | i;
            sift_up(heap, n_heap++);
        }
    }
    *left = 0;
    for (uint32_t i = 0; i != END; i = next[i]) sym[(*left)++] = sym[i];
    return PITH_OK;
}

/* Merge the n symbols that stand behind the output, and make them part of it. */
static pith_status emit_merged(pith_encoder *e, size_t n)
{
    int32_t *sym = e->ids->ids + e->ids->n;
    if (n > SHORT) PITH_TRY(merge_long(e, sym, n, &n));
    else if (n > 1) n = merge_short(&e->tok->merges, sym, n);
    e->ids->n += n;
    return PITH_OK;
}

/* ---- words ------------------------------------------------------------------------------------ */

pith_status pith_bpe_word(pith_encoder *e, const uint8_t *p, size_t len)
{
    const pith_tokenizer *tok = e->tok;
    PITH_TRY(pith_ids_reserve(e->ctx, e->ids, len));
    int32_t *sym = e->ids->ids + e->ids->n;
    if (tok->ignore_merges) {
        int32_t id = pith_string_map_find(&tok->ids, p, len);
        if (id >= 0) {
            sym[0] = id;
            e->ids->n++;
            return PITH_OK;
        }
    }
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int32_t id = tok->byte_id[p[i]];
        if (id < 0) id = tok->unk;
        if (id >= 0) sym[n++] = id;
        else e->n_lost++;
    }
    return emit_merged(e, n);
}

pith_status pith_spm_word(pith_encoder *e, const uint8_t *p, size_t len)
{
    const pith_tokenizer *tok = e->tok;
    const uint8_t *end = p + len;
    PITH_TRY(pith_ids_reserve(e->ctx, e->ids, len));
    int32_t *sym = e->ids->ids + e->ids->n;
    size_t n = 0;
    if (tok->ignore_merges && (sym[0] = pith_string_map_find(&tok->ids, p, len)) >= 0) {
        e->ids->n++;
        return PITH_OK;
    }
    bool was_unknown = false;
    for (size_t m; p < end; p += m) {
        uint32_t c;
        m = pith_utf8_next(p, end, &c);
        int32_t id = pith_string_map_find(&tok->ids, p, m);
        bool bytes = id < 0 && tok->byte_fallback;
        for (size_t i = 0; bytes && i < m; i++) bytes = tok->byte_id[p[i]] >= 0;
        for (size_t i = 0; bytes && i < m; i++) sym[n++] = tok->byte_id[p[i]];
        if (!bytes) {
            if (id >= 0) sym[n++] = id;
            else if (tok->unk < 0) e->n_lost += m;
            else if (!tok->fuse_unknown || !was_unknown) sym[n++] = tok->unk;
        }
        was_unknown = id < 0 && !bytes;
    }
    return emit_merged(e, n);
}

/* ---- tables ----------------------------------------------------------------------------------- */

static int32_t find_piece(const pith_vocab *v, const pith_tokenizer *tok, const char *s, size_t len, uint8_t *scratch)
{
    if (v->kind == PITH_VOCAB_BPE) {
        size_t n = pith_byte_letters_undo((const uint8_t *)s, len, scratch);
        if (n != SIZE_MAX) return pith_string_map_find(&tok->ids, scratch, n);
    }
    return pith_string_map_find(&tok->ids, (const uint8_t *)s, len);
}

/* Merges as the file lists them.  One text names both sides; where it has more than one space, the first place
 * that gives two tokens whose concatenation is a token. */
static pith_status read_merges(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    size_t longest = 0, lost = 0;
    if (v->n_merges >= PITH_NO_RANK) return pith_fail(ctx, PITH_E_LIMIT, "tokenizer: %zu merges", v->n_merges);
    PITH_TRY(pith_pair_map_init(ctx, tok->arena, v->n_merges, &tok->merges));
    for (size_t i = 0; i < v->n_merges; i++) longest = PITH_MAX(longest, v->merges[i].len);
    pith_mark start = pith_arena_mark(pith_scratch(ctx));
    uint8_t *undone = pith_arena_take(pith_scratch(ctx), longest + 1), *both = pith_arena_take(pith_scratch(ctx), longest + 1);
    if (!undone || !both) return PITH_E_MEMORY;
    for (size_t i = 0; i < v->n_merges; i++) {
        const char *s = v->merges[i].s;
        size_t len = v->merges[i].len;
        int32_t whole = -1;
        int tries = 0;
        for (const char *cut = len ? s : NULL; cut && whole < 0 && tries < 16; tries++) {
            size_t from = (size_t)(cut - s) + 1;
            if (from >= len || !(cut = memchr(s + from, ' ', len - from))) break;
            size_t a = (size_t)(cut - s), b = len - a - 1;
            int32_t left = find_piece(v, tok, s, a, undone), right = b ? find_piece(v, tok, cut + 1, b, undone) : -1;
            if (left < 0 || right < 0) continue;
            memcpy(both, s, a);
            memcpy(both + a, cut + 1, b);
            whole = find_piece(v, tok, (const char *)both, a + b, undone);
            if (whole < 0) continue;
            /* of a pair that is listed twice the later rank counts, as in `tokenizers` */
            pith_pair_slot *slot = pith_pair_map_add(&tok->merges, (uint32_t)left, (uint32_t)right);
            slot->rank = (uint32_t)i;
            slot->id = (uint32_t)whole;
        }
        lost += whole < 0;
    }
    pith_arena_reset(pith_scratch(ctx), start);
    if (lost) pith_log(ctx, PITH_LOG_WARN, "tokenizer: %zu of %zu merges name tokens that are not in the vocabulary and are left out", lost, v->n_merges);
    return PITH_OK;
}

typedef struct scored {
    float score;
    uint32_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* SentencePiece keeps no merges: any two tokens whose concatenation is a token may merge, best score first. */
static pith_status merges_from_scores(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    enum { LONGEST = 256 }; /* bytes; SentencePiece's own limit is 16 characters unless it is raised */
    size_t n = tok->n_tokens, n_pairs = 0, too_long = 0;
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark start = pith_arena_mark(scratch);
    scored *order = pith_arena_take(scratch, n * sizeof *order);
    if (!order) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) order[i] = (scored){v->scores && v->scores[i] == v->scores[i] ? v->scores[i] : 0, (uint32_t)i};
    qsort(order, n, sizeof *order, by_score);
    for (int pass = 0; pass < 2; pass++) { /* count, then fill */
        uint32_t rank = 0;
        if (pass) PITH_TRY(pith_pair_map_init(ctx, tok->arena, n_pairs, &tok->merges));
        for (size_t k = 0; k < n; k++) {
            uint32_t id = order[k].id;
            if (k && order[k].score != order[k - 1].score) rank++;
            const uint8_t *p = tok->pieces + tok->piece_begin[id];
            size_t len = tok->piece_begin[id + 1] - tok->piece_begin[id];
            if (tok->types[id] != PITH_TOKEN_NORMAL && tok->types[id] != PITH_TOKEN_USER) continue;
            if (len > LONGEST) {
                too_long += !pass;
                continue;
            }
            for (size_t cut = 1; cut < len; cut++) {
                if ((p[cut] & 0xC0) == 0x80) continue;
                int32_t left = pith_string_map_find(&tok->ids, p, cut);
                int32_t right = left < 0 ? -1 : pith_string_map_find(&tok->ids, p + cut, len - cut);
                if (right < 0) continue;
                n_pairs += !pass;
                if (!pass) continue;
                pith_pair_slot *slot = pith_pair_map_add(&tok->merges, (uint32_t)left, (uint32_t)right);
                if (slot->rank != PITH_NO_RANK) continue;
                slot->rank = rank;
                slot->id = id;
            }
        }
    }
    pith_arena_reset(scratch, start);
    if (too_long) pith_log(ctx, PITH_LOG_WARN, "tokenizer: %zu tokens are longer than %d bytes and are never made by merging", too_long, LONGEST);
    return PITH_OK;
}

pith_status pith_bpe_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        tok->byte_id[b] = pith_string_map_find(&tok->ids, &byte, 1);
    }
    return read_merges(ctx, v, tok);
}

/* Whether a mark (U+2581) that follows another character is in no token that merging makes: then words may be cut
 * before it, and each be merged by itself, with the same result. */
static bool marks_begin_words(const pith_tokenizer *tok)
{
    static const uint8_t mark[3] = {0xE2, 0x96, 0x81};
    for (size_t i = 0; i < tok->n_tokens; i++) {
        const uint8_t *p = tok->pieces + tok->piece_begin[i];
        size_t len = tok->piece_begin[i + 1] - tok->piece_begin[i];
        if (tok->types[i] != PITH_TOKEN_NORMAL && tok->types[i] != PITH_TOKEN_USER) continue;
        while (len >= 3 && !memcmp(p, mark, 3)) {
            p += 3;
            len -= 3;
        }
        if (len > 3 && memmem(p, len, mark, 3)) return false;
    }
    return pith_string_map_find(&tok->ids, mark, 3) >= 0;
}

pith_status pith_spm_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok)
{
    if (tok->split == PITH_SPLIT_NONE && !tok->ignore_merges && marks_begin_words(tok)) tok->split = PITH_SPLIT_RUNS;
    return v->n_merges ? read_merges(ctx, v, tok) : merges_from_scores(ctx, v, tok);
}
