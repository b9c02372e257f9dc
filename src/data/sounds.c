/* Sets of sound: windows of recordings in a folder, and spoken digits. */
#include <math.h>
#include <stdlib.h>

#include "data/media.h"
#include "data/readers.h"
#include "data/sets.h"

static const char *const sound_ends[] = {".wav", ".flac", ".ogg", ".oga", ".opus", NULL};

enum { USUAL_LENGTH = 8192, SPOKEN_LENGTH = 6000 };

/* A file as one channel, the mean of what it has. */
static pith_status read_mono(pith_ctx *ctx, const char *path, const uint8_t *bytes, size_t len, pith_sound *sound)
{
    PITH_TRY(pith_sound_read(ctx, path, bytes, len, sound));
    for (size_t i = 0; i < sound->samples && sound->channels > 1; i++) {
        float sum = 0;
        for (size_t c = 0; c < sound->channels; c++) sum += sound->data[c * sound->samples + i];
        sound->data[i] = sum / (float)sound->channels;
    }
    sound->channels = 1;
    return PITH_OK;
}

static pith_status check_rate(const pith_data_request *r, pith_dataset *ds, const char *path, size_t rate)
{
    if (!ds->rate) ds->rate = rate;
    if (ds->rate == rate) return PITH_OK;
    return pith_fail(r->ctx, PITH_E_UNSUPPORTED, "%s: has %zu samples a second, the files before it %zu; a set has one rate (ffmpeg -ar %zu makes it so)", path, rate, ds->rate, ds->rate);
}

/* ---- windows of the files in a folder --------------------------------------------------------- */

/* Every tenth file is for tests. */
typedef struct window_job {
    pith_name_list names;
    pith_sound *sounds;        /* [names.n], those of the split and not silent have samples */
    size_t *ends;              /* [names.n] samples up to and with each: what chance draws from */
    size_t length;
} window_job;

/* A place among all samples chooses the recording, then the window anywhere in it; one that is shorter stands before zeros. */
static void cut_window(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    const window_job *job = user;
    pith_rng rng = pith_data_rng(r, i);
    size_t total = job->ends[job->names.n - 1], place = (size_t)((double)pith_rng_uniform(&rng) * (double)total), k = 0;
    while (job->ends[k] <= place) k++;
    const pith_sound *s = &job->sounds[k];
    size_t n = PITH_MIN(s->samples, job->length), first = pith_rng_below(&rng, (uint32_t)(s->samples - n + 1));
    memcpy((float *)ds->fields[0].data + i * job->length, s->data + first, n * sizeof(float));
    ((int32_t *)ds->fields[1].data)[i] = (int32_t)k;
}

static pith_status load_sound(const pith_data_request *r, pith_dataset *ds, const char *path, pith_sound *sound)
{
    pith_map map;
    PITH_TRY(pith_map_open(r->ctx, path, &map));
    pith_status status = read_mono(r->ctx, path, map.data, map.len, sound);
    pith_map_close(r->ctx, &map);
    PITH_TRY(status);
    PITH_TRY(check_rate(r, ds, path, sound->rate));
    float loudest = 0;
    for (size_t i = 0; i < sound->samples; i++) loudest = fmaxf(loudest, fabsf(sound->data[i]));
    if (loudest > 1.0f / 256) return PITH_OK;
    pith_log(r->ctx, PITH_LOG_INFO, "%s: silent, left out", path);
    pith_sound_free(r->ctx, sound);
    return PITH_OK;
}

