/* Reproducing a card. */
#include "recipe/reproduce.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "recipe/commit.h"

/* ---- running ---------------------------------------------------------------------------------- */

/* Notes of a run become the report's, once each. */
static pith_status take_notes(pith_report *r, pith_run *run)
{
    char **grown = pith_resize(r->ctx, r->notes, (r->n_notes + run->n_notes + 1) * sizeof *grown);
    if (!grown) return PITH_E_MEMORY;
    r->notes = grown;
    for (size_t i = 0; i < run->n_notes; i++) {
        size_t k = 0;
        while (k < r->n_notes && strcmp(r->notes[k], run->notes[i])) k++;
        if (k < r->n_notes) continue;
        r->notes[r->n_notes++] = run->notes[i];
        run->notes[i] = NULL;
    }
    return PITH_OK;
}

/* A bed is trained into the cache, or is there already. */
static pith_status run_bed(pith_run *run)
{
    const pith_card *card = run->card;
    pith_card *copy;
    pith_bed *bed;
    PITH_TRY(pith_card_parse(run->ctx, card->file, card->text, card->text_len, card->quick, &copy));
    copy->procedure = card->procedure;
    PITH_TRY(pith_bed_of_card(run->ctx, copy, run->seed, &bed));
    pith_status status = pith_bed_report(bed, run);
    pith_bed_close(bed);
    return status;
}

static pith_status run_seed(pith_report *r, size_t index)
{
    pith_ctx *ctx = r->ctx;
    char *folder;
    PITH_TRY(pith_folder_scratch(ctx, &folder));
    pith_run run = {.ctx = ctx, .card = r->card, .seed = r->first_seed + index, .quick = r->card->quick, .folder = folder};
    bool is_bed = r->card->kind == PITH_CARD_BED; /* which has its own checkpoints */
    pith_status status = is_bed || r->card->quick ? PITH_OK : pith_run_resume(&run, r->budget);
    r->seconds += run.before_s;
    if (status == PITH_OK) status = is_bed ? run_bed(&run) : r->card->procedure->run(&run);
    if (status == PITH_E_CANCELLED && run.kept)
        pith_log(ctx, PITH_LOG_WARN, run.n_parts ? "%s: what is measured so far is kept, and the same command goes on from there" : "%s: no part was done yet, so the next run begins anew", r->card->id);
    for (size_t i = 0; i < run.n_values; i++) *pith_row_value_at(&r->values, run.values[i].row, run.values[i].measure, index) = run.values[i].value;
    if (status == PITH_OK) status = take_notes(r, &run);
    pith_run_clear(&run);
    r->kept[index] = run.kept;
    if (status == PITH_OK) status = pith_folder_remove(ctx, folder);
    else if (pith_folder_remove(ctx, folder) != PITH_OK) pith_log(ctx, PITH_LOG_WARN, "%s: scratch stays behind", folder);
    pith_free(ctx, folder);
    return status;
}

static void judge(pith_report *r)
{
    for (size_t i = 0; i < r->card->n_claims; i++) {
        const pith_card_claim *c = &r->card->claims[i];
        pith_judgement *j = &r->claims[i];
        j->verdict = pith_claim_judge(c->parsed, &r->values, j->numbers, sizeof j->numbers);
        j->judged = c->quick || !r->card->quick;
    }
}

static void describe_machine(pith_report *r)
{
    time_t now = time(NULL);
    struct tm tm;
    if (!gmtime_r(&now, &tm) || !strftime(r->date, sizeof r->date, "%Y-%m-%dT%H:%M:%SZ", &tm)) r->date[0] = 0;
    const pith_cpu *cpu = pith_ctx_cpu(r->ctx);
    snprintf(r->machine, sizeof r->machine, "%s, %s, %d threads", cpu->name, pith_isa_name(cpu->isa), pith_n_threads(r->ctx));
}

