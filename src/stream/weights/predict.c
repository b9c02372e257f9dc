#include "stream/weights/predict.h"

#include <math.h>
#include <stdlib.h>

#define Q_SHIFT 3                    /* of the manifest's numbers, in units of 2^-14 */
#define Z_BITS 10                    /* a unit's tile, columns mixed: 2^10 is about the root mean square of its largest group */
#define Z_STEP_BITS 8                /* rows mixed: 2^8 is about the first tile's step at level 0 */

static size_t n_tiles_of(size_t n) { return PITH_CEIL_DIV(n, PITH_GROUP_ROWS); }

static pith_status make_forward(pith_ctx *ctx, const pith_manifest *m, pith_predictor *p)
{
    size_t n = p->n, fours = p->n_fours = PITH_CEIL_DIV(n, 4);
    p->q7_unit = pith_calloc(ctx, n, sizeof *p->q7_unit);
    p->q8_unit = pith_array(ctx, n, sizeof *p->q8_unit);
    p->q7_t = pith_array(ctx, n, 4 * fours);
    p->q8_fours = pith_calloc(ctx, n * fours, 4);
    p->sixty_four = pith_array(ctx, fours, 4);
    p->q8_offset = pith_array(ctx, n, sizeof *p->q8_offset);
    if (!p->q7_unit || !p->q8_unit || !p->q7_t || !p->q8_fours || !p->sixty_four || !p->q8_offset) return PITH_E_MEMORY;
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < n; c++) p->q7_unit[c] = PITH_MAX(p->q7_unit[c], (float)PITH_MAX(abs(m->rotation[r * n + c]), 1) * 0x1p-14f);
    for (size_t c = 0; c < n; c++) {
        p->q8_unit[c] = p->q7_unit[c] / 127;
        p->q7_unit[c] /= 63;
    }
    memset(p->q7_t, 64, n * 4 * fours);
    memset(p->sixty_four, 64, 4 * fours);
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < n; c++) {
            float q = (float)m->rotation[r * n + c] * 0x1p-14f;
            p->q7_t[c * 4 * fours + r] = (uint8_t)(64 + (int)lrintf(q / p->q7_unit[c]));
            p->q8_fours[r / 4 * 4 * n + 4 * c + r % 4] = (int8_t)lrintf(q / p->q8_unit[c]);
        }
    p->kernels->gemm8(1, n, fours, p->sixty_four, 4 * fours, p->q8_fours, n, p->q8_offset, n);
    return PITH_OK;
}

pith_status pith_predictor_new(pith_ctx *ctx, const pith_manifest *m, bool forward, pith_predictor *p)
{
    size_t n = m->rotation_n, tiles = n_tiles_of(n), pairs = PITH_CEIL_DIV(n, 2);
    *p = (pith_predictor){.kernels = pith_kernels_get(ctx), .loops = pith_value_loops_for(pith_ctx_cpu(ctx)->isa), .manifest = m, .n = n, .n_pairs = pairs};
    if (!n) return PITH_E_CORRUPT;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *t = &m->tensors[i];
        if ((t->basis & PITH_BASIS_OUT ? t->n_rows : t->n_cols) != n) return PITH_E_CORRUPT;
        const pith_vector *gain = t->scale ? pith_manifest_gain(m, m->vectors[t->scale - 1].name) : NULL;
        if (t->basis & PITH_BASIS_IN && (!gain || gain->n != t->n_cols)) return PITH_E_CORRUPT;
    }
    bool ok = (p->tile_square = pith_calloc(ctx, n * tiles, sizeof *p->tile_square)) != NULL;
    if (ok) ok = (p->q = pith_calloc(ctx, n * pairs, 2 * sizeof *p->q)) != NULL;
    if (ok) ok = (p->q_t_pairs = pith_calloc(ctx, n * pairs, 2 * sizeof *p->q_t_pairs)) != NULL;
    for (size_t r = 0; r < n && ok; r++)
        for (size_t c = 0; c < n; c++) {
            int16_t q = (int16_t)(m->rotation[r * n + c] >> Q_SHIFT);
            float x = (float)q * PITH_Q_UNIT;
            p->tile_square[r * tiles + c / PITH_GROUP_ROWS] += x * x;
            p->q[r * 2 * pairs + c] = q;
            p->q_t_pairs[c / 2 * 2 * n + 2 * r + c % 2] = q;
        }
    pith_status status = !ok ? PITH_E_MEMORY : forward ? make_forward(ctx, m, p) : PITH_OK;
    if (status != PITH_OK) pith_predictor_free(ctx, p);
    return status;
}

