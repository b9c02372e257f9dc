#include "stream/weights/exact.h"

#include <math.h>

#define FINER 2                    /* layers beyond those that were decoded: exact values in the codec's basis need no more */

static uint32_t region_units(const pith_coded_tensor *t) { return t->basis & PITH_BASIS_OUT ? pith_coded_units(t) : 1; }

/* Offsets of everything; w NULL: only how many bytes. */
static size_t lay_out(pith_exact_work *w, const pith_predictor *p, const pith_coded_tensor *t, size_t max_packet, bool keep, uint8_t *memory)
{
    size_t blocks = pith_coded_blocks(t), tiles = pith_unit_tiles(t, t->first_unit), rows = tiles * PITH_GROUP_ROWS, n = rows * blocks * PITH_GROUP_COLS;
    size_t region = t->basis & PITH_BASIS_OUT ? pith_coded_tiles(t) : tiles;
    /* Units are decoded before anything is predicted, and made again (from the variances' room) once the predictions have served: they
     * share their room with predictions and the coder's scratch. */
    size_t unit = PITH_ROUND_UP(pith_unit_bytes(tiles, blocks), PITH_ALIGN), value = PITH_ROUND_UP(n * sizeof(float), PITH_ALIGN);
    size_t shared = PITH_MAX(unit + pith_unit_scratch(tiles, blocks), value + pith_grid_scratch(rows, blocks));
    size_t ld = blocks * PITH_GROUP_COLS, whole = keep && t->basis & PITH_BASIS_OUT ? region * PITH_GROUP_ROWS * ld : 0;
    const size_t sizes[] = {region_units(t), shared, pith_latent_bytes(t, region), pith_predict_scratch(p, t), max_packet, n * sizeof(float), n, rows * blocks * 2,
                            rows * blocks * 2, region, whole * sizeof(float), whole, keep ? PITH_MAX(rows, ld) * sizeof(float) : 0, keep ? ld * sizeof(int32_t) : 0};
    size_t at = 0;
    uint8_t *part[PITH_COUNT(sizes)];
    for (size_t i = 0; i < PITH_COUNT(sizes); i++) {
        part[i] = w ? memory + at : NULL;
        at += PITH_ROUND_UP(sizes[i], PITH_ALIGN);
    }
    if (!w) return at;
    w->levels = part[0];
    w->unit_memory = part[1];
    w->coding = part[1] + unit;
    w->value = (float *)(void *)part[1];
    w->grid = part[1] + value;
    w->latent_memory = part[2];
    w->predict = part[3];
    w->buffer = part[4];
    w->variance = (float *)(void *)part[5];
    w->rows = (pith_grid_rows){.n_blocks = blocks, .value = w->value, .variance = w->variance, .u = part[6], .d = (uint16_t *)(void *)part[7], .m = (uint16_t *)(void *)part[8]};
    w->step_code = part[9];
    w->rest = whole ? (float *)(void *)part[10] : w->value;
    w->rest_numbers = whole ? part[11] : w->grid; /* which has been read then */
    w->rest_unit = (float *)(void *)part[12];
    w->rest_offset = (int32_t *)(void *)part[13];
    return at;
}

size_t pith_exact_work_bytes(const pith_predictor *p, const pith_coded_tensor *t, size_t max_packet, bool keep) { return lay_out(NULL, p, t, max_packet, keep, NULL); }

void pith_exact_work_init(pith_exact_work *w, const pith_predictor *p, const pith_coded_tensor *t, uint32_t unit, size_t max_packet, bool keep, void *memory)
{
    bool whole = t->basis & PITH_BASIS_OUT;
    *w = (pith_exact_work){.p = p, .t = t, .unit0 = whole ? t->first_unit : unit, .n_units = region_units(t)};
    w->tile0 = pith_unit_tile0(t, w->unit0);
    w->n_tiles = whole ? pith_coded_tiles(t) : pith_unit_tiles(t, unit);
    lay_out(w, p, t, max_packet, keep, memory);
    pith_latent_init(&w->latent, t, w->n_tiles, w->latent_memory);
}

pith_status pith_exact_latent(pith_exact_work *w, const pith_models *models, pith_isa isa, pith_fetch_fn *fetch, void *user, size_t *n_damaged)
{
    for (uint32_t i = 0; i < w->n_units; i++) {
        uint32_t unit = w->unit0 + i;
        pith_unit u;
        pith_unit_init(&u, pith_unit_tiles(w->t, unit), pith_coded_blocks(w->t), w->unit_memory);
        PITH_TRY(pith_unit_restore(&u, unit, models, isa, fetch, user, w->buffer, w->coding, n_damaged));
        w->levels[i] = (uint8_t)(u.level + 1);
        size_t tile = pith_unit_tile0(w->t, unit) - w->tile0;
        if (u.level >= 0) memcpy(w->step_code + tile, u.step_code, u.n_tiles);
        pith_latent_put(w->p, w->t, &u, tile, i == 0, &w->latent);
    }
    return PITH_OK;
}

