#include "stream/weights/pack.h"
#include "stage/quantize/value_loops.h"

#include <math.h>

#define OUTLIER_COST 24            /* bytes that a single value must save: it takes 8, and time */
#define SHIFT_OUTLIERS 8           /* of a block wider than 8 bits; with more its lowest bits are dropped */

void pith_packed_free(pith_ctx *ctx, pith_packed *p)
{
    pith_qmat_free(ctx, &p->m);
    pith_free(ctx, p->columns);
    pith_free(ctx, p->start);
    pith_free(ctx, p->single);
    *p = (pith_packed){0};
}

/* ---- one group -------------------------------------------------------------------------------- */

static size_t count_not_zero(const int32_t *m)
{
    size_t n = 0;
    for (size_t i = 0; i < PITH_GROUP; i++) n += m[i] != 0;
    return n;
}

/* Width and flags of a group, as pith_qmat has them, and how many numbers are left outside. */
static unsigned choose_bits(const pith_value_loops *loops, const pith_unit *u, size_t g, size_t *n_outside)
{
    int start = pith_class_start(u->group_class[g]), width = 0, shift = 0;
    unsigned flags = u->level > start ? 0 : PITH_BLOCK_CENTRED;
    const int32_t *m = u->m + g * PITH_GROUP;
    *n_outside = 0;
    if (u->level < start) return flags;
    int32_t size, all;
    loops->extent(m, &all, &size);
    while (size >> width) width++;
    width += all != 0;
    size_t n = 0;
    if (width > 8) {
        int widest = width;
        width = 8;
        while ((n = loops->outside(m, width + shift - 1)) > SHIFT_OUTLIERS && shift < PITH_MIN(widest - 8, 7)) shift++;
    }
    while (shift == 0 && width > 0) {
        size_t more = width > 1 ? loops->outside(m, width - 2) : count_not_zero(m);
        if ((more - n) * OUTLIER_COST > 64) break;
        n = more;
        width--;
    }
    *n_outside = n;
    return flags | (unsigned)width | PITH_BLOCK_SHIFT(shift);
}

/* Move the numbers of wide columns, of a group of n_cols, to `columns` [rows of the unit, n_wide], where zeros are; what stays
 * behind is a zero, or the half step that the number 0 stands for.  Returns how many columns. */
static size_t take_columns(const pith_unit *u, size_t g, const uint8_t *wide, size_t n_cols, float step, float *columns, size_t n_wide)
{
    int32_t *m = u->m + g * PITH_GROUP;
    bool started = u->level >= pith_class_start(u->group_class[g]);
    size_t w = 0;
    for (size_t c = 0; c < n_cols; c++) {
        for (size_t r = 0; r < PITH_GROUP_ROWS && wide[c] && started; r++) {
            columns[r * n_wide + w] = (float)m[r * PITH_GROUP_COLS + c] * step;
            m[r * PITH_GROUP_COLS + c] = 0;
        }
        w += wide[c];
    }
    return w;
}

/* The block's stored values, and its outliers appended to *single. */
static void pack_group(const pith_value_loops *loops, const pith_unit *u, size_t g, unsigned bits, float step, uint8_t values[16][32], pith_outlier **single)
{
    unsigned width = PITH_BLOCK_WIDTH(bits), shift = bits >> 5;
    const int32_t *m = u->m + g * PITH_GROUP;
    int low = width ? -(1 << (width - 1)) : 0, high = width ? (1 << (width - 1)) - 1 : 0;
    float middle = bits & PITH_BLOCK_CENTRED ? 0 : 0.5f, packed_middle = pith_block_extra(bits) + 0.5f;
    size_t n = loops->pack(m, (int)shift, low, high, values[0]);
    for (size_t i = 0; i < PITH_GROUP && n > 0; i++) {
        int wanted = m[i] >> shift, v = PITH_MIN(PITH_MAX(wanted, low), high);
        if (v == wanted) continue;
        size_t column = g % u->n_blocks * PITH_GROUP_COLS + i % PITH_GROUP_COLS;
        float missing = ((float)m[i] + middle) - ((float)(v * (1 << shift)) + packed_middle);
        *(*single)++ = (pith_outlier){(uint32_t)(column * PITH_TILE_ROWS + i / PITH_GROUP_COLS), missing * step};
        n--;
    }
}

