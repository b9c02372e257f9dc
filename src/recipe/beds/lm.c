/* lm: small language models that other cards start from.  A llama and its byte-level BPE, made from nothing on prose in
 * which recall texts are scattered: facts "key: value" among sentences, each asked for again at the end, so that what
 * is measured on keys and values in a cache means something. */
#include "recipe/train_card.h"

#include <math.h>

#include "data/data.h"
#include "eval/eval.h"
#include "model/llama_folder.h"
#include "model/llama_tape.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"

#define END_OF_TEXT "<|endoftext|>"
#define PIECE_BYTES ((size_t)4096)   /* of prose between two places where recall texts may stand; ends with a paragraph */
#define EVAL_BATCH ((size_t)8)       /* recall texts measured at once */

typedef struct settings {
    pith_names texts;
    uint64_t layers, width, heads, kv_heads, ffn, context, vocabulary;
    uint64_t tokens, held_out, recall_texts, recall_bytes, recall_pairs;
    double recall;
} settings;

static const pith_key keys[] = {
    {"texts", PITH_KEY_NAMES, offsetof(settings, texts), .required = true, .help = "text data sets; the first that is there is used"},
    {"layers", PITH_KEY_COUNT, offsetof(settings, layers), .required = true, .min = 1, .max = 1024, .help = "of the network"},
    {"width", PITH_KEY_COUNT, offsetof(settings, width), .required = true, .min = 2, .max = 65536, .help = "of the residual stream, d_model"},
    {"heads", PITH_KEY_COUNT, offsetof(settings, heads), .required = true, .min = 1, .max = 1024, .help = "of queries"},
    {"kv_heads", PITH_KEY_COUNT, offsetof(settings, kv_heads), .required = true, .min = 1, .max = 1024, .help = "of keys and values"},
    {"ffn", PITH_KEY_COUNT, offsetof(settings, ffn), .required = true, .min = 1, .max = 1 << 20, .help = "width of the feed-forward part"},
    {"context", PITH_KEY_COUNT, offsetof(settings, context), .required = true, .min = 8, .max = 1 << 20, .help = "tokens that it sees, and is trained on, at once"},
    {"vocabulary", PITH_KEY_COUNT, offsetof(settings, vocabulary), .required = true, .min = 257, .max = 1 << 20, .help = "tokens of the byte-level BPE"},
    {"tokens", PITH_KEY_COUNT, offsetof(settings, tokens), .required = true, .min = 1000, .max = 1e9, .help = "of text to train on, where the data has as many"},
    {"held_out", PITH_KEY_COUNT, offsetof(settings, held_out), .required = true, .min = 100, .max = 1e8, .help = "tokens of other text to measure on, where the data has as many"},
    {"recall", PITH_KEY_NUMBER, offsetof(settings, recall), .required = true, .min = 0, .max = 1, .help = "share of the tokens that are recall texts"},
    {"recall_texts", PITH_KEY_COUNT, offsetof(settings, recall_texts), .required = true, .min = 1, .max = 1e6, .help = "other recall texts to measure on"},
    {"recall_bytes", PITH_KEY_COUNT, offsetof(settings, recall_bytes), .required = true, .min = 128, .max = 1e6, .help = "of a recall text"},
    {"recall_pairs", PITH_KEY_COUNT, offsetof(settings, recall_pairs), .required = true, .min = 1, .max = 256, .help = "facts in it, all of which are asked for"},
    {0},
};

/* One bed at work. */
typedef struct work {
    pith_run *run;
    pith_ctx *ctx;
    const settings *s;
    pith_dataset *prose, *prose_test, *recall, *recall_test;
    pith_arena *arena;               /* of the vocabulary */
    pith_vocab vocab;
    pith_tokenizer *tok;
    pith_ids ids, held_out;          /* to train on, recall texts among it; of prose alone */
    pith_loader *loader;
    pith_tape *tape;
    pith_llama *m;
    int32_t *input, *next;           /* [batch, context] */
} work;

/* ---- text ------------------------------------------------------------------------------------- */

static const char *bytes_of(const pith_dataset *ds) { return pith_dataset_field(ds, "text")->data; }

static pith_status open_split(work *w, const char *split, pith_dataset **ds)
{
    pith_dataset *opened;
    PITH_TRY(pith_run_data(w->run, &w->s->texts, split, &(pith_dataset_options){.quick = w->run->quick}, &opened));
    *ds = opened;
    const pith_field *text = pith_dataset_field(opened, "text");
    if (text && text->type == PITH_FIELD_U8 && text->n_values == 1) return PITH_OK;
    return pith_fail(w->ctx, PITH_E_ARGUMENT, "%s: the data set %s is no text in one piece; name another in texts", w->run->card->file, opened->name);
}

