/* The loop that generates: sample, turn into text, stop. */
#include "model/generate.h"
#include "model/sample.h"

#define FIRST_TEXT 1024      /* bytes; one token's text and what is held back nearly always fit */

/* ---- text on its way out ---------------------------------------------------------------------- */

typedef struct reply {
    pith_ctx *ctx;
    const pith_generate_options *o;
    char *text;              /* not yet emitted */
    size_t n, cap;
    bool stopped, refused;   /* a stop string was found; the caller wants no more */
} reply;

/* Bytes of the character at s: > 0 whole, 0 none can start with these bytes, -1 its end has not come yet.
 * Well-formed UTF-8 as in table 3-7 of the Unicode Standard. */
static int character(const uint8_t *s, size_t n)
{
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    int len = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    uint8_t low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80, high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < len; i++, low = 0x80, high = 0xBF) {
        if ((size_t)i == n) return -1;
        if (s[i] < low || s[i] > high) return 0;
    }
    return len;
}

static void send(reply *r, const char *text, size_t len)
{
    if (len && r->o->emit && !r->refused) r->refused = !r->o->emit(r->o->user, text, len);
}

/* Emit the first `ready` bytes that are whole characters and drop them; `last`: nothing more comes. */
static void flush(reply *r, size_t ready, bool last)
{
    size_t from = 0, i = 0;
    while (i < ready) {
        int len = character((const uint8_t *)r->text + i, ready - i);
        if (len > 0) {
            i += (size_t)len;
            continue;
        }
        if (len < 0 && !last) break;
        send(r, r->text + from, i - from);
        send(r, "\xEF\xBF\xBD", 3);
        from = i = len < 0 ? ready : i + 1; /* a cut character is one replacement, however many bytes came */
    }
    send(r, r->text + from, i - from);
    memmove(r->text, r->text + i, r->n - i);
    r->n -= i;
}

/* Where the earliest stop string begins, or r->n; *held: bytes at the end that may become one. */
static size_t find_stop(const reply *r, size_t *held)
{
    size_t at = r->n;
    *held = 0;
    for (size_t k = 0; k < r->o->n_stop; k++) {
        const char *stop = r->o->stop[k];
        size_t len = strlen(stop);
        const char *found = memmem(r->text, r->n, stop, len);
        if (found) at = PITH_MIN(at, (size_t)(found - r->text));
        for (size_t tail = PITH_MIN(len - 1, r->n); tail > *held; tail--)
            if (memcmp(r->text + r->n - tail, stop, tail) == 0) *held = tail;
    }
    return at;
}

static pith_status say(reply *r, const pith_tokenizer *tok, int32_t id)
{
    size_t len = pith_token_text(tok, id, false, r->text + r->n, r->cap - r->n);
    if (len > r->cap - r->n) {
        size_t cap = 2 * r->cap + len;
        char *bigger = pith_resize(r->ctx, r->text, cap);
        if (!bigger) return PITH_E_MEMORY;
        r->text = bigger;
        r->cap = cap;
        len = pith_token_text(tok, id, false, r->text + r->n, r->cap - r->n);
    }
    r->n += len;
    size_t held, at = find_stop(r, &held);
    r->stopped = at < r->n;
    if (r->stopped) flush(r, at, true);
    else flush(r, r->n - held, false);
    return PITH_OK;
}

/* ---- the loop --------------------------------------------------------------------------------- */

typedef struct recent_ids {
    int32_t *ids;
    size_t n, cap;
} recent_ids;

static void remember(recent_ids *r, int32_t id)
{
    if (r->cap == 0) return;
    if (r->n == r->cap) memmove(r->ids, r->ids + 1, --r->n * sizeof *r->ids);
    r->ids[r->n++] = id;
}

static pith_status first_token(pith_ctx *ctx, const pith_tokenizer *tok, const pith_cache *cache, int32_t *id)
{
    if (cache->n > 0) return pith_fail(ctx, PITH_E_ARGUMENT, "an empty prompt cannot continue a conversation of %zu tokens", cache->n);
    static const char *const ends[] = {"<|endoftext|>", "<|end_of_text|>", "</s>"};
    *id = pith_tokenizer_bos(tok);
    for (size_t i = 0; i < PITH_COUNT(ends) && *id < 0; i++) *id = pith_tokenizer_find(tok, ends[i], strlen(ends[i]));
    if (*id < 0) return pith_fail(ctx, PITH_E_ARGUMENT, "the prompt is empty and the vocabulary has no token to begin a text with");
    return PITH_OK;
}

