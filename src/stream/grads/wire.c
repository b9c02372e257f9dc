/* What channels of one group send in a step, put together. */
#include "stream/grads/channel_parts.h"

void pith_wire_free(pith_group *group, pith_wire *wire)
{
    pith_ctx *ctx = pith_group_ctx(group);
    size_t n = pith_group_local(group);
    pith_free_each(ctx, wire->whole.x, n);
    pith_free_each(ctx, wire->left.x, n);
    pith_free_each(ctx, wire->right.x, n);
    pith_free_each(ctx, wire->bytes, n);
    pith_free(ctx, wire->mine);
    *wire = (pith_wire){0};
}

static pith_status need_sums(pith_group *group, pith_wire_sums *sums, size_t count)
{
    size_t n = pith_group_local(group);
    if (sums->x && count <= sums->room) return PITH_OK;
    pith_free_each(pith_group_ctx(group), sums->x, n);
    sums->x = pith_make_each(pith_group_ctx(group), n, count, sizeof(float));
    sums->room = sums->x ? count : 0;
    return sums->x ? PITH_OK : PITH_E_MEMORY;
}

static pith_status need_bytes(pith_group *group, pith_wire *wire, size_t len)
{
    pith_ctx *ctx = pith_group_ctx(group);
    size_t n = pith_group_local(group);
    if (!wire->mine && !(wire->mine = pith_calloc(ctx, n, sizeof *wire->mine))) return PITH_E_MEMORY;
    if (wire->bytes && len <= wire->bytes_room) return PITH_OK;
    pith_free_each(ctx, wire->bytes, n);
    wire->bytes = pith_make_each(ctx, n, len, 1);
    wire->bytes_room = wire->bytes ? len : 0;
    return wire->bytes ? PITH_OK : PITH_E_MEMORY;
}

/* One step at work. */
typedef struct wire_step {
    pith_group *group;
    pith_wire *wire;
    const pith_wire_item *items;
    size_t n, n_local, size;              /* items; workers here, and in all */
    uint64_t step;
} wire_step;

static bool goes(const wire_step *s, size_t i, pith_channel_way way) { return pith_channel_way_of(s->items[i].channel, s->step) == way; }

/* ---- sums ------------------------------------------------------------------------------------- */

static pith_status send_whole(const wire_step *s)
{
    size_t count = 0, at = 0;
    for (size_t k = 0; k < s->n; k++)
        if (goes(s, k, PITH_WAY_WHOLE)) count += s->items[k].channel->n;
    if (count == 0) return PITH_OK;
    PITH_TRY(need_sums(s->group, &s->wire->whole, count));
    for (size_t k = 0; k < s->n; k++) {
        const pith_channel *ch = s->items[k].channel;
        if (!goes(s, k, PITH_WAY_WHOLE)) continue;
        for (size_t i = 0; i < s->n_local; i++) memcpy(s->wire->whole.x[i] + at, ch->d[i], ch->n * sizeof(float));
        at += ch->n;
    }
    PITH_TRY(pith_group_sum(s->group, s->wire->whole.x, count));
    at = 0;
    for (size_t k = 0; k < s->n; k++) {
        size_t n = s->items[k].channel->n;
        if (!goes(s, k, PITH_WAY_WHOLE)) continue;
        for (size_t j = 0; j < n; j++) s->items[k].mean[j] = s->wire->whole.x[0][at + j] / (float)s->size;
        at += n;
    }
    return PITH_OK;
}

/* P = M Q of all, summed and made orthogonal, is everybody's; Q = M^T P of all is summed; each worker's d is P Q_i^T. */
static pith_status send_factors(const wire_step *s)
{
    size_t n_left = 0, n_right = 0, at = 0, at_q = 0;
    for (size_t k = 0; k < s->n; k++) {
        const pith_channel *ch = s->items[k].channel;
        if (!goes(s, k, PITH_WAY_FACTORS)) continue;
        n_left += ch->rows * pith_channel_rank(ch);
        n_right += ch->cols * pith_channel_rank(ch);
    }
    if (n_left == 0) return PITH_OK;
    PITH_TRY(need_sums(s->group, &s->wire->left, n_left));
    PITH_TRY(need_sums(s->group, &s->wire->right, n_right));
    float **left = s->wire->left.x, **right = s->wire->right.x;
    for (size_t k = 0; k < s->n; k++) {
        const pith_channel *ch = s->items[k].channel;
        if (!goes(s, k, PITH_WAY_FACTORS)) continue;
        for (size_t i = 0; i < s->n_local; i++) pith_power_left(ch->d[i], ch->rows, ch->cols, ch->last_q, pith_channel_rank(ch), left[i] + at);
        at += ch->rows * pith_channel_rank(ch);
    }
    PITH_TRY(pith_group_sum(s->group, left, n_left));
    at = 0;
    for (size_t k = 0; k < s->n; k++) {
        const pith_channel *ch = s->items[k].channel;
        if (!goes(s, k, PITH_WAY_FACTORS)) continue;
        size_t r = pith_channel_rank(ch);
        float *p = left[0] + at;
        pith_orthonormal(p, ch->rows, r);
        for (size_t i = 0; i < s->n_local; i++) {
            pith_power_right(ch->d[i], ch->rows, ch->cols, p, r, right[i] + at_q);
            pith_power_product(p, right[i] + at_q, ch->rows, ch->cols, r, ch->d[i]);
        }
        at += ch->rows * r;
        at_q += ch->cols * r;
    }
    PITH_TRY(pith_group_sum(s->group, right, n_right));
    at = at_q = 0;
    for (size_t k = 0; k < s->n; k++) {
        const pith_channel *ch = s->items[k].channel;
        if (!goes(s, k, PITH_WAY_FACTORS)) continue;
        size_t r = pith_channel_rank(ch);
        for (size_t j = 0; j < ch->cols * r; j++) ch->last_q[j] = right[0][at_q + j] / (float)s->size;
        pith_power_product(left[0] + at, ch->last_q, ch->rows, ch->cols, r, s->items[k].mean);
        at += ch->rows * r;
        at_q += ch->cols * r;
    }
    return PITH_OK;
}

