/* GGUF: header, keys and tensor table.  Every count is checked against the bytes that are left before
 * anything is allocated for it, so memory stays in proportion to the file. */
#include "format/gguf.h"

#include <stdlib.h>

#define MAX_NAME 255            /* bytes of a tensor's name; llama.cpp takes 63 */
#define MAX_KEY 65535           /* bytes of a key; the specification's limit */
#define MAX_DIMS 4
#define MAX_NESTING 4           /* arrays of arrays */
#define MIN_KEY_BYTES 13        /* name's length, type, one byte */
#define MIN_TENSOR_BYTES 24     /* name's length, n_dims, type, offset */
#define DEFAULT_ALIGNMENT 32
#define MAX_ALIGNMENT ((uint64_t)1 << 24)

typedef struct reader {
    pith_ctx *ctx;
    const char *path;
    const uint8_t *data;
    size_t len, pos;
    char where[96];             /* what is being read, for messages */
} reader;

static pith_status PITH_PRINTF(2, 3) corrupt(reader *r, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return pith_fail(r->ctx, PITH_E_CORRUPT, "%s: %s at byte %zu: %s", r->path, r->where, r->pos, text);
}

static size_t left(const reader *r) { return r->len - r->pos; }

static pith_status need(reader *r, size_t n)
{
    if (n <= left(r)) return PITH_OK;
    return corrupt(r, "%zu bytes wanted, %zu left in the file; it is cut short or damaged", n, left(r));
}

static pith_status get_u32(reader *r, uint32_t *v)
{
    PITH_TRY(need(r, 4));
    *v = pith_le32(r->data + r->pos);
    r->pos += 4;
    return PITH_OK;
}

static pith_status get_u64(reader *r, uint64_t *v)
{
    PITH_TRY(need(r, 8));
    *v = pith_le64(r->data + r->pos);
    r->pos += 8;
    return PITH_OK;
}

static pith_status get_str(reader *r, pith_str *s)
{
    uint64_t n;
    PITH_TRY(get_u64(r, &n));
    if (n > left(r)) return corrupt(r, "a string of %llu bytes, %zu left in the file", (unsigned long long)n, left(r));
    *s = (pith_str){(const char *)r->data + r->pos, (size_t)n};
    r->pos += (size_t)n;
    return PITH_OK;
}

