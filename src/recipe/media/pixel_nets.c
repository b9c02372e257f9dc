#include "recipe/media/pixel_nets.h"

#include <math.h>

#include "recipe/scenes.h"
#include "stage/code/range.h"
#include "tensor/kernels.h"

#define VALUES 256
#define BITS 24                    /* of a frequency table */
#define FIRST_KERNEL 7
#define KERNEL 3
#define TEST_BATCH 16

/* A masked convolution: weights of pixels that are not known yet are 0, whatever they are trained to. */
typedef struct masked {
    pith_var *w, *bias;
    float *mask;                   /* of w */
} masked;

/* Two channels -> what two others are changed by. */
typedef struct coupling {
    pith_var *in_w, *in_bias, *out_w, *out_bias;
} coupling;

#define COUPLINGS 4                /* of the flow */

typedef struct nets {
    pith_run *run;
    const pith_pixels *pixels;
    pith_tape *tape;
    pith_net *vae;
    masked first, *blocks;         /* [2 n_blocks] */
    size_t n_blocks;
    pith_var *out_w, *out_bias;
    coupling couplings[COUPLINGS];
    pith_var *mean, *log_scale;    /* [1, 4, height / 2, width / 2] of the flow's latents */
    float *x, *low, *high;         /* [batch, height, width] the batch in -1..1; the VAE's: where it is 0, where it is 255 */
    int32_t *label;                /* [batch, height, width] */
} nets;

static size_t n_pixels(const nets *m) { return m->pixels->height * m->pixels->width; }

static void nets_free(nets *m)
{
    pith_ctx *ctx = m->run->ctx;
    pith_free(ctx, m->first.mask);
    for (size_t i = 0; m->blocks && i < 2 * m->n_blocks; i++) pith_free(ctx, m->blocks[i].mask);
    pith_free(ctx, m->blocks);
    pith_free(ctx, m->x);
    pith_free(ctx, m->low);
    pith_free(ctx, m->high);
    pith_free(ctx, m->label);
    pith_net_free(m->vae);
    pith_tape_free(m->tape);
}

/* Room for batches, and the tape.  Free it also after an error. */
static pith_status nets_begin(nets *m, size_t n_coded)
{
    pith_ctx *ctx = m->run->ctx;
    size_t batch = PITH_MAX(PITH_MAX((size_t)m->run->card->train.batch, (size_t)TEST_BATCH), n_coded), n;
    if (!pith_mul(batch, n_pixels(m), &n)) return pith_fail(ctx, PITH_E_MEMORY, "a batch of %zu images is too large", batch);
    bool ok = (m->x = pith_array(ctx, n, sizeof *m->x)) && (m->low = pith_array(ctx, n, sizeof *m->low)) && (m->high = pith_array(ctx, n, sizeof *m->high)) &&
              (m->label = pith_array(ctx, n, sizeof *m->label));
    return ok ? pith_tape_new(ctx, m->run->seed, &m->tape) : PITH_E_MEMORY;
}

static void set_image(nets *m, size_t b, const uint8_t *image)
{
    for (size_t i = 0, at = b * n_pixels(m); i < n_pixels(m); i++, at++) {
        m->x[at] = (float)image[i] * (2 / 255.0f) - 1;
        m->label[at] = image[i];
        m->low[at] = image[i] == 0;
        m->high[at] = image[i] == 255;
    }
}

/* Training images of a step, drawn anew. */
static void set_batch(nets *m, uint64_t step)
{
    pith_rng rng = {.seed = m->run->seed, .stream = step};
    for (size_t b = 0; b < m->run->card->train.batch; b++)
        set_image(m, b, m->pixels->train + pith_rng_below(&rng, (uint32_t)m->pixels->n_train) * n_pixels(m));
}

static pith_var *input(nets *m, const float *data, size_t n) { return pith_tape_input(m->tape, data, PITH_DIMS(n, 1, m->pixels->height, m->pixels->width)); }

/* Nats a value that the first n images of the batch take, as a mean. */
typedef pith_var *nats_fn(nets *m, size_t n);

