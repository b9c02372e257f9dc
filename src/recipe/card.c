/* Cards: from YAML by tables, with everything checked that can be checked before work begins. */
#include "recipe/card.h"

#include <ctype.h>

#include "recipe/claim.h"

/* What a card holds as it is written; what has a schema of its own is looked at later. */
typedef struct written {
    pith_card card;
    const char *procedure;
    pith_pairs rows, beside, measures;
    pith_yaml *settings, *train, *claims, *quick;
} written;
typedef struct written_quick {
    pith_yaml *settings, *train;
    uint64_t seeds;
} written_quick;
typedef struct written_claim {
    pith_yaml *claim;
    const char *says;
    bool quick;
} written_claim;

#define CARD(field) offsetof(written, card.field)
static const pith_key card_keys[] = {
    {"id", PITH_KEY_TEXT, CARD(id), .required = true, .help = "the card's name, as its file's"},
    {"family", PITH_KEY_TEXT, CARD(family), .required = true, .help = "the folder that it is in"},
    {"kind", PITH_KEY_CHOICE, CARD(kind), .choices = "claim|bed", .help = "claim unless said"},
    {"title", PITH_KEY_TEXT, CARD(title), .required = true, .help = "the paper's title"},
    {"paper", PITH_KEY_TEXT, CARD(paper), .help = "arXiv:1234.56789, or another way to find it"},
    {"line", PITH_KEY_TEXT, CARD(line), .required = true, .help = "what it is, in one line"},
    {"mechanism", PITH_KEY_TEXT, CARD(mechanism), .required = true, .help = "how it works, in a few sentences"},
    {"stream", PITH_KEY_TEXT, CARD(stream), .required = true, .help = "what it compresses: weights, cache, latent ..."},
    {"beds", PITH_KEY_NAMES, CARD(beds), .help = "trained networks that it starts from"},
    {"data", PITH_KEY_NAMES, CARD(data), .help = "data sets that it reads"},
    {"minutes", PITH_KEY_NUMBER, CARD(minutes), .required = true, .min = 0.01, .max = 1e5, .help = "about how long a full run takes on two cores"},
    {"seeds", PITH_KEY_COUNT, CARD(seeds), .min = 1, .max = 100, .help = "how many a full run takes"},
    {"procedure", PITH_KEY_TEXT, offsetof(written, procedure), .required = true, .help = "what does the work; pith recipes lists them"},
    {"settings", PITH_KEY_NODE, offsetof(written, settings), .help = "of the procedure"},
    {"train", PITH_KEY_NODE, offsetof(written, train), .help = "how networks are trained"},
    {"quick", PITH_KEY_NODE, offsetof(written, quick), .help = "settings, train and seeds of quick runs, where they differ"},
    {"rows", PITH_KEY_PAIRS, offsetof(written, rows), .required = true, .help = "what is measured: names, and what they mean"},
    {"beside", PITH_KEY_PAIRS, offsetof(written, beside), .help = "rows of peers and ablations"},
    {"measures", PITH_KEY_PAIRS, offsetof(written, measures), .required = true, .help = "the columns: names, and what they mean"},
    {"claims", PITH_KEY_NODE, offsetof(written, claims), .help = "comparisons of measured rows"},
    {0},
};

static const pith_key quick_keys[] = {
    {"settings", PITH_KEY_NODE, offsetof(written_quick, settings), .help = "of the procedure"},
    {"train", PITH_KEY_NODE, offsetof(written_quick, train), .help = "how networks are trained"},
    {"seeds", PITH_KEY_COUNT, offsetof(written_quick, seeds), .min = 1, .max = 100, .help = "how many"},
    {0},
};

static const pith_key claim_keys[] = {
    {"claim", PITH_KEY_NODE, offsetof(written_claim, claim), .required = true, .help = "a comparison of measured rows"},
    {"says", PITH_KEY_TEXT, offsetof(written_claim, says), .help = "the same in words"},
    {"quick", PITH_KEY_FLAG, offsetof(written_claim, quick), .help = "it means something in quick runs too"},
    {0},
};

