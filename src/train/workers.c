/* Several workers: their parts of a step, and what they tell each other.
 *
 * Without compression each worker sums its parts, and a reducer sums these over the processes while the last backward pass goes
 * on.  With it each worker's mean goes through an exchange, one for each role.  Workers may also be here, one after the other:
 * then each has its own copy of what is shared (pith_trainer_share) and its own sum of gradients, as if it had a process. */
#include "train/trainer.h"

/* ---- making ----------------------------------------------------------------------------------- */

static pith_status make_exchange(pith_trainer *t, pith_role_state *role)
{
    pith_channel_options o = t->set.exchange;
    size_t n, n_sent = 0;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    pith_var **sent = pith_array(t->ctx, n, sizeof *sent);
    if (!sent) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++)
        if (role->owned[i] && params[i]->needs_grad) sent[n_sent++] = params[i];
    o.seed = pith_tape_seed(t->tape);
    pith_status status = pith_exchange_new_for(t->set.group, t->tape, sent, n_sent, &o, &role->exchange);
    pith_free(t->ctx, sent);
    return status;
}

pith_status pith_trainer_join(pith_trainer *t)
{
    pith_group *group = t->set.group;
    bool compresses = t->set.exchange.compressor.kind != PITH_COMPRESS_DENSE;
    if (!group || pith_group_size(group) == 1) {
        if (compresses) pith_log(t->ctx, PITH_LOG_WARN, "train: one worker has nobody to send gradients to, they are not compressed; start several");
        return PITH_OK;
    }
    t->many = pith_group_local(group) < pith_group_size(group);
    t->history.n_workers = pith_group_size(group);
    if (!compresses) return t->many ? pith_reducer_new(group, t->tape, PITH_BUCKET_BYTES, &t->reducer) : PITH_OK;
    t->compresses = true;
    for (size_t i = 0; i < t->history.n_roles; i++) PITH_TRY(make_exchange(t, &t->roles[i]));
    return PITH_OK;
}

void pith_trainer_leave(pith_trainer *t)
{
    pith_reducer_free(t->reducer);
    for (size_t i = 0; i < t->history.n_roles; i++) pith_exchange_free(t->roles[i].exchange);
    pith_free(t->ctx, t->copies);
    pith_free(t->ctx, t->sums);
    pith_free(t->ctx, t->summed);
}

/* ---- beginning -------------------------------------------------------------------------------- */

/* All processes begin with the same step and parameters, of the same run. */
static pith_status agree_on_start(pith_trainer *t)
{
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    uint64_t mine[3] = {pith_trainer_identity(t), t->state.step, 0}, other[3];
    for (size_t i = 0; i < n; i++) {
        uint64_t pair[2] = {mine[2], pith_hash(params[i]->data, params[i]->count * sizeof(float))};
        mine[2] = pith_hash(pair, sizeof pair);
    }
    const pith_parcel *all;
    PITH_TRY(pith_group_gather(t->set.group, &(pith_parcel){(const uint8_t *)mine, sizeof mine}, &all));
    for (size_t w = 0; w < pith_group_size(t->set.group); w++) {
        if (all[w].len == sizeof other) memcpy(other, all[w].data, sizeof other);
        if (all[w].len == sizeof other && !memcmp(mine, other, sizeof mine)) continue;
        return pith_fail(t->ctx, PITH_E_ARGUMENT, "train: process %zu starts from other parameters, settings or another step than this one; all need the same program, card, data and cache folder", w);
    }
    return PITH_OK;
}

/* Room for what each of several workers here has of its own. */
static pith_status make_copies(pith_trainer *t)
{
    size_t n, n_values = 0, copy_bytes = 0;
    if (t->many || !t->set.group || pith_group_size(t->set.group) == 1 || t->copies) return PITH_OK;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    for (size_t i = 0; i < n; i++) n_values += params[i]->count;
    for (size_t i = 0; i < t->n_kept; i++) copy_bytes += t->kept[i].shared ? t->kept[i].n_bytes : 0;
    if (!t->compresses && !t->sums && !(t->sums = pith_array(t->ctx, n_values, sizeof *t->sums))) return PITH_E_MEMORY;
    if (!t->compresses && !t->summed && !(t->summed = pith_array(t->ctx, n, sizeof *t->summed))) return PITH_E_MEMORY;
    t->copies = pith_calloc(t->ctx, pith_group_local(t->set.group), copy_bytes);
    if (!t->copies) return PITH_E_MEMORY;
    t->copy_bytes = copy_bytes;
    return PITH_OK;
}

