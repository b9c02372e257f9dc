/* pith convert: a model in another format or type, tensor by tensor. */
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "format/settings.h"
#include "stream/weights/lossless.h"
#include "stream/weights/source.h"

typedef struct convert_args {
    const char *in, *out;
    int type, embedding;
} convert_args;

/* What can be written, by the names users know; 0 is "same".  ftype: GGUF's general.file_type
 * (ggml-org/ggml, docs/gguf.md). */
static const struct { pith_dtype dtype; uint32_t ftype; } targets[] = {
    {PITH_F32, 0},   {PITH_F32, 0},   {PITH_F16, 1},  {PITH_BF16, 32}, {PITH_Q8_0, 7},  {PITH_Q4_0, 2},  {PITH_Q4_1, 3},    {PITH_Q5_0, 8},
    {PITH_Q5_1, 9},  {PITH_Q2_K, 10}, {PITH_Q3_K, 12}, {PITH_Q4_K, 15}, {PITH_Q5_K, 17}, {PITH_Q6_K, 18}, {PITH_IQ4_NL, 25},
};
#define TYPES "same|F32|F16|BF16|Q8_0|Q4_0|Q4_1|Q5_0|Q5_1|Q2_K|Q3_K|Q4_K|Q5_K|Q6_K|IQ4_NL"

static const pith_positional positionals[] = {
    {"IN", PITH_ARG_FILE, offsetof(convert_args, in), false, "a GGUF file, a .safetensors file or a model folder, or a .pith made with --lossless"},
    {"OUT", PITH_ARG_FILE, offsetof(convert_args, out), false, "the file to write: *.gguf or *.safetensors; of such a .pith any name, also of a folder"},
    {0},
};

static const pith_arg options[] = {
    {"type", 0, PITH_ARG_CHOICE, "TYPE", offsetof(convert_args, type), .choices = TYPES, .fallback = "same",
     .help = "type of the matrices; vectors stay F32"},
    {"embedding", 0, PITH_ARG_CHOICE, "TYPE", offsetof(convert_args, embedding), .choices = TYPES, .fallback = "same",
     .help = "type of the embedding table and the output matrix, where it is not to be --type's"},
    {0},
};

static const pith_example examples[] = {
    {"pith convert SmolLM2-135M/ smollm2.gguf --type F16", "a model folder to GGUF"},
    {"pith convert model.gguf small.gguf --type Q4_K --embedding Q8_0", "4 bits, but 8 for the embedding table"},
    {"pith convert model.gguf model.safetensors --type F16", "GGUF to safetensors"},
    {"pith convert MiniLM.pith MiniLM/", "the files that \"pith compress --lossless\" was given"},
    {0},
};

/* ---- what each tensor becomes ----------------------------------------------------------------- */

typedef struct job {
    const pith_named_tensor *src;
    char name[64];            /* as written */
    pith_dtype dtype;
    size_t n_rows, n_cols;
    size_t head_dim;          /* rows of a head that change places; 0: rows stay as they are */
    bool to_pairs;            /* halves become pairs; else the reverse */
    bool copy;                /* the bytes are right as they are */
} job;

/* A row must be whole blocks.  The stand-ins are of about the same width, in blocks of 32; rows
 * that do not divide by 32 either are kept in f16. */
