/* The cards of compressed gradients on small settings: the same on any number of threads, what is wrong is said, and nothing
 * is left when memory ends. */
#include <math.h>

#include "recipe/cards.h"
#include "recipe/grads/problems.h"

/* Their data is made by the program: no folder, no cache. */
#define HEAD(procedure) "id: mine\nfamily: tests\ntitle: t\npaper: arXiv:1\nline: l\nmechanism: m\nstream: grads\nminutes: 1\nprocedure: " procedure "\n"
#define L_GRECO "{rank: 2, bits: 4, share: 0.05, alpha: 1, change: 0.5, interval: 2, observed: 1, buckets: 500, "
#define CNN "cnn: {data: [factors], n_workers: 2, batch: 2, items: 16, held_out: 8, net: resnet20, net_settings: '{\"blocks\": 1, \"width\": 4}', steps: 4, rate: 0.05, momentum: 0.9}"
#define ECONTROL "{dims: 10, steps: 10, noisy_steps: 10, share: 0.1, zeta: 1, zeta_more: 10, sigma: 1, rates: [0.1], etas: [0.1], image_etas: [0.1], logreg_rates: [0.01], cnn_rates: [0.05], cnn_shares: [0.1], "
#define LOGREG "logreg: {data: [factors], n_workers: 4, batch: 2, items: 30, held_out: 8, sorted: true, steps: 4, rate: 0.01}, "
#define L_MEASURES "measures: {acc: a, loss: b, train_loss: c, bytes: d, kilobytes: e, param: f, moved: g, error_share: h, search_percent: i, table_percent: j, link_ms: k, step_ms: l}\n"
#define E_MEASURES "measures: {acc: a, loss: b, train_loss: c, rate: d, eta: e, kilobytes: f, link_s: g, step_ms: h}\n"

static const char l_greco[] = HEAD("l_greco") "settings: " L_GRECO CNN ", runs: [lgreco_power_cnn, both_qsgd_cnn]}\n"
                                              "rows: {lgreco_power_cnn: a, both_qsgd_cnn: b}\n" L_MEASURES "claims: ['lgreco_power_cnn.bytes > 0']\n";
static const char econtrol[] = HEAD("econtrol") "settings: " ECONTROL LOGREG CNN ", runs: [econtrol_logreg, ef21_cnn1]}\n"
                                                "rows: {econtrol_logreg: a, ef21_cnn1: b}\n" E_MEASURES "claims: ['econtrol_logreg.loss > 0']\n";

static pith_status run_card(pith_ctx *ctx, const char *text, pith_run *run)
{
    pith_card *card;
    PITH_TRY(pith_card_parse(ctx, "card.yaml", text, strlen(text), false, &card));
    *run = (pith_run){.ctx = ctx, .card = card, .seed = 1, .folder = "/nowhere"};
    return card->procedure->run(run);
}

static void end_run(pith_run *run)
{
    pith_run_clear(run);
    pith_card_free((pith_card *)(uintptr_t)run->card);
}

static void test_threads(void **state)
{
    (void)state;
    static const char *const texts[] = {l_greco, econtrol};
    for (size_t t = 0; t < PITH_COUNT(texts); t++) {
        pith_ctx *one = test_ctx(1), *two = test_ctx(2);
        pith_run a = {0}, b = {0};
        assert_ok(one, run_card(one, texts[t], &a));
        assert_ok(two, run_card(two, texts[t], &b));
        assert_true(a.n_values > 10 && a.n_values == b.n_values);
        for (size_t i = 0; i < a.n_values; i++) {
            const char *measure = a.card->measures[a.values[i].measure].name;
            if (strstr(measure, "percent") || !strcmp(measure, "step_ms")) continue; /* times */
            assert_true(a.values[i].value == b.values[i].value);
        }
        end_run(&a);
        end_run(&b);
        pith_ctx_free(one);
        pith_ctx_free(two);
    }
}

