/* The plain cache: every key and value as it came, in f32, f16, or 8 bits with one scale a head row.
 *
 * Few queries go row by row through the attention kernels.  Many queries are taken in blocks, all heads
 * that share keys together, as two matrix products around a softmax. */
#include "stream/cache/cache.h"

#include <math.h>

#define FEW_QUERIES 8        /* below: kernels, from here on: products */
#define QUERY_BLOCK 32       /* queries a task at most */
#define KEY_BLOCK 256        /* keys widened to f32 at a time: with 64 values a head, 64 KiB */
#define KEY_STRIDE (KEY_BLOCK + 16) /* of transposed keys: not a power of two, which would crowd a few sets of the cache */
#define MAX_SCORES ((size_t)1 << 20) /* values of scores a worker holds, unless one query needs more */
#define MIN_PARALLEL 32768   /* multiplications below which waking the threads costs more than it saves */
#define APPEND_TOKENS 32     /* tokens appended in one task */

typedef struct plain_cache {
    pith_cache c;
    pith_cache_type type;
    size_t value_bytes;
    uint8_t *k, *v;               /* [n_layers, n_kv_heads, capacity, head_dim] of the type */
    float *k_scale, *v_scale;     /* [n_layers, n_kv_heads, capacity], 8 bits only */
} plain_cache;

/* First position of one head in one layer, in rows. */
static size_t head_row(const plain_cache *p, size_t layer, size_t head)
{
    return (layer * p->c.n_kv_heads + head) * p->c.capacity;
}

static uint8_t *row_at(const plain_cache *p, uint8_t *values, size_t row) { return values + row * p->c.head_dim * p->value_bytes; }

/* ---- append ----------------------------------------------------------------------------------- */

typedef struct append_job {
    plain_cache *p;
    const pith_kernels *kernels;
    size_t layer, n;
    const float *k, *v;           /* [n, n_kv_heads, head_dim] */
} append_job;

static void store_row(const append_job *j, uint8_t *values, float *scales, size_t row, const float *x)
{
    plain_cache *p = j->p;
    size_t d = p->c.head_dim;
    uint8_t *dst = row_at(p, values, row);
    if (p->type == PITH_CACHE_F32) {
        memcpy(dst, x, d * sizeof *x);
    } else if (p->type == PITH_CACHE_F16) {
        j->kernels->f32_to_f16(x, (uint16_t *)(void *)dst, d);
    } else {
        float most = 0;
        for (size_t i = 0; i < d; i++) most = PITH_MAX(most, fabsf(x[i]));
        float inverse = most > 0 ? 127 / most : 0;
        for (size_t i = 0; i < d; i++) ((int8_t *)dst)[i] = (int8_t)lrintf(x[i] * inverse);
        scales[row] = most / 127;
    }
}

static void append_tokens(void *arg, size_t task, int worker)
{
    (void)worker;
    append_job *j = arg;
    plain_cache *p = j->p;
    size_t i1 = PITH_MIN((task + 1) * APPEND_TOKENS, j->n);
    for (size_t i = task * APPEND_TOKENS; i < i1; i++) {
        for (size_t h = 0; h < p->c.n_kv_heads; h++) {
            size_t row = head_row(p, j->layer, h) + p->c.n + i, from = (i * p->c.n_kv_heads + h) * p->c.head_dim;
            store_row(j, p->k, p->k_scale, row, j->k + from);
            store_row(j, p->v, p->v_scale, row, j->v + from);
        }
    }
}

static pith_status plain_append(pith_ctx *ctx, pith_cache *c, size_t layer, const float *k, const float *v, size_t n)
{
    if (n > c->capacity - c->n)
        return pith_fail(ctx, PITH_E_LIMIT, "the cache has room for %zu positions: %zu are taken, %zu more were asked", c->capacity, c->n, n);
    append_job job = {(plain_cache *)c, pith_kernels_get(ctx), layer, n, k, v};
    pith_parallel(ctx, PITH_CEIL_DIV(n, APPEND_TOKENS), append_tokens, &job);
    if (layer + 1 == c->n_layers) c->n += n;
    return PITH_OK;
}

/* ---- attend ----------------------------------------------------------------------------------- */

