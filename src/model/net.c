/* Networks: making, running, listening. */
#include "model/net.h"

#include <stdarg.h>
#include <stdio.h>

#include "format/json.h"
#include "model/net_kind.h"
#include "model/net_kinds.h"

#define MAX_NAME 128

#define X(kind) extern const pith_net_kind pith_net_kind_##kind;
PITH_NET_KINDS(X)
#undef X

static const pith_net_kind *const kinds[] = {
#define X(kind) &pith_net_kind_##kind,
    PITH_NET_KINDS(X)
#undef X
};

const pith_net_info *pith_net_infos(size_t i) { return i < PITH_COUNT(kinds) ? &kinds[i]->info : NULL; }

/* ---- while building --------------------------------------------------------------------------- */

void pith_net_fail(pith_net *net, pith_status status, const char *format, ...)
{
    if (net->status != PITH_OK) return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    net->status = pith_fail(net->ctx, status, "%s: %s", net->name, text);
}

/* An allocation failed, whose sentence is set. */
static void no_memory(pith_net *net)
{
    if (net->status == PITH_OK) net->status = PITH_E_MEMORY;
}

void *pith_net_take(pith_net *net, size_t count, size_t size)
{
    size_t bytes;
    void *p = NULL;
    if (!pith_mul(count, size, &bytes)) pith_net_fail(net, PITH_E_LIMIT, "%zu parts of %zu bytes are too many", count, size);
    else if (!(p = pith_arena_take(net->arena, bytes))) no_memory(net);
    if (p) memset(p, 0, bytes);
    return p;
}

static const char *copied(pith_net *net, const char *text)
{
    char *copy = pith_net_take(net, strlen(text) + 1, 1);
    return copy ? strcpy(copy, text) : "";
}

const char *pith_net_name(pith_net *net, const char *format, ...)
{
    char text[MAX_NAME];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0 || len >= MAX_NAME) pith_net_fail(net, PITH_E_LIMIT, "the name %s … is longer than %d", text, MAX_NAME - 1);
    return copied(net, text);
}

/* `list` of n with room for one more. */
static void *grown(pith_net *net, void *list, size_t n, size_t size)
{
    void *bigger = pith_resize(net->ctx, list, (n + 1) * size);
    if (!bigger) no_memory(net);
    return bigger;
}

size_t pith_net_add_depth(pith_net *net, const char *name)
{
    struct pith_net_depth_value *depths = grown(net, net->depths, net->n_depths, sizeof *depths);
    if (!depths) return 0;
    net->depths = depths;
    depths[net->n_depths] = (struct pith_net_depth_value){copied(net, name), NULL};
    return net->n_depths++;
}

float *pith_net_add_buffer(pith_net *net, const char *name, size_t n, float value)
{
    pith_net_buffer *buffers = grown(net, net->buffers, net->n_buffers, sizeof *buffers);
    float *data = pith_net_take(net, n, sizeof *data);
    if (buffers) net->buffers = buffers;
    if (!buffers || !data) return NULL;
    for (size_t i = 0; i < n; i++) data[i] = value;
    buffers[net->n_buffers++] = (pith_net_buffer){copied(net, name), data, n};
    return data;
}

static void begin(pith_net *net, pith_var *param, pith_init init)
{
    pith_rng rng = {.seed = net->seed, .stream = pith_hash(param->name, strlen(param->name))};
    for (size_t i = 0; i < param->count; i++) {
        float v = 1;
        switch (init.kind) {
        case PITH_INIT_CONSTANT: break;
        case PITH_INIT_UNIFORM: v = 2 * pith_rng_uniform(&rng) - 1; break;
        case PITH_INIT_NORMAL: v = pith_rng_normal(&rng); break;
        case PITH_INIT_TRUNCATED:
            do v = pith_rng_normal(&rng);
            while (v < -2 || v > 2);
            break;
        }
        param->data[i] = init.size * v;
    }
}

