/* A small random network in a GGUF file. */
#include "tiny_model.h"

#include <math.h>

#include "format/gguf.h"
#include "format/settings.h"

tiny_model tiny_model_default(void)
{
    tiny_model m = {.dtype = PITH_F32, .vocab = PITH_VOCAB_BPE, .seed = 1};
    pith_settings_default(&m.settings);
    m.settings.rope_style = PITH_ROPE_PAIRS;
    snprintf(m.settings.architecture, sizeof m.settings.architecture, "llama");
    m.settings.n_layers = 2;
    m.settings.n_embd = 64;
    m.settings.n_ff = 256;
    m.settings.n_heads = 4;
    m.settings.n_kv_heads = 2;
    m.settings.head_dim = m.settings.rope_dims = 16;
    m.settings.n_ctx = m.settings.rope_original_ctx = 256;
    m.settings.tied_embeddings = true;
    return m;
}

/* ---- vocabularies ----------------------------------------------------------------------------- */

/* Merges of the byte-level vocabulary, best first; a Ġ is a space. */
static const char *const merges[] = {"Ġ t", "h e", "i n", "Ġ a", "r e", "o n", "Ġt he", "e r", "Ġ s", "a t", "o r", "e n", "Ġ w", "Ġ c",
                                     "i s", "i t", "n d", "e s", "Ġ o", "Ġ b", "in g", "Ġo f", "e d", "a n", "Ġ f", "Ġ p", "o u", "a l",
                                     "Ġa nd", "Ġt o", "a r", "Ġ in", "Ġ m", "Ġ h", "l l", "l e", "0 0", "1 9", "Ġ 1", "Ġ 2", "c h", "Ġ th"};
static const char *const controls[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
/* pieces of the SentencePiece-style vocabulary, after the bytes */
static const char *const pieces[] = {"▁t", "he", "in", "▁a", "▁the", "er", "on", "re", "▁s", "at", "en", "▁w", "▁o", "ou", "▁of", "ing", "▁and", "▁to",
                                     "▁", "e", "t", "a", "o", "i", "n", "s", "r", "h", "l", "d", "c", "u", "m", "f", "p", "g", "w", "y", "b", "v",
                                     "k", "x", "j", "q", "z", ".", ",", "-", "0", "1", "2", "3", "T", "A", "I", "S"};

static char *copy(pith_arena *arena, const char *s, size_t n)
{
    char *p = pith_arena_take(arena, n + 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

/* The letter that stands for a byte in GPT-2's vocabulary: printable Latin-1 for itself, the others
 * from U+0100 on. */
static size_t byte_letter(unsigned byte, char letter[4])
{
    unsigned code = byte, n_before = 0;
    if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)) {
        for (unsigned b = 0; b < byte; b++) n_before += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
        code = 256 + n_before;
    }
    if (code < 128) {
        letter[0] = (char)code;
        return 1;
    }
    letter[0] = (char)(0xc0 | code >> 6);
    letter[1] = (char)(0x80 | (code & 63));
    return 2;
}

static pith_status take_tokens(pith_arena *arena, size_t n, pith_vocab *v)
{
    v->tokens = pith_arena_take(arena, n * sizeof *v->tokens);
    v->types = pith_arena_take(arena, n);
    v->n_tokens = n;
    return v->tokens && v->types ? PITH_OK : PITH_E_MEMORY;
}

static pith_status add_token(pith_arena *arena, pith_vocab *v, size_t *i, const char *s, size_t n, pith_token_type type)
{
    char *text = copy(arena, s, n);
    if (!text) return PITH_E_MEMORY;
    v->tokens[*i] = (pith_str){text, n};
    v->types[(*i)++] = (uint8_t)type;
    return PITH_OK;
}

static pith_status bpe_vocab(pith_arena *arena, pith_vocab *v)
{
    size_t i = 0;
    PITH_TRY(take_tokens(arena, PITH_COUNT(controls) + 256 + PITH_COUNT(merges), v));
    for (size_t k = 0; k < PITH_COUNT(controls); k++) PITH_TRY(add_token(arena, v, &i, controls[k], strlen(controls[k]), PITH_TOKEN_CONTROL));
    for (unsigned b = 0; b < 256; b++) {
        char letter[4];
        size_t n = byte_letter(b, letter);
        PITH_TRY(add_token(arena, v, &i, letter, n, PITH_TOKEN_NORMAL));
    }
    v->merges = pith_arena_take(arena, sizeof merges / sizeof *merges * sizeof *v->merges);
    if (!v->merges) return PITH_E_MEMORY;
    for (size_t k = 0; k < PITH_COUNT(merges); k++) {
        char joined[16];
        size_t left = strcspn(merges[k], " "), right = strlen(merges[k]) - left - 1;
        v->merges[v->n_merges++] = (pith_str){merges[k], strlen(merges[k])};
        memcpy(joined, merges[k], left);
        memcpy(joined + left, merges[k] + left + 1, right);
        PITH_TRY(add_token(arena, v, &i, joined, left + right, PITH_TOKEN_NORMAL));
    }
    snprintf(v->pre, sizeof v->pre, "gpt-2");
    v->bos = 1;
    v->eos = 2;
    v->unk = 0;
    v->pad = 2;
    static const char chat[] = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    v->chat_template = (pith_str){chat, sizeof chat - 1};
    return PITH_OK;
}

static pith_status spm_vocab(pith_arena *arena, pith_vocab *v)
{
    size_t i = 0;
    PITH_TRY(take_tokens(arena, 3 + 256 + PITH_COUNT(pieces), v));
    v->scores = pith_arena_take(arena, v->n_tokens * sizeof *v->scores);
    if (!v->scores) return PITH_E_MEMORY;
    PITH_TRY(add_token(arena, v, &i, "<unk>", 5, PITH_TOKEN_UNKNOWN));
    PITH_TRY(add_token(arena, v, &i, "<s>", 3, PITH_TOKEN_CONTROL));
    PITH_TRY(add_token(arena, v, &i, "</s>", 4, PITH_TOKEN_CONTROL));
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        PITH_TRY(add_token(arena, v, &i, name, 6, PITH_TOKEN_BYTE));
    }
    for (size_t k = 0; k < i; k++) v->scores[k] = 0;
    for (size_t k = 0; k < PITH_COUNT(pieces); k++) {
        v->scores[i] = -(float)k;
        PITH_TRY(add_token(arena, v, &i, pieces[k], strlen(pieces[k]), PITH_TOKEN_NORMAL));
    }
    v->bos = 1;
    v->eos = 2;
    v->unk = 0;
    v->pad = -1;
    v->add_bos = v->add_space_prefix = true;
    return PITH_OK;
}

