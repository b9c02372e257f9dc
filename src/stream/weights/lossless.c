#include "stream/weights/lossless.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <zstd.h>

#include "format/gguf.h"
#include "format/safetensors.h"
#include "stage/code/blocks.h"
#include "stage/code/floats.h"

/* Bytes of a chunk: of floats, of blocks, of what zstd packs.  Larger ones pay less for their models, smaller ones stay in the caches. */
#define FLOATS_CHUNK ((size_t)1 << 20)
#define BLOCKS_CHUNK ((size_t)2 << 20)
#define BYTES_CHUNK ((size_t)4 << 20)
#define ZSTD_LEVEL 15
#define LEAST_ROW 64                /* values of a row with a level of its own */
#define USUAL_ROW 1024
#define MAX_DEPTH 16                /* of folders */
#define BATCH 4                     /* chunks a thread, between two writes */

/* ---- one chunk -------------------------------------------------------------------------------- */

/* The first byte of a payload; numbers are in files.  The hash of the chunk's bytes follows: what a reader's own arithmetic made of them
 * is held to it. */
typedef enum chunk_kind { AS_IT_IS, ZSTD, CODED } chunk_kind;
enum { CHUNK_HEAD = 1 + 8 };

static pith_dtype dtype_of(const pith_stretch *t) { return (pith_dtype)(t->dtype - 1); }
static bool is_coded(const pith_stretch *t) { return t->dtype && (pith_floats_has(dtype_of(t)) || pith_blocks_has(dtype_of(t))); }
static size_t n_items(const pith_stretch *t, size_t len) { return len / pith_dtype_get(t->dtype - 1)->block_bytes; }

static size_t bound(const pith_stretch *t, size_t len)
{
    size_t coded = !is_coded(t) ? 0 : pith_floats_has(dtype_of(t)) ? pith_floats_bound(dtype_of(t), n_items(t, len)) : pith_blocks_bound(n_items(t, len));
    return CHUNK_HEAD + PITH_MAX(PITH_MAX(len, coded), ZSTD_compressBound(len));
}

static pith_status encode_chunk(pith_ctx *ctx, const pith_stretch *t, const uint8_t *src, size_t len, uint8_t *dst, size_t *coded)
{
    const size_t cap = bound(t, len) - CHUNK_HEAD;
    uint8_t *to = dst + CHUNK_HEAD;
    pith_status status = PITH_OK;
    *coded = len;
    if (is_coded(t)) {
        if (pith_floats_has(dtype_of(t))) status = pith_floats_encode(ctx, dtype_of(t), src, n_items(t, len), t->row, to, cap, coded);
        else status = pith_blocks_encode(ctx, dtype_of(t), src, n_items(t, len), to, cap, coded);
        dst[0] = CODED;
    } else {
        *coded = ZSTD_compress(to, cap, src, len, ZSTD_LEVEL);
        dst[0] = ZSTD;
    }
    if (status == PITH_OK && (ZSTD_isError(*coded) || *coded >= len)) {
        dst[0] = AS_IT_IS;
        memcpy(to, src, len);
        *coded = len;
    }
    pith_put64(dst + 1, pith_hash(src, len));
    *coded += CHUNK_HEAD;
    return status;
}

static pith_status decode_payload(pith_ctx *ctx, const pith_stretch *t, uint8_t kind, const uint8_t *src, size_t coded, uint8_t *dst, size_t len)
{
    if (kind == ZSTD) return ZSTD_decompress(dst, len, src, coded) == len ? PITH_OK : PITH_E_CORRUPT;
    if (kind == CODED && is_coded(t)) {
        if (pith_floats_has(dtype_of(t))) return pith_floats_decode(ctx, dtype_of(t), src, coded, dst, n_items(t, len), t->row);
        return pith_blocks_decode(ctx, dtype_of(t), src, coded, dst, n_items(t, len));
    }
    if (kind != AS_IT_IS || coded != len) return PITH_E_CORRUPT;
    memcpy(dst, src, len);
    return PITH_OK;
}

