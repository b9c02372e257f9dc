/* pith reproduce: run a card, show its rows beside each other, judge its claims. */
#include <math.h>

#include "cli/cli.h"
#include "recipe/reproduce.h"

typedef struct reproduce_args {
    const char *card, *results, *report;
    bool all, quick, full, no_save;
    int64_t seeds, seed;
    double budget;
} reproduce_args;

static const pith_positional positionals[] = {
    {"CARD", PITH_ARG_FILE, offsetof(reproduce_args, card), true, "the id of a card (`pith recipes` lists them), or the path of one of your own"},
    {0},
};

static const pith_arg options[] = {
    {"all", 0, PITH_ARG_FLAG, NULL, offsetof(reproduce_args, all), .help = "every built-in card, beds too"},
    {"quick", 0, PITH_ARG_FLAG, NULL, offsetof(reproduce_args, quick),
     .help = "the card's quick settings: seconds, to see that it works; only claims that mean something then are judged"},
    {"full", 0, PITH_ARG_FLAG, NULL, offsetof(reproduce_args, full), .help = "the card's own settings, as without --quick"},
    {"seeds", 0, PITH_ARG_INT, "N", offsetof(reproduce_args, seeds), .min = 1, .max = 100, .help = "how many runs with different seeds; the card says when not given"},
    {"seed", 0, PITH_ARG_INT, "N", offsetof(reproduce_args, seed), .fallback = "1", .min = 1, .max = 1e9, .help = "the first seed"},
    {"budget", 0, PITH_ARG_REAL, "MINUTES", offsetof(reproduce_args, budget), .min = 0.01, .max = 1e6,
     .help = "scale the training of all rows alike so that the card takes about so long; beds are not scaled"},
    {"results", 0, PITH_ARG_FILE, "FOLDER", offsetof(reproduce_args, results), .fallback = "pith-results", .help = "where the result is written, as CARD.json or CARD-quick.json"},
    {"no-save", 0, PITH_ARG_FLAG, NULL, offsetof(reproduce_args, no_save), .help = "write no result"},
    {"report", 0, PITH_ARG_FILE, "FOLDER", offsetof(reproduce_args, report), .help = "run nothing: print a Markdown page of the results of full runs that are in this folder"},
    {0},
};

static const pith_example examples[] = {
    {"pith reproduce simvq --quick", "see that it works"},
    {"pith reproduce simvq --seeds 3", "a full run with three seeds"},
    {"pith reproduce --all --quick", "every card, in minutes"},
    {"pith reproduce --report pith-results > results.md", "the page of results"},
    {0},
};

/* ---- what is printed -------------------------------------------------------------------------- */

/* The widest of the cells that "0.9712 ± 0.0021" needs. */
typedef struct cell {
    char text[40];
} cell;

static cell value_cell(const pith_row_values *v, size_t row, size_t measure)
{
    cell c = {"-"};
    double sum = 0, square = 0, n = (double)v->n_seeds;
    for (size_t s = 0; s < v->n_seeds; s++) sum += *pith_row_value_at(v, row, measure, s);
    if (isnan(sum)) return c;
    for (size_t s = 0; s < v->n_seeds; s++) {
        double d = *pith_row_value_at(v, row, measure, s) - sum / n;
        square += d * d;
    }
    int len = snprintf(c.text, sizeof c.text, "%.4g", sum / n);
    if (v->n_seeds > 1) snprintf(c.text + len, sizeof c.text - (size_t)len, " ± %.2g", sqrt(square / (n - 1)));
    return c;
}

static bool was_measured(const pith_row_values *v, size_t row)
{
    for (size_t m = 0; m < v->n_measures; m++)
        if (!isnan(*pith_row_value_at(v, row, m, 0))) return true;
    return false;
}

static pith_status print_rows(pith_cli *cli, const pith_report *r)
{
    const pith_card *card = r->card;
    char align[64] = "l", line[1024];
    size_t n = PITH_MIN(card->n_measures, sizeof align - 3);
    memset(align + 1, 'r', n);
    align[n + 1] = 'l';
    pith_table *table = pith_table_new(cli->ctx, align);
    if (!table) return PITH_E_MEMORY;
    pith_status status = PITH_OK;
    for (size_t i = 0; i <= card->n_rows && status == PITH_OK; i++) {
        const pith_card_row *row = i ? &card->rows[i - 1] : NULL;
        if (row && !was_measured(&r->values, i - 1)) continue;
        int len = snprintf(line, sizeof line, "%s", row ? row->name : "row");
        for (size_t m = 0; m < n && len < (int)sizeof line; m++)
            len += snprintf(line + len, sizeof line - (size_t)len, "\t%s", row ? value_cell(&r->values, i - 1, m).text : card->measures[m].name);
        status = pith_table_row(table, "%s\t%s%s", line, row && row->beside ? "beside: " : "", row ? row->what : "");
    }
    if (status == PITH_OK) return pith_table_print(table, stdout);
    pith_table_free(table);
    return status;
}