pith_status tiny_vocab(pith_arena *arena, pith_vocab_kind kind, pith_vocab *v)
{
    *v = (pith_vocab){.kind = kind, .eot = -1};
    if (kind == PITH_VOCAB_BPE) return bpe_vocab(arena, v);
    if (kind == PITH_VOCAB_SPM) return spm_vocab(arena, v);
    return PITH_E_ARGUMENT;
}

/* ---- tensors ---------------------------------------------------------------------------------- */

typedef struct writing {
    pith_ctx *ctx;
    pith_gguf_writer *w;
    const tiny_model *m;
    bool declare;               /* first pass: the table; second: the bytes */
    uint64_t i_tensor;
} writing;

/* mean + spread * normal, [rows, cols]; rows 0 for a vector, which is F32 */
static pith_status tensor(writing *t, const char *name, size_t rows, size_t cols, float mean, float spread)
{
    pith_dtype dtype = rows ? t->m->dtype : PITH_F32;
    size_t dims[2] = {rows, cols}, count = (rows ? rows : 1) * cols, bytes;
    if (t->declare) return pith_gguf_declare(t->w, name, dtype, rows ? 2 : 1, rows ? dims : dims + 1);
    pith_rng rng = {.seed = t->m->seed, .stream = t->i_tensor++};
    pith_status status = pith_dtype_bytes(dtype, count, &bytes) ? PITH_E_MEMORY : PITH_E_SHAPE;
    if (status == PITH_E_SHAPE) return status;
    float *x = pith_array(t->ctx, count, sizeof *x);
    void *encoded = pith_alloc(t->ctx, bytes);
    if (x && encoded) {
        for (size_t i = 0; i < count; i++) x[i] = mean + spread * pith_rng_normal(&rng);
        if (t->m->zero_gain && !rows && strncmp(name, "blk.", 4) == 0 && strstr(name, "norm")) x[3] = 0;
        status = pith_blocks_from_f32(dtype, x, count, NULL, encoded);
        if (status == PITH_OK) status = pith_gguf_data(t->w, encoded, bytes);
    }
    pith_free(t->ctx, x);
    pith_free(t->ctx, encoded);
    return status;
}

