/* What a model file says, whatever its format: named tensors, the settings of the network, the
 * tokenizer.  GGUF files, safetensors files and model folders all open to this; nothing is copied: tensors point into the
 * mapped file(s). */
#ifndef PITH_MODEL_FILE_H
#define PITH_MODEL_FILE_H

#include "tensor/tensor.h"

/* (Its data may lie at any address: safetensors do not align.  Read it through pith_tensor_rows_f32 or memcpy.) */
typedef struct pith_named_tensor {
    const char *name;               /* GGUF's names: token_embd.weight, blk.0.attn_q.weight … where we know the
                                       architecture; else as in the file */
    pith_tensor t;
    size_t len_bytes;
} pith_named_tensor;

typedef enum pith_rope_style { PITH_ROPE_PAIRS /* (2i, 2i+1): GGUF's llama */, PITH_ROPE_HALVES /* (i, i+d/2): HF, qwen2 */ } pith_rope_style;
typedef enum pith_rope_scaling { PITH_ROPE_PLAIN, PITH_ROPE_LINEAR, PITH_ROPE_LLAMA3, PITH_ROPE_YARN } pith_rope_scaling;

typedef struct pith_settings {
    char architecture[32];          /* "llama", "qwen2", …; "" when unknown */
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_vocab, n_ctx;
    float norm_eps;
    float rope_base;
    uint32_t rope_dims;             /* rotated values of a head; head_dim unless said otherwise */
    pith_rope_style rope_style;
    pith_rope_scaling rope_scaling;
    float rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    float rope_attn_factor;         /* YaRN: what cos and sin are multiplied by, as it stands (readers fill in 0.1 ln(factor) + 1); else 1 */
    float rope_beta_fast, rope_beta_slow;
    uint32_t rope_original_ctx;
    uint32_t sliding_window;        /* 0: none */
    bool tied_embeddings;           /* no output.weight in the file */
} pith_settings;

typedef enum pith_vocab_kind { PITH_VOCAB_NONE, PITH_VOCAB_BPE /* byte-level, GPT-2 style */, PITH_VOCAB_SPM /* SentencePiece BPE */,
    PITH_VOCAB_UNIGRAM, PITH_VOCAB_WORDPIECE } pith_vocab_kind;
typedef enum pith_token_type { PITH_TOKEN_NORMAL = 1, PITH_TOKEN_UNKNOWN = 2, PITH_TOKEN_CONTROL = 3, PITH_TOKEN_USER = 4, PITH_TOKEN_UNUSED = 5, PITH_TOKEN_BYTE = 6 } pith_token_type;

typedef struct pith_str {
    const char *s;
    size_t len;
} pith_str;

/* One step of making text ready for the tokenizer, as a tokenizer.json lists them; `from` and `to` where named. */
typedef enum pith_text_step_kind {
    PITH_STEP_NFC, PITH_STEP_NFD, PITH_STEP_NFKC, PITH_STEP_NFKD, PITH_STEP_LOWERCASE, PITH_STEP_STRIP_ACCENTS,
    PITH_STEP_STRIP,            /* white space at the ends; flags */
    PITH_STEP_REPLACE,          /* every `from` by `to` */
    PITH_STEP_REPLACE_RUNS,     /* every run of two or more spaces by `to` */
    PITH_STEP_PREPEND,          /* `to` before a text that is not empty */
    PITH_STEP_CHARSMAP,         /* SentencePiece's precompiled map, pith_vocab.charsmap */
    PITH_STEP_BERT,             /* BERT's normaliser; flags */
    PITH_STEP_METASPACE,        /* spaces become U+2581; flags: one goes before the text unless it has one */
    PITH_STEP_WORDS,            /* runs of white space cut words, each gets one U+2581 before it */
    PITH_STEP_PREFIX_SPACE      /* a space before text that does not begin with one */
} pith_text_step_kind;
enum { PITH_STRIP_LEFT = 1, PITH_STRIP_RIGHT = 2 };
enum { PITH_BERT_CLEAN = 1, PITH_BERT_CJK = 2, PITH_BERT_ACCENTS = 4, PITH_BERT_LOWER = 8 };
enum { PITH_METASPACE_ALWAYS = 1, PITH_METASPACE_FIRST = 2 /* only at the start of the whole text */ };
typedef struct pith_text_step {
    pith_text_step_kind kind;
    unsigned flags;
    pith_str from, to;
} pith_text_step;

/* How a token that is looked for in the text takes it (pith_vocab.added). */
enum { PITH_ADDED = 1, PITH_ADDED_LSTRIP = 2 /* takes white space before it */, PITH_ADDED_RSTRIP = 4, PITH_ADDED_WORD = 8 /* not inside a word */,
    PITH_ADDED_NORMALIZED = 16 /* looked for after the steps */ };

