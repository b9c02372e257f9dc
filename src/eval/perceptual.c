/* Images as a classifier sees them. */
#include "eval/perceptual.h"

#include "format/json.h"

/* [n, channels, height, width] divided by its length at each place.  The smallest number that counts keeps the root's
 * gradient finite where nothing is seen. */
static pith_var *unit(pith_var *x)
{
    return pith_var_mul(x, pith_var_rsqrt(pith_var_affine(pith_var_sum(pith_var_square(x), PITH_AXIS(1)), 1, 1e-10f)));
}

static bool is_stage(const char *name) { return !strncmp(name, "stages.", 7); }

pith_var *pith_perceptual_distance(pith_net *net, pith_var *a, pith_var *b)
{
    pith_tape *tape = pith_net_tape(net);
    size_t n = pith_net_n_hidden(net);
    pith_var **of_a = pith_op_attr(tape, n, sizeof(pith_var *)), *sum = NULL;
    if (!of_a || !pith_net_forward(net, a)) return NULL;
    for (size_t i = 0; i < n; i++) of_a[i] = pith_net_hidden(net, pith_net_hidden_name(net, i));
    if (!pith_net_forward(net, b)) return NULL;
    for (size_t i = 0; i < n; i++) {
        const char *name = pith_net_hidden_name(net, i);
        if (!is_stage(name)) continue;
        pith_var *gap = pith_var_square(pith_var_sub(unit(of_a[i]), unit(pith_net_hidden(net, name))));
        pith_var *mean = pith_var_mean(pith_var_sum(gap, PITH_AXIS(1)), PITH_ALL_AXES);
        sum = sum ? pith_var_add(sum, mean) : mean;
        if (!sum) return NULL;
    }
    return sum ? sum : pith_op_fail(tape, PITH_E_ARGUMENT, "perceptual distance: the network %s has no stages; one of kind attributes is needed", pith_net_kind_name(net));
}

size_t pith_features_count(const pith_net *net)
{
    cJSON *settings = cJSON_Parse(pith_net_settings(net));
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(settings, "features");
    size_t count = cJSON_IsNumber(n) && n->valuedouble > 0 ? (size_t)n->valuedouble : 0;
    cJSON_Delete(settings);
    return count;
}

pith_status pith_features_add(pith_net *net, pith_var *x, pith_moments *moments)
{
    pith_tape *tape = pith_net_tape(net);
    pith_ctx *ctx = pith_tape_ctx(tape);
    if (!pith_net_forward(net, x)) return pith_tape_status(tape);
    pith_var *features = pith_net_hidden(net, "features");
    if (!features || features->n_dims != 2 || features->dims[1] != pith_moments_size(moments))
        return pith_fail(ctx, PITH_E_SHAPE, "the network %s gives no features of %zu values", pith_net_kind_name(net), pith_moments_size(moments));
    return pith_moments_add(moments, features->data, features->dims[0]);
}