static pith_status matrix(writing *t, const char *name, size_t rows, size_t cols) { return tensor(t, name, rows, cols, 0, 1 / sqrtf((float)cols)); }

static pith_status layer(writing *t, unsigned i)
{
    const pith_settings *s = &t->m->settings;
    size_t n_q = (size_t)s->n_heads * s->head_dim, n_kv = (size_t)s->n_kv_heads * s->head_dim;
    const struct { const char *name; size_t rows, cols; float mean, spread; } list[] = {
        {"attn_norm.weight", 0, s->n_embd, 1, 0.1f}, {"ffn_norm.weight", 0, s->n_embd, 1, 0.1f},
        {"attn_q.weight", n_q, s->n_embd, 0, 0}, {"attn_k.weight", n_kv, s->n_embd, 0, 0}, {"attn_v.weight", n_kv, s->n_embd, 0, 0},
        {"attn_output.weight", s->n_embd, n_q, 0, 0},
        {"ffn_gate.weight", s->n_ff, s->n_embd, 0, 0}, {"ffn_up.weight", s->n_ff, s->n_embd, 0, 0}, {"ffn_down.weight", s->n_embd, s->n_ff, 0, 0},
        {"attn_q.bias", 0, n_q, 0, 0.1f}, {"attn_k.bias", 0, n_kv, 0, 0.1f}, {"attn_v.bias", 0, n_kv, 0, 0.1f}};
    for (size_t k = 0; k < PITH_COUNT(list); k++) {
        char name[64];
        bool is_bias = strstr(list[k].name, "bias") != NULL;
        if (is_bias && !t->m->biases) continue;
        snprintf(name, sizeof name, "blk.%u.%s", i, list[k].name);
        if (list[k].rows) PITH_TRY(matrix(t, name, list[k].rows, list[k].cols));
        else PITH_TRY(tensor(t, name, 0, list[k].cols, list[k].mean, list[k].spread));
    }
    return PITH_OK;
}

static pith_status tensors(writing *t, size_t n_vocab)
{
    const pith_settings *s = &t->m->settings;
    PITH_TRY(tensor(t, "token_embd.weight", n_vocab, s->n_embd, 0, s->tied_embeddings ? 1 / sqrtf((float)s->n_embd) : 1));
    if (!s->tied_embeddings) PITH_TRY(matrix(t, "output.weight", n_vocab, s->n_embd));
    PITH_TRY(tensor(t, "output_norm.weight", 0, s->n_embd, 1, 0.1f));
    if (s->rope_scaling == PITH_ROPE_LLAMA3) {
        float factors[256];
        size_t n = s->rope_dims / 2;
        if (n > PITH_COUNT(factors)) return PITH_E_ARGUMENT;
        pith_llama3_factors(s, factors);
        PITH_TRY(t->declare ? pith_gguf_declare(t->w, "rope_freqs.weight", PITH_F32, 1, &n) : pith_gguf_data(t->w, factors, n * sizeof *factors));
    }
    for (unsigned i = 0; i < s->n_layers; i++) PITH_TRY(layer(t, i));
    return PITH_OK;
}

pith_status tiny_model_write(pith_ctx *ctx, const tiny_model *m, const char *path)
{
    pith_arena *arena = pith_arena_new(ctx);
    if (!arena) return PITH_E_MEMORY;
    pith_gguf_writer *w = NULL;
    pith_vocab vocab;
    pith_settings s = m->settings;
    pith_status status;
    PITH_GOTO(tiny_vocab(arena, m->vocab, &vocab), done);
    s.n_vocab = (uint32_t)vocab.n_tokens;
    PITH_GOTO(pith_gguf_writer_open(ctx, path, &w), done);
    PITH_GOTO(pith_gguf_put_settings(w, &s), done);
    PITH_GOTO(pith_gguf_put_vocab(w, &vocab), done);
    writing t = {.ctx = ctx, .w = w, .m = m, .declare = true};
    PITH_GOTO(tensors(&t, vocab.n_tokens), done);
    t.declare = false;
    PITH_GOTO(tensors(&t, vocab.n_tokens), done);
    status = pith_gguf_writer_close(w);
    w = NULL;
done:
    pith_gguf_writer_discard(w);
    pith_arena_free(arena);
    return status;
}
