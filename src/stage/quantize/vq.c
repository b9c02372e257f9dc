/* Vector quantization that learns. */
#include "stage/quantize/vq.h"

#include <math.h>

#include "grad/matmul.h"

#define SEARCH_CODES 1024          /* codes that all rows are compared with at a time */
#define MAX_COORDINATES 24         /* of FSQ and LFQ */
#define EMA_DECAY 0.99f
#define EMA_EPS 1e-5f              /* a code nobody chose keeps a little weight */
#define IDLE_UPDATES 100           /* RESEED: until a code begins anew */
#define KMEANS_ROUNDS 10
#define LFQ_WEIGHT 0.1f            /* of the entropy loss */

/* Streams of random numbers under the seed. */
enum { BASIS, WEIGHT, PROJECTIONS, RESEEDING };

struct pith_vq {
    pith_tape *tape;
    pith_ctx *ctx;
    pith_vq_options o;
    pith_var *codes;               /* parameter [n_codes, width]; NULL: codes are in `fixed` or none */
    pith_var *w;                   /* LINEAR: parameter [dim, dim]; FROZEN: NULL */
    pith_var *down, *up, *up_bias; /* projections: [width, dim], [dim, width], [dim]; NULL where there are none */
    float *fixed;                  /* [n_codes, dim] EMA's codes, LINEAR's basis */
    float *fixed_w;                /* FROZEN: [dim, dim] */
    size_t width;                  /* of what is compared or rounded */
    float half[MAX_COORDINATES], offset[MAX_COORDINATES], shift[MAX_COORDINATES]; /* FSQ, by coordinate */
    size_t levels[MAX_COORDINATES];
    float *count, *sum;            /* EMA: [n_codes], [n_codes, dim] */
    uint32_t *idle;                /* RESEED: [n_codes] updates since it was chosen */
    uint64_t n_updates;
    int32_t *code;                 /* [n_room] of the last apply */
    float *z;                      /* [n_room, dim] its rows, for EMA and RESEED */
    size_t n, n_room;
    bool recorded;
};

static const char *const kind_names[] = {"plain", "reseed", "ema", "project", "simvq", "frozen", "fsq", "lfq"};

const char *pith_vq_kind_name(pith_vq_kind kind) { return kind_names[kind]; }

bool pith_vq_kind_find(const char *name, size_t len, pith_vq_kind *kind)
{
    for (size_t i = 0; i < PITH_COUNT(kind_names); i++) {
        if (strlen(kind_names[i]) != len || memcmp(kind_names[i], name, len)) continue;
        *kind = (pith_vq_kind)i;
        return true;
    }
    return false;
}

/* ---- making ----------------------------------------------------------------------------------- */

static void fill_uniform(float *x, size_t n, float bound, pith_rng rng)
{
    for (size_t i = 0; i < n; i++) x[i] = bound * (2 * pith_rng_uniform(&rng) - 1);
}

/* Row i of the frozen basis: normal of variance 1 / dim, a function of (seed, i) alone. */
static void basis_row(uint64_t seed, size_t i, size_t dim, float *row)
{
    pith_rng rng = {seed, BASIS, 2 * i * dim};
    for (size_t k = 0; k < dim; k++) row[k] = pith_rng_normal(&rng) / sqrtf((float)dim);
}

static pith_status make_basis(pith_vq *vq)
{
    vq->fixed = pith_array(vq->ctx, vq->o.n_codes, vq->o.dim * sizeof(float));
    if (!vq->fixed) return PITH_E_MEMORY;
    for (size_t i = 0; i < vq->o.n_codes; i++) basis_row(vq->o.seed, i, vq->o.dim, vq->fixed + i * vq->o.dim);
    return PITH_OK;
}

