/* Batches: a function of (data set, options, step), the next one made ahead in a thread. */
#include <math.h>
#include <pthread.h>

#include "data/data.h"

#define NO_STEP UINT64_MAX
#define SHUFFLE_STREAM 1 /* streams of random numbers under the loader's seed */
#define AUGMENT_STREAM 2
#define WINDOW_STREAM 3

/* Values of a batch; made whole by make(), by the caller or by the thread, never by both. */
typedef struct slot {
    uint64_t step;           /* that it holds; NO_STEP: none */
    size_t n;
    uint64_t epoch;
    void *input, *target;    /* f32 or i32 [batch, …] */
    size_t *items;           /* [batch] */
} slot;

struct pith_loader {
    pith_ctx *ctx;
    pith_loader_options o;
    size_t n;                /* items of an epoch; windows: places where one can start */
    uint64_t n_steps;        /* batches of an epoch */
    const pith_field *input, *target;   /* NULL: windows; no target */
    size_t channels, height, width;     /* of the input when it is an image or a clip; else channels is 0 */
    float table[4][256];     /* what a byte of a channel becomes */
    const int32_t *tokens;   /* windows of these … */
    const uint8_t *bytes;    /* … or these */
    size_t length;
    slot slots[2];
    int current;             /* the slot the caller has */

    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    uint64_t wanted;         /* a step for the thread, into the other slot; NO_STEP: nothing to do, or done */
    bool stop;
};

/* ---- order ------------------------------------------------------------------------------------ */

/* Number `i` of a random permutation of 0..n-1, computed and not stored: four Feistel rounds over the next even number of
 * bits (Luby and Rackoff, SIAM J. Comput. 1988), walked again while the result is n or more. */
