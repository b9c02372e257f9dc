/* l-greco: each layer's rank, bits or share chosen anew while training goes on, beside one for all.  arXiv:2210.17357.
 *
 * A row is <way>_<compressor>_<problem> ("lgreco_power_cnn"), or dense_<problem>.  Ways:
 *   uniform    the card's parameter for all layers
 *   lgreco     least bytes at the error of that
 *   equal      one parameter for all layers, which sends as many bytes as lgreco did, whose row comes before; ranks and bits are
 *              whole, and two of them take turns by the interval
 *   accordion  half of the parameter for layers whose gradient's norm is calm (stream/grads/adapt.h)
 *   both       L-GreCo with the errors of that
 *   greedy, random   not trained: bytes that these allocators find for the same tables as lgreco, whose row comes before
 * All but dense have classic error feedback, and send the first interval whole. */
#include <math.h>

#include "recipe/grads/problems.h"
#include "stream/grads/adapt.h"

typedef struct settings {
    pith_names runs;
    double rank, bits, share, alpha, change;
    uint64_t interval, observed, buckets;
    pith_problem_settings cnn, lm;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: dense_cnn, or a way (uniform, lgreco, equal, accordion, both, greedy, random), a compressor (power, qsgd, topk) and a problem (cnn, lm)"},
    {"rank", PITH_KEY_NUMBER, offsetof(settings, rank), .required = true, .min = 1, .max = 64, .help = "of PowerSGD, safe for all layers"},
    {"bits", PITH_KEY_NUMBER, offsetof(settings, bits), .required = true, .min = 2, .max = 8, .help = "the same of QSGD"},
    {"share", PITH_KEY_NUMBER, offsetof(settings, share), .required = true, .min = 1e-5, .max = 0.5, .help = "the same of top-k: of values that are sent"},
    {"alpha", PITH_KEY_NUMBER, offsetof(settings, alpha), .required = true, .min = 0.01, .max = 100, .help = "errors allowed, as a share of those of one parameter for all"},
    {"change", PITH_KEY_NUMBER, offsetof(settings, change), .required = true, .min = 0, .max = 100, .help = "of a gradient's norm that makes a phase critical to Accordion"},
    {"interval", PITH_KEY_STEPS, offsetof(settings, interval), .required = true, .min = 1, .max = 1e9, .help = "steps between two choices"},
    {"observed", PITH_KEY_COUNT, offsetof(settings, observed), .required = true, .min = 1, .max = 1e6, .help = "steps before a choice whose gradients are averaged for it"},
    {"buckets", PITH_KEY_COUNT, offsetof(settings, buckets), .required = true, .min = 10, .max = 1e6, .help = "of errors, in the dynamic programme"},
    {"cnn", PITH_KEY_GROUP, offsetof(settings, cnn), .fields = pith_problem_keys, .help = "a residual network on images"},
    {"lm", PITH_KEY_GROUP, offsetof(settings, lm), .fields = pith_problem_keys, .help = "a language model"},
    {0},
};

typedef enum way_kind { DENSE, UNIFORM, LGRECO, EQUAL, ACCORDION, BOTH, GREEDY, RANDOM, N_WAYS } way_kind;
static const char *const way_names[N_WAYS] = {"dense", "uniform", "lgreco", "equal", "accordion", "both", "greedy", "random"};
enum { N_COMPRESSORS = 3, N_PROBLEMS = 2 };
static const char *const compressor_names[N_COMPRESSORS] = {"power", "qsgd", "topk"}, *const problem_names[N_PROBLEMS] = {"cnn", "lm"};

/* What lgreco found, for the rows that come after it. */
typedef struct found {
    bool there, diverged;
    double bytes;                  /* measured, of a worker and step */
    double planned, greedy, random; /* the same by the tables, a mean over the choices */
} found;

typedef struct work {
    pith_run *run;
    const settings *s;
    pith_problem *problems[N_PROBLEMS];
    found found[N_PROBLEMS][N_COMPRESSORS];
} work;

/* One row at work. */
typedef struct row {
    work *w;
    const char *name;
    way_kind way;
    int compressor, problem;       /* compressor -1: none */
    double param;                  /* usual */
    double left, sum_params;       /* of equal: bytes that were not sent, of a step; its parameters */
    pith_adapt *adapt;
    double whole_bytes;            /* a worker sent until compression began */
    pith_traffic whole;            /* the same, as it went */
    double link_s;                 /* of messages since */
    double plain;             /* by the tables, bytes of a step of what is never compressed */
    uint64_t n_choices;
    pith_adapt_report sum;         /* of sizes and changes, the first choice's changes left out */
    double worst;                  /* largest error of a choice over its budget */
    double began, search_s, table_s, interval_s; /* seconds of the intervals before choices */
} row;

