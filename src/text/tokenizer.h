/* Text to token ids and back. */
#ifndef PITH_TOKENIZER_H
#define PITH_TOKENIZER_H

#include "format/model_file.h"

typedef struct pith_tokenizer pith_tokenizer;

typedef struct pith_ids {
    int32_t *ids;
    size_t n, cap;
} pith_ids;
void pith_ids_free(pith_ctx *ctx, pith_ids *ids);

/** Build from a vocabulary (which may be freed afterwards).  A pre-tokenizer that is known neither by name nor by a
 *  pattern is one warning line and GPT-2's is used. */
pith_status pith_tokenizer_new(pith_ctx *ctx, const pith_vocab *vocab, pith_tokenizer **tok);
void pith_tokenizer_free(pith_ctx *ctx, pith_tokenizer *tok);
/* A vocabulary comes from a model file, or from a tokenizer.json: format/hf_tokenizer.h. */

typedef enum pith_tokenize_flags {
    PITH_TOKENIZE_PLAIN = 0,     /* a control token's name in the text is text; tokens of the user's own are found always */
    PITH_TOKENIZE_SPECIAL = 1,   /* recognise special tokens written in the text */
    PITH_TOKENIZE_BOS_EOS = 2    /* add what the model's file says to add */
} pith_tokenize_flags;
/** Append the ids of text[0..len) to `ids` (grown as needed; as it was on error).  The ids are those of the PyPI
 *  package `tokenizers` for the same tokenizer.  Any bytes are accepted; those that are not UTF-8 become byte tokens
 *  (byte-level BPE, SentencePiece with byte tokens), the unknown token, or, in WordPiece, nothing, as U+FFFD does.
 *  Time is linear in len, but for a factor log of the longest word.  `tok` may be shared by threads with a context each.
 *  @return PITH_E_MEMORY, PITH_E_LIMIT (2 GB; a pattern that backtracks without end) */
pith_status pith_tokenize(pith_ctx *ctx, const pith_tokenizer *tok, const char *text, size_t len, unsigned flags, pith_ids *ids);
/** Bytes of one token into buf; returns their number (may exceed cap: nothing written then).  Control tokens give
 *  their name when `special`, else nothing.  out-of-range ids give nothing. */
size_t pith_token_text(const pith_tokenizer *tok, int32_t id, bool special, char *buf, size_t cap);
size_t pith_tokenizer_size(const pith_tokenizer *tok);
int32_t pith_tokenizer_find(const pith_tokenizer *tok, const char *name, size_t len); /* -1: none */
int32_t pith_tokenizer_bos(const pith_tokenizer *tok);
/** Whether generation ends at this token (eos, end of turn, …). */
bool pith_token_ends(const pith_tokenizer *tok, int32_t id);

/** The prompt (pith_message: pith.h) that the model's chat template makes of a conversation, as text with special tokens
 *  (tokenise with PITH_TOKENIZE_SPECIAL).  Known families: chatml (SmolLM2 with its default system
 *  message, Qwen2), llama 3, llama 2, mistral; recognised by the template's text.  An unknown template: PITH_E_UNSUPPORTED and a
 *  sentence; a caller may then send the plain prompt, after saying so.
 *  Roles the template has no place for, or no messages: PITH_E_ARGUMENT.
 *  *text is NUL-terminated, caller frees with pith_free. */
pith_status pith_chat_format(pith_ctx *ctx, const pith_tokenizer *tok, const pith_message *messages, size_t n_messages, bool open_reply, char **text);

#endif