/* The same over all test images, in bits. */
static pith_status measure(nets *m, nats_fn *nats, double *bits)
{
    double sum = 0;
    for (size_t from = 0; from < m->pixels->n_test; from += TEST_BATCH) {
        size_t n = PITH_MIN((size_t)TEST_BATCH, m->pixels->n_test - from);
        PITH_TRY(pith_progress(m->run->ctx, "measuring", from, m->pixels->n_test));
        for (size_t b = 0; b < n; b++) set_image(m, b, m->pixels->test + (from + b) * n_pixels(m));
        pith_tape_step(m->tape, from);
        pith_tape_record(m->tape, false);
        pith_var *loss = nats(m, n);
        PITH_TRY(pith_tape_status(m->tape));
        sum += (double)loss->data[0] * (double)n;
    }
    *bits = sum / (double)m->pixels->n_test / log(2);
    return PITH_OK;
}

/* A network and what it is trained by. */
typedef struct lesson {
    nets *nets;
    nats_fn *nats;
} lesson;

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    const lesson *l = user;
    (void)tape;
    set_batch(l->nets, at->step * at->n_parts + at->part);
    return l->nats(l->nets, l->nets->run->card->train.batch);
}

static pith_status train(nets *m, nats_fn *nats, pith_pixel_figures *f)
{
    lesson l = {m, nats};
    pith_train_options o = pith_run_train_options(m->run);
    pith_train_role role = pith_run_train_role(m->run);
    pith_trainer *trainer;
    size_t n;
    pith_var *const *params = pith_tape_params(m->tape, &n);
    for (size_t i = 0; i < n; i++) f->parameters += (double)params[i]->count;
    o.item_name = "images";
    o.user = &l;
    role.loss = loss;
    PITH_TRY(pith_trainer_new(m->tape, &o, &role, 1, &trainer));
    pith_train_result result = {0};
    pith_status status = pith_trainer_run(trainer, &result);
    f->learn_s = result.seconds;
    pith_trainer_free(trainer);
    return status;
}

/* ---- the CNN ----------------------------------------------------------------------------------- */

static pith_status masked_new(nets *m, masked *l, size_t n_in, size_t n_out, size_t kernel, bool sees_itself, pith_rng *rng)
{
    size_t area = kernel * kernel, seen = area / 2 + sees_itself;
    l->w = pith_tape_param(m->tape, "conv.weight", PITH_DIMS(n_out, n_in, kernel, kernel));
    l->bias = pith_tape_param(m->tape, "conv.bias", PITH_DIMS(n_out));
    if (!l->w || !l->bias || !(l->mask = pith_array(m->run->ctx, l->w->count, sizeof *l->mask))) return PITH_E_MEMORY;
    float deviation = sqrtf(2.0f / (float)(n_in * seen));
    for (size_t i = 0; i < l->w->count; i++) {
        l->mask[i] = i % area < seen;
        l->w->data[i] = deviation * pith_rng_normal(rng);
    }
    return PITH_OK;
}

static pith_status build_cnn(nets *m, size_t width, size_t n_blocks)
{
    pith_rng rng = {.seed = m->run->seed, .stream = UINT64_MAX};
    m->n_blocks = n_blocks;
    if (!(m->blocks = pith_calloc(m->run->ctx, 2 * n_blocks, sizeof *m->blocks))) return PITH_E_MEMORY;
    PITH_TRY(masked_new(m, &m->first, 1, width, FIRST_KERNEL, false, &rng));
    for (size_t i = 0; i < 2 * n_blocks; i++) PITH_TRY(masked_new(m, &m->blocks[i], width, width, KERNEL, true, &rng));
    m->out_w = pith_tape_param(m->tape, "out.weight", PITH_DIMS(VALUES, width, 1, 1));
    m->out_bias = pith_tape_param(m->tape, "out.bias", PITH_DIMS(VALUES));
    if (!m->out_w || !m->out_bias) return PITH_E_MEMORY;
    for (size_t i = 0; i < m->out_w->count; i++) m->out_w->data[i] = 0.1f / sqrtf((float)width) * pith_rng_normal(&rng);
    return PITH_OK;
}

static pith_var *masked_run(const masked *l, pith_var *x)
{
    size_t pad = l->w->dims[2] / 2;
    pith_var *mask = pith_tape_input(l->w->tape, l->mask, l->w->n_dims, l->w->dims);
    return pith_var_conv(x, pith_var_mul(l->w, mask), l->bias, &(pith_conv){.padding = {pad, pad}});
}

