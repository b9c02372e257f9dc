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
    {"FILE", PITH_ARG_FILE, offsetof(inspect_args, file), false, "a .pith or GGUF file, a .safetensors file or a model folder; of a .pith that keeps every bit also its files"},
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

/* ---- values ----------------------------------------------------------------------------------- */

typedef struct value_task {
    const pith_model_file *file;
    double *rms, *max;   /* [n_tensors], NaN at first */
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
    v->rms[i] = n_rows ? sqrt(squares / (double)(n_rows * n_cols)) : NAN;
    v->max[i] = max;
}

/* values [2, n_tensors]: root mean squares, then largest magnitudes */
static pith_status read_values(pith_cli *cli, const pith_model_file *file, double *values)
{
    value_task v = {.file = file, .rms = values, .max = values + file->n_tensors};
    for (size_t i = 0; i < file->n_tensors; i++) v.max_cols = PITH_MAX(v.max_cols, pith_tensor_cols(&file->tensors[i].t));
    size_t n;
    if (!pith_mul(v.max_cols, (size_t)pith_n_threads(cli->ctx), &n)) n = SIZE_MAX;
    v.scratch = pith_array(cli->ctx, n, sizeof *v.scratch);
    if (!v.scratch) return PITH_E_MEMORY;
    for (size_t i = 0; i < 2 * file->n_tensors; i++) values[i] = NAN;
    pith_parallel(cli->ctx, file->n_tensors, measure_values, &v);
    pith_free(cli->ctx, v.scratch);
    return PITH_OK;
}

/* ---- output ----------------------------------------------------------------------------------- */

static const char *vocab_name(pith_vocab_kind kind)
{
    static const char *const names[] = {"none", "byte-level BPE", "SentencePiece BPE", "unigram", "WordPiece"};
    return (unsigned)kind < PITH_COUNT(names) ? names[kind] : "unknown";
}

static const char *shape_text(const pith_entry *row, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = 0;
    for (int d = 0; d < row->n_dims && n < size; d++) n += (size_t)snprintf(buf + n, size - n, d ? " x %zu" : "%zu", row->dims[d]);
    return buf;
}

static double per_weight(uint64_t bytes, uint64_t n_weights) { return n_weights ? 8.0 * (double)bytes / (double)n_weights : 0; }

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
    const pith_contents *c = &p->file->c;
    const pith_settings *s = p->file->settings;
    const pith_vocab *vocab = p->file->vocab;
    printf("%s: %s, %s, %s weights, %.3f bits per weight\n", p->path, c->kind, pith_text_bytes(c->file_bytes).s, pith_text_count((double)c->n_weights).s,
           per_weight(c->file_bytes, c->n_weights));
    if (p->file->is_pith) {
        printf("cut to %.1f%% of %s; the smallest cut is %s", 100 * (double)c->file_bytes / (double)PITH_MAX(c->total_bytes, 1),
               pith_text_bytes(c->total_bytes).s, pith_text_bytes(c->floor_bytes).s);
        if (c->exact_bytes) printf(", exact from %s on", pith_text_bytes(c->exact_bytes).s);
        printf("\n%zu packets, the manifest takes %s\n", c->n_packets, pith_text_bytes(c->manifest_bytes).s);
        if (c->skipped_bytes) printf("%s of the file are damaged and were passed over\n", pith_text_bytes(c->skipped_bytes).s);
    }
    if (s->n_layers)
        printf("%s: %u layers, width %u, feed-forward %u, %u heads (%u for keys and values) of %u, context %u\n", s->architecture[0] ? s->architecture : "unknown architecture",
               s->n_layers, s->n_embd, s->n_ff, s->n_heads, s->n_kv_heads, s->head_dim, s->n_ctx);
    if (vocab->kind != PITH_VOCAB_NONE)
        printf("tokenizer: %s%s%s, %zu tokens%s\n", vocab_name(vocab->kind), vocab->pre[0] ? ", " : "", vocab->pre, vocab->n_tokens,
               vocab->chat_template.len ? ", chat template" : "");
    putchar('\n');
    pith_table *t = pith_table_new(cli->ctx, p->file->is_pith ? "lrrrrrr" : a->values ? "lrlrrrr" : "lrlrr");
    if (!t) return PITH_E_MEMORY;
    pith_status status = p->file->is_pith ? pith_table_row(t, "tensor\tshape\tbits\tbytes\tpackets\tlevels\tKL saved")
                                    : pith_table_row(t, "tensor\tshape\ttype\tbits\tbytes%s", a->values ? "\trms\tmax" : "");
    for (size_t i = 0; i < c->n_entries && status == PITH_OK; i++) {
        const pith_entry *r = &c->entries[i];
        char shape[160];
        shape_text(r, shape, sizeof shape);
        pith_text32 bytes = pith_text_bytes(r->bytes);
        if (p->file->is_pith) status = pith_table_row(t, "%s\t%s\t%.2f\t%s\t%zu\t%u%s\t%.5f", r->name, shape, per_weight(r->bytes, r->n_weights), bytes.s, r->n_packets, r->n_levels, r->exact ? "+exact" : "", r->kl_saved);
        else if (a->values) status = pith_table_row(t, "%s\t%s\t%s\t%.2f\t%s\t%.4g\t%.4g", r->name, shape, r->type, per_weight(r->bytes, r->n_weights), bytes.s, p->rms[i], p->max[i]);
        else status = pith_table_row(t, "%s\t%s\t%s\t%.2f\t%s", r->name, shape, r->type, per_weight(r->bytes, r->n_weights), bytes.s);
    }
    if (status != PITH_OK) {
        pith_table_free(t);
        return status;
    }
    PITH_TRY(pith_table_print(t, stdout));
    if (!a->keys) return PITH_OK;
    putchar('\n');
    for (size_t i = 0; i < p->file->n_meta; i++) {
        printf("%s = ", p->file->meta[i].key);
        print_clean(p->file->meta[i].value, 100);
    }
    if (c->made) puts(c->made);
    return PITH_OK;
}