static uint64_t permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i)
{
    int half = 1;
    while (half < 32 && (uint64_t)1 << 2 * half < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint32_t out[4];
            pith_philox(seed, SHUFFLE_STREAM + (epoch << 8), right << 2 | round, out);
            uint64_t next = left ^ (out[0] & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* ---- making a batch --------------------------------------------------------------------------- */

/* Where an augmented image's pixels come from: x' = flip ? width - 1 - x : x, then moved; outside is zero. */
typedef struct view {
    bool flip;
    ptrdiff_t dy, dx;
} view;

static view draw_view(const pith_loader *l, uint64_t position)
{
    pith_rng rng = {.seed = l->o.seed, .stream = AUGMENT_STREAM, .index = position << 4};
    view v = {.flip = l->o.flip && pith_rng_below(&rng, 2)};
    if (l->o.crop) {
        v.dy = (ptrdiff_t)pith_rng_below(&rng, 2 * (uint32_t)l->o.crop + 1) - l->o.crop;
        v.dx = (ptrdiff_t)pith_rng_below(&rng, 2 * (uint32_t)l->o.crop + 1) - l->o.crop;
    }
    return v;
}

/* One plane [height, width] of bytes through the channel's table. */
static void take_plane(const pith_loader *l, const uint8_t *src, const float *table, view v, float *dst)
{
    ptrdiff_t h = (ptrdiff_t)l->height, w = (ptrdiff_t)l->width;
    for (ptrdiff_t y = 0; y < h; y++) {
        ptrdiff_t from_y = y + v.dy;
        for (ptrdiff_t x = 0; x < w; x++) {
            ptrdiff_t from_x = (v.flip ? w - 1 - x : x) + v.dx;
            bool in = from_y >= 0 && from_y < h && from_x >= 0 && from_x < w;
            *dst++ = table[in ? src[from_y * w + from_x] : 0];
        }
    }
}

static void take_input(const pith_loader *l, size_t item, uint64_t position, slot *s, size_t at)
{
    const pith_field *f = l->input;
    const void *src = pith_field_item(f, item);
    if (f->type == PITH_FIELD_U8 && l->channels) {
        size_t plane = l->height * l->width;
        view v = draw_view(l, position);
        for (size_t p = 0; p < f->n_values / plane; p++)
            take_plane(l, (const uint8_t *)src + p * plane, l->table[p % l->channels], v, (float *)s->input + at * f->n_values + p * plane);
    } else if (f->type == PITH_FIELD_U8) {
        for (size_t i = 0; i < f->n_values; i++) ((float *)s->input)[at * f->n_values + i] = l->table[0][((const uint8_t *)src)[i]];
    } else {
        memcpy((uint8_t *)s->input + at * pith_field_item_bytes(f), src, pith_field_item_bytes(f));
    }
}

static void take_target(const pith_field *f, size_t item, slot *s, size_t at)
{
    const void *src = pith_field_item(f, item);
    if (f->type != PITH_FIELD_U8) memcpy((uint8_t *)s->target + at * pith_field_item_bytes(f), src, pith_field_item_bytes(f));
    else
        for (size_t i = 0; i < f->n_values; i++) ((int32_t *)s->target)[at * f->n_values + i] = ((const uint8_t *)src)[i];
}

static void take_window(const pith_loader *l, size_t start, slot *s, size_t at)
{
    int32_t *dst = (int32_t *)s->input + at * (l->length + 1);
    for (size_t i = 0; i <= l->length; i++) dst[i] = l->tokens ? l->tokens[start + i] : l->bytes[start + i];
}

/* Positions count items over all epochs. */
static void make(const pith_loader *l, uint64_t step, slot *s)
{
    uint64_t first = step * l->o.batch;
    s->n = l->o.once ? (size_t)PITH_MIN((uint64_t)l->o.batch, l->n - first) : l->o.batch;
    s->epoch = first / l->n;
    for (size_t k = 0; k < s->n; k++) {
        uint64_t position = first + k, epoch = position / l->n, item = position % l->n;
        if (!l->input && l->o.once) item *= l->length;
        else if (!l->input) {
            pith_rng rng = {.seed = l->o.seed, .stream = WINDOW_STREAM, .index = position << 4};
            item = pith_rng_below(&rng, (uint32_t)l->n);
        } else if (l->o.shuffle) item = permute(l->o.seed, epoch, l->n, item);
        s->items[k] = (size_t)item;
        if (!l->input) take_window(l, (size_t)item, s, k);
        else take_input(l, (size_t)item, position, s, k);
        if (l->target) take_target(l->target, (size_t)item, s, k);
    }
    s->step = step;
}

/* ---- the thread ------------------------------------------------------------------------------- */

static void *work(void *arg)
{
    pith_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        if (l->wanted == NO_STEP) {
            pthread_cond_wait(&l->change, &l->lock);
            continue;
        }
        uint64_t step = l->wanted;
        slot *s = &l->slots[1 - l->current]; /* current does not change while a step is wanted */
        pthread_mutex_unlock(&l->lock);
        make(l, step, s);
        pthread_mutex_lock(&l->lock);
        l->wanted = NO_STEP;
        pthread_cond_broadcast(&l->change);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

uint64_t pith_loader_steps(const pith_loader *l) { return l->n_steps; }

pith_status pith_loader_batch(pith_loader *l, uint64_t step, pith_batch *batch)
{
    if (l->o.once ? step >= l->n_steps : step > UINT64_MAX / 32 / l->o.batch)
        return pith_fail(l->ctx, PITH_E_ARGUMENT, "batch %llu of %llu", (unsigned long long)step, (unsigned long long)l->n_steps);
    if (l->has_thread) {
        pthread_mutex_lock(&l->lock);
        while (l->wanted != NO_STEP) pthread_cond_wait(&l->change, &l->lock);
        pthread_mutex_unlock(&l->lock);
    }
    slot *s = &l->slots[1 - l->current]; /* the thread rests: both slots are ours */
    if (s->step != step) make(l, step, s);
    l->current = 1 - l->current;
    if (l->has_thread && (!l->o.once || step + 1 < l->n_steps)) {
        pthread_mutex_lock(&l->lock);
        l->wanted = step + 1;
        pthread_cond_broadcast(&l->change);
        pthread_mutex_unlock(&l->lock);
    }
    bool ids = !l->input || l->input->type == PITH_FIELD_I32, floats = l->target && l->target->type == PITH_FIELD_F32;
    *batch = (pith_batch){.n = s->n, .items = s->items, .epoch = s->epoch, .x = ids ? NULL : s->input, .ids = ids ? s->input : NULL,
                          .y = floats ? NULL : s->target, .y_f32 = floats ? s->target : NULL};
    return PITH_OK;
}

/* ---- making a loader -------------------------------------------------------------------------- */

/* Both slots, input_values and target_values an item of four bytes each, and the thread. */
static pith_status start(pith_loader *l, size_t input_values, size_t target_values)
{
    l->n_steps = PITH_CEIL_DIV(l->n, l->o.batch);
    size_t in, out;
    if (!pith_mul(l->o.batch, input_values, &in)) in = SIZE_MAX;
    if (!pith_mul(l->o.batch, target_values, &out)) out = SIZE_MAX;
    for (int k = 0; k < 2; k++) {
        slot *s = &l->slots[k];
        s->step = NO_STEP;
        s->input = pith_array(l->ctx, in, 4);
        s->items = s->input ? pith_array(l->ctx, l->o.batch, sizeof *s->items) : NULL;
        if (s->items && l->target) s->target = pith_array(l->ctx, out, 4);
        if (!s->items || (l->target && !s->target)) return PITH_E_MEMORY;
    }
    l->wanted = NO_STEP;
    if (l->o.no_thread) return PITH_OK;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->change, NULL);
    l->has_thread = pthread_create(&l->thread, NULL, work, l) == 0;
    if (!l->has_thread) {
        pthread_cond_destroy(&l->change);
        pthread_mutex_destroy(&l->lock);
        pith_log(l->ctx, PITH_LOG_WARN, "no thread could be started: batches are made when they are asked for");
    }
    return PITH_OK;
}

void pith_loader_free(pith_loader *l)
{
    if (!l) return;
    if (l->has_thread) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_broadcast(&l->change);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
        pthread_cond_destroy(&l->change);
        pthread_mutex_destroy(&l->lock);
    }
    for (int k = 0; k < 2; k++) {
        pith_free(l->ctx, l->slots[k].input);
        pith_free(l->ctx, l->slots[k].target);
        pith_free(l->ctx, l->slots[k].items);
    }
    pith_free(l->ctx, l);
}

static const pith_field *choose(const pith_dataset *ds, const char *asked, const char *usual, const char *other)
{
    if (asked) return pith_dataset_field(ds, asked);
    const pith_field *f = pith_dataset_field(ds, usual);
    return f ? f : other ? pith_dataset_field(ds, other) : &ds->fields[0];
}

pith_status pith_loader_new(pith_ctx *ctx, const pith_dataset *ds, const pith_loader_options *o, pith_loader **out)
{
    const pith_field *input = choose(ds, o->input, "image", NULL), *target = choose(ds, o->target, "label", "target");
    if (!input) return pith_fail(ctx, PITH_E_ARGUMENT, "%s has no field \"%s\"", ds->name, o->input);
    if (o->target && !target) return pith_fail(ctx, PITH_E_ARGUMENT, "%s has no field \"%s\"", ds->name, o->target);
    if (!o->batch || !ds->n) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: batches of %zu out of %zu items", ds->name, o->batch, ds->n);
    if (ds->n > (uint64_t)1 << 40) return pith_fail(ctx, PITH_E_LIMIT, "%s: %zu items", ds->name, ds->n);
    bool image = input->type == PITH_FIELD_U8 && input->n_dims >= 3 && input->n_values;
    if ((o->crop || o->flip) && !image) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: field \"%s\" is no image: no crop or flip", ds->name, input->name);
    if (o->crop < 0 || (image && (size_t)o->crop >= input->dims[input->n_dims - 1]))
        return pith_fail(ctx, PITH_E_ARGUMENT, "%s: a crop of %d pixels; less than the width of %zu is possible", ds->name, o->crop, input->dims[input->n_dims - 1]);
    if (image && input->dims[input->n_dims - 3] > 4) return pith_fail(ctx, PITH_E_ARGUMENT, "%s: %zu channels; up to 4 are images", ds->name, input->dims[input->n_dims - 3]);
    pith_loader *l = pith_calloc(ctx, 1, sizeof *l);
    if (!l) return PITH_E_MEMORY;
    l->ctx = ctx;
    l->o = *o;
    l->n = ds->n;
    l->input = input;
    l->target = target;
    if (image) {
        l->channels = input->dims[input->n_dims - 3];
        l->height = input->dims[input->n_dims - 2];
        l->width = input->dims[input->n_dims - 1];
    }
    for (int ch = 0; ch < 4; ch++)
        for (int v = 0; v < 256; v++) l->table[ch][v] = ((float)v / 255 - o->mean[ch]) / (o->std[ch] == 0 ? 1 : o->std[ch]);
    pith_status status = start(l, input->n_values, target ? target->n_values : 0);
    if (status != PITH_OK) pith_loader_free(l);
    else *out = l;
    return status;
}

pith_status pith_loader_windows(pith_ctx *ctx, const int32_t *tokens, const uint8_t *bytes, size_t n, size_t length, const pith_loader_options *o, pith_loader **out)
{
    if (!o->batch || !length || n <= length) return pith_fail(ctx, PITH_E_ARGUMENT, "batches of %zu windows of %zu + 1 out of %zu tokens", o->batch, length, n);
    if (n > UINT32_MAX) return pith_fail(ctx, PITH_E_LIMIT, "%zu tokens; windows reach %u", n, UINT32_MAX);
    pith_loader *l = pith_calloc(ctx, 1, sizeof *l);
    if (!l) return PITH_E_MEMORY;
    l->ctx = ctx;
    l->o = *o;
    l->tokens = tokens;
    l->bytes = bytes;
    l->length = length;
    l->n = o->once ? (n - 1) / length : n - length;
    pith_status status = start(l, length + 1, 0);
    if (status != PITH_OK) pith_loader_free(l);
    else *out = l;
    return status;
}

void pith_field_moments(const pith_field *f, size_t n, float *mean, float *std)
{
    size_t channels = f->n_dims >= 3 ? f->dims[f->n_dims - 3] : 1, plane = f->n_dims >= 3 ? f->dims[f->n_dims - 2] * f->dims[f->n_dims - 1] : f->n_values;
    for (size_t ch = 0; ch < channels; ch++) {
        uint64_t counts[256] = {0}, total = 0;
        const uint8_t *data = f->data;
        for (size_t p = ch; plane && p < n * (f->n_values / plane); p += channels)
            for (size_t i = 0; i < plane; i++) counts[data[p * plane + i]]++;
        double sum = 0, squares = 0;
        for (int v = 0; v < 256; v++) {
            total += counts[v];
            sum += (double)counts[v] * v / 255;
            squares += (double)counts[v] * v * v / (255.0 * 255.0);
        }
        double m = total ? sum / (double)total : 0;
        mean[ch] = (float)m;
        std[ch] = total ? (float)sqrt(fmax(0, squares / (double)total - m * m)) : 1;
    }
}
