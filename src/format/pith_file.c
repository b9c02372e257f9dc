/* Reading and writing .pith containers: see docs/format.md for the layout. */
#include "format/pith_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <zstd.h>

#include "format/bytes.h"
#include "format/settings.h"
#include "stage/quantize/embedded.h"

#define SECTION_HEADER 40          /* u32 kind, u32 codec, u64 raw_len, u64 len, u64 xxh3, u64 0 */
#define MAX_SECTION ((size_t)1 << 32)
#define ZSTD_LEVEL 19
#define MAX_LEVEL 7
#define META_SPARE 2048            /* of spaces, for results that are put in later */

/* ---- settings as JSON ------------------------------------------------------------------------- */

#define SETTINGS_U32(X) X(n_layers) X(n_embd) X(n_ff) X(n_heads) X(n_kv_heads) X(head_dim) X(n_vocab) X(n_ctx) X(rope_dims) X(rope_original_ctx) X(sliding_window)
#define SETTINGS_F32(X) X(norm_eps) X(rope_base) X(rope_factor) X(rope_low_freq_factor) X(rope_high_freq_factor) X(rope_attn_factor) X(rope_beta_fast) X(rope_beta_slow)
static const char *const scaling_names[] = {"none", "linear", "llama3", "yarn"};

static bool settings_to_json(const pith_settings *s, cJSON *o)
{
    bool ok = cJSON_AddStringToObject(o, "architecture", s->architecture) != NULL;
#define X(name) ok &= cJSON_AddNumberToObject(o, #name, s->name) != NULL;
    SETTINGS_U32(X)
#undef X
#define X(name) ok &= cJSON_AddNumberToObject(o, #name, (double)s->name) != NULL;
    SETTINGS_F32(X)
#undef X
    ok &= cJSON_AddStringToObject(o, "rope_style", s->rope_style == PITH_ROPE_PAIRS ? "pairs" : "halves") != NULL;
    ok &= cJSON_AddStringToObject(o, "rope_scaling", scaling_names[s->rope_scaling]) != NULL;
    ok &= cJSON_AddBoolToObject(o, "tied_embeddings", s->tied_embeddings) != NULL;
    return ok;
}

static bool settings_from_json(const cJSON *o, pith_settings *s)
{
    pith_settings_default(s);
    const char *architecture = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "architecture"));
    if (!architecture || strlen(architecture) >= sizeof s->architecture) return false;
    strcpy(s->architecture, architecture);
    const cJSON *v;
#define X(name)                                                                                 \
    v = cJSON_GetObjectItemCaseSensitive(o, #name);                                             \
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 4294967295.0)) return false; \
    s->name = (uint32_t)v->valuedouble;
    SETTINGS_U32(X)
#undef X
#define X(name)                                                                                 \
    v = cJSON_GetObjectItemCaseSensitive(o, #name);                                             \
    if (!cJSON_IsNumber(v) || !isfinite((float)v->valuedouble)) return false;                   \
    s->name = (float)v->valuedouble;
    SETTINGS_F32(X)
#undef X
    const char *style = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "rope_style"));
    const char *scaling = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "rope_scaling"));
    if (!style || !scaling) return false;
    s->rope_style = strcmp(style, "pairs") == 0 ? PITH_ROPE_PAIRS : PITH_ROPE_HALVES;
    size_t i = 0;
    while (i < PITH_COUNT(scaling_names) && strcmp(scaling, scaling_names[i]) != 0) i++;
    if (i == PITH_COUNT(scaling_names)) return false;
    s->rope_scaling = (pith_rope_scaling)i;
    s->tied_embeddings = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "tied_embeddings"));
    return true;
}

/* ---- vocabulary ------------------------------------------------------------------------------- */

/* Merges of a byte-level BPE usually make the tokens in order: then where to split each is all there is
 * to say.  first_merged: the token that merge 0 makes; SIZE_MAX when it is not so. */
static size_t merges_in_order(const pith_vocab *v)
{
    if (!v->n_merges || v->n_merges > v->n_tokens) return SIZE_MAX;
    for (size_t first = 0; first + v->n_merges <= v->n_tokens; first++) {
        size_t i = 0;
        for (; i < v->n_merges; i++) {
            const pith_str *t = &v->tokens[first + i], *m = &v->merges[i];
            const char *space = memchr(m->s, ' ', m->len);
            if (!space || m->len != t->len + 1) break;
            size_t left = (size_t)(space - m->s);
            if (memcmp(t->s, m->s, left) != 0 || memcmp(t->s + left, space + 1, t->len - left) != 0) break;
        }
        if (i == v->n_merges) return first;
    }
    return SIZE_MAX;
}