typedef struct attend_job {
    plain_cache *p;
    const pith_kernels *kernels;
    size_t layer, n, n_heads, group, pos0, window; /* group: heads that share keys */
    float scale;
    const float *q;
    float *out;                   /* [n, n_heads, head_dim] */
    size_t block, n_blocks;       /* many queries: queries a task, tasks a kv head */
    size_t n_whole, parts;        /* few: groups done in one task; tasks that each of the others is parted into */
    float *scratch;               /* [n_threads, scratch_len] */
    size_t scratch_len, scores_ld;
} attend_job;

/* The positions that query i sees: first..last-1. */
static size_t first_seen(const attend_job *j, size_t i)
{
    size_t pos = j->pos0 + i;
    return j->window && pos >= j->window ? pos - j->window + 1 : 0;
}

static size_t last_seen(const attend_job *j, size_t i) { return j->pos0 + i + 1; }

/* One query of the heads that share one head of keys, or of a part of them. */
static void attend_group(void *arg, size_t task, int worker)
{
    attend_job *j = arg;
    plain_cache *p = j->p;
    bool whole = task < j->n_whole;
    size_t at = whole ? task : j->n_whole + (task - j->n_whole) / j->parts, part = whole ? 0 : (task - j->n_whole) % j->parts, parts = whole ? 1 : j->parts;
    size_t head0 = PITH_CEIL_DIV(j->group * part, parts), n_q = PITH_CEIL_DIV(j->group * (part + 1), parts) - head0;
    size_t d = p->c.head_dim, i = at / p->c.n_kv_heads;
    size_t first = first_seen(j, i), n = last_seen(j, i) - first, row = head_row(p, j->layer, at % p->c.n_kv_heads) + first;
    const float *q = j->q + (at * j->group + head0) * d;
    float *out = j->out + (at * j->group + head0) * d, *scratch = j->scratch + (size_t)worker * j->scratch_len;
    const void *k = row_at(p, p->k, row), *v = row_at(p, p->v, row);
    if (p->type == PITH_CACHE_F32) j->kernels->attend_heads_f32(q, n_q, k, v, d, n, d, j->scale, scratch, out);
    else if (p->type == PITH_CACHE_F16) j->kernels->attend_heads_f16(q, n_q, k, v, d, n, d, j->scale, scratch, out);
    else j->kernels->attend_heads_q8(q, n_q, k, p->k_scale + row, v, p->v_scale + row, d, n, d, j->scale, scratch, out);
}

/* Tasks of a few queries.  Heads that share keys are faster together; but when the last groups are fewer than
 * the threads, they are parted, so that no thread waits for another's whole group.  Each head's result is the same
 * however they are parted. */
static size_t few_tasks(attend_job *j, size_t n_threads)
{
    size_t n_groups = j->n * j->p->c.n_kv_heads, rest = n_groups % n_threads;
    j->n_whole = n_groups - rest;
    j->parts = rest ? PITH_MIN(n_threads / rest, j->group) : 1;
    return j->n_whole + rest * j->parts;
}

/* n rows from `row` on as f32 [n, head_dim]; in place when they are. */
static const float *widen_rows(const attend_job *j, uint8_t *values, const float *scales, size_t row, size_t n, float *dst)
{
    const plain_cache *p = j->p;
    size_t d = p->c.head_dim;
    const void *src = row_at(p, values, row);
    if (p->type == PITH_CACHE_F32) return src;
    if (p->type == PITH_CACHE_F16) {
        j->kernels->f16_to_f32(src, dst, n * d);
        return dst;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t e = 0; e < d; e++) dst[i * d + e] = scales[row + i] * ((const int8_t *)src)[i * d + e];
    return dst;
}

/* Queries i0..i1-1 of the heads that share one head of keys: m = (i1 - i0) * group rows.
 *   scores [m, keys] = q [m, d] k' [d, keys];  softmax over what each row sees;  out [m, d] = scores v */
