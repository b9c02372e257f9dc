#include "stream/weights/decode.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "stream/weights/exact.h"
#include "stream/weights/pack.h"

#define NO_PACKET UINT32_MAX
#define REGION 0x80000000u

/* Within a phase too, what needs most memory beside its result comes first, when least is held. */
typedef enum phase { WHOLE_MATRICES, EXACT_UNITS, OTHER_UNITS, N_PHASES } phase;

typedef struct worker_state {
    uint8_t *memory;
    size_t bytes;
    pith_status status;
    size_t n_missing, n_damaged, n_exact;
} worker_state;

typedef struct job {
    pith_ctx *ctx;
    const pith_reader *r;
    pith_decoded *d;
    pith_isa isa;
    pith_models *models;
    uint32_t *packet;            /* [n_units, PITH_MAX_LEVELS] index, or NO_PACKET */
    uint32_t *exact;             /* [n_units] likewise */
    pith_packed *packed;         /* [n_units] */
    atomic_uint *left;           /* [n_tensors] tasks that are still to come */
    uint32_t *task;              /* [n_tasks] first unit of each; REGION: all of what has to be decoded with it */
    size_t n_tasks, n_phase[N_PHASES], first_task, max_packet;
    worker_state *worker;
    pith_predictor p;
    pith_grid_decoders *grid;
} job;

/* Of a tensor's columns: flags, or NULL, and how many. */
static const uint8_t *wide_columns(const job *j, const pith_coded_tensor *t, size_t *n)
{
    const pith_vector *v = t->scale ? &j->r->manifest.vectors[t->scale - 1] : NULL;
    *n = 0;
    for (size_t c = 0; v && v->wide && c < v->n; c++) *n += v->wide[c];
    return *n ? v->wide : NULL;
}

static pith_status fetch(void *user, uint32_t unit, int level, uint8_t *buffer, const uint8_t **data, size_t *len)
{
    const job *j = user;
    uint32_t i = j->packet[(size_t)unit * PITH_MAX_LEVELS + (size_t)level];
    *len = i == NO_PACKET ? 0 : j->r->packets[i].len;
    *data = buffer;
    return *len ? pith_reader_payload(j->r, &j->r->packets[i], buffer) : PITH_OK;
}

/* Whoever is done with a tensor's last task makes the operator. */
static void task_done(job *j, const pith_coded_tensor *t, worker_state *w)
{
    size_t index = (size_t)(t - j->r->manifest.tensors), n_wide = 0;
    if (atomic_fetch_sub(&j->left[index], 1) != 1 || w->status != PITH_OK) return;
    for (uint32_t u = 0; u < pith_coded_units(t); u++)
        if (!j->packed[t->first_unit + u].m.data) return; /* another worker failed */
    const uint8_t *wide = j->d->source_basis ? NULL : wide_columns(j, t, &n_wide);
    w->status = pith_pack_join(j->ctx, t, j->packed + t->first_unit, wide, n_wide, &j->d->matrix[index]);
}

/* ---- without exact packets -------------------------------------------------------------------- */

typedef struct unit_layout {
    size_t n_tiles, n_blocks, coding, payload, bytes; /* the unit is at 0; offsets, and what they come to */
} unit_layout;

static unit_layout layout_of(const pith_coded_tensor *t, uint32_t unit, size_t max_packet)
{
    unit_layout l = {.n_tiles = pith_unit_tiles(t, unit), .n_blocks = pith_coded_blocks(t)};
    l.coding = PITH_ROUND_UP(pith_unit_bytes(l.n_tiles, l.n_blocks), PITH_ALIGN);
    l.payload = l.coding + PITH_ROUND_UP(pith_unit_scratch(l.n_tiles, l.n_blocks), PITH_ALIGN);
    l.bytes = l.payload + max_packet;
    return l;
}

/* Pack a unit of the codec's basis. */
static pith_status pack(job *j, const pith_coded_tensor *t, uint32_t unit, pith_unit *u)
{
    size_t n_wide;
    const uint8_t *wide = wide_columns(j, t, &n_wide);
    return pith_pack_unit(j->ctx, t, u, pith_unit_rows(t, unit), wide, n_wide, &j->packed[unit]);
}

static void decode_unit(job *j, const pith_coded_tensor *t, uint32_t unit, worker_state *w)
{
    unit_layout l = layout_of(t, unit, j->max_packet);
    pith_unit u;
    pith_unit_init(&u, l.n_tiles, l.n_blocks, w->memory);
    w->status = pith_unit_restore(&u, unit, j->models, j->isa, fetch, j, w->memory + l.payload, w->memory + l.coding, &w->n_damaged);
    w->n_missing += u.level < 0;
    if (w->status == PITH_OK) w->status = pack(j, t, unit, &u);
}

