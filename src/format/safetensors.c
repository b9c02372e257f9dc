/* safetensors: the reader. */
#include "format/safetensors.h"

#include <stdlib.h>

#include "format/json.h"
#include "format/settings.h"

static const struct {
    const char *name;
    pith_dtype dtype;
} types[] = {{"F64", PITH_F64}, {"F32", PITH_F32}, {"F16", PITH_F16}, {"BF16", PITH_BF16}, {"F8_E4M3", PITH_F8_E4M3}, {"F8_E5M2", PITH_F8_E5M2},
             {"I64", PITH_I64}, {"I32", PITH_I32}, {"I16", PITH_I16}, {"I8", PITH_I8}, {"U64", PITH_U64}, {"U32", PITH_U32}, {"U16", PITH_U16},
             {"U8", PITH_U8}, {"BOOL", PITH_BOOL}};

typedef struct place {
    size_t begin, end;
    const pith_named_tensor *nt;
} place;

static int by_place(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* empty tensors come before what begins where they are */
}

static pith_status read_tensor(pith_ctx *ctx, const char *path, const cJSON *item, const uint8_t *data, size_t room, pith_named_tensor *nt, place *at)
{
    const char *name = item->string, *type = pith_json_text(item, "dtype");
    const cJSON *shape = pith_json_get(item, "shape"), *offsets = pith_json_get(item, "data_offsets"), *dim;
    if (!type || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets))
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s: dtype, shape or data_offsets is missing", path, name);
    size_t i_type = 0;
    while (i_type < PITH_COUNT(types) && strcmp(types[i_type].name, type) != 0) i_type++;
    if (i_type == PITH_COUNT(types)) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: tensor %.60s: type %.20s is not known", path, name, type);
    nt->t = (pith_tensor){.dtype = types[i_type].dtype};
    uint64_t v, begin, end;
    size_t count = 1;
    cJSON_ArrayForEach(dim, shape)
    {
        if (nt->t.n_dims == PITH_MAX_DIMS) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: tensor %.60s: more than %d dimensions", path, name, PITH_MAX_DIMS);
        if (!pith_json_u64(dim, &v) || !pith_mul(count, (size_t)v, &count))
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s: dimension %d is not a usable number", path, name, nt->t.n_dims);
        nt->t.dims[nt->t.n_dims++] = (size_t)v;
    }
    const cJSON *first = offsets->child, *second = first ? first->next : NULL;
    if (!pith_json_u64(first, &begin) || !pith_json_u64(second, &end) || second->next || begin > end || end > room)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s: its place is not within the %zu bytes of data; the file is cut short or damaged", path, name, room);
    if (!pith_dtype_bytes(nt->t.dtype, count, &nt->len_bytes) || nt->len_bytes != end - begin)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s: its shape does not fit its %llu bytes", path, name, (unsigned long long)(end - begin));
    nt->t.data = data + begin;
    *at = (place){(size_t)begin, (size_t)end, nt};
    return PITH_OK;
}

/* Tensors follow one another from the first byte to the last. */
static pith_status check_table(pith_ctx *ctx, const char *path, place *places, size_t n, size_t room)
{
    qsort(places, n, sizeof *places, by_place);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (places[i].begin != at)
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: tensor %.60s begins at byte %zu of the data, %zu is expected: tensors overlap or leave a hole", path,
                             places[i].nt->name, places[i].begin, at);
        at = places[i].end;
    }
    if (at != room) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the tensors end at byte %zu of the data, the file at %zu", path, at, room);
    return PITH_OK;
}

static char *arena_text(pith_arena *arena, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = pith_arena_take(arena, n);
    if (p) memcpy(p, s, n);
    return p;
}

static pith_status add_meta(pith_model_file *file, const cJSON *metadata)
{
    size_t n = (size_t)cJSON_GetArraySize(metadata);
    pith_meta *meta = pith_arena_take(file->arena, (file->n_meta + n) * sizeof *meta);
    if (!meta) return PITH_E_MEMORY;
    if (file->n_meta) memcpy(meta, file->meta, file->n_meta * sizeof *meta);
    const cJSON *item;
    size_t i = file->n_meta;
    cJSON_ArrayForEach(item, metadata)
    {
        meta[i].key = arena_text(file->arena, item->string);
        meta[i].value = arena_text(file->arena, cJSON_IsString(item) ? item->valuestring : "");
        if (!meta[i].key || !meta[i].value) return PITH_E_MEMORY;
        i++;
    }
    file->meta = meta;
    file->n_meta = i;
    return PITH_OK;
}

