/* 2d-matryoshka: encoders of text that are embeddings at every depth and every size, beside ones that are so in one
 * dimension or not at all.  arXiv:2402.14776.
 *
 * A small BERT (or all-MiniLM-L6-v2, from a folder) learns by contrast that a span of tokens belongs to the passage it was cut from (the inverse cloze task of
 * Lee et al., arXiv:1906.00300); each row then tunes it further in its own way.  Scores, in points of 100, are the mean of
 * two on held-out text: the reciprocal rank at which a span finds its passage, and Spearman's correlation between the
 * cosine of a passage to an edited copy and the share of tokens that were left. */
#include "recipe/train_card.h"

#include <math.h>
#include <stdlib.h>

#include "format/hf_tokenizer.h"
#include "model/net.h"
#include "stage/transform/pca.h"
#include "stage/tune/matryoshka2d.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"

typedef struct settings {
    pith_names runs, texts;
    pith_counts sizes;
    uint64_t text_bytes, vocabulary, width, depth, heads, passage, span, mid_layers, mid_size, base_steps, n_test;
    double temperature, softness;
    const char *folder;
} settings;

static const pith_key keys[] = {
    {"runs", PITH_KEY_NAMES, offsetof(settings, runs), .required = true, .help = "rows: both (2D), sizes (1D), whole (no sampling), apart (without alignment), base (not tuned), pca, short (the shallow one alone)"},
    {"texts", PITH_KEY_NAMES, offsetof(settings, texts), .required = true, .help = "text data sets; the first that is there is used"},
    {"sizes", PITH_KEY_COUNTS, offsetof(settings, sizes), .required = true, .min = 1, .max = 4096, .help = "prefixes of an embedding, ascending, the last one all of it"},
    {"text_bytes", PITH_KEY_COUNT, offsetof(settings, text_bytes), .required = true, .min = 1000, .max = 1e8, .help = "of text to train on; a fifth of them to measure on"},
    {"vocabulary", PITH_KEY_COUNT, offsetof(settings, vocabulary), .required = true, .min = 260, .max = 100000, .help = "tokens, learned from the text"},
    {"width", PITH_KEY_COUNT, offsetof(settings, width), .required = true, .min = 2, .max = 4096, .help = "of the encoder and of embeddings"},
    {"depth", PITH_KEY_COUNT, offsetof(settings, depth), .required = true, .min = 2, .max = 64, .help = "layers"},
    {"heads", PITH_KEY_COUNT, offsetof(settings, heads), .required = true, .min = 1, .max = 64, .help = "of attention"},
    {"passage", PITH_KEY_COUNT, offsetof(settings, passage), .required = true, .min = 4, .max = 512, .help = "tokens"},
    {"span", PITH_KEY_COUNT, offsetof(settings, span), .required = true, .min = 1, .max = 256, .help = "tokens that are cut from a passage, as its question"},
    {"mid_layers", PITH_KEY_COUNT, offsetof(settings, mid_layers), .required = true, .min = 1, .max = 63, .help = "the shallow depth that is compared"},
    {"mid_size", PITH_KEY_COUNT, offsetof(settings, mid_size), .required = true, .min = 1, .max = 4096, .help = "the small size that is compared"},
    {"base_steps", PITH_KEY_STEPS, offsetof(settings, base_steps), .required = true, .min = 1, .max = 1e7, .help = "of the encoder that the rows tune"},
    {"n_test", PITH_KEY_COUNT, offsetof(settings, n_test), .required = true, .min = 4, .max = 100000, .help = "passages to measure on"},
    {"temperature", PITH_KEY_NUMBER, offsetof(settings, temperature), .required = true, .min = 0.001, .max = 10, .help = "of the contrastive loss"},
    {"softness", PITH_KEY_NUMBER, offsetof(settings, softness), .required = true, .min = 0.01, .max = 100, .help = "temperature of the alignment"},
    {"folder", PITH_KEY_TEXT, offsetof(settings, folder), .help = "with model.safetensors and tokenizer.json of all-MiniLM-L6-v2, in place of a small encoder from the start; width and depth are then 384 and 6"},
    {0},
};

