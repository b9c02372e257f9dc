/* A model folder as Hugging Face's programs write it: config.json (settings), model.safetensors or
 * model.safetensors.index.json (tensors), tokenizer.json with tokenizer_config.json (vocabulary). */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/hf_tokenizer.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/settings.h"

#define MAX_SHARDS 100000       /* file names have five digits */
#define MAX_NESTING 100         /* of JSON; files that programs write have about 10 */

/* ---- JSON ------------------------------------------------------------------------------------- */

/* What cJSON does not tell of: a NUL would end a name or text early, and its own limit of nesting gives no reason. */
static pith_status scan(pith_ctx *ctx, const char *path, const char *text, size_t len)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == 0 || (in_string && len - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0))
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: a NUL character at byte %zu; no name or text may hold one", path, i);
        if (in_string) {
            if (c == '\\') i++; /* what follows ends nothing */
            else in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > MAX_NESTING) return pith_fail(ctx, PITH_E_LIMIT, "%s: lists and objects deeper than %d in one another at byte %zu", path, MAX_NESTING, i);
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        }
    }
    return PITH_OK;
}

/* The first member of an object with the name of one before it, or NULL. */
static pith_status find_twice(pith_ctx *ctx, const cJSON *object, const cJSON **twice)
{
    size_t n_slots = 16, n = (size_t)cJSON_GetArraySize(object);
    while (n_slots < 2 * n) n_slots *= 2;
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark mark = pith_arena_mark(scratch);
    const cJSON **slots = pith_arena_take(scratch, n_slots * sizeof *slots), *item;
    if (!slots) return PITH_E_MEMORY;
    memset(slots, 0, n_slots * sizeof *slots);
    *twice = NULL;
    cJSON_ArrayForEach(item, object)
    {
        size_t at = (size_t)pith_hash(item->string, strlen(item->string)) & (n_slots - 1);
        while (slots[at] && strcmp(slots[at]->string, item->string) != 0) at = (at + 1) & (n_slots - 1);
        if (slots[at]) {
            *twice = item;
            break;
        }
        slots[at] = item;
    }
    pith_arena_reset(scratch, mark);
    return PITH_OK;
}

/* No object in `json` has a name twice, where readers would differ in which one counts. */
static pith_status check_names(pith_ctx *ctx, const char *path, const cJSON *json)
{
    const cJSON *item, *twice = NULL;
    if (cJSON_IsObject(json)) PITH_TRY(find_twice(ctx, json, &twice));
    if (twice) return pith_fail(ctx, PITH_E_CORRUPT, "%s: %.60s%s\"%.60s\" is there twice", path, json->string ? json->string : "", json->string ? ": " : "", twice->string);
    cJSON_ArrayForEach(item, json)
        if (item->child) PITH_TRY(check_names(ctx, path, item));
    return PITH_OK;
}

pith_status pith_hf_json_parse(pith_ctx *ctx, const char *path, const char *text, size_t len, cJSON **json)
{
    PITH_TRY(scan(ctx, path, text, len));
    PITH_TRY(pith_json_parse(ctx, path, text, len, json));
    pith_status status = cJSON_IsObject(*json) ? check_names(ctx, path, *json) : pith_fail(ctx, PITH_E_CORRUPT, "%s: no JSON object", path);
    if (status == PITH_OK) return PITH_OK;
    cJSON_Delete(*json);
    *json = NULL;
    return status;
}

/* ---- files ------------------------------------------------------------------------------------ */

