/* Clips cut out of videos at random places and times. */
#include "data/media.h"
#include "data/sets.h"

static const char *const film_ends[] = {".y4m", ".mp4", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".ogv", NULL};

enum { MAX_FILMS = 64, FINEST = 4 }; /* FINEST: frames are kept at about this many times a clip's side */

/* What is kept of a video: frames [n, 3, height, width] of the split. */
typedef struct film {
    uint8_t *frames;
    size_t n, cap, width, height;
} film;

typedef struct film_job {
    film films[MAX_FILMS];
    size_t n;
} film_job;

/* Mean of blocks of k x k pixels; what is left at the right and below is left out. */
static void shrink(const uint8_t *src, size_t width, size_t height, size_t k, uint8_t *dst)
{
    size_t w = width / k, h = height / k, count = k * k;
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++) {
                size_t sum = count / 2;
                for (size_t j = 0; j < k; j++)
                    for (size_t i = 0; i < k; i++) sum += src[(c * height + y * k + j) * width + x * k + i];
                dst[(c * h + y) * w + x] = (uint8_t)(sum / count);
            }
}

/* Clips of the first four fifths of a film train, those of the last one test. */
static void keep_split(const pith_data_request *r, film *f)
{
    size_t border = f->n - f->n / 5, frame = 3 * f->width * f->height;
    if (r->split == PITH_SPLIT_TEST) {
        memmove(f->frames, f->frames + border * frame, (f->n - border) * frame);
        f->n -= border;
    } else {
        f->n = border;
    }
}

static pith_status read_frames(const pith_data_request *r, pith_video *video, film *f)
{
    const pith_video_info *info = pith_video_about(video);
    size_t side = PITH_MIN(info->width, info->height), k = PITH_MAX(side / (FINEST * r->size), (size_t)1);
    f->width = info->width / k, f->height = info->height / k;
    size_t frame = 3 * f->width * f->height;
    uint8_t *rgb = pith_array(r->ctx, 3 * info->width, info->height);
    pith_status status = rgb ? PITH_OK : PITH_E_MEMORY;
    for (bool got = true; status == PITH_OK && got;) {
        status = pith_video_next(video, rgb, &got);
        if (status != PITH_OK || !got) break;
        if (f->n == f->cap) {
            size_t cap = f->cap ? 2 * f->cap : 64, bytes;
            uint8_t *grown = pith_mul(cap, frame, &bytes) ? pith_resize(r->ctx, f->frames, bytes) : NULL;
            if (!grown) status = PITH_E_MEMORY;
            else f->frames = grown, f->cap = cap;
        }
        if (status == PITH_OK) shrink(rgb, info->width, info->height, k, f->frames + f->n++ * frame);
        if (status == PITH_OK) status = pith_progress(r->ctx, "reading video", f->n, PITH_MAX(info->n_frames, f->n));
    }
    pith_free(r->ctx, rgb);
    return status;
}

/* A film that is too small or too short for a clip is left out, with a log line. */
static pith_status add_film(const pith_data_request *r, film_job *job, const char *path)
{
    if (job->n == MAX_FILMS) return pith_fail(r->ctx, PITH_E_LIMIT, "%s: more than %d videos in a set", path, MAX_FILMS);
    film *f = &job->films[job->n];
    pith_video *video;
    PITH_TRY(pith_video_open(r->ctx, path, &video));
    job->n++;
    pith_status status = read_frames(r, video, f);
    pith_video_close(video);
    PITH_TRY(status);
    keep_split(r, f);
    if (f->n >= r->frames && f->width >= r->size && f->height >= r->size) return PITH_OK;
    pith_log(r->ctx, PITH_LOG_WARN, "%s: %zu frames of %zu x %zu for \"%s\", too few or too small for clips of %zu frames of %zu pixels a side: left out", path, f->n, f->width, f->height,
             r->split == PITH_SPLIT_TEST ? "test" : "train", r->frames, r->size);
    f->n = 0;
    return PITH_OK;
}

