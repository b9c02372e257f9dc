/* simvq: vector quantizers in the middle of an autoencoder of images, each trained the same way, and how many of their
 * codes held-out images use.  arXiv:2411.02038. */
#include "recipe/train_card.h"

#include <math.h>
#include <stdlib.h>

#include "model/net.h"
#include "stage/quantize/vq.h"

typedef struct settings {
    pith_names runs;               /* rows: "simvq_8k" */
    uint64_t latent, images, held_out;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: a kind of quantizer and how many codes it has (1k is 1,024), simvq_8k"},
    {"latent", PITH_KEY_COUNT, offsetof(settings, latent), .required = true, .min = 1, .max = 1024, .help = "values of a place that become one code"},
    {"images", PITH_KEY_COUNT, offsetof(settings, images), .required = true, .min = 1, .max = 1e7, .help = "to train on, where the data has as many"},
    {"held_out", PITH_KEY_COUNT, offsetof(settings, held_out), .required = true, .min = 1, .max = 1e7, .help = "to measure on, where the data has as many"},
    {0},
};

/* Pixels in 0..1 are centred and scaled, so that the task's loss and the quantizer's are of one size. */
#define CENTRE 0.5f
#define SPREAD 0.25f

/* One row at work. */
typedef struct task {
    pith_run *run;
    const char *row;
    const pith_dataset *train, *test;
    pith_tape *tape;
    pith_net *net;
    pith_vq *vq;
    pith_loader *loader;
    pith_vq_kind kind;
    size_t n_codes;
} task;

static pith_loader_options loader_options(const task *t, bool training)
{
    pith_loader_options o = {.batch = t->run->card->train.batch, .seed = t->run->seed, .input = "image", .shuffle = training, .once = !training, .flip = training};
    for (int c = 0; c < 4; c++) o.mean[c] = CENTRE, o.std[c] = SPREAD;
    return o;
}

/* [n, latent, h, w] as rows of places [n h w, latent], and back to the shape of `like`. */
static pith_var *to_rows(pith_var *z)
{
    static const int axes[] = {0, 2, 3, 1};
    z = pith_var_permute(z, axes);
    return z ? pith_var_reshape(z, PITH_DIMS(z->dims[0] * z->dims[1] * z->dims[2], z->dims[3])) : NULL;
}

static pith_var *from_rows(pith_var *rows, const pith_var *like)
{
    static const int axes[] = {0, 3, 1, 2};
    return rows ? pith_var_permute(pith_var_reshape(rows, PITH_DIMS(like->dims[0], like->dims[2], like->dims[3], like->dims[1])), axes) : NULL;
}

static pith_var *images_of(const task *t, const pith_batch *b)
{
    const pith_field *f = pith_dataset_field(t->train, "image");
    return pith_tape_input(t->tape, b->x, PITH_DIMS(b->n, f->dims[0], f->dims[1], f->dims[2]));
}

/* The images as they come out, and what the quantizer said. */
static pith_var *through(const task *t, pith_var *x, pith_vq_result *r, pith_status *status)
{
    pith_var *z = pith_net_run(t->net, &(pith_net_input){.part = PITH_NET_ENCODE, .x = x});
    *status = pith_vq_apply(t->vq, to_rows(z), r);
    if (*status != PITH_OK) return NULL;
    return pith_net_run(t->net, &(pith_net_input){.part = PITH_NET_DECODE, .x = from_rows(r->q, z)});
}

/* ---- training --------------------------------------------------------------------------------- */

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    const task *t = user;
    (void)tape;
    pith_batch b;
    pith_vq_result r;
    at->status = pith_loader_batch(t->loader, at->step * at->n_parts + at->part, &b);
    if (at->status != PITH_OK) return NULL;
    pith_var *x = images_of(t, &b), *y = through(t, x, &r, &at->status);
    pith_var *sum = pith_train_term(at, "rec", pith_var_mse(y, x));
    return r.loss ? pith_var_add(sum, pith_train_term(at, "vq", r.loss)) : sum;
}

