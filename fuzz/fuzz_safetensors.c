/* The safetensors reader on any bytes: no harm, and what is accepted can be read to its end. */

#include "format/safetensors.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    pith_ctx *ctx = fuzz_ctx((size_t)4 << 20 | len * 64);
    pith_model_file *file = NULL;
    pith_status status = pith_safetensors_open_memory(ctx, "fuzz", data, len, &file);
    require(status != PITH_E_MEMORY);
    require((status == PITH_OK) == (file != NULL) && (file || pith_error(ctx)[0]));
    size_t total = 0;
    volatile uint64_t sum = 0;
    for (size_t i = 0; file && i < file->n_tensors; i++) {
        const pith_named_tensor *nt = &file->tensors[i];
        char name[64];
        pith_hf_tensor_name(nt->name, name);
        total += nt->len_bytes;
        if (!nt->len_bytes) continue;
        sum += pith_hash(nt->t.data, nt->len_bytes);
        size_t cols = pith_tensor_cols(&nt->t), rows = pith_tensor_count(&nt->t) / cols;
        float x[4096];
        if (cols <= 4096) require(pith_tensor_rows_f32(&nt->t, rows - 1, rows, x) == PITH_OK);
    }
    require(total <= len);
    for (size_t i = 0; file && i < file->n_meta; i++) sum += strlen(file->meta[i].key) + strlen(file->meta[i].value);
    (void)sum;
    pith_model_file_close(ctx, file);
    pith_ctx_free(ctx);
    return 0;
}
