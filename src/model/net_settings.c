/* Settings of networks: a table of a kind's, read from JSON and written as JSON. */
#include "model/net_kind.h"

#include <math.h>
#include <stdio.h>

#include "format/json.h"
#include "format/safetensors.h"

static const pith_net_setting *find(const pith_net *net, const char *name, struct pith_net_value **value)
{
    for (const pith_net_setting *s = net->kind->info.settings; s->name; s++) {
        if (strcmp(s->name, name) != 0) continue;
        *value = &net->values[s - net->kind->info.settings];
        return s;
    }
    return NULL;
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Where `text` stands in "one|two|three"; NULL: it is none of them. */
static const char *choice_of(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, text, len) == 0 && (at[len] == '|' || at[len] == '\0')) return at;
    return NULL;
}

static bool number_of(const pith_net_setting *s, const cJSON *item, double *number)
{
    uint64_t whole;
    if (!cJSON_IsNumber(item) || (s->type != PITH_NET_REAL && !pith_json_u64(item, &whole))) return false;
    *number = item->valuedouble;
    return *number >= s->low && *number <= s->high;
}

static pith_status read_value(pith_net *net, const char *what, const pith_net_setting *s, const cJSON *item, struct pith_net_value *v)
{
    const char *text = cJSON_IsString(item) ? item->valuestring : NULL;
    double number;
    switch (s->type) {
    case PITH_NET_COUNT:
    case PITH_NET_REAL:
        if (number_of(s, item, &v->number)) return PITH_OK;
        return pith_fail(net->ctx, PITH_E_ARGUMENT, "%s: %s must be a %snumber of %g to %g (%s)", what, s->name, s->type == PITH_NET_COUNT ? "whole " : "", s->low, s->high, s->summary);
    case PITH_NET_LIST:
        v->n = cJSON_IsArray(item) ? (size_t)cJSON_GetArraySize(item) : PITH_NET_MAX_LIST + 1;
        for (size_t i = 0; v->n <= PITH_NET_MAX_LIST && i < v->n; i++) {
            if (!number_of(s, cJSON_GetArrayItem(item, (int)i), &number)) v->n = PITH_NET_MAX_LIST + 1;
            else v->list[i] = (size_t)number;
        }
        if (v->n <= PITH_NET_MAX_LIST) return PITH_OK;
        return pith_fail(net->ctx, PITH_E_ARGUMENT, "%s: %s must be a list of at most %d whole numbers of %g to %g (%s)", what, s->name, PITH_NET_MAX_LIST, s->low, s->high, s->summary);
    case PITH_NET_CHOICE:
        break;
    }
    v->choice = text ? choice_of(s->choices, text) : NULL;
    v->len = text ? strlen(text) : 0;
    if (v->choice) return PITH_OK;
    return pith_fail(net->ctx, PITH_E_ARGUMENT, "%s: %s must be one of %s (%s)", what, s->name, s->choices, s->summary);
}

static pith_status unknown(pith_net *net, const char *what, const char *name)
{
    char list[512] = "";
    size_t n = 0;
    for (const pith_net_setting *s = net->kind->info.settings; s->name && n < sizeof list; s++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", s->name);
    return pith_fail(net->ctx, PITH_E_ARGUMENT, "%s: there is no setting %.60s; there are %s", what, name, list);
}

pith_status pith_net_read_settings(pith_net *net, const char *what, const char *json)
{
    cJSON *object;
    PITH_TRY(pith_hf_json_parse(net->ctx, what, json, strlen(json), &object));
    pith_status status = PITH_OK;
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        struct pith_net_value *value;
        if (strcmp(item->string, "kind") == 0) continue; /* pith_net_settings writes it; pith_net_open has read it */
        const pith_net_setting *s = find(net, item->string, &value);
        status = s ? read_value(net, what, s, item, value) : unknown(net, what, item->string);
        if (status != PITH_OK) break;
    }
    cJSON_Delete(object);
    return status;
}

pith_status pith_net_default_settings(pith_net *net)
{
    for (const pith_net_setting *s = net->kind->info.settings; s->name; s++) {
        char text[512];
        snprintf(text, sizeof text, "{\"%s\": %s}", s->name, s->normal);
        PITH_TRY(pith_net_read_settings(net, net->kind->info.name, text));
    }
    return PITH_OK;
}

/* ---- writing ---------------------------------------------------------------------------------- */

char *pith_net_settings_text(pith_net *net)
{
    const pith_net_setting *s = net->kind->info.settings;
    size_t room = 128, n = 0; /* a list takes most: 16 numbers of at most 21 digits */
    for (size_t i = 0; s[i].name; i++) room += strlen(s[i].name) + net->values[i].len + 32 + 22 * PITH_NET_MAX_LIST;
    char *text = pith_net_take(net, room, 1);
    if (!text) return NULL;
    n += (size_t)snprintf(text, room, "{\"kind\": \"%s\"", net->kind->info.name);
    for (size_t i = 0; s[i].name; i++) {
        const struct pith_net_value *v = &net->values[i];
        n += (size_t)snprintf(text + n, room - n, ", \"%s\": ", s[i].name);
        switch (s[i].type) {
        case PITH_NET_COUNT:
        case PITH_NET_REAL: n += (size_t)snprintf(text + n, room - n, "%.17g", v->number); break;
        case PITH_NET_CHOICE: n += (size_t)snprintf(text + n, room - n, "\"%.*s\"", (int)v->len, v->choice); break;
        case PITH_NET_LIST:
            for (size_t k = 0; k < v->n; k++) n += (size_t)snprintf(text + n, room - n, "%s%zu", k ? ", " : "[", v->list[k]);
            n += (size_t)snprintf(text + n, room - n, v->n ? "]" : "[]");
            break;
        }
    }
    snprintf(text + n, room - n, "}");
    return text;
}

/* ---- what kinds ask --------------------------------------------------------------------------- */

/* Names are those of the kind's own table: a wrong one is a mistake in its file, that any test of it finds. */
static const struct pith_net_value *value_of(const pith_net *net, const char *name, pith_net_type type)
{
    static const struct pith_net_value none = {0};
    struct pith_net_value *v = NULL;
    const pith_net_setting *s = find(net, name, &v);
    return s && s->type == type ? v : &none;
}

size_t pith_net_count(const pith_net *net, const char *setting) { return (size_t)value_of(net, setting, PITH_NET_COUNT)->number; }
float pith_net_real(const pith_net *net, const char *setting) { return (float)value_of(net, setting, PITH_NET_REAL)->number; }

size_t pith_net_list(const pith_net *net, const char *setting, const size_t **values)
{
    const struct pith_net_value *v = value_of(net, setting, PITH_NET_LIST);
    *values = v->list;
    return v->n;
}

bool pith_net_is(const pith_net *net, const char *setting, const char *choice)
{
    const struct pith_net_value *v = value_of(net, setting, PITH_NET_CHOICE);
    return v->choice && strlen(choice) == v->len && strncmp(v->choice, choice, v->len) == 0;
}

pith_activation pith_net_activation(const pith_net *net, const char *setting)
{
    static const char *const names[] = {[PITH_ACT_RELU] = "relu", [PITH_ACT_GELU] = "gelu", [PITH_ACT_SILU] = "silu", [PITH_ACT_TANH] = "tanh"};
    for (size_t i = 0; i < PITH_COUNT(names); i++)
        if (pith_net_is(net, setting, names[i])) return (pith_activation)i;
    return PITH_ACT_NONE;
}
