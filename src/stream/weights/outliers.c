#include "stream/weights/outliers.h"

typedef struct outlier_operator {
    pith_operator op;
    pith_operator *low;
    pith_outliers o;
} outlier_operator;

static size_t n_tiles(const pith_operator *op) { return PITH_CEIL_DIV(op->n_rows, PITH_TILE_ROWS); }

static void apply(const pith_operator *op, const pith_kernels *k, size_t tile0, size_t tile1, const pith_input *in, float *y, size_t ldy, void *scratch)
{
    const outlier_operator *w = (const outlier_operator *)op;
    const pith_outliers *o = &w->o;
    w->low->kind->apply(w->low, k, tile0, tile1, in, y, ldy, scratch);
    size_t row0 = tile0 * PITH_TILE_ROWS, row1 = PITH_MIN(tile1 * PITH_TILE_ROWS, op->n_rows), n = o->n_columns;
    for (size_t i = 0; i < in->n; i++) {
        const float *x = in->x + i * in->cols;
        float apart[PITH_MAX_OUTLIER_COLUMNS], *to = y + i * ldy;
        for (size_t c = 0; c < n; c++) apart[c] = x[o->column[c]];
        for (size_t r = row0; r < row1 && n; r++) {
            float sum = 0;
            for (size_t c = 0; c < n; c++) sum += apart[c] * o->columns[r * n + c];
            to[r] += sum;
        }
        for (size_t t = tile0; t < tile1 && o->start; t++)
            for (size_t s = o->start[t]; s < o->start[t + 1]; s++)
                to[t * PITH_TILE_ROWS + o->single[s].at % PITH_TILE_ROWS] += x[o->single[s].at / PITH_TILE_ROWS] * o->single[s].value;
    }
}

static void row(const pith_operator *op, const pith_kernels *k, size_t r, float *dst)
{
    const outlier_operator *w = (const outlier_operator *)op;
    const pith_outliers *o = &w->o;
    w->low->kind->row(w->low, k, r, dst);
    for (size_t c = 0; c < o->n_columns; c++) dst[o->column[c]] += o->columns[r * o->n_columns + c];
    size_t t = r / PITH_TILE_ROWS;
    for (size_t s = o->start ? o->start[t] : 0; o->start && s < o->start[t + 1]; s++)
        if (o->single[s].at % PITH_TILE_ROWS == r % PITH_TILE_ROWS) dst[o->single[s].at / PITH_TILE_ROWS] += o->single[s].value;
}

static size_t bytes(const pith_operator *op)
{
    const outlier_operator *w = (const outlier_operator *)op;
    size_t tiles = n_tiles(op), columns = w->o.n_columns * (tiles * PITH_TILE_ROWS * sizeof(float) + sizeof(uint32_t));
    return w->low->kind->bytes(w->low) + columns + (w->o.start ? (tiles + 1) * sizeof(size_t) + w->o.start[tiles] * sizeof(pith_outlier) : 0);
}

void pith_outliers_free(pith_ctx *ctx, pith_outliers *o)
{
    pith_free(ctx, o->column);
    pith_free(ctx, o->columns);
    pith_free(ctx, o->start);
    pith_free(ctx, o->single);
    *o = (pith_outliers){0};
}

static void free_operator(pith_ctx *ctx, pith_operator *op)
{
    outlier_operator *w = (outlier_operator *)op;
    pith_operator_free(ctx, w->low);
    pith_outliers_free(ctx, &w->o);
    pith_free(ctx, (char *)(uintptr_t)op->name);
    pith_free(ctx, w);
}

static const pith_operator_kind kind = {.name = "qmat + outliers", .wants_q8 = true, .n_tiles = n_tiles, .apply = apply, .row = row, .bytes = bytes, .free = free_operator};

pith_status pith_operator_with_outliers(pith_ctx *ctx, pith_operator *low, pith_outliers *o, pith_operator **op)
{
    outlier_operator *w = pith_calloc(ctx, 1, sizeof *w);
    if (!w) return PITH_E_MEMORY;
    w->op = (pith_operator){.kind = &kind, .n_rows = low->n_rows, .n_cols = low->n_cols, .name = pith_strdup(ctx, low->name)};
    if (!w->op.name) {
        pith_free(ctx, w);
        return PITH_E_MEMORY;
    }
    w->low = low;
    w->o = *o;
    *o = (pith_outliers){0};
    w->op.bits_per_weight = 8.0 * (double)bytes(&w->op) / ((double)low->n_rows * (double)low->n_cols);
    *op = &w->op;
    return PITH_OK;
}
