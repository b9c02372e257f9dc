/* Running cards: rows by seed, verdicts, JSON and the page of results; beds in a cache, trained once, gone on with after
 * a stop; and the built-in procedures on small settings. */
#include <math.h>
#include <unistd.h>

#include "files.h"
#include "recipe/cards.h"
#include "recipe/reproduce.h"

static int make_root(void **state)
{
    if (test_make_folder(state)) return 1;
    unsetenv("PITH_DATA");
    setenv("TMPDIR", test_folder, 1);
    return setenv("XDG_CACHE_HOME", test_folder, 1);
}

/* ---- a procedure whose numbers are known ------------------------------------------------------ */

static char scratch[256]; /* the folder that the last run had */

static pith_status known(pith_run *run)
{
    snprintf(scratch, sizeof scratch, "%s", run->folder);
    char *file = pith_format(run->ctx, "%s/file", run->folder);
    if (!file) return PITH_E_MEMORY;
    test_write_text(file, "");
    pith_free(run->ctx, file);
    PITH_TRY(pith_run_note(run, "made of %s", "nothing"));
    PITH_TRY(pith_run_note(run, "made of nothing")); /* once each */
    PITH_TRY(pith_run_row(run, "ours", "acc", (double)run->seed));
    PITH_TRY(pith_run_row(run, "ours", "bytes", 10));
    PITH_TRY(pith_run_row(run, "dense", "acc", 2));
    return pith_run_row(run, "dense", "bytes", 40);
}
static pith_status undeclared(pith_run *run) { return pith_run_row(run, "ours", "speed", 1); }
static pith_status twice(pith_run *run) { return pith_run_row(run, "ours", "acc", 1) || pith_run_row(run, "ours", "acc", 1); }
static pith_status infinite(pith_run *run) { return pith_run_row(run, "ours", "acc", INFINITY); }

static const char known_card[] = CARD_HEAD CARD_ROWS CARD_TRAIN
    "seeds: 3\nclaims:\n  - {claim: ours.acc == dense.acc, quick: true}\n  - {claim: ours.bytes > dense.bytes, says: larger}\n  - other.acc > 1\n";

static pith_card *card_of(pith_ctx *ctx, const char *text, bool quick, pith_status (*run)(pith_run *), pith_procedure *procedure)
{
    pith_card *card = test_card(ctx, text, quick);
    *procedure = *card->procedure;
    procedure->run = run;
    card->procedure = procedure;
    return card;
}

static void test_report(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_procedure p;
    pith_report *r;
    assert_ok(ctx, pith_reproduce(ctx, card_of(ctx, known_card, false, known, &p), &(pith_reproduce_options){0}, &r));
    assert_int_equal(r->values.n_seeds, 3);
    assert_true(*pith_row_value_at(&r->values, 0, 0, 2) == 3); /* seeds 1, 2, 3 */
    assert_true(isnan(*pith_row_value_at(&r->values, 2, 0, 0)));
    assert_true(r->claims[0].judged && r->claims[0].verdict == PITH_HOLDS);
    assert_string_equal(r->claims[0].numbers, "2 ± 1 == 2 ± 0");
    assert_int_equal(r->claims[1].verdict, PITH_FAILS);
    assert_int_equal(r->claims[2].verdict, PITH_UNJUDGED);
    assert_false(pith_report_holds(r));
    assert_int_equal(r->n_notes, 1);
    assert_int_not_equal(access(scratch, F_OK), 0); /* scratch is gone */

    /* what is written reads as what was measured, and makes the page */
    char *folder = pith_format(ctx, "%s/results/deep", test_folder), *path, *page;
    assert_ok(ctx, pith_report_save(r, folder, &path));
    assert_non_null(strstr(path, "results/deep/mine.json"));
    cJSON *json;
    assert_ok(ctx, pith_json_read(ctx, path, &json));
    const cJSON *row = cJSON_GetArrayItem(pith_json_get(json, "rows"), 0);
    assert_true(cJSON_GetArrayItem(pith_json_get(pith_json_get(row, "values"), "acc"), 1)->valuedouble == 2);
    assert_string_equal(pith_json_text(cJSON_GetArrayItem(pith_json_get(json, "claims"), 1), "verdict"), "fails");
    cJSON_Delete(json);
    pith_report_free(r);
    pith_free(ctx, path);
    assert_ok(ctx, pith_results_page(ctx, folder, &page));
    assert_non_null(strstr(page, "## mine\n\nA title (arXiv:1). One line\n"));
    assert_non_null(strstr(page, "| **ours** | 2 ± 1 | 10 ± 0 | this |\n| dense | 2 ± 0 | 40 ± 0 | that |\n"));
    assert_non_null(strstr(page, "- **fails**: `ours.bytes > dense.bytes` (larger): 10 ± 0 > 40 ± 0\n- **not measured**: `other.acc > 1`: ? > 1\n"));
    assert_null(strstr(page, "third")); /* a row that was not measured */
    pith_free(ctx, page);

    /* quick: one more seed than asked for is not run, only quick claims are judged, and no full result is replaced */
    assert_ok(ctx, pith_reproduce(ctx, card_of(ctx, known_card, true, known, &p), &(pith_reproduce_options){.n_seeds = 1, .first_seed = 2, .budget_minutes = 1}, &r));
    assert_int_equal(r->card->train.steps, 50); /* half of its two minutes */
    assert_true(r->claims[0].judged && !r->claims[1].judged && pith_report_holds(r));
    assert_ok(ctx, pith_report_save(r, folder, &path));
    assert_non_null(strstr(path, "mine-quick.json"));
    pith_free(ctx, path);
    pith_report_free(r);
    char *again;
    assert_ok(ctx, pith_results_page(ctx, folder, &again));
    assert_null(strstr(again, "quick"));
    pith_free(ctx, again);

    /* a file that is no report is named */
    char *bad = pith_format(ctx, "%s/bad.json", folder);
    test_write_text(bad, "{\"card\": \"x\"}");
    assert_int_equal(pith_results_page(ctx, folder, &page), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(ctx), "bad.json"));
    test_write_text(bad, "{\"card\": ");
    assert_int_equal(pith_results_page(ctx, folder, &page), PITH_E_CORRUPT);
    assert_int_equal(pith_results_page(ctx, "/nowhere", &page), PITH_E_IO);
    pith_free(ctx, bad);
    pith_free(ctx, folder);
    pith_ctx_free(ctx);
}