/* ---- while it trains -------------------------------------------------------------------------- */

static double sent(const pith_exchange *x)
{
    const pith_group *group = pith_exchange_group(x);
    return pith_traffic_sent(pith_group_traffic(group), pith_group_size(group));
}

/* One parameter for all layers for the next interval, so that all intervals together send lgreco's bytes each: the largest
 * whole one for which what is left suffices, or the share. */
static double equal_param(row *r, const pith_exchange *x)
{
    double usual = r->param, least = r->compressor == 1 ? 2 : 1, target = r->w->found[r->problem][r->compressor].planned, p = least;
    r->left += target;
    if (r->compressor == 2) {
        double low = usual / 4, high = PITH_MIN(2 * usual, 1);
        for (int i = 0; i < 40; i++) {
            p = (low + high) / 2;
            if (pith_exchange_bytes(x, p) < target) low = p;
            else high = p;
        }
    }
    while (r->compressor != 2 && p < 2 * usual && pith_exchange_bytes(x, p + 1) <= r->left) p++;
    r->left -= pith_exchange_bytes(x, p);
    return p;
}

static pith_status tune_all(pith_exchange *x, double param)
{
    size_t n;
    const pith_layer *layers = pith_exchange_layers(x, &n);
    for (size_t i = 0; i < n; i++)
        if (layers[i].compressed) PITH_TRY(pith_exchange_tune(x, i, param));
    return PITH_OK;
}

static pith_status begin(row *r, pith_exchange *x)
{
    const settings *s = r->w->s;
    bool accordion = r->way == ACCORDION || r->way == BOTH;
    r->began = pith_now_s();
    pith_exchange_send_whole(x, true);
    if (r->way != LGRECO && !accordion) return PITH_OK;
    double strict = r->compressor == 2 ? r->param / 2 : PITH_MAX(floor(r->param / 2), r->compressor == 1 ? 2.0 : 1.0);
    pith_adapt_options o = {.usual = r->param, .strict = accordion ? strict : 0, .change = s->change, .spread = r->way != ACCORDION, .alpha = s->alpha, .n_buckets = s->buckets, .seed = r->w->run->seed};
    return pith_adapt_new(x, &o, &r->adapt);
}

static pith_status choose(row *r, pith_exchange *x)
{
    pith_adapt_report a;
    r->interval_s += pith_now_s() - r->began;
    PITH_TRY(pith_adapt_choose(r->adapt, &a));
    r->began = pith_now_s();
    r->sum.size += a.size;
    r->sum.greedy_size += a.greedy_size;
    r->sum.random_size += a.random_size;
    r->sum.n_layers += r->n_choices ? a.n_layers : 0;
    r->sum.n_changed += r->n_choices ? a.n_changed : 0;
    r->sum.n_critical += a.n_critical;
    r->search_s += a.search_s;
    r->table_s += a.table_s;
    r->worst = PITH_MAX(r->worst, a.budget > 0 ? a.error / a.budget : 0);
    r->plain = pith_exchange_bytes(x, 0) - a.size;
    r->n_choices++;
    return PITH_OK;
}

/* Seconds of what went over the wire since. */
static double link_since(const pith_exchange *x, const pith_traffic *then)
{
    const pith_traffic *now = pith_group_traffic(pith_exchange_group(x));
    pith_traffic since = {.n_sums = now->n_sums - then->n_sums, .n_gathers = now->n_gathers - then->n_gathers, .n_broadcasts = now->n_broadcasts - then->n_broadcasts, .sum_bytes = now->sum_bytes - then->sum_bytes,
                          .gather_bytes = now->gather_bytes - then->gather_bytes, .broadcast_bytes = now->broadcast_bytes - then->broadcast_bytes};
    return pith_link_seconds(&pith_problem_link, pith_group_size(pith_exchange_group(x)), &since);
}

