/* pith recipes: the built-in cards, and one of them explained. */
#include "cli/cli.h"
#include "recipe/run.h"

typedef struct recipes_args {
    const char *card;
    bool procedures;
} recipes_args;

static const pith_positional positionals[] = {
    {"CARD", PITH_ARG_FILE, offsetof(recipes_args, card), true, "the id of a card, or the path of one of your own; explains it"},
    {0},
};

static const pith_arg options[] = {
    {"procedures", 0, PITH_ARG_FLAG, NULL, offsetof(recipes_args, procedures), .help = "list what cards can call, with its settings"},
    {0},
};

static const pith_example examples[] = {
    {"pith recipes", "all cards by family, and which beds are trained"},
    {"pith recipes simvq", "what one is, what it needs, what it claims"},
    {0},
};

/* ---- the list --------------------------------------------------------------------------------- */

/* Whether a bed's full version of seed 1 is in the cache. */
static pith_status bed_state(pith_cli *cli, const pith_card *card, const char **state)
{
    char *path;
    bool there;
    PITH_TRY(pith_bed_path(cli->ctx, card, 1, &path, &there));
    pith_free(cli->ctx, path);
    *state = there ? "trained" : "not trained yet";
    return PITH_OK;
}

static pith_status list_json(pith_cli *cli)
{
    cJSON *list = cJSON_CreateArray();
    for (const pith_card_source *s = pith_card_sources; s->family; s++) {
        pith_card *card;
        const char *state = NULL;
        pith_status status = pith_card_load(cli->ctx, s->id, false, &card);
        if (status == PITH_OK && card->kind == PITH_CARD_BED) status = bed_state(cli, card, &state);
        cJSON *item = status == PITH_OK ? cJSON_CreateObject() : NULL;
        if (!item) {
            cJSON_Delete(list);
            return status == PITH_OK ? PITH_E_MEMORY : status;
        }
        cJSON_AddItemToArray(list, item);
        cJSON_AddStringToObject(item, "id", card->id);
        cJSON_AddStringToObject(item, "family", card->family);
        cJSON_AddStringToObject(item, "kind", card->kind == PITH_CARD_BED ? "bed" : "claim");
        cJSON_AddStringToObject(item, "line", card->line);
        pith_json_number(item, "minutes", card->minutes);
        if (state) cJSON_AddStringToObject(item, "state", state);
        pith_card_free(card);
    }
    return pith_json_print(cli, list);
}

static pith_status list_text(pith_cli *cli)
{
    const char *family = "";
    for (const pith_card_source *s = pith_card_sources; s->family; s++) {
        pith_card *card;
        const char *state = NULL;
        PITH_TRY(pith_card_load(cli->ctx, s->id, false, &card));
        if (strcmp(family, s->family)) printf("%s%s\n", family[0] ? "\n" : "", s->family);
        family = s->family;
        pith_status status = card->kind == PITH_CARD_BED ? bed_state(cli, card, &state) : PITH_OK;
        printf("  %-24s %s", card->id, card->line);
        if (state) printf(" (%s, %.3g min)", state, card->minutes);
        printf("\n");
        pith_card_free(card);
        PITH_TRY(status);
    }
    return PITH_OK;
}

/* ---- procedures ------------------------------------------------------------------------------- */

static const char *type_name(const pith_key *key)
{
    switch (key->type) {
    case PITH_KEY_FLAG: return "true or false";
    case PITH_KEY_COUNT: return "a whole number";
    case PITH_KEY_STEPS: return "a number of steps";
    case PITH_KEY_NUMBER: return "a number";
    case PITH_KEY_TEXT: return "a text";
    case PITH_KEY_CHOICE: return key->choices;
    case PITH_KEY_COUNTS: return "whole numbers";
    case PITH_KEY_NUMBERS: return "numbers";
    case PITH_KEY_NAMES: return "names";
    case PITH_KEY_PAIRS: return "names and texts";
    case PITH_KEY_GROUP:
    case PITH_KEY_NODE: break;
    }
    return "keys and values";
}

static pith_status list_procedures(pith_cli *cli)
{
    cJSON *json = cli->globals.json ? cJSON_CreateObject() : NULL;
    for (const pith_procedure_entry *e = pith_procedures; e->procedure; e++) {
        cJSON *of = json ? cJSON_AddObjectToObject(json, e->procedure->name) : NULL;
        if (!json) printf("%s\n", e->procedure->name);
        for (const pith_key *k = e->procedure->settings; k && k->name; k++) {
            const char *help = k->help ? k->help : "";
            if (of) cJSON_AddStringToObject(of, k->name, help);
            else if (!json) printf("  %-14s %s; %s%s\n", k->name, type_name(k), help, k->required ? " (required)" : "");
        }
    }
    return cli->globals.json ? pith_json_print(cli, json) : PITH_OK;
}

/* ---- one card --------------------------------------------------------------------------------- */

static void print_names(const char *what, const pith_names *names)
{
    if (!names->n) return;
    printf("%-10s", what);
    for (size_t i = 0; i < names->n; i++) printf("%s%s", i ? ", " : "", names->items[i]);
    printf("\n");
}

