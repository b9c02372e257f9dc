/* pith inspect: what is in a file, as a table, as JSON and as a page with plots. */
#include <ctype.h>
#include <math.h>

#include "cli/cli.h"
#include "cli/html.h"
#include "format/model_file.h"
#include "format/pith_file.h"

typedef struct inspect_args {
    const char *file, *html;
    bool keys, values;
} inspect_args;

static const pith_positional positionals[] = {
    {"FILE", PITH_ARG_FILE, offsetof(inspect_args, file), false, "a .pith or GGUF file, a .safetensors file or a model folder"},
    {0},
};

static const pith_arg options[] = {
    {"html", 0, PITH_ARG_FILE, "OUT", offsetof(inspect_args, html), .help = "also write a page with plots"},
    {"keys", 'k', PITH_ARG_FLAG, NULL, offsetof(inspect_args, keys), .help = "also print every key the file has"},
    {"values", 0, PITH_ARG_FLAG, NULL, offsetof(inspect_args, values),
     .help = "also read all weights and print their root mean square and largest magnitude"},
    {0},
};

static const pith_example examples[] = {
    {"pith inspect model.pith --html model.html", "where the bits are, as a table and as a page"},
    {"pith inspect model.gguf --json", "for a program to read"},
    {0},
};

/* ---- what a file of any kind has -------------------------------------------------------------- */

static const char *const kind_names[] = {"unknown", "GGUF", "safetensors", "pith"};

static void set_row(pith_html_row *row, const char *name, const char *type, const pith_tensor *t, uint64_t bytes)
{
    *row = (pith_html_row){.name = name, .type = type, .bytes = bytes, .n_dims = t->n_dims, .n = pith_tensor_count(t), .rms = NAN, .max = NAN};
    memcpy(row->dims, t->dims, sizeof row->dims);
}

typedef struct value_task {
    const pith_model_file *file;
    pith_html_row *rows;
    float *scratch;      /* [n_threads, max_cols] */
    size_t max_cols;
} value_task;

static void measure_values(void *arg, size_t i, int worker)
{
    value_task *v = arg;
    const pith_tensor *t = &v->file->tensors[i].t;
    size_t n_cols = pith_tensor_cols(t), n_rows = n_cols ? pith_tensor_count(t) / n_cols : 0;
    float *x = v->scratch + (size_t)worker * v->max_cols;
    double squares = 0, max = 0;
    for (size_t r = 0; r < n_rows; r++) {
        if (pith_tensor_rows_f32(t, r, r + 1, x) != PITH_OK) return; /* a type without values as numbers: stays unknown */
        for (size_t c = 0; c < n_cols; c++) {
            squares += (double)x[c] * x[c];
            max = fmax(max, fabs((double)x[c]));
        }
    }
    v->rows[i].rms = n_rows ? sqrt(squares / (double)(n_rows * n_cols)) : NAN;
    v->rows[i].max = max;
}

static pith_status read_values(pith_cli *cli, const pith_model_file *file, pith_html_row *rows)
{
    value_task v = {.file = file, .rows = rows};
    for (size_t i = 0; i < file->n_tensors; i++) v.max_cols = PITH_MAX(v.max_cols, pith_tensor_cols(&file->tensors[i].t));
    size_t n;
    if (!pith_mul(v.max_cols, (size_t)pith_n_threads(cli->ctx), &n)) n = SIZE_MAX;
    v.scratch = pith_array(cli->ctx, n, sizeof *v.scratch);
    if (!v.scratch) return PITH_E_MEMORY;
    pith_parallel(cli->ctx, file->n_tensors, measure_values, &v);
    pith_free(cli->ctx, v.scratch);
    return PITH_OK;
}

/* The file as rows and as lines about the whole; memory is the arena's. */
static pith_status from_model_file(pith_cli *cli, const inspect_args *a, pith_arena *arena, const pith_model_file *file, pith_html_page *page)
{
    pith_html_row *rows = pith_arena_take(arena, PITH_MAX(file->n_tensors, 1) * sizeof *rows);
    if (!rows) return PITH_E_MEMORY;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const pith_named_tensor *nt = &file->tensors[i];
        set_row(&rows[i], nt->name, pith_dtype_get((uint32_t)nt->t.dtype)->name, &nt->t, nt->len_bytes);
    }
    if (a->values) PITH_TRY(read_values(cli, file, rows));
    *page = (pith_html_page){.path = file->path, .kind = kind_names[file->kind], .file_bytes = file->file_bytes, .settings = &file->settings,
                             .vocab = &file->vocab, .rows = rows, .n_rows = file->n_tensors, .meta = file->meta, .n_meta = file->n_meta};
    return PITH_OK;
}