pith_status pith_reproduce(pith_ctx *ctx, pith_card *card, const pith_reproduce_options *o, pith_report **report)
{
    pith_report *r = pith_calloc(ctx, 1, sizeof *r);
    if (!r) {
        pith_card_free(card);
        return PITH_E_MEMORY;
    }
    *r = (pith_report){.card = card, .ctx = ctx, .first_seed = o->first_seed ? o->first_seed : 1, .budget = 1};
    r->values = (pith_row_values){.n_rows = card->n_rows, .n_measures = card->n_measures, .n_seeds = o->n_seeds ? o->n_seeds : card->seeds};
    describe_machine(r);
    if (o->budget_minutes > 0) r->budget = o->budget_minutes / card->minutes;
    pith_status status = PITH_E_MEMORY;
    if (r->budget != 1 && card->kind == PITH_CARD_BED) {
        status = pith_fail(ctx, PITH_E_ARGUMENT, "%s is a bed, which other cards take as its card says; give no budget", card->id);
        goto failed;
    }
    size_t n;
    if (!pith_mul(r->values.n_rows * r->values.n_measures, r->values.n_seeds, &n) || n > 10000000) {
        status = pith_fail(ctx, PITH_E_LIMIT, "%s: too many seeds", card->id);
        goto failed;
    }
    r->values.at = pith_array(ctx, n, sizeof *r->values.at);
    r->claims = pith_calloc(ctx, PITH_MAX(card->n_claims, 1), sizeof *r->claims);
    r->kept = pith_calloc(ctx, r->values.n_seeds, sizeof *r->kept);
    if (!r->values.at || !r->claims || !r->kept) goto failed;
    for (size_t i = 0; i < n; i++) r->values.at[i] = NAN;
    if (r->budget != 1) pith_card_scale(card, r->budget);
    double start = pith_now_s();
    for (size_t i = 0; i < r->values.n_seeds; i++) PITH_GOTO(run_seed(r, i), failed);
    r->seconds += pith_now_s() - start;
    judge(r);
    *report = r;
    return PITH_OK;
failed:
    pith_report_free(r);
    return status;
}

void pith_report_free(pith_report *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->n_notes; i++) pith_free(r->ctx, r->notes[i]);
    for (size_t i = 0; r->kept && i < r->values.n_seeds; i++) pith_free(r->ctx, r->kept[i]);
    pith_free(r->ctx, r->notes);
    pith_free(r->ctx, r->kept);
    pith_free(r->ctx, r->values.at);
    pith_free(r->ctx, r->claims);
    pith_card_free(r->card);
    pith_free(r->ctx, r);
}

void pith_report_settle(const pith_report *r)
{
    for (size_t i = 0; i < r->values.n_seeds; i++)
        if (r->kept[i] && unlink(r->kept[i]) != 0 && errno != ENOENT) pith_log(r->ctx, PITH_LOG_WARN, "%s: stays behind: %s", r->kept[i], strerror(errno));
}

bool pith_report_holds(const pith_report *r)
{
    for (size_t i = 0; i < r->card->n_claims; i++)
        if (r->claims[i].judged && r->claims[i].verdict != PITH_HOLDS) return false;
    return true;
}

/* ---- as JSON ---------------------------------------------------------------------------------- */

static const char *verdict_name(const pith_judgement *j)
{
    static const char *const names[] = {[PITH_HOLDS] = "holds", [PITH_FAILS] = "fails", [PITH_UNJUDGED] = "not measured"};
    return j->judged ? names[j->verdict] : "not judged when quick";
}

static bool add_rows(const pith_report *r, cJSON *list)
{
    const pith_row_values *v = &r->values;
    for (size_t i = 0; i < v->n_rows; i++) {
        cJSON *row = cJSON_CreateObject();
        if (!row || !cJSON_AddItemToArray(list, row)) return false;
        cJSON *values = NULL;
        if (!cJSON_AddStringToObject(row, "name", r->card->rows[i].name) || !cJSON_AddStringToObject(row, "what", r->card->rows[i].what) ||
            !cJSON_AddBoolToObject(row, "beside", r->card->rows[i].beside) || !(values = cJSON_AddObjectToObject(row, "values")))
            return false;
        for (size_t m = 0; m < v->n_measures; m++) {
            double sum = 0;
            for (size_t seed = 0; seed < v->n_seeds; seed++) sum += *pith_row_value_at(v, i, m, seed);
            if (isnan(sum)) continue; /* not measured, or not for every seed */
            cJSON *seeds = cJSON_CreateDoubleArray(pith_row_value_at(v, i, m, 0), (int)v->n_seeds);
            if (!seeds || !cJSON_AddItemToObject(values, r->card->measures[m].name, seeds)) return false;
        }
    }
    return true;
}

