/* Layers: parameters with a name, and the operation that uses them. */
#include <math.h>

#include "model/net_kind.h"

/* ---- linear, convolution, embedding ----------------------------------------------------------- */

static pith_init weight_init(pith_layer_init init, size_t fan_in, size_t fan_out)
{
    float n_in = (float)PITH_MAX(fan_in, (size_t)1), n_both = (float)PITH_MAX(fan_in + fan_out, (size_t)1);
    switch (init) {
    case PITH_LAYER_TORCH: return (pith_init){PITH_INIT_UNIFORM, 1 / sqrtf(n_in)};
    case PITH_LAYER_HE: return (pith_init){PITH_INIT_NORMAL, sqrtf(2 / n_in)};
    case PITH_LAYER_XAVIER: return (pith_init){PITH_INIT_UNIFORM, sqrtf(6 / n_both)};
    case PITH_LAYER_SMALL: return (pith_init){PITH_INIT_TRUNCATED, 0.02f};
    case PITH_LAYER_ZERO: break;
    }
    return (pith_init){PITH_INIT_CONSTANT, 0};
}

static pith_init bias_init(pith_layer_init init, size_t fan_in)
{
    return init == PITH_LAYER_TORCH ? weight_init(init, fan_in, 0) : (pith_init){PITH_INIT_CONSTANT, 0};
}

static pith_var *value_of(const pith_slot *slot) { return slot ? slot->value : NULL; }

void pith_linear_build(pith_net *net, pith_linear_layer *l, const char *name, size_t n_in, size_t n_out, bool bias, pith_layer_init init)
{
    *l = (pith_linear_layer){.net = net, .name = name};
    l->w = pith_net_add(net, pith_net_name(net, "%s.weight", name), weight_init(init, n_in, n_out), PITH_DIMS(n_out, n_in));
    if (bias) l->b = pith_net_add(net, pith_net_name(net, "%s.bias", name), bias_init(init, n_in), PITH_DIMS(n_out));
}

pith_var *pith_linear_run(const pith_linear_layer *l, pith_var *x)
{
    x = pith_net_before(l->net, l->name, x);
    return pith_net_after(l->net, l->name, x ? pith_var_linear(x, l->w->value, value_of(l->b)) : NULL);
}

void pith_conv_build(pith_net *net, pith_conv_layer *l, const char *name, const pith_conv_shape *s, pith_layer_init init)
{
    int n_space = s->n_space ? s->n_space : 2;
    size_t groups = PITH_MAX(s->groups, (size_t)1), area = 1, dims[5];
    *l = (pith_conv_layer){.net = net, .name = name, .transposed = s->transposed, .options = {.groups = groups}};
    dims[0] = s->transposed ? s->n_in : s->n_out;
    dims[1] = (s->transposed ? s->n_out : s->n_in) / groups;
    for (int d = 0; d < n_space; d++) {
        dims[2 + d] = s->kernel;
        area *= s->kernel;
        l->options.stride[d] = s->stride;
        l->options.padding[d] = s->padding;
        l->options.output_padding[d] = s->output_padding;
    }
    /* (PyTorch counts the second dimension as what goes in, transposed or not.) */
    size_t fan_in = dims[1] * area, fan_out = dims[0] * area / groups;
    l->w = pith_net_add(net, pith_net_name(net, "%s.weight", name), weight_init(init, fan_in, fan_out), 2 + n_space, dims);
    if (s->bias) l->b = pith_net_add(net, pith_net_name(net, "%s.bias", name), bias_init(init, fan_in), PITH_DIMS(s->n_out));
}

pith_var *pith_conv_run(const pith_conv_layer *l, pith_var *x)
{
    x = pith_net_before(l->net, l->name, x);
    if (!x) return NULL;
    x = l->transposed ? pith_var_conv_transposed(x, l->w->value, value_of(l->b), &l->options) : pith_var_conv(x, l->w->value, value_of(l->b), &l->options);
    return pith_net_after(l->net, l->name, x);
}

void pith_embedding_build(pith_net *net, pith_embedding_layer *l, const char *name, size_t n_rows, size_t width, pith_init init)
{
    *l = (pith_embedding_layer){.net = net, .name = name};
    l->w = pith_net_add(net, pith_net_name(net, "%s.weight", name), init, PITH_DIMS(n_rows, width));
}

