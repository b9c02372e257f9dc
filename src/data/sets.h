/* The table's rows, and what the files that fill data sets share.  For src/data only.
 *
 * A new set: its row in sets.c, and a function that fills it (pith_data_open_fn), in a file of its own or beside its
 * like.  List, info, get, help and the tests go over the table. */
#ifndef PITH_DATA_SETS_H
#define PITH_DATA_SETS_H

#include "data/data.h"

typedef enum pith_data_from { PITH_FROM_FOLDER, PITH_FROM_PYPI, PITH_FROM_DEBIAN } pith_data_from;

/* A file that a set is read from. */
typedef struct pith_data_file {
    pith_data_from from;
    int group;                 /* files of one group belong together; any whole group will do, but one below 0, which adds to others */
    const char *package;       /* PyPI, Debian; NULL: PITH_DATA */
    const char *version;       /* PyPI, pinned.  NULL: Debian, what the release has */
    const char *path;          /* in PITH_DATA, in the package, or on an installed system without the first '/'; ends
                                  with '/': any files in that folder, of a package also below it */
    uint64_t checksum;         /* XXH3 of the file; 0: not pinned */
} pith_data_file;

/* What was asked for, with nothing left at "the usual". */
typedef struct pith_data_request {
    pith_ctx *ctx;
    const struct pith_data_set *set;
    enum { PITH_SPLIT_TRAIN, PITH_SPLIT_TEST, PITH_SPLIT_ALL } split;
    uint64_t seed;
    size_t n;                  /* 0: all there is (files) */
    bool or_fewer;             /* n, or all there is */
    size_t size, frames;
    size_t length, pairs;      /* 0: the set's usual */
    size_t columns, text_size; /* of pages; 0: the usual */
    float noise;
} pith_data_request;

/** Set ds->n, add fields and fill them; source too when it is not "made from seed".  What is in ds is freed by the
 *  caller, on errors too. */
typedef pith_status pith_data_open_fn(const pith_data_request *request, pith_dataset *ds);

typedef struct pith_data_set {
    const char *name;
    pith_data_kind kind;
    const char *summary, *source, *licence;
    size_t n_train, n_test, n_quick;   /* usual numbers; 0: what the files have.  n_quick: of train, test has a quarter */
    const pith_data_file *files;       /* path NULL ends them; NULL: made from a seed */
    pith_data_open_fn *open;
    int kind_of;                       /* for the function, when it serves several sets */
    bool all;                          /* has the split "all" */
    size_t size;                       /* usual height and width of images; 0: 32 */
} pith_data_set;

/* Cut out of files by a seed: as many as one likes. */
enum { PITH_USUAL_WINDOWS = 2000, PITH_USUAL_CLIPS = 1000 };

extern const pith_data_set pith_data_sets[]; /* name NULL ends it */

/* Groups of the set "photos", which lends its textures to made pictures. */
enum { PITH_PHOTOS_TEXTURES = -1, PITH_PHOTOS_FOLDER, PITH_PHOTOS_COLOUR };
extern const pith_data_file pith_photo_files[];

/* ---- filling a data set ----------------------------------------------------------------------- */

/** A field [ds->n, dims…] of zeros, its memory the data set's.  NULL: memory (ctx has the sentence). */
pith_field *pith_dataset_add(pith_dataset *ds, const char *name, pith_field_type type, int n_dims, const size_t *dims);
#define PITH_FIELD_SHAPE(...) (int)PITH_COUNT(((const size_t[]){__VA_ARGS__})), (const size_t[]){__VA_ARGS__}
/** Set ds->n: what is asked for of the items that are there.  @return PITH_E_ARGUMENT: there are fewer, and fewer will not do */
pith_status pith_data_limit(const pith_data_request *request, pith_dataset *ds, size_t there);
/** The random numbers of item i: a stream of its own for each set, split and seed; 2^20 of them. */
pith_rng pith_data_rng(const pith_data_request *request, uint64_t i);
/** fill(request, ds, i) for each item over the context's threads, with progress.  @return PITH_E_CANCELLED */
typedef void pith_data_fill_fn(const pith_data_request *request, pith_dataset *ds, void *user, size_t i);
pith_status pith_data_fill(const pith_data_request *request, pith_dataset *ds, pith_data_fill_fn *fill, void *user);

/* ---- finding files ---------------------------------------------------------------------------- */

#define PITH_DATA_PATH 1024

#define PITH_DATA_WHOLE ".whole" /* a file in a fetched folder that says all of it is there */

/** Where `file` is; false: nowhere.  path has PITH_DATA_PATH bytes. */
bool pith_data_locate(const pith_data_file *file, char *path);
/** Whether every file of a group is there. */
bool pith_data_group_there(const pith_data_set *set, int group);
/** The cache's folder; false: neither XDG_CACHE_HOME nor HOME is set. */
bool pith_data_cache(char *path);
/** Where a fetched file is kept. */
bool pith_data_cached_path(const pith_data_file *file, char *path);
/** "… is not there: type `pith data get NAME`", or where to put it, as an error. */
pith_status pith_data_missing(const pith_data_request *request, const char *what);
/** Hold the file at `path`, where it was located, against its checksum, if it has one.  @return PITH_E_CORRUPT, PITH_E_IO */
pith_status pith_data_check(pith_ctx *ctx, const pith_data_file *file, const char *path);
/** Read a whole file, gunzipped when its name ends in .gz or .dz, and hold it against its checksum.  *data is freed by
 *  pith_free.  *path (PITH_DATA_PATH) for messages.  @return PITH_E_IO when it is nowhere, PITH_E_CORRUPT */
pith_status pith_data_read(pith_ctx *ctx, const pith_data_file *file, char *path, uint8_t **data, size_t *len);

/* Names, sorted. */
typedef struct pith_name_list {
    pith_ctx *ctx;
    char **name;
    size_t n, cap;
} pith_name_list;
void pith_name_list_free(pith_name_list *names);
/** A copy of name, as the last. */
pith_status pith_name_list_add(pith_name_list *names, const char *name);
/** Files of a folder whose names end as one of `ends` (NULL ends them; upper or lower case), or where ends is NULL the
 *  folders in it; hidden ones left out.  @return PITH_E_IO, PITH_E_MEMORY */
pith_status pith_name_list_read(pith_ctx *ctx, const char *path, const char *const *ends, pith_name_list *names);
/** Such files of the folder and of those in it: "a.wav", "b/c.wav". */
pith_status pith_name_list_walk(pith_ctx *ctx, const char *path, const char *const *ends, pith_name_list *names);
/** A copy of them becomes what a field's values mean (ds->own holds it; once a set). */
pith_status pith_name_list_give(const pith_name_list *names, pith_dataset *ds, pith_field *field);

/* ---- the functions that fill sets -------------------------------------------------------------- */

pith_data_open_fn pith_scenes_open, pith_factors_open, pith_clips_open, pith_sequences_open, pith_recall_open, pith_passkey_open, pith_clicks_open,
    pith_mnist_open, pith_cifar_open, pith_photos_open, pith_corpus_open, pith_speech_open, pith_spoken_open, pith_films_open, pith_pages_open;
/** A user's folder; request->set is a row of its own, not in the table. */
typedef pith_status pith_folder_open_fn(const pith_data_request *request, const char *path, pith_dataset *ds);
/** Images, classes as subfolders. */
pith_folder_open_fn pith_image_folder_open;
/** Windows of sound files; clips of videos. */
pith_folder_open_fn pith_sound_folder_open, pith_film_folder_open;

#endif
