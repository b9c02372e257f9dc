/* Learning a byte-level BPE.
 *
 * The text is cut into words, and each different word is kept once, with its count.  Its symbols are places in one
 * long array, linked to their neighbours.  For every pair of symbols that stand beside each other somewhere there is a
 * count and a list of the places of its left symbols, both kept up as pairs are merged; a heap gives the next pair.
 * What lies in heap and lists may be out of date, and is checked when it comes up: counts of a pair only fall, and a
 * place that was merged away no longer holds the pair's symbols.
 *
 * No two pairs make the same bytes.  Where a stretch of text has become whole tokens, no merge has ever crossed its
 * ends, so all that was merged within it was merged alike wherever else this holds for the same bytes. */
#include "text/bpe_train.h"

#include <stdlib.h>

#include "text/model.h"

#define NOWHERE UINT32_MAX
#define MOST_PLACES ((size_t)INT32_MAX)
#define PROGRESS_EVERY 64           /* merges */

typedef struct word {
    const uint8_t *text;
    uint64_t hash;
    uint64_t count;
    uint32_t len;
} word;

typedef struct pair {
    uint64_t key;                   /* left << 32 | right */
    uint64_t count;
    uint32_t *places;               /* [n] ascending; some may hold other symbols by now */
    uint32_t n, cap;
} pair;

typedef struct candidate {
    uint64_t count, key;
    uint32_t pair;
} candidate;

typedef struct trainer {
    pith_ctx *ctx;
    const pith_bpe_options *o;
    pith_arena *arena;              /* scratch, goes at the end */
    pith_unicode unicode;
    pith_split split;
    word *words;
    size_t n_words, cap_words;
    uint32_t *slots;                /* [n_slots] word + 1, by hash */
    size_t n_slots;
    /* places */
    uint32_t *symbol, *prev, *next, *word_of;
    size_t n_places;
    pair *pairs;
    size_t n_pairs, cap_pairs;
    uint32_t *pair_slots;           /* pair + 1, by key */
    size_t n_pair_slots;
    candidate *heap;
    size_t n_heap, cap_heap;
    /* the vocabulary */
    pith_arena *result;
    pith_vocab v;
    uint32_t *token_slots;          /* token + 1, by its letters */
    size_t n_token_slots;
} trainer;

/* The array with room for one more, doubled if need be; NULL: no memory, and the array is as it was. */
static void *grown(pith_ctx *ctx, void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) return array;
    size_t bigger = *cap ? 2 * *cap : 64, bytes;
    void *p = pith_mul(bigger, size, &bytes) ? pith_resize(ctx, array, bytes) : pith_array(ctx, SIZE_MAX, 2);
    if (p) *cap = bigger;
    return p;
}

/* Make room in an array of one's own. */
#define GROW(ctx, array, n, cap)                                              \
    do {                                                                      \
        void *grown_ = grown(ctx, array, n, cap, sizeof *(array));            \
        if (!grown_) return PITH_E_MEMORY;                                    \
        (array) = grown_;                                                     \
    } while (0)

/* ---- words ------------------------------------------------------------------------------------ */

static uint32_t *word_slot(const trainer *t, uint32_t *slots, size_t n_slots, const uint8_t *text, size_t len, uint64_t hash)
{
    size_t i = (size_t)hash & (n_slots - 1);
    for (; slots[i]; i = (i + 1) & (n_slots - 1)) {
        const word *w = &t->words[slots[i] - 1];
        if (w->hash == hash && w->len == len && memcmp(w->text, text, len) == 0) break;
    }
    return &slots[i];
}

static pith_status more_word_slots(trainer *t)
{
    size_t n = t->n_slots ? 2 * t->n_slots : 4096;
    uint32_t *slots = pith_calloc(t->ctx, n, sizeof *slots);
    if (!slots) return PITH_E_MEMORY;
    for (size_t i = 0; i < t->n_words; i++) *word_slot(t, slots, n, t->words[i].text, t->words[i].len, t->words[i].hash) = (uint32_t)i + 1;
    pith_free(t->ctx, t->slots);
    t->slots = slots;
    t->n_slots = n;
    return PITH_OK;
}

