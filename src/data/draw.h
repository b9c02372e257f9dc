/* Pictures of shapes on backgrounds, for sets made from a seed.  For src/data only. */
#ifndef PITH_DATA_DRAW_H
#define PITH_DATA_DRAW_H

#include "data/sets.h"

enum { PITH_N_SHAPES = 6, PITH_N_COLOURS = 8, PITH_N_SIZES = 3, PITH_N_CELLS = 9, PITH_N_BACKGROUNDS = 6, PITH_N_WORDS = 52 };

extern const char *const pith_shape_names[PITH_N_SHAPES];
extern const char *const pith_colour_names[PITH_N_COLOURS];
extern const char *const pith_size_names[PITH_N_SIZES];
extern const char *const pith_cell_names[PITH_N_CELLS];       /* "top left" … */
extern const char *const pith_background_names[PITH_N_BACKGROUNDS];
/* Words of captions: 0 is the end, 1..40 serve scenes, the rest say how things move in clips. */
extern const char *const pith_caption_words[PITH_N_WORDS];

extern const uint8_t pith_colours[PITH_N_COLOURS][3];

/* A picture being made: planar [3, size, size], and whose pixel it is. */
typedef struct pith_canvas {
    uint8_t *image;
    uint8_t *mask;         /* [size, size]; NULL: not wanted */
    size_t size;
} pith_canvas;

typedef struct pith_shape {
    int kind;
    float x, y, radius;    /* in pixels */
    uint8_t rgb[3];
    uint8_t id;            /* what its pixels are in the mask */
} pith_shape;

/** Paint over what is there; a pixel that is covered by half or more is the shape's in the mask.  16 samples a pixel. */
void pith_draw_shape(const pith_canvas *canvas, const pith_shape *shape);
/** One colour. */
void pith_draw_fill(const pith_canvas *canvas, const uint8_t rgb[3]);

/* Textures behind the shapes: two photos if they are there, else made. */
#define PITH_TEXTURE 256
typedef struct pith_textures {
    uint8_t *grey[2];      /* [PITH_TEXTURE, PITH_TEXTURE] */
} pith_textures;
/** Load or make; ds->source says which, and a log line when they are made. */
pith_status pith_textures_load(const pith_data_request *request, pith_dataset *ds, pith_textures *textures);
void pith_textures_free(pith_ctx *ctx, pith_textures *textures);
/** Background `kind`, its phase drawn from rng. */
void pith_draw_background(const pith_canvas *canvas, const pith_textures *textures, int kind, pith_rng *rng);

/* A caption being written: words into ids [max], and as text. */
typedef struct pith_caption {
    int32_t *ids;
    char *text;
    size_t n, max_words, len, max_len;
} pith_caption;
/** Add each word of `words` (separated by blanks).  A word that is not in pith_caption_words is our mistake. */
void pith_caption_add(pith_caption *caption, const char *words);

#endif