static pith_status changed(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape, (void)at;
    return pith_vq_update(((task *)user)->vq);
}

/* k-means begins from the encoder as it is, over four rows a code. */
static pith_status start_codes(const task *t)
{
    size_t n = 0, want = 4 * t->n_codes, latent = pith_vq_dim(t->vq);
    float *z = pith_array(t->run->ctx, want, latent * sizeof *z);
    pith_status status = z ? PITH_OK : PITH_E_MEMORY;
    for (uint64_t step = 0; n < want && status == PITH_OK; step++) {
        pith_batch b;
        PITH_GOTO(pith_loader_batch(t->loader, step, &b), done);
        pith_tape_step(t->tape, step);
        pith_tape_record(t->tape, false);
        pith_var *rows = to_rows(pith_net_run(t->net, &(pith_net_input){.part = PITH_NET_ENCODE, .x = images_of(t, &b)}));
        PITH_GOTO(pith_tape_status(t->tape), done);
        size_t take = PITH_MIN(want - n, rows->dims[0]);
        memcpy(z + n * latent, rows->data, take * latent * sizeof *z);
        n += take;
    }
    if (status == PITH_OK) {
        pith_tape_step(t->tape, 0);
        status = pith_vq_start(t->vq, z, n);
    }
done:
    pith_free(t->run->ctx, z);
    return status;
}

static pith_status train(task *t)
{
    pith_loader_options lo = loader_options(t, true);
    PITH_TRY(pith_loader_new(t->run->ctx, t->train, &lo, &t->loader));
    if (t->kind == PITH_VQ_RESEED) PITH_TRY(start_codes(t));
    pith_train_options o = pith_run_train_options(t->run);
    pith_train_role role = pith_run_train_role(t->run);
    o.item_name = "images";
    o.user = t;
    role.loss = loss;
    role.changed = changed;
    pith_trainer *trainer;
    PITH_TRY(pith_trainer_new(t->tape, &o, &role, 1, &trainer));
    pith_status status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    pith_loader_free(t->loader);
    t->loader = NULL;
    return status;
}

/* ---- measuring -------------------------------------------------------------------------------- */

/* Whether a decoder that was sent the seed and W alone makes the same bytes. */
static pith_status check_seed(const task *t, const pith_vq_result *r, bool *same)
{
    size_t n = r->q->dims[0], dim = r->q->dims[1];
    float *q = pith_array(t->run->ctx, n, dim * sizeof *q);
    if (!q) return PITH_E_MEMORY;
    pith_status status = pith_vq_decode_linear(t->run->ctx, t->run->seed, t->n_codes, dim, pith_vq_weight(t->vq), r->code, n, q);
    if (status == PITH_OK && memcmp(q, r->q->data, n * dim * sizeof *q)) *same = false;
    pith_free(t->run->ctx, q);
    return status;
}

static pith_status report(const task *t, const uint64_t *count, double error, double n_pixels, bool same)
{
    double n = 0, used = 0, bits = 0;
    for (size_t i = 0; i < t->n_codes; i++) n += (double)count[i];
    for (size_t i = 0; i < t->n_codes; i++) {
        if (!count[i]) continue;
        double p = (double)count[i] / n;
        used++;
        bits -= p * log2(p);
    }
    PITH_TRY(pith_run_row(t->run, t->row, "mse", error * SPREAD * SPREAD / n_pixels));
    PITH_TRY(pith_run_row(t->run, t->row, "used", used / (double)t->n_codes));
    PITH_TRY(pith_run_row(t->run, t->row, "perplexity", exp2(bits)));
    PITH_TRY(pith_run_row(t->run, t->row, "bits", bits));
    PITH_TRY(pith_run_row(t->run, t->row, "kib", (double)pith_vq_bytes(t->vq) / 1024));
    return t->kind == PITH_VQ_LINEAR ? pith_run_row(t->run, t->row, "same", same) : PITH_OK;
}

