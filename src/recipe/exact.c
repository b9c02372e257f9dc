/* The exact layer of a compression: where each matrix stops being refined in the codec's basis and goes
 * on to the source's own numbers. */
#include <math.h>
#include <stdlib.h>

#include "recipe/job.h"
#include "stream/weights/exact.h"

#define TRIES 6                      /* to come close below the bytes there are */
#define CLOSE 0.001
#define GO_ON 0.3                    /* more bytes in all, for each byte of a layer */
#define WORTH 0.5                    /* of what a matrix still costs, what exact numbers are taken to save when their place is chosen: with all of it they
                                      * come too early (KL at 75 and 80 MB of SmolLM2: 4 and 9 % more) */
#define MODELS_BYTES 65536.0         /* kept free for the exact layer's distributions */

typedef struct exact_job {
    job *j;
    pith_predictor p;
    uint8_t *n_layers;               /* [n_units] that stay */
    uint8_t *coded_layers;           /* [n_units] those that were coded last */
    uint8_t *best_layers;            /* [n_units] those that came closest below the bytes there are */
    uint32_t *region;                /* [n_regions] first unit of each: a unit, or all of a matrix */
    size_t n_regions;
    double *numbers_bits;            /* [n_units, PITH_JOB_LEVELS] estimates for the exact packet after each layer */
    pith_grid_models *models;
    pith_grid_counts **counts;       /* [workers] (pass that counts) */
    pith_grid_encoders *encoders;    /* (pass that writes) */
    void **memory;                   /* [workers] */
    uint8_t **dst;                   /* [workers] */
    size_t dst_cap, max_packet;
} exact_job;

/* ---- how many layers -------------------------------------------------------------------------- */

/* The source's blocks of a unit's rows. */
static const uint8_t *source_rows(const job_tensor *t, uint32_t unit)
{
    const pith_dtype_info *info = pith_dtype_get((uint32_t)t->source->t.dtype);
    return (const uint8_t *)t->source->t.data + pith_unit_tile0(t->coded, unit) * PITH_GROUP_ROWS * (t->coded->n_cols / 32) * info->block_bytes;
}

/* Bits of a unit's exact packet after each of its layers, from the likely error and the mean scale. */
static void estimate_unit(void *arg, size_t unit, PITH_UNUSED int worker)
{
    exact_job *x = arg;
    const job *j = x->j;
    const job_tensor *t = &j->tensors[j->tensor_of_unit[unit]];
    const pith_dtype_info *info = pith_dtype_get((uint32_t)t->source->t.dtype);
    pith_grid g;
    size_t n_blocks = pith_unit_rows(t->coded, (uint32_t)unit) * (t->coded->n_cols / 32);
    const uint8_t *rows = source_rows(t, (uint32_t)unit);
    double octaves = 0, n = (double)n_blocks;
    pith_grid_of(t->source->t.dtype, &g);
    for (size_t i = 0; i < n_blocks; i++) octaves += log2(PITH_MAX(fabs((double)pith_f16_to_f32(pith_le16(rows + i * info->block_bytes))), 1e-8));
    double d = exp2(octaves / n);
    for (size_t k = 0; k < PITH_JOB_LEVELS; k++) {
        double ratio = sqrt(j->packets[unit * PITH_JOB_LEVELS + k].noise) / d;
        x->numbers_bits[unit * PITH_JOB_LEVELS + k] = n * (32 * PITH_MIN(pith_grid_bits(ratio), g.bits) + (1 + g.has_min) * PITH_GRID_SCALE_BITS);
    }
}

/* Each matrix keeps its first layers and what gains at least `slope` a byte; then it goes on as long as a
 * packet makes the whole file larger by no more than GO_ON of its own bytes.  Returns the bytes of everything. */
static double choose_layers(exact_job *x, const ordered *order, size_t n, double slope)
{
    job *j = x->j;
    double all = 0;
    memset(x->n_layers, 0, j->n_units);
    for (size_t i = 0; i < j->n_tensors; i++) {
        const pith_coded_tensor *t = j->tensors[i].coded;
        bool open = true;
        for (size_t k = 0; k < n; k++) {
            const ordered *o = &order[k];
            if (o->unit - t->first_unit >= pith_coded_units(t)) continue;
            const double *bits = &x->numbers_bits[(size_t)o->unit * PITH_JOB_LEVELS];
            double bytes = (double)job_packet(j, o)->len + PITH_PACKET_HEADER, exact = (bits[o->level] - (o->level ? bits[o->level - 1] : 0)) / 8;
            open &= o->slope >= slope || bytes + exact <= GO_ON * bytes;
            if (!open && o->level) continue;
            x->n_layers[o->unit]++;
            all += bytes + exact;
        }
        all += pith_coded_units(t) * PITH_PACKET_HEADER;
    }
    return all;
}