enum { TWO, SIZES, WHOLE, APART, BASE, PCA, SHORT, N_METHODS };
static const char *const method_names[N_METHODS] = {"both", "sizes", "whole", "apart", "base", "pca", "short"};
enum { TRAIN, TEST, SPANS = 0, PASSAGES, ORIGINALS, EDITED, N_TEXTS };
enum { MAX_LAYERS = 64, EVALUATE_BATCH = 32, TIMES = 7 };

typedef struct study {
    pith_run *run;
    pith_ids tokens[2];            /* of all text: train, test */
    size_t n_vocabulary, n_marks;  /* marks: 2 where texts stand between [CLS] and [SEP], else 0 */
    int32_t marks[2];
    float *base;                   /* parameters of the encoder that rows tune, one after the other */
} study;

/* An encoder at work. */
typedef struct work {
    study *study;
    pith_tape *tape;
    pith_net *net;
    pith_matryoshka2d options;
    size_t only;                   /* SHORT: the loss is that of so many layers alone; else 0 */
} work;

static const settings *settings_of(const study *st) { return st->run->card->settings; }

/* Tokens of a span, and of what a passage has left, with their marks. */
static size_t span_len(const study *st) { return settings_of(st)->span + st->n_marks; }
static size_t rest_len(const study *st) { return settings_of(st)->passage - settings_of(st)->span + st->n_marks; }

/* ---- text ------------------------------------------------------------------------------------- */

/* A data set's text: one corpus, or texts padded with zeros, of which the padding is left out. */
static pith_status open_text(study *st, int which, pith_dataset **ds, pith_str **texts, size_t *n)
{
    const settings *s = settings_of(st);
    size_t bytes = which == TRAIN ? s->text_bytes : PITH_MAX(s->text_bytes / 5, 1);
    PITH_TRY(pith_run_data(st->run, &s->texts, which == TRAIN ? "train" : "test", &(pith_dataset_options){.quick = st->run->quick, .n = 0}, ds));
    const pith_field *f = pith_dataset_field(*ds, "text");
    if (!f || f->type != PITH_FIELD_U8) return pith_fail(st->run->ctx, PITH_E_ARGUMENT, "the data set %s has no text", (*ds)->name);
    bool whole = f->n_dims == 0;
    size_t n_texts = whole ? 1 : PITH_MIN((*ds)->n, bytes / f->n_values + 1);
    *texts = pith_array(st->run->ctx, n_texts, sizeof **texts);
    if (!*texts) return PITH_E_MEMORY;
    for (size_t i = 0; i < n_texts; i++) {
        const char *text = (const char *)f->data + i * f->n_values;
        (*texts)[i] = (pith_str){text, whole ? PITH_MIN((*ds)->n, bytes) : strnlen(text, f->n_values)};
    }
    *n = n_texts;
    return PITH_OK;
}

/* The vocabulary of the folder's model, or one learned from the texts. */
static pith_status open_vocabulary(study *st, pith_arena *arena, const pith_str *texts, size_t n, pith_tokenizer **tok)
{
    const settings *s = settings_of(st);
    pith_ctx *ctx = st->run->ctx;
    static const char *const controls[] = {"<|endoftext|>"};
    pith_vocab vocab;
    pith_status status;
    if (s->folder) {
        pith_map map;
        char *path = pith_format(ctx, "%s/tokenizer.json", s->folder);
        status = path ? pith_map_open(ctx, path, &map) : PITH_E_MEMORY;
        pith_free(ctx, path);
        PITH_TRY(status);
        status = pith_hf_vocab_read(ctx, arena, (const char *)map.data, map.len, NULL, 0, &vocab);
        pith_map_close(ctx, &map);
    } else {
        status = pith_bpe_train(ctx, arena, texts, n, &(pith_bpe_options){.n_tokens = s->vocabulary, .controls = controls, .n_controls = 1}, &vocab);
    }
    if (status == PITH_OK) status = pith_tokenizer_new(ctx, &vocab, tok);
    if (status != PITH_OK) return status;
    st->n_vocabulary = pith_tokenizer_size(*tok);
    st->marks[0] = pith_tokenizer_find(*tok, "[CLS]", 5);
    st->marks[1] = pith_tokenizer_find(*tok, "[SEP]", 5);
    st->n_marks = st->marks[0] >= 0 && st->marks[1] >= 0 ? 2 : 0;
    return PITH_OK;
}

