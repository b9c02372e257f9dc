/* econtrol: error feedback with a dial, beside its limits and rivals.  arXiv:2311.05645.
 *
 * On least squares whose optimum is known worker i has f_i(x) = 1/2 |A_i x - b_i|^2 with A_i [2 D, D] normal of variance 1 / (2 D), and b_i such that
 * grad f_i(x*) = zeta z_i, where the z_i add up to 0 and have a mean square length of 1; so x* is the optimum of the mean,
 * and zeta says how different the workers are.  Gradients have noise of mean square length sigma^2.  All start from 0
 * and |x*| = 1.  What is measured is |x - x*|^2.
 *
 * A row is <method>_<problem>: "econtrol_calm" without noise, "ec_differ" with workers that differ more, "ef21_noisy64"
 * with noise and 64 workers.  On images that are shared out by label (grads/problems.h) it is <method>_logreg, and
 * <method>_cnn<n> with the n-th share of top-k.  Each method takes the step size, and econtrol the eta, that is best for it
 * on the same grids: by the distance, or by the loss on what it is trained on. */
#include <math.h>
#include <stdlib.h>

#include "recipe/grads/problems.h"

typedef struct settings {
    pith_names runs;
    uint64_t dims, steps, noisy_steps;
    double share, zeta, zeta_more, sigma;
    pith_numbers rates, etas;
    pith_problem_settings logreg, cnn;
    pith_numbers logreg_rates, cnn_rates, image_etas, cnn_shares;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: a method (dense, none, ec, ef21, econtrol, ideal, batch, eta<n>) and a problem (calm, differ, noisy4, noisy64), or of images a method (dense, none, ec, ef21, econtrol) and logreg or cnn<n>"},
    {"dims", PITH_KEY_COUNT, offsetof(settings, dims), .required = true, .min = 10, .max = 2000, .help = "D"},
    {"steps", PITH_KEY_STEPS, offsetof(settings, steps), .required = true, .min = 10, .max = 1e7, .help = "without noise"},
    {"noisy_steps", PITH_KEY_STEPS, offsetof(settings, noisy_steps), .required = true, .min = 10, .max = 1e7, .help = "with noise; the distance is the mean over the last quarter"},
    {"share", PITH_KEY_NUMBER, offsetof(settings, share), .required = true, .min = 0.001, .max = 1, .help = "of values that top-k sends"},
    {"zeta", PITH_KEY_NUMBER, offsetof(settings, zeta), .required = true, .min = 0, .max = 1000, .help = "how different workers are"},
    {"zeta_more", PITH_KEY_NUMBER, offsetof(settings, zeta_more), .required = true, .min = 0, .max = 1000, .help = "the same, of 'differ'"},
    {"sigma", PITH_KEY_NUMBER, offsetof(settings, sigma), .required = true, .min = 0, .max = 1000, .help = "noise of gradients, of 'noisy'"},
    {"rates", PITH_KEY_NUMBERS, offsetof(settings, rates), .required = true, .min = 1e-6, .max = 100, .help = "step sizes that every method tries"},
    {"etas", PITH_KEY_NUMBERS, offsetof(settings, etas), .required = true, .min = 0, .max = 10, .help = "what econtrol tries; eta<n> is the n-th of them, from 1"},
    {"logreg", PITH_KEY_GROUP, offsetof(settings, logreg), .fields = pith_problem_keys, .help = "logistic regression on images"},
    {"cnn", PITH_KEY_GROUP, offsetof(settings, cnn), .fields = pith_problem_keys, .help = "a residual network on images"},
    {"logreg_rates", PITH_KEY_NUMBERS, offsetof(settings, logreg_rates), .min = 1e-6, .max = 100, .help = "step sizes that every method tries there"},
    {"cnn_rates", PITH_KEY_NUMBERS, offsetof(settings, cnn_rates), .min = 1e-6, .max = 100, .help = "the same of the network"},
    {"image_etas", PITH_KEY_NUMBERS, offsetof(settings, image_etas), .min = 0, .max = 10, .help = "what econtrol tries on images"},
    {"cnn_shares", PITH_KEY_NUMBERS, offsetof(settings, cnn_shares), .min = 1e-5, .max = 1, .help = "of values that top-k sends of the network; cnn<n> has the n-th, from 1"},
    {0},
};

