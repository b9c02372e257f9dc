/* A conversation: a cache, and the ids it was filled with, so that what a new prompt shares with the
 * last one is not computed again. */
#include "api/model.h"
#include "model/generate.h"

struct pith_session {
    pith_model *model;
    pith_cache *cache;
    pith_ids ids;        /* the last prompt; the cache holds these, then what was generated */
};

pith_status pith_session_new(pith_model *model, size_t n_context, pith_kv_type type, pith_session **out)
{
    static const pith_cache_type types[] = {[PITH_KV_F16] = PITH_CACHE_F16, [PITH_KV_F32] = PITH_CACHE_F32, [PITH_KV_Q8] = PITH_CACHE_Q8};
    pith_ctx *ctx = model->ctx;
    size_t limit = model->llama->s.n_ctx;
    if ((unsigned)type >= PITH_COUNT(types)) return pith_fail(ctx, PITH_E_ARGUMENT, "cache type %d is not one of f16, f32, q8", (int)type);
    if (limit && n_context > limit)
        return pith_fail(ctx, PITH_E_LIMIT, "a context of %zu tokens is more than the %zu that the model was made for", n_context, limit);
    PITH_TRY(pith_model_need_tokenizer(model));
    pith_session *s = pith_calloc(ctx, 1, sizeof *s);
    if (!s) return PITH_E_MEMORY;
    s->model = model;
    pith_status status = pith_llama_cache(ctx, model->llama, types[type], n_context ? n_context : limit ? limit : 4096, &s->cache);
    if (status != PITH_OK) {
        pith_session_free(s);
        return status;
    }
    *out = s;
    return PITH_OK;
}

void pith_session_free(pith_session *session)
{
    if (!session) return;
    pith_ctx *ctx = session->model->ctx;
    pith_cache_free(ctx, session->cache);
    pith_ids_free(ctx, &session->ids);
    pith_free(ctx, session);
}

void pith_reply_defaults(pith_reply_options *o)
{
    const pith_sampling *s = &pith_sampling_default;
    *o = (pith_reply_options){.temperature = s->temperature, .top_k = s->top_k, .top_p = s->top_p, .min_p = s->min_p,
                              .repeat_penalty = s->repeat_penalty, .repeat_last = s->repeat_last, .seed = s->seed};
}

/* Make `ids` (moved) the prompt, keep what the cache has of it, and generate. */
static pith_status reply_to(pith_session *s, pith_ids *ids, const pith_reply_options *options, pith_reply *reply)
{
    pith_reply_options defaults;
    const pith_reply_options *o = options;
    if (!o) {
        pith_reply_defaults(&defaults);
        o = &defaults;
    }
    pith_generate_options go = {
        .sampling = {.temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .min_p = o->min_p,
                     .repeat_penalty = o->repeat_penalty, .repeat_last = o->repeat_last, .seed = o->seed},
        .max_tokens = o->max_tokens, .stop = o->stop, .n_stop = o->n_stop, .emit = o->text, .user = o->user,
    };
    pith_ctx *ctx = s->model->ctx;
    size_t shared = 0;
    while (shared < ids->n && shared < s->ids.n && shared < s->cache->n && ids->ids[shared] == s->ids.ids[shared]) shared++;
    if (shared > 0 && shared == ids->n) shared--; /* the last token's logits are needed again */
    s->cache->kind->truncate(s->cache, shared);
    pith_ids_free(ctx, &s->ids);
    s->ids = *ids;
    *ids = (pith_ids){0};
    pith_generate_result r = {0};
    pith_status status = pith_generate(ctx, s->model->llama, s->model->tok, s->cache, s->ids.ids + shared, s->ids.n - shared, &go, &r);
    *reply = (pith_reply){.n_prompt = s->ids.n, .n_reused = shared, .n_generated = r.n_generated, .prefill_s = r.prefill_s,
                          .decode_s = r.decode_s, .ended_by = r.ended_by};
    return status;
}

pith_status pith_session_reply(pith_session *session, const pith_message *messages, size_t n_messages, const pith_reply_options *options, pith_reply *reply)
{
    pith_ctx *ctx = session->model->ctx;
    char *text = NULL;
    pith_ids ids = {0};
    *reply = (pith_reply){0};
    PITH_TRY(pith_chat_format(ctx, session->model->tok, messages, n_messages, true, &text));
    pith_status status = pith_tokenize(ctx, session->model->tok, text, strlen(text), PITH_TOKENIZE_SPECIAL, &ids);
    pith_free(ctx, text);
    if (status == PITH_OK) status = reply_to(session, &ids, options, reply);
    pith_ids_free(ctx, &ids);
    return status;
}

pith_status pith_session_complete(pith_session *session, const char *text, size_t len, const pith_reply_options *options, pith_reply *reply)
{
    pith_ids ids = {0};
    *reply = (pith_reply){0};
    pith_status status = pith_model_ids(session->model, text, len, PITH_TOKENIZE_SPECIAL, &ids);
    if (status == PITH_OK) status = reply_to(session, &ids, options, reply);
    pith_ids_free(session->model->ctx, &ids);
    return status;
}