static void attend_block(void *arg, size_t task, int worker)
{
    attend_job *j = arg;
    plain_cache *p = j->p;
    size_t d = p->c.head_dim, kv_head = task % p->c.n_kv_heads;
    /* last blocks first: they see most keys, and a long task at the end would leave threads idle */
    size_t i0 = (j->n_blocks - 1 - task / p->c.n_kv_heads) * j->block, i1 = PITH_MIN(i0 + j->block, j->n), m = (i1 - i0) * j->group;
    size_t first = first_seen(j, i0), n_keys = last_seen(j, i1 - 1) - first, row0 = head_row(p, j->layer, kv_head) + first;
    size_t row_len = j->group * d, row_stride = j->n_heads * d;
    float *rows = j->scratch + (size_t)worker * j->scratch_len; /* [m, d] queries, then results */
    float *wide = rows + j->block * row_len;                    /* [KEY_BLOCK, d] keys or values */
    float *columns = wide + KEY_BLOCK * d;                      /* [d, KEY_STRIDE] keys */
    float *scores = columns + KEY_STRIDE * d;                   /* [m, scores_ld] */

    for (size_t i = i0; i < i1; i++) memcpy(rows + (i - i0) * row_len, j->q + i * row_stride + kv_head * row_len, row_len * sizeof *rows);
    for (size_t k0 = 0; k0 < n_keys; k0 += KEY_BLOCK) {
        size_t n = PITH_MIN(n_keys - k0, (size_t)KEY_BLOCK), n_wide = PITH_ROUND_UP(n, (size_t)16);
        pith_transpose(widen_rows(j, p->k, p->k_scale, row0 + k0, n, wide), n, d, d, columns, KEY_STRIDE);
        for (size_t e = 0; e < d; e++) memset(columns + e * KEY_STRIDE + n, 0, (n_wide - n) * sizeof *columns);
        j->kernels->gemm(m, n_wide, d, rows, d, columns, KEY_STRIDE, scores + k0, j->scores_ld, false);
    }
    for (size_t r = 0; r < m; r++) {
        size_t i = i0 + r / j->group, from = first_seen(j, i) - first, to = last_seen(j, i) - first;
        float *s = scores + r * j->scores_ld;
        memset(s, 0, from * sizeof *s);
        j->kernels->softmax(s + from, to - from, j->scale);
        memset(s + to, 0, (n_keys - to) * sizeof *s);
    }
    for (size_t k0 = 0; k0 < n_keys; k0 += KEY_BLOCK) {
        size_t n = PITH_MIN(n_keys - k0, (size_t)KEY_BLOCK);
        const float *v = widen_rows(j, p->v, p->v_scale, row0 + k0, n, wide);
        j->kernels->gemm(m, d, n, scores + k0, j->scores_ld, v, d, rows, d, k0 > 0);
    }
    for (size_t i = i0; i < i1; i++) memcpy(j->out + i * row_stride + kv_head * row_len, rows + (i - i0) * row_len, row_len * sizeof *rows);
}

static pith_status plain_attend(pith_ctx *ctx, pith_cache *c, size_t layer, const float *q, size_t n, size_t n_heads, size_t pos0,
                                size_t window, float scale, float *out)
{
    if (n == 0) return PITH_OK;
    attend_job j = {.p = (plain_cache *)c, .kernels = pith_kernels_get(ctx), .layer = layer, .n = n, .n_heads = n_heads,
                    .group = n_heads / c->n_kv_heads, .pos0 = pos0, .window = window, .scale = scale, .q = q, .out = out};
    size_t n_threads = (size_t)pith_n_threads(ctx), most_keys = PITH_ROUND_UP(pos0 + n, 16), total;
    bool few = n < FEW_QUERIES;
    if (few) {
        j.scratch_len = most_keys * j.group;
    } else {
        /* The block depends on sizes only, never on the number of threads. */
        size_t fit = MAX_SCORES / (most_keys * j.group);
        j.block = PITH_MAX(1, PITH_MIN(fit, QUERY_BLOCK));
        j.n_blocks = PITH_CEIL_DIV(n, j.block);
        j.scores_ld = window ? PITH_MIN(most_keys, PITH_ROUND_UP(window + j.block, 16)) : most_keys;
        j.scratch_len = PITH_ROUND_UP(j.block * j.group * (c->head_dim + j.scores_ld) + (KEY_BLOCK + KEY_STRIDE) * c->head_dim, (size_t)16);
    }
    bool parallel = n * n_heads * c->head_dim * (pos0 + n) >= MIN_PARALLEL;
    pith_mark mark = pith_arena_mark(pith_scratch(ctx));
    bool fits = pith_mul(j.scratch_len * sizeof(float), n_threads, &total);
    j.scratch = pith_arena_take(pith_scratch(ctx), fits ? total : SIZE_MAX);
    if (!j.scratch) return PITH_E_MEMORY;
    size_t n_tasks = few ? few_tasks(&j, parallel ? n_threads : 1) : 0;
    if (few && !parallel)
        for (size_t i = 0; i < n_tasks; i++) attend_group(&j, i, 0);
    else if (few) pith_parallel(ctx, n_tasks, attend_group, &j);
    else pith_parallel(ctx, j.n_blocks * c->n_kv_heads, attend_block, &j);
    pith_arena_reset(pith_scratch(ctx), mark);
    return PITH_OK;
}

