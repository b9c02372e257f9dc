/* The tokenizer's inside: what the models (BPE, unigram, WordPiece) share with tokenizer.c. */
#ifndef PITH_TEXT_MODEL_H
#define PITH_TEXT_MODEL_H

#include "text/map.h"
#include "text/normalize.h"
#include "text/pattern.h"
#include "text/split.h"
#include "text/tokenizer.h"

/* Words longer than this are not looked for among those seen before. */
#define PITH_WORD_CACHED 128

struct pith_tokenizer {
    pith_arena *arena;           /* owns everything below but `pattern` */
    pith_vocab_kind kind;
    size_t n_tokens;
    uint8_t *types;              /* [n_tokens] pith_token_type */
    uint8_t *added;              /* [n_tokens] PITH_ADDED_* */
    /* What each token stands for, in bytes: byte letters undone, U+2581 as a space, <0x41> as A.  The text of
     * token i is bytes[begin[i] .. begin[i + 1]). */
    uint8_t *bytes;
    uint32_t *begin;             /* [n_tokens + 1] */
    /* What a word is made of: as bytes/begin for BPE, else the tokens as in the file. */
    uint8_t *pieces;
    uint32_t *piece_begin;
    pith_string_map ids;         /* pieces to ids */
    pith_string_map names;       /* the tokens as in the file to ids */
    uint8_t *name_text;
    uint32_t *name_begin;

    pith_unicode unicode;
    pith_split split;
    pith_pattern *pattern;       /* cuts words instead of `split`; NULL: none */
    pith_normalizer normalizer;
    pith_trie special;           /* tokens looked for in the text as it is */
    pith_trie special_late;      /* … in the text after the steps */
    bool has_special, has_late;

    int32_t byte_id[256];        /* the token of one byte; -1: none */
    pith_pair_map merges;        /* BPE, SPM: (left, right) to (rank, id) */
    pith_trie trie;              /* unigram: pieces; WordPiece: first pieces */
    pith_trie inner;             /* WordPiece: pieces inside a word, without their mark */
    double *scores;              /* unigram [n_tokens] */
    double unk_score;
    uint32_t max_word_chars;
    bool marked_words;           /* WordPiece as GGUF writes it: U+2581 before first pieces, inner ones bare; else ## before those */

    int32_t bos, eos, unk, pad, eot;
    bool add_bos, add_eos, byte_fallback, fuse_unknown, ignore_merges;
    char *chat_template;         /* "" when the file has none */
    bool *ends;                  /* [n_tokens] generation stops here */
};

/* A word seen before in this call: where it stands in the text and its ids in the output. */
typedef struct pith_seen {
    uint32_t tag, epoch, start, out;
    uint16_t len, n;
} pith_seen;

/* One call of pith_tokenize. */
typedef struct pith_encoder {
    pith_ctx *ctx;
    const pith_tokenizer *tok;
    pith_ids *ids;
    pith_seen *seen;
    size_t seen_mask;
    size_t n_lost;               /* bytes without a token, in a vocabulary without an unknown token */
    uint32_t epoch;              /* of the text buffer that `start` counts in */
    pith_matcher *matcher;       /* of the tokenizer's pattern, if it has one */
    pith_normalize_work normalize;
    pith_text_buf work;          /* scratch of the models, kept from word to word */
    pith_text_buf late;          /* normalised text in which late tokens are looked for */
} pith_encoder;

/* Room for n more ids. */
pith_status pith_ids_reserve(pith_ctx *ctx, pith_ids *ids, size_t n);
/* Scratch of at least n bytes, aligned; its content goes with the next call. */
pith_status pith_encoder_work(pith_encoder *e, size_t n, void **p);

/* Build the tables of a model.  tok->pieces, ids and types are there. */
pith_status pith_bpe_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok);
pith_status pith_spm_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok);
pith_status pith_unigram_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok);
pith_status pith_wordpiece_init(pith_ctx *ctx, const pith_vocab *v, pith_tokenizer *tok);

/* Append the ids of one word; len >= 1. */
pith_status pith_bpe_word(pith_encoder *e, const uint8_t *p, size_t len);
pith_status pith_spm_word(pith_encoder *e, const uint8_t *p, size_t len);
pith_status pith_unigram_word(pith_encoder *e, const uint8_t *p, size_t len);
pith_status pith_wordpiece_word(pith_encoder *e, const uint8_t *p, size_t len);

/** GPT-2's letter for a byte, in UTF-8; its bytes, 1 or 2. */
size_t pith_byte_letter(uint8_t byte, char letter[2]);
/** Undo GPT-2's byte letters: bytes of `token` into dst (cap >= len), their number; SIZE_MAX if a character of it
 *  is no byte letter. */
size_t pith_byte_letters_undo(const uint8_t *token, size_t len, uint8_t *dst);

#endif