static void put_vocab(writer *w, const pith_vocab *v)
{
    put_u8(w, (uint8_t)v->kind);
    put_string(w, v->pre, strlen(v->pre));
    const int32_t ids[] = {v->bos, v->eos, v->unk, v->pad, v->eot};
    for (size_t i = 0; i < PITH_COUNT(ids); i++) put_u32(w, (uint32_t)ids[i]);
    put_u8(w, (uint8_t)(v->add_bos | v->add_eos << 1 | v->add_space_prefix << 2 | v->remove_extra_spaces << 3 | v->lowercase << 4 | v->ignore_merges << 5 |
                        (v->scores != NULL) << 6 | (v->types != NULL) << 7));
    put_string(w, v->chat_template.s, v->chat_template.len);
    put_string(w, v->charsmap.s, v->charsmap.len);
    put_varint(w, v->n_tokens);
    for (size_t i = 0; i < v->n_tokens; i++) put_string(w, v->tokens[i].s, v->tokens[i].len);
    for (size_t i = 0; v->scores && i < v->n_tokens; i++) put_f32(w, v->scores[i]);
    for (size_t i = 0; v->types && i < v->n_tokens; i++) put_u8(w, v->types[i]);
    size_t first = merges_in_order(v);
    put_varint(w, v->n_merges);
    put_u8(w, first != SIZE_MAX);
    if (first != SIZE_MAX) put_varint(w, first);
    for (size_t i = 0; i < v->n_merges; i++) {
        const pith_str *m = &v->merges[i];
        if (first != SIZE_MAX) put_varint(w, (uint64_t)((const char *)memchr(m->s, ' ', m->len) - m->s));
        else put_string(w, m->s, m->len);
    }
    put_varint(w, v->n_steps);
    for (size_t i = 0; i < v->n_steps; i++) {
        put_u8(w, (uint8_t)v->steps[i].kind);
        put_varint(w, v->steps[i].flags);
        put_string(w, v->steps[i].from.s, v->steps[i].from.len);
        put_string(w, v->steps[i].to.s, v->steps[i].to.len);
    }
    put_u8(w, (uint8_t)((v->added != NULL) | v->keep_unknown << 1));
    for (size_t i = 0; v->added && i < v->n_tokens; i++) put_u8(w, v->added[i]);
    put_string(w, v->pattern.s, v->pattern.len);
    put_string(w, v->word_prefix.s, v->word_prefix.len);
    put_varint(w, v->max_word_chars);
}

static pith_status get_vocab(pith_ctx *ctx, pith_arena *arena, cursor *c, pith_vocab *v)
{
    memset(v, 0, sizeof *v);
    v->kind = (pith_vocab_kind)get_u8(c);
    pith_str pre = get_string(c);
    if (c->bad || v->kind > PITH_VOCAB_WORDPIECE || pre.len >= sizeof v->pre) goto corrupt;
    memcpy(v->pre, pre.s, pre.len);
    int32_t *const ids[] = {&v->bos, &v->eos, &v->unk, &v->pad, &v->eot};
    for (size_t i = 0; i < PITH_COUNT(ids); i++) *ids[i] = (int32_t)get_u32(c);
    uint8_t flags = get_u8(c);
    v->add_bos = flags & 1, v->add_eos = flags >> 1 & 1, v->add_space_prefix = flags >> 2 & 1, v->remove_extra_spaces = flags >> 3 & 1;
    v->lowercase = flags >> 4 & 1, v->ignore_merges = flags >> 5 & 1;
    v->chat_template = get_string(c);
    v->charsmap = get_string(c);
    v->n_tokens = get_count(c, 1);
    if (c->bad) goto corrupt;
    for (size_t i = 0; i < PITH_COUNT(ids); i++)
        if (*ids[i] < -1 || *ids[i] >= (int64_t)v->n_tokens) goto corrupt;
    if (!(v->tokens = pith_arena_take(arena, v->n_tokens * sizeof *v->tokens))) return PITH_E_MEMORY;
    for (size_t i = 0; i < v->n_tokens; i++) v->tokens[i] = get_string(c);
    if (c->bad) goto corrupt;
    if (flags & 0x40) {
        const uint8_t *p = get(c, v->n_tokens * 4);
        if (!p) goto corrupt;
        if (!(v->scores = pith_arena_take(arena, v->n_tokens * sizeof *v->scores))) return PITH_E_MEMORY;
        for (size_t i = 0; i < v->n_tokens; i++) {
            uint32_t u = pith_le32(p + 4 * i);
            memcpy(&v->scores[i], &u, 4);
        }
    }
    if (flags & 0x80) {
        const uint8_t *p = get(c, v->n_tokens);
        if (!p) goto corrupt;
        if (!(v->types = pith_arena_take(arena, v->n_tokens))) return PITH_E_MEMORY;
        memcpy(v->types, p, v->n_tokens);
    }
    v->n_merges = get_count(c, 1);
    bool in_order = get_u8(c);
    uint64_t first = in_order ? get_varint(c) : 0;
    if (c->bad || (in_order && (first > v->n_tokens || v->n_merges > v->n_tokens - first))) goto corrupt;
    if (!(v->merges = pith_arena_take(arena, v->n_merges * sizeof *v->merges))) return PITH_E_MEMORY;
    for (size_t i = 0; i < v->n_merges; i++) {
        if (!in_order) {
            v->merges[i] = get_string(c);
            continue;
        }
        const pith_str *t = &v->tokens[first + i];
        uint64_t left = get_varint(c);
        if (c->bad || left > t->len) goto corrupt;
        char *text = pith_arena_take(arena, t->len + 1);
        if (!text) return PITH_E_MEMORY;
        memcpy(text, t->s, left);
        text[left] = ' ';
        memcpy(text + left + 1, t->s + left, t->len - left);
        v->merges[i] = (pith_str){text, t->len + 1};
    }
    v->n_steps = get_count(c, 4);
    if (c->bad) goto corrupt;
    if (v->n_steps && !(v->steps = pith_arena_take(arena, v->n_steps * sizeof *v->steps))) return PITH_E_MEMORY;
    for (size_t i = 0; i < v->n_steps; i++) {
        uint8_t kind = get_u8(c);
        if (kind > PITH_STEP_PREFIX_SPACE) goto corrupt;
        v->steps[i].kind = (pith_text_step_kind)kind;
        v->steps[i].flags = (unsigned)get_varint(c);
        v->steps[i].from = get_string(c);
        v->steps[i].to = get_string(c);
    }
    uint8_t more = get_u8(c);
    v->keep_unknown = more >> 1 & 1;
    if (more & 1) {
        const uint8_t *p = get(c, v->n_tokens);
        if (!p) goto corrupt;
        if (!(v->added = pith_arena_take(arena, v->n_tokens))) return PITH_E_MEMORY;
        memcpy(v->added, p, v->n_tokens);
    }
    v->pattern = get_string(c);
    v->word_prefix = get_string(c);
    uint64_t most = get_varint(c);
    if (most > UINT32_MAX) goto corrupt;
    v->max_word_chars = (uint32_t)most;
    if (!c->bad && c->p == c->end) return PITH_OK;
corrupt:
    return pith_fail(ctx, PITH_E_CORRUPT, "the vocabulary is damaged");
}

