/* Masks over several parameters. */
#include "stage/select/mask.h"

#include <math.h>
#include <stdlib.h>

typedef struct masked {
    pith_var *param;
    float *mask;                   /* [count] */
} masked;

struct pith_masks {
    pith_tape *tape;
    pith_ctx *ctx;
    masked *all;
    size_t n, n_values;
};

pith_status pith_masks_new(pith_tape *tape, pith_masks **out)
{
    pith_ctx *ctx = pith_tape_ctx(tape);
    pith_masks *m = pith_calloc(ctx, 1, sizeof *m);
    if (!m) return PITH_E_MEMORY;
    *m = (pith_masks){.tape = tape, .ctx = ctx};
    *out = m;
    return PITH_OK;
}

void pith_masks_free(pith_masks *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n; i++) pith_free(m->ctx, m->all[i].mask);
    pith_free(m->ctx, m->all);
    pith_free(m->ctx, m);
}

pith_status pith_masks_add(pith_masks *m, pith_var *param)
{
    if (param->count > UINT32_MAX - m->n_values) return pith_fail(m->ctx, PITH_E_LIMIT, "masks over more than 2^32 values; %s is too much", param->name ? param->name : "a parameter");
    masked *all = pith_resize(m->ctx, m->all, (m->n + 1) * sizeof *all);
    if (!all) return PITH_E_MEMORY;
    m->all = all;
    float *mask = pith_array(m->ctx, PITH_MAX(param->count, 1), sizeof *mask);
    if (!mask) return PITH_E_MEMORY;
    for (size_t i = 0; i < param->count; i++) mask[i] = 1;
    m->all[m->n++] = (masked){param, mask};
    m->n_values += param->count;
    return PITH_OK;
}

typedef struct weight {
    float size;
    uint32_t index;                /* over all parameters */
} weight;

static int by_size(const void *a, const void *b)
{
    const weight *x = a, *y = b;
    if (x->size != y->size) return (x->size > y->size) - (x->size < y->size);
    return (x->index > y->index) - (x->index < y->index);
}

pith_status pith_masks_cut(pith_masks *m, double share, bool random, uint64_t seed)
{
    if (!(share >= 0 && share <= 1)) return pith_fail(m->ctx, PITH_E_ARGUMENT, "a share of %g is masked: 0 to 1 is possible", share);
    weight *w = pith_array(m->ctx, PITH_MAX(m->n_values, 1), sizeof *w);
    if (!w) return PITH_E_MEMORY;
    pith_rng rng = {seed, 0x6d61736b, 0};
    size_t k = 0, n_masked = (size_t)llround(share * (double)m->n_values);
    for (size_t i = 0; i < m->n; i++)
        for (size_t j = 0; j < m->all[i].param->count; j++, k++) w[k] = (weight){random ? pith_rng_uniform(&rng) : fabsf(m->all[i].param->data[j]), (uint32_t)k};
    qsort(w, k, sizeof *w, by_size);
    for (size_t i = 0; i < k; i++) { /* the parameter of an index: there are few */
        size_t p = 0, at = w[i].index;
        while (at >= m->all[p].param->count) at -= m->all[p++].param->count;
        m->all[p].mask[at] = i >= n_masked;
    }
    pith_free(m->ctx, w);
    return PITH_OK;
}

static masked *find(const pith_masks *m, const pith_var *param)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->all[i].param == param) return &m->all[i];
    return NULL;
}

float *pith_masks_of(pith_masks *m, const pith_var *param)
{
    masked *f = find(m, param);
    return f ? f->mask : NULL;
}

pith_var *pith_masks_apply(pith_masks *m, pith_var *param)
{
    const masked *f = param ? find(m, param) : NULL;
    return f ? pith_var_mul(param, pith_tape_input(m->tape, f->mask, param->n_dims, param->dims)) : param;
}

pith_var *pith_masks_replace(void *user, const char *name, pith_var *param)
{
    (void)name;
    return pith_masks_apply(user, param);
}

size_t pith_masks_n_kept(const pith_masks *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        for (size_t j = 0; j < m->all[i].param->count; j++) n += m->all[i].mask[j] != 0;
    return n;
}