/* As many recall texts as their share may need, and those to measure on. */
static pith_status open_recall(work *w)
{
    const settings *s = w->s;
    pith_dataset_options o = {.seed = w->run->seed + 1, .length = s->recall_bytes, .pairs = s->recall_pairs};
    o.n = (size_t)(s->recall * (double)s->tokens * 4 / (double)s->recall_bytes) + 1; /* no text has more than 4 bytes a token */
    PITH_TRY(pith_dataset_open(w->ctx, "recall", "train", &o, &w->recall));
    o.n = s->recall_texts;
    return pith_dataset_open(w->ctx, "recall", "test", &o, &w->recall_test);
}

static pith_str recall_text(const pith_dataset *ds, size_t i)
{
    const char *text = bytes_of(ds) + i * pith_dataset_field(ds, "text")->n_values;
    return (pith_str){text, strnlen(text, pith_dataset_field(ds, "text")->n_values)};
}

static pith_status learn_vocabulary(work *w)
{
    static const char *const controls[] = {END_OF_TEXT};
    size_t n = w->recall->n + 1;
    pith_str *texts = pith_array(w->ctx, n, sizeof *texts);
    if (!texts) return PITH_E_MEMORY;
    texts[0] = (pith_str){bytes_of(w->prose), w->prose->n};
    for (size_t i = 1; i < n; i++) texts[i] = recall_text(w->recall, i - 1);
    pith_bpe_options o = {.n_tokens = w->s->vocabulary, .pre = "smollm", .controls = controls, .n_controls = 1};
    pith_status status = pith_bpe_train(w->ctx, w->arena, texts, n, &o, &w->vocab);
    pith_free(w->ctx, texts);
    return status == PITH_OK ? pith_tokenizer_new(w->ctx, &w->vocab, &w->tok) : status;
}

static pith_status append(work *w, pith_str text, pith_ids *ids) { return pith_tokenize(w->ctx, w->tok, text.s, text.len, PITH_TOKENIZE_PLAIN, ids); }

/* Prose, and where a paragraph ends, recall texts until they have their share, each between ends of text. */
static pith_status tokenize(work *w)
{
    const settings *s = w->s;
    const pith_str end = {END_OF_TEXT, sizeof END_OF_TEXT - 1};
    const char *text = bytes_of(w->prose);
    size_t n_recall = 0, i_recall = 0;
    for (size_t at = 0, len; at < w->prose->n && w->ids.n < s->tokens; at += len) {
        size_t left = w->prose->n - at;
        const char *gap = left > PIECE_BYTES ? memmem(text + at + PIECE_BYTES, left - PIECE_BYTES, "\n\n", 2) : NULL;
        len = gap ? (size_t)(gap + 2 - (text + at)) : left;
        PITH_TRY(append(w, (pith_str){text + at, len}, &w->ids));
        for (bool first = true; (double)n_recall < s->recall * (double)w->ids.n && i_recall < w->recall->n; i_recall++, first = false) {
            size_t before = w->ids.n;
            if (first) PITH_TRY(pith_tokenize(w->ctx, w->tok, end.s, end.len, PITH_TOKENIZE_SPECIAL, &w->ids));
            PITH_TRY(append(w, recall_text(w->recall, i_recall), &w->ids));
            PITH_TRY(pith_tokenize(w->ctx, w->tok, end.s, end.len, PITH_TOKENIZE_SPECIAL, &w->ids));
            n_recall += w->ids.n - before;
        }
        PITH_TRY(pith_progress(w->ctx, "tokenizing", at + len, w->prose->n));
    }
    w->ids.n = PITH_MIN(w->ids.n, s->tokens);
    if (w->ids.n < s->tokens) PITH_TRY(pith_run_note(w->run, "the text has %zu tokens with recall texts, %llu were asked for", w->ids.n, (unsigned long long)s->tokens));
    PITH_TRY(append(w, (pith_str){bytes_of(w->prose_test), PITH_MIN(w->prose_test->n, s->held_out * 8)}, &w->held_out));
    w->held_out.n = PITH_MIN(w->held_out.n, s->held_out);
    return PITH_OK;
}

/* ---- training --------------------------------------------------------------------------------- */