/* ---- with them -------------------------------------------------------------------------------- */

/* The source's numbers of a unit, if they are there and whole, into x->rows. */
static bool decode_exact(job *j, pith_exact_work *x, const pith_grid *g, uint32_t unit, worker_state *w)
{
    if (j->exact[unit] == NO_PACKET) return false;
    const pith_packet *p = &j->r->packets[j->exact[unit]];
    size_t head = pith_exact_head(x);
    pith_status status = pith_reader_payload(j->r, p, x->buffer);
    if (status == PITH_E_IO) w->status = status;
    if (status == PITH_OK && p->len >= head && memcmp(x->buffer, x->levels, head) != 0) return false; /* a layer that it needs is not there */
    if (status == PITH_OK && (p->len < head || memchr(x->levels, 0, head))) status = PITH_E_CORRUPT;
    if (status == PITH_OK) status = pith_grid_decode(g, &x->rows, j->grid, j->isa, x->buffer + head, p->len - head, x->grid);
    w->n_damaged += status == PITH_E_CORRUPT;
    w->n_exact += status == PITH_OK;
    return status == PITH_OK;
}

static pith_status take_forward(void *user, uint32_t unit, pith_unit *u)
{
    job *j = user;
    return pack(j, pith_manifest_tensor_of_unit(&j->r->manifest, unit), unit, u);
}

static void decode_region(job *j, const pith_coded_tensor *t, uint32_t unit0, worker_state *w)
{
    pith_exact_work x;
    pith_grid g;
    bool all = true, source_basis = j->d->source_basis;
    const worker_state before = *w;
    pith_grid_of((pith_dtype)t->source_dtype, &g);
    pith_exact_work_init(&x, &j->p, t, unit0, j->max_packet, !source_basis, w->memory);
    w->status = pith_exact_latent(&x, j->models, j->isa, fetch, j, &w->n_damaged);
    const size_t damaged_layers = w->n_damaged - before.n_damaged;
    for (uint32_t k = 0; k < x.n_units && w->status == PITH_OK && (all || source_basis); k++) {
        w->n_missing += x.levels[k] == 0;
        pith_exact_predict(&x, unit0 + k);
        bool exact = decode_exact(j, &x, &g, unit0 + k, w);
        all &= exact;
        if (source_basis && !exact) pith_exact_make_finite(&x);
        if (w->status == PITH_OK && source_basis) w->status = pith_pack_rows(j->ctx, &g, &x.rows, t->n_cols, exact, &j->packed[unit0 + k]);
        else if (exact) pith_exact_keep(&x, unit0 + k, &g);
    }
    if (source_basis) return;
    if (!all) { /* what the layers alone give; they are counted again there */
        w->n_missing = before.n_missing;
        w->n_damaged = before.n_damaged + (w->n_damaged - before.n_damaged - damaged_layers);
        w->n_exact = before.n_exact;
    }
    if (w->status == PITH_OK && all) w->status = pith_exact_forward(&x, take_forward, j);
    for (uint32_t k = 0; k < x.n_units && w->status == PITH_OK && !all; k++) decode_unit(j, t, unit0 + k, w); /* damaged */
}

/* What a worker needs for a task. */
static size_t task_bytes(const job *j, uint32_t task)
{
    const pith_coded_tensor *t = pith_manifest_tensor_of_unit(&j->r->manifest, task & ~REGION);
    size_t bytes = layout_of(t, t->first_unit, j->max_packet).bytes;
    return task & REGION ? PITH_MAX(bytes, pith_exact_work_bytes(&j->p, t, j->max_packet, !j->d->source_basis)) : bytes;
}

static void give_memory(job *j, worker_state *w, size_t bytes)
{
    if (w->bytes == bytes) return;
    pith_free(j->ctx, w->memory);
    w->memory = bytes ? pith_alloc(j->ctx, bytes) : NULL;
    w->bytes = w->memory ? bytes : 0;
    if (bytes && !w->memory) w->status = PITH_E_MEMORY;
}

static void run_task(void *arg, size_t index, int worker)
{
    job *j = arg;
    worker_state *w = &j->worker[worker];
    uint32_t task = j->task[j->first_task + index], unit = task & ~REGION;
    const pith_coded_tensor *t = pith_manifest_tensor_of_unit(&j->r->manifest, unit);
    if (w->status == PITH_OK) give_memory(j, w, task_bytes(j, task));
    if (w->status != PITH_OK) return;
    if (task & REGION) decode_region(j, t, unit, w);
    else decode_unit(j, t, unit, w);
    task_done(j, t, w);
}