/* Projections begin as PyTorch's linear layers do: uniform within 1 / sqrt(inputs). */
static pith_status make_projections(pith_vq *vq)
{
    size_t dim = vq->o.dim, width = vq->width;
    vq->down = pith_tape_param(vq->tape, "vq.down", PITH_DIMS(width, dim));
    vq->up = pith_tape_param(vq->tape, "vq.up", PITH_DIMS(dim, width));
    vq->up_bias = pith_tape_param(vq->tape, "vq.up.bias", PITH_DIMS(dim));
    if (!vq->down || !vq->up || !vq->up_bias) return pith_tape_status(vq->tape);
    fill_uniform(vq->down->data, width * dim, 1 / sqrtf((float)dim), (pith_rng){vq->o.seed, PROJECTIONS, 0});
    fill_uniform(vq->up->data, dim * width, 1 / sqrtf((float)width), (pith_rng){vq->o.seed, PROJECTIONS, (uint64_t)1 << 32});
    return PITH_OK;
}

static pith_status make_codes(pith_vq *vq)
{
    size_t n = vq->o.n_codes, width = vq->width;
    vq->codes = pith_tape_param(vq->tape, "vq.codes", PITH_DIMS(n, width));
    if (!vq->codes) return pith_tape_status(vq->tape);
    pith_rng rng = {vq->o.seed, BASIS, 0};
    if (vq->o.kind != PITH_VQ_PROJECTED) fill_uniform(vq->codes->data, n * width, 1 / (float)n, rng);
    for (size_t i = 0; i < n * width && vq->o.kind == PITH_VQ_PROJECTED; i++) vq->codes->data[i] = pith_rng_normal(&rng);
    return PITH_OK;
}

static pith_status make_linear(pith_vq *vq)
{
    size_t dim = vq->o.dim;
    PITH_TRY(make_basis(vq));
    float *w;
    if (vq->o.kind == PITH_VQ_LINEAR) {
        vq->w = pith_tape_param(vq->tape, "vq.w", PITH_DIMS(dim, dim));
        if (!vq->w) return pith_tape_status(vq->tape);
        w = vq->w->data;
    } else {
        w = vq->fixed_w = pith_array(vq->ctx, dim, dim * sizeof *w);
        if (!w) return PITH_E_MEMORY;
    }
    fill_uniform(w, dim * dim, 1 / sqrtf((float)dim), (pith_rng){vq->o.seed, WEIGHT, 0});
    return PITH_OK;
}

static pith_status make_ema(pith_vq *vq)
{
    size_t n = vq->o.n_codes, dim = vq->o.dim;
    PITH_TRY(make_basis(vq));
    vq->count = pith_array(vq->ctx, n, sizeof *vq->count);
    vq->sum = pith_array(vq->ctx, n, dim * sizeof *vq->sum);
    if (!vq->count || !vq->sum) return PITH_E_MEMORY;
    for (size_t i = 0; i < n; i++) vq->count[i] = 1;
    memcpy(vq->sum, vq->fixed, n * dim * sizeof *vq->sum);
    return PITH_OK;
}

/* Levels by coordinate: those of the paper's table, and 8 8 8 4 4 for 2^13. */
static pith_status make_fsq(pith_vq *vq)
{
    static const uint8_t table[][7] = {{8, 8, 6, 5}, {10, 8, 5, 5, 5}, {12, 7, 5, 5, 5, 5}, {13, 8, 8, 8, 4, 4}, {14, 8, 8, 8, 6, 5}, {16, 8, 8, 8, 5, 5, 5}};
    const uint8_t *row = NULL;
    for (size_t i = 0; i < PITH_COUNT(table); i++)
        if (vq->o.n_codes == (size_t)1 << table[i][0]) row = table[i];
    if (!row) return pith_fail(vq->ctx, PITH_E_ARGUMENT, "FSQ has levels for 2^8, 2^10, 2^12, 2^13, 2^14 and 2^16 codes, not for %zu", vq->o.n_codes);
    vq->o.n_codes = 1; /* the product of levels is near the round number */
    for (vq->width = 0; vq->width < 6 && row[1 + vq->width]; vq->width++) {
        size_t i = vq->width, n = vq->levels[i] = row[1 + i];
        vq->o.n_codes *= n;
        vq->half[i] = (float)(n - 1) * 1.001f / 2;
        vq->offset[i] = n % 2 ? 0 : 0.5f;
        vq->shift[i] = atanhf(vq->offset[i] / vq->half[i]);
    }
    return make_projections(vq);
}

