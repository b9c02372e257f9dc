/* What a model folder says beside its tensors: names and settings, the reverse of model_folder.c. */
#include <stdlib.h>

#include "format/json.h"
#include "format/safetensors.h"

bool pith_hf_tensor_name_of(const char *gguf, char name[64])
{
    static const struct { const char *gguf, *hf; } whole[] = {
        {"token_embd.weight", "model.embed_tokens.weight"}, {"output_norm.weight", "model.norm.weight"}, {"output.weight", "lm_head.weight"}};
    static const struct { const char *gguf, *hf; } in_layer[] = {
        {"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"}, {"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"}, {"ffn_gate", "mlp.gate_proj"}, {"ffn_up", "mlp.up_proj"}, {"ffn_down", "mlp.down_proj"}};
    for (size_t i = 0; i < PITH_COUNT(whole); i++)
        if (strcmp(gguf, whole[i].gguf) == 0) {
            snprintf(name, 64, "%s", whole[i].hf);
            return true;
        }
    unsigned layer;
    int n = 0;
    if (sscanf(gguf, "blk.%u.%n", &layer, &n) != 1 || n == 0) return false;
    for (size_t i = 0; i < PITH_COUNT(in_layer); i++) {
        size_t len = strlen(in_layer[i].gguf);
        const char *ending = gguf + n + len;
        if (strncmp(gguf + n, in_layer[i].gguf, len) != 0 || (strcmp(ending, ".weight") != 0 && strcmp(ending, ".bias") != 0)) continue;
        snprintf(name, 64, "model.layers.%u.%s%s", layer, in_layer[i].hf, ending);
        return true;
    }
    return false;
}

/* NULL from cJSON, which means no memory, is counted. */
static void put(cJSON *object, const char *name, cJSON *value, bool *failed)
{
    if (value && cJSON_AddItemToObject(object, name, value)) return;
    cJSON_Delete(value);
    *failed = true;
}

/* The shortest text of a float, as a number: 1e-05 rather than 9.99999974737875e-06. */
static cJSON *number(float x)
{
    char text[32];
    for (int digits = 6; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return cJSON_CreateRaw(text);
}

static void put_scaling(cJSON *json, const pith_settings *s, bool *failed)
{
    static const char *const types[] = {[PITH_ROPE_LINEAR] = "linear", [PITH_ROPE_LLAMA3] = "llama3", [PITH_ROPE_YARN] = "yarn"};
    if (s->rope_scaling == PITH_ROPE_PLAIN) {
        put(json, "rope_scaling", cJSON_CreateNull(), failed);
        return;
    }
    cJSON *o = cJSON_CreateObject();
    put(o, "rope_type", cJSON_CreateString(types[s->rope_scaling]), failed);
    put(o, "factor", number(s->rope_factor), failed);
    if (s->rope_scaling == PITH_ROPE_LLAMA3) {
        put(o, "low_freq_factor", number(s->rope_low_freq_factor), failed);
        put(o, "high_freq_factor", number(s->rope_high_freq_factor), failed);
    }
    if (s->rope_scaling == PITH_ROPE_YARN) {
        if (s->rope_attn_factor > 0) put(o, "attention_factor", number(s->rope_attn_factor), failed);
        put(o, "beta_fast", number(s->rope_beta_fast), failed);
        put(o, "beta_slow", number(s->rope_beta_slow), failed);
    }
    if (s->rope_original_ctx) put(o, "original_max_position_embeddings", cJSON_CreateNumber(s->rope_original_ctx), failed);
    put(json, "rope_scaling", o, failed);
}

pith_status pith_hf_config_write(pith_ctx *ctx, const pith_settings *s, pith_dtype dtype, const pith_vocab *vocab, const char *path)
{
    static const struct {
        const char *architecture, *model_class;
    } classes[] = {{"llama", "LlamaForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"mistral", "MistralForCausalLM"}};
    size_t k = 0;
    while (k < PITH_COUNT(classes) && strcmp(s->architecture, classes[k].architecture) != 0) k++;
    if (k == PITH_COUNT(classes)) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: a model folder of architecture '%s' cannot be written; llama, qwen2 and mistral can", path, s->architecture);
    bool failed = false;
    cJSON *json = cJSON_CreateObject(), *list = cJSON_CreateArray(), *name = cJSON_CreateString(classes[k].model_class);
    if (!list || !name || !cJSON_AddItemToArray(list, name)) {
        cJSON_Delete(name);
        failed = true;
    }
    put(json, "architectures", list, &failed);
    put(json, "model_type", cJSON_CreateString(s->architecture), &failed);
    const struct {
        const char *key;
        uint32_t value;
    } counts[] = {{"num_hidden_layers", s->n_layers}, {"hidden_size", s->n_embd}, {"intermediate_size", s->n_ff}, {"num_attention_heads", s->n_heads},
                  {"num_key_value_heads", s->n_kv_heads}, {"head_dim", s->head_dim}, {"vocab_size", s->n_vocab}, {"max_position_embeddings", s->n_ctx}};
    for (size_t i = 0; i < PITH_COUNT(counts); i++) put(json, counts[i].key, cJSON_CreateNumber(counts[i].value), &failed);
    put(json, "rms_norm_eps", number(s->norm_eps), &failed);
    put(json, "rope_theta", number(s->rope_base), &failed);
    if (s->rope_dims != s->head_dim) put(json, "partial_rotary_factor", cJSON_CreateNumber((double)s->rope_dims / s->head_dim), &failed);
    put_scaling(json, s, &failed);
    if (s->sliding_window) {
        put(json, "sliding_window", cJSON_CreateNumber(s->sliding_window), &failed);
        put(json, "use_sliding_window", cJSON_CreateTrue(), &failed);
    }
    put(json, "hidden_act", cJSON_CreateString("silu"), &failed);
    put(json, "tie_word_embeddings", cJSON_CreateBool(s->tied_embeddings), &failed);
    put(json, "torch_dtype", cJSON_CreateString(dtype == PITH_F16 ? "float16" : dtype == PITH_BF16 ? "bfloat16" : "float32"), &failed);
    if (vocab && vocab->bos >= 0) put(json, "bos_token_id", cJSON_CreateNumber(vocab->bos), &failed);
    if (vocab && vocab->eos >= 0) put(json, "eos_token_id", cJSON_CreateNumber(vocab->eos), &failed);
    pith_status status = failed ? pith_fail(ctx, PITH_E_MEMORY, "out of memory: %s", path) : pith_json_write(ctx, path, json);
    cJSON_Delete(json);
    return status;
}