/* Of a .pith the bytes of a tensor are its packets', and each packet says how much error it takes away. */
static pith_status from_reader(pith_arena *arena, const pith_reader *r, pith_html_page *page)
{
    const pith_manifest *m = &r->manifest;
    size_t n = m->n_tensors + m->n_vectors;
    pith_html_row *rows = pith_arena_take(arena, PITH_MAX(n, 1) * sizeof *rows);
    if (!rows) return PITH_E_MEMORY;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const pith_coded_tensor *c = &m->tensors[i];
        const pith_dtype_info *source = pith_dtype_get(c->source_dtype);
        set_row(&rows[i], c->name, source ? source->name : "?", &(pith_tensor){.n_dims = 2, .dims = {c->n_rows, c->n_cols}}, 0);
    }
    for (size_t i = 0; i < m->n_vectors; i++)
        set_row(&rows[m->n_tensors + i], m->vectors[i].name, "vector", &(pith_tensor){.n_dims = 1, .dims = {m->vectors[i].n}},
                m->vectors[i].n * (m->vectors[i].coarse ? 1u : 4u));
    for (size_t i = 0; i < r->n_packets; i++) {
        const pith_packet *p = &r->packets[i];
        const pith_coded_tensor *c = pith_manifest_tensor_of_unit(m, p->unit);
        if (!c) continue;
        pith_html_row *row = &rows[c - m->tensors];
        row->bytes += PITH_PACKET_HEADER + p->len;
        row->n_packets++;
        row->gain += p->gain;
        row->n_levels = PITH_MAX(row->n_levels, (unsigned)p->level + 1);
        row->exact |= p->kind == 1;
    }
    *page = (pith_html_page){.path = r->path, .kind = "pith", .file_bytes = r->file_bytes, .total_bytes = m->total_bytes, .floor_bytes = m->floor_bytes,
                             .exact_bytes = m->exact_bytes, .manifest_bytes = m->manifest_bytes, .n_packets = r->n_packets, .skipped_bytes = r->n_skipped,
                             .settings = &m->settings, .vocab = &m->vocab, .rows = rows, .n_rows = n, .json = m->meta, .is_pith = true};
    return PITH_OK;
}

/* ---- output ----------------------------------------------------------------------------------- */

static const char *vocab_name(pith_vocab_kind kind)
{
    static const char *const names[] = {"none", "byte-level BPE", "SentencePiece BPE", "unigram", "WordPiece"};
    return (unsigned)kind < PITH_COUNT(names) ? names[kind] : "unknown";
}

static const char *shape_text(const pith_html_row *row, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = 0;
    for (int d = 0; d < row->n_dims && n < size; d++) n += (size_t)snprintf(buf + n, size - n, d ? " x %zu" : "%zu", row->dims[d]);
    return buf;
}

static double bits_of(const pith_html_row *row) { return row->n ? 8.0 * (double)row->bytes / (double)row->n : 0; }

/* What came from a file may hold control bytes: on a terminal they are shown as '?'. */
static void print_clean(const char *text, size_t limit)
{
    size_t n = 0;
    for (; *text && n < limit; text++, n++) putchar((unsigned char)*text < 32 || *text == 127 ? '?' : *text);
    if (*text) fputs(" …", stdout);
    putchar('\n');
}