static pith_dtype fitting(pith_dtype dtype, size_t n_cols)
{
    const pith_dtype_info *info = pith_dtype_get((uint32_t)dtype);
    if (n_cols % info->block_len == 0) return dtype;
    if (n_cols % 32) return PITH_F16;
    switch (dtype) {
    case PITH_Q2_K:
    case PITH_Q3_K: return PITH_Q4_0;
    case PITH_Q4_K: return PITH_Q5_0;
    case PITH_Q5_K: return PITH_Q5_1;
    default: return PITH_Q8_0;
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* GGUF's llama rotates neighbours (2i, 2i+1); Hugging Face's rotates (i, i + d/2).  So that files of the one
 * kind run in programs of the other, the rows of the query and key matrices change places. */
static size_t head_rows(const pith_settings *s, const char *name, bool to_gguf)
{
    bool llama = strcmp(s->architecture, "llama") == 0;
    bool wanted = llama && (to_gguf ? s->rope_style == PITH_ROPE_HALVES : s->rope_style == PITH_ROPE_PAIRS);
    if (!wanted) return 0;
    static const char *const names[] = {".attn_q.weight", ".attn_k.weight", ".attn_q.bias", ".attn_k.bias"};
    for (size_t i = 0; i < PITH_COUNT(names); i++)
        if (ends_with(name, names[i])) return s->head_dim;
    return 0;
}

/* How many tensors fell back from one type to another, told in one line each. */
typedef struct fallback {
    pith_dtype from, to;
    size_t n_cols, n_tensors;
} fallback;

static pith_status plan(pith_cli *cli, const pith_model_file *file, const convert_args *a, bool to_gguf, job *jobs)
{
    fallback fallbacks[16];
    size_t n_fallbacks = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const pith_named_tensor *nt = &file->tensors[i];
        const pith_tensor *t = &nt->t;
        job *j = &jobs[i];
        *j = (job){.src = nt, .n_cols = pith_tensor_cols(t)};
        j->n_rows = j->n_cols ? pith_tensor_count(t) / j->n_cols : 0;
        j->head_dim = head_rows(&file->settings, nt->name, to_gguf);
        j->to_pairs = to_gguf;
        if (j->head_dim && t->n_dims == 1) { /* a bias: each value is a row */
            j->n_rows = j->n_cols;
            j->n_cols = 1;
        }
        if (j->head_dim && (j->head_dim % 2 || j->n_rows % j->head_dim))
            return pith_fail(cli->ctx, PITH_E_SHAPE, "%s: tensor %s: %zu rows are not whole heads of %zu", file->path, nt->name, j->n_rows, j->head_dim);
        if (to_gguf) snprintf(j->name, sizeof j->name, "%s", nt->name);
        else if (!pith_hf_tensor_name_of(nt->name, j->name)) snprintf(j->name, sizeof j->name, "%s", nt->name);
        if (strlen(nt->name) >= sizeof j->name)
            return pith_fail(cli->ctx, PITH_E_LIMIT, "%s: tensor %s: the name has more than %zu bytes", file->path, nt->name, sizeof j->name - 1);
        bool embedding = strcmp(nt->name, "token_embd.weight") == 0 || strcmp(nt->name, "output.weight") == 0;
        int choice = embedding && a->embedding ? a->embedding : a->type;
        bool is_float = t->dtype == PITH_F32 || t->dtype == PITH_F16 || t->dtype == PITH_BF16 || t->dtype == PITH_F64 ||
                        pith_dtype_get((uint32_t)t->dtype)->block_len > 1 || t->dtype == PITH_F8_E4M3 || t->dtype == PITH_F8_E5M2;
        j->dtype = t->dtype;
        if (is_float && t->n_dims < 2 && to_gguf) {
            j->dtype = PITH_F32;
        } else if (is_float && choice) {
            pith_dtype wanted = targets[choice].dtype;
            j->dtype = t->n_dims < 2 ? wanted : fitting(wanted, pith_tensor_cols(t));
            if (j->dtype != wanted) {
                size_t k = 0;
                while (k < n_fallbacks && (fallbacks[k].from != wanted || fallbacks[k].to != j->dtype || fallbacks[k].n_cols != j->n_cols)) k++;
                if (k == n_fallbacks && n_fallbacks < PITH_COUNT(fallbacks)) fallbacks[n_fallbacks++] = (fallback){wanted, j->dtype, j->n_cols, 0};
                if (k < n_fallbacks) fallbacks[k].n_tensors++;
                else pith_log(cli->ctx, PITH_LOG_WARN, "%s becomes %s", nt->name, pith_dtype_get((uint32_t)j->dtype)->name);
                pith_log(cli->ctx, PITH_LOG_INFO, "%s: rows of %zu do not divide into blocks of %s: %s", nt->name, j->n_cols,
                         pith_dtype_get((uint32_t)wanted)->name, pith_dtype_get((uint32_t)j->dtype)->name);
            }
        }
        j->copy = j->dtype == t->dtype && !j->head_dim;
        if (!to_gguf && pith_dtype_get((uint32_t)j->dtype)->block_len > 1)
            return pith_fail(cli->ctx, PITH_E_UNSUPPORTED, "safetensors has no type %s (tensor %s): give --type F16, BF16 or F32",
                             pith_dtype_get((uint32_t)j->dtype)->name, nt->name);
    }
    for (size_t k = 0; k < n_fallbacks; k++)
        pith_log(cli->ctx, PITH_LOG_WARN, "%zu tensors have rows of %zu, which are not whole blocks of %s: they become %s", fallbacks[k].n_tensors,
                 fallbacks[k].n_cols, pith_dtype_get((uint32_t)fallbacks[k].from)->name, pith_dtype_get((uint32_t)fallbacks[k].to)->name);
    return PITH_OK;
}

/* ---- converting ------------------------------------------------------------------------------- */

#define PIECE_BYTES ((size_t)8 << 20) /* of f32 rows in work at once */

typedef struct piece {
    const job *j;
    size_t row0, n_rows, rows_a_task, row_bytes;
    float *rows;              /* [n_threads, n_cols] */
    uint8_t *dst;             /* [n_rows, row_bytes] */
    atomic_int status;
    atomic_size_t bad_row;
} piece;

static size_t source_row(const job *j, size_t row)
{
    if (!j->head_dim) return row;
    size_t half = j->head_dim / 2, head = row / j->head_dim, r = row % j->head_dim;
    return head * j->head_dim + (j->to_pairs ? r / 2 + r % 2 * half : r % half * 2 + r / half);
}

static void convert_rows(void *arg, size_t index, int worker)
{
    piece *p = arg;
    const job *j = p->j;
    float *x = p->rows + (size_t)worker * j->n_cols;
    pith_tensor t = j->src->t;
    if (j->head_dim && t.n_dims == 1) { /* one value a row */
        t.n_dims = 2;
        t.dims[0] = j->n_rows;
        t.dims[1] = 1;
    }
    size_t begin = index * p->rows_a_task, end = PITH_MIN(begin + p->rows_a_task, p->n_rows);
    for (size_t r = begin; r < end; r++) {
        size_t from = source_row(j, p->row0 + r);
        pith_status status = pith_tensor_rows_f32(&t, from, from + 1, x);
        if (status == PITH_OK) status = pith_blocks_from_f32(j->dtype, x, j->n_cols, NULL, p->dst + r * p->row_bytes);
        if (status != PITH_OK) {
            atomic_store(&p->bad_row, p->row0 + r);
            atomic_store(&p->status, (int)status);
            return;
        }
    }
}

/* Where bytes go; one of the two is set. */
typedef struct sink {
    pith_gguf_writer *gguf;
    pith_safetensors_writer *safetensors;
} sink;

static pith_status sink_data(sink *s, const void *data, size_t len)
{
    return s->gguf ? pith_gguf_data(s->gguf, data, len) : pith_safetensors_data(s->safetensors, data, len);
}

static pith_status convert_tensor(pith_cli *cli, const job *j, sink *out)
{
    pith_ctx *ctx = cli->ctx;
    if (j->copy) return sink_data(out, j->src->t.data, j->src->len_bytes);
    pith_arena *scratch = pith_scratch(ctx);
    pith_mark mark = pith_arena_mark(scratch);
    piece p = {.j = j};
    size_t n_at_once = PITH_MAX(PIECE_BYTES / PITH_MAX(4 * j->n_cols, 1), 1), bytes;
    n_at_once = PITH_MIN(n_at_once, PITH_MAX(j->n_rows, 1));
    if (!pith_dtype_bytes(j->dtype, j->n_cols, &p.row_bytes) || !pith_mul(n_at_once, p.row_bytes, &bytes))
        return pith_fail(ctx, PITH_E_SHAPE, "tensor %s: rows of %zu values cannot be written", j->src->name, j->n_cols);
    p.rows_a_task = PITH_MAX(n_at_once / (8 * (size_t)pith_n_threads(ctx)), 1);
    p.rows = pith_arena_take(scratch, (size_t)pith_n_threads(ctx) * j->n_cols * sizeof *p.rows);
    p.dst = pith_arena_take(scratch, bytes);
    pith_status status = p.rows && p.dst ? PITH_OK : PITH_E_MEMORY;
    for (size_t r = 0; status == PITH_OK && r < j->n_rows; r += n_at_once) {
        p.row0 = r;
        p.n_rows = PITH_MIN(n_at_once, j->n_rows - r);
        pith_parallel(ctx, PITH_CEIL_DIV(p.n_rows, p.rows_a_task), convert_rows, &p);
        status = (pith_status)atomic_load(&p.status);
        if (status == PITH_OK) status = sink_data(out, p.dst, p.n_rows * p.row_bytes);
        else pith_fail(ctx, status, "tensor %s, row %zu: %s", j->src->name, atomic_load(&p.bad_row), pith_status_text(status));
    }
    pith_arena_reset(scratch, mark);
    return status;
}

/* Keys and the tensor table. */
static pith_status begin_gguf(const pith_model_file *file, const convert_args *a, const job *jobs, pith_gguf_writer *w)
{
    if (a->type) {
        PITH_TRY(pith_gguf_put_u32(w, "general.file_type", targets[a->type].ftype));
        PITH_TRY(pith_gguf_put_u32(w, "general.quantization_version", 2));
    }
    if (file->kind == PITH_FILE_GGUF) {
        PITH_TRY(pith_gguf_put_keys_of(w, file));
    } else {
        PITH_TRY(pith_gguf_put_settings(w, &file->settings));
        if (file->vocab.kind != PITH_VOCAB_NONE) PITH_TRY(pith_gguf_put_vocab(w, &file->vocab));
    }
    for (size_t i = 0; i < file->n_tensors; i++)
        PITH_TRY(pith_gguf_declare(w, jobs[i].name, jobs[i].dtype, jobs[i].src->t.n_dims, jobs[i].src->t.dims));
    return PITH_OK;
}

static pith_status write_all(pith_cli *cli, const pith_model_file *file, const convert_args *a, const job *jobs, sink *out)
{
    const pith_settings *s = &file->settings;
    bool factors = out->gguf && s->rope_scaling == PITH_ROPE_LLAMA3 && !pith_model_file_find(file, "rope_freqs.weight");
    uint64_t done = 0, total = 0;
    if (out->gguf) {
        PITH_TRY(begin_gguf(file, a, jobs, out->gguf));
        if (factors) PITH_TRY(pith_gguf_declare(out->gguf, "rope_freqs.weight", PITH_F32, 1, (size_t[]){s->rope_dims / 2}));
    } else {
        PITH_TRY(pith_safetensors_put(out->safetensors, "format", "pt"));
        for (size_t i = 0; i < file->n_tensors; i++)
            PITH_TRY(pith_safetensors_declare(out->safetensors, jobs[i].name, jobs[i].dtype, jobs[i].src->t.n_dims, jobs[i].src->t.dims));
    }
    for (size_t i = 0; i < file->n_tensors; i++) total += jobs[i].src->len_bytes;
    for (size_t i = 0; i < file->n_tensors; i++) {
        PITH_TRY(pith_progress(cli->ctx, "converting", done, total));
        PITH_TRY(convert_tensor(cli, &jobs[i], out));
        done += jobs[i].src->len_bytes;
    }
    if (factors) {
        float *f = pith_array(cli->ctx, s->rope_dims / 2, sizeof *f);
        if (!f) return PITH_E_MEMORY;
        pith_llama3_factors(s, f);
        pith_status status = pith_gguf_data(out->gguf, f, s->rope_dims / 2 * sizeof *f);
        pith_free(cli->ctx, f);
        PITH_TRY(status);
    }
    return pith_progress(cli->ctx, "converting", total, total);
}

static pith_status report(pith_cli *cli, const pith_model_file *file, const convert_args *a, const job *jobs, double seconds)
{
    uint64_t bytes = 0, n_weights = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        size_t n = 0;
        pith_dtype_bytes(jobs[i].dtype, pith_tensor_count(&jobs[i].src->t), &n);
        bytes += n;
        n_weights += pith_tensor_count(&jobs[i].src->t);
    }
    double bits = n_weights ? 8.0 * (double)bytes / (double)n_weights : 0;
    if (!cli->globals.json) {
        if (!cli->globals.quiet) printf("%s: %zu tensors, %s (%.2f bits per weight), %s\n", a->out, file->n_tensors, pith_text_bytes(bytes).s, bits, pith_text_duration(seconds).s);
        return PITH_OK;
    }
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "file", a->out);
    pith_json_number(j, "n_tensors", (double)file->n_tensors);
    pith_json_number(j, "tensor_bytes", (double)bytes);
    pith_json_number(j, "bits_per_weight", bits);
    pith_json_number(j, "seconds", seconds);
    return pith_json_print(cli, j);
}