static pith_status print_json(pith_cli *cli, const inspect_args *a, const pith_html_page *p)
{
    const pith_contents *c = &p->file->c;
    const pith_settings *s = p->file->settings;
    const pith_vocab *vocab = p->file->vocab;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "file", p->path);
    cJSON_AddStringToObject(j, "kind", c->kind);
    pith_json_number(j, "file_bytes", (double)c->file_bytes);
    pith_json_number(j, "n_weights", (double)c->n_weights);
    pith_json_number(j, "bits_per_weight", per_weight(c->file_bytes, c->n_weights));
    if (p->file->is_pith) {
        pith_json_number(j, "total_bytes", (double)c->total_bytes);
        pith_json_number(j, "floor_bytes", (double)c->floor_bytes);
        pith_json_number(j, "exact_bytes", c->exact_bytes ? (double)c->exact_bytes : NAN);
        pith_json_number(j, "manifest_bytes", (double)c->manifest_bytes);
        pith_json_number(j, "n_packets", (double)c->n_packets);
        pith_json_number(j, "skipped_bytes", (double)c->skipped_bytes);
        cJSON *made = c->made ? cJSON_Parse(c->made) : NULL;
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
    cJSON_AddStringToObject(tokenizer, "kind", vocab_name(vocab->kind));
    cJSON_AddStringToObject(tokenizer, "pre", vocab->pre);
    pith_json_number(tokenizer, "n_tokens", (double)vocab->n_tokens);
    cJSON_AddBoolToObject(tokenizer, "chat_template", vocab->chat_template.len > 0);
    cJSON *tensors = cJSON_AddArrayToObject(j, "tensors");
    for (size_t i = 0; i < c->n_entries; i++) {
        const pith_entry *r = &c->entries[i];
        cJSON *t = cJSON_CreateObject();
        cJSON_AddItemToArray(tensors, t);
        cJSON_AddStringToObject(t, "name", r->name);
        cJSON_AddStringToObject(t, "type", r->type);
        cJSON *shape = cJSON_AddArrayToObject(t, "shape");
        for (int d = 0; d < r->n_dims; d++) cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)r->dims[d]));
        pith_json_number(t, "bytes", (double)r->bytes);
        pith_json_number(t, "bits", per_weight(r->bytes, r->n_weights));
        if (p->file->is_pith) {
            pith_json_number(t, "n_packets", (double)r->n_packets);
            pith_json_number(t, "n_levels", r->n_levels);
            cJSON_AddBoolToObject(t, "exact", r->exact);
            pith_json_number(t, "kl_saved", r->kl_saved);
        }
        if (a->values && !p->file->is_pith) {
            pith_json_number(t, "rms", p->rms[i]);
            pith_json_number(t, "max", p->max[i]);
        }
    }
    if (a->keys) {
        cJSON *keys = cJSON_AddObjectToObject(j, "keys");
        for (size_t i = 0; i < p->file->n_meta; i++) cJSON_AddStringToObject(keys, p->file->meta[i].key, p->file->meta[i].value);
    }
    return pith_json_print(cli, j);
}

/* ---- files that are stored to the bit --------------------------------------------------------- */

/* What a file became: its packets are those of its chunks, which may be missing. */
static uint64_t coded_bytes(const pith_reader *r, const pith_stored_file *f, uint64_t n_chunks)
{
    uint64_t bytes = 0;
    for (uint64_t i = f->first_chunk; i < f->first_chunk + n_chunks && i < r->n_packets; i++) bytes += PITH_PACKET_HEADER + r->packets[i].len;
    return bytes;
}

static uint64_t chunks_of(const pith_stored_file *f)
{
    const pith_stretch *last = f->n_stretches ? &f->stretches[f->n_stretches - 1] : NULL;
    return last ? last->first_chunk + pith_stretch_chunks(last) - f->first_chunk : 0;
}