static pith_status print_text(pith_cli *cli, const inspect_args *a, const pith_html_page *p)
{
    const pith_settings *s = p->settings;
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_rows; i++) n += p->rows[i].n;
    printf("%s: %s, %s, %s weights, %.3f bits per weight\n", p->path, p->kind, pith_text_bytes(p->file_bytes).s, pith_text_count((double)n).s,
           n ? 8.0 * (double)p->file_bytes / (double)n : 0);
    if (p->is_pith) {
        printf("cut to %.1f%% of %s; the smallest cut is %s", 100 * (double)p->file_bytes / (double)PITH_MAX(p->total_bytes, 1),
               pith_text_bytes(p->total_bytes).s, pith_text_bytes(p->floor_bytes).s);
        if (p->exact_bytes) printf(", exact from %s on", pith_text_bytes(p->exact_bytes).s);
        printf("\n%zu packets, the manifest takes %s\n", p->n_packets, pith_text_bytes(p->manifest_bytes).s);
        if (p->skipped_bytes) printf("%s of the file are damaged and were passed over\n", pith_text_bytes(p->skipped_bytes).s);
    }
    if (s->n_layers)
        printf("%s: %u layers, width %u, feed-forward %u, %u heads (%u for keys and values) of %u, context %u\n", s->architecture[0] ? s->architecture : "unknown architecture",
               s->n_layers, s->n_embd, s->n_ff, s->n_heads, s->n_kv_heads, s->head_dim, s->n_ctx);
    if (p->vocab->kind != PITH_VOCAB_NONE)
        printf("tokenizer: %s%s%s, %zu tokens%s\n", vocab_name(p->vocab->kind), p->vocab->pre[0] ? ", " : "", p->vocab->pre, p->vocab->n_tokens,
               p->vocab->chat_template.len ? ", chat template" : "");
    putchar('\n');
    pith_table *t = pith_table_new(cli->ctx, p->is_pith ? "lrrrrrr" : a->values ? "lrlrrrr" : "lrlrr");
    if (!t) return PITH_E_MEMORY;
    pith_status status = p->is_pith ? pith_table_row(t, "tensor\tshape\tbits\tbytes\tpackets\tlevels\tKL saved")
                                    : pith_table_row(t, "tensor\tshape\ttype\tbits\tbytes%s", a->values ? "\trms\tmax" : "");
    for (size_t i = 0; i < p->n_rows && status == PITH_OK; i++) {
        const pith_html_row *r = &p->rows[i];
        char shape[160];
        shape_text(r, shape, sizeof shape);
        pith_text32 bytes = pith_text_bytes(r->bytes);
        if (p->is_pith) status = pith_table_row(t, "%s\t%s\t%.2f\t%s\t%zu\t%u%s\t%.5f", r->name, shape, bits_of(r), bytes.s, r->n_packets, r->n_levels, r->exact ? "+exact" : "", r->gain);
        else if (a->values) status = pith_table_row(t, "%s\t%s\t%s\t%.2f\t%s\t%.4g\t%.4g", r->name, shape, r->type, bits_of(r), bytes.s, r->rms, r->max);
        else status = pith_table_row(t, "%s\t%s\t%s\t%.2f\t%s", r->name, shape, r->type, bits_of(r), bytes.s);
    }
    if (status != PITH_OK) {
        pith_table_free(t);
        return status;
    }
    PITH_TRY(pith_table_print(t, stdout));
    if (!a->keys) return PITH_OK;
    putchar('\n');
    for (size_t i = 0; i < p->n_meta; i++) {
        printf("%s = ", p->meta[i].key);
        print_clean(p->meta[i].value, 100);
    }
    if (p->json) puts(p->json);
    return PITH_OK;
}