static pith_status make_lfq(pith_vq *vq)
{
    if (vq->o.n_codes & (vq->o.n_codes - 1) || vq->o.n_codes < 2 || vq->o.n_codes > (size_t)1 << MAX_COORDINATES)
        return pith_fail(vq->ctx, PITH_E_ARGUMENT, "LFQ has 2, 4 .. 2^%d codes, not %zu", MAX_COORDINATES, vq->o.n_codes);
    vq->width = (size_t)__builtin_ctzll(vq->o.n_codes);
    return make_projections(vq);
}

static pith_status make(pith_vq *vq)
{
    switch (vq->o.kind) {
    case PITH_VQ_RESEED:
        vq->idle = pith_calloc(vq->ctx, vq->o.n_codes, sizeof *vq->idle);
        if (!vq->idle) return PITH_E_MEMORY;
        return make_codes(vq);
    case PITH_VQ_PLAIN: return make_codes(vq);
    case PITH_VQ_EMA: return make_ema(vq);
    case PITH_VQ_PROJECTED:
        vq->width = vq->o.code_dim ? vq->o.code_dim : 8;
        PITH_TRY(make_projections(vq));
        return make_codes(vq);
    case PITH_VQ_LINEAR:
    case PITH_VQ_FROZEN: return make_linear(vq);
    case PITH_VQ_FSQ: return make_fsq(vq);
    case PITH_VQ_LFQ: return make_lfq(vq);
    }
    return pith_fail(vq->ctx, PITH_E_ARGUMENT, "there is no quantizer of kind %d", (int)vq->o.kind);
}

pith_status pith_vq_new(pith_tape *tape, const pith_vq_options *o, pith_vq **out)
{
    pith_ctx *ctx = pith_tape_ctx(tape);
    if (!o->n_codes || !o->dim || o->n_codes > INT32_MAX || o->dim > 65536)
        return pith_fail(ctx, PITH_E_ARGUMENT, "a quantizer has 1 to 2^31 codes of 1 to 65536 values, not %zu of %zu", o->n_codes, o->dim);
    pith_vq *vq = pith_calloc(ctx, 1, sizeof *vq);
    if (!vq) return PITH_E_MEMORY;
    vq->tape = tape;
    vq->ctx = ctx;
    vq->o = *o;
    vq->width = o->dim;
    if (vq->o.commitment == 0) vq->o.commitment = 0.25f;
    pith_status status = make(vq);
    if (status == PITH_OK) *out = vq;
    else pith_vq_free(vq);
    return status;
}

void pith_vq_free(pith_vq *vq)
{
    if (!vq) return;
    pith_free(vq->ctx, vq->fixed);
    pith_free(vq->ctx, vq->fixed_w);
    pith_free(vq->ctx, vq->count);
    pith_free(vq->ctx, vq->sum);
    pith_free(vq->ctx, vq->idle);
    pith_free(vq->ctx, vq->code);
    pith_free(vq->ctx, vq->z);
    pith_free(vq->ctx, vq);
}

/* ---- the nearest code ------------------------------------------------------------------------- */

typedef struct best_search {
    const float *score;            /* [n, n_codes] */
    size_t n_codes, from;
    float *best;                   /* [n] */
    int32_t *code;                 /* [n] */
} best_search;

static void take_best(void *arg, size_t from, size_t to, int worker)
{
    (void)worker;
    const best_search *s = arg;
    for (size_t i = from; i < to; i++) {
        const float *row = s->score + i * s->n_codes;
        size_t at = pith_argmax(row, s->n_codes);
        if (s->from && row[at] <= s->best[i]) continue;
        s->best[i] = row[at];
        s->code[i] = (int32_t)(s->from + at);
    }
}

