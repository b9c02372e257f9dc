/* Cards: what they hold, quick settings, budgets, every kind of error with its place; and that all built-in ones are
 * right, quick and full. */
#include "recipe/card.h"

#include <math.h>

#include "recipe/cards.h"
#include "recipe/train_card.h"

static void test_values(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    static const char text[] = CARD_HEAD CARD_ROWS
        "train: {rate: 1e-3, steps: 100, batch: 4, optimizer: muon, schedule: cosine}\nbeds: [vgg6]\ndata: [factors]\nseeds: 3\n"
        "claims:\n  - ours.acc > dense.acc\n  - {claim: ours.bytes < 1, says: small, quick: true}\n"
        "quick: {seeds: 1, settings: {n_images: 2}, train: {steps: 5}}\n";
    pith_card *card = test_card(ctx, text, false), *quick = test_card(ctx, text, true);
    assert_string_equal(card->id, "mine");
    assert_string_equal(card->paper, "arXiv:1");
    assert_int_equal(card->kind, PITH_CARD_CLAIM);
    assert_int_equal(card->n_rows, 3);
    assert_false(card->rows[0].beside);
    assert_true(card->rows[1].beside && card->rows[2].beside);
    assert_string_equal(card->measures[1].text, "size");
    assert_int_equal(card->n_claims, 2);
    assert_false(card->claims[0].quick);
    assert_true(card->claims[1].quick);
    assert_string_equal(card->claims[1].says, "small");
    assert_string_equal(card->procedure->name, "classifier");
    assert_int_equal(card->train.optimizer, PITH_CARD_MUON);
    assert_int_equal(card->train.accumulate, 1);
    assert_int_equal(card->train.steps, 100);
    assert_int_equal(card->seeds, 3);
    assert_int_equal(quick->train.steps, 5);
    assert_int_equal(quick->train.batch, 4);
    assert_int_equal(quick->seeds, 1);
    pith_card_scale(card, 0.25);
    assert_int_equal(card->train.steps, 25);
    assert_int_equal(card->train.batch, 4);
    pith_card_scale(card, 1e-6);
    assert_int_equal(card->train.steps, 1);
    pith_card_free(card);
    pith_card_free(quick);
    pith_ctx_free(ctx);
}