/* ---- coding ----------------------------------------------------------------------------------- */

/* Packets as a reader will have them: only those that stay. */
static pith_status fetch(void *user, uint32_t unit, int level, uint8_t *buffer, const uint8_t **data, size_t *len)
{
    const exact_job *x = user;
    (void)buffer;
    *len = 0;
    if (level >= x->n_layers[unit]) return PITH_OK;
    const coded_packet *p = &x->j->packets[(size_t)unit * PITH_JOB_LEVELS + (size_t)level];
    *len = p->len;
    *data = p->data;
    return PITH_OK;
}

static pith_status code_rows(exact_job *x, pith_exact_work *w, const job_tensor *t, uint32_t unit, int worker)
{
    job *j = x->j;
    pith_grid g;
    size_t len, head = pith_exact_head(w);
    pith_grid_of(t->source->t.dtype, &g);
    pith_exact_predict(w, unit);
    pith_grid_split(t->source->t.dtype, source_rows(t, unit), &w->rows);
    if (!x->encoders) {
        pith_grid_count(&g, &w->rows, j->isa, x->counts[worker], w->grid, x->dst[worker]);
        return PITH_OK;
    }
    memcpy(x->dst[worker], w->levels, head);
    PITH_TRY(pith_grid_encode(&g, &w->rows, x->encoders, j->isa, x->dst[worker] + head, x->dst_cap - head, &len, w->grid));
    coded_packet *p = &j->exact[unit];
    if (!(p->data = pith_alloc(j->ctx, p->len = head + len))) return PITH_E_MEMORY;
    memcpy(p->data, x->dst[worker], p->len);
    p->kl_before = j->packets[(size_t)unit * PITH_JOB_LEVELS + x->n_layers[unit] - 1].kl_after;
    return PITH_OK;
}

static void task_region(void *arg, size_t i, int worker)
{
    exact_job *x = arg;
    job *j = x->j;
    uint32_t unit0 = x->region[i + j->n_done];
    const job_tensor *t = &j->tensors[j->tensor_of_unit[unit0]];
    pith_exact_work w;
    size_t damaged = 0;
    pith_exact_work_init(&w, &x->p, t->coded, unit0, x->max_packet, false, x->memory[worker]);
    pith_status status = pith_exact_latent(&w, j->models, j->isa, fetch, x, &damaged);
    if (status == PITH_OK && damaged) status = PITH_E_INTERNAL;
    for (uint32_t k = 0; k < w.n_units && status == PITH_OK; k++) status = code_rows(x, &w, t, unit0 + k, worker);
    if (status != PITH_OK) j->status[worker] = status;
}

static pith_status code_all(exact_job *x)
{
    job *j = x->j;
    for (int i = 0; i < pith_n_threads(j->ctx); i++) memset(x->counts[i], 0, sizeof **x->counts);
    for (size_t i = 0; i < j->n_units; i++) {
        pith_free(j->ctx, j->exact[i].data);
        j->exact[i] = (coded_packet){0};
    }
    PITH_TRY(job_run(j, "exact layer", x->n_regions, task_region, x));
    for (int i = 1; i < pith_n_threads(j->ctx); i++)
        for (int k = 0; k < PITH_GRID_MODELS; k++)
            for (int s = 0; s < 256; s++) x->counts[0]->count[k][s] += x->counts[i]->count[k][s];
    PITH_TRY(pith_grid_fit(x->counts[0], x->models));
    if (!(x->encoders = pith_grid_encoders_new(j->ctx, x->models))) return PITH_E_MEMORY;
    pith_status status = job_run(j, "exact layer", x->n_regions, task_region, x);
    pith_free(j->ctx, x->encoders);
    x->encoders = NULL;
    return status;
}

