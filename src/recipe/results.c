/* The page of results, from the JSON of full runs. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "recipe/reproduce.h"

/* A text that grows; a failure stays, and later calls do nothing. */
typedef struct page {
    pith_ctx *ctx;
    char *text;
    size_t len, room;
    pith_status status;
} page;

static void put(page *p, const char *format, ...) PITH_PRINTF(2, 3);
static void put(page *p, const char *format, ...)
{
    for (int pass = 0; pass < 2 && p->status == PITH_OK; pass++) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(p->text ? p->text + p->len : NULL, p->room - p->len, format, args);
        va_end(args);
        if (n >= 0 && p->len + (size_t)n < p->room) {
            p->len += (size_t)n;
            return;
        }
        size_t room = 2 * (p->room + (size_t)PITH_MAX(n, 0) + 1);
        char *grown = pith_resize(p->ctx, p->text, room);
        if (!grown) p->status = PITH_E_MEMORY;
        else p->text = grown, p->room = room;
    }
}

/* A cell of a table: '|' would end it. */
static void put_cell(page *p, const char *text)
{
    for (; text && *text; text++) put(p, "%s%c", *text == '|' ? "\\" : "", *text);
}

static void put_values(page *p, const cJSON *seeds)
{
    double n = cJSON_GetArraySize(seeds), sum = 0, square = 0;
    const cJSON *x;
    cJSON_ArrayForEach(x, seeds) sum += x->valuedouble;
    cJSON_ArrayForEach(x, seeds) square += (x->valuedouble - sum / n) * (x->valuedouble - sum / n);
    if (n < 1) put(p, "-");
    else put(p, "%.4g", sum / n);
    if (n > 1) put(p, " ± %.2g", sqrt(square / (n - 1)));
}

static void put_rows(page *p, const cJSON *report)
{
    const cJSON *measures = pith_json_get(report, "measures"), *m, *row;
    put(p, "| row |");
    cJSON_ArrayForEach(m, measures) put(p, " %s |", m->string);
    put(p, " |\n|---|");
    cJSON_ArrayForEach(m, measures) put(p, "---:|");
    put(p, "---|\n");
    cJSON_ArrayForEach(row, pith_json_get(report, "rows"))
    {
        const cJSON *values = pith_json_get(row, "values");
        if (!values->child) continue;
        const char *mark = cJSON_IsTrue(pith_json_get(row, "beside")) ? "" : "**";
        put(p, "| %s%s%s |", mark, pith_json_text(row, "name"), mark);
        cJSON_ArrayForEach(m, measures)
        {
            put(p, " ");
            put_values(p, pith_json_get(values, m->string));
            put(p, " |");
        }
        put(p, " ");
        put_cell(p, pith_json_text(row, "what"));
        put(p, " |\n");
    }
    put(p, "\n");
    cJSON_ArrayForEach(m, measures) put(p, "`%s`: %s%s", m->string, m->valuestring, m->next ? "; " : ".\n\n");
}

static void put_claims(page *p, const cJSON *report)
{
    const cJSON *claim;
    cJSON_ArrayForEach(claim, pith_json_get(report, "claims"))
    {
        const char *verdict = pith_json_text(claim, "verdict"), *says = pith_json_text(claim, "says");
        put(p, "- **%s**: `%s`", verdict, pith_json_text(claim, "claim"));
        if (says) put(p, " (%s)", says);
        put(p, ": %s\n", pith_json_text(claim, "numbers"));
    }
    put(p, "\n");
}

