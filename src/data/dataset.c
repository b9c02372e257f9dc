/* Data sets: opening by name, fields, hash. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "data/sets.h"

#define MAX_FIELDS 8
#define USUAL_SEED 7

size_t pith_field_item_bytes(const pith_field *field) { return field->n_values * (field->type == PITH_FIELD_U8 ? 1 : 4); }

const void *pith_field_item(const pith_field *field, size_t i) { return (const uint8_t *)field->data + i * pith_field_item_bytes(field); }

const pith_field *pith_dataset_field(const pith_dataset *ds, const char *name)
{
    for (size_t i = 0; i < ds->n_fields; i++)
        if (strcmp(ds->fields[i].name, name) == 0) return &ds->fields[i];
    return NULL;
}

pith_field *pith_dataset_add(pith_dataset *ds, const char *name, pith_field_type type, int n_dims, const size_t *dims)
{
    if (ds->n_fields == MAX_FIELDS || n_dims > PITH_FIELD_DIMS) {
        pith_fail(ds->ctx, PITH_E_INTERNAL, "%s: field %s: more than %d fields or %d dimensions", ds->name, name, MAX_FIELDS, PITH_FIELD_DIMS);
        return NULL;
    }
    pith_field field = {.type = type, .n_dims = n_dims, .n_values = 1};
    snprintf(field.name, sizeof field.name, "%s", name);
    size_t bytes = type == PITH_FIELD_U8 ? 1 : 4;
    bool fits = true;
    for (int d = 0; d < n_dims; d++) {
        field.dims[d] = dims[d];
        fits = fits && pith_mul(field.n_values, dims[d], &field.n_values);
    }
    if (!fits || !pith_mul(bytes, field.n_values, &bytes) || !pith_mul(bytes, ds->n, &bytes)) bytes = SIZE_MAX;
    field.data = pith_calloc(ds->ctx, bytes, 1);
    if (!field.data) return NULL;
    ds->fields[ds->n_fields] = field;
    return &ds->fields[ds->n_fields++];
}

void pith_dataset_free(pith_dataset *ds)
{
    if (!ds) return;
    for (size_t i = 0; i < ds->n_fields; i++) pith_free(ds->ctx, ds->fields[i].data);
    pith_free(ds->ctx, ds->fields);
    pith_free(ds->ctx, ds->own);
    pith_free(ds->ctx, ds);
}

static pith_status pick_fields(const pith_dataset *ds, const size_t *items, pith_dataset *picked)
{
    picked->fields = pith_calloc(ds->ctx, MAX_FIELDS, sizeof *picked->fields);
    if (!picked->fields) return PITH_E_MEMORY;
    for (size_t i = 0; i < picked->n; i++)
        if (items[i] >= ds->n) return pith_fail(ds->ctx, PITH_E_ARGUMENT, "%s: item %zu of %zu cannot be picked", ds->name, items[i], ds->n);
    for (size_t f = 0; f < ds->n_fields; f++) {
        const pith_field *from = &ds->fields[f];
        pith_field *to = pith_dataset_add(picked, from->name, from->type, from->n_dims, from->dims);
        if (!to) return PITH_E_MEMORY;
        size_t bytes = pith_field_item_bytes(from);
        for (size_t i = 0; i < picked->n; i++) memcpy((uint8_t *)to->data + i * bytes, pith_field_item(from, items[i]), bytes);
        to->names = from->names;
        to->n_names = from->n_names;
        to->columns = from->columns;
    }
    return PITH_OK;
}

pith_status pith_dataset_pick(const pith_dataset *ds, const size_t *items, size_t n, pith_dataset **out)
{
    pith_dataset *picked = pith_calloc(ds->ctx, 1, sizeof *picked);
    if (!picked) return PITH_E_MEMORY;
    *picked = (pith_dataset){.name = ds->name, .licence = ds->licence, .n = n, .rate = ds->rate, .ctx = ds->ctx};
    memcpy(picked->split, ds->split, sizeof picked->split);
    memcpy(picked->source, ds->source, sizeof picked->source);
    pith_status status = pick_fields(ds, items, picked);
    if (status == PITH_OK) *out = picked;
    else pith_dataset_free(picked);
    return status;
}

uint64_t pith_dataset_hash(const pith_dataset *ds)
{
    uint64_t hash = ds->n;
    for (size_t i = 0; i < ds->n_fields; i++) {
        const pith_field *f = &ds->fields[i];
        uint64_t shape[2 + PITH_FIELD_DIMS] = {(uint64_t)f->type, (uint64_t)f->n_dims};
        for (int d = 0; d < f->n_dims; d++) shape[2 + d] = f->dims[d];
        hash = XXH3_64bits_withSeed(f->name, strlen(f->name), hash);
        hash = XXH3_64bits_withSeed(shape, sizeof shape, hash);
        hash = XXH3_64bits_withSeed(f->data, ds->n * pith_field_item_bytes(f), hash);
    }
    return hash;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static pith_status fill_request(pith_ctx *ctx, const pith_data_set *set, const char *split, const pith_dataset_options *o, pith_data_request *r)
{
    bool train = strcmp(split, "train") == 0, test = strcmp(split, "test") == 0;
    if (!train && !test && !(set->all && strcmp(split, "all") == 0))
        return pith_fail(ctx, PITH_E_ARGUMENT, "%s has no split \"%s\": it is \"train\" or \"test\"%s", set->name, split, set->all ? " or \"all\"" : "");
    if (o->size && (o->size < 8 || o->size > 512)) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: images of %zu pixels a side; 8 to 512 can be made", set->name, o->size);
    if (o->frames > 512) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: clips of %zu frames; up to 512 can be made", set->name, o->frames);
    if (o->length > 1 << 20) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: sequences of %zu; up to %d can be made", set->name, o->length, 1 << 20);
    size_t usual = train ? set->n_train : test ? set->n_test : set->n_train + set->n_test;
    size_t quick = train ? set->n_quick : set->n_quick / 4;
    *r = (pith_data_request){
        .ctx = ctx, .set = set, .split = train ? PITH_SPLIT_TRAIN : test ? PITH_SPLIT_TEST : PITH_SPLIT_ALL,
        .seed = o->seed ? o->seed : USUAL_SEED, .n = o->n ? o->n : o->quick ? quick : usual, .or_fewer = o->or_fewer,
        .size = o->size ? o->size : set->size ? set->size : 32, .frames = o->frames ? o->frames : 16, .length = o->length, .pairs = o->pairs,
        .columns = o->columns, .text_size = o->text_size, .noise = o->noise,
    };
    return PITH_OK;
}

/* What a user's folder holds, by what is written before its path. */
static const struct {
    const char *prefix;
    pith_folder_open_fn *open;
    pith_data_set set;
} folders[] = {
    {"folder:", pith_image_folder_open, {.name = "folder", .kind = PITH_DATA_IMAGES, .licence = "the folder's own"}},
    {"sounds:", pith_sound_folder_open, {.name = "sounds", .kind = PITH_DATA_SOUND, .licence = "the folder's own", .n_train = PITH_USUAL_WINDOWS, .n_test = PITH_USUAL_WINDOWS / 10, .n_quick = 256}},
    {"videos:", pith_film_folder_open, {.name = "videos", .kind = PITH_DATA_CLIPS, .licence = "the folder's own", .n_train = PITH_USUAL_CLIPS, .n_test = PITH_USUAL_CLIPS / 10, .n_quick = 64}},
};

