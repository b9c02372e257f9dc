/* Co-teaching. */
#include "stage/tune/coteaching.h"

#include <math.h>
#include <stdlib.h>

size_t pith_coteach_keep(size_t n, double drop, uint64_t n_ramp, uint64_t step)
{
    double share = step < n_ramp ? drop * (double)step / (double)n_ramp : drop;
    return PITH_MAX((size_t)llround((double)n * (1 - share)), PITH_MIN(n, (size_t)1));
}

typedef struct row {
    double loss;
    size_t i;
} row;

static int by_loss(const void *a, const void *b)
{
    const row *x = a, *y = b;
    return x->loss != y->loss ? (x->loss > y->loss) - (x->loss < y->loss) : (x->i > y->i) - (x->i < y->i);
}

static double cross_entropy(const float *x, size_t n, size_t label)
{
    double most = (double)x[0], sum = 0;
    for (size_t k = 1; k < n; k++) most = PITH_MAX(most, (double)x[k]);
    for (size_t k = 0; k < n; k++) sum += exp((double)x[k] - most);
    double loss = most + log(sum) - (double)x[label];
    return isfinite(loss) ? loss : HUGE_VAL; /* rows that are not finite are picked last */
}

pith_status pith_coteach_pick(pith_tape *tape, const pith_var *logits, const int32_t *label, size_t n_keep, int32_t *picked)
{
    pith_ctx *ctx = pith_tape_ctx(tape);
    if (!logits) return pith_tape_status(tape);
    if (logits->n_dims != 2) return pith_fail(ctx, PITH_E_ARGUMENT, "co-teaching: logits of rows and classes are needed, not %s", PITH_SHAPE(logits));
    size_t n = logits->dims[0], n_classes = logits->dims[1];
    row *rows = pith_array(ctx, PITH_MAX(n, 1), sizeof *rows);
    if (!rows) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        if (label[i] < 0 || (size_t)label[i] >= n_classes) {
            pith_free(ctx, rows);
            return pith_fail(ctx, PITH_E_ARGUMENT, "co-teaching: label %d of row %zu is not one of %zu classes", (int)label[i], i, n_classes);
        }
        rows[i] = (row){cross_entropy(logits->data + i * n_classes, n_classes, (size_t)label[i]), i};
    }
    qsort(rows, n, sizeof *rows, by_loss);
    for (size_t i = 0; i < n; i++) picked[rows[i].i] = i < n_keep ? label[rows[i].i] : PITH_NO_LABEL;
    pith_free(ctx, rows);
    return PITH_OK;
}