void pith_predictor_free(pith_ctx *ctx, pith_predictor *p)
{
    pith_free(ctx, p->q);
    pith_free(ctx, p->q_t_pairs);
    pith_free(ctx, p->tile_square);
    pith_free(ctx, p->q7_unit);
    pith_free(ctx, p->q8_unit);
    pith_free(ctx, p->q7_t);
    pith_free(ctx, p->q8_fours);
    pith_free(ctx, p->sixty_four);
    pith_free(ctx, p->q8_offset);
    *p = (pith_predictor){0};
}

/* ---- in the codec's basis --------------------------------------------------------------------- */

static size_t z_bytes(const pith_coded_tensor *t, size_t n_tiles) { return n_tiles * pith_coded_blocks(t) * PITH_GROUP * sizeof(int16_t); }
static size_t noise_bytes(const pith_coded_tensor *t, size_t n_tiles) { return PITH_ROUND_UP(n_tiles * pith_coded_blocks(t) * sizeof(float), PITH_ALIGN); }

size_t pith_latent_bytes(const pith_coded_tensor *t, size_t n_tiles)
{
    return z_bytes(t, n_tiles) + noise_bytes(t, n_tiles) + PITH_ROUND_UP(n_tiles * sizeof(float), PITH_ALIGN);
}

void pith_latent_init(pith_latent *l, const pith_coded_tensor *t, size_t n_tiles, void *memory)
{
    l->z = memory;
    l->noise = (float *)(void *)((uint8_t *)memory + z_bytes(t, n_tiles));
    l->unit = (float *)(void *)((uint8_t *)l->noise + noise_bytes(t, n_tiles));
}

/* log2 of what 1 of a tile's numbers stands for, from its classes and steps of level 0. */
static int tile_unit(const pith_coded_tensor *t, const pith_unit *u, size_t tile, const float *scale)
{
    float step0 = t->base_step * pith_step_of_code(u->step_code[tile]);
    int most = -126 + Z_BITS;
    for (size_t b = 0; b < u->n_blocks; b++) {
        int class = u->group_class[tile * u->n_blocks + b];
        float c = scale ? 0 : 1;
        for (size_t k = b * PITH_GROUP_COLS; scale && k < PITH_MIN((b + 1) * PITH_GROUP_COLS, t->n_cols); k++) c = scale[k] > c ? scale[k] : c;
        if (u->level >= pith_class_start(class)) most = PITH_MAX(most, ((class - PITH_CLASS_ZERO) >> 2) + pith_octave(step0 * c));
    }
    return most - Z_BITS;
}

void pith_latent_put(const pith_predictor *p, const pith_coded_tensor *t, const pith_unit *u, size_t tile0, bool first, const pith_latent *l)
{
    bool out = t->basis & PITH_BASIS_OUT;
    size_t ld = u->n_blocks * PITH_GROUP_COLS;
    const float *scale = t->scale && !out ? p->manifest->vectors[t->scale - 1].x : NULL;
    if (out && first) l->unit[0] = u->level < 0 ? 1 : ldexpf(1, pith_octave(t->base_step * pith_step_of_code(u->step_code[0])) - Z_STEP_BITS);
    for (size_t tile = 0; tile < u->n_tiles && !out; tile++) l->unit[tile0 + tile] = u->level < 0 ? 1 : ldexpf(1, tile_unit(t, u, tile, scale));
    for (size_t g = 0; g < u->n_tiles * u->n_blocks; g++) {
        size_t tile = g / u->n_blocks, block = g % u->n_blocks, n_cols = PITH_MIN(PITH_GROUP_COLS, t->n_cols - block * PITH_GROUP_COLS);
        size_t row0 = (tile0 + tile) * PITH_GROUP_ROWS;
        int start = u->level < 0 ? PITH_MAX_LEVELS : pith_class_start(u->group_class[g]);
        float step0 = u->level < 0 ? 0 : t->base_step * pith_step_of_code(u->step_code[tile]);
        float step = ldexpf(step0, -u->level) / l->unit[out ? 0 : tile0 + tile], middle = u->level > start ? 0.5f : 0, factor[PITH_GROUP_COLS] = {0};
        const int32_t *m = u->m + g * PITH_GROUP;
        bool started = u->level >= start;
        l->noise[(tile0 + tile) * u->n_blocks + block] = pith_unit_noise(u, g, step0);
        for (size_t k = 0; k < n_cols && started; k++) factor[k] = scale ? step * scale[block * PITH_GROUP_COLS + k] : step;
        for (size_t r = 0; r < PITH_GROUP_ROWS; r += out ? 2 : 1) {
            int16_t *z = out ? l->z + (row0 + r) * ld + 2 * block * PITH_GROUP_COLS : l->z + (row0 + r) * ld + block * PITH_GROUP_COLS;
            if (!started) memset(z, 0, (out ? 2 : 1) * PITH_GROUP_COLS * sizeof *z);
            else (out ? p->loops->number_pairs : p->loops->numbers)(m + r * PITH_GROUP_COLS, middle, factor, z);
        }
    }
}