/* code[i] = argmin |z_i - c|^2 = argmax z_i c - |c|^2 / 2, the first of equals. */
static pith_status nearest(pith_vq *vq, const float *z, size_t n, const float *codes, size_t width, int32_t *code)
{
    pith_tape *tape = vq->tape;
    size_t n_codes = vq->o.n_codes, block = PITH_MIN(SEARCH_CODES, n_codes);
    pith_block *score = pith_op_take(tape, n * block), *best = pith_op_take(tape, n), *bias = pith_op_take(tape, block);
    bool ok = score && best && bias;
    for (size_t from = 0; from < n_codes && ok; from += block) {
        size_t n_here = PITH_MIN(block, n_codes - from);
        const float *c = codes + from * width;
        for (size_t k = 0; k < n_here; k++) {
            float square = 0;
            for (size_t j = 0; j < width; j++) square += c[k * width + j] * c[k * width + j];
            pith_op_floats(bias)[k] = -0.5f * square;
        }
        ok = pith_product(tape, 1, n, n_here, width, (pith_matrix){z, width, false}, (pith_matrix){c, width, true}, 0, 0, pith_op_floats(bias), pith_op_floats(score));
        best_search s = {pith_op_floats(score), n_here, from, pith_op_floats(best), code};
        if (ok) pith_op_ranges(tape, n, 64, take_best, &s);
    }
    pith_op_drop(tape, score);
    pith_op_drop(tape, best);
    pith_op_drop(tape, bias);
    return ok ? PITH_OK : pith_tape_status(tape);
}

/* ---- applying --------------------------------------------------------------------------------- */

static pith_status make_room(pith_vq *vq, size_t n)
{
    vq->n = n;
    if (n <= vq->n_room && vq->code) return PITH_OK;
    int32_t *code = pith_resize(vq->ctx, vq->code, PITH_MAX(n, 1) * sizeof *code);
    if (!code) return PITH_E_MEMORY;
    vq->code = code;
    float *z = pith_resize(vq->ctx, vq->z, PITH_MAX(n, 1) * vq->o.dim * sizeof *z);
    if (!z) return PITH_E_MEMORY;
    vq->z = z;
    vq->n_room = n;
    return PITH_OK;
}

static pith_var *commit(pith_vq *vq, pith_var *q, pith_var *z) { return pith_var_scale(pith_var_mse(z, pith_var_stop(q)), vq->o.commitment); }

/* |q - sg(z)|^2 + commitment |sg(q) - z|^2 */
static pith_var *both_losses(pith_vq *vq, pith_var *q, pith_var *z)
{
    return pith_var_add(pith_var_mse(q, pith_var_stop(z)), commit(vq, q, z));
}

static pith_status apply_codes(pith_vq *vq, pith_var *z, pith_vq_result *r)
{
    PITH_TRY(nearest(vq, z->data, vq->n, vq->codes->data, vq->width, vq->code));
    pith_var *q = pith_var_rows(vq->codes, vq->code, PITH_DIMS(vq->n));
    r->loss = both_losses(vq, q, z);
    r->q = pith_var_straight_through(q, z);
    return PITH_OK;
}

static pith_status apply_ema(pith_vq *vq, pith_var *z, pith_vq_result *r)
{
    PITH_TRY(nearest(vq, z->data, vq->n, vq->fixed, vq->o.dim, vq->code));
    pith_var *codes = pith_tape_input(vq->tape, vq->fixed, PITH_DIMS(vq->o.n_codes, vq->o.dim));
    pith_var *q = pith_var_rows(codes, vq->code, PITH_DIMS(vq->n));
    r->loss = commit(vq, q, z);
    r->q = pith_var_straight_through(q, z);
    return PITH_OK;
}

static pith_status apply_linear(pith_vq *vq, pith_var *z, pith_vq_result *r)
{
    size_t dim = vq->o.dim;
    pith_var *basis = pith_tape_input(vq->tape, vq->fixed, PITH_DIMS(vq->o.n_codes, dim));
    pith_var *w = vq->w ? vq->w : pith_tape_input(vq->tape, vq->fixed_w, PITH_DIMS(dim, dim));
    bool was = pith_tape_record(vq->tape, false);
    pith_var *codes = pith_var_matmul(basis, w, false, false);
    pith_tape_record(vq->tape, was);
    if (!codes) return pith_tape_status(vq->tape);
    PITH_TRY(nearest(vq, z->data, vq->n, codes->data, dim, vq->code));
    /* the gradient by W comes from the rows that were chosen, and moves them all */
    pith_var *q = pith_var_matmul(pith_var_rows(basis, vq->code, PITH_DIMS(vq->n)), w, false, false);
    r->loss = both_losses(vq, q, z);
    r->q = pith_var_straight_through(q, z);
    return PITH_OK;
}

