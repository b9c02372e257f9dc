#include "api/model.h"

#include "eval/eval.h"

pith_status pith_model_open(pith_ctx *ctx, const char *path, const pith_model_options *options, pith_model **out)
{
    if (!ctx || !path || !out) return ctx ? pith_fail(ctx, PITH_E_ARGUMENT, "pith_model_open: an argument is NULL") : PITH_E_ARGUMENT;
    pith_weights_options wo = {.exact = options && options->exact, .strict = options && options->strict};
    pith_weights *w = NULL;
    double start_s = pith_now_s();
    PITH_TRY(pith_weights_open(ctx, path, &wo, &w));
    pith_status status = PITH_OK;
    pith_model *m = pith_calloc(ctx, 1, sizeof *m);
    if (!m) {
        pith_weights_free(ctx, w);
        return PITH_E_MEMORY;
    }
    m->ctx = ctx;
    m->file_bytes = w->file_bytes;
    m->n_weights = w->n_weights;
    if (w->vocab && w->vocab->kind != PITH_VOCAB_NONE) {
        m->add_bos = w->vocab->add_bos;
        PITH_GOTO(pith_tokenizer_new(ctx, w->vocab, &m->tok), fail);
        char *text = NULL;
        status = pith_chat_format(ctx, m->tok, &(pith_message){"user", ""}, 1, true, &text);
        pith_free(ctx, text);
        if (status == PITH_E_MEMORY) goto fail;
        m->has_chat = status == PITH_OK;
    }
    PITH_GOTO(pith_llama_new(ctx, w, &m->llama), fail);
    pith_weights_free(ctx, w);
    m->load_s = pith_now_s() - start_s;
    *out = m;
    return PITH_OK;
fail:
    status = pith_fail_at(ctx, status, "%s", path);
    pith_model_free(m);
    pith_weights_free(ctx, w);
    return status;
}

void pith_model_free(pith_model *model)
{
    if (!model) return;
    if (model->llama) pith_llama_free(model->ctx, model->llama);
    if (model->tok) pith_tokenizer_free(model->ctx, model->tok);
    pith_free(model->ctx, model);
}

void pith_model_describe(const pith_model *model, pith_model_info *info)
{
    const pith_settings *s = &model->llama->s;
    *info = (pith_model_info){
        .n_layers = s->n_layers, .n_embd = s->n_embd, .n_heads = s->n_heads, .n_kv_heads = s->n_kv_heads, .n_vocab = s->n_vocab,
        .n_context = s->n_ctx, .n_weights = model->n_weights, .file_bytes = model->file_bytes, .ram_bytes = model->llama->ram_bytes,
        .bits_per_weight = model->n_weights ? 8.0 * (double)model->file_bytes / (double)model->n_weights : 0,
        .load_s = model->load_s, .has_tokenizer = model->tok != NULL, .has_chat = model->has_chat,
    };
    snprintf(info->architecture, sizeof info->architecture, "%s", s->architecture);
}

pith_status pith_model_need_tokenizer(const pith_model *model)
{
    if (model->tok) return PITH_OK;
    return pith_fail(model->ctx, PITH_E_UNSUPPORTED, "the model's file has no tokenizer, so text cannot be given to it");
}

pith_status pith_model_ids(const pith_model *model, const char *text, size_t len, unsigned flags, pith_ids *ids)
{
    pith_ctx *ctx = model->ctx;
    PITH_TRY(pith_model_need_tokenizer(model));
    int32_t bos = pith_tokenizer_bos(model->tok);
    if (model->add_bos && bos >= 0 && ids->n == 0) {
        if (ids->cap == 0) {
            ids->ids = pith_array(ctx, 16, sizeof *ids->ids);
            if (!ids->ids) return PITH_E_MEMORY;
            ids->cap = 16;
        }
        ids->ids[ids->n++] = bos;
    }
    return pith_tokenize(ctx, model->tok, text, len, flags, ids);
}

pith_status pith_model_tokenize(pith_model *model, const char *text, size_t len, int32_t **out, size_t *n)
{
    pith_ids ids = {0};
    pith_status status = pith_model_ids(model, text, len, PITH_TOKENIZE_SPECIAL, &ids);
    if (status == PITH_OK && !ids.ids) { /* no ids: still something to release */
        ids.ids = pith_alloc(model->ctx, 1);
        if (!ids.ids) status = PITH_E_MEMORY;
    }
    if (status != PITH_OK) {
        pith_ids_free(model->ctx, &ids);
        return status;
    }
    *out = ids.ids;
    *n = ids.n;
    return PITH_OK;
}

void pith_release(pith_ctx *ctx, void *ptr) { pith_free(ctx, ptr); }

pith_status pith_model_measure(pith_model *model, pith_model *reference, const char *text, size_t len, const pith_measure_options *options,
                               pith_measure *measure)
{
    pith_eval_options o = {.context = options && options->n_context ? options->n_context : 512,
                           .n_chunks = options ? options->n_chunks : 0, .all_tokens = options && options->all_tokens};
    pith_eval_result r;
    pith_ids ids = {0};
    PITH_TRY(pith_model_need_tokenizer(model));
    pith_status status = pith_tokenize(model->ctx, model->tok, text, len, PITH_TOKENIZE_PLAIN, &ids);
    int32_t bos = model->add_bos ? pith_tokenizer_bos(model->tok) : -1;
    if (status == PITH_OK) status = pith_eval_text(model->ctx, model->llama, reference ? reference->llama : NULL, ids.ids, ids.n, bos, &o, &r);
    pith_ids_free(model->ctx, &ids);
    if (status != PITH_OK) return status;
    *measure = (pith_measure){
        .n_chunks = r.n_chunks, .n_scored = r.n_scored, .perplexity = r.perplexity, .perplexity_stderr = r.perplexity_stderr,
        .has_reference = r.has_reference, .kl_mean = r.kl_mean, .kl_stderr = r.kl_mean_stderr, .kl_p99 = r.kl_p99,
        .top1_agreement = r.top1_agreement, .reference_perplexity = r.reference_perplexity,
        .prefill_tokens_per_second = r.prefill_tokens_per_second,
    };
    return PITH_OK;
}