static pith_status decode_chunk(pith_ctx *ctx, const pith_stretch *t, const uint8_t *src, size_t coded, uint8_t *dst, size_t len)
{
    if (coded < CHUNK_HEAD) return PITH_E_CORRUPT;
    PITH_TRY(decode_payload(ctx, t, src[0], src + CHUNK_HEAD, coded - CHUNK_HEAD, dst, len));
    return pith_hash(dst, len) == pith_le64(src + 1) ? PITH_OK : PITH_E_CORRUPT;
}

/* ---- files and their stretches ---------------------------------------------------------------- */

typedef struct source_file {
    char *path, *name;
    pith_map map;
} source_file;

typedef struct sources {
    pith_ctx *ctx;
    source_file *files;
    size_t n, cap;
    bool is_folder;
} sources;

static pith_status add_file(sources *s, const char *path, const char *name)
{
    if (!pith_stored_name((pith_str){name, strlen(name)})) {
        const char *slash = strrchr(path, '/');
        return pith_fail(s->ctx, PITH_E_ARGUMENT, "%.*s: a file in it has a name with control characters, or a very long one; rename it", (int)(slash ? slash - path : 0), path);
    }
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        source_file *grown = pith_resize(s->ctx, s->files, cap * sizeof *grown);
        if (!grown) return PITH_E_MEMORY;
        s->files = grown;
        s->cap = cap;
    }
    source_file *f = &s->files[s->n];
    *f = (source_file){.path = pith_strdup(s->ctx, path), .name = pith_strdup(s->ctx, name)};
    s->n++;
    return f->path && f->name ? PITH_OK : PITH_E_MEMORY;
}

static int by_name(const void *a, const void *b) { return strcmp(((const source_file *)a)->name, ((const source_file *)b)->name); }

/* All files below a folder. */
static pith_status add_folder(sources *s, const char *path, const char *name, int depth)
{
    struct dirent **entries;
    if (depth > MAX_DEPTH) return pith_fail(s->ctx, PITH_E_LIMIT, "%s: more than %d folders deep; does a link lead back up?", path, MAX_DEPTH);
    int n = scandir(path, &entries, NULL, NULL);
    if (n == 2 && *name) pith_log(s->ctx, PITH_LOG_WARN, "%s: an empty folder is not kept", path);
    if (n < 0) return pith_fail(s->ctx, PITH_E_IO, "%s: %s", path, strerror(errno));
    pith_status status = PITH_OK;
    for (int i = 0; i < n; i++) {
        const char *entry = entries[i]->d_name;
        struct stat st;
        if (status == PITH_OK && strcmp(entry, ".") && strcmp(entry, "..")) {
            char *below = pith_format(s->ctx, "%s/%s", path, entry), *its_name = *name ? pith_format(s->ctx, "%s/%s", name, entry) : pith_strdup(s->ctx, entry);
            if (!below || !its_name) status = PITH_E_MEMORY;
            else if (stat(below, &st) != 0) status = pith_fail(s->ctx, PITH_E_IO, "%s: %s", below, strerror(errno));
            else if (S_ISDIR(st.st_mode)) status = add_folder(s, below, its_name, depth + 1);
            else if (S_ISREG(st.st_mode)) status = add_file(s, below, its_name);
            else pith_log(s->ctx, PITH_LOG_WARN, "%s: neither a file nor a folder; left out", below);
            pith_free(s->ctx, below);
            pith_free(s->ctx, its_name);
        }
        free(entries[i]);
    }
    free(entries);
    return status;
}