static pith_status apply_projected(pith_vq *vq, pith_var *z, pith_vq_result *r)
{
    pith_var *low = pith_var_unit(pith_var_linear(z, vq->down, NULL), 1e-12f);
    bool was = pith_tape_record(vq->tape, false);
    pith_var *codes = pith_var_unit(vq->codes, 1e-12f);
    pith_tape_record(vq->tape, was);
    if (!low || !codes) return pith_tape_status(vq->tape);
    PITH_TRY(nearest(vq, low->data, vq->n, codes->data, vq->width, vq->code));
    pith_var *q = pith_var_unit(pith_var_rows(vq->codes, vq->code, PITH_DIMS(vq->n)), 1e-12f);
    r->loss = both_losses(vq, q, low);
    r->q = pith_var_linear(pith_var_straight_through(q, low), vq->up, vq->up_bias);
    return PITH_OK;
}

static pith_status apply_fsq(pith_vq *vq, pith_var *z, pith_vq_result *r)
{
    pith_tape *t = vq->tape;
    size_t width = vq->width;
    float *unit = pith_op_attr(t, width, sizeof *unit);
    if (!unit) return pith_tape_status(t);
    for (size_t i = 0; i < width; i++) unit[i] = 1 / (float)(vq->levels[i] / 2);
    pith_var *half = pith_tape_input(t, vq->half, PITH_DIMS(width)), *offset = pith_tape_input(t, vq->offset, PITH_DIMS(width));
    pith_var *shift = pith_tape_input(t, vq->shift, PITH_DIMS(width)), *scale = pith_tape_input(t, unit, PITH_DIMS(width));
    pith_var *bounded = pith_var_sub(pith_var_mul(pith_var_tanh(pith_var_add(pith_var_linear(z, vq->down, NULL), shift)), half), offset);
    pith_var *q = pith_var_round(bounded);
    if (!q) return pith_tape_status(t);
    for (size_t i = 0; i < vq->n; i++) {
        size_t code = 0;
        for (size_t k = width; k-- > 0;) code = code * vq->levels[k] + (size_t)(q->data[i * width + k] + (float)(vq->levels[k] / 2));
        vq->code[i] = (int32_t)code;
    }
    r->q = pith_var_linear(pith_var_mul(pith_var_straight_through(q, bounded), scale), vq->up, vq->up_bias);
    return PITH_OK;
}

static pith_status apply_lfq(pith_vq *vq, pith_var *z, pith_vq_result *r)
{
    size_t width = vq->width;
    pith_var *low = pith_var_linear(z, vq->down, NULL), *zero = pith_tape_fill(vq->tape, 0, 0, NULL);
    pith_var *q = pith_var_affine(pith_var_at_least(low, zero), 2, -1);
    if (!q) return pith_tape_status(vq->tape);
    for (size_t i = 0; i < vq->n; i++) {
        uint32_t code = 0;
        for (size_t k = 0; k < width; k++) code |= (uint32_t)(q->data[i * width + k] > 0) << k;
        vq->code[i] = (int32_t)code;
    }
    /* A bit is 1 with p = sigmoid(4 z), as softmax(-|z - c|^2) says; each row should be sure and the batch spread out. */
    pith_var *logit = pith_var_scale(low, 4), *p = pith_var_sigmoid(logit);
    pith_var *of_rows = pith_var_sub(pith_var_softplus(logit), pith_var_mul(logit, p));
    pith_var *mean = pith_var_clamp(pith_var_mean(p, PITH_AXIS(0)), 1e-6f, 1 - 1e-6f), *rest = pith_var_affine(mean, -1, 1);
    pith_var *of_batch = pith_var_neg(pith_var_add(pith_var_mul(mean, pith_var_log(mean)), pith_var_mul(rest, pith_var_log(rest))));
    pith_var *entropy = pith_var_scale(pith_var_sub(pith_var_mean(of_rows, PITH_ALL_AXES), pith_var_mean(of_batch, PITH_ALL_AXES)), LFQ_WEIGHT * (float)width);
    r->loss = pith_var_add(commit(vq, q, low), entropy);
    r->q = pith_var_linear(pith_var_straight_through(q, low), vq->up, vq->up_bias);
    return PITH_OK;
}

