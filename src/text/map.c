/* Hash tables: at most half full, so that a miss ends soon. */
#include "text/map.h"

/* Slots for n entries: a power of two, at least 2n. */
static pith_status table_size(pith_ctx *ctx, size_t n, size_t *size)
{
    *size = 16;
    if (n > ((size_t)1 << 30)) return pith_fail(ctx, PITH_E_LIMIT, "tokenizer: %zu entries in one table, over the limit of 2^30", n);
    while (*size < 2 * n) *size *= 2;
    return PITH_OK;
}

pith_status pith_string_map_init(pith_ctx *ctx, pith_arena *arena, size_t n, const uint8_t *text, const uint32_t *begin, pith_string_map *m)
{
    size_t size;
    PITH_TRY(table_size(ctx, n, &size));
    pith_string_slot *slots = pith_arena_take(arena, size * sizeof *slots);
    if (!slots) return PITH_E_MEMORY;
    memset(slots, 0, size * sizeof *slots);
    *m = (pith_string_map){text, begin, slots, size - 1};
    return PITH_OK;
}

/* The slot that holds this text, or the empty one where it would go. */
static pith_string_slot *string_slot(const pith_string_map *m, const uint8_t *s, size_t len, uint32_t *tag)
{
    uint64_t h = pith_hash_short(s, len);
    *tag = (uint32_t)(h >> 32) ^ (uint32_t)len;
    for (size_t i = (size_t)h;; i++) {
        pith_string_slot *slot = &m->slots[i & m->mask];
        if (!slot->id_plus_1) return slot;
        if (slot->tag != *tag) continue;
        uint32_t id = slot->id_plus_1 - 1;
        if (m->begin[id + 1] - m->begin[id] == len && !memcmp(m->text + m->begin[id], s, len)) return slot;
    }
}

void pith_string_map_add(pith_string_map *m, uint32_t id, bool replace)
{
    uint32_t tag;
    pith_string_slot *slot = string_slot(m, m->text + m->begin[id], m->begin[id + 1] - m->begin[id], &tag);
    if (slot->id_plus_1 && !replace) return;
    *slot = (pith_string_slot){tag, id + 1};
}

int32_t pith_string_map_find(const pith_string_map *m, const uint8_t *s, size_t len)
{
    uint32_t tag;
    return (int32_t)string_slot(m, s, len, &tag)->id_plus_1 - 1;
}

pith_status pith_pair_map_init(pith_ctx *ctx, pith_arena *arena, size_t n, pith_pair_map *m)
{
    size_t size;
    PITH_TRY(table_size(ctx, n, &size));
    pith_pair_slot *slots = pith_arena_take(arena, size * sizeof *slots);
    if (!slots) return PITH_E_MEMORY;
    for (size_t i = 0; i < size; i++) slots[i] = (pith_pair_slot){UINT64_MAX, PITH_NO_RANK, 0};
    *m = (pith_pair_map){slots, size - 1, 0};
    return PITH_OK;
}

pith_pair_slot *pith_pair_map_add(pith_pair_map *m, uint32_t left, uint32_t right)
{
    pith_pair_slot *s = m->slots + (pith_pair_map_find(m, left, right) - m->slots);
    if (s->key == UINT64_MAX) {
        s->key = (uint64_t)left << 32 | right;
        m->n++;
    }
    return s;
}

pith_status pith_trie_init(pith_ctx *ctx, pith_arena *arena, size_t n_bytes, pith_trie *t)
{
    memset(t->root, 0, sizeof t->root);
    PITH_TRY(pith_pair_map_init(ctx, arena, n_bytes, &t->edges));
    t->cap = (uint32_t)n_bytes + 1;
    t->value = pith_arena_take(arena, t->cap * sizeof *t->value);
    if (!t->value) return PITH_E_MEMORY;
    t->value[0] = -1;
    t->n_nodes = 1;
    return PITH_OK;
}

void pith_trie_add(pith_trie *t, const uint8_t *s, size_t len, int32_t value)
{
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t next = pith_trie_step(t, node, s[i]);
        if (!next) {
            next = t->n_nodes++;
            t->value[next] = -1;
            if (node) {
                *pith_pair_map_add(&t->edges, node, s[i]) = (pith_pair_slot){(uint64_t)node << 32 | s[i], 0, next};
            } else {
                t->root[s[i]] = next;
            }
        }
        node = next;
    }
    if (len && t->value[node] < 0) t->value[node] = value;
}
