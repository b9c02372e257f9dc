/* Hash-grid encoding (Mueller, Evans, Schied, Keller, arXiv:2201.05989): levels of grids over the unit cube, finer and
 * finer, whose corners hold learned features; a level with more corners than entries shares them by a hash.  A point
 * takes the features of the corners around it, linearly, of all levels side by side. */
#include <math.h>

#include "grad/tape.h"

#define MAX_D 4
#define POINTS ((size_t)256) /* a task */

typedef struct grid_attr {
    pith_hash_grid o;
    size_t n, d;
} grid_attr;

typedef struct grid_work {
    const grid_attr *a;
    const float *x, *table, *gy;
    float *y, *g;
} grid_work;

/* A level: where its entries begin, how many, and how many cells an axis has. */
typedef struct level {
    size_t first, n, cells;
    bool hashed;
} level;

static level level_of(const pith_hash_grid *o, size_t d, size_t i)
{
    level l = {0};
    for (size_t k = 0; k <= i; k++) {
        l.first += l.n;
        l.cells = (size_t)floor((double)o->coarsest * pow((double)o->growth, (double)k));
        double corners = pow((double)l.cells + 1, (double)d);
        l.hashed = corners > (double)o->n_entries;
        l.n = l.hashed ? o->n_entries : (size_t)corners;
    }
    return l;
}

size_t pith_hash_grid_rows(const pith_hash_grid *o, size_t d)
{
    if (!o->n_levels) return 0;
    level l = level_of(o, d, o->n_levels - 1);
    return l.first + l.n;
}

static size_t entry_of(const level *l, const size_t *corner, size_t d)
{
    static const uint32_t primes[MAX_D] = {1, 2654435761u, 805459861u, 3674653429u};
    uint32_t hash = 0;
    size_t dense = 0;
    for (size_t k = 0; k < d; k++) {
        hash ^= (uint32_t)corner[k] * primes[k];
        dense = dense * (l->cells + 1) + corner[k];
    }
    return l->first + (l->hashed ? hash % l->n : dense);
}

/* A point's cell in a level, and where it lies in it, 0..1.  Outside of the cube the nearest point of it counts. */
static void place(const level *l, const float *x, size_t d, size_t *cell, float *at, bool *inside)
{
    for (size_t k = 0; k < d; k++) {
        float v = x[k] > 0 ? PITH_MIN(x[k], 1.0f) : 0; /* NaN: 0 */
        inside[k] = x[k] >= 0 && x[k] <= 1;
        float scaled = v * (float)l->cells;
        cell[k] = PITH_MIN((size_t)scaled, l->cells - 1);
        at[k] = scaled - (float)cell[k];
    }
}

/* Corner c (bit k: the far one along axis k): its entry and weight. */
static size_t corner_of(const level *l, const size_t *cell, const float *at, size_t d, size_t c, float *weight)
{
    size_t corner[MAX_D];
    *weight = 1;
    for (size_t k = 0; k < d; k++) {
        bool far = c >> k & 1;
        corner[k] = cell[k] + far;
        *weight *= far ? at[k] : 1 - at[k];
    }
    return entry_of(l, corner, d);
}

static void encode_points(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const grid_work *w = arg;
    const grid_attr *a = w->a;
    size_t f = a->o.n_features, wide = a->o.n_levels * f, cell[MAX_D];
    float at[MAX_D], weight;
    bool inside[MAX_D];
    for (size_t i = 0; i < a->o.n_levels; i++) {
        level l = level_of(&a->o, a->d, i);
        for (size_t p = from; p < to; p++) {
            float *y = w->y + p * wide + i * f;
            place(&l, w->x + p * a->d, a->d, cell, at, inside);
            memset(y, 0, f * sizeof *y);
            for (size_t c = 0; c < (size_t)1 << a->d; c++) {
                const float *entry = w->table + corner_of(&l, cell, at, a->d, c, &weight) * f;
                for (size_t k = 0; k < f; k++) y[k] += weight * entry[k];
            }
        }
    }
}

/* By the table: levels share no entry, so that each is one task. */
static void table_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const grid_work *w = arg;
    const grid_attr *a = w->a;
    size_t f = a->o.n_features, wide = a->o.n_levels * f, cell[MAX_D];
    float at[MAX_D], weight;
    bool inside[MAX_D];
    for (size_t i = from; i < to; i++) {
        level l = level_of(&a->o, a->d, i);
        for (size_t p = 0; p < a->n; p++) {
            const float *gy = w->gy + p * wide + i * f;
            place(&l, w->x + p * a->d, a->d, cell, at, inside);
            for (size_t c = 0; c < (size_t)1 << a->d; c++) {
                float *entry = w->g + corner_of(&l, cell, at, a->d, c, &weight) * f;
                for (size_t k = 0; k < f; k++) entry[k] += weight * gy[k];
            }
        }
    }
}

/* By the points; 0 along an axis where a point lies outside. */
static void points_back(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const grid_work *w = arg;
    const grid_attr *a = w->a;
    size_t f = a->o.n_features, wide = a->o.n_levels * f, cell[MAX_D];
    float at[MAX_D], weight;
    bool inside[MAX_D];
    memset(w->g + from * a->d, 0, (to - from) * a->d * sizeof(float));
    for (size_t i = 0; i < a->o.n_levels; i++) {
        level l = level_of(&a->o, a->d, i);
        for (size_t p = from; p < to; p++) {
            const float *gy = w->gy + p * wide + i * f;
            place(&l, w->x + p * a->d, a->d, cell, at, inside);
            for (size_t c = 0; c < (size_t)1 << a->d; c++) {
                const float *entry = w->table + corner_of(&l, cell, at, a->d, c, &weight) * f;
                float dot = 0;
                for (size_t k = 0; k < f; k++) dot += gy[k] * entry[k];
                for (size_t k = 0; k < a->d; k++) {
                    float slope = c >> k & 1 ? (float)l.cells : -(float)l.cells;
                    for (size_t j = 0; j < a->d; j++)
                        if (j != k) slope *= c >> j & 1 ? at[j] : 1 - at[j];
                    if (inside[k]) w->g[p * a->d + k] += slope * dot;
                }
            }
        }
    }
}