static pith_status count_words(trainer *t, const pith_str *text, size_t i_text, size_t n_texts)
{
    const uint8_t *p = (const uint8_t *)text->s;
    size_t told = 0;
    for (size_t pos = 0, end; pos < text->len; pos = end) {
        bool space = false;
        end = pith_split_next(&t->unicode, t->split, p, pos, text->len, &space);
        size_t len = end - pos;
        uint64_t hash = pith_hash_short(p + pos, len);
        if (2 * t->n_words >= t->n_slots) PITH_TRY(more_word_slots(t));
        uint32_t *slot = word_slot(t, t->slots, t->n_slots, p + pos, len, hash);
        if (*slot) {
            t->words[*slot - 1].count++;
        } else {
            if (len > MOST_PLACES || t->n_places + len > MOST_PLACES) return pith_fail(t->ctx, PITH_E_LIMIT, "training of a tokenizer: different words have more than 2^31 bytes; give it less text");
            GROW(t->ctx, t->words, t->n_words, &t->cap_words);
            t->words[t->n_words++] = (word){p + pos, hash, 1, (uint32_t)len};
            t->n_places += len;
            *slot = (uint32_t)t->n_words;
        }
        if (end - told < (size_t)1 << 20 && end < text->len) continue;
        told = end;
        PITH_TRY(pith_progress(t->ctx, "counting words", i_text * 1000 + end * 1000 / text->len, n_texts * 1000));
    }
    return PITH_OK;
}

/* ---- pairs ------------------------------------------------------------------------------------ */

static uint32_t *pair_slot(const trainer *t, uint32_t *slots, size_t n_slots, uint64_t key)
{
    size_t i = pith_pair_hash(key) & (n_slots - 1);
    while (slots[i] && t->pairs[slots[i] - 1].key != key) i = (i + 1) & (n_slots - 1);
    return &slots[i];
}

static pith_status find_pair(trainer *t, uint32_t left, uint32_t right, pair **found)
{
    uint64_t key = (uint64_t)left << 32 | right;
    if (2 * t->n_pairs >= t->n_pair_slots) {
        size_t n = t->n_pair_slots ? 2 * t->n_pair_slots : 4096;
        uint32_t *slots = pith_calloc(t->ctx, n, sizeof *slots);
        if (!slots) return PITH_E_MEMORY;
        for (size_t i = 0; i < t->n_pairs; i++) *pair_slot(t, slots, n, t->pairs[i].key) = (uint32_t)i + 1;
        pith_free(t->ctx, t->pair_slots);
        t->pair_slots = slots;
        t->n_pair_slots = n;
    }
    uint32_t *slot = pair_slot(t, t->pair_slots, t->n_pair_slots, key);
    if (!*slot) {
        GROW(t->ctx, t->pairs, t->n_pairs, &t->cap_pairs);
        t->pairs[t->n_pairs++] = (pair){.key = key};
        *slot = (uint32_t)t->n_pairs;
    }
    *found = &t->pairs[*slot - 1];
    return PITH_OK;
}

static pith_status add_place(trainer *t, uint32_t at)
{
    pair *p;
    PITH_TRY(find_pair(t, t->symbol[at], t->symbol[t->next[at]], &p));
    size_t cap = p->cap;
    GROW(t->ctx, p->places, p->n, &cap);
    p->cap = (uint32_t)cap;
    p->places[p->n++] = at;
    p->count += t->words[t->word_of[at]].count;
    return PITH_OK;
}

static void take_place(trainer *t, uint32_t at)
{
    pair *p = &t->pairs[*pair_slot(t, t->pair_slots, t->n_pair_slots, (uint64_t)t->symbol[at] << 32 | t->symbol[t->next[at]]) - 1];
    p->count -= t->words[t->word_of[at]].count;
}

