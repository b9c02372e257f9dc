/* clips32: the objects of scenes32 in motion.  Two in each clip, one of which moves or changes, so that a single frame does
 * not tell the motion.  The clip's label and its caption name it. */
#include <math.h>

#include "data/draw.h"

enum motion { STRAIGHT, BOUNCE, ARC, TURN, GROW, SHRINK, ORBIT, BEHIND, N_MOTIONS };
enum { CLIP_WORDS = 16, CLIP_TEXT = 128, CLIP_COLUMNS = 8 };

static const char *const motion_names[N_MOTIONS] = {"straight", "bounce", "arc", "turn", "grow", "shrink", "orbit", "behind"};
static const char *const verbs[N_MOTIONS] = {"moves", "bounces", "curves", "turns", "grows", "shrinks", "orbits", "passes behind"};
static const char *const directions[4] = {"right", "down", "left", "up"};
static const char *const clip_columns[CLIP_COLUMNS] = {"motion", "shape", "colour", "size", "direction", "shape 2", "colour 2", "background"};
static const float along[4][2] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};

/* A path: place and size at time t in 0..1, all in sides of the picture. */
typedef struct path {
    enum motion motion;
    int direction;
    bool other_way;          /* which way an arc bends, a turn goes, an orbit runs */
    float x, y, radius;      /* where it starts */
    float speed;             /* way in all */
    float phase;             /* of an orbit, in turns */
} path;

/* Between two walls at `margin` from the edges, as a ball. */
static float reflect(float x, float margin)
{
    float room = 1 - 2 * margin, u = fmodf(fabsf(x - margin), 2 * room);
    return margin + (u <= room ? u : 2 * room - u);
}

static void place(const path *p, float t, float *x, float *y, float *radius)
{
    float dx = along[p->direction][0], dy = along[p->direction][1], way = p->speed * t, side = p->other_way ? -1 : 1;
    *x = p->x + dx * way;
    *y = p->y + dy * way;
    *radius = p->radius;
    switch (p->motion) {
    case BOUNCE:
        *x = reflect(*x + 0.35f * way * dy * side, p->radius);
        *y = reflect(*y + 0.35f * way * dx * side, p->radius);
        break;
    case ARC: /* a parabola to the side */
        *x -= dy * side * 1.4f * t * (1 - t) * p->speed;
        *y += dx * side * 1.4f * t * (1 - t) * p->speed;
        break;
    case TURN: /* half the way, then round a corner */
        if (t > 0.5f) {
            float after = p->speed * (t - 0.5f);
            *x = p->x + dx * p->speed * 0.5f - dy * side * after;
            *y = p->y + dy * p->speed * 0.5f + dx * side * after;
        }
        break;
    case GROW:
    case SHRINK:
        *x = p->x;
        *y = p->y;
        *radius = p->radius * (0.6f + 1.1f * (p->motion == GROW ? t : 1 - t));
        break;
    case ORBIT: {
        float angle = 6.2831853f * (p->phase + side * t * 0.8f);
        *x = p->x + 0.22f * cosf(angle);
        *y = p->y + 0.22f * sinf(angle);
        break;
    }
    default:
        break;
    }
}

typedef struct clip_fields {
    uint8_t *image, *caption;
    int32_t *label, *words;
    float *track;
    pith_textures textures;
} clip_fields;

/* a COLOUR SHAPE VERB [DIRECTION] beside|around|: the other object, on GROUND */
static void write_clip(pith_caption *c, const path *p, int shape, int colour, int shape2, int colour2, int background)
{
    pith_caption_add(c, "a");
    pith_caption_add(c, pith_colour_names[colour]);
    pith_caption_add(c, pith_shape_names[shape]);
    pith_caption_add(c, verbs[p->motion]);
    if (p->motion == STRAIGHT || p->motion == ARC || p->motion == TURN) pith_caption_add(c, directions[p->direction]);
    if (p->motion != BEHIND) pith_caption_add(c, "beside");
    pith_caption_add(c, "a");
    pith_caption_add(c, pith_colour_names[colour2]);
    pith_caption_add(c, pith_shape_names[shape2]);
    pith_caption_add(c, "on");
    pith_caption_add(c, pith_background_names[background]);
}

static float between(pith_rng *rng, float low, float high) { return low + (high - low) * pith_rng_uniform(rng); }