/* The batch's first n images -> logits [n, height, width, 256]. */
static pith_var *logits_of(nets *m, size_t n)
{
    static const int last[] = {0, 2, 3, 1};
    pith_var *x = masked_run(&m->first, input(m, m->x, n));
    for (size_t i = 0; i < m->n_blocks; i++) {
        pith_var *y = masked_run(&m->blocks[2 * i], pith_var_relu(x));
        x = pith_var_add(x, masked_run(&m->blocks[2 * i + 1], pith_var_relu(y)));
    }
    return pith_var_permute(pith_var_conv(pith_var_relu(x), m->out_w, m->out_bias, &(pith_conv){0}), last);
}

static pith_var *cnn_nats(nets *m, size_t n) { return pith_var_cross_entropy(logits_of(m, n), m->label); }

static void table_of(const nets *m, const float *logits, int32_t *freq)
{
    float p[VALUES];
    memcpy(p, logits, sizeof p);
    pith_kernels_get(m->run->ctx)->softmax(p, VALUES, 1);
    pith_range_frequencies(p, VALUES, BITS, freq);
}

static pith_status run_logits(nets *m, size_t n, const float **logits)
{
    pith_tape_step(m->tape, 0);
    pith_tape_record(m->tape, false);
    pith_var *y = logits_of(m, n);
    PITH_TRY(pith_tape_status(m->tape));
    *logits = y->data;
    return PITH_OK;
}

/* One stream of n images, pixel by pixel: the same images in the same batch, so that the same logits come out. */
static pith_status cnn_encode(nets *m, size_t n, pith_range_writer *out, size_t *len)
{
    const float *logits;
    for (size_t b = 0; b < n; b++) set_image(m, b, m->pixels->test + b * n_pixels(m));
    PITH_TRY(run_logits(m, n, &logits));
    for (size_t i = 0; i < n_pixels(m); i++)
        for (size_t b = 0; b < n; b++) {
            int32_t freq[VALUES];
            size_t at = b * n_pixels(m) + i;
            table_of(m, logits + at * VALUES, freq);
            pith_range_write(out, pith_range_start(freq, (size_t)m->label[at]), (uint32_t)freq[m->label[at]], BITS);
        }
    return pith_range_write_end(out, len);
}

static pith_status cnn_decode(nets *m, size_t n, pith_range_reader *in, bool *same)
{
    const float *logits;
    for (size_t k = 0; k < n * n_pixels(m); k++) m->x[k] = -1;
    *same = true;
    for (size_t i = 0; i < n_pixels(m); i++) {
        PITH_TRY(pith_progress(m->run->ctx, "reading by the CNN", i, n_pixels(m)));
        PITH_TRY(run_logits(m, n, &logits));
        for (size_t b = 0; b < n; b++) {
            int32_t freq[VALUES];
            uint32_t start;
            size_t at = b * n_pixels(m) + i;
            table_of(m, logits + at * VALUES, freq);
            size_t value = pith_range_find(freq, pith_range_read(in, BITS), &start);
            pith_range_read_done(in, start, (uint32_t)freq[value], BITS);
            m->x[at] = (float)value * (2 / 255.0f) - 1;
            *same = *same && value == m->pixels->test[at];
        }
    }
    return PITH_OK;
}

static pith_status code_by_cnn(nets *m, size_t n, pith_pixel_figures *f)
{
    size_t cap = pith_range_bound(n * n_pixels(m), BITS), len;
    uint8_t *stream = pith_alloc(m->run->ctx, cap);
    if (!stream) return PITH_E_MEMORY;
    pith_range_writer out;
    pith_range_reader in;
    pith_range_write_begin(&out, stream, cap);
    double start = pith_now_s();
    pith_status status = cnn_encode(m, n, &out, &len);
    if (status == PITH_OK) {
        f->encode_s = (pith_now_s() - start) / (double)n;
        f->bits = 8 * (double)len / (double)(n * n_pixels(m));
        pith_range_read_begin(&in, stream, len);
        start = pith_now_s();
        status = cnn_decode(m, n, &in, &f->same);
        f->decode_s = (pith_now_s() - start) / (double)n;
        if (status == PITH_OK && pith_range_read_end(&in) != PITH_OK) f->same = false;
    }
    pith_free(m->run->ctx, stream);
    return status;
}

