/* What a run measured, outside of memory: as JSON, under a hash of all that decides it; and what an interrupted run left
 * for the next one to go on from.
 *
 * A full run of a card takes an hour.  As its procedure ends each part (a row, mostly), what is measured so far goes into
 * <cache>/runs/<id>-<hash>.json; a run of the same card, seed, data and budget by the same program takes it up and leaves the parts
 * that are done. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "format/json.h"
#include "recipe/commit.h"
#include "recipe/run.h"

/* ---- what decides a result -------------------------------------------------------------------- */

#define MAX_DEPTH 8 /* beds that start from beds */

/* Which of the card's data sets are there, and the user's folder of data: the first that is there is used. */
static pith_status hash_data(pith_ctx *ctx, const pith_card *card, uint64_t *hash)
{
    const char *folder = getenv("PITH_DATA");
    *hash = folder ? pith_hash(folder, strlen(folder)) : 0;
    for (size_t i = 0, at; i < card->data.n; i++) {
        pith_data_info info;
        PITH_TRY(pith_data_find(ctx, card->data.items[i], &at));
        PITH_TRY(pith_data_describe(ctx, at, &info));
        uint64_t parts[3] = {*hash, pith_hash(info.name, strlen(info.name)), info.state};
        *hash = pith_hash(parts, sizeof parts);
    }
    return PITH_OK;
}

/* What decides the result: the card, the procedure's code and pith's version, the data, the seed, and all that of the beds it
 * starts from, which must not go round in a circle. */
static pith_status hash_of(pith_ctx *ctx, const pith_card *card, uint64_t seed, int depth, uint64_t *hash)
{
    uint64_t data, beds = 0;
    if (depth > MAX_DEPTH) return pith_fail(ctx, PITH_E_ARGUMENT, "the bed '%s' starts from beds that start from beds, more than %d deep: one of them needs itself", card->id, MAX_DEPTH);
    PITH_TRY(hash_data(ctx, card, &data));
    for (size_t i = 0; i < card->beds.n; i++) {
        pith_card *bed;
        uint64_t parts[2] = {beds};
        PITH_TRY(pith_card_load(ctx, card->beds.items[i], card->quick, &bed));
        pith_status status = hash_of(ctx, bed, seed, depth + 1, &parts[1]);
        pith_card_free(bed);
        PITH_TRY(status);
        beds = pith_hash(parts, sizeof parts);
    }
    uint64_t parts[7] = {pith_hash(card->text, card->text_len), pith_procedure_find(card->procedure->name)->code, pith_hash(PITH_VERSION, strlen(PITH_VERSION)), data, seed, card->quick, beds};
    *hash = pith_hash(parts, sizeof parts);
    if (pith_card_compresses(card)) {
        const pith_channel_options *c = &card->train.channel;
        double how[4] = {c->compressor.kind, c->compressor.param, c->feedback, (double)c->eta};
        uint64_t sent[3] = {*hash, card->workers, pith_hash(how, sizeof how)};
        *hash = pith_hash(sent, sizeof sent);
    }
    if (card->split) { /* sums of parts round otherwise, and batch norm sees other batches */
        uint64_t split[2] = {*hash, card->split};
        *hash = pith_hash(split, sizeof split);
    }
    return PITH_OK;
}

pith_status pith_run_hash(pith_ctx *ctx, const pith_card *card, uint64_t seed, uint64_t *hash) { return hash_of(ctx, card, seed, 0, hash); }

/* ---- as JSON ---------------------------------------------------------------------------------- */