/* ---- a unit ----------------------------------------------------------------------------------- */

static pith_status choose_all(pith_ctx *ctx, const pith_value_loops *loops, const pith_coded_tensor *c, const pith_unit *u, const float *step, const uint8_t *wide, size_t n_wide, uint8_t *bits, pith_packed *p)
{
    p->start = pith_array(ctx, u->n_tiles + 1, sizeof *p->start);
    if (n_wide) p->columns = pith_calloc(ctx, u->n_tiles * PITH_TILE_ROWS, n_wide * sizeof *p->columns);
    if (!p->start || (n_wide && !p->columns)) return PITH_E_MEMORY;
    size_t n_single = 0;
    for (size_t t = 0; t < u->n_tiles; t++) {
        size_t taken = 0;
        p->start[t] = n_single;
        for (size_t b = 0; b < u->n_blocks; b++) {
            size_t g = t * u->n_blocks + b, n;
            size_t col0 = b * PITH_GROUP_COLS, n_cols = PITH_MIN((size_t)PITH_GROUP_COLS, c->n_cols - col0);
            if (n_wide && u->level >= 0) taken += take_columns(u, g, wide + col0, n_cols, step[t], p->columns + t * PITH_TILE_ROWS * n_wide + taken, n_wide);
            bits[g] = (uint8_t)choose_bits(loops, u, g, &n);
            n_single += n;
        }
    }
    p->start[u->n_tiles] = n_single;
    return (p->single = pith_array(ctx, PITH_MAX(n_single, 1), sizeof *p->single)) ? PITH_OK : PITH_E_MEMORY;
}

pith_status pith_pack_unit(pith_ctx *ctx, const pith_coded_tensor *t, pith_unit *u, size_t n_rows, const uint8_t *wide, size_t n_wide, pith_packed *p)
{
    const pith_value_loops *loops = pith_value_loops_for(pith_ctx_cpu(ctx)->isa);
    *p = (pith_packed){0};
    float *step = pith_calloc(ctx, u->n_tiles, sizeof *step);
    uint8_t *bits = pith_array(ctx, u->n_tiles, u->n_blocks);
    pith_status status = step && bits ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < u->n_tiles && u->level >= 0 && status == PITH_OK; i++) step[i] = ldexpf(t->base_step * pith_step_of_code(u->step_code[i]), -u->level);
    if (status == PITH_OK) status = choose_all(ctx, loops, t, u, step, wide, n_wide, bits, p);
    if (status == PITH_OK) status = pith_qmat_new(ctx, n_rows, t->n_cols, PITH_QSCALE_ROW, bits, &p->m);
    pith_outlier *single = p->single;
    for (size_t g = 0; g < u->n_tiles * u->n_blocks && status == PITH_OK; g++) {
        uint8_t values[16][32];
        size_t tile = g / u->n_blocks;
        if (u->level < pith_class_start(u->group_class[g])) continue;
        pack_group(loops, u, g, bits[g], step[tile], values, &single);
        pith_qmat_put_block(&p->m, tile, g % u->n_blocks, (const uint8_t(*)[32])values, NULL, NULL);
    }
    for (size_t r = 0; r < u->n_tiles * PITH_TILE_ROWS && status == PITH_OK; r++) p->m.row_scale[r] = step[r / PITH_TILE_ROWS];
    pith_free(ctx, step);
    pith_free(ctx, bits);
    if (status != PITH_OK) pith_packed_free(ctx, p);
    return status;
}

/* ---- in the source's basis --------------------------------------------------------------------- */

_Static_assert(PITH_TILE_COLS == 32, "the loops below are of so many values");

#define STEP_PER_ERROR 0.2f        /* errors in the codec's basis are shaped to what matters, rounding here is not */