/* ---- the same, of operations ------------------------------------------------------------------ */

/* near[k], far[k] [n, 1]: what the corners on either side along axis k weigh; index [corners, n]. */
static bool corners_of(const grid_attr *a, pith_var *x, const level *l, pith_var **near, pith_var **far, int32_t *index)
{
    float *cells = pith_op_attr(x->tape, a->d * a->n, sizeof *cells); /* [d, n] */
    if (!cells) return false;
    for (size_t p = 0; p < a->n; p++) {
        size_t cell[MAX_D];
        float at[MAX_D], weight;
        bool inside[MAX_D];
        place(l, x->data + p * a->d, a->d, cell, at, inside);
        for (size_t k = 0; k < a->d; k++) cells[k * a->n + p] = (float)cell[k];
        for (size_t c = 0; c < (size_t)1 << a->d; c++) index[c * a->n + p] = (int32_t)corner_of(l, cell, at, a->d, c, &weight);
    }
    for (size_t k = 0; k < a->d; k++) {
        pith_var *scaled = pith_var_scale(pith_var_clamp(pith_var_slice(x, 1, k, 1), 0, 1), (float)l->cells);
        far[k] = pith_var_sub(scaled, pith_tape_input(x->tape, cells + k * a->n, PITH_DIMS(a->n, 1)));
        near[k] = pith_var_affine(far[k], -1, 1);
    }
    return true;
}

static pith_var *remake(pith_var *y)
{
    const grid_attr *a = y->attr;
    size_t n_corners = (size_t)1 << a->d;
    pith_var *x = y->in[0], *near[MAX_D], *far[MAX_D], **levels = pith_op_attr(y->tape, a->o.n_levels, sizeof *levels);
    int32_t *index = pith_op_attr(y->tape, n_corners * a->n, sizeof *index);
    for (size_t i = 0; levels && index && i < a->o.n_levels; i++) {
        level l = level_of(&a->o, a->d, i);
        if (!corners_of(a, x, &l, near, far, index)) return NULL;
        levels[i] = NULL;
        for (size_t c = 0; c < n_corners; c++) {
            pith_var *entry = pith_var_rows(y->in[1], index + c * a->n, PITH_DIMS(a->n));
            for (size_t k = 0; k < a->d; k++) entry = pith_var_mul(entry, c >> k & 1 ? far[k] : near[k]);
            levels[i] = c ? pith_var_add(levels[i], entry) : entry;
        }
    }
    return levels && index ? pith_var_concat(levels, a->o.n_levels, 1) : NULL;
}

static void hash_grid_backward(pith_var *y, pith_var *gy, pith_var **gx)
{
    static const pith_op back = {"hash_grid_back", NULL};
    if (pith_op_remake(y, gy, remake)) return;
    const grid_attr *a = y->attr;
    pith_var *x = y->in[0], *table = y->in[1], *g;
    grid_work w = {.a = a, .x = x->data, .table = table->data, .gy = gy->data};
    if (pith_wanted(table) && (g = pith_tape_fill(y->tape, 0, table->n_dims, table->dims))) {
        w.g = g->data;
        pith_op_ranges(y->tape, a->o.n_levels, 1, table_back, &w);
        gx[1] = g;
    }
    if (pith_wanted(x) && (g = pith_op_value(y->tape, &back, NULL, 0, x->n_dims, x->dims, 0))) {
        w.g = g->data;
        pith_op_ranges(y->tape, a->n, POINTS, points_back, &w);
        gx[0] = g;
    }
}

pith_var *pith_var_hash_grid(pith_var *x, pith_var *table, const pith_hash_grid *o)
{
    static const pith_op op = {"hash_grid", hash_grid_backward};
    if (!x || !table) return NULL;
    bool fits = x->n_dims == 2 && x->dims[1] >= 1 && x->dims[1] <= MAX_D && o->n_levels && o->n_levels <= 64 && o->coarsest && o->coarsest <= 1 << 16 && o->growth >= 1 && o->n_entries && o->n_entries <= (size_t)1 << 28;
    if (fits) fits = (double)o->coarsest * pow((double)o->growth, (double)o->n_levels - 1) < (double)(1 << 24); /* cells are counted in f32 */
    if (!fits || table->n_dims != 2 || table->dims[1] != o->n_features || table->dims[0] != pith_hash_grid_rows(o, x->dims[1]))
        return pith_op_fail(x->tape, PITH_E_SHAPE, "hash_grid: points %s, table %s, %zu levels from %zu cells, growing by %g", PITH_SHAPE(x), PITH_SHAPE(table), o->n_levels, o->coarsest, (double)o->growth);
    pith_var *in[] = {x, table}, *y = pith_op_value(x->tape, &op, in, 2, PITH_DIMS(x->dims[0], o->n_levels * o->n_features), sizeof(grid_attr));
    if (!y) return NULL;
    *(grid_attr *)y->attr = (grid_attr){*o, x->dims[0], x->dims[1]};
    grid_work w = {.a = y->attr, .x = x->data, .table = table->data, .y = y->data};
    pith_op_ranges(x->tape, x->dims[0], POINTS, encode_points, &w);
    return y;
}