cJSON *pith_run_json(const pith_run *run, double seconds)
{
    cJSON *json = cJSON_CreateObject(), *rows = cJSON_AddObjectToObject(json, "rows"), *notes = cJSON_AddArrayToObject(json, "notes");
    bool ok = rows && notes && cJSON_AddStringToObject(json, "card", run->card->id) && cJSON_AddNumberToObject(json, "seed", (double)run->seed) &&
              cJSON_AddBoolToObject(json, "quick", run->quick) && cJSON_AddNumberToObject(json, "seconds", seconds);
    for (size_t i = 0; ok && i < run->n_values; i++) {
        const char *row = run->card->rows[run->values[i].row].name;
        cJSON *of_row = cJSON_GetObjectItemCaseSensitive(rows, row);
        if (!of_row) of_row = cJSON_AddObjectToObject(rows, row);
        ok = of_row && cJSON_AddNumberToObject(of_row, run->card->measures[run->values[i].measure].name, run->values[i].value);
    }
    for (size_t i = 0; ok && i < run->n_notes; i++) {
        cJSON *note = cJSON_CreateString(run->notes[i]);
        ok = note && cJSON_AddItemToArray(notes, note);
    }
    if (ok) return json;
    cJSON_Delete(json);
    return NULL;
}

pith_status pith_run_take_notes(pith_run *run, const cJSON *json, const char *before)
{
    const cJSON *note;
    cJSON_ArrayForEach(note, pith_json_get(json, "notes"))
        if (cJSON_IsString(note)) PITH_TRY(pith_run_note(run, "%s%s%s", before ? before : "", before ? ": " : "", note->valuestring));
    return PITH_OK;
}

pith_status pith_run_take(pith_run *run, const cJSON *json)
{
    const cJSON *row, *value;
    cJSON_ArrayForEach(row, pith_json_get(json, "rows"))
        cJSON_ArrayForEach(value, row)
            if (cJSON_IsNumber(value)) PITH_TRY(pith_run_row(run, row->string, value->string, value->valuedouble));
    return pith_run_take_notes(run, json, NULL);
}

/* ---- parts that outlast an interruption ------------------------------------------------------- */

static pith_part *find_part(const pith_run *run, const char *name)
{
    for (size_t i = 0; i < run->n_parts; i++)
        if (!strcmp(run->parts[i].name, name)) return &run->parts[i];
    return NULL;
}

static pith_status add_part(pith_run *run, const char *name, double value)
{
    pith_part *grown = pith_resize(run->ctx, run->parts, (run->n_parts + 1) * sizeof *grown);
    if (!grown) return PITH_E_MEMORY;
    run->parts = grown;
    char *own = pith_strdup(run->ctx, name);
    if (!own) return PITH_E_MEMORY;
    run->parts[run->n_parts++] = (pith_part){own, value};
    return PITH_OK;
}

bool pith_run_has_part(const pith_run *run, const char *part, double *value)
{
    const pith_part *p = find_part(run, part);
    if (p && value) *value = p->value;
    return p;
}

static pith_status write_parts(const pith_run *run)
{
    cJSON *json = pith_run_json(run, run->before_s + pith_now_s() - run->start_s), *parts = cJSON_AddObjectToObject(json, "parts");
    bool ok = parts;
    for (size_t i = 0; i < run->n_parts && ok; i++) ok = cJSON_AddNumberToObject(parts, run->parts[i].name, run->parts[i].value);
    pith_status status = ok ? pith_json_write(run->ctx, run->kept, json) : pith_fail(run->ctx, PITH_E_MEMORY, "%s: out of memory", run->kept);
    cJSON_Delete(json);
    return status;
}

/* A run goes on where nothing can be kept. */
static pith_status keep_nothing(pith_run *run, pith_status status)
{
    if (status == PITH_OK || status == PITH_E_MEMORY || status == PITH_E_CANCELLED) return status;
    pith_log(run->ctx, PITH_LOG_WARN, "%s; if this run is interrupted, the next one begins anew", pith_error(run->ctx));
    if (run->kept) unlink(run->kept); /* or it would be taken up one day */
    pith_free(run->ctx, run->kept);
    run->kept = NULL;
    return PITH_OK;
}

pith_status pith_run_part_done(pith_run *run, const char *part, double value)
{
    if (!isfinite(value)) return pith_fail(run->ctx, PITH_E_NONFINITE, "%s: the part %s is not finite", run->card->id, part);
    pith_part *p = find_part(run, part);
    if (p) p->value = value;
    else PITH_TRY(add_part(run, part, value));
    return run->kept ? keep_nothing(run, write_parts(run)) : PITH_OK;
}

