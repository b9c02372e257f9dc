/* Results for people and for programs. */
#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"

pith_text32 pith_text_bytes(uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    pith_text32 t;
    double value = (double)bytes;
    size_t u = 0;
    while (value >= 999.5 && u + 1 < PITH_COUNT(units)) {
        value /= 1000;
        u++;
    }
    snprintf(t.s, sizeof t.s, u && value < 99.95 ? "%.1f %s" : "%.0f %s", value, units[u]);
    return t;
}

pith_text32 pith_text_count(double n)
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    pith_text32 t;
    size_t u = 0;
    while (n >= 10000 && u + 1 < PITH_COUNT(units)) {
        n /= 1000;
        u++;
    }
    snprintf(t.s, sizeof t.s, u ? "%.1f%s" : "%.0f%s", n, units[u]);
    return t;
}

pith_text32 pith_text_duration(double s)
{
    pith_text32 t;
    if (s < 0.0995) snprintf(t.s, sizeof t.s, "%.1f ms", s * 1e3);
    else if (s < 0.9995) snprintf(t.s, sizeof t.s, "%.0f ms", s * 1e3);
    else if (s < 59.95) snprintf(t.s, sizeof t.s, "%.1f s", s);
    else if (s < 3600) snprintf(t.s, sizeof t.s, "%d:%02d min", (int)(s / 60), (int)s % 60);
    else snprintf(t.s, sizeof t.s, "%.0f:%02d h", floor(s / 3600), (int)(fmod(s, 3600) / 60));
    return t;
}

/* ---- tables ----------------------------------------------------------------------------------- */

#define MAX_COLUMNS 16

typedef struct table_row {
    struct table_row *next;
    char *cells; /* separated by tabs */
} table_row;

struct pith_table {
    pith_ctx *ctx;
    pith_arena *arena;
    char align[MAX_COLUMNS + 1];
    table_row *first, **last;
};

pith_table *pith_table_new(pith_ctx *ctx, const char *align)
{
    pith_table *table = pith_calloc(ctx, 1, sizeof *table);
    if (!table) return NULL;
    table->ctx = ctx;
    table->last = &table->first;
    snprintf(table->align, sizeof table->align, "%s", align);
    table->arena = pith_arena_new(ctx);
    if (table->arena) return table;
    pith_free(ctx, table);
    return NULL;
}

void pith_table_free(pith_table *table)
{
    if (!table) return;
    pith_arena_free(table->arena);
    pith_free(table->ctx, table);
}

pith_status pith_table_row(pith_table *table, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char *text = NULL;
    int len = vasprintf(&text, format, list);
    va_end(list);
    if (len < 0) return pith_fail(table->ctx, PITH_E_MEMORY, "out of memory while writing a table");
    table_row *row = pith_arena_take(table->arena, sizeof *row);
    char *cells = pith_arena_take(table->arena, (size_t)len + 1);
    if (row && cells) {
        memcpy(cells, text, (size_t)len + 1);
        *row = (table_row){.cells = cells};
        *table->last = row;
        table->last = &row->next;
    }
    free(text);
    return row && cells ? PITH_OK : PITH_E_MEMORY;
}

/* Columns on screen, one a character; wide characters are rare in our tables. */
static int width_of(const char *s, size_t len)
{
    int n = 0;
    for (size_t i = 0; i < len; i++) n += ((unsigned char)s[i] & 0xC0) != 0x80;
    return n;
}

static void print_row(const char *cells, const char *align, const int *widths, FILE *out)
{
    const char *cell = cells;
    for (int c = 0; align[c]; c++) {
        size_t len = strcspn(cell, "\t");
        int pad = widths[c] - width_of(cell, len);
        bool last = !align[c + 1];
        fprintf(out, "%s%*s%.*s%*s", c ? "  " : "", align[c] == 'r' ? pad : 0, "", (int)len, cell,
                align[c] == 'r' || last ? 0 : pad, "");
        cell += len + (cell[len] != 0);
    }
    fputc('\n', out);
}

pith_status pith_table_print(pith_table *table, FILE *out)
{
    int widths[MAX_COLUMNS] = {0}, total = 0;
    for (const table_row *row = table->first; row; row = row->next) {
        const char *cell = row->cells;
        for (int c = 0; table->align[c]; c++) {
            size_t len = strcspn(cell, "\t");
            widths[c] = PITH_MAX(widths[c], width_of(cell, len));
            cell += len + (cell[len] != 0);
        }
    }
    for (int c = 0; table->align[c]; c++) total += widths[c] + (c ? 2 : 0);
    for (const table_row *row = table->first; row; row = row->next) {
        print_row(row->cells, table->align, widths, out);
        if (row != table->first) continue;
        for (int i = 0; i < total; i++) fputs("─", out);
        fputc('\n', out);
    }
    pith_table_free(table);
    return PITH_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------- */

bool pith_json_number(cJSON *object, const char *key, double value)
{
    return (isfinite(value) ? cJSON_AddNumberToObject(object, key, value) : cJSON_AddNullToObject(object, key)) != NULL;
}

pith_status pith_json_print(pith_cli *cli, cJSON *json)
{
    char *text = json ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    if (!text) return pith_fail(cli->ctx, PITH_E_MEMORY, "out of memory while writing JSON");
    pith_terminal_clear(cli->terminal);
    puts(text);
    cJSON_free(text);
    return PITH_OK;
}
