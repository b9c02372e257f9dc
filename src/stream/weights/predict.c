#include "stream/weights/predict.h"

#include <math.h>

static size_t n_tiles_of(size_t n) { return PITH_CEIL_DIV(n, PITH_GROUP_ROWS); }

pith_status pith_predictor_new(pith_ctx *ctx, const pith_manifest *m, pith_predictor *p)
{
    size_t n = m->rotation_n, tiles = n_tiles_of(n);
    *p = (pith_predictor){.kernels = pith_kernels_get(ctx), .manifest = m, .n = n};
    if (!n) return PITH_E_CORRUPT;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *t = &m->tensors[i];
        if ((t->basis & PITH_BASIS_OUT ? t->n_rows : t->n_cols) != n) return PITH_E_CORRUPT;
        const pith_vector *gain = t->scale ? pith_manifest_gain(m, m->vectors[t->scale - 1].name) : NULL;
        if (t->basis & PITH_BASIS_IN && (!gain || gain->n != t->n_cols)) return PITH_E_CORRUPT;
    }
    p->q = pith_array(ctx, n * n, sizeof *p->q);
    p->q_t = pith_array(ctx, n * n, sizeof *p->q_t);
    p->tile_square = pith_calloc(ctx, n * tiles, sizeof *p->tile_square);
    if (!p->q || !p->q_t || !p->tile_square) {
        pith_predictor_free(ctx, p);
        return PITH_E_MEMORY;
    }
    for (size_t i = 0; i < n * n; i++) p->q[i] = (float)m->rotation[i] * 0x1p-14f;
    pith_transpose(p->q, n, n, n, p->q_t, n);
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < n; i++) p->tile_square[r * tiles + i / PITH_GROUP_ROWS] += p->q[r * n + i] * p->q[r * n + i];
    return PITH_OK;
}

void pith_predictor_free(pith_ctx *ctx, pith_predictor *p)
{
    pith_free(ctx, p->q);
    pith_free(ctx, p->q_t);
    pith_free(ctx, p->tile_square);
    *p = (pith_predictor){0};
}

/* ---- in the codec's basis --------------------------------------------------------------------- */

static size_t z_bytes(const pith_coded_tensor *t, size_t n_tiles) { return n_tiles * pith_coded_blocks(t) * PITH_GROUP * sizeof(float); }

size_t pith_latent_bytes(const pith_coded_tensor *t, size_t n_tiles)
{
    return z_bytes(t, n_tiles) + PITH_ROUND_UP(n_tiles * pith_coded_blocks(t) * sizeof(float), PITH_ALIGN);
}

void pith_latent_init(pith_latent *l, const pith_coded_tensor *t, size_t n_tiles, void *memory)
{
    l->z = memory;
    l->noise = (float *)(void *)((uint8_t *)memory + z_bytes(t, n_tiles));
}

void pith_latent_put(const pith_predictor *p, const pith_coded_tensor *t, const pith_unit *u, size_t tile0, const pith_latent *l)
{
    size_t ld = u->n_blocks * PITH_GROUP_COLS;
    const float *scale = t->scale ? p->manifest->vectors[t->scale - 1].x : NULL;
    for (size_t g = 0; g < u->n_tiles * u->n_blocks; g++) {
        size_t tile = g / u->n_blocks, block = g % u->n_blocks, n_cols = PITH_MIN(PITH_GROUP_COLS, t->n_cols - block * PITH_GROUP_COLS);
        int start = u->level < 0 ? PITH_MAX_LEVELS : pith_class_start(u->group_class[g]);
        float step0 = u->level < 0 ? 0 : t->base_step * pith_step_of_code(u->step_code[tile]);
        float step = ldexpf(step0, -u->level), middle = u->level > start ? 0.5f : 0;
        const int32_t *m = u->m + g * PITH_GROUP;
        float *to = l->z + ((tile0 + tile) * PITH_GROUP_ROWS) * ld + block * PITH_GROUP_COLS;
        l->noise[(tile0 + tile) * u->n_blocks + block] = pith_unit_noise(u, g, step0);
        if (u->level < start) {
            for (size_t r = 0; r < PITH_GROUP_ROWS; r++) memset(to + r * ld, 0, PITH_GROUP_COLS * sizeof *to);
            continue;
        }
        float c[PITH_GROUP_COLS] = {0};
        for (size_t k = 0; k < n_cols; k++) c[k] = scale ? scale[block * PITH_GROUP_COLS + k] : 1;
        for (size_t r = 0; r < PITH_GROUP_ROWS; r++, to += ld, m += PITH_GROUP_COLS)
            for (size_t k = 0; k < PITH_GROUP_COLS; k++) to[k] = ((float)m[k] + middle) * step * c[k];
    }
}