/* A step that f16 has. */
static float f16_step(float x)
{
    return pith_f16_to_f32(pith_f32_to_f16(PITH_MIN(PITH_MAX(x, 1e-7f), 65504.0f)));
}

/* Bits that predictions of a block of 16 rows deserve. */
static uint8_t predicted_bits(const pith_value_loops *loops, const pith_grid *g, const pith_grid_rows *rows, size_t row0, size_t n_rows, size_t b)
{
    float span = 0, sum[PITH_TILE_COLS] = {0}, variance = 0;
    for (size_t r = 0; r < n_rows; r++) {
        size_t at = ((row0 + r) * rows->n_blocks + b) * PITH_TILE_COLS;
        float low, high;
        loops->range(rows->value + at, &low, &high);
        low = PITH_MIN(low, 0);
        high = PITH_MAX(high, 0);
        for (size_t c = 0; c < PITH_TILE_COLS; c++) sum[c] += rows->variance[at + c];
        span = PITH_MAX(span, g->has_min ? high - low : 2 * PITH_MAX(high, -low));
    }
    for (size_t c = 0; c < PITH_TILE_COLS; c++) variance += sum[c];
    float steps = span / (STEP_PER_ERROR * sqrtf(variance / (float)(n_rows * PITH_TILE_COLS)) + 1e-30f);
    uint8_t bits = 2;
    while (bits < 8 && (float)(1 << bits) < steps + 1) bits++;
    return bits;
}

/* A row of a block quantised to `bits` bits. */
static void quantise_row(const pith_value_loops *loops, const pith_grid *g, const float *x, unsigned bits, uint8_t u[PITH_TILE_COLS], uint16_t *scale, uint16_t *min)
{
    float low, high, zero = g->has_min ? 0 : (float)(1 << (bits - 1)), top = (float)((1 << bits) - 1);
    loops->range(x, &low, &high);
    float step = f16_step(g->has_min ? (high - low) / top : PITH_MAX(high, -low) / (zero - 0.5f));
    low = g->has_min ? pith_f16_to_f32(pith_f32_to_f16(low)) : 0;
    *scale = pith_f32_to_f16(step);
    *min = pith_f32_to_f16(low);
    loops->steps(x, low, step, zero, top, u);
}

pith_status pith_pack_rows(pith_ctx *ctx, const pith_grid *g, const pith_grid_rows *rows, size_t n_cols, bool decoded, pith_packed *p)
{
    const pith_value_loops *loops = pith_value_loops_for(pith_ctx_cpu(ctx)->isa);
    size_t n_tiles = PITH_CEIL_DIV(rows->n_rows, PITH_TILE_ROWS), n_blocks = rows->n_blocks;
    *p = (pith_packed){0};
    uint8_t *bits = pith_array(ctx, n_tiles, n_blocks);
    if (!bits) return PITH_E_MEMORY;
    for (size_t i = 0; i < n_tiles * n_blocks; i++) {
        size_t row0 = i / n_blocks * PITH_TILE_ROWS;
        bits[i] = decoded ? (uint8_t)g->bits : predicted_bits(loops, g, rows, row0, PITH_MIN((size_t)PITH_TILE_ROWS, rows->n_rows - row0), i % n_blocks);
    }
    pith_status status = pith_qmat_new(ctx, rows->n_rows, n_cols, g->has_min ? PITH_QSCALE_BLOCK_MIN : PITH_QSCALE_BLOCK, bits, &p->m);
    for (size_t i = 0; i < n_tiles * n_blocks && status == PITH_OK; i++) {
        size_t row0 = i / n_blocks * PITH_TILE_ROWS;
        uint8_t u[PITH_TILE_ROWS][PITH_TILE_COLS] = {{0}};
        uint16_t scale[PITH_TILE_ROWS] = {0}, min[PITH_TILE_ROWS] = {0};
        for (size_t r = 0; r < PITH_MIN((size_t)PITH_TILE_ROWS, rows->n_rows - row0); r++) {
            size_t at = (row0 + r) * n_blocks + i % n_blocks;
            if (!decoded) {
                quantise_row(loops, g, rows->value + at * PITH_TILE_COLS, bits[i], u[r], &scale[r], &min[r]);
                continue;
            }
            memcpy(u[r], rows->u + at * PITH_TILE_COLS, PITH_TILE_COLS);
            scale[r] = rows->d[at];
            if (g->has_min) min[r] = rows->m[at];
        }
        pith_qmat_put_block(&p->m, i / n_blocks, i % n_blocks, (const uint8_t(*)[32])u, scale, min);
    }
    pith_free(ctx, bits);
    return status;
}

