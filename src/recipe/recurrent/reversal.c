/* Encoder and decoder. */
#include "recipe/recurrent/reversal.h"

enum { END = 0, MARK = 27 }; /* letters are 1..26 */

pith_status pith_reversal_new(pith_tape *tape, const char *kind, size_t n_encoder, size_t n_decoder, uint64_t seed, pith_reversal *r)
{
    pith_reader_options o = {.kind = kind, .n_in = PITH_REVERSAL_SYMBOLS, .n_out = PITH_REVERSAL_SYMBOLS, .n_values = n_encoder + n_decoder, .seed = seed};
    *r = (pith_reversal){.tape = tape};
    if (!strcmp(kind, "mamba2")) return pith_reader_new(tape, &o, &r->reader);
    o.n_values = n_encoder;
    o.n_out = 0;
    o.last = true;
    PITH_TRY(pith_reader_new(tape, &o, &r->reader));
    o.n_values = n_decoder;
    o.n_in += pith_reader_width(r->reader);
    o.n_out = PITH_REVERSAL_SYMBOLS;
    o.last = false;
    o.seed += (uint64_t)1 << 32;
    return pith_reader_new(tape, &o, &r->decoder);
}

void pith_reversal_free(pith_reversal *r)
{
    pith_reader_free(r->decoder);
    pith_reader_free(r->reader);
}

static size_t n_letters(const int32_t *tokens)
{
    size_t n = 0;
    while (tokens[n] != MARK) n++;
    return n;
}

/* What was read, [n, width of the encoder]: letters and mark, moved to the end of a window. */
static pith_var *encode(const pith_reversal *r, const int32_t *tokens, size_t n, size_t len)
{
    int32_t *source = pith_op_attr(r->tape, n * PITH_REPLY, sizeof *source);
    if (!source) return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t known = n_letters(tokens + i * len) + 1;
        for (size_t t = 0; t < PITH_REPLY; t++) source[i * PITH_REPLY + t] = t + known < PITH_REPLY ? -1 : tokens[i * len + t + known - PITH_REPLY];
    }
    return pith_reader_run(r->reader, pith_reader_one_hot(r->tape, source, n, PITH_REPLY, PITH_REPLY, PITH_REVERSAL_SYMBOLS), NULL);
}

/* Logits [n, len, symbols] of a reply of which fed [n, PITH_REPLY] are the symbols before. */
static pith_var *decode(const pith_reversal *r, pith_var *thought, const int32_t *fed, size_t len)
{
    if (!thought) return NULL;
    size_t n = thought->dims[0], width = thought->dims[1];
    pith_var *both[2] = {pith_reader_one_hot(r->tape, fed, n, len, PITH_REPLY, PITH_REVERSAL_SYMBOLS), pith_var_broadcast(pith_var_reshape(thought, PITH_DIMS(n, 1, width)), PITH_DIMS(n, len, width))};
    return pith_reader_run(r->decoder, pith_var_concat(both, 2, -1), NULL);
}

static pith_var *read_all(const pith_reversal *r, const int32_t *tokens, size_t n, size_t len)
{
    return pith_reader_run(r->reader, pith_reader_one_hot(r->tape, tokens, n, len, len, PITH_REVERSAL_SYMBOLS), NULL);
}

/* By row `row` of logits [.., symbols]. */
static int32_t likeliest(const pith_var *logits, size_t row)
{
    return (int32_t)pith_argmax(logits->data + row * PITH_REVERSAL_SYMBOLS, PITH_REVERSAL_SYMBOLS);
}