static pith_status read_texts(study *st)
{
    const settings *s = settings_of(st);
    pith_ctx *ctx = st->run->ctx;
    pith_dataset *ds[2] = {NULL, NULL};
    pith_str *texts[2] = {NULL, NULL};
    size_t n[2] = {0, 0};
    pith_tokenizer *tok = NULL;
    pith_arena *arena = pith_arena_new(ctx);
    pith_status status = arena ? PITH_OK : PITH_E_MEMORY;
    for (int i = 0; i < 2 && status == PITH_OK; i++) status = open_text(st, i, &ds[i], &texts[i], &n[i]);
    if (status == PITH_OK) status = open_vocabulary(st, arena, texts[TRAIN], n[TRAIN], &tok);
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < n[i] && status == PITH_OK; k++) status = pith_tokenize(ctx, tok, texts[i][k].s, texts[i][k].len, PITH_TOKENIZE_PLAIN, &st->tokens[i]);
    for (int i = 0; i < 2 && status == PITH_OK; i++)
        if (st->tokens[i].n <= s->passage)
            status = pith_fail(ctx, PITH_E_ARGUMENT, "%s: %zu tokens of text make no passage of %llu; take more text_bytes", st->run->card->file, st->tokens[i].n, (unsigned long long)s->passage);
    pith_tokenizer_free(ctx, tok);
    pith_arena_free(arena);
    for (int i = 0; i < 2; i++) {
        pith_free(ctx, texts[i]);
        pith_dataset_free(ds[i]);
    }
    return status;
}

/* From a passage a span [span_len] and what is left [rest_len], each between its marks. */
static void draw_pair(const study *st, int which, pith_rng *rng, int32_t *span, int32_t *rest)
{
    const settings *s = settings_of(st);
    size_t n_left = s->passage - s->span;
    const int32_t *passage = st->tokens[which].ids + pith_rng_below(rng, (uint32_t)(st->tokens[which].n - s->passage));
    size_t at = pith_rng_below(rng, (uint32_t)n_left + 1);
    if (st->n_marks) {
        *span++ = *rest++ = st->marks[0];
        span[s->span] = rest[n_left] = st->marks[1];
    }
    memcpy(span, passage + at, s->span * sizeof *span);
    memcpy(rest, passage, at * sizeof *rest);
    memcpy(rest + at, passage + at + s->span, (n_left - at) * sizeof *rest);
}

/* ---- training --------------------------------------------------------------------------------- */

/* Embeddings [n, width] after each layer: means over tokens. */
static bool embed(const work *w, const int32_t *ids, size_t n, size_t len, pith_var **layers)
{
    const settings *s = settings_of(w->study);
    bool ok = pith_net_run(w->net, &(pith_net_input){.ids = ids, .n = n, .len = len}) != NULL;
    for (size_t i = 0; i < s->depth && ok; i++) {
        char name[48];
        snprintf(name, sizeof name, "encoder.layer.%zu", i);
        layers[i] = pith_var_reshape(pith_var_mean(pith_net_hidden(w->net, name), PITH_AXIS(1)), PITH_DIMS(n, s->width));
        ok = layers[i] != NULL;
    }
    return ok;
}

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    const work *w = user;
    size_t n = w->study->run->card->train.batch, n_span = span_len(w->study), n_rest = rest_len(w->study);
    uint64_t step = at->step * at->n_parts + at->part, seed = w->study->run->seed;
    int32_t *span = pith_op_attr(tape, n * n_span, sizeof *span), *rest = pith_op_attr(tape, n * n_rest, sizeof *rest);
    pith_var *a[MAX_LAYERS], *b[MAX_LAYERS];
    if (!span || !rest) return NULL;
    for (size_t i = 0; i < n; i++) {
        pith_rng rng = {seed, 0x70616972u, (step * n + i) << 8};
        draw_pair(w->study, TRAIN, &rng, span + i * n_span, rest + i * n_rest);
    }
    if (!embed(w, span, n, n_span, a) || !embed(w, rest, n, n_rest, b)) return NULL;
    if (w->only) return pith_var_contrastive(a[w->only - 1], b[w->only - 1], w->options.temperature);
    return pith_matryoshka2d_loss(a, b, &w->options, pith_matryoshka2d_choose(&w->options, seed, step));
}