/* ---- the whole matrix -------------------------------------------------------------------------- */

/* The outliers of all units: n_wide columns, and single values if there are any. */
static pith_status join_outliers(pith_ctx *ctx, const pith_coded_tensor *t, const pith_packed *units, const uint8_t *wide, size_t n_wide, pith_outliers *o)
{
    size_t n_units = pith_coded_units(t), n_tiles = pith_coded_tiles(t), n_single = 0, tile = 0;
    for (size_t i = 0; i < n_units; i++) n_single += units[i].start ? units[i].start[units[i].m.n_tiles] : 0;
    if (n_single && !((o->start = pith_array(ctx, n_tiles + 1, sizeof *o->start)) && (o->single = pith_array(ctx, n_single, sizeof *o->single)))) return PITH_E_MEMORY;
    if (n_wide && !((o->column = pith_array(ctx, n_wide, sizeof *o->column)) && (o->columns = pith_array(ctx, n_tiles * PITH_TILE_ROWS, n_wide * sizeof *o->columns)))) return PITH_E_MEMORY;
    for (uint32_t c = 0; c < t->n_cols && n_wide; c++)
        if (wide[c]) o->column[o->n_columns++] = c;
    n_single = 0;
    for (size_t i = 0; i < n_units; i++) {
        const pith_packed *p = &units[i];
        size_t n = p->m.n_tiles;
        if (n_wide) memcpy(o->columns + tile * PITH_TILE_ROWS * n_wide, p->columns, n * PITH_TILE_ROWS * n_wide * sizeof(float));
        for (size_t k = 0; k <= n && o->start; k++) o->start[tile + k] = n_single + p->start[k];
        if (o->single) {
            memcpy(o->single + n_single, p->single, p->start[n] * sizeof *p->single);
            n_single += p->start[n];
        }
        tile += n;
    }
    return PITH_OK;
}

/* The low-bit parts as one matrix; they move into it. */
static pith_status join_low(pith_ctx *ctx, const pith_coded_tensor *t, pith_packed *units, pith_qmat *m)
{
    size_t n = pith_coded_units(t);
    pith_qmat *parts = pith_array(ctx, n, sizeof *parts);
    if (!parts) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) parts[i] = units[i].m;
    pith_status status = pith_qmat_join(ctx, parts, n, t->n_rows, m);
    for (size_t i = 0; i < n && status == PITH_OK; i++) units[i].m = (pith_qmat){0};
    pith_free(ctx, parts);
    return status;
}

pith_status pith_pack_join(pith_ctx *ctx, const pith_coded_tensor *t, pith_packed *units, const uint8_t *wide, size_t n_wide, pith_operator **op)
{
    pith_qmat m = {0};
    pith_outliers o = {0};
    pith_operator *low = NULL;
    pith_status status = join_outliers(ctx, t, units, wide, n_wide, &o);
    if (status == PITH_OK) status = join_low(ctx, t, units, &m);
    for (size_t i = 0; i < pith_coded_units(t); i++) pith_packed_free(ctx, &units[i]);
    if (status == PITH_OK) status = pith_operator_from_qmat(ctx, &m, t->name, &low);
    *op = low;
    if (status == PITH_OK && (o.n_columns || o.start)) status = pith_operator_with_outliers(ctx, low, &o, op);
    if (status == PITH_OK) return status;
    pith_operator_free(ctx, low);
    pith_qmat_free(ctx, &m);
    pith_outliers_free(ctx, &o);
    *op = NULL;
    return status;
}