pith_status pith_pixel_cnn(pith_run *run, const pith_pixels *pixels, size_t width, size_t n_blocks, size_t n_coded, pith_pixel_figures *figures)
{
    nets m = {.run = run, .pixels = pixels};
    *figures = (pith_pixel_figures){0};
    n_coded = PITH_MIN(n_coded, pixels->n_test);
    pith_status status = nets_begin(&m, n_coded);
    if (status == PITH_OK) status = build_cnn(&m, width, n_blocks);
    if (status == PITH_OK) status = train(&m, cnn_nats, figures);
    if (status == PITH_OK) status = measure(&m, cnn_nats, &figures->ideal);
    if (status == PITH_OK && n_coded) status = code_by_cnn(&m, n_coded, figures);
    nets_free(&m);
    return status;
}

/* ---- the VAE ----------------------------------------------------------------------------------- */

/* log p of pixels x in -1..1 (a step is 2 / 255) under a logistic distribution of this mean and log scale, cut at the ends:
 * log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), s the sigmoid. */
static pith_var *log_logistic(pith_var *x, pith_var *mean, pith_var *log_scale, pith_var *low, pith_var *high)
{
    const float half = 1 / 255.0f;
    pith_var *sharp = pith_var_exp(pith_var_neg(log_scale)), *off = pith_var_sub(x, mean);
    pith_var *above = pith_var_softplus(pith_var_neg(pith_var_mul(pith_var_affine(off, 1, half), sharp)));
    pith_var *below = pith_var_softplus(pith_var_mul(pith_var_affine(off, 1, -half), sharp));
    pith_var *step = pith_var_log(pith_var_affine(pith_var_exp(pith_var_scale(sharp, -2 * half)), -1, 1));
    pith_var *not_low = pith_var_affine(low, -1, 1), *not_high = pith_var_affine(high, -1, 1);
    pith_var *inside = pith_var_mul(pith_var_mul(not_low, not_high), step);
    return pith_var_sub(pith_var_sub(inside, pith_var_mul(not_high, above)), pith_var_mul(not_low, below));
}

/* Nats a value: what the pixels take given the latents, and the latents' distance from normal ones. */
static pith_var *vae_nats(nets *m, size_t n)
{
    pith_var *x = input(m, m->x, n), *both[] = {x, x}, *mean, *log_variance;
    if (!pith_vae_posterior(m->vae, pith_var_concat(both, 2, 1), &mean, &log_variance)) return NULL;
    pith_var *z = pith_var_draw_normal(mean, log_variance);
    pith_var *y = pith_net_run(m->vae, &(pith_net_input){.part = PITH_NET_DECODE, .x = z});
    pith_var *log_scale = pith_var_clamp(pith_var_affine(pith_var_slice(y, 1, 1, 1), 1, -2), -7, 2);
    pith_var *log_p = log_logistic(x, pith_var_slice(y, 1, 0, 1), log_scale, input(m, m->low, n), input(m, m->high, n));
    pith_var *kl = pith_var_sub(pith_var_add(pith_var_square(mean), pith_var_exp(log_variance)), pith_var_affine(log_variance, 1, 1));
    pith_var *total = pith_var_sub(pith_var_scale(pith_var_sum(kl, PITH_ALL_AXES), 0.5f), pith_var_sum(log_p, PITH_ALL_AXES));
    return pith_var_scale(total, 1 / (float)(n * n_pixels(m)));
}

pith_status pith_pixel_vae(pith_run *run, const pith_pixels *pixels, const char *settings, pith_pixel_figures *figures)
{
    nets m = {.run = run, .pixels = pixels};
    *figures = (pith_pixel_figures){0};
    pith_status status = nets_begin(&m, 0);
    if (status == PITH_OK) status = pith_run_net(run, m.tape, "vae", settings, "{\"channels\": 2}", &m.vae);
    if (status == PITH_OK) status = train(&m, vae_nats, figures);
    if (status == PITH_OK) status = measure(&m, vae_nats, &figures->ideal);
    nets_free(&m);
    return status;
}

/* ---- the flow ---------------------------------------------------------------------------------- */

/* Couplings 0, 1 are between the upper and the lower two of four pixels, 2, 3 between the left and the right two. */
#define TURN 2

