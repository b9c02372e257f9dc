/* JSON behind limits. */
#include "format/json.h"

pith_status pith_json_parse(pith_ctx *ctx, const char *what, const char *text, size_t len, cJSON **json)
{
    if (len > PITH_JSON_MAX_BYTES) return pith_fail(ctx, PITH_E_LIMIT, "%s: %zu bytes of JSON; %zu are the limit", what, len, PITH_JSON_MAX_BYTES);
    size_t n_values = 1;
    for (size_t i = 0; i < len; i++) n_values += text[i] == ',' || text[i] == '[' || text[i] == '{';
    if (n_values > PITH_JSON_MAX_VALUES)
        return pith_fail(ctx, PITH_E_LIMIT, "%s: about %zu JSON values; %zu are the limit", what, n_values, PITH_JSON_MAX_VALUES);
    const char *end = text;
    cJSON *parsed = len ? cJSON_ParseWithLengthOpts(text, len, &end, false) : NULL;
    size_t at = end ? (size_t)(end - text) : 0;
    if (parsed)
        while (at < len && strchr(" \t\r\n", text[at]) && text[at]) at++;
    if (parsed && at >= len) {
        *json = parsed;
        return PITH_OK;
    }
    cJSON_Delete(parsed);
    size_t line = 1, column = 1;
    for (size_t i = 0; i < PITH_MIN(at, len); i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    return pith_fail(ctx, PITH_E_CORRUPT, "%s: not valid JSON at line %zu, column %zu", what, line, column);
}

pith_status pith_json_read(pith_ctx *ctx, const char *path, cJSON **json)
{
    pith_map map;
    PITH_TRY(pith_map_open(ctx, path, &map));
    pith_status status = pith_json_parse(ctx, path, map.data ? (const char *)map.data : "", map.len, json);
    pith_map_close(ctx, &map);
    return status;
}

pith_status pith_json_write(pith_ctx *ctx, const char *path, const cJSON *json)
{
    char *text = cJSON_Print(json);
    if (!text) return pith_fail(ctx, PITH_E_MEMORY, "%s: out of memory while writing JSON", path);
    pith_out *out = NULL;
    pith_status status = pith_out_open(ctx, path, &out);
    if (status == PITH_OK) status = pith_out_write(out, text, strlen(text));
    if (status == PITH_OK) status = pith_out_write(out, "\n", 1);
    if (status == PITH_OK) status = pith_out_close(out);
    else pith_out_discard(out);
    cJSON_free(text);
    return status;
}

bool pith_json_u64(const cJSON *item, uint64_t *v)
{
    if (!cJSON_IsNumber(item)) return false;
    double d = item->valuedouble;
    if (!(d >= 0 && d <= 9007199254740992.0) || d != (double)(uint64_t)d) return false;
    *v = (uint64_t)d;
    return true;
}

const cJSON *pith_json_get(const cJSON *object, const char *name)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

const char *pith_json_text(const cJSON *object, const char *name)
{
    const cJSON *item = pith_json_get(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}
