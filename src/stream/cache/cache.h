/* A cache: keys and values are appended, queries attend over them, whatever is kept inside. */
#ifndef PITH_CACHE_H
#define PITH_CACHE_H

#include "tensor/kernels.h"

typedef struct pith_cache pith_cache;

typedef enum pith_cache_type { PITH_CACHE_F32, PITH_CACHE_F16, PITH_CACHE_Q8 } pith_cache_type;

typedef struct pith_cache_kind {
    const char *name;
    /* k, v: [n, n_kv_heads, head_dim] f32, keys already rotated: positions cache->n … of this layer.
     * cache->n moves on with the last layer. PITH_E_LIMIT when full. */
    pith_status (*append)(pith_ctx *ctx, pith_cache *c, size_t layer, const float *k, const float *v, size_t n);
    /* q: [n, n_heads, head_dim]; query i stands at position pos0 + i and sees positions max(0, pos0+i-window+1)..pos0+i (window 0: all).
     * out like q.  Parallel over heads and queries inside. */
    pith_status (*attend)(pith_ctx *ctx, pith_cache *c, size_t layer, const float *q, size_t n, size_t n_heads, size_t pos0, size_t window, float scale, float *out);
    void (*truncate)(pith_cache *c, size_t n);   /* forget positions >= n */
    size_t (*bytes)(const pith_cache *c);
    void (*free)(pith_ctx *ctx, pith_cache *c);
} pith_cache_kind;

struct pith_cache {
    const pith_cache_kind *kind;
    size_t n_layers, n_kv_heads, head_dim, capacity;  /* capacity in positions */
    size_t n;                                         /* positions filled in every layer */
};

/** A plain cache with room for `capacity` positions, f32, f16 or 8-bit rows (one f32 scale per head row). */
pith_status pith_cache_new(pith_ctx *ctx, pith_cache_type type, size_t n_layers, size_t n_kv_heads, size_t head_dim, size_t capacity, pith_cache **cache);
void pith_cache_free(pith_ctx *ctx, pith_cache *cache);

#endif