static pith_status load_sounds(const pith_data_request *r, pith_dataset *ds, const char *folder, window_job *job, size_t *n_sounds)
{
    PITH_TRY(pith_name_list_walk(r->ctx, folder, sound_ends, &job->names));
    size_t n = job->names.n;
    job->sounds = pith_calloc(r->ctx, PITH_MAX(n, (size_t)1), sizeof *job->sounds);
    job->ends = pith_calloc(r->ctx, PITH_MAX(n, (size_t)1), sizeof *job->ends);
    if (!job->sounds || !job->ends) return PITH_E_MEMORY;
    size_t total = 0;
    *n_sounds = 0;
    for (size_t i = 0; i < n; i++) {
        char path[2 * PITH_DATA_PATH];
        snprintf(path, sizeof path, "%s/%s", folder, job->names.name[i]);
        PITH_TRY(pith_progress(r->ctx, "reading sounds", i, n));
        if ((r->split == PITH_SPLIT_TEST) == (i % 10 == 9)) PITH_TRY(load_sound(r, ds, path, &job->sounds[i]));
        *n_sounds += job->sounds[i].samples > 0;
        job->ends[i] = total += job->sounds[i].samples;
    }
    if (*n_sounds == 0) return pith_fail(r->ctx, PITH_E_IO, "%s: no WAV, FLAC or Ogg file for \"%s\" that is not silent; every tenth is for tests", folder, ds->split);
    return PITH_OK;
}

static pith_status fill_windows(const pith_data_request *r, pith_dataset *ds, window_job *job)
{
    pith_field *sound = pith_dataset_add(ds, "sound", PITH_FIELD_F32, PITH_FIELD_SHAPE(1, job->length));
    pith_field *label = sound ? pith_dataset_add(ds, "label", PITH_FIELD_I32, 0, NULL) : NULL;
    if (!label) return PITH_E_MEMORY;
    for (size_t i = 0; i < job->names.n; i++) *strrchr(job->names.name[i], '.') = 0;
    PITH_TRY(pith_name_list_give(&job->names, ds, label));
    return pith_data_fill(r, ds, cut_window, job);
}

pith_status pith_sound_folder_open(const pith_data_request *r, const char *folder, pith_dataset *ds)
{
    window_job job = {.length = r->length ? r->length : USUAL_LENGTH};
    size_t n_sounds;
    pith_status status = load_sounds(r, ds, folder, &job, &n_sounds);
    if (status == PITH_OK) status = fill_windows(r, ds, &job);
    if (status == PITH_OK) snprintf(ds->source, sizeof ds->source, "windows by seed %llu of %zu recordings in %.150s", (unsigned long long)r->seed, n_sounds, folder);
    for (size_t i = 0; i < job.names.n && job.sounds; i++) pith_sound_free(r->ctx, &job.sounds[i]);
    pith_free(r->ctx, job.sounds);
    pith_free(r->ctx, job.ends);
    pith_name_list_free(&job.names);
    return status;
}

pith_status pith_speech_open(const pith_data_request *r, pith_dataset *ds)
{
    char folder[PITH_DATA_PATH];
    const pith_data_file *file = r->set->files;
    if (!pith_data_locate(file, folder)) return pith_data_missing(r, "recordings are");
    folder[strlen(folder) - 1] = 0; /* the '/' */
    PITH_TRY(pith_sound_folder_open(r, folder, ds));
    snprintf(ds->source, sizeof ds->source, "windows by seed %llu of %s from Debian", (unsigned long long)r->seed, file->package);
    return PITH_OK;
}

/* ---- spoken digits ---------------------------------------------------------------------------- */