/* The order of merges: more frequent first, then the smaller ids. */
static bool before(candidate a, candidate b) { return a.count != b.count ? a.count > b.count : a.key < b.key; }

static void sink(candidate *heap, size_t n, size_t i)
{
    candidate x = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], x)) break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

static pith_status push(trainer *t, uint32_t i_pair)
{
    GROW(t->ctx, t->heap, t->n_heap, &t->cap_heap);
    candidate x = {t->pairs[i_pair].count, t->pairs[i_pair].key, i_pair};
    size_t i = t->n_heap++;
    for (; i && before(x, t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = x;
    return PITH_OK;
}

static void drop_top(trainer *t)
{
    t->heap[0] = t->heap[--t->n_heap];
    sink(t->heap, t->n_heap, 0);
}

/* The next pair to merge, taken from the heap; NULL when none is left. */
static pair *pop(trainer *t, uint64_t min_count)
{
    while (t->n_heap) {
        candidate *top = &t->heap[0];
        pair *p = &t->pairs[top->pair];
        bool current = top->count == p->count;
        top->count = p->count;
        if (current || p->count < min_count) drop_top(t);
        else sink(t->heap, t->n_heap, 0);
        if (current && p->count >= min_count) return p;
    }
    return NULL;
}

/* ---- the vocabulary --------------------------------------------------------------------------- */

static uint32_t *token_slot(const trainer *t, const char *s, size_t len)
{
    size_t i = (size_t)pith_hash_short((const uint8_t *)s, len) & (t->n_token_slots - 1);
    for (; t->token_slots[i]; i = (i + 1) & (t->n_token_slots - 1)) {
        const pith_str *token = &t->v.tokens[t->token_slots[i] - 1];
        if (token->len == len && memcmp(token->s, s, len) == 0) break;
    }
    return &t->token_slots[i];
}

/* Add `text` [len], which the arena of the result has. */
static uint32_t add_token(trainer *t, const char *text, size_t len, pith_token_type type)
{
    uint32_t id = (uint32_t)t->v.n_tokens++;
    t->v.tokens[id] = (pith_str){text, len};
    t->v.types[id] = (uint8_t)type;
    *token_slot(t, text, len) = id + 1;
    return id;
}

static char *keep(trainer *t, const char *text, size_t len)
{
    char *copy = pith_arena_take(t->result, len + 1);
    if (!copy) return NULL;
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

typedef struct letter {
    char text[3];
    uint8_t byte;
} letter;

static int by_letter(const void *a, const void *b) { return strcmp(((const letter *)a)->text, ((const letter *)b)->text); }

/* Controls and bytes; byte_id: the token of each byte. */
static pith_status begin_vocab(trainer *t, uint32_t byte_id[256])
{
    const pith_bpe_options *o = t->o;
    t->v = (pith_vocab){.kind = PITH_VOCAB_BPE, .bos = -1, .eos = -1, .unk = -1, .pad = -1, .eot = -1};
    snprintf(t->v.pre, sizeof t->v.pre, "%s", o->pre ? o->pre : "gpt-2");
    for (t->n_token_slots = 4096; t->n_token_slots < 2 * o->n_tokens;) t->n_token_slots *= 2;
    t->v.tokens = pith_arena_take(t->result, o->n_tokens * sizeof *t->v.tokens);
    t->v.types = pith_arena_take(t->result, o->n_tokens);
    t->v.merges = pith_arena_take(t->result, PITH_MAX(o->n_tokens - o->n_controls - 256, 1) * sizeof *t->v.merges);
    t->token_slots = pith_calloc(t->ctx, t->n_token_slots, sizeof *t->token_slots);
    if (!t->v.tokens || !t->v.types || !t->v.merges || !t->token_slots) return PITH_E_MEMORY;
    for (size_t i = 0; i < o->n_controls; i++) {
        size_t len = strlen(o->controls[i]);
        if (!len || *token_slot(t, o->controls[i], len)) return pith_fail(t->ctx, PITH_E_ARGUMENT, "training of a tokenizer: control token %zu is %s", i, len ? "there twice" : "empty");
        char *copy = keep(t, o->controls[i], len);
        if (!copy) return PITH_E_MEMORY;
        add_token(t, copy, len, PITH_TOKEN_CONTROL);
    }
    if (o->n_controls) t->v.bos = t->v.eos = 0;
    letter letters[256];
    for (unsigned b = 0; b < 256; b++) {
        letters[b] = (letter){.byte = (uint8_t)b};
        letters[b].text[pith_byte_letter((uint8_t)b, letters[b].text)] = 0;
    }
    qsort(letters, 256, sizeof *letters, by_letter); /* UTF-8 sorts as its characters do */
    for (unsigned i = 0; i < 256; i++) {
        size_t len = strlen(letters[i].text);
        if (*token_slot(t, letters[i].text, len)) return pith_fail(t->ctx, PITH_E_ARGUMENT, "training of a tokenizer: the control token %s is the letter of a byte", letters[i].text);
        char *copy = keep(t, letters[i].text, len);
        if (!copy) return PITH_E_MEMORY;
        byte_id[letters[i].byte] = add_token(t, copy, len, PITH_TOKEN_NORMAL);
    }
    return PITH_OK;
}

/* The rule that joins two tokens, and the token it makes; *id NOWHERE when that has the name of a control. */
static pith_status add_merge(trainer *t, uint64_t key, uint32_t *id)
{
    pith_str a = t->v.tokens[key >> 32], b = t->v.tokens[(uint32_t)key];
    char *text = pith_arena_take(t->result, 2 * (a.len + b.len) + 3); /* "a b" and "ab" */
    if (!text) return PITH_E_MEMORY;
    char *joined = text + a.len + b.len + 2;
    memcpy(text, a.s, a.len);
    text[a.len] = ' ';
    memcpy(text + a.len + 1, b.s, b.len + 1);
    memcpy(joined, a.s, a.len);
    memcpy(joined + a.len, b.s, b.len + 1);
    *id = NOWHERE;
    if (*token_slot(t, joined, a.len + b.len)) return PITH_OK;
    t->v.merges[t->v.n_merges++] = (pith_str){text, a.len + b.len + 1};
    *id = add_token(t, joined, a.len + b.len, PITH_TOKEN_NORMAL);
    return PITH_OK;
}

/* ---- merging ---------------------------------------------------------------------------------- */

static pith_status lay_out(trainer *t, const uint32_t byte_id[256])
{
    size_t n = PITH_MAX(t->n_places, 1);
    t->symbol = pith_array(t->ctx, n, sizeof *t->symbol);
    t->prev = pith_array(t->ctx, n, sizeof *t->prev);
    t->next = pith_array(t->ctx, n, sizeof *t->next);
    t->word_of = pith_array(t->ctx, n, sizeof *t->word_of);
    if (!t->symbol || !t->prev || !t->next || !t->word_of) return PITH_E_MEMORY;
    uint32_t at = 0;
    for (size_t w = 0; w < t->n_words; w++) {
        for (uint32_t i = 0; i < t->words[w].len; i++, at++) {
            t->symbol[at] = byte_id[t->words[w].text[i]];
            t->prev[at] = i ? at - 1 : NOWHERE;
            t->next[at] = i + 1 < t->words[w].len ? at + 1 : NOWHERE;
            t->word_of[at] = (uint32_t)w;
        }
    }
    for (at = 0; at < t->n_places; at++)
        if (t->next[at] != NOWHERE) PITH_TRY(add_place(t, at));
    for (size_t i = 0; i < t->n_pairs; i++) PITH_TRY(push(t, (uint32_t)i));
    return PITH_OK;
}

/* Join a pair wherever it stands, from left to right, and count its neighbours anew.  Pairs that become more frequent
 * hold the new token, and are new themselves. */
static pith_status merge(trainer *t, pair *p, uint32_t id)
{
    uint32_t left = (uint32_t)(p->key >> 32), right = (uint32_t)p->key, *places = p->places;
    size_t n = p->n, n_pairs = t->n_pairs;
    *p = (pair){.key = p->key, .count = p->count}; /* p moves when there are more pairs */
    pith_status status = PITH_OK;
    for (size_t i = 0; i < n && status == PITH_OK; i++) {
        uint32_t at = places[i], gone = t->symbol[at] == left ? t->next[at] : NOWHERE;
        if (gone == NOWHERE || t->symbol[gone] != right) continue;
        uint32_t prev = t->prev[at], next = t->next[gone];
        if (prev != NOWHERE) take_place(t, prev);
        take_place(t, at);
        if (next != NOWHERE) take_place(t, gone);
        t->symbol[at] = id;
        t->symbol[gone] = NOWHERE;
        t->next[at] = next;
        if (next != NOWHERE) t->prev[next] = at;
        if (prev != NOWHERE) status = add_place(t, prev);
        if (next != NOWHERE && status == PITH_OK) status = add_place(t, at);
    }
    pith_free(t->ctx, places);
    for (size_t i = n_pairs; i < t->n_pairs && status == PITH_OK; i++) status = push(t, (uint32_t)i);
    return status;
}

static pith_status learn(trainer *t)
{
    uint64_t min_count = t->o->min_count ? t->o->min_count : 2;
    pair *p;
    for (size_t n = 0; t->v.n_tokens < t->o->n_tokens && (p = pop(t, min_count)); n++) {
        uint32_t id;
        PITH_TRY(add_merge(t, p->key, &id));
        if (id != NOWHERE) PITH_TRY(merge(t, p, id));
        if (n % PROGRESS_EVERY == 0) PITH_TRY(pith_progress(t->ctx, "learning tokens", t->v.n_tokens, t->o->n_tokens));
    }
    return pith_progress(t->ctx, "learning tokens", t->o->n_tokens, t->o->n_tokens);
}

static void trainer_end(trainer *t)
{
    for (size_t i = 0; i < t->n_pairs; i++) pith_free(t->ctx, t->pairs[i].places);
    void *memory[] = {t->words, t->slots, t->symbol, t->prev, t->next, t->word_of, t->pairs, t->pair_slots, t->heap, t->token_slots};
    for (size_t i = 0; i < PITH_COUNT(memory); i++) pith_free(t->ctx, memory[i]);
    pith_arena_free(t->arena);
}

pith_status pith_bpe_train(pith_ctx *ctx, pith_arena *arena, const pith_str *texts, size_t n_texts, const pith_bpe_options *o, pith_vocab *vocab)
{
    trainer t = {.ctx = ctx, .o = o, .result = arena};
    uint32_t byte_id[256];
    pith_status status;
    if (o->n_controls > INT32_MAX / 2 || o->n_tokens < o->n_controls + 256 || o->n_tokens > INT32_MAX / 2)
        return pith_fail(ctx, PITH_E_ARGUMENT, "training of a tokenizer: %zu tokens asked, %zu controls and 256 bytes are the least", o->n_tokens, o->n_controls);
    if (!pith_split_by_name(o->pre ? o->pre : "gpt-2", &t.split) || t.split > PITH_SPLIT_QWEN2)
        return pith_fail(ctx, PITH_E_ARGUMENT, "training of a tokenizer: there is no way to cut words named %s; gpt-2, smollm, llama-bpe and qwen2 are known", o->pre);
    if (!(t.arena = pith_arena_new(ctx))) return PITH_E_MEMORY;
    PITH_GOTO(pith_unicode_init(ctx, t.arena, &t.unicode), done);
    PITH_GOTO(begin_vocab(&t, byte_id), done);
    for (size_t i = 0; i < n_texts; i++) PITH_GOTO(count_words(&t, &texts[i], i, n_texts), done);
    PITH_GOTO(lay_out(&t, byte_id), done);
    PITH_GOTO(learn(&t), done);
    *vocab = t.v;
done:
    trainer_end(&t);
    return status;
}