static pith_status print_text(pith_cli *cli, const pith_report *r, const char *path)
{
    static const char *const words[] = {[PITH_HOLDS] = "holds", [PITH_FAILS] = "FAILS", [PITH_UNJUDGED] = "FAILS"};
    const pith_card *card = r->card;
    size_t n_left = 0;
    printf("%s: %s%s\n\n", card->id, card->line, card->quick ? " (quick run)" : "");
    PITH_TRY(print_rows(cli, r));
    printf("\n");
    for (size_t i = 0; i < card->n_claims; i++) {
        const pith_judgement *j = &r->claims[i];
        n_left += !j->judged;
        if (!j->judged) continue;
        printf("%s  %s\n", words[j->verdict], card->claims[i].says ? card->claims[i].says : card->claims[i].text);
        if (card->claims[i].says) printf("       %s\n", card->claims[i].text);
        printf("       %s%s\n", j->numbers, j->verdict == PITH_UNJUDGED ? " (not measured)" : "");
    }
    if (n_left) printf("%zu more claim%s judged in full runs only\n", n_left, n_left == 1 ? " is" : "s are");
    for (size_t i = 0; i < r->n_notes; i++) printf("%s%s\n", i ? "" : "\n", r->notes[i]);
    printf("\n%s, %llu seed%s\n", pith_text_duration(r->seconds).s, (unsigned long long)r->values.n_seeds, r->values.n_seeds == 1 ? "" : "s");
    if (path) printf("written to %s\n", path);
    return PITH_OK;
}

/* ---- running ---------------------------------------------------------------------------------- */

/* One card; `list` collects JSON where it is wanted.  held: false when a claim does not hold, else as it was. */
static pith_status run_card(pith_cli *cli, const reproduce_args *a, const char *which, cJSON *list, bool *held)
{
    pith_card *card;
    pith_report *report;
    char *path = NULL;
    PITH_TRY(pith_card_load(cli->ctx, which, a->quick, &card));
    pith_reproduce_options o = {.n_seeds = (uint64_t)a->seeds, .first_seed = (uint64_t)a->seed, .budget_minutes = a->budget};
    PITH_TRY(pith_reproduce(cli->ctx, card, &o, &report));
    pith_terminal_clear(cli->terminal);
    pith_status status = a->no_save ? PITH_OK : pith_report_save(report, a->results, &path);
    if (status == PITH_OK && list) {
        cJSON *json = pith_report_json(report);
        if (!json || !cJSON_AddItemToArray(list, json)) status = PITH_E_MEMORY;
    } else if (status == PITH_OK) {
        status = print_text(cli, report, path);
    }
    if (status == PITH_OK) pith_report_settle(report);
    if (!pith_report_holds(report)) *held = false;
    pith_free(cli->ctx, path);
    pith_report_free(report);
    return status;
}

/* Every built-in card; one that fails does not keep the others from running. */
static pith_status run_all(pith_cli *cli, const reproduce_args *a, cJSON *list, bool *held)
{
    size_t n_failed = 0, n = 0;
    pith_status first = PITH_OK;
    for (const pith_card_source *s = pith_card_sources; s->family; s++, n++) {
        if (n && !list) printf("\n");
        pith_status status = run_card(cli, a, s->id, list, held);
        if (status == PITH_E_CANCELLED || status == PITH_E_MEMORY) return status;
        if (status == PITH_OK) continue;
        pith_log(cli->ctx, PITH_LOG_ERROR, "%s: %s", s->id, pith_error(cli->ctx));
        if (!n_failed++) first = status;
    }
    return n_failed ? pith_fail(cli->ctx, first, "%zu of %zu cards could not be run; the lines above say why", n_failed, n) : PITH_OK;
}

static pith_status verdict(pith_cli *cli, bool held)
{
    return held ? PITH_OK : pith_fail(cli->ctx, PITH_E_CLAIM, "not every claim holds; the table says which");
}

static pith_status print_report(pith_cli *cli, const char *folder)
{
    char *text;
    PITH_TRY(pith_results_page(cli->ctx, folder, &text));
    pith_status status = fputs(text, stdout) < 0 ? pith_fail(cli->ctx, PITH_E_IO, "cannot write to standard output") : PITH_OK;
    pith_free(cli->ctx, text);
    return status;
}

static pith_status run(pith_cli *cli, void *args)
{
    const reproduce_args *a = args;
    if (a->report) return a->card || a->all ? pith_cli_usage(cli, "--report runs nothing, so it takes no card") : print_report(cli, a->report);
    if (a->all == (a->card != NULL)) return pith_cli_usage(cli, a->all ? "name a card or give --all, not both" : "name a card (`pith recipes` lists them), or give --all");
    if (a->quick && a->full) return pith_cli_usage(cli, "--quick and --full do not go together");
    cJSON *list = cli->globals.json ? cJSON_CreateArray() : NULL;
    bool held = true;
    pith_status status = cli->globals.json && !list ? PITH_E_MEMORY : PITH_OK;
    if (a->card) status = status == PITH_OK ? run_card(cli, a, a->card, list, &held) : status;
    if (a->all) status = status == PITH_OK ? run_all(cli, a, list, &held) : status;
    /* what was measured is printed also when a card of --all failed */
    if (list && (status == PITH_OK || a->all)) {
        pith_status printed = pith_json_print(cli, list);
        return status != PITH_OK ? status : printed != PITH_OK ? printed : verdict(cli, held);
    }
    cJSON_Delete(list);
    return status != PITH_OK ? status : verdict(cli, held);
}

const pith_command pith_command_reproduce = {
    .name = "reproduce",
    .summary = "run a card's experiment and judge what it claims",
    .description = "Trains and measures what the card says, for each seed, ours and what stands beside it, and prints the rows, the spread over seeds, "
                   "and whether each claim holds with the numbers on both sides. Beds that the card starts from are trained first, once. "
                   "A full run that is interrupted keeps the rows that were measured; the same command goes on from there.",
    .positionals = positionals, .options = options, .examples = examples,
    .exit_notes = "1 also when a claim that was judged does not hold.",
    .args_size = sizeof(reproduce_args), .run = run,
};
