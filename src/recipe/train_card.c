/* From a card's `train` to the training loop's options; and what beds of networks share. */
#include "recipe/train_card.h"

#include <errno.h>
#include <unistd.h>

#include "format/json.h"

pith_train_options pith_run_train_options(const pith_run *run)
{
    const pith_card_train *t = &run->card->train;
    uint64_t identity[4] = {pith_hash(run->card->text, run->card->text_len), run->seed, run->quick, run->card->split};
    return (pith_train_options){.n_steps = t->steps, .n_parts = (uint32_t)t->accumulate, .patience = (uint32_t)t->patience,
                                .identity = pith_hash(identity, sizeof identity), .n_items = (double)(t->batch * t->accumulate),
                                .group = run->group, .exchange = t->channel, .observe = run->observe, .observe_user = run->observe_user};
}

pith_train_role pith_run_train_role(const pith_run *run)
{
    static const pith_optimizer_kind kinds[] = {[PITH_CARD_SGD] = PITH_SGD, [PITH_CARD_ADAMW] = PITH_ADAMW, [PITH_CARD_ADAFACTOR] = PITH_ADAFACTOR, [PITH_CARD_MUON] = PITH_MUON};
    static const pith_schedule_kind schedules[] = {[PITH_CARD_CONSTANT] = PITH_RATE_CONSTANT, [PITH_CARD_LINEAR] = PITH_RATE_LINEAR, [PITH_CARD_COSINE] = PITH_RATE_COSINE};
    const pith_card_train *t = &run->card->train;
    /* each that is not given is AdamW's own: the optimizer takes its own only when none is */
    bool adam = t->optimizer == PITH_CARD_ADAMW || t->optimizer == PITH_CARD_MUON;
    double beta1 = adam && t->beta1 == 0 ? 0.9 : t->beta1, beta2 = adam && t->beta2 == 0 ? 0.999 : t->beta2, eps = adam && t->eps == 0 ? 1e-8 : t->eps;
    return (pith_train_role){
        .optimizer = {.kind = kinds[t->optimizer], .momentum = (float)t->momentum, .nesterov = t->nesterov, .beta1 = (float)beta1, .beta2 = (float)beta2,
                      .eps = (float)eps, .weight_decay = (float)t->decay, .clip_norm = (float)t->clip, .ema = (float)t->ema},
        .schedule = {.kind = schedules[t->schedule], .rate = (float)t->rate, .last_rate = (float)t->last_rate, .n_warmup = (uint64_t)(t->warmup * (double)t->steps)},
        .group = pith_train_group_matrices};
}

/* ---- beds ------------------------------------------------------------------------------------- */

/* Running statistics survive a stop. */
static pith_status keep_buffers(pith_trainer *trainer, const pith_net *net)
{
    size_t n;
    const pith_net_buffer *buffers = pith_net_buffers(net, &n);
    for (size_t i = 0; i < n; i++) PITH_TRY(pith_trainer_share(trainer, buffers[i].name, buffers[i].data, buffers[i].n));
    return PITH_OK;
}

/* Nothing is known where a run without compression was resumed at its end. */
static void note_workers(pith_run *run, const pith_train_options *o, const pith_train_history *h)
{
    if (!(h->dense_bytes > 0)) return;
    run->workers = (pith_workers){.n = h->n_workers, .sent_bytes = h->sent_bytes, .dense_bytes = h->dense_bytes};
    pith_channel_tell(&o->exchange, run->workers.how);
}

pith_status pith_run_train(pith_run *run, pith_tape *tape, pith_train_options *o, uint64_t evaluations, const pith_train_role *roles, size_t n_roles, pith_net *const *nets, size_t n_nets, pith_train_result *result)
{
    pith_ctx *ctx = run->ctx;
    char *checkpoint = pith_format(ctx, "%s/checkpoint", run->folder), *curves = pith_format(ctx, "%s/curves", run->folder);
    pith_trainer *trainer = NULL;
    pith_status status = checkpoint && curves ? PITH_OK : PITH_E_MEMORY;
    o->checkpoint = checkpoint;
    if (!(o->checkpoint_seconds > 0)) o->checkpoint_seconds = 20;
    o->curves = curves;
    o->evaluate_every = PITH_MAX(o->n_steps / PITH_MAX(evaluations, (uint64_t)1), (uint64_t)1);
    if (status == PITH_OK) status = pith_trainer_new(tape, o, roles, n_roles, &trainer);
    for (size_t i = 0; i < n_nets && status == PITH_OK; i++) status = keep_buffers(trainer, nets[i]);
    if (status == PITH_OK) status = pith_trainer_run(trainer, result);
    if (status == PITH_OK) note_workers(run, o, pith_trainer_history(trainer));
    pith_trainer_free(trainer);
    pith_free(ctx, curves);
    pith_free(ctx, checkpoint);
    o->checkpoint = o->curves = NULL;
    return status;
}

void pith_run_trained(pith_run *run)
{
    char *checkpoint = pith_group_leads(run->group) ? pith_format(run->ctx, "%s/checkpoint", run->folder) : NULL;
    if (checkpoint && unlink(checkpoint) != 0 && errno != ENOENT) pith_log(run->ctx, PITH_LOG_WARN, "%s: cannot remove it: %s", checkpoint, strerror(errno));
    pith_free(run->ctx, checkpoint);
}

pith_status pith_run_keep(pith_run *run, const pith_net *net)
{
    if (!pith_group_leads(run->group)) return PITH_OK;
    char *file = pith_format(run->ctx, "%s/net.safetensors", run->folder);
    pith_status status = file ? pith_net_save(net, file) : PITH_E_MEMORY;
    if (status == PITH_OK) pith_run_trained(run);
    pith_free(run->ctx, file);
    return status;
}

static pith_status parse_object(pith_run *run, const char *text, cJSON **json)
{
    PITH_TRY(pith_json_parse(run->ctx, "net_settings", text, strlen(text), json));
    if (cJSON_IsObject(*json)) return PITH_OK;
    return pith_fail(run->ctx, PITH_E_FORMAT, "%s: settings of a network are no JSON object: %s", run->card->file, text);
}

pith_status pith_run_net(pith_run *run, pith_tape *tape, const char *kind, const char *own, const char *usual, pith_net **net)
{
    cJSON *json = NULL, *more = NULL;
    pith_status status = parse_object(run, own ? own : "{}", &json);
    if (status == PITH_OK) status = parse_object(run, usual ? usual : "{}", &more);
    for (cJSON *item = more ? more->child : NULL, *next; item && status == PITH_OK; item = next) {
        next = item->next;
        if (cJSON_HasObjectItem(json, item->string)) continue;
        cJSON *copy = cJSON_Duplicate(item, true);
        if (!copy || !cJSON_AddItemToObject(json, item->string, copy)) {
            cJSON_Delete(copy);
            status = PITH_E_MEMORY;
        }
    }
    char *text = status == PITH_OK ? cJSON_PrintUnformatted(json) : NULL;
    if (status == PITH_OK) status = text ? pith_net_new(tape, kind, text, run->seed, net) : PITH_E_MEMORY;
    cJSON_free(text);
    cJSON_Delete(more);
    cJSON_Delete(json);
    return status;
}