pith_slot *pith_net_add(pith_net *net, const char *name, pith_init init, int n_dims, const size_t *dims)
{
    pith_slot *slot = net->status == PITH_OK ? pith_net_take(net, 1, sizeof *slot) : NULL;
    pith_var **params = slot ? grown(net, net->params, net->n_params, sizeof(pith_var *)) : NULL;
    if (!params) return &net->none;
    net->params = params;
    slot->param = pith_tape_param(net->tape, name, n_dims, dims);
    if (!slot->param) {
        net->status = pith_tape_status(net->tape);
        return &net->none;
    }
    if (net->seed != PITH_NET_BLANK) begin(net, slot->param, init);
    net->params[net->n_params++] = slot->param;
    *net->last_slot = slot;
    net->last_slot = &slot->next;
    return slot;
}

/* ---- making ----------------------------------------------------------------------------------- */

/* The kind, or the kind that has this preset. */
static const pith_net_kind *find_kind(const char *name, const pith_net_preset **preset)
{
    *preset = NULL;
    for (size_t i = 0; i < PITH_COUNT(kinds); i++) {
        if (strcmp(kinds[i]->info.name, name) == 0) return kinds[i];
        for (const pith_net_preset *p = kinds[i]->info.presets; p && p->name; p++) {
            if (strcmp(p->name, name) != 0) continue;
            *preset = p;
            return kinds[i];
        }
    }
    return NULL;
}

static pith_status no_kind(pith_ctx *ctx, const char *name)
{
    char list[640] = "";
    size_t n = 0;
    for (size_t i = 0; i < PITH_COUNT(kinds); i++) {
        if (n < sizeof list) n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", kinds[i]->info.name);
        for (const pith_net_preset *p = kinds[i]->info.presets; p && p->name; p++)
            if (n < sizeof list) n += (size_t)snprintf(list + n, sizeof list - n, ", %s", p->name);
    }
    return pith_fail(ctx, PITH_E_ARGUMENT, "there is no network %.60s; there are %s", name, list);
}

static pith_status make(pith_net *net, const pith_net_preset *preset, const char *settings)
{
    size_t n = 0;
    while (net->kind->info.settings[n].name) n++;
    net->values = pith_net_take(net, n, sizeof *net->values);
    net->self = pith_net_take(net, 1, net->kind->size);
    if (net->status != PITH_OK) return net->status;
    PITH_TRY(pith_net_default_settings(net));
    if (preset) PITH_TRY(pith_net_read_settings(net, preset->name, preset->settings));
    if (settings) PITH_TRY(pith_net_read_settings(net, net->name, settings));
    if (!(net->settings_text = pith_net_settings_text(net))) return net->status;
    net->kind->build(net, net->self);
    return net->status;
}

pith_status pith_net_new(pith_tape *tape, const char *name, const char *settings, uint64_t seed, pith_net **result)
{
    pith_ctx *ctx = pith_tape_ctx(tape);
    const pith_net_preset *preset;
    const pith_net_kind *kind = find_kind(name, &preset);
    if (!kind) return no_kind(ctx, name);
    PITH_TRY(pith_tape_status(tape));
    pith_net *net = pith_calloc(ctx, 1, sizeof *net);
    if (!net) return PITH_E_MEMORY;
    *net = (pith_net){.ctx = ctx, .tape = tape, .kind = kind, .name = preset ? preset->name : kind->info.name, .seed = seed, .last_slot = &net->slots};
    net->arena = pith_arena_new(ctx);
    pith_status status = net->arena ? make(net, preset, settings) : PITH_E_MEMORY;
    if (status != PITH_OK) {
        pith_net_free(net);
        return status;
    }
    *result = net;
    return PITH_OK;
}

void pith_net_free(pith_net *net)
{
    if (!net) return;
    pith_ctx *ctx = net->ctx;
    pith_arena_free(net->arena);
    pith_free(ctx, net->params);
    pith_free(ctx, net->buffers);
    pith_free(ctx, net->depths);
    pith_free(ctx, net);
}

pith_tape *pith_net_tape(const pith_net *net) { return net->tape; }
const char *pith_net_kind_name(const pith_net *net) { return net->kind->info.name; }
const char *pith_net_settings(const pith_net *net) { return net->settings_text; }