static pith_status build_flow(nets *m, size_t width)
{
    pith_rng rng = {.seed = m->run->seed, .stream = UINT64_MAX - 1};
    size_t h = m->pixels->height / 2, w = m->pixels->width / 2;
    for (size_t i = 0; i < COUPLINGS; i++) {
        coupling *c = &m->couplings[i];
        bool ok = (c->in_w = pith_tape_param(m->tape, "coupling.in.weight", PITH_DIMS(width, 2, KERNEL, KERNEL))) && (c->in_bias = pith_tape_param(m->tape, "coupling.in.bias", PITH_DIMS(width))) &&
                  (c->out_w = pith_tape_param(m->tape, "coupling.out.weight", PITH_DIMS(2, width, KERNEL, KERNEL))) && (c->out_bias = pith_tape_param(m->tape, "coupling.out.bias", PITH_DIMS(2)));
        if (!ok) return PITH_E_MEMORY;
        float deviation = sqrtf(2.0f / (2 * KERNEL * KERNEL)); /* what comes out is 0 at first: pixels stay as they are */
        for (size_t k = 0; k < c->in_w->count; k++) c->in_w->data[k] = deviation * pith_rng_normal(&rng);
    }
    m->mean = pith_tape_param(m->tape, "latent.mean", PITH_DIMS(1, 4, h, w));
    m->log_scale = pith_tape_param(m->tape, "latent.log_scale", PITH_DIMS(1, 4, h, w));
    if (!m->mean || !m->log_scale) return PITH_E_MEMORY;
    for (size_t k = 0; k < m->log_scale->count; k++) m->log_scale->data[k] = -2;
    return PITH_OK;
}

/* What a coupling takes away, whole; its gradient is that of before the rounding. */
static pith_var *taken(const coupling *c, pith_var *known)
{
    const pith_conv same = {.padding = {KERNEL / 2, KERNEL / 2}};
    pith_var *y = pith_var_relu(pith_var_conv(pith_var_affine(known, 1 / 64.0f, -2), c->in_w, c->in_bias, &same));
    y = pith_var_scale(pith_var_conv(y, c->out_w, c->out_bias, &same), 64);
    return pith_var_straight_through(pith_var_round(y), y);
}

/* To 0..255, modulo 256. */
static pith_var *wrap(pith_var *v) { return pith_var_sub(v, pith_var_scale(pith_var_floor(pith_var_scale(v, 1 / 256.0f)), 256)); }

static pith_var *swap_middle(pith_var *v)
{
    pith_var *part[] = {pith_var_slice(v, 1, 0, 1), pith_var_slice(v, 1, 2, 1), pith_var_slice(v, 1, 1, 1), pith_var_slice(v, 1, 3, 1)};
    return pith_var_concat(part, 4, 1);
}

/* One coupling, or its inverse: the second half given the first, then the other way round. */
static pith_var *couple(const nets *m, pith_var *v, size_t i, bool inverse)
{
    pith_var *half[] = {pith_var_slice(v, 1, 0, 2), pith_var_slice(v, 1, 2, 2)};
    size_t changed = i % 2 ? 0 : 1;
    pith_var *t = taken(&m->couplings[i], half[1 - changed]);
    half[changed] = wrap(inverse ? pith_var_add(half[changed], t) : pith_var_sub(half[changed], t));
    return pith_var_concat(half, 2, 1);
}

/* Images [n, 1, h, w] of 0..255 -> latents [n, 4, h / 2, w / 2] of 0..255. */
static pith_var *to_latents(const nets *m, pith_var *x)
{
    static const int axes[] = {0, 2, 4, 1, 3};
    if (!x) return NULL;
    size_t n = x->dims[0], h = x->dims[2] / 2, w = x->dims[3] / 2;
    pith_var *v = pith_var_reshape(pith_var_permute(pith_var_reshape(x, PITH_DIMS(n, h, 2, w, 2)), axes), PITH_DIMS(n, 4, h, w));
    for (size_t i = 0; i < COUPLINGS; i++) v = couple(m, i == TURN ? swap_middle(v) : v, i, false);
    return v;
}

static pith_var *from_latents(const nets *m, pith_var *v)
{
    static const int axes[] = {0, 3, 1, 4, 2};
    if (!v) return NULL;
    size_t n = v->dims[0], h = v->dims[2], w = v->dims[3];
    for (size_t i = COUPLINGS; i-- > 0;) {
        v = couple(m, v, i, true);
        if (i == TURN) v = swap_middle(v);
    }
    return pith_var_reshape(pith_var_permute(pith_var_reshape(v, PITH_DIMS(n, 2, 2, h, w)), axes), PITH_DIMS(n, 1, 2 * h, 2 * w));
}

