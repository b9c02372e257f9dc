/* Readers of data files on any bytes; the first byte chooses one. */

#include "data/readers.h"
#include "fuzz.h"

/* What was accepted is there to its end. */
static void use_values(const pith_values *v)
{
    size_t count = 1;
    for (int d = 0; d < v->n_dims; d++) count *= v->dims[d];
    require(count == v->count);
    volatile uint64_t sum = pith_hash(v->data, count * (v->type == PITH_FIELD_U8 ? 1 : 4));
    (void)sum;
}

static pith_status read_csv(pith_ctx *ctx, char separator, const char *text, size_t len)
{
    pith_csv csv;
    const char *const *cells = NULL;
    size_t n, first = 0;
    long value;
    pith_csv_begin(ctx, "fuzz", text, len, separator, &csv);
    pith_status status;
    while ((status = pith_csv_next(&csv, &cells, &n)) == PITH_OK && cells) {
        if (!first) first = n;
        require(n == first && n > 0 && csv.line >= 1);
        for (size_t i = 0; i < n; i++) require(strlen(cells[i]) <= len);
        (void)pith_csv_int(&csv, cells, n - 1, -5, 5, &value);
    }
    pith_csv_end(&csv);
    return status;
}

static pith_status read_jsonl(pith_ctx *ctx, const char *text, size_t len)
{
    pith_jsonl j = {.ctx = ctx, .what = "fuzz", .text = text, .len = len};
    cJSON *value;
    pith_status status;
    while ((status = pith_jsonl_next(&j, &value)) == PITH_OK && value) cJSON_Delete(value);
    require(!value && j.at <= len);
    return status;
}

static pith_status clean(pith_ctx *ctx, const char *text, size_t len)
{
    pith_text_buffer b = {.ctx = ctx}, again = {.ctx = ctx};
    pith_status status = pith_text_clean(&b, text, len);
    if (status == PITH_OK) status = pith_text_clean(&again, b.text, b.len);
    /* Clean text stays as it is. */
    if (status == PITH_OK) require(b.len == again.len && (b.len == 0 || memcmp(b.text, again.text, b.len) == 0));
    pith_free(ctx, b.text);
    pith_free(ctx, again.text);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    pith_ctx *ctx = fuzz_ctx((size_t)4 << 20 | len * 64);
    size_t held = pith_memory_used(ctx);
    int reader = data[0];
    const uint8_t *bytes = ++data;
    const char *text = (const char *)bytes;
    len--;
    pith_values a = {0}, b = {0};
    pith_image image = {0};
    pith_status status = PITH_OK;
    switch (reader % 8) {
    case 0: status = pith_idx_read(ctx, "fuzz", bytes, len, &a); break;
    case 1: status = pith_npy_read(ctx, "fuzz", bytes, len, &a); break;
    case 2: status = pith_cifar_read(ctx, "fuzz", bytes, len, 1 + reader / 8 % 2, 10, &b, &a); break;
    case 3: status = pith_image_read(ctx, "fuzz", bytes, len, &image); break;
    case 4: status = read_csv(ctx, ',', text, len); break;
    case 5: status = read_csv(ctx, '\t', text, len); break;
    case 6: status = read_jsonl(ctx, text, len); break;
    default: status = clean(ctx, text, len); break;
    }
    require(status == PITH_OK || pith_error(ctx)[0]);
    if (status == PITH_OK && a.data) use_values(&a);
    if (status == PITH_OK && image.data) {
        uint8_t square[3 * 8 * 8];
        pith_image_square(&image, 8, square);
    }
    pith_values_free(ctx, &a);
    pith_values_free(ctx, &b);
    pith_image_free(ctx, &image);
    require(pith_memory_used(ctx) == held);
    pith_ctx_free(ctx);
    return 0;
}