static pith_status add_source(sources *s, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return pith_fail(s->ctx, PITH_E_IO, "%s: %s", path, strerror(errno));
    if ((s->is_folder = S_ISDIR(st.st_mode))) {
        PITH_TRY(add_folder(s, path, "", 0));
        if (s->n) qsort(s->files, s->n, sizeof *s->files, by_name);
        return s->n ? PITH_OK : pith_fail(s->ctx, PITH_E_IO, "%s: there is no file in it", path);
    }
    if (!S_ISREG(st.st_mode)) return pith_fail(s->ctx, PITH_E_IO, "%s: neither a file nor a folder", path);
    const char *slash = strrchr(path, '/');
    return add_file(s, path, slash ? slash + 1 : path);
}

typedef struct piece {
    const uint8_t *data;
    size_t len;
    const pith_tensor *t;
} piece;

static int by_place(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    return x->data != y->data ? (x->data > y->data) - (x->data < y->data) : (x->len > y->len) - (x->len < y->len);
}

/* The tensors of a file in the order of their bytes; none of what is no model file, or a damaged one. */
static pith_status find_tensors(pith_ctx *ctx, pith_arena *arena, const source_file *f, piece **pieces, size_t *n)
{
    const pith_named_tensor *tensors = NULL;
    pith_model_file *file = NULL;
    pith_gguf gguf;
    pith_status status = PITH_OK;
    size_t n_tensors = 0;
    *n = 0;
    pith_file_kind kind = pith_file_sniff(f->path);
    if (kind == PITH_FILE_GGUF) {
        status = pith_gguf_parse(ctx, arena, f->path, f->map.data, f->map.len, &gguf);
        if (status == PITH_OK) tensors = gguf.tensors, n_tensors = gguf.n_tensors;
    } else if (kind == PITH_FILE_SAFETENSORS) {
        status = pith_safetensors_open_memory(ctx, f->path, f->map.data, f->map.len, &file);
        if (status == PITH_OK) tensors = file->tensors, n_tensors = file->n_tensors;
    }
    if (status == PITH_OK && n_tensors) {
        pith_tensor *copies = pith_arena_take(arena, n_tensors * sizeof *copies);
        *pieces = pith_arena_take(arena, n_tensors * sizeof **pieces);
        if (!copies || !*pieces) status = PITH_E_MEMORY;
        for (size_t i = 0; i < n_tensors && status == PITH_OK; i++) {
            copies[i] = tensors[i].t;
            if (tensors[i].len_bytes) (*pieces)[(*n)++] = (piece){tensors[i].t.data, tensors[i].len_bytes, &copies[i]};
        }
        if (*n) qsort(*pieces, *n, sizeof **pieces, by_place);
    } else if (status != PITH_OK && status != PITH_E_MEMORY && status != PITH_E_CANCELLED) {
        pith_log(ctx, PITH_LOG_WARN, "%s; it is stored as bytes", pith_error(ctx));
        status = PITH_OK;
    }
    pith_model_file_close(ctx, file);
    return status;
}

uint32_t pith_lossless_chunk_bytes(pith_dtype dtype, size_t row)
{
    const bool floats = pith_floats_has(dtype);
    const size_t item = pith_dtype_get((uint32_t)dtype)->block_bytes * (floats ? row : 1), chunk = floats ? FLOATS_CHUNK : BLOCKS_CHUNK;
    return (uint32_t)(PITH_MAX(chunk / item, 1) * item);
}

static pith_stretch stretch_of(const piece *p)
{
    pith_stretch t = {.len = p->len, .chunk = BYTES_CHUNK};
    if (!p->t) return t;
    t.dtype = (uint32_t)p->t->dtype + 1;
    if (!is_coded(&t)) return (pith_stretch){.len = p->len, .chunk = BYTES_CHUNK};
    size_t cols = pith_tensor_cols(p->t);
    if (pith_floats_has(p->t->dtype)) t.row = (uint32_t)(cols >= LEAST_ROW && cols <= PITH_FLOATS_MAX_ROW ? cols : USUAL_ROW);
    t.chunk = pith_lossless_chunk_bytes(p->t->dtype, t.row);
    return t;
}