static pith_status print_json(pith_cli *cli, const inspect_args *a, const pith_html_page *p)
{
    const pith_settings *s = p->settings;
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_rows; i++) n += p->rows[i].n;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "file", p->path);
    cJSON_AddStringToObject(j, "kind", p->kind);
    pith_json_number(j, "file_bytes", (double)p->file_bytes);
    pith_json_number(j, "n_weights", (double)n);
    pith_json_number(j, "bits_per_weight", n ? 8.0 * (double)p->file_bytes / (double)n : 0);
    if (p->is_pith) {
        pith_json_number(j, "total_bytes", (double)p->total_bytes);
        pith_json_number(j, "floor_bytes", (double)p->floor_bytes);
        pith_json_number(j, "exact_bytes", p->exact_bytes ? (double)p->exact_bytes : NAN);
        pith_json_number(j, "manifest_bytes", (double)p->manifest_bytes);
        pith_json_number(j, "n_packets", (double)p->n_packets);
        pith_json_number(j, "skipped_bytes", (double)p->skipped_bytes);
        cJSON *made = p->json ? cJSON_Parse(p->json) : NULL;
        if (made) cJSON_AddItemToObject(j, "made", made);
    }
    cJSON *settings = cJSON_AddObjectToObject(j, "settings");
    cJSON_AddStringToObject(settings, "architecture", s->architecture);
    const struct { const char *key; double value; } numbers[] = {
        {"n_layers", s->n_layers}, {"n_embd", s->n_embd}, {"n_ff", s->n_ff}, {"n_heads", s->n_heads}, {"n_kv_heads", s->n_kv_heads},
        {"head_dim", s->head_dim}, {"n_vocab", s->n_vocab}, {"n_context", s->n_ctx}, {"norm_eps", (double)s->norm_eps}, {"rope_base", (double)s->rope_base},
    };
    for (size_t i = 0; i < PITH_COUNT(numbers); i++) pith_json_number(settings, numbers[i].key, numbers[i].value);
    cJSON *tokenizer = cJSON_AddObjectToObject(j, "tokenizer");
    cJSON_AddStringToObject(tokenizer, "kind", vocab_name(p->vocab->kind));
    cJSON_AddStringToObject(tokenizer, "pre", p->vocab->pre);
    pith_json_number(tokenizer, "n_tokens", (double)p->vocab->n_tokens);
    cJSON_AddBoolToObject(tokenizer, "chat_template", p->vocab->chat_template.len > 0);
    cJSON *tensors = cJSON_AddArrayToObject(j, "tensors");
    for (size_t i = 0; i < p->n_rows; i++) {
        const pith_html_row *r = &p->rows[i];
        cJSON *t = cJSON_CreateObject();
        cJSON_AddItemToArray(tensors, t);
        cJSON_AddStringToObject(t, "name", r->name);
        cJSON_AddStringToObject(t, "type", r->type);
        cJSON *shape = cJSON_AddArrayToObject(t, "shape");
        for (int d = 0; d < r->n_dims; d++) cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)r->dims[d]));
        pith_json_number(t, "bytes", (double)r->bytes);
        pith_json_number(t, "bits", bits_of(r));
        if (p->is_pith) {
            pith_json_number(t, "n_packets", (double)r->n_packets);
            pith_json_number(t, "n_levels", r->n_levels);
            cJSON_AddBoolToObject(t, "exact", r->exact);
            pith_json_number(t, "kl_saved", r->gain);
        }
        if (a->values && !p->is_pith) {
            pith_json_number(t, "rms", r->rms);
            pith_json_number(t, "max", r->max);
        }
    }
    if (a->keys) {
        cJSON *keys = cJSON_AddObjectToObject(j, "keys");
        for (size_t i = 0; i < p->n_meta; i++) cJSON_AddStringToObject(keys, p->meta[i].key, p->meta[i].value);
    }
    return pith_json_print(cli, j);
}

static pith_status run(pith_cli *cli, void *args)
{
    const inspect_args *a = args;
    pith_ctx *ctx = cli->ctx;
    bool is_pith = pith_file_sniff(a->file) == PITH_FILE_PITH;
    if (is_pith && a->values) return pith_cli_usage(cli, "--values works on files of plain tensors; \"pith eval\" measures a .pith");
    pith_model_file *file = NULL;
    pith_reader reader = {0};
    pith_html_page page;
    bool reading = false;
    pith_arena *arena = pith_arena_new(ctx);
    if (!arena) return PITH_E_MEMORY;
    pith_status status = PITH_OK;
    if (is_pith) {
        PITH_GOTO(pith_reader_open(ctx, a->file, 0, &reader), done);
        reading = true;
        PITH_GOTO(from_reader(arena, &reader, &page), done);
    } else {
        PITH_GOTO(pith_model_file_open(ctx, a->file, &file), done);
        PITH_GOTO(from_model_file(cli, a, arena, file, &page), done);
    }
    if (a->html) {
        PITH_GOTO(pith_html_write(ctx, a->html, &page), done);
        pith_log(ctx, PITH_LOG_INFO, "wrote %s", a->html);
    }
    status = cli->globals.json ? print_json(cli, a, &page) : print_text(cli, a, &page);
done:
    if (reading) pith_reader_close(ctx, &reader);
    pith_model_file_close(ctx, file);
    pith_arena_free(arena);
    return status;
}

const pith_command pith_command_inspect = {
    .name = "inspect",
    .summary = "show what is in a file: tensors, bits, settings, tokenizer; also as a page",
    .description = "Lists every tensor with its shape, type, bits per weight and bytes, and what the file says of the network and its tokenizer. Of a "
                   ".pith it also shows the packets and how much error (KL divergence, nats a token) those of each tensor take "
                   "away, so one sees where the bits went and where the next ones would go.\n\n"
                   "With --html the same is written as one page with plots; it needs no network and no other file.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(inspect_args), .run = run,
};