/* ---- the rest --------------------------------------------------------------------------------- */

static void plain_truncate(pith_cache *c, size_t n) { c->n = PITH_MIN(c->n, n); }

static size_t plain_bytes(const pith_cache *c)
{
    const plain_cache *p = (const plain_cache *)c;
    size_t rows = c->n_layers * c->n_kv_heads * c->capacity;
    return 2 * rows * (c->head_dim * p->value_bytes + (p->k_scale ? sizeof(float) : 0));
}

static void plain_free(pith_ctx *ctx, pith_cache *c)
{
    plain_cache *p = (plain_cache *)c;
    pith_free(ctx, p->k);
    pith_free(ctx, p->v);
    pith_free(ctx, p->k_scale);
    pith_free(ctx, p->v_scale);
    pith_free(ctx, p);
}

static const pith_cache_kind plain_kind = {
    .name = "plain", .append = plain_append, .attend = plain_attend, .truncate = plain_truncate, .bytes = plain_bytes, .free = plain_free};

pith_status pith_cache_new(pith_ctx *ctx, pith_cache_type type, size_t n_layers, size_t n_kv_heads, size_t head_dim, size_t capacity, pith_cache **cache)
{
    static const size_t value_bytes[] = {[PITH_CACHE_F32] = 4, [PITH_CACHE_F16] = 2, [PITH_CACHE_Q8] = 1};
    size_t rows, values;
    if ((size_t)type >= PITH_COUNT(value_bytes) || !n_layers || !n_kv_heads || !head_dim || !capacity)
        return pith_fail(ctx, PITH_E_ARGUMENT, "a cache of type %d, %zu layers, %zu heads of %zu values and %zu positions cannot be made", (int)type,
                         n_layers, n_kv_heads, head_dim, capacity);
    if (!pith_mul(n_layers, n_kv_heads, &rows) || !pith_mul(rows, capacity, &rows) || !pith_mul(rows, head_dim, &values) || values > SIZE_MAX / 16)
        return pith_fail(ctx, PITH_E_MEMORY, "a cache of %zu positions is larger than memory can be", capacity);
    plain_cache *p = pith_calloc(ctx, 1, sizeof *p);
    if (!p) return PITH_E_MEMORY;
    p->c = (pith_cache){.kind = &plain_kind, .n_layers = n_layers, .n_kv_heads = n_kv_heads, .head_dim = head_dim, .capacity = capacity};
    p->type = type;
    p->value_bytes = value_bytes[type];
    p->k = pith_array(ctx, values, p->value_bytes);
    p->v = p->k ? pith_array(ctx, values, p->value_bytes) : NULL;
    bool whole = p->v != NULL;
    if (whole && type == PITH_CACHE_Q8) {
        p->k_scale = pith_array(ctx, rows, sizeof(float));
        p->v_scale = p->k_scale ? pith_array(ctx, rows, sizeof(float)) : NULL;
        whole = p->v_scale != NULL;
    }
    if (!whole) {
        plain_free(ctx, &p->c);
        return PITH_E_MEMORY;
    }
    *cache = &p->c;
    return PITH_OK;
}

void pith_cache_free(pith_ctx *ctx, pith_cache *cache)
{
    if (cache) cache->kind->free(ctx, cache);
}