static const char *const digit_names[10] = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"};
static const char *const voices[] = {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"};
enum { TAKES = 5, PER_TAKE = 10 * PITH_COUNT(voices) };

/* A tar of recordings/DIGIT_VOICE_TAKE.wav with takes 0..4, of which the last is for tests. */
typedef struct spoken_job {
    const pith_data_request *r;
    pith_dataset *ds;
    const char *tar;
    size_t n;                  /* of the split, so far */
    bool seen[TAKES * PER_TAKE]; /* of the split */
} spoken_job;

/* Which one a name says it is: false: not of this form. */
static bool parse_spoken(const char *path, size_t *digit, size_t *voice, size_t *take)
{
    const char *name = strrchr(path, '/'), *under;
    name = name ? name + 1 : path;
    if (name[0] < '0' || name[0] > '9' || name[1] != '_' || !(under = strchr(name + 2, '_')) || under[1] < '0' || under[1] >= '0' + TAKES || strcmp(under + 2, ".wav") != 0) return false;
    for (*voice = 0; *voice < PITH_COUNT(voices); ++*voice)
        if (strlen(voices[*voice]) == (size_t)(under - name - 2) && strncmp(voices[*voice], name + 2, (size_t)(under - name - 2)) == 0) break;
    *digit = (size_t)(name[0] - '0');
    *take = (size_t)(under[1] - '0');
    return *voice < PITH_COUNT(voices);
}

/* Items are stored take by take, voice by voice, digit by digit, whatever the tar's order. */
static pith_status take_spoken(void *user, const char *path, const uint8_t *bytes, size_t len)
{
    spoken_job *job = user;
    size_t digit, voice, take, length = job->ds->fields[0].n_values;
    if (!parse_spoken(path, &digit, &voice, &take)) return pith_fail(job->r->ctx, PITH_E_CORRUPT, "%s: %s is no recording DIGIT_VOICE_TAKE.wav", job->tar, path);
    bool test = job->r->split == PITH_SPLIT_TEST;
    if (test != (take == TAKES - 1)) return PITH_OK;
    size_t at = (test ? 0 : take * PER_TAKE) + voice * 10 + digit;
    if (job->seen[at]) return pith_fail(job->r->ctx, PITH_E_CORRUPT, "%s: %s is there twice", job->tar, path);
    job->seen[at] = true;
    job->n++;
    if (at >= job->ds->n) return PITH_OK;
    pith_sound sound;
    PITH_TRY(read_mono(job->r->ctx, path, bytes, len, &sound));
    size_t n = PITH_MIN(sound.samples, length);
    memcpy((float *)job->ds->fields[0].data + at * length, sound.data, n * sizeof(float));
    ((int32_t *)job->ds->fields[1].data)[at * 2] = (int32_t)digit;
    ((int32_t *)job->ds->fields[1].data)[at * 2 + 1] = (int32_t)voice;
    ((int32_t *)job->ds->fields[2].data)[at] = (int32_t)n;
    pith_status status = check_rate(job->r, job->ds, path, sound.rate);
    pith_sound_free(job->r->ctx, &sound);
    return status;
}

pith_status pith_spoken_open(const pith_data_request *r, pith_dataset *ds)
{
    static const char *const columns[] = {"digit", "voice"};
    size_t there = PER_TAKE * (r->split == PITH_SPLIT_TEST ? 1 : TAKES - 1), length = r->length ? r->length : SPOKEN_LENGTH, len;
    char path[PITH_DATA_PATH];
    if (!pith_data_locate(r->set->files, path)) return pith_data_missing(r, "recordings are");
    PITH_TRY(pith_data_limit(r, ds, there));
    pith_field *sound = pith_dataset_add(ds, "sound", PITH_FIELD_F32, PITH_FIELD_SHAPE(1, length));
    pith_field *label = sound ? pith_dataset_add(ds, "label", PITH_FIELD_I32, PITH_FIELD_SHAPE(2)) : NULL;
    if (!label || !pith_dataset_add(ds, "length", PITH_FIELD_I32, 0, NULL)) return PITH_E_MEMORY;
    label->names = digit_names;
    label->n_names = 10;
    label->columns = columns;
    uint8_t *bytes;
    PITH_TRY(pith_data_read(r->ctx, r->set->files, path, &bytes, &len));
    spoken_job job = {.r = r, .ds = ds, .tar = path};
    pith_status status = pith_archive_each(r->ctx, path, bytes, len, &(pith_archive_visitor){.file = take_spoken, .user = &job});
    pith_free(r->ctx, bytes);
    if (status == PITH_OK && job.n != there) status = pith_fail(r->ctx, PITH_E_CORRUPT, "%s: %zu recordings for \"%s\", not %zu", path, job.n, ds->split, there);
    snprintf(ds->source, sizeof ds->source, "PITH_DATA, %s", r->set->files->path);
    return status;
}