static void test_wrong_reports(void **state)
{
    (void)state;
    static const struct {
        pith_status (*run)(pith_run *);
        pith_status status;
        const char *says;
    } cases[] = {{undeclared, PITH_E_ARGUMENT, "the measure 'speed', which the card does not name"}, {twice, PITH_E_ARGUMENT, "ours.acc was reported already"}, {infinite, PITH_E_NONFINITE, "ours.acc is not finite"}};
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(cases); i++) {
        pith_procedure p;
        pith_report *r = NULL;
        assert_int_equal(pith_reproduce(ctx, card_of(ctx, known_card, false, cases[i].run, &p), &(pith_reproduce_options){0}, &r), cases[i].status);
        assert_non_null(strstr(pith_error(ctx), cases[i].says));
        assert_null(r);
    }
    pith_ctx_free(ctx);
}

/* ---- a run that is interrupted ---------------------------------------------------------------- */

static const char *stops_at; /* the row at which it is interrupted; NULL: none */
static char made[64];        /* the rows that were made, in order */

static pith_status make_row(void *user, const char *row)
{
    pith_run *run = user;
    PITH_TRY(pith_run_row(run, row, "acc", made[0] ? 0.5 : 0.25)); /* a row that was begun is made again */
    if (stops_at && !strcmp(row, stops_at)) return pith_fail(run->ctx, PITH_E_CANCELLED, "stopped");
    PITH_TRY(pith_run_note(run, "made %s", row));
    snprintf(made + strlen(made), sizeof made - strlen(made), "%s ", row);
    return pith_run_row(run, row, "bytes", 1.0 / 3 + (double)run->seed);
}

static pith_status in_parts(pith_run *run)
{
    static const char *rows[] = {"ours", "dense"};
    double kept = 0;
    PITH_TRY(pith_run_each(run, &(pith_names){.n = 2, .items = rows}, make_row, run));
    if (!pith_run_has_part(run, "other", &kept)) kept = (double)strlen(made);
    PITH_TRY(pith_run_part_done(run, "other", kept));
    if (stops_at && !strcmp(stops_at, "other")) return pith_fail(run->ctx, PITH_E_CANCELLED, "stopped");
    return pith_run_row(run, "other", "acc", kept);
}

static pith_status run_in_parts(pith_ctx *ctx, const char *stop, pith_report **report)
{
    static pith_procedure p; /* the report's card points at it */
    stops_at = stop;
    made[0] = 0;
    return pith_reproduce(ctx, card_of(ctx, known_card, false, in_parts, &p), &(pith_reproduce_options){.n_seeds = 2}, report);
}