/* ---- messages --------------------------------------------------------------------------------- */

/* A worker's: the lengths of its tensors' messages, 4 bytes each (of one alone none), then these.  -> room for it */
static size_t message_room(const wire_step *s, size_t *n_messages)
{
    size_t room = 0;
    *n_messages = 0;
    for (size_t k = 0; k < s->n; k++) {
        const pith_channel *ch = s->items[k].channel;
        if (!goes(s, k, PITH_WAY_MESSAGE)) continue;
        if (!pith_add(room, 4 + pith_compressor_bound(&ch->o.compressor, ch->n), &room)) return SIZE_MAX;
        ++*n_messages;
    }
    return room;
}

static pith_status encode_all(const wire_step *s, size_t i, size_t n_messages)
{
    uint8_t *start = s->wire->bytes[i], *lens = start, *at = n_messages > 1 ? start + 4 * n_messages : start;
    for (size_t k = 0; k < s->n; k++) {
        size_t len;
        if (!goes(s, k, PITH_WAY_MESSAGE)) continue;
        PITH_TRY(pith_channel_encode(s->items[k].channel, s->step, i, at, &len));
        if (n_messages > 1) pith_put32(lens, (uint32_t)len);
        lens += 4;
        at += len;
    }
    s->wire->mine[i] = (pith_parcel){start, (size_t)(at - start)};
    return PITH_OK;
}

/* Add worker w's to the means; one that is here has in d what the others make of it. */
static pith_status decode_all(const wire_step *s, size_t w, const pith_parcel *parcel, size_t n_messages)
{
    size_t header = n_messages > 1 ? 4 * n_messages : 0, at = header, m = 0, first = pith_group_first(s->group);
    bool here = w >= first && w < first + s->n_local;
    for (size_t k = 0; k < s->n; k++) {
        pith_channel *ch = s->items[k].channel;
        if (!goes(s, k, PITH_WAY_MESSAGE)) continue;
        bool fits = parcel->len >= at;
        size_t len = header && fits ? pith_le32(parcel->data + 4 * m) : parcel->len;
        if (!fits || len > parcel->len - at || (++m == n_messages && len != parcel->len - at))
            return pith_fail(pith_group_ctx(s->group), PITH_E_CORRUPT, "worker %zu's message of %zu bytes has no %zu gradients; all workers must run the same program", w, parcel->len, n_messages);
        float *x = here ? ch->d[w - first] : ch->work;
        PITH_TRY(pith_channel_decode(ch, s->step, w, parcel->data + at, len, x));
        for (size_t j = 0; j < ch->n; j++) s->items[k].mean[j] += x[j];
        at += len;
    }
    return PITH_OK;
}

static pith_status send_messages(const wire_step *s)
{
    size_t n_messages, room = message_room(s, &n_messages);
    const pith_parcel *all;
    if (n_messages == 0) return PITH_OK;
    if (room > UINT32_MAX) return pith_fail(pith_group_ctx(s->group), PITH_E_LIMIT, "a step's messages are larger than 4 GiB; send fewer tensors at once");
    PITH_TRY(need_bytes(s->group, s->wire, room));
    for (size_t i = 0; i < s->n_local; i++) PITH_TRY(encode_all(s, i, n_messages));
    PITH_TRY(pith_group_gather(s->group, s->wire->mine, &all));
    for (size_t k = 0; k < s->n; k++)
        if (goes(s, k, PITH_WAY_MESSAGE)) memset(s->items[k].mean, 0, s->items[k].channel->n * sizeof(float));
    for (size_t w = 0; w < s->size; w++) PITH_TRY(decode_all(s, w, &all[w], n_messages));
    for (size_t k = 0; k < s->n; k++)
        for (size_t j = 0; goes(s, k, PITH_WAY_MESSAGE) && j < s->items[k].channel->n; j++) s->items[k].mean[j] /= (float)s->size;
    return PITH_OK;
}

pith_status pith_wire_step(pith_group *group, pith_wire *wire, const pith_wire_item *items, size_t n, uint64_t step)
{
    wire_step s = {group, wire, items, n, pith_group_local(group), pith_group_size(group), step};
    for (size_t k = 0; k < n; k++) pith_channel_prepare(items[k].channel, items[k].g);
    PITH_TRY(send_whole(&s));
    PITH_TRY(send_factors(&s));
    PITH_TRY(send_messages(&s));
    for (size_t k = 0; k < n; k++) pith_channel_remember(items[k].channel, items[k].g, items[k].mean);
    return PITH_OK;
}
