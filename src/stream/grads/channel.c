/* A tensor's own part of compression with feedback. */
#include "stream/grads/channel_parts.h"

/* ---- memory ----------------------------------------------------------------------------------- */

void pith_free_each(pith_ctx *ctx, void *list, size_t n)
{
    void **items = list;
    for (size_t i = 0; items && i < n; i++) pith_free(ctx, items[i]);
    pith_free(ctx, items);
}

void *pith_make_each(pith_ctx *ctx, size_t n, size_t count, size_t size)
{
    void **items = pith_calloc(ctx, n, sizeof *items);
    for (size_t i = 0; items && i < n; i++) {
        items[i] = pith_calloc(ctx, count, size);
        if (items[i]) continue;
        pith_free_each(ctx, items, n);
        return NULL;
    }
    return items;
}

static void draw_q(const pith_channel *ch, size_t r, float *q)
{
    pith_rng rng = {ch->o.seed, ch->o.tensor << 32, 0};
    for (size_t i = 0; i < ch->cols * r; i++) q[i] = pith_rng_normal(&rng);
}

/* What depends on the parameter. */
static pith_status make_sized(pith_channel *ch)
{
    pith_ctx *ctx = pith_group_ctx(ch->group);
    pith_free(ctx, ch->last_q);
    ch->last_q = NULL;
    if (!pith_compressor_factors(&ch->o.compressor, ch->rows, ch->cols)) return PITH_OK;
    ch->last_q = pith_array(ctx, ch->cols * pith_channel_rank(ch), sizeof *ch->last_q);
    if (!ch->last_q) return PITH_E_MEMORY;
    draw_q(ch, pith_channel_rank(ch), ch->last_q);
    return PITH_OK;
}

pith_status pith_channel_new(pith_group *group, size_t rows, size_t cols, const pith_channel_options *options, pith_channel **out)
{
    pith_ctx *ctx = pith_group_ctx(group);
    size_t n;
    PITH_TRY(pith_compressor_check(ctx, &options->compressor));
    if (!pith_mul(rows, cols, &n) || n > UINT32_MAX / 8) return pith_fail(ctx, PITH_E_LIMIT, "a gradient of %zu by %zu values is too large; split its tensor", rows, cols);
    pith_channel *ch = pith_calloc(ctx, 1, sizeof *ch);
    if (!ch) return PITH_E_MEMORY;
    *ch = (pith_channel){.group = group, .o = *options, .rows = rows, .cols = cols, .n = n, .n_local = pith_group_local(group)};
    bool has_h = options->feedback >= PITH_FEEDBACK_EF21, has_e = options->feedback == PITH_FEEDBACK_EF || options->feedback == PITH_FEEDBACK_ECONTROL;
    ch->d = pith_make_each(ctx, ch->n_local, n, sizeof(float));
    ch->work = pith_calloc(ctx, n, sizeof *ch->work);
    ch->scratch = pith_calloc(ctx, n, sizeof *ch->scratch);
    bool ok = ch->d && ch->work && ch->scratch;
    if (ok && has_e) ok = (ch->e = pith_make_each(ctx, ch->n_local, n, sizeof(float)));
    if (ok && has_h) ok = (ch->h = pith_make_each(ctx, ch->n_local, n, sizeof(float))) && (ch->mean_h = pith_calloc(ctx, n, sizeof(float)));
    pith_status status = ok ? make_sized(ch) : PITH_E_MEMORY;
    if (status == PITH_OK) *out = ch;
    else pith_channel_free(ch);
    return status;
}

void pith_channel_free(pith_channel *ch)
{
    if (!ch) return;
    pith_ctx *ctx = pith_group_ctx(ch->group);
    float **lists[] = {ch->e, ch->h, ch->d};
    for (size_t i = 0; i < PITH_COUNT(lists); i++) pith_free_each(ctx, lists[i], ch->n_local);
    pith_wire_free(ch->group, &ch->wire);
    pith_free(ctx, ch->last_q);
    pith_free(ctx, ch->mean_h);
    pith_free(ctx, ch->work);
    pith_free(ctx, ch->scratch);
    pith_free(ctx, ch);
}

pith_status pith_channel_tune(pith_channel *ch, double param)
{
    pith_compressor c = {ch->o.compressor.kind, param};
    PITH_TRY(pith_compressor_check(pith_group_ctx(ch->group), &c));
    ch->o.compressor = c;
    return make_sized(ch);
}

void pith_channel_send_whole(pith_channel *ch, bool whole) { ch->whole = whole; }

/* ---- one step --------------------------------------------------------------------------------- */

size_t pith_channel_rank(const pith_channel *ch) { return (size_t)ch->o.compressor.param; }

pith_channel_way pith_channel_way_of(const pith_channel *ch, uint64_t step)
{
    pith_compressor_kind kind = ch->o.compressor.kind;
    if (ch->whole || (ch->o.dense_first && ch->h && step == 0) || kind == PITH_COMPRESS_DENSE) return PITH_WAY_WHOLE;
    if (kind == PITH_COMPRESS_POWER) return ch->last_q ? PITH_WAY_FACTORS : PITH_WAY_WHOLE;
    return PITH_WAY_MESSAGE;
}