/* ---- the order -------------------------------------------------------------------------------- */

/* A matrix's exact packets come together, after its layers, where what they gain in all for their bytes says. */
static size_t merge(exact_job *x, ordered *order, size_t n)
{
    job *j = x->j;
    size_t kept = 0;
    for (size_t k = 0; k < n; k++)
        if (order[k].level < x->n_layers[order[k].unit]) order[kept++] = order[k];
    n = kept;
    for (size_t i = 0; i < j->n_tensors; i++) {
        const pith_coded_tensor *t = j->tensors[i].coded;
        double gain = 0, bytes = 0, last = INFINITY;
        for (uint32_t u = t->first_unit; u < t->first_unit + pith_coded_units(t); u++) {
            gain += j->exact[u].kl_before;
            bytes += (double)j->exact[u].len + PITH_PACKET_HEADER;
        }
        for (size_t k = 0; k < n; k++)
            if (order[k].unit - t->first_unit < pith_coded_units(t)) last = PITH_MIN(last, order[k].slope);
        for (uint32_t u = t->first_unit; u < t->first_unit + pith_coded_units(t); u++)
            order[kept++] = (ordered){.unit = u, .kind = 1, .slope = PITH_MIN(WORTH * gain / bytes, last)};
    }
    job_sort(order, kept);
    return kept;
}

/* Bytes of everything as it was coded; the estimates of each matrix are brought to what its packets took. */
static double bytes_of(const job *j, exact_job *x)
{
    double sum = 0;
    for (size_t i = 0; i < j->n_tensors; i++) {
        const pith_coded_tensor *t = j->tensors[i].coded;
        size_t unit0 = t->first_unit, unit1 = unit0 + pith_coded_units(t);
        double bytes = 0, bits = 0;
        for (size_t u = unit0; u < unit1; u++) {
            bytes += (double)j->exact[u].len;
            bits += x->numbers_bits[u * PITH_JOB_LEVELS + x->n_layers[u] - 1];
            for (size_t k = 0; k < x->n_layers[u]; k++) sum += (double)j->packets[u * PITH_JOB_LEVELS + k].len + PITH_PACKET_HEADER;
        }
        sum += bytes + (double)(unit1 - unit0) * PITH_PACKET_HEADER;
        for (size_t k = unit0 * PITH_JOB_LEVELS; k < unit1 * PITH_JOB_LEVELS; k++) x->numbers_bits[k] *= 8 * bytes / bits;
    }
    return sum;
}

/* The least slope at which everything is estimated to fit into `most`; negative: none is. */
static double find_slope(exact_job *x, const ordered *order, size_t n, double most)
{
    size_t low = 0, high = n - 1;      /* the slope of a packet: those before it stay */
    if (choose_layers(x, order, n, order[0].slope) > most) return -1;
    while (low < high) {
        size_t middle = (low + high + 1) / 2;
        if (choose_layers(x, order, n, order[middle].slope) <= most) low = middle;
        else high = middle - 1;
    }
    choose_layers(x, order, n, order[low].slope);
    return order[low].slope;
}