/* ---- tensors and vectors ---------------------------------------------------------------------- */

static void put_tensors(writer *w, const pith_manifest *m)
{
    put_varint(w, m->n_tensors);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *t = &m->tensors[i];
        put_string(w, t->name, strlen(t->name));
        put_varint(w, t->n_rows);
        put_varint(w, t->n_cols);
        put_varint(w, t->unit_tiles);
        put_varint(w, t->source_dtype);
        put_varint(w, t->basis);
        put_varint(w, t->scale);
        put_f32(w, t->base_step);
    }
}

static char *copy_name(pith_arena *arena, pith_str s)
{
    char *name = pith_arena_take(arena, s.len + 1);
    if (!name) return NULL;
    memcpy(name, s.s, s.len);
    name[s.len] = 0;
    return name;
}

static pith_status get_tensors(pith_ctx *ctx, cursor *c, pith_manifest *m)
{
    m->n_tensors = get_count(c, 10);
    if (!(m->tensors = pith_arena_take(m->arena, m->n_tensors * sizeof *m->tensors))) return PITH_E_MEMORY;
    uint64_t units = 0;
    for (size_t i = 0; i < m->n_tensors && !c->bad; i++) {
        pith_coded_tensor *t = &m->tensors[i];
        if (!(t->name = copy_name(m->arena, get_string(c)))) return PITH_E_MEMORY;
        uint64_t rows = get_varint(c), cols = get_varint(c), tiles = get_varint(c), dtype = get_varint(c), basis = get_varint(c), scale = get_varint(c);
        t->base_step = get_f32(c);
        /* 2^31 values a dimension and 2^20 a unit's tiles bound every product below in 64 bits */
        if (c->bad || !rows || rows > INT32_MAX || !cols || cols > INT32_MAX || !tiles || tiles > (1 << 20) || basis > 7 || dtype > UINT32_MAX || scale > UINT32_MAX ||
            !(t->base_step > 0 && isfinite(t->base_step)) || tiles * ((cols + 31) / 32) > (1 << 20))
            return pith_fail(ctx, PITH_E_CORRUPT, "tensor %zu of the table is damaged", i);
        t->n_rows = (uint32_t)rows, t->n_cols = (uint32_t)cols, t->unit_tiles = (uint32_t)tiles;
        t->source_dtype = (uint32_t)dtype, t->basis = (uint32_t)basis, t->scale = (uint32_t)scale, t->first_unit = (uint32_t)units;
        units += pith_coded_units(t);
        if (units > INT32_MAX) c->bad = true;
    }
    m->n_units = (size_t)units;
    return c->bad || c->p != c->end ? pith_fail(ctx, PITH_E_CORRUPT, "the tensor table is damaged") : PITH_OK;
}

float pith_coarse_value(uint8_t code) { return ldexpf(pith_step_of_code(code), -16); }
uint8_t pith_coarse_code(float x) { return (uint8_t)PITH_MIN(PITH_MAX(lrintf(8 * log2f(x)) + 128, 0), 255); }

static void put_vectors(writer *w, const pith_manifest *m)
{
    put_varint(w, m->n_vectors);
    for (size_t i = 0; i < m->n_vectors; i++) {
        const pith_vector *v = &m->vectors[i];
        put_string(w, v->name, strlen(v->name));
        put_varint(w, v->n);
        put_u8(w, v->coarse);
        for (size_t k = 0; k < v->n && !v->coarse; k++) put_f32(w, v->x[k]);
        for (size_t k = 0; k < v->n && v->coarse; k++) put_u8(w, pith_coarse_code(v->x[k]));
        for (size_t k = 0; k < v->n && v->coarse; k++) put_u8(w, v->wide ? v->wide[k] : 0);
    }
}

static pith_status get_vectors(pith_ctx *ctx, cursor *c, pith_manifest *m)
{
    m->n_vectors = get_count(c, 3);
    if (!(m->vectors = pith_arena_take(m->arena, m->n_vectors * sizeof *m->vectors))) return PITH_E_MEMORY;
    for (size_t i = 0; i < m->n_vectors && !c->bad; i++) {
        pith_vector *v = &m->vectors[i];
        if (!(v->name = copy_name(m->arena, get_string(c)))) return PITH_E_MEMORY;
        uint64_t n = get_varint(c);
        v->coarse = get_u8(c);
        const uint8_t *p = n <= (uint64_t)(c->end - c->p) ? get(c, (size_t)n * (v->coarse ? 2 : 4)) : NULL;
        if (!p) return pith_fail(ctx, PITH_E_CORRUPT, "vector %zu of the file is damaged", i);
        v->n = (uint32_t)n;
        if (!(v->x = pith_arena_take(m->arena, (size_t)n * sizeof *v->x))) return PITH_E_MEMORY;
        v->wide = v->coarse ? (uint8_t *)(uintptr_t)p + n : NULL;
        for (size_t k = 0; k < n; k++) {
            if (v->coarse && v->wide[k] > 1) return pith_fail(ctx, PITH_E_CORRUPT, "vector %zu of the file is damaged", i);
            uint32_t u = v->coarse ? 0 : pith_le32(p + 4 * k);
            if (v->coarse) v->x[k] = pith_coarse_value(p[k]);
            else memcpy(&v->x[k], &u, 4);
        }
    }
    return c->bad || c->p != c->end ? pith_fail(ctx, PITH_E_CORRUPT, "the vectors are damaged") : PITH_OK;
}