static pith_status train(work *w, uint64_t n_steps)
{
    pith_train_options o = pith_run_train_options(w->study->run);
    pith_train_role role = pith_run_train_role(w->study->run);
    pith_trainer *trainer;
    role.loss = loss;
    o.user = w;
    o.n_steps = n_steps;
    PITH_TRY(pith_trainer_new(w->tape, &o, &role, 1, &trainer));
    pith_status status = pith_trainer_run(trainer, NULL);
    pith_trainer_free(trainer);
    return status;
}

static pith_status open_work(study *st, size_t depth, work *w)
{
    const settings *s = settings_of(st);
    char net[224];
    *w = (work){.study = st, .options = {.n_layers = s->depth, .sizes = s->sizes.items, .n_sizes = s->sizes.n, .temperature = (float)s->temperature, .softness = (float)s->softness}};
    if (s->folder) snprintf(net, sizeof net, "{\"depth\": %zu, \"output\": \"tokens\"}", depth);
    else snprintf(net, sizeof net, "{\"vocab\": %zu, \"context\": %zu, \"types\": 1, \"width\": %zu, \"depth\": %zu, \"heads\": %zu, \"hidden\": %zu, \"output\": \"tokens\"}",
                  st->n_vocabulary, (size_t)s->passage, (size_t)s->width, depth, (size_t)s->heads, 4 * (size_t)s->width);
    PITH_TRY(pith_tape_new(st->run->ctx, st->run->seed, &w->tape));
    return pith_net_new(w->tape, s->folder ? "minilm" : "bert", net, st->run->seed, &w->net);
}

static void close_work(work *w)
{
    pith_net_free(w->net);
    pith_tape_free(w->tape);
}

/* All parameters into memory, or back. */
static pith_status keep_base(work *w)
{
    size_t n, at = 0, n_values = pith_net_n_values(w->net);
    pith_var *const *params = pith_net_params(w->net, &n);
    float *base = w->study->base = pith_array(w->study->run->ctx, n_values, sizeof *base);
    for (size_t i = 0; i < n && base; at += params[i++]->count) memcpy(base + at, params[i]->data, params[i]->count * sizeof *base);
    return base ? PITH_OK : PITH_E_MEMORY;
}

static void take_base(work *w)
{
    size_t n, at = 0;
    pith_var *const *params = pith_net_params(w->net, &n);
    for (size_t i = 0; i < n; at += params[i++]->count) memcpy(params[i]->data, w->study->base + at, params[i]->count * sizeof(float));
}

/* ---- measuring -------------------------------------------------------------------------------- */

/* Embeddings of the held-out texts after each layer: x[text][layer] [n_test, width], in one block that is the caller's. */
typedef struct embedded {
    float *block, *x[N_TEXTS][MAX_LAYERS];
    float *grade;                  /* [n_test] share of tokens that an edited copy has kept */
} embedded;