static pith_status prepare(exact_job *x, pith_arena *a)
{
    job *j = x->j;
    size_t n = (size_t)pith_n_threads(j->ctx), bytes = 0;
    x->n_layers = pith_arena_take(a, j->n_units);
    x->coded_layers = pith_arena_take(a, j->n_units);
    x->best_layers = pith_arena_take(a, j->n_units);
    x->region = pith_arena_take(a, j->n_units * sizeof *x->region);
    x->numbers_bits = pith_arena_take(a, j->n_units * PITH_JOB_LEVELS * sizeof *x->numbers_bits);
    x->models = pith_arena_take(a, sizeof *x->models);
    x->counts = pith_arena_take(a, n * sizeof *x->counts);
    x->memory = pith_arena_take(a, n * sizeof *x->memory);
    x->dst = pith_arena_take(a, n * sizeof *x->dst);
    coded_packet *exact = pith_arena_take(a, j->n_units * sizeof *exact);
    if (!x->n_layers || !x->coded_layers || !x->best_layers || !x->region || !x->numbers_bits || !x->models || !x->counts || !x->memory || !x->dst || !exact) return PITH_E_MEMORY;
    memset(exact, 0, j->n_units * sizeof *exact);
    j->exact = exact;
    memset(x->coded_layers, 0, j->n_units); /* nothing yet: every unit keeps a layer */
    for (size_t i = 0; i < j->n_units * PITH_JOB_LEVELS; i++) x->max_packet = PITH_MAX(x->max_packet, j->packets[i].len);
    for (size_t i = 0; i < j->n_tensors; i++) {
        const pith_coded_tensor *t = j->tensors[i].coded;
        size_t rows = pith_unit_tiles(t, t->first_unit) * PITH_GROUP_ROWS;
        bytes = PITH_MAX(bytes, pith_exact_work_bytes(&x->p, t, x->max_packet, false));
        x->dst_cap = PITH_MAX(x->dst_cap, pith_coded_units(t) + pith_grid_bound(rows, pith_coded_blocks(t)));
        for (uint32_t u = 0; u < pith_coded_units(t); u++)
            if (u == 0 || !(t->basis & PITH_BASIS_OUT)) x->region[x->n_regions++] = t->first_unit + u;
    }
    for (size_t i = 0; i < n; i++) {
        x->memory[i] = pith_arena_take(a, bytes);
        x->dst[i] = pith_arena_take(a, x->dst_cap);
        x->counts[i] = pith_arena_take(a, sizeof **x->counts);
        if (!x->memory[i] || !x->dst[i] || !x->counts[i]) return PITH_E_MEMORY;
    }
    return PITH_OK;
}

static pith_status write_models(exact_job *x, pith_arena *a)
{
    pith_manifest *m = x->j->manifest;
    uint8_t *data = pith_arena_take(a, PITH_GRID_MODEL_BYTES);
    if (!data) return PITH_E_MEMORY;
    m->exact_models.data = data;
    return pith_grid_models_write(x->models, data, PITH_GRID_MODEL_BYTES, &m->exact_models.len);
}

pith_status job_add_exact(job *j, pith_arena *a, ordered *order, size_t *n, double most, bool always)
{
    exact_job x = {.j = j};
    pith_status status = pith_predictor_new(j->ctx, j->manifest, false, &x.p);
    if (status != PITH_OK) return status;
    PITH_GOTO(prepare(&x, a), done);
    pith_parallel(j->ctx, j->n_units, estimate_unit, &x);
    most -= MODELS_BYTES;
    double bytes = 0, best = 0, least = choose_layers(&x, order, *n, order[0].slope);
    if (always) most = PITH_MAX(most, 1.05 * least);
    double aim = most;
    for (int i = 0; i < TRIES && !(bytes <= most && bytes >= (1 - CLOSE) * most); i++) {
        double slope = find_slope(&x, order, *n, aim);
        if (slope < 0 || memcmp(x.n_layers, x.coded_layers, j->n_units) == 0) break; /* nothing would change */
        memcpy(x.coded_layers, x.n_layers, j->n_units);
        PITH_GOTO(code_all(&x), done);
        bytes = bytes_of(j, &x);
        pith_log(j->ctx, PITH_LOG_DEBUG, "exact layer: %.2f of %.2f MB; layers that gain %.3g a MB stay", bytes * 1e-6, most * 1e-6, slope * 1e6);
        if (bytes <= most && bytes > best) {
            best = bytes;
            memcpy(x.best_layers, x.coded_layers, j->n_units);
        }
        aim = most + (most - bytes) / 2; /* where more layers stay, the exact numbers take less than was estimated */
    }
    if (bytes > most && best > 0) {
        memcpy(x.coded_layers, x.best_layers, j->n_units);
        memcpy(x.n_layers, x.best_layers, j->n_units);
        PITH_GOTO(code_all(&x), done);
        bytes = bytes_of(j, &x);
    }
    memcpy(x.n_layers, x.coded_layers, j->n_units); /* what was coded, not what was last considered */
    bool fits = bytes > 0 && (bytes <= most || always);
    if (fits) {
        *n = merge(&x, order, *n);
        status = write_models(&x, a);
    } else {
        pith_log(j->ctx, PITH_LOG_INFO, "no exact layer: with it the file would not be smaller than its source");
        for (size_t i = 0; i < j->n_units; i++) pith_free(j->ctx, j->exact[i].data);
        j->exact = NULL;
    }
done:
    pith_predictor_free(j->ctx, &x.p);
    return status;
}
