/* Arrays: IDX, NPY, CIFAR's records. */
#include <limits.h>

#include "data/readers.h"
#include "tensor/tensor.h"

void pith_values_free(pith_ctx *ctx, pith_values *v)
{
    pith_free(ctx, v->data);
    *v = (pith_values){0};
}

/* ---- what elements of a file are, and turning them into u8, i32 or f32 ------------------------- */

typedef enum element { U8, I8, U16, I16, U32, I32, U64, I64, F16, F32, F64, N_ELEMENTS } element;
static const uint8_t element_bytes[N_ELEMENTS] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};

static pith_field_type element_type(element e) { return e == U8 ? PITH_FIELD_U8 : e >= F16 ? PITH_FIELD_F32 : PITH_FIELD_I32; }

static uint64_t load(const uint8_t *p, size_t n, bool big)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[big ? n - 1 - i : i] << 8 * i;
    return v;
}

static float to_float(element e, uint64_t bits)
{
    if (e == F16) return pith_f16_to_f32((uint16_t)bits);
    if (e == F32) {
        uint32_t half = (uint32_t)bits;
        float f;
        memcpy(&f, &half, sizeof f);
        return f;
    }
    double d;
    memcpy(&d, &bits, sizeof d);
    return (float)d;
}

/* false: no int32_t has this value */
static bool to_int(element e, uint64_t bits, int32_t *out)
{
    int64_t v = e == I8 ? (int8_t)bits : e == I16 ? (int16_t)bits : e == I32 ? (int32_t)bits : (int64_t)bits;
    *out = (int32_t)v;
    return v >= INT32_MIN && v <= INT32_MAX && !(e == U64 && bits > INT32_MAX);
}

/* values has its dims; the file's elements are at bytes[at]. */
static pith_status take_values(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, size_t at, element e, bool big, pith_values *v)
{
    size_t count = 1, need;
    for (int d = 0; d < v->n_dims; d++)
        if (!pith_mul(count, v->dims[d], &count)) count = SIZE_MAX;
    if (!pith_mul(count, element_bytes[e], &need) || need != len - at)
        return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: %zu bytes of values follow, the shape asks for %zu of %u bytes", what, at, len - at, count, element_bytes[e]);
    v->count = count;
    v->type = element_type(e);
    v->data = pith_array(ctx, count, v->type == PITH_FIELD_U8 ? 1 : 4);
    if (!v->data) return PITH_E_MEMORY;
    if (e == U8) {
        if (count) memcpy(v->data, bytes + at, count);
        return PITH_OK;
    }
    for (size_t i = 0; i < count; i++) {
        size_t offset = at + i * element_bytes[e];
        uint64_t bits = load(bytes + offset, element_bytes[e], big);
        if (v->type == PITH_FIELD_F32) {
            ((float *)v->data)[i] = to_float(e, bits);
        } else if (!to_int(e, bits, (int32_t *)v->data + i)) {
            pith_values_free(ctx, v);
            return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: offset %zu: a whole number beyond 32 bits", what, offset);
        }
    }
    return PITH_OK;
}

/* ---- IDX -------------------------------------------------------------------------------------- */

pith_status pith_idx_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_values *values)
{
    static const struct { uint8_t code; element e; } types[] = {{0x08, U8}, {0x09, I8}, {0x0B, I16}, {0x0C, I32}, {0x0D, F32}, {0x0E, F64}};
    if (len < 4 || bytes[0] || bytes[1]) return pith_fail(ctx, PITH_E_FORMAT, "%s: no IDX file: it begins with two zero bytes, a type and the number of dimensions", what);
    size_t t = 0;
    while (t < PITH_COUNT(types) && types[t].code != bytes[2]) t++;
    if (t == PITH_COUNT(types)) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: offset 2: IDX type 0x%02x is unknown", what, bytes[2]);
    size_t n_dims = bytes[3], at = 4 + 4 * n_dims;
    if (n_dims > PITH_ARRAY_DIMS) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: offset 3: %zu dimensions; %d are supported", what, n_dims, PITH_ARRAY_DIMS);
    if (len < at) return pith_fail(ctx, PITH_E_CORRUPT, "%s: ends at offset %zu, within the %zu dimensions", what, len, n_dims);
    *values = (pith_values){.n_dims = (int)n_dims};
    for (size_t d = 0; d < n_dims; d++) values->dims[d] = (size_t)load(bytes + 4 + 4 * d, 4, true);
    return take_values(ctx, what, bytes, len, at, types[t].e, true, values);
}

/* ---- NPY -------------------------------------------------------------------------------------- */

/* The header is a Python dictionary literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. */
typedef struct npy_header {
    const char *text;
    size_t len;
} npy_header;