static pith_status embed_tests(const work *w, embedded *e)
{
    const settings *s = settings_of(w->study);
    pith_ctx *ctx = w->study->run->ctx;
    size_t n = s->n_test, n_rest = rest_len(w->study), mark = w->study->n_marks / 2, size = n * s->width;
    const size_t length[N_TEXTS] = {span_len(w->study), n_rest, n_rest, n_rest};
    e->block = pith_array(ctx, N_TEXTS * s->depth + 1, size * sizeof(float));
    int32_t *ids[N_TEXTS] = {NULL};
    pith_status status = e->block ? PITH_OK : PITH_E_MEMORY;
    for (int t = 0; t < N_TEXTS && status == PITH_OK; t++) {
        for (size_t l = 0; l < s->depth; l++) e->x[t][l] = e->block + ((size_t)t * s->depth + l) * size;
        ids[t] = pith_array(ctx, n * length[t], sizeof **ids);
        if (!ids[t]) status = PITH_E_MEMORY;
    }
    if (status != PITH_OK) goto done;
    e->grade = e->block + N_TEXTS * s->depth * size;
    for (size_t i = 0; i < n; i++) {
        pith_rng rng = {w->study->run->seed, 0x74657374u, (uint64_t)i << 16};
        size_t n_edited = 0;
        draw_pair(w->study, TEST, &rng, ids[SPANS] + i * length[SPANS], ids[PASSAGES] + i * n_rest);
        float share = pith_rng_uniform(&rng);
        for (size_t k = 0; k < n_rest; k++) { /* a token of anywhere in the place of some */
            int32_t id = ids[PASSAGES][i * n_rest + k];
            bool edit = pith_rng_uniform(&rng) < share && k >= mark && k + mark < n_rest;
            int32_t other = w->study->tokens[TEST].ids[pith_rng_below(&rng, (uint32_t)w->study->tokens[TEST].n)];
            ids[ORIGINALS][i * n_rest + k] = id;
            ids[EDITED][i * n_rest + k] = edit ? other : id;
            n_edited += edit;
        }
        e->grade[i] = 1 - (float)n_edited / (float)(n_rest - 2 * mark);
    }
    for (int t = 0; t < N_TEXTS; t++)
        for (size_t at = 0; at < n; at += EVALUATE_BATCH) {
            size_t m = PITH_MIN(n - at, (size_t)EVALUATE_BATCH);
            pith_var *layers[MAX_LAYERS];
            pith_tape_step(w->tape, at);
            pith_tape_record(w->tape, false);
            if (!embed(w, ids[t] + at * length[t], m, length[t], layers)) PITH_GOTO(pith_tape_status(w->tape), done);
            for (size_t l = 0; l < s->depth; l++) memcpy(e->x[t][l] + at * s->width, layers[l]->data, m * s->width * sizeof(float));
            PITH_GOTO(pith_progress(ctx, "measuring", at, n), done);
        }
done:
    for (int t = 0; t < N_TEXTS; t++) pith_free(ctx, ids[t]);
    return status;
}

/* Cosine of the first k values. */
static double cosine(const float *a, const float *b, size_t k)
{
    double ab = 0, aa = 1e-30, bb = 1e-30;
    for (size_t i = 0; i < k; i++) ab += (double)a[i] * (double)b[i], aa += (double)a[i] * (double)a[i], bb += (double)b[i] * (double)b[i];
    return ab / sqrt(aa * bb);
}

typedef struct ranked {
    double value;
    size_t i;
} ranked;

static int by_value(const void *a, const void *b)
{
    double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return (x > y) - (x < y);
}

/* rank[i] of x[i], equals sharing the mean of theirs; r [n] is scratch. */
static void ranks(const double *x, size_t n, ranked *r, double *rank)
{
    for (size_t i = 0; i < n; i++) r[i] = (ranked){x[i], i};
    qsort(r, n, sizeof *r, by_value);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && r[j].value == r[i].value;) j++;
        for (size_t k = i; k < j; k++) rank[r[k].i] = (double)(i + j - 1) / 2;
    }
}