#define TRAIN(field) offsetof(pith_card_train, field)
static const pith_key train_keys[] = {
    {"optimizer", PITH_KEY_CHOICE, TRAIN(optimizer), .choices = "sgd|adamw|adafactor|muon", .help = "adamw unless said"},
    {"schedule", PITH_KEY_CHOICE, TRAIN(schedule), .choices = "constant|linear|cosine", .help = "constant unless said"},
    {"rate", PITH_KEY_NUMBER, TRAIN(rate), .required = true, .min = 1e-12, .max = 1e3, .help = "the learning rate after the warm-up"},
    {"last_rate", PITH_KEY_NUMBER, TRAIN(last_rate), .min = 0, .max = 1e3, .help = "at the end, of linear and cosine"},
    {"warmup", PITH_KEY_NUMBER, TRAIN(warmup), .min = 0, .max = 1, .help = "share of the steps"},
    {"steps", PITH_KEY_STEPS, TRAIN(steps), .required = true, .min = 1, .max = 1e9, .help = "how many steps"},
    {"batch", PITH_KEY_COUNT, TRAIN(batch), .required = true, .min = 1, .max = 1e6, .help = "items in a batch"},
    {"accumulate", PITH_KEY_COUNT, TRAIN(accumulate), .min = 1, .max = 1e4, .help = "batches in a step"},
    {"momentum", PITH_KEY_NUMBER, TRAIN(momentum), .min = 0, .max = 0.9999, .help = "of sgd and muon"},
    {"nesterov", PITH_KEY_FLAG, TRAIN(nesterov), .help = "of sgd and muon"},
    {"beta1", PITH_KEY_NUMBER, TRAIN(beta1), .min = 0, .max = 0.9999, .help = "of adamw"},
    {"beta2", PITH_KEY_NUMBER, TRAIN(beta2), .min = 0, .max = 0.999999, .help = "of adamw"},
    {"eps", PITH_KEY_NUMBER, TRAIN(eps), .min = 0, .max = 1, .help = "of adamw"},
    {"decay", PITH_KEY_NUMBER, TRAIN(decay), .min = 0, .max = 10, .help = "of weights"},
    {"clip", PITH_KEY_NUMBER, TRAIN(clip), .min = 0, .max = 1e6, .help = "length of all gradients together"},
    {"ema", PITH_KEY_NUMBER, TRAIN(ema), .min = 0, .max = 0.999999, .help = "decay of a moving average of the parameters"},
    {"patience", PITH_KEY_COUNT, TRAIN(patience), .min = 0, .max = 1e6, .help = "evaluations without gain before it stops"},
    {"compress", PITH_KEY_TEXT, TRAIN(compress), .help = "how several workers send gradients: " PITH_COMPRESSOR_WORDS},
    {"feedback", PITH_KEY_TEXT, TRAIN(feedback), .help = "of the errors that this makes: " PITH_FEEDBACK_WORDS},
    {0},
};

/* ---- parts ------------------------------------------------------------------------------------ */

static bool is_name(const char *s, const char *also)
{
    if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s)) return false;
    while (islower((unsigned char)*s) || isdigit((unsigned char)*s) || (*s && strchr(also, *s))) s++;
    return !*s;
}

static pith_status check_id(const pith_card *card, const pith_yaml *root, const char *key, const char *text)
{
    if (is_name(text, "-") && strlen(text) <= 64) return PITH_OK;
    return pith_yaml_fail(card->ctx, pith_yaml_get(root, key), "'%s' is made of small letters, digits and '-', 64 at most, not '%s'", key, text);
}

