/* Workers in one process or in many. */
#include "stream/grads/group.h"

struct pith_group {
    pith_ctx *ctx;
    size_t size, first, n_local;
    bool remote;
    pith_transport transport;
    pith_traffic traffic;
    pith_parcel *all;                    /* [size] */
    size_t *lens;                         /* [size] */
    uint8_t *bytes;                       /* messages of others */
    size_t bytes_room;
    float *scratch;                       /* of sums */
    size_t scratch_room;
};

static pith_status make(pith_ctx *ctx, size_t size, const pith_transport *transport, pith_group **out)
{
    if (size < 1 || size > 65536) return pith_fail(ctx, PITH_E_ARGUMENT, "a group has 1 to 65536 workers, not %zu", size);
    pith_group *g = pith_calloc(ctx, 1, sizeof *g);
    if (!g) return PITH_E_MEMORY;
    *g = (pith_group){.ctx = ctx, .size = size, .n_local = transport ? 1 : size, .first = transport ? transport->rank : 0, .remote = transport != NULL};
    if (transport) g->transport = *transport;
    g->all = pith_calloc(ctx, size, sizeof *g->all);
    g->lens = pith_calloc(ctx, size, sizeof *g->lens);
    if (!g->all || !g->lens) {
        pith_group_free(g);
        return PITH_E_MEMORY;
    }
    *out = g;
    return PITH_OK;
}

pith_status pith_group_new(pith_ctx *ctx, size_t n, pith_group **group) { return make(ctx, n, NULL, group); }
pith_status pith_group_over(pith_ctx *ctx, const pith_transport *transport, pith_group **group) { return make(ctx, transport->size, transport, group); }

void pith_group_free(pith_group *g)
{
    if (!g) return;
    pith_free(g->ctx, g->all);
    pith_free(g->ctx, g->lens);
    pith_free(g->ctx, g->bytes);
    pith_free(g->ctx, g->scratch);
    pith_free(g->ctx, g);
}

pith_ctx *pith_group_ctx(const pith_group *g) { return g->ctx; }
size_t pith_group_size(const pith_group *g) { return g->size; }
size_t pith_group_first(const pith_group *g) { return g->first; }
size_t pith_group_local(const pith_group *g) { return g->n_local; }
bool pith_group_leads(const pith_group *g) { return !g || g->first == 0; }
const pith_traffic *pith_group_traffic(const pith_group *g) { return &g->traffic; }
void pith_group_forget_traffic(pith_group *g) { g->traffic = (pith_traffic){0}; }

static pith_status broken(pith_group *g)
{
    return pith_fail(g->ctx, PITH_E_IO, "worker %zu of %zu lost the others: %s", g->first, g->size, g->transport.error(g->transport.state));
}

/* ---- sums ------------------------------------------------------------------------------------- */

size_t pith_group_padded(const pith_group *g, size_t count) { return PITH_ROUND_UP(count, g->size); }

/* x[0] + x[1] + .. in this order, [n, count] one after the other, into the first. */
static void add_up(float *x, size_t n, size_t count)
{
    for (size_t w = 1; w < n; w++)
        for (size_t i = 0; i < count; i++) x[i] += x[w * count + i];
}

pith_status pith_group_sum_begin(pith_group *g, pith_group_sum_state *s, float *x, float *others, size_t count)
{
    *s = (pith_group_sum_state){.x = x, .others = others, .chunk = PITH_CEIL_DIV(count, g->size), .phase = 3};
    if (g->size == 1) return PITH_OK;
    if (g->n_local != 1) return pith_fail(g->ctx, PITH_E_INTERNAL, "a sum can only be begun where one worker is here");
    if (s->chunk > INT32_MAX) return pith_fail(g->ctx, PITH_E_LIMIT, "a sum of %zu values is too large; make its buckets smaller", count);
    for (size_t i = count; i < s->chunk * g->size; i++) x[i] = 0;
    g->traffic.n_sums++;
    g->traffic.sum_bytes += count * sizeof *x;
    s->phase = 1;
    return g->transport.start_all_to_all(g->transport.state, x, others, s->chunk, &s->request) ? PITH_OK : broken(g);
}

/* After a phase's messages have come. */
static pith_status advance(pith_group *g, pith_group_sum_state *s)
{
    if (s->phase++ != 1) return PITH_OK;
    add_up(s->others, g->size, s->chunk);
    return g->transport.start_all_gather(g->transport.state, s->others, s->x, s->chunk, &s->request) ? PITH_OK : broken(g);
}

pith_status pith_group_sum_poke(pith_group *g, pith_group_sum_state *s)
{
    while (s->phase == 1 || s->phase == 2) {
        if (!g->transport.test(g->transport.state, &s->request)) return broken(g);
        if (s->request) return PITH_OK;
        PITH_TRY(advance(g, s));
    }
    return PITH_OK;
}

pith_status pith_group_sum_finish(pith_group *g, pith_group_sum_state *s)
{
    while (s->phase == 1 || s->phase == 2) {
        if (!g->transport.wait(g->transport.state, &s->request)) return broken(g);
        PITH_TRY(advance(g, s));
    }
    return PITH_OK;
}

