/* The GGUF reader on any bytes: no harm, no memory beyond a multiple of the file, and what is accepted
 * can be walked through to its end. */

#include "format/gguf.h"
#include "fuzz.h"

static uint64_t touch(pith_str s) { return s.len ? pith_hash(s.s, s.len) : 0; }

/* Read all that the file points to. */
static uint64_t walk(const pith_model_file *file)
{
    uint64_t sum = 0;
    const pith_vocab *v = &file->vocab;
    for (size_t i = 0; i < v->n_tokens; i++) sum += touch(v->tokens[i]) + v->types[i] + (v->scores && v->scores[i] > 0);
    for (size_t i = 0; i < v->n_merges; i++) sum += touch(v->merges[i]);
    sum += touch(v->chat_template) + touch(v->charsmap);
    for (size_t i = 0; i < file->n_meta; i++) sum += strlen(file->meta[i].key) + strlen(file->meta[i].value);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const pith_named_tensor *nt = &file->tensors[i];
        size_t cols = pith_tensor_cols(&nt->t), rows = pith_tensor_count(&nt->t) / cols;
        require(nt->len_bytes > 0 && pith_model_file_find(file, nt->name) == nt);
        sum += pith_hash(nt->t.data, nt->len_bytes);
        if (cols > 4096) continue;
        float x[4096];
        require(pith_tensor_rows_f32(&nt->t, rows - 1, rows, x) == PITH_OK);
        sum += x[0] > 0;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    pith_ctx *ctx = fuzz_ctx((size_t)4 << 20 | len * 64);
    pith_model_file *file = NULL;
    pith_status status = pith_gguf_open_memory(ctx, "fuzz", data, len, &file);
    require(status != PITH_E_MEMORY); /* the limit above is generous: only a lie exceeds it */
    require((status == PITH_OK) == (file != NULL) && (file || pith_error(ctx)[0]));
    volatile uint64_t sum = file ? walk(file) : 0;
    (void)sum;
    pith_model_file_close(ctx, file);
    pith_ctx_free(ctx);
    return 0;
}