static pith_status explain_text(pith_cli *cli, const pith_card *card)
{
    printf("%s: %s%s%s%s\n\n%s.\n%s\n\n", card->id, card->title, card->paper ? " (" : "", card->paper ? card->paper : "", card->paper ? ")" : "", card->line, card->mechanism);
    printf("%-10s%s, of %s\n", "kind", card->kind == PITH_CARD_BED ? "bed" : "claims", card->stream);
    print_names("beds", &card->beds);
    print_names("data", &card->data);
    printf("%-10sabout %.3g min on two cores, %llu seed%s\n", "time", card->minutes, (unsigned long long)card->seeds, card->seeds == 1 ? "" : "s");
    if (card->kind == PITH_CARD_BED) {
        const char *state;
        PITH_TRY(bed_state(cli, card, &state));
        printf("%-10s%s\n", "cache", state);
    }
    int width = 12;
    for (size_t i = 0; i < card->n_rows; i++) width = PITH_MAX(width, (int)strlen(card->rows[i].name));
    for (size_t i = 0; i < card->n_measures; i++) width = PITH_MAX(width, (int)strlen(card->measures[i].name));
    printf("\nrows\n");
    for (size_t i = 0; i < card->n_rows; i++) printf("  %-*s  %s%s\n", width, card->rows[i].name, card->rows[i].beside ? "beside: " : "", card->rows[i].what);
    printf("measures\n");
    for (size_t i = 0; i < card->n_measures; i++) printf("  %-*s  %s\n", width, card->measures[i].name, card->measures[i].text);
    if (card->n_claims) printf("claims\n");
    for (size_t i = 0; i < card->n_claims; i++) {
        const pith_card_claim *c = &card->claims[i];
        printf("  %s%s\n", c->says ? c->says : c->text, c->quick ? " (quick runs too)" : "");
        if (c->says) printf("      %s\n", c->text);
    }
    return PITH_OK;
}

static bool add_pair(cJSON *list, const char *name, const char *what)
{
    cJSON *item = cJSON_CreateObject();
    return item && cJSON_AddItemToArray(list, item) && cJSON_AddStringToObject(item, "name", name) && cJSON_AddStringToObject(item, "what", what);
}

static pith_status explain_json(pith_cli *cli, const pith_card *card)
{
    cJSON *j = cJSON_CreateObject();
    bool ok = cJSON_AddStringToObject(j, "id", card->id) && cJSON_AddStringToObject(j, "family", card->family) &&
              cJSON_AddStringToObject(j, "kind", card->kind == PITH_CARD_BED ? "bed" : "claim") && cJSON_AddStringToObject(j, "title", card->title) &&
              (!card->paper || cJSON_AddStringToObject(j, "paper", card->paper)) && cJSON_AddStringToObject(j, "line", card->line) &&
              cJSON_AddStringToObject(j, "mechanism", card->mechanism) && cJSON_AddStringToObject(j, "stream", card->stream) &&
              cJSON_AddStringToObject(j, "procedure", card->procedure->name) && pith_json_number(j, "minutes", card->minutes) && pith_json_number(j, "seeds", (double)card->seeds);
    cJSON *beds = cJSON_AddArrayToObject(j, "beds"), *data = cJSON_AddArrayToObject(j, "data"), *rows = cJSON_AddArrayToObject(j, "rows");
    cJSON *measures = cJSON_AddArrayToObject(j, "measures"), *claims = cJSON_AddArrayToObject(j, "claims");
    ok = ok && beds && data && rows && measures && claims;
    for (size_t i = 0; ok && i < card->beds.n; i++) ok = cJSON_AddItemToArray(beds, cJSON_CreateString(card->beds.items[i]));
    for (size_t i = 0; ok && i < card->data.n; i++) ok = cJSON_AddItemToArray(data, cJSON_CreateString(card->data.items[i]));
    for (size_t i = 0; ok && i < card->n_rows; i++) ok = add_pair(rows, card->rows[i].name, card->rows[i].what);
    for (size_t i = 0; ok && i < card->n_measures; i++) ok = add_pair(measures, card->measures[i].name, card->measures[i].text);
    for (size_t i = 0; ok && i < card->n_claims; i++) {
        cJSON *claim = cJSON_CreateObject();
        ok = claim && cJSON_AddItemToArray(claims, claim) && cJSON_AddStringToObject(claim, "claim", card->claims[i].text) &&
             cJSON_AddBoolToObject(claim, "quick", card->claims[i].quick) && (!card->claims[i].says || cJSON_AddStringToObject(claim, "says", card->claims[i].says));
    }
    if (ok) return pith_json_print(cli, j);
    cJSON_Delete(j);
    return pith_json_print(cli, NULL);
}

static pith_status run(pith_cli *cli, void *args)
{
    const recipes_args *a = args;
    if (a->procedures && a->card) return pith_cli_usage(cli, "--procedures takes no card");
    if (a->procedures) return list_procedures(cli);
    if (!a->card) return cli->globals.json ? list_json(cli) : list_text(cli);
    pith_card *card;
    PITH_TRY(pith_card_load(cli->ctx, a->card, false, &card));
    pith_status status = cli->globals.json ? explain_json(cli, card) : explain_text(cli, card);
    pith_card_free(card);
    return status;
}

const pith_command pith_command_recipes = {
    .name = "recipes",
    .summary = "list the cards that pith reproduces, or explain one",
    .description = "A card is one experiment as a small YAML file: what is trained or compressed with which settings, which rows are measured, "
                   "and what is claimed of them. Beds are trained networks that other cards start from; they are trained when they are first needed, "
                   "and kept in the cache.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(recipes_args), .run = run,
};
