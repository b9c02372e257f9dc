/* Cards for tests, and a procedure that measures what its settings say. */
#ifndef PITH_TEST_CARDS_H
#define PITH_TEST_CARDS_H

#include "recipe/claim.h"
#include "recipe/run.h"
#include "test.h"

/* A card of the built-in procedure `classifier`, whose settings are known; its beginning, to which rows may be added. */
#define CARD_HEAD                                                                                                              \
    "id: mine\nfamily: tests\ntitle: A title\npaper: arXiv:1\nline: One line\nmechanism: How.\nstream: weights\nminutes: 2\n" \
    "procedure: classifier\nsettings: {net: mlp, images: [factors], n_images: 8, n_test: 4, evaluations: 1}\n"
#define CARD_ROWS "rows: {ours: this}\nbeside: {dense: that, other: third}\nmeasures: {acc: share, bytes: size}\n"
#define CARD_TRAIN "train: {rate: 1e-3, steps: 100, batch: 4}\n"

static inline pith_card *test_card(pith_ctx *ctx, const char *text, bool quick)
{
    pith_card *card = NULL;
    assert_ok(ctx, pith_card_parse(ctx, "card.yaml", text, strlen(text), quick, &card));
    return card;
}

#endif