/* Points of embeddings of n rows of `stride` values, by their first k; pairs of tests are spans, passages, originals, edited. */
static pith_status score(pith_ctx *ctx, const float *const x[N_TEXTS], const float *grade, size_t n, size_t stride, size_t k, double *points)
{
    double *d = pith_array(ctx, n, 4 * sizeof *d), rank_sum = 0, xy = 0, xx = 0, yy = 0, middle = (double)(n - 1) / 2;
    ranked *r = pith_array(ctx, n, sizeof *r);
    if (!d || !r) {
        pith_free(ctx, d);
        pith_free(ctx, r);
        return PITH_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) { /* the rank of its passage */
        double own = cosine(x[SPANS] + i * stride, x[PASSAGES] + i * stride, k);
        size_t rank = 1;
        for (size_t j = 0; j < n; j++) rank += j != i && cosine(x[SPANS] + i * stride, x[PASSAGES] + j * stride, k) >= own;
        rank_sum += 1 / (double)rank;
        d[i] = cosine(x[ORIGINALS] + i * stride, x[EDITED] + i * stride, k);
        d[n + i] = (double)grade[i];
    }
    ranks(d, n, r, d + 2 * n);
    ranks(d + n, n, r, d + 3 * n);
    for (size_t i = 0; i < n; i++) {
        double a = d[2 * n + i] - middle, b = d[3 * n + i] - middle;
        xy += a * b, xx += a * a, yy += b * b;
    }
    *points = 50 * (rank_sum / (double)n + (xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0));
    pith_free(ctx, d);
    pith_free(ctx, r);
    return PITH_OK;
}

static pith_status score_at(const work *w, const embedded *e, size_t layers, size_t size, double *points)
{
    const settings *s = settings_of(w->study);
    const float *x[N_TEXTS];
    for (int t = 0; t < N_TEXTS; t++) x[t] = e->x[t][layers - 1];
    return score(w->study->run->ctx, x, e->grade, s->n_test, s->width, size, points);
}

/* For each depth and size, as rows layer_<depth> of sizes k<size>; and the largest step back along each axis. */
static pith_status report_grid(const work *w, const embedded *e, const char *row)
{
    const settings *s = settings_of(w->study);
    double *points = pith_array(w->study->run->ctx, s->depth * s->sizes.n, sizeof *points), back = 0;
    size_t n_sizes = s->sizes.n;
    pith_status status = points ? PITH_OK : PITH_E_MEMORY;
    for (size_t l = 0; l < s->depth && status == PITH_OK; l++)
        for (size_t k = 0; k < n_sizes && status == PITH_OK; k++) {
            char name[48], measure[48];
            double *p = &points[l * n_sizes + k];
            snprintf(name, sizeof name, "layer_%zu", l + 1);
            snprintf(measure, sizeof measure, "k%zu", (size_t)s->sizes.items[k]);
            status = score_at(w, e, l + 1, s->sizes.items[k], p);
            if (status == PITH_OK) status = pith_run_row(w->study->run, name, measure, *p);
            if (l) back = PITH_MAX(back, p[-(ptrdiff_t)n_sizes] - *p);
            if (k) back = PITH_MAX(back, p[-1] - *p);
        }
    if (status == PITH_OK) status = pith_run_row(w->study->run, row, "back", back);
    pith_free(w->study->run->ctx, points);
    return status;
}

static pith_status report(const work *w, const embedded *e, const char *row, bool grid)
{
    const settings *s = settings_of(w->study);
    double whole, mid, sum = 0, points;
    PITH_TRY(score_at(w, e, s->depth, s->width, &whole));
    PITH_TRY(score_at(w, e, s->mid_layers, s->mid_size, &mid));
    for (size_t l = 1; l < s->depth; l++) {
        PITH_TRY(score_at(w, e, l, s->width, &points));
        sum += points;
    }
    PITH_TRY(pith_run_row(w->study->run, row, "mid", mid));
    if (!w->only) PITH_TRY(pith_run_row(w->study->run, row, "whole", whole));
    if (!w->only) PITH_TRY(pith_run_row(w->study->run, row, "shallow", sum / (double)(s->depth - 1)));
    return grid ? report_grid(w, e, row) : PITH_OK;
}