/* The rotation, split in low and high bytes: the high ones compress. */
static void put_rotation(writer *w, const pith_manifest *m)
{
    size_t n = (size_t)m->rotation_n * m->rotation_n;
    put_u32(w, m->rotation_n);
    for (size_t i = 0; i < n; i++) put_u8(w, (uint8_t)(m->rotation[i] & 0xff));
    for (size_t i = 0; i < n; i++) put_u8(w, (uint8_t)((uint16_t)m->rotation[i] >> 8));
}

static pith_status get_rotation(pith_ctx *ctx, cursor *c, pith_manifest *m)
{
    m->rotation_n = get_u32(c);
    size_t left = (size_t)(c->end - c->p), n = (size_t)m->rotation_n * m->rotation_n;
    if (c->bad || m->rotation_n > 65536 || left != 2 * n) return pith_fail(ctx, PITH_E_CORRUPT, "the rotation is damaged");
    if (!(m->rotation = pith_arena_take(m->arena, n * sizeof *m->rotation))) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) m->rotation[i] = (int16_t)(uint16_t)(c->p[i] | c->p[n + i] << 8);
    return PITH_OK;
}

/* ---- writing the manifest --------------------------------------------------------------------- */

static char *meta_text(const pith_manifest *m)
{
    cJSON *o = m->meta ? cJSON_Parse(m->meta) : cJSON_CreateObject();
    cJSON_DeleteItemFromObjectCaseSensitive(o, "model");
    cJSON *model = m->stored.n_files ? NULL : cJSON_AddObjectToObject(o, "model");
    char *text = m->stored.n_files || (model && settings_to_json(&m->settings, model)) ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    return text;
}

static void make_header(const pith_manifest *m, uint32_t n_sections, uint8_t header[PITH_FILE_HEADER])
{
    memset(header, 0, PITH_FILE_HEADER);
    memcpy(header, PITH_FILE_MAGIC, 8);
    pith_put32(header + 8, m->stored.n_files ? PITH_FILE_VERSION : 1);
    pith_put32(header + 12, n_sections);
    pith_put64(header + 16, m->manifest_bytes);
    pith_put64(header + 24, m->total_bytes);
    pith_put64(header + 32, m->floor_bytes);
    pith_put64(header + 40, m->exact_bytes);
    pith_put64(header + 48, !m->stored.n_files ? 0 : m->stored.is_folder ? 2 : 1);
    pith_put64(header + 56, pith_hash(header, 56));
}

/* Sections are packed by zstd where that helps; META never is, so that it can be rewritten in its place. */
static pith_status section_bytes(pith_ctx *ctx, pith_section_kind kind, const uint8_t *raw, size_t raw_len, uint8_t header[SECTION_HEADER], uint8_t **packed, size_t *len)
{
    size_t bound = ZSTD_compressBound(raw_len);
    if (!(*packed = pith_alloc(ctx, bound))) return PITH_E_MEMORY;
    *len = kind == PITH_SECTION_META ? raw_len : ZSTD_compress(*packed, bound, raw, raw_len, ZSTD_LEVEL);
    bool zstd = !ZSTD_isError(*len) && *len < raw_len;
    if (!zstd) {
        memcpy(*packed, raw, raw_len);
        *len = raw_len;
    }
    memset(header, 0, SECTION_HEADER);
    pith_put32(header, kind);
    pith_put32(header + 4, zstd);
    pith_put64(header + 8, raw_len);
    pith_put64(header + 16, *len);
    pith_put64(header + 24, pith_hash(*packed, *len));
    pith_put64(header + 32, pith_hash(header, 32));
    return PITH_OK;
}

static pith_status write_section(pith_ctx *ctx, pith_out *out, pith_section_kind kind, const uint8_t *raw, size_t raw_len)
{
    uint8_t header[SECTION_HEADER], *packed = NULL;
    size_t len;
    PITH_TRY(section_bytes(ctx, kind, raw, raw_len, header, &packed, &len));
    pith_status status = pith_out_write(out, header, sizeof header);
    if (status == PITH_OK) status = pith_out_write(out, packed, len);
    if (status == PITH_OK) status = pith_out_pad(out, 8);
    pith_free(ctx, packed);
    return status;
}

/* The meta text, padded with spaces to `room` bytes (0: to some more than it needs, for what is measured later). */
static pith_status padded_meta(pith_ctx *ctx, const pith_manifest *m, size_t *room, uint8_t **padded)
{
    char *text = meta_text(m);
    if (!text) return pith_fail(ctx, PITH_E_MEMORY, "out of memory for the manifest");
    size_t len = strlen(text);
    if (!*room) *room = PITH_ROUND_UP(len + (m->stored.n_files ? 0 : META_SPARE), 8);
    pith_status status = PITH_OK;
    if (len > *room) status = pith_fail(ctx, PITH_E_LIMIT, "the manifest's text takes %zu bytes, %zu were kept for it", len, *room);
    else if (!(*padded = pith_alloc(ctx, *room))) status = PITH_E_MEMORY;
    if (status == PITH_OK) {
        memcpy(*padded, text, len);
        memset(*padded + len, ' ', *room - len);
    }
    free(text);
    return status;
}

