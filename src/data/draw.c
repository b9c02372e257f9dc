/* Shapes, backgrounds and the words for them. */
#include <assert.h>
#include <math.h>

#include "data/draw.h"
#include "data/readers.h"

const char *const pith_shape_names[PITH_N_SHAPES] = {"circle", "square", "triangle", "star", "cross", "ring"};
const char *const pith_colour_names[PITH_N_COLOURS] = {"red", "green", "blue", "yellow", "purple", "orange", "pink", "cyan"};
const char *const pith_size_names[PITH_N_SIZES] = {"small", "medium", "large"};
const char *const pith_cell_names[PITH_N_CELLS] = {"top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"};
const char *const pith_background_names[PITH_N_BACKGROUNDS] = {"dark", "light", "striped", "checked", "grass", "brick"};
const char *const pith_caption_words[PITH_N_WORDS] = {
    "", "a", "and", "on", "at", "the", "of", "with", "above", "below", "beside", "background", "scene",
    "circle", "square", "triangle", "star", "cross", "ring", "red", "green", "blue", "yellow", "purple", "orange", "pink", "cyan",
    "small", "medium", "large", "top", "bottom", "left", "right", "centre", "dark", "light", "striped", "checked", "grass", "brick",
    "moves", "bounces", "curves", "turns", "grows", "shrinks", "orbits", "passes", "behind", "up", "down",
};

const uint8_t pith_colours[PITH_N_COLOURS][3] = {
    {215, 45, 40}, {45, 165, 65}, {50, 80, 215}, {230, 210, 50}, {140, 60, 175}, {235, 140, 35}, {240, 135, 180}, {65, 200, 210},
};

/* ---- shapes ----------------------------------------------------------------------------------- */

/* Five tips at 72 degrees; the inner corners at 0.45 of the radius. */
static bool in_star(float u, float v)
{
    static const float tips[5][2] = {{0, -1}, {0.95105652f, -0.30901699f}, {0.58778525f, 0.80901699f}, {-0.58778525f, 0.80901699f}, {-0.95105652f, -0.30901699f}};
    const float inner_along = 0.36405765f, inner_across = 0.26450336f; /* 0.45 cos 36°, 0.45 sin 36° */
    float along = -2, across = 0;
    for (int k = 0; k < 5; k++) {
        float a = u * tips[k][0] + v * tips[k][1];
        if (a <= along) continue;
        along = a;
        across = fabsf(u * tips[k][1] - v * tips[k][0]);
    }
    return across <= (1 - along) * (inner_across / (1 - inner_along));
}

/* Whether (u, v), in radii from the centre, v downwards, is inside. */
static bool inside(int kind, float u, float v)
{
    float d = u * u + v * v;
    switch (kind) {
    case 0: return d <= 1;
    case 1: return fabsf(u) <= 0.85f && fabsf(v) <= 0.85f;
    case 2: return v <= 0.8f && fabsf(u) <= (v + 1) * (0.95f / 1.8f);
    case 3: return in_star(u, v);
    case 4: return (fabsf(u) <= 0.33f && fabsf(v) <= 0.95f) || (fabsf(v) <= 0.33f && fabsf(u) <= 0.95f);
    default: return d <= 1 && d >= 0.25f;
    }
}

void pith_draw_shape(const pith_canvas *c, const pith_shape *s)
{
    float last = (float)c->size - 1;
    int x0 = (int)fmaxf(0, floorf(s->x - s->radius)), x1 = (int)fminf(last, ceilf(s->x + s->radius));
    int y0 = (int)fmaxf(0, floorf(s->y - s->radius)), y1 = (int)fminf(last, ceilf(s->y + s->radius));
    size_t plane = c->size * c->size;
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            int covered = 0;
            for (int k = 0; k < 16; k++) {
                float px = (float)x + ((float)(k & 3) + 0.5f) * 0.25f, py = (float)y + ((float)(k >> 2) + 0.5f) * 0.25f;
                covered += inside(s->kind, (px - s->x) / s->radius, (py - s->y) / s->radius);
            }
            size_t at = (size_t)y * c->size + (size_t)x;
            for (size_t ch = 0; ch < 3; ch++) {
                uint8_t *p = &c->image[ch * plane + at];
                *p = (uint8_t)((*p * (16 - covered) + s->rgb[ch] * covered + 8) / 16);
            }
            if (c->mask && covered >= 8) c->mask[at] = s->id;
        }
}

void pith_draw_fill(const pith_canvas *c, const uint8_t rgb[3])
{
    size_t plane = c->size * c->size;
    for (size_t ch = 0; ch < 3; ch++) memset(c->image + ch * plane, rgb[ch], plane);
}

/* ---- backgrounds ------------------------------------------------------------------------------ */

/* Half the size, so that a small picture shows some of the pattern. */
static pith_status load_photo(pith_ctx *ctx, const pith_data_file *file, uint8_t *grey)
{
    char path[PITH_DATA_PATH];
    uint8_t *bytes;
    size_t len;
    PITH_TRY(pith_data_read(ctx, file, path, &bytes, &len));
    pith_image image = {0};
    pith_status status = pith_image_read(ctx, path, bytes, len, &image);
    if (status == PITH_OK && (image.width < 2 * PITH_TEXTURE || image.height < 2 * PITH_TEXTURE))
        status = pith_fail(ctx, PITH_E_SHAPE, "%s: %zu x %zu pixels; at least %d x %d are needed", path, image.width, image.height, 2 * PITH_TEXTURE, 2 * PITH_TEXTURE);
    for (size_t i = 0; status == PITH_OK && i < PITH_TEXTURE * PITH_TEXTURE; i++) {
        const uint8_t *p = image.data + i / PITH_TEXTURE * 2 * image.width + i % PITH_TEXTURE * 2; /* the first channel: they are grey */
        grey[i] = (uint8_t)((p[0] + p[1] + p[image.width] + p[image.width + 1] + 2) / 4);
    }
    pith_image_free(ctx, &image);
    pith_free(ctx, bytes);
    return status;
}

