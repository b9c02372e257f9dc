/* Runs: what a procedure reports. */
#include "recipe/run.h"

#include <math.h>

static pith_status undeclared(pith_run *run, const char *what, const char *name)
{
    return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: its procedure '%s' reports the %s '%s', which the card does not name; add it to the card", run->card->file,
                     run->card->procedure->name, what, name);
}

pith_status pith_run_row(pith_run *run, const char *row, const char *measure, double value)
{
    const pith_card *card = run->card;
    uint32_t r = 0, m = 0;
    while (r < card->n_rows && strcmp(card->rows[r].name, row)) r++;
    while (m < card->n_measures && strcmp(card->measures[m].name, measure)) m++;
    if (r == card->n_rows) return undeclared(run, "row", row);
    if (m == card->n_measures) return undeclared(run, "measure", measure);
    if (!isfinite(value)) return pith_fail(run->ctx, PITH_E_NONFINITE, "%s: %s.%s is not finite", card->id, row, measure);
    for (size_t i = 0; i < run->n_values; i++) {
        if (run->values[i].row != r || run->values[i].measure != m) continue;
        if (i >= run->n_resumed) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: %s.%s was reported already", card->id, row, measure);
        run->values[i].value = value; /* a part that the run before did not end */
        return PITH_OK;
    }
    if (run->n_values == run->n_values_room) {
        size_t room = PITH_MAX(32, 2 * run->n_values);
        pith_measurement *grown = pith_resize(run->ctx, run->values, room * sizeof *grown);
        if (!grown) return PITH_E_MEMORY;
        run->values = grown;
        run->n_values_room = room;
    }
    run->values[run->n_values++] = (pith_measurement){r, m, value};
    pith_log(run->ctx, PITH_LOG_INFO, "%s, seed %llu: %s.%s = %.6g", card->id, (unsigned long long)run->seed, row, measure, value);
    return PITH_OK;
}

/* Takes the text over. */
static pith_status add_note(pith_run *run, char *text)
{
    if (!text) return PITH_E_MEMORY;
    for (size_t i = 0; i < run->n_notes; i++) {
        if (strcmp(run->notes[i], text)) continue;
        pith_free(run->ctx, text);
        return PITH_OK;
    }
    char **grown = pith_resize(run->ctx, run->notes, (run->n_notes + 1) * sizeof *grown);
    if (!grown) {
        pith_free(run->ctx, text);
        return PITH_E_MEMORY;
    }
    run->notes = grown;
    run->notes[run->n_notes++] = text;
    return PITH_OK;
}

pith_status pith_run_note(pith_run *run, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return add_note(run, pith_strdup(run->ctx, text));
}

/* Whether a split is there at all. */
static pith_status probe(pith_ctx *ctx, const char *name, const char *split)
{
    pith_dataset *one;
    PITH_TRY(pith_dataset_open(ctx, name, split, &(pith_dataset_options){.n = 1, .quick = true}, &one));
    pith_dataset_free(one);
    return PITH_OK;
}

pith_status pith_run_data(pith_run *run, const pith_names *names, const char *split, const pith_dataset_options *options, pith_dataset **ds)
{
    if (!names->n) return pith_fail(run->ctx, PITH_E_ARGUMENT, "%s: its procedure '%s' reads data, and the card names none", run->card->file, run->card->procedure->name);
    pith_status status = PITH_E_IO;
    pith_dataset *opened = NULL;
    pith_dataset_options wanted = options ? *options : (pith_dataset_options){0};
    wanted.or_fewer = true;
    /* a set of which the other split is not there would be trained on one thing and measured on another */
    const char *other = strcmp(split, "train") == 0 ? "test" : "train";
    size_t n_tried = 0;
    for (; n_tried < names->n && status == PITH_E_IO; n_tried++) {
        status = probe(run->ctx, names->items[n_tried], other);
        if (status == PITH_OK) status = pith_dataset_open(run->ctx, names->items[n_tried], split, &wanted, &opened);
    }
    if (status != PITH_OK) return status;
    status = pith_run_note(run, "data: %s %s, %zu items, %s; hash %016llx", opened->name, opened->split, opened->n, opened->source, (unsigned long long)pith_dataset_hash(opened));
    if (opened->n < wanted.n && status == PITH_OK) status = pith_run_note(run, "data: the card asks for %zu items of %s %s; there are %zu", wanted.n, opened->name, opened->split, opened->n);
    for (size_t i = 0; i + 1 < n_tried && status == PITH_OK; i++)
        status = pith_run_note(run, "data: %s is not here, and %s stands in for it (\"pith data info %s\" tells where it comes from)", names->items[i], opened->name, names->items[i]);
    if (status == PITH_OK) *ds = opened;
    else pith_dataset_free(opened);
    return status;
}

void pith_run_clear(pith_run *run)
{
    for (size_t i = 0; i < run->n_notes; i++) pith_free(run->ctx, run->notes[i]);
    for (size_t i = 0; i < run->n_parts; i++) pith_free(run->ctx, run->parts[i].name);
    pith_free(run->ctx, run->notes);
    pith_free(run->ctx, run->parts);
    pith_free(run->ctx, run->values);
    run->notes = NULL;
    run->parts = NULL;
    run->values = NULL;
    run->n_notes = run->n_parts = run->n_values = run->n_values_room = run->n_resumed = 0;
}
