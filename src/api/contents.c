#include "api/contents.h"
#include "stream/weights/source.h"

static pith_entry *add_entries(pith_contents_full *f, size_t n)
{
    pith_entry *entries = pith_arena_take(f->arena, PITH_MAX(n, 1) * sizeof *entries);
    if (!entries) return NULL;
    memset(entries, 0, n * sizeof *entries);
    f->c.entries = entries;
    f->c.n_entries = n;
    return entries;
}

static void set_entry(pith_entry *e, const char *name, const char *type, const pith_tensor *t, uint64_t bytes)
{
    *e = (pith_entry){.name = name, .type = type, .n_dims = t->n_dims, .n_weights = pith_tensor_count(t), .bytes = bytes};
    memcpy(e->dims, t->dims, sizeof e->dims);
}

static pith_status from_model_file(pith_contents_full *f, uint64_t bytes)
{
    static const char *const kinds[] = {"unknown", "GGUF", "safetensors", "pith"};
    pith_entry *entries = add_entries(f, f->file->n_tensors);
    if (!entries) return PITH_E_MEMORY;
    for (size_t i = 0; i < f->file->n_tensors; i++) {
        const pith_named_tensor *nt = &f->file->tensors[i];
        set_entry(&entries[i], nt->name, pith_dtype_get((uint32_t)nt->t.dtype)->name, &nt->t, nt->len_bytes);
    }
    f->c.kind = kinds[f->file->kind];
    f->c.file_bytes = bytes;
    f->settings = &f->file->settings;
    f->vocab = &f->file->vocab;
    f->meta = f->file->meta;
    f->n_meta = f->file->n_meta;
    return PITH_OK;
}

/* Of a .pith the bytes of a tensor are its packets', and each packet says how much error it takes away. */
static pith_status from_reader(pith_contents_full *f)
{
    const pith_reader *r = &f->reader;
    const pith_manifest *m = &r->manifest;
    pith_entry *entries = add_entries(f, m->n_tensors + m->n_vectors);
    if (!entries) return PITH_E_MEMORY;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *t = &m->tensors[i];
        const pith_dtype_info *source = pith_dtype_get(t->source_dtype);
        set_entry(&entries[i], t->name, source ? source->name : "unknown", &(pith_tensor){.n_dims = 2, .dims = {t->n_rows, t->n_cols}}, 0);
    }
    for (size_t i = 0; i < m->n_vectors; i++) {
        const pith_vector *v = &m->vectors[i];
        set_entry(&entries[m->n_tensors + i], v->name, "vector", &(pith_tensor){.n_dims = 1, .dims = {v->n}}, (uint64_t)v->n * (v->coarse ? 1 : 4));
    }
    for (size_t i = 0; i < r->n_packets; i++) {
        const pith_packet *p = &r->packets[i];
        const pith_coded_tensor *t = pith_manifest_tensor_of_unit(m, p->unit);
        if (!t) continue; /* the reader lets no such packet through */
        pith_entry *e = &entries[t - m->tensors];
        e->bytes += PITH_PACKET_HEADER + p->len;
        e->n_packets++;
        e->kl_saved += p->gain;
        if (p->kind == PITH_PACKET_LEVEL) e->n_levels = PITH_MAX(e->n_levels, (unsigned)p->level + 1);
        e->exact |= p->kind == PITH_PACKET_EXACT;
    }
    f->c.kind = "pith";
    f->c.file_bytes = r->file_bytes;
    f->c.total_bytes = m->total_bytes;
    f->c.floor_bytes = m->floor_bytes;
    f->c.exact_bytes = m->exact_bytes;
    f->c.manifest_bytes = m->manifest_bytes;
    f->c.skipped_bytes = r->n_skipped;
    f->c.n_packets = r->n_packets;
    f->c.made = m->meta;
    f->settings = &m->settings;
    f->vocab = &m->vocab;
    return PITH_OK;
}

pith_status pith_contents_read(pith_ctx *ctx, const char *path, pith_contents **out)
{
    pith_contents_full *f = pith_calloc(ctx, 1, sizeof *f);
    if (!f) return PITH_E_MEMORY;
    pith_status status = PITH_OK;
    f->arena = pith_arena_new(ctx);
    if (!f->arena) {
        status = PITH_E_MEMORY;
        goto fail;
    }
    if (strcmp(path, "-") == 0 || pith_file_sniff(path) == PITH_FILE_PITH) {
        PITH_GOTO(pith_reader_open(ctx, path, 0, &f->reader), fail);
        f->is_pith = true;
        if (f->reader.manifest.stored.n_files) PITH_GOTO(pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: holds files to the bit, which are not read from a pipe; give the file's name", f->reader.path), fail);
        PITH_GOTO(from_reader(f), fail);
    } else {
        uint64_t bytes;
        PITH_GOTO(pith_source_open(ctx, path, &f->file, &bytes), fail);
        PITH_GOTO(from_model_file(f, bytes), fail);
    }
    for (size_t i = 0; i < f->c.n_entries; i++) f->c.n_weights += f->c.entries[i].n_weights;
    *out = &f->c;
    return PITH_OK;
fail:
    pith_contents_free(ctx, &f->c);
    return status;
}

void pith_contents_free(pith_ctx *ctx, pith_contents *contents)
{
    if (!contents) return;
    pith_contents_full *f = (pith_contents_full *)(void *)contents;
    if (f->is_pith) pith_reader_close(ctx, &f->reader);
    pith_model_file_close(ctx, f->file);
    pith_arena_free(f->arena);
    pith_free(ctx, f);
}