void pith_exact_predict(pith_exact_work *w, uint32_t unit)
{
    w->rows.n_rows = pith_unit_rows(w->t, unit);
    pith_predict(w->p, w->t, &w->latent, w->tile0, pith_unit_tile0(w->t, unit) * PITH_GROUP_ROWS, w->rows.n_rows, w->value, w->variance, w->predict);
}

void pith_exact_make_finite(pith_exact_work *w)
{
    for (size_t i = 0; i < w->rows.n_rows * w->rows.n_blocks * PITH_GROUP_COLS; i++) {
        w->value[i] = fabsf(w->value[i]) < INFINITY ? w->value[i] : 0;
        w->variance[i] = w->variance[i] < INFINITY ? w->variance[i] : 0;
    }
}

void pith_exact_keep(pith_exact_work *w, uint32_t unit, const pith_grid *g)
{
    const pith_grid_rows *r = &w->rows;
    size_t ld = r->n_blocks * PITH_GROUP_COLS, row0 = pith_unit_tile0(w->t, unit) * PITH_GROUP_ROWS;
    bool out = w->t->basis & PITH_BASIS_OUT;
    const pith_vector *scale = w->t->scale ? &w->p->manifest->vectors[w->t->scale - 1] : NULL;
    const pith_vector *gain = scale && w->t->basis & PITH_BASIS_IN ? pith_manifest_gain(w->p->manifest, scale->name) : NULL;
    float *to = out ? w->rest + row0 * ld : w->rest;
    for (size_t block = 0; block < r->n_rows * r->n_blocks; block++) {
        const uint8_t *u = r->u + block * PITH_GROUP_COLS;
        const float *g_block = gain ? gain->x + block % r->n_blocks * PITH_GROUP_COLS : NULL;
        float d = pith_f16_to_f32(r->d[block]), m = g->has_min ? pith_f16_to_f32(r->m[block]) : 0, *x = to + block * PITH_GROUP_COLS;
        const float *predicted = w->value + block * PITH_GROUP_COLS;
        for (size_t i = 0; i < PITH_GROUP_COLS; i++) x[i] = (d * (float)(u[i] + g->low) + m) - predicted[i];
        for (size_t i = 0; i < PITH_GROUP_COLS && gain; i++) x[i] *= g_block[i];
        for (size_t i = 0; i < PITH_GROUP_COLS; i++) x[i] = fabsf(x[i]) < INFINITY ? x[i] : 0; /* a gain of 0: what the layers have stays */
    }
}

/* Numbers of the rows of z, every group started, FINER layers below those of the unit. */
static void requantise(const pith_exact_work *w, uint32_t unit, const float *z, pith_unit *u)
{
    const pith_coded_tensor *t = w->t;
    size_t tile0 = pith_unit_tile0(t, unit) - w->tile0, ld = pith_coded_blocks(t) * PITH_GROUP_COLS;
    const float *scale = t->scale ? w->p->manifest->vectors[t->scale - 1].x : NULL;
    pith_unit_init(u, pith_unit_tiles(t, unit), pith_coded_blocks(t), w->unit_memory);
    u->level = w->levels[unit - w->unit0] - 1 + FINER;
    memcpy(u->step_code, w->step_code + tile0, u->n_tiles);
    memset(u->group_class, PITH_CLASS_MAX, u->n_tiles * u->n_blocks);
    for (size_t g = 0; g < u->n_tiles * u->n_blocks; g++) {
        size_t tile = g / u->n_blocks, column = g % u->n_blocks * PITH_GROUP_COLS;
        float inverse = 1 / ldexpf(t->base_step * pith_step_of_code(u->step_code[tile]), -u->level), factor[PITH_GROUP_COLS];
        for (size_t c = 0; c < PITH_GROUP_COLS; c++) factor[c] = inverse / (scale ? scale[column + c] : 1);
        for (size_t r = 0; r < PITH_GROUP_ROWS; r++) w->p->loops->cells(z + (tile * PITH_GROUP_ROWS + r) * ld + column, factor, u->m + g * PITH_GROUP + r * PITH_GROUP_COLS);
    }
}

#define LEAST 0x1p-100f            /* largest magnitude of what is all 0 */