/* ---- in the source's --------------------------------------------------------------------------- */

size_t pith_predict_scratch(const pith_predictor *p, const pith_coded_tensor *t)
{
    size_t tiles = t->basis & PITH_BASIS_OUT ? 0 : pith_unit_tiles(t, t->first_unit), blocks = pith_coded_blocks(t);
    return (blocks * p->n + tiles * p->n + PITH_GROUP_ROWS * blocks) * sizeof(float);
}

/* Rows were mixed: W = Q Z, each row of noise the sum over tiles of what they add to it. */
static void predict_out(const pith_predictor *p, const pith_coded_tensor *t, const pith_latent *l, size_t row0, size_t n_rows, float *value, float *variance, float *scratch)
{
    size_t blocks = pith_coded_blocks(t), ld = blocks * PITH_GROUP_COLS, tiles = n_tiles_of(p->n);
    const float *scale = t->scale ? p->manifest->vectors[t->scale - 1].x : NULL;
    p->kernels->gemm(n_rows, ld, p->n, p->q + row0 * p->n, p->n, l->z, ld, value, ld, false);
    for (size_t r0 = 0; r0 < n_rows; r0 += PITH_GROUP_ROWS) {
        size_t n = PITH_MIN(PITH_GROUP_ROWS, n_rows - r0);
        p->kernels->gemm(n, blocks, tiles, p->tile_square + (row0 + r0) * tiles, tiles, l->noise, blocks, scratch, blocks, false);
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < ld; c++) {
                float s = scale && c < t->n_cols ? scale[c] : 1;
                variance[(r0 + r) * ld + c] = scratch[r * blocks + c / PITH_GROUP_COLS] * (s * s);
            }
    }
}

/* Columns were mixed: W = Z Q' diag(1 / gain). */
static void predict_in(const pith_predictor *p, const pith_coded_tensor *t, const pith_latent *l, size_t tile0, size_t row0, size_t n_rows, float *value, float *variance, float *scratch)
{
    size_t n = p->n, blocks = pith_coded_blocks(t), ld = blocks * PITH_GROUP_COLS, first = row0 / PITH_GROUP_ROWS - tile0, n_tiles = n_tiles_of(n_rows);
    const pith_vector *scale = t->scale ? &p->manifest->vectors[t->scale - 1] : NULL;
    const pith_vector *gain = scale && t->basis & PITH_BASIS_IN ? pith_manifest_gain(p->manifest, scale->name) : NULL;
    float *block_square = scratch, *tile_noise = scratch + blocks * n; /* [blocks, n]: sum of (c_k Q[j, k])^2 over a block; [n_tiles, n] */
    memset(block_square, 0, blocks * n * sizeof *block_square);
    for (size_t k = 0; k < n; k++)
        for (size_t j = 0; j < n; j++) {
            float x = p->q_t[k * n + j] * (scale ? scale->x[k] : 1);
            block_square[k / PITH_GROUP_COLS * n + j] += x * x;
        }
    p->kernels->gemm(n_tiles, n, blocks, l->noise + first * blocks, blocks, block_square, n, tile_noise, n, false);
    p->kernels->gemm(n_rows, n, n, l->z + first * PITH_GROUP_ROWS * ld, ld, p->q_t, n, value, ld, false);
    /* gains are taken out; all rows of a tile have the same likely error */
    float *inverse = block_square;
    for (size_t j = 0; j < n; j++) inverse[j] = gain ? 1 / gain->x[j] : 1;
    for (size_t r = 0; r < n_rows; r++) {
        float *v = value + r * ld, *s = variance + r * ld;
        const float *noise = tile_noise + r / PITH_GROUP_ROWS * n;
        for (size_t j = 0; j < n && gain; j++) v[j] *= inverse[j];
        if (r % PITH_GROUP_ROWS) memcpy(s, s - ld, ld * sizeof *s);
        else for (size_t j = 0; j < n; j++) s[j] = noise[j] * (inverse[j] * inverse[j]);
        for (size_t j = n; j < ld; j++) v[j] = s[j] = 0;
    }
}

void pith_predict(const pith_predictor *p, const pith_coded_tensor *t, const pith_latent *l, size_t tile0, size_t row0, size_t n_rows, float *value, float *variance, void *scratch)
{
    if (t->basis & PITH_BASIS_OUT) predict_out(p, t, l, row0, n_rows, value, variance, scratch);
    else predict_in(p, t, l, tile0, row0, n_rows, value, variance, scratch);
}