static void test_interrupted(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_report *r = NULL;
    assert_int_equal(run_in_parts(ctx, "dense", &r), PITH_E_CANCELLED);
    assert_string_equal(made, "ours ");
    assert_int_equal(run_in_parts(ctx, "other", &r), PITH_E_CANCELLED);
    assert_string_equal(made, "dense ");
    assert_ok(ctx, run_in_parts(ctx, NULL, &r)); /* of seed 1 all is there but the last row's value */
    assert_string_equal(made, "ours dense ");
    assert_true(*pith_row_value_at(&r->values, 0, 1, 0) == 1.0 / 3 + 1); /* ours.bytes of seed 1, to the bit */
    assert_true(*pith_row_value_at(&r->values, 1, 1, 1) == 1.0 / 3 + 2);
    assert_true(*pith_row_value_at(&r->values, 2, 0, 0) == strlen("dense "));
    assert_true(*pith_row_value_at(&r->values, 2, 0, 1) == strlen("ours dense "));
    assert_true(r->seconds > 0);
    bool told = false, noted = false;
    for (size_t i = 0; i < r->n_notes; i++) {
        told |= strstr(r->notes[i], "seed 1: 3 parts are of a run that was interrupted") != NULL;
        noted |= !strcmp(r->notes[i], "made dense");
    }
    assert_true(told && noted);

    /* until it is settled the next run has nothing to do */
    pith_report *again;
    assert_ok(ctx, run_in_parts(ctx, NULL, &again));
    assert_string_equal(made, "");
    assert_string_equal(again->kept[0], r->kept[0]);
    assert_string_not_equal(r->kept[0], r->kept[1]);
    pith_report_free(again);

    /* what cannot be read is told, and the run begins anew */
    for (int i = 0; i < 3; i++) {
        static const char *const bad[] = {"{\"parts\": ", "{\"rows\": {}}", "{\"parts\": {}, \"seconds\": 1, \"rows\": {\"ours\": {\"speed\": 1}}}"};
        test_write_text(r->kept[0], bad[i]);
        assert_ok(ctx, run_in_parts(ctx, NULL, &again));
        assert_string_equal(made, "ours dense ");
        pith_report_free(again);
    }
    pith_report_settle(r);
    assert_int_not_equal(access(r->kept[0], F_OK), 0);
    assert_int_not_equal(access(r->kept[1], F_OK), 0);
    pith_report_settle(r); /* nothing to do is no failure */

    /* where nothing can be kept the run goes on */
    const char *folder = test_path("pith/runs");
    assert_ok(ctx, pith_folder_remove(ctx, folder));
    test_write_text(folder, "");
    assert_ok(ctx, run_in_parts(ctx, NULL, &again));
    assert_null(again->kept[0]);
    assert_int_equal(unlink(folder), 0);
    pith_report_free(again);
    pith_report_free(r);
    pith_ctx_free(ctx);
}

static pith_status reproduce_known(pith_ctx *ctx, const void *user)
{
    (void)user;
    pith_card *card;
    pith_report *r = NULL;
    PITH_TRY(pith_card_parse(ctx, "card.yaml", known_card, sizeof known_card - 1, false, &card));
    pith_procedure p = *card->procedure;
    p.run = known;
    card->procedure = &p;
    pith_status status = pith_reproduce(ctx, card, &(pith_reproduce_options){.n_seeds = 2}, &r);
    cJSON *json = r ? pith_report_json(r) : NULL;
    assert_true(!r || json);
    cJSON_Delete(json);
    pith_report_free(r);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault(reproduce_known, NULL);
}

/* ---- beds ------------------------------------------------------------------------------------- */

static int n_trained, n_attempts;
static bool stop_in_the_middle;

static pith_status train_bed(pith_run *run)
{
    char *file = pith_format(run->ctx, "%s/checkpoint", run->folder);
    n_attempts = access(file, F_OK) == 0 ? n_attempts + 1 : 1; /* what an interrupted run left is there */
    test_write_text(file, "");
    pith_free(run->ctx, file);
    if (stop_in_the_middle) return pith_fail(run->ctx, PITH_E_CANCELLED, "stopped");
    n_trained++;
    PITH_TRY(pith_run_note(run, "from a test"));
    return pith_run_row(run, "ours", "acc", 0.5 + (double)run->seed);
}

static const char bed_card[] = CARD_HEAD CARD_ROWS CARD_TRAIN "kind: bed\n";