pith_status pith_manifest_write(pith_ctx *ctx, pith_out *out, pith_manifest *m)
{
    uint8_t header[PITH_FILE_HEADER] = {0}, *meta = NULL;
    m->meta_room = 0;
    PITH_TRY(pith_out_write(out, header, sizeof header));
    PITH_TRY(padded_meta(ctx, m, &m->meta_room, &meta));
    pith_status status = write_section(ctx, out, PITH_SECTION_META, meta, m->meta_room);
    pith_free(ctx, meta);
    const int first = m->stored.n_files ? PITH_SECTION_FILES : PITH_SECTION_VOCAB, last = m->stored.n_files ? PITH_SECTION_FILES : PITH_SECTION_ROTATION;
    for (int kind = first; kind <= last && status == PITH_OK; kind++) {
        writer w = {.ctx = ctx};
        switch (kind) {
        case PITH_SECTION_FILES: pith_stored_put(&w, &m->stored); break;
        case PITH_SECTION_VOCAB: put_vocab(&w, &m->vocab); break;
        case PITH_SECTION_TENSORS: put_tensors(&w, m); break;
        case PITH_SECTION_VECTORS: put_vectors(&w, m); break;
        case PITH_SECTION_MODELS: put_bytes(&w, m->models.data, m->models.len); break;
        default: put_rotation(&w, m); break;
        }
        status = w.failed ? PITH_E_MEMORY : write_section(ctx, out, (pith_section_kind)kind, w.data, w.len);
        pith_free(ctx, w.data);
    }
    m->manifest_bytes = pith_out_tell(out);
    return status;
}

pith_status pith_manifest_write_exact(pith_ctx *ctx, pith_out *out, pith_manifest *m)
{
    PITH_TRY(write_section(ctx, out, PITH_SECTION_EXACT, m->exact_models.data, m->exact_models.len));
    m->manifest_bytes = pith_out_tell(out);
    return PITH_OK;
}

pith_status pith_manifest_patch(pith_ctx *ctx, pith_out *out, const pith_manifest *m)
{
    uint8_t header[PITH_FILE_HEADER], section[SECTION_HEADER], *meta = NULL, *packed = NULL;
    size_t room = m->meta_room, len;
    PITH_TRY(padded_meta(ctx, m, &room, &meta));
    pith_status status = section_bytes(ctx, PITH_SECTION_META, meta, room, section, &packed, &len);
    pith_free(ctx, meta);
    make_header(m, m->stored.n_files ? 2 : PITH_SECTION_ROTATION + (m->exact_models.len > 0), header);
    if (status == PITH_OK) status = pith_out_patch(out, 0, header, sizeof header);
    if (status == PITH_OK) status = pith_out_patch(out, PITH_FILE_HEADER, section, sizeof section);
    if (status == PITH_OK) status = pith_out_patch(out, PITH_FILE_HEADER + SECTION_HEADER, packed, len);
    pith_free(ctx, packed);
    return status;
}

static void packet_header(const pith_packet *p, uint8_t h[PITH_PACKET_HEADER])
{
    uint32_t gain;
    memcpy(&gain, &p->gain, 4);
    pith_put32(h, p->check);
    pith_put32(h + 4, p->unit);
    pith_put32(h + 8, p->len);
    pith_put32(h + 12, gain);
    h[16] = p->level;
    h[17] = p->kind;
    pith_put16(h + 18, 0x7470); /* "pt": what a reader looks for after damage */
}

/* XXH3 of the header's fields, chained with that of the payload: cheap for a reader that has both apart. */
static uint32_t packet_check(const uint8_t h[PITH_PACKET_HEADER], const uint8_t *payload, size_t len)
{
    uint8_t both[PITH_PACKET_HEADER - 4 + 8];
    memcpy(both, h + 4, PITH_PACKET_HEADER - 4);
    pith_put64(both + PITH_PACKET_HEADER - 4, pith_hash(payload, len));
    return (uint32_t)pith_hash(both, sizeof both);
}

pith_status pith_packet_write(pith_out *out, const pith_packet *p, const uint8_t *payload)
{
    uint8_t h[PITH_PACKET_HEADER];
    packet_header(p, h);
    pith_put32(h, packet_check(h, payload, p->len));
    PITH_TRY(pith_out_write(out, h, sizeof h));
    return pith_out_write(out, payload, p->len);
}

/* ---- reading ---------------------------------------------------------------------------------- */

void pith_manifest_free(pith_ctx *ctx, pith_manifest *m)
{
    if (m->arena) {
        if (m->meta) pith_free(ctx, m->meta);
        pith_arena_free(m->arena);
    }
    *m = (pith_manifest){0};
}