/* ---- files that were stored to the bit -------------------------------------------------------- */

/* Whether files come out as they were: unless another format or type is asked for. */
static bool wants_them_back(const convert_args *a, const pith_reader *r)
{
    const char *name = r->manifest.stored.files[0].name, *ending = strrchr(name, '.');
    bool other_format = ends_with(a->out, ".gguf") || ends_with(a->out, ".safetensors");
    return !a->type && !a->embedding && (!other_format || (!r->manifest.stored.is_folder && ending && ends_with(a->out, ending)));
}

static pith_status report_restored(pith_cli *cli, const char *target, const pith_stored *s, double seconds)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->n_files; i++) bytes += s->files[i].len;
    pith_terminal_clear(cli->terminal);
    if (!strcmp(target, "-")) return PITH_OK; /* the file went there */
    if (!cli->globals.json) {
        if (!cli->globals.quiet) printf("%s   %s in %zu file%s, every bit as it was, in %s\n", target, pith_text_bytes(bytes).s, s->n_files, s->n_files == 1 ? "" : "s", pith_text_duration(seconds).s);
        return PITH_OK;
    }
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "file", target);
    pith_json_number(j, "n_files", (double)s->n_files);
    pith_json_number(j, "bytes", (double)bytes);
    pith_json_number(j, "seconds", seconds);
    return pith_json_print(cli, j);
}

