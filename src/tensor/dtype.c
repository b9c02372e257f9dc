/* The table of value types and what follows from it: names, sizes, counts; and where the largest value is. */
#include <strings.h>

#include "tensor/tensor.h"

static const struct {
    uint32_t number;
    pith_dtype_info info;
} dtypes[] = {
#define X(name, number, n, bytes) {number, {#name, n, bytes}},
    PITH_DTYPES(X)
#undef X
};

const pith_dtype_info *pith_dtype_get(uint32_t dtype)
{
    for (size_t i = 0; i < PITH_COUNT(dtypes); i++)
        if (dtypes[i].number == dtype) return &dtypes[i].info;
    return NULL;
}

bool pith_dtype_by_name(const char *name, pith_dtype *dtype)
{
    for (size_t i = 0; i < PITH_COUNT(dtypes); i++) {
        if (strcasecmp(dtypes[i].info.name, name) != 0) continue;
        *dtype = (pith_dtype)dtypes[i].number;
        return true;
    }
    return false;
}

bool pith_dtype_bytes(pith_dtype dtype, size_t n, size_t *bytes)
{
    const pith_dtype_info *info = pith_dtype_get((uint32_t)dtype);
    return info && n % info->block_len == 0 && pith_mul(n / info->block_len, info->block_bytes, bytes);
}

size_t pith_tensor_count(const pith_tensor *t)
{
    size_t count = 1;
    for (int i = 0; i < t->n_dims; i++) count *= t->dims[i];
    return count;
}

size_t pith_tensor_cols(const pith_tensor *t) { return t->n_dims > 0 ? t->dims[t->n_dims - 1] : 1; }

size_t pith_argmax(const float *x, size_t n)
{
    enum { LANES = 8 };            /* independent maxima, so that the compiler can use vectors */
    float most[LANES];
    size_t i = 0, at = 0;
    if (n == 0 || x[0] != x[0]) return 0;
    for (int l = 0; l < LANES; l++) most[l] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) most[l] = x[i + (size_t)l] > most[l] ? x[i + (size_t)l] : most[l];
    for (; i < n; i++) most[0] = x[i] > most[0] ? x[i] : most[0];
    for (int l = 1; l < LANES; l++) most[0] = most[l] > most[0] ? most[l] : most[0];
    while (x[at] != most[0]) at++; /* it is one of them, and no NaN */
    return at;
}