/* What a card leaves out is the optimizer's own, each setting by itself. */
static void test_train(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_card *card = test_card(ctx, CARD_HEAD CARD_ROWS "kind: bed\ntrain: {rate: 0.5, steps: 200, batch: 4, accumulate: 3, beta2: 0.95, warmup: 0.1, decay: 0.25, schedule: linear, last_rate: 0.125}\n", false);
    pith_run run = {.ctx = ctx, .card = card, .seed = 1};
    pith_train_role role = pith_run_train_role(&run);
    assert_int_equal(role.optimizer.kind, PITH_ADAMW);
    assert_true(role.optimizer.beta1 == 0.9f && role.optimizer.beta2 == 0.95f && role.optimizer.eps == 1e-8f && role.optimizer.weight_decay == 0.25f);
    assert_int_equal(role.schedule.kind, PITH_RATE_LINEAR);
    assert_int_equal(role.schedule.n_warmup, 20);
    assert_true(role.schedule.rate == 0.5f && role.schedule.last_rate == 0.125f);
    pith_train_options o = pith_run_train_options(&run);
    assert_int_equal(o.n_steps, 200);
    assert_int_equal(o.n_parts, 3);
    assert_true(o.n_items == 12);
    uint64_t identity = o.identity;
    run.seed = 2;
    assert_true(pith_run_train_options(&run).identity != identity);
    pith_card_free(card);
    pith_ctx_free(ctx);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {CARD_HEAD "claims: []\n", "card.yaml:1:1: 'rows' is missing"},
        {CARD_HEAD CARD_ROWS, "'claims' is missing: a card that claims nothing is a bed"},
        {CARD_HEAD CARD_ROWS "claims: [ours.acc > 0]\nclaimz: 3\n", "card.yaml:15:1: unknown key 'claimz'"},
        {CARD_HEAD CARD_ROWS "claims: [ours.acc > theirs.acc]\n", "card.yaml:14:21: 'theirs' is no row of this card"},
        {CARD_HEAD CARD_ROWS "claims: [\"ours.speed > 0\"]\n", "card.yaml:14:16: 'speed' is no measure of this card"},
        {CARD_HEAD CARD_ROWS "claims: ours.acc > 0\n", "card.yaml:14:9: 'claims' is a list"},
        {CARD_HEAD CARD_ROWS "claims:\n  - {says: x}\n", "'claim' is missing"},
        {CARD_HEAD CARD_ROWS "claims:\n  - {claim: ours.acc > 0, quickly: true}\n", "card.yaml:15:27: unknown key 'quickly'"},
        {CARD_HEAD "rows: {ours: a}\nbeside: {ours: b}\nmeasures: {acc: c}\nclaims: [ours.acc > 0]\n", "card.yaml:12:10: the row 'ours' is there already"},
        {CARD_HEAD "rows: {our-s: a}\nmeasures: {acc: c}\n", "card.yaml:11:8: names of rows and measures"},
        {CARD_HEAD "rows: {or: a}\nmeasures: {acc: c}\n", "names of rows and measures"},
        {CARD_HEAD "rows: {a: b}\nmeasures: {2acc: c}\n", "names of rows and measures"},
        {CARD_HEAD CARD_ROWS CARD_TRAIN "kind: bed\nquick: {train: {step: 1}}\n", "card.yaml:16:17: unknown key 'step'"},
        {CARD_HEAD CARD_ROWS "kind: bed\nquick: {train: {steps: 1}}\n", "'quick' changes 'train', and there is none"},
        {CARD_HEAD CARD_ROWS "kind: bed\nquick: {settings: {image: [a]}}\n", "unknown key 'image'"},
        {CARD_HEAD CARD_ROWS "kind: bed\ntrain: {rate: 1, steps: 0, batch: 1}\n", "card.yaml:15:25: 'steps' is from 1"},
        {CARD_HEAD CARD_ROWS "kind: bed\ntrain: {rate: 1, batch: 1}\n", "card.yaml:15:8: 'steps' is missing"},
        {CARD_HEAD CARD_ROWS "kind: hat\n", "'kind' is one of claim|bed, not hat"},
        {"id: Mine\nfamily: a\ntitle: t\nline: l\nmechanism: m\nstream: s\nminutes: 1\nprocedure: classifier\nrows: {a: b}\nmeasures: {a: b}\n",
         "card.yaml:1:5: 'id' is made of small letters"},
        {"id: m\nfamily: a\ntitle: t\nline: l\nmechanism: m\nstream: s\nminutes: 1\nprocedure: magic\nrows: {a: b}\nmeasures: {a: b}\n",
         "card.yaml:8:12: there is no procedure 'magic'"},
        {"id: m\nfamily: a\ntitle: t\nline: l\nmechanism: m\nstream: s\nminutes: 1\nprocedure: classifier\nrows: {a: b}\nmeasures: {a: b}\n",
         "'settings' is missing; the procedure 'classifier' needs 'net'"},
        {"", "card.yaml:1:1: "},
    };
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(cases); i++)
        for (int quick = 0; quick < 2; quick++) {
            pith_card *card = NULL;
            assert_int_equal(pith_card_parse(ctx, "card.yaml", cases[i].text, strlen(cases[i].text), quick, &card), PITH_E_FORMAT);
            if (!strstr(pith_error(ctx), cases[i].says)) fail_msg("case %zu gives '%s', not '%s'", i, pith_error(ctx), cases[i].says);
            assert_null(card);
        }
    pith_card *card;
    assert_int_equal(pith_card_load(ctx, "no-such-card", false, &card), PITH_E_ARGUMENT);
    assert_int_equal(pith_card_load(ctx, "/nowhere/card.yaml", false, &card), PITH_E_IO);
    pith_ctx_free(ctx);
}

/* Each is what its place says, and what it needs is there too. */
static void test_built_in(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    size_t n = 0;
    for (const pith_card_source *s = pith_card_sources; s->family; s++, n++) {
        for (int quick = 0; quick < 2; quick++) {
            pith_card *card, *bed;
            assert_ok(ctx, pith_card_load(ctx, s->id, quick, &card));
            assert_string_equal(card->id, s->id);
            assert_string_equal(card->family, s->family);
            assert_true(card->built_in);
            size_t n_quick = 0;
            for (size_t i = 0; i < card->n_claims; i++) n_quick += card->claims[i].quick;
            assert_true(card->kind == PITH_CARD_BED || n_quick > 0); /* a quick run of a claim that judges nothing shows nothing */
            for (size_t i = 0; i < card->beds.n; i++) {
                assert_ok(ctx, pith_card_load(ctx, card->beds.items[i], quick, &bed));
                assert_int_equal(bed->kind, PITH_CARD_BED);
                pith_card_free(bed);
            }
            for (size_t i = 0, at; i < card->data.n; i++) assert_ok(ctx, pith_data_find(ctx, card->data.items[i], &at));
            pith_card_free(card);
        }
        for (const pith_card_source *o = pith_card_sources; o != s; o++) assert_string_not_equal(o->id, s->id);
    }
    assert_true(n > 0);
    pith_ctx_free(ctx);
}