/* A file as tensors and what lies between them. */
static pith_status cut_file(pith_ctx *ctx, pith_arena *arena, const source_file *f, pith_stored *s, pith_stored_file *to, size_t *n_tensors)
{
    piece *pieces = NULL;
    size_t n;
    PITH_TRY(find_tensors(ctx, arena, f, &pieces, &n));
    *to = (pith_stored_file){.name = f->name, .len = f->map.len, .first_chunk = s->n_chunks, .stretches = pith_arena_take(arena, (2 * n + 1) * sizeof *to->stretches)};
    if (!to->stretches) return PITH_E_MEMORY;
    if (!f->map.len) return PITH_OK;
    const uint8_t *at = f->map.data, *end = at + f->map.len;
    pith_stretch *last = NULL;
    for (size_t i = 0; i <= n; i++) {
        piece gap = {.data = at, .len = (size_t)((i < n ? pieces[i].data : end) - at)};
        const piece *both[2] = {&gap, i < n ? &pieces[i] : NULL};
        for (int k = 0; k < 2; k++) {
            if (!both[k] || !both[k]->len) continue;
            pith_stretch t = stretch_of(both[k]);
            t.at = (uint64_t)(at - f->map.data);
            at += t.len;
            if (!t.dtype && last && !last->dtype) last->len += t.len; /* bytes after bytes */
            else to->stretches[to->n_stretches] = t, last = &to->stretches[to->n_stretches++];
        }
    }
    for (size_t i = 0; i < to->n_stretches; i++) {
        pith_stretch *t = &to->stretches[i];
        t->first_chunk = s->n_chunks;
        if (pith_stretch_chunks(t) > UINT32_MAX - s->n_chunks) return pith_fail(ctx, PITH_E_LIMIT, "%s: too large", f->path);
        s->n_chunks += (size_t)pith_stretch_chunks(t);
    }
    *n_tensors += n;
    return PITH_OK;
}

static void close_source(sources *s, source_file *f)
{
    if (f->map.path) pith_map_close(s->ctx, &f->map);
    f->map = (pith_map){0};
}

static void free_sources(sources *s)
{
    for (size_t i = 0; i < s->n; i++) {
        close_source(s, &s->files[i]);
        pith_free(s->ctx, s->files[i].path);
        pith_free(s->ctx, s->files[i].name);
    }
    pith_free(s->ctx, s->files);
}

/* Files are mapped one after the other: a folder may have more than a process can map. */
static pith_status make_table(sources *s, pith_arena *arena, pith_stored *stored, pith_lossless_result *result)
{
    if (!(stored->files = pith_arena_take(arena, s->n * sizeof *stored->files))) return PITH_E_MEMORY;
    for (size_t i = 0; i < s->n; i++) {
        PITH_TRY(pith_map_open(s->ctx, s->files[i].path, &s->files[i].map));
        PITH_TRY(cut_file(s->ctx, arena, &s->files[i], stored, &stored->files[i], &result->n_tensors));
        result->source_bytes += s->files[i].map.len;
        close_source(s, &s->files[i]);
    }
    stored->n_files = result->n_files = s->n;
    stored->is_folder = s->is_folder;
    return PITH_OK;
}

/* The bytes of a file whose table is made. */
static pith_status map_again(sources *s, source_file *f, const pith_stored_file *as)
{
    if (f->map.path) return PITH_OK;
    PITH_TRY(pith_map_open(s->ctx, f->path, &f->map));
    return f->map.len == as->len ? PITH_OK : pith_fail(s->ctx, PITH_E_IO, "%s: changed while it was read", f->path);
}

/* ---- writing ---------------------------------------------------------------------------------- */