static void test_bed(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    pith_procedure p;
    pith_bed *bed = NULL;
    char *path;
    bool there;
    double value;
    n_trained = 0;
    stop_in_the_middle = true;
    assert_int_equal(pith_bed_of_card(ctx, card_of(ctx, bed_card, false, train_bed, &p), 1, &bed), PITH_E_CANCELLED);
    pith_card *card = test_card(ctx, bed_card, false);
    assert_ok(ctx, pith_bed_path(ctx, card, 1, &path, &there));
    assert_false(there);
    stop_in_the_middle = false;
    assert_ok(ctx, pith_bed_of_card(ctx, card_of(ctx, bed_card, false, train_bed, &p), 1, &bed));
    assert_false(bed->was_cached);
    assert_int_equal(n_attempts, 2);
    assert_string_equal(bed->folder, path);
    assert_ok(ctx, pith_bed_value(bed, "ours", "acc", &value));
    assert_true(value == 1.5);
    assert_int_equal(pith_bed_value(bed, "ours", "bytes", &value), PITH_E_ARGUMENT);
    pith_bed_close(bed);
    assert_ok(ctx, pith_bed_of_card(ctx, card_of(ctx, bed_card, false, train_bed, &p), 1, &bed));
    assert_true(bed->was_cached);
    assert_int_equal(n_trained, 1);
    pith_bed_close(bed);
    /* reproduced, it is what the cache has, and goes there where it is not */
    pith_report *r;
    assert_ok(ctx, pith_reproduce(ctx, card_of(ctx, bed_card, false, train_bed, &p), &(pith_reproduce_options){.n_seeds = 2}, &r));
    assert_int_equal(n_trained, 2);
    assert_true(*pith_row_value_at(&r->values, 0, 0, 0) == 1.5 && *pith_row_value_at(&r->values, 0, 0, 1) == 2.5);
    assert_int_equal(r->n_notes, 1);
    assert_string_equal(r->notes[0], "from a test");
    pith_report_free(r);
    assert_int_equal(pith_reproduce(ctx, card_of(ctx, bed_card, false, train_bed, &p), &(pith_reproduce_options){.budget_minutes = 1}, &r), PITH_E_ARGUMENT);
    /* another seed, quick, or another text: another bed */
    pith_card *quick = test_card(ctx, bed_card, true), *other = test_card(ctx, CARD_HEAD CARD_ROWS CARD_TRAIN "kind: bed\nseeds: 2\n", false);
    const struct {
        const pith_card *card;
        uint64_t seed;
    } others[] = {{card, 3}, {quick, 1}, {other, 1}};
    for (size_t i = 0; i < PITH_COUNT(others); i++) {
        char *path2;
        assert_ok(ctx, pith_bed_path(ctx, others[i].card, others[i].seed, &path2, &there));
        assert_string_not_equal(path, path2);
        assert_false(there);
        pith_free(ctx, path2);
    }
    pith_card_free(card);
    pith_card_free(quick);
    pith_card_free(other);
    pith_free(ctx, path);
    assert_int_equal(pith_bed_of_card(ctx, card_of(ctx, known_card, false, known, &p), 1, &bed), PITH_E_ARGUMENT); /* no bed */
    assert_int_equal(pith_bed_get(ctx, "simvq", true, 1, &bed), PITH_E_ARGUMENT);
    pith_ctx_free(ctx);
}

/* A card that starts from a bed in a file, really trained: a network of two convolutions, in two steps. */
static const char small_bed[] =
    "id: small\nfamily: tests\nkind: bed\ntitle: t\nline: l\nmechanism: m\nstream: weights\nminutes: 1\ndata: [factors]\nprocedure: classifier\n"
    "settings: {net: vgg, net_settings: '{\"widths\": [2, 2]}', images: [factors], n_images: 16, n_test: 8, evaluations: 1}\n"
    "train: {rate: 1e-3, steps: 2, batch: 4}\nrows: {bed: b}\nmeasures: {acc: a, loss: l, parameters: p}\n";
static char bed_path[256];
static bool cached_before;

static pith_status use_bed(pith_run *run)
{
    pith_bed *bed = NULL;
    double acc;
    if (pith_bed_open(run, "vgg6", &bed) != PITH_E_ARGUMENT) return PITH_E_INTERNAL; /* not in its beds */
    PITH_TRY(pith_bed_open(run, bed_path, &bed));
    cached_before = bed->was_cached;
    char *model = pith_format(run->ctx, "%s/net.safetensors", bed->folder);
    bool there = access(model, R_OK) == 0;
    pith_free(run->ctx, model);
    pith_status status = there ? pith_bed_value(bed, "bed", "acc", &acc) : PITH_E_INTERNAL;
    pith_bed_close(bed);
    return status == PITH_OK ? pith_run_row(run, "ours", "acc", acc) : status;
}