pith_var *const *pith_net_params(const pith_net *net, size_t *n)
{
    *n = net->n_params;
    return net->params;
}

pith_var *pith_net_param(const pith_net *net, const char *name)
{
    for (size_t i = 0; i < net->n_params; i++)
        if (strcmp(net->params[i]->name, name) == 0) return net->params[i];
    return NULL;
}

bool pith_net_owns(const pith_net *net, const pith_var *param)
{
    for (size_t i = 0; i < net->n_params; i++)
        if (net->params[i] == param) return true;
    return false;
}

size_t pith_net_n_values(const pith_net *net)
{
    size_t n = 0;
    for (size_t i = 0; i < net->n_params; i++) n += net->params[i]->count;
    return n;
}

const pith_net_buffer *pith_net_buffers(const pith_net *net, size_t *n)
{
    *n = net->n_buffers;
    return net->buffers;
}

/* ---- running ---------------------------------------------------------------------------------- */

pith_var *pith_net_refuse(pith_net *net, const char *what) { return pith_op_fail(net->tape, PITH_E_ARGUMENT, "%s: %s", net->name, what); }

pith_var *pith_net_run(pith_net *net, const pith_net_input *in)
{
    for (size_t i = 0; i < net->n_depths; i++) net->depths[i].value = NULL;
    for (pith_slot *s = net->slots; s; s = s->next) {
        s->value = net->replace ? net->replace(net->replace_user, s->param->name, s->param) : s->param;
        if (!s->value) return pith_op_fail(net->tape, PITH_E_ARGUMENT, "%s: nothing was given in place of %s", net->name, s->param->name);
        bool same = s->value->n_dims == s->param->n_dims;
        for (int d = 0; same && d < s->param->n_dims; d++) same = s->value->dims[d] == s->param->dims[d];
        if (!same) return pith_op_fail(net->tape, PITH_E_SHAPE, "%s: in place of %s %s there is %s", net->name, s->param->name, PITH_SHAPE(s->param), PITH_SHAPE(s->value));
    }
    pith_var *y = net->kind->forward(net, net->self, in);
    if (!y && pith_tape_status(net->tape) == PITH_OK) return pith_net_refuse(net, "something that it reads was not given (x, ids, t or context), or a tap gave nothing back");
    return y;
}

pith_var *pith_net_forward(pith_net *net, pith_var *x) { return x ? pith_net_run(net, &(pith_net_input){.x = x}) : NULL; }
void pith_net_freeze(pith_net *net, bool frozen) { net->frozen = frozen; }

void pith_net_tap(pith_net *net, pith_net_tap_fn *fn, void *user)
{
    net->tap = fn;
    net->tap_user = user;
}

void pith_net_replace(pith_net *net, pith_net_replace_fn *fn, void *user)
{
    net->replace = fn;
    net->replace_user = user;
}

pith_var *pith_net_before(pith_net *net, const char *layer, pith_var *x) { return x && net->tap ? net->tap(net->tap_user, layer, PITH_NET_BEFORE, x) : x; }
pith_var *pith_net_after(pith_net *net, const char *layer, pith_var *x) { return x && net->tap ? net->tap(net->tap_user, layer, PITH_NET_AFTER, x) : x; }
pith_var *pith_net_depth(pith_net *net, size_t depth, pith_var *x) { return net->depths[depth].value = pith_net_after(net, net->depths[depth].name, x); }
pith_var *pith_net_dropout(pith_net *net, pith_var *x, float p) { return net->frozen || p <= 0 ? x : pith_var_dropout(x, p); }

size_t pith_net_n_hidden(const pith_net *net) { return net->n_depths; }
const char *pith_net_hidden_name(const pith_net *net, size_t i) { return net->depths[i].name; }

pith_var *pith_net_hidden(const pith_net *net, const char *name)
{
    for (size_t i = 0; i < net->n_depths; i++)
        if (strcmp(net->depths[i].name, name) == 0) return net->depths[i].value;
    return NULL;
}