/* Names that claims can speak of: words that are no number. */
static pith_status check_names(const pith_card *card, const pith_pairs *names)
{
    for (size_t i = 0; i < names->n; i++) {
        const char *name = names->items[i].name;
        if (!is_name(name, "_") || isdigit((unsigned char)name[0]) || !strcmp(name, "and") || !strcmp(name, "or"))
            return pith_yaml_fail(card->ctx, names->items[i].at, "names of rows and measures are made of small letters, digits and '_' and begin with a letter, not '%s'", name);
    }
    return PITH_OK;
}

static pith_status set_rows(pith_card *card, const written *w)
{
    PITH_TRY(check_names(card, &w->rows));
    PITH_TRY(check_names(card, &w->beside));
    PITH_TRY(check_names(card, &w->measures));
    card->n_rows = w->rows.n + w->beside.n;
    card->n_measures = w->measures.n;
    card->measures = w->measures.items;
    card->rows = pith_arena_take(card->arena, PITH_MAX(card->n_rows, 1) * sizeof *card->rows);
    if (!card->rows) return PITH_E_MEMORY;
    for (size_t i = 0; i < card->n_rows; i++) {
        bool beside = i >= w->rows.n;
        const pith_pair *pair = beside ? &w->beside.items[i - w->rows.n] : &w->rows.items[i];
        for (size_t k = 0; k < i; k++)
            if (!strcmp(card->rows[k].name, pair->name)) return pith_yaml_fail(card->ctx, pair->at, "the row '%s' is there already", pair->name);
        card->rows[i] = (pith_card_row){pair->name, pair->text, beside};
    }
    return PITH_OK;
}

static pith_status set_claims(pith_card *card, const pith_yaml *list)
{
    if (!list) return PITH_OK;
    if (list->kind != PITH_YAML_LIST) return pith_yaml_fail(card->ctx, list, "'claims' is a list");
    card->claims = pith_arena_take(card->arena, PITH_MAX(list->n, 1) * sizeof *card->claims);
    if (!card->claims) return PITH_E_MEMORY;
    for (size_t i = 0; i < list->n; i++) {
        written_claim c = {.claim = list->items[i]};
        if (c.claim->kind == PITH_YAML_MAP) PITH_TRY(pith_yaml_fill(card->arena, card->ctx, list->items[i], claim_keys, false, &c));
        if (c.claim->kind != PITH_YAML_SCALAR) return pith_yaml_fail(card->ctx, c.claim, "a claim is a comparison of measured rows: \"ours.bytes < 0.5 * dense.bytes\"");
        card->claims[i] = (pith_card_claim){.text = c.claim->text, .says = c.says, .quick = c.quick};
        PITH_TRY(pith_claim_parse(card, c.claim, &card->claims[i].parsed));
    }
    card->n_claims = list->n;
    return PITH_OK;
}

static pith_status set_settings(pith_card *card, const written *w, const written_quick *quick, const pith_yaml *root)
{
    static const pith_key none[] = {{0}};
    const pith_procedure_entry *entry = pith_procedure_find(w->procedure);
    if (!entry) return pith_yaml_fail(card->ctx, pith_yaml_get(root, "procedure"), "there is no procedure '%s'; `pith recipes --procedures` lists them", w->procedure);
    const pith_procedure *p = card->procedure = entry->procedure;
    const pith_key *fields = p->settings ? p->settings : none;
    card->settings = pith_arena_take(card->arena, PITH_MAX(p->settings_size, 1));
    if (!card->settings) return PITH_E_MEMORY;
    memset(card->settings, 0, p->settings_size);
    for (const pith_key *f = fields; f->name && !w->settings; f++)
        if (f->required) return pith_yaml_fail(card->ctx, root, "'settings' is missing; the procedure '%s' needs '%s'", p->name, f->name);
    if (w->settings) PITH_TRY(pith_yaml_fill(card->arena, card->ctx, w->settings, fields, false, card->settings));
    /* quick ones are checked even where they are not used, in a copy */
    void *quick_settings = card->settings;
    if (!card->quick) {
        quick_settings = pith_arena_take(card->arena, PITH_MAX(p->settings_size, 1));
        if (!quick_settings) return PITH_E_MEMORY;
        memcpy(quick_settings, card->settings, p->settings_size);
    }
    return quick->settings ? pith_yaml_fill(card->arena, card->ctx, quick->settings, fields, true, quick_settings) : PITH_OK;
}

