/* The llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU (H. Touvron et al.,
 * arXiv:2302.13971 and 2307.09288); Qwen2 adds biases to q, k and v, Mistral a sliding window. */
#include "model/llama_network.h"

#define OPS(...) (pith_operator *const[]){__VA_ARGS__}, PITH_COUNT(((pith_operator *const[]){__VA_ARGS__}))
#define TO(...) (const llama_value[]){__VA_ARGS__}

pith_status llama_layer(const llama_engine *e, void *run, const pith_llama *m, size_t i_layer)
{
    const pith_llama_layer *l = &m->layers[i_layer];
    PITH_TRY(e->norm(run, &l->attn_norm));
    PITH_TRY(e->multiply(run, OPS(l->q, l->k, l->v), LLAMA_H, TO(LLAMA_Q, LLAMA_K, LLAMA_V)));
    PITH_TRY(e->attend(run, l, i_layer));
    PITH_TRY(e->multiply(run, OPS(l->o), LLAMA_ATT, TO(LLAMA_H)));
    PITH_TRY(e->add(run));
    PITH_TRY(e->norm(run, &l->ffn_norm));
    PITH_TRY(e->multiply(run, OPS(l->gate, l->up), LLAMA_H, TO(LLAMA_GATE, LLAMA_UP)));
    PITH_TRY(e->gate(run, l));
    PITH_TRY(e->multiply(run, OPS(l->down), LLAMA_GATE, TO(LLAMA_H)));
    return e->add(run);
}

pith_status llama_body(const llama_engine *e, void *run, const pith_llama *m)
{
    PITH_TRY(e->embed(run));
    for (size_t i = 0; i < m->s.n_layers; i++) PITH_TRY(e->layer(run, i));
    return e->norm(run, &m->output_norm);
}

pith_status llama_head(const llama_engine *e, void *run, const pith_llama *m)
{
    if (m->output_transform) PITH_TRY(e->multiply(run, OPS(m->output_transform), LLAMA_H, TO(LLAMA_X)));
    return e->multiply(run, OPS(m->output), m->output_transform ? LLAMA_X : LLAMA_H, TO(LLAMA_LOGITS));
}
