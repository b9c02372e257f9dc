/* Tokenizers as Hugging Face writes them: tokenizer.json, and tokenizer_config.json beside it. */
#ifndef PITH_HF_TOKENIZER_H
#define PITH_HF_TOKENIZER_H

#include "format/model_file.h"

/** Read a tokenizer.json (byte-level BPE, BPE with SentencePiece's marks, unigram, WordPiece) into a vocabulary
 *  whose arrays and strings live in `arena`; the two texts may go afterwards.  tokenizer_config may be NULL (len 0):
 *  it names the bos, eos and padding tokens and brings the chat template.
 *  A normaliser, pre-tokenizer or model that pith cannot do as the file says is an error, not a guess; only an
 *  unknown pattern of a byte-level BPE goes on, by its text in vocab->pattern.
 *  @return PITH_E_FORMAT, PITH_E_UNSUPPORTED, PITH_E_LIMIT, PITH_E_MEMORY; *vocab is untouched then */
pith_status pith_hf_vocab_read(pith_ctx *ctx, pith_arena *arena, const char *tokenizer_json, size_t len,
                               const char *tokenizer_config_json, size_t config_len, pith_vocab *vocab);
/** Write a byte-level BPE as tokenizer.json and, unless config_path is NULL, tokenizer_config.json.  Strings must end
 *  in a NUL, as those of readers and of pith_bpe_train do.
 *  @return PITH_E_UNSUPPORTED for what such a file would not say alike (other kinds, an unknown way to cut words),
 *  PITH_E_IO, PITH_E_MEMORY */
pith_status pith_hf_vocab_write(pith_ctx *ctx, const pith_vocab *vocab, const char *tokenizer_path, const char *config_path);

#endif