/* Each film by the number of clips that begin in it; a square anywhere, of every pixel or (half the time) the mean of 2 x 2. */
static void cut_clip(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    const film_job *job = user;
    pith_rng rng = pith_data_rng(r, i);
    size_t total = 0, k = 0, size = r->size;
    for (size_t j = 0; j < job->n; j++) total += job->films[j].n ? job->films[j].n - r->frames + 1 : 0;
    size_t first = pith_rng_below(&rng, (uint32_t)total);
    for (;; k++) {
        size_t n = job->films[k].n ? job->films[k].n - r->frames + 1 : 0;
        if (first < n) break;
        first -= n;
    }
    const film *f = &job->films[k];
    size_t step = 1 + pith_rng_below(&rng, 2);
    if (size * step > f->width || size * step > f->height) step = 1;
    size_t x0 = pith_rng_below(&rng, (uint32_t)(f->width - size * step + 1)), y0 = pith_rng_below(&rng, (uint32_t)(f->height - size * step + 1));
    uint8_t *dst = (uint8_t *)ds->fields[0].data + i * ds->fields[0].n_values;
    for (size_t t = 0; t < 3 * r->frames; t++) /* planes of frames */
        for (size_t y = 0; y < size; y++)
            for (size_t x = 0; x < size; x++) {
                const uint8_t *p = f->frames + ((first * 3 + t) * f->height + y0 + y * step) * f->width + x0 + x * step;
                *dst++ = step == 1 ? p[0] : (uint8_t)((p[0] + p[1] + p[f->width] + p[f->width + 1] + 2) / 4);
            }
    ((int32_t *)ds->fields[1].data)[i] = (int32_t)k;
}

/* names: of job's films */
static pith_status fill_clips(const pith_data_request *r, pith_dataset *ds, film_job *job, const pith_name_list *names)
{
    size_t n = 0;
    for (size_t i = 0; i < job->n; i++) n += job->films[i].n;
    if (n == 0) return pith_fail(r->ctx, PITH_E_IO, "%s: no video with a clip of %zu frames of %zu pixels a side for \"%s\"; the last fifth of each is for tests", ds->name, r->frames, r->size, ds->split);
    pith_field *image = pith_dataset_add(ds, "image", PITH_FIELD_U8, PITH_FIELD_SHAPE(r->frames, 3, r->size, r->size));
    pith_field *label = image ? pith_dataset_add(ds, "label", PITH_FIELD_I32, 0, NULL) : NULL;
    if (!label) return PITH_E_MEMORY;
    PITH_TRY(pith_name_list_give(names, ds, label));
    return pith_data_fill(r, ds, cut_clip, job);
}

static pith_status open_films(const pith_data_request *r, const char *folder, const pith_name_list *names, pith_dataset *ds)
{
    film_job *job = pith_calloc(r->ctx, 1, sizeof *job);
    pith_status status = job ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < names->n && status == PITH_OK; i++) {
        char path[2 * PITH_DATA_PATH];
        snprintf(path, sizeof path, "%s/%s", folder, names->name[i]);
        status = add_film(r, job, path);
    }
    if (status == PITH_OK) status = fill_clips(r, ds, job, names);
    for (size_t i = 0; job && i < job->n; i++) pith_free(r->ctx, job->films[i].frames);
    pith_free(r->ctx, job);
    return status;
}

pith_status pith_film_folder_open(const pith_data_request *r, const char *folder, pith_dataset *ds)
{
    pith_name_list names;
    PITH_TRY(pith_name_list_walk(r->ctx, folder, film_ends, &names));
    pith_status status = open_films(r, folder, &names, ds);
    snprintf(ds->source, sizeof ds->source, "clips by seed %llu of %zu videos in %.150s", (unsigned long long)r->seed, names.n, folder);
    pith_name_list_free(&names);
    return status;
}

/* All of the set's files lie in one folder. */
pith_status pith_films_open(const pith_data_request *r, pith_dataset *ds)
{
    char path[PITH_DATA_PATH] = "";
    const pith_data_file *files = r->set->files;
    pith_name_list names = {.ctx = r->ctx};
    pith_status status = PITH_OK;
    for (const pith_data_file *f = files; f->path && status == PITH_OK; f++) {
        if (!pith_data_locate(f, path)) status = pith_data_missing(r, "videos are");
        if (status == PITH_OK) status = pith_data_check(r->ctx, f, path);
        if (status == PITH_OK) status = pith_name_list_add(&names, strrchr(path, '/') + 1);
    }
    if (status == PITH_OK) {
        *strrchr(path, '/') = 0;
        status = open_films(r, path, &names, ds);
    }
    snprintf(ds->source, sizeof ds->source, "clips by seed %llu of %zu videos of %s %s from PyPI", (unsigned long long)r->seed, names.n, files->package, files->version);
    pith_name_list_free(&names);
    return status;
}