static pith_var *loss(void *user, pith_tape *tape, pith_train_at *at)
{
    work *w = user;
    size_t len = w->s->context, n = w->run->card->train.batch;
    pith_batch b;
    at->status = pith_loader_batch(w->loader, at->step * at->n_parts + at->part, &b);
    if (at->status != PITH_OK) return NULL;
    for (size_t t = 0; t < n; t++) {
        memcpy(w->input + t * len, b.ids + t * (len + 1), len * sizeof *w->input);
        memcpy(w->next + t * len, b.ids + t * (len + 1) + 1, len * sizeof *w->next);
    }
    return pith_var_cross_entropy(pith_llama_record(tape, w->m, w->input, n, len, false), w->next);
}

/* Perplexity on held-out prose. */
static pith_status measure_prose(work *w, size_t n, double *perplexity, double *bits_per_byte)
{
    pith_eval_options o = {.context = PITH_MIN(w->s->context, w->held_out.n), .all_tokens = true};
    pith_eval_result r;
    PITH_TRY(pith_eval_text(w->ctx, w->m, NULL, w->held_out.ids, PITH_MIN(n, w->held_out.n), -1, &o, &r));
    *perplexity = r.perplexity;
    if (!bits_per_byte) return PITH_OK;
    size_t n_bytes = 0;
    for (size_t i = 0; i < w->held_out.n; i++) n_bytes += pith_token_text(w->tok, w->held_out.ids[i], false, NULL, 0);
    *bits_per_byte = r.nll_mean / M_LN2 * (double)w->held_out.n / (double)PITH_MAX(n_bytes, 1);
    return PITH_OK;
}

/* What became of the answers asked for. */
typedef struct recalled {
    size_t answers, whole;           /* whole: every token was the likeliest, given those before it */
    size_t tokens, right;            /* of all answers */
} recalled;

/* Score the answers of one text: logits [n ids, n_vocab]. */
static void score_answers(const work *w, const pith_ids *ids, const float *logits, const int32_t *answers, recalled *r)
{
    size_t v = w->m->s.n_vocab;
    for (size_t p = 0; p < w->s->recall_pairs; p++) {
        size_t from = (size_t)answers[2 * p], to = from + (size_t)answers[2 * p + 1], at = 0;
        size_t n_tokens = 0, n_right = 0;
        for (size_t i = 0; i < ids->n && at < to; i++) {
            size_t len = pith_token_text(w->tok, ids->ids[i], false, NULL, 0);
            if (at + len > from && i) { /* a token of the answer, predicted by the one before */
                const float *row = logits + (i - 1) * v;
                bool right = true;
                for (size_t c = 0; c < v; c++) right = right && (c == (size_t)ids->ids[i] || row[c] < row[ids->ids[i]]);
                n_tokens++;
                n_right += right;
            }
            at += len;
        }
        r->answers++;
        r->whole += n_tokens && n_right == n_tokens;
        r->tokens += n_tokens;
        r->right += n_right;
    }
}

static pith_status measure_recall(work *w, recalled *r)
{
    pith_ids ids = {0};
    pith_cache *cache = NULL;
    float *logits = pith_array(w->ctx, w->s->context, w->m->s.n_vocab * sizeof *logits);
    size_t n_long = 0;
    *r = (recalled){0};
    pith_status status = logits ? pith_llama_cache(w->ctx, w->m, PITH_CACHE_F32, w->s->context, &cache) : PITH_E_MEMORY;
    for (size_t i = 0; i < w->recall_test->n && status == PITH_OK; i++) {
        ids.n = 0;
        PITH_GOTO(append(w, recall_text(w->recall_test, i), &ids), done);
        if (ids.n > w->s->context) {
            n_long++;
            continue;
        }
        cache->kind->truncate(cache, 0);
        PITH_GOTO(pith_llama_forward(w->ctx, w->m, cache, ids.ids, ids.n, ids.n, logits), done);
        score_answers(w, &ids, logits, pith_field_item(pith_dataset_field(w->recall_test, "answer"), i), r);
        status = pith_progress(w->ctx, "asking for facts", i + 1, w->recall_test->n);
    }
    if (status == PITH_OK && n_long) status = pith_run_note(w->run, "%zu of %zu recall texts are longer than the context and were left out", n_long, w->recall_test->n);
done:
    pith_cache_free(w->ctx, cache);
    pith_ids_free(w->ctx, &ids);
    pith_free(w->ctx, logits);
    return status;
}

static pith_status evaluate(void *user, pith_tape *tape, pith_train_at *at)
{
    (void)tape;
    double perplexity;
    PITH_TRY(measure_prose(user, 16 * ((work *)user)->s->context, &perplexity, NULL));
    pith_train_note(at, "ppl", perplexity);
    return PITH_OK;
}