pith_status pith_vq_apply(pith_vq *vq, pith_var *z, pith_vq_result *r)
{
    *r = (pith_vq_result){0};
    if (!z) return pith_tape_status(vq->tape);
    if (z->n_dims != 2 || z->dims[1] != vq->o.dim) {
        pith_op_fail(vq->tape, PITH_E_SHAPE, "vq: rows of %zu values are expected, not %s", vq->o.dim, PITH_SHAPE(z));
        return PITH_E_SHAPE;
    }
    PITH_TRY(make_room(vq, z->dims[0]));
    vq->recorded = pith_recording(vq->tape);
    if (vq->recorded && z->count) memcpy(vq->z, z->data, z->count * sizeof *vq->z);
    pith_status status = PITH_OK;
    switch (vq->o.kind) {
    case PITH_VQ_PLAIN:
    case PITH_VQ_RESEED: status = apply_codes(vq, z, r); break;
    case PITH_VQ_EMA: status = apply_ema(vq, z, r); break;
    case PITH_VQ_PROJECTED: status = apply_projected(vq, z, r); break;
    case PITH_VQ_LINEAR:
    case PITH_VQ_FROZEN: status = apply_linear(vq, z, r); break;
    case PITH_VQ_FSQ: status = apply_fsq(vq, z, r); break;
    case PITH_VQ_LFQ: status = apply_lfq(vq, z, r); break;
    }
    r->code = vq->code;
    return status == PITH_OK ? pith_tape_status(vq->tape) : status;
}

/* ---- what moves codes without gradients ------------------------------------------------------- */

static pith_status update_ema(pith_vq *vq)
{
    size_t n_codes = vq->o.n_codes, dim = vq->o.dim;
    float total = 0;
    for (size_t i = 0; i < n_codes; i++) vq->count[i] *= EMA_DECAY;
    for (size_t i = 0; i < n_codes * dim; i++) vq->sum[i] *= EMA_DECAY;
    for (size_t i = 0; i < vq->n; i++) {
        size_t c = (size_t)vq->code[i];
        vq->count[c] += 1 - EMA_DECAY;
        for (size_t k = 0; k < dim; k++) vq->sum[c * dim + k] += (1 - EMA_DECAY) * vq->z[i * dim + k];
    }
    for (size_t i = 0; i < n_codes; i++) total += vq->count[i];
    for (size_t i = 0; i < n_codes; i++) {
        float weight = (vq->count[i] + EMA_EPS) / (total + (float)n_codes * EMA_EPS) * total;
        for (size_t k = 0; k < dim; k++) vq->fixed[i * dim + k] = vq->sum[i * dim + k] / weight;
    }
    return PITH_OK;
}

static void update_idle(pith_vq *vq)
{
    size_t n_codes = vq->o.n_codes, dim = vq->o.dim;
    pith_rng rng = {vq->o.seed, RESEEDING, vq->n_updates << 32};
    for (size_t i = 0; i < n_codes; i++) vq->idle[i]++;
    for (size_t i = 0; i < vq->n; i++) vq->idle[vq->code[i]] = 0;
    for (size_t i = 0; i < n_codes && vq->n; i++) {
        if (vq->idle[i] < IDLE_UPDATES) continue;
        size_t row = pith_rng_below(&rng, (uint32_t)vq->n);
        memcpy(vq->codes->data + i * dim, vq->z + row * dim, dim * sizeof(float));
        vq->idle[i] = 0;
    }
}

