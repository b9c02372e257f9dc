/* scenes32: one or two objects on a background, with caption, mask and attributes.  factors: every combination of six
 * factors, one object. */
#include "data/draw.h"

/* ---- scenes32 --------------------------------------------------------------------------------- */

enum { SCENE_WORDS = 16, SCENE_TEXT = 128, SCENE_COLUMNS = 9 };

static const char *const scene_columns[SCENE_COLUMNS] = {"shape", "colour", "size", "cell", "shape 2", "colour 2", "size 2", "cell 2", "background"};
static const float radii[PITH_N_SIZES] = {0.085f, 0.125f, 0.165f}; /* of the picture's side */

typedef struct object {
    int shape, colour, size, cell;
} object;

static void name_object(pith_caption *c, const object *o)
{
    pith_caption_add(c, "a");
    pith_caption_add(c, pith_size_names[o->size]);
    pith_caption_add(c, pith_colour_names[o->colour]);
    pith_caption_add(c, pith_shape_names[o->shape]);
}

/* How object a lies to b, in words. */
static const char *relation(const object *a, const object *b, pith_rng *rng)
{
    int dy = a->cell / 3 - b->cell / 3, dx = a->cell % 3 - b->cell % 3;
    bool beside = pith_rng_below(rng, 2);
    if (dy) return dy < 0 ? "above" : "below";
    return beside ? "beside" : dx < 0 ? "left of" : "right of";
}

/* One of the grammar's sentences, at most SCENE_WORDS words:
 *   a SIZE COLOUR SHAPE at the CELL on a GROUND background
 *   a GROUND scene with a SIZE COLOUR SHAPE at the CELL
 *   a SIZE COLOUR SHAPE CELL and a SIZE COLOUR SHAPE CELL on GROUND
 *   a SIZE COLOUR SHAPE above|below|beside|left of|right of a SIZE COLOUR SHAPE on a GROUND background */
static void write_scene(pith_caption *c, const object *o, int n_objects, int background, pith_rng *rng)
{
    const char *ground = pith_background_names[background];
    bool second_form = pith_rng_below(rng, 2);
    if (n_objects == 1 && second_form) {
        pith_caption_add(c, "a");
        pith_caption_add(c, ground);
        pith_caption_add(c, "scene with");
        name_object(c, o);
        pith_caption_add(c, "at the");
        pith_caption_add(c, pith_cell_names[o->cell]);
        return;
    }
    name_object(c, o);
    if (n_objects == 2 && !second_form) {
        pith_caption_add(c, pith_cell_names[o[0].cell]);
        pith_caption_add(c, "and");
        name_object(c, o + 1);
        pith_caption_add(c, pith_cell_names[o[1].cell]);
        pith_caption_add(c, "on");
        pith_caption_add(c, ground);
        return;
    }
    if (n_objects == 2) {
        pith_caption_add(c, relation(o, o + 1, rng));
        name_object(c, o + 1);
    } else {
        pith_caption_add(c, "at the");
        pith_caption_add(c, pith_cell_names[o->cell]);
    }
    pith_caption_add(c, "on a");
    pith_caption_add(c, ground);
    pith_caption_add(c, "background");
}

typedef struct scene_fields {
    uint8_t *image, *mask, *caption;
    int32_t *label, *words;
    pith_textures textures;
} scene_fields;

static void make_scene(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    (void)ds;
    scene_fields *f = user;
    pith_rng rng = pith_data_rng(r, i);
    size_t plane = r->size * r->size;
    pith_canvas canvas = {.image = f->image + i * 3 * plane, .mask = f->mask + i * plane, .size = r->size};
    int n_objects = 1 + (int)pith_rng_below(&rng, 2), background = (int)pith_rng_below(&rng, PITH_N_BACKGROUNDS);
    object o[2];
    for (int k = 0; k < 2; k++)
        o[k] = (object){(int)pith_rng_below(&rng, PITH_N_SHAPES), (int)pith_rng_below(&rng, PITH_N_COLOURS), (int)pith_rng_below(&rng, PITH_N_SIZES), (int)pith_rng_below(&rng, PITH_N_CELLS)};
    if (o[1].cell == o[0].cell) o[1].cell = (o[0].cell + 1 + (int)pith_rng_below(&rng, PITH_N_CELLS - 1)) % PITH_N_CELLS;
    pith_draw_background(&canvas, &f->textures, background, &rng);
    int32_t *label = f->label + i * SCENE_COLUMNS;
    float side = (float)r->size;
    for (int k = 0; k < 2; k++) {
        const object *b = &o[k];
        bool there = k < n_objects;
        const int32_t attributes[4] = {b->shape, b->colour, b->size, b->cell};
        for (int a = 0; a < 4; a++) label[4 * k + a] = there ? attributes[a] : -1;
        if (!there) continue;
        float jitter_x = pith_rng_uniform(&rng) - 0.5f, jitter_y = pith_rng_uniform(&rng) - 0.5f;
        pith_shape shape = {
            .kind = b->shape, .radius = radii[b->size] * side, .id = (uint8_t)(k + 1),
            .x = side * ((float)(b->cell % 3 * 2 + 1) / 6 + 0.05f * jitter_x), .y = side * ((float)(b->cell / 3 * 2 + 1) / 6 + 0.05f * jitter_y),
        };
        int shade = (int)pith_rng_below(&rng, 21) - 10; /* light differs a little from picture to picture */
        for (int ch = 0; ch < 3; ch++) shape.rgb[ch] = (uint8_t)(pith_colours[b->colour][ch] + shade);
        pith_draw_shape(&canvas, &shape);
    }
    label[8] = background;
    pith_caption caption = {.ids = f->words + i * SCENE_WORDS, .max_words = SCENE_WORDS, .text = (char *)f->caption + i * SCENE_TEXT, .max_len = SCENE_TEXT};
    write_scene(&caption, o, n_objects, background, &rng);
}