/* Whether there is one model among them, to be shown like any other. */
static bool holds_model(const pith_stored *s)
{
    bool found = false;
    for (size_t i = 0; i < s->n_files; i++) {
        const char *name = s->files[i].name, *ending = strrchr(name, '.');
        found |= s->is_folder ? !strcmp(name, "config.json") : ending && (!strcmp(ending, ".gguf") || !strcmp(ending, ".safetensors"));
    }
    return found;
}

static pith_status print_files(pith_cli *cli, const inspect_args *a, const pith_reader *r)
{
    const pith_stored *s = &r->manifest.stored;
    pith_table *t = pith_table_new(cli->ctx, "lrrr");
    uint64_t bytes = 0;
    if (!t) return PITH_E_MEMORY;
    pith_status status = pith_table_row(t, "file\tbytes\tbecame\tof it");
    for (size_t i = 0; i < s->n_files && status == PITH_OK; i++) {
        const pith_stored_file *f = &s->files[i];
        uint64_t coded = coded_bytes(r, f, chunks_of(f));
        bytes += f->len;
        status = pith_table_row(t, "%s\t%s\t%s\t%.2f%%", f->name, pith_text_bytes(f->len).s, pith_text_bytes(coded).s, f->len ? 100 * (double)coded / (double)f->len : 100);
    }
    if (status != PITH_OK) {
        pith_table_free(t);
        return status;
    }
    printf("%s: %zu file%s to the bit, %s, %.2f%% of %s\n", a->file, s->n_files, s->n_files == 1 ? "" : "s", pith_text_bytes(r->file_bytes).s,
           100 * (double)r->file_bytes / (double)PITH_MAX(bytes, 1), pith_text_bytes(bytes).s);
    if (r->file_bytes < r->manifest.total_bytes) printf("cut: of %s, which are all needed\n", pith_text_bytes(r->manifest.total_bytes).s);
    putchar('\n');
    return pith_table_print(t, stdout);
}

static pith_status print_files_json(pith_cli *cli, const inspect_args *a, const pith_reader *r)
{
    const pith_stored *s = &r->manifest.stored;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "file", a->file);
    cJSON_AddStringToObject(j, "kind", "files");
    pith_json_number(j, "file_bytes", (double)r->file_bytes);
    pith_json_number(j, "total_bytes", (double)r->manifest.total_bytes);
    cJSON *files = cJSON_AddArrayToObject(j, "files");
    for (size_t i = 0; i < s->n_files; i++) {
        cJSON *f = cJSON_CreateObject();
        cJSON_AddItemToArray(files, f);
        cJSON_AddStringToObject(f, "name", s->files[i].name);
        pith_json_number(f, "bytes", (double)s->files[i].len);
        pith_json_number(f, "coded_bytes", (double)coded_bytes(r, &s->files[i], chunks_of(&s->files[i])));
    }
    return pith_json_print(cli, j);
}

/* The files; done: there is no more to show. */
static pith_status inspect_stored(pith_cli *cli, const inspect_args *a, bool *done)
{
    pith_reader r;
    PITH_TRY(pith_reader_open(cli->ctx, a->file, 0, &r));
    *done = !holds_model(&r.manifest.stored) || r.file_bytes < r.manifest.total_bytes;
    pith_status status = PITH_OK;
    if (!cli->globals.json) status = print_files(cli, a, &r);
    else if (*done) status = print_files_json(cli, a, &r);
    if (status == PITH_OK && !*done && !cli->globals.json) putchar('\n');
    pith_reader_close(cli->ctx, &r);
    return status;
}

static pith_status run(pith_cli *cli, void *args)
{
    const inspect_args *a = args;
    pith_ctx *ctx = cli->ctx;
    pith_contents *contents = NULL;
    double *values = NULL;
    bool done = false;
    if (pith_file_sniff(a->file) == PITH_FILE_STORED) PITH_TRY(inspect_stored(cli, a, &done));
    if (done) return PITH_OK;
    PITH_TRY(pith_contents_read(ctx, a->file, &contents));
    pith_status status = PITH_OK;
    pith_html_page page = {.path = a->file, .file = pith_contents_inside(contents)};
    if (a->values && page.file->is_pith) {
        status = pith_cli_usage(cli, "--values works on files of plain tensors; \"pith eval\" measures a .pith");
        goto done;
    }
    if (a->values) {
        values = pith_array(ctx, 2 * PITH_MAX(contents->n_entries, 1), sizeof *values);
        status = values ? read_values(cli, page.file->file, values) : PITH_E_MEMORY;
        if (status != PITH_OK) goto done;
        page.rms = values;
        page.max = values + contents->n_entries;
    }
    if (a->html) {
        PITH_GOTO(pith_html_write(ctx, a->html, &page), done);
        pith_log(ctx, PITH_LOG_INFO, "wrote %s", a->html);
    }
    status = cli->globals.json ? print_json(cli, a, &page) : print_text(cli, a, &page);
done:
    pith_free(ctx, values);
    pith_contents_free(ctx, contents);
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