static pith_status read_at(pith_ctx *ctx, const pith_reader *r, uint64_t offset, void *dst, size_t len)
{
    for (uint8_t *p = dst; len > 0;) {
        ssize_t n = pread(r->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return ctx ? pith_fail(ctx, PITH_E_IO, "%s: cannot read %zu bytes at %llu: %s", r->path, len, (unsigned long long)offset, n ? strerror(errno) : "the file has shrunk") : PITH_E_IO;
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return PITH_OK;
}

/* The payload of a section of `raw_len` bytes, unpacked into the arena; packed: `len` bytes as they are in the file. */
static pith_status unpack_section(pith_ctx *ctx, pith_reader *r, uint32_t kind, const uint8_t *packed, size_t len, size_t raw_len, const uint8_t **raw)
{
    uint8_t *to;
    /* The checksums say that a pith wrote this; the frame's own size must agree before memory is taken. */
    if (ZSTD_getFrameContentSize(packed, len) != raw_len) return pith_fail(ctx, PITH_E_CORRUPT, "%s: section %u has another size than it says", r->path, kind);
    if (!(to = pith_arena_take(r->manifest.arena, raw_len))) return PITH_E_MEMORY;
    if (ZSTD_decompress(to, raw_len, packed, len) != raw_len) return pith_fail(ctx, PITH_E_CORRUPT, "%s: section %u cannot be unpacked", r->path, kind);
    *raw = to;
    return PITH_OK;
}

/* One section: header checked, payload read, verified, unpacked into the arena. */
static pith_status read_section(pith_ctx *ctx, pith_reader *r, uint64_t *offset, uint32_t *kind, cursor *c)
{
    pith_manifest *m = &r->manifest;
    uint8_t h[SECTION_HEADER];
    uint64_t end = m->manifest_bytes;
    if (end - *offset < sizeof h) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the manifest ends within a section at %llu", r->path, (unsigned long long)*offset);
    PITH_TRY(read_at(ctx, r, *offset, h, sizeof h));
    *offset += sizeof h;
    uint64_t raw_len = pith_le64(h + 8), len = pith_le64(h + 16);
    uint32_t codec = pith_le32(h + 4);
    *kind = pith_le32(h);
    if (pith_hash(h, 32) != pith_le64(h + 32) || len > end - *offset || raw_len > MAX_SECTION || codec > 1 || (codec == 0 && raw_len != len))
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: the manifest is damaged at %llu (section %u)", r->path, (unsigned long long)*offset, *kind);
    uint8_t *data = codec == 1 ? pith_alloc(ctx, (size_t)len) : pith_arena_take(m->arena, (size_t)len);
    if (!data) return PITH_E_MEMORY;
    const uint8_t *raw = data;
    pith_status status = read_at(ctx, r, *offset, data, (size_t)len);
    if (status == PITH_OK && pith_hash(data, (size_t)len) != pith_le64(h + 24))
        status = pith_fail(ctx, PITH_E_CORRUPT, "%s: section %u of the manifest is damaged (its checksum does not match)", r->path, *kind);
    if (codec == 1 && status == PITH_OK) status = unpack_section(ctx, r, *kind, data, (size_t)len, (size_t)raw_len, &raw);
    if (codec == 1) pith_free(ctx, data);
    PITH_TRY(status);
    *c = (cursor){raw, raw + raw_len, false};
    *offset = PITH_ROUND_UP(*offset + len, 8);
    return PITH_OK;
}

static pith_status read_meta(pith_ctx *ctx, pith_reader *r, bool stored, cursor *c)
{
    pith_manifest *m = &r->manifest;
    cJSON *o = cJSON_ParseWithLength((const char *)c->p, (size_t)(c->end - c->p));
    bool ok = o && (stored || settings_from_json(cJSON_GetObjectItemCaseSensitive(o, "model"), &m->settings));
    cJSON_Delete(o);
    if (!ok) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the settings in the manifest are damaged", r->path);
    m->meta = pith_strndup(ctx, (const char *)c->p, (size_t)(c->end - c->p));
    return m->meta ? PITH_OK : PITH_E_MEMORY;
}

static pith_status read_manifest(pith_ctx *ctx, pith_reader *r)
{
    pith_manifest *m = &r->manifest;
    uint8_t h[PITH_FILE_HEADER];
    if (r->file_bytes < sizeof h) {
        size_t n = (size_t)PITH_MIN(r->file_bytes, 8);
        PITH_TRY(read_at(ctx, r, 0, h, n));
        if (n == 0 || memcmp(h, PITH_FILE_MAGIC, n) != 0) return pith_fail(ctx, PITH_E_FORMAT, "%s: not a .pith file", r->path);
        return pith_fail(ctx, PITH_E_FORMAT, "%s: only %llu bytes of a .pith file; more is needed", r->path, (unsigned long long)r->file_bytes);
    }
    PITH_TRY(read_at(ctx, r, 0, h, sizeof h));
    if (memcmp(h, PITH_FILE_MAGIC, 8) != 0) return pith_fail(ctx, PITH_E_FORMAT, "%s: not a .pith file", r->path);
    if (pith_le32(h + 8) > PITH_FILE_VERSION)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: written in version %u of the format; this program reads up to %d", r->path, pith_le32(h + 8), PITH_FILE_VERSION);
    if (pith_hash(h, 56) != pith_le64(h + 56)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the header is damaged", r->path);
    uint32_t n_sections = pith_le32(h + 12), seen = 0;
    m->manifest_bytes = pith_le64(h + 16);
    m->total_bytes = pith_le64(h + 24);
    m->floor_bytes = pith_le64(h + 32);
    m->exact_bytes = pith_le64(h + 40);
    const uint64_t form = pith_le64(h + 48); /* 0: a model; 1: a stored file, 2: a folder */
    const bool stored = form > 0;
    if (form > 2) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: a kind of .pith that this program does not know", r->path);
    if (m->manifest_bytes > r->file_bytes)
        return pith_fail(ctx, PITH_E_FORMAT, "%s: cut within its manifest: %llu bytes are there, at least %llu are needed (%llu for a first layer of everything)", r->path,
                         (unsigned long long)r->file_bytes, (unsigned long long)m->manifest_bytes, (unsigned long long)m->floor_bytes);
    uint64_t offset = sizeof h;
    for (uint32_t i = 0; i < n_sections; i++) {
        uint32_t kind = 0;
        cursor c = {0};
        PITH_TRY(read_section(ctx, r, &offset, &kind, &c));
        if (kind < 32 && seen >> kind & 1) return pith_fail(ctx, PITH_E_CORRUPT, "%s: section %u is there twice", r->path, kind);
        if (stored ? kind >= PITH_SECTION_VOCAB && kind <= PITH_SECTION_EXACT : kind == PITH_SECTION_FILES)
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: section %u is of another kind of .pith than the header says", r->path, kind);
        if (kind < 32) seen |= 1u << kind;
        pith_status status = PITH_OK;
        switch (kind) {
        case PITH_SECTION_META: status = read_meta(ctx, r, stored, &c); break;
        case PITH_SECTION_VOCAB: status = get_vocab(ctx, m->arena, &c, &m->vocab); break;
        case PITH_SECTION_TENSORS: status = get_tensors(ctx, &c, m); break;
        case PITH_SECTION_VECTORS: status = get_vectors(ctx, &c, m); break;
        case PITH_SECTION_MODELS: m->models = (pith_bytes){(uint8_t *)(uintptr_t)c.p, (size_t)(c.end - c.p)}; break;
        case PITH_SECTION_ROTATION: status = get_rotation(ctx, &c, m); break;
        case PITH_SECTION_FILES: status = pith_stored_get(ctx, m->arena, &c, &m->stored); break;
        case PITH_SECTION_EXACT: m->exact_models = (pith_bytes){(uint8_t *)(uintptr_t)c.p, (size_t)(c.end - c.p)}; break;
        default: pith_log(ctx, PITH_LOG_WARN, "%s: section %u is of a kind this program does not know; passed over", r->path, kind); break;
        }
        if (status != PITH_OK) return pith_fail_at(ctx, status, "%s", r->path);
    }
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *t = &m->tensors[i];
        if (t->scale && (t->scale > m->n_vectors || m->vectors[t->scale - 1].n != t->n_cols))
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: %s names column scales that do not fit it", r->path, t->name);
    }
    const uint32_t all = stored ? 1u << PITH_SECTION_META | 1u << PITH_SECTION_FILES : (2u << PITH_SECTION_ROTATION) - 2;
    if (stored) m->n_units = m->stored.n_chunks;
    m->stored.is_folder = form == 2;
    if ((seen & all) != all) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the manifest lacks a section", r->path);
    if (form == 1 && (m->stored.n_files > 1 || strchr(m->stored.files[0].name, '/')))
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: the header does not say what the manifest has", r->path);
    return PITH_OK;
}

/* Headers are read through a window, so that a walk over thousands of packets is few calls. */
typedef struct window {
    uint64_t start;
    size_t len;
    uint8_t data[1 << 16];
} window;

static const uint8_t *view(const pith_reader *r, window *w, uint64_t offset, size_t len)
{
    if (offset < w->start || offset + len > w->start + w->len) {
        size_t n = (size_t)PITH_MIN(r->file_bytes - offset, len <= PITH_PACKET_HEADER ? 64 : sizeof w->data);
        if (n < len || read_at(NULL, r, offset, w->data, n) != PITH_OK) return NULL;
        w->start = offset;
        w->len = n;
    }
    return w->data + (offset - w->start);
}

static bool parse_packet(const pith_reader *r, const uint8_t *h, uint64_t offset, pith_packet *p)
{
    uint32_t gain = pith_le32(h + 12);
    *p = (pith_packet){.check = pith_le32(h), .unit = pith_le32(h + 4), .len = pith_le32(h + 8), .level = h[16], .kind = h[17], .offset = offset + PITH_PACKET_HEADER};
    memcpy(&p->gain, &gain, 4);
    return pith_le16(h + 18) == 0x7470 && p->unit < r->manifest.n_units && p->level <= MAX_LEVEL && (p->kind == PITH_PACKET_CHUNK) == (r->manifest.stored.n_files > 0) && p->kind <= PITH_PACKET_CHUNK &&
           p->len <= r->manifest.total_bytes;
}

/* After damage: the next place where a whole packet with a right checksum begins; file_bytes if none. */
static uint64_t resume(pith_ctx *ctx, const pith_reader *r, window *w, uint64_t offset)
{
    uint8_t *payload = NULL;
    size_t cap = 0;
    for (; r->file_bytes - offset >= PITH_PACKET_HEADER; offset++) {
        const uint8_t *tail = view(r, w, offset, PITH_MIN((uint64_t)4096, r->file_bytes - offset));
        pith_packet p;
        if (!tail) break;
        if (!parse_packet(r, tail, offset, &p) || p.len > r->file_bytes - p.offset) continue;
        if (p.len > cap) {
            pith_free(ctx, payload);
            if (!(payload = pith_alloc(ctx, p.len))) break;
            cap = p.len;
        }
        if (pith_reader_payload(r, &p, payload) == PITH_OK) {
            pith_free(ctx, payload);
            return offset;
        }
    }
    pith_free(ctx, payload);
    return r->file_bytes;
}

static pith_status read_packets(pith_ctx *ctx, pith_reader *r)
{
    size_t cap = 0;
    uint64_t offset = r->manifest.manifest_bytes;
    window *w = pith_alloc(ctx, sizeof *w);
    if (!w) return PITH_E_MEMORY;
    w->start = w->len = 0;
    pith_status status = PITH_OK;
    while (r->file_bytes - offset >= PITH_PACKET_HEADER) {
        const uint8_t *h = view(r, w, offset, PITH_PACKET_HEADER);
        pith_packet p;
        if (!h) {
            status = pith_fail(ctx, PITH_E_IO, "%s: cannot read at %llu", r->path, (unsigned long long)offset);
            break;
        }
        bool whole = parse_packet(r, h, offset, &p);
        if (!whole && r->manifest.stored.n_files) break; /* all chunks are needed */
        if (!whole) {
            uint64_t next = resume(ctx, r, w, offset + 1);
            pith_log(ctx, PITH_LOG_WARN, "%s: damaged at byte %llu; %llu bytes passed over", r->path, (unsigned long long)offset, (unsigned long long)(next - offset));
            r->n_skipped += next - offset;
            offset = next;
            continue;
        }
        if (p.len > r->file_bytes - p.offset) break; /* the cut went through it */
        if (r->n_packets == cap) {
            cap = cap ? cap * 2 : 4096;
            pith_packet *grown = pith_resize(ctx, r->packets, cap * sizeof *grown);
            if (!grown) {
                status = PITH_E_MEMORY;
                break;
            }
            r->packets = grown;
        }
        r->packets[r->n_packets++] = p;
        offset = p.offset + p.len;
    }
    pith_free(ctx, w);
    return status;
}

/* A pipe goes to an unlinked file while it arrives, so that memory holds no second copy. */
static int spool(pith_ctx *ctx, int from, const char *path)
{
    const char *folder = getenv("TMPDIR");
    char name[512];
    snprintf(name, sizeof name, "%s/pith-XXXXXX", folder && *folder ? folder : "/tmp");
    int fd = mkstemp(name);
    if (fd < 0) {
        pith_fail(ctx, PITH_E_IO, "%s: cannot keep it in %s: %s (set TMPDIR)", path, name, strerror(errno));
        return -1;
    }
    unlink(name);
    static const size_t chunk = 1 << 18;
    uint8_t *buffer = pith_alloc(ctx, chunk);
    ssize_t n = buffer ? 1 : -1;
    while (buffer && (n = read(from, buffer, chunk)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        for (ssize_t done = 0, put_n; done < n; done += put_n) {
            put_n = write(fd, buffer + done, (size_t)(n - done));
            if (put_n < 0 && errno == EINTR) put_n = 0;
            if (put_n < 0) {
                n = -1;
                break;
            }
        }
        if (n < 0) break;
    }
    if (n < 0) {
        if (buffer) pith_fail(ctx, PITH_E_IO, "%s: %s", path, strerror(errno));
        close(fd);
        fd = -1;
    }
    pith_free(ctx, buffer);
    return fd;
}

static pith_status open_fd(pith_ctx *ctx, int fd, const char *path, uint64_t max_bytes, pith_reader *r)
{
    struct stat st;
    *r = (pith_reader){.fd = fd, .path = pith_strdup(ctx, path)};
    pith_status status = r->path ? PITH_OK : PITH_E_MEMORY;
    if (status == PITH_OK && fstat(fd, &st) != 0) status = pith_fail(ctx, PITH_E_IO, "%s: %s", path, strerror(errno));
    if (status == PITH_OK) {
        r->file_bytes = (uint64_t)st.st_size;
        if (max_bytes) r->file_bytes = PITH_MIN(r->file_bytes, max_bytes);
        r->manifest.arena = pith_arena_new(ctx);
        status = r->manifest.arena ? read_manifest(ctx, r) : PITH_E_MEMORY;
    }
    if (status == PITH_OK) status = read_packets(ctx, r);
    if (status != PITH_OK) pith_reader_close(ctx, r);
    return status;
}

pith_status pith_reader_open(pith_ctx *ctx, const char *path, uint64_t max_bytes, pith_reader *r)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    int fd = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        pith_status status = pith_fail(ctx, PITH_E_IO, "%s: %s", name, strerror(errno));
        if (fd >= 0) close(fd);
        return status;
    }
    if (S_ISDIR(st.st_mode)) {
        close(fd);
        return pith_fail(ctx, PITH_E_IO, "%s: is a folder, not a file", name);
    }
    if (!S_ISREG(st.st_mode)) {
        int kept = spool(ctx, fd, name);
        close(fd);
        if (kept < 0) return PITH_E_IO;
        fd = kept;
    }
    return open_fd(ctx, fd, name, max_bytes, r);
}

pith_status pith_reader_open_memory(pith_ctx *ctx, const uint8_t *data, size_t len, pith_reader *r)
{
    int fd = memfd_create("pith", MFD_CLOEXEC);
    if (fd < 0) return pith_fail(ctx, PITH_E_IO, "memory file: %s", strerror(errno));
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, data + done, len - done);
        if (n <= 0) {
            close(fd);
            return pith_fail(ctx, PITH_E_IO, "memory file: %s", strerror(errno));
        }
        done += (size_t)n;
    }
    return open_fd(ctx, fd, "memory", 0, r);
}