pith_status pith_dataset_open(pith_ctx *ctx, const char *name, const char *split, const pith_dataset_options *options, pith_dataset **out)
{
    static const pith_dataset_options usual = {0};
    size_t k = 0;
    while (k < PITH_COUNT(folders) && strncmp(name, folders[k].prefix, strlen(folders[k].prefix)) != 0) k++;
    bool folder = k < PITH_COUNT(folders);
    const pith_data_set *set = folder ? &folders[k].set : NULL;
    if (!folder) {
        size_t i;
        PITH_TRY(pith_data_find(ctx, name, &i));
        set = &pith_data_sets[i];
    }
    pith_data_request request;
    PITH_TRY(fill_request(ctx, set, split, options ? options : &usual, &request));
    pith_dataset *ds = pith_calloc(ctx, 1, sizeof *ds);
    if (!ds) return PITH_E_MEMORY;
    *ds = (pith_dataset){.name = set->name, .licence = set->licence, .n = request.n, .ctx = ctx};
    snprintf(ds->split, sizeof ds->split, "%s", split);
    snprintf(ds->source, sizeof ds->source, "made from seed %llu", (unsigned long long)request.seed);
    ds->fields = pith_calloc(ctx, MAX_FIELDS, sizeof *ds->fields);
    pith_status status = !ds->fields ? PITH_E_MEMORY : folder ? folders[k].open(&request, name + strlen(folders[k].prefix), ds) : set->open(&request, ds);
    if (status != PITH_OK) {
        pith_dataset_free(ds);
        return status;
    }
    *out = ds;
    return PITH_OK;
}

/* ---- making items ----------------------------------------------------------------------------- */

pith_status pith_data_limit(const pith_data_request *r, pith_dataset *ds, size_t there)
{
    if (r->n > there && !r->or_fewer) return pith_fail(r->ctx, PITH_E_ARGUMENT, "%s: %zu items of \"%s\"; there are %zu", ds->name, r->n, ds->split, there);
    ds->n = r->n ? PITH_MIN(r->n, there) : there;
    return PITH_OK;
}

pith_rng pith_data_rng(const pith_data_request *r, uint64_t i)
{
    uint64_t stream = pith_hash(r->set->name, strlen(r->set->name)) * 2 + (r->split == PITH_SPLIT_TEST);
    return (pith_rng){.seed = r->seed, .stream = stream, .index = i << 20};
}

#define FILL_BLOCK 64 /* items a task: enough work to be worth a thread's turn */

typedef struct fill_job {
    const pith_data_request *request;
    pith_dataset *ds;
    pith_data_fill_fn *fill;
    void *user;
    size_t first;
} fill_job;

static void fill_block(void *arg, size_t block, int worker)
{
    (void)worker;
    fill_job *job = arg;
    size_t begin = job->first + block * FILL_BLOCK, end = PITH_MIN(begin + FILL_BLOCK, job->ds->n);
    for (size_t i = begin; i < end; i++) job->fill(job->request, job->ds, job->user, i);
}

pith_status pith_data_fill(const pith_data_request *request, pith_dataset *ds, pith_data_fill_fn *fill, void *user)
{
    fill_job job = {.request = request, .ds = ds, .fill = fill, .user = user};
    const size_t round = FILL_BLOCK * 32; /* items between two looks at progress and cancellation */
    for (; job.first < ds->n; job.first += round) {
        PITH_TRY(pith_progress(request->ctx, request->set->name, job.first, ds->n));
        pith_parallel(request->ctx, PITH_CEIL_DIV(PITH_MIN(round, ds->n - job.first), FILL_BLOCK), fill_block, &job);
    }
    return pith_progress(request->ctx, request->set->name, ds->n, ds->n);
}
