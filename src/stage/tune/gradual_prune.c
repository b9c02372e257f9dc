/* Pruning while training. */
#include "stage/tune/gradual_prune.h"

#include <math.h>
#include <stdlib.h>

typedef struct tensor {
    pith_var *param;
    float *mask;                   /* [count] 1: stays, 0: masked */
    size_t n_masked;
} tensor;

struct pith_prune {
    pith_tape *tape;
    pith_ctx *ctx;
    pith_prune_options o;
    tensor *tensors;
    size_t n;
};

static uint64_t last_step(const pith_prune_options *o) { return o->first_step + o->every * o->n_updates; }

double pith_prune_share(const pith_prune_options *o, uint64_t step)
{
    if (step < o->first_step) return 0;
    if (step >= last_step(o) || o->shape == PITH_PRUNE_AT_ONCE) return o->to;
    double left = 1 - (double)((step - o->first_step) / o->every) / (double)o->n_updates;
    return o->to + (o->from - o->to) * (o->shape == PITH_PRUNE_CUBIC ? left * left * left : left);
}

pith_status pith_prune_new(pith_tape *tape, const pith_prune_options *o, pith_prune **out)
{
    pith_ctx *ctx = pith_tape_ctx(tape);
    if (!(o->from >= 0 && o->from <= o->to && o->to <= 1) || (o->n_updates && !o->every))
        return pith_fail(ctx, PITH_E_ARGUMENT, "pruning goes from a share of 0..1 up to another, some steps at a time; not from %g to %g every %llu", o->from, o->to,
                         (unsigned long long)o->every);
    pith_prune *p = pith_calloc(ctx, 1, sizeof *p);
    if (!p) return PITH_E_MEMORY;
    *p = (pith_prune){.tape = tape, .ctx = ctx, .o = *o};
    *out = p;
    return PITH_OK;
}

void pith_prune_free(pith_prune *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) pith_free(p->ctx, p->tensors[i].mask);
    pith_free(p->ctx, p->tensors);
    pith_free(p->ctx, p);
}

pith_status pith_prune_add(pith_prune *p, pith_var *param)
{
    if (param->count > UINT32_MAX) return pith_fail(p->ctx, PITH_E_LIMIT, "%s: %zu values are too many to prune", param->name, param->count);
    float *mask = pith_array(p->ctx, param->count, sizeof *mask);
    tensor *grown = mask ? pith_resize(p->ctx, p->tensors, (p->n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        pith_free(p->ctx, mask);
        return PITH_E_MEMORY;
    }
    for (size_t i = 0; i < param->count; i++) mask[i] = 1;
    p->tensors = grown;
    p->tensors[p->n++] = (tensor){.param = param, .mask = mask};
    return PITH_OK;
}

static tensor *find(const pith_prune *p, const pith_var *param)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->tensors[i].param == param) return &p->tensors[i];
    return NULL;
}

pith_var *pith_prune_masked(pith_prune *p, pith_var *param)
{
    const tensor *t = find(p, param);
    return t && t->n_masked ? pith_var_mul(param, pith_tape_input(p->tape, t->mask, param->n_dims, param->dims)) : param;
}

pith_var *pith_prune_replace(void *user, const char *name, pith_var *param)
{
    (void)name;
    return pith_prune_masked(user, param);
}

/* ---- masks ------------------------------------------------------------------------------------ */

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What masks go by, smallest first: |w|, or a random number that stays the same; the first of equals first.  f32 without
 * its sign is in the order of its bits. */
static uint64_t rank_of(const pith_prune *p, size_t i_tensor, const float *w, size_t i)
{
    uint32_t bits;
    if (p->o.random) {
        uint32_t drawn[4];
        pith_philox(p->o.seed, i_tensor, i, drawn);
        bits = drawn[0];
    } else {
        memcpy(&bits, &w[i], sizeof bits);
        bits &= 0x7fffffffu;
    }
    return (uint64_t)bits << 32 | (uint32_t)i;
}

static pith_status set_mask(pith_prune *p, size_t i_tensor, double share)
{
    tensor *t = &p->tensors[i_tensor];
    size_t n = t->param->count, n_masked = (size_t)(share * (double)n + 0.5);
    uint64_t *rank = pith_array(p->ctx, n, sizeof *rank);
    if (!rank) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) rank[i] = rank_of(p, i_tensor, t->param->data, i);
    qsort(rank, n, sizeof *rank, ascending);
    for (size_t i = 0; i < n; i++) t->mask[rank[i] & 0xffffffffu] = i >= n_masked;
    t->n_masked = n_masked;
    pith_free(p->ctx, rank);
    return PITH_OK;
}

pith_status pith_prune_step(pith_prune *p, uint64_t step)
{
    const pith_prune_options *o = &p->o;
    bool due = step >= o->first_step && step <= last_step(o) && (!o->n_updates || (step - o->first_step) % o->every == 0);
    if (!due || (o->shape == PITH_PRUNE_AT_ONCE && step != o->first_step)) return PITH_OK;
    double share = pith_prune_share(o, step);
    for (size_t i = 0; i < p->n; i++) PITH_TRY(set_mask(p, i, share));
    return PITH_OK;
}

void pith_prune_settle(pith_prune *p)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->tensors[i].param->count; k++)
            if (!p->tensors[i].mask[k]) p->tensors[i].param->data[k] = 0;
}

uint64_t pith_prune_hash(const pith_prune *p)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < p->n; i++) {
        uint64_t pair[2] = {hash, pith_hash(p->tensors[i].mask, p->tensors[i].param->count * sizeof(float))};
        hash = pith_hash(pair, sizeof pair);
    }
    return hash;
}

/* ---- sizes ------------------------------------------------------------------------------------ */

/* Entries that rows of gaps of at most 31 take, zero ones in longer gaps counted. */
static size_t csr_entries(const tensor *t, size_t n_rows)
{
    size_t n_cols = n_rows ? t->param->count / n_rows : 0, n = 0;
    for (size_t r = 0; r < n_rows; r++) {
        size_t gap = 0;
        for (size_t c = 0; c < n_cols; c++) {
            bool stays = t->mask[r * n_cols + c] != 0;
            if (stays || gap == 31) n++, gap = 0;
            else gap++;
        }
    }
    return n;
}

pith_prune_size pith_prune_measure(const pith_tape *tape, const pith_prune *p)
{
    pith_prune_size s = {0};
    size_t n;
    pith_var *const *params = pith_tape_params(tape, &n);
    for (size_t i = 0; i < n; i++) {
        const pith_var *v = params[i];
        const tensor *t = p ? find(p, v) : NULL;
        s.n_values += v->count;
        s.n_nonzero += v->count - (t ? t->n_masked : 0);
        s.dense_bytes += 4 * v->count;
        s.bitmask_bytes += t ? (v->count + 7) / 8 + 4 * (v->count - t->n_masked) : 4 * v->count;
        size_t n_rows = v->n_dims ? v->dims[0] : 1, entries = t ? csr_entries(t, n_rows) : 0;
        s.csr_bytes += t ? 4 * n_rows + (5 * entries + 7) / 8 + 4 * entries : 4 * v->count;
    }
    return s;
}
