/* JSON of model files, by cJSON, behind limits.
 * cJSON allocates outside pith_alloc (its hooks are global, so they stay as they are): a parsed text takes up to about
 * 80 bytes a value.  Texts are therefore limited to PITH_JSON_MAX_BYTES and PITH_JSON_MAX_VALUES; the largest published
 * tokenizers have 33 MB and 2 million.  cJSON limits nesting itself, to 1000. */
#ifndef PITH_JSON_H
#define PITH_JSON_H

#include <cJSON.h>

#include "base/base.h"

#define PITH_JSON_MAX_BYTES ((size_t)100 << 20)
#define PITH_JSON_MAX_VALUES ((size_t)8 << 20)

/** Parse text [len] (no NUL needed, nothing but white space may follow the value); free with cJSON_Delete.
 *  `what` begins the message.  @return PITH_E_CORRUPT with line and column, PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_json_parse(pith_ctx *ctx, const char *what, const char *text, size_t len, cJSON **json);
/** The same of a file. @return PITH_E_IO as well */
pith_status pith_json_read(pith_ctx *ctx, const char *path, cJSON **json);
/** Write a value to a file, with a newline behind; it appears whole or not at all.  @return PITH_E_IO, PITH_E_MEMORY */
pith_status pith_json_write(pith_ctx *ctx, const char *path, const cJSON *json);
/** A whole number 0..2^53; false when it is something else or `item` is NULL. */
bool pith_json_u64(const cJSON *item, uint64_t *v);
/** A member by its exact name, NULL when there is none or `object` is no object. */
const cJSON *pith_json_get(const cJSON *object, const char *name);
/** Its text, NULL when it is missing or no text. */
const char *pith_json_text(const cJSON *object, const char *name);
#endif