/* ---- the problem ------------------------------------------------------------------------------ */

typedef struct problem {
    pith_ctx *ctx;
    size_t n, d;                   /* workers, D */
    uint64_t seed;
    double sigma;
    float *h, *c, *at_best;        /* [n, d, d] A_i' A_i; [n, d] A_i' b_i; [n, d] grad f_i(x*) */
    double *best;                  /* [d] x* */
} problem;

static void problem_free(problem *p)
{
    pith_free(p->ctx, p->h);
    pith_free(p->ctx, p->c);
    pith_free(p->ctx, p->at_best);
    pith_free(p->ctx, p->best);
}

/* A' A of worker w, [d, d]; a is scratch [2 d, d]. */
static void make_hessian(const problem *p, size_t w, float *a)
{
    size_t d = p->d, m = 2 * d;
    pith_rng rng = {p->seed, 1000 + w, 0};
    for (size_t i = 0; i < m * d; i++) a[i] = pith_rng_normal(&rng) / sqrtf((float)m);
    float *h = p->h + w * d * d;
    memset(h, 0, d * d * sizeof *h);
    for (size_t r = 0; r < m; r++)
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < d; j++) h[i * d + j] += a[r * d + i] * a[r * d + j];
}

/* z_i: normal, less their mean, scaled. */
static void make_differences(const problem *p, double zeta)
{
    size_t d = p->d, n = p->n;
    double square = 0;
    for (size_t w = 0; w < n; w++) {
        pith_rng rng = {p->seed, 2000000 + w, 0};
        for (size_t i = 0; i < d; i++) p->at_best[w * d + i] = pith_rng_normal(&rng);
    }
    for (size_t i = 0; i < d; i++) {
        double mean = 0;
        for (size_t w = 0; w < n; w++) mean += (double)p->at_best[w * d + i] / (double)n;
        for (size_t w = 0; w < n; w++) p->at_best[w * d + i] -= (float)mean;
        for (size_t w = 0; w < n; w++) square += (double)p->at_best[w * d + i] * (double)p->at_best[w * d + i] / (double)n;
    }
    float scale = square > 0 ? (float)(zeta / sqrt(square)) : 0;
    for (size_t i = 0; i < n * d; i++) p->at_best[i] *= scale;
}

static pith_status problem_make(pith_ctx *ctx, size_t n, size_t d, uint64_t seed, double zeta, double sigma, problem *p)
{
    *p = (problem){.ctx = ctx, .n = n, .d = d, .seed = seed, .sigma = sigma};
    float *a = pith_array(ctx, 2 * d, d * sizeof *a);
    p->h = pith_array(ctx, n * d, d * sizeof *p->h);
    p->c = pith_array(ctx, n, d * sizeof *p->c);
    p->at_best = pith_array(ctx, n, d * sizeof *p->at_best);
    p->best = pith_array(ctx, d, sizeof *p->best);
    bool ok = a && p->h && p->c && p->at_best && p->best;
    pith_rng rng = {seed, 1, 0};
    double square = 0;
    for (size_t i = 0; i < d && ok; i++) square += pow(p->best[i] = (double)pith_rng_normal(&rng), 2);
    for (size_t i = 0; i < d && ok; i++) p->best[i] /= sqrt(square);
    if (ok) make_differences(p, zeta);
    for (size_t w = 0; w < n && ok; w++) {
        make_hessian(p, w, a);
        for (size_t i = 0; i < d; i++) { /* c = H x* - grad f(x*) */
            double sum = -(double)p->at_best[w * d + i];
            for (size_t j = 0; j < d; j++) sum += (double)p->h[(w * d + i) * d + j] * p->best[j];
            p->c[w * d + i] = (float)sum;
        }
    }
    pith_free(ctx, a);
    if (ok) return PITH_OK;
    problem_free(p);
    return PITH_E_MEMORY;
}

