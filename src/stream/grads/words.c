/* Compressors and feedback as people write them. */
#include <math.h>
#include <stdlib.h>

#include "stream/grads/channel.h"

/* One of `words` at p: its name [len], and whether a number may or must follow. */
typedef struct word {
    const char *name;
    size_t len;
    bool may, must;
} word;

static word word_at(const char *p)
{
    size_t len = strcspn(p, ":[|");
    return (word){p, len, p[len] == '[' || p[len] == ':', p[len] == ':'};
}

static const char *next_word(const char *p)
{
    p += strcspn(p, "|");
    return *p ? p + 1 : p;
}

/* "none, topk:SHARE or sign" */
static void list_words(const char *words, char *text, size_t size)
{
    size_t n = 0;
    for (const char *p = words; *p && n < size; p = next_word(p)) {
        bool last = !*next_word(p);
        n += (size_t)snprintf(text + n, size - n, "%s%.*s", p == words ? "" : last ? " or " : ", ", (int)strcspn(p, "|"), p);
    }
}

/* Which of `words` it is, and its number (NaN: none). */
static pith_status read_word(pith_ctx *ctx, const char *what, const char *words, const char *text, int *index, double *number)
{
    char allowed[160];
    size_t len = strcspn(text, ":");
    *number = (double)NAN;
    *index = 0;
    list_words(words, allowed, sizeof allowed);
    for (const char *p = words; *p; p = next_word(p), ++*index) {
        word w = word_at(p);
        if (w.len != len || memcmp(text, w.name, len) != 0) continue;
        if (!text[len] && !w.must) return PITH_OK;
        char *end;
        if (text[len] && w.may) *number = strtod(text + len + 1, &end);
        if (text[len] && w.may && text[len + 1] && !*end && isfinite(*number)) return PITH_OK;
        return pith_fail(ctx, PITH_E_ARGUMENT, "\"%s\": write %.*s, with%s a number", text, (int)strcspn(p, "|"), p, w.may ? "" : "out");
    }
    return pith_fail(ctx, PITH_E_ARGUMENT, "\"%s\" is no %s: give %s", text, what, allowed);
}

pith_status pith_channel_read(pith_ctx *ctx, const char *compress, const char *feedback, pith_channel_options *o)
{
    int kind, how;
    double param, eta;
    PITH_TRY(read_word(ctx, "way to compress gradients", PITH_COMPRESSOR_WORDS, compress ? compress : "none", &kind, &param));
    pith_compressor c = {(pith_compressor_kind)kind, isnan(param) ? 0 : param};
    PITH_TRY(pith_compressor_check(ctx, &c));
    const char *usual = c.kind == PITH_COMPRESS_DENSE || c.kind == PITH_COMPRESS_QSGD ? "none" : "ef";
    PITH_TRY(read_word(ctx, "feedback of errors", PITH_FEEDBACK_WORDS, feedback ? feedback : usual, &how, &eta));
    if (c.kind == PITH_COMPRESS_DENSE && how != PITH_FEEDBACK_NONE)
        return pith_fail(ctx, PITH_E_ARGUMENT, "feedback \"%s\" of gradients that are not compressed has nothing to feed back; say how to compress them", feedback);
    if (eta < 0 || eta > 1) return pith_fail(ctx, PITH_E_ARGUMENT, "\"%s\": econtrol's ETA is 0 to 1", feedback);
    o->compressor = c;
    o->feedback = (pith_feedback)how;
    o->eta = how != PITH_FEEDBACK_ECONTROL ? 0 : isnan(eta) ? 0.1f : (float)eta;
    o->dense_first = how >= PITH_FEEDBACK_EF21;
    return PITH_OK;
}

/* Word i, and the number where it takes one. */
static size_t tell_word(const char *words, int i, double number, char *text, size_t size)
{
    while (i--) words = next_word(words);
    word w = word_at(words);
    return (size_t)snprintf(text, size, w.may ? "%.*s:%g" : "%.*s", (int)w.len, w.name, number);
}

void pith_channel_tell(const pith_channel_options *o, char text[PITH_CHANNEL_TEXT])
{
    size_t n = tell_word(PITH_COMPRESSOR_WORDS, (int)o->compressor.kind, o->compressor.param, text, PITH_CHANNEL_TEXT);
    if (o->compressor.kind == PITH_COMPRESS_DENSE) return;
    n += (size_t)snprintf(text + n, PITH_CHANNEL_TEXT - n, o->feedback == PITH_FEEDBACK_NONE ? " without feedback" : " with ");
    if (o->feedback != PITH_FEEDBACK_NONE) tell_word(PITH_FEEDBACK_WORDS, (int)o->feedback, (double)o->eta, text + n, PITH_CHANNEL_TEXT - n);
}
