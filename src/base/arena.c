/* Arenas: a chain of blocks, taken from the front, reset to a mark.  Blocks are kept for reuse. */
#include "base/base.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#define REDZONE PITH_ALIGN
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#define REDZONE 0
#endif

#define FIRST_BLOCK ((size_t)64 << 10)
#define LARGE_BLOCK ((size_t)1 << 20) /* blocks grow up to this; what needs more has one of its own size */

typedef struct arena_block {
    struct arena_block *next;
    size_t size, used;
    uint8_t *data;
} arena_block;

struct pith_arena {
    pith_ctx *ctx;
    arena_block *first, *current;
};

pith_arena *pith_arena_new(pith_ctx *ctx)
{
    pith_arena *arena = pith_alloc(ctx, sizeof *arena);
    if (arena) *arena = (pith_arena){.ctx = ctx};
    return arena;
}

void pith_arena_free(pith_arena *arena)
{
    if (!arena) return;
    for (arena_block *b = arena->first, *next; b; b = next) {
        next = b->next;
        UNPOISON(b->data, b->size);
        pith_free(arena->ctx, b->data);
        pith_free(arena->ctx, b);
    }
    pith_free(arena->ctx, arena);
}

void *pith_arena_take(pith_arena *arena, size_t size)
{
    size_t rounded;
    if (!pith_add(size, PITH_ALIGN - 1 + REDZONE, &rounded)) {
        pith_fail(arena->ctx, PITH_E_MEMORY, "out of memory: %zu bytes asked of an arena", size);
        return NULL;
    }
    rounded &= ~(size_t)(PITH_ALIGN - 1);
    arena_block *b = arena->current ? arena->current : arena->first, *last = NULL;
    for (; b && b->size - b->used < rounded; b = b->next) last = b;
    if (!b) {
        size_t want = PITH_MAX(rounded, last ? PITH_MIN(last->size * 2, LARGE_BLOCK) : FIRST_BLOCK);
        b = pith_alloc(arena->ctx, sizeof *b);
        if (!b) return NULL;
        *b = (arena_block){.size = want, .data = pith_alloc(arena->ctx, want)};
        if (!b->data) {
            pith_free(arena->ctx, b);
            return NULL;
        }
        POISON(b->data, b->size);
        if (last) {
            while (last->next) last = last->next;
            last->next = b;
        } else {
            arena->first = b;
        }
    }
    arena->current = b;
    void *ptr = b->data + b->used;
    b->used += rounded;
    UNPOISON(ptr, size);
    return ptr;
}

pith_mark pith_arena_mark(const pith_arena *arena)
{
    return (pith_mark){arena->current, arena->current ? arena->current->used : 0};
}

void pith_arena_reset(pith_arena *arena, pith_mark mark)
{
    arena_block *b = mark.block ? mark.block : arena->first;
    if (!b) return;
    b->used = mark.used;
    POISON(b->data + b->used, b->size - b->used);
    arena->current = b;
    for (b = b->next; b; b = b->next) {
        b->used = 0;
        POISON(b->data, b->size);
    }
}