static pith_status need_scratch(pith_group *g, size_t count)
{
    if (count <= g->scratch_room) return PITH_OK;
    size_t bytes;
    float *bigger = pith_mul(count, sizeof *bigger, &bytes) ? pith_resize(g->ctx, g->scratch, bytes) : NULL;
    if (!bigger) return pith_fail(g->ctx, PITH_E_MEMORY, "no memory for a sum of %zu values", count);
    g->scratch = bigger;
    g->scratch_room = count;
    return PITH_OK;
}

pith_status pith_group_sum(pith_group *g, float *const *x, size_t count)
{
    if (!g->remote) {
        PITH_TRY(need_scratch(g, count));
        for (size_t i = 0; i < count; i++) {
            float sum = x[0][i];
            for (size_t w = 1; w < g->size; w++) sum += x[w][i];
            g->scratch[i] = sum;
        }
        for (size_t w = 0; w < g->size && count; w++) memcpy(x[w], g->scratch, count * sizeof(float));
        g->traffic.n_sums++;
        g->traffic.sum_bytes += count * sizeof(float);
        return PITH_OK;
    }
    size_t padded = pith_group_padded(g, count);
    PITH_TRY(need_scratch(g, 2 * padded));
    memcpy(g->scratch, x[0], count * sizeof(float));
    pith_group_sum_state s;
    PITH_TRY(pith_group_sum_begin(g, &s, g->scratch, g->scratch + padded, count));
    PITH_TRY(pith_group_sum_finish(g, &s));
    memcpy(x[0], g->scratch, count * sizeof(float));
    return PITH_OK;
}

/* ---- messages --------------------------------------------------------------------------------- */

static pith_status gather_remote(pith_group *g, const pith_parcel *mine)
{
    uint64_t len = mine->len;
    size_t total = 0;
    uint64_t *lens = (uint64_t *)(void *)g->all; /* room for [size] of them until the messages are known */
    for (size_t w = 0; w < g->size; w++) g->lens[w] = sizeof len;
    if (!g->transport.gather_bytes(g->transport.state, &len, lens, g->lens)) return broken(g);
    for (size_t w = 0; w < g->size; w++) {
        g->lens[w] = (size_t)lens[w];
        if (!pith_add(total, g->lens[w], &total) || total > INT32_MAX) return pith_fail(g->ctx, PITH_E_LIMIT, "the workers' messages together are larger than 2 GiB");
    }
    if (total > g->bytes_room) {
        uint8_t *bigger = pith_resize(g->ctx, g->bytes, total);
        if (!bigger) return PITH_E_MEMORY;
        g->bytes = bigger;
        g->bytes_room = total;
    }
    if (!g->transport.gather_bytes(g->transport.state, mine->data, g->bytes, g->lens)) return broken(g);
    size_t at = 0;
    for (size_t w = 0; w < g->size; w++) {
        g->all[w] = (pith_parcel){g->bytes + at, g->lens[w]};
        at += g->lens[w];
    }
    return PITH_OK;
}

pith_status pith_group_gather(pith_group *g, const pith_parcel *mine, const pith_parcel **all)
{
    if (g->remote) PITH_TRY(gather_remote(g, mine));
    else memcpy(g->all, mine, g->size * sizeof *mine);
    size_t largest = 0;
    for (size_t w = 0; w < g->size; w++) {
        largest = PITH_MAX(largest, g->all[w].len);
        g->traffic.gather_bytes_all += g->all[w].len;
    }
    g->traffic.n_gathers++;
    g->traffic.gather_bytes += largest;
    *all = g->all;
    return PITH_OK;
}

pith_status pith_group_broadcast(pith_group *g, void *data, size_t len)
{
    g->traffic.n_broadcasts++;
    g->traffic.broadcast_bytes += len;
    if (!g->remote || g->size == 1) return PITH_OK;
    if (len > INT32_MAX) return pith_fail(g->ctx, PITH_E_LIMIT, "a broadcast of %zu bytes is larger than 2 GiB", len);
    return g->transport.broadcast(g->transport.state, data, len) ? PITH_OK : broken(g);
}

pith_status pith_group_agree(pith_group *g, pith_status mine)
{
    if (!g->remote || g->size == 1) return mine;
    pith_traffic before = g->traffic;
    int32_t code = (int32_t)mine;
    const pith_parcel *all;
    PITH_TRY(pith_group_gather(g, &(pith_parcel){(const uint8_t *)&code, sizeof code}, &all));
    g->traffic = before;
    if (mine != PITH_OK) return mine;
    for (size_t w = 0; w < g->size; w++) {
        if (all[w].len != sizeof code) return pith_fail(g->ctx, PITH_E_IO, "worker %zu of %zu runs another program", w, g->size);
        memcpy(&code, all[w].data, sizeof code);
        if (code != PITH_OK) return pith_fail(g->ctx, (pith_status)code, "worker %zu of %zu stopped: %s", w, g->size, pith_status_text((pith_status)code));
    }
    return PITH_OK;
}

/* ---- time ------------------------------------------------------------------------------------- */

double pith_link_seconds(const pith_link *link, size_t n, const pith_traffic *t)
{
    double others = (double)(n - 1), hops = 0;
    while ((size_t)1 << (size_t)hops < n) hops++;
    double messages = 2 * others * (double)t->n_sums + others * (double)t->n_gathers + hops * (double)t->n_broadcasts;
    double bytes = 2 * others / (double)n * (double)t->sum_bytes + others * (double)t->gather_bytes + hops * (double)t->broadcast_bytes;
    return messages * link->latency_s + bytes / link->bytes_per_s;
}