/* "folder/name" in the file's arena */
static char *join(pith_model_file *file, const char *name)
{
    size_t n_folder = strlen(file->path), n = strlen(name);
    char *path = pith_arena_take(file->arena, n_folder + n + 2);
    if (!path) return NULL;
    memcpy(path, file->path, n_folder);
    path[n_folder] = '/';
    memcpy(path + n_folder + 1, name, n + 1);
    return path;
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Map folder/name behind the maps so far; NULL in *map when it is not there and may be missing. */
static pith_status map_beside(pith_ctx *ctx, pith_model_file *file, const char *name, bool must, const pith_map **map)
{
    *map = NULL;
    char *path = join(file, name);
    if (!path) return PITH_E_MEMORY;
    if (!is_file(path) && (!must || access(path, F_OK) == 0)) /* a pipe would wait for ever */
        return must ? pith_fail(ctx, PITH_E_IO, "%s: not a plain file", path) : PITH_OK;
    pith_map *maps = pith_resize(ctx, file->maps, (file->n_maps + 1) * sizeof *maps);
    if (!maps) return PITH_E_MEMORY;
    file->maps = maps;
    PITH_TRY(pith_map_open(ctx, path, &maps[file->n_maps]));
    if (!pith_add(file->file_bytes, maps[file->n_maps].len, &file->file_bytes)) file->file_bytes = SIZE_MAX;
    *map = &maps[file->n_maps++];
    return PITH_OK;
}

/* ---- tensors ---------------------------------------------------------------------------------- */

bool pith_hf_tensor_name(const char *hf, char name[64])
{
    static const struct { const char *hf, *gguf; } whole[] = {
        {"embed_tokens.weight", "token_embd.weight"}, {"norm.weight", "output_norm.weight"}, {"lm_head.weight", "output.weight"}};
    static const struct { const char *hf, *gguf; } in_layer[] = {
        {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"}, {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}};
    if (strncmp(hf, "model.", 6) == 0) hf += 6; /* missing when the bare network was saved */
    for (size_t i = 0; i < PITH_COUNT(whole); i++)
        if (strcmp(hf, whole[i].hf) == 0) {
            snprintf(name, 64, "%s", whole[i].gguf);
            return true;
        }
    if (strncmp(hf, "layers.", 7) != 0) return false;
    const char *number = hf + 7;
    size_t n_digits = strspn(number, "0123456789");
    if (n_digits == 0 || n_digits > 6 || number[n_digits] != '.') return false;
    const char *part = number + n_digits + 1, *ending = strrchr(part, '.');
    if (!ending || (strcmp(ending, ".weight") != 0 && strcmp(ending, ".bias") != 0)) return false;
    size_t n_part = (size_t)(ending - part);
    for (size_t i = 0; i < PITH_COUNT(in_layer); i++)
        if (strlen(in_layer[i].hf) == n_part && memcmp(part, in_layer[i].hf, n_part) == 0) {
            snprintf(name, 64, "blk.%.*s.%s%s", (int)n_digits, number, in_layer[i].gguf, ending);
            return true;
        }
    return false;
}

static int by_name(const void *a, const void *b) { return strcmp(((const pith_named_tensor *)a)->name, ((const pith_named_tensor *)b)->name); }

/* GGUF's names, where the network is one we know; then no name may be there twice. */
static pith_status rename_tensors(pith_ctx *ctx, pith_model_file *file)
{
    size_t n_unknown = 0;
    const char *unknown = NULL;
    for (size_t i = 0; i < file->n_tensors && pith_settings_known(&file->settings); i++) {
        char name[64];
        if (!pith_hf_tensor_name(file->tensors[i].name, name)) {
            unknown = file->tensors[i].name;
            n_unknown++;
            continue;
        }
        char *copy = pith_arena_take(file->arena, strlen(name) + 1);
        if (!copy) return PITH_E_MEMORY;
        strcpy(copy, name);
        file->tensors[i].name = copy;
    }
    if (n_unknown) pith_log(ctx, PITH_LOG_WARN, "%s: %zu tensors have names that are not %s's and keep them, such as %.60s", file->path, n_unknown, file->settings.architecture, unknown);
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark mark = pith_arena_mark(scratch);
    pith_named_tensor *sorted = pith_arena_take(scratch, file->n_tensors * sizeof *sorted);
    if (!sorted) return PITH_E_MEMORY;
    if (file->n_tensors) memcpy(sorted, file->tensors, file->n_tensors * sizeof *sorted);
    qsort(sorted, file->n_tensors, sizeof *sorted, by_name);
    pith_status status = PITH_OK;
    for (size_t i = 1; i < file->n_tensors && status == PITH_OK; i++)
        if (by_name(&sorted[i - 1], &sorted[i]) == 0) status = pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s is there twice", file->path, sorted[i].name);
    pith_arena_reset(scratch, mark);
    return status;
}

/* A part's name must be that of a file in the same folder. */
static bool plain_name(const char *name)
{
    size_t n = strlen(name);
    return n > 12 && n < 256 && name[0] != '.' && !strchr(name, '/') && strcmp(name + n - 12, ".safetensors") == 0;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The parts that an index names, each once, and a check that each tensor it lists is there. */
static pith_status open_parts(pith_ctx *ctx, pith_model_file *file, const char *path, const cJSON *index)
{
    const cJSON *map = pith_json_get(index, "weight_map"), *item;
    if (!cJSON_IsObject(map)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: no weight_map", path);
    size_t n = (size_t)cJSON_GetArraySize(map), i = 0;
    if (!n) return pith_fail(ctx, PITH_E_CORRUPT, "%s: weight_map lists no tensor", path);
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark mark = pith_arena_mark(scratch);
    const char **parts = pith_arena_take(scratch, n * sizeof *parts), **wanted = pith_arena_take(scratch, n * sizeof *wanted);
    pith_status status = PITH_E_MEMORY;
    if (!parts || !wanted) goto done;
    cJSON_ArrayForEach(item, map)
    {
        if (!cJSON_IsString(item) || !plain_name(item->valuestring)) {
            status = pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s: its file is not named as a .safetensors file of this folder", path, item->string);
            goto done;
        }
        parts[i] = item->valuestring;
        wanted[i++] = item->string;
    }
    qsort(parts, n, sizeof *parts, by_text);
    size_t n_parts = 0;
    for (i = 0; i < n; i++) {
        if (i && strcmp(parts[i - 1], parts[i]) == 0) continue;
        if (++n_parts > MAX_SHARDS) {
            status = pith_fail(ctx, PITH_E_LIMIT, "%s: more than %d files", path, MAX_SHARDS);
            goto done;
        }
        const pith_map *part;
        PITH_GOTO(map_beside(ctx, file, parts[i], true, &part), done);
        PITH_GOTO(pith_safetensors_parse(ctx, part->path, part->data, part->len, file), done);
    }
    const char **found = pith_arena_take(scratch, file->n_tensors * sizeof *found);
    status = PITH_E_MEMORY;
    if (!found) goto done;
    for (i = 0; i < file->n_tensors; i++) found[i] = file->tensors[i].name;
    qsort(found, file->n_tensors, sizeof *found, by_text);
    qsort(wanted, n, sizeof *wanted, by_text);
    status = PITH_OK;
    for (i = 0; i < n && status == PITH_OK; i++)
        if (!bsearch(&wanted[i], found, file->n_tensors, sizeof *found, by_text))
            status = pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s is in no part", path, wanted[i]);
    if (status == PITH_OK && file->n_tensors > n)
        pith_log(ctx, PITH_LOG_WARN, "%s: the parts hold %zu tensors that the index does not list", path, file->n_tensors - n);
done:
    pith_arena_reset(scratch, mark);
    return status;
}

/* The one .safetensors file of a folder without an index, in the arena. */
static pith_status single_file(pith_ctx *ctx, pith_model_file *file, const char **name)
{
    *name = "model.safetensors";
    char *path = join(file, *name);
    if (!path) return PITH_E_MEMORY;
    if (is_file(path)) return PITH_OK;
    DIR *dir = opendir(file->path);
    if (!dir) return pith_fail(ctx, PITH_E_IO, "%s: %s", file->path, strerror(errno));
    pith_status status = PITH_OK;
    size_t n = 0;
    for (struct dirent *e; (e = readdir(dir)) && status == PITH_OK;) {
        if (!plain_name(e->d_name)) continue;
        char *copy = n++ ? path : pith_arena_take(file->arena, strlen(e->d_name) + 1);
        if (!copy) status = PITH_E_MEMORY;
        else if (n == 1) *name = strcpy(copy, e->d_name);
    }
    closedir(dir);
    if (status == PITH_OK && n == 0) status = pith_fail(ctx, PITH_E_FORMAT, "%s: a folder without a .safetensors file", file->path);
    if (status == PITH_OK && n > 1)
        status = pith_fail(ctx, PITH_E_FORMAT, "%s: %zu .safetensors files, but neither model.safetensors nor model.safetensors.index.json", file->path, n);
    return status;
}

static pith_status open_tensors(pith_ctx *ctx, pith_model_file *file)
{
    const pith_map *map;
    PITH_TRY(map_beside(ctx, file, "model.safetensors.index.json", false, &map));
    if (!map) {
        const char *name;
        PITH_TRY(single_file(ctx, file, &name));
        PITH_TRY(map_beside(ctx, file, name, true, &map));
        return pith_safetensors_parse(ctx, map->path, map->data, map->len, file);
    }
    cJSON *index;
    const char *path = map->path;
    PITH_TRY(pith_hf_json_parse(ctx, path, (const char *)map->data, map->len, &index));
    pith_status status = open_parts(ctx, file, path, index);
    cJSON_Delete(index);
    return status;
}

/* ---- settings --------------------------------------------------------------------------------- */

typedef struct config {
    pith_ctx *ctx;
    const char *path;
    const cJSON *json;
} config;

/* A whole number; *v is left alone when it is missing or null. */
static pith_status get_u32(const config *c, const cJSON *from, const char *name, uint32_t *v)
{
    const cJSON *item = pith_json_get(from, name);
    uint64_t u;
    if (!item || cJSON_IsNull(item)) return PITH_OK;
    if (!pith_json_u64(item, &u) || u > UINT32_MAX) return pith_fail(c->ctx, PITH_E_CORRUPT, "%s: %s is not a whole number of 0..2^32-1", c->path, name);
    *v = (uint32_t)u;
    return PITH_OK;
}

static pith_status get_f32(const config *c, const cJSON *from, const char *name, float *v)
{
    const cJSON *item = pith_json_get(from, name);
    if (!item || cJSON_IsNull(item)) return PITH_OK;
    if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) < 1e30)) return pith_fail(c->ctx, PITH_E_CORRUPT, "%s: %s is not a usable number", c->path, name);
    *v = (float)item->valuedouble;
    return PITH_OK;
}

static pith_status get_scaling(const config *c, pith_settings *s)
{
    const cJSON *scaling = pith_json_get(c->json, "rope_scaling");
    if (!cJSON_IsObject(scaling)) scaling = pith_json_get(c->json, "rope_parameters"); /* the newer place; also holds the base */
    PITH_TRY(get_f32(c, scaling, "rope_theta", &s->rope_base));
    s->rope_original_ctx = s->n_ctx;
    const char *type = pith_json_text(scaling, "rope_type");
    if (!type) type = pith_json_text(scaling, "type");
    if (!type || strcmp(type, "default") == 0) return PITH_OK;
    PITH_TRY(get_f32(c, scaling, "factor", &s->rope_factor));
    PITH_TRY(get_u32(c, scaling, "original_max_position_embeddings", &s->rope_original_ctx));
    if (strcmp(type, "linear") == 0) {
        s->rope_scaling = PITH_ROPE_LINEAR;
    } else if (strcmp(type, "llama3") == 0) {
        s->rope_scaling = PITH_ROPE_LLAMA3;
        PITH_TRY(get_f32(c, scaling, "low_freq_factor", &s->rope_low_freq_factor));
        PITH_TRY(get_f32(c, scaling, "high_freq_factor", &s->rope_high_freq_factor));
    } else if (strcmp(type, "yarn") == 0) {
        s->rope_scaling = PITH_ROPE_YARN;
        s->rope_attn_factor = pith_yarn_attn_factor(s->rope_factor);
        PITH_TRY(get_f32(c, scaling, "attention_factor", &s->rope_attn_factor));
        PITH_TRY(get_f32(c, scaling, "beta_fast", &s->rope_beta_fast));
        PITH_TRY(get_f32(c, scaling, "beta_slow", &s->rope_beta_slow));
    } else {
        s->rope_factor = 1;
        pith_log(c->ctx, PITH_LOG_WARN, "%s: rope scaling %.40s is not known; positions are not scaled, long contexts will be poor", c->path, type);
    }
    return PITH_OK;
}

/* "llama" for the networks that GGUF calls so, else the type itself */
static const char *architecture_of(const char *model_type)
{
    static const char *const llamas[] = {"llama", "mistral", "smollm", "smollm2"};
    for (size_t i = 0; i < PITH_COUNT(llamas); i++)
        if (strcmp(model_type, llamas[i]) == 0) return "llama";
    return model_type;
}

static pith_status read_settings(const config *c, pith_settings *s)
{
    const char *type = pith_json_text(c->json, "model_type");
    if (!type) {
        pith_log(c->ctx, PITH_LOG_WARN, "%s: no model_type; the network stays unknown", c->path);
        return PITH_OK;
    }
    const char *name = architecture_of(type);
    if (strlen(name) >= sizeof s->architecture) return pith_fail(c->ctx, PITH_E_CORRUPT, "%s: model_type is no usable name: %.60s", c->path, type);
    strcpy(s->architecture, name);
    s->rope_style = PITH_ROPE_HALVES;
    PITH_TRY(get_u32(c, c->json, "num_hidden_layers", &s->n_layers));
    PITH_TRY(get_u32(c, c->json, "max_position_embeddings", &s->n_ctx));
    PITH_TRY(get_u32(c, c->json, "hidden_size", &s->n_embd));
    PITH_TRY(get_u32(c, c->json, "intermediate_size", &s->n_ff));
    PITH_TRY(get_u32(c, c->json, "num_attention_heads", &s->n_heads));
    s->n_kv_heads = s->n_heads;
    PITH_TRY(get_u32(c, c->json, "num_key_value_heads", &s->n_kv_heads));
    if (s->n_heads) s->head_dim = s->n_embd / s->n_heads;
    PITH_TRY(get_u32(c, c->json, "head_dim", &s->head_dim));
    float rotated = 1;
    PITH_TRY(get_f32(c, c->json, "partial_rotary_factor", &rotated));
    if (!(rotated > 0 && rotated <= 1)) return pith_fail(c->ctx, PITH_E_CORRUPT, "%s: partial_rotary_factor is not in 0..1", c->path);
    s->rope_dims = (uint32_t)((double)s->head_dim * (double)rotated);
    PITH_TRY(get_f32(c, c->json, "layer_norm_eps", &s->norm_eps));
    PITH_TRY(get_f32(c, c->json, "rms_norm_eps", &s->norm_eps));
    PITH_TRY(get_f32(c, c->json, "rope_theta", &s->rope_base));
    PITH_TRY(get_u32(c, c->json, "vocab_size", &s->n_vocab));
    const cJSON *window = pith_json_get(c->json, "use_sliding_window"); /* qwen2 names a window it does not use */
    if (!cJSON_IsFalse(window) && !(strcmp(type, "qwen2") == 0 && !window)) PITH_TRY(get_u32(c, c->json, "sliding_window", &s->sliding_window));
    PITH_TRY(get_scaling(c, s));
    const char *act = pith_json_text(c->json, "hidden_act");
    if (pith_settings_known(s) && act && strcmp(act, "silu") != 0) {
        pith_log(c->ctx, PITH_LOG_WARN, "%s: hidden_act is %.40s, where %s has silu; the network stays unknown", c->path, act, name);
        s->architecture[0] = 0;
    }
    return PITH_OK;
}

/* What only the tensors tell: rows of the embedding, whether the output has its own matrix. */
static void settle(pith_model_file *file)
{
    pith_settings *s = &file->settings;
    const pith_named_tensor *embedding = pith_model_file_find(file, "token_embd.weight");
    if (embedding && embedding->t.n_dims == 2 && embedding->t.dims[0] <= UINT32_MAX) s->n_vocab = (uint32_t)embedding->t.dims[0];
    s->tied_embeddings = embedding && !pith_model_file_find(file, "output.weight");
}

/* Every member of config.json as text. */
static pith_status config_meta(pith_ctx *ctx, pith_model_file *file, const cJSON *json)
{
    size_t n = (size_t)cJSON_GetArraySize(json);
    pith_meta *meta = pith_arena_take(file->arena, n * sizeof *meta);
    if (!meta) return PITH_E_MEMORY;
    const cJSON *item;
    file->meta = meta;
    cJSON_ArrayForEach(item, json)
    {
        char *text = cJSON_IsString(item) ? item->valuestring : cJSON_PrintUnformatted(item);
        if (!text) return pith_fail(ctx, PITH_E_MEMORY, "out of memory: config.json as text");
        size_t n_key = strlen(item->string) + 1, n_value = strlen(text) + 1;
        char *key = pith_arena_take(file->arena, n_key + n_value);
        if (key) {
            memcpy(key, item->string, n_key);
            memcpy(key + n_key, text, n_value);
            meta[file->n_meta++] = (pith_meta){key, key + n_key};
        }
        if (!cJSON_IsString(item)) cJSON_free(text);
        if (!key) return PITH_E_MEMORY;
    }
    return PITH_OK;
}

pith_status pith_hf_config_parse(pith_ctx *ctx, const char *path, const char *text, size_t len, pith_model_file *file)
{
    cJSON *json;
    PITH_TRY(pith_hf_json_parse(ctx, path, text, len, &json));
    config c = {.ctx = ctx, .path = path, .json = json};
    pith_status status = read_settings(&c, &file->settings);
    if (status == PITH_OK) status = config_meta(ctx, file, json);
    cJSON_Delete(json);
    return status;
}

static pith_status open_config(pith_ctx *ctx, pith_model_file *file)
{
    const pith_map *map;
    PITH_TRY(map_beside(ctx, file, "config.json", false, &map));
    if (map) return pith_hf_config_parse(ctx, map->path, (const char *)map->data, map->len, file);
    pith_log(ctx, PITH_LOG_WARN, "%s: no config.json; the network stays unknown", file->path);
    return PITH_OK;
}

/* ---- tokenizer -------------------------------------------------------------------------------- */

static pith_status open_vocab(pith_ctx *ctx, pith_model_file *file)
{
    const pith_map *map, *more, *chat;
    PITH_TRY(map_beside(ctx, file, "tokenizer.json", false, &map));
    if (!map) {
        pith_log(ctx, PITH_LOG_WARN, "%s: no tokenizer.json; the model is read without a tokenizer", file->path);
        return PITH_OK;
    }
    const char *text = (const char *)map->data, *path = map->path; /* map itself moves when another file is mapped */
    size_t len = map->len;
    PITH_TRY(map_beside(ctx, file, "tokenizer_config.json", false, &more));
    pith_status status = pith_hf_vocab_read(ctx, file->arena, text, len, more ? (const char *)more->data : NULL, more ? more->len : 0, &file->vocab);
    if (status != PITH_OK) return pith_fail_at(ctx, status, "%s", path);
    if (file->vocab.chat_template.len) return PITH_OK;
    PITH_TRY(map_beside(ctx, file, "chat_template.jinja", false, &chat));
    if (chat && chat->len) file->vocab.chat_template = (pith_str){(const char *)chat->data, chat->len};
    return PITH_OK;
}

pith_status pith_model_folder_open(pith_ctx *ctx, pith_model_file *file)
{
    file->kind = PITH_FILE_SAFETENSORS;
    PITH_TRY(open_config(ctx, file));
    PITH_TRY(open_tensors(ctx, file));
    PITH_TRY(rename_tensors(ctx, file));
    PITH_TRY(open_vocab(ctx, file));
    settle(file);
    return pith_settings_check(ctx, file->path, &file->settings, file->n_tensors);
}