pith_status pith_run_each(pith_run *run, const pith_names *rows, pith_status (*make)(void *user, const char *row), void *user)
{
    for (size_t i = 0; i < rows->n; i++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(rows->items[i], rows->items[k])) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: the row %s is wanted twice", run->card->file, rows->items[i]);
    for (size_t i = 0; i < rows->n; i++) {
        if (pith_run_has_part(run, rows->items[i], NULL)) continue;
        PITH_TRY(make(user, rows->items[i]));
        PITH_TRY(pith_run_part_done(run, rows->items[i], 0));
    }
    return PITH_OK;
}

/* Which program this is: rows of two do not go together, and a commit does not tell what was changed since. */
static pith_status hash_program(pith_ctx *ctx, uint64_t *hash)
{
    pith_map map;
    PITH_TRY(pith_map_open(ctx, "/proc/self/exe", &map));
    *hash = pith_hash(map.data, map.len);
    pith_map_close(ctx, &map);
    return PITH_OK;
}

static pith_status kept_path(const pith_run *run, double budget, char **path)
{
    uint64_t parts[4] = {0, pith_hash(PITH_COMMIT, strlen(PITH_COMMIT)), pith_hash(&budget, sizeof budget)};
    char *cache;
    PITH_TRY(pith_run_hash(run->ctx, run->card, run->seed, &parts[0]));
    PITH_TRY(hash_program(run->ctx, &parts[3]));
    PITH_TRY(pith_cache_path(run->ctx, "runs", &cache));
    pith_status status = pith_folder_make(run->ctx, cache);
    if (status == PITH_OK) {
        *path = pith_format(run->ctx, "%s/%s-%016llx.json", cache, run->card->id, (unsigned long long)pith_hash(parts, sizeof parts));
        status = *path ? PITH_OK : PITH_E_MEMORY;
    }
    pith_free(run->ctx, cache);
    return status;
}

static pith_status take_parts(pith_run *run, const cJSON *json)
{
    const cJSON *part, *parts = pith_json_get(json, "parts"), *seconds = pith_json_get(json, "seconds");
    if (!cJSON_IsObject(parts) || !cJSON_IsNumber(seconds)) return pith_fail(run->ctx, PITH_E_CORRUPT, "%s: holds no parts of a run", run->kept);
    PITH_TRY(pith_run_take(run, json));
    cJSON_ArrayForEach(part, parts)
        if (cJSON_IsNumber(part)) PITH_TRY(add_part(run, part->string, part->valuedouble));
    run->before_s = seconds->valuedouble;
    return PITH_OK;
}

pith_status pith_run_resume(pith_run *run, double budget)
{
    pith_ctx *ctx = run->ctx;
    run->start_s = pith_now_s();
    PITH_TRY(keep_nothing(run, kept_path(run, budget, &run->kept)));
    if (!run->kept || access(run->kept, F_OK) != 0) return PITH_OK;
    cJSON *json = NULL;
    pith_status status = pith_json_read(ctx, run->kept, &json);
    if (status == PITH_OK) status = take_parts(run, json);
    cJSON_Delete(json);
    if (status == PITH_E_MEMORY || status == PITH_E_CANCELLED) return status;
    if (status != PITH_OK) {
        pith_log(ctx, PITH_LOG_WARN, "%s; the run begins anew", pith_error(ctx));
        pith_run_clear(run);
        return PITH_OK;
    }
    run->n_resumed = run->n_values;
    pith_log(ctx, PITH_LOG_WARN, "%s, seed %llu: %zu parts are there from a run that was interrupted after %.*f %s; remove %s to begin anew", run->card->id, (unsigned long long)run->seed, run->n_parts,
             run->before_s < 120 ? 0 : 1, run->before_s < 120 ? run->before_s : run->before_s / 60, run->before_s < 120 ? "s" : "min", run->kept);
    return pith_run_note(run, "seed %llu: %zu parts are of a run that was interrupted", (unsigned long long)run->seed, run->n_parts);
}