void pith_channel_prepare(const pith_channel *ch, const float *const *all)
{
    float eta = ch->o.eta;
    for (size_t i = 0; i < ch->n_local; i++) {
        const float *g = all[i], *e = ch->e ? ch->e[i] : NULL, *h = ch->h ? ch->h[i] : NULL;
        float *d = ch->d[i];
        switch (ch->o.feedback) {
        case PITH_FEEDBACK_NONE:
            for (size_t k = 0; k < ch->n; k++) d[k] = g[k];
            break;
        case PITH_FEEDBACK_EF:
            for (size_t k = 0; k < ch->n; k++) d[k] = e[k] + g[k];
            break;
        case PITH_FEEDBACK_EF21:
            for (size_t k = 0; k < ch->n; k++) d[k] = g[k] - h[k];
            break;
        case PITH_FEEDBACK_ECONTROL:
            for (size_t k = 0; k < ch->n; k++) d[k] = eta * e[k] + (g[k] - h[k]);
        }
    }
}

void pith_channel_remember(const pith_channel *ch, const float *const *g, float *mean)
{
    for (size_t i = 0; i < ch->n_local; i++) {
        const float *d = ch->d[i];
        for (size_t k = 0; ch->e && k < ch->n; k++) ch->e[i][k] += (ch->h ? g[i][k] - ch->h[i][k] : g[i][k]) - d[k];
        for (size_t k = 0; ch->h && k < ch->n; k++) ch->h[i][k] += d[k];
    }
    if (!ch->h) return;
    for (size_t k = 0; k < ch->n; k++) mean[k] = ch->mean_h[k] += mean[k];
}

static pith_draws draws_of(const pith_channel *ch, uint64_t step, size_t worker)
{
    uint64_t stream[3] = {ch->o.tensor, step, worker};
    return (pith_draws){ch->o.seed, pith_hash(stream, sizeof stream)};
}

pith_status pith_channel_encode(pith_channel *ch, uint64_t step, size_t i, uint8_t *dst, size_t *len)
{
    return pith_compressor_encode(pith_group_ctx(ch->group), &ch->o.compressor, draws_of(ch, step, pith_group_first(ch->group) + i), ch->d[i], ch->n, ch->scratch, dst, len);
}

pith_status pith_channel_decode(pith_channel *ch, uint64_t step, size_t w, const uint8_t *src, size_t len, float *x)
{
    return pith_compressor_decode(pith_group_ctx(ch->group), &ch->o.compressor, draws_of(ch, step, w), src, len, ch->n, ch->scratch, x);
}

pith_status pith_channel_step(pith_channel *ch, uint64_t step, const float *const *g, float *mean)
{
    return pith_wire_step(ch->group, &ch->wire, &(pith_wire_item){ch, g, mean}, 1, step);
}

pith_status pith_channel_visit(const pith_channel *ch, pith_channel_visit_fn *visit, void *user)
{
    if (ch->e) PITH_TRY(visit(user, ch->e, ch->n, true));
    if (ch->h) PITH_TRY(visit(user, ch->h, ch->n, true));
    if (ch->h) PITH_TRY(visit(user, &ch->mean_h, ch->n, false));
    return ch->last_q ? visit(user, &ch->last_q, ch->cols * pith_channel_rank(ch), false) : PITH_OK;
}

/* ---- errors of other parameters --------------------------------------------------------------- */

/* work = x after 5 rounds of power iteration. */
static pith_status factor(pith_channel *ch, size_t r, const float *x)
{
    pith_ctx *ctx = pith_group_ctx(ch->group);
    float *p = pith_array(ctx, ch->rows * r, sizeof *p), *q = pith_array(ctx, ch->cols * r, sizeof *q);
    pith_status status = p && q ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK) {
        draw_q(ch, r, q);
        for (int round = 0; round < 5; round++) {
            pith_power_left(x, ch->rows, ch->cols, q, r, p);
            pith_orthonormal(p, ch->rows, r);
            pith_power_right(x, ch->rows, ch->cols, p, r, q);
        }
        pith_power_product(p, q, ch->rows, ch->cols, r, ch->work);
    }
    pith_free(ctx, p);
    pith_free(ctx, q);
    return status;
}

static pith_status through_message(pith_channel *ch, const pith_compressor *c, const float *x)
{
    pith_ctx *ctx = pith_group_ctx(ch->group);
    size_t bound = pith_compressor_bound(c, ch->n), len;
    uint8_t *bytes = bound == SIZE_MAX ? NULL : pith_alloc(ctx, bound);
    if (!bytes) return PITH_E_MEMORY;
    pith_draws draws = {ch->o.seed, ch->o.tensor};
    pith_status status = pith_compressor_encode(ctx, c, draws, x, ch->n, ch->scratch, bytes, &len);
    if (status == PITH_OK) status = pith_compressor_decode(ctx, c, draws, bytes, len, ch->n, ch->scratch, ch->work);
    pith_free(ctx, bytes);
    return status;
}

pith_status pith_channel_error(pith_channel *ch, double param, const float *x, double *error)
{
    pith_compressor c = {ch->o.compressor.kind, param};
    PITH_TRY(pith_compressor_check(pith_group_ctx(ch->group), &c));
    *error = 0;
    if (c.kind == PITH_COMPRESS_DENSE || (c.kind == PITH_COMPRESS_POWER && !pith_compressor_factors(&c, ch->rows, ch->cols))) return PITH_OK;
    if (c.kind == PITH_COMPRESS_POWER) PITH_TRY(factor(ch, (size_t)param, x));
    else PITH_TRY(through_message(ch, &c, x));
    for (size_t k = 0; k < ch->n; k++) *error += ((double)x[k] - (double)ch->work[k]) * ((double)x[k] - (double)ch->work[k]);
    return PITH_OK;
}