static pith_var *bytes_of(nets *m, size_t n) { return pith_var_round(pith_var_affine(input(m, m->x, n), 127.5f, 127.5f)); }

static pith_var *flow_nats(nets *m, size_t n)
{
    pith_var *v = to_latents(m, bytes_of(m, n));
    pith_var *low = pith_var_at_least(pith_tape_fill(m->tape, 0.5f, 0, NULL), v), *high = pith_var_at_least(v, pith_tape_fill(m->tape, 254.5f, 0, NULL));
    pith_var *log_p = log_logistic(pith_var_affine(v, 2 / 255.0f, -1), m->mean, pith_var_clamp(m->log_scale, -7, 2), low, high);
    return pith_var_neg(pith_var_mean(log_p, PITH_ALL_AXES));
}

/* src [n, height, width] by way of the flow (or back) to dst, in batches that are the same both ways, so that a coupling gives the
 * same whole numbers. */
static pith_status pass_flow(nets *m, const uint8_t *src, size_t n_items, bool back, uint8_t *dst)
{
    for (size_t from = 0; from < n_items; from += TEST_BATCH) {
        size_t n = PITH_MIN((size_t)TEST_BATCH, n_items - from), count = n * n_pixels(m);
        PITH_TRY(pith_progress(m->run->ctx, back ? "images from latents" : "latents", from, n_items));
        for (size_t i = 0; i < count; i++) m->low[i] = src[from * n_pixels(m) + i];
        pith_tape_step(m->tape, from);
        pith_tape_record(m->tape, false);
        pith_var *y = back ? from_latents(m, pith_tape_input(m->tape, m->low, PITH_DIMS(n, 4, m->pixels->height / 2, m->pixels->width / 2))) : to_latents(m, input(m, m->low, n));
        PITH_TRY(pith_tape_status(m->tape));
        for (size_t i = 0; i < count; i++) dst[from * n_pixels(m) + i] = (uint8_t)y->data[i];
    }
    return PITH_OK;
}

/* The latents of all images, and whether those of the test images lead back to them. */
static pith_status make_latents(nets *m, uint8_t *train_to, uint8_t *test_to, pith_pixel_figures *f)
{
    const pith_pixels *p = m->pixels;
    size_t n_test = p->n_test * n_pixels(m);
    uint8_t *back = pith_alloc(m->run->ctx, n_test);
    pith_status status = back ? pass_flow(m, p->train, p->n_train, false, train_to) : PITH_E_MEMORY;
    double start = pith_now_s();
    if (status == PITH_OK) status = pass_flow(m, p->test, p->n_test, false, test_to);
    double middle = pith_now_s();
    if (status == PITH_OK) status = pass_flow(m, test_to, p->n_test, true, back);
    f->encode_s = (middle - start) / (double)p->n_test;
    f->decode_s = (pith_now_s() - middle) / (double)p->n_test;
    f->same = status == PITH_OK && !memcmp(back, p->test, n_test);
    pith_free(m->run->ctx, back);
    return status;
}

pith_status pith_pixel_flow(pith_run *run, const pith_pixels *pixels, size_t width, uint8_t **train_to, uint8_t **test_to, pith_pixel_figures *figures)
{
    pith_ctx *ctx = run->ctx;
    nets m = {.run = run, .pixels = pixels};
    *figures = (pith_pixel_figures){0};
    *train_to = *test_to = NULL;
    if (pixels->height % 2 || pixels->width % 2)
        return pith_fail(ctx, PITH_E_ARGUMENT, "a flow takes images with sides of even length, not %zu by %zu; leave its row out", pixels->height, pixels->width);
    pith_status status = nets_begin(&m, 0);
    if (status == PITH_OK && (!(*train_to = pith_array(ctx, pixels->n_train, n_pixels(&m))) || !(*test_to = pith_array(ctx, pixels->n_test, n_pixels(&m))))) status = PITH_E_MEMORY;
    if (status == PITH_OK) status = build_flow(&m, width);
    if (status == PITH_OK) status = train(&m, flow_nats, figures);
    if (status == PITH_OK) status = measure(&m, flow_nats, &figures->ideal);
    if (status == PITH_OK) status = make_latents(&m, *train_to, *test_to, figures);
    nets_free(&m);
    if (status != PITH_OK) {
        pith_free(ctx, *train_to);
        pith_free(ctx, *test_to);
        *train_to = *test_to = NULL;
    }
    return status;
}