/* What a list of n tensors has room for: a model of many parts must not copy it for each of them. */
static size_t room_for(size_t n)
{
    size_t room = 16;
    while (room < n) room *= 2;
    return room;
}

/* file->tensors, or a copy of it, with room for n more; NULL: no memory. */
static pith_named_tensor *grow_tensors(pith_model_file *file, size_t n)
{
    size_t room = room_for(file->n_tensors + n);
    if (file->tensors && room == room_for(file->n_tensors)) return file->tensors;
    pith_named_tensor *tensors = pith_arena_take(file->arena, room * sizeof *tensors);
    if (tensors && file->n_tensors) memcpy(tensors, file->tensors, file->n_tensors * sizeof *tensors);
    return tensors;
}

static pith_status read_table(pith_ctx *ctx, const char *path, const cJSON *header, const uint8_t *data, size_t room, pith_model_file *file)
{
    const cJSON *item, *metadata = NULL;
    size_t n = 0, n_text = 0;
    cJSON_ArrayForEach(item, header)
    {
        if (strcmp(item->string, "__metadata__") == 0) {
            if (!cJSON_IsObject(item)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: __metadata__ is no object", path);
            metadata = item;
            continue;
        }
        n++;
        n_text += strlen(item->string) + 1;
    }
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark mark = pith_arena_mark(scratch);
    pith_named_tensor *tensors = grow_tensors(file, n);
    char *text = pith_arena_take(file->arena, n_text);
    place *places = pith_arena_take(scratch, n * sizeof *places);
    pith_status status = PITH_E_MEMORY;
    if (!tensors || !text || !places) goto done;
    size_t i = 0;
    cJSON_ArrayForEach(item, header)
    {
        if (item == metadata) continue;
        pith_named_tensor *nt = &tensors[file->n_tensors + i];
        size_t len = strlen(item->string) + 1;
        memcpy(text, item->string, len);
        nt->name = text;
        text += len;
        PITH_GOTO(read_tensor(ctx, path, item, data, room, nt, &places[i]), done);
        i++;
    }
    PITH_GOTO(check_table(ctx, path, places, n, room), done);
    if (metadata) PITH_GOTO(add_meta(file, metadata), done);
    file->tensors = tensors;
    file->n_tensors += n;
    status = PITH_OK;
done:
    pith_arena_reset(scratch, mark);
    return status;
}

pith_status pith_safetensors_parse(pith_ctx *ctx, const char *path, const void *data, size_t len, pith_model_file *file)
{
    const uint8_t *p = data;
    uint64_t n = len >= 8 ? pith_le64(p) : 0;
    if (n < 2 || n > len - 8 || p[8] != '{') {
        /* the length is all there is to know the format by */
        if (len >= 9 && p[8] == '{')
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: a header of %llu bytes in a file of %zu; it is cut short or damaged", path, (unsigned long long)n, len);
        return pith_fail(ctx, PITH_E_FORMAT, "%s: not a safetensors file: no JSON header", path);
    }
    cJSON *header;
    PITH_TRY(pith_hf_json_parse(ctx, path, (const char *)p + 8, (size_t)n, &header));
    pith_status status = read_table(ctx, path, header, p + 8 + n, len - 8 - (size_t)n, file);
    cJSON_Delete(header);
    return status;
}

pith_status pith_safetensors_open_memory(pith_ctx *ctx, const char *path, const void *data, size_t len, pith_model_file **result)
{
    pith_model_file *file;
    PITH_TRY(pith_model_file_new(ctx, path, &file));
    file->kind = PITH_FILE_SAFETENSORS;
    file->file_bytes = len;
    pith_status status = pith_safetensors_parse(ctx, path, data, len, file);
    if (status != PITH_OK) {
        pith_model_file_close(ctx, file);
        return status;
    }
    *result = file;
    return PITH_OK;
}
