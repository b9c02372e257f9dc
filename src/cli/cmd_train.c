/* pith train: train a bed's network, with a view of its curves. */
#include "cli/processes.h"
#include "cli/train_view.h"
#include "recipe/run.h"

typedef struct train_args {
    const char *card;
    bool quick, no_plot;
    int64_t seed, workers;
    const char *compress, *feedback;
} train_args;

static const pith_positional positionals[] = {
    {"CARD", PITH_ARG_FILE, offsetof(train_args, card), false, "the id of a bed (`pith recipes` lists them), or the path of a card of your own"},
    {0},
};

static const pith_arg options[] = {
    {"quick", 0, PITH_ARG_FLAG, NULL, offsetof(train_args, quick), .help = "the card's quick settings: seconds, to see that it works"},
    {"seed", 0, PITH_ARG_INT, "N", offsetof(train_args, seed), .fallback = "1", .min = 1, .max = 1e9, .help = "of everything random; beds of different seeds are kept beside each other"},
    {"compress", 0, PITH_ARG_TEXT, "HOW", offsetof(train_args, compress), .choices = PITH_COMPRESSOR_WORDS, .help = "how several workers send gradients, in place of what the card says: a share of the values, whole numbers of so many bits, a bit each, or factors of that rank"},
    {"feedback", 0, PITH_ARG_TEXT, "HOW", offsetof(train_args, feedback), .choices = PITH_FEEDBACK_WORDS, .help = "what becomes of the errors that this makes: ef adds them to the next gradients, which is usual but for qsgd; ef21 and econtrol send differences"},
    {"workers", 0, PITH_ARG_INT, "N", offsetof(train_args, workers), .min = 1, .max = 1024, .help = "share each step as N processes would, in this one: the same network, and what each would send"},
    {"no-plot", 0, PITH_ARG_FLAG, NULL, offsetof(train_args, no_plot), .help = "lines instead of curves on a terminal"},
    {0},
};

static const pith_example examples[] = {
    {"pith train vgg6", "train it, or say where it is and what was measured"},
    {"pith train vgg6 --quick", "see that it works"},
    {"pith train mine.yaml --seed 2", "a card of your own"},
    {"mpirun -n 4 pith train vgg6", "four processes, each with its share of every batch"},
    {"mpirun -n 4 pith train lm1m --compress topk:0.01", "each sends the largest hundredth of its gradients, and what it left out later"},
    {0},
};

static pith_status print_json(pith_cli *cli, const pith_bed *bed)
{
    const pith_card *card = bed->card;
    pith_workers w;
    cJSON *notes;
    PITH_TRY(pith_bed_workers(bed, &w));
    PITH_TRY(pith_bed_notes(bed, &notes));
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "card", card->id);
    pith_json_number(j, "seed", (double)bed->seed);
    cJSON_AddBoolToObject(j, "quick", card->quick);
    cJSON_AddBoolToObject(j, "was_cached", bed->was_cached);
    cJSON_AddStringToObject(j, "folder", bed->folder);
    if (w.n) {
        pith_json_number(j, "n_workers", (double)w.n);
        cJSON_AddStringToObject(j, "compress", w.how);
        pith_json_number(j, "sent_bytes_per_step", w.sent_bytes);
        pith_json_number(j, "dense_bytes_per_step", w.dense_bytes);
        pith_json_number(j, "sent_of_dense", w.sent_bytes / w.dense_bytes);
    }
    cJSON *rows = cJSON_AddObjectToObject(j, "rows");
    for (size_t r = 0; rows && r < card->n_rows; r++) {
        cJSON *row = cJSON_AddObjectToObject(rows, card->rows[r].name);
        for (size_t m = 0; row && m < card->n_measures; m++) {
            double value;
            if (pith_bed_value(bed, card->rows[r].name, card->measures[m].name, &value) == PITH_OK) pith_json_number(row, card->measures[m].name, value);
        }
    }
    if (!cJSON_AddItemToObject(j, "notes", notes)) cJSON_Delete(notes);
    return pith_json_print(cli, j);
}