/* Runs that cannot be, and settings that are not there. */
static void test_wrong(void **state)
{
    (void)state;
    static const char *const runs[] = {"lgreco_cnn", "lgreco_power_vgg", "lgreco_power_cnn_2", "dense_power_cnn", "nothing", "equal_power_cnn", "greedy_qsgd_cnn", "uniform_power_lm"};
    static const char *const others[] = {"econtrol_cnn2", "econtrol_cnn0", "ideal_logreg", "batch_cnn1", "eta1_cnn1", "dense_lm"};
    pith_options o = {.n_threads = 1, .log_level = PITH_LOG_ERROR};
    pith_ctx *ctx;
    assert_int_equal(pith_ctx_new(&o, &ctx), PITH_OK);
    for (size_t i = 0; i < PITH_COUNT(runs) + PITH_COUNT(others); i++) {
        bool first = i < PITH_COUNT(runs);
        const char *name = first ? runs[i] : others[i - PITH_COUNT(runs)];
        char text[4096];
        snprintf(text, sizeof text, "%s%s%s%s%s, runs: [%s]}\nrows: {%s: a}\n%sclaims: ['%s.loss > 0']\n", first ? HEAD("l_greco") : HEAD("econtrol"), "settings: ", first ? L_GRECO : ECONTROL, first ? "" : LOGREG, CNN, name,
                 name, first ? L_MEASURES : E_MEASURES, name);
        pith_run run = {0};
        assert_int_equal(run_card(ctx, text, &run), PITH_E_ARGUMENT);
        assert_non_null(strstr(pith_error(ctx), name));
        end_run(&run);
    }
    pith_ctx_free(ctx);
}

/* A problem starts anew each time; fewer values learn less; sorted or not is another problem; what diverges is said to. */
static void test_problem(void **state)
{
    (void)state;
    pith_ctx *ctx = test_ctx(1);
    double losses[2];
    for (int sorted = 0; sorted < 2; sorted++) {
        pith_problem_settings s = {.data = {1, (const char *[]){"factors"}}, .n_workers = 4, .batch = 4, .items = 64, .held_out = 16, .sorted = sorted, .steps = 30, .rate = 3e-4};
        char text[4096];
        snprintf(text, sizeof text, "%s", econtrol);
        pith_run run = {0};
        pith_card *card = test_card(ctx, text, false);
        run = (pith_run){.ctx = ctx, .card = card, .seed = 3, .folder = "/nowhere"};
        pith_problem *p;
        assert_ok(ctx, pith_problem_new(&run, PITH_PROBLEM_LOGREG, &s, &p));
        pith_way_result dense, top, again;
        /* one value in 500 without feedback: what each worker sends is of its own classes */
        assert_ok(ctx, pith_problem_train(p, &(pith_way){.rate = 3e-4}, &dense));
        assert_ok(ctx, pith_problem_train(p, &(pith_way){.channel = {.compressor = {PITH_COMPRESS_TOP_K, 0.002}}}, &top));
        assert_ok(ctx, pith_problem_train(p, &(pith_way){.channel = {.compressor = {PITH_COMPRESS_TOP_K, 0.002}}}, &again));
        assert_true(top.train_loss == again.train_loss && top.bytes == again.bytes); /* nothing stays from run to run */
        assert_true(dense.train_loss < top.train_loss && top.bytes < 0.01 * dense.bytes && !dense.diverged);
        assert_true(dense.exchanges == 30 && dense.bytes == 30 * 4 * (3072 * 4 + 4));
        assert_ok(ctx, pith_problem_train(p, &(pith_way){.rate = 1e30}, &again));
        assert_true(again.diverged && again.accuracy <= 0 && again.train_loss >= PITH_DIVERGED);
        losses[sorted] = top.train_loss;
        pith_problem_free(p);
        end_run(&run);
    }
    assert_true(losses[0] != losses[1]);
    pith_ctx_free(ctx);
}

static pith_status life(pith_ctx *ctx, const void *text)
{
    pith_run run = {.ctx = ctx};
    pith_status status = run_card(ctx, text, &run);
    end_run(&run);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    test_every_fault_with(life, l_greco, &(test_fault_options){.name = "l_greco", .sparse = 12});
    test_every_fault_with(life, econtrol, &(test_fault_options){.name = "econtrol", .sparse = 12});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads), cmocka_unit_test(test_wrong), cmocka_unit_test(test_problem), cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