pith_status pith_vq_update(pith_vq *vq)
{
    if (!vq->recorded) return PITH_OK;
    vq->n_updates++;
    if (vq->o.kind == PITH_VQ_RESEED) update_idle(vq);
    return vq->o.kind == PITH_VQ_EMA ? update_ema(vq) : PITH_OK;
}

pith_status pith_vq_start(pith_vq *vq, const float *z, size_t n)
{
    if (vq->o.kind != PITH_VQ_RESEED) return PITH_OK;
    size_t n_codes = vq->o.n_codes, dim = vq->o.dim;
    if (n < n_codes) return pith_fail(vq->ctx, PITH_E_ARGUMENT, "k-means of %zu codes needs as many rows, not %zu", n_codes, n);
    float *codes = vq->codes->data, *count = pith_array(vq->ctx, n_codes, sizeof *count);
    int32_t *code = pith_array(vq->ctx, n, sizeof *code);
    pith_status status = count && code ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; status == PITH_OK && i < n_codes; i++) memcpy(codes + i * dim, z + i * (n / n_codes) * dim, dim * sizeof *codes); /* rows at even distances */
    for (int round = 0; round < KMEANS_ROUNDS && status == PITH_OK; round++) {
        status = nearest(vq, z, n, codes, dim, code);
        if (status != PITH_OK) break;
        memset(count, 0, n_codes * sizeof *count);
        for (size_t i = 0; i < n; i++) {
            float *c = codes + (size_t)code[i] * dim, share = 1 / ++count[code[i]]; /* a running mean; the first row replaces the code */
            for (size_t k = 0; k < dim; k++) c[k] += (z[i * dim + k] - c[k]) * share;
        }
    }
    pith_free(vq->ctx, count);
    pith_free(vq->ctx, code);
    return status;
}

/* ---- for decoders ----------------------------------------------------------------------------- */

size_t pith_vq_n_codes(const pith_vq *vq) { return vq->o.n_codes; }
size_t pith_vq_dim(const pith_vq *vq) { return vq->o.dim; }

size_t pith_vq_bytes(const pith_vq *vq)
{
    size_t values = vq->o.kind == PITH_VQ_LINEAR ? vq->o.dim * vq->o.dim : 0;
    if (vq->codes) values += vq->codes->count;
    if (vq->o.kind == PITH_VQ_EMA) values += vq->o.n_codes * vq->o.dim;
    if (vq->up) values += vq->up->count + vq->up_bias->count;
    bool seeded = vq->o.kind == PITH_VQ_LINEAR || vq->o.kind == PITH_VQ_FROZEN;
    return values * sizeof(float) + (seeded ? sizeof vq->o.seed : 0);
}

const float *pith_vq_weight(const pith_vq *vq) { return vq->w ? vq->w->data : vq->fixed_w; }

pith_status pith_vq_decode_linear(pith_ctx *ctx, uint64_t seed, size_t n_codes, size_t dim, const float *w, const int32_t *code, size_t n, float *dst)
{
    pith_tape *tape;
    PITH_TRY(pith_tape_new(ctx, 0, &tape));
    float *rows = pith_array(ctx, PITH_MAX(n, 1), dim * sizeof *rows);
    pith_status status = rows ? PITH_OK : PITH_E_MEMORY;
    for (size_t i = 0; i < n && status == PITH_OK; i++) {
        if (code[i] < 0 || (size_t)code[i] >= n_codes) status = pith_fail(ctx, PITH_E_ARGUMENT, "code %d, row %zu: there are %zu", (int)code[i], i, n_codes);
        else basis_row(seed, (size_t)code[i], dim, rows + i * dim);
    }
    if (status == PITH_OK) {
        pith_tape_step(tape, 0);
        pith_tape_record(tape, false);
        pith_var *q = pith_var_matmul(pith_tape_input(tape, rows, PITH_DIMS(n, dim)), pith_tape_input(tape, w, PITH_DIMS(dim, dim)), false, false);
        status = pith_tape_status(tape);
        if (q && n) memcpy(dst, q->data, n * dim * sizeof *dst);
    }
    pith_free(ctx, rows);
    pith_tape_free(tape);
    return status;
}