/* ---- all of it -------------------------------------------------------------------------------- */

static void list_packets(job *j)
{
    const pith_manifest *m = &j->r->manifest;
    memset(j->packet, 0xff, m->n_units * PITH_MAX_LEVELS * sizeof *j->packet);
    memset(j->exact, 0xff, m->n_units * sizeof *j->exact);
    for (size_t i = 0; i < j->r->n_packets; i++) {
        const pith_packet *p = &j->r->packets[i];
        if (p->kind == PITH_PACKET_LEVEL) j->packet[(size_t)p->unit * PITH_MAX_LEVELS + p->level] = (uint32_t)i;
        else if (m->exact_models.len) j->exact[p->unit] = (uint32_t)i;
        j->max_packet = PITH_MAX(j->max_packet, p->len);
    }
}

/* Units of one tensor whose exact packets are there. */
static uint32_t count_exact(const job *j, const pith_coded_tensor *t)
{
    uint32_t n = 0;
    for (uint32_t u = 0; u < pith_coded_units(t); u++) n += j->exact[t->first_unit + u] != NO_PACKET;
    return n;
}

/* Every unit is a task, or, where it takes part in an exact region, the region. */
static void list_tasks(job *j)
{
    const pith_manifest *m = &j->r->manifest;
    j->d->source_basis = m->exact_models.len > 0;
    for (size_t i = 0; i < m->n_tensors; i++)
        if (!(m->tensors[i].basis & PITH_BASIS_IN_PLAIN) && count_exact(j, &m->tensors[i]) < pith_coded_units(&m->tensors[i])) j->d->source_basis = false;
    for (int p = 0; p < N_PHASES; p++)
        for (size_t i = 0; i < m->n_tensors; i++) {
            const pith_coded_tensor *t = &m->tensors[i];
            bool whole = t->basis & PITH_BASIS_OUT, all = count_exact(j, t) == pith_coded_units(t);
            unsigned n = 0;
            for (uint32_t u = 0; u < pith_coded_units(t); u++) {
                uint32_t unit = t->first_unit + u;
                bool region = j->d->source_basis || (whole ? all : j->exact[unit] != NO_PACKET);
                if ((region ? whole ? WHOLE_MATRICES : EXACT_UNITS : OTHER_UNITS) != (phase)p || (region && whole && u > 0)) continue;
                j->task[j->n_tasks++] = unit | (region ? REGION : 0);
                n++;
            }
            j->n_phase[p] += n;
            atomic_fetch_add(&j->left[i], n);
        }
}

/* What the exact layer needs beyond the others. */
static pith_status prepare_exact(job *j)
{
    const pith_manifest *m = &j->r->manifest;
    pith_grid_models *models = pith_alloc(j->ctx, sizeof *models);
    if (!models) return PITH_E_MEMORY;
    pith_status status = pith_grid_models_read(m->exact_models.data, m->exact_models.len, models);
    if (status == PITH_OK) status = pith_predictor_new(j->ctx, m, !j->d->source_basis, &j->p);
    if (status == PITH_OK && !(j->grid = pith_grid_decoders_new(j->ctx, models))) status = PITH_E_MEMORY;
    pith_free(j->ctx, models);
    for (size_t i = 0; i < j->n_tasks && status == PITH_OK; i++) {
        const pith_coded_tensor *t = pith_manifest_tensor_of_unit(m, j->task[i] & ~REGION);
        pith_grid g;
        if (j->task[i] & REGION && (!pith_grid_of((pith_dtype)t->source_dtype, &g) || t->n_cols % PITH_GROUP_COLS)) status = PITH_E_CORRUPT;
    }
    return status == PITH_E_CORRUPT ? pith_fail(j->ctx, status, "%s: what the exact layer needs is damaged", j->r->path) : status;
}

static void release_exact(job *j)
{
    pith_predictor_free(j->ctx, &j->p);
    pith_free(j->ctx, j->grid);
    j->grid = NULL;
}

