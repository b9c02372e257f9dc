/* Blocks that several networks are made of. */
#include <math.h>

#include "model/net_kind.h"

/* ---- attention -------------------------------------------------------------------------------- */

void pith_attention_build(pith_net *net, pith_attention_layer *l, const char *name, size_t width, size_t context_width, size_t n_heads, pith_layer_init init)
{
    l->n_heads = n_heads;
    if (width % n_heads) pith_net_fail(net, PITH_E_ARGUMENT, "%s: a width of %zu is no multiple of %zu heads", name, width, n_heads);
    pith_linear_build(net, &l->q, pith_net_name(net, "%s.to_q", name), width, width, true, init);
    pith_linear_build(net, &l->k, pith_net_name(net, "%s.to_k", name), context_width, width, true, init);
    pith_linear_build(net, &l->v, pith_net_name(net, "%s.to_v", name), context_width, width, true, init);
    pith_linear_build(net, &l->out, pith_net_name(net, "%s.to_out", name), width, width, true, init);
}

pith_var *pith_attention_run(const pith_attention_layer *l, pith_var *x, pith_var *context, const pith_attention *options)
{
    static const pith_attention all = {0};
    pith_var *q = pith_linear_run(&l->q, x), *k = pith_linear_run(&l->k, context), *v = pith_linear_run(&l->v, context);
    return pith_linear_run(&l->out, pith_var_attention_heads(q, k, v, l->n_heads, l->n_heads, options ? options : &all));
}

pith_var *pith_to_tokens(pith_var *x)
{
    if (!x) return NULL;
    if (x->n_dims != 4) return pith_op_fail(x->tape, PITH_E_SHAPE, "tokens: %s is no batch of images", PITH_SHAPE(x));
    return pith_var_transpose(pith_var_reshape(x, PITH_DIMS(x->dims[0], x->dims[1], x->dims[2] * x->dims[3])), 1, 2);
}

pith_var *pith_from_tokens(pith_var *x, size_t height, size_t width)
{
    return x ? pith_var_reshape(pith_var_transpose(x, 1, 2), PITH_DIMS(x->dims[0], x->dims[2], height, width)) : NULL;
}

pith_var *pith_mean_of_tokens(const pith_net_input *in, pith_var *x)
{
    if (!x) return NULL;
    size_t rows = x->dims[0], len = x->dims[1];
    pith_var *weight = pith_tape_fill(x->tape, 0, PITH_DIMS(rows, 1, len));
    for (size_t i = 0; weight && i < rows; i++) {
        size_t n = in->n_tokens ? PITH_MIN((size_t)in->n_tokens[i], len) : len;
        for (size_t k = 0; k < n; k++) weight->data[i * len + k] = 1 / (float)n;
    }
    return pith_var_reshape(pith_var_matmul(weight, x, false, false), PITH_DIMS(rows, x->dims[2]));
}

/* ---- along time ------------------------------------------------------------------------------- */

void pith_causal_conv_build(pith_net *net, pith_causal_conv *l, const char *name, size_t channels, size_t kernel)
{
    const pith_init init = {PITH_INIT_UNIFORM, 1 / sqrtf((float)kernel)};
    *l = (pith_causal_conv){.name = name, .net = net, .kernel = kernel};
    l->w = pith_net_add(net, pith_net_name(net, "%s.weight", name), init, PITH_DIMS(channels, 1, kernel));
    l->b = pith_net_add(net, pith_net_name(net, "%s.bias", name), init, PITH_DIMS(channels));
}

/* Of one multiplication and addition for each value of the kernel: channels do not mix, so there is no product to gain from. */
pith_var *pith_causal_conv_run(const pith_causal_conv *l, pith_var *x)
{
    x = pith_net_before(l->net, l->name, x);
    if (!x) return NULL;
    size_t len = x->dims[1], channels = l->w->param->dims[0];
    pith_var *padded = pith_var_pad(x, 1, l->kernel - 1, 0), *y = l->b->value;
    pith_var *w = pith_var_transpose(pith_var_reshape(l->w->value, PITH_DIMS(channels, l->kernel)), 0, 1); /* [kernel, channels] */
    for (size_t i = 0; i < l->kernel; i++) y = pith_var_add(pith_var_mul(pith_var_slice(padded, 1, i, len), pith_var_slice(w, 0, i, 1)), y);
    return pith_net_after(l->net, l->name, y);
}

pith_var *pith_one_later(pith_var *x) { return x ? pith_var_slice(pith_var_pad(x, 1, 1, 0), 1, 0, x->dims[1]) : NULL; }

/* ---- residual block --------------------------------------------------------------------------- */

size_t pith_group_count(size_t channels)
{
    for (size_t groups = 8; groups > 1; groups /= 2)
        if (channels % groups == 0) return groups;
    return 1;
}

void pith_res_block_build(pith_net *net, pith_res_block *b, const char *name, size_t n_in, size_t n_out, size_t time_width)
{
    b->changes = n_in != n_out;
    b->has_time = time_width > 0;
    pith_group_norm_build(net, &b->norm1, pith_net_name(net, "%s.norm1", name), pith_group_count(n_in), n_in, 1e-6f);
    pith_conv_build(net, &b->conv1, pith_net_name(net, "%s.conv1", name), &(pith_conv_shape){.n_in = n_in, .n_out = n_out, .kernel = 3, .padding = 1, .bias = true}, PITH_LAYER_TORCH);
    if (b->has_time) pith_linear_build(net, &b->time, pith_net_name(net, "%s.time", name), time_width, n_out, true, PITH_LAYER_TORCH);
    pith_group_norm_build(net, &b->norm2, pith_net_name(net, "%s.norm2", name), pith_group_count(n_out), n_out, 1e-6f);
    pith_conv_build(net, &b->conv2, pith_net_name(net, "%s.conv2", name), &(pith_conv_shape){.n_in = n_out, .n_out = n_out, .kernel = 3, .padding = 1, .bias = true}, b->has_time ? PITH_LAYER_ZERO : PITH_LAYER_TORCH);
    if (b->changes) pith_conv_build(net, &b->shortcut, pith_net_name(net, "%s.shortcut", name), &(pith_conv_shape){.n_in = n_in, .n_out = n_out, .kernel = 1, .bias = true}, PITH_LAYER_TORCH);
}

