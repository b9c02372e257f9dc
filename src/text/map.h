/* Hash tables of the tokenizers: strings to ids, pairs of ids to merges, and a trie over bytes.  Open addressing,
 * filled once, then only read (by any number of threads). */
#ifndef PITH_TEXT_MAP_H
#define PITH_TEXT_MAP_H

#include "base/base.h"

/** Hash of a short string; pure, the same on every machine of one byte order. */
static inline uint64_t pith_hash_short(const uint8_t *p, size_t len)
{
    const uint64_t k = 0x9E3779B97F4A7C15u;
    uint64_t a = 0, b = 0, h = len * k;
    if (len >= 8) {
        for (; len > 16; p += 8, len -= 8) {
            memcpy(&a, p, 8);
            h = (h ^ a) * k;
            h ^= h >> 29;
        }
        memcpy(&a, p, 8);
        memcpy(&b, p + len - 8, 8);
    } else if (len >= 4) {
        uint32_t x, y;
        memcpy(&x, p, 4);
        memcpy(&y, p + len - 4, 4);
        a = x;
        b = y;
    } else if (len) {
        a = (uint64_t)p[0] | (uint64_t)p[len / 2] << 8 | (uint64_t)p[len - 1] << 16;
    }
    __extension__ typedef unsigned __int128 wide;
    wide m = (wide)(a ^ h ^ 0xA0761D6478BD642Fu) * (b ^ 0xE7037ED1A0B428DBu ^ k * h);
    h = (uint64_t)m ^ (uint64_t)(m >> 64);
    return h ^ h >> 32;
}

/* Strings: slots hold id + 1 and a tag; the text of an id is text[begin[id] .. begin[id + 1]). */
typedef struct pith_string_slot {
    uint32_t tag, id_plus_1;
} pith_string_slot;
typedef struct pith_string_map {
    const uint8_t *text;
    const uint32_t *begin;
    pith_string_slot *slots;
    size_t mask;
} pith_string_map;
/** Room for n strings, from the arena. */
pith_status pith_string_map_init(pith_ctx *ctx, pith_arena *arena, size_t n, const uint8_t *text, const uint32_t *begin, pith_string_map *m);
/** Add an id; one with equal text that is there stays, or goes when `replace`. */
void pith_string_map_add(pith_string_map *m, uint32_t id, bool replace);
int32_t pith_string_map_find(const pith_string_map *m, const uint8_t *s, size_t len); /* -1: none */

/* Pairs of 32-bit keys to two values. */
typedef struct pith_pair_slot {
    uint64_t key;          /* left << 32 | right; ~0: empty */
    uint32_t rank, id;
} pith_pair_slot;
typedef struct pith_pair_map {
    pith_pair_slot *slots;
    size_t mask, n;
} pith_pair_map;
#define PITH_NO_RANK UINT32_MAX
pith_status pith_pair_map_init(pith_ctx *ctx, pith_arena *arena, size_t n, pith_pair_map *m);
/** The slot of a pair, new (rank PITH_NO_RANK) or found.  No more than the n of init may be added. */
pith_pair_slot *pith_pair_map_add(pith_pair_map *m, uint32_t left, uint32_t right);

static inline size_t pith_pair_hash(uint64_t key)
{
    key *= 0x9E3779B97F4A7C15u;
    return (size_t)(key ^ key >> 32);
}

/** The slot of a pair, or an empty one, whose rank is PITH_NO_RANK. */
static inline const pith_pair_slot *pith_pair_map_find(const pith_pair_map *m, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;
    for (size_t i = pith_pair_hash(key);; i++) {
        const pith_pair_slot *s = &m->slots[i & m->mask];
        if (s->key == key || s->key == UINT64_MAX) return s;
    }
}

/* A trie over bytes: edges in a pair map (node, byte) -> node; value[node] is an id or -1. */
typedef struct pith_trie {
    pith_pair_map edges;
    int32_t *value;        /* [n_nodes]; node 0 is the root */
    uint32_t n_nodes, cap;
    uint32_t root[256];    /* first step without hashing; 0: none */
} pith_trie;
/** Room for n_bytes of strings in all. */
pith_status pith_trie_init(pith_ctx *ctx, pith_arena *arena, size_t n_bytes, pith_trie *t);
/** Add a string; the first of equal ones stays. */
void pith_trie_add(pith_trie *t, const uint8_t *s, size_t len, int32_t value);

/** The child of a node; 0: none. */
static inline uint32_t pith_trie_step(const pith_trie *t, uint32_t node, uint8_t byte)
{
    if (!node) return t->root[byte];
    const pith_pair_slot *s = pith_pair_map_find(&t->edges, node, byte);
    return s->rank == PITH_NO_RANK ? 0 : s->id;
}

#endif