pith_status pith_scenes_open(const pith_data_request *r, pith_dataset *ds)
{
    pith_field *image = pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(3, r->size, r->size));
    pith_field *label = image ? pith_dataset_add(ds, "label", PITH_FIELD_I32, PITH_FIELD_SHAPE(SCENE_COLUMNS)) : NULL;
    pith_field *mask = label ? pith_dataset_add(ds, "mask", PITH_FIELD_U8, PITH_FIELD_SHAPE(r->size, r->size)) : NULL;
    pith_field *words = mask ? pith_dataset_add(ds, "words", PITH_FIELD_I32, PITH_FIELD_SHAPE(SCENE_WORDS)) : NULL;
    pith_field *caption = words ? pith_dataset_add(ds, "caption", PITH_FIELD_U8, PITH_FIELD_SHAPE(SCENE_TEXT)) : NULL;
    if (!caption) return PITH_E_MEMORY;
    label->columns = scene_columns;
    label->names = pith_shape_names;
    label->n_names = PITH_N_SHAPES;
    words->names = pith_caption_words;
    words->n_names = PITH_N_WORDS;
    scene_fields f = {.image = image->data, .label = label->data, .mask = mask->data, .words = words->data, .caption = caption->data};
    PITH_TRY(pith_textures_load(r, ds, &f.textures));
    pith_status status = pith_data_fill(r, ds, make_scene, &f);
    pith_textures_free(r->ctx, &f.textures);
    return status;
}

/* ---- factors ---------------------------------------------------------------------------------- */

/* shape, colour, size, x, y, background; the last one changes fastest. */
enum { N_FACTORS = 6, N_COMBINATIONS = 4 * 6 * 4 * 8 * 8 * 6, N_HELD_OUT = 5000 };
static const int factor_sizes[N_FACTORS] = {4, 6, 4, 8, 8, 6};
static const char *const factor_columns[N_FACTORS] = {"shape", "colour", "size", "x", "y", "background"};
static const uint8_t grounds[6][3] = {{20, 20, 24}, {235, 235, 230}, {120, 120, 120}, {88, 64, 40}, {30, 62, 52}, {34, 40, 92}};

static void make_factor(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    const size_t *order = user;
    size_t first = r->split == PITH_SPLIT_TEST ? N_COMBINATIONS - N_HELD_OUT : 0, rest = r->split == PITH_SPLIT_ALL ? i : order[first + i];
    uint8_t *label = (uint8_t *)ds->fields[1].data + i * N_FACTORS;
    for (int k = N_FACTORS - 1; k >= 0; k--) {
        label[k] = (uint8_t)(rest % (size_t)factor_sizes[k]);
        rest /= (size_t)factor_sizes[k];
    }
    float side = (float)r->size;
    pith_canvas canvas = {.image = (uint8_t *)ds->fields[0].data + i * 3 * r->size * r->size, .size = r->size};
    pith_shape shape = {
        .kind = label[0], .radius = side * (0.11f + 0.03f * (float)label[2]),
        .x = side * (0.22f + 0.08f * (float)label[3]), .y = side * (0.22f + 0.08f * (float)label[4]),
    };
    memcpy(shape.rgb, pith_colours[label[1]], 3);
    pith_draw_fill(&canvas, grounds[label[5]]);
    pith_draw_shape(&canvas, &shape);
}

pith_status pith_factors_open(const pith_data_request *r, pith_dataset *ds)
{
    const size_t most = r->split == PITH_SPLIT_ALL ? N_COMBINATIONS : r->split == PITH_SPLIT_TEST ? N_HELD_OUT : N_COMBINATIONS - N_HELD_OUT;
    PITH_TRY(pith_data_limit(r, ds, most));
    pith_field *image = pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(3, r->size, r->size));
    pith_field *label = image ? pith_dataset_add(ds, "label", PITH_FIELD_U8, PITH_FIELD_SHAPE(N_FACTORS)) : NULL;
    size_t *order = label ? pith_array(r->ctx, N_COMBINATIONS, sizeof *order) : NULL;
    if (!order) return PITH_E_MEMORY;
    label->columns = factor_columns;
    for (size_t i = 0; i < N_COMBINATIONS; i++) order[i] = i;
    pith_rng rng = {.seed = r->seed, .stream = pith_hash("factors order", 13)};
    for (size_t i = N_COMBINATIONS; i-- > 1;) { /* Fisher and Yates */
        size_t k = pith_rng_below(&rng, (uint32_t)i + 1), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    pith_status status = pith_data_fill(r, ds, make_factor, order);
    pith_free(r->ctx, order);
    return status;
}