void pith_reader_close(pith_ctx *ctx, pith_reader *r)
{
    if (!r->path && !r->manifest.arena) return;
    close(r->fd);
    pith_free(ctx, r->packets);
    pith_free(ctx, r->path);
    pith_manifest_free(ctx, &r->manifest);
    *r = (pith_reader){.fd = -1};
}

pith_status pith_reader_payload(const pith_reader *r, const pith_packet *p, uint8_t *dst)
{
    uint8_t h[PITH_PACKET_HEADER];
    PITH_TRY(read_at(NULL, r, p->offset, dst, p->len));
    packet_header(p, h);
    return packet_check(h, dst, p->len) == p->check ? PITH_OK : PITH_E_CORRUPT;
}

const pith_vector *pith_manifest_vector(const pith_manifest *m, const char *name)
{
    for (size_t i = 0; i < m->n_vectors; i++)
        if (strcmp(m->vectors[i].name, name) == 0) return &m->vectors[i];
    return NULL;
}

const pith_vector *pith_manifest_gain(const pith_manifest *m, const char *scales)
{
    char name[128];
    size_t len = strlen(scales), tail = strlen(".weight");
    if (len < tail || len >= sizeof name || strcmp(scales + len - tail, ".weight") != 0) return NULL;
    snprintf(name, sizeof name, "%.*s.gain", (int)(len - tail), scales);
    return pith_manifest_vector(m, name);
}

const pith_coded_tensor *pith_manifest_tensor_of_unit(const pith_manifest *m, uint32_t unit)
{
    size_t low = 0, high = m->n_tensors;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (m->tensors[middle].first_unit <= unit) low = middle;
        else high = middle;
    }
    return &m->tensors[low];
}
