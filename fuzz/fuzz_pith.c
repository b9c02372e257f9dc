/* The .pith reader, the unit decoder and that of stored files on any bytes.  Checksums are put right first, or nothing would get
 * past them: what is tested is a file made by an enemy, not by chance. */

#include "format/pith_file.h"
#include "fuzz.h"
#include "stage/quantize/embedded.h"
#include "stream/weights/decode.h"
#include "stream/weights/lossless.h"

#define SECTION 40
#define MOST_GROUPS 4096 /* a unit that is decoded here: larger ones take long and show nothing more */
#define MOST_BYTES ((size_t)1 << 20) /* so is a chunk of a stored file */

static void put_checksums_right(uint8_t *p, size_t len)
{
    if (len < PITH_FILE_HEADER) return;
    memcpy(p, PITH_FILE_MAGIC, 8);
    pith_put64(p + 56, pith_hash(p, 56));
    uint64_t at = PITH_FILE_HEADER, end = PITH_MIN(pith_le64(p + 16), len);
    for (uint32_t i = 0; i < pith_le32(p + 12) && at <= end && end - at >= SECTION; i++) {
        uint64_t stored = pith_le64(p + at + 16);
        if (stored > end - at - SECTION) return;
        pith_put64(p + at + 24, pith_hash(p + at + SECTION, (size_t)stored));
        pith_put64(p + at + 32, pith_hash(p + at, 32));
        at = PITH_ROUND_UP(at + SECTION + stored, 8);
    }
    for (at = end; at <= len && len - at >= PITH_PACKET_HEADER;) {
        uint32_t n = pith_le32(p + at + 8);
        if (n > len - at - PITH_PACKET_HEADER) return;
        uint8_t both[24];
        memcpy(both, p + at + 4, 16);
        pith_put64(both + 16, pith_hash(p + at + PITH_PACKET_HEADER, n));
        pith_put32(p + at, (uint32_t)pith_hash(both, sizeof both));
        at += PITH_PACKET_HEADER + n;
    }
}

static void decode(const pith_reader *r, const pith_models *models, const pith_packet *p)
{
    const pith_coded_tensor *t = pith_manifest_tensor_of_unit(&r->manifest, p->unit);
    size_t tiles = pith_unit_tiles(t, p->unit), blocks = pith_coded_blocks(t);
    if (tiles * blocks > MOST_GROUPS) return;
    uint8_t *payload = malloc(p->len + 1), *memory = aligned_alloc(64, PITH_ROUND_UP(pith_unit_bytes(tiles, blocks), 64)),
            *scratch = aligned_alloc(64, PITH_ROUND_UP(pith_unit_scratch(tiles, blocks), 64));
    pith_unit u;
    pith_unit_init(&u, tiles, blocks, memory);
    /* the same bytes as every level in turn: each must be taken or refused without harm */
    if (pith_reader_payload(r, p, payload) == PITH_OK)
        for (int k = 0; k < PITH_MAX_LEVELS && pith_unit_decode(&u, models, PITH_ISA_SCALAR, payload, p->len, scratch) == PITH_OK; k++) require(u.level == k);
    free(payload);
    free(memory);
    free(scratch);
}

/* What the table promises to those who restore its files. */
static void walk_table(const pith_stored *s)
{
    uint64_t n_chunks = 0;
    for (size_t i = 0; i < s->n_files; i++) {
        const pith_stored_file *f = &s->files[i];
        uint64_t at = 0;
        require(f->name[0] && f->name[0] != '/' && f->first_chunk == n_chunks);
        require(i == 0 || strcmp(s->files[i - 1].name, f->name) < 0);
        for (size_t k = 0; k < f->n_stretches; k++) {
            const pith_stretch *t = &f->stretches[k];
            require(t->len > 0 && t->chunk > 0 && t->chunk <= PITH_CHUNK_MAX && t->at == at && t->first_chunk == n_chunks);
            require(pith_stretch_chunks(t) > 0);
            n_chunks += pith_stretch_chunks(t);
            at += t->len;
        }
        require(f->len == at);
    }
    require(n_chunks == s->n_chunks);
}

static void decode_chunk(pith_ctx *ctx, const pith_reader *r, const pith_packet *p)
{
    const pith_stored_file *file;
    const pith_stretch *t;
    uint64_t at;
    require(p->unit < r->manifest.stored.n_chunks);
    size_t len = pith_stored_chunk(&r->manifest.stored, p->unit, &file, &t, &at);
    require(len > 0 && at < file->len && len <= file->len - at);
    if (len > MOST_BYTES) return;
    uint8_t *payload = malloc(PITH_MAX(p->len, 1)), *bytes = malloc(len); /* no longer, so that a sanitizer sees what is beyond */
    require(payload && bytes);
    pith_status status = pith_lossless_chunk(ctx, r, p, payload, bytes);
    require(status == PITH_OK || status == PITH_E_CORRUPT || status == PITH_E_MEMORY);
    free(payload);
    free(bytes);
}

static void read_stored(pith_ctx *ctx, const pith_reader *r)
{
    require(r->manifest.n_tensors == 0);
    walk_table(&r->manifest.stored);
    for (size_t i = 0; i < r->n_packets && i < 16; i++) decode_chunk(ctx, r, &r->packets[i]);
}

static void read_model(pith_ctx *ctx, const pith_reader *r, pith_models *models)
{
    require(r->manifest.n_units == 0 || r->manifest.n_tensors > 0);
    if (pith_models_read(r->manifest.models.data, r->manifest.models.len, models) == PITH_OK)
        for (size_t i = 0; i < r->n_packets && i < 16; i++) decode(r, models, &r->packets[i]);
    /* all of it as a loader does, exact layer too */
    size_t groups = 0;
    pith_decoded d;
    for (size_t i = 0; i < r->manifest.n_tensors && groups <= MOST_GROUPS; i++) {
        const pith_coded_tensor *t = &r->manifest.tensors[i];
        size_t blocks = pith_coded_blocks(t);
        groups += blocks > MOST_GROUPS ? blocks : blocks * PITH_MIN(pith_coded_tiles(t), MOST_GROUPS);
    }
    if (groups <= MOST_GROUPS && pith_decode(ctx, r, &d) == PITH_OK) pith_decoded_free(ctx, r->manifest.n_tensors, &d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    pith_ctx *ctx = fuzz_ctx((size_t)64 << 20);
    pith_reader r;
    uint8_t *copy = fuzz_copy(data, len);
    pith_models *models = malloc(sizeof *models);
    require(models != NULL);
    put_checksums_right(copy, len);
    if (pith_reader_open_memory(ctx, copy, len, &r) == PITH_OK) {
        if (pith_is_lossless(&r)) read_stored(ctx, &r);
        else read_model(ctx, &r, models);
        pith_reader_close(ctx, &r);
    } else {
        require(pith_error(ctx)[0] != 0);
    }
    require(pith_memory_used(ctx) < (size_t)1 << 20);
    pith_ctx_free(ctx);
    free(models);
    free(copy);
    return 0;
}