/* A unit's rows in the basis: what the layers have, and the turned rest.  That is a product of whole numbers, of which `offset` has
 * to be taken; row [rows of the unit] and column are what they stand for.  Take it. */
static pith_status forward_unit(pith_exact_work *w, uint32_t unit, const int32_t *offset, const float *row, const float *column, pith_take_fn *take, void *user)
{
    const pith_predictor *p = w->p;
    const pith_coded_tensor *t = w->t;
    bool out = t->basis & PITH_BASIS_OUT;
    size_t tiles = pith_unit_tiles(t, unit), rows = pith_unit_rows(t, unit), row0 = pith_unit_tile0(t, unit) * PITH_GROUP_ROWS, ld = pith_coded_blocks(t) * PITH_GROUP_COLS;
    size_t n = out ? ld : p->n, lda = 4 * p->n_fours;
    const float *scale = out && t->scale ? p->manifest->vectors[t->scale - 1].x : NULL;
    float *z = w->variance, *factor = w->predict;
    pith_unit u;
    if (out) p->kernels->gemm8(rows, n, p->n_fours, p->q7_t + row0 * lda, lda, w->rest_numbers, ld, (int32_t *)(void *)z, ld);
    else p->kernels->gemm8(rows, n, p->n_fours, w->rest_numbers, ld, p->q8_fours, n, (int32_t *)(void *)z, ld);
    for (size_t r = 0; r < rows; r++) {
        const int16_t *latent = out ? w->latent.z + (row0 + r) / 2 * 2 * ld + (row0 + r) % 2 : w->latent.z + r * ld;
        float one = w->latent.unit[out ? 0 : r / PITH_GROUP_ROWS];
        for (size_t i = 0; i < n && (out ? r == 0 : r % PITH_GROUP_ROWS == 0); i++) factor[i] = scale && i < t->n_cols ? one * scale[i] : one;
        (out ? p->loops->add_pairs : p->loops->add_numbers)(z + r * ld, offset, row[r], column, latent, factor, n);
        memset(z + r * ld + n, 0, (ld - n) * sizeof *z);
    }
    memset(z + rows * ld, 0, (tiles * PITH_GROUP_ROWS - rows) * ld * sizeof *z);
    requantise(w, unit, z, &u);
    return take(user, unit, &u);
}

static pith_status forward_in(pith_exact_work *w, pith_take_fn *take, void *user)
{
    const pith_predictor *p = w->p;
    size_t ld = w->rows.n_blocks * PITH_GROUP_COLS;
    float *row = w->rest_unit;
    for (size_t r = 0; r < w->rows.n_rows; r++) {
        row[r] = PITH_MAX(p->loops->largest(w->rest + r * ld, ld), LEAST) / 63;
        p->loops->round7(w->rest + r * ld, 1 / row[r], ld, (uint8_t *)w->rest_numbers + r * ld);
    }
    return forward_unit(w, w->unit0, p->q8_offset, row, p->q8_unit, take, user);
}

static pith_status forward_out(pith_exact_work *w, pith_take_fn *take, void *user)
{
    const pith_coded_tensor *t = w->t;
    const pith_predictor *p = w->p;
    size_t ld = w->rows.n_blocks * PITH_GROUP_COLS, room = w->n_tiles * PITH_GROUP_ROWS;
    float *column = w->rest_unit, *inverse = w->predict;
    int32_t *offset = w->rest_offset;
    memset(w->rest + p->n * ld, 0, (room - p->n) * ld * sizeof *w->rest);
    for (size_t i = 0; i < ld; i++) column[i] = LEAST;
    for (size_t r = 0; r < p->n; r++) p->loops->raise_to(w->rest + r * ld, ld, column);
    for (size_t i = 0; i < ld; i++) {
        column[i] /= 127;
        inverse[i] = 1 / column[i];
    }
    for (size_t r = 0; r < room; r += 4) p->loops->round_fours(w->rest + r * ld, ld, inverse, ld, (int8_t *)w->rest_numbers + r * ld);
    p->kernels->gemm8(1, ld, p->n_fours, p->sixty_four, 4 * p->n_fours, w->rest_numbers, ld, offset, ld);
    for (uint32_t i = 0; i < w->n_units; i++) {
        uint32_t unit = w->unit0 + i;
        PITH_TRY(forward_unit(w, unit, offset, p->q7_unit + pith_unit_tile0(t, unit) * PITH_GROUP_ROWS, column, take, user));
    }
    return PITH_OK;
}

pith_status pith_exact_forward(pith_exact_work *w, pith_take_fn *take, void *user) { return (w->t->basis & PITH_BASIS_OUT ? forward_out : forward_in)(w, take, user); }