/* A gradient of worker w at x, as the mean of `batch` noisy ones. */
static void gradient(const problem *p, size_t w, const float *x, uint64_t step, double batch, float *g)
{
    size_t d = p->d;
    pith_rng rng = {p->seed + 7, (uint64_t)w << 40 | step, 0};
    float noise = (float)(p->sigma / sqrt((double)d * batch));
    for (size_t i = 0; i < d; i++) {
        const float *row = p->h + (w * d + i) * d;
        float part[8] = {0}, sum = 0;
        size_t j = 0;
        for (; j + 8 <= d; j += 8)
            for (size_t k = 0; k < 8; k++) part[k] += row[j + k] * x[j + k];
        for (; j < d; j++) sum += row[j] * x[j];
        for (size_t k = 0; k < 8; k++) sum += part[k];
        g[i] = sum - p->c[w * d + i] + (noise > 0 ? noise * pith_rng_normal(&rng) : 0);
    }
}

/* ---- one way to descend ----------------------------------------------------------------------- */

typedef struct method {
    pith_compressor compressor;
    pith_feedback feedback;
    double eta, batch;
    bool ideal;                    /* gradients less those at the optimum are compressed, which nobody knows in practice */
    bool plain;                    /* no channel: the mean of gradients, to check the others against */
} method;

typedef struct outcome {
    double distance, bytes, seconds; /* of the end or the last quarter's mean; a worker's, all steps; on a slow link */
    uint64_t hash;                 /* of the last x */
    double x0;                     /* its first value */
} outcome;

typedef struct descent {
    const problem *p;
    const method *m;
    pith_group *group;
    pith_channel *channel;
    float *g, *mean, *x;           /* [n, d], [d], [d] */
    const float **list;            /* [n] */
    double *at;                    /* [d] x in double */
} descent;

static double distance(const descent *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->p->d; i++) sum += (s->at[i] - s->p->best[i]) * (s->at[i] - s->p->best[i]);
    return sum;
}

static pith_status one_step(descent *s, uint64_t step, double rate)
{
    size_t d = s->p->d, n = s->p->n;
    for (size_t i = 0; i < d; i++) s->x[i] = (float)s->at[i];
    for (size_t w = 0; w < n; w++) {
        gradient(s->p, w, s->x, step, s->m->batch, s->g + w * d);
        for (size_t i = 0; i < d && s->m->ideal; i++) s->g[w * d + i] -= s->p->at_best[w * d + i];
    }
    if (s->m->plain) {
        for (size_t i = 0; i < d; i++) {
            float sum = 0;
            for (size_t w = 0; w < n; w++) sum += s->g[w * d + i];
            s->mean[i] = sum / (float)n;
        }
    } else {
        PITH_TRY(pith_channel_step(s->channel, step, s->list, s->mean));
    }
    for (size_t i = 0; i < d; i++) s->at[i] -= rate * (double)s->mean[i];
    return PITH_OK;
}

/* Far away is as good as infinitely far, and finite. */
#define FAR 1e12

static pith_status descend(descent *s, uint64_t n_steps, double rate, outcome *out)
{
    double sum = 0, last = distance(s);
    uint64_t n = 0;
    for (uint64_t step = 0; step < n_steps && last < FAR; step++) {
        PITH_TRY(one_step(s, step, rate));
        last = distance(s);
        if (step >= n_steps - PITH_MAX(n_steps / 4, 1)) sum += last, n++;
    }
    const pith_traffic *sent = pith_group_traffic(s->group);
    *out = (outcome){.distance = last < FAR ? s->p->sigma > 0 ? sum / (double)n : last : FAR, .bytes = pith_traffic_sent(sent, s->p->n), .seconds = pith_link_seconds(&pith_problem_link, s->p->n, sent),
                     .hash = pith_hash(s->at, s->p->d * sizeof *s->at), .x0 = s->at[0]};
    return PITH_OK;
}

