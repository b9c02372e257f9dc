/* What compressing would do, from the file's tables and a moment's run of the model. */
#include "eval/eval.h"
#include "recipe/calibrate.h"
#include "recipe/compress.h"
#include "stream/weights/source.h"
#include "text/tokenizer.h"

/* Rates of the coder's layers, bits a weight, as they come out on SmolLM2-135M; a plan says "about". */
#define FIRST_LAYER_BITS 1.6
#define ALL_LAYERS_BITS 6.35
#define CODED_PER_SECOND 1.4e7  /* weights a second and thread through transform and all layers */

static void describe(const pith_model_file *f, const pith_named_tensor *t, pith_plan_row *row, double *coded)
{
    const pith_dtype_info *type = pith_dtype_get(t->t.dtype);
    size_t n = pith_tensor_count(&t->t);
    *row = (pith_plan_row){.name = t->name, .n_cols = pith_tensor_cols(&t->t), .source_bytes = t->len_bytes};
    row->n_rows = row->n_cols ? n / row->n_cols : 0;
    snprintf(row->source, sizeof row->source, "%s", type ? type->name : "?");
    const char *dot = strrchr(t->name, '.'), *norm = strstr(t->name, "norm");
    bool matrix = t->t.n_dims == 2 && dot && strcmp(dot, ".weight") == 0 && !norm;
    if (matrix) *coded += (double)n;
    row->what = !matrix                                    ? (norm ? "folded into what follows; column scales kept" : "kept as f32")
                : strstr(t->name, "token_embd") && f->settings.tied_embeddings ? "coded, columns rotated; embedding and output in one"
                : strstr(t->name, "token_embd")            ? "coded, columns rotated"
                : strstr(t->name, "attn_output") || strstr(t->name, "ffn_down") ? "coded, rows rotated"
                                                           : "coded, gain folded in, columns rotated";
}

/* Peak: the source's compute form, the logits that noise is measured on, the statistics, and the packets. */
static uint64_t peak_memory(const pith_settings *s, uint64_t source_bytes, uint64_t total_bytes)
{
    uint64_t logits = 2ull * 128 * s->n_vocab * 4, square = 6ull * s->n_embd * s->n_embd * 4;
    return source_bytes + PITH_MAX(logits, total_bytes) + square;
}

static pith_status time_model(pith_ctx *ctx, const char *source, double *prefill_s, double *decode_s)
{
    pith_weights *w = NULL;
    pith_llama *model = NULL;
    double prefill = 0, decode = 0;
    pith_status status = pith_weights_open(ctx, source, NULL, &w);
    if (status == PITH_OK) status = pith_llama_new(ctx, w, &model);
    pith_weights_free(ctx, w);
    size_t n = model ? PITH_MIN(72, (size_t)model->s.n_ctx) : 0; /* tokens in all */
    if (status == PITH_OK) status = pith_eval_speed(ctx, model, n - n / 9, n / 9, 1, &prefill, &decode);
    pith_llama_free(ctx, model);
    *prefill_s = prefill > 0 ? 1 / prefill : 0;
    *decode_s = decode > 0 ? 1 / decode : 0;
    return status;
}

pith_status pith_plan_make(pith_ctx *ctx, const char *source, const pith_compress_options *o, pith_plan *plan)
{
    *plan = (pith_plan){0};
    PITH_TRY(pith_source_open(ctx, source, &plan->file, &(uint64_t){0}));
    const pith_model_file *f = plan->file;
    double coded = 0, prefill_s, decode_s;
    pith_status status = PITH_OK;
    plan->rows = pith_array(ctx, f->n_tensors, sizeof *plan->rows);
    if (!plan->rows) status = PITH_E_MEMORY;
    for (size_t i = 0; i < f->n_tensors && status == PITH_OK; i++) {
        describe(f, &f->tensors[i], &plan->rows[i], &coded);
        plan->n_weights += pith_tensor_count(&f->tensors[i].t);
    }
    plan->n_rows = f->n_tensors;
    plan->source_bytes = f->file_bytes;
    plan->floor_bytes = (uint64_t)(coded * FIRST_LAYER_BITS / 8);
    plan->total_bytes = PITH_MIN((uint64_t)(coded * ALL_LAYERS_BITS / 8), f->file_bytes);
    plan->memory_bytes = peak_memory(&f->settings, f->file_bytes, plan->total_bytes);
    if (status == PITH_OK) status = time_model(ctx, source, &prefill_s, &decode_s);
    if (status == PITH_OK) {
        double n_measures = (double)f->settings.n_layers * PITH_N_OPS;
        double calibrate = (o->text ? 4096 * 2 * prefill_s : 2048 * (decode_s + 2 * prefill_s)) + n_measures * 128 * prefill_s;
        plan->seconds = calibrate + coded / (CODED_PER_SECOND * pith_n_threads(ctx)) + (o->no_measure ? 0 : 6 * 2 * 1024 * prefill_s);
    } else {
        pith_plan_free(ctx, plan);
    }
    return status;
}

void pith_plan_free(pith_ctx *ctx, pith_plan *plan)
{
    pith_free(ctx, plan->rows);
    pith_model_file_close(ctx, plan->file);
    *plan = (pith_plan){0};
}
