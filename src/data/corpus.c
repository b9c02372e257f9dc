/* text: English prose out of Debian's packages, and of PITH_DATA beside it. */
#include "data/readers.h"
#include "data/sets.h"

enum { BLOCK = 1 << 16, TEST_EVERY = 20 }; /* every twentieth block of 64 KiB, cut at a paragraph, is for tests */

/* Dictionaries mark words to look up by braces; they are no prose. */
static void drop_braces(char *text, size_t *len)
{
    size_t n = 0;
    for (size_t i = 0; i < *len; i++)
        if (text[i] != '{' && text[i] != '}') text[n++] = text[i];
    *len = n;
}

/* A JSON array of texts */
static pith_status add_stories(pith_ctx *ctx, const char *path, const char *text, size_t len, pith_text_buffer *out)
{
    cJSON *json;
    PITH_TRY(pith_json_parse(ctx, path, text, len, &json));
    pith_status status = cJSON_IsArray(json) ? PITH_OK : pith_fail(ctx, PITH_E_FORMAT, "%s: not an array of texts", path);
    const cJSON *item;
    cJSON_ArrayForEach(item, json)
        if (status == PITH_OK) status = cJSON_IsString(item) ? pith_text_clean(out, item->valuestring, strlen(item->valuestring)) : pith_fail(ctx, PITH_E_FORMAT, "%s: an item that is no text", path);
    cJSON_Delete(json);
    return status;
}

static pith_status add_file(pith_ctx *ctx, const pith_data_file *file, pith_text_buffer *out)
{
    char path[PITH_DATA_PATH];
    uint8_t *bytes;
    size_t len;
    PITH_TRY(pith_data_read(ctx, file, path, &bytes, &len));
    char *text = (char *)bytes;
    if (pith_ends_with(file->path, ".dict.dz")) drop_braces(text, &len);
    pith_status status = pith_ends_with(file->path, ".json") ? add_stories(ctx, path, text, len, out) : pith_text_clean(out, text, len);
    pith_free(ctx, bytes);
    return status;
}

/* Where the block that begins at `at` ends: after the first paragraph that fills it. */
static size_t block_end(const pith_text_buffer *t, size_t at)
{
    if (t->len - at <= BLOCK) return t->len;
    const char *gap = memmem(t->text + at + BLOCK, t->len - at - BLOCK, "\n\n", 2);
    return gap ? (size_t)(gap - t->text) + 2 : t->len;
}

/* Keep the blocks of one split, in place. */
static void keep_split(pith_text_buffer *t, bool test)
{
    size_t kept = 0, block = 0;
    for (size_t at = 0; at < t->len; block++) {
        size_t end = block_end(t, at);
        if (test == (block % TEST_EVERY == TEST_EVERY - 1)) {
            memmove(t->text + kept, t->text + at, end - at);
            kept += end - at;
        }
        at = end;
    }
    t->len = kept;
}

pith_status pith_corpus_open(const pith_data_request *r, pith_dataset *ds)
{
    pith_text_buffer all = {.ctx = r->ctx};
    pith_status status = PITH_OK;
    char path[PITH_DATA_PATH];
    size_t n_debian = 0, n_folder = 0, n_missing = 0;
    for (const pith_data_file *f = r->set->files; f->path && status == PITH_OK; f++) {
        bool there = pith_data_locate(f, path);
        n_missing += !there && f->from == PITH_FROM_DEBIAN;
        if (!there) continue;
        *(f->from == PITH_FROM_DEBIAN ? &n_debian : &n_folder) += 1;
        status = add_file(r->ctx, f, &all);
    }
    if (status == PITH_OK && !n_debian && !n_folder) status = pith_data_missing(r, "text is");
    if (status == PITH_OK && n_missing)
        pith_log(r->ctx, PITH_LOG_WARN, "text: %zu of %zu Debian files are not there, the text is smaller (\"pith data get text\" fetches them)", n_missing, n_missing + n_debian);
    if (status == PITH_OK) keep_split(&all, r->split == PITH_SPLIT_TEST);
    if (status == PITH_OK) status = pith_data_limit(r, ds, all.len);
    if (status == PITH_OK) {
        pith_field *text = pith_dataset_add(ds, "text", PITH_FIELD_U8, 0, NULL);
        if (!text) status = PITH_E_MEMORY;
        else if (ds->n) memcpy(text->data, all.text, ds->n);
        snprintf(ds->source, sizeof ds->source, "%zu texts of Debian packages, %zu from PITH_DATA", n_debian, n_folder);
    }
    pith_free(r->ctx, all.text);
    return status;
}