static void test_bed_of_run(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    char text[1024];
    snprintf(bed_path, sizeof bed_path, "%s/small.yaml", test_folder);
    test_write_text(bed_path, small_bed);
    snprintf(text, sizeof text, CARD_HEAD CARD_ROWS CARD_TRAIN "beds: [%s]\nclaims: [ours.acc >= 0]\n", bed_path);
    for (int pass = 0; pass < 2; pass++) {
        pith_procedure p;
        pith_report *r;
        assert_ok(ctx, pith_reproduce(ctx, card_of(ctx, text, false, use_bed, &p), &(pith_reproduce_options){0}, &r));
        assert_int_equal(cached_before, pass);
        assert_true(pith_report_holds(r));
        assert_int_equal(r->n_notes, 2); /* its data */
        assert_non_null(strstr(r->notes[0], "small.yaml: data: factors train"));
        pith_report_free(r);
    }
    /* a bed that needs itself would wait for itself */
    pith_bed *bed = NULL;
    snprintf(text, sizeof text, "%sbeds: [%s]\n", small_bed, bed_path);
    pith_card *card = test_card(ctx, text, false);
    pith_run itself = {.ctx = ctx, .card = card, .seed = 99};
    assert_int_equal(pith_bed_open(&itself, bed_path, &bed), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(ctx), "needs itself"));
    pith_card_free(card);
    pith_ctx_free(ctx);
}

static pith_status use_data(pith_run *run)
{
    const char *name = "factors";
    pith_dataset *ds;
    PITH_TRY(pith_run_data(run, &(pith_names){1, &name}, "test", &(pith_dataset_options){.n = 1 << 20, .size = 16}, &ds));
    size_t n = ds->n;
    pith_dataset_free(ds);
    return pith_run_row(run, "ours", "acc", (double)n);
}

/* A card asks for at most so many items, and the result says where there were fewer. */
static void test_fewer_items(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(2);
    pith_procedure p;
    pith_report *r;
    assert_ok(ctx, pith_reproduce(ctx, card_of(ctx, CARD_HEAD CARD_ROWS CARD_TRAIN "claims: [ours.acc == 5000]\n", false, use_data, &p), &(pith_reproduce_options){0}, &r));
    assert_true(pith_report_holds(r));
    assert_int_equal(r->n_notes, 2);
    assert_non_null(strstr(r->notes[1], "the card asks for 1048576 items of factors test; there are 5000"));
    pith_report_free(r);
    pith_ctx_free(ctx);
}

/* ---- built-in cards --------------------------------------------------------------------------- */

static void run_quick(pith_ctx *ctx, const char *id, pith_report **r)
{
    pith_card *card;
    assert_ok(ctx, pith_card_load(ctx, id, true, &card));
    assert_ok(ctx, pith_reproduce(ctx, card, &(pith_reproduce_options){0}, r));
    if (!pith_report_holds(*r)) fail_msg("%s: a claim that is judged when quick does not hold", id);
}

static bool is_time(const char *measure)
{
    size_t len = strlen(measure);
    return (len > 2 && !strcmp(measure + len - 2, "_s")) || (len > 3 && !strcmp(measure + len - 3, "_ms"));
}

/* The same numbers on one thread and on two, but for times. */
static void test_quick(void **state)
{
    (void)state;
    static const char *const ids[] = {"simvq", "gradual-pruning", "2d-matryoshka", "nested-dropout", "quantized-distillation", "sparse-rnn", "probabilistic-circuits", "rnn-review", "lrcn"};
    for (size_t i = 0; i < PITH_COUNT(ids); i++) {
        pith_ctx *one = test_ctx(1), *two = test_ctx(2);
        pith_report *a, *b;
        run_quick(one, ids[i], &a);
        run_quick(two, ids[i], &b);
        size_t n = a->values.n_rows * a->values.n_measures * a->values.n_seeds, n_measured = 0;
        for (size_t k = 0; k < n; k++) n_measured += !isnan(a->values.at[k]);
        assert_true(n_measured > 0);
        for (size_t k = 0; k < n; k++)
            if (!is_time(a->card->measures[k / a->values.n_seeds % a->values.n_measures].name)) assert_memory_equal(&a->values.at[k], &b->values.at[k], sizeof(double));
        pith_report_free(a);
        pith_report_free(b);
        pith_ctx_free(one);
        pith_ctx_free(two);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report), cmocka_unit_test(test_wrong_reports), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_bed), cmocka_unit_test(test_bed_of_run), cmocka_unit_test(test_fewer_items), cmocka_unit_test(test_quick),
    };
    return cmocka_run_group_tests(tests, make_root, test_drop_folder);
}
