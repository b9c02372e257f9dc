/* From a card's `train` to the training loop's options. */
#include "recipe/train_card.h"

pith_train_options pith_run_train_options(const pith_run *run)
{
    const pith_card_train *t = &run->card->train;
    uint64_t identity[4] = {pith_hash(run->card->text, run->card->text_len), run->seed, run->quick, run->card->split};
    return (pith_train_options){.n_steps = t->steps, .n_parts = (uint32_t)t->accumulate, .patience = (uint32_t)t->patience,
                                .identity = pith_hash(identity, sizeof identity), .n_items = (double)(t->batch * t->accumulate),
                                .group = run->group, .observe = run->observe, .observe_user = run->observe_user};
}

pith_train_role pith_run_train_role(const pith_run *run)
{
    static const pith_optimizer_kind kinds[] = {[PITH_CARD_SGD] = PITH_SGD, [PITH_CARD_ADAMW] = PITH_ADAMW, [PITH_CARD_ADAFACTOR] = PITH_ADAFACTOR, [PITH_CARD_MUON] = PITH_MUON};
    static const pith_schedule_kind schedules[] = {[PITH_CARD_CONSTANT] = PITH_RATE_CONSTANT, [PITH_CARD_LINEAR] = PITH_RATE_LINEAR, [PITH_CARD_COSINE] = PITH_RATE_COSINE};
    const pith_card_train *t = &run->card->train;
    return (pith_train_role){
        .optimizer = {.kind = kinds[t->optimizer], .momentum = (float)t->momentum, .nesterov = t->nesterov, .beta1 = (float)t->beta1, .beta2 = (float)t->beta2,
                      .eps = (float)t->eps, .weight_decay = (float)t->decay, .clip_norm = (float)t->clip, .ema = (float)t->ema},
        .schedule = {.kind = schedules[t->schedule], .rate = (float)t->rate, .last_rate = (float)t->last_rate, .n_warmup = (uint64_t)(t->warmup * (double)t->steps)},
        .group = pith_train_group_matrices};
}