size_t pith_gguf_type_bytes(pith_gguf_type type)
{
    static const uint8_t sizes[PITH_GGUF_N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[type];
}

static pith_status get_type(reader *r, pith_gguf_type *type)
{
    uint32_t v;
    PITH_TRY(get_u32(r, &v));
    if (v >= PITH_GGUF_N_TYPES) return corrupt(r, "value type %u is not one of 0..%d", v, PITH_GGUF_N_TYPES - 1);
    *type = (pith_gguf_type)v;
    return PITH_OK;
}

/* Walk over n values of a type, checking all that is inside. */
static pith_status skip_values(reader *r, pith_gguf_type type, uint64_t n, int depth)
{
    size_t size = pith_gguf_type_bytes(type);
    if (size) {
        if (n > left(r) / size) return corrupt(r, "%llu values of %zu bytes, %zu bytes left in the file", (unsigned long long)n, size, left(r));
        r->pos += (size_t)n * size;
        return PITH_OK;
    }
    size_t least = type == PITH_GGUF_STRING ? 8 : 12;
    if (n > left(r) / least) return corrupt(r, "%llu strings or arrays, %zu bytes left in the file", (unsigned long long)n, left(r));
    for (uint64_t i = 0; i < n; i++) {
        if (type == PITH_GGUF_STRING) {
            pith_str s;
            PITH_TRY(get_str(r, &s));
        } else {
            if (depth == MAX_NESTING) return corrupt(r, "arrays are nested deeper than %d", MAX_NESTING);
            pith_gguf_type item;
            uint64_t n_items;
            PITH_TRY(get_type(r, &item));
            PITH_TRY(get_u64(r, &n_items));
            PITH_TRY(skip_values(r, item, n_items, depth + 1));
        }
    }
    return PITH_OK;
}

/* A name in a message: at most 60 bytes of it. */
static int shown(pith_str s) { return (int)PITH_MIN(s.len, 60); }

static pith_status read_key(reader *r, size_t i, pith_gguf_key *k)
{
    snprintf(r->where, sizeof r->where, "key %zu", i);
    PITH_TRY(get_str(r, &k->name));
    if (k->name.len == 0 || k->name.len > MAX_KEY) return corrupt(r, "its name has %zu bytes, 1..%d are allowed", k->name.len, MAX_KEY);
    if (memchr(k->name.s, 0, k->name.len)) return corrupt(r, "its name holds a zero byte");
    snprintf(r->where, sizeof r->where, "key %.*s", shown(k->name), k->name.s);
    PITH_TRY(get_type(r, &k->type));
    uint64_t n = 1;
    k->item_type = k->type;
    if (k->type == PITH_GGUF_ARRAY) {
        PITH_TRY(get_type(r, &k->item_type));
        PITH_TRY(get_u64(r, &n));
    }
    k->data = r->data + r->pos;
    PITH_TRY(skip_values(r, k->item_type, n, 1));
    k->n = (size_t)n;
    k->end = r->data + r->pos;
    if (k->type == PITH_GGUF_BOOL && k->data[0] > 1) return corrupt(r, "a truth value of %u", k->data[0]);
    return PITH_OK;
}

static int str_compare(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int c = memcmp(a, b, PITH_MIN(n_a, n_b));
    return c ? c : (n_a > n_b) - (n_a < n_b);
}

static int key_compare(const void *a, const void *b)
{
    const pith_gguf_key *x = *(const pith_gguf_key *const *)a, *y = *(const pith_gguf_key *const *)b;
    return str_compare(x->name.s, x->name.len, y->name.s, y->name.len);
}

static int name_compare(const void *a, const void *b)
{
    const pith_named_tensor *x = *(const pith_named_tensor *const *)a, *y = *(const pith_named_tensor *const *)b;
    return strcmp(x->name, y->name);
}

static int place_compare(const void *a, const void *b)
{
    const pith_named_tensor *x = *(const pith_named_tensor *const *)a, *y = *(const pith_named_tensor *const *)b;
    return (x->t.data > y->t.data) - (x->t.data < y->t.data);
}

static pith_status check_keys(reader *r, const pith_gguf *g)
{
    pith_arena *scratch = pith_scratch(r->ctx);
    pith_mark mark = pith_arena_mark(scratch);
    const pith_gguf_key **order = pith_arena_take(scratch, g->n_keys * sizeof *order);
    if (!order) return PITH_E_MEMORY;
    for (size_t i = 0; i < g->n_keys; i++) order[i] = &g->keys[i];
    qsort(order, g->n_keys, sizeof *order, key_compare);
    pith_status status = PITH_OK;
    for (size_t i = 1; i < g->n_keys && status == PITH_OK; i++) {
        pith_str name = order[i]->name;
        if (key_compare(&order[i - 1], &order[i]) == 0)
            status = pith_fail(r->ctx, PITH_E_CORRUPT, "%s: key %.*s is there twice", r->path, shown(name), name.s);
    }
    pith_arena_reset(scratch, mark);
    return status;
}

/* Names are unique and no two tensors share bytes. */
static pith_status check_tensors(reader *r, const pith_gguf *g)
{
    pith_arena *scratch = pith_scratch(r->ctx);
    pith_mark mark = pith_arena_mark(scratch);
    const pith_named_tensor **order = pith_arena_take(scratch, g->n_tensors * sizeof *order);
    if (!order) return PITH_E_MEMORY;
    for (size_t i = 0; i < g->n_tensors; i++) order[i] = &g->tensors[i];
    pith_status status = PITH_OK;
    qsort(order, g->n_tensors, sizeof *order, name_compare);
    for (size_t i = 1; i < g->n_tensors && status == PITH_OK; i++)
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            status = pith_fail(r->ctx, PITH_E_CORRUPT, "%s: tensor %.60s is there twice", r->path, order[i]->name);
    qsort(order, g->n_tensors, sizeof *order, place_compare);
    for (size_t i = 1; i < g->n_tensors && status == PITH_OK; i++) {
        const uint8_t *begin = order[i]->t.data, *before = order[i - 1]->t.data;
        if ((size_t)(begin - before) < order[i - 1]->len_bytes)
            status = pith_fail(r->ctx, PITH_E_CORRUPT, "%s: tensors %.60s and %.60s overlap at byte %zu", r->path,
                               order[i - 1]->name, order[i]->name, (size_t)(begin - g->data));
    }
    pith_arena_reset(scratch, mark);
    return status;
}

/* One line of the table.  Where the data is can be told only behind the last line: *offset counts from there. */
static pith_status read_tensor(reader *r, size_t i, pith_str *name, pith_named_tensor *nt, uint64_t *offset)
{
    snprintf(r->where, sizeof r->where, "tensor %zu", i);
    PITH_TRY(get_str(r, name));
    if (name->len == 0 || name->len > MAX_NAME) return corrupt(r, "its name has %zu bytes, 1..%d are allowed", name->len, MAX_NAME);
    if (memchr(name->s, 0, name->len)) return corrupt(r, "its name holds a zero byte");
    snprintf(r->where, sizeof r->where, "tensor %.*s", shown(*name), name->s);
    uint32_t n_dims, type;
    PITH_TRY(get_u32(r, &n_dims));
    if (n_dims > MAX_DIMS) return corrupt(r, "%u dimensions, at most %d are allowed", n_dims, MAX_DIMS);
    nt->t = (pith_tensor){.n_dims = n_dims ? (int)n_dims : 1, .dims = {1}};
    size_t count = 1;
    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t dim;
        PITH_TRY(get_u64(r, &dim));
        if (dim == 0 || dim > INT64_MAX || !pith_mul(count, (size_t)dim, &count) || count > INT64_MAX)
            return corrupt(r, "dimension %u is %llu", d, (unsigned long long)dim);
        nt->t.dims[n_dims - 1 - d] = (size_t)dim; /* the file lists the contiguous one first */
    }
    PITH_TRY(get_u32(r, &type));
    const pith_dtype_info *info = type < 64 ? pith_dtype_get(type) : NULL;
    if (!info) return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "%s: %s at byte %zu: tensor type %u is not known", r->path, r->where, r->pos, type);
    nt->t.dtype = (pith_dtype)type;
    size_t cols = nt->t.dims[nt->t.n_dims - 1];
    if (cols % info->block_len) return corrupt(r, "rows of %zu values are not whole blocks of %s (%zu)", cols, info->name, info->block_len);
    if (!pith_dtype_bytes(nt->t.dtype, count, &nt->len_bytes)) return corrupt(r, "%zu values of %s are more than memory can hold", count, info->name);
    PITH_TRY(get_u64(r, offset));
    return PITH_OK;
}