static pith_status measure(task *t)
{
    pith_ctx *ctx = t->run->ctx;
    pith_loader_options lo = loader_options(t, false);
    uint64_t *count = pith_calloc(ctx, t->n_codes, sizeof *count);
    pith_status status = count ? pith_loader_new(ctx, t->test, &lo, &t->loader) : PITH_E_MEMORY;
    double error = 0, n_pixels = 0;
    bool same = true;
    for (uint64_t step = 0; status == PITH_OK && step < pith_loader_steps(t->loader); step++) {
        pith_batch b;
        pith_vq_result r;
        PITH_GOTO(pith_progress(ctx, t->row, step, pith_loader_steps(t->loader)), done);
        PITH_GOTO(pith_loader_batch(t->loader, step, &b), done);
        pith_tape_step(t->tape, step);
        pith_tape_record(t->tape, false);
        pith_var *x = images_of(t, &b), *y = through(t, x, &r, &status), *mse = pith_var_mse(y, x);
        PITH_GOTO(status == PITH_OK ? pith_tape_status(t->tape) : status, done);
        error += (double)mse->data[0] * (double)x->count;
        n_pixels += (double)x->count;
        for (size_t i = 0; i < r.q->dims[0]; i++) count[r.code[i]]++;
        if (step == 0 && t->kind == PITH_VQ_LINEAR) PITH_GOTO(check_seed(t, &r, &same), done);
    }
    if (status == PITH_OK) status = report(t, count, error, n_pixels, same);
done:
    pith_free(ctx, count);
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static pith_status parse_row(task *t)
{
    const char *line = strrchr(t->row, '_');
    char *end = NULL;
    unsigned long n = line ? strtoul(line + 1, &end, 10) : 0;
    if (n && *end == 'k') n *= 1024, end++;
    if (!n || *end || n > 1 << 20 || !pith_vq_kind_find(t->row, (size_t)(line - t->row), &t->kind))
        return pith_fail(t->run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is no kind of quantizer with its number of codes; expected plain, reseed, ema, project, simvq, frozen, fsq or lfq, '_', and 1k or 8k",
                         t->run->card->file, t->row);
    t->n_codes = n;
    return PITH_OK;
}

/* What all rows share. */
typedef struct study {
    pith_run *run;
    pith_dataset *train, *test;
} study;

static pith_status run_row(void *user, const char *row)
{
    const study *st = user;
    pith_run *run = st->run;
    const settings *s = run->card->settings;
    task t = {.run = run, .row = row, .train = st->train, .test = st->test};
    char net[64];
    snprintf(net, sizeof net, "{\"latent\": %llu}", (unsigned long long)s->latent);
    PITH_TRY(parse_row(&t));
    PITH_TRY(pith_tape_new(run->ctx, run->seed, &t.tape));
    pith_vq_options o = {.kind = t.kind, .n_codes = t.n_codes, .dim = s->latent, .seed = run->seed};
    pith_status status;
    PITH_GOTO(pith_net_new(t.tape, "ae", net, run->seed, &t.net), done);
    PITH_GOTO(pith_vq_new(t.tape, &o, &t.vq), done);
    t.n_codes = pith_vq_n_codes(t.vq);
    PITH_GOTO(train(&t), done);
    PITH_GOTO(measure(&t), done);
done:
    pith_loader_free(t.loader);
    pith_vq_free(t.vq);
    pith_net_free(t.net);
    pith_tape_free(t.tape);
    return status;
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    study st = {.run = run};
    pith_status status = pith_run_data(run, &run->card->data, "train", &(pith_dataset_options){.n = s->images}, &st.train);
    if (status == PITH_OK) status = pith_run_data(run, &run->card->data, "test", &(pith_dataset_options){.n = s->held_out}, &st.test);
    if (status == PITH_OK) status = pith_run_each(run, &s->runs, run_row, &st);
    pith_dataset_free(st.train);
    pith_dataset_free(st.test);
    return status;
}

const pith_procedure pith_procedure_simvq = {"simvq", keys, sizeof(settings), run};
