/* Compression with feedback over a group. */
#include "stream/grads/channel.h"

struct pith_channel {
    pith_group *group;
    pith_channel_options o;
    size_t rows, cols, n, n_local, bound;
    float **e, **h, **d;                  /* [local][n]; e, h: NULL where the feedback has none; d: what goes into C, then C's */
    float *mean_h;                        /* [n] */
    float *work;                          /* [n] */
    uint32_t *scratch;                    /* [n] */
    uint8_t **bytes;                      /* [local][bound] */
    pith_parcel *mine;                   /* [local] */
    float **p, **q;                       /* [local][rows r], [local][cols r]; NULL: sent as a message */
    float *last_q;                        /* [cols r] of the mean, the next step's start */
};

/* ---- memory ----------------------------------------------------------------------------------- */

static void free_each(pith_ctx *ctx, void *list, size_t n)
{
    void **items = list;
    for (size_t i = 0; items && i < n; i++) pith_free(ctx, items[i]);
    pith_free(ctx, items);
}

static void *make_each(pith_ctx *ctx, size_t n, size_t count, size_t size)
{
    void **items = pith_calloc(ctx, n, sizeof *items);
    for (size_t i = 0; items && i < n; i++) {
        items[i] = pith_calloc(ctx, count, size);
        if (items[i]) continue;
        free_each(ctx, items, n);
        return NULL;
    }
    return items;
}

static void free_factors(pith_channel *ch)
{
    pith_ctx *ctx = pith_group_ctx(ch->group);
    free_each(ctx, ch->p, ch->n_local);
    free_each(ctx, ch->q, ch->n_local);
    pith_free(ctx, ch->last_q);
    ch->p = ch->q = NULL;
    ch->last_q = NULL;
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
    size_t r = (size_t)ch->o.compressor.param;
    free_factors(ch);
    size_t bound = pith_compressor_bound(&ch->o.compressor, ch->n);
    if (bound == SIZE_MAX) return pith_fail(ctx, PITH_E_LIMIT, "a gradient of %zu values is too large for a message; split its tensor", ch->n);
    if (ch->o.dense_first) bound = PITH_MAX(bound, 4 * ch->n);
    if (bound > ch->bound) {
        free_each(ctx, ch->bytes, ch->n_local);
        ch->bytes = make_each(ctx, ch->n_local, bound, 1);
        ch->bound = ch->bytes ? bound : 0;
        if (!ch->bytes) return PITH_E_MEMORY;
    }
    if (pith_compressor_factors(&ch->o.compressor, ch->rows, ch->cols)) {
        ch->p = make_each(ctx, ch->n_local, ch->rows * r, sizeof(float));
        ch->q = make_each(ctx, ch->n_local, ch->cols * r, sizeof(float));
        ch->last_q = pith_array(ctx, ch->cols * r, sizeof(float));
        if (!ch->p || !ch->q || !ch->last_q) return PITH_E_MEMORY;
        draw_q(ch, r, ch->last_q);
    }
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
    bool has_h = options->feedback >= PITH_FEEDBACK_EF21, has_e = options->feedback == PITH_FEEDBACK_EC || options->feedback == PITH_FEEDBACK_ECONTROL;
    ch->d = make_each(ctx, ch->n_local, n, sizeof(float));
    ch->work = pith_calloc(ctx, n, sizeof *ch->work);
    ch->scratch = pith_calloc(ctx, n, sizeof *ch->scratch);
    ch->mine = pith_calloc(ctx, ch->n_local, sizeof *ch->mine);
    bool ok = ch->d && ch->work && ch->scratch && ch->mine;
    if (ok && has_e) ok = (ch->e = make_each(ctx, ch->n_local, n, sizeof(float)));
    if (ok && has_h) ok = (ch->h = make_each(ctx, ch->n_local, n, sizeof(float))) && (ch->mean_h = pith_calloc(ctx, n, sizeof(float)));
    pith_status status = ok ? make_sized(ch) : PITH_E_MEMORY;
    if (status == PITH_OK) *out = ch;
    else pith_channel_free(ch);
    return status;
}

void pith_channel_free(pith_channel *ch)
{
    if (!ch) return;
    pith_ctx *ctx = pith_group_ctx(ch->group);
    free_factors(ch);
    float **lists[] = {ch->e, ch->h, ch->d};
    for (size_t i = 0; i < PITH_COUNT(lists); i++) free_each(ctx, lists[i], ch->n_local);
    free_each(ctx, ch->bytes, ch->n_local);
    pith_free(ctx, ch->mean_h);
    pith_free(ctx, ch->work);
    pith_free(ctx, ch->scratch);
    pith_free(ctx, ch->mine);
    pith_free(ctx, ch);
}

pith_status pith_channel_tune(pith_channel *ch, double param)
{
    pith_compressor c = {ch->o.compressor.kind, param};
    PITH_TRY(pith_compressor_check(pith_group_ctx(ch->group), &c));
    ch->o.compressor = c;
    return make_sized(ch);
}

/* ---- one exchange ----------------------------------------------------------------------------- */

static pith_draws draws_of(const pith_channel *ch, uint64_t step, size_t worker)
{
    uint64_t stream[3] = {ch->o.tensor, step, worker};
    return (pith_draws){ch->o.seed, pith_hash(stream, sizeof stream)};
}