typedef struct chunk {
    const pith_stretch *t;
    uint8_t *raw, *coded;          /* raw of a source: in its map */
    const pith_map *map;
    size_t len, coded_len, coded_cap, raw_cap;
    pith_packet packet;            /* restoring */
    pith_status status;
} chunk;

typedef struct batch {
    pith_ctx *ctx;
    const pith_reader *r;          /* restoring */
    chunk *chunks;
    size_t n;
} batch;

static bool grow(pith_ctx *ctx, uint8_t **memory, size_t *cap, size_t need)
{
    if (need <= *cap) return true;
    pith_free(ctx, *memory);
    *memory = pith_alloc(ctx, need);
    *cap = *memory ? need : 0;
    return *memory;
}

static void encode_task(void *arg, size_t index, PITH_UNUSED int worker)
{
    batch *b = arg;
    chunk *c = &b->chunks[index];
    c->status = encode_chunk(b->ctx, c->t, c->raw, c->len, c->coded, &c->coded_len);
    uint8_t *again = c->status == PITH_OK ? pith_alloc(b->ctx, c->len) : NULL;
    if (c->status == PITH_OK && !again) c->status = PITH_E_MEMORY;
    if (c->status == PITH_OK) c->status = decode_chunk(b->ctx, c->t, c->coded, c->coded_len, again, c->len);
    if (c->status == PITH_OK && memcmp(again, c->raw, c->len) != 0) c->status = PITH_E_CORRUPT;
    pith_free(b->ctx, again);
}

static void count_type(pith_lossless_result *r, const chunk *c)
{
    size_t i = 0;
    while (i < r->n_types && r->types[i].dtype != c->t->dtype) i++;
    if (i == PITH_LOSSLESS_MAX_TYPES) return;
    if (i == r->n_types) r->types[r->n_types++] = (pith_lossless_type){.dtype = c->t->dtype};
    r->types[i].bytes += c->len;
    r->types[i].coded += c->coded_len;
}