static pith_status prefill(pith_ctx *ctx, pith_llama *model, pith_cache *cache, const int32_t *ids, size_t n, float *logits)
{
    size_t batch = PITH_MAX(model->n_batch, 1);
    for (size_t i = 0; i < n; i += batch) {
        size_t len = PITH_MIN(n - i, batch);
        PITH_TRY(pith_progress(ctx, "prompt", i, n));
        PITH_TRY(pith_llama_forward(ctx, model, cache, ids + i, len, i + len == n, logits));
    }
    return pith_progress(ctx, "prompt", n, n);
}

static pith_status reply_loop(pith_ctx *ctx, pith_llama *model, const pith_tokenizer *tok, pith_cache *cache, reply *r, recent_ids *recent, float *logits,
                              pith_generate_result *result)
{
    const pith_generate_options *o = r->o;
    for (;;) {
        int32_t id;
        PITH_TRY(pith_sample_checked(ctx, &o->sampling, logits, model->s.n_vocab, recent->ids, recent->n, result->n_generated, &id));
        if (pith_token_ends(tok, id)) {
            result->ended_by = "end token";
            return PITH_OK;
        }
        result->n_generated++;
        remember(recent, id);
        PITH_TRY(say(r, tok, id));
        if (r->stopped || r->refused) {
            result->ended_by = r->refused ? "caller" : "stop string";
            return PITH_OK;
        }
        if (result->n_generated == o->max_tokens || cache->n == cache->capacity) {
            result->ended_by = result->n_generated == o->max_tokens ? "limit" : "context full";
            return PITH_OK;
        }
        PITH_TRY(pith_llama_forward(ctx, model, cache, &id, 1, 1, logits));
    }
}

pith_status pith_generate(pith_ctx *ctx, pith_llama *model, const pith_tokenizer *tok, pith_cache *cache, const int32_t *ids, size_t n,
                          const pith_generate_options *o, pith_generate_result *result)
{
    int32_t start;
    *result = (pith_generate_result){0};
    if (n == 0) {
        PITH_TRY(first_token(ctx, tok, cache, &start));
        ids = &start;
        n = 1;
    }
    if (n > cache->capacity - cache->n)
        return pith_fail(ctx, PITH_E_LIMIT, "the prompt has %zu tokens, the context of %zu has room for %zu: shorten it or raise the context", n, cache->capacity,
                         cache->capacity - cache->n);
    for (size_t k = 0; k < o->n_stop; k++)
        if (!o->stop[k][0]) return pith_fail(ctx, PITH_E_ARGUMENT, "stop string %zu is empty", k + 1);

    reply r = {.ctx = ctx, .o = o, .text = pith_alloc(ctx, FIRST_TEXT), .cap = FIRST_TEXT};
    size_t window = o->sampling.repeat_last > 0 ? PITH_MIN((size_t)o->sampling.repeat_last, cache->capacity) : 0;
    recent_ids recent = {.ids = pith_array(ctx, window, sizeof(int32_t)), .cap = window};
    float *logits = pith_array(ctx, model->s.n_vocab, sizeof *logits);
    pith_status status = r.text && recent.ids && logits ? PITH_OK : PITH_E_MEMORY;
    double begun = pith_now_s(), filled = begun;
    if (status == PITH_OK) {
        for (size_t i = n - PITH_MIN(n, window); i < n; i++) remember(&recent, ids[i]);
        status = prefill(ctx, model, cache, ids, n, logits);
        filled = pith_now_s();
        result->n_prompt = n;
        result->prefill_s = filled - begun;
    }
    if (status == PITH_OK) {
        status = reply_loop(ctx, model, tok, cache, &r, &recent, logits, result);
        result->decode_s = pith_now_s() - filled;
    }
    if (status == PITH_OK && !r.stopped) flush(&r, r.n, true);
    pith_free(ctx, logits);
    pith_free(ctx, recent.ids);
    pith_free(ctx, r.text);
    return status;
}