/* Files out of an open .pith.  One that was no folder goes into a folder that is there under its own name. */
static pith_status restore_all(pith_cli *cli, const convert_args *a, const pith_reader *r)
{
    const pith_stored *s = &r->manifest.stored;
    struct stat st;
    double start_s = pith_now_s();
    bool into = !s->is_folder && strcmp(a->out, "-") && stat(a->out, &st) == 0 && S_ISDIR(st.st_mode);
    if (s->is_folder && !strcmp(a->out, "-")) return pith_cli_usage(cli, "%s holds a folder, which does not go to standard output; name one", a->in);
    char *target = into ? pith_format(cli->ctx, "%s/%s", a->out, s->files[0].name) : pith_strdup(cli->ctx, a->out);
    pith_status status = !target ? PITH_E_MEMORY : s->is_folder ? PITH_OK : pith_out_check(cli->ctx, target, a->in);
    if (status == PITH_OK) status = pith_lossless_restore(cli->ctx, r, target);
    if (status == PITH_OK) status = report_restored(cli, target, s, pith_now_s() - start_s);
    pith_free(cli->ctx, target);
    return status;
}

/* done: false when it is a conversion after all. */
static pith_status restore(pith_cli *cli, const convert_args *a, bool *done)
{
    pith_reader r;
    PITH_TRY(pith_reader_open(cli->ctx, a->in, 0, &r));
    *done = pith_is_lossless(&r) && wants_them_back(a, &r);
    pith_status status = *done ? restore_all(cli, a, &r) : PITH_OK;
    pith_reader_close(cli->ctx, &r);
    return status;
}