static bool add_claims(const pith_report *r, cJSON *list)
{
    for (size_t i = 0; i < r->card->n_claims; i++) {
        cJSON *claim = cJSON_CreateObject();
        const pith_card_claim *c = &r->card->claims[i];
        if (!claim || !cJSON_AddItemToArray(list, claim) || !cJSON_AddStringToObject(claim, "claim", c->text) ||
            (c->says && !cJSON_AddStringToObject(claim, "says", c->says)) || !cJSON_AddStringToObject(claim, "verdict", verdict_name(&r->claims[i])) ||
            !cJSON_AddStringToObject(claim, "numbers", r->claims[i].numbers))
            return false;
    }
    return true;
}

static bool add_all(const pith_report *r, cJSON *json)
{
    const pith_card *card = r->card;
    cJSON *part;
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)pith_hash(card->text, card->text_len));
    if (!cJSON_AddStringToObject(json, "card", card->id) || !cJSON_AddStringToObject(json, "family", card->family) ||
        !cJSON_AddStringToObject(json, "title", card->title) || (card->paper && !cJSON_AddStringToObject(json, "paper", card->paper)) ||
        !cJSON_AddStringToObject(json, "line", card->line) || !cJSON_AddBoolToObject(json, "quick", card->quick) ||
        !cJSON_AddStringToObject(json, "date", r->date) || !cJSON_AddStringToObject(json, "machine", r->machine) ||
        !cJSON_AddStringToObject(json, "version", PITH_VERSION) || !cJSON_AddStringToObject(json, "commit", PITH_COMMIT) ||
        !cJSON_AddStringToObject(json, "card_hash", hash) || !cJSON_AddNumberToObject(json, "budget", r->budget) ||
        !cJSON_AddNumberToObject(json, "first_seed", (double)r->first_seed) || !cJSON_AddNumberToObject(json, "seeds", (double)r->values.n_seeds) ||
        !cJSON_AddNumberToObject(json, "seconds", r->seconds) || !(part = cJSON_AddObjectToObject(json, "measures")))
        return false;
    for (size_t i = 0; i < card->n_measures; i++)
        if (!cJSON_AddStringToObject(part, card->measures[i].name, card->measures[i].text)) return false;
    if (!(part = cJSON_AddArrayToObject(json, "rows")) || !add_rows(r, part) || !(part = cJSON_AddArrayToObject(json, "claims")) || !add_claims(r, part) ||
        !(part = cJSON_AddArrayToObject(json, "notes")))
        return false;
    for (size_t i = 0; i < r->n_notes; i++) {
        cJSON *note = cJSON_CreateString(r->notes[i]);
        if (!note || !cJSON_AddItemToArray(part, note)) return false;
    }
    return true;
}

cJSON *pith_report_json(const pith_report *r)
{
    cJSON *json = cJSON_CreateObject();
    if (json && add_all(r, json)) return json;
    cJSON_Delete(json);
    return NULL;
}

pith_status pith_report_save(const pith_report *r, const char *folder, char **path)
{
    PITH_TRY(pith_folder_make(r->ctx, folder));
    char *file = pith_format(r->ctx, "%s/%s%s.json", folder, r->card->id, r->card->quick ? "-quick" : "");
    if (!file) return PITH_E_MEMORY;
    cJSON *json = pith_report_json(r);
    pith_status status = json ? pith_json_write(r->ctx, file, json) : pith_fail(r->ctx, PITH_E_MEMORY, "%s: out of memory", file);
    cJSON_Delete(json);
    if (status == PITH_OK) *path = file;
    else pith_free(r->ctx, file);
    return status;
}