/* A tokenizer as its file describes it.  Strings may point into the mapped file. */
typedef struct pith_vocab {
    pith_vocab_kind kind;
    char pre[32];                   /* pre-tokenizer: "smollm", "gpt-2", "llama-bpe", "qwen2", …; "" unknown */
    size_t n_tokens, n_merges;
    pith_str *tokens;               /* [n_tokens] in the file's own encoding (GPT-2 byte letters for BPE, ▁ for SPM) */
    float *scores;                  /* [n_tokens] or NULL */
    uint8_t *types;                 /* [n_tokens] pith_token_type */
    pith_str *merges;               /* [n_merges] "left right", best first */
    int32_t bos, eos, unk, pad, eot;/* -1: none */
    bool add_bos, add_eos, add_space_prefix, remove_extra_spaces, lowercase, ignore_merges;
    pith_str chat_template;         /* Jinja text; empty: none */
    pith_str charsmap;              /* SentencePiece's precompiled normaliser; empty: none */
    /* what a tokenizer.json says beyond GGUF; all zero: derived from the fields above */
    size_t n_steps;
    pith_text_step *steps;          /* [n_steps]; NULL: by kind and flags */
    uint8_t *added;                 /* [n_tokens] PITH_ADDED_*; NULL: every control, user and unknown token, plain */
    pith_str pattern;               /* BPE: the regular expression that cuts words; used when `pre` is not known; empty: none */
    pith_str word_prefix;           /* WordPiece: before a piece inside a word; empty: "##", or GGUF's U+2581 before first pieces */
    uint32_t max_word_chars;        /* WordPiece: longer words are unknown; 0: 100 */
    bool keep_unknown;              /* SPM: one unknown token a character, not one a run */
} pith_vocab;

typedef enum pith_file_kind { PITH_FILE_UNKNOWN, PITH_FILE_GGUF, PITH_FILE_SAFETENSORS, PITH_FILE_PITH,
    PITH_FILE_STORED /* a .pith that holds files to the bit */ } pith_file_kind;

/* A key and its value as text, for inspect. */
typedef struct pith_meta {
    char *key, *value;
} pith_meta;

typedef struct pith_model_file {
    pith_file_kind kind;
    char *path;
    size_t file_bytes;              /* all shards */
    size_t n_tensors;
    pith_named_tensor *tensors;
    pith_settings settings;
    pith_vocab vocab;
    size_t n_meta;
    pith_meta *meta;
    size_t n_maps;
    pith_map *maps;
    pith_arena *arena;              /* owns the arrays and strings above that are not in the maps */
} pith_model_file;

/** What a file is by its first bytes (a folder with config.json or *.safetensors: SAFETENSORS). */
pith_file_kind pith_file_sniff(const char *path);
/** Open a GGUF file, a .safetensors file or a model folder.  Every count, length and offset in it is
 *  checked against the bytes that are there.
 *  @return PITH_E_IO, PITH_E_FORMAT, PITH_E_CORRUPT, PITH_E_UNSUPPORTED, PITH_E_MEMORY, message with file, place, reason. */
pith_status pith_model_file_open(pith_ctx *ctx, const char *path, pith_model_file **file);
void pith_model_file_close(pith_ctx *ctx, pith_model_file *file);
const pith_named_tensor *pith_model_file_find(const pith_model_file *file, const char *name);

/** Rows r0..r1-1 of a tensor (its last dimension is the row) as f32 [r1-r0, cols]; any dtype.  Equal to
 *  the PyPI package `gguf`'s dequantisation to the last bit.  Pure. @return PITH_E_UNSUPPORTED */
pith_status pith_tensor_rows_f32(const pith_tensor *t, size_t r0, size_t r1, float *dst);
/** n values (whole blocks) of a block type to f32. */
pith_status pith_blocks_to_f32(pith_dtype dtype, const void *src, size_t n, float *dst);
/** f32 to a block type: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL Q2_K … Q6_K.  n is a multiple of the block.
 *  importance [n], weights >= 0 of the squared errors, may be NULL: then Q8_0 to Q5_1 are what the package `gguf` makes, and
 *  the others are searched with equal weights.
 *  @return PITH_E_UNSUPPORTED, PITH_E_SHAPE, PITH_E_NONFINITE (a value, or a scale beyond f16), PITH_E_ARGUMENT (a weight below 0) */
pith_status pith_blocks_from_f32(pith_dtype dtype, const float *src, size_t n, const float *importance, void *dst);

#endif