/* Smooth noise of three octaves on a lattice that repeats; the second is stretched sideways, like courses of bricks. */
static void make_texture(int which, uint64_t seed, uint8_t *grey)
{
    uint64_t stream = pith_hash("texture", 7) + (uint64_t)which;
    for (int i = 0; i < PITH_TEXTURE * PITH_TEXTURE; i++) {
        float sum = 0;
        for (int octave = 0; octave < 3; octave++) {
            int step_y = 8 >> octave, step_x = which ? step_y * 4 : step_y;
            int n_x = PITH_TEXTURE / step_x, n_y = PITH_TEXTURE / step_y, x = i % PITH_TEXTURE, y = i / PITH_TEXTURE;
            float fx = (float)(x % step_x) / (float)step_x, fy = (float)(y % step_y) / (float)step_y, corner[4];
            for (int k = 0; k < 4; k++) {
                int cx = (x / step_x + (k & 1)) % n_x, cy = (y / step_y + (k >> 1)) % n_y;
                pith_rng rng = {.seed = seed, .stream = stream + 2 * (uint64_t)octave, .index = (uint64_t)(cy * n_x + cx)};
                corner[k] = pith_rng_uniform(&rng) - 0.5f;
            }
            float top = corner[0] + fx * (corner[1] - corner[0]), bottom = corner[2] + fx * (corner[3] - corner[2]);
            sum += top + fy * (bottom - top);
        }
        grey[i] = (uint8_t)(110 + 60 * sum);
    }
}

pith_status pith_textures_load(const pith_data_request *r, pith_dataset *ds, pith_textures *t)
{
    const pith_data_file *photos = pith_photo_files;
    while (photos->group != PITH_PHOTOS_TEXTURES) photos++;
    char path[PITH_DATA_PATH];
    bool there = pith_data_locate(&photos[0], path) && pith_data_locate(&photos[1], path);
    *t = (pith_textures){0};
    for (int k = 0; k < 2; k++) {
        t->grey[k] = pith_alloc(r->ctx, PITH_TEXTURE * PITH_TEXTURE);
        pith_status status = t->grey[k] ? PITH_OK : PITH_E_MEMORY;
        if (status == PITH_OK && there) status = load_photo(r->ctx, &photos[k], t->grey[k]);
        else if (status == PITH_OK) make_texture(k, r->seed, t->grey[k]);
        if (status != PITH_OK) {
            pith_textures_free(r->ctx, t);
            return status;
        }
    }
    size_t len = strlen(ds->source);
    snprintf(ds->source + len, sizeof ds->source - len, there ? ", with scikit-image's photos of grass and bricks" : ", with made textures for grass and bricks");
    if (!there) pith_log(r->ctx, PITH_LOG_WARN, "%s: grass and bricks are made, not photos (\"pith data get photos\" fetches those)", ds->name);
    return PITH_OK;
}

void pith_textures_free(pith_ctx *ctx, pith_textures *t)
{
    for (int k = 0; k < 2; k++) pith_free(ctx, t->grey[k]);
    *t = (pith_textures){0};
}

void pith_draw_background(const pith_canvas *c, const pith_textures *t, int kind, pith_rng *rng)
{
    static const uint8_t dark[3] = {38, 38, 44}, light[3] = {226, 226, 220};
    uint32_t dx = pith_rng_below(rng, PITH_TEXTURE), dy = pith_rng_below(rng, PITH_TEXTURE);
    if (kind < 2) {
        pith_draw_fill(c, kind ? light : dark);
        return;
    }
    size_t plane = c->size * c->size;
    for (size_t i = 0; i < plane; i++) {
        uint32_t x = (uint32_t)(i % c->size) + dx, y = (uint32_t)(i / c->size) + dy;
        uint8_t v = kind == 2 ? (x / 4 % 2 ? 96 : 150)
                  : kind == 3 ? ((x / 4 + y / 4) % 2 ? 84 : 168)
                  : t->grey[kind - 4][y % PITH_TEXTURE * PITH_TEXTURE + x % PITH_TEXTURE];
        for (size_t ch = 0; ch < 3; ch++) c->image[ch * plane + i] = v;
    }
}

/* ---- captions --------------------------------------------------------------------------------- */

static int word_id(const char *word, size_t len)
{
    for (int i = 1; i < PITH_N_WORDS; i++)
        if (strlen(pith_caption_words[i]) == len && memcmp(pith_caption_words[i], word, len) == 0) return i;
    return 0;
}

void pith_caption_add(pith_caption *c, const char *words)
{
    while (*words) {
        size_t len = strcspn(words, " ");
        int id = word_id(words, len);
        assert(id && c->n < c->max_words && c->len + len + 1 < c->max_len);
        c->ids[c->n++] = id;
        if (c->len) c->text[c->len++] = ' ';
        memcpy(c->text + c->len, words, len);
        c->len += len;
        words += len + (words[len] == ' ');
    }
}