/* ---- what claims of built-in cards speak of ---------------------------------------------------- */

static const void *setting_of(const pith_card *card, const char *name, int type)
{
    for (const pith_key *k = card->procedure->settings; k && k->name; k++)
        if (!strcmp(k->name, name) && (int)k->type == type) return (const char *)card->settings + k->offset;
    return NULL;
}

/* Whether `word` is among words with spaces between. */
static bool has_word(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += len)
        if ((at == words || at[-1] == ' ') && (at[len] == ' ' || !at[len])) return true;
    return false;
}

/* Whether a run with these settings measures it, as far as the lists `runs` and `lengths` tell. */
static bool is_listed(const pith_card *card, const char *row, const char *measure)
{
    const pith_names *names = setting_of(card, "runs", PITH_KEY_NAMES);
    const pith_pairs *pairs = setting_of(card, "runs", PITH_KEY_PAIRS); /* task: rows; what is no task's name may be of any */
    const pith_counts *lengths = setting_of(card, "lengths", PITH_KEY_COUNTS);
    bool listed = !names && !pairs, is_task = false, of_length = !lengths || strncmp(measure, "frames_", 7) != 0;
    if (!strcmp(row, "patches_logistic")) row = "patches_flow"; /* measured with it */
    for (size_t i = 0; names && i < names->n; i++) listed = listed || !strcmp(names->items[i], row);
    for (size_t i = 0; pairs && i < pairs->n; i++) is_task = is_task || !strcmp(pairs->items[i].name, measure);
    for (size_t i = 0; pairs && i < pairs->n; i++) listed = listed || ((!is_task || !strcmp(pairs->items[i].name, measure)) && has_word(pairs->items[i].text, row));
    for (size_t i = 0; lengths && i < lengths->n; i++) {
        char name[32];
        snprintf(name, sizeof name, "frames_%d", (int)lengths->items[i]);
        of_length = of_length || !strcmp(name, measure);
    }
    return listed && of_length;
}

/* A claim about a row that is never measured would stay unjudged for ever. */
static void test_claims_are_measured(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    for (const pith_card_source *s = pith_card_sources; s->family; s++)
        for (int quick = 0; quick < 2; quick++) {
            pith_card *card;
            assert_ok(ctx, pith_card_load(ctx, s->id, quick, &card));
            pith_row_values v = {card->n_rows, card->n_measures, 1, calloc(card->n_rows * card->n_measures + 1, sizeof(double))};
            for (size_t r = 0; r < v.n_rows; r++)
                for (size_t m = 0; m < v.n_measures; m++)
                    *pith_row_value_at(&v, r, m, 0) = is_listed(card, card->rows[r].name, card->measures[m].name) ? 1 + 0.1 * (double)(r * v.n_measures + m) : NAN;
            for (size_t i = 0; i < card->n_claims; i++) {
                char numbers[2048];
                if (quick && !card->claims[i].quick) continue;
                pith_claim_judge(card->claims[i].parsed, &v, numbers, sizeof numbers);
                if (strchr(numbers, '?')) fail_msg("%s%s: '%s' speaks of what is not measured: %s", s->id, quick ? " (quick)" : "", card->claims[i].text, numbers);
            }
            free(v.at);
            pith_card_free(card);
        }
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *user)
{
    (void)user;
    static const char text[] = CARD_HEAD CARD_ROWS CARD_TRAIN "claims: [\"ours.acc > least(dense.acc, 2)\"]\n";
    pith_card *card = NULL;
    pith_status status = pith_card_parse(ctx, "card.yaml", text, sizeof text - 1, false, &card);
    pith_card_free(card);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault(life, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_train),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_built_in),
        cmocka_unit_test(test_claims_are_measured),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