static pith_status prepare(job *j)
{
    pith_ctx *ctx = j->ctx;
    const pith_manifest *m = &j->r->manifest;
    size_t n_workers = (size_t)pith_n_threads(ctx);
    j->models = pith_alloc(ctx, sizeof *j->models);
    j->packet = pith_array(ctx, m->n_units, PITH_MAX_LEVELS * sizeof *j->packet);
    j->exact = pith_array(ctx, m->n_units, sizeof *j->exact);
    j->packed = pith_calloc(ctx, m->n_units, sizeof *j->packed);
    j->left = pith_calloc(ctx, m->n_tensors, sizeof *j->left);
    j->task = pith_array(ctx, m->n_units, sizeof *j->task);
    j->worker = pith_calloc(ctx, n_workers, sizeof *j->worker);
    j->d->matrix = pith_calloc(ctx, m->n_tensors, sizeof(pith_operator *));
    if (!j->models || !j->packet || !j->exact || !j->packed || !j->left || !j->task || !j->worker || !j->d->matrix) return PITH_E_MEMORY;
    if (pith_models_read(m->models.data, m->models.len, j->models) != PITH_OK) return pith_fail(ctx, PITH_E_CORRUPT, "%s: the coder's distributions are damaged", j->r->path);
    list_packets(j);
    list_tasks(j);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *t = &m->tensors[i];
        size_t n_wide;
        wide_columns(j, t, &n_wide);
        if (n_wide > PITH_MAX_OUTLIER_COLUMNS)
            return pith_fail(ctx, PITH_E_CORRUPT, "%s: %s keeps %zu columns apart, at most %d can be", j->r->path, t->name, n_wide, PITH_MAX_OUTLIER_COLUMNS);
    }
    return j->n_phase[OTHER_UNITS] < j->n_tasks ? prepare_exact(j) : PITH_OK;
}

/* A task, with what it takes beside what stays: the workers' memory, and its matrix in parts before they are joined. */
typedef struct sorted_task {
    size_t bytes;
    uint32_t task;
} sorted_task;

static int by_bytes(const void *a, const void *b)
{
    const sorted_task *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return (x->task > y->task) - (x->task < y->task);
}

static pith_status sort_tasks(job *j, uint32_t *task, size_t n)
{
    sorted_task *sorted = pith_array(j->ctx, n, sizeof *sorted);
    if (!sorted) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const pith_coded_tensor *t = pith_manifest_tensor_of_unit(&j->r->manifest, task[i] & ~REGION);
        sorted[i] = (sorted_task){(size_t)pith_n_threads(j->ctx) * task_bytes(j, task[i]) + (size_t)t->n_rows * t->n_cols, task[i]};
    }
    qsort(sorted, n, sizeof *sorted, by_bytes);
    for (size_t i = 0; i < n; i++) task[i] = sorted[i].task;
    pith_free(j->ctx, sorted);
    return PITH_OK;
}

static pith_status run_phase(job *j, size_t n)
{
    pith_status status = sort_tasks(j, j->task + j->first_task, n);
    if (status == PITH_OK) pith_parallel(j->ctx, n, run_task, j);
    for (int i = 0; i < pith_n_threads(j->ctx); i++) {
        give_memory(j, &j->worker[i], 0);
        if (status == PITH_OK) status = j->worker[i].status;
    }
    j->first_task += n;
    return status;
}

static void release(job *j)
{
    pith_ctx *ctx = j->ctx;
    for (size_t i = 0; j->packed && i < j->r->manifest.n_units; i++) pith_packed_free(ctx, &j->packed[i]);
    release_exact(j);
    pith_free(ctx, j->models);
    pith_free(ctx, j->packet);
    pith_free(ctx, j->exact);
    pith_free(ctx, j->packed);
    pith_free(ctx, j->left);
    pith_free(ctx, j->task);
    pith_free(ctx, j->worker);
}

pith_status pith_decode(pith_ctx *ctx, const pith_reader *r, pith_decoded *d)
{
    job j = {.ctx = ctx, .r = r, .d = d, .isa = pith_ctx_cpu(ctx)->isa};
    *d = (pith_decoded){0};
    pith_status status = prepare(&j);
    for (int p = 0; p < N_PHASES && status == PITH_OK; p++) {
        if (p == OTHER_UNITS) release_exact(&j);
        if (j.n_phase[p]) status = run_phase(&j, j.n_phase[p]);
        if (status == PITH_E_IO) pith_fail(ctx, status, "%s: a packet cannot be read", r->path);
    }
    for (int i = 0; i < pith_n_threads(ctx) && status == PITH_OK; i++) {
        d->n_missing += j.worker[i].n_missing;
        d->n_damaged += j.worker[i].n_damaged;
        d->n_exact += j.worker[i].n_exact;
    }
    release(&j);
    if (status != PITH_OK) pith_decoded_free(ctx, r->manifest.n_tensors, d);
    return status;
}

void pith_decoded_free(pith_ctx *ctx, size_t n_tensors, pith_decoded *d)
{
    for (size_t i = 0; d->matrix && i < n_tensors; i++) pith_operator_free(ctx, d->matrix[i]);
    pith_free(ctx, d->matrix);
    *d = (pith_decoded){0};
}