pith_status pith_reversal_reply(const pith_reversal *r, const int32_t *tokens, size_t n, size_t len, int32_t *reply)
{
    int32_t *fed = pith_op_attr(r->tape, n * (len + PITH_REPLY), sizeof *fed), *all = fed ? fed + n * PITH_REPLY : NULL;
    pith_var *thought = fed && r->decoder ? encode(r, tokens, n, len) : NULL;
    PITH_TRY(pith_tape_status(r->tape));
    for (size_t i = 0; i < n; i++) {
        fed[i * PITH_REPLY] = MARK;
        for (size_t t = 0, known = n_letters(tokens + i * len) + 1; t < len; t++) all[i * len + t] = t < known ? tokens[i * len + t] : -1;
    }
    for (size_t k = 0; k < PITH_REPLY; k++) {
        const pith_var *y = r->decoder ? decode(r, thought, fed, k + 1) : read_all(r, all, n, len);
        PITH_TRY(pith_tape_status(r->tape));
        for (size_t i = 0; i < n; i++) {
            size_t at = n_letters(tokens + i * len) + k; /* where a reader of all is asked for it; beyond the window it is not */
            int32_t symbol = r->decoder ? likeliest(y, i * (k + 1) + k) : at < len ? likeliest(y, i * len + at) : END;
            reply[i * PITH_REPLY + k] = symbol;
            if (k + 1 < PITH_REPLY) fed[i * PITH_REPLY + k + 1] = symbol;
            if (at + 1 < len) all[i * len + at + 1] = symbol;
        }
    }
    return PITH_OK;
}

/* The decoder's inputs: the mark, then the right symbols, or its own. */
static bool feed(const pith_reversal *r, const int32_t *tokens, size_t n, size_t len, bool fed_its_own, int32_t *fed)
{
    int32_t *own = fed_its_own ? pith_op_attr(r->tape, n * PITH_REPLY, sizeof *own) : NULL;
    if (fed_its_own) {
        bool recording = pith_tape_record(r->tape, false);
        pith_status status = own ? pith_reversal_reply(r, tokens, n, len, own) : PITH_E_MEMORY;
        pith_tape_record(r->tape, recording);
        if (status != PITH_OK) return false; /* the tape has it */
    }
    for (size_t i = 0; i < n; i++) {
        size_t letters = n_letters(tokens + i * len);
        fed[i * PITH_REPLY] = MARK;
        for (size_t t = 1; t < PITH_REPLY; t++) fed[i * PITH_REPLY + t] = own ? own[i * PITH_REPLY + t - 1] : t <= letters ? tokens[i * len + letters + t] : END;
    }
    return true;
}

pith_var *pith_reversal_loss(const pith_reversal *r, const int32_t *tokens, size_t n, size_t len, bool fed_its_own)
{
    size_t asked = r->decoder ? PITH_REPLY : len;
    int32_t *label = pith_op_attr(r->tape, n * asked, sizeof *label), *fed = pith_op_attr(r->tape, n * PITH_REPLY, sizeof *fed);
    if (!label || !fed) return NULL;
    for (size_t i = 0; i < n; i++) {
        const int32_t *row = tokens + i * len;
        size_t letters = n_letters(row), first = r->decoder ? 0 : letters; /* where the first symbol is asked for */
        for (size_t t = 0; t < asked; t++) label[i * asked + t] = t < first || t > first + letters ? PITH_NO_LABEL : t - first < letters ? row[letters + 1 + t - first] : END;
    }
    if (!r->decoder) return pith_var_cross_entropy(read_all(r, tokens, n, len), label);
    return feed(r, tokens, n, len, fed_its_own, fed) ? pith_var_cross_entropy(decode(r, encode(r, tokens, n, len), fed, PITH_REPLY), label) : NULL;
}

void pith_reversal_score(const int32_t *tokens, size_t n, size_t len, const int32_t *reply, pith_bleu *sum)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t *said = reply + i * PITH_REPLY, *row = tokens + i * len;
        size_t n_said = 0, letters = n_letters(row);
        while (n_said < PITH_REPLY && said[n_said] != END) n_said++;
        pith_bleu_add(sum, (pith_bleu_text){said, n_said}, &(pith_bleu_text){row + letters + 1, letters}, 1);
    }
}
