/* pith's side of bench/lossless: commands on lines, fields apart by tabs, each answered by a line of JSON.
 *     load PATH TYPE ROW   raw values of TYPE (F32, F16, BF16, Q4_0 ..); floats have ROW to a row
 *     round                code and decode all of it on one thread, in chunks as `pith compress --lossless` makes them */
#include <stdio.h>
#include <stdlib.h>

#include "stage/code/blocks.h"
#include "stage/code/floats.h"
#include "stream/weights/lossless.h"

typedef struct values {
    pith_dtype dtype;
    size_t row, item;              /* bytes of a value or block */
    pith_map map;
    size_t chunk, n_chunks, *len;
    uint8_t **coded, *back;
} values;

static bool type_of(const char *name, pith_dtype *dtype)
{
    static const pith_dtype types[] = {PITH_F32, PITH_F16, PITH_BF16, PITH_Q4_0, PITH_Q4_1, PITH_Q5_0, PITH_Q5_1, PITH_Q8_0};
    for (size_t i = 0; i < PITH_COUNT(types); i++)
        if (!strcmp(pith_dtype_get((uint32_t)types[i])->name, name)) return *dtype = types[i], true;
    return false;
}

static void drop(pith_ctx *ctx, values *v)
{
    for (size_t i = 0; i < v->n_chunks && v->coded; i++) pith_free(ctx, v->coded[i]);
    pith_free(ctx, v->coded);
    pith_free(ctx, v->len);
    pith_free(ctx, v->back);
    if (v->map.path) pith_map_close(ctx, &v->map);
    *v = (values){0};
}

static size_t bound(const values *v) { return pith_floats_has(v->dtype) ? pith_floats_bound(v->dtype, v->chunk / v->item) : pith_blocks_bound(v->chunk / v->item); }
static size_t chunk_len(const values *v, size_t i) { return PITH_MIN(v->chunk, v->map.len - i * v->chunk); }

static pith_status load(pith_ctx *ctx, const char *path, const char *type, size_t row, values *v)
{
    if (!type_of(type, &v->dtype) || row < 1 || row > PITH_FLOATS_MAX_ROW) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: no type %s in rows of %zu", path, type, row);
    v->row = row;
    v->item = pith_dtype_get((uint32_t)v->dtype)->block_bytes;
    PITH_TRY(pith_map_open(ctx, path, &v->map));
    if (!v->map.len || v->map.len % v->item) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: %zu bytes are no whole number of values", path, v->map.len);
    v->chunk = pith_lossless_chunk_bytes(v->dtype, row);
    v->n_chunks = PITH_CEIL_DIV(v->map.len, v->chunk);
    v->coded = pith_calloc(ctx, v->n_chunks, sizeof *v->coded);
    v->len = pith_calloc(ctx, v->n_chunks, sizeof *v->len);
    v->back = pith_calloc(ctx, v->chunk, 1);
    for (size_t i = 0; i < v->n_chunks && v->coded; i++)
        if (!(v->coded[i] = pith_calloc(ctx, bound(v), 1))) return PITH_E_MEMORY;
    return v->coded && v->len && v->back ? PITH_OK : PITH_E_MEMORY;
}

static pith_status encode(pith_ctx *ctx, values *v, size_t i)
{
    const uint8_t *from = v->map.data + i * v->chunk;
    const size_t n = chunk_len(v, i) / v->item;
    if (pith_floats_has(v->dtype)) return pith_floats_encode(ctx, v->dtype, from, n, v->row, v->coded[i], bound(v), &v->len[i]);
    return pith_blocks_encode(ctx, v->dtype, from, n, v->coded[i], bound(v), &v->len[i]);
}

static pith_status decode(pith_ctx *ctx, values *v, size_t i)
{
    const size_t n = chunk_len(v, i) / v->item;
    if (pith_floats_has(v->dtype)) return pith_floats_decode(ctx, v->dtype, v->coded[i], v->len[i], v->back, n, v->row);
    return pith_blocks_decode(ctx, v->dtype, v->coded[i], v->len[i], v->back, n);
}

static pith_status run_round(pith_ctx *ctx, values *v)
{
    size_t coded = 0;
    double encode_s = pith_now_s(), decode_s = 0;
    for (size_t i = 0; i < v->n_chunks; i++) PITH_TRY(encode(ctx, v, i));
    encode_s = pith_now_s() - encode_s;
    for (size_t i = 0; i < v->n_chunks; i++) {
        double start = pith_now_s();
        PITH_TRY(decode(ctx, v, i));
        decode_s += pith_now_s() - start;
        coded += v->len[i];
        if (memcmp(v->back, v->map.data + i * v->chunk, chunk_len(v, i))) return pith_fail(ctx, PITH_E_CORRUPT, "chunk %zu comes back as something else", i);
    }
    printf("{\"bytes\": %zu, \"coded\": %zu, \"encode_s\": %.6f, \"decode_s\": %.6f}\n", v->map.len, coded, encode_s, decode_s);
    return PITH_OK;
}

int main(void)
{
    pith_ctx *ctx;
    values v = {0};
    char line[4096], path[3072], type[32];
    size_t row;
    pith_status status = pith_ctx_new(NULL, &ctx);
    while (status == PITH_OK && fgets(line, sizeof line, stdin)) {
        if (!strcmp(line, "round\n") && v.n_chunks) {
            status = run_round(ctx, &v);
        } else if (sscanf(line, "load\t%3071[^\t]\t%31[^\t]\t%zu", path, type, &row) == 3) {
            drop(ctx, &v);
            status = load(ctx, path, type, row, &v);
            if (status == PITH_OK) printf("{\"bytes\": %zu}\n", v.map.len);
        } else {
            status = pith_fail(ctx, PITH_E_ARGUMENT, "no command: %s", line);
        }
        fflush(stdout);
    }
    if (status != PITH_OK) fprintf(stderr, "bench-lossless: %s\n", pith_error(ctx));
    drop(ctx, &v);
    pith_ctx_free(ctx);
    return status != PITH_OK;
}