static pith_status run(pith_cli *cli, void *args)
{
    const convert_args *a = args;
    if (!strcmp(a->in, "-")) return pith_cli_usage(cli, "convert takes a file or folder by its name, not a pipe");
    pith_file_kind kind = pith_file_sniff(a->in);
    if (kind == PITH_FILE_STORED || kind == PITH_FILE_PITH) { /* a short one is not known to be which */
        bool done;
        PITH_TRY(restore(cli, a, &done));
        if (done) return PITH_OK;
    }
    bool to_gguf = ends_with(a->out, ".gguf");
    if (!to_gguf && !ends_with(a->out, ".safetensors")) return pith_cli_usage(cli, "%s: the output's name must end in .gguf or .safetensors", a->out);
    pith_model_file *file = NULL;
    sink out = {0};
    double start_s = pith_now_s();
    PITH_TRY(pith_source_open(cli->ctx, a->in, &file, &(uint64_t){0}));
    pith_status status = PITH_OK;
    job *jobs = pith_calloc(cli->ctx, PITH_MAX(file->n_tensors, 1), sizeof *jobs);
    if (!jobs) {
        status = PITH_E_MEMORY;
        goto done;
    }
    PITH_GOTO(plan(cli, file, a, to_gguf, jobs), done);
    if (to_gguf) PITH_GOTO(pith_gguf_writer_open(cli->ctx, a->out, &out.gguf), done);
    else PITH_GOTO(pith_safetensors_writer_open(cli->ctx, a->out, &out.safetensors), done);
    PITH_GOTO(write_all(cli, file, a, jobs, &out), done);
    status = to_gguf ? pith_gguf_writer_close(out.gguf) : pith_safetensors_writer_close(out.safetensors);
    out = (sink){0};
    if (status == PITH_OK) status = report(cli, file, a, jobs, pith_now_s() - start_s);
done:
    pith_gguf_writer_discard(out.gguf);
    pith_safetensors_writer_discard(out.safetensors);
    pith_free(cli->ctx, jobs);
    pith_model_file_close(cli->ctx, file);
    return status;
}

const pith_command pith_command_convert = {
    .name = "convert",
    .summary = "write a model as GGUF or safetensors, in another type if wanted; or files back out of a .pith that keeps every bit",
    .description = "Reads a GGUF file, a .safetensors file or a model folder and writes one file, tensor by tensor: memory does not grow with the "
                   "model. Tensors that keep their type are copied byte by byte. A matrix whose rows are not whole "
                   "blocks of the type gets the nearest type that fits, and that is said.\n\n"
                   "Where the two formats disagree about the order of rows for rotary embedding (llama), rows are put in order.\n\n"
                   "Of a .pith made with --lossless the file comes back as it was, or all files of the folder, unless --type, --embedding or an output "
                   "of the other format asks for a conversion.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(convert_args), .run = run,
};
