/* What stands behind a pith_model; the program looks inside, users of the library do not. */
#ifndef PITH_API_MODEL_H
#define PITH_API_MODEL_H

#include "model/llama.h"
#include "text/tokenizer.h"

struct pith_model {
    pith_ctx *ctx;
    pith_llama *llama;
    pith_tokenizer *tok;          /* NULL: the file has none */
    bool add_bos;                 /* the file asks for BOS before a text */
    bool has_chat;
    size_t file_bytes, n_weights;
    double load_s;
};

/** PITH_E_UNSUPPORTED with a sentence when there is no tokenizer. */
pith_status pith_model_need_tokenizer(const pith_model *model);
/** Ids of a plain text, BOS before it where the file asks for it. */
pith_status pith_model_ids(const pith_model *model, const char *text, size_t len, unsigned flags, pith_ids *ids);

#endif