/* The place after 'key': and blanks; NULL when the key is missing. */
static const char *npy_value(const npy_header *h, const char *key)
{
    const char *found = memmem(h->text, h->len, key, strlen(key)), *end = h->text + h->len;
    if (!found) return NULL;
    const char *p = found + strlen(key);
    while (p < end && (*p == ' ' || *p == ':')) p++;
    return p < end ? p : NULL;
}

static bool npy_shape(const npy_header *h, pith_values *v)
{
    const char *p = npy_value(h, "'shape'"), *end = h->text + h->len;
    if (!p || *p++ != '(') return false;
    for (;;) {
        while (p < end && (*p == ' ' || *p == ',')) p++;
        if (p == end) return false;
        if (*p == ')') return true;
        if (*p < '0' || *p > '9' || v->n_dims == PITH_ARRAY_DIMS) return false;
        size_t n = 0;
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            if (!pith_mul(n, 10, &n) || !pith_add(n, (size_t)(*p - '0'), &n)) return false;
        v->dims[v->n_dims++] = n;
    }
}

static element npy_element(const npy_header *h)
{
    static const char *const names[N_ELEMENTS] = {"|u1'", "|i1'", "<u2'", "<i2'", "<u4'", "<i4'", "<u8'", "<i8'", "<f2'", "<f4'", "<f8'"};
    const char *p = npy_value(h, "'descr'");
    if (!p || h->text + h->len - p < 5 || *p++ != '\'') return N_ELEMENTS;
    if (memcmp(p, "|b1'", 4) == 0) return U8;
    element e = U8;
    while (e < N_ELEMENTS && memcmp(p, names[e], 4) != 0) e++;
    return e;
}

pith_status pith_npy_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, pith_values *values)
{
    if (len < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0) return pith_fail(ctx, PITH_E_FORMAT, "%s: no NPY file: its magic bytes are missing", what);
    bool old = bytes[6] == 1;
    if (bytes[6] < 1 || bytes[6] > 3) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: offset 6: NPY version %u; 1 to 3 are supported", what, bytes[6]);
    size_t start = old ? 10 : 12, n = len < start ? SIZE_MAX : old ? pith_le16(bytes + 8) : pith_le32(bytes + 8);
    if (len < start || n > len - start) return pith_fail(ctx, PITH_E_CORRUPT, "%s: ends at offset %zu, within the header", what, len);
    npy_header h = {(const char *)bytes + start, n};
    *values = (pith_values){0};
    element e = npy_element(&h);
    if (e == N_ELEMENTS) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: offset %zu: 'descr' is none of the types that are read: whole numbers and floats, little-endian", what, start);
    const char *order = npy_value(&h, "'fortran_order'");
    if (!order || *order != 'F') /* False */
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: offset %zu: not in C order; save numpy.ascontiguousarray(x)", what, start);
    if (!npy_shape(&h, values)) return pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: 'shape' is no tuple of up to %d whole numbers", what, start, PITH_ARRAY_DIMS);
    return take_values(ctx, what, bytes, len, start + n, e, false, values);
}

/* ---- CIFAR ------------------------------------------------------------------------------------ */

pith_status pith_cifar_read(pith_ctx *ctx, const char *what, const uint8_t *bytes, size_t len, size_t n_labels, size_t n_classes, pith_values *labels, pith_values *images)
{
    const size_t n_pixels = 3 * 32 * 32, record = n_labels + n_pixels, n = len / record;
    if (len == 0 || len % record) return pith_fail(ctx, PITH_E_CORRUPT, "%s: %zu bytes are no whole number of records of %zu", what, len, record);
    *labels = (pith_values){.type = PITH_FIELD_U8, .n_dims = 2, .dims = {n, n_labels}, .count = n * n_labels};
    *images = (pith_values){.type = PITH_FIELD_U8, .n_dims = 4, .dims = {n, 3, 32, 32}, .count = n * n_pixels};
    uint8_t *label = labels->data = pith_alloc(ctx, labels->count), *image = images->data = pith_alloc(ctx, images->count);
    pith_status status = label && image ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < n && status == PITH_OK; i++) {
        const uint8_t *p = bytes + i * record;
        if (p[n_labels - 1] >= n_classes)
            status = pith_fail(ctx, PITH_E_CORRUPT, "%s: offset %zu: label %u; there are %zu classes", what, i * record + n_labels - 1, p[n_labels - 1], n_classes);
        memcpy(label + i * n_labels, p, n_labels);
        memcpy(image + i * n_pixels, p + n_labels, n_pixels);
    }
    if (status != PITH_OK) {
        pith_values_free(ctx, labels);
        pith_values_free(ctx, images);
    }
    return status;
}
