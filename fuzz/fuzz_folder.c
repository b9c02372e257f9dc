/* Model folders: an index, its parts, config.json and the tokenizer's files, in a folder in memory.  The input is a list of files,
 * each  0xFF, a byte, its text.  The byte's low bits choose one of `names`.  A .safetensors file's text is its JSON header, behind
 * two bytes: how many bytes of data follow it; with bit 7 it is the whole file instead. */
#include <unistd.h>

#include "format/safetensors.h"
#include "format/settings.h"
#include "fuzz.h"

static const char *const names[] = {"config.json", "model.safetensors.index.json", "model.safetensors", "a.safetensors", "b.safetensors",
                                    "model-00001-of-00002.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"};
#define N_NAMES (sizeof names / sizeof *names)

static char folder[] = "/dev/shm/pith-fuzz-XXXXXX", elsewhere[] = "/tmp/pith-fuzz-XXXXXX", *place;
static bool is_there[N_NAMES];

static const char *path_of(size_t i)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", place, names[i]);
    return path;
}

static void remove_all(void)
{
    for (size_t i = 0; i < N_NAMES; i++) unlink(path_of(i));
    rmdir(place);
}

static void make_folder(void)
{
    place = mkdtemp(folder);
    if (!place) place = mkdtemp(elsewhere);
    require(place != NULL);
    atexit(remove_all);
}

/* Write one file; returns its bytes. */
static size_t put(uint8_t choice, const uint8_t *text, size_t len)
{
    static const uint8_t zeros[65536];
    size_t i = (choice & 127) % N_NAMES, n_data = 0, total;
    FILE *f = fopen(path_of(i), "wb");
    require(f != NULL);
    const char *ending = strrchr(names[i], '.');
    if (!strcmp(ending, ".safetensors") && !(choice & 128) && len >= 2) {
        uint8_t head[8];
        n_data = pith_le16(text);
        text += 2;
        len -= 2;
        pith_put64(head, len);
        require(fwrite(head, 1, 8, f) == 8);
    }
    require(fwrite(text, 1, len, f) == len && fwrite(zeros, 1, n_data, f) == n_data);
    total = (size_t)ftell(f);
    require(fclose(f) == 0);
    is_there[i] = true;
    return total;
}

static size_t put_all(const uint8_t *data, size_t len)
{
    size_t total = 0;
    for (size_t i = 0; i < N_NAMES; i++) {
        if (is_there[i]) unlink(path_of(i));
        is_there[i] = false;
    }
    const uint8_t *end = data + len, *next;
    for (const uint8_t *p = len ? memchr(data, 0xFF, len) : NULL; p && end - p >= 2; p = next) {
        next = memchr(p + 2, 0xFF, (size_t)(end - p - 2));
        total += put(p[1], p + 2, (size_t)((next ? next : end) - p - 2));
    }
    return total;
}

static uint64_t touch(pith_str s) { return s.len ? pith_hash(s.s, s.len) : 0; }

static uint64_t walk(const pith_model_file *file, size_t total)
{
    uint64_t sum = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const pith_named_tensor *nt = &file->tensors[i];
        require(pith_model_file_find(file, nt->name) == nt);
        bytes += nt->len_bytes;
        sum += touch((pith_str){nt->t.data, nt->len_bytes});
    }
    require(bytes <= total && file->file_bytes <= total);
    for (size_t i = 0; i < file->n_meta; i++) sum += strlen(file->meta[i].key) + strlen(file->meta[i].value);
    const pith_vocab *v = &file->vocab;
    for (size_t i = 0; i < v->n_tokens; i++) sum += touch(v->tokens[i]) + v->types[i];
    for (size_t i = 0; i < v->n_merges; i++) sum += touch(v->merges[i]);
    return sum + touch(v->chat_template) + touch(v->charsmap);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    pith_ctx *ctx = fuzz_ctx((size_t)8 << 20 | len * 64);
    pith_model_file *file = NULL;
    if (!place) make_folder();
    size_t total = put_all(data, len);
    pith_status status = pith_model_file_open(ctx, place, &file);
    require(status != PITH_E_MEMORY);
    require((status == PITH_OK) == (file != NULL) && (file || strstr(pith_error(ctx), place)));
    volatile uint64_t sum = file ? walk(file, total) : 0;
    (void)sum;
    pith_model_file_close(ctx, file);
    pith_ctx_free(ctx);
    return 0;
}
