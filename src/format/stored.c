#include "format/stored.h"

#include "format/bytes.h"
#include "stage/code/floats.h"

#define MAX_NAME 4096

void pith_stored_put(struct pith_writer *w, const pith_stored *s)
{
    put_varint(w, s->n_files);
    for (size_t i = 0; i < s->n_files; i++) {
        const pith_stored_file *f = &s->files[i];
        put_string(w, f->name, strlen(f->name));
        put_varint(w, f->n_stretches);
        for (size_t k = 0; k < f->n_stretches; k++) {
            put_varint(w, f->stretches[k].len);
            put_varint(w, f->stretches[k].dtype);
            put_varint(w, f->stretches[k].row);
            put_varint(w, f->stretches[k].chunk);
        }
    }
}

bool pith_stored_name(pith_str name)
{
    if (!name.len || name.len > MAX_NAME) return false;
    for (size_t i = 0; i < name.len; i++)
        if ((uint8_t)name.s[i] < 32 || name.s[i] == 127) return false;
    for (size_t at = 0, len; at <= name.len; at += len + 1) {
        const char *slash = memchr(name.s + at, '/', name.len - at);
        len = slash ? (size_t)(slash - (name.s + at)) : name.len - at;
        if (len == 0 || (len == 1 && name.s[at] == '.') || (len == 2 && memcmp(name.s + at, "..", 2) == 0)) return false;
    }
    return true;
}

static bool get_stretch(cursor *c, pith_stored *s, pith_stored_file *f, pith_stretch *t)
{
    uint64_t dtype, row, chunk;
    t->len = get_varint(c);
    dtype = get_varint(c);
    row = get_varint(c);
    chunk = get_varint(c);
    if (c->bad || t->len == 0 || t->len > UINT64_MAX - f->len || dtype > UINT32_MAX || row > PITH_FLOATS_MAX_ROW || chunk == 0 || chunk > PITH_CHUNK_MAX) return false;
    const pith_dtype_info *info = dtype ? pith_dtype_get((uint32_t)dtype - 1) : NULL;
    if ((info && pith_floats_has((pith_dtype)(dtype - 1))) != (row > 0)) return false;
    if (dtype && (!info || t->len % info->block_bytes || chunk % (PITH_MAX(row, 1) * info->block_bytes))) return false;
    t->dtype = (uint32_t)dtype;
    t->row = (uint32_t)row;
    t->chunk = (uint32_t)chunk;
    t->first_chunk = s->n_chunks;
    t->at = f->len;
    const uint64_t n = pith_stretch_chunks(t);
    if (n > UINT32_MAX - s->n_chunks) return false; /* packets number them in 32 bits */
    s->n_chunks += (size_t)n;
    f->len += t->len;
    return true;
}

pith_status pith_stored_get(pith_ctx *ctx, pith_arena *arena, struct pith_cursor *c, pith_stored *s)
{
    s->n_files = get_count(c, 2);
    if (c->bad || !s->n_files) return pith_fail(ctx, PITH_E_CORRUPT, "the table of files is damaged");
    if (!(s->files = pith_arena_take(arena, s->n_files * sizeof *s->files))) return PITH_E_MEMORY;
    for (size_t i = 0; i < s->n_files; i++) {
        pith_stored_file *f = &s->files[i];
        pith_str name = get_string(c);
        *f = (pith_stored_file){.n_stretches = get_count(c, 4)};
        if (c->bad || !pith_stored_name(name)) return pith_fail(ctx, PITH_E_CORRUPT, "file %zu of the table has a name that cannot be one", i);
        char *copy = pith_arena_take(arena, name.len + 1);
        f->stretches = pith_arena_take(arena, PITH_MAX(f->n_stretches, 1) * sizeof *f->stretches);
        if (!copy || !f->stretches) return PITH_E_MEMORY;
        memcpy(copy, name.s, name.len);
        copy[name.len] = 0;
        f->name = copy;
        f->first_chunk = s->n_chunks;
        if (i && strcmp(s->files[i - 1].name, copy) >= 0) return pith_fail(ctx, PITH_E_CORRUPT, "the table of files is not in the order of their names at %s", copy);
        for (size_t k = 0; k < f->n_stretches; k++)
            if (!get_stretch(c, s, f, &f->stretches[k])) return pith_fail(ctx, PITH_E_CORRUPT, "the table of files is damaged at %s", f->name);
    }
    return c->bad || c->p != c->end ? pith_fail(ctx, PITH_E_CORRUPT, "the table of files is damaged") : PITH_OK;
}

uint32_t pith_stored_chunk(const pith_stored *s, uint64_t chunk, const pith_stored_file **file, const pith_stretch **stretch, uint64_t *at)
{
    size_t low = 0, high = s->n_files; /* the last that does not begin behind it: never an empty one */
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (s->files[middle].first_chunk <= chunk) low = middle;
        else high = middle;
    }
    const pith_stored_file *f = *file = &s->files[low];
    for (low = 0, high = f->n_stretches; high - low > 1;) {
        size_t middle = (low + high) / 2;
        if (f->stretches[middle].first_chunk <= chunk) low = middle;
        else high = middle;
    }
    const pith_stretch *t = *stretch = &f->stretches[low];
    const uint64_t before = (chunk - t->first_chunk) * t->chunk;
    *at = t->at + before;
    return (uint32_t)PITH_MIN((uint64_t)t->chunk, t->len - before);
}