static pith_status try(const problem *p, const method *m, uint64_t n_steps, double rate, outcome *out)
{
    pith_ctx *ctx = p->ctx;
    descent s = {.p = p, .m = m};
    pith_channel_options o = {.compressor = m->compressor, .feedback = m->feedback, .eta = (float)m->eta, .seed = p->seed};
    s.g = pith_array(ctx, p->n, p->d * sizeof *s.g);
    s.mean = pith_array(ctx, p->d, sizeof *s.mean);
    s.x = pith_array(ctx, p->d, sizeof *s.x);
    s.list = pith_array(ctx, p->n, sizeof *s.list);
    s.at = pith_calloc(ctx, p->d, sizeof *s.at);
    pith_status status = s.g && s.mean && s.x && s.list && s.at ? PITH_OK : PITH_E_MEMORY;
    for (size_t w = 0; w < p->n && status == PITH_OK; w++) s.list[w] = s.g + w * p->d;
    if (status == PITH_OK) status = pith_group_new(ctx, p->n, &s.group);
    if (status == PITH_OK) status = pith_channel_new(s.group, p->d, 1, &o, &s.channel);
    if (status == PITH_OK) status = descend(&s, n_steps, rate, out);
    pith_channel_free(s.channel);
    pith_group_free(s.group);
    pith_free(ctx, s.g);
    pith_free(ctx, s.mean);
    pith_free(ctx, s.x);
    pith_free(ctx, s.list);
    pith_free(ctx, s.at);
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

typedef struct tuned {
    outcome best;
    double rate, eta;
} tuned;

/* The best of all step sizes, and of econtrol's etas. */
static pith_status tune(const pith_run *run, const problem *p, method m, bool all_etas, uint64_t n_steps, tuned *t)
{
    const settings *s = run->card->settings;
    t->best.distance = INFINITY;
    for (size_t e = 0; e < (all_etas ? s->etas.n : 1); e++)
        for (size_t r = 0; r < s->rates.n; r++) {
            outcome now;
            if (all_etas) m.eta = s->etas.items[e];
            PITH_TRY(pith_progress(run->ctx, "descending", e * s->rates.n + r, s->etas.n * s->rates.n));
            PITH_TRY(try(p, &m, n_steps, s->rates.items[r], &now));
            if (now.distance < t->best.distance) *t = (tuned){now, s->rates.items[r], m.eta};
        }
    return PITH_OK;
}

static pith_status unknown(const pith_run *run, const char *name)
{
    return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is no method (dense, none, ec, ef21, econtrol, ideal, batch, eta1 ..) with a problem (calm, differ, noisy4, noisy64; but for the last three: logreg, cnn1 ..)", run->card->file, name);
}

static pith_status find_method(const pith_run *run, const char *name, size_t len, method *m, bool *all_etas)
{
    static const struct {
        const char *name;
        pith_feedback feedback;
    } known[] = {{"dense", PITH_FEEDBACK_NONE}, {"none", PITH_FEEDBACK_NONE}, {"ec", PITH_FEEDBACK_EF}, {"ef21", PITH_FEEDBACK_EF21}, {"econtrol", PITH_FEEDBACK_ECONTROL},
                 {"ideal", PITH_FEEDBACK_EF}, {"batch", PITH_FEEDBACK_EF21}};
    const settings *s = run->card->settings;
    *m = (method){.compressor = {PITH_COMPRESS_TOP_K, s->share}, .batch = 1};
    *all_etas = len == strlen("econtrol") && !strncmp(name, "econtrol", len);
    if (len > 3 && !strncmp(name, "eta", 3)) {
        size_t i = (size_t)atoi(name + 3);
        if (i < 1 || i > s->etas.n) return unknown(run, name);
        m->feedback = PITH_FEEDBACK_ECONTROL;
        m->eta = s->etas.items[i - 1];
        return PITH_OK;
    }
    for (size_t i = 0; i < PITH_COUNT(known); i++) {
        if (strlen(known[i].name) != len || strncmp(known[i].name, name, len)) continue;
        m->feedback = known[i].feedback;
        m->ideal = !strcmp(known[i].name, "ideal");
        if (!strcmp(known[i].name, "batch")) m->batch = 16;
        if (!strcmp(known[i].name, "dense")) m->compressor.kind = PITH_COMPRESS_DENSE;
        return PITH_OK;
    }
    return unknown(run, name);
}

/* ---- images ----------------------------------------------------------------------------------- */

typedef struct images {
    pith_problem *logreg, *cnn;    /* made when a row first needs them */
} images;

static pith_status put_images(pith_run *run, const char *name, const pith_problem_settings *set, const pith_way_result *r, double rate, double eta)
{
    const struct {
        const char *measure;
        double value;
    } values[] = {{"train_loss", r->train_loss}, {"loss", r->loss}, {"acc", r->accuracy}, {"rate", rate}, {"eta", eta}, {"kilobytes", r->bytes / 1000}, {"link_s", r->link_s},
                  {"step_ms", 1000 * (r->compute_s / (double)set->n_workers + r->code_s + r->link_s) / (double)set->steps}};
    for (size_t i = 0; i < PITH_COUNT(values); i++) PITH_TRY(pith_run_row(run, name, values[i].measure, values[i].value));
    return PITH_OK;
}

/* The way of the least loss on what is trained on. */
static pith_status tune_images(pith_run *run, const char *name, pith_problem *p, const pith_problem_settings *set, const pith_numbers *rates, const pith_numbers *etas, pith_way way)
{
    pith_way_result best = {.train_loss = INFINITY}, now;
    double rate = 0, eta = 0;
    for (size_t e = 0; e < etas->n; e++)
        for (size_t r = 0; r < rates->n; r++) {
            way.channel.eta = (float)etas->items[e];
            way.rate = rates->items[r];
            PITH_TRY(pith_problem_train(p, &way, &now));
            pith_log(run->ctx, PITH_LOG_INFO, "%s: rate %g, eta %g: loss %.4f, accuracy %.4f", name, way.rate, etas->items[e], now.train_loss, now.accuracy);
            if (now.train_loss >= best.train_loss) continue;
            best = now;
            rate = way.rate;
            eta = etas->items[e];
        }
    return put_images(run, name, set, &best, rate, eta);
}

static pith_status run_images(pith_run *run, images *at, const char *name, const char *kind)
{
    const settings *s = run->card->settings;
    bool logreg = !strcmp(kind, "logreg"), all_etas;
    size_t i_share = logreg ? 1 : (size_t)atoi(kind + strlen("cnn"));
    const pith_problem_settings *set = logreg ? &s->logreg : &s->cnn;
    const pith_numbers *rates = logreg ? &s->logreg_rates : &s->cnn_rates, none = {1, (double[]){0}};
    pith_problem **p = logreg ? &at->logreg : &at->cnn;
    method m;
    PITH_TRY(find_method(run, name, (size_t)(kind - 1 - name), &m, &all_etas));
    if (m.ideal || m.batch > 1 || m.eta > 0 || i_share < 1 || (!logreg && i_share > s->cnn_shares.n)) return unknown(run, name);
    if (set->n_workers == 0 || rates->n == 0 || (all_etas && s->image_etas.n == 0)) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: the run %s needs settings of its problem, rates and image_etas", run->card->file, name);
    if (!logreg && m.compressor.kind == PITH_COMPRESS_TOP_K) m.compressor.param = s->cnn_shares.items[i_share - 1];
    if (!*p) PITH_TRY(pith_problem_new(run, logreg ? PITH_PROBLEM_LOGREG : PITH_PROBLEM_CNN, set, p));
    return tune_images(run, name, *p, set, rates, all_etas ? &s->image_etas : &none, (pith_way){.channel = {.compressor = m.compressor, .feedback = m.feedback}});
}

/* ---- least squares ---------------------------------------------------------------------------- */

static pith_status run_squares(pith_run *run, const char *name)
{
    const settings *s = run->card->settings;
    const char *under = strchr(name, '_'), *kind = under ? under + 1 : "";
    bool noisy = !strncmp(kind, "noisy", 5), differ = !strcmp(kind, "differ"), all_etas;
    method m;
    if (!under || (!noisy && !differ && strcmp(kind, "calm")) || (noisy && strcmp(kind, "noisy4") && strcmp(kind, "noisy64"))) return unknown(run, name);
    PITH_TRY(find_method(run, name, (size_t)(under - name), &m, &all_etas));
    problem p;
    tuned t = {0};
    PITH_TRY(problem_make(run->ctx, noisy ? (size_t)atoi(kind + 5) : 4, s->dims, run->seed, differ ? s->zeta_more : s->zeta, noisy ? s->sigma : 0, &p));
    pith_status status = tune(run, &p, m, all_etas, noisy ? s->noisy_steps : s->steps, &t);
    problem_free(&p);
    if (status == PITH_OK) status = pith_run_row(run, name, "distance", t.best.distance);
    if (status == PITH_OK) status = pith_run_row(run, name, "rate", t.rate);
    if (status == PITH_OK) status = pith_run_row(run, name, "eta", t.eta);
    if (status == PITH_OK) status = pith_run_row(run, name, "kilobytes", t.best.bytes / 1000);
    return status == PITH_OK ? pith_run_row(run, name, "link_s", t.best.seconds) : status;
}

/* eta = 0 is ef21, and with nothing compressed every step is that of plain descent. */
static pith_status run_identities(pith_run *run)
{
    const settings *s = run->card->settings;
    problem p;
    outcome a, b, c, d;
    double rate = s->rates.items[0] / 4;
    method top = {.compressor = {PITH_COMPRESS_TOP_K, s->share}, .batch = 1, .feedback = PITH_FEEDBACK_ECONTROL}, ef21 = top, whole = top, plain = {.plain = true, .batch = 1};
    ef21.feedback = PITH_FEEDBACK_EF21;
    whole.compressor.kind = PITH_COMPRESS_DENSE;
    whole.eta = 0.1;
    PITH_TRY(problem_make(run->ctx, 4, s->dims, run->seed, s->zeta, s->sigma, &p));
    pith_status status = try(&p, &top, 100, rate, &a);
    if (status == PITH_OK) status = try(&p, &ef21, 100, rate, &b);
    if (status == PITH_OK) status = try(&p, &whole, 100, rate, &c);
    if (status == PITH_OK) status = try(&p, &plain, 100, rate, &d);
    problem_free(&p);
    if (status == PITH_OK) status = pith_run_row(run, "identities", "same_as_ef21", a.hash == b.hash);
    return status == PITH_OK ? pith_run_row(run, "identities", "off_sgd", fabs(c.x0 - d.x0)) : status;
}

/* What all rows share. */
typedef struct study {
    pith_run *run;
    images at;
} study;

static pith_status run_row(void *user, const char *name)
{
    study *st = user;
    const char *under = strchr(name, '_'), *kind = under ? under + 1 : "";
    if (!strcmp(name, "identities")) return run_identities(st->run);
    bool trained = !strcmp(kind, "logreg") || !strncmp(kind, "cnn", 3);
    return trained ? run_images(st->run, &st->at, name, kind) : run_squares(st->run, name);
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    if (!s->rates.n || !s->etas.n) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: rates and etas each need a number", run->card->file);
    study st = {.run = run};
    pith_status status = pith_run_each(run, &s->runs, run_row, &st);
    pith_problem_free(st.at.logreg);
    pith_problem_free(st.at.cnn);
    return status;
}

const pith_procedure pith_procedure_econtrol = {"econtrol", keys, sizeof(settings), run};