/* at: the map that was read last. */
static pith_status read_channel(const pith_card *card, const pith_yaml *at, pith_card_train *t)
{
    if (pith_channel_read(card->ctx, t->compress, t->feedback, &t->channel) == PITH_OK) return PITH_OK;
    char why[512];
    snprintf(why, sizeof why, "%s", pith_error(card->ctx));
    const pith_yaml *compress = pith_yaml_get(at, "compress"), *feedback = pith_yaml_get(at, "feedback");
    return pith_yaml_fail(card->ctx, feedback ? feedback : compress ? compress : at, "%s", why);
}

static pith_status set_train(pith_card *card, const written *w, const written_quick *quick)
{
    card->train = (pith_card_train){.optimizer = PITH_CARD_ADAMW, .accumulate = 1};
    card->has_train = w->train;
    if (w->train) PITH_TRY(pith_yaml_fill(card->arena, card->ctx, w->train, train_keys, false, &card->train));
    if (w->train) PITH_TRY(read_channel(card, w->train, &card->train));
    if (!quick->train) return PITH_OK;
    if (!w->train) return pith_yaml_fail(card->ctx, quick->train, "'quick' changes 'train', and there is none");
    pith_card_train unused = card->train, *train = card->quick ? &card->train : &unused;
    PITH_TRY(pith_yaml_fill(card->arena, card->ctx, quick->train, train_keys, true, train));
    return read_channel(card, quick->train, train);
}

static pith_status fill(pith_card *card)
{
    written w = {.card = *card};
    written_quick quick = {0};
    pith_yaml *root;
    PITH_TRY(pith_yaml_parse(card->arena, card->ctx, card->file, card->text, card->text_len, &root));
    w.card.seeds = 1;
    PITH_TRY(pith_yaml_fill(card->arena, card->ctx, root, card_keys, false, &w));
    *card = w.card;
    PITH_TRY(check_id(card, root, "id", card->id));
    PITH_TRY(check_id(card, root, "family", card->family));
    if (w.quick) PITH_TRY(pith_yaml_fill(card->arena, card->ctx, w.quick, quick_keys, false, &quick));
    if (card->quick && quick.seeds) card->seeds = quick.seeds;
    PITH_TRY(set_rows(card, &w));
    PITH_TRY(set_settings(card, &w, &quick, root));
    PITH_TRY(set_train(card, &w, &quick));
    PITH_TRY(set_claims(card, w.claims));
    if (card->kind == PITH_CARD_CLAIM && !card->n_claims) return pith_yaml_fail(card->ctx, root, "'claims' is missing: a card that claims nothing is a bed (kind: bed)");
    return PITH_OK;
}

/* ---- cards ------------------------------------------------------------------------------------ */