static int by_bytes(const void *a, const void *b)
{
    const pith_lossless_type *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static pith_status new_batch(pith_ctx *ctx, const pith_reader *r, batch *b)
{
    *b = (batch){.ctx = ctx, .r = r};
    return (b->chunks = pith_calloc(ctx, (size_t)pith_n_threads(ctx) * BATCH, sizeof *b->chunks)) ? PITH_OK : PITH_E_MEMORY;
}

static void free_batch(batch *b)
{
    for (size_t i = 0; b->chunks && i < (size_t)pith_n_threads(b->ctx) * BATCH; i++) {
        pith_free(b->ctx, b->chunks[i].coded);
        if (b->r) pith_free(b->ctx, b->chunks[i].raw);
    }
    pith_free(b->ctx, b->chunks);
}

static pith_status write_chunks(sources *s, const pith_stored *stored, pith_out *out, pith_lossless_result *result)
{
    pith_ctx *ctx = s->ctx;
    batch b;
    size_t first_open = 0;
    pith_status status = new_batch(ctx, NULL, &b);
    for (size_t done = 0; done < stored->n_chunks && status == PITH_OK; done += b.n) {
        PITH_GOTO(pith_progress(ctx, "compressing", done, stored->n_chunks), failed);
        b.n = PITH_MIN((size_t)pith_n_threads(ctx) * BATCH, stored->n_chunks - done);
        const pith_stored_file *file = NULL;
        for (size_t i = 0; i < b.n && status == PITH_OK; i++) {
            chunk *c = &b.chunks[i];
            uint64_t at;
            c->len = pith_stored_chunk(stored, done + i, &file, &c->t, &at);
            source_file *f = &s->files[file - stored->files];
            for (; i == 0 && &s->files[first_open] < f; first_open++) close_source(s, &s->files[first_open]);
            status = map_again(s, f, file);
            c->map = &f->map;
            if (status == PITH_OK) c->raw = (uint8_t *)(uintptr_t)(f->map.data + at);
            if (status == PITH_OK && !grow(ctx, &c->coded, &c->coded_cap, bound(c->t, c->len))) status = PITH_E_MEMORY;
        }
        if (status != PITH_OK) break;
        pith_parallel(ctx, b.n, encode_task, &b);
        for (size_t i = 0; i < b.n; i++) {
            chunk *c = &b.chunks[i];
            status = c->status == PITH_E_CORRUPT ? pith_fail(ctx, c->status, "a chunk does not come back as it was: a fault in this program or machine; nothing was written") : c->status;
            if (status == PITH_OK) status = pith_packet_write(out, &(pith_packet){.unit = (uint32_t)(done + i), .len = (uint32_t)c->coded_len, .kind = PITH_PACKET_CHUNK}, c->coded);
            if (status != PITH_OK) break;
            count_type(result, c);
            pith_map_forget(c->map, c->raw, c->len);
        }
    }
failed:
    free_batch(&b);
    return status;
}

static pith_status write_file(sources *s, pith_manifest *m, const char *target, pith_lossless_result *result)
{
    pith_ctx *ctx = s->ctx;
    pith_out *out;
    PITH_TRY(pith_out_open(ctx, target, &out));
    pith_status status = pith_manifest_write(ctx, out, m);
    if (status == PITH_OK) status = write_chunks(s, &m->stored, out, result);
    if (status == PITH_OK) {
        result->file_bytes = m->total_bytes = m->floor_bytes = m->exact_bytes = pith_out_tell(out);
        status = pith_manifest_patch(ctx, out, m);
    }
    if (status == PITH_OK) return pith_out_close(out);
    pith_out_discard(out);
    return status;
}

pith_status pith_lossless_compress(pith_ctx *ctx, const char *source, const char *target, pith_lossless_result *result)
{
    sources s = {.ctx = ctx};
    pith_manifest m = {0};
    double start = pith_now_s();
    *result = (pith_lossless_result){0};
    PITH_TRY(pith_out_check(ctx, target, source));
    pith_arena *arena = pith_arena_new(ctx);
    pith_status status = arena ? add_source(&s, source) : PITH_E_MEMORY;
    if (status == PITH_OK) status = make_table(&s, arena, &m.stored, result);
    m.meta = pith_format(ctx, "{\"made\": {\"by\": \"pith %s\", \"lossless\": true}}", pith_version());
    if (status == PITH_OK && !m.meta) status = PITH_E_MEMORY;
    if (status == PITH_OK) status = write_file(&s, &m, target, result);
    qsort(result->types, result->n_types, sizeof *result->types, by_bytes);
    result->seconds = pith_now_s() - start;
    pith_free(ctx, m.meta);
    free_sources(&s);
    pith_arena_free(arena);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------------- */

pith_status pith_lossless_chunk(pith_ctx *ctx, const pith_reader *r, const pith_packet *packet, uint8_t *payload, uint8_t *dst)
{
    const pith_stored_file *file;
    const pith_stretch *t;
    uint64_t at;
    size_t len = pith_stored_chunk(&r->manifest.stored, packet->unit, &file, &t, &at);
    PITH_TRY(pith_reader_payload(r, packet, payload));
    return decode_chunk(ctx, t, payload, packet->len, dst, len);
}

static void decode_task(void *arg, size_t index, PITH_UNUSED int worker)
{
    batch *b = arg;
    chunk *c = &b->chunks[index];
    c->status = pith_lossless_chunk(b->ctx, b->r, &c->packet, c->coded, c->raw);
}

static pith_status read_chunks(pith_ctx *ctx, batch *b, const pith_stored_file *file, uint64_t first, uint64_t n, pith_out *out)
{
    const pith_reader *r = b->r;
    const pith_stored_file *of;
    uint64_t at;
    for (uint64_t done = 0; done < n; done += b->n) {
        PITH_TRY(pith_progress(ctx, "restoring", first + done, r->manifest.stored.n_chunks));
        b->n = (size_t)PITH_MIN((uint64_t)pith_n_threads(ctx) * BATCH, n - done);
        for (size_t i = 0; i < b->n; i++) {
            chunk *c = &b->chunks[i];
            c->packet = r->packets[first + done + i];
            c->len = pith_stored_chunk(&r->manifest.stored, first + done + i, &of, &c->t, &at);
            if (!grow(ctx, &c->coded, &c->coded_cap, c->packet.len) || !grow(ctx, &c->raw, &c->raw_cap, c->len)) return PITH_E_MEMORY;
        }
        pith_parallel(ctx, b->n, decode_task, b);
        for (size_t i = 0; i < b->n; i++) {
            if (b->chunks[i].status == PITH_E_CORRUPT) return pith_fail(ctx, PITH_E_CORRUPT, "%s: damaged at byte %llu, which is in %s", r->path, (unsigned long long)b->chunks[i].packet.offset, file->name);
            if (b->chunks[i].status == PITH_E_MEMORY) return PITH_E_MEMORY;
            if (b->chunks[i].status != PITH_OK) return pith_fail(ctx, b->chunks[i].status, "%s: cannot read at %llu", r->path, (unsigned long long)b->chunks[i].packet.offset);
            PITH_TRY(pith_out_write(out, b->chunks[i].raw, b->chunks[i].len));
        }
    }
    return PITH_OK;
}

static pith_status restore_file(pith_ctx *ctx, batch *b, const pith_stored_file *f, const char *path)
{
    pith_out *out;
    const pith_stretch *last = f->n_stretches ? &f->stretches[f->n_stretches - 1] : NULL;
    uint64_t first = last ? f->stretches[0].first_chunk : 0, n = last ? last->first_chunk + pith_stretch_chunks(last) - first : 0;
    PITH_TRY(pith_out_open(ctx, path, &out));
    pith_status status = read_chunks(ctx, b, f, first, n, out);
    if (status == PITH_OK) return pith_out_close(out);
    pith_out_discard(out);
    return status;
}

/* The packets are the chunks, one after the other. */
static pith_status check_whole(pith_ctx *ctx, const pith_reader *r)
{
    const pith_stored *s = &r->manifest.stored;
    for (size_t i = 0; i < s->n_chunks; i++) {
        if (i < r->n_packets && r->packets[i].unit == i) continue;
        if (r->file_bytes < r->manifest.total_bytes)
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: %llu of %llu bytes are there; of files that are stored to the bit all are needed", r->path, (unsigned long long)r->file_bytes, (unsigned long long)r->manifest.total_bytes);
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: damaged: chunk %zu of %zu is missing", r->path, i, s->n_chunks);
    }
    return PITH_OK;
}

pith_status pith_lossless_restore(pith_ctx *ctx, const pith_reader *r, const char *target)
{
    const pith_stored *s = &r->manifest.stored;
    const bool is_folder = s->is_folder;
    batch b;
    PITH_TRY(check_whole(ctx, r));
    pith_status status = new_batch(ctx, r, &b);
    for (size_t i = 0; i < s->n_files && status == PITH_OK; i++) {
        char *path = is_folder ? pith_format(ctx, "%s/%s", target, s->files[i].name) : pith_strdup(ctx, target), *slash = path ? strrchr(path, '/') : NULL;
        status = path ? PITH_OK : PITH_E_MEMORY;
        if (status == PITH_OK && is_folder) {
            *slash = 0;
            status = pith_folder_make(ctx, path);
            *slash = '/';
        }
        if (status == PITH_OK) status = restore_file(ctx, &b, &s->files[i], path);
        if (status != PITH_OK && i > 0) pith_log(ctx, PITH_LOG_WARN, "%s: %zu of %zu files are there", target, i, s->n_files);
        pith_free(ctx, path);
    }
    free_batch(&b);
    return status;
}