pith_var *pith_res_block_run(const pith_res_block *b, pith_var *x, pith_var *time)
{
    pith_var *y = pith_conv_run(&b->conv1, pith_var_silu(pith_norm_run(&b->norm1, x)));
    if (b->has_time) {
        pith_var *shift = pith_linear_run(&b->time, pith_var_silu(time));
        y = shift ? pith_var_add(y, pith_var_reshape(shift, PITH_DIMS(shift->dims[0], shift->dims[1], 1, 1))) : NULL;
    }
    y = pith_conv_run(&b->conv2, pith_var_silu(pith_norm_run(&b->norm2, y)));
    return pith_var_add(b->changes ? pith_conv_run(&b->shortcut, x) : x, y);
}

/* ---- time ------------------------------------------------------------------------------------- */

void pith_time_build(pith_net *net, pith_time_layer *l, const char *name, size_t width, size_t n_out, pith_layer_init init)
{
    l->width = width + width % 2;
    pith_linear_build(net, &l->first, pith_net_name(net, "%s.0", name), l->width, n_out, true, init);
    pith_linear_build(net, &l->second, pith_net_name(net, "%s.2", name), n_out, n_out, true, init);
}

pith_var *pith_time_run(const pith_time_layer *l, const float *t, size_t n)
{
    pith_tape *tape = pith_net_tape(l->first.net);
    size_t half = l->width / 2;
    pith_var *waves = pith_tape_fill(tape, 0, PITH_DIMS(n, l->width));
    for (size_t i = 0; waves && i < n; i++)
        for (size_t k = 0; k < half; k++) {
            double at = (double)t[i] * exp(-log(10000.0) * (double)k / (double)half);
            waves->data[i * l->width + k] = (float)cos(at);
            waves->data[i * l->width + half + k] = (float)sin(at);
        }
    return pith_linear_run(&l->second, pith_var_silu(pith_linear_run(&l->first, waves)));
}

/* ---- text ------------------------------------------------------------------------------------- */

void pith_text_encoder_build(pith_net *net, pith_text_encoder *e, const char *name, size_t n_vocab, size_t n_ctx, size_t width, size_t depth, size_t n_heads)
{
    const pith_init small = {PITH_INIT_TRUNCATED, 0.02f};
    e->n_blocks = depth;
    e->n_ctx = n_ctx;
    e->blocks = pith_net_take(net, depth, sizeof *e->blocks);
    if (!e->blocks) return;
    pith_embedding_build(net, &e->words, pith_net_name(net, "%s.words", name), n_vocab, width, small);
    pith_embedding_build(net, &e->positions, pith_net_name(net, "%s.positions", name), n_ctx, width, small);
    for (size_t i = 0; i < depth; i++) {
        pith_text_block *b = &e->blocks[i];
        const char *at = pith_net_name(net, "%s.blocks.%zu", name, i);
        pith_norm_build(net, &b->norm1, pith_net_name(net, "%s.norm1", at), PITH_NORM_LAYER, width, 1e-5f);
        pith_attention_build(net, &b->attention, pith_net_name(net, "%s.attn", at), width, width, n_heads, PITH_LAYER_SMALL);
        pith_norm_build(net, &b->norm2, pith_net_name(net, "%s.norm2", at), PITH_NORM_LAYER, width, 1e-5f);
        pith_linear_build(net, &b->fc1, pith_net_name(net, "%s.fc1", at), width, 4 * width, true, PITH_LAYER_SMALL);
        pith_linear_build(net, &b->fc2, pith_net_name(net, "%s.fc2", at), 4 * width, width, true, PITH_LAYER_SMALL);
    }
    pith_norm_build(net, &e->norm, pith_net_name(net, "%s.norm", name), PITH_NORM_LAYER, width, 1e-5f);
}

pith_var *pith_text_encoder_run(const pith_text_encoder *e, const pith_net_input *in)
{
    pith_net *net = e->norm.net;
    if (!in->ids || !in->len || in->len > e->n_ctx) return pith_op_fail(net->tape, PITH_E_ARGUMENT, "%s: a text of 1 to %zu words is needed, not of %zu", net->name, e->n_ctx, in->ids ? in->len : 0);
    const pith_attention seen = {.n_keys = in->n_tokens};
    pith_var *x = pith_var_add(pith_embedding_run(&e->words, in->ids, in->n, in->len), pith_var_slice(e->positions.w->value, 0, 0, in->len));
    for (size_t i = 0; i < e->n_blocks; i++) {
        const pith_text_block *b = &e->blocks[i];
        pith_var *y = pith_norm_run(&b->norm1, x);
        x = pith_var_add(x, pith_attention_run(&b->attention, y, y, &seen));
        x = pith_var_add(x, pith_linear_run(&b->fc2, pith_var_gelu(pith_linear_run(&b->fc1, pith_norm_run(&b->norm2, x)))));
    }
    return pith_norm_run(&e->norm, x);
}