static pith_status read_alignment(reader *r, pith_gguf *g)
{
    g->alignment = DEFAULT_ALIGNMENT;
    const pith_gguf_key *k = pith_gguf_find(g, "general.alignment");
    if (!k) return PITH_OK;
    if (k->type != PITH_GGUF_U32) return pith_fail(r->ctx, PITH_E_CORRUPT, "%s: key general.alignment is not a 32-bit number", r->path);
    uint32_t a = pith_le32(k->data);
    if (a == 0 || a > MAX_ALIGNMENT || (a & (a - 1)))
        return pith_fail(r->ctx, PITH_E_CORRUPT, "%s: key general.alignment is %u, not a power of two up to 2^24", r->path, a);
    g->alignment = a;
    return PITH_OK;
}

static pith_status read_tensors(reader *r, pith_arena *arena, pith_gguf *g)
{
    pith_arena *scratch = pith_scratch(r->ctx);
    pith_mark mark = pith_arena_mark(scratch);
    g->tensors = pith_arena_take(arena, g->n_tensors * sizeof *g->tensors);
    pith_str *names = pith_arena_take(scratch, g->n_tensors * sizeof *names);
    uint64_t *offsets = pith_arena_take(scratch, g->n_tensors * sizeof *offsets);
    pith_status status = PITH_E_MEMORY;
    if (!g->tensors || !names || !offsets) goto done;
    size_t n_text = 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        PITH_GOTO(read_tensor(r, i, &names[i], &g->tensors[i], &offsets[i]), done);
        n_text += names[i].len + 1;
    }
    char *text = pith_arena_take(arena, n_text);
    status = PITH_E_MEMORY;
    if (!text) goto done;
    size_t start = PITH_ROUND_UP(r->pos, g->alignment), room = r->len > start ? r->len - start : 0;
    g->data_start = start;
    for (size_t i = 0; i < g->n_tensors; i++) {
        pith_named_tensor *nt = &g->tensors[i];
        memcpy(text, names[i].s, names[i].len);
        text[names[i].len] = 0;
        nt->name = text;
        text += names[i].len + 1;
        if (offsets[i] % g->alignment) {
            status = pith_fail(r->ctx, PITH_E_CORRUPT, "%s: tensor %.60s: offset %llu is not a multiple of the alignment %zu", r->path,
                               nt->name, (unsigned long long)offsets[i], g->alignment);
            goto done;
        }
        if (offsets[i] > room || nt->len_bytes > room - offsets[i]) {
            status = pith_fail(r->ctx, PITH_E_CORRUPT,
                               "%s: tensor %.60s: %zu bytes at offset %llu, but the data section has %zu bytes; the file is cut short or damaged",
                               r->path, nt->name, nt->len_bytes, (unsigned long long)offsets[i], room);
            goto done;
        }
        nt->t.data = g->data + start + offsets[i];
    }
    status = check_tensors(r, g);