static void make_clip(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    (void)ds;
    clip_fields *f = user;
    pith_rng rng = pith_data_rng(r, i);
    static const float radii[PITH_N_SIZES] = {0.085f, 0.11f, 0.14f};
    int shape = (int)pith_rng_below(&rng, PITH_N_SHAPES), colour = (int)pith_rng_below(&rng, PITH_N_COLOURS), size = (int)pith_rng_below(&rng, PITH_N_SIZES);
    int shape2 = (int)pith_rng_below(&rng, PITH_N_SHAPES), colour2 = (colour + 1 + (int)pith_rng_below(&rng, PITH_N_COLOURS - 1)) % PITH_N_COLOURS;
    int background = (int)pith_rng_below(&rng, PITH_N_BACKGROUNDS);
    path p = {.motion = (enum motion)pith_rng_below(&rng, N_MOTIONS), .direction = (int)pith_rng_below(&rng, 4), .other_way = pith_rng_below(&rng, 2),
              .radius = radii[size], .speed = between(&rng, 0.5f, 0.62f), .phase = pith_rng_uniform(&rng)};
    if (p.motion == BOUNCE) p.speed *= 3;
    float across = between(&rng, 0.3f, 0.7f), back = p.motion == ORBIT || p.motion == GROW || p.motion == SHRINK ? 0 : 0.28f;
    float dx = along[p.direction][0], dy = along[p.direction][1];
    p.x = back == 0 ? between(&rng, 0.35f, 0.65f) : 0.5f - back * dx + (across - 0.5f) * fabsf(dy);
    p.y = back == 0 ? between(&rng, 0.35f, 0.65f) : 0.5f - back * dy + (across - 0.5f) * fabsf(dx);
    pith_shape still = {.kind = shape2, .id = 2, .radius = 0.12f};
    if (p.motion == BEHIND) { /* in the way, and in front */
        still.x = p.x + dx * p.speed * 0.5f;
        still.y = p.y + dy * p.speed * 0.5f;
        still.radius = 0.15f;
    } else {
        still.x = between(&rng, 0.15f, 0.85f);
        still.y = between(&rng, 0.15f, 0.85f);
    }
    float side = (float)r->size;
    still.x *= side, still.y *= side, still.radius *= side;
    memcpy(still.rgb, pith_colours[colour2], 3);
    pith_rng texture = rng; /* the same piece of background in each frame */
    for (size_t t = 0; t < r->frames; t++) {
        pith_canvas canvas = {.image = f->image + (i * r->frames + t) * 3 * r->size * r->size, .size = r->size};
        pith_shape moving = {.kind = shape, .id = 1};
        float time = r->frames > 1 ? (float)t / (float)(r->frames - 1) : 0;
        place(&p, time, &moving.x, &moving.y, &moving.radius);
        float *track = f->track + (i * r->frames + t) * 3;
        track[0] = moving.x, track[1] = moving.y, track[2] = moving.radius;
        moving.x *= side, moving.y *= side, moving.radius *= side;
        memcpy(moving.rgb, pith_colours[colour], 3);
        rng = texture;
        pith_draw_background(&canvas, &f->textures, background, &rng);
        pith_draw_shape(&canvas, p.motion == BEHIND ? &moving : &still);
        pith_draw_shape(&canvas, p.motion == BEHIND ? &still : &moving);
    }
    bool directed = p.motion == STRAIGHT || p.motion == ARC || p.motion == TURN || p.motion == BEHIND;
    const int32_t label[CLIP_COLUMNS] = {(int32_t)p.motion, shape, colour, size, directed ? p.direction : -1, shape2, colour2, background};
    memcpy(f->label + i * CLIP_COLUMNS, label, sizeof label);
    pith_caption caption = {.ids = f->words + i * CLIP_WORDS, .max_words = CLIP_WORDS, .text = (char *)f->caption + i * CLIP_TEXT, .max_len = CLIP_TEXT};
    write_clip(&caption, &p, shape, colour, shape2, colour2, background);
}

pith_status pith_clips_open(const pith_data_request *r, pith_dataset *ds)
{
    pith_field *image = pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(r->frames, 3, r->size, r->size));
    pith_field *label = image ? pith_dataset_add(ds, "label", PITH_FIELD_I32, PITH_FIELD_SHAPE(CLIP_COLUMNS)) : NULL;
    pith_field *track = label ? pith_dataset_add(ds, "track", PITH_FIELD_F32, PITH_FIELD_SHAPE(r->frames, 3)) : NULL;
    pith_field *words = track ? pith_dataset_add(ds, "words", PITH_FIELD_I32, PITH_FIELD_SHAPE(CLIP_WORDS)) : NULL;
    pith_field *caption = words ? pith_dataset_add(ds, "caption", PITH_FIELD_U8, PITH_FIELD_SHAPE(CLIP_TEXT)) : NULL;
    if (!caption) return PITH_E_MEMORY;
    label->columns = clip_columns;
    label->names = motion_names; /* of the first column */
    label->n_names = N_MOTIONS;
    words->names = pith_caption_words;
    words->n_names = PITH_N_WORDS;
    clip_fields f = {.image = image->data, .label = label->data, .track = track->data, .words = words->data, .caption = caption->data};
    PITH_TRY(pith_textures_load(r, ds, &f.textures));
    pith_status status = pith_data_fill(r, ds, make_clip, &f);
    pith_textures_free(r->ctx, &f.textures);
    return status;
}