pith_var *pith_embedding_run(const pith_embedding_layer *l, const int32_t *ids, size_t n, size_t len)
{
    return pith_net_after(l->net, l->name, pith_var_rows(l->w->value, ids, PITH_DIMS(n, len)));
}

/* ---- norms ------------------------------------------------------------------------------------ */

void pith_norm_build(pith_net *net, pith_norm_layer *l, const char *name, pith_norm_kind kind, size_t channels, float eps)
{
    *l = (pith_norm_layer){.net = net, .name = name, .kind = kind, .eps = eps, .n_groups = 1};
    l->gain = pith_net_add(net, pith_net_name(net, "%s.weight", name), (pith_init){PITH_INIT_CONSTANT, 1}, PITH_DIMS(channels));
    if (kind != PITH_NORM_RMS) l->bias = pith_net_add(net, pith_net_name(net, "%s.bias", name), (pith_init){PITH_INIT_CONSTANT, 0}, PITH_DIMS(channels));
    if (kind != PITH_NORM_BATCH) return;
    l->mean = pith_net_add_buffer(net, pith_net_name(net, "%s.running_mean", name), channels, 0);
    l->variance = pith_net_add_buffer(net, pith_net_name(net, "%s.running_var", name), channels, 1);
}

void pith_group_norm_build(pith_net *net, pith_norm_layer *l, const char *name, size_t n_groups, size_t channels, float eps)
{
    pith_norm_build(net, l, name, PITH_NORM_GROUP, channels, eps);
    l->n_groups = n_groups;
}

static pith_var *normal(const pith_norm_layer *l, pith_var *x)
{
    pith_var *gain = l->gain->value, *bias = value_of(l->bias);
    switch (l->kind) {
    case PITH_NORM_LAYER: return pith_var_layer_norm(x, gain, bias, l->eps);
    case PITH_NORM_RMS: return pith_var_rms_norm(x, gain, l->eps);
    case PITH_NORM_GROUP: return pith_var_group_norm(x, l->n_groups, gain, bias, l->eps);
    case PITH_NORM_BATCH: break;
    }
    if (x->n_dims < 2 || x->dims[1] != l->gain->param->count) return pith_op_fail(x->tape, PITH_E_SHAPE, "%s: %s has not %zu channels", l->name, PITH_SHAPE(x), l->gain->param->count);
    if (l->net->frozen) return pith_var_batch_norm_fixed(x, gain, bias, l->eps, l->mean, l->variance);
    return pith_var_batch_norm(x, gain, bias, l->eps, l->mean, l->variance, 0.1f);
}

pith_var *pith_norm_run(const pith_norm_layer *l, pith_var *x)
{
    x = pith_net_before(l->net, l->name, x);
    return pith_net_after(l->net, l->name, x ? normal(l, x) : NULL);
}

/* ---- without parameters ----------------------------------------------------------------------- */

pith_var *pith_activate(pith_activation activation, pith_var *x)
{
    switch (activation) {
    case PITH_ACT_RELU: return pith_var_relu(x);
    case PITH_ACT_GELU: return pith_var_gelu(x);
    case PITH_ACT_SILU: return pith_var_silu(x);
    case PITH_ACT_TANH: return pith_var_tanh(x);
    case PITH_ACT_NONE: break;
    }
    return x;
}

pith_var *pith_flatten(pith_var *x)
{
    if (!x) return NULL;
    if (x->n_dims < 1) return pith_op_fail(x->tape, PITH_E_SHAPE, "flatten: %s has no first dimension", PITH_SHAPE(x));
    size_t rest = 1;
    for (int d = 1; d < x->n_dims; d++) rest *= x->dims[d];
    return pith_var_reshape(x, PITH_DIMS(x->dims[0], rest));
}

pith_var *pith_pool_space(pith_var *x)
{
    if (!x) return NULL;
    if (x->n_dims < 3) return pith_op_fail(x->tape, PITH_E_SHAPE, "pool: %s has no space", PITH_SHAPE(x));
    unsigned space = 0;
    for (int d = 2; d < x->n_dims; d++) space |= PITH_AXIS(d);
    size_t n = x->dims[0], channels = x->dims[1];
    return pith_var_reshape(pith_var_mean(x, space), PITH_DIMS(n, channels));
}