done:
    pith_arena_reset(scratch, mark);
    return status;
}

pith_status pith_gguf_parse(pith_ctx *ctx, pith_arena *arena, const char *path, const void *data, size_t len, pith_gguf *g)
{
    *g = (pith_gguf){.path = path, .data = data, .len = len};
    reader reading = {.ctx = ctx, .path = path, .data = data, .len = len, .where = "header"}, *r = &reading;
    if (len < 8 || memcmp(data, "GGUF", 4) != 0) return pith_fail(ctx, PITH_E_FORMAT, "%s: not a GGUF file: it does not begin with GGUF", path);
    r->pos = 4;
    uint64_t n_tensors, n_keys;
    PITH_TRY(get_u32(r, &g->version));
    if (g->version != 0 && (g->version & 0xffff) == 0)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: a big-endian GGUF file; only little-endian ones are read", path);
    if (g->version < 2 || g->version > 3)
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: GGUF version %u; versions 2 and 3 are read", path, g->version);
    PITH_TRY(get_u64(r, &n_tensors));
    PITH_TRY(get_u64(r, &n_keys));
    if (n_tensors > left(r) / MIN_TENSOR_BYTES) return corrupt(r, "%llu tensors cannot be in a file of %zu bytes", (unsigned long long)n_tensors, len);
    if (n_keys > left(r) / MIN_KEY_BYTES) return corrupt(r, "%llu keys cannot be in a file of %zu bytes", (unsigned long long)n_keys, len);
    g->n_keys = (size_t)n_keys;
    g->n_tensors = (size_t)n_tensors;
    g->keys = pith_arena_take(arena, g->n_keys * sizeof *g->keys);
    if (!g->keys) return PITH_E_MEMORY;
    for (size_t i = 0; i < g->n_keys; i++) PITH_TRY(read_key(r, i, &g->keys[i]));
    PITH_TRY(check_keys(r, g));
    PITH_TRY(read_alignment(r, g));
    return read_tensors(r, arena, g);
}

const pith_gguf_key *pith_gguf_find(const pith_gguf *g, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < g->n_keys; i++)
        if (g->keys[i].name.len == n && memcmp(g->keys[i].name.s, name, n) == 0) return &g->keys[i];
    return NULL;
}
