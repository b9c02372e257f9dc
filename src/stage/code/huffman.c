/* Lengths of prefix codes: the two rarest are joined until one is left; each join costs what it joins a bit. */
#include "stage/code/huffman.h"

#include <stdlib.h>

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

pith_status pith_huffman_bits(pith_ctx *ctx, const uint64_t *count, size_t n, uint64_t *n_bits)
{
    uint64_t *left = pith_array(ctx, PITH_MAX(n, 1), sizeof *left);
    size_t k = 0;
    if (!left) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++)
        if (count[i]) left[k++] = count[i];
    qsort(left, k, sizeof *left, descending);
    *n_bits = 0;
    while (k > 1) {
        uint64_t joined = left[k - 1] + left[k - 2];
        *n_bits += joined;
        size_t at = --k - 1; /* where it belongs among the others */
        for (; at > 0 && left[at - 1] < joined; at--) left[at] = left[at - 1];
        left[at] = joined;
    }
    pith_free(ctx, left);
    return PITH_OK;
}