/* The encoder's first layers as a network of their own: whether it gives the same embeddings, and (not in quick runs, whose
 * figures are the same each time) its time in parts of the whole one's. */
static pith_status report_cut(work *w, const embedded *e, const char *row)
{
    const settings *s = settings_of(w->study);
    work cut;
    double best[2] = {HUGE_VAL, HUGE_VAL}, most = 1e-30, difference = 0;
    size_t n, n_rest = rest_len(w->study), m = PITH_MIN(s->n_test, (size_t)EVALUATE_BATCH);
    int32_t *ids = pith_array(w->study->run->ctx, m * n_rest, sizeof *ids), *span = pith_array(w->study->run->ctx, span_len(w->study), sizeof *span);
    pith_status status = open_work(w->study, s->mid_layers, &cut);
    if (status == PITH_OK && (!ids || !span)) status = PITH_E_MEMORY;
    pith_var *const *params = status == PITH_OK ? pith_net_params(cut.net, &n) : NULL;
    for (size_t i = 0; params && i < n; i++) memcpy(params[i]->data, pith_net_param(w->net, params[i]->name)->data, params[i]->count * sizeof(float));
    for (size_t i = 0; i < m && status == PITH_OK; i++) {
        pith_rng rng = {w->study->run->seed, 0x74657374u, (uint64_t)i << 16};
        draw_pair(w->study, TEST, &rng, span, ids + i * n_rest);
    }
    for (int time = 0; time < TIMES && status == PITH_OK; time++)
        for (int which = 0; which < 2 && status == PITH_OK; which++) {
            const work *runs = which ? w : &cut;
            double start = pith_now_s();
            pith_tape_step(runs->tape, 0);
            pith_tape_record(runs->tape, false);
            const pith_var *y = pith_net_run(runs->net, &(pith_net_input){.ids = ids, .n = m, .len = n_rest});
            status = pith_tape_status(runs->tape);
            best[which] = PITH_MIN(best[which], pith_now_s() - start);
            for (size_t i = 0; i < m && !which && status == PITH_OK; i++)
                for (size_t k = 0; k < s->width; k++) {
                    double sum = 0, own = (double)e->x[PASSAGES][s->mid_layers - 1][i * s->width + k];
                    for (size_t t = 0; t < n_rest; t++) sum += (double)y->data[(i * n_rest + t) * s->width + k];
                    difference = PITH_MAX(difference, fabs(sum / (double)n_rest - own));
                    most = PITH_MAX(most, fabs(own));
                }
        }
    if (status == PITH_OK) status = pith_run_row(w->study->run, row, "cut_error", difference / most);
    if (status == PITH_OK && !w->study->run->quick) status = pith_run_row(w->study->run, row, "time", best[0] / best[1]);
    close_work(&cut);
    pith_free(w->study->run->ctx, ids);
    pith_free(w->study->run->ctx, span);
    return status;
}

