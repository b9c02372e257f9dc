/* A card, and the judgement of its claims, on any bytes. */
#include <math.h>

#include "fuzz.h"
#include "recipe/claim.h"

static void judge_all(pith_ctx *ctx, const pith_card *card)
{
    enum { SEEDS = 2 };
    size_t n = card->n_rows * card->n_measures * SEEDS;
    pith_row_values v = {.n_rows = card->n_rows, .n_measures = card->n_measures, .n_seeds = SEEDS, .at = pith_calloc(ctx, n + 1, sizeof(double))};
    if (!v.at) return;
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < n; i++) v.at[i] = kind == 0 ? NAN : kind == 1 ? (double)(i % 7) - 3 : i % 2 ? INFINITY : 0;
        for (size_t i = 0; i < card->n_claims; i++) {
            char numbers[40];
            require(pith_claim_judge(card->claims[i].parsed, &v, numbers, sizeof numbers) <= PITH_UNJUDGED);
            require(memchr(numbers, 0, sizeof numbers) != NULL);
        }
    }
    pith_free(ctx, v.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return 0;
    pith_ctx *ctx = fuzz_ctx((size_t)8 << 20 | len * 64);
    size_t held = pith_memory_used(ctx);
    pith_card *card;
    pith_status status = pith_card_parse(ctx, "fuzz", (const char *)data + 1, len - 1, data[0] & 1, &card);
    if (status == PITH_OK) {
        judge_all(ctx, card);
        pith_card_scale(card, 0.01);
        pith_card_free(card);
    } else {
        require(pith_error(ctx)[0]);
    }
    require(pith_memory_used(ctx) == held);
    pith_ctx_free(ctx);
    return 0;
}