pith_status pith_trainer_begin_together(pith_trainer *t)
{
    PITH_TRY(make_copies(t));
    return t->many ? agree_on_start(t) : PITH_OK;
}

pith_status pith_trainer_agree(pith_trainer *t, pith_status mine) { return t->many ? pith_group_agree(t->set.group, mine) : mine; }

pith_status pith_trainer_decide(pith_trainer *t, bool *yes)
{
    uint32_t word = *yes;
    if (!t->many || !t->compresses) return PITH_OK;
    PITH_TRY(pith_group_broadcast(t->set.group, &word, sizeof word));
    *yes = word;
    return PITH_OK;
}

/* ---- a step ----------------------------------------------------------------------------------- */

/* What is shared, to worker w's copy or from it. */
static void copy_shared(const pith_trainer *t, size_t w, bool save)
{
    if (!t->copies) return;
    uint8_t *at = t->copies + w * t->copy_bytes;
    for (size_t i = 0; i < t->n_kept; i++) {
        if (!t->kept[i].shared) continue;
        memcpy(save ? at : t->kept[i].data, save ? t->kept[i].data : at, t->kept[i].n_bytes);
        at += t->kept[i].n_bytes;
    }
}

void pith_trainer_begin_step(pith_trainer *t)
{
    for (size_t w = 0; t->copies && w < pith_group_local(t->set.group); w++) copy_shared(t, w, true);
}

/* The gradients of worker w, who is here, are added to the sums in a reducer's order, and forgotten on the tape. */
static void add_gradients(pith_trainer *t, size_t w)
{
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    float *sum = t->sums;
    for (size_t i = 0; i < n; sum += params[i++]->count) {
        const float *g = params[i]->grad;
        t->summed[i] = g || (w && t->summed[i]);
        for (size_t k = 0; k < params[i]->count; k++) {
            float x = g ? g[k] : 0;
            sum[k] = w ? sum[k] + x : x; /* not 0 + x: -0 stays */
        }
    }
    pith_tape_zero_grad(t->tape);
}

/* Counted as what a reducer sends: all values, and for each parameter whether there is a gradient. */
static pith_status take_sums(pith_trainer *t)
{
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    const float *sum = t->sums;
    for (size_t i = 0; i < n; sum += params[i++]->count) {
        t->sent.sum_bytes += (params[i]->count + 1) * sizeof(float);
        if (!t->summed[i]) continue;
        float *grad = pith_tape_own_grad(params[i]);
        if (!grad) return PITH_E_MEMORY;
        memcpy(grad, sum, params[i]->count * sizeof *grad);
    }
    return PITH_OK;
}

/* Parts of worker w of all, whose gradients are averaged over n_mean parts. */
static pith_status pass_share(pith_trainer *t, pith_role_state *role, pith_train_at *at, size_t w, uint32_t share, uint32_t n_mean)
{
    uint32_t first = share * (uint32_t)w;
    for (at->part = first; at->part < first + share; at->part++) {
        if (t->reducer && at->part + 1 == first + share) pith_reducer_begin(t->reducer);
        PITH_TRY(pith_trainer_pass(t, role, at, n_mean));
    }
    at->part = 0;
    return PITH_OK;
}

static pith_status pass_workers(pith_trainer *t, pith_role_state *role, pith_train_at *at)
{
    const pith_group *group = t->set.group;
    if (!group) return pass_share(t, role, at, 0, at->n_parts, at->n_parts);
    uint32_t share = at->n_parts / (uint32_t)pith_group_size(group);
    for (size_t w = 0; w < pith_group_local(group); w++) {
        copy_shared(t, w, false);
        PITH_TRY(pass_share(t, role, at, pith_group_first(group) + w, share, role->exchange ? share : at->n_parts));
        if (role->exchange) PITH_TRY(pith_exchange_take(role->exchange, w));
        else if (t->sums) add_gradients(t, w);
        copy_shared(t, w, true);
    }
    if (role->exchange) return pith_exchange_step(role->exchange, at->step - role->set.first_step);
    return t->reducer ? pith_reducer_finish(t->reducer) : t->sums ? take_sums(t) : PITH_OK;
}

