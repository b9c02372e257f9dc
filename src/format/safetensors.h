/* safetensors (huggingface/safetensors, "Format"): a JSON header with name, type, shape and place of each
 * tensor, then their bytes, row-major and little-endian, without holes. */
#ifndef PITH_SAFETENSORS_H
#define PITH_SAFETENSORS_H

#include "format/model_file.h"

/** Check a file in memory and append its tensors to `file` (which keeps them in its arena, pointing into
 *  `data`), and its metadata to file->meta.  `path` is for messages.  file->tensors is NULL or by this function.
 *  @return PITH_E_FORMAT, PITH_E_CORRUPT, PITH_E_UNSUPPORTED (a type we do not have), PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_safetensors_parse(pith_ctx *ctx, const char *path, const void *data, size_t len, pith_model_file *file);
/** Open a file held in memory, which stays the caller's and must outlive the result (tests, fuzzing). */
pith_status pith_safetensors_open_memory(pith_ctx *ctx, const char *path, const void *data, size_t len, pith_model_file **file);
/** A model folder: config.json, model.safetensors or model.safetensors.index.json with its parts, tokenizer.json. */
pith_status pith_model_folder_open(pith_ctx *ctx, pith_model_file *file);
/** Its config.json: file->settings (not yet checked: see pith_settings_check) and file->meta.  @return PITH_E_CORRUPT, PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_hf_config_parse(pith_ctx *ctx, const char *path, const char *text, size_t len, pith_model_file *file);
struct cJSON;
/** JSON of such a folder or a safetensors header: pith_json_parse, and it must be an object without NULs, without a name
 *  twice in one object, and not nested deeper than 100.  @return PITH_E_CORRUPT, PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_hf_json_parse(pith_ctx *ctx, const char *path, const char *text, size_t len, struct cJSON **json);
/** The name GGUF has for a tensor of a Llama-like network in Hugging Face's naming, into name[64]; false when there is none. */
bool pith_hf_tensor_name(const char *hf, char name[64]);
/** The reverse. */
bool pith_hf_tensor_name_of(const char *gguf, char name[64]);
/** Write config.json of a llama, qwen2 or mistral with rotary positions by halves; vocab (NULL: none) names the tokens
 *  that begin and end a text.  @return PITH_E_UNSUPPORTED, PITH_E_IO, PITH_E_MEMORY */
pith_status pith_hf_config_write(pith_ctx *ctx, const pith_settings *settings, pith_dtype dtype, const pith_vocab *vocab, const char *path);

/* Writing: the table first, then the tensors' bytes in the order declared, as with GGUF. */
typedef struct pith_safetensors_writer pith_safetensors_writer;
pith_status pith_safetensors_writer_open(pith_ctx *ctx, const char *path, pith_safetensors_writer **w);
/** A line of __metadata__. */
pith_status pith_safetensors_put(pith_safetensors_writer *w, const char *key, const char *value);
/** @return PITH_E_UNSUPPORTED for block types.  A name declared twice is an error of the first _data or _close. */
pith_status pith_safetensors_declare(pith_safetensors_writer *w, const char *name, pith_dtype dtype, int n_dims, const size_t *dims);
pith_status pith_safetensors_data(pith_safetensors_writer *w, const void *data, size_t len);
/** Finish and put the file in place; frees `w` also on error. */
pith_status pith_safetensors_writer_close(pith_safetensors_writer *w);
void pith_safetensors_writer_discard(pith_safetensors_writer *w); /* NULL is allowed */

#endif