static pith_status before(void *user, pith_exchange *x, uint64_t step)
{
    row *r = user;
    uint64_t interval = r->w->s->interval, observed = PITH_MIN(r->w->s->observed, interval), steps = r->problem ? r->w->s->lm.steps : r->w->s->cnn.steps;
    if (step == 0) PITH_TRY(begin(r, x));
    if (step == interval) {
        r->whole_bytes = sent(x);
        r->whole = *pith_group_traffic(pith_exchange_group(x));
        pith_exchange_send_whole(x, r->way == DENSE);
    }
    bool chooses = step && step < steps && step % interval == 0;
    if (chooses && r->adapt) {
        pith_exchange_observe(x, false);
        PITH_TRY(choose(r, x));
    }
    if (chooses && r->way == EQUAL) {
        double p = equal_param(r, x);
        r->sum_params += p;
        r->n_choices++;
        PITH_TRY(tune_all(x, p));
    }
    if (step % interval == interval - observed && r->adapt) pith_exchange_observe(x, true);
    if (step == steps) { /* the exchange ends after this */
        r->link_s = link_since(x, &r->whole);
        pith_adapt_free(r->adapt);
        r->adapt = NULL;
    }
    return PITH_OK;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static pith_status put(const row *r, const char *measure, double value) { return pith_run_row(r->w->run, r->name, measure, value); }

/* What the choices were like. */
static pith_status put_choices(row *r, double bytes)
{
    double n = (double)PITH_MAX(r->n_choices, (uint64_t)1);
    if (r->n_choices == 0 || r->way == EQUAL) return PITH_OK;
    if (r->sum.n_layers) PITH_TRY(put(r, "moved", (double)r->sum.n_changed / (double)r->sum.n_layers));
    if (r->way == ACCORDION) return PITH_OK;
    PITH_TRY(put(r, "error_share", r->worst));
    PITH_TRY(put(r, "search_percent", 100 * r->search_s / r->interval_s));
    PITH_TRY(put(r, "table_percent", 100 * r->table_s / r->interval_s));
    if (r->way == LGRECO)
        r->w->found[r->problem][r->compressor] = (found){true, false, bytes, r->plain + r->sum.size / n, r->plain + r->sum.greedy_size / n, r->plain + r->sum.random_size / n};
    return PITH_OK;
}

static pith_status put_row(row *r, const pith_problem_settings *s, const pith_way_result *t)
{
    double steps = (double)(s->steps - r->w->s->interval), n = (double)s->n_workers, all = (double)s->steps;
    double bytes = (t->bytes - r->whole_bytes) / steps;
    PITH_TRY(put(r, "train_loss", t->train_loss));
    PITH_TRY(put(r, "loss", t->loss));
    PITH_TRY(put(r, "acc", t->accuracy));
    if (t->diverged) {
        if (r->way == LGRECO) r->w->found[r->problem][r->compressor] = (found){.there = true, .diverged = true};
        return PITH_OK;
    }
    PITH_TRY(put(r, "bytes", bytes));
    PITH_TRY(put(r, "kilobytes", t->bytes / 1000));
    if (r->way != DENSE) PITH_TRY(put(r, "param", r->way == EQUAL ? r->sum_params / (double)r->n_choices : r->param));
    PITH_TRY(put(r, "link_ms", 1000 * r->link_s / steps));
    PITH_TRY(put(r, "step_ms", 1000 * ((t->compute_s / n + t->code_s) / all + r->link_s / steps)));
    return put_choices(r, bytes);
}

/* What rests on lgreco's row: nothing where that diverged; bytes of an allocator that was only asked; -> whether it is done. */
static pith_status put_rival(row *r, const found *f, bool *done)
{
    *done = r->way != EQUAL || f->diverged;
    if (!f->there) return pith_fail(r->w->run->ctx, PITH_E_ARGUMENT, "%s: the run %s needs lgreco_%s_%s before it", r->w->run->card->file, r->name, compressor_names[r->compressor], problem_names[r->problem]);
    if (f->diverged) return pith_run_note(r->w->run, "%s is left out: lgreco diverged", r->name);
    if (r->way == EQUAL) return PITH_OK;
    return put(r, "bytes", f->bytes + (r->way == GREEDY ? f->greedy : f->random) - f->planned);
}

static pith_status run_row(row *r)
{
    static const pith_compressor_kind kinds[N_COMPRESSORS] = {PITH_COMPRESS_POWER, PITH_COMPRESS_QSGD, PITH_COMPRESS_TOP_K};
    work *w = r->w;
    const settings *s = w->s;
    const pith_problem_settings *p = r->problem ? &s->lm : &s->cnn;
    bool done = false;
    if (r->way == EQUAL || r->way == GREEDY || r->way == RANDOM) PITH_TRY(put_rival(r, &w->found[r->problem][r->compressor], &done));
    if (done) return PITH_OK;
    if (p->n_workers == 0) return pith_fail(w->run->ctx, PITH_E_ARGUMENT, "%s: the run %s needs settings of %s", w->run->card->file, r->name, problem_names[r->problem]);
    if (p->steps <= s->interval) return pith_fail(w->run->ctx, PITH_E_ARGUMENT, "%s: %s has %llu steps, no more than the first interval, which is sent whole", w->run->card->file, problem_names[r->problem], (unsigned long long)p->steps);
    if (!w->problems[r->problem]) PITH_TRY(pith_problem_new(w->run, r->problem ? PITH_PROBLEM_LM : PITH_PROBLEM_CNN, p, &w->problems[r->problem]));
    double params[N_COMPRESSORS] = {s->rank, s->bits, s->share};
    pith_way way = {.before = before, .user = r};
    if (r->compressor >= 0) {
        r->param = params[r->compressor];
        way.channel = (pith_channel_options){.compressor = {kinds[r->compressor], r->param}, .feedback = PITH_FEEDBACK_EF};
    }
    pith_way_result result;
    pith_status status = pith_problem_train(w->problems[r->problem], &way, &result);
    pith_adapt_free(r->adapt); /* where it stopped on the way */
    r->adapt = NULL;
    return status == PITH_OK ? put_row(r, p, &result) : status;
}

/* Which of names [n] text begins with, up to '_' or its end; *text then is what follows.  -1: none */
static int take_name(const char **text, const char *const *names, int n)
{
    size_t len = strcspn(*text, "_");
    for (int i = 0; i < n; i++) {
        if (strlen(names[i]) != len || strncmp(names[i], *text, len)) continue;
        *text += len + ((*text)[len] == '_');
        return i;
    }
    return -1;
}

static pith_status read_row(work *w, const char *name, row *r)
{
    const char *text = name;
    int way = take_name(&text, way_names, N_WAYS);
    *r = (row){.w = w, .name = name, .way = (way_kind)way, .compressor = way == DENSE ? -1 : take_name(&text, compressor_names, N_COMPRESSORS)};
    r->problem = take_name(&text, problem_names, N_PROBLEMS);
    if (way >= 0 && (way == DENSE || r->compressor >= 0) && r->problem >= 0 && !*text) return PITH_OK;
    return pith_fail(w->run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is no way (dense, uniform, lgreco, equal, accordion, both, greedy, random) with a compressor (power, qsgd, topk; of dense none) and a problem (cnn, lm)", w->run->card->file, name);
}

/* What lgreco found, for its rivals: kept as parts of its row, or taken from them (keep false). */
static pith_status remember(work *w, const row *r, bool keep)
{
    found *f = &w->found[r->problem][r->compressor];
    double there = f->there, diverged = f->diverged;
    struct { const char *what; double *value; } const parts[] = {{"there", &there}, {"diverged", &diverged}, {"bytes", &f->bytes}, {"planned", &f->planned}, {"greedy", &f->greedy}, {"random", &f->random}};
    for (size_t i = 0; i < PITH_COUNT(parts); i++) {
        char part[80];
        snprintf(part, sizeof part, "%s.%s", r->name, parts[i].what);
        if (keep) PITH_TRY(pith_run_part_done(w->run, part, *parts[i].value));
        else pith_run_has_part(w->run, part, parts[i].value);
    }
    f->there = there != 0;
    f->diverged = diverged != 0;
    return PITH_OK;
}

static pith_status make_row(void *user, const char *name)
{
    work *w = user;
    row r;
    PITH_TRY(read_row(w, name, &r));
    PITH_TRY(run_row(&r));
    return r.way == LGRECO ? remember(w, &r, true) : PITH_OK;
}

static pith_status run(pith_run *run)
{
    work w = {.run = run, .s = run->card->settings};
    pith_status status = PITH_OK;
    for (size_t i = 0; i < w.s->runs.n && status == PITH_OK; i++) {
        row r;
        if (!pith_run_has_part(run, w.s->runs.items[i], NULL)) continue;
        status = read_row(&w, w.s->runs.items[i], &r);
        if (status == PITH_OK && r.way == LGRECO) status = remember(&w, &r, false);
    }
    if (status == PITH_OK) status = pith_run_each(run, &w.s->runs, make_row, &w);
    for (size_t i = 0; i < N_PROBLEMS; i++) pith_problem_free(w.problems[i]);
    return status;
}

const pith_procedure pith_procedure_l_greco = {"l_greco", keys, sizeof(settings), run};