static void put_report(page *p, const cJSON *report)
{
    const char *paper = pith_json_text(report, "paper");
    double seeds = pith_json_get(report, "seeds")->valuedouble, seconds = pith_json_get(report, "seconds")->valuedouble, budget = pith_json_get(report, "budget")->valuedouble;
    put(p, "## %s\n\n%s%s%s%s. %s\n\n", pith_json_text(report, "card"), pith_json_text(report, "title"), paper ? " (" : "", paper ? paper : "", paper ? ")" : "",
        pith_json_text(report, "line"));
    put(p, "%.10s, %.0f seed%s, %.1f min on %s; pith %s, %s.", pith_json_text(report, "date"), seeds, seeds == 1 ? "" : "s", seconds / 60, pith_json_text(report, "machine"),
        pith_json_text(report, "version"), pith_json_text(report, "commit"));
    if (budget != 1) put(p, " Training was %.3g times as long as the card says.", budget);
    put(p, "\n\n");
    put_rows(p, report);
    put_claims(p, report);
    const cJSON *note;
    cJSON_ArrayForEach(note, pith_json_get(report, "notes")) put(p, "- %s\n", note->valuestring);
    if (pith_json_get(report, "notes")->child) put(p, "\n");
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Everything that put_report looks at without asking. */
static bool is_report(const cJSON *json)
{
    static const char *const texts[] = {"card", "family", "title", "line", "date", "machine", "version", "commit"}, *const numbers[] = {"seeds", "seconds", "budget"};
    const cJSON *x, *y, *z;
    for (size_t i = 0; i < PITH_COUNT(texts); i++)
        if (!pith_json_text(json, texts[i])) return false;
    for (size_t i = 0; i < PITH_COUNT(numbers); i++)
        if (!cJSON_IsNumber(pith_json_get(json, numbers[i]))) return false;
    if (!cJSON_IsBool(pith_json_get(json, "quick")) || !cJSON_IsObject(pith_json_get(json, "measures")) || !cJSON_IsArray(pith_json_get(json, "rows")) ||
        !cJSON_IsArray(pith_json_get(json, "claims")) || !cJSON_IsArray(pith_json_get(json, "notes")))
        return false;
    cJSON_ArrayForEach(x, pith_json_get(json, "measures")) if (!cJSON_IsString(x)) return false;
    cJSON_ArrayForEach(x, pith_json_get(json, "notes")) if (!cJSON_IsString(x)) return false;
    cJSON_ArrayForEach(x, pith_json_get(json, "claims")) if (!pith_json_text(x, "claim") || !pith_json_text(x, "verdict") || !pith_json_text(x, "numbers")) return false;
    cJSON_ArrayForEach(x, pith_json_get(json, "rows"))
    {
        if (!pith_json_text(x, "name") || !pith_json_text(x, "what") || !cJSON_IsObject(pith_json_get(x, "values"))) return false;
        cJSON_ArrayForEach(y, pith_json_get(x, "values"))
        {
            if (!cJSON_IsArray(y)) return false;
            cJSON_ArrayForEach(z, y) if (!cJSON_IsNumber(z)) return false;
        }
    }
    return true;
}

typedef struct reports {
    pith_ctx *ctx;
    cJSON **items;
    size_t n;
} reports;

static pith_status add_report(reports *r, const char *folder, const char *name)
{
    char *path = pith_format(r->ctx, "%s/%s", folder, name);
    cJSON **grown = pith_resize(r->ctx, r->items, (r->n + 1) * sizeof *grown), *json = NULL;
    if (grown) r->items = grown;
    pith_status status = path && grown ? pith_json_read(r->ctx, path, &json) : PITH_E_MEMORY;
    if (status == PITH_OK && !is_report(json)) status = pith_fail(r->ctx, PITH_E_FORMAT, "%s: is not what `pith reproduce` writes; take it out of the folder", path);
    if (status == PITH_OK && !cJSON_IsTrue(pith_json_get(json, "quick"))) r->items[r->n++] = json;
    else cJSON_Delete(json);
    pith_free(r->ctx, path);
    return status;
}

static int by_family(const void *a, const void *b)
{
    const cJSON *x = *(cJSON *const *)a, *y = *(cJSON *const *)b;
    int c = strcmp(pith_json_text(x, "family"), pith_json_text(y, "family"));
    return c ? c : strcmp(pith_json_text(x, "card"), pith_json_text(y, "card"));
}

static pith_status read_folder(reports *r, const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir) return pith_fail(r->ctx, PITH_E_IO, "%s: %s", folder, strerror(errno));
    pith_status status = PITH_OK;
    for (struct dirent *e; status == PITH_OK && (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        if (len > 5 && !strcmp(e->d_name + len - 5, ".json")) status = add_report(r, folder, e->d_name);
    }
    closedir(dir);
    if (status == PITH_OK && r->n) qsort(r->items, r->n, sizeof *r->items, by_family);
    return status;
}

pith_status pith_results_page(pith_ctx *ctx, const char *folder, char **text)
{
    reports r = {.ctx = ctx};
    page p = {.ctx = ctx, .status = PITH_OK};
    pith_status status = read_folder(&r, folder);
    if (status == PITH_OK) {
        put(&p, "# Results\n\nWhat full runs of the cards measured, made by `pith reproduce --report` from the JSON that they wrote; nothing here is typed by hand. "
                "Rows in bold are ours, the others stand beside them; ± is the standard deviation over seeds.\n\n");
        for (size_t i = 0; i < r.n; i++) put_report(&p, r.items[i]);
        status = p.status;
    }
    for (size_t i = 0; i < r.n; i++) cJSON_Delete(r.items[i]);
    pith_free(ctx, r.items);
    if (status == PITH_OK) *text = p.text;
    else pith_free(ctx, p.text);
    return status;
}