/* d [local] are sent; then d are what the receivers make of them, and mean their mean over all workers. */
static pith_status send_messages(pith_channel *ch, const pith_compressor *c, uint64_t step, float *mean)
{
    pith_ctx *ctx = pith_group_ctx(ch->group);
    size_t first = pith_group_first(ch->group), size = pith_group_size(ch->group);
    for (size_t i = 0; i < ch->n_local; i++) {
        PITH_TRY(pith_compressor_encode(ctx, c, draws_of(ch, step, first + i), ch->d[i], ch->n, ch->scratch, ch->bytes[i], &ch->mine[i].len));
        ch->mine[i].data = ch->bytes[i];
    }
    const pith_parcel *all;
    PITH_TRY(pith_group_gather(ch->group, ch->mine, &all));
    memset(mean, 0, ch->n * sizeof *mean);
    for (size_t w = 0; w < size; w++) {
        bool here = w >= first && w < first + ch->n_local;
        float *x = here ? ch->d[w - first] : ch->work;
        PITH_TRY(pith_compressor_decode(ctx, c, draws_of(ch, step, w), all[w].data, all[w].len, ch->n, ch->scratch, x));
        for (size_t k = 0; k < ch->n; k++) mean[k] += x[k];
    }
    for (size_t k = 0; k < ch->n; k++) mean[k] /= (float)size;
    return PITH_OK;
}

/* The same by factors: P of the mean, made orthogonal, is everybody's; each worker's d is P Q_i^T. */
static pith_status send_factors(pith_channel *ch, float *mean)
{
    size_t r = (size_t)ch->o.compressor.param;
    for (size_t i = 0; i < ch->n_local; i++) pith_power_left(ch->d[i], ch->rows, ch->cols, ch->last_q, r, ch->p[i]);
    PITH_TRY(pith_group_sum(ch->group, ch->p, ch->rows * r));
    float *p = ch->p[0];
    pith_orthonormal(p, ch->rows, r);
    for (size_t i = 0; i < ch->n_local; i++) {
        pith_power_right(ch->d[i], ch->rows, ch->cols, p, r, ch->q[i]);
        pith_power_product(p, ch->q[i], ch->rows, ch->cols, r, ch->d[i]);
    }
    PITH_TRY(pith_group_sum(ch->group, ch->q, ch->cols * r));
    for (size_t k = 0; k < ch->cols * r; k++) ch->last_q[k] = ch->q[0][k] / (float)pith_group_size(ch->group);
    pith_power_product(p, ch->last_q, ch->rows, ch->cols, r, mean);
    return PITH_OK;
}

/* The same whole, as a sum. */
static pith_status send_whole(pith_channel *ch, float *mean)
{
    for (size_t i = 0; i < ch->n_local; i++) memcpy(ch->bytes[i], ch->d[i], ch->n * sizeof(float));
    PITH_TRY(pith_group_sum(ch->group, (float *const *)(void *)ch->bytes, ch->n));
    const float *sum = (const float *)(const void *)ch->bytes[0];
    for (size_t k = 0; k < ch->n; k++) mean[k] = sum[k] / (float)pith_group_size(ch->group);
    return PITH_OK;
}

static pith_status send(pith_channel *ch, uint64_t step, bool whole, float *mean)
{
    if (ch->p && !whole) return send_factors(ch, mean);
    pith_compressor_kind kind = ch->o.compressor.kind;
    if (whole || kind == PITH_COMPRESS_DENSE || kind == PITH_COMPRESS_POWER) return send_whole(ch, mean);
    return send_messages(ch, &ch->o.compressor, step, mean);
}

/* What worker i puts into C. */
static void prepare(const pith_channel *ch, size_t i, const float *g)
{
    float *d = ch->d[i], *e = ch->e ? ch->e[i] : NULL, *h = ch->h ? ch->h[i] : NULL, eta = ch->o.eta;
    switch (ch->o.feedback) {
    case PITH_FEEDBACK_NONE:
        for (size_t k = 0; k < ch->n; k++) d[k] = g[k];
        break;
    case PITH_FEEDBACK_EC:
        for (size_t k = 0; k < ch->n; k++) d[k] = e[k] + g[k];
        break;
    case PITH_FEEDBACK_EF21:
        for (size_t k = 0; k < ch->n; k++) d[k] = g[k] - h[k];
        break;
    case PITH_FEEDBACK_ECONTROL:
        for (size_t k = 0; k < ch->n; k++) d[k] = eta * e[k] + (g[k] - h[k]);
    }
}

/* What it keeps once d is C of that. */
static void remember(const pith_channel *ch, size_t i, const float *g)
{
    const float *d = ch->d[i];
    for (size_t k = 0; ch->e && k < ch->n; k++) ch->e[i][k] += (ch->h ? g[k] - ch->h[i][k] : g[k]) - d[k];
    for (size_t k = 0; ch->h && k < ch->n; k++) ch->h[i][k] += d[k];
}

pith_status pith_channel_step(pith_channel *ch, uint64_t step, const float *const *g, float *mean)
{
    for (size_t i = 0; i < ch->n_local; i++) prepare(ch, i, g[i]);
    PITH_TRY(send(ch, step, ch->o.dense_first && ch->h && step == 0, mean));
    for (size_t i = 0; i < ch->n_local; i++) remember(ch, i, g[i]);
    if (!ch->h) return PITH_OK;
    for (size_t k = 0; k < ch->n; k++) ch->mean_h[k] += mean[k];
    memcpy(mean, ch->mean_h, ch->n * sizeof *mean);
    return PITH_OK;
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