/* A copy of text [len] with a NUL behind. */
static char *keep(pith_card *card, const char *text, size_t len)
{
    char *copy = pith_arena_take(card->arena, len + 1);
    if (!copy) return NULL;
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

pith_status pith_card_parse(pith_ctx *ctx, const char *file, const char *text, size_t len, bool quick, pith_card **card)
{
    if (len > PITH_YAML_MAX_BYTES) return pith_fail(ctx, PITH_E_LIMIT, "%s: %zu bytes are too many for a card; %zu are the limit", file, len, PITH_YAML_MAX_BYTES);
    pith_arena *arena = pith_arena_new(ctx);
    pith_card *c = arena ? pith_arena_take(arena, sizeof *c) : NULL;
    if (!c) {
        pith_arena_free(arena);
        return PITH_E_MEMORY;
    }
    *c = (pith_card){.arena = arena, .ctx = ctx, .quick = quick, .text_len = len};
    c->file = keep(c, file, strlen(file));
    c->text = keep(c, text, len);
    pith_status status = c->file && c->text ? fill(c) : PITH_E_MEMORY;
    if (status == PITH_OK) *card = c;
    else pith_card_free(c);
    return status;
}

static pith_status load_file(pith_ctx *ctx, const char *path, bool quick, pith_card **card)
{
    pith_map map;
    PITH_TRY(pith_map_open(ctx, path, &map));
    pith_status status = pith_card_parse(ctx, path, map.data ? (const char *)map.data : "", map.len, quick, card);
    pith_map_close(ctx, &map);
    return status;
}

pith_status pith_card_load(pith_ctx *ctx, const char *which, bool quick, pith_card **card)
{
    size_t len = strlen(which);
    if (strchr(which, '/') || (len > 5 && !strcmp(which + len - 5, ".yaml"))) return load_file(ctx, which, quick, card);
    for (const pith_card_source *s = pith_card_sources; s->family; s++) {
        if (strcmp(s->id, which)) continue;
        char file[192];
        snprintf(file, sizeof file, "recipes/%s/%s.yaml", s->family, s->id);
        PITH_TRY(pith_card_parse(ctx, file, s->text, s->text_len, quick, card));
        (*card)->built_in = true;
        return PITH_OK;
    }
    return pith_fail(ctx, PITH_E_ARGUMENT, "there is no card '%s'; `pith recipes` lists them, and a card of your own is a path (./%s.yaml)", which, which);
}

void pith_card_free(pith_card *card)
{
    if (card) pith_arena_free(card->arena);
}

static void scale(uint64_t *steps, double factor) { *steps = (uint64_t)PITH_MAX(1.0, (double)*steps * factor + 0.5); }

static void scale_keys(const pith_key *fields, void *at, double factor)
{
    for (const pith_key *f = fields; f && f->name; f++) {
        void *to = (char *)at + f->offset;
        if (f->type == PITH_KEY_GROUP) scale_keys(f->fields, to, factor);
        if (f->type == PITH_KEY_STEPS && *(uint64_t *)to) scale(to, factor);
    }
}

pith_status pith_card_share(pith_card *card, size_t n)
{
    pith_card_train *t = &card->train;
    card->workers = n;
    if (t->accumulate % n == 0) return PITH_OK;
    if (t->batch % n) return pith_fail(card->ctx, PITH_E_ARGUMENT, "%s: a batch of %llu cannot be shared by %zu workers; take a number of them that divides it, or a card whose batch, or accumulate, is a multiple of that", card->file, (unsigned long long)t->batch, n);
    pith_log(card->ctx, PITH_LOG_WARN, "%s: each batch of %llu is %zu parts of %llu, one a worker; batch norm sees a part", card->id, (unsigned long long)t->batch, n, (unsigned long long)t->batch / n);
    t->batch /= n;
    t->accumulate *= n;
    card->split = n;
    return PITH_OK;
}

pith_status pith_card_compress(pith_card *card, const char *compress, const char *feedback)
{
    pith_card_train *t = &card->train;
    if (!compress && !feedback) return PITH_OK;
    return pith_channel_read(card->ctx, compress ? compress : t->compress, feedback, &t->channel);
}

bool pith_card_compresses(const pith_card *card) { return card->workers > 1 && card->train.channel.compressor.kind != PITH_COMPRESS_DENSE; }

void pith_card_scale(pith_card *card, double factor)
{
    if (card->has_train) scale_keys(train_keys, &card->train, factor);
    scale_keys(card->procedure->settings, card->settings, factor);
}

const pith_procedure_entry *pith_procedure_find(const char *name)
{
    for (const pith_procedure_entry *e = pith_procedures; e->procedure; e++)
        if (!strcmp(e->procedure->name, name)) return e;
    return NULL;
}