static pith_status print_text(const pith_bed *bed)
{
    const pith_card *card = bed->card;
    printf("%s%s, seed %llu: %s\n", card->id, card->quick ? " (quick)" : "", (unsigned long long)bed->seed, bed->was_cached ? "trained already" : "trained");
    for (size_t r = 0; r < card->n_rows; r++)
        for (size_t m = 0; m < card->n_measures; m++) {
            double value;
            if (pith_bed_value(bed, card->rows[r].name, card->measures[m].name, &value) != PITH_OK) continue; /* not every row has every measure */
            char name[96];
            snprintf(name, sizeof name, "%s.%s", card->rows[r].name, card->measures[m].name);
            printf("  %-20s %-10.6g %s\n", name, value, card->measures[m].text);
        }
    pith_workers w;
    cJSON *notes;
    PITH_TRY(pith_bed_workers(bed, &w));
    PITH_TRY(pith_bed_notes(bed, &notes));
    const cJSON *note;
    cJSON_ArrayForEach(note, notes)
        if (cJSON_IsString(note)) printf("%s\n", note->valuestring);
    cJSON_Delete(notes);
    if (w.n) printf("%zu workers, each sent %s a step: %.3g of dense (%s)\n", w.n, pith_text_bytes((uint64_t)w.sent_bytes).s, w.sent_bytes / w.dense_bytes, w.how);
    printf("in %s\n", bed->folder);
    return PITH_OK;
}

/* How many share each step, and what they send. */
static pith_status share(pith_cli *cli, const train_args *a, const pith_group *group, pith_card *card)
{
    size_t n = group ? pith_group_size(group) : a->workers ? (size_t)a->workers : 1;
    if (group && a->workers && (size_t)a->workers != n) return pith_cli_usage(cli, "--workers %lld, but mpirun started %zu processes, which are the workers; leave it out", (long long)a->workers, n);
    pith_status status = pith_card_compress(card, a->compress, a->feedback);
    cli->usage_error = status != PITH_OK;
    PITH_TRY(status);
    if (n > 1) return pith_card_share(card, n);
    if (a->compress && strcmp(a->compress, "none") != 0)
        return pith_cli_usage(cli, "--compress %s: one process has nobody to send gradients to; start several (mpirun -n 4 pith train ...), or have --workers 4 here", a->compress);
    if (card->train.channel.compressor.kind == PITH_COMPRESS_DENSE) return PITH_OK;
    pith_log(cli->ctx, PITH_LOG_WARN, "one process has nobody to send gradients to: they are not compressed; start several (mpirun -n 4 pith train ...), or have --workers 4 here");
    return pith_card_compress(card, "none", NULL);
}

static pith_status train(pith_cli *cli, const train_args *a, pith_group *group)
{
    pith_card *card;
    PITH_TRY(pith_card_load(cli->ctx, a->card, a->quick, &card));
    pith_status status = PITH_OK;
    if (card->kind != PITH_CARD_BED) status = pith_fail(cli->ctx, PITH_E_ARGUMENT, "%s measures and claims, it is no bed to be trained; run it with: pith reproduce %s", card->id, a->card);
    else status = share(cli, a, group, card);
    pith_group *here = NULL;
    if (status == PITH_OK && !group && card->workers > 1) status = pith_group_new(cli->ctx, (size_t)card->workers, &here);
    if (status != PITH_OK) {
        pith_card_free(card);
        return status;
    }
    pith_train_view view;
    pith_train_view_init(&view, cli, !a->no_plot);
    pith_bed *bed;
    status = pith_bed_train(cli->ctx, card, (uint64_t)a->seed, here ? here : group, pith_train_view_observe, &view, &bed);
    pith_group_free(here);
    PITH_TRY(status);
    pith_terminal_clear(cli->terminal);
    if (pith_group_leads(group)) status = cli->globals.json ? print_json(cli, bed) : print_text(bed);
    pith_bed_close(bed);
    return status;
}

static pith_status run(pith_cli *cli, void *args)
{
    pith_processes p;
    PITH_TRY(pith_processes_open(cli, &p));
    return pith_processes_close(cli, &p, train(cli, args, p.group));
}

const pith_command pith_command_train = {
    .name = "train",
    .summary = "train a network that a card describes",
    .description = "A bed is a card that trains a network, from which other cards start. The result is kept in the cache folder "
                   "(${XDG_CACHE_HOME:-~/.cache}/pith/beds), by the card's text, its code and the seed; a bed that is there is not trained again. "
                   "Beside the network stand its curves: curves.csv, curves.svg, curves.png.\n\n"
                   "Training that was stopped in any way, even killed, goes on from its last checkpoint when the command is given again, and ends with "
                   "the same bytes as training that was never stopped.\n\n"
                   "Started by mpirun (Open MPI), the processes share each step: parts where the card accumulates a multiple of their number, else equal "
                   "pieces of its batch. The first one prints and writes; several machines need the cache folder in common. When a process dies the job "
                   "ends, and given again it goes on from the last checkpoint, with any number of processes that the parts can be shared by.\n\n"
                   "Gradients that are compressed (--compress, or compress and feedback in the card's train) make another network, by how and by how many "
                   "workers: it is kept beside the others, and goes on with as many. Matrices and kernels are compressed, gains and biases sent whole.",
    .positionals = positionals, .options = options, .examples = examples,
    .args_size = sizeof(train_args), .run = run,
};
