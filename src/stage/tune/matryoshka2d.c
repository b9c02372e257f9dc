/* Two-dimensional Matryoshka. */
#include "stage/tune/matryoshka2d.h"

pith_matryoshka2d_draw pith_matryoshka2d_choose(const pith_matryoshka2d *o, uint64_t seed, uint64_t step)
{
    pith_rng rng = {seed, 0x6d32642b, step << 8};
    uint32_t layer = pith_rng_below(&rng, (uint32_t)o->n_layers - 1), size = pith_rng_below(&rng, (uint32_t)o->n_sizes);
    return (pith_matryoshka2d_draw){1 + layer, o->sizes[size]};
}

static pith_var *prefix(pith_var *x, size_t size) { return x && size < x->dims[1] ? pith_var_slice(x, 1, 0, size) : x; }

/* The contrastive loss of whole embeddings and of their prefix. */
static pith_var *at_layer(pith_var *a, pith_var *b, const pith_matryoshka2d *o, size_t size)
{
    pith_var *whole = pith_var_contrastive(a, b, o->temperature);
    return o->no_sizes ? whole : pith_var_add(whole, pith_var_contrastive(prefix(a, size), prefix(b, size), o->temperature));
}

static pith_var *alignment(pith_var *shallow, pith_var *last, const pith_matryoshka2d *o, size_t size)
{
    pith_var *x = pith_var_scale(shallow, 1 / o->softness), *target = pith_var_scale(pith_var_stop(last), 1 / o->softness);
    pith_var *whole = pith_var_kl(x, target);
    return o->no_sizes ? whole : pith_var_add(whole, pith_var_kl(prefix(x, size), prefix(target, size)));
}

pith_var *pith_matryoshka2d_loss(pith_var *const *a, pith_var *const *b, const pith_matryoshka2d *o, pith_matryoshka2d_draw draw)
{
    pith_var *a_last = a[o->n_layers - 1], *b_last = b[o->n_layers - 1], *a_layer = a[draw.layer - 1], *b_layer = b[draw.layer - 1];
    if (!a_last || !b_last) return NULL;
    if (a_last->n_dims != 2 || draw.size < 1 || draw.size > a_last->dims[1])
        return pith_op_fail(a_last->tape, PITH_E_ARGUMENT, "embeddings %s in prefixes of %zu: rows of at least so many values are needed", PITH_SHAPE(a_last), draw.size);
    pith_var *sum = at_layer(a_last, b_last, o, draw.size);
    if (o->no_layers) return sum;
    sum = pith_var_add(sum, at_layer(a_layer, b_layer, o, draw.size));
    if (o->no_alignment) return sum;
    return pith_var_add(sum, pith_var_add(alignment(a_layer, a_last, o, draw.size), alignment(b_layer, b_last, o, draw.size)));
}