pith_status pith_trainer_gradients(pith_trainer *t, pith_role_state *role, pith_train_at *at)
{
    pith_traffic before = {0};
    if (t->history.n_workers) before = *pith_group_traffic(t->set.group);
    PITH_TRY(pass_workers(t, role, at));
    if (!t->history.n_workers) return PITH_OK;
    const pith_traffic *now = pith_group_traffic(t->set.group);
    size_t n;
    pith_var *const *params = pith_tape_params(t->tape, &n);
    t->sent.sum_bytes += now->sum_bytes - before.sum_bytes;
    t->sent.gather_bytes_all += now->gather_bytes_all - before.gather_bytes_all;
    for (size_t i = 0; i < n; i++) t->sent.dense_bytes += params[i]->needs_grad ? params[i]->count * sizeof(float) : 0;
    return PITH_OK;
}

/* What was noted within a step: each process's, added up in their order, to what was there before. */
static pith_status share_notes(pith_trainer *t, const pith_loop_state *before)
{
    typedef struct notes {
        mean loss[PITH_TRAIN_MAX_ROLES], term[PITH_TRAIN_MAX_NOTES];
    } notes;
    pith_loop_state *s = &t->state;
    notes mine, one;
    const pith_parcel *all;
    memcpy(mine.loss, s->loss, sizeof mine.loss);
    memcpy(mine.term, s->term, sizeof mine.term);
    for (size_t i = 0; i < PITH_TRAIN_MAX_ROLES; i++) mine.loss[i] = (mean){s->loss[i].sum - before->loss[i].sum, s->loss[i].n - before->loss[i].n};
    for (size_t i = 0; i < PITH_TRAIN_MAX_NOTES; i++) mine.term[i] = (mean){s->term[i].sum - before->term[i].sum, s->term[i].n - before->term[i].n};
    PITH_TRY(pith_group_gather(t->set.group, &(pith_parcel){(const uint8_t *)&mine, sizeof mine}, &all));
    memcpy(s->loss, before->loss, sizeof s->loss);
    memcpy(s->term, before->term, sizeof s->term);
    for (size_t w = 0; w < pith_group_size(t->set.group); w++) {
        if (all[w].len != sizeof one) return pith_fail(t->ctx, PITH_E_IO, "train: process %zu runs another program", w);
        memcpy(&one, all[w].data, sizeof one);
        for (size_t i = 0; i < PITH_TRAIN_MAX_ROLES; i++) s->loss[i].sum += one.loss[i].sum, s->loss[i].n += one.loss[i].n;
        for (size_t i = 0; i < PITH_TRAIN_MAX_NOTES; i++) s->term[i].sum += one.term[i].sum, s->term[i].n += one.term[i].n;
    }
    return PITH_OK;
}

/* The mean over the workers, added up in their order. */
static pith_status share_kept(pith_trainer *t)
{
    size_t offset = 0;
    for (size_t i = 0; i < t->n_kept; i++) {
        if (!t->kept[i].shared) continue;
        float *x = t->kept[i].data;
        size_t n = t->kept[i].n_bytes / sizeof *x, size = pith_group_size(t->set.group);
        if (t->many) PITH_TRY(pith_group_sum(t->set.group, &x, n));
        for (size_t w = 0; t->copies && w < size; w++) {
            const float *one = (const float *)(const void *)(t->copies + w * t->copy_bytes + offset);
            for (size_t k = 0; k < n; k++) x[k] = w ? x[k] + one[k] : one[k];
        }
        for (size_t k = 0; k < n; k++) x[k] /= (float)size;
        offset += t->kept[i].n_bytes;
    }
    return PITH_OK;
}

pith_status pith_trainer_end_step(pith_trainer *t, const pith_loop_state *before)
{
    if (t->many) PITH_TRY(share_notes(t, before));
    if (t->many || t->copies) PITH_TRY(share_kept(t));
    t->sent.n_steps++;
    return PITH_OK;
}

void pith_trainer_tell_sent(pith_trainer *t)
{
    const pith_sent *s = &t->sent;
    pith_train_history *h = &t->history;
    if (!h->n_workers || !s->n_steps) return;
    pith_traffic traffic = {.sum_bytes = s->sum_bytes, .gather_bytes_all = s->gather_bytes_all};
    h->sent_bytes = pith_traffic_sent(&traffic, h->n_workers) / (double)s->n_steps;
    h->dense_bytes = (double)s->dense_bytes / (double)s->n_steps;
}