static pith_status train(work *w, pith_train_result *result)
{
    const settings *s = w->s;
    const pith_card_train *t = &w->run->card->train;
    pith_loader_options lo = {.batch = t->batch, .seed = w->run->seed};
    PITH_TRY(pith_loader_windows(w->ctx, w->ids.ids, NULL, w->ids.n, s->context, &lo, &w->loader));
    w->input = pith_array(w->ctx, t->batch * s->context, sizeof *w->input);
    w->next = pith_array(w->ctx, t->batch * s->context, sizeof *w->next);
    if (!w->input || !w->next) return PITH_E_MEMORY;
    pith_train_options o = pith_run_train_options(w->run);
    pith_train_role role = pith_run_train_role(w->run);
    uint64_t data[] = {o.identity, pith_hash(w->ids.ids, w->ids.n * sizeof *w->ids.ids)};
    o.identity = pith_hash(data, sizeof data);
    o.n_items *= (double)s->context;
    o.item_name = "tokens";
    o.evaluate = evaluate;
    o.checkpoint_seconds = 60;
    o.user = w;
    role.loss = loss;
    return pith_run_train(w->run, w->tape, &o, 10, &role, 1, NULL, 0, result);
}

/* ---- all of it -------------------------------------------------------------------------------- */

static pith_status make(work *w)
{
    const settings *s = w->s;
    pith_train_result result;
    recalled recall;
    double perplexity, bits_per_byte;
    PITH_TRY(open_split(w, "train", &w->prose));
    PITH_TRY(open_split(w, "test", &w->prose_test));
    PITH_TRY(open_recall(w));
    if (!(w->arena = pith_arena_new(w->ctx))) return PITH_E_MEMORY;
    PITH_TRY(learn_vocabulary(w));
    PITH_TRY(tokenize(w));
    pith_settings shape = pith_llama_settings((uint32_t)s->layers, (uint32_t)s->width, (uint32_t)s->heads, (uint32_t)s->kv_heads, (uint32_t)s->ffn,
                                              (uint32_t)s->context, (uint32_t)w->vocab.n_tokens, true);
    PITH_TRY(pith_llama_fresh(w->ctx, &shape, w->run->seed, &w->m));
    PITH_TRY(pith_tape_new(w->ctx, w->run->seed, &w->tape));
    PITH_TRY(pith_llama_train(w->ctx, w->m, w->tape, NULL));
    PITH_TRY(train(w, &result));
    PITH_TRY(measure_prose(w, w->held_out.n, &perplexity, &bits_per_byte));
    PITH_TRY(measure_recall(w, &recall));
    PITH_TRY(pith_run_row(w->run, "lm", "ppl", perplexity));
    PITH_TRY(pith_run_row(w->run, "lm", "bits_per_byte", bits_per_byte));
    PITH_TRY(pith_run_row(w->run, "lm", "recall", (double)recall.whole / (double)PITH_MAX(recall.answers, 1)));
    PITH_TRY(pith_run_row(w->run, "lm", "recall_tokens", (double)recall.right / (double)PITH_MAX(recall.tokens, 1)));
    const pith_card_train *t = &w->run->card->train;
    PITH_TRY(pith_run_row(w->run, "lm", "tokens_per_s", result.steps_per_s * (double)(t->batch * t->accumulate * s->context)));
    if (!pith_group_leads(w->run->group)) return PITH_OK;
    PITH_TRY(pith_llama_save(w->ctx, w->m, &w->vocab, w->run->folder, PITH_F32));
    pith_run_trained(w->run);
    return PITH_OK;
}

static pith_status run(pith_run *run)
{
    work w = {.run = run, .ctx = run->ctx, .s = run->card->settings};
    pith_status status = make(&w);
    pith_loader_free(w.loader);
    pith_llama_free(w.ctx, w.m);
    pith_tape_free(w.tape);
    pith_tokenizer_free(w.ctx, w.tok);
    pith_arena_free(w.arena);
    pith_ids_free(w.ctx, &w.ids);
    pith_ids_free(w.ctx, &w.held_out);
    pith_dataset *sets[] = {w.prose, w.prose_test, w.recall, w.recall_test};
    for (size_t i = 0; i < PITH_COUNT(sets); i++) pith_dataset_free(sets[i]);
    pith_free(w.ctx, w.input);
    pith_free(w.ctx, w.next);
    return status;
}

const pith_procedure pith_procedure_lm = {"lm", keys, sizeof(settings), run};