/* The shallow embedding by its principal components, which are those of the passages. */
static pith_status report_pca(const work *w, const embedded *e, const char *row)
{
    const settings *s = settings_of(w->study);
    pith_ctx *ctx = w->study->run->ctx;
    size_t d = s->width, k = s->mid_size, size = s->n_test * k, layer = s->mid_layers - 1;
    float *mean = pith_array(ctx, d, sizeof *mean), *axes = pith_array(ctx, d, d * sizeof *axes), *turned = pith_array(ctx, N_TEXTS, size * sizeof *turned);
    const float *x[N_TEXTS];
    double points;
    pith_status status = mean && axes && turned ? pith_pca(ctx, e->x[PASSAGES][layer], s->n_test, d, mean, axes) : PITH_E_MEMORY;
    for (size_t t = 0; t < N_TEXTS && status == PITH_OK; t++) {
        pith_pca_project(e->x[t][layer], s->n_test, d, mean, axes, k, turned + t * size);
        x[t] = turned + t * size;
    }
    if (status == PITH_OK) status = score(ctx, x, e->grade, s->n_test, k, k, &points);
    if (status == PITH_OK) status = pith_run_row(w->study->run, row, "mid", points);
    pith_free(ctx, mean);
    pith_free(ctx, axes);
    pith_free(ctx, turned);
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static pith_status tune(work *w, int method)
{
    const settings *s = settings_of(w->study);
    uint64_t n_steps = w->study->run->card->train.steps;
    if (method == SHORT) { /* from the start, as long in all; of a folder's model its first layers */
        w->only = s->mid_layers;
        if (s->folder) take_base(w);
        return train(w, s->folder ? n_steps : s->base_steps + n_steps);
    }
    take_base(w);
    w->options.no_layers = method == SIZES || method == WHOLE;
    w->options.no_sizes = method == WHOLE;
    w->options.no_alignment = method == APART;
    return method == BASE || method == PCA ? PITH_OK : train(w, n_steps);
}

static pith_status run_row(void *user, const char *row)
{
    study *st = user;
    const settings *s = settings_of(st);
    embedded e = {0};
    work w;
    int method = 0;
    while (method < N_METHODS && strcmp(row, method_names[method]) != 0) method++;
    if (method == N_METHODS) return pith_fail(st->run->ctx, PITH_E_ARGUMENT, "%s: '%s' in runs is not both, sizes, whole, apart, base, pca or short", st->run->card->file, row);
    pith_status status = open_work(st, s->depth, &w);
    if (status == PITH_OK) status = tune(&w, method);
    if (status == PITH_OK) status = embed_tests(&w, &e);
    if (status == PITH_OK) status = method == PCA ? report_pca(&w, &e, row) : report(&w, &e, row, method == TWO);
    if (status == PITH_OK && method == TWO) status = report_cut(&w, &e, row);
    pith_free(st->run->ctx, e.block);
    close_work(&w);
    return status;
}

/* The folder's model as it is, or a small one after its first training. */
static pith_status make_base(study *st)
{
    const settings *s = settings_of(st);
    work w;
    char *path = s->folder ? pith_format(st->run->ctx, "%s/model.safetensors", s->folder) : NULL;
    pith_status status = s->folder && !path ? PITH_E_MEMORY : PITH_OK;
    if (status == PITH_OK) status = open_work(st, s->depth, &w);
    else w = (work){0};
    w.options.no_layers = w.options.no_sizes = true;
    if (status == PITH_OK) status = path ? pith_net_load(w.net, path, NULL) : train(&w, s->base_steps);
    pith_free(st->run->ctx, path);
    if (status == PITH_OK) status = keep_base(&w);
    close_work(&w);
    return status;
}

static pith_status run(pith_run *run)
{
    const settings *s = run->card->settings;
    study st = {.run = run};
    if (s->folder && (s->width != 384 || s->depth != 6)) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: the folder's model has a width of 384 and a depth of 6", run->card->file);
    bool fits = s->sizes.n && s->sizes.items[s->sizes.n - 1] == s->width && s->mid_size <= s->width && s->mid_layers < s->depth && s->span < s->passage;
    for (size_t i = 0; i + 1 < s->sizes.n; i++) fits &= s->sizes.items[i] < s->sizes.items[i + 1];
    if (!fits) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: sizes ascend to width, mid_size is at most width, mid_layers below depth, span below passage", run->card->file);
    pith_status status = read_texts(&st);
    if (status == PITH_OK) status = make_base(&st);
    if (status == PITH_OK) status = pith_run_each(run, &s->runs, run_row, &st);
    for (int i = 0; i < 2; i++) pith_ids_free(run->ctx, &st.tokens[i]);
    pith_free(run->ctx, st.base);
    return status;
}

const pith_procedure pith_procedure_matryoshka2d = {"matryoshka2d", keys, sizeof(settings), run};