/* ---- in the source's --------------------------------------------------------------------------- */

size_t pith_predict_scratch(const pith_predictor *p, const pith_coded_tensor *t)
{
    size_t tiles = t->basis & PITH_BASIS_OUT ? 0 : pith_unit_tiles(t, t->first_unit), blocks = pith_coded_blocks(t);
    return (blocks * p->n + tiles * p->n + PITH_GROUP_ROWS * blocks + 2 * blocks * PITH_GROUP_COLS) * sizeof(float);
}

/* Rows were mixed: W = Q Z, each row of noise the sum over tiles of what they add to it. */
static void predict_out(const pith_predictor *p, const pith_coded_tensor *t, const pith_latent *l, size_t row0, size_t n_rows, float *value, float *variance, float *scratch)
{
    size_t blocks = pith_coded_blocks(t), ld = blocks * PITH_GROUP_COLS, tiles = n_tiles_of(p->n);
    float *c = scratch, *c_square = c + ld, *noise = c_square + ld, unit = l->unit[0] * PITH_Q_UNIT;
    for (size_t k = 0; k < ld; k++) {
        c[k] = t->scale && k < t->n_cols ? p->manifest->vectors[t->scale - 1].x[k] : 1;
        c_square[k] = c[k] * c[k];
    }
    p->kernels->gemm16(n_rows, ld, p->n_pairs, p->q + row0 * 2 * p->n_pairs, 2 * p->n_pairs, l->z, ld, (int32_t *)(void *)value, ld);
    for (size_t r = 0; r < n_rows; r++) {
        if (r % PITH_GROUP_ROWS == 0)
            p->kernels->gemm(PITH_MIN(PITH_GROUP_ROWS, n_rows - r), blocks, tiles, p->tile_square + (row0 + r) * tiles, tiles, l->noise, blocks, noise, blocks, false);
        p->loops->scale_sums(value + r * ld, unit, c, ld);
        for (size_t b = 0; b < blocks; b++) {
            float x = noise[r % PITH_GROUP_ROWS * blocks + b], *to = variance + r * ld + b * PITH_GROUP_COLS;
            for (size_t k = 0; k < PITH_GROUP_COLS; k++) to[k] = x * c_square[b * PITH_GROUP_COLS + k];
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
    for (size_t k = 0; k < n; k += 2) {
        float c0 = (scale ? scale->x[k] : 1) * PITH_Q_UNIT, c1 = k + 1 < n ? (scale ? scale->x[k + 1] : 1) * PITH_Q_UNIT : 0;
        p->loops->add_squares(p->q_t_pairs + k * n, c0, c1, n, block_square + k / PITH_GROUP_COLS * n);
    }
    p->kernels->gemm(n_tiles, n, blocks, l->noise + first * blocks, blocks, block_square, n, tile_noise, n, false);
    p->kernels->gemm16(n_rows, n, p->n_pairs, l->z + first * PITH_GROUP_ROWS * ld, ld, p->q_t_pairs, n, (int32_t *)(void *)value, ld);
    /* gains are taken out; all rows of a tile have the same likely error */
    float *inverse = block_square;
    for (size_t j = 0; j < n; j++) inverse[j] = gain ? 1 / gain->x[j] : 1;
    for (size_t r = 0; r < n_rows; r++) {
        float *v = value + r * ld, *s = variance + r * ld, unit = l->unit[first + r / PITH_GROUP_ROWS] * PITH_Q_UNIT;
        const float *noise = tile_noise + r / PITH_GROUP_ROWS * n;
        p->loops->scale_sums(v, unit, inverse, n);
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
